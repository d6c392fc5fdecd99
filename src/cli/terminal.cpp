#include "src/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "gpt2train/core/error.h"

namespace gpt2train {
namespace {

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool asked_for_quiet = false;

}  // namespace

bool draws_over(int descriptor) {
  return !asked_for_quiet && isatty(descriptor) != 0 && environment("NO_COLOR").empty() &&
         environment("TERM") != "dumb";
}

std::optional<TerminalSize> terminal_size() {
  if (!draws_over(STDOUT_FILENO)) return std::nullopt;
  TerminalSize size;
  winsize window = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0) return size;
  if (window.ws_col > 0) size.columns = window.ws_col;
  if (window.ws_row > 0) size.rows = window.ws_row;
  return size;
}

void be_quiet() {
  asked_for_quiet = true;
  if (std::freopen("/dev/null", "w", stdout) == nullptr) {
    throw DeviceError("/dev/null cannot be opened");
  }
}

StatusLine::StatusLine() : possible_(draws_over(STDERR_FILENO)) {}

bool StatusLine::due() const {
  return possible_ && std::chrono::steady_clock::now() - drawn_ > std::chrono::milliseconds(200);
}

void StatusLine::draw(const std::string& text) {
  if (!possible_) return;
  drawn_ = std::chrono::steady_clock::now();
  std::fputs(("\r" + text + "\033[K").c_str(), stderr);
  shown_ = true;
}

void StatusLine::clear() {
  if (shown_) std::fputs("\r\033[K", stderr);
  shown_ = false;
}

}  // namespace gpt2train
