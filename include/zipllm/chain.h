/// \file
/// Checkpoints that follow one another, each coded against an earlier one.
#ifndef ZIPLLM_CHAIN_H_
#define ZIPLLM_CHAIN_H_

#include <string>

#include "absl/status/statusor.h"
#include "zipllm/options.h"

namespace zipllm {

struct ChainOptions {
  /// Every so many checkpoints one is coded alone, so that the loss of an
  /// archive does not reach further; 1 to 16.
  int keyframes = 16;
  /// `bases` too are used; they may help the first checkpoint.
  CompressOptions compress;
};
inline constexpr int kMaxKeyframes = 16;

/// A folder of archives, one a checkpoint, in the order of their names
/// (numbers in them count as numbers: step-900 comes before step-1000). A new
/// one is coded against one that is there; those are not touched. To read any
/// takes at most four others, which are found in the folder by themselves:
/// that number i after a keyframe is coded against number i & (i - 1).
///
/// Compresses the file or folder `path` to `archive_path`, the next of the
/// archives in its folder. ALREADY_EXISTS unless `overwrite`. INVALID_ARGUMENT
/// where later archives are there, which may need it.
ZIPLLM_EXPORT absl::StatusOr<Totals> AppendToChain(
    const std::string& path, const std::string& archive_path,
    const ChainOptions& options, bool overwrite = false);

}  // namespace zipllm

#endif  // ZIPLLM_CHAIN_H_
