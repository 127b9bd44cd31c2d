#include "keyrotator/openai/multipart_model.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::openai_multipart_model_test {
namespace {

using internal::HeaderParameter;
using internal::IsMultipart;
using internal::MultipartModel;

constexpr std::string_view kType = "multipart/form-data; boundary=b-1";

std::string Part(std::string_view head, std::string_view value) {
  return std::string("--b-1\r\n")
      .append(head)
      .append("\r\n\r\n")
      .append(value)
      .append("\r\n");
}
std::string Field(std::string_view name, std::string_view value) {
  return Part(
      "Content-Disposition: form-data; name=\"" + std::string(name) + "\"",
      value);
}
std::string File(std::string_view content) {
  return Part(
      "Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n"
      "Content-Type: audio/mpeg",
      content);
}
constexpr std::string_view kEnd = "--b-1--\r\n";

std::string ModelOf(const std::string& body) {
  return MultipartModel(kType, body);
}

TEST_CASE("the part \"model\" names the model, wherever it stands",
          "[request_model]") {
  const std::string model = Field("model", "whisper-1");
  const std::string end(kEnd);
  CHECK(ModelOf(model + end) == "whisper-1");
  CHECK(ModelOf(Field("language", "en") + model + File("data") + end) ==
        "whisper-1");
  CHECK(ModelOf(File("data") + model + end) == "whisper-1");
  CHECK(ModelOf("preamble\r\n" + model + end) == "whisper-1");
}

TEST_CASE("a file of any size may stand before or behind the model",
          "[request_model]") {
  const std::string file = File(std::string(1 << 20, '\r'));
  const std::string model = Field("model", "whisper-1");
  CHECK(ModelOf(model + file + std::string(kEnd)) == "whisper-1");
  CHECK(ModelOf(file + model + std::string(kEnd)) == "whisper-1");
  // Too far from either end to be looked for.
  CHECK(ModelOf(file + model + file + std::string(kEnd)).empty());
}

TEST_CASE("heads and boundaries are read as HTTP clients write them",
          "[request_model]") {
  const std::string end(kEnd);
  CHECK(ModelOf(Part("content-disposition:form-data;name=model", "m") + end) ==
        "m");
  CHECK(ModelOf(Part("Content-Type: text/plain\r\nContent-Disposition: "
                     "form-data; name=\"model\"",
                     "m") +
                end) == "m");
  const std::string body = Field("model", "m") + end;
  for (const char* type :
       {"Multipart/Form-Data; Boundary=\"b-1\"",
        "multipart/form-data;boundary=b-1; charset=utf-8",
        "multipart/form-data; note=\"; boundary=no\"; boundary=b-1"}) {
    CAPTURE(type);
    CHECK(IsMultipart(type));
    CHECK(MultipartModel(type, body) == "m");
  }
  CHECK_FALSE(IsMultipart("application/json"));
  CHECK_FALSE(IsMultipart(""));
}

TEST_CASE("what is no model is not taken for one", "[request_model]") {
  const std::string end(kEnd);
  const std::string body = GENERATE_COPY(
      std::string(), end, Field("models", "m") + end,
      Field("prompt", "name=\"model\"\r\n\r\nm") + end,
      Part("Content-Disposition: form-data; name=\"a\"; filename=\"model\"",
           "m") +
          end,
      Part("Content-Disposition: form-data; name=\"model\"; filename=\"a\"",
           "m") +
          end,
      Part("X-Other: form-data; name=\"model\"", "m") + end,
      Part("", "m") + end, Field("model", std::string(2000, 'm')) + end,
      Field("model", "\xff") + end,
      std::string("--b-1\r\nContent-Disposition: form-data; name=\"model\"\r\n"
                  "\r\nnot ended"),
      std::string("{\"model\": \"m\"}"));
  CAPTURE(body);
  CHECK(ModelOf(body).empty());
}

TEST_CASE("without a boundary there are no parts", "[request_model]") {
  const std::string body = Field("model", "m") + std::string(kEnd);
  for (const char* type :
       {"multipart/form-data", "multipart/form-data; ",
        "multipart/form-data; boundary=", "multipart/form-data; boundary=\"",
        "multipart/form-data; boundary=other"}) {
    CAPTURE(type);
    CHECK(MultipartModel(type, body).empty());
  }
}

TEST_CASE("a parameter of a header field is read with and without quotes",
          "[request_model]") {
  CHECK(HeaderParameter("a; b=c; d=\"e f\"", "b") == "c");
  CHECK(HeaderParameter("a; b=c; d=\"e f\"", "d") == "e f");
  CHECK(HeaderParameter("a; b=c", "e").empty());
  CHECK(HeaderParameter("b=c", "b").empty());
  CHECK(HeaderParameter("", "b").empty());
}

}  // namespace
}  // namespace keyrotator::openai_multipart_model_test
