// File: status/prometheus.h
//
// Snapshots, and how fleets stand, in Prometheus's text format, for a /metrics
// page: one text after the other. Names come from
// users and may hold anything: what could break a line or a parser is escaped;
// a byte that is not of valid UTF-8 is written \xHH.
//
// Example: GET /metrics, with keyrotator::kPrometheusContentType.
//   keyrotator::KeyRotator openai({"sk-a"});
//   keyrotator::KeyRotator mistral({"sk-b"});
//   std::string body = keyrotator::StatusPrometheus(
//       {{.labels = {{"provider", "openai"}}, .rows = openai.Snapshot()},
//        {.labels = {{"provider", "mistral"}}, .rows = mistral.Snapshot()}});

#ifndef KEYROTATOR_STATUS_PROMETHEUS_H_
#define KEYROTATOR_STATUS_PROMETHEUS_H_

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "keyrotator/fleet_status.h"
#include "keyrotator/internal/text.h"
#include "keyrotator/internal/utf8.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/status/figures.h"

namespace keyrotator {

// The keys of one rotator. The labels distinguish them from those of others:
// {{"provider", "openai"}}. Prometheus treats a label with an empty value as
// absent, so those are left out.
struct StatusPool {
  std::map<std::string, std::string> labels = {};
  std::vector<KeyStatus> rows = {};
};

inline constexpr std::string_view kPrometheusContentType =
    "text/plain; version=0.0.4; charset=utf-8";

// Prometheus's text exposition format 0.0.4 (prometheus.io, "Exposition
// formats"): gauges and counters `<prefix>_key_...`, labelled `key` and, where
// it depends on that, `scope`. What is not known or does not apply (a return
// while a key is available, a cap where there is none) has no sample. If there
// are too many scopes for a monitoring system, clear KeyStatus::scopes first.
// Throws std::invalid_argument if Prometheus does not allow `prefix` or the
// name of a label, if a label has one of our names (group, key, scope, state),
// or if two keys would have the same labels. Linear.
inline std::string StatusPrometheus(const std::vector<StatusPool>& pools,
                                    std::string_view prefix = "keyrotator");

inline std::string StatusPrometheus(const std::vector<KeyStatus>& rows) {
  return StatusPrometheus(std::vector{StatusPool{.rows = rows}});
}

// How a rotator stands with its fleet. Its labels are those of its StatusPool.
struct StatusFleet {
  std::map<std::string, std::string> labels = {};
  FleetStatus status = {};
};

// Gauges and counters `<prefix>_fleet_...` in the same format. What is known of
// the ledger has no sample before its first reply. Throws as StatusPrometheus
// does, if two fleets would have the same labels. Linear.
inline std::string FleetPrometheus(const std::vector<StatusFleet>& fleets,
                                   std::string_view prefix = "keyrotator");

namespace internal {

inline bool IsPrometheusName(std::string_view name) {
  const auto fits = [](char c) {
    return c == '_' || IsDigit(c) || (Lower(c) >= 'a' && Lower(c) <= 'z');
  };
  return !name.empty() && !IsDigit(name.front()) &&
         std::all_of(name.begin(), name.end(), fits);
}

// `name="value"`. Control characters other than NUL would be legal, but help no
// reader, so all but line feeds are escaped.
inline std::string Label(std::string_view name, std::string_view value) {
  std::string text(name);
  text += "=\"";
  for (const char c : Printable(value, [](char32_t x) { return x == '\n'; })) {
    if (c == '\\' || c == '"') text.push_back('\\');
    text += c == '\n' ? std::string_view("\\n") : std::string_view(&c, 1);
  }
  text.push_back('"');
  return text;
}

// Those of a pool, with commas between them.
inline std::string LabelPool(const std::map<std::string, std::string>& labels) {
  std::string text;
  for (const auto& [name, value] : labels) {
    // Prometheus reserves names that begin with two underscores.
    if (!IsPrometheusName(name) || name.starts_with("__") || name == "group" ||
        name == "key" || name == "scope" || name == "state") {
      throw std::invalid_argument(fmt::format(
          "StatusPrometheus: \"{}\" cannot be a label here: a name has "
          "letters, digits and _, begins with no digit nor __, and is none "
          "of group, key, scope, state",
          Printable(name, [](char32_t) { return false; })));
    }
    if (value.empty()) continue;
    if (!text.empty()) text += ",";
    text += Label(name, value);
  }
  return text;
}

// What has samples, and its labels.
template <class Status>
struct Labelled {
  std::string labels;
  const Status* status;
};

inline std::vector<Labelled<KeyStatus>> LabelKeys(
    const std::vector<StatusPool>& pools) {
  std::vector<Labelled<KeyStatus>> keys;
  std::unordered_set<std::string> seen;
  for (const StatusPool& pool : pools) {
    std::string common = LabelPool(pool.labels);
    if (!common.empty()) common += ",";
    for (const KeyStatus& key : pool.rows) {
      keys.push_back({common + Label("key", key.name), &key});
      if (!seen.insert(keys.back().labels).second) {
        throw std::invalid_argument(fmt::format(
            "StatusPrometheus: two keys are {{{}}}; give each pool a label "
            "that tells it from the others",
            keys.back().labels));
      }
    }
  }
  return keys;
}

inline std::vector<Labelled<FleetStatus>> LabelFleets(
    const std::vector<StatusFleet>& fleets) {
  std::vector<Labelled<FleetStatus>> labelled;
  std::unordered_set<std::string> seen;
  for (const StatusFleet& fleet : fleets) {
    labelled.push_back({LabelPool(fleet.labels), &fleet.status});
    if (!seen.insert(labelled.back().labels).second) {
      throw std::invalid_argument(fmt::format(
          "FleetPrometheus: two fleets are {{{}}}; give each a label that "
          "tells it from the others",
          labelled.back().labels));
    }
  }
  return labelled;
}

// Writes metrics, all samples of one together as the format wants it.
template <class Status>
class MetricWriter {
 public:
  // Throws std::invalid_argument for a prefix that Prometheus does not allow.
  MetricWriter(std::string_view prefix, std::vector<Labelled<Status>> all)
      : prefix_(prefix), all_(std::move(all)) {
    if (!IsPrometheusName(prefix)) {
      throw std::invalid_argument(
          "StatusPrometheus: the prefix must have letters, digits and _, and "
          "begin with no digit");
    }
  }

  // For each status, `sample(status, add)` calls add(value, more labels) for
  // each sample.
  template <class Sample>
  void Write(std::string_view name, std::string_view type,
             std::string_view help, const Sample& sample) {
    bool first = true;
    for (const Labelled<Status>& each : all_) {
      sample(*each.status, [&](auto value, const std::string& more = {}) {
        if (std::exchange(first, false)) {
          text_ += fmt::format("# HELP {0}_{1} {2}\n# TYPE {0}_{1} {3}\n",
                               prefix_, name, help, type);
        }
        const std::string labels = each.labels + more;
        text_ +=
            labels.empty()
                ? fmt::format("{}_{} {}\n", prefix_, name, value)
                : fmt::format("{}_{}{{{}}} {}\n", prefix_, name, labels, value);
      });
    }
  }
  // The same with samples of each scope of a key: `sample_scope(scope, add)`.
  template <class SampleScope>
  void WriteScopes(std::string_view name, std::string_view help,
                   const SampleScope& sample_scope) {
    Write(name, "gauge", help, [&](const Status& key, const auto& add) {
      for (const ScopeStatus& scope : key.scopes) {
        const std::string label = "," + Label("scope", scope.scope);
        sample_scope(scope, [&](auto value, const std::string& more = {}) {
          add(value, label + more);
        });
      }
    });
  }

  std::string Take() { return std::move(text_); }

 private:
  const std::string_view prefix_;
  const std::vector<Labelled<Status>> all_;
  std::string text_;
};

// Samples of a KeyStatus or a ScopeStatus.
inline constexpr auto kSampleStates = [](const auto& status, const auto& add) {
  for (const KeyState state : {KeyState::kAvailable, KeyState::kBusy,
                               KeyState::kCooling, KeyState::kFailed})
    add(state == status.state ? 1 : 0, "," + Label("state", ToString(state)));
};
inline constexpr auto kSampleReturn = [](const auto& status, const auto& add) {
  if (status.returns_in) add(Seconds(*status.returns_in));
};

inline void WriteKeyMetrics(MetricWriter<KeyStatus>& writer) {
  const auto gauge = [&](std::string_view name, std::string_view help,
                         const auto& sample) {
    writer.Write(name, "gauge", help, sample);
  };
  gauge("key_info", "1 for each key, with its group.",
        [](const KeyStatus& key, const auto& add) {
          add(1, key.group.empty() ? "" : "," + Label("group", key.group));
        });
  gauge("key_state",
        "1 for the state that the whole key is in, 0 for the others.",
        kSampleStates);
  gauge("key_return_seconds",
        "How long until time alone brings the whole key back.", kSampleReturn);
  gauge("key_weight", "The share of the picks that the key is meant to have.",
        [](const KeyStatus& key, const auto& add) { add(key.weight); });
  gauge("key_in_flight", "Requests that are out with the key.",
        [](const KeyStatus& key, const auto& add) { add(key.in_flight); });
  gauge("key_max_in_flight", "The most requests that may be out with the key.",
        [](const KeyStatus& key, const auto& add) {
          if (key.max_in_flight > 0) add(key.max_in_flight);
        });

  const auto counter = [&](std::string_view name, std::string_view help,
                           std::uint64_t KeyStatus::*count) {
    writer.Write(
        name, "counter", help,
        [&](const KeyStatus& key, const auto& add) { add(key.*count); });
  };
  counter("key_picks_total", "Times that the key was picked for a request.",
          &KeyStatus::picks);
  counter("key_successes_total", "Requests that the key served.",
          &KeyStatus::successes);
  counter("key_rate_limits_total", "Times that the key was rate limited.",
          &KeyStatus::rate_limits);
  counter("key_failures_total", "Times that the key failed.",
          &KeyStatus::failures);
}

inline void WriteScopeMetrics(MetricWriter<KeyStatus>& writer) {
  writer.WriteScopes("key_scope_state",
                     "The same as key_state, in a scope in which the key was "
                     "limited or limits were reported.",
                     kSampleStates);
  writer.WriteScopes(
      "key_scope_return_seconds",
      "How long until time alone brings the key back in the scope.",
      kSampleReturn);

  const auto limit = [&](std::string_view name, std::string_view help,
                         RateLimit RateLimits::*dimension,
                         std::optional<double> RateLimit::*number) {
    writer.WriteScopes(
        name, help, [&](const ScopeStatus& scope, const auto& add) {
          if (const auto known = Known(scope.limits.*dimension.*number))
            add(*known);
        });
  };
  limit("key_requests_limit",
        "The provider's limit of requests, which the keys of a group share.",
        &RateLimits::requests, &RateLimit::limit);
  limit("key_requests_remaining", "What is left of key_requests_limit.",
        &RateLimits::requests, &RateLimit::remaining);
  limit("key_tokens_limit",
        "The provider's limit of tokens, which the keys of a group share.",
        &RateLimits::tokens, &RateLimit::limit);
  limit("key_tokens_remaining", "What is left of key_tokens_limit.",
        &RateLimits::tokens, &RateLimit::remaining);
}

inline void WriteFleetMetrics(MetricWriter<FleetStatus>& writer) {
  const auto gauge = [&](std::string_view name, std::string_view help,
                         const auto& sample) {
    writer.Write(name, "gauge", help, sample);
  };
  gauge("fleet_connected",
        "1 if the last message to the fleet was answered, 0 if the process is "
        "alone.",
        [](const FleetStatus& fleet, const auto& add) {
          add(fleet.is_connected ? 1 : 0);
        });
  gauge("fleet_since_seconds", "For how long fleet_connected has been so.",
        [](const FleetStatus& fleet, const auto& add) {
          add(Seconds(fleet.since));
        });
  gauge("fleet_processes", "The processes of the fleet, as of the last answer.",
        [](const FleetStatus& fleet, const auto& add) {
          if (const auto known = Known(fleet.processes); known && fleet.age)
            add(*known);
        });
  gauge("fleet_exchange_age_seconds", "How long ago the last answer came.",
        [](const FleetStatus& fleet, const auto& add) {
          if (fleet.age) add(Seconds(*fleet.age));
        });
  gauge("fleet_round_trip_seconds", "How long the last answer took.",
        [](const FleetStatus& fleet, const auto& add) {
          if (fleet.age) add(Seconds(fleet.round_trip));
        });
  const auto count = [&](std::string_view name, std::string_view help,
                         std::size_t FleetStatus::*what) {
    gauge(name, help, [what](const FleetStatus& fleet, const auto& add) {
      if (fleet.age) add(fleet.*what);
    });
  };
  count("fleet_failed_keys",
        "Keys that the fleet took out, as two processes had them refused.",
        &FleetStatus::failed_keys);
  count("fleet_doubted_keys", "Keys that one process had refused.",
        &FleetStatus::doubted_keys);
  count("fleet_cooling_groups",
        "Groups for which the last answer said to send nothing for a while.",
        &FleetStatus::cooling_groups);
  writer.Write(
      "fleet_exchanges_total", "counter",
      "Messages to the fleet that were answered.",
      [](const FleetStatus& fleet, const auto& add) { add(fleet.exchanges); });
  writer.Write(
      "fleet_misses_total", "counter",
      "Messages to the fleet that were not answered.",
      [](const FleetStatus& fleet, const auto& add) { add(fleet.misses); });
}

}  // namespace internal

inline std::string StatusPrometheus(const std::vector<StatusPool>& pools,
                                    std::string_view prefix) {
  internal::MetricWriter writer(prefix, internal::LabelKeys(pools));
  internal::WriteKeyMetrics(writer);
  internal::WriteScopeMetrics(writer);
  return writer.Take();
}

inline std::string FleetPrometheus(const std::vector<StatusFleet>& fleets,
                                   std::string_view prefix) {
  internal::MetricWriter writer(prefix, internal::LabelFleets(fleets));
  internal::WriteFleetMetrics(writer);
  return writer.Take();
}

}  // namespace keyrotator

#endif  // KEYROTATOR_STATUS_PROMETHEUS_H_
