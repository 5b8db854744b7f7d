// The scalar kernels against their definitions in words; the other targets are
// compared with them in simd_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

const Table& Scalar() { return *ScalarTable(); }

/// Symbols in one run of slots each, which the tables allow as well.
struct Coding {
  std::unique_ptr<RansDecodeTable> decode = std::make_unique<RansDecodeTable>();
  std::unique_ptr<RansEncodeTable> encode = std::make_unique<RansEncodeTable>();

  Coding(const std::vector<uint32_t>& frequencies,
         const std::vector<uint16_t>& keys) {
    uint32_t slot = 0;
    for (uint32_t s = 0; s < frequencies.size(); ++s) {
      encode->frequency[s] = frequencies[s];
      encode->start[s] = slot;
      decode->keys[s] = keys[s];
      for (uint32_t rank = 0; rank < frequencies[s]; ++rank, ++slot) {
        encode->slot_of[slot] = static_cast<uint16_t>(slot);
        decode->slots[slot] = frequencies[s] | rank << 13 | s << 25;
      }
    }
    EXPECT_EQ(slot, kSlots);
  }
};

struct Coded {
  std::vector<uint32_t> states;
  std::vector<std::vector<uint8_t>> words;
};

Coded Encode(const Coding& coding, int streams,
             const std::vector<uint8_t>& symbols) {
  const size_t count = static_cast<size_t>(streams);
  const size_t steps = symbols.size() / (kLanes * count);
  Coded coded{std::vector<uint32_t>(kLanes * count, kStateLow), {}};
  std::vector<std::vector<uint8_t>> room(
      count, std::vector<uint8_t>(2 * steps * kLanes));
  std::vector<uint8_t*> ends;
  for (auto& bytes : room) ends.push_back(bytes.data() + bytes.size());
  Scalar().rans_encode(coded.states.data(), streams, *coding.encode,
                       symbols.data(), steps, ends.data());
  for (size_t s = 0; s < count; ++s) {
    coded.words.emplace_back(ends[s], room[s].data() + room[s].size());
  }
  return coded;
}

RansStream StreamOf(const Coded& coded, size_t s,
                    const std::vector<uint8_t>& extra = {},
                    const std::vector<uint8_t>& escapes = {}) {
  RansStream stream{};
  std::copy_n(coded.states.begin() + static_cast<std::ptrdiff_t>(s * kLanes),
              kLanes, stream.states);
  stream.words = coded.words[s].data();
  stream.words_end = stream.words + coded.words[s].size();
  stream.extra = extra.data();
  stream.extra_end = extra.data() + extra.size();
  stream.escapes = escapes.data();
  stream.escapes_end = escapes.data() + escapes.size();
  return stream;
}

TEST(ScalarRansTest, DecodesWhatItEncodes) {
  const Coding coding({2000, 1500, 500, 95, 1}, {8, 9, 10, 11, 1023});
  std::mt19937 random(1);
  for (const int streams : {1, 4}) {
    const size_t step = kLanes * static_cast<size_t>(streams);
    for (const size_t steps : {1, 2, 7, 100}) {
      std::vector<uint8_t> symbols(step * steps);
      for (uint8_t& symbol : symbols) {
        symbol = static_cast<uint8_t>(std::min<size_t>(4, random() % 7));
      }
      const Coded coded = Encode(coding, streams, symbols);
      std::vector<RansStream> state;
      for (size_t s = 0; s < coded.words.size(); ++s) {
        state.push_back(StreamOf(coded, s));
      }
      std::vector<uint16_t> keys(symbols.size());
      ASSERT_TRUE(Scalar().rans_decode(state.data(), streams, *coding.decode,
                                       keys.data(), steps));
      for (size_t i = 0; i < keys.size(); ++i) {
        ASSERT_EQ(keys[i], coding.decode->keys[symbols[i]]);
      }
      for (const RansStream& stream : state) {
        EXPECT_EQ(stream.words, stream.words_end);
        for (uint32_t s : stream.states) EXPECT_EQ(s, kStateLow);
      }
    }
  }
}

TEST(ScalarRansTest, SizeIsTheEntropyAndTheStates) {
  const Coding coding({2048, 1024, 1024}, {0, 1, 2});
  std::vector<uint8_t> symbols(kLanes * 1000);
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i] = static_cast<uint8_t>(i % 4 < 2 ? 0 : i % 4 - 1);
  }
  const Coded coded = Encode(coding, 1, symbols);
  // 1.5 bits a symbol; states begin at 2^16 and end below 2^32.
  const size_t bits = symbols.size() * 3 / 2;
  EXPECT_LE(8 * coded.words[0].size(), bits + bits / 1000);
  EXPECT_GE(8 * coded.words[0].size() + 16 * kLanes, bits);
}

// One symbol with all slots: states never change, no words.
TEST(ScalarRansTest, OneSymbolTakesNoBits) {
  const Coding coding({4096}, {77});
  const Coded coded = Encode(coding, 1, std::vector<uint8_t>(kLanes * 9));
  EXPECT_TRUE(coded.words[0].empty());
  EXPECT_EQ(coded.states, std::vector<uint32_t>(kLanes, kStateLow));
}

TEST(ScalarRansTest, LanesTakeExtraBitsAndEscapesInOrder) {
  constexpr uint16_t kEscape = kKeyBare | kKeyEscape;
  const Coding coding({2048, 1024, 1024}, {5, 40 | kKeyBare, kEscape});
  // Joined, bare, escape, bare, and the rest joined.
  std::vector<uint8_t> symbols(kLanes, 0);
  symbols[1] = 1;
  symbols[2] = 2;
  symbols[3] = 1;
  const Coded coded = Encode(coding, 1, symbols);
  const std::vector<uint8_t> extra = {0b00'01'11'10};
  const std::vector<uint8_t> escapes = {200};
  RansStream stream = StreamOf(coded, 0, extra, escapes);
  std::vector<uint16_t> keys(kLanes);
  EXPECT_TRUE(Scalar().rans_decode(&stream, 1, *coding.decode, keys.data(), 1));
  EXPECT_EQ(keys[0], 5);
  EXPECT_EQ(keys[1], 40 + 2);
  EXPECT_EQ(keys[2], 200 * 4 + 3);
  EXPECT_EQ(keys[3], 40 + 1);
  EXPECT_EQ(keys[4], 5);
  EXPECT_EQ(stream.extra_bit, 6u);
  EXPECT_EQ(stream.escapes, stream.escapes_end);

  // With nothing to take they take zeros, and say so.
  RansStream bare = StreamOf(coded, 0);
  EXPECT_FALSE(Scalar().rans_decode(&bare, 1, *coding.decode, keys.data(), 1));
  EXPECT_EQ(keys[1], 40);
  EXPECT_EQ(keys[2], 0);
}

TEST(ScalarRansTest, MissingWordsAreZeros) {
  const Coding coding({1, 4095}, {1, 2});
  Coded coded{std::vector<uint32_t>(kLanes, 0xFFFF0000), {{0x34, 0x12}}};
  coded.states[5] = 0;  // below the interval: any state is safe
  RansStream stream = StreamOf(coded, 0);
  std::vector<uint16_t> keys(kLanes);
  // Lane 5 takes the only word; 0xFFFF0000 / 4096 is not below 2^16.
  EXPECT_TRUE(Scalar().rans_decode(&stream, 1, *coding.decode, keys.data(), 1));
  EXPECT_EQ(stream.states[5], 0x1234u);
  EXPECT_EQ(stream.states[0], 0xFFFF0u);
  // Now it needs another: 4095 * 1 + 0x234 - 1 is below 2^16.
  EXPECT_FALSE(
      Scalar().rans_decode(&stream, 1, *coding.decode, keys.data(), 1));
  EXPECT_EQ(stream.words, stream.words_end);
  EXPECT_EQ(stream.states[5], (4095u + 0x233) << 16);
}

std::vector<uint16_t> RandomValues(size_t count) {
  std::mt19937 random(2);
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) value = static_cast<uint16_t>(random());
  return values;
}

/// Bits of element i in a plane, as kernels.h words it.
uint32_t FromPlane(const std::vector<uint8_t>& plane, int width, size_t i) {
  const size_t group = i / kGroup, element = i % kGroup;
  const uint8_t* bytes = plane.data() + group * 16 * static_cast<size_t>(width);
  switch (width) {
    case 1:
      return (uint32_t{bytes[element / 8]} >> (element % 8)) & 1;
    case 4:
      return element < 64 ? bytes[element] & 15u : bytes[element - 64] >> 4;
    default:
      return bytes[element];
  }
}

TEST(ScalarPlanesTest, ExtractAndInsert) {
  for (const size_t groups : {1, 3, 8}) {
    const auto values = RandomValues(groups * kGroup);
    for (const int width : {1, 4, 8}) {
      for (int shift = 0; shift + width <= 16; ++shift) {
        std::vector<uint8_t> plane(groups * 16 * static_cast<size_t>(width));
        Scalar().extract_plane(values.data(), groups, width, shift,
                               plane.data());
        std::vector<uint16_t> inserted(values.size(), 0);
        Scalar().insert_plane(inserted.data(), groups, width, shift,
                              plane.data());
        const uint32_t mask = ((1u << width) - 1) << shift;
        for (size_t i = 0; i < values.size(); ++i) {
          ASSERT_EQ(FromPlane(plane, width, i) << shift, values[i] & mask);
          ASSERT_EQ(inserted[i], values[i] & mask);
        }
      }
    }
  }
}

TEST(ScalarPlanesTest, InsertKeepsOtherBits) {
  std::vector<uint16_t> values(kGroup, 0x8001);
  const std::vector<uint8_t> plane(64, 0xFF);
  Scalar().insert_plane(values.data(), 1, 4, 4, plane.data());
  EXPECT_EQ(values, std::vector<uint16_t>(kGroup, 0x80F1));
}

TEST(ScalarElementsTest, MapPlaceSplitJoin) {
  const auto values = RandomValues(1001);
  std::vector<uint8_t> map(1024);
  for (size_t i = 0; i < map.size(); ++i) {
    map[i] = static_cast<uint8_t>(i * 7 + i / 256);
  }
  std::vector<uint8_t> symbols(values.size());
  Scalar().map_symbols(values.data(), values.size(), 5, 1023, map.data(),
                       symbols.data());
  std::vector<uint16_t> placed(values.size());
  Scalar().place_keys(values.data(), values.size(), 8, placed.data());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(symbols[i], map[values[i] / 32 % 1024]);
    ASSERT_EQ(placed[i], values[i] % 256 * 256);
  }

  const std::vector<uint8_t> elements = {0x78, 0x56, 0x34, 0x12,
                                         0xF0, 0xDE, 0xBC, 0x9A};
  uint16_t low[2], high[2];
  Scalar().split_halves(elements.data(), 2, low, high);
  EXPECT_EQ(low[0], 0x5678);
  EXPECT_EQ(high[0], 0x1234);
  EXPECT_EQ(low[1], 0xDEF0);
  EXPECT_EQ(high[1], 0x9ABC);
  std::vector<uint8_t> joined(8);
  Scalar().join_halves(low, high, 2, joined.data());
  EXPECT_EQ(joined, elements);
}

// From the XXH3 specification's reference implementation (xxHash 0.8).
TEST(ScalarXxh3Test, KnownValue) {
  EXPECT_EQ(Scalar().xxh3(nullptr, 0), 0x2D06800538D394C2u);
}

TEST(DispatchTest, FindsTablesByTarget) {
  for (const Target target :
       {Target::kScalar, Target::kNeon, Target::kAvx2, Target::kAvx512}) {
    const Table* table = Find(target);
    EXPECT_TRUE(table == nullptr || table->target == target);
  }
  EXPECT_EQ(Find(Target::kScalar), ScalarTable());
  EXPECT_EQ(Find(Best().target), &Best());
}

}  // namespace
}  // namespace zipllm::kernels
