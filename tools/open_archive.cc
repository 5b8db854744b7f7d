#include "tools/open_archive.h"

#include <cstdlib>
#include <sstream>

#include "base/status.h"
#include "tools/format.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

const char* KindName(EntryKind kind) {
  switch (kind) {
    case EntryKind::kFile:
      return "file";
    case EntryKind::kDirectory:
      return "directory";
    case EntryKind::kSymlink:
      return "symlink";
  }
  return "unknown";
}

}  // namespace

absl::StatusOr<Archive> OpenArchive(const std::string& input,
                                    const CommandOptions& options,
                                    const Console& console) {
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source,
                   OpenArchiveSource(input, console));
  if (!source->Seekable()) {
    return InvalidArgument(
        DisplayName(input),
        " is a pipe, and the index at an archive's end needs a file that can "
        "seek; save it to a file first (`zipllm test` and `zipllm decompress` "
        "read pipes)");
  }
  DecompressOptions settings;
  settings.threads = options.threads;
  settings.max_memory = options.memory;
  SetBases(input, options, &settings);
  absl::StatusOr<Archive> archive = Archive::Open(std::move(source), settings);
  if (absl::IsDataLoss(archive.status())) {
    return absl::Status(
        archive.status().code(),
        StrCat(std::string(archive.status().message()),
               "; `zipllm decompress` reads from the front and may still get "
               "at what comes before the damage"));
  }
  return archive;
}

void SetBases(const std::string& input, const CommandOptions& options,
              DecompressOptions* settings) {
  settings->bases = options.bases;
  settings->text_model = options.text_model;
  settings->base_directories.clear();
  if (input != "-") {
    const size_t slash = input.rfind('/');
    settings->base_directories.push_back(
        slash == std::string::npos ? "." : input.substr(0, slash + 1));
  }
  const char* more = std::getenv("ZIPLLM_BASES");
  std::istringstream folders(more == nullptr ? "" : more);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (!folder.empty()) settings->base_directories.push_back(folder);
  }
}

std::string EntryName(const Entry& entry) {
  if (!entry.path.empty()) return entry.path;
  return entry.kind == EntryKind::kDirectory ? "." : "(unnamed)";
}

uint64_t ElementCount(const Segment& segment) {
  const DTypeInfo* info = FindDType(segment.dtype);
  if (info == nullptr) return segment.length;
  return segment.length / info->block_bytes * info->block_elements;
}

std::string DTypeName(DType dtype) {
  const DTypeInfo* info = FindDType(dtype);
  if (info == nullptr) return StrCat("type ", static_cast<int>(dtype));
  return std::string(info->name);
}

Json EntryJson(const Entry& entry, uint64_t coded_size) {
  Json object;
  SetText(&object, "path", entry.path);
  object["kind"] = KindName(entry.kind);
  if (entry.has_metadata) {
    object["mode"] = Format("%04o", entry.mode);
    object["mtime"] = {{"seconds", entry.mtime_seconds},
                       {"nanoseconds", entry.mtime_nanoseconds}};
  }
  if (entry.kind == EntryKind::kSymlink) {
    SetText(&object, "link_target", entry.link_target);
  }
  if (entry.kind != EntryKind::kFile) return object;
  object["size"] = entry.size;
  object["coded_size"] = coded_size;
  object["ratio"] = Ratio(coded_size, entry.size);
  object["sha256"] = HexText(entry.sha256);
  SetText(&object, "format", entry.layout.format);
  Json tensors = Json::array();
  for (const Segment& segment : entry.layout.segments) {
    if (!IsTensor(segment)) continue;
    Json tensor;
    SetText(&tensor, "name", segment.name);
    tensor["dtype"] = DTypeName(segment.dtype);
    tensor["shape"] = segment.shape;
    tensor["offset"] = segment.offset;
    tensor["length"] = segment.length;
    tensors.push_back(std::move(tensor));
  }
  object["tensors"] = std::move(tensors);
  return object;
}

}  // namespace zipllm::tools
