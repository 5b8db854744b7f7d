#include "archive/text_model_file.h"

#include "llm/load.h"
#include "zipllm/io.h"

namespace zipllm::archive {
namespace {

// Weights of 4 bits as 8, keys and values, and what a small file may need.
constexpr uint64_t kExpansion = 4;
constexpr uint64_t kAtLeast = uint64_t{1} << 30;

absl::StatusOr<std::shared_ptr<const codecs::TextModel>> Load(
    const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Source> source, OpenFileSource(path));
  const uint64_t size = source->Size().value_or(0);
  return llm::LoadModel(*source, size * kExpansion + kAtLeast);
}

}  // namespace

absl::StatusOr<const codecs::TextModel*> TextModelFile::Get() {
  std::lock_guard lock(mutex_);
  if (!loaded_.has_value()) loaded_ = Load(path_);
  RETURN_IF_ERROR(loaded_->status());
  return loaded_->value().get();
}

std::shared_ptr<TextModelFile> OpenTextModel(const std::string& path) {
  return path.empty() ? nullptr : std::make_shared<TextModelFile>(path);
}

}  // namespace zipllm::archive
