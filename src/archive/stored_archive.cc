#include "archive/stored_archive.h"

#include <algorithm>

#include "archive/frame_encoder.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "container/stream.h"
#include "container/xxh3.h"

namespace zipllm::archive {
namespace {

constexpr uint8_t kStored = 0;
// A frame's prefix, head and hash, and its record in the index, are 60 bytes;
// all that stands once in an archive of one unnamed file is below 400.
constexpr uint64_t kPerFrame = 64;
constexpr uint64_t kOnce = 512;

}  // namespace

uint64_t StoredBound(uint64_t size) {
  uint64_t extra = (size / kMaxFrameBytes + 1) * kPerFrame + kOnce;
  uint64_t bound = 0;
  return CheckedAdd(size, extra, &bound) ? bound : UINT64_MAX;
}

absl::Status WriteStored(ByteSpan data, Sink& out) {
  container::ArchiveWriter writer(out);
  RETURN_IF_ERROR(writer.Begin({kMaxBlockBytes, kMaxFrameBytes}));
  RETURN_IF_ERROR(writer.WriteEntry(Entry()));
  for (size_t pos = 0; pos < data.size(); pos += kMaxFrameBytes) {
    ByteSpan block =
        data.subspan(pos, std::min<size_t>(kMaxFrameBytes, data.size() - pos));
    const auto size = static_cast<uint32_t>(block.size());
    container::BlocksHead head;
    head.block_size = kMaxBlockBytes;
    head.size = size;
    head.blocks.push_back(
        {.codec = kStored, .coded_size = size, .hash = Xxh3(block)});
    Buffer coded_head;
    container::WriteBlocksHead(head, &coded_head);
    RETURN_IF_ERROR(writer.WriteBlocks(coded_head.span(), block, size, 1));
  }
  Layout layout;
  layout.format = "bytes";
  if (!data.empty()) {
    Segment all;
    all.length = data.size();
    layout.segments.push_back(std::move(all));
  }
  RETURN_IF_ERROR(
      writer.EndFile({data.size(), Sha256Of(data)}, std::move(layout)));
  return writer.Finish();
}

}  // namespace zipllm::archive
