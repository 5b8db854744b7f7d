// Speed of each quantizer on each target this CPU has, in bytes of BF16 source
// (two a weight) a second, one core. 64 rows of 4096 weights, bell-shaped.
#include <benchmark/benchmark.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "quantizers/quantizer.h"

namespace zipllm::quantizers {
namespace {

constexpr size_t kRows = 64;
constexpr size_t kColumns = 4096;

struct Input {
  Input() {
    std::mt19937 random(1);
    std::normal_distribution<float> bell(0.0f, 0.05f);
    for (float& weight : weights) weight = bell(random);
    for (float& counts : importance) {
      const float root = bell(random);
      counts = root * root;
    }
  }
  std::vector<float> weights = std::vector<float>(kRows * kColumns);
  std::vector<float> importance = std::vector<float>(kColumns);
};

void Quantize(benchmark::State& state, const Quantizer& quantizer,
              kernels::Target target) {
  static const Input kInput;
  const DTypeInfo& info = *FindDType(quantizer.dtype);
  std::vector<uint8_t> blocks(kRows * kColumns / info.block_elements *
                              info.block_bytes);
  for (auto _ : state) {
    quantizer.For(target)(
        kInput.weights.data(), kRows, kColumns,
        quantizer.needs_importance ? kInput.importance.data() : nullptr,
        blocks.data());
    benchmark::DoNotOptimize(blocks.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(2 * kRows * kColumns));
}

void RegisterAll() {
  using kernels::Target;
  for (const Quantizer* quantizer : AllQuantizers()) {
    for (const auto& [target, name] : {std::pair(Target::kScalar, "scalar"),
                                       std::pair(Target::kAvx2, "avx2"),
                                       std::pair(Target::kAvx512, "avx512")}) {
      if (target != Target::kScalar && target > kernels::Best().target) {
        continue;
      }
      benchmark::RegisterBenchmark(
          (std::string(quantizer->name) + "/" + name).c_str(), Quantize,
          *quantizer, target)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace zipllm::quantizers

int main(int argc, char** argv) {
  zipllm::quantizers::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
