// A way from a fleet to its ledger that loses messages, and to which another ledger
// may be put. It remembers what went over it.

#ifndef KEYROTATOR_TESTS_SUPPORT_FLEET_WIRE_H_
#define KEYROTATOR_TESTS_SUPPORT_FLEET_WIRE_H_

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/fleet/memory_exchange.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/testing/manual_clock.h"

namespace keyrotator::testing {

struct FleetWire {
  std::shared_ptr<SharedLedger> ledger;
  bool loses_asks = false;
  bool loses_replies = false;
  bool throws = false;
  bool names_throw = false;
  std::string secret = {};
  std::function<void()> meanwhile = {};  // once, while a reply is under way
  std::vector<FleetAsk> asks = {};
};

class WireExchange final : public Exchange {
 public:
  explicit WireExchange(std::shared_ptr<FleetWire> wire)
      : wire_(std::move(wire)) {}

  std::optional<FleetReply> Send(const FleetAsk& ask) override {
    wire_->asks.push_back(ask);
    if (wire_->throws) throw std::runtime_error("it broke");
    if (wire_->loses_asks) return std::nullopt;
    FleetReply reply = wire_->ledger->Handle(ask);
    if (wire_->meanwhile) std::exchange(wire_->meanwhile, nullptr)();
    if (wire_->loses_replies) return std::nullopt;
    return reply;
  }
  std::string error() const override { return "the wire is cut"; }
  std::string NameOf(std::string_view kind,
                     std::string_view value) const override {
    if (wire_->names_throw) throw std::runtime_error("no names");
    return MemoryExchange(nullptr).NameOf(kind,
                                          wire_->secret + std::string(value));
  }

 private:
  std::shared_ptr<FleetWire> wire_;
};

inline std::shared_ptr<SharedLedger> NewLedger(const ManualClock& clock) {
  return std::make_shared<SharedLedger>(
      [clock]() mutable { return clock.now().time_since_epoch().count(); });
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_FLEET_WIRE_H_
