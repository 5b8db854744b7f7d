// zipllm store stats: where the bytes of a store went.
#include "tools/store_stats.h"

#include <algorithm>
#include <map>

#include "base/bytes.h"
#include "base/file.h"
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/store.h"

namespace zipllm::tools {
namespace {

constexpr size_t kNone = SIZE_MAX;
constexpr size_t kBarWidth = 24;

Json SavingsJson(const StoreStats::Savings& savings) {
  Json object;
  object["plain_bytes"] = savings.plain_bytes;
  for (const SavingsPart& part : kSavingsParts) {
    object[std::string(part.key) + "_bytes"] = savings.*part.bytes;
  }
  object["ratio"] = Ratio(savings.stored_bytes, savings.plain_bytes);
  return object;
}

absl::Status WriteTextFile(const std::string& path, const std::string& text,
                           bool overwrite) {
  const auto [folder, name] = SplitPath(path);
  ASSIGN_OR_RETURN(UniqueFd directory, OpenDirectory(folder));
  ASSIGN_OR_RETURN(AtomicFile file,
                   AtomicFile::CreateAt(directory.get(), name, path, 0644));
  RETURN_IF_ERROR(WriteAll(file.fd(), AsBytes(text), path));
  return file.Commit(overwrite);
}

}  // namespace

std::vector<TreeRow> FamilyTree(const StoreStats& stats,
                                const StoreStats::Family& family) {
  std::map<ModelName, size_t> places;
  for (size_t model : family.models) {
    places[stats.models[model].info.name] = model;
  }
  // Parents may go round: objects have an order, models need not.
  std::map<size_t, std::vector<size_t>> children;
  size_t root = kNone;
  for (size_t model : family.models) {
    const StoreStats::Model& child = stats.models[model];
    size_t parent = kNone;
    uint64_t most = 0;
    for (const auto& [base, bytes] : child.bases) {
      const auto place = places.find(base);
      if (place == places.end() || place->second == model) continue;
      if (parent == kNone || bytes > most) parent = place->second;
      most = std::max(most, bytes);
    }
    if (child.info.name == family.root) {
      root = model;
    } else {
      children[parent].push_back(model);
    }
  }
  std::vector<TreeRow> rows;
  std::vector<bool> seen(stats.models.size());
  const auto add_below = [&](size_t top, size_t depth) {
    std::vector<TreeRow> stack = {{top, depth}};
    while (!stack.empty()) {
      const TreeRow row = stack.back();
      stack.pop_back();
      if (seen[row.model]) continue;
      seen[row.model] = true;
      rows.push_back(row);
      const std::vector<size_t>& below = children[row.model];
      for (auto child = below.rbegin(); child != below.rend(); ++child) {
        stack.push_back({*child, row.depth + 1});
      }
    }
  };
  if (root != kNone) add_below(root, 0);
  const std::vector<size_t> orphans = children[kNone];
  for (size_t model : orphans) add_below(model, root == kNone ? 0 : 1);
  for (size_t model : family.models) {
    if (!seen[model]) add_below(model, root == kNone ? 0 : 1);
  }
  return rows;
}

std::string StatsText(const std::string& store, const StoreStats& stats,
                      bool utf8) {
  const StoreStats::Savings& total = stats.total;
  std::string text =
      Printable(store) + ": " + Counted(stats.models.size(), "model") + ", " +
      HumanBytes(total.plain_bytes) + " in " + HumanBytes(total.stored_bytes) +
      " (" + Percent(total.stored_bytes, total.plain_bytes) + ")\n" +
      Counted(stats.packs, "pack") + ", " + HumanBytes(stats.pack_bytes) +
      ", with " + Counted(stats.objects, "object") + "; " +
      HumanBytes(stats.dead_bytes) + " are needed by nothing; catalogue " +
      HumanBytes(stats.catalogue_bytes) + "\n";
  if (stats.models.empty()) return text;

  Table parts("lrrl");
  parts.Add({"Bytes", "", "Of all", "Where they went"});
  for (const SavingsPart& part : kSavingsParts) {
    const uint64_t bytes = total.*part.bytes;
    parts.Add({part.label, HumanBytes(bytes), Percent(bytes, total.plain_bytes),
               Bar(bytes, total.plain_bytes, kBarWidth, utf8)});
  }
  text += "\n" + parts.Text();

  Table models("rrrrrrrl");
  models.Add({"Bytes", "Dedup", "Delta", "Derived", "Entropy", "Stored",
              "Ratio", "Family, model"});
  const auto add = [&](const std::string& name,
                       const StoreStats::Savings& savings) {
    models.Add({HumanBytes(savings.plain_bytes),
                HumanBytes(savings.deduplicated), HumanBytes(savings.delta),
                HumanBytes(savings.derived), HumanBytes(savings.entropy),
                HumanBytes(savings.stored_bytes),
                Percent(savings.stored_bytes, savings.plain_bytes), name});
  };
  for (const StoreStats::Family& family : stats.families) {
    const bool alone = family.models.size() == 1;
    if (!alone) {
      add("Family of " + Printable(family.root.name), family.savings);
    }
    for (const TreeRow& row : FamilyTree(stats, family)) {
      const StoreStats::Model& model = stats.models[row.model];
      add(std::string(alone ? 0 : 2 * (row.depth + 1), ' ') +
              Printable(model.info.name.Text()),
          model.savings);
    }
  }
  return text + "\n" + models.Text();
}

Json StatsJson(const StoreStats& stats) {
  Json object;
  object["objects"] = stats.objects;
  object["packs"] = stats.packs;
  object["pack_bytes"] = stats.pack_bytes;
  object["catalogue_bytes"] = stats.catalogue_bytes;
  object["dead_bytes"] = stats.dead_bytes;
  object["total"] = SavingsJson(stats.total);
  Json families = Json::array();
  for (const StoreStats::Family& family : stats.families) {
    Json entry;
    entry["root"] = NameJson(family.root);
    entry["savings"] = SavingsJson(family.savings);
    Json tree = Json::array();
    for (const TreeRow& row : FamilyTree(stats, family)) {
      Json member = NameJson(stats.models[row.model].info.name);
      member["depth"] = row.depth;
      tree.push_back(std::move(member));
    }
    entry["models"] = std::move(tree);
    families.push_back(std::move(entry));
  }
  object["families"] = std::move(families);
  Json models = Json::array();
  for (const StoreStats::Model& model : stats.models) {
    Json entry = ModelJson(model.info);
    entry["family"] = model.family;
    entry["savings"] = SavingsJson(model.savings);
    entry["bases"] = BasesJson(model.bases);
    models.push_back(std::move(entry));
  }
  object["models"] = std::move(models);
  return object;
}

void RunStoreStats(const CommandOptions& options, Console& console) {
  RunOnStore(
      options, console,
      [&](Store& store, const ProgressReport&) -> absl::StatusOr<Json> {
        if (options.json && options.html == "-") {
          return InvalidArgument(
              "--json and --html - cannot both go to standard output; use "
              "--html FILE");
        }
        ASSIGN_OR_RETURN(StoreStats stats, store.Stats());
        if (options.html == "-") {
          console.Print(StatsPage(options.store, stats));
        } else if (!options.html.empty()) {
          RETURN_IF_ERROR(WriteTextFile(
              options.html, StatsPage(options.store, stats), options.force));
          console.Note(Printable(options.html) + ": written");
        } else if (!options.json) {
          console.Print(StatsText(options.store, stats, console.Utf8()));
        }
        return StatsJson(stats);
      },
      "use -f to replace it");
}

}  // namespace zipllm::tools
