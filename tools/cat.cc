// zipllm cat: one tensor, or bytes or lines of a file, to standard output.
#include <algorithm>

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/open_archive.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

class CountingSink : public Sink {
 public:
  explicit CountingSink(std::unique_ptr<Sink> out) : out_(std::move(out)) {}
  absl::Status Write(ByteSpan data) override {
    bytes_ += data.size();
    return out_->Write(data);
  }
  std::string Name() const override { return out_->Name(); }
  uint64_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<Sink> out_;
  uint64_t bytes_ = 0;
};

struct ByteRange {
  size_t entry;
  uint64_t offset;
  uint64_t length;
};

// The index of the only file; INVALID_ARGUMENT where there is another number.
absl::StatusOr<size_t> OnlyFile(const Archive& archive) {
  size_t found = 0, files = 0;
  for (size_t i = 0; i < archive.entries().size(); ++i) {
    if (archive.entries()[i].kind != EntryKind::kFile) continue;
    found = i;
    ++files;
  }
  if (files == 1) return found;
  return InvalidArgument("the archive holds ", files,
                         " files; name a TENSOR or a --file (`zipllm list` "
                         "shows them)");
}

// What the user named, without --range.
absl::StatusOr<ByteRange> FindRange(const Archive& archive,
                                    const CommandOptions& options) {
  if (!options.tensor.empty()) {
    ASSIGN_OR_RETURN(TensorRef tensor,
                     archive.FindTensor(options.tensor, options.file));
    const Segment& segment =
        archive.entries()[tensor.entry].layout.segments[tensor.segment];
    return ByteRange{tensor.entry, segment.offset, segment.length};
  }
  size_t entry = 0;
  if (options.file.empty()) {
    ASSIGN_OR_RETURN(entry, OnlyFile(archive));
  } else {
    ASSIGN_OR_RETURN(entry, archive.FindEntry(options.file));
  }
  if (archive.entries()[entry].kind != EntryKind::kFile) {
    return InvalidArgument(EntryName(archive.entries()[entry]), " is no file");
  }
  return ByteRange{entry, 0, archive.entries()[entry].size};
}

absl::Status Narrow(const CommandOptions& options, ByteRange* range) {
  if (!options.has_range) return absl::OkStatus();
  const uint64_t end = options.range_end.value_or(range->length);
  if (options.range_begin > end || end > range->length) {
    return MakeStatus(absl::StatusCode::kOutOfRange, "--range ",
                      options.range_begin, ":", end, " reaches outside the ",
                      range->length, " bytes that there are");
  }
  range->offset += options.range_begin;
  range->length = end - options.range_begin;
  return absl::OkStatus();
}

}  // namespace

void RunCat(const CommandOptions& options, Console& console) {
  if (!CheckInputs(options, console)) return;
  const std::string& input = options.inputs.front();
  absl::Status status = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(Archive archive, OpenArchive(input, options, console));
    ASSIGN_OR_RETURN(ByteRange range, FindRange(archive, options));
    RETURN_IF_ERROR(Narrow(options, &range));
    CountingSink out(console.OpenOutput(!options.force));
    if (options.lines.has_value()) {
      RETURN_IF_ERROR(archive.CopyLines(range.entry, *options.lines, out));
    } else if (options.times.since.has_value() ||
               options.times.until.has_value()) {
      RETURN_IF_ERROR(archive.CopyTimes(range.entry, options.times, out));
    } else {
      RETURN_IF_ERROR(
          archive.CopyRange(range.entry, range.offset, range.length, out));
    }
    console.Detail(Format("%s: read %llu of %llu bytes for %llu bytes",
                          Printable(DisplayName(input)).c_str(),
                          static_cast<unsigned long long>(archive.bytes_read()),
                          static_cast<unsigned long long>(archive.size()),
                          static_cast<unsigned long long>(out.bytes())));
    return absl::OkStatus();
  }();
  if (!status.ok()) console.Fail(DisplayName(input), status);
}

}  // namespace zipllm::tools
