// What compress, decompress and test say of each input, to people and as JSON.
#ifndef ZIPLLM_TOOLS_REPORT_H_
#define ZIPLLM_TOOLS_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/console.h"
#include "tools/json.h"
#include "zipllm/options.h"

namespace zipllm::tools {

/// One call's results, one an input.
class Report {
 public:
  Report(const CommandOptions& options, Console& console)
      : options_(options), console_(console) {}

  /// A callback that shows warnings about `input` and keeps them for the next
  /// `Add`.
  WarningCallback Warnings(const std::string& input);
  bool HasWarnings() const { return !warnings_.empty(); }

  /// Tells how `input` fared. `output` is a path, "-" for standard output, or
  /// empty for none; `verb` is what happened to it: "tested".
  void Add(const std::string& input, const std::string& output,
           const absl::StatusOr<Totals>& result, double seconds);

  /// Prints the JSON document if asked for.
  void Finish();

 private:
  const CommandOptions& options_;
  Console& console_;
  std::vector<std::string> warnings_;
  Json results_ = Json::array();
};

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_REPORT_H_
