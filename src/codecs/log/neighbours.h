// Which columns of a log tell most of another.
#ifndef ZIPLLM_CODECS_LOG_NEIGHBOURS_H_
#define ZIPLLM_CODECS_LOG_NEIGHBOURS_H_

#include <span>
#include <vector>

#include "codecs/log/log_format.h"

namespace zipllm::codecs::log {

/// Of one block, in which both halves know where each value stands. Immutable.
class Neighbours {
 public:
  /// `places` as by FindPlaces.
  Neighbours(const Templates& templates,
             std::vector<std::vector<uint32_t>> places);

  /// Earlier columns that tell something of column `c`, the best first.
  std::vector<uint32_t> Choose(std::span<const columns::Values* const> all,
                               uint32_t c) const;

  /// As FindBeside.
  std::vector<uint32_t> Index(uint32_t c, uint32_t other) const {
    return FindBeside(places_[c], places_[other]);
  }

 private:
  const std::vector<std::vector<uint32_t>> places_;
  /// By column: those before it where it is used first, the nearest first.
  std::vector<std::vector<uint32_t>> before_;
};

}  // namespace zipllm::codecs::log

#endif  // ZIPLLM_CODECS_LOG_NEIGHBOURS_H_
