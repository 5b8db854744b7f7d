// The language model's coder: the definition of what it computes, without SIMD,
// dispatch, and the weights.
#include "codecs/text/lm_coder.h"

// The file, put into the program by the assembler.
extern "C" const uint8_t zipllm_lm_weights[]
    __attribute__((visibility("hidden")));
__asm__(
    ".pushsection .rodata\n"
    ".globl zipllm_lm_weights\n.hidden zipllm_lm_weights\n"
    ".balign 64\nzipllm_lm_weights:\n"
    ".incbin \"" ZIPLLM_LM_WEIGHTS "\"\n.popsection\n");

namespace zipllm::codecs::lm {

const Coder kCoderScalar = kCoder;

constinit const kernels::ByTarget<Coder> kCoders = ZIPLLM_BY_TARGET(kCoder);

const Weights& BuiltInWeights() {
  static const Weights* const built_in = [] {
    auto* weights = new Weights;
    const auto& file = *reinterpret_cast<const File*>(zipllm_lm_weights);
    weights->lines = file.lines.data();
    for (size_t h = 0; h < kHidden; ++h) {
      for (size_t i = 0; i < kDirect; ++i) {
        weights->hidden[i / 2][2 * h + i % 2] = file.hidden[h][i];
      }
      weights->hidden_bias[h] = file.hidden_bias[h];
    }
    weights->output = file.output;
    for (size_t n = 0; n < 256; ++n) {
      weights->output_bias[n] = file.output_bias[n];
    }
    return weights;
  }();
  return *built_in;
}

}  // namespace zipllm::codecs::lm
