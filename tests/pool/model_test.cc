// Random operations on a KeyRotator and on a naive reference, in lockstep:
// after each one everything that can be seen of the two must be the same.
//
// KEYROTATOR_MODEL_SEED repeats a failure (the message has the seed),
// KEYROTATOR_MODEL_OPERATIONS sets how many operations are done in all.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/reference_rotator.h"

namespace keyrotator::pool_model_test {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using testing::ManualClock;
using testing::ReferenceRotator;

using Positions = std::vector<std::size_t>;

// What a policy must choose: the place in `usable`; empty: none of them.
using Choice = std::optional<std::size_t>;

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Operations of all test cases together.
std::uint64_t Operations() {
  return FromEnvironment("KEYROTATOR_MODEL_OPERATIONS", 120'000);
}

struct Dice {
  explicit Dice(std::uint64_t seed) : engine(seed) {}
  std::size_t Below(std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine);
  }
  bool OneIn(std::size_t n) { return Below(n) == 0; }
  template <class T>
  T Of(std::initializer_list<T> options) {
    return options.begin()[Below(options.size())];
  }
  std::mt19937_64 engine;
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

std::string Show(std::optional<nanoseconds> span) {
  return span ? std::to_string(span->count()) + "ns" : "-";
}

std::string Show(const KeyEvent& event) {
  return fmt::format("{}(id {} {} group '{}' scope '{}' returns in {})",
                     ToString(event.kind), event.id.value, event.name,
                     event.group, event.scope, Show(event.returns_in));
}

// One rotator, its reference, and the leases out.
template <class Expected>
class Lockstep {
 public:
  explicit Lockstep(std::uint64_t seed)
      : dice_(seed),
        options_(MakeOptions()),
        reference_(options_),
        rotator_(InitialKeys(), WithEvents(), expected_.MakePolicy(seed),
                 clock_) {
    const auto rows = rotator_.Snapshot();
    for (std::size_t i = 0; i < initial_.size(); ++i)
      reference_.Join(initial_[i], rows.at(i).id, false);
    reference_.Advance(Now());
  }

  // What differs after `operations` of them; empty: nothing.
  std::string Run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && problem_.empty(); ++i) {
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
    return pool_model_test::Show(span);
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
    std::ranges::shuffle(wanted, dice_.engine);
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
      for (const KeyEvent& event : events)
        shown.push_back(pool_model_test::Show(event));
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

template <class Expected>
void RunAll() {
  constexpr std::uint64_t kPolicies = 8;
  constexpr std::uint64_t kPerRun = 400;
  const std::uint64_t first = FromEnvironment("KEYROTATOR_MODEL_SEED", 1);
  const std::uint64_t runs = Operations() / kPolicies / kPerRun + 1;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const std::string problem = Lockstep<Expected>(seed).Run(kPerRun);
    if (!problem.empty())
      FAIL("KEYROTATOR_MODEL_SEED=" << seed << "\n" << problem);
  }
  SUCCEED();
}

// The other half: limits that are reported. A provider with exact token buckets
// admits or refuses; after its first report the rotator runs the same buckets,
// on the safe side of them.
class Provider {
 public:
  struct Bucket {
    double limit = 0;
    double rate = 0;  // per nanosecond
    double level = 0;
    nanoseconds at{0};

    double LevelAt(nanoseconds now) const {
      return std::min(limit,
                      level + rate * static_cast<double>((now - at).count()));
    }
    void Take(double cost, nanoseconds now) {
      level = LevelAt(now) - cost;
      at = now;
    }
    RateLimit Told(nanoseconds now) const {
      const double left = LevelAt(now);
      return {.limit = limit,
              .remaining = left,
              .reset = nanoseconds(
                  static_cast<std::int64_t>((limit - left) / rate))};
    }
  };
  struct Account {
    Bucket requests;
    Bucket tokens;
    // The first report tells nothing of what was leased before it; from the
    // first report on a lease that is newer, the rotator can be exact.
    bool reported = false;
    bool exact = false;

    // What is told, or none if the request is refused.
    std::optional<RateLimits> Ask(double cost, nanoseconds now) {
      if (!Has(cost, now)) return std::nullopt;
      requests.Take(1, now);
      tokens.Take(cost, now);
      return RateLimits{requests.Told(now), tokens.Told(now)};
    }
    bool Has(double cost, nanoseconds now) const {
      constexpr double kAlmost = 1 - 1e-5;  // for rounding
      return requests.LevelAt(now) >= kAlmost &&
             tokens.LevelAt(now) >= cost * kAlmost;
    }
    // As far as the rotator can know: since headers are rounded down it
    // believes in up to one request more than they say, of which it keeps 0.3
    // in hand.
    bool MayHave(double cost, nanoseconds now) const {
      return requests.LevelAt(now) >= 0.25 &&
             tokens.LevelAt(now) >= cost * (1 - 1e-5);
    }
  };

  explicit Provider(Dice& dice) : dice_(&dice) {}

  Account& AccountOf(std::string_view group, std::string_view scope,
                     nanoseconds now) {
    const auto [entry, created] =
        accounts_.try_emplace({std::string(group), std::string(scope)});
    if (created) {
      const double per_second = 1e-9;
      entry->second.requests = {
          .limit = dice_->Of({3.0, 10.0, 60.0}),
          .rate = dice_->Of({0.2, 1.0, 10.0}) * per_second,
          .level = 0,
          .at = now};
      entry->second.tokens = {.limit = dice_->Of({100.0, 1000.0}),
                              .rate = dice_->Of({10.0, 200.0}) * per_second,
                              .level = 0,
                              .at = now};
      entry->second.requests.level = entry->second.requests.limit;
      entry->second.tokens.level = entry->second.tokens.limit;
    }
    return entry->second;
  }

 private:
  Dice* dice_;
  std::map<std::pair<std::string, std::string>, Account> accounts_;
};

template <class Policy>
class Metered {
 public:
  explicit Metered(std::uint64_t seed)
      : dice_(seed), provider_(dice_), rotator_(Keys(), {}, Policy(), clock_) {}

  std::string Run(std::uint64_t operations) {
    for (std::uint64_t i = 0; i < operations && problem_.empty(); ++i) {
      switch (dice_.Below(6)) {
        case 0:
        case 1:
        case 2:
          Ask();
          break;
        case 3:
          Answer();
          break;
        default:
          MoveClock();
      }
      if (problem_.empty()) Check();
    }
    if (problem_.empty()) Finish();
    return problem_;
  }

 private:
  struct Open {
    Lease lease;
    std::uint64_t number;
    RateLimits told;
    bool after_report;
  };

  static ApiKeys Keys() {
    return {ApiKey("sk-0", {.group = "org"}), ApiKey("sk-1", {.group = "org"}),
            ApiKey("sk-2", {.group = "other"})};
  }
  static constexpr const char* kScopes[] = {"", "m1", "m2"};

  nanoseconds Now() const { return clock_.now().time_since_epoch(); }

  PickHint MakeHint() {
    return {.scope = kScopes[dice_.Below(3)],
            .cost = dice_.Of({0.0, 1.0, 20.0, 90.0})};
  }

  void Ask() {
    const PickHint hint = MakeHint();
    const auto outlook = rotator_.Availability(hint);
    std::optional<Lease> lease = rotator_.Pick(hint);
    if (lease.has_value() != (outlook.available > 0)) {
      problem_ = fmt::format("{} keys available, but picked: {}",
                             outlook.available, lease.has_value());
      return;
    }
    if (!lease) return;
    auto& account = provider_.AccountOf(lease->group(), lease->scope(), Now());
    const std::optional<RateLimits> told = account.Ask(hint.cost, Now());
    if (!told) {
      if (account.exact && !account.MayHave(hint.cost, Now())) {
        problem_ = fmt::format(
            "at {}: {} in '{}' picked, though what was reported leaves {} "
            "requests and {} tokens of the {} it costs",
            Now().count(), lease->name(), lease->scope(),
            account.requests.LevelAt(Now()), account.tokens.LevelAt(Now()),
            hint.cost);
      }
      rotator_.MarkRateLimited(*lease, 1s);
      return;
    }
    open_.push_back(std::make_unique<Open>(
        Open{std::move(*lease), ++asked_, *told, account.reported}));
  }

  // The answers come in any order, each once.
  void Answer() {
    if (open_.empty()) return;
    const std::size_t i = dice_.Below(open_.size());
    const std::unique_ptr<Open> open = std::move(open_[i]);
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(i));
    const std::string group(open->lease.group());
    const std::string scope(open->lease.scope());
    std::uint64_t& newest = newest_[{group, scope}];
    const auto before = Show();
    if (!rotator_.ReportLimits(open->lease, open->told))
      problem_ = "ReportLimits: the key is not in the pool";
    if (open->number < newest && Show() != before) {
      problem_ = "a report from an older lease than the last was not ignored:" +
                 before + "\nbecame" + Show();
    }
    const bool taken = open->number >= newest;
    newest = std::max(newest, open->number);
    auto& account = provider_.AccountOf(group, scope, Now());
    account.reported = true;
    // The rate follows from what was used.
    if (taken && open->after_report &&
        *open->told.tokens.remaining < *open->told.tokens.limit - 1)
      account.exact = true;
  }

  std::string Show() const {
    std::string text;
    for (const KeyStatus& row : rotator_.Snapshot()) {
      for (const ScopeStatus& scope : row.scopes) {
        text += fmt::format("\n  {} in '{}': {} for {}, {} requests, {} tokens",
                            row.name, scope.scope, scope.state,
                            pool_model_test::Show(scope.returns_in),
                            scope.limits.requests.remaining.value_or(-1),
                            scope.limits.tokens.remaining.value_or(-1));
      }
    }
    return text;
  }

  void MoveClock() {
    const auto next = rotator_.NextAvailable(MakeHint());
    const nanoseconds by =
        next && !dice_.OneIn(3)
            ? *next - clock_.now()
            : dice_.Of<nanoseconds>({0ns, 1ns, 10ms, 200ms, 5s});
    clock_.Advance(by);
  }

  void Check() {
    for (const KeyStatus& row : rotator_.Snapshot()) {
      for (const ScopeStatus& scope : row.scopes) {
        const auto& account =
            provider_.AccountOf(row.group, scope.scope, Now());
        const double left = scope.limits.requests.remaining.value_or(0);
        if (!(left >= 0 && left <= account.requests.limit))
          problem_ = fmt::format("{} requests left of {}", left,
                                 account.requests.limit);
        if (account.exact && !account.MayHave(0, Now()) &&
            scope.state == KeyState::kAvailable) {
          problem_ =
              fmt::format("{} is available in '{}' without a request left",
                          row.name, scope.scope);
        }
      }
    }
    const PickHint hint = MakeHint();
    const auto outlook = rotator_.Availability(hint);
    if (!outlook.next) {
      problem_ = fmt::format("nothing returns in '{}' for a cost of {}:{}",
                             hint.scope, hint.cost, Show());
    } else if (dice_.OneIn(10)) {
      // It is back when it was said to be, and not before (but for rounding).
      const nanoseconds wait = *outlook.next - clock_.now();
      if (wait < 1us) return;
      clock_.Advance(wait - 1us);
      const std::size_t early = rotator_.Available(hint);
      clock_.Advance(1us + 1us);
      if (early > 0 || rotator_.Available(hint) == 0) {
        problem_ = fmt::format(
            "in '{}', cost {}: {} available 1 us before the return, {} just "
            "after",
            hint.scope, hint.cost, early, rotator_.Available(hint));
      }
    }
  }

  void Finish() {
    open_.clear();
    clock_.Advance(1h);
    for (const char* scope : kScopes) {
      if (rotator_.Available({.scope = scope, .cost = 90}) != rotator_.Size())
        problem_ =
            fmt::format("an hour later '{}' is held back:{}", scope, Show());
    }
  }

  Dice dice_;
  ManualClock clock_;
  Provider provider_;
  KeyRotator<Policy, ManualClock> rotator_;
  std::vector<std::unique_ptr<Open>> open_;
  std::uint64_t asked_ = 0;
  std::map<std::pair<std::string, std::string>, std::uint64_t> newest_;
  std::string problem_;
};

template <class Policy>
void RunMetered() {
  constexpr std::uint64_t kPerRun = 400;
  const std::uint64_t first = FromEnvironment("KEYROTATOR_MODEL_SEED", 1);
  const std::uint64_t runs = Operations() / 8 / kPerRun + 1;
  for (std::uint64_t seed = first; seed < first + runs; ++seed) {
    const std::string problem = Metered<Policy>(seed).Run(kPerRun);
    if (!problem.empty())
      FAIL("KEYROTATOR_MODEL_SEED=" << seed << "\n" << problem);
  }
  SUCCEED();
}

}  // namespace

TEST_CASE("the rotator does what the model does: round-robin", "[model]") {
  RunAll<Turns>();
}
TEST_CASE("the rotator does what the model does: first available", "[model]") {
  RunAll<Firsts>();
}
TEST_CASE("the rotator does what the model does: weights", "[model]") {
  RunAll<Weights>();
}
TEST_CASE("the rotator does what the model does: least in flight", "[model]") {
  RunAll<Loads>();
}
TEST_CASE("the rotator does what the model does: headroom", "[model]") {
  RunAll<Headrooms>();
}
TEST_CASE("the rotator does what the model does: affinity", "[model]") {
  RunAll<Sessions>();
}
TEST_CASE("the rotator does what the model does: random", "[model]") {
  RunAll<Draws>();
}
TEST_CASE("the rotator does what the model does: a lambda", "[model]") {
  RunAll<Lasts>();
}

TEST_CASE(
    "no key is picked that its provider would refuse, and none is held "
    "back for ever",
    "[model][limits]") {
  RunMetered<RoundRobin>();
}
TEST_CASE("by headroom no key is picked that its provider would refuse",
          "[model][limits]") {
  RunMetered<MostHeadroom>();
}

}  // namespace keyrotator::pool_model_test
