#include "tools/report.h"

#include "tools/format.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

void Tell(const Task& task, const absl::StatusOr<Totals>& result,
          double seconds, Console& console) {
  if (!result.ok()) {
    console.Fail(DisplayName(task.input), result.status());
    return;
  }
  std::string line = Printable(DisplayName(task.input)) + ": ";
  line += HumanBytes(result->plain_bytes) + ", archive " +
          HumanBytes(result->archive_bytes) + " (" +
          Percent(result->archive_bytes, result->plain_bytes) + "), " +
          Format("%.2f s, ", seconds) + HumanRate(result->plain_bytes, seconds);
  if (task.output.empty()) {
    line += ", ok";
  } else if (task.output != "-") {
    line += ", " + Printable(task.output);
  }
  console.Note(line);
  console.Detail("  " + Counted(result->files, "file") + ", " +
                 HumanBytes(result->duplicate_bytes) + " in duplicates");
}

Json TaskJson(const Task& task, const absl::StatusOr<Totals>& result,
              double seconds) {
  Json entry;
  SetText(&entry, "input", task.input);
  if (!task.output.empty()) SetText(&entry, "output", task.output);
  if (result.ok()) {
    entry["files"] = result->files;
    entry["plain_bytes"] = result->plain_bytes;
    entry["archive_bytes"] = result->archive_bytes;
    entry["ratio"] = Ratio(result->archive_bytes, result->plain_bytes);
    entry["duplicate_bytes"] = result->duplicate_bytes;
    entry["seconds"] = seconds;
  } else {
    entry["error"] = ErrorJson(result.status());
  }
  entry["warnings"] = task.warnings;
  return entry;
}

}  // namespace

void ForEachInput(const CommandOptions& options, Console& console,
                  const std::function<absl::StatusOr<Totals>(Task&)>& work) {
  Json results = Json::array();
  for (const std::string& input : InputsOf(options)) {
    if (absl::Status status = CheckInterrupt(); !status.ok()) {
      console.Fail(DisplayName(input), status);
      break;
    }
    ProgressReport progress(&console);
    Task task;
    task.input = input;
    task.progress = progress.Callback();
    task.warning = [&](const std::string& message) {
      console.Warn(DisplayName(input), message);
      task.warnings.push_back(message);
    };
    const absl::StatusOr<Totals> result = work(task);
    const double seconds = progress.Seconds();
    Tell(task, result, seconds, console);
    if (options.json) results.push_back(TaskJson(task, result, seconds));
  }
  if (options.json) console.Print(Dump({{"results", results}}));
}

}  // namespace zipllm::tools
