// What a kind of column is, and what kinds are made of. Plugging in one more:
// NAME_decode.cc, NAME_encode.cc, a line in kind_list.inc, a section in
// format-spec/codecs/columns.md.
#ifndef ZIPLLM_CODECS_COLUMNS_KINDS_H_
#define ZIPLLM_CODECS_COLUMNS_KINDS_H_

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "codecs/columns/columns.h"

namespace zipllm::codecs::columns {

/// Columns are parts of columns up to this depth: 0 is a whole one.
inline constexpr int kMaxDepth = 4;

/// From this level on columns may be coded by context mixing.
inline constexpr int kMixLevel = 6;

/// What surrounds a column, for both halves.
struct DecodeContext {
  size_t count;      ///< values
  size_t max_bytes;  ///< of them in all
  std::span<const Beside> beside;
  Scratch& scratch;
  int depth = 0;
};
class Distinct;
struct EncodeContext {
  std::span<const Beside> beside;
  int level;
  Scratch& scratch;
  int depth = 0;
  /// Only the size of the result matters: any shortcut that guesses it is good.
  bool is_trial = false;
  /// Of the values: set by EncodePart and EncodeColumn.
  const Distinct* distinct = nullptr;
};

struct KindDecoder {
  /// Reads all of `body`; `*out` is empty.
  absl::Status (*decode)(ByteReader& body, const DecodeContext& context,
                         Values* out);
};
/// The decoder of kind `id`; null if there is none.
const KindDecoder* FindKind(uint8_t id);

struct KindEncoder {
  uint8_t id = 0;
  /// Appends the coded values (at least one), or leaves `*out` and returns
  /// false where they are not of this kind.
  bool (*encode)(const Values& values, const EncodeContext& context,
                 Buffer* out);
};

/// Numbers values so that equal ones have equal numbers, in the order in which
/// they come first.
class Distinct {
 public:
  explicit Distinct(const Values& values);
  /// By value.
  std::span<const uint32_t> ids() const { return ids_; }
  /// By number: where it comes first.
  std::span<const uint32_t> firsts() const { return firsts_; }
  size_t size() const { return firsts_.size(); }

 private:
  std::vector<uint32_t> ids_;
  std::vector<uint32_t> firsts_;
};

/// Columns within columns: `depth` of the context counts one more.
absl::Status DecodePart(ByteReader& reader, size_t count, size_t max_bytes,
                        const DecodeContext& context, Values* out);
void EncodePart(const Values& values, const EncodeContext& context,
                Buffer* out);

/// Bytes of any kind: appends their coded form, which tells its own size but
/// not theirs.
void EncodeBytes(ByteSpan bytes, const EncodeContext& context, Buffer* out);
absl::Status DecodeBytes(ByteReader& reader, MutableByteSpan out,
                         const DecodeContext& context);

/// Values that a kind cannot tell: their places, and a column of them.
class Exceptions {
 public:
  void Add(size_t place, ByteSpan value) {
    places_.push_back(place);
    values_.Append(value);
  }
  size_t size() const { return places_.size(); }
  void Encode(const EncodeContext& context, Buffer* out) const;
  absl::Status Decode(ByteReader& reader, const DecodeContext& context);
  /// The places up to `count` of all other values.
  std::vector<uint32_t> OtherRows(size_t count) const;
  /// Whether the value at `place` is one; call with ascending places and take
  /// those that are.
  bool IsNext(size_t place) const {
    return next_ < places_.size() && places_[next_] == place;
  }
  ByteSpan Take() { return values_[next_++]; }
  /// All of them, of what is used no more.
  Values TakeValues() && { return std::move(values_); }

 private:
  std::vector<uint64_t> places_;
  Values values_;
  size_t next_ = 0;
};

/// Besides for some rows of a column.
class RowsBeside {
 public:
  /// `rows` are below `count`, of which `beside` has as many.
  absl::Status Set(std::span<const Beside> beside,
                   std::span<const uint32_t> rows, size_t count);
  std::span<const Beside> besides() const { return besides_; }

 private:
  std::vector<std::vector<uint32_t>> indexes_;
  std::vector<Beside> besides_;
};

/// Whether value `i` of a column has a value beside it, and which.
inline bool HasBeside(const Beside& beside, size_t count) {
  return beside.index.empty() ? beside.values->size() >= count
                              : beside.index.size() >= count;
}
/// The same, and that it is one that there is.
inline bool IsSound(const Beside& beside, size_t count) {
  if (!HasBeside(beside, count)) return false;
  if (beside.index.empty()) return true;
  for (size_t i = 0; i < count; ++i) {
    if (beside.index[i] >= beside.values->size()) return false;
  }
  return true;
}
inline size_t BesideIndex(const Beside& beside, size_t i) {
  return beside.index.empty() ? i : beside.index[i];
}

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_KINDS_H_
