// The page of `zipllm store stats --html`, looked at by a browser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <regex>
#include <sstream>

#include "run_command.h"
#include "tools/store_stats.h"

namespace zipllm::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kHostileName[] = "<script>document.title='owned'</script>";
constexpr char kHostileRevision[] = "\"><img src=x onerror=alert(1)>&amp;";

class Example {
 public:
  // Models whose bytes are all accounted for; what is not saved is stored.
  void Add(size_t family, ModelName name, uint64_t deduplicated, uint64_t delta,
           uint64_t derived, uint64_t entropy,
           std::vector<std::pair<ModelName, uint64_t>> bases = {}) {
    StoreStats::Model model;
    model.info.name = std::move(name);
    model.info.plain_bytes = kPlain;
    model.family = family;
    model.savings = {
        .plain_bytes = kPlain,
        .deduplicated = deduplicated,
        .delta = delta,
        .derived = derived,
        .entropy = entropy,
        .stored_bytes = kPlain - deduplicated - delta - derived - entropy};
    model.bases = std::move(bases);
    stats.families.resize(std::max(stats.families.size(), family + 1));
    if (stats.families[family].models.empty()) {
      stats.families[family].root = model.info.name;
    }
    stats.families[family].models.push_back(stats.models.size());
    for (StoreStats::Savings* sum :
         {&stats.families[family].savings, &stats.total}) {
      sum->plain_bytes += kPlain;
      for (const SavingsPart& part : kSavingsParts) {
        sum->*part.bytes += model.savings.*part.bytes;
      }
    }
    stats.models.push_back(std::move(model));
  }
  static constexpr uint64_t kPlain = 1'000'000;
  StoreStats stats;
};

StoreStats Stats() {
  Example example;
  const ModelName base = {"org/base", "main"}, tune = {"org/tune", "v1"};
  example.Add(0, base, 0, 0, 0, 300'000);
  example.Add(0, {"org/tune", "v2"}, 100'000, 600'000, 0, 50'000,
              {{base, 200'000}, {tune, 700'000}});
  example.Add(0, tune, 0, 750'000, 0, 50'000, {{base, 1'000'000}});
  example.Add(0, {"org/quant", "main"}, 0, 0, 900'000, 0, {{base, 1'000'000}});
  example.Add(1, {kHostileName, kHostileRevision}, 1'000'000, 0, 0, 0);
  return example.stats;
}

TEST(FamilyTreeTest, ModelsStandBelowWhatMostOfThemIsCodedAgainst) {
  const StoreStats stats = Stats();
  std::vector<std::pair<std::string, size_t>> rows;
  for (const TreeRow& row : FamilyTree(stats, stats.families[0])) {
    rows.emplace_back(stats.models[row.model].info.name.Text(), row.depth);
  }
  EXPECT_THAT(rows, testing::ElementsAre(testing::Pair("org/base@main", 0),
                                         testing::Pair("org/tune@v1", 1),
                                         testing::Pair("org/tune@v2", 2),
                                         testing::Pair("org/quant@main", 1)));
}

TEST(FamilyTreeTest, CirclesAndLostRootsEnd) {
  Example example;
  const ModelName a = {"a", "main"}, b = {"b", "main"}, c = {"c", "main"};
  example.Add(0, a, 0, 0, 0, 0, {{b, 1}});
  example.Add(0, b, 0, 0, 0, 0, {{a, 1}});
  example.Add(0, c, 0, 0, 0, 0, {{c, 1}, {{"gone", "main"}, 5}});
  for (const ModelName& root : {a, b, ModelName{"gone", "main"}}) {
    example.stats.families[0].root = root;
    std::set<size_t> seen;
    const auto rows = FamilyTree(example.stats, example.stats.families[0]);
    for (const TreeRow& row : rows) seen.insert(row.model);
    EXPECT_EQ(rows.size(), 3u) << root.name;
    EXPECT_EQ(seen.size(), 3u) << root.name;
  }
}

TEST(StatsPageTest, NamesAreTextAndNothingIsFetched) {
  const std::string page = StatsPage("/srv/<b>", Stats());
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_THAT(page, Not(HasSubstr("<b>/")));
  EXPECT_THAT(page, Not(HasSubstr("http://")));
  EXPECT_THAT(page, Not(HasSubstr("https://")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;document.title=&#39;owned&#39;"));
  EXPECT_THAT(page, HasSubstr("&amp;amp;"));
}

TEST(StatsPageTest, AnEmptyStoreHasAPage) {
  const std::string page = StatsPage("store", {});
  EXPECT_THAT(page, HasSubstr("</html>"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
}

// Runs the browser; its standard output and error are files in `folder`.
int Browse(const TemporaryFolder& folder, const std::string& arguments) {
  const std::string command =
      "HOME='" + (folder / "home") +
      "' chromium-headless-shell --no-sandbox --disable-gpu "
      "--hide-scrollbars --enable-logging=stderr " +
      arguments + " 'file://" + (folder / "page.html") + "' >'" +
      (folder / "dom") + "' 2>'" + (folder / "log") + "'";
  return std::system(command.c_str());
}

// Measured by a script that stands before the page's own policy, and tells the
// console of what is forbidden later.
constexpr char kProbe[] = R"(<script>
addEventListener('securitypolicyviolation', e => console.error(e.violatedDirective));
addEventListener('load', () => {
  let out = 'title|' + document.title + '|overflow|' +
      (document.documentElement.scrollWidth - innerWidth) + '\n';
  for (const row of document.querySelectorAll('tr.model, tr.family')) {
    out += row.className + '|' + row.querySelector('bdi').textContent;
    const bar = row.querySelector('.bar');
    for (const part of bar.children) {
      out += '|' + part.className + '|' +
          part.getBoundingClientRect().width / bar.getBoundingClientRect().width;
    }
    out += '\n';
  }
  document.body.textContent = 'PROBE\n' + out + 'END';
});
</script>)";

class BrowserTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v chromium-headless-shell >/dev/null") != 0) {
      GTEST_SKIP() << "no chromium-headless-shell (Debian package of that "
                      "name)";
    }
  }

  // The lines of the probe, split at '|'.
  std::vector<std::vector<std::string>> Probe(int width) {
    std::string page = StatsPage("/srv/models", Stats());
    const size_t head = page.find("<head>") + 6;
    page.insert(head, kProbe);
    WriteFile(folder_ / "page.html", page);
    EXPECT_EQ(Browse(folder_, "--dump-dom --window-size=" +
                                  std::to_string(width) + ",900"),
              0);
    EXPECT_THAT(ReadFile(folder_ / "log"), Not(HasSubstr("CONSOLE")));
    std::string dom = ReadFile(folder_ / "dom");
    dom.erase(0, dom.find("PROBE\n") + 6);
    dom.erase(dom.find("END"));
    std::vector<std::vector<std::string>> lines;
    std::istringstream in(dom);
    for (std::string line, cell; std::getline(in, line);) {
      std::istringstream cells(line);
      lines.emplace_back();
      while (std::getline(cells, cell, '|')) lines.back().push_back(cell);
    }
    return lines;
  }

  TemporaryFolder folder_;
};

TEST_F(BrowserTest, BarsHaveTheWidthsOfTheirBytes) {
  for (const int width : {1200, 500}) {
    const auto lines = Probe(width);
    const StoreStats stats = Stats();
    ASSERT_EQ(lines.size(), 7u);  // the head, a family, its models, one alone
    EXPECT_EQ(lines[0][1], "/srv/models: zipllm store");
    EXPECT_LE(std::stod(lines[0][3]), 0) << "wider than the window";
    EXPECT_EQ(lines[1][0], "family");
    EXPECT_EQ(lines[1][1], "org/base");
    const std::vector<size_t> order = {0, 2, 1, 3, 4};
    for (size_t i = 0; i < lines.size() - 1; ++i) {
      const std::vector<std::string>& line = lines[i + 1];
      const StoreStats::Savings& savings =
          i == 0 ? stats.families[0].savings
                 : stats.models[order[i - 1]].savings;
      std::map<std::string, double> widths;
      for (size_t k = 2; k + 1 < line.size(); k += 2) {
        widths[line[k]] = std::stod(line[k + 1]);
      }
      for (const SavingsPart& part : kSavingsParts) {
        const double share = static_cast<double>(savings.*part.bytes) /
                             static_cast<double>(savings.plain_bytes);
        EXPECT_NEAR(widths[part.key], share, 0.005)
            << line[1] << ", " << part.key << " at width " << width;
      }
    }
    // As the browser shows it, escaped by --dump-dom again.
    EXPECT_THAT(lines[6][1], HasSubstr("&lt;script&gt;document.title='owned'"));
  }
}

TEST_F(BrowserTest, LightAndDarkScreensShowColours) {
  WriteFile(folder_ / "page.html", StatsPage("/srv/models", Stats()));
  std::vector<std::string> pictures;
  for (const std::string scheme : {"0", "1"}) {
    const std::string picture = folder_ / ("screen" + scheme + ".png");
    ASSERT_EQ(Browse(folder_,
                     "--window-size=900,700 --screenshot='" + picture +
                         "' --blink-settings=preferredColorScheme=" + scheme),
              0);
    EXPECT_THAT(ReadFile(folder_ / "log"), Not(HasSubstr("CONSOLE")));
    pictures.push_back(ReadFile(picture));
    // A blank page of this size takes less than 4 KB.
    EXPECT_GT(pictures.back().size(), 20'000u);
    EXPECT_EQ(pictures.back().substr(1, 3), "PNG");
  }
  EXPECT_NE(pictures[0], pictures[1]);
}

}  // namespace
}  // namespace zipllm::tools
