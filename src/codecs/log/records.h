// A block as records (lines, as a rule) of tokens: what an encoder of logs
// looks for templates in.
#ifndef ZIPLLM_CODECS_LOG_RECORDS_H_
#define ZIPLLM_CODECS_LOG_RECORDS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"

namespace zipllm::codecs::log {

/// A part of a record. Between tokens are gaps: spaces and punctuation.
struct Token {
  uint32_t begin;  ///< in the block
  uint32_t end;
  /// Hash of a word, which may be a literal; 0: a value.
  uint32_t word;
};

struct Record {
  uint32_t begin;  ///< in the block; ends where the next one begins
  uint32_t end;
  uint32_t first_token;
  uint32_t end_token;
  uint64_t shape;  ///< hash of the gaps, and of which tokens are words
  uint64_t words;  ///< sum of WordAt
};

struct Records {
  std::vector<Token> tokens;
  std::vector<Record> records;
};

/// How records are cut into tokens.
struct Splitter {
  /// Whether it is made for such a block: by its records' samples.
  bool (*fits)(ByteSpan block);
  /// Appends the tokens of bytes `begin` to `end` of the block, a record.
  void (*split)(ByteSpan block, size_t begin, size_t end,
                std::vector<Token>* tokens);
};

/// Cuts `block` (below 4 GiB) into records and tokens; nothing where records
/// are too short to gain from templates.
std::optional<Records> Split(ByteSpan block);

/// One hash of two: a step of those here.
inline uint64_t Mix(uint64_t a, uint64_t b) {
  const uint64_t x = (a ^ b) * 0x9E3779B97F4A7C15;
  return x ^ x >> 32;
}

/// Not for untrusted adversaries: whoever looks something up by it compares.
inline uint64_t HashBytes(ByteSpan bytes) {
  const uint8_t* p = bytes.data();
  size_t n = bytes.size();
  uint64_t hash = n * 0xD6E8FEB86659FD93;
  for (; n >= 8; n -= 8, p += 8) hash = Mix(hash, LoadLe<uint64_t>(p));
  if (n >= 4) {
    hash = Mix(hash, LoadLe<uint32_t>(p));
    p += 4;
    n -= 4;
  }
  uint64_t rest = 0;
  for (size_t i = 0; i < n; ++i) rest = rest << 8 | p[i];
  return Mix(hash, rest + 1);
}

/// What a word adds to Record::words as token `position`.
inline uint64_t WordAt(uint32_t word, size_t position) {
  return Mix(word, (position + 1) * 0xC2B2AE3D27D4EB4F) * 0xFF51AFD7ED558CCD;
}

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_RECORDS_H_
