#include "mount/testing.h"

#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

namespace zipllm::mount::testing {
namespace {

std::array<uint8_t, 32> Sha256OfMade(const MadeFile& file) {
  std::array<uint8_t, 32> sha256{};
  for (size_t i = 0; i < 8; ++i) {
    sha256[i] = static_cast<uint8_t>(file.seed >> (8 * i));
    sha256[8 + i] = static_cast<uint8_t>(file.size >> (8 * i));
  }
  return sha256;
}

class OpenMadeFile : public File {
 public:
  OpenMadeFile(const MadeFile& file, std::chrono::milliseconds delay)
      : file_(file), delay_(delay), sha256_(Sha256OfMade(file)) {}
  uint64_t size() const override { return file_.size; }
  const std::array<uint8_t, 32>& sha256() const override { return sha256_; }
  absl::StatusOr<std::pair<uint64_t, uint64_t>> BlockAt(
      uint64_t offset) const override {
    const uint64_t begin = offset / file_.block * file_.block;
    return std::pair(begin, std::min(begin + file_.block, file_.size));
  }
  absl::Status Read(uint64_t offset, MutableByteSpan out) const override {
    std::this_thread::sleep_for(delay_);
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = ByteAt(file_.seed, offset + i);
    }
    for (const uint64_t bad : file_.bad) {
      if (bad * file_.block < offset + out.size() &&
          offset < (bad + 1) * file_.block) {
        return DataLoss("object 1234 is damaged");
      }
    }
    return absl::OkStatus();
  }

 private:
  const MadeFile file_;
  const std::chrono::milliseconds delay_;
  const std::array<uint8_t, 32> sha256_;
};

Entry EntryOfMade(const std::string& path, const MadeFile& file) {
  Entry entry;
  entry.path = path;
  entry.size = file.size;
  entry.sha256 = Sha256OfMade(file);
  return entry;
}

int stop_descriptor = -1;

[[noreturn]] void RunChild(const std::function<std::unique_ptr<Tree>()>& make,
                           MountOptions options, const std::string& log_path,
                           int ready) {
  stop_descriptor = eventfd(0, EFD_CLOEXEC);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    signal(number, [](int) {
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t n = write(stop_descriptor, &one, 8);
    });
  }
  std::mutex mutex;
  std::ofstream log(log_path);
  options.stop_descriptor = stop_descriptor;
  options.log = [&](const std::string& line) {
    std::lock_guard lock(mutex);
    log << line << std::endl;
  };
  options.ready = [&] { [[maybe_unused]] auto n = write(ready, "r", 1); };
  const absl::Status status = Mount(make(), options);
  if (!status.ok()) options.log(status.ToString());
  log.close();
  _exit(status.ok() ? 0 : 1);
}

}  // namespace

const std::map<std::string, MadeFile>& MadeTree::files() const {
  return !switch_file.empty() && std::filesystem::exists(switch_file) ? changed
                                                                      : files_;
}

absl::StatusOr<Node> MadeTree::Find(const std::string& path) {
  if (path.empty()) return MakeFolder("");
  const auto file = files().find(path);
  if (file == files().end()) return absl::NotFoundError(path);
  return MakeNode(EntryOfMade(path, file->second), path);
}

absl::StatusOr<std::vector<std::pair<std::string, Node>>> MadeTree::List(
    const std::string& path) {
  if (!path.empty()) return absl::NotFoundError(path);
  std::vector<std::pair<std::string, Node>> list;
  for (const auto& [name, file] : files()) {
    list.emplace_back(name, MakeNode(EntryOfMade(name, file), name));
  }
  return list;
}

absl::StatusOr<std::shared_ptr<const File>> MadeTree::Open(
    const std::string& path) {
  const auto file = files().find(path);
  if (file == files().end()) return absl::NotFoundError(path);
  return std::make_shared<OpenMadeFile>(file->second, delay_);
}

absl::StatusOr<uint64_t> MadeTree::CodedSize(const std::string& path) {
  ASSIGN_OR_RETURN(const Node node, Find(path));
  return node.size / 4;
}

Mounted::Mounted(const std::function<std::unique_ptr<Tree>()>& make,
                 const std::function<void(MountOptions*)>& set) {
  if (access("/dev/fuse", R_OK | W_OK) != 0) {
    missing_ = "/dev/fuse cannot be opened";
    return;
  }
  MountOptions options;
  options.directory = path();
  options.source = "test";
  if (set) set(&options);
  int ready[2];
  if (pipe(ready) != 0) {
    missing_ = "no pipe";
    return;
  }
  child_ = fork();
  if (child_ == 0) {
    close(ready[0]);
    RunChild(make, options, log_ / "log", ready[1]);
  }
  close(ready[1]);
  char byte;
  const bool is_ready = read(ready[0], &byte, 1) == 1;
  close(ready[0]);
  if (!is_ready) {
    waitpid(child_, nullptr, 0);
    child_ = -1;
    missing_ = Log();
  }
}

Mounted::~Mounted() {
  if (child_ > 0) End(SIGKILL);
  umount2(path().c_str(), MNT_DETACH);  // what a killed one leaves
}

void Mounted::Kill() const { kill(child_, SIGKILL); }

int Mounted::End(int signal) {
  kill(child_, signal);
  int status = 0;
  waitpid(child_, &status, 0);
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string Mounted::Log() const {
  const Bytes bytes = zipllm::testing::ReadFile(log_ / "log");
  return {bytes.begin(), bytes.end()};
}

bool Mounted::IsMounted() const {
  std::ifstream mounts("/proc/self/mounts");
  std::string line;
  while (std::getline(mounts, line)) {
    if (line.find(" " + path() + " ") != std::string::npos) return true;
  }
  return false;
}

}  // namespace zipllm::mount::testing
