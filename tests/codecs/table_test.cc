// Codec 26: what it finds in arrays of numbers, that any frame comes back, and
// that blocks which mean nothing are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/table/table_records.h"

namespace zipllm::codecs {
namespace {

constexpr CodecId kTable = 26;

template <typename T>
Bytes BytesOf(const std::vector<T>& values) {
  Bytes bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

std::optional<CodedFrame> Encode(const EncodeRequest& request) {
  Scratch scratch;
  return EncodeFrame(*FindEncoder(kTable), request, scratch);
}
/// Bytes of the only block; 0 where nothing is offered.
size_t CodedSize(const EncodeRequest& request) {
  const auto frame = Encode(request);
  return frame && frame->blocks[0] ? frame->blocks[0]->size() : 0;
}
EncodeRequest Request(const Bytes& data, DType dtype, int level,
                      uint64_t row = 0) {
  return {data, data.size(), dtype, level, row};
}
constexpr int kLevels[] = {3, 6, 9};

/// A walk of small steps.
std::vector<int64_t> Walk(size_t count, uint64_t steps) {
  Random random(3);
  std::vector<int64_t> values;
  int64_t value = 1000000;
  for (size_t i = 0; i < count; ++i) {
    value += static_cast<int64_t>(random.Below(steps)) -
             static_cast<int64_t>(steps / 2);
    values.push_back(value);
  }
  return values;
}

TEST(TableTest, StepsOfAWalk) {
  const std::vector<int64_t> walk = Walk(20000, 16);
  const Bytes bytes = BytesOf(walk);
  for (const int level : kLevels) {
    const EncodeRequest request = Request(bytes, DType::kI64, level);
    // 4 bits each, and what it takes to learn that.
    EXPECT_LT(CodedSize(request), 20000u / 2 * 108 / 100) << level;
    EXPECT_GT(CodedSize(request), 20000u / 2) << level;
    EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
  }
}

TEST(TableTest, DecimalsOfEitherWidthAndOrder) {
  std::vector<double> doubles;
  std::vector<float> floats;
  std::vector<uint64_t> swapped;
  for (const int64_t step : Walk(20000, 16)) {
    const double value = static_cast<double>(step - 990000) / 100;
    doubles.push_back(value);
    floats.push_back(static_cast<float>(value));
    swapped.push_back(__builtin_bswap64(std::bit_cast<uint64_t>(value)));
  }
  for (const int level : kLevels) {
    for (const auto& [bytes, dtype] :
         {std::pair{BytesOf(doubles), DType::kF64},
          std::pair{BytesOf(floats), DType::kF32},
          std::pair{BytesOf(swapped), DType::kF64Be}}) {
      const EncodeRequest request = Request(bytes, dtype, level);
      EXPECT_LT(CodedSize(request), 20000u / 2 * 108 / 100) << level;
      EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
    }
  }
}

TEST(TableTest, ColumnsOfARow) {
  Random random(5);
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < 5000; ++i) {
    rows.push_back(i * 7);
    rows.push_back(static_cast<int32_t>(random.Below(2)) * 123456789);
    rows.push_back(-i);
  }
  const Bytes bytes = BytesOf(rows);
  for (const int level : kLevels) {
    // Known or not; one column has one bit to tell.
    for (const uint64_t row : {0, 3}) {
      const EncodeRequest request = Request(bytes, DType::kI32, level, row);
      EXPECT_LT(CodedSize(request), 5000u / 8 + 400) << level << " " << row;
      EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
    }
  }
}

TEST(TableTest, RowsOfAnImage) {
  // A row of small steps; each row is the one before it, but for one number in
  // 16, which is one more.
  Random random(6);
  const size_t width = 300, height = 100;
  std::vector<uint16_t> image;
  for (const int64_t value : Walk(width, 64)) {
    image.push_back(static_cast<uint16_t>(value));
  }
  for (size_t i = width; i < width * height; ++i) {
    image.push_back(static_cast<uint16_t>(image[i - width] +
                                          (random.Below(16) == 0 ? 1 : 0)));
  }
  const Bytes bytes = BytesOf(image);
  for (const int level : kLevels) {
    // What is new in a row: 0.34 bits a number.
    const size_t least = width * height * 34 / 800;
    for (const uint64_t row : {size_t{0}, width}) {
      const EncodeRequest request = Request(bytes, DType::kU16, level, row);
      // Bins of differences find less of it than mixed contexts.
      EXPECT_LT(CodedSize(request),
                (level < 6 ? 5 * least : least * 5 / 4) + 2 * width)
          << level << " " << row;
      EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
    }
  }
}

// ---- Records of several types ----

template <typename T>
void Put(T value, bool big, Bytes* out) {
  uint8_t raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  if (big) std::reverse(std::begin(raw), std::end(raw));
  out->insert(out->end(), std::begin(raw), std::end(raw));
}

constexpr size_t kOrderBytes = 21;
/// Orders: a number, a time in nanoseconds of whole microseconds, a price, a
/// flag; what is new in each are 8 + 4 + 2 bits.
Bytes Orders(size_t count, bool big) {
  Random random(8);
  Bytes bytes;
  uint64_t time = 1'700'000'000'000'000'000;
  int64_t price = 10000;
  for (uint32_t i = 0; i < count; ++i) {
    time += 1000 * random.Below(256);
    price += static_cast<int64_t>(random.Below(16)) - 8;
    Put(100000 + i, big, &bytes);
    Put(time, big, &bytes);
    Put(static_cast<double>(price) / 100, big, &bytes);
    bytes.push_back(static_cast<uint8_t>(random.Below(4) * 3));
  }
  return bytes;
}

TEST(TableTest, RecordsOfSeveralTypes) {
  constexpr size_t kCount = 20000;
  for (const bool big : {false, true}) {
    const Bytes bytes = Orders(kCount, big);
    for (const int level : kLevels) {
      const EncodeRequest request =
          Request(bytes, DType::kBytes, level, kOrderBytes);
      EXPECT_LT(CodedSize(request), kCount * 14 / 8 * 108 / 100) << level;
      EXPECT_GT(CodedSize(request), kCount * 14 / 8) << level;
      EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
    }
  }
}

TEST(TableTest, RecordsThatAreNoneComeBack) {
  Random random(9);
  Bytes noise(5000);
  for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.Below(256));
  const Bytes orders = Orders(300, false);
  for (const int level : kLevels) {
    for (const uint64_t row : {1, 2, 3, 7, 63, 65, 256, 257}) {
      CheckRoundTrip(kTable, Request(noise, DType::kBytes, level, row));
      CheckRoundTrip(kTable, Request(orders, DType::kBytes, level, row));
    }
    // Bytes without rows are for others.
    EXPECT_EQ(CodedSize(Request(orders, DType::kBytes, level)), 0u);
  }
}

TEST(TableTest, FindsWhereRecordsBegin) {
  constexpr size_t kCount = 20000;
  for (const bool big : {false, true}) {
    const Bytes orders = Orders(kCount, big);
    for (const size_t head : {0, 1, 11, 40, 500}) {
      Bytes bytes(head, 'x');
      bytes.insert(bytes.end(), orders.begin(), orders.end());
      const table::Records found = table::FindRecords(bytes);
      ASSERT_EQ(found.size, kOrderBytes);
      EXPECT_LE(found.begin, head + kOrderBytes);
      // Any field may be seen as the first, and bytes that never change as
      // another field: what it takes is the same.
      bytes.erase(bytes.begin(),
                  bytes.begin() + static_cast<ptrdiff_t>(found.begin));
      bytes.resize(bytes.size() / found.size * found.size);
      const EncodeRequest request =
          Request(bytes, DType::kBytes, 3, found.size);
      EXPECT_LT(CodedSize(request), kCount * 14 / 8 * 108 / 100) << head;
    }
  }
}

TEST(TableTest, NumbersOfOneTypeAreNoRecords) {
  Random random(10);
  Bytes noise(100000), one, several;
  for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.Below(256));
  for (const int64_t value : Walk(20000, 16)) {
    Put(static_cast<int32_t>(value), false, &one);
    Put(static_cast<int32_t>(value), false, &several);
    Put(static_cast<int32_t>(random.Below(100)), false, &several);
    Put(static_cast<int32_t>(several.size()), false, &several);
  }
  for (const Bytes& bytes : {noise, one, several, Bytes(100000), Bytes(100),
                             Bytes(), Orders(100, false)}) {
    EXPECT_EQ(table::FindRecords(bytes).size, 0u) << bytes.size();
  }
}

TEST(TableTest, SpecialsAmongDecimals) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const double payload = std::bit_cast<double>(uint64_t{0x7FF4000000001234});
  std::vector<double> values;
  Random random(4);
  for (const int64_t step : Walk(8000, 16)) {
    values.push_back(static_cast<double>(step) / 10);
    switch (random.Below(200)) {
      case 0:
        values.back() = kNan;
        break;
      case 1:
        values.back() = -0.0;
        break;
      case 2:
        values.back() = random.Below(2) == 0 ? infinity : -infinity;
        break;
      case 3:
        values.back() = random.Below(9) == 0 ? payload : 5e-324;
        break;
      case 4:
        values.back() = std::bit_cast<double>(random.Next());
        break;
      default:
        break;
    }
  }
  const Bytes bytes = BytesOf(values);
  for (const int level : kLevels) {
    const EncodeRequest request = Request(bytes, DType::kF64, level);
    EXPECT_LT(CodedSize(request), 8000u) << level;
    EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
  }
}

TEST(TableTest, SpecialsAmongOtherFloats) {
  std::vector<float> values;
  Random random(4);
  for (size_t i = 0; i < 5000; ++i) {
    values.push_back(1.0F / static_cast<float>(i + 3));
    if (random.Below(50) == 0) {
      values.back() = std::bit_cast<float>(
          static_cast<uint32_t>(0x7F800000 + random.Below(1 << 20)));
    }
  }
  const Bytes bytes = BytesOf(values);
  for (const int level : kLevels) {
    const EncodeRequest request = Request(bytes, DType::kF32, level);
    EXPECT_GT(CodedSize(request), 0u);
    EXPECT_EQ(CheckRoundTrip(kTable, request), 1u);
  }
}

TEST(TableTest, ExtremesOfIntegers) {
  std::vector<int64_t> values;
  Random random(9);
  for (size_t i = 0; i < 3000; ++i) {
    const auto near = static_cast<int64_t>(random.Below(4));
    values.push_back(i % 1000 < 990 ? static_cast<int64_t>(i) + near
                     : i % 2 == 0   ? INT64_MIN + near
                                    : INT64_MAX - near);
  }
  for (const int level : kLevels) {
    const Bytes bytes = BytesOf(values);
    EXPECT_EQ(CheckRoundTrip(kTable, Request(bytes, DType::kI64, level)), 1u);
    EXPECT_EQ(CheckRoundTrip(kTable, Request(bytes, DType::kU64, level)), 1u);
  }
}

TEST(TableTest, BlocksThatCutRowsAndElements) {
  const Bytes bytes = BytesOf(Walk(3400, 5));
  for (const int level : kLevels) {
    const EncodeRequest request = {bytes, 8000, DType::kI64, level, 7};
    EXPECT_EQ(CheckRoundTrip(kTable, request), 4u);
    const EncodeRequest odd = {ByteSpan(bytes).first(bytes.size() - 3),
                               bytes.size(), DType::kI64, level};
    EXPECT_EQ(CheckRoundTrip(kTable, odd), 1u);
  }
}

TEST(TableTest, NotForNoiseAndWeights) {
  for (const int level : {1, 2, 3, 6, 9}) {
    for (const DType dtype : {DType::kF32, DType::kF64, DType::kI8, DType::kI16,
                              DType::kU16, DType::kBF16, DType::kF16}) {
      for (const Kind kind : {Kind::kRandom, Kind::kGaussian}) {
        const Bytes bytes = MakeInput(kind, dtype, 30000);
        EXPECT_FALSE(Encode(Request(bytes, dtype, level)).has_value())
            << FindDType(dtype)->name << " " << KindName(kind) << level;
      }
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
