#include "archive/moments_roles.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <tuple>

namespace zipllm::archive {
namespace {

enum class Order { kFirst, kSecond };

struct Marker {
  std::string_view part;
  Order order;
  bool anywhere;  // else only as the first part of a name or the last
};
constexpr std::array kMarkers = {
    Marker{"exp_avg", Order::kFirst, true},
    Marker{"exp_avg_sq", Order::kSecond, true},
    Marker{"momentum_buffer", Order::kFirst, true},
    Marker{"first_moment", Order::kFirst, true},
    Marker{"second_moment", Order::kSecond, true},
    Marker{"moment1", Order::kFirst, true},
    Marker{"moment2", Order::kSecond, true},
    Marker{"moment1_0", Order::kFirst, true},
    Marker{"moment2_0", Order::kSecond, true},
    Marker{"square_avg", Order::kSecond, true},
    Marker{"grad_avg", Order::kFirst, true},
    Marker{"momentum", Order::kFirst, true},
    Marker{"velocity", Order::kFirst, true},
    Marker{"accumulator", Order::kSecond, true},
    Marker{"trace", Order::kFirst, false},
    Marker{"mu", Order::kFirst, false},
    Marker{"nu", Order::kSecond, false},
    Marker{"m", Order::kFirst, false},
    Marker{"v", Order::kSecond, false},
    Marker{"adam_m", Order::kFirst, true},
    Marker{"adam_v", Order::kSecond, true},
    Marker{"state1", Order::kFirst, false},
    Marker{"state2", Order::kSecond, false},
};

/// Names of what holds an optimizer's state.
constexpr std::array<std::string_view, 9> kContainers = {
    "optimizer", "state",       "opt",  "opt_state", "optimizer_state",
    "optim",     "optim_state", "base", "0"};

using Parts = std::vector<std::string_view>;

Parts Split(std::string_view name) {
  Parts parts;
  size_t begin = 0;
  while (begin <= name.size()) {
    const size_t end = std::min(name.find_first_of("./:", begin), name.size());
    if (end > begin) parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string Join(const Parts& parts, size_t from) {
  std::string key;
  for (size_t i = from; i < parts.size(); ++i) {
    if (i > from) key += '.';
    key += parts[i];
  }
  return key;
}

struct Moment {
  size_t tensor;
  Order order;
  std::string key;  // the name without the marker
};

std::optional<Moment> AsMoment(size_t tensor, std::string_view name) {
  Parts parts = Split(name);
  for (size_t i = parts.size(); i-- > 0;) {
    for (const Marker& marker : kMarkers) {
      if (parts[i] != marker.part) continue;
      const bool outer = i == 0 || i + 1 == parts.size();
      if (!marker.anywhere && !outer) continue;
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(i));
      return Moment{tensor, marker.order, Join(parts, 0)};
    }
  }
  return std::nullopt;
}

/// The number that a key is but for containers; nothing if it is none.
std::optional<uint64_t> AsNumber(std::string_view key) {
  const Parts parts = Split(key);
  if (parts.empty()) return std::nullopt;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    if (std::ranges::find(kContainers, parts[i]) == kContainers.end()) {
      return std::nullopt;
    }
  }
  const std::string_view last = parts.back();
  uint64_t number = 0;
  if (last.size() > 9) return std::nullopt;
  for (const char c : last) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  return number;
}

using Shape = std::vector<uint64_t>;

struct State {
  ParameterState found;
  Shape shape;
  std::string key;
};

class Finder {
 public:
  explicit Finder(const std::vector<LineageTensor>& tensors)
      : tensors_(tensors) {}
  std::vector<ParameterState> Find();

 private:
  void CollectMoments();
  void MatchNames();
  void MatchNumbers();

  const std::vector<LineageTensor>& tensors_;
  std::vector<State> states_;
  std::vector<size_t> others_;  // tensors that are no moments
  std::vector<bool> taken_;     // of them, the parameters found
};

void Finder::CollectMoments() {
  // Moments with the same rest of the name belong together.
  std::map<std::pair<std::string, Shape>, size_t> by_key;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const LineageTensor& tensor = tensors_[i];
    std::optional<Moment> moment = AsMoment(i, tensor.name);
    if (!moment.has_value()) {
      others_.push_back(i);
      continue;
    }
    const auto [it, is_new] =
        by_key.try_emplace({moment->key, tensor.shape}, states_.size());
    if (is_new) states_.push_back({{}, tensor.shape, moment->key});
    ParameterState& state = states_[it->second].found;
    std::optional<size_t>& place =
        moment->order == Order::kFirst ? state.first : state.second;
    if (!place.has_value()) {
      place = i;
    } else {
      others_.push_back(i);
    }
  }
  taken_.assign(others_.size(), false);
}

/// A parameter's name is the key, or one ends in the other.
void Finder::MatchNames() {
  std::map<std::pair<std::string, Shape>, size_t> by_name;
  for (size_t k = 0; k < others_.size(); ++k) {
    const LineageTensor& tensor = tensors_[others_[k]];
    const Parts parts = Split(tensor.name);
    by_name.try_emplace({Join(parts, 0), tensor.shape}, k);
  }
  const auto take = [&](State& state, const std::string& name) {
    const auto it = by_name.find({name, state.shape});
    if (it == by_name.end() || taken_[it->second]) return false;
    taken_[it->second] = true;
    state.found.parameter = others_[it->second];
    return true;
  };
  // Exact names first, so that no shorter one takes what they name.
  for (State& state : states_) {
    take(state, state.key);
  }
  constexpr size_t kMostDropped = 4;
  for (State& state : states_) {
    const Parts parts = Split(state.key);
    for (size_t drop = 1; drop < std::min(parts.size(), kMostDropped + 1) &&
                          !state.found.parameter.has_value();
         ++drop) {
      take(state, Join(parts, drop));
    }
  }
  // Parameters under a prefix of their own ("model.").
  std::map<std::pair<std::string, Shape>, size_t> by_rest;
  for (size_t k = 0; k < others_.size(); ++k) {
    if (taken_[k]) continue;
    const LineageTensor& tensor = tensors_[others_[k]];
    const Parts parts = Split(tensor.name);
    for (size_t drop = 1; drop < std::min<size_t>(parts.size(), 3); ++drop) {
      by_rest.try_emplace({Join(parts, drop), tensor.shape}, k);
    }
  }
  for (State& state : states_) {
    if (state.found.parameter.has_value()) continue;
    const auto it = by_rest.find({state.key, state.shape});
    if (it == by_rest.end() || taken_[it->second]) continue;
    taken_[it->second] = true;
    state.found.parameter = others_[it->second];
  }
}

/// Numbered states, in order, are those of the parameters of the same shape.
/// Where there are fewer, the first ones.
void Finder::MatchNumbers() {
  std::vector<std::tuple<uint64_t, size_t>> numbered;
  for (size_t s = 0; s < states_.size(); ++s) {
    if (states_[s].found.parameter.has_value()) continue;
    const std::optional<uint64_t> number = AsNumber(states_[s].key);
    if (number.has_value()) numbered.emplace_back(*number, s);
  }
  std::ranges::sort(numbered);
  std::map<Shape, std::vector<size_t>> by_shape;  // ascending
  for (size_t k = others_.size(); k-- > 0;) {
    if (!taken_[k]) by_shape[tensors_[others_[k]].shape].push_back(k);
  }
  for (const auto& [number, s] : numbered) {
    std::vector<size_t>& left = by_shape[states_[s].shape];
    if (left.empty()) continue;
    taken_[left.back()] = true;
    states_[s].found.parameter = others_[left.back()];
    left.pop_back();
  }
}

std::vector<ParameterState> Finder::Find() {
  CollectMoments();
  MatchNames();
  MatchNumbers();
  std::vector<ParameterState> found;
  for (const State& state : states_) {
    const ParameterState& of = state.found;
    // A moment by itself is a tensor that happens to have the name.
    const int members = int{of.parameter.has_value()} +
                        int{of.first.has_value()} + int{of.second.has_value()};
    if (members >= 2) found.push_back(of);
  }
  const auto begin = [](const ParameterState& state) {
    size_t least = SIZE_MAX;
    for (const auto& place : {state.parameter, state.first, state.second}) {
      if (place.has_value()) least = std::min(least, *place);
    }
    return least;
  };
  std::ranges::sort(found, {}, begin);
  return found;
}

}  // namespace

std::vector<ParameterState> FindMoments(
    const std::vector<LineageTensor>& tensors) {
  return Finder(tensors).Find();
}

}  // namespace zipllm::archive
