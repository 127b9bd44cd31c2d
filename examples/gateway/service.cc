#include "gateway/service.h"

#include <keyrotator/key_status.h>
#include <keyrotator/report.h>
#include <keyrotator/status/prometheus.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/models_request.h"
#include "gateway/page.h"
#include "gateway/passed_headers.h"
#include "gateway/proxy_request.h"

namespace gateway {
namespace {

using keyrotator::Headers;

// How long a key rests that somebody lets rest.
constexpr std::chrono::minutes kRest{10};

// Nothing of it may be kept, framed, or taken for something else.
Headers PageHeaders(std::string type) {
  return {{"Content-Type", std::move(type)},
          {"Cache-Control", "no-store"},
          {"X-Content-Type-Options", "nosniff"},
          {"X-Frame-Options", "DENY"},
          {"Referrer-Policy", "no-referrer"},
          {"Content-Security-Policy",
           "default-src 'none'; style-src 'unsafe-inline'; script-src "
           "'unsafe-inline'; connect-src 'self'; img-src data:; base-uri "
           "'none'; form-action 'none'; frame-ancestors 'none'"}};
}

// The status, once a second, for as long as somebody looks at it.
class EventsRequest final : public Handler {
 public:
  EventsRequest(Connection& connection, const History& history, bool admin)
      : connection_(connection), timer_(connection.loop().io) {
    connection_.Begin(200, PageHeaders("text/event-stream"), std::nullopt);
    nlohmann::ordered_json first = StatusOf(connection_.loop().gateway);
    first["admin"] = admin;
    first["history"] = history.Rows();
    Tell(first);
  }

  void OnHurry() override { connection_.Abort(); }

 private:
  void Tell(const nlohmann::ordered_json& status) {
    if (!connection_.IsFull())
      connection_.Write("data: " + status.dump() + "\n\n");
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([this](const boost::system::error_code& error) {
      if (error) return;
      const Gateway& gateway = connection_.loop().gateway;
      if (gateway.draining) return connection_.End();
      Tell(StatusOf(gateway));
    });
  }

  Connection& connection_;
  boost::asio::steady_timer timer_;
};

class Service {
 public:
  explicit Service(const History& history) : history_(history) {}

  std::unique_ptr<Handler> operator()(Connection& connection,
                                      RequestHead head) const {
    const Gateway& gateway = connection.loop().gateway;
    const auto refuse = [&](const Problem& problem) {
      Log(connection, head, problem.status, problem.code);
      connection.Answer(problem);
      return nullptr;
    };
    if (const auto problem = gateway.guard.CheckPlace(head))
      return refuse(*problem);
    if (IsPreflight(gateway, head)) return AnswerPreflight(connection, head);
    const std::string_view path = head.path();
    if (path == "/healthz") return Answer(connection, head, 200, "ok\n");
    if (path == "/readyz") return AnswerReady(connection, head);
    if (path == "/") return AnswerPage(connection, head);
    if (const auto problem = gateway.guard.CheckToken(head))
      return refuse(*problem);
    if (const auto place = gateway.routes.Find(path)) {
      if (gateway.draining) return refuse(Draining());
      if (!PriorityOf(head))
        return refuse({.status = 400,
                       .code = "bad_request",
                       .message = "x-keyrotator-priority is either interactive "
                                  "or batch.",
                       .should_retry = false});
      const bool join = gateway.providers().size() > 1 && !place->provider &&
                        place->path == "/models" && head.method == "GET";
      if (join) return std::make_unique<ModelsRequest>(connection, head);
      std::string below(place->path);
      return std::make_unique<ProxyRequest>(connection, std::move(head),
                                            place->provider, std::move(below));
    }
    if (path.starts_with("/admin/")) return OnAdmin(connection, head);
    if (head.method != "GET" && head.method != "HEAD")
      return refuse({.status = 404,
                     .code = "not_found",
                     .message = "There is no such page; requests go to /v1.",
                     .should_retry = false});
    if (path == "/status")
      return Answer(connection, head, 200, StatusOf(gateway).dump() + "\n",
                    "application/json");
    if (path == "/metrics")
      return Answer(connection, head, 200, MetricsPage(gateway),
                    std::string(keyrotator::kPrometheusContentType));
    if (path == "/events" && head.method == "GET")
      return std::make_unique<EventsRequest>(connection, history_,
                                             gateway.guard.IsAdmin(head));
    return refuse({.status = 404,
                   .code = "not_found",
                   .message = "There is no such page; requests go to /v1.",
                   .should_retry = false});
  }

 private:
  static Problem Draining() {
    return {.status = 503,
            .code = "shutting_down",
            .message = "The gateway is being stopped.",
            .retry_after = std::chrono::seconds(1)};
  }

  static void Log(Connection& connection, const RequestHead& head, int status,
                  std::string_view outcome) {
    const Gateway& gateway = connection.loop().gateway;
    if (!gateway.options.log_requests) return;
    gateway.log.Request(
        {.caller = connection.peer(),
         .method = head.method,
         .path = gateway.Redact(std::string(head.path())),
         .status = status,
         .outcome = std::string(outcome),
         .duration = std::chrono::steady_clock::now() - connection.since()});
  }

  static std::nullptr_t Answer(Connection& connection, const RequestHead& head,
                               int status, std::string_view body,
                               std::string type = "text/plain") {
    if (head.method != "GET" && head.method != "HEAD") {
      connection.Answer(Problem{.status = 405,
                                .code = "method_not_allowed",
                                .message = "Only GET and HEAD are for this.",
                                .should_retry = false});
    } else {
      connection.Answer(status, PageHeaders(std::move(type)), body);
    }
    return nullptr;
  }

  // Whether it takes requests, and a key of some provider may serve one.
  static std::nullptr_t AnswerReady(Connection& connection,
                                    const RequestHead& head) {
    const Gateway& gateway = connection.loop().gateway;
    if (gateway.draining) return Answer(connection, head, 503, "draining\n");
    const bool any = std::any_of(
        gateway.providers().begin(), gateway.providers().end(),
        [](const auto& provider) {
          const auto outlook = provider->rotator.Availability();
          return outlook.available + outlook.busy + outlook.cooling > 0;
        });
    return any ? Answer(connection, head, 200, "ready\n")
               : Answer(connection, head, 503, "no usable key\n");
  }

  static std::nullptr_t AnswerPage(Connection& connection,
                                   const RequestHead& head) {
    return Answer(connection, head, 200, kPage, "text/html; charset=utf-8");
  }

  // A browser asks first whether a page of another origin may.
  static bool IsPreflight(const Gateway& gateway, const RequestHead& head) {
    return head.method == "OPTIONS" &&
           head.headers.Find("Access-Control-Request-Method") &&
           !gateway.guard.AllowedOrigin(head).empty();
  }
  static std::nullptr_t AnswerPreflight(Connection& connection,
                                        const RequestHead& head) {
    const Guard& guard = connection.loop().gateway.guard;
    Headers headers{
        {"Access-Control-Allow-Origin", std::string(guard.AllowedOrigin(head))},
        {"Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE"},
        {"Access-Control-Max-Age", "600"},
        {"Vary", "Origin"}};
    if (const auto wanted = head.headers.Find("Access-Control-Request-Headers"))
      headers.Add("Access-Control-Allow-Headers", std::string(*wanted));
    connection.Answer(204, std::move(headers), {});
    return nullptr;
  }

  // POST /admin/restore?provider=P&key=NAME lifts a failure, .../rest lets a
  // key rest for ten minutes; GET /admin/check says whether the token is right.
  static std::nullptr_t OnAdmin(Connection& connection,
                                const RequestHead& head) {
    Gateway& gateway = connection.loop().gateway;
    const auto answer = [&](Problem problem) {
      Log(connection, head, problem.status, problem.code);
      connection.Answer(problem);
      return nullptr;
    };
    if (!gateway.guard.IsAdmin(head)) {
      return answer({.status = 403,
                     .code = "admin_only",
                     .message = gateway.guard.has_admin()
                                    ? "That is for the admin token alone."
                                    : "Start with --admin-token-file for that.",
                     .should_retry = false});
    }
    const std::string_view path = head.path();
    if (path == "/admin/check") return Answer(connection, head, 200, "ok\n");
    const bool restore = path == "/admin/restore";
    if (head.method != "POST" || (!restore && path != "/admin/rest"))
      return answer({.status = 404,
                     .code = "not_found",
                     .message = "There is no such command.",
                     .should_retry = false});
    const std::string name = Parameter(head.query(), "key");
    const std::string of = Parameter(head.query(), "provider");
    for (const auto& provider : gateway.providers()) {
      if (provider->config.name != of) continue;
      for (const auto& key : provider->rotator.Snapshot()) {
        if (key.name != name) continue;
        if (restore) {
          provider->rotator.Restore(key.id);
        } else {
          provider->rotator.MarkRateLimited(key.id, kRest,
                                            keyrotator::Reach::kKey);
        }
        gateway.log.Note(restore ? "restored" : "rested", of, name);
        connection.Answer(200, PageHeaders("application/json"), "{}\n");
        return nullptr;
      }
    }
    return answer({.status = 404,
                   .code = "no_such_key",
                   .message = "There is no such key.",
                   .should_retry = false});
  }

  static std::string Parameter(std::string_view query, std::string_view name) {
    while (!query.empty()) {
      const std::string_view pair = query.substr(0, query.find('&'));
      query.remove_prefix(std::min(pair.size() + 1, query.size()));
      if (pair.substr(0, pair.find('=')) != name) continue;
      return Unescaped(pair.substr(std::min(name.size() + 1, pair.size())))
          .value_or("");
    }
    return {};
  }

  const History& history_;
};

}  // namespace

MakeHandler MakeService(const History& history) { return Service(history); }

}  // namespace gateway
