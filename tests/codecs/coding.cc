#include "codecs/coding.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace zipllm::codecs {
namespace {

void FillScratch(uint8_t byte, size_t size, Scratch* scratch) {
  for (Buffer& buffer : scratch->buffers) {
    buffer.Resize(size);
    std::fill(buffer.begin(), buffer.end(), byte);
  }
}

}  // namespace

std::vector<ByteSpan> BlocksOf(const EncodeRequest& request) {
  std::vector<ByteSpan> blocks;
  for (ByteSpan rest = request.data; !rest.empty();) {
    blocks.push_back(rest.first(std::min(rest.size(), request.block_size)));
    rest = rest.subspan(blocks.back().size());
  }
  return blocks;
}

Context::Context(const EncodeRequest& request, ByteSpan block, ByteSpan with)
    : row(request.row), shared(with) {
  const DTypeInfo& info = *FindDType(request.dtype);
  const auto elements_of = [&info](size_t bytes) {
    return bytes / info.block_bytes * info.block_elements;
  };
  const size_t weights = WeightsAnElement(request);
  const size_t skipped =
      weights *
      elements_of(static_cast<size_t>(block.data() - request.data.data()));
  position = request.position + skipped;
  for (Reference reference : request.references) {
    if (!IsWhole(reference.role)) {
      const DTypeInfo& its = *FindDType(reference.dtype);
      const auto bytes_of = [&its](size_t elements) {
        return elements / its.block_elements * its.block_bytes;
      };
      reference.data = reference.data.subspan(
          bytes_of(skipped), bytes_of(weights * elements_of(block.size())));
    }
    references.push_back(reference);
  }
}

absl::Status Decode(const Decoder& decoder, const DecodeParams* params,
                    const BlockContext& context, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  return decoder.decode_against != nullptr
             ? decoder.decode_against(params, context, coded, out, scratch)
             : decoder.decode(params, coded, out, scratch);
}

std::unique_ptr<const TensorModel> Learn(const Encoder& encoder,
                                         const EncodeRequest& request,
                                         Scratch& scratch) {
  if (encoder.learn == nullptr || request.references.empty()) return nullptr;
  auto model = encoder.learn(RequestTensor(request), scratch);
  if (model != nullptr) {
    EXPECT_LE(model->shared().size(), kMaxSharedBytes);
  }
  return model;
}

std::optional<CodedFrame> EncodeFrame(const Encoder& encoder,
                                      const EncodeRequest& request,
                                      Scratch& scratch) {
  const Exact data(request.data);
  EncodeRequest exact = request;
  exact.data = data.span();
  std::vector<Exact> arrays;
  std::vector<Reference> references;
  for (Reference reference : request.references) {
    arrays.emplace_back(reference.data);
    reference.data = arrays.back().span();
    references.push_back(reference);
  }
  exact.references = references;
  std::unique_ptr<const TensorModel> model;
  if (exact.model == nullptr) {
    model = Learn(encoder, exact, scratch);
    exact.model = model.get();
  }
  const std::unique_ptr<EncodePlan> plan = encoder.plan(exact, scratch);
  if (plan == nullptr) return std::nullopt;
  CodedFrame frame;
  frame.params.assign(plan->params().begin(), plan->params().end());
  frame.estimate = plan->estimate();
  if (exact.model != nullptr) {
    const ByteSpan shared = exact.model->shared();
    frame.shared.assign(shared.begin(), shared.end());
  }
  EXPECT_LE(frame.params.size(), kMaxParamsBytes);
  for (ByteSpan block : BlocksOf(exact)) {
    constexpr std::string_view kBefore = "before";
    Buffer out;
    out.Append(
        {reinterpret_cast<const uint8_t*>(kBefore.data()), kBefore.size()});
    const bool coded = plan->Encode(block, scratch, &out);
    EXPECT_GE(out.size(), kBefore.size());
    EXPECT_EQ(std::memcmp(out.data(), kBefore.data(), kBefore.size()), 0);
    const ByteSpan added = out.span().subspan(kBefore.size());
    if (coded) {
      EXPECT_LE(added.size(), block.size());
      frame.blocks.emplace_back(Bytes(added.begin(), added.end()));
    } else {
      EXPECT_EQ(added.size(), 0u);
      frame.blocks.emplace_back(std::nullopt);
    }
  }
  return frame;
}

std::optional<Bytes> DecodeBlock(const Decoder& decoder, ByteSpan params,
                                 ByteSpan coded, size_t size,
                                 absl::Status* why) {
  return DecodeBlock(decoder, params, {}, coded, size, why);
}

std::optional<Bytes> DecodeBlock(const Decoder& decoder, ByteSpan params,
                                 const BlockContext& context, ByteSpan coded,
                                 size_t size, absl::Status* why) {
  std::unique_ptr<const DecodeParams> parsed;
  if (decoder.parse != nullptr) {
    const Exact exact_params(params);
    auto result = decoder.parse(exact_params.span());
    if (!result.ok()) {
      EXPECT_NE(result.status().message(), "");
      if (why != nullptr) *why = result.status();
      return std::nullopt;
    }
    parsed = std::move(result).value();
  }
  const Exact exact_coded(coded);
  const Exact exact_shared(context.shared);
  std::vector<Exact> arrays;
  std::vector<Reference> references;
  for (Reference reference : context.references) {
    arrays.emplace_back(reference.data);
    reference.data = arrays.back().span();
    references.push_back(reference);
  }
  const BlockContext exact = {references, context.row, context.position,
                              exact_shared.span(), context.text_model};
  std::optional<Bytes> first;
  for (const uint8_t before : {uint8_t{0x00}, uint8_t{0xA5}}) {
    Scratch scratch;
    FillScratch(before, std::min<size_t>(size, 4096), &scratch);
    Exact out(size);
    std::fill_n(out.mutable_span().data(), size, before);
    const absl::Status status =
        Decode(decoder, parsed.get(), exact, exact_coded.span(),
               out.mutable_span(), scratch);
    if (why != nullptr) *why = status;
    if (!status.ok()) {
      EXPECT_NE(status.message(), "");
      EXPECT_FALSE(first.has_value()) << "refused the second time only";
      return std::nullopt;
    }
    const Bytes bytes(out.span().begin(), out.span().end());
    if (before == 0x00) {
      first = bytes;
    } else {
      EXPECT_TRUE(*first == bytes) << "output depends on what was there before";
    }
  }
  return first;
}

size_t CheckRoundTrip(CodecId id, const EncodeRequest& request) {
  const Encoder& encoder = *FindEncoder(id);
  const Decoder& decoder = *FindDecoder(id);
  Scratch scratch;
  const std::optional<CodedFrame> frame =
      EncodeFrame(encoder, request, scratch);
  if (!frame) return 0;
  const std::vector<ByteSpan> blocks = BlocksOf(request);
  size_t count = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (!frame->blocks[i]) continue;
    ++count;
    absl::Status why;
    const Context context(request, blocks[i], frame->shared);
    const std::optional<Bytes> decoded =
        DecodeBlock(decoder, frame->params, context.get(), *frame->blocks[i],
                    blocks[i].size(), &why);
    EXPECT_TRUE(decoded.has_value()) << why.message();
    EXPECT_TRUE(decoded && std::ranges::equal(*decoded, blocks[i]))
        << encoder.name << " block " << i << " of " << blocks[i].size()
        << " bytes, level " << request.level;
  }
  return count;
}

}  // namespace zipllm::codecs
