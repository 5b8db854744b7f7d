// Every target that this CPU has against the scalar table, which is the
// definition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "entropy/rans_tables.h"
#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

using entropy::Frequencies;
using Random = std::mt19937;

size_t Below(Random& random, size_t bound) { return random() % bound; }

/// A heap array whose ends are the allocation's, so that a sanitizer sees the
/// first byte read or written beyond; `offset` elements in front are spare, to
/// try other alignments.
template <typename T>
class Exact {
 public:
  explicit Exact(size_t size, size_t offset = 0)
      : size_(size), offset_(offset), data_(new T[size + offset]()) {}
  explicit Exact(const std::vector<T>& values, size_t offset = 0)
      : Exact(values.size(), offset) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return data_.get() + offset_; }
  T* end() { return data() + size_; }
  std::vector<T> ToVector() { return {data(), end()}; }

 private:
  size_t size_;
  size_t offset_;
  std::unique_ptr<T[]> data_;
};

template <typename T>
std::vector<T> RandomValues(Random& random, size_t size) {
  std::vector<T> values(size);
  for (T& value : values) value = static_cast<T>(random());
  return values;
}

class SimdTest : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    table_ = Find(GetParam());
    if (table_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }
  const Table& scalar_ = *ScalarTable();
  const Table* table_ = nullptr;
  Random random_{20240607};
};

std::string TargetName(const testing::TestParamInfo<Target>& target) {
  constexpr const char* kNames[] = {"Scalar", "Neon", "Avx2", "Avx512"};
  return kNames[static_cast<size_t>(target.param)];
}
INSTANTIATE_TEST_SUITE_P(Targets, SimdTest,
                         testing::Values(Target::kScalar, Target::kNeon,
                                         Target::kAvx2, Target::kAvx512),
                         TargetName);

// ---- rANS ----

/// A distribution of symbols, with the keys they stand for.
struct Model {
  std::string name;
  Frequencies frequencies;
  std::array<uint16_t, kMaxSymbols> keys;
};

std::array<uint16_t, kMaxSymbols> PlainKeys() {
  std::array<uint16_t, kMaxSymbols> keys;
  for (size_t i = 0; i < kMaxSymbols; ++i) {
    keys[i] = static_cast<uint16_t>(31 * i);
  }
  return keys;
}

/// Every second symbol bare, the last one an escape.
std::array<uint16_t, kMaxSymbols> MixedKeys() {
  std::array<uint16_t, kMaxSymbols> keys = PlainKeys();
  for (size_t i = 1; i < kMaxSymbols; i += 2) {
    keys[i] = static_cast<uint16_t>((i << 2) | kKeyBare);
  }
  keys[kMaxSymbols - 1] = kKeyBare | kKeyEscape;
  return keys;
}

std::array<uint16_t, kMaxSymbols> SameKeys(uint16_t key) {
  std::array<uint16_t, kMaxSymbols> keys;
  keys.fill(key);
  return keys;
}

std::vector<Model> Models() {
  Frequencies uniform;
  uniform.fill(kSlots / kMaxSymbols);
  Frequencies single{};
  single[17] = kSlots;
  Frequencies pair{};
  pair[3] = 1;
  pair[31] = kSlots - 1;
  entropy::Counts counts{};
  for (size_t i = 0; i < kMaxSymbols; ++i) {
    counts[i] = uint64_t{1} << (40 - std::min<size_t>(i, 30));
  }
  const Frequencies skewed = entropy::Normalize(counts);
  Frequencies reversed = skewed;
  std::reverse(reversed.begin(), reversed.end());
  return {{"uniform", uniform, PlainKeys()},
          {"single", single, PlainKeys()},
          {"pair", pair, MixedKeys()},
          {"skewed", skewed, PlainKeys()},
          {"skewed, bare", skewed, MixedKeys()},
          {"skewed, escapes", reversed, MixedKeys()},
          {"uniform, bare", uniform, SameKeys(kKeyBare)},
          {"uniform, escapes", uniform, SameKeys(kKeyBare | kKeyEscape)}};
}

/// What the decoder of some streams gets.
struct Coded {
  std::vector<uint32_t> states;  // streams x kLanes
  std::vector<std::vector<uint8_t>> words, extra, escapes;
};

/// What decoding leaves.
struct Decoded {
  bool complete;
  std::vector<uint16_t> keys;
  std::vector<uint32_t> states;
  std::vector<size_t> words_left, escapes_left;
  std::vector<uint64_t> extra_bits;
  bool operator==(const Decoded&) const = default;
};

/// Decodes in calls of at most `call_steps`. All memory is of exact size.
Decoded Decode(const Table& kernels, const RansDecodeTable& table,
               const Coded& coded, size_t steps, size_t call_steps) {
  const size_t streams = coded.words.size();
  std::vector<Exact<uint8_t>> words, extra, escapes;
  std::vector<RansStream> state(streams);
  for (size_t s = 0; s < streams; ++s) {
    std::copy_n(&coded.states[s * kLanes], kLanes, state[s].states);
    words.emplace_back(coded.words[s], s);
    extra.emplace_back(coded.extra[s], s);
    escapes.emplace_back(coded.escapes[s], s);
    state[s].words = words[s].data();
    state[s].words_end = words[s].end();
    state[s].extra = extra[s].data();
    state[s].extra_end = extra[s].end();
    state[s].extra_bit = 0;
    state[s].escapes = escapes[s].data();
    state[s].escapes_end = escapes[s].end();
  }
  Exact<uint16_t> keys(steps * streams * kLanes, 1);
  Decoded decoded;
  decoded.complete = true;
  for (size_t done = 0; done < steps; done += call_steps) {
    decoded.complete &=
        kernels.rans_decode(state.data(), static_cast<int>(streams), table,
                            keys.data() + done * streams * kLanes,
                            std::min(call_steps, steps - done));
  }
  decoded.keys = keys.ToVector();
  for (const RansStream& stream : state) {
    decoded.states.insert(decoded.states.end(), stream.states,
                          stream.states + kLanes);
    decoded.words_left.push_back(
        static_cast<size_t>(stream.words_end - stream.words));
    decoded.escapes_left.push_back(
        static_cast<size_t>(stream.escapes_end - stream.escapes));
    decoded.extra_bits.push_back(stream.extra_bit);
  }
  return decoded;
}

uint16_t LoadUnit(const std::vector<uint8_t>& units, size_t i) {
  uint16_t unit;
  std::memcpy(&unit, &units[2 * i], sizeof unit);
  return unit;
}

struct Symbols {
  std::vector<uint8_t> symbols;    // steps x streams x kLanes
  std::vector<uint16_t> expected;  // the keys they decode to
  Coded coded;                     // extra bits and escapes only
};

/// Symbols drawn by the model, with their extra bits and escapes.
Symbols Draw(Random& random, const Model& model, size_t streams, size_t steps) {
  Symbols drawn;
  std::vector<uint8_t> slots;
  for (size_t i = 0; i < kMaxSymbols; ++i) {
    slots.insert(slots.end(), model.frequencies[i], static_cast<uint8_t>(i));
  }
  drawn.coded.extra.resize(streams);
  drawn.coded.escapes.resize(streams);
  std::vector<size_t> extra_count(streams);
  for (size_t i = 0; i < steps * streams * kLanes; ++i) {
    const size_t s = i / kLanes % streams;
    const uint8_t symbol = slots[Below(random, slots.size())];
    drawn.symbols.push_back(symbol);
    uint32_t key = model.keys[symbol];
    if (key & kKeyBare) {
      const uint32_t bits = random() & 3;
      std::vector<uint8_t>& extra = drawn.coded.extra[s];
      if (extra_count[s] % 4 == 0) extra.push_back(0);
      extra.back() |= static_cast<uint8_t>(bits << 2 * (extra_count[s]++ % 4));
      if (key & kKeyEscape) {
        const uint8_t escape = static_cast<uint8_t>(random());
        drawn.coded.escapes[s].push_back(escape);
        key += uint32_t{escape} << 2;
      }
      key = (key & 1023) + bits;
    }
    drawn.expected.push_back(static_cast<uint16_t>(key));
  }
  return drawn;
}

/// Encodes by `kernels`, in calls of at most `call_steps`.
Coded Encode(const Table& kernels, const RansEncodeTable& table,
             const Symbols& drawn, size_t streams, size_t steps,
             size_t call_steps) {
  Coded coded = drawn.coded;
  coded.states.assign(streams * kLanes, kStateLow);
  std::vector<Exact<uint8_t>> room;
  std::vector<uint8_t*> ends;
  for (size_t s = 0; s < streams; ++s) {
    room.emplace_back(2 * steps * kLanes, s);
    ends.push_back(room[s].end());
  }
  Exact<uint8_t> symbols(drawn.symbols, 3);
  for (size_t left = steps; left > 0;) {
    const size_t now = std::min(call_steps, left);
    left -= now;
    kernels.rans_encode(coded.states.data(), static_cast<int>(streams), table,
                        symbols.data() + left * streams * kLanes, now,
                        ends.data());
  }
  for (size_t s = 0; s < streams; ++s) {
    coded.words.emplace_back(ends[s], room[s].end());
  }
  return coded;
}

class Tables {
 public:
  explicit Tables(const Model& model)
      : decode_(std::make_unique<RansDecodeTable>()),
        encode_(std::make_unique<RansEncodeTable>()) {
    entropy::BuildDecodeTable(model.frequencies, model.keys, decode_.get());
    entropy::BuildEncodeTable(model.frequencies, encode_.get());
  }
  const RansDecodeTable& decode() const { return *decode_; }
  const RansEncodeTable& encode() const { return *encode_; }

 private:
  std::unique_ptr<RansDecodeTable> decode_;
  std::unique_ptr<RansEncodeTable> encode_;
};

TEST_P(SimdTest, RansEncodesAsScalarAndDecodes) {
  for (const Model& model : Models()) {
    const Tables tables(model);
    for (size_t streams : {size_t{1}, kMaxStreams}) {
      for (size_t steps : {0, 1, 2, 7, 50, 300}) {
        for (size_t call_steps : {8, 1000}) {
          SCOPED_TRACE(model.name + ", streams " + std::to_string(streams) +
                       ", steps " + std::to_string(steps) + " by " +
                       std::to_string(call_steps));
          const Symbols drawn = Draw(random_, model, streams, steps);
          const Coded wanted =
              Encode(scalar_, tables.encode(), drawn, streams, steps, steps);
          const Coded coded = Encode(*table_, tables.encode(), drawn, streams,
                                     steps, call_steps);
          ASSERT_EQ(coded.states, wanted.states);
          ASSERT_EQ(coded.words, wanted.words);
          const Decoded decoded =
              Decode(*table_, tables.decode(), coded, steps, call_steps);
          ASSERT_TRUE(decoded.complete);
          ASSERT_EQ(decoded.keys, drawn.expected);
          ASSERT_THAT(decoded.words_left, testing::Each(0u));
          ASSERT_THAT(decoded.escapes_left, testing::Each(0u));
          ASSERT_THAT(decoded.states, testing::Each(kStateLow));
        }
      }
    }
  }
}

/// States anywhere in the range, not only where short runs lead.
TEST_P(SimdTest, RansEncodesFromAnyState) {
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    const Tables tables(model);
    const size_t count = kMaxStreams * kLanes;
    for (int round = 0; round < 200; ++round) {
      const Symbols drawn = Draw(random_, model, kMaxStreams, 1);
      std::vector<uint32_t> wanted(count);
      for (size_t i = 0; i < count; ++i) {
        // Near the multiples of the frequency, where quotients change.
        const uint64_t frequency = model.frequencies[drawn.symbols[i]];
        const uint64_t state =
            frequency * (random_() >> Below(random_, 20)) + Below(random_, 3);
        wanted[i] = static_cast<uint32_t>(
            std::clamp<uint64_t>(state - 1, kStateLow, 0xffffffff));
      }
      std::vector<uint32_t> states = wanted;
      Exact<uint8_t> wanted_room(2 * count), room(2 * count);
      uint8_t* wanted_ends[kMaxStreams];
      uint8_t* ends[kMaxStreams];
      for (size_t s = 0; s < kMaxStreams; ++s) {
        wanted_ends[s] = wanted_room.data() + 2 * kLanes * (s + 1);
        ends[s] = room.data() + 2 * kLanes * (s + 1);
      }
      scalar_.rans_encode(wanted.data(), kMaxStreams, tables.encode(),
                          drawn.symbols.data(), 1, wanted_ends);
      table_->rans_encode(states.data(), kMaxStreams, tables.encode(),
                          drawn.symbols.data(), 1, ends);
      ASSERT_EQ(states, wanted);
      for (size_t s = 0; s < kMaxStreams; ++s) {
        uint8_t* const end = room.data() + 2 * kLanes * (s + 1);
        uint8_t* const wanted_end = wanted_room.data() + 2 * kLanes * (s + 1);
        ASSERT_EQ(std::vector<uint8_t>(ends[s], end),
                  std::vector<uint8_t>(wanted_ends[s], wanted_end));
      }
    }
  }
}

/// Any states, words, extra bits and escapes, of any length.
TEST_P(SimdTest, RansDecodesGarbageAsScalar) {
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    const Tables tables(model);
    int failures = 0;
    for (int round = 0; round < 200; ++round) {
      const size_t streams = round % 2 == 0 ? 1 : kMaxStreams;
      const size_t steps = Below(random_, 20);
      Coded coded;
      coded.states = RandomValues<uint32_t>(random_, streams * kLanes);
      for (uint32_t& state : coded.states) {
        if (random_() % 8 == 0) state >>= Below(random_, 32);
      }
      for (size_t s = 0; s < streams; ++s) {
        coded.words.push_back(
            RandomValues<uint8_t>(random_, 2 * Below(random_, 300)));
        coded.extra.push_back(
            RandomValues<uint8_t>(random_, Below(random_, 100)));
        coded.escapes.push_back(
            RandomValues<uint8_t>(random_, Below(random_, 200)));
      }
      const Decoded wanted =
          Decode(scalar_, tables.decode(), coded, steps, 1000);
      const Decoded decoded = Decode(*table_, tables.decode(), coded, steps,
                                     1 + Below(random_, 20));
      ASSERT_EQ(decoded.keys, wanted.keys);
      ASSERT_TRUE(decoded == wanted);
      failures += !decoded.complete;
    }
    EXPECT_GT(failures, 0);
  }
}

/// One byte less of anything is seen, and nothing beyond is read.
TEST_P(SimdTest, RansNoticesWhatIsMissing) {
  const size_t steps = 40;
  int tried = 0;
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    const Tables tables(model);
    for (size_t streams : {size_t{1}, kMaxStreams}) {
      const Symbols drawn = Draw(random_, model, streams, steps);
      const Coded coded =
          Encode(scalar_, tables.encode(), drawn, streams, steps, steps);
      for (auto part : {&Coded::words, &Coded::extra, &Coded::escapes}) {
        const int unit = part == &Coded::words ? 2 : 1;
        for (size_t s = 0; s < streams; ++s) {
          Coded cut = coded;
          std::vector<uint8_t>& bytes = (cut.*part)[s];
          if (bytes.empty()) continue;
          bytes.erase(bytes.end() - unit, bytes.end());
          ++tried;
          const Decoded decoded =
              Decode(*table_, tables.decode(), cut, steps, steps);
          EXPECT_FALSE(decoded.complete);
          EXPECT_TRUE(decoded ==
                      Decode(scalar_, tables.decode(), cut, steps, steps));
        }
      }
    }
  }
  EXPECT_GT(tried, 20);
}

/// Keys and planes decode to units as by the kernels for each, with as little
/// to read behind the words and extra bits as there can be, or more.
TEST_P(SimdTest, DecodesUnits) {
  for (const Model& model : Models()) {
    for (const UnitKind kind : {UnitKind::kBf16, UnitKind::kFp16}) {
      SCOPED_TRACE(model.name +
                   (kind == UnitKind::kBf16 ? ", BF16" : ", FP16"));
      const bool is_bf16 = kind == UnitKind::kBf16;
      Model cut = model;  // to keys that the kind has
      for (uint16_t& key : cut.keys) {
        key &= static_cast<uint16_t>((is_bf16 ? ~0x3C00 : ~0x3F80));
      }
      const Tables first(cut);
      std::reverse(cut.frequencies.begin(), cut.frequencies.end());
      const Tables second(cut);
      const std::vector<RansDecodeTable> tables = {first.decode(),
                                                   second.decode()};
      constexpr size_t kSteps = kUnitChunk / (kLanes * kMaxStreams);
      for (const size_t chunks : {0, 1, 2, 7}) {
        // One stream after the other, and in each words before extra bits.
        const Symbols drawn =
            Draw(random_, model, kMaxStreams, chunks * kSteps);
        Coded coded = Encode(scalar_, first.encode(), drawn, kMaxStreams,
                             chunks * kSteps, kSteps);
        for (auto& escapes : coded.escapes) {
          for (uint8_t& exponent : escapes) exponent &= 31;  // all kinds' most
        }
        for (const size_t behind : {0, 100, 100000}) {
          std::vector<uint8_t> bytes;
          for (size_t s = 0; s < kMaxStreams; ++s) {
            for (const auto* part : {&coded.words[s], &coded.extra[s]}) {
              bytes.insert(bytes.end(), part->begin(), part->end());
            }
          }
          bytes.resize(bytes.size() + behind, 0xAA);
          Exact<uint8_t> memory(bytes);
          std::vector<Exact<uint8_t>> planes;
          std::vector<PlaneRef> refs;
          for (const int width :
               is_bf16 ? std::vector{4, 1, 1} : std::vector{1, 1, 1, 4, 1, 1}) {
            const size_t stride = random_() % 4 == 0
                                      ? 0
                                      : kGroup / 8 * static_cast<size_t>(width);
            planes.emplace_back(RandomValues<uint8_t>(
                random_, std::max<size_t>(kGroup, chunks * kSteps * stride)));
            refs.push_back({planes.back().data(), stride});
          }
          const auto decode = [&](const Table& kernels,
                                  const uint8_t* selectors) {
            std::vector<RansStream> streams(kMaxStreams);
            uint8_t* at = memory.data();
            for (size_t s = 0; s < kMaxStreams; ++s) {
              std::copy_n(&coded.states[s * kLanes], kLanes, streams[s].states);
              streams[s].words = at;
              streams[s].words_end = at += coded.words[s].size();
              streams[s].extra = at;
              streams[s].extra_end = at += coded.extra[s].size();
              streams[s].extra_bit = 0;
              streams[s].escapes = coded.escapes[s].data();
              streams[s].escapes_end =
                  coded.escapes[s].data() + coded.escapes[s].size();
            }
            Exact<uint8_t> units(2 * chunks * kUnitChunk, 1);
            const bool complete = kernels.decode_units(
                streams.data(), tables.data(), selectors, kind, refs.data(),
                chunks, memory.end(), units.data());
            return std::pair(complete, units.ToVector());
          };
          const auto wanted = decode(scalar_, nullptr);
          EXPECT_TRUE(wanted.first);
          EXPECT_TRUE(decode(*table_, nullptr) == wanted);
          if (chunks == 0) continue;
          for (size_t g = 0; g < kGroup; ++g) {
            const auto key = static_cast<uint16_t>(LoadUnit(wanted.second, g) >>
                                                   (is_bf16 ? 5 : 8));
            // Exponents of escapes are cut.
            const uint16_t bits = 0x7F;
            ASSERT_EQ(key & bits, drawn.expected[g] & bits);
          }
          // Other tables: garbage, which may well run out of things.
          const uint8_t selectors[] = {0x44, 0x11};
          const auto garbage = decode(scalar_, selectors);
          const auto same = decode(*table_, selectors);
          EXPECT_EQ(same.first, garbage.first);
          if (garbage.first) {
            EXPECT_TRUE(same.second == garbage.second);
          }
        }
      }
    }
  }
}

// ---- Planes ----

TEST_P(SimdTest, Planes) {
  for (int width : {1, 4, 8}) {
    for (int shift = 0; shift + width <= 16; ++shift) {
      for (size_t groups : {0, 1, 2, 5}) {
        SCOPED_TRACE(testing::Message() << "width " << width << ", shift "
                                        << shift << ", groups " << groups);
        const size_t offset = Below(random_, 32);
        const size_t plane_size = groups * static_cast<size_t>(width) * 16;
        Exact<uint16_t> values(RandomValues<uint16_t>(random_, groups * kGroup),
                               offset);
        Exact<uint8_t> wanted(plane_size, offset), plane(plane_size, offset);
        scalar_.extract_plane(values.data(), groups, width, shift,
                              wanted.data());
        table_->extract_plane(values.data(), groups, width, shift,
                              plane.data());
        ASSERT_EQ(plane.ToVector(), wanted.ToVector());

        Exact<uint8_t> other(RandomValues<uint8_t>(random_, plane_size),
                             offset);
        Exact<uint16_t> wanted_values(values.ToVector(), offset);
        scalar_.insert_plane(wanted_values.data(), groups, width, shift,
                             other.data());
        table_->insert_plane(values.data(), groups, width, shift, other.data());
        ASSERT_EQ(values.ToVector(), wanted_values.ToVector());
      }
    }
  }
}

std::vector<size_t> Lengths(Random& random) {
  std::vector<size_t> lengths;
  for (size_t i = 0; i <= 130; ++i) lengths.push_back(i);
  for (int i = 0; i < 10; ++i) lengths.push_back(Below(random, 2000));
  return lengths;
}

TEST_P(SimdTest, MapSymbols) {
  constexpr size_t kKeys = 1024;
  for (size_t range : {size_t{0}, size_t{1}, size_t{128}, size_t{129}, kKeys}) {
    for (size_t begin : {size_t{0}, size_t{1}, size_t{389}, kKeys - range}) {
      if (begin + range > kKeys) continue;
      SCOPED_TRACE(testing::Message() << range << " keys from " << begin);
      std::vector<uint8_t> map(kKeys, 31);
      for (size_t i = begin; i < begin + range; ++i) {
        map[i] = static_cast<uint8_t>(random_() % kMaxSymbols);
      }
      Exact<uint8_t> exact_map(map, begin % 3);
      for (size_t count : Lengths(random_)) {
        const int shift = static_cast<int>(Below(random_, 7));
        const auto mask = static_cast<uint16_t>(1023 >> Below(random_, 4));
        const size_t offset = Below(random_, 32);
        Exact<uint16_t> values(RandomValues<uint16_t>(random_, count), offset);
        Exact<uint8_t> wanted(count, offset), symbols(count, offset);
        scalar_.map_symbols(values.data(), count, shift, mask, exact_map.data(),
                            wanted.data());
        table_->map_symbols(values.data(), count, shift, mask, exact_map.data(),
                            symbols.data());
        ASSERT_EQ(symbols.ToVector(), wanted.ToVector()) << count;
      }
    }
  }
}

TEST_P(SimdTest, TakeExtra) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    const int streams = round % 2 == 0 ? 1 : 4;
    const size_t rows = static_cast<size_t>(streams) * (1 + Below(random, 12));
    const int shift = round % 3 == 0 ? 5 : 8;
    Exact<uint16_t> values(RandomValues<uint16_t>(random, rows * kLanes),
                           Below(random, 4));
    std::vector<uint8_t> mapped(rows * kLanes);
    const uint32_t rarity = 1 + static_cast<uint32_t>(Below(random, 9));
    for (uint8_t& symbol : mapped) {
      symbol = static_cast<uint8_t>(random() % kMaxSymbols);
      if (random() % rarity == 0) symbol |= kHasExtra;
      if ((symbol & kHasExtra) != 0 && random() % 50 == 0) symbol |= kHasEscape;
    }
    struct Result {
      uint8_t flags;
      std::vector<uint8_t> symbols;
      std::vector<std::vector<uint8_t>> bits;
      std::vector<uint32_t> held_bits;
      bool operator==(const Result&) const = default;
    };
    const auto run = [&](const Table& table) {
      // All 32 elements of each row, 2 bits each, and the room past the end.
      const size_t room = rows / static_cast<size_t>(streams) * 8 + 8;
      Exact<uint8_t> symbols(mapped);
      std::vector<Exact<uint8_t>> out;
      std::array<BitSink, kMaxStreams> sinks{};
      for (int k = 0; k < streams; ++k) {
        out.emplace_back(room);
        sinks[static_cast<size_t>(k)] = {out.back().data(), 0, 0};
      }
      Result result;
      result.flags = table.take_extra(values.data(), shift, rows, streams,
                                      symbols.data(), sinks.data());
      result.symbols = symbols.ToVector();
      for (int k = 0; k < streams; ++k) {
        const BitSink& sink = sinks[static_cast<size_t>(k)];
        uint8_t* begin = out[static_cast<size_t>(k)].data();
        result.bits.emplace_back(begin,
                                 sink.to + (sink.held_bits != 0 ? 1 : 0));
        result.held_bits.push_back(sink.held_bits);
      }
      return result;
    };
    const Result expected = run(scalar_);
    EXPECT_TRUE(run(*table_) == expected) << "round " << round;
    size_t pairs = 0;
    uint32_t flags = 0;
    for (size_t i = 0; i < mapped.size(); ++i) {
      pairs += (mapped[i] & kHasExtra) != 0;
      flags |= mapped[i];
      EXPECT_EQ(expected.symbols[i], mapped[i] % kMaxSymbols);
    }
    size_t bits = 0;
    for (size_t k = 0; k < expected.bits.size(); ++k) {
      bits += expected.bits[k].size() * 8 -
              (expected.held_bits[k] != 0 ? 8 - expected.held_bits[k] : 0);
    }
    EXPECT_EQ(bits, 2 * pairs);
    EXPECT_EQ(expected.flags, flags & (kHasExtra | kHasEscape));
  }
}

TEST_P(SimdTest, PlaceKeys) {
  for (size_t count : Lengths(random_)) {
    const int shift = static_cast<int>(Below(random_, 16));
    const size_t offset = Below(random_, 32);
    Exact<uint16_t> keys(RandomValues<uint16_t>(random_, count), offset);
    Exact<uint16_t> wanted(count, offset), values(count, offset);
    scalar_.place_keys(keys.data(), count, shift, wanted.data());
    table_->place_keys(keys.data(), count, shift, values.data());
    ASSERT_EQ(values.ToVector(), wanted.ToVector()) << count;
  }
}

TEST_P(SimdTest, Halves) {
  for (size_t count : Lengths(random_)) {
    const size_t offset = Below(random_, 32);
    Exact<uint8_t> elements(RandomValues<uint8_t>(random_, 4 * count), offset);
    Exact<uint16_t> wanted_low(count, offset), wanted_high(count, offset);
    Exact<uint16_t> low(count, offset), high(count, offset);
    scalar_.split_halves(elements.data(), count, wanted_low.data(),
                         wanted_high.data());
    table_->split_halves(elements.data(), count, low.data(), high.data());
    ASSERT_EQ(low.ToVector(), wanted_low.ToVector()) << count;
    ASSERT_EQ(high.ToVector(), wanted_high.ToVector()) << count;

    Exact<uint8_t> joined(4 * count, offset);
    table_->join_halves(low.data(), high.data(), count, joined.data());
    ASSERT_EQ(joined.ToVector(), elements.ToVector()) << count;
  }
}

TEST_P(SimdTest, Xxh3) {
  for (size_t size : Lengths(random_)) {
    Exact<uint8_t> data(RandomValues<uint8_t>(random_, size), size % 7);
    EXPECT_EQ(table_->xxh3(data.data(), size), scalar_.xxh3(data.data(), size));
  }
}

}  // namespace
}  // namespace zipllm::kernels
