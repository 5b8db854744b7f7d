#include "base/range_source.h"

#include <algorithm>
#include <utility>

namespace zipllm {
namespace {

class RangeSource : public Source {
 public:
  RangeSource(uint64_t size, std::string name,
              std::function<absl::Status(uint64_t, MutableByteSpan)> read)
      : size_(size), name_(std::move(name)), read_(std::move(read)) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    ASSIGN_OR_RETURN(const size_t n, ReadAt(position_, out));
    position_ += n;
    return n;
  }
  std::optional<uint64_t> Size() const override { return size_; }
  bool Seekable() const override { return true; }
  absl::StatusOr<size_t> ReadAt(uint64_t offset, MutableByteSpan out) override {
    if (offset >= size_) return 0;
    const size_t n = std::min<uint64_t>(out.size(), size_ - offset);
    RETURN_IF_ERROR(read_(offset, out.first(n)));
    return n;
  }
  std::string Name() const override { return name_; }

 private:
  const uint64_t size_;
  const std::string name_;
  const std::function<absl::Status(uint64_t, MutableByteSpan)> read_;
  uint64_t position_ = 0;
};

}  // namespace

std::unique_ptr<Source> MakeRangeSource(
    uint64_t size, std::string name,
    std::function<absl::Status(uint64_t, MutableByteSpan)> read) {
  return std::make_unique<RangeSource>(size, std::move(name), std::move(read));
}

std::unique_ptr<Source> MakeOwningSource(
    std::shared_ptr<const std::vector<uint8_t>> bytes, std::string name) {
  const uint64_t size = bytes->size();
  return MakeRangeSource(
      size, std::move(name),
      [kept = std::move(bytes)](uint64_t offset, MutableByteSpan out) {
        std::copy_n(kept->begin() + static_cast<ptrdiff_t>(offset), out.size(),
                    out.begin());
        return absl::OkStatus();
      });
}

}  // namespace zipllm
