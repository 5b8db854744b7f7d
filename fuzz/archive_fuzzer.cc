// Readers of archives: as a stream, at random, and by Test. Whatever comes in,
// they end in an error or in bytes that agree with each other. The mutator
// mends the checksums of headers and heads, so that what stands behind them is
// reached.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/bytes.h"
#include "check.h"
#include "container/format.h"
#include "container/xxh3.h"
#include "zipllm/archive.h"
#include "zipllm/decompressor.h"

using zipllm::ByteSpan;
using zipllm::LoadLe;
using zipllm::StoreLe;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

// Every header and head gets the XXH3 that it should have.
void MendChecksums(uint8_t* data, size_t size) {
  size_t pos = 0;
  while (size - pos >= zipllm::container::kPrefixSize) {
    ByteSpan rest(data + pos, size - pos);
    if (zipllm::container::LooksLikeArchive(rest) &&
        rest.size() >= zipllm::container::kHeaderSize) {
      StoreLe<uint64_t>(data + pos + 24, zipllm::Xxh3(rest.first(24)));
      pos += zipllm::container::kHeaderSize;
      continue;
    }
    auto prefix = zipllm::container::ParsePrefix(rest, pos);
    if (!prefix.ok() || prefix->FrameSize() > rest.size()) return;
    size_t covered = zipllm::container::kPrefixSize + prefix->head_size;
    StoreLe<uint64_t>(data + pos + covered, zipllm::Xxh3(rest.first(covered)));
    pos += prefix->FrameSize();
  }
}

zipllm::DecompressOptions Options() {
  zipllm::DecompressOptions options;
  options.threads = 1;
  options.max_memory = uint64_t{32} << 20;
  // What the seeds were coded against.
  options.base_directories = {ZIPLLM_SOURCE_DIR "/format-spec/vectors/bases"};
  return options;
}

// Takes what is written until it is too much.
class BoundedSink : public zipllm::Sink {
 public:
  absl::Status Write(ByteSpan data) override {
    if (bytes.size() + data.size() > (size_t{16} << 20))
      return absl::ResourceExhaustedError("");
    bytes.insert(bytes.end(), data.begin(), data.end());
    return absl::OkStatus();
  }
  std::string Name() const override { return "bounded"; }
  std::vector<uint8_t> bytes;
};

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size,
                                          size_t max_size, unsigned) {
  size = LLVMFuzzerMutate(data, size, max_size);
  MendChecksums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteSpan bytes(data, size);
  zipllm::Decompressor decompressor(Options());
  BoundedSink streamed;
  auto stream_source = zipllm::MakeMemorySource(bytes);
  bool stream_ok = decompressor.DecompressStream(*stream_source, streamed).ok();
  auto test_source = zipllm::MakeMemorySource(bytes);
  bool test_ok = decompressor.Test(*test_source).ok();
  FUZZ_CHECK(!test_ok || stream_ok ||
             streamed.bytes.size() > (size_t{8} << 20));

  auto archive =
      zipllm::Archive::Open(zipllm::MakeMemorySource(bytes), Options());
  if (!archive.ok()) return 0;
  BoundedSink at_random;
  bool all_read = true;
  for (size_t i = 0; i < archive->entries().size() && all_read; ++i) {
    const zipllm::Entry& entry = archive->entries()[i];
    if (entry.kind != zipllm::EntryKind::kFile) continue;
    all_read = archive->CopyRange(i, 0, entry.size, at_random).ok();
    for (size_t k = 0; k < std::min<size_t>(entry.layout.segments.size(), 8);
         ++k) {
      (void)archive->Coding({i, k});
    }
  }
  // What passes the test is the same by every way.
  if (test_ok && stream_ok)
    FUZZ_CHECK(all_read && streamed.bytes == at_random.bytes);
  return 0;
}
