#include "archive/block_store.h"

#include <algorithm>

#include "base/file.h"

namespace zipllm::archive {

void BlockStore::Add(uint64_t first_block, uint64_t offset) {
  std::lock_guard lock(mutex_);
  places_.push_back({first_block, offset});
}

size_t BlockStore::frames() const {
  std::lock_guard lock(mutex_);
  return places_.size();
}

absl::StatusOr<std::shared_ptr<const FrameDecoder>> BlockStore::Frame(
    size_t frame) {
  uint64_t offset;
  {
    std::lock_guard lock(mutex_);
    for (const Cached& cached : cache_) {
      if (cached.frame == frame) return cached.decoder;
    }
    offset = places_[frame].offset;
  }
  ASSIGN_OR_RETURN(container::Frame read,
                   container::ReadFrameAt(source_, offset));
  if (!read.prefix.Is(container::FrameType::kBlocks)) {
    return DataLoss("the archive has no blocks at byte ", offset,
                    ", where its index says so");
  }
  ASSIGN_OR_RETURN(auto decoder, FrameDecoder::Create(read, header_));
  std::lock_guard lock(mutex_);
  cache_[next_slot_] = {frame, decoder};
  next_slot_ = (next_slot_ + 1) % cache_.size();
  return decoder;
}

absl::Status BlockStore::DecodeFrom(const FrameDecoder& decoder, size_t block,
                                    uint64_t number, MutableByteSpan out,
                                    BlockFetcher* fetcher) {
  const container::BlockRecord& record = decoder.head().blocks[block];
  Buffer coded(record.coded_size);
  RETURN_IF_ERROR(ReadAtExactly(source_,
                                decoder.data_offset() + record.coded_offset,
                                coded.mutable_span()));
  codecs::Scratch scratch;
  return decoder.Decode(block, number, coded.span(), out, fetcher, scratch);
}

absl::Status BlockStore::Decode(size_t frame, size_t block,
                                MutableByteSpan out) {
  ASSIGN_OR_RETURN(auto decoder, Frame(frame));
  uint64_t first_block;
  {
    std::lock_guard lock(mutex_);
    first_block = places_[frame].first_block;
  }
  return DecodeFrom(*decoder, block, first_block + block, out, this);
}

absl::Status BlockStore::Fetch(uint64_t number, MutableByteSpan out) {
  size_t frame;
  uint64_t first_block;
  {
    std::lock_guard lock(mutex_);
    auto after = std::upper_bound(
        places_.begin(), places_.end(), number,
        [](uint64_t n, const Place& place) { return n < place.first_block; });
    if (after == places_.begin()) {
      return DataLoss("a duplicate refers to block ", number,
                      ", which is not kept");
    }
    frame = static_cast<size_t>(after - places_.begin()) - 1;
    first_block = places_[frame].first_block;
  }
  ASSIGN_OR_RETURN(auto decoder, Frame(frame));
  const auto& blocks = decoder->head().blocks;
  uint64_t i = number - first_block;
  if (i >= blocks.size() || !decoder->head().kept ||
      blocks[i].size != out.size()) {
    return DataLoss("a duplicate refers to block ", number,
                    ", which is not kept or has another size");
  }
  // No fetcher: a duplicate of a duplicate is refused, so that nothing can go
  // in circles.
  return DecodeFrom(*decoder, i, number, out, nullptr);
}

}  // namespace zipllm::archive
