#include "keyrotator/config/yaml_document.h"

#include <string>
#include <string_view>

#include "tests/support/catch.h"

namespace keyrotator::internal::config_yaml_document_test {
namespace {

using testing::ContainsSubstring;

// "line:column: why", from 1.
std::string Refusal(std::string_view text) {
  try {
    ParseYaml(text);
  } catch (const YamlError& error) {
    return std::to_string(error.mark.line + 1) + ":" +
           std::to_string(error.mark.column + 1) + ": " + error.what();
  }
  return "not refused";
}

TEST_CASE("a document is read, with the place of each value",
          "[yaml_document]") {
  const YAML::Node root = ParseYaml("a: 1\nb:\n  - x\n  - y\n");
  CHECK(root["a"].Scalar() == "1");
  REQUIRE(root["b"].size() == 2);
  CHECK(root["b"][1].Scalar() == "y");
  CHECK(root["b"][1].Mark().line == 3);
  CHECK(ParseYaml("").IsNull());
}

TEST_CASE("what a configuration has no use for is refused where it begins",
          "[yaml_document]") {
  CHECK_THAT(Refusal("a: &x 1\nb: *x\n"), ContainsSubstring("1:4: aliases"));
  CHECK_THAT(Refusal("a: !!int 1\n"), ContainsSubstring("1:4: tags"));
  CHECK_THAT(Refusal("a: 1\n---\nb: 1\n"),
             ContainsSubstring("another document"));
}

TEST_CASE("a byte that YAML does not allow is refused where it is",
          "[yaml_document]") {
  CHECK(Refusal("a: 1\nb: \xff\n") == "2:4: a byte that is not UTF-8");
  CHECK(Refusal("a: \x01\n") == "1:4: a control character");
}

TEST_CASE("nesting has a bound", "[yaml_document]") {
  const std::string open(kDeepestYaml, '[');
  const std::string close(kDeepestYaml, ']');
  CHECK(Refusal(open + close) == "not refused");
  CHECK_THAT(Refusal("[" + open + close + "]"),
             ContainsSubstring("nested too deeply"));
}

TEST_CASE("a syntax error is explained, and repeats no text",
          "[yaml_document]") {
  CHECK_THAT(Refusal("a: sk-secret: x\n"), ContainsSubstring("a colon"));
  CHECK_THAT(Refusal("a:\n\t- sk-secret\n"), ContainsSubstring("a tab"));
  CHECK_THAT(Refusal("a: [sk-secret\n"), ContainsSubstring("1:4: not closed"));
  for (const std::string_view text :
       {"a: sk-secret: x\n", "a:\n\t- sk-secret\n", "a: [sk-secret\n"}) {
    CHECK_THAT(Refusal(text), !ContainsSubstring("secret"));
  }
}

}  // namespace
}  // namespace keyrotator::internal::config_yaml_document_test
