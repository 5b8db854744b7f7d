// Codec 5, float: exponents and the top of mantissas by rANS, the rest in
// planes. Format: format-spec/codecs/5-float.md.
#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "codecs/bytes/zstd_decode.h"
#include "codecs/tensor/float_format.h"
#include "entropy/rans_tables.h"
#include "kernels/kernels.h"

namespace zipllm::codecs {
namespace {

using namespace float_format;
using kernels::kGroup;
using kernels::kKeyBare;
using kernels::kKeyEscape;
using kernels::kLanes;
using kernels::kSlots;
using kernels::kStateLow;

struct Params final : DecodeParams {
  const Kind* kind = nullptr;
  std::vector<kernels::RansDecodeTable> tables;  // 1 to kMaxTables
};

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto params = std::make_unique<Params>();
  ByteReader reader(bytes, "float parameters");
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  if (number < 1 || number > kKinds.size()) {
    return reader.Error("unknown kind of elements ", int{number});
  }
  params->kind = &kKinds[number - 1];

  // The symbols: keys of the listed exponents, ascending, then the escape.
  ASSIGN_OR_RETURN(const uint8_t listed, reader.Le<uint8_t>());
  if (listed > kMaxExponents) {
    return reader.Error(int{listed}, " exponents; ", kMaxExponents,
                        " is the most");
  }
  ASSIGN_OR_RETURN(const ByteSpan exponents, reader.Bytes(listed));
  ASSIGN_OR_RETURN(const ByteSpan joined, reader.Bytes((listed + 7u) / 8));
  std::array<uint16_t, kernels::kMaxSymbols> keys{};
  size_t symbols = 0;
  for (size_t i = 0; i < listed; ++i) {
    if (exponents[i] > params->kind->max_exponent() ||
        (i > 0 && exponents[i] <= exponents[i - 1])) {
      return reader.Error("exponents do not ascend to ",
                          params->kind->max_exponent(), " at most");
    }
    const bool is_joined = (joined[i / 8] >> (i % 8)) & 1;
    const size_t count = is_joined ? 4 : 1;
    if (symbols + count > kMaxExponents) {
      return reader.Error("more than ", kernels::kMaxSymbols, " symbols");
    }
    for (size_t j = 0; j < count; ++j) {
      const size_t key = size_t{exponents[i]} << 2 | j;
      keys[symbols++] =
          static_cast<uint16_t>(key | (is_joined ? 0u : kKeyBare));
    }
  }
  if (listed % 8 != 0 && joined[listed / 8] >> (listed % 8) != 0) {
    return reader.Error("bits after the last exponent's are not 0");
  }
  keys[symbols] = kKeyBare | kKeyEscape;

  ASSIGN_OR_RETURN(const uint8_t tables, reader.Le<uint8_t>());
  if (tables < 1 || tables > kMaxTables) {
    return reader.Error(int{tables}, " tables; 1 to ", kMaxTables,
                        " are possible");
  }
  params->tables.resize(tables);
  for (kernels::RansDecodeTable& table : params->tables) {
    entropy::Frequencies frequencies{};
    uint64_t left = kSlots;
    for (size_t s = 0; s < symbols; ++s) {
      ASSIGN_OR_RETURN(const uint64_t frequency, reader.Varint(left));
      frequencies[s] = static_cast<uint16_t>(frequency);
      left -= frequency;
    }
    frequencies[symbols] = static_cast<uint16_t>(left);
    entropy::BuildDecodeTable(frequencies, keys, &table);
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
}

/// One plane of a block, ready to be inserted.
struct PlaneSource {
  const uint8_t* groups = nullptr;  // the next group; null: all zero
  const uint8_t* bitmap = nullptr;  // which groups are there; null: all
};

/// Reads a plane of `count` groups; `decoded` has room for it.
absl::Status ReadPlane(const Plane& plane, size_t count, ByteReader& reader,
                       MutableByteSpan decoded, Scratch& scratch,
                       PlaneSource* source) {
  ASSIGN_OR_RETURN(const uint8_t mode, reader.Le<uint8_t>());
  switch (mode) {
    case kZero:
      return absl::OkStatus();
    case kRaw: {
      ASSIGN_OR_RETURN(const ByteSpan bytes,
                       reader.Bytes(count * plane.group_bytes()));
      source->groups = bytes.data();
      return absl::OkStatus();
    }
    case kRuns: {
      ASSIGN_OR_RETURN(const ByteSpan bitmap, reader.Bytes((count + 7) / 8));
      if (count % 8 != 0 && bitmap.back() >> (count % 8) != 0) {
        return reader.Error("bits after the last group's are not 0");
      }
      size_t present = 0;
      for (uint8_t byte : bitmap) present += std::popcount(byte);
      ASSIGN_OR_RETURN(const ByteSpan bytes,
                       reader.Bytes(present * plane.group_bytes()));
      source->groups = bytes.data();
      source->bitmap = bitmap.data();
      return absl::OkStatus();
    }
    case kZstd: {
      ASSIGN_OR_RETURN(const uint64_t length,
                       reader.Varint(reader.remaining()));
      ASSIGN_OR_RETURN(const ByteSpan frame, reader.Bytes(length));
      source->groups = decoded.data();
      return Annotate(DecodeZstdFrame(frame, decoded, scratch),
                      "float block, plane ", int{plane.width}, "@",
                      int{plane.shift}, ": ");
    }
    default:
      return reader.Error("unknown mode of plane ", int{mode});
  }
}

/// Inserts the groups `first` to `first + count` of a plane.
void InsertGroups(const kernels::Table& kernel, const Plane& plane,
                  PlaneSource& source, size_t first, size_t count,
                  uint16_t* values) {
  if (source.bitmap == nullptr) {
    kernel.insert_plane(values, count, plane.width, plane.shift, source.groups);
    source.groups += count * plane.group_bytes();
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    const size_t group = first + i;
    if (((source.bitmap[group / 8] >> (group % 8)) & 1) == 0) continue;
    kernel.insert_plane(values + i * kGroup, 1, plane.width, plane.shift,
                        source.groups);
    source.groups += plane.group_bytes();
  }
}

/// The rANS streams of a block.
struct Streams {
  kernels::RansStream state[kernels::kMaxStreams];
  ByteSpan extra[kernels::kMaxStreams];
  uint64_t extra_pairs[kernels::kMaxStreams];
};

absl::Status ReadStreams(const Shape& shape, const Params& params,
                         ByteReader& reader, Streams* streams,
                         ByteSpan* selectors) {
  struct Lengths {
    uint64_t words, pairs, escapes;
  } lengths[kernels::kMaxStreams];
  const uint64_t most = shape.steps * kLanes;
  for (int s = 0; s < shape.streams; ++s) {
    ASSIGN_OR_RETURN(lengths[s].words, reader.Varint(most));
    ASSIGN_OR_RETURN(lengths[s].pairs, reader.Varint(most));
    ASSIGN_OR_RETURN(lengths[s].escapes, reader.Varint(most));
  }
  if (params.tables.size() > 1) {
    ASSIGN_OR_RETURN(*selectors, reader.Bytes((shape.chunks + 3) / 4));
    for (size_t c = 0; c < selectors->size() * 4; ++c) {
      const unsigned selector = ((*selectors)[c / 4] >> (c % 4 * 2)) & 3;
      if (selector >= (c < shape.chunks ? params.tables.size() : 1)) {
        return reader.Error("selector ", selector, " of chunk ", c, ", of ",
                            shape.chunks, " with ", params.tables.size(),
                            " tables");
      }
    }
  }
  for (int s = 0; s < shape.streams; ++s) {
    kernels::RansStream& stream = streams->state[s];
    ASSIGN_OR_RETURN(const ByteSpan states, reader.Bytes(4 * kLanes));
    ASSIGN_OR_RETURN(const ByteSpan words, reader.Bytes(2 * lengths[s].words));
    ASSIGN_OR_RETURN(const ByteSpan extra,
                     reader.Bytes((lengths[s].pairs + 3) / 4));
    ASSIGN_OR_RETURN(const ByteSpan escapes, reader.Bytes(lengths[s].escapes));
    if (lengths[s].pairs % 4 != 0 &&
        extra.back() >> (lengths[s].pairs % 4 * 2) != 0) {
      return reader.Error("bits after the last extra bits are not 0");
    }
    for (uint8_t exponent : escapes) {
      if (exponent > params.kind->max_exponent()) {
        return reader.Error("escaped exponent ", int{exponent}, "; ",
                            params.kind->max_exponent(), " is the most");
      }
    }
    std::memcpy(stream.states, states.data(), states.size());
    stream.words = words.data();
    stream.words_end = words.data() + words.size();
    stream.extra = extra.data();
    stream.extra_end = extra.data() + extra.size();
    stream.extra_bit = 0;
    stream.escapes = escapes.data();
    stream.escapes_end = escapes.data() + escapes.size();
    streams->extra_pairs[s] = lengths[s].pairs;
  }
  return absl::OkStatus();
}

/// Whether the streams ended as the encoder began.
bool AreDone(const Shape& shape, const Streams& streams) {
  for (int s = 0; s < shape.streams; ++s) {
    const kernels::RansStream& stream = streams.state[s];
    if (stream.words != stream.words_end ||
        stream.escapes != stream.escapes_end ||
        stream.extra_bit != 2 * streams.extra_pairs[s] ||
        std::any_of(std::begin(stream.states), std::end(stream.states),
                    [](uint32_t state) { return state != kStateLow; })) {
      return false;
    }
  }
  return true;
}

absl::Status Decode(const DecodeParams* decode_params, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("float block has no parameters");
  }
  const Params& params = *static_cast<const Params*>(decode_params);
  const Kind& kind = *params.kind;
  if (out.size() % kind.element_size != 0) {
    return DataLoss("float block of ", out.size(), " bytes has no whole number",
                    " of elements of ", int{kind.element_size}, " bytes");
  }
  const Shape shape(out.size() / kind.element_size);
  ByteReader reader(coded, "float block");
  Streams streams;
  ByteSpan selectors;
  RETURN_IF_ERROR(ReadStreams(shape, params, reader, &streams, &selectors));

  // Planes that are compressed once more are decoded whole.
  Buffer& decoded = scratch.buffers[0];
  size_t plane_bytes = 0;
  for (const Plane& plane : kind.planes) {
    plane_bytes += shape.groups * plane.group_bytes();
  }
  decoded.Resize(plane_bytes);
  PlaneSource sources[kMaxPlanes];
  size_t offset = 0;
  for (size_t p = 0; p < kind.planes.size(); ++p) {
    const size_t size = shape.groups * kind.planes[p].group_bytes();
    RETURN_IF_ERROR(ReadPlane(kind.planes[p], shape.groups, reader,
                              decoded.mutable_span().subspan(offset, size),
                              scratch, &sources[p]));
    offset += size;
  }
  RETURN_IF_ERROR(reader.ExpectEnd());

  const kernels::Table& kernel = kernels::Best();
  const bool wide = kind.element_size == 4;
  alignas(64) uint16_t keys[kChunk] = {};
  alignas(64) uint16_t units[kChunk] = {};
  alignas(64) uint16_t low[kChunk] = {};
  bool ok = true;
  for (size_t c = 0; c < shape.chunks; ++c) {
    const size_t count = shape.ChunkCount(c);
    const size_t groups = (count + kGroup - 1) / kGroup;
    const size_t selector =
        selectors.empty() ? 0 : (selectors[c / 4] >> (c % 4 * 2)) & 3;
    ok &=
        kernel.rans_decode(streams.state, shape.streams,
                           params.tables[selector], keys, shape.ChunkSteps(c));
    kernel.place_keys(keys, count, kind.key_shift, units);
    if (wide) std::memset(low, 0, sizeof low);
    for (size_t p = 0; p < kind.planes.size(); ++p) {
      if (sources[p].groups == nullptr) continue;
      const Plane& plane = kind.planes[p];
      InsertGroups(kernel, plane, sources[p], c * (kChunk / kGroup), groups,
                   plane.low ? low : units);
    }
    uint8_t* to = out.data() + c * kChunk * kind.element_size;
    if (wide) {
      kernel.join_halves(low, units, count, to);
    } else {
      std::memcpy(to, units, count * sizeof *units);
    }
  }
  if (!ok || !AreDone(shape, streams)) {
    return reader.Error("rANS streams do not end where they should");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kFloatDecoder = {
    .id = 5, .name = "float", .parse = Parse, .decode = Decode};

}  // namespace zipllm::codecs
