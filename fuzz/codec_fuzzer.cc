// Every registered decoder on hostile parameters and coded bytes. An input is
//
//   u8 codec, u24 size - 1 (20 bits count), u16 bytes of parameters,
//   parameters, what lies beside the block, coded bytes
//
// where there is something beside the blocks of codecs with references only:
//
//   u8 references (3 bits count), for each: u8 role, u8 dtype, u24 bytes,
//   u16 row, the bytes; u16 row, u32 position, u16 shared bytes, these
//
// little-endian; a new codec is fuzzed as soon as it is registered, its seeds
// are made by make_codec_corpus.cc.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "check.h"
#include "codecs/codec.h"

namespace zipllm::codecs {
namespace {

constexpr size_t kMaxSize = size_t{1} << 20;

/// A heap block of exactly the size of `bytes`, so that reads beyond it are
/// seen.
std::unique_ptr<uint8_t[]> Copy(ByteSpan bytes) {
  std::unique_ptr<uint8_t[]> copy(new uint8_t[bytes.size()]);
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  return copy;
}

/// What lies beside the block.
class Beside {
 public:
  absl::Status Read(ByteReader& reader) {
    ASSIGN_OR_RETURN(const uint8_t count, reader.Le<uint8_t>());
    for (size_t i = 0; i < count % 8; ++i) {
      ASSIGN_OR_RETURN(const uint8_t role, reader.Le<uint8_t>());
      ASSIGN_OR_RETURN(const uint8_t dtype, reader.Le<uint8_t>());
      ASSIGN_OR_RETURN(const uint16_t low, reader.Le<uint16_t>());
      ASSIGN_OR_RETURN(const uint8_t high, reader.Le<uint8_t>());
      ASSIGN_OR_RETURN(const uint16_t row, reader.Le<uint16_t>());
      ASSIGN_OR_RETURN(const ByteSpan bytes,
                       reader.Bytes(low | size_t{high} << 16));
      // The container knows roles and types before it asks a codec.
      if (role > static_cast<uint8_t>(kMaxRole) ||
          FindDType(DType{dtype}) == nullptr) {
        return DataLoss("no such role or type");
      }
      references_.push_back(
          {static_cast<Role>(role), DType{dtype}, Keep(bytes), row});
    }
    ASSIGN_OR_RETURN(row_, reader.Le<uint16_t>());
    ASSIGN_OR_RETURN(position_, reader.Le<uint32_t>());
    ASSIGN_OR_RETURN(const uint16_t shared, reader.Le<uint16_t>());
    ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(shared));
    shared_ = Keep(bytes);
    return absl::OkStatus();
  }
  BlockContext get() const { return {references_, row_, position_, shared_}; }

 private:
  ByteSpan Keep(ByteSpan bytes) {
    arrays_.push_back(Copy(bytes));
    return {arrays_.back().get(), bytes.size()};
  }

  std::vector<std::unique_ptr<uint8_t[]>> arrays_;
  std::vector<Reference> references_;
  uint16_t row_ = 0;
  uint32_t position_ = 0;
  ByteSpan shared_;
};

/// Decodes with output and scratch that held `before` before; nullopt where
/// refused.
std::optional<std::vector<uint8_t>> Decode(const Decoder& decoder,
                                           const DecodeParams* params,
                                           const BlockContext& context,
                                           ByteSpan coded, size_t size,
                                           uint8_t before) {
  Scratch scratch;
  for (Buffer& buffer : scratch.buffers) {
    buffer.Resize(256);
    std::fill(buffer.begin(), buffer.end(), before);
  }
  std::unique_ptr<uint8_t[]> out(new uint8_t[size]);
  std::fill_n(out.get(), size, before);
  const MutableByteSpan span = {out.get(), size};
  const absl::Status status =
      decoder.decode_against != nullptr
          ? decoder.decode_against(params, context, coded, span, scratch)
          : decoder.decode(params, coded, span, scratch);
  if (!status.ok()) {
    FUZZ_CHECK(!status.message().empty());
    return std::nullopt;
  }
  return std::vector<uint8_t>(out.get(), out.get() + size);
}

void Fuzz(ByteReader reader) {
  const auto id = reader.Le<uint8_t>();
  const auto size_low = reader.Le<uint16_t>();
  const auto size_high = reader.Le<uint8_t>();
  const auto params_size = reader.Le<uint16_t>();
  if (!params_size.ok()) return;
  const Decoder* decoder = FindDecoder(*id);
  const auto params_bytes = reader.Bytes(*params_size);
  if (decoder == nullptr || !params_bytes.ok()) return;
  const size_t size = 1 + (*size_low | size_t{*size_high} << 16) % kMaxSize;
  Beside beside;
  if (decoder->decode_against != nullptr && !beside.Read(reader).ok()) return;
  const ByteSpan coded_bytes = *reader.Bytes(reader.remaining());

  std::unique_ptr<const DecodeParams> params;
  if (decoder->parse != nullptr) {
    const auto copy = Copy(*params_bytes);
    auto parsed = decoder->parse({copy.get(), params_bytes->size()});
    if (!parsed.ok()) return;
    params = std::move(parsed).value();
  }
  const auto coded = Copy(coded_bytes);
  const ByteSpan span = {coded.get(), coded_bytes.size()};
  const BlockContext context = beside.get();
  const auto once = Decode(*decoder, params.get(), context, span, size, 0x00);
  const auto again = Decode(*decoder, params.get(), context, span, size, 0xA5);
  FUZZ_CHECK(once == again);
}

}  // namespace
}  // namespace zipllm::codecs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zipllm::codecs::Fuzz(zipllm::ByteReader({data, size}));
  return 0;
}
