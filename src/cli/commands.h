// The commands. Each adds its options to a CLI11 app and returns what to run; exit codes are
// main's.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace gpt2train {

using Command = std::function<void()>;

Command add_train(CLI::App& app);
Command add_config(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_bench(CLI::App& app);
Command add_profile(CLI::App& app);
Command add_compare(CLI::App& app);
Command add_reproduce(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_sample(CLI::App& app);
Command add_export(CLI::App& app);
// Returns nothing and throws InternalError when a deviation is above its limit.
Command add_verify(CLI::App& app);
Command add_devices(CLI::App& app);
Command add_manual(CLI::App& app);
Command add_completion(CLI::App& app);
Command add_encode(CLI::App& app);
Command add_decode(CLI::App& app);
Command add_tokenize(CLI::App& app);
Command add_tokenizer(CLI::App& app);

}  // namespace gpt2train
