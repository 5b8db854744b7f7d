// NumPy's .npz: a zip archive (PKWARE's APPNOTE.TXT, 4.3) of .npy files. Its
// directory stands at the end, out of reach, so that members are found by their
// local headers, one behind the other. Arrays that are stored, as numpy.savez
// does it, are tensors. All else is a gap: members that are deflated (as
// numpy.savez_compressed does it) or encrypted, other files, headers, and what
// follows a member that does not tell its size.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/utf8.h"
#include "parsers/npy.h"
#include "parsers/parser.h"
#include "parsers/tensor_layout.h"

namespace zipllm::parsers {
namespace {

// Of a local header.
constexpr std::string_view kMagic = "PK\x03\x04";
constexpr uint64_t kLocalHeaderBytes = 30;
constexpr uint32_t kInZip64 = UINT32_MAX;
constexpr uint16_t kZip64 = 1;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kSizesFollow = 8;
constexpr std::string_view kExtension = ".npy";

/// A member of the archive, by its local header.
struct Member {
  std::string_view name;
  uint64_t begin;  ///< of its data
  uint64_t size;   ///< of its data
  bool is_stored;
  bool has_size;
};

/// The sizes that stand in a header's extra fields, where they are too large
/// for their own; false if there are none.
bool ReadZip64(ByteSpan extra, uint64_t* size, uint64_t* packed) {
  while (extra.size() >= 4) {
    const auto id = LoadLe<uint16_t>(extra.data());
    const auto length = LoadLe<uint16_t>(extra.data() + 2);
    extra = extra.subspan(4);
    if (length > extra.size()) return false;
    if (id == kZip64) {
      if (length < 16) return false;
      *size = LoadLe<uint64_t>(extra.data());
      *packed = LoadLe<uint64_t>(extra.data() + 8);
      return true;
    }
    extra = extra.subspan(length);
  }
  return false;
}

class Walk {
 public:
  Walk(ByteSpan prefix, std::optional<uint64_t> file_size)
      : prefix_(prefix), file_size_(file_size) {}

  Outcome Run() {
    const size_t known = std::min(prefix_.size(), kMagic.size());
    if (!std::ranges::equal(prefix_.first(known),
                            AsBytes(kMagic.substr(0, known)))) {
      return {};
    }
    while (std::optional<Member> member = Next()) {
      const bool is_array = member->name.ends_with(kExtension);
      // Others than NumPy make zip archives too.
      if (members_++ == 0 && !is_array) return {};
      if (is_array && member->is_stored && !AddArray(*member)) return {};
      if (need_ != 0 || !member->has_size ||
          !CheckedAdd(member->begin, member->size, &at_)) {
        break;
      }
    }
    if (need_ > prefix_.size() && need_ <= kMaxPrefix && !AllIsRead()) {
      // More than is needed, so that walks are few.
      return {.need_prefix = std::min<uint64_t>(
                  kMaxPrefix, std::max<uint64_t>(need_, 2 * prefix_.size()))};
    }
    if (arrays_.empty()) return {};
    const uint64_t head = arrays_[0].offset;
    Outcome outcome{
        .layout = LayOutTensors("npz", {head}, std::move(arrays_), file_size_)};
    if (need_ > kMaxPrefix) outcome.next = at_;
    return outcome;
  }

 private:
  bool AllIsRead() const { return file_size_ && *file_size_ <= prefix_.size(); }

  /// Whether the bytes up to `end` can be read; else it notes that they are
  /// needed.
  bool Has(uint64_t end) {
    if (end <= prefix_.size()) return true;
    if (!file_size_ || end <= *file_size_) need_ = end;
    return false;
  }

  /// The member whose header is at `at_`; nullopt: there is none, or it cannot
  /// be read.
  std::optional<Member> Next() {
    uint64_t end;
    if (!CheckedAdd(at_, kLocalHeaderBytes, &end) || !Has(end)) return {};
    const uint8_t* header = prefix_.data() + at_;
    if (!std::ranges::equal(ByteSpan(header, kMagic.size()), AsBytes(kMagic))) {
      return {};
    }
    const auto flags = LoadLe<uint16_t>(header + 6);
    const auto method = LoadLe<uint16_t>(header + 8);
    uint64_t packed = LoadLe<uint32_t>(header + 18);
    uint64_t size = LoadLe<uint32_t>(header + 22);
    const uint64_t name = LoadLe<uint16_t>(header + 26);
    const uint64_t extra = LoadLe<uint16_t>(header + 28);
    if (!Has(end + name + extra)) return {};
    if (size == kInZip64 && packed == kInZip64 &&
        !ReadZip64(prefix_.subspan(end + name, extra), &size, &packed)) {
      return {};
    }
    const bool is_stored =
        method == 0 && (flags & kEncrypted) == 0 && packed == size;
    return Member{
        .name = {reinterpret_cast<const char*>(prefix_.data() + end), name},
        .begin = end + name + extra,
        .size = packed,
        .is_stored = is_stored,
        .has_size = (flags & kSizesFollow) == 0 || packed != 0};
  }

  /// False where the member reaches beyond the end of the file.
  bool AddArray(const Member& member) {
    std::string_view name = member.name;
    name.remove_suffix(kExtension.size());
    if (name.size() > kMaxNameBytes || !IsUtf8(name)) return true;
    const uint64_t left = file_size_.value_or(UINT64_MAX) - member.begin;
    const uint64_t size = member.has_size ? member.size : left;
    if (size > left) return false;
    ByteSpan data = prefix_.subspan(member.begin);
    data = data.first(std::min<uint64_t>(data.size(), size));
    NpyHead head = ReadNpyHead(data, size);
    if (head.need_prefix != 0) {
      (void)Has(member.begin + head.need_prefix);
      return true;
    }
    if (!head.array.has_value()) return true;
    Segment& array = *head.array;
    if (array.length > size - head.end) return member.has_size;
    array.name = name;
    array.offset += member.begin;
    arrays_.push_back(std::move(array));
    return true;
  }

  const ByteSpan prefix_;
  const std::optional<uint64_t> file_size_;
  uint64_t at_ = 0;    // of a local header
  uint64_t need_ = 0;  // bytes of the file that it takes to go on
  size_t members_ = 0;
  std::vector<Segment> arrays_;
};

Outcome ParseNpz(ByteSpan prefix, std::optional<uint64_t> file_size) {
  return Walk(prefix, file_size).Run();
}

}  // namespace

extern const Parser kNpzParser;
constexpr Parser kNpzParser = {"npz", ParseNpz};

}  // namespace zipllm::parsers
