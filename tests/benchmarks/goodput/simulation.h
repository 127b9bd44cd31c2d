// File: simulation.h
//
// A discrete-event simulation of callers, a pool of keys and a provider. Who
// chooses the keys and the times is a Contender; all of them meet the same
// requests, the same latencies and the same buckets. One thread; the same seed
// gives the same figures.

#ifndef KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_SIMULATION_H_
#define KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_SIMULATION_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <stdexcept>
#include <utility>
#include <vector>

#include "keyrotator/http/message.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/benchmarks/goodput/provider.h"
#include "tests/benchmarks/goodput/workload.h"

namespace keyrotator::goodput {

// What came of a request.
struct Fate {
  bool served = false;
  std::size_t key = 0;  // that served it
  std::size_t sends = 0;
  Nanos sent = 0;  // the last time
  Nanos ended = 0;
};

// What a contender can do and see.
class World {
 public:
  World(const Cell& the_cell, const std::vector<Request>& all)
      : cell(the_cell), requests(all) {}

  virtual void Send(std::size_t request, std::size_t key) = 0;
  // Calls OnTimer then, unless it is set again, cancelled or the request sent.
  virtual void SetTimer(std::size_t request, Nanos at) = 0;
  virtual void CancelTimer(std::size_t request) = 0;
  // The request is over.
  virtual void Finish(std::size_t request, bool served) = 0;

  Nanos now() const { return clock.now().time_since_epoch().count(); }
  Nanos Deadline(std::size_t request) const {
    return requests[request].arrival + FromSeconds(cell.patience);
  }

  const Cell& cell;
  const std::vector<Request>& requests;
  testing::ManualClock clock;

 protected:
  ~World() = default;
};

// Someone who gets requests served with the keys of a pool.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual void Begin(std::size_t request) = 0;
  // The head of a good answer that is to come.
  virtual void OnHead(std::size_t, const HttpResponse&) {}
  virtual void OnAnswer(std::size_t request, HttpResponse response) = 0;
  virtual void OnTimer(std::size_t request) = 0;
  // After all else that happens at that moment; when it wants to be called
  // again.
  virtual std::optional<Nanos> AfterEvent() { return std::nullopt; }
};

class Simulation final : public World {
 public:
  Simulation(const Cell& the_cell, const std::vector<Request>& all,
             std::uint64_t seed)
      : World(the_cell, all),
        provider_(the_cell.pool, the_cell.provider, the_cell.mean_cost, seed,
                  kStart),
        seed_(seed),
        active_(all.size()),
        fates_(all.size()),
        first_served_(the_cell.pool.organisations.size()) {}

  void Run(Contender& contender) {
    std::size_t next_arrival = 0;
    Nanos poll = internal::kNever;
    while (true) {
      const Nanos arrival = next_arrival < requests.size()
                                ? requests[next_arrival].arrival
                                : internal::kNever;
      const Nanos event = events_.empty() ? internal::kNever : events_.top().at;
      const Nanos at = std::min({arrival, event, poll});
      if (open_ == 0 && next_arrival == requests.size()) break;
      if (at == internal::kNever)
        throw std::logic_error("a contender forgot a request");
      clock.AdvanceTo(TimeAt(at));
      if (event == at) {
        const Event happened = events_.top();
        events_.pop();
        Happen(happened, contender);
      } else if (arrival == at) {
        ++open_;
        contender.Begin(next_arrival++);
      }
      poll = contender.AfterEvent().value_or(internal::kNever);
      if (poll <= now()) poll = now() + 1;
    }
  }

  void Send(std::size_t request, std::size_t key) override {
    Fate& fate = fates_[request];
    fate.key = key;
    fate.sent = now();
    Active& active = active_[request];
    ++active.generation;
    Dice dice(seed_ ^ (request * 0x9e3779b97f4a7c15u + fate.sends++));
    active.way = FromSeconds(0.03 + 0.02 * dice.Uniform());
    active.service = FromSeconds(dice.LogNormal(cell.latency, 0.5));
    Push(now() + active.way, Event::Kind::kAtServer, request);
  }

  void SetTimer(std::size_t request, Nanos at) override {
    ++active_[request].generation;
    Push(std::max(at, now()), Event::Kind::kTimer, request);
  }
  void CancelTimer(std::size_t request) override {
    ++active_[request].generation;
  }

  void Finish(std::size_t request, bool served) override {
    fates_[request].served = served;
    fates_[request].ended = now();
    --open_;
  }

  const Provider& provider() const { return provider_; }
  const std::vector<Fate>& fates() const { return fates_; }
  std::size_t refusals() const { return refusals_; }
  // What each organisation served of the first 10,000 requests, in requests
  // or tokens.
  const std::vector<double>& first_served() const { return first_served_; }

 private:
  struct Event {
    enum class Kind { kAtServer, kHead, kAnswer, kTimer };
    Nanos at = 0;
    std::uint64_t number = 0;
    Kind kind = Kind::kTimer;
    std::uint32_t request = 0;
    std::uint32_t generation = 0;

    friend bool operator>(const Event& a, const Event& b) {
      return a.at != b.at ? a.at > b.at : a.number > b.number;
    }
  };

  struct Active {
    std::uint32_t generation = 0;  // of its timer
    Nanos way = 0;
    Nanos service = 0;
    std::unique_ptr<HttpResponse> answer;
  };

  static testing::ManualClock::time_point TimeAt(Nanos at) {
    return testing::ManualClock::time_point(std::chrono::nanoseconds(at));
  }

  void Push(Nanos at, Event::Kind kind, std::size_t request) {
    events_.push({at, ++event_number_, kind,
                  static_cast<std::uint32_t>(request),
                  active_[request].generation});
  }

  void Happen(const Event& event, Contender& contender) {
    Active& active = active_[event.request];
    if (event.generation != active.generation) return;
    switch (event.kind) {
      case Event::Kind::kAtServer: {
        const Request& request = requests[event.request];
        const std::size_t key = fates_[event.request].key;
        active.answer = std::make_unique<HttpResponse>(
            provider_.Handle(key, request.model, request.cost, now()));
        // A refusal comes at once; a success with the whole answer.
        const bool good = active.answer->status == 200;
        if (!good) {
          ++refusals_;
        } else if (served_++ < 10'000) {
          first_served_[cell.pool.keys[key]] +=
              request.cost > 0 ? request.cost : 1;
        }
        if (good && cell.head > 0)
          Push(now() + std::max(FromSeconds(cell.head), active.way),
               Event::Kind::kHead, event.request);
        Push(now() + (good ? std::max(active.service, active.way) : active.way),
             Event::Kind::kAnswer, event.request);
        return;
      }
      case Event::Kind::kHead:
        // That of an answer that is there already says nothing new.
        if (active.answer) contender.OnHead(event.request, *active.answer);
        return;
      case Event::Kind::kAnswer: {
        const std::unique_ptr<HttpResponse> answer = std::move(active.answer);
        contender.OnAnswer(event.request, std::move(*answer));
        return;
      }
      case Event::Kind::kTimer:
        contender.OnTimer(event.request);
        return;
    }
  }

  Provider provider_;
  const std::uint64_t seed_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t event_number_ = 0;
  std::vector<Active> active_;
  std::vector<Fate> fates_;
  std::vector<double> first_served_;
  std::size_t served_ = 0;
  std::size_t refusals_ = 0;
  std::size_t open_ = 0;
};

}  // namespace keyrotator::goodput

#endif  // KEYROTATOR_TESTS_BENCHMARKS_GOODPUT_SIMULATION_H_
