// File: internal/secret_text.h
//
// SecretText: a text that is overwritten before its memory is given back, so
// that no later dump, swap or reuse of the memory shows it. What others made of
// it, as an HTTP library of a header, is theirs.
//
// Example:
//   keyrotator::internal::SecretText key("sk-a");
//   std::string_view shown = key;

#ifndef KEYROTATOR_INTERNAL_SECRET_TEXT_H_
#define KEYROTATOR_INTERNAL_SECRET_TEXT_H_

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace keyrotator::internal {

// Overwrites memory, also where a compiler can see that nobody reads it again.
inline void Wipe(void* memory, std::size_t size) noexcept {
  std::memset(memory, 0, size);
  asm volatile("" : : "r"(memory) : "memory");
}

// The same for all that the text has room for, and empties it: what a longer
// text left behind the end of a shorter one is wiped, too.
inline void Wipe(std::string& text) noexcept {
  // Within its capacity a string does not move.
  text.resize(text.capacity());
  Wipe(text.data(), text.size());
  text.clear();
}

// A value type: as thread-safe as a std::string.
class SecretText {
 public:
  SecretText() = default;
  // Of just its size: a string that grows leaves copies behind.
  SecretText(std::string_view text) : text_(text) {}
  SecretText(const std::string& text) : text_(text) {}
  // Takes over the memory; a short text has none that could be taken over.
  SecretText(std::string&& text) noexcept {
    text_.swap(text);
    Wipe(text);
  }
  SecretText(const char* text) : text_(text) {}
  SecretText(const SecretText& other) = default;
  // A short text stays in the object that it was moved from, until that goes.
  SecretText(SecretText&& other) noexcept = default;
  SecretText& operator=(SecretText other) noexcept {
    text_.swap(other.text_);
    return *this;
  }
  ~SecretText() { Wipe(text_); }

  const std::string& text() const { return text_; }
  operator std::string_view() const { return text_; }

 private:
  std::string text_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_INTERNAL_SECRET_TEXT_H_
