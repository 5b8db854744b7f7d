// The profile "log" of text_cm: lines that are alike, as those of logs and
// tables. Six matches say which byte comes next: the longest, a short one, two
// that are aligned with earlier lines token by token, two numbers that go on.
// Where they are nearly certain, one decision codes the byte; only what is hard
// is mixed bit by bit, from contexts of columns, tokens and templates. Format:
// format-spec/codecs/22-text_cm-log.md.
#ifndef ZIPLLM_CODECS_TEXT_CM_LOG_H_
#define ZIPLLM_CODECS_TEXT_CM_LOG_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codecs/text/cm_strong.h"

namespace zipllm::codecs::cm {

/// How large the tables of the profile log are.
struct LogSizes {
  int line_bits;       ///< binary logarithm of cache lines of histories
  int index_bits;      ///< of each of two indices of positions
  uint32_t text_size;  ///< bytes that the model can read
};

/// Memory that a LogModel needs, in bytes.
uint64_t LogBytes(const LogSizes& sizes);

namespace log_shape {

inline constexpr size_t kContexts = 16;
inline constexpr size_t kCounted = 4;  ///< contexts with counts, not histories
inline constexpr size_t kRefs = 4;     ///< matches that are places in the text
inline constexpr size_t kNumbers = 2;  ///< matches that are numbers
inline constexpr size_t kMatches = kRefs + kNumbers;
/// Two of each context, three of each match, the flag, a constant.
inline constexpr size_t kUsed = 2 * (kContexts + kCounted) + 3 * kMatches + 2;
inline constexpr size_t kInputs = 64;
static_assert(kUsed <= kInputs);

inline constexpr std::array<uint32_t, 3> kSets = {3 * 256, 5 * 9 * 8, 256 * 8};
inline constexpr size_t kSelectors = kSets.size();
inline constexpr uint32_t kAllSets = kSets[0] + kSets[1] + kSets[2];
inline constexpr uint32_t kFinalSets = 4 * 5 * 8;
inline constexpr size_t kFinalInputs = 8;

inline constexpr int kCountedBits = 16;  ///< lines of each counted context
inline constexpr int kPlaceBits = 16;    ///< lines' beginnings, by hash
inline constexpr int kNumberBits = 12;
inline constexpr int kFieldBits = 14;  ///< how well matches do, by column
inline constexpr uint32_t kMatchStates = 1024;
inline constexpr uint32_t kMargin = 64;

inline constexpr size_t kFlagContexts = 6;
inline constexpr size_t kFlagInputs = 16;
inline constexpr int kFlagBits = 14;
inline constexpr uint32_t kFlagSets = 4096;
inline constexpr int kFlagRefinedBits = 12;
/// From this probability on a byte, or half of it, is asked for at once.
inline constexpr uint32_t kSure = 63000;

}  // namespace log_shape

inline namespace ZIPLLM_CM_TARGET {

/// Whether something that is expected comes: mixed from what came of it before
/// in some contexts, and other inputs.
struct LogFlag {
  MapEntry* maps;  ///< kFlagContexts << kFlagBits
  int32_t* sets;   ///< kFlagSets of kFlagInputs
  Refiner refiner;
  /// Of contexts, then the caller's; unused ones stay 0.
  alignas(64) std::array<int32_t, log_shape::kFlagInputs> inputs{};
  std::array<MapEntry*, log_shape::kFlagContexts> entries;
  int32_t* set;
  int x;  ///< stretched
  uint32_t mixed;
  uint16_t* refined;

  template <typename Visitor>
  void VisitArrays(Visitor& visit) {
    using namespace log_shape;
    visit(maps, kFlagContexts << kFlagBits);
    visit(sets, kFlagSets * kFlagInputs);
    visit(refiner.points, Refiner::kPoints << kFlagRefinedBits);
  }
  void Init() {
    using namespace log_shape;
    inputs[kFlagInputs - 1] = 256;
    std::fill_n(maps, kFlagContexts << kFlagBits, MakeMapEntry(49152, 0));
    std::fill_n(sets, size_t{kFlagSets} * kFlagInputs, 6000);
    Refiner::Init(refiner.points, size_t{1} << kFlagRefinedBits);
  }
  /// The probability that it comes. `chosen`: a set.
  uint32_t Predict(const std::array<uint32_t, log_shape::kFlagContexts>& hashes,
                   uint32_t chosen, uint32_t refined_by) {
    using namespace log_shape;
    for (size_t i = 0; i < kFlagContexts; ++i) {
      entries[i] = maps + (i << kFlagBits | hashes[i] >> (32 - kFlagBits));
      inputs[i] = kTables.stretch[*entries[i] >> 20];
    }
    set = sets + size_t{chosen} * kFlagInputs;
    x = std::clamp((MixDot(inputs.data(), set, kFlagInputs) + 128) >> 8,
                   -kStretchMax, kStretchMax);
    mixed = Squash(x);
    const size_t place = refined_by >> (32 - kFlagRefinedBits);
    return (mixed + refiner.Predict(x, place, &refined) + 1) >> 1;
  }
  void Update(bool came) {
    const int32_t error = (came ? 65536 : 0) - static_cast<int32_t>(mixed);
    MixTrain(inputs.data(), set, log_shape::kFlagInputs, error * 60 >> 10);
    for (MapEntry* entry : entries) UpdateMap(*entry, came, 255);
    Refiner::Update(refined, came, 6);
  }
};

/// Codes the bytes of a text. A copy has the same memory.
class LogModel {
 public:
  /// `memory` has LogBytes(sizes) zeros, is 64-byte aligned and outlives the
  /// model.
  LogModel(uint8_t* memory, const LogSizes& sizes) : LogModel(sizes) {
    using namespace log_shape;
    Carver carve(memory);
    VisitArrays(carve);
    text_ += kMargin;

    refiners_.Init();
    byte_flag_.Init();
    half_flag_.Init();
    InitHistoryMaps(maps_, kContexts);
    for (uint32_t i = 0; i < 3 * kMatches * kMatchStates; ++i) {
      match_maps_[i] = HeldEntry(i % 32);
    }
    std::fill_n(field_maps_, kMatches << kFieldBits, MakeMapEntry(49152, 0));
    for (size_t i = 0; i < kAllSets * kInputs; ++i) {
      weights_[i] = i % kInputs < kUsed ? 3000 : 0;
    }
    std::fill_n(final_weights_, kFinalSets * kFinalInputs,
                65536 / static_cast<int32_t>(kSelectors));
  }

  static uint64_t Bytes(const LogSizes& sizes) {
    LogModel model(sizes);
    Carver carve(nullptr);
    model.VisitArrays(carve);
    return carve.at();
  }
  /// After memory was moved between two bytes, with this in it.
  void Relocate(const Relocation& moved) { VisitArrays(moved); }

  /// Codes the next byte, `byte` where the coder is an encoder's; `coder` has
  /// bool Code(bool bit, uint32_t p), which returns the bit that is coded.
  template <typename Coder>
  uint8_t Code(Coder& coder, uint8_t byte) {
    using namespace log_shape;
    ChooseExpected();
    denied_ = 0;
    if (best_ == 0) {
      byte = CodeHard(coder, byte);
    } else {
      const uint32_t p = PredictByte();
      const auto expected = static_cast<uint8_t>(best_);
      if (p <= kSure) {
        byte = CodeHard(coder, byte);
      } else if (coder.Code(byte == expected, p)) {
        byte = expected;
      } else {
        denied_ = best_;
        byte = CodeHard(coder, byte);
      }
      byte_flag_.Update(byte == expected);
    }
    for (size_t k = 0; k < kMatches; ++k) {
      if (expected_[k] == 0) continue;
      const bool came = (expected_[k] & 255) == byte;
      UpdateMap(*match_entries_[k], came, 255);
      UpdateMap(*field_entries_[k], came, 255);
      misses_[k] = misses_[k] << 1 | !came;
    }
    Read(byte);
    return byte;
  }

  /// Takes the next byte into the text, without learning to code it.
  void Read(uint8_t byte) {
    const uint32_t c = byte;
    text_[position_++] = byte;
    before4_ = before4_ << 8 | last4_ >> 24;
    last4_ = last4_ << 8 | c;
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           c == '_' || c >= 128;
    const bool is_digit = c >= '0' && c <= '9';
    if (is_letter) {
      words_[0] = Hash(words_[0], c >= 'A' && c <= 'Z' ? c + 32 : c) + 1;
    } else if (words_[0] != 0) {
      words_ = {0, words_[0]};
    }
    FollowLongest(c);
    if (is_letter || is_digit) {
      ReadInToken(c, is_digit);
      FollowAligned(c);
    } else {
      EndToken(c);
      BeginToken(c);
    }
    FindExpected();
  }

 private:
  /// A place in the text that may come again.
  struct Ref {
    uint32_t at = 0;      ///< of the next byte; 0: none
    uint32_t length = 0;  ///< bytes that came again
  };
  /// The last number under a key.
  struct Number {
    uint64_t value;
    uint64_t step;    ///< to it from the one before, modulo 2^64
    uint32_t digits;  ///< 0: there was none
    uint32_t is_padded;
  };
  explicit LogModel(const LogSizes& sizes) : sizes_(sizes) {
    table_.bits = sizes.line_bits;
  }
  template <typename Visitor>
  void VisitArrays(Visitor& visit) {
    using namespace log_shape;
    visit(table_.lines, kLineBytes << sizes_.line_bits);
    for (auto& index : index_) visit(index, uint64_t{1} << sizes_.index_bits);
    for (auto& places : places_) visit(places, size_t{1} << kPlaceBits);
    visit(numbers_, kNumbers << kNumberBits);
    visit(counted_, kCounted << (kCountedBits + 4));
    visit(weights_, kAllSets * kInputs);
    visit(final_weights_, kFinalSets * kFinalInputs);
    refiners_.VisitArrays(visit);
    visit(maps_, kContexts * 256);
    visit(match_maps_, 3 * kMatches * kMatchStates);
    visit(field_maps_, kMatches << kFieldBits);
    byte_flag_.VisitArrays(visit);
    half_flag_.VisitArrays(visit);
    visit(text_, uint64_t{kMargin} + sizes_.text_size + kMargin);
  }

  static constexpr uint32_t kMaxDigits = 18;
  static constexpr uint32_t kMaxLength = 400;

  static bool IsWord(uint32_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || c >= 128;
  }
  static uint32_t CountOnes(uint32_t x) {
    return static_cast<uint32_t>(__builtin_popcount(x));
  }
  static uint32_t Bucket(uint32_t length) {
    return length < 8    ? length
           : length < 16 ? 8 + (length - 8) / 2
           : length < 32 ? 12 + (length - 16) / 4
           : length < 512
               ? 16 + (length >= 64) + (length >= 128) + (length >= 256)
               : 20;
  }

  // What comes next, and how sure that is.

  /// How far each match can be trusted, and the one that can most.
  void ChooseExpected() {
    using namespace log_shape;
    best_ = 0;
    uint32_t most = 0;
    for (size_t k = 0; k < kMatches; ++k) {
      if (expected_[k] == 0) continue;
      match_states_[k] = Bucket(lengths_[k]) | (misses_[k] & 7) << 5 |
                         std::min(CountOnes(misses_[k] & 0xFFF8), 3u) << 8;
      const uint32_t field =
          Hash(column_, std::min(lengths_[k], 3u) * 4 + (misses_[k] & 3) +
                            (token_length_ << 4));
      match_entries_[k] = match_maps_ + k * kMatchStates + match_states_[k];
      field_entries_[k] =
          field_maps_ + (k << kFieldBits | field >> (32 - kFieldBits));
      const uint32_t sum =
          (*match_entries_[k] >> 10) + (*field_entries_[k] >> 10);
      if (sum > most) {
        most = sum;
        best_ = expected_[k];
        best_length_ = Bucket(lengths_[k]);
      }
    }
  }

  uint32_t PredictByte() {
    using namespace log_shape;
    uint32_t votes = 0;
    for (size_t k = 0; k < kMatches; ++k) {
      int32_t& x = byte_flag_.inputs[kFlagContexts + k];
      x = 0;
      if (expected_[k] == 0) continue;
      const int sure = kTables.stretch[*match_entries_[k] >> 20] +
                       kTables.stretch[*field_entries_[k] >> 20];
      const bool agrees = expected_[k] == best_;
      votes |= (agrees ? 1u : 64u) << k;
      x = agrees ? sure : -std::max(sure, 0);
    }
    const uint32_t e = best_ & 255;
    return byte_flag_.Predict(
        {Hash(votes, Bucket(lengths_[0])), Hash(column_, e),
         Hash(last4_ & 0xFFFF, e | votes << 8),
         Hash(template_, e | token_length_ << 8), Hash(last4_, e),
         Hash(token_, Hash(column_, e))},
        votes, Hash(column_, best_length_ | token_length_ << 8));
  }

  /// Whether the byte's first half is that of the best match, or the one that
  /// came here last.
  uint32_t PredictHalf() {
    half_at_ = Hash(column_, token_length_ | kind_ << 8) >> 20;
    const uint32_t last = halves_[half_at_];
    half_ = best_ != 0 ? best_ >> 4 & 15 : last;
    const uint32_t state = half_ | (best_ == 0) << 4 | (denied_ != 0) << 5 |
                           uint32_t{half_ == last} << 6;
    return half_flag_.Predict(
        {Hash(column_, token_length_ << 8 | state),
         Hash(token_, Hash(column_, state)), Hash(last4_ & 0xFFFF, state),
         Hash(state, 7), Hash(template_, kind_ << 8 | state),
         Hash(compared_, state | best_ << 8)},
        state, Hash(column_, state | token_length_ << 8));
  }

  // Bytes that are coded bit by bit.

  template <typename Coder>
  uint8_t CodeHard(Coder& coder, uint8_t byte) {
    BeginHard();
    const uint32_t p = PredictHalf();
    if (p > log_shape::kSure && coder.Code(byte >> 4 == half_, p)) {
      path_ = 16 | half_;
    } else {
      BeginNibble();
      for (int i = 7; i >= 4; --i) CodeBit(coder, byte >> i & 1);
    }
    half_flag_.Update((path_ & 15) == half_);
    halves_[half_at_] = path_ & 15;
    bits_ = 4;
    BeginNibble();
    for (int i = 3; i >= 0; --i) CodeBit(coder, byte >> i & 1);
    return static_cast<uint8_t>(path_);
  }
  template <typename Coder>
  void CodeBit(Coder& coder, bool bit) {
    bit = coder.Code(bit, Predict());
    Update(bit);
    path_ = path_ << 1 | bit;
    node_ = node_ << 1 | bit;
    ++bits_;
  }

  void BeginHard() {
    using namespace log_shape;
    size_t i = 0;
    const auto add = [&](uint32_t a, uint32_t b, uint32_t c) {
      hashes_[i] = Hash(Hash(a, b), c + static_cast<uint32_t>(i) * 0x10001);
      ++i;
    };
    const uint32_t c1 = last4_ & 255;
    const uint32_t aligned =
        refs_[2].at == 0
            ? 0
            : text_[refs_[2].at] | uint32_t{text_[refs_[2].at + 1]} << 8;
    add(last4_ & 0xFFFF, 0, 0);
    add(last4_ & 0xFFFFFF, 0, 0);
    add(last4_, 0, 0);
    add(last4_, before4_ & 0xFFFF, 0);
    add(words_[0], words_[1], c1);
    add(template_, token_, 0);
    add(column_, token_, 0);
    add(column_, aligned, compared_);
    add(column_, expected_[4] | expected_[5] << 9, compared_);
    add(values_[0], token_, column_);
    add(values_[0], values_[1], token_);
    add(id_, token_, column_);
    add(above_, token_, column_);
    add(expected_[0] | expected_[2] << 9 | expected_[3] << 18, 0, 0);
    add(line_template_, template_, token_);
    add(follower_, token_, column_);
    counted_hashes_ = {Hash(column_, token_length_), Hash(c1, 5),
                       Hash(column_ + 77, compared_ | (aligned & 0xFF) << 16),
                       Hash(template_, token_length_ | c1 << 8)};
    refiners_.base = {c1 << 8, Hash(last4_ & 0xFFFF, 1) >> 8,
                      Hash(column_, token_length_) >> 8};
    rate_ = 200 + static_cast<int32_t>(2000 * 16 / (16 + (hard_++ >> 10)));
    path_ = 1;
    bits_ = 0;
  }

  void BeginNibble() {
    using namespace log_shape;
    node_ = 1;
    std::array<uint32_t, kContexts> hashes;
    for (size_t i = 0; i < kContexts; ++i) {
      hashes[i] = Hash(hashes_[i], path_);
      table_.Prefetch(hashes[i]);
    }
    for (size_t i = 0; i < kCounted; ++i) {
      const size_t line =
          Hash(counted_hashes_[i], path_) >> (32 - kCountedBits);
      counted_lines_[i] = counted_ + ((i << kCountedBits | line) << 4);
      __builtin_prefetch(counted_lines_[i], 1);
    }
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i] =
          FindSlot(table_.Line(hashes[i]), static_cast<uint8_t>(hashes[i]));
    }
  }

  /// The probability of a one, 1 to 65535.
  uint32_t Predict() {
    using namespace log_shape;
    refiners_.Prefetch(path_);
    for (size_t i = 0; i < kContexts; ++i) states_[i] = slots_[i][node_];
    PredictHistories();
    int32_t* x = inputs_.data() + 2 * kContexts;
    for (const MapEntry* line : counted_lines_) {
      const MapEntry entry = line[node_] ^ kNothingCounted;
      x[0] = kTables.stretch[entry >> 20];
      x[1] = MapCount(entry) < 4
                 ? 0
                 : (static_cast<int32_t>(entry >> 16) - 32768) >> 4;
      x += 2;
    }
    const uint32_t shift = 8 - bits_;
    std::array<uint32_t, kMatches> votes{};
    for (size_t k = 0; k < kMatches; ++k, x += 3) {
      x[0] = x[1] = x[2] = 0;
      bit_entries_[k] = nullptr;
      const uint32_t e = expected_[k];
      if (e == 0 || e >> shift != path_ || e == denied_) continue;
      const bool one = e >> (shift - 1) & 1;
      votes[k] = 1 + one;
      bit_entries_[k] =
          match_entries_[k] + (bits_ == 0 ? 1 : 2) * kMatches * kMatchStates;
      const MapEntry entry = *bit_entries_[k];
      const int32_t sign = one ? 1 : -1;
      x[0] = sign * kTables.stretch[entry >> 20];
      x[1] = sign * ((static_cast<int32_t>(entry >> 16) - 32768) >> 5);
      x[2] = sign * kTables.stretch[*field_entries_[k] >> 20];
    }
    x[0] = 0;
    x[1] = 256;
    uint32_t flag = 0;
    if (best_ != 0 && best_ >> shift == path_) {
      const bool one = best_ >> (shift - 1) & 1;
      flag = (denied_ == 0 ? 1 : 3) + one;
      if (denied_ == 0) x[0] = one ? byte_flag_.x : -byte_flag_.x;
    }
    auto& chosen = sets_.chosen;
    chosen[0] = weights_ + size_t{votes[0] << 8 | path_} * kInputs;
    chosen[1] =
        weights_ +
        size_t{kSets[0] + ((flag * 3 + votes[0]) * 3 + votes[2]) * 8 + bits_} *
            kInputs;
    chosen[2] = weights_ + size_t{kSets[0] + kSets[1] +
                                  (Hash(column_, 7) >> 24 << 3 | bits_)} *
                               kInputs;
    sets_.Predict(inputs_.data());
    final_set_ =
        final_weights_ + size_t{(kind_ * 5 + flag) * 8 + bits_} * kFinalInputs;
    const int mix = sets_.Mix(final_set_, kStretchMax);
    final_p_ = Squash(mix);
    return refiners_.Predict(final_p_, mix);
  }

  void Update(bool bit) {
    using namespace log_shape;
    sets_.Update(inputs_.data(), bit, rate_);
    sets_.UpdateMix(final_set_, final_p_, bit);
    refiners_.Update(bit);
    MoveHistoryMaps(maps_, states_.data(), entries_.data(), kContexts, bit);
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i][node_] = kHistories.next[states_[i]][bit];
    }
    for (MapEntry* line : counted_lines_) {
      MapEntry entry = line[node_] ^ kNothingCounted;
      UpdateMap(entry, bit, 400);
      line[node_] = entry ^ kNothingCounted;
    }
    const uint32_t shift = 7 - bits_;
    for (size_t k = 0; k < kMatches; ++k) {
      if (bit_entries_[k] == nullptr) continue;
      UpdateMap(*bit_entries_[k], (expected_[k] >> shift & 1) == bit, 255);
    }
  }

#if defined(__AVX512VBMI2__)
  static __m512i StretchAll(__m512i p12) {
    const __m512i two = _mm512_i32gather_epi32(p12, kTables.stretch.data(), 2);
    return _mm512_srai_epi32(_mm512_slli_epi32(two, 16), 16);
  }
#endif
  void PredictHistories() {
    using namespace log_shape;
    int32_t* x = inputs_.data();
#if defined(__AVX512VBMI2__)
    static_assert(kContexts == 16);
    const __m512i s = _mm512_load_si512(states_.data());
    const __mmask16 known = _mm512_test_epi32_mask(s, s);
    const __m512i entry = _mm512_i32gather_epi32(
        _mm512_or_si512(s, _mm512_slli_epi32(Lanes(), 8)), maps_, 4);
    _mm512_store_si512(entries_.data(), entry);
    const __m512i st =
        _mm512_maskz_mov_epi32(known, StretchAll(_mm512_srli_epi32(entry, 20)));
    const __m512i linear =
        _mm512_maskz_srai_epi32(known,
                                _mm512_sub_epi32(_mm512_srli_epi32(entry, 16),
                                                 _mm512_set1_epi32(32768)),
                                5);
    const __m512i certain =
        _mm512_i32gather_epi32(s, kHistories.certain.data(), 4);
    _mm512_store_si512(x, st);
    _mm512_store_si512(
        x + 16, _mm512_mask_mov_epi32(
                    linear, _mm512_test_epi32_mask(certain, certain), st));
#else
    for (size_t i = 0; i < kContexts; ++i) {
      const uint32_t s = states_[i];
      const MapEntry entry = maps_[i << 8 | s];
      entries_[i] = entry;
      const int32_t st = s == 0 ? 0 : kTables.stretch[entry >> 20];
      const int32_t linear =
          s == 0 ? 0 : (static_cast<int32_t>(entry >> 16) - 32768) >> 5;
      x[i] = st;
      x[kContexts + i] = kHistories.certain[s] != 0 ? st : linear;
    }
#endif
  }
  // The text.

  void ReadInToken(uint32_t c, bool is_digit) {
    using namespace log_shape;
    if (token_length_ == 0) first_of_token_ = c;
    token_ = Hash(token_, c + 1);
    ++token_length_;
    if (is_digit) {
      has_digit_ = true;
      number_ = number_ * 10 + (c - '0');
    } else {
      is_number_ = false;
      name_ = Hash(name_, c);
    }
    // How the token compares to the aligned one, as far as it goes.
    const uint32_t other = expected_[2] & 255;
    switch (order_) {
      case 0:
        order_ = c == other       ? 0
                 : c == other + 1 ? 1
                 : c + 1 == other ? 2
                 : c > other      ? 3
                                  : 4;
        break;
      case 1:
      case 2:
        order_ += 4;
        break;
      case 5:
      case 6:
        order_ = 7;
        break;
      default:
        break;
    }
    for (size_t k = 0; k < kNumbers; ++k) {
      std::array<uint8_t, 20>& digits = foreseen_[k];
      if (token_length_ > foreseen_digits_[k] ||
          digits[token_length_ - 1] != c) {
        foreseen_digits_[k] = 0;
      }
    }
    kind_ = !is_digit ? 3 : is_number_ ? 1 : 2;
    compared_ =
        order_ | std::min(token_length_, 15u) << 3 | uint32_t{is_number_} << 7;
  }

  /// After a byte that belongs to no token.
  void EndToken(uint32_t c) {
    using namespace log_shape;
    if (token_length_ > 0) {
      if (is_number_ && token_length_ <= kMaxDigits) {
        for (const size_t at : number_at_) {
          Number& number = numbers_[at];
          number = {.value = number_,
                    .step = number.digits == 0 ? 0 : number_ - number.value,
                    .digits = token_length_,
                    .is_padded = first_of_token_ == '0' && token_length_ > 1};
        }
      }
      values_ = {token_, values_[0]};
      if (has_digit_ && token_length_ >= 4) id_ = token_;
      template_ = Hash(template_, has_digit_ ? 12345u : name_);
    }
    template_ = Hash(template_, c);
    if (c == '\n') {
      line_template_ = template_;
      template_ = 0;
      id_ = 0;
      separators_ = {};
    } else {
      const size_t level = c == '\t'                          ? 0
                           : c == ',' || c == ';' || c == '|' ? 1
                           : c == ' '                         ? 2
                                                              : 3;
      ++separators_[level];
      for (size_t i = level + 1; i < separators_.size(); ++i) {
        separators_[i] = 0;
      }
    }
    column_ = Hash(separators_[0] + (separators_[1] << 8) +
                       (std::min(separators_[2], 15u) << 16) +
                       (std::min(separators_[3], 15u) << 24),
                   c);
    token_ = 0;
    token_length_ = 0;
    has_digit_ = false;
    is_number_ = true;
    name_ = 0;
    number_ = 0;
    order_ = 0;
    kind_ = 0;
    compared_ = 128;
  }

  /// Finds what stands where the next token will.
  void BeginToken(uint32_t c) {
    using namespace log_shape;
    const auto place = [&](size_t table, uint32_t key) -> uint32_t& {
      return places_[table][key >> (32 - kPlaceBits)];
    };
    uint32_t& in_column = place(2, column_);
    const std::array<uint32_t*, 2> noted = {
        &place(0, Hash(template_, column_)),
        &place(1, Hash(id_, template_ + 5))};
    for (size_t j = 0; j < 2; ++j) {
      Ref& ref = refs_[2 + j];
      const bool came = ref.at != 0 && text_[ref.at] == c;
      uint32_t at = *noted[j];
      if (at != 0 && text_[at - 1] != c) at = 0;
      if (at == 0 && j == 0) at = in_column;
      if (at == 0 && came) at = ref.at + 1;
      ref.length = came && at != 0 ? ref.length + 1 : 0;
      ref.at = at;
      *noted[j] = position_;
    }
    above_ = 0;
    if (in_column != 0) {
      const uint32_t end = std::min(in_column + 24, position_);
      for (uint32_t i = in_column; i < end && IsWord(text_[i]); ++i) {
        above_ = Hash(above_, text_[i] + 1u);
      }
    }
    in_column = position_;
    // What came after the number that stood here.
    follower_ = 0;
    const Ref& like = refs_[0].length != 0 ? refs_[0] : refs_[3];
    if (like.at != 0) {
      uint32_t at = like.at;
      const uint32_t limit = std::min(at + 24, position_);
      while (at < limit && text_[at] >= '0' && text_[at] <= '9') ++at;
      const uint32_t end = std::min(at + 8, position_);
      while (at < end) {
        follower_ = Hash(follower_, text_[at] + 1u);
        if (text_[at++] == '\n') break;
      }
    }
    Foresee(0, template_);
    Foresee(1, template_ + Hash(follower_, 3));
  }

  /// The number that follows by steps from those before under `key`.
  void Foresee(size_t k, uint32_t key) {
    using namespace log_shape;
    number_at_[k] = k << kNumberBits | Hash(key, 99) >> (32 - kNumberBits);
    foreseen_digits_[k] = 0;
    const Number& number = numbers_[number_at_[k]];
    uint64_t value = number.value + number.step;
    if (number.digits == 0 || value > INT64_MAX) return;
    std::array<uint8_t, 20> reversed;
    uint32_t count = 0;
    do {
      reversed[count++] = static_cast<uint8_t>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    if (number.is_padded != 0) {
      while (count < number.digits) reversed[count++] = '0';
    }
    for (uint32_t i = 0; i < count; ++i) {
      foreseen_[k][i] = reversed[count - 1 - i];
    }
    foreseen_digits_[k] = count;
  }

  /// The longest match, and one of at least 7 bytes.
  void FollowLongest(uint32_t c) {
    constexpr std::array<uint32_t, 2> kMin = {20, 7};
    for (size_t k = 0; k < 2; ++k) {
      Ref& ref = refs_[k];
      if (ref.length > 0) {
        if (text_[ref.at] == c) {
          ++ref.at;
          ++ref.length;
        } else {
          ref = {};
        }
      }
      if (position_ < kMin[k]) continue;
      uint32_t& noted = index_[k][HashLast(k) >> (32 - sizes_.index_bits)];
      if (ref.length == 0 && noted != 0) {
        uint32_t length = 0;
        while (length < kMaxLength && length < noted &&
               text_[noted - 1 - length] == text_[position_ - 1 - length]) {
          ++length;
        }
        if (length >= kMin[k]) ref = {.at = noted, .length = length};
      }
      noted = position_;
    }
  }
  /// Of the last 20 or 7 bytes.
  uint32_t HashLast(size_t k) const {
    if (k == 1) return Hash(last4_, (before4_ & 0xFFFFFF) + 7);
    const auto four = [&](uint32_t back) {
      const uint8_t* at = text_ + position_ - back;
      return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 |
             uint32_t{at[2]} << 8 | at[3];
    };
    const uint32_t far = Hash(Hash(four(20), four(16)), four(12));
    return Hash(Hash(far, before4_), last4_);
  }

  /// In a token, aligned matches go on even if a byte differs, and wait where
  /// theirs ends.
  void FollowAligned(uint32_t c) {
    for (size_t j = 2; j < 4; ++j) {
      Ref& ref = refs_[j];
      if (ref.at == 0) continue;
      ref.length = text_[ref.at] == c ? ref.length + 1 : 0;
      if (IsWord(text_[ref.at])) ++ref.at;
    }
  }

  void FindExpected() {
    using namespace log_shape;
    for (size_t k = 0; k < kRefs; ++k) {
      const Ref& ref = refs_[k];
      expected_[k] =
          ref.at != 0 && ref.at < position_ ? 256u | text_[ref.at] : 0;
      lengths_[k] = ref.length;
    }
    for (size_t k = 0; k < kNumbers; ++k) {
      const uint32_t digits = foreseen_digits_[k];
      const bool is = token_length_ < digits;
      expected_[kRefs + k] = is ? 256u | foreseen_[k][token_length_] : 0;
      lengths_[kRefs + k] =
          std::min(digits, 7u) | (token_length_ != 0 ? 8u : 0u);
    }
  }

  /// Counted entries are kept as what differs from this, so that zeros are it.
  static constexpr MapEntry kNothingCounted = uint32_t{1} << 31;

  LogSizes sizes_;
  SlotTable table_;
  std::array<uint32_t*, 2> index_;
  std::array<uint32_t*, 3> places_;
  Number* numbers_;
  MapEntry* counted_;
  int32_t* weights_;
  int32_t* final_weights_;
  Refiners refiners_;
  MapEntry* maps_;
  MapEntry* match_maps_;
  MapEntry* field_maps_;
  uint8_t* text_;
  LogFlag byte_flag_;
  LogFlag half_flag_;
  std::array<uint8_t, 4096>
      halves_{};  ///< first halves of bytes that came last

  // Where the model is.
  uint32_t position_ = 0;
  uint32_t last4_ = 0;
  uint32_t before4_ = 0;
  std::array<uint32_t, 2> words_{};
  uint32_t template_ = 0;  ///< hash of the line so far, numbers as such
  uint32_t line_template_ = 0;
  std::array<uint32_t, 4> separators_{};  ///< by kind, since a higher one
  uint32_t column_ = 0;
  uint32_t token_ = 0;
  uint32_t token_length_ = 0;
  uint32_t name_ = 0;  ///< hash of the token's letters
  uint32_t first_of_token_ = 0;
  bool has_digit_ = false;
  bool is_number_ = true;
  uint64_t number_ = 0;
  uint32_t order_ = 0;
  uint32_t compared_ = 0;
  uint32_t kind_ = 0;
  std::array<uint32_t, 2> values_{};
  uint32_t id_ = 0;
  uint32_t above_ = 0;
  uint32_t follower_ = 0;
  std::array<Ref, log_shape::kRefs> refs_{};
  std::array<size_t, log_shape::kNumbers> number_at_{
      0, size_t{1} << log_shape::kNumberBits};
  std::array<std::array<uint8_t, 20>, log_shape::kNumbers> foreseen_;
  std::array<uint32_t, log_shape::kNumbers> foreseen_digits_{};
  /// 256 and the byte; 0: none.
  std::array<uint32_t, log_shape::kMatches> expected_{};
  std::array<uint32_t, log_shape::kMatches> lengths_{};
  std::array<uint32_t, log_shape::kMatches> misses_{};

  // Of the byte.
  std::array<uint32_t, log_shape::kMatches> match_states_;
  std::array<MapEntry*, log_shape::kMatches> match_entries_;
  std::array<MapEntry*, log_shape::kMatches> field_entries_;
  uint32_t best_ = 0;
  uint32_t best_length_ = 0;
  uint32_t denied_ = 0;  ///< what was asked for and does not come
  uint32_t half_ = 0;
  size_t half_at_ = 0;
  uint32_t hard_ = 0;
  int32_t rate_ = 0;
  alignas(64) std::array<uint32_t, log_shape::kContexts> hashes_;
  std::array<uint32_t, log_shape::kCounted> counted_hashes_;

  // Of the bit.
  uint32_t path_ = 1;
  uint32_t bits_ = 0;
  uint32_t node_ = 1;
  std::array<uint8_t*, log_shape::kContexts> slots_;
  std::array<MapEntry*, log_shape::kCounted> counted_lines_;
  alignas(64) std::array<uint32_t, log_shape::kContexts> states_;
  alignas(64) std::array<MapEntry, log_shape::kContexts> entries_;
  alignas(64) std::array<int32_t, log_shape::kInputs> inputs_{};
  std::array<MapEntry*, log_shape::kMatches> bit_entries_;
  SelectedSets<log_shape::kInputs, log_shape::kSelectors,
               log_shape::kFinalInputs>
      sets_;
  int32_t* final_set_;
  uint32_t final_p_;
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_LOG_H_
