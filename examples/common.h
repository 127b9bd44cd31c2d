// What more than one example needs: keys from the environment, and the text in
// an event of a stream.

#ifndef KEYROTATOR_EXAMPLES_COMMON_H_
#define KEYROTATOR_EXAMPLES_COMMON_H_

#include <keyrotator/openai/sse.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

// An environment variable's value, or `otherwise` if it is unset or empty.
inline std::string Environment(const char* name, std::string otherwise = "") {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

// The keys in a variable, separated by commas or line ends. The rotator trims
// them, and skips the empty ones and those that come twice.
inline std::vector<std::string> KeysFromEnvironment(const char* name) {
  const std::string all = Environment(name);
  std::vector<std::string> keys;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end =
        std::min(all.find_first_of(",\n", begin), all.size());
    keys.push_back(all.substr(begin, end - begin));
    begin = end + 1;
  }
  return keys;
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
