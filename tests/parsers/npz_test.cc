#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parsers/npz_files.h"

namespace zipllm::parsers {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(NpzTest, StoredArrays) {
  for (const Sizes sizes : {Sizes::kPlain, Sizes::kZip64}) {
    const Bytes a = Npy("<f4", 15, 4);
    const Bytes b = Npy("<i8", 3, 8);
    Bytes file;
    const size_t at_a = AddMember({"a.npy", a, sizes}, &file) + HeadOf(a);
    const size_t at_b = AddMember({"b/c.npy", b, sizes}, &file) + HeadOf(b);
    const size_t end = file.size();
    file = WithEnd(file);
    const Layout layout = Label(file);
    EXPECT_EQ(layout.format, "npz");
    EXPECT_THAT(Show(layout.segments),
                ElementsAre(Show(GapAt(0, at_a)),
                            Show(Tensor("a", DType::kF32, {15}, at_a, 60)),
                            Show(GapAt(at_a + 60, at_b - at_a - 60)),
                            Show(Tensor("b/c", DType::kI64, {3}, at_b, 24)),
                            Show(GapAt(end, file.size() - end))));
    for (const bool pipe : {false, true}) {
      for (const size_t first : {0, 1, 30, 100}) {
        const Layout other = DetectInSteps(file, first, pipe);
        if (!pipe) {
          EXPECT_TRUE(Same(other, layout)) << first;
        }
        EXPECT_EQ(other.format, "npz") << first;
      }
    }
  }
}

TEST(NpzTest, WhatElseThereIsIsAGap) {
  const Bytes array = Npy("<f4", 15, 4);
  const auto tensors = [&](const ZipMember& between) {
    Bytes file;
    AddMember({"a.npy", array}, &file);
    AddMember(between, &file);
    AddMember({"z.npy", array}, &file);
    std::vector<std::string> names;
    for (const Segment& segment : Label(WithEnd(file)).segments) {
      if (!segment.name.empty()) names.push_back(segment.name);
    }
    return names;
  };
  EXPECT_THAT(tensors({"b.npy", array}), ElementsAre("a", "b", "z"));
  EXPECT_THAT(tensors({"b.txt", array}), ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b.npy", array, Sizes::kPlain, 8}),  // deflated
              ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b.npy", array, Sizes::kPlain, 0, 1}),  // encrypted
              ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b\xFF.npy", array}), ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b.npy", Bytes(100, 'x')}), ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b.npy", {}}), ElementsAre("a", "z"));
  EXPECT_THAT(tensors({"b.npy", Npy("|O", 15, 4)}), ElementsAre("a", "z"));
  Bytes cut = array;
  cut.pop_back();  // an array that its member does not hold
  EXPECT_THAT(tensors({"b.npy", cut}), ElementsAre("a", "z"));
  // What follows cannot be found.
  EXPECT_THAT(tensors({"b.npy", array, Sizes::kBehind}), ElementsAre("a", "b"));
}

TEST(NpzTest, WhatIsNone) {
  const Bytes array = Npy("<f4", 15, 4);
  ExpectBytes(WithEnd({}));
  Bytes other;  // PyTorch's, say
  AddMember({"archive/data.pkl", Bytes(50, 'x')}, &other);
  AddMember({"a.npy", array}, &other);
  ExpectBytes(WithEnd(other));
  Bytes twice;
  AddMember({"a.npy", array}, &twice);
  AddMember({"a.npy", array}, &twice);
  ExpectBytes(WithEnd(twice));
  Bytes deflated;
  AddMember({"a.npy", array, Sizes::kPlain, 8}, &deflated);
  ExpectBytes(WithEnd(deflated));
  Bytes file;
  AddMember({"a.npy", array, Sizes::kZip64}, &file);
  for (size_t size = 0; size < file.size(); ++size) {
    ExpectBytes(
        Bytes(file.begin(), file.begin() + static_cast<ptrdiff_t>(size)));
  }
  Bytes huge = file;  // longer than any file
  for (size_t i = 0; i < 16; ++i) huge[30 + 5 + 10 + i] = 0xFF;
  ExpectBytes(huge);
  Bytes no_sizes = file;  // no field has the sizes that are in one
  no_sizes[30 + 5 + 6] = 2;
  ExpectBytes(no_sizes);
}

TEST(NpzTest, GoesOnBehindTheLongestPrefix) {
  const Bytes large = Npy("|u1", kMaxPrefix, 1);
  const Bytes small = Npy("<f4", 15, 4);
  Bytes file;
  AddMember({"a.npy", small}, &file);
  AddMember({"b.npy", large}, &file);
  const size_t next = file.size();
  AddMember({"c.npy", small}, &file);
  file = WithEnd(file);
  const Outcome outcome =
      Detect(ByteSpan(file).first(kFirstPrefix), file.size());
  ASSERT_TRUE(outcome.layout.has_value());
  ExpectTiles(*outcome.layout, file.size());
  EXPECT_THAT(outcome.layout->segments, SizeIs(5));
  EXPECT_EQ(outcome.next, next);
}

}  // namespace
}  // namespace zipllm::parsers
