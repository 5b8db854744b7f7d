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

  /// Whether `t` may be coded against `source`, as far as their types tell.
  bool IsComparable(size_t t, size_t source) const {
    const auto of_t = format(t);
    const auto of_source = format(source);
    return of_t && of_source && of_t->is_float == of_source->is_float &&
           (tensors_[t].quantized != 0 || tensors_[source].quantized == 0);
  }
  /// Compares values of `t`, which has a format, with their predictions.
  Comparison Compare(size_t t, std::span<const int32_t> values,
                     std::span<const int32_t> predicted) const {
    return tensors_[t].quantized != 0
               ? CompareNear(values, predicted)
               : archive::Compare(*format(t), values, predicted);
  }

 private:
  const std::vector<LineageTensor>& tensors_;
  LineageReader& reader_;
  std::vector<uint8_t> bytes_;
};

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_ORDERED_READER_H_
