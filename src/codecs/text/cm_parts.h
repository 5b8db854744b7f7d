// Parts of context mixing (Mahoney 2005, "Adaptive weighing of context models
// for lossless data compression"; Mattern 2016, "On statistical data
// compression"): bit histories in hashed cache lines, adaptive maps, gated
// logistic mixing, refining maps (APM/SSE), a model of long matches. Integers
// throughout, so that every machine predicts alike.
//
// A probability is that of a one, of 65536. Its stretched form is
// ln(p / (1 - p)) in 1/256: the domain where models add up.
//
// What depends on the target lies in an inline namespace named after it: a
// model is compiled once for each (name_decode.cc, _avx2.cc, _avx512.cc) and
// never mixes code of two. Parts do not allocate: their arrays are given.
#ifndef ZIPLLM_CODECS_TEXT_CM_PARTS_H_
#define ZIPLLM_CODECS_TEXT_CM_PARTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#if defined(__AVX2__)
// False alarms of gcc 12 on the headers of intrinsics (gcc bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#if defined(__AVX512VBMI2__)
#define ZIPLLM_CM_TARGET avx512
#elif defined(__AVX2__)
#define ZIPLLM_CM_TARGET avx2
#else
#define ZIPLLM_CM_TARGET scalar
#endif

namespace zipllm::codecs::cm {

inline constexpr int kStretchMax = 3071;

struct Tables {
  /// 65536 / (1 + exp(-x / 256)), rounded, 1 to 65535; at index x + 3072.
  std::array<uint16_t, 6144> squash;
  /// By p / 16: the least x for which squash[x + 3072] >= p / 16 * 16 + 8.
  std::array<int16_t, 4096> stretch;
  /// By n: 65536 / (n + 1.5), rounded down: the step of a map entry that has
  /// seen n bits.
  std::array<int32_t, 1024> step;
};
extern const Tables kTables;

/// Who waits for a block to be coded: Scratch::Advance without its types.
struct Follower {
  static constexpr size_t kPeriod = size_t{1} << 14;  ///< bytes between calls
  bool (*advance)(const void* who, size_t bytes) = nullptr;  ///< null: nobody
  const void* who = nullptr;
  bool Advance(size_t bytes) const {
    return advance == nullptr || advance(who, bytes);
  }
};

/// What a model does to blocks, compiled for one target; the same bytes for
/// each. Plain pointers: nothing of what such a file compiles may be shared
/// with others. The model stands at the beginning of `memory`, primed; its
/// tables follow, kStateBytes behind. It codes one block.
struct BlockCoder {
  /// Writes the coded form of `plain` where there is `room`; its size, or 0
  /// where it does not fit.
  size_t (*encode)(uint8_t* memory, const uint8_t* plain, size_t size,
                   uint8_t* coded, size_t room, const Follower& follower);
  /// False where `coded` is not as long as what encode writes.
  bool (*decode)(uint8_t* memory, const uint8_t* coded, size_t coded_size,
                 uint8_t* plain, size_t size, const Follower& follower);
  /// Makes a copy of the memory of a model that was primed at `from` a model of
  /// its own.
  void (*relocate)(uint8_t* memory, const uint8_t* from);
};
inline constexpr size_t kStateBytes = size_t{1} << 16;

/// What a context remembers of the bits that it saw, in a byte: how many of
/// both kinds, about, and which came last. State 0 has seen none; states are in
/// ascending order of what they know.
struct Histories {
  /// By state and bit.
  std::array<std::array<uint8_t, 2>, 256> next;
  /// The probability of a one, as a first guess.
  std::array<uint16_t, 256> p;
  /// Zeros and ones seen.
  std::array<std::array<uint8_t, 2>, 256> counts;
  /// -1 where these are of one kind and not none, else 0.
  std::array<int32_t, 256> certain;
};
extern const Histories kHistories;

inline namespace ZIPLLM_CM_TARGET {

/// `x` clamped to the stretched range, as a probability of 1 to 65535.
inline uint32_t Squash(int x) {
  x = x > kStretchMax ? kStretchMax : x;
  x = x < -kStretchMax ? -kStretchMax : x;
  return kTables.squash[static_cast<size_t>(x + kStretchMax + 1)];
}
/// -2128 to 2128 or so: ends where `p` / 16 does.
inline int Stretch(uint32_t p) { return kTables.stretch[p >> 4]; }

/// A good mix of the bits of `x`: multiplied by an odd constant.
inline uint32_t Hash(uint32_t a, uint32_t b) {
  uint32_t h = a * 0x2F0B4C47 + b * 0x9E3779B1;
  h ^= h >> 15;
  return h * 0x85EBCA6B;
}

/// Averages over the bits that followed each context, up to a limit, from where
/// on old ones count less and less: 22 bits of probability, 10 of count.
using MapEntry = uint32_t;
inline MapEntry MakeMapEntry(uint32_t p, uint32_t count) {
  return p << 16 | count;
}
inline uint32_t MapP(MapEntry entry) { return entry >> 16; }
inline uint32_t MapCount(MapEntry entry) { return entry & 1023; }
/// Of what held each time that it was asked for, `n` times.
inline MapEntry HeldEntry(uint32_t n) {
  return MakeMapEntry(65535 - 32768 / (n + 2), 0);
}
/// `limit` is at most 1023.
inline void UpdateMap(MapEntry& entry, bool bit, uint32_t limit) {
  const uint32_t n = entry & 1023;
  const int32_t p = static_cast<int32_t>(entry >> 10);
  const int32_t target = bit ? (1 << 22) - 1 : 0;
  const auto moved = static_cast<uint32_t>(
      p + ((int64_t{target - p} * kTables.step[n]) >> 16));
  entry = moved << 10 | (n < limit ? n + 1 : n);
}

/// An average over the bits that followed a context in which old ones count
/// less and less: a probability of 2^32. Moves by 1/2^rate of the error.
inline void UpdateAverage(uint32_t& p, bool bit, int rate) {
  const uint32_t flip = bit ? ~uint32_t{0} : 0;
  // For a one, the distance to the top is what is left of ~p.
  const uint32_t step = (p ^ flip) >> rate;
  p += (step ^ ~flip) - ~flip;
}

/// Bit histories of the nodes of one nibble under one context: byte 0 is a
/// check, byte 1 + node's path (1, then the bits) - 1 the node's state.
inline constexpr size_t kSlotBytes = 16;
inline constexpr size_t kLineBytes = 64;

/// The slot of `check` among the four of a 64-byte aligned cache line: the
/// first that has it, or else the one whose first state is least (the first of
/// equal ones), cleared. Without branches: whether it is there cannot be
/// foretold.
inline uint8_t* FindSlot(uint8_t* line, uint8_t check) {
#if defined(__AVX512VBMI2__)
  const uint64_t equal =
      _mm512_cmpeq_epi8_mask(_mm512_load_si512(line),
                             _mm512_set1_epi8(static_cast<char>(check))) &
      0x0001000100010001;
#elif defined(__AVX2__)
  const __m256i checks = _mm256_set1_epi8(static_cast<char>(check));
  const auto* halves = reinterpret_cast<const __m256i*>(line);
  const auto low = static_cast<uint32_t>(_mm256_movemask_epi8(
      _mm256_cmpeq_epi8(_mm256_load_si256(halves), checks)));
  const auto high = static_cast<uint32_t>(_mm256_movemask_epi8(
      _mm256_cmpeq_epi8(_mm256_load_si256(halves + 1), checks)));
  const uint64_t equal = (uint64_t{high} << 32 | low) & 0x0001000100010001;
#else
  const uint64_t equal =
      uint64_t{line[0] == check} | uint64_t{line[16] == check} << 16 |
      uint64_t{line[32] == check} << 32 | uint64_t{line[48] == check} << 48;
#endif
  const uint32_t a = uint32_t{line[1]} << 8;
  const uint32_t b = uint32_t{line[17]} << 8 | 16;
  const uint32_t c = uint32_t{line[33]} << 8 | 32;
  const uint32_t d = uint32_t{line[49]} << 8 | 48;
  const uint32_t ab = a < b ? a : b;
  const uint32_t cd = c < d ? c : d;
  const size_t least = (ab < cd ? ab : cd) & 255;
  const size_t found = static_cast<size_t>(__builtin_ctzll(equal | 1ull << 63));
  uint8_t* slot = line + (equal != 0 ? found : least);
  uint64_t halves_of_slot[2];
  std::memcpy(halves_of_slot, slot, kSlotBytes);
  const uint64_t keep = equal != 0 ? ~uint64_t{0} : 0;
  halves_of_slot[0] = (halves_of_slot[0] & keep & ~uint64_t{255}) | check;
  halves_of_slot[1] &= keep;
  std::memcpy(slot, halves_of_slot, kSlotBytes);
  return slot;
}

/// Hashed cache lines, 2^bits of them, 64-byte aligned, zeros at first. A line
/// is chosen by the top bits of a hash, a slot in it by a check: contexts that
/// differ in the check alone share a line, so that it can be fetched before
/// they are told apart.
struct SlotTable {
  uint8_t* lines;
  int bits;

  uint8_t* Line(uint32_t hash) const {
    return lines + (size_t{hash} >> (32 - bits)) * kLineBytes;
  }
  void Prefetch(uint32_t hash) const { __builtin_prefetch(Line(hash), 1); }
};

/// Sum of (x[i] * w[i]) >> 8, modulo 2^32. `count` is a multiple of 8; arrays
/// are aligned to 32 bytes, or to 64 where it is one of 16.
inline int32_t MixDot(const int32_t* x, const int32_t* w, int count) {
#if defined(__AVX2__)
  int i = 0;
  __m256i sum = _mm256_setzero_si256();
#if defined(__AVX512VBMI2__)
  if (count % 16 == 0) {
    __m512i wide = _mm512_setzero_si512();
    for (; i < count; i += 16) {
      const __m512i product = _mm512_mullo_epi32(_mm512_load_si512(x + i),
                                                 _mm512_load_si512(w + i));
      wide = _mm512_add_epi32(wide, _mm512_srai_epi32(product, 8));
    }
    sum = _mm256_add_epi32(_mm512_castsi512_si256(wide),
                           _mm512_extracti64x4_epi64(wide, 1));
  }
#endif
  for (; i < count; i += 8) {
    const __m256i product = _mm256_mullo_epi32(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(x + i)),
        _mm256_load_si256(reinterpret_cast<const __m256i*>(w + i)));
    sum = _mm256_add_epi32(sum, _mm256_srai_epi32(product, 8));
  }
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum),
                               _mm256_extracti128_si256(sum, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
#else
  uint32_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const uint32_t product =
        static_cast<uint32_t>(x[i]) * static_cast<uint32_t>(w[i]);
    sum += static_cast<uint32_t>(static_cast<int32_t>(product) >> 8);
  }
  return static_cast<int32_t>(sum);
#endif
}

/// w[i] += (x[i] * error + 2^15) >> 16, modulo 2^32. As for MixDot.
inline void MixTrain(const int32_t* x, int32_t* w, int count, int32_t error) {
#if defined(__AVX2__)
  int i = 0;
#if defined(__AVX512VBMI2__)
  if (count % 16 == 0) {
    const __m512i wide_error = _mm512_set1_epi32(error);
    const __m512i wide_half = _mm512_set1_epi32(1 << 15);
    for (; i < count; i += 16) {
      const __m512i product =
          _mm512_mullo_epi32(_mm512_load_si512(x + i), wide_error);
      const __m512i step =
          _mm512_srai_epi32(_mm512_add_epi32(product, wide_half), 16);
      _mm512_store_si512(w + i,
                         _mm512_add_epi32(_mm512_load_si512(w + i), step));
    }
  }
#endif
  const __m256i e = _mm256_set1_epi32(error);
  const __m256i half = _mm256_set1_epi32(1 << 15);
  for (; i < count; i += 8) {
    auto* at = reinterpret_cast<__m256i*>(w + i);
    const __m256i product = _mm256_mullo_epi32(
        _mm256_load_si256(reinterpret_cast<const __m256i*>(x + i)), e);
    const __m256i step = _mm256_srai_epi32(_mm256_add_epi32(product, half), 16);
    _mm256_store_si256(at, _mm256_add_epi32(_mm256_load_si256(at), step));
  }
#else
  for (int i = 0; i < count; ++i) {
    const uint32_t product =
        static_cast<uint32_t>(x[i]) * static_cast<uint32_t>(error) + (1 << 15);
    w[i] = static_cast<int32_t>(
        static_cast<uint32_t>(w[i]) +
        static_cast<uint32_t>(static_cast<int32_t>(product) >> 16));
  }
#endif
}

/// The inputs of a network of mixers and what Update needs: belongs to a
/// cursor. `kInputs` is a multiple of 8; unused ones stay 0.
template <int kInputs, int kSelectors>
struct Mixing {
  alignas(64) std::array<int32_t, kInputs> inputs;  ///< stretched
  std::array<int32_t*, kSelectors> weights;
  std::array<int32_t, kSelectors> outputs;  ///< stretched
  std::array<uint32_t, kSelectors> p;
  int32_t* final_weights;
  uint32_t final_p;
};

/// Two layers of gated logistic mixing: each selector chooses one of its sets
/// of weights; a last set mixes what these say.
template <int kInputs, int kSelectors>
struct MixerNetwork {
  /// By selector: its sets, kInputs weights each, 65536 is 1.
  std::array<int32_t*, kSelectors> sets;
  /// kSelectors weights a set.
  int32_t* final_sets;

  using State = Mixing<kInputs, kSelectors>;

  /// The stretched mix of `state.inputs`.
  int Predict(State& state, const std::array<uint32_t, kSelectors>& chosen,
              uint32_t final_chosen) const {
    state.final_weights = final_sets + size_t{final_chosen} * kSelectors;
    int64_t sum = 0;
    for (size_t s = 0; s < kSelectors; ++s) {
      state.weights[s] = sets[s] + size_t{chosen[s]} * kInputs;
      const auto dot = static_cast<uint32_t>(
          MixDot(state.inputs.data(), state.weights[s], kInputs));
      int mix = static_cast<int32_t>(dot + 128) >> 8;
      mix = mix > kStretchMax ? kStretchMax : mix;
      mix = mix < -kStretchMax ? -kStretchMax : mix;
      state.outputs[s] = mix;
      state.p[s] = Squash(mix);
      sum += int64_t{mix} * state.final_weights[s];
    }
    auto mix = static_cast<int>((sum + 32768) >> 16);
    mix = mix > kStretchMax ? kStretchMax : mix;
    mix = mix < -kStretchMax ? -kStretchMax : mix;
    state.final_p = Squash(mix);
    return mix;
  }

  /// Moves the weights just used towards what would have predicted `bit`;
  /// rates of 256 are fast, of 2 slow.
  void Update(State& state, bool bit, int rate, int final_rate) const {
    const int32_t one = bit ? 65536 : 0;
    for (size_t s = 0; s < kSelectors; ++s) {
      const int32_t error = one - static_cast<int32_t>(state.p[s]);
      MixTrain(state.inputs.data(), state.weights[s], kInputs,
               (error * rate) >> 8);
    }
    const int32_t error = one - static_cast<int32_t>(state.final_p);
    for (size_t s = 0; s < kSelectors; ++s) {
      const int step =
          (state.outputs[s] * ((error * final_rate) >> 8) + (1 << 15)) >> 16;
      // Wraps, as the others do.
      state.final_weights[s] =
          static_cast<int32_t>(static_cast<uint32_t>(state.final_weights[s]) +
                               static_cast<uint32_t>(step));
    }
  }
};

/// Refines a prediction by what came true under a context where it was nearly
/// the same (Mahoney's APM, or secondary symbol estimation): 32 points a
/// context, a cache line, between which it is linear.
struct Refiner {
  static constexpr size_t kPoints = 32;
  static constexpr int kEnd = 1984;  ///< stretched; points are 128 apart
  uint16_t* points;                  ///< 64-byte aligned

  /// Points of `contexts` contexts as if nothing were to refine.
  static void Init(uint16_t* points, size_t contexts) {
    for (size_t i = 0; i < kPoints; ++i) {
      points[i] =
          static_cast<uint16_t>(Squash(static_cast<int>(i) * 128 - kEnd));
    }
    for (size_t i = 1; i < contexts; ++i) {
      std::memcpy(points + i * kPoints, points, kPoints * sizeof(*points));
    }
  }
  void Prefetch(size_t context) const {
    __builtin_prefetch(points + context * kPoints, 1);
  }
  /// The refined probability, 1 to 65535, of what is stretched to `x`; sets
  /// `*near` to what Update moves.
  uint32_t Predict(int x, size_t context, uint16_t** near) const {
    x = x > kEnd - 1 ? kEnd - 1 : x;
    x = x < -kEnd ? -kEnd : x;
    const auto place = static_cast<uint32_t>(x + kEnd);
    const uint32_t weight = place & 127;
    uint16_t* low = points + context * kPoints + (place >> 7);
    *near = low + (weight >> 6);
    return (low[0] * (128 - weight) + low[1] * weight) >> 7;
  }
  static void Update(uint16_t* near, bool bit, int rate) {
    const int target = bit ? 65535 : 1;
    *near = static_cast<uint16_t>(*near + ((target - *near) >> rate));
  }
};

/// Predicts the byte that followed where the last bytes stood before. A
/// cursor's; positions are indices into an arena of bytes that may hold other
/// streams' too.
struct Match {
  uint32_t at = 0;      ///< of the predicted byte; 0: none
  uint32_t length = 0;  ///< bytes that agreed
  uint32_t byte = 0;    ///< 256 + the predicted byte; 0: none
};

/// Positions by hash of the bytes before them.
struct MatchIndex {
  static constexpr uint32_t kMaxLength = 65535;
  uint32_t* positions;
  int bits;

  /// Entry of `hash`, but the last bit of the byte before the position, which
  /// its index ends with: so that it can be fetched before that bit is known.
  uint32_t* Pair(uint32_t hash) const {
    return positions + (hash >> (32 - bits) & ~uint32_t{1});
  }
  /// After the byte before `position` became known: follows the match or looks
  /// for one of at least `min_length` bytes at `*noted`, and notes the
  /// position there. The arena has 32 bytes before its first position.
  void Advance(Match& match, const uint8_t* arena, uint32_t position,
               uint32_t* noted, uint32_t min_length) const {
    const bool follows =
        match.length > 0 && arena[match.at] == arena[position - 1];
    if (follows) {
      ++match.at;
      match.length += match.length < kMaxLength;
    } else {
      match.at = *noted;
      match.length = 0;
      if (*noted != 0) {
        const uint32_t length = CommonEnd(arena + *noted, arena + position);
        match.length = length < min_length ? 0 : length;
      }
    }
    *noted = position;
    match.byte = match.length > 0 ? 256u | arena[match.at] : 0;
  }

 private:
  /// How many bytes before `a` and `b` agree, up to 32.
  static uint32_t CommonEnd(const uint8_t* a, const uint8_t* b) {
    uint32_t length = 0;
    for (; length < 32; length += 8) {
      uint64_t x = 0;
      uint64_t y = 0;
      std::memcpy(&x, a - length - 8, 8);
      std::memcpy(&y, b - length - 8, 8);
      if (x != y) {
        return length + static_cast<uint32_t>(__builtin_clzll(x ^ y)) / 8;
      }
    }
    return length;
  }
};

/// The coder of entropy/binary_coder.h, bit for bit, into memory of a fixed
/// size; written again, since code of a target is not shared.
class BitEncoder {
 public:
  BitEncoder(uint8_t* out, uint8_t* end) : out_(out), end_(end) {}

  /// `bit` is 1 with probability `p` of 65536, 1 to 65535. Returns `bit`.
  bool Code(bool bit, uint32_t p) {
    const uint32_t split =
        low_ + static_cast<uint32_t>((uint64_t{high_ - low_} * p) >> 16);
    low_ = bit ? low_ : split + 1;
    high_ = bit ? split : high_;
    while (((low_ ^ high_) >> 24) == 0) {
      Put(static_cast<uint8_t>(high_ >> 24));
      low_ <<= 8;
      high_ = high_ << 8 | 255;
    }
    return bit;
  }
  /// Ends the code: returns where it ends, or null where it did not fit.
  uint8_t* Finish() {
    Put(static_cast<uint8_t>((low_ >> 24) + 1));
    return is_full_ ? nullptr : out_;
  }
  bool is_full() const { return is_full_; }

 private:
  void Put(uint8_t byte) {
    is_full_ |= out_ == end_;
    if (!is_full_) *out_++ = byte;
  }

  uint8_t* out_;
  uint8_t* end_;
  bool is_full_ = false;
  uint32_t low_ = 0;
  uint32_t high_ = UINT32_MAX;
};

/// Reads what BitEncoder wrote; zeros past the end.
class BitDecoder {
 public:
  BitDecoder(const uint8_t* data, size_t size) : data_(data), size_(size) {
    for (int i = 0; i < 4; ++i) code_ = code_ << 8 | Next();
  }

  /// The first argument is there so that models call encoder and decoder alike.
  bool Code(bool, uint32_t p) {
    const uint32_t split =
        low_ + static_cast<uint32_t>((uint64_t{high_ - low_} * p) >> 16);
    const bool bit = code_ <= split;
    low_ = bit ? low_ : split + 1;
    high_ = bit ? split : high_;
    while (((low_ ^ high_) >> 24) == 0) {
      low_ <<= 8;
      high_ = high_ << 8 | 255;
      code_ = code_ << 8 | Next();
    }
    return bit;
  }
  /// Whether the code is as long as an encoder of the same bits makes it.
  bool IsAtEnd() const { return next_ == size_ + 3; }
  /// Whether an encoder would have made a longer one.
  bool IsPastEnd() const { return next_ > size_ + 3; }

 private:
  uint32_t Next() {
    const size_t i = next_++;
    return i < size_ ? data_[i] : 0;
  }

  const uint8_t* data_;
  size_t size_;
  size_t next_ = 0;
  uint32_t code_ = 0;
  uint32_t low_ = 0;
  uint32_t high_ = UINT32_MAX;
};

/// Codes with these and learns.
struct Learner {
  static bool Code(bool bit, uint32_t) { return bit; }
};

/// Codes the byte that comes next in `model`, `byte` where the coder is no
/// decoder. A model has Predict() and Update(bit), or else its own way: Code.
template <typename Model, typename Coder>
uint8_t CodeByte(Model& model, Coder& coder, uint8_t byte) {
  if constexpr (requires { model.Code(coder, byte); }) {
    return model.Code(coder, byte);
  } else {
    uint32_t coded = 0;
    for (int k = 7; k >= 0; --k) {
      const bool bit = coder.Code(byte >> k & 1, model.Predict());
      model.Update(bit);
      coded = coded << 1 | uint32_t{bit};
    }
    return static_cast<uint8_t>(coded);
  }
}

/// Lets `model` learn from `text`.
template <typename Model>
void LearnAll(Model& model, const uint8_t* text, size_t size) {
  Learner learner;
  for (size_t i = 0; i < size; ++i) CodeByte(model, learner, text[i]);
}

/// Writes `plain` coded by `model` where there is `room`; its size, or 0 where
/// it does not fit or nobody wants it any more.
template <typename Model>
size_t EncodeAll(Model& model, const uint8_t* plain, size_t size,
                 uint8_t* coded, size_t room, const Follower& follower) {
  BitEncoder coder(coded, coded + room);
  for (size_t i = 0; i < size && !coder.is_full(); ++i) {
    if (i % Follower::kPeriod == Follower::kPeriod - 1 &&
        !follower.Advance(Follower::kPeriod)) {
      return 0;
    }
    CodeByte(model, coder, plain[i]);
  }
  const uint8_t* end = coder.Finish();
  return end == nullptr ? 0 : static_cast<size_t>(end - coded);
}

/// False where `coded` is not what EncodeAll writes, or nobody wants it.
template <typename Model>
bool DecodeAll(Model& model, const uint8_t* coded, size_t coded_size,
               uint8_t* plain, size_t size, const Follower& follower) {
  BitDecoder coder(coded, coded_size);
  for (size_t i = 0; i < size; ++i) {
    if (i % Follower::kPeriod == Follower::kPeriod - 1 &&
        (coder.IsPastEnd() || !follower.Advance(Follower::kPeriod))) {
      return false;
    }
    plain[i] = CodeByte(model, coder, 0);
  }
  return coder.IsAtEnd();
}

// A model shows the arrays of its memory by VisitArrays(visit), which calls
// visit(pointer, count) for each in order; so they are listed once, for their
// places, their size and for moving them.

/// Places arrays in memory from `memory` on, each at the beginning of a cache
/// line; from null on to see what they take.
class Carver {
 public:
  explicit Carver(const uint8_t* memory)
      : at_(reinterpret_cast<uintptr_t>(memory)) {}
  template <typename T>
  void operator()(T*& array, uint64_t count) {
    array = reinterpret_cast<T*>(static_cast<uintptr_t>(at_));
    at_ += (count * sizeof(T) + kLineBytes - 1) / kLineBytes * kLineBytes;
  }
  /// Where the last array ends.
  uint64_t at() const { return at_; }

 private:
  uint64_t at_;
};

/// Moves pointers into memory along with it.
class Relocation {
 public:
  Relocation(const uint8_t* from, const uint8_t* to)
      : by_(reinterpret_cast<uintptr_t>(to) -
            reinterpret_cast<uintptr_t>(from)) {}
  template <typename T>
  void operator()(T*& pointer, uint64_t /*count*/ = 0) const {
    pointer = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pointer) + by_);
  }
  template <typename T, size_t kSize>
  void operator()(std::array<T*, kSize>& pointers) const {
    for (T*& pointer : pointers) (*this)(pointer);
  }

 private:
  uintptr_t by_;  ///< modulo its size
};

template <typename State>
State& StateAt(uint8_t* memory) {
  return *std::launder(reinterpret_cast<State*>(memory));
}

/// Of a State that has Encode, Decode and Relocate.
template <typename State>
constexpr BlockCoder MakeBlockCoder() {
  static_assert(std::is_trivially_copyable_v<State> &&
                std::is_trivially_destructible_v<State> &&
                sizeof(State) <= kStateBytes);
  return {.encode =
              [](uint8_t* memory, const uint8_t* plain, size_t size,
                 uint8_t* coded, size_t room, const Follower& follower) {
                return StateAt<State>(memory).Encode(plain, size, coded, room,
                                                     follower);
              },
          .decode =
              [](uint8_t* memory, const uint8_t* coded, size_t coded_size,
                 uint8_t* plain, size_t size, const Follower& follower) {
                return StateAt<State>(memory).Decode(coded, coded_size, plain,
                                                     size, follower);
              },
          .relocate =
              [](uint8_t* memory, const uint8_t* from) {
                StateAt<State>(memory).Relocate(Relocation(from, memory));
              }};
}

/// What stands in memory of a model that has Relocate and what CodeByte needs.
template <typename Model>
struct ModelState {
  Model model;

  size_t Encode(const uint8_t* plain, size_t size, uint8_t* coded, size_t room,
                const Follower& follower) {
    return EncodeAll(model, plain, size, coded, room, follower);
  }
  bool Decode(const uint8_t* coded, size_t coded_size, uint8_t* plain,
              size_t size, const Follower& follower) {
    return DecodeAll(model, coded, coded_size, plain, size, follower);
  }
  void Relocate(const Relocation& moved) { model.Relocate(moved); }
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_PARTS_H_
