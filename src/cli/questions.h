// Files of questions, from tokens or from text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpt2train/data/choices.h"
#include "src/run/text_codec.h"

namespace gpt2train {

// llm.c's format (read_choices), or, where the name ends in .jsonl, HellaSwag's own: an object a
// line with ctx, endings and label, an ending encoded with a space before it, as in llm.c. `codec`
// is null where there is no vocabulary. Throws ConfigError and DataError.
std::vector<ChoiceExample> read_questions(const std::string& path, std::int64_t vocab_size,
                                          TextCodec* codec);

}  // namespace gpt2train
