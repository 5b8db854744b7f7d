// Finds what tensors are made of whose shape changed: rows added, several
// tensors fused into one or one split, rows in another order, transposed.
#ifndef ZIPLLM_ARCHIVE_STRUCTURE_H_
#define ZIPLLM_ARCHIVE_STRUCTURE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "archive/lineage.h"
#include "archive/ordered_reader.h"
#include "archive/row_index.h"

namespace zipllm::archive {

/// Looks among earlier tensors of other files. Thread-compatible.
class StructureFinder {
 public:
  /// Both must outlive it.
  StructureFinder(const std::vector<LineageTensor>& tensors,
                  OrderedReader& reader);

  /// Tells that `t` is nearly the same as `other`, which came before: only that
  /// is looked at then, and `t` where that serves.
  void AddRelative(size_t t, size_t other);

  /// Views of sources that `allowed` lets pass, of which tensor `t` seems to be
  /// made: by ascending target_begin, without overlap; empty if there are none.
  /// Is asked for ascending `t`.
  std::vector<SourceView> Find(size_t t,
                               const std::function<bool(size_t)>& allowed);

  /// What a view of a whole tensor costs, in 1/256 bit an element; nothing if
  /// it tells nothing.
  std::optional<uint32_t> CostOf(size_t t, const SourceView& view);
  /// The view, with tensors that are nearly the same as its source instead of
  /// that.
  std::vector<SourceView> Variants(size_t t, const SourceView& view) const;

 private:
  /// A view, and the bits that it seems to save.
  struct Candidate {
    SourceView view;
    uint64_t saved = 0;
  };
  struct Match {
    uint32_t source;
    uint32_t source_row;
    uint32_t row;
  };
  /// Matrices with equally many columns, of floats or of integers.
  struct Class {
    std::vector<size_t> members;  // ascending
    size_t indexed = 0;           // of the members, how many are
  };
  using Shape = std::pair<uint64_t, uint64_t>;
  /// 16 x 16 elements amid a part of a tensor that has the shape of another.
  struct Block {
    size_t tensor;
    RowSignature bits;
    SourceView view;  // of that part
  };

  bool Comparable(size_t t, size_t source) const;
  /// Whether `source` serves less than `other` for being quantized.
  bool IsLess(size_t source, size_t other) const;
  std::optional<Comparison> CompareView(size_t t, const SourceView& view);
  std::optional<RowSignature> BlockBits(size_t t, uint64_t row, uint64_t column,
                                        bool transposed);
  void AddBlocks(size_t source, const Shape& shape, std::vector<Block>* blocks);
  const std::vector<Block>& BlocksOf(const Shape& shape, size_t before);
  void FindBlocks(size_t t, const std::function<bool(size_t)>& allowed,
                  std::vector<Candidate>* found);

  void FindMatches(size_t t, const std::vector<Row>& rows,
                   const std::function<bool(size_t)>& allowed,
                   std::vector<Match>* matches) const;
  bool Index(size_t t, std::vector<Row>* rows);
  void FindRows(size_t t, const std::function<bool(size_t)>& allowed,
                std::vector<Candidate>* found);
  void AlignRows(size_t t, const std::vector<size_t>& sources,
                 std::vector<Candidate>* found);
  bool Propose(size_t t, SourceView view, std::vector<Candidate>* found);
  bool TryOrders(size_t t, size_t source, std::vector<Candidate>* found);
  void TryRelatives(size_t t, const std::function<bool(size_t)>& allowed,
                    Candidate* candidate);
  SourceView RowsView(size_t t, size_t source, uint64_t target_row,
                      uint64_t source_row, uint64_t rows) const;

  const std::vector<LineageTensor>& tensors_;
  OrderedReader& reader_;
  std::vector<std::optional<Matrix>> matrices_;
  std::vector<size_t> file_begins_;  // first tensor of the file of each
  // Of tensors that are nearly the same, the first; and of that the others.
  std::vector<size_t> roots_;
  std::map<size_t, std::vector<size_t>> relatives_;
  std::vector<bool> is_indexed_;
  std::map<std::pair<bool, uint64_t>, Class> classes_;
  RowIndex index_;
  // In which tensors had the rows of others, by how many rows those have.
  std::map<std::pair<uint64_t, uint64_t>, std::vector<std::vector<uint32_t>>>
      orders_;
  struct Blocks {
    size_t looked_at = 0;  // of the tensors, how many
    std::vector<Block> blocks;
  };
  std::map<Shape, Blocks> blocks_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_STRUCTURE_H_
