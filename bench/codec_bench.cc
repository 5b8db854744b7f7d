// Codecs from memory to memory on one thread, beside memcpy in the same run, in
// CPU time: all tensors of one element type of a file (or the whole file, taken
// as one) are planned, coded and decoded frame by frame as the archive does it.
// With --base, beside the elements of the tensor of the same name there.
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
    "  --base FILE    code against this file; may be repeated\n"
    "  --cpu NAME     kernels: scalar, avx2, avx512, neon\n"
    "  --rounds N     rounds that take turns; medians are printed (9)\n";

struct Options {
  int level = 3;
  std::string codec;
  std::string dtype;
  bool raw = false;
  uint64_t row = 0;
  int rounds = 9;
  std::vector<std::string> bases;
  std::vector<std::string> files;
};

/// A tensor beside its bases, as codecs learn of it.
class Tensor final : public codecs::TensorView {
 public:
  Tensor(const Segment& segment, ByteSpan data, int of_level,
         std::vector<codecs::Reference> beside)
      : data_(data), beside_(std::move(beside)) {
    const DTypeInfo& info = *FindDType(segment.dtype);
    dtype = segment.dtype;
    elements = data.size() / info.block_bytes * info.block_elements;
    row = segment.shape.size() >= 2 ? segment.shape.back() : 0;
    level = of_level;
    for (const codecs::Reference& reference : beside_) {
      references.push_back({reference.role, reference.dtype, elements, 0});
    }
  }
  absl::Status Read(int which, uint64_t begin,
                    MutableByteSpan out) const override {
    const ByteSpan data =
        which < 0 ? data_ : beside_[static_cast<size_t>(which)].data;
    const DTypeInfo& info = *FindDType(
        which < 0 ? dtype : beside_[static_cast<size_t>(which)].dtype);
    const ByteSpan read = data.subspan(
        begin / info.block_elements * info.block_bytes, out.size());
    std::ranges::copy(read, out.begin());
    return absl::OkStatus();
  }

  /// Those of `count` elements from `begin` on.
  std::vector<codecs::Reference> Beside(uint64_t begin, uint64_t count) const {
    std::vector<codecs::Reference> found = beside_;
    for (codecs::Reference& reference : found) {
      const size_t width = FindDType(reference.dtype)->block_bytes;
      reference.data = reference.data.subspan(begin * width, count * width);
    }
    return found;
  }

  /// What each encoder learns of it, by number.
  std::map<codecs::CodecId, std::unique_ptr<const codecs::TensorModel>> models;

 private:
  const ByteSpan data_;
  const std::vector<codecs::Reference> beside_;
};

/// A file in memory with its layout.
struct File {
  Buffer data;
  Layout layout;
};

struct Frame {
  codecs::EncodeRequest request;
  const Tensor* tensor = nullptr;  // where it has references
  std::vector<codecs::Reference> references;
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
  ByteSpan shared;  // of the tensor's model
  Buffer coded;
  std::vector<Block> blocks;

  // The references of one block.
  struct Context {
    std::vector<codecs::Reference> references;
    codecs::BlockContext context;
  };
  void SetContext(size_t block, Context& out) const {
    const DTypeInfo& info = *FindDType(request.dtype);
    const uint64_t begin = request.position + block * request.block_size /
                                                  info.block_bytes *
                                                  info.block_elements;
    out.references = tensor->Beside(
        begin, Plain(block).size() / info.block_bytes * info.block_elements);
    out.context = {out.references, request.row, begin, shared};
  }
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
    Layout layout;
    if (options.raw) {
      data_ = ReadAll(file);
      layout.segments.push_back({.name = "",
                                 .dtype = FindType(options.dtype),
                                 .shape = {1, options.row},
                                 .offset = 0,
                                 .length = data_.size()});
    } else {
      File read = ReadFile(file);
      data_ = std::move(read.data);
      layout = std::move(read.layout);
    }
    for (const std::string& path : options.bases) {
      auto base = OpenFileSource(path);
      Check(base.status(), path);
      bases_.push_back(ReadFile(**base));
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

  static Buffer ReadAll(Source& file) {
    Buffer data;
    data.Resize(file.Size().value_or(0));
    Check(ReadAtExactly(file, 0, data.mutable_span()), file.Name());
    return data;
  }
  static File ReadFile(Source& file) {
    std::vector<uint8_t> prefix;
    auto layout = archive::ReadLayout(file, &prefix);
    Check(layout.status(), file.Name());
    return {ReadAll(file), std::move(*layout)};
  }

  /// The bases' tensors of the segment's name and shape.
  std::vector<codecs::Reference> FindReferences(const Segment& segment) const {
    std::vector<codecs::Reference> found;
    for (const File& base : bases_) {
      for (const Segment& other : base.layout.segments) {
        if (other.name == segment.name && other.shape == segment.shape &&
            FindDType(other.dtype)->block_elements == 1) {
          found.push_back({codecs::Role::kBase, other.dtype,
                           base.data.span().subspan(other.offset, other.length),
                           0});
        }
      }
    }
    return found;
  }

  void AddSegment(const Segment& segment) {
    const Tensor* tensor = nullptr;
    if (auto beside = FindReferences(segment); !beside.empty()) {
      tensors_.push_back(std::make_unique<Tensor>(
          segment, data_.span().subspan(segment.offset, segment.length),
          options_.level, std::move(beside)));
      tensor = tensors_.back().get();
    }
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
                       at / info.block_bytes * info.block_elements,
                       {},
                       nullptr};
      if (tensor != nullptr) {
        added.tensor = tensor;
        added.references =
            tensor->Beside(added.request.position,
                           size / info.block_bytes * info.block_elements);
        added.request.references = added.references;
      }
      added.out_offset = plain_;
      plain_ += size;
    }
  }

  void Plan();
  void Encode();
  bool Decode(bool with_hash);

  const Options& options_;
  Buffer data_;
  std::vector<File> bases_;
  std::vector<std::unique_ptr<Tensor>> tensors_;
  DType dtype_ = DType::kBytes;
  std::vector<Frame> frames_;
  size_t plain_ = 0;
  Buffer out_;
  codecs::Scratch scratch_;
};

void Bench::Plan() {
  for (const auto& tensor : tensors_) {
    tensor->models.clear();
    for (const codecs::Encoder* encoder : codecs::AllEncoders()) {
      if (encoder->learn == nullptr) continue;
      tensor->models[encoder->id] = encoder->learn(*tensor, scratch_);
    }
  }
  for (Frame& frame : frames_) {
    frame.plan = nullptr;
    uint64_t best = frame.request.data.size();
    for (const codecs::Encoder* encoder : codecs::AllEncoders()) {
      if (!options_.codec.empty() && encoder->name != options_.codec) continue;
      codecs::EncodeRequest request = frame.request;
      if (frame.tensor != nullptr && encoder->learn != nullptr) {
        request.model = frame.tensor->models.at(encoder->id).get();
      }
      auto plan = encoder->plan(request, scratch_);
      if (plan == nullptr) continue;
      const uint64_t size = plan->estimate() + plan->params().size();
      if (size >= best && options_.codec.empty()) continue;
      best = size;
      frame.codec = encoder->id;
      frame.plan = std::move(plan);
      frame.shared =
          request.model != nullptr ? request.model->shared() : ByteSpan();
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
  Frame::Context context;
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
      } else if (decoder->decode_against != nullptr) {
        frame.SetContext(b, context);
        Check(decoder->decode_against(frame.params.get(), context.context,
                                      coded, out, scratch_),
              "block");
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
    if (frame.request.position == 0) coded += frame.shared.size();
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
    } else if (word == "--base") {
      options.bases.push_back(value());
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
