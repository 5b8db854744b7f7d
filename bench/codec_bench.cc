// Codecs from memory to memory on one thread, beside memcpy in the same run, in
// CPU time: all tensors of one element type of a file (or the whole file, taken
// as one) are planned, coded and decoded frame by frame as the archive does it.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "archive/duplicates.h"
#include "archive/frame_encoder.h"
#include "base/dtype.h"
#include "base/file.h"
#include "codecs/codec.h"
#include "container/xxh3.h"
#include "kernels/kernels.h"

namespace zipllm {
namespace {

constexpr char kUsage[] =
    "usage: codec_bench [options] FILE...\n"
    "  --level N      level to plan for (3)\n"
    "  --codec NAME   this codec alone; else the one of the least estimate\n"
    "  --dtype NAME   tensors of this type; else of that with most bytes\n"
    "  --raw          the whole file is one tensor of --dtype\n"
    "  --row N        with --raw: elements of a row\n"
    "  --cpu NAME     kernels: scalar, avx2, avx512, neon\n"
    "  --rounds N     rounds that take turns; medians are printed (9)\n";

struct Options {
  int level = 3;
  std::string codec;
  std::string dtype;
  bool raw = false;
  uint64_t row = 0;
  int rounds = 9;
  std::vector<std::string> files;
};

struct Frame {
  codecs::EncodeRequest request;
  size_t out_offset = 0;  // of its bytes among all that are measured

  // What encoding makes of it. A block without codec is stored.
  struct Block {
    uint8_t codec = 0;
    size_t offset = 0;  // in `coded`
    size_t size = 0;
    uint64_t hash = 0;
  };
  uint8_t codec = 0;
  std::unique_ptr<codecs::EncodePlan> plan;
  std::unique_ptr<const codecs::DecodeParams> params;
  Buffer coded;
  std::vector<Block> blocks;

  ByteSpan Plain(size_t block) const {
    const size_t at = block * request.block_size;
    return request.data.subspan(
        at, std::min(request.block_size, request.data.size() - at));
  }
};

/// Seconds that this thread has run: others on the machine do not count.
double Now() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) +
         1e-9 * static_cast<double>(now.tv_nsec);
}

double MedianOf(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2,
                   values.end());
  return values[values.size() / 2];
}

/// Times of one kind of work, one a round.
struct Times {
  std::vector<double> seconds;
  double Median() const { return MedianOf(seconds); }
  /// How fast this is beside `other`, round by round: what the machine does
  /// otherwise slows both.
  double ShareOf(const Times& other) const {
    std::vector<double> shares;
    for (size_t i = 0; i < seconds.size(); ++i) {
      shares.push_back(other.seconds[i] / seconds[i]);
    }
    return MedianOf(shares);
  }
};

template <typename Work>
void Time(Times& times, const Work& work) {
  const double start = Now();
  work();
  times.seconds.push_back(Now() - start);
}

[[noreturn]] void Die(const std::string& message) {
  std::fprintf(stderr, "codec_bench: %s\n", message.c_str());
  std::exit(1);
}

void Check(const absl::Status& status, const std::string& what) {
  if (!status.ok()) Die(what + ": " + std::string(status.message()));
}

class Bench {
 public:
  Bench(const Options& options, Source& file) : options_(options) {
    data_.Resize(file.Size().value_or(0));
    Check(ReadAtExactly(file, 0, data_.mutable_span()), file.Name());
    Layout layout;
    if (options.raw) {
      layout.segments.push_back({.name = "",
                                 .dtype = FindType(options.dtype),
                                 .shape = {1, options.row},
                                 .offset = 0,
                                 .length = data_.size()});
    } else {
      std::vector<uint8_t> prefix;
      auto read = archive::ReadLayout(file, &prefix);
      Check(read.status(), file.Name());
      layout = std::move(*read);
    }
    dtype_ = options.dtype.empty() ? MostCommonType(layout)
                                   : FindType(options.dtype);
    for (const Segment& segment : layout.segments) {
      if (segment.dtype == dtype_) AddSegment(segment);
    }
    if (plain_ == 0) Die(file.Name() + ": no tensor of that type");
    out_.Resize(plain_);
    std::memset(out_.data(), 0, plain_);
  }

  void Run(const std::string& name);

 private:
  static DType FindType(const std::string& name) {
    for (const DTypeInfo& info : AllDTypes()) {
      if (info.name == name) return info.dtype;
    }
    std::string known;
    for (const DTypeInfo& info : AllDTypes()) {
      known += " " + std::string(info.name);
    }
    Die("unknown --dtype \"" + name + "\"; known:" + known);
  }
  static DType MostCommonType(const Layout& layout) {
    std::map<DType, uint64_t> bytes;
    for (const Segment& segment : layout.segments) {
      bytes[segment.dtype] += segment.length;
    }
    DType best = DType::kBytes;
    for (const auto& [dtype, length] : bytes) {
      if (length > bytes[best]) best = dtype;
    }
    return best;
  }

  void AddSegment(const Segment& segment) {
    const uint32_t block = archive::BlockBytes(dtype_, options_.level);
    const uint32_t frame =
        std::max(block, archive::kFrameBytes / block * block);
    const DTypeInfo& info = *FindDType(dtype_);
    for (uint64_t at = 0; at < segment.length; at += frame) {
      const size_t size = std::min<uint64_t>(frame, segment.length - at);
      Frame& added = frames_.emplace_back();
      added.request = {data_.span().subspan(segment.offset + at, size),
                       block,
                       dtype_,
                       options_.level,
                       segment.shape.size() >= 2 ? segment.shape.back() : 0,
                       at / info.block_bytes * info.block_elements};
      added.out_offset = plain_;
      plain_ += size;
    }
  }

  void Plan();
  void Encode();
  bool Decode(bool with_hash);

  const Options& options_;
  Buffer data_;
  DType dtype_ = DType::kBytes;
  std::vector<Frame> frames_;
  size_t plain_ = 0;
  Buffer out_;
  codecs::Scratch scratch_;
};

void Bench::Plan() {
  for (Frame& frame : frames_) {
    frame.plan = nullptr;
    uint64_t best = frame.request.data.size();
    for (const codecs::Encoder* encoder : codecs::AllEncoders()) {
      if (!options_.codec.empty() && encoder->name != options_.codec) continue;
      auto plan = encoder->plan(frame.request, scratch_);
      if (plan == nullptr) continue;
      const uint64_t size = plan->estimate() + plan->params().size();
      if (size >= best && options_.codec.empty()) continue;
      best = size;
      frame.codec = encoder->id;
      frame.plan = std::move(plan);
    }
  }
}

void Bench::Encode() {
  for (Frame& frame : frames_) {
    const size_t size = frame.request.data.size();
    frame.coded.Clear();
    frame.coded.Reserve(size + size / 8 + 4096);
    frame.blocks.resize((size + frame.request.block_size - 1) /
                        frame.request.block_size);
    for (size_t b = 0; b < frame.blocks.size(); ++b) {
      Frame::Block& block = frame.blocks[b];
      block.offset = frame.coded.size();
      const bool coded =
          frame.plan != nullptr &&
          frame.plan->Encode(frame.Plain(b), scratch_, &frame.coded);
      block.codec = coded ? frame.codec : 0;
      if (!coded) frame.coded.Append(frame.Plain(b));
      block.size = frame.coded.size() - block.offset;
    }
  }
}

bool Bench::Decode(bool with_hash) {
  bool good = true;
  for (Frame& frame : frames_) {
    const codecs::Decoder* decoder = codecs::FindDecoder(frame.codec);
    frame.params = nullptr;
    if (frame.plan != nullptr && !frame.plan->params().empty()) {
      auto params = decoder->parse(frame.plan->params());
      Check(params.status(), "parameters");
      frame.params = std::move(*params);
    }
    for (size_t b = 0; b < frame.blocks.size(); ++b) {
      const Frame::Block& block = frame.blocks[b];
      MutableByteSpan out = out_.mutable_span().subspan(
          frame.out_offset + b * frame.request.block_size,
          frame.Plain(b).size());
      const ByteSpan coded =
          frame.coded.span().subspan(block.offset, block.size);
      if (block.codec == 0) {
        std::memcpy(out.data(), coded.data(), coded.size());
      } else {
        Check(decoder->decode(frame.params.get(), coded, out, scratch_),
              "block");
      }
      if (with_hash) good &= Xxh3(out) == block.hash;
    }
  }
  return good;
}

void Bench::Run(const std::string& name) {
  Times copy, plan, encode, decode, checked;
  bool good = true;
  for (int round = 0; round <= options_.rounds; ++round) {
    Time(copy, [&] {
      for (const Frame& frame : frames_) {
        std::memcpy(out_.data() + frame.out_offset, frame.request.data.data(),
                    frame.request.data.size());
      }
    });
    Time(plan, [&] { Plan(); });
    Time(encode, [&] { Encode(); });
    if (round == 0) {
      for (Frame& frame : frames_) {
        for (size_t b = 0; b < frame.blocks.size(); ++b) {
          frame.blocks[b].hash = Xxh3(frame.Plain(b));
        }
      }
    }
    Time(decode, [&] { Decode(false); });
    Time(checked, [&] { good &= Decode(true); });
    if (round == 0) {  // memory is mapped and the clock is up now
      for (Times* times : {&copy, &plan, &encode, &decode, &checked}) {
        times->seconds.clear();
      }
    }
  }
  for (const Frame& frame : frames_) {
    good &=
        std::memcmp(out_.data() + frame.out_offset, frame.request.data.data(),
                    frame.request.data.size()) == 0;
  }
  if (!good) Die(name + ": did not decode to itself");

  size_t coded = 0;
  std::map<std::string, size_t> bytes_by_codec;
  for (const Frame& frame : frames_) {
    coded += frame.coded.size();
    if (frame.plan != nullptr) coded += frame.plan->params().size();
    for (size_t b = 0; b < frame.blocks.size(); ++b) {
      bytes_by_codec[std::string(
          codecs::FindDecoder(frame.blocks[b].codec)->name)] +=
          frame.Plain(b).size();
    }
  }
  const auto bytes = static_cast<double>(plain_);
  std::printf("%s: %zu bytes of %s in %zu frames, level %d, %s\n", name.c_str(),
              plain_, FindDType(dtype_)->name.data(), frames_.size(),
              options_.level, kernels::Best().name);
  std::printf("  ratio %.4f (", static_cast<double>(coded) / bytes);
  const char* between = "";
  for (const auto& [codec, size] : bytes_by_codec) {
    std::printf("%s%s %.1f %%", between, codec.c_str(),
                100 * static_cast<double>(size) / bytes);
    between = ", ";
  }
  std::printf(")\n");
  const auto print = [&](const char* what, const Times& times) {
    std::printf("  %-16s %8.0f MB/s  %5.1f %% of memcpy\n", what,
                bytes / times.Median() / 1e6, 100 * times.ShareOf(copy));
  };
  print("memcpy", copy);
  print("plan", plan);
  print("encode", encode);
  Times both;
  for (size_t i = 0; i < plan.seconds.size(); ++i) {
    both.seconds.push_back(plan.seconds[i] + encode.seconds[i]);
  }
  print("plan + encode", both);
  print("decode", decode);
  print("decode + XXH3", checked);
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&]() -> std::string {
      if (++i == argc) Die(word + " needs a value\n" + kUsage);
      return argv[i];
    };
    if (word == "--level") {
      options.level = std::atoi(value().c_str());
    } else if (word == "--codec") {
      options.codec = value();
    } else if (word == "--dtype") {
      options.dtype = value();
    } else if (word == "--raw") {
      options.raw = true;
    } else if (word == "--row") {
      options.row = std::strtoull(value().c_str(), nullptr, 10);
    } else if (word == "--cpu") {
      setenv("ZIPLLM_CPU", value().c_str(), 1);
    } else if (word == "--rounds") {
      options.rounds = std::max(1, std::atoi(value().c_str()));
    } else if (word.starts_with("-")) {
      Die("unknown option " + word + "\n" + kUsage);
    } else {
      options.files.push_back(word);
    }
  }
  if (options.files.empty()) Die(std::string("no file\n") + kUsage);
  for (const std::string& path : options.files) {
    auto file = OpenFileSource(path);
    Check(file.status(), path);
    Bench(options, **file).Run(path);
  }
  return 0;
}

}  // namespace
}  // namespace zipllm

int main(int argc, char** argv) { return zipllm::Main(argc, argv); }
