// File: pool/slow_start.h
//
// SlowStart: how many leases of a group may be out at once in a scope where
// nothing says how many the provider lets through, as TCP does it (RFC 5681,
// section 3.1): few at first, and twice as many each time that those turned out
// well, so that a crowd of callers does not learn a limit by running into it
// together. It reads no clock; `now` is a parameter.
//
// It is for callers that say that they can wait (PickHint::initial_window), and
// for all while callers wait for a group that has returned, which then starts
// with one. The leases of others are not counted, and not held back.

#ifndef KEYROTATOR_POOL_SLOW_START_H_
#define KEYROTATOR_POOL_SLOW_START_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "keyrotator/internal/time.h"

namespace keyrotator::internal {

class SlowStart {
 public:
  // Whether another lease may go out. While nothing has begun any may.
  bool HasRoom() const { return window_ == 0 || out_ < window_; }

  // Nothing is known of the group: `window` leases may be out at first, or any
  // number if it is 0. Ignored once it has begun.
  void Begin(std::size_t window) {
    if (first_window_ > 0 || window == 0) return;
    first_window_ = window;
    if (!restarted_) window_ = window;
  }

  // The group has returned, and callers wait for it: one lease may be out. Those
  // before `first_ticket` do not count. True if that has just begun; if it had,
  // there is room for one at least.
  bool Restart(std::uint64_t first_ticket) {
    if (std::exchange(restarted_, true)) {
      if (!HasRoom()) window_ = out_ + 1;
      return false;
    }
    window_ = 1;
    out_ = 0;
    first_ticket_ = first_ticket;
    return true;
  }
  // Nobody waits any more. True if that changes something.
  bool EndRestart() {
    if (!std::exchange(restarted_, false)) return false;
    if (window_ < first_window_ || first_window_ == 0) window_ = first_window_;
    return true;
  }

  // A lease goes out.
  void Take(Nanos now) {
    ++out_;
    if (!HasRoom())
      grows_at_ = SaturatingAdd(now, kUnrefused / static_cast<Nanos>(window_));
  }

  // It has ended; `good` if nothing speaks against another one.
  void End(std::uint64_t ticket, bool good) {
    if (ticket < first_ticket_ || out_ == 0) return;
    // A window that is not used says nothing of a larger one.
    if (good && window_ > 0 && 2 * out_ > window_) ++window_;
    --out_;
  }

  // Time passes. When it changes something again, or kNever.
  Nanos Update(Nanos now) {
    if (HasRoom() || restarted_) return kNever;
    if (now >= grows_at_) {
      ++window_;
      return kNever;
    }
    return grows_at_;
  }

 private:
  // A provider refuses at once what it refuses, but an answer may take minutes:
  // what was not refused within that time has turned out well.
  static constexpr Nanos kUnrefused = 1'000'000'000;

  std::size_t window_ = 0;
  std::size_t first_window_ = 0;
  bool restarted_ = false;
  std::size_t out_ = 0;
  std::uint64_t first_ticket_ = 0;
  Nanos grows_at_ = kNever;  // while there is no room
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SLOW_START_H_
