// Real models: from ../shared/data, and what its `get` has fetched.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "parsers/files.h"

namespace zipllm::parsers {
namespace {

namespace fs = std::filesystem;

fs::path SharedData() { return fs::path(ZIPLLM_SOURCE_DIR "/../shared/data"); }
fs::path FetchedData() {
  if (const char* folder = std::getenv("ZIPLLM_DATA")) return folder;
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "/" : home) / ".cache/zipllm-data";
}

Bytes ReadPrefix(const fs::path& path, uint64_t size) {
  Bytes prefix(std::min<uint64_t>(size, fs::file_size(path)));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(prefix.data()),
            static_cast<std::streamsize>(prefix.size()));
  return prefix;
}

/// Labels a file as the archive does: never more than is asked for.
Layout LabelFile(const fs::path& path) {
  uint64_t want = kFirstPrefix;
  while (true) {
    const Bytes prefix = ReadPrefix(path, want);
    Outcome outcome = Detect(prefix, fs::file_size(path));
    if (outcome.layout) return *outcome.layout;
    EXPECT_GT(outcome.need_prefix, want);
    if (outcome.need_prefix <= want) return {};
    want = outcome.need_prefix;
  }
}

// Tensor bytes by type, as the packages `gguf` 0.19 and `safetensors` 0.8 for
// Python see them, and the place of one tensor.
struct Known {
  const char* path;
  uint64_t header_bytes;
  size_t tensors;
  std::map<std::string, uint64_t> bytes;
  Segment example;
};

/// Where the first tensor begins.
uint64_t HeaderBytes(const Layout& layout) {
  for (const Segment& segment : layout.segments) {
    if (!segment.name.empty()) return segment.offset;
  }
  return 0;
}

void ExpectKnown(const fs::path& folder, const Known& known) {
  const fs::path path = folder / known.path;
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not here";
  const Layout layout = LabelFile(path);
  ExpectTiles(layout, fs::file_size(path));
  ASSERT_GT(layout.segments.size(), 1u);
  EXPECT_EQ(HeaderBytes(layout), known.header_bytes);
  size_t tensors = 0;
  bool found = false;
  std::map<std::string, uint64_t> bytes;
  for (const Segment& segment : layout.segments) {
    if (segment.dtype == DType::kBytes) continue;
    ++tensors;
    bytes[std::string(FindDType(segment.dtype)->name)] += segment.length;
    found |= Show(segment) == Show(known.example);
  }
  EXPECT_EQ(tensors, known.tensors);
  EXPECT_EQ(bytes, known.bytes);
  EXPECT_TRUE(found) << Show(known.example);
}

TEST(RealFilesTest, FamilyMember) {
  ExpectKnown(SharedData() / "family",
              {"base.bf16.safetensors",
               8 + 4040,
               37,
               {{"BF16", 2778624}},
               Tensor("encoder.layer.0.attention.output.LayerNorm.bias",
                      DType::kBF16, {384}, 8 + 4040 + 394752, 768)});
}

TEST(RealFilesTest, OptimizerState) {
  ExpectKnown(
      SharedData() / "checkpoints",
      {"checkpoint-900/optimizer.safetensors",
       8 + 4192,
       48,
       {{"F32", 1899584}},
       Tensor("wte.weight.step", DType::kF32, {}, 8 + 4192 + 1899580, 4)});
}

TEST(RealFilesTest, BF16Ladder) {
  ExpectKnown(SharedData() / "ladder",
              {"mpnet-part.BF16.gguf",
               1056,
               6,
               {{"BF16", 2359296}, {"F32", 12288}},
               Tensor("blk.0.attn_q.bias", DType::kF32, {768}, 1180704, 3072)});
}

TEST(RealFilesTest, QuantizedLadder) {
  const Segment norm =
      Tensor("blk.0.attn_output_norm.weight", DType::kF32, {768}, 4128, 3072);
  const std::pair<const char*, std::map<std::string, uint64_t>> files[] = {
      {"IQ4_NL", {{"IQ4_NL", 663552}}},
      {"IQ4_XS", {{"IQ4_XS", 626688}}},
      {"Q2_K", {{"Q2_K", 193536}, {"Q3_K", 253440}}},
      {"Q3_K_M", {{"Q3_K", 253440}, {"Q5_K", 405504}}},
      {"Q4_0", {{"Q4_0", 663552}}},
      {"Q4_1", {{"Q4_1", 737280}}},
      {"Q4_K_M", {{"Q4_K", 663552}}},
      {"Q5_0", {{"Q5_0", 811008}}},
      {"Q5_1", {{"Q5_1", 884736}}},
      {"Q5_K_M", {{"Q5_K", 811008}}},
      {"Q6_K", {{"Q6_K", 967680}}},
      {"Q8_0", {{"Q8_0", 1253376}}}};
  for (auto [name, bytes] : files) {
    SCOPED_TRACE(name);
    bytes["F32"] = 12288;
    const std::string file = "mpnet-part." + std::string(name) + ".gguf";
    ExpectKnown(SharedData() / "ladder", {file.c_str(), 1056, 6, bytes, norm});
    if (IsSkipped()) return;
  }
}

TEST(RealFilesTest, WholeGgufModel) {
  ExpectKnown(FetchedData() / "smollm2",
              {"SmolLM2-135M-Instruct.Q4_1.gguf",
               1785664,
               272,
               {{"F32", 140544}, {"Q4_1", 66355200}, {"Q8_0", 30081024}},
               Tensor("token_embd.weight", DType::kGgmlQ80, {49152, 576},
                      1785664, 30081024)});
}

TEST(RealFilesTest, WholeSafetensorsModel) {
  ExpectKnown(FetchedData() / "minilm",
              {"model.bf16.safetensors",
               8 + 11504,
               104,
               {{"BF16", 45426432}, {"I64", 4096}},
               Tensor("embeddings.position_embeddings.weight", DType::kBF16,
                      {512, 384}, 8 + 11504 + 5632, 393216)});
}

// Every model file there is has its format, and nothing else has one.
TEST(RealFilesTest, AllFiles) {
  size_t models = 0;
  for (const fs::path& folder : {SharedData(), FetchedData()}) {
    if (!fs::exists(folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      const std::string extension = entry.path().extension();
      const std::string format =
          extension == ".safetensors"                       ? "safetensors"
          : extension == ".gguf"                            ? "gguf"
          : extension == ".npz"                             ? "npz"
          : entry.path().string().ends_with(".imatrix.dat") ? "imatrix"
                                                            : "bytes";
      SCOPED_TRACE(entry.path());
      const Layout layout = LabelFile(entry.path());
      EXPECT_EQ(layout.format, format);
      ExpectTiles(layout, entry.file_size());
      if (format == "bytes") continue;
      ++models;
      EXPECT_GT(layout.segments.size(), 1u);
      // As from a pipe: the same, and an open end. What imatrix and npz files
      // hold is told between their arrays.
      if (format == "imatrix" || format == "npz") continue;
      const Bytes prefix = ReadPrefix(entry.path(), HeaderBytes(layout));
      const Outcome piped = Detect(prefix, std::nullopt);
      ASSERT_TRUE(piped.layout);
      EXPECT_EQ(piped.layout->segments[1].name, layout.segments[1].name);
    }
  }
  if (models == 0) GTEST_SKIP() << "no data here";
}

}  // namespace
}  // namespace zipllm::parsers
