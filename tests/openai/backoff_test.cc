#include "keyrotator/openai/backoff.h"

#include <chrono>
#include <set>

#include "tests/support/catch.h"

namespace keyrotator::openai_backoff_test {
namespace {

using namespace std::chrono_literals;
using internal::Backoff;
using std::chrono::nanoseconds;

TEST_CASE("the wait doubles from 0.5 s to 8 s", "[backoff]") {
  const RetryOptions options;
  const nanoseconds expected[] = {500ms, 1s, 2s, 4s, 8s, 8s, 8s};
  int n = 0;
  for (const nanoseconds wait : expected) {
    CAPTURE(n);
    CHECK(nanoseconds(Backoff(options, n++)) == wait);
  }
}

TEST_CASE("chance takes off up to a quarter", "[backoff]") {
  const RetryOptions options;
  CHECK(nanoseconds(Backoff(options, 0, 0)) == 500ms);
  CHECK(nanoseconds(Backoff(options, 0, 0.5)) == 437'500us);
  CHECK(nanoseconds(Backoff(options, 0, 1)) == 375ms);
  CHECK(nanoseconds(Backoff(options, 9, 1)) == 6s);
}

TEST_CASE("a wait of zero stays zero", "[backoff]") {
  const RetryOptions options{.initial_backoff = 0s};
  CHECK(Backoff(options, 0) == 0);
  CHECK(Backoff(options, 1'000'000) == 0);
}

TEST_CASE("waits beyond what a number holds do not come out shorter",
          "[backoff]") {
  const RetryOptions options{.max_backoff = std::chrono::hours::max()};
  internal::Nanos last = 0;
  for (int n = 0; n < 200; ++n) {
    const internal::Nanos wait = Backoff(options, n);
    CHECK(wait >= last);
    last = wait;
  }
}

TEST_CASE("chance is the options' source, or differs from draw to draw",
          "[backoff]") {
  RetryOptions options;
  std::set<double> seen;
  for (int i = 0; i < 50; ++i) {
    const double random = internal::Random(options);
    CHECK(random >= 0);
    CHECK(random < 1);
    seen.insert(random);
  }
  CHECK(seen.size() > 10);
  options.random = [] { return 0.25; };
  CHECK(internal::Random(options) == 0.25);
}

TEST_CASE("a provider's hint replaces the backoff", "[backoff]") {
  const RetryOptions options{.random = [] { return 1.0; }};
  CHECK(nanoseconds(internal::RetryWait(options, 1, {})) == 750ms);
  CHECK(nanoseconds(internal::RetryWait(options, 1, 20ms)) == 20ms);
}

}  // namespace
}  // namespace keyrotator::openai_backoff_test
