// File: pool/key_table.h
//
// KeyTable: a pool of keys and every rule of how it changes. No mutex, no
// clock, no I/O: `now` is a parameter, in nanoseconds, and the rotator holds
// its lock around each call.
//
// - A key is usable in a scope while three gates let it through (its own, its
//   group's, and its group's in that scope), it is below its cap, and what was
//   reported of the group's limits there leaves something.
// - `usable_` lists the keys that are usable wherever nothing cools. A scope
//   where something does has its own list, which replays a log of the changes
//   of the former when it is next used. The lists are sorted vectors of
//   indices; Put alone edits them.
// - What time changes stands in one heap of timers. Advance does what is due.
// - Who waits queues in its scope. A key that becomes usable there goes to the
//   first who can use it, and to others only as its leases end well, so that a
//   queue does not fall upon a key that just returned.

#ifndef KEYROTATOR_POOL_KEY_TABLE_H_
#define KEYROTATOR_POOL_KEY_TABLE_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/redact.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/shadow_bucket.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/report.h"
#include "keyrotator/rotator_options.h"
#include "keyrotator/selection.h"

namespace keyrotator::internal {

// Returns `options`, or throws std::invalid_argument that names the wrong one.
inline RotatorOptions CheckOptions(RotatorOptions options) {
  const auto require = [](bool good, const char* what) {
    if (!good)
      throw std::invalid_argument(std::string("RotatorOptions: ") + what);
  };
  require(options.cooldown.count() > 0, "cooldown must be longer than 0");
  require(options.max_cooldown.count() > 0,
          "max_cooldown must be longer than 0");
  require(std::isfinite(options.cooldown_multiplier) &&
              options.cooldown_multiplier >= 1,
          "cooldown_multiplier must be a number of at least 1");
  require(
      !options.retry_failed_after || options.retry_failed_after->count() > 0,
      "retry_failed_after must be longer than 0, or empty for never");
  require(options.max_scopes > 0, "max_scopes must be at least 1");
  return options;
}

// Throws std::invalid_argument if `key`, the position-th of those given (from
// 1), cannot be sent in a header or weighed. The message has its position and
// name, no byte of its value.
inline void CheckKey(const ApiKey& key, std::size_t position) {
  const auto refuse = [&](const std::string& why) {
    const std::string& name = key.options().name;
    throw std::invalid_argument(
        fmt::format("API key {}{}: {}", position,
                    name.empty() ? "" : fmt::format(" (\"{}\")", name), why));
  };
  for (std::size_t i = 0; i < key.Reveal().size(); ++i) {
    const auto byte = static_cast<unsigned char>(key.Reveal()[i]);
    if (byte >= 0x20 && byte < 0x7f) continue;
    // RFC 9110, 5.5: such bytes end or garble a header field.
    refuse(fmt::format(
        "byte {} of its value is {}, which cannot stand in a header", i + 1,
        byte >= 0x80 ? "not ASCII" : "a control character"));
  }
  if (!std::isfinite(key.options().weight) || key.options().weight <= 0) {
    refuse(fmt::format("its weight is {}; it must be a finite number above 0",
                       key.options().weight));
  }
}

// How a pool looks to one hint.
struct Outlook {
  KeyCounts counts;
  Nanos next = kNever;  // when a key is usable, if time alone brings one
};

template <class Policy>
class KeyTable {
 public:
  enum class Joining { kFirst, kAdd, kReplace };

  KeyTable(RotatorOptions options, Policy policy)
      : options_(CheckOptions(std::move(options))),
        policy_(std::move(policy)),
        unnamed_(std::string(), now_, policy_) {}
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;
  ~KeyTable() { Close(); }

  // Gives up the keys. Leases that are out keep theirs.
  void Close() {
    closed_ = true;
    for (std::vector<Slot*>* slots : {&keys_, &retired_}) {
      for (Slot* slot : *slots) {
        if (slot->holds.fetch_and(~(Slot::kPooled | Slot::kWatched),
                                  std::memory_order_acq_rel) < Slot::kLease)
          delete slot;
      }
      slots->clear();
    }
  }

  const RotatorOptions& options() const { return options_; }

  // Whether something waits for a time: else `now` is not looked at.
  bool needs_now() const { return !timers_.empty() || metered_scopes_ > 0; }
  // When something is due.
  Nanos next_due() const { return timers_.next(); }

  // Changes to tell of, if there is an on_event, and callers who were granted a
  // lease. Whoever calls the table takes them out.
  std::vector<KeyEvent> events;
  std::vector<Request*> granted;
  // Whether any of the above may have changed; for the caller to reset. Most
  // picks change none of it.
  bool stirred = false;

  // Does what is due. A time before the last one counts as that: threads read
  // the clock before they have the lock.
  void Advance(Nanos now) {
    stirred = true;
    now_ = std::max(now_, now);
    while (!timers_.empty() && timers_.next() <= now_) Fire(timers_.front());
    Serve();
  }

  // --- Picking ---

  // Grants a lease on the policy's choice. False if there is none.
  bool Pick(const PickHint& hint, Nanos now, Grant& grant) {
    now_ = std::max(now_, now);
    if (timers_.next() <= now_) Advance(now);
    Scope& scope = ScopeOf(hint.scope);
    const bool found = TryPick(scope, hint, grant);
    if (found == scope.dry) NoteDrought(scope, hint, !found);
    return found;
  }

  // The same for one who would wait: not before those who wait already.
  bool PickInTurn(const PickHint& hint, Nanos now, Grant& grant) {
    Advance(now);
    return ScopeOf(hint.scope).queue.empty() && Pick(hint, now, grant);
  }

  // Queues `request`; it is granted at once if that can be. False, and it is
  // not queued, if as many callers wait as may. It must be cancelled or granted
  // before it dies.
  bool Enqueue(Request& request, Nanos now) {
    Advance(now);
    if (options_.max_waiters > 0 && waiting_ >= options_.max_waiters)
      return false;
    Scope& scope = ScopeOf(request.hint.scope);
    if (scope.queue.empty()) waited_for_.push_back(&scope);
    request.scope = &scope;
    request.place = scope.queue.insert(scope.queue.end(), &request);
    ++waiting_;
    to_serve_.push_back(&scope);
    Serve();
    return true;
  }

  void Cancel(Request& request) {
    if (closed_) return;
    Dequeue(request);
    to_serve_.push_back(request.scope);  // it may have held up others
    Serve();
  }

  std::size_t waiting() const { return waiting_; }
  // One of those who wait in a thread, or null.
  Request* AnyThread() const {
    for (const Scope* scope : waited_for_) {
      for (Request* request : scope->queue) {
        if (!request->in_loop) return request;
      }
    }
    return nullptr;
  }

  void EndLease(Grant& grant, Nanos now) {
    if (closed_) {
      Release(grant);
      return;
    }
    Advance(now);
    EndTrials(grant, true);
    Slot& slot = *grant.slot;
    if (!Release(grant)) Sync(slot);
    Serve();
  }

  // --- Reports. `grant` is null where the report is not about a lease: it then
  // concerns the whole key and is fresh. ---

  Slot* Find(KeyId id) const {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
  }
  Slot* Find(std::string_view secret) const {
    const auto found = by_secret_.find(Trim(secret));
    return found == by_secret_.end() ? nullptr : found->second;
  }

  void Fail(Slot& slot, Grant* grant, Nanos now) {
    Advance(now);
    ++slot.failures;
    if (grant != nullptr) EndTrials(*grant, false);
    if (slot.gate.state != Gate::State::kShut) {
      const Nanos until =
          options_.retry_failed_after
              ? SaturatingAdd(now_, options_.retry_failed_after->count())
              : kNever;
      Shut(slot.gate, slot, until);
      timers_.Set(slot.timer, until);
      Sync(slot);
      Tell(KeyEvent::Kind::kFailed, &slot, {}, until);
    }
    Serve();
  }

  void Restore(Slot& slot, Nanos now) {
    Advance(now);
    const auto before = std::exchange(slot.gate.state, Gate::State::kOpen);
    timers_.Cancel(slot.timer);
    Sync(slot);
    if (before == Gate::State::kShut)
      Tell(KeyEvent::Kind::kReturned, &slot, {}, kNever);
    Serve();
  }

  // `hint` is how long the provider said; 0 or less: it did not.
  void LimitRate(Slot& slot, Grant* grant, Nanos hint, const Cooldown& guess,
                 Reach reach, Nanos now) {
    Advance(now);
    ++slot.rate_limits;
    Group& group = *slot.group;
    Scope* const scope =
        grant == nullptr || reach == Reach::kKey || grant->scope == &unnamed_
            ? nullptr
            : grant->scope;
    Gate& gate = scope == nullptr ? group.gate : StandingOf(*scope, group).gate;
    const bool fresh = grant == nullptr || gate.IsFresh(grant->ticket);
    Standing* const paced =
        guess.learn_pace && grant != nullptr && reach == Reach::kScope
            ? Paced(*grant->scope, group)
            : nullptr;
    if (grant != nullptr) {
      EndTrials(*grant, false);
      grant->refused = true;
    }
    const bool shut = gate.state == Gate::State::kShut;
    if (hint > 0 || (fresh && !shut)) {
      Nanos span = hint > 0 ? hint : GuessSpan(guess, gate.windows);
      if (paced != nullptr && fresh && !shut)
        span = paced->pace.Refuse(std::max<Nanos>(hint, 0), span, now_);
      const Nanos until =
          SaturatingAdd(now_, std::min(span, options_.max_cooldown.count()));
      const bool news = !shut || until > gate.until;
      if (!shut) {
        Shut(gate, slot, until);
        // A pace lets out one at a time anyway.
        gate.guessed = hint <= 0 && paced == nullptr;
        if (fresh) ++gate.windows;
      } else if (news) {
        gate.until = until;
        gate.guessed = false;
      }
      if (paced != nullptr && news && paced->pace.known()) {
        paced->pace.HoldUntil(gate.until);
        SetTimer(*paced);
        Sync(*grant->scope, group);
      }
      if (scope == nullptr) {
        timers_.Set(group.timer, gate.until);
        for (Slot* member : group.members) Sync(*member);
      } else {
        SetTimer(*scope->Find(group));
        Sync(*scope, group);
      }
      if (news)
        Tell(KeyEvent::Kind::kCooled, &slot,
             scope == nullptr ? std::string_view() : scope->name, until);
    }
    Serve();
  }

  void Succeed(Slot& slot, Grant* grant, Nanos now) {
    Advance(now);
    ++slot.successes;
    if (grant != nullptr) EndTrials(*grant, true);
    const auto settle = [&](Gate& gate) {
      if (grant != nullptr && !gate.IsFresh(grant->ticket)) return;
      gate.windows = 0;
      if (gate.state == Gate::State::kOnTrial ||
          gate.state == Gate::State::kTrialTaken) {
        gate.state = Gate::State::kOpen;
      }
    };
    settle(slot.gate);
    settle(slot.group->gate);
    for (Slot* member : slot.group->members) Sync(*member);
    if (grant != nullptr) {
      if (Standing* standing = grant->scope->Find(*slot.group);
          standing != nullptr) {
        settle(standing->gate);
        if (!std::exchange(grant->served, true) && standing->pace.known() &&
            GateOf(*grant->scope, *standing).IsFresh(grant->ticket)) {
          standing->pace.Succeed(now_);
          SetTimer(*standing);
        }
        Sync(*grant->scope, *slot.group);
      }
    }
    Serve();
  }

  // What came of the lease: what it means for the key, and what is left.
  void Settle(Slot& slot, Grant* grant, const Report& report, Nanos now) {
    switch (report.kind) {
      case Report::Kind::kNothing:
        break;
      case Report::Kind::kServed:
        Succeed(slot, grant, now);
        break;
      case Report::Kind::kFailed:
        Fail(slot, grant, now);
        break;
      case Report::Kind::kRateLimited:
        LimitRate(slot, grant, report.retry_after.count(),
                  report.guess.value_or(
                      Cooldown{.initial = options_.cooldown,
                               .multiplier = options_.cooldown_multiplier,
                               .max = options_.max_cooldown,
                               .learn_pace = options_.learn_pace}),
                  report.reach, now);
        break;
    }
    if (report.limits && grant != nullptr)
      LearnLimits(slot, *grant, *report.limits, now);
  }

  void LearnLimits(Slot& slot, const Grant& grant, const RateLimits& limits,
                   Nanos now) {
    Advance(now);
    Scope& scope = *grant.scope;
    Standing& standing = StandingOf(scope, *slot.group);
    if (grant.ticket >= standing.reported_ticket) {
      standing.reported_ticket = grant.ticket;
      standing.bucket.Report(grant.note, OthersInFlight(scope, *slot.group),
                             limits, grant.refused, now_);
      if (standing.bucket.known()) {
        Meter(scope, standing);
        SetTimer(standing);
        Sync(scope, *slot.group);
        to_serve_.push_back(&scope);
      }
    }
    Serve();
  }

  // --- The keys ---

  std::size_t size() const { return keys_.size(); }

  // Adds those of `keys` that are new, or makes the pool consist of exactly
  // them; those that stay keep their state, name and group. Returns the ids of
  // the new ones. Throws std::invalid_argument, and changes nothing, if one of
  // them cannot be a key or has the name of another.
  std::vector<KeyId> Join(const ApiKeys& keys, Joining joining,
                          const std::shared_ptr<LeaseHost>& host, Nanos now) {
    const bool replace = joining == Joining::kReplace;
    const std::vector<const ApiKey*> wanted = Check(keys, replace);
    Advance(now);

    std::vector<Slot*> order = replace ? std::vector<Slot*>() : keys_;
    std::vector<Slot*> joined;
    for (const ApiKey* key : wanted) {
      Slot* slot = Find(key->Reveal());
      if (slot == nullptr) {
        slot = joined.emplace_back(MakeSlot(*key, host));
        order.push_back(slot);
      } else if (replace) {
        order.push_back(slot);
      } else {
        continue;
      }
      slot->weight = key->options().weight;
      SetCap(*slot, key->options().max_in_flight);
    }
    std::vector<Slot*> leaving;
    if (replace) {
      const std::unordered_set<const Slot*> staying(order.begin(), order.end());
      std::copy_if(keys_.begin(), keys_.end(), std::back_inserter(leaving),
                   [&](const Slot* slot) { return !staying.contains(slot); });
    }

    Arrange(std::move(order));
    for (Slot* slot : leaving) Retire(*slot);
    NameNew(joined);
    for (Slot* slot : keys_) Sync(*slot);

    std::vector<KeyId> ids;
    for (const Slot* slot : joined) {
      ids.push_back(slot->id);
      if (joining != Joining::kFirst)
        Tell(KeyEvent::Kind::kAdded, slot, {}, kNever);
    }
    Serve();
    return ids;
  }

  void Remove(Slot& slot, Nanos now) {
    Advance(now);
    std::vector<Slot*> order = keys_;
    order.erase(order.begin() + slot.index);
    Arrange(std::move(order));
    Retire(slot);
    Serve();
  }

  // --- Looking ---

  Outlook Look(const PickHint& hint, Nanos now) {
    Advance(now);
    return LookAt(hint);
  }

  std::vector<KeyStatus> Snapshot(Nanos now) {
    Advance(now);
    std::vector<KeyStatus> rows;
    rows.reserve(keys_.size());
    for (const Slot* slot : keys_) rows.push_back(Describe(*slot));
    return rows;
  }

  std::string Redact(std::string_view text) const {
    std::vector<Secret> secrets;
    for (const std::vector<Slot*>* slots : {&keys_, &retired_}) {
      for (const Slot* slot : *slots)
        secrets.push_back({slot->secret, slot->name});
    }
    return RedactSecrets(text, secrets);
  }

 private:
  // With a copy of the policy: each scope is selected from for itself.
  struct PolicyScope final : Scope {
    PolicyScope(std::string scope_name, const Nanos& table_now,
                const Policy& prototype)
        : Scope(std::move(scope_name), table_now), policy(prototype) {}
    Policy policy;
  };

  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  // Where a key stands for one hint.
  struct Position {
    KeyState state = KeyState::kAvailable;
    Nanos returns = kNever;  // if time alone brings it back
  };

  // --- Lists of usable keys ---

  static void Put(std::vector<std::uint32_t>& list, std::uint32_t index,
                  bool usable) {
    const auto place = std::lower_bound(list.begin(), list.end(), index);
    const bool present = place != list.end() && *place == index;
    if (usable && !present) list.insert(place, index);
    if (!usable && present) list.erase(place);
  }

  static bool IsUsable(const Scope& scope, const Slot& slot) {
    const Standing* standing = scope.Find(*slot.group);
    return slot.usable && (standing == nullptr || standing->usable);
  }

  std::span<const std::uint32_t> Usable(Scope& scope) {
    return scope.own ? OwnUsable(scope) : usable_;
  }

  std::span<const std::uint32_t> OwnUsable(Scope& scope) {
    if (scope.epoch != epoch_ || logged_ - scope.replayed > log_.size()) {
      scope.epoch = epoch_;
      scope.own = scope.shut > 0;
      scope.usable.clear();
      if (!scope.own) return usable_;
      scope.usable.reserve(keys_.size());
      std::copy_if(
          usable_.begin(), usable_.end(), std::back_inserter(scope.usable),
          [&](std::uint32_t index) { return IsUsable(scope, *keys_[index]); });
    } else {
      for (std::uint64_t i = scope.replayed; i < logged_; ++i) {
        const std::uint32_t index = log_[i % log_.size()];
        Put(scope.usable, index, IsUsable(scope, *keys_[index]));
      }
    }
    scope.replayed = logged_;
    return scope.usable;
  }

  // Makes the lists agree with a key's state. To be called after every change
  // of the key's gate, its group's gate or its cap, and of its count at a cap.
  void Sync(Slot& slot) {
    if (!slot.pooled()) return;
    const Group& group = *slot.group;
    const bool usable =
        slot.gate.IsUsable() && group.gate.IsUsable() && !slot.AtCap();
    slot.plain = usable && slot.gate.state == Gate::State::kOpen &&
                 group.gate.state == Gate::State::kOpen &&
                 slot.max_in_flight == 0;
    if (usable == slot.usable) return;
    slot.usable = usable;
    Put(usable_, slot.index, usable);
    log_[logged_++ % log_.size()] = slot.index;
    if (!usable) return;
    for (Scope* scope : waited_for_) Offer(*scope, *slot.group);
  }

  // The same for a group's standing in a scope, which must exist.
  void Sync(Scope& scope, Group& group) {
    Standing& standing = *scope.Find(group);
    const bool usable = standing.IsUsable();
    if (usable == standing.usable) return;
    standing.usable = usable;
    if (usable) {
      --scope.shut;
    } else {
      ++scope.shut;
      if (!std::exchange(scope.own, true))
        scope.epoch = epoch_ - 1;  // to be made anew
    }
    if (scope.own && scope.epoch == epoch_) {
      for (const Slot* member : group.members)
        Put(scope.usable, member->index, IsUsable(scope, *member));
    }
    if (usable) Offer(scope, group);
  }

  // --- Scopes and standings ---

  Scope& ScopeOf(std::string_view name) {
    if (name.empty()) return unnamed_;
    auto found = scopes_.find(name);
    if (found == scopes_.end()) {
      while (scopes_.size() >= options_.max_scopes && ForgetScope()) {
      }
      found =
          scopes_
              .emplace(std::string(name), std::make_unique<PolicyScope>(
                                              std::string(name), now_, policy_))
              .first;
    }
    found->second->last_used = ++scope_uses_;
    return *found->second;
  }

  const Scope* FindScope(std::string_view name) const {
    if (name.empty()) return &unnamed_;
    const auto found = scopes_.find(name);
    return found == scopes_.end() ? nullptr : found->second.get();
  }

  // The least recently used one that is idle. False if there is none.
  bool ForgetScope() {
    auto oldest = scopes_.end();
    for (auto it = scopes_.begin(); it != scopes_.end(); ++it) {
      const Scope& scope = *it->second;
      const bool idle = scope.shut == 0 && scope.queue.empty() &&
                        scope.in_flight.load(std::memory_order_acquire) == 0;
      if (idle && (oldest == scopes_.end() ||
                   scope.last_used < oldest->second->last_used))
        oldest = it;
    }
    if (oldest == scopes_.end()) return false;
    if (oldest->second->metered) --metered_scopes_;
    scopes_.erase(oldest);
    return true;
  }

  template <class Function>
  void ForEachScope(Function function) {
    function(static_cast<Scope&>(unnamed_));
    for (auto& [name, scope] : scopes_) function(static_cast<Scope&>(*scope));
  }

  Standing& StandingOf(Scope& scope, Group& group) {
    if (group.number >= scope.standings.size())
      scope.standings.resize(group.number + 1);
    std::unique_ptr<Standing>& standing = scope.standings[group.number];
    if (standing == nullptr) {
      standing = std::make_unique<Standing>();
      standing->timer.scope = &scope;
      standing->timer.group = &group;
    }
    return *standing;
  }

  // From now on the bucket or the pace tells how many requests may go out.
  void Meter(Scope& scope, Standing& standing) {
    if (!std::exchange(scope.metered, true)) ++metered_scopes_;
    standing.ramping = false;
  }

  // The standing whose pace a refusal there teaches; null where the provider
  // says more than that.
  Standing* Paced(Scope& scope, Group& group) {
    Standing& standing = StandingOf(scope, group);
    if (standing.bucket.rated()) return nullptr;
    Meter(scope, standing);
    return &standing;
  }

  // The gate that a rate limit in the scope shuts.
  Gate& GateOf(const Scope& scope, Standing& standing) {
    return &scope == &unnamed_ ? standing.timer.group->gate : standing.gate;
  }

  // What is due for a group in a scope, after a change of its gate, bucket or
  // pace.
  void SetTimer(Standing& standing) {
    standing.low = !standing.Fits(0, now_);
    Nanos at = kNever;
    if (standing.low) at = standing.WhenFits(0, now_);
    if (standing.gate.state == Gate::State::kShut) at = standing.gate.until;
    timers_.Set(standing.timer, at);
  }

  // --- Gates ---

  void Shut(Gate& gate, const Slot& marked, Nanos until) {
    gate.state = Gate::State::kShut;
    gate.until = until;
    gate.first_fresh = tickets_ + 1;
    gate.marked = marked.id;
  }

  void Open(Gate& gate) const {
    gate.state = gate.guessed && options_.trial_after_guess
                     ? Gate::State::kOnTrial
                     : Gate::State::kOpen;
  }

  static Nanos GuessSpan(const Cooldown& guess, std::uint32_t windows) {
    const double span = static_cast<double>(guess.initial.count()) *
                        std::pow(guess.multiplier, windows);
    return span < static_cast<double>(guess.max.count())
               ? static_cast<Nanos>(span)
               : guess.max.count();
  }

  void Fire(Timer& timer) {
    timers_.Cancel(timer);
    if (timer.slot != nullptr) {
      timer.slot->gate.state = Gate::State::kOnTrial;
      Sync(*timer.slot);
      Tell(KeyEvent::Kind::kReturned, timer.slot, {}, kNever);
    } else if (timer.scope == nullptr) {
      Group& group = *timer.group;
      Open(group.gate);
      for (Slot* member : group.members) Sync(*member);
      Tell(KeyEvent::Kind::kReturned, Marked(group.gate, group), {}, kNever);
    } else if (timer.group != nullptr) {
      Standing& standing = *timer.scope->Find(*timer.group);
      const bool returned = standing.gate.state == Gate::State::kShut;
      if (returned) Open(standing.gate);
      SetTimer(standing);
      Sync(*timer.scope, *timer.group);
      if (returned)
        Tell(KeyEvent::Kind::kReturned, Marked(standing.gate, *timer.group),
             timer.scope->name, kNever);
    } else {
      to_serve_.push_back(timer.scope);
    }
  }

  // The key whose mark shut the gate, or if that left, another of its group.
  const Slot* Marked(const Gate& gate, const Group& group) const {
    const Slot* slot = Find(gate.marked);
    return slot != nullptr ? slot : group.members.front();
  }

  // Settles what the lease was let out to try. If it did not go well, but not
  // by the gate's own fault, the gate is to be tried by another.
  void EndTrials(Grant& grant, bool good) {
    const std::uint8_t trials = std::exchange(grant.trials, std::uint8_t{0});
    Group& group = *grant.slot->group;
    if (trials == 0 || group.members.empty()) return;
    const auto end = [&](Gate& gate) {
      if (gate.state != Gate::State::kTrialTaken || !gate.IsFresh(grant.ticket))
        return;
      gate.state = good ? Gate::State::kOpen : Gate::State::kOnTrial;
    };
    if ((trials & Grant::kKeyTrial) != 0) end(grant.slot->gate);
    if ((trials & Grant::kGroupTrial) != 0) end(group.gate);
    for (Slot* member : group.members) Sync(*member);
    if (Standing* standing = grant.scope->Find(group); standing != nullptr) {
      if ((trials & Grant::kScopeTrial) != 0) end(standing->gate);
      // Two for one: the queue drains faster as the key proves well.
      if ((trials & Grant::kRamp) != 0) standing->credit += good ? 2 : 1;
      Sync(*grant.scope, group);
      if (standing->ramping) to_serve_.push_back(grant.scope);
    }
  }

  // --- Picking ---

  bool TryPick(Scope& scope, const PickHint& hint, Grant& grant) {
    std::span<const std::uint32_t> usable = Usable(scope);
    if (usable.empty()) return false;
    if (!hint.exclude.empty())
      usable = Filter(usable,
                      [&](const Slot& slot) { return !Excludes(hint, slot); });
    if (hint.prefer) {
      Slot* slot = Find(*hint.prefer);
      if (slot != nullptr && IsUsable(scope, *slot) && !Excludes(hint, *slot) &&
          Fits(scope, *slot, hint.cost)) {
        GrantLease(scope, *slot, hint, grant);
        return true;
      }
    }
    std::size_t choice = Choose(scope, usable, hint);
    if (choice < usable.size() &&
        !Fits(scope, *keys_[usable[choice]], hint.cost)) {
      usable = Filter(usable, [&](const Slot& slot) {
        return Fits(scope, slot, hint.cost);
      });
      choice = Choose(scope, usable, hint);
    }
    if (choice >= usable.size()) return false;
    scope.turn = usable[choice] + 1;
    scope.turn_position = choice + 1;
    GrantLease(scope, *keys_[usable[choice]], hint, grant);
    return true;
  }

  static bool Excludes(const PickHint& hint, const Slot& slot) {
    return std::find(hint.exclude.begin(), hint.exclude.end(), slot.id) !=
           hint.exclude.end();
  }

  // Whether what was reported leaves enough for a request that costs more than
  // the least: for that a usable key has enough.
  bool Fits(const Scope& scope, const Slot& slot, double cost) const {
    if (cost <= 1 || !scope.metered) return true;
    const Standing* standing = scope.Find(*slot.group);
    return standing == nullptr || standing->Fits(cost, now_);
  }

  // The result is valid until the next call.
  template <class Predicate>
  std::span<const std::uint32_t> Filter(std::span<const std::uint32_t> usable,
                                        Predicate keep) {
    // In place, if it is filtered a second time.
    if (usable.data() != scratch_.data())
      scratch_.assign(usable.begin(), usable.end());
    std::erase_if(scratch_,
                  [&](std::uint32_t index) { return !keep(*keys_[index]); });
    return scratch_;
  }

  // The position of the policy's choice in `usable`; out of range: none.
  std::size_t Choose(Scope& scope, std::span<const std::uint32_t> usable,
                     const PickHint& hint) const {
    if (usable.empty()) return 0;
    // The turn is where it was, if nothing has changed around it.
    std::size_t turn = scope.turn_position;
    const bool found = turn <= usable.size() &&
                       (turn == 0 || usable[turn - 1] < scope.turn) &&
                       (turn == usable.size() || usable[turn] >= scope.turn);
    if (!found) {
      turn = static_cast<std::size_t>(
          std::lower_bound(usable.begin(), usable.end(), scope.turn) -
          usable.begin());
    }
    if (turn == usable.size()) turn = 0;
    const AvailableKeys view(keys_.data(), usable, turn, scope);
    return static_cast<std::size_t>(
        static_cast<PolicyScope&>(scope).policy(view, hint));
  }

  void GrantLease(Scope& scope, Slot& slot, const PickHint& hint,
                  Grant& grant) {
    grant.slot = &slot;
    grant.scope = &scope;
    grant.ticket = ++tickets_;
    ++slot.picks;
    slot.holds.fetch_add(Slot::kLease, std::memory_order_relaxed);
    if (&scope != &unnamed_) {
      scope.in_flight.fetch_add(1, std::memory_order_relaxed);
      grant.counted = true;
    }
    if (!slot.plain || !scope.standings.empty())
      Account(scope, slot, hint, grant);
  }

  // What a pick changes beyond the count.
  void Account(Scope& scope, Slot& slot, const PickHint& hint, Grant& grant) {
    stirred = true;
    Group& group = *slot.group;
    const auto take = [&](Gate& gate, std::uint8_t trial) {
      if (gate.state != Gate::State::kOnTrial) return false;
      gate.state = Gate::State::kTrialTaken;
      grant.trials |= trial;
      return true;
    };
    const bool key_changed = take(slot.gate, Grant::kKeyTrial) || slot.AtCap();
    if (take(group.gate, Grant::kGroupTrial)) {
      for (Slot* member : group.members) Sync(*member);
    } else if (key_changed) {
      Sync(slot);
    }
    Standing* const standing = scope.Find(group);
    if (standing == nullptr) return;
    take(standing->gate, Grant::kScopeTrial);
    if (standing->ramping) {
      --standing->credit;
      grant.trials |= Grant::kRamp;
    }
    if (standing->metered()) {
      if (standing->bucket.known())
        grant.note = standing->bucket.Take(hint.cost, now_);
      standing->pace.Take(now_);
      SetTimer(*standing);
    }
    Sync(scope, group);
  }

  // How many leases of the group are out in the scope beside one, at most.
  double OthersInFlight(const Scope& scope, const Group& group) const {
    std::size_t count = 0;
    for (const Slot* member : group.members) count += member->in_flight();
    if (&scope != &unnamed_)
      count = std::min<std::size_t>(
          count, scope.in_flight.load(std::memory_order_relaxed));
    return count > 0 ? static_cast<double>(count - 1) : 0;
  }

  // Gives the lease's holds back. True if its slot is gone.
  bool Release(Grant& grant) {
    if (grant.counted)
      grant.scope->in_flight.fetch_sub(1, std::memory_order_acq_rel);
    Slot* const slot = grant.slot;
    const std::uint64_t left =
        slot->holds.fetch_sub(Slot::kLease, std::memory_order_acq_rel) -
        Slot::kLease;
    if (left >= Slot::kLease || (left & Slot::kPooled) != 0) return false;
    std::erase(retired_, slot);
    delete slot;
    return true;
  }

  // --- Waiting ---

  // A group has become usable in a scope: one of those who wait may have it.
  void Offer(Scope& scope, Group& group) {
    if (scope.queue.empty()) return;
    Standing& standing = StandingOf(scope, group);
    if (!standing.metered()) {
      if (!std::exchange(standing.ramping, true)) {
        standing.credit = 0;
        scope.ramping.push_back(group.number);
      }
      standing.credit = std::max(standing.credit, 1u);
      Sync(scope, group);
    }
    to_serve_.push_back(&scope);
  }

  void Serve() {
    while (!to_serve_.empty()) {
      Scope& scope = *to_serve_.back();
      to_serve_.pop_back();
      for (auto it = scope.queue.begin(); it != scope.queue.end();) {
        Request& request = **it++;
        if (Usable(scope).empty()) break;
        if (TryPick(scope, request.hint, request.grant)) {
          request.granted = true;
          granted.push_back(&request);
          scope.dry = false;
          Dequeue(request);
        } else if (const Nanos when = WhenAffordable(scope, request.hint);
                   when != kNever) {
          // First come, first served: no cheaper request overtakes it for ever.
          timers_.Set(scope.cost_timer, when);
          break;
        }
      }
    }
  }

  // When a usable key has enough for a request that none has enough for now;
  // kNever if that is not what it waits for.
  Nanos WhenAffordable(Scope& scope, const PickHint& hint) {
    Nanos when = kNever;
    if (hint.cost <= 1 || !scope.metered) return when;
    for (const std::uint32_t index : Usable(scope)) {
      const Slot& slot = *keys_[index];
      const Standing* standing = scope.Find(*slot.group);
      if (standing == nullptr || Excludes(hint, slot) ||
          standing->Fits(hint.cost, now_))
        continue;
      when = std::min(when, standing->WhenFits(hint.cost, now_));
    }
    return when;
  }

  void Dequeue(Request& request) {
    Scope& scope = *request.scope;
    scope.queue.erase(request.place);
    --waiting_;
    if (!scope.queue.empty()) return;
    std::erase(waited_for_, &scope);
    timers_.Cancel(scope.cost_timer);
    for (const std::uint32_t number : std::exchange(scope.ramping, {})) {
      Standing* const standing = scope.standings[number].get();
      if (standing == nullptr || !std::exchange(standing->ramping, false))
        continue;
      Sync(scope, *standing->timer.group);
    }
  }

  // --- Keys ---

  // The keys that are to join, without the empty ones and the second of equals.
  std::vector<const ApiKey*> Check(const ApiKeys& keys, bool replace) const {
    std::vector<const ApiKey*> wanted;
    std::unordered_map<std::string_view, std::size_t> seen;
    std::unordered_set<std::string_view> taken;
    std::size_t position = 0;
    for (const ApiKey& key : keys) {
      ++position;
      if (key.empty()) continue;
      CheckKey(key, position);
      if (!seen.emplace(key.Reveal(), position).second) continue;
      wanted.push_back(&key);
      if (const Slot* slot = Find(key.Reveal()); slot != nullptr && replace)
        taken.insert(slot->name);
    }
    for (const ApiKey* key : wanted) {
      const std::string& name = key->options().name;
      if (name.empty() || Find(key->Reveal()) != nullptr) continue;
      if (!taken.insert(name).second || (!replace && names_.contains(name))) {
        throw std::invalid_argument(
            fmt::format("API key {} (\"{}\"): another key has that name",
                        seen[key->Reveal()], name));
      }
    }
    return wanted;
  }

  Slot* MakeSlot(const ApiKey& key, const std::shared_ptr<LeaseHost>& host) {
    static std::atomic<std::uint64_t> ids{0};
    auto slot = std::make_unique<Slot>();
    slot->id = KeyId{++ids};
    slot->secret = key.Reveal();
    slot->name = key.options().name;
    slot->group_name = key.options().group;
    slot->host = host;
    slot->timer.slot = slot.get();
    slot->group = GroupOf(slot->group_name);
    slot->group->members.push_back(slot.get());
    by_id_.emplace(slot->id, slot.get());
    by_secret_.emplace(slot->secret, slot.get());
    return slot.release();
  }

  std::shared_ptr<Group> GroupOf(const std::string& name) {
    if (!name.empty()) {
      if (const auto found = groups_.find(name); found != groups_.end())
        return found->second;
    }
    auto group = std::make_shared<Group>();
    group->name = name;
    group->timer.group = group.get();
    if (free_numbers_.empty()) {
      group->number = group_count_++;
    } else {
      group->number = free_numbers_.back();
      free_numbers_.pop_back();
    }
    if (!name.empty()) groups_.emplace(name, group);
    return group;
  }

  // Made-up names come after those that were chosen, so as not to take them.
  void NameNew(const std::vector<Slot*>& joined) {
    for (const Slot* slot : joined) {
      if (!slot->name.empty()) names_.insert(slot->name);
    }
    for (Slot* slot : joined) {
      ++joined_count_;
      if (slot->name.empty()) {
        last_made_up_ = std::max(last_made_up_ + 1, joined_count_);
        while (names_.contains(fmt::format("key-{}", last_made_up_)))
          ++last_made_up_;
        slot->name = fmt::format("key-{}", last_made_up_);
        names_.insert(slot->name);
      }
      slot->name_hash = HashText(slot->name);
      slot->group_hash = slot->group_name.empty() ? slot->name_hash
                                                  : HashText(slot->group_name);
    }
  }

  static void SetCap(Slot& slot, std::size_t max_in_flight) {
    slot.max_in_flight = max_in_flight;
    if (max_in_flight > 0) {
      slot.holds.fetch_or(Slot::kWatched, std::memory_order_acq_rel);
    } else {
      slot.holds.fetch_and(~Slot::kWatched, std::memory_order_acq_rel);
    }
  }

  // Numbers the keys anew. What scopes keep by index moves along.
  void Arrange(std::vector<Slot*> order) {
    const bool appended = order.size() >= keys_.size() &&
                          std::equal(keys_.begin(), keys_.end(), order.begin());
    if (!appended) {
      constexpr std::uint32_t kGone = std::numeric_limits<std::uint32_t>::max();
      std::vector<std::uint32_t> moved_to(keys_.size(), kGone);
      for (std::uint32_t i = 0; i < order.size(); ++i) {
        if (order[i]->index < keys_.size() &&
            keys_[order[i]->index] == order[i])
          moved_to[order[i]->index] = i;
      }
      ForEachScope([&](Scope& scope) {
        std::vector<double> notes(scope.notes.empty() ? 0 : order.size());
        for (std::size_t i = 0; i < scope.notes.size(); ++i) {
          if (moved_to[i] != kGone) notes[moved_to[i]] = scope.notes[i];
        }
        scope.notes = std::move(notes);
        // The turn goes to the next key that stays.
        std::size_t turn = scope.turn;
        while (turn < moved_to.size() && moved_to[turn] == kGone) ++turn;
        scope.turn = turn < moved_to.size()
                         ? moved_to[turn]
                         : static_cast<std::uint32_t>(order.size());
      });
      ++epoch_;
    }
    // Enough for all of them, so that no pick allocates.
    usable_.reserve(order.size());
    scratch_.reserve(order.size());
    const std::size_t first_changed = appended ? keys_.size() : 0;
    keys_ = std::move(order);
    for (std::size_t i = first_changed; i < keys_.size(); ++i)
      keys_[i]->index = static_cast<std::uint32_t>(i);
    if (!appended) {
      usable_.clear();
      for (const Slot* slot : keys_) {
        if (slot->usable) usable_.push_back(slot->index);
      }
    }
  }

  // Takes a key that is no longer among `keys_` out of everything else.
  void Retire(Slot& slot) {
    Tell(KeyEvent::Kind::kRemoved, &slot, {}, kNever);
    timers_.Cancel(slot.timer);
    by_id_.erase(slot.id);
    by_secret_.erase(slot.secret);
    names_.erase(slot.name);
    Group& group = *slot.group;
    std::erase(group.members, &slot);
    if (group.members.empty()) Dissolve(group);

    std::uint64_t holds = slot.holds.load(std::memory_order_relaxed);
    while (!slot.holds.compare_exchange_weak(
        holds, (holds | Slot::kWatched) & ~Slot::kPooled,
        std::memory_order_acq_rel, std::memory_order_relaxed)) {
    }
    if (holds >= Slot::kLease) {
      retired_.push_back(&slot);
    } else {
      delete &slot;
    }
  }

  void Dissolve(Group& group) {
    timers_.Cancel(group.timer);
    ForEachScope([&](Scope& scope) {
      Standing* const standing = scope.Find(group);
      if (standing == nullptr) return;
      timers_.Cancel(standing->timer);
      if (!standing->usable) --scope.shut;
      std::erase(scope.ramping, group.number);
      scope.standings[group.number].reset();
    });
    free_numbers_.push_back(group.number);
    if (!group.name.empty()) groups_.erase(group.name);
  }

  // --- Looking ---

  Position Judge(const Slot& slot, const Scope* scope, double cost) const {
    Nanos returns = now_;
    bool failed = false;
    bool cooling = false;
    bool busy = slot.AtCap();
    const auto pass = [&](const Gate& gate, bool& shut) {
      if (gate.state == Gate::State::kTrialTaken) busy = true;
      if (gate.state != Gate::State::kShut) return;
      shut = true;
      returns = std::max(returns, gate.until);
    };
    pass(slot.gate, failed);
    pass(slot.group->gate, cooling);
    if (const Standing* standing =
            scope == nullptr ? nullptr : scope->Find(*slot.group);
        standing != nullptr) {
      pass(standing->gate, cooling);
      if (standing->metered() &&
          (standing->low || !standing->Fits(cost, now_))) {
        cooling = true;
        returns = std::max({returns, standing->WhenFits(cost, now_),
                            standing->low ? standing->timer.at : now_});
      }
      if (standing->ramping && standing->credit == 0) busy = true;
    }
    const KeyState state = failed    ? KeyState::kFailed
                           : cooling ? KeyState::kCooling
                           : busy    ? KeyState::kBusy
                                     : KeyState::kAvailable;
    // Before its time is over a key that cools is not back, in use or not.
    return {state, state == KeyState::kBusy ? kNever : returns};
  }

  Outlook LookAt(const PickHint& hint) const {
    Outlook outlook;
    const Scope* const scope = FindScope(hint.scope);
    for (const Slot* slot : keys_) {
      if (Excludes(hint, *slot)) continue;
      const Position position = Judge(*slot, scope, hint.cost);
      switch (position.state) {
        case KeyState::kAvailable:
          ++outlook.counts.available;
          break;
        case KeyState::kBusy:
          ++outlook.counts.busy;
          break;
        case KeyState::kCooling:
          ++outlook.counts.cooling;
          break;
        case KeyState::kFailed:
          ++outlook.counts.failed;
          break;
      }
      outlook.next = std::min(outlook.next, position.returns);
    }
    return outlook;
  }

  std::optional<std::chrono::nanoseconds> Until(Nanos time) const {
    if (time == kNever || time <= now_) return std::nullopt;
    return std::chrono::nanoseconds(SaturatingSubtract(time, now_));
  }

  KeyStatus Describe(const Slot& slot) const {
    KeyStatus row;
    row.id = slot.id;
    row.name = slot.name;
    row.group = slot.group_name;
    row.weight = slot.weight;
    row.max_in_flight = slot.max_in_flight;
    const Position position = Judge(slot, &unnamed_, 0);
    row.state = position.state;
    row.returns_in = Until(position.returns);
    row.in_flight = slot.in_flight();
    row.picks = slot.picks;
    row.successes = slot.successes;
    row.rate_limits = slot.rate_limits;
    row.failures = slot.failures;
    const auto add_scope = [&](const Scope& scope) {
      const Standing* const standing = scope.Find(*slot.group);
      if (standing == nullptr ||
          (standing->usable && !standing->bucket.known()))
        return;
      const Position there = Judge(slot, &scope, 0);
      row.scopes.push_back({scope.name, there.state, Until(there.returns),
                            standing->bucket.Believed(now_)});
    };
    add_scope(unnamed_);
    for (const auto& [name, scope] : scopes_) add_scope(*scope);
    std::sort(row.scopes.begin(), row.scopes.end(),
              [](const ScopeStatus& a, const ScopeStatus& b) {
                return a.scope < b.scope;
              });
    return row;
  }

  void Tell(KeyEvent::Kind kind, const Slot* slot, std::string_view scope,
            Nanos until) {
    if (!options_.on_event) return;
    KeyEvent& event = events.emplace_back();
    event.kind = kind;
    if (slot != nullptr) {
      event.id = slot->id;
      event.name = slot->name;
      event.group = slot->group_name;
    }
    event.scope = scope;
    event.returns_in = Until(until);
  }

  // A pick found no key, or the first again.
  void NoteDrought(Scope& scope, const PickHint& hint, bool dry) {
    stirred = true;
    // That a request wants none of those that are left is no news.
    if (dry && !hint.exclude.empty() && !Usable(scope).empty()) return;
    scope.dry = dry;
    if (dry && options_.on_event) {
      Tell(KeyEvent::Kind::kNoKeyLeft, nullptr, scope.name, LookAt(hint).next);
    }
  }

  const RotatorOptions options_;
  const Policy policy_;  // what each scope copies
  Nanos now_ = kLongAgo;
  std::uint64_t tickets_ = 0;
  bool closed_ = false;

  std::vector<Slot*> keys_;     // in the order given
  std::vector<Slot*> retired_;  // removed, with leases out
  std::unordered_map<KeyId, Slot*> by_id_;
  std::unordered_map<std::string_view, Slot*> by_secret_;
  std::unordered_set<std::string, TextHash, std::equal_to<>> names_;
  std::uint64_t joined_count_ = 0;
  std::uint64_t last_made_up_ = 0;

  std::unordered_map<std::string, std::shared_ptr<Group>>
      groups_;  // with a name
  std::uint32_t group_count_ = 0;
  std::vector<std::uint32_t> free_numbers_;

  std::vector<std::uint32_t> usable_;
  std::uint64_t epoch_ = 1;  // of the numbering of the keys
  // The indices whose place in `usable_` changed last. Long enough that a scope
  // in use seldom has to make its list anew.
  std::array<std::uint32_t, 1024> log_{};
  std::uint64_t logged_ = 0;
  std::vector<std::uint32_t> scratch_;

  PolicyScope unnamed_;
  std::unordered_map<std::string, std::unique_ptr<PolicyScope>, TextHash,
                     std::equal_to<>>
      scopes_;
  std::uint64_t scope_uses_ = 0;
  std::size_t metered_scopes_ = 0;

  Timers timers_;
  std::size_t waiting_ = 0;
  std::vector<Scope*> waited_for_;
  std::vector<Scope*> to_serve_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_KEY_TABLE_H_
