// Which models of a store a new one may be made of, without reading them: by
// sketches of their tensors and an index over these.
#ifndef ZIPLLM_STORE_CANDIDATES_H_
#define ZIPLLM_STORE_CANDIDATES_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "store/catalogue.h"
#include "store/format.h"
#include "zipllm/types.h"

namespace zipllm::store {

/// Reads bytes of a tensor: from where, how many.
using ReadTensor = std::function<absl::Status(uint64_t, MutableByteSpan)>;

/// The sketch of a tensor: equal for the same values in other types, near for
/// those that were trained on or quantized, and for tensors to which rows were
/// added (unless that takes them over a power of two). Nothing where the tensor
/// is too small (below 4096 elements), its type is not compared, its values
/// say nothing, or it cannot be read. Quantized types count as the numbers they
/// stand for.
std::optional<TensorSketch> SketchTensor(const Sha256Digest& object,
                                         const Segment& segment,
                                         const ReadTensor& read);

/// A model that a new one may be coded against.
struct ModelCandidate {
  Sha256Digest manifest{};
  /// Tensors of the new model that have one like them there, weighted by
  /// elements (powers of two); and how many bits of their sketches differ on
  /// average, of 512.
  uint64_t matched_elements = 0;
  double distance = 0;
};

/// At most `limit` models, the best first: together they explain the most of
/// the tensors (a merge has several parents), ties go to what is nearer. Of
/// objects of depth `max_depth` and more none can be coded against: they do not
/// count. Tensors in `known` are in the store already; models that have them
/// count where nothing else tells. Equal catalogues give equal answers; each
/// look-up is limited, so that the time does not grow with the store.
absl::StatusOr<std::vector<ModelCandidate>> FindCandidates(
    Catalogue& catalogue, const std::vector<TensorSketch>& sketches,
    const std::vector<Sha256Digest>& known, size_t limit, int max_depth = 4);

/// Models that the text of a model card (README.md) or config (config.json,
/// adapter_config.json) says that it was made of: names as they stand there.
std::vector<std::string> BaseModelHints(const std::string& file_name,
                                        const std::string& text);

}  // namespace zipllm::store

#endif  // ZIPLLM_STORE_CANDIDATES_H_
