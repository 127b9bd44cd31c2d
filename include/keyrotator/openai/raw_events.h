// File: openai/raw_events.h
//
// The bytes of a stream of events as they came, comments and blank lines and
// all, for those who pass them on: cut where an event may end, and held back
// until it is known whether they may be passed.
//
// Example:
//   keyrotator::internal::RawEvents raw;
//   raw.Cut("data: a\n\ndata: b", [&](std::string_view piece, bool whole) {
//     if (!whole) return raw.Hold(piece);  // "data: b"
//     return raw.Release(piece, [](std::string_view bytes) {
//       return std::fwrite(bytes.data(), 1, bytes.size(), stdout) != 0;
//     });
//   });

#ifndef KEYROTATOR_OPENAI_RAW_EVENTS_H_
#define KEYROTATOR_OPENAI_RAW_EVENTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "keyrotator/openai/sse.h"

namespace keyrotator::internal {

// For one stream and one thread.
class RawEvents {
 public:
  // Cuts the next bytes behind each blank line: calls visit(piece, whole) for
  // each piece in order, `whole` if a blank line ends it, until it returns
  // false. Each byte is in one piece. Linear. An LF whose CR came before is of
  // the piece that follows.
  template <class Visit>
  void Cut(std::string_view bytes, Visit visit) {
    if (bytes.empty()) return;
    const bool after_cr = std::exchange(after_cr_, bytes.back() == '\r');
    const bool rest_of_crlf = after_cr && bytes.front() == '\n';
    LineCutter lines(bytes.substr(rest_of_crlf ? 1 : 0));
    const char* from = bytes.data();
    while (const auto line = lines.Next()) {
      const bool begun = std::exchange(in_line_, false);
      if (begun || !line->empty()) continue;
      const char* const to = lines.rest().data();
      if (!visit({from, static_cast<std::size_t>(to - from)}, true)) return;
      from = to;
    }
    in_line_ = in_line_ || !lines.rest().empty();
    const char* const end = bytes.data() + bytes.size();
    if (from != end) visit({from, static_cast<std::size_t>(end - from)}, false);
  }

  // Keeps bytes for later; false once they are more than any event may have.
  bool Hold(std::string_view bytes) {
    held_ += bytes;
    return held_.size() <= SseParser::kDefaultMaxEvent;
  }
  void Drop() { held_.clear(); }

  // What pass(bytes) returns, called with what was held and then `bytes`; true
  // if that is nothing.
  template <class Pass>
  bool Release(std::string_view bytes, Pass pass) {
    if (held_.empty()) return bytes.empty() || pass(bytes);
    held_ += bytes;
    const bool more = pass(std::string_view(held_));
    held_.clear();
    return more;
  }

 private:
  std::string held_;
  bool in_line_ = false;   // a line has begun and not ended
  bool after_cr_ = false;  // the last byte was a CR
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_RAW_EVENTS_H_
