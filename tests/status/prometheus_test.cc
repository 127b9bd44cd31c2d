#include "keyrotator/status/prometheus.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/testing/manual_clock.h"
#include "tests/support/catch.h"
#include "tests/support/status_rows.h"

namespace keyrotator::testing::status_prometheus_test {
namespace {

using std::chrono::seconds;
using namespace std::string_view_literals;

// ---- A strict reader of the exposition format ----

// Reads Prometheus's text format 0.0.4 by the rules of prometheus.io's
// "Exposition formats" and, for names, "Data model". Where they leave a choice
// (blanks, comments, blank lines, untyped metrics, timestamps) it takes the
// plainest form alone. Throws std::runtime_error at what is wrong.
class Exposition {
 public:
  using Labels = std::map<std::string, std::string>;
  struct Metric {
    std::string type;
    std::string help;
    std::map<Labels, double> samples;
  };

  explicit Exposition(std::string_view text) {
    if (!text.empty() && text.back() != '\n') Fail("no line feed at the end");
    while (!text.empty()) {
      const std::size_t end = text.find('\n');
      line_ = rest_ = text.substr(0, end);
      text.remove_prefix(end + 1);
      ReadLine();
    }
    CloseMetric();
  }

  const Metric& operator[](const std::string& name) const {
    return metrics_.at(name);
  }
  bool Has(const std::string& name) const { return metrics_.contains(name); }
  const std::map<std::string, Metric>& metrics() const { return metrics_; }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw std::runtime_error(what + ": " + std::string(line_));
  }

  void ReadLine() {
    if (Skip("# HELP ")) {
      const std::string name = ReadName(true);
      CloseMetric();
      if (metrics_.contains(name)) Fail("a second HELP, or a group cut in two");
      name_ = name;
      Want(" ");
      metrics_[name_].help = rest_;
      if (rest_.find('\\') != rest_.npos) Fail("escapes in HELP: not needed");
    } else if (Skip("# TYPE ")) {
      if (ReadName(true) != name_) Fail("TYPE without its HELP before it");
      Want(" ");
      std::string& type = metrics_[name_].type;
      if (!type.empty()) Fail("a second TYPE");
      if (!metrics_[name_].samples.empty()) Fail("TYPE after a sample");
      type = rest_;
      if (type != "counter" && type != "gauge") Fail("an unknown type");
    } else {
      ReadSample();
    }
  }

  void ReadSample() {
    const std::string name = ReadName(true);
    if (name != name_) Fail("a sample outside its group");
    Metric& metric = metrics_[name];
    if (metric.type.empty()) Fail("a sample without a TYPE");
    Labels labels;
    if (Skip("{")) {
      do {
        const std::string label = ReadName(false);
        if (label.starts_with("__")) Fail("a reserved label");
        Want("=\"");
        const std::string value = ReadValue();
        if (labels.contains(label)) Fail("a label twice");
        labels[label] = value;
      } while (Skip(","));
      Want("}");
    }
    Want(" ");
    double number = 0;
    const auto [end, error] =
        std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
    if (error != std::errc() || end != rest_.data() + rest_.size())
      Fail("no number");
    if (metric.type == "counter" && !(number >= 0)) Fail("a counter below 0");
    // A label that is empty is the same as none.
    std::erase_if(labels,
                  [](const auto& label) { return label.second.empty(); });
    if (!metric.samples.emplace(labels, number).second) Fail("a series twice");
  }

  // [a-zA-Z_:][a-zA-Z0-9_:]*; a label's name has no colon.
  std::string ReadName(bool of_metric) {
    std::string name;
    for (; !rest_.empty(); rest_.remove_prefix(1)) {
      const char c = rest_.front();
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          c == '_' || (of_metric && c == ':');
      if (!letter && (name.empty() || c < '0' || c > '9')) break;
      name.push_back(c);
    }
    if (name.empty()) Fail("no name");
    return name;
  }

  // Up to the closing quote; the three escapes and no other. No NUL: it ends
  // the text for Prometheus's own scanner.
  std::string ReadValue() {
    std::string value;
    while (!Skip("\"")) {
      if (rest_.empty()) Fail("a value without an end");
      if (Skip("\\\\")) {
        value.push_back('\\');
      } else if (Skip("\\\"")) {
        value.push_back('"');
      } else if (Skip("\\n")) {
        value.push_back('\n');
      } else if (rest_.front() == '\\' || rest_.front() == '\0') {
        Fail("an unknown escape or NUL");
      } else {
        value.push_back(rest_.front());
        rest_.remove_prefix(1);
      }
    }
    if (internal::Printable(value, [](char32_t) { return true; }) != value)
      Fail("a value that is not UTF-8");
    return value;
  }

  void CloseMetric() const {
    if (!name_.empty() && metrics_.at(name_).samples.empty())
      Fail("a metric without a sample");
  }

  bool Skip(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  void Want(std::string_view token) {
    if (!Skip(token)) Fail("want " + std::string(token));
  }

  std::map<std::string, Metric> metrics_;
  std::string name_;  // whose group is being read
  std::string_view line_;
  std::string_view rest_;  // of the line
};

TEST_CASE("the reader refuses what is not the format", "[status]") {
  const std::string head = "# HELP a b\n# TYPE a gauge\n";
  CHECK_NOTHROW(Exposition(head + "a{k=\"\\\\\\\"\\n\"} 1\na 2.5e-3\n"));
  for (const std::string wrong :
       {"a 1",
        "a{k=\"x\" 1\n",
        "a{k=\"x\"}1\n",
        "a{k=x} 1\n",
        "a{k=\"x} 1\n",
        "a{k=\"\\x\"} 1\n",
        "a{k=\"\xff\"} 1\n",
        "a{k=\"a\"b\"} 1\n",
        "a{1=\"x\"} 1\n",
        "a{k-l=\"x\"} 1\n",
        "a{__k=\"x\"} 1\n",
        "a{k=\"x\",k=\"y\"} 1\n",
        "a{} 1\n",
        "a 1 \n",
        "a one\n",
        "a\n",
        "a 1\na 2\n",
        "a{k=\"\"} 1\na 2\n",
        "b 1\n",
        "\n",
        "",
        "a 1\n# TYPE a gauge\n",
        "a 1\n# HELP a b\n",
        "a 1\n# HELP b b\n# TYPE b gauge\nb 1\na{k=\"x\"} 1\n",
        "a{k=\"x\ny\"} 1\n"}) {
    INFO(wrong);
    CHECK_THROWS_AS(Exposition(head + wrong), std::runtime_error);
  }
  CHECK_THROWS_AS(Exposition("a 1\n"), std::runtime_error);
  CHECK_THROWS_AS(Exposition("# HELP a b\na 1\n"), std::runtime_error);
  CHECK_THROWS_AS(Exposition("# HELP a b\n# TYPE a counter\na -1\n"),
                  std::runtime_error);
  CHECK_THROWS_AS(Exposition("# HELP a b\n# TYPE a enum\na 1\n"),
                  std::runtime_error);
}

// ---- What is written ----

TEST_CASE("Prometheus is told what the rows hold", "[status]") {
  const Exposition text(StatusPrometheus(Rows()));
  using Samples = std::map<Exposition::Labels, double>;
  CHECK(text["keyrotator_key_info"].samples ==
        Samples{{{{"key", "prod-1"}, {"group", "org-1"}}, 1},
                {{{"key", "kaputt-ü"}}, 1},
                {{{"key", "漢字"}}, 1},
                {{{"key", "tried"}}, 1}});
  CHECK(text["keyrotator_key_return_seconds"].samples ==
        Samples{{{{"key", "漢字"}}, 3600}});
  CHECK(text["keyrotator_key_max_in_flight"].samples ==
        Samples{{{{"key", "prod-1"}}, 8}});
  CHECK(text["keyrotator_key_scope_return_seconds"].samples ==
        Samples{{{{"key", "prod-1"}, {"scope", "gpt-4o"}}, 12.5}});
  CHECK(text["keyrotator_key_requests_limit"].samples ==
        Samples{{{{"key", "prod-1"}}, 500},
                {{{"key", "prod-1"}, {"scope", "gpt-4o"}}, 60}});
  CHECK(text["keyrotator_key_requests_remaining"].samples ==
        Samples{{{{"key", "prod-1"}}, 499.9},
                {{{"key", "prod-1"}, {"scope", "gpt-4o"}}, 0.4}});
  CHECK(text["keyrotator_key_tokens_limit"].samples ==
        Samples{{{{"key", "prod-1"}, {"scope", "gpt-4o"}}, 40'000}});
  CHECK(text["keyrotator_key_tokens_remaining"].samples ==
        Samples{{{{"key", "prod-1"}, {"scope", "gpt-4o"}}, 1'200}});
  const Exposition::Labels key = {{"key", "prod-1"}};
  CHECK(text["keyrotator_key_weight"].samples.at(key) == 2.5);
  CHECK(text["keyrotator_key_in_flight"].samples.at(key) == 3);
  CHECK(text["keyrotator_key_picks_total"].samples.at(key) == 12'345);
  CHECK(text["keyrotator_key_successes_total"].samples.at(key) == 12'340);
  CHECK(text["keyrotator_key_rate_limits_total"].samples.at(key) == 2);
  CHECK(text["keyrotator_key_failures_total"].samples.at(key) == 1);
  for (const auto& [name, metric] : text.metrics()) {
    INFO(name);
    CHECK((metric.type == "counter") == name.ends_with("_total"));
  }
}

TEST_CASE("one state of a key is 1, the others are 0", "[status]") {
  const Exposition text(StatusPrometheus(Rows()));
  const auto& states = text["keyrotator_key_state"].samples;
  const auto& scope_states = text["keyrotator_key_scope_state"].samples;
  CHECK(states.size() == 4 * Rows().size());
  CHECK(scope_states.size() == 4 * 4);
  for (const KeyStatus& row : Rows()) {
    for (const char* state : {"available", "busy", "cooling", "failed"}) {
      INFO(row.name << " " << state);
      CHECK(states.at({{"key", row.name}, {"state", state}}) ==
            (ToString(row.state) == state ? 1 : 0));
      for (const ScopeStatus& scope : row.scopes) {
        Exposition::Labels labels = {{"key", row.name}, {"state", state}};
        if (!scope.scope.empty()) labels["scope"] = scope.scope;
        CHECK(scope_states.at(labels) ==
              (ToString(scope.state) == state ? 1 : 0));
      }
    }
  }
}

TEST_CASE("several pools stand in one exposition", "[status]") {
  const Exposition text(StatusPrometheus(
      {{.labels = {{"provider", "a"}, {"zone", ""}}, .rows = Rows()},
       {.labels = {{"provider", "b"}, {"zone", "eu"}}, .rows = Rows()},
       {.rows = Rows()},
       {.labels = {{"provider", "none"}}}},
      "my_app"));
  const auto& weights = text["my_app_key_weight"].samples;
  CHECK(weights.size() == 3 * Rows().size());
  CHECK(weights.contains({{"provider", "a"}, {"key", "prod-1"}}));
  CHECK(
      weights.contains({{"provider", "b"}, {"zone", "eu"}, {"key", "prod-1"}}));
  CHECK(weights.contains({{"key", "prod-1"}}));
}

TEST_CASE("no keys, no metrics", "[status]") {
  CHECK(StatusPrometheus(std::vector<KeyStatus>()).empty());
  CHECK(StatusPrometheus(std::vector<StatusPool>(2)).empty());
  const Exposition text(StatusPrometheus(Named("a")));
  CHECK(text.Has("keyrotator_key_state"));
  CHECK_FALSE(text.Has("keyrotator_key_return_seconds"));
  CHECK_FALSE(text.Has("keyrotator_key_scope_state"));
}

TEST_CASE("no name breaks an exposition", "[status]") {
  StatusPool pool{.labels = {{"provider", std::string(kNasty)}},
                  .rows = Named(kNasty)};
  pool.rows[0].group = kNasty;
  pool.rows[0].scopes = {{.scope = std::string(kNasty)}};
  const Exposition text(StatusPrometheus({pool}));
  // The line feed comes back as it was.
  const std::string shown = "a\"b\\n\nü漢\\x1b[31m\\xff\\x0d\\x09";
  CHECK(text["keyrotator_key_info"].samples.contains(
      {{"provider", shown}, {"key", shown}, {"group", shown}}));
  CHECK(text["keyrotator_key_scope_state"].samples.contains(
      {{"provider", shown},
       {"key", shown},
       {"scope", shown},
       {"state", "available"}}));
}

TEST_CASE("names of any bytes are told apart, and readable ones kept",
          "[status]") {
  std::minstd_rand random(5);  // NOLINT: the same names in every run
  const std::string_view bytes = "\0\n\"\\ nax{},=#\x1b\x7f\xc3\xbc\xff\xe6"sv;
  std::set<std::string> names;
  std::vector<KeyStatus> rows;
  while (names.size() < 2'000) {
    std::string name;
    for (auto left = random() % 12; left > 0; --left)
      name.push_back(bytes[random() % bytes.size()]);
    // What is written for a byte could stand in a name, too: not here.
    if (name.find("\\x") == name.npos && names.insert(name).second)
      rows.push_back({.name = name});
  }
  const Exposition text(StatusPrometheus(rows));
  const auto& samples = text["keyrotator_key_weight"].samples;
  CHECK(samples.size() == rows.size());
  std::size_t lost = 0;
  for (const std::string& name : names) {
    const auto shown =
        internal::Printable(name, [](char32_t c) { return c == '\n'; });
    Exposition::Labels labels = {{"key", shown}};
    if (shown.empty()) labels.clear();
    if (!samples.contains(labels)) ++lost;
  }
  CHECK(lost == 0);
}

TEST_CASE("numbers that mean nothing are not told", "[status]") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  std::vector<KeyStatus> rows = Named("a");
  rows[0].picks = std::numeric_limits<std::uint64_t>::max();
  rows[0].scopes = {{.scope = "m",
                     .limits = {.requests = {.limit = kNan, .remaining = -1.},
                                .tokens = {.limit = 1e300}}}};
  const std::string text = StatusPrometheus(rows);
  const Exposition read(text);
  CHECK_FALSE(read.Has("keyrotator_key_requests_limit"));
  CHECK_FALSE(read.Has("keyrotator_key_requests_remaining"));
  CHECK(read["keyrotator_key_tokens_limit"].samples.begin()->second == 1e300);
  CHECK_THAT(text, ContainsSubstring(" 18446744073709551615\n"));
}

TEST_CASE("labels that Prometheus would not take are refused", "[status]") {
  for (const char* name : {"", "1a", "a-b", "a b", "ä", "a:b", "__a", "a\"",
                           "key", "scope", "state", "group"}) {
    INFO(name);
    CHECK_THROWS_AS(StatusPrometheus({{.labels = {{name, "x"}}}}),
                    std::invalid_argument);
    if (std::string_view(name).size() < 3)
      CHECK_THROWS_AS(StatusPrometheus({{.rows = Rows()}}, name),
                      std::invalid_argument);
  }
  CHECK_THROWS_WITH(StatusPrometheus({{.labels = {{"a\n-b", "x"}}}}),
                    ContainsSubstring("\"a\\x0a-b\" cannot be a label"));
  CHECK_NOTHROW(StatusPrometheus({{.labels = {{"_Provider_1", "x"}}}}));
}

TEST_CASE("pools whose keys could not be told apart are refused", "[status]") {
  CHECK_THROWS_WITH(
      StatusPrometheus({{.rows = Named("a")}, {.rows = Named("a")}}),
      ContainsSubstring("two keys are {key=\"a\"}"));
  CHECK_THROWS_AS(StatusPrometheus({{.labels = {{"p", ""}}, .rows = Named("a")},
                                    {.rows = Named("a")}}),
                  std::invalid_argument);
  CHECK_NOTHROW(StatusPrometheus({{.rows = Named("a")}, {.rows = Named("b")}}));
}

// ---- Fleets ----

FleetStatus Connected() {
  return {.is_connected = true,
          .since = seconds(90),
          .processes = 4,
          .age = std::chrono::milliseconds(150),
          .round_trip = std::chrono::microseconds(400),
          .failed_keys = 1,
          .doubted_keys = 2,
          .cooling_groups = 3,
          .exchanges = 450,
          .misses = 3,
          .error = "connection refused"};
}

TEST_CASE("Prometheus is told how each fleet stands", "[status]") {
  const Exposition text(FleetPrometheus(
      {{.labels = {{"pool", "prod"}, {"zone", "eu"}}, .status = Connected()},
       {.labels = {{"pool", "other"}, {"zone", ""}},
        .status = {.since = seconds(7), .misses = 35}}}));
  const Exposition::Labels prod = {{"pool", "prod"}, {"zone", "eu"}};
  const Exposition::Labels other = {{"pool", "other"}};
  using Samples = std::map<Exposition::Labels, double>;
  CHECK(text["keyrotator_fleet_connected"].samples ==
        Samples{{prod, 1}, {other, 0}});
  CHECK(text["keyrotator_fleet_since_seconds"].samples ==
        Samples{{prod, 90}, {other, 7}});
  CHECK(text["keyrotator_fleet_exchanges_total"].samples ==
        Samples{{prod, 450}, {other, 0}});
  CHECK(text["keyrotator_fleet_misses_total"].samples ==
        Samples{{prod, 3}, {other, 35}});
  // Nothing is known of a ledger that has not answered yet.
  CHECK(text["keyrotator_fleet_processes"].samples == Samples{{prod, 4}});
  CHECK(text["keyrotator_fleet_exchange_age_seconds"].samples ==
        Samples{{prod, 0.15}});
  CHECK(text["keyrotator_fleet_round_trip_seconds"].samples ==
        Samples{{prod, 0.0004}});
  CHECK(text["keyrotator_fleet_failed_keys"].samples == Samples{{prod, 1}});
  CHECK(text["keyrotator_fleet_doubted_keys"].samples == Samples{{prod, 2}});
  CHECK(text["keyrotator_fleet_cooling_groups"].samples == Samples{{prod, 3}});
  CHECK(text.metrics().size() == 10);
  for (const auto& [name, metric] : text.metrics()) {
    INFO(name);
    CHECK((metric.type == "counter") == name.ends_with("_total"));
    CHECK_FALSE(metric.help.empty());
  }
}

TEST_CASE("what was known of a fleet is told while it is away", "[status]") {
  FleetStatus status = Connected();
  status.is_connected = false;
  const Exposition text(FleetPrometheus({{.status = status}}));
  CHECK(text["keyrotator_fleet_connected"].samples.at({}) == 0);
  CHECK(text["keyrotator_fleet_processes"].samples.at({}) == 4);
  CHECK(text["keyrotator_fleet_exchange_age_seconds"].samples.at({}) == 0.15);
  status.processes = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(Exposition(FleetPrometheus({{.status = status}}))
                  .Has("keyrotator_fleet_processes"));
}

TEST_CASE("one page has the keys and the fleets", "[status]") {
  const std::map<std::string, std::string> labels = {
      {"provider", std::string(kNasty)}};
  const Exposition text(
      StatusPrometheus({{.labels = labels, .rows = Rows()}}, "my_app") +
      FleetPrometheus({{.labels = labels, .status = Connected()}}, "my_app"));
  CHECK(text.Has("my_app_key_weight"));
  CHECK(text.Has("my_app_fleet_connected"));
  CHECK(FleetPrometheus({}).empty());
}

TEST_CASE("fleets that could not be told apart are refused", "[status]") {
  CHECK_THROWS_WITH(FleetPrometheus({{.labels = {{"pool", "a"}}},
                                     {.labels = {{"pool", "a"}}}}),
                    ContainsSubstring("two fleets are {pool=\"a\"}"));
  CHECK_THROWS_AS(FleetPrometheus({{.labels = {{"p", ""}}}, {}}),
                  std::invalid_argument);
  CHECK_THROWS_AS(FleetPrometheus({{.labels = {{"a-b", "x"}}}}),
                  std::invalid_argument);
  CHECK_THROWS_AS(FleetPrometheus({}, "1a"), std::invalid_argument);
}

// Where Debian's package prometheus is installed, its own checker has a look:
// at the grammar, and at the names by Prometheus's conventions.
TEST_CASE("promtool finds nothing", "[status]") {
  if (std::system("command -v promtool >/dev/null") != 0) {
    WARN("promtool is not installed");
    return;
  }
  std::FILE* const promtool = popen("promtool check metrics", "w");
  REQUIRE(promtool != nullptr);
  std::vector<KeyStatus> rows = Rows();
  rows.push_back(Named(kNasty)[0]);
  fmt::print(promtool, "{}",
             StatusPrometheus({{.labels = {{"provider", "a"}}, .rows = rows},
                               {.labels = {{"provider", std::string(kNasty)}},
                                .rows = rows}}) +
                 FleetPrometheus({{.status = Connected()}}));
  CHECK(pclose(promtool) == 0);
}

// ---- A rotator's own rows ----

TEST_CASE("a key that cools for one model is seen to", "[status]") {
  const ManualClock clock;
  KeyRotator rotator({ApiKey("sk-secret-value", {.name = "prod-1"})}, {},
                     RoundRobin{}, clock);
  {
    const auto lease = rotator.Pick({.scope = "gpt-4o"});
    REQUIRE(lease);
    rotator.MarkRateLimited(*lease, seconds(12));
  }
  const std::vector<KeyStatus> rows = rotator.Snapshot();
  const Exposition text(StatusPrometheus(rows));
  const auto& states = text["keyrotator_key_scope_state"].samples;
  CHECK(states.at(
            {{"key", "prod-1"}, {"scope", "gpt-4o"}, {"state", "cooling"}}) ==
        1);
  CHECK_THAT(StatusPrometheus(rows), !ContainsSubstring("secret-value"));
}

}  // namespace
}  // namespace keyrotator::testing::status_prometheus_test
