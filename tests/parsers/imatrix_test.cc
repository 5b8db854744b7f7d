#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parsers/files.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;

void PutEntry(Bytes* file, std::string_view name, uint32_t calls,
              uint32_t sums) {
  Put<uint32_t>(file, static_cast<uint32_t>(name.size()));
  PutText(file, name);
  Put<uint32_t>(file, calls);
  Put<uint32_t>(file, sums);
  file->resize(file->size() + 4 * size_t{sums}, 0x40);
}

Bytes TwoEntries() {
  Bytes file;
  Put<uint32_t>(&file, 2);
  PutEntry(&file, "blk.0.attn_q.weight", 7, 64);
  PutEntry(&file, "output.weight", 3, 32);
  return file;
}

TEST(ImatrixTest, EntriesAndTail) {
  Bytes file = TwoEntries();
  const uint64_t end = file.size();
  Put<uint32_t>(&file, 7);
  Put<uint32_t>(&file, 4);
  PutText(&file, "text");
  const Layout layout = Label(file);
  EXPECT_EQ(layout.format, "imatrix");
  const uint64_t first = 4 + 4 + 19;
  const uint64_t second = first + 8 + 256 + 4 + 13;
  EXPECT_THAT(Show(layout.segments),
              ElementsAre(Show(GapAt(0, 4)), Show(GapAt(4, first - 4)),
                          Show(Tensor("blk.0.attn_q.weight.counts", DType::kI32,
                                      {1}, first, 4)),
                          Show(GapAt(first + 4, 4)),
                          Show(Tensor("blk.0.attn_q.weight.in_sum2",
                                      DType::kF32, {64}, first + 8, 256)),
                          Show(GapAt(first + 264, 17)),
                          Show(Tensor("output.weight.counts", DType::kI32, {1},
                                      second, 4)),
                          Show(GapAt(second + 4, 4)),
                          Show(Tensor("output.weight.in_sum2", DType::kF32,
                                      {32}, second + 8, 128)),
                          Show(GapAt(end, 12))));
}

TEST(ImatrixTest, WhatIsNone) {
  const auto with_name = [](std::string_view name, uint32_t sums) {
    Bytes file;
    Put<uint32_t>(&file, 1);
    PutEntry(&file, name, 1, sums);
    return file;
  };
  EXPECT_EQ(Label(with_name("a.b", 32)).format, "imatrix");
  ExpectBytes(with_name("", 32));
  ExpectBytes(with_name("no dot", 32));
  ExpectBytes(with_name("a\x01.b", 32));
  ExpectBytes(with_name(std::string(257, '.'), 32));
  ExpectBytes(with_name("a.b", 31));
  Bytes file = TwoEntries();
  file.pop_back();
  ExpectBytes(file);
  file = TwoEntries();
  file[0] = 3;  // entries
  ExpectBytes(file);
  file[0] = 0;
  ExpectBytes(file);
  file.assign(4, 1);
  ExpectBytes(file);
  // Two of one name.
  file.clear();
  Put<uint32_t>(&file, 2);
  PutEntry(&file, "a.b", 1, 32);
  PutEntry(&file, "a.b", 1, 32);
  ExpectBytes(file);
}

TEST(ImatrixTest, BehindTheLongestPrefixAreBytes) {
  Bytes file;
  Put<uint32_t>(&file, 3);
  PutEntry(&file, "a.b", 1, 1 << 20);
  PutEntry(&file, "c.d", 1, 4 << 20);
  PutEntry(&file, "e.f", 1, 32);
  const Layout layout = Label(file);
  EXPECT_EQ(layout.format, "imatrix");
  EXPECT_EQ(layout.segments.back().name, "");
  EXPECT_EQ(layout.segments[layout.segments.size() - 2].name, "c.d.in_sum2");
}

}  // namespace
}  // namespace zipllm::parsers
