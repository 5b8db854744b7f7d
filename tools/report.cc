#include "tools/report.h"

#include "tools/format.h"
#include "tools/paths.h"

namespace zipllm::tools {

WarningCallback Report::Warnings(const std::string& input) {
  return [this, input](const std::string& message) {
    console_.Warn(DisplayName(input), message);
    warnings_.push_back(message);
  };
}

void Report::Add(const std::string& input, const std::string& output,
                 const absl::StatusOr<Totals>& result, double seconds) {
  if (!result.ok()) {
    console_.Fail(DisplayName(input), result.status());
  } else {
    std::string line = Printable(DisplayName(input)) + ": ";
    line += HumanBytes(result->plain_bytes) + ", archive " +
            HumanBytes(result->archive_bytes) + " (" +
            Percent(result->archive_bytes, result->plain_bytes) + "), " +
            Format("%.2f s, ", seconds) +
            HumanRate(result->plain_bytes, seconds);
    if (output.empty()) {
      line += ", ok";
    } else if (output != "-") {
      line += ", " + Printable(output);
    }
    console_.Note(line);
    console_.Detail(Format("  %llu %s, %s in duplicates",
                           static_cast<unsigned long long>(result->files),
                           result->files == 1 ? "file" : "files",
                           HumanBytes(result->duplicate_bytes).c_str()));
  }
  if (options_.json) {
    Json entry;
    SetText(&entry, "input", input);
    if (!output.empty()) SetText(&entry, "output", output);
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
    entry["warnings"] = warnings_;
    results_.push_back(std::move(entry));
  }
  warnings_.clear();
}

void Report::Finish() {
  if (options_.json) console_.Print(Dump({{"results", results_}}));
}

}  // namespace zipllm::tools
