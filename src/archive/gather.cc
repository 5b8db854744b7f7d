#include "archive/gather.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace zipllm::archive {
namespace {

using container::FrameSource;
using container::FrameSources;
using container::Packing;

/// Elements of a block, by rows.
struct Grid {
  Grid(const FrameSources& against, uint64_t begin, uint64_t count)
      : columns(against.row == 0 ? UINT64_MAX : against.row),
        first((against.row == 0 ? 0 : against.position % against.row) + begin),
        end(first + count) {}
  uint64_t rows_begin() const { return first / columns; }
  uint64_t rows_end() const { return (end - 1) / columns + 1; }
  /// Columns of row `i` that the block has.
  std::pair<uint64_t, uint64_t> ColumnsOf(uint64_t i) const {
    const uint64_t start = i * columns;
    return {std::max(first, start) - start, std::min(end - start, columns)};
  }
  /// The place in the block of (i, j).
  uint64_t At(uint64_t i, uint64_t j) const { return i * columns + j - first; }

  const uint64_t columns;
  const uint64_t first, end;
};

absl::Status GatherRows(const FrameSource& source, const Grid& grid,
                        const Packing& packing, TensorBytes& in,
                        MutableByteSpan out) {
  // In the order of the source, so that each of its blocks is decoded once.
  std::vector<std::pair<uint64_t, uint64_t>> rows;  // source's, block's
  for (uint64_t i = grid.rows_begin(); i < grid.rows_end(); ++i) {
    rows.emplace_back(source.order == FrameSource::Order::kRows
                          ? source.rows[i]
                          : source.row_offset + i,
                      i);
  }
  std::ranges::sort(rows);
  for (const auto& [row, i] : rows) {
    const auto [from, to] = grid.ColumnsOf(i);
    RETURN_IF_ERROR(
        in.Read(packing.BytesOf(row * source.row + source.column_offset + from),
                out.subspan(packing.BytesOf(grid.At(i, from)),
                            packing.BytesOf(to - from))));
  }
  return absl::OkStatus();
}

absl::Status GatherTransposed(const FrameSource& source, const Grid& grid,
                              uint64_t width, TensorBytes& in,
                              MutableByteSpan out) {
  const uint64_t rows_begin = grid.rows_begin();
  const uint64_t rows_end = grid.rows_end();
  const bool one_row = rows_end - rows_begin == 1;
  const auto [from, to] = one_row ? grid.ColumnsOf(rows_begin)
                                  : std::pair(uint64_t{0}, grid.columns);
  Buffer piece((rows_end - rows_begin) * width);
  for (uint64_t j = from; j < to; ++j) {
    RETURN_IF_ERROR(in.Read(((source.row_offset + j) * source.row +
                             source.column_offset + rows_begin) *
                                width,
                            piece.mutable_span()));
    for (uint64_t i = rows_begin; i < rows_end; ++i) {
      const uint64_t at = i * grid.columns + j;
      if (at < grid.first || at >= grid.end) continue;
      std::memcpy(&out[(at - grid.first) * width],
                  piece.data() + (i - rows_begin) * width, width);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BlockTensor::Read(uint64_t offset, MutableByteSpan out) {
  if (offset > size_ || out.size() > size_ - offset) {
    return DataLoss("a source of ", size_, " bytes has no ", out.size(),
                    " at byte ", offset);
  }
  const auto fetch = [&](uint64_t number, MutableByteSpan to) {
    return fetcher_.Fetch(first_ + number, to, /*any=*/true, limits_);
  };
  while (!out.empty()) {
    const uint64_t number = offset / block_size_;
    const uint64_t start = number * block_size_;
    const uint64_t size = std::min(block_size_, size_ - start);
    const uint64_t n = std::min<uint64_t>(out.size(), start + size - offset);
    if (n == size && number != number_) {
      RETURN_IF_ERROR(fetch(number, out.first(n)));
    } else {
      if (number != number_) {
        number_ = UINT64_MAX;
        block_.Resize(size);
        RETURN_IF_ERROR(fetch(number, block_.mutable_span()));
        number_ = number;
      }
      std::memcpy(out.data(), block_.data() + (offset - start), n);
    }
    out = out.subspan(n);
    offset += n;
  }
  return absl::OkStatus();
}

absl::Status Gather(const FrameSources& against, const FrameSource& source,
                    uint64_t begin, uint64_t count, TensorBytes& in,
                    Buffer* out) {
  const Packing packing = container::PackingOf(source.dtype);
  if (source.order == FrameSource::Order::kWhole) {
    out->Resize(packing.BytesOf(source.elements));
    return in.Read(0, out->mutable_span());
  }
  out->Resize(packing.BytesOf(count));
  const Grid grid(against, begin, count);
  if (source.order == FrameSource::Order::kTransposed) {
    return GatherTransposed(source, grid, packing.bytes, in,
                            out->mutable_span());
  }
  const bool contiguous = source.order == FrameSource::Order::kSame &&
                          source.column_offset == 0 &&
                          source.row == against.row;
  if (contiguous) {
    return in.Read(packing.BytesOf(source.row_offset * source.row + grid.first),
                   out->mutable_span());
  }
  return GatherRows(source, grid, packing, in, out->mutable_span());
}

}  // namespace zipllm::archive
