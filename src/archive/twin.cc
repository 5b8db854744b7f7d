#include "archive/twin.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bytes.h"

namespace zipllm::archive {
namespace {

using Order = TwinRecipe::Order;

/// A block of a twin: its elements `begin` to `begin + count`.
struct Coded {
  TwinRecipe recipe;
  uint64_t distance = 0;
  uint64_t begin = 0;
  uint64_t count = 0;
  // Of kRows: varints, which were checked: the source's rows for the twin's
  // rows from begin / row on, as far as the block goes. They stay coded, so
  // that no memory follows from what an archive says.
  ByteSpan rows;
};

uint64_t RowsOf(const Coded& coded) {
  const uint64_t row = coded.recipe.row;
  return (coded.begin + coded.count + row - 1) / row - coded.begin / row;
}

/// Calls take(k, row) for the rows of a block: row k of the twin is row `row`
/// of the source. Stops where it returns true, and returns whether it did.
template <typename Take>
bool AnyRow(const Coded& coded, const Take& take) {
  ByteReader reader(coded.rows, "rows");
  uint64_t k = coded.begin / coded.recipe.row;
  for (const uint64_t end = k + RowsOf(coded); k < end; ++k) {
    if (take(k, reader.Varint().value_or(0))) return true;
  }
  return false;
}

absl::StatusOr<Coded> Parse(ByteSpan bytes, uint64_t number, size_t index,
                            size_t size, uint32_t max_block) {
  Coded coded;
  TwinRecipe& recipe = coded.recipe;
  ByteReader reader(bytes, "twin block");
  ASSIGN_OR_RETURN(coded.distance, reader.Varint(number));
  ASSIGN_OR_RETURN(const uint8_t order, reader.Le<uint8_t>());
  if (order > static_cast<uint8_t>(Order::kRows)) {
    return reader.Error("unknown order ", int{order});
  }
  recipe.order = static_cast<Order>(order);
  ASSIGN_OR_RETURN(recipe.element_size, reader.Le<uint8_t>());
  const uint64_t width = recipe.element_size;
  if (!std::has_single_bit(width) || width > 8 || size % width != 0) {
    return reader.Error("elements of ", width, " bytes in ", size);
  }
  coded.count = size / width;
  ASSIGN_OR_RETURN(recipe.block_size, reader.Varint(max_block));
  if (recipe.block_size == 0 || recipe.block_size % width != 0) {
    return reader.Error("source blocks of ", recipe.block_size, " bytes");
  }
  ASSIGN_OR_RETURN(recipe.elements, reader.Varint(kMaxTwinWork * coded.count));
  if (recipe.elements < coded.count) {
    return reader.Error("a source of ", recipe.elements, " elements for ",
                        coded.count);
  }
  ASSIGN_OR_RETURN(coded.begin, reader.Varint(recipe.elements - coded.count));
  ASSIGN_OR_RETURN(recipe.row, reader.Varint(recipe.elements));
  if (recipe.row == 0 || recipe.elements % recipe.row != 0) {
    return reader.Error(recipe.elements, " elements in rows of ", recipe.row);
  }
  for (uint64_t* value : {&recipe.flip, &recipe.add, &recipe.field}) {
    ASSIGN_OR_RETURN(const ByteSpan le, reader.Bytes(width));
    std::memcpy(value, le.data(), width);
  }
  if (recipe.order == Order::kRows) {
    const uint64_t all = recipe.elements / recipe.row;
    coded.rows = bytes.last(reader.remaining());
    for (uint64_t k = RowsOf(coded); k > 0; --k) {
      RETURN_IF_ERROR(reader.Varint(all - 1).status());
    }
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  const uint64_t blocks =
      (recipe.elements * width + recipe.block_size - 1) / recipe.block_size;
  if (blocks > kMaxTwinWork) {
    return reader.Error("a source of ", blocks, " blocks");
  }
  if (coded.distance < blocks + index) {  // in this frame: refused too
    return DataLoss("block ", number,
                    " is the twin of no earlier blocks that it may refer to");
  }
  return coded;
}

/// Part of the twin's block from part of a source block.
template <typename T>
class Copier {
 public:
  Copier(const Coded& coded, MutableByteSpan out)
      : coded_(coded),
        out_(out.data()),
        flip_(static_cast<T>(coded.recipe.flip)),
        add_(static_cast<T>(coded.recipe.add)),
        field_(static_cast<T>(coded.recipe.field)) {}

  /// `data`: the elements `begin` to `end` of the source.
  void Take(const uint8_t* data, uint64_t begin, uint64_t end) {
    const uint64_t row = coded_.recipe.row;
    switch (coded_.recipe.order) {
      case Order::kSame:
        Copy(data, begin, end, 0);
        break;
      case Order::kRows:
        AnyRow(coded_, [&](uint64_t k, uint64_t source_row) {
          const uint64_t start = source_row * row;
          const uint64_t from = std::max(begin, start);
          const uint64_t to = std::min(end, start + row);
          if (from < to) {
            Copy(data + (from - begin) * sizeof(T), from, to, k * row - start);
          }
          return false;
        });
        break;
      case Order::kTransposed:
        Transpose(data, begin, end);
        break;
    }
  }

 private:
  /// Source elements `from` to `to`, which are the twin's `shift` (modulo 2^64)
  /// further on.
  void Copy(const uint8_t* data, uint64_t from, uint64_t to, uint64_t shift) {
    const uint64_t begin = std::max(from + shift, coded_.begin);
    const uint64_t end = std::min(to + shift, coded_.begin + coded_.count);
    for (uint64_t t = begin; t < end; ++t) {
      Put(data + (t - shift - from) * sizeof(T), t);
    }
  }
  void Transpose(const uint8_t* data, uint64_t begin, uint64_t end) {
    // Element (r, c) of the source is element c * rows + r of the twin.
    const uint64_t row = coded_.recipe.row;
    const uint64_t rows = coded_.recipe.elements / row;
    const uint64_t first = coded_.begin / rows;  // columns that the block has
    const uint64_t last = (coded_.begin + coded_.count - 1) / rows;
    for (uint64_t r = begin / row; r * row < end; ++r) {
      const uint64_t from = std::max(begin, r * row + first);
      const uint64_t to = std::min(end, r * row + last + 1);
      for (uint64_t s = from; s < to; ++s) {
        const uint64_t t = (s - r * row) * rows + r;
        if (t - coded_.begin < coded_.count) {
          Put(data + (s - begin) * sizeof(T), t);
        }
      }
    }
  }
  void Put(const uint8_t* from, uint64_t t) {
    T x = LoadLe<T>(from);
    if ((x & field_) != 0) x = static_cast<T>(x + add_);
    x ^= flip_;
    std::memcpy(out_ + (t - coded_.begin) * sizeof(T), &x, sizeof x);
  }

  const Coded& coded_;
  uint8_t* const out_;
  const T flip_, add_, field_;
};

/// Whether elements `begin` to `end` of the source are needed.
bool Needs(const Coded& coded, uint64_t begin, uint64_t end) {
  const uint64_t row = coded.recipe.row;
  switch (coded.recipe.order) {
    case Order::kSame:
      return begin < coded.begin + coded.count && end > coded.begin;
    case Order::kRows:
      return AnyRow(coded, [&](uint64_t, uint64_t r) {
        return begin < (r + 1) * row && end > r * row;
      });
    case Order::kTransposed:
      return true;
  }
  return true;
}

template <typename T>
absl::Status Decode(const Coded& coded, uint64_t number, BlockFetcher& fetcher,
                    FetchLimits& limits, MutableByteSpan out) {
  const TwinRecipe& recipe = coded.recipe;
  const uint64_t block_elements = recipe.block_size / sizeof(T);
  Buffer block;
  // Rows may be named twice, or not at all: nothing stays as it was.
  std::fill(out.begin(), out.end(), uint8_t{0});
  Copier<T> copier(coded, out);
  for (uint64_t i = 0; i * block_elements < recipe.elements; ++i) {
    const uint64_t begin = i * block_elements;
    const uint64_t end = std::min(begin + block_elements, recipe.elements);
    if (!Needs(coded, begin, end)) continue;
    block.Resize((end - begin) * sizeof(T));
    RETURN_IF_ERROR(fetcher.Fetch(number - coded.distance + i,
                                  block.mutable_span(),
                                  /*any=*/false, limits));
    copier.Take(block.data(), begin, end);
  }
  return absl::OkStatus();
}

}  // namespace

void AppendTwin(const TwinRecipe& recipe, uint64_t distance, uint64_t offset,
                uint64_t size, Buffer* out) {
  const uint64_t width = recipe.element_size;
  Coded coded;
  coded.recipe.row = recipe.row;
  coded.begin = offset / width;
  coded.count = size / width;
  ByteWriter writer(out);
  writer.Varint(distance);
  writer.Le(static_cast<uint8_t>(recipe.order));
  writer.Le(recipe.element_size);
  writer.Varint(recipe.block_size);
  writer.Varint(recipe.elements);
  writer.Varint(coded.begin);
  writer.Varint(recipe.row);
  for (const uint64_t value : {recipe.flip, recipe.add, recipe.field}) {
    uint8_t le[8];
    std::memcpy(le, &value, sizeof le);
    writer.Bytes({le, width});
  }
  if (recipe.order != Order::kRows) return;
  const uint64_t first = coded.begin / recipe.row;
  for (uint64_t k = first; k < first + RowsOf(coded); ++k) {
    writer.Varint(recipe.rows[k]);
  }
}

absl::Status DecodeTwin(ByteSpan bytes, uint64_t number, size_t index,
                        uint32_t max_block, BlockFetcher& fetcher,
                        FetchLimits& limits, MutableByteSpan out) {
  ASSIGN_OR_RETURN(const Coded coded,
                   Parse(bytes, number, index, out.size(), max_block));
  switch (coded.recipe.element_size) {
    case 1:
      return Decode<uint8_t>(coded, number, fetcher, limits, out);
    case 2:
      return Decode<uint16_t>(coded, number, fetcher, limits, out);
    case 4:
      return Decode<uint32_t>(coded, number, fetcher, limits, out);
    default:
      return Decode<uint64_t>(coded, number, fetcher, limits, out);
  }
}

}  // namespace zipllm::archive
