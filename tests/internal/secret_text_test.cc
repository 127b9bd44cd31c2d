#include "keyrotator/internal/secret_text.h"

#include <algorithm>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "tests/support/catch.h"

namespace keyrotator::internal::internal_secret_text_test {
namespace {

// In the text itself, and in memory of its own.
const std::string kTexts[] = {"sk-short", "sk-" + std::string(40, 'Q')};

TEST_CASE("wiping overwrites all that a text had room for", "[secret_text]") {
  for (const std::string& secret : kTexts) {
    std::string text = secret;
    text.reserve(100);
    text.resize(4);  // the rest stays behind its end
    const char* const memory = text.data();
    const std::size_t room = text.capacity();
    Wipe(text);
    CHECK(text.empty());
    REQUIRE(text.data() == memory);
    CHECK(std::all_of(memory, memory + room, [](char c) { return c == '\0'; }));
  }
}

TEST_CASE("a secret is a text that can be copied, moved and assigned",
          "[secret_text]") {
  for (const std::string& secret : kTexts) {
    SecretText text(secret);
    const SecretText copy = text;
    SecretText moved = std::move(text);
    CHECK(copy.text() == secret);
    CHECK(moved.text() == secret);
    CHECK(std::string_view(moved) == secret);
    moved = "sk-other";
    CHECK(moved.text() == "sk-other");
    moved = copy;
    CHECK(moved.text() == secret);
    const SecretText& same = moved;
    moved = same;
    CHECK(moved.text() == secret);
  }
  CHECK(SecretText().text().empty());
}

// The bytes of an object, whatever type is in them.
struct Room {
  alignas(SecretText) unsigned char bytes[sizeof(SecretText)];
  bool Holds(std::string_view text) const {
    const std::string_view all(reinterpret_cast<const char*>(bytes),
                               sizeof(bytes));
    return all.find(text) != all.npos;
  }
};

TEST_CASE("nothing of a short secret stays in an object that is gone",
          "[secret_text]") {
  Room room;
  auto* text = new (room.bytes) SecretText("sk-short");
  CHECK(room.Holds("sk-short"));
  SECTION("as it was") {}
  SECTION("after it was moved away") {
    const SecretText other = std::move(*text);
    CHECK(other.text() == "sk-short");
  }
  SECTION("after it was replaced by a shorter one") { *text = "a"; }
  text->~SecretText();
  CHECK_FALSE(room.Holds("short"));
}

}  // namespace
}  // namespace keyrotator::internal::internal_secret_text_test
