// The loops of K-quants, compiled once for each target: a superblock of 256
// weights in each lane.
#ifndef ZIPLLM_QUANTIZERS_K_QUANTS_LOOPS_H_
#define ZIPLLM_QUANTIZERS_K_QUANTS_LOOPS_H_

#include <type_traits>

#include "quantizers/fits.h"
#include "quantizers/k_quants.h"
#include "quantizers/lanes.h"

// In a namespace without name, so that each target has its own.
namespace zipllm::quantizers {
namespace {

constexpr int kSuperblock = 256;

/// Superblocks, one in each lane, while they are quantized.
struct Superblocks {
  Floats weights[kSuperblock];
  Floats importance[kSuperblock];  ///< where the quantizer needs it
  Floats counts[kSuperblock];      ///< what each weight counts in the fit
  Floats codes[kSuperblock];
  Ints bytes[kSuperblock];  ///< what comes of them
};

/// 8 bits as a signed number.
inline Ints SignedByte(Ints value) {
  return AsInts(AsWords(value) << 24) >> 24;
}

/// The first two bytes at `to` become the FP16 number.
inline void PutHalf(Ints half, Ints* to) {
  to[0] = half;
  to[1] = half >> 8;
}

/// Two bits of each of 256 codes: 64 bytes, of which byte 32 * h + i has those
/// of the codes 128 * h + i + 0, 32, 64 and 96 from its lowest bits up.
inline void PackTwoBits(const Floats* codes, int shift, Ints* bytes) {
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < 32; ++i) {
      const Floats* from = codes + 128 * half + i;
      Ints byte = {};
      for (int k = 0; k < 4; ++k) {
        byte |= ((ToInts(from[32 * k]) >> shift) & 3) << (2 * k);
      }
      bytes[32 * half + i] = byte;
    }
  }
}

// ---- Q2_K, Q4_K, Q5_K: a scale and an offset for each part ----

struct Q2KTries {
  static constexpr float kFirst = -0.5f;
  static constexpr float kStep = 0.1f;
  static constexpr int kCount = 16;
  static constexpr bool kByMagnitude = true;
  static constexpr bool kCutFirst = false;
};
struct Q4KTries {
  static constexpr float kFirst = -1.0f;
  static constexpr float kStep = 0.1f;
  static constexpr int kCount = 21;
  static constexpr bool kByMagnitude = false;
  static constexpr bool kCutFirst = false;
};
struct Q5KTries {
  static constexpr float kFirst = -0.5f;
  static constexpr float kStep = 0.1f;
  static constexpr int kCount = 16;
  static constexpr bool kByMagnitude = false;
  static constexpr bool kCutFirst = false;
};

/// The fits of a superblock's parts. `kPart` weights are in each; codes are 0
/// to kTop.
template <int kPart, int kTop, typename TriesOfType>
struct AffineParts {
  using Tries = TriesOfType;
  static constexpr int kWeights = kPart;
  static constexpr int kGreatest = kTop;
  static constexpr int kCount = kSuperblock / kPart;

  AffineFit fits[kCount];
  Floats scales[kCount];
  Floats offsets[kCount];
  Floats sums[kCount];  ///< of what the weights of a part count

  /// All of them; weight i counts counts[i].
  void Fit(const Floats* x, const Floats* counts) {
    constexpr int kTogether = 2;
    for (int part = 0; part < kCount; part += kTogether) {
      FitAffine<kPart, kTop, Tries, kTogether>(
          x + part * kPart, counts + part * kPart, fits + part);
    }
    for (int part = 0; part < kCount; ++part) {
      scales[part] = fits[part].scale;
      offsets[part] = fits[part].offset;
      sums[part] = Sum(counts + part * kPart, kPart);
    }
  }

  /// The codes of a part given the scale and the offset that its blocks have.
  /// Where the scale is zero they stay those of the fit.
  void Code(int part, const Floats* x, Floats scale, Floats offset,
            Floats* codes) const {
    for (int i = 0; i < kPart; ++i) {
      codes[i] = NearestBetween((x[i] + offset) / scale, 0, kTop);
    }
    const Ints none = scale == 0.0f;
    if (!Any(none)) return;
    for (int i = 0; i < kPart; ++i) {
      codes[i] = none ? AffineCode<kTop, Tries>(fits[part], x[i]) : codes[i];
    }
  }
};

/// The greatest, or zero.
template <int kCount>
inline Floats Greatest(const Floats* x) {
  Floats greatest = {};
  for (int i = 0; i < kCount; ++i) greatest = Max(x[i], greatest);
  return greatest;
}

/// The codes of positive numbers if the greatest has code kTop, 0 to 255, and
/// their scale.
template <int kCount, int kTop>
inline Floats LinearCodes(const Floats* x, Ints* codes) {
  const Floats greatest = Greatest<kCount>(x);
  const Ints any = greatest > 0.0f;
  const Floats code_scale =
      any ? static_cast<float>(kTop) / greatest : Splat(0.0f);
  for (int i = 0; i < kCount; ++i) {
    codes[i] = NearestInt(code_scale * x[i]) & 255;
    codes[i] = any ? codes[i] : SplatInt(0);
  }
  return any ? greatest / static_cast<float>(kTop) : Splat(0.0f);
}

/// Q2_K: 16 bytes of scales (low 4 bits) and offsets, 64 of codes, two FP16.
template <bool kImportant>
inline void Q2K(Superblocks& blocks) {
  using Tries = std::conditional_t<kImportant, ImportantTries, Q2KTries>;
  AffineParts<16, 3, Tries> parts;
  const Floats* x = blocks.weights;
  Floats* counts = blocks.counts;
  if constexpr (kImportant) {
    const Floats spread = SumOfSquares(x, kSuperblock) / 256.0f;
    ImportanceWeights(blocks.importance, x, spread, kSuperblock, counts);
  } else {
    for (int i = 0; i < kSuperblock; ++i) counts[i] = Abs(x[i]);
  }
  parts.Fit(x, counts);
  Ints scale_codes[16];
  Ints offset_codes[16];
  Floats scale;
  Floats offset;
  if constexpr (kImportant) {
    scale = FitPositive<16, 15>(parts.scales, parts.sums, scale_codes);
    offset = FitPositive<16, 15>(parts.offsets, parts.sums, offset_codes);
  } else {
    scale = LinearCodes<16, 15>(parts.scales, scale_codes);
    offset = LinearCodes<16, 15>(parts.offsets, offset_codes);
  }
  const Ints half_scale = ToHalf(scale);
  const Ints half_offset = ToHalf(offset);
  PutHalf(half_scale, blocks.bytes + 80);
  PutHalf(half_offset, blocks.bytes + 82);
  scale = FromHalf(half_scale);
  offset = FromHalf(half_offset);
  for (int part = 0; part < 16; ++part) {
    const Ints byte = (scale_codes[part] | offset_codes[part] << 4) & 255;
    blocks.bytes[part] = byte;
    parts.Code(part, x + 16 * part, scale * ToFloats(byte & 15),
               offset * ToFloats(byte >> 4), blocks.codes + 16 * part);
  }
  PackTwoBits(blocks.codes, 0, blocks.bytes + 16);
}

/// The 12 bytes of eight 6-bit scales and offsets. Codes may have more bits,
/// which land where other codes have theirs.
inline void PackScales(const Ints* scales, const Ints* offsets, Ints* bytes) {
  for (int i = 0; i < 4; ++i) {
    bytes[i] = (scales[i] | scales[i + 4] >> 4 << 6) & 255;
    bytes[i + 4] = (offsets[i] | offsets[i + 4] >> 4 << 6) & 255;
    bytes[i + 8] = (scales[i + 4] & 15) | (offsets[i + 4] & 15) << 4;
  }
}
inline Ints ScaleOf(const Ints* bytes, int part) {
  return part < 4 ? bytes[part] & 63
                  : (bytes[part + 4] & 15) | bytes[part - 4] >> 6 << 4;
}
inline Ints OffsetOf(const Ints* bytes, int part) {
  return part < 4 ? bytes[part + 4] & 63
                  : bytes[part + 4] >> 4 | bytes[part] >> 6 << 4;
}

/// Q4_K and Q5_K but for where the codes go: two FP16, 12 bytes of scales.
template <int kTop, typename PlainTries, bool kImportant>
inline void Q45K(Superblocks& blocks) {
  using Tries = std::conditional_t<kImportant, ImportantTries, PlainTries>;
  AffineParts<32, kTop, Tries> parts;
  const Floats* x = blocks.weights;
  Floats* counts = blocks.counts;
  if constexpr (kImportant) {
    const Floats spread = 2.0f * SumOfSquares(x, kSuperblock) / 256.0f;
    ImportanceWeights(blocks.importance, x, spread, kSuperblock, counts);
  } else {
    for (int first = 0; first < kSuperblock; first += 32) {
      const Floats mean = Sqrt(SumOfSquares(x + first, 32) / 32.0f);
      for (int i = first; i < first + 32; ++i) counts[i] = mean + Abs(x[i]);
    }
  }
  parts.Fit(x, counts);
  Ints scale_codes[8];
  Ints offset_codes[8];
  Floats scale;
  Floats offset;
  if constexpr (kImportant) {
    scale = FitPositive<8, 63>(parts.scales, parts.sums, scale_codes);
    offset = FitPositive<8, 63>(parts.offsets, parts.sums, offset_codes);
  } else {
    scale = LinearCodes<8, 63>(parts.scales, scale_codes);
    offset = LinearCodes<8, 63>(parts.offsets, offset_codes);
  }
  // ggml does not cut those of Q4_K with importance.
  if constexpr (!kImportant || kTop == 31) {
    for (int part = 0; part < 8; ++part) {
      scale_codes[part] = Min(scale_codes[part], SplatInt(63));
      offset_codes[part] = Min(offset_codes[part], SplatInt(63));
    }
  }
  const Ints half_scale = ToHalf(scale);
  const Ints half_offset = ToHalf(offset);
  PutHalf(half_scale, blocks.bytes);
  PutHalf(half_offset, blocks.bytes + 2);
  Ints* bytes = blocks.bytes + 4;
  PackScales(scale_codes, offset_codes, bytes);
  scale = FromHalf(half_scale);
  offset = FromHalf(half_offset);
  for (int part = 0; part < 8; ++part) {
    parts.Code(part, x + 32 * part, scale * ToFloats(ScaleOf(bytes, part)),
               offset * ToFloats(OffsetOf(bytes, part)),
               blocks.codes + 32 * part);
  }
}

/// The low four bits of 256 codes: byte 32 * q + i has those of the codes 64 *
/// q + i and 64 * q + i + 32.
inline void PackLowHalves(const Floats* codes, Ints* bytes) {
  for (int quarter = 0; quarter < 4; ++quarter) {
    for (int i = 0; i < 32; ++i) {
      const Floats* from = codes + 64 * quarter + i;
      bytes[32 * quarter + i] = (ToInts(from[0]) & 15) | (ToInts(from[32]) & 15)
                                                             << 4;
    }
  }
}

template <bool kImportant>
inline void Q4K(Superblocks& blocks) {
  Q45K<15, Q4KTries, kImportant>(blocks);
  PackLowHalves(blocks.codes, blocks.bytes + 16);
}

template <bool kImportant>
inline void Q5K(Superblocks& blocks) {
  Q45K<31, Q5KTries, kImportant>(blocks);
  // Byte i has bit 4 of the codes i + 32 * k as its bit k.
  for (int i = 0; i < 32; ++i) {
    Ints byte = {};
    for (int k = 0; k < 8; ++k) {
      byte |= ToInts(blocks.codes[32 * k + i]) >> 4 << k;
    }
    blocks.bytes[16 + i] = byte;
  }
  PackLowHalves(blocks.codes, blocks.bytes + 48);
}

// ---- Q3_K, Q6_K: a scale for each part ----

/// Codes given the scale; where it is zero they are those of the fit.
template <int kTop, typename FitCode>
inline void SymmetricCodes(const Floats* x, Floats scale,
                           const FitCode& fit_code, Floats* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = NearestBetween(x[i] / scale, -kTop, kTop - 1) +
               static_cast<float>(kTop);
  }
  const Ints none = scale == 0.0f;
  if (!Any(none)) return;
  for (int i = 0; i < 16; ++i) codes[i] = none ? fit_code(i) : codes[i];
}

/// Number i of kTogether parts is x[16 * part + i]. Starts from the codes with
/// the extreme at -4; then each code in turn becomes the best one given the
/// others, in up to five rounds. Codes are + 4. Parts do not depend on each
/// other; together they keep the processor busy.
template <int kTogether>
inline void FitQ3K(const Floats* x, Floats* codes, Floats* scales) {
  Ints zero[kTogether];
  Floats sum_xl[kTogether] = {};
  Floats sum_l2[kTogether] = {};
  for (int part = 0; part < kTogether; ++part) {
    const Extreme extreme = FindExtreme<16>(x + 16 * part);
    zero[part] = extreme.magnitude < kLeastMagnitude;
    const Floats code_scale = -4.0f / extreme.value;
    for (int i = 16 * part; i < 16 * part + 16; ++i) {
      codes[i] = NearestBetween(code_scale * x[i], -4, 3);
      const Floats square = x[i] * x[i];
      sum_xl[part] += square * x[i] * codes[i];
      sum_l2[part] += square * codes[i] * codes[i];
    }
  }
  for (int round = 0; round < 5; ++round) {
    Ints changed = {};
    for (int i = 0; i < 16; ++i) {
      for (int part = 0; part < kTogether; ++part) {
        const Floats value = x[16 * part + i];
        const Floats old = codes[16 * part + i];
        const Floats square = value * value;
        const Floats cube = square * value;
        Floats xl = sum_xl[part] - cube * old;
        Floats l2 = sum_l2[part] - square * old * old;
        Ints better = xl > 0.0f;
        const Floats code = NearestBetween(value * l2 / xl, -4, 3);
        better &= code != old;
        xl += cube * code;
        l2 += square * code * code;
        better &= (l2 > 0.0f) &
                  (xl * xl * sum_l2[part] > sum_xl[part] * sum_xl[part] * l2);
        codes[16 * part + i] = better ? code : old;
        sum_xl[part] = better ? xl : sum_xl[part];
        sum_l2[part] = better ? l2 : sum_l2[part];
        changed |= better;
      }
    }
    if (!Any(changed)) break;
  }
  for (int part = 0; part < kTogether; ++part) {
    for (int i = 16 * part; i < 16 * part + 16; ++i) {
      codes[i] = zero[part] ? Splat(0.0f) : codes[i] + 4.0f;
    }
    const Floats scale =
        sum_l2[part] > 0.0f ? sum_xl[part] / sum_l2[part] : Splat(0.0f);
    scales[part] = zero[part] ? Splat(0.0f) : scale;
  }
}

/// Q3_K: 32 bytes of high bits, 64 of low ones, 12 of 6-bit scales, one FP16.
template <bool kImportant>
inline void Q3K(Superblocks& blocks) {
  const Floats* x = blocks.weights;
  Floats scales[16];
  Ints scale_codes[16];  // + 32
  Floats scale;
  SymmetricFit fits[16];
  Floats fit_codes[kSuperblock];
  if constexpr (kImportant) {
    const Floats spread = 2.0f * SumOfSquares(x, kSuperblock) / 256.0f;
    Floats sums[16];
    for (int part = 0; part < 16; ++part) {
      Floats counts[16];
      ImportanceWeights(blocks.importance + 16 * part, x + 16 * part, spread,
                        16, counts);
      sums[part] = Sum(counts, 16);
      fits[part] = FitSymmetric<16, 4>(x + 16 * part, counts);
      scales[part] = fits[part].scale;
    }
    const SymmetricFit fit = FitSymmetric<16, 32>(scales, sums);
    for (int part = 0; part < 16; ++part) {
      scale_codes[part] = ToInts(SymmetricCode<32>(fit, scales[part]));
    }
    scale = fit.scale;
  } else {
    constexpr int kTogether = 4;
    for (int part = 0; part < 16; part += kTogether) {
      FitQ3K<kTogether>(x + 16 * part, fit_codes + 16 * part, scales + part);
    }
    const Floats extreme = FindExtreme<16>(scales).value;
    const Ints any = extreme != 0.0f;
    const Floats code_scale = -32.0f / extreme;
    for (int part = 0; part < 16; ++part) {
      const Ints code = SignedByte(NearestInt(code_scale * scales[part]));
      scale_codes[part] = Max(Min(code, SplatInt(31)), SplatInt(-32)) + 32;
      scale_codes[part] = any ? scale_codes[part] : SplatInt(0);
    }
    scale = any ? 1.0f / code_scale : Splat(0.0f);
  }
  for (int i = 0; i < 8; ++i) {
    blocks.bytes[96 + i] = (scale_codes[i] & 15) | (scale_codes[i + 8] & 15)
                                                       << 4;
  }
  for (int i = 0; i < 4; ++i) {
    Ints byte = {};
    for (int k = 0; k < 4; ++k) byte |= scale_codes[4 * k + i] >> 4 << (2 * k);
    blocks.bytes[104 + i] = byte;
  }
  const Ints half = ToHalf(scale);
  PutHalf(half, blocks.bytes + 108);
  scale = FromHalf(half);
  for (int part = 0; part < 16; ++part) {
    const int first = 16 * part;
    SymmetricCodes<4>(
        x + first, scale * ToFloats(scale_codes[part] - 32),
        [&](int i) {
          return kImportant ? SymmetricCode<4>(fits[part], x[first + i])
                            : fit_codes[first + i];
        },
        blocks.codes + first);
  }
  for (int i = 0; i < 32; ++i) {
    Ints byte = {};
    for (int k = 0; k < 8; ++k) {
      byte |= ToInts(blocks.codes[32 * k + i]) >> 2 << k;
    }
    blocks.bytes[i] = byte;
  }
  PackTwoBits(blocks.codes, 0, blocks.bytes + 32);
}

/// Q6_K: 128 bytes of low halves, 64 of high ones, 16 scales, one FP16.
template <bool kImportant>
inline void Q6K(Superblocks& blocks) {
  const Floats* x = blocks.weights;
  SymmetricFit fits[16];
  Floats scales[16];
  for (int part = 0; part < 16; ++part) {
    const Floats* from = x + 16 * part;
    if constexpr (kImportant) {
      fits[part] = FitSymmetric<16, 32>(from, blocks.importance + 16 * part);
    } else {
      Floats counts[16];
      for (int i = 0; i < 16; ++i) counts[i] = from[i] * from[i];
      fits[part] = FitSymmetric<16, 32>(from, counts);
    }
    scales[part] = fits[part].scale;
  }
  const Extreme extreme = FindExtreme<16>(scales);
  const Floats code_scale = -128.0f / extreme.value;
  const Ints half = ToHalf(1.0f / code_scale);
  PutHalf(half, blocks.bytes + 208);
  const Floats scale = FromHalf(half);
  for (int part = 0; part < 16; ++part) {
    const Ints code =
        SignedByte(Min(NearestInt(code_scale * scales[part]), SplatInt(127)));
    blocks.bytes[192 + part] = code;
    SymmetricCodes<32>(
        x + 16 * part, scale * ToFloats(code),
        [&](int i) { return SymmetricCode<32>(fits[part], x[16 * part + i]); },
        blocks.codes + 16 * part);
  }
  for (int half_block = 0; half_block < 2; ++half_block) {
    for (int i = 0; i < 64; ++i) {
      const Floats* from = blocks.codes + 128 * half_block + i;
      blocks.bytes[64 * half_block + i] =
          (ToInts(from[0]) & 15) | (ToInts(from[64]) & 15) << 4;
    }
  }
  PackTwoBits(blocks.codes, 4, blocks.bytes + 128);
  const Ints zero = extreme.magnitude < kLeastMagnitude;
  if (Any(zero)) {
    for (int i = 0; i < 210; ++i) {
      blocks.bytes[i] = zero ? SplatInt(0) : blocks.bytes[i];
    }
  }
}

/// Quantizes all superblocks of the rows, kLanes at a time, by `quantize`.
template <bool kImportant, typename QuantizeLanes>
inline void KQuantize(const float* weights, size_t rows, size_t columns,
                      const float* importance, size_t block_bytes,
                      const QuantizeLanes& quantize, uint8_t* out) {
  const size_t per_row = columns / kSuperblock;
  const size_t count = rows * per_row;
  Superblocks blocks;
  for (size_t first = 0; first < count; first += kLanes) {
    const size_t lanes = count - first < kLanes ? count - first : kLanes;
    const float* from[kLanes];
    for (size_t lane = 0; lane < lanes; ++lane) {
      from[lane] = weights + (first + lane) * kSuperblock;
    }
    LoadLanes(from, lanes, kSuperblock, blocks.weights);
    if constexpr (kImportant) {
      for (size_t lane = 0; lane < lanes; ++lane) {
        from[lane] = importance + (first + lane) % per_row * kSuperblock;
      }
      LoadLanes(from, lanes, kSuperblock, blocks.importance);
    }
    quantize(blocks);
    StoreBytes(blocks.bytes, block_bytes, lanes, block_bytes,
               out + first * block_bytes);
  }
}

constexpr size_t kQ2KBytes = 84;
constexpr size_t kQ3KBytes = 110;
constexpr size_t kQ4KBytes = 144;
constexpr size_t kQ5KBytes = 176;
constexpr size_t kQ6KBytes = 210;

}  // namespace

#define ZIPLLM_DEFINE_K_QUANT(type, target)                                \
  void Quantize##type##target(const float* weights, size_t rows,           \
                              size_t columns, const float* /*importance*/, \
                              uint8_t* out) {                              \
    KQuantize<false>(                                                      \
        weights, rows, columns, nullptr, k##type##Bytes,                   \
        [](Superblocks& blocks) { type<false>(blocks); }, out);            \
  }                                                                        \
  void Quantize##type##Important##target(                                  \
      const float* weights, size_t rows, size_t columns,                   \
      const float* importance, uint8_t* out) {                             \
    KQuantize<true>(                                                       \
        weights, rows, columns, importance, k##type##Bytes,                \
        [](Superblocks& blocks) { type<true>(blocks); }, out);             \
  }

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_K_QUANTS_LOOPS_H_
