// Kind number: numbers written alike, perhaps as differences to those beside.
#include <algorithm>

#include "codecs/columns/number_format.h"
#include "codecs/columns/numbers.h"
#include "entropy/bits.h"
#include "entropy/class_rans.h"

namespace zipllm::codecs::columns {
namespace {

using entropy::ZigZag64;

/// Values from which the format is guessed.
constexpr size_t kLook = 1024;

/// How a value would be written, if it is a number.
struct Look {
  bool is_number = true;
  bool has_minus = false;
  bool has_lower = false;
  bool has_upper = false;
  bool has_padding_zero = false;
  bool has_spaces = false;
  int fraction = -1;
};

Look LookAt(ByteSpan text) {
  Look look;
  size_t i = 0;
  if (!text.empty() && text[0] == '-') {
    look.has_minus = true;
    ++i;
  }
  while (i < text.size() && text[i] == ' ') {
    look.has_spaces = true;
    ++i;
  }
  look.is_number = i < text.size() && text.size() <= kMaxNumberBytes;
  look.has_padding_zero =
      i + 1 < text.size() && text[i] == '0' && text[i + 1] != '.';
  for (; i < text.size() && look.is_number; ++i) {
    const uint8_t byte = text[i];
    if (byte >= '0' && byte <= '9') {
      look.fraction += look.fraction >= 0;
    } else if (byte >= 'a' && byte <= 'f') {
      look.has_lower = true;
    } else if (byte >= 'A' && byte <= 'F') {
      look.has_upper = true;
    } else if (byte == '.' && look.fraction < 0) {
      look.fraction = 0;
    } else {
      look.is_number = false;
    }
  }
  return look;
}

/// The formats that fit most values.
std::vector<NumberFormat> GuessFormats(const Values& values) {
  const size_t step = values.size() / kLook + 1;
  size_t looked = 0;
  size_t numbers = 0;
  size_t letters = 0;
  size_t fractions = 0;
  size_t zeros = 0;
  size_t spaces = 0;
  size_t minus = 0;
  bool upper = false;
  int least_fraction = NumberFormat::kMaxScale;
  int most_fraction = 0;
  std::array<size_t, kMaxNumberBytes + 1> widths{};
  for (size_t i = 0; i < values.size(); i += step, ++looked) {
    const Look look = LookAt(values[i]);
    if (!look.is_number) continue;
    ++numbers;
    ++widths[values[i].size()];
    letters += look.has_lower || look.has_upper;
    upper |= look.has_upper;
    fractions += look.fraction > 0;
    zeros += look.has_padding_zero;
    spaces += look.has_spaces;
    minus += look.has_minus;
    least_fraction = std::min(least_fraction, std::max(look.fraction, 0));
    most_fraction = std::max(most_fraction, look.fraction);
  }
  std::vector<NumberFormat> formats;
  if (numbers * 2 < looked) return formats;
  const auto width =
      static_cast<uint8_t>(std::ranges::max_element(widths) - widths.begin());
  NumberFormat format;
  if (minus != 0) format.flags |= NumberFormat::kSigned;
  if (letters * 16 > numbers && fractions == 0) {
    format.flags = NumberFormat::kHex;
    if (upper) format.flags |= NumberFormat::kUpper;
    if (width <= NumberFormat::kMaxWidth) {
      format.width = width;
      formats.push_back(format);
    }
    format.width = 0;
    formats.push_back(format);
    return formats;
  }
  if (fractions * 4 > numbers && most_fraction <= NumberFormat::kMaxScale) {
    format.scale = static_cast<uint8_t>(most_fraction);
    if (least_fraction != most_fraction) {
      format.flags |= NumberFormat::kTrimmed;
    }
    formats.push_back(format);
    return formats;
  }
  if (zeros * 16 > numbers || spaces * 16 > numbers) {
    NumberFormat padded;
    if (spaces > zeros) padded.flags = NumberFormat::kSpaces;
    padded.width = std::min(width, NumberFormat::kMaxWidth);
    formats.push_back(padded);
    return formats;
  }
  formats.push_back(format);
  return formats;
}

/// Bytes that numbers take by rANS, about.
uint64_t CostOf(std::span<const uint64_t> numbers) {
  entropy::ByteCounts counts{};
  uint64_t low_bits = 0;
  for (const uint64_t number : numbers) {
    const uint8_t magnitude = MagnitudeOf(number);
    ++counts[magnitude];
    low_bits += static_cast<uint64_t>(LowBits(magnitude));
  }
  return ((entropy::EntropyCost(counts) >> 16) + low_bits) / 8;
}

struct Parsed {
  Numbers numbers;  // two's complement
  std::vector<uint32_t> rows;
  Exceptions exceptions;
};

Parsed ParseAll(const Values& values, const NumberFormat& format) {
  Parsed parsed;
  for (size_t i = 0; i < values.size(); ++i) {
    if (const auto number = ParseNumber(format, values[i])) {
      parsed.numbers.push_back(*number);
      parsed.rows.push_back(static_cast<uint32_t>(i));
    } else {
      parsed.exceptions.Add(i, values[i]);
    }
  }
  return parsed;
}

/// Replaces the numbers by differences to those beside, where that is best;
/// returns 1 + which column that is, or 0.
size_t MakeRelative(const NumberFormat& format, const EncodeContext& context,
                    size_t count, Parsed* parsed) {
  const size_t step = parsed->rows.size() / kLook + 1;
  Numbers plain;
  Numbers steps;
  for (size_t k = step; k < parsed->numbers.size(); k += step) {
    plain.push_back(ZigZag64(parsed->numbers[k]));
    steps.push_back(ZigZag64(parsed->numbers[k] - parsed->numbers[k - 1]));
  }
  uint64_t best = std::min(CostOf(plain), CostOf(steps)) * 7 / 8;
  size_t chosen = 0;
  const auto number_beside = [&](const Beside& beside, uint32_t row) {
    return ParseNumber(format, (*beside.values)[BesideIndex(beside, row)]);
  };
  for (size_t which = 0; which < context.beside.size(); ++which) {
    const Beside& beside = context.beside[which];
    if (!IsSound(beside, count) ||
        !number_beside(beside, parsed->rows[0]).has_value()) {
      continue;
    }
    Numbers differences;
    for (size_t k = step; k < parsed->numbers.size(); k += step) {
      differences.push_back(
          ZigZag64(parsed->numbers[k] -
                   number_beside(beside, parsed->rows[k]).value_or(0)));
    }
    const uint64_t cost = CostOf(differences);
    if (cost >= best) continue;
    best = cost;
    chosen = which + 1;
  }
  if (chosen == 0) return 0;
  const Beside& beside = context.beside[chosen - 1];
  for (size_t k = 0; k < parsed->numbers.size(); ++k) {
    parsed->numbers[k] -= number_beside(beside, parsed->rows[k]).value_or(0);
  }
  return chosen;
}

bool Encode(const Values& values, const EncodeContext& context, Buffer* out) {
  std::optional<Parsed> best;
  NumberFormat format;
  for (const NumberFormat& guess : GuessFormats(values)) {
    Parsed parsed = ParseAll(values, guess);
    if (best.has_value() &&
        best->exceptions.size() <= parsed.exceptions.size()) {
      continue;
    }
    best = std::move(parsed);
    format = guess;
  }
  if (!best.has_value() || best->numbers.size() * 2 < values.size() ||
      best->numbers.empty()) {
    return false;
  }
  const size_t relative = MakeRelative(format, context, values.size(), &*best);
  if (relative != 0 || format.Is(NumberFormat::kSigned)) {
    for (uint64_t& number : best->numbers) number = ZigZag64(number);
  }
  EncodeContext of_numbers = context;
  RowsBeside rows_beside;
  if (best->exceptions.size() != 0) {
    if (!rows_beside.Set(context.beside, best->rows, values.size()).ok()) {
      return false;
    }
    of_numbers.beside = rows_beside.besides();
  }
  ByteWriter writer(out);
  writer.Le(format.flags);
  writer.Le(format.width);
  writer.Le(format.scale);
  writer.Varint(relative);
  best->exceptions.Encode(context, out);
  EncodeNumbers(best->numbers, of_numbers, out);
  return true;
}

}  // namespace

extern const KindEncoder kNumberEncoder = {.encode = Encode};

}  // namespace zipllm::codecs::columns
