// Finds, before anything is coded, which tensors may be coded against which: a
// fine-tune against its base, a checkpoint against the one before, a merge
// against its parents. Names only order what is tried; values decide.
#ifndef ZIPLLM_ARCHIVE_LINEAGE_H_
#define ZIPLLM_ARCHIVE_LINEAGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "zipllm/types.h"

namespace zipllm::archive {

/// A tensor that may be coded against others, or be what others are coded
/// against.
struct LineageTensor {
  std::string name;
  DType dtype = DType::kBytes;
  std::vector<uint64_t> shape;
  uint64_t elements = 0;
  /// Tensors of one file have the same number, those of others another.
  size_t file = 0;
  /// Bits a weight of a quantized tensor, times 16; 0 of one that is not. Of
  /// such a tensor the reader gives the numbers that it stands for, as FP32,
  /// which `dtype` then is: they are only near what it was made of. It may be
  /// the source of quantized ones alone.
  uint16_t quantized = 0;
  /// Of tensors that are coded already: 1 + that of what they are coded
  /// against, 0 if nothing.
  uint32_t depth = 0;
};

/// Gives the elements of tensors, by their place in the list.
class LineageReader {
 public:
  virtual ~LineageReader() = default;
  /// Reads the elements from `begin` on, as many as `out` has bytes for; false
  /// if they cannot be read: the tensor then is no one's source. Reads of one
  /// tensor come in passes with ascending `begin`.
  virtual bool Read(size_t tensor, uint64_t begin, MutableByteSpan out) = 0;
};

/// Where elements of a target come from in a source. Both are seen as matrices
/// of rows of `columns` and `source_columns` elements, whatever their shapes
/// are; elements count row by row. The view covers whole rows of the target:
/// its row i (from the first that is covered) and column j is
///   kSame        source row i + row_offset, column j + column_offset
///   kTransposed  source row j + row_offset, column i + column_offset
///   kRows        source row rows[i], column j + column_offset
struct SourceView {
  enum class Order : uint8_t { kSame = 0, kTransposed = 1, kRows = 2 };
  size_t source = 0;  ///< place in the list of tensors
  Order order = Order::kSame;
  uint64_t target_begin = 0;     ///< elements before those that are covered
  uint64_t target_elements = 0;  ///< how many are covered
  uint64_t columns = 1;          ///< of the target
  uint64_t source_columns = 1;
  uint64_t row_offset = 0;
  uint64_t column_offset = 0;
  std::vector<uint32_t> rows;

  bool operator==(const SourceView&) const = default;
};

/// What a tensor may be coded against.
struct Lineage {
  /// The nearest: one view, or several where it is made of several sources, by
  /// ascending `target_begin` and without overlap. What no view covers is
  /// coded alone. Empty if there is none.
  std::vector<SourceView> base;
  /// Of what seems to be a weighted sum of tensors, those beside `base` (which
  /// then is one view of the whole tensor, as each of these is): one or two.
  std::vector<SourceView> merge;
  /// Of a quantized tensor: views of whole tensors that it may have been made
  /// of, up to four, the likeliest first, `base` (which then is one view of the
  /// whole tensor) among them; trials decide. Likewise of one that is far from
  /// all that is like it.
  std::vector<SourceView> candidates;
  /// Of what seems to be the base and a multiple of a product B·A of two small
  /// matrices that are there too: A (rank x columns) and B (rows x rank).
  struct Adapter {
    size_t a;
    size_t b;
    bool operator==(const Adapter&) const = default;
  };
  std::optional<Adapter> adapter;
  /// 1 + the greatest of its sources', 0 if it has none.
  uint32_t depth = 0;
};

struct LineageOptions {
  /// Whether targets may be sources of others: false leaves outside bases.
  bool inside = true;
  /// No tensor gets a greater depth: instead of a source that is as deep, one
  /// of what that is coded against serves.
  uint32_t max_depth = 4;
  /// Of sources that are nearly as near (by about a bit), those that stand
  /// first in the list serve.
  bool prefer_first = false;
  /// If not 0: tensors that would get this depth or more are coded without
  /// sources that are coded themselves: of a running sequence, every so many
  /// checkpoints one stands alone.
  uint32_t keyframes = 0;
};

/// Finds sources for `tensors[first_target]` and those after it, which are in
/// the order in which they are coded; before them come those of outside
/// bases. The source of a tensor always comes before it in the list. Returns a
/// lineage for each tensor of the list, empty ones for those that are no
/// targets. Equal input gives equal results on every machine. Packed element
/// types have no sources. Takes at most about 2 KiB of memory a tensor, 64 MiB
/// for samples in all, and 150 bytes for each row where rows are compared.
std::vector<Lineage> FindLineage(const std::vector<LineageTensor>& tensors,
                                 size_t first_target, LineageReader& reader,
                                 const LineageOptions& options = {});

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_LINEAGE_H_
