#ifndef ZIPLLM_ARCHIVE_FRAME_ENCODER_H_
#define ZIPLLM_ARCHIVE_FRAME_ENCODER_H_

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "archive/patience.h"
#include "base/buffer.h"
#include "codecs/codec.h"
#include "container/format.h"
#include "zipllm/types.h"

namespace zipllm::archive {

/// Our writer's bounds of what is no text (container.md, "Header").
inline constexpr uint32_t kMaxBlockBytes = uint32_t{1} << 22;
inline constexpr uint32_t kMaxFrameBytes = uint32_t{1} << 22;

/// Plain bytes of a frame where blocks are smaller: what a core's cache holds
/// while it is hashed, coded and verified.
inline constexpr uint32_t kFrameBytes = uint32_t{1} << 21;

/// Bytes a block for a segment of this type: 2^18 elements, or about 1 MiB (4
/// MiB at levels from 7) where elements are unknown, or packed (then whole rows
/// of `row` elements where they fit; 0: it has none); 4 MiB of anything at
/// level 9, where models learn as they go, and of records (`bytes` in rows, see
/// ranges.h).
uint32_t BlockBytes(DType dtype, int level, uint64_t row = 0);

/// Bytes a block for text, a frame each: models of text learn as they go. More
/// for `lines` that are alike. 0: text is as anything else at this level.
uint32_t TextBlockBytes(int level, bool lines);

/// Whether models of text may work on one block for seconds.
bool TextIsSlow(int level);

/// What encoders learnt of a tensor, by codec.
using TensorModels =
    std::map<uint8_t, std::unique_ptr<const codecs::TensorModel>>;

/// One frame's worth of work: plain bytes in, head and data of a Blocks frame
/// out.
struct FrameJob {
  static constexpr uint64_t kNotDuplicate = UINT64_MAX;

  std::shared_ptr<Buffer> plain;
  DType dtype = DType::kBytes;
  uint32_t block_size = 0;
  int level = 0;
  uint64_t row = 0;       ///< as in codecs::EncodeRequest
  uint64_t position = 0;  ///< likewise
  bool find_row = false;  ///< no one knows `row`: measure it
  bool verify = true;
  bool is_text = false;                           ///< dtype `bytes` only
  bool is_lines = false;                          ///< text only
  const codecs::TextModel* text_model = nullptr;  ///< the user's
  Patience* patience = nullptr;  ///< who waits for it; null: nobody
  MemoryGate* memory = nullptr;  ///< with patience
  bool kept = false;
  bool ahead = false;  ///< of no file until duplicates say where
  uint64_t first_block = 0;
  /// For each block the number of the earlier block that it equals; empty if
  /// there is none.
  std::vector<uint64_t> duplicate_of;
  /// For each block what it is coded as if it is part of a twin, which was
  /// proved; else nothing. Empty if there is none.
  std::vector<Buffer> twin;
  /// What the frame may be coded against, and how to read it: called once, by
  /// the thread that encodes. The elements stand in rows of `against.row`.
  container::FrameSources against;
  std::function<absl::Status(std::vector<Buffer>*)> load_sources;
  std::shared_ptr<const TensorModels> models;  ///< null: none

  // Results.
  container::BlocksHead head;    ///< with views into `plan`
  std::shared_ptr<Buffer> data;  ///< the caller's, to be filled
  std::shared_ptr<const codecs::EncodePlan> plan;
  /// The model whose shared() the blocks need; null: none.
  const codecs::TensorModel* shared_model = nullptr;
  uint64_t duplicate_bytes = 0;
  /// What is known of the lines of each block; the caller's to find.
  std::vector<container::BlockLines> lines;
  /// A block did not decode to itself (and was stored as it is): a bug worth a
  /// report.
  bool verify_failed = false;
};

/// Plans and encodes: each block by the codec that its frame's plan found best,
/// or stored.
void EncodeFrame(FrameJob& job);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_FRAME_ENCODER_H_
