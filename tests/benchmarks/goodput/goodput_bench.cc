// How much of what a pool's keys allow is served, and how many requests are
// refused for it: this library and others in one simulation, against an oracle.
//
//   goodput_bench             the whole table: every cell, an hour, three seeds
//                             (one for others than keyrotator's default and in
//                             cells where they differ less)
//   goodput_bench --telling   only the cells in which contenders differ
//   goodput_bench --check     a few cells, one seed; exits with 1 if what must
//                             hold does not
//   goodput_bench --outages   only what becomes of requests while the provider
//                             fails; a part of it belongs to --check
//   goodput_bench --fleet 1,4,32   only fleets of so many processes with the
//                             same keys; a part of it belongs to --check
// and with each of them
//   --batches    only the batches
//   --svg FILE                a plot of the telling cells
//   --cell TEXT, --contender TEXT   only those with that in their name, and
//                             no outages
//   --seeds N, --seconds N    other than an hour and three
// and with --fleet
//   --split equal|one|moving  how the requests come to the processes: to any;
//                             80 % to one; to one that changes every minute
//   --fault TEXT              something goes wrong that has that in its name:
//                             see Faults()
//
// Columns: served, of what the oracle serves (tokens where these are limited);
// 429s per served request; requests that failed beyond the oracle's, of all;
// how long those served waited; Jain's index over equal organisations; sessions
// that kept their key; time of the processor. While the provider fails: sends
// that reach it for each request that arrives in that time; how many of these
// are served in the end, and of the requests beside; how long after it the first
// success comes. Of fleets: what the worst process serves of what it was asked
// for, as a part of the mean.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/benchmarks/goodput/cells.h"
#include "tests/benchmarks/goodput/figures.h"
#include "tests/benchmarks/goodput/fleet.h"
#include "tests/benchmarks/goodput/outages.h"
#include "tests/benchmarks/goodput/report.h"

namespace keyrotator::goodput {
namespace {

struct Options {
  bool telling = false;
  bool check = false;
  bool outages = false;
  bool batches = false;
  std::string cell;
  std::string contender;
  std::string svg;
  std::size_t seeds = 0;  // 0: as it is
  double seconds = 0;     // 0: as it is
  std::vector<std::size_t> fleet;
  Split split = Split::kEqual;
  std::string fault;
};

std::vector<Row> MakeRows(const Options& options) {
  std::vector<Row> rows;
  const auto add = [&](Cell cell, const Entry& entry, Kind kind,
                       std::size_t seeds) {
    if (cell.name.find(options.cell) == std::string::npos ||
        entry.name.find(options.contender) == std::string::npos)
      return;
    // A hundred refusals for each request served take minutes.
    if (kind == Kind::kOther && cell.pool.keys.size() > 100 &&
        entry.name == "ordered fallback")
      return;
    for (const Row& row : rows) {
      if (row.cell.name == cell.name && row.entry.name == entry.name) return;
    }
    if (options.seconds > 0) cell.seconds = options.seconds;
    rows.push_back({std::move(cell), entry, kind,
                    options.seeds > 0 ? options.seeds : seeds});
  };
  if (!options.batches)
    add(AffinityCell(), ByAffinity(), Kind::kOurs, options.check ? 1 : 3);
  for (const Cell& cell : BatchCells())
    add(cell, ByHeadroom(), Kind::kOurs, options.check ? 1 : 3);
  for (const Cell& cell : MixedCells()) {
    add(cell, ByHeadroom(), Kind::kOurs, options.check ? 1 : 3);
    if (!options.check) add(cell, WithoutPriorities(), Kind::kVariant, 1);
  }
  if (options.batches) return rows;
  if (options.check) {
    for (const Cell& cell : CheckedCells())
      add(cell, ByHeadroom(), Kind::kOurs, 1);
    return rows;
  }
  const auto add_all = [&](const Cell& cell, std::size_t seeds) {
    add(cell, ByHeadroom(), Kind::kOurs, 3);
    add(cell, InTurn(), Kind::kOurs, seeds);
    for (const Entry& entry : OtherEntries())
      add(cell, entry, Kind::kOther, seeds);
  };
  for (const Cell& cell : TellingCells()) {
    add_all(cell, 3);
    for (const Entry& entry : OtherPolicies())
      add(cell, entry, Kind::kVariant, 1);
  }
  for (const Ablation& ablation : Ablations()) {
    for (const Cell& cell : ablation.cells)
      add(cell, ablation.entry, Kind::kVariant, 1);
  }
  if (options.telling) return rows;
  for (const Cell& cell : AllCells()) add_all(cell, 1);
  return rows;
}

// Each row and seed for itself, on all cores.
template <class AnyRow, class Measurer>
void Run(std::vector<AnyRow>& rows, const Measurer& measure) {
  struct Job {
    AnyRow* row = nullptr;
    std::uint64_t seed = 1;
    decltype(AnyRow::figures) figures = {};
  };
  std::vector<Job> jobs;
  for (AnyRow& row : rows) {
    for (std::size_t seed = 1; seed <= row.seeds; ++seed)
      jobs.push_back({&row, seed});
  }
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++)
      jobs[i].figures = measure(*jobs[i].row, jobs[i].seed);
  };
  std::vector<std::jthread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i)
    threads.emplace_back(work);
  work();
  threads.clear();
  for (const Job& job : jobs) job.row->figures.Add(job.figures);
}

void JudgeAll(std::vector<Row>& rows) {
  for (Row& row : rows) {
    if (row.kind != Kind::kOurs) continue;
    double others = 0;
    for (const Row& other : rows) {
      if (other.kind == Kind::kOther && other.cell.name == row.cell.name)
        others = std::max(others, other.figures.first_share);
    }
    row.faults = Judge(row.cell, row.figures, others);
  }
}

// The telling cells alone, and nobody's variants.
std::string PlotOf(const std::vector<Row>& rows) {
  const std::vector<Cell> telling = TellingCells();
  std::vector<Row> shown;
  for (const Row& row : rows) {
    const bool tells = std::any_of(
        telling.begin(), telling.end(),
        [&](const Cell& cell) { return cell.name == row.cell.name; });
    if (tells && row.kind != Kind::kVariant) shown.push_back(row);
  }
  std::vector<std::string> names = {ByHeadroom().name, InTurn().name};
  for (const Entry& entry : OtherEntries()) names.push_back(entry.name);
  return Plot(
      shown, names,
      fmt::format("A dot for each of {} kinds of pool, provider and load",
                  telling.size()));
}

FleetTable RunFleet(const Options& options) {
  std::vector<FleetRow> rows;
  for (const Cell& cell : FleetCells()) {
    if (cell.name.find(options.cell) == std::string::npos) continue;
    for (const std::size_t processes : options.fleet) {
      for (const FleetEntry& entry : FleetEntries()) {
        if (entry.name.find(options.contender) == std::string::npos) continue;
        for (const Fault& fault : Faults()) {
          if (fault.name.empty() != options.fault.empty() ||
              fault.name.find(options.fault) == std::string::npos)
            continue;
          FleetRow& row = rows.emplace_back();
          row.cell = cell;
          row.entry = entry;
          row.options = {processes, options.split, fault};
          row.seeds = std::max<std::size_t>(options.seeds, 1);
          if (options.seconds > 0) row.cell.seconds = options.seconds;
        }
      }
    }
  }
  if (options.check) rows = CheckedFleetRows();
  Run(rows, [](const FleetRow& row, std::uint64_t seed) {
    return MeasureFleet(row.cell, row.entry, row.options, seed);
  });
  return TableOf(rows);
}

int Main(const Options& options) {
  if (!options.fleet.empty()) {
    const FleetTable fleet = RunFleet(options);
    fmt::print("{}", fleet.text);
    return EXIT_SUCCESS;
  }
  const bool some = !options.cell.empty() || !options.contender.empty();
  OutageTable outages;
  if (options.outages || (options.check && !some))
    outages = RunOutages(/*checked_only=*/!options.outages);
  if (options.outages) {
    fmt::print("{}{} fall short\n", outages.text, outages.faults);
    return outages.faults > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
  }
  const auto begin = std::chrono::steady_clock::now();
  FleetTable fleet;
  if (options.check && !some) fleet = RunFleet(options);
  std::vector<Row> rows = MakeRows(options);
  Run(rows, [](const Row& row, std::uint64_t seed) {
    return Measure(row.cell, row.entry, seed);
  });
  JudgeAll(rows);
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    return std::tie(a.cell.name, a.kind) < std::tie(b.cell.name, b.kind);
  });

  std::string table = TableHead();
  std::size_t faults = outages.faults + fleet.faults;
  double cpu = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i == 0 || rows[i].cell.name != rows[i - 1].cell.name)
      table += rows[i].cell.name + "\n";
    table += TableRow(rows[i]);
    if (!rows[i].faults.empty() && !rows[i].cell.bound) ++faults;
    cpu += rows[i].figures.cpu;
  }
  table += outages.text + fleet.text;
  fmt::print(
      "{}{} rows, {} fall short; {:.1f} s, {:.1f} s of the processor\n", table,
      rows.size(), faults,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
          .count(),
      cpu);
  if (!options.svg.empty()) {
    std::ofstream file(options.svg);
    file << PlotOf(rows);
    if (!file.flush()) {
      fmt::print(stderr, "cannot write {}\n", options.svg);
      return EXIT_FAILURE;
    }
  }
  return options.check && faults > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace
}  // namespace keyrotator::goodput

namespace {

// "1,4,32"; empty where that is not what it is.
std::vector<std::size_t> Numbers(std::string_view text) {
  std::vector<std::size_t> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::size_t number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    if (error != std::errc() || number == 0) return {};
    numbers.push_back(number);
    if (after == end) return numbers;
    if (*after != ',') return {};
    at = after + 1;
  }
}

// Those of that name, or nothing.
std::optional<keyrotator::goodput::Split> SplitOf(std::string_view name) {
  using enum keyrotator::goodput::Split;
  for (const auto split : {kEqual, kOne, kMoving}) {
    if (name == ToString(split)) return split;
  }
  return std::nullopt;
}

}  // namespace

int main(int argc, char** argv) {
  keyrotator::goodput::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--telling") {
      options.telling = true;
      continue;
    }
    if (argument == "--batches") {
      options.batches = true;
      continue;
    }
    if (argument == "--check") {
      options.check = true;
      continue;
    }
    if (argument == "--outages") {
      options.outages = true;
      continue;
    }
    ++i;  // the others have a value
    if (argument == "--cell" && !value.empty()) {
      options.cell = value;
    } else if (argument == "--contender" && !value.empty()) {
      options.contender = value;
    } else if (argument == "--fleet" && !Numbers(value).empty()) {
      options.fleet = Numbers(value);
    } else if (argument == "--split" && SplitOf(value)) {
      options.split = *SplitOf(value);
    } else if (argument == "--fault" && !value.empty()) {
      options.fault = value;
    } else if (argument == "--svg" && !value.empty()) {
      options.svg = value;
    } else if (argument == "--seeds" && !value.empty()) {
      options.seeds = std::strtoul(value.c_str(), nullptr, 10);
    } else if (argument == "--seconds" && !value.empty()) {
      options.seconds = std::strtod(value.c_str(), nullptr);
    } else {
      fmt::print(stderr, "{}: unknown, or without its value\n", argument);
      return EXIT_FAILURE;
    }
  }
  return keyrotator::goodput::Main(options);
}
