#include "tools/console.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/status.h"
#include "tools/format.h"
#include "tools/interrupt.h"

namespace zipllm::tools {
namespace {

constexpr char kReaderGone[] = "the reader of standard output went away";

constexpr const char kInputName[] = "standard input";
constexpr const char kOutputName[] = "standard output";

/// A pipe or terminal at standard input: waits for bytes and for signals at
/// once.
class PipeSource : public Source {
 public:
  explicit PipeSource(int fd) : fd_(fd) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    while (true) {
      RETURN_IF_ERROR(CheckInterrupt());
      pollfd wait[2] = {
          {.fd = fd_, .events = POLLIN, .revents = 0},
          {.fd = InterruptDescriptor(), .events = POLLIN, .revents = 0}};
      if (poll(wait, 2, -1) < 0 && errno != EINTR && errno != EAGAIN) {
        return ErrnoStatus(errno, StrCat("cannot wait for ", kInputName));
      }
      if (wait[0].revents == 0) continue;
      ssize_t n = read(fd_, out.data(), out.size());
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR && errno != EAGAIN) {
        return ErrnoStatus(errno, StrCat("cannot read ", kInputName));
      }
    }
  }
  std::string Name() const override { return kInputName; }

 private:
  int fd_;
};

/// Standard output. A blocked write ends when a signal comes.
class OutputSink : public Sink {
 public:
  OutputSink(int fd, bool guard_terminal)
      : fd_(fd), guard_terminal_(guard_terminal) {}
  absl::Status Write(ByteSpan data) override {
    if (guard_terminal_ &&
        !IsTerminalText(
            {reinterpret_cast<const char*>(data.data()), data.size()})) {
      return absl::FailedPreconditionError(
          "refusing to write binary data to a terminal; redirect it, name a "
          "file "
          "with -o, or force it with -f");
    }
    while (!data.empty()) {
      RETURN_IF_ERROR(CheckInterrupt());
      ssize_t n = write(fd_, data.data(), data.size());
      if (n >= 0) {
        data = data.subspan(static_cast<size_t>(n));
      } else if (errno == EAGAIN) {
        pollfd wait = {.fd = fd_, .events = POLLOUT, .revents = 0};
        poll(&wait, 1, -1);
      } else if (errno == EPIPE) {
        return absl::AbortedError(kReaderGone);
      } else if (errno != EINTR) {
        return ErrnoStatus(errno, StrCat("cannot write ", kOutputName));
      }
    }
    return absl::OkStatus();
  }
  std::string Name() const override { return kOutputName; }

 private:
  int fd_;
  bool guard_terminal_;
};

bool LocaleIsUtf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    return strcasestr(value, "utf-8") != nullptr ||
           strcasestr(value, "utf8") != nullptr;
  }
  return false;
}

// What EPIPE has become on its way: nobody is there to be told.
bool IsReaderGone(const absl::Status& status) {
  return absl::IsAborted(status) &&
         std::string(status.message()).ends_with(kReaderGone);
}

int ExitCodeFor(const absl::Status& status) {
  // A system call that a signal broke off may fail in its own way.
  if (InterruptSignal() != 0) return kExitSignal + InterruptSignal();
  if (IsReaderGone(status)) return kExitSignal + SIGPIPE;
  return absl::IsDataLoss(status) ? kExitDamaged : kExitError;
}

// True if `message` has `name` as a word or words of its own.
bool Mentions(const std::string& message, const std::string& name) {
  auto bounds = [&](size_t i) {
    return i >= message.size() || strchr(" :;,'()", message[i]) != nullptr;
  };
  for (size_t at = message.find(name); at != std::string::npos;
       at = message.find(name, at + 1)) {
    if ((at == 0 || bounds(at - 1)) && bounds(at + name.size())) return true;
  }
  return false;
}

// The worst of several exit codes counts.
int Severity(int exit_code) {
  if (exit_code == kExitOk) return 0;
  if (exit_code == kExitWarning) return 1;
  if (exit_code == kExitError) return 2;
  if (exit_code == kExitDamaged) return 3;
  return 4;
}

}  // namespace

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

absl::Status CheckInterrupt() {
  if (InterruptSignal() == 0) return absl::OkStatus();
  return absl::CancelledError("interrupted");
}

Console::Console(Streams streams, Verbosity verbosity)
    : streams_(streams),
      verbosity_(verbosity),
      error_is_terminal_(isatty(streams.err) == 1),
      interactive_(error_is_terminal_ && verbosity != Verbosity::kQuiet),
      utf8_(LocaleIsUtf8()) {}

Console::~Console() { ClearProgress(); }

bool Console::InputIsTerminal() const { return isatty(streams_.in) == 1; }
bool Console::OutputIsTerminal() const { return isatty(streams_.out) == 1; }

size_t Console::Width() const {
  winsize size = {};
  if (ioctl(streams_.err, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return 80;
  return size.ws_col;
}

void Console::WriteError(const std::string& text) {
  ClearProgress();
  std::string_view rest = text;
  while (!rest.empty()) {
    ssize_t n = write(streams_.err, rest.data(), rest.size());
    if (n < 0 && errno != EINTR) return;  // nowhere left to complain
    if (n > 0) rest.remove_prefix(static_cast<size_t>(n));
  }
}

void Console::Raise(int exit_code) {
  if (Severity(exit_code) > Severity(exit_code_)) exit_code_ = exit_code;
}

void Console::Note(const std::string& line) {
  if (interactive_ || Verbose()) WriteError(line + "\n");
}

void Console::Detail(const std::string& line) {
  if (Verbose()) WriteError(line + "\n");
}

void Console::Warn(const std::string& subject, const std::string& message) {
  // A warning about something inside a directory names it in full.
  const bool named = message.find(subject) != std::string::npos;
  WriteError(StrCat("zipllm: warning: ",
                    Printable(named ? message : subject + ": " + message),
                    "\n"));
  Raise(kExitWarning);
}

void Console::Tell(const std::string& message) {
  WriteError(StrCat("zipllm: ", Printable(message), "\n"));
}

void Console::Found(ExitCode exit_code) { Raise(exit_code); }

void Console::Fail(const std::string& subject, const absl::Status& status,
                   const std::string& if_exists) {
  Raise(ExitCodeFor(status));
  if (IsReaderGone(status)) return;
  std::string message(status.message());
  if (message.empty()) message = absl::StatusCodeToString(status.code());
  if (status.code() == absl::StatusCode::kAlreadyExists && !if_exists.empty()) {
    message += "; " + if_exists;
  }
  std::string prefix;
  if (!Mentions(message, subject)) prefix = subject + ": ";
  WriteError(StrCat("zipllm: ", Printable(prefix + message), "\n"));
}

void Console::FailToAnswer(const std::string& subject,
                           const absl::Status& status) {
  Fail(subject, status);
  if (exit_code_ == kExitError) exit_code_ = kExitUsage;
}

void Console::FailUsage(const std::string& message) {
  WriteError("zipllm: " + message + "\n");
  exit_code_ = kExitUsage;
}

bool Console::Confirm(const std::string& question) {
  if (!interactive_ || !InputIsTerminal()) return false;
  WriteError("zipllm: " + Printable(question) + " [y/N] ");
  std::string answer;
  char c = 0;
  while (InterruptSignal() == 0) {
    ssize_t n = read(streams_.in, &c, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || c == '\n') break;
    answer += c;
  }
  return answer == "y" || answer == "Y" || answer == "yes";
}

void Console::ShowProgress(const std::string& line) {
  std::string text = "\r" + line + "\x1b[K";
  [[maybe_unused]] ssize_t n = write(streams_.err, text.data(), text.size());
  progress_shown_ = true;
}

void Console::ClearProgress() {
  if (!progress_shown_) return;
  progress_shown_ = false;
  [[maybe_unused]] ssize_t n = write(streams_.err, "\r\x1b[K", 4);
}

std::unique_ptr<Source> Console::OpenInput() const {
  struct stat st;
  // A file that something else has read a part of counts from there on.
  if (fstat(streams_.in, &st) == 0 && S_ISREG(st.st_mode) &&
      lseek(streams_.in, 0, SEEK_CUR) == 0) {
    return MakeDescriptorSource(streams_.in, kInputName);
  }
  return std::make_unique<PipeSource>(streams_.in);
}

std::unique_ptr<Sink> Console::OpenOutput(bool guard_terminal) const {
  return std::make_unique<OutputSink>(streams_.out,
                                      guard_terminal && OutputIsTerminal());
}

int Console::Finish() {
  ClearProgress();
  if (!output_.empty()) {
    OutputSink out(streams_.out, false);
    absl::Status status = out.Write(
        {reinterpret_cast<const uint8_t*>(output_.data()), output_.size()});
    output_.clear();
    if (!status.ok()) Fail(kOutputName, status);
  }
  return exit_code_;
}

ProgressReport::ProgressReport(Console* console)
    : console_(*console), start_(Now()), next_show_(start_ + 0.2) {}

ProgressReport::~ProgressReport() { console_.ClearProgress(); }

double ProgressReport::Seconds() const { return Now() - start_; }

ProgressCallback ProgressReport::Callback() {
  return [this](const Progress& progress) {
    if (InterruptSignal() != 0) return false;
    if (console_.Interactive()) {
      double now = Now();
      if (now >= next_show_) {
        Show(progress, now);
        next_show_ = now + 0.1;
      }
    }
    return true;
  };
}

void ProgressReport::Show(const Progress& progress, double now) {
  const double elapsed = now - start_;
  std::string facts;
  if (progress.bytes_total != 0) {
    facts = Format("  %3.0f %%  %s of %s",
                   100.0 * static_cast<double>(progress.bytes_done) /
                       static_cast<double>(progress.bytes_total),
                   HumanBytes(progress.bytes_done).c_str(),
                   HumanBytes(progress.bytes_total).c_str());
  } else {
    facts = "  " + HumanBytes(progress.bytes_done);
  }
  facts += "  " + HumanRate(progress.bytes_done, elapsed);
  if (progress.coded_bytes != 0 && progress.bytes_done != 0) {
    facts += "  ratio " + Percent(progress.coded_bytes, progress.bytes_done);
  }
  if (progress.bytes_total > progress.bytes_done && progress.bytes_done != 0) {
    double left =
        static_cast<double>(progress.bytes_total - progress.bytes_done);
    facts += "  ETA " + HumanDuration(left * elapsed /
                                      static_cast<double>(progress.bytes_done));
  }
  const size_t width = console_.Width() - 1;  // the last column would wrap
  const size_t room = width > facts.size() ? width - facts.size() : 0;
  std::string line =
      Shorten(Printable(progress.current.empty() ? "-" : progress.current),
              room) +
      facts;
  console_.ShowProgress(Shorten(line, width));
}

}  // namespace zipllm::tools
