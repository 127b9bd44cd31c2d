// File: outages.h
//
// What becomes of requests, and of the provider, while it fails: how much is
// sent to it, what is served all the same, and how soon it goes on afterwards.
// Limits hardly matter here, so no oracle is asked.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_OUTAGES_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_OUTAGES_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/benchmarks/goodput/cells.h"
#include "tests/benchmarks/goodput/contenders.h"
#include "tests/benchmarks/goodput/provider.h"
#include "tests/benchmarks/goodput/simulation.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

// A kind of trouble, and what must hold in it.
struct Outage {
  std::string name;
  double per_second = 0;  // requests
  Trouble trouble = {};
  double seconds = 60;  // of the whole
  // At most so many sends for each request that arrives in the trouble.
  double most_sends = 3;
  // At least so much is served in the end of what arrives in it.
  double least_served = 0;
  // A success comes at most so many seconds after it.
  double most_recovered = 1e9;
};

struct OutageFigures {
  double requests = 0;       // that arrived in the trouble
  double sends = 0;          // that reached the provider in it, per request
  double served = 0;         // of them, in the end
  double served_beside = 1;  // of those that arrived before or after
  double recovered = 0;      // s after it until the first success
};

inline Cell CellOf(const Outage& outage) {
  // A fifth of the limits is spare, or more.
  const double spare = std::max(1.25, 8 / outage.per_second);
  Cell cell = MakeCell(
      KeysOf("8 keys", std::vector<Quota>(8, {.requests = outage.per_second *
                                                          60 / 8 * spare})),
      Style::kOpenAI, 1 / spare, false);
  cell.provider.trouble = outage.trouble;
  cell.seconds = outage.seconds;
  return cell;
}

inline OutageFigures MeasureOutage(const Outage& outage, const Entry& entry,
                                   std::uint64_t seed) {
  const Cell cell = CellOf(outage);
  const std::vector<Request> requests = MakeRequests(cell, seed);
  Simulation simulation(cell, requests, seed);
  simulation.Run(*entry.make(simulation, seed));

  OutageFigures figures;
  const Nanos end = kStart + FromSeconds(outage.trouble.end);
  double served = 0;
  double beside = 0;
  double served_beside = 0;
  Nanos recovered = internal::kNever;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Fate& fate = simulation.fates()[i];
    if (simulation.provider().IsInTrouble(requests[i].arrival)) {
      ++figures.requests;
      if (fate.served) ++served;
    } else {
      ++beside;
      if (fate.served) ++served_beside;
    }
    // One that was under way when it began is no sign.
    if (fate.served && fate.sent + 50 * kMillisecond >= end)
      recovered = std::min(recovered, fate.ended);
  }
  figures.sends =
      static_cast<double>(simulation.provider().asked_in_trouble()) /
      figures.requests;
  figures.served = served / figures.requests;
  if (beside > 0) figures.served_beside = served_beside / beside;
  figures.recovered = ToSeconds(recovered - end);
  return figures;
}

// What falls short, or nothing.
inline std::string JudgeOutage(const Outage& outage,
                               const OutageFigures& figures) {
  std::string faults;
  if (figures.sends > outage.most_sends)
    faults += fmt::format(" sends > {}", outage.most_sends);
  if (figures.served < outage.least_served)
    faults += fmt::format(" served < {}", outage.least_served);
  if (figures.recovered > outage.most_recovered)
    faults += fmt::format(" first success > {} s", outage.most_recovered);
  return faults;
}

// The first of them take seconds, and are checked with each change.
inline constexpr std::size_t kCheckedOutages = 7;
inline std::vector<Outage> Outages() {
  const auto down = [](double begin, double end) {
    return Trouble{.begin = begin, .end = end};
  };
  const auto lost = [&](double begin, double end) {
    Trouble trouble = down(begin, end);
    trouble.lost = true;
    return trouble;
  };
  const auto part = [&](double share, double end) {
    return Trouble{.end = end, .share = share};
  };
  // One that never served, and one that did.
  const auto key = [](double begin, double end) {
    return Trouble{.begin = begin, .end = end, .keys = 1};
  };
  return {
      {"down for 60 s, 200/s", 200, down(15, 75), 90, 1.15, 0, 1},
      {"lost connections for 60 s, 200/s", 200, lost(15, 75), 90, 1.15, 0, 1},
      {"down for 1 s, 200/s", 200, down(15, 16), 30, 3, 1, 1},
      {"30 % fail, 200/s", 200, part(0.3, 30), 30, 1.45, 0.97},
      {"1 of 8 keys fails, in turn, 200/s", 200, key(0, 30), 30, 1.3, 0.85},
      {"1 of 8 keys begins to fail, 200/s", 200, key(10, 40), 40, 1.3, 0.85},
      {"2 % fail, 0.2/s", 0.2, part(0.02, 7200), 7200, 1.1, 1},
      {"down for 60 s, 1,000/s", 1000, down(30, 90), 120, 1.15, 0, 1},
      {"lost connections for 60 s, 1,000/s", 1000, lost(30, 90), 120, 1.15, 0,
       1},
      // The floor weighs more where there is less to do.
      {"down for 60 s, 8/s", 8, down(30, 90), 120, 1.25, 0, 2},
      {"down for 10 s, 1,000/s", 1000, down(30, 40), 60, 1.5, 0, 1},
      {"30 % fail, 1,000/s", 1000, part(0.3, 60), 60, 1.45, 0.97},
      {"30 % fail, 8/s", 8, part(0.3, 600), 600, 1.45, 0.97},
      {"60 % fail, 1,000/s", 1000, part(0.6, 60), 60, 1.3, 0.45},
      {"90 % fail, 1,000/s", 1000, part(0.9, 60), 60, 1.15, 0.1},
  };
}

inline Entry WithoutBudget() {
  Rules rules;
  rules.budget.ratio = std::numeric_limits<double>::infinity();
  return OursWith<MostHeadroom>("the same without a budget", rules);
}

struct OutageTable {
  std::string text;
  std::size_t faults = 0;
};

// With `checked_only` those alone that are checked with each change, and of the
// library as it is alone.
inline OutageTable RunOutages(bool checked_only) {
  OutageTable table;
  table.text = fmt::format("{:<38}{:>10}{:>9}{:>9}{:>9}\n", "while it fails",
                           "sends", "served", "beside", "first s");
  const std::vector<Outage> outages = Outages();
  for (std::size_t i = 0; i < outages.size(); ++i) {
    if (checked_only && i >= kCheckedOutages) break;
    const Outage& outage = outages[i];
    table.text += outage.name + "\n";
    const auto add = [&](const Entry& entry, bool is_held) {
      const OutageFigures figures = MeasureOutage(outage, entry, 1);
      const std::string faults =
          is_held ? JudgeOutage(outage, figures) : std::string();
      if (!faults.empty()) ++table.faults;
      table.text += fmt::format(
          "  {:<36}{:10.4f}{:9.4f}{:9.4f}{:>9}{}{}\n", entry.name,
          figures.sends, figures.served, figures.served_beside,
          outage.most_recovered < 1e9 ? fmt::format("{:.2f}", figures.recovered)
                                      : "",
          faults.empty() ? "" : "  SHORT:", faults);
    };
    // MostHeadroom knows no limit of a key that never served, takes it for full
    // and prefers it. So it is not held to what must be then.
    const bool unknown = outage.trouble.keys == 1 && outage.trouble.begin == 0;
    if (!checked_only || !unknown) add(ByHeadroom(), !unknown);
    if (!checked_only || unknown) add(InTurn(), true);
    if (!checked_only) add(WithoutBudget(), false);
  }
  return table;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_OUTAGES_H_
