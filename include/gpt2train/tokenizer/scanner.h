// Where GPT-2 cuts a text before it merges bytes: no token spans two pieces.
#pragma once

#include <cstddef>
#include <string_view>

namespace gpt2train {

// Bytes of the first piece of `text`: what the pattern of GPT-2's encoder (Radford et al. 2019)
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// matches at its start. It always matches there. \s is Unicode's White_Space.
// `text` is well-formed UTF-8 and not empty; its end counts as the end of the text.
std::size_t first_piece(std::string_view text);

}  // namespace gpt2train
