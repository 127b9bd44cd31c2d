// File: loop.h
//
// Loop: one thread of the gateway and what lives on it: the event loop,
// libcurl's transfers, the connections and requests that have to be looked
// after, and the clock for those that wait for a key. A request stays on the
// loop of its connection, so nothing here is locked.
//
// Example:
//   gateway::Loop loop(gateway);
//   std::thread thread([&] { loop.io.run(); });

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_LOOP_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_LOOP_H_

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <set>
#include <vector>

#include "gateway/curl_loop.h"
#include "gateway/gateway.h"

namespace gateway {

using SteadyTime = std::chrono::steady_clock::time_point;

class Loop;

// Something that time may end: it is looked at ten times a second while it
// exists. A timer for each would cost more than looking.
class Tended {
 public:
  explicit Tended(Loop& loop);
  Tended(const Tended&) = delete;
  Tended& operator=(const Tended&) = delete;
  // It may be destroyed meanwhile, and so may others.
  virtual void Tend(SteadyTime now) = 0;
  // The loop ends: let go of whatever keeps this alive.
  virtual void Drop() {}

 protected:
  ~Tended();

 private:
  Loop& tending_loop_;
};

class Loop {
 public:
  explicit Loop(Gateway& with)
      : gateway(with),
        curl(io),
        waiters_(with.providers().size()),
        tick_(io),
        keys_(io) {
    Tick();
  }
  // What still runs on it is dropped, while all that it needs is there.
  ~Loop() {
    tick_.cancel();
    keys_.cancel();
    const std::vector<Tended*> all(tended_.begin(), tended_.end());
    for (Tended* each : all) {
      if (tended_.count(each) > 0) each->Drop();
    }
    io.restart();
    while (!tended_.empty() && io.poll() > 0) {
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // For the time between: a request has begun to wait for a key of that
  // provider, or waits no more.
  void BeginWaiting(std::size_t provider) {
    ++waiters_[provider];
    PollKeys();
  }
  void EndWaiting(std::size_t provider) { --waiters_[provider]; }

  // Does what has become due in the rotators that somebody waits for, which
  // hands keys to those who wait, and comes back for what is due next. To be
  // called after each report, too, as that may bring the time forward.
  void PollKeys() {
    constexpr std::chrono::milliseconds kAtLeast{100};
    const SteadyTime now = std::chrono::steady_clock::now();
    SteadyTime next = SteadyTime::max();
    for (std::size_t i = 0; i < waiters_.size(); ++i) {
      if (waiters_[i] == 0) continue;
      // Another loop's report may bring it forward without a word to this one.
      next = std::min(next, now + kAtLeast);
      if (const auto due = gateway.providers()[i]->rotator.Poll())
        next = std::min(next, *due);
    }
    if (next == SteadyTime::max()) return;
    keys_.expires_at(next);
    keys_.async_wait([this](const boost::system::error_code& error) {
      if (!error) PollKeys();
    });
  }

  Gateway& gateway;
  boost::asio::io_context io{1};
  CurlLoop curl;

 private:
  friend class Tended;

  void Tick() {
    tick_.expires_after(std::chrono::milliseconds(100));
    tick_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      const SteadyTime now = std::chrono::steady_clock::now();
      const std::vector<Tended*> all(tended_.begin(), tended_.end());
      for (Tended* each : all) {
        if (tended_.count(each) > 0) each->Tend(now);
      }
      Tick();
    });
  }

  std::set<Tended*> tended_;
  std::vector<std::size_t> waiters_;  // by provider
  boost::asio::steady_timer tick_;
  boost::asio::steady_timer keys_;
};

inline Tended::Tended(Loop& loop) : tending_loop_(loop) {
  loop.tended_.insert(this);
}
inline Tended::~Tended() { tending_loop_.tended_.erase(this); }

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_LOOP_H_
