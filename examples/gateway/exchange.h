// File: exchange.h
//
// Exchange: one request on its way to a provider, over as many keys as it
// takes. keyrotator::Failover says what to do next: send with this key, wait
// for a key, wait before a retry, or that it is over. This does it, on an event
// loop: transfers by libcurl, a place in the rotator's queue, a timer.
//
// Example:
//   auto exchange = std::make_shared<gateway::Exchange>(
//       loop, 0, gateway::Question{.method = "GET", .url = url}, listener);
//   exchange->Start();  // calls the listener, from the loop, until OnDone
//   exchange->Stop();   // the caller has gone: no more calls

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_EXCHANGE_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_EXCHANGE_H_

#include <keyrotator/http/message.h>
#include <keyrotator/openai/classify.h>
#include <keyrotator/openai/failover.h>
#include <keyrotator/pick_hint.h>

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/curl_loop.h"
#include "gateway/loop.h"
#include "gateway/provider.h"

namespace gateway {

// What is asked. A body that is not whole comes from the listener, once.
struct Question {
  std::string method = "GET";
  std::string url = {};
  keyrotator::Headers headers = {};  // without a key
  std::string model = {};            // what the provider limits apart
  keyrotator::Priority priority = keyrotator::Priority::kInteractive;
  std::string_view body = {};  // must outlive the exchange
  bool upload = false;
  std::optional<std::uint64_t> upload_size = {};
};

class Exchange final : public std::enable_shared_from_this<Exchange>,
                       private Receiver,
                       private Tended {
 public:
  // Who is told. None of these may destroy the exchange but OnDone.
  class Listener {
   public:
    // The answer begins to be passed on. From here on the request cannot be
    // sent again.
    virtual void OnBegin(int status, keyrotator::Headers headers) = 0;
    // False: it wants no more of it, and the exchange ends as stopped.
    virtual bool OnBytes(std::string_view bytes) = 0;
    // Whether it wants to wait with more bytes, until Exchange::Resume.
    virtual bool IsFull() = 0;
    virtual std::optional<std::size_t> OnUpload(std::span<char> room) = 0;
    // The last call: outcome() and, if the answer was not passed on,
    // TakeResponse() say what came of it.
    virtual void OnDone() = 0;

   protected:
    ~Listener() = default;
  };

  Exchange(Loop& loop, std::size_t provider, Question question,
           Listener& listener);
  ~Exchange();

  // Calls the listener later, never from within.
  void Start();
  // Ends it, without a word to the listener and without a mark on the key.
  void Stop();
  // Goes on where the listener was full or had no more to upload.
  void Resume();

  keyrotator::Outcome outcome() const { return failover_.outcome(); }
  const std::string& message() const { return failover_.message(); }
  // Whether it would have been sent again, had not too many requests failed.
  bool over_budget() const { return failover_.over_budget(); }
  keyrotator::HttpResponse TakeResponse() { return failover_.TakeResponse(); }
  // How long until it is worth trying again, if that is known.
  std::optional<std::chrono::milliseconds> retry_in() const;

  // Sends so far, with the one that runs; and the name of the last key.
  std::size_t attempts() const { return attempts_; }
  const std::string& key() const { return key_; }
  // For a key or for a retry, so far.
  std::chrono::nanoseconds waited() const { return waited_; }

 private:
  using TheFailover =
      keyrotator::Failover<Rotator, keyrotator::OpenAIClassifier>;

  void GoOn();
  void Send();
  void Wait(const TheFailover::Step& step);
  void EndWait();
  void EndSend();
  auto PassOn();

  void OnHead(int status, keyrotator::Headers headers) override;
  bool OnBody(std::string_view bytes) override;
  bool IsFull() override { return listener_->IsFull(); }
  std::optional<std::size_t> OnUpload(std::span<char> room) override;
  void OnEnd(const keyrotator::TransportError* error) override;
  void Tend(SteadyTime now) override;

  Loop& loop_;
  const std::size_t position_;  // of the provider
  Provider& provider_;
  const Question question_;
  Listener* listener_;  // null once it is over
  TheFailover failover_;

  // The send that runs.
  std::unique_ptr<Transfer> transfer_;
  keyrotator::HttpRequest request_;
  SteadyTime patience_ = SteadyTime::max();
  bool head_came_ = false;
  int status_ = 0;
  keyrotator::Headers headers_;  // of the answer, for the caller

  // The wait that runs.
  bool waiting_ = false;
  bool for_key_ = false;
  SteadyTime waiting_since_;
  std::optional<Rotator::Waiting> place_;
  boost::asio::steady_timer timer_;

  bool begun_ = false;         // the answer is being passed on
  bool upload_begun_ = false;  // so it cannot be sent again
  std::size_t attempts_ = 0;
  std::string key_;
  std::chrono::nanoseconds waited_{0};
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_EXCHANGE_H_
