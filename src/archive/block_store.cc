#include "archive/block_store.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/file.h"
#include "codecs/log/search.h"

namespace zipllm::archive {

absl::StatusOr<std::shared_ptr<const Buffer>> DecodeShared(
    const container::Frame& frame, ByteSpan data,
    const container::Header& header) {
  ASSIGN_OR_RETURN(auto decoder, FrameDecoder::Create(frame, header));
  const container::BlocksHead& head = decoder->head();
  if (head.kept || !head.against.sources.empty() || head.shared_distance != 0) {
    return DataLoss("the Shared frame at byte ", frame.offset, " has flags");
  }
  auto shared = std::make_shared<Buffer>(decoder->head().size);
  codecs::Scratch scratch;
  MutableByteSpan out = shared->mutable_span();
  for (size_t i = 0; i < decoder->head().blocks.size(); ++i) {
    const container::BlockRecord& block = decoder->head().blocks[i];
    FetchLimits limits = {.depth = 0, .blocks = 0};
    RETURN_IF_ERROR(Annotate(
        decoder->Decode(i, i,
                        data.subspan(block.coded_offset, block.coded_size),
                        out.first(block.size), {}, limits, scratch),
        "what blocks share, at byte ", frame.offset, ": "));
    out = out.subspan(block.size);
  }
  return shared;
}

void BlockStore::Add(uint64_t first_block, uint64_t offset,
                     std::optional<uint64_t> shared) {
  std::lock_guard lock(mutex_);
  places_.push_back({first_block, offset, shared});
}

size_t BlockStore::frames() const {
  std::lock_guard lock(mutex_);
  return places_.size();
}

absl::StatusOr<std::shared_ptr<const Buffer>> BlockStore::Shared(
    uint64_t offset) {
  {
    std::lock_guard lock(mutex_);
    if (shared_offset_ == offset) return shared_;
  }
  ASSIGN_OR_RETURN(container::Frame frame,
                   container::ReadFrameAt(source_, offset));
  if (!frame.prefix.Is(container::FrameType::kShared) ||
      frame.prefix.data_size > header_.max_frame) {
    return DataLoss("nothing is shared at byte ", offset,
                    ", where a frame says so");
  }
  Buffer data(frame.prefix.data_size);
  RETURN_IF_ERROR(ReadAtExactly(source_, offset + frame.start->size(),
                                data.mutable_span()));
  ASSIGN_OR_RETURN(auto shared, DecodeShared(frame, data.span(), header_));
  std::lock_guard lock(mutex_);
  shared_offset_ = offset;
  shared_ = shared;
  return shared;
}

absl::StatusOr<BlockStore::Frame> BlockStore::Open(size_t frame) {
  Place place;
  {
    std::lock_guard lock(mutex_);
    for (const Cached& cached : cache_) {
      if (cached.frame == frame) return cached.opened;
    }
    place = places_[frame];
  }
  ASSIGN_OR_RETURN(container::Frame read,
                   container::ReadFrameAt(source_, place.offset));
  if (!read.prefix.Is(container::FrameType::kBlocks) &&
      !read.prefix.Is(container::FrameType::kAhead)) {
    return DataLoss("the archive has no blocks at byte ", place.offset,
                    ", where its index says so");
  }
  Frame opened;
  ASSIGN_OR_RETURN(opened.decoder, FrameDecoder::Create(read, header_));
  const uint64_t distance = opened.decoder->head().shared_distance;
  if (distance != 0) {
    if (!place.shared.has_value() && distance > place.offset) {
      return DataLoss("the frame at byte ", place.offset,
                      " shares what is not there");
    }
    ASSIGN_OR_RETURN(opened.shared,
                     Shared(place.shared.value_or(place.offset - distance)));
  }
  std::lock_guard lock(mutex_);
  cache_[next_slot_] = {frame, opened};
  next_slot_ = (next_slot_ + 1) % cache_.size();
  return opened;
}

absl::Status BlockStore::DecodeFrom(const Frame& frame, size_t block,
                                    uint64_t number, MutableByteSpan out,
                                    FetchLimits& limits) {
  const FrameDecoder& decoder = *frame.decoder;
  const container::BlockRecord& record = decoder.head().blocks[block];
  Buffer coded(record.coded_size);
  RETURN_IF_ERROR(ReadAtExactly(source_,
                                decoder.data_offset() + record.coded_offset,
                                coded.mutable_span()));
  codecs::Scratch scratch;
  return decoder.Decode(block, number, coded.span(), out,
                        {this, outside_, frame.shared.get(), &settings_},
                        limits, scratch);
}

absl::Status BlockStore::Decode(size_t frame, size_t block,
                                MutableByteSpan out) {
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  uint64_t first_block;
  {
    std::lock_guard lock(mutex_);
    first_block = places_[frame].first_block;
  }
  FetchLimits limits;
  return DecodeFrom(opened, block, first_block + block, out, limits);
}

absl::StatusOr<bool> BlockStore::MayContain(size_t frame, size_t block,
                                            const Needles& needles) {
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  const container::BlockRecord& record = opened.decoder->head().blocks[block];
  if (record.codec != codecs::log::kNumber) return true;
  Buffer coded(record.coded_size);
  RETURN_IF_ERROR(ReadAtExactly(
      source_, opened.decoder->data_offset() + record.coded_offset,
      coded.mutable_span()));
  codecs::Scratch scratch;
  const ByteSpan shared =
      opened.shared == nullptr ? ByteSpan() : opened.shared->span();
  return codecs::log::MayContain(coded.span(), record.size, shared, needles.any,
                                 needles.ignore_case, scratch);
}

absl::StatusOr<std::pair<size_t, uint64_t>> BlockStore::FrameOf(
    uint64_t number) const {
  std::lock_guard lock(mutex_);
  auto after = std::upper_bound(
      places_.begin(), places_.end(), number,
      [](uint64_t n, const Place& place) { return n < place.first_block; });
  if (after == places_.begin()) {
    return DataLoss("a block refers to block ", number, ", which is not kept");
  }
  const auto frame = static_cast<size_t>(after - places_.begin()) - 1;
  return std::pair(frame, places_[frame].first_block);
}

uint64_t BlockStore::FirstBlock(size_t frame) const {
  std::lock_guard lock(mutex_);
  return places_[frame].first_block;
}

absl::StatusOr<std::optional<uint64_t>> BlockStore::Original(size_t frame,
                                                             size_t block) {
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  if (opened.decoder->head().blocks[block].codec != container::kDuplicate) {
    return std::nullopt;
  }
  return Repeated(frame, block);
}

absl::StatusOr<std::optional<uint64_t>> BlockStore::Repeated(size_t frame,
                                                             size_t block) {
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  const container::BlockRecord& record = opened.decoder->head().blocks[block];
  if (record.codec != container::kDuplicate &&
      record.codec != container::kTwin) {
    return std::nullopt;
  }
  Buffer coded(record.coded_size);
  RETURN_IF_ERROR(ReadAtExactly(
      source_, opened.decoder->data_offset() + record.coded_offset,
      coded.mutable_span()));
  const uint64_t number = FirstBlock(frame) + block;
  ByteReader reader(coded.span(), "block that repeats another");
  ASSIGN_OR_RETURN(const uint64_t distance, reader.Varint(number));
  return number - distance;
}

absl::StatusOr<container::BlockRecord> BlockStore::Record(size_t frame,
                                                          size_t block) {
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  const container::BlockRecord& record = opened.decoder->head().blocks[block];
  ASSIGN_OR_RETURN(const std::optional<uint64_t> original,
                   Original(frame, block));
  if (!original.has_value()) return record;
  ASSIGN_OR_RETURN(const auto source, FrameOf(*original));
  ASSIGN_OR_RETURN(const Frame ahead, Open(source.first));
  const uint64_t i = *original - source.second;
  const container::BlocksHead& head = ahead.decoder->head();
  return ahead.decoder->ahead() && i < head.blocks.size() ? head.blocks[i]
                                                          : record;
}

absl::Status BlockStore::Fetch(uint64_t number, MutableByteSpan out, bool any,
                               FetchLimits& limits) {
  if (limits.blocks == 0) {
    return DataLoss("a block is made of more blocks than it may be");
  }
  --limits.blocks;
  ASSIGN_OR_RETURN(const auto place, FrameOf(number));
  const auto [frame, first_block] = place;
  ASSIGN_OR_RETURN(const Frame opened, Open(frame));
  const container::BlocksHead& head = opened.decoder->head();
  const uint64_t i = number - first_block;
  if (i >= head.blocks.size() || !head.kept ||
      head.blocks[i].size != out.size()) {
    return DataLoss("a block refers to block ", number,
                    ", which is not kept or has another size");
  }
  // Duplicates and twins are made of blocks that are neither.
  const uint8_t codec = head.blocks[i].codec;
  if (!any && (codec == container::kDuplicate || codec == container::kTwin)) {
    return DataLoss("a duplicate or twin refers to block ", number,
                    ", which is one itself");
  }
  const codecs::Decoder* decoder = codecs::FindDecoder(codec);
  const bool is_slow = decoder != nullptr && decoder->is_slow;
  if (is_slow && ReadKept(number, out)) return absl::OkStatus();
  RETURN_IF_ERROR(DecodeFrom(opened, i, number, out, limits));
  if (is_slow) Keep(number, out);
  return absl::OkStatus();
}

bool BlockStore::ReadKept(uint64_t number, MutableByteSpan out) {
  uint64_t offset;
  {
    std::lock_guard lock(mutex_);
    const auto found = kept_.find(number);
    if (found == kept_.end()) return false;
    offset = found->second;
  }
  return ReadAtExactly(spool_, offset, out).ok();
}

// Where there is no room it is decoded again.
void BlockStore::Keep(uint64_t number, ByteSpan plain) {
  std::lock_guard lock(spool_mutex_);
  const uint64_t offset = *spool_.Size();
  if (spool_failed_) return;
  // What was written of it would move what comes after.
  spool_failed_ = !spool_.Append(plain).ok();
  if (spool_failed_) return;
  std::lock_guard lock_of_kept(mutex_);
  kept_.emplace(number, offset);
}

}  // namespace zipllm::archive
