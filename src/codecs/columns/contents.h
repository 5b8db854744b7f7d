// What the values of a coded column may be, for readers that search: rows are
// not put together, and columns beside are not needed.
#ifndef ZIPLLM_CODECS_COLUMNS_CONTENTS_H_
#define ZIPLLM_CODECS_COLUMNS_CONTENTS_H_

#include <memory>
#include <vector>

#include "codecs/columns/columns.h"

namespace zipllm::codecs::columns {

/// A set of byte strings that has all values of a column, and perhaps others.
struct Contents {
  using Pointer = std::shared_ptr<const Contents>;

  enum class Form : uint8_t {
    kAny,       ///< up to `longest` bytes of `classes`
    kOneOf,     ///< one of `values`
    kSequence,  ///< one of each of `parts`, joined
    kUnion,     ///< one of one of `parts`
    kBeside,    ///< one of what column `beside` beside this one has
  };
  Form form = Form::kAny;
  uint32_t longest = UINT32_MAX;
  uint8_t classes = 0xff;  ///< as in Stamp
  std::shared_ptr<const Values> values;
  std::vector<Pointer> parts;
  size_t beside = 0;
  size_t nodes = 1;  ///< this and all below

  static Contents OneOf(std::shared_ptr<const Values> values) {
    Contents contents;
    contents.form = Form::kOneOf;
    contents.values = std::move(values);
    return contents;
  }
  /// What a stamp tells.
  static Contents Of(const Stamp& stamp) {
    Contents contents;
    contents.longest = stamp.is_empty ? 0 : stamp.longest;
    contents.classes = stamp.classes;
    return contents;
  }
};

/// What may be kept of contents.
struct ContentsBudget {
  size_t bytes;
  size_t values;
};

/// The contents of a column of `count` values, of `max_bytes` at most. Where it
/// is damaged, or `budget` is used up, as much as its stamp tells.
Contents::Pointer ReadContents(const Stamp& stamp, size_t count,
                               size_t max_bytes, Scratch& scratch,
                               ContentsBudget* budget);

}  // namespace zipllm::codecs::columns

#endif  // ZIPLLM_CODECS_COLUMNS_CONTENTS_H_
