#include "src/cli/speed_model.h"

#include <gtest/gtest.h>

#include "tests/support/planted_machine.h"

namespace gpt2train {
namespace {

using test::PlantedMachine;

RunConfig small_model() {
  RunConfig config;
  config.model = {.n_layer = 4, .n_head = 4, .n_embd = 256, .block_size = 128, .vocab_size = 1000};
  config.training.batch_size = 16;
  config.training.gradient_accumulation_steps = 2;
  return config;
}

SpeedSample sample_of(const PlantedMachine& machine, const RunConfig& config, const Plan& plan) {
  SpeedSample sample{.work = step_work(cpu_kernels(), config, plan),
                     .accumulation = plan.accumulation,
                     // What a step reaches is 70 % of it.
                     .peak_flops_per_second = machine.flops_per_second / 0.7,
                     .group = concat(plan.micro_batch, name_of(plan.recompute))};
  sample.step_seconds = machine.step_seconds(sample.work, plan.accumulation);
  sample.update_seconds = machine.update_seconds(sample.work);
  return sample;
}

std::vector<SpeedSample> samples_of(const PlantedMachine& machine, const RunConfig& config) {
  std::vector<SpeedSample> samples;
  for (const Plan& plan : candidate_plans(config)) {
    if (plan.block_layers == 0 || plan.block_layers == config.model.n_layer) {
      samples.push_back(sample_of(machine, config, plan));
    }
  }
  return samples;
}

TEST(SpeedModel, RecoversTheRatesOfAPlantedMachine) {
  for (const double faster : {1.0, 30.0}) {  // a CPU, and something like a GPU
    const PlantedMachine machine{.flops_per_second = 2e12 * faster,
                                 .bytes_per_second = 1e11 * faster,
                                 .update_bytes_per_second = 5e10 * faster};
    const SpeedModel model = fit_speed(samples_of(machine, small_model()));
    EXPECT_NEAR(model.flops_per_second / machine.flops_per_second, 1.0, 0.02);
    EXPECT_NEAR(model.bytes_per_second / machine.bytes_per_second, 1.0, 0.02);
    EXPECT_NEAR(model.seconds_per_call / machine.seconds_per_call, 1.0, 0.02);
    EXPECT_NEAR(model.update_bytes_per_second / machine.update_bytes_per_second, 1.0, 1e-9);
  }
}

TEST(SpeedModel, PredictsPlansAndModelsThatItHasNotSeen) {
  const PlantedMachine machine;
  const SpeedModel model = fit_speed(samples_of(machine, small_model()));
  RunConfig large;  // 124M
  for (const RunConfig& config : {small_model(), large}) {
    for (const std::int64_t micro : {2, 4, 8}) {
      const Plan plan{.micro_batch = micro,
                      .accumulation = 32 / micro,
                      .recompute = Recompute::kBlock,
                      .block_layers = 2};
      const StepWork work = step_work(cpu_kernels(), config, plan);
      EXPECT_NEAR(model.step_seconds(work, plan.accumulation) /
                      machine.step_seconds(work, plan.accumulation),
                  1.0, 0.03);
    }
  }
}

TEST(SpeedModel, MakesDoWithTwoSamples) {
  const PlantedMachine machine{.seconds_per_call = 0.0};
  const RunConfig config = small_model();
  const Plan one{.micro_batch = 4, .accumulation = 8}, other{.micro_batch = 16, .accumulation = 2};
  const SpeedModel model =
      fit_speed({sample_of(machine, config, one), sample_of(machine, config, other)});
  const Plan between{.micro_batch = 8, .accumulation = 4};
  const StepWork work = step_work(cpu_kernels(), config, between);
  EXPECT_NEAR(model.step_seconds(work, 4) / machine.step_seconds(work, 4), 1.0, 0.05);
}

TEST(SpeedModel, IsNotMovedByStepsThatSomethingSlowed) {
  const PlantedMachine machine;
  std::vector<SpeedSample> samples = samples_of(machine, small_model());
  const SpeedSample undisturbed = samples[0];
  for (std::size_t i = 0; i < samples.size(); i += 3) samples[i].step_seconds *= 2.0;
  const SpeedModel model = fit_speed(samples);
  EXPECT_NEAR(
      model.step_seconds(undisturbed.work, undisturbed.accumulation) / undisturbed.step_seconds,
      1.0, 0.03);
}

TEST(SpeedModel, TellsHowFarItIsOffWhatItHasNotSeen) {
  const PlantedMachine machine;
  std::vector<SpeedSample> samples = samples_of(machine, small_model());
  const std::optional<SpeedError> none = left_out_error(samples);
  ASSERT_TRUE(none);
  EXPECT_LT(none->worst, 0.03);
  // Every other step a tenth longer: a model that has only seen the others is off by that, or by
  // half of it where it goes between them.
  for (std::size_t i = 0; i < samples.size(); i += 2) samples[i].step_seconds *= 1.1;
  const std::optional<SpeedError> some = left_out_error(samples);
  EXPECT_GT(some->worst, 0.04);
  EXPECT_LT(some->worst, 0.15);
  EXPECT_GT(some->median, 0.01);
  EXPECT_LE(some->median, some->worst);
  // Another machine's step among them.
  samples[0].step_seconds *= 5.0;
  EXPECT_GT(left_out_error(samples)->worst, 3.0);
}

TEST(SpeedModel, HasNoErrorToTellWhereNothingCanBeLeftOut) {
  const PlantedMachine machine;
  std::vector<SpeedSample> samples = samples_of(machine, small_model());
  for (SpeedSample& sample : samples) sample.group = "one model";
  EXPECT_FALSE(left_out_error(samples));
}

}  // namespace
}  // namespace gpt2train
