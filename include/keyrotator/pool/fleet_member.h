// File: pool/fleet_member.h
//
// FleetMember: a pool of keys as its fleet sees it, whatever its policy and clock.

#ifndef KEYROTATOR_POOL_FLEET_MEMBER_H_
#define KEYROTATOR_POOL_FLEET_MEMBER_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/pool/fleet_desk.h"

namespace keyrotator::internal {

// Thread-safe, but for the messages: one thread at a time asks, and then says
// what came of it.
class FleetMember {
 public:
  virtual ~FleetMember() = default;
  virtual Nanos Now() = 0;
  // `wake` is called, without the lock, when a message should not wait. False: the
  // pool is in a fleet already.
  virtual bool JoinFleet(FleetTerms terms, std::function<void()> wake) = 0;
  virtual void LeaveFleet() = 0;
  // `period`: until the next message. Of at most `groups` > 0 groups is told in a
  // scope, besides those with news.
  virtual FleetAsk AskFleet(Nanos period, std::size_t groups) = 0;
  virtual void HearFleet(const FleetAsk& ask, const FleetReply& reply) = 0;
  virtual void MissFleet(const FleetAsk& ask) = 0;
  // Whether there is something to tell at once; and whether a caller found no
  // key since the last message.
  virtual bool IsFleetUrgent() = 0;
  virtual bool IsFleetThirsty() = 0;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_POOL_FLEET_MEMBER_H_
