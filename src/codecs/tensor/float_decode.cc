// Codec 5, float: exponents and the top of mantissas by rANS, the rest in
// planes. Format: format-spec/codecs/5-float.md.
#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "codecs/tensor/bit_planes_decode.h"
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
  size_t table_count = 0;  // 1 to kMaxTables
  std::unique_ptr<kernels::RansDecodeTable[]> tables;
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
  params->table_count = tables;
  params->tables =
      std::make_unique_for_overwrite<kernels::RansDecodeTable[]>(tables);
  for (size_t t = 0; t < tables; ++t) {
    entropy::Frequencies frequencies{};
    uint64_t left = kSlots;
    for (size_t s = 0; s < symbols; ++s) {
      ASSIGN_OR_RETURN(const uint64_t frequency, reader.Varint(left));
      frequencies[s] = static_cast<uint16_t>(frequency);
      left -= frequency;
    }
    frequencies[symbols] = static_cast<uint16_t>(left);
    entropy::BuildDecodeTable(frequencies, keys, &params->tables[t],
                              kernels::Best().reads_slots);
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return params;
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
  if (params.table_count > 1) {
    ASSIGN_OR_RETURN(*selectors, reader.Bytes((shape.chunks + 3) / 4));
    for (size_t c = 0; c < selectors->size() * 4; ++c) {
      const unsigned selector = ((*selectors)[c / 4] >> (c % 4 * 2)) & 3;
      if (selector >= (c < shape.chunks ? params.table_count : 1)) {
        return reader.Error("selector ", selector, " of chunk ", c, ", of ",
                            shape.chunks, " with ", params.table_count,
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

  ASSIGN_OR_RETURN(PlaneReader planes,
                   PlaneReader::Start(kind.planes, shape.groups, reader,
                                      &scratch.buffers[0], scratch));
  RETURN_IF_ERROR(reader.ExpectEnd());

  // Whole chunks of four streams have a kernel of their own, the rest goes
  // step by step.
  const kernels::Table& kernel = kernels::Best();
  const bool wide = kind.element_size == 4;
  const size_t whole =
      shape.streams == kernels::kMaxStreams ? shape.count / kChunk : 0;
  constexpr size_t kBatch = 4;  // chunks whose halves are joined at a time
  alignas(64) uint16_t keys[kChunk] = {};
  alignas(64) uint16_t units[kBatch * kChunk] = {};
  alignas(64) uint16_t low[kBatch * kChunk];
  bool ok = true;
  for (size_t c = 0; c < shape.chunks && ok;) {
    uint8_t* const to = out.data() + c * kChunk * kind.element_size;
    const size_t first = c * (kChunk / kGroup);
    size_t count;
    if (c < whole) {
      const size_t chunks = wide ? std::min(whole - c, kBatch) : whole - c;
      kernels::PlaneRef high[kMaxPlanes];
      for (size_t p = kind.low_planes(); p < kind.planes.size(); ++p) {
        high[p - kind.low_planes()] = planes.Ref(p, first);
      }
      ok = kernel.decode_units(streams.state, params.tables.get(),
                               selectors.empty() ? nullptr : &selectors[c / 4],
                               kind.unit_kind, high, chunks,
                               coded.data() + coded.size(),
                               wide ? reinterpret_cast<uint8_t*>(units) : to);
      count = chunks * kChunk;
      c += chunks;
    } else {
      count = shape.ChunkCount(c);
      const size_t selector =
          selectors.empty() ? 0 : (selectors[c / 4] >> (c % 4 * 2)) & 3;
      ok = kernel.rans_decode(streams.state, shape.streams,
                              params.tables[selector], keys,
                              shape.ChunkSteps(c));
      kernel.place_keys(keys, count, kind.key_shift, units);
      planes.Insert(first, PlaneGroups(count), units, nullptr);
      if (!wide) std::memcpy(to, units, count * sizeof *units);
      ++c;
    }
    if (wide) {
      std::memset(low, 0, sizeof low);
      planes.Insert(first, PlaneGroups(count), nullptr, low);
      kernel.join_halves(low, units, count, to);
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
