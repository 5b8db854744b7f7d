#include "archive/bases.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>

#include "archive/duplicates.h"
#include "archive/input_tree.h"
#include "archive/open_archive.h"
#include "base/file.h"

namespace zipllm::archive {
namespace {

constexpr size_t kHashStep = size_t{1} << 20;
// What is shorter is read from pieces that are kept.
constexpr size_t kShort = size_t{1} << 16;
constexpr uint64_t kPiece = uint64_t{1} << 20;

std::string Hex(const Sha256Digest& digest) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string FileName(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

PieceCache::Piece PieceCache::Find(const void* tensor, uint64_t number) {
  std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->tensor != tensor || entry->number != number) continue;
    entries_.splice(entries_.begin(), entries_, entry);
    return entry->piece;
  }
  return nullptr;
}

void PieceCache::Add(const void* tensor, uint64_t number, Piece piece) {
  std::lock_guard lock(mutex_);
  size_ += piece->size();
  entries_.push_front({tensor, number, std::move(piece)});
  while (size_ > capacity_) {
    size_ -= entries_.back().piece->size();
    entries_.pop_back();
  }
}

absl::StatusOr<PieceCache::Piece> BaseTensor::ReadPiece(uint64_t number) {
  if (PieceCache::Piece piece = pieces_->Find(this, number)) return piece;
  const uint64_t begin = number * kPiece;
  auto piece = std::make_shared<Buffer>(std::min(kPiece, length - begin));
  RETURN_IF_ERROR(read_coded_(begin, piece->mutable_span()));
  pieces_->Add(this, number, piece);
  return piece;
}

absl::Status BaseTensor::Read(uint64_t offset, MutableByteSpan out) {
  if (offset > length || out.size() > length - offset) {
    return DataLoss("base tensor ", name, " of ", model, " has no ", out.size(),
                    " bytes from ", offset, " on");
  }
  if (!is_coded()) return ReadAtExactly(*file_, offset_ + offset, out);
  if (out.size() >= kShort) return read_coded_(offset, out);
  while (!out.empty()) {
    ASSIGN_OR_RETURN(const PieceCache::Piece piece, ReadPiece(offset / kPiece));
    const ByteSpan from = piece->span().subspan(offset % kPiece);
    const size_t n = std::min(from.size(), out.size());
    std::ranges::copy(from.first(n), out.begin());
    out = out.subspan(n);
    offset += n;
  }
  return absl::OkStatus();
}

absl::StatusOr<Sha256Digest> BaseTensor::Digest() {
  // What this may wait for has a smaller depth: no circle.
  std::lock_guard lock(mutex_);
  if (digest_.has_value()) return *digest_;
  Sha256 sha256;
  Buffer piece;
  for (uint64_t at = 0; at < length; at += piece.size()) {
    piece.Resize(std::min<uint64_t>(kHashStep, length - at));
    RETURN_IF_ERROR(Read(at, piece.mutable_span()));
    sha256.Update(piece.span());
  }
  digest_ = sha256.Finish();
  return *digest_;
}

absl::StatusOr<std::unique_ptr<Bases>> Bases::Open(
    const DecompressOptions& options) {
  std::unique_ptr<Bases> made(new Bases(options));
  for (const std::string& path : options.bases) {
    RETURN_IF_ERROR(made->AddPath(path));
  }
  return made;
}

absl::Status Bases::CheckUnchanged() {
  std::lock_guard lock(mutex_);
  for (const auto& [path, state] : files_) {
    if (StateOfFile(path) != state) {
      return absl::UnavailableError(
          path + ": changed while it was coded against: try again");
    }
  }
  return absl::OkStatus();
}

absl::Status Bases::AddPath(const std::string& path) {
  ASSIGN_OR_RETURN(const std::vector<Input> inputs,
                   ListInputs(path, Links::kFollow, [](const std::string&) {}));
  for (const Input& input : inputs) {
    if (input.entry.kind != EntryKind::kFile) continue;
    RETURN_IF_ERROR(AddFile(input.path, input.entry.path));
  }
  return absl::OkStatus();
}

absl::Status Bases::AddFile(const std::string& path, const std::string& model) {
  files_.emplace_back(path, StateOfFile(path));
  ASSIGN_OR_RETURN(std::unique_ptr<Source> file, OpenFileSource(path));
  if (!file->Seekable()) {
    return InvalidArgument(path, ": a base must be a file, not a pipe");
  }
  const auto add = [&](const Layout& layout, const std::string& name,
                       auto set_place) {
    for (const Segment& segment : layout.segments) {
      if (segment.dtype == DType::kBytes || segment.length == 0) continue;
      BaseTensor& tensor = tensors_.emplace_back();
      tensor.name = segment.name;
      tensor.dtype = segment.dtype;
      tensor.shape = segment.shape;
      tensor.length = segment.length;
      tensor.model = name;
      set_place(tensor, segment.offset);
    }
  };
  std::array<uint8_t, container::kHeaderSize> start;
  ASSIGN_OR_RETURN(const size_t n, file->ReadAt(0, start));
  if (!container::LooksLikeArchive({start.data(), n})) {
    std::vector<uint8_t> prefix;
    ASSIGN_OR_RETURN(const Layout layout, ReadLayout(*file, &prefix));
    // What the header says beyond the file's end is not there.
    const uint64_t size = file->Size().value_or(0);
    Layout there;
    for (const Segment& segment : layout.segments) {
      if (segment.offset + segment.length <= size) {
        there.segments.push_back(segment);
      }
    }
    add(there, model,
        [plain = std::shared_ptr<Source>(std::move(file))](BaseTensor& tensor,
                                                           uint64_t offset) {
          tensor.file_ = plain;
          tensor.offset_ = offset;
        });
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(OpenedArchive opened,
                   OpenArchive(std::move(file), options_, this));
  if (opened.depth >= container::kMaxDepth) return absl::OkStatus();
  const auto archive =
      std::make_shared<const Archive>(std::move(opened.archive));
  for (size_t i = 0; i < archive->entries().size(); ++i) {
    const Entry& entry = archive->entries()[i];
    if (entry.kind != EntryKind::kFile) continue;
    add(entry.layout, model + (entry.path.empty() ? "" : ":" + entry.path),
        [&](BaseTensor& tensor, uint64_t begin) {
          tensor.SetCoded(
              [archive, i, begin](uint64_t offset, MutableByteSpan out) {
                return archive->ReadRange(i, begin + offset, out);
              },
              pieces_);
          tensor.depth = opened.depth;
        });
  }
  return absl::OkStatus();
}

// What cannot be read there is no base: the one that is missed is named later.
void Bases::AddDirectories() {
  std::set<std::string> seen;
  for (const std::string& directory : options_.base_directories) {
    std::set<std::string> paths;
    std::error_code error;
    for (std::filesystem::directory_iterator it(directory, error), end;
         !error && it != end; it.increment(error)) {
      std::error_code ignored;
      if (it->is_regular_file(ignored)) paths.insert(it->path().string());
    }
    for (const std::string& path : paths) {
      if (seen.insert(path).second) (void)AddFile(path, FileName(path)).ok();
    }
  }
}

absl::StatusOr<BaseTensor*> Bases::Find(
    const container::OutsideReference& reference) {
  const auto find = [&]() -> absl::StatusOr<BaseTensor*> {
    // Those that are most likely first: of the same name and file, of the same
    // name, any. A depth above the reference's could lead back to it.
    std::multimap<int, BaseTensor*> candidates;
    {
      std::lock_guard lock(mutex_);
      for (BaseTensor& tensor : tensors_) {
        if (tensor.length != reference.length) continue;
        if (tensor.depth > reference.depth) continue;
        const bool name = tensor.name == reference.tensor;
        const bool model = FileName(tensor.model) == FileName(reference.model);
        candidates.emplace((name ? 0 : 2) + (model ? 0 : 1), &tensor);
      }
    }
    for (const auto& [rank, tensor] : candidates) {
      const absl::StatusOr<Sha256Digest> digest = tensor->Digest();
      if (digest.ok() && *digest == reference.sha256) return tensor;
    }
    return nullptr;
  };
  ASSIGN_OR_RETURN(BaseTensor * found, find());
  if (found != nullptr) return found;
  bool more = false;
  {
    std::lock_guard lock(mutex_);
    if (!directories_added_) {
      more = !options_.base_directories.empty();
      directories_added_ = true;
      AddDirectories();
    }
  }
  if (more) {
    ASSIGN_OR_RETURN(found, find());
    if (found != nullptr) return found;
  }
  return MakeStatus(absl::StatusCode::kFailedPrecondition, "needs tensor ",
                    reference.tensor, " of ", reference.model, " (SHA-256 ",
                    Hex(reference.sha256), ", ", reference.length,
                    " bytes), which none of the bases has: give the one "
                    "that it was compressed with (--base PATH)");
}

absl::StatusOr<TensorBytes*> Outside::Get(uint64_t number) {
  if (number >= references_.size()) {
    return DataLoss("a block refers to reference ", number, " of ",
                    references_.size());
  }
  {
    std::lock_guard lock(mutex_);
    if (found_[number] != nullptr) return found_[number];
  }
  if (bases_ == nullptr) {
    return DataLoss("a block needs a reference from outside");
  }
  ASSIGN_OR_RETURN(BaseTensor * tensor, bases_->Find(references_[number]));
  std::lock_guard lock(mutex_);
  found_[number] = tensor;
  return tensor;
}

}  // namespace zipllm::archive
