// The last step of every op: the kernel, unless this is a dry run; timed where a profile is taken,
// and counted where a dry run is asked what it would do.
#pragma once

#include "gpt2train/ops/exec.h"
#include "gpt2train/ops/profiler.h"
#include "gpt2train/ops/work_tally.h"
#include "src/ops/work.h"

namespace gpt2train::ops {

template <class Args>
void launch(const Exec& exec, const char* name, void (*kernel)(const Args&, Stream),
            const Args& args) {
  if (exec.dry_run()) {
    if (exec.tally() != nullptr) exec.tally()->add(name, work_of(args));
    return;
  }
  if (exec.profiler() == nullptr) return kernel(args, exec.stream());
  exec.profiler()->time(name, work_of(args), exec.stream(), [&] { kernel(args, exec.stream()); });
}

}  // namespace gpt2train::ops
