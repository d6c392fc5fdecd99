// What standard output and standard error go to: a terminal, or a file or a pipe. Nothing is ever
// coloured; lines that are drawn over need a terminal that can, and a user who does not want it
// plain.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace gpt2train {

// Whether lines that go to this file descriptor may be drawn over: not where it is no terminal or
// one that cannot (TERM=dumb), nor where --quiet or NO_COLOR (no-color.org) ask for less.
bool draws_over(int descriptor);

struct TerminalSize {
  int columns = 80, rows = 24;  // what is assumed where a terminal does not tell
};

// Nothing where standard output is not drawn over. Asked anew each time: windows change.
std::optional<TerminalSize> terminal_size();

// --quiet: from here on standard output goes nowhere, and errors alone are told.
void be_quiet();

// A line on standard error that is drawn again and again; nothing where it cannot be drawn over.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  bool due() const;  // not drawn for a while
  void draw(const std::string& text);
  void clear();

 private:
  bool possible_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point drawn_ = {};
};

}  // namespace gpt2train
