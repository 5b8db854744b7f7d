// What decoders make of inputs that no encoder wrote: codes that are random,
// cut, longer, or have bits and bytes changed, wrong parameters, wrong sizes.
// Each must end as an error or as some bytes (which are not the right ones
// where the archive's checksum then says so), in bounded time and memory.
//
//   hostile [INPUTS [SEED [CODEC...]]]    100000 1 21 22 23 24 25
//
// One thread. Exits with 1 where an input took longer than kMaxSeconds of CPU
// time, a second decoding gave something else, or memory went beyond
// kMaxResident. Damage to memory is for sanitized builds to see, which run it
// too.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "codecs/codec.h"
#include "codecs/generators.h"
#include "codecs/toy_text_model.h"
#include "llm/load.h"
#include "llm/tiny_model.h"
#include "zipllm/io.h"

namespace zipllm::codecs {
namespace {

/// Many times what it takes to read priors, even in a sanitized build.
constexpr double kMaxSeconds = 3;
constexpr double kMaxResident = 1024;  ///< MiB
/// Of a block, beside it: what `--memory` is by default.
constexpr uint64_t kMaxMemory = uint64_t{512} << 20;

using Bytes = std::vector<uint8_t>;

/// A frame of one block as an encoder wrote it.
struct Seed {
  Bytes plain;
  Bytes params;
  Bytes coded;
  const TextModel* model = nullptr;
};

double Seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         static_cast<double>(now.tv_nsec) / 1e9;
}

double ResidentMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// Language models of tests: by counts, without a token for some bytes, and a
/// small transformer.
std::vector<std::shared_ptr<const TextModel>> Models() {
  std::vector<std::shared_ptr<const TextModel>> models = {
      std::make_shared<ToyTextModel>(ToyTokens(),
                                     "the thing of the king and the end"),
      std::make_shared<ToyTextModel>(ToyTokens("eaz"), "the abc of the aba")};
  llm::TinyModel tiny;
  tiny.layers = 1;
  const Bytes gguf = tiny.Make();
  const auto source = MakeMemorySource(gguf, "tiny model");
  auto loaded = llm::LoadModel(*source, uint64_t{1} << 30);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.status().ToString().c_str());
    std::exit(1);
  }
  models.push_back(*loaded);
  return models;
}

/// Small blocks of each profile that the codec's encoder has.
std::vector<Seed> MakeSeeds(const Encoder& encoder, bool needs_model) {
  // They live as long as the program.
  static std::vector<std::shared_ptr<const TextModel>> models;
  if (needs_model && models.empty()) models = Models();
  std::vector<Seed> seeds;
  Scratch scratch;
  for (const Kind kind : {Kind::kText, Kind::kLines}) {
    for (const size_t size : {40, 300, 1000}) {
      const Bytes plain =
          MakeInput(kind, DType::kBytes, needs_model ? size / 2 : size, 3);
      for (int level = 3; level <= 9; ++level) {
        for (size_t m = 0; m < (needs_model ? models.size() : 1); ++m) {
          EncodeRequest request = {.data = plain,
                                   .block_size = plain.size(),
                                   .dtype = DType::kBytes,
                                   .level = level,
                                   .is_text = true,
                                   .is_lines = kind == Kind::kLines};
          if (needs_model) request.text_model = models[m].get();
          const auto plan = encoder.plan(request, scratch);
          Buffer coded;
          if (plan == nullptr || !plan->Encode(plain, scratch, &coded)) {
            continue;
          }
          Seed seed = {
              .plain = plain,
              .params = Bytes(plan->params().begin(), plan->params().end()),
              .coded = Bytes(coded.begin(), coded.end()),
              .model = request.text_model};
          const auto is_same = [&](const Seed& other) {
            return other.params == seed.params && other.coded == seed.coded &&
                   other.model == seed.model;
          };
          if (std::ranges::none_of(seeds, is_same)) {
            seeds.push_back(std::move(seed));
          }
        }
      }
    }
  }
  return seeds;
}

enum Damage {
  kRandomCode,
  kCut,
  kBits,
  kBytes,
  kLonger,
  kOfAnother,
  kSize,
  kParams,
  kDamages
};
constexpr std::array<const char*, kDamages> kDamageNames = {
    "random code", "cut",        "bits changed", "bytes changed",
    "bytes added", "of another", "another size", "wrong parameters"};

void FlipBits(Random& random, Bytes* bytes) {
  if (bytes->empty()) return;
  for (size_t n = 1 + random.Below(8); n > 0; --n) {
    (*bytes)[random.Below(bytes->size())] ^=
        static_cast<uint8_t>(1 << random.Below(8));
  }
}

/// Changes the seed's code, its parameters or its block's `size`.
void Spoil(Random& random, Damage damage, const Seed& other, Seed* seed,
           size_t* size) {
  Bytes& coded = seed->coded;
  switch (damage) {
    case kRandomCode:
      coded.resize(random.Below(2 * coded.size() + 2));
      for (uint8_t& byte : coded) byte = static_cast<uint8_t>(random.Next());
      break;
    case kCut:
      coded.resize(random.Below(coded.size()));
      break;
    case kBits:
      FlipBits(random, &coded);
      break;
    case kBytes: {
      const size_t begin = random.Below(coded.size());
      const size_t end = std::min(coded.size(), begin + 1 + random.Below(16));
      for (size_t i = begin; i < end; ++i) {
        coded[i] = static_cast<uint8_t>(random.Next() >> random.Below(9));
      }
      break;
    }
    case kLonger:
      for (size_t n = 1 + random.Below(40); n > 0; --n) {
        coded.insert(coded.begin() +
                         static_cast<ptrdiff_t>(random.Below(coded.size() + 1)),
                     static_cast<uint8_t>(random.Next()));
      }
      break;
    case kOfAnother:
      coded = other.coded;
      break;
    case kSize:
      *size = 1 + random.Below(random.Below(16) == 0 ? 1 << 16 : 2 * *size);
      break;
    case kParams:
      FlipBits(random, &seed->params);
      break;
    case kDamages:
      break;
  }
}

struct Counts {
  uint64_t refused = 0;
  uint64_t right = 0;
  uint64_t other = 0;  ///< bytes, but not the right ones
};

/// The bytes, or none where they are refused, which `*status` then tells.
Bytes Decode(const Decoder& decoder, const Seed& seed, size_t size,
             uint8_t before, absl::Status* status) {
  std::unique_ptr<const DecodeParams> params;
  // Of exactly this size, for sanitizers.
  const Bytes params_bytes = seed.params;
  if (decoder.parse != nullptr) {
    auto parsed = decoder.parse(params_bytes);
    *status = parsed.status();
    if (!parsed.ok()) return {};
    params = *std::move(parsed);
  }
  if (decoder.memory != nullptr &&
      decoder.memory(params.get(), size) > kMaxMemory) {
    *status = ResourceExhausted("more memory than the reader allows");
    return {};
  }
  Scratch scratch;
  Bytes out(size, before);
  if (decoder.decode_against != nullptr) {
    BlockContext context;
    context.text_model = seed.model;
    *status =
        decoder.decode_against(params.get(), context, seed.coded, out, scratch);
  } else {
    *status = decoder.decode(params.get(), seed.coded, out, scratch);
  }
  return status->ok() ? out : Bytes();
}

/// False where something is not as it must be.
bool Try(CodecId id, uint64_t inputs, uint64_t first_seed) {
  const Decoder& decoder = *FindDecoder(id);
  const std::vector<Seed> seeds =
      MakeSeeds(*FindEncoder(id), decoder.needs_text_model);
  if (seeds.empty()) {
    std::printf("%d %s: no seeds\n", id, std::string(decoder.name).c_str());
    return false;
  }
  std::array<Counts, kDamages> counts;
  double longest = 0;
  uint64_t longest_input = 0;
  const double start = Seconds();
  bool ok = true;
  for (uint64_t i = 0; i < inputs; ++i) {
    Random random((first_seed << 40) + i);
    Seed seed = seeds[random.Below(seeds.size())];
    const Seed& other = seeds[random.Below(seeds.size())];
    // What is wrong with parameters is found at once, or has a model primed.
    const Damage damage = random.Below(32) == 0
                              ? kParams
                              : static_cast<Damage>(random.Below(kParams));
    size_t size = seed.plain.size();
    Spoil(random, damage, other, &seed, &size);
    absl::Status status;
    const double begin = Seconds();
    const Bytes out = Decode(decoder, seed, size, 0, &status);
    const double took = Seconds() - begin;
    if (took > longest) {
      longest = took;
      longest_input = i;
    }
    Counts& count = counts[damage];
    if (!status.ok()) {
      ++count.refused;
    } else if (out == seed.plain) {
      ++count.right;
    } else {
      ++count.other;
    }
    if (i % 8 == 0) {
      absl::Status again;
      if (Decode(decoder, seed, size, 0xA5, &again) != out ||
          again.code() != status.code()) {
        std::printf("input %llu: decoded twice, it differs\n",
                    static_cast<unsigned long long>(i));
        ok = false;
      }
    }
    if (took > kMaxSeconds) {
      std::printf("input %llu took %.2f s\n",
                  static_cast<unsigned long long>(i), took);
      ok = false;
    }
  }
  std::printf("%d %s: %llu inputs of %zu seeds in %.0f s\n", id,
              std::string(decoder.name).c_str(),
              static_cast<unsigned long long>(inputs), seeds.size(),
              Seconds() - start);
  std::printf("  %-16s %10s %10s %12s\n", "", "error", "right", "other bytes");
  Counts sum;
  const auto print = [](const char* name, const Counts& count) {
    std::printf("  %-16s %10llu %10llu %12llu\n", name,
                static_cast<unsigned long long>(count.refused),
                static_cast<unsigned long long>(count.right),
                static_cast<unsigned long long>(count.other));
  };
  for (size_t d = 0; d < kDamages; ++d) {
    print(kDamageNames[d], counts[d]);
    sum.refused += counts[d].refused;
    sum.right += counts[d].right;
    sum.other += counts[d].other;
  }
  print("all", sum);
  std::printf("  longest %.3f s (input %llu), peak %.0f MiB resident\n",
              longest, static_cast<unsigned long long>(longest_input),
              ResidentMiB());
  std::fflush(stdout);
  return ok && ResidentMiB() <= kMaxResident;
}

}  // namespace
}  // namespace zipllm::codecs

int main(int argc, char** argv) {
  const uint64_t inputs =
      argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::vector<zipllm::codecs::CodecId> codecs;
  for (int i = 3; i < argc; ++i) {
    const auto id = static_cast<zipllm::codecs::CodecId>(
        std::strtoul(argv[i], nullptr, 10));
    if (zipllm::codecs::FindEncoder(id) == nullptr) {
      std::fprintf(stderr, "no codec %s\n", argv[i]);
      return 2;
    }
    codecs.push_back(id);
  }
  if (codecs.empty()) codecs = {21, 22, 23, 24, 25};
  bool ok = true;
  for (const auto id : codecs) ok &= zipllm::codecs::Try(id, inputs, seed);
  return ok ? 0 : 1;
}
