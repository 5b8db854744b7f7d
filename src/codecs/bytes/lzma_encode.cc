// Codec 4, lzma: one raw LZMA2 stream a block. For data that is bytes by
// nature, at the levels that are for archives.
#include <lzma.h>

#include <algorithm>
#include <optional>

#include "base/dtype.h"
#include "codecs/sample.h"

namespace zipllm::codecs {
namespace {

constexpr int kMinLevel = 7;
constexpr uint8_t kMaxDictionaryCode = 28;  // 64 MiB

uint32_t DictionarySize(uint8_t code) {
  return (uint32_t{2} | (code & 1)) << (code / 2 + 11);
}

bool IsFor(DType dtype) {
  switch (dtype) {
    case DType::kBytes:
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
    case DType::kU8:
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
    case DType::kBool:
      return true;
    default:
      // Quantized ggml types.
      return static_cast<int>(dtype) >= kGgmlDTypeBase;
  }
}

/// Appends `data` as LZMA2 if that takes less than `data.size()` bytes.
bool Append(ByteSpan data, const lzma_options_lzma& options, Buffer* out) {
  lzma_options_lzma copy = options;
  const lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &copy},
                                 {LZMA_VLI_UNKNOWN, nullptr}};
  const size_t start = out->size();
  size_t written = 0;
  const lzma_ret ret =
      lzma_raw_buffer_encode(filters, nullptr, data.data(), data.size(),
                             out->Extend(data.size()), &written, data.size());
  if (ret == LZMA_MEM_ERROR) throw std::bad_alloc();
  const bool smaller = ret == LZMA_OK && written < data.size();
  out->Resize(smaller ? start + written : start);
  return smaller;
}

class Plan final : public EncodePlan {
 public:
  Plan(uint8_t code, const lzma_options_lzma& options, uint64_t estimate)
      : code_(code), options_(options), estimate_(estimate) {}
  ByteSpan params() const override { return {&code_, 1}; }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    return Append(block, options_, out);
  }

 private:
  uint8_t code_;
  lzma_options_lzma options_;
  uint64_t estimate_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (request.level < kMinLevel || !IsFor(request.dtype)) return nullptr;

  // The smallest dictionary that a block fits in.
  const size_t block = std::min(request.block_size, request.data.size());
  uint8_t code = 0;
  while (code < kMaxDictionaryCode && DictionarySize(code) < block) ++code;

  lzma_options_lzma options;
  const uint32_t preset = request.level == 7   ? 6
                          : request.level == 8 ? 9
                                               : 9 | LZMA_PRESET_EXTREME;
  if (lzma_lzma_preset(&options, preset)) return nullptr;
  options.dict_size = DictionarySize(code);

  // Literal context, literal position and position bits: for text, for fields
  // of 4 bytes, for fields of 2, 8 and 1. The default {3, 0, 2} comes first.
  struct Bits {
    uint32_t lc, lp, pb;
  };
  constexpr Bits kCandidates[] = {{3, 0, 2}, {4, 0, 0}, {0, 2, 2},
                                  {1, 1, 1}, {0, 3, 3}, {0, 0, 0}};
  const ByteSpan sample = TakeSample(request, &scratch.buffers[0]);
  const size_t candidates = request.level == 9 ? std::size(kCandidates) : 1;
  std::optional<uint64_t> best;
  lzma_options_lzma best_options = options;
  for (const Bits& bits : std::span(kCandidates).first(candidates)) {
    options.lc = bits.lc;
    options.lp = bits.lp;
    options.pb = bits.pb;
    Buffer& trial = scratch.buffers[1];
    trial.Clear();
    const uint64_t coded =
        Append(sample, options, &trial) ? trial.size() : sample.size();
    if (best && coded >= *best) continue;
    best = coded;
    best_options = options;
  }
  return std::make_unique<Plan>(
      code, best_options, ScaleUp(*best, sample.size(), request.data.size()));
}

}  // namespace

extern const Encoder kLzmaEncoder = {.id = 4, .name = "lzma", .plan = MakePlan};

}  // namespace zipllm::codecs
