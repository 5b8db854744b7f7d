// zipllm decompress: what archives hold, back to files or to standard output.
#include "base/status.h"
#include "tools/command.h"
#include "tools/open_archive.h"
#include "tools/paths.h"
#include "tools/report.h"
#include "zipllm/decompressor.h"

namespace zipllm::tools {

void RunDecompress(const CommandOptions& options, Console& console) {
  if (!CheckInputsAndOutputs(options, console)) return;
  DecompressOptions settings;
  settings.threads = options.threads;
  settings.max_memory = options.memory;
  settings.check_sha256 = options.sha256;
  settings.sync = !options.no_sync;

  ForEachInput(options, console, [&](Task& task) -> absl::StatusOr<Totals> {
    const std::string& input = task.input;
    settings.progress = task.progress;
    settings.warning = task.warning;
    SetBases(input, options, &settings);
    if (options.remove_input) RETURN_IF_ERROR(CheckRemovable(input));
    ASSIGN_OR_RETURN(std::unique_ptr<Source> in,
                     OpenArchiveSource(input, console));
    ASSIGN_OR_RETURN(Target target, ContentTarget(input, options, console));
    if (target.kind != Target::Kind::kPath) {
      task.output = target.kind == Target::Kind::kSpecial ? target.path : "-";
      ASSIGN_OR_RETURN(std::unique_ptr<Sink> out,
                       OpenTarget(target, options, console, true));
      return Decompressor(settings).DecompressStream(*in, *out);
    }
    task.output = target.path;
    settings.overwrite = target.overwrite;
    ASSIGN_OR_RETURN(Totals totals,
                     Decompressor(settings).DecompressTo(*in, target.path));
    if (options.remove_input && task.warnings.empty()) {
      RETURN_IF_ERROR(RemoveFile(input));
    }
    return totals;
  });
}

}  // namespace zipllm::tools
