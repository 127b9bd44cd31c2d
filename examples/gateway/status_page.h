// File: status_page.h
//
// The state of the gateway as JSON: what /status answers, and what the page is
// told once a second. And History: the last minutes of it, a row a second.
//
// Example:
//   gateway::StatusText(gateway);
//   // {"time":"...","draining":false,"connections":3,"providers":[{"name":...,
//   //  "served":10,"refused":0,"waiting":0,"in_flight":1,"keys":[...]}]}

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_STATUS_PAGE_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_STATUS_PAGE_H_

#include <keyrotator/status/json.h>
#include <keyrotator/status/prometheus.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gateway/access_log.h"
#include "gateway/gateway.h"
#include "gateway/metrics.h"

namespace gateway {

inline nlohmann::ordered_json StatusOf(const Gateway& gateway) {
  using keyrotator::internal::JsonText;
  nlohmann::ordered_json status = {
      {"time", Timestamp(std::chrono::system_clock::now())},
      {"draining", gateway.draining.load()},
      {"connections", gateway.connections.load()},
      {"requests", gateway.requests.load()},
      {"providers", nlohmann::ordered_json::array()}};
  for (const auto& provider : gateway.providers()) {
    const ProviderMetrics& metrics = provider->metrics;
    status["providers"].push_back(
        {{"name", JsonText(provider->config.name)},
         {"served", metrics.served()},
         {"refused", metrics.refused()},
         {"attempts", metrics.attempts.load()},
         {"refused_retries", provider->rotator.RefusedRetries()},
         {"in_flight", metrics.in_flight.load()},
         {"waiting", metrics.waiting.load()},
         {"keys", keyrotator::StatusJson(provider->rotator.Snapshot())}});
    if (provider->fleet != nullptr) {
      status["providers"].back()["fleet"] =
          keyrotator::FleetJson(provider->fleet->Status());
    }
  }
  return status;
}

inline std::string MetricsPage(const Gateway& gateway) {
  std::vector<keyrotator::StatusPool> pools;
  std::vector<keyrotator::StatusFleet> fleets;
  std::vector<std::pair<std::string, const ProviderMetrics*>> providers;
  for (const auto& provider : gateway.providers()) {
    pools.push_back({.labels = {{"provider", provider->config.name}},
                     .rows = provider->rotator.Snapshot()});
    if (provider->fleet != nullptr) {
      fleets.push_back({.labels = {{"provider", provider->config.name}},
                        .status = provider->fleet->Status()});
    }
    providers.emplace_back(provider->config.name, &provider->metrics);
  }
  std::string refused =
      "# HELP keyrotator_gateway_refused_retries_total Retries that the budget "
      "refused.\n"
      "# TYPE keyrotator_gateway_refused_retries_total counter\n";
  for (const auto& provider : gateway.providers()) {
    refused += fmt::format(
        "keyrotator_gateway_refused_retries_total{{{}}} {}\n",
        keyrotator::internal::Label("provider", provider->config.name),
        provider->rotator.RefusedRetries());
  }
  return keyrotator::StatusPrometheus(pools) +
         (fleets.empty() ? "" : keyrotator::FleetPrometheus(fleets)) +
         MetricsText(providers) + refused +
         fmt::format(
             "# HELP keyrotator_gateway_connections Callers' connections.\n"
             "# TYPE keyrotator_gateway_connections gauge\n"
             "keyrotator_gateway_connections {}\n",
             gateway.connections.load());
}

// Of all providers together. Thread-safe.
class History {
 public:
  static constexpr std::size_t kSeconds = 300;

  // To be called once a second.
  void Sample(const Gateway& gateway) {
    Row now{};
    for (const auto& provider : gateway.providers()) {
      now.served += provider->metrics.served();
      now.refused += provider->metrics.refused();
      now.waiting += provider->metrics.waiting;
    }
    const std::lock_guard lock(mutex_);
    rows_.push_back(
        {now.served - last_.served, now.refused - last_.refused, now.waiting});
    last_ = now;
    if (rows_.size() > kSeconds) rows_.pop_front();
  }

  // [[served, refused, waiting], ...], a row a second, the last one last.
  nlohmann::ordered_json Rows() const {
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    const std::lock_guard lock(mutex_);
    for (const Row& row : rows_)
      rows.push_back({row.served, row.refused, row.waiting});
    return rows;
  }

 private:
  struct Row {
    std::uint64_t served = 0;
    std::uint64_t refused = 0;
    std::int64_t waiting = 0;
  };

  mutable std::mutex mutex_;
  std::deque<Row> rows_;
  Row last_;
};

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_STATUS_PAGE_H_
