// Finds tensors that are an earlier one transposed, with its rows in another
// order, with other signs or times a power of two.
#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "archive/duplicates.h"
#include "base/bytes.h"
#include "base/file.h"
#include "container/xxh3.h"

namespace zipllm::archive {
namespace {

using Order = TwinRecipe::Order;

// Elements of the diagonal in a sketch: it stays where it is when a matrix is
// transposed.
constexpr uint64_t kDiagonal = 16;
// Elements that are compared before a twin is believed in.
constexpr uint64_t kCompared = 64;
constexpr uint64_t kMinElements = 1024;
// Of each row as many bytes tell it from others.
constexpr size_t kRowSample = 16;
constexpr uint64_t kMaxRows = uint64_t{1} << 18;

/// The bits of an element. Types that are no floats are all mantissa.
struct Format {
  uint8_t size = 0;
  uint64_t sign = 0;
  uint64_t exponent = 0;
  uint64_t mantissa = 0;
};

std::optional<Format> FormatOf(DType dtype) {
  const auto of_float = [](uint8_t size, int mantissa_bits) {
    const uint64_t sign = uint64_t{1} << (8 * size - 1);
    const uint64_t mantissa = (uint64_t{1} << mantissa_bits) - 1;
    return Format{size, sign, (sign - 1) & ~mantissa, mantissa};
  };
  switch (dtype) {
    case DType::kBF16:
      return of_float(2, 7);
    case DType::kF16:
      return of_float(2, 10);
    case DType::kF32:
      return of_float(4, 23);
    case DType::kF64:
      return of_float(8, 52);
    default: {
      const DTypeInfo* info = FindDType(dtype);
      const uint32_t size = info->block_bytes;
      if (info->block_elements != 1 || !std::has_single_bit(size) || size > 8) {
        return std::nullopt;
      }
      return Format{static_cast<uint8_t>(size), 0, 0, ~uint64_t{0}};
    }
  }
}

/// A tensor as a matrix.
struct Matrix {
  size_t index;  // in the list of tensors
  const Candidate* tensor;
  Format format;
  uint64_t rows;
  uint64_t columns;

  uint64_t elements() const { return rows * columns; }
};

std::optional<Matrix> AsMatrix(size_t index, const Candidate& tensor) {
  const std::optional<Format> format = FormatOf(tensor.dtype);
  if (!format || tensor.shape.empty()) return std::nullopt;
  const uint64_t elements = tensor.length / format->size;
  const uint64_t columns = tensor.shape.back();
  if (elements < kMinElements || columns == 0 || elements % columns != 0) {
    return std::nullopt;
  }
  return Matrix{index, &tensor, *format, elements / columns, columns};
}

std::optional<uint64_t> ReadElement(Inputs& inputs, const Matrix& matrix,
                                    uint64_t number) {
  Source* in = inputs.Open(matrix.tensor->input);
  uint64_t value = 0;
  uint8_t bytes[sizeof value] = {};
  const size_t size = matrix.format.size;
  if (in == nullptr ||
      !ReadAtExactly(*in, matrix.tensor->offset + number * size,
                     MutableByteSpan(bytes, size))
           .ok()) {
    return std::nullopt;
  }
  return LoadLe<uint64_t>(bytes);
}

std::optional<uint64_t> DiagonalSketch(Inputs& inputs, const Matrix& matrix) {
  const uint64_t side = std::min(matrix.rows, matrix.columns);
  std::array<uint64_t, kDiagonal> values;
  for (uint64_t i = 0; i < kDiagonal; ++i) {
    const uint64_t k = (side - 1) * i / (kDiagonal - 1);
    const auto value = ReadElement(inputs, matrix, k * matrix.columns + k);
    if (!value) return std::nullopt;
    values[i] = *value & matrix.format.mantissa;
  }
  // Constant tensors say nothing, and cost nothing.
  if (std::ranges::all_of(values, [&](uint64_t v) { return v == values[0]; })) {
    return std::nullopt;
  }
  return Xxh3({reinterpret_cast<const uint8_t*>(values.data()), sizeof values});
}

/// How `twin` is made of `source` if it is so in `order`, by samples.
std::optional<TwinRecipe> Compare(Inputs& inputs, const Matrix& source,
                                  const Matrix& twin, Order order) {
  const Format& format = source.format;
  const uint64_t mask = format.sign | format.exponent | format.mantissa;
  const int exponent_shift =
      format.exponent == 0 ? 0 : std::countr_zero(format.exponent);
  std::optional<uint64_t> flip;
  std::optional<uint64_t> add;
  for (uint64_t i = 0; i < kCompared; ++i) {
    // Spread over rows and columns, by steps that are no multiples of them.
    const uint64_t number = (source.elements() - 1) / kCompared * i +
                            i * 7919 % (source.elements() / kCompared);
    const uint64_t row = number / source.columns;
    const uint64_t column = number % source.columns;
    const auto x = ReadElement(inputs, source, number);
    const auto y = ReadElement(
        inputs, twin,
        order == Order::kTransposed ? column * source.rows + row : number);
    if (!x || !y || ((*x ^ *y) & format.mantissa & mask) != 0) {
      return std::nullopt;
    }
    const uint64_t sign = (*x ^ *y) & format.sign;
    const uint64_t step = ((*y & format.exponent) - (*x & format.exponent)) >>
                          exponent_shift << exponent_shift;
    if ((*x & (mask ^ format.sign)) == 0) {  // 0 has no sign and no scale
      if ((*y & (mask ^ format.sign)) != 0) return std::nullopt;
      continue;
    }
    if (flip.value_or(sign) != sign || add.value_or(step) != step) {
      return std::nullopt;
    }
    flip = sign;
    add = step;
  }
  TwinRecipe recipe;
  recipe.order = order;
  recipe.element_size = format.size;
  recipe.elements = source.elements();
  recipe.row = source.columns;
  recipe.flip = flip.value_or(0);
  recipe.field = format.exponent;
  recipe.add = add.value_or(0);
  return recipe;
}

/// XXH3 of the start of each row.
std::optional<std::vector<uint64_t>> RowSketches(Inputs& inputs,
                                                 const Matrix& matrix) {
  const uint64_t row = matrix.columns * matrix.format.size;
  if (matrix.rows < 2 || matrix.rows > kMaxRows || row < kRowSample) {
    return std::nullopt;
  }
  Source* in = inputs.Open(matrix.tensor->input);
  std::vector<uint64_t> sketches(matrix.rows);
  uint8_t bytes[kRowSample];
  for (uint64_t r = 0; r < matrix.rows; ++r) {
    if (in == nullptr ||
        !ReadAtExactly(*in, matrix.tensor->offset + r * row, bytes).ok()) {
      return std::nullopt;
    }
    sketches[r] = Xxh3(bytes);
  }
  return sketches;
}

/// Which row of the source each row of the twin is; nothing if one is none.
std::optional<std::vector<uint32_t>> MatchRows(
    const std::vector<uint64_t>& source, const std::vector<uint64_t>& twin) {
  std::unordered_map<uint64_t, uint32_t> where;
  for (uint32_t r = 0; r < source.size(); ++r) where.emplace(source[r], r);
  // As good as the order in which they stand, where rows begin alike.
  std::vector<uint32_t> rows(twin.size());
  for (size_t k = 0; k < twin.size(); ++k) {
    const auto found = where.find(twin[k]);
    if (found == where.end()) return std::nullopt;
    rows[k] = source[k] == twin[k] ? static_cast<uint32_t>(k) : found->second;
  }
  return rows;
}

}  // namespace

std::vector<FoundTwin> FindTwins(Inputs& inputs,
                                 const std::vector<const Candidate*>& tensors,
                                 bool rows) {
  // Only tensors of one type and size can be twins.
  std::map<std::pair<DType, uint64_t>, std::vector<Matrix>> alike;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (auto matrix = AsMatrix(i, *tensors[i])) {
      alike[{tensors[i]->dtype, matrix->elements()}].push_back(*matrix);
    }
  }
  std::vector<FoundTwin> found;
  for (const auto& [key, matrices] : alike) {
    if (matrices.size() < 2) continue;
    std::map<uint64_t, const Matrix*> by_diagonal;
    struct Rows {
      const Matrix* matrix;
      std::vector<uint64_t> sketches;
    };
    std::map<std::tuple<uint64_t, uint64_t>, Rows> by_rows;
    for (const Matrix& matrix : matrices) {
      const auto add = [&](const Matrix& source, TwinRecipe recipe) {
        found.push_back({matrix.index, source.index, std::move(recipe)});
      };
      const auto diagonal = DiagonalSketch(inputs, matrix);
      if (!diagonal) continue;
      const auto [place, is_new] = by_diagonal.emplace(*diagonal, &matrix);
      if (!is_new) {
        const Matrix& source = *place->second;
        std::optional<TwinRecipe> recipe;
        if (source.rows == matrix.columns && source.columns == matrix.rows) {
          recipe = Compare(inputs, source, matrix, Order::kTransposed);
        }
        if (!recipe) recipe = Compare(inputs, source, matrix, Order::kSame);
        if (recipe) {
          add(source, std::move(*recipe));
          continue;
        }
      }
      if (!rows) continue;
      auto sketches = RowSketches(inputs, matrix);
      if (!sketches) continue;
      uint64_t sum = 0;  // the same in any order
      for (const uint64_t sketch : *sketches) sum += sketch;
      const auto [other, is_first] =
          by_rows.emplace(std::tuple(matrix.rows, sum), Rows{&matrix, {}});
      if (is_first) {
        other->second.sketches = std::move(*sketches);
        continue;
      }
      const Matrix& source = *other->second.matrix;
      if (auto order = MatchRows(other->second.sketches, *sketches)) {
        TwinRecipe recipe;
        recipe.order = Order::kRows;
        recipe.element_size = source.format.size;
        recipe.elements = source.elements();
        recipe.row = source.columns;
        recipe.rows = std::move(*order);
        add(source, std::move(recipe));
        if (is_new) by_diagonal.erase(place);  // no twin of a twin
      }
    }
  }
  return found;
}

}  // namespace zipllm::archive
