#include "keyrotator/internal/header_text.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::internal_header_text_test {
namespace {

TEST_CASE("a token has no byte that ends or splits a field", "[header_text]") {
  CHECK(IsToken("Authorization"));
  CHECK(IsToken("x-api_key.2~!#$%&'*+^`|"));
  CHECK_FALSE(IsToken(""));
  for (const char c :
       std::string_view(" \t\r\n:,;/\"\\()<>=?@[]{}\x7f\xe9\0", 24))
    CHECK_FALSE(IsToken(std::string("a") + c + "b"));
}

TEST_CASE("a value has any byte but controls, and the tab", "[header_text]") {
  for (int byte = 0; byte < 256; ++byte) {
    CAPTURE(byte);
    const std::string text{'a', static_cast<char>(byte), 'b'};
    const bool control = (byte < 0x20 && byte != '\t') || byte == 0x7f;
    CHECK(IsFieldValue(text) == !control);
    CHECK(FindUnprintable(text) ==
          (byte >= 0x20 && byte < 0x7f ? text.npos : 1));
  }
  CHECK(IsFieldValue(""));
  CHECK(FindUnprintable("") == std::string_view::npos);
}

}  // namespace
}  // namespace keyrotator::internal::internal_header_text_test
