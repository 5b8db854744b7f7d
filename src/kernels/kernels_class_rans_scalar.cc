// The definition of the kernels for rANS with a table by class.
#include <cstring>

#include "kernels/kernels_class_rans.h"

namespace zipllm::kernels {
namespace {

/// One step of one stream. Unless kCareful, a step's words are there; then
/// there is no branch on what the data are.
template <bool kCareful>
bool DecodeStep(ClassStream& stream, const ClassSlots* tables,
                const uint8_t* classes, uint8_t* symbols) {
  bool complete = true;
  const uint8_t* words = stream.words;
  for (size_t lane = 0; lane < kLanes; ++lane) {
    uint32_t state = stream.states[lane];
    const uint32_t slot = tables[classes[lane]][state & (kSlots - 1)];
    const uint32_t frequency = (slot & (kSlots - 1)) + 1;
    const uint32_t rank = (slot >> 12) & (kSlots - 1);
    state = frequency * (state >> kProbabilityBits) + rank;
    const bool low = state < kStateLow;
    uint16_t word = 0;
    if constexpr (kCareful) {
      if (low && words != stream.words_end) {
        std::memcpy(&word, words, sizeof word);
        words += sizeof word;
      } else if (low) {
        complete = false;
      }
    } else {
      std::memcpy(&word, words, sizeof word);
      words += sizeof word * low;
    }
    stream.states[lane] =
        state << (16 * uint32_t{low}) | (word & -uint32_t{low});
    symbols[lane] = static_cast<uint8_t>(slot >> 24);
  }
  stream.words = words;
  return complete;
}

}  // namespace

bool ClassRansDecodeScalar(ClassStream* streams_state, int streams,
                           const ClassSlots* tables, const uint8_t* classes,
                           uint8_t* symbols, size_t steps) {
  constexpr std::ptrdiff_t kStepWords = 2 * kLanes;
  bool complete = true;
  for (; steps > 0; --steps) {
    for (int s = 0; s < streams; ++s, classes += kLanes, symbols += kLanes) {
      ClassStream& stream = streams_state[s];
      if (stream.words_end - stream.words >= kStepWords) {
        complete &= DecodeStep<false>(stream, tables, classes, symbols);
      } else {
        complete &= DecodeStep<true>(stream, tables, classes, symbols);
      }
    }
  }
  return complete;
}

void ClassRansEncodeScalar(uint32_t* states, int streams,
                           const ClassRanges* tables, const uint8_t* classes,
                           const uint8_t* symbols, size_t steps,
                           uint8_t** words_end) {
  const size_t count = static_cast<size_t>(streams);
  for (size_t row = steps * count; row-- > 0;) {
    const size_t stream = row % count;
    uint8_t* end = words_end[stream];
    for (size_t lane = kLanes; lane-- > 0;) {
      uint32_t state = states[stream * kLanes + lane];
      const size_t i = row * kLanes + lane;
      const uint32_t range = tables[classes[i]][symbols[i]];
      const uint32_t frequency = (range & (kSlots - 1)) + 1;
      // Stored in any case, kept where it goes out: no branch to mispredict.
      const bool high = state >> 20 >= frequency;
      const uint16_t word = static_cast<uint16_t>(state);
      std::memcpy(end - sizeof word, &word, sizeof word);
      end -= sizeof word * high;
      state >>= 16 * uint32_t{high};
      states[stream * kLanes + lane] =
          (state / frequency) << kProbabilityBits |
          ((range >> kProbabilityBits) + state % frequency);
    }
    words_end[stream] = end;
  }
}

}  // namespace zipllm::kernels
