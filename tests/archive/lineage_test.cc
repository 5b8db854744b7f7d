// Sources of tensors are found by their values.
#include "archive/lineage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "archive/testing.h"
#include "base/bytes.h"
#include "parsers/parser.h"
#include "quantizers/dequantize.h"

namespace zipllm::archive {
namespace {

using Order = SourceView::Order;
using testing::Bytes;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Values {
  std::string name;
  DType dtype;
  std::vector<uint64_t> shape;
  Bytes bytes;
  uint16_t quantized = 0;

  uint64_t elements() const {
    return bytes.size() / FindDType(dtype)->block_bytes;
  }
};
using Model = std::vector<Values>;

/// Models, each as a file, in the order in which they are coded.
class Models : public LineageReader {
 public:
  /// The place of its first tensor.
  size_t Add(const Model& model) {
    const size_t first = tensors.size();
    for (const Values& values : model) {
      tensors.push_back({values.name, values.dtype, values.shape,
                         values.elements(), files_, values.quantized});
      data_.push_back(values.bytes);
    }
    ++files_;
    return first;
  }
  bool Read(size_t tensor, uint64_t begin, MutableByteSpan out) override {
    if (tensor == unreadable) return false;
    const Bytes& bytes = data_[tensor];
    const uint64_t at = begin * FindDType(tensors[tensor].dtype)->block_bytes;
    EXPECT_LE(at + out.size(), bytes.size()) << tensors[tensor].name;
    if (at + out.size() > bytes.size()) return false;
    std::memcpy(out.data(), &bytes[at], out.size());
    return true;
  }

  std::vector<Lineage> Find(size_t first_target = 0,
                            const LineageOptions& options = {}) {
    return FindLineage(tensors, first_target, *this, options);
  }

  std::vector<LineageTensor> tensors;
  size_t unreadable = SIZE_MAX;

 private:
  std::vector<Bytes> data_;
  size_t files_ = 0;
};

float Bf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

std::vector<float> Floats(const Values& values) {
  std::vector<float> floats;
  const size_t size = FindDType(values.dtype)->block_bytes;
  for (size_t i = 0; i < values.bytes.size(); i += size) {
    floats.push_back(values.dtype == DType::kBF16
                         ? Bf16(LoadLe<uint16_t>(&values.bytes[i]))
                         : LoadLe<float>(&values.bytes[i]));
  }
  return floats;
}

Values Make(const std::string& name, DType dtype, std::vector<uint64_t> shape,
            const std::vector<float>& floats) {
  Values values{name, dtype, std::move(shape), {}};
  for (const float value : floats) {
    uint8_t le[4];
    if (dtype == DType::kBF16) {
      StoreLe(le, ToBf16(value));
      values.bytes.insert(values.bytes.end(), le, le + 2);
    } else {
      StoreLe(le, value);
      values.bytes.insert(values.bytes.end(), le, le + 4);
    }
  }
  return values;
}

std::vector<float> Gaussian(size_t count, uint64_t seed, float sigma = 0.02F) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> floats(count);
  for (float& value : floats) value = normal(random);
  return floats;
}

/// Every weight moved by a step of an optimizer.
std::vector<float> Tuned(std::vector<float> floats, uint64_t seed,
                         float step = 2e-4F) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, step);
  for (float& value : floats) value += normal(random);
  return floats;
}

Values Weights(const std::string& name, uint64_t rows, uint64_t columns,
               const std::vector<float>& floats) {
  return Make(name, DType::kBF16, {rows, columns}, floats);
}

std::vector<float> Slice(const std::vector<float>& floats, uint64_t begin,
                         uint64_t end) {
  return {floats.begin() + static_cast<ptrdiff_t>(begin),
          floats.begin() + static_cast<ptrdiff_t>(end)};
}

std::vector<float> Joined(std::vector<std::vector<float>> parts) {
  std::vector<float> all;
  for (const auto& part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<float> Transposed(const std::vector<float>& matrix, uint64_t rows) {
  const uint64_t columns = matrix.size() / rows;
  std::vector<float> out(matrix.size());
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      out[c * rows + r] = matrix[r * columns + c];
    }
  }
  return out;
}

// Tensors of a model that has nothing to do with others but shapes and names:
// the same values in another order.
Model Shuffled(Model model, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (Values& values : model) {
    const size_t size = FindDType(values.dtype)->block_bytes;
    Bytes& bytes = values.bytes;
    for (size_t i = bytes.size() / size; i > 1; --i) {
      const size_t j = random() % i;
      std::swap_ranges(bytes.begin() + static_cast<ptrdiff_t>((i - 1) * size),
                       bytes.begin() + static_cast<ptrdiff_t>(i * size),
                       bytes.begin() + static_cast<ptrdiff_t>(j * size));
    }
  }
  return model;
}

// The same tensors with names that say nothing, in another order.
Model Renamed(Model model, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::shuffle(model.begin(), model.end(), random);
  for (size_t i = 0; i < model.size(); ++i) {
    model[i].name = "tensor." + std::to_string(i);
  }
  return model;
}

std::string DataPath(const std::string& path) {
  return ZIPLLM_SOURCE_DIR "/../shared/data/" + path;
}

bool HasData() { return std::filesystem::exists(DataPath("family")); }

Model Load(const std::string& path) {
  const Bytes file = testing::ReadFile(DataPath(path));
  const parsers::Outcome outcome = parsers::Detect(file, file.size());
  Model model;
  for (const Segment& segment : outcome.layout.value().segments) {
    if (segment.dtype == DType::kBytes) continue;
    const auto begin = file.begin() + static_cast<ptrdiff_t>(segment.offset);
    model.push_back({segment.name,
                     segment.dtype,
                     segment.shape,
                     {begin, begin + static_cast<ptrdiff_t>(segment.length)}});
  }
  return model;
}

const Lineage& OnlyBase(const Lineage& lineage, size_t source) {
  EXPECT_THAT(lineage.base, SizeIs(1));
  if (lineage.base.size() == 1) {
    EXPECT_EQ(lineage.base[0].source, source);
    EXPECT_EQ(lineage.base[0].order, Order::kSame);
  }
  return lineage;
}

// ---- Real models

const char* const kFineTunes[] = {"ft-a", "ft-b-step200", "ft-d-purebf16",
                                  "ft-frozen-emb", "ft-lora8"};

// Unrelated models of the same shapes, which come first: ties would go to them.
void AddDistractors(const Model& base, Models* models) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    models->Add(Shuffled(base, seed));
  }
}

TEST(LineageTest, FineTunesAmongDistractorsFindTheirBase) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const Model base = Load("family/base.bf16.safetensors");
  Models models;
  AddDistractors(base, &models);
  const size_t first = models.Add(base);
  for (const char* name : kFineTunes) {
    models.Add(Load(std::string("family/") + name + ".bf16.safetensors"));
  }
  const auto found = models.Find(first);
  for (size_t t = first + base.size(); t < models.tensors.size(); ++t) {
    SCOPED_TRACE(models.tensors[t].name);
    const size_t own = first + (t - first) % base.size();
    EXPECT_EQ(OnlyBase(found[t], own).depth, 1U);
    EXPECT_THAT(found[t].merge, IsEmpty());
    EXPECT_EQ(found[t].base[0].target_elements, models.tensors[t].elements);
  }
}

TEST(LineageTest, NamesAndOrderDoNotMatter) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const Model base = Load("family/base.bf16.safetensors");
  for (const char* name : kFineTunes) {
    Models models;
    AddDistractors(base, &models);
    const size_t first = models.Add(base);
    Model tuned = Load(std::string("family/") + name + ".bf16.safetensors");
    for (size_t i = 0; i < tuned.size(); ++i) {
      // What Renamed moves with the tensor, to tell which it was.
      tuned[i].shape.insert(tuned[i].shape.begin(), i + 1, 1);
    }
    const Model renamed = Renamed(tuned, 7);
    const size_t target = models.Add(renamed);
    const auto found = models.Find(target);
    for (size_t i = 0; i < renamed.size(); ++i) {
      const size_t ones = static_cast<size_t>(std::distance(
          renamed[i].shape.begin(),
          std::ranges::find_if(renamed[i].shape,
                               [](uint64_t n) { return n != 1; })));
      SCOPED_TRACE(base[ones - 1].name);
      OnlyBase(found[target + i], first + ones - 1);
    }
  }
}

TEST(LineageTest, Fp32FineTunesOfBothPrecisionsFindTheirBase) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const Model bf16 = Load("family/base.bf16.safetensors");
  const Model base = Load("family/base.fp32.safetensors");
  const Model tuned = Load("family/ft-a.fp32.safetensors");
  const Model lora = Load("family/ft-lora8.fp32.safetensors");
  Models models;
  models.Add(bf16);
  const size_t first = models.Add(base);
  const size_t a = models.Add(tuned);
  const size_t b = models.Add(lora);
  const auto found = models.Find();
  for (size_t i = 0; i < base.size(); ++i) {
    SCOPED_TRACE(base[i].name);
    // FP32 from its own rounding to BF16.
    const auto rounded = std::ranges::find(bf16, base[i].name, &Values::name);
    OnlyBase(found[first + i], static_cast<size_t>(rounded - bf16.begin()));
    OnlyBase(found[a + i], first + i);
    OnlyBase(found[b + i], first + i);
  }
}

TEST(LineageTest, CheckpointsFollowOneAnother) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const char* const steps[] = {"900", "1000", "1100", "1110"};
  for (const bool renamed : {false, true}) {
    Models models;
    size_t count = 0;
    for (const char* step : steps) {
      Model model = Load("checkpoints/checkpoint-" + std::string(step) +
                         "/model.safetensors");
      count = model.size();
      if (renamed) {
        for (Values& values : model) values.name += step;
      }
      models.Add(model);
    }
    const auto found = models.Find();
    for (size_t t = count; t < models.tensors.size(); ++t) {
      SCOPED_TRACE(models.tensors[t].name);
      OnlyBase(found[t], t - count);
      EXPECT_EQ(found[t].depth, t / count);
    }
  }
}

TEST(LineageTest, AdapterOfAMergeIsFound) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const Model base = Load("family/base.bf16.safetensors");
  const Model lora = Load("family/ft-lora8.bf16.safetensors");
  const Model adapter = Load("family/ft-lora8.adapter.safetensors");
  for (const bool renamed : {false, true}) {
    Models models;
    models.Add(base);
    Model factors = adapter;
    if (renamed) {
      for (size_t i = 0; i < factors.size(); ++i) {
        factors[i].name = "factor." + std::to_string(i);
      }
    }
    const size_t first = models.Add(factors);
    const size_t target = models.Add(lora);
    const auto found = models.Find(target);
    size_t count = 0;
    for (size_t i = 0; i < lora.size(); ++i) {
      const auto a =
          std::ranges::find(adapter, lora[i].name + ".lora_A", &Values::name);
      const auto& of = found[target + i].adapter;
      ASSERT_EQ(of.has_value(), a != adapter.end()) << lora[i].name;
      if (!of) continue;
      ++count;
      const auto place = first + static_cast<size_t>(a - adapter.begin());
      EXPECT_EQ(*of, (Lineage::Adapter{place, place + 1})) << lora[i].name;
    }
    EXPECT_EQ(count, 4U);
  }
}

TEST(LineageTest, SoupsFindTheirParents) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  const Model base = Load("family/base.bf16.safetensors");
  const Model a = Load("family/ft-a.bf16.safetensors");
  const Model b = Load("family/ft-b-step200.bf16.safetensors");
  const Model other = Load("family/ft-d-purebf16.bf16.safetensors");
  const auto merge = [&](double of_a, double of_b, double of_base) {
    Model merged;
    for (size_t i = 0; i < base.size(); ++i) {
      const auto x = Floats(a[i]);
      const auto y = Floats(b[i]);
      const auto z = Floats(base[i]);
      std::vector<float> sum(x.size());
      for (size_t k = 0; k < x.size(); ++k) {
        sum[k] = static_cast<float>(of_a * x[k] + of_b * y[k] + of_base * z[k]);
      }
      merged.push_back(Make(base[i].name, DType::kBF16, base[i].shape, sum));
    }
    return merged;
  };
  const auto parents_of = [](const Lineage& lineage) {
    std::vector<size_t> parents;
    for (const auto& view : lineage.base) parents.push_back(view.source);
    for (const auto& view : lineage.merge) parents.push_back(view.source);
    return parents;
  };
  Models models;
  models.Add(base);
  const size_t first_a = models.Add(a);
  const size_t first_b = models.Add(b);
  models.Add(other);
  const size_t target = models.Add({});
  const double weights[][3] = {
      {0.5, 0.5, 0}, {0.302, 0.7021, 0}, {0.5, 0.8, -0.3}};
  for (const auto& [of_a, of_b, of_base] : weights) {
    Models all = models;
    all.Add(merge(of_a, of_b, of_base));
    const auto found = all.Find(target);
    for (size_t i = 0; i < base.size(); ++i) {
      if (base[i].shape.size() != 2) continue;
      SCOPED_TRACE(base[i].name + " " + std::to_string(of_a));
      const auto parents = parents_of(found[target + i]);
      EXPECT_THAT(parents, ::testing::IsSupersetOf({first_a + i, first_b + i}));
      // Most rows of one fine-tune's embeddings are still those of the base.
      if (of_base != 0 && !base[i].name.starts_with("embeddings")) {
        EXPECT_THAT(parents, ::testing::Contains(i));
      } else {
        EXPECT_THAT(parents, SizeIs(2));
      }
    }
  }
}

// ---- Structure

TEST(LineageTest, RowsAreAdded) {
  const uint64_t n = 96;
  for (const uint64_t rows : {100, 3000}) {
    const auto old = Gaussian(rows * n, 1);
    Models models;
    models.Add({Weights("embed", rows, n, old)});
    const size_t t = models.Add({Weights(
        "embed", rows + 64, n, Joined({Tuned(old, 2), Gaussian(64 * n, 3)}))});
    const auto found = models.Find();
    SourceView expected;
    expected.target_elements = rows * n;
    expected.columns = expected.source_columns = n;
    EXPECT_THAT(found[t].base, ::testing::ElementsAre(expected));
    EXPECT_EQ(found[t].depth, 1U);
  }
}

TEST(LineageTest, FusedAndSplit) {
  const uint64_t n = 256;
  const auto q = Gaussian(256 * n, 1);
  const auto k = Gaussian(64 * n, 2);
  const auto v = Gaussian(64 * n, 3);
  const auto bias = Gaussian(384, 4);
  const Model apart = {
      Weights("q", 256, n, q),
      Weights("k", 64, n, k),
      Weights("v", 64, n, v),
      Make("q.bias", DType::kBF16, {256}, Slice(bias, 0, 256)),
      Make("k.bias", DType::kBF16, {64}, Slice(bias, 256, 320)),
      Make("v.bias", DType::kBF16, {64}, Slice(bias, 320, 384))};
  const Model fused = {Weights("qkv", 384, n, Tuned(Joined({q, k, v}), 5)),
                       Make("qkv.bias", DType::kBF16, {384}, Tuned(bias, 6))};
  {
    Models models;
    models.Add(apart);
    const size_t t = models.Add(fused);
    const auto found = models.Find();
    ASSERT_THAT(found[t].base, SizeIs(3));
    uint64_t begin = 0;
    for (size_t i = 0; i < 3; ++i) {
      const SourceView& view = found[t].base[i];
      EXPECT_EQ(view.source, i);
      EXPECT_EQ(view.target_begin, begin);
      EXPECT_EQ(view.target_elements, apart[i].elements());
      EXPECT_EQ(view.row_offset, 0U);
      begin += apart[i].elements();
    }
    EXPECT_FALSE(found[t + 1].base.empty());
  }
  Models models;
  models.Add(fused);
  const size_t t = models.Add(apart);
  const auto found = models.Find();
  const uint64_t offsets[] = {0, 256, 320};
  for (size_t i = 0; i < 3; ++i) {
    OnlyBase(found[t + i], 0);
    EXPECT_EQ(found[t + i].base[0].row_offset, offsets[i]);
    EXPECT_EQ(found[t + i].base[0].target_elements, apart[i].elements());
  }
}

TEST(LineageTest, FusedByHeads) {
  const uint64_t n = 256;
  const uint64_t head = 32;
  std::vector<std::vector<float>> parts;
  for (uint64_t i = 0; i < 3; ++i) parts.push_back(Gaussian(256 * n, i));
  std::vector<std::vector<float>> heads;
  for (uint64_t h = 0; h < 256 / head; ++h) {
    for (const auto& part : parts) {
      heads.push_back(Slice(part, h * head * n, (h + 1) * head * n));
    }
  }
  Models models;
  models.Add({Weights("q", 256, n, parts[0]), Weights("k", 256, n, parts[1]),
              Weights("v", 256, n, parts[2])});
  const size_t t =
      models.Add({Weights("qkv", 768, n, Tuned(Joined(heads), 9))});
  const auto found = models.Find();
  ASSERT_THAT(found[t].base, SizeIs(24));
  for (uint64_t i = 0; i < 24; ++i) {
    const SourceView& view = found[t].base[i];
    EXPECT_EQ(view.source, i % 3);
    EXPECT_EQ(view.target_begin, i * head * n);
    EXPECT_EQ(view.target_elements, head * n);
    EXPECT_EQ(view.row_offset, i / 3 * head);
  }
}

TEST(LineageTest, RowsInAnotherOrder) {
  const uint64_t rows = 700;
  const uint64_t n = 128;
  const auto old = Gaussian(rows * n, 1);
  std::vector<uint32_t> order(rows);
  std::iota(order.begin(), order.end(), 0U);
  std::mt19937_64 random(3);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<std::vector<float>> moved;
  for (const uint32_t row : order) {
    moved.push_back(Slice(old, row * n, (row + 1) * n));
  }
  Models models;
  models.Add({Weights("w", rows, n, old)});
  const size_t t = models.Add({Weights("w", rows, n, Tuned(Joined(moved), 4))});
  const auto found = models.Find();
  ASSERT_THAT(found[t].base, SizeIs(1));
  EXPECT_EQ(found[t].base[0].order, Order::kRows);
  EXPECT_EQ(found[t].base[0].rows, order);
  EXPECT_EQ(found[t].base[0].target_elements, rows * n);
}

TEST(LineageTest, TransposedAndCutByColumns) {
  const uint64_t m = 192;
  const uint64_t n = 320;
  const auto old = Gaussian(m * n, 1);
  const auto whole = Tuned(old, 2);
  std::vector<float> right;  // the columns from 160 on
  for (uint64_t r = 0; r < m; ++r) {
    const auto row = Slice(whole, r * n + 160, (r + 1) * n);
    right.insert(right.end(), row.begin(), row.end());
  }
  Models models;
  models.Add({Weights("w", m, n, old)});
  const size_t t = models.Add({Weights("a", n, m, Transposed(whole, m)),
                               Weights("b", m, 160, right),
                               Weights("c", 160, m, Transposed(right, m))});
  const auto found = models.Find();
  for (size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    ASSERT_THAT(found[t + i].base, SizeIs(1));
    const SourceView& view = found[t + i].base[0];
    EXPECT_EQ(view.order, i == 1 ? Order::kSame : Order::kTransposed);
    EXPECT_EQ(view.source_columns, n);
    EXPECT_EQ(view.columns, models.tensors[t + i].shape[1]);
    EXPECT_EQ(view.column_offset, i == 0 ? 0U : 160U);
    EXPECT_EQ(view.row_offset, 0U);
    EXPECT_EQ(view.target_begin, 0U);
    EXPECT_EQ(view.target_elements, models.tensors[t + i].elements);
  }
}

TEST(LineageTest, ExpertsInAnotherOrder) {
  Model experts;
  for (uint64_t i = 0; i < 16; ++i) {
    experts.push_back(
        Weights("expert." + std::to_string(i), 64, 96, Gaussian(64 * 96, i)));
  }
  Model moved;
  for (size_t i = 0; i < 16; ++i) {
    moved.push_back(Weights("expert." + std::to_string(i), 64, 96,
                            Tuned(Floats(experts[i * 5 % 16]), i)));
  }
  // One tensor of them all, too.
  std::vector<std::vector<float>> all;
  for (const Values& values : moved) all.push_back(Floats(values));
  moved.push_back(Make("experts", DType::kBF16, {16, 64, 96}, Joined(all)));
  Models models;
  models.Add(experts);
  const size_t t = models.Add(moved);
  const auto found = models.Find();
  for (size_t i = 0; i < 16; ++i) OnlyBase(found[t + i], i * 5 % 16);
  const auto& pieces = found[t + 16].base;
  ASSERT_THAT(pieces, SizeIs(16));
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(pieces[i].source, i * 5 % 16);
    EXPECT_EQ(pieces[i].target_begin, i * 64 * 96);
  }
}

// ---- Quantized tensors

/// Rounds to 2 `levels` + 1 numbers, as far apart in each 32 elements as the
/// greatest of them asks for: 127, 7 and 2 levels are about as far from the
/// weights as Q8_0, Q4_0 and Q2_K are.
Values Quantized(const Values& values, int levels) {
  std::vector<float> floats = Floats(values);
  for (size_t i = 0; i < floats.size(); i += 32) {
    const auto block = std::span(floats).subspan(i, 32);
    float step = 0;
    for (const float x : block) step = std::max(step, std::abs(x));
    step /= static_cast<float>(levels);
    if (step == 0) continue;
    for (float& x : block) x = std::round(x / step) * step;
  }
  Values quantized = Make(values.name, DType::kF32, values.shape, floats);
  quantized.quantized = levels == 127 ? 136 : levels == 7 ? 72 : 42;
  return quantized;
}

Model Quantized(Model model, int levels) {
  for (Values& values : model) values = Quantized(values, levels);
  return model;
}

std::vector<size_t> Sources(const std::vector<SourceView>& views) {
  std::vector<size_t> sources;
  for (const SourceView& view : views) sources.push_back(view.source);
  return sources;
}

// Layers of the same shapes.
Model Layers(size_t count, uint64_t seed) {
  Model model;
  for (size_t i = 0; i < count; ++i) {
    model.push_back(Weights("layer." + std::to_string(i), 96, 256,
                            Gaussian(96 * 256, seed + i)));
  }
  return model;
}

constexpr int kLevels[] = {127, 7, 2};

// Rows of each head in the order in which GGUF files have those of queries and
// keys.
std::vector<uint32_t> RopeOrder(uint32_t rows, uint32_t head) {
  std::vector<uint32_t> order;
  for (uint32_t r = 0; r < rows; ++r) {
    const uint32_t i = r % head;
    order.push_back(r - i + i % 2 * (head / 2) + i / 2);
  }
  return order;
}

std::vector<float> Reordered(const std::vector<float>& matrix,
                             const std::vector<uint32_t>& order) {
  const uint64_t columns = matrix.size() / order.size();
  std::vector<float> out;
  for (const uint32_t row : order) {
    const auto one = Slice(matrix, row * columns, (row + 1) * columns);
    out.insert(out.end(), one.begin(), one.end());
  }
  return out;
}

TEST(LineageTest, QuantizedTensorsFindWhatTheyWereMadeOf) {
  const Model base = Layers(12, 1);
  Model rounded = base;  // to other numbers than BF16
  Model tuned = base;
  for (size_t i = 0; i < base.size(); ++i) {
    std::vector<float> floats = Floats(base[i]);
    for (float& x : floats) x = std::round(x * 8192) / 8192;
    rounded[i] = Make(base[i].name, DType::kF32, base[i].shape, floats);
    tuned[i] = Weights(base[i].name, 96, 256, Tuned(Floats(base[i]), i + 100));
  }
  for (const bool of_tuned : {false, true}) {
    Models models;
    AddDistractors(base, &models);
    const size_t first = models.Add(base);
    const size_t first_rounded = models.Add(rounded);
    const size_t first_tuned = models.Add(tuned);
    size_t target = models.tensors.size();
    for (const int levels : kLevels) {
      models.Add(Quantized(of_tuned ? tuned : base, levels));
    }
    const auto found = models.Find(first_rounded);
    for (; target < models.tensors.size(); ++target) {
      const size_t layer = (target - first) % base.size();
      SCOPED_TRACE(std::to_string(models.tensors[target].quantized) + " " +
                   models.tensors[target].name);
      const Lineage& lineage = found[target];
      ASSERT_FALSE(lineage.candidates.empty());
      EXPECT_EQ(lineage.base, std::vector{lineage.candidates[0]});
      EXPECT_EQ(lineage.base[0].source,
                (of_tuned ? first_tuned : first) + layer);
      EXPECT_THAT(Sources(lineage.candidates),
                  ::testing::IsSupersetOf({first + layer, first_rounded + layer,
                                           first_tuned + layer}));
      EXPECT_THAT(lineage.merge, IsEmpty());
      EXPECT_FALSE(lineage.adapter.has_value());
      for (const SourceView& view : lineage.candidates) {
        EXPECT_EQ(view.order, Order::kSame);
        EXPECT_EQ(view.target_elements, models.tensors[target].elements);
        EXPECT_EQ((view.source - first) % base.size(), layer);
      }
    }
  }
}

TEST(LineageTest, QuantizedSiblingsFindTheOneOfMostBits) {
  const Model base = Layers(8, 1);
  Models models;
  for (const int levels : kLevels) models.Add(Quantized(base, levels));
  const size_t copy = models.Add(Quantized(base, 2));
  // An unquantized one is never made of them.
  const size_t floats = models.Add(base);
  const auto found = models.Find();
  for (size_t i = 0; i < base.size(); ++i) {
    EXPECT_THAT(found[i].base, IsEmpty());
    EXPECT_EQ(OnlyBase(found[8 + i], i).depth, 1U);
    EXPECT_EQ(OnlyBase(found[16 + i], i).depth, 1U);
    // Equal ones are copied.
    EXPECT_EQ(OnlyBase(found[copy + i], 16 + i).depth, 2U);
    EXPECT_THAT(found[floats + i].base, IsEmpty());
  }
}

TEST(LineageTest, QuantizedTensorsSeenOtherwise) {
  const uint64_t n = 256;
  const uint64_t vocabulary = 1000;
  const std::vector<uint32_t> order = RopeOrder(512, 64);
  const auto q = Gaussian(512 * n, 1);
  const auto k = Gaussian(512 * n, 2);
  const auto v = Gaussian(512 * n, 3);
  const auto conv = Gaussian(320 * n, 4);
  const auto embed = Gaussian(vocabulary * n, 5);
  std::vector<std::vector<float>> experts;
  Model apart = {Weights("q", 512, n, q), Weights("k", 512, n, k),
                 Weights("v", 512, n, v), Weights("conv", n, 320, conv),
                 Weights("embed", vocabulary, n, embed)};
  for (size_t i = 0; i < 12; ++i) {
    experts.push_back(Gaussian(64 * n, 10 + i));
    apart.push_back(
        Weights("expert." + std::to_string(i), 64, n, experts.back()));
  }
  const Model seen = {
      Weights("blk.q", 512, n, Reordered(q, order)),
      Weights("blk.k", 512, n, Reordered(k, order)),
      Weights("blk.qkv", 3 * 512, n, Joined({q, k, v})),
      Weights("blk.qkv_rope", 3 * 512, n,
              Joined({Reordered(q, order), Reordered(k, order), v})),
      Weights("blk.conv", 320, n, Transposed(conv, n)),
      Weights("token_embd", vocabulary + 24, n,
              Joined({embed, std::vector<float>(24 * n)})),
      Make("blk.exps", DType::kBF16, {12, 64, n}, Joined(experts))};
  for (const int levels : kLevels) {
    SCOPED_TRACE(levels);
    Models models;
    models.Add(apart);
    const size_t t = models.Add(Quantized(seen, levels));
    const size_t again = models.Add(Quantized(seen, levels == 2 ? 2 : 7));
    const auto found = models.Find();
    for (size_t i = 0; i < 2; ++i) {
      ASSERT_THAT(found[t + i].candidates, SizeIs(1));
      EXPECT_EQ(found[t + i].base, found[t + i].candidates);
      EXPECT_EQ(found[t + i].base[0].source, i);
      EXPECT_EQ(found[t + i].base[0].order, Order::kRows);
      EXPECT_EQ(found[t + i].base[0].rows, order);
    }
    EXPECT_EQ(Sources(found[t + 2].base), (std::vector<size_t>{0, 1, 2}));
    ASSERT_EQ(Sources(found[t + 3].base), (std::vector<size_t>{0, 1, 2}));
    for (size_t i = 0; i < 3; ++i) {
      const SourceView& view = found[t + 3].base[i];
      EXPECT_EQ(view.target_begin, i * 512 * n);
      EXPECT_EQ(view.target_elements, 512 * n);
      EXPECT_EQ(view.rows, i < 2 ? order : std::vector<uint32_t>());
    }
    ASSERT_THAT(found[t + 4].base, SizeIs(1));
    EXPECT_EQ(found[t + 4].base[0].source, 3U);
    EXPECT_EQ(found[t + 4].base[0].order, Order::kTransposed);
    ASSERT_THAT(found[t + 5].base, SizeIs(1));
    EXPECT_EQ(found[t + 5].base[0].source, 4U);
    EXPECT_EQ(found[t + 5].base[0].target_elements, vocabulary * n);
    ASSERT_THAT(found[t + 6].base, SizeIs(12));
    for (size_t i = 0; i < 12; ++i) {
      const SourceView& view = found[t + 6].base[i];
      EXPECT_EQ(view.source, 5 + i);
      EXPECT_EQ(view.target_begin, i * 64 * n);
      EXPECT_EQ(view.target_elements, 64 * n);
    }
    // Others of the same form are made of the same, if they are not copies.
    for (size_t i = 0; levels == 127 && i < seen.size(); ++i) {
      EXPECT_EQ(found[again + i].base, found[t + i].base) << i;
    }
  }
}

TEST(LineageTest, UnrelatedQuantizedTensorsHaveNoSource) {
  const Model base = Layers(20, 1);
  for (const int levels : kLevels) {
    Models models;
    models.Add(base);
    const size_t t = models.Add(Quantized(Layers(20, 50), levels));
    models.Add(Quantized(Shuffled(base, 1), levels));
    const auto found = models.Find();
    for (size_t i = t; i < found.size(); ++i) {
      EXPECT_THAT(found[i].base, IsEmpty());
      EXPECT_THAT(found[i].candidates, IsEmpty());
    }
  }
}

TEST(LineageTest, LadderFindsItsSource) {
  if (!HasData()) GTEST_SKIP() << "../shared/data is not here";
  std::vector<std::string> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(DataPath("ladder"))) {
    if (entry.path().extension() == ".gguf" &&
        !entry.path().string().ends_with(".BF16.gguf")) {
      files.push_back("ladder/" + entry.path().filename().string());
    }
  }
  const Model source = Load("ladder/mpnet-part.BF16.gguf");
  Models models;
  const size_t other = models.Add(Shuffled(source, 1));
  const size_t first = models.Add(source);
  std::vector<std::pair<Values, size_t>> quantized;
  for (const std::string& file : files) {
    for (Values& values : Load(file)) {
      const DTypeInfo& type = *FindDType(values.dtype);
      if (type.block_elements == 1) continue;
      const size_t blocks = values.bytes.size() / type.block_bytes;
      std::vector<float> floats(blocks * type.block_elements);
      ASSERT_TRUE(quantizers::Dequantize(values.dtype, values.bytes.data(),
                                         blocks, floats.data()))
          << type.name;
      Values seen = Make(values.name, DType::kF32, values.shape, floats);
      seen.quantized =
          static_cast<uint16_t>(128 * type.block_bytes / type.block_elements);
      const auto made_of =
          std::ranges::find(source, values.name, &Values::name);
      quantized.push_back(
          {std::move(seen),
           first + static_cast<size_t>(made_of - source.begin())});
    }
  }
  std::ranges::stable_sort(quantized, std::ranges::greater(),
                           [](const auto& q) { return q.first.quantized; });
  for (const auto& [values, made_of] : quantized) models.Add({values});
  const auto found = models.Find(other);
  for (size_t i = 0; i < quantized.size(); ++i) {
    const size_t t = first + source.size() + i;
    SCOPED_TRACE(models.tensors[t].quantized);
    ASSERT_FALSE(found[t].candidates.empty());
    EXPECT_THAT(Sources(found[t].candidates),
                ::testing::Contains(quantized[i].second));
    const size_t nearest = found[t].base[0].source;
    EXPECT_TRUE(nearest == quantized[i].second ||
                nearest >= first + source.size());
  }
}

// ---- What must not be

TEST(LineageTest, UnrelatedTensorsHaveNoSource) {
  Models models;
  for (uint64_t i = 0; i < 20; ++i) {
    models.Add({Weights("w", 128, 256, Gaussian(128 * 256, i)),
                Weights("v", 256, 128, Gaussian(128 * 256, 100 + i)),
                Make("b", DType::kBF16, {256}, Gaussian(256, 200 + i)),
                Make("zero", DType::kBF16, {256},
                     std::vector<float>(256, static_cast<float>(i)))});
  }
  for (const Lineage& lineage : models.Find()) {
    EXPECT_THAT(lineage.base, IsEmpty());
    EXPECT_EQ(lineage.depth, 0U);
  }
}

TEST(LineageTest, DepthIsBounded) {
  Models models;
  auto weights = Gaussian(64 * 64, 1);
  for (uint64_t i = 0; i < 12; ++i) {
    models.Add({Weights("w", 64, 64, weights)});
    weights = Tuned(weights, i + 10);
  }
  auto found = models.Find();
  const auto check = [&] {
    for (size_t t = 0; t < found.size(); ++t) {
      if (found[t].base.empty()) {
        EXPECT_EQ(found[t].depth, 0U);
        continue;
      }
      EXPECT_EQ(found[t].depth, found[found[t].base[0].source].depth + 1);
      EXPECT_LT(found[t].base[0].source, t);
      EXPECT_LE(found[t].depth, 4U);
    }
  };
  check();
  for (size_t t = 1; t < 12; ++t) EXPECT_THAT(found[t].base, SizeIs(1));
  EXPECT_EQ(found[4].depth, 4U);

  found = models.Find(0, {.max_depth = 4, .keyframes = 3});
  check();
  for (size_t t = 0; t < 12; ++t) {
    EXPECT_EQ(found[t].depth, t % 3) << t;
    if (t % 3 != 0) OnlyBase(found[t], t - 1);
  }

  // What is coded already counts, too.
  models.tensors[0].depth = 4;
  EXPECT_THAT(models.Find(1)[1].base, IsEmpty());
}

TEST(LineageTest, SourcesMayBeOutsideOnly) {
  const auto weights = Gaussian(64 * 64, 1);
  Models models;
  models.Add({Weights("w", 64, 64, Tuned(weights, 1, 2e-3F))});
  for (uint64_t i = 0; i < 12; ++i) {
    models.Add({Weights("w", 64, 64, Tuned(weights, 2 + i, 1e-5F))});
  }
  for (const Lineage& lineage : models.Find(1, {.inside = false})) {
    for (const SourceView& view : lineage.base) EXPECT_EQ(view.source, 0U);
  }
  EXPECT_THAT(models.Find(1, {.inside = false})[12].base, SizeIs(1));
  EXPECT_NE(models.Find(1)[12].base.at(0).source, 0U);
}

TEST(LineageTest, EqualSourcesGoToTheFirst) {
  const auto weights = Gaussian(64 * 64, 1);
  Models models;
  for (int i = 0; i < 4; ++i) models.Add({Weights("w", 64, 64, weights)});
  const auto found = models.Find();
  for (size_t t = 1; t < 4; ++t) OnlyBase(found[t], 0);
}

TEST(LineageTest, UnreadableTensorsArePassedOver) {
  const auto weights = Gaussian(64 * 64, 1);
  Models models;
  for (uint64_t i = 0; i < 3; ++i) {
    models.Add({Weights("w", 64, 64, Tuned(weights, i))});
  }
  models.unreadable = 1;
  const auto found = models.Find();
  EXPECT_THAT(found[1].base, IsEmpty());
  OnlyBase(found[2], 0);
}

TEST(LineageTest, ManyTensorsOfOneShape) {
  // Enough that they are looked up by bands of sketches.
  const size_t count = 1500;
  Model base;
  Model tuned;
  for (size_t i = 0; i < count; ++i) {
    const auto weights = Gaussian(1024, i);
    base.push_back(Weights("a" + std::to_string(i), 32, 32, weights));
    tuned.push_back(Weights("b" + std::to_string(i), 32, 32,
                            Tuned(weights, 10000 + i, 5e-4F)));
  }
  Models models;
  models.Add(base);
  const size_t t = models.Add(tuned);
  const auto found = models.Find(t);
  for (size_t i = 0; i < count; ++i) OnlyBase(found[t + i], i);
}

TEST(LineageTest, IntegersAreCompared) {
  std::mt19937_64 random(1);
  Values codes{"w", DType::kI8, {64, 64}, Bytes(64 * 64)};
  for (uint8_t& byte : codes.bytes) byte = static_cast<uint8_t>(random() % 200);
  Values changed = codes;
  for (size_t i = 0; i < changed.bytes.size(); i += 7) ++changed.bytes[i];
  Models models;
  models.Add({codes});
  const size_t t = models.Add({changed});
  OnlyBase(models.Find()[t], 0);
}

TEST(LineageTest, ShapesThatLieAreNoTrouble) {
  // As an archive of a stranger may have them.
  Models models;
  for (int i = 0; i < 3; ++i) {
    models.Add(
        {Make("a", DType::kF32, {0, 7}, Gaussian(2048, 1)),
         Make("b", DType::kF32, {UINT64_MAX, UINT64_MAX}, Gaussian(4096, 2)),
         Make("c", DType::kF32, {8, uint64_t{1} << 61}, Gaussian(640, 3)),
         Make("d", DType::kF32, {uint64_t{1} << 61, 8}, Gaussian(640, 4)),
         Make("e", DType::kF32, {3, 100},
              Gaussian(2048, 50 + static_cast<uint64_t>(i))),
         Make("f", DType::kF32, {0},
              Gaussian(999, 60 + static_cast<uint64_t>(i)))});
  }
  const auto found = models.Find();
  for (size_t t = 0; t < 4; ++t) OnlyBase(found[6 + t], t);
}

TEST(LineageTest, OddShapesAreNoTrouble) {
  Models models;
  for (int i = 0; i < 2; ++i) {
    models.Add(
        {Make("scalar", DType::kF32, {}, {1}),
         Make("empty", DType::kF32, {0, 7}, {}),
         Make("one", DType::kF32, {1, 1, 1}, {2}),
         Make("column", DType::kF32, {600, 1}, Gaussian(600, 1)),
         Make("row", DType::kF32, {1, 600}, Gaussian(600, 2)),
         Make("short", DType::kF32, {17}, Gaussian(17, 3)),
         Make("kernels", DType::kF32, {16, 8, 3, 3}, Gaussian(16 * 8 * 9, 4)),
         {"packed", static_cast<DType>(66), {64}, Bytes(36)}});
  }
  const auto found = models.Find();
  for (const size_t t : {3, 4, 5, 6}) OnlyBase(found[8 + t], t);
}

}  // namespace
}  // namespace zipllm::archive
