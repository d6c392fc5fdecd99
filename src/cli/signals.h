// SIGINT and SIGTERM as a wish to stop, which whoever works looks at when it suits.
#pragma once

namespace gpt2train {

// From now on the first signal is noted; the second ends the program the default way.
void catch_signals();

bool signal_seen();

}  // namespace gpt2train
