// Real families of ../shared/data: each model finds what it was made of with no
// hint, and comes back as it was.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "archive/testing.h"
#include "parsers/parser.h"
#include "zipllm/store.h"

namespace zipllm {
namespace {

namespace fs = std::filesystem;
using testing::Bytes;
using testing::ReadFile;
using testing::TempDir;
using testing::WriteFile;
using Names = std::vector<std::string>;

const fs::path& Data() {
  static const fs::path kData =
      fs::path(ZIPLLM_SOURCE_DIR).parent_path() / "shared/data";
  return kData;
}
fs::path Family(const std::string& name) {
  return Data() / "family" / (name + ".safetensors");
}

std::vector<fs::path> FilesOf(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& item : fs::directory_iterator(path)) {
    files.push_back(item.path());
  }
  return files;
}

class FamilyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(Data() / "family")) GTEST_SKIP() << "no " << Data();
    ASSERT_TRUE(Store::Init(folder_ / "store").ok());
    StoreOptions options;
    options.sync = false;
    store_.emplace(Store::Open(folder_ / "store", options).value());
  }

  // Adds it, restores it and compares; says what it was coded against.
  AddResult Add(const std::string& name, const fs::path& path) {
    AddOptions options;
    options.level = 1;
    options.verify = false;  // what is restored is compared
    const auto added = store_->Add({name}, path, options);
    EXPECT_TRUE(added.ok()) << name << ": " << added.status();
    if (!added.ok()) return {};
    const std::string back = folder_ / "back";
    const auto restored = store_->Get({name}, back);
    EXPECT_TRUE(restored.ok()) << name << ": " << restored.status();
    for (const fs::path& file : FilesOf(path)) {
      EXPECT_EQ(ReadFile(file), ReadFile(back + "/" + file.filename().string()))
          << name;
    }
    fs::remove_all(back);
    return *added;
  }

  // One of `right` is among what it is coded against, and nothing of another
  // family; none, where there is none.
  AddResult Expect(const std::string& name, const fs::path& path,
                   const Names& right) {
    AddResult added = Add(name, path);
    const std::string family = name.substr(0, name.find('/') + 1);
    bool found = right.empty();
    std::string bases;
    for (const ModelName& base : added.bases) {
      EXPECT_TRUE(base.name.starts_with(family)) << name << ": " << base.name;
      found = found || std::ranges::find(right, base.name) != right.end();
      bases += " " + base.name;
    }
    EXPECT_TRUE(found) << name << " found" << bases;
    return added;
  }

  TempDir folder_;
  std::optional<Store> store_;
};

TEST_F(FamilyTest, EachFindsItsBase) {
  const Names bases = {"family/base.fp32", "family/base.bf16"};
  const auto family = [&](const std::string& name, const Names& right) {
    Expect("family/" + name, Family(name), right);
  };
  family("base.fp32", {});
  family("base.bf16", {bases[0]});
  for (const char* name : {"ft-a.bf16", "ft-b-step200.bf16",
                           "ft-d-purebf16.bf16", "ft-frozen-emb.bf16"}) {
    family(name, bases);
  }
  family("ft-a.fp32", {bases[0], bases[1], "family/ft-a.bf16"});
  family("ft-lora8.adapter", {});
  family("ft-lora8.bf16", bases);
  family("ft-lora8.fp32", {bases[0], bases[1], "family/ft-lora8.bf16"});
  Names before;
  for (const char* step : {"900", "1000", "1100", "1110"}) {
    const std::string name = std::string("checkpoint-") + step;
    Expect("run/" + name, Data() / "checkpoints" / name, before);
    before = {"run/" + name};
  }
  Names source;
  for (const char* quant :
       {"BF16", "Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_1", "Q8_0", "IQ4_XS",
        "imatrix.IQ3_XXS", "imatrix.Q4_K_M"}) {
    const std::string name = std::string("mpnet-part.") + quant;
    Expect("ladder/" + name, Data() / "ladder" / (name + ".gguf"), source);
    source = {"ladder/mpnet-part.BF16"};
  }
}

// The tensors of a safetensors file.
std::vector<testing::Tensor> TensorsOf(const fs::path& path) {
  const Bytes file = ReadFile(path);
  const parsers::Outcome outcome = parsers::Detect(file, file.size());
  std::vector<testing::Tensor> tensors;
  for (const Segment& segment : outcome.layout->segments) {
    if (segment.dtype == DType::kBytes) continue;
    const auto begin = file.begin() + static_cast<ptrdiff_t>(segment.offset);
    tensors.push_back(
        {segment.name,
         std::string(FindDType(segment.dtype)->name),
         segment.shape,
         {begin, begin + static_cast<ptrdiff_t>(segment.length)}});
  }
  return tensors;
}

// What others do to a fine-tune when they publish it again; the base alone is
// there, among strangers.
class VariantTest : public FamilyTest {
 protected:
  void SetUp() override {
    FamilyTest::SetUp();
    if (IsSkipped()) return;
    Add("ladder/source", Data() / "ladder/mpnet-part.BF16.gguf");
    Add("run/checkpoint", Data() / "checkpoints/checkpoint-900");
    Add("family/base", Family("base.bf16"));
    tuned_ = TensorsOf(Family("ft-a.bf16"));
  }

  // Finds the base, and is coded against it: it takes `part` of its bytes at
  // most.
  void ExpectBase(const std::string& path, double part) {
    const AddResult added = Expect("family/variant", path, {"family/base"});
    EXPECT_LT(static_cast<double>(added.stored_bytes),
              part * static_cast<double>(added.new_bytes));
  }
  void ExpectBase(const std::vector<testing::Tensor>& tensors, double part) {
    WriteFile(folder_ / "variant.safetensors", testing::Safetensors(tensors));
    ExpectBase(folder_ / "variant.safetensors", part);
  }

  std::vector<testing::Tensor> tuned_;
};

TEST_F(VariantTest, Renamed) {
  for (size_t i = 0; i < tuned_.size(); ++i) {
    tuned_[i].name = "x" + std::to_string(i * 7919 % 100);
  }
  ExpectBase(tuned_, 0.25);
}

TEST_F(VariantTest, InTwoShards) {
  const auto half = static_cast<ptrdiff_t>(tuned_.size() / 2);
  fs::create_directory(folder_ / "shards");
  WriteFile(folder_ / "shards/model-00001-of-00002.safetensors",
            testing::Safetensors({tuned_.begin(), tuned_.begin() + half}));
  WriteFile(folder_ / "shards/model-00002-of-00002.safetensors",
            testing::Safetensors({tuned_.begin() + half, tuned_.end()}));
  ExpectBase(folder_ / "shards", 0.25);
}

TEST_F(VariantTest, AsFp32) {
  for (testing::Tensor& tensor : tuned_) {
    Bytes wide;
    for (size_t i = 0; i < tensor.bytes.size(); i += 2) {
      wide.insert(wide.end(), {0, 0, tensor.bytes[i], tensor.bytes[i + 1]});
    }
    tensor.dtype = "F32";
    tensor.bytes = std::move(wide);
  }
  // Alone it takes a third: half of the bytes are zero.
  ExpectBase(tuned_, 0.3);
}

TEST_F(VariantTest, WithMoreWords) {
  for (testing::Tensor& tensor : tuned_) {
    if (!tensor.name.ends_with("word_embeddings.weight")) continue;
    const Bytes more = testing::Bf16Weights(32 * tensor.shape[1], 1);
    tensor.shape[0] += 32;
    tensor.bytes.insert(tensor.bytes.end(), more.begin(), more.end());
  }
  ExpectBase(tuned_, 0.25);
}

}  // namespace
}  // namespace zipllm
