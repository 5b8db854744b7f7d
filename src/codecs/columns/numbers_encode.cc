// Sequences of numbers: which coding is smallest.
#include <algorithm>
#include <array>
#include <optional>

#include "codecs/columns/mix.h"
#include "codecs/columns/numbers.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::columns {
namespace {

using entropy::ZigZag64;

/// Numbers that a trial of mixing codes.
constexpr size_t kMixTrial = 1024;
/// Mixed numbers, per byte that mixing is to save.
constexpr size_t kLeastGain = 48;
/// Fewer are not worth the states of rANS.
constexpr size_t kLeastForRans = 256;

Numbers Transform(std::span<const uint64_t> numbers, NumberTransform how) {
  Numbers result(numbers.begin(), numbers.end());
  if (how == NumberTransform::kNone) return result;
  uint64_t before = 0;
  uint64_t step_before = 0;
  for (uint64_t& number : result) {
    const uint64_t step = number - before;
    before = number;
    number =
        ZigZag64(how == NumberTransform::kDelta ? step : step - step_before);
    step_before = step;
  }
  return result;
}

/// Numbers after a transform, and what is known of them.
struct Candidate {
  NumberTransform transform;
  Numbers numbers;
  uint64_t least;
  uint64_t most;
  entropy::ByteCounts magnitudes{};
  uint64_t low_bits = 0;

  Candidate(std::span<const uint64_t> plain, NumberTransform how)
      : transform(how), numbers(Transform(plain, how)) {
    least = most = numbers[0];
    for (const uint64_t number : numbers) {
      least = std::min(least, number);
      most = std::max(most, number);
      const uint8_t magnitude = MagnitudeOf(number);
      ++magnitudes[magnitude];
      low_bits += static_cast<uint64_t>(LowBits(magnitude));
    }
  }
  /// Bytes by rANS, about.
  uint64_t RansCost() const {
    const auto kinds = std::ranges::count_if(
        magnitudes, [](uint32_t count) { return count != 0; });
    return ((entropy::EntropyCost(magnitudes) >> 16) + low_bits) / 8 + 140 +
           static_cast<uint64_t>(kinds);
  }
  int PackedWidth() const {
    return static_cast<int>(std::bit_width(most - least));
  }
  uint64_t PackedCost() const {
    return 1 + VarintSize(least) +
           (numbers.size() * static_cast<uint64_t>(PackedWidth()) + 7) / 8;
  }
  size_t Width() const {
    return std::max<size_t>(
        1, (static_cast<size_t>(std::bit_width(most)) + 7) / 8);
  }
  uint8_t First(NumberCoding coding) const {
    return static_cast<uint8_t>(static_cast<int>(coding) |
                                static_cast<int>(transform) << 4);
  }
};

void PackNumbers(const Candidate& from, Buffer* out) {
  ByteWriter writer(out);
  writer.Le(from.First(NumberCoding::kPacked));
  writer.Varint(from.least);
  writer.Le(static_cast<uint8_t>(from.PackedWidth()));
  entropy::BitWriter packer(out);
  for (const uint64_t number : from.numbers) {
    packer.Put(number - from.least, from.PackedWidth());
  }
  packer.Finish();
}

/// Magnitudes, and their low bits packed.
std::pair<Buffer, Buffer> SplitMagnitudes(std::span<const uint64_t> numbers) {
  Buffer magnitudes(numbers.size());
  Buffer low;
  entropy::BitWriter packer(&low);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint8_t magnitude = MagnitudeOf(numbers[i]);
    magnitudes.data()[i] = magnitude;
    packer.Put(numbers[i] - LeastOf(magnitude), LowBits(magnitude));
  }
  packer.Finish();
  return {std::move(magnitudes), std::move(low)};
}

void RansNumbers(const Candidate& from, Buffer* out) {
  ByteWriter(out).Le(from.First(NumberCoding::kRans));
  const auto [magnitudes, low] = SplitMagnitudes(from.numbers);
  const entropy::ClassFrequencies frequencies = {
      entropy::NormalizeBytes(from.magnitudes)};
  entropy::WriteClassFrequencies(frequencies, out);
  const std::vector<uint8_t> classes(from.numbers.size());
  Buffer scratch;
  entropy::EncodeClassRans(entropy::ClassEncodeTables(frequencies),
                           magnitudes.data(), classes.data(),
                           from.numbers.size(), &scratch, out);
  out->Append(low.span());
}

void ZstdNumbers(const Candidate& from, bool planes,
                 const EncodeContext& context, Buffer* out) {
  const size_t width = from.Width();
  const size_t count = from.numbers.size();
  Buffer bytes(width * count);
  const size_t byte_step = planes ? count : 1;
  const size_t number_step = planes ? 1 : width;
  for (size_t k = 0; k < width; ++k) {
    for (size_t i = 0; i < count; ++i) {
      bytes.data()[k * byte_step + i * number_step] =
          static_cast<uint8_t>(from.numbers[i] >> (8 * k));
    }
  }
  ByteWriter writer(out);
  writer.Le(
      from.First(planes ? NumberCoding::kZstdPlanes : NumberCoding::kZstd));
  writer.Le(static_cast<uint8_t>(width));
  EncodeBytes(bytes.span(), context, out);
}

/// Numbers below 2^32 that are equal where the numbers are, mostly.
std::vector<uint32_t> IdsOf(std::span<const uint64_t> numbers) {
  std::vector<uint32_t> ids(numbers.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<uint32_t>((numbers[i] * 0x9E3779B97F4A7C15u) >> 32);
  }
  return ids;
}

/// By context mixing, the first `count` of them; false if that takes `room`.
bool MixNumbers(const Candidate& from, NumberCoding coding, size_t count,
                size_t room, const EncodeContext& context, Buffer* out) {
  const size_t start = out->size();
  ByteWriter writer(out);
  writer.Le(from.First(coding));
  const auto numbers = std::span(from.numbers).first(count);
  MixBesides besides;
  bool fits;
  if (coding == NumberCoding::kMixBytes) {
    const size_t width = from.Width();
    writer.Le(static_cast<uint8_t>(width));
    ChooseBesides(IdsOf(numbers), context, &besides, out);
    MixRecords records{.count = count, .width = static_cast<uint32_t>(width)};
    besides.Set(&records);
    Buffer bytes(width * count);
    uint8_t* next = bytes.data();
    for (const uint64_t number : numbers) {
      for (size_t k = width; k-- > 0;) {
        *next++ = static_cast<uint8_t>(number >> (8 * k));
      }
    }
    fits = EncodeMix(records, bytes.span(), room, out);
  } else {
    ChooseBesides(IdsOf(numbers), context, &besides, out);
    MixRecords records{.count = count, .width = 1};
    besides.Set(&records);
    const auto [magnitudes, low] = SplitMagnitudes(numbers);
    fits = EncodeMix(records, magnitudes.span(), room, out);
    out->Append(low.span());
  }
  if (!fits || out->size() - start >= room) {
    out->Resize(start);
    return false;
  }
  return true;
}

/// A way to code numbers, and what it takes.
struct Choice {
  const Candidate* from = nullptr;
  NumberCoding coding{};
  uint64_t cost = UINT64_MAX;

  void Offer(const Candidate& candidate, NumberCoding how, uint64_t bytes) {
    if (bytes < cost) *this = {&candidate, how, bytes};
  }
};

void EncodeAs(const Choice& choice, const EncodeContext& context, Buffer* out) {
  switch (choice.coding) {
    case NumberCoding::kPacked:
      return PackNumbers(*choice.from, out);
    case NumberCoding::kRans:
      return RansNumbers(*choice.from, out);
    default:
      return ZstdNumbers(*choice.from,
                         choice.coding == NumberCoding::kZstdPlanes, context,
                         out);
  }
}

/// The best coding without mixing.
Choice ChooseFast(std::span<const Candidate> candidates,
                  const EncodeContext& context) {
  Choice best;
  const size_t count = candidates[0].numbers.size();
  for (const Candidate& candidate : candidates) {
    best.Offer(candidate, NumberCoding::kPacked, candidate.PackedCost());
    if (count >= kLeastForRans) {
      best.Offer(candidate, NumberCoding::kRans, candidate.RansCost());
    }
  }
  EncodeContext hasty = context;
  hasty.is_trial = true;
  Buffer coded;
  for (const Candidate& candidate : candidates) {
    for (const auto how : {NumberCoding::kZstd, NumberCoding::kZstdPlanes}) {
      const bool planes = how == NumberCoding::kZstdPlanes;
      if (planes && candidate.Width() == 1) break;
      coded.Clear();
      ZstdNumbers(candidate, planes, hasty, &coded);
      best.Offer(candidate, how, coded.size());
    }
  }
  return best;
}

/// Bytes that mixed numbers may take at most to be worth their time, where
/// others take `usual`: mixing `count` bytes takes about as many microseconds.
size_t RoomForMix(size_t usual, size_t count) {
  const size_t gain = usual / 32 + count / kLeastGain;
  return usual > gain ? usual - gain : 0;
}

/// Replaces `*best` by mixed numbers where these are smaller.
void TryMix(std::span<const Candidate> candidates, const EncodeContext& context,
            Buffer* best) {
  const size_t count = candidates[0].numbers.size();
  if (RoomForMix(best->size(), count) == 0) return;
  const size_t trial = count > 2 * kMixTrial ? kMixTrial : count;
  // A model that has learnt more is better than one in a trial.
  const size_t usual = best->size() * trial / count;
  size_t least =
      trial == count ? RoomForMix(usual, count) : usual + usual / 16 + 16;
  Choice choice;
  Buffer coded;
  const auto offer = [&](const Candidate& candidate, NumberCoding how) {
    coded.Clear();
    if (!MixNumbers(candidate, how, trial, least, context, &coded)) return;
    choice = {&candidate, how, coded.size()};
    least = coded.size();
    if (trial == count) *best = std::move(coded);
  };
  if (candidates[0].Width() <= 3) {
    offer(candidates[0], NumberCoding::kMixBytes);
  }
  const Candidate& last = candidates.back();
  // Below 16 both are the same.
  if (last.most >= 16 || candidates.size() > 1) {
    offer(last, NumberCoding::kMixMagnitudes);
  }
  if (choice.from == nullptr || trial == count) return;
  coded.Clear();
  const size_t room = RoomForMix(best->size(), count);
  if (MixNumbers(*choice.from, choice.coding, count, room, context, &coded)) {
    *best = std::move(coded);
  }
}

}  // namespace

size_t QuickSize(std::span<const uint64_t> numbers,
                 const EncodeContext& context) {
  EncodeContext hasty = context;
  hasty.is_trial = true;
  hasty.level = std::min(context.level, kMixLevel - 1);
  Buffer coded;
  EncodeNumbers(numbers, hasty, &coded);
  return coded.size();
}

void EncodeNumbers(std::span<const uint64_t> numbers,
                   const EncodeContext& context, Buffer* out) {
  if (numbers.empty()) return;
  std::vector<Candidate> candidates;
  candidates.reserve(3);
  for (const NumberTransform transform :
       {NumberTransform::kNone, NumberTransform::kDelta,
        NumberTransform::kDeltaDelta}) {
    candidates.emplace_back(numbers, transform);
    const Candidate& candidate = candidates.back();
    if (candidate.least != candidate.most) continue;
    ByteWriter writer(out);
    writer.Le(candidate.First(NumberCoding::kEqual));
    writer.Varint(candidate.least);
    return;
  }
  // Differences are tried where they are promising, the better ones alone.
  const auto cost = [&](size_t i) {
    return std::min(candidates[i].RansCost(), candidates[i].PackedCost());
  };
  candidates.erase(candidates.begin() + (cost(1) <= cost(2) ? 2 : 1));
  if (cost(1) > cost(0) + cost(0) / 8) candidates.pop_back();
  Buffer best;
  EncodeAs(ChooseFast(candidates, context), context, &best);
  if (context.level >= kMixLevel) TryMix(candidates, context, &best);
  out->Append(best.span());
}

}  // namespace zipllm::codecs::columns
