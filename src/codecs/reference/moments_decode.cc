// Codec 17, moments: checkpoints of a training run, each against the one
// before. Format: format-spec/codecs/17-moments.md.
#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/reference/moments_models.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace moments {

const Reference* Arrays::Find(Role role) const {
  for (const Reference& reference : references_) {
    const Kind* kind = FindKind(reference.dtype);
    if (reference.role == role && kind != nullptr &&
        reference.data.size() == elements_ * kind->size) {
      return &reference;
    }
  }
  return nullptr;
}

std::vector<double> Arrays::Load(Role role) const {
  std::vector<double> values(elements_, 0.0);
  const Reference* reference = Find(role);
  if (reference == nullptr) return values;
  const Kind& kind = *FindKind(reference->dtype);
  const uint8_t* data = reference->data.data();
  if (kind.dtype == DType::kF32) {
    for (size_t i = 0; i < elements_; ++i) {
      const auto value = LoadLe<float>(data + 4 * i);
      values[i] = std::isfinite(value) ? double{value} : 0.0;
    }
    return values;
  }
  for (size_t i = 0; i < elements_; ++i) {
    const uint32_t element = LoadLe<uint16_t>(data + 2 * i);
    if ((element & (kind.sign_bit() - 1)) < kind.infinity()) {
      values[i] = ToDouble(kind, element);
    }
  }
  return values;
}

std::vector<Fixed> RowAndColumnMeans(const std::vector<Fixed>& logs,
                                     uint64_t row, uint64_t phase) {
  struct Sum {
    int64_t sum = 0;
    int64_t count = 0;
    void Add(Fixed log) {
      sum += log;
      ++count;
    }
    Fixed Mean() const { return count == 0 ? kLogOfZero : sum / count; }
  };
  const size_t n = logs.size();
  const bool has_rows = row != 0 && row <= n;
  const uint64_t width = has_rows ? row : 1;
  const uint64_t skip = has_rows ? phase : 0;
  std::vector<Sum> rows((skip + n + width - 1) / width), columns(width);
  Sum all;
  const auto for_each = [&](auto body) {
    size_t r = 0, c = skip;
    for (size_t i = 0; i < n; ++i) {
      body(i, r, c);
      if (++c == width) {
        c = 0;
        ++r;
      }
    }
  };
  for_each([&](size_t i, size_t r, size_t c) {
    if (logs[i] == kLogOfZero) return;
    rows[r].Add(logs[i]);
    columns[c].Add(logs[i]);
  });
  for (Sum& sum : rows) {
    all.sum += sum.sum;
    all.count += sum.count;
    sum.sum = sum.Mean();
  }
  for (Sum& sum : columns) sum.sum = sum.Mean();
  const Fixed mean = all.Mean();
  std::vector<Fixed> means(n);
  for_each([&](size_t i, size_t r, size_t c) {
    means[i] = rows[r].sum + columns[c].sum - mean;
  });
  return means;
}

std::vector<double> MeanValues(const Arrays& arrays, MeanTerm term) {
  if (term == kMeanBase) return arrays.Load(Role::kBase);
  std::vector<double> steps = arrays.Load(
      term == kMeanStep ? Role::kFirstMoment : Role::kBaseFirstMoment);
  if (!arrays.Has(Role::kSecondMoment)) return steps;
  const std::vector<double> squares = arrays.Load(Role::kSecondMoment);
  for (size_t i = 0; i < steps.size(); ++i) {
    steps[i] = squares[i] > 0 ? steps[i] / std::sqrt(squares[i]) : 0.0;
  }
  return steps;
}

std::vector<Fixed> ScaleLogs(const Arrays& arrays, ScaleTerm term,
                             float decay) {
  std::vector<double> values =
      arrays.Load(term == kScaleBase ? Role::kBase : Role::kSecondMoment);
  if (term == kScaleEnergy) {
    const std::vector<double> before = arrays.Load(Role::kBaseSecondMoment);
    const double factor = 1.0 + double{decay};
    for (size_t i = 0; i < values.size(); ++i) {
      const double rest = values[i] - factor * before[i];
      values[i] = std::max(rest, values[i] * PowerOfTwo(-20));
    }
  }
  std::vector<Fixed> logs(values.size());
  for (size_t i = 0; i < values.size(); ++i) logs[i] = Log(std::abs(values[i]));
  return logs;
}

Expected Expect(const Params& params, const Arrays& arrays, size_t elements,
                uint64_t row, uint64_t phase) {
  Expected expected;
  // The base itself, and what is added.
  expected.center = arrays.Load(Role::kBase);
  for (int term = 0; term < kMeanTerms; ++term) {
    if (!params.HasMean(term)) continue;
    const std::vector<double> values =
        MeanValues(arrays, static_cast<MeanTerm>(term));
    const double factor = params.mean[static_cast<size_t>(term)];
    for (size_t i = 0; i < elements; ++i) {
      expected.center[i] += factor * values[i];
    }
  }
  expected.log_scale.assign(elements, params.log_scale);
  for (int term = 0; term < kScaleTerms; term += 2) {
    if (!params.HasScale(term) && !params.HasScale(term + 1)) continue;
    const std::vector<Fixed> logs =
        ScaleLogs(arrays, static_cast<ScaleTerm>(term), params.decay);
    const auto add = [&](const std::vector<Fixed>& from, int which) {
      const int64_t factor = params.scale[static_cast<size_t>(which)];
      for (size_t i = 0; i < elements; ++i) {
        expected.log_scale[i] += (factor * from[i]) >> 8;
      }
    };
    if (params.HasScale(term)) add(logs, term);
    if (params.HasScale(term + 1)) {
      add(RowAndColumnMeans(logs, row, phase), term + 1);
    }
  }
  for (Fixed& log : expected.log_scale) {
    log = std::clamp(log, kLogOfZero, kLogMax);
  }
  return expected;
}

namespace {

/// A value as an element, a magnitude above all numbers as the greatest.
struct Rounded {
  uint32_t magnitude;
  int ulp;        // its exponent
  double places;  // the value in units of that
};
Rounded Round(const Kind& kind, double magnitude) {
  const double limit = PowerOfTwo(kind.max_exponent());
  const double value = std::min(magnitude, limit);
  const int exponent =
      std::max(static_cast<int>(Log(value) >> kUnitBits), kind.min_exponent());
  const int ulp = exponent - kind.mantissa_bits;
  const double places = value * PowerOfTwo(-ulp);
  const auto significand = static_cast<uint32_t>(places + 0.5);
  const int above = exponent - kind.min_exponent();
  return {significand + (static_cast<uint32_t>(above) << kind.mantissa_bits),
          ulp, places};
}

}  // namespace

void Predict(const Params& params, const Expected& expected, size_t begin,
             size_t count, const uint8_t* signs, uint8_t* contexts,
             uint8_t* predictions) {
  // Quarter octaves of the scale in units of the last place, from kLeast on;
  // below kFine by where between two elements the value is.
  constexpr int kLeast = -32;
  constexpr int kSteps = 128;
  constexpr int kFine = 40;
  constexpr int kPlaces = 4;
  static_assert(kFine * kPlaces + kSteps - kFine == kTableContexts);
  const Kind& kind = *params.kind;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = begin + i;
    const Fixed log_scale = expected.log_scale[at];
    double value = expected.center[at];
    if (params.signs) {
      value = Exp(log_scale);
      if ((signs[at / 8] >> at % 8 & 1) != 0) value = -value;
    } else if (params.map == Map::kLogarithmic) {
      value += Exp(log_scale);
    }
    const Rounded rounded = Round(kind, std::abs(value));
    const uint32_t element =
        rounded.magnitude | (std::signbit(value) ? kind.sign_bit() : 0);
    std::memcpy(predictions + i * kind.size, &element, kind.size);
    const auto steps = static_cast<int>(
        std::clamp<Fixed>((log_scale - Fixed{rounded.ulp} * (1 << kUnitBits)) >>
                              (kUnitBits - 2),
                          kLeast, kLeast + kSteps - 1) -
        kLeast);
    const double floor = std::floor(rounded.places);
    contexts[i] = static_cast<uint8_t>(
        steps < kFine
            ? steps * kPlaces +
                  static_cast<int>((rounded.places - floor) * double{kPlaces})
            : kFine * kPlaces + steps - kFine);
  }
}

}  // namespace moments

namespace {

using moments::Params;

struct FrameParams final : DecodeParams {
  Params params;
  std::optional<residuals::ResidualDecoder> tables;  // of kTables
};

const residuals::Alphabet& AlphabetOf(const Params& params) {
  return residuals::AlphabetOf(params.kind->size, residuals::Number::kFloat);
}

absl::StatusOr<float> ReadFinite(ByteReader& reader) {
  ASSIGN_OR_RETURN(const auto bits, reader.Le<uint32_t>());
  const auto value = std::bit_cast<float>(bits);
  if (!std::isfinite(value)) return reader.Error("a factor is not finite");
  return value;
}

absl::StatusOr<std::unique_ptr<const DecodeParams>> Parse(ByteSpan bytes) {
  auto frame = std::make_unique<FrameParams>();
  Params& params = frame->params;
  ByteReader reader(bytes, "moments parameters");
  ASSIGN_OR_RETURN(const uint8_t number, reader.Le<uint8_t>());
  if (number < 1 || number > moments::kKinds.size()) {
    return reader.Error("unknown kind of elements ", int{number});
  }
  params.kind = &moments::kKinds[number - 1u];
  ASSIGN_OR_RETURN(const uint8_t map, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(const uint8_t engine, reader.Le<uint8_t>());
  if (map > 1 || engine > 2) {
    return reader.Error("unknown map ", int{map}, " or engine ", int{engine});
  }
  params.map = static_cast<moments::Map>(map);
  params.engine = static_cast<moments::Engine>(engine);
  const bool has_tables = params.engine == moments::Engine::kTables;
  if (has_tables) {
    ASSIGN_OR_RETURN(const uint8_t signs, reader.Le<uint8_t>());
    if (signs > 1) return reader.Error("mode of signs ", int{signs});
    params.signs = signs == 1;
  } else {
    for (uint8_t& ridge : params.ridge) {
      ASSIGN_OR_RETURN(ridge, reader.Le<uint8_t>());
    }
  }
  ASSIGN_OR_RETURN(params.mean_terms, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(params.scale_terms, reader.Le<uint8_t>());
  if (params.mean_terms >> moments::kMeanTerms != 0 ||
      params.scale_terms >> moments::kScaleTerms != 0) {
    return reader.Error("unknown terms");
  }
  for (int term = 0; term < moments::kMeanTerms; ++term) {
    if (!params.HasMean(term)) continue;
    ASSIGN_OR_RETURN(params.mean[static_cast<size_t>(term)],
                     ReadFinite(reader));
  }
  if (params.HasEnergy()) {
    ASSIGN_OR_RETURN(params.decay, ReadFinite(reader));
  }
  ASSIGN_OR_RETURN(params.log_scale, reader.Le<int32_t>());
  for (int term = 0; term < moments::kScaleTerms; ++term) {
    if (!params.HasScale(term)) continue;
    ASSIGN_OR_RETURN(params.scale[static_cast<size_t>(term)],
                     reader.Le<int16_t>());
  }
  if (has_tables) {
    ASSIGN_OR_RETURN(residuals::ResidualDecoder tables,
                     residuals::ResidualDecoder::Parse(
                         AlphabetOf(params), moments::kTableContexts, reader));
    frame->tables.emplace(std::move(tables));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  return frame;
}

template <template <class> class Engine>
void DecodeElements(const Params& params, const mix::Grid& grid,
                    const moments::Expected& expected,
                    entropy::BinaryDecoder& coder, entropy::BitReader& raw,
                    MutableByteSpan out) {
  const size_t size = params.kind->size;
  moments::CodeBlock<entropy::BinaryDecoder, moments::RawReader, Engine>(
      params, grid, expected, coder, moments::RawReader{&raw},
      [](uint64_t) { return uint32_t{0}; },
      [&](uint64_t i, uint32_t element) {
        std::memcpy(out.data() + i * size, &element, size);
      });
}

absl::Status DecodeTables(const FrameParams& frame,
                          const moments::Expected& expected, ByteReader& reader,
                          MutableByteSpan out, Scratch& scratch) {
  const Params& params = frame.params;
  const size_t size = params.kind->size;
  const size_t count = out.size() / size;
  ASSIGN_OR_RETURN(const ByteSpan signs,
                   reader.Bytes(params.signs ? (count + 7) / 8 : 0));
  if (params.signs && count % 8 != 0 && signs.back() >> count % 8 != 0) {
    return reader.Error("signs of no elements");
  }
  ASSIGN_OR_RETURN(residuals::ResidualBlock block,
                   residuals::ResidualBlock::Start(*frame.tables, count, reader,
                                                   &scratch.buffers[0]));
  RETURN_IF_ERROR(reader.ExpectEnd());
  constexpr size_t kPiece = 4 * residuals::ResidualBlock::kPiece;
  alignas(64) uint8_t contexts[kPiece];
  alignas(64) uint8_t predictions[4 * kPiece];
  for (size_t i = 0; i < count; i += kPiece) {
    const size_t n = std::min(kPiece, count - i);
    moments::Predict(params, expected, i, n, signs.data(), contexts,
                     predictions);
    block.Next(contexts, predictions, n, out.data() + i * size);
  }
  return block.Finish();
}

absl::Status Decode(const DecodeParams* decode_params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (decode_params == nullptr) {
    return DataLoss("moments block has no parameters");
  }
  const auto& frame = *static_cast<const FrameParams*>(decode_params);
  const Params& params = frame.params;
  const size_t size = params.kind->size;
  if (out.size() % size != 0 || out.size() > moments::kMaxBlockBytes) {
    return DataLoss("moments block of ", out.size(), " bytes; at most ",
                    moments::kMaxBlockBytes, " and whole elements of ", size,
                    " bytes are possible");
  }
  ByteReader reader(coded, "moments block");

  const size_t elements = out.size() / size;
  const uint64_t phase = context.row == 0 ? 0 : context.position % context.row;
  const moments::Expected expected =
      moments::Expect(params, moments::Arrays(context.references, elements),
                      elements, context.row, phase);
  if (frame.tables.has_value()) {
    return DecodeTables(frame, expected, reader, out, scratch);
  }
  ASSIGN_OR_RETURN(const uint64_t length, reader.Varint(reader.remaining()));
  ASSIGN_OR_RETURN(const ByteSpan code, reader.Bytes(length));
  ASSIGN_OR_RETURN(const ByteSpan tails, reader.Bytes(reader.remaining()));
  const mix::Grid grid(context.row, phase, elements);
  entropy::BinaryDecoder coder(code.data(), code.size());
  entropy::BitReader raw(tails);
  if (params.engine == moments::Engine::kMixed) {
    DecodeElements<moments::Mixed>(params, grid, expected, coder, raw, out);
  } else {
    DecodeElements<moments::Single>(params, grid, expected, coder, raw, out);
  }
  if (!coder.IsAtEnd() || !raw.AtEnd()) {
    return reader.Error("the code does not end where the block does");
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kMomentsDecoder = {.id = 17,
                                        .name = "moments",
                                        .parse = Parse,
                                        .decode = nullptr,
                                        .decode_against = Decode,
                                        .is_slow = true};

}  // namespace zipllm::codecs
