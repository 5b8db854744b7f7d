#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <new>

namespace zipllm {

struct Sha256::Context {
  EVP_MD_CTX* md = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  // Its configuration file says nothing about SHA-256 and takes long to read.
  [[maybe_unused]] static const int initialized =
      OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  // OpenSSL fails here only when memory is out.
  if (context_->md == nullptr ||
      EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) != 1) {
    throw std::bad_alloc();
  }
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(ByteSpan data) {
  EVP_DigestUpdate(context_->md, data.data(), data.size());
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest;
  EVP_DigestFinal_ex(context_->md, digest.data(), nullptr);
  return digest;
}

Sha256Digest Sha256Of(ByteSpan data) {
  Sha256 hash;
  hash.Update(data);
  return hash.Finish();
}

}  // namespace zipllm
