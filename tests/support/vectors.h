// File: vectors.h
//
// The answers of tests/openai/vectors/, as tests read them.
//
// Example:
//   for (const nlohmann::json& row : ReadVectors("responses.json"))
//     CHECK(Classify(ResponseOf(row), NowOf(row)).kind == ...);

#ifndef KEYROTATOR_TESTS_SUPPORT_VECTORS_H_
#define KEYROTATOR_TESTS_SUPPORT_VECTORS_H_

#include <chrono>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "keyrotator/http/message.h"

#ifndef KEYROTATOR_TEST_VECTORS
#error "define KEYROTATOR_TEST_VECTORS as the folder of the test vectors"
#endif

namespace keyrotator::testing {

// Throws if there is no such file.
inline nlohmann::json ReadVectors(const std::string& name) {
  std::ifstream file(KEYROTATOR_TEST_VECTORS "/" + name);
  return nlohmann::json::parse(file);
}

inline HttpResponse ResponseOf(const nlohmann::json& row) {
  HttpResponse response;
  response.status = row["status"];
  response.body = row["body"];
  for (const auto& [name, value] : row["headers"].items())
    response.headers.Add(name, value);
  return response;
}

// When it came; unless it says so, Thu, 15 Jan 2026 12:00:00 GMT.
inline std::chrono::system_clock::time_point NowOf(const nlohmann::json& row) {
  return std::chrono::system_clock::time_point(std::chrono::milliseconds(
      row.value("now_ms", std::int64_t{1'768'478'400'000})));
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_VECTORS_H_
