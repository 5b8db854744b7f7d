// Sequences of numbers: decoding.
#include <algorithm>

#include "codecs/columns/mix.h"
#include "codecs/columns/numbers.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::columns {
namespace {

using entropy::UnZigZag64;

absl::Status DecodeEqual(ByteReader& reader, Numbers& numbers) {
  ASSIGN_OR_RETURN(const uint64_t value, reader.Varint());
  std::ranges::fill(numbers, value);
  return absl::OkStatus();
}

absl::Status DecodePacked(ByteReader& reader, Numbers& numbers) {
  ASSIGN_OR_RETURN(const uint64_t base, reader.Varint());
  ASSIGN_OR_RETURN(const uint8_t width, reader.Le<uint8_t>());
  if (width > 64) return reader.Error("numbers of ", int{width}, " bits");
  // Counts are below 2^32.
  ASSIGN_OR_RETURN(const ByteSpan bits,
                   reader.Bytes((numbers.size() * width + 7) / 8));
  entropy::BitReader unpacker(bits);
  for (uint64_t& number : numbers) number = base + unpacker.Get64(width);
  return absl::OkStatus();
}

/// Magnitudes are known; reads the low bits.
absl::Status AddLowBits(ByteReader& reader, ByteSpan magnitudes,
                        Numbers& numbers) {
  uint64_t bits = 0;
  for (const uint8_t magnitude : magnitudes) {
    bits += static_cast<uint64_t>(LowBits(magnitude));
  }
  ASSIGN_OR_RETURN(const ByteSpan low, reader.Bytes((bits + 7) / 8));
  entropy::BitReader unpacker(low);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint8_t magnitude = magnitudes[i];
    numbers[i] = LeastOf(magnitude) | unpacker.Get64(LowBits(magnitude));
  }
  return absl::OkStatus();
}

absl::Status DecodeRans(ByteReader& reader, Numbers& numbers) {
  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(reader));
  const entropy::ClassDecodeTables tables(frequencies);
  Buffer magnitudes(numbers.size());
  const std::vector<uint8_t> classes(numbers.size());
  RETURN_IF_ERROR(entropy::DecodeClassRans(
      tables, classes.data(), numbers.size(), reader, magnitudes.data()));
  return AddLowBits(reader, magnitudes.span(), numbers);
}

absl::StatusOr<size_t> ReadWidth(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint8_t width, reader.Le<uint8_t>());
  if (width == 0 || width > 8) {
    return reader.Error("numbers of ", int{width}, " bytes");
  }
  return size_t{width};
}

/// Numbers of `width` bytes, lowest first; byte k of number i is at
/// k * byte_step + i * number_step.
void Gather(const uint8_t* bytes, size_t width, size_t byte_step,
            size_t number_step, Numbers& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    uint64_t value = 0;
    for (size_t k = 0; k < width; ++k) {
      value |= uint64_t{bytes[k * byte_step + i * number_step]} << (8 * k);
    }
    numbers[i] = value;
  }
}

absl::Status DecodeZstd(ByteReader& reader, bool planes,
                        const DecodeContext& context, Numbers& numbers) {
  ASSIGN_OR_RETURN(const size_t width, ReadWidth(reader));
  Buffer bytes(numbers.size() * width);
  RETURN_IF_ERROR(DecodeBytes(reader, bytes.mutable_span(), context));
  if (planes) {
    Gather(bytes.data(), width, numbers.size(), 1, numbers);
  } else {
    Gather(bytes.data(), width, 1, width, numbers);
  }
  return absl::OkStatus();
}

absl::Status DecodeMixBytes(ByteReader& reader, const DecodeContext& context,
                            Numbers& numbers) {
  ASSIGN_OR_RETURN(const size_t width, ReadWidth(reader));
  DecodeContext of_numbers = context;
  of_numbers.count = numbers.size();
  MixBesides besides;
  RETURN_IF_ERROR(ReadBesides(reader, of_numbers, &besides));
  MixRecords records{.count = numbers.size(),
                     .width = static_cast<uint32_t>(width)};
  besides.Set(&records);
  Buffer bytes(numbers.size() * width);
  RETURN_IF_ERROR(DecodeMix(reader, records, bytes.mutable_span()));
  // Highest first.
  const uint8_t* next = bytes.data();
  for (uint64_t& number : numbers) {
    number = 0;
    for (size_t k = 0; k < width; ++k) number = number << 8 | *next++;
  }
  return absl::OkStatus();
}

absl::Status DecodeMixMagnitudes(ByteReader& reader,
                                 const DecodeContext& context,
                                 Numbers& numbers) {
  DecodeContext of_numbers = context;
  of_numbers.count = numbers.size();
  MixBesides besides;
  RETURN_IF_ERROR(ReadBesides(reader, of_numbers, &besides));
  MixRecords records{.count = numbers.size(), .width = 1};
  besides.Set(&records);
  Buffer magnitudes(numbers.size());
  RETURN_IF_ERROR(DecodeMix(reader, records, magnitudes.mutable_span()));
  return AddLowBits(reader, magnitudes.span(), numbers);
}

absl::Status DecodeAs(NumberCoding coding, ByteReader& reader,
                      const DecodeContext& context, Numbers& numbers) {
  switch (coding) {
    case NumberCoding::kEqual:
      return DecodeEqual(reader, numbers);
    case NumberCoding::kPacked:
      return DecodePacked(reader, numbers);
    case NumberCoding::kRans:
      return DecodeRans(reader, numbers);
    case NumberCoding::kZstd:
      return DecodeZstd(reader, false, context, numbers);
    case NumberCoding::kZstdPlanes:
      return DecodeZstd(reader, true, context, numbers);
    case NumberCoding::kMixBytes:
      return DecodeMixBytes(reader, context, numbers);
    case NumberCoding::kMixMagnitudes:
      return DecodeMixMagnitudes(reader, context, numbers);
  }
  return reader.Error("numbers of unknown coding ", static_cast<int>(coding));
}

}  // namespace

absl::Status DecodeNumbers(ByteReader& reader, size_t count,
                           const DecodeContext& context, Numbers* out) {
  out->clear();
  if (count == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const uint8_t first, reader.Le<uint8_t>());
  out->resize(count);
  RETURN_IF_ERROR(
      DecodeAs(static_cast<NumberCoding>(first & 15), reader, context, *out));
  switch (static_cast<NumberTransform>(first >> 4)) {
    case NumberTransform::kNone:
      return absl::OkStatus();
    case NumberTransform::kDelta: {
      uint64_t value = 0;
      for (uint64_t& number : *out) number = value += UnZigZag64(number);
      return absl::OkStatus();
    }
    case NumberTransform::kDeltaDelta: {
      uint64_t value = 0;
      uint64_t step = 0;
      for (uint64_t& number : *out) {
        number = value += step += UnZigZag64(number);
      }
      return absl::OkStatus();
    }
  }
  return reader.Error("numbers of unknown transform ", first >> 4);
}

}  // namespace zipllm::codecs::columns
