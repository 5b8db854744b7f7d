// zipllm bench: speed and ratio in memory, beside memcpy in the same run.
#include <algorithm>
#include <cstring>

#include "base/buffer.h"
#include "base/file.h"
#include "base/status.h"
#include "tools/command.h"
#include "tools/format.h"
#include "tools/json.h"
#include "tools/paths.h"
#include "zipllm/compressor.h"
#include "zipllm/decompressor.h"

namespace zipllm::tools {
namespace {

struct Measurement {
  int level = 0;
  uint64_t archive_bytes = 0;
  double compress_seconds = 0;
  double decompress_seconds = 0;
};

// Runs `work` `rounds` times and returns the shortest time, in seconds.
template <typename Work>
absl::StatusOr<double> BestOf(int rounds, Work work) {
  double best = 0;
  for (int i = 0; i < rounds; ++i) {
    RETURN_IF_ERROR(CheckInterrupt());
    const double start = Now();
    RETURN_IF_ERROR(work());
    const double seconds = Now() - start;
    if (i == 0 || seconds < best) best = seconds;
  }
  return best;
}

absl::StatusOr<Buffer> ReadWhole(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<Source> source, OpenFileSource(path));
  Buffer data;
  size_t filled = 0;
  data.Resize(source->Size().value_or(0) + 1);
  while (true) {
    RETURN_IF_ERROR(CheckInterrupt());
    ASSIGN_OR_RETURN(size_t n,
                     source->Read(data.mutable_span().subspan(filled)));
    if (n == 0) break;
    filled += n;
    if (filled == data.size()) data.Resize(2 * filled);
  }
  data.Resize(filled);
  return data;
}

absl::StatusOr<Measurement> Measure(int level, ByteSpan plain,
                                    const std::string& name,
                                    const CommandOptions& options) {
  CompressOptions compress_settings;
  compress_settings.level = level;
  compress_settings.threads = options.threads;
  compress_settings.verify = !options.no_verify;
  compress_settings.deduplicate = !options.no_dedup;
  compress_settings.progress = [](const Progress&) {
    return CheckInterrupt().ok();
  };
  DecompressOptions decompress_settings;
  decompress_settings.threads = options.threads;
  decompress_settings.max_memory = options.memory;
  decompress_settings.progress = compress_settings.progress;
  Compressor compressor(compress_settings);
  Decompressor decompressor(decompress_settings);

  Measurement result;
  result.level = level;
  std::vector<uint8_t> archive, again;
  archive.reserve(plain.size() + plain.size() / 64 + (1 << 16));
  again.reserve(plain.size());
  ASSIGN_OR_RETURN(result.compress_seconds,
                   BestOf(options.rounds, [&]() -> absl::Status {
                     archive.clear();
                     auto in = MakeMemorySource(plain, name);
                     auto out = MakeMemorySink(&archive);
                     return compressor.CompressStream(*in, "", *out).status();
                   }));
  result.archive_bytes = archive.size();
  ASSIGN_OR_RETURN(result.decompress_seconds,
                   BestOf(options.rounds, [&]() -> absl::Status {
                     again.clear();
                     auto in = MakeMemorySource(archive, name);
                     auto out = MakeMemorySink(&again);
                     return decompressor.DecompressStream(*in, *out).status();
                   }));
  if (!std::equal(again.begin(), again.end(), plain.begin(), plain.end())) {
    return Internal("level ", level, " did not restore the input");
  }
  return result;
}

absl::StatusOr<double> MeasureCopy(ByteSpan plain, int rounds) {
  Buffer copy(plain.size());
  return BestOf(rounds + 1, [&] {
    if (!plain.empty()) std::memcpy(copy.data(), plain.data(), plain.size());
    asm volatile("" : : "r"(copy.data()) : "memory");  // the copy is used
    return absl::OkStatus();
  });
}

Json RateJson(uint64_t bytes, double seconds) {
  if (seconds <= 0) return nullptr;
  return static_cast<double>(bytes) / seconds;
}

struct FileResult {
  uint64_t plain_bytes = 0;
  double copy_seconds = 0;
  std::vector<Measurement> levels;
};

std::string ResultText(const std::string& input, const FileResult& result) {
  Table table("lrrrr");
  table.Add({"Level", "Archive", "Ratio", "Compress", "Decompress"});
  for (const Measurement& m : result.levels) {
    table.Add({Format("-%d", m.level), HumanBytes(m.archive_bytes),
               Percent(m.archive_bytes, result.plain_bytes),
               HumanRate(result.plain_bytes, m.compress_seconds),
               HumanRate(result.plain_bytes, m.decompress_seconds)});
  }
  return Printable(input) + ": " + HumanBytes(result.plain_bytes) +
         ", memcpy " + HumanRate(result.plain_bytes, result.copy_seconds) +
         "\n" + table.Text();
}

Json ResultJson(const std::string& input, const FileResult& result) {
  Json object;
  SetText(&object, "file", input);
  object["plain_bytes"] = result.plain_bytes;
  object["memcpy_bytes_per_second"] =
      RateJson(result.plain_bytes, result.copy_seconds);
  Json levels = Json::array();
  for (const Measurement& m : result.levels) {
    Json level;
    level["level"] = m.level;
    level["archive_bytes"] = m.archive_bytes;
    level["ratio"] = Ratio(m.archive_bytes, result.plain_bytes);
    level["compress_bytes_per_second"] =
        RateJson(result.plain_bytes, m.compress_seconds);
    level["decompress_bytes_per_second"] =
        RateJson(result.plain_bytes, m.decompress_seconds);
    levels.push_back(std::move(level));
  }
  object["levels"] = std::move(levels);
  return object;
}

}  // namespace

void RunBench(const CommandOptions& options, Console& console) {
  std::vector<int> levels = options.levels;
  if (levels.empty()) levels = {1, 3, 6, 9};
  Json results = Json::array();
  for (const std::string& input : options.inputs) {
    absl::Status status = [&]() -> absl::Status {
      ASSIGN_OR_RETURN(Buffer plain, ReadWhole(input));
      FileResult result;
      result.plain_bytes = plain.size();
      ASSIGN_OR_RETURN(result.copy_seconds,
                       MeasureCopy(plain.span(), options.rounds));
      for (int level : levels) {
        ASSIGN_OR_RETURN(Measurement m,
                         Measure(level, plain.span(), input, options));
        result.levels.push_back(m);
      }
      if (options.json) {
        results.push_back(ResultJson(input, result));
      } else {
        console.Print(ResultText(input, result));
      }
      return absl::OkStatus();
    }();
    if (!status.ok()) console.Fail(input, status);
  }
  if (options.json) {
    console.Print(Dump({{"threads", options.threads},
                        {"rounds", options.rounds},
                        {"files", results}}));
  }
}

}  // namespace zipllm::tools
