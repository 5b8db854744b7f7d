// Where a command talks: standard streams, the terminal, messages, exit code.
#ifndef ZIPLLM_TOOLS_CONSOLE_H_
#define ZIPLLM_TOOLS_CONSOLE_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "zipllm/io.h"
#include "zipllm/options.h"

namespace zipllm::tools {

/// Exit codes; the man page documents them.
enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitUsage = 2,
  kExitDamaged = 3,
  kExitWarning = 4,
  kExitSignal = 128,  ///< plus the number of the signal
};

/// The remedy where files are in the way.
inline constexpr char kReplaceRemedy[] =
    "use -f to replace files, or -o for another place";

/// The descriptors that a command uses, so that tests can give their own.
struct Streams {
  int in = 0;
  int out = 1;
  int err = 2;
};

/// One command's talk with its user. Thread-compatible.
class Console {
 public:
  enum class Verbosity { kQuiet, kNormal, kVerbose };

  Console(Streams streams, Verbosity verbosity);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  bool InputIsTerminal() const;
  bool OutputIsTerminal() const;
  /// True where progress and summaries are shown without being asked for.
  bool Interactive() const { return interactive_; }
  bool Verbose() const { return verbosity_ == Verbosity::kVerbose; }
  /// True if bars may be drawn with block characters (the locale is UTF-8).
  bool Utf8() const { return utf8_; }
  /// Columns of the terminal at standard error; 80 where there is none.
  size_t Width() const;

  /// Queues text for standard output; `Finish` writes it.
  void Print(std::string_view text) { output_ += text; }
  /// A line on standard error, shown if verbose or on a terminal.
  void Note(const std::string& line);
  /// A line on standard error, shown if verbose.
  void Detail(const std::string& line);
  /// "zipllm: warning: SUBJECT: MESSAGE"; the exit code becomes kExitWarning
  /// where it was kExitOk.
  void Warn(const std::string& subject, const std::string& message);
  /// "zipllm: MESSAGE", of what is no error.
  void Tell(const std::string& message);
  /// "zipllm: SUBJECT: MESSAGE", the subject left out where the message names
  /// it; the exit code becomes the one for this error, if that is worse. Where
  /// something ALREADY_EXISTS, `if_exists` is the remedy.
  void Fail(const std::string& subject, const absl::Status& status,
            const std::string& if_exists = kReplaceRemedy);
  /// The same for a command that answers yes or no: an error is no answer, and
  /// ends with kExitUsage where it would with kExitError.
  void FailToAnswer(const std::string& subject, const absl::Status& status);
  /// The answer is no: kExitError.
  void AnswerNo() { Found(kExitError); }
  /// What was looked at is such that the exit code becomes this one, if that is
  /// worse.
  void Found(ExitCode exit_code);
  /// "zipllm: MESSAGE", exit code kExitUsage: the command line is wrong.
  void FailUsage(const std::string& message);

  /// Asks on the terminal; false where nobody can answer.
  bool Confirm(const std::string& question);

  /// Shows `line` in place of the last one, until something else is printed.
  void ShowProgress(const std::string& line);
  void ClearProgress();

  /// Standard input, which also ends with CANCELLED when a signal asks to stop.
  std::unique_ptr<Source> OpenInput() const;
  /// Standard output. With `guard_terminal`, binary data for a terminal is
  /// refused with FAILED_PRECONDITION.
  std::unique_ptr<Sink> OpenOutput(bool guard_terminal) const;

  /// Writes what was printed and returns the exit code.
  int Finish();

 private:
  void WriteError(const std::string& text);
  void Raise(int exit_code);

  Streams streams_;
  Verbosity verbosity_;
  bool error_is_terminal_;
  bool interactive_;
  bool utf8_;
  bool progress_shown_ = false;
  int exit_code_ = kExitOk;
  std::string output_;
};

/// CANCELLED where a signal asked to stop.
absl::Status CheckInterrupt();

/// Progress for the console: rate, ratio, time left, at most ten times a
/// second, on a terminal only; and the way signals stop the library. One an
/// operation.
class ProgressReport {
 public:
  /// `console` must outlive it, and the callback must not outlive this.
  explicit ProgressReport(Console* console);
  ~ProgressReport();
  ProgressCallback Callback();
  /// Since construction.
  double Seconds() const;

 private:
  void Show(const Progress& progress, double now);

  Console& console_;
  double start_;
  double next_show_;
};

/// A monotonic clock, in seconds.
double Now();

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_CONSOLE_H_
