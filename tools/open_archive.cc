#include "tools/open_archive.h"

#include <cstdlib>
#include <sstream>

#include "base/status.h"
#include "tools/paths.h"

namespace zipllm::tools {

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

}  // namespace zipllm::tools
