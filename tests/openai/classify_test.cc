#include "keyrotator/openai/classify.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/vectors.h"

namespace keyrotator::openai_classify_test {
namespace {

using nlohmann::json;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using Kind = VerdictKind;

// Thu, 15 Jan 2026 12:00:00 GMT.
constexpr system_clock::time_point kNow{seconds(1768478400)};

HttpResponse Response(int status, std::string body, Headers more = {}) {
  HttpResponse response;
  response.status = status;
  for (const auto& field : more) response.headers.Add(field.name, field.value);
  response.headers.Add("Content-Type", "application/json");
  response.body = std::move(body);
  return response;
}

Verdict Judge(int status, std::string body, Headers more = {}) {
  return Classify(Response(status, std::move(body), std::move(more)), kNow);
}

Kind KindOf(int status, std::string body, Headers more = {}) {
  return Judge(status, std::move(body), std::move(more)).kind;
}

// The error as OpenAI shapes it.
std::string Error(std::string message, std::string code = "",
                  std::string type = "") {
  json error = {{"message", std::move(message)}, {"param", nullptr}};
  error["code"] = code.empty() ? json() : json(code);
  error["type"] = type.empty() ? json() : json(type);
  return json{{"error", error}}.dump();
}

struct Vector {
  std::string id;
  HttpResponse response;
  system_clock::time_point now = kNow;
  std::string kind;
  std::optional<milliseconds> retry_after;
};

const std::vector<Vector>& Vectors() {
  static const std::vector<Vector> kVectors = [] {
    std::vector<Vector> read;
    for (const json& row : testing::ReadVectors("responses.json")) {
      Vector vector;
      vector.id = row["id"];
      vector.response = testing::ResponseOf(row);
      vector.now = testing::NowOf(row);
      vector.kind = row["expect"]["class"];
      const json& wait = row["expect"]["retry_after_ms"];
      if (!wait.is_null()) {
        vector.retry_after = milliseconds(wait.get<std::int64_t>());
      }
      read.push_back(std::move(vector));
    }
    return read;
  }();
  return kVectors;
}

bool HintIsSound(const Verdict& verdict) {
  if (!verdict.retry_after) return true;
  const bool may_have = verdict.kind == Kind::kQuotaExhausted ||
                        verdict.kind == Kind::kRateLimited ||
                        verdict.kind == Kind::kOverloaded ||
                        verdict.kind == Kind::kTransient;
  return may_have && *verdict.retry_after >= milliseconds(1) &&
         *verdict.retry_after <= kMaxRetryAfter;
}

// --- Vectors, and what must not change them ---

TEST_CASE("every vector is judged as expected", "[classify][vectors][S16]") {
  REQUIRE(Vectors().size() >= 177);
  for (const Vector& vector : Vectors()) {
    CAPTURE(vector.id);
    const Verdict verdict = Classify(vector.response, vector.now);
    CHECK(ToString(verdict.kind) == vector.kind);
    CHECK(verdict.retry_after == vector.retry_after);
  }
}

// Checks that a change of the response changes no verdict.
template <class Change>
void CheckUnchanged(const Change& change) {
  for (const Vector& vector : Vectors()) {
    CAPTURE(vector.id);
    HttpResponse response = vector.response;
    if (!change(response)) continue;
    const Verdict verdict = Classify(response, vector.now);
    CHECK(ToString(verdict.kind) == vector.kind);
    CHECK(verdict.retry_after == vector.retry_after);
  }
}

TEST_CASE("the case of header names changes nothing", "[classify]") {
  for (const bool upper : {false, true}) {
    CheckUnchanged([&](HttpResponse& response) {
      Headers headers;
      for (const auto& field : response.headers) {
        std::string name = field.name;
        for (char& c : name) {
          c = static_cast<char>(upper ? std::toupper(c) : std::tolower(c));
        }
        headers.Add(name, field.value);
      }
      response.headers = headers;
      return true;
    });
  }
}

TEST_CASE("blanks around header values change nothing", "[classify]") {
  CheckUnchanged([](HttpResponse& response) {
    Headers headers;
    for (const auto& field : response.headers) {
      headers.Add(field.name, " \t" + field.value + " ");
    }
    response.headers = headers;
    return true;
  });
}

TEST_CASE("headers of the same name that come later change nothing",
          "[classify][T15]") {
  CheckUnchanged([](HttpResponse& response) {
    Headers headers = response.headers;
    for (const auto& field : response.headers) {
      headers.Add(field.name, field.name == "content-type" ? "text/html" : "1");
    }
    response.headers = headers;
    return true;
  });
}

TEST_CASE("the order of headers changes nothing", "[classify]") {
  CheckUnchanged([](HttpResponse& response) {
    std::vector<Headers::Field> fields(response.headers.begin(),
                                       response.headers.end());
    std::ranges::reverse(fields);
    Headers headers;
    for (const Headers::Field& field : fields)
      headers.Add(field.name, field.value);
    response.headers = headers;
    return true;
  });
}

TEST_CASE("a byte order mark and blanks around the body change nothing",
          "[classify]") {
  CheckUnchanged([](HttpResponse& response) {
    const bool marked = response.body.starts_with("\xEF\xBB\xBF");
    response.body =
        (marked ? "" : "\xEF\xBB\xBF") + response.body + "\r\n \t\n";
    return true;
  });
  CheckUnchanged([](HttpResponse& response) {
    if (response.body.starts_with("\xEF\xBB\xBF")) return false;
    response.body.insert(0, "\n\r\n  \t");
    return true;
  });
}

// Parses the body if it is an object; else discarded.
json Object(const HttpResponse& response) {
  const json body = json::parse(response.body, nullptr, false);
  return body.is_object() ? body : json(json::value_t::discarded);
}

TEST_CASE("spacing and the order of members change nothing", "[classify]") {
  CheckUnchanged([](HttpResponse& response) {  // sorted, compact
    const json body = json::parse(response.body, nullptr, false);
    if (body.is_discarded()) return false;
    response.body = body.dump();
    return true;
  });
  CheckUnchanged([](HttpResponse& response) {  // sorted, spread out, escaped
    const json body = json::parse(response.body, nullptr, false);
    if (body.is_discarded()) return false;
    response.body = body.dump(3, '\t', true);
    return true;
  });
  CheckUnchanged([](HttpResponse& response) {  // in reverse
    const json body = Object(response);
    if (body.is_discarded()) return false;
    const auto reverse = [](const json& object) {
      std::string text;
      for (const auto& [name, value] : object.items()) {
        text = json(name).dump() + " : " + value.dump() +
               (text.empty() ? "" : "\n,") + text;
      }
      return "{" + text + "}";
    };
    if (body.contains("error") && body["error"].is_object()) {
      json rest = body;
      rest.erase("error");
      const std::string others = reverse(rest);
      response.body = R"({"error" :)" + reverse(body["error"]) +
                      (rest.empty() ? "" : ",") + others.substr(1);
    } else {
      response.body = reverse(body);
    }
    return true;
  });
}

TEST_CASE("an array of one is what it holds", "[classify]") {
  CheckUnchanged([](HttpResponse& response) {
    if (Object(response).is_discarded()) return false;
    response.body = "[" + response.body + "]";
    return true;
  });
}

TEST_CASE("members that nobody knows change nothing", "[classify]") {
  const json junk = {
      {"code", "insufficient_quota"},
      {"error", {{"code", "invalid_api_key"}}},
      {"message", "Incorrect API key. Try again in 9h"},
      {"details", json::array({{{"reason", "API_KEY_INVALID"}}})},
      {"list", json::array({1, nullptr, "x", 1.5, true})}};
  CheckUnchanged([&](HttpResponse& response) {
    json body = Object(response);
    if (body.is_discarded()) return false;
    body["aaa"] = junk;
    body["zzz"] = json::array({junk});
    if (body.contains("error") && body["error"].is_object() &&
        !body["error"].empty()) {
      body["error"]["aaa"] = junk;
      body["error"]["zzz"] = json::array({junk});
    }
    response.body = body.dump();
    return true;
  });
}

TEST_CASE("a duplicate member that comes earlier changes nothing",
          "[classify]") {
  CheckUnchanged([](HttpResponse& response) {
    const json body = Object(response);
    if (body.is_discarded() || !body.contains("error")) return false;
    response.body.insert(
        response.body.find('{') + 1,
        R"("error":{"code":"insufficient_quota","type":"invalid_api_key",)"
        R"("message":"Incorrect API key","metadata":{"raw":"rate-limited )"
        R"(upstream","headers":{"X-RateLimit-Reset":"9999999999999"}},)"
        R"("details":[{"reason":"API_KEY_INVALID"},{"@type":)"
        R"("google.rpc.RetryInfo","retryDelay":"77s"}]},)");
    return true;
  });
}

TEST_CASE("every cut of every vector's body is safe, and proves nothing",
          "[classify][property]") {
  for (const Vector& vector : Vectors()) {
    CAPTURE(vector.id);
    const std::string& body = vector.response.body;
    const std::size_t step = body.size() < 2000 ? 1 : 97;
    HttpResponse cut = vector.response;
    cut.body = "{";
    const Kind by_status = Classify(cut, vector.now).kind;
    const bool object = body.starts_with('{') && body.ends_with('}');
    int surprises = 0;
    for (std::size_t size = 0; size < body.size(); size += step) {
      cut.body = body.substr(0, size);
      const Verdict verdict = Classify(cut, vector.now);
      if (!HintIsSound(verdict)) ++surprises;
      if (object && cut.status >= 300 && !json::accept(body.substr(0, size)) &&
          vector.id != "trailing-garbage" && size > 0 &&
          verdict.kind != by_status) {
        ++surprises;
      }
    }
    CHECK(surprises == 0);
  }
}

TEST_CASE("random changes of bytes never crash or yield an unsound hint",
          "[classify][property]") {
  std::mt19937 random(20260115);
  const auto mutate = [&](std::string& text) {
    constexpr std::string_view kBytes = "\"\\{}[]:,0-9.eu\x00\xff\xc3\x80 \n";
    for (int n = 1 + static_cast<int>(random() % 4); n > 0; --n) {
      const std::size_t at = text.empty() ? 0 : random() % text.size();
      const char c = random() % 2 == 0 ? kBytes[random() % kBytes.size()]
                                       : static_cast<char>(random() % 256);
      if (text.empty() || random() % 3 == 0) {
        text.insert(at, 1, c);
      } else if (random() % 2 == 0) {
        text.erase(at, 1 + random() % 3);
      } else {
        text[at] = c;
      }
    }
  };
  for (const Vector& vector : Vectors()) {
    CAPTURE(vector.id);
    bool sound = true;
    const int rounds = vector.response.body.size() < 5000 ? 100 : 2;
    for (int round = 0; round < rounds; ++round) {
      HttpResponse response = vector.response;
      mutate(response.body);
      Headers headers;
      for (const auto& field : vector.response.headers) {
        Headers::Field changed = field;
        if (random() % 4 == 0) mutate(changed.name);
        if (random() % 2 == 0) mutate(changed.value);
        headers.Add(changed.name, changed.value);
      }
      response.headers = headers;
      sound = sound && HintIsSound(Classify(response, vector.now));
      response.status = 200;
      sound = sound && HintIsSound(Classify(response, vector.now));
      const auto verdict = ClassifyEvent("error", response.body, vector.now);
      sound = sound && verdict && HintIsSound(*verdict);
    }
    CHECK(sound);
  }
}

// --- Rule 0: success ---

TEST_CASE("a 200 with an error is that error", "[classify][S16]") {
  // OpenRouter: the code is the status.
  CHECK(KindOf(200, R"({"error":{"code":429,"message":"x"}})") ==
        Kind::kRateLimited);
  CHECK(KindOf(200, R"({"error":{"code":402,"message":"x"}})") ==
        Kind::kQuotaExhausted);
  CHECK(KindOf(200, R"({"error":{"code":401,"message":"User not found."}})") ==
        Kind::kKeyInvalid);
  CHECK(KindOf(200, R"({"error":{"code":"503","message":"x"}})") ==
        Kind::kOverloaded);
  CHECK(KindOf(200, R"({"error":{"code":400,"message":"x"}})") ==
        Kind::kCallerError);
  for (const char* code : {"502", "399", "600", "-1", "1e3", "null", "[]",
                           "\"server_error\"", "99999999999999999999"}) {
    CAPTURE(code);
    CHECK(KindOf(200, std::string(R"({"error":{"code":)") + code +
                          R"(,"message":"x"}})") == Kind::kTransient);
  }
  CHECK(KindOf(200, R"({"choices":[{"index":0,"error":{"code":502,)"
                    R"("message":"x"},"finish_reason":"error"}]})") ==
        Kind::kTransient);
  CHECK(KindOf(200, R"({"choices":[{"error":{"code":429}}]})") ==
        Kind::kRateLimited);
  CHECK(KindOf(200, R"({"error":"boom"})") == Kind::kTransient);
  CHECK(KindOf(200, R"([{"error":{"code":429,"message":"x"}}])") ==
        Kind::kRateLimited);
  CHECK(KindOf(201, R"({"error":{"code":429}})") == Kind::kRateLimited);
  CHECK(KindOf(200, Error("x", "insufficient_quota")) == Kind::kQuotaExhausted);
  CHECK(KindOf(200, Error("x", "invalid_prompt")) == Kind::kCallerError);
  CHECK(KindOf(200, Error("x", "", "overloaded_error")) == Kind::kOverloaded);
  CHECK(KindOf(200, "{\"error\" \n:\t {\"code\" : 429}}") ==
        Kind::kRateLimited);
}

TEST_CASE("an error in a 200 has its hints", "[classify][S16]") {
  CHECK(Judge(200, Error("Please try again in 18.642s.", "rate_limit_exceeded"))
            .retry_after == milliseconds(18642));
  CHECK(Judge(200, Error("x", "rate_limit_exceeded"), {{"Retry-After", "3"}})
            .retry_after == seconds(3));
  // OpenRouter's epoch in ms, as text or number, in any case.
  for (const char* member : {R"("X-RateLimit-Reset":"1768478460000")",
                             R"("x-ratelimit-reset":1768478460000)"}) {
    CHECK(Judge(200, std::string(R"({"error":{"metadata":{"headers":{)") +
                         member + R"(}},"code":429}})")
              .retry_after == seconds(60));
  }
}

TEST_CASE("an empty error in a 200 is none", "[classify][S16]") {
  for (const char* empty : {"null", "false", "0", "0.0", "\"\"", "{}", "[]",
                            "{ }", " null", "[ ]"}) {
    CAPTURE(empty);
    CHECK(KindOf(200, std::string(R"({"id":"x","error":)") + empty + "}") ==
          Kind::kOk);
    CHECK(KindOf(200, std::string(R"({"choices":[{"error":)") + empty +
                          R"(}],"error":null})") == Kind::kOk);
  }
}

TEST_CASE("an error of something else in a 200 is none", "[classify]") {
  // A tool's error in the Responses API, a second choice's, an echo.
  for (const char* body :
       {R"({"status":"completed","output":[{"type":"mcp_call","error":"x"}]})",
        R"({"choices":[{"message":{}},{"error":{"code":429}}]})",
        R"({"choices":[{"message":{"error":{"code":429}}}]})",
        R"({"metadata":{"error":{"code":429}}})",
        R"({"choices":{"error":{"code":429}}})",
        R"({"response":{"error":{"code":429}}})",
        R"([1,{"error":{"code":429}}])", R"([[{"error":{"code":429}}]])",
        R"({"choices":[{"message":{"content":"{\"error\":{\"code\":429}}"}}]})",
        R"({"choices":[{"message":{"content":"\"error\": \"x\""}}]})"}) {
    CAPTURE(body);
    CHECK(KindOf(200, body) == Kind::kOk);
  }
}

TEST_CASE("a 200 that is no JSON is transient", "[classify]") {
  for (const char* body :
       {"", " \r\n\t", "{", "{\"id\":\"x\"", "[{}", "{]", "[}", "oops",
        "data: {\"x\":1}\n\ndata: [DONE]\n\n", "\"open", "nul",
        R"({"error":{"code":429)", R"({"error":{"code":429}]})", "1 2"}) {
    CAPTURE(body);
    CHECK(KindOf(200, body) == Kind::kTransient);
  }
  for (const char* body : {"{}", "[]", " {\"a\":1}\n", "\"text\"", "12", "true",
                           "{\"a\":1}\n{\"b\":2}"}) {
    CAPTURE(body);
    CHECK(KindOf(200, body) == Kind::kOk);
  }
  // An error with junk behind it is still that error.
  CHECK(KindOf(200, R"({"error":{"code":401}}data: x)") == Kind::kKeyInvalid);
  CHECK(KindOf(200, R"({"id":"x"}data: x)") == Kind::kTransient);
}

TEST_CASE("a success that names another type is not looked into",
          "[classify]") {
  for (const char* type :
       {"audio/mpeg", "text/plain; charset=utf-8", "application/octet-stream",
        "text/event-stream", "image/png", "application/jsonl",
        "application/x-ndjson", "application/json-lines; charset=utf-8"}) {
    for (const char* body :
         {"", "oops", R"({"error":{"code":429}})", "<html>"}) {
      HttpResponse response;
      response.status = 200;
      response.headers.Add("content-type", type);
      response.body = body;
      CAPTURE(type, body);
      CHECK(Classify(response, kNow).kind == Kind::kOk);
    }
  }
  for (const char* type :
       {"application/json", "Application/JSON; charset=utf-8",
        "application/problem+json", "text/json", "", " "}) {
    HttpResponse response;
    response.status = 200;
    response.headers.Add("content-type", type);
    response.body = R"({"error":{"code":429}})";
    CAPTURE(type);
    CHECK(Classify(response, kNow).kind == Kind::kRateLimited);
  }
}

TEST_CASE("a success without content is one", "[classify]") {
  for (const int status : {202, 204, 205}) {
    CHECK(KindOf(status, "") == Kind::kOk);
    CHECK(KindOf(status, "<html>") == Kind::kOk);
  }
  CHECK(KindOf(200, "") == Kind::kTransient);
  CHECK(KindOf(201, "") == Kind::kTransient);
}

// --- Rule 1: HTML ---

TEST_CASE("a page comes from the edge and says nothing of the key",
          "[classify]") {
  const auto page = [](int status, std::string type, std::string body) {
    HttpResponse response;
    response.status = status;
    if (!type.empty()) response.headers.Add("Content-Type", type);
    response.headers.Add("Retry-After", "30");
    response.body = std::move(body);
    return Classify(response, kNow);
  };
  const char* text =
      "\n<!DOCTYPE html><html>insufficient_quota Incorrect API key is blocked";
  for (const char* type :
       {"", "text/html", "Text/HTML; charset=UTF-8", "application/json"}) {
    CAPTURE(type);
    CHECK(page(200, type, text).kind == Kind::kCallerError);
    CHECK(page(403, type, text).kind == Kind::kCallerError);
    CHECK(page(429, type, text).kind == Kind::kOverloaded);
    CHECK(page(429, type, text).retry_after == seconds(30));
    CHECK(page(401, type, text).kind == Kind::kKeyInvalid);
    CHECK(page(404, type, text).kind == Kind::kCallerError);
    CHECK(page(503, type, text).kind == Kind::kOverloaded);
    CHECK(page(524, type, text).kind == Kind::kTransient);
    CHECK(page(429, type, text).message.empty());
  }
  CHECK(page(429, "text/html", "Access denied").kind == Kind::kOverloaded);
  CHECK(page(403, "text/html", "").kind == Kind::kCallerError);
  CHECK(page(403, "text/plain", "<html>").kind == Kind::kCallerError);
}

TEST_CASE("JSON that is labelled as a page is JSON", "[classify]") {
  HttpResponse response;
  response.status = 429;
  response.headers.Add("Content-Type", "text/html");
  response.body = Error("x", "insufficient_quota");
  CHECK(Classify(response, kNow).kind == Kind::kQuotaExhausted);
  response.status = 200;
  CHECK(Classify(response, kNow).kind == Kind::kQuotaExhausted);
  response.body = R"({"id":"x"})";
  CHECK(Classify(response, kNow).kind == Kind::kOk);
}

// --- Rule 2: codes ---

TEST_CASE("a code decides, as code, as type or as a reason", "[classify]") {
  const std::vector<std::pair<const char*, Kind>> codes = {
      {"insufficient_quota", Kind::kQuotaExhausted},
      {"billing_not_active", Kind::kQuotaExhausted},
      {"billing_hard_limit_reached", Kind::kQuotaExhausted},
      {"billing_error", Kind::kQuotaExhausted},
      {"exceeded_current_quota_error", Kind::kQuotaExhausted},
      {"invalid_api_key", Kind::kKeyInvalid},
      {"account_deactivated", Kind::kKeyInvalid},
      {"no_organization", Kind::kKeyInvalid},
      {"authentication_error", Kind::kKeyInvalid},
      {"API_KEY_INVALID", Kind::kKeyInvalid},
      {"organization_restricted", Kind::kKeyInvalid},
      {"wrong_api_key", Kind::kKeyInvalid},
      {"invalid_authentication_error", Kind::kKeyInvalid},
      {"unsupported_country_region_territory", Kind::kCallerError},
      {"context_length_exceeded", Kind::kCallerError},
      {"content_filter", Kind::kCallerError},
      {"mismatched_organization", Kind::kPermission},
      {"ip_not_authorized", Kind::kPermission},
      {"permission_error", Kind::kPermission},
      {"DeploymentNotFound", Kind::kPermission},
      {"overloaded_error", Kind::kOverloaded},
      {"engine_overloaded_error", Kind::kOverloaded},
      {"queue_exceeded", Kind::kOverloaded}};
  for (const auto& [code, kind] : codes) {
    for (const int status : {200, 400, 401, 403, 429, 500}) {
      CAPTURE(code, status);
      CHECK(KindOf(status, Error("x", code)) == kind);
      CHECK(KindOf(status, Error("x", "", code)) == kind);
      CHECK(KindOf(status,
                   json{{"error",
                         {{"details", {{{"@type", "x"}, {"reason", code}}}}}}}
                       .dump()) == kind);
      if (status == 200) continue;
      CHECK(KindOf(status, json{{"message", "x"}, {"code", code}}.dump()) ==
            kind);
      CHECK(KindOf(status, json{{"error", "x"}, {"code", code}}.dump()) ==
            kind);
      CHECK(KindOf(status, json{{"error", "x"}, {"type", code}}.dump()) ==
            kind);
    }
  }
}

TEST_CASE("a code beats headers and words", "[classify]") {
  CHECK(
      KindOf(429,
             Error("Rate limit reached, try again in 2s", "insufficient_quota"),
             {{"Retry-After", "1"}, {"x-should-retry", "true"}}) ==
      Kind::kQuotaExhausted);
  CHECK(KindOf(401, Error("insufficient permissions", "invalid_api_key")) ==
        Kind::kKeyInvalid);
  CHECK(KindOf(400, Error("Incorrect API key", "context_length_exceeded")) ==
        Kind::kCallerError);
  CHECK_FALSE(
      Judge(429, Error("try again in 2s", "insufficient_quota")).retry_after);
}

TEST_CASE("quota words in codes of a rate are no quota", "[classify]") {
  CHECK(KindOf(429,
               R"({"message":"Requests per minute limit exceeded",)"
               R"("type":"too_many_requests_error","param":"quota",)"
               R"("code":"request_quota_exceeded"})") == Kind::kRateLimited);
  CHECK(KindOf(429, R"({"message":"x","code":"token_quota_exceeded"})") ==
        Kind::kRateLimited);
  const Verdict local =
      Judge(429, Error("quota exceeded", "", "quota_exceeded"),
            {{"Retry-After", "60"}});
  CHECK(local.kind == Kind::kRateLimited);
  CHECK(local.retry_after == seconds(60));
}

TEST_CASE("only the error object counts, never what lies deeper",
          "[classify][T17]") {
  for (const char* body :
       {R"({"error":{"message":"x","innererror":{"code":"invalid_api_key"}}})",
        R"({"error":{"message":"x","metadata":{"code":"insufficient_quota"}}})",
        R"({"error":{"message":"x","metadata":{"raw":"{\"error\":{}}"}}})",
        R"({"error":{"metadata":{"raw":"{\"code\":\"insufficient_quota\"}"}}})",
        R"({"error":{"message":"x"},"code":"insufficient_quota"})",
        R"({"error":{"message":"x","errors":[{"reason":"API_KEY_INVALID"}]}})",
        R"({"error":{"details":{"reason":"API_KEY_INVALID"}}})",
        R"({"error":{"details":[[{"reason":"API_KEY_INVALID"}]]}})",
        R"({"error":{"message":{"code":"invalid_api_key"}}})",
        R"({"error":[{"code":"invalid_api_key"}]})",
        R"({"request":{"code":"invalid_api_key"},"message":"x"})"}) {
    CAPTURE(body);
    CHECK(KindOf(400, body) == Kind::kCallerError);
    CHECK(KindOf(429, body) == Kind::kRateLimited);
  }
}

// --- Rules 3 to 5 ---

TEST_CASE("402 is a matter of money, whatever it says", "[classify]") {
  for (const char* message :
       {"", "Insufficient Balance", "Incorrect API key",
        "This request requires more credits, or fewer max_tokens. You "
        "requested up to 4096 tokens, but can only afford 12."}) {
    CHECK(KindOf(402, Error(message)) == Kind::kQuotaExhausted);
  }
  CHECK(KindOf(402, "") == Kind::kQuotaExhausted);
}

TEST_CASE("words decide where no code does, in their statuses only",
          "[classify]") {
  struct Row {
    const char* words;
    bool at_start;
    std::vector<int> statuses;
    Kind kind;
  };
  const std::vector<int> key = {400, 401, 403};
  // With a 400 at the start alone, with a 403 in front of what may be a
  // quotation, with the others anywhere.
  const std::vector<int> quota = {400, 401, 403, 429};
  const std::vector<int> spent = {401, 403, 429};
  const std::vector<Row> rows = {
      {"Incorrect API key provided", true, key, Kind::kKeyInvalid},
      {"Invalid API Key", true, key, Kind::kKeyInvalid},
      {"invalid api token", true, key, Kind::kKeyInvalid},
      {"Wrong API Key", true, key, Kind::kKeyInvalid},
      {"API key not valid. Please pass", true, key, Kind::kKeyInvalid},
      {"API key expired. Please renew", true, key, Kind::kKeyInvalid},
      {"Your API key was reported as leaked.", true, key, Kind::kKeyInvalid},
      {"Permission denied: Consumer 'api_key:AIza' has been suspended.", true,
       key, Kind::kKeyInvalid},
      {"This organization has been disabled.", true, key, Kind::kKeyInvalid},
      {"Organization has been restricted.", true, key, Kind::kKeyInvalid},
      {"Authorization failed", true, {403}, Kind::kKeyInvalid},
      {"Not authenticated", true, {403}, Kind::kKeyInvalid},
      {"Your credit balance is too low to", true, quota, Kind::kQuotaExhausted},
      {"You have reached your specified API usage limits. You will regain "
       "access on 2026-04-01 at 00:00 UTC.",
       true, quota, Kind::kQuotaExhausted},
      {"Billing hard limit has been reached", true, quota,
       Kind::kQuotaExhausted},
      {"Your account is not active, please", true, quota,
       Kind::kQuotaExhausted},
      {"Key limit exceeded (monthly limit).", true, quota,
       Kind::kQuotaExhausted},
      {"Account acme is suspended, possibly",
       false,
       {412},
       Kind::kQuotaExhausted},
      {"Request too large for gpt-4o", true, {413, 429}, Kind::kCallerError},
      {"Service tier capacity exceeded for this model.",
       true,
       {429, 503},
       Kind::kOverloaded},
      {"Request not allowed", true, {400, 403}, Kind::kCallerError},
      {"User location is not supported for the API use.",
       true,
       {400, 403},
       Kind::kCallerError},
      {"used all available credits or reached", true, spent,
       Kind::kQuotaExhausted},
      {"its monthly spending limit.", true, spent, Kind::kQuotaExhausted},
      {"1000 API calls / month.", true, spent, Kind::kQuotaExhausted},
      {"limit: 0, model: x", false, {429}, Kind::kQuotaExhausted},
      {"Missing scopes: model.request.", false, {401}, Kind::kPermission},
      {"You have insufficient permissions for this",
       false,
       {401},
       Kind::kPermission},
      {"Your IP address is not authorized", false, {401}, Kind::kPermission},
      {"you do not have access to it.", false, {404}, Kind::kPermission},
      {"The key or team is blocked", true, {403}, Kind::kKeyInvalid},
      {"exceeds the context length", false, {403}, Kind::kCallerError},
      {"and your input was flagged for", false, {403}, Kind::kCallerError},
      {"the request is unsafe", false, {498}, Kind::kCallerError},
      {"violations of the usage guidelines", false, {498}, Kind::kCallerError},
  };
  for (const Row& row : rows) {
    std::string upper = row.words;
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    const std::string inside = "He said: " + std::string(row.words);
    for (const int status :
         {400, 401, 403, 404, 412, 413, 422, 429, 498, 503}) {
      CAPTURE(row.words, status);
      const Kind by_status = KindOf(status, "");
      const Kind expected = std::find(row.statuses.begin(), row.statuses.end(),
                                      status) != row.statuses.end()
                                ? row.kind
                                : by_status;
      CHECK(KindOf(status, Error(row.words)) == expected);
      CHECK(KindOf(status, Error(upper)) == expected);
      CHECK(KindOf(status, Error(std::string(" \n") + row.words)) == expected);
      const bool anywhere =
          !row.at_start || (row.kind == Kind::kQuotaExhausted &&
                            (status == 401 || status == 429));
      CHECK(KindOf(status, Error(inside)) == (anywhere ? expected : by_status));
      // The other members that hold a message.
      for (const char* member : {"error", "message", "detail", "title"}) {
        CHECK(KindOf(status, json{{member, row.words}}.dump()) == expected);
      }
      // And those that do not.
      for (const char* member : {"param", "status", "type", "code", "x"}) {
        CHECK(KindOf(status, json{{"error", {{member, row.words}}}}.dump()) ==
              by_status);
      }
      // A body that is not JSON is not searched.
      CHECK(KindOf(status, row.words) == by_status);
    }
  }
}

TEST_CASE("limit: 0 is not limit: 20 or limit: 0.5", "[classify][T15]") {
  const auto kind = [](const char* text) { return KindOf(429, Error(text)); };
  for (const char* text : {"limit: 0", "limit: 0,", "Limit: 0.", "limit: 0. x",
                           "limit: 20, limit: 0", "limit: 0.5 limit: 0\n"}) {
    CAPTURE(text);
    CHECK(kind(text) == Kind::kQuotaExhausted);
  }
  for (const char* text : {"limit: 20", "limit: 0.5", "limit: 05", "limit: 00",
                           "limit:0", "limit: 1, model: 0"}) {
    CAPTURE(text);
    CHECK(kind(text) == Kind::kRateLimited);
  }
}

TEST_CASE("metadata of OpenRouter", "[classify]") {
  const auto body = [](const char* metadata) {
    return std::string(R"({"error":{"message":"x","metadata":)") + metadata +
           "}}";
  };
  CHECK(KindOf(429,
               body(R"({"raw":"m is temporarily rate-limited upstream."})")) ==
        Kind::kOverloaded);
  CHECK(KindOf(429, body(R"({"raw":"Rate-Limited Upstream"})")) ==
        Kind::kOverloaded);
  CHECK(KindOf(403, body(R"({"raw":"rate-limited upstream"})")) ==
        Kind::kPermission);
  CHECK(KindOf(403, body(R"({"reasons":["x"],"flagged_input":"hello"})")) ==
        Kind::kCallerError);
  CHECK(KindOf(403, body(R"({"flagged_input":""})")) == Kind::kPermission);
  CHECK(KindOf(403, body(R"({"flagged_input":null})")) == Kind::kPermission);
  CHECK(KindOf(400, body(R"({"raw":"Incorrect API key provided"})")) ==
        Kind::kCallerError);
}

TEST_CASE("a prompt that is quoted marks no key", "[classify][T17][P5]") {
  for (const char* phrase :
       {"insufficient_quota", "Incorrect API key provided", "limit: 0",
        "used all available credits", "monthly spending limit",
        "your credit balance is too low", "is blocked", "calls / month",
        "billing_not_active", "context length", "missing scopes"}) {
    CAPTURE(phrase);
    const std::string quoted =
        std::string("Invalid value for 'content': got '") + phrase + "'.";
    CHECK(KindOf(400, Error(quoted, "", "invalid_request_error")) ==
          Kind::kCallerError);
    CHECK(KindOf(422, Error(quoted)) == Kind::kCallerError);
    CHECK(KindOf(500, Error(quoted)) == Kind::kTransient);
    CHECK(KindOf(400, phrase) == Kind::kCallerError);
  }
}

TEST_CASE("numbers in prose are no status", "[classify][P14]") {
  CHECK(KindOf(400, Error("max_tokens must be at most 512")) ==
        Kind::kCallerError);
  CHECK(KindOf(400, Error("Error 429: 401 Unauthorized 503")) ==
        Kind::kCallerError);
  CHECK(KindOf(200, R"({"error":{"message":"HTTP 429"}})") == Kind::kTransient);
  // The status that came over HTTP is the status.
  CHECK(KindOf(400, R"({"error":{"code":429,"message":"x"}})") ==
        Kind::kCallerError);
  CHECK(KindOf(429, R"({"error":{"code":500,"message":"x"}})") ==
        Kind::kRateLimited);
  CHECK(KindOf(400, R"({"status":401,"message":"x"})") == Kind::kCallerError);
}

TEST_CASE("without a code or words the status decides", "[classify]") {
  const auto expect = [](std::vector<int> statuses, Kind kind) {
    for (const int status : statuses) {
      for (const char* body : {"", "{}", "[]", "null", "oops", "{\"error\":{}}",
                               R"({"error":null})", R"({"error":true})",
                               R"({"error":{"message":null,"code":null}})"}) {
        CAPTURE(status, body);
        CHECK(KindOf(status, body) == kind);
      }
    }
  };
  expect({401}, Kind::kKeyInvalid);
  expect({402}, Kind::kQuotaExhausted);
  expect({403}, Kind::kPermission);
  expect({429}, Kind::kRateLimited);
  expect({498, 503, 529}, Kind::kOverloaded);
  expect({408, 409, 425, 499}, Kind::kTransient);
  expect({500, 501, 502, 504, 507, 520, 521, 522, 523, 524, 525, 599},
         Kind::kTransient);
  expect({300, 301, 302, 304, 307, 308}, Kind::kCallerError);
  expect({400, 404, 405, 406, 410, 411, 412, 413, 414, 415,
          416, 417, 418, 421, 422, 424, 426, 428, 431, 451},
         Kind::kCallerError);
  expect({-1, 0, 99, 100, 199, 600, 999}, Kind::kTransient);
}

// --- Rule 6 and hints ---

TEST_CASE("x-should-retry makes a caller's error by status transient, no more",
          "[classify]") {
  const Headers yes{{"X-Should-Retry", "true"}};
  const Headers no{{"x-should-retry", "false"}};
  CHECK(KindOf(400, "", yes) == Kind::kTransient);
  CHECK(KindOf(404, "{}", yes) == Kind::kTransient);
  CHECK(KindOf(400, Error("x", "context_length_exceeded"), yes) ==
        Kind::kCallerError);
  CHECK(KindOf(400, Error("User location is not supported"), yes) ==
        Kind::kCallerError);
  CHECK(KindOf(401, "", yes) == Kind::kKeyInvalid);
  CHECK(KindOf(403, "", yes) == Kind::kPermission);
  CHECK(KindOf(402, "", yes) == Kind::kQuotaExhausted);
  CHECK(KindOf(403, "<html>", yes) == Kind::kCallerError);
  CHECK(KindOf(200, "<html>", yes) == Kind::kCallerError);
  CHECK(KindOf(200, "{}", yes) == Kind::kOk);
  CHECK(KindOf(429, "", no) == Kind::kRateLimited);
  CHECK(KindOf(500, "", no) == Kind::kTransient);

  CHECK(Judge(500, "", yes).should_retry == true);
  CHECK(Judge(500, "", no).should_retry == false);
  CHECK(Judge(200, "{}", no).should_retry == false);
  for (const char* value : {"", "1", "TRUE", "yes", "truefalse"}) {
    CHECK_FALSE(Judge(400, "", {{"x-should-retry", value}}).should_retry);
    CHECK(KindOf(400, "", {{"x-should-retry", value}}) == Kind::kCallerError);
  }
}

TEST_CASE("a hint comes from the first source that is usable", "[classify]") {
  const std::string body =
      R"({"error":{"message":"Please try again in 5s.","details":[)"
      R"({"retryDelay":"4s","@type":)"
      R"("type.googleapis.com/google.rpc.RetryInfo"})"
      R"(],"metadata":{"headers":{"X-RateLimit-Reset":"1768478404500"}}}})";
  const auto wait = [](std::string text, Headers headers) {
    headers.Add("x-ratelimit-remaining-tokens", "0");
    headers.Add("x-ratelimit-reset-tokens", "6s");
    return Judge(429, std::move(text), std::move(headers)).retry_after;
  };
  const auto without = [&](std::string_view from, std::string_view to) {
    std::string text = body;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  CHECK(wait(body, {{"retry-after-ms", "1000"}, {"Retry-After", "2"}}) ==
        seconds(1));
  CHECK(wait(body, {{"retry-after-ms", "-1"}, {"Retry-After", "2"}}) ==
        seconds(2));
  CHECK(wait(body, {{"Retry-After", "0"}}) == seconds(4));
  CHECK(wait(body, {}) == seconds(4));
  CHECK(wait(without("4s", "0s"), {}) == milliseconds(4500));
  CHECK(wait(without("4s", "-4s"), {}) == milliseconds(4500));
  CHECK(wait(without("RetryInfo", "Help"), {}) == milliseconds(4500));
  CHECK(wait(Error("Please try again in 5s."), {}) == seconds(5));
  CHECK(wait(Error("Please try again in 0s."), {}) == seconds(6));
  CHECK(wait("{}", {}) == seconds(6));
  CHECK(wait("", {}) == seconds(6));
  CHECK_FALSE(Judge(429, "").retry_after);
}

TEST_CASE("the words of every kind of body hold a hint", "[classify]") {
  for (const char* body :
       {R"({"error":{"message":"try again in 5s"}})",
        R"({"error":"try again in 5s"})", R"({"message":"try again in 5s"})",
        R"({"detail":"retry after 5 seconds"})",
        R"({"title":"Slow","detail":"retry in 5s"})",
        R"({"error":"Too Many Requests","message":"try again in 5s"})",
        R"({"message":"Too Many Requests","error":"try again in 5s"})",
        R"([{"error":{"message":"try again in 5s"}}])", "try again in 5s",
        "\"try again in 5s\""}) {
    CAPTURE(body);
    CHECK(Judge(429, body).retry_after == seconds(5));
    CHECK(Judge(503, body).retry_after == seconds(5));
    CHECK(Judge(500, body).retry_after == seconds(5));
  }
  // Not from elsewhere, nor from what was cut.
  for (const char* body :
       {R"({"error":{"message":"x","metadata":{"raw":"try again in 5s"}}})",
        R"({"error":{"message":"x"},"message":"try again in 5s"})",
        R"({"error":{"message":"try again in 5s)"}) {
    CAPTURE(body);
    CHECK_FALSE(Judge(429, body).retry_after);
  }
}

TEST_CASE("only what may be waited out has a hint", "[classify]") {
  for (int status = 300; status < 600; ++status) {
    const Verdict verdict = Judge(status, "", {{"Retry-After", "5"}});
    CAPTURE(status);
    CHECK(HintIsSound(verdict));
    CHECK(verdict.retry_after.has_value() ==
          (verdict.kind == Kind::kRateLimited ||
           verdict.kind == Kind::kOverloaded ||
           verdict.kind == Kind::kTransient));
  }
  CHECK_FALSE(Judge(200, "{}", {{"Retry-After", "5"}}).retry_after);
}

TEST_CASE("a hint is found at any place of a message", "[classify][T7]") {
  for (const std::size_t before : {0u, 2'000u, 65'600u, 200'000u}) {
    const std::string message = std::string(before, 'x') +
                                " try again in 7s. " + std::string(9000, 'y');
    CAPTURE(before);
    const Verdict verdict = Judge(429, Error(message, "rate_limit_exceeded"));
    CHECK(verdict.retry_after == seconds(7));
    CHECK(verdict.message.size() <= 2048);
  }
}

// --- Provider by provider: what the documents say, where no vector does ---

TEST_CASE("OpenAI, documented", "[classify][openai]") {
  CHECK(
      KindOf(401, Error("You have insufficient permissions for this "
                        "operation. Missing scopes: model.request. Check that "
                        "you have the correct role",
                        "", "invalid_request_error")) == Kind::kPermission);
  CHECK(KindOf(429,
               Error("Request too large for gpt-4o in organization org-X "
                     "on tokens per min (TPM): Limit 30000, Requested "
                     "61337. The input or output tokens must be reduced in "
                     "order to run successfully.",
                     "rate_limit_exceeded", "tokens")) == Kind::kCallerError);
  CHECK(KindOf(429, Error("Your account is not active, please check your "
                          "billing details on our website.",
                          "", "")) == Kind::kQuotaExhausted);
  CHECK(KindOf(400, Error("Billing hard limit has been reached",
                          "billing_hard_limit_reached",
                          "invalid_request_error")) == Kind::kQuotaExhausted);
  CHECK(KindOf(401, Error("Incorrect API key provided: sk-a***b.",
                          "invalid_api_key", "invalid_request_error")) ==
        Kind::kKeyInvalid);
  CHECK(KindOf(404, Error("Unknown request URL", "unknown_url",
                          "invalid_request_error")) == Kind::kCallerError);
  // The free tier's rate limit speaks of payment.
  CHECK(KindOf(429, Error("Rate limit reached for gpt-3.5-turbo. Please try "
                          "again in 20s. Please add a payment method to your "
                          "account to increase your rate limit. Visit "
                          "https://platform.openai.com/account/billing",
                          "rate_limit_exceeded", "requests")) ==
        Kind::kRateLimited);
}

TEST_CASE("Anthropic, documented", "[classify][anthropic]") {
  const auto error = [](const char* type, const char* message) {
    return json{{"type", "error"},
                {"error", {{"type", type}, {"message", message}}},
                {"request_id", "req_1"}}
        .dump();
  };
  CHECK(KindOf(400,
               error("invalid_request_error",
                     "You have reached your specified API usage limits. "
                     "You will regain access on 2026-04-01 at 00:00 UTC.")) ==
        Kind::kQuotaExhausted);
  CHECK(KindOf(400, error("invalid_request_error",
                          "This organization has been disabled.")) ==
        Kind::kKeyInvalid);
  CHECK(KindOf(404, error("not_found_error", "model: x")) ==
        Kind::kCallerError);
  CHECK(
      KindOf(413, error("request_too_large", "Request exceeds the maximum")) ==
      Kind::kCallerError);
  CHECK(KindOf(529, error("overloaded_error", "Overloaded")) ==
        Kind::kOverloaded);
  CHECK(KindOf(429, error("rate_limit_error", "x")) == Kind::kRateLimited);
  const Verdict reset =
      Judge(429, error("rate_limit_error", "x"),
            {{"anthropic-ratelimit-input-tokens-remaining", "0"},
             {"anthropic-ratelimit-input-tokens-reset", "2026-01-15T12:00:20Z"},
             {"anthropic-ratelimit-requests-remaining", "3"},
             {"anthropic-ratelimit-requests-reset", "2026-01-15T13:00:00Z"}});
  CHECK(reset.retry_after == seconds(20));
}

TEST_CASE("Gemini, documented", "[classify][gemini]") {
  CHECK(KindOf(429, R"([{"error":{"code":429,"message":"You exceeded your )"
                    R"(current quota, please check your plan and billing )"
                    R"(details.\n* Quota exceeded for metric: x, limit: 0, )"
                    R"(model: gemini-2.5-pro\nPlease retry in 26s.",)"
                    R"("status":"RESOURCE_EXHAUSTED","details":[{"@type":)"
                    R"("type.googleapis.com/google.rpc.RetryInfo",)"
                    R"("retryDelay":"26s"}]}}])") == Kind::kQuotaExhausted);
  const Verdict bare =
      Judge(429, R"([{"error":{"code":429,"message":"Resource has been )"
                 R"(exhausted (e.g. check quota).","status":)"
                 R"("RESOURCE_EXHAUSTED"}}])");
  CHECK(bare.kind == Kind::kRateLimited);
  CHECK_FALSE(bare.retry_after);
  const Verdict nanos = Judge(
      429,
      R"({"error":{"code":429,"message":"You exceeded your current quota",)"
      R"("details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo",)"
      R"("retryDelay":"45.837906927s"}]}})");
  CHECK(nanos.kind == Kind::kRateLimited);
  CHECK(nanos.retry_after == milliseconds(45838));
}

TEST_CASE("Azure, documented", "[classify][azure]") {
  const Verdict both =
      Judge(429, Error("Too Many Requests", "429"),
            {{"retry-after-ms", "1234"}, {"Retry-After", "2"}});
  CHECK(both.kind == Kind::kRateLimited);
  CHECK(both.retry_after == milliseconds(1234));
  const Verdict unknown = Judge(429, Error("Too Many Requests", "429"),
                                {{"x-ratelimit-limit-tokens", "-1"},
                                 {"x-ratelimit-remaining-tokens", "-1"},
                                 {"x-ratelimit-reset-tokens", "0"}});
  CHECK(unknown.kind == Kind::kRateLimited);
  CHECK_FALSE(unknown.retry_after);
  CHECK(KindOf(400,
               R"({"error":{"code":"content_filter","message":"x",)"
               R"("innererror":{"code":"ResponsibleAIPolicyViolation"}}})") ==
        Kind::kCallerError);
}

TEST_CASE("the other providers, documented", "[classify]") {
  // Groq
  const Verdict day = Judge(
      429,
      Error("Rate limit reached for model `x` in organization `o` on tokens "
            "per day (TPD): Limit 100000, Used 99000, Requested 9000. "
            "Please try again in 9m38.016s. Need more tokens? Upgrade at "
            "https://console.groq.com/settings/billing",
            "rate_limit_exceeded", "tokens"));
  CHECK(day.kind == Kind::kRateLimited);
  CHECK(day.retry_after == milliseconds(578016));
  CHECK(KindOf(499, Error("cancelled")) == Kind::kTransient);
  // OpenRouter
  const Verdict free = Judge(
      429,
      R"({"error":{"message":"Rate limit exceeded: free-models-per-day. Add)"
      R"( 10 credits to unlock","code":429,"metadata":{"headers":)"
      R"({"X-RateLimit-Limit":"50","X-RateLimit-Remaining":"0",)"
      R"("X-RateLimit-Reset":"1768521600000"}}},"user_id":"u"})");
  CHECK(free.kind == Kind::kRateLimited);
  CHECK(free.retry_after == hours(12));
  CHECK(KindOf(403, R"({"error":{"message":"Your chosen model requires )"
                    R"(moderation and your input was flagged","code":403,)"
                    R"("metadata":{"reasons":["x"],"flagged_input":"y"}}})") ==
        Kind::kCallerError);
  CHECK(KindOf(502, R"({"error":{"message":"x","code":502}})") ==
        Kind::kTransient);
  // Mistral
  CHECK(KindOf(401, R"({"message":"Unauthorized","request_id":"x"})") ==
        Kind::kKeyInvalid);
  CHECK(KindOf(503,
               R"({"object":"error","message":"Service tier capacity )"
               R"(exceeded for this model.","type":"invalid_request_error",)"
               R"("code":null})") == Kind::kOverloaded);
  // xAI
  const char* spent =
      R"({"code":"Some resource has been exhausted","error":"Your team x has )"
      R"(either used all available credits or reached its monthly spending )"
      R"(limit."})";
  CHECK(KindOf(429, spent) == Kind::kQuotaExhausted);
  CHECK(KindOf(403, spent) == Kind::kQuotaExhausted);
  CHECK(KindOf(403, R"({"code":"x","error":"The API key is blocked."})") ==
        Kind::kKeyInvalid);
  // Cerebras
  CHECK(KindOf(403, R"({"detail":"Not authenticated"})") == Kind::kKeyInvalid);
  // Together
  CHECK(Judge(429, Error("x"),
              {{"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "2"}})
            .retry_after == seconds(2));
  CHECK(KindOf(529, Error("x")) == Kind::kOverloaded);
  // Fireworks
  CHECK(KindOf(412,
               R"({"error":{"code":"PRECONDITION_FAILED","message":)"
               R"("Account acme is suspended, possibly due to reaching )"
               R"(the monthly spending limit"}})") == Kind::kQuotaExhausted);
  CHECK(KindOf(412, R"({"error":{"code":"PRECONDITION_FAILED","message":)"
                    R"("LoRA x failed to load"}})") == Kind::kCallerError);
  CHECK(KindOf(429, R"({"error":"Too Many Requests","message":"x"})") ==
        Kind::kRateLimited);
  CHECK(KindOf(200, "{}", {{"x-ratelimit-over-limit", "yes"}}) == Kind::kOk);
  // Moonshot
  CHECK(KindOf(401,
               R"({"error":{"message":"Invalid Authentication","type":)"
               R"("invalid_authentication_error"}})") == Kind::kKeyInvalid);
  // llama.cpp
  CHECK(KindOf(503, R"({"error":{"code":503,"message":"Loading model",)"
                    R"("type":"unavailable_error"}})") == Kind::kOverloaded);
  // Ollama
  CHECK(KindOf(429, R"({"error":"too many requests"})") == Kind::kRateLimited);
}

// --- What a verdict tells ---

TEST_CASE("the code is the code as text, else the type, else the number",
          "[classify]") {
  CHECK(Judge(429, Error("x", "c", "t")).code == "c");
  CHECK(Judge(429, Error("x", "", "t")).code == "t");
  CHECK(Judge(429, R"({"error":{"code":429,"type":"t"}})").code == "t");
  CHECK(Judge(429, R"({"error":{"code":429}})").code == "429");
  CHECK(Judge(429, R"({"error":{"code":"","type":"t"}})").code == "t");
  CHECK(Judge(429, R"({"message":"x","code":"1300"})").code == "1300");
  CHECK(Judge(429, R"({"code":"a sentence","error":"x"})").code ==
        "a sentence");
  CHECK(Judge(429, "").code.empty());
  CHECK(Judge(429, R"({"error":{"code":1e308}})").code.size() <= 256);
  CHECK(Judge(429, Error("x", std::string(9000, 'c'))).code.size() == 256);
}

TEST_CASE("the message is the provider's, shortened between characters",
          "[classify]") {
  CHECK(Judge(429, Error("slow down")).message == "slow down");
  CHECK(Judge(429, R"({"error":"Too Many","message":"slow down"})").message ==
        "slow down");
  CHECK(Judge(403, R"({"status":403,"title":"Forbidden","detail":"no"})")
            .message == "no");
  CHECK(Judge(429, "Too Many Requests\n").message == "Too Many Requests");
  for (const std::string part : {"x", "\u00e9", "\u20ac", "\U0001F600"}) {
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::string text(shift, 'a');
      while (text.size() < 5000) text += part;
      const std::string message = Judge(429, Error(text)).message;
      CHECK(message.size() <= 2048);
      CHECK(message.size() > 2048 - 4);
      CHECK(text.starts_with(message));
      CHECK(json::accept("\"" + message + "\""));
    }
  }
}

// --- Hostile bodies ---

TEST_CASE("what the JSON reader refuses leaves the status to decide",
          "[classify]") {
  const std::string quota = R"("code":"insufficient_quota")";
  for (const std::string& body :
       {"{\"error\":{" + quota, "{\"error\":{" + quota + "}",
        "{\"error\":{" + quota + ",\"message\":\"\\ud800\"}}",
        "{\"error\":{" + quota + ",\"message\":\"\xff\"}}",
        "{\"error\":{" + quota + ",\"message\":\"\xc3\"}}",
        "{\"error\":{" + quota + ",\"param\":1e999}}",
        "{\"error\":{" + quota + ",\"message\":\"a\nb\"}}",
        "{\"error\":{" + quota + ",}}", "{\"error\":{" + quota + "]}",
        "{\"x\":" + std::string(100, '[') + std::string(100, ']') +
            ",\"error\":{" + quota + "}}"}) {
    CAPTURE(body);
    CHECK(KindOf(429, body) == Kind::kRateLimited);
    CHECK(KindOf(400, body) == Kind::kCallerError);
    CHECK(KindOf(500, body) == Kind::kTransient);
    CHECK(KindOf(200, body) == Kind::kTransient);
  }
}

TEST_CASE("deep nesting is refused without a stack", "[classify]") {
  for (const char* open : {"[", "{\"error\":", "[{\"error\":"}) {
    std::string body;
    for (int i = 0; i < 100'000; ++i) body += open;
    for (const int status : {200, 400, 429, 500}) {
      CAPTURE(open, status);
      CHECK(KindOf(status, body) == KindOf(status, "{"));
    }
    CHECK(ClassifyEvent("error", body, kNow)->kind == Kind::kTransient);
    CHECK_FALSE(ClassifyEvent("", body, kNow));
  }
  // Right up to the limit it is read.
  const auto nested = [](std::size_t deep) {
    return R"({"error":{"code":"insufficient_quota","x":)" +
           std::string(deep, '[') + std::string(deep, ']') + "}}";
  };
  CHECK(KindOf(429, nested(62)) == Kind::kQuotaExhausted);
  CHECK(KindOf(429, nested(63)) == Kind::kRateLimited);
}

TEST_CASE("no more than 256 KiB of an error are read", "[classify][T1]") {
  const std::string error = Error("x", "insufficient_quota");
  const std::size_t most = 256 * 1024;
  CHECK(KindOf(429, std::string(most - error.size(), ' ') + error) ==
        Kind::kQuotaExhausted);
  CHECK(KindOf(429, std::string(most - error.size() + 1, ' ') + error) ==
        Kind::kRateLimited);
  CHECK(KindOf(429, error + std::string(most, ' ')) == Kind::kQuotaExhausted);
  CHECK(KindOf(429, std::string(64 << 20, ' ') + error) == Kind::kRateLimited);
}

TEST_CASE("a very long string beside an error does not hide it", "[classify]") {
  for (const char* part :
       {"x", "\\n", "\\\"", "\\\\", "\\ud83d\\ude00", "\u20ac",
        "xxxxxxxxxxxxxxx\\ud83d\\ude00", "xxxxxxxxxxxxxxx\U0001F600",
        "xxxxxxxxxxxxxxx\\\"", "xxxxxxxxxxxxxxx\\\\"}) {
    for (std::size_t shift = 0; shift < 4; ++shift) {
      std::string text(shift, 'a');
      while (text.size() < 600'000) text += part;
      CAPTURE(part, shift);
      CHECK(KindOf(200, R"({"a":")" + text + R"(","error":{"code":429}})") ==
            Kind::kRateLimited);
      CHECK(KindOf(200, R"({"error":{"message":")" + text +
                            R"(","code":"insufficient_quota"}})") ==
            Kind::kQuotaExhausted);
      CHECK(KindOf(200, R"({"error":{"code":429},"a":")" + text) ==
            Kind::kTransient);
    }
  }
}

TEST_CASE("a success that is too long to be read counts as good",
          "[classify]") {
  std::string numbers = "[0";
  while (numbers.size() < 400'000) numbers += ",1234567";
  numbers += "]";
  // A tool's error, which is none of the answer's, makes it be looked into.
  const std::string tool = R"("output":[{"type":"mcp_call","error":"x"}])";
  CHECK(KindOf(200, "{" + tool + ",\"a\":" + numbers + "}") == Kind::kOk);
  CHECK(KindOf(200, "{" + tool + ",\"a\":" + numbers) == Kind::kTransient);
}

TEST_CASE("the last of duplicate members counts, whatever it is",
          "[classify]") {
  const auto kind = [](const char* body) { return KindOf(429, body); };
  CHECK(kind(R"({"error":{"code":"insufficient_quota"},"error":null})") ==
        Kind::kRateLimited);
  CHECK(kind(R"({"error":null,"error":{"code":"insufficient_quota"}})") ==
        Kind::kQuotaExhausted);
  CHECK(kind(R"({"error":{"code":"insufficient_quota","code":["x"]}})") ==
        Kind::kRateLimited);
  CHECK(kind(R"({"error":{"code":"insufficient_quota","code":1}})") ==
        Kind::kRateLimited);
  CHECK(kind(R"({"error":{"details":[{"reason":"API_KEY_INVALID"}],)"
             R"("details":[]}})") == Kind::kRateLimited);
  CHECK(kind(R"({"error":{"metadata":{"raw":"rate-limited upstream"},)"
             R"("metadata":1}})") == Kind::kRateLimited);
  CHECK(kind(R"({"code":"insufficient_quota","code":{}})") ==
        Kind::kRateLimited);
  CHECK(KindOf(200, R"({"error":{"code":429},"error":null})") == Kind::kOk);
  CHECK(KindOf(200, R"({"choices":[{"error":{"code":429}}],"choices":[]})") ==
        Kind::kOk);
  CHECK(KindOf(200, R"({"choices":[{"error":{"code":429},"error":null}]})") ==
        Kind::kOk);
}

// --- Events ---

std::optional<Kind> EventKind(std::string_view event, std::string_view data) {
  const auto verdict = ClassifyEvent(event, data, kNow);
  return verdict ? std::optional(verdict->kind) : std::nullopt;
}

TEST_CASE("an event that holds an error is that error", "[event][S16]") {
  CHECK(EventKind("",
                  R"({"error":{"message":"boom","type":"InternalServerError",)"
                  R"("param":null,"code":500}})") == Kind::kTransient);
  // OpenRouter: an ordinary chunk with an error in it.
  CHECK(EventKind("", R"({"id":"g","choices":[],"error":{"code":429,"message":)"
                      R"("Rate limit exceeded"}})") == Kind::kRateLimited);
  CHECK(EventKind("", R"({"error":{"code":"server_error","message":"x"},)"
                      R"("choices":[{"delta":{"content":""},"finish_reason":)"
                      R"("error"}]})") == Kind::kTransient);
  CHECK(EventKind("", R"({"choices":[{"error":{"code":502}}]})") ==
        Kind::kTransient);
  CHECK(EventKind("", R"({"error":{"message":"x","code":503}})") ==
        Kind::kOverloaded);
  CHECK(EventKind("", R"([{"error":{"code":429,"message":"x"}}])") ==
        Kind::kRateLimited);
  CHECK(EventKind("", R"({"error":"Overloaded"})") == Kind::kTransient);
  CHECK(EventKind("message", Error("x", "insufficient_quota")) ==
        Kind::kQuotaExhausted);
  CHECK(EventKind("", Error("x", "invalid_api_key")) == Kind::kKeyInvalid);
}

TEST_CASE("Anthropic's error event", "[event]") {
  const auto kind = [](const char* type) {
    return EventKind(
        "error",
        json{{"type", "error"}, {"error", {{"type", type}, {"message", "x"}}}}
            .dump());
  };
  CHECK(kind("overloaded_error") == Kind::kOverloaded);
  CHECK(kind("rate_limit_error") == Kind::kRateLimited);
  CHECK(kind("api_error") == Kind::kTransient);
  CHECK(kind("timeout_error") == Kind::kTransient);
  CHECK(kind("authentication_error") == Kind::kKeyInvalid);
  CHECK(kind("billing_error") == Kind::kQuotaExhausted);
  CHECK(kind("permission_error") == Kind::kPermission);
}

TEST_CASE("the Responses API's errors", "[event]") {
  const char* flat =
      R"({"type":"error","code":"server_error","message":"x","param":null,)"
      R"("sequence_number":1})";
  CHECK(EventKind("error", flat) == Kind::kTransient);
  CHECK(EventKind("", flat) == Kind::kTransient);
  CHECK(ClassifyEvent("error", flat, kNow)->code == "server_error");
  const char* failed =
      R"({"type":"response.failed","sequence_number":1,"response":{"id":"r",)"
      R"("status":"failed","error":{"code":"rate_limit_exceeded","message":)"
      R"("Please try again in 3s."},"output":[]}})";
  for (const char* name : {"response.failed", ""}) {
    const auto verdict = ClassifyEvent(name, failed, kNow);
    REQUIRE(verdict);
    CHECK(verdict->kind == Kind::kRateLimited);
    CHECK(verdict->retry_after == seconds(3));
    CHECK(verdict->code == "rate_limit_exceeded");
  }
  CHECK(EventKind("response.failed",
                  R"({"type":"response.failed","response":{"error":null}})") ==
        Kind::kTransient);
  for (const char* name : {"response.created", "response.in_progress",
                           "response.completed", "response.incomplete"}) {
    CHECK_FALSE(EventKind(
        name, json{{"type", name},
                   {"response", {{"error", nullptr}, {"status", "x"}}}}
                  .dump()));
  }
}

TEST_CASE("an event named error is one, whatever it holds", "[event]") {
  for (const char* data : {"", "{}", "overloaded", R"({"error":null})",
                           R"({"error":{"mess)", "[]", "null", "\xff"}) {
    CAPTURE(data);
    CHECK(EventKind("error", data) == Kind::kTransient);
  }
  CHECK(ClassifyEvent("error", "try again in 4s", kNow)->retry_after ==
        seconds(4));
  CHECK(ClassifyEvent("error", "overloaded", kNow)->message == "overloaded");
}

TEST_CASE("an event without an error is none", "[event]") {
  for (const char* data :
       {"", "[DONE]", "{}", R"({"choices":[],"error":null})", R"({"error":{}})",
        R"({"error":""})", R"({"error":false})",
        R"({"choices":[{"delta":{"content":"{\"error\":{\"code\":429}}"}}]})",
        R"({"choices":[{"delta":{"content":"\"error\""}}]})",
        R"({"choices":[{"delta":{"content":"x"},"finish_reason":"error"}]})",
        R"({"type":"response.output_item.done","item":{"error":"x"}})",
        R"({"type":"response.output_text.delta","delta":"error"})",
        R"({"choices":[{"delta":{"tool_calls":[{"error":{"code":429}}]}}]})",
        R"({"error":{"mess)", R"({"delta":"error"})", "\"error\"", "error"}) {
    CAPTURE(data);
    CHECK_FALSE(EventKind("", data));
    CHECK_FALSE(EventKind("message", data));
  }
  CHECK_FALSE(EventKind("ping", R"({"type": "ping"})"));
  CHECK_FALSE(EventKind("Error", "{}"));
}

TEST_CASE("bytes of an event that are not UTF-8 do not hide its error",
          "[event]") {
  const auto verdict = ClassifyEvent(
      "", "{\"error\":{\"code\":429,\"message\":\"slow \xff\xc0 down\"}}",
      kNow);
  REQUIRE(verdict);
  CHECK(verdict->kind == Kind::kRateLimited);
  CHECK(verdict->message == "slow \uFFFD\uFFFD down");
}

TEST_CASE("the hints of an event", "[event]") {
  const auto verdict =
      ClassifyEvent("",
                    R"({"error":{"code":429,"metadata":{"headers":)"
                    R"({"X-RateLimit-Reset":"1768478460000"}}}})",
                    kNow);
  REQUIRE(verdict);
  CHECK(verdict->retry_after == seconds(60));
}

}  // namespace
}  // namespace keyrotator::openai_classify_test
