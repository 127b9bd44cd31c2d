// File: rotator_options.h
//
// How a rotator treats its keys. All of it has defaults.
//
// Example:
//   keyrotator::KeyRotator rotator(
//       keys, {.max_waiters = 100,
//              .on_event = [](const keyrotator::KeyEvent& event) {
//                fmt::print(stderr, "{}\n", event);
//              }});

#ifndef KEYROTATOR_ROTATOR_OPTIONS_H_
#define KEYROTATOR_ROTATOR_OPTIONS_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>

#include "keyrotator/clock.h"
#include "keyrotator/cooldown.h"
#include "keyrotator/key_status.h"
#include "keyrotator/retry_budget.h"

namespace keyrotator {

struct RotatorOptions {
  // After a rate limit without a hint. > 0.
  Span cooldown = std::chrono::seconds(60);
  // No cooldown is longer, hint or not. > 0.
  Span max_cooldown = std::chrono::hours(24);
  // See Cooldown::multiplier.
  double cooldown_multiplier = 1;
  // Whether to learn from its refusals how fast a provider lets requests
  // through that reports no limits, and to let them out at that pace then. It
  // learns from reports by lease, and needs each success reported by
  // MarkSucceeded; else it takes the provider for slower than it is.
  // OpenAIClient learns whatever this is set to.
  bool learn_pace = false;
  // Of learn_pace: for how long a key rests at most between two refusals without
  // a hint, where nothing at all is served. A minute, if that is longer. >= 0.
  Span max_guess_pause = std::chrono::minutes(15);
  // Whether after a guessed cooldown a single lease goes out, and others once
  // it has ended or succeeded.
  bool trial_after_guess = true;
  // When a failed key is tried again, with a single lease. Empty: not before
  // Restore.
  std::optional<Span> retry_failed_after = {};

  // How many retries all requests may make together, see RetryBudget.
  RetryBudget retry_budget = {};

  // How many scopes are remembered. The least recently used one in which
  // nothing cools and no lease is out is forgotten, so there can be more while
  // more are in such use. > 0.
  std::size_t max_scopes = 256;
  // How many callers may wait in PickUntil and PickFor at one time; for one
  // more they return at once, as if their time were over. 0: no bound.
  std::size_t max_waiters = 0;

  // Called for each change, on the thread that caused or noticed it, after the
  // lock was released: it may call the rotator, and calls may come from several
  // threads at once. It must not throw.
  std::function<void(const KeyEvent&)> on_event = {};
};

}  // namespace keyrotator

#endif  // KEYROTATOR_ROTATOR_OPTIONS_H_
