// File: http/body_source.h
//
// A body that is read while it is sent, so that a file of any size takes no
// more memory than a piece of it. A request may be sent more than once, with
// another key or after a failure, and each send begins at the body's start.
//
// Example: a file.
//   const std::string path = "batch.jsonl";
//   keyrotator::BodySource source([&]() -> keyrotator::ReadBody {
//     auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
//     return [file](std::span<char> room) {
//       file->read(room.data(), static_cast<std::streamsize>(room.size()));
//       return static_cast<std::size_t>(file->gcount());
//     };
//   }, std::filesystem::file_size(path));

#ifndef KEYROTATOR_HTTP_BODY_SOURCE_H_
#define KEYROTATOR_HTTP_BODY_SOURCE_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace keyrotator {

// Puts the next bytes of a body into the front of `room`, which is never empty,
// and returns how many: 0 at the end. It may block. What it throws comes out of
// the transport's Send.
using ReadBody = std::function<std::size_t(std::span<char> room)>;

// Where a body comes from. Copies share what a body that is read only once has
// left. For one request at a time.
class BodySource {
 public:
  // `open` is called for each send and returns a reader that begins at the
  // body's start. `size`: how many bytes that gives; without it, the body is
  // sent in chunks, which not every server takes.
  explicit BodySource(std::function<ReadBody()> open,
                      std::optional<std::uint64_t> size = std::nullopt)
      : open_(std::move(open)), size_(size) {}

  // A body that can be read but once, such as a pipe: when a byte of it may
  // have been taken, the request is not sent again.
  static BodySource Once(ReadBody read,
                         std::optional<std::uint64_t> size = std::nullopt) {
    BodySource source(nullptr, size);
    source.once_ = std::make_shared<ReadOnce>(ReadOnce{std::move(read)});
    return source;
  }

  // A reader that begins at the start; empty if there can be none any more.
  ReadBody Open() const {
    if (!once_) return open_();
    if (once_->begun) return nullptr;
    return [once = once_](std::span<char> room) {
      once->begun = true;
      return once->read(room);
    };
  }

  // Whether it could be read but once, and that has begun.
  bool spent() const { return once_ && once_->begun; }
  std::optional<std::uint64_t> size() const { return size_; }

 private:
  struct ReadOnce {
    ReadBody read;
    bool begun = false;
  };

  std::function<ReadBody()> open_;
  std::optional<std::uint64_t> size_;
  std::shared_ptr<ReadOnce> once_;
};

// What a call sends: bytes that the caller has, or a source of them. A view,
// for the time of the call.
class BodyView {
 public:
  BodyView() = default;
  template <class Text>
  requires std::convertible_to<const Text&, std::string_view> BodyView(
      const Text& text)  // NOLINT(google-explicit-constructor)
      : text_(text) {}
  BodyView(const BodySource& source)  // NOLINT(google-explicit-constructor)
      : source_(&source) {}

  std::string_view text() const { return text_; }
  const BodySource* source() const { return source_; }
  bool empty() const { return text_.empty() && source_ == nullptr; }

 private:
  std::string_view text_;
  const BodySource* source_ = nullptr;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_HTTP_BODY_SOURCE_H_
