// File: fleet/fleet.h
//
// Fleet: makes a rotator one of many that use the same keys. In the background it
// tells their ledger what was spent and learned, and is told how many requests may
// go out here. Pick never waits for it: without the ledger the rotator goes on, by
// what it knows.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
//   // With keyrotator/redis.h a RedisExchange, and many processes.
//   auto ledger = std::make_shared<keyrotator::SharedLedger>();
//   keyrotator::Fleet fleet(rotator, keyrotator::MemoryExchange(ledger));
//   fmt::print("{}\n", fleet.Status());

#ifndef KEYROTATOR_FLEET_FLEET_H_
#define KEYROTATOR_FLEET_FLEET_H_

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/fleet/pacer.h"
#include "keyrotator/fleet_messages.h"
#include "keyrotator/fleet_status.h"
#include "keyrotator/internal/time.h"
#include "keyrotator/pool/fleet_desk.h"
#include "keyrotator/pool/fleet_member.h"

namespace keyrotator {

struct FleetOptions {
  // From one message to the next, while little is to be told. With many processes
  // and keys it grows, up to a second. From 50 ms to 1 s.
  Span period = std::chrono::milliseconds(200);
  // Whether messages are sent by a thread of the fleet's; else by Poll.
  bool has_thread = true;
  // Of how many groups a message tells in a scope at most, besides those with
  // news; with many processes it is fewer. > 0.
  std::size_t max_groups = 32;
  // From 0 to 1, to spread the processes out; empty: std::random_device.
  std::function<double()> random = {};
};

// Thread-safe.
class Fleet {
 public:
  // `rotator` is a KeyRotator of any kind, whose clock is used; the fleet may
  // outlive it. Throws std::invalid_argument for options out of range, and if the
  // rotator is in a fleet already. That the ledger is away is no error, now or
  // later.
  template <class Rotator, std::derived_from<Exchange> SomeExchange>
  Fleet(Rotator& rotator, SomeExchange exchange, FleetOptions options = {})
      : Fleet(rotator.fleet_member(),
              std::make_unique<SomeExchange>(std::move(exchange)),
              std::move(options)) {}

  // Leaves the fleet, and gives back what was granted. Waits for the message that
  // is under way and for a last one, each as long as the exchange may block.
  ~Fleet() {
    if (getpid() != process_) {
      // A child of the process that made it: the thread did not come along.
      if (thread_.joinable()) thread_.detach();
      return;
    }
    if (thread_.joinable()) {
      {
        const std::lock_guard lock(bell_->mutex);
        bell_->is_stopped = true;
      }
      bell_->rings.notify_all();
      thread_.join();
    }
    SayGoodbye();
  }
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  // Sends a message if it is time to. Returns after how long to call it again at
  // the latest; earlier does no harm. For an event loop, without a thread: it
  // blocks for as long as the exchange does. Not from several threads at once.
  std::chrono::nanoseconds Poll() {
    if (TimeToMessage() == 0) Talk();
    return std::chrono::nanoseconds(TimeToMessage());
  }

  FleetStatus Status() const {
    const Nanos now = member_->Now();
    const std::lock_guard lock(mutex_);
    FleetStatus status = status_;
    status.since = Since(changed_, now);
    if (heard_ != internal::kLongAgo) status.age = Since(heard_, now);
    return status;
  }

 private:
  using Nanos = internal::Nanos;

  // What wakes the thread. The rotator may ring it after the fleet is gone.
  struct Bell {
    std::mutex mutex;
    std::condition_variable rings;
    bool has_rung = false;
    bool is_stopped = false;
  };

  Fleet(std::shared_ptr<internal::FleetMember> member,
        std::unique_ptr<Exchange> exchange, FleetOptions options)
      : member_(std::move(member)),
        exchange_(std::move(exchange)),
        options_(Check(std::move(options))),
        pacer_(options_.period.count(), member_->Now(), options_.random()),
        changed_(member_->Now()) {
    internal::FleetTerms terms;
    terms.name = [exchange = exchange_](std::string_view kind,
                                        std::string_view value) {
      return exchange->NameOf(kind, value);
    };
    terms.random = options_.random;
    const bool joined = member_->JoinFleet(std::move(terms), [bell = bell_] {
      {
        const std::lock_guard lock(bell->mutex);
        if (std::exchange(bell->has_rung, true)) return;
      }
      bell->rings.notify_one();
    });
    if (!joined)
      throw std::invalid_argument("Fleet: the rotator is in a fleet already");
    if (options_.has_thread) thread_ = std::thread([this] { Run(); });
  }

  static FleetOptions Check(FleetOptions options) {
    using std::chrono::milliseconds;
    if (options.period < milliseconds(50) ||
        options.period > milliseconds(1000))
      throw std::invalid_argument(
          "FleetOptions: period must be from 50 ms to 1 s");
    if (options.max_groups == 0)
      throw std::invalid_argument("FleetOptions: max_groups must be above 0");
    if (options.random == nullptr) {
      options.random = [dice =
                            std::mt19937_64(std::random_device{}())]() mutable {
        return static_cast<double>(dice() >> 11) * 0x1p-53;
      };
    }
    return options;
  }

  static std::chrono::nanoseconds Since(Nanos time, Nanos now) {
    return std::chrono::nanoseconds(internal::SaturatingSubtract(now, time));
  }

  Nanos TimeToMessage() {
    const Nanos due =
        pacer_.Due(member_->IsFleetUrgent(), member_->IsFleetThirsty());
    return std::max<Nanos>(0,
                           internal::SaturatingSubtract(due, member_->Now()));
  }

  FleetAsk Ask() {
    return member_->AskFleet(pacer_.period(),
                             std::min(options_.max_groups, pacer_.groups()));
  }

  // A message, and what comes back.
  void Talk() {
    const Nanos begin = member_->Now();
    pacer_.Sent(begin);
    FleetAsk ask;
    std::optional<FleetReply> reply;
    std::string error;
    try {
      ask = Ask();
      reply = exchange_->Send(ask);
      if (!reply) error = exchange_->error();
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    const Nanos end = member_->Now();
    if (reply) {
      pacer_.Heard(ask, *reply, options_.random());
      member_->HearFleet(ask, *reply);
    } else {
      pacer_.Missed(end, options_.random());
      member_->MissFleet(ask);
    }
    Note(begin, end, reply, std::move(error));
  }

  void Note(Nanos begin, Nanos end, const std::optional<FleetReply>& reply,
            std::string error) {
    const std::lock_guard lock(mutex_);
    if (status_.is_connected != reply.has_value()) changed_ = end;
    status_.is_connected = reply.has_value();
    if (reply) {
      ++status_.exchanges;
      heard_ = end;
      status_.processes = reply->processes;
      status_.round_trip = Since(begin, end);
      NoteMarks(*reply, end);
    } else {
      ++status_.misses;
      status_.error = std::move(error);
    }
  }

  void NoteMarks(const FleetReply& reply, Nanos now) {
    if (reply.marks) {
      status_.failed_keys = status_.doubted_keys = 0;
      rests_.clear();
      for (const FleetMark& mark : *reply.marks) {
        if (mark.words >= 2) ++status_.failed_keys;
        if (mark.words == 1) ++status_.doubted_keys;
        if (mark.rests > 0)
          rests_.push_back(internal::SaturatingAdd(now, mark.rests));
      }
    }
    std::erase_if(rests_, [&](Nanos until) { return until <= now; });
    status_.cooling_groups = rests_.size();
    for (const FleetScopeReply& scope : reply.scopes) {
      for (const FleetAnswer& answer : scope.answers)
        status_.cooling_groups += answer.gate > 0 ? 1 : 0;
    }
  }

  // What was granted is given back. If that is not heard it counts for two slots
  // of the ledger's time at most.
  void SayGoodbye() {
    std::optional<FleetAsk> ask;
    try {
      ask = Ask();
    } catch (const std::exception&) {
    }
    member_->LeaveFleet();
    if (!ask || !status_.is_connected) return;
    ask->leaves = true;
    try {
      exchange_->Send(*ask);
    } catch (const std::exception&) {
    }
  }

  void Run() {
    // A signal is for the program's threads; and a socket that was closed is no
    // reason to die.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(bell_->mutex);
    while (!bell_->is_stopped) {
      bell_->has_rung = false;
      lock.unlock();
      const std::chrono::nanoseconds wait = Poll();
      lock.lock();
      bell_->rings.wait_for(
          lock, wait, [&] { return bell_->has_rung || bell_->is_stopped; });
    }
  }

  const pid_t process_ = getpid();
  const std::shared_ptr<internal::FleetMember> member_;
  const std::shared_ptr<Exchange> exchange_;
  const FleetOptions options_;
  internal::FleetPacer pacer_;
  const std::shared_ptr<Bell> bell_ = std::make_shared<Bell>();

  mutable std::mutex mutex_;
  FleetStatus status_;                // guarded by mutex_, as are these
  Nanos changed_;                     // when is_connected did
  Nanos heard_ = internal::kLongAgo;  // the last reply
  std::vector<Nanos> rests_;          // when those of FleetMarks end

  std::thread thread_;  // the last: it uses all of the others
};

}  // namespace keyrotator

#endif  // KEYROTATOR_FLEET_FLEET_H_
