// GPT-2's tokenizer (Radford et al. 2019; byte pair encoding: Sennrich et al. 2016): cuts a text
// into pieces and merges the bytes of each, the earliest merge of the vocabulary first.
#pragma once

#include "gpt2train/tokenizer/vocabulary.h"

namespace gpt2train {

std::unique_ptr<Tokenizer> make_bpe_tokenizer(Vocabulary vocabulary);

}  // namespace gpt2train
