#include "keyrotator/internal/redis_url.h"

#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/support/catch.h"
#include "tests/support/leaks.h"

namespace keyrotator::redis_url_test {
namespace {

using internal::ParseRedisAddress;
using internal::ParseRedisUrl;
using internal::RedisUrl;
using testing::ContainsSubstring;

std::string ErrorOf(std::string_view url) {
  try {
    ParseRedisUrl(url);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("a URL of Redis is taken apart", "[redis]") {
  const RedisUrl url = ParseRedisUrl("redis://user:p%40s%3As%2f@cache:6380/3");
  CHECK(url.address.host == "cache");
  CHECK(url.address.port == 6380);
  CHECK(url.address.path.empty());
  CHECK(url.username.text() == "user");
  CHECK(url.password.text() == "p@s:s/");
  CHECK(url.database == 3);
  CHECK_FALSE(url.has_tls);
  CHECK(url.address.text() == "cache:6380");
}

TEST_CASE("what a URL of Redis leaves out is as usual", "[redis]") {
  for (const char* text :
       {"redis://cache", "redis://cache/", "REDIS://cache:6379/0"}) {
    INFO(text);
    const RedisUrl url = ParseRedisUrl(text);
    CHECK(url.address.host == "cache");
    CHECK(url.address.port == 6379);
    CHECK(url.database == 0);
    CHECK(url.username.text().empty());
    CHECK(url.password.text().empty());
  }
  CHECK(ParseRedisUrl("redis://:pw@cache").password.text() == "pw");
  CHECK(ParseRedisUrl("redis://:p@w@cache").password.text() == "p@w");
  CHECK(ParseRedisUrl("redis://u@cache").username.text() == "u");
  CHECK(ParseRedisUrl("rediss://cache").has_tls);
}

TEST_CASE("an IPv6 address stands in brackets", "[redis]") {
  const RedisUrl url = ParseRedisUrl("redis://[fe80::1%eth0]:7000/1");
  CHECK(url.address.host == "fe80::1%eth0");
  CHECK(url.address.port == 7000);
  CHECK(url.address.text() == "[fe80::1%eth0]:7000");
  CHECK(ParseRedisUrl("redis://[::1]").address.port == 6379);
}

TEST_CASE("a unix socket has a path, and may have a database", "[redis]") {
  const RedisUrl url = ParseRedisUrl("unix://u:pw@/run/redis.sock?db=2");
  CHECK(url.address.path == "/run/redis.sock");
  CHECK(url.address.host.empty());
  CHECK(url.database == 2);
  CHECK(url.username.text() == "u");
  CHECK(url.password.text() == "pw");
  CHECK(url.address.text() == "/run/redis.sock");
  CHECK(ParseRedisUrl("unix:///r").database == 0);
}

TEST_CASE("a URL that cannot be used says which part, and nothing of itself",
          "[redis][S21]") {
  const std::string secret = "QzXw7RtY2uIoP9";
  const std::string signed_url = "redis://u:" + secret + "@";
  const struct {
    std::string url;
    std::string says;
  } cases[] = {
      {"", "scheme"},
      {"cache:6379", "scheme"},
      {"http://u:" + secret + "@cache", "unknown scheme"},
      {"://" + secret, "unknown scheme"},
      {signed_url, "host or port"},
      {signed_url + ":6379", "host or port"},
      {signed_url + "cache:0", "host or port"},
      {signed_url + "cache:65536", "host or port"},
      {signed_url + "cache:", "host or port"},
      {signed_url + "cache:-1", "host or port"},
      {signed_url + "cache:6379x", "host or port"},
      {signed_url + "cache:99999999999999999999", "host or port"},
      {signed_url + "ca,che", "host or port"},
      {signed_url + "[::1", "host or port"},
      {signed_url + "[]", "host or port"},
      {signed_url + "[::1]6379", "host or port"},
      {signed_url + std::string(256, 'a'), "host or port"},
      // A password with a plain slash: the host is its beginning.
      {"redis://:" + secret + "/x@cache", "host or port"},
      {signed_url + "cache/x", "database"},
      {signed_url + "cache/-1", "database"},
      {signed_url + "cache/1/2", "database"},
      {signed_url + "cache/99999999999", "database"},
      {signed_url + "cache/0?db=" + secret, "query"},
      {signed_url + "cache/0#" + secret, "#"},
      {signed_url + "ca che", "printable"},
      {signed_url + "cache\r\nFLUSHALL", "printable"},
      {signed_url + std::string("cache\0x", 7), "printable"},
      {signed_url + "\xc3\xa4", "printable"},
      {"redis://u:" + secret + "%4@cache", "hexadecimal"},
      {"redis://u:" + secret + "%zz@cache", "hexadecimal"},
      {"redis://u:" + secret + "%@cache", "hexadecimal"},
      {"unix://" + secret + "/run/redis", "host before the path"},
      {"unix://u:" + secret + "@", "no path"},
      {"unix:///", "no path"},
      {"unix:///" + std::string(107, 'x'), "too long"},
      {"unix:///run/redis?db=", "database"},
      {"unix:///run/redis?db=1&password=" + secret, "database"},
      {"unix:///run/redis?password=" + secret, "query"},
  };
  for (const auto& [url, says] : cases) {
    INFO("case " << &url - &cases[0].url << ", which is to say: " << says);
    const std::string error = ErrorOf(url);
    CHECK_THAT(error, ContainsSubstring(says));
    CHECK_FALSE(testing::FindLeak(error, secret).has_value());
  }
}

TEST_CASE("an address may leave out its port", "[redis]") {
  CHECK(ParseRedisAddress("a", 26379)->port == 26379);
  CHECK(ParseRedisAddress("a:1", 26379)->port == 1);
  CHECK(ParseRedisAddress("[::1]:2", 26379)->host == "::1");
  for (const char* text : {"", ":1", "a:b", "a b", "::1", "u@a", "a/0"}) {
    INFO(text);
    CHECK_FALSE(ParseRedisAddress(text, 1).has_value());
  }
}

TEST_CASE("a pool is called by what can stand in the name of a hash",
          "[redis]") {
  CHECK(internal::IsRedisPool("prod-1.eu_West"));
  CHECK(internal::IsRedisPool(std::string(64, 'a')));
  CHECK_FALSE(internal::IsRedisPool(std::string(65, 'a')));
  for (const std::string_view name : {"", "a b", "a}", "{a", "a:b", "\xc3\xbc"})
    CHECK_FALSE(internal::IsRedisPool(name));
}

}  // namespace
}  // namespace keyrotator::redis_url_test
