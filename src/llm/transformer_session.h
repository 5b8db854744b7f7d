// Reading texts by a Transformer.
#ifndef ZIPLLM_LLM_TRANSFORMER_SESSION_H_
#define ZIPLLM_LLM_TRANSFORMER_SESSION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "llm/team.h"
#include "llm/transformer.h"

namespace zipllm::llm {

/// Threads share the items of each phase of a layer; what an item computes
/// depends on neither their number nor the other texts. Nothing is allocated
/// after construction. Thread-compatible.
class TransformerSession final : public codecs::TextModel::Session {
 public:
  TransformerSession(const Transformer& model, size_t streams, size_t threads,
                     const Kernels& kernels);

  /// Memory that the constructor takes, but for small things.
  static uint64_t Bytes(const Transformer& model, size_t streams,
                        size_t threads);

  void Step(std::span<const uint32_t> tokens) override;
  std::span<const uint64_t> Sums(size_t stream) const override;

 private:
  /// Where the keys and values of a layer lie in each stream's cache, and how
  /// many: whole slots of kBlock positions. Slot 0 of layers that look back to
  /// everything keeps the first positions; others are used in turn.
  struct LayerCache {
    size_t slots;
    bool keeps_first;
    size_t window;      // positions back that are seen; SIZE_MAX: all kept
    size_t tiles;       // first of the layer
    size_t scales;      // likewise, of values
    size_t first_keys;  // likewise, of keys before they are turned
  };
  struct Sizes {
    std::vector<LayerCache> layers;
    size_t tiles;
    size_t scales;
    size_t first_keys;
    size_t product;  // floats of the widest product's row
    size_t input;    // blocks of its widest input
  };
  struct Stream {
    uint64_t position = 0;
    Buffer tiles;
    std::vector<float> value_scales;
    std::vector<float> first_keys;
    std::vector<uint64_t> sums;
  };
  /// One of the streams that do not rest in this step.
  struct Row {
    Stream* stream;
    size_t token;
    std::vector<float> state;
    std::vector<float> normal;
    std::vector<Rotation> turns[2];  // by rope, by local rope
    /// Likewise of the first positions, which move on when others are dropped.
    std::vector<Rotation> first_turns[2];
  };
  struct Scratch {
    std::vector<float> scores;
    std::vector<float> values;
    std::vector<Block> blocks;
    std::vector<Block> weights;
  };

  static Sizes MeasureCaches(const Transformer& model);
  static size_t SlotTiles(const Transformer& model);

  void ReadLayer(size_t index, const std::vector<float>& next_norm);
  void Multiply(const Matrix& matrix, size_t tile_rows, float* out);
  void Begin(Row& row);
  void Prepare(size_t row, const std::vector<float>& norm);
  void AddProduct(size_t row, const std::vector<float>& norm);
  void Gate();
  void Attend(Scratch& scratch, size_t row, size_t layer, size_t key_head);
  void StoreKey(const float* key, const Rope& rope, const Rotation* turns,
                size_t place, Tile* tiles, Scratch& scratch);
  void StoreValue(const float* value, size_t place, size_t slots, Tile* tiles,
                  float* scales, Scratch& scratch);

  const Transformer& model_;
  const Kernels& kernels_;
  const Sizes sizes_;
  std::vector<Stream> streams_;
  std::vector<Row> rows_;
  size_t row_count_ = 0;  // of rows_ in this step
  std::vector<Scratch> scratch_;
  std::vector<Block> input_;
  std::vector<float> product_;
  std::vector<float> logits_;
  Team team_;
};

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_TRANSFORMER_SESSION_H_
