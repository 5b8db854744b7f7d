#include "codecs/generators.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "quantizers/quantizer.h"

namespace zipllm::codecs {
namespace {

/// Sign, exponent and mantissa of a float type, in bits.
struct FloatFormat {
  int exponent_bits;
  int mantissa_bits;
};

FloatFormat FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kC128:
    case DType::kF64Be:
      return {11, 52};
    case DType::kF32:
    case DType::kC64:
    case DType::kF32Be:
      return {8, 23};
    case DType::kF16:
    case DType::kF16Be:
      return {5, 10};
    case DType::kBF16:
    case DType::kBF16Be:
      return {8, 7};
    case DType::kF8E4M3:
      return {4, 3};
    case DType::kF8E5M2:
      return {5, 2};
    default:
      return {0, 0};
  }
}

bool IsBigEndian(DType dtype) {
  return dtype == DType::kF64Be || dtype == DType::kF32Be ||
         dtype == DType::kF16Be || dtype == DType::kBF16Be;
}

/// About normal with a deviation of 1/16, by adding uniform numbers.
double Gaussian(Random& random) {
  int64_t sum = 0;
  for (int i = 0; i < 12; ++i) {
    sum += static_cast<int64_t>(random.Next() >> 11) - (int64_t{1} << 52);
  }
  return static_cast<double>(sum) / static_cast<double>(int64_t{1} << 57);
}

/// Bits of `value` in the format, cut; 0 where it is too small, infinity where
/// it is too large.
uint64_t ToBits(double value, FloatFormat format) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> 52 & 0x7FF) - 1023 + bias;
  const uint64_t sign = (bits >> 63)
                        << (format.exponent_bits + format.mantissa_bits);
  if (exponent <= 0) return sign;
  const int infinity = (1 << format.exponent_bits) - 1;
  if (exponent >= infinity) {
    return sign | static_cast<uint64_t>(infinity) << format.mantissa_bits;
  }
  const uint64_t mantissa =
      (bits & ((uint64_t{1} << 52) - 1)) >> (52 - format.mantissa_bits);
  return sign | static_cast<uint64_t>(exponent) << format.mantissa_bits |
         mantissa;
}

uint64_t SpecialBits(Random& random, FloatFormat format) {
  const uint64_t mantissa =
      random.Next() & ((uint64_t{1} << format.mantissa_bits) - 1);
  const uint64_t infinity = ((uint64_t{1} << format.exponent_bits) - 1)
                            << format.mantissa_bits;
  const uint64_t sign = (random.Next() & 1)
                        << (format.exponent_bits + format.mantissa_bits);
  switch (random.Below(5)) {
    case 0:
      return sign | infinity | mantissa;  // mostly NaN
    case 1:
      return sign | infinity;
    case 2:
      return sign | mantissa;  // denormal
    case 3:
      return sign;  // zero
    default:
      return ToBits(Gaussian(random), format);
  }
}

std::vector<uint8_t> MakeText(size_t size, Random& random) {
  static constexpr std::string_view kWords[] = {"the",
                                                "weight",
                                                "of ",
                                                "layer",
                                                "attention",
                                                "\n",
                                                ", ",
                                                "vector",
                                                "model",
                                                "12",
                                                "3.5",
                                                "head",
                                                ". ",
                                                "tokens",
                                                "and",
                                                "\"key\": ",
                                                "norm",
                                                "a",
                                                "\xC3\xA9t\xC3\xA9"};
  std::vector<uint8_t> text;
  while (text.size() < size) {
    const std::string_view word = kWords[random.Below(std::size(kWords))];
    text.insert(text.end(), word.begin(), word.end());
    text.push_back(' ');
  }
  text.resize(size);
  return text;
}

std::vector<uint8_t> MakeLines(size_t size, Random& random) {
  static constexpr std::string_view kMessages[] = {
      "INFO scheduler: job ", "DEBUG cache: evicted entry ",
      "WARN net.Peer: no answer from 10.0.0.7, attempt "};
  std::string text;
  uint64_t time = 1000;
  for (uint64_t job = 4711; text.size() < size; ++job) {
    time += random.Below(3);
    text += "2026-11-22 12:" + std::to_string(100 + time / 60 % 60).substr(1) +
            ":" + std::to_string(100 + time % 60).substr(1) + " [worker-" +
            std::to_string(job % 4) + "] ";
    text += kMessages[random.Below(std::size(kMessages))];
    text += std::to_string(job) + " took 0." +
            std::to_string(random.Below(1000)) + " s\n";
  }
  text.resize(size);
  return {text.begin(), text.end()};
}

/// The value of `bits`; of NaN and infinity what they would be as numbers.
double FromBits(uint64_t bits, FloatFormat format) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>(bits >> format.mantissa_bits &
                                         ((1u << format.exponent_bits) - 1));
  const auto fraction =
      static_cast<double>(bits & ((uint64_t{1} << format.mantissa_bits) - 1));
  const double one = std::ldexp(1.0, format.mantissa_bits);
  const double value =
      std::ldexp(fraction + (exponent != 0 ? one : 0.0),
                 std::max(exponent, 1) - bias - format.mantissa_bits);
  const bool negative =
      (bits >> (format.exponent_bits + format.mantissa_bits) & 1) != 0;
  return negative ? -value : value;
}

/// An array of numbers of a type: floats (also the parts of complex ones), or
/// integers of up to 8 bytes.
class Numbers {
 public:
  Numbers(DType dtype, std::vector<uint8_t>* bytes)
      : format_(FormatOf(dtype)),
        big_endian_(IsBigEndian(dtype)),
        bytes_(*bytes) {
    width_ = is_float() ? static_cast<size_t>(1 + format_.exponent_bits +
                                              format_.mantissa_bits) /
                              8
                        : std::min<size_t>(ElementBytes(dtype), 8);
  }
  bool is_float() const { return format_.exponent_bits != 0; }
  const FloatFormat& format() const { return format_; }
  size_t size() const { return bytes_.size() / width_; }

  uint64_t bits(size_t i) const {
    uint64_t bits = 0;
    for (size_t b = 0; b < width_; ++b) {
      bits |= uint64_t{bytes_[At(i, b)]} << (8 * b);
    }
    return bits;
  }
  void set_bits(size_t i, uint64_t bits) {
    for (size_t b = 0; b < width_; ++b) {
      bytes_[At(i, b)] = static_cast<uint8_t>(bits >> (8 * b));
    }
  }
  double value(size_t i) const {
    if (is_float()) return FromBits(bits(i), format_);
    const int unused = 64 - 8 * static_cast<int>(width_);
    return static_cast<double>(static_cast<int64_t>(bits(i) << unused) >>
                               unused);
  }
  /// Near `value`; nothing where that is far outside of the type.
  void set_value(size_t i, double value) {
    if (is_float()) {
      set_bits(i, ToBits(value, format_));
    } else if (std::abs(value) < 0x1p62) {
      set_bits(i, static_cast<uint64_t>(static_cast<int64_t>(value)));
    }
  }
  /// Goes `steps` to the neighbour (negative: the one below).
  void Step(size_t i, int64_t steps) {
    if (!is_float()) {
      set_bits(i, bits(i) + static_cast<uint64_t>(steps));
      return;
    }
    const uint64_t sign = uint64_t{1} << (8 * width_ - 1);
    const auto magnitude = static_cast<int64_t>(bits(i) & (sign - 1));
    const int64_t ordered =
        ((bits(i) & sign) != 0 ? -magnitude : magnitude) + steps;
    if (static_cast<uint64_t>(std::abs(ordered)) >= sign) return;
    set_bits(
        i, static_cast<uint64_t>(std::abs(ordered)) | (ordered < 0 ? sign : 0));
  }

 private:
  size_t At(size_t i, size_t byte) const {
    return i * width_ + (big_endian_ ? width_ - 1 - byte : byte);
  }

  const FloatFormat format_;
  const bool big_endian_;
  size_t width_;
  std::vector<uint8_t>& bytes_;
};

/// A few ulps for two elements in five.
void StepSome(Random& random, Numbers& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (random.Below(5) >= 2) continue;
    const auto steps = static_cast<int64_t>(1 + random.Below(3));
    numbers.Step(i, random.Next() % 2 == 0 ? steps : -steps);
  }
}

/// `numbers` in another type, with bits of their own below the ulp where it has
/// room for them.
std::vector<uint8_t> Cast(Random& random, const Numbers& numbers, DType to) {
  std::vector<uint8_t> bytes(numbers.size() * ElementBytes(to));
  Numbers cast(to, &bytes);
  const int room =
      cast.format().mantissa_bits - numbers.format().mantissa_bits - 1;
  for (size_t i = 0; i < cast.size(); ++i) {
    cast.set_value(i, numbers.value(i));
    if (!numbers.is_float() || room <= 0) continue;
    const int64_t most = int64_t{1} << room;
    cast.Step(i, static_cast<int64_t>(
                     random.Below(static_cast<size_t>(2 * most - 1))) -
                     most + 1);
  }
  return bytes;
}

}  // namespace

std::string_view KindName(Kind kind) {
  static constexpr std::string_view kNames[] = {"random",   "text", "gaussian",
                                                "constant", "ramp", "sparse",
                                                "special",  "lines"};
  return kNames[static_cast<size_t>(kind)];
}

size_t ElementBytes(DType dtype) { return FindDType(dtype)->block_bytes; }

std::vector<uint8_t> MakeInput(Kind kind, DType dtype, size_t elements,
                               uint64_t seed) {
  Random random(seed);
  const size_t width = ElementBytes(dtype);
  const size_t size = width * elements;
  if (kind == Kind::kText) return MakeText(size, random);
  if (kind == Kind::kLines) return MakeLines(size, random);

  const FloatFormat format = FormatOf(dtype);
  const size_t float_bytes =
      static_cast<size_t>(1 + format.exponent_bits + format.mantissa_bits) / 8;
  std::vector<uint8_t> bytes(size);
  const auto fill = [&](size_t step, auto number) {
    for (size_t i = 0; i + step <= size; i += step) {
      const uint64_t value = number(i / step);
      std::memcpy(bytes.data() + i, &value, std::min<size_t>(step, 8));
    }
  };
  const auto small = [&](size_t) {
    return static_cast<uint64_t>(static_cast<int64_t>(Gaussian(random) * 256));
  };
  switch (kind) {
    case Kind::kRandom:
      fill(1, [&](size_t) { return random.Next(); });
      break;
    case Kind::kGaussian:
      if (format.exponent_bits != 0) {
        fill(float_bytes,
             [&](size_t) { return ToBits(Gaussian(random), format); });
      } else {
        fill(width, small);
      }
      break;
    case Kind::kSpecial:
      if (format.exponent_bits != 0) {
        fill(float_bytes, [&](size_t) { return SpecialBits(random, format); });
      } else {
        fill(width, [&](size_t i) { return i % 3 == 0 ? ~uint64_t{0} : i; });
      }
      break;
    case Kind::kConstant:
      fill(width, [&](size_t) { return uint64_t{0x3C2A190807060504}; });
      break;
    case Kind::kRamp:
      fill(width, [&](size_t i) { return uint64_t{100000} + i; });
      break;
    case Kind::kSparse:
      fill(width,
           [&](size_t) { return random.Below(50) == 0 ? random.Next() : 0; });
      break;
    case Kind::kText:
    case Kind::kLines:
      break;
  }
  if (IsBigEndian(dtype)) {
    for (size_t i = 0; i < size; i += width) {
      std::reverse(bytes.data() + i, bytes.data() + i + width);
    }
  }
  return bytes;
}

std::string_view BesideName(Beside beside) {
  static constexpr std::string_view kNames[] = {
      "nothing", "equal",         "base",    "other_dtype", "two",
      "moments", "second_moment", "factors", "scales",      "weights"};
  return kNames[static_cast<size_t>(beside)];
}

EncodeRequest Input::Request(size_t block_size, int level) const {
  return {.data = data,
          .block_size = block_size,
          .dtype = dtype,
          .level = level,
          .row = row,
          .references = references,
          .is_text = dtype == DType::kBytes};
}

Input PutBeside(Beside beside, DType dtype, std::vector<uint8_t> data,
                uint64_t seed) {
  constexpr size_t kRow = 60;  // elements
  constexpr size_t kRank = 2;
  Random random(seed ^ 0xB0B);
  Input input;
  input.dtype = dtype;
  input.data = std::move(data);
  if (beside == Beside::kNothing) return input;
  const size_t elements = input.data.size() / ElementBytes(dtype);
  const size_t row = std::min(kRow, elements);
  input.row = row;
  const Numbers target(dtype, &input.data);
  // Complex numbers have two a place, and the arrays of F32 one for both.
  const size_t parts = target.size() / std::max<size_t>(elements, 1);
  const auto add = [&input](Role role, DType type, std::vector<uint8_t> bytes,
                            uint64_t factor_row = 0) {
    input.arrays.push_back(std::move(bytes));
    input.references.push_back({role, type, input.arrays.back(), factor_row});
  };
  // The input with each number moved by what `by` says.
  const auto moved = [&](auto by) {
    std::vector<uint8_t> bytes = input.data;
    Numbers numbers(dtype, &bytes);
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers.set_value(i, target.value(i) + by(i / parts));
    }
    return bytes;
  };
  std::vector<uint8_t> floats(elements * 4);
  Numbers floats_numbers(DType::kF32, &floats);
  // Sizes that suit the weights of Kind::kGaussian; integers move by a few.
  const double unit = target.is_float() ? 0x1p-4 : 0x1p6;
  switch (beside) {
    case Beside::kNothing:
      break;
    case Beside::kEqual:
      add(Role::kBase, dtype, input.data);
      break;
    case Beside::kBase:
    case Beside::kBaseOtherDType: {
      std::vector<uint8_t> bytes = input.data;
      Numbers numbers(dtype, &bytes);
      StepSome(random, numbers);
      if (beside == Beside::kBase) {
        add(Role::kBase, dtype, std::move(bytes));
      } else if (parts == 1) {
        const DType other = dtype == DType::kF32 ? DType::kBF16 : DType::kF32;
        add(Role::kBase, other, Cast(random, numbers, other));
      }
      break;
    }
    case Beside::kScales: {
      const size_t packed = dtype == DType::kU8    ? 2
                            : dtype == DType::kI32 ? 8
                                                   : 1;
      const size_t weights = elements * packed;
      input.row = row * packed;
      std::vector<uint8_t> scales((elements + row - 1) / row * 4);
      Numbers scales_numbers(DType::kF32, &scales);
      for (size_t r = 0; r < scales_numbers.size(); ++r) {
        scales_numbers.set_value(
            r, static_cast<double>(8 + random.Below(8)) * 0x1p-10);
      }
      std::vector<uint8_t> base(weights * 4);
      Numbers base_numbers(DType::kF32, &base);
      for (size_t i = 0; i < weights; ++i) {
        const uint8_t byte = input.data[i * input.data.size() / weights];
        const double code =
            packed == 1 ? target.value(i)
                        : static_cast<double>(byte >> (i % 2 * 4) & 15) - 8;
        // Most round to the code.
        const double away =
            random.Below(10) == 0 ? 1 : static_cast<double>(random.Below(9));
        const double off =
            target.is_float() ? code * away * 0x1p-8 : (away - 4) * 0x1p-4;
        base_numbers.set_value(
            i, (code + off) * scales_numbers.value(i / packed / row));
      }
      add(Role::kBase, DType::kF32, std::move(base));
      add(Role::kScale, DType::kF32, std::move(scales), 1);
      break;
    }
    case Beside::kWeights: {
      const DTypeInfo& info = *FindDType(dtype);
      input.row = info.block_elements;
      const size_t count = elements * info.block_elements;
      std::vector<float> weights(count);
      for (float& weight : weights) {
        weight = static_cast<float>(Gaussian(random));
      }
      for (const auto* quantizer : quantizers::AllQuantizers()) {
        if (quantizer->dtype != dtype || quantizer->needs_importance) continue;
        quantizer->Best()(weights.data(), elements, info.block_elements,
                          nullptr, input.data.data());
      }
      // A few are not as they would be made.
      for (size_t i = 0; i < elements; i += 20) {
        const size_t at = i * info.block_bytes + random.Below(info.block_bytes);
        input.data[at] = static_cast<uint8_t>(input.data[at] ^ 1);
      }
      std::vector<uint8_t> base(4 * count);
      std::memcpy(base.data(), weights.data(), base.size());
      add(Role::kBase, DType::kF32, std::move(base));
      break;
    }
    case Beside::kTwoBases: {
      std::vector<double> apart(elements);
      for (double& a : apart) a = Gaussian(random) * unit;
      add(Role::kBase, dtype, moved([&](size_t i) { return apart[i]; }));
      add(Role::kBase, dtype, moved([&](size_t i) { return -apart[i]; }));
      break;
    }
    case Beside::kMoments: {
      std::vector<uint8_t> squares(elements * 4);
      Numbers squares_numbers(DType::kF32, &squares);
      std::vector<double> steps(elements);
      for (size_t i = 0; i < elements; ++i) {
        // Rows have scales of their own.
        const double scale =
            std::ldexp(1.0, -10 - static_cast<int>(i / row % 4));
        floats_numbers.set_value(i, Gaussian(random) * scale);
        squares_numbers.set_value(
            i, scale * scale *
                   std::ldexp(static_cast<double>(2 + random.Below(6)), -11));
        steps[i] = floats_numbers.value(i) /
                   std::sqrt(squares_numbers.value(i)) * unit * 0x1p-8;
      }
      add(Role::kBase, dtype, moved([&](size_t i) { return steps[i]; }));
      add(Role::kFirstMoment, DType::kF32, std::move(floats));
      add(Role::kSecondMoment, DType::kF32, std::move(squares));
      break;
    }
    case Beside::kSecondMoment:
      for (size_t i = 0; i < elements; ++i) {
        const double value = target.value(i * parts);
        floats_numbers.set_value(
            i, value * value *
                   std::ldexp(static_cast<double>(4 + random.Below(12)), -3));
      }
      add(Role::kSecondMoment, DType::kF32, std::move(floats));
      break;
    case Beside::kFactors: {
      const size_t rows = (elements + row - 1) / std::max<size_t>(row, 1);
      std::vector<uint8_t> a(kRank * row * 4);
      std::vector<uint8_t> b(rows * kRank * 4);
      Numbers a_numbers(DType::kF32, &a);
      Numbers b_numbers(DType::kF32, &b);
      for (Numbers* numbers : {&a_numbers, &b_numbers}) {
        for (size_t i = 0; i < numbers->size(); ++i) {
          numbers->set_value(i, Gaussian(random));
        }
      }
      add(Role::kBase, dtype, moved([&](size_t i) {
            double sum = 0;
            for (size_t k = 0; k < kRank; ++k) {
              sum += b_numbers.value(i / row * kRank + k) *
                     a_numbers.value(k * row + i % row);
            }
            return -sum;
          }));
      add(Role::kFactor, DType::kF32, std::move(a), row);
      add(Role::kFactor, DType::kF32, std::move(b), kRank);
      break;
    }
  }
  return input;
}

size_t WeightsAnElement(const EncodeRequest& request) {
  const auto is_scale = [](const Reference& r) {
    return r.role == Role::kScale;
  };
  if (std::ranges::none_of(request.references, is_scale)) return 1;
  const size_t elements = request.data.size() / ElementBytes(request.dtype);
  for (const Reference& reference : request.references) {
    if (reference.role != Role::kBase) continue;
    const size_t weights =
        reference.data.size() / ElementBytes(reference.dtype);
    return std::max<size_t>(weights / std::max<size_t>(elements, 1), 1);
  }
  return 1;
}

RequestTensor::RequestTensor(const EncodeRequest& request) : request_(request) {
  const auto elements_of = [](DType type, size_t bytes) {
    const DTypeInfo& info = *FindDType(type);
    return uint64_t{bytes / info.block_bytes * info.block_elements};
  };
  dtype = request.dtype;
  weights_an_element = static_cast<uint32_t>(WeightsAnElement(request));
  elements =
      elements_of(dtype, request.data.size()) * uint64_t{weights_an_element};
  row = request.row;
  level = request.level;
  for (const Reference& reference : request.references) {
    references.push_back({reference.role, reference.dtype,
                          elements_of(reference.dtype, reference.data.size()),
                          reference.row});
  }
}

absl::Status RequestTensor::Read(int which, uint64_t begin,
                                 MutableByteSpan out) const {
  const bool is_tensor = which < 0;
  const Reference* reference =
      is_tensor ? nullptr : &request_.references[static_cast<size_t>(which)];
  const ByteSpan data = is_tensor ? request_.data : reference->data;
  const DTypeInfo& info =
      *FindDType(is_tensor ? request_.dtype : reference->dtype);
  const size_t weights =
      info.block_elements * (is_tensor ? weights_an_element : 1);
  const size_t at = begin / weights * info.block_bytes;
  if (out.size() % info.block_bytes != 0 || at > data.size() ||
      out.size() > data.size() - at) {
    return InvalidArgument("Read of ", out.size(), " bytes at ", at, " of ",
                           data.size());
  }
  std::ranges::copy(data.subspan(at, out.size()), out.begin());
  return absl::OkStatus();
}

Input Home::Make(size_t elements) const {
  return PutBeside(beside, dtype, MakeInput(kind, dtype, elements));
}

}  // namespace zipllm::codecs
