// What more than one example needs: settings from the environment, and the text
// in an event of a stream.

#ifndef KEYROTATOR_EXAMPLES_COMMON_H_
#define KEYROTATOR_EXAMPLES_COMMON_H_

#include <keyrotator/openai/sse.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

// An environment variable's value, or `otherwise` if it is unset or empty.
inline std::string Environment(const char* name, std::string otherwise = "") {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// The text that an event of a chat completion adds to the answer. Providers
// send events without any: the role, the usage, tool calls.
inline std::string AddedText(const keyrotator::SseEvent& event) {
  const auto json = nlohmann::json::parse(event.data, nullptr, false);
  const nlohmann::json::json_pointer where("/choices/0/delta/content");
  if (!json.is_object() || !json.contains(where)) return {};
  const nlohmann::json& text = json[where];
  return text.is_string() ? text.get<std::string>() : std::string();
}

#endif  // KEYROTATOR_EXAMPLES_COMMON_H_
