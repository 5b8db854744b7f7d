// zipllm derive: how quantized tensors were made.
#include "zipllm/derive.h"

#include <map>
#include <utility>

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/json.h"
#include "tools/open_archive.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

/// Sums over tensors of one type for which one recipe comes nearest.
struct RecipeSum {
  uint64_t tensors = 0;
  uint64_t exact_tensors = 0;
  uint64_t weights = 0;
  uint64_t bytes = 0;
  uint64_t different_bytes = 0;
  double bits = 0;  // that they would take
};

std::string RecipeText(const TensorDerivation& tensor) {
  if (!tensor.recipe.empty()) return tensor.recipe;
  return tensor.found ? "no recipe" : "no source";
}

/// By type and recipe, quantized ones first.
using Sums = std::map<std::pair<std::string, std::string>, RecipeSum>;

Sums SumsOf(const DerivationReport& report, bool quantized) {
  Sums sums;
  for (const TensorDerivation& tensor : report.tensors) {
    if (tensor.is_quantized() != quantized) continue;
    RecipeSum& sum = sums[{DTypeName(tensor.dtype), RecipeText(tensor)}];
    ++sum.tensors;
    sum.exact_tensors += tensor.exact() ? 1 : 0;
    sum.weights += tensor.weights;
    sum.bytes += tensor.blocks * FindDType(tensor.dtype)->block_bytes;
    sum.different_bytes += tensor.different_bytes;
    sum.bits += tensor.bits_per_weight * static_cast<double>(tensor.weights);
  }
  return sums;
}

Json TensorJson(const TensorDerivation& tensor) {
  Json object;
  SetText(&object, "path", tensor.path);
  SetText(&object, "name", tensor.name);
  object["dtype"] = DTypeName(tensor.dtype);
  object["shape"] = tensor.shape;
  object["source"] = nullptr;
  object["source_model"] = nullptr;
  if (tensor.found) {
    SetText(&object, "source", tensor.source);
    SetText(&object, "source_model", tensor.source_model);
  }
  const bool known = !tensor.recipe.empty();
  object["recipe"] = known ? Json(tensor.recipe) : Json(nullptr);
  object["exact"] = tensor.exact();
  object["blocks"] = tensor.blocks;
  object["different_blocks"] = known ? Json(tensor.different_blocks) : nullptr;
  object["different_bytes"] = known ? Json(tensor.different_bytes) : nullptr;
  object["first_different_byte"] = known && tensor.different_bytes != 0
                                       ? Json(tensor.first_different_byte)
                                       : nullptr;
  object["bits_per_weight"] = tensor.is_quantized() && tensor.found
                                  ? Json(tensor.bits_per_weight)
                                  : nullptr;
  return object;
}

Json ReportJson(const std::string& input, const DerivationReport& report) {
  Json object;
  SetText(&object, "quant", input);
  object["exact"] = report.exact();
  uint64_t weights = 0, exact = 0;
  Json recipes = Json::array();
  for (const bool quantized : {true, false}) {
    for (const auto& [key, sum] : SumsOf(report, quantized)) {
      recipes.push_back({{"dtype", key.first},
                         {"recipe", key.second},
                         {"tensors", sum.tensors},
                         {"exact_tensors", sum.exact_tensors},
                         {"weights", sum.weights},
                         {"bytes", sum.bytes},
                         {"different_bytes", sum.different_bytes}});
    }
  }
  Json tensors = Json::array();
  for (const TensorDerivation& tensor : report.tensors) {
    tensors.push_back(TensorJson(tensor));
    if (!tensor.is_quantized()) continue;
    weights += tensor.weights;
    exact += tensor.exact() ? tensor.weights : 0;
  }
  object["weights"] = weights;
  object["exact_weights"] = exact;
  object["by_recipe"] = std::move(recipes);
  object["tensors"] = std::move(tensors);
  return object;
}

std::string BitsText(double bits) {
  return bits == 0 ? "0" : Format("%.4f", bits);
}

std::string ReportText(const std::string& input, const DerivationReport& report,
                       bool all) {
  std::string text = Printable(DisplayName(input)) + ": ";
  const Sums quantized = SumsOf(report, true);
  if (quantized.empty()) {
    text += "nothing is quantized\n";
  } else {
    text += report.exact()
                ? "every quantized tensor is what its recipe makes\n"
                : "not every quantized tensor is what a recipe makes\n";
  }
  Table recipes("llrrrrr");
  recipes.Add({"Type", "Recipe", "Tensors", "Equal", "Weights",
               "Bytes that differ", "Bits a weight"});
  for (const bool which : {true, false}) {
    for (const auto& [key, sum] : which ? quantized : SumsOf(report, false)) {
      const bool known = key.second.find("no ") != 0;
      recipes.Add({key.first, key.second, std::to_string(sum.tensors),
                   std::to_string(sum.exact_tensors), HumanCount(sum.weights),
                   known ? Percent(sum.different_bytes, sum.bytes) : "-",
                   which && known
                       ? BitsText(sum.bits / static_cast<double>(sum.weights))
                       : "-"});
    }
  }
  text += "\n" + recipes.Text();
  Table tensors("lllrrl");
  tensors.Add({"Type", "Recipe", "Blocks that differ", "Of", "First at byte",
               "Tensor"});
  bool any = false;
  for (const TensorDerivation& tensor : report.tensors) {
    if (!all && (tensor.exact() || !tensor.is_quantized())) continue;
    any = true;
    const bool known = !tensor.recipe.empty();
    std::string name = Printable(tensor.name);
    if (tensor.found) {
      name += " <- " + Printable(tensor.source) +
              (tensor.sources > 1
                   ? Format(" and %llu more",
                            static_cast<unsigned long long>(tensor.sources - 1))
                   : "");
    }
    tensors.Add({DTypeName(tensor.dtype), RecipeText(tensor),
                 known ? std::to_string(tensor.different_blocks) : "-",
                 std::to_string(tensor.blocks),
                 known && tensor.different_bytes != 0
                     ? std::to_string(tensor.first_different_byte)
                     : "-",
                 std::move(name)});
  }
  if (any) text += "\n" + tensors.Text();
  return text;
}

}  // namespace

void RunDerive(const CommandOptions& options, Console& console) {
  DeriveOptions settings;
  settings.sources = options.sources;
  settings.importance = options.importance;
  settings.threads = options.threads;
  Json results = Json::array();
  bool first = true;
  for (const std::string& input : options.inputs) {
    ProgressReport progress(&console);
    settings.progress = progress.Callback();
    const absl::StatusOr<DerivationReport> report =
        CheckDerivation(input, settings);
    if (!report.ok()) {
      console.FailToAnswer(DisplayName(input), report.status());
      if (options.json) {
        Json object;
        SetText(&object, "quant", input);
        object["error"] = ErrorJson(report.status());
        results.push_back(std::move(object));
      }
      continue;
    }
    if (!report->exact()) console.AnswerNo();
    if (options.json) {
      results.push_back(ReportJson(input, *report));
      continue;
    }
    if (!first) console.Print("\n");
    first = false;
    console.Print(
        ReportText(input, *report, options.tensors || options.verbose));
  }
  if (options.json) console.Print(Dump({{"results", results}}));
}

}  // namespace zipllm::tools
