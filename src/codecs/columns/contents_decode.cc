#include "codecs/columns/contents.h"
#include "codecs/columns/kinds.h"
#include "codecs/columns/number_format.h"
#include "codecs/columns/numbers.h"
#include "codecs/columns/split.h"

namespace zipllm::codecs::columns {
namespace {

using Form = Contents::Form;

enum Kind : uint8_t {
#define ZIPLLM_COLUMN_KIND(id, name) k##name = id,
#include "codecs/columns/kind_list.inc"
#undef ZIPLLM_COLUMN_KIND
};

/// Of one column: parts that name others by each other would else be without
/// bound.
constexpr size_t kMaxNodes = 1000;

class Reader {
 public:
  explicit Reader(ContentsBudget* budget) : budget_(budget) {}

  /// Of a column of this kind; `any`: what is known of it.
  absl::StatusOr<Contents> Body(uint8_t kind, ByteReader& body,
                                const DecodeContext& context, Contents any) {
    if (context.count == 0) return body.Error("a column without values");
    switch (kind) {
      case kText:
      case kConstant: {
        Values values;
        RETURN_IF_ERROR(FindKind(kind)->decode(body, context, &values));
        return OneOf(std::move(values));
      }
      case kDictionary: {
        ASSIGN_OR_RETURN(const uint64_t size, body.Varint(context.count));
        Values entries;
        RETURN_IF_ERROR(
            DecodePart(body, size, context.max_bytes, context, &entries));
        return OneOf(std::move(entries));
      }
      case kNumber:
        return Number(body, context);
      case kGiven:
        return Given(body, context);
      case kSplit:
        return Split(body, context);
      case kAffix:
        return Affix(body, context);
      default:
        return any;
    }
  }

 private:
  static Contents::Pointer Own(Contents contents) {
    return std::make_shared<const Contents>(std::move(contents));
  }
  /// Nothing is told where that would take many nodes.
  static Contents Joined(Form form, std::vector<Contents::Pointer> parts) {
    Contents contents;
    contents.form = form;
    for (const Contents::Pointer& part : parts) contents.nodes += part->nodes;
    if (contents.nodes > kMaxNodes) return {};
    contents.parts = std::move(parts);
    return contents;
  }

  Contents OneOf(Values&& values) {
    const size_t bytes = values.bytes().size();
    if (bytes > budget_->bytes || values.size() > budget_->values) return {};
    budget_->bytes -= bytes;
    budget_->values -= values.size();
    return Contents::OneOf(std::make_shared<const Values>(std::move(values)));
  }
  Contents Literal(ByteSpan bytes) {
    Values values;
    values.Append(bytes);
    return OneOf(std::move(values));
  }
  Contents WithExceptions(Contents regular, Exceptions&& exceptions) {
    if (exceptions.size() == 0) return regular;
    return Joined(Form::kUnion,
                  {Own(std::move(regular)),
                   Own(OneOf(std::move(exceptions).TakeValues()))});
  }

  absl::StatusOr<Contents> Part(ByteReader& reader, size_t count,
                                const DecodeContext& context) {
    if (context.depth >= kMaxDepth) {
      return reader.Error("columns stand too deep in one another");
    }
    ASSIGN_OR_RETURN(const uint64_t size, reader.Varint());
    ASSIGN_OR_RETURN(ByteReader body, reader.Sub(size, "part of a column"));
    if (size == 0 && count == 0) return Joined(Form::kUnion, {});
    ASSIGN_OR_RETURN(const uint8_t kind, body.Le<uint8_t>());
    return Body(kind, body,
                {.count = count,
                 .max_bytes = context.max_bytes,
                 .beside = {},
                 .scratch = context.scratch,
                 .depth = context.depth + 1},
                {});
  }

  absl::StatusOr<Contents> Number(ByteReader& body,
                                  const DecodeContext& context) {
    NumberFormat format;
    ASSIGN_OR_RETURN(format.flags, body.Le<uint8_t>());
    ASSIGN_OR_RETURN(format.width, body.Le<uint8_t>());
    ASSIGN_OR_RETURN(format.scale, body.Le<uint8_t>());
    // What the numbers are differences to.
    RETURN_IF_ERROR(body.Varint(kMaxBesides).status());
    Exceptions exceptions;
    RETURN_IF_ERROR(exceptions.Decode(body, context));
    Contents number;
    number.longest = kMaxNumberBytes;
    number.classes = ClassOf('0');
    const auto add = [&](bool has, uint8_t byte) {
      if (has) number.classes |= ClassOf(byte);
    };
    add(format.Is(NumberFormat::kHex),
        format.Is(NumberFormat::kUpper) ? 'A' : 'a');
    add(format.Is(NumberFormat::kSigned), '-');
    add(format.Is(NumberFormat::kSpaces), ' ');
    add(format.scale > 0, '.');
    return WithExceptions(std::move(number), std::move(exceptions));
  }

  absl::StatusOr<Contents> Given(ByteReader& body,
                                 const DecodeContext& context) {
    Contents beside;
    beside.form = Form::kBeside;
    ASSIGN_OR_RETURN(beside.beside, body.Varint(kMaxBesides));
    Numbers misses;
    RETURN_IF_ERROR(DecodeNumbers(body, context.count, context, &misses));
    size_t count = 0;
    for (const uint64_t miss : misses) count += miss != 0;
    ASSIGN_OR_RETURN(Contents part, Part(body, count, context));
    return Joined(Form::kUnion, {Own(std::move(beside)), Own(std::move(part))});
  }

  absl::StatusOr<Contents> Affix(ByteReader& body,
                                 const DecodeContext& context) {
    std::array<ByteSpan, 2> ends;
    for (ByteSpan& end : ends) {
      ASSIGN_OR_RETURN(const uint64_t size, body.Varint());
      ASSIGN_OR_RETURN(end, body.Bytes(size));
    }
    ASSIGN_OR_RETURN(Contents part, Part(body, context.count, context));
    return Joined(Form::kSequence, {Own(Literal(ends[0])), Own(std::move(part)),
                                    Own(Literal(ends[1]))});
  }

  absl::StatusOr<Contents> Split(ByteReader& body,
                                 const DecodeContext& context) {
    if (context.depth > kMaxSplitDepth) {
      return body.Error("values are split too deep");
    }
    ASSIGN_OR_RETURN(const uint64_t fields, body.Varint(kMaxFields));
    std::vector<ByteSpan> marks(fields + 1);
    for (ByteSpan& mark : marks) {
      ASSIGN_OR_RETURN(const uint64_t size, body.Varint());
      ASSIGN_OR_RETURN(mark, body.Bytes(size));
    }
    Exceptions exceptions;
    RETURN_IF_ERROR(exceptions.Decode(body, context));
    std::vector<Contents::Pointer> pieces = {Own(Literal(marks[0]))};
    std::vector<Contents::Pointer> before;  // parts, the last one first
    for (size_t f = 0; f < fields; ++f) {
      ASSIGN_OR_RETURN(Contents part,
                       Part(body, context.count - exceptions.size(), context));
      before.insert(before.begin(), Own(WithFields(std::move(part), before)));
      pieces.push_back(before.front());
      pieces.push_back(Own(Literal(marks[f + 1])));
    }
    return WithExceptions(Joined(Form::kSequence, std::move(pieces)),
                          std::move(exceptions));
  }
  /// What stands beside a part is the parts before it, then what stands beside
  /// the column.
  static Contents WithFields(Contents part,
                             const std::vector<Contents::Pointer>& before) {
    if (part.form == Form::kBeside) {
      if (part.beside < before.size()) return *before[part.beside];
      part.beside -= before.size();
    }
    if (part.parts.empty()) return part;
    for (Contents::Pointer& inner : part.parts) {
      inner = Own(WithFields(*inner, before));
    }
    return Joined(part.form, std::move(part.parts));
  }

  ContentsBudget* budget_;
};

}  // namespace

Contents::Pointer ReadContents(const Stamp& stamp, size_t count,
                               size_t max_bytes, Scratch& scratch,
                               ContentsBudget* budget) {
  const Contents stamped = Contents::Of(stamp);
  if (stamp.is_empty || count == 0) {
    return std::make_shared<const Contents>(stamped);
  }
  ByteReader body(stamp.body, "column");
  absl::StatusOr<Contents> contents =
      Reader(budget).Body(stamp.kind, body,
                          {.count = count,
                           .max_bytes = max_bytes,
                           .beside = {},
                           .scratch = scratch},
                          stamped);
  return std::make_shared<const Contents>(contents.ok() ? *std::move(contents)
                                                        : stamped);
}

}  // namespace zipllm::codecs::columns
