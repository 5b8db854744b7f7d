// Codec quant: where bits of blocks lie, against descriptions of their own;
// every type of blocks with any bytes; real tensors; what columns are good for.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/quant/ggml_blocks.h"
#include "codecs/quant/quant_format.h"

namespace zipllm::codecs {
namespace {

using quant::BlockType;
using quant::kBlockTypes;

constexpr CodecId kQuant = 9;

std::string NameOf(const BlockType& type) {
  return std::string(FindDType(type.dtype)->name);
}

Bytes RandomBytes(size_t size, uint64_t seed) {
  Random random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.Next());
  return bytes;
}

/// Bytes of which each bit is 1 once in four times.
Bytes SkewedBytes(size_t size, uint64_t seed) {
  Random random(seed);
  Bytes bytes(size);
  for (uint8_t& byte : bytes) {
    byte = static_cast<uint8_t>(random.Next() & random.Next());
  }
  return bytes;
}

/// Codes as blocks of `block_size` bytes, checks that they decode, and returns
/// what they and the parameters take; nullopt if a block was not coded.
std::optional<size_t> CodedSize(const EncodeRequest& request) {
  if (CheckRoundTrip(kQuant, request) != BlocksOf(request).size()) {
    return std::nullopt;
  }
  Scratch scratch;
  const auto frame = EncodeFrame(*FindEncoder(kQuant), request, scratch);
  size_t size = frame->params.size();
  for (const auto& block : frame->blocks) size += block->size();
  return size;
}

// ---- Fields ----

/// The elements of a field of one block.
Bytes Elements(DType dtype, size_t field, const Bytes& block) {
  const BlockType& type = *quant::FindBlockType(dtype);
  Bytes elements(type.field[field].count);
  quant::SplitField(type, type.field[field], block.data(), 1, elements.data());
  return elements;
}

TEST(QuantFields, EachListedTypeIsDescribed) {
  size_t described = 0;
  for (int number = 64; number < 256; ++number) {
    const DTypeInfo* info = FindDType(static_cast<DType>(number));
    if (info == nullptr) continue;
    const BlockType* type = quant::FindBlockType(info->dtype);
    ASSERT_NE(type, nullptr) << info->name;
    EXPECT_EQ(type->bytes, info->block_bytes) << info->name;
    if (type->quants.count != 0) {
      EXPECT_EQ(type->quants.count, info->block_elements) << info->name;
      EXPECT_EQ(type->quants.count % type->quants.group, 0) << info->name;
      EXPECT_EQ(type->field[type->fields - 1u].count, type->quants.count);
    }
    for (size_t f = 0; f < type->fields; ++f) {
      const quant::Hint& hint = type->field[f].hint;
      EXPECT_LT(hint.field, static_cast<int>(f)) << info->name;
    }
    ++described;
  }
  EXPECT_EQ(described, kBlockTypes.size());
}

TEST(QuantFields, SplitAndMergedIsTheSame) {
  for (const BlockType& type : kBlockTypes) {
    constexpr size_t kBlocks = 5;
    const Bytes data = RandomBytes(kBlocks * type.bytes, 1);
    Bytes merged(data.size());
    for (size_t f = 0; f < type.fields; ++f) {
      const quant::Field& field = type.field[f];
      Bytes symbols(kBlocks * field.count);
      quant::SplitField(type, field, data.data(), kBlocks, symbols.data());
      for (uint8_t symbol : symbols) {
        ASSERT_LT(symbol, 1 << field.bits) << NameOf(type) << " field " << f;
      }
      quant::MergeField(type, field, symbols.data(), kBlocks, merged.data());
    }
    EXPECT_TRUE(merged == data) << NameOf(type);
  }
}

// As dequantize_row_q4_0 and _q5_0 of ggml-quants.c read them.
TEST(QuantFields, Q40AndQ50) {
  const Bytes q4 = RandomBytes(18, 2);
  const Bytes quants4 = Elements(DType::kGgmlQ40, 2, q4);
  const Bytes q5 = RandomBytes(22, 3);
  const Bytes quants5 = Elements(DType::kGgmlQ50, 2, q5);
  const uint32_t high =
      q5[2] | q5[3] << 8 | q5[4] << 16 | static_cast<uint32_t>(q5[5]) << 24;
  for (size_t j = 0; j < 16; ++j) {
    EXPECT_EQ(quants4[j], q4[2 + j] & 15);
    EXPECT_EQ(quants4[j + 16], q4[2 + j] >> 4);
    EXPECT_EQ(quants5[j], (q5[6 + j] & 15) | (high >> j & 1) << 4);
    EXPECT_EQ(quants5[j + 16], q5[6 + j] >> 4 | (high >> (j + 16) & 1) << 4);
  }
  EXPECT_EQ(Elements(DType::kGgmlQ50, 0, q5)[0], q5[1]);
  EXPECT_EQ(Elements(DType::kGgmlQ50, 1, q5)[0], q5[0]);
}

// As get_scale_min_k4 and dequantize_row_q5_K read them.
TEST(QuantFields, Q5K) {
  const Bytes block = RandomBytes(176, 4);
  const uint8_t* q = block.data() + 4;
  const Bytes scales = Elements(DType::kGgmlQ5K, 4, block);
  const Bytes mins = Elements(DType::kGgmlQ5K, 5, block);
  for (size_t j = 0; j < 8; ++j) {
    if (j < 4) {
      EXPECT_EQ(scales[j], q[j] & 63);
      EXPECT_EQ(mins[j], q[j + 4] & 63);
    } else {
      EXPECT_EQ(scales[j], (q[j + 4] & 0xF) | ((q[j - 4] >> 6) << 4));
      EXPECT_EQ(mins[j], (q[j + 4] >> 4) | ((q[j] >> 6) << 4));
    }
  }
  const Bytes quants = Elements(DType::kGgmlQ5K, 6, block);
  const uint8_t* qh = block.data() + 16;
  const uint8_t* ql = block.data() + 48;
  size_t y = 0;
  for (size_t j = 0; j < 256; j += 64, ql += 32) {
    const size_t bit = j / 32;
    for (size_t l = 0; l < 32; ++l) {
      EXPECT_EQ(quants[y++], (ql[l] & 15) | (qh[l] >> bit & 1) << 4);
    }
    for (size_t l = 0; l < 32; ++l) {
      EXPECT_EQ(quants[y++], ql[l] >> 4 | (qh[l] >> (bit + 1) & 1) << 4);
    }
  }
}

// As dequantize_row_q6_K reads them.
TEST(QuantFields, Q6K) {
  const Bytes block = RandomBytes(210, 5);
  const Bytes quants = Elements(DType::kGgmlQ6K, 3, block);
  for (size_t n = 0; n < 2; ++n) {
    const uint8_t* ql = block.data() + 64 * n;
    const uint8_t* qh = block.data() + 128 + 32 * n;
    for (size_t l = 0; l < 32; ++l) {
      const uint8_t* y = quants.data() + 128 * n + l;
      EXPECT_EQ(y[0], (ql[l] & 0xF) | ((qh[l] >> 0 & 3) << 4));
      EXPECT_EQ(y[32], (ql[l + 32] & 0xF) | ((qh[l] >> 2 & 3) << 4));
      EXPECT_EQ(y[64], (ql[l] >> 4) | ((qh[l] >> 4 & 3) << 4));
      EXPECT_EQ(y[96], (ql[l + 32] >> 4) | ((qh[l] >> 6 & 3) << 4));
    }
  }
}

// As dequantize_row_q3_K reads them: scales by its masks, quants bit by bit.
TEST(QuantFields, Q3K) {
  const Bytes block = RandomBytes(110, 6);
  const uint8_t* packed = block.data() + 96;
  const Bytes scales = Elements(DType::kGgmlQ3K, 2, block);
  for (size_t i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    EXPECT_EQ(scales[i], low | (packed[8 + i % 4] >> (2 * (i / 4)) & 3) << 4);
  }
  const Bytes quants = Elements(DType::kGgmlQ3K, 3, block);
  size_t y = 0;
  for (size_t n = 0; n < 2; ++n) {
    for (size_t j = 0; j < 4; ++j) {
      for (size_t l = 0; l < 32; ++l) {
        const int low = block[32 + 32 * n + l] >> (2 * j) & 3;
        const int high = block[l] >> (4 * n + j) & 1;
        EXPECT_EQ(quants[y++], low | high << 2);
      }
    }
  }
}

// As dequantize_row_iq4_xs, _iq2_xs and _iq3_xxs read them.
TEST(QuantFields, Iq) {
  const Bytes xs = RandomBytes(136, 7);
  const Bytes scales = Elements(DType::kGgmlIQ4XS, 2, xs);
  const Bytes quants = Elements(DType::kGgmlIQ4XS, 3, xs);
  const int scales_h = xs[2] | xs[3] << 8;
  for (size_t ib = 0; ib < 8; ++ib) {
    EXPECT_EQ(scales[ib], (xs[4 + ib / 2] >> 4 * (ib % 2) & 0xf) |
                              (scales_h >> 2 * ib & 3) << 4);
    for (size_t j = 0; j < 16; ++j) {
      EXPECT_EQ(quants[32 * ib + j], xs[8 + 16 * ib + j] & 15);
      EXPECT_EQ(quants[32 * ib + j + 16], xs[8 + 16 * ib + j] >> 4);
    }
  }
  const Bytes iq2 = RandomBytes(74, 8);
  for (size_t i = 0; i < 32; ++i) {
    const int q = iq2[2 + 2 * i] | iq2[3 + 2 * i] << 8;
    EXPECT_EQ(Elements(DType::kGgmlIQ2XS, 3, iq2)[i], q >> 8 & 1);
    EXPECT_EQ(Elements(DType::kGgmlIQ2XS, 4, iq2)[i], q & 255);
    EXPECT_EQ(Elements(DType::kGgmlIQ2XS, 5, iq2)[i], q >> 9);
  }
  const Bytes iq3 = RandomBytes(98, 9);
  for (size_t ib = 0; ib < 8; ++ib) {
    EXPECT_EQ(Elements(DType::kGgmlIQ3XXS, 2, iq3)[ib],
              iq3[2 + 64 + 4 * ib + 3] >> 4);
  }
}

TEST(QuantKeys, LogsAreOfBase2) {
  EXPECT_EQ(quant::Log(0), 0);
  EXPECT_EQ(quant::Log(1), 0);
  EXPECT_EQ(quant::Log(2), 32);
  EXPECT_EQ(quant::Log(3), 32 + 19);  // 32 * log2(1.5) = 18.7
  EXPECT_EQ(quant::Log(uint64_t{1} << 40), 32 * 40);
  for (uint64_t x = 1; x < 5000; ++x) {
    EXPECT_LE(quant::Log(x), quant::Log(x + 1));
  }
}

// ---- Round trips ----

TEST(Quant, AnyBytesOfEachType) {
  for (const BlockType& type : kBlockTypes) {
    for (const int level : {1, 3, 6}) {
      const size_t blocks = 150000 / type.bytes;
      Bytes data = SkewedBytes(blocks * type.bytes, 10);
      const size_t end = 20 * type.bytes;
      const Bytes noise = RandomBytes(end, 11);
      std::copy(noise.begin(), noise.end(), data.begin());
      std::fill_n(data.end() - static_cast<std::ptrdiff_t>(end), end, 0xFF);
      EncodeRequest request = {data, data.size(), type.dtype, level};
      const auto size = CodedSize(request);
      ASSERT_TRUE(size.has_value()) << NameOf(type);
      EXPECT_LT(*size, data.size()) << NameOf(type);
      // Blocks that are no whole rows; those of noise may not be coded.
      request.block_size = (blocks / 3 + 1) * type.bytes;
      request.row = 4 * FindDType(type.dtype)->block_elements;
      request.position = 7 * FindDType(type.dtype)->block_elements;
      EXPECT_GT(CheckRoundTrip(kQuant, request), 0u) << NameOf(type);
    }
  }
}

TEST(Quant, LargeFramesAreCountedInPart) {
  for (const DType dtype : {DType::kGgmlQ40, DType::kGgmlQ6K}) {
    const BlockType& type = *quant::FindBlockType(dtype);
    const size_t blocks = (size_t{1} << 20) / type.quants.count;
    Bytes data = SkewedBytes(blocks * type.bytes, 12);
    // What the part does not show: other quants in a few places.
    const Bytes noise = RandomBytes(type.bytes, 13);
    for (size_t b : {size_t{1}, blocks / 3, blocks - 2}) {
      std::copy(noise.begin(), noise.end(),
                data.begin() + static_cast<std::ptrdiff_t>(b * type.bytes));
    }
    EXPECT_TRUE(CodedSize({data, data.size() / blocks * (blocks / 2), dtype, 3})
                    .has_value());
  }
}

TEST(Quant, OddSizesAreOthers) {
  Scratch scratch;
  for (const size_t size : {1, 17, 18, 19, 1801, 18001}) {
    const Bytes data(size, 0x11);
    const EncodeRequest request = {data, data.size(), DType::kGgmlQ40, 3};
    const auto plan = FindEncoder(kQuant)->plan(request, scratch);
    EXPECT_EQ(plan, nullptr) << size;
  }
  // The block size is no multiple of the type's.
  const Bytes data(1800 * 18, 0x11);
  const EncodeRequest request = {data, 4096, DType::kGgmlQ40, 3};
  EXPECT_EQ(FindEncoder(kQuant)->plan(request, scratch), nullptr);
  // Other types.
  const EncodeRequest floats = {data, data.size(), DType::kF16, 3};
  EXPECT_EQ(FindEncoder(kQuant)->plan(floats, scratch), nullptr);
}

TEST(Quant, NoiseIsNotCoded) {
  Scratch scratch;
  for (const BlockType& type : kBlockTypes) {
    const Bytes data = RandomBytes(1000 * size_t{type.bytes}, 14);
    const EncodeRequest request = {data, data.size(), type.dtype, 3};
    EXPECT_EQ(FindEncoder(kQuant)->plan(request, scratch), nullptr)
        << NameOf(type);
  }
}

/// Q8_0 blocks of rows whose columns have scales and means of their own, made
/// from integers.
Bytes Embedding(size_t rows, size_t columns) {
  Random random(15);
  std::vector<int64_t> scale(columns), mean(columns);
  for (size_t c = 0; c < columns; ++c) {
    scale[c] = 20 + static_cast<int64_t>(random.Below(200));
    mean[c] =
        static_cast<int64_t>(random.Below(5)) * 4 * scale[c] - 8 * scale[c];
  }
  Bytes bytes;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; c += 32) {
      std::array<int64_t, 32> weights;
      int64_t largest = 1;
      for (size_t i = 0; i < 32; ++i) {
        int64_t sum = 0;
        for (int k = 0; k < 4; ++k)
          sum += static_cast<int64_t>(random.Below(17)) - 8;
        weights[i] = sum * scale[c + i] + mean[c + i];
        largest = std::max(largest, std::abs(weights[i]));
      }
      // d as a number of units that FP16 holds: 11 bits and an exponent.
      const int64_t d = (largest + 126) / 127;
      const auto exponent =
          static_cast<int>(std::bit_width(static_cast<uint64_t>(d)));
      const int64_t mantissa = d << (11 - exponent) & 1023;
      const int64_t half = int64_t{exponent} << 10 | mantissa;
      bytes.push_back(static_cast<uint8_t>(half));
      bytes.push_back(static_cast<uint8_t>(half >> 8));
      for (int64_t weight : weights) {
        bytes.push_back(static_cast<uint8_t>(weight / d));
      }
    }
  }
  return bytes;
}

TEST(Quant, ColumnsArePredicted) {
  constexpr size_t kColumns = 192;
  const Bytes data = Embedding(1024, kColumns);
  // From the middle of a row on, in blocks that are no whole rows.
  const ByteSpan part = ByteSpan(data).subspan(4 * 34);
  EncodeRequest request = {part, 1000 * 34, DType::kGgmlQ80, 3};
  const auto alone = CodedSize(request);
  request.row = kColumns;
  request.position = 4 * 32;
  const auto by_column = CodedSize(request);
  ASSERT_TRUE(alone && by_column);
  EXPECT_LT(*by_column * 100, *alone * 97);
  request.row = 160;  // wrong: columns say nothing, and do no harm
  const auto misled = CodedSize(request);
  ASSERT_TRUE(misled.has_value());
  EXPECT_GT(*misled, *by_column);
}

// ---- Damage ----

absl::Status Refusal(const Bytes& params, const Bytes& coded, size_t size) {
  absl::Status why;
  EXPECT_FALSE(
      DecodeBlock(*FindDecoder(kQuant), params, coded, size, &why).has_value());
  return why;
}

TEST(Quant, WrongParametersAreRefused) {
  const Bytes data = SkewedBytes(600 * 18, 16);
  Scratch scratch;
  const EncodeRequest request = {data, data.size(), DType::kGgmlQ40, 3};
  const auto frame = EncodeFrame(*FindEncoder(kQuant), request, scratch);
  ASSERT_TRUE(frame && frame->blocks[0]);
  const Bytes& coded = *frame->blocks[0];
  // Type, hints, flags, axes but for the low bytes of their bases.
  for (size_t at : {0, 1, 2, 3, 4, 6, 7, 8, 10}) {
    Bytes params = frame->params;
    params[at] ^= 0x80;
    EXPECT_NE(Refusal(params, coded, data.size()).message(), "") << at;
  }
  EXPECT_NE(Refusal({}, coded, data.size()).message(), "");
  EXPECT_NE(Refusal(frame->params, coded, data.size() - 1).message(), "");
  EXPECT_NE(Refusal(frame->params, coded, data.size() - 18).message(), "");
  EXPECT_NE(Refusal(frame->params, coded, data.size() + 18).message(), "");
  Bytes longer = coded;
  longer.push_back(0);
  EXPECT_NE(Refusal(frame->params, longer, data.size()).message(), "");
}

// ---- Real tensors ----

struct Tensor {
  std::string_view file;
  DType dtype;
  size_t offset;
  size_t size;
  int percent;  // the coded size is less
};

TEST(Quant, Ladder) {
  // Where files of 768 x 768 weights have them.
  constexpr Tensor kTensors[] = {
      {"IQ4_NL", DType::kGgmlIQ4NL, 10272, 331776, 95},
      {"IQ4_XS", DType::kGgmlIQ4XS, 10272, 313344, 97},
      {"Q2_K", DType::kGgmlQ2K, 10272, 193536, 92},
      {"Q3_K_M", DType::kGgmlQ3K, 10272, 253440, 95},
      {"Q4_0", DType::kGgmlQ40, 10272, 331776, 90},
      {"Q4_1", DType::kGgmlQ41, 10272, 368640, 87},
      {"Q4_K_M", DType::kGgmlQ4K, 10272, 331776, 95},
      {"Q5_0", DType::kGgmlQ50, 10272, 405504, 91},
      {"Q5_1", DType::kGgmlQ51, 10272, 442368, 89},
      {"Q5_K_M", DType::kGgmlQ5K, 10272, 405504, 96},
      {"Q6_K", DType::kGgmlQ6K, 10272, 483840, 96},
      {"Q8_0", DType::kGgmlQ80, 10272, 626688, 94},
      {"imatrix.IQ3_XXS", DType::kGgmlIQ2S, 10496, 188928, 98},
      {"imatrix.IQ3_XXS", DType::kGgmlIQ3XXS, 202496, 225792, 98},
  };
  const std::filesystem::path folder =
      std::filesystem::path(ZIPLLM_SOURCE_DIR) / "../shared/data/ladder";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  for (const Tensor& tensor : kTensors) {
    std::ifstream file(
        folder / ("mpnet-part." + std::string(tensor.file) + ".gguf"),
        std::ios::binary);
    Bytes data(tensor.size);
    file.seekg(static_cast<std::streamoff>(tensor.offset));
    ASSERT_TRUE(file.read(reinterpret_cast<char*>(data.data()),
                          static_cast<std::streamsize>(data.size())))
        << tensor.file;
    for (const int level : {1, 3, 6}) {
      EncodeRequest request = {data, data.size(), tensor.dtype, level};
      request.row = 768;
      const auto size = CodedSize(request);
      ASSERT_TRUE(size.has_value()) << tensor.file;
      EXPECT_LT(*size * 100, data.size() * static_cast<size_t>(tensor.percent))
          << tensor.file << " level " << level;
    }
  }
}

}  // namespace
}  // namespace zipllm::codecs
