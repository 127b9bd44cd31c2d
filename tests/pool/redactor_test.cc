#include "keyrotator/pool/redactor.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

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

}  // namespace
}  // namespace keyrotator::internal::pool_redactor_test
