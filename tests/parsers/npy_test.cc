#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parsers/files.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

Bytes NpyFile(std::string_view header, size_t data_bytes, int version = 1) {
  Bytes file;
  PutText(&file, "\x93NUMPY");
  file.push_back(static_cast<uint8_t>(version));
  file.push_back(0);
  if (version == 1) {
    Put<uint16_t>(&file, static_cast<uint16_t>(header.size()));
  } else {
    Put<uint32_t>(&file, static_cast<uint32_t>(header.size()));
  }
  PutText(&file, header);
  file.resize(file.size() + data_bytes, 0x3F);
  return file;
}

std::string Header(std::string_view descr, std::string_view shape,
                   std::string_view fortran = "False") {
  return "{'descr': " + std::string(descr) +
         ", 'fortran_order': " + std::string(fortran) +
         ", 'shape': " + std::string(shape) + ", }  \n";
}

TEST(NpyTest, ArrayAndWhatFollows) {
  for (const int version : {1, 2, 3}) {
    const std::string header = Header("'<f4'", "(3, 5)");
    const uint64_t end = (version == 1 ? 10 : 12) + header.size();
    const Layout layout = Label(NpyFile(header, 64, version));
    EXPECT_EQ(layout.format, "npy");
    EXPECT_THAT(Show(layout.segments),
                ElementsAre(Show(GapAt(0, end)),
                            Show(Tensor("array", DType::kF32, {3, 5}, end, 60)),
                            Show(GapAt(end + 60, 4))));
  }
}

TEST(NpyTest, Types) {
  const auto type = [](std::string_view descr, size_t bytes) {
    const Layout layout =
        Label(NpyFile(Header("'" + std::string(descr) + "'", "(2,)"), bytes));
    EXPECT_EQ(layout.format, "npy") << descr;
    return layout.segments.at(1).dtype;
  };
  EXPECT_EQ(type("|b1", 2), DType::kBool);
  EXPECT_EQ(type("|i1", 2), DType::kI8);
  EXPECT_EQ(type("|u1", 2), DType::kU8);
  EXPECT_EQ(type("<i2", 4), DType::kI16);
  EXPECT_EQ(type("<u4", 8), DType::kU32);
  EXPECT_EQ(type("<i8", 16), DType::kI64);
  EXPECT_EQ(type("<u8", 16), DType::kU64);
  EXPECT_EQ(type("<f2", 4), DType::kF16);
  EXPECT_EQ(type("<f8", 16), DType::kF64);
  EXPECT_EQ(type(">f8", 16), DType::kF64Be);
  EXPECT_EQ(type(">f4", 8), DType::kF32Be);
  EXPECT_EQ(type("<c8", 16), DType::kC64);
  EXPECT_EQ(type("<c16", 32), DType::kC128);
  EXPECT_EQ(type("<M8[ns]", 16), DType::kI64);
  // What no type stands for.
  for (const char* const descr :
       {">i4", "|S5", "|V7", "|O", "<f16", ">c8", ">M8[us]", "<U0", "<i3", "<i",
        "<i4294967300", "<i4x", "?f4", "f4", ""}) {
    EXPECT_EQ(type(descr, 32), DType::kBytes) << descr;
  }
}

TEST(NpyTest, ShapeInOrderOfTheElements) {
  const auto shape = [](std::string_view header, size_t bytes) {
    return Label(NpyFile(header, bytes)).segments.at(1).shape;
  };
  EXPECT_THAT(shape(Header("'<i2'", "(2, 3, 4)"), 48), ElementsAre(2, 3, 4));
  EXPECT_THAT(shape(Header("'<i2'", "(2, 3, 4)", "True"), 48),
              ElementsAre(4, 3, 2));
  EXPECT_THAT(shape(Header("'<i2'", "()"), 2), IsEmpty());
  EXPECT_THAT(shape(Header("'<i2'", "(7L,)"), 14), ElementsAre(7));
  EXPECT_THAT(shape(Header("'<U5'", "(2, 3)"), 120), ElementsAre(2, 3, 5));
  EXPECT_THAT(shape(Header("'<U5'", "(2, 3)", "True"), 120),
              ElementsAre(3, 2, 5));
  EXPECT_THAT(shape(Header("'<f4'", "(0, 3)"), 0), ElementsAre(0, 3));
}

TEST(NpyTest, StructuredTypesAreBytes) {
  const std::string header = Header(
      "[('a', '<i4'), ('b\\'[', '<f8', (2,)), (('t', 'n'), '|S3')]", "(9,)");
  const Layout layout = Label(NpyFile(header, 207));
  EXPECT_EQ(layout.format, "npy");
  EXPECT_THAT(Show(layout.segments),
              ElementsAre(Show(GapAt(0, 10 + header.size())),
                          Show(GapAt(10 + header.size(), 207))));
}

TEST(NpyTest, WhatIsNone) {
  const std::vector<std::string> headers = {
      "",
      "{",
      "{}",
      std::string("{'descr': '<f4', 'fortran_order': False}"),
      Header("'<f4'", "(3, 5)") + "x",
      Header("'<f4'", "(3, 5"),
      Header("'<f4'", "(-3, 5)"),
      Header("'<f4'", "(3 5)"),
      Header("'<f4'", "3"),
      Header("'<f4'", "(3,)", "false"),
      Header("'<f4'", "(3,)", "0"),
      Header("'<f4", "(3,)"),
      Header("'<f\\4'", "(3,)"),
      Header("[('a', '<f4')", "(3,)"),
      Header("[('a', '<f4'])", "(3,)"),
      Header(std::string(100, '['), "(3,)"),
      Header("'<f4'", "(17,)"),  // longer than the file
      Header("'<f4'", "(18446744073709551615, 2)"),
      Header("'<f4'", "(18446744073709551616,)"),
      Header("'<f8'", "(4611686018427387904,)"),
      Header("'<f4'", "(" + std::string(66, '1') + ",)"),
      "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, "
      "'shape': (3,)}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'x': 1}",
      std::string("__import__('os')"),
  };
  for (const std::string& header : headers) {
    EXPECT_EQ(Label(NpyFile(header, 64)).format, "bytes") << header;
  }
  std::string rank = "(";
  for (int i = 0; i < 33; ++i) rank += "1, ";
  EXPECT_EQ(Label(NpyFile(Header("'<f4'", rank + ")"), 64)).format, "bytes");
  Bytes file = NpyFile(Header("'<f4'", "(3,)"), 12);
  EXPECT_EQ(Label(file).format, "npy");
  file[6] = 4;  // a version to come
  EXPECT_EQ(Label(file).format, "bytes");
  Bytes long_header = NpyFile(Header("'<f4'", "(3,)"), 12, 2);
  long_header[10] = 0x7F;
  EXPECT_EQ(Label(long_header).format, "bytes");
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_EQ(
        Label(Bytes(file.begin(), file.begin() + static_cast<ptrdiff_t>(size)))
            .format,
        "bytes")
        << size;
  }
}

}  // namespace
}  // namespace zipllm::parsers
