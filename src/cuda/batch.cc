#include "cuda/batch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "codecs/bytes/zstd_decode.h"
#include "container/xxh3.h"
#include "cuda/cascade_core.h"
#include "cuda/float_core.h"
#include "entropy/rans_tables.h"

namespace zipllm::cuda {

struct Batch::Params {
  uint32_t kind;         // BlockKind
  uint32_t table_count;  // codec 5
  Tables tables;
};

namespace {

constexpr codecs::CodecId kFloatCodec = 5;
constexpr codecs::CodecId kCascadeCodec = 7;
constexpr size_t kAlignment = 16;  // of blocks in what is uploaded

uint64_t ElementSize(uint32_t kind) {
  return kind == kFloatFp32 || kind == kCascadeFp32 ? 4 : 2;
}
uint32_t MaxExponent(uint32_t kind) {
  return kind == kFloatFp16 || kind == kCascadeFp16 ? 31 : 255;
}

/// Where `reader` stands: a place of a Block.
uint32_t Here(const ByteReader& reader) {
  return static_cast<uint32_t>(reader.position());
}

/// Duplicates and the like need other blocks of the archive.
absl::Status NotAlone(int codec) {
  return Unimplemented("codec ", codec, " is none that decodes a block alone: ",
                       "decode it by the archive's reader, of the newest ",
                       "zipllm, and add its plain bytes");
}

/// Reads exponents that stand as bytes.
absl::Status ReadExponents(uint64_t count, uint32_t kind, ByteReader& reader) {
  ASSIGN_OR_RETURN(const ByteSpan exponents, reader.Bytes(count));
  const uint32_t most = MaxExponent(kind);
  if (std::ranges::any_of(exponents, [&](uint8_t e) { return e > most; })) {
    return reader.Error("an exponent is above ", most);
  }
  return absl::OkStatus();
}

// ---- Codec 5; compare codecs/tensor/float_decode.cc ----

template <typename T, uint32_t kShift, PlaneShape... kShapes>
constexpr std::array<uint32_t, sizeof...(kShapes)> Widths(
    FloatKind<T, kShift, kShapes...>) {
  static_assert(sizeof...(kShapes) <= kMaxPlanes);
  return {kShapes.width...};
}
constexpr auto kBf16Widths = Widths(FloatBf16());
constexpr auto kFp16Widths = Widths(FloatFp16());
constexpr auto kFp32Widths = Widths(FloatFp32());

/// Of the planes.
std::span<const uint32_t> WidthsOf(uint32_t kind) {
  if (kind == kFloatBf16) return kBf16Widths;
  if (kind == kFloatFp16) return kFp16Widths;
  return kFp32Widths;
}

AliasTable ToAliasTable(const kernels::RansDecodeTable& table) {
  AliasTable alias;
  std::copy(std::begin(table.threshold), std::end(table.threshold),
            alias.threshold);
  for (size_t e = 0; e < std::size(alias.entry); ++e) {
    // Entries without slots may have frequency 0; nothing looks at them.
    alias.entry[e] = ((table.frequency[e] - 1u) & 4095) |
                     (table.bias[e] & 4095u) << 12 |
                     uint32_t{table.symbol[e]} << 24;
  }
  return alias;
}

/// Reads parameters that the codec's own parser took: checks no more than what
/// keeps memory safe.
absl::Status ReadFloatTables(ByteReader& reader, FloatTables* tables,
                             uint32_t* table_count) {
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
  std::copy(keys.begin(), keys.end(), tables->keys);

  ASSIGN_OR_RETURN(*table_count, reader.Le<uint8_t>());
  *table_count = std::min(*table_count, kMaxTables);
  const auto table = std::make_unique<kernels::RansDecodeTable>();
  for (uint32_t t = 0; t < *table_count; ++t) {
    entropy::Frequencies frequencies{};
    uint64_t left = kernels::kSlots;
    for (size_t s = 0; s + 1 < symbols; ++s) {
      ASSIGN_OR_RETURN(const uint64_t frequency, reader.Varint(left));
      frequencies[s] = static_cast<uint16_t>(frequency);
      left -= frequency;
    }
    frequencies[symbols - 1] = static_cast<uint16_t>(left);
    entropy::BuildDecodeTable(frequencies, keys, table.get(), false);
    tables->tables[t] = ToAliasTable(*table);
  }
  return absl::OkStatus();
}

absl::Status ReadStreams(uint32_t kind, uint32_t tables, uint64_t elements,
                         ByteReader& reader, FloatParts* parts) {
  const uint64_t step = kLanes * uint64_t{parts->streams};
  const uint64_t most = (elements + step - 1) / step * kLanes;
  for (uint32_t s = 0; s < parts->streams; ++s) {
    for (uint32_t* count :
         {&parts->stream[s].word_count, &parts->stream[s].pair_count,
          &parts->stream[s].escape_count}) {
      ASSIGN_OR_RETURN(const uint64_t value, reader.Varint(most));
      *count = static_cast<uint32_t>(value);
    }
  }
  if (tables > 1) {
    const uint64_t chunks = (elements + kChunk - 1) / kChunk;
    parts->selectors = Here(reader);
    ASSIGN_OR_RETURN(const ByteSpan selectors, reader.Bytes((chunks + 3) / 4));
    for (size_t c = 0; c < selectors.size() * 4; ++c) {
      const uint32_t selector = (selectors[c / 4] >> (c % 4 * 2)) & 3u;
      if (selector >= (c < chunks ? tables : 1)) {
        return reader.Error("selector ", selector, " of chunk ", c);
      }
    }
  }
  for (uint32_t s = 0; s < parts->streams; ++s) {
    Stream& stream = parts->stream[s];
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
    RETURN_IF_ERROR(ReadExponents(stream.escape_count, kind, reader));
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

// ---- Codec 7; compare codecs/tensor/cascade_decode.cc ----

/// As ReadFloatTables.
absl::Status ReadLayers(ByteReader& reader, CascadeLayers* layers) {
  ASSIGN_OR_RETURN(layers->count, reader.Le<uint8_t>());
  layers->count = std::min(layers->count, kMaxLayers);
  for (uint32_t k = 0; k < layers->count; ++k) {
    ASSIGN_OR_RETURN(layers->width[k], reader.Le<uint8_t>());
    ASSIGN_OR_RETURN(const ByteSpan exponents,
                     reader.Bytes((1u << (layers->width[k] & 7)) - 1));
    std::copy_n(exponents.begin(),
                std::min(exponents.size(), sizeof layers->exponents[k]),
                layers->exponents[k]);
  }
  return absl::OkStatus();
}

bool IsAllowed(uint32_t mode, uint32_t kind) {
  switch (mode) {
    case kNothing:
    case kTop:
      return true;
    case kThree:
    case kFew:
      return kind != kCascadeBf16;
    case kAll:
      return kind == kCascadeFp32;
    default:
      return false;
  }
}

/// Reads a block's runs, without the places of their low bits. Returns how many
/// groups are not kNothing.
absl::StatusOr<uint64_t> ReadRuns(uint32_t kind, uint64_t groups,
                                  ByteReader& reader,
                                  std::vector<CascadeRun>* runs) {
  uint64_t present = 0;
  for (uint64_t group = 0; group < groups;) {
    ASSIGN_OR_RETURN(const uint64_t number, reader.Varint());
    const auto mode = static_cast<uint32_t>(number % 8);
    const uint64_t length = number / 8;
    if (!IsAllowed(mode, kind)) return reader.Error("mode ", mode, " of a run");
    if (length < 1 || length > groups - group) {
      return reader.Error("run of ", length, " groups where ", groups - group,
                          " are left");
    }
    runs->push_back({static_cast<uint32_t>(group), mode,
                     static_cast<uint32_t>(present), 0});
    group += length;
    if (mode != kNothing) present += length;
  }
  return present;
}

/// Reads a group's list of elements with low bits.
absl::Status ReadFew(uint32_t kind, ByteReader& reader) {
  const bool wide = kind == kCascadeFp32;
  ASSIGN_OR_RETURN(const uint8_t count, reader.Le<uint8_t>());
  int previous = -1;
  for (int i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const uint8_t element, reader.Le<uint8_t>());
    ASSIGN_OR_RETURN(const ByteSpan low, reader.Bytes(wide ? 2 : 1));
    if (element <= previous || element >= kGroup || (!wide && low[0] >= 8)) {
      return reader.Error("element ", int{element}, " of a list after element ",
                          previous);
    }
    previous = element;
  }
  return absl::OkStatus();
}

/// Reads the low bits and gives their places to the runs, of which lists become
/// one a group.
absl::Status ReadLow(uint32_t kind, uint64_t groups, ByteReader& reader,
                     std::vector<CascadeRun>* runs) {
  std::vector<CascadeRun> placed;
  for (size_t r = 0; r < runs->size(); ++r) {
    CascadeRun run = (*runs)[r];
    const uint64_t end = r + 1 < runs->size() ? (*runs)[r + 1].first : groups;
    const uint64_t length = end - run.first;
    run.low = Here(reader);
    if (run.mode == kFew) {
      for (; run.first < end; ++run.first, ++run.present) {
        run.low = Here(reader);
        RETURN_IF_ERROR(ReadFew(kind, reader));
        placed.push_back(run);
      }
      continue;
    }
    const uint64_t group_bytes = run.mode == kThree ? kThreeBytes
                                 : run.mode == kAll ? kAllBytes
                                                    : 0;
    RETURN_IF_ERROR(reader.Bytes(length * group_bytes).status());
    placed.push_back(run);
  }
  *runs = std::move(placed);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Batch::Params> Batch::ReadParams(codecs::CodecId codec,
                                                ByteSpan bytes) {
  Params params{};
  ByteReader reader(bytes, "parameters");
  ASSIGN_OR_RETURN(params.kind, reader.Le<uint8_t>());
  if (codec == kFloatCodec) {
    RETURN_IF_ERROR(
        ReadFloatTables(reader, &params.tables.floats, &params.table_count));
  } else {
    params.kind += kFloatFp32;  // to the cascades
    RETURN_IF_ERROR(ReadLayers(reader, &params.tables.cascade));
  }
  return params;
}

absl::Status Batch::AddFloatBlock(Block block, ByteSpan coded,
                                  const Params& params) {
  const uint64_t elements = block.size / ElementSize(block.kind);
  FloatParts& parts = block.floats;
  parts.streams = elements >= 65536 ? 4 : 1;
  ByteReader reader(coded, "float block");
  RETURN_IF_ERROR(
      ReadStreams(block.kind, params.table_count, elements, reader, &parts));
  const std::span<const uint32_t> widths = WidthsOf(block.kind);
  const uint64_t groups = (elements + kGroup - 1) / kGroup;
  ByteSpan zstd[kMaxPlanes];
  for (size_t p = 0; p < widths.size(); ++p) {
    RETURN_IF_ERROR(
        ReadPlane(widths[p], groups, reader, &parts.plane[p], &zstd[p]));
  }
  RETURN_IF_ERROR(reader.ExpectEnd());

  // What was compressed follows the block.
  const size_t start = Append(coded);
  for (size_t p = 0; p < widths.size(); ++p) {
    if (zstd[p].data() == nullptr) continue;
    const size_t at = bytes_.size(), size = groups * 16 * widths[p];
    bytes_.Extend(size);
    RETURN_IF_ERROR(codecs::DecodeZstdFrame(
        zstd[p], bytes_.mutable_span().subspan(at, size), scratch_));
    parts.plane[p].groups = static_cast<uint32_t>(at - start);
  }
  block.in = start;
  Add(block);
  return absl::OkStatus();
}

absl::Status Batch::AddCascadeBlock(Block block, ByteSpan coded,
                                    const Params& params) {
  const CascadeLayers& layers = params.tables.cascade;
  const uint64_t group_size = kGroup * ElementSize(block.kind);
  const uint64_t groups = (block.size + group_size - 1) / group_size;
  CascadeParts& parts = block.cascade;
  ByteReader reader(coded, "cascade block");
  std::vector<CascadeRun> runs;
  ASSIGN_OR_RETURN(const uint64_t present,
                   ReadRuns(block.kind, groups, reader, &runs));
  uint64_t codes = present;  // groups of them
  for (uint32_t k = 0; k < layers.count; ++k) {
    if (k > 0) {
      ASSIGN_OR_RETURN(codes, reader.Varint(codes));
    }
    parts.groups[k] = static_cast<uint32_t>(codes);
  }
  ASSIGN_OR_RETURN(const uint64_t raw_count, reader.Varint(codes * kGroup));
  parts.raw_count = static_cast<uint32_t>(raw_count);
  for (uint32_t k = 0; k < layers.count; ++k) {
    parts.codes[k] = Here(reader);
    RETURN_IF_ERROR(
        reader.Bytes(16 * uint64_t{layers.width[k]} * parts.groups[k])
            .status());
  }
  parts.raw = Here(reader);
  RETURN_IF_ERROR(ReadExponents(raw_count, block.kind, reader));
  parts.rests = Here(reader);
  RETURN_IF_ERROR(reader.Bytes(present * kGroup).status());
  RETURN_IF_ERROR(ReadLow(block.kind, groups, reader, &runs));
  RETURN_IF_ERROR(reader.ExpectEnd());

  block.in = Append(coded);
  parts.runs = static_cast<uint32_t>(bytes_.size() - block.in);
  parts.run_count = static_cast<uint32_t>(runs.size());
  bytes_.Append({reinterpret_cast<const uint8_t*>(runs.data()),
                 runs.size() * sizeof(CascadeRun)});
  Add(block);
  return absl::OkStatus();
}

absl::Status Batch::AddDeviceBlock(const container::BlockRecord& record,
                                   ByteSpan coded, const Params& params,
                                   uint32_t table, uint64_t out) {
  if (record.size % ElementSize(params.kind) != 0) {
    return DataLoss(record.size, " bytes are no whole number of elements");
  }
  Block block{};
  block.out = out;
  block.hash = record.hash;
  block.size = record.size;
  block.kind = params.kind;
  block.table = table;
  return params.kind <= kFloatFp32 ? AddFloatBlock(block, coded, params)
                                   : AddCascadeBlock(block, coded, params);
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
  struct Parsed {
    std::unique_ptr<const codecs::DecodeParams> host;
    std::optional<Params> device;
    uint32_t table = 0;
  };
  std::map<codecs::CodecId, Parsed> parsed;
  for (const container::CodecParams& params : head.params) {
    const codecs::Decoder* decoder =
        codecs::FindDecoderOfOneBlock(params.codec);
    if (decoder == nullptr) return NotAlone(params.codec);
    if (decoder->parse == nullptr) {
      return DataLoss("parameters for codec ", decoder->name,
                      ", which takes none");
    }
    Parsed& entry = parsed[params.codec];
    ASSIGN_OR_RETURN(entry.host, decoder->parse(params.bytes));
    if (params.codec == kFloatCodec || params.codec == kCascadeCodec) {
      ASSIGN_OR_RETURN(entry.device, ReadParams(params.codec, params.bytes));
      entry.table = static_cast<uint32_t>(tables_.size());
      tables_.push_back(entry.device->tables);
    }
  }
  for (size_t i = 0; i < head.blocks.size(); ++i) {
    const container::BlockRecord& record = head.blocks[i];
    const uint64_t to = out + uint64_t{i} * head.block_size;
    if (codecs::FindDecoderOfOneBlock(record.codec) == nullptr) {
      return NotAlone(record.codec);
    }
    if (record.coded_offset > data.size() ||
        record.coded_size > data.size() - record.coded_offset) {
      return DataLoss("block ", i, " of the frame is not in its data");
    }
    const ByteSpan coded = data.subspan(record.coded_offset, record.coded_size);
    const Parsed& params = parsed[record.codec];
    RETURN_IF_ERROR(Annotate(
        params.device.has_value() && record.size > kMinHashed &&
                to % ElementSize(params.device->kind) == 0
            ? AddDeviceBlock(record, coded, *params.device, params.table, to)
            : AddHostBlock(record, coded, params.host.get(), to),
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
  block.in = Append(plain);
  block.out = out;
  block.size = static_cast<uint32_t>(plain.size());
  block.kind = kCopy;
  Add(block);
}

size_t Batch::Append(ByteSpan bytes) {
  const size_t padding = (kAlignment - bytes_.size() % kAlignment) % kAlignment;
  std::fill_n(bytes_.Extend(padding), padding, uint8_t{0});
  bytes_.Append(bytes);
  return bytes_.size() - bytes.size();
}

void Batch::Add(const Block& block) {
  blocks_.push_back(block);
  out_size_ = std::max(out_size_, block.out + block.size);
}

uint64_t Batch::device_bytes() const {
  uint64_t sum = 0;
  for (const Block& block : blocks_)
    sum += block.kind == kCopy ? 0 : block.size;
  return sum;
}

}  // namespace zipllm::cuda
