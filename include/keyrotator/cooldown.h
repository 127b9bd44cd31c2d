// File: cooldown.h
//
// Cooldown: for how long a key rests that a provider limited without saying for
// how long. Reach: how far a limit reaches.
//
// Example: from 1 s, doubled with each limit that follows, up to a minute.
//   keyrotator::Cooldown cooldown{.initial = std::chrono::seconds(1),
//                                 .multiplier = 2,
//                                 .max = std::chrono::seconds(60)};

#ifndef KEYROTATOR_COOLDOWN_H_
#define KEYROTATOR_COOLDOWN_H_

#include <chrono>

#include "keyrotator/clock.h"

namespace keyrotator {

// How long a key cools if the provider did not say.
struct Cooldown {
  // The first window. > 0.
  Span initial = std::chrono::seconds(60);
  // Each window that follows one without a success between them is longer by
  // this factor. >= 1; 1: none is.
  double multiplier = 1;
  // No guess is longer. > 0.
  Span max = std::chrono::hours(24);
  // Whether the pace that was learned replaces the guess, see
  // RotatorOptions::learn_pace.
  bool learn_pace = false;
  // Where nothing at all is served guesses grow beyond `max` up to this, after a
  // few of `max` in a row: a key that is spent for the day need not be asked each
  // minute of it. They do not if this is no longer than `max`. >= 0.
  Span max_guess_pause = std::chrono::seconds(0);
};

// How far a rate limit reaches.
enum class Reach {
  // The scope of the lease (the whole key if it has none), for all keys of the
  // group.
  kScope,
  // All scopes, for all keys of the group.
  kKey,
};

}  // namespace keyrotator

#endif  // KEYROTATOR_COOLDOWN_H_
