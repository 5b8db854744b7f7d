// The command's JSON: keys in a fixed order, numbers exact, text always UTF-8.
#ifndef ZIPLLM_TOOLS_JSON_H_
#define ZIPLLM_TOOLS_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "absl/status/status.h"

namespace zipllm::tools {

using Json = nlohmann::ordered_json;

std::string HexText(std::span<const uint8_t> bytes);

/// Sets `key`. Text that is not UTF-8 has its bad bytes replaced by U+FFFD, and
/// `key`_hex holds all of its bytes.
void SetText(Json* object, const std::string& key, const std::string& text);

/// Coded size as a fraction of the plain size; null where that is 0.
Json Ratio(uint64_t coded, uint64_t plain);

/// {"code", "message"}.
Json ErrorJson(const absl::Status& status);

/// A document with its newline.
std::string Dump(const Json& document);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_JSON_H_
