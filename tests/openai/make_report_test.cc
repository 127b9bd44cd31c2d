#include "keyrotator/openai/make_report.h"

#include <chrono>

#include "tests/support/catch.h"

namespace keyrotator::openai_make_report_test {
namespace {

using namespace std::chrono_literals;

Verdict Of(VerdictKind kind) {
  Verdict verdict;
  verdict.kind = kind;
  return verdict;
}

TEST_CASE("only what is the key's doing is reported of it", "[make_report]") {
  using enum VerdictKind;
  using Kind = Report::Kind;
  CHECK(MakeReport(Of(kOk)).kind == Kind::kServed);
  CHECK(MakeReport(Of(kKeyInvalid)).kind == Kind::kFailed);
  CHECK(MakeReport(Of(kQuotaExhausted)).kind == Kind::kRateLimited);
  CHECK(MakeReport(Of(kRateLimited)).kind == Kind::kRateLimited);
  for (const VerdictKind kind :
       {kPermission, kOverloaded, kTransient, kCallerError}) {
    CHECK(MakeReport(Of(kind)).kind == Kind::kNothing);
    CHECK_FALSE(MakeReport(Of(kind)).limits);
  }
}

TEST_CASE("a limit lasts as the provider says, else the guess is made",
          "[make_report]") {
  Verdict verdict = Of(VerdictKind::kRateLimited);
  const RetryOptions options{.guess = {.initial = 3s}};
  CHECK(MakeReport(verdict, {}, options).retry_after == 0s);
  CHECK(MakeReport(verdict, {}, options).guess->initial == 3s);
  CHECK(MakeReport(verdict, {}, options).reach == Reach::kScope);
  verdict.retry_after = 20s;
  CHECK(MakeReport(verdict, {}, options).retry_after == 20s);
}

TEST_CASE("a spent quota is the whole key's, and no header says until when",
          "[make_report]") {
  const Verdict verdict = Of(VerdictKind::kQuotaExhausted);
  const Report report =
      MakeReport(verdict, {{"Retry-After", "2"}}, {.quota_cooldown = 30min});
  CHECK(report.retry_after == 30min);
  CHECK(report.reach == Reach::kKey);
  CHECK_FALSE(report.guess);
}

TEST_CASE("a quota that is given anew at a time that is told rests until then",
          "[make_report]") {
  Verdict verdict = Of(VerdictKind::kQuotaExhausted);
  verdict.retry_after = 11h;
  CHECK(MakeReport(verdict).retry_after == 11h);
}

TEST_CASE("a model's quota is not the whole key's", "[make_report]") {
  Verdict verdict = Of(VerdictKind::kQuotaExhausted);
  verdict.reach = Reach::kScope;
  CHECK(MakeReport(verdict).reach == Reach::kScope);
  // A rate is the model's, whatever the verdict holds besides.
  verdict = Of(VerdictKind::kRateLimited);
  CHECK(MakeReport(verdict).reach == Reach::kScope);
}

TEST_CASE("the limits in the headers are reported with every verdict",
          "[make_report]") {
  const Headers headers = {{"x-ratelimit-limit-requests", "60"},
                           {"x-ratelimit-remaining-requests", "59"},
                           {"x-ratelimit-reset-requests", "1s"}};
  for (const auto kind : {VerdictKind::kOk, VerdictKind::kRateLimited,
                          VerdictKind::kCallerError}) {
    const Report report = MakeReport(Of(kind), headers);
    REQUIRE(report.limits);
    CHECK(report.limits->requests.limit == 60);
    CHECK(report.limits->requests.remaining == 59);
    CHECK(report.limits->requests.reset == 1s);
  }
  CHECK_FALSE(MakeReport(Of(VerdictKind::kOk), {{"x", "y"}}).limits);
}

TEST_CASE("dates in the headers are read by the options' clock",
          "[make_report]") {
  const Headers headers = {
      {"anthropic-ratelimit-requests-limit", "50"},
      {"anthropic-ratelimit-requests-remaining", "49"},
      {"anthropic-ratelimit-requests-reset", "2023-11-14T22:13:40Z"}};
  const RetryOptions options{.wall_clock = [] {
    return std::chrono::system_clock::time_point(1'700'000'000s);
  }};
  const Report report = MakeReport(Of(VerdictKind::kOk), headers, options);
  REQUIRE(report.limits);
  CHECK(report.limits->requests.reset == 20s);
}

}  // namespace
}  // namespace keyrotator::openai_make_report_test
