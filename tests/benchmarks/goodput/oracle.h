// File: oracle.h
//
// The oracle: all the buckets of a model as one, whose level it knows, without
// latency; first come, first served, and the same patience. An upper bound.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_ORACLE_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_ORACLE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/benchmarks/goodput/provider.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

struct OracleResult {
  std::size_t served = 0;
  double served_tokens = 0;
  // Of each request: how long it waited, or -1 where it was not served.
  std::vector<Nanos> waits;
};

// The buckets of one model. What flows back is pooled; of fixed windows and of
// days the one that ends first is used first.
class PooledBucket {
 public:
  PooledBucket(const Cell& cell, std::size_t model, std::uint64_t seed) {
    const std::size_t models = cell.pool.models.size();
    std::vector<Bucket> all =
        MakeBuckets(cell.pool, cell.provider, cell.mean_cost, seed, kStart);
    for (std::size_t i = model; i < all.size(); i += models)
      buckets_.push_back(all[i]);
    if (!cell.provider.fixed_windows && !HasDays(cell.pool))
      buckets_ = {Bucket::Pooled(buckets_)};
  }

  // The first time from `now` on, and not after `until`, when a request of that
  // cost is admitted; or -1. It is taken out.
  Nanos Admit(double tokens, Nanos now, Nanos until) {
    while (now <= until) {
      Bucket* first = nullptr;
      Nanos next = internal::kNever;
      for (Bucket& bucket : buckets_) {
        bucket.Advance(now);
        if (bucket.Fits(tokens)) {
          if (first == nullptr || bucket.window_end() < first->window_end())
            first = &bucket;
        } else {
          next = std::min(next, bucket.WhenFits(tokens));
        }
      }
      if (first != nullptr) {
        first->Take(tokens);
        return now;
      }
      now = std::max(next, now + 1);
    }
    return -1;
  }

 private:
  std::vector<Bucket> buckets_;
};

inline OracleResult AskOracle(const Cell& cell,
                              const std::vector<Request>& requests,
                              std::uint64_t seed) {
  OracleResult result;
  result.waits.assign(requests.size(), -1);
  for (std::size_t model = 0; model < cell.pool.models.size(); ++model) {
    PooledBucket bucket(cell, model, seed);
    Nanos free = kStart;  // when those before are served
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const Request& request = requests[i];
      if (request.model != model) continue;
      const Nanos from = std::max(free, request.arrival);
      const Nanos until = request.arrival + FromSeconds(cell.patience) - 1;
      const Nanos at = bucket.Admit(request.cost, from, until);
      // Who gives up has held up others until then.
      free = at < 0 ? std::max(from, until) : at;
      if (at < 0) continue;
      result.waits[i] = at - request.arrival;
      ++result.served;
      result.served_tokens += request.cost;
    }
  }
  return result;
}

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_ORACLE_H_
