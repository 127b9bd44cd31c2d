// File: pool/scope.h
//
// Scope: what a table keeps of one thing that providers limit apart, as a rule
// a model: the selection's state, where the groups stand in it, and who waits.

#ifndef KEYROTATOR_POOL_SCOPE_H_
#define KEYROTATOR_POOL_SCOPE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/learned_pace.h"
#include "keyrotator/pool/shadow_bucket.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/selection.h"

namespace keyrotator::internal {

// What a lease holds.
struct Grant {
  // What the lease's end settles, unless a report on it did before.
  static constexpr std::uint8_t kKeyTrial = 1;
  static constexpr std::uint8_t kGroupTrial = 2;
  static constexpr std::uint8_t kScopeTrial = 4;
  static constexpr std::uint8_t kRamp = 8;

  Slot* slot = nullptr;
  Scope* scope = nullptr;
  // Leases are counted, since the times at which they were taken may tie.
  std::uint64_t ticket = 0;
  std::uint8_t trials = 0;
  bool counted = false;  // in Scope::in_flight
  bool refused = false;  // reported as rate limited
  bool served = false;   // reported as succeeded
  ShadowBucket::Note note;
};

// Where a group stands in a scope; made when there is something to remember.
struct Standing {
  Gate gate;
  ShadowBucket bucket;
  LearnedPace pace;  // where the bucket does not tell
  std::uint64_t reported_ticket = 0;
  bool low = false;  // not enough for one request, by the bucket or the pace
  // While callers wait for the scope: whether leases go out one by one, and how
  // many may now.
  bool ramping = false;
  std::uint32_t credit = 0;
  bool usable =
      true;     // what IsUsable() was when the lists were last made to agree
  Timer timer;  // when `gate` opens or there is enough

  // Whether the bucket or the pace says how many requests may go out.
  bool metered() const { return bucket.known() || pace.known(); }
  // Whether one of `tokens` may, and when.
  bool Fits(double tokens, Nanos now) const {
    return bucket.Fits(tokens, now) && (bucket.rated() || pace.Fits(now));
  }
  Nanos WhenFits(double tokens, Nanos now) const {
    const Nanos when = bucket.WhenFits(tokens, now);
    return bucket.rated() ? when : std::max(when, pace.WhenFits(now));
  }

  bool IsUsable() const {
    return gate.IsUsable() && !low && (!ramping || credit > 0);
  }
};

// A caller who waits; it lives with the caller.
struct Request {
  explicit Request(const PickHint& wanted) : hint(wanted) {}

  PickHint hint;
  Grant grant;
  bool granted = false;
  bool in_loop = false;  // called instead of woken
  Scope* scope = nullptr;
  std::list<Request*>::iterator place;
};

struct Scope : ScopeView {
  Scope(std::string scope_name, const Nanos& table_now)
      : name(std::move(scope_name)), now(table_now) {
    cost_timer.scope = this;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  virtual ~Scope() = default;

  const std::string name;
  const Nanos& now;
  std::uint64_t last_used = 0;              // a ticket
  std::atomic<std::uint64_t> in_flight{0};  // leases of a scope with a name

  // The selection.
  std::uint32_t turn = 0;  // the index behind that of the key picked last
  std::size_t turn_position =
      0;                      // its position in the list, if nothing changed
  std::vector<double> notes;  // by index
  bool dry = false;           // the last pick found none

  // The list of usable keys, if it differs from the one that all share.
  bool own = false;
  std::vector<std::uint32_t> usable;
  std::uint64_t epoch = 0;
  std::uint64_t replayed = 0;

  // Where the groups stand, by number.
  std::vector<std::unique_ptr<Standing>> standings;
  std::size_t shut = 0;  // how many are not usable
  bool metered = false;  // a bucket or a pace is known

  // Who waits, first come first.
  std::list<Request*> queue;
  Timer cost_timer;  // when the first may be served whose cost is in the way
  std::vector<std::uint32_t> ramping;  // numbers of groups

  Standing* Find(const Group& group) const {
    return group.number < standings.size() ? standings[group.number].get()
                                           : nullptr;
  }

  double& Note(std::uint32_t index) override {
    if (index >= notes.size()) notes.resize(index + 1);
    return notes[index];
  }
  RateLimits Limits(const Slot& slot) const override {
    const Standing* standing = Find(*slot.group);
    return standing == nullptr ? RateLimits{} : standing->bucket.Believed(now);
  }
  double Headroom(const Slot& slot) const override {
    const Standing* standing = Find(*slot.group);
    return standing == nullptr ? 1 : standing->bucket.Headroom(now);
  }
};

// Ends a lease if its end concerns its key's count alone, without a lock. False
// if it must end under the lock, by LeaseHost::EndLease.
inline bool EndUnwatchedLease(Grant& grant) {
  if (grant.trials != 0) return false;
  // First the scope, which lives no longer than the slots of its table. The end
  // of a lease without trials does not look at it.
  if (grant.counted)
    grant.scope->in_flight.fetch_sub(1, std::memory_order_acq_rel);
  grant.counted = false;
  Slot* const slot = grant.slot;
  std::uint64_t holds = slot->holds.load(std::memory_order_relaxed);
  do {
    if ((holds & Slot::kWatched) != 0) return false;
  } while (!slot->holds.compare_exchange_weak(holds, holds - Slot::kLease,
                                              std::memory_order_acq_rel,
                                              std::memory_order_relaxed));
  if (holds == Slot::kLease) delete slot;
  return true;
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_SCOPE_H_
