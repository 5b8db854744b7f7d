#include "archive/frame_decoder.h"

#include <array>
#include <optional>

#include "archive/gather.h"
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

DecodeSettings SettingsOf(const DecompressOptions& options) {
  return {.max_memory = options.max_memory,
          .text_model = OpenTextModel(options.text_model),
          .memory = std::make_shared<MemoryGate>(kSlowCodecs)};
}

absl::StatusOr<std::shared_ptr<const FrameDecoder>> FrameDecoder::Create(
    const container::Frame& frame, const container::Header& header) {
  std::shared_ptr<FrameDecoder> made(new FrameDecoder);
  made->start_ = frame.start;
  made->data_offset_ = frame.offset + frame.start->size();
  made->size_ = frame.prefix.FrameSize();
  made->ahead_ = frame.prefix.Is(container::FrameType::kAhead);
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

absl::Status FrameDecoder::DecodeAgainst(const codecs::Decoder& decoder,
                                         const codecs::DecodeParams* params,
                                         size_t i, uint64_t number,
                                         ByteSpan coded, MutableByteSpan out,
                                         const DecodeAids& aids,
                                         FetchLimits& limits,
                                         codecs::Scratch& scratch) const {
  const container::FrameSources& against = head_.against;
  if (against.sources.empty()) {
    return DataLoss("block ", number, " is coded against no source");
  }
  if (limits.depth == 0) {
    return DataLoss("block ", number, " ends a chain of too many references");
  }
  const uint64_t begin =
      against.packing.ElementsIn(uint64_t{i} * head_.block_size);
  const uint64_t count = against.packing.ElementsIn(out.size());
  const uint64_t first_block = number - i;
  --limits.depth;
  std::array<Buffer, codecs::kMaxReferences> buffers;
  std::array<codecs::Reference, codecs::kMaxReferences> references;
  for (size_t k = 0; k < against.sources.size(); ++k) {
    const container::FrameSource& source = against.sources[k];
    const uint64_t size =
        container::PackingOf(source.dtype).BytesOf(source.elements);
    if (source.outside) {
      if (aids.outside == nullptr) {
        return DataLoss("block ", number, " needs a reference from outside");
      }
      ASSIGN_OR_RETURN(TensorBytes * tensor, aids.outside->Get(source.where));
      RETURN_IF_ERROR(
          Gather(against, source, begin, count, *tensor, &buffers[k]));
    } else {
      const uint64_t blocks =
          (size + source.block_size - 1) / source.block_size;
      if (aids.fetcher == nullptr || source.where > first_block ||
          blocks > source.where) {
        return DataLoss("block ", number,
                        " refers to no earlier blocks that it may refer to");
      }
      BlockTensor tensor(*aids.fetcher, limits, first_block - source.where,
                         source.block_size, size);
      RETURN_IF_ERROR(
          Gather(against, source, begin, count, tensor, &buffers[k]));
    }
    references[k] = {source.role, source.dtype, buffers[k].span(), source.row};
  }
  ++limits.depth;
  codecs::BlockContext context;
  context.references = {references.data(), against.sources.size()};
  context.row = against.row;
  context.position = against.position + begin;
  if (aids.shared != nullptr) context.shared = aids.shared->span();
  return Annotate(decoder.decode_against(params, context, coded, out, scratch),
                  "block ", number, ": ");
}

absl::Status FrameDecoder::DecodeBlock(const codecs::Decoder& decoder,
                                       const codecs::DecodeParams* params,
                                       size_t i, uint64_t number,
                                       ByteSpan coded, MutableByteSpan out,
                                       const DecodeAids& aids,
                                       FetchLimits& limits,
                                       codecs::Scratch& scratch) const {
  static const DecodeSettings defaults;
  const DecodeSettings& settings =
      aids.settings == nullptr ? defaults : *aids.settings;
  std::optional<MemoryGate::Pass> pass;
  if (decoder.memory != nullptr) {
    const uint64_t needed = decoder.memory(params, out.size());
    if (needed > settings.max_memory) {
      return ResourceExhausted("block ", number, " takes ", needed,
                               " bytes of memory to decode, more than the ",
                               settings.max_memory,
                               " allowed: allow more (--memory)");
    }
    if (settings.memory != nullptr) pass.emplace(*settings.memory, needed);
  }
  if (decoder.alone) {
    codecs::BlockContext context;
    if (aids.shared != nullptr) context.shared = aids.shared->span();
    if (decoder.needs_text_model && settings.text_model != nullptr) {
      ASSIGN_OR_RETURN(context.text_model, settings.text_model->Get());
    }
    return Annotate(
        decoder.decode_against(params, context, coded, out, scratch), "block ",
        number, ": ");
  }
  if (decoder.decode_against != nullptr) {
    return DecodeAgainst(decoder, params, i, number, coded, out, aids, limits,
                         scratch);
  }
  return Annotate(decoder.decode(params, coded, out, scratch), "block ", number,
                  ": ");
}

absl::Status FrameDecoder::Decode(size_t i, uint64_t number, ByteSpan coded,
                                  MutableByteSpan out, const DecodeAids& aids,
                                  FetchLimits& limits,
                                  codecs::Scratch& scratch) const {
  const container::BlockRecord& block = head_.blocks[i];
  if (block.codec == container::kDuplicate) {
    ByteReader reader(coded, "duplicate block");
    ASSIGN_OR_RETURN(uint64_t distance, reader.Varint(number));
    RETURN_IF_ERROR(reader.ExpectEnd());
    if (distance <= i || aids.fetcher == nullptr) {  // in this frame: refused
      return DataLoss("block ", number,
                      " refers to no earlier block that it may refer to");
    }
    RETURN_IF_ERROR(
        aids.fetcher->Fetch(number - distance, out, /*any=*/false, limits));
  } else if (block.codec == container::kTwin) {
    if (aids.fetcher == nullptr) {
      return DataLoss("block ", number, " is a twin, of which none is made");
    }
    RETURN_IF_ERROR(
        DecodeTwin(coded, number, i, max_block_, *aids.fetcher, limits, out));
  } else {
    const codecs::Decoder* decoder = codecs::FindDecoder(block.codec);
    if (decoder == nullptr) return UnknownCodec(block.codec);
    const codecs::DecodeParams* params = nullptr;
    for (size_t k = 0; k < params_.size(); ++k) {
      if (head_.params[k].codec == block.codec) params = params_[k].get();
    }
    RETURN_IF_ERROR(DecodeBlock(*decoder, params, i, number, coded, out, aids,
                                limits, scratch));
  }
  if (Xxh3(out) != block.hash)
    return DataLoss("block ", number, " is damaged (checksum)");
  return absl::OkStatus();
}

}  // namespace zipllm::archive
