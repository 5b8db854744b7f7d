// Logs and tables that are hard to give back byte for byte, made from seeds.
#ifndef ZIPLLM_TESTS_CODECS_HOSTILE_LOGS_H_
#define ZIPLLM_TESTS_CODECS_HOSTILE_LOGS_H_

#include <span>
#include <string>
#include <string_view>

#include "codecs/generators.h"

namespace zipllm::codecs {

/// A kind of log. Most have enough plain lines among the odd ones that a codec
/// for logs takes them.
struct HostileLog {
  std::string_view name;
  /// About `lines` lines, the same for the same state of `random`.
  std::string (*make)(size_t lines, Random& random);
};

std::span<const HostileLog> HostileLogs();

/// A line of a server's log without its end; line i has time and ids of its
/// own.
std::string PlainLine(size_t i, Random& random);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_TESTS_CODECS_HOSTILE_LOGS_H_
