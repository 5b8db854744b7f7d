// Frequency tables for the rANS kernels: normalisation, and the alias layout of
// format-spec/codecs/5-float.md, "Slots".
#ifndef ZIPLLM_ENTROPY_RANS_TABLES_H_
#define ZIPLLM_ENTROPY_RANS_TABLES_H_

#include <array>
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace zipllm::entropy {

/// By symbol; 0 for symbols that do not occur. Tables are built from
/// frequencies that add up to kernels::kSlots.
using Frequencies = std::array<uint16_t, kernels::kMaxSymbols>;
using Counts = std::array<uint64_t, kernels::kMaxSymbols>;

/// Frequencies in proportion to `counts`, at least 1 for each count above 0;
/// all 0 if all counts are. Their sum is at most 2^50. Close to the least code
/// length; the same on every machine.
Frequencies Normalize(const Counts& counts);
/// The same for up to 256 symbols; `frequencies` has the size of `counts`.
void Normalize(std::span<const uint64_t> counts,
               std::span<uint16_t> frequencies);

/// Both tables assign slots by the alias method (Walker 1974, Vose 1991) in
/// integers: 32 buckets of 128 slots with at most two symbols each.
/// `keys` as in RansDecodeTable, by symbol; without `with_slots` the `slots`
/// are left as they are.
void BuildDecodeTable(const Frequencies& frequencies,
                      const std::array<uint16_t, kernels::kMaxSymbols>& keys,
                      kernels::RansDecodeTable* table, bool with_slots = true);
void BuildEncodeTable(const Frequencies& frequencies,
                      kernels::RansEncodeTable* table);

}  // namespace zipllm::entropy

#endif  // ZIPLLM_ENTROPY_RANS_TABLES_H_
