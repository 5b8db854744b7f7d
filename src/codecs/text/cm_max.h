// The profile "max" of text_cm: 32 contexts with bit histories and runs, three
// models of matches, some 140 inputs mixed by eight selected sets of weights
// and two more on top, three refining maps. After Mahoney's paq8 ("Data
// Compression Explained", 2013) in its outline. Format:
// format-spec/codecs/22-text_cm-max.md.
#ifndef ZIPLLM_CODECS_TEXT_CM_MAX_H_
#define ZIPLLM_CODECS_TEXT_CM_MAX_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "codecs/text/cm_strong.h"

namespace zipllm::codecs::cm {

/// How large the tables of the profile max are.
struct MaxSizes {
  uint32_t lines;      ///< cache lines of histories, at least 1
  int index_bits;      ///< of each of two indices of positions
  uint32_t text_size;  ///< bytes that the model can read
};

/// Memory that a MaxModel needs, in bytes.
uint64_t MaxBytes(const MaxSizes& sizes);

/// Inputs from outside that a MaxModel mixes with its own.
inline constexpr size_t kMaxExtraInputs = 16;

namespace max_shape {

inline constexpr size_t kContexts = 32;
/// Four of each context, three of each match, orders 0 to 2, a constant.
inline constexpr size_t kExtraBegin = 4 * kContexts + 3 * 3 + 4;
inline constexpr size_t kInputs = 160;
static_assert(kExtraBegin + kMaxExtraInputs <= kInputs);

inline constexpr std::array<uint32_t, 8> kSets = {
    3 * 256, 8 * 256, 8 * 256, 6 * 9 * 8 * 4,
    4 * 512, 8 * 64,  64 * 8,  16 * 3 * 8 * 2};
inline constexpr size_t kSelectors = kSets.size();
inline constexpr uint32_t kAllSets = [] {
  uint32_t sum = 0;
  for (uint32_t n : kSets) sum += n;
  return sum;
}();
inline constexpr uint32_t kFinalSets = 256 + 256;
inline constexpr size_t kFinalInputs = 16;
inline constexpr uint32_t kRunCounts = 64;
inline constexpr uint32_t kMargin = 64;
/// Of an input in a set that has learnt nothing; 65536 is 1.
inline constexpr int32_t kFirstWeight = 655;
/// The same of the first input from outside, which others then correct.
inline constexpr int32_t kFirstExtraWeight = 20000;

}  // namespace max_shape

inline namespace ZIPLLM_CM_TARGET {

/// Predicts the bits of a text, highest of a byte first. A copy has the same
/// memory.
class MaxModel {
 public:
  /// `memory` has MaxBytes(sizes) zeros, is 64-byte aligned and outlives the
  /// model.
  MaxModel(uint8_t* memory, const MaxSizes& sizes) : MaxModel(sizes) {
    using namespace max_shape;
    Carver carve(memory);
    VisitArrays(carve);
    text_ += kMargin;

    refiners_.Init();
    for (size_t i = 0; i < kAllSets * kInputs; ++i) {
      const size_t input = i % kInputs;
      weights_[i] = input < kExtraBegin - 1 ? kFirstWeight
                    : input == kExtraBegin  ? kFirstExtraWeight
                                            : 0;
    }
    std::fill_n(final_weights_, kFinalSets * kFinalInputs,
                65536 / static_cast<int32_t>(kSelectors));
    InitHistoryMaps(history_maps_, kContexts);
    for (uint32_t i = 0; i < kContexts * kRunCounts * 8; ++i) {
      run_maps_[i] = HeldEntry(i / 8 % kRunCounts);
    }
    for (uint32_t i = 0; i < 3 * 128; ++i) {
      match_maps_[i] = HeldEntry(i / 4 % 32);
    }
    for (uint32_t i = 0; i < 3 * 16 * 2048; ++i) {
      byte_maps_[i] = HeldEntry(i / 2048 % 16);
    }
    std::fill_n(order_maps_, 256 + 65536, MakeMapEntry(32768, 0));
    for (size_t i = 0; i < stretch_.size(); ++i) {
      stretch_[i] = kTables.stretch[i];
    }
    BeginByte();
  }

  static uint64_t Bytes(const MaxSizes& sizes) {
    MaxModel model(sizes);
    Carver carve(nullptr);
    model.VisitArrays(carve);
    return carve.at();
  }

  /// The probability of a one, of 65536: 1 to 65535. `extra`: stretched
  /// predictions of the same bit from elsewhere, -2047 to 2047, up to
  /// kMaxExtraInputs; each at its place, 0 where it knows nothing.
  uint32_t Predict(std::span<const int32_t> extra = {}) {
    using namespace max_shape;
    refiners_.Prefetch(path_);
    ReadStates();
    PredictMatches();
    ChooseSets(known_);
    PredictHistories();
    PredictRuns();
    for (size_t i = 0; i < extra.size(); ++i) {
      inputs_[kExtraBegin + i] = extra[i];
    }
    return Mix();
  }

  /// Learns the bit that was predicted.
  void Update(bool bit) {
    UpdateMixers(bit);
    UpdateMaps(bit);
    const uint32_t y = bit;
    path_ = path_ << 1 | y;
    ++bits_;
    switch (bits_) {
      case 2:
      case 5:
        FindSlots();
        break;
      case 8:
        EndByte(static_cast<uint8_t>(path_));
        break;
      default:
        node_ =
            bits_ == 1 || bits_ == 3 || bits_ == 6 ? 1 + y : 3 + (path_ & 3);
        break;
    }
  }

  /// After memory was moved between two bytes, with this in it.
  void Relocate(const Relocation& moved) {
    VisitArrays(moved);
    moved(slots_);
    moved(runs_);
  }

  /// What was read.
  const uint8_t* text() const { return text_; }
  uint32_t position() const { return position_; }

 private:
  static constexpr uint32_t kLongestLine = 1024;

  /// Slots of 7 histories each: of the bits 0 and 1, 2 to 4, or 5 to 7 of a
  /// byte. A slot of the first kind has 3 and, after them, the byte that came
  /// last and how often it came in a row.
  struct Line {
    std::array<uint16_t, 7> checks;
    std::array<std::array<uint8_t, 7>, 7> slots;
    uint8_t recent;  ///< the slots used last (low half) and before
  };
  static_assert(sizeof(Line) == 64);

  explicit MaxModel(const MaxSizes& sizes) : sizes_(sizes) {}
  template <typename Visitor>
  void VisitArrays(Visitor& visit) {
    using namespace max_shape;
    visit(lines_, sizes_.lines);
    for (auto& index : index_) visit(index, uint64_t{1} << sizes_.index_bits);
    visit(weights_, kAllSets * kInputs);
    visit(final_weights_, kFinalSets * kFinalInputs);
    refiners_.VisitArrays(visit);
    visit(history_maps_, kContexts * 256);
    visit(run_maps_, kContexts * kRunCounts * 8);
    visit(match_maps_, 3 * 128);
    visit(byte_maps_, 3 * 16 * 2048);
    visit(order_maps_, 256 + 65536);
    visit(followers1_, 256);
    visit(followers2_, 65536);
    visit(text_, uint64_t{kMargin} + sizes_.text_size + 8);
  }

#if defined(__AVX512VBMI2__)
  /// Of the entries of 16 runs, from that of context i on.
  __m512i RunsAt(size_t i) const {
    return _mm512_add_epi32(
        _mm512_slli_epi32(_mm512_load_si512(&run_counts_[i]), 3),
        _mm512_add_epi32(_mm512_slli_epi32(Lanes(), 9),
                         _mm512_set1_epi32(static_cast<int>(bits_))));
  }
#endif
  /// Runs that do not hold keep their entries.
  void MoveRuns(bool bit) {
    using namespace max_shape;
    const uint32_t shift = 8 - bits_;
    const uint32_t expected = path_ << 1 | uint32_t{bit};
#if defined(__AVX512VBMI2__)
    const __m128i by = _mm_cvtsi32_si128(static_cast<int>(shift));
    for (size_t i = 0; i < kContexts; i += 16) {
      const __m512i bytes = _mm512_load_si512(&run_bytes_[i]);
      const __mmask16 holds =
          _mm512_cmpeq_epi32_mask(_mm512_srl_epi32(bytes, by),
                                  _mm512_set1_epi32(static_cast<int>(path_)));
      const __mmask16 right = _mm512_cmpeq_epi32_mask(
          _mm512_srl_epi32(bytes,
                           _mm_cvtsi32_si128(static_cast<int>(shift) - 1)),
          _mm512_set1_epi32(static_cast<int>(expected)));
      const __m512i moved =
          Moved(_mm512_load_si512(&run_entries_[i]),
                _mm512_maskz_set1_epi32(right, kOneOfMap), 255);
      _mm512_mask_i32scatter_epi32(run_maps_ + i * kRunCounts * 8, holds,
                                   RunsAt(i), moved, 4);
    }
#else
    for (size_t i = 0; i < kContexts; ++i) {
      if (run_bytes_[i] >> shift != path_) continue;
      const bool right = run_bytes_[i] >> (shift - 1) == expected;
      run_maps_[i * (kRunCounts * 8) | run_counts_[i] << 3 | bits_] =
          Moved(run_entries_[i], right ? kOneOfMap : 0, 255);
    }
#endif
  }

  Line* LineOf(uint64_t hash) const {
    return lines_ + ((hash >> 32) * sizes_.lines >> 32);
  }
  static uint8_t* FindSlot7(Line& line, uint16_t check) {
    const size_t recent = line.recent & 15;
    if (line.checks[recent] == check) return line.slots[recent].data();
    size_t found = 7;
#if defined(__AVX2__)
    const auto equal = static_cast<uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi16(
        _mm_load_si128(reinterpret_cast<const __m128i*>(line.checks.data())),
        _mm_set1_epi16(static_cast<int16_t>(check)))));
    found = static_cast<size_t>(__builtin_ctz(equal | 1u << 14)) / 2;
#else
    for (size_t i = 7; i-- > 0;) {
      if (line.checks[i] == check) found = i;
    }
#endif
    if (found == 7) {
      const size_t before = line.recent >> 4;
      uint32_t least = 256;
      for (size_t i = 0; i < 7; ++i) {
        if (i == recent || i == before) continue;
        if (line.slots[i][0] < least) {
          least = line.slots[i][0];
          found = i;
        }
      }
      line.checks[found] = check;
      line.slots[found].fill(0);
    }
    line.recent = static_cast<uint8_t>(recent << 4 | found);
    return line.slots[found].data();
  }

  void FindSlots() {
    using namespace max_shape;
    std::array<uint64_t, kContexts> hashes;
    for (size_t i = 0; i < kContexts; ++i) {
      hashes[i] =
          (hashes_[i] + path_ * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93;
      __builtin_prefetch(LineOf(hashes[i]), 1);
    }
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i] =
          FindSlot7(*LineOf(hashes[i]), static_cast<uint16_t>(hashes[i] >> 16));
    }
    node_ = 0;
  }

  void ReadStates() {
    using namespace max_shape;
    for (size_t i = 0; i < kContexts; ++i) states_[i] = slots_[i][node_];
    known_ = 0;
    for (size_t i = 0; i < 7; ++i) known_ += states_[i] != 0;
  }

  void PredictHistories() {
    using namespace max_shape;
    int32_t* x = inputs_.data();
#if defined(__AVX512VBMI2__)
    for (size_t i = 0; i < kContexts; i += 16) {
      const __m512i s = _mm512_load_si512(&states_[i]);
      const __mmask16 known = _mm512_test_epi32_mask(s, s);
      const __m512i entry = _mm512_i32gather_epi32(
          _mm512_add_epi32(s, _mm512_slli_epi32(Lanes(), 8)),
          history_maps_ + 256 * i, 4);
      _mm512_store_si512(&history_entries_[i], entry);
      const __m512i st = _mm512_maskz_mov_epi32(
          known, _mm512_i32gather_epi32(_mm512_srli_epi32(entry, 20),
                                        stretch_.data(), 4));
      const __m512i linear =
          _mm512_srai_epi32(_mm512_sub_epi32(_mm512_srli_epi32(entry, 16),
                                             _mm512_set1_epi32(32768)),
                            5);
      const __m512i certain =
          _mm512_i32gather_epi32(s, kHistories.certain.data(), 4);
      _mm512_store_si512(x + i, st);
      _mm512_store_si512(x + kContexts + i,
                         _mm512_maskz_mov_epi32(known, linear));
      _mm512_store_si512(x + 2 * kContexts + i, _mm512_and_si512(st, certain));
    }
#else
    for (size_t i = 0; i < kContexts; ++i) {
      const uint32_t s = states_[i];
      const int32_t is_known = s != 0 ? -1 : 0;
      const MapEntry entry = history_maps_[i << 8 | s];
      history_entries_[i] = entry;
      const auto p = static_cast<int32_t>(entry >> 16);
      const int32_t st = stretch_[entry >> 20] & is_known;
      x[i] = st;
      x[kContexts + i] = ((p - 32768) >> 5) & is_known;
      x[2 * kContexts + i] = st & kHistories.certain[s];
    }
#endif
  }

  void PredictRuns() {
    using namespace max_shape;
    int32_t* x = inputs_.data() + 3 * kContexts;
    const uint32_t shift = 8 - bits_;
#if defined(__AVX512VBMI2__)
    const __m512i path = _mm512_set1_epi32(static_cast<int>(path_));
    for (size_t i = 0; i < kContexts; i += 16) {
      const __m512i bytes = _mm512_load_si512(&run_bytes_[i]);
      const __m512i entry =
          _mm512_i32gather_epi32(RunsAt(i), run_maps_ + i * kRunCounts * 8, 4);
      _mm512_store_si512(&run_entries_[i], entry);
      const __m512i st = _mm512_i32gather_epi32(_mm512_srli_epi32(entry, 20),
                                                stretch_.data(), 4);
      const __m512i top = _mm512_srl_epi32(
          bytes, _mm_cvtsi32_si128(static_cast<int>(shift) - 1));
      const __mmask16 one = _mm512_test_epi32_mask(top, _mm512_set1_epi32(1));
      const __mmask16 holds =
          _mm512_cmpeq_epi32_mask(_mm512_srli_epi32(top, 1), path);
      const __m512i zero = _mm512_setzero_si512();
      _mm512_store_si512(
          x + i, _mm512_maskz_mov_epi32(
                     holds, _mm512_mask_mov_epi32(_mm512_sub_epi32(zero, st),
                                                  one, st)));
    }
#else
    for (size_t i = 0; i < kContexts; ++i) {
      const MapEntry entry =
          run_maps_[i * (kRunCounts * 8) | run_counts_[i] << 3 | bits_];
      run_entries_[i] = entry;
      const int32_t st = stretch_[entry >> 20];
      const bool one = run_bytes_[i] >> (shift - 1) & 1;
      const bool holds = run_bytes_[i] >> shift == path_;
      x[i] = !holds ? 0 : one ? st : -st;
    }
#endif
  }

  void PredictMatches() {
    using namespace max_shape;
    int32_t* x = inputs_.data() + 4 * kContexts;
    const uint32_t shift = 8 - bits_;
    for (size_t k = 0; k < 3; ++k, x += 3) {
      expected_[k] = 0;
      x[0] = x[1] = x[2] = 0;
      if (match_bytes_[k] >> shift != path_) continue;
      const bool one = match_bytes_[k] >> (shift - 1) & 1;
      expected_[k] = 1 + one;
      match_at_[k] = static_cast<uint32_t>(k * 128) + match_state_[k];
      byte_at_[k] =
          static_cast<uint32_t>(k * 16 * 2048) +
          (match_level_[k] << 11 | (match_bytes_[k] & 255) << 3 | bits_);
      const auto p = static_cast<int32_t>(match_maps_[match_at_[k]] >> 16);
      const int st = stretch_[static_cast<size_t>(p >> 4)];
      const int lin = (p - 32768) >> 5;
      const int st2 = stretch_[byte_maps_[byte_at_[k]] >> 20];
      x[0] = one ? st : -st;
      x[1] = one ? lin : -lin;
      x[2] = one ? st2 : -st2;
    }
    order1_at_ = 256 + (last4_ & 255) * 256 + path_;
    const auto p1 = order_maps_[order1_at_] >> 16;
    x[0] = stretch_[order_maps_[path_] >> 20];
    x[1] = stretch_[p1 >> 4];
    x[2] = (static_cast<int32_t>(p1) - 32768) >> 5;
    x[3] = 256;
  }

  /// Sets of weights by what is known of the text.
  void ChooseSets(uint32_t known) {
    using namespace max_shape;
    const uint32_t c1 = last4_ & 255;
    const uint32_t c2 = last4_ >> 8 & 255;
    const uint32_t part = bits_ == 0 ? 0 : bits_ < 3 ? 1 : bits_ < 5 ? 2 : 3;
    const std::array<uint32_t, kSelectors> chosen = {
        path_ | expected_[0] << 8,
        c1 << 3 | bits_,
        c2 << 3 | bits_,
        ((match_kind_ * 9 + expected_[0] * 3 + expected_[1]) * 8 + bits_) * 4 +
            std::min(match_misses_[0] & 3, 3u),
        classes_ << 2 | part,
        (known * 8 + bits_) * 8 + (classes_ & 7),
        (std::min(word_length_, 7u) * 8 + (nesting_.back() >> 3 & 7)) * 8 +
            bits_,
        ((std::min(position_ - line_, 15u) * 3 + expected_[2]) * 8 + bits_) *
                2 +
            quoted_};
    int32_t* set = weights_;
    for (size_t s = 0; s < kSelectors; ++s) {
      sets_.chosen[s] = set + chosen[s] * kInputs;
      set += kSets[s] * kInputs;
    }
    for (const int32_t* used : sets_.chosen) {
      for (size_t i = 0; i < kInputs; i += 16) __builtin_prefetch(used + i, 1);
    }
  }

  uint32_t Mix() {
    using namespace max_shape;
    sets_.Predict(inputs_.data());
    final_chosen_[0] =
        final_weights_ +
        ((match_kind_ * 3 + expected_[0]) * 8 + bits_) * kFinalInputs;
    final_chosen_[1] = final_weights_ + (256 + path_) * kFinalInputs;
    int sum = 0;
    for (size_t s = 0; s < 2; ++s) {
      const int mix = sets_.Mix(final_chosen_[s], 2815);
      final_p_[s] = Squash(mix);
      sum += mix;
    }
    const int x = sum >> 1;
    return refiners_.Predict(Squash(x), x);
  }

  void UpdateMixers(bool bit) {
    sets_.Update(inputs_.data(), bit, rate_);
    for (size_t s = 0; s < 2; ++s) {
      sets_.UpdateMix(final_chosen_[s], final_p_[s], bit);
    }
    refiners_.Update(bit);
  }

  void UpdateMaps(bool bit) {
    using namespace max_shape;
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i][node_] = kHistories.next[states_[i]][bit];
    }
    MoveHistoryMaps(history_maps_, states_.data(), history_entries_.data(),
                    kContexts, bit);
    MoveRuns(bit);
    for (size_t k = 0; k < 3; ++k) {
      if (expected_[k] == 0) continue;
      const bool held = (expected_[k] == 2) == bit;
      UpdateMap(match_maps_[match_at_[k]], held, 1023);
      UpdateMap(byte_maps_[byte_at_[k]], held, 255);
    }
    UpdateMap(order_maps_[path_], bit, 255);
    UpdateMap(order_maps_[order1_at_], bit, 127);
  }

  void EndByte(uint8_t byte) {
    using namespace max_shape;
    for (size_t i = 0; i < kContexts; ++i) {
      uint8_t* run = runs_[i];
      run[1] = run[0] != byte || run[1] == 0
                   ? 1
                   : static_cast<uint8_t>(std::min(run[1] + 1, 63));
      run[0] = byte;
    }
    text_[position_++] = byte;
    followers1_[last4_ & 255] = followers1_[last4_ & 255] << 8 | byte;
    followers2_[last4_ & 65535] = followers2_[last4_ & 65535] << 8 | byte;
    before4_ = before4_ << 8 | last4_ >> 24;
    last4_ = last4_ << 8 | byte;
    NoteText(byte);
    UpdateMatches();
    rate_ = 200 + static_cast<int32_t>(1000 * 16 / (16 + (position_ >> 10)));
    BeginByte();
  }

  static uint32_t CountOnes(uint32_t x) {
    return static_cast<uint32_t>(__builtin_popcount(x));
  }

  static uint32_t ClassOf(uint32_t c) {
    if (c >= 'a' && c <= 'z') return 0;
    if (c >= 'A' && c <= 'Z') return 1;
    if (c >= '0' && c <= '9') return 2;
    if (c == ' ') return 3;
    if (c == '\n') return 4;
    if (c >= 128) return 5;
    return c < 'A' ? 6 : 7;
  }

  void NoteText(uint32_t c) {
    const uint32_t kind = ClassOf(c);
    classes_ = (classes_ << 3 | kind) & 511;
    if (kind <= 1 || kind == 5) {
      words_[0] = Hash(words_[0], kind == 1 ? c + 32 : c) + 1;
      ++word_length_;
    } else if (words_[0] != 0) {
      words_ = {0, words_[0], words_[1], words_[2]};
      word_length_ = 0;
    }
    // Runs of digits and of letters count once.
    const bool repeats = (kind == 0 || kind == 2) && kind + 1 == (shape_ & 15);
    if (!repeats) shape_ = shape_ << 4 | (kind + 1);
    if (c == '\n') {
      line_above_ = line_;
      line_ = position_;
      fields_above_ = fields_;
      fields_.fill(0);
      field_ = 0;
      first_ = 0;
      quoted_ = 0;
    } else {
      if (position_ - line_ == 1) first_ = c;
      if (c == ',' || c == '\t' || c == ' ' || c == ';' || c == '|' ||
          c == ':') {
        field_ = std::min<size_t>(field_ + 1, fields_.size() - 1);
        fields_[field_] = 0;
      } else {
        fields_[field_] = Hash(fields_[field_], c + 1);
      }
      if (c == '"') quoted_ ^= 1;
    }
    if (c == '(' || c == '[' || c == '{' || c == '<') {
      for (size_t i = 0; i + 1 < nesting_.size(); ++i) {
        nesting_[i] = nesting_[i + 1];
      }
      nesting_.back() = c | words_[1] << 8;
    } else if (c == ')' || c == ']' || c == '}' || c == '>') {
      for (size_t i = nesting_.size() - 1; i > 0; --i) {
        nesting_[i] = nesting_[i - 1];
      }
      nesting_.front() = 0;
    }
  }

  void UpdateMatches() {
    const uint32_t last = last4_ & 255;
    constexpr std::array<uint32_t, 2> kMin = {20, 6};
    for (size_t k = 0; k < 2; ++k) {
      Match& match = matches_[k];
      if (match.length > 0) {
        if (text_[match.at] == last) {
          ++match.at;
          match.length = std::min(match.length + 1, 65535u);
        } else {
          match.length = 0;
          match_misses_[k] = std::min(match_misses_[k] + 1, 7u);
        }
      }
      if (position_ < kMin[k]) continue;
      uint64_t hash = 0;
      for (uint32_t i = 1; i <= kMin[k]; ++i) {
        hash = (hash + text_[position_ - i] + 1) * 0x9E3779B97F4A7C15;
      }
      hash ^= hash >> 32;
      hash *= 0xBF58476D1CE4E5B9;
      uint32_t& noted = index_[k][hash >> (64 - sizes_.index_bits)];
      if (match.length < (k == 0 ? 1u : 16u) && noted != 0) {
        uint32_t length = 0;
        while (length < 400 && length < noted &&
               text_[noted - 1 - length] == text_[position_ - 1 - length]) {
          ++length;
        }
        if (length >= kMin[k] && length > match.length) {
          match.length = length;
          match.at = noted;
        }
      }
      noted = position_;
    }
    UpdateAligned(last);
    for (size_t k = 0; k < 3; ++k) {
      const Match& match = matches_[k];
      const bool is = k < 2 ? match.length > 0 : match.at != 0;
      match_bytes_[k] = is ? 256u | text_[match.at] : 0;
      const uint32_t length = match.length;
      const uint32_t bucket = length < 16    ? length
                              : length < 32  ? 16 + (length - 16) / 4
                              : length < 64  ? 20 + (length - 32) / 8
                              : length < 512 ? 24 + (length - 64) / 64
                                             : 31;
      match_level_[k] = std::min(bucket, 15u);
      const uint32_t misses =
          k < 2 ? match_misses_[k] : CountOnes(match_misses_[2] & 255);
      match_state_[k] = bucket << 2 | std::min(misses, 3u);
    }
    const uint32_t longest = matches_[0].length;
    match_kind_ = longest == 0    ? (matches_[1].length == 0   ? 0
                                     : matches_[1].length < 12 ? 1
                                                               : 2)
                  : longest < 32  ? 3
                  : longest < 100 ? 4
                                  : 5;
  }

  /// A match that goes on after bytes that differ: where one of the texts has
  /// a byte more, and at the beginnings of lines.
  void UpdateAligned(uint32_t last) {
    Match& match = matches_[2];
    if (match.at != 0) {
      const uint32_t at = match.at;
      if (text_[at] == last) {
        match.at = at + 1;
        match.length = std::min(match.length + 1, 65535u);
        match_misses_[2] = match_misses_[2] << 1 & 65535;
      } else {
        match_misses_[2] = (match_misses_[2] << 1 | 1) & 65535;
        match.length = 0;
        if (last == '\n') {
          const uint32_t end = std::min(position_ - 1, at + kLongestLine);
          uint32_t next = at;
          while (next < end && text_[next] != '\n') ++next;
          match.at = text_[next] == '\n' ? next + 1 : 0;
        } else if (at + 1 < position_ && text_[at + 1] == last &&
                   text_[at] != '\n') {
          match.at = at + 2;
        } else if (text_[at] != '\n' && last != ' ') {
          match.at = at + 1;
        }
      }
      if (match.at >= position_ || CountOnes(match_misses_[2]) > 8) {
        match.at = 0;
      }
    }
    if (match.at == 0 || (matches_[0].length >= 32 && match.length < 16)) {
      if (matches_[0].length > 0) {
        match = matches_[0];
        match_misses_[2] = 0;
      } else if (match.at == 0 && matches_[1].length >= 8) {
        match = matches_[1];
        match_misses_[2] = 0x55;
      }
    }
    if (match.at == 0) match.length = 0;
  }

  void BeginByte() {
    using namespace max_shape;
    path_ = 1;
    bits_ = 0;
    const uint32_t a = last4_;
    const uint32_t b = before4_;
    const uint32_t c1 = a & 255;
    const uint32_t column = std::min(position_ - line_, 255u);
    const uint32_t up = line_above_ + (position_ - line_);
    const uint32_t above = up < line_ ? text_[up] : '\n';
    const uint32_t above1 = up + 1 < line_ ? text_[up + 1] : '\n';
    const auto& w = words_;
    const uint32_t top = nesting_.back();
    const uint32_t expected =
        (matches_[0].length > 31   ? 3u
         : matches_[0].length > 15 ? 2u
                                   : matches_[0].length > 0);
    size_t i = 0;
    const auto add = [&](uint32_t x, uint32_t y, uint32_t z = 0) {
      hashes_[i] = Hash(Hash(x, y), z + static_cast<uint32_t>(i) * 0x10001);
      ++i;
    };
    add(c1, 0);
    add(a & 0xFFFF, 0);
    add(a & 0xFFFFFF, 0);
    add(a, 0);
    add(a, b & 0xFF);
    add(a, b & 0xFFFF);
    add(a, b);
    add(w[0], c1);
    add(w[0], w[1]);
    add(w[0], w[1], w[2]);
    add(w[0], w[2]);
    add(w[0], w[3], word_length_ == 0 ? c1 : 0);
    add(w[1], a & 0xFFFF);
    add(w[1], w[2], c1);
    add(w[0], c1, first_);
    add(a & 0xFFFF00, 0);
    add(a & 0xFF00FF, 0);
    add(a & 0xFFFF0000, 0);
    add(a & 0xF0F0F0FF, b & 0xF0);
    add(shape_, c1);
    add(shape_ & 0xFFFF, w[0]);
    add(above | column << 8, c1);
    add(above | above1 << 8, a & 0xFFFF);
    add(static_cast<uint32_t>(field_), fields_[field_], first_);
    add(fields_above_[field_], fields_[field_]);
    add(top, a & 0xFFFF);
    add(top, w[0], nesting_[nesting_.size() - 2]);
    add(followers1_[c1] & 0xFFFF, c1);
    add(followers2_[a & 0xFFFF] & 0xFFFF, a & 0xFFFF);
    add(followers1_[c1] & 0xFFFFFF, 0);
    add(match_bytes_[0] | expected << 9, match_bytes_[1], c1);
    add(a, 0, w[1]);
    FindSlots();
    for (size_t k = 0; k < kContexts; ++k) {
      runs_[k] = slots_[k] + 3;
      run_counts_[k] = runs_[k][1];
      run_bytes_[k] = run_counts_[k] == 0 ? 0 : 256u | runs_[k][0];
    }
    refiners_.base = {c1 << 8, Hash(a & 0xFFFF, 1) >> 8, Hash(w[0], 2) >> 8};
  }

  MaxSizes sizes_;
  Line* lines_;
  std::array<uint32_t*, 2> index_;
  int32_t* weights_;
  int32_t* final_weights_;
  Refiners refiners_;
  MapEntry* history_maps_;
  MapEntry* run_maps_;
  MapEntry* match_maps_;
  MapEntry* byte_maps_;
  MapEntry* order_maps_;
  uint32_t* followers1_;
  uint32_t* followers2_;
  uint8_t* text_;

  // Where the model is.
  uint32_t position_ = 0;
  uint32_t path_ = 1;  ///< 1, then the bits of the byte
  uint32_t bits_ = 0;  ///< of the byte that are known
  size_t node_ = 0;
  uint32_t last4_ = 0;
  uint32_t before4_ = 0;
  std::array<uint32_t, 4> words_{};
  uint32_t word_length_ = 0;
  uint32_t classes_ = 0;
  uint32_t shape_ = 0;
  uint32_t line_ = 0;
  uint32_t line_above_ = 0;
  uint32_t first_ = 0;
  uint32_t quoted_ = 0;
  size_t field_ = 0;
  std::array<uint32_t, 64> fields_{};
  std::array<uint32_t, 64> fields_above_{};
  std::array<uint32_t, 32> nesting_{};
  std::array<Match, 3> matches_{};
  std::array<uint32_t, 3> match_misses_{};
  std::array<uint32_t, 3> match_bytes_{};
  std::array<uint32_t, 3> match_state_{};
  std::array<uint32_t, 3> match_level_{};
  uint32_t match_kind_ = 0;
  int32_t rate_ = 1200;

  // Of the byte.
  alignas(64) std::array<uint32_t, max_shape::kContexts> hashes_;
  std::array<uint8_t*, max_shape::kContexts> slots_;
  std::array<uint8_t*, max_shape::kContexts> runs_;
  alignas(64) std::array<uint32_t, max_shape::kContexts> run_bytes_;
  alignas(64) std::array<uint32_t, max_shape::kContexts> run_counts_;

  // Of the bit.
  alignas(64) std::array<uint32_t, max_shape::kContexts> states_;
  alignas(64) std::array<MapEntry, max_shape::kContexts> history_entries_;
  alignas(64) std::array<MapEntry, max_shape::kContexts> run_entries_;
  alignas(64) std::array<int32_t, max_shape::kInputs> inputs_{};
  uint32_t known_;                    ///< of the contexts of order 1 to 7
  std::array<uint32_t, 3> expected_;  ///< 0: none; 1 + the bit
  std::array<uint32_t, 3> match_at_;
  std::array<uint32_t, 3> byte_at_;
  uint32_t order1_at_;
  SelectedSets<max_shape::kInputs, max_shape::kSelectors,
               max_shape::kFinalInputs>
      sets_;
  std::array<int32_t*, 2> final_chosen_;
  std::array<uint32_t, 2> final_p_;

  alignas(64) std::array<int32_t, 4096> stretch_;
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_MAX_H_
