#include "archive/structure.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <tuple>

namespace zipllm::archive {
namespace {

using Order = SourceView::Order;

// Rows that two tensors have in common before they are looked at closely.
constexpr size_t kMinMatches = 3;
// Of the tensors that have most in common, as many are compared by values.
constexpr size_t kCompared = 16;
// Of those of which parts are expected.
constexpr size_t kComparedParts = 256;
// Rows that are aligned one by one.
constexpr uint64_t kMaxRows = uint64_t{1} << 18;
constexpr size_t kMaxAligned = 8;  // sources
constexpr size_t kMaxViews = 1024;
// Rows of one source that lie together, in any order.
constexpr size_t kMinRun = 16;
constexpr uint32_t kMaxGap = 16;
// Of tensors that are nearly the same.
constexpr size_t kMaxRelatives = 16;
// Sources are cut into up to so many equal parts.
constexpr uint64_t kMaxParts = 8;
constexpr uint64_t kSide = 16;  // of a block by which a source is found
constexpr uint64_t kStep = 8;   // of those that are compared then
constexpr uint64_t kBlocks = 8;
constexpr size_t kMaxBlocks = 4096;
// In 1/256 bit an element, beyond chance.
constexpr uint32_t kGain = 256;
constexpr uint32_t kNearGain = 96;  // of quantized tensors
// Row orders that are kept.
constexpr size_t kMaxOrders = 8;
// Signatures of rows that the index does not tell, and how many pairs of them
// are compared.
constexpr uint64_t kMaxDistancePercent = 36;
constexpr uint64_t kMaxPairs = uint64_t{1} << 24;

}  // namespace

StructureFinder::StructureFinder(const std::vector<LineageTensor>& tensors,
                                 OrderedReader& reader)
    : tensors_(tensors),
      reader_(reader),
      matrices_(tensors.size()),
      file_begins_(tensors.size()),
      roots_(tensors.size()),
      is_indexed_(tensors.size()) {
  std::iota(roots_.begin(), roots_.end(), size_t{0});
  for (size_t t = 0; t < tensors.size(); ++t) {
    const bool same_file = t > 0 && tensors[t].file == tensors[t - 1].file;
    file_begins_[t] = same_file ? file_begins_[t - 1] : t;
    const auto format = reader.format(t);
    if (!format) continue;
    matrices_[t] = MatrixOf(tensors[t]);
    if (matrices_[t]) {
      classes_[{format->is_float, matrices_[t]->columns}].members.push_back(t);
    }
  }
}

void StructureFinder::AddRelative(size_t t, size_t other) {
  roots_[t] = roots_[other];
  std::vector<size_t>& relatives = relatives_[roots_[t]];
  if (relatives.size() < kMaxRelatives) relatives.push_back(t);
}

bool StructureFinder::Comparable(size_t t, size_t source) const {
  return source < t && matrices_[source] &&
         tensors_[source].file != tensors_[t].file &&
         reader_.IsComparable(t, source);
}

bool StructureFinder::IsLess(size_t source, size_t other) const {
  return tensors_[source].quantized != 0 && tensors_[other].quantized == 0;
}

SourceView StructureFinder::RowsView(size_t t, size_t source,
                                     uint64_t target_row, uint64_t source_row,
                                     uint64_t rows) const {
  SourceView view;
  view.source = source;
  view.columns = matrices_[t]->columns;
  view.source_columns = matrices_[source]->columns;
  view.target_begin = target_row * view.columns;
  view.target_elements = rows * view.columns;
  view.row_offset = source_row;
  return view;
}

// Compares the values of some blocks of a view; nothing if they tell nothing.
std::optional<Comparison> StructureFinder::CompareView(size_t t,
                                                       const SourceView& view) {
  const uint64_t columns = view.columns;
  const uint64_t rows = view.target_elements / columns;
  const uint64_t height = std::min(rows, kStep);
  std::vector<int32_t> values;
  std::vector<int32_t> predicted;
  for (uint64_t block = 0; block < kBlocks; ++block) {
    const uint64_t top = (rows - height) * block / (kBlocks - 1);
    const uint64_t left = (columns - kStep) * (block * 3 % kBlocks) / kBlocks;
    const size_t at = values.size();
    values.resize(at + height * kStep);
    predicted.resize(values.size());
    for (uint64_t i = 0; i < height; ++i) {
      const std::span<int32_t> row(&values[at + i * kStep], kStep);
      const uint64_t begin = view.target_begin + (top + i) * columns + left;
      if (!reader_.Read(t, begin, row)) return std::nullopt;
    }
    std::vector<int32_t> run(height);
    if (view.order == Order::kTransposed) {
      for (uint64_t j = 0; j < kStep; ++j) {
        const uint64_t begin =
            (left + j + view.row_offset) * view.source_columns + top +
            view.column_offset;
        if (!reader_.Read(view.source, begin, run)) return std::nullopt;
        for (uint64_t i = 0; i < height; ++i) {
          predicted[at + i * kStep + j] = run[i];
        }
      }
      continue;
    }
    for (uint64_t i = 0; i < height; ++i) {
      const uint64_t row = view.order == Order::kRows
                               ? view.rows[top + i]
                               : top + i + view.row_offset;
      const uint64_t begin =
          row * view.source_columns + left + view.column_offset;
      if (!reader_.Read(view.source, begin,
                        std::span(&predicted[at + i * kStep], kStep))) {
        return std::nullopt;
      }
    }
  }
  const Comparison comparison = reader_.Compare(t, values, predicted);
  const bool quantized = tensors_[t].quantized != 0;
  if (!comparison.Tells(quantized ? kNearGain : kGain)) return std::nullopt;
  return comparison;
}

bool StructureFinder::Propose(size_t t, SourceView view,
                              std::vector<Candidate>* found) {
  const auto comparison = CompareView(t, view);
  if (!comparison) return false;
  const uint64_t saved =
      (comparison->chance - comparison->cost) * view.target_elements;
  found->push_back({std::move(view), saved});
  return true;
}

std::optional<uint32_t> StructureFinder::CostOf(size_t t,
                                                const SourceView& view) {
  const auto comparison = CompareView(t, view);
  if (!comparison) return std::nullopt;
  return comparison->cost;
}

std::vector<SourceView> StructureFinder::Variants(
    size_t t, const SourceView& view) const {
  std::vector<SourceView> variants;
  const auto add = [&](size_t source) {
    const bool same_rows = matrices_[source] && source != view.source &&
                           matrices_[source]->columns == view.source_columns;
    if (!same_rows || !Comparable(t, source) || IsLess(source, view.source)) {
      return;
    }
    variants.push_back(view);
    variants.back().source = source;
  };
  const size_t root = roots_[view.source];
  add(root);
  const auto relatives = relatives_.find(root);
  if (relatives == relatives_.end()) return variants;
  for (const size_t relative : relatives->second) add(relative);
  return variants;
}

// Takes a relative of the source instead, if that serves better.
void StructureFinder::TryRelatives(size_t t,
                                   const std::function<bool(size_t)>& allowed,
                                   Candidate* candidate) {
  const auto relatives = relatives_.find(candidate->view.source);
  if (relatives == relatives_.end()) return;
  std::vector<Candidate> found;
  for (const size_t relative : relatives->second) {
    if (!allowed(relative) || !Comparable(t, relative) ||
        IsLess(relative, candidate->view.source)) {
      continue;
    }
    SourceView view = candidate->view;
    view.source = relative;
    Propose(t, std::move(view), &found);
  }
  for (Candidate& other : found) {
    if (other.saved > candidate->saved) *candidate = std::move(other);
  }
}

// ---- Rows

void StructureFinder::FindMatches(size_t t, const std::vector<Row>& rows,
                                  const std::function<bool(size_t)>& allowed,
                                  std::vector<Match>* matches) const {
  const uint64_t columns = matrices_[t]->columns;
  std::vector<RowIndex::Entry> near;
  for (const Row& row : rows) {
    near.clear();
    index_.Find(row.signature, columns, &near);
    for (const RowIndex::Entry& entry : near) {
      if (Comparable(t, entry.tensor) &&
          matrices_[entry.tensor]->columns == columns &&
          allowed(entry.tensor)) {
        matches->push_back({entry.tensor, entry.row, row.number});
      }
    }
  }
}

// Samples the rows of `t` and makes them known, once.
bool StructureFinder::Index(size_t t, std::vector<Row>* rows) {
  rows->clear();
  if (is_indexed_[t] || roots_[t] != t || index_.IsFull()) return false;
  is_indexed_[t] = true;
  if (!SampleRows(reader_, t, *matrices_[t], rows)) return false;
  for (const Row& row : *rows) index_.Add(t, matrices_[t]->columns, row);
  return true;
}

void StructureFinder::FindRows(size_t t,
                               const std::function<bool(size_t)>& allowed,
                               std::vector<Candidate>* found) {
  const Matrix& matrix = *matrices_[t];
  Class& alike = classes_[{reader_.format(t)->is_float, matrix.columns}];
  const bool has_partner = std::ranges::any_of(
      alike.members, [&](size_t s) { return Comparable(t, s) && allowed(s); });
  if (!has_partner) return;
  std::vector<Row> rows;
  for (; alike.members[alike.indexed] < file_begins_[t]; ++alike.indexed) {
    Index(alike.members[alike.indexed], &rows);
  }
  if (!Index(t, &rows)) return;

  for (int round = 0; round < 2; ++round) {
    std::vector<Match> matches;
    FindMatches(t, rows, allowed, &matches);
    // By source, and there by how far its rows are from the target's.
    std::map<uint32_t, std::map<int64_t, size_t>> shifts;
    std::map<uint32_t, size_t> counts;  // rows of the target with a match
    std::map<uint32_t, uint32_t> last;
    for (const Match& match : matches) {
      ++shifts[match.source][int64_t{match.row} - match.source_row];
      const auto [place, is_new] = last.emplace(match.source, match.row);
      if (is_new || place->second != match.row) ++counts[match.source];
      place->second = match.row;
    }
    std::vector<std::pair<size_t, uint32_t>> most;
    for (const auto& [source, count] : counts) {
      const uint64_t enough = std::min<uint64_t>(
          {kMinMatches, matrices_[source]->rows, matrix.rows});
      if (count >= enough) most.push_back({count, source});
    }
    std::ranges::stable_sort(most, std::ranges::greater(),
                             [](const auto& entry) { return entry.first; });
    const size_t compared =
        tensors_[t].shape.size() > 2 ? kComparedParts : kCompared;
    if (most.size() > compared) most.resize(compared);
    std::vector<size_t> scattered;
    const size_t before = found->size();
    for (const auto& [count, source] : most) {
      const auto most_often = std::ranges::max_element(
          shifts[source], {}, [](const auto& entry) { return entry.second; });
      const int64_t shift = most_often->first;
      const size_t times = most_often->second;
      const uint64_t source_rows = matrices_[source]->rows;
      // How many rows would be found if all were so far away.
      const auto expected = std::ranges::count_if(rows, [&](const Row& row) {
        const auto other = static_cast<uint64_t>(row.number - shift);
        return other < source_rows && IsSampled(other, source_rows);
      });
      if (times * 4 < static_cast<size_t>(expected) * 3) {
        // How many if they stood in any order.
        if (TryOrders(t, source, found)) continue;
        const uint64_t scattered_rows = rows.size() * SampleSize(source_rows) /
                                        std::max(source_rows, matrix.rows);
        if (count * 4 >= scattered_rows) scattered.push_back(source);
        continue;
      }
      const uint64_t first = static_cast<uint64_t>(std::max<int64_t>(shift, 0));
      const uint64_t end = static_cast<uint64_t>(
          std::min(static_cast<int64_t>(matrix.rows),
                   static_cast<int64_t>(matrices_[source]->rows) + shift));
      Propose(t,
              RowsView(t, source, first, first - static_cast<uint64_t>(shift),
                       end - first),
              found);
    }
    if (!scattered.empty()) {
      if (scattered.size() > kMaxAligned) scattered.resize(kMaxAligned);
      AlignRows(t, scattered, found);
    }
    if (found->size() == before) return;
    // More may lie where none was found yet: all rows are looked at there.
    uint64_t covered = 0;
    std::vector<bool> is_covered(matrix.rows);
    for (const Candidate& candidate : *found) {
      const uint64_t begin = candidate.view.target_begin / matrix.columns;
      const uint64_t count = candidate.view.target_elements / matrix.columns;
      for (uint64_t r = begin; r < begin + count; ++r) {
        covered += is_covered[r] ? 0 : 1;
        is_covered[r] = true;
      }
    }
    if (covered == matrix.rows || matrix.rows > kMaxRows) return;
    rows.clear();
    for (uint64_t r = 0; r < matrix.rows;) {
      uint64_t end = r;
      while (end < matrix.rows && !is_covered[end]) ++end;
      if (end > r && !ReadRows(reader_, t, matrix, r, end, &rows)) return;
      r = end + 1;
    }
  }
}

// Whether the rows of `t` are those of `source` in an order that was found
// before.
bool StructureFinder::TryOrders(size_t t, size_t source,
                                std::vector<Candidate>* found) {
  const uint64_t rows = matrices_[t]->rows;
  for (const auto& order : orders_[{rows, matrices_[source]->rows}]) {
    SourceView view = RowsView(t, source, 0, 0, rows);
    view.order = Order::kRows;
    view.rows = order;
    if (Propose(t, std::move(view), found)) return true;
  }
  return false;
}

// Finds for each row of `t` the one that it seems to be. Runs of them become
// views; too many runs become one view with all rows, of a single source.
void StructureFinder::AlignRows(size_t t, const std::vector<size_t>& sources,
                                std::vector<Candidate>* found) {
  const Matrix& matrix = *matrices_[t];
  uint64_t all = matrix.rows;
  for (const size_t source : sources) all += matrices_[source]->rows;
  if (all > kMaxRows) return;
  const uint64_t columns = matrix.columns;
  // By source, the signatures of its rows, ascending.
  std::map<uint32_t, std::vector<Row>> of;
  RowIndex index;
  for (const size_t source : sources) {
    std::vector<Row>& signatures = of[static_cast<uint32_t>(source)];
    if (!ReadRows(reader_, source, *matrices_[source], 0,
                  matrices_[source]->rows, &signatures)) {
      signatures.clear();
    }
    for (const Row& row : signatures) index.Add(source, columns, row);
  }
  std::vector<Row> rows;
  if (!ReadRows(reader_, t, matrix, 0, matrix.rows, &rows)) return;

  std::vector<Match> matches;
  std::vector<Row> left;
  std::vector<RowIndex::Entry> near;
  for (const Row& row : rows) {
    // The one after that of the row before, if it fits.
    if (!matches.empty() && matches.back().row + 1 == row.number) {
      const auto& signatures = of[matches.back().source];
      const auto next = std::ranges::lower_bound(
          signatures, matches.back().source_row + 1, {}, &Row::number);
      if (next != signatures.end() &&
          next->number == matches.back().source_row + 1 &&
          AreNear(next->signature, row.signature, columns)) {
        matches.push_back({matches.back().source, next->number, row.number});
        continue;
      }
    }
    near.clear();
    index.Find(row.signature, columns, &near);
    const auto best =
        std::ranges::min_element(near, {}, [&](const RowIndex::Entry& entry) {
          return std::tuple(Distance(entry.signature, row.signature),
                            entry.tensor, entry.row);
        });
    if (best != near.end()) {
      matches.push_back({best->tensor, best->row, row.number});
    } else {
      left.push_back(row);
    }
  }
  // More bits may differ where the source of the rows beside is the same.
  if (columns >= kSignatureBits && left.size() * all <= kMaxPairs) {
    constexpr uint32_t kMost = kSignatureBits * kMaxDistancePercent / 100;
    std::vector<Match> more;
    const auto look_at = [&](const Row& row, const Match& beside) {
      const uint32_t gap =
          std::max(row.number, beside.row) - std::min(row.number, beside.row);
      if (gap > kMaxGap) return;
      std::pair<uint32_t, uint32_t> best{kMost, UINT32_MAX};
      for (const Row& other : of[beside.source]) {
        best = std::min(
            best, {Distance(other.signature, row.signature), other.number});
      }
      if (best.second == UINT32_MAX) return;
      if (!more.empty() && more.back().row == row.number) return;
      more.push_back({beside.source, best.second, row.number});
    };
    for (const Row& row : left) {
      const auto next =
          std::ranges::upper_bound(matches, row.number, {}, &Match::row);
      if (next != matches.begin()) look_at(row, *(next - 1));
      if (next != matches.end()) look_at(row, *next);
    }
    matches.insert(matches.end(), more.begin(), more.end());
    std::ranges::sort(matches, {}, &Match::row);
  }
  std::vector<SourceView> views;
  for (const Match& match : matches) {
    if (!views.empty()) {
      SourceView& last = views.back();
      const uint64_t count = last.target_elements / columns;
      if (last.source == match.source &&
          last.target_begin + last.target_elements == match.row * columns &&
          last.row_offset + count == match.source_row) {
        last.target_elements += columns;
        continue;
      }
    }
    views.push_back(RowsView(t, match.source, match.row, match.source_row, 1));
  }
  if (views.size() <= kMaxViews && views.size() * 8 <= matches.size()) {
    for (SourceView& view : views) Propose(t, std::move(view), found);
    return;
  }
  // Runs of rows of one source, in any order there.
  for (size_t first = 0; first < matches.size();) {
    const uint32_t source = matches[first].source;
    size_t end = first + 1;
    while (end < matches.size() && matches[end].source == source &&
           matches[end].row - matches[end - 1].row <= kMaxGap) {
      ++end;
    }
    const std::span<const Match> run(&matches[first], end - first);
    // Beside it may be a few rows that seem to be of none.
    const uint64_t few = run.size() / 8;
    uint64_t begin = run.front().row;
    const uint64_t before = first == 0 ? 0 : matches[first - 1].row + 1;
    if (begin - before <= few) begin = before;
    uint64_t rows_end = run.back().row + 1;
    const uint64_t after =
        end == matches.size() ? matrix.rows : matches[end].row;
    if (after - rows_end <= few) rows_end = after;
    first = end;
    if (run.size() < kMinRun || run.size() * 2 < rows_end - begin) continue;
    SourceView view = RowsView(t, source, begin, 0, rows_end - begin);
    view.order = Order::kRows;
    // Rows that are not there are as near to the first as to any other.
    view.rows.resize(rows_end - begin);
    for (const Match& match : run) {
      view.rows[match.row - begin] = match.source_row;
    }
    bool in_order = true;
    for (size_t i = 1; i < view.rows.size(); ++i) {
      in_order = in_order && view.rows[i] == view.rows[i - 1] + 1;
    }
    if (in_order) {
      Propose(t, RowsView(t, source, begin, view.rows[0], rows_end - begin),
              found);
      continue;
    }
    if (!Propose(t, view, found)) continue;
    auto& orders = orders_[{matrix.rows, matrices_[source]->rows}];
    if (run.size() == matrix.rows && orders.size() < kMaxOrders) {
      orders.push_back(std::move(view.rows));
    }
  }
}

// ---- Blocks

std::optional<RowSignature> StructureFinder::BlockBits(size_t t, uint64_t row,
                                                       uint64_t column,
                                                       bool transposed) {
  std::array<int32_t, kSide * kSide> values;
  std::array<int32_t, kSide> run;
  for (uint64_t i = 0; i < kSide; ++i) {
    if (!reader_.Read(t, (row + i) * matrices_[t]->columns + column, run)) {
      return std::nullopt;
    }
    for (uint64_t j = 0; j < kSide; ++j) {
      values[transposed ? j * kSide + i : i * kSide + j] = run[j];
    }
  }
  return SignatureOf(values);
}

// Parts of `source` that have `shape`, as they are or transposed: columns, and
// of a transposed one rows, too.
void StructureFinder::AddBlocks(size_t source, const Shape& shape,
                                std::vector<Block>* blocks) {
  const uint64_t rows = shape.first;
  const uint64_t columns = shape.second;
  const Matrix& matrix = *matrices_[source];
  const auto add = [&](Order order, uint64_t row, uint64_t column) {
    if (blocks->size() == kMaxBlocks) return;
    const bool transposed = order == Order::kTransposed;
    const uint64_t down = (rows - kSide) / 2;
    const uint64_t right = (columns - kSide) / 2;
    const auto bits =
        BlockBits(source, row + (transposed ? right : down),
                  column + (transposed ? down : right), transposed);
    if (!bits) return;
    SourceView view;
    view.source = source;
    view.order = order;
    view.target_elements = rows * columns;
    view.columns = columns;
    view.source_columns = matrix.columns;
    view.row_offset = row;
    view.column_offset = column;
    blocks->push_back({source, *bits, std::move(view)});
  };
  // How many parts of `part` there are in `whole`; 0 if they do not fit.
  const auto parts = [](uint64_t whole, uint64_t part) {
    return whole % part == 0 && whole / part <= kMaxParts ? whole / part : 0;
  };
  if (matrix.rows == rows && matrix.columns != columns) {
    for (uint64_t k = 0; k < parts(matrix.columns, columns); ++k) {
      add(Order::kSame, 0, k * columns);
    }
  }
  if (matrix.rows == columns) {
    for (uint64_t k = 0; k < parts(matrix.columns, rows); ++k) {
      add(Order::kTransposed, 0, k * rows);
    }
  } else if (matrix.columns == rows) {
    for (uint64_t k = 0; k < parts(matrix.rows, columns); ++k) {
      add(Order::kTransposed, k * columns, 0);
    }
  }
}

const std::vector<StructureFinder::Block>& StructureFinder::BlocksOf(
    const Shape& shape, size_t before) {
  Blocks& known = blocks_[shape];
  for (; known.looked_at < before; ++known.looked_at) {
    if (matrices_[known.looked_at] &&
        tensors_[known.looked_at].quantized == 0 &&
        roots_[known.looked_at] == known.looked_at) {
      AddBlocks(known.looked_at, shape, &known.blocks);
    }
  }
  return known.blocks;
}

void StructureFinder::FindBlocks(size_t t,
                                 const std::function<bool(size_t)>& allowed,
                                 std::vector<Candidate>* found) {
  const auto [rows, columns] = *matrices_[t];
  if (tensors_[t].shape.size() < 2 || rows < kSide) return;
  const std::vector<Block>& blocks = BlocksOf({rows, columns}, file_begins_[t]);
  if (blocks.empty()) return;
  const auto bits =
      BlockBits(t, (rows - kSide) / 2, (columns - kSide) / 2, false);
  if (!bits) return;
  size_t compared = 0;
  for (const Block& block : blocks) {
    if (compared == kCompared) break;
    if (!AreNear(*bits, block.bits, kSignatureBits) ||
        !Comparable(t, block.tensor) || !allowed(block.tensor)) {
      continue;
    }
    ++compared;
    Propose(t, block.view, found);
  }
}

std::vector<SourceView> StructureFinder::Find(
    size_t t, const std::function<bool(size_t)>& allowed) {
  if (!matrices_[t]) return {};
  std::vector<Candidate> found;
  FindRows(t, allowed, &found);
  if (found.empty()) FindBlocks(t, allowed, &found);
  std::ranges::stable_sort(found, std::ranges::greater(), &Candidate::saved);
  std::vector<SourceView> views;
  for (Candidate& candidate : found) {
    const SourceView& view = candidate.view;
    const bool overlaps = std::ranges::any_of(views, [&](const auto& other) {
      return view.target_begin < other.target_begin + other.target_elements &&
             other.target_begin < view.target_begin + view.target_elements;
    });
    if (overlaps) continue;
    TryRelatives(t, allowed, &candidate);
    views.push_back(std::move(candidate.view));
  }
  std::ranges::sort(views, {}, &SourceView::target_begin);
  return views;
}

}  // namespace zipllm::archive
