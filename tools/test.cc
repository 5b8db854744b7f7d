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

  Report report(options, console);
  for (const std::string& input : InputsOf(options)) {
    if (absl::Status status = CheckInterrupt(); !status.ok()) {
      console.Fail(DisplayName(input), status);
      break;
    }
    ProgressReport progress(&console);
    settings.progress = progress.Callback();
    settings.warning = report.Warnings(input);
    SetBases(input, options, &settings);
    absl::StatusOr<Totals> result = [&]() -> absl::StatusOr<Totals> {
      ASSIGN_OR_RETURN(std::unique_ptr<Source> in,
                       OpenArchiveSource(input, console));
      return Decompressor(settings).Test(*in);
    }();
    report.Add(input, "", result, progress.Seconds());
  }
  report.Finish();
}

}  // namespace zipllm::tools
