#include "tools/json.h"

#include "base/bytes.h"
#include "base/utf8.h"

namespace zipllm::tools {

std::string HexText(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

void SetText(Json* object, const std::string& key, const std::string& text) {
  (*object)[key] = text;
  if (!IsUtf8(text)) (*object)[key + "_hex"] = HexText(AsBytes(text));
}

Json Ratio(uint64_t coded, uint64_t plain) {
  if (plain == 0) return nullptr;
  return static_cast<double>(coded) / static_cast<double>(plain);
}

Json ErrorJson(const absl::Status& status) {
  return {{"code", absl::StatusCodeToString(status.code())},
          {"message", std::string(status.message())}};
}

std::string Dump(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace zipllm::tools
