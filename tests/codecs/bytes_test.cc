// Codecs stored, fill, zstd, lzma and planes against their spec pages: coded
// bytes written by hand, by the libraries' own encoders, and damaged with aim.
#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>

#include "codecs/bytes/zstd_decode.h"
#include "codecs/bytes/zstd_encode.h"
#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/sample.h"

namespace zipllm::codecs {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr CodecId kStored = 0, kFill = 1, kZstd = 3, kLzma = 4, kPlanes = 6;

/// Decodes; expects DATA_LOSS with `message` in it.
void ExpectRefused(CodecId id, const Bytes& params, const Bytes& coded,
                   size_t size, const std::string& message) {
  absl::Status why;
  EXPECT_EQ(DecodeBlock(*FindDecoder(id), params, coded, size, &why),
            std::nullopt)
      << "expected: " << message;
  EXPECT_EQ(why.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(why.message()), HasSubstr(message));
}

std::optional<Bytes> Decode(CodecId id, const Bytes& params, const Bytes& coded,
                            size_t size) {
  absl::Status why;
  auto decoded = DecodeBlock(*FindDecoder(id), params, coded, size, &why);
  EXPECT_TRUE(decoded.has_value()) << why.message();
  return decoded;
}

/// Codes `data` as one block; nullopt if the codec does not.
std::optional<Bytes> Encode(CodecId id, const Bytes& data, DType dtype,
                            int level, Bytes* params = nullptr) {
  Scratch scratch;
  auto frame =
      EncodeFrame(*FindEncoder(id), {data, data.size(), dtype, level}, scratch);
  if (!frame) return std::nullopt;
  if (params != nullptr) *params = frame->params;
  return frame->blocks[0];
}

TEST(SampleTest, EntropyIsThatOfTheDefinition) {
  for (const Kind kind : kKinds) {
    const Bytes data = MakeInput(kind, DType::kBF16, 30000);
    std::array<double, 256> counts{};
    for (uint8_t byte : data) ++counts[byte];
    double bits = 0;
    for (double count : counts) {
      if (count > 0) bits -= count * std::log2(count / double(data.size()));
    }
    EXPECT_NEAR(static_cast<double>(EntropyQ16(data)) / 65536,
                bits / double(data.size()), 0.001);
  }
  EXPECT_TRUE(LooksRandom(MakeInput(Kind::kRandom, DType::kBytes, 65536)));
  EXPECT_FALSE(LooksRandom(MakeInput(Kind::kText, DType::kBytes, 65536)));
}

TEST(SampleTest, TakesAllOrFourPieces) {
  const Bytes small = MakeInput(Kind::kRandom, DType::kBytes, 65536);
  Buffer buffer;
  EXPECT_EQ(TakeSample({small, 4096, DType::kBytes, 3}, &buffer).data(),
            small.data());
  const Bytes large = MakeInput(Kind::kRandom, DType::kBytes, 1000003);
  const ByteSpan sample = TakeSample({large, 4096, DType::kBytes, 3}, &buffer);
  ASSERT_EQ(sample.size(), 65536u);
  for (const size_t piece : {0, 1, 2, 3}) {
    const ByteSpan bytes = sample.subspan(piece * 16384, 16384);
    const auto found =
        std::search(large.begin(), large.end(), bytes.begin(), bytes.end());
    ASSERT_NE(found, large.end());
    EXPECT_EQ((found - large.begin()) % 16, 0);
  }
}

TEST(StoredTest, IsTheBytes) {
  const Bytes data = {1, 2, 3};
  EXPECT_THAT(Encode(kStored, data, DType::kBytes, 1), Optional(data));
  EXPECT_THAT(Decode(kStored, {}, data, 3), Optional(data));
  ExpectRefused(kStored, {}, data, 2, "3 bytes where 2 are due");
  ExpectRefused(kStored, {}, data, 4, "3 bytes where 4 are due");
}

TEST(FillTest, DecodesTheSpecExample) {
  EXPECT_THAT(Decode(kFill, {}, {0x00, 0x3C}, 5),
              Optional(Bytes{0x00, 0x3C, 0x00, 0x3C, 0x00}));
}

TEST(FillTest, WritesTheShortestPattern) {
  Bytes pattern(16);
  for (const size_t period : {1, 2, 4, 8, 16}) {
    // Elements that differ in their last byte only.
    std::fill(pattern.begin(), pattern.end(), uint8_t{7});
    pattern[period - 1] = 9;
    pattern.resize(period);
    for (const size_t size :
         {period, period + 1, 2 * period, size_t{31}, size_t{32}, size_t{33},
          size_t{34}, size_t{5000}, size_t{65536}, size_t{70001}}) {
      if (size < period) continue;
      Bytes data(size);
      for (size_t i = 0; i < size; ++i) data[i] = pattern[i % period];
      EXPECT_THAT(Encode(kFill, data, DType::kBytes, 1), Optional(pattern))
          << size;
      EXPECT_THAT(Decode(kFill, {}, pattern, size), Optional(data));
      if (size < 2 * period) continue;
      // One byte that differs, anywhere, and it is no repetition of this.
      for (const size_t at : {size_t{0}, size / 2, size - 1}) {
        Bytes other = data;
        other[at] ^= 0x80;
        const auto coded = Encode(kFill, other, DType::kBytes, 1);
        if (coded) {
          EXPECT_THAT(Decode(kFill, {}, *coded, size), Optional(other));
        }
        if (size > 32) {
          EXPECT_EQ(coded, std::nullopt) << size << " " << at;
        }
      }
    }
  }
}

TEST(FillTest, RefusesOtherPatternSizes) {
  for (size_t size = 0; size <= 64; ++size) {
    if (size <= 16 && std::has_single_bit(size)) continue;
    ExpectRefused(kFill, {}, Bytes(size, 1), 100, "1, 2, 4, 8 or 16");
  }
  ExpectRefused(kFill, {}, Bytes(8, 1), 7, "pattern of 8 bytes");
}

Bytes ZstdFrame(const Bytes& data, bool checksum, bool size, int window_log) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, size);
  Bytes frame(ZSTD_compressBound(data.size()));
  ZSTD_inBuffer in = {data.data(), data.size(), 0};
  ZSTD_outBuffer out = {frame.data(), frame.size(), 0};
  if (window_log != 0) {
    // Streamed, so that the library does not fit the window to the data.
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    EXPECT_GT(ZSTD_compressStream2(context, &out, &in, ZSTD_e_flush) + 1, 0u);
  }
  EXPECT_EQ(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end), 0u);
  frame.resize(out.pos);
  ZSTD_freeCCtx(context);
  return frame;
}

TEST(ZstdTest, WritesTheHeaderOfTheSpec) {
  for (const size_t size : {100, 5000, 100000}) {
    const Bytes data = MakeInput(Kind::kText, DType::kBytes, size);
    for (const int level : {1, 3, 6, 9}) {
      const auto coded = Encode(kZstd, data, DType::kBytes, level);
      if (size == 100 && !coded) continue;
      ASSERT_TRUE(coded.has_value());
      ASSERT_GE(coded->size(), 6u);
      EXPECT_EQ(LoadLe<uint32_t>(coded->data()), 0xFD2FB528u);
      EXPECT_EQ((*coded)[4], 0);
      // The window is no larger than the block needs.
      const uint64_t window = uint64_t{1} << (10 + ((*coded)[5] >> 3));
      EXPECT_LE(window, std::max<size_t>(1024, std::bit_ceil(size)));
      Bytes decoded(size);
      EXPECT_EQ(
          ZSTD_decompress(decoded.data(), size, coded->data(), coded->size()),
          size);
      EXPECT_EQ(decoded, data);
    }
  }
}

TEST(ZstdTest, HigherLevelsAreNotLarger) {
  const Bytes data = MakeInput(Kind::kText, DType::kBytes, 100000);
  size_t last = data.size();
  for (const int level : {1, 4, 6, 9}) {
    const auto coded = Encode(kZstd, data, DType::kBytes, level);
    ASSERT_TRUE(coded.has_value());
    EXPECT_LE(coded->size(), last) << level;
    last = coded->size();
  }
}

TEST(ZstdTest, GivesUpOnRandomData) {
  const Bytes data = MakeInput(Kind::kRandom, DType::kBytes, 300000);
  for (const int level : {1, 3, 6, 9}) {
    EXPECT_EQ(Encode(kZstd, data, DType::kBytes, level), std::nullopt);
  }
}

TEST(ZstdTest, TakesFramesOfOtherEncoders) {
  const Bytes data = MakeInput(Kind::kText, DType::kBytes, 10000);
  EXPECT_THAT(Decode(kZstd, {}, ZstdFrame(data, false, false, 26), 10000),
              Optional(data));
}

TEST(ZstdTest, RefusesWhatTheSpecDoesNotAllow) {
  const Bytes data = MakeInput(Kind::kText, DType::kBytes, 10000);
  const Bytes good = ZstdFrame(data, false, false, 0);
  EXPECT_THAT(Decode(kZstd, {}, good, data.size()), Optional(data));

  ExpectRefused(kZstd, {}, ZstdFrame(data, true, false, 0), 10000,
                "frame header descriptor 4");
  Bytes with_size(ZSTD_compressBound(data.size()));
  with_size.resize(ZSTD_compress(with_size.data(), with_size.size(),
                                 data.data(), data.size(), 3));
  ExpectRefused(kZstd, {}, with_size, 10000, "frame header descriptor");
  ExpectRefused(kZstd, {}, ZstdFrame(data, false, false, 27), 10000,
                "window above 64 MiB");
  ExpectRefused(kZstd, {}, {}, 10000, "does not start");
  ExpectRefused(kZstd, {}, {0x28, 0xB5, 0x2F, 0xFD, 0}, 10000,
                "does not start");

  Bytes two = good;
  two.insert(two.end(), good.begin(), good.end());
  ExpectRefused(kZstd, {}, two, 20000, "bytes after its frame");
  const Bytes skippable = {0x50, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 1, 2};
  Bytes before = skippable;
  before.insert(before.end(), good.begin(), good.end());
  ExpectRefused(kZstd, {}, before, 10000, "does not start");
  Bytes after = good;
  after.insert(after.end(), skippable.begin(), skippable.end());
  ExpectRefused(kZstd, {}, after, 10000, "10 bytes after its frame");

  ExpectRefused(kZstd, {}, good, 10001, "10000 bytes where 10001 are due");
  ExpectRefused(kZstd, {}, good, 9999, "damaged");
  for (size_t size = 0; size < good.size(); ++size) {
    ExpectRefused(kZstd, {}, Bytes(good.begin(), good.begin() + size), 10000,
                  "zstd block");
  }
}

TEST(ZstdTest, RefusesABombAtItsSize) {
  // 64 MiB of zeros in a few kB, where 1 byte is due.
  const Bytes bomb = ZstdFrame(Bytes(size_t{1} << 26), false, false, 0);
  ExpectRefused(kZstd, {}, bomb, 1, "damaged");
}

TEST(LzmaTest, DecodesChunksWrittenByHand) {
  const Bytes coded = {0x01, 0x00, 0x02, 'a', 'b', 'c',  // resets, 3 bytes
                       0x02, 0x00, 0x01, 'd', 'e',       // 2 bytes
                       0x00};
  EXPECT_THAT(Decode(kLzma, {0}, coded, 5),
              Optional(Bytes{'a', 'b', 'c', 'd', 'e'}));
  ExpectRefused(kLzma, {0}, coded, 4, "lzma block");
  ExpectRefused(kLzma, {0}, coded, 6, "lzma block");
  for (size_t size = 0; size < coded.size(); ++size) {
    ExpectRefused(kLzma, {0}, Bytes(coded.begin(), coded.begin() + size), 5,
                  "lzma block");
  }
  Bytes longer = coded;
  longer.push_back(0);
  ExpectRefused(kLzma, {0}, longer, 5, "1 bytes after its stream");
  Bytes no_reset = coded;
  no_reset[0] = 0x02;
  ExpectRefused(kLzma, {0}, no_reset, 5, "damaged");
}

TEST(LzmaTest, ReadsTheDictionarySize) {
  for (int code = 0; code < 256; ++code) {
    const auto params =
        FindDecoder(kLzma)->parse(Bytes{static_cast<uint8_t>(code)});
    EXPECT_EQ(params.ok(), code <= 28) << code;
  }
  EXPECT_FALSE(FindDecoder(kLzma)->parse({}).ok());
  EXPECT_FALSE(FindDecoder(kLzma)->parse(Bytes{0, 0}).ok());
  // A match that reaches farther back than the dictionary, where the block
  // does not fit it, is refused; a dictionary larger than the block is not.
  Bytes data = MakeInput(Kind::kRandom, DType::kBytes, 20000);
  const Bytes half = data;
  data.insert(data.end(), half.begin(), half.end());
  Bytes params;
  const auto coded = Encode(kLzma, data, DType::kBytes, 7, &params);
  ASSERT_TRUE(coded.has_value());
  EXPECT_LT(coded->size(), 22000u);
  EXPECT_EQ(params, Bytes{7});  // 48 KiB, the first that 40,000 bytes fit
  EXPECT_THAT(Decode(kLzma, {28}, *coded, data.size()), Optional(data));
  ExpectRefused(kLzma, {0}, *coded, data.size(), "damaged");
}

TEST(LzmaTest, IsForBytesAndIntegersAtHighLevels) {
  const Bytes data = MakeInput(Kind::kText, DType::kBytes, 8192);
  for (const DType dtype :
       {DType::kBytes, DType::kI32, DType::kU8, DType::kGgmlQ40}) {
    EXPECT_EQ(Encode(kLzma, data, dtype, 6), std::nullopt);
    EXPECT_NE(Encode(kLzma, data, dtype, 7), std::nullopt);
  }
  EXPECT_EQ(Encode(kLzma, data, DType::kBF16, 9), std::nullopt);
}

TEST(LzmaTest, LevelNineFitsFields) {
  // 32-bit numbers of little change: positions in the element matter.
  const Bytes data = MakeInput(Kind::kRamp, DType::kI32, 20000);
  const auto seven = Encode(kLzma, data, DType::kI32, 7);
  const auto nine = Encode(kLzma, data, DType::kI32, 9);
  ASSERT_TRUE(seven && nine);
  EXPECT_LE(nine->size(), seven->size());
}

TEST(PlanesTest, DecodesTheSpecExample) {
  const Bytes coded = {0x01, 0x00, 0x05, 0x01, 0x01, 0x01, 0x00, 0xAA};
  const Bytes plain = {5, 0, 6, 0, 7, 0, 0xAA};
  EXPECT_THAT(Decode(kPlanes, {2}, coded, 7), Optional(plain));
  for (size_t size = 0; size < coded.size(); ++size) {
    ExpectRefused(kPlanes, {2}, Bytes(coded.begin(), coded.begin() + size), 7,
                  "planes block");
  }
  Bytes longer = coded;
  longer.push_back(0);
  ExpectRefused(kPlanes, {2}, longer, 7, "1 bytes too many");
  ExpectRefused(kPlanes, {2}, coded, 1, "shorter than one element");
  Bytes transform = coded;
  transform[0] = 2;
  ExpectRefused(kPlanes, {2}, transform, 7, "unknown transform 2");
  Bytes kind = coded;
  kind[5] = 3;
  ExpectRefused(kPlanes, {2}, kind, 7, "unknown kind of plane 3");
}

TEST(PlanesTest, DecodesAFrameInAPlane) {
  // Byte 0 by zstd, byte 1 raw.
  const Bytes low = MakeInput(Kind::kText, DType::kBytes, 1000);
  const Bytes high = MakeInput(Kind::kRandom, DType::kBytes, 1000);
  const Bytes frame = ZstdFrame(low, false, false, 0);
  Buffer coded;
  ByteWriter writer(&coded);
  writer.Le<uint8_t>(0);
  writer.Le<uint8_t>(2);
  writer.Varint(frame.size());
  writer.Bytes(frame);
  writer.Le<uint8_t>(0);
  writer.Bytes(high);
  Bytes plain;
  for (size_t i = 0; i < 1000; ++i) {
    plain.push_back(low[i]);
    plain.push_back(high[i]);
  }
  const Bytes bytes(coded.begin(), coded.end());
  EXPECT_THAT(Decode(kPlanes, {2}, bytes, 2000), Optional(plain));
  ExpectRefused(kPlanes, {2}, bytes, 2002, "planes block, plane 0");
}

TEST(PlanesTest, RefusesOtherElementSizes) {
  for (int size = 0; size < 256; ++size) {
    EXPECT_EQ(FindDecoder(kPlanes)->parse(Bytes{uint8_t(size)}).ok(),
              size == 2 || size == 4 || size == 8);
  }
  EXPECT_FALSE(FindDecoder(kPlanes)->parse({}).ok());
  EXPECT_FALSE(FindDecoder(kPlanes)->parse(Bytes{2, 2}).ok());
}

TEST(PlanesTest, CountingCostsNothing) {
  for (const DType dtype : {DType::kI16, DType::kU16, DType::kI32, DType::kU32,
                            DType::kI64, DType::kU64}) {
    const Bytes data = MakeInput(Kind::kRamp, dtype, 30000);
    Bytes params;
    const auto coded = Encode(kPlanes, data, dtype, 3, &params);
    ASSERT_TRUE(coded.has_value());
    EXPECT_EQ(params, Bytes{uint8_t(ElementBytes(dtype))});
    EXPECT_LT(coded->size(), 200u);
  }
}

TEST(PlanesTest, BeatsZstdOnDoubles) {
  const Bytes data = MakeInput(Kind::kGaussian, DType::kF64, 30000);
  const auto planes = Encode(kPlanes, data, DType::kF64, 3);
  const auto zstd = Encode(kZstd, data, DType::kF64, 3);
  ASSERT_TRUE(planes.has_value());
  EXPECT_LT(planes->size(), zstd ? zstd->size() : data.size());
}

// Real files.

std::filesystem::path DataFolder() {
  return std::filesystem::path(ZIPLLM_SOURCE_DIR) / "../shared/data";
}

Bytes ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes((std::istreambuf_iterator<char>(file)), {});
  if (path.extension() != ".xz") return bytes;
  lzma_stream stream = LZMA_STREAM_INIT;
  EXPECT_EQ(lzma_stream_decoder(&stream, UINT64_MAX, 0), LZMA_OK);
  Bytes plain(size_t{16} << 20);
  stream.next_in = bytes.data();
  stream.avail_in = bytes.size();
  stream.next_out = plain.data();
  stream.avail_out = plain.size();
  EXPECT_EQ(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END) << path;
  plain.resize(stream.total_out);
  lzma_end(&stream);
  return plain;
}

/// Every codec on a file, and on its head as if it were of each of the types.
void CheckFile(const std::filesystem::path& path,
               std::initializer_list<DType> dtypes) {
  SCOPED_TRACE(path);
  const Bytes data = ReadFile(path);
  ASSERT_FALSE(data.empty());
  const ByteSpan head =
      ByteSpan(data).first(std::min<size_t>(data.size(), 50000));
  for (const Encoder* encoder : AllEncoders()) {
    CheckRoundTrip(encoder->id, {data, size_t{1} << 19, *dtypes.begin(), 3});
    CheckRoundTrip(encoder->id, {head, 20000, *dtypes.begin(), 9});
    for (const DType dtype : dtypes) {
      CheckRoundTrip(encoder->id, {head, 20000, dtype, 1});
    }
  }
}

TEST(RealDataTest, TextAndTables) {
  if (!std::filesystem::exists(DataFolder())) {
    GTEST_SKIP() << "no " << DataFolder();
  }
  size_t files = 0;
  for (const char* folder : {"text", "table"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(DataFolder() / folder)) {
      if (entry.path().extension() != ".xz") continue;
      CheckFile(entry.path(), {DType::kBytes, DType::kI32, DType::kF64});
      ++files;
    }
  }
  EXPECT_GT(files, 10u);
}

TEST(RealDataTest, Weights) {
  if (!std::filesystem::exists(DataFolder())) {
    GTEST_SKIP() << "no " << DataFolder();
  }
  CheckFile(DataFolder() / "family/base.bf16.safetensors",
            {DType::kBF16, DType::kBytes});
  CheckFile(DataFolder() / "family/base.fp32.safetensors",
            {DType::kF32, DType::kBytes, DType::kI32});
}

TEST(RealDataTest, TextCodesAsSmallAsTheLibraryAlone) {
  if (!std::filesystem::exists(DataFolder())) {
    GTEST_SKIP() << "no " << DataFolder();
  }
  const Bytes data = ReadFile(DataFolder() / "text/book1.xz");
  const auto ours = Encode(kZstd, data, DType::kBytes, 3);
  ASSERT_TRUE(ours.has_value());
  EXPECT_LE(ours->size(), ZstdFrame(data, false, false, 0).size());
  const auto lzma = Encode(kLzma, data, DType::kBytes, 9);
  ASSERT_TRUE(lzma.has_value());
  EXPECT_LE(lzma->size(),
            std::filesystem::file_size(DataFolder() / "text/book1.xz"));
}

}  // namespace
}  // namespace zipllm::codecs
