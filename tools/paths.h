// Which names the command reads and writes: suffixes, -o, what is in the way.
#ifndef ZIPLLM_TOOLS_PATHS_H_
#define ZIPLLM_TOOLS_PATHS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/console.h"
#include "zipllm/io.h"

namespace zipllm::tools {

inline constexpr char kSuffix[] = ".zllm";

/// The inputs, "-" where none is named.
std::vector<std::string> InputsOf(const CommandOptions& options);
/// What messages call an input.
std::string DisplayName(const std::string& input);

/// True where what is made of `input` goes to standard output.
bool ToStandardOutput(const std::string& input, const CommandOptions& options);

/// Tells the console and returns false where standard input is named twice or
/// is a terminal.
bool CheckInputs(const CommandOptions& options, Console& console);
/// Also where --rm or --json do not go with standard input or output.
bool CheckInputsAndOutputs(const CommandOptions& options, Console& console);

/// Where one operation writes.
struct Target {
  enum class Kind {
    kStandardOutput,
    kSpecial,  ///< a device or FIFO that is there: written to, never replaced
    kPath,     ///< a file or directory to make
  };
  Kind kind = Kind::kStandardOutput;
  std::string path;
  bool overwrite = false;  ///< replace what is at `path`
};

/// Where the archive of `input` goes, with the user asked about what is in the
/// way. INVALID_ARGUMENT, FAILED_PRECONDITION or ALREADY_EXISTS with the
/// remedy.
absl::StatusOr<Target> ArchiveTarget(const std::string& input,
                                     const CommandOptions& options,
                                     Console& console);
/// Where the content of the archive `input` goes; the same errors.
absl::StatusOr<Target> ContentTarget(const std::string& input,
                                     const CommandOptions& options,
                                     Console& console);

/// Where something called `suggested` goes, which only a file or directory can
/// take: to -o, into -o's folder, or to that name; the same errors.
absl::StatusOr<Target> NamedTarget(const std::string& suggested,
                                   const CommandOptions& options,
                                   Console& console);

/// Opens a target of kind kStandardOutput or kSpecial.
absl::StatusOr<std::unique_ptr<Sink>> OpenTarget(const Target& target,
                                                 const CommandOptions& options,
                                                 Console& console,
                                                 bool guard_terminal);

/// FAILED_PRECONDITION unless --rm may remove `input`: a regular file.
absl::Status CheckRemovable(const std::string& input);
absl::Status RemoveFile(const std::string& path);

/// Opens an archive, or standard input for "-".
absl::StatusOr<std::unique_ptr<Source>> OpenArchiveSource(
    const std::string& input, const Console& console);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_PATHS_H_
