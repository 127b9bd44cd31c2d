#include "gateway/proxy_request.h"

#include <keyrotator/openai/answer.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "gateway/passed_headers.h"
#include "gateway/problem.h"

namespace gateway {
namespace {

using keyrotator::Headers;
using keyrotator::HttpResponse;
using keyrotator::Outcome;
using keyrotator::Priority;
using std::chrono::steady_clock;

// What must have come of a body before it is passed on: the model is looked for
// in there.
constexpr std::size_t kEnoughForModel = 64 << 10;
// What is held of a body that is passed on, before the caller is slowed down.
constexpr std::size_t kHeldAhead = 256 << 10;

// Names of keys and providers may be any text; a header may not.
std::string HeaderText(std::string_view text) {
  std::string safe(text);
  std::replace_if(
      safe.begin(), safe.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return safe;
}

std::optional<std::uint64_t> LengthOf(const Headers& headers) {
  const auto field = headers.Find("Content-Length");
  if (!field) return std::nullopt;
  std::uint64_t length = 0;
  const char* const end = field->data() + field->size();
  const auto [stop, error] = std::from_chars(field->data(), end, length);
  if (error != std::errc() || stop != end) return std::nullopt;
  return length;
}

}  // namespace

ProxyRequest::ProxyRequest(Connection& connection, RequestHead head,
                           std::optional<std::size_t> provider,
                           std::string below_v1)
    : connection_(connection),
      loop_(connection.loop()),
      gateway_(loop_.gateway),
      head_(std::move(head)),
      position_(provider),
      below_v1_(std::move(below_v1)) {}

ProxyRequest::~ProxyRequest() {
  if (exchange_) exchange_->Stop();
  gateway_.kept_bytes -= reserved_;
  if (provider_ == nullptr) return;
  if (!counted_) {  // the caller has gone
    ++provider_->metrics.ended[ProviderMetrics::kGone];
    Log("gone");
  }
  // Last: where nothing is in flight any more, all is counted.
  --provider_->metrics.in_flight;
}

// ---- The body ----

bool ProxyRequest::CanKeep(std::size_t more) {
  const Limits& limits = gateway_.options.limits;
  if (body_.size() + more > limits.kept_bytes ||
      head_.length.value_or(0) > limits.kept_bytes)
    return false;
  const std::size_t wanted = body_.size() + more;
  if (wanted <= reserved_) return true;
  const std::size_t step = std::max<std::size_t>(wanted - reserved_, 64 << 10);
  if (gateway_.kept_bytes.fetch_add(step) + step > limits.kept_bytes_in_all) {
    gateway_.kept_bytes -= step;
    return false;
  }
  reserved_ += step;
  return true;
}

void ProxyRequest::OnBody(std::string_view bytes) {
  const bool keep = !passing_ && CanKeep(bytes.size());
  body_.append(bytes);
  if (keep) return;
  if (!passing_ && body_.size() < kEnoughForModel) return;
  if (!std::exchange(passing_, true)) return Start(/*whole=*/false);
  if (body_.size() - passed_ >= kHeldAhead) connection_.PauseBody();
  if (exchange_) exchange_->Resume();
}

void ProxyRequest::OnBodyEnd() {
  body_whole_ = true;
  if (!passing_) return Start(/*whole=*/true);
  if (exchange_) exchange_->Resume();
}

std::optional<std::size_t> ProxyRequest::OnUpload(std::span<char> room) {
  const std::size_t size = std::min(room.size(), body_.size() - passed_);
  if (size == 0 && !body_whole_) return std::nullopt;
  std::copy_n(body_.data() + passed_, size, room.data());
  passed_ += size;
  if (passed_ == body_.size()) {
    body_.clear();
    passed_ = 0;
    connection_.ResumeBody();
  }
  return size;
}

// ---- The request ----

void ProxyRequest::Start(bool whole) {
  model_ = ModelOf(head_, below_v1_, body_, whole);
  if (!position_) position_ = gateway_.routes.ForModel(model_);
  provider_ = gateway_.providers()[*position_].get();
  ++provider_->metrics.in_flight;
  Question question{
      .method = head_.method,
      .url = gateway_.routes.UrlOf(*position_, below_v1_, head_.query()),
      .headers =
          HeadersForProvider(head_.headers, provider_->config.auth_header),
      .model = model_,
      .priority = PriorityOf(head_).value_or(Priority::kInteractive)};
  if (whole) {
    question.body = body_;
  } else {
    question.upload = true;
    question.upload_size = head_.length;
  }
  exchange_ =
      std::make_shared<Exchange>(loop_, *position_, std::move(question), *this);
  exchange_->Start();
}

void ProxyRequest::OnRoom() {
  if (exchange_) exchange_->Resume();
}

// ---- The answer ----

void ProxyRequest::AddOwnHeaders(Headers& headers) const {
  headers.Add("x-keyrotator-attempts", std::to_string(exchange_->attempts()));
  if (!exchange_->key().empty())
    headers.Add("x-keyrotator-key", HeaderText(exchange_->key()));
  headers.Add("x-keyrotator-provider", HeaderText(provider_->config.name));
  if (exchange_->over_budget()) {
    headers.Add("x-keyrotator-over-budget", "true");
    // The retries that were saved here are not to be made by the caller's SDK.
    headers.Set("x-should-retry", "false");
  }
  const std::string_view origin = gateway_.guard.AllowedOrigin(head_);
  if (origin.empty()) return;
  headers.Add("Access-Control-Allow-Origin", std::string(origin));
  headers.Add("Access-Control-Expose-Headers", "*");
  headers.Add("Vary", "Origin");
}

void ProxyRequest::OnBegin(int status, Headers headers) {
  using keyrotator::internal::BodyKind;
  status_ = status;
  first_byte_ = steady_clock::now() - connection_.since();
  events_ = keyrotator::internal::KindOfBody(headers) == BodyKind::kEvents;
  Headers passed = HeadersForCaller(headers);
  AddOwnHeaders(passed);
  // Of a stream of events an error may be left out, or come on top.
  connection_.Begin(status, passed, events_ ? std::nullopt : LengthOf(headers));
}

bool ProxyRequest::OnBytes(std::string_view bytes) {
  connection_.Write(bytes);
  return true;
}

bool ProxyRequest::IsFull() { return connection_.IsFull(); }

void ProxyRequest::OnDone() {
  const Outcome outcome = exchange_->outcome();
  const bool begun = connection_.begun();
  HttpResponse response;
  if (!begun) response = exchange_->TakeResponse();
  // What the provider said is passed on wherever it says more than we could.
  const bool as_it_came =
      outcome == Outcome::kOk || outcome == Outcome::kDenied ||
      (outcome == Outcome::kCallerError && response.status != 0) ||
      (outcome == Outcome::kUnavailable && response.status >= 400);
  if (begun && outcome == Outcome::kOk) {
    connection_.End();
  } else if (!begun && as_it_came) {
    AnswerAsItCame(std::move(response));
  } else {
    const Problem problem =
        ProblemOf(outcome, exchange_->message(), exchange_->retry_in());
    begun ? Cut(problem) : AnswerProblem(problem);
  }
  counted_ = true;
  auto& metrics = provider_->metrics;
  ++metrics.ended[outcome == Outcome::kCut ? ProviderMetrics::kCut
                                           : ProviderMetrics::EndOf(status_)];
  metrics.wait.Add(exchange_->waited());
  metrics.first_byte.Add(first_byte_);
  metrics.duration.Add(steady_clock::now() - connection_.since());
  Log(keyrotator::ToString(outcome));
}

void ProxyRequest::AnswerAsItCame(HttpResponse response) {
  status_ = response.status;
  first_byte_ = steady_clock::now() - connection_.since();
  Headers passed = HeadersForCaller(response.headers);
  AddOwnHeaders(passed);
  const bool to_head = head_.method == "HEAD";
  connection_.Begin(status_, passed,
                    to_head
                        ? LengthOf(response.headers)
                        : std::optional<std::uint64_t>(response.body.size()));
  connection_.Write(response.body);
  connection_.End();
}

void ProxyRequest::AnswerProblem(const Problem& problem) {
  status_ = problem.status;
  first_byte_ = steady_clock::now() - connection_.since();
  Headers headers = ProblemHeaders(problem);
  AddOwnHeaders(headers);
  connection_.Answer(status_, std::move(headers), ErrorBody(problem));
}

// The answer has begun and cannot be had whole.
void ProxyRequest::Cut(const Problem& problem) {
  if (!events_) return connection_.Abort();
  connection_.Write(ErrorEvent(problem));
  connection_.End();
}

void ProxyRequest::OnHurry() {
  const Problem problem{.status = 503,
                        .code = "shutting_down",
                        .message = "The gateway is being stopped.",
                        .retry_after = std::chrono::seconds(1)};
  if (!exchange_ || connection_.begun()) {
    if (exchange_) exchange_->Stop();
    return events_ ? Cut(problem) : connection_.Abort();
  }
  exchange_->Stop();
  AnswerProblem(problem);
}

void ProxyRequest::Log(std::string_view outcome) {
  if (!gateway_.options.log_requests) return;
  gateway_.log.Request(
      {.caller = connection_.peer(),
       .method = head_.method,
       .path = gateway_.Redact(std::string(head_.path())),
       .provider = provider_->config.name,
       .model = gateway_.Redact(model_),
       .status = status_,
       .outcome = std::string(outcome),
       .key = exchange_ ? exchange_->key() : std::string(),
       .batch = PriorityOf(head_) == Priority::kBatch,
       .over_budget = exchange_ && exchange_->over_budget(),
       .attempts = exchange_ ? exchange_->attempts() : 0,
       .stream = events_,
       .wait = exchange_ ? exchange_->waited() : std::chrono::nanoseconds(0),
       .first_byte = first_byte_,
       .duration = steady_clock::now() - connection_.since(),
       .bytes_in = connection_.bytes_in(),
       .bytes_out = connection_.bytes_out()});
}

}  // namespace gateway
