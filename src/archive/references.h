// What the tensors of an archive that is being made are coded against.
#ifndef ZIPLLM_ARCHIVE_REFERENCES_H_
#define ZIPLLM_ARCHIVE_REFERENCES_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "archive/bases.h"
#include "archive/duplicates.h"
#include "archive/frame_encoder.h"
#include "archive/lineage.h"
#include "archive/scale_roles.h"
#include "base/executor.h"

namespace zipllm::archive {

/// Elements of a tensor that are coded against the same sources, in order.
struct Part {
  uint64_t begin = 0;  ///< elements of the tensor before it
  uint64_t elements = 0;
  uint64_t row = 0;  ///< elements of a row; it begins with a whole one
  struct Source {
    codecs::Role role;
    size_t tensor = 0;  ///< by number
    size_t run = 0;     ///< of the tensor, if it is not outside
    SourceView view;    ///< relative to the run
  };
  std::vector<Source> sources;  ///< none: coded alone
};

/// Thread-compatible, but for what is said.
class References {
 public:
  /// Looks for what the segments of `inputs` may be coded against, in `bases`
  /// (or null) and, if `inside`, among themselves; reads what is used of
  /// `bases`.
  /// `check` is asked now and then whether to go on. `level` is that of
  /// compression. `original` (or null) says which segment, if any, is coded in
  /// the stead of one that seems to equal it. `prefer_first`: as of
  /// LineageOptions.
  using Place = std::pair<size_t, uint64_t>;  // input, offset
  absl::Status Scan(
      Inputs& inputs, std::deque<BaseTensor>* bases, bool inside, int level,
      Executor& executor, const std::function<absl::Status()>& check,
      const std::function<Place(const Place&)>& original = nullptr,
      bool prefer_first = false);

  /// What the archive must say that it needs.
  const std::vector<container::OutsideReference>& outside() const {
    return outside_;
  }

  /// The tensor at `offset` of input number `input`; SIZE_MAX if it is none.
  size_t Find(size_t input, uint64_t offset) const;
  /// Whether others are coded against it.
  bool IsSource(size_t tensor) const { return tensors_[tensor].is_source; }
  /// The tensors of the archive that it would be coded against, if they were
  /// coded before it.
  std::vector<size_t> SourcesInside(size_t tensor) const;
  bool IsCoded(size_t tensor) const { return !tensors_[tensor].runs.empty(); }
  /// Where it stands: a segment of an input.
  Segment SegmentOf(size_t tensor) const;
  /// How its elements are packed; a complex number is two of them.
  container::Packing PackingOfTensor(size_t tensor) const;
  /// SIZE_MAX: it is of no input, but made to code others against it.
  size_t InputOf(size_t tensor) const { return tensors_[tensor].input; }
  /// The file of a tensor that is outside; "" of others.
  std::string ModelOf(size_t tensor) const {
    const BaseTensor* base = tensors_[tensor].base;
    return base == nullptr ? "" : base->model;
  }
  /// For those who code nothing: tensors that were made are there all the same.
  void TakeMadeAsCoded();
  /// Its bytes; null where it cannot be read.
  std::unique_ptr<TensorBytes> Open(size_t tensor) const {
    return Open(tensor, 0);
  }
  /// The parts that it is coded in. Sources that are not coded yet are left
  /// out.
  std::vector<Part> Parts(size_t tensor) const;

  /// Says that elements from `begin` on have been coded in blocks of
  /// `block_size` bytes from number `first_block` on.
  void AddRun(size_t tensor, uint64_t begin, uint64_t elements,
              uint64_t first_block, uint32_t block_size);

  /// The sources of `count` elements of `part` from its element `begin` on, in
  /// a frame whose first block has number `first_block`.
  container::FrameSources SourcesOf(const Part& part,
                                    const container::Packing& packing,
                                    uint64_t begin, uint64_t count,
                                    uint64_t first_block) const;
  /// Reads those elements of the sources. May be called by several threads.
  absl::Status Load(const Part& part, const container::FrameSources& against,
                    uint64_t count, std::vector<Buffer>* out) const;
  /// The elements of a part and its sources; must not outlive this.
  std::unique_ptr<codecs::TensorView> View(size_t tensor, const Part& part,
                                           int level) const;

 private:
  struct Run {
    uint64_t begin;
    uint64_t elements;
    uint64_t first_block;
    uint32_t block_size;
  };
  struct Tensor {
    BaseTensor* base = nullptr;  // outside; else:
    size_t input = SIZE_MAX;
    uint64_t offset = 0;
    std::shared_ptr<const Buffer> made = nullptr;  // of no input
    DType dtype = DType::kBytes;                   // as the file has it
    DType seen = DType::kBytes;                    // what elements are taken as
    container::Packing packing = {};  // of it; or of weights in its elements
    std::vector<uint64_t> shape;
    uint64_t outside_number = 0;
    bool is_source = false;
    std::vector<Run> runs;  // once it is coded
  };
  class Reader;
  class StoredReader;
  class RowsReader;
  class PartView;

  // Gives tensors of checkpoints their optimizer's moments. `checkpoints`:
  // which tensors belong to one, by number.
  void AddMoments(size_t first_target,
                  const std::vector<std::vector<size_t>>& checkpoints);
  // Finds weights that stand in elements of ordinary types and have scales
  // beside them. `models`: which tensors belong to one, by number.
  void FindScaled(const std::vector<std::vector<size_t>>& models);
  void AddScales();
  // Takes those with less loss before those that are made of them.
  void FindBases(size_t first_target, bool inside, bool prefer_first);
  void DropCostly();
  // Of equal tensors takes that which is coded for a source.
  void TakeOriginals(const std::function<Place(const Place&)>& original);
  // Of what a quantized tensor may have been made of, leaves that which tells
  // most; of what others are far from, that from which a sum leads to them.
  void ChooseSources(int level);
  // Gives quantized tensors the importance that they were made with: that of
  // an imatrix file, or one that is found back.
  absl::Status AddImportance(int level, Executor& executor,
                             const std::function<absl::Status()>& check);
  std::vector<float> ReadImportance(size_t sums, size_t counts) const;
  bool IsSumOf(size_t tensor, const SourceView& view, int level) const;
  double Try(size_t tensor, const SourceView& view,
             std::span<const float> importance, int level) const;
  // Takes the sources from tensors that would end too long a chain.
  void LimitDepth(size_t first_target);
  // From element `begin` on.
  std::unique_ptr<TensorBytes> Open(size_t tensor, uint64_t begin) const;
  // Adds a tensor of no input, a vector.
  size_t Make(std::string name, std::span<const float> elements);
  Part::Source WholeSource(codecs::Role role, size_t tensor) const;
  // Whether `part` has the units that its target and its sources need.
  bool InWholeUnits(size_t tensor, const Part& part) const;
  absl::Status NumberOutside(Executor& executor,
                             const std::function<absl::Status()>& check);

  Inputs* inputs_ = nullptr;
  std::vector<LineageTensor> info_;    // outside ones first
  std::vector<LineageTensor> stored_;  // as files have them
  std::map<size_t, QuantizedWeights> scaled_;
  std::vector<Tensor> tensors_;  // likewise
  std::vector<Lineage> lineage_;
  // Beside the base: moments, of the same shape, or what IsWhole.
  struct Beside {
    codecs::Role role;
    size_t tensor;
    // Of what IsWhole: the elements that it is of.
    uint64_t begin = 0;
    uint64_t end = UINT64_MAX;
  };
  std::vector<std::vector<Beside>> beside_;
  std::vector<container::OutsideReference> outside_;
  std::map<std::pair<size_t, uint64_t>, size_t> by_place_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_REFERENCES_H_
