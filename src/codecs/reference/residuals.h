// What codecs against references share: elements coded by how far they are from
// a prediction of the same type. A codec makes, piece by piece, a prediction
// and a context (a byte) for each element; this does the rest.
//
// Of a float: its magnitude (the bits without the sign) less that of the
// prediction, modulo 2^(bits - 1), and whether the signs differ; of an integer:
// the difference modulo 2^bits. Any bits are coded, NaNs too. A **symbol** says
// a small difference exactly, of others the octave and the bits below the
// first; what it leaves to say are **raw bits**. Positive is away from zero
// (floats): a context that knows a sign has to know it relative to the
// prediction's.
//
// Symbols are coded by rANS with a frequency table by class; contexts that are
// alike share a class, which the encoder finds. So contexts may be as fine as
// one likes, up to kMaxContexts: few elements get few classes. Raw bits follow.
// Frames of fewer than kFewElements have no tables: bits are counted as they
// come.
// Format: format-spec/codecs/15-delta.md, "Residuals".
//
// An encoder's plan:
//   for each piece: make contexts and predictions;
//     ToSymbols(alphabet, elements, predictions, n, symbols);
//     counts.Add(contexts, symbols, n);           (keep or make again all
//     three)
//   ResidualEncoder coder(alphabet, counts, shape);
//   params: coder.Write(&params); estimate: coder.cost();
// and for each block:
//   coder.Encode(contexts, symbols, elements, predictions, n, &a, &b, &out);
// The decoder: ResidualDecoder::Parse(alphabet, contexts, reader), and for each
// block ResidualBlock::Start(coder, n, reader, &a, &b), then Next() for each
// piece, then Finish().
#ifndef ZIPLLM_CODECS_REFERENCE_RESIDUALS_H_
#define ZIPLLM_CODECS_REFERENCE_RESIDUALS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::residuals {

/// What an element's bits are.
enum class Number : uint8_t {
  kFloat,    ///< sign (the top bit) and magnitude
  kInteger,  ///< of two's complement, or unsigned
};

/// Which symbols there are for elements of a kind, and what they mean.
struct Alphabet {
  struct Symbol {
    uint64_t base = 0;      ///< least magnitude of the difference
    uint8_t low_bits = 0;   ///< raw bits added to it
    bool raw_sign = false;  ///< whether one more raw bit is the sign
    bool negative = false;  ///< the sign where it is not raw
    bool crosses = false;   ///< whether the sign is not the prediction's
    uint8_t raw_bits() const {
      return static_cast<uint8_t>(low_bits + uint8_t{raw_sign});
    }
  };
  /// Differences of octave o (magnitudes 2^o to 2^(o+1) - 1) are told by the
  /// `sub_bits` bits below the first.
  struct Octave {
    uint8_t first = 0;  ///< symbol
    uint8_t sub_bits = 0;
  };

  uint8_t element_size;  ///< in bytes: 1, 2, 4 or 8
  Number number;
  bool raw_signs;    ///< of differences that are not told exactly
  uint8_t crossing;  ///< first of the symbols for elements whose sign differs
  uint16_t size;     ///< how many symbols
  std::array<Octave, 64> octaves;
  std::array<Symbol, 256> symbols;
  /// The symbol that is likely to be as frequent: that of the other sign, else
  /// of the difference before; itself if there is none.
  std::array<uint8_t, 256> before;
};

/// Magnitudes below 2^kDirectBits are told exactly: difference 0 is symbol 0, m
/// is 2 m - 1, -m is 2 m.
inline constexpr int kDirectBits = 4;
inline constexpr size_t kDirectSymbols = (size_t{2} << kDirectBits) - 1;

/// The one for elements of 1, 2, 4 or 8 bytes.
const Alphabet& AlphabetOf(size_t element_size, Number number);

inline constexpr size_t kMaxContexts = 256;
inline constexpr size_t kFewElements = 8192;

// ---- Encoding (linked with encoders alone) ----

/// The symbols of `count` elements; arrays need no alignment.
void ToSymbols(const Alphabet& alphabet, const uint8_t* elements,
               const uint8_t* predictions, size_t count, uint8_t* symbols);

/// log2 of 1 to 2^32 - 1 in 1/65536, a little too small above 8191.
uint32_t FastLog2(uint32_t x);

/// How often each symbol occurs in each context; below 2^32 in all.
class ResidualCounts {
 public:
  /// 1 to kMaxContexts contexts.
  explicit ResidualCounts(size_t contexts) : counts_(contexts) {}
  /// `contexts` are below contexts(). Fastest for many at a time.
  void Add(const uint8_t* contexts, const uint8_t* symbols, size_t count);
  /// Bits that `total` elements like these would take, about, with tables, of
  /// which neighbours two by two share one. Good enough to compare choices of
  /// contexts by.
  uint64_t Cost(const Alphabet& alphabet, uint64_t total) const;
  size_t contexts() const { return counts_.size(); }
  const entropy::ByteCounts& operator[](size_t context) const {
    return counts_[context];
  }
  entropy::ByteCounts& operator[](size_t context) { return counts_[context]; }

 private:
  std::vector<entropy::ByteCounts> counts_;
};

/// How contexts lie: rows of `columns` contexts; those beside and those above
/// one another are likely to be alike. One row (columns = contexts) where
/// contexts are ordered by one quantity.
struct ContextGrid {
  size_t columns = kMaxContexts;
  /// At most as many classes: the fewer, the more of their tables (16 KiB
  /// each to decode) fit the cache.
  size_t max_classes = entropy::kMaxClasses;
};

/// Tables for a frame's blocks. Immutable.
class ResidualEncoder {
 public:
  /// `counts` are those of all symbols that will be encoded, or more.
  ResidualEncoder(const Alphabet& alphabet, const ResidualCounts& counts,
                  const ContextGrid& grid);
  /// Appends what the decoder needs to know.
  void Write(Buffer* out) const { out->Append(written_.span()); }
  /// Bits that what was counted takes, raw bits among them, the tables not.
  uint64_t cost() const { return cost_; }
  /// Bits that the tables take.
  uint64_t table_cost() const { return 8 * uint64_t{written_.size()}; }
  /// Appends a block of `count` (at least 1) elements to `*out`. `a` and `b`
  /// are any other buffers.
  void Encode(const uint8_t* contexts, const uint8_t* symbols,
              const uint8_t* elements, const uint8_t* predictions, size_t count,
              Buffer* a, Buffer* b, Buffer* out) const;

 private:
  const Alphabet* alphabet_;
  std::array<uint8_t, kMaxContexts> class_of_{};
  size_t contexts_;
  Buffer written_;
  // Null for few elements.
  std::unique_ptr<const entropy::ClassEncodeTables> tables_;
  uint64_t cost_ = 0;
};

// ---- Decoding ----

/// Tables for a frame's blocks. Immutable.
class ResidualDecoder {
 public:
  /// Reads what ResidualEncoder::Write wrote for as many contexts. DATA_LOSS
  /// where nothing of the kind is there.
  static absl::StatusOr<ResidualDecoder> Parse(const Alphabet& alphabet,
                                               size_t contexts,
                                               ByteReader& reader);

 private:
  friend class ResidualBlock;
  ResidualDecoder(const Alphabet& alphabet, size_t contexts)
      : alphabet_(&alphabet), contexts_(contexts) {}

  const Alphabet* alphabet_;
  size_t contexts_;
  // By context; kNoClass beyond the last one.
  std::array<uint8_t, kMaxContexts> class_of_;
  // None for few elements.
  std::optional<entropy::ClassDecodeTables> tables_;
};

/// A block being decoded. Thread-compatible.
class ResidualBlock {
 public:
  /// Elements of a piece: a multiple of this, but for the last.
  static constexpr size_t kPiece = entropy::ClassRansDecoder::kPiece;

  /// Takes the coded form of `count` (at least 1) elements from `reader`. Keeps
  /// views of `decoder`, of the reader's data and of `buffer`, which is any.
  static absl::StatusOr<ResidualBlock> Start(const ResidualDecoder& decoder,
                                             size_t count, ByteReader& reader,
                                             Buffer* buffer);
  ResidualBlock(ResidualBlock&&) noexcept;
  ResidualBlock& operator=(ResidualBlock&&) noexcept;
  ~ResidualBlock();
  /// The next `count` elements from their contexts and predictions, which may
  /// be any bytes and lie where `elements` do. What is wrong with the data is
  /// told by Finish.
  void Next(const uint8_t* contexts, const uint8_t* predictions, size_t count,
            uint8_t* elements);
  /// After all elements: whether everything ended as the encoder began.
  absl::Status Finish() const;

 private:
  struct Few;
  ResidualBlock();
  void NextFew(const uint8_t* contexts, const uint8_t* predictions,
               size_t count, uint8_t* elements);

  const ResidualDecoder* decoder_;
  // One of the two.
  std::optional<entropy::ClassRansDecoder> many_;
  std::unique_ptr<Few> few_;
  bool ok_ = true;
  // Raw bits, followed by 16 zero bytes.
  const uint8_t* raw_ = nullptr;
  size_t raw_size_ = 0;
  uint64_t raw_position_ = 0;  // bits taken
};

}  // namespace zipllm::codecs::residuals

#endif  // ZIPLLM_CODECS_REFERENCE_RESIDUALS_H_
