// A KeyRotator and a reference that is slow and plain, in lockstep: after each of
// some operations that are drawn at random all that can be seen of the two must be
// the same.

#ifndef KEYROTATOR_TESTS_SUPPORT_ROTATOR_MODEL_H_
#define KEYROTATOR_TESTS_SUPPORT_ROTATOR_MODEL_H_

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/reference_rotator.h"

namespace keyrotator::testing::model {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

using Positions = std::vector<std::size_t>;

// What a policy must choose: the place in `usable`; empty: none of them.
using Choice = std::optional<std::size_t>;

// What is drawn at random: of a seed, or, for a fuzzer, of bytes, and nothing but
// zeros once these are used up.
class Dice {
 public:
  using result_type = std::uint32_t;
  explicit Dice(std::uint64_t seed) : engine_(seed) {}
  explicit Dice(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool used_up() const { return bytes_ && bytes_->empty(); }
  std::size_t Below(std::size_t n) {
    if (!bytes_)
      return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine_);
    std::size_t value = 0;
    for (std::size_t most = 1; most < n; most <<= 8) {
      if (bytes_->empty()) break;
      value = value << 8 | bytes_->front();
      bytes_ = bytes_->subspan(1);
    }
    return value % n;
  }
  bool OneIn(std::size_t n) { return Below(n) == 0; }
  template <class T>
  T Of(std::initializer_list<T> options) {
    return options.begin()[Below(options.size())];
  }

  // As an engine, for std::ranges::shuffle.
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return 0xffff; }
  result_type operator()() { return static_cast<result_type>(Below(0x10000)); }

 private:
  std::mt19937_64 engine_;
  std::optional<std::span<const std::uint8_t>> bytes_;
};

// The policies once more, over the reference.

struct Turns {
  RoundRobin MakePolicy(std::uint64_t) const { return {}; }
  static constexpr bool kExact = true;
  Choice Choose(ReferenceRotator& reference, const Positions& usable,
                const PickHint& hint) {
    return reference.Turn(usable, hint);
  }
};

struct Firsts {
  FirstAvailable MakePolicy(std::uint64_t) const { return {}; }
  static constexpr bool kExact = true;
  Choice Choose(ReferenceRotator&, const Positions&, const PickHint&) {
    return 0;
  }
};

struct Weights {
  WeightedRoundRobin MakePolicy(std::uint64_t) const { return {}; }
  static constexpr bool kExact = true;
  Choice Choose(ReferenceRotator& reference, const Positions& usable,
                const PickHint& hint) {
    // Weights are powers of two, so that the order of the additions does not
    // matter much; ties are broken alike only if the sums are the same.
    double largest = 0;
    for (const std::size_t i : usable)
      largest = std::max(largest, reference.keys()[i].weight);
    double sum = 0;
    for (const std::size_t i : usable)
      sum += reference.keys()[i].weight / largest;
    Choice best;
    for (std::size_t place = 0; place < usable.size(); ++place) {
      const auto& key = reference.keys()[usable[place]];
      double& note = reference.Note(hint, key.id);
      note += key.weight / largest / sum;
      if (!best ||
          note > reference.Note(hint, reference.keys()[usable[*best]].id))
        best = place;
    }
    reference.Note(hint, reference.keys()[usable[*best]].id) -= 1;
    return best;
  }
};

struct Loads {
  LeastInFlight MakePolicy(std::uint64_t) const { return {}; }
  static constexpr bool kExact = true;
  Choice Choose(ReferenceRotator& reference, const Positions& usable,
                const PickHint& hint) {
    const std::size_t turn = reference.Turn(usable, hint);
    Choice best;
    double least = 0;
    for (std::size_t i = 0; i < usable.size(); ++i) {
      const std::size_t place = (turn + i) % usable.size();
      const auto& key = reference.keys()[usable[place]];
      const double load = (static_cast<double>(key.in_flight) + 1) / key.weight;
      if (!best || load < least) {
        best = place;
        least = load;
      }
    }
    return best;
  }
};

// No limits are reported here, so all keys have the same headroom.
struct Headrooms : Turns {
  MostHeadroom MakePolicy(std::uint64_t) const { return {}; }
};

struct Draws {
  Random MakePolicy(std::uint64_t seed) const { return Random(seed); }
  static constexpr bool kExact = false;
  Choice Choose(ReferenceRotator&, const Positions&, const PickHint&) {
    return {};
  }
  bool Allows(ReferenceRotator&, const Positions&, std::size_t,
              const PickHint&) {
    return true;
  }
};

// A rendezvous hash puts all groups in one order, and the keys of a group in
// one: who was once chosen before another always is.
struct Sessions {
  Affinity<> MakePolicy(std::uint64_t) const { return Affinity<>(); }
  static constexpr bool kExact = false;
  Choice Choose(ReferenceRotator&, const Positions&, const PickHint&) {
    return {};
  }
  bool Allows(ReferenceRotator& reference, const Positions& usable,
              std::size_t chosen, const PickHint& hint) {
    if (hint.affinity.empty()) return chosen == reference.Turn(usable, hint);
    const auto& winner = reference.keys()[usable[chosen]];
    for (const std::size_t i : usable) {
      const auto& loser = reference.keys()[i];
      if (loser.id == winner.id) continue;
      const std::string session(hint.affinity);
      const bool same_group = loser.group == winner.group;
      auto& before = same_group ? keys_before : groups_before;
      const auto mark = [&](const ReferenceRotator::Key& key) {
        return same_group ? key.name : GroupName(key);
      };
      if (before.contains({session, mark(loser), mark(winner)})) return false;
      before.insert({session, mark(winner), mark(loser)});
    }
    return true;
  }
  static std::string GroupName(const ReferenceRotator::Key& key) {
    return key.group_name.empty() ? "only " + key.name : key.group_name;
  }
  std::set<std::array<std::string, 3>> keys_before;
  std::set<std::array<std::string, 3>> groups_before;
};

// A policy that is a lambda, and now and then wants none of the keys.
struct Lasts {
  auto MakePolicy(std::uint64_t) const {
    return [](const AvailableKeys& keys, const PickHint& hint) {
      return hint.affinity == "picky" ? keys.size() : keys.size() - 1;
    };
  }
  static constexpr bool kExact = true;
  Choice Choose(ReferenceRotator&, const Positions& usable,
                const PickHint& hint) {
    if (hint.affinity == "picky") return {};
    return usable.size() - 1;
  }
};

inline std::string Show(std::optional<nanoseconds> span) {
  return span ? std::to_string(span->count()) + "ns" : "-";
}

inline std::string Show(const KeyEvent& event) {
  return fmt::format("{}(id {} {} group '{}' scope '{}' returns in {})",
                     ToString(event.kind), event.id.value, event.name,
                     event.group, event.scope, Show(event.returns_in));
}

// One rotator, its reference, and the leases out.
template <class Expected>
class Lockstep {
 public:
  explicit Lockstep(Dice dice, std::uint64_t seed = 1)
      : dice_(dice),
        options_(MakeOptions()),
        reference_(options_),
        rotator_(InitialKeys(), WithEvents(), expected_.MakePolicy(seed),
                 clock_) {
    const auto rows = rotator_.Snapshot();
    for (std::size_t i = 0; i < initial_.size(); ++i)
      reference_.Join(initial_[i], rows.at(i).id, false);
    reference_.Advance(Now());
  }

  // What differs after `operations` of them, or as many as there are dice for;
  // empty: nothing.
  std::string Run(std::uint64_t operations) {
    for (std::uint64_t i = 0;
         i < operations && problem_.empty() && !dice_.used_up(); ++i) {
      Step();
      if (problem_.empty()) Compare();
    }
    if (problem_.empty()) return {};
    std::string text = problem_ + "\noptions: " + ShowOptions() + "\n";
    for (const std::string& line : trace_) text += "  " + line + "\n";
    return text;
  }

 private:
  struct Held {
    Lease lease;
    ReferenceRotator::Lease reference;
  };

  // Setting up.

  RotatorOptions MakeOptions() {
    RotatorOptions options;
    options.cooldown = dice_.Of({60s, 1s, 7s});
    options.max_cooldown = dice_.Of<Span>({24h, 90s, 5s});
    options.cooldown_multiplier = dice_.Of({1.0, 2.0});
    options.trial_after_guess = !dice_.OneIn(3);
    if (dice_.OneIn(2)) options.retry_failed_after = dice_.Of({30s, 3600s});
    options.max_scopes = dice_.Of<std::size_t>({256, 3, 1});
    return options;
  }
  RotatorOptions WithEvents() {
    RotatorOptions options = options_;
    options.on_event = [this](const KeyEvent& event) {
      events_.push_back(event);
    };
    return options;
  }
  std::string ShowOptions() const {
    return fmt::format(
        "cooldown {} max {} multiplier {} trial {} retry {} scopes {}",
        Show(options_.cooldown), Show(options_.max_cooldown),
        options_.cooldown_multiplier, options_.trial_after_guess,
        options_.retry_failed_after ? Show(*options_.retry_failed_after) : "-",
        options_.max_scopes);
  }

  ApiKey MakeKey(std::size_t number) {
    KeyOptions options;
    options.group = dice_.Of({"", "", "org-1", "org-2"});
    options.weight = dice_.Of({1.0, 1.0, 2.0, 4.0});
    options.max_in_flight = dice_.Of<std::size_t>({0, 0, 1, 2});
    if (dice_.OneIn(4)) options.name = "named-" + std::to_string(++named_);
    return ApiKey("sk-" + std::to_string(number), options);
  }
  const std::vector<ApiKey>& InitialKeys() {
    const std::size_t count = dice_.Below(kValues);
    for (std::size_t i = 0; i < count; ++i) initial_.push_back(MakeKey(i));
    return initial_;
  }

  nanoseconds Now() const { return clock_.now().time_since_epoch(); }

  template <class... Args>
  void Note(fmt::format_string<Args...> format, Args&&... args) {
    trace_.push_back(fmt::format("t={} ", Now().count()) +
                     fmt::format(format, std::forward<Args>(args)...));
    if (trace_.size() > 60) trace_.pop_front();
  }
  template <class... Args>
  void Differs(fmt::format_string<Args...> format, Args&&... args) {
    if (problem_.empty())
      problem_ = fmt::format(format, std::forward<Args>(args)...);
  }
  template <class T, class U>
  void Same(std::string_view what, const T& real, const U& wanted) {
    if (!(real == wanted)) Differs("{}: got {}, want {}", what, real, wanted);
  }

  // One operation.

  void Step() {
    reference_.Advance(Now());
    switch (dice_.Below(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
      case 5:
        return PickOne();
      case 6:
        return PickWaiting();
      case 7:
      case 8:
      case 9:
        return EndOne();
      case 10:
      case 11:
      case 12:
        return LimitOne();
      case 13:
        return FailOne();
      case 14:
        return SucceedOne();
      case 15:
        return dice_.OneIn(2) ? RestoreOne() : SucceedOne();
      case 16:
        return dice_.OneIn(3) ? ChangeKeys() : PickOne();
      default:
        return MoveClock();
    }
  }

  // A hint; what its views show lives until the next one.
  PickHint MakeHint() {
    PickHint hint;
    hint.scope = dice_.Of({"", "", "m1", "m1", "m2", "m3", "m4", "m5"});
    hint.affinity = dice_.Of({"", "", "u1", "u2", "u3", "picky"});
    excluded_.clear();
    if (dice_.OneIn(4)) {
      for (const auto& key : reference_.keys()) {
        if (dice_.OneIn(3)) excluded_.push_back(key.id);
      }
      if (dice_.OneIn(3)) excluded_.push_back(KeyId{0});
    }
    hint.exclude = excluded_;
    if (dice_.OneIn(5) && !reference_.keys().empty())
      hint.prefer = reference_.keys()[dice_.Below(reference_.keys().size())].id;
    return hint;
  }
  std::string Show(const PickHint& hint) const {
    std::string text =
        fmt::format("scope '{}' affinity '{}'", hint.scope, hint.affinity);
    if (hint.prefer) text += fmt::format(" prefer {}", *hint.prefer);
    for (const KeyId id : hint.exclude) text += fmt::format(" not {}", id);
    return text;
  }
  using nanos = nanoseconds;
  static std::string Show(std::optional<nanos> span) {
    return model::Show(span);
  }

  // What the reference picks now, told what the rotator picked.
  std::optional<ReferenceRotator::Lease> PickInReference(
      const PickHint& hint, const std::optional<Lease>& real) {
    reference_.Enter(hint);
    const Positions usable = reference_.Usable(hint);
    if (usable.empty()) return std::nullopt;
    if (hint.prefer) {
      for (const std::size_t position : usable) {
        if (reference_.keys()[position].id == *hint.prefer)
          return reference_.Take(position, hint, false);
      }
    }
    Choice choice;
    if constexpr (Expected::kExact) {
      choice = expected_.Choose(reference_, usable, hint);
    } else {
      if (!real) {
        Differs("no key picked, but {} are usable", usable.size());
        return std::nullopt;
      }
      for (std::size_t place = 0; place < usable.size(); ++place) {
        if (reference_.keys()[usable[place]].id == real->id()) choice = place;
      }
      if (!choice) {
        Differs("key {} picked, which is not usable", real->id());
        return std::nullopt;
      }
      if (!expected_.Allows(reference_, usable, *choice, hint))
        Differs("key {} is not the policy's choice", real->id());
    }
    if (!choice) return std::nullopt;
    return reference_.Take(usable[*choice], hint, true);
  }

  void ComparePick(std::optional<Lease> real,
                   const std::optional<ReferenceRotator::Lease>& wanted,
                   const PickHint& hint) {
    const auto id = [](const auto& lease, auto get) {
      return lease ? get(*lease).value : 0;
    };
    const std::uint64_t got =
        id(real, [](const Lease& lease) { return lease.id(); });
    const std::uint64_t want =
        id(wanted, [](const auto& lease) { return lease.key; });
    if (got != want)
      return Differs("picked: got key {}, want key {} (0: none)", got, want);
    if (!real) return;
    const auto* key = reference_.Find(wanted->key);
    Same("name", real->name(), key->name);
    Same("group", real->group(), key->group_name);
    Same("value", real->Reveal(), key->value);
    Same("scope", real->scope(), hint.scope);
    held_.push_back(std::make_unique<Held>(Held{std::move(*real), *wanted}));
  }

  void PickOne() {
    const PickHint hint = MakeHint();
    Note("Pick {}", Show(hint));
    std::optional<Lease> real = rotator_.Pick(hint);
    const auto wanted = PickInReference(hint, real);
    if (problem_.empty() && !wanted) reference_.TakeNone(hint);
    if (problem_.empty()) ComparePick(std::move(real), wanted, hint);
  }

  void PickWaiting() {
    const PickHint hint = MakeHint();
    const nanoseconds time =
        dice_.Of<nanoseconds>({0s, -1s, 1ns, 1s, 10s, 60s, 100s, 25h});
    Note("PickFor {} {}", Show(time), Show(hint));
    const nanoseconds deadline = Now() + time;
    clock_.AdvanceWhenWaiting();
    std::optional<Lease> real = rotator_.PickFor(time, hint);
    clock_.AdvanceWhenWaiting(false);
    auto wanted = PickInReference(hint, real);
    // That it waits is told at once.
    if (problem_.empty() && !wanted) reference_.TakeNone(hint);
    while (problem_.empty() && !wanted && reference_.now() < deadline) {
      reference_.Advance(std::min(deadline, reference_.NextDue()));
      wanted = PickInReference(hint, real);
    }
    if (!problem_.empty()) return;
    Same("time after waiting", Now().count(), reference_.now().count());
    ComparePick(std::move(real), wanted, hint);
  }

  void EndOne() {
    if (held_.empty()) return PickOne();
    const std::size_t i = dice_.Below(held_.size());
    Note("end lease {} of {} in '{}'", held_[i]->reference.ticket,
         held_[i]->reference.key, held_[i]->reference.scope);
    reference_.End(held_[i]->reference);
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  // Calls `real` with one way to name a key and `wanted` with the same.
  template <class Real, class Wanted>
  void Report(std::string_view what, Real real, Wanted wanted) {
    bool got = false;
    bool want = false;
    switch (dice_.Below(8)) {
      case 0: {
        const std::string value =
            "sk-" + std::to_string(dice_.Below(kValues + 2));
        Note("{} by value {}", what, value);
        const auto* key = reference_.Find(value);
        want =
            key != nullptr && wanted(ReferenceRotator::About{key->id, nullptr});
        got =
            dice_.OneIn(2) ? real(KeyRef(value)) : real(KeyRef(value.c_str()));
        break;
      }
      case 1: {
        const KeyId id =
            reference_.keys().empty() || dice_.OneIn(8)
                ? KeyId{0}
                : reference_.keys()[dice_.Below(reference_.keys().size())].id;
        Note("{} by id {}", what, id);
        want = wanted(ReferenceRotator::About{id, nullptr});
        got = real(KeyRef(id));
        break;
      }
      case 2: {
        if (dice_.OneIn(4)) {
          const std::optional<Lease> foreign = other_.Pick();
          Note("{} by another rotator's lease", what);
          got = real(KeyRef(*foreign));
          break;
        }
        [[fallthrough]];
      }
      default: {
        if (held_.empty()) return PickOne();
        Held& held = *held_[dice_.OneIn(2) ? held_.size() - 1
                                           : dice_.Below(held_.size())];
        Note("{} by lease {} of {} in '{}'", what, held.reference.ticket,
             held.reference.key, held.reference.scope);
        want = wanted(
            ReferenceRotator::About{held.reference.key, &held.reference});
        got = real(KeyRef(held.lease));
      }
    }
    Same("whether the key is in the pool", got, want);
  }

  void LimitOne() {
    const Reach reach = dice_.Of({Reach::kScope, Reach::kScope, Reach::kKey});
    if (dice_.OneIn(3)) {
      const nanoseconds hint = dice_.Of<nanoseconds>(
          {0s, -1s, nanoseconds::min(), nanoseconds::max(), 1ns, 1s, 20s,
           nanoseconds(static_cast<std::int64_t>(dice_.Below(100)) *
                       1'000'000'000)});
      Report(
          fmt::format("MarkRateLimited {} reach {}", Show(hint),
                      static_cast<int>(reach)),
          [&](const KeyRef& key) {
            // The same span in another unit, now and then.
            if (hint == nanoseconds::max())
              return rotator_.MarkRateLimited(key, std::chrono::hours::max(),
                                              reach);
            if (hint == 20s)
              return rotator_.MarkRateLimited(
                  key, std::chrono::duration<double>(20), reach);
            return rotator_.MarkRateLimited(key, hint, reach);
          },
          [&](ReferenceRotator::About about) {
            return reference_.LimitRate(about, hint, OptionsGuess(), reach);
          });
      return;
    }
    if (dice_.OneIn(3)) {
      Cooldown guess;
      guess.initial = dice_.Of({1s, 3s});
      guess.multiplier = dice_.Of({1.0, 2.0});
      guess.max = dice_.Of({10s, 600s});
      guess.max_guess_pause = dice_.Of({0s, 60s});
      Report(
          fmt::format("MarkRateLimited guess {} x {} max {} or {} reach {}",
                      Show(guess.initial), guess.multiplier, Show(guess.max),
                      Show(guess.max_guess_pause), static_cast<int>(reach)),
          [&](const KeyRef& key) {
            return rotator_.Settle(
                key, {.kind = keyrotator::Report::Kind::kRateLimited,
                      .reach = reach,
                      .guess = guess});
          },
          [&](ReferenceRotator::About about) {
            return reference_.LimitRate(about, 0ns, guess, reach);
          });
      return;
    }
    Report(
        fmt::format("MarkRateLimited reach {}", static_cast<int>(reach)),
        [&](const KeyRef& key) {
          return rotator_.MarkRateLimited(key, 0s, reach);
        },
        [&](ReferenceRotator::About about) {
          return reference_.LimitRate(about, 0ns, OptionsGuess(), reach);
        });
  }
  Cooldown OptionsGuess() const {
    return {options_.cooldown, options_.cooldown_multiplier,
            options_.max_cooldown};
  }

  void FailOne() {
    Report(
        "MarkFailed",
        [&](const KeyRef& key) { return rotator_.MarkFailed(key); },
        [&](ReferenceRotator::About about) { return reference_.Fail(about); });
  }
  void SucceedOne() {
    Report(
        "MarkSucceeded",
        [&](const KeyRef& key) { return rotator_.MarkSucceeded(key); },
        [&](ReferenceRotator::About about) {
          return reference_.Succeed(about);
        });
  }
  void RestoreOne() {
    Report(
        "Restore", [&](const KeyRef& key) { return rotator_.Restore(key); },
        [&](ReferenceRotator::About about) {
          return reference_.Restore(about.key);
        });
  }

  void ChangeKeys() {
    switch (dice_.Below(5)) {
      case 0:
      case 1: {
        const ApiKey key = MakeKey(dice_.Below(kValues));
        const bool there = reference_.Find(key.Reveal()) != nullptr;
        Note("Add {} group '{}' cap {} weight {}", key.Reveal(),
             key.options().group, key.options().max_in_flight,
             key.options().weight);
        const std::optional<KeyId> id = rotator_.Add(key);
        Same("whether the key was added", id.has_value(), !there);
        if (id && !there) reference_.Join(key, *id, true);
        return;
      }
      case 2:
      case 3:
        return Report(
            "Remove", [&](const KeyRef& key) { return rotator_.Remove(key); },
            [&](ReferenceRotator::About about) {
              if (reference_.Find(about.key) == nullptr) return false;
              reference_.Remove(about.key);
              return true;
            });
      default:
        return ReplaceAll();
    }
  }

  void ReplaceAll() {
    std::vector<ApiKey> wanted;
    for (std::size_t i = 0; i < kValues; ++i) {
      if (!dice_.OneIn(3)) wanted.push_back(MakeKey(i));
    }
    std::ranges::shuffle(wanted, dice_);
    std::vector<ApiKey> given = wanted;
    given.emplace_back("");
    if (!wanted.empty()) given.push_back(wanted.front());  // twice: counts once
    std::string list;
    for (const ApiKey& key : wanted) list += " " + key.Reveal();
    Note("Replace{}", list);
    rotator_.Replace(given);
    std::vector<KeyId> ids;
    for (const KeyStatus& row : rotator_.Snapshot()) ids.push_back(row.id);
    if (ids.size() != wanted.size())
      return Differs("Replace: {} keys, want {}", ids.size(), wanted.size());
    reference_.Replace(wanted, ids);
  }

  void MoveClock() {
    const nanoseconds next = reference_.NextDue();
    nanoseconds by = dice_.Of<nanoseconds>(
        {0ns, 1ns, 1s, 10s,
         nanoseconds(static_cast<std::int64_t>(dice_.Below(100'000'000'000)))});
    if (next != ReferenceRotator::kNever && !dice_.OneIn(3)) {
      by = next - Now() - (dice_.OneIn(3) ? 1ns : 0ns);
    } else if (dice_.OneIn(30)) {
      by = 25h;
    }
    Note("Advance {}", Show(by));
    clock_.Advance(by);
    reference_.Advance(Now());
  }

  // Comparing all that can be seen.

  void Compare() {
    Same("Size", rotator_.Size(), reference_.keys().size());
    CompareOutlook({});
    CompareOutlook(MakeHint());
    CompareSnapshot();
    CompareEvents();
  }

  void CompareOutlook(const PickHint& hint) {
    const auto real = rotator_.Availability(hint);
    const auto wanted = reference_.Look(hint);
    const auto show = [](const KeyCounts& counts) {
      return fmt::format("{} available {} busy {} cooling {} failed",
                         counts.available, counts.busy, counts.cooling,
                         counts.failed);
    };
    Same(fmt::format("Availability {}", Show(hint)), show(real),
         show(wanted.counts));
    const auto time = [](const auto& next) {
      return next ? next->time_since_epoch().count()
                  : ReferenceRotator::kNever.count();
    };
    Same(fmt::format("Availability.next {}", Show(hint)), time(real.next),
         wanted.next.count());
    Same("Available", rotator_.Available(hint), wanted.counts.available);
    Same("NextAvailable", time(rotator_.NextAvailable(hint)),
         wanted.next.count());
  }

  static std::optional<nanoseconds> ReturnsIn(
      const ReferenceRotator::Standing& standing, nanoseconds now) {
    if (standing.back == ReferenceRotator::kNever) return std::nullopt;
    return standing.back - now;
  }

  void CompareSnapshot() {
    const std::vector<KeyStatus> rows = rotator_.Snapshot();
    if (rows.size() != reference_.keys().size())
      return Differs("Snapshot: {} rows, want {}", rows.size(),
                     reference_.keys().size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const KeyStatus& row = rows[i];
      const ReferenceRotator::Key& key = reference_.keys()[i];
      const auto same = [&](std::string_view what, const auto& real,
                            const auto& wanted) {
        Same(fmt::format("row {} (key {}): {}", i, key.id, what), real, wanted);
      };
      same("id", row.id, key.id);
      same("name", row.name, key.name);
      same("group", row.group, key.group_name);
      same("weight", row.weight, key.weight);
      same("max_in_flight", row.max_in_flight, key.cap);
      const auto standing = reference_.StandingOf(key, "");
      same("state", row.state, standing.state);
      same("returns_in", Show(row.returns_in),
           Show(ReturnsIn(standing, reference_.now())));
      same("in_flight", row.in_flight, key.in_flight);
      same("picks", row.picks, key.picks);
      same("successes", row.successes, key.successes);
      same("rate_limits", row.rate_limits, key.rate_limits);
      same("failures", row.failures, key.failures);
      CompareScopes(row, key);
    }
  }

  void CompareScopes(const KeyStatus& row, const ReferenceRotator::Key& key) {
    for (const ScopeStatus& scope : row.scopes) {
      const auto standing = reference_.StandingOf(key, scope.scope);
      Same(fmt::format("key {} in '{}': state", key.id, scope.scope),
           scope.state, standing.state);
      Same(fmt::format("key {} in '{}': returns_in", key.id, scope.scope),
           Show(scope.returns_in), Show(ReturnsIn(standing, reference_.now())));
    }
    for (const std::string& name : reference_.CoolingScopes(key)) {
      if (std::ranges::none_of(row.scopes, [&](const ScopeStatus& scope) {
            return scope.scope == name;
          }))
        Differs("key {}: no row for scope '{}', in which it cools", key.id,
                name);
    }
  }

  // What happens in one call at one time has no order of its own.
  void CompareEvents() {
    const auto lines = [](std::vector<KeyEvent>& events) {
      std::vector<std::string> shown;
      for (const KeyEvent& event : events) shown.push_back(model::Show(event));
      std::ranges::sort(shown);
      std::string text;
      for (const std::string& line : shown) text += "\n    " + line;
      events.clear();
      return text;
    };
    Same("events", lines(events_), lines(reference_.events));
  }

  static constexpr std::size_t kValues = 9;

  Dice dice_;
  ManualClock clock_;
  RotatorOptions options_;
  Expected expected_;
  std::vector<ApiKey> initial_;
  std::size_t named_ = 0;
  ReferenceRotator reference_;
  std::vector<KeyEvent> events_;
  using Policy = decltype(std::declval<Expected&>().MakePolicy(0));
  KeyRotator<Policy, ManualClock> rotator_;
  KeyRotator<> other_{{"sk-0", "sk-1"}};
  std::vector<std::unique_ptr<Held>> held_;
  std::vector<KeyId> excluded_;
  std::deque<std::string> trace_;
  std::string problem_;
};

}  // namespace keyrotator::testing::model

#endif  // KEYROTATOR_TESTS_SUPPORT_ROTATOR_MODEL_H_
