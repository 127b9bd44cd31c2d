// File: testing/fake_endpoints.h
//
// The endpoints of a fake provider besides chat: embeddings, pictures, speech,
// transcriptions, moderations, files, models. Each answers what is enough for a
// client library to be content, the same every time; a file that was uploaded
// is not kept. For FakeBackend alone.
//
// Example:
//   namespace fake = keyrotator::testing::fake_internal;
//   assert(fake::FindApi("POST", "/v1/embeddings") ==
//          fake::FakeApi::kEmbeddings);

#ifndef KEYROTATOR_TESTING_FAKE_ENDPOINTS_H_
#define KEYROTATOR_TESTING_FAKE_ENDPOINTS_H_

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace keyrotator::testing::fake_internal {

enum class FakeApi {
  kChat,
  kResponses,
  kEmbeddings,
  kImages,
  kSpeech,
  kTranscriptions,
  kModerations,
  kUpload,       // of a file
  kFiles,        // the list
  kFile,         // what is known of one
  kFileContent,  // one itself
  kDeleteFile,
  kModels,
  kModel,
  kUnknown
};

struct FakeEndpoint {
  std::string_view method;
  std::string_view path;  // its end; * for one part of any text
  FakeApi api;
  bool asks_model;   // so that it is limited
  bool needs_model;  // must name one
};

inline constexpr FakeEndpoint kFakeEndpoints[] = {
    {"POST", "/chat/completions", FakeApi::kChat, true, true},
    {"POST", "/responses", FakeApi::kResponses, true, true},
    {"POST", "/embeddings", FakeApi::kEmbeddings, true, true},
    {"POST", "/images/generations", FakeApi::kImages, true, false},
    {"POST", "/images/edits", FakeApi::kImages, true, false},
    {"POST", "/images/variations", FakeApi::kImages, true, false},
    {"POST", "/audio/speech", FakeApi::kSpeech, true, true},
    {"POST", "/audio/transcriptions", FakeApi::kTranscriptions, true, true},
    {"POST", "/audio/translations", FakeApi::kTranscriptions, true, true},
    {"POST", "/moderations", FakeApi::kModerations, true, false},
    {"POST", "/files", FakeApi::kUpload, false, false},
    {"GET", "/files", FakeApi::kFiles, false, false},
    {"GET", "/files/*", FakeApi::kFile, false, false},
    {"GET", "/files/*/content", FakeApi::kFileContent, false, false},
    {"DELETE", "/files/*", FakeApi::kDeleteFile, false, false},
    {"GET", "/models", FakeApi::kModels, false, false},
    {"GET", "/models/*", FakeApi::kModel, false, false},
};

// Whether `path` ends with `pattern`, each part of which is itself or a star.
inline bool EndsLike(std::string_view path, std::string_view pattern) {
  while (!pattern.empty()) {
    const std::size_t from = path.rfind('/');
    const std::size_t part = pattern.rfind('/');
    if (from == path.npos) return false;
    const std::string_view wanted = pattern.substr(part + 1);
    const std::string_view found = path.substr(from + 1);
    if (wanted == "*" ? found.empty() : found != wanted) return false;
    path = path.substr(0, from);
    pattern = pattern.substr(0, part);
  }
  return true;
}

inline FakeEndpoint FindEndpoint(std::string_view method,
                                 std::string_view path) {
  for (const FakeEndpoint& endpoint : kFakeEndpoints) {
    if (endpoint.method == method && EndsLike(path, endpoint.path))
      return endpoint;
  }
  return {"", "", FakeApi::kUnknown, false, false};
}
inline FakeApi FindApi(std::string_view method, std::string_view path) {
  return FindEndpoint(method, path).api;
}

// The value of a field of a multipart body; empty if there is none.
inline std::string FormField(std::string_view body, const std::string& name) {
  const std::string head = "name=\"" + name + "\"\r\n\r\n";
  const std::size_t at = body.find(head);
  if (at == body.npos) return {};
  body.remove_prefix(at + head.size());
  return std::string(body.substr(0, body.find("\r\n")));
}

// ---- The answers ----

// A vector for each input: of numbers, or, as clients ask for it, of the same
// in base64.
inline std::string EmbeddingsBody(const nlohmann::json& request,
                                  const std::string& model) {
  using Json = nlohmann::json;
  const Json input = request.value("input", Json());
  // A list of numbers is one text, in tokens.
  const bool many = input.is_array() && !input.empty() && !input[0].is_number();
  const bool base64 = request.value("encoding_format", Json()) == "base64";
  Json data = Json::array();
  for (std::size_t i = 0; i < (many ? input.size() : 1); ++i) {
    data.push_back({{"object", "embedding"},
                    {"index", i},
                    {"embedding", base64 ? Json("AACAPgAAAD8AAEA/")
                                         : Json({0.25, 0.5, 0.75})}});
  }
  return Json({{"object", "list"},
               {"model", model},
               {"data", data},
               {"usage", {{"prompt_tokens", 1}, {"total_tokens", 1}}}})
      .dump();
}

inline std::string ImagesBody() {
  // A PNG of one pixel.
  return R"({"created":0,"data":[{"b64_json":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="}]})";
}

// The beginning of an MP3 file, and then every byte.
inline std::string SpeechBody() {
  std::string body = "ID3";
  for (int byte = 0; byte < 256; ++byte) body += static_cast<char>(byte);
  return body;
}

inline std::string ModerationsBody(const std::string& model) {
  return nlohmann::json(
             {{"id", "modr-fake"},
              {"model", model.empty() ? "omni-moderation-latest" : model},
              {"results",
               {{{"flagged", false},
                 {"categories", {{"violence", false}}},
                 {"category_scores", {{"violence", 0.01}}}}}}})
      .dump();
}

inline std::string FileBody(const std::string& id, std::size_t bytes) {
  return nlohmann::json({{"id", id},
                         {"object", "file"},
                         {"bytes", bytes},
                         {"created_at", 0},
                         {"filename", "fake.jsonl"},
                         {"purpose", "batch"},
                         {"status", "processed"}})
      .dump();
}

}  // namespace keyrotator::testing::fake_internal

#endif  // KEYROTATOR_TESTING_FAKE_ENDPOINTS_H_
