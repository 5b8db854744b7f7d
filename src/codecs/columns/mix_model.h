// Context mixing of a column: its values as records of bytes, predicted by what
// the record has so far, by the records above and by what stands beside. Parts:
// codecs/text/cm_parts.h. Format: format-spec/codecs/columns.md, "Mixing".
#ifndef ZIPLLM_CODECS_COLUMNS_MIX_MODEL_H_
#define ZIPLLM_CODECS_COLUMNS_MIX_MODEL_H_

#include "codecs/columns/mix_coder.h"
#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::columns {
inline namespace ZIPLLM_CM_TARGET {

/// `kText`: values that end with a byte of their own; else numbers of a fixed
/// width. Thread-compatible.
template <bool kText>
class MixModel {
 public:
  static constexpr size_t kContexts = 8;
  /// One for each context, the match, and unstretched those of contexts 1 to
  /// kLinear.
  static constexpr size_t kLinear = 7;
  static constexpr int kInputs = 16;
  static constexpr int kSelectors = 2;

  /// `memory` is MixBytes(records, size), zeros, 64-byte aligned.
  MixModel(uint8_t* memory, const MixSizes& sizes, const MixRecords& records)
      : records_(records) {
    table_ = {.lines = memory, .bits = sizes.line_bits};
    memory += cm::kLineBytes << sizes.line_bits;
    index_ = {.positions = reinterpret_cast<uint32_t*>(memory),
              .bits = sizes.index_bits};
    memory += sizeof(uint32_t) << sizes.index_bits;
    if constexpr (kText) arena_ = memory;
    cm::Refiner::Init(refined_.data(), kRefined);
    refiner_.points = refined_.data();
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = i % kInputs < kContexts ? 14000 : 0;
    }
    final_weights_.fill(65536 / kSelectors);
    mixers_.sets = {weights_.data(), weights_.data() + kInputs * kPaths};
    mixers_.final_sets = final_weights_.data();
    for (auto& map : maps_) {
      for (size_t s = 0; s < 256; ++s) {
        map[s] = uint32_t{cm::kHistories.p[s]} << 16;
      }
    }
    for (uint32_t i = 0; i < match_map_.size(); ++i) {
      match_map_[i] = cm::HeldEntry(i);
    }
    mixing_.inputs.fill(0);
    position_ = kMixMargin;
    line_ = kMixMargin;
    above_ = kMixMargin;
    BeginRecord(0);
    BeginByte();
  }

  uint32_t Predict() {
    auto& inputs = mixing_.inputs;
    for (size_t i = 0; i < kContexts; ++i) {
      uint32_t* average = &maps_[i][slots_[i][node_]];
      averages_[i] = average;
      inputs[i] = cm::kTables.stretch[*average >> 20];
      if (i >= 1) {
        inputs[kContexts + i] =
            (static_cast<int32_t>(*average >> 16) - 32768) >> 4;
      }
    }
    uint32_t certainty = 0;
    const uint32_t bits = 31 - static_cast<uint32_t>(__builtin_clz(path_));
    if constexpr (kText) {
      match_entry_ = nullptr;
      inputs[kContexts] = 0;
      if (match_.byte >> (8 - bits) == path_) {
        match_bit_ = match_.byte >> (7 - bits) & 1;
        match_entry_ = &match_map_[match_.length < 31 ? match_.length : 31];
        const int x = cm::Stretch(cm::MapP(*match_entry_));
        inputs[kContexts] = match_bit_ ? x : -x;
        certainty = match_.length < 12 ? 1 : match_.length < 24 ? 2 : 3;
      } else {
        match_.byte = 0;
      }
    } else {
      certainty = place_ < 3 ? place_ : 3;
    }
    const int x = mixers_.Predict(
        mixing_, {path_, (known_ * 4 + certainty) * 8 + bits}, path_);
    const uint32_t p = refiner_.Predict(x, path_, &refined_at_);
    return (mixing_.final_p + p + 1) >> 1;
  }

  void Update(bool bit) {
    for (size_t i = 0; i < kContexts; ++i) {
      cm::UpdateAverage(*averages_[i], bit, kAverageRate);
      uint8_t& state = slots_[i][node_];
      state = cm::kHistories.next[state][bit];
    }
    if constexpr (kText) {
      if (match_entry_ != nullptr) {
        cm::UpdateMap(*match_entry_, bit == (match_bit_ != 0), 255);
      }
    }
    const int rate = kRate + static_cast<int>((kYoung - age_) >> kYoungShift);
    age_ += age_ < kYoung;
    mixers_.Update(mixing_, bit, rate, kFinalRate);
    cm::Refiner::Update(refined_at_, bit, kRefinerRate);
    path_ = path_ << 1 | bit;
    node_ = node_ << 1 | bit;
    if (path_ >= 256) {
      EnterByte(static_cast<uint8_t>(path_));
      BeginByte();
    } else if (path_ >= 16 && path_ < 32) {
      BeginNibble();
    }
  }

  /// Records that are complete.
  size_t records() const { return record_; }

 private:
  static constexpr size_t kPaths = 256;
  static constexpr size_t kSituations = 9 * 4 * 8;
  static constexpr size_t kRefined = 256;
  static constexpr uint32_t kMinMatch = 5;
  static constexpr int kAverageRate = 6;
  static constexpr int kRate = 60;
  static constexpr uint32_t kYoung = 1 << 15;
  static constexpr int kYoungShift = 7;
  static constexpr int kFinalRate = 12;
  static constexpr int kRefinerRate = 5;

  void BeginRecord(size_t i) {
    record_ = i;
    place_ = 0;
    prefix_ = 0;
    if (i >= records_.count) return;
    for (size_t b = 0; b < 2; ++b) {
      beside_[b] = records_.beside[b] == nullptr ? 0 : records_.beside[b][i];
    }
  }

  void BeginByte() {
    path_ = 1;
    const uint32_t h = prefix_;
    if constexpr (kText) {
      const uint32_t above = arena_[above_];
      hashes_ = {cm::Hash(h, 0x10000),
                 cm::Hash(h + before_[0], 0x20000),
                 cm::Hash(h, beside_[0] + 0x30000),
                 records_.beside[1] != nullptr
                     ? cm::Hash(h, beside_[1] + 0x40000)
                     : cm::Hash(h + before_[0], before_[1] + 0x40000),
                 cm::Hash((last4_ & 0xff) << 8 | above, 0x50000),
                 cm::Hash(last4_ & 0xffff, 0x60000),
                 cm::Hash(last4_ & 0xffffff, 0x70000),
                 cm::Hash(last4_, (before4_ & 0xff) + 0x80000)};
    } else {
      const bool one = records_.beside[0] != nullptr;
      const bool two = records_.beside[1] != nullptr;
      hashes_ = {
          cm::Hash(h, 0x10000),
          cm::Hash(h + before_[0], 0x20000),
          cm::Hash(h + before_[0], before_[1] + 0x30000),
          cm::Hash(h + cm::Hash(before_[0], before_[1]), before_[2] + 0x40000),
          one ? cm::Hash(h, beside_[0] + 0x50000)
              : cm::Hash(h, before_[1] + 0x50000),
          two ? cm::Hash(h, beside_[1] + 0x60000)
              : cm::Hash(h, before_[2] + 0x60000),
          one ? cm::Hash(h + beside_[0], before_[0] + 0x70000)
              : cm::Hash(h + before_[1], before_[2] + 0x70000),
          two ? cm::Hash(h + beside_[0], beside_[1] + 0x80000)
              : cm::Hash(h + cm::Hash(before_[0], before_[1]),
                         cm::Hash(before_[2], before_[3]) + 0x80000)};
    }
    for (size_t i = 0; i < kContexts; ++i) table_.Prefetch(hashes_[i]);
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i] = cm::FindSlot(table_.Line(hashes_[i]),
                               static_cast<uint8_t>(hashes_[i]));
    }
    BeginSlots();
  }
  void BeginNibble() {
    const uint32_t nibble = path_ & 15;
    for (size_t i = 0; i < kContexts; ++i) {
      hashes_[i] = cm::Hash(hashes_[i], nibble + 1);
      table_.Prefetch(hashes_[i]);
    }
    for (size_t i = 0; i < kContexts; ++i) {
      slots_[i] = cm::FindSlot(table_.Line(hashes_[i]),
                               static_cast<uint8_t>(hashes_[i]));
    }
    BeginSlots();
  }
  void BeginSlots() {
    known_ = 0;
    for (size_t i = 0; i < kContexts; ++i) known_ += slots_[i][1] != 0;
    node_ = 1;
  }

  void EnterByte(uint8_t byte) {
    ++place_;
    prefix_ = cm::Hash(prefix_ + byte + 1, place_);
    if constexpr (kText) {
      arena_[position_++] = byte;
      before4_ = before4_ << 8 | last4_ >> 24;
      last4_ = last4_ << 8 | byte;
      above_ += above_ + 1 < line_;
      index_.Advance(match_, arena_, position_,
                     index_.positions + (cm::Hash(last4_, before4_ & 0xff) >>
                                         (32 - index_.bits)),
                     kMinMatch);
      if (byte != records_.end) return;
      above_ = line_;
      line_ = position_;
    } else {
      if (place_ < records_.width) return;
    }
    before_[3] = before_[2];
    before_[2] = before_[1];
    before_[1] = before_[0];
    before_[0] = prefix_;
    BeginRecord(record_ + 1);
  }

  const MixRecords& records_;
  cm::SlotTable table_;
  cm::MatchIndex index_;
  uint8_t* arena_ = nullptr;
  cm::Refiner refiner_;
  cm::MixerNetwork<kInputs, kSelectors> mixers_;

  size_t record_ = 0;
  uint32_t place_ = 0;                ///< of the byte in its record
  uint32_t prefix_ = 0;               ///< hash of the record so far
  std::array<uint32_t, 4> before_{};  ///< hashes of the records above
  std::array<uint32_t, 2> beside_{};
  uint32_t position_;
  uint32_t line_;
  uint32_t above_;
  uint32_t last4_ = 0;
  uint32_t before4_ = 0;
  uint32_t path_ = 1;
  uint32_t node_ = 1;
  uint32_t known_ = 0;
  uint32_t age_ = 0;
  cm::Match match_;
  cm::MapEntry* match_entry_ = nullptr;
  uint32_t match_bit_ = 0;
  uint16_t* refined_at_ = nullptr;
  std::array<uint32_t, kContexts> hashes_;
  std::array<uint8_t*, kContexts> slots_;
  std::array<uint32_t*, kContexts> averages_;
  cm::Mixing<kInputs, kSelectors> mixing_;
  std::array<std::array<uint32_t, 256>, kContexts> maps_;
  std::array<cm::MapEntry, 32> match_map_;
  alignas(64) std::array<uint16_t, cm::Refiner::kPoints * kRefined> refined_;
  alignas(64) std::array<int32_t, kInputs*(kPaths + kSituations)> weights_;
  std::array<int32_t, kSelectors * kPaths> final_weights_;
};

template <bool kText>
size_t EncodeMixOf(uint8_t* memory, const MixSizes& sizes,
                   const MixRecords& records, const uint8_t* plain, size_t size,
                   uint8_t* coded, size_t room) {
  MixModel<kText> model(memory, sizes, records);
  return cm::EncodeAll(model, plain, size, coded, room, {});
}

template <bool kText>
bool DecodeMixOf(uint8_t* memory, const MixSizes& sizes,
                 const MixRecords& records, const uint8_t* coded,
                 size_t coded_size, uint8_t* plain, size_t size) {
  MixModel<kText> model(memory, sizes, records);
  return cm::DecodeAll(model, coded, coded_size, plain, size, {});
}

inline size_t EncodeMixBlock(uint8_t* memory, const MixSizes& sizes,
                             const MixRecords& records, const uint8_t* plain,
                             size_t size, uint8_t* coded, size_t room) {
  return (records.width == 0 ? EncodeMixOf<true>
                             : EncodeMixOf<false>)(memory, sizes, records,
                                                   plain, size, coded, room);
}
inline bool DecodeMixBlock(uint8_t* memory, const MixSizes& sizes,
                           const MixRecords& records, const uint8_t* coded,
                           size_t coded_size, uint8_t* plain, size_t size) {
  return (records.width == 0 ? DecodeMixOf<true>
                             : DecodeMixOf<false>)(memory, sizes, records,
                                                   coded, coded_size, plain,
                                                   size);
}

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_MIX_MODEL_H_
