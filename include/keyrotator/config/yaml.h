// File: config/yaml.h
//
// Providers from YAML. It is strict: what it does not know is an error and not
// passed over, and all errors of a file are told at once, each with its place.
//
// Example (providers.yaml, whose fields are those of ProviderConfig; see
// examples/providers.yaml for all of them):
//   providers:
//     - name: openai
//       base_url: https://api.openai.com/v1
//       api_keys:
//         - { key_env: OPENAI_KEY_1, name: prod-1, weight: 2 }
//         - { key_file: /run/secrets/openai }
//       key_selection: weighted
//
//   for (const keyrotator::ProviderConfig& provider :
//        keyrotator::LoadProviders("providers.yaml"))
//     auto rotator = keyrotator::MakeKeyRotator(provider);

#ifndef KEYROTATOR_CONFIG_YAML_H_
#define KEYROTATOR_CONFIG_YAML_H_

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "keyrotator/clock.h"
#include "keyrotator/config/any_selection.h"
#include "keyrotator/config/duration.h"
#include "keyrotator/config/near_miss.h"
#include "keyrotator/config/provider_config.h"
#include "keyrotator/config/yaml_tree.h"
#include "keyrotator/http/url.h"
#include "keyrotator/internal/text.h"

namespace keyrotator {

// The providers that `text` names, in its order. Throws ConfigError with a line
// for each thing that is wrong, by line,
//   providers.yaml:7:9: providers[0].api_keys[1].weight: expected a number ...
// up to the first 100. Beside an unknown field's name that is nearly right it
// repeats nothing that stands in the text: anything there could be a key in the
// wrong place. `file` is what it calls the text.
//
// The variables and files of the keys are looked at, so that it tells of a
// provider without a key; ResolveKeys reads them again. Nothing else comes from
// the environment: there is no ${VAR}. Relative paths are the process's.
// Aliases, anchors, tags and a second document are errors, as are a text above
// 64 MiB and nesting that no configuration needs. Linear.
std::vector<ProviderConfig> ParseProviders(
    std::string_view text, std::string_view file = "YAML",
    const Environment& environment = SystemEnvironment);

// The providers of a file. Throws as ParseProviders does, and for a file that
// cannot be read.
std::vector<ProviderConfig> LoadProviders(
    const std::filesystem::path& path,
    const Environment& environment = SystemEnvironment);

namespace internal {

// More would bury the first.
inline constexpr std::size_t kMostProblemsShown = 100;

// Reads one text. What is wrong is noted, and the reading goes on.
class ProvidersReader {
 public:
  explicit ProvidersReader(const Environment& environment)
      : environment_(environment) {}

  // Throws YamlError. What it returns counts only if nothing is wrong.
  std::vector<ProviderConfig> Read(std::string_view text) {
    const YamlNode root = ParseYaml(text);
    std::vector<ProviderConfig> providers;
    Names names;
    ReadMap({root, ""},
            {{.name = "providers",
              .read =
                  [&](const Value& list) {
                    const std::size_t problems = problems_.size();
                    ReadList(list, [&](const Value& each) {
                      providers.push_back(ReadProvider(each, names));
                    });
                    if (providers.empty() && problems_.size() == problems)
                      Wrong(list, "expected at least one provider");
                  },
              .required = true}});
    return providers;
  }

  void Note(int line, int column, std::string field, std::string what) {
    problems_.push_back({line, column, std::move(field), std::move(what)});
  }

  // Throws ConfigError if anything is wrong.
  void Finish(std::string_view file) {
    if (problems_.empty()) return;
    std::stable_sort(problems_.begin(), problems_.end(),
                     [](const Problem& a, const Problem& b) {
                       return std::tie(a.line, a.column) <
                              std::tie(b.line, b.column);
                     });
    const std::size_t shown = std::min(problems_.size(), kMostProblemsShown);
    std::string message;
    for (std::size_t i = 0; i < shown; ++i) {
      const auto& [line, column, field, what] = problems_[i];
      message +=
          fmt::format("{}{}:{}:{}: {}{}{}", i == 0 ? "" : "\n", file, line,
                      column, field, field.empty() ? "" : ": ", what);
    }
    if (shown < problems_.size()) {
      message +=
          fmt::format("\n{}: and {} more", file, problems_.size() - shown);
    }
    throw ConfigError(message);
  }

 private:
  struct Problem {
    int line;
    int column;
    std::string field;
    std::string what;
  };
  // A node, and how one gets there: "providers[0].name"; "" is the root.
  struct Value {
    const YamlNode& node;
    std::string field;
  };
  struct Field {
    std::string_view name;
    std::function<void(const Value&)> read;
    bool required = false;
  };
  // Names that may come once, and the line where each does.
  using Names = std::unordered_map<std::string, int>;
  // What becomes of one provider's keys.
  struct Pool {
    std::size_t keys = 0;
    // A source was wrong, so there may be more.
    bool doubtful = false;
    // Sources without a key: wrong if there is no other.
    std::vector<Problem> empty = {};
    Names names = {};
  };

  bool Wrong(const Value& value, std::string what) {
    Note(value.node.line, value.node.column, value.field, std::move(what));
    return false;
  }
  bool Expect(const Value& value, std::string_view expected) {
    const std::string_view found =
        value.node.kind == YamlNode::Kind::kNothing ? "nothing"
        : value.node.kind == YamlNode::Kind::kList  ? "a list"
        : value.node.kind == YamlNode::Kind::kMap   ? "fields"
        : value.node.quoted                         ? "text in quotes"
                                                    : "text";
    return Wrong(value, fmt::format("expected {}, found {}", expected, found));
  }

  // --- Any YAML. What returns bool tells whether the value is good. ---

  // Calls the reader of each field of a map, once.
  void ReadMap(const Value& value, std::initializer_list<Field> fields) {
    std::vector<std::string_view> names;
    for (const Field& field : fields) names.push_back(field.name);
    if (value.node.kind != YamlNode::Kind::kMap) {
      Expect(value, fmt::format("fields ({})", Listed(names)));
      return;
    }
    const std::string prefix = value.field.empty() ? "" : value.field + ".";
    std::vector<int> lines(fields.size(), 0);
    for (std::size_t i = 0; i + 1 < value.node.children.size(); i += 2) {
      const YamlNode& name = value.node.children[i];
      auto found = std::find(names.begin(), names.end(), name.text);
      const bool known = found != names.end();
      if (!known) {
        // Only what is nearly a name of ours is surely no key, and may be told.
        const std::string_view near = NearMiss(name.text, names);
        if (near.empty()) {
          Wrong({name, value.field},
                fmt::format("unknown field; expected {}{}",
                            names.size() > 1 ? "one of " : "", Listed(names)));
          continue;
        }
        Wrong({name, value.field}, fmt::format("unknown field {}{}", name.text,
                                               DidYouMean(name.text, names)));
        found = std::find(names.begin(), names.end(), near);
      }
      const auto index = static_cast<std::size_t>(found - names.begin());
      const Field& field = fields.begin()[index];
      const std::string path = prefix + std::string(field.name);
      if (lines[index] == 0) {
        lines[index] = name.line;
        field.read({value.node.children[i + 1], path});
      } else if (known) {
        Wrong({name, path},
              fmt::format("given twice, first in line {}", lines[index]));
      }
    }
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (fields.begin()[i].required && lines[i] == 0)
        Wrong(value, fmt::format("the field {} is missing", names[i]));
    }
  }

  template <class Read>
  void ReadList(const Value& value, const Read& read) {
    if (value.node.kind != YamlNode::Kind::kList) {
      Expect(value, "a list");
      return;
    }
    for (std::size_t i = 0; i < value.node.children.size(); ++i)
      read({value.node.children[i], fmt::format("{}[{}]", value.field, i)});
  }

  // Text that is not empty, without the blanks around it. A number is text,
  // too.
  bool ReadText(const Value& value, std::string& out) {
    if (value.node.kind != YamlNode::Kind::kText) return Expect(value, "text");
    out = Trim(value.node.text);
    if (out.empty()) return Wrong(value, "expected text that is not empty");
    if (std::any_of(out.begin(), out.end(),
                    [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; })) {
      return Wrong(value, "a line break or another control character");
    }
    if (out.find("${") != out.npos) {
      return Wrong(value,
                   "no variables are put into text; for a key from the "
                   "environment use key_env, with the bare name");
    }
    return true;
  }

  // A name that comes once.
  void ReadName(const Value& value, std::string& out, Names& names) {
    if (!ReadText(value, out)) return;
    const auto [first, is_new] = names.emplace(out, value.node.line);
    if (!is_new) {
      Wrong(value, fmt::format("the name is taken, by line {}", first->second));
    }
  }

  // `is_good` is what `expected` says.
  template <class Number, class IsGood>
  void ReadNumber(const Value& value, std::string_view expected,
                  const IsGood& is_good, Number& out) {
    if (value.node.kind != YamlNode::Kind::kText || value.node.quoted) {
      Expect(value, expected);
      return;
    }
    const std::string& text = value.node.text;
    const char* const end = text.data() + text.size();
    Number number{};
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && stop == end && is_good(number)) {
      out = number;
    } else {
      const bool too_far =
          error == std::errc::result_out_of_range && stop == end;
      Wrong(value, fmt::format("expected {}{}", expected,
                               too_far ? ", found one out of range" : ""));
    }
  }

  void ReadBool(const Value& value, bool& out) {
    const std::string& text = value.node.text;
    if (value.node.quoted || (text != "true" && text != "false")) {
      Expect(value, "true or false");
    } else {
      out = text == "true";
    }
  }

  template <class Out>  // Span or std::optional<Span>
  void ReadSpan(const Value& value, Out& out) {
    const std::optional<Span> span = ParseSpan(value.node.text);
    if (value.node.kind != YamlNode::Kind::kText) {
      Expect(value, fmt::format("a duration ({})", kSpanFormat));
    } else if (!span) {
      Wrong(value, fmt::format("expected a duration: {}", kSpanFormat));
    } else if (span->count() == 0) {
      Wrong(value, "expected a duration longer than 0");
    } else {
      out = *span;
    }
  }

  // --- Ours ---

  ProviderConfig ReadProvider(const Value& value, Names& names) {
    ProviderConfig config;
    Pool pool;
    const auto span = [this](auto& out) {
      return [this, &out](const Value& v) { ReadSpan(v, out); };
    };
    ReadMap(
        value,
        {{.name = "name",
          .read = [&](const Value& v) { ReadName(v, config.name, names); },
          .required = true},
         {.name = "base_url",
          .read = [&](const Value& v) { ReadUrl(v, config.base_url); },
          .required = true},
         {"api_keys",
          [&](const Value& list) {
            if (list.node.kind != YamlNode::Kind::kList) pool.doubtful = true;
            ReadList(list, [&](const Value& v) {
              config.api_keys.push_back(ReadKey(v, pool));
            });
          }},
         {"api_key_env",
          [&](const Value& v) { AddVariable(v, config.api_key_env, pool); }},
         {"key_selection",
          [&](const Value& v) { ReadSelection(v, config.key_selection); }},
         {"cooldown", span(config.cooldown)},
         {"max_cooldown", span(config.max_cooldown)},
         {"cooldown_multiplier",
          [&](const Value& v) {
            ReadNumber(
                v, "a number of at least 1",
                [](double x) { return std::isfinite(x) && x >= 1; },
                config.cooldown_multiplier.emplace());
          }},
         {"quota_cooldown", span(config.retry.quota_cooldown)},
         {"retry", [&](const Value& v) { ReadRetry(v, config.retry); }},
         {"auth", [&](const Value& v) { ReadAuth(v, config); }},
         {"allow_http",
          [&](const Value& v) { ReadBool(v, config.allow_http); }},
         {"models", [&](const Value& list) {
            ReadList(list, [&](const Value& v) {
              ReadText(v, config.models.emplace_back());
            });
          }}});
    if (value.node.kind != YamlNode::Kind::kMap || pool.keys > 0 ||
        pool.doubtful) {
      return config;
    }
    if (pool.empty.empty())
      Wrong(value, "it has no key: give it api_keys or api_key_env");
    for (Problem& each : pool.empty) problems_.push_back(std::move(each));
    return config;
  }

  void ReadUrl(const Value& value, std::string& out) {
    if (ReadText(value, out) && !ParseUrl(out)) {
      Wrong(value,
            "expected an http or https URL, without a user name or password, "
            "such as https://api.openai.com/v1");
    }
  }

  void ReadSelection(const Value& value, std::string& out) {
    const auto names = AnySelection::Names();
    if (ReadText(value, out) &&
        std::find(names.begin(), names.end(), out) == names.end()) {
      Wrong(value, fmt::format("expected one of {}{}", Listed(names),
                               DidYouMean(out, names)));
    }
  }

  KeyConfig ReadKey(const Value& value, Pool& pool) {
    KeyConfig entry;
    KeyOptions& options = entry.options;
    if (value.node.kind == YamlNode::Kind::kText) {
      AddBareKey(value, entry.key, pool);
      return entry;
    }
    int sources = 0;
    const std::size_t keys_before = pool.keys;
    ReadMap(value,
            {{"key",
              [&](const Value& v) {
                ++sources;
                AddLiteral(v, entry.key, pool);
              }},
             {"key_env",
              [&](const Value& v) {
                ++sources;
                AddVariable(v, entry.key_env, pool);
              }},
             {"key_file",
              [&](const Value& v) {
                ++sources;
                AddFile(v, entry.key_file, pool);
              }},
             {"name",
              [&](const Value& v) { ReadName(v, options.name, pool.names); }},
             {"group", [&](const Value& v) { ReadText(v, options.group); }},
             {"weight",
              [&](const Value& v) {
                ReadNumber(
                    v, "a number above 0",
                    [](double x) { return std::isfinite(x) && x > 0; },
                    options.weight);
              }},
             {"max_in_flight", [&](const Value& v) {
                ReadNumber(
                    v, "a whole number (0 for no bound)",
                    [](std::size_t) { return true; }, options.max_in_flight);
              }}});
    const std::size_t keys = pool.keys - keys_before;
    if (sources != 1) {
      pool.doubtful = true;
      if (value.node.kind == YamlNode::Kind::kMap) {
        Wrong(value,
              fmt::format("expected one of key, key_env and key_file, found {}",
                          sources == 0 ? "none" : "several"));
      }
    } else if (keys > 1 && !options.name.empty()) {
      Wrong(value, fmt::format("a name is for one key, found {} keys", keys));
    }
    return entry;
  }

  // --- The sources of keys: an entry's one, and api_key_env ---

  // Adds what `count` counts; it is told if that throws.
  template <class Count>
  void AddKeys(const Value& value, Pool& pool, const Count& count) {
    try {
      const std::size_t keys = count();
      pool.keys += keys;
      if (keys > 0) return;
      pool.empty.push_back({value.node.line, value.node.column, value.field,
                            "no key is there (not set, or empty), and the "
                            "provider has no other"});
    } catch (const ConfigError& error) {
      pool.doubtful = true;
      Wrong(value, error.what());
    }
  }

  void AddLiteral(const Value& value, std::string& out, Pool& pool) {
    if (!ReadText(value, out)) {
      pool.doubtful = true;
      return;
    }
    AddKeys(value, pool, [&]() -> std::size_t {
      if (out.starts_with('$')) {
        throw ConfigError(
            "no key begins with $; for one from the environment use key_env, "
            "with the bare name");
      }
      CheckKeyText(out, "the key");
      return 1;
    });
  }

  // An entry that is only a text is a key.
  void AddBareKey(const Value& value, std::string& out, Pool& pool) {
    AddLiteral(value, out, pool);
    if (out.find('_') != out.npos && ShownVariable(out) == out) {
      Wrong(value,
            "expected a key, found what looks like the name of a variable; "
            "write { key_env: NAME }, or { key: ... } if it is a key");
    }
  }

  // What a variable or file is called is not told, since it may be a key in the
  // wrong place.
  void AddVariable(const Value& value, std::string& out, Pool& pool) {
    if (!ReadText(value, out)) {
      pool.doubtful = true;
      return;
    }
    AddKeys(value, pool, [&] {
      if (IsDigit(out[0]) || !std::all_of(out.begin(), out.end(), [](char c) {
            return IsAlphanumeric(c) || c == '_';
          })) {
        throw ConfigError(
            "expected the name of a variable (letters, digits and _), not the "
            "key itself");
      }
      return ReadVariable(out, "the variable", environment_).size();
    });
  }

  void AddFile(const Value& value, std::string& out, Pool& pool) {
    if (!ReadText(value, out)) {
      pool.doubtful = true;
      return;
    }
    AddKeys(value, pool,
            [&] { return ReadKeyFile(out, "the file", {}).size(); });
  }

  // --- The rest of a provider ---

  void ReadRetry(const Value& value, RetryOptions& retry) {
    const auto span = [this](Span& out) {
      return [this, &out](const Value& v) { ReadSpan(v, out); };
    };
    ReadMap(value, {{"max_attempts",
                     [&](const Value& v) {
                       int attempts = 1;
                       ReadNumber(
                           v, "a whole number of at least 1",
                           [](int x) { return x >= 1; }, attempts);
                       retry.max_retries = attempts - 1;
                     }},
                    {"initial_backoff", span(retry.initial_backoff)},
                    {"max_backoff", span(retry.max_backoff)},
                    {"deadline", span(retry.deadline)},
                    {"retry_ambiguous", [&](const Value& v) {
                       ReadBool(v, retry.retry_ambiguous);
                     }}});
  }

  void ReadAuth(const Value& value, ProviderConfig& config) {
    ReadMap(
        value,
        {{"header", [&](const Value& v) { ReadHeader(v, config.auth_header); }},
         {"prefix",
          [&](const Value& v) { ReadPrefix(v, config.auth_prefix); }}});
  }

  void ReadHeader(const Value& value, std::string& out) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";  // RFC 9110, 5.6.2
    if (ReadText(value, out) &&
        !std::all_of(out.begin(), out.end(), [&](char c) {
          return IsAlphanumeric(c) || kMarks.find(c) != kMarks.npos;
        })) {
      Wrong(value, "expected the name of a header, such as Authorization");
    }
  }

  // It may be empty, and its blanks count.
  void ReadPrefix(const Value& value, std::string& out) {
    const std::string& text = value.node.text;
    if (value.node.kind != YamlNode::Kind::kText) {
      Expect(value, "text (\"\" for none)");
    } else if (std::any_of(text.begin(), text.end(),
                           [](char c) { return c < ' ' || c > '~'; })) {
      Wrong(value, "a byte that cannot stand in a header");
    } else if (!text.empty() && IsAlphanumeric(text.back())) {
      Wrong(value,
            "it would run into the key; a blank at its end needs quotes, as in "
            "\"Bearer \"");
    } else {
      out = text;
    }
  }

  const Environment& environment_;
  std::vector<Problem> problems_;
};

}  // namespace internal

inline std::vector<ProviderConfig> ParseProviders(
    std::string_view text, std::string_view file,
    const Environment& environment) {
  internal::ProvidersReader reader(environment);
  std::vector<ProviderConfig> providers;
  try {
    providers = reader.Read(text);
  } catch (const internal::YamlError& error) {
    reader.Note(error.line, error.column, "", error.what());
  }
  reader.Finish(file);
  return providers;
}

inline std::vector<ProviderConfig> LoadProviders(
    const std::filesystem::path& path, const Environment& environment) {
  const auto refuse = [&](std::string_view why) {
    throw ConfigError(fmt::format("{}: {}", path.string(), why));
  };
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    refuse("a directory, where a YAML file should be");
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) refuse(std::generic_category().message(errno));
  std::string text;
  std::vector<char> piece(std::size_t{64} << 10);
  do {
    stream.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    text.append(piece.data(), static_cast<std::size_t>(stream.gcount()));
  } while (stream && text.size() <= internal::kLongestYaml);
  if (stream.bad()) refuse("cannot be read");
  return ParseProviders(text, path.string(), environment);
}

}  // namespace keyrotator

#endif  // KEYROTATOR_CONFIG_YAML_H_
