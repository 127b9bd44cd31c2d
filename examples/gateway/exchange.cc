#include "gateway/exchange.h"

#include <boost/asio/post.hpp>
#include <utility>

#include "gateway/passed_headers.h"

namespace gateway {
namespace {

using keyrotator::Headers;
using keyrotator::Lease;
using keyrotator::TransportError;
using std::chrono::steady_clock;

// How long a transfer may take to end once its answer is complete.
constexpr std::chrono::seconds kTransferLinger{1};

// What the caller gets to see of the headers of an answer that is passed on: a
// provider may echo the key that it was sent.
Headers WithoutKeys(const Rotator& rotator, const Headers& from) {
  Headers to;
  for (const auto& [name, value] : from) to.Add(name, rotator.Redact(value));
  return to;
}

}  // namespace

Exchange::Exchange(Loop& loop, std::size_t provider, Question question,
                   Listener& listener)
    : Tended(loop),
      loop_(loop),
      position_(provider),
      provider_(*loop.gateway.providers()[provider]),
      question_(std::move(question)),
      listener_(&listener),
      failover_(provider_.rotator, {},
                {.scope = question_.model,
                 .priority = question_.priority,
                 .head = question_.method == "HEAD",
                 .pass_on = true},
                provider_.retry),
      timer_(loop.io) {}

Exchange::~Exchange() { Stop(); }

void Exchange::Start() {
  boost::asio::post(loop_.io, [self = weak_from_this()] {
    if (const auto exchange = self.lock()) exchange->GoOn();
  });
}

void Exchange::Stop() {
  if (std::exchange(listener_, nullptr) == nullptr) return;
  EndWait();
  EndSend();
  failover_.Stop();
}

void Exchange::Resume() {
  if (transfer_) transfer_->Resume();
}

std::optional<std::chrono::milliseconds> Exchange::retry_in() const {
  const auto at = failover_.retry_at();
  if (!at) return std::nullopt;
  return std::chrono::ceil<std::chrono::milliseconds>(*at -
                                                      steady_clock::now());
}

// Does what the failover says.
void Exchange::GoOn() {
  if (listener_ == nullptr) return;
  EndWait();
  const auto step = failover_.Next();
  switch (step.what) {
    case keyrotator::Do::kSend:
      Send();
      break;
    case keyrotator::Do::kWait:
      Wait(step);
      break;
    case keyrotator::Do::kInFlight:
      break;
    case keyrotator::Do::kDone: {
      const auto keep = shared_from_this();
      std::exchange(listener_, nullptr)->OnDone();
      break;
    }
  }
}

void Exchange::Send() {
  const keyrotator::ProviderConfig& config = provider_.config;
  const Limits& limits = loop_.gateway.options.limits;
  ++attempts_;
  ++provider_.metrics.attempts;
  key_ = failover_.key().name();
  head_came_ = false;
  request_.method = question_.method;
  request_.url = question_.url;
  request_.body = question_.body;
  request_.headers = question_.headers;
  const std::string_view key = failover_.key().Reveal();
  std::string value;
  value.reserve(config.auth_prefix.size() + key.size());
  request_.headers.Set(config.auth_header,
                       std::move(value.append(config.auth_prefix).append(key)));
  request_.repeatable = provider_.retry.retry_ambiguous;
  request_.connect_timeout = limits.connect_timeout;
  patience_ = steady_clock::now() + limits.answer_timeout;
  transfer_ = loop_.curl.Start(request_, *this, question_.upload,
                               question_.upload_size);
}

// Nothing of the key that it was sent with stays behind.
void Exchange::EndSend() {
  transfer_.reset();
  request_.headers.Wipe();
}

// Waits for a time and, if the step is for a key, for one in the queue in which
// other loops' requests stand, too.
void Exchange::Wait(const TheFailover::Step& step) {
  waiting_ = true;
  waiting_since_ = steady_clock::now();
  ++provider_.metrics.waiting;
  timer_.expires_at(step.until);
  timer_.async_wait([self = weak_from_this()](const auto& error) {
    const auto exchange = self.lock();
    if (!error && exchange) exchange->GoOn();
  });
  if (!step.for_key) return;
  // Called by whatever makes a key usable, in whichever thread.
  auto take = [self = weak_from_this(), &io = loop_.io](Lease lease) {
    boost::asio::post(io, [self, lease = std::move(lease)]() mutable {
      const auto exchange = self.lock();
      if (!exchange || exchange->listener_ == nullptr) return;
      exchange->failover_.Offer(std::move(lease));
      exchange->GoOn();
    });
  };
  for_key_ = true;
  place_ = provider_.rotator.WhenUsable(failover_.hint(), std::move(take));
  if (place_) return loop_.BeginWaiting(position_);
  for_key_ = false;
  failover_.Offer(std::nullopt);  // as many wait as may
  Start();
}

void Exchange::EndWait() {
  place_.reset();
  if (!std::exchange(waiting_, false)) return;
  timer_.cancel();
  if (std::exchange(for_key_, false)) loop_.EndWaiting(position_);
  waited_ += steady_clock::now() - waiting_since_;
  --provider_.metrics.waiting;
}

// For the failover: where the bytes of an answer go that is passed on.
auto Exchange::PassOn() {
  return [this](std::string_view bytes) {
    if (!std::exchange(begun_, true))
      listener_->OnBegin(status_, std::move(headers_));
    return listener_->OnBytes(bytes);
  };
}

void Exchange::OnHead(int status, Headers headers) {
  head_came_ = true;
  status_ = status;
  patience_ = steady_clock::now() + loop_.gateway.options.limits.answer_silence;
  if (status < 300) headers_ = WithoutKeys(provider_.rotator, headers);
  failover_.OnHead(status, std::move(headers));
}

bool Exchange::OnBody(std::string_view bytes) {
  using keyrotator::Flow;
  switch (failover_.OnBytes(bytes, PassOn())) {
    case Flow::kMore:
      patience_ =
          steady_clock::now() + loop_.gateway.options.limits.answer_silence;
      break;
    case Flow::kIdle:
      break;
    case Flow::kComplete:
      patience_ = steady_clock::now() + kTransferLinger;
      break;
    case Flow::kStop:
      return false;
  }
  return true;
}

std::optional<std::size_t> Exchange::OnUpload(std::span<char> room) {
  const auto size = listener_->OnUpload(room);
  upload_begun_ = upload_begun_ || size.value_or(0) > 0;
  // A caller that sends slowly is looked after by its connection.
  patience_ =
      std::max(patience_, steady_clock::now() +
                              loop_.gateway.options.limits.answer_timeout);
  return size;
}

void Exchange::OnEnd(const TransportError* error) {
  const auto keep = shared_from_this();
  failover_.OnEnd(PassOn(), error);
  EndSend();
  patience_ = SteadyTime::max();
  if (upload_begun_) failover_.Stop(keyrotator::Outcome::kBodySpent);
  loop_.PollKeys();
  GoOn();
}

void Exchange::Tend(SteadyTime now) {
  if (!transfer_ || now < patience_) return;
  // The answer is there, and only its connection does not end.
  if (failover_.complete()) return OnEnd(nullptr);
  const Limits& limits = loop_.gateway.options.limits;
  const TransportError error{
      .kind = TransportError::Kind::kTimeout,
      .message = head_came_
                     ? "silence for " +
                           std::to_string(limits.answer_silence.count()) + " ms"
                     : "no answer within " +
                           std::to_string(limits.answer_timeout.count()) +
                           " ms",
      .maybe_sent = true};
  OnEnd(&error);
}

}  // namespace gateway
