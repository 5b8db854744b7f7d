// What a codec is: a number in the format for ever, a way to decode a block,
// and (in builds with encoders) a way to encode one. Plugging in:
// NAME_decode.cc, NAME_encode.cc in a room of src/codecs, one line in
// codec_list.inc, a page in format-spec/codecs.
#ifndef ZIPLLM_CODECS_CODEC_H_
#define ZIPLLM_CODECS_CODEC_H_

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "zipllm/types.h"

namespace zipllm::codecs {

class TextModel;  // codecs/text/text_model.h

using CodecId = uint8_t;

/// Limits that decoders rely on (format-spec/limits.md). The container checks
/// them before it calls a codec.
inline constexpr size_t kMaxBlockBytes = size_t{1} << 26;
inline constexpr size_t kMaxParamsBytes = size_t{1} << 16;

/// Who waits for a codec that takes long.
class Watch {
 public:
  virtual ~Watch() = default;
  /// Told by the thread that codes, some times a second, of how many plain
  /// bytes more are done. False: nobody wants the result any more.
  virtual bool Advance(uint64_t bytes) = 0;
};

/// Memory that one thread keeps from block to block, so that hot paths do not
/// allocate. Codecs use the buffers for what they like; contents do not survive
/// a call.
struct Scratch {
  Buffer buffers[4];
  Watch* watch = nullptr;  ///< null: nobody
  /// As Watch::Advance. A codec that is told false gives up: `plan` returns
  /// null, `Encode` false, decoding CANCELLED.
  bool Advance(uint64_t bytes) const {
    return watch == nullptr || watch->Advance(bytes);
  }
  /// A ZSTD_DCtx, made by the first block that needs one; it carries nothing to
  /// the next.
  std::shared_ptr<void> zstd_decoder;
};

/// A frame's parameters for one codec (tables shared by its blocks), parsed and
/// ready. Immutable once made; shared by the threads that decode the frame's
/// blocks.
class DecodeParams {
 public:
  virtual ~DecodeParams() = default;
};

/// What an array that lies beside a block is to the block's elements.
enum class Role : uint8_t {
  kBase = 0,              ///< what they were before, or are nearly
  kFirstMoment = 1,       ///< of their gradients (Adam's exp_avg)
  kSecondMoment = 2,      ///< of their gradients' squares (exp_avg_sq)
  kFactor = 3,            ///< one of the matrices of a low-rank product
  kBaseFirstMoment = 4,   ///< kFirstMoment as it was beside kBase
  kBaseSecondMoment = 5,  ///< kSecondMoment as it was beside kBase
  kImportance = 6,        ///< of each column: what a quantizer was given
  kScale = 7,             ///< what quantized elements are multiples of
  kZero = 8,              ///< which of the quantized elements stands for zero
};
/// The last one.
inline constexpr Role kMaxRole = Role::kZero;
inline constexpr size_t kMaxReferences = 4;
/// Whether a block is given all of such a tensor.
constexpr bool IsWhole(Role role) {
  return role == Role::kFactor || role >= Role::kImportance;
}

/// Decoded elements of another tensor. Where IsWhole(role): all of it, in rows
/// of `row` elements. Else: element i belongs to element i of what is coded,
/// and there are as many. Elements are counted as weights: of a packed type
/// `data` has whole blocks, whose elements they are.
struct Reference {
  Role role;
  DType dtype;
  ByteSpan data;
  uint64_t row = 0;  ///< IsWhole(role) only
};

/// What a block may be coded against, the same for encoder and decoder.
struct BlockContext {
  std::span<const Reference> references;  ///< up to kMaxReferences
  uint64_t row = 0;  ///< elements of the tensor's innermost dimension, or 0
                     ///< where it has no rows
  uint64_t position = 0;  ///< elements of the tensor before the block
  /// What the tensor's model shares among its blocks (TensorModel::shared).
  ByteSpan shared;
  /// The language model that the archive names; null where it names none.
  const TextModel* text_model = nullptr;
};

/// Decoding half. Stateless; the functions may be called by several threads at
/// once.
struct Decoder {
  CodecId id;
  std::string_view name;
  /// Parses the frame's parameters (up to kMaxParamsBytes, untrusted). Null
  /// where the codec has none: the container then refuses parameters.
  absl::StatusOr<std::unique_ptr<const DecodeParams>> (*parse)(ByteSpan params);
  /// Decodes exactly `out.size()` (1 to kMaxBlockBytes) bytes from exactly
  /// `coded`, both untrusted; DATA_LOSS where it cannot. `params` is what
  /// `parse` returned, or null where the frame has none. Reads and writes
  /// nothing outside the spans.
  absl::Status (*decode)(const DecodeParams* params, ByteSpan coded,
                         MutableByteSpan out, Scratch& scratch) = nullptr;
  /// Instead of `decode` where blocks need more than `coded`: the arrays of
  /// `context` are untrusted too, and may lack what the codec needs.
  absl::Status (*decode_against)(const DecodeParams* params,
                                 const BlockContext& context, ByteSpan coded,
                                 MutableByteSpan out,
                                 Scratch& scratch) = nullptr;
  /// Whether it takes longer to decode a block again than to keep it in a file.
  bool is_slow = false;
  /// Whether `decode_against` is called without references: `context` has
  /// `shared` and `text_model` alone.
  bool alone = false;
  /// Whether it needs BlockContext::text_model; then it is `alone`.
  bool needs_text_model = false;
  /// Bytes that decoding a block of `size` plain bytes takes beside `coded` and
  /// `out`, at most; null where that is no more than a few times `size`. The
  /// reader refuses what is above its limit before it decodes.
  uint64_t (*memory)(const DecodeParams* params, uint64_t size) = nullptr;
};

/// A tensor that is to be coded against others, as a whole.
class TensorView {
 public:
  virtual ~TensorView() = default;
  DType dtype;
  uint64_t elements = 0;
  /// Elements, which are weights then, for each that `dtype` has: of U8 or I32
  /// that hold several, or of scales that are seen as their weights.
  uint32_t weights_an_element = 1;
  uint64_t row = 0;  ///< as in BlockContext
  int level = 0;
  struct Beside {
    Role role;
    DType dtype;
    uint64_t elements = 0;  ///< the tensor's, but where IsWhole(role)
    uint64_t row = 0;       ///< IsWhole(role) only
  };
  std::vector<Beside> references;

  /// Reads the elements from `begin` on of the tensor (`which` -1), or of a
  /// reference, as many as `out` has room for: a whole number, of packed types
  /// whole blocks.
  virtual absl::Status Read(int which, uint64_t begin,
                            MutableByteSpan out) const = 0;
};

/// What an encoder learnt of a tensor and its references, or of a text, before
/// it codes their frames. Immutable; shared by threads.
class TensorModel {
 public:
  virtual ~TensorModel() = default;
  /// Elements that every block is decoded with, empty if none; stored once, up
  /// to kMaxSharedBytes.
  virtual ByteSpan shared() const { return {}; }
  virtual DType shared_dtype() const { return DType::kBytes; }
};
inline constexpr size_t kMaxSharedBytes = size_t{1} << 26;

/// What the planner asks a codec to encode: the blocks of one frame.
struct EncodeRequest {
  ByteSpan data;      ///< all plain bytes of the frame, at least 1
  size_t block_size;  ///< bytes a block, a multiple of the element size; the
                      ///< last may be shorter
  DType dtype;        ///< what the parser says the elements are
  int level;          ///< 1 to 9
  uint64_t row = 0;   ///< elements of the tensor's innermost dimension, or 0
                      ///< where it has no rows
  uint64_t position = 0;  ///< elements of the tensor before `data`
  /// Arrays beside `data`: BlockContext's, for the whole frame.
  std::span<const Reference> references = {};
  /// What this encoder's `learn` returned, or null.
  const TensorModel* model = nullptr;
  /// Whether `data` is text, by its content (codecs/text/detect.h).
  bool is_text = false;
  /// Whether it is text in lines that are alike, as those of logs and tables.
  bool is_lines = false;
  /// The user's language model; null if there is none.
  const TextModel* text_model = nullptr;
};

/// A codec's decision for a frame. Immutable; `Encode` may be called by several
/// threads.
class EncodePlan {
 public:
  virtual ~EncodePlan() = default;
  /// The frame parameters to store; empty if none.
  virtual ByteSpan params() const { return {}; }
  /// What it expects all blocks of the frame to take, in bytes, without
  /// `params()`.
  virtual uint64_t estimate() const = 0;
  /// Appends the coded form of `block`, a block of the request where it lies in
  /// the request's data, to `*out`. Returns false, leaving `*out` as it was,
  /// where this codec cannot code the block.
  virtual bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const = 0;
};

/// Encoding half. Stateless. Output depends on the request alone: not on CPU,
/// thread or time.
struct Encoder {
  CodecId id;
  std::string_view name;
  /// Null where the codec has nothing to offer for the request (wrong dtype or
  /// level, no gain).
  std::unique_ptr<EncodePlan> (*plan)(const EncodeRequest& request,
                                      Scratch& scratch);
  /// Looks at a tensor that has references before its frames are planned; null
  /// where the codec has no use for that, and what it returns is null where it
  /// has nothing to offer.
  std::unique_ptr<const TensorModel> (*learn)(const TensorView& tensor,
                                              Scratch& scratch) = nullptr;
  /// The same for a long text, all of whose blocks may use what is learnt from
  /// its first block.
  std::unique_ptr<const TensorModel> (*learn_text)(
      const EncodeRequest& first_block, Scratch& scratch) = nullptr;
};

/// The registered decoder with this number; null if there is none.
const Decoder* FindDecoder(CodecId id);
/// The same, null also for a codec whose blocks are coded against references.
inline const Decoder* FindDecoderOfOneBlock(CodecId id) {
  const Decoder* decoder = FindDecoder(id);
  return decoder == nullptr || decoder->decode == nullptr ? nullptr : decoder;
}
/// The registered encoder with this number; null if there is none.
const Encoder* FindEncoder(CodecId id);
/// All registered ones, by ascending number.
std::span<const Decoder* const> AllDecoders();
std::span<const Encoder* const> AllEncoders();

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_CODEC_H_
