// Input: a GGUF file of a language model, which reads some tokens.
#include <cstdint>
#include <memory>

#include "check.h"
#include "llm/load.h"
#include "zipllm/io.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using zipllm::codecs::TextModel;
  constexpr uint64_t kMemory = 64 << 20;
  const std::unique_ptr<zipllm::Source> source =
      zipllm::MakeMemorySource({data, size});
  const auto model = zipllm::llm::LoadModel(*source, kMemory);
  if (!model.ok()) return 0;
  const size_t count = (*model)->vocabulary().size();
  const auto session = (*model)->Start(1, 1, kMemory);
  if (!session.ok()) return 0;
  uint32_t token = TextModel::kBegin;
  for (uint32_t i = 0; i < 4; ++i) {
    (*session)->Step({&token, 1});
    const auto sums = (*session)->Sums(0);
    FUZZ_CHECK(sums.size() == count + 1);
    for (size_t k = 0; k < count; ++k) FUZZ_CHECK(sums[k] < sums[k + 1]);
    token = static_cast<uint32_t>(i * 31 % count);
  }
  return 0;
}
