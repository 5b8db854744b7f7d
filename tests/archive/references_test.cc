// Archives coded against outside bases, end to end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>

#include "archive/testing.h"
#include "base/hash.h"
#include "zipllm/archive.h"

namespace zipllm {
namespace {

namespace fs = std::filesystem;
using namespace testing;
using absl::StatusCode;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string Hex(const Bytes& plain) {
  std::string text;
  for (uint8_t byte : Sha256Of(plain)) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

/// BF16 weights after a few steps of training: most by an ulp or none.
Bytes Tuned(const Bytes& weights, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes tuned = weights;
  for (size_t i = 0; i < tuned.size(); i += 2) {
    const uint64_t draw = random() % 8;
    const int step = draw == 0 ? -1 : draw == 1 ? 1 : draw == 2 ? 2 : 0;
    // The lowest 7 bits: no other exponent.
    const int mantissa = std::clamp((tuned[i] & 127) + step, 0, 127);
    tuned[i] = static_cast<uint8_t>((tuned[i] & 128) | mantissa);
  }
  return tuned;
}

Bytes Widened(const Bytes& bf16) {
  Bytes wide;
  for (size_t i = 0; i < bf16.size(); i += 2) {
    wide.insert(wide.end(), {0, 0, bf16[i], bf16[i + 1]});
  }
  return wide;
}

/// Rows of `row` elements of two bytes, in another order.
Bytes Rows(const Bytes& matrix, size_t row, const std::vector<size_t>& order) {
  Bytes out;
  for (const size_t i : order) {
    const auto begin = matrix.begin() + static_cast<ptrdiff_t>(2 * row * i);
    out.insert(out.end(), begin, begin + static_cast<ptrdiff_t>(2 * row));
  }
  return out;
}

Bytes Transposed(const Bytes& matrix, size_t row) {
  const size_t rows = matrix.size() / 2 / row;
  Bytes out;
  for (size_t j = 0; j < row; ++j) {
    for (size_t i = 0; i < rows; ++i) {
      const size_t at = 2 * (i * row + j);
      out.insert(out.end(), {matrix[at], matrix[at + 1]});
    }
  }
  return out;
}

Bytes Joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

DecompressOptions With(std::vector<std::string> bases) {
  DecompressOptions options;
  options.threads = 2;
  options.bases = std::move(bases);
  return options;
}

class ReferencesTest : public ::testing::Test {
 protected:
  ReferencesTest() {
    fs::create_directory(dir_ / "base");
    WriteFile(base_, Safetensors(Model()));
    WriteFile(tuned_, Safetensors(TunedModel(1)));
  }

  std::vector<Tensor> Model() const {
    return {{"embed", "BF16", {300, 200}, embed_},
            {"up", "BF16", {250, 128}, up_},
            {"norm", "BF16", {128}, norm_}};
  }
  std::vector<Tensor> TunedModel(uint64_t seed) const {
    return {{"embed", "BF16", {300, 200}, Tuned(embed_, seed)},
            {"up", "BF16", {250, 128}, Tuned(up_, seed + 1)},
            {"norm", "BF16", {128}, norm_}};
  }

  static Bytes Compressed(const std::string& path,
                          std::vector<std::string> bases,
                          CompressOptions options = {}) {
    options.bases = std::move(bases);
    if (options.threads == 0) options.threads = 2;
    Bytes archive;
    auto sink = MakeMemorySink(&archive);
    auto totals = Compressor(std::move(options)).CompressPath(path, *sink);
    EXPECT_TRUE(totals.ok()) << totals.status();
    return archive;
  }

  /// The archive of `plain` against `bases`, which it must need and give back.
  Bytes RoundTrip(const Bytes& plain, const std::vector<std::string>& bases,
                  CompressOptions options = {}) const {
    WriteFile(dir_ / "target", plain);
    Bytes archive = Compressed(dir_ / "target", bases, std::move(options));
    auto opened = Archive::Open(MakeMemorySource(archive), With(bases));
    EXPECT_TRUE(opened.ok()) << opened.status();
    EXPECT_THAT(opened->needed_bases(), Not(IsEmpty()));
    auto back = Decompress(archive, With(bases));
    EXPECT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(back.ok() && *back == plain);
    return archive;
  }

  const TempDir dir_;
  const std::string base_ = dir_ / "base/base.safetensors";
  const std::string tuned_ = dir_ / "tuned.safetensors";
  const Bytes embed_ = Bf16Weights(300 * 200, 1);
  const Bytes up_ = Bf16Weights(250 * 128, 2);
  const Bytes norm_ = Bf16Weights(128, 3);
};

TEST_F(ReferencesTest, EachLevelTakesLessThanAloneAndGivesTheSameBytes) {
  const Bytes plain = ReadFile(tuned_);
  for (int level : {1, 2, 3, 5, 6, 8, 9}) {
    SCOPED_TRACE(level);
    CompressOptions options;
    options.level = level;
    const size_t alone = Compressed(tuned_, {}, options).size();
    EXPECT_LT(RoundTrip(plain, {base_}, options).size(), alone / 2);
  }
}

TEST_F(ReferencesTest, AMissingBaseIsNamedBeforeAnythingIsWritten) {
  const Bytes archive = Compressed(tuned_, {base_});
  const std::vector<std::vector<std::string>> tried = {
      {}, {tuned_}, {dir_ / "target-folder"}};
  fs::create_directory(dir_ / "target-folder");
  for (const std::vector<std::string>& bases : tried) {
    fs::create_directory(dir_ / "out");
    auto in = MakeMemorySource(archive);
    auto totals =
        Decompressor(With(bases)).DecompressTo(*in, dir_ / "out/tuned");
    EXPECT_EQ(totals.status().code(), StatusCode::kFailedPrecondition);
    const std::string message(totals.status().message());
    EXPECT_THAT(message, HasSubstr("base.safetensors"));
    const bool names_one = (message.find("embed") != std::string::npos &&
                            message.find(Hex(embed_)) != std::string::npos) ||
                           (message.find("up") != std::string::npos &&
                            message.find(Hex(up_)) != std::string::npos) ||
                           (message.find("norm") != std::string::npos &&
                            message.find(Hex(norm_)) != std::string::npos);
    EXPECT_TRUE(names_one) << message;
    EXPECT_TRUE(fs::is_empty(dir_ / "out"));
    fs::remove_all(dir_ / "out");

    PipeSource pipe(archive, 1000);
    Bytes out;
    auto sink = MakeMemorySink(&out);
    EXPECT_EQ(
        Decompressor(With(bases)).DecompressStream(pipe, *sink).status().code(),
        StatusCode::kFailedPrecondition);
    EXPECT_THAT(out, IsEmpty());
  }
}

// What an archive needs can be listed without it.
TEST_F(ReferencesTest, AnArchiveOpensWithoutItsBaseAndTellsWhatItNeeds) {
  const Bytes archive = Compressed(tuned_, {base_});
  auto opened = Archive::Open(MakeMemorySource(archive));
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_THAT(opened->entries(), SizeIs(1));
  ASSERT_THAT(opened->needed_bases(), Not(IsEmpty()));
  for (const NeededBase& needed : opened->needed_bases()) {
    EXPECT_THAT(needed.model, HasSubstr("base.safetensors"));
    const std::vector<Tensor> model = Model();
    const auto tensor = std::find_if(
        model.begin(), model.end(),
        [&](const Tensor& one) { return one.name == needed.tensor; });
    ASSERT_NE(tensor, model.end()) << needed.tensor;
    EXPECT_EQ(needed.length, tensor->bytes.size());
    EXPECT_EQ(needed.sha256, Sha256Of(tensor->bytes));
  }
  EXPECT_EQ(opened->Read("embed").status().code(),
            StatusCode::kFailedPrecondition);
}

TEST_F(ReferencesTest, ABaseOfWhichOneBitIsAnotherIsRefused) {
  const Bytes archive = Compressed(tuned_, {base_});
  const Bytes good = ReadFile(base_);
  for (const size_t from_end :
       {size_t{1}, norm_.size() + 1,
        norm_.size() + up_.size() + embed_.size() / 2}) {
    SCOPED_TRACE(from_end);
    Bytes bad = good;
    bad[bad.size() - from_end] ^= 4;
    WriteFile(base_, bad);
    fs::create_directory(dir_ / "out");
    auto in = MakeMemorySource(archive);
    auto totals =
        Decompressor(With({base_})).DecompressTo(*in, dir_ / "out/tuned");
    EXPECT_EQ(totals.status().code(), StatusCode::kFailedPrecondition);
    EXPECT_TRUE(fs::is_empty(dir_ / "out"));
    fs::remove_all(dir_ / "out");
  }
  WriteFile(base_, Bytes(good.begin(), good.end() - 1));
  EXPECT_EQ(Decompress(archive, With({base_})).status().code(),
            StatusCode::kFailedPrecondition);
}

TEST_F(ReferencesTest, NamesDoNotMatter) {
  const Bytes archive = Compressed(tuned_, {base_});
  std::vector<Tensor> model = Model();
  for (Tensor& tensor : model) tensor.name = "another." + tensor.name;
  std::swap(model[0], model[2]);
  model.push_back({"embed", "BF16", {300, 200}, Bf16Weights(60000, 9)});
  WriteFile(dir_ / "base/elsewhere.bin", Safetensors(model));
  fs::remove(base_);
  auto back = Decompress(archive, With({dir_ / "base/elsewhere.bin"}));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, ReadFile(tuned_));
}

TEST_F(ReferencesTest, TensorsOfOtherNamesAreCodedAgainstEachOther) {
  std::vector<Tensor> model = TunedModel(5);
  for (Tensor& tensor : model) tensor.name = "x" + tensor.name + ".weight";
  std::swap(model[0], model[1]);
  const Bytes plain = Safetensors(model);
  EXPECT_LT(RoundTrip(plain, {base_}).size(), Compress(plain).size() / 2);
}

TEST_F(ReferencesTest, BasesAreFilesFoldersAndArchives) {
  const Bytes plain = ReadFile(tuned_);
  WriteFile(dir_ / "base.zllm", Compressed(base_, {}));
  fs::create_directories(dir_ / "models/deep/er");
  fs::copy(base_, dir_ / "models/deep/er/model.safetensors");
  WriteFile(dir_ / "models/README", FromString("no model"));
  WriteFile(dir_ / "models.zllm", Compressed(dir_ / "models", {}));
  const std::vector<std::vector<std::string>> all = {
      {base_},
      {dir_ / "models"},
      {dir_ / "base.zllm"},
      {dir_ / "models.zllm"},
      {dir_ / "models/README", dir_ / "models.zllm", base_}};
  const size_t alone = Compress(plain).size();
  for (const auto& made_with : all) {
    const Bytes archive = RoundTrip(plain, made_with);
    EXPECT_LT(archive.size(), alone / 2);
    for (const auto& read_with : all) {
      auto back = Decompress(archive, With(read_with));
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(*back, plain);
    }
  }
}

TEST_F(ReferencesTest, BasesThatAreNoneAreErrors) {
  CompressOptions options;
  options.bases = {dir_ / "nothing"};
  Bytes out;
  auto sink = MakeMemorySink(&out);
  EXPECT_FALSE(Compressor(options).CompressPath(tuned_, *sink).ok());
  const Bytes archive = Compressed(tuned_, {base_});
  EXPECT_FALSE(Decompress(archive, With({dir_ / "nothing"})).ok());
}

TEST_F(ReferencesTest, FilesWithoutTensorsAreNoBases) {
  WriteFile(dir_ / "text", FromString("some text"));
  WriteFile(dir_ / "empty", {});
  const Bytes with = Compressed(tuned_, {dir_ / "text", dir_ / "empty"});
  EXPECT_EQ(with, Compressed(tuned_, {}));
}

TEST_F(ReferencesTest, ArchivesInTheFoldersGivenAreFound) {
  const Bytes archive = Compressed(tuned_, {base_});
  WriteFile(dir_ / "base/tuned.zllm", archive);  // beside its base, as usual
  DecompressOptions options = With({});
  options.base_directories = {dir_ / "base"};
  auto back = Decompress(archive, options);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, ReadFile(tuned_));
  WriteFile(dir_ / "base/base.zllm", Compressed(base_, {}));
  fs::remove(base_);
  back = Decompress(archive, options);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, ReadFile(tuned_));
}

// Each is nearest to the one before, but four that follow each other are as
// many as may be.
TEST_F(ReferencesTest, FourArchivesFollowEachOtherAndNoFifth) {
  fs::create_directory(dir_ / "chain");
  const auto name = [](size_t i) { return std::to_string(i) + ".zllm"; };
  std::vector<Bytes> plain;
  Bytes embed = embed_;
  for (size_t i = 0; i <= 5; ++i) {
    SCOPED_TRACE(i);
    plain.push_back(Safetensors({{"embed", "BF16", {300, 200}, embed}}));
    WriteFile(dir_ / "target", plain[i]);
    const std::string path = dir_ / ("chain/" + name(i));
    WriteFile(path, Compressed(dir_ / "target", {dir_ / "chain"}));
    auto opened = Archive::OpenFile(path, With({dir_ / "chain"}));
    ASSERT_TRUE(opened.ok()) << opened.status();
    ASSERT_THAT(opened->needed_bases(), SizeIs(i == 0 ? 0 : 1));
    if (i != 0) {
      const std::string& model = opened->needed_bases()[0].model;
      EXPECT_EQ(model.find(name(i - 1)) != std::string::npos, i <= 4) << model;
    }
    embed = Tuned(embed, 100 + i);
  }
  DecompressOptions beside = With({});
  beside.base_directories = {dir_ / "chain"};
  for (size_t i = 0; i <= 5; ++i) {
    SCOPED_TRACE(i);
    const std::string path = dir_ / ("chain/" + name(i));
    auto back = Decompress(ReadFile(path), With({dir_ / "chain"}));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, plain[i]);
    auto opened = Archive::OpenFile(path, beside);
    ASSERT_TRUE(opened.ok()) << opened.status();
    auto read = opened->Read("embed");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(Safetensors({{"embed", "BF16", {300, 200}, *read}}), plain[i]);
  }
  // Without the first nothing comes back, and no reader hangs.
  fs::remove(dir_ / "chain/0.zllm");
  for (size_t i = 1; i <= 4; ++i) {
    EXPECT_EQ(Decompress(ReadFile(dir_ / ("chain/" + name(i))), beside)
                  .status()
                  .code(),
              StatusCode::kFailedPrecondition);
  }
}

TEST_F(ReferencesTest, AnyRangeOfAFileCanBeRead) {
  const Bytes plain = ReadFile(tuned_);
  const Bytes archive = Compressed(tuned_, {base_});
  auto opened = Archive::Open(MakeMemorySource(archive), With({base_}));
  ASSERT_TRUE(opened.ok()) << opened.status();
  std::mt19937_64 random(4);
  for (int i = 0; i < 40; ++i) {
    const size_t begin = random() % plain.size();
    Bytes out(random() % (plain.size() - begin));
    ASSERT_TRUE(opened->ReadRange(0, begin, out).ok());
    ASSERT_TRUE(std::equal(out.begin(), out.end(),
                           plain.begin() + static_cast<ptrdiff_t>(begin)));
  }
  for (const Tensor& tensor : TunedModel(1)) {
    auto read = opened->Read(tensor.name);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, tensor.bytes);
  }
}

TEST_F(ReferencesTest, APipeIsDecodedToo) {
  const Bytes archive = Compressed(tuned_, {base_});
  PipeSource pipe(archive, 777);
  Bytes out;
  auto sink = MakeMemorySink(&out);
  auto totals = Decompressor(With({base_})).DecompressStream(pipe, *sink);
  ASSERT_TRUE(totals.ok()) << totals.status();
  EXPECT_EQ(out, ReadFile(tuned_));
}

TEST_F(ReferencesTest, ConcatenatedArchivesHaveTheirOwnReferences) {
  const Bytes other = Safetensors({{"up", "BF16", {250, 128}, Tuned(up_, 8)}});
  WriteFile(dir_ / "other", other);
  const Bytes text = FromString("a text");
  WriteFile(dir_ / "text", text);
  const Bytes both =
      Joined({Compressed(tuned_, {base_}), Compressed(dir_ / "text", {}),
              Compressed(dir_ / "other", {base_})});
  const Bytes plain = Joined({ReadFile(tuned_), text, other});
  auto back = Decompress(both, With({base_}));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, plain);
  PipeSource pipe(both, 1234);
  Bytes streamed;
  auto sink = MakeMemorySink(&streamed);
  ASSERT_TRUE(Decompressor(With({base_})).DecompressStream(pipe, *sink).ok());
  EXPECT_EQ(streamed, plain);
  auto opened = Archive::Open(MakeMemorySource(both), With({base_}));
  ASSERT_TRUE(opened.ok()) << opened.status();
  ASSERT_THAT(opened->entries(), SizeIs(3));
  Bytes last(other.size());
  ASSERT_TRUE(opened->ReadRange(2, 0, last).ok());
  EXPECT_EQ(last, other);
}

TEST_F(ReferencesTest, WhatIsCutIsAnError) {
  const Bytes archive = Compressed(tuned_, {base_});
  const DecompressOptions options = With({base_});
  for (size_t size = 0; size < archive.size(); size += size < 600 ? 7 : 997) {
    const Bytes cut(archive.begin(),
                    archive.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(Decompress(cut, options).ok()) << size;
  }
}

TEST_F(ReferencesTest, FlippedBitsGiveAnErrorOrTheRightBytes) {
  const Bytes plain = ReadFile(tuned_);
  const Bytes archive = Compressed(tuned_, {base_});
  std::mt19937_64 random(6);
  for (size_t at = 0; at < archive.size(); at += at < 600 ? 3 : 541) {
    Bytes flipped = archive;
    flipped[at] ^= static_cast<uint8_t>(1 << random() % 8);
    auto back = Decompress(flipped, With({base_}));
    EXPECT_TRUE(!back.ok() || *back == plain) << at;
    auto opened = Archive::Open(MakeMemorySource(flipped), With({base_}));
    if (!opened.ok()) continue;
    auto read = opened->Read("up");
    EXPECT_TRUE(!read.ok() || *read == Tuned(up_, 2)) << at;
  }
}

TEST_F(ReferencesTest, TheArchiveDoesNotDependOnThreads) {
  for (int level : {1, 3, 6}) {
    CompressOptions options;
    options.level = level;
    options.threads = 1;
    const Bytes one = Compressed(tuned_, {base_}, options);
    for (int threads : {2, 5}) {
      options.threads = threads;
      EXPECT_EQ(Compressed(tuned_, {base_}, options), one) << level;
    }
  }
}

TEST_F(ReferencesTest, WithoutDeduplicationBasesAreUsedAndNothingInside) {
  std::vector<Tensor> model = TunedModel(1);
  model.push_back({"embed.copy", "BF16", {300, 200}, Tuned(embed_, 77)});
  const Bytes plain = Safetensors(model);
  CompressOptions options;
  options.deduplicate = false;
  EXPECT_LT(RoundTrip(plain, {base_}, options).size(),
            Compress(plain, options).size() / 2);
  WriteFile(dir_ / "target", plain);
  const size_t alone = Compressed(dir_ / "target", {}, options).size();
  options.deduplicate = true;
  EXPECT_LT(Compressed(dir_ / "target", {}, options).size(), alone * 9 / 10);
}

TEST_F(ReferencesTest, EqualTensorsCostNextToNothing) {
  const Bytes plain = ReadFile(base_);
  EXPECT_LT(RoundTrip(plain, {base_}).size(), 2000u);
}

TEST_F(ReferencesTest, StrangersAreNoBases) {
  const Bytes stranger =
      Safetensors({{"embed", "BF16", {300, 200}, Bf16Weights(60000, 50)},
                   {"up", "BF16", {250, 128}, Bf16Weights(32000, 51)}});
  WriteFile(dir_ / "stranger", stranger);
  EXPECT_LE(Compressed(tuned_, {dir_ / "stranger"}).size(),
            Compressed(tuned_, {}).size() * 1001 / 1000);
}

TEST_F(ReferencesTest, OtherElementTypesOnEitherSide) {
  const Bytes wide =
      Safetensors({{"embed", "F32", {300, 200}, Widened(Tuned(embed_, 3))},
                   {"up", "F32", {250, 128}, Widened(Tuned(up_, 4))}});
  EXPECT_LT(RoundTrip(wide, {base_}).size(), Compress(wide).size() * 3 / 4);
  WriteFile(dir_ / "wide", wide);
  const Bytes plain = ReadFile(tuned_);
  EXPECT_LT(RoundTrip(plain, {dir_ / "wide"}).size(),
            Compress(plain).size() / 2);
}

TEST_F(ReferencesTest, TensorsOfAnotherStructure) {
  const Bytes embed = Tuned(embed_, 21);
  const Bytes up = Tuned(up_, 22);
  std::vector<size_t> order(250);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
  const std::vector<std::vector<Tensor>> models = {
      {{"embed", "BF16", {310, 200}, Joined({embed, Bf16Weights(2000, 30)})}},
      {{"embed",
        "BF16",
        {200, 200},
        Rows(embed, 200,
             [] {
               std::vector<size_t> first(200);
               std::iota(first.begin(), first.end(), 50);
               return first;
             }())}},
      {{"up.t", "BF16", {128, 250}, Transposed(up, 128)}},
      {{"up", "BF16", {250, 128}, Rows(up, 128, order)}},
      {{"fused", "BF16", {500, 128}, Joined({up, Tuned(up_, 23)})}},
      {{"flat", "BF16", {300 * 200}, embed}},
  };
  WriteFile(dir_ / "base.zllm", Compressed(base_, {}));
  for (const std::vector<Tensor>& model : models) {
    SCOPED_TRACE(model[0].name + " " + std::to_string(model[0].shape[0]));
    const Bytes plain = Safetensors(model);
    CompressOptions alone;
    alone.deduplicate = false;
    const Bytes archive = RoundTrip(plain, {base_});
    EXPECT_LT(archive.size(), Compress(plain, alone).size() * 6 / 10);
    EXPECT_LT(RoundTrip(plain, {dir_ / "base.zllm"}).size(),
              archive.size() * 21 / 20);
    auto opened = Archive::Open(MakeMemorySource(archive), With({base_}));
    ASSERT_TRUE(opened.ok()) << opened.status();
    std::mt19937_64 random(7);
    for (int i = 0; i < 10; ++i) {
      const size_t begin = random() % plain.size();
      Bytes out(random() % (plain.size() - begin));
      ASSERT_TRUE(opened->ReadRange(0, begin, out).ok());
      ASSERT_TRUE(std::equal(out.begin(), out.end(),
                             plain.begin() + static_cast<ptrdiff_t>(begin)));
    }
  }
}

// Several blocks and frames: parts of rows at their ends.
TEST_F(ReferencesTest, TensorsOfManyBlocks) {
  const size_t rows = 3001, row = 611;
  const Bytes large = Bf16Weights(rows * row, 40);
  const Bytes tuned = Tuned(large, 41);
  WriteFile(dir_ / "large", Safetensors({{"w", "BF16", {rows, row}, large}}));
  std::vector<size_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(6));
  for (const Tensor& tensor : std::vector<Tensor>{
           {"w", "BF16", {rows, row}, tuned},
           {"w", "BF16", {row, rows}, Transposed(tuned, row)},
           {"w", "BF16", {rows, row}, Rows(tuned, row, order)}}) {
    const Bytes plain = Safetensors({tensor});
    const Bytes archive = RoundTrip(plain, {dir_ / "large"});
    EXPECT_LT(archive.size(), plain.size() / 3);
    PipeSource pipe(archive, 100'000);
    Bytes out;
    auto sink = MakeMemorySink(&out);
    ASSERT_TRUE(Decompressor(With({dir_ / "large"}))
                    .DecompressStream(pipe, *sink)
                    .ok());
    EXPECT_EQ(out, plain);
  }
}

// A tree of two fine-tunes: sources outside and inside.
TEST_F(ReferencesTest, ATreeAgainstABase) {
  fs::create_directory(dir_ / "tree");
  WriteFile(dir_ / "tree/one.safetensors", Safetensors(TunedModel(1)));
  const std::vector<Tensor> two = {
      {"embed", "BF16", {300, 200}, Tuned(Tuned(embed_, 1), 9)},
      {"up", "BF16", {250, 128}, Tuned(Tuned(up_, 2), 9)}};
  WriteFile(dir_ / "tree/two.safetensors", Safetensors(two));
  WriteFile(dir_ / "tree/config.json", FromString("{}"));
  const Bytes archive = Compressed(dir_ / "tree", {base_});
  auto in = MakeMemorySource(archive);
  auto totals = Decompressor(With({base_})).DecompressTo(*in, dir_ / "out");
  ASSERT_TRUE(totals.ok()) << totals.status();
  for (const char* name :
       {"one.safetensors", "two.safetensors", "config.json"}) {
    EXPECT_EQ(ReadFile(dir_ / (std::string("out/") + name)),
              ReadFile(dir_ / (std::string("tree/") + name)));
  }
  auto again = MakeMemorySource(archive);
  EXPECT_TRUE(Decompressor(With({base_})).Test(*again).ok());
}

}  // namespace
}  // namespace zipllm
