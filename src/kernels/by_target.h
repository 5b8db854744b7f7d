// What is compiled once for each target: which of them is to be used.
#ifndef ZIPLLM_KERNELS_BY_TARGET_H_
#define ZIPLLM_KERNELS_BY_TARGET_H_

#include "kernels/kernels.h"

namespace zipllm::kernels {

/// Objects or functions that do the same, each compiled for a target, those of
/// other machines null; NEON takes `scalar`. ZIPLLM_BY_TARGET makes it. Asked
/// by files only that are compiled for any machine.
template <typename T>
struct ByTarget {
  const T* scalar;
  const T* avx2;
  const T* avx512;

  /// The fastest for this machine, or the one that ZIPLLM_CPU names.
  const T& Best() const {
    switch (kernels::Best().target) {
      case Target::kAvx2:
        return *avx2;
      case Target::kAvx512:
        return *avx512;
      default:
        return *scalar;
    }
  }
  /// Null where this machine or program has none.
  const T* Find(Target target) const {
    if (kernels::Find(target) == nullptr) return nullptr;
    switch (target) {
      case Target::kAvx2:
        return avx2;
      case Target::kAvx512:
        return avx512;
      default:
        return scalar;
    }
  }
};

}  // namespace zipllm::kernels

/// A ByTarget of `name`Scalar, `name`Avx2 and `name`Avx512.
#if defined(__x86_64__)
#define ZIPLLM_BY_TARGET(name) \
  { &name##Scalar, &name##Avx2, &name##Avx512 }
#else
#define ZIPLLM_BY_TARGET(name) \
  { &name##Scalar, nullptr, nullptr }
#endif

#endif  // ZIPLLM_KERNELS_BY_TARGET_H_
