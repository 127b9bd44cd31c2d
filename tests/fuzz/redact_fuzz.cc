// File: redact_fuzz.cc
//
// libFuzzer: in a text that was redacted no secret is left, as it is, in JSON's
// escapes, in a URL's or in base64; what holds none comes back as it was.
//
// An input is the secrets, a line each, up to a blank line, then the text. A text
// that has a byte 1 to 8 in it has that secret there, escaped in a way that depends
// on the byte behind it.

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/keyrotator.h"
#include "tests/support/leaks.h"

namespace {

using namespace keyrotator;

void Require(bool good) {
  if (!good) std::abort();
}

// The ways in which a secret may be spelled.
constexpr int kPlain = 0, kBase64 = 4, kHows = 7;

// Of those that are short nobody looks for base64.
bool IsSpelled(std::string_view secret, int how) {
  return how < kBase64 || secret.size() >= 12;
}

std::string Escaped(std::string_view secret, int how) {
  // By the other encoder that there is.
  if (how >= kBase64) {
    return testing::leaks_internal::InBase64(
        secret, static_cast<std::size_t>(how - kBase64));
  }
  std::string text;
  for (const char c : secret) {
    const bool special = c == '/' || c == '"' || c == '\\';
    switch (how) {
      case 1:
        special ? text.append(1, '\\').append(1, c) : text.append(1, c);
        break;
      case 2:
        text += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        break;
      case 3:
        text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        break;
      default:
        text += c;
    }
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<ApiKey> keys;
  std::vector<std::string> secrets;
  while (!input.empty() && secrets.size() < 8) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    std::string line(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
    if (line.empty()) break;
    // As keys are that can be sent, and of a length that cannot come by chance.
    // One that itself reads as escapes is none that anybody hands out.
    std::erase_if(line, [](char c) { return c <= ' ' || c > '~' || c == '%'; });
    if (line.size() < 8 || std::ranges::count(secrets, line) > 0) continue;
    secrets.push_back(line);
    keys.emplace_back(
        line, KeyOptions{.name = std::string(
                             1, static_cast<char>('A' + secrets.size()))});
  }
  std::string text;
  std::set<std::string> planted;
  for (std::size_t i = 0; i < input.size(); ++i) {
    const auto byte = static_cast<unsigned char>(input[i]);
    if (byte >= 1 && byte <= secrets.size()) {
      const std::string& secret = secrets[byte - 1];
      int how = i + 1 < input.size()
                    ? static_cast<unsigned char>(input[i + 1]) % kHows
                    : kPlain;
      if (!IsSpelled(secret, how)) how = kPlain;
      planted.insert(secret);
      // Apart from what stands before, which could be the end of an escape.
      text += " " + Escaped(secret, how) + " ";
    } else {
      text += input[i];
    }
  }
  text += ' ';  // the first part of a secret at a text's end counts as one
  const KeyRotator rotator(std::move(keys));
  const std::string redacted = rotator.Redact(text);
  bool none = planted.empty();
  for (const std::string& secret : secrets) {
    for (int how = kPlain; how < kHows; ++how) {
      if (!IsSpelled(secret, how)) continue;
      const std::string spelled = Escaped(secret, how);
      // A mixture of escapes may hide one that was not put there.
      if (how == kPlain || planted.contains(secret))
        Require(redacted.find(spelled) == std::string::npos);
      none = none && text.find(spelled) == std::string::npos;
    }
  }
  Require(rotator.Redact(redacted).size() <= redacted.size() + text.size());
  if (none && text.find_first_of("\\%") == std::string::npos)
    Require(redacted == text);
  return 0;
}
