// zipllm compress: one archive for each input.
#include "base/status.h"
#include "tools/command.h"
#include "tools/paths.h"
#include "tools/report.h"
#include "zipllm/chain.h"
#include "zipllm/compressor.h"

namespace zipllm::tools {
namespace {

absl::StatusOr<Totals> Compress(const std::string& input, const Target& target,
                                const CommandOptions& options,
                                const CompressOptions& settings,
                                Console& console) {
  Compressor compressor(settings);
  if (options.chain) {
    if (target.kind != Target::Kind::kPath || input == "-") {
      return InvalidArgument("--chain needs files or folders, and -o DIR");
    }
    return AppendToChain(input, target.path,
                         {.keyframes = options.keyframes, .compress = settings},
                         target.overwrite);
  }
  if (target.kind == Target::Kind::kPath) {
    if (input != "-") {
      return compressor.CompressPathToFile(input, target.path,
                                           target.overwrite);
    }
    return compressor.CompressStreamToFile(*console.OpenInput(), "",
                                           target.path, target.overwrite);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Sink> out,
                   OpenTarget(target, options, console, false));
  if (input != "-") return compressor.CompressPath(input, *out);
  return compressor.CompressStream(*console.OpenInput(), "", *out);
}

}  // namespace

void RunCompress(const CommandOptions& options, Console& console) {
  if (!CheckInputsAndOutputs(options, console)) return;
  CompressOptions settings;
  if (!options.levels.empty()) settings.level = options.levels.back();
  settings.threads = options.threads;
  settings.verify = !options.no_verify;
  settings.deduplicate = !options.no_dedup;
  settings.sync = !options.no_sync;
  settings.follow_symlinks = options.follow_symlinks;
  settings.bases = options.bases;
  settings.text_model = options.text_model;

  ForEachInput(options, console, [&](Task& task) -> absl::StatusOr<Totals> {
    const std::string& input = task.input;
    settings.progress = task.progress;
    settings.warning = task.warning;
    if (options.remove_input) RETURN_IF_ERROR(CheckRemovable(input));
    ASSIGN_OR_RETURN(Target target, ArchiveTarget(input, options, console));
    task.output =
        target.kind == Target::Kind::kStandardOutput ? "-" : target.path;
    ASSIGN_OR_RETURN(Totals totals,
                     Compress(input, target, options, settings, console));
    if (options.remove_input && task.warnings.empty() &&
        target.kind == Target::Kind::kPath) {
      RETURN_IF_ERROR(RemoveFile(input));
    }
    return totals;
  });
}

}  // namespace zipllm::tools
