// Helpers for the archive's tests: folders that go away, files, byte
// generators, sources that behave like pipes.
#ifndef ZIPLLM_TESTS_ARCHIVE_TESTING_H_
#define ZIPLLM_TESTS_ARCHIVE_TESTING_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "zipllm/compressor.h"
#include "zipllm/decompressor.h"
#include "zipllm/io.h"

namespace zipllm::testing {

using Bytes = std::vector<uint8_t>;

/// A new folder, removed with all in it at the end of the test.
class TempDir {
 public:
  TempDir() {
    std::string name =
        (std::filesystem::temp_directory_path() / "zipllm-test-XXXXXX")
            .string();
    path_ = mkdtemp(name.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, const Bytes& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}
inline Bytes ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline Bytes FromString(std::string_view text) {
  return {text.begin(), text.end()};
}

inline Bytes RandomBytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(count);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  return bytes;
}

/// BF16 values as trained weights have them: Gaussian, sigma 0.02.
inline Bytes Bf16Weights(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 0.02F);
  Bytes bytes(2 * count);
  for (size_t i = 0; i < count; ++i) {
    float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    std::memcpy(&bytes[2 * i], reinterpret_cast<uint8_t*>(&bits) + 2, 2);
  }
  return bytes;
}

struct Tensor {
  std::string name;
  std::string dtype;
  std::vector<uint64_t> shape;
  Bytes bytes;
};

inline Bytes Safetensors(const std::vector<Tensor>& tensors) {
  std::string head = "{";
  size_t offset = 0;
  Bytes data;
  for (const Tensor& tensor : tensors) {
    if (head.size() > 1) head += ",";
    head += "\"" + tensor.name + "\":{\"dtype\":\"" + tensor.dtype +
            "\",\"shape\":[";
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      head += (i != 0 ? "," : "") + std::to_string(tensor.shape[i]);
    }
    head += "],\"data_offsets\":[" + std::to_string(offset) + "," +
            std::to_string(offset + tensor.bytes.size()) + "]}";
    offset += tensor.bytes.size();
    data.insert(data.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  head += "}";
  Bytes file(8 + head.size() + data.size());
  const uint64_t size = head.size();
  std::memcpy(file.data(), &size, 8);
  std::copy(head.begin(), head.end(), file.begin() + 8);
  std::copy(data.begin(), data.end(),
            file.end() - static_cast<ptrdiff_t>(data.size()));
  return file;
}

/// Memory that can be read only once, in pieces of at most `step` bytes: a
/// pipe.
class PipeSource : public Source {
 public:
  PipeSource(const Bytes& bytes, size_t step) : bytes_(bytes), step_(step) {}
  absl::StatusOr<size_t> Read(MutableByteSpan out) override {
    size_t n = std::min({out.size(), step_, bytes_.size() - pos_});
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(pos_), n, out.begin());
    pos_ += n;
    return n;
  }
  std::string Name() const override { return "pipe"; }

 private:
  const Bytes& bytes_;
  size_t step_;
  size_t pos_ = 0;
};

inline Bytes Compress(const Bytes& plain, CompressOptions options = {},
                      const std::string& name = "f") {
  Bytes archive;
  auto in = MakeMemorySource(plain);
  auto out = MakeMemorySink(&archive);
  auto totals = Compressor(std::move(options)).CompressStream(*in, name, *out);
  EXPECT_TRUE(totals.ok()) << totals.status();
  return archive;
}

inline absl::StatusOr<Bytes> Decompress(const Bytes& archive,
                                        DecompressOptions options = {}) {
  Bytes plain;
  auto in = MakeMemorySource(archive);
  auto out = MakeMemorySink(&plain);
  auto totals = Decompressor(std::move(options)).DecompressStream(*in, *out);
  if (!totals.ok()) return totals.status();
  return plain;
}

}  // namespace zipllm::testing

#endif  // ZIPLLM_TESTS_ARCHIVE_TESTING_H_
