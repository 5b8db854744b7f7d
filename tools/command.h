// The zipllm command, callable in-process.
#ifndef ZIPLLM_TOOLS_COMMAND_H_
#define ZIPLLM_TOOLS_COMMAND_H_

#include <string>
#include <vector>

#include "tools/command_line.h"
#include "tools/console.h"

namespace zipllm::tools {

/// Runs `zipllm ARGUMENTS...` (without the program's name) and returns its exit
/// code. Uses no global state but the current directory, the environment and
/// interrupt.h.
int RunCommand(const std::vector<std::string>& arguments, Streams streams = {});

// The subcommands: what they could not do they tell the console, which keeps
// the exit code.
void RunCompress(const CommandOptions& options, Console& console);
void RunDecompress(const CommandOptions& options, Console& console);
void RunList(const CommandOptions& options, Console& console);
void RunInfo(const CommandOptions& options, Console& console);
void RunTest(const CommandOptions& options, Console& console);
void RunCat(const CommandOptions& options, Console& console);
void RunGrep(const CommandOptions& options, Console& console);
void RunDerive(const CommandOptions& options, Console& console);
void RunBench(const CommandOptions& options, Console& console);
void RunMount(const CommandOptions& options, Console& console);
void RunStoreInit(const CommandOptions& options, Console& console);
void RunStoreAdd(const CommandOptions& options, Console& console);
void RunStoreList(const CommandOptions& options, Console& console);
void RunStoreShow(const CommandOptions& options, Console& console);
void RunStoreGet(const CommandOptions& options, Console& console);
void RunStoreRemove(const CommandOptions& options, Console& console);
void RunStoreGc(const CommandOptions& options, Console& console);
void RunStoreFsck(const CommandOptions& options, Console& console);
void RunStoreStats(const CommandOptions& options, Console& console);
void RunStoreRepack(const CommandOptions& options, Console& console);
void RunStoreExport(const CommandOptions& options, Console& console);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_COMMAND_H_
