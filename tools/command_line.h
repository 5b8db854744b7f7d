// The definition of the command line: the one source of parsing, --help, the
// man page and the shell completions (docgen.cc).
#ifndef ZIPLLM_TOOLS_COMMAND_LINE_H_
#define ZIPLLM_TOOLS_COMMAND_LINE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "zipllm/archive.h"
#include "zipllm/chain.h"
#include "zipllm/options.h"
#include "zipllm/store.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace zipllm::tools {

struct GrepSyntax {
  enum class Kind { kBasic, kExtended, kFixed };
  Kind kind = Kind::kBasic;
  bool ignore_case = false;
  bool whole_words = false;
  bool whole_lines = false;
};

/// What the user asked of grep; names are those of grep's own options.
struct GrepOptions {
  enum class List { kNone, kMatching, kNonMatching };

  std::optional<std::string> pattern;  ///< or the first FILE
  std::vector<std::string> patterns;
  std::vector<std::string> pattern_files;
  GrepSyntax syntax;
  bool invert = false;
  bool count = false;
  bool line_numbers = false;
  List list = List::kNone;
  bool silent = false;
  bool only_matching = false;
  bool text = false;
  std::optional<bool> show_filename;
  bool with_filename = false;  ///< what that comes to
  int64_t max_count = INT64_MAX;
  bool has_context = false;
  int64_t context = 0;
  int64_t before = -1;  ///< -1: `context`
  int64_t after = -1;
};

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
  std::string text_model;
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
  std::optional<LineRange> lines;
  TimeRange times;

  GrepOptions grep;

  bool check = false;
  std::vector<std::string> sources;
  std::vector<std::string> importance;

  int rounds = 3;

  std::string store;
  std::vector<std::string> models;  ///< NAME[@REVISION]
  bool replace = false;
  int max_depth = AddOptions{}.max_depth;
  std::optional<std::chrono::seconds> grace;
  bool dry_run = false;
  bool fast = false;
  double sample = 1;
  bool rebuild = false;
  std::string html;

  std::vector<std::string> mount_options;  ///< lists, as mount(8) has them
  bool allow_other = false;
  bool foreground = false;
};

/// Builds the parser; parsing fills `*options`, which must outlive it. With
/// `arguments` not null, other subcommands than the one that they begin with
/// get no options: to build them all takes longer than to decode a small file.
std::unique_ptr<CLI::App> MakeCommandLine(
    CommandOptions* options,
    const std::vector<std::string>* arguments = nullptr);

/// How an option is shown: "-T, --threads N", "-1 ... -9, --fast, --best".
std::string OptionNames(const CLI::Option& option);
/// "[OPTION]... [FILE]...": what follows the name of a (sub)command.
std::string UsageTail(const CLI::App& app);

/// Paragraphs on exit codes; in the man page and in `zipllm --help`.
extern const char kExitCodesText[];

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_COMMAND_LINE_H_
