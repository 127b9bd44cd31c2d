// File: config/yaml_document.h
//
// One YAML document as a YAML::Node, or the place at which a text is not one.
//
// yaml-cpp reads every text twice: a YAML::Node can no longer tell whether
// there was an anchor or a second document, and a few lines of aliases can
// stand for terabytes of nodes. So a first pass over the events, which stores
// nothing, refuses what no configuration needs.
//
// Example:
//   const YAML::Node root =
//       keyrotator::internal::ParseYaml("name: openai");
//   root["name"].Scalar();      // "openai"
//   root["name"].Mark().column;  // 6, as yaml-cpp counts from 0

#ifndef KEYROTATOR_CONFIG_YAML_DOCUMENT_H_
#define KEYROTATOR_CONFIG_YAML_DOCUMENT_H_

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "keyrotator/internal/utf8.h"

namespace keyrotator::internal {

// Far above what a configuration takes. In memory a node takes some 400 bytes.
inline constexpr std::size_t kLongestYaml = std::size_t{64} << 20;
inline constexpr std::size_t kMostYamlNodes = 4'000'000;
inline constexpr std::size_t kDeepestYaml = 16;

// Why a text is refused. what() has no byte of the text.
struct YamlError : std::runtime_error {
  YamlError(const YAML::Mark& where, const char* why)
      : std::runtime_error(why), mark(where) {}

  YAML::Mark mark;
};

inline constexpr const char* kNoAliases =
    "aliases and anchors (* and &) are not taken; text that begins so needs "
    "quotes";

// The first pass. Throws YamlError.
class YamlGuard : public YAML::EventHandler {
 public:
  // Where the list or map begins that is being read; null if none is.
  const YAML::Mark* innermost() const {
    return open_.empty() ? nullptr : &open_.back();
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1)
      throw YamlError(mark, "another document begins here; a file has one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Check(mark, "", anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YamlError(mark, kNoAliases);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, const std::string&) override {
    Check(mark, tag, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  void Check(const YAML::Mark& mark, const std::string& tag,
             YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) throw YamlError(mark, kNoAliases);
    // yaml-cpp gives text without a tag "?" if it is plain, "!" if it is
    // quoted.
    if (!tag.empty() && tag != "?" && tag != "!")
      throw YamlError(mark,
                      "tags are not taken; text that begins with ! needs "
                      "quotes");
    if (++nodes_ > kMostYamlNodes)
      throw YamlError(mark,
                      "more than 4000000 values; is this the right file?");
  }
  void Open(const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    Check(mark, tag, anchor);
    if (open_.size() == kDeepestYaml)
      throw YamlError(mark, "nested too deeply");
    open_.push_back(mark);
  }

  int documents_ = 0;
  std::size_t nodes_ = 0;
  std::vector<YAML::Mark> open_;  // from the root inwards
};

// A syntax error in our words: yaml-cpp's may quote the text, and help little.
// `innermost` is YamlGuard's.
inline YamlError ExplainSyntaxError(const YAML::Exception& error,
                                    std::string_view text,
                                    const YAML::Mark* innermost) {
  struct Explanation {
    const char* yaml_cpp;
    const char* ours;
  };
  namespace Known = YAML::ErrorMsg;
  const auto explanations = std::to_array<Explanation>(
      {{Known::MAP_VALUE,
        "a colon that nothing explains: is the indentation right? Text with a "
        "colon and a blank in it needs quotes"},
       {Known::END_OF_MAP,
        "what begins here is no field of the map above it: is the indentation "
        "right?"},
       {Known::END_OF_SEQ,
        "what begins here is no entry of the list above it: is the indentation "
        "right?"},
       {Known::FLOW_END, "a ] or } that closes nothing"},
       {Known::BLOCK_ENTRY, "an entry of a list cannot stand here"},
       {Known::EOF_IN_SCALAR, "a quote is not closed"},
       {Known::UNKNOWN_TOKEN, "text that begins with this sign needs quotes"},
       {Known::UNKNOWN_ANCHOR, kNoAliases}});
  // Reported where it begins: its end could have been anywhere.
  if (innermost != nullptr && (error.msg == Known::END_OF_MAP_FLOW ||
                               error.msg == Known::END_OF_SEQ_FLOW)) {
    return {*innermost, "not closed, or a comma is missing in it"};
  }
  for (int line = 0; line < error.mark.line; ++line)
    text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  const std::size_t indentation = text.find_first_not_of(" \t");
  if (text.substr(0, indentation).find('\t') != text.npos)
    return {error.mark, "a tab in the indentation; use spaces"};
  for (const Explanation& each : explanations) {
    if (error.msg == each.yaml_cpp) return {error.mark, each.ours};
  }
  return {error.mark, "not valid YAML"};
}

// Throws YamlError at the first byte that YAML does not allow: yaml-cpp takes
// some for the end of the text.
inline void CheckYamlBytes(std::string_view text) {
  YAML::Mark mark;
  while (!text.empty()) {
    const auto [value, bytes] = FirstCodePoint(text);
    if (bytes == 0) throw YamlError(mark, "a byte that is not UTF-8");
    if ((value < ' ' && value != '\t' && value != '\r' && value != '\n') ||
        value == 0x7F)
      throw YamlError(mark, "a control character");
    mark.line += value == '\n' ? 1 : 0;
    mark.column = value == '\n' ? 0 : mark.column + 1;
    text.remove_prefix(bytes);
  }
}

// Throws YamlError for what is not one document of YAML, in UTF-8 and within
// the limits above. Linear.
inline YAML::Node ParseYaml(std::string_view text) {
  if (text.size() > kLongestYaml)
    throw YamlError({}, "longer than 64 MiB; is this the right file?");
  CheckYamlBytes(text);
  YamlGuard guard;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    while (parser.HandleNextDocument(guard)) {
    }
    return YAML::Load(std::string(text));
  } catch (const YAML::Exception& error) {
    throw ExplainSyntaxError(error, text, guard.innermost());
  }
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_CONFIG_YAML_DOCUMENT_H_
