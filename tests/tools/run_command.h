// Runs the command in-process, with files as its standard streams.
#ifndef ZIPLLM_TESTS_TOOLS_RUN_COMMAND_H_
#define ZIPLLM_TESTS_TOOLS_RUN_COMMAND_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tools/command.h"

namespace zipllm::tools {

/// An unnamed file in memory.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& content = "")
      : fd_(memfd_create("test", 0)) {
    size_t done = 0;
    while (done < content.size()) {
      ssize_t n = write(fd_, content.data() + done, content.size() - done);
      if (n <= 0) std::abort();
      done += static_cast<size_t>(n);
    }
    lseek(fd_, 0, SEEK_SET);
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  int fd() const { return fd_; }
  std::string Content() const {
    std::string content(static_cast<size_t>(lseek(fd_, 0, SEEK_END)), '\0');
    if (pread(fd_, content.data(), content.size(), 0) !=
        static_cast<ssize_t>(content.size())) {
      std::abort();
    }
    return content;
  }

 private:
  int fd_;
};

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

inline Outcome RunZipllm(const std::vector<std::string>& arguments,
                         const std::string& input = "") {
  MemoryFile in(input), out, err;
  int code =
      RunCommand(arguments, {.in = in.fd(), .out = out.fd(), .err = err.fd()});
  return {code, out.Content(), err.Content()};
}

/// A folder that is removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = std::filesystem::temp_directory_path() / "zipllm.XXXXXX";
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}
inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline bool Exists(const std::string& path) {
  return std::filesystem::exists(std::filesystem::symlink_status(path));
}

}  // namespace zipllm::tools

#endif  // ZIPLLM_TESTS_TOOLS_RUN_COMMAND_H_
