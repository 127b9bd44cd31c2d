// File: status/json.h
//
// A snapshot as JSON, and how a rotator stands with its fleet, for a status page
// or a script.
//
// Example:
//   keyrotator::KeyRotator rotator({"sk-a", "sk-b"});
//   std::string body = keyrotator::StatusJson(rotator.Snapshot()).dump();
//   // [{"id":1,"name":"prod-1","group":"org-1","weight":1.0,
//   //   "state":"available","in_flight":1,"picks":40,"successes":37,
//   //   "rate_limits":2,"failures":0,"scopes":[{"scope":"gpt-4o",
//   //   "state":"cooling","returns_in_seconds":12.5,"limits":{"requests":
//   //   {"limit":60.0,"remaining":0.4,"reset_seconds":59.6}}}]}]

#ifndef KEYROTATOR_STATUS_JSON_H_
#define KEYROTATOR_STATUS_JSON_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/fleet_status.h"
#include "keyrotator/internal/utf8.h"
#include "keyrotator/key_status.h"
#include "keyrotator/limits.h"
#include "keyrotator/status/figures.h"

namespace keyrotator {
namespace internal {

// dump() throws at bytes that are not UTF-8, so they are escaped.
inline std::string JsonText(std::string_view text) {
  return Printable(text, [](char32_t) { return true; });
}

inline void AddReturn(const auto& status, nlohmann::ordered_json& json) {
  json["state"] = ToString(status.state);
  if (status.returns_in)
    json["returns_in_seconds"] = Seconds(*status.returns_in);
}

inline void AddLimit(const char* name, const RateLimit& limit,
                     nlohmann::ordered_json& limits) {
  nlohmann::ordered_json json;
  if (const auto most = Known(limit.limit)) json["limit"] = *most;
  if (const auto left = Known(limit.remaining)) json["remaining"] = *left;
  if (limit.reset) json["reset_seconds"] = Seconds(*limit.reset);
  if (!json.is_null()) limits[name] = std::move(json);
}

inline nlohmann::ordered_json ScopeJson(const ScopeStatus& scope) {
  nlohmann::ordered_json json = {{"scope", JsonText(scope.scope)}};
  AddReturn(scope, json);
  nlohmann::ordered_json limits;
  AddLimit("requests", scope.limits.requests, limits);
  AddLimit("tokens", scope.limits.tokens, limits);
  if (!limits.is_null()) json["limits"] = std::move(limits);
  return json;
}

}  // namespace internal

// An array with an object for each key, whose members are those of KeyStatus by
// name; durations are in seconds, as `..._seconds`. Members that are not known
// or do not apply are left out: `returns_in_seconds` while a key is available,
// `group` of a key without one, `max_in_flight` without a cap, limits that were
// not reported. In a name or scope a byte that is not valid UTF-8 is written
// \xHH, so that dump() does not throw. Linear.
inline nlohmann::ordered_json StatusJson(const std::vector<KeyStatus>& rows) {
  nlohmann::ordered_json keys = nlohmann::ordered_json::array();
  for (const KeyStatus& key : rows) {
    nlohmann::ordered_json json = {{"id", key.id.value},
                                   {"name", internal::JsonText(key.name)}};
    if (!key.group.empty()) json["group"] = internal::JsonText(key.group);
    json["weight"] = key.weight;
    if (key.max_in_flight > 0) json["max_in_flight"] = key.max_in_flight;
    internal::AddReturn(key, json);
    json["in_flight"] = key.in_flight;
    json["picks"] = key.picks;
    json["successes"] = key.successes;
    json["rate_limits"] = key.rate_limits;
    json["failures"] = key.failures;
    json["scopes"] = nlohmann::ordered_json::array();
    for (const ScopeStatus& scope : key.scopes)
      json["scopes"].push_back(internal::ScopeJson(scope));
    keys.push_back(std::move(json));
  }
  return keys;
}

// An object whose members are those of FleetStatus by name, in the same way;
// what is known of the ledger is left out before its first reply, and `error`
// where there was none. Constant.
inline nlohmann::ordered_json FleetJson(const FleetStatus& fleet) {
  nlohmann::ordered_json json = {
      {"is_connected", fleet.is_connected},
      {"since_seconds", internal::Seconds(fleet.since)}};
  if (fleet.age) {
    if (const auto processes = internal::Known(fleet.processes))
      json["processes"] = *processes;
    json["age_seconds"] = internal::Seconds(*fleet.age);
    json["round_trip_seconds"] = internal::Seconds(fleet.round_trip);
    json["failed_keys"] = fleet.failed_keys;
    json["doubted_keys"] = fleet.doubted_keys;
    json["cooling_groups"] = fleet.cooling_groups;
  }
  json["exchanges"] = fleet.exchanges;
  json["misses"] = fleet.misses;
  if (!fleet.error.empty()) json["error"] = internal::JsonText(fleet.error);
  return json;
}

}  // namespace keyrotator

#endif  // KEYROTATOR_STATUS_JSON_H_
