// zipllm test: decodes and checks everything, writes nothing.
#include "base/status.h"
#include "tools/command.h"
#include "tools/open_archive.h"
#include "tools/paths.h"
#include "tools/report.h"
#include "zipllm/decompressor.h"

namespace zipllm::tools {

void RunTest(const CommandOptions& options, Console& console) {
  if (!CheckInputs(options, console)) return;
  DecompressOptions settings;
  settings.threads = options.threads;
  settings.max_memory = options.memory;
  settings.check_sha256 = true;

  ForEachInput(options, console, [&](Task& task) -> absl::StatusOr<Totals> {
    settings.progress = task.progress;
    settings.warning = task.warning;
    SetBases(task.input, options, &settings);
    ASSIGN_OR_RETURN(std::unique_ptr<Source> in,
                     OpenArchiveSource(task.input, console));
    return Decompressor(settings).Test(*in);
  });
}

}  // namespace zipllm::tools
