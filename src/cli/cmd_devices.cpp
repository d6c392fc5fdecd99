// `gpt2train devices`: what a run could use here, who uses it now, and the cards known by name.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <thread>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/cli/commands.h"
#include "src/cli/device_text.h"
#include "src/cli/signals.h"
#include "src/cli/terminal.h"
#include "src/run/machine.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

struct DevicesOptions {
  bool catalogue = false, json = false;
  std::string watch_seconds;  // empty: once
};

// The CPU, and CUDA or why not.
struct Backends {
  std::unique_ptr<Backend> cpu = open_cpu_backend();
  std::unique_ptr<Backend> cuda = {};
  std::string no_cuda = {};

  Backends() {
    try {
      cuda = open_cuda_backend();
    } catch (const DeviceError& error) {
      no_cuda = error.what();
    }
  }

  std::vector<Backend*> backends() const {
    if (!cuda) return {cpu.get()};
    return {cpu.get(), cuda.get()};
  }
};

std::vector<std::pair<DType, double>> measure_matmuls(Backend& backend) {
  std::vector<std::pair<DType, double>> rates;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (!backend.computes(dtype)) continue;
    rates.emplace_back(dtype, measure_matmul_flops_per_second(backend, dtype));
  }
  return rates;
}

void show(Backend& backend) {
  const DeviceInfo info = backend.info();
  fmt::print("{}: {}\n", backend.kernels().name, info.name);
  fmt::print("      memory {} in all, {} available; memory.limit: auto would be {}\n",
             human_bytes(info.total_bytes), human_bytes(info.available_bytes),
             human_bytes(resolve_budget({}, info)));
  fmt::print("{}", device_memory_lines(backend, 0));
  for (const auto& [dtype, rate] : measure_matmuls(backend)) {
    fmt::print("      matrix product {}: {:.0f} GFLOP/s\n", name_of(dtype), rate * 1e-9);
  }
}

Json now_as_json(const Backends& here) {
  Json json = {{"devices", Json::array()}};
  for (const Backend* backend : here.backends()) {
    Json device = to_json(state_of(*backend));
    device["auto_limit_bytes"] = resolve_budget({}, backend->info());
    json["devices"].push_back(std::move(device));
  }
  if (!here.cuda) json["no_cuda"] = here.no_cuda;
  return json;
}

void show_once(bool as_json) {
  const Backends here;
  if (!as_json) {
    for (Backend* backend : here.backends()) show(*backend);
    if (!here.cuda) fmt::print("cuda: {}\n", here.no_cuda);
    return;
  }
  Json json = now_as_json(here);
  std::size_t at = 0;
  for (Backend* backend : here.backends()) {
    Json& rates = json["devices"][at++]["matmul_flops_per_second"];
    for (const auto& [dtype, rate] : measure_matmuls(*backend)) rates[name_of(dtype)] = rate;
  }
  fmt::print("{}\n", json.dump(2));
}

std::vector<std::string> now_as_lines(const Backends& here) {
  const std::time_t now = std::time(nullptr);
  std::vector<std::string> lines = {fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::localtime(now))};
  for (const Backend* backend : here.backends()) {
    for (std::string& line : watch_lines(state_of(*backend), getpid())) {
      lines.push_back(std::move(line));
    }
  }
  if (!here.cuda) lines.push_back("cuda  " + here.no_cuda);
  return lines;
}

// Over what was drawn before, where that can be: what would wrap or scroll is cut off.
class Screen {
 public:
  void draw(const std::vector<std::string>& lines) {
    const std::optional<TerminalSize> size = terminal_size();
    std::string text = drawn_ == 0 ? "" : fmt::format("\033[{}F\033[J", drawn_);
    drawn_ = 0;
    for (const std::string& line : lines) {
      if (size && drawn_ + 1 >= size->rows) break;
      text += size ? line.substr(0, static_cast<std::size_t>(size->columns - 1)) : line;
      text += '\n';
      if (size) ++drawn_;
    }
    if (!size) text += '\n';
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

 private:
  int drawn_ = 0;  // lines above the cursor that are ours
};

// Until Ctrl-C, which is looked for often enough that nobody waits for it.
void watch(const DevicesOptions& options) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kLook{20};
  const std::chrono::duration<double> interval(std::stod(options.watch_seconds));
  const Backends here;
  Screen screen;
  catch_signals();
  while (!signal_seen()) {
    const auto begin = Clock::now();
    if (options.json) {
      fmt::print("{}\n", now_as_json(here).dump());
      std::fflush(stdout);
    } else {
      screen.draw(now_as_lines(here));
    }
    while (!signal_seen() && Clock::now() - begin < interval) std::this_thread::sleep_for(kLook);
  }
}

void show_catalogue(bool as_json) {
  const std::vector<DeviceSpec> devices = device_catalogue();
  fmt::print("{}", as_json ? to_json(devices).dump(2) + '\n' : catalogue_table(devices));
}

void run(const DevicesOptions& options) {
  if (options.catalogue) return show_catalogue(options.json);
  if (!options.watch_seconds.empty()) return watch(options);
  show_once(options.json);
}

}  // namespace

Command add_devices(CLI::App& app) {
  const auto options = std::make_shared<DevicesOptions>();
  CLI::Option* const catalogue =
      app.add_flag("--catalogue", options->catalogue,
                   "the cards that --device and memory.device know, instead of what is here");
  app.add_flag("--watch{1}", options->watch_seconds,
               "who has memory, again each second (or --watch=SECONDS), until Ctrl-C")
      ->check(CLI::Range(0.1, 86400.0))
      ->excludes(catalogue);
  app.add_flag("--json", options->json, "print JSON; of --watch, an object a line");
  return [options] { run(*options); };
}

}  // namespace gpt2train
