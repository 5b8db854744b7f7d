#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "tools/format.h"

namespace zipllm::tools {
namespace {

constexpr size_t kHelpWidth = 80;
constexpr size_t kHelpColumn = 26;

/// --help as short as the tools it stands beside: usage, what it does, options
/// in two columns, examples.
class HelpFormatter : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode) const override {
    std::string out = "Usage: " + name + " " + UsageTail(*app) + "\n" +
                      Wrap(app->get_description(), kHelpWidth, 0) + "\n";
    auto commands = app->get_subcommands([](const CLI::App*) { return true; });
    if (!commands.empty()) {
      out += "\nCommands:\n";
      for (const CLI::App* command : commands) {
        std::string names = command->get_name();
        for (const std::string& alias : command->get_aliases()) {
          names += ", " + alias;
        }
        std::string what = command->get_description();
        out += Row(names, what.substr(0, what.find(". ")));
      }
    }
    out += "\nOptions:\n";
    for (const CLI::Option* option : app->get_options()) {
      out += Row(option->get_positional() ? option->get_name(true)
                                          : OptionNames(*option),
                 option->get_description());
    }
    if (!app->get_footer().empty()) out += "\n" + app->get_footer() + "\n";
    return out;
  }

 private:
  static std::string Row(const std::string& left, const std::string& right) {
    std::string out = "  " + left;
    if (out.size() + 2 > kHelpColumn) {
      out += "\n" + std::string(kHelpColumn, ' ');
    } else {
      out.append(kHelpColumn - out.size(), ' ');
    }
    return out + Wrap(right, kHelpWidth, kHelpColumn) + "\n";
  }
};

// Builds the parser; what the parser keeps refers to the options alone.
class CommandLineBuilder {
 public:
  CommandLineBuilder(CommandOptions* options, const std::string* only)
      : options_(*options), only_(only) {}

  std::unique_ptr<CLI::App> Build() {
    app_ = std::make_unique<CLI::App>(
        "Lossless compressor for the weights of language models.", "zipllm");
    app_->formatter(std::make_shared<HelpFormatter>());
    app_->set_version_flag("--version", "zipllm " ZIPLLM_VERSION,
                           "Show the version and exit.");
    app_->require_subcommand(1);
    app_->footer(
        "`zipllm COMMAND --help` tells a command's options.\n\n"
        "Exit codes: 0 done, 1 error, 2 wrong usage, 3 damaged data, 4 done "
        "but "
        "with\nwarnings, 128 + signal number when interrupted (130 for "
        "Ctrl-C).");
    AddCompress();
    AddDecompress();
    AddList();
    AddInfo();
    AddTest();
    AddCat();
    AddDerive();
    AddBench();
    // Last, so that it is listed last.
    app_->set_help_flag("-h,--help", "Show help and exit.");
    for (CLI::App* command : app_->get_subcommands(nullptr)) {
      command->set_help_flag("-h,--help", "Show help and exit.");
    }
    return std::move(app_);
  }

 private:
  void AddCompress() {
    if (!Begin(
            "compress", "c",
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
    command_->add_flag(kLevelFlags, options_.levels,
                       "Level, from fastest to smallest. The default is -3.");
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
    command_->add_flag("--no-verify", options_.no_verify,
                       "Do not decode each block and compare it with its "
                       "input before it counts.");
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

  void AddDecompress() {
    if (!Begin(
            "decompress", "d",
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

  void AddList() {
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

  void AddInfo() {
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

  void AddTest() {
    if (!Begin(
            "test", "t",
            "Check that archives are whole. Decodes everything, compares every "
            "checksum and SHA-256, and writes nothing.")) {
      return;
    }
    Inputs(
        "FILE",
        "Archives. '-' is standard input, read also where no FILE is given.");
    Threads();
    Memory();
    DecodeBases();
    Reporting("Report on standard output as JSON.");
  }

  void AddCat() {
    if (!Begin("cat", "",
               "Write one tensor, or bytes of a file, to standard output. "
               "Reads the "
               "index and the blocks it needs, nothing else; -v tells how many "
               "bytes that was.")) {
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
    command_->add_option(
        "TENSOR", options_.tensor,
        "Name of the tensor. Without it: bytes of the file that --file names, "
        "or of the only file.");
    command_
        ->add_option("--file", options_.file,
                     "Path of the file inside the archive, as `list` shows it.")
        ->option_text("PATH");
    command_
        ->add_option_function<std::string>(
            "--range",
            [options = &options_](const std::string& text) {
              ParseRange(text, options);
            },
            "Bytes A up to, not including, B of the tensor or file; A "
            "defaults to the start, B to the end.")
        ->option_text("A:B");
    DecodeBases();
    command_->add_flag("-f,--force", options_.force,
                       "Write binary data to a terminal.");
    Memory();
    QuietVerbose();
    command_->footer(
        "Examples:\n"
        "  zipllm cat model.zllm model.embed_tokens.weight > embedding.bin\n"
        "  zipllm cat model.zllm --file config.json\n"
        "  zipllm cat model.zllm --file model.safetensors --range 0:8");
  }

  void AddDerive() {
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

  void AddBench() {
    if (!Begin(
            "bench", "b",
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

  // Starts a subcommand; false where its options are not wanted.
  bool Begin(const char* name, const char* alias, const char* description) {
    command_ = app_->add_subcommand(name, description);
    if (*alias != '\0') command_->alias(alias);
    command_->option_defaults()->multi_option_policy(
        CLI::MultiOptionPolicy::TakeLast);
    return only_ == nullptr || *only_ == name || *only_ == alias;
  }

  CLI::Option* Inputs(const char* name, const char* description) {
    return command_->add_option(name, options_.inputs, description)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  void Output(const char* description) {
    CLI::Option* output =
        command_->add_option("-o,--output", options_.output, description)
            ->option_text("PATH");
    command_
        ->add_flag("-c,--stdout", options_.to_stdout,
                   "Write to standard output. Several inputs follow one "
                   "another.")
        ->excludes(output);
  }

  void Replacing() {
    command_->add_flag("-f,--force", options_.force,
                       "Replace files that exist, write binary data to a "
                       "terminal.");
    CLI::Option* keep = command_->add_flag(
        "-k,--keep", options_.keep, "Keep the input. This is the default.");
    command_
        ->add_flag("--rm", options_.remove_input,
                   "Remove the input file once its output is complete and "
                   "synced to disk, and nothing was left out. Never removes "
                   "directories or symbolic links.")
        ->excludes(keep);
  }

  void Reporting(const char* json_description) {
    command_->add_flag("--json", options_.json, json_description);
    QuietVerbose();
  }

  void QuietVerbose() {
    CLI::Option* quiet = command_->add_flag(
        "-q,--quiet", options_.quiet,
        "No progress, no questions; warnings and errors only.");
    command_
        ->add_flag("-v,--verbose", options_.verbose,
                   "Say more, also where standard error is not a terminal.")
        ->excludes(quiet);
  }

  void Threads() {
    command_
        ->add_option("-T,--threads", options_.threads,
                     "Threads; 0, the default, is one for each core. Archives "
                     "do not depend on it.")
        ->option_text("N")
        ->check(CLI::Range(0, 1024));
  }

  void Memory() {
    command_
        ->add_option_function<std::string>(
            "--memory",
            [options = &options_](const std::string& text) {
              ParseSize(text, &options->memory);
            },
            "Refuse archives that need more memory than this a thread, such as "
            "512M or 2G. The default is 512M.")
        ->option_text("SIZE");
  }

  void Bases(const char* description) {
    command_->add_option("--base", options_.bases, description)
        ->allow_extra_args(false)
        ->option_text("PATH");
  }

  void DecodeBases() {
    Bases(
        "File, folder or archive that has tensors which the archive was coded "
        "against. They are looked for in the archive's own folder too, and in "
        "those that ZIPLLM_BASES names (with ':' between them). May be given "
        "several times.");
  }

  void Sync() {
    command_->add_flag("--no-sync", options_.no_sync,
                       "Do not wait until what is written is on the disk: "
                       "faster, but a power loss may take it.");
  }

  void Sha256() {
    command_->add_flag("--sha256", options_.sha256,
                       "Compare each file's SHA-256 too. The checksums of all "
                       "blocks are always compared.");
  }

  // "1000", "512M", "2GiB": powers of 1024.
  static void ParseSize(const std::string& text, uint64_t* size) {
    const char* end = text.data() + text.size();
    auto [unit, error] = std::from_chars(text.data(), end, *size);
    std::string suffix = CLI::detail::to_lower(std::string(unit, end));
    for (const char* tail : {"ib", "b"}) {
      if (suffix.ends_with(tail)) {
        suffix.resize(suffix.size() - std::string_view(tail).size());
        break;
      }
    }
    const size_t power = std::string_view(" kmgt").find(suffix);
    if (error != std::errc() || suffix.size() > 1 ||
        power == std::string_view::npos ||
        *size > UINT64_MAX >> (suffix.empty() ? 0 : 10 * power)) {
      throw CLI::ValidationError(
          "--memory", "'" + Printable(text) +
                          "' is no size; write a number of bytes, or one with "
                          "K, M, G or T");
    }
    if (!suffix.empty()) *size <<= 10 * power;
  }

  static void ParseRange(const std::string& text, CommandOptions* options) {
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

  static constexpr const char* kLevelFlags =
      "-1{1},-2{2},-3{3},-4{4},-5{5},-6{6},-7{7},-8{8},-9{9},--fast{1},"
      "--best{9}";

  CommandOptions& options_;
  const std::string* only_;
  std::unique_ptr<CLI::App> app_;
  CLI::App* command_ = nullptr;
};

}  // namespace

const char kExitCodesText[] =
    "0\tDone.\n"
    "1\tAn error: a file could not be read, written or was refused. Other "
    "files "
    "of the same call were still done. Of derive: tensors differ.\n"
    "2\tWrong usage: nothing was done. Of derive: an error.\n"
    "3\tAn archive is damaged or cut, or is none.\n"
    "4\tDone, with warnings: something was left out, such as a socket inside a "
    "directory.\n"
    "130\tInterrupted by SIGINT; 143 by SIGTERM, 129 by SIGHUP. Nothing "
    "half-written is left. A second signal kills at once.\n"
    "141\tThe reader of standard output went away.";

std::unique_ptr<CLI::App> MakeCommandLine(CommandOptions* options,
                                          const std::string* only) {
  return CommandLineBuilder(options, only).Build();
}

std::string OptionNames(const CLI::Option& option) {
  const std::vector<std::string>& short_names = option.get_snames();
  std::string out;
  if (short_names.size() > 2) {  // the levels
    out = "-" + short_names.front() + " ... -" + short_names.back();
  } else {
    for (const std::string& name : short_names) {
      out += (out.empty() ? "-" : ", -") + name;
    }
  }
  for (const std::string& name : option.get_lnames()) {
    out += (out.empty() ? "--" : ", --") + name;
  }
  if (!option.get_option_text().empty()) out += " " + option.get_option_text();
  return out;
}

std::string UsageTail(const CLI::App& app) {
  if (!app.get_subcommands([](const CLI::App*) { return true; }).empty()) {
    return "COMMAND [OPTION]... [FILE]...";
  }
  std::string out = "[OPTION]...";
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) continue;
    std::string name = option->get_name(true);
    if (!option->get_required()) name = "[" + name + "]";
    if (option->get_items_expected_max() > 1) name += "...";
    out += " " + name;
  }
  return out;
}

}  // namespace zipllm::tools
