#include "src/cli/signals.h"

#include <csignal>

namespace gpt2train {
namespace {

volatile std::sig_atomic_t seen = 0;

void note_signal(int) {
  seen = 1;
}

}  // namespace

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool signal_seen() {
  return seen != 0;
}

}  // namespace gpt2train
