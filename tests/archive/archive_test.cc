#include "zipllm/archive.h"

#include <gmock/gmock.h>

#include "archive/testing.h"

namespace zipllm {
namespace {

using namespace testing;
using ::testing::HasSubstr;

CompressOptions Threads(int threads, int level = kDefaultLevel) {
  CompressOptions options;
  options.threads = threads;
  options.level = level;
  return options;
}

// A model with tied embeddings, a constant tensor and odd sizes.
Bytes SmallModel() {
  Bytes tied = Bf16Weights(300'000, 1);
  return Safetensors({{"embed", "BF16", {300, 1000}, tied},
                      {"bias", "F32", {3}, RandomBytes(12, 2)},
                      {"zeros", "BF16", {70'000}, Bytes(140'000, 0)},
                      {"lm_head", "BF16", {300, 1000}, tied},
                      {"empty", "F32", {0, 4}, {}},
                      {"other", "BF16", {300, 1000}, Bf16Weights(300'000, 3)}});
}

TEST(RoundTrip, EverySizeAndKind) {
  for (size_t size :
       {0, 1, 2, 3, 7, 8, 9, 100, 4095, 65536, 65537, 1'048'576, 5'000'001}) {
    for (const Bytes& plain : {RandomBytes(size, size), Bytes(size, 7)}) {
      auto back = Decompress(Compress(plain));
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(*back, plain) << size;
    }
  }
}

TEST(RoundTrip, EveryLevelThreadCountAndWayIn) {
  Bytes plain = SmallModel();
  for (int level = kMinLevel; level <= kMaxLevel; ++level) {
    Bytes one = Compress(plain, Threads(1, level));
    EXPECT_EQ(one, Compress(plain, Threads(3, level))) << "level " << level;
    DecompressOptions three;
    three.threads = 3;
    auto back = Decompress(one, three);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, plain);
  }
}

TEST(RoundTrip, ThroughPipesOfAnyStep) {
  Bytes plain = SmallModel();
  Bytes archive = Compress(plain);
  for (size_t step : {1000, 65'536, 10'000'000}) {
    PipeSource in(plain, step);
    Bytes piped;
    auto sink = MakeMemorySink(&piped);
    ASSERT_TRUE(Compressor().CompressStream(in, "", *sink).ok());
    EXPECT_EQ(*Decompress(piped), plain);

    PipeSource archive_in(archive, step);
    Bytes back;
    auto back_sink = MakeMemorySink(&back);
    auto totals = Decompressor().DecompressStream(archive_in, *back_sink);
    ASSERT_TRUE(totals.ok()) << totals.status();
    EXPECT_EQ(back, plain);
    EXPECT_GE(totals->duplicate_bytes, 600'000u);
  }
}

TEST(Duplicates, TiedTensorsAreStoredOnce) {
  Bytes plain = SmallModel();
  CompressOptions off;
  off.deduplicate = false;
  Bytes with = Compress(plain);
  Bytes without = Compress(plain, off);
  // 600,000 bytes of BF16 weights take more than half of that alone.
  EXPECT_LT(with.size() + 300'000, without.size());
  EXPECT_EQ(*Decompress(without), plain);
}

TEST(Duplicates, AlikeInSamplesButNotEqualStaysRight) {
  Bytes a = Bf16Weights(600'000, 5);
  Bytes b = a;
  b[777'777] ^= 1;  // in the middle of a block, where no sample is
  Bytes plain =
      Safetensors({{"a", "BF16", {600'000}, a}, {"b", "BF16", {600'000}, b}});
  Bytes archive = Compress(plain);
  EXPECT_EQ(*Decompress(archive), plain);
}

TEST(Stored, RandomBytesCostABoundedHeader) {
  Bytes plain = RandomBytes(10'000'000, 9);
  // Three frames of 4 MiB, twelve bytes a block of 1 MiB, entry, index and
  // trailer.
  EXPECT_LT(Compress(plain).size(), plain.size() + 600);
}

TEST(Random, ReadsTensorsAndRangesAndNothingElse) {
  Bytes plain = SmallModel();
  Bytes bytes = Compress(plain, {}, "model.safetensors");
  auto archive = Archive::Open(MakeMemorySource(bytes));
  ASSERT_TRUE(archive.ok()) << archive.status();
  ASSERT_EQ(archive->entries().size(), 1u);
  const Entry& entry = archive->entries()[0];
  EXPECT_EQ(entry.path, "model.safetensors");
  EXPECT_EQ(entry.size, plain.size());
  EXPECT_EQ(entry.layout.format, "safetensors");

  auto bias = archive->Read("bias");
  ASSERT_TRUE(bias.ok()) << bias.status();
  EXPECT_EQ(*bias, RandomBytes(12, 2));
  // Trailer, header, index and one small frame.
  EXPECT_LT(archive->bytes_read(), 2000u);
  EXPECT_EQ(*archive->Read("lm_head"), Bf16Weights(300'000, 1));
  EXPECT_TRUE(archive->Read("empty")->empty());
  EXPECT_EQ(archive->Read("nothing").status().code(),
            absl::StatusCode::kNotFound);

  std::mt19937_64 random(4);
  for (int i = 0; i < 50; ++i) {
    uint64_t offset = random() % plain.size();
    Bytes out(random() % std::min<uint64_t>(plain.size() - offset, 1'500'000));
    ASSERT_TRUE(archive->ReadRange(0, offset, out).ok());
    EXPECT_EQ(std::memcmp(out.data(), plain.data() + offset, out.size()), 0);
  }
  Bytes out(2);
  EXPECT_EQ(archive->ReadRange(0, plain.size() - 1, out).code(),
            absl::StatusCode::kOutOfRange);
  auto coding = archive->Coding(*archive->FindTensor("lm_head"));
  ASSERT_TRUE(coding.ok());
  EXPECT_EQ(coding->codecs.at(0).codec, "duplicate");
  EXPECT_GT(coding->coded_bytes, coding->codecs.at(0).coded_bytes);
}

TEST(Random, Concatenations) {
  Bytes a = Compress(FromString("first"), {}, "a");
  Bytes b = Compress(FromString("second"), {}, "b");
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  EXPECT_EQ(*Decompress(both), FromString("firstsecond"));
  auto archive = Archive::Open(MakeMemorySource(both));
  ASSERT_TRUE(archive.ok()) << archive.status();
  ASSERT_EQ(archive->entries().size(), 2u);
  EXPECT_EQ(archive->entries()[0].path, "a");
  Bytes out(6);
  ASSERT_TRUE(archive->ReadRange(1, 0, out).ok());
  EXPECT_EQ(out, FromString("second"));
}

TEST(Damage, EveryTruncationIsAnError) {
  Bytes archive = Compress(SmallModel());
  archive = Compress(Safetensors({{"w", "BF16", {64, 64}, Bf16Weights(4096, 1)},
                                  {"t", "U8", {700}, Bytes(700, 'x')}}));
  for (size_t size = 0; size < archive.size(); ++size) {
    Bytes cut(archive.begin(), archive.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(Decompress(cut).ok()) << size;
    EXPECT_FALSE(Archive::Open(MakeMemorySource(cut)).ok()) << size;
  }
}

TEST(Damage, BitFlipsGiveAnErrorOrTheRightBytes) {
  Bytes tied = Bf16Weights(2000, 1);
  Bytes plain = Safetensors({{"w", "BF16", {64, 64}, Bf16Weights(4096, 1)},
                             {"x", "BF16", {2000}, tied},
                             {"y", "BF16", {2000}, tied},
                             {"t", "U8", {700}, Bytes(700, 'x')},
                             {"i", "I64", {512}, Bytes(4096, 3)}});
  Bytes archive = Compress(plain, Threads(1));
  std::mt19937_64 random(11);
  int errors = 0;
  for (int i = 0; i < 10'000; ++i) {
    Bytes damaged = archive;
    damaged[random() % damaged.size()] ^=
        static_cast<uint8_t>(1 << (random() % 8));
    DecompressOptions options;
    options.threads = 1;
    options.max_memory = 64 << 20;
    auto back = Decompress(damaged, options);
    if (back.ok()) {
      EXPECT_EQ(*back, plain);
    } else {
      ++errors;
    }
    auto opened = Archive::Open(MakeMemorySource(damaged), options);
    if (!opened.ok()) continue;
    auto tensor = opened->Read("y");
    if (tensor.ok() && opened->entries()[0].size == plain.size()) {
      EXPECT_EQ(*tensor, tied);
    }
  }
  EXPECT_GT(errors, 9'000);
}

TEST(Test, ChecksTheIndexToo) {
  Bytes archive = Compress(SmallModel());
  auto in = MakeMemorySource(archive);
  EXPECT_TRUE(Decompressor().Test(*in).ok());
  archive[archive.size() - 60] ^= 1;  // in the index
  in = MakeMemorySource(archive);
  EXPECT_EQ(Decompressor().Test(*in).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(Cancel, StopsBothWays) {
  Bytes plain = Bf16Weights(6'000'000, 1);
  CompressOptions options;
  options.progress = [](const Progress& p) { return p.bytes_done < 5'000'000; };
  Bytes out;
  auto in = MakeMemorySource(plain);
  auto sink = MakeMemorySink(&out);
  EXPECT_EQ(Compressor(options).CompressStream(*in, "f", *sink).status().code(),
            absl::StatusCode::kCancelled);
  DecompressOptions stop;
  stop.progress = [](const Progress&) { return false; };
  EXPECT_EQ(Decompress(Compress(plain), stop).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(Limits, DeclaredMemoryIsRefusedUnderALowerLimit) {
  DecompressOptions options;
  options.max_memory = 1 << 20;
  auto back = Decompress(Compress(FromString("x")), options);
  EXPECT_EQ(back.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(back.status().message()), HasSubstr("memory"));
}

}  // namespace
}  // namespace zipllm
