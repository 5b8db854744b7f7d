#include "mount/mount.h"

#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <malloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/executor.h"
#include "base/file.h"
#include "mount/block_reader.h"
#include "mount/entry_tree.h"
#include "mount/node_table.h"
#include "mount/read_ahead.h"

namespace zipllm::mount {
namespace {

constexpr int kMinThreads = 4;
// FUSE's own threads: they look up, and hand reads to those that decode. Some
// wait for the storage when they do.
constexpr unsigned kLoopThreads = 16;
// Reads that the kernel may begin of its own accord, in all files together.
constexpr unsigned kMaxBackground = 128;
// Read ahead of one stream, at most.
constexpr uint64_t kMaxAhead = 32 << 20;
constexpr uint64_t kKernelReadAhead = 1 << 20;
constexpr size_t kMaxKnownExtents = 1 << 16;
// More parts than this are copied together for a reply.
constexpr size_t kMaxParts = 64;
constexpr size_t kMaxName = 255;
constexpr char kSha256Attribute[] = "user.zipllm.sha256";
constexpr char kRatioAttribute[] = "user.zipllm.ratio";

int ErrnoOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kResourceExhausted:
      return ENOMEM;
    default:
      return EIO;
  }
}

// A file that is open.
class Handle {
 public:
  Handle(std::shared_ptr<const File> file, std::string path, uint64_t id)
      : file_(std::move(file)), path_(std::move(path)), id_(id) {}

  const std::shared_ptr<const File>& file() const { return file_; }
  const std::string& path() const { return path_; }
  uint64_t id() const { return id_; }

  /// ExtentAt, remembered.
  absl::StatusOr<Extent> ExtentOf(uint64_t offset) {
    {
      std::lock_guard lock(mutex_);
      const auto known = extents_.upper_bound(offset);
      if (known != extents_.end() && known->second.begin <= offset) {
        return known->second;
      }
    }
    ASSIGN_OR_RETURN(const Extent extent, ExtentAt(*file_, offset));
    std::lock_guard lock(mutex_);
    if (extents_.size() >= kMaxKnownExtents) extents_.clear();
    extents_.emplace(extent.end, extent);
    return extent;
  }

  /// What to read ahead after `read`: from where to where. Nothing is given
  /// twice.
  Extent TakeAhead(Extent read, uint64_t most) {
    std::lock_guard lock(mutex_);
    StreamDetector::Stream& stream = streams_.Find(read);
    const uint64_t begin = std::max(stream.next, stream.ahead);
    const uint64_t end =
        std::min(stream.next + AheadOf(stream, most), file_->size());
    // In steps, not by the page.
    if (end < begin + (end == file_->size() ? 1 : most / 16)) {
      return {begin, begin};
    }
    stream.ahead = end;
    return {begin, end};
  }

 private:
  const std::shared_ptr<const File> file_;
  const std::string path_;
  const uint64_t id_;
  std::mutex mutex_;
  std::map<uint64_t, Extent> extents_;  // by where they end
  StreamDetector streams_;
};

// A directory that is open: as it was then.
struct DirectoryHandle {
  std::vector<std::pair<std::string, Node>> entries;  // "." and ".." first
  std::string path;
};

class FileSystem {
 public:
  FileSystem(std::unique_ptr<Tree> tree, Node root, const MountOptions& options)
      : tree_(std::move(tree)),
        options_(options),
        now_(std::chrono::system_clock::now()),
        validity_(std::chrono::duration<double>(tree_->Validity()).count()),
        nodes_(std::move(root)),
        reader_(options.threads > 0 ? options.threads
                                    : std::max(ThreadCount(0) + 2, kMinThreads),
                options.cache_bytes),
        max_ahead_(std::min({kMaxAhead, options.cache_bytes / 4,
                             uint64_t{1 << 20} * reader_.threads()})) {}

  void Init(fuse_conn_info* connection);
  void Lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  void Forget(fuse_ino_t inode, uint64_t lookups) {
    nodes_.Forget(inode, lookups);
  }
  void GetAttributes(fuse_req_t request, fuse_ino_t inode);
  void ReadLink(fuse_req_t request, fuse_ino_t inode);
  void Open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* info);
  void Read(fuse_req_t request, size_t size, off_t offset,
            fuse_file_info* info);
  void OpenDirectory(fuse_req_t request, fuse_ino_t inode,
                     fuse_file_info* info);
  void ReadDirectory(fuse_req_t request, size_t size, off_t offset,
                     fuse_file_info* info, bool plus);
  void StatFs(fuse_req_t request);
  void GetXattr(fuse_req_t request, fuse_ino_t inode, const char* name,
                size_t size);
  void ListXattr(fuse_req_t request, fuse_ino_t inode, size_t size);

  void Stop() { reader_.Stop(); }
  MountTotals totals() const { return {read_bytes_, reader_.decoded_bytes()}; }
  void Log(const std::string& line) const {
    if (options_.log) {
      options_.log(line);
    } else {
      std::fprintf(stderr, "zipllm mount: %s\n", line.c_str());
    }
  }

 private:
  // Answers a read when all parts of it are decoded.
  class PendingRead;

  struct stat StatOf(const Node& node) const;
  fuse_entry_param EntryOf(const Node& node) const;
  void ReplyError(fuse_req_t request, const absl::Status& status,
                  const std::string& path);
  void ReplyValue(fuse_req_t request, size_t size, const std::string& value);
  absl::Status ReadAhead(Handle& handle, Extent read);
  void Tune();
  void LogBadRead(const Handle& handle, Extent extent,
                  const absl::Status& status);

  const std::unique_ptr<Tree> tree_;
  const MountOptions& options_;
  const std::chrono::system_clock::time_point now_;  // times of what has none
  const double validity_;
  NodeTable nodes_;
  std::atomic<uint64_t> read_bytes_ = 0;
  std::mutex mutex_;  // of logged_
  std::map<std::pair<uint64_t, uint64_t>, std::chrono::steady_clock::time_point>
      logged_;
  BlockReader reader_;
  const uint64_t max_ahead_;
  std::once_flag tuned_;
};

struct stat FileSystem::StatOf(const Node& node) const {
  struct stat out = {};
  out.st_ino = node.inode;
  out.st_nlink = 1;
  out.st_uid = geteuid();
  out.st_gid = getegid();
  out.st_blksize = 128 << 10;
  mode_t mode = node.mode & 0777;
  switch (node.kind) {
    case EntryKind::kFile:
      if (!node.has_metadata) mode = 0444;
      out.st_mode = S_IFREG | mode;
      out.st_size = static_cast<off_t>(
          std::min<uint64_t>(node.size, std::numeric_limits<off_t>::max()));
      out.st_blocks =
          static_cast<blkcnt_t>(out.st_size / 512 + (out.st_size % 512 != 0));
      break;
    case EntryKind::kDirectory:
      if (!node.has_metadata) mode = 0555;
      out.st_mode = S_IFDIR | mode;
      break;
    case EntryKind::kSymlink:
      out.st_mode = S_IFLNK | 0777;
      out.st_size = static_cast<off_t>(node.link_target.size());
      break;
  }
  if (node.has_metadata) {
    out.st_mtim = {.tv_sec = node.mtime_seconds,
                   .tv_nsec = static_cast<long>(node.mtime_nanoseconds)};
  } else {
    out.st_mtim = {.tv_sec = std::chrono::system_clock::to_time_t(now_),
                   .tv_nsec = 0};
  }
  out.st_atim = out.st_ctim = out.st_mtim;
  return out;
}

fuse_entry_param FileSystem::EntryOf(const Node& node) const {
  fuse_entry_param entry = {};
  entry.ino = node.inode;
  entry.attr = StatOf(node);
  entry.attr_timeout = entry.entry_timeout = validity_;
  return entry;
}

void FileSystem::ReplyError(fuse_req_t request, const absl::Status& status,
                            const std::string& path) {
  const int error = ErrnoOf(status);
  if (error != ENOENT) Log(StrCat(path, ": ", std::string(status.message())));
  fuse_reply_err(request, error);
}

void FileSystem::Init(fuse_conn_info* connection) {
  connection->max_background = kMaxBackground;
  connection->congestion_threshold = kMaxBackground * 3 / 4;
  // Another content is another inode: nothing that is cached gets stale.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_AUTO_INVAL_DATA);
  connection->want |= connection->capable & FUSE_CAP_CACHE_SYMLINKS;
}

void FileSystem::Lookup(fuse_req_t request, fuse_ino_t parent,
                        const char* name) {
  const std::optional<NodeTable::Known> folder = nodes_.Find(parent);
  if (!folder.has_value()) {
    fuse_reply_err(request, ESTALE);
    return;
  }
  if (std::strlen(name) > kMaxName) {
    fuse_reply_err(request, ENAMETOOLONG);
    return;
  }
  const std::string path = JoinPath(folder->path, name);
  absl::StatusOr<Node> node = tree_->Find(path);
  if (absl::IsNotFound(node.status())) {
    fuse_entry_param nothing = {};
    nothing.entry_timeout = validity_;
    fuse_reply_entry(request, &nothing);
    return;
  }
  if (!node.ok()) return ReplyError(request, node.status(), path);
  const NodeTable::Known known = nodes_.Add(path, *std::move(node));
  const fuse_entry_param entry = EntryOf(known.node);
  // The kernel does not know of what it was not told.
  if (fuse_reply_entry(request, &entry) != 0) nodes_.Forget(entry.ino, 1);
}

void FileSystem::GetAttributes(fuse_req_t request, fuse_ino_t inode) {
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  if (!known.has_value()) {
    fuse_reply_err(request, ESTALE);
    return;
  }
  const struct stat attributes = StatOf(known->node);
  fuse_reply_attr(request, &attributes, validity_);
}

void FileSystem::ReadLink(fuse_req_t request, fuse_ino_t inode) {
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  if (!known.has_value() || known->node.kind != EntryKind::kSymlink) {
    fuse_reply_err(request, known.has_value() ? EINVAL : ESTALE);
    return;
  }
  fuse_reply_readlink(request, known->node.link_target.c_str());
}

// Lets the kernel ask for more at once, if we may: fewer, larger requests.
void FileSystem::Tune() {
  // Asks nothing of the mount itself.
  struct statx status;
  if (statx(AT_FDCWD, options_.directory.c_str(), AT_STATX_DONT_SYNC,
            STATX_TYPE, &status) != 0) {
    return;
  }
  std::ofstream(StrCat("/sys/class/bdi/", status.stx_dev_major, ":",
                       status.stx_dev_minor, "/read_ahead_kb"))
      << kKernelReadAhead / 1024;
}

void FileSystem::Open(fuse_req_t request, fuse_ino_t inode,
                      fuse_file_info* info) {
  if ((info->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  if (!known.has_value()) {
    fuse_reply_err(request, ESTALE);
    return;
  }
  absl::StatusOr<std::shared_ptr<const File>> file = tree_->Open(known->path);
  const bool is_same = file.ok() && (*file)->size() == known->node.size &&
                       (*file)->sha256() == known->node.sha256;
  if (!is_same) {
    if (!file.ok() && !absl::IsNotFound(file.status())) {
      return ReplyError(request, file.status(), known->path);
    }
    // Another has its place since: what is open still has the content. Else
    // the kernel looks the path up again.
    file = nodes_.OpenFile(inode);
    if (*file == nullptr) {
      fuse_reply_err(request, ESTALE);
      return;
    }
  }
  std::call_once(tuned_, [this] { Tune(); });
  nodes_.SetFile(inode, *file);
  auto handle = std::make_unique<std::shared_ptr<Handle>>(
      std::make_shared<Handle>(*std::move(file), known->path, known->id));
  info->keep_cache = 1;
  info->fh = reinterpret_cast<uint64_t>(handle.get());
  if (fuse_reply_open(request, info) == 0) {
    handle.release();  // until the kernel releases it
  }
}

class FileSystem::PendingRead
    : public std::enable_shared_from_this<PendingRead> {
 public:
  PendingRead(FileSystem& file_system, fuse_req_t request,
              std::shared_ptr<Handle> handle, Extent read)
      : file_system_(file_system),
        request_(request),
        handle_(std::move(handle)),
        read_(read) {}

  void Start() {
    std::vector<Extent> extents;
    for (uint64_t offset = read_.begin; offset < read_.end;) {
      const absl::StatusOr<Extent> extent = handle_->ExtentOf(offset);
      if (!extent.ok()) {
        Fail({offset, read_.end}, extent.status());
        fuse_reply_err(request_, ErrnoOf(extent.status()));
        return;
      }
      extents.push_back(*extent);
      offset = extent->end;
    }
    blocks_.resize(extents.size());
    left_ = extents.size();
    for (size_t i = 0; i < extents.size(); ++i) {
      file_system_.reader_.Get(
          handle_->id(), handle_->file(), extents[i],
          [self = shared_from_this(), i,
           extent = extents[i]](const BlockReader::Result& block) {
            if (block.ok()) {
              self->blocks_[i] = *block;
            } else {
              self->Fail(extent, block.status());
            }
            if (self->left_.fetch_sub(1) == 1) self->Reply();
          });
    }
  }

 private:
  void Fail(Extent extent, const absl::Status& status) {
    error_ = ErrnoOf(status);
    if (!absl::IsCancelled(status)) {
      file_system_.LogBadRead(*handle_, extent, status);
    }
  }

  void Reply() {
    // Never a part: the kernel would take its end for that of the file.
    if (error_ != 0) {
      fuse_reply_err(request_, error_);
      return;
    }
    std::vector<iovec> parts;
    parts.reserve(blocks_.size());
    for (const auto& block : blocks_) {
      const uint64_t begin = std::max(read_.begin, block->extent.begin);
      const uint64_t end = std::min(read_.end, block->extent.end);
      const uint8_t* data = block->bytes.data() + (begin - block->extent.begin);
      parts.push_back({const_cast<uint8_t*>(data), end - begin});
    }
    file_system_.read_bytes_ += read_.end - read_.begin;
    Send(parts);
    for (size_t i = 0; i < parts.size(); ++i) {
      file_system_.reader_.Delivered(handle_->id(), *blocks_[i],
                                     parts[i].iov_len);
    }
  }

  void Send(const std::vector<iovec>& parts) {
    if (parts.size() <= kMaxParts) {
      fuse_reply_iov(request_, parts.data(), static_cast<int>(parts.size()));
      return;
    }
    Buffer whole;
    whole.Reserve(read_.end - read_.begin);
    for (const iovec& part : parts) {
      const size_t at = whole.size();
      whole.Resize(at + part.iov_len);
      std::memcpy(whole.data() + at, part.iov_base, part.iov_len);
    }
    fuse_reply_buf(request_, reinterpret_cast<const char*>(whole.data()),
                   whole.size());
  }

  FileSystem& file_system_;
  const fuse_req_t request_;
  const std::shared_ptr<Handle> handle_;
  const Extent read_;
  std::vector<std::shared_ptr<const BlockReader::Block>> blocks_;
  std::atomic<size_t> left_ = 0;
  std::atomic<int> error_ = 0;
};

void FileSystem::Read(fuse_req_t request, size_t size, off_t offset,
                      fuse_file_info* info) {
  const auto handle = *reinterpret_cast<std::shared_ptr<Handle>*>(info->fh);
  const auto begin = static_cast<uint64_t>(offset);
  const uint64_t file_size = handle->file()->size();
  if (begin >= file_size || size == 0) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  const Extent read{begin, begin + std::min<uint64_t>(size, file_size - begin)};
  std::make_shared<PendingRead>(*this, request, handle, read)->Start();
  // Errors are for those who ask for the bytes.
  CatchExceptions([&] { return ReadAhead(*handle, read); }).IgnoreError();
}

absl::Status FileSystem::ReadAhead(Handle& handle, Extent read) {
  const Extent ahead = handle.TakeAhead(read, max_ahead_);
  for (uint64_t next = ahead.begin; next < ahead.end;) {
    ASSIGN_OR_RETURN(const Extent extent, handle.ExtentOf(next));
    if (!reader_.ReadAhead(handle.id(), handle.file(), extent)) break;
    next = extent.end;
  }
  return absl::OkStatus();
}

// One line for each place; again after a minute.
void FileSystem::LogBadRead(const Handle& handle, Extent extent,
                            const absl::Status& status) {
  constexpr size_t kMaxLogged = 1 << 10;
  const auto now = std::chrono::steady_clock::now();
  {
    std::lock_guard lock(mutex_);
    if (logged_.size() >= kMaxLogged) logged_.clear();
    const auto [place, is_new] =
        logged_.try_emplace({handle.id(), extent.begin}, now);
    if (!is_new && now - place->second < std::chrono::minutes(1)) return;
    place->second = now;
  }
  Log(StrCat(handle.path(), ", bytes ", extent.begin, " to ", extent.end,
             ", cannot be read: ", std::string(status.message())));
}

void FileSystem::OpenDirectory(fuse_req_t request, fuse_ino_t inode,
                               fuse_file_info* info) {
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  if (!known.has_value()) {
    fuse_reply_err(request, ESTALE);
    return;
  }
  const size_t slash = known->path.rfind('/');
  const std::string parent =
      slash == std::string::npos ? "" : known->path.substr(0, slash);
  auto entries = tree_->List(known->path);
  if (!entries.ok()) return ReplyError(request, entries.status(), known->path);
  auto handle = std::make_unique<DirectoryHandle>();
  handle->path = known->path;
  handle->entries = {{".", known->node}, {"..", MakeFolder(parent)}};
  for (auto& entry : *entries) {
    // The kernel would refuse the whole directory.
    if (entry.first.size() <= kMaxName) {
      handle->entries.push_back(std::move(entry));
    }
  }
  info->fh = reinterpret_cast<uint64_t>(handle.get());
  if (fuse_reply_open(request, info) == 0) handle.release();
}

void FileSystem::ReadDirectory(fuse_req_t request, size_t size, off_t offset,
                               fuse_file_info* info, bool plus) {
  const auto& handle = *reinterpret_cast<DirectoryHandle*>(info->fh);
  std::vector<char> out(size);
  size_t used = 0;
  std::vector<fuse_ino_t> told;
  for (auto i = static_cast<size_t>(offset); i < handle.entries.size(); ++i) {
    const auto& [name, node] = handle.entries[i];
    const auto next = static_cast<off_t>(i + 1);
    const size_t need =
        plus ? fuse_add_direntry_plus(request, nullptr, 0, name.c_str(),
                                      nullptr, 0)
             : fuse_add_direntry(request, nullptr, 0, name.c_str(), nullptr, 0);
    if (used + need > size) break;
    if (!plus) {
      const struct stat attributes = StatOf(node);
      fuse_add_direntry(request, out.data() + used, size - used, name.c_str(),
                        &attributes, next);
    } else if (i < 2) {  // "." and "..": no look-up
      fuse_entry_param entry = {};
      entry.attr = StatOf(node);
      fuse_add_direntry_plus(request, out.data() + used, size - used,
                             name.c_str(), &entry, next);
    } else {
      const NodeTable::Known known =
          nodes_.Add(JoinPath(handle.path, name), node);
      const fuse_entry_param entry = EntryOf(known.node);
      fuse_add_direntry_plus(request, out.data() + used, size - used,
                             name.c_str(), &entry, next);
      told.push_back(entry.ino);
    }
    used += need;
  }
  if (fuse_reply_buf(request, out.data(), used) != 0) {
    for (const fuse_ino_t inode : told) nodes_.Forget(inode, 1);
  }
}

void FileSystem::StatFs(fuse_req_t request) {
  const absl::StatusOr<Tree::Totals> totals = tree_->Sum();
  if (!totals.ok()) return ReplyError(request, totals.status(), "");
  struct statvfs out = {};
  out.f_bsize = out.f_frsize = 4096;
  const auto blocks = [&](uint64_t bytes) {
    return bytes / out.f_frsize + (bytes % out.f_frsize != 0);
  };
  out.f_blocks = blocks(totals->plain_bytes);
  // Used is what is stored; none of the rest can be had.
  if (totals->stored_bytes != 0) {
    out.f_bfree =
        out.f_blocks - std::min(out.f_blocks, blocks(totals->stored_bytes));
  }
  out.f_files = totals->files;
  out.f_namemax = kMaxName;
  fuse_reply_statfs(request, &out);
}

void FileSystem::ReplyValue(fuse_req_t request, size_t size,
                            const std::string& value) {
  if (size == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (size < value.size()) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

void FileSystem::GetXattr(fuse_req_t request, fuse_ino_t inode,
                          const char* name, size_t size) {
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  if (!known.has_value() || known->node.kind != EntryKind::kFile) {
    fuse_reply_err(request, ENODATA);
    return;
  }
  if (std::strcmp(name, kSha256Attribute) == 0) {
    std::string hex;
    for (const uint8_t byte : known->node.sha256) {
      constexpr char kDigits[] = "0123456789abcdef";
      hex += kDigits[byte >> 4];
      hex += kDigits[byte & 15];
    }
    ReplyValue(request, size, hex);
  } else if (std::strcmp(name, kRatioAttribute) == 0) {
    const absl::StatusOr<uint64_t> coded = tree_->CodedSize(known->path);
    if (!coded.ok()) return ReplyError(request, coded.status(), known->path);
    const double ratio = known->node.size == 0
                             ? 1
                             : static_cast<double>(*coded) /
                                   static_cast<double>(known->node.size);
    // Not by the locale's point.
    const auto parts = static_cast<uint64_t>(ratio * 1e4 + 0.5);
    std::string fraction = std::to_string(parts % 10000);
    fraction.insert(0, 4 - fraction.size(), '0');
    ReplyValue(request, size, StrCat(parts / 10000, ".", fraction));
  } else {
    fuse_reply_err(request, ENODATA);
  }
}

void FileSystem::ListXattr(fuse_req_t request, fuse_ino_t inode, size_t size) {
  const std::optional<NodeTable::Known> known = nodes_.Find(inode);
  std::string names;
  if (known.has_value() && known->node.kind == EntryKind::kFile) {
    names.assign(kSha256Attribute, sizeof kSha256Attribute);
    names.append(kRatioAttribute, sizeof kRatioAttribute);
  }
  ReplyValue(request, size, names);
}

FileSystem& Of(fuse_req_t request) {
  return *static_cast<FileSystem*>(fuse_req_userdata(request));
}

// Calls a member of FileSystem; it throws only where memory is out, before it
// replies.
template <auto kMember, typename... Arguments>
void Call(fuse_req_t request, Arguments... arguments) {
  try {
    (Of(request).*kMember)(request, arguments...);
  } catch (const std::exception&) {
    fuse_reply_err(request, ENOMEM);
  }
}

fuse_lowlevel_ops Operations() {
  fuse_lowlevel_ops ops = {};
  ops.init = [](void* data, fuse_conn_info* connection) {
    static_cast<FileSystem*>(data)->Init(connection);
  };
  ops.lookup = Call<&FileSystem::Lookup>;
  ops.forget = [](fuse_req_t request, fuse_ino_t inode, uint64_t lookups) {
    Of(request).Forget(inode, lookups);
    fuse_reply_none(request);
  };
  ops.forget_multi = [](fuse_req_t request, size_t count,
                        fuse_forget_data* forgets) {
    for (size_t i = 0; i < count; ++i) {
      Of(request).Forget(forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(request);
  };
  ops.getattr = [](fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
    Call<&FileSystem::GetAttributes>(request, inode);
  };
  ops.readlink = Call<&FileSystem::ReadLink>;
  ops.open = Call<&FileSystem::Open>;
  ops.read = [](fuse_req_t request, fuse_ino_t, size_t size, off_t offset,
                fuse_file_info* info) {
    Call<&FileSystem::Read>(request, size, offset, info);
  };
  ops.release = [](fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
    delete reinterpret_cast<std::shared_ptr<Handle>*>(info->fh);
    fuse_reply_err(request, 0);
  };
  ops.opendir = Call<&FileSystem::OpenDirectory>;
  ops.readdir = [](fuse_req_t request, fuse_ino_t, size_t size, off_t offset,
                   fuse_file_info* info) {
    Call<&FileSystem::ReadDirectory>(request, size, offset, info, false);
  };
  ops.readdirplus = [](fuse_req_t request, fuse_ino_t, size_t size,
                       off_t offset, fuse_file_info* info) {
    Call<&FileSystem::ReadDirectory>(request, size, offset, info, true);
  };
  ops.releasedir = [](fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
    delete reinterpret_cast<DirectoryHandle*>(info->fh);
    fuse_reply_err(request, 0);
  };
  ops.statfs = [](fuse_req_t request, fuse_ino_t) {
    Call<&FileSystem::StatFs>(request);
  };
  ops.getxattr = Call<&FileSystem::GetXattr>;
  ops.listxattr = Call<&FileSystem::ListXattr>;
  return ops;
}

// What libfuse says goes to the log of the one mount there is; its last line is
// why it failed.
std::mutex log_mutex;
FileSystem* logging = nullptr;
std::string last_line;

void LogOfLibrary(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::lock_guard lock(log_mutex);
  last_line = text;
  if (logging != nullptr && level <= FUSE_LOG_WARNING) logging->Log(text);
}

void SetLogging(FileSystem* file_system) {
  std::lock_guard lock(log_mutex);
  logging = file_system;
}

// libfuse's loop waits in a way that only a signal ends: this one, which does
// nothing else.
constexpr int kWake = SIGURG;

// Ends the loop of a session, in the thread that makes it, when a descriptor
// polls as readable.
class Stopper {
 public:
  Stopper(fuse_session* session, int descriptor)
      : session_(session), done_(eventfd(0, EFD_CLOEXEC)) {
    struct sigaction wake = {};
    wake.sa_handler = [](int) {};
    sigaction(kWake, &wake, &before_);
    sigset_t signals, mask;
    sigfillset(&signals);
    pthread_sigmask(SIG_SETMASK, &signals, &mask);
    thread_ = std::jthread(
        [this, descriptor, loop = pthread_self()] { Wait(descriptor, loop); });
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  }
  ~Stopper() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = write(done_.get(), &one, sizeof one);
    thread_.join();
    sigaction(kWake, &before_, nullptr);
  }

 private:
  void Wait(int descriptor, pthread_t loop) {
    pollfd polled[] = {{done_.get(), POLLIN, 0}, {descriptor, POLLIN, 0}};
    while (poll(polled, 2, -1) < 0 && errno == EINTR) {
    }
    // Again and again: it may not wait yet.
    while (polled[0].revents == 0) {
      fuse_session_exit(session_);
      pthread_kill(loop, kWake);
      poll(polled, 1, 20);
    }
  }

  fuse_session* const session_;
  const UniqueFd done_;
  struct sigaction before_ = {};
  std::jthread thread_;
};

struct DestroySession {
  void operator()(fuse_session* session) const {
    fuse_session_destroy(session);
  }
};
struct DestroyConfig {
  void operator()(fuse_loop_config* config) const {
    fuse_loop_cfg_destroy(config);
  }
};

absl::Status CheckDirectory(const MountOptions& options) {
  struct stat status;
  if (stat(options.directory.c_str(), &status) != 0) {
    return ErrnoStatus(errno, "cannot mount on " + options.directory);
  }
  if (!S_ISDIR(status.st_mode)) {
    return InvalidArgument("cannot mount on ", options.directory,
                           ": it is no directory");
  }
  // What is mounted would hide what it is made of.
  const auto real = [](const std::string& path) {
    const std::unique_ptr<char, decltype(&free)> name(
        realpath(path.c_str(), nullptr), &free);
    return name == nullptr ? "" : std::string(name.get()) + "/";
  };
  const std::string source = real(options.source);
  const std::string directory = real(options.directory);
  if (!source.empty() && source.starts_with(directory)) {
    return InvalidArgument("cannot mount ", options.source, " on ",
                           options.directory, ", in which it is");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Mount(std::unique_ptr<Tree> tree, const MountOptions& options) {
  RETURN_IF_ERROR(CheckDirectory(options));
  // What decoders need for a block comes and goes: to map it anew each time
  // takes long.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  ASSIGN_OR_RETURN(Node root, tree->Find(""));

  std::string list = "ro,default_permissions,subtype=zipllm";
  if (options.allow_other) list += ",allow_other";
  for (const std::string& option : options.kernel_options) list += "," + option;
  char* escaped = strdup(list.c_str());
  if (escaped == nullptr ||
      fuse_opt_add_opt_escaped(&escaped,
                               ("fsname=" + options.source).c_str()) != 0) {
    free(escaped);
    return ResourceExhausted("out of memory");
  }
  list = escaped;
  free(escaped);
  std::string program = "zipllm", flag = "-o";
  std::array<char*, 3> argv = {program.data(), flag.data(), list.data()};
  fuse_args arguments = FUSE_ARGS_INIT(argv.size(), argv.data());

  FileSystem file_system(std::move(tree), std::move(root), options);
  SetLogging(nullptr);
  fuse_set_log_func(LogOfLibrary);
  const fuse_lowlevel_ops operations = Operations();
  const std::unique_ptr<fuse_session, DestroySession> session(fuse_session_new(
      &arguments, &operations, sizeof operations, &file_system));
  fuse_opt_free_args(&arguments);
  const auto why = [] {
    std::lock_guard lock(log_mutex);
    return last_line.empty() ? "no reason given" : last_line;
  };
  if (session == nullptr) {
    return InvalidArgument("cannot mount with the options ", list, ": ", why());
  }
  if (fuse_session_mount(session.get(), options.directory.c_str()) != 0) {
    return MakeStatus(
        absl::StatusCode::kUnavailable, "cannot mount on ", options.directory,
        ": ", why(),
        " (it takes /dev/fuse and, unless you are root, fusermount3)");
  }
  SetLogging(&file_system);
  if (options.ready) options.ready();

  int error = 0;
  {
    const Stopper stopper(session.get(), options.stop_descriptor);
    const std::unique_ptr<fuse_loop_config, DestroyConfig> config(
        fuse_loop_cfg_create());
    fuse_loop_cfg_set_clone_fd(config.get(), 1);
    fuse_loop_cfg_set_max_threads(config.get(), kLoopThreads);
    fuse_loop_cfg_set_idle_threads(config.get(), kLoopThreads);
    error = fuse_session_loop_mt(session.get(), config.get());
  }
  file_system.Stop();  // answers all that is asked
  fuse_session_unmount(session.get());
  SetLogging(nullptr);
  if (options.totals != nullptr) *options.totals = file_system.totals();
  if (error < 0) {
    return ErrnoStatus(-error, "the mount on " + options.directory);
  }
  return absl::OkStatus();
}

}  // namespace zipllm::mount
