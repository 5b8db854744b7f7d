// Codec 13, palette: elements as numbers of the few values that their group
// has, by rANS. Format: format-spec/codecs/13-palette.md.
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/tensor/byte_plane_decode.h"
#include "codecs/tensor/palette_format.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs {
namespace {

using namespace palette_format;

struct Params final : DecodeParams {
  explicit Params(const entropy::ClassFrequencies& frequencies)
      : tables(frequencies) {}

  size_t width = 0;  // bytes an element
  uint8_t flags = 0;
  uint64_t group = 0;  // elements; 0: all of a block
  // By values of the palette less 1.
  std::array<uint8_t, kMaxValues> class_of;
  entropy::ClassDecodeTables tables;
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  ByteReader reader(bytes, "palette parameters");
  ASSIGN_OR_RETURN(const uint8_t width, reader.Le<uint8_t>());
  if (width != 1 && width != 2 && width != 4 && width != 8) {
    return reader.Error("elements of ", int{width}, " bytes");
  }
  ASSIGN_OR_RETURN(const uint8_t flags, reader.Le<uint8_t>());
  if (flags > kAllFlags) return reader.Error("unknown flags ", int{flags});
  ASSIGN_OR_RETURN(const uint64_t group, reader.Varint(kMaxGroup));
  ASSIGN_OR_RETURN(const uint64_t bounds,
                   reader.Varint(entropy::kMaxClasses - 1));
  std::array<uint8_t, kMaxValues> class_of;
  size_t values = 0;
  for (uint64_t c = 0; c < bounds; ++c) {
    ASSIGN_OR_RETURN(const uint8_t bound, reader.Le<uint8_t>());
    if (bound <= values) return reader.Error("bounds of classes do not ascend");
    for (; values < bound; ++values) {
      class_of[values] = static_cast<uint8_t>(c);
    }
  }
  for (; values < kMaxValues; ++values) {
    class_of[values] = static_cast<uint8_t>(bounds);
  }
  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(reader));
  if (frequencies.size() != bounds + 1) {
    return reader.Error(frequencies.size(), " tables for ", bounds + 1,
                        " classes");
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  auto params = std::make_unique<Params>(frequencies);
  params->width = width;
  params->flags = flags;
  params->group = group;
  params->class_of = class_of;
  return params;
}

/// The palettes of a block's groups.
template <typename Element>
struct Palettes {
  const uint8_t* sizes;  // by group, less 1
  // One palette after the other; kMaxValues - 1 more can be read.
  const Element* values;
};

/// Reads them; `scratch`'s first three buffers hold them.
template <typename Element>
absl::StatusOr<Palettes<Element>> ReadPalettes(const Groups& groups,
                                               bool mirrored,
                                               ByteReader& reader,
                                               Scratch& scratch) {
  const size_t count = groups.count();
  scratch.buffers[0].Resize(count);
  Palettes<Element> palettes;
  ASSIGN_OR_RETURN(
      palettes.sizes,
      ReadBytePlane(reader, scratch.buffers[0].mutable_span(), scratch));
  size_t total = 0;
  for (size_t g = 0; g < count; ++g) {
    const size_t size = palettes.sizes[g] + size_t{1};
    if (size > groups.Begin(g + 1) - groups.Begin(g)) {
      return reader.Error("a group has fewer elements than its palette values");
    }
    total += size;
  }
  scratch.buffers[1].Resize(total);
  scratch.buffers[2].Resize((total + kMaxValues - 1) * sizeof(Element));
  auto* const values = reinterpret_cast<Element*>(scratch.buffers[2].data());
  std::fill_n(values, total + kMaxValues - 1, Element{0});
  for (size_t p = 0; p < sizeof(Element); ++p) {
    ASSIGN_OR_RETURN(
        const uint8_t* const plane,
        ReadBytePlane(reader, scratch.buffers[1].mutable_span(), scratch));
    for (size_t i = 0; i < total; ++i) {
      values[i] =
          static_cast<Element>(values[i] | Element{plane[i]} << (8 * p));
    }
  }
  if (mirrored) {
    Element* palette = values;
    for (size_t g = 0; g < count; ++g) {
      const size_t size = palettes.sizes[g] + size_t{1};
      Mirror(palette, size);
      palette += size;
    }
  }
  palettes.values = values;
  return palettes;
}

template <typename Element>
absl::Status DecodeElements(const Params& params, ByteSpan coded,
                            MutableByteSpan out, Scratch& scratch) {
  const size_t count = out.size() / sizeof(Element);
  ByteReader reader(coded, "palette block");
  uint64_t phase = 0;
  if (params.group != 0) {
    ASSIGN_OR_RETURN(phase, reader.Varint(params.group - 1));
  }
  const Groups groups(count, params.group != 0 ? params.group : count, phase);
  ASSIGN_OR_RETURN(
      const Palettes<Element> palettes,
      ReadPalettes<Element>(groups, (params.flags & kMirrored) != 0, reader,
                            scratch));
  ASSIGN_OR_RETURN(
      entropy::ClassRansDecoder decoder,
      entropy::ClassRansDecoder::Start(params.tables, count, reader));
  RETURN_IF_ERROR(reader.ExpectEnd());

  // Calls body(group, where in the piece, elements) for the groups from `*g` on
  // that have a part of the piece; leaves in `*g` the one that holds its end.
  const auto for_groups = [&](size_t start, size_t n, size_t* g,
                              const auto& body) {
    for (size_t at = 0; at < n;) {
      const size_t left = groups.Begin(*g + 1) - start - at;
      const size_t part = std::min(n - at, left);
      body(*g, at, part);
      at += part;
      if (part == left) ++*g;
    }
  };
  alignas(64) uint8_t classes[kPiece];
  alignas(64) uint8_t symbols[kPiece];
  alignas(64) Element elements[kPiece];
  size_t classes_group = 0;
  size_t group = 0;
  size_t values_group = SIZE_MAX;  // whose values these are:
  const Element* values = palettes.values;
  size_t size = 0;
  uint8_t first = 0;  // number of the value whose symbol is 0
  bool ok = true;
  for (size_t start = 0; start < count; start += kPiece) {
    const size_t n = std::min(kPiece, count - start);
    for_groups(start, n, &classes_group, [&](size_t g, size_t at, size_t part) {
      std::memset(classes + at, params.class_of[palettes.sizes[g]], part);
    });
    decoder.Next(classes, n, symbols);
    for_groups(start, n, &group, [&](size_t g, size_t at, size_t part) {
      if (g != values_group) {
        values += size;
        size = palettes.sizes[g] + size_t{1};
        if (params.flags & kFromZero) {
          first = static_cast<uint8_t>(Negative(values, size));
        }
        values_group = g;
      }
      uint8_t highest = 0;
      for (size_t i = at; i < at + part; ++i) {
        const auto rank = static_cast<uint8_t>(symbols[i] + first);
        highest = std::max(highest, rank);
        elements[i] = values[rank];
      }
      ok &= highest < size;
    });
    std::memcpy(out.data() + start * sizeof(Element), elements,
                n * sizeof(Element));
  }
  if (!ok) return DataLoss("palette block has an element without a value");
  return decoder.Finish();
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("palette block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  if (out.size() % params.width != 0) {
    return DataLoss("palette block of ", out.size(), " bytes has no whole ",
                    "number of elements of ", params.width, " bytes");
  }
  switch (params.width) {
    case 1:
      return DecodeElements<uint8_t>(params, coded, out, scratch);
    case 2:
      return DecodeElements<uint16_t>(params, coded, out, scratch);
    case 4:
      return DecodeElements<uint32_t>(params, coded, out, scratch);
    default:
      return DecodeElements<uint64_t>(params, coded, out, scratch);
  }
}

}  // namespace

extern const Decoder kPaletteDecoder = {
    .id = 13, .name = "palette", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
