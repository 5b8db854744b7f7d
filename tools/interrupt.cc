#include "tools/interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

namespace zipllm::tools {
namespace {

std::atomic<int> stop_signal{0};
std::atomic<int> stop_descriptor{-1};
static_assert(std::atomic<int>::is_always_lock_free);

void HandleSignal(int signal_number) {
  if (stop_signal != 0) {  // asked before: die of it
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;
  }
  SetInterrupt(signal_number);
}

}  // namespace

void SetInterrupt(int signal_number) {
  stop_signal = signal_number;
  int fd = stop_descriptor;
  if (fd < 0 || signal_number == 0) return;
  int saved_errno = errno;
  const uint64_t one = 1;
  [[maybe_unused]] ssize_t written = write(fd, &one, sizeof one);
  errno = saved_errno;
}

void InstallInterruptHandlers() {
  stop_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct sigaction action = {};
  action.sa_handler = HandleSignal;
  // No SA_RESTART: a blocked read or write must return.
  for (int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old = {};
    sigaction(number, nullptr, &old);
    // What the parent chose to ignore (nohup, background jobs) stays ignored.
    if (old.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
}

int InterruptSignal() { return stop_signal; }
int InterruptDescriptor() { return stop_descriptor; }

}  // namespace zipllm::tools
