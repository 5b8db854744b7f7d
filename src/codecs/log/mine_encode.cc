// Records with the same gaps and words are an event. Events that differ in one
// word alone are one template, in which that word is a value (in the manner of
// Drain, He and others 2017, but over a whole block, and with hashes instead of
// a search). Templates that begin alike share the columns of their beginnings.
// What is too rare for a template of its own begins like the template that it
// is most like, and ends in a text.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "codecs/log/log_format.h"
#include "codecs/log/mine.h"

namespace zipllm::codecs::log {
namespace {

constexpr size_t kMaxEvents = size_t{1} << 16;
constexpr size_t kMaxDrafts = 4096;
/// Fewer records have no template of their own.
constexpr uint32_t kMinRecords = 4;
/// As many that begin alike, and end in texts, make a template.
constexpr uint32_t kMinRest = 8;
/// As many have a column of texts of their own.
constexpr uint32_t kMinRestColumn = 64;

constexpr uint32_t kNone = UINT32_MAX;

struct Event {
  uint32_t record;  // the first
  uint32_t count = 0;
  uint32_t group;  // union-find: an event of the same template
};

class Miner {
 public:
  Miner(ByteSpan block, const Records& all) : block_(block), all_(all) {}

  Mined Mine() {
    FindEvents();
    MergeEvents();
    MakeTemplates();
    CutRest();
    return std::move(out_);
  }

 private:
  using Path = uint64_t;

  std::span<const Token> TokensOf(const Record& record) const {
    return std::span(all_.tokens)
        .subspan(record.first_token, record.end_token - record.first_token);
  }

  void FindEvents() {
    std::unordered_map<uint64_t, uint32_t> known;
    event_of_.reserve(all_.records.size());
    for (size_t i = 0; i < all_.records.size(); ++i) {
      const Record& record = all_.records[i];
      const uint64_t key = Mix(record.shape, record.words);
      const auto found = known.find(key);
      uint32_t event = kNone;
      if (found != known.end()) {
        event = found->second;
      } else if (events_.size() < kMaxEvents) {
        event = static_cast<uint32_t>(events_.size());
        known.emplace(key, event);
        events_.push_back({static_cast<uint32_t>(i), 0, event});
      }
      if (event != kNone) ++events_[event].count;
      event_of_.push_back(event);
    }
  }

  uint32_t Find(uint32_t event) {
    while (events_[event].group != event) {
      event = events_[event].group = events_[events_[event].group].group;
    }
    return event;
  }

  /// The earlier event is the group's.
  void Join(uint32_t a, uint32_t b) {
    a = Find(a);
    b = Find(b);
    if (a == b) return;
    if (a > b) std::swap(a, b);
    events_[b].group = a;
    events_[a].count += events_[b].count;
  }

  /// Joins events of one shape that differ in one word.
  void MergeEvents() {
    struct Without {
      uint64_t key;  // all of the event but one word
      uint32_t event;
    };
    std::vector<Without> list;
    for (uint32_t e = 0; e < events_.size(); ++e) {
      const Record& record = all_.records[events_[e].record];
      const auto tokens = TokensOf(record);
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i].word == 0) continue;
        list.push_back({Mix(Mix(record.shape, i),
                            record.words - WordAt(tokens[i].word, i)),
                        e});
      }
    }
    std::ranges::sort(list, [](const Without& a, const Without& b) {
      return a.key != b.key ? a.key < b.key : a.event < b.event;
    });
    for (size_t i = 1; i < list.size(); ++i) {
      if (list[i].key == list[i - 1].key)
        Join(list[i].event, list[i - 1].event);
    }
  }

  struct Node {
    uint32_t records = 0;
  };

  static Path After(Path path, uint64_t gap, uint64_t word) {
    return Mix(Mix(path, gap), word);
  }
  uint64_t GapHash(size_t begin, size_t end) const {
    return HashBytes(block_.subspan(begin, end - begin));
  }

  /// One for each group of events with enough records.
  void MakeTemplates() {
    std::vector<std::vector<uint32_t>> members(events_.size());
    for (uint32_t e = 0; e < events_.size(); ++e) {
      members[Find(e)].push_back(e);
    }
    std::vector<uint32_t> groups;
    for (uint32_t e = 0; e < events_.size(); ++e) {
      if (Find(e) == e && events_[e].count >= kMinRecords) groups.push_back(e);
    }
    std::ranges::stable_sort(groups, [&](uint32_t a, uint32_t b) {
      return events_[a].count > events_[b].count;
    });
    if (groups.size() > kMaxDrafts / 2) groups.resize(kMaxDrafts / 2);
    std::vector<uint32_t> draft_of_event(events_.size(), kNone);
    std::vector<bool> is_slot;
    for (const uint32_t group : groups) {
      const Record& record = all_.records[events_[group].record];
      const auto tokens = TokensOf(record);
      is_slot.assign(tokens.size(), false);
      for (size_t i = 0; i < tokens.size(); ++i) {
        is_slot[i] = tokens[i].word == 0;
      }
      for (const uint32_t event : members[group]) {
        const auto others = TokensOf(all_.records[events_[event].record]);
        if (others.size() != tokens.size()) continue;  // a hash that lied
        for (size_t i = 0; i < tokens.size(); ++i) {
          if (others[i].word != tokens[i].word) is_slot[i] = true;
        }
      }
      for (const uint32_t event : members[group]) {
        draft_of_event[event] = static_cast<uint32_t>(out_.drafts.size());
      }
      AddDraft(record, is_slot, events_[group].count);
    }
    out_.draft_of.reserve(all_.records.size());
    for (const uint32_t event : event_of_) {
      out_.draft_of.push_back(event == kNone ? kNone : draft_of_event[event]);
    }
  }

  void AddDraft(const Record& record, const std::vector<bool>& is_slot,
                uint32_t count) {
    Draft& draft = out_.drafts.emplace_back();
    const auto tokens = TokensOf(record);
    uint32_t at = record.begin;       // behind the last token
    uint32_t literal = record.begin;  // behind the last value
    Path path = 0;
    for (uint32_t i = 0; i < tokens.size(); ++i) {
      const uint64_t gap = GapHash(at, tokens[i].begin);
      at = tokens[i].end;
      path = After(path, gap, is_slot[i] ? 0 : tokens[i].word);
      nodes_[path].records += count;
      if (!is_slot[i]) continue;
      draft.slots.push_back({literal, tokens[i].begin, i, path});
      literal = at;
    }
    draft.tail_begin = literal;
    draft.tail_end = record.end;
  }

  /// Where a record leaves the tree of templates: how many tokens it has in
  /// common with one, and the path to there.
  struct Leaving {
    uint32_t tokens = 0;
    Path path = 0;
    uint64_t slots = 0;  // which of the first 64 words are values
  };
  template <typename Exists>
  Leaving Walk(const Record& record, Exists exists) const {
    Leaving leaving;
    const auto tokens = TokensOf(record);
    uint32_t at = record.begin;
    for (uint32_t i = 0; i < tokens.size(); ++i) {
      const uint64_t gap = GapHash(at, tokens[i].begin);
      at = tokens[i].end;
      Path next = After(leaving.path, gap, tokens[i].word);
      if (!exists(next)) {
        if (tokens[i].word == 0 || i >= 64) break;
        next = After(leaving.path, gap, 0);
        if (!exists(next)) break;
        leaving.slots |= uint64_t{1} << i;
      }
      leaving.path = next;
      ++leaving.tokens;
    }
    return leaving;
  }

  /// Makes templates that end in a text of the records that have none.
  void CutRest() {
    std::vector<uint32_t> rare;
    for (uint32_t i = 0; i < all_.records.size(); ++i) {
      if (out_.draft_of[i] == kNone) rare.push_back(i);
    }
    // What many of them have in common from there on becomes part of the tree.
    const auto in_tree = [&](Path path) { return nodes_.contains(path); };
    std::unordered_map<Path, uint32_t> beyond;
    for (const uint32_t r : rare) {
      const Record& record = all_.records[r];
      const Leaving leaving = Walk(record, in_tree);
      const auto tokens = TokensOf(record);
      Path path = leaving.path;
      for (uint32_t i = leaving.tokens; i < tokens.size(); ++i) {
        const uint32_t at = i == 0 ? record.begin : tokens[i - 1].end;
        path = After(path, GapHash(at, tokens[i].begin), tokens[i].word);
        // Beyond what nobody has in common there is nothing to find, but this
        // is only known at the end.
        if (beyond.size() >= kMaxEvents && !beyond.contains(path)) break;
        ++beyond[path];
      }
    }
    for (const auto& [path, count] : beyond) {
      if (count >= kMinRest) nodes_[path].records += count;
    }
    std::vector<Leaving> leavings;
    std::unordered_map<Path, uint32_t> ends;
    for (const uint32_t r : rare) {
      leavings.push_back(Walk(all_.records[r], in_tree));
      ++ends[leavings.back().path];
    }
    struct Key {
      uint64_t hash;
      bool operator==(const Key&) const = default;
    };
    std::unordered_map<uint64_t, uint32_t> drafts;
    for (size_t k = 0; k < rare.size(); ++k) {
      const Record& record = all_.records[rare[k]];
      Leaving leaving = leavings[k];
      const uint32_t line_end = LineEnd(record);
      uint64_t key =
          Mix(Mix(leaving.path, record.end - line_end), leaving.slots);
      auto found = drafts.find(key);
      if (found == drafts.end()) {
        if (out_.drafts.size() >= kMaxDrafts) {
          leaving = {};
          key = Mix(0, record.end - line_end);
          found = drafts.find(key);
        }
        if (found == drafts.end()) {
          found = drafts.emplace(key, static_cast<uint32_t>(out_.drafts.size()))
                      .first;
          AddRest(record, leaving, line_end,
                  ends[leaving.path] >= kMinRestColumn);
        }
      }
      out_.draft_of[rare[k]] = found->second;
    }
  }

  uint32_t LineEnd(const Record& record) const {
    uint32_t end = record.end;
    if (end > record.begin && block_[end - 1] == '\n') --end;
    if (end > record.begin && block_[end - 1] == '\r') --end;
    const auto tokens = TokensOf(record);
    return tokens.empty() ? end : std::max(end, tokens.back().end);
  }

  void AddRest(const Record& record, const Leaving& leaving, uint32_t line_end,
               bool own_column) {
    Draft& draft = out_.drafts.emplace_back();
    const auto tokens = TokensOf(record);
    uint32_t literal = record.begin;
    uint32_t at = record.begin;
    Path path = 0;
    for (uint32_t i = 0; i < leaving.tokens; ++i) {
      const bool is_slot =
          tokens[i].word == 0 || (i < 64 && (leaving.slots >> i & 1) != 0);
      path = After(path, GapHash(at, tokens[i].begin),
                   is_slot ? 0 : tokens[i].word);
      at = tokens[i].end;
      if (!is_slot) continue;
      draft.slots.push_back({literal, tokens[i].begin, i, path});
      literal = at;
    }
    draft.slots.push_back(
        {literal, at, Draft::kRest, own_column ? Mix(path, Draft::kRest) : 0});
    draft.tail_begin = line_end;
    draft.tail_end = record.end;
  }

  const ByteSpan block_;
  const Records& all_;
  std::vector<Event> events_;
  std::vector<uint32_t> event_of_;  // by record
  std::unordered_map<Path, Node> nodes_;
  Mined out_;
};

}  // namespace

Mined Mine(ByteSpan block, const Records& records) {
  return Miner(block, records).Mine();
}

}  // namespace zipllm::codecs::log
