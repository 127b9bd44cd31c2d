// File: config/yaml_tree.h
//
// YAML text as a tree whose nodes know their place. Over yaml-cpp's events and
// not its nodes, as a stranger's text meets limits this way while it is read:
// its size, its depth, no aliases (a few lines of them can stand for
// terabytes).
//
// Example:
//   const internal::YamlNode root = internal::ParseYaml("name: openai");
//   root.children[1].text    // "openai"
//   root.children[1].column  // 7

#ifndef KEYROTATOR_CONFIG_YAML_TREE_H_
#define KEYROTATOR_CONFIG_YAML_TREE_H_

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/emitterstyle.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keyrotator/internal/utf8.h"

namespace keyrotator::internal {

// Far above what a configuration takes. In memory a node takes some 100 bytes,
// and its text.
inline constexpr std::size_t kLongestYaml = std::size_t{64} << 20;
inline constexpr std::size_t kMostYamlNodes = 4'000'000;
inline constexpr std::size_t kDeepestYaml = 16;

struct YamlNode {
  enum class Kind { kNothing, kText, kList, kMap };

  Kind kind = Kind::kNothing;
  // Of a text: it is one even if it looks like a number.
  bool quoted = false;
  // Both from 1. Nothing stands where the name before it does.
  int line = 1;
  int column = 1;
  std::string text = {};
  // A map's: a name, its value, the next name and so on, as often as they come.
  std::vector<YamlNode> children = {};
};

// Why a text is not read. what() has no byte of the text.
struct YamlError : std::runtime_error {
  YamlError(int at_line, int at_column, const char* why)
      : std::runtime_error(why), line(at_line), column(at_column) {}
  // yaml-cpp counts from 0.
  YamlError(const YAML::Mark& mark, const char* why)
      : YamlError(mark.line + 1, mark.column + 1, why) {}

  int line;
  int column;
};

inline constexpr const char* kNoAliases =
    "aliases and anchors (* and &) are not taken; text that begins so needs "
    "quotes";

// Builds the tree while yaml-cpp reads. Throws YamlError.
class YamlTree : public YAML::EventHandler {
 public:
  YamlNode& root() { return root_; }
  // The list or map that is open; null if none is.
  const YamlNode* innermost() const {
    return open_.empty() ? nullptr : &open_.back();
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1)
      throw YamlError(mark, "another document begins here; a file has one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Close(Open(YamlNode::Kind::kNothing, mark, anchor, ""));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YamlError(mark, kNoAliases);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor, const std::string& value) override {
    YamlNode node = Open(YamlNode::Kind::kText, mark, anchor, tag);
    node.text = value;
    Close(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Begin(Open(YamlNode::Kind::kList, mark, anchor, tag));
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag,
                  YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    Begin(Open(YamlNode::Kind::kMap, mark, anchor, tag));
  }
  void OnMapEnd() override { End(); }

 private:
  YamlNode Open(YamlNode::Kind kind, const YAML::Mark& mark,
                YAML::anchor_t anchor, const std::string& tag) {
    if (anchor != YAML::NullAnchor) throw YamlError(mark, kNoAliases);
    // yaml-cpp's for what has none: "?" if it is plain, "!" if it is quoted.
    if (!tag.empty() && tag != "?" && tag != "!")
      throw YamlError(mark,
                      "tags are not taken; text that begins with ! "
                      "needs quotes");
    if (++nodes_ > kMostYamlNodes)
      throw YamlError(mark,
                      "more than 4000000 values; is this the right file?");
    return {.kind = kind,
            .quoted = tag == "!",
            .line = mark.line + 1,
            .column = mark.column + 1};
  }

  void Begin(YamlNode node) {
    if (open_.size() == kDeepestYaml)
      throw YamlError(node.line, node.column, "nested too deeply");
    open_.push_back(std::move(node));
  }
  void End() {
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    Close(std::move(node));
  }
  void Close(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    YamlNode& parent = open_.back();
    const bool is_value =
        parent.kind == YamlNode::Kind::kMap && parent.children.size() % 2 == 1;
    // yaml-cpp finds nothing where something else begins.
    if (node.kind == YamlNode::Kind::kNothing && is_value) {
      node.line = parent.children.back().line;
      node.column = parent.children.back().column;
    }
    parent.children.push_back(std::move(node));
  }

  int documents_ = 0;
  std::size_t nodes_ = 0;
  std::vector<YamlNode> open_;  // from the root inwards
  YamlNode root_;
};

// In our words: yaml-cpp's may quote the text, and help little. `innermost` is
// the list or map that was being read, if any.
inline YamlError ExplainSyntaxError(const YAML::Exception& error,
                                    std::string_view text,
                                    const YamlNode* innermost) {
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
  // Told where it begins: where it would have to end is anywhere.
  if (innermost != nullptr && (error.msg == Known::END_OF_MAP_FLOW ||
                               error.msg == Known::END_OF_SEQ_FLOW)) {
    return {innermost->line, innermost->column,
            "not closed, or a comma is missing in it"};
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

// Throws YamlError for what is not one document of YAML, in UTF-8 and within
// the limits above. Linear.
inline YamlNode ParseYaml(std::string_view text) {
  if (text.size() > kLongestYaml)
    throw YamlError(1, 1, "longer than 64 MiB; is this the right file?");
  // YAML allows none of these, and yaml-cpp takes some for the end of the text.
  int line = 1;
  int column = 1;
  for (std::size_t i = 0; i < text.size();) {
    const auto [value, bytes] = FirstCodePoint(text.substr(i));
    if (bytes == 0) throw YamlError(line, column, "a byte that is not UTF-8");
    const bool is_break = value == '\n';
    if ((value < ' ' && value != '\t' && value != '\r' && !is_break) ||
        value == 0x7F)
      throw YamlError(line, column, "a control character");
    line += is_break ? 1 : 0;
    column = is_break ? 1 : column + 1;
    i += bytes;
  }

  std::istringstream in{std::string(text)};
  YamlTree tree;
  try {
    YAML::Parser parser(in);
    while (parser.HandleNextDocument(tree)) {
    }
  } catch (const YAML::Exception& error) {
    throw ExplainSyntaxError(error, text, tree.innermost());
  }
  return std::move(tree.root());
}

}  // namespace keyrotator::internal

#endif  // KEYROTATOR_CONFIG_YAML_TREE_H_
