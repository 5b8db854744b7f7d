#include "archive/frame_decoder.h"

#include "archive/twin.h"
#include "base/bytes.h"
#include "container/xxh3.h"

namespace zipllm::archive {
namespace {

absl::Status UnknownCodec(int codec) {
  return Unimplemented("a block is coded with codec ", codec,
                       ", which this zipllm does not know: use a newer one");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const FrameDecoder>> FrameDecoder::Create(
    const container::Frame& frame, const container::Header& header) {
  std::shared_ptr<FrameDecoder> made(new FrameDecoder);
  made->start_ = frame.start;
  made->data_offset_ = frame.offset + frame.start->size();
  made->size_ = frame.prefix.FrameSize();
  made->max_block_ = header.max_block;
  ASSIGN_OR_RETURN(
      made->head_,
      container::ParseBlocksHead(frame.head(), frame.prefix.data_size, header));
  for (const container::CodecParams& params : made->head_.params) {
    const codecs::Decoder* decoder = codecs::FindDecoder(params.codec);
    const bool of_container = params.codec == container::kDuplicate ||
                              params.codec == container::kTwin;
    if (decoder == nullptr && !of_container) return UnknownCodec(params.codec);
    if (of_container || decoder->parse == nullptr) {
      return DataLoss("the frame at byte ", frame.offset,
                      " has parameters for codec ", int{params.codec},
                      ", which takes none");
    }
    ASSIGN_OR_RETURN(auto parsed, decoder->parse(params.bytes));
    made->params_.push_back(std::move(parsed));
  }
  return std::shared_ptr<const FrameDecoder>(std::move(made));
}

absl::Status FrameDecoder::Decode(size_t i, uint64_t number, ByteSpan coded,
                                  MutableByteSpan out, BlockFetcher* fetcher,
                                  codecs::Scratch& scratch) const {
  const container::BlockRecord& block = head_.blocks[i];
  if (block.codec == container::kDuplicate) {
    ByteReader reader(coded, "duplicate block");
    ASSIGN_OR_RETURN(uint64_t distance, reader.Varint(number));
    RETURN_IF_ERROR(reader.ExpectEnd());
    if (distance <= i || fetcher == nullptr) {  // in this frame: refused too
      return DataLoss("block ", number,
                      " refers to no earlier block that it may refer to");
    }
    RETURN_IF_ERROR(fetcher->Fetch(number - distance, out));
  } else if (block.codec == container::kTwin) {
    if (fetcher == nullptr) {
      return DataLoss("block ", number, " is a twin, of which none is made");
    }
    RETURN_IF_ERROR(DecodeTwin(coded, number, i, max_block_, *fetcher, out));
  } else {
    const codecs::Decoder* decoder = codecs::FindDecoder(block.codec);
    if (decoder == nullptr) return UnknownCodec(block.codec);
    const codecs::DecodeParams* params = nullptr;
    for (size_t k = 0; k < params_.size(); ++k) {
      if (head_.params[k].codec == block.codec) params = params_[k].get();
    }
    RETURN_IF_ERROR(Annotate(decoder->decode(params, coded, out, scratch),
                             "block ", number, ": "));
  }
  if (Xxh3(out) != block.hash)
    return DataLoss("block ", number, " is damaged (checksum)");
  return absl::OkStatus();
}

}  // namespace zipllm::archive
