// Decoding on an NVIDIA GPU: format-spec/gpu.md. Compiled where nvcc is found;
// it has never run on a GPU (no machine had one), only its code's emulation on
// the CPU has.
#ifndef ZIPLLM_CUDA_DECODER_H_
#define ZIPLLM_CUDA_DECODER_H_

#include <cuda_runtime_api.h>

#include <memory>

#include "base/status.h"
#include "cuda/batch.h"

namespace zipllm::cuda {

/// A batch on the current device, ready to be decoded, any number of times.
/// Holds device memory: the batch's bytes, 268 bytes a block, and 1,600 a frame
/// and codec. Thread-compatible; one decoding at a time.
class GpuDecoder {
 public:
  /// Copies `batch` to the device; it may go when this returns.
  /// RESOURCE_EXHAUSTED where the device has too little memory; UNAVAILABLE for
  /// what else CUDA reports.
  static absl::StatusOr<GpuDecoder> Upload(const Batch& batch,
                                           cudaStream_t stream);
  GpuDecoder(GpuDecoder&&) noexcept;
  GpuDecoder& operator=(GpuDecoder&&) noexcept;
  ~GpuDecoder();

  /// Starts decoding into `out`, device memory of at least the batch's
  /// out_size() bytes, aligned to 16 bytes. Nothing in it counts before Finish
  /// says OK on the same stream. Without `check_hash` a damaged block may go
  /// unseen.
  absl::Status Start(void* out, size_t out_size, cudaStream_t stream,
                     bool check_hash = true);
  /// Waits for the decoding. DATA_LOSS that names the first damaged block and
  /// where in the output it lies.
  absl::Status Finish(cudaStream_t stream);

 private:
  struct State;
  explicit GpuDecoder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_DECODER_H_
