// File: config/yaml_fields.h
//
// Reads YAML into structs, field by field, and goes on after what is wrong, so
// that all of it can be reported at once. A reader of a kind of file derives
// from YamlFields and says in rows which fields a map has.
//
// Example:
//   struct Point {
//     double x = 0;
//     double y = 0;
//   };
//   struct Reader : keyrotator::internal::YamlFields {
//     void Read(const Value& map, Point& out) {
//       const keyrotator::internal::Bound bound{"a number of at least 0"};
//       ReadFields(map, {{"x", Into(out.x, bound), true},
//                        {"y", Into(out.y, bound)}});
//     }
//   };

#ifndef KEYROTATOR_CONFIG_YAML_FIELDS_H_
#define KEYROTATOR_CONFIG_YAML_FIELDS_H_

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/config/duration.h"
#include "keyrotator/config/keys_from.h"
#include "keyrotator/config/near_miss.h"
#include "keyrotator/internal/text.h"

namespace keyrotator::internal {

// More would bury the first.
inline constexpr std::size_t kMostProblemsShown = 100;

// What a field must be, in words, and whether a number is so.
struct Bound {
  std::string_view expected;
  double least = 0;
  bool inclusive = true;

  bool Admits(double number) const {
    return std::isfinite(number) &&
           (inclusive ? number >= least : number > least);
  }
};

// Derive from it, see above. What is wrong is noted, and the reading goes on.
class YamlFields {
 public:
  // Throws ConfigError if anything is wrong.
  void Finish(std::string_view file) {
    if (problems_.empty()) return;
    std::stable_sort(problems_.begin(), problems_.end(),
                     [](const Problem& a, const Problem& b) {
                       return std::tie(a.mark.line, a.mark.column) <
                              std::tie(b.mark.line, b.mark.column);
                     });
    const std::size_t shown = std::min(problems_.size(), kMostProblemsShown);
    std::string message;
    for (std::size_t i = 0; i < shown; ++i) {
      const auto& [mark, field, what] = problems_[i];
      message += fmt::format("{}{}:{}:{}: {}{}{}", i == 0 ? "" : "\n", file,
                             mark.line + 1, mark.column + 1, field,
                             field.empty() ? "" : ": ", what);
    }
    if (shown < problems_.size()) {
      message +=
          fmt::format("\n{}: and {} more", file, problems_.size() - shown);
    }
    throw ConfigError(message);
  }

 protected:
  struct Problem {
    YAML::Mark mark;
    std::string field;
    std::string what;
  };
  // A node, its place, and the path to it: "providers[0].name"; "" is the root.
  struct Value {
    YAML::Node node;
    YAML::Mark mark;
    std::string field;
  };
  using ReadField = std::function<void(const Value&)>;
  // A field that a map may have.
  struct Row {
    std::string_view name;
    ReadField read;
    bool required = false;
  };
  // Names that may be given once, and the line of each.
  using Names = std::unordered_map<std::string, int>;

  void Wrong(const Value& value, std::string what) {
    problems_.push_back({value.mark, value.field, std::move(what)});
  }
  void Expect(const Value& value, std::string_view expected) {
    const std::string_view found = value.node.IsNull()       ? "nothing"
                                   : value.node.IsSequence() ? "a list"
                                   : value.node.IsMap()      ? "fields"
                                   : IsQuoted(value.node)    ? "text in quotes"
                                                             : "text";
    Wrong(value, fmt::format("expected {}, found {}", expected, found));
  }
  static bool IsQuoted(const YAML::Node& node) { return node.Tag() == "!"; }

  // ---- Maps and lists of any kind ----

  // Calls the reader of each field of a map, once.
  void ReadFields(const Value& map, std::initializer_list<Row> rows) {
    std::vector<std::string_view> names;
    for (const Row& row : rows) names.push_back(row.name);
    if (!map.node.IsMap()) {
      Expect(map, fmt::format("fields ({})", Listed(names)));
      return;
    }
    const std::string prefix = map.field.empty() ? "" : map.field + ".";
    std::vector<int> lines(rows.size(), 0);  // of each field; 0: not there
    for (const auto& pair : map.node) {
      const YAML::Node& name = pair.first;
      const YAML::Node& node = pair.second;
      const std::string& text = name.Scalar();
      const YAML::Mark mark = name.Mark();
      const bool known = std::count(names.begin(), names.end(), text) > 0;
      const std::string_view meant = known ? text : NearMiss(text, names);
      if (!known) {
        // A text that is nearly a field's name is surely no key, and may be
        // repeated.
        Wrong({name, mark, map.field},
              meant.empty() ? fmt::format("unknown field; expected {}{}",
                                          names.size() > 1 ? "one of " : "",
                                          Listed(names))
                            : fmt::format("unknown field {}{}", text,
                                          DidYouMean(text, names)));
        if (meant.empty()) continue;
      }
      const auto index = static_cast<std::size_t>(
          std::find(names.begin(), names.end(), meant) - names.begin());
      const Row& row = rows.begin()[index];
      const std::string path = prefix + std::string(row.name);
      if (lines[index] == 0) {
        lines[index] = mark.line + 1;
        // yaml-cpp finds nothing where something else begins.
        row.read({node, node.IsNull() ? mark : node.Mark(), path});
      } else if (known) {
        Wrong({name, mark, path},
              fmt::format("given twice, first in line {}", lines[index]));
      }
    }
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (rows.begin()[i].required && lines[i] == 0)
        Wrong(map, fmt::format("the field {} is missing", names[i]));
    }
  }

  template <class Read>
  void ReadList(const Value& list, const Read& read) {
    if (!list.node.IsSequence()) return Expect(list, "a list");
    std::size_t position = 0;
    for (const YAML::Node& node : list.node)
      read({node, node.Mark(), fmt::format("{}[{}]", list.field, position++)});
  }

  // ---- Fields by their type ----

  // The reader of a row whose value belongs into `out`: by its type, with what
  // else its Read takes, or by a function of its own.
  template <class Out, class... More>
  ReadField Into(Out& out, More... more) {
    return [this, &out, more...](const Value& v) { Read(v, out, more...); };
  }
  template <class Self, class Out>
  ReadField Into(Out& out, void (Self::*read)(const Value&, Out&)) {
    return [self = static_cast<Self*>(this), &out, read](const Value& v) {
      (self->*read)(v, out);
    };
  }

  // Text that is not empty, without the blanks around it, and that `check`
  // finds nothing wrong with. A number is text, too. Returns whether it is
  // good.
  bool Read(const Value& value, std::string& out,
            std::string (*check)(const std::string&) = nullptr) {
    const std::size_t before = problems_.size();
    out = Trim(value.node.Scalar());
    if (!value.node.IsScalar()) {
      Expect(value, "text");
    } else if (out.empty()) {
      Wrong(value, "expected text that is not empty");
    } else if (std::any_of(out.begin(), out.end(), [](char c) {
                 return (c >= 0 && c < ' ') || c == 0x7F;
               })) {
      Wrong(value, "a line break or another control character");
    } else if (out.find("${") != out.npos) {
      Wrong(value,
            "no variables are put into text; for a key from the environment "
            "use key_env, with the bare name");
    } else if (check != nullptr) {
      if (std::string what = check(out); !what.empty())
        Wrong(value, std::move(what));
    }
    return problems_.size() == before;
  }
  // A name that comes once.
  void Read(const Value& value, std::string& out, Names* names) {
    if (!Read(value, out)) return;
    const auto [first, is_new] = names->emplace(out, value.mark.line + 1);
    if (!is_new)
      Wrong(value, fmt::format("the name is taken, by line {}", first->second));
  }
  void Read(const Value& value, std::vector<std::string>& out) {
    ReadList(value, [&](const Value& each) { Read(each, out.emplace_back()); });
  }

  template <class Number>
  void Read(const Value& value, Number& out, const Bound& bound) {
    if (!value.node.IsScalar() || IsQuoted(value.node))
      return Expect(value, bound.expected);
    const std::string& text = value.node.Scalar();
    const char* const end = text.data() + text.size();
    Number number{};
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && stop == end &&
        bound.Admits(static_cast<double>(number))) {
      out = number;
      return;
    }
    const bool too_far = error == std::errc::result_out_of_range && stop == end;
    Wrong(value, fmt::format("expected {}{}", bound.expected,
                             too_far ? ", found one out of range" : ""));
  }
  void Read(const Value& value, bool& out) {
    const std::string& text = value.node.Scalar();
    if (IsQuoted(value.node) || (text != "true" && text != "false"))
      return Expect(value, "true or false");
    out = text == "true";
  }
  void Read(const Value& value, std::optional<Span>& out) {
    const std::optional<Span> span = ParseSpan(value.node.Scalar());
    if (!value.node.IsScalar()) {
      Expect(value, fmt::format("a duration ({})", kSpanFormat));
    } else if (!span) {
      Wrong(value, fmt::format("expected a duration: {}", kSpanFormat));
    } else if (span->count() == 0) {
      Wrong(value, "expected a duration longer than 0");
    } else {
      out = span;
    }
  }
  void Read(const Value& value, Span& out) {
    std::optional<Span> span;
    Read(value, span);
    out = span.value_or(out);
  }

  std::vector<Problem> problems_;
};

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_CONFIG_YAML_FIELDS_H_
