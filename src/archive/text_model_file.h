// The language model that the user gives for text.
#ifndef ZIPLLM_ARCHIVE_TEXT_MODEL_FILE_H_
#define ZIPLLM_ARCHIVE_TEXT_MODEL_FILE_H_

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/status.h"
#include "codecs/text/text_model.h"

namespace zipllm::archive {

/// A GGUF file that is read when it is needed. Thread-safe.
class TextModelFile {
 public:
  explicit TextModelFile(std::string path) : path_(std::move(path)) {}
  /// The model, which lives as long as this.
  absl::StatusOr<const codecs::TextModel*> Get();

 private:
  const std::string path_;
  std::mutex mutex_;
  std::optional<absl::StatusOr<std::shared_ptr<const codecs::TextModel>>>
      loaded_;
};

/// Null where `path` is empty.
std::shared_ptr<TextModelFile> OpenTextModel(const std::string& path);

}  // namespace zipllm::archive

#endif  // ZIPLLM_ARCHIVE_TEXT_MODEL_FILE_H_
