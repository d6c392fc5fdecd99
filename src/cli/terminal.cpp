#include "src/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

namespace gpt2train {

std::optional<TerminalSize> terminal_size() {
  if (isatty(STDOUT_FILENO) == 0) return std::nullopt;
  TerminalSize size;
  winsize window = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return size;
  if (window.ws_col > 0) size.columns = window.ws_col;
  if (window.ws_row > 0) size.rows = window.ws_row;
  return size;
}

}  // namespace gpt2train
