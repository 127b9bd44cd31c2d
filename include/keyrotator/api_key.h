// File: api_key.h
//
// ApiKey: a secret with a name, a group, a weight and a cap. The secret comes
// out through Reveal() alone; whatever prints an ApiKey prints its name.
//
// Example:
//   keyrotator::ApiKey plain("sk-...");
//   keyrotator::ApiKey named("sk-...",
//                            {.name = "prod-1", .group = "org-1", .weight = 2});
//   fmt::print("{}", named);  // prod-1
//   // Empty, and refused by the rotator, if the variable is not set:
//   keyrotator::ApiKey from_environment(std::getenv("OPENAI_API_KEY"));

#ifndef KEYROTATOR_API_KEY_H_
#define KEYROTATOR_API_KEY_H_

#include <fmt/format.h>

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"

namespace keyrotator {

// Names one key for as long as the process lives: no two keys of any two
// rotators ever have the same id, and an id is never used again. It is no
// secret.
struct KeyId {
  std::uint64_t value = 0;

  friend auto operator<=>(const KeyId&, const KeyId&) = default;
};

struct KeyOptions {
  // For people: logs, snapshots, events. Unique in a rotator. Empty: the
  // rotator calls the key "key-N".
  std::string name = {};
  // Keys that share one limit (one organisation, one project) have the same
  // group. Empty: the key is a group of one.
  std::string group = {};
  // The share of the picks that policies which know weights give the key,
  // relative to the others'. Finite and > 0.
  double weight = 1;
  // The most leases on the key at one time; 0: no cap.
  std::size_t max_in_flight = 0;
};

// A value type: as thread-safe as a std::string. Nothing is checked here but by
// the rotator that the key joins, since an error names a key by its place among
// the others. The memory of the secret is overwritten when it is given back.
class ApiKey {
 public:
  // The value is trimmed. A null pointer (an unset variable) is an empty key,
  // which a rotator ignores.
  ApiKey(const char* value, KeyOptions options = {})
      : ApiKey(std::string_view(value == nullptr ? "" : value),
               std::move(options)) {}
  ApiKey(std::string_view value, KeyOptions options = {})
      : value_(internal::Trim(value)), options_(std::move(options)) {}
  ApiKey(const std::string& value, KeyOptions options = {})
      : ApiKey(std::string_view(value), std::move(options)) {}

  // The secret. For the request's header and nothing else.
  const std::string& Reveal() const { return value_.text(); }
  const KeyOptions& options() const { return options_; }
  bool empty() const { return value_.text().empty(); }

 private:
  internal::SecretText value_;
  KeyOptions options_;
};

namespace internal {

// What `key` is called in print, before it has joined a rotator.
inline std::string_view PrintedName(const ApiKey& key) {
  return key.options().name.empty() ? std::string_view("(unnamed key)")
                                    : std::string_view(key.options().name);
}

// A range whose elements make ApiKeys. By hand, as <ranges> would cost more to
// compile than the rest of this header.
template <class Range>
concept MakesApiKeys = requires(const Range& range) {
  std::end(range);
  ApiKey(*std::begin(range));
}
&&!std::convertible_to<Range, std::string_view>;

}  // namespace internal

// Keys as a rotator takes them: {"sk-a", "sk-b"}, or any range of what makes an
// ApiKey (std::vector<std::string>, ...).
class ApiKeys {
 public:
  ApiKeys() = default;
  ApiKeys(std::initializer_list<ApiKey> keys) : keys_(keys) {}
  template <internal::MakesApiKeys Range>
  ApiKeys(const Range& keys) {
    for (const auto& key : keys) keys_.emplace_back(key);
  }

  auto begin() const { return keys_.begin(); }
  auto end() const { return keys_.end(); }

 private:
  std::vector<ApiKey> keys_;
};

// Prints the name, never a byte of the secret.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(
    std::basic_ostream<char, Traits>& out, const ApiKey& key) {
  return out << internal::PrintedName(key);
}

}  // namespace keyrotator

template <>
struct std::hash<keyrotator::KeyId> {
  std::size_t operator()(keyrotator::KeyId id) const noexcept {
    return std::hash<std::uint64_t>()(id.value);
  }
};

template <>
struct fmt::formatter<keyrotator::KeyId> : fmt::formatter<std::uint64_t> {
  template <class Context>
  auto format(keyrotator::KeyId id, Context& context) const {
    return fmt::formatter<std::uint64_t>::format(id.value, context);
  }
};

template <>
struct fmt::formatter<keyrotator::ApiKey> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::ApiKey& key, Context& context) const {
    return fmt::formatter<std::string_view>::format(
        keyrotator::internal::PrintedName(key), context);
  }
};

#endif  // KEYROTATOR_API_KEY_H_
