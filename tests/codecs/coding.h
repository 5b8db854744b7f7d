// Coding frames in tests as the container does: a plan, its blocks, and back.
// Every span that a codec sees is a heap allocation of exactly its size, so
// that AddressSanitizer sees a byte too far.
#ifndef ZIPLLM_TESTS_CODECS_CODING_H_
#define ZIPLLM_TESTS_CODECS_CODING_H_

#include <optional>
#include <string>
#include <vector>

#include "codecs/codec.h"
#include "codecs/generators.h"

namespace zipllm::codecs {

using Bytes = std::vector<uint8_t>;

/// A heap copy of exactly `bytes.size()` bytes.
class Exact {
 public:
  explicit Exact(ByteSpan bytes) : Exact(bytes.size()) {
    if (!bytes.empty()) std::memcpy(data_.get(), bytes.data(), size_);
  }
  explicit Exact(size_t size) : data_(new uint8_t[size]), size_(size) {}
  ByteSpan span() const { return {data_.get(), size_}; }
  MutableByteSpan mutable_span() { return {data_.get(), size_}; }

 private:
  std::unique_ptr<uint8_t[]> data_;
  size_t size_;
};

/// A frame as one codec codes it; a block it did not code is nullopt.
struct CodedFrame {
  Bytes params;
  Bytes shared;  ///< of the tensor's model, where the codec learns one
  std::vector<std::optional<Bytes>> blocks;
  uint64_t estimate = 0;
  friend bool operator==(const CodedFrame&, const CodedFrame&) = default;
};

/// The blocks of a request.
std::vector<ByteSpan> BlocksOf(const EncodeRequest& request);

/// What lies beside one block (as it lies in the request's data).
class Context {
 public:
  Context() = default;
  Context(const EncodeRequest& request, ByteSpan block, ByteSpan shared = {});
  /// To be changed by hostile tests.
  std::vector<Reference> references;
  uint64_t row = 0;
  uint64_t position = 0;
  ByteSpan shared;

  /// Valid as long as this is not changed.
  BlockContext get() const { return {references, row, position, shared}; }
};

/// By `decode_against` where the codec has it.
absl::Status Decode(const Decoder& decoder, const DecodeParams* params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch);

/// What the encoder learns of the request's data, taken for a whole tensor;
/// null where it has no model for it.
std::unique_ptr<const TensorModel> Learn(const Encoder& encoder,
                                         const EncodeRequest& request,
                                         Scratch& scratch);

/// Learns (where the codec does and there are references), plans and codes;
/// nullopt if the codec offers no plan. Checks what an encoder owes whatever
/// the input: `*out` keeps what it had, nothing larger than the block.
/// `scratch` may hold anything.
std::optional<CodedFrame> EncodeFrame(const Encoder& encoder,
                                      const EncodeRequest& request,
                                      Scratch& scratch);

/// Decodes one block twice, with scratch and output that held other things
/// before; checks that both times agree. nullopt where it is refused, with the
/// reason in `*why` (if not null); refusing must come with a message.
std::optional<Bytes> DecodeBlock(const Decoder& decoder, ByteSpan params,
                                 ByteSpan coded, size_t size,
                                 absl::Status* why = nullptr);
std::optional<Bytes> DecodeBlock(const Decoder& decoder, ByteSpan params,
                                 const BlockContext& context, ByteSpan coded,
                                 size_t size, absl::Status* why = nullptr);

/// Codes, decodes each block by itself, compares. Returns how many blocks were
/// coded.
size_t CheckRoundTrip(CodecId id, const EncodeRequest& request);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_TESTS_CODECS_CODING_H_
