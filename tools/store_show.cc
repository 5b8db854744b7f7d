// zipllm store ls and show: the models of a store, and the files of one.
#include <algorithm>
#include <set>

#include "base/status.h"
#include "store/format.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/open_archive.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

// Whether "NAME", "NAME@REVISION" or a folder of names means `name`.
bool Selects(const std::string& selector, const ModelName& name) {
  if (selector == name.name || selector == name.Text()) return true;
  const std::string folder = selector + (selector.ends_with('/') ? "" : "/");
  return name.name.starts_with(folder);
}

absl::StatusOr<std::vector<ModelInfo>> Selected(
    const Store& store, const std::vector<std::string>& selectors) {
  ASSIGN_OR_RETURN(std::vector<ModelInfo> models, store.List());
  if (selectors.empty()) return models;
  std::vector<ModelInfo> selected;
  std::set<std::string> unused(selectors.begin(), selectors.end());
  for (const ModelInfo& model : models) {
    bool any = false;
    for (const std::string& selector : selectors) {
      if (!Selects(selector, model.name)) continue;
      unused.erase(selector);
      any = true;
    }
    if (any) selected.push_back(model);
  }
  if (!unused.empty()) {
    return MakeStatus(absl::StatusCode::kNotFound, "no model ", *unused.begin(),
                      "; `zipllm store ls STORE` shows what there is");
  }
  return selected;
}

std::string ModelsText(const std::vector<ModelInfo>& models, bool verbose) {
  Table table(verbose ? "rrlll" : "rrll");
  std::vector<std::string> head = {"Size", "Files", "Added"};
  if (verbose) head.push_back("Manifest");
  head.push_back("Model");
  table.Add(head);
  uint64_t bytes = 0;
  for (const ModelInfo& model : models) {
    std::vector<std::string> row = {verbose ? std::to_string(model.plain_bytes)
                                            : HumanBytes(model.plain_bytes),
                                    std::to_string(model.files),
                                    HumanTime(model.created_seconds)};
    if (verbose) row.push_back(HexText(model.manifest));
    row.push_back(Printable(model.name.Text()));
    table.Add(row);
    bytes += model.plain_bytes;
  }
  return table.Text() + Counted(models.size(), "model") + ", " +
         HumanBytes(bytes) + "\n";
}

struct FileSum {
  const Entry* entry;
  uint64_t objects;
  uint64_t coded_bytes;
};

absl::StatusOr<std::vector<FileSum>> Files(const StoredModel& model) {
  std::vector<FileSum> files;
  for (size_t i = 0; i < model.entries().size(); ++i) {
    const Entry& entry = model.entries()[i];
    FileSum file = {&entry, 0, 0};
    if (entry.kind == EntryKind::kFile) {
      ASSIGN_OR_RETURN(file.coded_bytes, model.CodedSize(i));
      file.objects = static_cast<uint64_t>(std::ranges::count_if(
          entry.layout.segments, [](const Segment& segment) {
            return segment.length > store::kMaxLiteral;
          }));
    }
    files.push_back(file);
  }
  return files;
}

std::string FilesText(const std::vector<FileSum>& files, bool verbose) {
  Table table(verbose ? "rrrlrllll" : "rrrlrll");
  std::vector<std::string> head = {"Size", "Stored",  "Ratio",
                                   "Type", "Objects", "Modified"};
  if (verbose) head.insert(head.end(), {"Mode", "SHA-256"});
  head.push_back("Name");
  table.Add(head);
  for (const FileSum& file : files) {
    const Entry& entry = *file.entry;
    const bool is_file = entry.kind == EntryKind::kFile;
    std::string name = Printable(EntryName(entry));
    if (entry.kind == EntryKind::kDirectory) name += "/";
    if (entry.kind == EntryKind::kSymlink) {
      name += " -> " + Printable(entry.link_target);
    }
    const auto size = [&](uint64_t bytes) {
      return !is_file  ? "-"
             : verbose ? std::to_string(bytes)
                       : HumanBytes(bytes);
    };
    std::vector<std::string> row = {
        size(entry.size),
        size(file.coded_bytes),
        is_file ? Percent(file.coded_bytes, entry.size) : "-",
        is_file ? Printable(entry.layout.format) : "-",
        is_file ? std::to_string(file.objects) : "-",
        entry.has_metadata ? HumanTime(entry.mtime_seconds) : "-"};
    if (verbose) {
      row.push_back(entry.has_metadata ? Format("%04o", entry.mode) : "-");
      row.push_back(is_file ? HexText(entry.sha256) : "-");
    }
    row.push_back(std::move(name));
    table.Add(row);
  }
  return table.Text();
}

std::string ModelText(const ModelInfo& info,
                      const std::vector<std::pair<ModelName, uint64_t>>& bases,
                      const std::vector<FileSum>& files, bool verbose) {
  uint64_t stored = 0;
  for (const FileSum& file : files) stored += file.coded_bytes;
  std::string text =
      Printable(info.name.Text()) + ": " + HumanBytes(info.plain_bytes) +
      " in " + Counted(info.files, "file") + ", stored in about " +
      HumanBytes(stored) + " (" + Percent(stored, info.plain_bytes) +
      "), added " + HumanTime(info.created_seconds) + "\n";
  if (verbose) text += "Manifest " + HexText(info.manifest) + "\n";
  for (const auto& [base, bytes] : bases) {
    text += Percent(bytes, info.plain_bytes) + " of it against " +
            Printable(base.Text()) + "\n";
  }
  return text + "\n" + FilesText(files, verbose);
}

}  // namespace

void RunStoreList(const CommandOptions& options, Console& console) {
  RunOnStore(options, console,
             [&](Store& store, const ProgressReport&) -> absl::StatusOr<Json> {
               ASSIGN_OR_RETURN(std::vector<ModelInfo> models,
                                Selected(store, options.models));
               if (!options.json) {
                 console.Print(ModelsText(models, options.verbose));
               }
               Json list = Json::array();
               for (const ModelInfo& model : models) {
                 list.push_back(ModelJson(model));
               }
               return Json({{"models", std::move(list)}});
             });
}

void RunStoreShow(const CommandOptions& options, Console& console) {
  RunOnStore(options, console,
             [&](Store& store, const ProgressReport&) -> absl::StatusOr<Json> {
               ASSIGN_OR_RETURN(ModelName name,
                                ModelName::Parse(options.models.front()));
               ASSIGN_OR_RETURN(std::shared_ptr<const StoredModel> model,
                                store.OpenModel(name));
               ASSIGN_OR_RETURN(std::vector<FileSum> files, Files(*model));
               ASSIGN_OR_RETURN(StoreStats stats, store.Stats());
               std::vector<std::pair<ModelName, uint64_t>> bases;
               for (StoreStats::Model& other : stats.models) {
                 if (other.info.name == name) bases = std::move(other.bases);
               }
               if (!options.json) {
                 console.Print(
                     ModelText(model->info(), bases, files, options.verbose));
               }
               Json object;
               object["model"] = ModelJson(model->info());
               object["bases"] = BasesJson(bases);
               Json entries = Json::array();
               for (const FileSum& file : files) {
                 Json entry = EntryJson(*file.entry, file.coded_bytes);
                 if (file.entry->kind == EntryKind::kFile) {
                   entry["objects"] = file.objects;
                 }
                 entries.push_back(std::move(entry));
               }
               object["entries"] = std::move(entries);
               return object;
             });
}

}  // namespace zipllm::tools
