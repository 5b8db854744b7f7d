// Writes the seeds of codec_fuzzer into a folder: for every registered codec
// small frames of the inputs that it is there for (tests/codecs/generators.h).
//
// usage: make_codec_corpus fuzz/corpus/codec_fuzzer
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/bytes.h"
#include "codecs/codec.h"
#include "codecs/generators.h"

namespace zipllm::codecs {
namespace {

/// False where the codec does not code the input, or the file cannot be
/// written.
bool WriteSeed(const Encoder& encoder, const Home& home, size_t elements,
               const std::filesystem::path& folder) {
  const Input input = home.Make(elements);
  const ByteSpan plain = input.data;
  EncodeRequest request = input.Request(plain.size(), home.level);
  Scratch scratch;
  std::unique_ptr<const TensorModel> model;
  if (encoder.learn != nullptr) {
    model = encoder.learn(RequestTensor(request), scratch);
    request.model = model.get();
  }
  const auto plan = encoder.plan(request, scratch);
  if (plan == nullptr) return false;
  Buffer coded;
  if (!plan->Encode(plain, scratch, &coded)) return false;

  Buffer seed;
  ByteWriter writer(&seed);
  writer.Le<uint8_t>(encoder.id);
  writer.Le<uint16_t>(static_cast<uint16_t>(plain.size() - 1));
  writer.Le<uint8_t>(static_cast<uint8_t>((plain.size() - 1) >> 16));
  writer.Le<uint16_t>(static_cast<uint16_t>(plan->params().size()));
  writer.Bytes(plan->params());
  if (FindDecoder(encoder.id)->decode_against != nullptr) {
    writer.Le<uint8_t>(static_cast<uint8_t>(input.references.size()));
    for (const Reference& reference : input.references) {
      const size_t bytes = reference.data.size();
      writer.Le<uint8_t>(static_cast<uint8_t>(reference.role));
      writer.Le<uint8_t>(static_cast<uint8_t>(reference.dtype));
      writer.Le<uint16_t>(static_cast<uint16_t>(bytes));
      writer.Le<uint8_t>(static_cast<uint8_t>(bytes >> 16));
      writer.Le<uint16_t>(static_cast<uint16_t>(reference.row));
      writer.Bytes(reference.data);
    }
    writer.Le<uint16_t>(static_cast<uint16_t>(input.row));
    writer.Le<uint32_t>(0);  // its position
    const ByteSpan shared = model != nullptr ? model->shared() : ByteSpan();
    writer.Le<uint16_t>(static_cast<uint16_t>(shared.size()));
    writer.Bytes(shared);
  }
  writer.Bytes(coded.span());
  std::string name = StrCat(encoder.name, "_", KindName(home.kind), "_",
                            FindDType(home.dtype)->name, "_", elements);
  if (home.beside != Beside::kNothing) {
    name += StrCat("_", BesideName(home.beside));
  }
  std::ofstream file(folder / name, std::ios::binary);
  file.write(reinterpret_cast<const char*>(seed.data()),
             static_cast<std::streamsize>(seed.size()));
  return file.good();
}

}  // namespace

int Main(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  bool complete = true;
  for (const Encoder* encoder : AllEncoders()) {
    int seeds = 0;
    for (const Home& home : kHomes) {
      if (home.codec != encoder->name) continue;
      for (const size_t elements : {100, 700, 3000}) {
        seeds += WriteSeed(*encoder, home, elements, folder);
      }
    }
    std::printf("%s: %d seeds\n", std::string(encoder->name).c_str(), seeds);
    complete &= seeds != 0;
  }
  return complete ? 0 : 1;
}

}  // namespace zipllm::codecs

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  return zipllm::codecs::Main(argv[1]);
}
