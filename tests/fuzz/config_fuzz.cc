// File: config_fuzz.cc
//
// libFuzzer: whatever stands in a variable, a key file, a duration or a name,
// it is read as documented or refused with an error that holds none of it.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>

#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/duration.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/near_miss.h"

namespace {

using namespace keyrotator;

void Require(bool good) {
  if (!good) std::abort();
}

// What comes out can be sent in a header, and no key comes twice.
template <class Read>
void CheckKeys(Read read) {
  try {
    std::set<std::string> seen;
    for (const ApiKey& key : read()) {
      const std::string& value = key.Reveal();
      Require(!value.empty() && value.size() <= internal::kLongestKey);
      Require(std::all_of(value.begin(), value.end(),
                          [](char c) { return c > ' ' && c <= '~'; }));
      Require(seen.insert(value).second);
    }
  } catch (const ConfigError& error) {
    // "K, entry 12: a blank, or ...": the place, and one of two reasons.
    const std::string_view message = error.what();
    const std::size_t reason = message.find(": ");
    Require(message.starts_with("K, ") && reason < 40);
    Require(message.substr(reason).starts_with(": a blank, or a byte") ||
            message.substr(reason).starts_with(": longer than any key"));
  }
}

// Durations are what a slow and simple reading of the same text gives.
void CheckDuration(std::string_view text) {
  const std::optional<Span> span = internal::ParseSpan(text);
  if (!span) return;
  Require(span->count() >= 0);
  const std::string copy(text);
  char* end = nullptr;
  const long double number = std::strtold(copy.c_str(), &end);
  const std::string_view unit = end;
  const long double nanos = number * (unit == "ms"  ? 1e6L
                                      : unit == "s" ? 1e9L
                                      : unit == "m" ? 6e10L
                                      : unit == "h" ? 3.6e12L
                                                    : 8.64e13L);
  const long double off = nanos - static_cast<long double>(span->count());
  Require(off > -2 && off < 2);
}

void CheckName(std::string_view name) {
  const auto names = AnySelection::Names();
  const bool known = std::find(names.begin(), names.end(), name) != names.end();
  const std::string_view near = internal::NearMiss(name, names);
  Require(!known || near == name);
  try {
    const AnySelection policy(name);
    Require(known);
  } catch (const std::invalid_argument& error) {
    Require(!known);
    Require((std::string(error.what()).find("did you mean") !=
             std::string::npos) == !near.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  CheckKeys([&] {
    return KeysFromEnv("K", [&](const char*) { return text.c_str(); });
  });
  CheckKeys([&] {
    return ApiKeys(internal::SplitKeys(text, internal::kKeysInFile, "K"));
  });
  CheckDuration(text);
  CheckName(text);
  return 0;
}
