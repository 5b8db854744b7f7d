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

std::optional<CodedFrame> EncodeFrame(const Encoder& encoder,
                                      const EncodeRequest& request,
                                      Scratch& scratch) {
  const Exact data(request.data);
  EncodeRequest exact = request;
  exact.data = data.span();
  const std::unique_ptr<EncodePlan> plan = encoder.plan(exact, scratch);
  if (plan == nullptr) return std::nullopt;
  CodedFrame frame;
  frame.params.assign(plan->params().begin(), plan->params().end());
  frame.estimate = plan->estimate();
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
  std::optional<Bytes> first;
  for (const uint8_t before : {uint8_t{0x00}, uint8_t{0xA5}}) {
    Scratch scratch;
    FillScratch(before, std::min<size_t>(size, 4096), &scratch);
    Exact out(size);
    std::fill_n(out.mutable_span().data(), size, before);
    const absl::Status status = decoder.decode(parsed.get(), exact_coded.span(),
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
    const std::optional<Bytes> decoded = DecodeBlock(
        decoder, frame->params, *frame->blocks[i], blocks[i].size(), &why);
    EXPECT_TRUE(decoded.has_value()) << why.message();
    EXPECT_TRUE(decoded && std::ranges::equal(*decoded, blocks[i]))
        << encoder.name << " block " << i << " of " << blocks[i].size()
        << " bytes, level " << request.level;
  }
  return count;
}

}  // namespace zipllm::codecs
