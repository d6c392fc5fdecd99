// The terminal that standard output goes to, where it is one.
#pragma once

#include <optional>

namespace gpt2train {

struct TerminalSize {
  int columns = 80, rows = 24;  // what is assumed where a terminal does not tell
};

// Nothing where standard output is a file or a pipe. Asked anew each time: windows change.
std::optional<TerminalSize> terminal_size();

}  // namespace gpt2train
