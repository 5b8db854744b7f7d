// zipllm store get and export: models back to files, or into an archive.
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/paths.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

Json TotalsJson(const std::string& output, const Totals& totals,
                double seconds) {
  Json object;
  SetText(&object, "output", output);
  object["files"] = totals.files;
  object["plain_bytes"] = totals.plain_bytes;
  object["seconds"] = seconds;
  return object;
}

}  // namespace

void RunStoreGet(const CommandOptions& options, Console& console) {
  RunOnStore(
      options, console,
      [&](Store& store,
          const ProgressReport& progress) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(ModelName name,
                         ModelName::Parse(options.models.front()));
        ASSIGN_OR_RETURN(Target target,
                         NamedTarget(name.name, options, console));
        ASSIGN_OR_RETURN(
            Totals totals,
            store.Get(name, target.path, target.overwrite, options.inputs));
        console.Note(Printable(name.Text()) + ": " +
                     HumanBytes(totals.plain_bytes) + ", " +
                     Counted(totals.files, "file") +
                     Format(", %.2f s, ", progress.Seconds()) +
                     HumanRate(totals.plain_bytes, progress.Seconds()) + ", " +
                     Printable(target.path));
        Json object = {{"model", NameJson(name)}};
        object.update(TotalsJson(target.path, totals, progress.Seconds()));
        return object;
      },
      kReplaceRemedy);
}

void RunStoreExport(const CommandOptions& options, Console& console) {
  CompressOptions settings;
  if (!options.levels.empty()) settings.level = options.levels.back();
  settings.threads = options.threads;
  settings.verify = !options.no_verify;
  settings.sync = !options.no_sync;
  RunOnStore(
      options, console,
      [&](Store& store,
          const ProgressReport& progress) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(std::vector<ModelName> names,
                         ParseNames(options.models));
        ASSIGN_OR_RETURN(
            Target target,
            NamedTarget(names.front().name + kSuffix, options, console));
        ASSIGN_OR_RETURN(
            Totals totals,
            store.Export(names, target.path, settings, target.overwrite));
        console.Note(Printable(target.path) + ": " +
                     Counted(names.size(), "model") + ", " +
                     HumanBytes(totals.plain_bytes) + ", archive " +
                     HumanBytes(totals.archive_bytes) + " (" +
                     Percent(totals.archive_bytes, totals.plain_bytes) +
                     Format("), %.2f s, ", progress.Seconds()) +
                     HumanRate(totals.plain_bytes, progress.Seconds()));
        Json models = Json::array();
        for (const ModelName& name : names) models.push_back(NameJson(name));
        Json object = {{"models", std::move(models)}};
        object.update(TotalsJson(target.path, totals, progress.Seconds()));
        object["archive_bytes"] = totals.archive_bytes;
        object["ratio"] = Ratio(totals.archive_bytes, totals.plain_bytes);
        return object;
      },
      kReplaceRemedy);
}

}  // namespace zipllm::tools
