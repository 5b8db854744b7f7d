#include "base/bytes.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace zipllm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Data = std::vector<uint8_t>;

// An exact copy on the heap, so that ASan sees a read one byte too far.
class Exact {
 public:
  explicit Exact(ByteSpan bytes)
      : size_(bytes.size()), bytes_(new uint8_t[bytes.size()]) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
  }
  ByteSpan span() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<uint8_t[]> bytes_;
};

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

// Reads a varint at the start of `bytes`; a failure must be DATA_LOSS and leave
// the reader where it was.
std::optional<uint64_t> ReadVarint(ByteSpan bytes, size_t* read = nullptr,
                                   uint64_t max = UINT64_MAX) {
  Exact exact(bytes);
  ByteReader reader(exact.span());
  absl::StatusOr<uint64_t> value = reader.Varint(max);
  if (read != nullptr) *read = reader.position();
  if (value.ok()) return *value;
  EXPECT_TRUE(absl::IsDataLoss(value.status())) << value.status();
  EXPECT_EQ(reader.position(), 0);
  return std::nullopt;
}

Data WriteVarint(uint64_t value) {
  Buffer buffer;
  ByteWriter(&buffer).Varint(value);
  return {buffer.span().begin(), buffer.span().end()};
}

// Values of every length, and those next to where the length changes.
std::vector<uint64_t> Values() {
  std::vector<uint64_t> values;
  for (int bit = 0; bit < 64; ++bit) {
    uint64_t power = uint64_t{1} << bit;
    values.insert(values.end(), {power - 1, power, power + 1});
  }
  values.push_back(UINT64_MAX);
  return values;
}

TEST(Endian, LoadsAndStoresAreLittleEndianAndNeedNoAlignment) {
  const Data bytes = {0xFF, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88};
  EXPECT_EQ(LoadLe<uint8_t>(&bytes[1]), 0x01);
  EXPECT_EQ(LoadLe<uint16_t>(&bytes[1]), 0x0201);
  EXPECT_EQ(LoadLe<uint32_t>(&bytes[1]), 0x04030201);
  EXPECT_EQ(LoadLe<uint64_t>(&bytes[1]), 0x8807060504030201);
  EXPECT_EQ(LoadLe<int64_t>(&bytes[1]),
            static_cast<int64_t>(0x8807060504030201));
  Data stored(9, 0xFF);
  StoreLe<uint64_t>(&stored[1], 0x8807060504030201);
  EXPECT_EQ(stored, bytes);
}

TEST(Checked, AddAndMultiply) {
  uint64_t result = 0;
  EXPECT_TRUE(CheckedAdd(UINT64_MAX - 5, 5, &result));
  EXPECT_EQ(result, UINT64_MAX);
  EXPECT_FALSE(CheckedAdd(UINT64_MAX, 1, &result));
  EXPECT_FALSE(CheckedAdd(uint64_t{1} << 63, uint64_t{1} << 63, &result));
  EXPECT_TRUE(CheckedMul(uint64_t{1} << 32, UINT32_MAX, &result));
  EXPECT_EQ(result, uint64_t{UINT32_MAX} << 32);
  EXPECT_TRUE(CheckedMul(UINT64_MAX, 0, &result));
  EXPECT_EQ(result, 0);
  EXPECT_FALSE(CheckedMul(uint64_t{1} << 32, uint64_t{1} << 32, &result));
  EXPECT_FALSE(CheckedMul(UINT64_MAX, 2, &result));
}

TEST(Varint, KnownBytes) {
  const std::vector<std::pair<uint64_t, Data>> cases = {
      {0, {0x00}},
      {1, {0x01}},
      {127, {0x7F}},
      {128, {0x80, 0x01}},
      {300, {0xAC, 0x02}},
      {16383, {0xFF, 0x7F}},
      {16384, {0x80, 0x80, 0x01}},
      {UINT32_MAX, {0xFF, 0xFF, 0xFF, 0xFF, 0x0F}},
      {uint64_t{1} << 63,
       {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}},
      {UINT64_MAX,
       {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}},
  };
  for (const auto& [value, bytes] : cases) {
    EXPECT_EQ(WriteVarint(value), bytes) << value;
    EXPECT_EQ(VarintSize(value), bytes.size()) << value;
    size_t read = 0;
    EXPECT_EQ(ReadVarint(bytes, &read), value);
    EXPECT_EQ(read, bytes.size()) << value;
  }
}

TEST(Varint, EveryLengthComesBackAndStopsAtItsEnd) {
  for (uint64_t value : Values()) {
    Data bytes = WriteVarint(value);
    EXPECT_EQ(VarintSize(value), bytes.size()) << value;
    bytes.push_back(0xFF);  // belongs to what follows
    size_t read = 0;
    EXPECT_EQ(ReadVarint(bytes, &read), value);
    EXPECT_EQ(read, bytes.size() - 1) << value;
  }
}

TEST(Varint, EveryTruncationIsRefused) {
  for (uint64_t value : Values()) {
    const Data bytes = WriteVarint(value);
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_EQ(ReadVarint({bytes.data(), length}), std::nullopt)
          << value << " cut to " << length;
    }
  }
}

// Of all that two bytes can be, one form of each number is taken.
TEST(Varint, OnlyTheShortestFormOfAllTwoBytesIsTaken) {
  for (uint32_t first = 0; first < 256; ++first) {
    for (uint32_t second = 0; second < 256; ++second) {
      const Data bytes = {static_cast<uint8_t>(first),
                          static_cast<uint8_t>(second)};
      std::optional<uint64_t> expected;
      if (first < 0x80) {
        expected = first;
      } else if (second > 0 && second < 0x80) {
        expected = first - 0x80 + second * 0x80;
      }
      ASSERT_EQ(ReadVarint(bytes), expected) << first << " " << second;
    }
  }
}

TEST(Varint, LongerFormsAreRefused) {
  for (uint64_t value : Values()) {
    Data bytes = WriteVarint(value);
    while (bytes.size() < 12) {
      bytes.back() = static_cast<uint8_t>(bytes.back() | 0x80);
      bytes.push_back(0x00);
      EXPECT_EQ(ReadVarint(bytes), std::nullopt)
          << value << " in " << bytes.size() << " bytes";
    }
  }
}

TEST(Varint, MoreThan64BitsAreRefused) {
  for (uint8_t low : {uint8_t{0x80}, uint8_t{0xFF}}) {
    for (uint32_t tenth = 2; tenth < 256; ++tenth) {
      Data bytes(9, low);
      bytes.push_back(static_cast<uint8_t>(tenth));
      bytes.insert(bytes.end(), {0x80, 0x01, 0x00});
      EXPECT_EQ(ReadVarint(bytes), std::nullopt) << tenth;
    }
  }
  EXPECT_EQ(ReadVarint(Data(20, 0xFF)), std::nullopt);
}

TEST(Varint, LimitIsTheLargestNumberTaken) {
  for (uint64_t limit : Values()) {
    EXPECT_EQ(ReadVarint(WriteVarint(limit), nullptr, limit), limit);
    if (limit == UINT64_MAX) continue;
    EXPECT_EQ(ReadVarint(WriteVarint(limit + 1), nullptr, limit), std::nullopt);
    EXPECT_EQ(ReadVarint(WriteVarint(UINT64_MAX), nullptr, limit),
              std::nullopt);
  }
  Data bytes = WriteVarint(301);
  ByteReader reader(bytes, "size");
  EXPECT_THAT(Message(reader.Varint(300).status()),
              AllOf(HasSubstr("301"), HasSubstr("300"), HasSubstr("size")));
}

template <typename T>
void ReadsWhatIsWhole() {
  const Data bytes = {0x81, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x88};
  for (size_t length = 0; length <= bytes.size(); ++length) {
    Exact exact({bytes.data(), length});
    ByteReader reader(exact.span());
    absl::StatusOr<T> value = reader.Le<T>();
    ASSERT_EQ(value.ok(), length >= sizeof(T)) << length;
    if (value.ok()) {
      EXPECT_EQ(*value, LoadLe<T>(bytes.data()));
      EXPECT_EQ(reader.position(), sizeof(T));
      EXPECT_EQ(reader.remaining(), length - sizeof(T));
    } else {
      EXPECT_TRUE(absl::IsDataLoss(value.status()));
      EXPECT_EQ(reader.position(), 0);
    }
  }
}

TEST(ByteReader, FixedSizeNumbersAndEveryTruncation) {
  ReadsWhatIsWhole<uint8_t>();
  ReadsWhatIsWhole<uint16_t>();
  ReadsWhatIsWhole<uint32_t>();
  ReadsWhatIsWhole<uint64_t>();
  ReadsWhatIsWhole<int32_t>();
}

TEST(ByteReader, BytesAreAViewAndNeverMoreThanThereAre) {
  Exact exact(Data{1, 2, 3, 4, 5});
  ByteReader reader(exact.span());
  absl::StatusOr<ByteSpan> two = reader.Bytes(2);
  ASSERT_TRUE(two.ok());
  EXPECT_EQ(two->data(), exact.span().data());
  EXPECT_EQ(two->size(), 2);
  for (uint64_t count :
       {uint64_t{4}, uint64_t{1} << 32, UINT64_MAX - 1, UINT64_MAX}) {
    absl::StatusOr<ByteSpan> more = reader.Bytes(count);
    EXPECT_TRUE(absl::IsDataLoss(more.status())) << count;
    EXPECT_EQ(reader.position(), 2);
  }
  absl::StatusOr<ByteSpan> none = reader.Bytes(0);
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->empty());
  ASSERT_TRUE(reader.Bytes(3).ok());
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_TRUE(reader.Bytes(0).ok());
  EXPECT_FALSE(reader.Bytes(1).ok());
}

TEST(ByteReader, EmptyData) {
  ByteReader reader(ByteSpan{});
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(reader.remaining(), 0);
  EXPECT_TRUE(reader.ExpectEnd().ok());
  EXPECT_TRUE(reader.Bytes(0).ok());
  EXPECT_FALSE(reader.Le<uint8_t>().ok());
  EXPECT_FALSE(reader.Varint().ok());
  EXPECT_FALSE(reader.String(10).ok());
  EXPECT_TRUE(reader.Sub(0, "part").ok());
  EXPECT_FALSE(reader.Sub(1, "part").ok());
}

TEST(ByteReader, Strings) {
  Buffer buffer;
  const std::string with_nul("a\0b", 3);
  const std::string longer(300, 'x');
  ByteWriter writer(&buffer);
  writer.String("");
  writer.String(with_nul);
  writer.String(longer);
  EXPECT_EQ(buffer.size(), 1 + 4 + 2 + 300);
  Exact exact(buffer.span());
  ByteReader reader(exact.span());
  EXPECT_EQ(reader.String(0).value(), "");
  EXPECT_EQ(reader.String(3).value(), with_nul);
  EXPECT_EQ(reader.String(300).value(), longer);
  EXPECT_TRUE(reader.AtEnd());
  for (size_t length = 0; length < 302; ++length) {
    Exact cut({buffer.data() + 5, length});
    ByteReader short_reader(cut.span());
    EXPECT_TRUE(absl::IsDataLoss(short_reader.String(300).status())) << length;
  }
}

TEST(ByteReader, StringAboveItsLimitIsRefusedBeforeItIsRead) {
  Buffer buffer;
  ByteWriter writer(&buffer);
  writer.String(std::string(11, 'x'));
  ByteReader reader(buffer.span(), "path");
  absl::Status status = reader.String(10).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("path"), HasSubstr("11"), HasSubstr("10")));
  // A length that no memory has.
  Buffer huge;
  ByteWriter(&huge).Varint(UINT64_MAX);
  EXPECT_TRUE(
      absl::IsDataLoss(ByteReader(huge.span()).String(UINT64_MAX).status()));
}

TEST(ByteReader, SubReaderCannotLeaveItsParent) {
  Exact exact(Data{1, 2, 3, 4, 5, 6, 7, 8});
  ByteReader parent(exact.span());
  ASSERT_TRUE(parent.Le<uint8_t>().ok());
  absl::StatusOr<ByteReader> child = parent.Sub(4, "child");
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(parent.position(), 5);  // the parent goes on behind it
  EXPECT_EQ(child->remaining(), 4);
  EXPECT_FALSE(child->Bytes(5).ok());
  EXPECT_FALSE(child->Le<uint64_t>().ok());
  EXPECT_FALSE(child->Sub(5, "grandchild").ok());
  absl::StatusOr<ByteReader> grandchild = child->Sub(3, "grandchild");
  ASSERT_TRUE(grandchild.ok());
  EXPECT_FALSE(grandchild->Le<uint32_t>().ok());
  EXPECT_EQ(grandchild->Le<uint16_t>().value(), 0x0302);
  EXPECT_EQ(grandchild->Le<uint8_t>().value(), 4);
  EXPECT_FALSE(grandchild->Le<uint8_t>().ok());
  EXPECT_EQ(child->Le<uint8_t>().value(), 5);
  EXPECT_FALSE(child->Le<uint8_t>().ok());
  EXPECT_EQ(parent.Le<uint8_t>().value(), 6);
  for (uint64_t count : {uint64_t{3}, UINT64_MAX - 6, UINT64_MAX}) {
    EXPECT_TRUE(absl::IsDataLoss(parent.Sub(count, "child").status())) << count;
    EXPECT_EQ(parent.position(), 6);
  }
  // A varint that goes on in the parent ends early in the child.
  const Data varint = {0x80, 0x80, 0x01};
  ByteReader whole(varint);
  absl::StatusOr<ByteReader> part = whole.Sub(2, "part");
  ASSERT_TRUE(part.ok());
  EXPECT_THAT(Message(part->Varint().status()), HasSubstr("ends early"));
}

TEST(ByteReader, ExpectEnd) {
  const Data bytes(3);
  ByteReader reader(bytes, "head");
  absl::Status status = reader.ExpectEnd();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(Message(status), AllOf(HasSubstr("head"), HasSubstr("3 bytes")));
  ASSERT_TRUE(reader.Bytes(2).ok());
  EXPECT_FALSE(reader.ExpectEnd().ok());
  ASSERT_TRUE(reader.Bytes(1).ok());
  EXPECT_TRUE(reader.ExpectEnd().ok());
}

TEST(ByteReader, MessagesNameWhatAndWhere) {
  const Data bytes = {1, 2, 3, 0x80, 0x00, 6, 7};
  ByteReader reader(bytes, "index", 1000);
  ASSERT_TRUE(reader.Bytes(2).ok());
  EXPECT_THAT(Message(reader.Le<uint64_t>().status()),
              AllOf(HasSubstr("index"), HasSubstr("byte 1002"),
                    HasSubstr("8 bytes wanted"), HasSubstr("5 left")));
  absl::StatusOr<ByteReader> child = reader.Sub(4, "entry");
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE(child->Bytes(1).ok());
  EXPECT_THAT(Message(child->Varint().status()),
              AllOf(HasSubstr("entry"), HasSubstr("byte 1003"),
                    HasSubstr("shortest form")));
  EXPECT_EQ(Message(child->Error("kind is ", 9)),
            "entry at byte 1003: kind is 9");
}

TEST(ByteWriter, AppendsToWhatIsThere) {
  Buffer buffer;
  ByteWriter writer(&buffer);
  writer.Le<uint8_t>(0x01);
  writer.Le<uint16_t>(0x0203);
  writer.Le<uint32_t>(0x04050607);
  writer.Le<uint64_t>(0x08090A0B0C0D0E0F);
  const Data raw = {0xAA, 0xBB};
  writer.Bytes(raw);
  writer.Varint(300);
  writer.String("hi");
  const Data expected = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0F,
                         0x0E, 0x0D, 0x0C, 0x0B, 0x0A, 0x09, 0x08, 0xAA,
                         0xBB, 0xAC, 0x02, 0x02, 'h',  'i'};
  EXPECT_EQ(Data(buffer.begin(), buffer.end()), expected);
}

// Any calls on any bytes: every success is within the data and moves forward by
// what it says, every failure is DATA_LOSS.
TEST(ByteReader, AnyCallsOnAnyBytesStayInside) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    Data bytes(random() % 40);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    Exact exact(bytes);
    ByteReader reader(exact.span());
    for (int call = 0; call < 10; ++call) {
      const size_t before = reader.position();
      absl::Status status;
      switch (random() % 5) {
        case 0:
          status = reader.Varint(random()).status();
          break;
        case 1:
          status = reader.Le<uint32_t>().status();
          break;
        case 2:
          status = reader.String(random() % 20).status();
          break;
        case 3: {
          const uint64_t count = random() % 16;
          absl::StatusOr<ByteSpan> view = reader.Bytes(count);
          status = view.status();
          if (view.ok() && count != 0) {
            ASSERT_EQ(view->data(), exact.span().data() + before);
            ASSERT_LE(before + count, bytes.size());
          }
          break;
        }
        default: {
          absl::StatusOr<ByteReader> child = reader.Sub(random() % 16, "part");
          status = child.status();
          if (child.ok()) {
            ASSERT_EQ(before + child->remaining(), reader.position());
          }
        }
      }
      ASSERT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
      ASSERT_GE(reader.position(), before);
      ASSERT_LE(reader.position(), bytes.size());
      ASSERT_EQ(reader.remaining(), bytes.size() - reader.position());
    }
  }
}

}  // namespace
}  // namespace zipllm
