#include "quantizers/inputs.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "base/hash.h"
#include "parsers/parser.h"

namespace zipllm::quantizers {
namespace {

/// Knuth's generator of 64 bits; the high ones are good.
class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}
  /// `bits` of them.
  uint32_t Next(int bits) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state_ >> (64 - bits));
  }
  /// About normal with a deviation of 0.072; a multiple of 2^-20.
  float Bell() {
    int32_t sum = -2 * 65535;
    for (int i = 0; i < 4; ++i) sum += static_cast<int32_t>(Next(16));
    return static_cast<float>(sum) * 0x1p-20f;
  }

 private:
  uint64_t state_;
};

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::filesystem::path LadderFile(const std::string& file) {
  return std::filesystem::path(ZIPLLM_SOURCE_DIR) / "../shared/data/ladder" /
         ("mpnet-part." + file + ".gguf");
}

}  // namespace

Matrix Plain() {
  Matrix matrix = {"plain", 16, 1024, {}, {}};
  Draws draws(1);
  for (size_t group = 0; group < 16 * 1024 / 32; ++group) {
    const uint32_t kind = draws.Next(4);
    const float constant = draws.Bell();
    const float scale = std::ldexp(1.0f, -static_cast<int>(draws.Next(2)));
    for (int i = 0; i < 32; ++i) {
      const float bell = draws.Bell();
      matrix.weights.push_back(kind == 0   ? 0.0f
                               : kind == 1 ? constant
                               : kind == 2 ? bell * 0x1p-16f
                                           : bell * scale);
    }
  }
  for (int i = 0; i < 1024; ++i) {
    const float root = static_cast<float>(draws.Next(12));
    matrix.importance.push_back(root * root * 0x1p-24f);
  }
  return matrix;
}

std::vector<Matrix> Hostile() {
  constexpr size_t kRows = 4;
  constexpr size_t kColumns = 512;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<Matrix> matrices;
  Draws draws(2);
  const auto add = [&](const std::string& name, auto weight, auto importance) {
    Matrix matrix = {name, kRows, kColumns, {}, {}};
    for (size_t i = 0; i < kRows * kColumns; ++i) {
      matrix.weights.push_back(weight(i));
    }
    for (size_t i = 0; i < kColumns; ++i) {
      matrix.importance.push_back(importance());
    }
    matrices.push_back(std::move(matrix));
  };
  const auto bell = [&](size_t) { return draws.Bell(); };
  const auto even = [&] {
    return static_cast<float>(draws.Next(24)) * 0x1p-24f;
  };
  const auto any_bits = [&] { return FromBits(draws.Next(32)); };
  for (const int exponent :
       {-20, -30, -50, -70, -100, -120, -130, -145, 60, 100, 127}) {
    add(
        "times 2^" + std::to_string(exponent),
        [&](size_t) { return std::ldexp(draws.Bell(), exponent); }, even);
  }
  float held = 0;
  for (const size_t length : {16, 32, 256}) {
    add(
        "constant over " + std::to_string(length),
        [&](size_t i) { return held = i % length == 0 ? draws.Bell() : held; },
        even);
    int shift = 0;
    add(
        "scales of " + std::to_string(length),
        [&](size_t i) {
          if (i % length == 0) shift = static_cast<int>(draws.Next(5));
          return std::ldexp(draws.Bell(), -shift);
        },
        even);
  }
  add(
      "negative", [&](size_t) { return -std::fabs(draws.Bell()); }, even);
  add(
      "positive", [&](size_t) { return std::fabs(draws.Bell()); }, even);
  add(
      "near -1", [&](size_t) { return std::ldexp(draws.Bell(), -12) - 1.0f; },
      even);
  add(
      "near 1", [&](size_t) { return std::ldexp(draws.Bell(), -12) + 1.0f; },
      even);
  add(
      "sparse",
      [&](size_t) { return draws.Next(6) == 0 ? draws.Bell() : 0.0f; }, even);
  add(
      "zeros", [](size_t) { return 0.0f; }, even);
  add(
      "negative zeros", [](size_t) { return -0.0f; }, even);
  add(
      "integers",
      [&](size_t) { return static_cast<float>(draws.Next(3)) - 4.0f; }, even);
  add(
      "infinities",
      [&](size_t) {
        return draws.Next(7) == 0 ? (draws.Next(1) ? kInfinity : -kInfinity)
                                  : draws.Bell();
      },
      even);
  add(
      "NaNs",
      [&](size_t) {
        // Of either sign, quiet and signalling, with any payload.
        return draws.Next(7) == 0 ? FromBits(0x7f800001u | draws.Next(32))
                                  : draws.Bell();
      },
      even);
  add(
      "any bits", [&](size_t) { return any_bits(); }, even);
  add("nothing counts", bell, [] { return 0.0f; });
  add("little counts", bell, [&] { return std::ldexp(even(), -130); });
  add("few count", bell,
      [&] { return draws.Next(4) == 0 ? draws.Bell() : 0.0f; });
  add("any bits count", bell, any_bits);
  add(
      "any bits count for any bits", [&](size_t) { return any_bits(); },
      any_bits);
  return matrices;
}

std::vector<uint8_t> AnyBytes(size_t count) {
  Draws draws(3);
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<uint8_t>(draws.Next(8)));
  }
  return bytes;
}

std::string Sha256Hex(const std::vector<uint8_t>& bytes) {
  std::string hex;
  for (const uint8_t byte : Sha256Of(bytes)) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

std::vector<uint8_t> Quantize(const Quantizer& quantizer,
                              kernels::Target target, const Matrix& matrix) {
  const DTypeInfo& info = *FindDType(quantizer.dtype);
  std::vector<uint8_t> blocks(matrix.weights.size() / info.block_elements *
                              info.block_bytes);
  quantizer.For(target)(
      matrix.weights.data(), matrix.rows, matrix.columns,
      quantizer.needs_importance ? matrix.importance.data() : nullptr,
      blocks.data());
  return blocks;
}

std::vector<kernels::Target> Targets() {
  std::vector<kernels::Target> targets = {kernels::Target::kScalar};
  for (const kernels::Target target :
       {kernels::Target::kAvx2, kernels::Target::kAvx512}) {
    if (target <= kernels::Best().target) targets.push_back(target);
  }
  return targets;
}

std::vector<LadderTensor> ReadLadder(const std::string& file) {
  std::ifstream stream(LadderFile(file), std::ios::binary);
  const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(stream), {}};
  std::vector<LadderTensor> tensors;
  const parsers::Outcome outcome = parsers::Detect(bytes, bytes.size());
  if (!outcome.layout) return tensors;
  for (const Segment& segment : outcome.layout->segments) {
    if (segment.shape.size() != 2) continue;
    const auto begin =
        bytes.begin() + static_cast<std::ptrdiff_t>(segment.offset);
    tensors.push_back(
        {segment.name,
         segment.dtype,
         {begin, begin + static_cast<std::ptrdiff_t>(segment.length)}});
  }
  return tensors;
}

std::optional<Matrix> ReadSource(const std::string& name) {
  for (const LadderTensor& tensor : ReadLadder("BF16")) {
    if (tensor.name != name) continue;
    Matrix matrix = {name, 768, 768, {}, {}};
    for (size_t i = 0; i + 1 < tensor.blocks.size(); i += 2) {
      matrix.weights.push_back(FromBits(uint32_t{tensor.blocks[i]} << 16 |
                                        uint32_t{tensor.blocks[i + 1]} << 24));
    }
    return matrix;
  }
  return std::nullopt;
}

}  // namespace zipllm::quantizers
