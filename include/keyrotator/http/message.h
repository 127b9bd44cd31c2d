// File: http/message.h
//
// The HTTP vocabulary that the layers share: headers, a request, a response.
// There is no HTTP library in here, so that an application's own client can
// speak it.
//
// Example:
//   keyrotator::HttpResponse response{.status = 429,
//                                     .headers = {{"Retry-After", "20"}}};

#ifndef KEYROTATOR_HTTP_MESSAGE_H_
#define KEYROTATOR_HTTP_MESSAGE_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/http/body_source.h"
#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"

namespace keyrotator {

// Header fields in the order of arrival. Names compare without regard to ASCII
// case (RFC 9110, 5.1); a name may occur more than once. A value type: as
// thread-safe as a std::vector.
class Headers {
 public:
  struct Field {
    std::string name;
    std::string value;
  };

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  // Appends a field; one of the same name stays beside it.
  void Add(std::string name, std::string value) {
    fields_.push_back({std::move(name), std::move(value)});
  }

  // Drops every field of that name. Linear.
  void Remove(std::string_view name) {
    std::erase_if(fields_, [&](const Field& field) {
      return SameName(field.name, name);
    });
  }

  // Makes this the one field of that name, at the end. Linear.
  void Set(std::string name, std::string value) {
    Remove(name);
    Add(std::move(name), std::move(value));
  }

  // Overwrites the values of all fields, and empties them: a request's have held
  // a secret.
  void Wipe() noexcept {
    for (Field& field : fields_) internal::Wipe(field.value);
  }

  // The value of the first field of that name, or none. Linear. The view lives
  // until the headers are changed.
  std::optional<std::string_view> Find(std::string_view name) const {
    for (const Field& field : fields_) {
      if (SameName(field.name, name)) return field.value;
    }
    return std::nullopt;
  }

  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }
  std::size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }

 private:
  static bool SameName(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) {
                        return internal::Lower(x) == internal::Lower(y);
                      });
  }

  std::vector<Field> fields_;
};

// One request as a transport sends it. The views must outlive the call of Send.
struct HttpRequest {
  std::string method = "POST";
  std::string url = {};  // absolute: scheme, host, path
  Headers headers = {};
  std::string_view body = {};
  // Instead of `body`, if there is one: it is read from its start.
  const BodySource* source = nullptr;

  // Zero means no bound.
  std::chrono::milliseconds connect_timeout{5'000};
  // The longest silence once the request is sent; what the sink calls idle does
  // not end one.
  std::chrono::milliseconds idle_timeout{0};
  // For the whole exchange.
  std::chrono::milliseconds total_timeout{0};
  // For the exchange up to the first piece that the sink does not call idle.
  std::chrono::milliseconds begin_timeout{0};

  // Whether the transport itself may send it again where a kept connection broke
  // before a byte of an answer: the server may have acted on it already.
  bool repeatable = true;
};

// A whole answer.
struct HttpResponse {
  int status = 0;
  Headers headers = {};
  std::string body = {};
};

namespace internal {

inline bool IsSuccess(int status) { return status >= 200 && status < 300; }

}  // namespace internal

}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_MESSAGE_H_
