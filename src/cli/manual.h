// What the command line knows of itself, written for others: a manual page, and completions for
// shells.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace gpt2train {

// roff for man(1), as in man-pages(7): commands with their own options, then all settings.
std::string manual_page(const CLI::App& program, const std::string& version);

enum class Shell : unsigned char { kBash, kZsh, kFish };

// A script that the shell reads once: commands, options, and the values of those that have a list.
std::string completions(const CLI::App& program, Shell shell);

}  // namespace gpt2train
