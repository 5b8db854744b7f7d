#include "cuda/batch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "codecs/bytes/zstd_decode.h"
#include "container/xxh3.h"
#include "entropy/rans_tables.h"

namespace zipllm::cuda {

struct FloatParams {
  uint32_t kind;
  uint32_t table_count;
  FloatTables tables;
};

namespace {

constexpr codecs::CodecId kFloatCodec = 5;
constexpr size_t kAlignment = 16;  // of blocks in what is uploaded

// ---- Codec 5 as the page has it; compare codecs/tensor/float_decode.cc ----

struct KindInfo {
  uint32_t element_size;
  uint32_t max_exponent;
  std::span<const uint32_t> widths;  // of the planes
};
template <typename T, uint32_t kShift, PlaneShape... kShapes>
constexpr std::array<uint32_t, sizeof...(kShapes)> Widths(
    FloatKind<T, kShift, kShapes...>) {
  static_assert(sizeof...(kShapes) <= kMaxPlanes);
  return {kShapes.width...};
}
constexpr auto kBf16Widths = Widths(Bf16());
constexpr auto kFp16Widths = Widths(Fp16());
constexpr auto kFp32Widths = Widths(Fp32());

/// `kind` is kBf16 to kFp32.
KindInfo InfoOf(uint32_t kind) {
  switch (kind) {
    case kBf16:
      return {sizeof(Bf16::Element), 255, kBf16Widths};
    case kFp16:
      return {sizeof(Fp16::Element), 31, kFp16Widths};
    default:
      return {sizeof(Fp32::Element), 255, kFp32Widths};
  }
}

AliasTable ToAliasTable(const kernels::RansDecodeTable& table) {
  AliasTable alias;
  std::copy(std::begin(table.threshold), std::end(table.threshold),
            alias.threshold);
  for (size_t e = 0; e < std::size(alias.entry); ++e) {
    const uint32_t low = table.entry_low[e], high = table.entry_high[e];
    const uint32_t symbol = low >> 12 | (high >> 12) << 4;
    alias.entry[e] = (low & 4095) | (high & 4095) << 12 | symbol << 24;
  }
  return alias;
}

/// Reads parameters that the codec's own parser took: checks no more than what
/// keeps memory safe.
absl::StatusOr<FloatParams> ReadFloatParams(ByteSpan bytes) {
  FloatParams params{};
  ByteReader reader(bytes, "float parameters");
  ASSIGN_OR_RETURN(params.kind, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(const uint8_t listed, reader.Le<uint8_t>());
  ASSIGN_OR_RETURN(const ByteSpan exponents, reader.Bytes(listed));
  ASSIGN_OR_RETURN(const ByteSpan joined, reader.Bytes((listed + 7u) / 8));
  std::array<uint16_t, kernels::kMaxSymbols> keys{};
  size_t symbols = 0;
  const auto add_symbol = [&](uint32_t key) {
    if (symbols < keys.size()) keys[symbols++] = static_cast<uint16_t>(key);
  };
  for (size_t i = 0; i < listed; ++i) {
    const uint32_t key = uint32_t{exponents[i]} << 2;
    if ((joined[i / 8] >> (i % 8)) & 1) {
      for (uint32_t top = 0; top < 4; ++top) add_symbol(key | top);
    } else {
      add_symbol(key | kKeyBare);
    }
  }
  add_symbol(kKeyBare | kKeyEscape);
  std::copy(keys.begin(), keys.end(), params.tables.keys);

  ASSIGN_OR_RETURN(params.table_count, reader.Le<uint8_t>());
  params.table_count = std::min(params.table_count, kMaxTables);
  const auto table = std::make_unique<kernels::RansDecodeTable>();
  for (uint32_t t = 0; t < params.table_count; ++t) {
    entropy::Frequencies frequencies{};
    uint64_t left = kernels::kSlots;
    for (size_t s = 0; s + 1 < symbols; ++s) {
      ASSIGN_OR_RETURN(const uint64_t frequency, reader.Varint(left));
      frequencies[s] = static_cast<uint16_t>(frequency);
      left -= frequency;
    }
    frequencies[symbols - 1] = static_cast<uint16_t>(left);
    entropy::BuildDecodeTable(frequencies, keys, table.get());
    params.tables.tables[t] = ToAliasTable(*table);
  }
  return params;
}

absl::Status UnknownCodec(int codec) {
  return Unimplemented("a block is coded with codec ", codec,
                       ", which this zipllm does not know: use a newer one");
}

/// Where `reader` stands, to go into a Block.
uint32_t Here(const ByteReader& reader) {
  return static_cast<uint32_t>(reader.position());
}

absl::Status ReadStreams(const FloatParams& params, uint64_t elements,
                         ByteReader& reader, Block* block) {
  const uint64_t step = kLanes * uint64_t{block->streams};
  const uint64_t most = (elements + step - 1) / step * kLanes;
  for (uint32_t s = 0; s < block->streams; ++s) {
    for (uint32_t* count :
         {&block->stream[s].word_count, &block->stream[s].pair_count,
          &block->stream[s].escape_count}) {
      ASSIGN_OR_RETURN(const uint64_t value, reader.Varint(most));
      *count = static_cast<uint32_t>(value);
    }
  }
  if (params.table_count > 1) {
    const uint64_t chunks = (elements + kChunk - 1) / kChunk;
    block->selectors = Here(reader);
    ASSIGN_OR_RETURN(const ByteSpan selectors, reader.Bytes((chunks + 3) / 4));
    for (size_t c = 0; c < selectors.size() * 4; ++c) {
      const uint32_t selector = (selectors[c / 4] >> (c % 4 * 2)) & 3u;
      if (selector >= (c < chunks ? params.table_count : 1)) {
        return reader.Error("selector ", selector, " of chunk ", c);
      }
    }
  }
  for (uint32_t s = 0; s < block->streams; ++s) {
    Stream& stream = block->stream[s];
    stream.states = Here(reader);
    RETURN_IF_ERROR(reader.Bytes(4 * kLanes).status());
    stream.words = Here(reader);
    RETURN_IF_ERROR(reader.Bytes(2 * uint64_t{stream.word_count}).status());
    stream.pairs = Here(reader);
    ASSIGN_OR_RETURN(const ByteSpan pairs,
                     reader.Bytes((uint64_t{stream.pair_count} + 3) / 4));
    if (stream.pair_count % 4 != 0 &&
        pairs.back() >> (stream.pair_count % 4 * 2) != 0) {
      return reader.Error("bits after the last extra bits are not 0");
    }
    stream.escapes = Here(reader);
    ASSIGN_OR_RETURN(const ByteSpan escapes, reader.Bytes(stream.escape_count));
    const uint32_t most_exponent = InfoOf(params.kind).max_exponent;
    if (std::ranges::any_of(escapes,
                            [&](uint8_t e) { return e > most_exponent; })) {
      return reader.Error("an escaped exponent is above ", most_exponent);
    }
  }
  return absl::OkStatus();
}

/// `*zstd` becomes the frame of a plane that the host is to decompress.
absl::Status ReadPlane(uint32_t width, uint64_t groups, ByteReader& reader,
                       Plane* plane, ByteSpan* zstd) {
  const uint64_t group_bytes = 16 * uint64_t{width};
  ASSIGN_OR_RETURN(const uint8_t mode, reader.Le<uint8_t>());
  switch (mode) {
    case 0:
      plane->mode = kZero;
      return absl::OkStatus();
    case 1:
      plane->mode = kGroups;
      plane->groups = Here(reader);
      return reader.Bytes(groups * group_bytes).status();
    case 2: {
      plane->mode = kRuns;
      plane->bitmap = Here(reader);
      ASSIGN_OR_RETURN(const ByteSpan bitmap, reader.Bytes((groups + 7) / 8));
      if (groups % 8 != 0 && bitmap.back() >> (groups % 8) != 0) {
        return reader.Error("bits after the last group's are not 0");
      }
      uint64_t present = 0;
      for (uint8_t byte : bitmap) present += std::popcount(byte);
      plane->groups = Here(reader);
      return reader.Bytes(present * group_bytes).status();
    }
    case 3: {
      plane->mode = kGroups;
      ASSIGN_OR_RETURN(const uint64_t size, reader.Varint(reader.remaining()));
      ASSIGN_OR_RETURN(*zstd, reader.Bytes(size));
      return absl::OkStatus();
    }
    default:
      return reader.Error("unknown mode of plane ", int{mode});
  }
}

}  // namespace

absl::Status Batch::AddFloatBlock(const container::BlockRecord& record,
                                  ByteSpan coded, const FloatParams& params,
                                  uint64_t out) {
  const KindInfo info = InfoOf(params.kind);
  if (record.size % info.element_size != 0) {
    return DataLoss("float block of ", record.size, " bytes has no whole",
                    " number of elements of ", info.element_size, " bytes");
  }
  const uint64_t elements = record.size / info.element_size;
  Block block{};
  block.hash = record.hash;
  block.kind = params.kind;
  block.table = static_cast<uint32_t>(tables_.size() - 1);
  block.streams = elements >= 65536 ? 4 : 1;
  ByteReader reader(coded, "float block");
  RETURN_IF_ERROR(ReadStreams(params, elements, reader, &block));
  const uint64_t groups = (elements + kGroup - 1) / kGroup;
  ByteSpan zstd[kMaxPlanes];
  for (size_t p = 0; p < info.widths.size(); ++p) {
    RETURN_IF_ERROR(
        ReadPlane(info.widths[p], groups, reader, &block.plane[p], &zstd[p]));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());
  Add(block, coded, out, record.size);

  // What was compressed follows the block.
  for (size_t p = 0; p < info.widths.size(); ++p) {
    if (zstd[p].data() == nullptr) continue;
    const size_t at = bytes_.size(), size = groups * 16 * info.widths[p];
    bytes_.Extend(size);
    RETURN_IF_ERROR(codecs::DecodeZstdFrame(
        zstd[p], bytes_.mutable_span().subspan(at, size), scratch_));
    blocks_.back().plane[p].groups =
        static_cast<uint32_t>(at - blocks_.back().in);
  }
  return absl::OkStatus();
}

absl::Status Batch::AddHostBlock(const container::BlockRecord& record,
                                 ByteSpan coded,
                                 const codecs::DecodeParams* params,
                                 uint64_t out) {
  Buffer plain(record.size);
  RETURN_IF_ERROR(codecs::FindDecoder(record.codec)
                      ->decode(params, coded, plain.mutable_span(), scratch_));
  if (Xxh3(plain.span()) != record.hash) return DataLoss("wrong checksum");
  AddPlain(plain.span(), out);
  return absl::OkStatus();
}

absl::Status Batch::AddBlocks(const container::BlocksHead& head, ByteSpan data,
                              uint64_t out) {
  std::unique_ptr<const codecs::DecodeParams> parsed[256];  // by codec
  std::optional<FloatParams> floats;
  for (const container::CodecParams& params : head.params) {
    const codecs::Decoder* decoder = codecs::FindDecoder(params.codec);
    if (decoder == nullptr) return UnknownCodec(params.codec);
    if (decoder->parse == nullptr) {
      return DataLoss("parameters for codec ", decoder->name,
                      ", which takes none");
    }
    ASSIGN_OR_RETURN(parsed[params.codec], decoder->parse(params.bytes));
    if (params.codec == kFloatCodec) {
      ASSIGN_OR_RETURN(floats, ReadFloatParams(params.bytes));
      tables_.push_back(floats->tables);
    }
  }
  for (size_t i = 0; i < head.blocks.size(); ++i) {
    const container::BlockRecord& record = head.blocks[i];
    const uint64_t to = out + uint64_t{i} * head.block_size;
    if (record.codec == container::kDuplicate) {
      return Unimplemented("block ", i, " of the frame repeats an earlier one,",
                           " which only a reader of the archive can find");
    }
    if (codecs::FindDecoder(record.codec) == nullptr) {
      return UnknownCodec(record.codec);
    }
    if (record.coded_offset > data.size() ||
        record.coded_size > data.size() - record.coded_offset) {
      return DataLoss("block ", i, " of the frame is not in its data");
    }
    const ByteSpan coded = data.subspan(record.coded_offset, record.coded_size);
    const bool on_device = record.codec == kFloatCodec && floats.has_value() &&
                           record.size > kMinHashed &&
                           to % InfoOf(floats->kind).element_size == 0;
    RETURN_IF_ERROR(Annotate(
        on_device ? AddFloatBlock(record, coded, *floats, to)
                  : AddHostBlock(record, coded, parsed[record.codec].get(), to),
        "block ", i, " of the frame: "));
  }
  return absl::OkStatus();
}

absl::Status Batch::AddFrame(const container::BlocksHead& head, ByteSpan data,
                             uint64_t out) {
  const size_t blocks = blocks_.size(), tables = tables_.size();
  const size_t bytes = bytes_.size();
  const uint64_t out_size = out_size_;
  absl::Status status = AddBlocks(head, data, out);
  if (!status.ok()) {
    blocks_.resize(blocks);
    tables_.resize(tables);
    bytes_.Resize(bytes);
    out_size_ = out_size;
  }
  return status;
}

void Batch::AddPlain(ByteSpan plain, uint64_t out) {
  Block block{};
  block.kind = kCopy;
  Add(block, plain, out, plain.size());
}

void Batch::Add(Block block, ByteSpan bytes, uint64_t out, size_t size) {
  const size_t padding = (kAlignment - bytes_.size() % kAlignment) % kAlignment;
  std::fill_n(bytes_.Extend(padding), padding, uint8_t{0});
  block.in = bytes_.size();
  block.out = out;
  block.size = static_cast<uint32_t>(size);
  bytes_.Append(bytes);
  blocks_.push_back(block);
  out_size_ = std::max(out_size_, out + size);
}

uint64_t Batch::device_bytes() const {
  uint64_t sum = 0;
  for (const Block& block : blocks_)
    sum += block.kind == kCopy ? 0 : block.size;
  return sum;
}

}  // namespace zipllm::cuda
