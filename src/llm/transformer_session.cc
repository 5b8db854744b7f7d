#include "llm/transformer_session.h"

#include <algorithm>
#include <limits>

#include "base/executor.h"
#include "llm/float_mode.h"

namespace zipllm::llm {
namespace {

// How products are shared: parts that are small enough for threads to end at
// about the same time.
constexpr size_t kPartsPerThread = 4;
constexpr size_t kMostTileRows = 64;
constexpr size_t kGateBlocks = 16;

size_t RoundUp(size_t count) {
  return (count + kTileRows - 1) / kTileRows * kTileRows;
}

}  // namespace

/// Tiles of the keys, or of the values, of one key head in a slot.
size_t TransformerSession::SlotTiles(const Transformer& model) {
  return model.head_width_ / kTileRows;
}

TransformerSession::Sizes TransformerSession::MeasureCaches(
    const Transformer& model) {
  Sizes sizes = {};
  for (const Transformer::Layer& layer : model.layers_) {
    LayerCache cache = {};
    // A window that fills the context is no window.
    const bool has_window =
        layer.is_local && model.window_ + kBlock <= model.context_;
    cache.keeps_first = !has_window;
    cache.window = has_window ? model.window_ : SIZE_MAX;
    cache.slots = has_window ? (model.window_ + kBlock - 1) / kBlock + 1
                             : model.context_ / kBlock;
    cache.tiles = sizes.tiles;
    cache.scales = sizes.scales;
    cache.first_keys = sizes.first_keys;
    sizes.tiles += model.key_heads_ * cache.slots * 2 * SlotTiles(model);
    sizes.scales += model.key_heads_ * cache.slots * kBlock;
    if (cache.keeps_first) {
      sizes.first_keys += model.key_heads_ * kBlock * model.head_width_;
    }
    sizes.layers.push_back(cache);
  }
  const size_t queries = model.heads_ * model.head_width_;
  const size_t keys = model.key_heads_ * model.head_width_;
  sizes.product =
      std::max({queries + 2 * keys, 2 * model.feed_width_, model.width_});
  sizes.input = std::max({queries, model.feed_width_, model.width_}) / kBlock;
  return sizes;
}

uint64_t TransformerSession::Bytes(const Transformer& model, size_t streams,
                                   size_t threads) {
  const Sizes sizes = MeasureCaches(model);
  const uint64_t row =
      sizes.tiles * sizeof(Tile) +
      (sizes.scales + sizes.first_keys) * sizeof(float) +
      (model.outputs_ + 1) * sizeof(uint64_t) +
      (RoundUp(model.outputs_) + sizes.product + 2 * model.width_) *
          sizeof(float) +
      sizes.input * sizeof(Block) +
      2 * (kBlock + 1) * model.head_width_ / 2 * sizeof(Rotation);
  const uint64_t thread = model.heads_ / model.key_heads_ *
                          (model.head_width_ + model.context_) *
                          (sizeof(float) + sizeof(Block) / kBlock);
  return streams * row + threads * thread;
}

TransformerSession::TransformerSession(const Transformer& model, size_t streams,
                                       size_t threads, const Kernels& kernels)
    : model_(model),
      kernels_(kernels),
      sizes_(MeasureCaches(model)),
      streams_(streams),
      rows_(streams),
      scratch_(threads),
      input_(streams * sizes_.input),
      product_(streams * sizes_.product),
      logits_(streams * RoundUp(model.outputs_)),
      team_(threads) {
  Tile empty;
  std::fill(std::begin(empty.scales), std::end(empty.scales), 1.0f);
  std::fill_n(&empty.codes[0][0][0], sizeof empty.codes, uint8_t{128});
  for (Stream& stream : streams_) {
    stream.tiles.Resize(sizes_.tiles * sizeof(Tile));
    auto* tiles = reinterpret_cast<Tile*>(stream.tiles.data());
    std::fill(tiles, tiles + sizes_.tiles, empty);
    stream.value_scales.resize(sizes_.scales);
    stream.first_keys.resize(sizes_.first_keys);
    stream.sums.resize(model.outputs_ + 1);
  }
  for (Row& row : rows_) {
    row.state.resize(model.width_);
    row.normal.resize(model.width_);
    for (auto& turns : row.turns) turns.resize(model.rope_.pairs());
    for (auto& turns : row.first_turns) {
      turns.resize(kBlock * model.rope_.pairs());
    }
  }
  size_t slots = 0;
  for (const LayerCache& cache : sizes_.layers) {
    slots = std::max(slots, cache.slots);
  }
  const size_t group = model.heads_ / model.key_heads_;
  for (Scratch& scratch : scratch_) {
    scratch.scores.resize(group * slots * kBlock);
    scratch.weights.resize(group * slots);
    scratch.values.resize(group * model.head_width_);
    scratch.blocks.resize(group * model.head_width_ / kBlock);
  }
}

std::span<const uint64_t> TransformerSession::Sums(size_t stream) const {
  return streams_[stream].sums;
}

void TransformerSession::Step(std::span<const uint32_t> tokens) {
  [[maybe_unused]] const FloatMode mode;
  row_count_ = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] == codecs::TextModel::kNone) continue;
    Row& row = rows_[row_count_++];
    row.stream = &streams_[i];
    // The token that begins a text lies behind the others.
    row.token = std::min<size_t>(tokens[i], model_.outputs_);
  }
  if (row_count_ == 0) return;
  team_.ForEach(row_count_, [&](size_t, size_t row) {
    Begin(rows_[row]);
    Prepare(row, model_.layers_[0].attention_norm);
  });
  for (size_t i = 0; i < model_.layers_.size(); ++i) {
    const bool is_last = i + 1 == model_.layers_.size();
    ReadLayer(i, is_last ? model_.output_norm_
                         : model_.layers_[i + 1].attention_norm);
  }
  const size_t outputs = RoundUp(model_.outputs_);
  const Matrix& output =
      model_.output_.rows() != 0 ? model_.output_ : model_.tokens_;
  Multiply(output, outputs / kTileRows, logits_.data());
  team_.ForEach(row_count_, [&](size_t, size_t row) {
    float* logits = &logits_[row * outputs];
    if (model_.output_cap_ > 0) {
      kernels_.cap(logits, outputs, model_.output_cap_);
    }
    kernels_.sum_weights(logits, model_.outputs_,
                         rows_[row].stream->sums.data());
    ++rows_[row].stream->position;
  });
}

void TransformerSession::ReadLayer(size_t index,
                                   const std::vector<float>& next_norm) {
  const Transformer::Layer& layer = model_.layers_[index];
  Multiply(layer.query_key_value, layer.query_key_value.tile_rows(),
           product_.data());
  team_.ForEach(row_count_ * model_.key_heads_,
                [&](size_t thread, size_t head) {
                  Attend(scratch_[thread], head / model_.key_heads_, index,
                         head % model_.key_heads_);
                });
  Multiply(layer.attention_output, layer.attention_output.tile_rows(),
           product_.data());
  team_.ForEach(row_count_, [&](size_t, size_t row) {
    AddProduct(row, layer.attention_output_norm);
    Prepare(row, layer.feed_norm);
  });
  Multiply(layer.gate_up, layer.gate_up.tile_rows(), product_.data());
  Gate();
  Multiply(layer.down, layer.down.tile_rows(), product_.data());
  team_.ForEach(row_count_, [&](size_t, size_t row) {
    AddProduct(row, layer.feed_output_norm);
    Prepare(row, next_norm);
  });
}

/// out = the first `tile_rows` of the matrix times the rows' inputs.
void TransformerSession::Multiply(const Matrix& matrix, size_t tile_rows,
                                  float* out) {
  const size_t parts = std::min(
      tile_rows,
      std::max(tile_rows / kMostTileRows, kPartsPerThread * team_.threads()));
  team_.ForEach(parts, [&](size_t, size_t part) {
    const size_t first = tile_rows * part / parts;
    const size_t last = tile_rows * (part + 1) / parts;
    kernels_.multiply(matrix.tiles(first), last - first, matrix.blocks(),
                      matrix.blocks(), input_.data(), row_count_,
                      out + first * kTileRows, tile_rows * kTileRows);
  });
}

void TransformerSession::Begin(Row& row) {
  model_.tokens_.GetRow(row.token, row.state.data());
  if (model_.is_gemma_) {
    const float scale = __builtin_sqrtf(static_cast<float>(model_.width_));
    for (float& x : row.state) x = x * scale;
  }
  const Rope* ropes[] = {&model_.rope_, &model_.local_rope_};
  const uint64_t position = row.stream->position;
  const uint64_t block = position / kBlock;
  const uint64_t slots = model_.context_ / kBlock;
  for (size_t i = 0; i < 2; ++i) {
    ropes[i]->At(position, row.turns[i].data());
    if (position % kBlock != 0 || block < slots) continue;
    // The first positions follow, to stay before the oldest that is kept.
    for (size_t k = 0; k < kBlock; ++k) {
      ropes[i]->At((block - slots + 1) * kBlock + k,
                   &row.first_turns[i][k * ropes[i]->pairs()]);
    }
  }
}

/// The row's input of the next product: its state, normalised.
void TransformerSession::Prepare(size_t row, const std::vector<float>& norm) {
  Row& r = rows_[row];
  const size_t blocks = model_.width_ / kBlock;
  kernels_.normalize(r.state.data(), norm.data(), model_.width_,
                     model_.epsilon_, r.normal.data());
  kernels_.quantize(r.normal.data(), blocks, 1, &input_[row * blocks]);
}

/// Adds the last product to the row's state.
void TransformerSession::AddProduct(size_t row,
                                    const std::vector<float>& norm) {
  Row& r = rows_[row];
  float* product = &product_[row * model_.width_];
  if (!norm.empty()) {
    kernels_.normalize(product, norm.data(), model_.width_, model_.epsilon_,
                       product);
  }
  for (size_t i = 0; i < model_.width_; ++i) {
    r.state[i] = r.state[i] + product[i];
  }
}

void TransformerSession::Gate() {
  const size_t width = model_.feed_width_;
  const size_t blocks = width / kBlock;
  const auto gate = model_.is_gemma_ ? kernels_.gelu : kernels_.silu;
  const size_t parts = (blocks + kGateBlocks - 1) / kGateBlocks;
  team_.ForEach(row_count_ * parts, [&](size_t, size_t item) {
    const size_t row = item / parts;
    const size_t first = item % parts * kGateBlocks;
    const size_t count = std::min(kGateBlocks, blocks - first);
    float* from = &product_[row * 2 * width + first * kBlock];
    gate(from, from + width, count * kBlock, from);
    kernels_.quantize(from, count, 1, &input_[row * blocks + first]);
  });
}

/// Turns a key and puts it at `place` (from slot 0 on) of the key head's tiles.
void TransformerSession::StoreKey(const float* key, const Rope& rope,
                                  const Rotation* turns, size_t place,
                                  Tile* tiles, Scratch& scratch) {
  const size_t blocks = model_.head_width_ / kBlock;
  std::copy_n(key, model_.head_width_, scratch.values.data());
  rope.Turn(turns, scratch.values.data());
  kernels_.quantize(scratch.values.data(), blocks, 1, scratch.blocks.data());
  for (size_t b = 0; b < blocks; ++b) {
    const Block& from = scratch.blocks[b];
    Tile& to = tiles[place / kTileRows * blocks + b];
    to.scales[place % kTileRows] = from.scale;
    for (size_t k = 0; k < kBlock; ++k) {
      to.codes[k / 4][place % kTileRows][k % 4] =
          static_cast<uint8_t>(from.codes[k] + 128);
    }
  }
}

/// Puts a value, rounded with one scale, at `place`: a column of the tiles.
void TransformerSession::StoreValue(const float* value, size_t place,
                                    size_t slots, Tile* tiles, float* scales,
                                    Scratch& scratch) {
  const size_t blocks = model_.head_width_ / kBlock;
  kernels_.quantize(value, blocks, blocks, scratch.blocks.data());
  scales[place] = scratch.blocks[0].scale;
  const size_t k = place % kBlock;
  for (size_t i = 0; i < model_.head_width_; ++i) {
    Tile& to = tiles[i / kTileRows * slots + place / kBlock];
    to.codes[k / 4][i % kTileRows][k % 4] = static_cast<uint8_t>(
        scratch.blocks[i / kBlock].codes[i % kBlock] + 128);
  }
}

/// What the queries of a key head find, as input of the next product.
void TransformerSession::Attend(Scratch& scratch, size_t row, size_t layer,
                                size_t key_head) {
  const Transformer::Layer& weights = model_.layers_[layer];
  const LayerCache& cache = sizes_.layers[layer];
  Stream& stream = *rows_[row].stream;
  const size_t width = model_.head_width_;
  const size_t blocks = width / kBlock;
  const size_t group = model_.heads_ / model_.key_heads_;
  const size_t queries = model_.heads_ * width;
  const size_t keys = model_.key_heads_ * width;
  const size_t query_at = key_head * group * width;
  const size_t key_at = queries + key_head * width;
  float* product = &product_[row * (queries + 2 * keys)];
  float* query = product + query_at;
  float* key = product + key_at;
  float* value = key + keys;
  if (!weights.query_key_value_bias.empty()) {
    const float* bias = weights.query_key_value_bias.data();
    for (size_t i = 0; i < group * width; ++i) {
      query[i] = query[i] + bias[query_at + i];
    }
    for (size_t i = 0; i < width; ++i) {
      key[i] = key[i] + bias[key_at + i];
      value[i] = value[i] + bias[key_at + keys + i];
    }
  }
  if (!weights.key_norm.empty()) {
    for (size_t i = 0; i < group; ++i) {
      kernels_.normalize(query + i * width, weights.query_norm.data(), width,
                         model_.epsilon_, query + i * width);
    }
    kernels_.normalize(key, weights.key_norm.data(), width, model_.epsilon_,
                       key);
  }

  // Where this position is kept.
  const uint64_t position = stream.position;
  const uint64_t block = position / kBlock;
  const size_t slot = !cache.keeps_first ? block % cache.slots
                      : block == 0       ? 0
                                         : 1 + (block - 1) % (cache.slots - 1);
  const size_t used = std::min<uint64_t>(block + 1, cache.slots);
  const size_t place = slot * kBlock + position % kBlock;
  const size_t head_tiles = cache.slots * SlotTiles(model_);
  Tile* key_tiles = reinterpret_cast<Tile*>(stream.tiles.data()) + cache.tiles +
                    key_head * 2 * head_tiles;
  Tile* value_tiles = key_tiles + head_tiles;
  float* value_scales =
      &stream.value_scales[cache.scales + key_head * cache.slots * kBlock];
  const Rope& rope = weights.is_local ? model_.local_rope_ : model_.rope_;
  const Rotation* turns = rows_[row].turns[weights.is_local].data();
  if (cache.keeps_first) {
    float* first =
        &stream.first_keys[cache.first_keys + key_head * kBlock * width];
    if (block == 0) {
      std::copy_n(key, width, first + position * width);
    } else if (position % kBlock == 0 && block >= cache.slots) {
      const Rotation* first_turns =
          rows_[row].first_turns[weights.is_local].data();
      for (size_t k = 0; k < kBlock; ++k) {
        StoreKey(first + k * width, rope, first_turns + k * rope.pairs(), k,
                 key_tiles, scratch);
      }
    }
  }
  StoreKey(key, rope, turns, place, key_tiles, scratch);
  StoreValue(value, place, cache.slots, value_tiles, value_scales, scratch);

  for (size_t i = 0; i < group; ++i) {
    rope.Turn(turns, query + i * width);
  }
  for (size_t i = 0; i < group * width; ++i) {
    query[i] = query[i] * model_.query_scale_;
  }
  kernels_.quantize(query, group * blocks, 1, scratch.blocks.data());
  const size_t places = used * kBlock;
  float* scores = scratch.scores.data();
  kernels_.multiply(key_tiles, places / kTileRows, blocks, blocks,
                    scratch.blocks.data(), group, scores, places);
  if (model_.attention_cap_ > 0) {
    kernels_.cap(scores, group * places, model_.attention_cap_);
  }
  const auto hide = [&](size_t from, size_t to) {
    for (size_t i = 0; i < group; ++i) {
      std::fill(scores + i * places + from, scores + i * places + to,
                std::numeric_limits<float>::lowest());
    }
  };
  hide(place + 1, (slot + 1) * kBlock);
  if (position >= cache.window) {
    const uint64_t first_seen = position - cache.window + 1;
    for (size_t s = 0; s < used; ++s) {
      const uint64_t begin =
          (block - (block + cache.slots - s) % cache.slots) * kBlock;
      if (begin >= first_seen) continue;
      hide(s * kBlock,
           s * kBlock + std::min<uint64_t>(first_seen - begin, kBlock));
    }
  }

  for (size_t i = 0; i < group; ++i) {
    float* chances = scores + i * places;
    const float inverse = 1.0f / kernels_.soften(chances, places);
    for (size_t k = 0; k < places; ++k) {
      chances[k] = chances[k] * inverse * value_scales[k];
    }
  }
  kernels_.quantize(scores, group * used, 1, scratch.weights.data());
  kernels_.multiply(value_tiles, width / kTileRows, cache.slots, used,
                    scratch.weights.data(), group, scratch.values.data(),
                    width);
  kernels_.quantize(scratch.values.data(), group * blocks, 1,
                    &input_[(row * queries + query_at) / kBlock]);
}

absl::StatusOr<std::unique_ptr<codecs::TextModel::Session>> Transformer::Start(
    size_t streams, int threads, uint64_t max_memory,
    const Kernels& kernels) const {
  if (streams == 0 || streams > kMaxStreams) {
    return InvalidArgument("a language model reads 1 to ", kMaxStreams,
                           " texts at once, not ", streams);
  }
  const auto team = static_cast<size_t>(ThreadCount(threads));
  const uint64_t bytes = TransformerSession::Bytes(*this, streams, team);
  if (bytes > max_memory) {
    return ResourceExhausted("the language model needs ", bytes,
                             " bytes for keys and values of ", streams,
                             " texts, and ", max_memory,
                             " are allowed: allow more (--memory)");
  }
  return CatchExceptions(
      [&]() -> absl::StatusOr<std::unique_ptr<codecs::TextModel::Session>> {
        return std::make_unique<TransformerSession>(*this, streams, team,
                                                    kernels);
      });
}

}  // namespace zipllm::llm
