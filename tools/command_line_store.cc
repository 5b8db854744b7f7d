// The commands on stores, and mount.
#include <CLI/CLI.hpp>
#include <charconv>

#include "tools/command_line_builder.h"
#include "tools/format.h"

namespace zipllm::tools {
namespace {

// "0", "90s", "30m", "24h", "7d".
void ParseDuration(const std::string& text, CommandOptions* options) {
  constexpr struct {
    const char* name;
    int64_t seconds;
  } kUnits[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
  constexpr int64_t kMost = int64_t{100} * 365 * 86400;
  int64_t number = 0;
  const char* end = text.data() + text.size();
  auto [unit, error] = std::from_chars(text.data(), end, number);
  for (const auto& [name, seconds] : kUnits) {
    if (error != std::errc() || number < 0 || std::string(unit, end) != name ||
        number > kMost / seconds) {
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
void ParseSample(const std::string& text, CommandOptions* options) {
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

}  // namespace

void CommandLineBuilder::AddStore() {
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

void CommandLineBuilder::AddStoreInit() {
  if (!Begin("init", "",
             "Make an empty store. STORE is a folder that is empty or not "
             "there yet.")) {
    return;
  }
  StoreArgument();
  Sync();
  QuietVerbose();
}

void CommandLineBuilder::AddStoreAdd() {
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

void CommandLineBuilder::AddStoreList() {
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

void CommandLineBuilder::AddStoreShow() {
  if (!Begin("show", "",
             "Show the files of a model. Their size, what they take, type "
             "and tensors, and what the model is coded against.")) {
    return;
  }
  StoreArgument();
  ModelArgument();
  StoreOptionsOf(false);
}

void CommandLineBuilder::AddStoreGet() {
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
  command_->add_flag("-f,--force", options_.force, "Replace files that exist.");
  StoreOptionsOf(true);
  command_->footer(
      "Examples:\n"
      "  zipllm store get models org/model@v1 -o back\n"
      "  zipllm store get models org/model config.json -o back");
}

void CommandLineBuilder::AddStoreRemove() {
  if (!Begin("rm", "",
             "Remove models. What no other model needs is freed by `gc`.")) {
    return;
  }
  StoreArgument();
  ModelsArgument("The models, NAME or NAME@REVISION.")->required();
  Sync();
  QuietVerbose();
}

void CommandLineBuilder::AddStoreGc() {
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

void CommandLineBuilder::AddStoreFsck() {
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

void CommandLineBuilder::AddStoreStats() {
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

void CommandLineBuilder::AddStoreRepack() {
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

void CommandLineBuilder::AddStoreExport() {
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

void CommandLineBuilder::AddMount() {
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

void CommandLineBuilder::StoreArgument() {
  command_->add_option("STORE", options_.store, "Folder of the store.")
      ->required();
}

void CommandLineBuilder::ModelArgument() {
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

CLI::Option* CommandLineBuilder::ModelsArgument(const char* description) {
  return command_->add_option("NAME", options_.models, description)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandLineBuilder::StoreOptionsOf(bool writes) {
  Threads();
  Memory();
  if (writes) Sync();
  Reporting("Report on standard output as JSON.");
}

void CommandLineBuilder::Depth(const char* description) {
  command_->add_option("--max-depth", options_.max_depth, description)
      ->option_text("N")
      ->check(CLI::Range(0, AddOptions{}.max_depth));
}

}  // namespace zipllm::tools
