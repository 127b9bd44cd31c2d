// File: redis/key_names.h
//
// KeyNames: what keys, groups and scopes are called in Redis: the same in each
// process of a fleet, and nothing from which they could be found out by who does
// not know the fleet's secret.
//
// Example:
//   keyrotator::internal::KeyNames names("prod", "of the fleet", false);
//   names.Of("key", "sk-...");  // 32 hexadecimal digits

#ifndef KEYROTATOR_REDIS_KEY_NAMES_H_
#define KEYROTATOR_REDIS_KEY_NAMES_H_

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/internal/secret_text.h"
#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// Thread-safe, as it does not change.
class KeyNames {
 public:
  // Without a secret names are plain hashes: a key of few possible values can be
  // found out by trying them.
  KeyNames(std::string pool, SecretText secret, bool clear_names)
      : pool_(std::move(pool)),
        secret_(std::move(secret)),
        is_clear_(clear_names) {}

  // `kind` "key": the first 128 bits of an HMAC-SHA-256 under the secret, of the
  // pool, the kind and the value. Others, "group" and "scope": 64 bits, or with
  // clear_names "=" and the value, what is not of A-Za-z0-9._/- as %XX, so
  // that no two are the same. Throws std::runtime_error if OpenSSL has no SHA-256.
  std::string Of(std::string_view kind, std::string_view value) const {
    const bool is_key = kind == "key";
    if (is_clear_ && !is_key) return Escape(value);
    constexpr char kDigits[] = "0123456789abcdef";
    auto digest = Digest(kind, value);
    std::string name;
    for (std::size_t i = 0; i < (is_key ? 16U : 8U); ++i) {
      name.push_back(kDigits[digest[i] >> 4]);
      name.push_back(kDigits[digest[i] & 15]);
    }
    Wipe(digest.data(), digest.size());
    return name;
  }

 private:
  // Each part with its length before it, so that no two lists are the same.
  std::array<unsigned char, 32> Digest(std::string_view kind,
                                       std::string_view value) const {
    const std::string_view parts[] = {"keyrotator 1", pool_, kind, value};
    std::size_t size = 0;
    for (const std::string_view part : parts) size += part.size() + 24;
    std::string text;
    text.reserve(size);  // a text that grows leaves copies behind
    for (const std::string_view part : parts)
      text.append(std::to_string(part.size())).append(":").append(part);
    std::array<unsigned char, 32> digest{};
    unsigned written = 0;
    const auto* data = reinterpret_cast<const unsigned char*>(text.data());
    const std::string_view secret = secret_;
    const bool made =
        secret.empty()
            ? EVP_Digest(data, text.size(), digest.data(), &written,
                         EVP_sha256(), nullptr) == 1
            : HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                   data, text.size(), digest.data(), &written) != nullptr;
    Wipe(text);
    if (!made || written != digest.size())
      throw std::runtime_error("OpenSSL cannot make a SHA-256");
    return digest;
  }

  static std::string Escape(std::string_view value) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    constexpr std::string_view kPlain = "._/-";
    std::string name = "=";
    for (const char c : value) {
      if (IsAlphanumeric(c) || kPlain.find(c) != kPlain.npos) {
        name.push_back(c);
        continue;
      }
      const auto byte = static_cast<unsigned char>(c);
      name.push_back('%');
      name.push_back(kDigits[byte >> 4]);
      name.push_back(kDigits[byte & 15]);
    }
    return name;
  }

  std::string pool_;
  SecretText secret_;
  bool is_clear_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_REDIS_KEY_NAMES_H_
