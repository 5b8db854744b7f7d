#ifndef ZIPLLM_BASE_HASH_H_
#define ZIPLLM_BASE_HASH_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "zipllm/types.h"

namespace zipllm {

/// Content name: equal to Git LFS, OCI and Hugging Face ids.
using Sha256Digest = std::array<uint8_t, 32>;

/// Incremental SHA-256. Thread-compatible.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void Update(ByteSpan data);
  /// The digest of all updates; the object may not be used afterwards.
  Sha256Digest Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Sha256Digest Sha256Of(ByteSpan data);

/// Two digits of 0-9 and a-f for each byte.
std::string Hex(ByteSpan bytes);
/// 64 such digits; nullopt for anything else.
std::optional<Sha256Digest> ParseSha256(std::string_view hex);

}  // namespace zipllm

#endif  // ZIPLLM_BASE_HASH_H_
