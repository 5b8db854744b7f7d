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
    {"compress", RunCompress}, {"decompress", RunDecompress},
    {"list", RunList},         {"info", RunInfo},
    {"test", RunTest},         {"cat", RunCat},
    {"derive", RunDerive},     {"bench", RunBench},
};

int ReportParseError(const CLI::App& app, const CLI::ParseError& error,
                     Console& console) {
  if (error.get_exit_code() == 0) {  // --help or --version
    std::ostringstream out, err;
    app.exit(error, out, err);
    console.Print(out.str());
    return console.Finish();
  }
  std::string command = "zipllm";
  for (const CLI::App* chosen : app.get_subcommands()) {
    command += " " + chosen->get_name();
  }
  console.FailUsage(Printable(error.what()) + "\nTry '" + command +
                    " --help' for what it takes.");
  return console.Finish();
}

}  // namespace

int RunCommand(const std::vector<std::string>& arguments, Streams streams) {
  CommandOptions options;
  const std::string first = arguments.empty() ? "" : arguments.front();
  std::unique_ptr<CLI::App> app = MakeCommandLine(&options, &first);
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
  for (const auto& command : kCommands) {
    if (app->got_subcommand(command.name)) command.run(options, console);
  }
  return console.Finish();
}

}  // namespace zipllm::tools
