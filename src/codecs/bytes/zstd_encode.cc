// Codec 3, zstd: one Zstandard frame a block (RFC 8878).
#include "codecs/bytes/zstd_encode.h"

#include <zstd.h>

#include <array>

#include "codecs/sample.h"

namespace zipllm::codecs {
namespace {

// Up to this level data that looks random is given up at once.
constexpr int kMaxHastyLevel = 6;

class Plan final : public EncodePlan {
 public:
  Plan(int zstd_level, uint64_t estimate)
      : zstd_level_(zstd_level), estimate_(estimate) {}
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& /*scratch*/,
              Buffer* out) const override {
    return AppendZstdFrame(block, zstd_level_, out);
  }

 private:
  int zstd_level_;
  uint64_t estimate_;
};

/// The bytes that `data` takes at this level, at most its own.
uint64_t Measure(ByteSpan data, int zstd_level, Buffer* buffer) {
  buffer->Clear();
  return AppendZstdFrame(data, zstd_level, buffer) ? buffer->size()
                                                   : data.size();
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  const ByteSpan sample = TakeSample(request, &scratch.buffers[0]);
  const bool hasty = request.level <= kMaxHastyLevel;
  // A gain below 1/128 is not worth a slower decoder.
  const uint64_t worth = sample.size() - sample.size() / 128;
  if (hasty && LooksRandom(sample) &&
      Measure(sample, 1, &scratch.buffers[1]) >= worth) {
    return nullptr;
  }
  const int zstd_level = ZstdLevel(request.level);
  const uint64_t coded = Measure(sample, zstd_level, &scratch.buffers[1]);
  if (hasty && coded >= worth) return nullptr;
  return std::make_unique<Plan>(
      zstd_level, ScaleUp(coded, sample.size(), request.data.size()));
}

}  // namespace

int ZstdLevel(int level) {
  constexpr std::array kLevels = {1, 2, 3, 6, 9, 15, 17, 19, 22};
  return kLevels[static_cast<size_t>(level - 1)];
}

bool AppendZstdFrame(ByteSpan data, int zstd_level, Buffer* out) {
  std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                             ZSTD_freeCCtx);
  if (context == nullptr) throw std::bad_alloc();
  const auto set = [&](ZSTD_cParameter parameter, int value) {
    ZSTD_CCtx_setParameter(context.get(), parameter, value);
  };
  set(ZSTD_c_compressionLevel, zstd_level);
  set(ZSTD_c_contentSizeFlag, 0);
  set(ZSTD_c_checksumFlag, 0);
  set(ZSTD_c_dictIDFlag, 0);
  const size_t start = out->size();
  const size_t bound = ZSTD_compressBound(data.size());
  const size_t size = ZSTD_compress2(context.get(), out->Extend(bound), bound,
                                     data.data(), data.size());
  const bool smaller = !ZSTD_isError(size) && size < data.size();
  out->Resize(smaller ? start + size : start);
  return smaller;
}

extern const Encoder kZstdEncoder = {.id = 3, .name = "zstd", .plan = MakePlan};

}  // namespace zipllm::codecs
