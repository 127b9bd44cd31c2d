#include "keyrotator/pool/redactor.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/leaks.h"

namespace keyrotator::internal::pool_redactor_test {
namespace {

std::string Redact(std::string_view text) {
  static const Redactor kRedactor({{"sk-abc", "one"},
                                   {"sk-abcdef", "two"},
                                   {"x", "short"},
                                   {"q\"\\/\\u", "odd"}});
  return kRedactor(text);
}

TEST_CASE("each secret is replaced by its name, the longest that matches first",
          "[redactor]") {
  CHECK(Redact("").empty());
  CHECK(Redact("nothing here") == "nothing here");
  CHECK(Redact("sk-abc") == "[one]");
  CHECK(Redact("<sk-abcdef>sk-abcde sk-a.") == "<[two]>[one]de sk-a.");
  CHECK(Redact("sk-absk-abc") == "sk-ab[one]");
  CHECK(Redact("axa") == "a[short]a");
}

TEST_CASE("a secret is found in every form in which JSON may spell it",
          "[redactor]") {
  CHECK(Redact(R"(q"\/\u)") == "[odd]");
  CHECK(Redact(R"(q\"\\/\\u)") == "[odd]");
  CHECK(Redact(R"(q\u0022\u005c\/\\u)") == "[odd]");
  CHECK(Redact(R"(sk\u002dabc)") == "[one]");
  CHECK(Redact(R"(\u0073\u006B-abc!)") == "[one]!");
}

TEST_CASE("a secret is found where a URL escapes it", "[redactor]") {
  CHECK(Redact("?key=sk%2Dabc&b") == "?key=[one]&b");
  CHECK(Redact("%73%6B%2d%61bc!") == "[one]!");
  CHECK(Redact("q%22%5C/%5cu") == "[odd]");
  for (const std::string text : {"%", "%7", "100% of", "%zz", "%2", "sk%2"})
    CHECK(Redact(text) == text);
}

TEST_CASE("a secret that the end of the text cuts off is replaced, too",
          "[redactor][T7]") {
  const Redactor redactor(std::vector<Secret>{{"sk-0123456789", "one"}});
  CHECK(redactor("key: sk-01234") == "key: [one]");
  CHECK(redactor("key: sk-01234 ") == "key: sk-01234 ");
  // What stands behind the text is none of it.
  const Redactor small(std::vector<Secret>{{"abc", "one"}});
  CHECK(small(std::string_view("abc").substr(0, 2)) == "ab");
}

TEST_CASE("what looks like an escape and is none stays as it is",
          "[redactor]") {
  for (const std::string text :
       {R"(\)", R"(\u)", R"(\u00)", R"(\u00zz)", R"(\u00e4)", R"(\n)",
        R"(a\u0073k)", "q\"\\"}) {
    CHECK(Redact(text) == text);
  }
}

// Without the padding.
std::string InBase64(std::string text, bool url = false) {
  const std::size_t size = (text.size() * 8 + 5) / 6;
  text += std::string(2, '\0');
  std::string encoded = testing::leaks_internal::InBase64(text, 0);
  encoded.resize(size);
  if (url) {
    std::ranges::replace(encoded, '+', '-');
    std::ranges::replace(encoded, '/', '_');
  }
  return encoded;
}

TEST_CASE("a secret is found in base64, whatever stands around it",
          "[redactor]") {
  REQUIRE(InBase64("Bearer ") == "QmVhcmVyIA");
  REQUIRE(InBase64("a?>~?>~", true) == "YT8-fj8-fg");
  const std::string key = "sk-0?>~12?>~789";
  const Redactor redactor(std::vector<Secret>{{key, "one"}});
  for (const std::string before : {"", "Bearer ", "user:", "ab", "\xff"}) {
    for (const std::string after : {"", "x", ":password", "\xff\xff"}) {
      for (const bool url : {false, true}) {
        const std::string encoded = InBase64(before + key + after, url);
        CAPTURE(before, after, encoded);
        // All but the characters that it shares with its neighbours is gone,
        // and of these nothing is.
        const std::size_t start = (before.size() * 8 + 5) / 6;
        const std::size_t end = (before + key).size() * 8 / 6;
        CHECK(redactor("<" + encoded + "=>") == "<" + encoded.substr(0, start) +
                                                    "[one]" +
                                                    encoded.substr(end) + "=>");
      }
    }
  }
}

TEST_CASE("base64 of a secret is found in JSON's and a URL's escapes",
          "[redactor]") {
  const Redactor redactor(std::vector<Secret>{{"sk-01???45678", "one"}});
  REQUIRE(InBase64("sk-01???45678") == "c2stMDE/Pz80NTY3OA");
  CHECK(redactor(R"("c2stMDE\/Pz80NTY3OA==")") == R"("[one]A==")");
  CHECK(redactor("?a=c2stMDE%2FPz80NTY3OA%3D%3D") == "?a=[one]A%3D%3D");
}

TEST_CASE("base64 of a secret that the end of the text cuts off is replaced",
          "[redactor][T7]") {
  const Redactor redactor(std::vector<Secret>{{"sk-0123456789", "one"}});
  CHECK(redactor("Basic c2stMDEyMz") == "Basic [one]");
  CHECK(redactor("Basic c2stMDEyMz ") == "Basic c2stMDEyMz ");
}

TEST_CASE("base64 of a secret that is short is a text like others",
          "[redactor]") {
  const Redactor redactor({{"sk-01234567", "one"}, {"abc", "two"}});
  for (const std::string& text : {InBase64("sk-01234567"), InBase64("abc")})
    CHECK(redactor(text) == text);
}

}  // namespace
}  // namespace keyrotator::internal::pool_redactor_test
