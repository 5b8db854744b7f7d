// Texts that models of text start from: part of the format, by number. Their
// bytes are those of prior/*.txt.
#ifndef ZIPLLM_CODECS_TEXT_PRIOR_H_
#define ZIPLLM_CODECS_TEXT_PRIOR_H_

#include "zipllm/types.h"

namespace zipllm::codecs {

enum class Prior : uint8_t {
  kNone = 0,
  kProse = 1,
  kWiki = 2,
  kHtml = 3,
  kMarkup = 4,
  kCards = 5,
  kCode = 6,
  kJson = 7,
  kLogs = 8,
  kCsv = 9,
};
inline constexpr int kPriors = 10;  ///< with kNone
/// Priors before this one are prose in some markup, the others are for
/// machines.
inline constexpr Prior kFirstForMachines = Prior::kCode;

/// Empty for kNone.
ByteSpan PriorText(Prior prior);
/// The prior that shares most strings with a block; kNone where that is few.
/// Only where there are encoders.
Prior ChoosePrior(ByteSpan block);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_PRIOR_H_
