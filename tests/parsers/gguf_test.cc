#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/dtype.h"
#include "parsers/files.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ4K = 12;
constexpr uint32_t kRemoved = 4;  // Q4_2

// Numbers of value types.
constexpr uint32_t kUint8 = 0;
constexpr uint32_t kUint32 = 4;
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;
constexpr uint32_t kUint64 = 10;

TEST(GgufTest, HeaderTensorsPaddingAndTail) {
  for (uint32_t version : {2u, 3u}) {
    GgufFile file(3, 1, version);
    file.Text("general.name").U32(kString).Text("x");
    file.Tensor("b", {256, 2}, kQ4K, 64).Tensor("a", {3}, kF32, 0);
    file.Tensor("c", {}, kF32, 352).Align();
    const uint64_t h = file.size();
    file.Fill(352 + 4 + 28);
    const Layout layout = Label(file.bytes());
    EXPECT_EQ(layout.format, "gguf");
    EXPECT_THAT(
        Show(layout.segments),
        ElementsAre(Show(GapAt(0, h)),
                    Show(Tensor("a", DType::kF32, {3}, h, 12)),
                    Show(GapAt(h + 12, 52)),
                    Show(Tensor("b", DType::kGgmlQ4K, {2, 256}, h + 64, 288)),
                    Show(Tensor("c", DType::kF32, {}, h + 352, 4)),
                    Show(GapAt(h + 356, 28))));
  }
}

TEST(GgufTest, NoTensors) {
  GgufFile file(0, 0);
  EXPECT_EQ(Label(file.bytes()).format, "gguf");
  EXPECT_THAT(Show(Label(file.bytes()).segments),
              ElementsAre(Show(GapAt(0, 24))));
  file.Fill(5);
  EXPECT_THAT(Show(Label(file.bytes()).segments),
              ElementsAre(Show(GapAt(0, 24)), Show(GapAt(24, 5))));
}

// What the files of one model have in common is found by its length and its
// bytes, wherever it is.
TEST(GgufTest, LargePairsAreSegments) {
  for (const bool first : {false, true}) {
    // Written once with small pairs between, once without.
    GgufFile file(1, first ? 3 : 5);
    if (!first) file.Text("general.name").U32(kString).Text("x");
    const uint64_t tokens = file.size();
    file.Text("tokens").U32(kArray).U32(kString).U64(400);
    for (int i = 0; i < 400; ++i) file.Text("token");
    const uint64_t scores = file.size();
    file.Text("scores").U32(kArray).U32(kUint32).U64(1100).Fill(4400);
    const uint64_t end = file.size();
    if (!first) file.Text("eos").U32(kUint32).U32(7);
    const uint64_t next = file.size();
    file.Text("template").U32(kString).Text(std::string(4096, 'x'));
    const uint64_t rest = file.size();
    file.Tensor("t", {32}, kF32, 0).Align();
    const uint64_t h = file.size();
    file.Fill(128);
    std::vector<Segment> expected;
    if (!first) {
      expected = {GapAt(0, tokens), GapAt(tokens, scores - tokens),
                  GapAt(scores, end - scores), GapAt(end, next - end)};
    } else {
      expected = {GapAt(0, 24), GapAt(24, scores - 24),
                  GapAt(scores, end - scores)};
    }
    expected.push_back(GapAt(next, rest - next));
    expected.push_back(GapAt(rest, h - rest));
    expected.push_back(Tensor("t", DType::kF32, {32}, h, 128));
    EXPECT_EQ(Show(Label(file.bytes()).segments), Show(expected));
  }
}

TEST(GgufTest, PairsBelow4KiBAreNotSegments) {
  for (const size_t more : {0, 1}) {
    GgufFile file(0, 1);
    // Key, type, length, text.
    file.Text("key").U32(kString).Text(
        std::string(4096 - 11 - 4 - 8 - 1 + more, 'x'));
    const uint64_t size = file.size();
    EXPECT_EQ(size, 24 + 4095 + more);
    EXPECT_THAT(Label(file.bytes()).segments.size(), more + 1);
  }
}

TEST(GgufTest, OtherVersionsAndByteOrdersAreBytes) {
  for (uint32_t version : {0u, 1u, 4u, 0x02000000u, 0x03000000u}) {
    ExpectBytes(GgufFile(0, 0, version).bytes());
  }
  Bytes other = GgufFile(0, 0).bytes();
  other[3] = 'U';
  ExpectBytes(other);
}

TEST(GgufTest, EveryElementType) {
  const std::pair<uint32_t, DType> plain[] = {
      {0, DType::kF32},  {1, DType::kF16},  {24, DType::kI8},
      {25, DType::kI16}, {26, DType::kI32}, {27, DType::kI64},
      {28, DType::kF64}, {30, DType::kBF16}};
  std::vector<std::pair<uint32_t, DType>> types(std::begin(plain),
                                                std::end(plain));
  for (const DTypeInfo& info : AllDTypes()) {
    const int number = static_cast<int>(info.dtype);
    if (number >= kGgmlDTypeBase) {
      types.emplace_back(number - kGgmlDTypeBase, info.dtype);
    }
  }
  for (const auto& [number, dtype] : types) {
    const DTypeInfo& info = *FindDType(dtype);
    SCOPED_TRACE(info.name);
    const uint64_t row = 2 * info.block_elements;
    const uint64_t bytes = 2 * 3 * info.block_bytes;
    GgufFile file(1, 0);
    file.Tensor("t", {row, 3}, number, 0).Align();
    const uint64_t h = file.size();
    file.Fill(bytes);
    EXPECT_THAT(Show(Label(file.bytes()).segments),
                ElementsAre(Show(GapAt(0, h)),
                            Show(Tensor("t", dtype, {3, row}, h, bytes))));
    if (info.block_elements == 1) continue;
    // Whole blocks, but rows that end within one.
    GgufFile odd(1, 0);
    odd.Tensor("t", {row / 2 + 1, row}, number, 0).Align().Fill(1 << 20);
    ExpectBytes(odd.bytes());
  }
}

TEST(GgufTest, UnknownElementTypeKeepsNameAndReachesToTheNext) {
  for (uint32_t type :
       {kRemoved, 5u, 31u, 36u, 43u, 191u, 192u, 256u, 0xFFFFFFFFu}) {
    GgufFile file(4, 0);
    file.Tensor("a", {8}, type, 0).Tensor("b", {8}, kF32, 64);
    file.Tensor("none", {0, 8}, type, 96).Tensor("c", {5}, type, 96).Align();
    const uint64_t h = file.size();
    file.Fill(133);
    EXPECT_THAT(Show(Label(file.bytes()).segments),
                ElementsAre(Show(GapAt(0, h)),
                            Show(Tensor("a", DType::kBytes, {}, h, 64)),
                            Show(Tensor("b", DType::kF32, {8}, h + 64, 32)),
                            Show(Tensor("none", DType::kBytes, {}, h + 96, 0)),
                            Show(Tensor("c", DType::kBytes, {}, h + 96, 37))));
    const Outcome piped = Detect(file.bytes(), std::nullopt);
    ASSERT_TRUE(piped.layout);
    EXPECT_EQ(
        Show(piped.layout->segments.back()),
        Show(Tensor("c", DType::kBytes, {}, h + 96, UINT64_MAX - h - 96)));
  }
  // Two that start at one place overlap.
  GgufFile file(2, 0);
  file.Tensor("a", {8}, kRemoved, 0).Tensor("b", {8}, kRemoved, 0);
  ExpectBytes(file.Align().Fill(64).bytes());
  // One that starts at the end has no bytes.
  GgufFile end(1, 0);
  ExpectBytes(end.Tensor("a", {8}, kRemoved, 0).Align().bytes());
}

TEST(GgufTest, EveryValueTypeIsSkipped) {
  const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  GgufFile file(1, 2 * 13 + 3);
  for (uint32_t type = 0; type < 13; ++type) {
    if (type == kString) {
      file.Text("s").U32(type).Text("value");
      file.Text("s[]").U32(kArray).U32(type).U64(3);
      file.Text("a").Text("").Text("ccc");
    } else if (type == kArray) {
      // Arrays of arrays: of numbers, of texts, of nothing.
      file.Text("a").U32(kArray).U32(kArray).U64(3);
      file.U32(kUint8).U64(5).Fill(5);
      file.U32(kString).U64(2).Text("x").Text("yy");
      file.U32(kUint64).U64(0);
      file.Text("a[]").U32(kArray).U32(kArray).U64(0);
    } else {
      file.Text("n").U32(type).Fill(sizes[type]);
      file.Text("n[]").U32(kArray).U32(type).U64(7).Fill(7 * sizes[type]);
    }
  }
  file.Text("").U32(kUint8).U8(1);
  file.Text("empty").U32(kArray).U32(kString).U64(0);
  file.Text("last").U32(kUint64).U64(UINT64_MAX);
  file.Tensor("t", {4}, kF32, 0).Align().Fill(16);
  const Layout layout = Label(file.bytes());
  ASSERT_EQ(layout.segments.size(), 2u);
  EXPECT_EQ(layout.segments[1].name, "t");
}

TEST(GgufTest, MalformedValues) {
  auto expect_bytes = [](GgufFile& file) {
    ExpectBytes(file.Fill(4096).bytes());
  };
  for (uint32_t type : {13u, 0xFFFFFFFFu}) {
    GgufFile scalar(0, 1);
    expect_bytes(scalar.Text("k").U32(type));
    GgufFile array(0, 1);
    expect_bytes(array.Text("k").U32(kArray).U32(type).U64(1));
    GgufFile nested(0, 1);
    expect_bytes(
        nested.Text("k").U32(kArray).U32(kArray).U64(1).U32(type).U64(1));
  }
  // One level more than is read.
  GgufFile deep(0, 1);
  expect_bytes(
      deep.Text("k").U32(kArray).U32(kArray).U64(1).U32(kArray).U64(0));
  // Counts and lengths that cannot be.
  for (uint64_t huge : {uint64_t{5000}, kMaxPrefix, uint64_t{1} << 60,
                        uint64_t{1} << 61, uint64_t{1} << 63, UINT64_MAX}) {
    GgufFile text(0, 1);
    expect_bytes(text.Text("k").U32(kString).U64(huge));
    GgufFile key(0, 1);
    expect_bytes(key.U64(huge));
    GgufFile numbers(0, 1);
    expect_bytes(numbers.Text("k").U32(kArray).U32(kUint64).U64(huge));
    GgufFile texts(0, 1);
    expect_bytes(texts.Text("k").U32(kArray).U32(kString).U64(huge));
    GgufFile arrays(0, 1);
    expect_bytes(arrays.Text("k").U32(kArray).U32(kArray).U64(huge));
    GgufFile tensors(huge, 0);
    expect_bytes(tensors);
    GgufFile pairs(0, huge);
    expect_bytes(pairs);
  }
}

TEST(GgufTest, Alignment) {
  auto with = [](uint32_t alignment, size_t align_to) {
    GgufFile file(1, 1);
    file.Text("general.alignment").U32(kUint32).U32(alignment);
    file.Tensor("t", {4}, kF32, 0).Align(align_to).Fill(16);
    return file.bytes();
  };
  for (uint32_t alignment : {1u, 2u, 8u, 32u, 64u, 4096u, 1u << 20}) {
    const Bytes file = with(alignment, alignment);
    const Layout layout = Label(file);
    ASSERT_EQ(layout.segments.size(), 2u) << alignment;
    EXPECT_EQ(layout.segments[1].offset, file.size() - 16);
  }
  for (uint32_t alignment : {0u, 3u, 48u, 1u << 21, 0xFFFFFFFFu}) {
    ExpectBytes(with(alignment, 1 << 21));
  }
  GgufFile of_other_type(1, 1);
  of_other_type.Text("general.alignment").U32(kUint64).U64(32);
  ExpectBytes(of_other_type.Tensor("t", {4}, kF32, 0).Align().Fill(16).bytes());
  GgufFile twice(1, 2);
  twice.Text("general.alignment").U32(kUint32).U32(32);
  twice.Text("general.alignment").U32(kUint32).U32(32);
  ExpectBytes(twice.Tensor("t", {4}, kF32, 0).Align().Fill(16).bytes());
}

TEST(GgufTest, MalformedTensors) {
  auto one = [](std::string_view name, const std::vector<uint64_t>& dims,
                uint32_t type, uint64_t offset) {
    GgufFile file(1, 0);
    return file.Tensor(name, dims, type, offset).Align().Fill(64).bytes();
  };
  EXPECT_EQ(Label(one("t", {16}, kF32, 0)).format, "gguf");
  EXPECT_EQ(Label(one("t", std::vector<uint64_t>(8, 2), 24, 0)).format,
            "bytes");  // 256 elements
  EXPECT_EQ(Label(one("t", std::vector<uint64_t>(8, 1), 24, 0)).format, "gguf");
  ExpectBytes(one("t", std::vector<uint64_t>(9, 1), 24, 0));
  ExpectBytes(one("t", {17}, kF32, 0));
  ExpectBytes(one("t", {16}, kF32, 1));
  ExpectBytes(one("t", {1}, kF32, UINT64_MAX));
  ExpectBytes(one("t", {1}, kF32, UINT64_MAX - 128));
  ExpectBytes(one("t", {0}, kF32, 65));
  ExpectBytes(one("t", {uint64_t{1} << 62}, kF32, 0));
  ExpectBytes(one("t", {uint64_t{1} << 32, uint64_t{1} << 32}, kF32, 0));
  ExpectBytes(one("t", {UINT64_MAX, 2}, kRemoved, 0));
  ExpectBytes(one("\xFF", {1}, kF32, 0));
  EXPECT_EQ(Label(one(std::string(kMaxNameBytes, 'n'), {1}, kF32, 0)).format,
            "gguf");
  ExpectBytes(one(std::string(kMaxNameBytes + 1, 'n'), {1}, kF32, 0));

  auto two = [](std::string_view a, uint64_t at_a, std::string_view b,
                uint64_t at_b) {
    GgufFile file(2, 0);
    file.Tensor(a, {8}, kF32, at_a).Tensor(b, {8}, kF32, at_b);
    return file.Align().Fill(64).bytes();
  };
  EXPECT_EQ(Label(two("a", 32, "b", 0)).format, "gguf");
  ExpectBytes(two("a", 0, "b", 31));
  ExpectBytes(two("a", 0, "b", 0));
  ExpectBytes(two("a", 0, "a", 32));
}

TEST(GgufTest, AsksForTwiceThePrefixWhileTheHeaderGoesOn) {
  GgufFile file(1, 1);
  file.Text("k").U32(kArray).U32(kString).U64(20000);
  for (int i = 0; i < 20000; ++i) file.Text("token");
  file.Tensor("t", {4}, kF32, 0);
  const size_t header_end = file.size();
  file.Align().Fill(16);
  EXPECT_EQ(
      Detect(ByteSpan(file.bytes()).first(1000), std::nullopt).need_prefix,
      2000u);
  int calls = 0;
  const Layout layout = DetectInSteps(file.bytes(), 1, true, &calls);
  EXPECT_EQ(layout.format, "gguf");
  // 1 -> 9 (safetensors asks) -> 24 -> 48 ... -> 24 * 2^k >= header_end
  int expected = 3;
  for (size_t prefix = 24; prefix < header_end; prefix *= 2) ++expected;
  EXPECT_EQ(calls, expected);
  // What cannot end within kMaxPrefix is given up at once.
  GgufFile endless(1, 1);
  endless.Text("k").U32(kString).U64(kMaxPrefix);
  const Outcome outcome = Detect(endless.bytes(), std::nullopt);
  ASSERT_TRUE(outcome.layout);
  EXPECT_EQ(outcome.layout->format, "bytes");
}

Bytes SmallFile() {
  GgufFile file(3, 3);
  file.Text("general.alignment").U32(kUint32).U32(16);
  file.Text("s").U32(kString).Text("text");
  file.Text("a").U32(kArray).U32(kUint8).U64(3).Fill(3);
  file.Tensor("x", {3}, kF32, 0).Tensor("y", {256}, kQ4K, 16);
  file.Tensor("z", {8}, kRemoved, 160).Align(16);
  return file.Fill(170).bytes();
}

TEST(GgufTest, EveryTruncation) {
  const Bytes file = SmallFile();
  ASSERT_EQ(Label(file).format, "gguf");
  ASSERT_EQ(Label(file).segments.size(), 5u);
  for (size_t size = 0; size < file.size(); ++size) {
    const Bytes cut(file.begin(), file.begin() + size);
    const Layout layout = Label(cut);
    ExpectTiles(layout, size);
    // The last tensor is of unknown length: one byte of its ten is enough.
    EXPECT_EQ(layout.format, size + 9 < file.size() ? "bytes" : "gguf");
  }
}

TEST(GgufTest, EveryBitFlip) {
  const Bytes file = SmallFile();
  for (size_t bit = 0; bit < 8 * file.size(); ++bit) {
    Bytes flipped = file;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    ExpectTiles(Label(flipped), file.size());
    const Layout piped = DetectInSteps(flipped, 0, true);
    const Segment& last = piped.segments.back();
    ExpectTiles(piped, last.offset + last.length);
  }
}

// Layouts drawn at random, written in a random order, must come back.
TEST(GgufTest, RandomLayouts) {
  std::mt19937_64 random(20230821);
  std::vector<std::pair<uint32_t, DType>> types = {{0, DType::kF32},
                                                   {1, DType::kF16},
                                                   {30, DType::kBF16},
                                                   {27, DType::kI64}};
  for (const DTypeInfo& info : AllDTypes()) {
    const int number = static_cast<int>(info.dtype);
    if (number >= kGgmlDTypeBase) {
      types.emplace_back(number - kGgmlDTypeBase, info.dtype);
    }
  }
  for (int round = 0; round < 300; ++round) {
    const uint32_t alignment = uint32_t{1} << random() % 8;
    std::vector<Segment> expected;
    std::vector<std::pair<uint32_t, Segment>> tensors;
    uint64_t offset = 0;
    const size_t count = 1 + random() % 12;
    for (size_t i = 0; i < count; ++i) {
      if (const uint64_t padding = -offset % alignment) {
        expected.push_back(GapAt(offset, padding));
        offset += padding;
      }
      const auto& [number, dtype] = types[random() % types.size()];
      const DTypeInfo& info = *FindDType(dtype);
      std::vector<uint64_t> shape;
      uint64_t blocks = 1;
      for (size_t d = random() % 4; d > 0; --d) {
        shape.push_back(random() % 10 == 0 ? 0 : 1 + random() % 5);
        blocks *= shape.back();
      }
      shape.push_back(info.block_elements);
      const std::string name(1, static_cast<char>('a' + i));
      expected.push_back(
          Tensor(name, dtype, shape, offset, blocks * info.block_bytes));
      tensors.emplace_back(number, expected.back());
      offset += blocks * info.block_bytes;
    }
    std::shuffle(tensors.begin(), tensors.end(), random);
    GgufFile file(tensors.size(), 1);
    file.Text("general.alignment").U32(kUint32).U32(alignment);
    for (const auto& [number, tensor] : tensors) {
      file.Tensor(tensor.name, {tensor.shape.rbegin(), tensor.shape.rend()},
                  number, tensor.offset);
    }
    file.Align(alignment);
    const uint64_t h = file.size();
    file.Fill(offset);
    for (Segment& segment : expected) segment.offset += h;
    expected.insert(expected.begin(), GapAt(0, h));

    const Layout layout = Label(file.bytes());
    ASSERT_EQ(layout.format, "gguf");
    ASSERT_EQ(Show(layout.segments), Show(expected));
    for (size_t first :
         {size_t{0}, size_t{1}, size_t{24}, size_t{random() % 100}}) {
      EXPECT_TRUE(Same(DetectInSteps(file.bytes(), first, false), layout));
    }
  }
}

}  // namespace
}  // namespace zipllm::parsers
