#ifndef ZIPLLM_TOOLS_OPEN_ARCHIVE_H_
#define ZIPLLM_TOOLS_OPEN_ARCHIVE_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/command_line.h"
#include "tools/console.h"
#include "tools/json.h"
#include "zipllm/archive.h"

namespace zipllm::tools {

/// Opens an archive for random access; "-" is standard input, which must then
/// be a file. Errors say what to do with a pipe or a damaged index.
absl::StatusOr<Archive> OpenArchive(const std::string& input,
                                    const CommandOptions& options,
                                    const Console& console);

/// Where the tensors are looked for that `input` was coded against: --base, its
/// own folder, $ZIPLLM_BASES.
void SetBases(const std::string& input, const CommandOptions& options,
              DecompressOptions* settings);

/// "." for the root directory, "(unnamed)" for a stream's content.
std::string EntryName(const Entry& entry);

/// True for a tensor, false for a gap between tensors.
inline bool IsTensor(const Segment& segment) { return !segment.name.empty(); }

/// How many elements a segment has, by its length and type.
uint64_t ElementCount(const Segment& segment);
/// The type's name; "type N" for a number that this version does not know.
std::string DTypeName(DType dtype);

/// What `list` says of an entry that takes `coded_size` bytes.
Json EntryJson(const Entry& entry, uint64_t coded_size);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_OPEN_ARCHIVE_H_
