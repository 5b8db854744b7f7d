#ifndef ZIPLLM_ARCHIVE_ORDERED_READER_H_
#define ZIPLLM_ARCHIVE_ORDERED_READER_H_

#include <optional>
#include <span>
#include <vector>

#include "archive/lineage.h"
#include "archive/sketch.h"

namespace zipllm::archive {

/// Reads elements as ordered integers.
class OrderedReader {
 public:
  /// Both must outlive it.
  OrderedReader(const std::vector<LineageTensor>& tensors,
                LineageReader& reader)
      : tensors_(tensors), reader_(reader) {}

  std::optional<ElementFormat> format(size_t t) const {
    return FindElementFormat(tensors_[t].dtype);
  }

  /// Elements of `t`, which has a format, from `begin` on; false if they cannot
  /// be read.
  bool Read(size_t t, uint64_t begin, std::span<int32_t> out) {
    const ElementFormat of_t = *format(t);
    bytes_.resize(out.size() * of_t.size);
    if (!reader_.Read(t, begin, bytes_)) return false;
    ToOrdered(of_t, bytes_.data(), out);
    return true;
  }

 private:
  const std::vector<LineageTensor>& tensors_;
  LineageReader& reader_;
  std::vector<uint8_t> bytes_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_ORDERED_READER_H_
