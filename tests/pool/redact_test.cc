#include "keyrotator/pool/redact.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal {
namespace {

std::string Redact(std::string_view text) {
  return RedactSecrets(text, {{"sk-abc", "one"},
                              {"sk-abcdef", "two"},
                              {"x", "short"},
                              {"q\"\\/\\u", "odd"}});
}

TEST_CASE("each secret is replaced by its name, the longest that matches first",
          "[redact]") {
  CHECK(Redact("").empty());
  CHECK(Redact("nothing here") == "nothing here");
  CHECK(Redact("sk-abc") == "[one]");
  CHECK(Redact("<sk-abcdef>sk-abcde sk-a.") == "<[two]>[one]de sk-a.");
  CHECK(Redact("sk-absk-abc") == "sk-ab[one]");
  CHECK(Redact("axa") == "a[short]a");
}

TEST_CASE("a secret is found in every form in which JSON may spell it",
          "[redact]") {
  CHECK(Redact(R"(q"\/\u)") == "[odd]");
  CHECK(Redact(R"(q\"\\/\\u)") == "[odd]");
  CHECK(Redact(R"(q\u0022\u005c\/\\u)") == "[odd]");
  CHECK(Redact(R"(sk\u002dabc)") == "[one]");
  CHECK(Redact(R"(\u0073\u006B-abc!)") == "[one]!");
}

TEST_CASE("a secret that the end of the text cuts off is replaced, too",
          "[redact][T7]") {
  const std::vector<Secret> secrets{{"sk-0123456789", "one"}};
  CHECK(RedactSecrets("key: sk-01234", secrets) == "key: [one]");
  CHECK(RedactSecrets("key: sk-01234 ", secrets) == "key: sk-01234 ");
}

TEST_CASE("what looks like an escape and is none stays as it is", "[redact]") {
  for (const std::string text :
       {R"(\)", R"(\u)", R"(\u00)", R"(\u00zz)", R"(\u00e4)", R"(\n)",
        R"(a\u0073k)", "q\"\\"}) {
    CHECK(Redact(text) == text);
  }
}

}  // namespace
}  // namespace keyrotator::internal
