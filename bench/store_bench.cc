// How long it takes to find the models that a new one may be coded against, by
// how many models the catalogue of a store knows. Models are synthetic: each
// has as many tensors, of which only sketches are made, and is a fine-tune of
// one of a family of ten. Prints a line for each number of models.
//
// usage: store_bench [--models 1000,10000,100000] [--tensors 32]
//                    [--look-ups 300] [--folder DIR]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "store/candidates.h"
#include "store/catalogue.h"

namespace zipllm::store {
namespace {

constexpr size_t kFamily = 10;
// Of 512 bits; a fine-tune changes about 1 % of the signs.
constexpr size_t kChanged = 5;
// Sizes of tensors: few, as in models.
constexpr uint8_t kLog2Elements[] = {22, 24, 24, 24, 25};
constexpr size_t kLimit = 8;
// Models that are added at once.
constexpr uint64_t kPack = 100;

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// Of the processor, in this thread: what else the machine does counts less.
double CpuMilliseconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 +
         static_cast<double>(now.tv_nsec) / 1e6;
}

double Median(std::vector<double>& values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "store_bench: %s\n",
               std::string(status.message()).c_str());
  std::exit(1);
}

Sha256Digest DigestOf(uint64_t model, uint64_t tensor) {
  const uint64_t words[] = {model, tensor};
  uint8_t bytes[sizeof(words)];
  std::memcpy(bytes, words, sizeof(words));
  return Sha256Of(bytes);
}

Sha256Digest ManifestOf(uint64_t model) { return DigestOf(model, UINT64_MAX); }

// Tensor number `tensor` of a model, the same each time.
TensorSketch SketchOf(uint64_t model, uint64_t tensor) {
  TensorSketch sketch;
  sketch.object = DigestOf(model, tensor);
  sketch.log2_elements = kLog2Elements[tensor % std::size(kLog2Elements)];
  std::mt19937_64 base(model / kFamily * 65536 + tensor);
  for (uint64_t& word : sketch.bits) word = base();
  std::mt19937_64 random(~(model * 65536 + tensor));
  for (size_t i = 0; i < kChanged; ++i) {
    const uint64_t bit = random() % 512;
    sketch.bits[bit / 64] ^= uint64_t{1} << bit % 64;
  }
  return sketch;
}

// Models `begin` to `end`, in one pack.
void AddModels(Catalogue& catalogue, uint64_t begin, uint64_t end,
               uint64_t tensors) {
  PackRecord pack;
  char id[33];
  std::snprintf(id, sizeof(id), "%032llx",
                static_cast<unsigned long long>(begin));
  pack.id = id;
  for (uint64_t model = begin; model < end; ++model) {
    for (uint64_t tensor = 0; tensor < tensors; ++tensor) {
      pack.sketches.push_back(SketchOf(model, tensor));
      ObjectRecord object;
      object.sha256 = pack.sketches.back().object;
      object.dtype = DType::kBF16;
      object.depth = model % kFamily != 0;
      pack.objects.push_back(object);
    }
  }
  Check(catalogue.AddPack(pack));
  for (uint64_t model = begin; model < end; ++model) {
    std::vector<Sha256Digest> objects;
    for (uint64_t tensor = 0; tensor < tensors; ++tensor) {
      objects.push_back(DigestOf(model, tensor));
    }
    Check(catalogue.AddManifest(ManifestOf(model), objects));
  }
}

// A catalogue of so many models, and what was measured of it.
struct Case {
  uint64_t models;
  std::string path;
  std::unique_ptr<Catalogue> catalogue;
  double add = 0;             // ms a model
  std::vector<double> times;  // of look-ups, in ms
  std::vector<double> cpu_times;
  uint64_t found = 0;  // those whose first answer is right
};

// Looks up a fine-tune that is not there, of a family that is.
void LookUp(Case& of, uint64_t tensors, uint64_t number) {
  std::mt19937_64 random(number);
  const uint64_t family = random() % (of.models / kFamily) * kFamily;
  std::vector<TensorSketch> sketches;
  for (uint64_t tensor = 0; tensor < tensors; ++tensor) {
    TensorSketch sketch = SketchOf(family, tensor);
    sketch.object = DigestOf(UINT64_MAX - number, tensor);
    sketch.bits[random() % 8] ^= uint64_t{1} << random() % 64;
    sketches.push_back(sketch);
  }
  const Clock::time_point begin = Clock::now();
  const double cpu_begin = CpuMilliseconds();
  const auto candidates = FindCandidates(*of.catalogue, sketches, {}, kLimit);
  of.cpu_times.push_back(CpuMilliseconds() - cpu_begin);
  of.times.push_back(Milliseconds(Clock::now() - begin));
  Check(candidates.status());
  of.found +=
      !candidates->empty() && (*candidates)[0].manifest == ManifestOf(family);
}

void Run(std::vector<Case>& cases, uint64_t tensors, uint64_t look_ups) {
  for (Case& of : cases) {
    auto catalogue = Catalogue::Open(of.path, /*sync=*/false);
    Check(catalogue.status());
    of.catalogue = *std::move(catalogue);
    const Clock::time_point begin = Clock::now();
    for (uint64_t i = 0; i < of.models; i += kPack) {
      AddModels(*of.catalogue, i, std::min(i + kPack, of.models), tensors);
    }
    of.add =
        Milliseconds(Clock::now() - begin) / static_cast<double>(of.models);
  }
  // In turns: what else the machine does hits all alike.
  constexpr uint64_t kWarm = 10;
  for (uint64_t i = 0; i < kWarm + look_ups; ++i) {
    for (Case& of : cases) {
      LookUp(of, tensors, i);
      if (i >= kWarm) continue;
      of.times.clear();
      of.cpu_times.clear();
      of.found = 0;
    }
  }
  std::printf("%9s %9s %8s %9s %10s %7s %9s %9s %7s %7s\n", "models", "tensors",
              "MB", "add ms", "median ms", "x", "most ms", "cpu ms", "x",
              "found");
  double first = 0, first_cpu = 0;
  for (Case& of : cases) {
    const double median = Median(of.times), cpu = Median(of.cpu_times);
    if (first == 0) first = median;
    if (first_cpu == 0) first_cpu = cpu;
    std::printf(
        "%9llu %9llu %8.1f %9.2f %10.2f %7.2f %9.2f %9.2f %7.2f %6.1f%%\n",
        static_cast<unsigned long long>(of.models),
        static_cast<unsigned long long>(of.models * tensors),
        static_cast<double>(std::filesystem::file_size(of.path)) / 1e6, of.add,
        median, median / first, of.times.back(), cpu, cpu / first_cpu,
        100.0 * static_cast<double>(of.found) / static_cast<double>(look_ups));
  }
}

int Main(int argc, char** argv) {
  std::string models = "1000,10000,100000";
  std::string folder = std::filesystem::temp_directory_path();
  uint64_t tensors = 32;
  uint64_t look_ups = 300;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--models") models = argv[i + 1];
    if (name == "--folder") folder = argv[i + 1];
    if (name == "--tensors") tensors = std::stoull(argv[i + 1]);
    if (name == "--look-ups") look_ups = std::stoull(argv[i + 1]);
  }
  std::string made = folder + "/zipllm-store-bench-XXXXXX";
  if (mkdtemp(made.data()) == nullptr) {
    std::fprintf(stderr, "store_bench: no folder %s\n", made.c_str());
    return 1;
  }
  std::vector<Case> cases;
  for (std::istringstream list(models); list;) {
    std::string number;
    if (!std::getline(list, number, ',')) break;
    Case one{};
    one.models = std::max<uint64_t>(std::stoull(number), kFamily);
    one.path = made + "/" + number + ".sqlite";
    cases.push_back(std::move(one));
  }
  Run(cases, tensors, look_ups);
  cases.clear();
  std::filesystem::remove_all(made);
  return 0;
}

}  // namespace
}  // namespace zipllm::store

int main(int argc, char** argv) { return zipllm::store::Main(argc, argv); }
