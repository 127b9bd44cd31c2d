// File: openai/sse.h
//
// An incremental parser of server-sent events, the framing in which providers
// stream answers (WHATWG HTML, section 9.2.6, "Interpreting an event stream").
// The bytes may come in any pieces; the events do not depend on the split. It
// knows no JSON and no meaning: "[DONE]" is an event like any other.
//
// Example:
//   keyrotator::SseParser parser;
//   auto print = [](const keyrotator::SseEvent& event) {
//     std::printf("%.*s\n", int(event.data.size()), event.data.data());
//     return event.data != "[DONE]";  // false: that is all I want
//   };
//   for (std::string_view bytes : {"data: a", "b\n\ndata: [DONE]\n\n"}) {
//     if (!parser.Feed(bytes, print)) break;  // prints ab
//   }
//   parser.Finish(print);

#ifndef KEYROTATOR_OPENAI_SSE_H_
#define KEYROTATOR_OPENAI_SSE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "keyrotator/internal/utf8.h"

namespace keyrotator {

// One event. The views live until the sink that received it returns.
struct SseEvent {
  std::string_view event;  // empty: no name, which the standard calls "message"
  std::string_view data;   // the data lines, joined by LF
  std::string_view id;     // the last id so far, on this event or before it
};

namespace internal {

// Text that is a view of someone's bytes while it can be, and a copy of its own
// once it must be.
class ViewOrCopy {
 public:
  std::string_view view() const { return copied_ ? copy_ : view_; }

  // Looks at `bytes`, which must stay until the next Set, Append or Keep.
  void Set(std::string_view bytes) {
    view_ = bytes;
    copied_ = false;
  }
  void Append(char separator, std::string_view bytes) {
    Keep();
    copy_ += separator;
    copy_ += bytes;
  }
  // From here on the bytes looked at may go.
  void Keep() {
    if (!copied_) copy_.assign(view_);
    copied_ = true;
  }
  void MakeValidUtf8() {
    if (IsValidUtf8(view())) return;
    copy_ = ToValidUtf8(view());
    copied_ = true;
  }

 private:
  std::string_view view_;  // not used once copied
  std::string copy_;       // its capacity stays
  bool copied_ = false;
};

// Cuts bytes into lines, which end in LF, CR or CRLF.
class LineCutter {
 public:
  explicit LineCutter(std::string_view bytes)
      : at_(bytes.data()),
        end_(at_ + bytes.size()),
        lf_(Find('\n')),
        cr_(Find('\r')) {}

  // The next line without its end; none where the rest has no end.
  std::optional<std::string_view> Next() {
    // Each end is looked for once, not once a line: a stream has most likely
    // only one kind, and the search for the other runs through all of it.
    if (lf_ < at_) lf_ = Find('\n');
    if (cr_ < at_) cr_ = Find('\r');
    const char* const line_end = lf_ < cr_ ? lf_ : cr_;
    if (line_end == end_) return std::nullopt;

    const std::string_view line = Until(line_end);
    at_ = line_end + 1;
    if (line_end == cr_ && lf_ == at_ && at_ != end_) ++at_;
    return line;
  }

  std::string_view rest() const { return Until(end_); }

 private:
  const char* Find(char c) const {
    if (at_ == end_) return end_;
    const void* const found = std::memchr(at_, c, rest().size());
    return found == nullptr ? end_ : static_cast<const char*>(found);
  }
  std::string_view Until(const char* end) const {
    return {at_, static_cast<std::size_t>(end - at_)};
  }

  const char* at_;
  const char* const end_;
  const char* lf_;  // the first that is not before at_, or end_
  const char* cr_;
};

}  // namespace internal

// Turns the bytes of one stream into events. As thread-safe as a std::string.
//
// A sink is any callable that takes `const SseEvent&`. It may return bool:
// false ends the parsing. So does an exception, which passes through. It must
// not call the parser.
//
// Feed and Finish are linear in the bytes given. Nothing is allocated in steady
// state; an event that lies whole within the bytes of one Feed is not copied
// either, unless it has several data lines or invalid UTF-8.
class SseParser {
 public:
  // What one event may hold. A stream without blank lines would otherwise take
  // all memory; a picture in base64 has to fit.
  static constexpr std::size_t kDefaultMaxEvent = std::size_t{64} << 20;

  // `max_event`: the most bytes, as sent, that a line may have, and the data of
  // an event.
  explicit SseParser(std::size_t max_event = kDefaultMaxEvent)
      : max_event_(max_event) {}

  // Takes the next bytes, any number of them, and calls the sink with each
  // event that they complete. Invalid UTF-8 comes out as U+FFFD. False once the
  // parsing has ended: by the sink, by Finish, or by an error (see error());
  // the bytes are then ignored.
  template <class Sink>
  bool Feed(std::string_view bytes, Sink&& sink) {
    if (ended_) return false;
    if (bytes.empty()) return true;
    // A CR ends its line at once; an LF that comes later belongs to it.
    const bool after_cr = std::exchange(after_cr_, bytes.back() == '\r');
    if (after_cr && bytes.front() == '\n') bytes.remove_prefix(1);

    internal::LineCutter lines(bytes);
    if (const auto first = lines.Next()) {
      const std::string_view whole =
          line_.empty() ? *first : line_.append(*first);
      if (!OnLine(whole, sink)) return false;
      while (const auto line = lines.Next()) {
        if (!OnLine(*line, sink)) return false;
      }
      KeepPending();  // what it looks at may be in line_
      line_.clear();
    }
    line_ += lines.rest();
    return line_.size() <= max_event_ || Fail();
  }

  // The stream has ended. An event without its blank line is dropped, as the
  // standard says, unless it is the provider's "[DONE]": that is dispatched.
  template <class Sink>
  void Finish(Sink&& sink) {
    if (ended_) return;
    if (!line_.empty() && !OnLine(line_, sink)) return;
    if (has_data_ && data_.view() == "[DONE]") Dispatch(sink);
    KeepPending();
    MakePendingValid();
    ended_ = true;
  }

  // After Finish: the event that was dropped, if any. Servers often close right
  // after an error, so its data is worth a look. The views live until the
  // parser is destroyed or assigned to.
  std::optional<SseEvent> Unfinished() const {
    if (!has_data_) return std::nullopt;
    return SseEvent{event_.view(), data_.view(), id_.view()};
  }

  // How many events the sink was called with. Comments do not count: a stream
  // that is kept alive by nothing else does not move it.
  std::uint64_t events() const { return events_; }

  // What was wrong with the stream; empty if nothing was.
  std::string_view error() const { return error_; }

 private:
  // False from any of the next: the parsing has ended.

  template <class Sink>
  bool OnLine(std::string_view line, Sink& sink) {
    if (line.size() > max_event_) return Fail();
    if (std::exchange(first_line_, false) && line.starts_with("\xEF\xBB\xBF")) {
      line.remove_prefix(3);  // a byte order mark
    }
    if (line.empty()) return Dispatch(sink);

    const auto colon = line.find(':');
    const auto name = line.substr(0, colon);
    line.remove_prefix(std::min(name.size() + 1, line.size()));
    if (line.starts_with(' ')) line.remove_prefix(1);
    return OnField(name, line);
  }

  // A comment is a field without a name, and ignored like every unknown one;
  // so is `retry`: it speaks to browsers, which reconnect.
  bool OnField(std::string_view name, std::string_view value) {
    if (name == "data") return OnData(value);
    if (name == "event") event_.Set(value);
    if (name == "id" && value.find('\0') == value.npos) id_.Set(value);
    return true;
  }

  bool OnData(std::string_view value) {
    if (std::exchange(has_data_, true)) {
      data_.Append('\n', value);
    } else {
      data_.Set(value);
    }
    return data_.view().size() <= max_event_ || Fail();
  }

  template <class Sink>
  bool Dispatch(Sink& sink) {
    const bool complete = std::exchange(has_data_, false);
    if (complete) MakePendingValid();
    const SseEvent event{event_.view(), data_.view(), id_.view()};
    event_.Set({});
    data_.Set({});
    if (!complete) return true;

    ++events_;
    ended_ = true;  // stays so if the sink throws
    ended_ = !Accepts(sink, event);
    return !ended_;
  }

  template <class Sink>
  static bool Accepts(Sink& sink, const SseEvent& event) {
    if constexpr (std::is_void_v<decltype(sink(event))>) {
      sink(event);
      return true;
    } else {
      return sink(event);
    }
  }

  bool Fail() {
    error_ = "a server-sent event is longer than " +
             std::to_string(max_event_) + " bytes";
    has_data_ = false;
    ended_ = true;
    return false;
  }

  void KeepPending() {
    for (auto* field : {&event_, &data_, &id_}) field->Keep();
  }
  void MakePendingValid() {
    for (auto* field : {&event_, &data_, &id_}) field->MakeValidUtf8();
  }

  std::size_t max_event_;
  std::string line_;        // what came of a line that has not ended yet
  bool first_line_ = true;  // the line to come is the first
  bool after_cr_ = false;   // the last byte was a CR
  internal::ViewOrCopy event_;
  internal::ViewOrCopy data_;
  internal::ViewOrCopy id_;  // never reset: an id holds until the next
  bool has_data_ = false;    // the pending event has a data line
  bool ended_ = false;
  std::uint64_t events_ = 0;
  std::string error_;
};

}  // namespace keyrotator

#endif  // KEYROTATOR_OPENAI_SSE_H_
