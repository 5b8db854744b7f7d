// Residuals: what encoder and decoder share, and the decoder.
// Format: format-spec/codecs/15-delta.md, "Residuals".
#include <algorithm>
#include <bit>
#include <cstring>

#include "codecs/reference/residuals.h"
#include "codecs/reference/residuals_models.h"
#include "entropy/binary_coder.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::residuals {
namespace {

using entropy::BinaryDecoder;

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
  uint8_t positive = 0;
  for (size_t s = 0; s < next; ++s) {
    const auto self = static_cast<uint8_t>(s);
    const Alphabet::Symbol& symbol = alphabet.symbols[s];
    if (symbol.negative) {
      alphabet.before[s] = static_cast<uint8_t>(s - 1);
    } else {
      alphabet.before[s] = s == alphabet.crossing ? self : positive;
      positive = self;
    }
  }
  return alphabet;
}

constexpr uint8_t kNoClass = 255;

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

/// The elements whose symbols leave something to say.
template <typename Word>
void ApplyInexact(const Alphabet& alphabet, const uint8_t* symbols,
                  const uint8_t* predictions, size_t count, const uint8_t* raw,
                  size_t raw_size, uint64_t* raw_position, uint8_t* elements) {
  uint64_t position = *raw_position;
  ForInexact(symbols, count, [&](size_t i) {
    const Alphabet::Symbol& symbol = alphabet.symbols[symbols[i]];
    const uint8_t* const at = raw + std::min<uint64_t>(position / 8, raw_size);
    uint64_t value = LoadLe<uint64_t>(at) >> (position % 8);
    if (sizeof(Word) == 8 && position % 8 != 0) {
      value |= uint64_t{at[8]} << (64 - position % 8);
    }
    position += symbol.raw_bits();
    const bool negative = symbol.raw_sign
                              ? ((value >> symbol.low_bits) & 1) != 0
                              : symbol.negative;
    const uint64_t magnitude =
        symbol.base + (value & ((uint64_t{1} << symbol.low_bits) - 1));
    StoreLe(elements + i * sizeof(Word),
            Apply(alphabet.number, LoadLe<Word>(predictions + i * sizeof(Word)),
                  negative ? 0 - magnitude : magnitude, symbol.crosses));
  });
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
  ResidualDecoder decoder(alphabet, contexts);
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  if (size == 0) return decoder;
  ASSIGN_OR_RETURN(const ByteSpan coded, reader.Bytes(size));
  BinaryDecoder bits(coded.data(), coded.size());
  decoder.class_of_.fill(kNoClass);
  const std::span class_of = std::span(decoder.class_of_).first(contexts);
  std::ranges::fill(class_of, uint8_t{0});
  const size_t classes = CodeClasses(bits, class_of);
  if (classes == 0) return reader.Error("classes of contexts make no sense");
  entropy::ClassFrequencies tables;
  LevelCoder level_coder(alphabet, bits);
  for (size_t c = 0; c < classes; ++c) {
    ClassLevels levels{};
    if (!level_coder.Code(&levels)) {
      return reader.Error("a level is out of range");
    }
    tables.push_back(FrequenciesOf(levels));
  }
  if (!bits.IsAtEnd()) {
    return reader.Error("tables do not end where they should");
  }
  decoder.tables_.emplace(tables);
  return decoder;
}

struct ResidualBlock::Few {
  Few(size_t contexts, ByteSpan code)
      : bits(code.data(), code.size()), coder(contexts, bits) {}
  BinaryDecoder bits;
  FewCoder<BinaryDecoder> coder;
};

ResidualBlock::ResidualBlock() = default;
ResidualBlock::ResidualBlock(ResidualBlock&&) noexcept = default;
ResidualBlock& ResidualBlock::operator=(ResidualBlock&&) noexcept = default;
ResidualBlock::~ResidualBlock() = default;

absl::StatusOr<ResidualBlock> ResidualBlock::Start(
    const ResidualDecoder& decoder, size_t count, ByteReader& reader,
    Buffer* buffer) {
  ResidualBlock block;
  block.decoder_ = &decoder;
  if (decoder.tables_.has_value()) {
    ASSIGN_OR_RETURN(block.many_, entropy::ClassRansDecoder::Start(
                                      *decoder.tables_, count, reader));
  }
  ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan bits, reader.Bytes(size));
  if (!decoder.tables_.has_value()) {
    block.few_ = std::make_unique<Few>(decoder.contexts_, bits);
    return block;
  }
  buffer->Clear();
  buffer->Append(bits);
  std::memset(buffer->Extend(16), 0, 16);
  block.raw_ = buffer->data();
  block.raw_size_ = bits.size();
  return block;
}

void ResidualBlock::NextFew(const uint8_t* contexts, const uint8_t* predictions,
                            size_t count, uint8_t* elements) {
  const Alphabet& alphabet = *decoder_->alphabet_;
  ForWord(alphabet, [&]<typename Word>() {
    for (size_t i = 0; i < count; ++i) {
      Difference d;
      if (contexts[i] < decoder_->contexts_) {
        d = few_->coder.Code({}, contexts[i]);
      } else {
        ok_ = false;
      }
      StoreLe(
          elements + i * sizeof(Word),
          Apply(alphabet.number, LoadLe<Word>(predictions + i * sizeof(Word)),
                d.negative ? 0 - d.magnitude : d.magnitude, d.crosses));
    }
  });
}

void ResidualBlock::Next(const uint8_t* contexts, const uint8_t* predictions,
                         size_t count, uint8_t* elements) {
  if (few_ != nullptr) {
    NextFew(contexts, predictions, count, elements);
    return;
  }
  constexpr size_t kStep = 16 * kPiece;
  alignas(64) uint8_t classes[kStep];
  alignas(64) uint8_t symbols[kStep];
  // Predictions may lie where elements go: those still wanted are kept.
  alignas(64) uint8_t applied[8 * kStep];
  const kernels::Table& kernel = kernels::Best();
  const Alphabet& alphabet = *decoder_->alphabet_;
  const size_t size = alphabet.element_size;
  for (size_t at = 0; at < count; at += kStep) {
    const size_t n = std::min(kStep, count - at);
    kernel.map_bytes(contexts + at, n, decoder_->class_of_.data(), classes);
    many_->Next(classes, n, symbols);
    const uint8_t* const from = predictions + at * size;
    uint8_t* const to = elements + at * size;
    uint8_t* const made = from == to ? applied : to;
    kernel.residual_apply(symbols, from, size,
                          alphabet.number == Number::kFloat, n, made);
    ForWord(alphabet, [&]<typename Word>() {
      ApplyInexact<Word>(alphabet, symbols, from, n, raw_, raw_size_,
                         &raw_position_, made);
    });
    if (made != to) std::memcpy(to, made, n * size);
  }
}

absl::Status ResidualBlock::Finish() const {
  if (many_.has_value()) RETURN_IF_ERROR(many_->Finish());
  const bool done = few_ != nullptr
                        ? few_->bits.IsAtEnd()
                        : (raw_position_ + 7) / 8 == raw_size_ &&
                              (raw_position_ % 8 == 0 ||
                               raw_[raw_size_ - 1] >> (raw_position_ % 8) == 0);
  if (!ok_ || !done) {
    return DataLoss("residuals do not end where they should");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::residuals
