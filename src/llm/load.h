// Language models from GGUF files, with inference by the same bits everywhere.
#ifndef ZIPLLM_LLM_LOAD_H_
#define ZIPLLM_LLM_LOAD_H_

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "codecs/text/text_model.h"
#include "zipllm/io.h"

namespace zipllm::llm {

/// Reads the model in `gguf` (seekable): hyperparameters, tokenizer, weights.
/// INVALID_ARGUMENT where it is no GGUF file, or damaged; UNIMPLEMENTED for
/// architectures and weight types that are not known, naming them;
/// RESOURCE_EXHAUSTED where it would take more than `max_memory` bytes.
absl::StatusOr<std::shared_ptr<const codecs::TextModel>> LoadModel(
    Source& gguf, uint64_t max_memory);

}  // namespace zipllm::llm

#endif  // ZIPLLM_LLM_LOAD_H_
