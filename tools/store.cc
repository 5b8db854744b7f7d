// zipllm store init and rm, and what the other commands of a store share.
#include "tools/store.h"

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"

namespace zipllm::tools {

StoreOptions StoreSettings(const CommandOptions& options) {
  StoreOptions settings;
  settings.threads = options.threads;
  settings.max_memory = options.memory;
  settings.sync = !options.no_sync;
  return settings;
}

void RunOnStore(
    const CommandOptions& options, Console& console,
    const std::function<absl::StatusOr<Json>(Store&, const ProgressReport&)>&
        work,
    const std::string& if_exists) {
  ProgressReport progress(&console);
  std::vector<std::string> warnings;
  StoreOptions settings = StoreSettings(options);
  settings.progress = progress.Callback();
  settings.warning = [&](const std::string& message) {
    console.Warn(options.store, message);
    warnings.push_back(message);
  };
  absl::StatusOr<Json> result = [&]() -> absl::StatusOr<Json> {
    ASSIGN_OR_RETURN(Store store, Store::Open(options.store, settings));
    return work(store, progress);
  }();
  if (!result.ok()) console.Fail(options.store, result.status(), if_exists);
  if (!options.json) return;
  Json document;
  SetText(&document, "store", options.store);
  if (result.ok()) {
    document.update(*result);
  } else {
    document["error"] = ErrorJson(result.status());
  }
  document["warnings"] = warnings;
  console.Print(Dump(document));
}

absl::StatusOr<std::vector<ModelName>> ParseNames(
    const std::vector<std::string>& texts) {
  std::vector<ModelName> names;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(ModelName name, ModelName::Parse(text));
    names.push_back(std::move(name));
  }
  return names;
}

Json NameJson(const ModelName& name) {
  Json object;
  SetText(&object, "name", name.name);
  SetText(&object, "revision", name.revision);
  return object;
}

Json ModelJson(const ModelInfo& model) {
  Json object = NameJson(model.name);
  object["manifest"] = HexText(model.manifest);
  object["created"] = model.created_seconds;
  object["files"] = model.files;
  object["plain_bytes"] = model.plain_bytes;
  return object;
}

Json BasesJson(const std::vector<std::pair<ModelName, uint64_t>>& bases) {
  Json list = Json::array();
  for (const auto& [name, bytes] : bases) {
    Json base = NameJson(name);
    base["plain_bytes"] = bytes;
    list.push_back(std::move(base));
  }
  return list;
}

void RunStoreInit(const CommandOptions& options, Console& console) {
  const absl::Status status =
      Store::Init(options.store, StoreSettings(options));
  if (!status.ok()) {
    console.Fail(options.store, status, "");
  } else {
    console.Note(Printable(options.store) + ": an empty store");
  }
}

void RunStoreRemove(const CommandOptions& options, Console& console) {
  RunOnStore(options, console,
             [&](Store& store, const ProgressReport&) -> absl::StatusOr<Json> {
               // Nothing is removed where a name is wrong.
               ASSIGN_OR_RETURN(std::vector<ModelName> names,
                                ParseNames(options.models));
               for (const ModelName& name : names) {
                 RETURN_IF_ERROR(CheckInterrupt());
                 absl::Status status = store.Remove(name);
                 if (!status.ok()) {
                   console.Fail(name.Text(), status);
                 } else {
                   console.Note(Printable(name.Text()) +
                                ": removed; `zipllm store gc` frees its room");
                 }
               }
               return Json();
             });
}

}  // namespace zipllm::tools
