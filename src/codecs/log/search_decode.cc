#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "codecs/columns/contents.h"
#include "codecs/log/log_format.h"
#include "codecs/log/search.h"

namespace zipllm::codecs::log {
namespace {

using columns::Contents;
using columns::Stamp;
using columns::Values;

constexpr uint8_t ToLower(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? static_cast<uint8_t>(c + 32) : c;
}

// Bit j: the first j bytes of the needle may end here. Bit 0 is always set.
using Ends = uint64_t;

// What is looked for: as much of it as Ends have bits for. A line that has all
// of it has its start.
class Needle {
 public:
  static constexpr size_t kMaxSize = 62;

  Needle(std::string_view text, bool ignore_case)
      : text_(text.substr(0, kMaxSize)),
        folds_(ignore_case),
        classes_(text_.size()) {
    for (size_t i = 0; i < text_.size(); ++i) {
      const auto c = static_cast<uint8_t>(text_[i]);
      classes_[i] = columns::ClassOf(c);
      if (folds_ && c >= 'a' && c <= 'z') {
        classes_[i] |= columns::ClassOf(static_cast<uint8_t>(c - 32));
      }
    }
  }
  size_t size() const { return text_.size(); }
  Ends all() const { return Ends{1} << size(); }

  // What may end behind a value if the first `j` bytes end before it.
  // `beside(b, j)` tells it of the values that stand beside. Sets `guesses`
  // where it depends on more than is known.
  template <typename Beside>
  Ends After(const Contents& contents, size_t j, Beside beside,
             bool* guesses) const {
    Ends ends = 0;
    switch (contents.form) {
      case Contents::Form::kAny:
        ends = AfterAny(contents, j);
        *guesses = *guesses || (ends & ~(Ends{1} << j | 1)) != 0;
        break;
      case Contents::Form::kOneOf:
        ends = AfterOneOf(*contents.values, j);
        break;
      case Contents::Form::kBeside:
        ends = beside(contents.beside, j);
        break;
      case Contents::Form::kUnion:
        for (const Contents::Pointer& part : contents.parts) {
          ends |= After(*part, j, beside, guesses);
        }
        break;
      case Contents::Form::kSequence:
        ends = Ends{1} << j;
        for (const Contents::Pointer& part : contents.parts) {
          ends = Step(ends, j == 0, [&](size_t k) {
            return After(*part, k, beside, guesses);
          });
        }
        break;
    }
    return ends;
  }

  // What may end behind something if `ends` do before it; `from(j)` is what
  // does if the first j bytes do. What was found stays found; `starts`: or the
  // needle begins later.
  template <typename From>
  Ends Step(Ends ends, bool starts, From from) const {
    Ends next = (starts ? 1 : 0) | (ends & all());
    for (size_t j = 0; j < size(); ++j) {
      if (ends >> j & 1) next |= from(j);
    }
    return next;
  }

  Ends After(ByteSpan bytes, size_t j) const {
    if (j > 0) {
      const size_t more = std::min(size() - j, bytes.size());
      return EqualsAt(j, bytes.first(more)) ? Ends{1} << (j + more) : 0;
    }
    return IsIn(bytes) ? all() : EndsOf(bytes);
  }

 private:
  // Where one of `values` stands.
  Ends AfterOneOf(const Values& values, size_t j) const {
    Ends ends = 0;
    if (j == 0 && IsIn(values.bytes())) return all();  // or in two of them
    for (size_t i = 0; i < values.size(); ++i) {
      ends |= j == 0 ? EndsOf(values[i]) : After(values[i], j);
    }
    return ends;
  }
  Ends AfterAny(const Contents& any, size_t j) const {
    Ends ends = Ends{1} << j;  // it is empty
    const size_t most = std::min<size_t>(size() - j, any.longest);
    for (size_t k = 0; k < most && (classes_[j + k] & any.classes) != 0; ++k) {
      ends |= Ends{1} << (j + k + 1);
    }
    if (j > 0 || any.longest == 0) return ends;
    // It begins anywhere in the value.
    return ends | 1;
  }

  bool EqualsAt(size_t at, ByteSpan bytes) const {
    for (size_t i = 0; i < bytes.size(); ++i) {
      const uint8_t c = folds_ ? ToLower(bytes[i]) : bytes[i];
      if (c != static_cast<uint8_t>(text_[at + i])) return false;
    }
    return true;
  }
  bool IsIn(ByteSpan bytes) const {
    if (bytes.size() < size()) return false;
    if (!folds_) {
      return memmem(bytes.data(), bytes.size(), text_.data(), size()) !=
             nullptr;
    }
    for (size_t i = 0; i + size() <= bytes.size(); ++i) {
      if (EqualsAt(0, bytes.subspan(i, size()))) return true;
    }
    return false;
  }
  // The starts of the needle, but all of it, that end `bytes`.
  Ends EndsOf(ByteSpan bytes) const {
    Ends ends = 1;
    const auto first = static_cast<uint8_t>(text_[0]);
    for (size_t k = std::min(size() - 1, bytes.size()); k > 0; --k) {
      const uint8_t c = bytes[bytes.size() - k];
      if ((folds_ ? ToLower(c) : c) != first) continue;
      if (EqualsAt(0, bytes.last(k))) ends |= Ends{1} << k;
    }
    return ends;
  }

  std::string_view text_;
  bool folds_;
  std::vector<uint8_t> classes_;
};

// A block of which as much is decoded as it takes.
class Block {
 public:
  Block(size_t size, Scratch& scratch) : size_(size), scratch_(scratch) {}

  // Columns are known by their stamps then.
  absl::Status Read(ByteSpan coded, ByteSpan shared) {
    ByteReader reader(coded, "log block");
    RETURN_IF_ERROR(templates_.Read(reader, size_, shared, scratch_));
    ASSIGN_OR_RETURN(const uint64_t records, reader.Varint(size_));
    columns_.resize(templates_.columns());
    auto numbers = std::make_shared<Values>();
    RETURN_IF_ERROR(ReadNumbers(reader, records, templates_.size(), scratch_,
                                numbers.get()));
    ASSIGN_OR_RETURN(counts_, CountValues(templates_, *numbers, size_));
    is_used_.resize(templates_.size());
    for (size_t i = 0; i < numbers->size(); ++i) {
      is_used_[NumberAt((*numbers)[i])] = true;
    }
    columns_[0].SetValues(std::move(numbers));
    for (size_t c = 1; c < columns_.size(); ++c) {
      Column& column = columns_[c];
      ASSIGN_OR_RETURN(const uint64_t chosen, reader.Varint(kMaxChosen));
      for (uint64_t k = 0; k < chosen; ++k) {
        ASSIGN_OR_RETURN(const uint64_t other, reader.Varint(c - 1));
        column.besides.push_back(static_cast<uint32_t>(other));
      }
      const size_t begin = reader.position();
      ASSIGN_OR_RETURN(column.stamp, columns::ReadStamp(reader));
      column.coded = coded.subspan(begin, reader.position() - begin);
      column.contents =
          std::make_shared<const Contents>(Contents::Of(column.stamp));
    }
    return reader.ExpectEnd();
  }

  // Reads the contents of these columns, and of what stands beside their
  // values.
  void ReadContents(std::vector<bool> wanted) {
    columns::ContentsBudget budget{.bytes = size_, .values = 2 * size_};
    for (size_t c = columns_.size(); c-- > 1;) {
      if (!wanted[c]) continue;
      Column& column = columns_[c];
      column.contents = columns::ReadContents(column.stamp, counts_[c], size_,
                                              scratch_, &budget);
      WantBesides(column, *column.contents, wanted);
    }
  }

  // Whether the needle may be in a record; adds the columns of which more is to
  // be known to be sure.
  bool MayContain(const Needle& needle, std::vector<bool>& wanted) const {
    std::vector<Ends> after(columns_.size() * needle.size());
    bool found = false;
    for (size_t t = 0; t < templates_.size(); ++t) {
      if (!is_used_[t]) continue;
      Ends ends = 1;
      for (const Item& item : templates_[t]) {
        const ByteSpan literal = templates_.Literal(item);
        if (!literal.empty()) {
          ends = needle.Step(
              ends, true, [&](size_t j) { return needle.After(literal, j); });
        }
        if (item.column == kNoColumn) continue;
        ends = needle.Step(ends, true, [&](size_t j) {
          return AfterColumn(needle, item.column, j, after, wanted);
        });
      }
      // Or the next record goes on.
      found = found || ends != 1;
    }
    return found;
  }

  // Adds what the wanted columns are decoded with; the coded bytes of all.
  size_t AddBesides(std::vector<bool>& wanted) const {
    size_t bytes = 0;
    for (size_t c = columns_.size(); c-- > 0;) {
      if (!wanted[c] || columns_[c].values != nullptr) continue;
      bytes += columns_[c].coded.size();
      for (const uint32_t other : columns_[c].besides) wanted[other] = true;
    }
    return bytes;
  }

  absl::Status Decode(const std::vector<bool>& wanted) {
    size_t left = size_;
    for (size_t c = 1; c < columns_.size(); ++c) {
      if (!wanted[c] || columns_[c].values != nullptr) continue;
      RETURN_IF_ERROR(Decode(c, left));
      left -= columns_[c].values->bytes().size();
    }
    return absl::OkStatus();
  }

  size_t columns() const { return columns_.size(); }

 private:
  struct Column {
    std::vector<uint32_t> besides;
    Stamp stamp;
    ByteSpan coded;  // with its size
    Contents::Pointer contents;
    std::shared_ptr<const Values> values;  // null: not decoded

    void SetValues(std::shared_ptr<const Values> all) {
      values = std::move(all);
      contents = std::make_shared<const Contents>(Contents::OneOf(values));
    }
  };

  // Of Needle::After, where it is known.
  static constexpr Ends kKnown = Ends{1} << (Needle::kMaxSize + 1);

  static void WantBesides(const Column& column, const Contents& contents,
                          std::vector<bool>& wanted) {
    if (contents.form == Contents::Form::kBeside &&
        contents.beside < column.besides.size()) {
      wanted[column.besides[contents.beside]] = true;
    }
    for (const Contents::Pointer& part : contents.parts) {
      WantBesides(column, *part, wanted);
    }
  }

  // As Needle::After; `after` has for each column and j what is known of it.
  Ends AfterColumn(const Needle& needle, uint32_t c, size_t j,
                   std::vector<Ends>& after, std::vector<bool>& wanted) const {
    const size_t asked = c * needle.size() + j;
    if (after[asked] == 0) {
      // First what it depends on, which are earlier columns.
      std::vector<size_t> open = {asked};
      while (!open.empty()) {
        const size_t place = open.back();
        const size_t column = place / needle.size();
        const auto& besides = columns_[column].besides;
        bool guesses = false;
        const Ends ends = needle.After(
            *columns_[column].contents, place % needle.size(),
            [&](size_t b, size_t k) -> Ends {
              if (b >= besides.size()) return needle.all();  // is damaged
              const size_t other = besides[b] * needle.size() + k;
              if (after[other] == 0) open.push_back(other);
              return after[other] & ~kKnown;
            },
            &guesses);
        if (open.back() != place) continue;
        open.pop_back();
        after[place] = ends | kKnown;
        if (guesses) wanted[column] = true;
      }
    }
    return after[asked] & ~kKnown;
  }

  // Those beside it are decoded.
  absl::Status Decode(size_t c, size_t max_bytes) {
    Column& column = columns_[c];
    std::vector<std::vector<uint32_t>> indexes;
    std::vector<columns::Beside> besides;
    for (const uint32_t other : column.besides) {
      if (!MayStandBeside(counts_[c], counts_[other])) {
        return DataLoss("log block: ", counts_[other], " values beside ",
                        counts_[c]);
      }
      if (places_.empty()) {
        places_ = FindPlaces(templates_, *columns_[0].values);
      }
      indexes.push_back(FindBeside(places_[c], places_[other]));
    }
    for (size_t k = 0; k < indexes.size(); ++k) {
      besides.push_back({columns_[column.besides[k]].values.get(), indexes[k]});
    }
    ByteReader reader(column.coded, "log block");
    auto values = std::make_shared<Values>();
    RETURN_IF_ERROR(columns::DecodeColumn(reader, counts_[c], max_bytes,
                                          besides, scratch_, values.get()));
    column.SetValues(std::move(values));
    return absl::OkStatus();
  }

  const size_t size_;
  Scratch& scratch_;
  Templates templates_;
  std::vector<bool> is_used_;  // by template
  std::vector<Column> columns_;
  std::vector<uint32_t> counts_;
  std::vector<std::vector<uint32_t>> places_;
};

}  // namespace

absl::StatusOr<bool> MayContain(ByteSpan coded, size_t size, ByteSpan shared,
                                const std::vector<std::string>& needles,
                                bool ignore_case, Scratch& scratch) {
  Block block(size, scratch);
  RETURN_IF_ERROR(block.Read(coded, shared));
  std::vector<bool> wanted;
  std::vector<Needle> open;
  for (const std::string& text : needles) {
    if (text.empty()) return true;
    open.emplace_back(text, ignore_case);
  }
  // With what is known by now.
  const auto is_anywhere = [&] {
    wanted.assign(block.columns(), false);
    std::erase_if(open, [&](const Needle& needle) {
      return !block.MayContain(needle, wanted);
    });
    return !open.empty();
  };
  if (!is_anywhere()) return false;
  block.ReadContents(wanted);
  if (!is_anywhere()) return false;
  // To decode nearly all, and then all of it again, would take longer.
  if (block.AddBesides(wanted) > coded.size() - coded.size() / 4) return true;
  RETURN_IF_ERROR(block.Decode(wanted));
  return is_anywhere();
}

}  // namespace zipllm::codecs::log
