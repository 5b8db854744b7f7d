#include "base/xxh3.h"

#include <xxhash.h>

namespace zipllm {

uint64_t Xxh3(ByteSpan data) { return XXH3_64bits(data.data(), data.size()); }

}  // namespace zipllm
