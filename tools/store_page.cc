// The page of `zipllm store stats --html`.
#include <algorithm>

#include "tools/format.h"
#include "tools/store_stats.h"

namespace zipllm::tools {
namespace {

// Colours of light pages, then of dark ones; the parts differ in lightness too,
// for those who do not tell the hues apart.
constexpr const char kHead[] = R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>
:root {
  --page: #fff; --text: #1c2128; --faint: #5c6570; --line: #d9dee4; --card: #f5f7f9;
  --stored: #1d5c96; --deduplicated: #38a68a; --delta: #eaa13a; --derived: #b9629b; --entropy: #a9b2bc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --text: #e4e8ec; --faint: #9aa4af; --line: #333b44; --card: #1c2229;
    --stored: #6cb2f2; --deduplicated: #2f9c80; --delta: #d98f26; --derived: #b96a9f; --entropy: #66707b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem); max-width: 76rem;
  background: var(--page); color: var(--text);
  font: 15px/1.45 system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0; color: var(--faint); }
h1, h2, p, .name { overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; }
.facts dt { color: var(--faint); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.bar { display: flex; height: .9rem; border-radius: 3px; overflow: hidden; background: var(--card); }
.bar.large { height: 2rem; border-radius: 5px; }
.bar i { flex: none; border-right: 1px solid var(--page); }
.bar i:last-child { border-right: 0; }
.stored { background: var(--stored); } .deduplicated { background: var(--deduplicated); }
.delta { background: var(--delta); } .derived { background: var(--derived); }
.entropy { background: var(--entropy); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; list-style: none; padding: 0; margin: .7rem 0 0; }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .45rem; vertical-align: -1px; }
.key b { font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; font-size: .85rem; color: var(--faint); }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; width: 6.5rem; }
td.bytes { width: 32%; }
td.name { padding-left: calc(.6rem + var(--depth) * 1.3rem); }
td.name small { display: block; color: var(--faint); font-weight: 400; }
td.name.below::before { content: ""; float: left; margin: .15rem 0 0 -.95rem; width: .55rem; height: .55rem; border: solid var(--faint); border-width: 0 0 1px 1px; }
tr.family { background: var(--card); }
tr.family td { font-weight: 600; }
@media (max-width: 40rem) {
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { display: grid; grid-template-columns: repeat(3, auto) 1fr; border-bottom: 1px solid var(--line); padding: .4rem 0; }
  td { border: 0; padding: .1rem .6rem; }
  td.name, td.bytes { grid-column: 1 / -1; width: auto; }
  td.number { width: auto; text-align: left; color: var(--faint); }
  td.number:nth-child(3)::before { content: "stored in "; }
}
</style>
)";

// Text as HTML, between tags and in attributes.
std::string Html(const std::string& text) {
  std::string out;
  for (char c : Printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// Of a name, which may hold marks that turn the direction of text.
std::string Isolated(const std::string& name) {
  return "<bdi>" + Html(name) + "</bdi>";
}

// A figure and its unit, on one line.
std::string Unbroken(const std::string& figure) {
  std::string out;
  for (char c : figure) out += c == ' ' ? "&nbsp;" : std::string(1, c);
  return out;
}

uint64_t SumOfParts(const StoreStats::Savings& savings) {
  uint64_t sum = 0;
  for (const SavingsPart& part : kSavingsParts) sum += savings.*part.bytes;
  return sum;
}

std::string BarHtml(const StoreStats::Savings& savings, const char* classes) {
  const uint64_t whole = SumOfParts(savings);
  std::string parts, words;
  for (const SavingsPart& part : kSavingsParts) {
    const uint64_t bytes = savings.*part.bytes;
    if (bytes == 0) continue;
    const std::string text = std::string(part.label) + ": " +
                             HumanBytes(bytes) + ", " + Percent(bytes, whole);
    words += (words.empty() ? "" : "; ") + text;
    parts += std::string("<i class=\"") + part.key +
             Format("\" style=\"width:%.4f%%\" title=\"",
                    100.0 * static_cast<double>(bytes) /
                        static_cast<double>(whole)) +
             Html(text) + "\"></i>";
  }
  return std::string("<div class=\"") + classes + "\" role=\"img\" " +
         "aria-label=\"" + Html(words) + "\">" + parts + "</div>";
}

std::string NumberCell(const std::string& text) {
  return "<td class=\"number\">" + text + "</td>";
}

std::string SavingsCells(const StoreStats::Savings& savings) {
  return NumberCell(HumanBytes(savings.plain_bytes)) +
         NumberCell(HumanBytes(savings.stored_bytes)) +
         NumberCell(Percent(savings.stored_bytes, savings.plain_bytes)) +
         "<td class=\"bytes\">" + BarHtml(savings, "bar") + "</td></tr>\n";
}

std::string ModelRow(const StoreStats::Model& model, size_t depth) {
  constexpr size_t kMaxBases = 4;
  constexpr size_t kMaxDepth = 12;  // that is shown: lines have an end
  std::string out =
      std::string("<tr class=\"model\"><td class=\"name") +
      (depth == 0 ? "" : " below") +
      Format("\" style=\"--depth:%zu\">", std::min(depth, kMaxDepth)) +
      Isolated(model.info.name.Text());
  std::string bases;
  for (size_t i = 0; i < model.bases.size() && i < kMaxBases; ++i) {
    const auto& [base, bytes] = model.bases[i];
    bases += (i == 0 ? "" : ", ") + Isolated(base.Text()) + " (" +
             Unbroken(Percent(bytes, model.info.plain_bytes)) + ")";
  }
  if (model.bases.size() > kMaxBases) {
    bases += Format(" and %zu more", model.bases.size() - kMaxBases);
  }
  if (!bases.empty()) out += "<small>against " + bases + "</small>";
  return out + "</td>" + SavingsCells(model.savings);
}

constexpr const char kTableHead[] =
    "<div class=\"wide\"><table><thead><tr><th>Model</th>"
    "<th class=\"number\">Bytes</th><th class=\"number\">Stored</th>"
    "<th class=\"number\">Ratio</th><th>Where the bytes went</th></tr></thead>"
    "<tbody>\n";
constexpr const char kTableEnd[] = "</tbody></table></div>\n";

std::string FamiliesHtml(const StoreStats& stats) {
  std::string families, alone;
  for (const StoreStats::Family& family : stats.families) {
    if (family.models.size() == 1) {
      alone += ModelRow(stats.models[family.models.front()], 0);
      continue;
    }
    families +=
        "<tr class=\"family\"><td class=\"name\" style=\"--depth:0\">"
        "Family of " +
        Isolated(family.root.name) +
        Format("<small>%zu models</small></td>", family.models.size()) +
        SavingsCells(family.savings);
    for (const TreeRow& row : FamilyTree(stats, family)) {
      families += ModelRow(stats.models[row.model], row.depth + 1);
    }
  }
  std::string out;
  if (!families.empty()) {
    out +=
        "<h2>Families</h2>\n<p>Below each model those that are coded "
        "against it.</p>\n" +
        (kTableHead + families) + kTableEnd;
  }
  if (!alone.empty()) {
    out += (families.empty() ? "<h2>Models</h2>\n"
                             : "<h2>Models without relations</h2>\n") +
           (kTableHead + alone) + kTableEnd;
  }
  return out;
}

std::string Fact(const char* label, const std::string& value) {
  return std::string("<div><dt>") + label + "</dt><dd>" + value +
         "</dd></div>\n";
}

}  // namespace

std::string StatsPage(const std::string& store, const StoreStats& stats) {
  const StoreStats::Savings& total = stats.total;
  std::string out = kHead;
  out += "<title>" + Html(store) + ": zipllm store</title>\n</head>\n<body>\n" +
         "<h1>Model store</h1>\n<p>" + Isolated(store) + ", " +
         Counted(stats.packs, "pack") + " of " +
         Unbroken(HumanBytes(stats.pack_bytes)) + "</p>\n" +
         "<dl class=\"facts\">\n" +
         Fact("Models", HumanCount(stats.models.size())) +
         Fact("Families", HumanCount(stats.families.size())) +
         Fact("Bytes in", HumanBytes(total.plain_bytes)) +
         Fact("Stored", HumanBytes(total.stored_bytes)) +
         Fact("Of bytes in", Percent(total.stored_bytes, total.plain_bytes)) +
         Fact("Not needed", HumanBytes(stats.dead_bytes)) + "</dl>\n" +
         "<h2>Where the bytes went</h2>\n" + BarHtml(total, "bar large") +
         "\n<ul class=\"key\">\n";
  for (const SavingsPart& part : kSavingsParts) {
    const uint64_t bytes = total.*part.bytes;
    out += std::string("<li><i class=\"") + part.key + "\"></i>" + part.label +
           " <b>" + HumanBytes(bytes) + "</b> " +
           Percent(bytes, SumOfParts(total)) + "</li>\n";
  }
  return out + "</ul>\n" + FamiliesHtml(stats) + "</body>\n</html>\n";
}

}  // namespace zipllm::tools
