// File: pool/event_log.h
//
// EventLog: what a call changed, for RotatorOptions::on_event, which is called
// once the lock is released.

#ifndef KEYROTATOR_POOL_EVENT_LOG_H_
#define KEYROTATOR_POOL_EVENT_LOG_H_

#include <chrono>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/time.h"
#include "keyrotator/key_status.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator::internal {

// How long it is until `time`; empty if it has come or never does.
inline std::optional<std::chrono::nanoseconds> SpanUntil(Nanos time,
                                                         Nanos now) {
  if (time == kNever || time <= now) return std::nullopt;
  return std::chrono::nanoseconds(SaturatingSubtract(time, now));
}

class EventLog {
 public:
  // With `wanted` false nothing is kept.
  explicit EventLog(bool wanted) : wanted_(wanted) {}

  bool is_wanted() const { return wanted_; }

  // `slot` is null if it concerns no key. `until`: when a key returns.
  void Add(KeyEvent::Kind kind, const Slot* slot, std::string_view scope = {},
           Nanos until = kNever, Nanos now = 0) {
    if (!wanted_) return;
    KeyEvent& event = events_.emplace_back();
    event.kind = kind;
    if (slot != nullptr) {
      event.id = slot->id;
      event.name = slot->name;
      event.group = slot->group_name;
    }
    event.scope = scope;
    event.returns_in = SpanUntil(until, now);
  }

  // What was added since the last call.
  std::vector<KeyEvent> Take() { return std::exchange(events_, {}); }

 private:
  const bool wanted_;
  std::vector<KeyEvent> events_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_EVENT_LOG_H_
