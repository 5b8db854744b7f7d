// Where the bytes of a store went: as a table, as JSON, as a page.
#ifndef ZIPLLM_TOOLS_STORE_STATS_H_
#define ZIPLLM_TOOLS_STORE_STATS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tools/json.h"
#include "zipllm/store.h"

namespace zipllm::tools {

/// What plain bytes became: the parts that a bar is stacked of.
struct SavingsPart {
  const char* key;    ///< in JSON, and a class of the page
  const char* label;  ///< "Saved by deduplication"
  uint64_t StoreStats::Savings::*bytes;
};
inline constexpr SavingsPart kSavingsParts[] = {
    {"stored", "Stored", &StoreStats::Savings::stored_bytes},
    {"deduplicated", "Saved by deduplication",
     &StoreStats::Savings::deduplicated},
    {"delta", "Saved by deltas", &StoreStats::Savings::delta},
    {"derived", "Saved by derivation", &StoreStats::Savings::derived},
    {"entropy", "Saved by entropy coding", &StoreStats::Savings::entropy},
};

/// A model's place in the tree of its family: `depth` steps below the root, in
/// the order of the lines of a tree.
struct TreeRow {
  size_t model;  ///< place in StoreStats::models
  size_t depth;
};
/// Each model of a family once, below the one that most of it is coded against.
std::vector<TreeRow> FamilyTree(const StoreStats& stats,
                                const StoreStats::Family& family);

std::string StatsText(const std::string& store, const StoreStats& stats,
                      bool utf8);
Json StatsJson(const StoreStats& stats);
/// An HTML document that needs nothing else: no network, no script. Text of the
/// store is shown as text, whatever it holds. Equal stores give equal pages.
std::string StatsPage(const std::string& store, const StoreStats& stats);

}  // namespace zipllm::tools

#endif  // ZIPLLM_TOOLS_STORE_STATS_H_
