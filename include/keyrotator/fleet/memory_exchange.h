// File: fleet/memory_exchange.h
//
// MemoryExchange: a fleet within one process, for tests and simulations, and for
// several rotators that use the same keys.
//
// Example:
//   auto ledger = std::make_shared<keyrotator::SharedLedger>();
//   keyrotator::MemoryExchange one(ledger);
//   keyrotator::MemoryExchange other(ledger);

#ifndef KEYROTATOR_FLEET_MEMORY_EXCHANGE_H_
#define KEYROTATOR_FLEET_MEMORY_EXCHANGE_H_

#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/clock.h"
#include "keyrotator/fleet/ledger.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/internal/hash.h"
#include "keyrotator/internal/time.h"

namespace keyrotator {

// A ledger for several threads.
class SharedLedger {
 public:
  // `now` tells the time in nanoseconds since some moment; it may be called from
  // several threads at once.
  explicit SharedLedger(std::function<internal::Nanos()> now = SteadyNow)
      : now_(std::move(now)) {}

  FleetReply Handle(const FleetAsk& ask) {
    const std::lock_guard lock(mutex_);
    return ledger_.Handle(ask, now_());
  }

 private:
  static internal::Nanos SteadyNow() {
    std::chrono::steady_clock clock;
    return internal::NanosNow(clock);
  }

  const std::function<internal::Nanos()> now_;
  std::mutex mutex_;
  FleetLedger ledger_;  // guarded by mutex_
};

class MemoryExchange final : public Exchange {
 public:
  explicit MemoryExchange(std::shared_ptr<SharedLedger> ledger)
      : ledger_(std::move(ledger)) {}

  std::optional<FleetReply> Send(const FleetAsk& ask) override {
    return ledger_->Handle(ask);
  }
  std::string error() const override { return {}; }
  // Not for other eyes: a short hash.
  std::string NameOf(std::string_view kind,
                     std::string_view value) const override {
    return fmt::format("{}:{:016x}", kind, internal::HashText(value));
  }

 private:
  std::shared_ptr<SharedLedger> ledger_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_MEMORY_EXCHANGE_H_
