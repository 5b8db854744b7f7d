// The commands on archives and files.
#include <CLI/CLI.hpp>
#include <charconv>

#include "base/timestamp.h"
#include "tools/command_line_builder.h"
#include "tools/format.h"

namespace zipllm::tools {
namespace {

void ParseRange(const std::string& text, CommandOptions* options) {
  size_t colon = text.find(':');
  auto number = [&](size_t begin, size_t end, uint64_t* value) {
    const char* last = text.data() + end;
    auto [stop, error] = std::from_chars(text.data() + begin, last, *value);
    return error == std::errc() && stop == last;
  };
  uint64_t end = 0;
  const bool open = colon + 1 == text.size();
  if (colon == std::string::npos ||
      (colon != 0 && !number(0, colon, &options->range_begin)) ||
      (!open && !number(colon + 1, text.size(), &end)) ||
      (!open && end < options->range_begin)) {
    throw CLI::ValidationError(
        "--range", "'" + Printable(text) +
                       "' is not A:B, two byte offsets with A <= B; write "
                       "0:8 for the first 8 bytes");
  }
  options->has_range = true;
  if (!open) options->range_end = end;
}

// "A:B" from 1, or from the end where there is a '-'.
void ParseLines(const std::string& text, CommandOptions* options) {
  LineRange range;
  const size_t colon = text.find(':');
  const auto number = [&](size_t begin, size_t end, int64_t* value) {
    if (begin == end) return true;
    const char* last = text.data() + end;
    auto [stop, error] = std::from_chars(text.data() + begin, last, *value);
    return error == std::errc() && stop == last && *value != 0;
  };
  if (colon == std::string::npos || !number(0, colon, &range.first) ||
      !number(colon + 1, text.size(), &range.last)) {
    throw CLI::ValidationError(
        "--lines", "'" + Printable(text) +
                       "' is not A:B, two numbers of lines, the first of "
                       "which is 1; write 10:20, :100 or -100:");
  }
  options->lines = range;
}

int64_t ParseTime(const char* name, const std::string& text) {
  const std::optional<Timestamp> time = ParseTimestamp(text);
  if (time.has_value()) return *time;
  throw CLI::ValidationError(
      name, "'" + Printable(text) +
                "' is no time; write one such as 2024-01-15T10:30:45");
}

}  // namespace

void CommandLineBuilder::AddCompress() {
  if (!Begin("compress", "c",
             "Make archives of files and directories. FILE becomes FILE.zllm, "
             "beside it. The input is kept unless --rm is given. A symbolic "
             "link "
             "named as FILE is followed.")) {
    return;
  }
  Inputs("FILE",
         "Files and directories, one archive each. '-' is standard input, "
         "read also where no FILE is given; its archive goes to standard "
         "output unless -o names a file.");
  Levels();
  Threads();
  Output(
      "Write the archive to PATH. Several archives, or a PATH that is a "
      "directory or ends in '/': put them into that directory.");
  command_->add_flag("-L,--follow", options_.follow_symlinks,
                     "Store what symbolic links inside a directory point to "
                     "instead of the links, as for a snapshot in the Hugging "
                     "Face cache.");
  Bases(
      "File, folder or archive to code against: tensors of FILE that are "
      "near to one of its tensors take only the difference. Which fits which "
      "is found by content. Whoever decompresses needs PATH too. What comes "
      "from a pipe is compressed alone. May be given several times.");
  TextModel(
      "Language model (GGUF file: Llama, SmolLM, Qwen, Gemma) to code text "
      "with: much smaller, at some KB a second. Whoever decompresses needs "
      "the same file.");
  CLI::Option* chain = command_->add_flag(
      "--chain", options_.chain,
      "The inputs are checkpoints that follow each other: code each against "
      "an earlier one that -o DIR holds. Later calls add to DIR; what is "
      "there is not touched. Reading one takes at most four others.");
  command_
      ->add_option("--keyframe", options_.keyframes,
                   "With --chain: code every N-th checkpoint alone. The "
                   "default is 16.")
      ->option_text("N")
      ->needs(chain)
      ->check(CLI::Range(1, kMaxKeyframes));
  NoVerify();
  command_->add_flag("--no-dedup", options_.no_dedup,
                     "Do not look for tensors that are equal or alike.");
  Sync();
  Replacing();
  Reporting("Report on standard output as JSON.");
  command_->footer(
      "Examples:\n"
      "  zipllm compress model.safetensors\n"
      "  zipllm compress -6 -L models--A--B/snapshots/C -o b.zllm\n"
      "  zipllm compress --base base.safetensors fine-tune.safetensors\n"
      "  zipllm compress --chain -o run/ checkpoint-1000\n"
      "  tar c model | zipllm compress - > model.tar.zllm");
}

void CommandLineBuilder::AddDecompress() {
  if (!Begin("decompress", "d",
             "Restore what archives hold. FILE.zllm becomes FILE, a file or a "
             "directory. The archive is kept unless --rm is given.")) {
    return;
  }
  Inputs("FILE",
         "Archives. '-' is standard input, read also where no FILE is given; "
         "its contents go to standard output unless -o is given.");
  Output(
      "Restore to PATH. With several archives, or where PATH ends in '/': "
      "put what they hold into that directory.");
  Threads();
  Sync();
  Sha256();
  Memory();
  DecodeBases();
  Replacing();
  Reporting("Report on standard output as JSON.");
  command_->footer(
      "Examples:\n"
      "  zipllm decompress model.safetensors.zllm\n"
      "  curl -s URL | zipllm decompress - -o model\n"
      "  zipllm decompress -c model.tar.zllm | tar x");
}

void CommandLineBuilder::AddList() {
  if (!Begin(
          "list", "l",
          "List what archives hold. Reads their index only, from a file that "
          "can seek.")) {
    return;
  }
  Inputs("ARCHIVE", "Archives.")->required();
  command_->add_flag("-t,--tensors", options_.tensors,
                     "List the tensors of each file as well.");
  Memory();
  Reporting("Write everything the index holds, as JSON.");
}

void CommandLineBuilder::AddInfo() {
  if (!Begin(
          "info", "i",
          "Show how archives are coded. By element type and by codec: sizes, "
          "bits a weight, and where the bytes go.")) {
    return;
  }
  Inputs("ARCHIVE", "Archives.")->required();
  command_->add_flag("-t,--tensors", options_.tensors,
                     "Show each tensor as well; -v does the same.");
  Memory();
  Reporting("Write it as JSON, each tensor included.");
}

void CommandLineBuilder::AddTest() {
  if (!Begin(
          "test", "t",
          "Check that archives are whole. Decodes everything, compares every "
          "checksum and SHA-256, and writes nothing.")) {
    return;
  }
  Inputs("FILE",
         "Archives. '-' is standard input, read also where no FILE is given.");
  Threads();
  Memory();
  DecodeBases();
  Reporting("Report on standard output as JSON.");
}

void CommandLineBuilder::AddCat() {
  if (!Begin("cat", "",
             "Write one tensor, or bytes or lines of a file, to standard "
             "output. Reads the index and the blocks it needs, nothing "
             "else; -v tells how many bytes that was.")) {
    return;
  }
  command_
      ->add_option_function<std::string>(
          "ARCHIVE",
          [options = &options_](const std::string& path) {
            options->inputs = {path};
          },
          "The archive.")
      ->required();
  CLI::Option* tensor = command_->add_option(
      "TENSOR", options_.tensor,
      "Name of the tensor. Without it: the file that --file names, or the "
      "only file.");
  command_
      ->add_option("--file", options_.file,
                   "Path of the file inside the archive, as `list` shows it.")
      ->option_text("PATH");
  CLI::Option* range =
      command_
          ->add_option_function<std::string>(
              "--range",
              [options = &options_](const std::string& text) {
                ParseRange(text, options);
              },
              "Bytes A up to, not including, B of the tensor or file; A "
              "defaults to the start, B to the end.")
          ->option_text("A:B");
  CLI::Option* lines =
      command_
          ->add_option_function<std::string>(
              "--lines",
              [options = &options_](const std::string& text) {
                ParseLines(text, options);
              },
              "Lines A to B of the file, both included; 1 is the first, and "
              "-1 the last one. A defaults to the first, B to the last.")
          ->option_text("A:B")
          ->excludes(range)
          ->excludes(tensor);
  const auto add_time = [&](const char* name, std::optional<int64_t>* bound,
                            const char* description) {
    command_
        ->add_option_function<std::string>(
            name,
            [name, bound](const std::string& text) {
              *bound = ParseTime(name, text);
            },
            description)
        ->option_text("TIME")
        ->excludes(range)
        ->excludes(tensor)
        ->excludes(lines);
  };
  add_time("--since", &options_.times.since,
           "Lines from TIME on, such as 2024-01-15 or '2024-01-15 10:30:45' "
           "(UTC unless a zone follows), as any form that logs have. A line "
           "has the time that stands near its start; one without belongs to "
           "the line before it.");
  add_time("--until", &options_.times.until,
           "Lines up to TIME, itself included.");
  Threads();
  DecodeBases();
  command_->add_flag("-f,--force", options_.force,
                     "Write binary data to a terminal.");
  Memory();
  QuietVerbose();
  command_->footer(
      "Examples:\n"
      "  zipllm cat model.zllm model.embed_tokens.weight > embedding.bin\n"
      "  zipllm cat model.zllm --file config.json\n"
      "  zipllm cat model.zllm --file model.safetensors --range 0:8\n"
      "  zipllm cat app.log.zllm --lines -100:\n"
      "  zipllm cat app.log.zllm --since '2024-01-15 10:30' --until "
      "'2024-01-15 11:00'");
}

void CommandLineBuilder::AddGrep() {
  if (!Begin("grep", "",
             "Print the lines of compressed files that match a pattern. What "
             "is printed is what GNU grep prints of the files themselves, in "
             "the same locale; blocks that cannot match are not decoded. "
             "Exit code 0: a line was selected; 1: none was; 2 or more: an "
             "error.")) {
    return;
  }
  command_->set_help_flag();  // whose -h is another here
  GrepOptions& grep = options_.grep;
  command_->add_option("PATTERN", grep.pattern,
                       "What to look for: a basic regular expression. With "
                       "-e or -f this is the first ARCHIVE.");
  Inputs("ARCHIVE",
         "Archives of files or folders; '-' is standard input, which must be "
         "a file.");
  const auto flag = [&](const char* names, auto set, const char* text) {
    return command_->add_flag_function(
        names, [set](int64_t) { set(); }, text);
  };
  using Kind = GrepSyntax::Kind;
  flag(
      "-G,--basic-regexp", [&grep] { grep.syntax.kind = Kind::kBasic; },
      "Patterns are basic regular expressions. This is the default.");
  flag(
      "-E,--extended-regexp", [&grep] { grep.syntax.kind = Kind::kExtended; },
      "Patterns are extended regular expressions.");
  flag(
      "-F,--fixed-strings", [&grep] { grep.syntax.kind = Kind::kFixed; },
      "Patterns are strings.");
  command_
      ->add_option("-e,--regexp", grep.patterns,
                   "Look for PATTERN; may be given several times.")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->option_text("PATTERN");
  command_
      ->add_option("-f,--file", grep.pattern_files,
                   "Look for the patterns that FILE has, one a line.")
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->option_text("FILE");
  command_->add_flag("-i,--ignore-case", grep.syntax.ignore_case,
                     "Small and capital letters are the same.");
  command_->add_flag("-v,--invert-match", grep.invert,
                     "Select the lines that do not match.");
  command_->add_flag("-w,--word-regexp", grep.syntax.whole_words,
                     "A match must be whole words.");
  command_->add_flag("-x,--line-regexp", grep.syntax.whole_lines,
                     "A match must be a whole line.");
  command_->add_flag("-c,--count", grep.count,
                     "Print how many lines are selected.");
  command_->add_flag("-n,--line-number", grep.line_numbers,
                     "Print the number of each line.");
  using List = GrepOptions::List;
  flag(
      "-l,--files-with-matches", [&grep] { grep.list = List::kMatching; },
      "Print the names of files with selected lines.");
  flag(
      "-L,--files-without-match", [&grep] { grep.list = List::kNonMatching; },
      "Print the names of files without.");
  command_->add_flag("-q,--quiet,--silent", grep.silent,
                     "Print nothing; end when a line is selected.");
  command_->add_flag("-o,--only-matching", grep.only_matching,
                     "Print what matches, not the whole line.");
  flag(
      "-H,--with-filename", [&grep] { grep.show_filename = true; },
      "Print the name of the file before each line: that of ARCHIVE without "
      ".zllm, and in an archive of a folder the path. This is the default "
      "for such an archive and for several.");
  flag(
      "-h,--no-filename", [&grep] { grep.show_filename = false; },
      "Print no names.");
  const auto number = [&](const char* names, auto set, const char* text) {
    command_->add_option_function<int64_t>(names, set, text)
        ->option_text("N")
        ->check(CLI::NonNegativeNumber);
  };
  number(
      "-m,--max-count", [&grep](int64_t n) { grep.max_count = n; },
      "End after N selected lines of a file.");
  number(
      "-A,--after-context",
      [&grep](int64_t n) {
        grep.after = n;
        grep.has_context = true;
      },
      "Print N lines after a selected one as well.");
  number(
      "-B,--before-context",
      [&grep](int64_t n) {
        grep.before = n;
        grep.has_context = true;
      },
      "Print N lines before it.");
  number(
      "-C,--context",
      [&grep](int64_t n) {
        grep.context = n;
        grep.has_context = true;
      },
      "Print N lines before and after it.");
  command_->add_flag("-a,--text", grep.text,
                     "Print the lines of binary files too.");
  command_->add_option("--color", "Takes `never` alone, which is the default.")
      ->option_text("WHEN")
      ->check(CLI::IsMember({"never"}));
  Threads();
  DecodeBases();
  Memory();
  command_->add_flag("--verbose", options_.verbose,
                     "Tell how much of each archive was read.");
  command_->footer(
      "Examples:\n"
      "  zipllm grep 'connection refused' app.log.zllm\n"
      "  zipllm grep -ciE 'error|warning' logs/*.zllm");
}

void CommandLineBuilder::AddDerive() {
  if (!Begin("derive", "",
             "Say how quantized tensors were made of a model. Each is "
             "compared with what the known quantizers make of its source, "
             "which is found by content. Exit code 0: all are equal, bit for "
             "bit; 1: some are not; 2 or more: it could not be told.")) {
    return;
  }
  command_
      ->add_flag("--check", options_.check,
                 "Compare, and write nothing but the report.")
      ->required();
  Inputs("QUANT", "Quantized files, or folders of them.")->required();
  command_
      ->add_option("--source", options_.sources,
                   "File, folder or archive with the tensors that QUANT was "
                   "made of. May be given several times.")
      ->allow_extra_args(false)
      ->option_text("PATH")
      ->required();
  command_
      ->add_option("--imatrix", options_.importance,
                   "File with the importance matrix that the quantizer was "
                   "given. May be given several times.")
      ->allow_extra_args(false)
      ->option_text("PATH");
  command_->add_flag("-t,--tensors", options_.tensors,
                     "Show the tensors that are equal as well; -v does the "
                     "same.");
  Threads();
  Reporting("Write the report as JSON, each tensor included.");
  command_->footer(
      "Example:\n"
      "  zipllm derive --check model-Q4_K_M.gguf --source model/");
}

void CommandLineBuilder::AddBench() {
  if (!Begin("bench", "b",
             "Measure speed and ratio in memory. Each FILE is read whole, then "
             "compressed and decompressed beside a plain memory copy; the best "
             "of "
             "several rounds counts.")) {
    return;
  }
  Inputs("FILE", "Files.")->required();
  command_->add_flag(kLevelFlags, options_.levels,
                     "Levels to measure. The default is -1 -3 -6 -9.");
  Threads();
  command_
      ->add_option("-n,--rounds", options_.rounds,
                   "Rounds a level. The default is 3.")
      ->option_text("N")
      ->check(CLI::Range(1, 1000));
  command_->add_flag("--no-verify", options_.no_verify,
                     "Compress without decoding each block to compare it.");
  command_->add_flag("--no-dedup", options_.no_dedup,
                     "Do not look for tensors that are equal or alike.");
  Reporting("Write the measurements as JSON.");
}

}  // namespace zipllm::tools
