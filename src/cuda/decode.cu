// The kernel: decode_core.h on a GPU.
#include "cuda/decode.h"

namespace zipllm::cuda {
namespace {

class DeviceWarp {
 public:
  __device__ explicit DeviceWarp(uint32_t lane) { lane_.index = lane; }
  template <typename F>
  __device__ __forceinline__ void Each(F f) {
    f(lane_);
  }
  template <typename F>
  __device__ __forceinline__ uint32_t Ballot(F f) {
    return __ballot_sync(~0u, f(lane_));
  }
  template <typename F>
  __device__ __forceinline__ uint32_t Sum(F f) {
    return __reduce_add_sync(~0u, f(lane_));
  }
  __device__ __forceinline__ void Sync() { __syncwarp(); }

 private:
  Lane lane_;
};

struct DeviceCta {
  template <typename F>
  __device__ __forceinline__ void Each(F f) {
    f(threadIdx.x);
    __syncthreads();
  }
  template <typename F>
  __device__ __forceinline__ void EachWarp(F f) {
    DeviceWarp warp(threadIdx.x % kLanes);
    f(warp, threadIdx.x / kLanes);
    __syncthreads();
  }
};

__global__ void __launch_bounds__(kThreads)
    DecodeKernel(const Block* blocks, const Tables* tables, const uint8_t* in,
                 uint8_t* out, bool check_hash, uint32_t* results) {
  __shared__ Shared shared;
  DeviceCta cta;
  DecodeBlock(cta, shared, blocks + blockIdx.x, tables, in, out, check_hash,
              results + blockIdx.x);
}

}  // namespace

cudaError_t LaunchDecode(const DeviceWork& work, uint8_t* out, bool check_hash,
                         cudaStream_t stream) {
  if (work.count == 0) return cudaSuccess;
  DecodeKernel<<<work.count, kThreads, 0, stream>>>(
      work.blocks, work.tables, work.in, out, check_hash, work.results);
  return cudaGetLastError();
}

}  // namespace zipllm::cuda
