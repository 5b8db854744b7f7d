#include "tools/command.h"

#include <CLI/CLI.hpp>
#include <sstream>

#include "tools/format.h"

namespace zipllm::tools {
namespace {

constexpr struct {
  const char* name;
  void (*run)(const CommandOptions&, Console&);
} kCommands[] = {
    {"compress", RunCompress},
    {"decompress", RunDecompress},
    {"list", RunList},
    {"info", RunInfo},
    {"test", RunTest},
    {"cat", RunCat},
    {"grep", RunGrep},
    {"derive", RunDerive},
    {"bench", RunBench},
    {"store init", RunStoreInit},
    {"store add", RunStoreAdd},
    {"store ls", RunStoreList},
    {"store show", RunStoreShow},
    {"store get", RunStoreGet},
    {"store rm", RunStoreRemove},
    {"store gc", RunStoreGc},
    {"store fsck", RunStoreFsck},
    {"store stats", RunStoreStats},
    {"store repack", RunStoreRepack},
    {"store export", RunStoreExport},
    {"mount", RunMount},
};

// "compress", "store add"; "" where none was named.
std::string ChosenCommand(const CLI::App& app) {
  std::string command;
  for (auto chosen = app.get_subcommands(); !chosen.empty();
       chosen = chosen.front()->get_subcommands()) {
    command += (command.empty() ? "" : " ") + chosen.front()->get_name();
  }
  return command;
}

int ReportParseError(const CLI::App& app, const CLI::ParseError& error,
                     Console& console) {
  if (error.get_exit_code() == 0) {  // --help or --version
    std::ostringstream out, err;
    app.exit(error, out, err);
    console.Print(out.str());
    return console.Finish();
  }
  const std::string chosen = ChosenCommand(app);
  console.FailUsage(Printable(error.what()) + "\nTry 'zipllm" +
                    (chosen.empty() ? "" : " ") + chosen +
                    " --help' for what it takes.");
  return console.Finish();
}

}  // namespace

int RunCommand(const std::vector<std::string>& arguments, Streams streams) {
  CommandOptions options;
  std::unique_ptr<CLI::App> app = MakeCommandLine(&options, &arguments);
  try {
    // CLI11 takes the arguments last first.
    app->parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    Console console(streams, Console::Verbosity::kNormal);
    return ReportParseError(*app, error, console);
  }
  Console console(streams, options.quiet     ? Console::Verbosity::kQuiet
                           : options.verbose ? Console::Verbosity::kVerbose
                                             : Console::Verbosity::kNormal);
  const std::string chosen = ChosenCommand(*app);
  for (const auto& command : kCommands) {
    if (chosen == command.name) command.run(options, console);
  }
  return console.Finish();
}

}  // namespace zipllm::tools
