// The files of prior/, put into the program by the assembler.
#include <array>

#include "codecs/text/prior.h"

#define ZIPLLM_PRIOR(name)                                                   \
  extern "C" const uint8_t zipllm_prior_##name[]                             \
      __attribute__((visibility("hidden")));                                 \
  extern "C" const uint8_t zipllm_prior_##name##_end[]                       \
      __attribute__((visibility("hidden")));                                 \
  __asm__(                                                                   \
      ".pushsection .rodata\n"                                               \
      ".globl zipllm_prior_" #name "\n.hidden zipllm_prior_" #name           \
      "\n.globl zipllm_prior_" #name "_end\n.hidden zipllm_prior_" #name     \
      "_end\nzipllm_prior_" #name ":\n.incbin \"" ZIPLLM_PRIOR_DIR "/" #name \
      ".txt\"\nzipllm_prior_" #name "_end:\n.byte 0\n.popsection\n")

ZIPLLM_PRIOR(prose);
ZIPLLM_PRIOR(wiki);
ZIPLLM_PRIOR(html);
ZIPLLM_PRIOR(markup);
ZIPLLM_PRIOR(cards);
ZIPLLM_PRIOR(code);
ZIPLLM_PRIOR(json);
ZIPLLM_PRIOR(logs);
ZIPLLM_PRIOR(csv);

#undef ZIPLLM_PRIOR

namespace zipllm::codecs {

ByteSpan PriorText(Prior prior) {
#define ZIPLLM_PRIOR(name) \
  ByteSpan(zipllm_prior_##name, zipllm_prior_##name##_end)
  switch (prior) {
    case Prior::kNone:
      return {};
    case Prior::kProse:
      return ZIPLLM_PRIOR(prose);
    case Prior::kWiki:
      return ZIPLLM_PRIOR(wiki);
    case Prior::kHtml:
      return ZIPLLM_PRIOR(html);
    case Prior::kMarkup:
      return ZIPLLM_PRIOR(markup);
    case Prior::kCards:
      return ZIPLLM_PRIOR(cards);
    case Prior::kCode:
      return ZIPLLM_PRIOR(code);
    case Prior::kJson:
      return ZIPLLM_PRIOR(json);
    case Prior::kLogs:
      return ZIPLLM_PRIOR(logs);
    case Prior::kCsv:
      return ZIPLLM_PRIOR(csv);
  }
  return {};
#undef ZIPLLM_PRIOR
}

}  // namespace zipllm::codecs
