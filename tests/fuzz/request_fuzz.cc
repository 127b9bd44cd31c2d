// A request to the gateway is read the same however its bytes are split, and
// what passes has one meaning: one length, one host, a path that stays in its
// place, and headers that cannot end a line.
// libraries: crypto curl

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "examples/gateway/guard.h"
#include "examples/gateway/passed_headers.h"
#include "examples/gateway/request_head.h"
#include "examples/gateway/request_parser.h"

namespace {

struct Read {
  bool refused = false;
  bool whole = false;
  std::string text;  // all that was understood
};

Read ReadIn(std::string_view bytes, std::size_t step) {
  using gateway::RequestHead;
  Read read;
  gateway::RequestParser parser(4096, 4096);
  std::string waiting;
  while (!bytes.empty() && !parser.got_all()) {
    waiting += bytes.substr(0, step);
    bytes.remove_prefix(std::min(step, bytes.size()));
    while (!waiting.empty() && !parser.got_all()) {
      const bool had_head = parser.got_head();
      const std::size_t used = parser.Feed(waiting);
      if (used > waiting.size()) std::abort();
      if (parser.problem()) {
        read.refused = true;
        return read;
      }
      if (!had_head && parser.got_head()) {
        const RequestHead& head = parser.head();
        if (gateway::CheckHead(head)) {
          read.refused = true;
          return read;
        }
        read.text = head.method + " " + head.target + "\n";
        for (const auto& [name, value] : head.headers)
          read.text += name + ": " + value + "\n";
      }
      read.text += parser.body();
      waiting.erase(0, used);
      if (used == 0) break;
    }
  }
  read.whole = parser.got_all();
  return read;
}

// What no check may let through.
void MustBePlain(std::string_view bytes) {
  gateway::RequestParser parser(4096, 4096);
  std::string text(bytes);
  while (!text.empty() && !parser.got_head()) {
    const std::size_t used = parser.Feed(text);
    if (parser.problem() || used == 0) return;
    text.erase(0, used);
  }
  if (!parser.got_head()) return;
  const gateway::RequestHead& head = parser.head();
  if (gateway::CheckHead(head)) return;
  if (!head.target.starts_with('/')) std::abort();
  if (head.chunked && head.length) std::abort();
  const auto plain = gateway::Unescaped(head.path());
  if (!plain || plain->find("/../") != plain->npos ||
      plain->find('\n') != plain->npos || plain->find('\0') != plain->npos)
    std::abort();
  static const gateway::Guard kGuard{gateway::Options{}};
  const bool in = !kGuard.CheckPlace(head);
  const std::string_view host = head.headers.Find("Host").value_or("");
  if (in && host.find("evil") != host.npos) std::abort();
  for (const auto& [name, value] :
       gateway::HeadersForProvider(head.headers, "Authorization")) {
    if (value.find_first_of("\r\n") != value.npos || name.empty()) std::abort();
    if (keyrotator::internal::Lower(name) == "authorization") std::abort();
  }
  static_cast<void>(gateway::QueryForProvider(head.query()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input,
                                      std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(input), size);
  const Read whole = ReadIn(bytes, bytes.size());
  const Read pieces = ReadIn(bytes, 1 + (size > 0 ? input[size - 1] % 16 : 0));
  if (whole.whole != pieces.whole || whole.text != pieces.text) {
    // A head that is too large may be refused sooner or later.
    if (!whole.refused && !pieces.refused) std::abort();
  }
  MustBePlain(bytes);
  return 0;
}
