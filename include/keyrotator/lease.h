// File: lease.h
//
// Lease: a key, lent for one request. KeyRef: which key a report is about.
//
// Example:
//   if (std::optional<keyrotator::Lease> key = rotator.Pick())
//     fmt::print("sent with {}\n", *key);  // its name

#ifndef KEYROTATOR_LEASE_H_
#define KEYROTATOR_LEASE_H_

#include <fmt/format.h>

#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/api_key.h"
#include "keyrotator/pool/grant.h"
#include "keyrotator/pool/scope.h"
#include "keyrotator/pool/slot.h"

namespace keyrotator {

// It counts as in flight until it is destroyed, which says nothing of how the
// request went. It may outlive the rotator and the key's place in it.
// Move-only; one thread at a time.
class Lease {
 public:
  Lease(Lease&& other) noexcept : grant_(std::exchange(other.grant_, {})) {}
  Lease& operator=(Lease&& other) noexcept {
    if (this == &other) return *this;
    const Lease ended(std::move(*this));
    grant_ = std::exchange(other.grant_, {});
    return *this;
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    if (grant_.slot == nullptr || internal::EndUnwatchedLease(grant_)) return;
    // Keeps what holds the lock alive: the slot may be what kept it.
    const std::shared_ptr<internal::LeaseHost> host = grant_.slot->host;
    host->EndLease(grant_);
  }

  // The secret, for the request's header and nothing else.
  std::string_view Reveal() const { return grant_.slot->secret; }
  KeyId id() const { return grant_.slot->id; }
  std::string_view name() const { return grant_.slot->name; }
  // Empty for a key that shares its limits with no other.
  std::string_view group() const { return grant_.slot->group_name; }
  // As it was picked for.
  std::string_view scope() const { return grant_.scope->name; }

  // For the rotator.
  explicit Lease(const internal::Grant& grant) : grant_(grant) {}
  internal::Grant& grant() const { return grant_; }

 private:
  mutable internal::Grant grant_;  // a report settles what the end would
};

// Prints the key's name, never a byte of the secret.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(
    std::basic_ostream<char, Traits>& out, const Lease& lease) {
  return out << lease.name();
}

// A lease, an id (of a KeyStatus or KeyEvent), or the key's value. What is
// reported by lease concerns the lease's scope and may be found stale; by the
// others it concerns the whole key and is fresh.
class KeyRef {
 public:
  KeyRef(const Lease& lease) : lease_(&lease) {}
  KeyRef(KeyId id) : id_(id) {}
  KeyRef(std::string_view value) : value_(value) {}
  KeyRef(const std::string& value) : value_(value) {}
  KeyRef(const char* value) : value_(value == nullptr ? "" : value) {}

  // For the rotator. The lease, or null; else the id; else the value.
  const Lease* lease() const { return lease_; }
  std::optional<KeyId> id() const { return id_; }
  std::string_view value() const { return value_; }

 private:
  const Lease* lease_ = nullptr;
  std::optional<KeyId> id_;
  std::string_view value_;
};

}  // namespace keyrotator

template <>
struct fmt::formatter<keyrotator::Lease> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const keyrotator::Lease& lease, Context& context) const {
    return fmt::formatter<std::string_view>::format(lease.name(), context);
  }
};

#endif  // KEYROTATOR_LEASE_H_
