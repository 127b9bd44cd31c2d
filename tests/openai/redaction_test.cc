#include "keyrotator/openai/redaction.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/support/rotator.h"

namespace keyrotator::openai_redaction_test {
namespace {

using testing::Letters;

// All of an answer, as a text.
std::string After(VerdictKind kind, const std::string& text) {
  KeyRotator rotator(Letters("AB"));
  Verdict verdict;
  verdict.kind = kind;
  verdict.message = verdict.code = text;
  HttpResponse response{
      .status = 200, .headers = {{"x", text}, {"y", "plain"}}, .body = text};
  internal::RedactAnswer(rotator, verdict, response);
  std::string all = verdict.message + "|" + verdict.code + "|" + response.body;
  for (const auto& [name, value] : response.headers)
    all += "|" + name + "=" + value;
  return all;
}

TEST_CASE("an error loses every key of the pool, wherever it stands",
          "[redaction][S21]") {
  CHECK(After(VerdictKind::kCallerError, "secret-A secret-B") ==
        "[A] [B]|[A] [B]|[A] [B]|x=[A] [B]|y=plain");
}

TEST_CASE("a success keeps the model's words, and its headers lose every key",
          "[redaction][S21]") {
  CHECK(After(VerdictKind::kOk, "secret-B") ==
        "secret-B|secret-B|secret-B|x=[B]|y=plain");
}

TEST_CASE("a header that quotes a key in base64 loses it", "[redaction][S21]") {
  const KeyRotator rotator({ApiKey("sk-0123456789", {.name = "A"})});
  for (const VerdictKind kind : {VerdictKind::kOk, VerdictKind::kPermission}) {
    Verdict verdict;
    verdict.kind = kind;
    HttpResponse response{.status = 200, .headers = {{"y", "plain"}}};
    response.headers.Add("x", "Basic dXNlcjpzay0wMTIzNDU2Nzg5");
    internal::RedactAnswer(rotator, verdict, response);
    CHECK(response.headers.Find("y") == "plain");
    CHECK(response.headers.Find("x") == "Basic dXNlcjp[A]");
  }
}

TEST_CASE("of a large body that is no success the beginning is kept",
          "[redaction][T7]") {
  KeyRotator rotator(Letters("AB"));
  for (const VerdictKind kind : {VerdictKind::kTransient, VerdictKind::kOk}) {
    Verdict verdict;
    verdict.kind = kind;
    // The cut halves a key.
    HttpResponse response{
        .status = 200,
        .body = std::string(internal::kMaxErrorBody - 4, 'x') + "secret-A"};
    internal::RedactAnswer(rotator, verdict, response);
    const bool ok = kind == VerdictKind::kOk;
    CHECK(response.body.ends_with(ok ? "xsecret-A" : "x[A]"));
  }
}

TEST_CASE("what has no secret stays as it is", "[redaction]") {
  for (const VerdictKind kind : {VerdictKind::kOk, VerdictKind::kPermission})
    CHECK(After(kind, "text") == "text|text|text|x=text|y=plain");
}

}  // namespace
}  // namespace keyrotator::openai_redaction_test
