#ifndef ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_
#define ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_

#include <cstdint>
#include <memory>

#include "zipllm/archive.h"

namespace zipllm::archive {

class BaseFinder;

struct OpenedArchive {
  Archive archive;
  /// How many more archives it takes to decode what depends on it; 0: none.
  uint8_t depth = 0;
};
/// Opens an archive whose references are looked for in `bases`, which must
/// outlive it.
absl::StatusOr<OpenedArchive> OpenArchive(std::unique_ptr<Source> source,
                                          const DecompressOptions& options,
                                          BaseFinder* bases);

/// Opens what is left of a pack (salvage.h): entries that are not whole are
/// missing, of others damaged blocks cannot be read.
absl::StatusOr<Archive> OpenDamagedArchive(std::unique_ptr<Source> source,
                                           const DecompressOptions& options,
                                           BaseFinder* bases);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_
