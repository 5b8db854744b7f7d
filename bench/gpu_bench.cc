// Decodes an archive on a GPU: checks it against the CPU's decoder, and prints
// GB/s of plain bytes beside a copy on the device and, where the build found
// it, nvCOMP's ANS. Never run so far: no machine had a GPU.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "archive/frame_decoder.h"
#include "base/file.h"
#include "container/stream.h"
#include "cuda/decoder.h"
#ifdef ZIPLLM_NVCOMP
#include <nvcomp/ans.h>
#endif

namespace zipllm {
namespace {

constexpr char kUsage[] = "usage: gpu_bench ARCHIVE [ROUNDS (9)]\n";

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "gpu_bench: %s\n", what.c_str());
  std::exit(1);
}
void Need(const absl::Status& status) {
  if (!status.ok()) Fail(std::string(status.message()));
}
template <typename T>
T Need(absl::StatusOr<T> value) {
  Need(value.status());
  return std::move(value).value();
}
void Need(cudaError_t error) {
  if (error != cudaSuccess) Fail(cudaGetErrorString(error));
}

/// Device memory, never freed: the program ends soon.
template <typename T>
T* OnDevice(size_t count) {
  void* p = nullptr;
  Need(cudaMalloc(&p, std::max<size_t>(count * sizeof(T), 1)));
  return static_cast<T*>(p);
}
template <typename T>
T* OnDevice(const std::vector<T>& values) {
  T* p = OnDevice<T>(values.size());
  Need(cudaMemcpy(p, values.data(), values.size() * sizeof(T),
                  cudaMemcpyHostToDevice));
  return p;
}

/// Frames one after the other, each at a multiple of 16 bytes, and what the CPU
/// makes of them.
struct Model {
  cuda::Batch batch;
  std::vector<uint8_t> plain;
  uint64_t coded = 0;
  uint64_t skipped = 0;  // bytes of frames with duplicates
};

Model ReadModel(const std::string& path) {
  Model model;
  const auto source = Need(OpenFileSource(path));
  container::FrameReader reader(*source, uint64_t{1} << 30);
  while (const auto header = Need(reader.NextArchive())) {
    for (;;) {
      const container::Frame frame = Need(reader.Next());
      if (frame.prefix.Is(container::FrameType::kTrailer)) break;
      if (!frame.prefix.Is(container::FrameType::kBlocks)) continue;
      Buffer data;
      Need(reader.ReadData(frame.prefix.data_size, &data));
      const auto decoder = Need(archive::FrameDecoder::Create(frame, *header));
      const container::BlocksHead& head = decoder->head();
      const size_t at = (model.plain.size() + 15) / 16 * 16;
      const absl::Status added = model.batch.AddFrame(head, data.span(), at);
      if (added.code() == absl::StatusCode::kUnimplemented) {
        model.skipped += head.size;
        continue;
      }
      Need(added);
      model.coded += frame.prefix.FrameSize();
      model.plain.resize(at + head.size);
      codecs::Scratch scratch;
      for (size_t i = 0; i < head.blocks.size(); ++i) {
        const container::BlockRecord& block = head.blocks[i];
        archive::FetchLimits limits;
        Need(decoder->Decode(
            i, i, data.span().subspan(block.coded_offset, block.coded_size),
            MutableByteSpan(model.plain)
                .subspan(at + i * head.block_size, block.size),
            {}, limits, scratch));
      }
    }
  }
  return model;
}

/// Median seconds of `work` on the default stream.
double Time(int rounds, const std::function<void()>& work) {
  cudaEvent_t start, end;
  Need(cudaEventCreate(&start));
  Need(cudaEventCreate(&end));
  work();  // warms up
  std::vector<double> seconds;
  for (int i = 0; i < rounds; ++i) {
    float milliseconds = 0;
    Need(cudaEventRecord(start, nullptr));
    work();
    Need(cudaEventRecord(end, nullptr));
    Need(cudaEventSynchronize(end));
    Need(cudaEventElapsedTime(&milliseconds, start, end));
    seconds.push_back(milliseconds / 1e3);
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

void Print(const char* what, uint64_t bytes, double seconds) {
  std::printf("%-24s %9.1f GB/s\n", what,
              static_cast<double>(bytes) / seconds / 1e9);
}

#ifdef ZIPLLM_NVCOMP
void Need(nvcompStatus_t status) {
  if (status != nvcompSuccess) Fail("nvCOMP: status " + std::to_string(status));
}

/// nvCOMP's ANS on the same bytes in chunks of 64 KiB, which it asks for.
void BenchNvcomp(const uint8_t* plain, size_t size, int rounds) {
  constexpr size_t kChunk = size_t{1} << 16;
  const size_t chunks = (size + kChunk - 1) / kChunk;
  size_t room = 0, temp_size = 0;
  Need(nvcompBatchedANSCompressGetMaxOutputChunkSize(
      kChunk, nvcompBatchedANSCompressDefaultOpts, &room));
  room = (room + 15) / 16 * 16;
  uint8_t* const coded = OnDevice<uint8_t>(chunks * room);
  uint8_t* const decoded = OnDevice<uint8_t>(size);
  std::vector<const void*> plain_at, coded_from;
  std::vector<void*> coded_at, decoded_at;
  std::vector<size_t> sizes;
  for (size_t i = 0; i < chunks; ++i) {
    plain_at.push_back(plain + i * kChunk);
    coded_at.push_back(coded + i * room);
    coded_from.push_back(coded + i * room);
    decoded_at.push_back(decoded + i * kChunk);
    sizes.push_back(std::min(kChunk, size - i * kChunk));
  }
  const auto* const plain_ptrs = OnDevice(plain_at);
  const auto* const coded_ptrs = OnDevice(coded_at);
  const auto* const coded_from_ptrs = OnDevice(coded_from);
  const auto* const decoded_ptrs = OnDevice(decoded_at);
  const size_t* const plain_sizes = OnDevice(sizes);
  size_t* const coded_sizes = OnDevice<size_t>(chunks);
  size_t* const decoded_sizes = OnDevice<size_t>(chunks);
  auto* const statuses = OnDevice<nvcompStatus_t>(chunks);

  Need(nvcompBatchedANSCompressGetTempSize(chunks, kChunk,
                                           nvcompBatchedANSCompressDefaultOpts,
                                           &temp_size, size, nullptr));
  uint8_t* temp = OnDevice<uint8_t>(temp_size);
  Need(nvcompBatchedANSCompressAsync(
      plain_ptrs, plain_sizes, kChunk, chunks, temp, temp_size, coded_ptrs,
      coded_sizes, nvcompBatchedANSCompressDefaultOpts, statuses, nullptr));
  std::vector<size_t> coded_size(chunks);
  Need(cudaMemcpy(coded_size.data(), coded_sizes, chunks * sizeof(size_t),
                  cudaMemcpyDeviceToHost));
  Need(nvcompBatchedANSDecompressGetTempSize(
      chunks, kChunk, nvcompBatchedANSDecompressDefaultOpts, &temp_size, size,
      nullptr));
  temp = OnDevice<uint8_t>(temp_size);
  const double seconds = Time(rounds, [&] {
    Need(nvcompBatchedANSDecompressAsync(
        coded_from_ptrs, coded_sizes, plain_sizes, decoded_sizes, chunks, temp,
        temp_size, decoded_ptrs, nvcompBatchedANSDecompressDefaultOpts,
        statuses, nullptr));
  });
  uint64_t sum = 0;
  for (size_t bytes : coded_size) sum += bytes;
  Print("nvCOMP ANS", size, seconds);
  std::printf("%-24s %9.4f\n", "nvCOMP ANS, ratio",
              static_cast<double>(sum) / static_cast<double>(size));
}
#endif

int Main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const int rounds = argc == 3 ? std::max(1, std::atoi(argv[2])) : 9;
  const Model model = ReadModel(argv[1]);
  const size_t size = model.batch.out_size();
  cudaDeviceProp device;
  Need(cudaGetDeviceProperties(&device, 0));
  std::printf("%s; %zu bytes in %zu blocks, %.4f of them coded\n", device.name,
              size, model.batch.blocks().size(),
              static_cast<double>(model.coded) / static_cast<double>(size));
  std::printf("the GPU decodes %.1f %%, copies the rest; %llu bytes skipped\n",
              100.0 * static_cast<double>(model.batch.device_bytes()) /
                  static_cast<double>(size),
              static_cast<unsigned long long>(model.skipped));

  auto decoder = Need(cuda::GpuDecoder::Upload(model.batch, nullptr));
  uint8_t* const out = OnDevice<uint8_t>(size);
  uint8_t* const copy = OnDevice<uint8_t>(size);
  Need(decoder.Start(out, size, nullptr));
  Need(decoder.Finish(nullptr));
  std::vector<uint8_t> decoded(size);
  Need(cudaMemcpy(decoded.data(), out, size, cudaMemcpyDeviceToHost));
  const std::vector<cuda::Block>& blocks = model.batch.blocks();
  if (!std::ranges::all_of(blocks, [&](const cuda::Block& block) {
        return std::equal(
            decoded.begin() + static_cast<ptrdiff_t>(block.out),
            decoded.begin() + static_cast<ptrdiff_t>(block.out + block.size),
            model.plain.begin() + static_cast<ptrdiff_t>(block.out));
      })) {
    Fail("the GPU decoded other bytes than the CPU");
  }
  std::printf("equal to what the CPU decodes\n");
  Print("decode", size,
        Time(rounds, [&] { Need(decoder.Start(out, size, nullptr, false)); }));
  Print("decode and checksum", size,
        Time(rounds, [&] { Need(decoder.Start(out, size, nullptr)); }));
  Need(decoder.Finish(nullptr));
  Print("copy on the device", size, Time(rounds, [&] {
          Need(cudaMemcpyAsync(copy, out, size, cudaMemcpyDeviceToDevice,
                               nullptr));
        }));
#ifdef ZIPLLM_NVCOMP
  BenchNvcomp(out, size, rounds);
#endif
  return 0;
}

}  // namespace
}  // namespace zipllm

int main(int argc, char** argv) { return zipllm::Main(argc, argv); }
