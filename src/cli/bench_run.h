// One point of a sweep, measured: a training run of a few short steps in an allocator of its own,
// so that its peak is its own as well.
#pragma once

#include <functional>

#include "src/cli/bench_point.h"
#include "src/run/run_setup.h"

namespace gpt2train {

// The settings of that run: `plan` with at most as many micro-batches a step as the method says, an
// evaluation of one batch before and after, and no recovery.
RunConfig bench_config(RunConfig config, const Plan& plan, const BenchMethod& method);

// A point before it is measured.
struct PlannedPoint {
  RunConfig config;  // of its run: bench_config()
  BenchPoint point;  // with its failure where it does not fit
  bool fits = false;
};
PlannedPoint planned_point(const RunSetup& setup, const RunConfig& wanted, const Plan& plan,
                           const BenchMethod& method);

// Fills in what is measured of a point that is predicted to fit, or what ran out. False, and the
// point is worth nothing, when interrupted. `config` is what bench_config() made of the point's.
bool measure(const RunSetup& setup, const RunConfig& config, const BenchMethod& method,
             const std::function<bool()>& interrupted, BenchPoint& point);

}  // namespace gpt2train
