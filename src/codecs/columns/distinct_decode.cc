// Which values are equal.
#include <bit>

#include "codecs/columns/kinds.h"

namespace zipllm::codecs::columns {
namespace {

uint64_t HashOf(ByteSpan bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  uint64_t hash = bytes.size() * kMultiplier;
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; p += 8, left -= 8) {
    hash = (hash ^ LoadLe<uint64_t>(p)) * kMultiplier;
    hash ^= hash >> 29;
  }
  uint64_t last = 0;
  for (size_t i = 0; i < left; ++i) last |= uint64_t{p[i]} << (8 * i);
  hash = (hash ^ last) * kMultiplier;
  hash ^= hash >> 32;
  return hash * kMultiplier;
}

}  // namespace

Distinct::Distinct(const Values& values) {
  constexpr uint32_t kNone = UINT32_MAX;
  // Grows with what is found: most columns have few distinct values.
  int bits = 8;
  struct Slot {
    uint32_t id = kNone;
    uint32_t check = 0;
  };
  std::vector<Slot> slots(size_t{1} << bits);
  std::vector<uint64_t> hashes;  // by number
  ids_.resize(values.size());
  const auto find = [&](uint64_t hash, auto is_equal) -> Slot& {
    const auto check = static_cast<uint32_t>(hash);
    size_t at = hash >> (64 - bits);
    while (slots[at].id != kNone &&
           !(slots[at].check == check && is_equal(slots[at].id))) {
      at = (at + 1) & (slots.size() - 1);
    }
    return slots[at];
  };
  for (size_t i = 0; i < values.size(); ++i) {
    const ByteSpan value = values[i];
    const auto is_value = [&](const ByteSpan& other) {
      return other.size() == value.size() &&
             (value.empty() ||
              std::memcmp(other.data(), value.data(), value.size()) == 0);
    };
    // Often it is the one above.
    if (i > 0 && is_value(values[i - 1])) {
      ids_[i] = ids_[i - 1];
      continue;
    }
    const uint64_t hash = HashOf(value);
    Slot& slot =
        find(hash, [&](uint32_t id) { return is_value(values[firsts_[id]]); });
    if (slot.id != kNone) {
      ids_[i] = slot.id;
      continue;
    }
    const auto id = static_cast<uint32_t>(firsts_.size());
    slot = {id, static_cast<uint32_t>(hash)};
    ids_[i] = id;
    firsts_.push_back(static_cast<uint32_t>(i));
    hashes.push_back(hash);
    if (firsts_.size() * 2 < slots.size()) continue;
    bits += 2;
    slots.assign(size_t{1} << bits, Slot{});
    for (uint32_t known = 0; known < hashes.size(); ++known) {
      find(hashes[known], [](uint32_t) { return false; }) = {
          known, static_cast<uint32_t>(hashes[known])};
    }
  }
}

}  // namespace zipllm::codecs::columns
