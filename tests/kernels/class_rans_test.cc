// rANS with a table by class: every target that this CPU has against the
// scalar kernels, which are the definition.
#include "entropy/class_rans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

using Random = std::mt19937;

size_t Below(Random& random, size_t bound) { return random() % bound; }

/// Heap memory of exactly these values, so that a sanitizer sees what is
/// touched beyond.
template <typename T>
class Exact {
 public:
  explicit Exact(size_t size) : size_(size), data_(new T[size]()) {}
  explicit Exact(const std::vector<T>& values) : Exact(values.size()) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return data_.get(); }
  T* end() { return data() + size_; }
  std::vector<T> ToVector() { return {data(), end()}; }

 private:
  size_t size_;
  std::unique_ptr<T[]> data_;
};

/// Tables from one symbol to all 256.
entropy::ClassFrequencies MakeTables(Random& random, size_t classes) {
  entropy::ClassFrequencies tables;
  for (size_t c = 0; c < classes; ++c) {
    entropy::ByteCounts counts{};
    const size_t symbols = c == 0 ? 1 : c == 1 ? 256 : 1 + Below(random, 256);
    const size_t skew = 1 + Below(random, 20);
    for (size_t i = 0; i < symbols; ++i) {
      counts[symbols == 256 ? i : Below(random, 256)] +=
          1 + static_cast<uint32_t>(random() % 4096 >> Below(random, skew));
    }
    tables.push_back(entropy::NormalizeBytes(counts));
  }
  return tables;
}

struct Symbols {
  std::vector<uint8_t> symbols, classes;  // steps x streams x kLanes
};

Symbols Draw(Random& random, const entropy::ClassFrequencies& tables,
             size_t count) {
  const entropy::ClassDecodeTables decode(tables);
  Symbols drawn;
  for (size_t i = 0; i < count; ++i) {
    const size_t c = Below(random, tables.size());
    drawn.classes.push_back(static_cast<uint8_t>(c));
    drawn.symbols.push_back(
        static_cast<uint8_t>(decode.slots()[c][Below(random, kSlots)] >> 24));
  }
  return drawn;
}

struct Coded {
  std::vector<uint32_t> states;  // streams x kLanes
  std::vector<std::vector<uint8_t>> words;
  bool operator==(const Coded&) const = default;
};

Coded Encode(const Table& kernels, const entropy::ClassEncodeTables& tables,
             const Symbols& drawn, size_t streams, std::vector<uint32_t> states,
             size_t call_steps) {
  const size_t step = streams * kLanes;
  const size_t steps = drawn.symbols.size() / step;
  std::vector<Exact<uint8_t>> room;
  std::vector<uint8_t*> ends;
  for (size_t s = 0; s < streams; ++s) {
    room.emplace_back(2 * steps * kLanes);
    ends.push_back(room[s].end());
  }
  Exact<uint8_t> symbols(drawn.symbols), classes(drawn.classes);
  for (size_t left = steps; left > 0;) {
    const size_t now = std::min(call_steps, left);
    left -= now;
    kernels.class_rans_encode(states.data(), static_cast<int>(streams),
                              tables.ranges(), classes.data() + left * step,
                              symbols.data() + left * step, now, ends.data());
  }
  Coded coded;
  coded.states = std::move(states);
  for (size_t s = 0; s < streams; ++s) {
    coded.words.emplace_back(ends[s], room[s].end());
  }
  return coded;
}

struct Decoded {
  bool complete;
  std::vector<uint8_t> symbols;
  std::vector<uint32_t> states;
  std::vector<size_t> words_left;
  bool operator==(const Decoded&) const = default;
};

Decoded Decode(const Table& kernels, const entropy::ClassDecodeTables& tables,
               const std::vector<uint8_t>& classes_of, const Coded& coded,
               size_t call_steps) {
  const size_t streams = coded.words.size();
  const size_t step = streams * kLanes;
  const size_t steps = classes_of.size() / step;
  std::vector<Exact<uint8_t>> words;
  std::vector<ClassStream> state(streams);
  for (size_t s = 0; s < streams; ++s) {
    std::copy_n(&coded.states[s * kLanes], kLanes, state[s].states);
    words.emplace_back(coded.words[s]);
    state[s].words = words[s].data();
    state[s].words_end = words[s].end();
  }
  Exact<uint8_t> classes(classes_of), symbols(classes_of.size());
  Decoded decoded;
  decoded.complete = true;
  for (size_t done = 0; done < steps; done += call_steps) {
    decoded.complete &= kernels.class_rans_decode(
        state.data(), static_cast<int>(streams), tables.slots(),
        classes.data() + done * step, symbols.data() + done * step,
        std::min(call_steps, steps - done));
  }
  decoded.symbols = symbols.ToVector();
  for (const ClassStream& stream : state) {
    decoded.states.insert(decoded.states.end(), stream.states,
                          stream.states + kLanes);
    decoded.words_left.push_back(
        static_cast<size_t>(stream.words_end - stream.words));
  }
  return decoded;
}

class ClassRansTest : public testing::TestWithParam<Target> {
 protected:
  void SetUp() override {
    table_ = Find(GetParam());
    if (table_ == nullptr) GTEST_SKIP() << "not on this CPU";
  }
  const Table& scalar_ = *ScalarTable();
  const Table* table_ = nullptr;
  Random random_{20261121};
};

std::string NameOf(const testing::TestParamInfo<Target>& target) {
  constexpr const char* kNames[] = {"Scalar", "Neon", "Avx2", "Avx512"};
  return kNames[static_cast<size_t>(target.param)];
}
INSTANTIATE_TEST_SUITE_P(Targets, ClassRansTest,
                         testing::Values(Target::kScalar, Target::kNeon,
                                         Target::kAvx2, Target::kAvx512),
                         NameOf);

TEST_P(ClassRansTest, EncodesAsScalarAndDecodes) {
  for (size_t classes : {1, 2, 64}) {
    const entropy::ClassFrequencies tables = MakeTables(random_, classes);
    const entropy::ClassEncodeTables encode(tables);
    const entropy::ClassDecodeTables decode(tables);
    for (size_t streams : {size_t{1}, kMaxStreams}) {
      for (size_t steps : {0, 1, 2, 7, 50, 300}) {
        for (size_t call_steps : {8, 1000}) {
          SCOPED_TRACE(testing::Message()
                       << classes << " classes, " << streams << " streams, "
                       << steps << " steps by " << call_steps);
          const Symbols drawn = Draw(random_, tables, steps * streams * kLanes);
          const std::vector<uint32_t> low(streams * kLanes, kStateLow);
          const Coded wanted =
              Encode(scalar_, encode, drawn, streams, low, 1000);
          const Coded coded =
              Encode(*table_, encode, drawn, streams, low, call_steps);
          ASSERT_TRUE(coded == wanted);
          const Decoded decoded =
              Decode(*table_, decode, drawn.classes, coded, call_steps);
          ASSERT_TRUE(decoded.complete);
          ASSERT_EQ(decoded.symbols, drawn.symbols);
          ASSERT_THAT(decoded.words_left, testing::Each(0u));
          ASSERT_THAT(decoded.states, testing::Each(kStateLow));
        }
      }
    }
  }
}

/// States anywhere in the range, and near the multiples of the frequency, where
/// quotients change.
TEST_P(ClassRansTest, EncodesFromAnyState) {
  const entropy::ClassFrequencies tables = MakeTables(random_, 64);
  const entropy::ClassEncodeTables encode(tables);
  for (int round = 0; round < 1000; ++round) {
    const Symbols drawn = Draw(random_, tables, kMaxStreams * kLanes);
    std::vector<uint32_t> states(kMaxStreams * kLanes);
    for (size_t i = 0; i < states.size(); ++i) {
      const uint64_t frequency = tables[drawn.classes[i]][drawn.symbols[i]];
      const uint64_t state =
          frequency * (random_() >> Below(random_, 20)) + Below(random_, 3);
      states[i] = static_cast<uint32_t>(
          std::clamp<uint64_t>(state - 1, kStateLow, 0xffffffff));
    }
    ASSERT_TRUE(Encode(*table_, encode, drawn, kMaxStreams, states, 1) ==
                Encode(scalar_, encode, drawn, kMaxStreams, states, 1));
  }
}

TEST_P(ClassRansTest, DecodesGarbageAsScalar) {
  entropy::ClassFrequencies tables = MakeTables(random_, 5);
  tables[3].fill(0);  // a class without symbols
  const entropy::ClassDecodeTables decode(tables);
  int failures = 0;
  for (int round = 0; round < 1000; ++round) {
    const size_t streams = round % 2 == 0 ? 1 : kMaxStreams;
    Coded coded;
    for (size_t i = 0; i < streams * kLanes; ++i) {
      const auto state = static_cast<uint32_t>(random_());
      coded.states.push_back(random_() % 8 == 0 ? state >> Below(random_, 32)
                                                : state);
    }
    for (size_t s = 0; s < streams; ++s) {
      std::vector<uint8_t> words(2 * Below(random_, 300));
      for (uint8_t& byte : words) byte = static_cast<uint8_t>(random_());
      coded.words.push_back(words);
    }
    std::vector<uint8_t> classes(Below(random_, 20) * streams * kLanes);
    for (uint8_t& c : classes) {
      c = static_cast<uint8_t>(Below(random_, tables.size()));
    }
    const Decoded wanted = Decode(scalar_, decode, classes, coded, 1000);
    ASSERT_TRUE(Decode(*table_, decode, classes, coded,
                       1 + Below(random_, 20)) == wanted);
    failures += !wanted.complete;
  }
  EXPECT_GT(failures, 0);
}

TEST_P(ClassRansTest, NoticesAMissingWord) {
  const entropy::ClassFrequencies tables = MakeTables(random_, 8);
  const entropy::ClassDecodeTables decode(tables);
  for (size_t streams : {size_t{1}, kMaxStreams}) {
    const Symbols drawn = Draw(random_, tables, 40 * streams * kLanes);
    const Coded coded =
        Encode(scalar_, entropy::ClassEncodeTables(tables), drawn, streams,
               std::vector<uint32_t>(streams * kLanes, kStateLow), 40);
    for (size_t s = 0; s < streams; ++s) {
      Coded cut = coded;
      ASSERT_GE(cut.words[s].size(), 2u);
      cut.words[s].resize(cut.words[s].size() - 2);
      const Decoded decoded = Decode(*table_, decode, drawn.classes, cut, 1000);
      EXPECT_FALSE(decoded.complete);
      EXPECT_TRUE(decoded == Decode(scalar_, decode, drawn.classes, cut, 1000));
    }
  }
}

}  // namespace
}  // namespace zipllm::kernels
