#ifndef ZIPLLM_ARCHIVE_WRITE_ENTRIES_H_
#define ZIPLLM_ARCHIVE_WRITE_ENTRIES_H_

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "archive/bases.h"
#include "archive/input_tree.h"
#include "base/status.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// Writes an archive of `inputs`, which are one file or a tree (container.md,
/// "Entry frame"), coded against each other and against `bases` (null: none).
/// With `prefer_first` a base that is only nearly as near as others serves if
/// it comes before them. `options.bases` is not looked at. UNAVAILABLE where an
/// input changes meanwhile.
absl::StatusOr<Totals> WriteEntries(const std::vector<Input>& inputs,
                                    std::deque<BaseTensor>* bases,
                                    bool prefer_first,
                                    const CompressOptions& options, Sink& out);

/// Has `write` fill a file that appears at `path` when it is complete.
/// ALREADY_EXISTS unless `overwrite`.
absl::StatusOr<Totals> WriteArchiveFile(
    const std::string& path, bool overwrite, bool sync,
    const std::function<absl::StatusOr<Totals>(Sink&)>& write);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_WRITE_ENTRIES_H_
