// The head of NumPy's .npy, which also stands in each member of an .npz.
#ifndef ZIPLLM_PARSERS_NPY_H_
#define ZIPLLM_PARSERS_NPY_H_

#include <cstdint>
#include <optional>

#include "zipllm/types.h"

namespace zipllm::parsers {

struct NpyHead {
  uint64_t end = 0;  ///< bytes of the head; 0: there is none, or not all of it
  /// The elements, which begin there, without a name; nullopt where they are
  /// of no type that is known.
  std::optional<Segment> array = std::nullopt;
  /// If not 0 (and no head): as Outcome::need_prefix.
  uint64_t need_prefix = 0;
};

/// `prefix` is untrusted: the first bytes of `size` (nullopt: not known). The
/// array may be longer than they are.
NpyHead ReadNpyHead(ByteSpan prefix, std::optional<uint64_t> size);

}  // namespace zipllm::parsers

#endif  // ZIPLLM_PARSERS_NPY_H_
