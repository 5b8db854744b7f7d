#include "base/dtype.h"

#include <array>
#include <cstddef>

#include "base/bytes.h"

namespace zipllm {
namespace {

constexpr DTypeInfo kDTypes[] = {
#define ZIPLLM_DTYPE(id, symbol, name, block_elements, block_bytes) \
  {DType::k##symbol, name, block_elements, block_bytes},
#include "zipllm/dtype_list.inc"
#undef ZIPLLM_DTYPE
};

/// Entry of each number, or null. A list that is not in ascending order, or
/// that uses a number or a name twice, reaches the throw and so fails to
/// compile.
consteval std::array<const DTypeInfo*, 256> IndexByNumber() {
  std::array<const DTypeInfo*, 256> index{};
  int previous = -1;
  for (const DTypeInfo& info : kDTypes) {
    const int number = static_cast<int>(info.dtype);
    if (number <= previous) throw "dtype_list.inc: numbers must ascend";
    previous = number;
    for (const DTypeInfo* earlier : index) {
      if (earlier != nullptr && earlier->name == info.name) {
        throw "dtype_list.inc: name used twice";
      }
    }
    index[static_cast<size_t>(number)] = &info;
  }
  return index;
}
constexpr std::array<const DTypeInfo*, 256> kByNumber = IndexByNumber();

}  // namespace

const DTypeInfo* FindDType(DType dtype) {
  return kByNumber[static_cast<uint8_t>(dtype)];
}

std::span<const DTypeInfo> AllDTypes() { return kDTypes; }

bool ByteSize(const DTypeInfo& dtype, uint64_t elements, uint64_t* bytes) {
  return elements % dtype.block_elements == 0 &&
         CheckedMul(elements / dtype.block_elements, dtype.block_bytes, bytes);
}

}  // namespace zipllm
