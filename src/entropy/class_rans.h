// Bytes coded by rANS, each with the frequency table of its class, which the
// decoder knows beforehand: 32 lanes a stream, 4 streams where there are many
// symbols. Format: format-spec/codecs/8-classes.md, "Classes".
#ifndef ZIPLLM_ENTROPY_CLASS_RANS_H_
#define ZIPLLM_ENTROPY_CLASS_RANS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "kernels/kernels.h"

namespace zipllm::entropy {

inline constexpr size_t kMaxClasses = 64;
/// Blocks of as many symbols have four streams, others one: the states of four
/// take 512 bytes.
inline constexpr size_t kFourStreams = size_t{1} << 18;

/// By symbol: how often it occurs in a class; below 2^32 in all.
using ByteCounts = std::array<uint32_t, 256>;
/// By symbol; they add up to kernels::kSlots, or all are 0: the class does not
/// occur.
using ByteFrequencies = std::array<uint16_t, 256>;

/// Frequencies in proportion to `counts`, at least 1 for each count above 0;
/// all 0 if all counts are. The same on every machine.
ByteFrequencies NormalizeBytes(const ByteCounts& counts);

/// What coding symbols that occur as in `counts` takes, in 1/65536 bit:
/// roughly, their entropy.
uint64_t EntropyCost(const ByteCounts& counts);
/// The same with a given table; all symbols that occur have a frequency.
uint64_t CodingCost(const ByteCounts& counts,
                    const ByteFrequencies& frequencies);

/// The frequency tables of up to kMaxClasses classes.
using ClassFrequencies = std::vector<ByteFrequencies>;

/// Appends 1 to kMaxClasses tables: a varint length, then bits in which each
/// table is told by how it differs from the one before.
void WriteClassFrequencies(const ClassFrequencies& tables, Buffer* out);
/// Reads what was written; DATA_LOSS where nothing of the kind is there.
absl::StatusOr<ClassFrequencies> ParseClassFrequencies(ByteReader& reader);

/// Tables ready for decoding: 16 KiB a class. Immutable.
class ClassDecodeTables {
 public:
  explicit ClassDecodeTables(const ClassFrequencies& tables);
  size_t classes() const { return slots_.size() / kernels::kSlots; }
  const kernels::ClassSlots* slots() const {
    return reinterpret_cast<const kernels::ClassSlots*>(slots_.data());
  }

 private:
  std::vector<uint32_t> slots_;
};

/// Tables ready for encoding: 1 KiB a class. Immutable.
class ClassEncodeTables {
 public:
  explicit ClassEncodeTables(const ClassFrequencies& tables);
  const kernels::ClassRanges* ranges() const {
    return reinterpret_cast<const kernels::ClassRanges*>(ranges_.data());
  }

 private:
  std::vector<uint32_t> ranges_;
};

/// Appends `count` (at least 1) coded symbols to `*out`: for each stream a
/// varint, its number of words; then for each its 32 states and its words.
/// Every symbol has a frequency in the table of its class. `scratch` is any
/// buffer but `out`.
void EncodeClassRans(const ClassEncodeTables& tables, const uint8_t* symbols,
                     const uint8_t* classes, size_t count, Buffer* scratch,
                     Buffer* out);

/// Decodes what EncodeClassRans wrote, piece by piece, so that pieces may stay
/// in the cache. Thread-compatible.
class ClassRansDecoder {
 public:
  /// Symbols of a piece: a multiple of this, but for the last one.
  static constexpr size_t kPiece = kernels::kLanes * kernels::kMaxStreams;

  /// Takes the coded form of `count` (at least 1) symbols from `reader`, of
  /// whose data and of `tables` it keeps views.
  static absl::StatusOr<ClassRansDecoder> Start(const ClassDecodeTables& tables,
                                                size_t count,
                                                ByteReader& reader);
  /// The next `count` symbols, `classes` being theirs: any bytes. What is wrong
  /// with the data is told by Finish.
  void Next(const uint8_t* classes, size_t count, uint8_t* symbols);
  /// After all symbols: whether everything ended as the encoder began.
  absl::Status Finish() const;

 private:
  ClassRansDecoder() = default;

  const ClassDecodeTables* tables_;
  int streams_;
  bool ok_ = true;
  std::array<kernels::ClassStream, kernels::kMaxStreams> state_;
};

/// All at once: `classes` and `symbols` have `count` (at least 1) places.
absl::Status DecodeClassRans(const ClassDecodeTables& tables,
                             const uint8_t* classes, size_t count,
                             ByteReader& reader, uint8_t* symbols);

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_CLASS_RANS_H_
