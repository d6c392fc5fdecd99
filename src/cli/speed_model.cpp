#include "src/cli/speed_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "gpt2train/core/error.h"
#include "src/cli/statistics.h"

namespace gpt2train {
namespace {

// Coefficients of arithmetic, traffic and calls.
constexpr std::size_t kTerms = 3;
using Terms = std::array<double, kTerms>;

// Time of an op as a multiple of what it takes at the rates that were measured alone. A fit of few
// steps may find arithmetic, or traffic, to cost nothing: that is no rate.
constexpr double kFastest = 0.05, kSlowest = 1e3;
// Doubling a rate against what was measured alone counts as much as being off by this share of a
// step, once: it decides only what the steps leave open.
constexpr double kPriorWeight = 0.01;
// Rates decide which ops are bound by what, which decides the rates; and misfits decide how much a
// step counts.
constexpr int kRounds = 12;
// A step counts by its misfit, not by the square of it, down to this share: one that was measured
// while the machine was busy with something else is twice as slow, and would drag the others along.
constexpr double kOrdinaryMisfit = 0.01;

double bytes_of(const std::vector<OpCalls>& ops) {
  double bytes = 0.0;
  for (const OpCalls& op : ops) bytes += static_cast<double>(op.count) * op.work.bytes;
  return bytes;
}

// What a rate of each kind is multiplied with, over `times` runs of `ops`.
void add_terms(const std::vector<OpCalls>& ops, double times, double flops_per_second,
               double bytes_per_second, Terms& terms) {
  for (const OpCalls& op : ops) {
    const double count = times * static_cast<double>(op.count);
    const double arithmetic = op.work.flops / flops_per_second;
    const double traffic = op.work.bytes / bytes_per_second;
    if (arithmetic > traffic) {
      terms[0] += count * op.work.flops;
    } else {
      terms[1] += count * op.work.bytes;
    }
    terms[2] += count;
  }
}

Terms micro_batch_terms(const StepWork& work, std::int64_t accumulation, double flops_per_second,
                        double bytes_per_second) {
  Terms terms{};
  add_terms(work.first, 1.0, flops_per_second, bytes_per_second, terms);
  add_terms(work.next, static_cast<double>(accumulation - 1), flops_per_second, bytes_per_second,
            terms);
  return terms;
}

// Says that the terms, each by its coefficient, make 1.
struct Row {
  Terms terms{};
  double weight = 1.0;  // of the square of how far they do not

  double misfit(const Terms& x) const {
    return terms[0] * x[0] + terms[1] * x[1] + terms[2] * x[2] - 1.0;
  }
};
using Rows = std::vector<Row>;

double squared_misfit(const Rows& rows, const Terms& x, const Terms& prior) {
  double sum = 0.0;
  for (const Row& row : rows) sum += row.weight * row.misfit(x) * row.misfit(x);
  for (std::size_t i = 0; i < kTerms; ++i) {
    const double misfit = kPriorWeight * (x[i] - prior[i]);
    sum += misfit * misfit;
  }
  return sum;
}

// Least squares over the coefficients named by the bits of `free`, the others being 0: the normal
// equations, solved by elimination.
Terms solve(const Rows& rows, const Terms& prior, unsigned free) {
  std::array<std::array<double, kTerms + 1>, kTerms> m{};
  for (std::size_t i = 0; i < kTerms; ++i) {
    const bool is_free = (free >> i & 1u) != 0;
    m[i][i] = is_free ? kPriorWeight * kPriorWeight : 1.0;
    if (!is_free) continue;
    m[i][kTerms] = kPriorWeight * kPriorWeight * prior[i];
    for (const Row& row : rows) {
      m[i][kTerms] += row.weight * row.terms[i];
      for (std::size_t j = 0; j < kTerms; ++j) {
        if ((free >> j & 1u) != 0) m[i][j] += row.weight * row.terms[i] * row.terms[j];
      }
    }
  }
  // The matrix is positive definite: no pivoting is needed.
  for (std::size_t k = 0; k < kTerms; ++k) {
    for (std::size_t i = 0; i < kTerms; ++i) {
      if (i == k) continue;
      const double factor = m[i][k] / m[k][k];
      for (std::size_t j = k; j <= kTerms; ++j) m[i][j] -= factor * m[k][j];
    }
  }
  Terms x{};
  for (std::size_t i = 0; i < kTerms; ++i) x[i] = m[i][kTerms] / m[i][i];
  return x;
}

// Three terms have eight sets of those that are not 0: all are tried.
Terms solve_not_negative(const Rows& rows, const Terms& prior) {
  Terms best{};
  double least = std::numeric_limits<double>::infinity();
  for (unsigned free = 0; free < 1u << kTerms; ++free) {
    const Terms x = solve(rows, prior, free);
    if (std::any_of(x.begin(), x.end(), [](double value) { return value < 0.0; })) continue;
    const double misfit = squared_misfit(rows, x, prior);
    if (misfit < least) {
      least = misfit;
      best = x;
    }
  }
  return best;
}

double median(std::vector<double> values) {
  return spread_of(std::move(values)).median;
}

}  // namespace

double SpeedModel::step_seconds(const StepWork& work, std::int64_t accumulation) const {
  const Terms terms = micro_batch_terms(work, accumulation, flops_per_second, bytes_per_second);
  return terms[0] / flops_per_second + terms[1] / bytes_per_second + terms[2] * seconds_per_call +
         bytes_of(work.update) / update_bytes_per_second;
}

SpeedModel SpeedModel::scaled(double flops_ratio, double bytes_ratio) const {
  return {.flops_per_second = flops_ratio * flops_per_second,
          .bytes_per_second = bytes_ratio * bytes_per_second,
          .seconds_per_call = seconds_per_call,
          .update_bytes_per_second = bytes_ratio * update_bytes_per_second};
}

SpeedModel fit_speed(const std::vector<SpeedSample>& samples) {
  GPT2_CHECK(!samples.empty(), "no samples have no speed");
  std::vector<double> peaks, update_rates, call_seconds;
  for (const SpeedSample& sample : samples) {
    peaks.push_back(sample.peak_flops_per_second);
    update_rates.push_back(bytes_of(sample.work.update) / sample.update_seconds);
    const Terms terms = micro_batch_terms(sample.work, sample.accumulation, 1.0, 1.0);
    call_seconds.push_back((sample.step_seconds - sample.update_seconds) / terms[2]);
  }
  // Coefficients are in units of these: about 1, or, of calls, between 0 and 1.
  const double flops = median(std::move(peaks)), bytes = median(std::move(update_rates));
  const double call = *std::min_element(call_seconds.begin(), call_seconds.end());

  SpeedModel model{.flops_per_second = flops,
                   .bytes_per_second = bytes,
                   .seconds_per_call = 0.0,
                   .update_bytes_per_second = bytes};
  std::vector<double> weights(samples.size(), 1.0);
  for (int round = 0; round < kRounds; ++round) {
    Rows rows;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const SpeedSample& sample = samples[i];
      const double seconds = sample.step_seconds - sample.update_seconds;
      const Terms terms = micro_batch_terms(sample.work, sample.accumulation,
                                            model.flops_per_second, model.bytes_per_second);
      rows.push_back({.terms = {terms[0] / flops / seconds, terms[1] / bytes / seconds,
                                terms[2] * call / seconds},
                      .weight = weights[i]});
    }
    const Terms x = solve_not_negative(rows, {1.0, 1.0, 0.0});
    model.flops_per_second = flops / std::clamp(x[0], kFastest, kSlowest);
    model.bytes_per_second = bytes / std::clamp(x[1], kFastest, kSlowest);
    model.seconds_per_call = x[2] * call;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      weights[i] = 1.0 / std::max(std::abs(rows[i].misfit(x)), kOrdinaryMisfit);
    }
  }
  return model;
}

std::optional<SpeedError> left_out_error(const std::vector<SpeedSample>& samples) {
  std::set<std::string> groups;
  for (const SpeedSample& sample : samples) groups.insert(sample.group);
  if (groups.size() < 2) return std::nullopt;
  std::vector<double> errors;
  for (const std::string& group : groups) {
    std::vector<SpeedSample> others;
    std::copy_if(samples.begin(), samples.end(), std::back_inserter(others),
                 [&](const SpeedSample& sample) { return sample.group != group; });
    const SpeedModel model = fit_speed(others);
    for (const SpeedSample& sample : samples) {
      if (sample.group != group) continue;
      const double seconds = model.step_seconds(sample.work, sample.accumulation);
      // Of tokens a second, which is what is told.
      errors.push_back(std::abs(sample.step_seconds / seconds - 1.0));
    }
  }
  const double worst = *std::max_element(errors.begin(), errors.end());
  return SpeedError{.median = median(std::move(errors)), .worst = worst};
}

}  // namespace gpt2train
