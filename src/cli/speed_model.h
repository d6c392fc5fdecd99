// How long a step takes, from what it moves and computes and from steps that were measured. An op
// takes as long as the slower of its arithmetic and its traffic (the roofline of Williams, Waterman
// and Patterson 2009), and every call a fixed time beside; the rates are those at which the
// measured steps come out best.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/train/step_work.h"

namespace gpt2train {

// A step of some plan, measured.
struct SpeedSample {
  StepWork work = {};
  std::int64_t accumulation = 1;
  double step_seconds = 0.0;  // update included
  double update_seconds = 0.0;
  double peak_flops_per_second = 0.0;  // of large matrix products there
  std::string group = {};              // of steps that tell much of each other, as of one model
};

struct SpeedModel {
  double flops_per_second = 0.0;  // of matrix products and attention in a step
  double bytes_per_second = 0.0;  // of all else in a micro-batch
  double seconds_per_call = 0.0;  // of any op in a micro-batch, whatever it does
  double update_bytes_per_second = 0.0;

  double step_seconds(const StepWork& work, std::int64_t accumulation) const;

  // That of a device with other rates: so many times these. A call takes as long, being the host's.
  SpeedModel scaled(double flops_ratio, double bytes_ratio) const;
};

// From one sample or more. Where they are too few, or too alike, to tell the rates apart, these
// stay in the proportion of the matrix rate and the update's traffic that were measured with them.
SpeedModel fit_speed(const std::vector<SpeedSample>& samples);

// |predicted / measured - 1| of steps that the model was not fitted to.
struct SpeedError {
  double median = 0.0, worst = 0.0;
};

// Each group in turn is predicted from all others. Empty where there is one group only.
std::optional<SpeedError> left_out_error(const std::vector<SpeedSample>& samples);

}  // namespace gpt2train
