// File: retry_budget.h
//
// RetryBudget: how many retries the requests of one rotator may make together.
// Each request has retries of its own (RetryOptions::max_retries); when a
// provider is down all of them would use them, and three times the load would
// meet what is failing already. So they share a budget that is worth something
// only while something is served.
//
// Example:
//   keyrotator::RotatorOptions options{
//       .retry_budget = {.ratio = 0.2, .per_second = 2}};

#ifndef KEYROTATOR_RETRY_BUDGET_H_
#define KEYROTATOR_RETRY_BUDGET_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>

#include "keyrotator/clock.h"

namespace keyrotator {

// In any 10 s there are at most `ratio` retries for each send that did not fail,
// and `per_second` x 10 beside that. A retry is what follows an overload, a
// passing failure or a lost connection, each of which is a failure here; to go
// on to another key is none.
//
// With the defaults nothing is lost that retries would save while up to a third
// of all sends fail, or while all do for a second; an outage of a minute adds 6 %
// to what the provider gets, where it was 150 to 180 %
// (tests/benchmarks/goodput/outages.h).
struct RetryBudget {
  // >= 0. Infinite: there is no budget, and each request has all its retries.
  double ratio = 0.5;
  // >= 0. So that a failure that stands alone is retried, however little there
  // is to do. Below 0.1 x RetryOptions::max_retries it may not be.
  double per_second = 1;
};

namespace internal {

// What was sent, failed and retried of late. Thread-safe; each call is O(1),
// allocates nothing and holds a lock of its own for a moment. Time is a
// parameter; a call whose time is before that of another counts as of then.
class RetryLedger {
 public:
  // Throws std::invalid_argument if the budget is out of range.
  explicit RetryLedger(const RetryBudget& budget) : budget_(budget) {
    if (!(budget.ratio >= 0) || !(budget.per_second >= 0)) {
      throw std::invalid_argument(
          "RotatorOptions: retry_budget must have a ratio and a per_second of "
          "at least 0");
    }
  }

  bool is_bounded() const {
    return std::isfinite(budget_.ratio) && std::isfinite(budget_.per_second);
  }

  void Sent(Nanos now) {
    const std::lock_guard lock(mutex_);
    Now(now).unfailed += 1;
    total_.unfailed += 1;
  }

  // A send failed. Whether it may be sent again, if that is wanted.
  bool Failed(Nanos now, bool wants_retry) {
    const std::lock_guard lock(mutex_);
    Count& count = Now(now);
    count.unfailed -= 1;
    total_.unfailed -= 1;
    if (!wants_retry) return false;
    if (is_bounded() && static_cast<double>(total_.retries + 1) > Most()) {
      ++refused_;
      return false;
    }
    count.retries += 1;
    total_.retries += 1;
    return true;
  }

  // How many retries were wanted and not allowed.
  std::uint64_t refused() const {
    const std::lock_guard lock(mutex_);
    return refused_;
  }

 private:
  // Of a second, and of all that are remembered.
  struct Count {
    // Sends, less those that failed. A send may fail in a later second, so it
    // may be below 0.
    std::int64_t unfailed = 0;
    std::int64_t retries = 0;
  };
  static constexpr std::int64_t kSeconds = 10;

  double Most() const {
    return budget_.per_second * kSeconds +
           budget_.ratio *
               static_cast<double>(std::max<std::int64_t>(total_.unfailed, 0));
  }

  // The count of this second; those that are too old are forgotten.
  Count& Now(Nanos now) {
    const std::int64_t second = now / 1'000'000'000;
    if (second - second_ >= kSeconds) {
      counts_ = {};
      total_ = {};
      second_ = second;
    }
    while (second_ < second) {
      Count& oldest = At(++second_);
      total_.unfailed -= oldest.unfailed;
      total_.retries -= oldest.retries;
      oldest = {};
    }
    return At(second_);
  }
  Count& At(std::int64_t second) {
    return counts_[static_cast<std::size_t>((second % kSeconds + kSeconds) %
                                            kSeconds)];
  }

  const RetryBudget budget_;
  mutable std::mutex mutex_;  // guards all that follows
  std::array<Count, kSeconds> counts_{};
  Count total_;
  std::int64_t second_ = kLongAgo / 1'000'000'000;
  std::uint64_t refused_ = 0;
};

}  // namespace internal

}  // namespace keyrotator

#endif  // KEYROTATOR_RETRY_BUDGET_H_
