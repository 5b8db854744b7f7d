#include <algorithm>
#include <cstring>
#include <list>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "codecs/text/cm_primed.h"
#include "kernels/kernels.h"

namespace zipllm::codecs::cm {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kMemoryUnit = size_t{1} << 22;

constexpr uint64_t RoundUp(uint64_t size, uint64_t unit) {
  return (size + unit - 1) / unit * unit;
}

/// A copy of memory. Most of what models have before a block are lines that
/// equal the one before: these are counted.
class Image {
 public:
  Image(const uint8_t* memory, size_t size) : from_(memory), size_(size) {
    size_t begin = 0;
    for (size_t at = 0; at < size;) {
      // From `at` on, lines like it; before it, from `begin` on, others.
      size_t end = at + kLine;
      while (end < size && std::memcmp(memory + end, memory + at, kLine) == 0) {
        end += kLine;
      }
      const bool is_last = end == size;
      if (end - at > kLine || is_last) {
        lines_.insert(lines_.end(), memory + begin, memory + at + kLine);
        runs_.push_back({static_cast<uint32_t>((at - begin) / kLine + 1),
                         static_cast<uint32_t>((end - at) / kLine - 1)});
        begin = end;
      }
      at = end;
    }
    lines_.shrink_to_fit();
  }

  /// The image, where its bytes were.
  void CopyTo(uint8_t* memory) const {
    const uint8_t* from = lines_.data();
    for (const Run& run : runs_) {
      std::memcpy(memory, from, run.lines * kLine);
      from += run.lines * kLine;
      memory += run.lines * kLine;
      uint8_t line[kLine];
      std::memcpy(line, from - kLine, kLine);
      for (uint32_t i = 0; i < run.repeats; ++i, memory += kLine) {
        std::memcpy(memory, line, kLine);
      }
    }
  }
  const uint8_t* from() const { return from_; }
  /// Of what it is an image of.
  size_t size() const { return size_; }
  size_t bytes() const {
    return lines_.size() + runs_.size() * sizeof(runs_[0]) + sizeof(*this);
  }

 private:
  struct Run {
    uint32_t lines;    ///< that follow each other
    uint32_t repeats;  ///< of the last of them
  };
  const uint8_t* from_;
  size_t size_;
  std::vector<uint8_t> lines_;
  std::vector<Run> runs_;
};

/// What a process keeps.
class Kept {
 public:
  static Kept& Instance() {
    static auto* const kept = new Kept;
    return *kept;
  }

  /// Null if it is not kept.
  std::shared_ptr<const Image> FindImage(uint64_t key) {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(images_, key, &Entry::first);
    if (found == images_.end()) return nullptr;
    images_.splice(images_.begin(), images_, found);
    return found->second;
  }
  /// Those that were not asked for the longest have to go.
  void KeepImage(uint64_t key, std::shared_ptr<const Image> image) {
    const std::lock_guard lock(mutex_);
    if (std::ranges::find(images_, key, &Entry::first) != images_.end()) return;
    image_bytes_ += image->bytes();
    images_.emplace_front(key, std::move(image));
    while (image_bytes_ > PrimedMemory::kMaxKeptImages) {
      image_bytes_ -= images_.back().second->bytes();
      images_.pop_back();
    }
  }

  /// Memory of at least `size` bytes, of whatever contents; null if none is
  /// kept.
  std::unique_ptr<ZeroedMemory> TakeMemory(uint64_t size) {
    const std::lock_guard lock(mutex_);
    auto best = memory_.end();
    for (auto i = memory_.begin(); i != memory_.end(); ++i) {
      if ((*i)->size() >= size &&
          (best == memory_.end() || (*i)->size() < (*best)->size())) {
        best = i;
      }
    }
    if (best == memory_.end()) return nullptr;
    std::unique_ptr<ZeroedMemory> memory = std::move(*best);
    memory_.erase(best);
    memory_bytes_ -= memory->size();
    return memory;
  }
  void KeepMemory(std::unique_ptr<ZeroedMemory> memory) {
    std::vector<std::unique_ptr<ZeroedMemory>> given_back;  // after unlocking
    const std::lock_guard lock(mutex_);
    memory_bytes_ += memory->size();
    memory_.push_back(std::move(memory));
    while (memory_bytes_ > PrimedMemory::kMaxKeptMemory) {
      memory_bytes_ -= memory_.front()->size();
      given_back.push_back(std::move(memory_.front()));
      memory_.erase(memory_.begin());
    }
  }

 private:
  using Entry = std::pair<uint64_t, std::shared_ptr<const Image>>;

  std::mutex mutex_;
  std::list<Entry> images_;  ///< those asked for last come first
  size_t image_bytes_ = 0;
  std::vector<std::unique_ptr<ZeroedMemory>> memory_;
  size_t memory_bytes_ = 0;
};

}  // namespace

uint64_t PrimedKey(uint8_t codec, const std::array<uint8_t, 4>& params,
                   int index_bits) {
  uint64_t key = codec;
  for (const uint8_t byte : params) key = key << 8 | byte;
  return (key << 8 | static_cast<uint8_t>(index_bits)) << 8 |
         static_cast<uint8_t>(kernels::Best().target);
}

PrimedMemory::PrimedMemory(const Primed& model) {
  const uint64_t used = RoundUp(model.used, kLine);
  const bool is_kept = model.size <= kMaxKeptSize;
  Kept& kept = Kept::Instance();
  if (is_kept) memory_ = kept.TakeMemory(model.size);
  const bool is_zeroed = memory_ == nullptr;
  if (is_zeroed) {
    // Of few sizes, so that it can be used again.
    memory_ = std::make_unique<ZeroedMemory>(
        is_kept ? RoundUp(model.size, kMemoryUnit) : model.size);
  }
  if (data() == nullptr) return;
  const auto clear = [&](uint64_t begin) {
    if (!is_zeroed && begin < model.size) {
      std::memset(data() + begin, 0, static_cast<size_t>(model.size - begin));
    }
  };
  if (const auto image = is_kept ? kept.FindImage(model.key) : nullptr) {
    image->CopyTo(data());
    clear(image->size());
    model.coder->relocate(data(), image->from());
    return;
  }
  clear(0);
  model.prime(data());
  if (!is_kept) return;
  kept.KeepImage(model.key,
                 std::make_shared<Image>(data(), static_cast<size_t>(used)));
}

PrimedMemory::~PrimedMemory() {
  if (data() != nullptr && memory_->size() <= kMaxKeptSize) {
    Kept::Instance().KeepMemory(std::move(memory_));
  }
}

bool EncodePrimed(const Primed& model, ByteSpan block, Buffer* out,
                  const Follower& follower) {
  const PrimedMemory memory(model);
  if (memory.data() == nullptr) throw std::bad_alloc();
  const size_t start = out->size();
  const size_t size =
      model.coder->encode(memory.data(), block.data(), block.size(),
                          out->Extend(block.size()), block.size(), follower);
  const bool smaller = size != 0 && size < block.size();
  out->Resize(smaller ? start + size : start);
  return smaller;
}

absl::Status DecodePrimed(const Primed& model, std::string_view codec,
                          ByteSpan coded, MutableByteSpan out,
                          const Follower& follower) {
  const PrimedMemory memory(model);
  if (memory.data() == nullptr) {
    return ResourceExhausted("no memory for ", codec, " tables of ", model.size,
                             " bytes");
  }
  if (!model.coder->decode(memory.data(), coded.data(), coded.size(),
                           out.data(), out.size(), follower)) {
    return DataLoss(codec, " block is not as long as its code");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::codecs::cm
