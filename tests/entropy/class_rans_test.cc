#include "entropy/class_rans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "entropy/bits.h"

namespace zipllm::entropy {
namespace {

using kernels::kSlots;
using Random = std::mt19937;

TEST(Bits, RoundTrip) {
  Random random(3);
  std::vector<std::pair<uint64_t, int>> fields;
  Buffer buffer;
  BitWriter writer(&buffer);
  for (int i = 0; i < 5000; ++i) {
    const int count = static_cast<int>(random() % 65);
    const uint64_t value =
        count == 0 ? 0 : (uint64_t{random()} << 32 | random()) >> (64 - count);
    fields.emplace_back(value, count);
    writer.Put(value, count);
  }
  writer.Finish();
  BitReader reader(buffer.span());
  for (const auto& [value, count] : fields) {
    ASSERT_EQ(reader.Get64(count), value);
  }
  EXPECT_TRUE(reader.AtEnd());
  reader.Get(32);
  EXPECT_FALSE(reader.AtEnd());
  EXPECT_FALSE(BitReader(buffer.span()).AtEnd());
}

TEST(Bits, BitsLeftOverAreZeros) {
  const uint8_t bytes[] = {0x12, 0x21};
  BitReader reader(bytes);
  EXPECT_EQ(reader.Get(12), 0x112u);
  EXPECT_FALSE(reader.AtEnd());
  reader.Get(2);
  EXPECT_TRUE(reader.AtEnd());
}

TEST(Bits, AdaptiveRiceRoundTripsAnyValues) {
  Random random(4);
  std::vector<uint32_t> values;
  for (int i = 0; i < 3000; ++i) {
    values.push_back(static_cast<uint32_t>(random() >> random() % 32));
  }
  for (int i = 0; i < 1000; ++i) values.push_back(0);
  values.push_back(UINT32_MAX);
  Buffer buffer;
  BitWriter writer(&buffer);
  AdaptiveRice encoder;
  for (uint32_t value : values) encoder.Write(value, &writer);
  writer.Finish();
  BitReader reader(buffer.span());
  AdaptiveRice decoder;
  for (uint32_t value : values) ASSERT_EQ(decoder.Read(&reader), value);
  EXPECT_TRUE(reader.AtEnd());
}

TEST(Bits, ZigZagIsSmallForSmallNumbers) {
  EXPECT_EQ(ZigZag(0), 0u);
  for (int32_t value = -5000; value < 5000; ++value) {
    EXPECT_EQ(UnZigZag(ZigZag(value)), value);
    EXPECT_LE(ZigZag(value), static_cast<uint32_t>(2 * std::abs(value)));
    EXPECT_EQ(ZigZag64(value), ZigZag(value));
    EXPECT_EQ(UnZigZag64(ZigZag(value)), value);
  }
  EXPECT_EQ(ZigZag64(INT64_MIN), UINT64_MAX);
  EXPECT_EQ(UnZigZag64(UINT64_MAX), INT64_MIN);
  EXPECT_EQ(UnZigZag64(ZigZag64(INT64_MAX)), INT64_MAX);
}

/// Bell-shaped counts around 128, wider by class.
std::vector<ByteCounts> BellCounts(size_t classes) {
  std::vector<ByteCounts> counts(classes);
  for (size_t c = 0; c < classes; ++c) {
    const double deviation = 4.0 * std::pow(1.3, static_cast<double>(c));
    for (size_t s = 0; s < 256; ++s) {
      const double x = (static_cast<double>(s) - 128) / deviation;
      counts[c][s] = static_cast<uint32_t>(20000 * std::exp(-x * x / 2));
    }
  }
  return counts;
}

ClassFrequencies NormalizeAll(const std::vector<ByteCounts>& counts) {
  ClassFrequencies tables;
  for (const ByteCounts& of : counts) tables.push_back(NormalizeBytes(of));
  return tables;
}

std::vector<ClassFrequencies> ManyTables() {
  std::vector<ClassFrequencies> all = {NormalizeAll(BellCounts(1)),
                                       NormalizeAll(BellCounts(12))};
  ClassFrequencies empty(2);
  empty[0].fill(0);
  empty[1].fill(0);
  all.push_back(empty);
  Random random(8);
  for (int trial = 0; trial < 100; ++trial) {
    ClassFrequencies tables;
    for (size_t c = 1 + random() % kMaxClasses; c > 0; --c) {
      ByteCounts counts{};
      for (size_t i = random() % 300; i > 0; --i) {
        counts[random() % 256 / (1 + c % 3)] +=
            static_cast<uint32_t>(1 + (random() % 65536 >> random() % 16));
      }
      tables.push_back(NormalizeBytes(counts));
    }
    all.push_back(tables);
  }
  ClassFrequencies most(kMaxClasses);
  for (ByteFrequencies& table : most) table.fill(kSlots / 256);
  all.push_back(most);
  return all;
}

TEST(ClassFrequencies, NormalizeKeepsWhatOccurs) {
  for (const ByteCounts& counts : BellCounts(16)) {
    const ByteFrequencies frequencies = NormalizeBytes(counts);
    EXPECT_EQ(std::accumulate(frequencies.begin(), frequencies.end(), 0u),
              kSlots);
    for (size_t s = 0; s < counts.size(); ++s) {
      EXPECT_EQ(frequencies[s] > 0, counts[s] > 0);
    }
    // Rounded to 12 bits, within 0.5 % of the entropy.
    EXPECT_LT(CodingCost(counts, frequencies),
              EntropyCost(counts) + EntropyCost(counts) / 200);
    EXPECT_GE(CodingCost(counts, frequencies) + 65536, EntropyCost(counts));
  }
  EXPECT_EQ(NormalizeBytes(ByteCounts{}), ByteFrequencies{});
  EXPECT_EQ(EntropyCost(ByteCounts{}), 0u);
}

TEST(ClassFrequencies, EntropyOfEqualCounts) {
  ByteCounts counts{};
  std::fill_n(counts.begin(), 64, 1000u);
  EXPECT_NEAR(static_cast<double>(EntropyCost(counts)) / 65536, 6.0 * 64000,
              64000.0 / 10000);
}

TEST(ClassFrequencies, RoundTripAndNothingElse) {
  for (const ClassFrequencies& tables : ManyTables()) {
    Buffer buffer;
    WriteClassFrequencies(tables, &buffer);
    ByteReader reader(buffer.span());
    const auto parsed = ParseClassFrequencies(reader);
    ASSERT_TRUE(parsed.ok()) << parsed.status().message();
    EXPECT_EQ(*parsed, tables);
    EXPECT_TRUE(reader.AtEnd());
    for (size_t size = 0; size < buffer.size(); size += 1 + size / 8) {
      ByteReader cut(buffer.span().first(size));
      EXPECT_FALSE(ParseClassFrequencies(cut).ok());
    }
  }
}

TEST(ClassFrequencies, SimilarTablesAreSmall) {
  Buffer one, many;
  WriteClassFrequencies(NormalizeAll(BellCounts(1)), &one);
  WriteClassFrequencies(ClassFrequencies(20, NormalizeBytes(BellCounts(1)[0])),
                        &many);
  EXPECT_LT(many.size(), one.size() + 19 * 256 / 8);
}

/// Whatever is read is a table: sums are 4096 or 0.
TEST(ClassFrequencies, ParsesNoNonsense) {
  Buffer buffer;
  WriteClassFrequencies(NormalizeAll(BellCounts(12)), &buffer);
  Random random(5);
  int parsed_count = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint8_t> bytes(buffer.begin(), buffer.end());
    for (size_t i = 1 + random() % 3; i > 0; --i) {
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    }
    ByteReader reader(bytes);
    const auto parsed = ParseClassFrequencies(reader);
    if (!parsed.ok()) continue;
    ++parsed_count;
    for (const ByteFrequencies& table : *parsed) {
      const uint32_t sum = std::accumulate(table.begin(), table.end(), 0u);
      EXPECT_TRUE(sum == 0 || sum == kSlots) << sum;
    }
  }
  EXPECT_LT(parsed_count, 3000);
}

struct Block {
  ClassFrequencies tables;
  std::vector<uint8_t> symbols, classes;
};

Block MakeBlock(size_t count) {
  Random random(static_cast<uint32_t>(count));
  Block block;
  std::vector<ByteCounts> counts(9);
  for (size_t i = 0; i < count; ++i) {
    const size_t c = random() % 9;
    const auto symbol =
        static_cast<uint8_t>(128 + random() % (1 << c) - (1u << c) / 2);
    block.classes.push_back(static_cast<uint8_t>(c));
    block.symbols.push_back(symbol);
    ++counts[c][symbol];
  }
  block.tables = NormalizeAll(counts);
  return block;
}

TEST(ClassRans, RoundTripsEveryLength) {
  for (size_t count :
       {size_t{1}, size_t{31}, size_t{32}, size_t{33}, size_t{127},
        size_t{1000}, size_t{70000}, kFourStreams - 1, kFourStreams,
        kFourStreams + 1, kFourStreams + 127, size_t{400000}}) {
    SCOPED_TRACE(count);
    const Block block = MakeBlock(count);
    Buffer scratch, coded;
    EncodeClassRans(ClassEncodeTables(block.tables), block.symbols.data(),
                    block.classes.data(), count, &scratch, &coded);
    const ClassDecodeTables tables(block.tables);
    std::vector<uint8_t> symbols(count);
    ByteReader reader(coded.span());
    ASSERT_TRUE(DecodeClassRans(tables, block.classes.data(), count, reader,
                                symbols.data())
                    .ok());
    EXPECT_TRUE(reader.AtEnd());
    EXPECT_TRUE(symbols == block.symbols);

    // By pieces, the same.
    ByteReader again(coded.span());
    auto decoder = ClassRansDecoder::Start(tables, count, again);
    ASSERT_TRUE(decoder.ok());
    std::fill(symbols.begin(), symbols.end(), uint8_t{0});
    for (size_t i = 0; i < count; i += 8 * ClassRansDecoder::kPiece) {
      decoder->Next(block.classes.data() + i,
                    std::min(8 * ClassRansDecoder::kPiece, count - i),
                    symbols.data() + i);
    }
    EXPECT_TRUE(decoder->Finish().ok());
    EXPECT_TRUE(symbols == block.symbols);
  }
}

TEST(ClassRans, RefusesWhatDoesNotEndRight) {
  const size_t count = kFourStreams + 1000;
  const Block block = MakeBlock(count);
  Buffer scratch, coded;
  EncodeClassRans(ClassEncodeTables(block.tables), block.symbols.data(),
                  block.classes.data(), count, &scratch, &coded);
  const ClassDecodeTables tables(block.tables);
  std::vector<uint8_t> symbols(count);
  const auto decode = [&](ByteSpan bytes, const std::vector<uint8_t>& classes) {
    ByteReader reader(bytes);
    return DecodeClassRans(tables, classes.data(), classes.size(), reader,
                           symbols.data());
  };
  ASSERT_TRUE(decode(coded.span(), block.classes).ok());
  for (size_t size : {size_t{0}, size_t{1}, size_t{300}, coded.size() - 1}) {
    EXPECT_FALSE(decode(coded.span().first(size), block.classes).ok());
  }
  // Fewer symbols, other classes, classes without a table, other bits.
  std::vector<uint8_t> classes = block.classes;
  classes.pop_back();
  EXPECT_FALSE(
      decode(coded.span(), {classes.begin(), classes.end() - 200}).ok());
  classes = block.classes;
  std::reverse(classes.begin(), classes.end());
  EXPECT_FALSE(decode(coded.span(), classes).ok());
  classes = block.classes;
  classes[12345] = 9;
  EXPECT_FALSE(decode(coded.span(), classes).ok());
  // Where frequencies are equal powers of two, bits are symbols' own.
  Random random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint8_t> bytes(coded.begin(), coded.end());
    bytes[random() % bytes.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    EXPECT_FALSE(decode(bytes, block.classes).ok() && symbols == block.symbols);
  }
}

}  // namespace
}  // namespace zipllm::entropy
