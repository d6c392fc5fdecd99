// `gpt2train verify`: forward and backward of a reference model, and how far off this build is.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "gpt2train/data/safetensors.h"
#include "gpt2train/ops/ops.h"
#include "gpt2train/train/load_weights.h"
#include "gpt2train/train/single_pass.h"
#include "src/cli/commands.h"
#include "src/cli/verify_case.h"
#include "src/run/machine.h"

namespace gpt2train {
namespace {

struct VerifyOptions {
  std::string weights, io, grads;
  std::string gelu = "";  // empty: as the file says, else erf
  std::string dtype = "fp32";
  std::string device = "auto";
  std::int64_t n_head = 0;  // 0: from the file's metadata
  bool json = false;
};

// What fp32 and bf16 arithmetic can be held to; measured deviations are 3 to 20 times smaller.
struct Limits {
  double loss, logits, gradient;
};
constexpr Limits kFloat32Limits{.loss = 3e-6, .logits = 2e-5, .gradient = 1e-5};
constexpr Limits kBFloat16Limits{.loss = 5e-3, .logits = 1e-1, .gradient = 3e-2};

GeluForm form_of(const std::string& gelu) {
  return gelu == "tanh" ? GeluForm::kTanh : GeluForm::kErf;
}

// Makes the loss the mean over the targets that count.
float mean_over(const std::vector<std::int32_t>& targets) {
  const auto counted = std::count_if(targets.begin(), targets.end(), [](auto t) { return t >= 0; });
  return 1.0f / static_cast<float>(std::max<std::ptrdiff_t>(counted, 1));
}

// |actual - expected| / |expected| in the L2 norm.
double relative_l2(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
    difference += d * d;
    size += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(difference / std::max(size, 1e-300));
}

double norm_of(const std::vector<float>& values) {
  double sum = 0.0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

struct Report {
  GeluForm gelu = GeluForm::kErf;
  double loss = 0.0, expected_loss = 0.0;
  std::optional<double> logits;  // largest absolute deviation
  std::vector<std::pair<std::string, double>> gradients;

  double loss_deviation() const { return std::abs(loss - expected_loss); }
  double worst_gradient() const {
    double worst = 0.0;
    for (const auto& entry : gradients) worst = std::max(worst, entry.second);
    return worst;
  }
  // Negated comparisons, so that a NaN fails.
  bool within(const Limits& limits) const {
    return loss_deviation() <= limits.loss && !(logits && !(*logits <= limits.logits)) &&
           std::all_of(gradients.begin(), gradients.end(),
                       [&](const auto& entry) { return entry.second <= limits.gradient; });
  }
};

Report verify_builtin(Backend& backend, GeluForm gelu, DType dtype) {
  ModelConfig config = verify_case::model();
  config.gelu = gelu;
  SinglePass run(backend.kernels(), backend.upstream(), config, dtype, backend.stream());
  const Exec& exec = run.exec();
  const auto& parameters = run.state().layout().list();
  ops::fill(exec, {.out = run.state().updated_weights(), .value = 0.0f});
  for (std::size_t t = 0; t < parameters.size(); ++t) {
    const bool scale = parameters[t].init == Init::kOnes;
    std::vector<float> values(static_cast<std::size_t>(parameters[t].count()));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(
          verify_case::weight(static_cast<std::int64_t>(t), static_cast<std::int64_t>(i), scale));
    }
    ops::upload(exec, run.state().layout().view(run.state().updated_weights(), parameters[t]),
                values.data());
  }
  if (run.state().flat_masters().present()) {
    ops::cast(exec, {.out = run.state().flat_weights(), .in = run.state().flat_masters()});
  }
  std::vector<std::int32_t> inputs, targets;
  for (std::int64_t i = 0; i < verify_case::kBatch * config.block_size; ++i) {
    inputs.push_back(verify_case::input(i));
    targets.push_back(verify_case::target(i));
  }
  const float loss =
      run.loss_and_gradients(verify_case::kBatch, inputs, targets, mean_over(targets));

  const verify_case::Expected& expected = verify_case::expected();
  const bool erf = gelu == GeluForm::kErf;
  const auto& norms = erf ? expected.gradient_norms_erf : expected.gradient_norms_tanh;
  Report report{.gelu = gelu,
                .loss = double{loss},
                .expected_loss = erf ? expected.loss_erf : expected.loss_tanh,
                .logits = {},
                .gradients = {}};
  for (std::size_t t = 0; t < parameters.size(); ++t) {
    report.gradients.emplace_back(
        parameters[t].name, std::abs(norm_of(run.gradient(parameters[t])) - norms[t]) / norms[t]);
  }
  return report;
}

// Sizes and, where the file knows them, heads and GELU; the options come first.
ModelConfig config_of(const WeightsFile& file, const VerifyOptions& options) {
  ModelConfig otherwise;
  otherwise.n_head = options.n_head;
  ModelConfig config = model_of(file, otherwise);
  if (options.n_head != 0) config.n_head = options.n_head;
  if (!options.gelu.empty()) config.gelu = form_of(options.gelu);
  if (config.n_head < 1 || config.n_embd % config.n_head != 0) {
    throw ConfigError("--n_head", concat(config.n_head, " heads for a width of ", config.n_embd,
                                         ": give a divisor of the width"));
  }
  return config;
}

Report verify_files(Backend& backend, const VerifyOptions& options, DType dtype) {
  const WeightsFile file = open_weights(find_weights(options.weights));
  const ModelConfig config = config_of(file, options);
  const FittedWeights weights = fit_weights(file, config);
  const SafetensorsFile io(options.io);
  SinglePass run(backend.kernels(), backend.upstream(), config, dtype, backend.stream());
  run.state().load_weights(run.exec(), weights.tensors, weights.hf_orientation);

  const std::vector<std::int64_t> shape = io.at("idx").shape;
  const std::vector<std::int32_t> inputs = io.integers("idx"), targets = io.integers("targets");
  const bool in_range =
      std::all_of(inputs.begin(), inputs.end(),
                  [&](std::int32_t t) { return t >= 0 && t < config.vocab_size; }) &&
      std::all_of(targets.begin(), targets.end(),
                  [&](std::int32_t t) { return t < config.vocab_size; });
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[1] > config.block_size ||
      targets.size() != inputs.size() || !in_range) {
    throw DataError(io.path(), concat("idx and targets are not (batch, time) tokens below ",
                                      config.vocab_size, " with time up to ", config.block_size));
  }
  const std::vector<float> actual = run.logits(shape[0], inputs);
  const float loss = run.loss_and_gradients(shape[0], inputs, targets, mean_over(targets));

  Report report{.gelu = config.gelu,
                .loss = double{loss},
                .expected_loss = io.floats("loss").at(0),
                .logits = {},
                .gradients = {}};
  const std::vector<float> logits = io.floats("logits");
  if (logits.size() != actual.size()) {
    throw DataError(io.path(),
                    concat("logits has ", logits.size(), " values, expected ", actual.size()));
  }
  double worst = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double deviation =
        std::abs(static_cast<double>(logits[i]) - static_cast<double>(actual[i]));
    worst = deviation <= worst ? worst : deviation;  // a NaN stays
  }
  report.logits = worst;
  if (options.grads.empty()) return report;

  const SafetensorsFile grads(options.grads);
  const auto& parameters = run.state().layout().list();
  for (std::size_t t = 0; t < parameters.size(); ++t) {
    const Parameter& parameter = parameters[t];
    std::vector<float> expected = grads.floats(parameter.name);
    if (std::ssize(expected) != parameter.count()) {
      throw DataError(grads.path(), concat(parameter.name, " has ", expected.size(),
                                           " values, expected ", parameter.count()));
    }
    if (parameter.transposed_in_hf && parameter.shape.rank() == 2) {
      const std::int64_t rows = parameter.shape[0], columns = parameter.shape[1];
      std::vector<float> turned(expected.size());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) turned[r * columns + c] = expected[c * rows + r];
      }
      expected = std::move(turned);
    }
    report.gradients.emplace_back(parameter.name, relative_l2(run.gradient(parameter), expected));
  }
  return report;
}

void print(const Report& report, const VerifyOptions& options, const char* backend, bool pass) {
  if (options.json) {
    nlohmann::ordered_json json = {{"backend", backend},
                                   {"dtype", options.dtype},
                                   {"gelu", report.gelu == GeluForm::kTanh ? "tanh" : "erf"},
                                   {"loss", report.loss},
                                   {"expected_loss", report.expected_loss},
                                   {"loss_deviation", report.loss_deviation()}};
    if (report.logits) json["logits_max_abs_deviation"] = *report.logits;
    json["gradient_worst_deviation"] = report.worst_gradient();
    json["gradients"] = nlohmann::ordered_json::object();
    for (const auto& [name, deviation] : report.gradients) json["gradients"][name] = deviation;
    json["pass"] = pass;
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("loss      {:.7f}, expected {:.7f}, off by {:.2e}\n", report.loss,
             report.expected_loss, report.loss_deviation());
  if (report.logits) fmt::print("logits    off by at most {:.2e}\n", *report.logits);
  for (const auto& [name, deviation] : report.gradients) {
    fmt::print("gradient  {:<24} off by {:.2e} of its norm\n", name, deviation);
  }
  fmt::print("{} on {}\n", pass ? "all within limits" : "NOT within limits", backend);
}

void run(const VerifyOptions& options) {
  const DType dtype =
      options.dtype == "bf16" || options.dtype == "bfloat16" ? DType::kBFloat16 : DType::kFloat32;
  if (options.weights.empty() != options.io.empty()) {
    throw ConfigError("verify", "--weights and --io go together");
  }
  const std::unique_ptr<Backend> backend =
      open_backend(options.device == "cuda"  ? DeviceChoice::kCuda
                   : options.device == "cpu" ? DeviceChoice::kCpu
                                             : DeviceChoice::kAuto);
  const Report report = options.weights.empty()
                            ? verify_builtin(*backend, form_of(options.gelu), dtype)
                            : verify_files(*backend, options, dtype);
  const bool pass = report.within(dtype == DType::kFloat32 ? kFloat32Limits : kBFloat16Limits);
  print(report, options, backend->kernels().name, pass);
  if (!pass) throw InternalError("verify: a deviation is above its limit");
}

}  // namespace

Command add_verify(CLI::App& app) {
  const auto options = std::make_shared<VerifyOptions>();
  app.add_option("--weights", options->weights, "weights, as init_from takes them")
      ->type_name("FILE");
  app.add_option("--io", options->io, "safetensors file with idx, targets, logits and loss")
      ->type_name("FILE");
  app.add_option("--grads", options->grads, "safetensors file of gradients")->type_name("FILE");
  app.add_option("--gelu", options->gelu,
                 "form of GELU; where it is not given, the one the file names, or erf")
      ->check(CLI::IsMember({"erf", "tanh"}));
  app.add_option("--dtype", options->dtype, "arithmetic to check")
      ->check(CLI::IsMember({"fp32", "float32", "bf16", "bfloat16"}));
  app.add_option("--device", options->device, "where to check; auto: as training chooses")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--n_head", options->n_head, "heads, where the file does not say");
  app.add_flag("--json", options->json, "print JSON");
  return [options] { run(*options); };
}

}  // namespace gpt2train
