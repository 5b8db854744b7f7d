// Compresses a model file, then reads each tensor back by its name alone.
//   tensors MODEL ARCHIVE
#include <cstdio>
#include <string>

#include "zipllm/archive.h"
#include "zipllm/compressor.h"

namespace {

absl::Status Run(const std::string& model, const std::string& path) {
  const zipllm::Compressor compressor;
  auto totals = compressor.CompressPathToFile(model, path, /*overwrite=*/true);
  if (!totals.ok()) return totals.status();
  std::printf("%llu bytes -> %llu bytes\n",
              static_cast<unsigned long long>(totals->plain_bytes),
              static_cast<unsigned long long>(totals->archive_bytes));

  auto archive = zipllm::Archive::OpenFile(path);
  if (!archive.ok()) return archive.status();
  for (const zipllm::Entry& entry : archive->entries()) {
    for (const zipllm::Segment& segment : entry.layout.segments) {
      if (segment.name.empty()) continue;  // a gap between tensors
      auto bytes = archive->Read(segment.name, entry.path);
      if (!bytes.ok()) return bytes.status();
      std::printf("%s: %zu bytes of %s\n", segment.name.c_str(), bytes->size(),
                  std::string(zipllm::FindDType(segment.dtype)->name).c_str());
    }
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL ARCHIVE\n", argv[0]);
    return 2;
  }
  const absl::Status status = Run(argv[1], argv[2]);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
