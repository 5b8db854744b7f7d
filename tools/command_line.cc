#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iterator>

#include "tools/command_line_builder.h"
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

// "1000", "512M", "2GiB": powers of 1024.
void ParseSize(const std::string& text, uint64_t* size) {
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

}  // namespace

std::unique_ptr<CLI::App> CommandLineBuilder::Build() {
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

void CommandLineBuilder::Levels() {
  command_->add_flag(kLevelFlags, options_.levels,
                     "Level, from fastest to smallest. The default is -3.");
}

void CommandLineBuilder::NoVerify() {
  command_->add_flag("--no-verify", options_.no_verify,
                     "Do not decode each block and compare it with its "
                     "input before it counts.");
}

bool CommandLineBuilder::Begin(const char* name, const char* alias,
                               const char* description) {
  command_ = group_->add_subcommand(name, description);
  if (*alias != '\0') command_->alias(alias);
  command_->option_defaults()->multi_option_policy(
      CLI::MultiOptionPolicy::TakeLast);
  if (arguments_ == nullptr) return true;
  const std::string given =
      arguments_->size() > depth_ ? (*arguments_)[depth_] : "";
  return !given.empty() && (given == name || given == alias);
}

CLI::Option* CommandLineBuilder::Inputs(const char* name,
                                        const char* description) {
  return command_->add_option(name, options_.inputs, description)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandLineBuilder::Output(const char* description) {
  CLI::Option* output =
      command_->add_option("-o,--output", options_.output, description)
          ->option_text("PATH");
  command_
      ->add_flag("-c,--stdout", options_.to_stdout,
                 "Write to standard output. Several inputs follow one "
                 "another.")
      ->excludes(output);
}

void CommandLineBuilder::Replacing() {
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

void CommandLineBuilder::Reporting(const char* json_description) {
  command_->add_flag("--json", options_.json, json_description);
  QuietVerbose();
}

void CommandLineBuilder::QuietVerbose() {
  CLI::Option* quiet = command_->add_flag(
      "-q,--quiet", options_.quiet,
      "No progress, no questions; warnings and errors only.");
  command_
      ->add_flag("-v,--verbose", options_.verbose,
                 "Say more, also where standard error is not a terminal.")
      ->excludes(quiet);
}

void CommandLineBuilder::Threads() {
  command_
      ->add_option("-T,--threads", options_.threads,
                   "Threads; 0, the default, is one for each core. Archives "
                   "do not depend on it.")
      ->option_text("N")
      ->check(CLI::Range(0, 1024));
}

void CommandLineBuilder::Memory() {
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

void CommandLineBuilder::TextModel(const char* description) {
  command_->add_option("--text-model", options_.text_model, description)
      ->check(CLI::ExistingFile)
      ->option_text("FILE");
}

void CommandLineBuilder::Bases(const char* description) {
  command_->add_option("--base", options_.bases, description)
      ->allow_extra_args(false)
      ->option_text("PATH");
}

void CommandLineBuilder::DecodeBases() {
  TextModel(
      "Language model (GGUF file) that text in the archive was coded with; "
      "another one is refused.");
  Bases(
      "File, folder or archive that has tensors which the archive was coded "
      "against. They are looked for in the archive's own folder too, and in "
      "those that ZIPLLM_BASES names (with ':' between them). May be given "
      "several times.");
}

void CommandLineBuilder::Sync() {
  command_->add_flag("--no-sync", options_.no_sync,
                     "Do not wait until what is written is on the disk: "
                     "faster, but a power loss may take it.");
}

void CommandLineBuilder::Sha256() {
  command_->add_flag("--sha256", options_.sha256,
                     "Compare each file's SHA-256 too. The checksums of all "
                     "blocks are always compared.");
}

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
