#include "keyrotator/status/json.h"

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::status_json_test {
namespace {

using nlohmann::json;
using namespace std::string_literals;

TEST_CASE("JSON has the members of a row, in their order", "[status_json]") {
  const std::vector<KeyStatus> rows = {
      {.id = {7},
       .name = "prod-1",
       .group = "org-1",
       .weight = 2,
       .max_in_flight = 8,
       .state = KeyState::kCooling,
       .returns_in = std::chrono::milliseconds(12'500),
       .in_flight = 1,
       .picks = 40,
       .successes = 37,
       .rate_limits = 2,
       .failures = 1,
       .scopes = {
           {.scope = "gpt-4o",
            .state = KeyState::kCooling,
            .returns_in = std::chrono::seconds(30),
            .limits = {.requests = {.limit = 60.,
                                    .remaining = 0.5,
                                    .reset = std::chrono::milliseconds(1)},
                       .tokens = {.remaining = 3.}}}}}};
  CHECK(StatusJson(rows).dump(1) == R"([
 {
  "id": 7,
  "name": "prod-1",
  "group": "org-1",
  "weight": 2.0,
  "max_in_flight": 8,
  "state": "cooling",
  "returns_in_seconds": 12.5,
  "in_flight": 1,
  "picks": 40,
  "successes": 37,
  "rate_limits": 2,
  "failures": 1,
  "scopes": [
   {
    "scope": "gpt-4o",
    "state": "cooling",
    "returns_in_seconds": 30.0,
    "limits": {
     "requests": {
      "limit": 60.0,
      "remaining": 0.5,
      "reset_seconds": 0.001
     },
     "tokens": {
      "remaining": 3.0
     }
    }
   }
  ]
 }
])");
}

TEST_CASE("JSON leaves out what is not known", "[status_json]") {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  CHECK(StatusJson({}).dump() == "[]");
  const std::vector<KeyStatus> rows = {
      {.name = "a",
       .scopes = {
           {.scope = "m",
            .state = KeyState::kBusy,
            .limits = {.requests = {.limit = kInfinity, .remaining = -1.}}}}}};
  CHECK(json::parse(StatusJson(rows).dump()) == json::parse(R"([
    {"id": 0, "name": "a", "weight": 1.0, "state": "available", "in_flight": 0,
     "picks": 0, "successes": 0, "rate_limits": 0, "failures": 0,
     "scopes": [{"scope": "m", "state": "busy"}]}])"));
}

TEST_CASE("no name breaks JSON", "[status_json]") {
  const std::string fine = "quotes \" \\ \n \0 \x1b ü漢"s;
  const std::string not_utf8 = fine + "\xff\xe6\xbc";
  const std::vector<KeyStatus> rows = {
      {.name = fine, .group = not_utf8, .scopes = {{.scope = not_utf8}}}};
  std::string text;
  REQUIRE_NOTHROW(text = StatusJson(rows).dump());
  const json read = json::parse(text);
  CHECK(read[0]["name"] == fine);
  CHECK(read[0]["group"] == fine + "\\xff\\xe6\\xbc");
  CHECK(read[0]["scopes"][0]["scope"] == fine + "\\xff\\xe6\\xbc");
}

TEST_CASE("counts are whole numbers however large", "[status_json]") {
  std::vector<KeyStatus> rows = {{.name = "a"}};
  rows[0].picks = std::numeric_limits<std::uint64_t>::max();
  CHECK(StatusJson(rows)[0]["picks"].dump() == "18446744073709551615");
}

TEST_CASE("JSON tells how a fleet stands", "[status_json]") {
  const FleetStatus fleet{.is_connected = true,
                          .since = std::chrono::milliseconds(1'500),
                          .processes = 4,
                          .age = std::chrono::milliseconds(250),
                          .round_trip = std::chrono::milliseconds(2),
                          .failed_keys = 1,
                          .doubted_keys = 2,
                          .cooling_groups = 3,
                          .exchanges = 450,
                          .misses = 3,
                          .error = "refused \xff"};
  CHECK(FleetJson(fleet).dump() ==
        R"({"is_connected":true,"since_seconds":1.5,"processes":4.0,)"
        R"("age_seconds":0.25,"round_trip_seconds":0.002,"failed_keys":1,)"
        R"("doubted_keys":2,"cooling_groups":3,"exchanges":450,)"
        R"("misses":3,"error":"refused \\xff"})");
  // Before the first reply.
  CHECK(FleetJson({.since = std::chrono::seconds(7), .misses = 35}).dump() ==
        R"({"is_connected":false,"since_seconds":7.0,"exchanges":0,)"
        R"("misses":35})");
}

}  // namespace
}  // namespace keyrotator::status_json_test
