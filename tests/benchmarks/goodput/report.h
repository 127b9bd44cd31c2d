// File: report.h
//
// The figures as a table, and as a plot.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_REPORT_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_REPORT_H_

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/benchmarks/goodput/figures.h"

namespace keyrotator::goodput {

enum class Kind { kOurs, kOther, kVariant };

// A row of the table.
struct Row {
  Cell cell;
  Entry entry;
  Kind kind = Kind::kVariant;
  std::size_t seeds = 1;
  Figures figures = {};
  std::string faults = {};  // what falls short
};

inline std::string TableHead() {
  return fmt::format(
      "  {:<30}{:>8}{:>10}{:>9}{:>7}{:>7}{:>8}{:>7}{:>7}{:>15}{:>15}\n", "",
      "served", "429s", "failed+", "p50 s", "p99 s", "Jain", "kept", "cpu s",
      "mean / oracle", "last / oracle");
}

inline std::string TableRow(const Row& row) {
  const Figures& figures = row.figures;
  return fmt::format(
      "  "
      "{:<30}{:8.4f}{:10.4f}{:9.4f}{:7.1f}{:7.1f}{:8.4f}{:7.3f}{:7.2f}{:8.2f} "
      "/{:5.2f}{:8.2f} /{:5.2f}{}{}{}\n",
      row.entry.name, figures.Share(), figures.Waste(), figures.FailedBeyond(),
      figures.p50, figures.p99, figures.jain, figures.kept, figures.cpu,
      figures.mean, figures.oracle_mean, figures.last, figures.oracle_last,
      row.cell.interactive > 0
          ? fmt::format("  people {:.2f} s", figures.people_p99)
          : "",
      row.faults.empty() ? ""
      : row.cell.bound   ? "  bound: "
                         : "  SHORT: ",
      row.faults);
}

// --- The plot: a dot for each contender and cell ---

namespace plot {

inline constexpr double kLabels = 196;
inline constexpr double kPanel = 240;
inline constexpr double kGap = 56;
inline constexpr double kLine = 30;
inline constexpr double kTop = 62;

struct Axis {
  double left;
  std::vector<std::pair<double, const char*>> ticks;  // 0 to 1, and its text
  const char* title = "";
};

// Served less than this stands at the left edge.
inline constexpr double kLeastServed = 0.8;
inline double ServedAt(double share) {
  return std::clamp((share - kLeastServed) / (1 - kLeastServed), 0.0, 1.0);
}
// From 0.001 to 1000, a decade a sixth; less stands at the left edge.
inline double WasteAt(double waste) {
  return std::clamp((std::log10(std::max(waste, 1e-9)) + 3) / 6, 0.0, 1.0);
}

inline std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char letter : text) {
    if (letter == '&') {
      escaped += "&amp;";
    } else if (letter == '<') {
      escaped += "&lt;";
    } else {
      escaped += letter;
    }
  }
  return escaped;
}

}  // namespace plot

// Plain SVG that follows the reader's light or dark scheme. `rows` are those of
// the contenders, in any order; they are shown in the order of `names`.
inline std::string Plot(const std::vector<Row>& rows,
                        const std::vector<std::string>& names,
                        std::string_view title) {
  using namespace plot;
  const double width = kLabels + 2 * kPanel + kGap + 24;
  const double bottom = kTop + kLine * static_cast<double>(names.size());
  const std::vector<Axis> axes = {{kLabels,
                                   {{0, "&#8804; 0.8"}, {0.5, "0.9"}, {1, "1"}},
                                   "served, of what an oracle serves"},
                                  {kLabels + kPanel + kGap,
                                   {{0, "&#8804; 0.001"},
                                    {1.0 / 3, "0.1"},
                                    {0.5, "1"},
                                    {2.0 / 3, "10"},
                                    {1, "1000"}},
                                   "429s per served request"}};
  std::string svg;
  const auto out = std::back_inserter(svg);
  fmt::format_to(
      out,
      R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" font-family="system-ui, sans-serif" font-size="12">
<title>{2}</title>
<style>
text {{ fill: #1f2328 }} .grid {{ stroke: #d0d7de }} .dot {{ fill: #6e7781; fill-opacity: .55 }} .ours {{ fill: #0969da; fill-opacity: .75 }} .name {{ font-weight: 600 }}
@media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .grid {{ stroke: #3d444d }} .dot {{ fill: #9198a1 }} .ours {{ fill: #4493f8 }} }}
</style>
<text x="0" y="14">{2}</text>
)",
      width, bottom + 26, Escape(title));
  for (const Axis& axis : axes) {
    fmt::format_to(out, "<text x=\"{:.0f}\" y=\"40\">{}</text>\n", axis.left,
                   axis.title);
    for (const auto& [at, text] : axis.ticks) {
      const double x = axis.left + at * kPanel;
      fmt::format_to(out,
                     "<path class=\"grid\" d=\"M{0:.1f} {1:.0f}V{2:.0f}\"/>"
                     "<text x=\"{0:.1f}\" y=\"{3:.0f}\" "
                     "text-anchor=\"middle\">{4}</text>\n",
                     x, kTop - 12, bottom, bottom + 16, text);
    }
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double y = kTop + kLine * (static_cast<double>(i) + 0.35);
    const auto first = std::find_if(
        rows.begin(), rows.end(),
        [&](const Row& row) { return row.entry.name == names[i]; });
    if (first == rows.end()) continue;
    const bool ours = first->kind == Kind::kOurs;
    fmt::format_to(out, "<text{} x=\"0\" y=\"{:.1f}\">{}</text>\n",
                   ours ? " class=\"name\"" : "", y + 4, Escape(names[i]));
    for (const Row& row : rows) {
      if (row.entry.name != names[i]) continue;
      const double share = row.figures.Share();
      const double waste = row.figures.Waste();
      for (const double x : {axes[0].left + kPanel * ServedAt(share),
                             axes[1].left + kPanel * WasteAt(waste)}) {
        fmt::format_to(out,
                       "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" "
                       "r=\"4\"><title>{}: served {:.3f}, 429s "
                       "{:.3g}</title></circle>\n",
                       ours ? "ours" : "dot", x, y, Escape(row.cell.name),
                       share, waste);
      }
    }
  }
  svg += "</svg>\n";
  return svg;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_REPORT_H_
