#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iterator>

#include "base/timestamp.h"
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
  CommandLineBuilder(CommandOptions* options,
                     const std::vector<std::string>* arguments)
      : options_(*options), arguments_(arguments) {}

  std::unique_ptr<CLI::App> Build() {
    app_ = std::make_unique<CLI::App>(
        "Lossless compressor and store for the weights of language models.",
        "zipllm");
    group_ = app_.get();
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
    AddGrep();
    AddDerive();
    AddBench();
    AddStore();
    AddMount();
    // Last, so that it is listed last.
    std::vector<CLI::App*> commands = {app_.get()};
    while (!commands.empty()) {
      CLI::App* command = commands.back();
      commands.pop_back();
      // grep has another -h.
      command->set_help_flag(
          command->get_name() == "grep" ? "--help" : "-h,--help",
          "Show help and exit.");
      std::ranges::copy(command->get_subcommands(nullptr),
                        std::back_inserter(commands));
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

  void AddGrep() {
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
    command_
        ->add_option("--color", "Takes `never` alone, which is the default.")
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

  void AddStore() {
    if (!Begin("store", "",
               "Keep models: each tensor once, coded against those that are "
               "there. A store is a folder. Each command leaves every model "
               "of it readable, also when it is killed or the disk is full; "
               "several may run at once.")) {
      return;
    }
    CLI::App* store = command_;
    store->require_subcommand(1);
    store->footer(
        "Examples:\n"
        "  zipllm store init models\n"
        "  zipllm store add models org/model@v1 path/to/model\n"
        "  zipllm store get models org/model@v1 -o back\n\n"
        "`zipllm store COMMAND --help` tells a command's options.");
    group_ = store;
    ++depth_;
    AddStoreInit();
    AddStoreAdd();
    AddStoreList();
    AddStoreShow();
    AddStoreGet();
    AddStoreRemove();
    AddStoreGc();
    AddStoreFsck();
    AddStoreStats();
    AddStoreRepack();
    AddStoreExport();
    group_ = app_.get();
    --depth_;
  }

  void AddMount() {
    if (!Begin("mount", "",
               "Show a store or an archive as ordinary files, read-only. "
               "Reads decode the blocks that they touch. The command goes to "
               "the background once the files can be seen; umount or "
               "fusermount3 -u ends it, and so does SIGTERM.")) {
      return;
    }
    command_
        ->add_option_function<std::string>(
            "SOURCE",
            [options = &options_](const std::string& path) {
              options->inputs = {path};
            },
            "A store, shown as NAME/REVISION/FILE, or an archive.")
        ->required();
    command_
        ->add_option("DIR", options_.output,
                     "The folder to show it at; it must be there.")
        ->required();
    command_->add_flag("--allow-other", options_.allow_other,
                       "Let other users look too, as far as the modes of files "
                       "allow. Needs user_allow_other in /etc/fuse.conf unless "
                       "root mounts.");
    command_->add_flag("-f,--foreground", options_.foreground,
                       "Stay in the foreground, and write what goes wrong to "
                       "standard error instead of the system's log.");
    command_
        ->add_option("-o,--options", options_.mount_options,
                     "Options as mount(8) passes them, with ',' between: "
                     "allow_other, cache=SIZE (of decoded blocks; 256M), "
                     "threads=N, and the likes of nosuid and noatime.")
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->option_text("OPTIONS");
    Threads();
    Memory();
    DecodeBases();
    QuietVerbose();
    command_->footer(
        "Examples:\n"
        "  zipllm mount models /mnt/models\n"
        "  zipllm mount model.zllm /mnt/model -o cache=1G\n"
        "  umount /mnt/models");
  }

  void AddStoreInit() {
    if (!Begin("init", "",
               "Make an empty store. STORE is a folder that is empty or not "
               "there yet.")) {
      return;
    }
    StoreArgument();
    Sync();
    QuietVerbose();
  }

  void AddStoreAdd() {
    if (!Begin("add", "",
               "Add a file or a folder as a model. It is there completely or "
               "not at all. What the store has already is hashed and not "
               "stored again; tensors that are like others of the store, "
               "whatever their names, take only the difference.")) {
      return;
    }
    StoreArgument();
    ModelArgument();
    command_
        ->add_option_function<std::string>(
            "PATH",
            [options = &options_](const std::string& path) {
              options->inputs = {path};
            },
            "The file, which becomes a folder with that file alone, or folder. "
            "Links that lead out of the folder, as those "
            "of a snapshot in the Hugging Face cache, are stored as what they "
            "point to, others as links.")
        ->required();
    Levels();
    command_
        ->add_option("--base", options_.bases,
                     "Model of the store to try first, NAME or NAME@REVISION. "
                     "What a model card names is tried without being said. May "
                     "be given several times.")
        ->allow_extra_args(false)
        ->option_text("NAME");
    command_->add_flag("--replace", options_.replace,
                       "Replace what NAME has; else it is an error where that "
                       "is another tree.");
    Depth(
        "Longest chain of tensors that are coded against each other, 0 to 4; "
        "0 stores alone what is not there. The default is 4.");
    NoVerify();
    StoreOptionsOf(true);
    command_->footer(
        "Examples:\n"
        "  zipllm store add models org/model path/to/model\n"
        "  zipllm store add models org/model@v2 "
        "models--org--model/snapshots/C");
  }

  void AddStoreList() {
    if (!Begin("ls", "",
               "List the models of a store. With their size, and when they "
               "were added.")) {
      return;
    }
    StoreArgument();
    ModelsArgument(
        "Models to list: a NAME with all its revisions, a NAME@REVISION, or "
        "what comes before a '/' of names. All where none is given.");
    StoreOptionsOf(false);
  }

  void AddStoreShow() {
    if (!Begin("show", "",
               "Show the files of a model. Their size, what they take, type "
               "and tensors, and what the model is coded against.")) {
      return;
    }
    StoreArgument();
    ModelArgument();
    StoreOptionsOf(false);
  }

  void AddStoreGet() {
    if (!Begin("get", "",
               "Restore a model as it was added. Bytes, names, modes and "
               "times come back, and each file's SHA-256 is checked.")) {
      return;
    }
    StoreArgument();
    ModelArgument();
    Inputs("FILE",
           "Files or folders of the model to restore. All where none is "
           "given.");
    command_
        ->add_option("-o,--output", options_.output,
                     "Restore to PATH, or into it where it ends in '/'. The "
                     "default is the last part of NAME.")
        ->option_text("PATH");
    command_->add_flag("-f,--force", options_.force,
                       "Replace files that exist.");
    StoreOptionsOf(true);
    command_->footer(
        "Examples:\n"
        "  zipllm store get models org/model@v1 -o back\n"
        "  zipllm store get models org/model config.json -o back");
  }

  void AddStoreRemove() {
    if (!Begin("rm", "",
               "Remove models. What no other model needs is freed by `gc`.")) {
      return;
    }
    StoreArgument();
    ModelsArgument("The models, NAME or NAME@REVISION.")->required();
    Sync();
    QuietVerbose();
  }

  void AddStoreGc() {
    if (!Begin("gc", "",
               "Delete what no model needs. Others may add and read "
               "meanwhile: what they need stays.")) {
      return;
    }
    StoreArgument();
    command_
        ->add_option_function<std::string>(
            "--grace",
            [options = &options_](const std::string& text) {
              ParseDuration(text, options);
            },
            "How long what nothing needs is kept, such as 0, 90m, 12h or 7d. "
            "The default is 24h.")
        ->option_text("DURATION");
    command_->add_flag("-n,--dry-run", options_.dry_run,
                       "Say what would be deleted, and change nothing.");
    StoreOptionsOf(true);
  }

  void AddStoreFsck() {
    if (!Begin("fsck", "",
               "Check a store. Reads and hashes every object, and tells which "
               "files of which models a bad one hurts. Exit code 0: all is "
               "right; 4: what was wrong is mended; 3: there is damage.")) {
      return;
    }
    StoreArgument();
    CLI::Option* fast = command_->add_flag(
        "--fast", options_.fast, "Check the structure only; decode nothing.");
    command_
        ->add_option_function<std::string>(
            "--sample",
            [options = &options_](const std::string& text) {
              ParseSample(text, options);
            },
            "Decode this part of the objects, such as 0.05 or 5%.")
        ->option_text("P")
        ->excludes(fast);
    command_->add_flag("--rebuild", options_.rebuild,
                       "Make the catalogue anew from the packs first.");
    command_
        ->add_option("--from", options_.sources,
                     "Store, archive, file or folder that may have good copies "
                     "of what is bad: they are stored anew. May be given "
                     "several times.")
        ->allow_extra_args(false)
        ->option_text("PATH");
    StoreOptionsOf(true);
  }

  void AddStoreStats() {
    if (!Begin("stats", "",
               "Show where the bytes went. In all, by family and by model: "
               "stored, and saved by deduplication, deltas, derivation and "
               "entropy coding.")) {
      return;
    }
    StoreArgument();
    command_
        ->add_option("--html", options_.html,
                     "Write a page for a browser to PATH instead; '-' is "
                     "standard output.")
        ->option_text("PATH");
    command_->add_flag("-f,--force", options_.force,
                       "Replace a page that exists.");
    StoreOptionsOf(false);
  }

  void AddStoreRepack() {
    if (!Begin("repack", "",
               "Write packs anew where that helps. Those that hold much that "
               "nothing needs, are small, or have chains that are too long; "
               "`gc` deletes the old ones.")) {
      return;
    }
    StoreArgument();
    Levels();
    Depth("Longest chain that is left, 0 to 4. The default is 4.");
    StoreOptionsOf(true);
  }

  void AddStoreExport() {
    if (!Begin("export", "",
               "Write models into an archive that needs nothing else. One "
               "model makes an archive of its tree; several one with a folder "
               "for each.")) {
      return;
    }
    StoreArgument();
    ModelsArgument("The models, NAME or NAME@REVISION.")->required();
    command_
        ->add_option("-o,--output", options_.output,
                     "Write the archive to PATH, or into it where it ends in "
                     "'/'. The default is the last part of the first NAME, "
                     "with .zllm.")
        ->option_text("PATH");
    command_->add_flag("-f,--force", options_.force,
                       "Replace an archive that exists.");
    Levels();
    NoVerify();
    StoreOptionsOf(true);
    command_->footer(
        "Example:\n"
        "  zipllm store export models org/model@v1 -6 -o model.zllm");
  }

  void StoreArgument() {
    command_->add_option("STORE", options_.store, "Folder of the store.")
        ->required();
  }

  void ModelArgument() {
    command_
        ->add_option_function<std::string>(
            "NAME",
            [options = &options_](const std::string& name) {
              options->models = {name};
            },
            "The model, as NAME or NAME@REVISION, such as org/model@v2. The "
            "revision is main where none is given.")
        ->required();
  }

  CLI::Option* ModelsArgument(const char* description) {
    return command_->add_option("NAME", options_.models, description)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  void StoreOptionsOf(bool writes) {
    Threads();
    Memory();
    if (writes) Sync();
    Reporting("Report on standard output as JSON.");
  }

  void Levels() {
    command_->add_flag(kLevelFlags, options_.levels,
                       "Level, from fastest to smallest. The default is -3.");
  }

  void Depth(const char* description) {
    command_->add_option("--max-depth", options_.max_depth, description)
        ->option_text("N")
        ->check(CLI::Range(0, AddOptions{}.max_depth));
  }

  void NoVerify() {
    command_->add_flag("--no-verify", options_.no_verify,
                       "Do not decode each block and compare it with its "
                       "input before it counts.");
  }

  // Starts a subcommand; false where its options are not wanted.
  bool Begin(const char* name, const char* alias, const char* description) {
    command_ = group_->add_subcommand(name, description);
    if (*alias != '\0') command_->alias(alias);
    command_->option_defaults()->multi_option_policy(
        CLI::MultiOptionPolicy::TakeLast);
    if (arguments_ == nullptr) return true;
    const std::string given =
        arguments_->size() > depth_ ? (*arguments_)[depth_] : "";
    return !given.empty() && (given == name || given == alias);
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

  void TextModel(const char* description) {
    command_->add_option("--text-model", options_.text_model, description)
        ->check(CLI::ExistingFile)
        ->option_text("FILE");
  }

  void Bases(const char* description) {
    command_->add_option("--base", options_.bases, description)
        ->allow_extra_args(false)
        ->option_text("PATH");
  }

  void DecodeBases() {
    TextModel(
        "Language model (GGUF file) that text in the archive was coded with; "
        "another one is refused.");
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

  // "0", "90s", "30m", "24h", "7d".
  static void ParseDuration(const std::string& text, CommandOptions* options) {
    constexpr struct {
      const char* name;
      int64_t seconds;
    } kUnits[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    constexpr int64_t kMost = int64_t{100} * 365 * 86400;
    int64_t number = 0;
    const char* end = text.data() + text.size();
    auto [unit, error] = std::from_chars(text.data(), end, number);
    for (const auto& [name, seconds] : kUnits) {
      if (error != std::errc() || number < 0 ||
          std::string(unit, end) != name || number > kMost / seconds) {
        continue;
      }
      options->grace = std::chrono::seconds(number * seconds);
      return;
    }
    throw CLI::ValidationError(
        "--grace", "'" + Printable(text) +
                       "' is no duration; write a number with s, m, h or d, "
                       "such as 12h");
  }

  // "0.05", "5%".
  static void ParseSample(const std::string& text, CommandOptions* options) {
    double part = 0;
    const char* end = text.data() + text.size();
    auto [unit, error] = std::from_chars(text.data(), end, part);
    const bool percent = std::string(unit, end) == "%";
    if (percent) part /= 100;
    if (error != std::errc() || (!percent && unit != end) ||
        !(part > 0 && part <= 1)) {
      throw CLI::ValidationError(
          "--sample", "'" + Printable(text) +
                          "' is no part; write one above 0 and up to 1, such "
                          "as 0.05 or 5%");
    }
    options->sample = part;
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

  // "A:B" from 1, or from the end where there is a '-'.
  static void ParseLines(const std::string& text, CommandOptions* options) {
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

  static int64_t ParseTime(const char* name, const std::string& text) {
    const std::optional<Timestamp> time = ParseTimestamp(text);
    if (time.has_value()) return *time;
    throw CLI::ValidationError(
        name, "'" + Printable(text) +
                  "' is no time; write one such as 2024-01-15T10:30:45");
  }

  static constexpr const char* kLevelFlags =
      "-1{1},-2{2},-3{3},-4{4},-5{5},-6{6},-7{7},-8{8},-9{9},--fast{1},"
      "--best{9}";

  CommandOptions& options_;
  const std::vector<std::string>* arguments_;
  size_t depth_ = 0;  ///< of what is being built, below the program
  std::unique_ptr<CLI::App> app_;
  CLI::App* group_ = nullptr;
  CLI::App* command_ = nullptr;
};

}  // namespace

const char kExitCodesText[] =
    "0\tDone.\n"
    "1\tAn error: a file could not be read, written or was refused. Other "
    "files "
    "of the same call were still done. Of derive: tensors differ.\n"
    "2\tWrong usage: nothing was done. Of derive: an error.\n"
    "3\tAn archive or store is damaged or cut, or is none.\n"
    "4\tDone, with warnings: something was left out, such as a socket inside a "
    "directory. Of store fsck: what was wrong is mended.\n"
    "130\tInterrupted by SIGINT; 143 by SIGTERM, 129 by SIGHUP. Nothing "
    "half-written is left. A second signal kills at once.\n"
    "141\tThe reader of standard output went away.";

std::unique_ptr<CLI::App> MakeCommandLine(
    CommandOptions* options, const std::vector<std::string>* arguments) {
  return CommandLineBuilder(options, arguments).Build();
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
    return "COMMAND [OPTION]... [ARGUMENT]...";
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
