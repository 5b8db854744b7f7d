// Rotary position embeddings (Su et al. 2021), by the same bits everywhere.
#ifndef ZIPLLM_LLM_ROPE_H_
#define ZIPLLM_LLM_ROPE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace zipllm::llm {

/// A rotation of a pair of numbers.
struct Rotation {
  float cosine;
  float sine;
};

/// Turns pairs of a vector's first numbers by angles that grow with the
/// position. Immutable.
class Rope {
 public:
  Rope() = default;
  /// Pair i of `pairs` turns by scale * base^(-i / pairs) / factors[i] a
  /// position; no factors: all 1. Angles that make no sense are 0.
  /// `neighbours`: pair i is numbers 2i and 2i + 1; else i and i + pairs.
  Rope(size_t pairs, double base, double scale, std::span<const float> factors,
       bool neighbours);

  size_t pairs() const { return turns_.size(); }
  /// `to` has room for `pairs()` rotations.
  void At(uint64_t position, Rotation* to) const;
  void Turn(const Rotation* by, float* vector) const;

 private:
  std::vector<uint64_t> turns_;  // a position's, in 2^-64 of a full turn
  bool neighbours_ = false;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_ROPE_H_
