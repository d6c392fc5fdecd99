// What evaluations write of a text (evaluation.sample_tokens), and in which vocabulary.
#pragma once

#include <functional>

#include "gpt2train/train/evaluation_sample.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

// From an end of a text, or of a line, on; the same random numbers at each evaluation. The
// vocabulary is the settings' (data.vocab), or what lies beside the training tokens. The text ends
// once `stop`, where given, says yes. Empty where the settings ask for none. Throws as text_codec.
SampleText evaluation_text(const RunConfig& config, const std::function<bool()>& stop);

}  // namespace gpt2train
