// File: pool/gate.h
//
// Gate: what can shut a key, be it the key's own failure or a cooldown of its
// group. It reads no clock and knows no key: the pool says when a window ends
// and which lease a report is about.
//
//                  open       shut          on trial     trial taken
//   Shut           shut       shut          shut         shut
//   Lengthen       -          later end     -            -
//   Expire(trial)  -          on trial      -            -
//   Expire()       -          open          -            -
//   TryTake        -          -             trial taken  -
//   EndTrial       -          -             -            good: open; else on trial
//   Prove          escalation is over; on trial, trial taken: open
//   Open           open       open          open         open
//
// "-": nothing changes. EndTrial and Prove are ignored for a lease that is
// older than the last window: it says nothing of what came after.

#ifndef KEYROTATOR_POOL_GATE_H_
#define KEYROTATOR_POOL_GATE_H_

#include <cstdint>

#include "keyrotator/api_key.h"
#include "keyrotator/internal/time.h"

namespace keyrotator::internal {

class Gate {
 public:
  enum class State : std::uint8_t { kOpen, kShut, kOnTrial, kTrialTaken };

  State state() const { return state_; }
  bool is_open() const { return state_ == State::kOpen; }
  bool is_shut() const { return state_ == State::kShut; }
  bool is_usable() const {
    return state_ == State::kOpen || state_ == State::kOnTrial;
  }
  // While shut: when the window ends; kNever if time does not end it.
  Nanos until() const { return until_; }
  // Whether the end of the window in force is a guess.
  bool is_guess() const { return guess_; }
  // How many windows came in a row without a success between them.
  std::uint32_t windows() const { return windows_; }
  // The key that was marked when the window began.
  KeyId marked() const { return marked_; }
  // Whether a lease with that ticket was taken after the last window began.
  bool IsFresh(std::uint64_t ticket) const { return ticket >= first_fresh_; }

  // A window begins. Leases from `first_fresh` on are taken after it did.
  void Shut(Nanos until, std::uint64_t first_fresh, KeyId marked) {
    state_ = State::kShut;
    until_ = until;
    guess_ = false;
    first_fresh_ = first_fresh;
    marked_ = marked;
  }
  // The end of the window that just began is a guess.
  void SetGuess(bool guess) { guess_ = guess; }
  // The window that just began is one more in a row.
  void Escalate() { ++windows_; }

  // The window in force ends at `until`, on the provider's word. A later end
  // wins. False if this one is not later.
  bool Lengthen(Nanos until) {
    if (state_ != State::kShut || until <= until_) return false;
    until_ = until;
    guess_ = false;
    return true;
  }

  // The window is over. With `trial` one lease goes out before the others.
  void Expire(bool trial = false) {
    if (state_ == State::kShut) state_ = trial ? State::kOnTrial : State::kOpen;
  }

  // A lease is taken. True if it is the trial, which EndTrial is to end.
  bool TryTake() {
    if (state_ != State::kOnTrial) return false;
    state_ = State::kTrialTaken;
    return true;
  }

  // The lease that is the trial has ended. If it did not go well, but not by
  // this gate's fault, another one is to try.
  void EndTrial(std::uint64_t ticket, bool good) {
    if (state_ == State::kTrialTaken && IsFresh(ticket))
      state_ = good ? State::kOpen : State::kOnTrial;
  }

  // A request was served, on a lease that is fresh.
  void Prove() {
    windows_ = 0;
    if (state_ != State::kShut) state_ = State::kOpen;
  }

  // Whatever shut it is lifted. True if something did.
  bool Open() {
    const bool shut = state_ == State::kShut;
    state_ = State::kOpen;
    return shut;
  }

 private:
  State state_ = State::kOpen;
  bool guess_ = false;
  std::uint32_t windows_ = 0;
  Nanos until_ = 0;
  std::uint64_t first_fresh_ = 0;
  KeyId marked_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_GATE_H_
