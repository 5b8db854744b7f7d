// Input: an imatrix file of before GGUF.
#include "parser_properties.h"

namespace zipllm::parsers {
extern const Parser kImatrixParser;
}  // namespace zipllm::parsers

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zipllm::parsers::CheckParser(zipllm::parsers::kImatrixParser, {data, size});
  return 0;
}
