// 200 streamed answers at once on one thread, with libcurl's multi interface.
// Failover says for each request when to send and with which key, and is told
// what arrives; the loop below does the waiting for all of them: a timer for
// each, and for those that wait for a key a place in the rotator's queue, where
// threads may stand, too. An application with another event loop does the same:
// no part of the logic is repeated here.
//
// The provider is a fake one in this process: of its 8 keys one is revoked and
// one has a small limit.

#include <curl/curl.h>
#include <fmt/format.h>
#include <keyrotator/keyrotator.h>
#include <keyrotator/openai/classify.h>
#include <keyrotator/openai/failover.h>
#include <keyrotator/testing/fake_provider.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace {

using keyrotator::KeyRotator;
using keyrotator::Lease;
using keyrotator::TransportError;
using std::chrono::steady_clock;

const std::string kBody =
    R"({"model": "gpt-4o", "stream": true, "messages": []})";

// CURL and CURLM may be the same type, so the function is part of this one.
template <class T, auto kFree>
struct FreeWith {
  void operator()(T* object) const { kFree(object); }
};
template <class T, auto kFree>
using Owned = std::unique_ptr<T, FreeWith<T, kFree>>;

// One request: its Failover, and what it waits for: a transfer, a time, a key.
class Request {
 public:
  Request(KeyRotator<>& rotator, const std::string& url)
      : failover(rotator, {}, {.scope = "gpt-4o", .stream = true}),
        rotator_(rotator),
        url_(url) {}

  // When there is something to do, if nothing happens before: now, if what it
  // waited for has come.
  steady_clock::time_point due() const { return due_; }

  // Does what the failover says.
  void GoOn(CURLM* multi) {
    waiting_.reset();  // gives up its place in the queue, if it has one
    if (lease_) failover.Offer(std::exchange(lease_, {}));
    const auto step = failover.Next();
    // While a transfer is under way, what arrives is what happens.
    due_ = step.what == keyrotator::Do::kWait ? step.until
                                              : steady_clock::time_point::max();
    if (step.what == keyrotator::Do::kSend) Send(multi);
    if (step.for_key) WaitForKey();
  }

  // The transfer has ended.
  void End(CURLM* multi, CURLcode code) {
    curl_multi_remove_handle(multi, easy_.get());
    const TransportError error{.kind = code == CURLE_COULDNT_CONNECT
                                           ? TransportError::Kind::kConnect
                                           : TransportError::Kind::kLost,
                               .message = curl_easy_strerror(code),
                               .maybe_sent = code != CURLE_COULDNT_CONNECT};
    failover.OnEnd([this](const auto& event) { OnEvent(event); },
                   code == CURLE_OK ? nullptr : &error);
    due_ = steady_clock::now();  // what is next for it?
  }

  keyrotator::Failover<KeyRotator<>, keyrotator::OpenAIClassifier> failover;
  int events = 0;

 private:
  // Called by whatever makes a key usable: the end of another request, or Poll.
  // So it only takes the key, and the loop goes on with it. Where other threads
  // use the rotator, they may be the ones who call: wake the loop then.
  void WaitForKey() {
    waiting_ = rotator_.WhenUsable(failover.hint(), [this](Lease lease) {
      lease_ = std::move(lease);
      due_ = steady_clock::now();
    });
    if (waiting_) return;
    failover.Offer(std::nullopt);  // as many wait as may
    due_ = steady_clock::now();
  }

  // Begins a transfer with the failover's key.
  void Send(CURLM* multi) {
    headers_ = {};
    const std::string authorization =
        "Authorization: Bearer " + std::string(failover.key().Reveal());
    fields_.reset(curl_slist_append(nullptr, authorization.c_str()));
    curl_slist_append(fields_.get(), "Content-Type: application/json");

    easy_.reset(curl_easy_init());
    curl_easy_setopt(easy_.get(), CURLOPT_PRIVATE, this);
    curl_easy_setopt(easy_.get(), CURLOPT_URL, url_.c_str());
    curl_easy_setopt(easy_.get(), CURLOPT_HTTPHEADER, fields_.get());
    curl_easy_setopt(easy_.get(), CURLOPT_POSTFIELDS, kBody.c_str());
    curl_easy_setopt(easy_.get(), CURLOPT_CONNECTTIMEOUT, 5L);
    curl_easy_setopt(easy_.get(), CURLOPT_HEADERFUNCTION, &OnHeaderLine);
    curl_easy_setopt(easy_.get(), CURLOPT_HEADERDATA, this);
    curl_easy_setopt(easy_.get(), CURLOPT_WRITEFUNCTION, &OnBody);
    curl_easy_setopt(easy_.get(), CURLOPT_WRITEDATA, this);
    curl_multi_add_handle(multi, easy_.get());
  }

  void OnEvent(const keyrotator::SseEvent&) { ++events; }

  static std::size_t OnHeaderLine(const char* data, std::size_t,
                                  std::size_t size, void* request) {
    Request& self = *static_cast<Request*>(request);
    const std::string_view line(data, size);
    const std::size_t colon = line.find(':');
    if (line == "\r\n") {  // the end of the head
      long status = 0;
      curl_easy_getinfo(self.easy_.get(), CURLINFO_RESPONSE_CODE, &status);
      self.failover.OnHead(static_cast<int>(status),
                           std::exchange(self.headers_, {}));
    } else if (colon != line.npos) {
      std::string_view value = line.substr(colon + 1);
      value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
      value.remove_suffix(2);
      self.headers_.Add(std::string(line.substr(0, colon)), std::string(value));
    }
    return size;
  }

  static std::size_t OnBody(const char* data, std::size_t, std::size_t size,
                            void* request) {
    Request& self = *static_cast<Request*>(request);
    const bool more = self.failover.OnBody(
        {data, size}, [&](const auto& event) { self.OnEvent(event); });
    return more ? size : 0;  // less than `size` breaks it off
  }

  KeyRotator<>& rotator_;
  const std::string& url_;
  steady_clock::time_point due_ = steady_clock::time_point::min();
  std::optional<Lease> lease_;  // that it was given while it waited
  std::optional<KeyRotator<>::Waiting> waiting_;
  keyrotator::Headers headers_;
  Owned<curl_slist, curl_slist_free_all> fields_;
  Owned<CURL, curl_easy_cleanup> easy_;
};

// The event loop: runs all requests to their end.
void Run(KeyRotator<>& rotator, std::deque<Request>& requests) {
  const Owned<CURLM, curl_multi_cleanup> multi(curl_multi_init());
  const auto is_done = [](const Request& request) {
    return request.failover.outcome() != keyrotator::Outcome::kPending;
  };
  while (!std::all_of(requests.begin(), requests.end(), is_done)) {
    int running = 0;
    curl_multi_perform(multi.get(), &running);
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
      const CURLcode code = message->data.result;
      Request* request = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
      request->End(multi.get(), code);
    }

    for (Request& request : requests) {
      if (request.due() <= steady_clock::now()) request.GoOn(multi.get());
    }

    // Gives keys that have returned to those who wait for them, and says when
    // the next will.
    auto wake = steady_clock::now() + std::chrono::seconds(1);
    if (const auto next = rotator.Poll()) wake = std::min(wake, *next);
    for (const Request& request : requests)
      wake = std::min(wake, request.due());
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(
        wake - steady_clock::now());
    curl_multi_poll(multi.get(), nullptr, 0,
                    std::max(0, static_cast<int>(wait.count())), nullptr);
  }
}

}  // namespace

int main() {
  using keyrotator::testing::FakeKey;
  std::map<std::string, FakeKey> known;
  for (int i = 1; i <= 8; ++i) known[fmt::format("sk-{}", i)] = {};
  known["sk-3"].state = keyrotator::testing::FakeKeyState::kRevoked;
  known["sk-6"].limit = {.requests = 5};
  const keyrotator::testing::FakeProvider provider(
      {.keys = known, .event_interval = std::chrono::milliseconds(20)});

  KeyRotator rotator({"sk-1", "sk-2", "sk-3", "sk-4",  //
                      "sk-5", "sk-6", "sk-7", "sk-8"});
  const std::string url = provider.base_url() + "/chat/completions";
  std::deque<Request> requests;
  for (int i = 0; i < 200; ++i) requests.emplace_back(rotator, url);

  const auto start = steady_clock::now();
  Run(rotator, requests);
  const std::chrono::duration<double> took = steady_clock::now() - start;

  int served = 0, events = 0;
  std::size_t attempts = 0;
  for (const Request& request : requests) {
    const auto& failover = request.failover;
    if (failover.outcome() == keyrotator::Outcome::kOk) {
      ++served;
    } else {
      fmt::print("{}: {}\n", failover.outcome(), failover.message());
    }
    events += request.events;
    attempts += failover.trail().size();
  }
  for (const auto& key : rotator.Snapshot()) fmt::print("{}\n", key);
  fmt::print(
      "{} of 200 streams served in {:.2f} s on one thread: {} attempts, "
      "{} events\n",
      served, took.count(), attempts, events);
  return served == 200 ? 0 : 1;
}
