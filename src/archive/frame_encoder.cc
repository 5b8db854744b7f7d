#include "archive/frame_encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>

#include "archive/ranges.h"
#include "base/bytes.h"
#include "codecs/codec.h"
#include "container/format.h"
#include "container/xxh3.h"

namespace zipllm::archive {
namespace {

constexpr uint8_t kStored = 0;
constexpr uint8_t kFill = 1;
// Those that are asked first: what they are made for is most of all data.
constexpr uint8_t kFloat = 5;
constexpr uint8_t kCascade = 7;
constexpr uint8_t kQuant = 9;
constexpr uint8_t kCopy = 14;
constexpr uint8_t kFirstOfText = 21;
constexpr uint8_t kFirstOfMixing = 22;
constexpr uint8_t kLastOfText = 24;  // by the user's language model
constexpr uint8_t kLog = 25;
// From here on models of text mix contexts.
constexpr int kMixingLevel = 6;
// Where it is not known which model of text learns fastest.
constexpr size_t kSmallText = size_t{1} << 16;
// Less than this is stored without asking a codec.
constexpr size_t kMinPlanned = 32;
constexpr uint32_t kElementsPerBlock = uint32_t{1} << 18;
// Of elements; a source may be packed in other units than its target.
constexpr uint32_t kCoarsestUnit = 256;
// Of packed elements: what lies beside them in a source takes more bytes.
constexpr uint32_t kMostWeights = uint32_t{1} << 23;
constexpr uint32_t kPackedBlock = uint32_t{1} << 20;
// What slow codecs of text take at most (limits.md), about.
constexpr uint64_t kSlowMemory = uint64_t{512} << 20;

struct Choice {
  uint8_t codec = kStored;
  std::shared_ptr<const codecs::EncodePlan> plan;
};

bool NeedsReferences(uint8_t codec) {
  const codecs::Decoder* decoder = codecs::FindDecoder(codec);
  return decoder->decode_against != nullptr && !decoder->alone;
}

bool IsForText(uint8_t codec) {
  return codec >= kFirstOfText && codec <= kLastOfText;
}

bool IsForWeights(uint8_t codec) {
  return codec == kFloat || codec == kCascade || codec == kQuant;
}

// Whether elements nearly all differ from those around them, as weights do that
// training left as they are: not on a grid, not sparse, not repeated.
bool LooksDiverse(const codecs::EncodeRequest& request) {
  constexpr size_t kChunks = 4;
  constexpr size_t kElements = 1024;
  constexpr size_t kBits = 4096;
  const DTypeInfo* info = FindDType(request.dtype);
  const size_t size = std::min<size_t>(info->block_bytes, sizeof(uint64_t));
  const size_t chunk = kElements * info->block_bytes;
  if (request.data.size() < chunk) return false;
  for (size_t c = 0; c < kChunks; ++c) {
    const size_t at = (request.data.size() - chunk) / (kChunks - 1) * c /
                      info->block_bytes * info->block_bytes;
    // Rows that are not used are often all the same.
    const uint64_t row = request.row / info->block_elements * info->block_bytes;
    if (row >= 64 && at + row + 64 <= request.data.size() &&
        std::memcmp(&request.data[at], &request.data[at + row], 64) == 0) {
      return false;
    }
    // Elements by a hash, a bit each: some collide.
    std::array<uint64_t, kBits / 64> seen{};
    for (size_t i = 0; i < kElements; ++i) {
      uint64_t element = 0;
      std::memcpy(&element, &request.data[at + i * info->block_bytes], size);
      const uint64_t hash = element * 0x9E3779B97F4A7C15 >> 52;
      seen[hash / 64] |= uint64_t{1} << (hash % 64);
    }
    size_t different = 0;
    for (const uint64_t word : seen) {
      different += static_cast<size_t>(std::popcount(word));
    }
    if (different < kElements / 3) return false;
  }
  return true;
}

// Weights as training leaves them: their codec saves what it always does there,
// and below -6 no time is spent on asking others.
bool IsTypical(const codecs::EncodeRequest& request, uint8_t codec,
               uint64_t size) {
  constexpr int kThorough = 6;
  return request.level < kThorough && IsForWeights(codec) &&
         size > request.data.size() / 2 &&
         size < request.data.size() - request.data.size() / 64 &&
         LooksDiverse(request);
}

// Whether lines are coded as columns alone, and not as they are too: that is
// slower, and smaller as a rule.
bool ColumnsAreEnough(const codecs::EncodeRequest& request) {
  constexpr size_t kQuick = size_t{1} << 21;  // in a second
  return request.level < kMixingLevel ||
         (request.level == kMixingLevel && request.data.size() > kQuick);
}

// In the order in which codecs are asked: those that may be enough first, of
// those for text the strongest.
int RankOf(uint8_t codec) {
  return NeedsReferences(codec) ? 0
         : codec == kLog        ? 1
         : IsForText(codec)     ? 2 + kLastOfText - codec
         : IsForWeights(codec)  ? 2 + kLastOfText
                                : 3 + kLastOfText;
}

// The plan that expects to need the fewest bytes; none if storing does.
Choice Plan(codecs::EncodeRequest request, const TensorModels* models,
            codecs::Scratch& scratch) {
  // Against references as little as this: nothing else comes near.
  constexpr size_t kClose = 4;
  Choice best;
  uint64_t best_size = request.data.size();
  std::vector<const codecs::Encoder*> candidates;
  for (const codecs::Encoder* encoder : codecs::AllEncoders()) {
    if (encoder->id == kStored || encoder->id == kFill || encoder->id == kCopy)
      continue;
    if (NeedsReferences(encoder->id) && request.references.empty()) continue;
    if (IsForText(encoder->id) && !request.is_text) continue;
    if (encoder->id == kLog && !request.is_lines) continue;
    candidates.push_back(encoder);
  }
  std::ranges::stable_sort(candidates, {}, [](const codecs::Encoder* encoder) {
    return RankOf(encoder->id);
  });
  for (const codecs::Encoder* encoder : candidates) {
    if (RankOf(encoder->id) > 0 && best_size < request.data.size() / kClose &&
        NeedsReferences(best.codec)) {
      break;
    }
    request.model = nullptr;
    if (models != nullptr &&
        (encoder->learn != nullptr || encoder->learn_text != nullptr)) {
      const auto model = models->find(encoder->id);
      if (model != models->end()) {
        request.model = model->second.get();
      } else if (encoder->learn != nullptr) {
        continue;  // it found nothing to learn
      }
    }
    std::unique_ptr<codecs::EncodePlan> plan = encoder->plan(request, scratch);
    if (plan == nullptr) continue;
    uint64_t size = plan->estimate() + plan->params().size();
    if (size < best_size) {
      best_size = size;
      best = {encoder->id, std::move(plan)};
    }
    if (IsTypical(request, encoder->id, size)) break;
    // Others take their time too, for nothing. A language model that the user
    // gave may know less of the text than what learns from it.
    const bool is_enough = encoder->id == kLog ? ColumnsAreEnough(request)
                                               : IsForText(encoder->id) &&
                                                     encoder->id != kLastOfText;
    if (is_enough &&
        (request.data.size() > kSmallText || encoder->id == kFirstOfMixing)) {
      break;
    }
  }
  return best;
}

// Decodes what was coded, as a reader would, and compares.
class Verifier {
 public:
  void SetParams(uint8_t codec, ByteSpan params) {
    decoder_ = codecs::FindDecoder(codec);
    if (params.empty() || decoder_ == nullptr || decoder_->parse == nullptr)
      return;
    auto parsed = decoder_->parse(params);
    if (parsed.ok()) params_ = std::move(parsed).value();
  }
  bool Check(uint8_t codec, const codecs::BlockContext& context, ByteSpan coded,
             ByteSpan plain, codecs::Scratch& scratch) {
    const codecs::Decoder* decoder = codecs::FindDecoder(codec);
    if (decoder == nullptr) return false;
    thread_local Buffer decoded;  // kept from frame to frame
    decoded.Resize(plain.size());
    const codecs::DecodeParams* params =
        decoder == decoder_ ? params_.get() : nullptr;
    const MutableByteSpan out = decoded.mutable_span();
    return (decoder->decode_against != nullptr
                ? decoder->decode_against(params, context, coded, out, scratch)
                : decoder->decode(params, coded, out, scratch))
               .ok() &&
           std::memcmp(decoded.data(), plain.data(), plain.size()) == 0;
  }

 private:
  const codecs::Decoder* decoder_ = nullptr;
  std::unique_ptr<const codecs::DecodeParams> params_;
};

}  // namespace

uint32_t TextBlockBytes(int level, bool lines) {
  constexpr int kFirst = 3;
  if (level < kFirst) return 0;
  return level == kMaxLevel               ? uint32_t{1} << 24
         : level >= kMixingLevel || lines ? uint32_t{1} << 23
         : level == kFirst                ? uint32_t{1} << 21
                                          : uint32_t{1} << 22;
}

bool TextIsSlow(int level) { return level >= kMixingLevel; }

uint32_t BlockBytes(DType dtype, int level, uint64_t row) {
  const DTypeInfo* info = FindDType(dtype);
  if (dtype == DType::kBytes || info == nullptr) {
    if (row != 0 && row <= kMaxRecord) {
      return static_cast<uint32_t>(kMaxBlockBytes / row * row);
    }
    return level >= 7 ? kMaxBlockBytes : uint32_t{1} << 20;
  }
  if (info->block_elements != 1) {
    // Whole rows, since quantizers make blocks of whole rows.
    const uint32_t most =
        std::min(level == kMaxLevel ? kMaxBlockBytes : kPackedBlock,
                 kMostWeights / info->block_elements * info->block_bytes);
    const uint64_t row_bytes =
        row / info->block_elements * uint64_t{info->block_bytes};
    const uint64_t coarsest = info->block_bytes * uint64_t{kCoarsestUnit} /
                              std::gcd(kCoarsestUnit, info->block_elements);
    const uint64_t unit =
        row_bytes == 0 || row_bytes > most ? coarsest : row_bytes;
    return static_cast<uint32_t>(most / unit * unit);
  }
  if (level == kMaxLevel) {
    return kMaxBlockBytes / info->block_bytes * info->block_bytes;
  }
  if (info->block_bytes > 1) return kElementsPerBlock * info->block_bytes;
  return kPackedBlock;
}

namespace {

// What the reader of a block will have: arrays of just that block.
class ContextOfBlock {
 public:
  ContextOfBlock(const FrameJob& job, const codecs::EncodeRequest& request,
                 ByteSpan shared)
      : against_(job.against),
        frame_(request.references),
        references_(frame_.begin(), frame_.end()) {
    context_.references = references_;
    context_.row = against_.row;
    context_.shared = shared;
    context_.text_model = request.text_model;
  }
  const codecs::BlockContext& At(size_t pos, size_t size) {
    for (size_t k = 0; k < references_.size(); ++k) {
      if (codecs::IsWhole(frame_[k].role)) continue;
      const container::Packing packing = container::PackingOf(frame_[k].dtype);
      references_[k].data = frame_[k].data.subspan(
          packing.BytesOf(against_.packing.ElementsIn(pos)),
          packing.BytesOf(against_.packing.ElementsIn(size)));
    }
    context_.position = against_.position + against_.packing.ElementsIn(pos);
    return context_;
  }

 private:
  const container::FrameSources& against_;
  const std::span<const codecs::Reference> frame_;
  std::vector<codecs::Reference> references_;
  codecs::BlockContext context_;
};

// Codes the blocks of the frame: each by `chosen` where that helps.
container::BlocksHead CodeBlocks(const codecs::EncodeRequest& request,
                                 const Choice& chosen,
                                 const codecs::EncodePlan* fill,
                                 const codecs::EncodePlan* copy,
                                 codecs::Scratch& scratch, FrameJob& job) {
  const ByteSpan plain = job.plain->span();
  const ByteSpan params =
      chosen.plan == nullptr ? ByteSpan() : chosen.plan->params();
  container::BlocksHead head;
  head.kept = job.kept;
  head.block_size = job.block_size;
  head.size = static_cast<uint32_t>(plain.size());
  Buffer& data = *job.data;
  data.Clear();
  job.duplicate_bytes = 0;
  Verifier verifier;
  verifier.SetParams(chosen.codec, params);
  bool params_used = false;
  job.shared_model = nullptr;
  const codecs::TensorModel* model = nullptr;
  if (job.models != nullptr && job.models->contains(chosen.codec)) {
    model = job.models->at(chosen.codec).get();
  }
  ContextOfBlock context(job, request,
                         model == nullptr ? ByteSpan() : model->shared());
  bool sources_used = false;

  for (size_t pos = 0; pos < plain.size(); pos += job.block_size) {
    const ByteSpan block = plain.subspan(
        pos, std::min<size_t>(job.block_size, plain.size() - pos));
    const size_t i = head.blocks.size();
    const size_t start = data.size();
    container::BlockRecord record;
    record.hash = Xxh3(block);
    auto encode = [&](uint8_t codec, const codecs::EncodePlan* plan) {
      if (plan == nullptr || !plan->Encode(block, scratch, &data)) return false;
      const ByteSpan coded = data.span().subspan(start);
      bool good = coded.size() < block.size();
      if (good && job.verify &&
          !verifier.Check(codec, context.At(pos, block.size()), coded, block,
                          scratch)) {
        good = false;
        job.verify_failed = true;
      }
      if (good) {
        record.codec = codec;
      } else {
        data.Resize(start);
      }
      return good;
    };
    const uint64_t target = job.duplicate_of.empty() ? FrameJob::kNotDuplicate
                                                     : job.duplicate_of[i];
    const uint64_t distance = job.first_block + i - target;
    if (target != FrameJob::kNotDuplicate &&
        VarintSize(distance) < block.size()) {
      record.codec = container::kDuplicate;
      ByteWriter(&data).Varint(distance);
      job.duplicate_bytes += block.size();
    } else if (!job.twin.empty() && !job.twin[i].empty()) {
      record.codec = container::kTwin;
      data.Append(job.twin[i].span());
      job.duplicate_bytes += block.size();
    } else if (encode(kFill, fill)) {
    } else if (encode(kCopy, copy)) {
      sources_used = true;
    } else if (encode(chosen.codec, chosen.plan.get())) {
      params_used = true;
      sources_used = sources_used || NeedsReferences(chosen.codec);
    } else {
      record.codec = kStored;
      data.Append(block);
    }
    record.coded_size = static_cast<uint32_t>(data.size() - start);
    head.blocks.push_back(record);
  }
  if (params_used && !params.empty()) {
    head.params.push_back({chosen.codec, params});
  }
  if (sources_used) head.against = job.against;
  if (params_used && model != nullptr && !model->shared().empty()) {
    job.shared_model = model;
  }
  return head;
}

}  // namespace

void EncodeFrame(FrameJob& job) {
  // Kept from frame to frame: each thread encodes many.
  thread_local codecs::Scratch scratch;
  const ByteSpan plain = job.plain->span();
  std::optional<Patience::Block> watch;
  std::optional<MemoryGate::Pass> memory;
  const bool is_slow =
      job.is_text && (TextIsSlow(job.level) || job.text_model != nullptr);
  if (is_slow && job.patience != nullptr) {
    memory.emplace(*job.memory, kSlowMemory);
    if (job.patience->stopped()) return;
    watch.emplace(*job.patience, job.verify ? 2 : 1);
  }
  scratch.watch = watch.has_value() ? &*watch : nullptr;
  // Nothing is coded larger than it is, and a codec may need some room to see.
  job.data->Reserve(plain.size() + (plain.size() >> 3) + 4096);
  const bool all_duplicates =
      (!job.duplicate_of.empty() &&
       std::find(job.duplicate_of.begin(), job.duplicate_of.end(),
                 FrameJob::kNotDuplicate) == job.duplicate_of.end()) ||
      (!job.twin.empty() && std::ranges::none_of(job.twin, &Buffer::empty));
  constexpr int kRowsMatter = 6;  // from this level on
  if (job.find_row && job.level >= kRowsMatter) {
    job.row = FindRowLength(plain, job.dtype);
  }
  codecs::EncodeRequest request{plain,     job.block_size, job.dtype,
                                job.level, job.row,        job.position};
  request.is_text = job.is_text;
  request.is_lines = job.is_lines;
  request.text_model = job.text_model;
  // A complex number is two floats.
  if (job.dtype == DType::kC64 || job.dtype == DType::kC128) {
    request.dtype = job.dtype == DType::kC64 ? DType::kF32 : DType::kF64;
    request.row *= 2;
    request.position *= 2;
  }
  std::vector<Buffer> sources;
  std::vector<codecs::Reference> references;
  // Where they cannot be read, the frame is coded alone.
  if (!all_duplicates && job.load_sources != nullptr &&
      job.load_sources(&sources).ok()) {
    for (size_t k = 0; k < sources.size(); ++k) {
      const container::FrameSource& source = job.against.sources[k];
      references.push_back(
          {source.role, source.dtype, sources[k].span(), source.row});
    }
    request.references = references;
    request.row = job.against.row;
    request.position = job.against.position;
  }
  const std::unique_ptr<codecs::EncodePlan> fill =
      codecs::FindEncoder(kFill)->plan(request, scratch);
  const std::unique_ptr<codecs::EncodePlan> copy =
      codecs::FindEncoder(kCopy)->plan(request, scratch);
  // Holes, tensors of zeros and what equals its source need no other plan:
  // blocks that all repeat take 16 bytes at most.
  const auto is_all = [&](const codecs::EncodePlan* plan) {
    return plan != nullptr && plan->estimate() * job.block_size <=
                                  16 * (plain.size() + job.block_size);
  };
  Choice chosen;
  if (!all_duplicates && !is_all(fill.get()) && !is_all(copy.get()) &&
      plain.size() >= kMinPlanned) {
    chosen = Plan(request, job.models.get(), scratch);
  }
  job.head = CodeBlocks(request, chosen, fill.get(), copy.get(), scratch, job);
  if (!job.head.params.empty() &&
      job.data->size() + job.head.params[0].bytes.size() >= plain.size()) {
    // Tables do not pay.
    job.head = CodeBlocks(request, {}, fill.get(), copy.get(), scratch, job);
  }
  job.plan = std::move(chosen.plan);
  scratch.watch = nullptr;
}

}  // namespace zipllm::archive
