// NumPy's .npy (NEP 1, "A Simple File Format for NumPy Arrays", and
// numpy.lib.format): "\x93NUMPY", two bytes of version, the header's length (2
// bytes in version 1, 4 in 2 and 3), the header, the elements. The header is a
// Python literal: a dict of 'descr' (the type), 'fortran_order' and 'shape'. It
// is read by the scanner below, never evaluated. Archives of several: npz.cc.
#include "parsers/npy.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::parsers {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr uint64_t kVersionEnd = 8;
// Longer headers are those of structured types with thousands of fields, of
// which nothing would be learnt.
constexpr uint32_t kMaxHeader = uint32_t{1} << 20;
// Of brackets in the description of a structured type.
constexpr size_t kMaxDepth = 64;

/// How many elements of which type stand for one of the array's.
struct Descr {
  DType dtype = DType::kBytes;  ///< `bytes`: what they are is not known
  uint64_t count = 1;
};

/// What a type's description, such as "<f4", says.
Descr ParseDescr(std::string_view text) {
  if (text.size() < 3) return {};
  const char order = text[0];
  const char kind = text[1];
  if (order != '<' && order != '>' && order != '|') return {};
  std::string_view digits = text.substr(2);
  // Times have a unit: "<M8[ns]".
  if (kind == 'M' || kind == 'm') digits = digits.substr(0, digits.find('['));
  uint32_t size = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), size);
  if (error != std::errc() || end != digits.data() + digits.size()) return {};
  const bool big = order == '>';
  const auto pick = [](uint32_t i, std::initializer_list<DType> types) {
    return Descr{types.begin()[i]};
  };
  const uint32_t log2 = size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3;
  const bool is_number = size == 1 || size == 2 || size == 4 || size == 8;
  if (size > 1 && order == '|') return {};
  switch (kind) {
    case 'b':
      return size == 1 ? Descr{DType::kBool} : Descr{};
    case 'i':
    case 'u':
      if (!is_number || (big && size > 1)) return {};
      if (kind == 'i')
        return pick(log2, {DType::kI8, DType::kI16, DType::kI32, DType::kI64});
      return pick(log2, {DType::kU8, DType::kU16, DType::kU32, DType::kU64});
    case 'f':
      if (!is_number || size == 1) return {};
      if (big) {
        return pick(log2 - 1, {DType::kF16Be, DType::kF32Be, DType::kF64Be});
      }
      return pick(log2 - 1, {DType::kF16, DType::kF32, DType::kF64});
    case 'c':
      if (big) return {};
      return size == 8    ? Descr{DType::kC64}
             : size == 16 ? Descr{DType::kC128}
                          : Descr{};
    case 'M':
    case 'm':
      return size == 8 && !big ? Descr{DType::kI64} : Descr{};
    case 'U':  // characters of 32 bits
      return big || size == 0 ? Descr{} : Descr{DType::kU32, size};
    default:  // strings, raw bytes, pickled objects
      return {};
  }
}

/// Reads a header. Each function returns false at what is not the format.
class HeaderScanner {
 public:
  explicit HeaderScanner(std::string_view text) : text_(text) {}

  bool Scan() {
    if (!Take('{')) return false;
    while (!Take('}')) {
      std::string_view key;
      if (!String(&key) || !Take(':') || !Value(key)) return false;
      if (Take(',')) continue;
      if (Take('}')) break;
      return false;
    }
    SkipSpace();
    return at_ == text_.size() && seen_ == kAll;
  }

  Descr descr;
  bool fortran_order = false;
  std::vector<uint64_t> shape;

 private:
  enum Seen : unsigned {
    kUnknown = 0,
    kDescr = 1,
    kOrder = 2,
    kShape = 4,
    kAll = 7
  };

  void SkipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  bool Take(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool TakeWord(std::string_view word) {
    SkipSpace();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  /// A string in quotes, without escapes: those occur in names of fields only.
  bool String(std::string_view* value) {
    SkipSpace();
    if (at_ == text_.size()) return false;
    const char quote = text_[at_];
    if (quote != '\'' && quote != '"') return false;
    const size_t end = text_.find(quote, at_ + 1);
    if (end == text_.npos) return false;
    *value = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return value->find('\\') == value->npos;
  }

  bool Value(std::string_view key) {
    const unsigned field = key == "descr"           ? kDescr
                           : key == "fortran_order" ? kOrder
                           : key == "shape"         ? kShape
                                                    : kUnknown;
    if (field == kUnknown || (seen_ & field) != 0) return false;
    seen_ |= field;
    switch (field) {
      case kDescr:
        return Type();
      case kOrder:
        fortran_order = TakeWord("True");
        return fortran_order || TakeWord("False");
      default:
        return Shape();
    }
  }

  bool Type() {
    SkipSpace();
    if (at_ == text_.size()) return false;
    if (text_[at_] == '[' || text_[at_] == '(') return SkipNested();
    std::string_view name;
    if (!String(&name)) return false;
    descr = ParseDescr(name);
    return true;
  }

  /// Past the description of a structured type, or of one with a shape.
  bool SkipNested() {
    std::string open;
    do {
      SkipSpace();
      if (at_ == text_.size()) return false;
      const char c = text_[at_++];
      if (c == '\'' || c == '"') {
        while (at_ < text_.size() && text_[at_] != c) {
          at_ += text_[at_] == '\\' ? 2 : 1;
        }
        if (at_ >= text_.size()) return false;
        ++at_;
      } else if (c == '[' || c == '(' || c == '{') {
        if (open.size() == kMaxDepth) return false;
        open.push_back(c == '[' ? ']' : c == '(' ? ')' : '}');
      } else if (c == ']' || c == ')' || c == '}') {
        if (open.back() != c) return false;
        open.pop_back();
      }
    } while (!open.empty());
    return true;
  }

  bool Shape() {
    if (!Take('(')) return false;
    while (!Take(')')) {
      SkipSpace();
      uint64_t dimension = 0;
      const char* const from = text_.data() + at_;
      const auto [end, error] =
          std::from_chars(from, text_.data() + text_.size(), dimension);
      if (error != std::errc() || shape.size() == kMaxRank) return false;
      at_ += static_cast<size_t>(end - from);
      // Python 2 wrote long integers so.
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;
      shape.push_back(dimension);
      if (Take(',')) continue;
      if (Take(')')) break;
      return false;
    }
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  unsigned seen_ = 0;
};

Outcome ParseNpy(ByteSpan prefix, std::optional<uint64_t> file_size) {
  NpyHead head = ReadNpyHead(prefix, file_size);
  if (head.need_prefix != 0) return {.need_prefix = head.need_prefix};
  if (head.end == 0) return {};
  std::vector<Segment> tensors;
  if (head.array.has_value()) {
    head.array->name = "array";
    tensors.push_back(std::move(*head.array));
  }
  // Elements of another kind, and what follows the array, are a gap.
  return {.layout =
              LayOutTensors("npy", {head.end}, std::move(tensors), file_size)};
}

}  // namespace

NpyHead ReadNpyHead(ByteSpan prefix, std::optional<uint64_t> size) {
  const size_t known = std::min(prefix.size(), kMagic.size());
  if (!std::ranges::equal(prefix.first(known),
                          AsBytes(kMagic.substr(0, known)))) {
    return {};
  }
  constexpr uint64_t kLeast = kVersionEnd + 4;
  if (size && *size < kLeast) return {};
  if (prefix.size() < kLeast) return {.need_prefix = kLeast};
  const uint8_t version = prefix[kMagic.size()];
  if (version < 1 || version > 3) return {};
  const bool is_short = version == 1;
  const uint64_t begin = kVersionEnd + (is_short ? 2 : 4);
  const uint32_t length = is_short ? LoadLe<uint16_t>(&prefix[kVersionEnd])
                                   : LoadLe<uint32_t>(&prefix[kVersionEnd]);
  if (length > kMaxHeader) return {};
  const uint64_t end = begin + length;
  if (size && *size < end) return {};
  if (prefix.size() < end) return {.need_prefix = end};

  HeaderScanner header({reinterpret_cast<const char*>(&prefix[begin]), length});
  if (!header.Scan()) return {};
  NpyHead head{.end = end};
  if (header.descr.dtype == DType::kBytes) return head;
  Segment array;
  array.dtype = header.descr.dtype;
  array.shape = std::move(header.shape);
  // The first dimension is the one that runs fastest.
  if (header.fortran_order) std::ranges::reverse(array.shape);
  // The characters of a string run faster still.
  if (header.descr.count > 1) {
    if (array.shape.size() == kMaxRank) return {};
    array.shape.push_back(header.descr.count);
  }
  array.offset = end;
  uint64_t elements = 0;
  if (!ElementCount(array.shape, &elements) ||
      !ByteSize(*FindDType(array.dtype), elements, &array.length)) {
    return {};
  }
  head.array = std::move(array);
  return head;
}

extern const Parser kNpyParser;
constexpr Parser kNpyParser = {"npy", ParseNpy};

}  // namespace zipllm::parsers
