// Models that a new one may be coded against are found by sketches alone.
#include "store/candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "quantizers/quantizer.h"

namespace zipllm::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using Floats = std::vector<float>;
using Bytes = std::vector<uint8_t>;

constexpr size_t kRows = 64;
constexpr size_t kColumns = 256;
constexpr size_t kElements = kRows * kColumns;

Floats Weights(uint64_t seed, size_t count = kElements) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.02F);
  Floats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// `part` times their size is moved at random.
Floats Trained(Floats values, float part, uint64_t seed) {
  const Floats steps = Weights(seed, values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] += part * steps[i];
  return values;
}

Bytes AsF32(const Floats& values) {
  Bytes bytes(4 * values.size());
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// The upper halves of FP32.
Bytes AsBf16(const Floats& values) {
  Bytes bytes;
  for (const float value : values) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    bytes.push_back(static_cast<uint8_t>(bits >> 16));
    bytes.push_back(static_cast<uint8_t>(bits >> 24));
  }
  return bytes;
}

Bytes AsQuant(const Floats& values, DType dtype) {
  const DTypeInfo& info = *FindDType(dtype);
  Bytes bytes(values.size() / info.block_elements * info.block_bytes);
  for (const quantizers::Quantizer* quantizer : quantizers::AllQuantizers()) {
    if (quantizer->dtype != dtype || quantizer->needs_importance) continue;
    quantizer->Best()(values.data(), kRows, values.size() / kRows, nullptr,
                      bytes.data());
  }
  return bytes;
}

std::optional<TensorSketch> Sketch(const Bytes& bytes, DType dtype) {
  Segment segment;
  segment.dtype = dtype;
  segment.offset = 12345;  // not the reader's business
  segment.length = bytes.size();
  return SketchTensor(
      Sha256Of(bytes), segment,
      [&](uint64_t offset, MutableByteSpan out) -> absl::Status {
        if (offset + out.size() > bytes.size()) return InvalidArgument("end");
        std::memcpy(out.data(), bytes.data() + offset, out.size());
        return absl::OkStatus();
      });
}

int Distance(const TensorSketch& a, const TensorSketch& b) {
  int distance = 0;
  for (size_t i = 0; i < a.bits.size(); ++i) {
    distance += std::popcount(a.bits[i] ^ b.bits[i]);
  }
  return distance;
}

TEST(SketchTest, TypesOfTheSameValuesHaveOneSketch) {
  const Bytes bf16 = AsBf16(Weights(1));
  Bytes f32, f64;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    const uint32_t bits = uint32_t{LoadLe<uint16_t>(&bf16[i])} << 16;
    const double value = std::bit_cast<float>(bits);
    f32.insert(f32.end(), {0, 0, bf16[i], bf16[i + 1]});
    for (int byte = 0; byte < 8; ++byte) {
      f64.push_back(
          static_cast<uint8_t>(std::bit_cast<uint64_t>(value) >> (8 * byte)));
    }
  }
  const auto sketch = Sketch(bf16, DType::kBF16);
  ASSERT_TRUE(sketch);
  EXPECT_EQ(sketch->log2_elements, 14);
  EXPECT_EQ(sketch->bits, Sketch(f32, DType::kF32)->bits);
  EXPECT_EQ(sketch->bits, Sketch(f64, DType::kF64)->bits);
  EXPECT_EQ(Sketch(f64, DType::kF64)->log2_elements, 14);
}

TEST(SketchTest, RowsThatAreAddedMoveNothing) {
  Floats values = Weights(1);
  const auto before = Sketch(AsF32(values), DType::kF32);
  const Floats more = Weights(2, kElements / 2);
  values.insert(values.end(), more.begin(), more.end());
  const auto after = Sketch(AsF32(values), DType::kF32);
  EXPECT_EQ(before->bits, after->bits);
  EXPECT_EQ(before->log2_elements, after->log2_elements);
}

TEST(SketchTest, UnrelatedTensorsDifferInHalfOfTheBits) {
  const Floats values = Weights(1);
  const auto sketch = Sketch(AsF32(values), DType::kF32);
  for (uint64_t seed = 2; seed < 40; ++seed) {
    EXPECT_GT(Distance(*sketch, *Sketch(AsF32(Weights(seed)), DType::kF32)),
              200);
    EXPECT_LT(Distance(*sketch, *Sketch(AsF32(Trained(values, 0.01F, seed)),
                                        DType::kF32)),
              10);
  }
}

TEST(SketchTest, QuantizedTensorsCountAsTheirNumbers) {
  const Floats values = Weights(1);
  const auto sketch = Sketch(AsBf16(values), DType::kBF16);
  for (const DType dtype :
       {DType::kGgmlQ80, DType::kGgmlQ40, DType::kGgmlQ4K, DType::kGgmlQ6K}) {
    const auto quant = Sketch(AsQuant(values, dtype), dtype);
    ASSERT_TRUE(quant);
    EXPECT_EQ(quant->log2_elements, 14 + kNearSketch);
    EXPECT_LT(Distance(*sketch, *quant), 50);
  }
}

TEST(SketchTest, SomeTensorsSayNothing) {
  EXPECT_FALSE(Sketch(AsF32(Weights(1, 4095)), DType::kF32));
  EXPECT_TRUE(Sketch(AsF32(Weights(1, 4096)), DType::kF32));
  EXPECT_FALSE(Sketch(AsF32(Floats(kElements, 1)), DType::kF32));
  EXPECT_FALSE(Sketch(AsF32(Weights(1)), DType::kI64));
  EXPECT_FALSE(Sketch(AsF32(Weights(1)), DType::kBytes));
  EXPECT_FALSE(Sketch({}, DType::kF32));
  // One that cannot be read.
  Segment segment;
  segment.dtype = DType::kF32;
  segment.length = 1 << 20;
  EXPECT_FALSE(SketchTensor(
      {}, segment, [](uint64_t, MutableByteSpan) { return DataLoss("no"); }));
}

// Any bytes are values.
TEST(SketchTest, TakesAnyBytes) {
  std::mt19937_64 random(1);
  Bytes bytes(1 << 16);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  for (int dtype = 0; dtype < 256; ++dtype) {
    if (FindDType(static_cast<DType>(dtype)) == nullptr) continue;
    const auto sketch = Sketch(bytes, static_cast<DType>(dtype));
    EXPECT_LT(sketch ? sketch->log2_elements % kNearSketch : 0, 20);
  }
}

using Tensors = std::vector<Floats>;

Tensors Base(uint64_t seed) {
  return {Weights(100 * seed), Weights(100 * seed + 1), Weights(100 * seed + 2),
          Weights(100 * seed + 3)};
}

// Each moved by `part` of its size.
Tensors Tuned(Tensors tensors, float part, uint64_t seed) {
  for (Floats& values : tensors) values = Trained(values, part, ++seed * 1000);
  return tensors;
}

/// A catalogue of models, and what a new one is looked up by.
class CandidatesTest : public ::testing::Test {
 protected:
  CandidatesTest() : catalogue_(Catalogue::OpenInMemory().value()) {}

  static std::vector<TensorSketch> Sketches(const Tensors& tensors,
                                            DType dtype = DType::kF32) {
    std::vector<TensorSketch> sketches;
    for (const Floats& values : tensors) {
      const Bytes bytes = dtype == DType::kF32    ? AsF32(values)
                          : dtype == DType::kBF16 ? AsBf16(values)
                                                  : AsQuant(values, dtype);
      sketches.push_back(*Sketch(bytes, dtype));
    }
    return sketches;
  }

  void Add(const std::string& name, const std::vector<TensorSketch>& sketches,
           uint8_t depth = 0) {
    PackRecord pack;
    pack.id = StrCat(name, std::string(32 - name.size(), '0'));
    std::vector<Sha256Digest> objects;
    for (const TensorSketch& sketch : sketches) {
      objects.push_back(sketch.object);
      if (!catalogue_->Find(sketch.object)->empty()) continue;
      ObjectRecord object;
      object.sha256 = sketch.object;
      object.depth = depth;
      pack.objects.push_back(object);
      pack.sketches.push_back(sketch);
    }
    ASSERT_TRUE(catalogue_->AddPack(pack).ok());
    ASSERT_TRUE(catalogue_->AddManifest(ManifestOf(name), objects).ok());
    names_[ManifestOf(name)] = name;
  }

  static Sha256Digest ManifestOf(const std::string& name) {
    return Sha256Of(
        ByteSpan(reinterpret_cast<const uint8_t*>(name.data()), name.size()));
  }

  std::vector<std::string> Find(const std::vector<TensorSketch>& sketches,
                                size_t limit,
                                const std::vector<Sha256Digest>& known = {}) {
    std::vector<std::string> found;
    const auto candidates = FindCandidates(*catalogue_, sketches, known, limit);
    EXPECT_TRUE(candidates.ok()) << candidates.status();
    for (const ModelCandidate& candidate : *candidates) {
      found.push_back(names_[candidate.manifest]);
    }
    return found;
  }

  std::unique_ptr<Catalogue> catalogue_;
  std::map<Sha256Digest, std::string> names_;
};

TEST_F(CandidatesTest, FindsWhatItWasMadeOfAmongOthers) {
  for (uint64_t i = 1; i <= 20; ++i) Add(StrCat("b", i), Sketches(Base(i)));
  const auto sketches = Sketches(Tuned(Base(7), 0.01F, 1));
  EXPECT_THAT(Find(sketches, 4), ElementsAre("b7"));
  // As another type, too.
  EXPECT_THAT(Find(Sketches(Base(8), DType::kBF16), 4), ElementsAre("b8"));
  EXPECT_THAT(Find(Sketches(Base(21)), 4), IsEmpty());
  EXPECT_THAT(Find({}, 4), IsEmpty());
  EXPECT_THAT(Find(sketches, 0), IsEmpty());
}

TEST_F(CandidatesTest, SaysHowNearItIs) {
  Add("base", Sketches(Base(1)));
  Tensors tensors = Tuned(Base(1), 0.1F, 1);
  tensors[3] = Weights(5);
  const auto found = FindCandidates(*catalogue_, Sketches(tensors), {}, 1);
  ASSERT_TRUE(found.ok());
  ASSERT_THAT(*found, SizeIs(1));
  EXPECT_EQ((*found)[0].matched_elements, 3 * kElements);
  // arctan(0.1) / pi of 512 bits.
  EXPECT_NEAR((*found)[0].distance, 16, 8);
}

TEST_F(CandidatesTest, PrefersTheNearestOfManyCheckpoints) {
  Tensors tensors = Base(1);
  for (uint64_t step = 0; step < 100; ++step) {
    Add(StrCat("step", step), Sketches(tensors));
    tensors = Tuned(tensors, 0.05F, step);
  }
  const auto found = Find(Sketches(tensors), 3);
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[0], "step99");
}

TEST_F(CandidatesTest, PassesOverWhatIsTooDeep) {
  Add("base", Sketches(Base(1)));
  Add("deep", Sketches(Tuned(Base(1), 0.05F, 1)), 4);
  const auto next = Sketches(Tuned(Tuned(Base(1), 0.05F, 1), 0.01F, 2));
  EXPECT_THAT(Find(next, 4), ElementsAre("base"));
}

TEST_F(CandidatesTest, FindsBothParentsOfAMerge) {
  Add("other", Sketches(Base(2)));
  const Tensors a = Tuned(Base(1), 0.05F, 1);
  const Tensors b = Tuned(Base(1), 0.05F, 2);
  Add("a", Sketches(a));
  Add("b", Sketches(b));
  Tensors soup = a;
  for (size_t t = 0; t < soup.size(); ++t) {
    for (size_t i = 0; i < soup[t].size(); ++i) {
      soup[t][i] = (a[t][i] + b[t][i]) / 2;
    }
  }
  EXPECT_THAT(Find(Sketches(soup), 2), UnorderedElementsAre("a", "b"));
}

TEST_F(CandidatesTest, TakesFirstWhatTogetherExplainsAll) {
  Tensors layers = Base(1);
  Add("half", Sketches(layers));
  Add("near-half", Sketches(Tuned(layers, 0.002F, 1)));
  Add("rest", Sketches(Base(2)));
  layers[3] = Base(2)[1];
  layers = Tuned(layers, 0.002F, 3);
  const auto found = Find(Sketches(layers), 2);
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[1], "rest");
}

TEST_F(CandidatesTest, TheSameTensorsAreOfferedOnce) {
  const auto sketches = Sketches(Base(1));
  for (int i = 0; i < 5; ++i) Add(StrCat("revision", i), sketches);
  Add("sibling", Sketches(Tuned(Base(1), 0.05F, 1)));
  const auto found = Find(Sketches(Tuned(Base(1), 0.01F, 2)), 4);
  ASSERT_THAT(found, SizeIs(2));
  EXPECT_EQ(found[0].substr(0, 8), "revision");
  EXPECT_EQ(found[1], "sibling");
}

TEST_F(CandidatesTest, QuantsAreOfQuantsAloneAndOfTheirSourceFirst) {
  const Tensors source = Base(1);
  Add("q8", Sketches(source, DType::kGgmlQ80));
  EXPECT_THAT(Find(Sketches(source), 4), IsEmpty());
  const auto q4 = Sketches(source, DType::kGgmlQ4K);
  EXPECT_THAT(Find(q4, 4), ElementsAre("q8"));
  Add("q6", Sketches(source, DType::kGgmlQ6K));
  Add("source", Sketches(source, DType::kBF16));
  const auto found = Find(q4, 4);
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[0], "source");
}

TEST_F(CandidatesTest, ModelsWithKnownTensorsCountWhereNothingElseTells) {
  const auto base = Sketches(Base(1));
  const auto other = Sketches(Base(2));
  Add("base", base);
  Add("half", {base[0], base[1], other[0], other[1]});
  std::vector<Sha256Digest> known;
  for (const TensorSketch& sketch : base) known.push_back(sketch.object);
  EXPECT_THAT(Find({}, 4, known), ElementsAre("base"));
  // They are not looked for: they are there.
  EXPECT_THAT(Find(base, 4, known), ElementsAre("base"));
  // What is there tells less than what is to be coded.
  Add("new", Sketches(Base(3)));
  EXPECT_THAT(Find(Sketches(Tuned(Base(3), 0.01F, 1)), 4, known),
              ElementsAre("new"));
}

// Ten thousand fine-tunes share the embeddings of their base.
TEST_F(CandidatesTest, LooksAtFewOfManyUsers) {
  const auto base = Sketches(Base(1));
  Add("base", base);
  for (int i = 0; i < 1000; ++i) {
    const std::string name = StrCat("tune", i);
    ASSERT_TRUE(
        catalogue_->AddManifest(ManifestOf(name), {base[0].object}).ok());
    names_[ManifestOf(name)] = name;
  }
  Tensors tensors = Base(1);
  tensors[0] = Trained(tensors[0], 0.01F, 1);
  EXPECT_THAT(Find(Sketches(tensors), 4, {base[1].object, base[2].object}),
              ElementsAre("base"));
}

using Hints = std::vector<std::string>;

TEST(BaseModelHintsTest, OfAModelCard) {
  EXPECT_EQ(BaseModelHints("README.md",
                           "---\nlicense: mit\nbase_model: org/base\n"
                           "tags:\n- x\n---\nbase_model: not/this\n"),
            Hints({"org/base"}));
  EXPECT_EQ(BaseModelHints("a/b/README.md",
                           "---\r\nbase_model:\r\n- org/a\r\n- \"org/b\"  # x"
                           "\r\n- org/a\r\ntags:\r\n- y\r\n---\r\n"),
            Hints({"org/a", "org/b"}));
  EXPECT_EQ(BaseModelHints("README.md",
                           "---\nbase_model : ['org/a', org/b,\n  org/c]\n"
                           "base_model_relation: merge\n"),
            Hints({"org/a", "org/b", "org/c"}));
  EXPECT_EQ(BaseModelHints("README.md",
                           "---\nbase_model:\n    org/a  # comment\n...\n"),
            Hints({"org/a"}));
  EXPECT_EQ(BaseModelHints("README.md",
                           "---\nmodel:\n  base_model: x\nbase_models: y\n"
                           "base_model:\nbase_model: null\n---\n"),
            Hints());
  EXPECT_EQ(BaseModelHints("README.md", "# base_model: x\n---\n"), Hints());
  EXPECT_EQ(BaseModelHints("README.md", ""), Hints());
  EXPECT_EQ(BaseModelHints("README.md", "---\nbase_model: \"x\n"), Hints());
}

TEST(BaseModelHintsTest, OfAConfig) {
  EXPECT_EQ(BaseModelHints("config.json",
                           R"({"a": {"_name_or_path": "no"}, "b": [1, "c"],
                              "_name_or_path": "org/base", "n": null})"),
            Hints({"org/base"}));
  EXPECT_EQ(BaseModelHints("adapter_config.json",
                           R"({"base_model_name_or_path": "org/base"})"),
            Hints({"org/base"}));
  EXPECT_EQ(BaseModelHints("config.json", R"({"_name_or_path": ""})"), Hints());
  EXPECT_EQ(BaseModelHints("config.json", R"({"_name_or_path": ["x"]})"),
            Hints());
  EXPECT_EQ(BaseModelHints("config.json", "[\"_name_or_path\""), Hints());
  EXPECT_EQ(BaseModelHints("tokenizer.json", R"({"_name_or_path": "x"})"),
            Hints());
}

TEST(BaseModelHintsTest, IsBounded) {
  EXPECT_EQ(BaseModelHints("config.json", std::string(1 << 20, '[')), Hints());
  std::string card = "---\nbase_model:\n";
  for (int i = 0; i < 1000; ++i) card += StrCat("- model", i, "\n");
  EXPECT_LE(BaseModelHints("README.md", card).size(), 16);
  EXPECT_EQ(
      BaseModelHints("README.md", "---\nbase_model: " + std::string(1000, 'x')),
      Hints());
}

}  // namespace
}  // namespace zipllm::store
