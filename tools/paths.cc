#include "tools/paths.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/file.h"
#include "base/status.h"

namespace zipllm::tools {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSuffixSize = sizeof kSuffix - 1;

bool IsDirectory(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

bool IsSpecial(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && !S_ISDIR(st.st_mode) &&
         !S_ISREG(st.st_mode);
}

bool IsEmptyDirectory(const std::string& path) {
  std::error_code error;
  return fs::is_empty(path, error) && !error;
}

std::string WithoutTrailingSlashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string BaseName(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

bool HasSuffix(const std::string& path) { return path.ends_with(kSuffix); }

// True where nothing but a suffix could be the name of a file beside `path`.
bool IsNameless(const std::string& path) {
  const std::string name = BaseName(path);
  return name.empty() || name == "." || name == "..";
}

// True where -o names a directory to put outputs into.
bool OutputIsFolder(const CommandOptions& options) {
  return options.inputs.size() > 1 || options.output.ends_with('/');
}

absl::StatusOr<std::string> InFolder(const std::string& folder,
                                     const std::string& path) {
  if (!IsDirectory(folder)) {
    return InvalidArgument(folder, " is no directory; create it first");
  }
  return folder + (folder.ends_with('/') ? "" : "/") + BaseName(path);
}

// Whether the user lets `target` be written, and what to do with what is there.
// A directory is for the library to look into: only it knows whether the
// archive holds a directory or a file.
absl::Status AskToWrite(const std::string& input, const CommandOptions& options,
                        Console& console, Target* target) {
  struct stat st, in;
  if (lstat(target->path.c_str(), &st) != 0) return absl::OkStatus();
  if (S_ISDIR(st.st_mode)) {
    target->overwrite = options.force || IsEmptyDirectory(target->path);
    return absl::OkStatus();
  }
  if (input != "-" && stat(input.c_str(), &in) == 0 && in.st_dev == st.st_dev &&
      in.st_ino == st.st_ino) {
    return InvalidArgument(target->path,
                           " is the input itself; use -o for another place");
  }
  if (!options.force &&
      !console.Confirm(target->path + " exists; replace it?")) {
    return MakeStatus(absl::StatusCode::kAlreadyExists, target->path,
                      " exists already");
  }
  target->overwrite = true;
  return absl::OkStatus();
}

// True if `output` would lie inside the directory `input`: the archive would
// then have itself as input.
bool LiesInside(const std::string& output, const std::string& input) {
  std::error_code error;
  fs::path directory = fs::canonical(input, error);
  if (error) return false;
  fs::path parent = fs::canonical(SplitPath(output).first, error);
  if (error) return false;
  auto [in_directory, in_parent] = std::mismatch(
      directory.begin(), directory.end(), parent.begin(), parent.end());
  return in_directory == directory.end();
}

// A device or FIFO at a path.
class SpecialFileSink : public Sink {
 public:
  SpecialFileSink(UniqueFd fd, std::string path)
      : fd_(std::move(fd)), path_(std::move(path)) {}
  absl::Status Write(ByteSpan data) override {
    return WriteAll(fd_.get(), data, path_);
  }
  std::string Name() const override { return path_; }

 private:
  UniqueFd fd_;
  std::string path_;
};

}  // namespace

std::vector<std::string> InputsOf(const CommandOptions& options) {
  return options.inputs.empty() ? std::vector<std::string>{"-"}
                                : options.inputs;
}

std::string DisplayName(const std::string& input) {
  return input == "-" ? "standard input" : input;
}

bool ToStandardOutput(const std::string& input, const CommandOptions& options) {
  return options.to_stdout || options.output == "-" ||
         options.output == "/dev/stdout" ||
         (input == "-" && options.output.empty());
}

bool CheckInputs(const CommandOptions& options, Console& console) {
  const std::vector<std::string> inputs = InputsOf(options);
  const auto pipes = std::count(inputs.begin(), inputs.end(), "-");
  if (pipes > 1) {
    console.FailUsage("standard input ('-') can be read only once");
  } else if (pipes != 0 && console.InputIsTerminal()) {
    console.FailUsage(
        "standard input is a terminal; name a file or redirect the input");
  } else {
    return true;
  }
  return false;
}

bool CheckInputsAndOutputs(const CommandOptions& options, Console& console) {
  if (!CheckInputs(options, console)) return false;
  for (const std::string& input : InputsOf(options)) {
    const bool to_stdout = ToStandardOutput(input, options);
    if (options.remove_input && (to_stdout || input == "-")) {
      console.FailUsage(
          "--rm removes a file once another is made of it; leave it out where "
          "standard input or output is used");
      return false;
    }
    if (options.json && to_stdout) {
      console.FailUsage(
          "--json and the data cannot both go to standard output; use -o FILE");
      return false;
    }
  }
  return true;
}

absl::StatusOr<Target> ArchiveTarget(const std::string& input,
                                     const CommandOptions& options,
                                     Console& console) {
  Target target;
  if (ToStandardOutput(input, options)) {
    if (console.OutputIsTerminal() && !options.force) {
      return absl::FailedPreconditionError(
          "refusing to write an archive to a terminal; redirect it, name a "
          "file with -o, or force it with -f");
    }
    return target;
  }
  std::string suggested;  // empty where the input has no name to go by
  if (input != "-") {
    suggested = WithoutTrailingSlashes(input);
    if (HasSuffix(suggested) && !options.force) {
      return InvalidArgument(input, " has the suffix ", kSuffix,
                             " already; use -f to compress it again");
    }
    suggested = IsNameless(suggested) ? "" : suggested + kSuffix;
  }
  target.path = options.output.empty() ? suggested : options.output;
  if (OutputIsFolder(options) || IsDirectory(target.path)) {
    if (suggested.empty()) {
      return InvalidArgument(target.path,
                             " is a directory; name the archive with -o FILE");
    }
    if (!options.output.empty()) {
      ASSIGN_OR_RETURN(target.path, InFolder(options.output, suggested));
    }
  }
  if (target.path.empty()) {
    return InvalidArgument(input, " gives the archive no name; use -o FILE");
  }
  if (IsSpecial(target.path)) {
    target.kind = Target::Kind::kSpecial;
    return target;
  }
  target.kind = Target::Kind::kPath;
  if (IsDirectory(target.path)) {
    return InvalidArgument(target.path,
                           " is a directory; name the archive with -o FILE");
  }
  if (input != "-" && IsDirectory(input) && LiesInside(target.path, input)) {
    return InvalidArgument(target.path, " would lie inside ", input,
                           ", which it is made of; use -o for another place");
  }
  RETURN_IF_ERROR(AskToWrite(input, options, console, &target));
  return target;
}

absl::StatusOr<Target> ContentTarget(const std::string& input,
                                     const CommandOptions& options,
                                     Console& console) {
  Target target;
  if (ToStandardOutput(input, options)) return target;
  target.path = options.output;
  if (input != "-" && (options.output.empty() || OutputIsFolder(options))) {
    std::string suggested = input;
    if (HasSuffix(input)) suggested.resize(input.size() - kSuffixSize);
    if (!HasSuffix(input) || IsNameless(suggested)) {
      return InvalidArgument(input, " has no name ending in ", kSuffix,
                             " to take the output's from; use -o PATH");
    }
    target.path = suggested;
    if (!options.output.empty()) {
      ASSIGN_OR_RETURN(target.path, InFolder(options.output, suggested));
    }
  }
  if (IsSpecial(target.path)) {
    target.kind = Target::Kind::kSpecial;
    return target;
  }
  target.kind = Target::Kind::kPath;
  RETURN_IF_ERROR(AskToWrite(input, options, console, &target));
  return target;
}

absl::StatusOr<Target> NamedTarget(const std::string& suggested,
                                   const CommandOptions& options,
                                   Console& console) {
  Target target;
  target.kind = Target::Kind::kPath;
  target.path = options.output;
  if (options.output.empty()) {
    target.path = BaseName(suggested);
  } else if (options.output.ends_with('/')) {
    ASSIGN_OR_RETURN(target.path, InFolder(options.output, suggested));
  }
  if (IsSpecial(target.path)) {
    return InvalidArgument(target.path,
                           " is neither file nor directory; use -o for another "
                           "place");
  }
  RETURN_IF_ERROR(AskToWrite("-", options, console, &target));
  return target;
}

absl::StatusOr<std::unique_ptr<Sink>> OpenTarget(const Target& target,
                                                 const CommandOptions& options,
                                                 Console& console,
                                                 bool guard_terminal) {
  if (target.kind == Target::Kind::kStandardOutput) {
    return console.OpenOutput(guard_terminal && !options.force);
  }
  UniqueFd fd(open(target.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.ok()) return ErrnoStatus(errno, "cannot open " + target.path);
  return std::make_unique<SpecialFileSink>(std::move(fd), target.path);
}

absl::Status CheckRemovable(const std::string& input) {
  struct stat st;
  if (lstat(input.c_str(), &st) != 0) {
    return ErrnoStatus(errno, "cannot open " + input);
  }
  if (S_ISREG(st.st_mode)) return absl::OkStatus();
  return InvalidArgument(input,
                         " is no regular file, and --rm removes nothing else; "
                         "leave out --rm and remove it yourself");
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot remove " + path);
}

absl::StatusOr<std::unique_ptr<Source>> OpenArchiveSource(
    const std::string& input, const Console& console) {
  if (input == "-") return console.OpenInput();
  if (IsDirectory(input)) {
    return InvalidArgument(input, " is a directory; name an archive");
  }
  return OpenFileSource(input);
}

}  // namespace zipllm::tools
