#include "archive/row_index.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace zipllm::archive {
namespace {

// Rows that are read together.
constexpr uint64_t kBlock = 8;
// The sample has kShare times the root of all rows.
constexpr uint64_t kShare = 6;
// Where many rows are alike, not all are looked at.
constexpr size_t kMaxChain = 256;
// Up to so many bytes between the starts of rows are read rather than skipped.
constexpr uint64_t kShortRow = 4096;

// 20 bits that look random (splitmix64).
uint64_t Hash(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return (x ^ (x >> 31)) >> 44;
}

}  // namespace

std::optional<Matrix> MatrixOf(const LineageTensor& tensor) {
  if (tensor.shape.empty() || tensor.elements == 0) return std::nullopt;
  uint64_t columns = kVectorColumns;
  if (tensor.shape.size() > 1) {
    columns = tensor.shape.back();
    if (columns < kMinColumns && tensor.shape[0] != 0) {
      columns = tensor.elements / tensor.shape[0];
    }
    if (columns < kMinColumns) return std::nullopt;
  }
  const Matrix matrix{tensor.elements / columns, columns};
  if (matrix.rows < 2 || matrix.rows > UINT32_MAX) return std::nullopt;
  return matrix;
}

std::optional<RowSignature> SignatureOf(std::span<const int32_t> row) {
  int64_t sum = 0;
  for (const int32_t value : row) sum += value;
  const int64_t mean = sum / static_cast<int64_t>(row.size());
  RowSignature signature{};
  size_t above = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    const uint64_t bit = row[i] > mean;
    signature[i / 64] |= bit << (i % 64);
    above += bit;
  }
  if (above < row.size() / 8 || above > row.size() - row.size() / 8) {
    return std::nullopt;
  }
  return signature;
}

uint32_t Distance(const RowSignature& a, const RowSignature& b) {
  int distance = 0;
  for (size_t i = 0; i < a.size(); ++i) distance += std::popcount(a[i] ^ b[i]);
  return static_cast<uint32_t>(distance);
}

// Unrelated rows are as near once in 10^7 times or less.
bool AreNear(const RowSignature& a, const RowSignature& b, uint64_t columns) {
  const uint64_t bits = std::min(columns, kSignatureBits);
  const uint64_t percent = bits < 128 ? 17 : bits < 256 ? 25 : 30;
  return Distance(a, b) * 100 <= bits * percent;
}

bool ReadRows(OrderedReader& reader, size_t t, const Matrix& matrix,
              uint64_t begin, uint64_t end, std::vector<Row>* rows) {
  const uint64_t width = std::min(matrix.columns, kSignatureBits);
  const uint64_t row_bytes = matrix.columns * reader.format(t)->size;
  const uint64_t together = row_bytes <= kShortRow ? 65536 / row_bytes : 1;
  std::vector<int32_t> values;
  for (uint64_t r = begin; r < end;) {
    const uint64_t count = std::min(together, end - r);
    values.resize((count - 1) * matrix.columns + width);
    if (!reader.Read(t, r * matrix.columns, values)) return false;
    for (uint64_t i = 0; i < count; ++i, ++r) {
      const auto row =
          std::span<const int32_t>(values).subspan(i * matrix.columns, width);
      if (const auto signature = SignatureOf(row)) {
        rows->push_back({static_cast<uint32_t>(r), *signature});
      }
    }
  }
  return true;
}

bool IsSampled(uint64_t row, uint64_t rows) {
  // hash / 2^20 <= kShare / root of rows
  const uint64_t hash = Hash(row / kBlock);
  return hash * hash <= (kShare * kShare << 40) / rows;
}

uint64_t SampleSize(uint64_t rows) {
  const double size = kShare * std::sqrt(static_cast<double>(rows));
  return std::min(rows, static_cast<uint64_t>(size));
}

bool SampleRows(OrderedReader& reader, size_t t, const Matrix& matrix,
                std::vector<Row>* rows) {
  for (uint64_t r = 0; r < matrix.rows; r += kBlock) {
    if (!IsSampled(r, matrix.rows)) continue;
    if (!ReadRows(reader, t, matrix, r, std::min(r + kBlock, matrix.rows),
                  rows)) {
      return false;
    }
  }
  return true;
}

void RowIndex::Add(size_t tensor, uint64_t columns, const Row& row) {
  if (IsFull()) return;
  const auto number = static_cast<uint32_t>(entries_.size());
  Linked& linked = entries_.emplace_back();
  linked.entry = {row.signature, static_cast<uint32_t>(tensor), row.number};
  for (size_t band = 0; band < BandsOf(columns); ++band) {
    uint32_t& head = heads_[band][Bucket(row.signature, columns, band)];
    linked.next[band] = head;
    head = number;
  }
}

void RowIndex::Find(const RowSignature& signature, uint64_t columns,
                    std::vector<Entry>* found) const {
  for (size_t band = 0; band < BandsOf(columns); ++band) {
    uint32_t at = heads_[band][Bucket(signature, columns, band)];
    for (size_t i = 0; at != kNone && i < kMaxChain; ++i) {
      const Linked& linked = entries_[at];
      at = linked.next[band];
      const RowSignature& other = linked.entry.signature;
      if (!AreNear(signature, other, columns)) continue;
      // It was found by an earlier band.
      bool known = false;
      for (size_t before = 0; before < band; ++before) {
        known |= Band(signature, before) == Band(other, before);
      }
      if (!known) found->push_back(linked.entry);
    }
  }
}

}  // namespace zipllm::archive
