#include "llm/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "llm/tiny_model.h"
#include "zipllm/io.h"

namespace zipllm::llm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<Gguf> Read(const std::vector<uint8_t>& file) {
  const std::unique_ptr<Source> source = MakeMemorySource(file, "test.gguf");
  return Gguf::Read(*source);
}

TEST(Gguf, HasValuesOfEachKind) {
  GgufWriter file;
  file.Text("text", "abc");
  file.Text("empty", "");
  file.Integer("integer", 4000000000);
  file.Bool("bool", true);
  file.Float("float", 0.5f);
  file.Texts("texts", {"a", "", "bc"});
  file.Integers("integers", {-1, 7});
  file.Floats("floats", {1, -2.5f});
  const auto gguf = Read(file.Finish());
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(*gguf->Text("text"), "abc");
  EXPECT_EQ(*gguf->Text("empty"), "");
  EXPECT_EQ(*gguf->Integer("integer"), 4000000000u);
  EXPECT_EQ(*gguf->Integer("bool"), 1u);
  EXPECT_EQ(*gguf->IntegerOr("missing", 5), 5u);
  EXPECT_EQ(*gguf->Number("float"), 0.5f);
  EXPECT_EQ(*gguf->Number("integer"), 4e9f);
  EXPECT_EQ(*gguf->NumberOr("missing", 2), 2);
  EXPECT_THAT(*gguf->Texts("texts"), ElementsAre("a", "", "bc"));
  EXPECT_THAT(*gguf->Integers("integers"), ElementsAre(-1, 7));
  EXPECT_THAT(*gguf->Numbers("floats"), ElementsAre(1, -2.5f));
  EXPECT_THAT(*gguf->Numbers("integers"), ElementsAre(-1, 7));
}

TEST(Gguf, SaysWhatIsMissingOrOfAnotherKind) {
  GgufWriter file;
  file.Text("text", "abc");
  file.Integers("integers", {-1});
  file.Float("infinite", std::numeric_limits<float>::infinity());
  file.Floats("nan", {std::numeric_limits<float>::quiet_NaN()});
  const auto gguf = Read(file.Finish());
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const absl::Status missing = gguf->Text("missing").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("test.gguf"), HasSubstr("missing")));
  for (const absl::Status& status :
       {gguf->Integer("text").status(), gguf->IntegerOr("text", 1).status(),
        gguf->Number("text").status(), gguf->Text("integers").status(),
        gguf->Texts("text").status(), gguf->Texts("integers").status(),
        gguf->Numbers("text").status(), gguf->Number("infinite").status(),
        gguf->Numbers("nan").status(), gguf->Integers("nan").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST(Gguf, FindsTensors) {
  GgufWriter file;
  file.Tensor("a", {2, 3}, 0, std::vector<uint8_t>(24, 1));
  file.Tensor("b", {32}, 8, std::vector<uint8_t>(34, 2));
  const std::vector<uint8_t> bytes = file.Finish();
  const auto gguf = Read(bytes);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(gguf->tensor_count(), 2u);
  EXPECT_EQ(gguf->FindTensor("c"), nullptr);
  const Segment* a = gguf->FindTensor("a");
  const Segment* b = gguf->FindTensor("b");
  ASSERT_TRUE(a != nullptr && b != nullptr);
  EXPECT_THAT(a->shape, ElementsAre(2, 3));
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(a->length, 24u);
  EXPECT_EQ(bytes[a->offset], 1);
  EXPECT_EQ(b->dtype, DType::kGgmlQ80);
  EXPECT_EQ(b->length, 34u);
  EXPECT_EQ(bytes[b->offset], 2);
}

TEST(Gguf, RefusesWhatItIsNot) {
  GgufWriter twice;
  twice.Integer("key", 1);
  twice.Integer("key", 2);
  std::vector<uint8_t> version = GgufWriter().Finish();
  version[4] = 9;
  for (const std::vector<uint8_t>& file :
       {std::vector<uint8_t>(), std::vector<uint8_t>(100, 'x'), version,
        twice.Finish()}) {
    EXPECT_EQ(Read(file).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace zipllm::llm
