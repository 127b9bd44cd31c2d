// File: openai/completion.h
//
// Whether the answer in a stream is complete, told by what its events say.
//
// Example:
//   keyrotator::internal::Completion completion;
//   bool whole = completion.Completes(event.event, event.data);

#ifndef KEYROTATOR_OPENAI_COMPLETION_H_
#define KEYROTATOR_OPENAI_COMPLETION_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// What the choices of a streamed chunk say: the index of each, and whether it
// is finished. Reads the JSON as a sequence of tokens; nothing recurses.
class ChoiceReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  struct Choice {
    std::int64_t index = 0;
    bool finished = false;
  };

  const std::vector<Choice>& choices() const { return choices_; }
  const std::string& type() const { return type_; }  // the top-level one

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t value) override {
    return OnNumber(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return OnNumber(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t& value) override {
    if (depth_ == 1 && keys_[1] == "type") type_ = value;
    if (InChoice() && keys_[3] == "finish_reason" && !value.empty())
      choices_.back().finished = true;
    return true;
  }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    const bool entered = Enter();
    if (InChoice()) choices_.emplace_back();
    return entered;
  }
  bool key(string_t& name) override {
    if (depth_ < keys_.size()) keys_[depth_] = name;
    return true;
  }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::json::exception&) override {
    return false;
  }

 private:
  static constexpr std::size_t kMaxDepth = 64;

  bool Enter() {
    ++depth_;
    // A key from a sibling is none of this value's.
    if (depth_ < keys_.size()) keys_[depth_].clear();
    return depth_ <= kMaxDepth;
  }

  // {"choices": [{...}]}: the object in an array in an object.
  bool InChoice() const { return depth_ == 3 && keys_[1] == "choices"; }
  bool OnNumber(std::int64_t value) {
    if (InChoice() && keys_[3] == "index") choices_.back().index = value;
    return true;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  std::size_t depth_ = 0;
  std::array<std::string, 4> keys_;  // the last key at each depth
  std::vector<Choice> choices_;
  std::string type_;
};

// Whether `data` has a member of that name whose value does not begin with
// `but`. In JSON text quotes are escaped, so no model's words look like that.
inline bool HasMember(std::string_view data, std::string_view quoted_name,
                      std::string_view but) {
  for (std::size_t at = data.find(quoted_name); at != std::string_view::npos;
       at = data.find(quoted_name, at + 1)) {
    std::string_view rest = SkipBlanks(data.substr(at + quoted_name.size()));
    if (!rest.starts_with(':')) continue;
    rest = SkipBlanks(rest.substr(1));
    if (!rest.starts_with(but)) return true;
  }
  return false;
}

// Follows one stream.
class Completion {
 public:
  // Whether the answer is complete with this event: all choices have a
  // finish_reason, or the event says so (message_stop, response.completed,
  // response.incomplete).
  bool Completes(std::string_view event, std::string_view data) {
    if (IsLast(event)) return true;
    const bool finishes = HasMember(data, "\"finish_reason\"", "null");
    const bool other_choice = HasMember(data, "\"index\"", "0");
    const bool typed =
        data.find("\"message_stop\"") != std::string_view::npos ||
        data.find("\"response.") != std::string_view::npos;
    if (!finishes && !other_choice && !typed) return false;
    ChoiceReader reader;
    nlohmann::json::sax_parse(data, &reader,
                              nlohmann::json::input_format_t::json, false);
    if (IsLast(reader.type())) return true;
    for (const auto& choice : reader.choices()) {
      bool& finished = choices_[choice.index];
      finished = finished || choice.finished;
    }
    return finishes &&
           std::all_of(choices_.begin(), choices_.end(),
                       [](const auto& choice) { return choice.second; });
  }

 private:
  static bool IsLast(std::string_view name) {
    return name == "message_stop" || name == "response.completed" ||
           name == "response.incomplete";
  }

  // Those that were seen, and whether they are finished. There is a first one
  // in every answer.
  std::map<std::int64_t, bool> choices_{{0, false}};
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_OPENAI_COMPLETION_H_
