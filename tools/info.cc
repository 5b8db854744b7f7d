// zipllm info: how archives are coded, and where their bytes go.
#include <algorithm>
#include <map>

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
  std::vector<NeededBase> bases;  // by model
};

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
        CodecUse& codec = codecs[use.codec];
        codec.codec = use.codec;
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
  return sum;
}

Json BitsEachJson(uint64_t bytes, uint64_t count) {
  if (count == 0) return nullptr;
  return 8.0 * static_cast<double>(bytes) / static_cast<double>(count);
}

Json CodecsJson(const std::vector<CodecUse>& codecs) {
  Json array = Json::array();
  for (const CodecUse& use : codecs) {
    array.push_back({{"codec", use.codec},
                     {"blocks", use.blocks},
                     {"plain_bytes", use.plain_bytes},
                     {"coded_bytes", use.coded_bytes}});
  }
  return array;
}

Json SummaryJson(const std::string& input, const Summary& sum) {
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
    tensors.push_back(std::move(entry));
  }
  object["by_tensor"] = std::move(tensors);
  return object;
}

constexpr size_t kBarWidth = 24;

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
    part(Printable(use.codec), std::to_string(use.blocks),
         HumanBytes(use.plain_bytes), use.coded_bytes,
         Percent(use.coded_bytes, use.plain_bytes));
  }
  part("frame heads", "-", "-", sum.frame_bytes, "-");
  part("index", "-", "-", sum.index_bytes, "-");
  text += parts.Text();
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
    text += Printable(use.codec);
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
        archives.push_back(SummaryJson(input, sum));
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
