// What the tests of a configuration share: an environment of their own, files,
// and what an error says.

#ifndef KEYROTATOR_TESTS_SUPPORT_CONFIG_H_
#define KEYROTATOR_TESTS_SUPPORT_CONFIG_H_

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/api_key.h"
#include "keyrotator/config/keys_from.h"
#include "tests/support/temporary_directory.h"

namespace keyrotator::testing {

using Variables = std::map<std::string, std::string>;

// An environment of these variables alone.
inline Environment Env(Variables variables) {
  return [variables = std::move(variables)](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

inline std::vector<std::string> Values(const ApiKeys& keys) {
  std::vector<std::string> values;
  for (const ApiKey& key : keys) values.push_back(key.Reveal());
  return values;
}
using List = std::vector<std::string>;

// What the ConfigError of a call says.
template <class Call>
std::string Error(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

// A file in a directory of its own.
class TemporaryFile {
 public:
  explicit TemporaryFile(
      std::string_view text,
      std::filesystem::perms perms = std::filesystem::perms::owner_all) {
    WriteFile(path(), text);
    std::filesystem::permissions(path(), perms);
  }

  std::filesystem::path path() const { return directory_ / "file"; }
  std::string name() const { return path().string(); }

 private:
  TemporaryDirectory directory_;
};

}  // namespace keyrotator::testing

#endif  // KEYROTATOR_TESTS_SUPPORT_CONFIG_H_
