// zipllm store gc, repack and fsck: what keeps a store small and sound.
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

std::string GcText(const CommandOptions& options, const GcResult& result) {
  std::string text = Printable(options.store) + ": " +
                     Counted(result.packs, "pack") + ", " +
                     (options.dry_run ? "would delete " : "deleted ") +
                     std::to_string(result.deleted_packs) + " of " +
                     HumanBytes(result.deleted_bytes) + ", " +
                     std::to_string(result.condemned_packs) + " of " +
                     HumanBytes(result.condemned_bytes) + " that nothing needs";
  text += result.condemned_packs == 0 ? "" : " wait for their time";
  if (result.stale_leases != 0) {
    text += "; " + Counted(result.stale_leases, "lease") +
            " of processes that are gone";
  }
  return text;
}

std::string UserText(const FsckResult::BadObject::User& user) {
  std::string text = Printable(user.model.Text());
  if (!user.file.empty()) text += ": " + Printable(user.file);
  if (!user.tensor.empty()) text += ", " + Printable(user.tensor);
  return text;
}

std::string FsckText(const CommandOptions& options, const FsckResult& result,
                     double seconds) {
  std::string text = Printable(options.store) + ": " +
                     Counted(result.models, "model") + ", " +
                     Counted(result.packs, "pack") + ", " +
                     Counted(result.objects, "object") + "; ";
  if (options.fast) {
    text += "structure only";
  } else {
    text += "read " + std::to_string(result.objects_read) + " of them, " +
            HumanBytes(result.bytes_read) + Format(", %.2f s, ", seconds) +
            HumanRate(result.bytes_read, seconds);
  }
  text += "\n";
  for (const std::string& repair : result.repairs) {
    text += "mended: " + Printable(repair) + "\n";
  }
  for (const std::string& problem : result.problems) {
    text += "problem: " + Printable(problem) + "\n";
  }
  size_t bad = 0;
  for (const FsckResult::BadObject& object : result.bad_objects) {
    bad += object.repaired ? 0 : 1;
    text += std::string(object.repaired ? "mended" : "damaged") + ": object " +
            HexText(object.sha256) + " of pack " + Printable(object.pack) +
            ": " + Printable(object.error) + "\n";
    for (const auto& user : object.users) {
      text += std::string(object.repaired ? "  had hurt " : "  hurts ") +
              UserText(user) + "\n";
    }
  }
  if (result.ok()) {
    const bool all = !options.fast && options.sample >= 1;
    return text + (all ? "Every object is right.\n"
                       : "What was looked at is right.\n");
  }
  return text + Counted(bad, "object") + " damaged, " +
         Counted(result.problems.size(), "problem") + " not mended" +
         (bad == 0 ? "" : "; name good copies with --from") + "\n";
}

Json FsckJson(const FsckResult& result, double seconds) {
  Json object;
  object["ok"] = result.ok();
  object["models"] = result.models;
  object["packs"] = result.packs;
  object["objects"] = result.objects;
  object["objects_read"] = result.objects_read;
  object["bytes_read"] = result.bytes_read;
  Json bad = Json::array();
  for (const FsckResult::BadObject& found : result.bad_objects) {
    Json entry;
    entry["sha256"] = HexText(found.sha256);
    SetText(&entry, "pack", found.pack);
    SetText(&entry, "error", found.error);
    entry["repaired"] = found.repaired;
    Json users = Json::array();
    for (const auto& user : found.users) {
      Json item = NameJson(user.model);
      SetText(&item, "path", user.file);
      SetText(&item, "tensor", user.tensor);
      users.push_back(std::move(item));
    }
    entry["users"] = std::move(users);
    bad.push_back(std::move(entry));
  }
  object["bad_objects"] = std::move(bad);
  object["problems"] = result.problems;
  object["repairs"] = result.repairs;
  object["seconds"] = seconds;
  return object;
}

}  // namespace

void RunStoreGc(const CommandOptions& options, Console& console) {
  GcOptions settings;
  if (options.grace.has_value()) settings.grace = *options.grace;
  settings.dry_run = options.dry_run;
  RunOnStore(options, console,
             [&](Store& store, const ProgressReport&) -> absl::StatusOr<Json> {
               ASSIGN_OR_RETURN(GcResult result, store.Gc(settings));
               const std::string text = GcText(options, result);
               if (options.dry_run && !options.json) {
                 console.Print(text + "\n");
               } else {
                 console.Note(text);
               }
               return Json({{"dry_run", options.dry_run},
                            {"packs", result.packs},
                            {"condemned_packs", result.condemned_packs},
                            {"condemned_bytes", result.condemned_bytes},
                            {"deleted_packs", result.deleted_packs},
                            {"deleted_bytes", result.deleted_bytes},
                            {"stale_leases", result.stale_leases}});
             });
}

void RunStoreRepack(const CommandOptions& options, Console& console) {
  RepackOptions settings;
  if (!options.levels.empty()) settings.level = options.levels.back();
  settings.max_depth = options.max_depth;
  RunOnStore(options, console,
             [&](Store& store,
                 const ProgressReport& progress) -> absl::StatusOr<Json> {
               ASSIGN_OR_RETURN(RepackResult result, store.Repack(settings));
               console.Note(Printable(options.store) + ": " +
                            Counted(result.packs_before, "pack") + " of " +
                            HumanBytes(result.bytes_before) + " became " +
                            std::to_string(result.packs_after) + " of " +
                            HumanBytes(result.bytes_after) + "; " +
                            Counted(result.objects_rewritten, "object") +
                            " written anew, " +
                            std::to_string(result.objects_rebased) +
                            " on shorter chains" +
                            Format(", %.2f s", progress.Seconds()));
               return Json({{"packs_before", result.packs_before},
                            {"packs_after", result.packs_after},
                            {"bytes_before", result.bytes_before},
                            {"bytes_after", result.bytes_after},
                            {"objects_rewritten", result.objects_rewritten},
                            {"objects_rebased", result.objects_rebased},
                            {"seconds", progress.Seconds()}});
             });
}

void RunStoreFsck(const CommandOptions& options, Console& console) {
  FsckOptions settings;
  settings.fast = options.fast;
  settings.sample = options.sample;
  settings.rebuild = options.rebuild;
  settings.from = options.sources;
  RunOnStore(
      options, console,
      [&](Store& store,
          const ProgressReport& progress) -> absl::StatusOr<Json> {
        ASSIGN_OR_RETURN(FsckResult result, store.Fsck(settings));
        if (!result.ok()) {
          console.Found(kExitDamaged);
        } else if (!result.bad_objects.empty() || !result.repairs.empty()) {
          console.Found(kExitWarning);
        }
        if (!options.json && (!options.quiet || !result.ok())) {
          console.Print(FsckText(options, result, progress.Seconds()));
        }
        return FsckJson(result, progress.Seconds());
      });
}

}  // namespace zipllm::tools
