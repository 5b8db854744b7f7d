// What model cards and configs say that a model was made of. Model cards begin
// with a YAML block; of YAML as much is read here as the hub's tools write.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "store/candidates.h"

namespace zipllm::store {
namespace {

constexpr size_t kMaxText = size_t{1} << 20;
constexpr size_t kMaxHints = 16;
constexpr size_t kMaxHint = 512;  // bytes

void AddHint(std::string_view hint, std::vector<std::string>* hints) {
  if (hint.empty() || hint.size() > kMaxHint || hints->size() == kMaxHints) {
    return;
  }
  std::string text(hint);
  if (std::ranges::find(*hints, text) == hints->end()) {
    hints->push_back(std::move(text));
  }
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

// A scalar of one line, without its quotes or the comment after it.
std::string_view Scalar(std::string_view text) {
  text = Trim(text);
  if (text.empty()) return {};
  if (text[0] == '"' || text[0] == '\'') {
    const size_t end = text.find(text[0], 1);
    return end == std::string_view::npos ? std::string_view()
                                         : text.substr(1, end - 1);
  }
  if (text[0] == '#') return {};
  text = Trim(text.substr(0, text.find(" #")));
  return text == "null" || text == "~" ? std::string_view() : text;
}

// The scalars of "a, b]", and whether the ']' is there.
bool AddFlow(std::string_view text, std::vector<std::string>* hints) {
  const size_t end = text.find(']');
  std::string_view rest = text.substr(0, end);
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    AddHint(Scalar(rest.substr(0, comma)), hints);
    rest = comma == std::string_view::npos ? std::string_view()
                                           : rest.substr(comma + 1);
  }
  return end != std::string_view::npos;
}

/// Takes the lines of a YAML block, one by one.
class CardReader {
 public:
  explicit CardReader(std::vector<std::string>* hints) : hints_(hints) {}

  void Line(std::string_view line) {
    const std::string_view text = Trim(line);
    if (in_flow_) {
      in_flow_ = !AddFlow(text, hints_);
      return;
    }
    if (text.empty() || text[0] == '#') return;
    if (in_value_) {
      if (text == "-" || text.starts_with("- ")) {
        AddHint(Scalar(text.substr(1)), hints_);
        return;
      }
      // A scalar on a line of its own.
      if (line[0] == ' ') return Value(text);
      in_value_ = false;
    }
    constexpr std::string_view kKey = "base_model";
    if (!line.starts_with(kKey)) return;
    const std::string_view rest = Trim(line.substr(kKey.size()));
    if (!rest.starts_with(':')) return;
    in_value_ = true;
    Value(Trim(rest.substr(1)));
  }

 private:
  void Value(std::string_view text) {
    if (text.starts_with('[')) {
      in_flow_ = !AddFlow(text.substr(1), hints_);
    } else {
      AddHint(Scalar(text), hints_);
    }
  }

  std::vector<std::string>* const hints_;
  bool in_value_ = false;
  bool in_flow_ = false;
};

void ReadCard(std::string_view text, std::vector<std::string>* hints) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  CardReader reader(hints);
  bool in_block = false;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view()
                                         : text.substr(end + 1);
    const std::string_view mark = Trim(line);
    if (!in_block) {
      if (mark != "---") return;
      in_block = true;
    } else if (mark == "---" || mark == "...") {
      return;
    } else {
      reader.Line(line);
    }
  }
}

/// Strings under some keys of the outermost object.
class ConfigReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ConfigReader(std::vector<std::string>* hints) : hints_(hints) {}

  bool start_object(size_t) override { return ++depth_ < kMaxDepth; }
  bool start_array(size_t) override { return ++depth_ < kMaxDepth; }
  bool end_object() override { return --depth_ >= 0; }
  bool end_array() override { return --depth_ >= 0; }
  bool key(std::string& text) override {
    is_hint_ = depth_ == 1 &&
               (text == "_name_or_path" || text == "base_model_name_or_path");
    return true;
  }
  bool string(std::string& text) override {
    if (is_hint_ && depth_ == 1) AddHint(text, hints_);
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool parse_error(size_t, const std::string&,
                   const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  static constexpr int kMaxDepth = 256;
  std::vector<std::string>* const hints_;
  int depth_ = 0;
  bool is_hint_ = false;
};

}  // namespace

std::vector<std::string> BaseModelHints(const std::string& file_name,
                                        const std::string& text) {
  std::vector<std::string> hints;
  if (text.size() > kMaxText) return hints;
  const std::string name = file_name.substr(file_name.rfind('/') + 1);
  if (name == "README.md") {
    ReadCard(text, &hints);
  } else if (name == "config.json" || name == "adapter_config.json") {
    ConfigReader reader(&hints);
    nlohmann::json::sax_parse(text, &reader);
  }
  return hints;
}

}  // namespace zipllm::store
