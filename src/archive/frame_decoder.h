#ifndef ZIPLLM_ARCHIVE_FRAME_DECODER_H_
#define ZIPLLM_ARCHIVE_FRAME_DECODER_H_

#include <memory>
#include <vector>

#include "archive/block_fetcher.h"
#include "archive/patience.h"
#include "archive/text_model_file.h"
#include "base/status.h"
#include "codecs/codec.h"
#include "container/format.h"
#include "container/stream.h"
#include "zipllm/options.h"

namespace zipllm::archive {

/// The tensors outside of the archive that its blocks are coded against, by
/// their number in its References frame. Thread-safe.
class OutsideTensors {
 public:
  virtual ~OutsideTensors() = default;
  /// The tensor, its content proved; an error that says which one is missing
  /// and where it was looked for. What is returned may be used by several
  /// threads at once and lives as long as this.
  virtual absl::StatusOr<TensorBytes*> Get(uint64_t number) = 0;
};

/// What all blocks of an archive are decoded with.
struct DecodeSettings {
  /// Refuse blocks whose codec needs more.
  uint64_t max_memory = DecompressOptions{}.max_memory;
  std::shared_ptr<TextModelFile> text_model = nullptr;  ///< null: none
  /// For codecs that need much memory.
  std::shared_ptr<MemoryGate> memory = nullptr;
};
DecodeSettings SettingsOf(const DecompressOptions& options);

/// What a frame's blocks may need beside their coded bytes. What is null is
/// refused where a block needs it.
struct DecodeAids {
  BlockFetcher* fetcher = nullptr;
  OutsideTensors* outside = nullptr;
  /// What the frame's Shared frame holds, if it names one.
  const Buffer* shared = nullptr;
  const DecodeSettings* settings = nullptr;  ///< null: the defaults
};

/// A Blocks frame with its tables ready: decodes its blocks. Immutable, so
/// thread-safe.
class FrameDecoder {
 public:
  /// Takes the frame's head from `frame.start`, which it keeps; its data are
  /// not looked at.
  static absl::StatusOr<std::shared_ptr<const FrameDecoder>> Create(
      const container::Frame& frame, const container::Header& header);

  const container::BlocksHead& head() const { return head_; }
  /// Where the frame's data begin in the source it was read from.
  uint64_t data_offset() const { return data_offset_; }
  /// Whether it is an Ahead frame.
  bool ahead() const { return ahead_; }
  /// Bytes of the whole frame, head and data.
  uint64_t size() const { return size_; }

  /// Decodes block `i`, whose number in the archive is `number`, from its coded
  /// bytes into `out` (head().blocks[i].size bytes) and checks its XXH3.
  absl::Status Decode(size_t i, uint64_t number, ByteSpan coded,
                      MutableByteSpan out, const DecodeAids& aids,
                      FetchLimits& limits, codecs::Scratch& scratch) const;

 private:
  FrameDecoder() = default;
  absl::Status DecodeBlock(const codecs::Decoder& decoder,
                           const codecs::DecodeParams* params, size_t i,
                           uint64_t number, ByteSpan coded, MutableByteSpan out,
                           const DecodeAids& aids, FetchLimits& limits,
                           codecs::Scratch& scratch) const;
  absl::Status DecodeAgainst(const codecs::Decoder& decoder,
                             const codecs::DecodeParams* params, size_t i,
                             uint64_t number, ByteSpan coded,
                             MutableByteSpan out, const DecodeAids& aids,
                             FetchLimits& limits,
                             codecs::Scratch& scratch) const;

  std::shared_ptr<Buffer> start_;  // head_ has views into it
  container::BlocksHead head_;
  uint64_t data_offset_ = 0;
  uint64_t size_ = 0;
  bool ahead_ = false;
  uint32_t max_block_ = 0;
  // By position in head_.params.
  std::vector<std::unique_ptr<const codecs::DecodeParams>> params_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_FRAME_DECODER_H_
