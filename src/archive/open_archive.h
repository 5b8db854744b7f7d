#ifndef ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_
#define ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_

#include <cstdint>
#include <memory>

#include "zipllm/archive.h"

namespace zipllm::archive {

class Bases;

struct OpenedArchive {
  Archive archive;
  /// How many more archives it takes to decode what depends on it; 0: none.
  uint8_t depth = 0;
};
/// Opens an archive whose references are looked for in `bases`, which must
/// outlive it.
absl::StatusOr<OpenedArchive> OpenArchive(std::unique_ptr<Source> source,
                                          const DecompressOptions& options,
                                          Bases* bases);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_OPEN_ARCHIVE_H_
