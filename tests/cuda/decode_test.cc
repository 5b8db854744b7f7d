// What a GPU would do, emulated, against the decoder on the CPU. No test here
// runs on a GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "codecs/generators.h"
#include "container/stream.h"
#include "container/xxh3.h"
#include "cuda/batch.h"
#include "emulation.h"
#include "zipllm/io.h"

namespace zipllm::cuda {
namespace {

using codecs::Kind;
using codecs::MakeInput;
using Bytes = std::vector<uint8_t>;

constexpr DType kTypes[] = {DType::kBF16, DType::kF16, DType::kF32};
constexpr codecs::CodecId kFloat = 5;
constexpr codecs::CodecId kCascade = 7;
int LevelOf(codecs::CodecId id) { return id == kCascade ? 1 : 3; }

/// A Blocks frame in memory.
struct Frame {
  Bytes head;
  Bytes data;

  absl::StatusOr<container::BlocksHead> Parse() const {
    return container::ParseBlocksHead(
        head, static_cast<uint32_t>(data.size()),
        {container::kMaxBlock, container::kMaxFrame});
  }
};

/// A frame of blocks that codec `id` codes, or stored ones where it does not.
Frame MakeFrame(const Bytes& plain, size_t block_size, DType dtype,
                codecs::CodecId id = kFloat) {
  codecs::Scratch scratch;
  const auto plan = codecs::FindEncoder(id)->plan(
      {plain, block_size, dtype, LevelOf(id)}, scratch);
  container::BlocksHead head;
  head.block_size = static_cast<uint32_t>(block_size);
  head.size = static_cast<uint32_t>(plain.size());
  if (plan != nullptr && !plan->params().empty()) {
    head.params.push_back({id, plan->params()});
  }
  Buffer data;
  for (size_t at = 0; at < plain.size(); at += block_size) {
    const ByteSpan block =
        ByteSpan(plain).subspan(at, std::min(block_size, plain.size() - at));
    const size_t before = data.size();
    container::BlockRecord record;
    if (plan != nullptr && plan->Encode(block, scratch, &data)) {
      record.codec = id;
    } else {
      data.Append(block);
    }
    record.coded_size = static_cast<uint32_t>(data.size() - before);
    record.hash = Xxh3(block);
    head.blocks.push_back(record);
  }
  Buffer bytes;
  container::WriteBlocksHead(head, &bytes);
  return {{bytes.begin(), bytes.end()}, {data.begin(), data.end()}};
}

/// What the decoders of the archive make of a frame, its checksums left aside;
/// nullopt where they refuse it.
std::optional<Bytes> DecodeOnCpu(const container::BlocksHead& head,
                                 ByteSpan data) {
  std::unique_ptr<const codecs::DecodeParams> parsed[256];
  for (const container::CodecParams& params : head.params) {
    const codecs::Decoder* decoder =
        codecs::FindDecoderOfOneBlock(params.codec);
    if (decoder == nullptr || decoder->parse == nullptr) return std::nullopt;
    auto result = decoder->parse(params.bytes);
    if (!result.ok()) return std::nullopt;
    parsed[params.codec] = std::move(result).value();
  }
  Bytes out(head.size);
  codecs::Scratch scratch;
  for (size_t i = 0; i < head.blocks.size(); ++i) {
    const container::BlockRecord& block = head.blocks[i];
    const codecs::Decoder* decoder = codecs::FindDecoderOfOneBlock(block.codec);
    if (decoder == nullptr) return std::nullopt;
    const absl::Status status = decoder->decode(
        parsed[block.codec].get(),
        data.subspan(block.coded_offset, block.coded_size),
        MutableByteSpan(out).subspan(i * head.block_size, block.size), scratch);
    if (!status.ok()) return std::nullopt;
  }
  return out;
}

/// What a GPU would, into exactly as many bytes; nullopt where it or the host
/// refuses.
std::optional<Bytes> DecodeOnGpu(const Batch& batch, bool check_hash) {
  const size_t size = batch.out_size();
  const std::unique_ptr<uint8_t[]> out(new uint8_t[size]);
  const auto results = Emulate(batch, out.get(), check_hash);
  const std::unique_ptr<uint8_t[]> again(new uint8_t[size]);
  EXPECT_EQ(results,
            Emulate(batch, again.get(), check_hash, Order::kBackwards));
  if (std::ranges::any_of(results, [](uint32_t r) { return r != kOk; })) {
    return std::nullopt;
  }
  const Bytes bytes(out.get(), out.get() + size);
  for (const Block& block : batch.blocks()) {
    EXPECT_TRUE(std::equal(&out[block.out], &out[block.out] + block.size,
                           &again[block.out]));
  }
  return bytes;
}
std::optional<Bytes> DecodeOnGpu(const container::BlocksHead& head,
                                 ByteSpan data, bool check_hash) {
  Batch batch;
  const absl::Status status = batch.AddFrame(head, data, 0);
  if (!status.ok()) {
    EXPECT_NE(status.message(), "");
    EXPECT_TRUE(batch.blocks().empty() && batch.bytes().empty());
    return std::nullopt;
  }
  return DecodeOnGpu(batch, check_hash);
}

/// Decodes a frame of `plain` and expects it back. Returns the batch, to see
/// what was on the device.
Batch CheckFrame(const Frame& frame, const Bytes& plain) {
  const auto head = frame.Parse();
  EXPECT_TRUE(head.ok()) << head.status().message();
  Batch batch;
  const absl::Status status = batch.AddFrame(*head, frame.data, 0);
  EXPECT_TRUE(status.ok()) << status.message();
  const auto decoded = DecodeOnGpu(batch, true);
  EXPECT_TRUE(decoded.has_value());
  EXPECT_TRUE(decoded == plain);
  return batch;
}

/// What there was to decode in all batches of a test.
using Seen = std::set<std::string>;

void Look(const Block& block, size_t coded_size, Seen* seen) {
  if (block.kind == kCopy) return;
  if (block.kind <= kFloatFp32) {
    for (const Plane& plane : block.floats.plane) {
      seen->insert(plane.mode == kZero         ? "zero"
                   : plane.mode == kRuns       ? "runs"
                   : plane.groups < coded_size ? "raw"
                                               : "zstd");
    }
    if (block.floats.stream[0].pair_count != 0) seen->insert("pairs");
    if (block.floats.stream[0].escape_count != 0) seen->insert("escapes");
  } else {
    if (block.cascade.run_count > 1) seen->insert("cascade runs");
    if (block.cascade.raw_count > 0) seen->insert("cascade raw");
    if (block.cascade.groups[3] > 0) seen->insert("four layers");
  }
}

TEST(DecodeTest, EveryKindAndSize) {
  Seen seen;
  for (const codecs::CodecId id : {kFloat, kCascade}) {
    for (const DType dtype : kTypes) {
      const size_t width = codecs::ElementBytes(dtype);
      for (const Kind kind : codecs::kKinds) {
        const Bytes all = MakeInput(kind, dtype, size_t{1} << 18);
        for (const size_t n :
             {1, 60, 121, 127, 128, 129, 1000, 1023, 1024, 1025, 4100, 65535,
              65536, 65537, 65632, 66559, 66560, 1 << 18}) {
          SCOPED_TRACE(testing::Message()
                       << int{id} << " " << KindName(kind) << " " << n);
          const Bytes plain(all.begin(), all.begin() + n * width);
          const Frame frame = MakeFrame(plain, plain.size(), dtype, id);
          const Batch batch = CheckFrame(frame, plain);
          if (kind == Kind::kGaussian && n >= 1000) {
            EXPECT_EQ(batch.device_bytes(), plain.size());
          }
          for (const Block& block : batch.blocks()) {
            Look(block, frame.data.size(), &seen);
          }
        }
      }
    }
  }
  EXPECT_EQ(seen, (Seen{"zero", "runs", "raw", "zstd", "pairs", "escapes",
                        "cascade runs", "cascade raw", "four layers"}));
}

TEST(DecodeTest, LowBitsOfCascades) {
  // Stretches whose elements are 0, have no low bits, three, few and all.
  for (const DType dtype : {DType::kF16, DType::kF32}) {
    const size_t width = codecs::ElementBytes(dtype);
    Bytes plain = MakeInput(Kind::kGaussian, dtype, 100000);
    for (size_t i = 0; i < 100000; ++i) {
      const size_t part = i / 5000 % 5;
      uint8_t* const element = &plain[i * width];
      if (part == 0) std::fill_n(element, width, uint8_t{0});
      if (part == 1 || (part == 3 && i % 40 != 0)) element[0] &= 0xF8;
      if (width == 4 && part < 4) {
        element[0] = 0;
        element[1] &= part == 2 || (part == 3 && i % 40 == 0) ? 0xE0 : 0;
      }
    }
    const Frame frame = MakeFrame(plain, plain.size(), dtype, kCascade);
    const Batch batch = CheckFrame(frame, plain);
    ASSERT_EQ(batch.device_bytes(), plain.size());
    EXPECT_GT(batch.blocks()[0].cascade.run_count, 40u);
  }
}

TEST(DecodeTest, ManyBlocksAndFramesInABatch) {
  Batch batch;
  Bytes expected;
  for (const DType dtype : kTypes) {
    const size_t width = codecs::ElementBytes(dtype);
    for (const size_t block : {70000, 3000, 128, 100}) {
      const Bytes plain = MakeInput(Kind::kGaussian, dtype, 2 * block + 48);
      const Frame frame = MakeFrame(plain, block * width, dtype);
      const auto head = frame.Parse();
      ASSERT_TRUE(head.ok());
      ASSERT_TRUE(batch.AddFrame(*head, frame.data, expected.size()).ok());
      expected.insert(expected.end(), plain.begin(), plain.end());
    }
  }
  const Bytes text = {'t', 'e', 'x', 't'};
  batch.AddPlain(text, expected.size());
  expected.insert(expected.end(), text.begin(), text.end());
  EXPECT_EQ(batch.out_size(), expected.size());
  EXPECT_LT(batch.device_bytes(), expected.size());
  EXPECT_TRUE(DecodeOnGpu(batch, true) == expected);
}

TEST(DecodeTest, OddPlacesInTheOutput) {
  // Not at a whole element: the host decodes, the device copies.
  const Bytes plain = MakeInput(Kind::kGaussian, DType::kF32, 3000);
  const Frame frame = MakeFrame(plain, 4000, DType::kF32);
  for (const uint64_t at : {1, 2, 4, 12}) {
    Batch batch;
    ASSERT_TRUE(batch.AddFrame(*frame.Parse(), frame.data, at).ok());
    EXPECT_EQ(batch.device_bytes() != 0, at % 4 == 0);
    const auto decoded = DecodeOnGpu(batch, true);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_TRUE(std::equal(plain.begin(), plain.end(), decoded->begin() + at));
  }
}

TEST(DecodeTest, FourTables) {
  // Parts whose scales differ ask for a table each.
  Bytes plain;
  for (int part = 0; part < 4; ++part) {
    Bytes some = MakeInput(Kind::kGaussian, DType::kBF16, 40960, part);
    for (size_t i = 1; i < some.size(); i += 2) {
      some[i] = static_cast<uint8_t>(some[i] - 6 * part);
    }
    plain.insert(plain.end(), some.begin(), some.end());
  }
  const Frame frame = MakeFrame(plain, plain.size(), DType::kBF16);
  const Batch batch = CheckFrame(frame, plain);
  ASSERT_EQ(batch.blocks().size(), 1u);
  EXPECT_NE(batch.blocks()[0].floats.selectors, 0u);
}

TEST(DecodeTest, WrongChecksumIsReported) {
  const Bytes plain = MakeInput(Kind::kGaussian, DType::kBF16, 70000);
  const Frame frame = MakeFrame(plain, plain.size(), DType::kBF16);
  auto head = *frame.Parse();
  head.blocks[0].hash ^= 1;
  Batch batch;
  ASSERT_TRUE(batch.AddFrame(head, frame.data, 0).ok());
  Bytes out(plain.size());
  EXPECT_EQ(Emulate(batch, out.data()), std::vector<uint32_t>{kWrongHash});
  EXPECT_EQ(Emulate(batch, out.data(), false), std::vector<uint32_t>{kOk});
  EXPECT_TRUE(out == plain);
  // What the host decodes, the host checks.
  const Frame stored = MakeFrame(plain, plain.size(), DType::kBF16, 0);
  head = *stored.Parse();
  head.blocks[0].hash ^= 1;
  EXPECT_FALSE(batch.AddFrame(head, stored.data, 0).ok());
  EXPECT_EQ(batch.blocks().size(), 1u);
}

TEST(DecodeTest, RefusesWhatItCannotDo) {
  const Bytes plain(1000, 1);
  const Frame frame = MakeFrame(plain, plain.size(), DType::kBytes, 0);
  auto head = *frame.Parse();
  Batch batch;
  head.blocks[0].codec = container::kDuplicate;
  EXPECT_EQ(batch.AddFrame(head, frame.data, 0).code(),
            absl::StatusCode::kUnimplemented);
  head.blocks[0].codec = 255;
  EXPECT_EQ(batch.AddFrame(head, frame.data, 0).code(),
            absl::StatusCode::kUnimplemented);
  head.blocks[0].codec = 0;
  EXPECT_EQ(batch.AddFrame(head, ByteSpan(frame.data).first(999), 0).code(),
            absl::StatusCode::kDataLoss);
}

TEST(DecodeTest, ChecksumIsXxh3) {
  const Bytes bytes = MakeInput(Kind::kRandom, DType::kBytes, 200000);
  codecs::Random random(1);
  EmulatedCta cta(Order::kForwards);
  for (size_t i = 0; i < 1500; ++i) {
    const size_t size = i < 1200 ? 241 + i * 3 : 241 + random.Below(150000);
    const size_t offset = random.Below(40);
    Xxh3Shared shared;
    Accumulate(cta, bytes.data() + offset, static_cast<uint32_t>(size), shared);
    ASSERT_EQ(MergeAccumulators(shared.accumulators, size),
              Xxh3(ByteSpan(bytes).subspan(offset, size)))
        << size;
  }
}

// Hostile input: the GPU takes what the CPU takes, with the same result;
// sanitizers check the rest.

/// A frame of one block whose coded bytes or parameters can be changed.
struct Target {
  codecs::CodecId id;
  Bytes params;
  Bytes coded;
  uint32_t size;
};

void ExpectSame(const Target& target) {
  container::BlocksHead head;
  head.block_size = head.size = target.size;
  head.params.push_back({target.id, target.params});
  head.blocks.push_back(
      {.codec = 5,
       .coded_size = static_cast<uint32_t>(target.coded.size()),
       .size = target.size});
  const std::unique_ptr<uint8_t[]> exact(new uint8_t[target.coded.size()]);
  std::ranges::copy(target.coded, exact.get());
  const ByteSpan data = {exact.get(), target.coded.size()};
  const std::optional<Bytes> cpu = DecodeOnCpu(head, data);
  const std::optional<Bytes> gpu = DecodeOnGpu(head, data, false);
  ASSERT_EQ(cpu.has_value(), gpu.has_value());
  ASSERT_TRUE(cpu == gpu);
}

std::vector<Target> Targets(std::vector<Kind> kinds,
                            std::vector<size_t> sizes) {
  std::vector<Target> targets;
  for (const codecs::CodecId id : {kFloat, kCascade}) {
    for (const DType dtype : kTypes) {
      for (const Kind kind : kinds) {
        for (const size_t elements : sizes) {
          const Bytes plain = MakeInput(kind, dtype, elements);
          const Frame frame = MakeFrame(plain, plain.size(), dtype, id);
          const auto head = *frame.Parse();
          if (head.blocks[0].codec != id) continue;
          const ByteSpan params = head.params[0].bytes;
          targets.push_back({id,
                             {params.begin(), params.end()},
                             frame.data,
                             static_cast<uint32_t>(plain.size())});
          ExpectSame(targets.back());
        }
      }
    }
  }
  return targets;
}

std::vector<Target> SmallTargets() {
  const std::vector<Target> targets =
      Targets({Kind::kGaussian, Kind::kSpecial, Kind::kSparse}, {300, 2000});
  for (const codecs::CodecId id : {kFloat, kCascade}) {
    EXPECT_GE(std::ranges::count(targets, id, &Target::id), 8);
  }
  return targets;
}

void FlipBits(codecs::Random& random, Bytes* bytes) {
  for (size_t flips = 1 + random.Below(3); flips > 0; --flips) {
    (*bytes)[random.Below(bytes->size())] ^=
        static_cast<uint8_t>(1 << random.Below(8));
  }
}

TEST(HostileTest, FlippedBits) {
  codecs::Random random(1);
  for (const Target& target : SmallTargets()) {
    for (int i = 0; i < 600; ++i) {
      Target wrong = target;
      FlipBits(random, i % 3 == 0 ? &wrong.params : &wrong.coded);
      ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    }
  }
}

TEST(HostileTest, HeadsAreAimedAt) {
  // The first bytes are counts, the last ones modes of planes or low bits.
  for (const Target& target : SmallTargets()) {
    for (size_t at = 0; at < 8; ++at) {
      for (int value = 0; value < 256; value += 5) {
        Target wrong = target;
        wrong.coded[at] = static_cast<uint8_t>(value);
        ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
        wrong.coded = target.coded;
        wrong.coded[wrong.coded.size() - 1 - at] = static_cast<uint8_t>(value);
        ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
      }
    }
  }
}

TEST(HostileTest, CutsGarbageAndSizes) {
  codecs::Random random(2);
  for (const Target& target : SmallTargets()) {
    Target wrong = target;
    for (size_t size = 0; size < target.coded.size();
         size += 1 + target.coded.size() / 200) {
      wrong.coded.assign(target.coded.begin(), target.coded.begin() + size);
      ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    }
    wrong.coded = target.coded;
    wrong.coded.push_back(0);
    ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    for (int i = 0; i < 100; ++i) {
      wrong.coded = target.coded;
      for (size_t j = random.Below(wrong.coded.size()); j < wrong.coded.size();
           ++j) {
        wrong.coded[j] = static_cast<uint8_t>(random.Next());
      }
      ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    }
    wrong = target;
    for (const uint32_t size :
         {target.size - 1, target.size + 1, target.size + 4, target.size + 256,
          target.size / 2, 2 * target.size}) {
      wrong.size = size;
      ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    }
  }
}

TEST(HostileTest, LargeBlocks) {
  codecs::Random random(3);
  const std::vector<Target> targets = Targets({Kind::kGaussian}, {65600});
  ASSERT_EQ(targets.size(), 6u);
  for (const Target& target : targets) {
    for (int i = 0; i < 12; ++i) {
      Target wrong = target;
      FlipBits(random, i % 3 == 0 ? &wrong.params : &wrong.coded);
      ASSERT_NO_FATAL_FAILURE(ExpectSame(wrong));
    }
  }
}

// ---- Golden vectors ----

TEST(VectorsTest, AllBlocksFramesDecodeAlike) {
  const std::filesystem::path folder =
      std::filesystem::path(ZIPLLM_SOURCE_DIR) / "format-spec" / "vectors";
  size_t frames = 0;
  uint64_t on_device = 0;
  for (const auto& item :
       std::filesystem::recursive_directory_iterator(folder)) {
    if (item.path().extension() != ".zllm") continue;
    SCOPED_TRACE(item.path().filename());
    auto source = OpenFileSource(item.path().string());
    ASSERT_TRUE(source.ok());
    container::FrameReader reader(**source, uint64_t{1} << 30);
    const auto header = reader.NextArchive();
    if (!header.ok() || !header->has_value()) continue;
    for (;;) {
      const auto frame = reader.Next();
      if (!frame.ok() || frame->prefix.Is(container::FrameType::kTrailer)) {
        break;
      }
      if (!frame->prefix.Is(container::FrameType::kBlocks)) continue;
      const auto head = container::ParseBlocksHead(
          frame->head(), frame->prefix.data_size, **header);
      Buffer data;
      if (!head.ok() || !reader.ReadData(frame->prefix.data_size, &data).ok()) {
        break;
      }
      if (std::ranges::any_of(head->blocks, [](const auto& block) {
            return block.codec == container::kDuplicate;
          })) {
        continue;
      }
      ++frames;
      const std::optional<Bytes> cpu = DecodeOnCpu(*head, data.span());
      bool intact = cpu.has_value();
      for (size_t i = 0; intact && i < head->blocks.size(); ++i) {
        intact = Xxh3(ByteSpan(*cpu).subspan(i * head->block_size,
                                             head->blocks[i].size)) ==
                 head->blocks[i].hash;
      }
      const std::optional<Bytes> gpu = DecodeOnGpu(*head, data.span(), true);
      ASSERT_EQ(intact, gpu.has_value());
      if (intact) {
        EXPECT_TRUE(cpu == gpu);
        Batch batch;
        ASSERT_TRUE(batch.AddFrame(*head, data.span(), 0).ok());
        on_device += batch.device_bytes();
      }
    }
  }
  EXPECT_GT(frames, 50u);
  EXPECT_GT(on_device, 100000u);
}

}  // namespace
}  // namespace zipllm::cuda
