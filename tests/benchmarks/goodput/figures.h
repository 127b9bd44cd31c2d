// File: figures.h
//
// What is measured of a contender in a cell, and what the library must reach.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FIGURES_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FIGURES_H_

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "tests/benchmarks/goodput/contenders.h"
#include "tests/benchmarks/goodput/oracle.h"
#include "tests/benchmarks/goodput/simulation.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

// Sums over the seeds, and the worst of what cannot be summed.
struct Figures {
  double requests = 0;
  double served = 0;         // requests, or tokens where these are limited
  double oracle_served = 0;  // the same
  double served_requests = 0;
  double refused = 0;  // answers 429
  double failed = 0;   // requests
  double oracle_failed = 0;
  double late = 0;  // waited, or failed, where the oracle served at once
  double p50 = 0;   // s, of those served; the mean over the seeds
  double p99 = 0;
  double people_p99 = 0;   // of those that are not of a batch
  double mean = 0;         // the same, and the oracle's
  double oracle_mean = 0;  //
  double last = 0;         // the longest wait of those served, and the oracle's
  double oracle_last = 0;  //
  double jain = 1;         // the least; 1 where the keys are not equal
  double kept = 1;         // the least part of the sessions of sound keys
  double cpu = 0;          // s
  double first_share = 0;  // Share() of the first seed
  std::size_t seeds = 0;

  double Share() const { return served / oracle_served; }
  double Waste() const { return refused / std::max(served_requests, 1.0); }
  double FailedBeyond() const { return (failed - oracle_failed) / requests; }

  void Add(const Figures& other) {
    const auto n = static_cast<double>(seeds);
    p50 = (p50 * n + other.p50) / (n + 1);
    p99 = (p99 * n + other.p99) / (n + 1);
    people_p99 = std::max(people_p99, other.people_p99);
    mean = (mean * n + other.mean) / (n + 1);
    oracle_mean = (oracle_mean * n + other.oracle_mean) / (n + 1);
    last = std::max(last, other.last);
    oracle_last = std::max(oracle_last, other.oracle_last);
    requests += other.requests;
    served += other.served;
    oracle_served += other.oracle_served;
    served_requests += other.served_requests;
    refused += other.refused;
    failed += other.failed;
    oracle_failed += other.oracle_failed;
    late += other.late;
    jain = std::min(jain, other.jain);
    kept = std::min(kept, other.kept);
    cpu += other.cpu;
    if (seeds++ == 0) first_share = other.Share();
  }
};

// Jain's fairness index: 1 if all are equal, 1/n if one has it all.
inline double Jain(const std::vector<double>& counts) {
  double sum = 0;
  double squares = 0;
  for (const double count : counts) {
    sum += count;
    squares += count * count;
  }
  return squares == 0
             ? 1
             : sum * sum / squares / static_cast<double>(counts.size());
}

inline bool HasEqualKeys(const Pool& pool) {
  return std::all_of(pool.organisations.begin(), pool.organisations.end(),
                     [&](const Quota& quota) {
                       return quota.requests == pool.organisations[0].requests;
                     });
}

// The part of the sessions that stayed on one key, but of those that were ever
// on a key that flaps.
inline double KeptSessions(const Cell& cell,
                           const std::vector<Request>& requests,
                           const std::vector<Fate>& fates) {
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  struct Session {
    std::size_t key = kNone;
    bool moved = false;
    bool flapped = false;
  };
  std::vector<Session> sessions(cell.sessions);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (!fates[i].served) continue;
    Session& session = sessions[requests[i].session];
    session.flapped |= fates[i].key < cell.provider.flapping_keys;
    session.moved |= session.key != kNone && session.key != fates[i].key;
    session.key = fates[i].key;
  }
  double sound = 0;
  double kept = 0;
  for (const Session& session : sessions) {
    if (session.key == kNone || session.flapped) continue;
    ++sound;
    if (!session.moved) ++kept;
  }
  return sound == 0 ? 1 : kept / sound;
}

// Of this thread.
inline double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_nsec) / 1e9;
}

// Of a simulation that has run; but for `cpu`.
inline Figures FiguresOf(const Simulation& simulation,
                         const OracleResult& oracle) {
  const Cell& cell = simulation.cell;
  const std::vector<Request>& requests = simulation.requests;
  Figures figures;
  const bool tokens = cell.mean_cost > 0;
  std::vector<double> waits;
  std::vector<double> people;  // where there is a batch, too
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Fate& fate = simulation.fates()[i];
    const Nanos wait = fate.sent - requests[i].arrival;
    if (fate.served) {
      figures.served += tokens ? requests[i].cost : 1;
      waits.push_back(ToSeconds(wait));
      if (!requests[i].batch) people.push_back(waits.back());
    } else {
      ++figures.failed;
    }
    // A refusal that another key makes good at once is no wait.
    const Nanos rotating =
        150 * kMillisecond *
        static_cast<Nanos>(std::max<std::size_t>(fate.sends, 1) - 1);
    if (oracle.waits[i] == 0 && (!fate.served || wait > rotating))
      ++figures.late;
  }
  std::sort(waits.begin(), waits.end());
  std::sort(people.begin(), people.end());
  const auto quantile_of = [](const std::vector<double>& sorted, double part) {
    return sorted.empty() ? 0
                          : sorted[static_cast<std::size_t>(
                                part * static_cast<double>(sorted.size() - 1))];
  };
  const auto quantile = [&](double part) { return quantile_of(waits, part); };
  const auto mean = [](const std::vector<double>& all) {
    return all.empty() ? 0
                       : std::accumulate(all.begin(), all.end(), 0.0) /
                             static_cast<double>(all.size());
  };
  std::vector<double> oracle_waits;
  for (const Nanos wait : oracle.waits) {
    if (wait >= 0) oracle_waits.push_back(ToSeconds(wait));
  }
  figures.mean = mean(waits);
  figures.oracle_mean = mean(oracle_waits);
  figures.last = quantile(1);
  figures.oracle_last =
      oracle_waits.empty()
          ? 0
          : *std::max_element(oracle_waits.begin(), oracle_waits.end());
  figures.requests = static_cast<double>(requests.size());
  figures.served_requests = static_cast<double>(waits.size());
  figures.oracle_served =
      tokens ? oracle.served_tokens : static_cast<double>(oracle.served);
  figures.oracle_failed = static_cast<double>(requests.size() - oracle.served);
  figures.refused = static_cast<double>(simulation.refusals());
  figures.p50 = quantile(0.5);
  figures.p99 = quantile(0.99);
  if (cell.interactive > 0) figures.people_p99 = quantile_of(people, 0.99);
  if (HasEqualKeys(cell.pool)) figures.jain = Jain(simulation.first_served());
  if (cell.sessions > 0)
    figures.kept = KeptSessions(cell, requests, simulation.fates());
  return figures;
}

inline Figures Measure(const Cell& cell, const Entry& entry,
                       std::uint64_t seed) {
  const std::vector<Request> requests = MakeRequests(cell, seed);
  const OracleResult oracle = AskOracle(cell, requests, seed);
  const double begin = CpuSeconds();
  Simulation simulation(cell, requests, seed);
  simulation.Run(*entry.make(simulation, seed));
  Figures figures = FiguresOf(simulation, oracle);
  figures.cpu = CpuSeconds() - begin;
  return figures;
}

// --- What must hold ---

// By what the provider says. Where one of `poisson` and `bursty` is 0, nothing
// is asked.
struct Bar {
  const char* what;
  double poisson;       // served / oracle, at least
  double bursty;        //
  double waste;         // 429s per served request, at most
  double waste_unseen;  // the same beside an unseen client
};
inline constexpr Bar kHeaders = {"headers", 0.99, 0.985, 0.002, 0.01};
inline constexpr Bar kFewWords = {"Retry-After or nothing", 0.99, 0.97, 0.02,
                                  0.035};
inline constexpr Bar kRefusedCount = {"refused requests count", 0.99, 0.985,
                                      0.002, 0.01};
// The waste is 1.5 / limit: see Judge.
inline constexpr Bar kWindows = {"fixed windows", 0.99, 0.95, 0, 0};
inline constexpr Bar kTokens = {"tokens", 0.99, 0.99, 0.01, 0.01};
// The waste is not by what is served: a key may be asked so often in a day.
inline constexpr Bar kDays = {"a day's quota", 0.99, 0.99, 0, 0};
inline constexpr double kAskedInDay = 144;  // a tenth of each minute
inline constexpr double kLeastJain = 0.999;
inline constexpr double kLeastKept = 0.95;
// Of people beside a batch, in seconds: the 99th percentile.
inline constexpr double kMostWait = 0.2;
// Nobody else serves more than that beyond what is served here.
inline constexpr double kTie = 0.0005;

inline const Bar& BarOf(const Cell& cell) {
  const ProviderOptions& provider = cell.provider;
  if (HasDays(cell.pool)) return kDays;
  if (provider.fixed_windows) return kWindows;
  if (provider.refused_count) return kRefusedCount;
  if (cell.mean_cost > 0) return kTokens;
  return provider.style == Style::kOpenAI || provider.style == Style::kAnthropic
             ? kHeaders
             : kFewWords;
}

// What falls short in a batch, or nothing.
inline std::string JudgeBatch(const Batch& batch, const Figures& figures) {
  std::string faults;
  const auto hold = [&](bool holds, std::string what) {
    if (holds) return;
    if (!faults.empty()) faults += ", ";
    faults += what;
  };
  hold(figures.failed == 0, fmt::format("{:.0f} failed", figures.failed));
  hold(figures.Waste() <= batch.most_waste,
       fmt::format("429s > {:.3g}", batch.most_waste));
  hold(figures.mean <= figures.oracle_mean + batch.most_mean,
       fmt::format("mean > {:.3g} s", figures.oracle_mean + batch.most_mean));
  hold(figures.last <= figures.oracle_last + batch.most_last,
       fmt::format("last > {:.3g} s", figures.oracle_last + batch.most_last));
  return faults;
}

// What falls short, or nothing. `others` is the largest share that somebody
// else serves with the first seed.
inline std::string Judge(const Cell& cell, const Figures& figures,
                         double others) {
  std::string faults;
  const auto hold = [&](bool holds, std::string what) {
    if (holds) return;
    if (!faults.empty()) faults += ", ";
    faults += what;
  };
  if (cell.batch.requests > 0) return JudgeBatch(cell.batch, figures);
  const Bar& bar = BarOf(cell);
  const bool over = cell.load > 1;
  hold(figures.people_p99 <= kMostWait,
       fmt::format("people wait {:.2f} s", figures.people_p99));
  if (over || cell.bursty) {
    const double least =
        std::max(cell.bursty ? bar.bursty : bar.poisson, cell.at_least);
    hold(figures.Share() >= least, fmt::format("served < {}", least));
    double most = cell.provider.unseen > 0 ? bar.waste_unseen : bar.waste;
    if (cell.provider.fixed_windows)
      most = 1.5 / cell.pool.organisations[0].requests;
    if (HasDays(cell.pool))
      most = kAskedInDay * static_cast<double>(cell.pool.keys.size()) *
             static_cast<double>(figures.seeds) / figures.served_requests;
    hold(figures.Waste() <= most, fmt::format("429s > {:.3g}", most));
  } else if (cell.provider.flapping_keys == 0) {
    hold(figures.failed <= figures.oracle_failed,
         fmt::format("{:.0f} failed", figures.failed));
    hold(figures.late == 0, fmt::format("{:.0f} late", figures.late));
  }
  if (over || !cell.bursty) {
    hold(cell.sessions > 0 || figures.jain >= kLeastJain,
         fmt::format("Jain < {}", kLeastJain));
  }
  // Who asks without a pause has a key back the moment that its day begins.
  hold(HasDays(cell.pool) || figures.first_share >= others - kTie,
       fmt::format("others serve {:.4f}", others));
  hold(figures.kept >= kLeastKept, fmt::format("kept < {}", kLeastKept));
  return faults;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_FIGURES_H_
