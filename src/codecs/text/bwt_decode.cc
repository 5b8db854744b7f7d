// Codec 21, bwt: the Burrows-Wheeler transform of a block, coded by a model of
// its own. Format: format-spec/codecs/21-bwt.md.
#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/text/bwt_model.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace {

using bwt::PartBegin;
using bwt::Walks;

/// Decodes the last column of the sorted rotations, without the row of the
/// whole text.
absl::Status DecodeColumn(ByteSpan code, MutableByteSpan column) {
  entropy::BinaryDecoder decoder(code.data(), code.size());
  bwt::CodeLengths lengths{};
  bwt::CodeCodeLengths(&lengths, decoder);
  bwt::CodeTree tree;
  if (!tree.Init(lengths)) return DataLoss("bwt block has no complete code");
  bwt::Model model(tree, column.size());
  for (uint8_t& byte : column) {
    byte = tree.Byte(model.Code(0, decoder));
    if (decoder.IsPastEnd()) return DataLoss("bwt code ends early");
  }
  if (!decoder.IsAtEnd()) return DataLoss("bwt code has a wrong length");
  return absl::OkStatus();
}

/// Fills `links`, one for each row: its byte of the column, which stands before
/// its suffix, and from bit 8 on the row of the suffix that begins there.
void Link(ByteSpan column, size_t whole_row, uint32_t* links) {
  std::array<uint32_t, 256> next{};
  for (const uint8_t byte : column) ++next[byte];
  uint32_t row = 1;  // row 0 is the empty suffix
  for (uint32_t& count : next) row += std::exchange(count, row);
  const auto link = [&](uint8_t byte) { return next[byte]++ << 8 | byte; };
  for (size_t i = 0; i < whole_row; ++i) links[i] = link(column[i]);
  links[whole_row] = 0;
  for (size_t i = whole_row; i < column.size(); ++i) {
    links[i + 1] = link(column[i]);
  }
}

/// Follows the links back from each row of `rows`, through its part of the
/// text, all at once: the walks wait for memory, and so wait together.
template <size_t kWalks>
void Walk(const uint32_t* links, std::array<uint32_t, kWalks> rows,
          MutableByteSpan out) {
  std::array<uint8_t*, kWalks> ends;
  for (size_t i = 0; i < kWalks; ++i) {
    ends[i] = out.data() + PartBegin(out.size(), i + 1, kWalks);
  }
  const auto step = [&](size_t i) {
    const uint32_t link = links[rows[i]];
    *--ends[i] = static_cast<uint8_t>(link);
    rows[i] = link >> 8;
  };
  for (size_t count = out.size() / kWalks; count > 0; --count) {
    for (size_t i = 0; i < kWalks; ++i) step(i);
  }
  for (size_t i = 0; i < kWalks; ++i) {  // parts that are one byte longer
    if (ends[i] != out.data() + PartBegin(out.size(), i, kWalks)) step(i);
  }
}

absl::Status Decode(const DecodeParams* /*params*/, ByteSpan coded,
                    MutableByteSpan out, Scratch& scratch) {
  if (out.size() > bwt::kMaxBlockSize) {
    return DataLoss("bwt block of ", out.size(), " bytes, of at most ",
                    bwt::kMaxBlockSize);
  }
  // The rows of the suffixes with which the parts begin: part 0's is all text.
  constexpr size_t kRowBytes = 3;
  const size_t walks = Walks(out.size());
  if (coded.size() < walks * kRowBytes) {
    return DataLoss("bwt block ends before its rows do");
  }
  std::array<uint32_t, bwt::kMaxWalks + 1> rows{};
  for (size_t i = 0; i < walks; ++i) {
    const uint8_t* row = coded.data() + i * kRowBytes;
    rows[i] = LoadLe<uint16_t>(row) | uint32_t{row[2]} << 16;
    if (rows[i] == 0 || rows[i] > out.size()) {
      return DataLoss("bwt block has row ", rows[i], " of ", out.size());
    }
  }
  Buffer& column = scratch.buffers[0];
  column.Resize(out.size());
  if (absl::Status status =
          DecodeColumn(coded.subspan(walks * kRowBytes), column.mutable_span());
      !status.ok()) {
    return status;
  }
  Buffer& links = scratch.buffers[1];
  links.Resize((out.size() + 1) * sizeof(uint32_t));
  auto* link = reinterpret_cast<uint32_t*>(links.data());
  Link(column.span(), rows[0], link);
  // A walk goes back from where the next part begins; the last from the end,
  // where the empty suffix is.
  if (walks == 1) {
    Walk<1>(link, {0}, out);
  } else {
    std::array<uint32_t, bwt::kMaxWalks> from;
    std::copy(rows.begin() + 1, rows.end(), from.begin());
    Walk<bwt::kMaxWalks>(link, from, out);
  }
  return absl::OkStatus();
}

}  // namespace

extern const Decoder kBwtDecoder = {.id = 21,
                                    .name = "bwt",
                                    .parse = nullptr,
                                    .decode = Decode,
                                    .is_slow = true};

}  // namespace zipllm::codecs
