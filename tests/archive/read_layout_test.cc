// Layouts of files that are longer than what parsers read.
#include <gtest/gtest.h>

#include "archive/duplicates.h"
#include "archive/testing.h"
#include "parsers/npz_files.h"

namespace zipllm::archive {
namespace {

using parsers::AddMember;
using parsers::Npy;
using testing::Bytes;
using testing::PipeSource;

TEST(ReadLayoutTest, PartsBehindTheLongestPrefix) {
  const Bytes large = Npy("|u1", parsers::kMaxPrefix, 1);
  const Bytes small = Npy("<f4", 15, 4);
  Bytes file;
  AddMember({"a.npy", small}, &file);
  AddMember({"b.npy", large}, &file);
  AddMember({"c.npy", small}, &file);
  AddMember({"d.npy", large}, &file);
  AddMember({"e.npy", small}, &file);
  const Bytes whole = parsers::WithEnd(file);
  const auto names = [](const Bytes& bytes, bool pipe) {
    PipeSource piped(bytes, 1 << 20);
    const auto memory = MakeMemorySource(bytes);
    std::vector<uint8_t> prefix;
    const absl::StatusOr<Layout> layout =
        ReadLayout(pipe ? static_cast<Source&>(piped) : *memory, &prefix);
    EXPECT_TRUE(layout.ok()) << layout.status();
    EXPECT_EQ(layout->format, "npz");
    if (!pipe) parsers::ExpectTiles(*layout, bytes.size());
    std::string joined;
    for (const Segment& segment : layout->segments) joined += segment.name;
    return joined;
  };
  EXPECT_EQ(names(whole, false), "abcde");
  // Where bytes are read but once, there is one prefix.
  EXPECT_EQ(names(whole, true), "ab");
  // A part with a name that was there is left out.
  AddMember({"a.npy", small}, &file);
  EXPECT_EQ(names(file, false), "abcd");
}

}  // namespace
}  // namespace zipllm::archive
