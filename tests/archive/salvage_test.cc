// Damaged archives of objects: what is left of them is found and right.
#include "archive/salvage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "archive/block_store.h"
#include "archive/testing.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "container/stream.h"
#include "container/xxh3.h"
#include "zipllm/archive.h"

namespace zipllm::archive {
namespace {

using namespace zipllm::testing;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// One with the same bytes but for the lowest bits of some.
Bytes Tuned(Bytes weights) {
  for (size_t i = 0; i < weights.size(); i += 6) weights[i] ^= 1;
  return weights;
}

// Files that are called as objects are, in one archive: tensors of their own,
// one coded against another, one that has blocks of another, text.
class SalvageTest : public ::testing::Test {
 protected:
  SalvageTest() {
    const Bytes base = Bf16Weights(3 << 17, 1);
    Bytes repeated = base;
    repeated.resize(1 << 19);
    const auto tensor = [](const Bytes& bytes) {
      return Safetensors({{"w", "BF16", {bytes.size() / 2}, bytes}});
    };
    TempDir dir;
    for (const Bytes& bytes :
         {tensor(base), tensor(Tuned(base)), tensor(Bf16Weights(70000, 2)),
          tensor(repeated), FromString(std::string(9000, 'x')),
          RandomBytes(5000, 3)}) {
      const std::string name = std::string(kObjectMagic) + Hex(Sha256Of(bytes));
      objects_[name] = bytes;
      names_.insert(name);
      WriteFile(dir / name, bytes);
    }
    auto out = MakeMemorySink(&pack_);
    const auto totals = Compressor().CompressPath(dir.path(), *out);
    EXPECT_TRUE(totals.ok()) << totals.status();

    const auto in = MakeMemorySource(pack_);
    container::FrameReader reader(*in, uint64_t{1} << 30);
    EXPECT_TRUE(reader.NextArchive().ok());
    while (reader.offset() < pack_.size()) {
      auto frame = reader.Next();
      EXPECT_TRUE(frame.ok()) << frame.status();
      if (!frame.ok()) break;
      frames_.push_back({frame->offset, frame->prefix});
      if (frame->prefix.Is(container::FrameType::kTrailer)) break;
    }
  }

  struct Place {
    uint64_t offset;
    container::FramePrefix prefix;
  };

  // What can be read of it, by path; all of it is right.
  std::set<std::string> Left(const Bytes& bytes) {
    std::set<std::string> left;
    const auto in = MakeMemorySource(bytes);
    const absl::StatusOr<Salvaged> salvaged = Salvage(*in, {});
    problems_.clear();
    if (!salvaged.ok()) {
      EXPECT_EQ(salvaged.status().code(), absl::StatusCode::kDataLoss);
      return left;
    }
    problems_ = salvaged->problems;
    BlockStore store(*in, salvaged->header, nullptr);
    for (const Salvaged::Frame& frame : salvaged->frames) {
      store.Add(frame.first_block, frame.record.offset);
    }
    for (size_t i = 0; i < salvaged->entries.size(); ++i) {
      const container::IndexEntry& indexed = salvaged->entries[i];
      if (indexed.entry.kind != EntryKind::kFile) continue;
      Bytes plain(indexed.entry.size);
      size_t done = 0;
      bool good = true;
      for (size_t k = 0; good && k < indexed.frames.size(); ++k) {
        const size_t frame = salvaged->first_frames[i] + k;
        if (indexed.frames[k].size == 0) continue;
        const auto opened = store.Open(frame);
        good = opened.ok();
        for (size_t b = 0; good && b < indexed.frames[k].blocks; ++b) {
          const uint32_t size = opened->decoder->head().blocks[b].size;
          good =
              size <= plain.size() - done &&
              store.Decode(frame, b, MutableByteSpan(plain).subspan(done, size))
                  .ok();
          done += size;
        }
      }
      if (!good) continue;
      const auto object = objects_.find(indexed.entry.path);
      EXPECT_NE(object, objects_.end()) << indexed.entry.path;
      if (object == objects_.end()) continue;
      EXPECT_TRUE(plain == object->second) << indexed.entry.path;
      EXPECT_EQ(indexed.entry.sha256, Sha256Of(plain));
      left.insert(indexed.entry.path);
    }
    return left;
  }

  // Whose frame this is, by the Entry frames before it.
  std::string OwnerOf(size_t frame) {
    const auto in = MakeMemorySource(pack_);
    for (size_t i = frame + 1; i-- > 0;) {
      if (!frames_[i].prefix.Is(container::FrameType::kEntry)) continue;
      const auto read = container::ReadFrameAt(*in, frames_[i].offset);
      return container::ParseEntryHead(read->head())->path;
    }
    return "";
  }

  Bytes pack_;
  std::map<std::string, Bytes> objects_;
  std::set<std::string> names_;
  std::vector<Place> frames_;
  std::vector<std::string> problems_;
};

TEST_F(SalvageTest, AWholeArchiveIsAsItsIndexSays) {
  EXPECT_EQ(Left(pack_), names_);
  EXPECT_THAT(problems_, IsEmpty());
  const auto in = MakeMemorySource(pack_);
  const auto salvaged = Salvage(*in, {});
  const auto archive = Archive::Open(MakeMemorySource(pack_));
  ASSERT_TRUE(archive.ok());
  ASSERT_EQ(salvaged->entries.size(), archive->entries().size());
  for (size_t i = 0; i < salvaged->entries.size(); ++i) {
    const Entry& entry = salvaged->entries[i].entry;
    EXPECT_EQ(entry.path, archive->entries()[i].path);
    EXPECT_EQ(entry.coded_size, archive->entries()[i].coded_size);
    EXPECT_EQ(entry.layout.format, archive->entries()[i].layout.format);
    EXPECT_EQ(entry.layout.segments.size(),
              archive->entries()[i].layout.segments.size());
  }
}

TEST_F(SalvageTest, CutAnywhereKeepsWhatIsBeforeTheCut) {
  size_t whole = 0;
  for (size_t i = 0; i < frames_.size(); ++i) {
    for (const uint64_t more : {0, 7}) {
      const auto cut = static_cast<ptrdiff_t>(frames_[i].offset + more);
      EXPECT_THAT(Left({pack_.begin(), pack_.begin() + cut}), SizeIs(whole))
          << "cut at byte " << cut;
    }
    if (frames_[i].prefix.Is(container::FrameType::kEntryEnd)) ++whole;
  }
  EXPECT_EQ(whole, objects_.size());
}

// With the index lost as well, a damaged frame costs its entry, and what is
// coded against that.
TEST_F(SalvageTest, DamageCostsOneEntryAlsoWithoutIndex) {
  for (const bool with_index : {true, false}) {
    Bytes pack = pack_;
    if (!with_index) {
      for (const Place& place : frames_) {
        if (place.prefix.Is(container::FrameType::kIndex)) {
          pack[place.offset + container::kPrefixSize] ^= 1;
        }
      }
    }
    EXPECT_EQ(Left(pack), names_);
    for (size_t i = 0; i < frames_.size(); ++i) {
      const container::FramePrefix& prefix = frames_[i].prefix;
      const std::string owner = OwnerOf(i);
      std::set<std::string> without = Left([&] {
        Bytes bytes = pack;
        // All of it: what is coded against it is lost too.
        std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(frames_[i].offset),
                    prefix.FrameSize(), uint8_t{0});
        return bytes;
      }());
      // The type, the sizes, the head, its hash, the data.
      for (const uint64_t at :
           {uint64_t{0}, uint64_t{4}, uint64_t{5}, uint64_t{8},
            uint64_t{container::kPrefixSize},
            uint64_t{container::kPrefixSize} + prefix.head_size,
            prefix.FrameSize() - 1}) {
        Bytes bytes = pack;
        bytes[frames_[i].offset + at] ^= 0x10;
        const auto left = Left(bytes);
        EXPECT_GE(left.size() + 3, objects_.size())
            << "frame " << i << " of type " << int{prefix.type} << ", byte "
            << at;
        for (const std::string& name : without) {
          if (name != owner) {
            EXPECT_TRUE(left.contains(name))
                << "frame " << i << ", byte " << at;
          }
        }
        if (prefix.Is(container::FrameType::kTrailer) ||
            prefix.Is(container::FrameType::kIndex)) {
          EXPECT_EQ(left, names_);
        }
      }
    }
  }
}

TEST_F(SalvageTest, BytesThatAreGoneOrAddedCostWhatIsThere) {
  for (size_t i = 1; i < frames_.size(); ++i) {
    if (!frames_[i].prefix.Is(container::FrameType::kBlocks)) continue;
    const auto at = pack_.begin() + static_cast<ptrdiff_t>(frames_[i].offset);
    Bytes shorter(pack_.begin(), at + 30);
    shorter.insert(shorter.end(), at + 37, pack_.end());
    EXPECT_GE(Left(shorter).size() + 3, objects_.size());
    Bytes longer(pack_.begin(), at);
    longer.insert(longer.end(), 100, 0);
    longer.insert(longer.end(), at, pack_.end());
    EXPECT_GE(Left(longer).size() + 3, objects_.size());
  }
}

TEST_F(SalvageTest, TheHeaderCanBeLost) {
  for (size_t i = 0; i < container::kHeaderSize; ++i) {
    Bytes bytes = pack_;
    bytes[i] ^= 0xFF;
    EXPECT_EQ(Left(bytes), names_) << "byte " << i;
    EXPECT_THAT(problems_, Not(IsEmpty()));
  }
}

// A file of an archive of objects, stored as it is: what stands in it is none
// of the one around it, or right.
TEST_F(SalvageTest, AnArchiveWithinAnObject) {
  CompressOptions options;
  options.level = 1;
  const std::string name = std::string(kObjectMagic) + Hex(Sha256Of(pack_));
  Bytes outer = Compress(pack_, options, name);
  objects_[name] = pack_;
  EXPECT_EQ(Left(outer).size(), 1u);
  // The first Entry frame of the outer one.
  outer[container::kHeaderSize + 1] ^= 0x40;
  Left(outer);
}

// Heads that claim to be long, one in the other.
TEST(SalvageTimeTest, IsLinear) {
  Bytes bytes(container::kHeaderSize);
  std::ranges::copy(
      container::WriteHeader({.max_block = 1 << 20, .max_frame = 1 << 20}),
      bytes.begin());
  Entry entry;
  entry.path = std::string(kObjectMagic) + "0";
  Buffer head;
  container::WriteEntryHead(entry, &head);
  const Buffer good =
      container::WriteFrameStart(container::FrameType::kEntry, head.span(), 0);
  for (int i = 0; i < 60000; ++i) {
    bytes.insert(bytes.end(), good.span().begin(), good.span().end());
    bytes.insert(bytes.end(), {2, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0});
  }
  // 60000 heads of 4 MiB each would take a minute.
  const auto in = MakeMemorySource(bytes);
  const auto salvaged = Salvage(*in, {});
  EXPECT_EQ(salvaged.status().code(), absl::StatusCode::kDataLoss);
}

TEST(SalvageTimeTest, RefusesWhatIsNewer) {
  Bytes bytes(container::kHeaderSize + 100);
  std::ranges::copy(container::WriteHeader({}), bytes.begin());
  bytes[8] = 2;
  const auto in = MakeMemorySource(bytes);
  // The checksum is that of another version.
  EXPECT_EQ(Salvage(*in, {}).status().code(), absl::StatusCode::kDataLoss);
  StoreLe<uint64_t>(&bytes[24], Xxh3(ByteSpan(bytes).first(24)));
  EXPECT_EQ(Salvage(*in, {}).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace zipllm::archive
