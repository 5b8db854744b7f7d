#include "mount/entry_tree.h"
#include "mount/tree.h"

namespace zipllm::mount {
namespace {

class ArchiveFile : public File {
 public:
  ArchiveFile(std::shared_ptr<const Archive> archive, size_t entry)
      : archive_(std::move(archive)), entry_(entry) {}
  uint64_t size() const override { return archive_->entries()[entry_].size; }
  const std::array<uint8_t, 32>& sha256() const override {
    return archive_->entries()[entry_].sha256;
  }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      uint64_t offset) const override {
    return archive_->BlockAt(entry_, offset);
  }
  absl::Status Read(uint64_t offset, MutableByteSpan out) const override {
    return archive_->ReadRange(entry_, offset, out);
  }

 private:
  std::shared_ptr<const Archive> archive_;
  size_t entry_;
};

class ArchiveTree : public Tree {
 public:
  ArchiveTree(Archive archive, const std::string& unnamed)
      : archive_(std::make_shared<const Archive>(std::move(archive))),
        entries_(archive_->entries(), "", unnamed) {
    totals_.stored_bytes = archive_->size();
    for (const Entry& entry : archive_->entries()) {
      totals_.plain_bytes += entry.size;
      totals_.files += entry.kind == EntryKind::kFile;
    }
  }
  absl::StatusOr<Node> Find(const std::string& path) override {
    return entries_.Find(path);
  }
  absl::StatusOr<std::vector<std::pair<std::string, Node>>> List(
      const std::string& path) override {
    return entries_.List(path);
  }
  absl::StatusOr<std::shared_ptr<const File>> Open(
      const std::string& path) override {
    ASSIGN_OR_RETURN(const size_t entry, entries_.FindFile(path));
    return std::make_shared<const ArchiveFile>(archive_, entry);
  }
  absl::StatusOr<uint64_t> CodedSize(const std::string& path) override {
    ASSIGN_OR_RETURN(const size_t entry, entries_.FindFile(path));
    return archive_->entries()[entry].coded_size;
  }
  absl::StatusOr<Totals> Sum() override { return totals_; }
  std::chrono::milliseconds Validity() const override {
    return std::chrono::hours(24);
  }

 private:
  std::shared_ptr<const Archive> archive_;
  EntryTree entries_;
  Totals totals_;
};

}  // namespace

std::unique_ptr<Tree> MakeArchiveTree(Archive archive,
                                      const std::string& unnamed) {
  return std::make_unique<ArchiveTree>(std::move(archive), unnamed);
}

}  // namespace zipllm::mount
