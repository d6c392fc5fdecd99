#include "src/cli/tune.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <limits>

namespace gpt2train {
namespace {

// Rates that differ by less than measurements of the same plan do are the same.
constexpr double kAlike = 0.01;

bool same_level(const Plan& a, const Plan& b) {
  return a.recompute == b.recompute && a.block_layers == b.block_layers;
}

// In the order of `plans`; null where there is none.
template <class Accept>
const Plan* largest(const std::vector<Plan>& plans, const Accept& accept) {
  const Plan* found = nullptr;
  for (const Plan& plan : plans) {
    if (accept(plan) && (found == nullptr || plan.micro_batch > found->micro_batch)) found = &plan;
  }
  return found;
}

std::vector<Plan> plans_that_fit(const KernelTable& kernels, const RunConfig& config,
                                 const std::vector<Plan>& candidates, std::size_t budget_bytes) {
  std::vector<Plan> fitting;
  std::copy_if(
      candidates.begin(), candidates.end(), std::back_inserter(fitting),
      [&](const Plan& plan) { return predict(kernels, config, plan, budget_bytes).fits(); });
  return fitting;
}

bool contains(const std::vector<Plan>& plans, const Plan& plan) {
  return std::find(plans.begin(), plans.end(), plan) != plans.end();
}

// Seconds a token, where that is known.
double cost_of(const std::optional<SpeedEstimate>& speed) {
  return speed ? 1.0 / speed->tokens_per_second : std::numeric_limits<double>::infinity();
}

// The first of `candidates` that was measured to be about as fast as the fastest; null where none
// was measured.
const Plan* fastest_of(const std::vector<Plan>& candidates, const PlanSpeeds& speeds,
                       const RunConfig& config) {
  double best = 0.0;
  const auto rate = [&](const Plan& plan) {
    const std::optional<SpeedEstimate> speed = speeds.of(config, plan);
    return speed && speed->measured ? speed->tokens_per_second : 0.0;
  };
  for (const Plan& plan : candidates) best = std::max(best, rate(plan));
  const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Plan& plan) {
    return rate(plan) > 0.0 && rate(plan) >= (1.0 - kAlike) * best;
  });
  return found == candidates.end() ? nullptr : &*found;
}

std::vector<Plan> by_speed(const RunConfig& config, const std::vector<Plan>& candidates,
                           const std::vector<Plan>& fitting, const PlanSpeeds& speeds) {
  const Plan* const fastest = fastest_of(fitting, speeds, config);
  if (fastest == nullptr) return {};
  const double least = cost_of(speeds.of(config, *fastest));
  // Without a model, what it costs beside the fastest is guessed as ever.
  const double scale = least / relative_cost(config, *fastest);
  struct Ranked {
    Plan plan;
    double cost;
  };
  std::vector<Ranked> ranked;
  for (const Plan& plan : candidates) {
    const std::optional<SpeedEstimate> speed = speeds.of(config, plan);
    double cost = speed ? cost_of(speed) : scale * relative_cost(config, plan);
    if (contains(fitting, plan)) cost = std::max(cost, least);
    ranked.push_back({plan, cost});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [&](const Ranked& a, const Ranked& b) {
    if (a.cost != b.cost) return a.cost < b.cost;
    return a.plan == *fastest && !(b.plan == *fastest);
  });
  std::vector<Plan> plans;
  for (const Ranked& each : ranked) plans.push_back(each.plan);
  return plans;
}

}  // namespace

std::vector<Plan> plans_to_try(const std::vector<Plan>& fitting) {
  std::vector<Plan> plans;
  if (fitting.empty()) return plans;
  const Plan& first = fitting.front();
  plans.push_back(first);
  for (const std::int64_t divisor : {2, 4}) {
    const Plan* const smaller = largest(fitting, [&](const Plan& plan) {
      return same_level(plan, first) && plan.micro_batch * divisor <= first.micro_batch;
    });
    if (smaller != nullptr && !contains(plans, *smaller)) plans.push_back(*smaller);
  }
  for (const Recompute level : kRecomputeLevels) {
    if (level == first.recompute) continue;
    const Plan* const most =
        largest(fitting, [&](const Plan& plan) { return plan.recompute == level; });
    if (most != nullptr) plans.push_back(*most);
  }
  return plans;
}

Tuning tune(const KernelTable& kernels, const RunConfig& config, std::size_t budget_bytes,
            const Machine& machine, std::vector<BenchPoint> known, const MeasurePlan& measure,
            double most_seconds, const TuneObserver& observer) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  Tuning tuning;
  const std::vector<Plan> candidates = candidate_plans(config);
  const std::vector<Plan> fitting = plans_that_fit(kernels, config, candidates, budget_bytes);
  const PlanSpeeds before(kernels, config, machine, known);
  for (const Plan& plan : plans_to_try(fitting)) {
    Trial trial{.plan = plan, .speed = before.of(config, plan)};
    trial.known = trial.speed && trial.speed->measured;
    if (!trial.known) {
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      if (!measure || (!tuning.trials.empty() && seconds > most_seconds)) continue;
      observer.begins(plan);
      std::optional<BenchPoint> point = measure(plan);
      if (!point) {
        tuning.interrupted = true;
        return tuning;
      }
      trial.failure = point->failure;
      known.push_back(std::move(*point));
      trial.speed = PlanSpeeds(kernels, config, machine, known).of(config, plan);
      if (!trial.speed || !trial.speed->measured) trial.speed.reset();
    }
    observer.ended(trial);
    tuning.trials.push_back(std::move(trial));
  }
  tuning.plans = by_speed(config, candidates, fitting, PlanSpeeds(kernels, config, machine, known));
  return tuning;
}

}  // namespace gpt2train
