#include "cuda/decoder.h"

#include <vector>

#include "cuda/decode.h"

namespace zipllm::cuda {
namespace {

absl::Status Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  return MakeStatus(error == cudaErrorMemoryAllocation
                        ? absl::StatusCode::kResourceExhausted
                        : absl::StatusCode::kUnavailable,
                    what, ": ", cudaGetErrorString(error));
}

struct Free {
  void operator()(void* p) const { cudaFree(p); }
};
template <typename T>
using DevicePtr = std::unique_ptr<T, Free>;

/// Device memory for `count` values; null for none.
template <typename T>
absl::StatusOr<DevicePtr<T>> Allocate(size_t count) {
  void* p = nullptr;
  if (count != 0) {
    RETURN_IF_ERROR(
        Check(cudaMalloc(&p, count * sizeof(T)), "allocating on the GPU"));
  }
  return DevicePtr<T>(static_cast<T*>(p));
}

/// The same with values copied there.
template <typename T>
absl::StatusOr<DevicePtr<T>> Copy(const T* values, size_t count,
                                  cudaStream_t stream) {
  ASSIGN_OR_RETURN(DevicePtr<T> copy, Allocate<T>(count));
  RETURN_IF_ERROR(Check(cudaMemcpyAsync(copy.get(), values, count * sizeof(T),
                                        cudaMemcpyHostToDevice, stream),
                        "copying to the GPU"));
  return copy;
}

}  // namespace

struct GpuDecoder::State {
  DevicePtr<Block> blocks;
  DevicePtr<Tables> tables;
  DevicePtr<uint8_t> bytes;
  DevicePtr<uint32_t> results;
  std::vector<uint64_t> outs;  // of the blocks
  uint64_t out_size;
};

GpuDecoder::GpuDecoder(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
GpuDecoder::GpuDecoder(GpuDecoder&&) noexcept = default;
GpuDecoder& GpuDecoder::operator=(GpuDecoder&&) noexcept = default;
GpuDecoder::~GpuDecoder() = default;

absl::StatusOr<GpuDecoder> GpuDecoder::Upload(const Batch& batch,
                                              cudaStream_t stream) {
  const std::vector<Block>& blocks = batch.blocks();
  if (blocks.size() > INT32_MAX) {
    return InvalidArgument("more than 2^31 - 1 blocks: make several batches");
  }
  auto state = std::make_unique<State>();
  ASSIGN_OR_RETURN(state->blocks, Copy(blocks.data(), blocks.size(), stream));
  ASSIGN_OR_RETURN(state->tables,
                   Copy(batch.tables().data(), batch.tables().size(), stream));
  ASSIGN_OR_RETURN(state->bytes,
                   Copy(batch.bytes().data(), batch.bytes().size(), stream));
  ASSIGN_OR_RETURN(state->results, Allocate<uint32_t>(blocks.size()));
  for (const Block& block : blocks) state->outs.push_back(block.out);
  state->out_size = batch.out_size();
  RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream), "copying to the GPU"));
  return GpuDecoder(std::move(state));
}

absl::Status GpuDecoder::Start(void* out, size_t out_size, cudaStream_t stream,
                               bool check_hash) {
  if (out_size < state_->out_size) {
    return InvalidArgument("the output has ", out_size, " bytes; ",
                           state_->out_size, " are needed");
  }
  if (reinterpret_cast<uintptr_t>(out) % 16 != 0) {
    return InvalidArgument("the output is not aligned to 16 bytes");
  }
  // A block that no thread decodes must not pass for decoded.
  const size_t count = state_->outs.size();
  RETURN_IF_ERROR(Check(cudaMemsetAsync(state_->results.get(), 0xFF,
                                        count * sizeof(uint32_t), stream),
                        "decoding on the GPU"));
  const DeviceWork work = {state_->blocks.get(), state_->tables.get(),
                           state_->bytes.get(), state_->results.get(),
                           static_cast<uint32_t>(count)};
  return Check(
      LaunchDecode(work, static_cast<uint8_t*>(out), check_hash, stream),
      "decoding on the GPU");
}

absl::Status GpuDecoder::Finish(cudaStream_t stream) {
  std::vector<uint32_t> results(state_->outs.size());
  RETURN_IF_ERROR(Check(cudaMemcpyAsync(results.data(), state_->results.get(),
                                        results.size() * sizeof(uint32_t),
                                        cudaMemcpyDeviceToHost, stream),
                        "decoding on the GPU"));
  RETURN_IF_ERROR(Check(cudaStreamSynchronize(stream), "decoding on the GPU"));
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i] == kOk) continue;
    return DataLoss("block ", i, " of the batch, at byte ", state_->outs[i],
                    " of the output, is damaged (",
                    results[i] == kWrongEnd    ? "streams"
                    : results[i] == kWrongHash ? "checksum"
                                               : "not decoded",
                    ")");
  }
  return absl::OkStatus();
}

}  // namespace zipllm::cuda
