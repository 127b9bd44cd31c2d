// File: models_request.h
//
// ModelsRequest: /v1/models of several providers, joined into one list. Each
// entry is as its provider wrote it; of two with one id the first counts. A
// provider that does not answer is left out, and named in a header.
//
// Example: see service.cc.
//   return std::make_unique<gateway::ModelsRequest>(connection, head);

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_MODELS_REQUEST_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_MODELS_REQUEST_H_

#include <keyrotator/http/message.h>
#include <keyrotator/internal/text.h>
#include <keyrotator/openai/json_scan.h>
#include <keyrotator/openai/outcome.h>
#include <keyrotator/openai/request_model.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/connection.h"
#include "gateway/exchange.h"
#include "gateway/passed_headers.h"
#include "gateway/problem.h"

namespace gateway {

// The lists of models, as the providers sent them, as one.
inline std::string JoinModels(const std::vector<std::string>& lists) {
  namespace internal = keyrotator::internal;
  std::string joined;
  std::set<std::string, std::less<>> seen;
  const auto take = [&](std::string_view entry) {
    std::string id;
    std::string_view rest = entry;
    internal::ForEachMember(rest,
                            [&](std::string_view name, std::string_view value) {
                              if (name == "\"id\"")
                                id = internal::ReadShortString(value);
                            });
    if (!id.empty() && !seen.insert(id).second) return;
    joined.append(joined.empty() ? "" : ",").append(entry);
  };
  for (const std::string& list : lists) {
    std::string_view rest = internal::SkipMark(list);
    internal::ForEachMember(rest,
                            [&](std::string_view name, std::string_view value) {
                              if (name == "\"data\"")
                                internal::ForEachElement(value, take);
                            });
  }
  return R"({"object":"list","data":[)" + joined + "]}";
}

class ModelsRequest final : public Handler {
 public:
  ModelsRequest(Connection& connection, const RequestHead& head)
      : connection_(connection) {
    Loop& loop = connection.loop();
    const auto& providers = loop.gateway.providers();
    for (std::size_t i = 0; i < providers.size(); ++i) {
      Question question{
          .method = "GET",
          .url = loop.gateway.routes.UrlOf(i, "/models", head.query()),
          .headers = HeadersForProvider(head.headers,
                                        providers[i]->config.auth_header),
          .priority =
              PriorityOf(head).value_or(keyrotator::Priority::kInteractive)};
      parts_.push_back(std::make_unique<Part>(*this));
      parts_.back()->exchange = std::make_shared<Exchange>(
          loop, i, std::move(question), *parts_.back());
      parts_.back()->exchange->Start();
    }
  }
  ~ModelsRequest() override {
    for (const auto& part : parts_) part->exchange->Stop();
  }

 private:
  // One provider's list.
  struct Part final : Exchange::Listener {
    explicit Part(ModelsRequest& request) : whole(request) {}

    void OnBegin(int, keyrotator::Headers) override {}
    bool OnBytes(std::string_view bytes) override {
      constexpr std::size_t kMost = std::size_t{16} << 20;
      if (bytes.size() > kMost - list.size()) return false;
      list += bytes;
      return true;
    }
    bool IsFull() override { return false; }
    std::optional<std::size_t> OnUpload(std::span<char>) override { return 0; }
    void OnDone() override {
      ok = exchange->outcome() == keyrotator::Outcome::kOk;
      keyrotator::HttpResponse response = exchange->TakeResponse();
      if (list.empty()) list = std::move(response.body);
      whole.OnPart();
    }

    ModelsRequest& whole;
    std::shared_ptr<Exchange> exchange;
    std::string list;
    bool ok = false;
  };

  void OnPart() {
    if (++done_ < parts_.size()) return;
    std::vector<std::string> lists;
    std::string missing;
    const auto& providers = connection_.loop().gateway.providers();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i]->ok) {
        lists.push_back(std::move(parts_[i]->list));
      } else {
        missing.append(missing.empty() ? "" : ", ")
            .append(providers[i]->config.name);
      }
    }
    if (lists.empty()) {
      const Exchange& first = *parts_[0]->exchange;
      const Problem problem =
          ProblemOf(first.outcome(), first.message(), first.retry_in());
      Log(problem.status, problem.code);
      return connection_.Answer(problem);
    }
    Log(200, "ok");
    keyrotator::Headers headers{{"Content-Type", "application/json"}};
    for (char& c : missing) c = c < ' ' || c > '~' ? '?' : c;
    if (!missing.empty()) headers.Add("x-keyrotator-missing", missing);
    connection_.Answer(200, std::move(headers), JoinModels(lists));
  }

  void Log(int status, std::string_view outcome) const {
    const Gateway& gateway = connection_.loop().gateway;
    if (!gateway.options.log_requests) return;
    std::size_t attempts = 0;
    for (const auto& part : parts_) attempts += part->exchange->attempts();
    gateway.log.Request(
        {.caller = connection_.peer(),
         .method = "GET",
         .path = "/v1/models",
         .status = status,
         .outcome = std::string(outcome),
         .attempts = attempts,
         .duration = std::chrono::steady_clock::now() - connection_.since()});
  }

  Connection& connection_;
  std::vector<std::unique_ptr<Part>> parts_;
  std::size_t done_ = 0;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_MODELS_REQUEST_H_
