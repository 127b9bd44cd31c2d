// File: pool/access.h
//
// Access: that one key had no permission in one scope, while another key served
// the same request. The key rests there; other keys of its group, and the key in
// other scopes, go on. It reads no clock.

#ifndef KEYROTATOR_POOL_ACCESS_H_
#define KEYROTATOR_POOL_ACCESS_H_

#include "keyrotator/pool/gate.h"
#include "keyrotator/pool/slot.h"
#include "keyrotator/pool/timers.h"

namespace keyrotator::internal {

struct Access {
  Access(Scope& in, Slot& of) : scope(in), slot(of) { timer.owner = this; }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  Scope& scope;
  Slot& slot;
  Gate gate;           // shut while the key rests
  Timer timer;         // when `gate` opens
  bool listed = true;  // gate.is_usable(), as the lists of usable keys have it
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_ACCESS_H_
