// Speed of each kernel on each target this CPU has, beside memcpy. Data lie in
// the cache: 64 Ki symbols of the distribution of BF16 exponents.
#include <benchmark/benchmark.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "entropy/rans_tables.h"
#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

constexpr size_t kCount = 65536;
constexpr size_t kStepsOfCall = 64;  // what codecs decode at a time

/// Symbols with about 2.7 bits each, every sixteenth of them bare, and what
/// coding them takes.
struct Coding {
  explicit Coding(size_t stream_count) : streams(stream_count) {
    entropy::Counts counts{};
    for (size_t i = 0; i < kMaxSymbols; ++i) {
      counts[i] = uint64_t{1000000} >> (i / 2);
    }
    const entropy::Frequencies frequencies = entropy::Normalize(counts);
    std::array<uint16_t, kMaxSymbols> symbol_keys;
    for (size_t i = 0; i < kMaxSymbols; ++i) {
      symbol_keys[i] = static_cast<uint16_t>(i << 2 | (i >= 8 ? kKeyBare : 0));
    }
    entropy::BuildDecodeTable(frequencies, symbol_keys, decode.get());
    entropy::BuildEncodeTable(frequencies, encode.get());
    std::mt19937 random(1);
    std::vector<uint8_t> slots;
    for (size_t i = 0; i < kMaxSymbols; ++i) {
      slots.insert(slots.end(), frequencies[i], static_cast<uint8_t>(i));
    }
    for (uint8_t& symbol : symbols) symbol = slots[random() % kSlots];
    first_states = Encode(*ScalarTable());
  }

  /// Returns the states. The words are in `words`, from `ends` on.
  std::vector<uint32_t> Encode(const Table& table) {
    std::vector<uint32_t> states(streams * kLanes, kStateLow);
    for (size_t s = 0; s < streams; ++s) {
      ends[s] = WordsEnd(s);
    }
    const size_t step = streams * kLanes;
    for (size_t end = kCount; end > 0; end -= kStepsOfCall * step) {
      table.rans_encode(states.data(), static_cast<int>(streams), *encode,
                        symbols.data() + end - kStepsOfCall * step,
                        kStepsOfCall, ends.data());
    }
    return states;
  }

  uint8_t* WordsEnd(size_t stream) {
    return words.data() + words.size() / streams * (stream + 1);
  }

  bool Decode(const Table& table) {
    std::array<RansStream, kMaxStreams> state;
    for (size_t s = 0; s < streams; ++s) {
      std::memcpy(state[s].states, &first_states[s * kLanes],
                  sizeof state[s].states);
      state[s].words = ends[s];
      state[s].words_end = WordsEnd(s);
      state[s].extra = extra.data();
      state[s].extra_end = extra.data() + extra.size();
      state[s].extra_bit = 0;
      state[s].escapes = state[s].escapes_end = nullptr;
    }
    bool complete = true;
    const size_t step = streams * kLanes;
    for (size_t i = 0; i < kCount; i += kStepsOfCall * step) {
      complete &= table.rans_decode(state.data(), static_cast<int>(streams),
                                    *decode, keys.data() + i, kStepsOfCall);
    }
    return complete;
  }

  size_t streams;
  std::unique_ptr<RansDecodeTable> decode = std::make_unique<RansDecodeTable>();
  std::unique_ptr<RansEncodeTable> encode = std::make_unique<RansEncodeTable>();
  std::vector<uint8_t> symbols = std::vector<uint8_t>(kCount);
  std::vector<uint8_t> words = std::vector<uint8_t>(2 * kCount);
  std::vector<uint8_t> extra = std::vector<uint8_t>(kCount / 4 + 16, 0x9c);
  std::vector<uint16_t> keys = std::vector<uint16_t>(kCount);
  std::array<uint8_t*, kMaxStreams> ends;
  std::vector<uint32_t> first_states;
};

/// Symbols or values a second, and bytes a second of `size` bytes each.
void Report(benchmark::State& state, size_t size) {
  state.SetItemsProcessed(state.iterations() * int64_t{kCount});
  state.SetBytesProcessed(state.iterations() * int64_t{kCount} *
                          static_cast<int64_t>(size));
}

std::vector<uint16_t> Values() {
  std::mt19937 random(2);
  std::vector<uint16_t> values(kCount);
  for (uint16_t& value : values) value = static_cast<uint16_t>(random());
  return values;
}

void Memcpy(benchmark::State& state) {
  const std::vector<uint16_t> from = Values();
  std::vector<uint16_t> to(kCount);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), 2 * kCount);
    benchmark::ClobberMemory();
  }
  Report(state, 2);
}
BENCHMARK(Memcpy);

void RansDecode(benchmark::State& state, const Table& table, size_t streams) {
  Coding coding(streams);
  for (auto _ : state) {
    if (!coding.Decode(table)) state.SkipWithError("decoding failed");
  }
  Report(state, 2);
}

void RansEncode(benchmark::State& state, const Table& table, size_t streams) {
  Coding coding(streams);
  for (auto _ : state) benchmark::DoNotOptimize(coding.Encode(table));
  Report(state, 2);
}

void ExtractPlane(benchmark::State& state, const Table& table, int width) {
  const std::vector<uint16_t> values = Values();
  std::vector<uint8_t> plane(kCount);
  for (auto _ : state) {
    table.extract_plane(values.data(), kCount / kGroup, width, 3, plane.data());
    benchmark::ClobberMemory();
  }
  Report(state, 2);
}

void InsertPlane(benchmark::State& state, const Table& table, int width) {
  std::vector<uint16_t> values = Values();
  const std::vector<uint8_t> plane(kCount, 0x5a);
  for (auto _ : state) {
    table.insert_plane(values.data(), kCount / kGroup, width, 3, plane.data());
    benchmark::ClobberMemory();
  }
  Report(state, 2);
}

/// `range` keys differ from the rest.
void MapSymbols(benchmark::State& state, const Table& table, size_t range) {
  const std::vector<uint16_t> values = Values();
  std::vector<uint8_t> map(1024, 31);
  for (size_t i = 0; i < range; ++i) map[i] = static_cast<uint8_t>(i % 31);
  std::vector<uint8_t> symbols(kCount);
  for (auto _ : state) {
    table.map_symbols(values.data(), kCount, 5, 1023, map.data(),
                      symbols.data());
    benchmark::ClobberMemory();
  }
  Report(state, 2);
}

void PlaceKeys(benchmark::State& state, const Table& table) {
  const std::vector<uint16_t> keys = Values();
  std::vector<uint16_t> values(kCount);
  for (auto _ : state) {
    table.place_keys(keys.data(), kCount, 5, values.data());
    benchmark::ClobberMemory();
  }
  Report(state, 2);
}

void SplitHalves(benchmark::State& state, const Table& table) {
  const std::vector<uint8_t> elements(4 * kCount, 7);
  std::vector<uint16_t> low(kCount), high(kCount);
  for (auto _ : state) {
    table.split_halves(elements.data(), kCount, low.data(), high.data());
    benchmark::ClobberMemory();
  }
  Report(state, 4);
}

void JoinHalves(benchmark::State& state, const Table& table) {
  const std::vector<uint16_t> low = Values(), high = Values();
  std::vector<uint8_t> elements(4 * kCount);
  for (auto _ : state) {
    table.join_halves(low.data(), high.data(), kCount, elements.data());
    benchmark::ClobberMemory();
  }
  Report(state, 4);
}

void Xxh3(benchmark::State& state, const Table& table) {
  const std::vector<uint8_t> data(2 * kCount, 7);
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.xxh3(data.data(), data.size()));
  }
  Report(state, 2);
}

void RegisterTarget(const Table& table) {
  const auto add = [&](const std::string& name, auto function, auto... args) {
    benchmark::RegisterBenchmark((name + "/" + table.name).c_str(),
                                 [=, &table](benchmark::State& state) {
                                   function(state, table, args...);
                                 });
  };
  for (size_t streams : {size_t{1}, kMaxStreams}) {
    const std::string count = std::to_string(streams);
    add("RansDecode" + count, RansDecode, streams);
    add("RansEncode" + count, RansEncode, streams);
  }
  for (int width : {1, 4, 8}) {
    add("ExtractPlane" + std::to_string(width), ExtractPlane, width);
    add("InsertPlane" + std::to_string(width), InsertPlane, width);
  }
  add("MapSymbols128", MapSymbols, size_t{128});
  add("MapSymbols1024", MapSymbols, size_t{1024});
  add("PlaceKeys", PlaceKeys);
  add("SplitHalves", SplitHalves);
  add("JoinHalves", JoinHalves);
  add("Xxh3", Xxh3);
}

}  // namespace
}  // namespace zipllm::kernels

int main(int argc, char** argv) {
  using zipllm::kernels::Target;
  for (Target target :
       {Target::kScalar, Target::kNeon, Target::kAvx2, Target::kAvx512}) {
    const zipllm::kernels::Table* table = zipllm::kernels::Find(target);
    if (table != nullptr) zipllm::kernels::RegisterTarget(*table);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
