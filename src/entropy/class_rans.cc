#include "entropy/class_rans.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/log2.h"
#include "entropy/bits.h"
#include "entropy/rans_tables.h"

namespace zipllm::entropy {
namespace {

using kernels::kLanes;
using kernels::kMaxStreams;
using kernels::kSlots;
using kernels::kStateLow;

int StreamsOf(size_t count) { return count >= kFourStreams ? 4 : 1; }

bool IsPresent(const ByteFrequencies& table) {
  return std::any_of(table.begin(), table.end(),
                     [](uint16_t frequency) { return frequency != 0; });
}

/// How tables are coded; drives the writer and the reader alike. A frequency is
/// told by its difference to that of the table before (in the first table: of
/// the symbol before), in a code that adapts itself by how large that is.
class TableModel {
 public:
  AdaptiveRice& For(uint32_t expected) {
    return codes_[std::bit_width(expected)];
  }

 private:
  std::array<AdaptiveRice, kernels::kProbabilityBits + 2> codes_;
};

}  // namespace

ByteFrequencies NormalizeBytes(const ByteCounts& counts) {
  std::array<uint64_t, 256> wide;
  std::copy(counts.begin(), counts.end(), wide.begin());
  ByteFrequencies frequencies;
  Normalize(wide, frequencies);
  return frequencies;
}

uint64_t EntropyCost(const ByteCounts& counts) {
  uint32_t total = 0;
  uint64_t sum = 0;
  for (uint32_t count : counts) {
    if (count == 0) continue;
    total += count;
    sum += uint64_t{count} * Log2Q16(count);
  }
  return total == 0 ? 0 : uint64_t{total} * Log2Q16(total) - sum;
}

uint64_t CodingCost(const ByteCounts& counts,
                    const ByteFrequencies& frequencies) {
  uint64_t cost = 0;
  for (size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] == 0) continue;
    cost += uint64_t{counts[s]} * ((uint32_t{kernels::kProbabilityBits} << 16) -
                                   Log2Q16(frequencies[s]));
  }
  return cost;
}

void WriteClassFrequencies(const ClassFrequencies& tables, Buffer* out) {
  Buffer coded;
  BitWriter writer(&coded);
  writer.Put(static_cast<uint32_t>(tables.size() - 1), 6);

  // Runs of symbols that occur nowhere and of such that do, by turns.
  std::array<bool, 256> used{};
  for (const ByteFrequencies& table : tables) {
    for (size_t s = 0; s < used.size(); ++s) used[s] |= table[s] != 0;
  }
  AdaptiveRice runs;
  bool in_use = false;
  for (size_t s = 0; s < used.size(); in_use = !in_use) {
    const size_t start = s;
    while (s < used.size() && used[s] == in_use) ++s;
    runs.Write(static_cast<uint32_t>(s - start), &writer);
  }

  TableModel model;
  const ByteFrequencies* before = nullptr;
  for (const ByteFrequencies& table : tables) {
    writer.Put(IsPresent(table), 1);
    if (!IsPresent(table)) continue;
    uint32_t expected = 0;
    for (size_t s = 0; s < used.size(); ++s) {
      if (!used[s]) continue;
      if (before != nullptr) expected = (*before)[s];
      model.For(expected).Write(
          ZigZag(int32_t{table[s]} - static_cast<int32_t>(expected)), &writer);
      expected = table[s];
    }
    before = &table;
  }
  writer.Finish();
  ByteWriter(out).Varint(coded.size());
  out->Append(coded.span());
}

absl::StatusOr<ClassFrequencies> ParseClassFrequencies(ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  BitReader bits(coded);
  ClassFrequencies tables(bits.Get(6) + 1);

  std::array<bool, 256> used{};
  AdaptiveRice runs;
  bool in_use = false;
  for (size_t s = 0; s < used.size(); in_use = !in_use) {
    const uint32_t run = runs.Read(&bits);
    if (run > used.size() - s || (run == 0 && (s > 0 || in_use))) {
      return reader.Error("a run of ", run, " symbols after ", s);
    }
    std::fill_n(used.begin() + static_cast<std::ptrdiff_t>(s), run, in_use);
    s += run;
  }

  TableModel model;
  const ByteFrequencies* before = nullptr;
  for (ByteFrequencies& table : tables) {
    table.fill(0);
    if (bits.Get(1) == 0) continue;
    uint32_t expected = 0;
    uint32_t sum = 0;
    for (size_t s = 0; s < used.size(); ++s) {
      if (!used[s]) continue;
      if (before != nullptr) expected = (*before)[s];
      const int64_t frequency =
          int64_t{UnZigZag(model.For(expected).Read(&bits))} + expected;
      if (frequency < 0 || frequency > static_cast<int64_t>(kSlots - sum)) {
        return reader.Error("frequencies of a class do not add up to ", kSlots);
      }
      table[s] = static_cast<uint16_t>(frequency);
      expected = table[s];
      sum += table[s];
    }
    if (sum != kSlots) {
      return reader.Error("frequencies of a class add up to ", sum, ", not ",
                          kSlots);
    }
    before = &table;
  }
  if (!bits.AtEnd()) {
    return reader.Error("bits of frequencies do not end where they should");
  }
  return tables;
}

ClassDecodeTables::ClassDecodeTables(const ClassFrequencies& tables)
    : slots_(tables.size() * kSlots) {
  uint32_t* slot = slots_.data();
  for (const ByteFrequencies& table : tables) {
    uint32_t* const end = slot + kSlots;
    for (uint32_t s = 0; s < table.size(); ++s) {
      const uint32_t entry = (table[s] - 1u) | s << 24;
      for (uint32_t rank = 0; rank < table[s]; ++rank) {
        *slot++ = entry | rank << kernels::kProbabilityBits;
      }
    }
    slot = end;
  }
}

ClassEncodeTables::ClassEncodeTables(const ClassFrequencies& tables) {
  ranges_.reserve(tables.size() * 256);
  for (const ByteFrequencies& table : tables) {
    uint32_t first = 0;
    for (uint16_t frequency : table) {
      ranges_.push_back(((frequency - 1u) & (kSlots - 1)) |
                        first << kernels::kProbabilityBits);
      first += frequency;
    }
  }
}

void EncodeClassRans(const ClassEncodeTables& tables, const uint8_t* symbols,
                     const uint8_t* classes, size_t count, Buffer* scratch,
                     Buffer* out) {
  const kernels::Table& kernel = kernels::Best();
  const auto streams = static_cast<size_t>(StreamsOf(count));
  const size_t step = kLanes * streams;
  const size_t whole = count / step;
  const size_t rest = count % step;
  const size_t room = 2 * kLanes * (whole + 1);
  scratch->Resize(streams * room);
  uint8_t* words_end[kMaxStreams];
  for (size_t s = 0; s < streams; ++s) {
    words_end[s] = scratch->data() + (s + 1) * room;
  }
  alignas(64) uint32_t states[kMaxStreams * kLanes];
  std::fill(std::begin(states), std::end(states), kStateLow);
  if (rest != 0) {  // the last step repeats the last symbol
    uint8_t last_symbols[kMaxStreams * kLanes];
    uint8_t last_classes[kMaxStreams * kLanes];
    const auto fill = [&](const uint8_t* from, uint8_t* to) {
      std::memcpy(to, from + whole * step, rest);
      std::memset(to + rest, from[count - 1], step - rest);
    };
    fill(symbols, last_symbols);
    fill(classes, last_classes);
    kernel.class_rans_encode(states, static_cast<int>(streams), tables.ranges(),
                             last_classes, last_symbols, 1, words_end);
  }
  kernel.class_rans_encode(states, static_cast<int>(streams), tables.ranges(),
                           classes, symbols, whole, words_end);

  ByteWriter writer(out);
  const auto words = [&](size_t s) {
    return ByteSpan{words_end[s], scratch->data() + (s + 1) * room};
  };
  for (size_t s = 0; s < streams; ++s) writer.Varint(words(s).size() / 2);
  for (size_t s = 0; s < streams; ++s) {
    writer.Bytes(
        {reinterpret_cast<const uint8_t*>(states + s * kLanes), 4 * kLanes});
    writer.Bytes(words(s));
  }
}

absl::StatusOr<ClassRansDecoder> ClassRansDecoder::Start(
    const ClassDecodeTables& tables, size_t count, ByteReader& reader) {
  ClassRansDecoder decoder;
  decoder.tables_ = &tables;
  decoder.streams_ = StreamsOf(count);
  const auto streams = static_cast<size_t>(decoder.streams_);
  const size_t step = kLanes * streams;
  const size_t most = (count + step - 1) / step * kLanes;
  uint64_t words[kMaxStreams];
  for (size_t s = 0; s < streams; ++s) {
    ASSIGN_OR_RETURN(words[s], reader.Varint(most));
  }
  for (size_t s = 0; s < streams; ++s) {
    kernels::ClassStream& stream = decoder.state_[s];
    ASSIGN_OR_RETURN(const ByteSpan states, reader.Bytes(4 * kLanes));
    ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(2 * words[s]));
    std::memcpy(stream.states, states.data(), states.size());
    stream.words = bytes.data();
    stream.words_end = bytes.data() + bytes.size();
  }
  return decoder;
}

void ClassRansDecoder::Next(const uint8_t* classes, size_t count,
                            uint8_t* symbols) {
  if (count == 0) return;
  uint8_t highest = 0;
  for (size_t i = 0; i < count; ++i) highest = std::max(highest, classes[i]);
  if (highest >= tables_->classes()) {
    std::memset(symbols, 0, count);
    ok_ = false;
    return;
  }
  const kernels::Table& kernel = kernels::Best();
  const size_t step = kLanes * static_cast<size_t>(streams_);
  const size_t whole = count / step;
  const size_t rest = count % step;
  ok_ &= kernel.class_rans_decode(state_.data(), streams_, tables_->slots(),
                                  classes, symbols, whole);
  if (rest != 0) {
    uint8_t last_classes[kMaxStreams * kLanes];
    uint8_t last_symbols[kMaxStreams * kLanes];
    std::memcpy(last_classes, classes + whole * step, rest);
    std::memset(last_classes + rest, classes[count - 1], step - rest);
    ok_ &= kernel.class_rans_decode(state_.data(), streams_, tables_->slots(),
                                    last_classes, last_symbols, 1);
    std::memcpy(symbols + whole * step, last_symbols, rest);
  }
}

absl::Status ClassRansDecoder::Finish() const {
  bool done = ok_;
  for (int s = 0; s < streams_; ++s) {
    const kernels::ClassStream& stream = state_[static_cast<size_t>(s)];
    done &= stream.words == stream.words_end &&
            std::all_of(std::begin(stream.states), std::end(stream.states),
                        [](uint32_t state) { return state == kStateLow; });
  }
  if (!done) return DataLoss("rANS streams do not end where they should");
  return absl::OkStatus();
}

absl::Status DecodeClassRans(const ClassDecodeTables& tables,
                             const uint8_t* classes, size_t count,
                             ByteReader& reader, uint8_t* symbols) {
  ASSIGN_OR_RETURN(ClassRansDecoder decoder,
                   ClassRansDecoder::Start(tables, count, reader));
  decoder.Next(classes, count, symbols);
  return decoder.Finish();
}

}  // namespace zipllm::entropy
