// `gpt2train manual` and `gpt2train completion`: for packages, and for whoever installs by hand.
#include <fmt/format.h>

#include "src/cli/commands.h"
#include "src/cli/manual.h"
#include "src/run/version.h"

namespace gpt2train {

Command add_manual(CLI::App& app) {
  return [&app] { fmt::print("{}", manual_page(*app.get_parent(), version())); };
}

Command add_completion(CLI::App& app) {
  const auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return [&app, shell] {
    const Shell named = *shell == "zsh"    ? Shell::kZsh
                        : *shell == "fish" ? Shell::kFish
                                           : Shell::kBash;
    fmt::print("{}", completions(*app.get_parent(), named));
  };
}

}  // namespace gpt2train
