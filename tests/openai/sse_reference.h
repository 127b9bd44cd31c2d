// File: sse_reference.h
//
// The server-sent events of a whole text by the rules as they are written, one
// after the other and with no care for speed: what the incremental parser is
// compared with.

#ifndef KEYROTATOR_TESTS_OPENAI_SSE_REFERENCE_H_
#define KEYROTATOR_TESTS_OPENAI_SSE_REFERENCE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/openai/sse.h"

namespace keyrotator::testing {

struct OwnedEvent {
  std::string event;
  std::string data;
  std::string id;

  friend bool operator==(const OwnedEvent&, const OwnedEvent&) = default;
};

inline OwnedEvent Own(const SseEvent& event) {
  return {std::string(event.event), std::string(event.data),
          std::string(event.id)};
}

struct SseResult {
  std::vector<OwnedEvent> events;
  std::optional<OwnedEvent> unfinished;

  friend bool operator==(const SseResult&, const SseResult&) = default;
};

// The UTF-8 decoder of the WHATWG Encoding standard, byte by byte, and back.
inline std::string ReferenceUtf8(std::string_view bytes) {
  std::string out;
  std::string sequence;
  int needed = 0;
  unsigned lower = 0x80, upper = 0xBF;
  const auto fail = [&] {
    out += "\xEF\xBF\xBD";
    sequence.clear();
    needed = 0;
    lower = 0x80;
    upper = 0xBF;
  };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (needed == 0) {
      if (byte <= 0x7F) {
        out += bytes[i];
      } else if (byte >= 0xC2 && byte <= 0xDF) {
        needed = 1;
      } else if (byte >= 0xE0 && byte <= 0xEF) {
        if (byte == 0xE0) lower = 0xA0;
        if (byte == 0xED) upper = 0x9F;
        needed = 2;
      } else if (byte >= 0xF0 && byte <= 0xF4) {
        if (byte == 0xF0) lower = 0x90;
        if (byte == 0xF4) upper = 0x8F;
        needed = 3;
      } else {
        fail();
      }
      if (needed > 0) sequence = bytes[i];
      continue;
    }
    if (byte < lower || byte > upper) {
      fail();
      --i;  // the byte starts anew
      continue;
    }
    lower = 0x80;
    upper = 0xBF;
    sequence += bytes[i];
    if (--needed == 0) {
      out += sequence;
      sequence.clear();
    }
  }
  if (needed > 0) fail();
  return out;
}

// The events of a whole stream, and what its end cut off.
inline SseResult ReferenceParse(std::string_view bytes) {
  std::string text = ReferenceUtf8(bytes);
  if (text.rfind("\xEF\xBB\xBF", 0) == 0) text.erase(0, 3);

  SseResult result;
  OwnedEvent pending;
  bool has_data = false;
  std::string line;
  const auto end_line = [&] {
    if (line.empty()) {
      if (has_data) result.events.push_back(pending);
      pending.event.clear();
      pending.data.clear();
      has_data = false;
      return;
    }
    std::string name = line, value;
    if (const auto colon = line.find(':'); colon != line.npos) {
      name = line.substr(0, colon);
      value = line.substr(colon + 1);
      if (!value.empty() && value[0] == ' ') value.erase(0, 1);
    }
    if (name == "event") pending.event = value;
    if (name == "id" && value.find('\0') == value.npos) pending.id = value;
    if (name == "data") {
      if (has_data) pending.data += '\n';
      pending.data += value;
      has_data = true;
    }
    line.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
    if (text[i] == '\n' || text[i] == '\r') {
      end_line();
    } else {
      line += text[i];
    }
  }
  if (!line.empty()) end_line();
  if (has_data && pending.data == "[DONE]") {
    result.events.push_back(pending);
  } else if (has_data) {
    result.unfinished = pending;
  }
  return result;
}

// What the parser makes of these pieces. Each is fed from a heap block of its
// own that is gone before the next: a view that outlives its bytes is an error
// under AddressSanitizer.
inline SseResult ParsePieces(const std::vector<std::string_view>& pieces) {
  SseResult result;
  SseParser parser;
  const auto sink = [&](const SseEvent& event) {
    result.events.push_back(Own(event));
  };
  for (const std::string_view piece : pieces) {
    const std::vector<char> block(piece.begin(), piece.end());
    parser.Feed({block.data(), block.size()}, sink);
  }
  parser.Finish(sink);
  if (const auto unfinished = parser.Unfinished()) {
    result.unfinished = Own(*unfinished);
  }
  return result;
}

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_OPENAI_SSE_REFERENCE_H_
