// `gpt2train plan --as nanogpt`: which batch nanoGPT would hold in the same budget.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <optional>

#include "gpt2train/nanogpt/nanogpt.h"
#include "gpt2train/train/run_config.h"

namespace gpt2train {

void add_plan_as(CLI::App& app, std::optional<NanogptForm>& as);

// Prints it, as text or JSON. Throws OutOfMemoryError where the configured batch_size does not fit
// with the configured memory.segments.
void plan_as(NanogptForm form, const RunConfig& config, std::size_t budget_bytes, bool json);

}  // namespace gpt2train
