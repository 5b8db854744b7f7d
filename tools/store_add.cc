// zipllm store add: a file or folder becomes a model of the store.
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

std::string BasesText(const AddResult& result) {
  constexpr size_t kMost = 4;
  std::string text;
  for (size_t i = 0; i < result.bases.size() && i < kMost; ++i) {
    text += (i == 0 ? "" : ", ") + Printable(result.bases[i].Text());
  }
  if (result.bases.size() > kMost) {
    text += Format(" and %zu more", result.bases.size() - kMost);
  }
  return text;
}

std::string ResultText(const AddResult& result, double seconds) {
  const ModelInfo& model = result.model;
  std::string text = Printable(model.name.Text()) + ": ";
  if (result.existed) return text + "is there already, with the same files";
  text += HumanBytes(model.plain_bytes) + " in " +
          Counted(model.files, "file") + " stored in " +
          HumanBytes(result.stored_bytes) + " (" +
          Percent(result.stored_bytes, model.plain_bytes) + "), " +
          Format("%.2f s, ", seconds) + HumanRate(model.plain_bytes, seconds) +
          "\n  " + Counted(result.new_objects, "new object") + " of " +
          HumanBytes(result.new_bytes) + ", " +
          std::to_string(result.objects - result.new_objects) + " known";
  if (!result.bases.empty()) text += "; against " + BasesText(result);
  return text;
}

Json ResultJson(const AddResult& result, double seconds) {
  Json object;
  object["model"] = ModelJson(result.model);
  object["existed"] = result.existed;
  object["objects"] = result.objects;
  object["new_objects"] = result.new_objects;
  object["new_bytes"] = result.new_bytes;
  object["stored_bytes"] = result.stored_bytes;
  Json bases = Json::array();
  for (const ModelName& base : result.bases) bases.push_back(NameJson(base));
  object["bases"] = std::move(bases);
  object["seconds"] = seconds;
  return object;
}

}  // namespace

void RunStoreAdd(const CommandOptions& options, Console& console) {
  AddOptions settings;
  if (!options.levels.empty()) settings.level = options.levels.back();
  settings.verify = !options.no_verify;
  settings.replace = options.replace;
  settings.max_depth = options.max_depth;
  settings.bases = options.bases;
  RunOnStore(
      options, console,
      [&](Store& store,
          const ProgressReport& progress) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(ModelName name,
                         ModelName::Parse(options.models.front()));
        ASSIGN_OR_RETURN(AddResult result,
                         store.Add(name, options.inputs.front(), settings));
        console.Note(ResultText(result, progress.Seconds()));
        return ResultJson(result, progress.Seconds());
      },
      "replace it with --replace, or name another revision, as NAME@v2");
}

}  // namespace zipllm::tools
