// What holds for every registered codec, whatever it does.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "base/dtype.h"
#include "codecs/coding.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

TEST(RegistryTest, TablesAgree) {
  ASSERT_EQ(AllEncoders().size(), AllDecoders().size());
  std::set<std::string_view> names;
  int last = -1;
  for (size_t i = 0; i < AllDecoders().size(); ++i) {
    const Decoder& decoder = *AllDecoders()[i];
    const Encoder& encoder = *AllEncoders()[i];
    EXPECT_EQ(decoder.id, encoder.id);
    EXPECT_EQ(decoder.name, encoder.name);
    EXPECT_NE(decoder.name, "");
    EXPECT_TRUE(names.insert(decoder.name).second) << decoder.name;
    EXPECT_GT(int{decoder.id}, last);
    last = decoder.id;
    EXPECT_EQ(FindDecoder(decoder.id), &decoder);
    EXPECT_EQ(FindEncoder(encoder.id), &encoder);
  }
}

TEST(RegistryTest, UnknownNumbersAreNotFound) {
  // 2 is the container's own.
  for (const int id : {2, 255}) {
    EXPECT_EQ(FindDecoder(static_cast<CodecId>(id)), nullptr);
    EXPECT_EQ(FindEncoder(static_cast<CodecId>(id)), nullptr);
  }
}

class CodecTest : public testing::TestWithParam<CodecId> {
 protected:
  const Encoder& encoder() const { return *FindEncoder(GetParam()); }
  const Decoder& decoder() const { return *FindDecoder(GetParam()); }

  /// Whether each block costs making tables of megabytes, and reading a prior.
  bool HasLargeTables() const { return decoder().memory != nullptr; }

  /// How often hostile input is tried: less where models are mixed bit by bit,
  /// which takes long with sanitizers.
  int Trials(int usual) const {
    if (HasLargeTables()) return 1 + usual / 100;
    const std::string_view name = decoder().name;
    const bool slow = name == "mix" || name == "moments" ||
                      name == "mixdelta" || name == "quant" || name == "sum" ||
                      name == "derived";
    return slow ? usual / 5 : usual;
  }

  /// Rows of kHomes for this codec; fails if there is none.
  std::vector<Home> Homes() const {
    std::vector<Home> homes;
    for (const Home& home : kHomes) {
      if (home.codec == encoder().name) homes.push_back(home);
    }
    EXPECT_FALSE(homes.empty())
        << "codec " << encoder().name << " needs a row in kHomes "
        << "(tests/codecs/generators.h)";
    return homes;
  }

  /// A frame of a home input with `elements` elements in blocks of `block`.
  struct Coded {
    Input input;
    EncodeRequest request = {};
    CodedFrame frame;
    Context context;  // of the first block
    const Bytes& plain() const { return input.data; }
    const Bytes& block() const { return *frame.blocks[0]; }
  };
  std::optional<Coded> CodeHome(const Home& home, size_t elements,
                                size_t block) const {
    Coded coded;
    coded.input = home.Make(elements);
    coded.request =
        coded.input.Request(block * ElementBytes(home.dtype), home.level);
    Scratch scratch;
    std::optional<CodedFrame> frame =
        EncodeFrame(encoder(), coded.request, scratch);
    if (!frame) return std::nullopt;
    coded.frame = std::move(*frame);
    coded.context =
        Context(coded.request, BlocksOf(coded.request)[0], coded.frame.shared);
    return coded;
  }
  /// What lies beside the inputs that the codec is tried with.
  std::set<Beside> Besides() const {
    std::set<Beside> besides;
    for (const Home& home : Homes()) besides.insert(home.beside);
    return besides;
  }
  /// Codes and decodes `data` beside all of these.
  void CheckRoundTrips(DType dtype, const Bytes& data, size_t block_size,
                       int level) const {
    for (const Beside beside : Besides()) {
      // References are made of single values.
      if (beside != Beside::kNothing && FindDType(dtype)->block_elements != 1) {
        continue;
      }
      SCOPED_TRACE(BesideName(beside));
      const Input input = PutBeside(beside, dtype, data);
      CheckRoundTrip(GetParam(), input.Request(block_size, level));
    }
  }
  /// Decodes a block as it is found after the coded one.
  std::optional<Bytes> Try(const Coded& like, ByteSpan coded) const {
    return DecodeBlock(decoder(), like.frame.params, like.context.get(), coded,
                       like.plain().size());
  }
  /// The first block of a home input, small enough to be tried byte by byte.
  std::vector<Coded> SmallBlocks() const {
    std::vector<Coded> all;
    for (const Home& home : Homes()) {
      for (const size_t elements : {300, 2000}) {
        // Of packed types they are whole blocks.
        if (home.beside == Beside::kWeights && elements > 300) continue;
        std::optional<Coded> coded = CodeHome(home, elements, elements);
        if (coded && coded->frame.blocks[0]) all.push_back(std::move(*coded));
      }
    }
    EXPECT_FALSE(all.empty()) << encoder().name << " codes no small block";
    return all;
  }
};

TEST_P(CodecTest, CodesWhatItIsFor) {
  for (const Home& home : Homes()) {
    SCOPED_TRACE(KindName(home.kind));
    const auto coded = CodeHome(home, 20000, 20000);
    ASSERT_TRUE(coded.has_value());
    ASSERT_TRUE(coded->frame.blocks[0].has_value());
    const size_t actual = coded->block().size();
    if (encoder().name != "stored") {
      EXPECT_LT(actual, coded->plain().size());
    }
    // Plans are compared by estimate: it must be of the right order.
    EXPECT_LE(coded->frame.estimate, 2 * actual + 4096);
    EXPECT_GE(coded->frame.estimate, actual / 2);
  }
}

TEST_P(CodecTest, RoundTripsSmallInputsOfEveryType) {
  for (const DTypeInfo& dtype : AllDTypes()) {
    for (const Kind kind : kKinds) {
      for (const size_t elements : {1, 2, 3, 7, 127, 128, 129}) {
        SCOPED_TRACE(testing::Message()
                     << dtype.name << " " << KindName(kind) << " " << elements);
        const Bytes data = MakeInput(kind, dtype.dtype, elements);
        CheckRoundTrips(dtype.dtype, data, data.size(), 3);
        if (elements == 129) {
          CheckRoundTrips(dtype.dtype, data, data.size(), 7);
        }
      }
    }
  }
}

// Types that stand for all ways in which codecs choose.
constexpr DType kMainTypes[] = {
    DType::kBytes,  DType::kF64, DType::kF32, DType::kF16, DType::kBF16,
    DType::kF8E4M3, DType::kI8,  DType::kI32, DType::kI64, DType::kGgmlQ80};

TEST_P(CodecTest, RoundTripsAtEveryLevel) {
  for (const DType dtype : kMainTypes) {
    for (const Kind kind : kKinds) {
      for (const size_t elements : {4095, 4096, 4097}) {
        SCOPED_TRACE(testing::Message() << FindDType(dtype)->name << " "
                                        << KindName(kind) << " " << elements);
        const Bytes data = MakeInput(kind, dtype, elements);
        for (int level = 1; level <= 9; ++level) {
          // Once is enough where levels only differ in effort.
          if (level == 3 || elements == 4097) {
            CheckRoundTrips(dtype, data, data.size(), level);
          }
        }
      }
    }
  }
}

TEST_P(CodecTest, RoundTripsLargeInputs) {
  for (const DType dtype : kMainTypes) {
    if (dtype == DType::kGgmlQ80) continue;  // 9 MB
    for (const Kind kind : kKinds) {
      for (const size_t elements : {size_t{65537}, size_t{1} << 18}) {
        SCOPED_TRACE(testing::Message() << FindDType(dtype)->name << " "
                                        << KindName(kind) << " " << elements);
        const Bytes data = MakeInput(kind, dtype, elements);
        CheckRoundTrips(dtype, data, data.size(), 3);
        if (elements == 65537) CheckRoundTrips(dtype, data, data.size(), 1);
      }
    }
  }
}

TEST_P(CodecTest, BlocksShareOnePlan) {
  for (const Home& home : Homes()) {
    const size_t width = ElementBytes(home.dtype);
    const Input input = home.Make(10 * 1000 + 17);
    // Ten blocks and a short one; blocks of one element; one block.
    for (const size_t block :
         {size_t{1000}, size_t{1}, input.data.size() / width}) {
      const EncodeRequest request = input.Request(block * width, home.level);
      const size_t coded = CheckRoundTrip(GetParam(), request);
      if (block != 1) {
        EXPECT_GE(coded, BlocksOf(request).size() - 1);
      }
    }
  }
}

TEST_P(CodecTest, BlocksThatDifferShareOnePlan) {
  // The plan is made for a frame whose parts have nothing in common.
  const auto part_size =
      HasLargeTables() ? size_t{700} : static_cast<size_t>(Trials(700));
  for (const DType dtype : kMainTypes) {
    Bytes data;
    for (const Kind kind : kKinds) {
      const Bytes part = MakeInput(kind, dtype, part_size);
      data.insert(data.end(), part.begin(), part.end());
    }
    for (const int level : {1, 3, 6, 9}) {
      CheckRoundTrips(dtype, data, part_size * ElementBytes(dtype), level);
    }
  }
}

TEST_P(CodecTest, ElementsMayBeCut) {
  // A layout's last block may end within an element.
  for (const Home& home : Homes()) {
    if (home.beside != Beside::kNothing) continue;  // those lie at elements
    const Bytes data = MakeInput(home.kind, home.dtype, 3000);
    const size_t width = ElementBytes(home.dtype);
    for (size_t cut = 1; cut < std::max<size_t>(width, 2); ++cut) {
      CheckRoundTrip(GetParam(), {ByteSpan(data).first(data.size() - cut),
                                  1000 * width, home.dtype, home.level});
    }
  }
}

TEST_P(CodecTest, SameBytesEveryTimeAndOnEveryThread) {
  for (const Home& home : Homes()) {
    const Input input = home.Make(9000);
    const EncodeRequest request =
        input.Request(3000 * ElementBytes(home.dtype), home.level);
    Scratch clean;
    const auto expected = EncodeFrame(encoder(), request, clean);
    ASSERT_TRUE(expected.has_value());

    constexpr size_t kThreads = 4;
    std::vector<std::optional<CodedFrame>> frames(kThreads);
    {
      std::vector<std::jthread> threads;
      for (size_t t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
          // Other work first, so that scratch and contexts are used.
          Scratch scratch;
          const Bytes other = MakeInput(Kind::kText, home.dtype, 5000 * t + 1);
          EncodeFrame(encoder(), {other, other.size(), home.dtype, home.level},
                      scratch);
          frames[t] = EncodeFrame(encoder(), request, scratch);
        });
      }
    }
    for (const auto& frame : frames) EXPECT_TRUE(frame == expected);
  }
}

TEST_P(CodecTest, ThreadsShareAPlanAndParameters) {
  for (const Home& home : Homes()) {
    const size_t block_size = 3000 * ElementBytes(home.dtype);
    const Input input = home.Make(12000);
    EncodeRequest request = input.Request(block_size, home.level);
    const std::vector<ByteSpan> blocks = BlocksOf(request);
    Scratch scratch;
    const auto model = Learn(encoder(), request, scratch);
    request.model = model.get();
    const ByteSpan shared = model != nullptr ? model->shared() : ByteSpan();
    const auto plan = encoder().plan(request, scratch);
    ASSERT_NE(plan, nullptr);
    std::unique_ptr<const DecodeParams> params;
    if (decoder().parse != nullptr) {
      auto parsed = decoder().parse(plan->params());
      ASSERT_TRUE(parsed.ok()) << parsed.status().message();
      params = std::move(parsed).value();
    }
    std::vector<std::jthread> threads;
    std::vector<uint8_t> ok(blocks.size(), 0);
    for (size_t i = 0; i < blocks.size(); ++i) {
      threads.emplace_back([&, i] {
        Scratch own;
        Buffer coded;
        Exact out(blocks[i].size());
        const Context context(request, blocks[i], shared);
        ok[i] = plan->Encode(blocks[i], own, &coded) &&
                Decode(decoder(), params.get(), context.get(), coded.span(),
                       out.mutable_span(), own)
                    .ok() &&
                std::ranges::equal(out.span(), blocks[i]);
      });
    }
    threads.clear();
    EXPECT_EQ(std::ranges::count(ok, 1), std::ssize(blocks));
  }
}

TEST_P(CodecTest, DecodesAfterRefusing) {
  // One thread's scratch serves good blocks after bad ones.
  for (const Coded& small : SmallBlocks()) {
    std::unique_ptr<const DecodeParams> params;
    if (decoder().parse != nullptr) {
      params = std::move(decoder().parse(small.frame.params)).value();
    }
    const Bytes& coded = small.block();
    Scratch scratch;
    Exact out(small.plain().size());
    for (size_t cut = 1; cut < coded.size(); cut = cut * 2 + 1) {
      (void)Decode(decoder(), params.get(), small.context.get(),
                   ByteSpan(coded).first(cut), out.mutable_span(), scratch);
      const absl::Status status =
          Decode(decoder(), params.get(), small.context.get(), coded,
                 out.mutable_span(), scratch);
      ASSERT_TRUE(status.ok()) << status.message();
      ASSERT_TRUE(std::ranges::equal(out.span(), small.plain()));
    }
  }
}

// Hostile input. DecodeBlock checks that an answer is an error with a message
// or that all of the output was written; sanitizers check the rest.

TEST_P(CodecTest, SurvivesTruncationAndExcess) {
  for (const Coded& small : SmallBlocks()) {
    const Bytes& coded = small.block();
    const size_t step = 1 + coded.size() / (HasLargeTables() ? 10 : 3000);
    for (size_t size = 0; size < coded.size(); size += step) {
      Try(small, ByteSpan(coded).first(size));
    }
    for (const uint8_t extra : {uint8_t{0}, uint8_t{1}, uint8_t{255}}) {
      Bytes longer = coded;
      longer.push_back(extra);
      Try(small, longer);
    }
  }
}

TEST_P(CodecTest, SurvivesFlippedBits) {
  Random random(2);
  for (const Coded& small : SmallBlocks()) {
    for (int i = 0; i < (HasLargeTables() ? 20 : 1000); ++i) {
      Bytes coded = small.block();
      for (size_t flips = 1 + random.Below(3); flips > 0; --flips) {
        coded[random.Below(coded.size())] ^=
            static_cast<uint8_t>(1 << random.Below(8));
      }
      Try(small, coded);
    }
  }
}

TEST_P(CodecTest, SurvivesGarbage) {
  Random random(3);
  for (const Coded& small : SmallBlocks()) {
    for (int i = 0; i < Trials(300); ++i) {
      const Bytes garbage =
          MakeInput(Kind::kRandom, DType::kBytes, random.Below(400), i);
      Try(small, garbage);
      // With a head that is right and the rest not.
      Bytes coded = small.block();
      const size_t from = random.Below(coded.size());
      for (size_t j = from; j < coded.size(); ++j) {
        coded[j] = static_cast<uint8_t>(random.Next());
      }
      Try(small, coded);
    }
    Try(small, {});
  }
}

TEST_P(CodecTest, SurvivesWrongSizes) {
  for (const Coded& small : SmallBlocks()) {
    const size_t size = small.plain().size();
    for (const size_t wrong :
         {size_t{1}, size_t{2}, size / 2, size - 1, size + 1, 2 * size}) {
      const auto decoded =
          DecodeBlock(decoder(), small.frame.params, small.context.get(),
                      small.block(), wrong);
      if (decoded) {
        EXPECT_EQ(decoded->size(), wrong);
      }
    }
  }
}

TEST_P(CodecTest, SurvivesWrongParameters) {
  if (decoder().parse == nullptr) GTEST_SKIP() << "has no parameters";
  Random random(4);
  for (const Coded& small : SmallBlocks()) {
    const Bytes& params = small.frame.params;
    const auto decode = [&](ByteSpan wrong) {
      DecodeBlock(decoder(), wrong, small.context.get(), small.block(),
                  small.plain().size());
    };
    for (size_t size = 0; size < params.size(); ++size) {
      decode(ByteSpan(params).first(size));
    }
    Bytes longer = params;
    longer.push_back(0);
    decode(longer);
    for (int i = 0; i < Trials(1000) && !params.empty(); ++i) {
      Bytes wrong = params;
      wrong[random.Below(wrong.size())] ^=
          static_cast<uint8_t>(1 << random.Below(8));
      decode(wrong);
    }
    for (int i = 0; i < 200; ++i) {
      decode(MakeInput(Kind::kRandom, DType::kBytes, random.Below(200), i));
    }
    // A frame without parameters where the codec has some.
    Scratch scratch;
    Exact out(small.plain().size());
    const Exact coded(small.block());
    const absl::Status status =
        Decode(decoder(), nullptr, small.context.get(), coded.span(),
               out.mutable_span(), scratch);
    if (!status.ok()) {
      EXPECT_NE(status.message(), "");
    }
  }
}

TEST_P(CodecTest, SurvivesWrongReferences) {
  if (decoder().decode_against == nullptr) GTEST_SKIP() << "needs none";
  Random random(5);
  for (const Coded& small : SmallBlocks()) {
    const auto decode = [&](const Context& wrong) {
      DecodeBlock(decoder(), small.frame.params, wrong.get(), small.block(),
                  small.plain().size());
    };
    decode({});
    Context reversed = small.context;
    std::ranges::reverse(reversed.references);
    decode(reversed);
    for (size_t i = 0; i < small.context.references.size(); ++i) {
      const Reference& right = small.context.references[i];
      // One way after the other in which a reference is not the right one.
      const auto decode_with = [&](auto change) {
        Context wrong = small.context;
        change(wrong.references[i]);
        decode(wrong);
      };
      Context missing = small.context;
      missing.references.erase(missing.references.begin() +
                               static_cast<ptrdiff_t>(i));
      decode(missing);
      for (int role = 0; role <= static_cast<int>(kMaxRole); ++role) {
        decode_with([&](Reference& r) { r.role = static_cast<Role>(role); });
      }
      for (const DTypeInfo& dtype : AllDTypes()) {
        decode_with([&](Reference& r) { r.dtype = dtype.dtype; });
        // Of that type, and as many.
        const Bytes bytes(
            right.data.size() / ElementBytes(right.dtype) * dtype.block_bytes,
            0x5A);
        decode_with([&](Reference& r) {
          r.dtype = dtype.dtype;
          r.data = bytes;
        });
      }
      const size_t size = right.data.size();
      for (const size_t wrong :
           {size_t{0}, size_t{1}, size / 2, size - ElementBytes(right.dtype),
            size - 1, size + 1, size + ElementBytes(right.dtype), 2 * size}) {
        Bytes bytes(right.data.begin(), right.data.end());
        bytes.resize(wrong);
        decode_with([&](Reference& r) { r.data = bytes; });
      }
      for (const uint64_t row : {uint64_t{0}, uint64_t{1}, right.row + 1,
                                 uint64_t{1} << 32, ~uint64_t{0}}) {
        decode_with([&](Reference& r) { r.row = row; });
      }
      for (int seed = 0; seed < 50; ++seed) {
        Bytes bytes(right.data.begin(), right.data.end());
        if (seed % 2 == 0) {
          bytes = MakeInput(Kind::kRandom, DType::kBytes, size,
                            static_cast<uint64_t>(seed));
        } else {
          for (size_t flips = 1 + random.Below(3); flips > 0; --flips) {
            bytes[random.Below(size)] ^=
                static_cast<uint8_t>(1 << random.Below(8));
          }
        }
        decode_with([&](Reference& r) { r.data = bytes; });
      }
      for (const Kind kind : {Kind::kSpecial, Kind::kSparse}) {
        const Bytes bytes =
            MakeInput(kind, right.dtype, size / ElementBytes(right.dtype));
        decode_with([&](Reference& r) { r.data = bytes; });
      }
    }
    for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{7},
                                 uint64_t{1} << 40, ~uint64_t{0}}) {
      Context wrong = small.context;
      wrong.row = value;
      decode(wrong);
      wrong = small.context;
      wrong.position = value;
      decode(wrong);
    }
    const ByteSpan shared = small.context.shared;
    for (const size_t size :
         {size_t{0}, shared.size() / 2, shared.size() + 1}) {
      Bytes bytes(shared.begin(), shared.end());
      bytes.resize(size);
      Context wrong = small.context;
      wrong.shared = bytes;
      decode(wrong);
    }
    for (uint64_t seed = 0; seed < 20 && !shared.empty(); ++seed) {
      const Bytes bytes =
          MakeInput(Kind::kRandom, DType::kBytes, shared.size(), seed);
      Context wrong = small.context;
      wrong.shared = bytes;
      decode(wrong);
    }
  }
}

TEST_P(CodecTest, CodesAgainstReferencesOfPartsOfTheFrame) {
  // Half of the blocks are what lies beside them, the others are not.
  for (const Home& home : Homes()) {
    if (home.beside == Beside::kNothing) continue;
    constexpr size_t kBlock = 500;
    const size_t size = kBlock * ElementBytes(home.dtype);
    Input input = home.Make(8 * kBlock);
    for (size_t block = 0; block < 8; block += 2) {
      const Bytes other =
          MakeInput(Kind::kRandom, DType::kBytes, size, block + 10);
      std::ranges::copy(
          other, input.data.begin() + static_cast<ptrdiff_t>(block * size));
    }
    CheckRoundTrip(GetParam(), input.Request(size, home.level));
  }
}

TEST_P(CodecTest, NeedsItsReferences) {
  for (const Home& home : Homes()) {
    if (home.beside == Beside::kNothing) continue;
    const Bytes data = MakeInput(home.kind, home.dtype, 5000);
    Scratch scratch;
    EXPECT_EQ(
        encoder().plan({data, data.size(), home.dtype, home.level}, scratch),
        nullptr);
  }
}

INSTANTIATE_TEST_SUITE_P(All, CodecTest, testing::ValuesIn([] {
                           std::vector<CodecId> ids;
                           // Codecs of language models have tests of their own.
                           for (const Encoder* encoder : AllEncoders()) {
                             if (!FindDecoder(encoder->id)->needs_text_model)
                               ids.push_back(encoder->id);
                           }
                           return ids;
                         }()),
                         [](const testing::TestParamInfo<CodecId>& codec) {
                           return std::string(FindEncoder(codec.param)->name);
                         });

}  // namespace
}  // namespace zipllm::codecs
