// Input: a .npz file.
#include "parser_properties.h"

namespace zipllm::parsers {
extern const Parser kNpzParser;
}  // namespace zipllm::parsers

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  zipllm::parsers::CheckParser(zipllm::parsers::kNpzParser, {data, size});
  return 0;
}
