// What a transformer computes, from its definition in double precision: slow,
// and with no care for bits.
#ifndef ZIPLLM_TESTS_LLM_REFERENCE_H_
#define ZIPLLM_TESTS_LLM_REFERENCE_H_

#include <map>
#include <string>
#include <vector>

#include "llm/tiny_model.h"

namespace zipllm::llm {

/// Reads one text. Weights are those that `model.see` was told.
class Reference {
 public:
  using Weights = std::map<std::string, std::vector<float>>;
  Reference(const TinyModel& model, const Weights& weights);

  /// The chances of each token of the vocabulary to be the next.
  std::vector<double> Step(size_t token);

 private:
  using Vector = std::vector<double>;
  const std::vector<float>& At(const std::string& name) const;
  Vector Product(const std::string& name, const Vector& x) const;
  Vector Norm(const std::string& name, const double* x, size_t count) const;
  Vector Turn(Vector x, bool is_local, double position) const;
  Vector Attend(size_t layer, const Vector& x);

  const TinyModel model_;
  const Weights& weights_;
  const bool is_gemma_;
  size_t position_ = 0;
  /// By layer and key head: of all positions, before they are turned.
  std::map<std::pair<size_t, size_t>, std::vector<Vector>> keys_, values_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_TESTS_LLM_REFERENCE_H_
