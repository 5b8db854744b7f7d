// Codec 16: what its encoder learns of a tensor, and what the fits share.
#ifndef ZIPLLM_CODECS_REFERENCE_SUM_MODEL_H_
#define ZIPLLM_CODECS_REFERENCE_SUM_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/buffer.h"
#include "codecs/codec.h"
#include "codecs/reference/sum_format.h"

namespace zipllm::codecs::sum_fit {

using namespace sum_format;

/// A low-rank matrix: integers, and a scale a component.
struct Product {
  size_t rank = 0;
  std::vector<double> scales;
  std::vector<double> columns;  // rank x columns, integers
  std::vector<int32_t> rows;    // rows x rank
};

struct Fit {
  Formula formula;
  Product product;  // where the formula has its own
  /// Expected bits an element, without the factors.
  double bits = 0;
};

class SumModel final : public TensorModel {
 public:
  SumModel(Fit fit, uint64_t elements, Buffer shared)
      : fit_(std::move(fit)), elements_(elements), shared_(std::move(shared)) {}
  ByteSpan shared() const override { return shared_.span(); }

  const Formula& formula() const { return fit_.formula; }
  const Product& product() const { return fit_.product; }
  uint64_t elements() const { return elements_; }

 private:
  const Fit fit_;
  const uint64_t elements_;
  const Buffer shared_;
};

/// Reads a tensor and its references as doubles, whatever they are stored in.
/// Thread-compatible.
class TensorReader {
 public:
  /// `view` has a float type.
  explicit TensorReader(const TensorView& view) : view_(view) {}
  const TensorView& view() const { return view_; }
  FloatType target() const { return *FloatTypeOf(view_.dtype); }
  FloatType TypeOf(int which) const;
  /// Bytes of `count` elements; false if they cannot be read.
  bool Bytes(int which, uint64_t begin, size_t count, uint8_t* out) const;
  bool Values(int which, uint64_t begin, size_t count, double* values);

 private:
  const TensorView& view_;
  Buffer bytes_;
};

/// Runs of elements, evenly spread, with what lies beside them.
class Sample {
 public:
  /// False if it cannot be read.
  bool Take(TensorReader& reader, size_t elements);
  size_t count() const { return count_; }
  ByteSpan target() const { return target_.span(); }

  /// What `formula` leaves to code, of at most so many runs.
  struct Outcome {
    double bits = 0;      ///< an element, about
    uint64_t misses = 0;  ///< elements that are not what was predicted
  };
  Outcome Try(const Formula& formula, const Factors& factors,
              size_t most_runs = SIZE_MAX);

  /// Calls body(position in the tensor, index in the sample, count) for each
  /// run.
  template <typename Body>
  void ForRuns(const Body& body) const {
    for (size_t i = 0; i < begins_.size(); ++i) {
      body(begins_[i], i * run_, std::min(run_, count_ - i * run_));
    }
  }
  /// References, for the sample's elements (whole for kFactor).
  std::span<const Reference> references() const { return references_; }

 private:
  uint64_t row_ = 0;
  FloatType type_ = FloatType::kBF16;
  size_t run_ = 0;
  size_t count_ = 0;
  std::vector<uint64_t> begins_;
  Buffer target_;
  std::vector<Buffer> arrays_;
  std::vector<Reference> references_;
  Buffer predictions_;
  Buffer contexts_;
  Buffer symbols_;
};

/// Of a sample: enough to tell formulas apart.
inline constexpr size_t kFewRuns = 24;

/// Exponent field of the tensor's typical elements, less 3: where contexts
/// begin to tell small elements apart.
uint64_t NoiseExponentOf(ByteSpan elements, FloatType type);

/// The square of what the last place of `value` is worth in a type.
double SquaredPlace(FloatType type, double value);

/// References of role kBase with float elements, by number.
std::vector<uint8_t> BasesOf(const TensorView& view);

// The fits: nullopt where they do not apply.

/// The tensor is a low-rank product beside the first base.
std::optional<Fit> FitLowRank(TensorReader& reader, Sample& sample);
/// It is a combination of two bases or more.
std::optional<Fit> FitMerge(TensorReader& reader, Sample& sample);
/// It is the first base and a product of the references of role kFactor.
std::optional<Fit> FitAdapter(TensorReader& reader, Sample& sample);

}  // namespace zipllm::codecs::sum_fit

#endif  // ZIPLLM_CODECS_REFERENCE_SUM_MODEL_H_
