// Quantizers: pure functions that make ggml blocks of weights, as the programs
// do that publish them, bit for bit. A block that is what a quantizer makes of
// its source needs no bytes of its own. Plugging in: the function in a file of
// this room, one line in quantizer_list.inc, a section in
// format-spec/quantizers.md.
//
// Arithmetic is IEEE 754 binary32 and binary64, add, subtract, multiply,
// divide, square root and conversions, in the order that the specification
// gives; no contraction, no libm but sqrt. Equal input gives equal bytes on
// every machine, compiler and target.
#ifndef ZIPLLM_QUANTIZERS_QUANTIZER_H_
#define ZIPLLM_QUANTIZERS_QUANTIZER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/kernels.h"
#include "zipllm/types.h"

namespace zipllm::quantizers {

/// Quantizes `rows` rows of `columns` weights each (a multiple of the elements
/// of a block of the quantizer's type) into rows * columns / elements blocks at
/// `out`. `importance` has `columns` numbers, one for each column, or is null
/// where the quantizer needs none. Weights and importance are any floats,
/// infinities and NaNs too; then blocks are any bytes, but the same everywhere.
/// Never allocates. Thread-safe.
using QuantizeFn = void (*)(const float* weights, size_t rows, size_t columns,
                            const float* importance, uint8_t* out);

/// Immutable.
struct Quantizer {
  uint8_t id;             ///< in the format for ever; 0 is no quantizer
  std::string_view name;  ///< e.g. "ggml Q4_K", "ggml Q4_K imatrix"
  DType dtype;
  bool needs_importance;
  /// Blocks depend on all of their row: without, any blocks may be made as if
  /// they were a row.
  bool needs_rows;
  /// Runs at hundreds of MB/s of source a core.
  bool is_fast;
  QuantizeFn scalar;  ///< the definition
  QuantizeFn avx2;    ///< the same bits; null: takes `scalar`
  QuantizeFn avx512;  ///< likewise

  QuantizeFn For(kernels::Target target) const;
  /// For kernels::Best().
  QuantizeFn Best() const { return For(kernels::Best().target); }
};

/// Null if there is none with this number.
const Quantizer* FindQuantizer(uint8_t id);
/// All of them, by ascending number.
std::span<const Quantizer* const> AllQuantizers();

}  // namespace zipllm::quantizers

#endif  // ZIPLLM_QUANTIZERS_QUANTIZER_H_
