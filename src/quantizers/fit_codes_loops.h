// The loops of fit_codes.h, compiled once for each target: a part in each lane.
#ifndef ZIPLLM_QUANTIZERS_FIT_CODES_LOOPS_H_
#define ZIPLLM_QUANTIZERS_FIT_CODES_LOOPS_H_

#include "quantizers/fit_codes.h"
#include "quantizers/fits.h"
#include "quantizers/lanes.h"

namespace zipllm::quantizers {

// In a namespace without name, so that each target has its own.
namespace {

template <int kTop>
struct SymmetricCodesOf {
  static constexpr int kSize = 16;
  static void Fit(const Floats* x, const Floats* weights, Ints* codes) {
    const SymmetricFit fit = FitSymmetric<kSize, kTop>(x, weights);
    for (int i = 0; i < kSize; ++i) {
      const Floats code =
          NearestBetween(fit.code_scale * x[i], -kTop, kTop - 1);
      codes[i] = ToInts(fit.zero ? Splat(0.0f) : code);
    }
  }
};

template <int kTop, int kPart>
struct AffineCodesOf {
  static constexpr int kSize = kPart;
  static void Fit(const Floats* x, const Floats* weights, Ints* codes) {
    const AffineFit fit = FitAffine<kSize, kTop, ImportantTries>(x, weights);
    for (int i = 0; i < kSize; ++i) {
      codes[i] = ToInts(AffineCode<kTop, ImportantTries>(fit, x[i]));
    }
  }
};

template <typename CodesOf>
inline void FitParts(const float* x, const float* weights, size_t count,
                     int8_t* codes) {
  constexpr size_t kSize = CodesOf::kSize;
  for (size_t first = 0; first < count; first += kLanes) {
    const size_t lanes = count - first < kLanes ? count - first : kLanes;
    const float* from[kLanes];
    const float* weights_from[kLanes];
    Floats x_lanes[kSize];
    Floats weight_lanes[kSize];
    Ints code_lanes[kSize];
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const size_t part = first + (lane < lanes ? lane : 0);
      from[lane] = x + part * kSize;
      weights_from[lane] = weights + part * kSize;
    }
    LoadLanes(from, lanes, kSize, x_lanes);
    LoadLanes(weights_from, lanes, kSize, weight_lanes);
    CodesOf::Fit(x_lanes, weight_lanes, code_lanes);
    StoreBytes(code_lanes, kSize, lanes, kSize,
               reinterpret_cast<uint8_t*>(codes) + first * kSize);
  }
}

inline void FitCodesOf(CodeFit fit, const float* x, const float* weights,
                       size_t count, int8_t* codes) {
  switch (fit) {
    case CodeFit::kSymmetric4:
      return FitParts<SymmetricCodesOf<4>>(x, weights, count, codes);
    case CodeFit::kSymmetric32:
      return FitParts<SymmetricCodesOf<32>>(x, weights, count, codes);
    case CodeFit::kAffine3:
      return FitParts<AffineCodesOf<3, 16>>(x, weights, count, codes);
    case CodeFit::kAffine15:
      return FitParts<AffineCodesOf<15, 32>>(x, weights, count, codes);
    case CodeFit::kAffine31:
      return FitParts<AffineCodesOf<31, 32>>(x, weights, count, codes);
  }
}

}  // namespace
}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_FIT_CODES_LOOPS_H_
