// File: key_status.h
//
// What a rotator says about its keys: KeyStatus, a row of a snapshot, and
// KeyEvent, a change as it happens. Both hold names and numbers, never a
// secret, and times as spans, so that they need no clock.
//
// Example:
//   for (const keyrotator::KeyStatus& key : rotator.Snapshot()) {
//     fmt::print("{}\n", key);
//   }
//   // prod-1: cooling, returns in 12.5s (picks 40, in flight 1, rate limits 2)

#ifndef KEYROTATOR_KEY_STATUS_H_
#define KEYROTATOR_KEY_STATUS_H_

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/internal/format.h"
#include "keyrotator/limits.h"

namespace keyrotator {

enum class KeyState {
  kAvailable,
  // At its max_in_flight, or its trial is out: usable when a lease ends.
  kBusy,
  // Rate limited, or the limit that was reported is used up: usable after a
  // time.
  kCooling,
  // Not usable until Restore, or until RotatorOptions::retry_failed_after is
  // over.
  kFailed,
};

constexpr std::string_view ToString(KeyState state) {
  switch (state) {
    case KeyState::kAvailable:
      return "available";
    case KeyState::kBusy:
      return "busy";
    case KeyState::kCooling:
      return "cooling";
    case KeyState::kFailed:
      return "failed";
  }
  return "unknown";
}

// How many keys are in which state, for one hint.
struct KeyCounts {
  std::size_t available = 0;
  std::size_t busy = 0;
  std::size_t cooling = 0;
  std::size_t failed = 0;
};

// One key in one scope that it was limited in or that limits were reported for.
struct ScopeStatus {
  std::string scope = {};
  KeyState state = KeyState::kAvailable;
  std::optional<std::chrono::nanoseconds> returns_in = {};
  // What is left now by the last report and what was leased since; empty:
  // nothing was reported.
  RateLimits limits = {};
  // False: the key rests here as it had no permission, while another key served
  // the same request; `state` is kCooling then.
  bool has_access = true;
};

// One key of a snapshot.
struct KeyStatus {
  KeyId id = {};
  std::string name = {};
  std::string group = {};  // empty: a group of one
  double weight = 1;
  std::size_t max_in_flight = 0;  // 0: no cap

  // Of the whole key: one that is available may still cool in one of `scopes`.
  KeyState state = KeyState::kAvailable;
  // How long until time alone brings the key back; empty if it is available, or
  // if time alone does not.
  std::optional<std::chrono::nanoseconds> returns_in = {};

  std::size_t in_flight = 0;
  // Counted since the key joined.
  std::uint64_t picks = 0;
  std::uint64_t successes = 0;
  std::uint64_t rate_limits = 0;
  std::uint64_t failures = 0;

  std::vector<ScopeStatus> scopes = {};
};

// A change in a rotator, as RotatorOptions::on_event gets it.
struct KeyEvent {
  enum class Kind {
    // A cooldown began or was made longer.
    kCooled,
    // MarkFailed.
    kFailed,
    // A cooldown or failure is over. The first call after its end notices.
    kReturned,
    kAdded,
    kRemoved,
    // A pick found no key, and the pick before it found one.
    kNoKeyLeft,
    // MarkNoAccess.
    kNoAccess,
    // The fleet did not answer: soon the keys go on by what is known here. And it
    // answered again.
    kFleetLost,
    kFleetBack,
  };
  Kind kind = Kind::kAdded;
  // The key that changed; where a group cools or returns, the one that was
  // marked. Empty for kNoKeyLeft, kFleetLost and kFleetBack.
  KeyId id = {};
  std::string name = {};
  std::string group = {};
  // Empty: the whole key.
  std::string scope = {};
  // kCooled, kNoAccess: how long. kFailed, kNoKeyLeft: how long until a key returns. Empty
  // if time alone does not bring one back.
  std::optional<std::chrono::nanoseconds> returns_in = {};
};

constexpr std::string_view ToString(KeyEvent::Kind kind) {
  switch (kind) {
    case KeyEvent::Kind::kCooled:
      return "cooled";
    case KeyEvent::Kind::kFailed:
      return "failed";
    case KeyEvent::Kind::kReturned:
      return "returned";
    case KeyEvent::Kind::kAdded:
      return "added";
    case KeyEvent::Kind::kRemoved:
      return "removed";
    case KeyEvent::Kind::kNoKeyLeft:
      return "no key left";
    case KeyEvent::Kind::kNoAccess:
      return "no access";
    case KeyEvent::Kind::kFleetLost:
      return "fleet lost";
    case KeyEvent::Kind::kFleetBack:
      return "fleet back";
  }
  return "unknown";
}

namespace internal {

// "12.5s", "3600s". Without the chrono formatters, whose header costs more to
// compile than the rest of this library.
inline std::string SpanText(std::chrono::nanoseconds span) {
  const double seconds = std::chrono::duration<double>(span).count();
  return seconds < 1000 ? fmt::format("{:.3g}s", seconds)
                        : fmt::format("{:.0f}s", seconds);
}

// ", returns in 12.5s", or nothing.
inline std::string ReturnText(
    const std::optional<std::chrono::nanoseconds>& returns_in) {
  return returns_in ? ", returns in " + SpanText(*returns_in) : std::string();
}

}  // namespace internal
}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::KeyState>
    : keyrotator::internal::NameFormatter<keyrotator::KeyState> {};

template <>
struct fmt::formatter<keyrotator::KeyEvent::Kind>
    : keyrotator::internal::NameFormatter<keyrotator::KeyEvent::Kind> {};

// "prod-1: cooling, returns in 12.5s (picks 40, in flight 1, rate limits 2);
// gpt-4o: cooling, returns in 3s"
template <>
struct fmt::formatter<keyrotator::KeyStatus>
    : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::KeyStatus& key, Context& context) const {
    using keyrotator::internal::ReturnText;
    // Text that fmt::format made is appended, here and below: fmt::format_to
    // would compile fmt's whole engine again in each file that prints a key.
    std::string text =
        fmt::format("{}: {}{} (picks {}, in flight {}", key.name,
                    keyrotator::ToString(key.state), ReturnText(key.returns_in),
                    key.picks, key.in_flight);
    if (key.rate_limits > 0)
      text += fmt::format(", rate limits {}", key.rate_limits);
    if (key.failures > 0) text += fmt::format(", failures {}", key.failures);
    text.push_back(')');
    for (const keyrotator::ScopeStatus& scope : key.scopes) {
      const std::string_view name =
          scope.scope.empty() ? std::string_view("(no scope)") : scope.scope;
      text += scope.has_access ? fmt::format("; {}: {}", name,
                                             keyrotator::ToString(scope.state))
                               : fmt::format("; no access to {}", name);
      text += ReturnText(scope.returns_in);
    }
    return fmt::formatter<std::string_view>::format(text, context);
  }
};

// "prod-1 cooled in gpt-4o for 20s", "no key left, returns in 3s"
template <>
struct fmt::formatter<keyrotator::KeyEvent> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::KeyEvent& event, Context& context) const {
    using Kind = keyrotator::KeyEvent::Kind;
    std::string text(event.name);
    if (!text.empty()) text.push_back(' ');
    text += ToString(event.kind);
    const bool no_access = event.kind == Kind::kNoAccess;
    if (!event.scope.empty())
      text.append(no_access ? " to " : " in ").append(event.scope);
    if (event.returns_in) {
      text +=
          event.kind == Kind::kCooled || no_access ? " for " : ", returns in ";
      text += keyrotator::internal::SpanText(*event.returns_in);
    }
    return fmt::formatter<std::string_view>::format(text, context);
  }
};

#endif  // KEYROTATOR_KEY_STATUS_H_
