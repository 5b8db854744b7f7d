// Codec 22, text_cm: text by context mixing. Chooses the prior by the strings
// that it shares with the block, and the model by trial on a sample.
#include <algorithm>
#include <bit>
#include <bitset>
#include <optional>

#include "codecs/codec.h"
#include "codecs/text/cm_format.h"
#include "codecs/text/coded_plan.h"

namespace zipllm::codecs {
namespace {

using cm::Params;
using cm::Profile;

constexpr int kMinLevel = 6;
constexpr int kMinLevelOfMax = 8;
/// From here on text_lm has the models of max among its own.
constexpr int kLevelOfLm = 9;
/// Where more than one profile is tried.
constexpr size_t kMaxSmall = size_t{1} << 16;
/// Below this size, reading more than one prior takes too long.
constexpr size_t kMinSizeForFamily = 4096;

/// Hashed strings of four bytes that a text has.
class Strings {
 public:
  explicit Strings(ByteSpan text) {
    ForEach(text, [this](size_t hash) { set_.set(hash); });
  }
  size_t CountIn(ByteSpan text) const {
    size_t count = 0;
    ForEach(text, [&](size_t hash) { count += set_.test(hash); });
    return count;
  }

 private:
  static constexpr int kBits = 18;
  template <typename F>
  static void ForEach(ByteSpan text, F f) {
    uint32_t string = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      string = string << 8 | text[i];
      if (i >= 3) f(string * 0x9E3779B1 >> (32 - kBits));
    }
  }
  std::bitset<size_t{1} << kBits> set_;
};

/// Some pieces out of a block, up to `size` bytes in all.
template <typename F>
void ForPieces(ByteSpan block, size_t size, F f) {
  constexpr size_t kPieces = 4;
  if (block.size() <= size) return f(block);
  for (size_t i = 0; i < kPieces; ++i) {
    const size_t begin = (block.size() - size / kPieces) / (kPieces - 1) * i;
    f(block.subspan(begin, size / kPieces));
  }
}

}  // namespace

Prior ChoosePrior(ByteSpan block) {
  static const auto* const strings = [] {
    auto* all = new std::vector<Strings>;
    for (int i = 1; i < kPriors; ++i) {
      // As much of each, about, lest the longest shares most.
      const ByteSpan text = PriorText(static_cast<Prior>(i));
      all->emplace_back(text.last(std::min<size_t>(text.size(), 1 << 15)));
    }
    return all;
  }();
  std::array<size_t, kPriors> counts{};
  size_t total = 0;
  ForPieces(block, 1 << 14, [&](ByteSpan piece) {
    total += piece.size();
    for (size_t i = 1; i < kPriors; ++i) {
      counts[i] += (*strings)[i - 1].CountIn(piece);
    }
  });
  const auto best = std::max_element(counts.begin(), counts.end());
  // What shares so few strings is another language or another code.
  if (*best < total / 8) return Prior::kNone;
  return static_cast<Prior>(best - counts.begin());
}

namespace {

/// Lines of fields, or code, or prose: what codes a sample in less.
bool ChooseRecords(ByteSpan block, Buffer* trial) {
  const size_t size = std::clamp<size_t>(block.size() / 16, 2048, 1 << 15);
  const ByteSpan sample = block.size() <= size
                              ? block
                              : block.subspan((block.size() - size) / 2, size);
  std::array<size_t, 2> coded;
  for (size_t records = 0; records < 2; ++records) {
    trial->Clear();
    const Params params{
        .profile = Profile::kFast, .lines = 13, .records = records == 1};
    coded[records] =
        cm::EncodeBlock(params, sample, trial) ? trial->size() : sample.size();
  }
  return coded[1] < coded[0];
}

Params MaxParams(ByteSpan block) {
  Params params{.profile = Profile::kMax, .prior = ChoosePrior(block)};
  params.lines = static_cast<uint8_t>(std::clamp<size_t>(
      block.size() * cm::kLineBytesAByte / cm::kLineUnitBytes, 1,
      cm::kMaxLineUnits));
  return params;
}

Params LogParams(ByteSpan block) {
  Params params{.profile = Profile::kLog, .prior = ChoosePrior(block)};
  // A line for every two bytes.
  params.lines = static_cast<uint8_t>(
      std::clamp(static_cast<int>(std::bit_width(block.size())) - 1,
                 cm::kMinLineBits, cm::kMaxLineBits));
  return params;
}

Params FastParams(ByteSpan block, Scratch& scratch) {
  Params params{.prior = ChoosePrior(block)};
  params.reads_family =
      params.prior != Prior::kNone && block.size() >= kMinSizeForFamily;
  params.records = ChooseRecords(block, &scratch.buffers[0]);
  const size_t size = block.size() + cm::PriorsOf(params).size;
  // A line for every two to four bytes; beyond 2^20, for every four to eight:
  // more would not pay for the memory that it takes.
  const int bits = static_cast<int>(std::bit_width(size - 1)) - 2;
  params.lines = static_cast<uint8_t>(std::clamp(
      bits > 20 ? bits - 1 : bits, cm::kMinLineBits, cm::kMaxLineBits));
  return params;
}

}  // namespace

bool cm::SuitsLog(const EncodeRequest& request, Scratch& scratch) {
  const ByteSpan block = FirstBlock(request);
  if (request.is_lines) {
    // The language model has read more before a small block.
    return request.level < kLevelOfLm || block.size() > kMaxSmall;
  }
  if (block.size() <= kMaxSmall || ChoosePrior(block) < kFirstForMachines) {
    return false;
  }
  const size_t size = std::clamp<size_t>(block.size() / 16, 1 << 13, 1 << 16);
  const ByteSpan sample = block.subspan((block.size() - size) / 2, size);
  const auto coded_size = [&](const Params& params) {
    Buffer& trial = scratch.buffers[0];
    trial.Clear();
    return EncodeBlock(params, sample, &trial) ? trial.size() : size;
  };
  return coded_size(LogParams(sample)) < coded_size(MaxParams(sample));
}

namespace {

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (!request.is_text || request.level < kMinLevel) return nullptr;
  const ByteSpan block = FirstBlock(request);
  Params best;
  Buffer first;
  const auto consider = [&](const Params& params) {
    Buffer coded;
    if (cm::EncodeBlock(params, block, &coded, cm::FollowerOf(scratch)) &&
        (first.empty() || coded.size() < first.size())) {
      best = params;
      first = std::move(coded);
    }
  };
  const bool is_high = request.level >= kMinLevelOfMax;
  const bool is_small = block.size() <= kMaxSmall;
  const bool suits_log =
      (is_high || request.is_lines) && cm::SuitsLog(request, scratch);
  // Lines that are left to text_lm, which is asked later.
  if (request.is_lines && is_high && !suits_log) return nullptr;
  if (suits_log) consider(LogParams(block));
  if (request.level == kMinLevelOfMax && (!suits_log || is_small)) {
    consider(MaxParams(block));
  }
  // It has read more before a small block.
  if ((!is_high && !suits_log) || is_small) {
    consider(FastParams(block, scratch));
  }
  if (first.empty()) return nullptr;
  return std::make_unique<CodedPlan>(
      request, cm::StoreParams(best), std::move(first),
      [best](ByteSpan other, Scratch& own, Buffer* out) {
        return cm::EncodeBlock(best, other, out, cm::FollowerOf(own));
      });
}

}  // namespace

extern const Encoder kTextCmEncoder = {
    .id = 22, .name = "text_cm", .plan = MakePlan};

}  // namespace zipllm::codecs
