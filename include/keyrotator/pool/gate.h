// File: pool/gate.h
//
// Gate: what can shut a key, be it the key's own failure or a cooldown of its
// group. Timers: when the shut ones open. Neither reads a clock; `now` is a
// parameter.

#ifndef KEYROTATOR_POOL_GATE_H_
#define KEYROTATOR_POOL_GATE_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/clock.h"

namespace keyrotator::internal {

struct Gate {
  enum class State : std::uint8_t { kOpen, kShut, kOnTrial, kTrialTaken };

  State state = State::kOpen;
  // The window in force is a guess: what it lets out first is a trial.
  bool guessed = false;
  // Windows in a row without a success between them.
  std::uint32_t windows = 0;
  // kShut: when it ends; kNever if time does not end it.
  Nanos until = 0;
  // Leases with a smaller ticket are older than the last window.
  std::uint64_t first_fresh = 0;
  // The key that was marked when the window began.
  KeyId marked;

  bool IsUsable() const {
    return state == State::kOpen || state == State::kOnTrial;
  }
  bool IsFresh(std::uint64_t ticket) const { return ticket >= first_fresh; }
};

struct Group;
struct Scope;
struct Slot;

// An entry in Timers, which holds a pointer to it: the owner takes it out
// before it dies.
struct Timer {
  static constexpr std::size_t kNotSet = static_cast<std::size_t>(-1);

  Nanos at = 0;
  std::size_t position = kNotSet;
  // Whose it is: a key's, a group's, a group's in a scope, or a scope's.
  Slot* slot = nullptr;
  Group* group = nullptr;
  Scope* scope = nullptr;

  bool set() const { return position != kNotSet; }
};

// A binary heap of timers that knows where each one stands, so that one can be
// moved or taken out: there are no stale entries, and nothing in it outlives
// its owner. Logarithmic.
class Timers {
 public:
  bool empty() const { return heap_.empty(); }
  Nanos next() const { return heap_.empty() ? kNever : heap_.front()->at; }
  Timer& front() const { return *heap_.front(); }

  // Sets or moves `timer`; kNever takes it out.
  void Set(Timer& timer, Nanos at) {
    if (at == kNever) return Cancel(timer);
    timer.at = at;
    if (!timer.set()) {
      timer.position = heap_.size();
      heap_.push_back(&timer);
    }
    Settle(timer.position);
  }

  void Cancel(Timer& timer) {
    if (!timer.set()) return;
    const std::size_t hole = std::exchange(timer.position, Timer::kNotSet);
    Timer* last = heap_.back();
    heap_.pop_back();
    if (last == &timer) return;
    Place(last, hole);
    Settle(hole);
  }

 private:
  void Place(Timer* timer, std::size_t position) {
    heap_[position] = timer;
    timer->position = position;
  }

  // Moves the timer at `position` to where it belongs.
  void Settle(std::size_t position) {
    Timer* const timer = heap_[position];
    while (position > 0 && timer->at < heap_[(position - 1) / 2]->at) {
      Place(heap_[(position - 1) / 2], position);
      position = (position - 1) / 2;
    }
    for (std::size_t child = 2 * position + 1; child < heap_.size();
         child = 2 * position + 1) {
      if (child + 1 < heap_.size() && heap_[child + 1]->at < heap_[child]->at)
        ++child;
      if (timer->at <= heap_[child]->at) break;
      Place(heap_[child], position);
      position = child;
    }
    Place(timer, position);
  }

  std::vector<Timer*> heap_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_GATE_H_
