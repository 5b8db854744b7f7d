// Codec 18, mixdelta: elements beside a base, every bit by mixed models.
#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/mixdelta_models.h"
#include "entropy/binary_coder.h"
#include "entropy/bits.h"

namespace zipllm::codecs {
namespace {

using mixdelta::Params;

struct Writing {
  entropy::BinaryEncoder code;
  entropy::BitWriter raw;
  bool Bit(bool bit, uint32_t p) { return code.Code(bit, p); }
  uint32_t Raw(uint32_t bits, int count) {
    raw.Put(bits, count);
    return bits;
  }
};

void AppendBlock(const Params& params, const Reference& base,
                 const BlockContext& context, ByteSpan block, Scratch& scratch,
                 Buffer* out) {
  const size_t size = mixdelta::FindFormat(params.dtype)->bytes;
  Buffer code, raw;
  Writing writing{entropy::BinaryEncoder(&code), entropy::BitWriter(&raw)};
  mixdelta::CodeBlock(
      params, base, context, block.size() / size, writing, scratch,
      [&](uint64_t i) { return mixdelta::LoadElement(block.data(), size, i); },
      [](uint64_t, uint32_t) {});
  writing.code.Finish();
  writing.raw.Finish();
  ByteWriter writer(out);
  writer.Varint(code.size());
  writer.Bytes(code.span());
  writer.Bytes(raw.span());
}

/// What is to be known of a frame: whether elements go, and how far.
class Survey {
 public:
  Survey(DType dtype, const Reference& base, ByteSpan data, Scratch& scratch)
      : format_(*mixdelta::FindFormat(dtype)),
        base_(*mixdelta::FindFormat(base.dtype)) {
    constexpr size_t kSamples = 65536;
    const size_t count = data.size() / format_.bytes;
    const size_t stride = count / kSamples + 1;
    Buffer& casts = scratch.buffers[0];
    casts.Resize(data.size());
    Cast(base.dtype, dtype, base.data.data(), count, casts.data(), nullptr);
    for (size_t i = 0; i < count; i += stride) {
      const uint32_t element =
          mixdelta::LoadElement(data.data(), format_.bytes, i);
      const uint32_t cast =
          mixdelta::LoadElement(casts.data(), format_.bytes, i);
      ++samples_;
      equal_ += element == cast;
      if (element != cast) {
        Add(element, mixdelta::LoadElement(base.data.data(), base_.bytes, i));
      }
    }
  }
  /// Whether any of those looked at is not its base.
  bool AnyGoes() const { return equal_ < samples_; }
  /// The exponent of a typical step; the least if none goes.
  int16_t Unit() const {
    uint64_t all = 0, seen = 0;
    for (const uint64_t count : exponents_) all += count;
    size_t i = 0;
    while (i + 1 < kExponents && (seen += exponents_[i]) * 2 < all) ++i;
    // Where few go, all steps are less than those of the few on average.
    const int rarity = static_cast<int>(std::bit_width(
        (samples_ - equal_) == 0 ? uint64_t{1}
                                 : samples_ / (samples_ - equal_)));
    const int unit = static_cast<int>(i) - kZero - (rarity - 1);
    return static_cast<int16_t>(
        std::clamp(unit, -mixdelta::kMaxUnit, mixdelta::kMaxUnit));
  }

 private:
  static constexpr int kZero = 160;
  static constexpr size_t kExponents = 320;

  /// A number as significand * 2^exponent.
  struct Number {
    int64_t significand;
    int exponent;
  };
  static Number Split(const FloatFormat& format, uint32_t element) {
    const int m = format.mantissa_bits;
    const uint32_t sign = uint32_t{1} << (8 * format.bytes - 1);
    const int exponent = static_cast<int>((element & (sign - 1)) >> m);
    const int64_t significand =
        (element & ((uint32_t{1} << m) - 1)) | (int64_t{exponent != 0} << m);
    const int bias = (1 << (format.exponent_bits - 1)) - 1;
    return {element & sign ? -significand : significand,
            std::max(exponent, 1) - bias - m};
  }
  void Add(uint32_t element, uint32_t base) {
    // Both to the greater exponent plus 24 places: what lies below does not
    // matter.
    Number a = Split(format_, element), b = Split(base_, base);
    const int exponent = std::max(a.exponent, b.exponent) - 24;
    const auto to = [exponent](const Number& number) {
      return number.significand * (int64_t{1} << 24) >>
             std::min(24 - (number.exponent - exponent), 63);
    };
    const int64_t step = std::abs(to(a) - to(b));
    if (step == 0) return;
    const int top =
        exponent +
        static_cast<int>(std::bit_width(static_cast<uint64_t>(step))) - 1;
    ++exponents_[static_cast<size_t>(
        std::clamp(top + kZero, 0, static_cast<int>(kExponents) - 1))];
  }

  const FloatFormat& format_;
  const FloatFormat& base_;
  uint64_t samples_ = 0;
  uint64_t equal_ = 0;
  std::array<uint64_t, kExponents> exponents_{};
};

class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, const Params& params,
       const Reference& base, Scratch& scratch)
      : request_(request),
        mix_(params),
        base_(base),
        size_(mixdelta::FindFormat(params.dtype)->bytes) {
    ByteWriter writer(&params_);
    writer.Le(static_cast<uint8_t>(mix_.dtype));
    writer.Le<uint8_t>(mix_.equal);
    writer.Le(mix_.ridge);
    writer.Le(mix_.unit);
    // How well mixing does is only known afterwards: the blocks are coded here.
    for (size_t pos = 0; pos < request.data.size(); pos += request.block_size) {
      const ByteSpan block = request.data.subspan(
          pos, std::min(request.block_size, request.data.size() - pos));
      Buffer& coded = blocks_.emplace_back();
      if (IsWhole(block)) CodeAt(pos, block, scratch, &coded);
      estimate_ += coded.empty() ? block.size() : coded.size();
    }
  }
  ByteSpan params() const override { return params_.span(); }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override;

 private:
  bool IsWhole(ByteSpan block) const {
    return block.size() % size_ == 0 &&
           block.size() <= mixdelta::kMaxBlockBytes;
  }
  void CodeAt(size_t pos, ByteSpan block, Scratch& scratch, Buffer* out) const {
    const size_t base_size = mixdelta::FindFormat(base_.dtype)->bytes;
    Reference base = base_;
    base.data = base_.data.subspan(pos / size_ * base_size,
                                   block.size() / size_ * base_size);
    const BlockContext context = {.references = {&base, 1},
                                  .row = request_.row,
                                  .position = request_.position + pos / size_,
                                  .shared = {}};
    AppendBlock(mix_, base, context, block, scratch, out);
  }

  EncodeRequest request_;
  Params mix_;
  Reference base_;
  size_t size_;
  Buffer params_;
  std::vector<Buffer> blocks_;
  uint64_t estimate_ = 0;
};

bool Plan::Encode(ByteSpan block, Scratch& scratch, Buffer* out) const {
  if (!IsWhole(block)) return false;
  const auto pos = static_cast<size_t>(block.data() - request_.data.data());
  const size_t start = out->size();
  if (pos % request_.block_size == 0) {
    out->Append(blocks_[pos / request_.block_size].span());
  } else {
    CodeAt(pos, block, scratch, out);
  }
  const bool smaller = out->size() - start < block.size();
  if (!smaller) out->Resize(start);
  return smaller;
}

/// Whether it is better to tell first if an element is its base, as some
/// elements of the frame have it.
bool IsWorthTelling(const EncodeRequest& request, Params params,
                    const Reference& base, Scratch& scratch) {
  constexpr size_t kTrial = 32768, kLeast = 4096;
  const size_t size = mixdelta::FindFormat(params.dtype)->bytes;
  const size_t count = std::min(request.data.size() / size, kTrial);
  if (count < kLeast) return false;
  const size_t first = (request.data.size() / size - count) / 2;
  const size_t base_size = mixdelta::FindFormat(base.dtype)->bytes;
  Reference beside = base;
  beside.data = base.data.subspan(first * base_size, count * base_size);
  const BlockContext context = {.references = {&beside, 1},
                                .row = request.row,
                                .position = request.position + first,
                                .shared = {}};
  size_t sizes[2];
  for (const bool equal : {false, true}) {
    params.equal = equal;
    Buffer coded;
    AppendBlock(params, beside, context,
                request.data.subspan(first * size, count * size), scratch,
                &coded);
    sizes[equal] = coded.size();
  }
  return sizes[true] < sizes[false];
}

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  constexpr int kLevel = 9;
  constexpr uint8_t kRidge = 4;
  const FloatFormat* const format = mixdelta::FindFormat(request.dtype);
  if (request.level < kLevel || format == nullptr ||
      request.data.size() % format->bytes != 0) {
    return nullptr;
  }
  Params params;
  params.dtype = request.dtype;
  const Reference* const base = mixdelta::FindBase(
      params, request.references, request.data.size() / format->bytes);
  if (base == nullptr) return nullptr;
  const Survey survey(request.dtype, *base, request.data, scratch);
  if (!survey.AnyGoes()) return nullptr;
  params.ridge = kRidge;
  params.unit = survey.Unit();
  params.equal = IsWorthTelling(request, params, *base, scratch);
  return std::make_unique<Plan>(request, params, *base, scratch);
}

}  // namespace

extern const Encoder kMixdeltaEncoder = {
    .id = 18, .name = "mixdelta", .plan = MakePlan};

}  // namespace zipllm::codecs
