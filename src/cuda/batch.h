// The host's half of decoding on a GPU: checks frames and lays out what is
// uploaded. Needs no CUDA.
#ifndef ZIPLLM_CUDA_BATCH_H_
#define ZIPLLM_CUDA_BATCH_H_

#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "codecs/codec.h"
#include "container/format.h"
#include "cuda/blocks.h"
#include "zipllm/types.h"

namespace zipllm::cuda {

/// Blocks that a device is to decode at once, in host memory. Blocks of codecs
/// 5 (float) and 7 (cascade) go there as they are, but for planes that
/// Zstandard compressed, which the host decompresses. Blocks of other codecs,
/// and of 240 bytes or less, the host decodes and checks; the device copies
/// them. Thread-compatible.
class Batch {
 public:
  /// Adds the blocks of a frame: `head` and its data as
  /// container::ParseBlocksHead and the archive have them, both untrusted. Its
  /// decoded bytes go to `out` in the output, best a multiple of 16: blocks
  /// of codecs 5 and 7 that do not start at whole elements of the output are
  /// left to the host. DATA_LOSS for a damaged frame, UNIMPLEMENTED for an
  /// unknown codec and for duplicates, which are the caller's to copy; the
  /// batch is then as it was.
  absl::Status AddFrame(const container::BlocksHead& head, ByteSpan data,
                        uint64_t out);
  /// Adds bytes, below 4 GiB, that are to be copied to `out` in the output.
  void AddPlain(ByteSpan plain, uint64_t out);

  const std::vector<Block>& blocks() const { return blocks_; }
  const std::vector<Tables>& tables() const { return tables_; }
  /// What the blocks' `in` counts in.
  ByteSpan bytes() const { return bytes_.span(); }
  /// Bytes that the output must have.
  uint64_t out_size() const { return out_size_; }
  /// Bytes that the device decodes; it copies the others.
  uint64_t device_bytes() const;

 private:
  struct Params;
  /// Of codec 5 or 7, which its parser took.
  static absl::StatusOr<Params> ReadParams(codecs::CodecId codec,
                                           ByteSpan bytes);
  absl::Status AddBlocks(const container::BlocksHead& head, ByteSpan data,
                         uint64_t out);
  absl::Status AddDeviceBlock(const container::BlockRecord& record,
                              ByteSpan coded, const Params& params,
                              uint32_t table, uint64_t out);
  absl::Status AddFloatBlock(Block block, ByteSpan coded, const Params& params);
  absl::Status AddCascadeBlock(Block block, ByteSpan coded,
                               const Params& params);
  absl::Status AddHostBlock(const container::BlockRecord& record,
                            ByteSpan coded, const codecs::DecodeParams* params,
                            uint64_t out);
  /// Appends to what is uploaded, aligned; returns where.
  size_t Append(ByteSpan bytes);
  void Add(const Block& block);

  std::vector<Block> blocks_;
  std::vector<Tables> tables_;
  Buffer bytes_;
  uint64_t out_size_ = 0;
  codecs::Scratch scratch_;
};

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_BATCH_H_
