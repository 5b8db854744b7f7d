// Input: a GGUF file.
#include "parser_properties.h"

namespace zipllm::parsers {
extern const Parser kGgufParser;
}  // namespace zipllm::parsers

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zipllm::parsers::CheckParser(zipllm::parsers::kGgufParser, {data, size});
  return 0;
}
