// Any bytes, fed in any pieces, give what the whole gives, and what the naive
// reference reads. The last bytes of the input choose the sizes of the pieces.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tests/openai/sse_reference.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input,
                                      std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(input), size);
  const std::string_view text = bytes.substr(0, size - size / 4);
  const std::string_view sizes = bytes.substr(text.size());

  std::vector<std::string_view> pieces;
  std::string_view rest = text;
  for (const char c : sizes) {
    const auto piece = rest.substr(0, static_cast<unsigned char>(c) % 16);
    pieces.push_back(piece);
    rest.remove_prefix(piece.size());
  }
  pieces.push_back(rest);

  using keyrotator::testing::ParsePieces;
  const auto whole = ParsePieces({text});
  if (whole != keyrotator::testing::ReferenceParse(text)) std::abort();
  if (whole != ParsePieces(pieces)) std::abort();
  return 0;
}
