// What quantizers with importance do first: the codes they choose for the parts
// of a row, before they round the scales.
#ifndef ZIPLLM_QUANTIZERS_FIT_CODES_H_
#define ZIPLLM_QUANTIZERS_FIT_CODES_H_

#include <cstddef>
#include <cstdint>

namespace zipllm::quantizers {

/// Searches of ggml's quantizers (format-spec/quantizers.md, "Fits").
enum class CodeFit : uint8_t {
  kSymmetric4,   ///< of Q3_K: parts of 16
  kSymmetric32,  ///< of Q6_K: parts of 16
  kAffine3,      ///< of Q2_K: parts of 16
  kAffine15,     ///< of Q4_K: parts of 32
  kAffine31,     ///< of Q5_K: parts of 32
};
constexpr size_t PartSize(CodeFit fit) {
  return fit >= CodeFit::kAffine15 ? 32 : 16;
}

/// Writes the codes of `count` parts, of PartSize(fit) weights `x` each, which
/// count by `weights` (as many, not negative). The same on every machine. Never
/// allocates. Thread-safe.
void FitCodes(CodeFit fit, const float* x, const float* weights, size_t count,
              int8_t* codes);

// For one target.
void FitCodesScalar(CodeFit fit, const float* x, const float* weights,
                    size_t count, int8_t* codes);
void FitCodesAvx2(CodeFit fit, const float* x, const float* weights,
                  size_t count, int8_t* codes);
void FitCodesAvx512(CodeFit fit, const float* x, const float* weights,
                    size_t count, int8_t* codes);

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_FIT_CODES_H_
