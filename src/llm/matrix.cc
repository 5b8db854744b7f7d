#include "llm/matrix.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/bytes.h"
#include "base/dtype.h"
#include "quantizers/dequantize.h"

namespace zipllm::llm {
namespace {

/// Numbers that are read from a file at once, about.
constexpr uint64_t kChunk = 1 << 18;

float HalfToFloat(uint16_t half) {
  const uint32_t magnitude = uint32_t{half} << 13 & 0x0fffe000;
  // The exponent is set right by a product, which is exact.
  const float value = std::bit_cast<float>(magnitude) * 0x1p112f;
  const uint32_t special = magnitude >= 0x0f800000 ? 0x7f800000 : 0;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | special |
                              (uint32_t{half} & 0x8000) << 16);
}

bool IsKnown(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16 || quantizers::CanDequantize(dtype);
}

void ToFloats(DType dtype, ByteSpan bytes, std::span<float> numbers) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(numbers.data(), bytes.data(), bytes.size());
      return;
    case DType::kF16:
      for (size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = HalfToFloat(LoadLe<uint16_t>(&bytes[2 * i]));
      }
      return;
    case DType::kBF16:
      for (size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = std::bit_cast<float>(
            uint32_t{LoadLe<uint16_t>(&bytes[2 * i])} << 16);
      }
      return;
    default:
      quantizers::Dequantize(dtype, bytes.data(),
                             numbers.size() / FindDType(dtype)->block_elements,
                             numbers.data());
  }
}

}  // namespace

Matrix::Matrix(size_t rows, size_t columns)
    : rows_(rows), blocks_(columns / kBlock) {
  tiles_.Resize(tile_rows() * blocks_ * sizeof(Tile));
  Tile zeros;
  std::memset(zeros.scales, 0, sizeof zeros.scales);
  std::memset(zeros.codes, 128, sizeof zeros.codes);
  auto* tiles = reinterpret_cast<Tile*>(tiles_.data());
  std::fill(tiles, tiles + tile_rows() * blocks_, zeros);
}

uint64_t Matrix::Bytes(uint64_t rows, uint64_t columns) {
  return (rows + kTileRows - 1) / kTileRows * (columns / kBlock) * sizeof(Tile);
}

void Matrix::SetRow(size_t row, const Block* from) {
  auto* tiles =
      reinterpret_cast<Tile*>(tiles_.data()) + row / kTileRows * blocks_;
  for (size_t b = 0; b < blocks_; ++b) {
    tiles[b].scales[row % kTileRows] = from[b].scale;
    for (size_t k = 0; k < kBlock; ++k) {
      tiles[b].codes[k / 4][row % kTileRows][k % 4] =
          static_cast<uint8_t>(from[b].codes[k] + 128);
    }
  }
}

void Matrix::GetRow(size_t row, float* to) const {
  const Tile* from = tiles(row / kTileRows);
  for (size_t b = 0; b < blocks_; ++b) {
    for (size_t k = 0; k < kBlock; ++k) {
      const int code = from[b].codes[k / 4][row % kTileRows][k % 4] - 128;
      *to++ = from[b].scales[row % kTileRows] * static_cast<float>(code);
    }
  }
}

absl::StatusOr<const Segment*> WeightReader::Find(
    const std::string& name, std::span<const uint64_t> shape) const {
  const Segment* tensor = gguf_.FindTensor(name);
  if (tensor == nullptr) {
    return InvalidArgument(gguf_.name(), ": the model has no tensor '", name,
                           "'");
  }
  if (!IsKnown(tensor->dtype)) {
    return Unimplemented(gguf_.name(), ": tensor '", name, "' has the type ",
                         FindDType(tensor->dtype)->name,
                         ", which inference does not know: use a model of F16, "
                         "Q8_0 or Q4_K");
  }
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(),
                  tensor->shape.end())) {
    return InvalidArgument(gguf_.name(), ": tensor '", name,
                           "' has not the shape that the metadata ask for");
  }
  return tensor;
}

/// Of whole blocks of the tensor's type.
absl::Status WeightReader::Read(const Segment& tensor, uint64_t first,
                                uint64_t count, std::vector<float>* numbers) {
  const DTypeInfo& type = *FindDType(tensor.dtype);
  bytes_.Resize(count / type.block_elements * type.block_bytes);
  ASSIGN_OR_RETURN(const size_t got,
                   source_.ReadAt(tensor.offset + first / type.block_elements *
                                                      type.block_bytes,
                                  bytes_.mutable_span()));
  if (got != bytes_.size()) {
    return InvalidArgument(gguf_.name(), ": tensor '", tensor.name,
                           "' is cut short");
  }
  numbers->resize(count);
  ToFloats(tensor.dtype, bytes_.span(), *numbers);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> WeightReader::Vector(const std::string& name,
                                                        size_t count) {
  const uint64_t shape[] = {count};
  ASSIGN_OR_RETURN(const Segment* tensor, Find(name, shape));
  RETURN_IF_ERROR(budget_.Reserve(count * sizeof(float)));
  std::vector<float> numbers;
  RETURN_IF_ERROR(Read(*tensor, 0, count, &numbers));
  return numbers;
}

absl::Status WeightReader::ReadInto(const Segment& tensor, size_t columns,
                                    std::span<const uint32_t> ids, size_t row,
                                    Matrix* matrix) {
  const Kernels& kernels = BestKernels();
  const size_t most_rows = std::max<uint64_t>(1, kChunk / columns);
  std::vector<float> numbers;
  std::vector<Block> blocks(matrix->blocks());
  for (size_t i = 0; i < ids.size();) {
    size_t run = 1;
    while (run < most_rows && i + run < ids.size() &&
           ids[i + run] == ids[i] + run) {
      ++run;
    }
    RETURN_IF_ERROR(Read(tensor, uint64_t{ids[i]} * columns,
                         uint64_t{run} * columns, &numbers));
    for (size_t r = 0; r < run; ++r, ++i, ++row) {
      kernels.quantize(numbers.data() + r * columns, blocks.size(), 1,
                       blocks.data());
      matrix->SetRow(row, blocks.data());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Matrix> WeightReader::ReadMatrix(std::span<const Part> parts,
                                                size_t columns) {
  size_t rows = 0;
  for (const Part& part : parts) {
    const uint64_t shape[] = {part.rows, columns};
    RETURN_IF_ERROR(Find(part.name, shape).status());
    rows += part.rows;
  }
  RETURN_IF_ERROR(budget_.Reserve(Matrix::Bytes(rows, columns)));
  Matrix matrix(rows, columns);
  size_t row = 0;
  std::vector<uint32_t> ids;
  for (const Part& part : parts) {
    ids.resize(part.rows);
    std::iota(ids.begin(), ids.end(), 0);
    RETURN_IF_ERROR(
        ReadInto(*gguf_.FindTensor(part.name), columns, ids, row, &matrix));
    row += part.rows;
  }
  return matrix;
}

absl::StatusOr<Matrix> WeightReader::ReadRows(const std::string& name,
                                              size_t rows, size_t columns,
                                              std::span<const uint32_t> ids) {
  const uint64_t shape[] = {rows, columns};
  ASSIGN_OR_RETURN(const Segment* tensor, Find(name, shape));
  for (uint32_t id : ids) {
    if (id < rows) continue;
    return InvalidArgument(gguf_.name(), ": token ", id,
                           " of the vocabulary has no row in '", name, "'");
  }
  RETURN_IF_ERROR(budget_.Reserve(Matrix::Bytes(ids.size(), columns)));
  Matrix matrix(ids.size(), columns);
  RETURN_IF_ERROR(ReadInto(*tensor, columns, ids, 0, &matrix));
  return matrix;
}

}  // namespace zipllm::llm
