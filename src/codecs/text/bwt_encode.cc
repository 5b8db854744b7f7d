// Codec 21, bwt: the Burrows-Wheeler transform of a block, coded by a model of
// its own. For text, at the levels in the middle.
#include <divsufsort.h>

#include <algorithm>
#include <memory>

#include "codecs/sample.h"
#include "codecs/text/bwt_model.h"
#include "entropy/binary_coder.h"

namespace zipllm::codecs {
namespace {

constexpr int kMinLevel = 3;
constexpr int kMaxLevel = 5;

/// Lengths of a Huffman code for the heads of runs in `column`.
bwt::CodeLengths MakeCodeLengths(ByteSpan column) {
  std::array<uint32_t, 256> counts{};
  int before = -1;
  for (const uint8_t byte : column) {
    counts[byte] += byte != before;
    before = byte;
  }
  // Halves the counts until no code is too long.
  for (;; std::ranges::for_each(
           counts, [](uint32_t& count) { count = (count + 1) / 2; })) {
    struct Node {
      uint32_t count;
      uint16_t parent;
    };
    // Leaves by ascending count, then inner nodes, whose counts ascend too: the
    // two least are at the front of either queue (van Leeuwen, 1976).
    std::array<uint8_t, 256> bytes;
    size_t leaves = 0;
    for (size_t byte = 0; byte < counts.size(); ++byte) {
      if (counts[byte] != 0) bytes[leaves++] = static_cast<uint8_t>(byte);
    }
    std::stable_sort(
        bytes.begin(), bytes.begin() + leaves,
        [&](uint8_t a, uint8_t b) { return counts[a] < counts[b]; });
    std::array<Node, 512> nodes;
    for (size_t i = 0; i < leaves; ++i) nodes[i] = {counts[bytes[i]], 0};
    size_t end = leaves;
    size_t leaf = 0;
    size_t inner = leaves;
    const auto take_least = [&] {
      const bool is_leaf =
          leaf < leaves &&
          (inner == end || nodes[leaf].count <= nodes[inner].count);
      Node& least = nodes[is_leaf ? leaf++ : inner++];
      least.parent = static_cast<uint16_t>(end);
      return least.count;
    };
    while (end + 1 < 2 * leaves) {
      const uint32_t first = take_least();
      nodes[end] = {first + take_least(), 0};
      ++end;
    }
    std::array<uint8_t, 512> depths{};
    int deepest = 0;
    bwt::CodeLengths lengths{};
    if (leaves == 1) lengths[bytes[0]] = 1;
    for (size_t i = end - 1; i-- > 0;) {
      depths[i] = static_cast<uint8_t>(depths[nodes[i].parent] + 1);
      deepest = std::max<int>(deepest, depths[i]);
      if (i < leaves) lengths[bytes[i]] = depths[i];
    }
    if (deepest <= bwt::kMaxCodeLength) return lengths;
  }
}

void EncodeColumn(ByteSpan column, Buffer* out) {
  bwt::CodeLengths lengths = MakeCodeLengths(column);
  entropy::BinaryEncoder encoder(out);
  bwt::CodeCodeLengths(&lengths, encoder);
  bwt::CodeTree tree;
  (void)tree.Init(lengths);  // a Huffman code is complete
  std::array<uint8_t, 256> symbols{};
  for (size_t i = 0; i < tree.symbols(); ++i) {
    symbols[tree.Byte(i)] = static_cast<uint8_t>(i);
  }
  bwt::Model model(tree, column.size());
  for (const uint8_t byte : column) model.Code(symbols[byte], encoder);
  encoder.Finish();
}

void Append(ByteSpan block, Scratch& scratch, Buffer* out) {
  const auto size = static_cast<saidx_t>(block.size());
  Buffer& suffixes = scratch.buffers[0];
  suffixes.Resize(block.size() * sizeof(saidx_t));
  auto* suffix = reinterpret_cast<saidx_t*>(suffixes.data());
  if (divsufsort(block.data(), suffix, size) != 0) throw std::bad_alloc();

  // Row 0 is that of the empty suffix; row i + 1 that of suffix[i].
  const size_t walks = bwt::Walks(block.size());
  for (size_t i = 0; i < walks; ++i) {
    const auto begin =
        static_cast<saidx_t>(bwt::PartBegin(block.size(), i, walks));
    const auto row = static_cast<uint32_t>(
        std::find(suffix, suffix + size, begin) - suffix + 1);
    for (int shift = 0; shift < 24; shift += 8) {
      *out->Extend(1) = static_cast<uint8_t>(row >> shift);
    }
  }
  Buffer& column = scratch.buffers[1];
  column.Resize(block.size());
  uint8_t* next = column.data();
  *next++ = block.back();
  for (saidx_t i = 0; i < size; ++i) {
    if (suffix[i] != 0) *next++ = block[static_cast<size_t>(suffix[i]) - 1];
  }
  EncodeColumn(column.span(), out);
}

/// Codes the first block at once: there is seldom another.
class Plan final : public EncodePlan {
 public:
  Plan(const EncodeRequest& request, Scratch& scratch)
      : first_(request.data.first(
            std::min(request.block_size, request.data.size()))) {
    Append(first_, scratch, &coded_);
    estimate_ = ScaleUp(coded_.size(), first_.size(), request.data.size());
  }
  uint64_t estimate() const override { return estimate_; }
  bool Encode(ByteSpan block, Scratch& scratch, Buffer* out) const override {
    const size_t before = out->size();
    if (block.data() == first_.data() && block.size() == first_.size()) {
      out->Append(coded_.span());
    } else {
      Append(block, scratch, out);
    }
    if (out->size() - before < block.size()) return true;
    out->Resize(before);
    return false;
  }

 private:
  ByteSpan first_;
  Buffer coded_;
  uint64_t estimate_;
};

std::unique_ptr<EncodePlan> MakePlan(const EncodeRequest& request,
                                     Scratch& scratch) {
  if (!request.is_text || request.level < kMinLevel ||
      request.level > kMaxLevel || request.block_size > bwt::kMaxBlockSize) {
    return nullptr;
  }
  return std::make_unique<Plan>(request, scratch);
}

}  // namespace

extern const Encoder kBwtEncoder = {.id = 21, .name = "bwt", .plan = MakePlan};

}  // namespace zipllm::codecs
