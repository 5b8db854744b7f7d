// Weights for tests of quantizers, and the ladder of ../shared/data.
#ifndef ZIPLLM_TESTS_QUANTIZERS_INPUTS_H_
#define ZIPLLM_TESTS_QUANTIZERS_INPUTS_H_

#include <optional>
#include <string>
#include <vector>

#include "quantizers/quantizer.h"

namespace zipllm::quantizers {

/// Rows of as many weights, and what counts for each column.
struct Matrix {
  std::string name;
  size_t rows;
  size_t columns;
  std::vector<float> weights;
  std::vector<float> importance;
};

/// 16 rows of 1024 weights in groups of 32: bell-shaped at several scales, some
/// zero, constant, or very small. The same everywhere, and in inputs.py;
/// oracle.py tells what the package libgguf makes of them.
Matrix Plain();

/// 4 rows of 512 weights of each kind that is hard: tiny, huge, subnormal,
/// constant, of one sign, far from zero, zeros, infinities, NaNs, any bits.
std::vector<Matrix> Hostile();

/// Any bytes; the same everywhere, and in inputs.py.
std::vector<uint8_t> AnyBytes(size_t count);

std::string Sha256Hex(const std::vector<uint8_t>& bytes);

std::vector<uint8_t> Quantize(const Quantizer& quantizer,
                              kernels::Target target, const Matrix& matrix);

/// Those that this CPU has, the scalar one first.
std::vector<kernels::Target> Targets();

/// A tensor of a file of the ladder.
struct LadderTensor {
  std::string name;
  DType dtype;
  std::vector<uint8_t> blocks;
};

/// The tensors of two dimensions of mpnet-part.<file>.gguf; none where it is
/// missing.
std::vector<LadderTensor> ReadLadder(const std::string& file);

/// The BF16 tensor that those of the same name were made of.
std::optional<Matrix> ReadSource(const std::string& name);

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_TESTS_QUANTIZERS_INPUTS_H_
