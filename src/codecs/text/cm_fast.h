// The fast profile of text_cm: bit histories of some contexts (orders 1 to 4
// and 6, words, pairs of words; for records also fields and what stands above)
// and a model of long matches, mixed by two selected sets of weights, then
// refined. Format: format-spec/codecs/22-text_cm.md.
//
// Tables are shared; a cursor is a place in a text that is coded with them.
// Several cursors may take turns bit by bit.
#ifndef ZIPLLM_CODECS_TEXT_CM_FAST_H_
#define ZIPLLM_CODECS_TEXT_CM_FAST_H_

#include "codecs/text/cm_format.h"
#include "codecs/text/cm_parts.h"

namespace zipllm::codecs::cm {
inline namespace ZIPLLM_CM_TARGET {

/// Thread-compatible. `kRecords`: for text in lines of fields.
template <bool kRecords>
class FastModel {
 public:
  static constexpr size_t kContexts = kRecords ? 9 : 7;
  /// Contexts 1 to this also have their probabilities as inputs, unstretched.
  static constexpr size_t kLinear = kRecords ? 6 : 0;
  /// One for each context, one for the match, kLinear.
  static constexpr int kInputs = kRecords ? 16 : 8;
  static constexpr int kSelectors = 2;

  /// A place in a text.
  struct Cursor {
    uint32_t position;         ///< in the arena, of the byte being coded
    uint32_t path = 1;         ///< 1, then the bits of that byte
    uint32_t node = 1;         ///< the same since its last nibble began
    uint32_t last4 = 0;        ///< bytes before it, the last one lowest
    uint32_t before4 = 0;      ///< the bytes before those
    uint32_t word = 0;         ///< hash of the letters at the end
    uint32_t word_before = 0;  ///< of the last word before
    uint32_t line;             ///< where it begins in the arena
    uint32_t above = 0;        ///< the position above it
    uint32_t column = 0;       ///< fields before in the line
    uint32_t field = 0;        ///< hash of column and field up to here
    uint32_t age = 0;          ///< bits coded, up to a limit
    uint32_t known = 0;        ///< orders that have seen this nibble's context
    std::array<uint32_t, kContexts> hashes{};
    std::array<uint8_t*, kContexts> lines{};
    std::array<uint8_t*, kContexts> slots{};
    uint32_t* noted = nullptr;  ///< where this position will be
    Match match;
    // Of the bit that was predicted last.
    std::array<uint32_t*, kContexts> averages{};
    MapEntry* match_entry = nullptr;
    uint32_t match_bit = 0;
    uint16_t* refined = nullptr;
    Mixing<kInputs, kSelectors> mixing;
  };

  /// `memory` is FastBytes(sizes) zeros, 64-byte aligned, that outlive this.
  FastModel(uint8_t* memory, const FastSizes& sizes) : FastModel(sizes) {
    Carver carve(memory);
    VisitArrays(carve);

    Refiner::Init(refiner_.points, 65536);
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = i % kInputs <= kContexts ? 14000 : 0;
    }
    final_weights_.fill(65536 / kSelectors);
    mixers_.sets = {weights_.data(), weights_.data() + kInputs * kPaths};
    mixers_.final_sets = final_weights_.data();
    for (auto& map : maps_) {
      for (size_t s = 0; s < 256; ++s) {
        map[s] = uint32_t{kHistories.p[s]} << 16;
      }
    }
    for (uint32_t i = 0; i < match_map_.size(); ++i) {
      match_map_[i] = HeldEntry(i);
    }
  }

  static uint64_t Bytes(const FastSizes& sizes) {
    FastModel model(sizes);
    Carver carve(nullptr);
    model.VisitArrays(carve);
    return carve.at();
  }

  /// After memory was moved, with this in it.
  void Relocate(const Relocation& moved) {
    VisitArrays(moved);
    moved(mixers_.sets);
    moved(mixers_.final_sets);
  }
  /// Of a cursor between two bytes.
  static void Relocate(Cursor& cursor, const Relocation& moved) {
    moved(cursor.slots);
  }

  /// The bytes that cursors are in.
  uint8_t* arena() { return arena_; }

  /// Puts a new cursor at the beginning of a text, at kArenaMargin or later.
  void Start(Cursor& cursor, uint32_t position) const {
    cursor.position = position;
    cursor.line = position;
    cursor.mixing.inputs.fill(0);
    PrepareByte(cursor);
    PrepareMatch(cursor);
    BeginByte(cursor, 0);
  }

  /// The probability of a one, 1 to 65535.
  uint32_t Predict(Cursor& cursor) {
    const uint32_t last = cursor.last4 & 255;
    // The two that may be asked for next.
    const size_t next = size_t{last} << 8 | (cursor.path << 1 & 255);
    refiner_.Prefetch(next);
    refiner_.Prefetch(next + 1);

    auto& inputs = cursor.mixing.inputs;
    for (size_t i = 0; i < kContexts; ++i) {
      uint32_t* average = &maps_[i][cursor.slots[i][cursor.node]];
      cursor.averages[i] = average;
      inputs[i] = kTables.stretch[*average >> 20];
      if (i >= 1 && i <= kLinear) {
        inputs[kContexts + i] =
            (static_cast<int32_t>(*average >> 16) - 32768) >> 4;
      }
    }
    uint32_t certainty = 0;
    cursor.match_entry = nullptr;
    const uint32_t bits =
        31 - static_cast<uint32_t>(__builtin_clz(cursor.path));
    if (cursor.match.byte >> (8 - bits) == cursor.path) {
      const uint32_t length = cursor.match.length;
      cursor.match_bit = cursor.match.byte >> (7 - bits) & 1;
      cursor.match_entry = &match_map_[MatchBucket(length)];
      const int x = Stretch(MapP(*cursor.match_entry));
      inputs[kContexts] = cursor.match_bit ? x : -x;
      certainty = length < 12 ? 1 : length < 24 ? 2 : 3;
    } else {
      cursor.match.byte = 0;
      inputs[kContexts] = 0;
    }

    const int x = mixers_.Predict(
        cursor.mixing, {cursor.path, (cursor.known * 4 + certainty) * 8 + bits},
        cursor.path);
    const uint32_t p =
        refiner_.Predict(x, size_t{last} << 8 | cursor.path, &cursor.refined);
    return (cursor.mixing.final_p + 3 * p + 2) >> 2;
  }

  /// Learns the bit that was predicted.
  void Update(Cursor& cursor, bool bit) {
    for (uint32_t* average : cursor.averages) {
      UpdateAverage(*average, bit, kAverageRate);
    }
    if (cursor.match_entry != nullptr) {
      UpdateMap(*cursor.match_entry, bit == (cursor.match_bit != 0), 1023);
    }
    const int rate = kRate + static_cast<int>((kYoung - cursor.age) >> 10);
    cursor.age += cursor.age < kYoung;
    mixers_.Update(cursor.mixing, bit, rate, kFinalRate);
    Refiner::Update(cursor.refined, bit, kRefinerRate);
    Read(cursor, bit);
  }

  /// Notes a bit in the histories alone.
  void Read(Cursor& cursor, bool bit) const {
    for (uint8_t* slot : cursor.slots) {
      uint8_t& state = slot[cursor.node];
      state = kHistories.next[state][bit];
    }
    cursor.path = cursor.path << 1 | bit;
    cursor.node = cursor.node << 1 | bit;
    switch (31 - __builtin_clz(cursor.path)) {
      case 2:
        PrepareNibble(cursor);
        break;
      case 4:
        BeginNibble(cursor);
        break;
      case 6:
        PrepareByte(cursor);
        break;
      case 7:
        PrepareMatch(cursor);
        break;
      case 8:
        EnterByte(cursor, static_cast<uint8_t>(cursor.path));
        BeginByte(cursor, cursor.last4 & 255);
        break;
      default:
        break;
    }
  }

  /// Read for each bit of `size` bytes of text, but fetching memory ahead.
  void ReadAll(Cursor& cursor, const uint8_t* text, size_t size) const {
    if (size == 0) return;
    for (int k = 7; k >= 0; --k) Read(cursor, text[0] >> k & 1);
    for (size_t i = 1; i < kContexts; ++i) {
      cursor.hashes[i] -= (text[0] & 3) * kLastBits;
    }
    constexpr size_t kAhead = 8;
    std::array<Upcoming, kAhead> upcoming;
    for (size_t i = 1; i < size + kAhead; ++i) {
      Upcoming& next = upcoming[i % kAhead];
      if (i > kAhead) ReadSlots(next);
      if (i < size) LookAhead(cursor, text[i], next);
    }
    BeginByte(cursor, text[size - 1]);
  }

 private:
  static constexpr size_t kPaths = 256;
  static constexpr size_t kSituations = 5 * 4 * 8;
  static constexpr uint32_t kMinMatch = 6;
  static constexpr int kAverageRate = 7;
  static constexpr int kRate = 80;
  static constexpr uint32_t kYoung = 1 << 16;
  static constexpr int kFinalRate = 12;
  static constexpr int kRefinerRate = 5;
  /// What a byte's last two bits add to a hash.
  static constexpr uint32_t kLastBits = 0x3C6EF372;

  explicit FastModel(const FastSizes& sizes) : arena_size_(sizes.arena_size) {
    table_.bits = sizes.line_bits;
    index_.bits = sizes.index_bits;
  }
  template <typename Visitor>
  void VisitArrays(Visitor& visit) {
    visit(table_.lines, kLineBytes << table_.bits);
    visit(order1_, kFastOrder1Bytes);
    visit(refiner_.points, kFastRefinerBytes / sizeof(*refiner_.points));
    visit(index_.positions, uint64_t{1} << index_.bits);
    visit(arena_, arena_size_ + 2 * uint64_t{kArenaMargin});
  }

  static uint32_t MatchBucket(uint32_t length) {
    return length < 16    ? length
           : length < 48  ? 16 + (length - 16) / 4
           : length < 496 ? 24 + (length - 48) / 64
                          : 31;
  }

  /// Hashes of what comes after the byte of which six bits are known: all but
  /// its last two, so that lines can be fetched before these are known.
  void PrepareByte(Cursor& cursor) const {
    const uint32_t six = cursor.path & 63;
    const uint32_t a = cursor.last4;
    const uint32_t b = cursor.before4;
    // Letters by the alphabet, large and small.
    const uint32_t letter = six >= 16 ? six | 8 : six;
    auto& hashes = cursor.hashes;
    hashes[1] = Hash((a & 0xFF) << 8 | six, 0x10000);
    hashes[2] = Hash((a & 0xFFFF) << 8 | six, 0x20000);
    hashes[3] = Hash((a & 0xFFFFFF) << 8 | six, 0x30000);
    hashes[4] = Hash(a, ((b & 0xFF) << 8 | six) + 0x40000);
    hashes[5] = Hash(cursor.word, letter + 0x50000);
    hashes[6] = Hash(cursor.word + letter * 0x2F0B4C47, cursor.word_before);
    if constexpr (kRecords) {
      const uint32_t above = arena_[cursor.above + 1];
      hashes[7] = Hash(cursor.field, six + 0x60000);
      hashes[8] = Hash(above << 16 | (a & 0xFF) << 8 | six, 0x70000);
    }
    for (size_t i = 1; i < kContexts; ++i) table_.Prefetch(hashes[i]);
  }
  void PrepareMatch(Cursor& cursor) const {
    const uint32_t seven = cursor.path & 127;
    cursor.noted =
        index_.Pair(Hash(cursor.last4, (cursor.before4 & 255) << 8 | seven));
    __builtin_prefetch(cursor.noted, 1);
    refiner_.Prefetch(size_t{seven} << 9 | 1);
    refiner_.Prefetch(size_t{seven} << 9 | 257);
  }
  void BeginByte(Cursor& cursor, uint32_t last) const {
    cursor.path = 1;
    cursor.slots[0] = Order1Slots(last);
    for (size_t i = 1; i < kContexts; ++i) {
      const uint32_t hash = cursor.hashes[i];
      cursor.slots[i] = FindSlot(table_.Line(hash), Check(hash, last));
      cursor.hashes[i] = hash + (last & 3) * kLastBits;
    }
    BeginSlots(cursor);
  }
  uint8_t* Order1Slots(uint32_t last) const {
    return order1_ + last * kFastOrder1Bytes / 256;
  }
  void PrepareNibble(Cursor& cursor) const {
    for (size_t i = 1; i < kContexts; ++i) {
      cursor.lines[i] = table_.Line(Hash(cursor.hashes[i], cursor.path));
      __builtin_prefetch(cursor.lines[i], 1);
    }
  }
  void BeginNibble(Cursor& cursor) const {
    const uint32_t nibble = cursor.path & 15;
    cursor.slots[0] += (nibble + 1) * kSlotBytes;
    for (size_t i = 1; i < kContexts; ++i) {
      cursor.slots[i] =
          FindSlot(cursor.lines[i], Check(cursor.hashes[i] >> 12, nibble));
    }
    BeginSlots(cursor);
  }
  static void BeginSlots(Cursor& cursor) {
    uint32_t known = 0;
    for (size_t i = 1; i <= 4; ++i) known += cursor.slots[i][1] != 0;
    cursor.known = known;
    cursor.node = 1;
  }
  static uint8_t Check(uint32_t hash, uint32_t last) {
    return static_cast<uint8_t>(hash << 2 | (last & 3));
  }

  void EnterByte(Cursor& cursor, uint8_t byte) const {
    arena_[cursor.position++] = byte;
    index_.Advance(cursor.match, arena_, cursor.position,
                   cursor.noted + (byte & 1), kMinMatch);
    cursor.before4 = cursor.before4 << 8 | cursor.last4 >> 24;
    cursor.last4 = cursor.last4 << 8 | byte;
    const uint32_t lower = byte >= 'A' && byte <= 'Z' ? byte + 32u : byte;
    if ((lower >= 'a' && lower <= 'z') || lower >= 128) {
      cursor.word = Hash(cursor.word, lower) + 1;
    } else if (cursor.word != 0) {
      cursor.word_before = cursor.word;
      cursor.word = 0;
    }
    if constexpr (kRecords) {
      if (byte == '\n') {
        cursor.above = cursor.line;
        cursor.line = cursor.position;
        cursor.column = 0;
        cursor.field = 0;
      } else {
        cursor.above += cursor.above + 1 < cursor.line;
        if (byte == ',' || byte == ';' || byte == '\t' || byte == '|') {
          cursor.field = ++cursor.column * 0x9E3779B1;
        } else {
          cursor.field = Hash(cursor.field, byte);
        }
      }
    }
  }

  /// A byte whose slots are being fetched.
  struct Upcoming {
    uint32_t byte;
    std::array<std::array<uint8_t*, kContexts>, 2> lines;  ///< by nibble
    std::array<std::array<uint8_t, kContexts>, 2> checks;
  };
  void LookAhead(Cursor& cursor, uint8_t byte, Upcoming& upcoming) const {
    const uint32_t last = cursor.last4 & 255;
    upcoming.byte = byte;
    upcoming.lines[0][0] = Order1Slots(last);
    upcoming.lines[1][0] = Order1Slots(last) + ((byte >> 4) + 1) * kSlotBytes;
    for (size_t i = 1; i < kContexts; ++i) {
      const uint32_t hash = cursor.hashes[i];
      const uint32_t second = hash + (last & 3) * kLastBits;
      upcoming.lines[0][i] = table_.Line(hash);
      upcoming.checks[0][i] = Check(hash, last);
      upcoming.lines[1][i] = table_.Line(Hash(second, 4 | byte >> 6));
      upcoming.checks[1][i] = Check(second >> 12, byte >> 4);
      __builtin_prefetch(upcoming.lines[1][i], 1);
    }
    cursor.path = 64 | byte >> 2;
    PrepareByte(cursor);
    cursor.path = 128 | byte >> 1;
    PrepareMatch(cursor);
    EnterByte(cursor, byte);
  }
  static void ReadSlots(const Upcoming& upcoming) {
    for (size_t nibble = 0; nibble < 2; ++nibble) {
      std::array<uint8_t*, kContexts> slots;
      slots[0] = upcoming.lines[nibble][0];
      for (size_t i = 1; i < kContexts; ++i) {
        slots[i] =
            FindSlot(upcoming.lines[nibble][i], upcoming.checks[nibble][i]);
      }
      const uint32_t bits = upcoming.byte >> (nibble == 0 ? 4 : 0) & 15;
      for (uint8_t* slot : slots) {
        for (uint32_t node = 1, k = 4; k-- > 0;) {
          const uint32_t bit = bits >> k & 1;
          slot[node] = kHistories.next[slot[node]][bit];
          node = node << 1 | bit;
        }
      }
    }
  }

  SlotTable table_;
  uint8_t* order1_;
  Refiner refiner_;
  MatchIndex index_;
  uint8_t* arena_;
  uint32_t arena_size_;
  MixerNetwork<kInputs, kSelectors> mixers_;
  std::array<std::array<uint32_t, 256>, kContexts> maps_;
  std::array<MapEntry, 32> match_map_;
  alignas(64) std::array<int32_t, kInputs*(kPaths + kSituations)> weights_;
  std::array<int32_t, kSelectors * kPaths> final_weights_;
};

}  // namespace ZIPLLM_CM_TARGET
}  // namespace zipllm::codecs::cm

#endif  // ZIPLLM_CODECS_TEXT_CM_FAST_H_
