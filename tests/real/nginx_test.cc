// What OpenAIClient gets out of keys that a limiter guards which nobody here
// wrote: nginx's limit_req, whose access log is the witness.

#include "tests/real/nginx.h"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <vector>

#include "keyrotator/key_rotator.h"
#include "keyrotator/openai/client.h"
#include "keyrotator/selection.h"
#include "tests/real/load.h"
#include "tests/support/catch.h"

namespace keyrotator::real_nginx_test {
namespace {

using namespace std::chrono_literals;
using testing::CheckGoodput;
using testing::Compare;
using testing::Drive;
using testing::Goodput;
using testing::Nginx;
using testing::NginxOptions;
using testing::PerKey;
using testing::Pool;
using testing::PooledKey;
using testing::Seen;
using testing::WholeTransport;

constexpr NginxOptions kSilent{.per_second = 20, .burst = 40};
constexpr NginxOptions kWithHint{
    .per_second = 20, .burst = 40, .retry_after = 1};
// What must hold on a busy machine, too, for a run of 10 s; for one of an hour
// it would be 0.99 and 0.02. What a run this short shows besides: the refusals
// before the pace is known, about ten a key, since nginx answers at once.
constexpr Goodput kBoundWhenSilent{.share = 0.92, .waste = 0.12};
// And a pause of a whole second, after which a key goes on at its pace: what
// was refilled meanwhile, 20 requests a key and 8 % of all, may be left at the
// end.
constexpr Goodput kBoundWithHint{.share = 0.85, .waste = 0.12};

Pool FourKeys(const NginxOptions& options) {
  std::vector<PooledKey> keys;
  for (const char* name : {"a", "b", "c", "d"}) {
    keys.push_back({.name = name,
                    .bucket = {.size = options.burst + 1.0,
                               .per_second = 1.0 * options.per_second}});
  }
  return Pool(keys);
}

PerKey CountsOf(const std::vector<Nginx::Line>& log, const Pool& pool) {
  PerKey keys;
  for (const PooledKey& key : pool.keys()) {
    for (const Nginx::Line& line : log) {
      if (line.key != "Bearer " + Pool::Secret(key)) continue;
      if (line.status == 200) ++keys[key.name].served;
      if (line.status == 429) ++keys[key.name].limited;
    }
  }
  return keys;
}

void RunCell(const NginxOptions& options, double factor, const Goodput& bound) {
  if (!Nginx::Program()) {
    WARN("SKIPPED: nginx is not installed");  // ctest looks for the first word
    return;
  }
  const Pool pool = FourKeys(options);
  const std::string what = fmt::format(
      "nginx, 4 keys, Retry-After {}, {} x",
      options.retry_after == 0 ? "none"
                               : fmt::format("{} s", options.retry_after),
      factor);
  CheckGoodput(what, bound, [&] {
    Nginx nginx(options);
    KeyRotator rotator(pool.Keys());
    OpenAIClient client(nginx.base_url(), rotator, WholeTransport());
    const Seen seen = Drive(client, pool, {.factor = factor, .time = 10s});
    return Compare(pool, CountsOf(nginx.Stop(), pool), seen);
  });
}

TEST_CASE("nginx without Retry-After gives what it lets through at 1.2 x") {
  RunCell(kSilent, 1.2, kBoundWhenSilent);
}

TEST_CASE("nginx without Retry-After gives what it lets through at 2 x") {
  RunCell(kSilent, 2, kBoundWhenSilent);
}

TEST_CASE("nginx with Retry-After gives what it lets through at 1.2 x") {
  RunCell(kWithHint, 1.2, kBoundWithHint);
}

TEST_CASE("nginx with Retry-After gives what it lets through at 2 x") {
  RunCell(kWithHint, 2, kBoundWithHint);
}

}  // namespace
}  // namespace keyrotator::real_nginx_test
