#include <fcntl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "mount/mount.h"

namespace zipllm::mount {
namespace {

// Waits for a byte from the child, or for its end; does not return.
[[noreturn]] void WaitForChild(pid_t child, int pipe) {
  char byte = 0;
  ssize_t n;
  while ((n = read(pipe, &byte, 1)) < 0 && errno == EINTR) {
    kill(child, SIGTERM);  // what we were told is meant for it
  }
  if (n == 1) _exit(0);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

}  // namespace

absl::StatusOr<Background> Background::Enter() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoStatus(errno, "cannot make a pipe");
  }
  const pid_t child = fork();
  if (child < 0) {
    const int error = errno;
    close(ends[0]);
    close(ends[1]);
    return ErrnoStatus(error, "cannot start a process");
  }
  if (child > 0) {
    close(ends[1]);
    WaitForChild(child, ends[0]);
  }
  close(ends[0]);
  Background background(ends[1]);
  if (setsid() < 0 || chdir("/") != 0) {
    return ErrnoStatus(errno, "cannot go to the background");
  }
  return background;
}

Background::Background(Background&& other) noexcept
    : pipe_(std::exchange(other.pipe_, -1)) {}

Background::~Background() {
  if (pipe_ >= 0) close(pipe_);
}

void Background::Ready() {
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    for (const int fd : {0, 1, 2}) dup2(null, fd);
    close(null);
  }
  [[maybe_unused]] const ssize_t n = write(pipe_, "r", 1);
  close(std::exchange(pipe_, -1));
}

void LogToSystem(const std::string& line) {
  syslog(LOG_DAEMON | LOG_WARNING, "zipllm mount: %s", line.c_str());
}

}  // namespace zipllm::mount
