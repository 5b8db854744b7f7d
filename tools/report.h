// What compress, decompress and test say of each input, to people and as JSON.
#ifndef ZIPLLM_TOOLS_REPORT_H_
#define ZIPLLM_TOOLS_REPORT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/console.h"
#include "tools/json.h"
#include "zipllm/options.h"

namespace zipllm::tools {

/// One input of a call, and what is to be said of it.
struct Task {
  std::string input;
  ProgressCallback progress;
  WarningCallback warning;            ///< shows and keeps them
  std::vector<std::string> warnings;  ///< so far
  /// A path, "-" for standard output, or empty for none; set by the work.
  std::string output;
};

/// Does `work` on each input until one is interrupted, and reports how each
/// fared.
void ForEachInput(const CommandOptions& options, Console& console,
                  const std::function<absl::StatusOr<Totals>(Task&)>& work);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_REPORT_H_
