// File: workload.h
//
// What callers want: requests over an hour, at a multiple of what the pool's
// limits allow, evenly at random or in bursts; or a batch, all at once. The same
// for every contender.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_WORKLOAD_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_WORKLOAD_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/benchmarks/goodput/provider.h"

namespace keyrotator::goodput {

// Where the simulation's time begins: ManualClock's start.
inline constexpr Nanos kStart = 3600 * kSecond;

// So many requests begin within that time, on keys of which nothing is known,
// and what may be paid for finding out. The last and the mean wait are compared
// with the oracle's, in seconds.
struct Batch {
  std::size_t requests = 0;  // 0: no batch
  double seconds = 0;        // 0: at once
  double most_waste = 0;     // 429s per served request
  double most_mean = 0;      // more than the oracle's mean wait
  double most_last = 0;      // more than the oracle's last
};

// One place of the table: who asks whom for what.
struct Cell {
  std::string name;
  Pool pool;
  ProviderOptions provider = {};
  // Of what the limits allow, less what the unseen client takes.
  double load = 1.2;
  // Of what the limits allow: requests of people beside those of a batch. 0:
  // nobody says what is a batch.
  double interactive = 0;
  // On for 10 s at three times the rate, off for 20 s; else Poisson.
  bool bursty = false;
  // Of a request, in tokens; the costs vary by a factor of 3 either way.
  double mean_cost = 0;
  // What is said of a cost before is wrong by up to this factor either way.
  double cost_error = 1;
  std::size_t sessions = 0;
  double seconds = 3600;
  Batch batch = {};
  // Callers give up after it, in seconds.
  double patience = 30;
  // How long an answer takes, in seconds: the median.
  double latency = 0.8;
  // How long after it was sent the head of one arrives, in seconds; 0: with the
  // answer.
  double head = 0;
  // What is asked of others cannot be had here, as far as anyone knows.
  bool bound = false;
  // At least so much of what the oracle serves, if that is more than is asked
  // of cells of its kind.
  double at_least = 0;
};

struct Request {
  Nanos arrival = 0;
  std::size_t model = 0;
  double cost = 0;
  double expected_cost = 0;
  std::size_t session = 0;
  bool batch = false;  // it can wait
};

// Whether what is allowed in a day is limited, too.
inline bool HasDays(const Pool& pool) {
  return pool.organisations[0].per_day > 0;
}

// What the pool's limits allow, for requests of that cost on average.
inline double AllowedPerSecond(const Pool& pool, double mean_cost) {
  double allowed = 0;
  for (const Quota& quota : pool.organisations) {
    double requests = quota.requests / quota.seconds;
    if (quota.tokens > 0 && mean_cost > 0)
      requests = std::min(requests, quota.tokens / quota.seconds / mean_cost);
    if (quota.per_day > 0)
      requests = std::min(requests, quota.per_day / kDaySeconds);
    for (const double part : pool.models) allowed += requests * part;
  }
  return allowed;
}

inline std::vector<Request> MakeBatch(const Batch& batch, Dice& dice) {
  std::vector<Request> requests(batch.requests);
  for (Request& request : requests)
    request.arrival = kStart + FromSeconds(batch.seconds * dice.Uniform());
  std::sort(
      requests.begin(), requests.end(),
      [](const Request& a, const Request& b) { return a.arrival < b.arrival; });
  return requests;
}

inline std::vector<Request> MakeStream(const Cell& cell, double load,
                                       std::uint64_t seed) {
  double parts = 0;
  for (const double part : cell.pool.models) parts += part;
  const double gap = 1 / (AllowedPerSecond(cell.pool, cell.mean_cost) *
                          (1 - cell.provider.unseen) * load);
  Dice dice(seed ^ 0x776f726b6c6f6164u);
  std::vector<Request> requests;
  // In bursts, the seconds that are on follow one another.
  for (double at = dice.Exponential(gap);;) {
    const double on = 10;
    const double on_time = cell.bursty ? at / 3 : at;
    const double time =
        cell.bursty ? std::floor(on_time / on) * 30 + std::fmod(on_time, on)
                    : at;
    if (time >= cell.seconds) break;
    Request& request = requests.emplace_back();
    request.arrival = kStart + FromSeconds(time);
    double choice = dice.Uniform() * parts;
    while (request.model + 1 < cell.pool.models.size() &&
           choice >= cell.pool.models[request.model])
      choice -= cell.pool.models[request.model++];
    if (cell.mean_cost > 0) {
      // The mean of exp(x), x uniform in +-ln 3, is 1.2137.
      constexpr double kLn3 = 1.0986122886681098;
      const double spread = std::exp((2 * dice.Uniform() - 1) * kLn3);
      request.cost = std::round(cell.mean_cost * spread / 1.2137) + 1;
      request.expected_cost =
          request.cost *
          std::exp((2 * dice.Uniform() - 1) * std::log(cell.cost_error));
    }
    if (cell.sessions > 0) request.session = dice.Below(cell.sessions);
    at += dice.Exponential(gap);
  }
  return requests;
}

inline std::vector<Request> MakeRequests(const Cell& cell, std::uint64_t seed) {
  if (cell.batch.requests > 0) {
    Dice dice(seed ^ 0x776f726b6c6f6164u);
    return MakeBatch(cell.batch, dice);
  }
  std::vector<Request> requests = MakeStream(cell, cell.load, seed);
  if (cell.interactive == 0) return requests;
  for (Request& request : requests) request.batch = true;
  const std::vector<Request> people =
      MakeStream(cell, cell.interactive, seed + 1000);
  const std::size_t middle = requests.size();
  requests.insert(requests.end(), people.begin(), people.end());
  std::inplace_merge(
      requests.begin(), requests.begin() + static_cast<std::ptrdiff_t>(middle),
      requests.end(),
      [](const Request& a, const Request& b) { return a.arrival < b.arrival; });
  return requests;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_WORKLOAD_H_
