// Questions whose answer is one of several endings, such as HellaSwag (Zellers et al. 2019), as
// files of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gpt2train {

struct ChoiceExample {
  std::vector<std::int32_t> context;               // one token or more
  std::vector<std::vector<std::int32_t>> endings;  // two or more, none of them empty
  std::int64_t label = 0;                          // the right one
};

// llm.c's format: a header of 256 int32 (magic 20240522, version 1, number of examples, bytes of
// the longest), then a stream of uint16 for each: 65535, its bytes, its index, its label, the
// number of endings, and each text as its length and its tokens, the context first. Throws
// DataError with path and byte offset for anything else, and for tokens that are not below
// vocab_size.
std::vector<ChoiceExample> read_choices(const std::string& path, std::int64_t vocab_size);

}  // namespace gpt2train
