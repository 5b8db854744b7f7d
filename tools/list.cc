// zipllm list: what archives hold.
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/json.h"
#include "tools/open_archive.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

Json ArchiveJson(const std::string& input, const Archive& archive) {
  Json object;
  SetText(&object, "archive", input);
  object["archive_bytes"] = archive.size();
  Json entries = Json::array();
  for (const Entry& entry : archive.entries()) {
    entries.push_back(EntryJson(entry, entry.coded_size));
  }
  object["entries"] = std::move(entries);
  return object;
}

std::string Size(uint64_t bytes, bool exact) {
  return exact ? std::to_string(bytes) : HumanBytes(bytes);
}

std::string EntriesText(const Archive& archive, bool verbose) {
  Table table(verbose ? "rrrllll" : "rrrll");
  std::vector<std::string> head = {"Size", "Coded", "Ratio", "Modified"};
  if (verbose) head.insert(head.end(), {"Mode", "SHA-256"});
  head.push_back("Name");
  table.Add(head);
  uint64_t size = 0, files = 0;
  for (const Entry& entry : archive.entries()) {
    const bool file = entry.kind == EntryKind::kFile;
    std::string name = Printable(EntryName(entry));
    if (entry.kind == EntryKind::kDirectory) name += "/";
    if (entry.kind == EntryKind::kSymlink) {
      name += " -> " + Printable(entry.link_target);
    }
    std::vector<std::string> row = {
        file ? Size(entry.size, verbose) : "-",
        file ? Size(entry.coded_size, verbose) : "-",
        file ? Percent(entry.coded_size, entry.size) : "-",
        entry.has_metadata ? HumanTime(entry.mtime_seconds) : "-"};
    if (verbose) {
      row.push_back(entry.has_metadata ? Format("%04o", entry.mode) : "-");
      row.push_back(file ? HexText(entry.sha256) : "-");
    }
    row.push_back(name);
    table.Add(row);
    if (file) {
      size += entry.size;
      ++files;
    }
  }
  std::string text = table.Text();
  if (files != 1) {
    text += Format("%llu files, ", static_cast<unsigned long long>(files)) +
            Size(size, verbose) + ", archive " + Size(archive.size(), verbose) +
            " (" + Percent(archive.size(), size) + ")\n";
  }
  return text;
}

std::string TensorsText(const Archive& archive) {
  std::string text;
  for (const Entry& entry : archive.entries()) {
    Table table("lrrl");
    table.Add({"Type", "Shape", "Size", "Tensor"});
    size_t tensors = 0;
    for (const Segment& segment : entry.layout.segments) {
      if (!IsTensor(segment)) continue;
      table.Add({DTypeName(segment.dtype), ShapeText(segment.shape),
                 HumanBytes(segment.length), Printable(segment.name)});
      ++tensors;
    }
    if (tensors == 0) continue;
    text += "\n" + Printable(EntryName(entry)) + ": " +
            Printable(entry.layout.format) + ", " + std::to_string(tensors) +
            " tensors\n" + table.Text();
  }
  return text;
}

}  // namespace

void RunList(const CommandOptions& options, Console& console) {
  if (!CheckInputs(options, console)) return;
  Json archives = Json::array();
  bool first = true;
  for (const std::string& input : options.inputs) {
    absl::StatusOr<Archive> archive = OpenArchive(input, options, console);
    if (!archive.ok()) {
      console.Fail(DisplayName(input), archive.status());
      continue;
    }
    if (options.json) {
      archives.push_back(ArchiveJson(input, *archive));
      continue;
    }
    if (options.inputs.size() > 1) {
      console.Print((first ? "" : "\n") + Printable(input) + ":\n");
      first = false;
    }
    console.Print(EntriesText(*archive, options.verbose));
    if (options.tensors) console.Print(TensorsText(*archive));
  }
  if (options.json) console.Print(Dump({{"archives", archives}}));
}

}  // namespace zipllm::tools
