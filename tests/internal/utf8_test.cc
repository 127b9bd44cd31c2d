#include "keyrotator/internal/utf8.h"

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::internal_utf8_test {
namespace {

std::string Bytes(std::initializer_list<unsigned> bytes) {
  std::string text;
  for (const unsigned byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

std::string Encode(char32_t x) {
  const auto rest = [x](unsigned shift) {
    return 0x80u | (x >> shift & 0x3Fu);
  };
  if (x < 0x80) return Bytes({x});
  if (x < 0x800) return Bytes({0xC0u | x >> 6, rest(0)});
  if (x < 0x10000) return Bytes({0xE0u | x >> 12, rest(6), rest(0)});
  return Bytes({0xF0u | x >> 18, rest(12), rest(6), rest(0)});
}

TEST_CASE("every code point is read back, but surrogates", "[utf8]") {
  std::size_t wrong = 0;
  for (char32_t x = 0; x <= 0x10FFFF; ++x) {
    const std::string text = Encode(x);
    const CodePoint read = FirstCodePoint(text + "x");
    const bool is_surrogate = x >= 0xD800 && x < 0xE000;
    if (is_surrogate ? read.bytes != 0
                     : read.value != x || read.bytes != text.size())
      ++wrong;
    if (text.size() > 1 &&
        FirstCodePoint(std::string_view(text).substr(0, text.size() - 1))
                .bytes != 0)
      ++wrong;
  }
  CHECK(wrong == 0);
}

// So that it takes nothing but what it reads back: no overlong form among them.
TEST_CASE("no other sequence is taken", "[utf8]") {
  std::size_t one = 0;
  std::size_t two = 0;
  std::size_t three = 0;
  for (unsigned a = 0; a < 256; ++a) {
    one += FirstCodePoint(Bytes({a})).bytes == 1 ? 1 : 0;
    for (unsigned b = 0; b < 256; ++b) {
      std::string text = Bytes({a, b, 0x80});
      two += FirstCodePoint(text).bytes == 2 ? 1 : 0;
      for (unsigned c = 0; c < 256; ++c) {
        text[2] = static_cast<char>(c);
        three += FirstCodePoint(text).bytes == 3 ? 1 : 0;
      }
    }
  }
  CHECK(one == 0x80);
  CHECK(two == 0x800 - 0x80);
  CHECK(three == 0x10000 - 0x800 - 0x800);
  CHECK(FirstCodePoint("\xF0\x8F\xBF\xBF").bytes == 0);  // overlong
  CHECK(FirstCodePoint("\xF4\x90\x80\x80").bytes == 0);  // above U+10FFFF
  CHECK(FirstCodePoint("\xF8\x88\x80\x80\x80").bytes == 0);
}

TEST_CASE("what is not for the eye is written in hexadecimal", "[utf8]") {
  const auto none = [](char32_t) { return false; };
  CHECK(Printable("prüf-漢字 \"\\", none) == "prüf-漢字 \"\\");
  CHECK(Printable(std::string_view("a\0\x1b\n\x7f", 5), none) ==
        "a\\x00\\x1b\\x0a\\x7f");
  CHECK(Printable("a\xC2\x9B", none) == "a\\xc2\\x9b");  // U+009B, a control
  CHECK(Printable("\xFF\xE6\xBC", none) == "\\xff\\xe6\\xbc");
  CHECK(Printable("\xE6\xBC\xE6\xBC\xA2", none) == "\\xe6\\xbc漢");
  CHECK(Printable("a\nb\t", [](char32_t c) { return c == '\n'; }) ==
        "a\nb\\x09");
  CHECK(Printable("", none).empty());
}

}  // namespace
}  // namespace keyrotator::internal::internal_utf8_test
