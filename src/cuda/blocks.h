// What the host makes ready and uploads: all numbers in it are checked
// (batch.cc).
#ifndef ZIPLLM_CUDA_BLOCKS_H_
#define ZIPLLM_CUDA_BLOCKS_H_

#include <cstdint>

namespace zipllm::cuda {

inline constexpr uint32_t kLanes = 32;
inline constexpr uint32_t kWarps = 4;
inline constexpr uint32_t kThreads = kLanes * kWarps;
inline constexpr uint32_t kGroup = 128;  ///< elements, in codecs 5 and 7

// ---- Codec 5 (format-spec/codecs/5-float.md) ----

/// The alias method's table: slot s lies in bucket b = s / 128, at r = s % 128;
/// its entry is b + (r >= threshold[b] ? 32 : 0). One bank of shared memory a
/// threshold, two entries a bank.
struct AliasTable {
  uint32_t threshold[32];
  /// (frequency - 1) | bias << 12 | symbol << 24; the slot's rank is (r + bias)
  /// % 4096.
  uint32_t entry[64];
};
inline constexpr uint32_t kMaxTables = 4;

struct FloatTables {
  AliasTable tables[kMaxTables];
  uint16_t keys[32];  ///< by symbol, with the flags below
};
/// The low two bits of the key are the stream's next extra bits.
inline constexpr uint32_t kKeyBare = 0x8000;
/// The rest of the key is the stream's next escape. Always with kKeyBare.
inline constexpr uint32_t kKeyEscape = 0x4000;

/// Places are in bytes from the block's first.
struct Stream {
  uint32_t states;
  uint32_t words, word_count;
  uint32_t pairs, pair_count;
  uint32_t escapes, escape_count;
};
enum PlaneMode : uint32_t { kZero = 0, kGroups = 1, kRuns = 2 };
/// A plane's groups: none, all, or those that the bitmap has.
struct Plane {
  uint32_t mode;
  uint32_t groups;  ///< place of the first
  uint32_t bitmap;  ///< place
};
inline constexpr uint32_t kMaxPlanes = 9;

struct FloatParts {
  uint32_t streams;    ///< 1 or 4
  uint32_t selectors;  ///< place; 0: there is one table
  Stream stream[kWarps];
  Plane plane[kMaxPlanes];
};

// ---- Codec 7 (format-spec/codecs/7-cascade.md) ----

inline constexpr uint32_t kMaxLayers = 8;

struct CascadeLayers {
  uint32_t count;
  uint32_t width[kMaxLayers];
  uint8_t exponents[kMaxLayers][16];  ///< by code
};

/// Modes of groups.
enum CascadeMode : uint32_t {
  kNothing = 0,
  kTop = 1,
  kThree = 2,
  kAll = 3,
  kFew = 4
};
inline constexpr uint32_t kThreeBytes = 48;  ///< a group
inline constexpr uint32_t kAllBytes = 256;

/// Groups that follow each other and have the same mode; of kFew one at a time.
/// Made by the host, behind the block's bytes.
struct CascadeRun {
  uint32_t first;    ///< number of its first group
  uint32_t mode;     ///< CascadeMode
  uint32_t present;  ///< groups before it that are not kNothing
  uint32_t low;      ///< place of its first low bits
};

struct CascadeParts {
  uint32_t run_count;
  uint32_t runs;  ///< place of the CascadeRuns, each as four 32-bit numbers
  uint32_t codes[kMaxLayers];   ///< places
  uint32_t groups[kMaxLayers];  ///< of codes
  uint32_t raw;                 ///< place
  uint32_t raw_count;
  uint32_t rests;  ///< place
};

// ---- Blocks of a batch ----

enum BlockKind : uint32_t {
  kCopy = 0,
  kFloatBf16 = 1,
  kFloatFp16 = 2,
  kFloatFp32 = 3,
  kCascadeBf16 = 4,
  kCascadeFp16 = 5,
  kCascadeFp32 = 6
};

/// One block's work.
struct Block {
  uint64_t in;     ///< where its bytes begin in the batch's
  uint64_t out;    ///< where what it decodes to begins in the output
  uint64_t hash;   ///< XXH3 of that; not looked at for kCopy
  uint32_t size;   ///< bytes of that; above kMinHashed but for kCopy
  uint32_t kind;   ///< BlockKind
  uint32_t table;  ///< which of the batch's Tables
  union {
    FloatParts floats;
    CascadeParts cascade;
  };
};
/// A frame's parameters for a codec.
union Tables {
  FloatTables floats;
  CascadeLayers cascade;
};

/// The host hashes what has no more bytes than this.
inline constexpr uint32_t kMinHashed = 240;

enum Result : uint32_t {
  kOk = 0,
  kWrongEnd = 1,  ///< codes do not end where they should
  kWrongHash = 2
};

}  // namespace zipllm::cuda

#endif  // ZIPLLM_CUDA_BLOCKS_H_
