// File: openai/tried_keys.h
//
// TriedKeys: which keys one request must not use, now or at all. A key that
// refused it for good is not asked again; one that it has used twice rests,
// longer each time, whatever hint its provider gave.
//
// Example:
//   keyrotator::internal::TriedKeys tried;
//   tried.Refuse(lease.id());
//   auto another = rotator.Pick({.exclude = tried.Excluded(/*now=*/0)});

#ifndef KEYROTATOR_OPENAI_TRIED_KEYS_H_
#define KEYROTATOR_OPENAI_TRIED_KEYS_H_

#include <algorithm>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"
#include "keyrotator/key_status.h"
#include "keyrotator/openai/backoff.h"
#include "keyrotator/retry_options.h"

namespace keyrotator::internal {

// Linear in the number of keys that were tried, which are few.
class TriedKeys {
 public:
  // Not to be asked again.
  void Refuse(KeyId key) { refused_.push_back(key); }
  const std::vector<KeyId>& refused() const { return refused_; }
  // Not to be asked again, as it has no permission for the request; or, if no
  // key has, as the request is at fault.
  void Deny(KeyId key) {
    Refuse(key);
    denied_.push_back(key);
  }
  const std::vector<KeyId>& denied() const { return denied_; }

  // The key answered at `now`. From its second use on it rests for as long as a
  // retry would wait: a hint of 1 ms must not make a storm of one request.
  void Count(KeyId key, Nanos now, const RetryOptions& options) {
    auto use = std::find_if(uses_.begin(), uses_.end(),
                            [&](const Use& other) { return other.key == key; });
    if (use == uses_.end()) use = uses_.insert(use, {.key = key});
    ++use->count;
    if (use->count >= 2) {
      use->not_before = SaturatingAdd(now, Backoff(options, use->count - 2));
    }
  }

  // The key is to be asked again at `time`, so it rests no longer.
  void Retry(KeyId key, Nanos time) {
    for (Use& use : uses_) {
      if (use.key == key) use.not_before = std::min(use.not_before, time);
    }
  }

  // Those that are refused or rest. Valid until the next call of a member.
  const std::vector<KeyId>& Excluded(Nanos now) {
    excluded_ = refused_;
    for (const Use& use : uses_) {
      if (use.not_before > now) excluded_.push_back(use.key);
    }
    return excluded_;
  }

  // When the first of those that rest has rested, or never.
  Nanos WhenRested(Nanos now) const {
    Nanos rested = kNever;
    for (const Use& use : uses_) {
      if (use.not_before > now && !IsRefused(use.key))
        rested = std::min(rested, use.not_before);
    }
    return rested;
  }

 private:
  struct Use {
    KeyId key;
    int count = 0;
    Nanos not_before = kLongAgo;
  };

  bool IsRefused(KeyId key) const {
    return std::find(refused_.begin(), refused_.end(), key) != refused_.end();
  }

  std::vector<KeyId> refused_;
  std::vector<KeyId> denied_;  // of these
  std::vector<Use> uses_;
  std::vector<KeyId> excluded_;  // what Excluded shows
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_TRIED_KEYS_H_
