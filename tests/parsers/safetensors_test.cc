#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/dtype.h"
#include "parsers/files.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;
using std::string_view_literals::operator""sv;

constexpr uint64_t kPrefix = 8;

void ExpectMalformed(std::string_view json, size_t data_bytes = 64) {
  SCOPED_TRACE(json.substr(0, 200));
  ExpectBytes(SafetensorsFile(json, data_bytes));
}

TEST(SafetensorsTest, HeaderTensorsHolesAndTail) {
  // In any order, with a hole, a tensor of no elements, a scalar and a tail.
  const std::string json = "{\"__metadata__\":{\"format\":\"pt\"}," +
                           Entry("late", "F32", "2, 2", 20, 36) + "," +
                           Entry("scalar", "I16", "", 12, 14) + "," +
                           Entry("none", "F16", "4,0", 20, 20) + "," +
                           Entry("first", "BF16", "3,2", 0, 12) + "}   ";
  const Bytes file = SafetensorsFile(json, 40);
  const uint64_t h = kPrefix + json.size();
  const Layout layout = Label(file);
  EXPECT_EQ(layout.format, "safetensors");
  EXPECT_THAT(Show(layout.segments),
              ElementsAre(Show(GapAt(0, h)),
                          Show(Tensor("first", DType::kBF16, {3, 2}, h, 12)),
                          Show(Tensor("scalar", DType::kI16, {}, h + 12, 2)),
                          Show(GapAt(h + 14, 6)),
                          Show(Tensor("none", DType::kF16, {4, 0}, h + 20, 0)),
                          Show(Tensor("late", DType::kF32, {2, 2}, h + 20, 16)),
                          Show(GapAt(h + 36, 4))));
}

TEST(SafetensorsTest, EveryElementType) {
  struct Type {
    const char* name;
    DType dtype;
    uint64_t bits;
  };
  // Of the format's own list.
  const Type types[] = {{"BOOL", DType::kBool, 8},
                        {"F4", DType::kF4, 4},
                        {"F6_E2M3", DType::kF6E2M3, 6},
                        {"F6_E3M2", DType::kF6E3M2, 6},
                        {"U8", DType::kU8, 8},
                        {"I8", DType::kI8, 8},
                        {"F8_E5M2", DType::kF8E5M2, 8},
                        {"F8_E4M3", DType::kF8E4M3, 8},
                        {"F8_E8M0", DType::kF8E8M0, 8},
                        {"F8_E4M3FNUZ", DType::kF8E4M3FNUZ, 8},
                        {"F8_E5M2FNUZ", DType::kF8E5M2FNUZ, 8},
                        {"I16", DType::kI16, 16},
                        {"U16", DType::kU16, 16},
                        {"F16", DType::kF16, 16},
                        {"BF16", DType::kBF16, 16},
                        {"I32", DType::kI32, 32},
                        {"U32", DType::kU32, 32},
                        {"F32", DType::kF32, 32},
                        {"C64", DType::kC64, 64},
                        {"F64", DType::kF64, 64},
                        {"I64", DType::kI64, 64},
                        {"U64", DType::kU64, 64}};
  for (const Type& type : types) {
    const uint64_t bytes = 24 * type.bits / 8;
    const std::string json =
        "{" + Entry("t", type.name, "2,3,4", 0, bytes) + "}";
    const Layout layout = Label(SafetensorsFile(json, bytes));
    ASSERT_EQ(layout.segments.size(), 2u) << type.name;
    EXPECT_EQ(
        Show(layout.segments[1]),
        Show(Tensor("t", type.dtype, {2, 3, 4}, kPrefix + json.size(), bytes)));
    ExpectMalformed("{" + Entry("t", type.name, "2,3,4", 0, bytes - 1) + "}",
                    bytes - 1);
    ExpectMalformed("{" + Entry("t", type.name, "2,3,4", 0, bytes + 1) + "}",
                    bytes + 1);
  }
  ExpectMalformed("{" + Entry("t", "F4", "3", 0, 1) + "}");
  ExpectMalformed("{" + Entry("t", "F6_E2M3", "2", 0, 1) + "}");
}

TEST(SafetensorsTest, UnknownElementTypeKeepsNameAndRange) {
  for (const char* dtype : {"F3", "Q4_K", "bytes", ""}) {
    const std::string json = "{" + Entry("a", dtype, "7,9", 0, 5) + "," +
                             Entry("b", "U8", "3", 5, 8) + "}";
    const uint64_t h = kPrefix + json.size();
    EXPECT_THAT(Show(Label(SafetensorsFile(json, 8)).segments),
                ElementsAre(Show(GapAt(0, h)),
                            Show(Tensor("a", DType::kBytes, {}, h, 5)),
                            Show(Tensor("b", DType::kU8, {3}, h + 5, 3))));
  }
}

TEST(SafetensorsTest, NoTensors) {
  for (const char* json : {"{}", "{}      ", "{\"__metadata__\":{}}"}) {
    const Bytes file = SafetensorsFile(json, 0);
    const Layout layout = Label(file);
    EXPECT_EQ(layout.format, "safetensors");
    EXPECT_THAT(Show(layout.segments),
                ElementsAre(Show(GapAt(0, file.size()))));
  }
}

TEST(SafetensorsTest, HeaderMayBePadded) {
  for (std::string_view padding : {" "sv, "   \n\t "sv, "\0\0\0"sv}) {
    const std::string json =
        "{" + Entry("t", "U8", "1", 0, 1) + "}" + std::string(padding);
    const Layout layout = Label(SafetensorsFile(json, 1));
    ASSERT_EQ(layout.segments.size(), 2u);
    EXPECT_EQ(layout.segments[1].offset, kPrefix + json.size());
  }
}

TEST(SafetensorsTest, NamesAreAnyUtf8) {
  const std::string json =
      "{" + Entry("\\u00e9\\ud83d\\ude00 \xE6\xBC\xA2", "U8", "1", 0, 1) + "," +
      Entry("", "U8", "1", 1, 2) + "," + Entry("a\\u0000b", "U8", "1", 2, 3) +
      "}";
  const Layout layout = Label(SafetensorsFile(json, 3));
  ASSERT_EQ(layout.segments.size(), 4u);
  EXPECT_EQ(layout.segments[1].name, "\xC3\xA9\xF0\x9F\x98\x80 \xE6\xBC\xA2");
  EXPECT_EQ(layout.segments[2].name, "");
  EXPECT_EQ(layout.segments[3].name, std::string("a\0b", 3));
  ExpectMalformed("{" + Entry("\xFF", "U8", "1", 0, 1) + "}");
  ExpectMalformed("{" + Entry("\\ud83d", "U8", "1", 0, 1) + "}");
}

TEST(SafetensorsTest, LongestNameAndRank) {
  const std::string longest(kMaxNameBytes, 'n');
  EXPECT_EQ(
      Label(SafetensorsFile("{" + Entry(longest, "U8", "1", 0, 1) + "}", 1))
          .format,
      "safetensors");
  ExpectMalformed("{" + Entry(longest + "n", "U8", "1", 0, 1) + "}", 1);
  std::string ones = "1";
  for (size_t i = 1; i < kMaxRank; ++i) ones += ",1";
  EXPECT_EQ(Label(SafetensorsFile("{" + Entry("t", "U8", ones, 0, 1) + "}", 1))
                .format,
            "safetensors");
  ExpectMalformed("{" + Entry("t", "U8", ones + ",1", 0, 1) + "}", 1);
}

TEST(SafetensorsTest, KeysThatTheFormatDoesNotDefineAreIgnored) {
  const std::string json =
      R"({"__metadata__":{"a":"b","a":1,"n":[1,[2]],"f":1.5,"z":null},)"
      R"("t":{"x":{"y":[true,-1]},"dtype":"U8","x":2.5e3,"shape":[2],)"
      R"("data_offsets":[0,2],"dtypes":"U9"}})";
  const Layout layout = Label(SafetensorsFile(json, 2));
  ASSERT_EQ(layout.segments.size(), 2u);
  EXPECT_EQ(layout.segments[1].name, "t");
}

TEST(SafetensorsTest, MalformedJson) {
  const std::string good = Entry("t", "U8", "4", 0, 4);
  for (std::string_view json : {"{",
                                "{]",
                                "{}x",
                                "{} {}",
                                "{\"t\"}",
                                "{\"t\":",
                                "{\"t\":}",
                                "{,}",
                                "{\"t\":1}",
                                "{\"t\":\"x\"}",
                                "{\"t\":null}",
                                "{\"t\":[]}",
                                "{\"t\":true}",
                                "{\"t\":-1}",
                                "{\"t\":1.5}",
                                "{\"t\":{}}",
                                "{\"__metadata__\":1}",
                                "{\"__metadata__\":[]}",
                                "{\"__metadata__\":{},\"__metadata__\":{}}",
                                "{'t':{}}"}) {
    ExpectMalformed(json);
  }
  ExpectMalformed("[" + good + "]");
  ExpectMalformed(" {" + good + "}");
  ExpectMalformed("{" + good + ",}");
  ExpectMalformed("{" + good);
  ExpectMalformed("{" + good + "}\1");
}

TEST(SafetensorsTest, MalformedEntries) {
  for (
      std::string_view entry : {
          // A field is missing, twice, or of another type.
          R"("dtype":"U8","shape":[4])",
          R"("dtype":"U8","data_offsets":[0,4])",
          R"("shape":[4],"data_offsets":[0,4])",
          R"("dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[4],"shape":[4],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[],"shape":[4],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"data_offsets":[0,4])",
          R"("dtype":8,"shape":[4],"data_offsets":[0,4])",
          R"("dtype":null,"shape":[4],"data_offsets":[0,4])",
          R"("dtype":["U8"],"shape":[4],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":4,"data_offsets":[0,4])",
          R"("dtype":"U8","shape":"4","data_offsets":[0,4])",
          R"("dtype":"U8","shape":{},"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[[4]],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":["4"],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[true],"data_offsets":[0,4])",
          R"("dtype":"U8","shape":[4],"data_offsets":4)",
          R"("dtype":"U8","shape":[4],"data_offsets":[])",
          R"("dtype":"U8","shape":[4],"data_offsets":[4])",
          R"("dtype":"U8","shape":[4],"data_offsets":[0,4,8])",
          R"("dtype":"U8","shape":[4],"data_offsets":[4,0])",
          R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])",
          R"("dtype":"U8","shape":[4],"data_offsets":["0","4"])",
          R"("dtype":"U8","shape":[4],"data_offsets":{"0":0,"1":4})",
          R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"x":[[[1]]])",
          // Lengths that are not the shape's.
          R"("dtype":"U8","shape":[4],"data_offsets":[0,3])",
          R"("dtype":"U8","shape":[],"data_offsets":[0,0])",
          R"("dtype":"U8","shape":[0],"data_offsets":[0,1])",
          R"("dtype":"F32","shape":[1],"data_offsets":[0,1])",
          // Out of the file, and out of 64 bits.
          R"("dtype":"U8","shape":[65],"data_offsets":[0,65])",
          R"("dtype":"U8","shape":[1],"data_offsets":[64,65])",
          R"("dtype":"U8","shape":[0],"data_offsets":[65,65])",
          R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551614,18446744073709551615])",
          R"("dtype":"U8","shape":[0],"data_offsets":[18446744073709551615,18446744073709551615])",
          R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551616])",
          R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])",
          R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])",
      }) {
    ExpectMalformed("{\"t\":{" + std::string(entry) + "}}");
  }
  // Zero times anything is zero.
  const std::string json =
      R"({"t":{"dtype":"F64","shape":[4294967296,4294967296,4294967296,0],)"
      R"("data_offsets":[0,0]}})";
  EXPECT_EQ(Label(SafetensorsFile(json, 0)).format, "safetensors");
}

TEST(SafetensorsTest, TensorsMustNotOverlapOrShareAName) {
  const std::string a = Entry("a", "U8", "4", 0, 4);
  ExpectMalformed("{" + a + "," + Entry("b", "U8", "4", 3, 7) + "}");
  ExpectMalformed("{" + a + "," + Entry("b", "U8", "4", 0, 4) + "}");
  ExpectMalformed("{" + a + "," + Entry("b", "U8", "0", 2, 2) + "}");
  ExpectMalformed("{" + a + "," + Entry("a", "U8", "4", 4, 8) + "}");
  ExpectMalformed("{" + a + "," + Entry("\\u0061", "U8", "4", 4, 8) + "}");
}

TEST(SafetensorsTest, HeaderLengths) {
  const Bytes good = SafetensorsFile("{}", 0);
  for (uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{3}, kMaxPrefix - 8, kMaxPrefix - 7,
        kMaxPrefix, uint64_t{1} << 63, UINT64_MAX - 7, UINT64_MAX}) {
    Bytes file;
    Put(&file, length);
    PutText(&file, "{}");
    ExpectBytes(file);
    // From a pipe the header may still come, if it is not too long.
    const Outcome outcome = Detect(file, std::nullopt);
    if (length > 2 && length <= kMaxPrefix - 8) {
      EXPECT_EQ(outcome.need_prefix, 8 + length);
    } else {
      ASSERT_TRUE(outcome.layout) << length;
      EXPECT_EQ(outcome.layout->format, "bytes");
    }
  }
}

TEST(SafetensorsTest, AsksForExactlyTheHeader) {
  const std::string json = "{" + Entry("t", "U8", "4", 0, 4) + "}";
  const Bytes file = SafetensorsFile(json, 4);
  const uint64_t header = kPrefix + json.size();
  for (size_t have = 0; have < header; ++have) {
    const Outcome outcome = Detect(ByteSpan(file).first(have), file.size());
    EXPECT_FALSE(outcome.layout);
    EXPECT_EQ(outcome.need_prefix, have < 9 ? 9 : header);
  }
  EXPECT_TRUE(Detect(ByteSpan(file).first(header), file.size()).layout);
}

TEST(SafetensorsTest, PipeIsLaidOutAsFarAsTheHeaderSays) {
  const std::string json = "{" + Entry("t", "U8", "4", 2, 6) + "}";
  const Bytes file = SafetensorsFile(json, 0);
  const uint64_t h = file.size();
  const Outcome outcome = Detect(file, std::nullopt);
  ASSERT_TRUE(outcome.layout);
  EXPECT_THAT(Show(outcome.layout->segments),
              ElementsAre(Show(GapAt(0, h)), Show(GapAt(h, 2)),
                          Show(Tensor("t", DType::kU8, {4}, h + 2, 4)),
                          Show(GapAt(h + 6, UINT64_MAX - h - 6))));
}

Bytes SmallFile() {
  return SafetensorsFile("{\"__metadata__\":{\"a\":\"b\"}," +
                             Entry("x", "F32", "2,3", 0, 24) + "," +
                             Entry("y", "BF16", "", 24, 26) + "," +
                             Entry("z", "F4", "2", 28, 29) + "}  ",
                         30);
}

TEST(SafetensorsTest, EveryTruncation) {
  const Bytes file = SmallFile();
  const Layout whole = Label(file);
  ASSERT_EQ(whole.format, "safetensors");
  for (size_t size = 0; size < file.size(); ++size) {
    const Bytes cut(file.begin(), file.begin() + size);
    const Layout layout = Label(cut);
    ExpectTiles(layout, size);
    // Only the tail can be missed.
    EXPECT_EQ(layout.format, size + 1 < file.size() ? "bytes" : "safetensors");
  }
}

TEST(SafetensorsTest, EveryBitFlip) {
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

TEST(SafetensorsTest, DeepNestingStops) {
  for (std::string_view start :
       {"{", "{\"t\":", "{\"t\":{\"shape\":", "{\"__metadata__\":{\"a\":",
        "{\"t\":{\"x\":"}) {
    for (char c : {'[', '{'}) {
      ExpectMalformed(std::string(start) + std::string(1 << 20, c));
    }
    std::string objects(start);
    for (int i = 0; i < 1 << 18; ++i) objects += "{\"a\":";
    ExpectMalformed(objects);
  }
}

// Layouts drawn at random, written in a random order, must come back.
TEST(SafetensorsTest, RandomLayouts) {
  std::mt19937_64 random(20240607);
  std::vector<DTypeInfo> types;
  for (const DTypeInfo& info : AllDTypes()) {
    const int number = static_cast<int>(info.dtype);
    if (number != 0 && number < kGgmlDTypeBase) types.push_back(info);
  }
  for (int round = 0; round < 300; ++round) {
    std::vector<Segment> expected;
    std::vector<std::string> entries;
    uint64_t offset = 0;
    const size_t count = random() % 12;
    for (size_t i = 0; i < count; ++i) {
      if (const uint64_t hole = random() % 4 == 0 ? random() % 50 : 0) {
        expected.push_back(GapAt(offset, hole));
        offset += hole;
      }
      const DTypeInfo& info = types[random() % types.size()];
      std::vector<uint64_t> shape;
      uint64_t elements = info.block_elements;
      for (size_t d = random() % 4; d > 0; --d) {
        shape.push_back(random() % 10 == 0 ? 0 : 1 + random() % 6);
        elements *= shape.back();
      }
      shape.push_back(info.block_elements);
      const uint64_t bytes = elements / info.block_elements * info.block_bytes;
      std::string dims;
      for (uint64_t d : shape)
        dims += (dims.empty() ? "" : ",") + std::to_string(d);
      // Names ascend, as ties between tensors of no elements go by name.
      const std::string name = std::string(1, static_cast<char>('a' + i)) +
                               std::string(random() % 20, 'x');
      entries.push_back(Entry(name, info.name, dims, offset, offset + bytes));
      expected.push_back(Tensor(name, info.dtype, shape, offset, bytes));
      offset += bytes;
    }
    if (const uint64_t tail = random() % 3 == 0 ? 1 + random() % 50 : 0) {
      expected.push_back(GapAt(offset, tail));
      offset += tail;
    }
    std::shuffle(entries.begin(), entries.end(), random);
    std::string json = "{";
    for (const std::string& entry : entries) {
      json += (json.size() == 1 ? "" : ",") + entry;
    }
    json += "}" + std::string(random() % 8, ' ');
    for (Segment& segment : expected) segment.offset += kPrefix + json.size();
    expected.insert(expected.begin(), GapAt(0, kPrefix + json.size()));

    const Bytes file = SafetensorsFile(json, offset);
    const Layout layout = Label(file);
    ASSERT_EQ(layout.format, "safetensors");
    ASSERT_EQ(Show(layout.segments), Show(expected));
    ExpectTiles(layout, file.size());
    for (size_t first :
         {size_t{0}, size_t{1}, size_t{8}, size_t{random() % 100}}) {
      EXPECT_TRUE(Same(DetectInSteps(file, first, false), layout));
    }
  }
}

}  // namespace
}  // namespace zipllm::parsers
