// `gpt2train bench`: tokens a second against memory, over micro-batches, recomputation and
// precision. What was measured is kept, so a sweep can be stopped and gone on with.
#include <fmt/format.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <optional>

#include "gpt2train/core/units.h"
#include "gpt2train/train/attention.h"
#include "src/cli/bench_report.h"
#include "src/cli/bench_run.h"
#include "src/cli/commands.h"
#include "src/cli/options.h"
#include "src/cli/signals.h"
#include "src/cli/synthetic_tokens.h"
#include "src/cli/terminal.h"
#include "src/run/machine.h"
#include "src/run/run_setup.h"
#include "src/run/version.h"

namespace gpt2train {
namespace {

constexpr const char* kHelp =
    "Measures each plan in a training run of its own: an evaluation, --warmup steps, --steps\n"
    "timed ones. So that a sweep ends the same day, a timed step has --accumulation\n"
    "micro-batches at most, and the update of the weights, timed by itself, counts as often as\n"
    "in a step of the settings: tokens/s are those of batch_size x gradient_accumulation_steps\n"
    "sequences a step.\n\n"
    "Points are kept in out_dir/bench.jsonl, and taken from there where settings, version and\n"
    "device are the same; in ~/.cache/gpt2train/bench.jsonl they tell `plan` how fast plans are\n"
    "on this machine. Ctrl-C ends the sweep and shows what there is. The exit code is 1\n"
    "where memory was not as predicted.";

struct BenchOptions {
  ConfigOptions config;
  std::vector<std::int64_t> micro_batch;
  std::vector<std::string> recompute, dtype;
  BenchMethod method;
  double seconds = 0.0;
  bool synthetic = false, fresh = false, json = false;
  std::string csv, svg;
};

struct Case {
  RunConfig config;
  Plan plan;
};

ConfigOptions with(ConfigOptions options, const std::string& key, const std::string& value) {
  options.overrides.push_back({.flag = "--" + key, .key = key, .value = value});
  return options;
}

std::vector<ConfigOptions> each(const ConfigOptions& options, const std::string& key,
                                const std::vector<std::string>& values) {
  std::vector<ConfigOptions> list;
  for (const std::string& value : values) list.push_back(with(options, key, value));
  if (list.empty()) list.push_back(options);
  return list;
}

// Those that `plan` would consider, or those that were asked for.
std::vector<std::int64_t> micro_batches(const BenchOptions& options, const RunConfig& config) {
  const std::int64_t effective = config.training.effective_batch();
  std::vector<std::int64_t> list = options.micro_batch;
  for (const std::int64_t micro : list) {
    if (micro < 1 || effective % micro != 0) {
      throw ConfigError("--micro_batch", concat(micro, " does not divide the ", effective,
                                                " sequences of a step (batch_size x "
                                                "gradient_accumulation_steps)"));
    }
  }
  for (std::int64_t micro = 1; options.micro_batch.empty() && micro <= config.training.batch_size;
       ++micro) {
    if (effective % micro == 0) list.push_back(micro);
  }
  return list;
}

std::vector<Case> cases_of(const BenchOptions& options, const ConfigOptions& given) {
  std::vector<Case> cases;
  for (const ConfigOptions& by_dtype : each(given, "dtype", options.dtype)) {
    for (const ConfigOptions& one : each(by_dtype, "memory.recompute", options.recompute)) {
      const RunConfig config = load_config(one.file, one.overrides);
      for (const std::int64_t micro : micro_batches(options, config)) {
        for (const Recompute level : kRecomputeLevels) {
          if (config.memory.recompute.value_or(level) != level) continue;
          RunConfig one_level = config;
          one_level.memory.recompute = level;
          Plan plan = configured_plan(one_level);
          plan.micro_batch = micro;
          plan.accumulation = config.training.effective_batch() / micro;
          cases.push_back({.config = std::move(one_level), .plan = plan});
        }
      }
    }
  }
  return cases;
}

// Hours of measuring must not end in a file that cannot be written.
void check_writable(const std::string& path) {
  if (path.empty()) return;
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (file == nullptr) {
    throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
  }
  std::fclose(file);
}

void write_file(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::FILE* file = std::fopen(path.c_str(), "we");
  const bool written = file != nullptr && std::fputs(text.c_str(), file) >= 0;
  const bool closed = file == nullptr || std::fclose(file) == 0;
  if (!written || !closed) {
    throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
  }
}

class Sweep {
 public:
  Sweep(const BenchOptions& options, const RunSetup& setup)
      : options_(options), setup_(setup), file_(setup.config.out_dir + "/bench.jsonl") {}

  // False when the sweep is to end, by a signal or by its limit of time.
  bool run(const Case& wanted, std::size_t number, std::size_t of) {
    if (stopped()) return false;
    PlannedPoint planned = planned_point(setup_, wanted.config, wanted.plan, options_.method);
    BenchPoint& point = planned.point;
    const bool may_be_known = planned.fits && !options_.fresh;
    if (auto known = may_be_known ? file_.find(point.settings) : std::nullopt) {
      point = *known;
      ++taken_over_;
    } else if (planned.fits) {  // what does not is listed, not tried
      status_.draw(fmt::format("[{}/{}] {}, micro-batch {}, recompute {}", number, of,
                               name_of(point.dtype), point.plan.micro_batch,
                               name_of(point.plan.recompute)));
      point.peak_flops_per_second = peak_flops(planned.config.dtype);
      const bool done = measure(
          setup_, planned.config, options_.method, [this] { return stopped(); }, point);
      status_.clear();
      if (!done) return false;
      file_.append(point);
      remember_point(point);
    }
    points_.push_back(std::move(point));
    return true;
  }

  const std::vector<BenchPoint>& points() const { return points_; }
  std::size_t taken_over() const { return taken_over_; }
  const std::string& device() const { return device_; }

 private:
  using Clock = std::chrono::steady_clock;

  bool stopped() const {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    return signal_seen() || (options_.seconds > 0.0 && seconds > options_.seconds);
  }

  double peak_flops(DType dtype) {
    const auto found = peak_flops_.find(dtype);
    if (found != peak_flops_.end()) return found->second;
    return peak_flops_[dtype] = measure_matmul_flops_per_second(*setup_.backend, dtype);
  }

  const BenchOptions& options_;
  const RunSetup& setup_;
  const std::string device_ = setup_.backend->info().name;
  const Clock::time_point begin_ = Clock::now();
  BenchFile file_;
  StatusLine status_;
  std::map<DType, double> peak_flops_;
  std::vector<BenchPoint> points_;
  std::size_t taken_over_ = 0;
};

void report(const BenchOptions& options, const RunSetup& setup, const Sweep& sweep,
            std::size_t of) {
  const std::vector<BenchPoint>& points = sweep.points();
  const ModelConfig& model = setup.config.model;
  const std::int64_t effective = setup.config.training.effective_batch();
  const std::string shape =
      fmt::format("{} parameters, {} x {} tokens a step", human_count(parameter_count(model)),
                  with_commas(effective), with_commas(model.block_size));
  if (options.json) {
    const nlohmann::ordered_json json = {{"version", version()},
                                         {"device", sweep.device()},
                                         {"budget_bytes", setup.budget_bytes},
                                         {"complete", points.size() == of},
                                         {"points", bench_json(points)}};
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {}, budget {}\nmodel: {}\n\n{}", setup.backend->kernels().name, sweep.device(),
               human_bytes(setup.budget_bytes), shape, bench_table(points));
    if (sweep.taken_over() > 0) {
      fmt::print("{} of these points were measured before; --fresh measures them again\n",
                 sweep.taken_over());
    }
    if (points.size() < of) {
      fmt::print("stopped after {} of {} points; the same command goes on\n", points.size(), of);
    }
  }
  write_file(options.csv, bench_csv(points));
  if (!options.svg.empty()) {
    write_file(options.svg, to_svg(bench_plot(points, fmt::format("{}; {}; numbers: micro-batch",
                                                                  sweep.device(), shape))));
  }
  for (const BenchPoint& point : points) {
    if (point.as_predicted()) continue;
    throw InternalError(concat(
        "micro-batch ", point.plan.micro_batch, ", recompute ", name_of(point.plan.recompute),
        ": peak ", point.peak_bytes, " bytes, predicted ", point.predicted_peak_bytes,
        "; reserved ", point.reserved_bytes, ", predicted ", point.predicted_reserved_bytes));
  }
}

void run(const BenchOptions& options) {
  catch_signals();
  ConfigOptions given = options.config;
  std::optional<SyntheticTokens> tokens;
  if (options.synthetic) {
    const ModelConfig model = load_config(given).model;
    tokens.emplace(model.block_size, model.vocab_size);
    given = with(with(given, "data.train", tokens->path()), "data.val", tokens->path());
    given = with(given, "data.format", "nanogpt");
  }
  const std::vector<Case> cases = cases_of(options, given);
  check_writable(options.csv);
  check_writable(options.svg);
  if (!options.dtype.empty()) given = with(given, "dtype", options.dtype.front());
  const RunSetup setup(load_config(given));
  tokens.reset();
  for (const Case& one : cases) check_dtype(one.config, *setup.backend);

  Sweep sweep(options, setup);
  for (std::size_t i = 0; i < cases.size() && sweep.run(cases[i], i + 1, cases.size());) ++i;
  report(options, setup, sweep, cases.size());
}

// In place of the setting of that name, which takes one value.
void add_list(CLI::App& app, const char* setting, const char* names,
              std::vector<std::string>& values, const char* help) {
  app.remove_option(app.get_option(setting));
  app.add_option(names, values, help)->delimiter(',')->type_name("LIST");
}

}  // namespace

Command add_bench(CLI::App& app) {
  const auto options = std::make_shared<BenchOptions>();
  app.footer(kHelp);
  app.add_option("--micro_batch", options->micro_batch,
                 "micro-batches, such as 1,2,4; all that `plan` considers without it")
      ->delimiter(',')
      ->type_name("LIST");
  const auto count = [&](const char* name, std::int64_t& value, const char* help, int least) {
    app.add_option(name, value, help)->capture_default_str()->check(CLI::Range(least, 100000));
  };
  count("--steps", options->method.steps, "timed steps of a point", 1);
  count("--warmup", options->method.warmup, "steps before them", 0);
  count("--accumulation", options->method.accumulation, "most micro-batches of such a step", 1);
  app.add_option("--seconds", options->seconds, "end the sweep then; 0: no limit")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--synthetic", options->synthetic, "random tokens instead of data");
  app.add_flag("--fresh", options->fresh, "measure again what was measured before");
  app.add_flag("--json", options->json, "print JSON");
  app.add_option("--csv", options->csv, "write a CSV file")->type_name("FILE");
  app.add_option("--svg", options->svg, "plot tokens/s against memory")->type_name("FILE");
  add_config_options(app, options->config);
  add_list(app, "--dtype", "--dtype", options->dtype,
           "precisions, such as float32,bfloat16; the settings' without it");
  add_list(app, "--recompute", "--recompute,--memory.recompute", options->recompute,
           "levels of recomputation, such as none,block; auto, the default, is all of them");
  return [options] { run(*options); };
}

}  // namespace gpt2train
