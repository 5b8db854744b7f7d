// Starts the kernel of decode.cu; all that nvcc's and the host's compiler
// share.
#ifndef ZIPLLM_CUDA_DECODE_H_
#define ZIPLLM_CUDA_DECODE_H_

#include <cuda_runtime_api.h>

#include "cuda/decode_core.h"

namespace zipllm::cuda {

/// Device pointers to what a batch holds, and to a result for each block.
struct DeviceWork {
  const Block* blocks;
  const Tables* tables;
  const uint8_t* in;
  uint32_t* results;
  uint32_t count;  ///< of blocks
};

/// Decodes all blocks of `work` into `out`, in stream order. Returns before it
/// is done.
cudaError_t LaunchDecode(const DeviceWork& work, uint8_t* out, bool check_hash,
                         cudaStream_t stream);

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_DECODE_H_
