// File: pool/timers.h
//
// Timers: when time alone changes something. Each thing that waits for a time
// has one Timer as a member; the heap points to those that are set. It reads no
// clock.

#ifndef KEYROTATOR_POOL_TIMERS_H_
#define KEYROTATOR_POOL_TIMERS_H_

#include <cstddef>
#include <utility>
#include <variant>
#include <vector>

#include "keyrotator/internal/time.h"

namespace keyrotator::internal {

struct Group;
struct Scope;
struct Slot;
class Standing;
struct Access;

// An entry in Timers, which holds a pointer to it: the owner takes it out
// before it dies.
struct Timer {
  static constexpr std::size_t kNotSet = static_cast<std::size_t>(-1);

  Nanos at = 0;
  std::size_t position = kNotSet;
  // Whose it is: a key's failure, a group's cooldown, a group's standing in a
  // scope, a key's missing access to one, or a scope's queue.
  std::variant<std::monostate, Slot*, Group*, Standing*, Access*, Scope*> owner;

  bool set() const { return position != kNotSet; }
};

// A binary heap in which each timer knows its position, so that it can be moved
// or taken out: there are no stale entries, and nothing in it outlives
// its owner. Logarithmic.
class Timers {
 public:
  bool empty() const { return heap_.empty(); }
  Nanos next() const { return heap_.empty() ? kNever : heap_.front()->at; }
  Timer& front() const { return *heap_.front(); }
  bool AreDue(Nanos now) const {
    return !heap_.empty() && heap_.front()->at <= now;
  }

  // Forgets all of them: their owners are about to go.
  void Clear() { heap_.clear(); }

  // Sets or moves `timer`; kNever takes it out.
  void Set(Timer& timer, Nanos at) {
    if (at == kNever) return Cancel(timer);
    timer.at = at;
    if (!timer.set()) {
      timer.position = heap_.size();
      heap_.push_back(&timer);
    }
    Sift(timer.position);
  }

  void Cancel(Timer& timer) {
    if (!timer.set()) return;
    const std::size_t hole = std::exchange(timer.position, Timer::kNotSet);
    Timer* last = heap_.back();
    heap_.pop_back();
    if (last == &timer) return;
    Place(last, hole);
    Sift(hole);
  }

 private:
  void Place(Timer* timer, std::size_t position) {
    heap_[position] = timer;
    timer->position = position;
  }

  // Moves the timer at `position` up or down to where it belongs.
  void Sift(std::size_t position) {
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

#endif  // KEYROTATOR_POOL_TIMERS_H_
