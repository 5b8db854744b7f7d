#include "quantizers/grid_search.h"

#include <algorithm>
#include <vector>

#include "kernels/by_target.h"

namespace zipllm::quantizers {
namespace {

std::vector<GridCandidates> MakeCandidates(const Grid& grid) {
  size_t count = 1;
  for (int k = 0; k < grid.width; ++k)
    count *= static_cast<size_t>(grid.levels);
  std::vector<GridCandidates> candidates(count);
  const auto size = static_cast<size_t>(grid.size);
  // By coordinate: all points.
  std::vector<std::vector<uint8_t>> planes(static_cast<size_t>(grid.width),
                                           std::vector<uint8_t>(size));
  for (size_t k = 0; k < planes.size(); ++k) {
    for (size_t i = 0; i < size; ++i) planes[k][i] = grid.points[i][k];
  }
  std::vector<uint8_t> far(size);
  for (size_t number = 0; number < count; ++number) {
    std::fill(far.begin(), far.end(), uint8_t{0});
    size_t rest = number;
    for (const std::vector<uint8_t>& plane : planes) {
      const auto level =
          static_cast<int>(rest % static_cast<size_t>(grid.levels));
      rest /= static_cast<size_t>(grid.levels);
      for (size_t i = 0; i < size; ++i) {
        const int step = plane[i] - level;
        far[i] = static_cast<uint8_t>(far[i] + step * step);
      }
    }
    // The least distance within which there are enough, and from where on the
    // points of each distance go.
    size_t at[256] = {};
    for (const uint8_t distance : far) ++at[distance];
    size_t places = 0;
    for (size_t& place : at) {
      const size_t here = place;
      place = std::min<size_t>(places, kCandidates);
      places += here;
    }
    for (size_t i = 0; i < size; ++i) {
      size_t& place = at[far[i]];
      if (place < kCandidates) {
        candidates[number].codes[place++] = grid.codes[i];
      }
    }
  }
  return candidates;
}

template <int kNumber>
const GridCandidates* Candidates(const Grid& grid) {
  static const std::vector<GridCandidates> candidates = MakeCandidates(grid);
  return candidates.data();
}

}  // namespace

const GridCandidates* CandidatesOf(const Grid& grid) {
  switch (grid.number) {
    case 0:
      return Candidates<0>(grid);
    case 1:
      return Candidates<1>(grid);
    case 2:
      return Candidates<2>(grid);
    case 3:
      return Candidates<3>(grid);
    case 4:
      return Candidates<4>(grid);
    default:
      return Candidates<5>(grid);
  }
}

namespace {
constexpr kernels::ByTarget<GridKernels> kByTarget =
    ZIPLLM_BY_TARGET(kGridKernels);
}  // namespace

const GridKernels* FindGridKernels(kernels::Target target) {
  return kByTarget.Find(target);
}
const GridKernels& BestGridKernels() { return kByTarget.Best(); }

}  // namespace zipllm::quantizers
