// Writes the man page and the shell completions from the definition of the
// command line: zipllm_docgen MAN BASH ZSH FISH (file names). Runs at build
// time.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tools/command_line.h"
#include "tools/format.h"

namespace zipllm::tools {
namespace {

using Apps = std::vector<const CLI::App*>;
using Options = std::vector<const CLI::Option*>;

// Those of the program, or of a command that has some.
Apps Commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}
bool IsGroup(const CLI::App& app) { return !Commands(app).empty(); }

// Each command, and after those that have some theirs.
Apps AllCommands(const CLI::App& app) {
  Apps out;
  for (const CLI::App* command : Commands(app)) {
    out.push_back(command);
    const Apps below = Commands(*command);
    out.insert(out.end(), below.begin(), below.end());
  }
  return out;
}

Options NamedOptions(const CLI::App& app) {
  return app.get_options(
      [](const CLI::Option* option) { return !option->get_positional(); });
}

std::vector<std::string> NamesOf(const CLI::App& command) {
  std::vector<std::string> names = {command.get_name()};
  for (const std::string& alias : command.get_aliases()) names.push_back(alias);
  return names;
}

// What goes before the name of a command: "store ", or nothing.
std::string Prefix(const CLI::App& command) {
  const CLI::App* parent = command.get_parent();
  return parent->get_parent() == nullptr ? "" : parent->get_name() + " ";
}

// "-o", "--output"
std::vector<std::string> Spellings(const CLI::Option& option) {
  std::vector<std::string> out;
  for (const std::string& name : option.get_snames()) out.push_back("-" + name);
  for (const std::string& name : option.get_lnames())
    out.push_back("--" + name);
  return out;
}

bool TakesValue(const CLI::Option& option) {
  return !option.get_option_text().empty();
}
bool TakesPath(const CLI::Option& option) {
  return option.get_option_text() == "PATH" &&
         !option.check_name("--file");  // a path inside an archive
}

std::string FirstSentence(const std::string& text) {
  std::string out = text.substr(0, text.find(". "));
  out = out.substr(0, out.find_last_not_of('.') + 1);
  return out;
}

std::string Join(const std::vector<std::string>& parts, const char* between) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += between;
    out += part;
  }
  return out;
}

std::string Replace(std::string text, char what, const std::string& by) {
  std::string out;
  for (char c : text) {
    if (c == what) {
      out += by;
    } else {
      out += c;
    }
  }
  return out;
}

// ---- The man page, in man(7) ----

// Sections that no option describes.
constexpr const char kDescription[] =
    "zipllm compresses model weights without loss: safetensors and GGUF files, "
    "and directories with them, tensor by tensor. Any other file is compressed "
    "as bytes. What was compressed is decoded and compared before it counts, "
    "every block carries a checksum, and every file its SHA-256.\n"
    "Output files appear under their name only when they are complete and "
    "synced to disk. A file that exists is never replaced without -f: on a "
    "terminal the command asks, elsewhere it refuses. Inputs are kept unless "
    "--rm is given. Devices and FIFOs named with -o are written to, not "
    "replaced.\n"
    "On a terminal, progress is shown on standard error: the current file, how "
    "much is done, rate, ratio, and the time left. Names are printed with "
    "control characters and bytes that are not UTF-8 written as \\n, \\t, \\r, "
    "\\\\ or \\xNN.\n"
    "A store is a folder that keeps models, each tensor once. zipllm store add "
    "puts one in, as NAME or NAME@REVISION; get takes it out again as it was, "
    "and mount shows all of them as files. What is like a model that is there "
    "already takes only the difference. An add that is killed, or whose disk "
    "is full, leaves everything else as it was.";

struct JsonDocument {
  const char* command;
  const char* text;
};
constexpr JsonDocument kJsonDocuments[] = {
    {"compress, decompress, test",
     "{\"results\": [...]}, one object for each input: input, output (a path; "
     "not "
     "for test), then either files, plain_bytes, archive_bytes, ratio, "
     "duplicate_bytes and seconds, or error with code and message; and "
     "warnings, an array of strings."},
    {"list",
     "{\"archives\": [...]}: archive, archive_bytes, and entries, each with "
     "path, kind (file, directory, symlink), mode (octal text), mtime "
     "(seconds, "
     "nanoseconds); for symlinks link_target; for files size, coded_size, "
     "ratio, "
     "sha256, format, and tensors (name, dtype, shape, offset, length)."},
    {"info",
     "{\"archives\": [...]}: archive, archive_bytes, plain_bytes, ratio, "
     "files, "
     "tensors, weights, bits_per_weight; by_dtype (dtype, null for what is no "
     "tensor, tensors, weights, plain_bytes, coded_bytes, bits_per_weight); "
     "by_codec (codec, recipe, slow, blocks, plain_bytes, coded_bytes); "
     "frame_head_bytes; index_bytes; needs (model, tensor, bytes, sha256: what "
     "the archive was coded against); derived (path, from or from_model, "
     "tensors, derived_tensors, weights, coded_bytes, bits_per_weight, slow, "
     "recipes: tensors by recipe); by_tensor (path, name, dtype, shape, "
     "plain_bytes, coded_bytes, bits_per_weight, by_codec, and sources: role, "
     "path or model, tensor, plain_bytes). Slow is what decodes at less than "
     "about 100 MB/s a core."},
    {"derive",
     "{\"results\": [...]}, one object for each QUANT: quant, then either "
     "exact, weights (quantized ones), exact_weights, by_recipe (dtype, "
     "recipe, "
     "tensors, exact_tensors, weights, bytes, different_bytes) and tensors "
     "(path, name, dtype, shape, source, source_model, recipe, exact, blocks, "
     "different_blocks, different_bytes, first_different_byte, "
     "bits_per_weight), or error with code and message. What is not known is "
     "null."},
    {"store",
     "Each document has store, warnings (an array of strings), and what "
     "follows or error with code and message. A model is name, revision, "
     "manifest (SHA-256, equal for equal trees), created (seconds since 1970), "
     "files and plain_bytes; where only the name counts, name and revision."},
    {"store add",
     "model; existed (it was there already); objects, new_objects, new_bytes "
     "(their plain bytes), stored_bytes (by which the store grew), bases "
     "(names "
     "of models that it was coded against) and seconds."},
    {"store ls", "models."},
    {"store show",
     "model; bases (name, revision, plain_bytes that are coded against it); "
     "entries, as of list, with objects (tensors and other parts that are "
     "stored by themselves); coded_size is about what a file takes."},
    {"store get, store export",
     "model or models (names), output, files, plain_bytes, seconds; of export "
     "archive_bytes and ratio too."},
    {"store gc",
     "dry_run, packs, condemned_packs and condemned_bytes (that nothing needs "
     "and that are kept for now), deleted_packs, deleted_bytes, stale_leases "
     "(of processes that are gone)."},
    {"store fsck",
     "ok (nothing is left that is wrong); models, packs, objects, "
     "objects_read, bytes_read; bad_objects (sha256, pack, error, repaired, "
     "users: name, revision, path, tensor); problems and repairs (arrays of "
     "strings); seconds."},
    {"store stats",
     "objects, packs, pack_bytes, catalogue_bytes, dead_bytes (that no model "
     "needs); total; families (root, savings, models with their depth below "
     "the root); models, with family (a place in families), savings and bases. "
     "total and savings are plain_bytes, stored_bytes, ratio, and what was "
     "saved: deduplicated_bytes, delta_bytes, derived_bytes, entropy_bytes."},
    {"store repack",
     "packs_before, packs_after, bytes_before, bytes_after, objects_rewritten, "
     "objects_rebased (these have shorter chains now) and seconds."},
    {"bench",
     "threads, rounds, and files: file, plain_bytes, memcpy_bytes_per_second, "
     "and levels (level, archive_bytes, ratio, compress_bytes_per_second, "
     "decompress_bytes_per_second)."},
};

// Text for roff: escapes, and '-' that can be copied.
std::string Roff(const std::string& text) {
  std::string out;
  bool line_start = true;
  for (char c : Wrap(text, 70, 0)) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

// "a\nb" as paragraphs.
std::string RoffParagraphs(const std::string& text) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    out += ".PP\n" + Roff(text.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  return out;
}

std::string RoffItem(const std::string& head, const std::string& text) {
  return ".TP\n.B " + Roff(head) + "\n" + Roff(text) + "\n";
}

std::string RoffOptions(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options()) {
    out += RoffItem(option->get_positional() ? option->get_name(true)
                                             : OptionNames(*option),
                    option->get_description());
  }
  return out;
}

std::string ManPage(const CLI::App& app) {
  std::string out =
      ".\\\" Made by zipllm_docgen from the definition of the command line.\n"
      ".TH ZIPLLM 1 2026-11-21 \"zipllm " ZIPLLM_VERSION
      "\"\n"
      ".SH NAME\nzipllm \\- " +
      Roff("lossless compressor and store for model weights") +
      "\n.SH SYNOPSIS\n";
  bool first = true;
  for (const CLI::App* command : AllCommands(app)) {
    if (IsGroup(*command)) continue;
    if (!first) out += ".br\n";
    first = false;
    out += ".B zipllm " + Roff(Prefix(*command) + command->get_name()) + "\n" +
           Roff(UsageTail(*command)) + "\n";
  }
  out += ".SH DESCRIPTION\n" +
         RoffParagraphs(kDescription).substr(sizeof(".PP\n") - 1);
  out += ".SH OPTIONS\n" + RoffOptions(app).substr(0);
  out += ".SH COMMANDS\n";
  for (const CLI::App* command : AllCommands(app)) {
    out += ".SS " + Roff(Prefix(*command) + Join(NamesOf(*command), ", ")) +
           "\n" + Roff(command->get_description()) + "\n" +
           (IsGroup(*command) ? "" : RoffOptions(*command));
  }
  out += ".SH EXIT STATUS\n";
  const std::string codes = kExitCodesText;
  for (size_t begin = 0; begin < codes.size();) {
    size_t end = std::min(codes.find('\n', begin), codes.size());
    size_t tab = codes.find('\t', begin);
    out += RoffItem(codes.substr(begin, tab - begin),
                    codes.substr(tab + 1, end - tab - 1));
    begin = end + 1;
  }
  out += ".PP\nOf several inputs the worst counts.\n.SH JSON\n" +
         Roff(
             "With --json a command writes one document to standard output. "
             "Keys may be added in later versions; those here keep their "
             "meaning. Sizes are in bytes, ratios are coded size by plain "
             "size, null where nothing was there. A name that is not UTF-8 has "
             "its bad bytes replaced, and a second key with the suffix _hex "
             "holds all its bytes.") +
         "\n";
  for (const JsonDocument& document : kJsonDocuments) {
    out += RoffItem(document.command, document.text);
  }
  out += ".SH EXAMPLES\n";
  first = true;
  for (const CLI::App* command : AllCommands(app)) {
    std::string examples = command->get_footer();
    if (examples.empty()) continue;
    examples = examples.substr(examples.find('\n') + 1);
    examples.resize(std::min(examples.find("\n\n"), examples.size()));
    if (!first) out += ".PP\n";
    first = false;
    out += ".nf\n" + Roff(examples) + "\n.fi\n";
  }
  out += ".SH SEE ALSO\n.BR zstd (1),\n.BR xz (1)\n";
  return out;
}

// ---- bash ----

std::string BashCompletion(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : Commands(app)) {
    for (const std::string& name : NamesOf(*command)) names.push_back(name);
  }
  std::vector<std::string> top;
  for (const CLI::Option* option : NamedOptions(app)) {
    for (const std::string& name : Spellings(*option)) top.push_back(name);
  }
  std::string out =
      "# bash completion for zipllm; made by zipllm_docgen.\n"
      "_zipllm() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} "
      "previous=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local command=${COMP_WORDS[1]} options= values= commands=\n"
      "  ((COMP_CWORD > 1)) || command=\n"
      "  case $command in\n"
      "    '') commands='" +
      Join(names, " ") + " " + Join(top, " ") + "' ;;\n";
  for (const CLI::App* command : Commands(app)) {
    if (!IsGroup(*command)) continue;
    std::vector<std::string> below;
    for (const CLI::App* sub : Commands(*command)) {
      below.push_back(sub->get_name());
    }
    out += "    " + command->get_name() +
           ")\n      if ((COMP_CWORD == 2)); then\n        commands='" +
           Join(below, " ") +
           " --help'\n      else\n        command+=\" ${COMP_WORDS[2]}\"\n"
           "      fi ;;\n";
  }
  out +=
      "  esac\n"
      "  if [[ -n $commands ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$commands\" -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  COMPREPLY=()\n"
      "  case $command in\n";
  for (const CLI::App* command : AllCommands(app)) {
    if (IsGroup(*command)) continue;
    std::vector<std::string> options, values, patterns;
    for (const CLI::Option* option : NamedOptions(*command)) {
      for (const std::string& name : Spellings(*option)) {
        options.push_back(name);
        if (TakesValue(*option) && !TakesPath(*option)) values.push_back(name);
      }
    }
    for (const std::string& name : NamesOf(*command)) {
      const std::string prefix = Prefix(*command);
      patterns.push_back(prefix.empty() ? name : "'" + prefix + name + "'");
    }
    out += "    " + Join(patterns, "|") + ")\n      options='" +
           Join(options, " ") + "'\n      values='" + Join(values, " ") +
           "' ;;\n";
  }
  out +=
      "    *) return ;;\n"
      "  esac\n"
      "  # Nothing to offer for numbers and names inside archives.\n"
      "  [[ \" $values \" == *\" $previous \"* ]] && return\n"
      "  if [[ $word == -* ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")\n"
      "  else\n"
      "    compopt -o filenames 2>/dev/null\n"
      "    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
      "  fi\n"
      "}\n"
      "complete -F _zipllm zipllm\n";
  return out;
}

// ---- zsh ----

// Text within '...' of an _arguments specification.
std::string ZshText(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else if (c == '[' || c == ']' || c == ':' || c == '\\') {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
  return out;
}

std::string ZshOption(const CLI::Option& option, const std::string& indent) {
  const std::vector<std::string> names = Spellings(option);
  std::string value;
  if (TakesValue(option)) {
    value = ":" + ZshText(option.get_option_text()) + ":" +
            (TakesPath(option) ? "_files" : "");
  }
  const std::string what =
      "[" + ZshText(FirstSentence(option.get_description())) + "]" + value;
  std::string out;
  for (const std::string& name : names) {
    // Levels may be repeated; other options exclude their other spelling.
    const std::string others =
        names.size() == 2 ? "(" + Join(names, " ") + ")" : "";
    out += indent + "'" + others + name +
           (value.empty() || name.size() == 2 ? "" : "=") + what + "' \\\n";
  }
  return out;
}

// What completes the arguments of `app`: the names of its commands, or options
// and files. `indent` begins each line.
std::string ZshArguments(const CLI::App& app, const std::string& indent) {
  std::string out =
      indent + "_arguments " + (IsGroup(app) ? "-C" : "-s") + " \\\n";
  for (const CLI::Option* option : NamedOptions(app)) {
    out += ZshOption(*option, indent + "  ");
  }
  if (!IsGroup(app)) return out + indent + "  '*:file:_files'";
  return out + indent + "  '1:command:->command' \\\n" + indent +
         "  '*::argument:->argument'";
}

// A function for a command that has some, after those for these.
std::string ZshFunction(const CLI::App& app, const std::string& name) {
  std::string below, names, cases;
  for (const CLI::App* command : Commands(app)) {
    for (const std::string& spelling : NamesOf(*command)) {
      names += "        '" + spelling + ":" +
               ZshText(FirstSentence(command->get_description())) + "'\n";
    }
    cases += "        " + Join(NamesOf(*command), "|") + ")\n";
    if (IsGroup(*command)) {
      const std::string function = name + "_" + command->get_name();
      below += ZshFunction(*command, function);
      cases += "          " + function;
    } else {
      cases += ZshArguments(*command, "          ");
    }
    cases += " ;;\n";
  }
  return below + name +
         "() {\n"
         "  local context state state_descr line\n"
         "  typeset -A opt_args\n" +
         ZshArguments(app, "  ") +
         "\n"
         "  case $state in\n"
         "    command)\n"
         "      local -a commands=(\n" +
         names +
         "      )\n"
         "      _describe command commands ;;\n"
         "    argument)\n"
         "      case $words[1] in\n" +
         cases +
         "      esac ;;\n"
         "  esac\n"
         "}\n";
}

std::string ZshCompletion(const CLI::App& app) {
  return "#compdef zipllm\n"
         "# zsh completion for zipllm; made by zipllm_docgen.\n" +
         ZshFunction(app, "_zipllm") + "_zipllm \"$@\"\n";
}

// ---- fish ----

std::string FishText(const std::string& text) {
  return "'" + Replace(Replace(text, '\\', "\\\\"), '\'', "\\'") + "'";
}

std::string FishOption(const CLI::Option& option,
                       const std::string& condition) {
  std::string out = "complete -c zipllm -n '" + condition + "'";
  for (const std::string& name : option.get_snames()) out += " -s " + name;
  for (const std::string& name : option.get_lnames()) out += " -l " + name;
  if (TakesPath(option)) {
    out += " -r -F";
  } else if (TakesValue(option)) {
    out += " -x";
  }
  return out + " -d " + FishText(FirstSentence(option.get_description())) +
         "\n";
}

std::string FishCompletion(const CLI::App& app) {
  std::string out = "# fish completion for zipllm; made by zipllm_docgen.\n";
  for (const CLI::Option* option : NamedOptions(app)) {
    out += FishOption(*option, "__fish_use_subcommand");
  }
  for (const CLI::App* command : AllCommands(app)) {
    const CLI::App& parent = *command->get_parent();
    std::string place = "__fish_use_subcommand";
    std::string inside =
        "__fish_seen_subcommand_from " + Join(NamesOf(*command), " ");
    if (&parent != &app) {
      std::vector<std::string> names;
      for (const CLI::App* sibling : Commands(parent)) {
        names.push_back(sibling->get_name());
      }
      const std::string group =
          "__fish_seen_subcommand_from " + parent.get_name() + "; and ";
      place = group + "not __fish_seen_subcommand_from " + Join(names, " ");
      inside = group + inside;
    }
    out += "complete -c zipllm -n '" + place + "' -f -a '" +
           Join(NamesOf(*command), " ") + "' -d " +
           FishText(FirstSentence(command->get_description())) + "\n";
    if (IsGroup(*command)) continue;
    for (const CLI::Option* option : NamedOptions(*command)) {
      out += FishOption(*option, inside);
    }
  }
  return out;
}

bool WriteFile(const std::string& path, const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(),
                                      error);
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (out) return true;
  std::fprintf(stderr, "zipllm_docgen: cannot write %s\n", path.c_str());
  return false;
}

int Main(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: zipllm_docgen MAN BASH ZSH FISH\n", stderr);
    return 2;
  }
  CommandOptions options;
  std::unique_ptr<CLI::App> app = MakeCommandLine(&options);
  const bool written = WriteFile(argv[1], ManPage(*app)) &&
                       WriteFile(argv[2], BashCompletion(*app)) &&
                       WriteFile(argv[3], ZshCompletion(*app)) &&
                       WriteFile(argv[4], FishCompletion(*app));
  return written ? 0 : 1;
}

}  // namespace
}  // namespace zipllm::tools

int main(int argc, char** argv) { return zipllm::tools::Main(argc, argv); }
