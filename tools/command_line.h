// The definition of the command line: the one source of parsing, --help, the
// man page and the shell completions (docgen.cc).
#ifndef ZIPLLM_TOOLS_COMMAND_LINE_H_
#define ZIPLLM_TOOLS_COMMAND_LINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "zipllm/chain.h"
#include "zipllm/options.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace zipllm::tools {

/// What the user asked for. One struct for all subcommands; each uses its own
/// part.
struct CommandOptions {
  std::vector<std::string> inputs;
  std::string output;
  bool to_stdout = false;
  bool force = false;
  bool keep = false;
  bool remove_input = false;
  bool quiet = false;
  bool verbose = false;
  bool json = false;

  std::vector<int> levels;  ///< as given, in order; empty: the default
  int threads = 0;
  bool no_verify = false;
  bool no_dedup = false;
  bool no_sync = false;
  bool follow_symlinks = false;
  std::vector<std::string> bases;
  bool chain = false;
  int keyframes = ChainOptions{}.keyframes;

  uint64_t memory = DecompressOptions{}.max_memory;
  bool sha256 = false;

  bool tensors = false;
  std::string tensor;
  std::string file;
  bool has_range = false;
  uint64_t range_begin = 0;
  std::optional<uint64_t> range_end;

  bool check = false;
  std::vector<std::string> sources;
  std::vector<std::string> importance;

  int rounds = 3;
};

/// Builds the parser; parsing fills `*options`, which must outlive it. With
/// `only` not null, other subcommands than the one of this name get no options:
/// to build them all takes longer than to decode a small file.
std::unique_ptr<CLI::App> MakeCommandLine(CommandOptions* options,
                                          const std::string* only = nullptr);

/// How an option is shown: "-T, --threads N", "-1 ... -9, --fast, --best".
std::string OptionNames(const CLI::Option& option);
/// "[OPTION]... [FILE]...": what follows the name of a (sub)command.
std::string UsageTail(const CLI::App& app);

/// Paragraphs on exit codes; in the man page and in `zipllm --help`.
extern const char kExitCodesText[];

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_COMMAND_LINE_H_
