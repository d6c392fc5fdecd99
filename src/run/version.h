#pragma once

namespace gpt2train {

// "0.1.0+5d1f50312ab4": the release, and where it was built from a git checkout the commit; with
// ".9f86d081" after it, a hash of what had been changed since.
const char* version();

}  // namespace gpt2train
