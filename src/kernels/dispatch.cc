#include <cstdlib>
#include <cstring>

#include "kernels/kernels.h"

namespace zipllm::kernels {
namespace {

#if defined(__x86_64__)
bool CpuHasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}
bool CpuHasAvx512() {
  return CpuHasAvx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("avx512vnni");
}
#else
bool CpuHasAvx2() { return false; }
bool CpuHasAvx512() { return false; }
#endif

const Table& Choose() {
  const char* wanted = std::getenv("ZIPLLM_CPU");
  constexpr Target kBestFirst[] = {Target::kAvx512, Target::kAvx2,
                                   Target::kNeon};
  for (Target target : kBestFirst) {
    const Table* table = Find(target);
    if (table == nullptr) continue;
    if (wanted == nullptr || std::strcmp(wanted, table->name) == 0)
      return *table;
  }
  return *ScalarTable();
}

}  // namespace

const Table* Find(Target target) {
  switch (target) {
    case Target::kScalar:
      return ScalarTable();
    case Target::kNeon:
      return NeonTable();
    case Target::kAvx2:
      return CpuHasAvx2() ? Avx2Table() : nullptr;
    case Target::kAvx512:
      return CpuHasAvx512() ? Avx512Table() : nullptr;
  }
  return nullptr;
}

const Table& Best() {
  static const Table& best = Choose();
  return best;
}

}  // namespace zipllm::kernels
