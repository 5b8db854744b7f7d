// Codec 7, cascade: exponents as short codes with escapes, layer below layer;
// the rest of the elements as bytes. Format: format-spec/codecs/7-cascade.md.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/tensor/cascade_format.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace cascade_format;
using kernels::kGroup;

struct Layer {
  int width = 0;
  uint8_t symbols[kMaxSymbols] = {};
};

struct Params final : DecodeParams {
  const Kind* kind = nullptr;
  size_t layers = 0;  // at least 1
  std::array<Layer, kMaxLayers> layer;
};

/// Checks that no exponent is above the kind's greatest.
absl::Status CheckExponents(const Kind& kind, ByteSpan exponents,
                            const ByteReader& reader) {
  uint8_t greatest = 0;
  for (uint8_t exponent : exponents) greatest = std::max(greatest, exponent);
  if (greatest <= kind.max_exponent) return absl::OkStatus();
  return reader.Error("exponent ", int{greatest}, "; ", int{kind.max_exponent},
                      " is the most");
}

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto params = std::make_unique<Params>();
  ByteReader reader(bytes, "cascade parameters");
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  if (number < 1 || number > kKinds.size()) {
    return reader.Error("unknown kind of elements ", int{number});
  }
  params->kind = &kKinds[number - 1];
  ASSIGN_OR_RETURN(params->layers, reader.Le<uint8_t>());
  if (params->layers < 1 || params->layers > kMaxLayers) {
    return reader.Error(params->layers, " layers; 1 to ", kMaxLayers,
                        " are possible");
  }
  for (size_t k = 0; k < params->layers; ++k) {
    Layer& layer = params->layer[k];
    ASSIGN_OR_RETURN(layer.width, reader.Le<uint8_t>());
    if (layer.width != 1 && layer.width != 2 && layer.width != 4) {
      return reader.Error("codes of ", layer.width, " bits; 1, 2 and 4 are");
    }
    ASSIGN_OR_RETURN(const ByteSpan symbols,
                     reader.Bytes((1u << layer.width) - 1));
    RETURN_IF_ERROR(CheckExponents(*params->kind, symbols, reader));
    std::copy(symbols.begin(), symbols.end(), layer.symbols);
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
}

struct Run {
  Mode mode;
  size_t groups;
};

/// Reads the next run, of at most `left` (at least 1) groups.
absl::StatusOr<Run> ReadRun(const Kind& kind, size_t left, ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t run, reader.Varint());
  const auto mode = static_cast<unsigned>(run % kModes);
  const uint64_t groups = run / kModes;
  if (!kind.Allows(mode)) return reader.Error("mode ", mode, " of a run");
  if (groups < 1 || groups > left) {
    return reader.Error("run of ", groups, " groups where ", left, " are left");
  }
  return Run{static_cast<Mode>(mode), static_cast<size_t>(groups)};
}

/// The codes of a block's layers.
struct Codes {
  size_t groups[kMaxLayers] = {};
  const uint8_t* codes[kMaxLayers] = {};
  ByteSpan raw;  // what escapes from the last layer
};

absl::Status ReadCodes(const Params& params, size_t groups, ByteReader& reader,
                       Codes* codes) {
  for (size_t k = 0; k < params.layers; ++k) {
    codes->groups[k] = groups;
    if (k + 1 == params.layers) break;
    ASSIGN_OR_RETURN(groups, reader.Varint(groups));
  }
  ASSIGN_OR_RETURN(const uint64_t raw, reader.Varint(groups * kGroup));
  for (size_t k = 0; k < params.layers; ++k) {
    ASSIGN_OR_RETURN(
        const ByteSpan layer,
        reader.Bytes(codes->groups[k] * CodeBytes(params.layer[k].width)));
    codes->codes[k] = layer.data();
  }
  ASSIGN_OR_RETURN(codes->raw, reader.Bytes(raw));
  return CheckExponents(*params.kind, codes->raw, reader);
}

/// Whether layer `k` may have escaped `taken` times.
absl::Status CheckEscapes(const Params& params, const Codes& codes, size_t k,
                          size_t taken, const ByteReader& reader) {
  const bool good = k + 1 == params.layers
                        ? taken == codes.raw.size()
                        : (taken + kGroup - 1) / kGroup == codes.groups[k + 1];
  if (good) return absl::OkStatus();
  return reader.Error(taken, " elements escape from layer ", k + 1,
                      "; the next has another number");
}

/// Decodes the layers below the first into `buffer`; returns the exponents that
/// the first takes where it escapes.
absl::StatusOr<const uint8_t*> ExpandLower(const Params& params,
                                           const Codes& codes,
                                           const ByteReader& reader,
                                           Buffer* buffer) {
  // A layer may take as many as it has codes, and more than there are: what
  // lies behind is read before the number is checked.
  const size_t room = codes.groups[0] * kGroup + kSlack;
  buffer->Resize(2 * room);
  uint8_t* from = buffer->data();
  uint8_t* to = from + room;
  std::copy(codes.raw.begin(), codes.raw.end(), from);
  for (size_t k = params.layers - 1; k > 0; --k) {
    const Layer& layer = params.layer[k];
    const size_t taken = kernels::Best().cascade_expand(
        codes.codes[k], codes.groups[k], layer.width, layer.symbols, from, to);
    RETURN_IF_ERROR(CheckEscapes(params, codes, k, taken, reader));
    std::swap(from, to);
  }
  return from;
}

/// Reads the elements listed of `groups` groups and adds their low bits to
/// `words`.
absl::Status AddFew(const Kind& kind, size_t groups, ByteReader& reader,
                    uint16_t* words) {
  for (size_t g = 0; g < groups; ++g, words += kGroup) {
    ASSIGN_OR_RETURN(const uint8_t count, reader.Le<uint8_t>());
    ASSIGN_OR_RETURN(const ByteSpan few,
                     reader.Bytes(count * kind.few_bytes()));
    int previous = -1;
    for (size_t at = 0; at < few.size(); at += kind.few_bytes()) {
      const int position = few[at];
      const uint16_t low =
          kind.wide() ? LoadLe<uint16_t>(&few[at + 1]) : few[at + 1];
      if (position <= previous || position >= int{kGroup} ||
          low >> kind.low_bits != 0) {
        return reader.Error("element ", position, " with low bits ", low,
                            " after element ", previous, " of a group");
      }
      words[position] = static_cast<uint16_t>(words[position] | low);
      previous = position;
    }
  }
  return absl::OkStatus();
}

/// Reads the low halves of `groups` groups.
absl::Status ReadHalves(const Kind& kind, Mode mode, size_t groups,
                        ByteReader& reader, uint16_t* low) {
  if (mode == kAll) {
    ASSIGN_OR_RETURN(const ByteSpan all, reader.Bytes(groups * kAllBytes));
    std::memcpy(low, all.data(), all.size());
    return absl::OkStatus();
  }
  std::memset(low, 0, groups * kAllBytes);
  if (mode == kFew) return AddFew(kind, groups, reader, low);
  if (mode == kThree) {
    ASSIGN_OR_RETURN(const ByteSpan planes, reader.Bytes(groups * kThreeBytes));
    const uint8_t* plane = planes.data();
    for (size_t g = 0; g < groups; ++g) {
      for (int bit = kThreeShift; bit < 16; ++bit, plane += kGroup / 8) {
        kernels::Best().insert_plane(low + g * kGroup, 1, 1, bit, plane);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("cascade block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  const Kind& kind = *params.kind;
  if (out.size() % kind.element_size != 0) {
    return DataLoss("cascade block of ", out.size(), " bytes has no whole ",
                    "number of elements of ", int{kind.element_size}, " bytes");
  }
  const size_t group_size = kGroup * kind.element_size;
  const size_t groups = (out.size() + group_size - 1) / group_size;

  ByteReader reader(coded, "cascade block");
  ByteReader runs = reader;
  size_t present = 0;
  for (size_t left = groups; left > 0;) {
    ASSIGN_OR_RETURN(const Run run, ReadRun(kind, left, reader));
    left -= run.groups;
    if (run.mode != kZero) present += run.groups;
  }
  Codes codes;
  RETURN_IF_ERROR(ReadCodes(params, present, reader, &codes));
  ASSIGN_OR_RETURN(const ByteSpan rest_bytes, reader.Bytes(present * kGroup));
  ASSIGN_OR_RETURN(const uint8_t* const escaped,
                   ExpandLower(params, codes, reader, &scratch.buffers[0]));

  const kernels::Table& kernel = kernels::Best();
  const Layer& first = params.layer[0];
  const uint8_t* code = codes.codes[0];
  const uint8_t* rests = rest_bytes.data();
  const uint8_t* next = escaped;
  alignas(64) uint8_t exponents[kChunk];
  alignas(64) uint16_t units[kChunk];
  alignas(64) uint16_t low[kChunk];
  for (size_t at = 0; at < out.size();) {
    ASSIGN_OR_RETURN(Run run, ReadRun(kind, groups - at / group_size, runs));
    while (run.groups > 0) {
      const size_t count = std::min(run.groups, kChunkGroups);
      const MutableByteSpan to =
          out.subspan(at, std::min(count * group_size, out.size() - at));
      run.groups -= count;
      at += to.size();
      if (run.mode == kZero) {
        std::fill(to.begin(), to.end(), uint8_t{0});
        continue;
      }
      next += kernel.cascade_expand(code, count, first.width, first.symbols,
                                    next, exponents);
      ByteSpan three;
      if (!kind.wide() && run.mode == kThree) {
        ASSIGN_OR_RETURN(three, reader.Bytes(count * kThreeBytes));
      }
      const bool direct =
          !kind.wide() && run.mode != kFew && to.size() == count * group_size;
      kernel.join_rests(exponents, rests, three.data(), count, kind.shift,
                        direct ? to.data() : reinterpret_cast<uint8_t*>(units));
      code += count * CodeBytes(first.width);
      rests += count * kGroup;
      if (kind.wide()) {
        RETURN_IF_ERROR(ReadHalves(kind, run.mode, count, reader, low));
        kernel.join_halves(low, units, to.size() / 4, to.data());
      } else if (!direct) {
        if (run.mode == kFew) {
          RETURN_IF_ERROR(AddFew(kind, count, reader, units));
        }
        std::memcpy(to.data(), units, to.size());
      }
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return CheckEscapes(params, codes, 0, static_cast<size_t>(next - escaped),
                      reader);
}

}  // namespace

extern const Decoder kCascadeDecoder = {
    .id = 7, .name = "cascade", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
