// Input: a safetensors file; and once more, the JSON of its header alone.
#include <vector>

#include "base/bytes.h"
#include "parser_properties.h"

namespace zipllm::parsers {
extern const Parser kSafetensorsParser;
}  // namespace zipllm::parsers

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using zipllm::parsers::CheckParser;
  using zipllm::parsers::kSafetensorsParser;
  CheckParser(kSafetensorsParser, {data, size});

  std::vector<uint8_t> file(sizeof(uint64_t));
  zipllm::StoreLe<uint64_t>(file.data(), size);
  file.insert(file.end(), data, data + size);
  CheckParser(kSafetensorsParser, file);
  return 0;
}
