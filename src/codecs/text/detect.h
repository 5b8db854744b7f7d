// Whether bytes are text that a model of text is worth its time for.
#ifndef ZIPLLM_CODECS_TEXT_DETECT_H_
#define ZIPLLM_CODECS_TEXT_DETECT_H_

#include "zipllm/types.h"

namespace zipllm::codecs {

/// Whether `bytes` look like text in UTF-8, UTF-16 or a one-byte code: prose,
/// source code, markup, JSON, logs. Looks at samples: takes far less time than
/// any coding of them. Cut characters at both ends do not matter.
bool LooksLikeText(ByteSpan bytes);

/// Whether text is in lines that are alike, as those of logs, of JSON lines and
/// of tables. Looks at samples, as LooksLikeText.
bool LooksLikeLines(ByteSpan text);

}  // namespace zipllm::codecs

#endif  // ZIPLLM_CODECS_TEXT_DETECT_H_
