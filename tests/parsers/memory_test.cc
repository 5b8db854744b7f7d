// Long hostile headers: what parsing them costs, counted in bytes allocated and
// in calls.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "parsers/files.h"

namespace {

std::atomic<size_t> live_bytes{0};
std::atomic<size_t> peak_bytes{0};

void* Allocate(size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  const size_t live = live_bytes += malloc_usable_size(memory);
  size_t peak = peak_bytes;
  while (peak < live && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}
void Release(void* memory) {
  if (memory != nullptr) live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, size_t) noexcept { Release(memory); }
void operator delete[](void* memory, size_t) noexcept { Release(memory); }

namespace zipllm::parsers {
namespace {

// What is asserted is in proportion to the length, so that a part of the
// greatest will do.
constexpr size_t kLength = kMaxPrefix / 16;

/// Most bytes allocated at one time while `file` was labelled, not counting
/// what was there before.
void ExpectBounded(const char* what, const Bytes& file) {
  SCOPED_TRACE(what);
  for (bool pipe : {false, true}) {
    uint64_t want = kFirstPrefix;
    int calls = 0;
    for (bool done = false; !done;) {
      const bool all = want > file.size();
      const ByteSpan prefix = ByteSpan(file).first(all ? file.size() : want);
      std::optional<uint64_t> size;
      if (!pipe || all) size = file.size();
      const size_t before = live_bytes;
      peak_bytes = before;
      Outcome outcome = Detect(prefix, size);
      const size_t used = peak_bytes - before;
      EXPECT_LE(used, 12 * prefix.size() + (64 << 10)) << prefix.size();
      ++calls;
      done = outcome.layout.has_value();
      want = outcome.need_prefix;
    }
    // kMaxPrefix is 2^9 times kFirstPrefix.
    EXPECT_LE(calls, 11);
  }
}

TEST(MemoryTest, HostileSafetensorsHeaders) {
  auto fill = [](std::string json, std::string_view unit,
                 std::string_view end = "") {
    while (json.size() + unit.size() + end.size() <= kLength) json += unit;
    return SafetensorsFile(json.append(end), 0);
  };
  std::string tensors = "{";
  for (size_t i = 0; tensors.size() < kLength - 100; ++i) {
    if (i != 0) tensors += ",";
    tensors += Entry(std::to_string(i), "U8", "0", 0, 0);
  }
  ExpectBounded("tensors", SafetensorsFile(tensors + "}", 0));
  ExpectBounded("entries cut", SafetensorsFile(tensors, 0));
  ExpectBounded("one name", fill("{\"", "n", "\":{}}"));
  ExpectBounded("one open name", fill("{\"", "n"));
  ExpectBounded("escapes", fill("{\"", "\\u00e9"));
  ExpectBounded("metadata", fill("{\"__metadata__\":{\"a\":\"", "x", "\"}}"));
  ExpectBounded("metadata keys", fill("{\"__metadata__\":{\"\":1", ",\"\":1"));
  ExpectBounded("number", fill("{\"__metadata__\":{\"a\":", "9", "}}"));
  ExpectBounded("fraction", fill("{\"__metadata__\":{\"a\":0.", "9", "}}"));
  ExpectBounded("shape", fill("{\"t\":{\"shape\":[1", ",1"));
  ExpectBounded("offsets", fill("{\"t\":{\"data_offsets\":[1", ",1"));
  ExpectBounded("ignored array", fill("{\"t\":{\"x\":[1", ",1"));
  ExpectBounded("brackets", fill("{\"t\":{\"x\":", "["));
  ExpectBounded("braces", fill("{\"t\":{\"x\":", "{\"\":"));
  ExpectBounded("spaces", fill("{", " ", "}"));
}

TEST(MemoryTest, HostileGgufHeaders) {
  constexpr uint32_t kArray = 9;
  constexpr uint32_t kString = 8;
  auto fill = [](GgufFile& file) {
    return file.Fill(kLength - file.size()).bytes();
  };
  constexpr uint64_t kTensors = kLength / 40;
  GgufFile tensors(kTensors, 0);
  for (uint64_t i = 0; i < kTensors; ++i) {
    tensors.Tensor(std::to_string(1000000 + i), {0}, 24, 0);
  }
  ExpectBounded("tensors", tensors.bytes());
  GgufFile zeros(kLength / 24 - 1, 0);
  Bytes nameless = zeros.bytes();
  nameless.resize(kLength, 0);
  ExpectBounded("tensors of zeros", nameless);
  GgufFile pairs(0, kLength / 13);
  Bytes empty_pairs = pairs.bytes();
  empty_pairs.resize(kLength, 0);
  ExpectBounded("pairs", empty_pairs);
  GgufFile texts(0, 1);
  texts.Text("k").U32(kArray).U32(kString).U64(UINT64_MAX);
  Bytes empty_texts = texts.bytes();
  empty_texts.resize(kLength, 0);
  ExpectBounded("texts", empty_texts);
  GgufFile arrays(0, 1);
  arrays.Text("k").U32(kArray).U32(kArray).U64(UINT64_MAX);
  Bytes empty_arrays = arrays.bytes();
  empty_arrays.resize(kLength, 0);
  ExpectBounded("arrays", empty_arrays);
  GgufFile text(0, 1);
  text.Text("k").U32(kString).U64(kLength - 100);
  ExpectBounded("text", fill(text));
}

}  // namespace
}  // namespace zipllm::parsers
