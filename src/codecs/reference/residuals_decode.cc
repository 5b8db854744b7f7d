// Residuals: what encoder and decoder share, and the decoder.
// Format: format-spec/codecs/15-delta.md, "Residuals".
#include <algorithm>
#include <bit>
#include <cstring>

#include "codecs/reference/residuals.h"
#include "entropy/bits.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::residuals {
namespace {

using entropy::BitReader;
using kernels::kProbabilityBits;
using kernels::kSlots;
using kernels::kStateLow;

/// The bits below the first that tell a difference in octave `octave`.
uint8_t SubBits(size_t element_size, int octave) {
  if (element_size != 4) return 1;
  return octave < 24 ? 3 : 0;
}

Alphabet MakeAlphabet(size_t element_size, Number number) {
  Alphabet alphabet{};
  alphabet.element_size = static_cast<uint8_t>(element_size);
  alphabet.number = number;
  alphabet.raw_signs = element_size >= 4;
  const int bits = static_cast<int>(8 * element_size);
  // A difference of n bits has a magnitude up to 2^(n - 1).
  const int octaves = number == Number::kFloat ? bits - 1 : bits;
  size_t next = 0;
  const auto add = [&](const Alphabet::Symbol& symbol) {
    alphabet.symbols[next++] = symbol;
  };
  add({});
  for (uint64_t m = 1; m < uint64_t{1} << kDirectBits; ++m) {
    add({.base = m});
    add({.base = m, .negative = true});
  }
  for (int octave = kDirectBits; octave < octaves; ++octave) {
    const uint8_t sub_bits = SubBits(element_size, octave);
    alphabet.octaves[static_cast<size_t>(octave)] = {static_cast<uint8_t>(next),
                                                     sub_bits};
    const auto low_bits = static_cast<uint8_t>(octave - sub_bits);
    for (uint64_t sub = 0; sub < uint64_t{1} << sub_bits; ++sub) {
      const uint64_t base = ((uint64_t{1} << sub_bits) + sub) << low_bits;
      if (alphabet.raw_signs) {
        add({.base = base, .low_bits = low_bits, .raw_sign = true});
      } else {
        add({.base = base, .low_bits = low_bits});
        add({.base = base, .low_bits = low_bits, .negative = true});
      }
    }
  }
  alphabet.crossing = static_cast<uint8_t>(next);
  if (number == Number::kFloat) {
    add({.crosses = true});
    for (int octave = 0; octave < octaves; ++octave) {
      add({.base = uint64_t{1} << octave,
           .low_bits = static_cast<uint8_t>(octave),
           .raw_sign = true,
           .crosses = true});
    }
  }
  alphabet.size = static_cast<uint16_t>(next);
  return alphabet;
}

constexpr uint8_t kNoClass = 255;

/// An Elias gamma code: a number from 1 on, n zeros, a one, then the n bits
/// below its first. 0 where the bits are none.
uint32_t ReadGamma(BitReader& bits) {
  int n = 0;
  while (n < 16 && bits.Get(1) == 0) ++n;
  return n == 16 ? 0 : (uint32_t{1} << n | bits.Get(n));
}

template <typename Word>
Word Apply(Number number, Word prediction, uint64_t difference, bool crosses) {
  const auto delta = static_cast<Word>(difference);
  if (number == Number::kInteger) return static_cast<Word>(prediction + delta);
  constexpr Word kSign = static_cast<Word>(Word{1} << (8 * sizeof(Word) - 1));
  const auto magnitude =
      static_cast<Word>((prediction + delta) & static_cast<Word>(~kSign));
  const auto sign =
      static_cast<Word>((prediction & kSign) ^ (crosses ? kSign : Word{0}));
  return static_cast<Word>(magnitude | sign);
}

template <typename Word>
void ApplyAll(const Alphabet& alphabet, const uint8_t* symbols,
              const uint8_t* predictions, size_t count, const uint8_t* raw,
              size_t raw_size, uint64_t* raw_position, uint8_t* elements) {
  uint64_t position = *raw_position;
  for (size_t i = 0; i < count; ++i) {
    const Alphabet::Symbol& symbol = alphabet.symbols[symbols[i]];
    uint64_t value = 0;
    bool negative = symbol.negative;
    if (const int width = symbol.raw_bits(); width != 0) {
      const uint8_t* const at =
          raw + std::min<uint64_t>(position / 8, raw_size);
      value = LoadLe<uint64_t>(at) >> (position % 8);
      if (sizeof(Word) == 8 && position % 8 != 0) {
        value |= uint64_t{at[8]} << (64 - position % 8);
      }
      position += static_cast<uint64_t>(width);
      negative |= symbol.raw_sign && ((value >> symbol.low_bits) & 1) != 0;
      value &= (uint64_t{1} << symbol.low_bits) - 1;
    }
    uint64_t difference = symbol.base + value;
    if (negative) difference = 0 - difference;
    StoreLe(elements + i * sizeof(Word),
            Apply(alphabet.number, LoadLe<Word>(predictions + i * sizeof(Word)),
                  difference, symbol.crosses));
  }
  *raw_position = position;
}

}  // namespace

const Alphabet& AlphabetOf(size_t element_size, Number number) {
  static const auto* const all = [] {
    auto* const made = new std::array<std::array<Alphabet, 4>, 2>;
    for (size_t log = 0; log < 4; ++log) {
      for (const Number n : {Number::kFloat, Number::kInteger}) {
        (*made)[static_cast<size_t>(n)][log] =
            MakeAlphabet(size_t{1} << log, n);
      }
    }
    return made;
  }();
  return (*all)[static_cast<size_t>(number)]
               [static_cast<size_t>(std::countr_zero(element_size))];
}

absl::StatusOr<ResidualDecoder> ResidualDecoder::Parse(const Alphabet& alphabet,
                                                       size_t contexts,
                                                       ByteReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  BitReader bits(coded);
  std::array<uint8_t, kMaxContexts> class_of;
  class_of.fill(kNoClass);
  uint32_t classes = 0;
  for (size_t c = 0; c < contexts;) {
    const bool known = classes != 0 && bits.Get(1) != 0;
    const uint32_t number =
        known ? bits.Get(static_cast<int>(std::bit_width(classes - 1)))
              : classes;
    const uint32_t run = ReadGamma(bits);
    if (run == 0 || run > contexts - c || (known && number >= classes) ||
        number == entropy::kMaxClasses) {
      return reader.Error("classes of contexts make no sense");
    }
    classes = std::max(classes, number + 1);
    std::fill_n(class_of.begin() + static_cast<std::ptrdiff_t>(c), run,
                static_cast<uint8_t>(number));
    c += run;
  }
  if (!bits.AtEnd()) return reader.Error("bits do not end where they should");
  ASSIGN_OR_RETURN(const entropy::ClassFrequencies frequencies,
                   entropy::ParseClassFrequencies(reader));
  if (frequencies.size() != classes) {
    return reader.Error(frequencies.size(), " tables for ", classes,
                        " classes");
  }
  for (const entropy::ByteFrequencies& table : frequencies) {
    for (size_t s = alphabet.size; s < table.size(); ++s) {
      if (table[s] != 0) {
        return reader.Error("a frequency for symbol ", s, " of ",
                            alphabet.size);
      }
    }
  }
  ResidualDecoder decoder(alphabet, frequencies);
  decoder.class_of_ = class_of;
  return decoder;
}

absl::StatusOr<ResidualBlock> ResidualBlock::Start(
    const ResidualDecoder& decoder, size_t count, ByteReader& reader,
    Buffer* buffer) {
  ResidualBlock block;
  block.decoder_ = &decoder;
  if (count >= kFewElements) {
    ASSIGN_OR_RETURN(block.many_, entropy::ClassRansDecoder::Start(
                                      decoder.tables_, count, reader));
  } else {
    ASSIGN_OR_RETURN(const uint64_t words, reader.Varint(count));
    ASSIGN_OR_RETURN(block.state_, reader.Le<uint32_t>());
    ASSIGN_OR_RETURN(const ByteSpan bytes, reader.Bytes(2 * words));
    block.words_ = bytes.data();
    block.words_end_ = bytes.data() + bytes.size();
  }
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan raw, reader.Bytes(size));
  buffer->Clear();
  buffer->Append(raw);
  std::memset(buffer->Extend(16), 0, 16);
  block.raw_ = buffer->data();
  block.raw_size_ = raw.size();
  return block;
}

void ResidualBlock::NextSymbols(const uint8_t* classes, size_t count,
                                uint8_t* symbols) {
  if (many_.has_value()) {
    many_->Next(classes, count, symbols);
    return;
  }
  const kernels::ClassSlots* const tables = decoder_->tables_.slots();
  for (size_t i = 0; i < count; ++i) {
    if (classes[i] >= decoder_->tables_.classes()) {
      symbols[i] = 0;
      ok_ = false;
      continue;
    }
    const uint32_t slot = tables[classes[i]][state_ & (kSlots - 1)];
    const uint32_t frequency = (slot & (kSlots - 1)) + 1;
    const uint32_t rank = (slot >> kProbabilityBits) & (kSlots - 1);
    state_ = frequency * (state_ >> kProbabilityBits) + rank;
    if (state_ < kStateLow) {
      uint16_t word = 0;
      if (words_ != words_end_) {
        word = LoadLe<uint16_t>(words_);
        words_ += sizeof word;
      } else {
        ok_ = false;
      }
      state_ = state_ << 16 | word;
    }
    symbols[i] = static_cast<uint8_t>(slot >> 24);
  }
}

void ResidualBlock::Next(const uint8_t* contexts, const uint8_t* predictions,
                         size_t count, uint8_t* elements) {
  constexpr size_t kStep = 16 * kPiece;
  uint8_t classes[kStep];
  uint8_t symbols[kStep];
  const Alphabet& alphabet = *decoder_->alphabet_;
  const size_t size = alphabet.element_size;
  for (size_t at = 0; at < count; at += kStep) {
    const size_t n = std::min(kStep, count - at);
    for (size_t i = 0; i < n; ++i) {
      classes[i] = decoder_->class_of_[contexts[at + i]];
    }
    NextSymbols(classes, n, symbols);
    const auto apply = [&](auto apply_all) {
      apply_all(alphabet, symbols, predictions + at * size, n, raw_, raw_size_,
                &raw_position_, elements + at * size);
    };
    switch (size) {
      case 1:
        apply(ApplyAll<uint8_t>);
        break;
      case 2:
        apply(ApplyAll<uint16_t>);
        break;
      case 4:
        apply(ApplyAll<uint32_t>);
        break;
      default:
        apply(ApplyAll<uint64_t>);
        break;
    }
  }
}

absl::Status ResidualBlock::Finish() const {
  if (many_.has_value()) RETURN_IF_ERROR(many_->Finish());
  const bool few_done =
      many_.has_value() || (words_ == words_end_ && state_ == kStateLow);
  const bool raw_done = (raw_position_ + 7) / 8 == raw_size_ &&
                        (raw_position_ % 8 == 0 ||
                         raw_[raw_size_ - 1] >> (raw_position_ % 8) == 0);
  if (!ok_ || !few_done || !raw_done) {
    return DataLoss("residuals do not end where they should");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::residuals
