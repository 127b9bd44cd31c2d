// File: fleet_messages.h
//
// What a process tells a fleet, and what it is told. The processes of a fleet
// use the same keys; a ledger that they share says how many requests each may
// send, ahead of time: a process asks in the background, and Pick looks only at
// what it was granted.
//
// No absolute time is in a message, for clocks differ: spans only. Keys, groups
// and scopes are named by what Exchange::NameOf makes of them.
//
// Example: an exchange of your own.
//   struct Nobody final : keyrotator::Exchange {
//     std::optional<keyrotator::FleetReply> Send(
//         const keyrotator::FleetAsk&) override {
//       return std::nullopt;
//     }
//     std::string error() const override { return "nobody is there"; }
//     std::string NameOf(std::string_view, std::string_view) const override {
//       return "the only one";
//     }
//   };

#ifndef KEYROTATOR_FLEET_MESSAGES_H_
#define KEYROTATOR_FLEET_MESSAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/internal/time.h"

namespace keyrotator {

// Requests, then tokens.
using FleetAmounts = std::array<double, 2>;

// A dimension of a provider's bucket, as a process believes it to be.
struct FleetLimit {
  double limit = 0;    // 0: not known
  double rate = 0;     // what flows back, per nanosecond
  double level = 0;    // what is left
  double reserve = 0;  // what is kept in hand
};

// How long to wait after a refusal.
struct FleetRefusal {
  internal::Nanos hint = 0;     // as the provider said, 0 if it did not
  internal::Nanos guess = 0;    // else
  internal::Nanos longest = 0;  // and at most, where nothing is served
};

// What a process has to tell of one group in one scope.
struct FleetFact {
  std::string group;
  // Counts the refusals that the ledger learned a pace from; what belongs to an
  // older one is void.
  std::uint64_t epoch = 0;
  FleetAmounts spent{};    // by leases since the last message
  double served = 0;       // requests, of leases of this epoch
  FleetAmounts held{};     // what the last reply granted ...
  std::int64_t slot = -1;  // ... and in which slot of the ledger's time
  FleetAmounts seen{};     // FleetAnswer::total, as last told
  // A lease of this epoch was refused.
  bool refused = false;
  FleetRefusal refusal;
  // The provider said what is left.
  std::optional<std::array<FleetLimit, 2>> reported;
  // A pace, per nanosecond, that the ledger no longer knows; 0: none.
  double seed_rate = 0;
};

struct FleetScopeAsk {
  std::string scope;
  FleetAmounts want{};        // until the next message
  std::vector<double> costs;  // in tokens, of those who wait, first come first
  FleetAmounts last_want{};   // `want` of the last message ...
  std::int64_t slot = -1;     // ... and the slot in which it was counted
  double carry = 0;           // FleetScopeReply::carry of the last reply
  double part = 1;            // of the groups that the facts are of
  std::vector<FleetFact> facts;
};

// What a process has to tell of a whole key, or of a group as a whole.
struct FleetNews {
  enum class Kind : std::uint8_t {
    kFailed,  // the key was refused as invalid; nobody tries it for `span`, and
              // if that is 0, nobody ever does
    kServed,  // the key was marked, and served a request
    kRestored,  // somebody who knows says that the key is good
    kRested,    // no key of the group is to be used for `span`
  };

  std::string id;  // of the key or the group
  Kind kind = Kind::kFailed;
  internal::Nanos span = 0;
  bool is_guess = false;  // nobody said how long `span` has to be
};

// What the fleet knows of a whole key, or of a group as a whole.
struct FleetMark {
  std::string id;
  // How many processes had the key refused; 2 stands for more, too.
  double words = 0;
  // When the last of them said so and when the key was restored last, in
  // versions (FleetReply::version); 0: never.
  std::uint64_t failed = 0;
  std::uint64_t restored = 0;
  // From now on: until the key may be tried, 0: it may never; and until the
  // group may be used.
  internal::Nanos failed_for = 0;
  internal::Nanos rests = 0;
  bool is_guess = false;  // the end of `rests`
};

// What a process has to tell of a key that may have only so many requests in
// flight.
struct FleetCap {
  std::string id;        // of the key
  double cap = 0;        // for all processes together
  double in_flight = 0;  // of this one
  double want = 0;  // the most in flight since the last message, and who waits
  // As the last message had it, with the slot in which it was counted; and what
  // the reply had.
  double last_want = 0;
  std::int64_t slot = -1;
  double held = 0;
  double carry = 0;
};

// How many of its requests a process may have in flight.
struct FleetPermits {
  double count = 0;
  double held = 0;   // or as many as are in flight, if that is more
  double carry = 0;  // what is left of this process's fair part
};

struct FleetAsk {
  // For how long a reply counts, from when it was asked for; and the length of
  // the ledger's slots. The same for all.
  static constexpr internal::Nanos kLease = 2'000'000'000;

  internal::Nanos period = 0;  // until the next message
  std::int64_t slot = -1;      // in which this process was counted last
  bool alone = false;   // its last got no reply, and there had been others
  bool leaves = false;  // it wants nothing any more, and is not to be counted
  // A number that no other process has, so that nobody's word counts twice; a
  // whole one, up to 2^53.
  double who = 0;
  std::uint64_t version = 0;  // FleetReply::version, as last told
  std::vector<FleetNews> news = {};
  std::vector<FleetCap> caps = {};
  std::vector<FleetScopeAsk> scopes;
};

// A request that may be sent, `in` so much time after the reply was made.
struct FleetGrant {
  internal::Nanos in = 0;
  double cost = 0;  // tokens
};

struct FleetAnswer {
  // Whether the ledger can say how much is left. If not, the process goes on as
  // if it were alone.
  bool known = false;
  std::uint64_t epoch = 0;
  std::vector<FleetGrant> grants;      // the earliest first
  FleetAmounts total{};                // spent by all, ever
  FleetAmounts foreign{};              // by others, since the last message
  internal::Nanos gate = 0;            // nothing is to be sent for so long
  std::array<FleetLimit, 2> limits{};  // without reserves
  double pace = 0;  // learned where no limits are known, per nanosecond
};

struct FleetScopeReply {
  double carry = 0;  // what is left of this process's fair part
  std::vector<FleetAnswer> answers = {};  // in the order of the facts
};

struct FleetReply {
  std::int64_t slot = -1;
  double processes = 1;  // that were heard of lately
  bool plenty = false;   // more could be had at once
  // Of a fleet that was scattered some may not be back yet. Nothing is granted
  // then, and each keeps the permits that it has.
  bool gathers = false;
  // Grows with each change of what is known of keys; and what it was when the
  // ledger began. Another one's versions are not to be compared.
  std::uint64_t version = 0;
  std::uint64_t born = 0;
  // All that is known, if that is another version than the one that was told.
  std::optional<std::vector<FleetMark>> marks = {};
  std::vector<FleetPermits> permits = {};    // in the order of the caps
  std::vector<FleetScopeReply> scopes = {};  // in the order of the ask
};

// A way to the ledger.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // The reply, or none, and then error() says why. It may block, for a bounded
  // time. Called by one thread at a time.
  virtual std::optional<FleetReply> Send(const FleetAsk& ask) = 0;
  // Why the last Send had no reply. Without secrets.
  virtual std::string error() const = 0;
  // What a key, a group or a scope is called in messages: the same in every
  // process of the fleet, and nothing from which a key could be found out.
  // `kind` tells them apart. Called under the rotator's lock, once for each.
  virtual std::string NameOf(std::string_view kind,
                             std::string_view value) const = 0;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_MESSAGES_H_
