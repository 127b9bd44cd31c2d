// File: openai/completion.h
//
// Whether the answer in a stream is complete, told by what its events say. They
// are walked over, whatever their size; that they are JSON is not checked.
//
// Example:
//   keyrotator::internal::Completion completion;
//   bool whole = completion.Completes(event.event, event.data);

#ifndef KEYROTATOR_OPENAI_COMPLETION_H_
#define KEYROTATOR_OPENAI_COMPLETION_H_

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>

#include "keyrotator/internal/text.h"
#include "keyrotator/openai/json_scan.h"

namespace keyrotator::internal {

// Follows one stream.
class Completion {
 public:
  // Whether the answer is complete with this event: all choices have a
  // finish_reason, or the event says so (message_stop, response.completed,
  // response.incomplete).
  bool Completes(std::string_view event, std::string_view data) {
    if (IsLast(event)) return true;
    bool finishes = false;
    bool other_choice = false;
    bool typed = false;
    const auto look = [&](std::string_view rest) {
      finishes = finishes || IsMember(rest, "finish_reason\"", "null");
      other_choice = other_choice || IsMember(rest, "index\"", "0");
      typed = typed || StartsWith(rest, "message_stop\"") ||
              StartsWith(rest, "response.");
      return finishes && typed;
    };
    AnyQuoted(data, look, "finish_reason\"", "index\"", "message_stop\"",
              "response.");
    if (!finishes && !other_choice && !typed) return false;
    bool last = false;
    ForEachMember(data, [&](std::string_view name, std::string_view value) {
      if (name == "\"type\"") last = IsLast(Unquote(value));
      if (name == "\"choices\"")
        ForEachElement(value, [&](std::string_view c) { Follow(c); });
    });
    return last || (finishes && std::all_of(choices_.begin(), choices_.end(),
                                            [](const auto& choice) {
                                              return choice.second;
                                            }));
  }

 private:
  static bool IsLast(std::string_view name) {
    return name == "message_stop" || name == "response.completed" ||
           name == "response.incomplete";
  }

  static std::string_view Unquote(std::string_view json) {
    return json.size() < 2 || json[0] != '"' ? std::string_view()
                                             : json.substr(1, json.size() - 2);
  }

  // Takes note of what a choice says.
  void Follow(std::string_view choice) {
    if (!choice.starts_with('{')) return;
    std::int64_t index = 0;
    bool finished = false;
    ForEachMember(choice, [&](std::string_view name, std::string_view value) {
      if (name == "\"index\"")
        std::from_chars(value.data(), value.data() + value.size(), index);
      if (name == "\"finish_reason\"")
        finished = finished || !Unquote(value).empty();
    });
    choices_[index] |= finished;
  }

  // Those that were seen, and whether they are finished. There is a first one
  // in every answer.
  std::map<std::int64_t, bool> choices_{{0, false}};
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_COMPLETION_H_
