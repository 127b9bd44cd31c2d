#include "keyrotator/config/yaml_fields.h"

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace keyrotator::internal::config_yaml_fields_test {
namespace {

struct Thing {
  std::string name;
  std::uint32_t count = 0;
  bool on = false;
  std::optional<Span> wait;
  std::vector<std::string> tags;
};

class ThingFields : public YamlFields {
 public:
  Thing Read(const char* text) {
    const YAML::Node root = YAML::Load(text);
    Thing thing;
    const Bound count{.expected = "a whole number above 0", .least = 1};
    ReadFields({root, root.Mark(), ""},
               {{"name", Into(thing.name, &names_), true},
                {"count", Into(thing.count, count)},
                {"on", Into(thing.on)},
                {"wait", Into(thing.wait)},
                {"tags", Into(thing.tags)}});
    return thing;
  }

 private:
  using YamlFields::Read;
  Names names_;
};

// What is wrong with `text`, a line for each problem.
std::string Problems(const char* text) {
  ThingFields fields;
  fields.Read(text);
  try {
    fields.Finish("f");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("each field goes where its row says", "[yaml_fields]") {
  ThingFields fields;
  const Thing thing =
      fields.Read("name: a\ncount: 3\non: true\nwait: 1.5s\ntags: [x, y]\n");
  fields.Finish("f");
  CHECK(thing.name == "a");
  CHECK(thing.count == 3);
  CHECK(thing.on);
  CHECK(thing.wait == Span(std::chrono::milliseconds(1500)));
  CHECK(thing.tags == std::vector<std::string>{"x", "y"});
}

TEST_CASE("all that is wrong is told, by line and column", "[yaml_fields]") {
  CHECK(Problems("tags: x\nname: a\ncount: 0\nwait: 0s\n") ==
        "f:1:7: tags: expected a list, found text\n"
        "f:3:8: count: expected a whole number above 0\n"
        "f:4:7: wait: expected a duration longer than 0");
}

TEST_CASE("what is of another type is said to be", "[yaml_fields]") {
  CHECK(Problems("name: a\ncount: '3'\n") ==
        "f:2:8: count: expected a whole number above 0, found text in quotes");
  CHECK(Problems("name: a\non: yes\n") ==
        "f:2:5: on: expected true or false, found text");
  CHECK(Problems("name: [a]\n") == "f:1:7: name: expected text, found a list");
}

TEST_CASE("a field that is misspelt is guessed, and read", "[yaml_fields]") {
  CHECK(Problems("nmae: a\n") ==
        "f:1:1: unknown field nmae; did you mean name?");
}

TEST_CASE("a field that is missing or comes twice is told", "[yaml_fields]") {
  CHECK(Problems("on: true\n") == "f:1:1: the field name is missing");
  CHECK(Problems("name: a\nname: b\n") ==
        "f:2:1: name: given twice, first in line 1");
}

TEST_CASE("a number out of range is told from one that is none",
          "[yaml_fields]") {
  CHECK(Problems("name: a\ncount: 99999999999\n") ==
        "f:2:8: count: expected a whole number above 0, found one out of "
        "range");
}

TEST_CASE("no more problems are shown than a reader reads", "[yaml_fields]") {
  std::string text = "name: a\ntags:\n";
  for (std::size_t i = 0; i < kMostProblemsShown + 2; ++i) text += "  - ''\n";
  const std::string problems = Problems(text.c_str());
  CHECK(problems.ends_with("\nf: and 2 more"));
}

}  // namespace
}  // namespace keyrotator::internal::config_yaml_fields_test
