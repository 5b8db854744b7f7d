#ifndef ZIPLLM_MOUNT_READ_AHEAD_H_
#define ZIPLLM_MOUNT_READ_AHEAD_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "mount/block_reader.h"

namespace zipllm::mount {

/// Tells which reads of a file follow each other: a few streams at a time, so
/// that threads may share a descriptor. The kernel's own read-ahead asks in
/// pieces that may arrive out of order. Thread-compatible.
class StreamDetector {
 public:
  struct Stream {
    uint64_t next = 0;    ///< where the next read is expected
    uint64_t length = 0;  ///< bytes that were read one after the other
    uint64_t ahead = 0;   ///< where what is read ahead ends; the user's
    uint64_t used = 0;    ///< by the detector's clock
  };

  /// The stream that a read belongs to: one of length 0 before it if none.
  Stream& Find(Extent read) {
    const uint64_t size = read.end - read.begin;
    // Out of order by so much.
    const uint64_t slack = 8 * size;
    Stream* found = nullptr;
    for (Stream& stream : streams_) {
      const bool near = read.begin <= stream.next + slack &&
                        stream.next <= read.begin + slack;
      if (near && (found == nullptr || stream.used > found->used)) {
        found = &stream;
      }
    }
    if (found == nullptr) {
      found = &*std::ranges::min_element(streams_, {}, &Stream::used);
      *found = {};
    }
    found->next = std::max(found->next, read.end);
    found->length += size;
    found->used = ++clock_;
    return *found;
  }

 private:
  std::array<Stream, 4> streams_{};
  uint64_t clock_ = 0;
};

/// How far past `stream.next` to read ahead: nothing at first, then in
/// proportion to what was read, up to `most`.
inline uint64_t AheadOf(const StreamDetector::Stream& stream, uint64_t most) {
  constexpr uint64_t kTrigger = 256 << 10;
  return stream.length < kTrigger ? 0 : std::min(4 * stream.length, most);
}

}  // namespace zipllm::mount

#endif  // ZIPLLM_MOUNT_READ_AHEAD_H_
