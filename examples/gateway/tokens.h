// File: tokens.h
//
// Tokens: what callers show to be let in. Kept as digests, and compared in a
// time that depends neither on what is shown nor on which one it is, so that
// the time an answer takes tells a guesser nothing.
//
// Example:
//   gateway::Tokens tokens({"a-long-and-random-token"});
//   tokens.Has(gateway::TokenOf(headers));

#ifndef KEYROTATOR_EXAMPLES_GATEWAY_TOKENS_H_
#define KEYROTATOR_EXAMPLES_GATEWAY_TOKENS_H_

#include <keyrotator/http/message.h>
#include <keyrotator/internal/text.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace gateway {

// Only read once made, so thread-safe.
class Tokens {
 public:
  explicit Tokens(const std::vector<std::string>& tokens) {
    for (const std::string& token : tokens) digests_.push_back(Digest(token));
  }

  // Without any, nobody has to show one.
  bool empty() const { return digests_.empty(); }

  bool Has(std::string_view shown) const {
    const auto digest = Digest(shown);
    int same = 0;
    for (const auto& each : digests_)
      same |= CRYPTO_memcmp(each.data(), digest.data(), digest.size()) == 0;
    return same != 0;
  }

 private:
  using Sha256 = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

  static Sha256 Digest(std::string_view text) {
    Sha256 digest;
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
           digest.data());
    return digest;
  }

  std::vector<Sha256> digests_;
};

// What a request shows, where clients put their key: Authorization, or what
// Azure's and Anthropic's clients use. Empty if nothing.
inline std::string_view TokenOf(const keyrotator::Headers& headers) {
  constexpr std::string_view kBearer = "bearer ";
  if (const auto field = headers.Find("Authorization")) {
    const std::string_view scheme = field->substr(0, kBearer.size());
    return keyrotator::internal::Lower(scheme) == kBearer
               ? field->substr(kBearer.size())
               : std::string_view();
  }
  if (const auto field = headers.Find("api-key")) return *field;
  return headers.Find("x-api-key").value_or(std::string_view());
}

}  // namespace gateway

#endif  // KEYROTATOR_EXAMPLES_GATEWAY_TOKENS_H_
