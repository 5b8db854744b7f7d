// zipllm info: how archives are coded, and where their bytes go.
#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/json.h"
#include "tools/open_archive.h"
#include "tools/paths.h"

namespace zipllm::tools {
namespace {

/// Sums over the segments of one element type.
struct TypeSum {
  std::string name;
  uint64_t tensors = 0;
  uint64_t elements = 0;
  uint64_t plain_bytes = 0;
  uint64_t coded_bytes = 0;
};

struct CodedTensor {
  const Entry* entry;
  const Segment* segment;
  SegmentCoding coding;
};

/// What a file's tensors were made of.
struct Derivation {
  const Entry* entry = nullptr;
  /// Where most of it comes from: a file of the archive, or one outside.
  const Entry* from = nullptr;
  std::string from_model;
  uint64_t tensors = 0;  ///< all of the file
  uint64_t derived_tensors = 0;
  uint64_t weights = 0;  ///< of derived tensors
  uint64_t coded_bytes = 0;
  bool slow = false;                        ///< decodes slowly
  std::map<std::string, uint64_t> recipes;  ///< tensors by recipe or codec
};

/// All that `info` tells of one archive.
struct Summary {
  uint64_t archive_bytes = 0;
  uint64_t files = 0;
  uint64_t plain_bytes = 0;
  TypeSum weights;               // all tensors
  std::vector<TypeSum> types;    // by coded bytes, largest first
  std::vector<CodecUse> codecs;  // by coded bytes, largest first
  uint64_t frame_bytes = 0;      // heads and shared tables of frames
  uint64_t index_bytes = 0;      // all that lies outside the frames of segments
  std::vector<CodedTensor> tensors;
  std::vector<NeededBase> bases;        // by model
  std::vector<Derivation> derivations;  // of files that have any
};

bool IsBase(const CodingSource& source) {
  return source.role == "base" &&
         (source.tensor.has_value() || source.base.has_value());
}

// "ggml Q4_K", "delta": what most of a tensor is coded by.
const CodecUse& MainCodec(const SegmentCoding& coding) {
  return *std::ranges::max_element(coding.codecs, {}, &CodecUse::plain_bytes);
}

std::vector<Derivation> Derivations(const Archive& archive,
                                    const std::vector<CodedTensor>& tensors) {
  std::vector<Derivation> found;
  for (size_t i = 0; i < tensors.size();) {
    Derivation file;
    file.entry = tensors[i].entry;
    std::map<const Entry*, uint64_t> inside;
    std::map<std::string, uint64_t> outside;
    for (; i < tensors.size() && tensors[i].entry == file.entry; ++i) {
      const auto& [entry, segment, coding] = tensors[i];
      ++file.tensors;
      bool derived = false;
      for (const CodingSource& source : coding.sources) {
        if (!IsBase(source)) continue;
        derived = true;
        if (source.tensor.has_value()) {
          inside[&archive.entries()[source.tensor->entry]] +=
              source.plain_bytes;
        } else {
          outside[archive.needed_bases()[*source.base].model] +=
              source.plain_bytes;
        }
      }
      if (!derived || coding.codecs.empty()) continue;
      ++file.derived_tensors;
      file.weights += ElementCount(*segment);
      file.coded_bytes += coding.coded_bytes;
      const CodecUse& codec = MainCodec(coding);
      ++file.recipes[codec.recipe.empty() ? codec.codec : codec.recipe];
      file.slow = file.slow || codec.slow;
    }
    if (file.derived_tensors == 0) continue;
    inside.erase(file.entry);
    uint64_t most = 0;
    for (const auto& [entry, bytes] : inside) {
      if (bytes > most) file.from = entry;
      most = std::max(most, bytes);
    }
    for (const auto& [model, bytes] : outside) {
      if (bytes <= most) continue;
      most = bytes;
      file.from = nullptr;
      file.from_model = model;
    }
    found.push_back(std::move(file));
  }
  return found;
}

absl::StatusOr<Summary> Summarize(const Archive& archive) {
  Summary sum;
  sum.archive_bytes = archive.size();
  std::map<std::string, TypeSum> types;
  std::map<std::string, CodecUse> codecs;
  uint64_t coded_bytes = 0, block_bytes = 0;
  for (size_t i = 0; i < archive.entries().size(); ++i) {
    const Entry& entry = archive.entries()[i];
    if (entry.kind != EntryKind::kFile) continue;
    ++sum.files;
    sum.plain_bytes += entry.size;
    for (size_t k = 0; k < entry.layout.segments.size(); ++k) {
      RETURN_IF_ERROR(CheckInterrupt());
      const Segment& segment = entry.layout.segments[k];
      ASSIGN_OR_RETURN(SegmentCoding coding,
                       archive.Coding({.entry = i, .segment = k}));
      const bool tensor = IsTensor(segment);
      std::string name = tensor ? DTypeName(segment.dtype) : "not tensors";
      TypeSum& type = types[name];
      type.name = name;
      for (TypeSum* s : {&type, &sum.weights}) {
        if (s == &sum.weights && !tensor) continue;
        s->tensors += tensor ? 1 : 0;
        s->elements += tensor ? ElementCount(segment) : 0;
        s->plain_bytes += segment.length;
        s->coded_bytes += coding.coded_bytes;
      }
      coded_bytes += coding.coded_bytes;
      for (const CodecUse& use : coding.codecs) {
        CodecUse& codec = codecs[use.codec + '\n' + use.recipe];
        codec.codec = use.codec;
        codec.recipe = use.recipe;
        codec.slow = use.slow;
        codec.blocks += use.blocks;
        codec.plain_bytes += use.plain_bytes;
        codec.coded_bytes += use.coded_bytes;
        block_bytes += use.coded_bytes;
      }
      if (tensor) {
        sum.tensors.push_back({&entry, &segment, std::move(coding)});
      }
    }
  }
  sum.frame_bytes = coded_bytes - std::min(coded_bytes, block_bytes);
  sum.index_bytes =
      sum.archive_bytes - std::min(sum.archive_bytes, coded_bytes);
  for (auto& [name, type] : types) sum.types.push_back(std::move(type));
  for (auto& [name, codec] : codecs) sum.codecs.push_back(std::move(codec));
  auto larger = [](const auto& a, const auto& b) {
    return a.coded_bytes > b.coded_bytes;
  };
  std::stable_sort(sum.types.begin(), sum.types.end(), larger);
  std::stable_sort(sum.codecs.begin(), sum.codecs.end(), larger);
  sum.bases = archive.needed_bases();
  std::ranges::stable_sort(sum.bases, {}, &NeededBase::model);
  sum.derivations = Derivations(archive, sum.tensors);
  return sum;
}

Json BitsEachJson(uint64_t bytes, uint64_t count) {
  if (count == 0) return nullptr;
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(count);
}

Json CodecsJson(const std::vector<CodecUse>& codecs) {
  Json array = Json::array();
  for (const CodecUse& use : codecs) {
    array.push_back(
        {{"codec", use.codec},
         {"recipe", use.recipe.empty() ? Json(nullptr) : Json(use.recipe)},
         {"slow", use.slow},
         {"blocks", use.blocks},
         {"plain_bytes", use.plain_bytes},
         {"coded_bytes", use.coded_bytes}});
  }
  return array;
}

Json SourcesJson(const Archive& archive,
                 const std::vector<CodingSource>& sources) {
  Json array = Json::array();
  for (const CodingSource& source : sources) {
    Json object;
    object["role"] = source.role;
    if (source.tensor.has_value()) {
      const Entry& entry = archive.entries()[source.tensor->entry];
      SetText(&object, "path", entry.path);
      SetText(&object, "tensor",
              entry.layout.segments[source.tensor->segment].name);
    } else if (source.base.has_value()) {
      const NeededBase& base = archive.needed_bases()[*source.base];
      SetText(&object, "model", base.model);
      SetText(&object, "tensor", base.tensor);
    }
    object["plain_bytes"] = source.plain_bytes;
    array.push_back(std::move(object));
  }
  return array;
}

Json DerivationsJson(const std::vector<Derivation>& derivations) {
  Json array = Json::array();
  for (const Derivation& file : derivations) {
    Json object;
    SetText(&object, "path", file.entry->path);
    if (file.from != nullptr) {
      SetText(&object, "from", file.from->path);
    } else if (!file.from_model.empty()) {
      SetText(&object, "from_model", file.from_model);
    }
    object["tensors"] = file.tensors;
    object["derived_tensors"] = file.derived_tensors;
    object["weights"] = file.weights;
    object["coded_bytes"] = file.coded_bytes;
    object["bits_per_weight"] = BitsEachJson(file.coded_bytes, file.weights);
    object["slow"] = file.slow;
    object["recipes"] = file.recipes;
    array.push_back(std::move(object));
  }
  return array;
}

Json SummaryJson(const std::string& input, const Archive& archive,
                 const Summary& sum) {
  Json object;
  SetText(&object, "archive", input);
  object["archive_bytes"] = sum.archive_bytes;
  object["plain_bytes"] = sum.plain_bytes;
  object["ratio"] = Ratio(sum.archive_bytes, sum.plain_bytes);
  object["files"] = sum.files;
  object["tensors"] = sum.weights.tensors;
  object["weights"] = sum.weights.elements;
  object["bits_per_weight"] =
      BitsEachJson(sum.weights.coded_bytes, sum.weights.elements);
  Json types = Json::array();
  for (const TypeSum& type : sum.types) {
    Json entry;
    entry["dtype"] = type.tensors == 0 ? Json(nullptr) : Json(type.name);
    entry["tensors"] = type.tensors;
    entry["weights"] = type.elements;
    entry["plain_bytes"] = type.plain_bytes;
    entry["coded_bytes"] = type.coded_bytes;
    entry["bits_per_weight"] = BitsEachJson(type.coded_bytes, type.elements);
    types.push_back(std::move(entry));
  }
  object["by_dtype"] = std::move(types);
  object["by_codec"] = CodecsJson(sum.codecs);
  object["frame_head_bytes"] = sum.frame_bytes;
  object["index_bytes"] = sum.index_bytes;
  Json bases = Json::array();
  for (const NeededBase& base : sum.bases) {
    Json entry;
    SetText(&entry, "model", base.model);
    SetText(&entry, "tensor", base.tensor);
    entry["bytes"] = base.length;
    entry["sha256"] = HexText(base.sha256);
    bases.push_back(std::move(entry));
  }
  object["needs"] = std::move(bases);
  object["derived"] = DerivationsJson(sum.derivations);
  Json tensors = Json::array();
  for (const CodedTensor& tensor : sum.tensors) {
    Json entry;
    SetText(&entry, "path", tensor.entry->path);
    SetText(&entry, "name", tensor.segment->name);
    entry["dtype"] = DTypeName(tensor.segment->dtype);
    entry["shape"] = tensor.segment->shape;
    entry["plain_bytes"] = tensor.segment->length;
    entry["coded_bytes"] = tensor.coding.coded_bytes;
    entry["bits_per_weight"] =
        BitsEachJson(tensor.coding.coded_bytes, ElementCount(*tensor.segment));
    entry["by_codec"] = CodecsJson(tensor.coding.codecs);
    entry["sources"] = SourcesJson(archive, tensor.coding.sources);
    tensors.push_back(std::move(entry));
  }
  object["by_tensor"] = std::move(tensors);
  return object;
}

constexpr size_t kBarWidth = 24;

// "derived (ggml Q4_K)"
std::string CodecName(const CodecUse& use) {
  return Printable(use.codec +
                   (use.recipe.empty() ? "" : " (" + use.recipe + ")"));
}

// Files below those that they were made of.
std::string DerivationsText(const std::vector<Derivation>& derivations) {
  std::map<const Entry*, const Derivation*> of;
  for (const Derivation& file : derivations) of[file.entry] = &file;
  Table table("lrrll");
  table.Add({"Derived files", "Tensors", "Bits each", "Made by", "Decodes"});
  std::set<const Derivation*> shown;
  const auto add = [&](const Derivation& file, size_t depth) {
    std::string recipes;
    for (const auto& [recipe, tensors] : file.recipes) {
      recipes += (recipes.empty() ? "" : ", ") + Printable(recipe) + " " +
                 std::to_string(tensors);
    }
    table.Add({std::string(2 * depth, ' ') + Printable(EntryName(*file.entry)),
               std::to_string(file.derived_tensors) + " of " +
                   std::to_string(file.tensors),
               Format("%.4f", 8.0 * static_cast<double>(file.coded_bytes) /
                                  static_cast<double>(file.weights)),
               recipes, file.slow ? "slowly" : "fast"});
    shown.insert(&file);
  };
  // Roots are files that are not derived, or outside; then, in case files are
  // each other's sources, whatever is left.
  struct Item {
    const Derivation* file;
    size_t depth;
  };
  const auto add_below = [&](const std::function<bool(const Derivation&)>& is) {
    std::vector<Item> stack;
    const auto push = [&](const auto& wanted, size_t depth) {
      for (auto file = derivations.rbegin(); file != derivations.rend();
           ++file) {
        if (wanted(*file)) stack.push_back({&*file, depth});
      }
    };
    push(is, 1);
    while (!stack.empty()) {
      const Item item = stack.back();
      stack.pop_back();
      if (shown.contains(item.file)) continue;
      add(*item.file, item.depth);
      push([&](const Derivation& f) { return f.from == item.file->entry; },
           item.depth + 1);
    }
  };
  for (const Derivation& file : derivations) {
    if (shown.contains(&file)) continue;
    // Up to what is not derived, or to where it goes round.
    const Derivation* top = &file;
    std::set<const Derivation*> seen = {top};
    while (top->from != nullptr && of.contains(top->from) &&
           seen.insert(of[top->from]).second) {
      top = of[top->from];
    }
    const std::string root = top->from != nullptr ? EntryName(*top->from)
                             : top->from_model.empty()
                                 ? "other tensors of the same file"
                                 : top->from_model;
    table.Add({Printable(root), "-", "-", "-", "-"});
    add_below([&](const Derivation& f) {
      return f.from == top->from && f.from_model == top->from_model &&
             (top->from == nullptr || !of.contains(top->from) || &f == top);
    });
  }
  return table.Text();
}

std::string SummaryText(const std::string& input, const Summary& sum,
                        bool utf8) {
  std::string text =
      Printable(DisplayName(input)) + ": " + HumanBytes(sum.plain_bytes) +
      " in " + HumanBytes(sum.archive_bytes) + " (" +
      Percent(sum.archive_bytes, sum.plain_bytes) + "), " +
      std::to_string(sum.files) + (sum.files == 1 ? " file, " : " files, ") +
      std::to_string(sum.weights.tensors) + " tensors";
  if (sum.weights.elements != 0) {
    text += ", " + HumanCount(sum.weights.elements) + " weights, " +
            BitsEach(sum.weights.coded_bytes, sum.weights.elements) +
            " bits a weight";
  }
  text += "\n\n";

  Table types("lrrrrrrl");
  types.Add({"Type", "Tensors", "Weights", "Plain", "Coded", "Ratio",
             "Bits each", "Left of it"});
  for (const TypeSum& type : sum.types) {
    types.Add({type.name,
               type.tensors == 0 ? "-" : std::to_string(type.tensors),
               type.elements == 0 ? "-" : HumanCount(type.elements),
               HumanBytes(type.plain_bytes), HumanBytes(type.coded_bytes),
               Percent(type.coded_bytes, type.plain_bytes),
               BitsEach(type.coded_bytes, type.elements),
               Bar(type.coded_bytes, type.plain_bytes, kBarWidth, utf8)});
  }
  text += types.Text() + "\n";

  Table parts("lrrrrrl");
  parts.Add({"Part", "Blocks", "Plain", "Coded", "Ratio", "Of archive",
             "Where the bytes go"});
  auto part = [&](const std::string& name, const std::string& blocks,
                  const std::string& plain, uint64_t coded,
                  const std::string& ratio) {
    parts.Add({name, blocks, plain, HumanBytes(coded), ratio,
               Percent(coded, sum.archive_bytes),
               Bar(coded, sum.archive_bytes, kBarWidth, utf8)});
  };
  for (const CodecUse& use : sum.codecs) {
    part(CodecName(use), std::to_string(use.blocks),
         HumanBytes(use.plain_bytes), use.coded_bytes,
         Percent(use.coded_bytes, use.plain_bytes));
  }
  part("frame heads", "-", "-", sum.frame_bytes, "-");
  part("index", "-", "-", sum.index_bytes, "-");
  text += parts.Text();
  if (!sum.derivations.empty()) {
    text += "\n" + DerivationsText(sum.derivations);
  }
  if (sum.bases.empty()) return text;

  Table bases("lrl");
  bases.Add({"Needs of", "Tensors", "Such as (SHA-256)"});
  for (size_t i = 0; i < sum.bases.size();) {
    const NeededBase& base = sum.bases[i];
    size_t count = 0;
    for (; i < sum.bases.size() && sum.bases[i].model == base.model; ++i) {
      ++count;
    }
    bases.Add({Printable(base.model), std::to_string(count),
               Printable(base.tensor) + " (" + HexText(base.sha256) + ")"});
  }
  return text + "\n" + bases.Text();
}

// "float 98 %, stored 2 %", by plain bytes.
std::string CodecShares(const CodedTensor& tensor) {
  std::string text;
  for (const CodecUse& use : tensor.coding.codecs) {
    if (!text.empty()) text += ", ";
    text += CodecName(use);
    if (tensor.coding.codecs.size() > 1 && tensor.segment->length != 0) {
      text +=
          Format(" %.0f %%", 100.0 * static_cast<double>(use.plain_bytes) /
                                 static_cast<double>(tensor.segment->length));
    }
  }
  return text.empty() ? "-" : text;
}

std::string TensorsText(const Summary& sum) {
  std::string text;
  for (size_t i = 0; i < sum.tensors.size();) {
    const Entry* entry = sum.tensors[i].entry;
    Table table("lrrrrll");
    table.Add(
        {"Type", "Shape", "Plain", "Coded", "Bits each", "Codecs", "Tensor"});
    for (; i < sum.tensors.size() && sum.tensors[i].entry == entry; ++i) {
      const CodedTensor& tensor = sum.tensors[i];
      table.Add(
          {DTypeName(tensor.segment->dtype), ShapeText(tensor.segment->shape),
           HumanBytes(tensor.segment->length),
           HumanBytes(tensor.coding.coded_bytes),
           BitsEach(tensor.coding.coded_bytes, ElementCount(*tensor.segment)),
           CodecShares(tensor), Printable(tensor.segment->name)});
    }
    text += "\n" + Printable(EntryName(*entry)) + ":\n" + table.Text();
  }
  return text;
}

}  // namespace

void RunInfo(const CommandOptions& options, Console& console) {
  if (!CheckInputs(options, console)) return;
  Json archives = Json::array();
  bool first = true;
  for (const std::string& input : options.inputs) {
    absl::Status status = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(Archive archive, OpenArchive(input, options, console));
      ASSIGN_OR_RETURN(Summary sum, Summarize(archive));
      if (options.json) {
        archives.push_back(SummaryJson(input, archive, sum));
        return absl::OkStatus();
      }
      if (!first) console.Print("\n");
      first = false;
      console.Print(SummaryText(input, sum, console.Utf8()));
      if (options.tensors || options.verbose) console.Print(TensorsText(sum));
      return absl::OkStatus();
    }();
    if (!status.ok()) console.Fail(DisplayName(input), status);
  }
  if (options.json) console.Print(Dump({{"archives", archives}}));
}

}  // namespace zipllm::tools
