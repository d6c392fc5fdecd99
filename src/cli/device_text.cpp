#include "src/cli/device_text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "gpt2train/core/units.h"
#include "src/config/text.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

std::size_t in_use_bytes(const DeviceInfo& info) {
  return info.total_bytes - std::min(info.available_bytes, info.total_bytes);
}

double gib(std::size_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(kGiB);
}

}  // namespace

DeviceState state_of(const Backend& backend) {
  return {.backend = backend.kernels().name,
          .info = backend.info(),
          .processes = backend.processes(),
          .utilization_percent = backend.utilization_percent()};
}

std::vector<std::string> watch_lines(const DeviceState& state, int own_pid) {
  const DeviceInfo& info = state.info;
  const auto total = static_cast<double>(std::max<std::size_t>(info.total_bytes, 1));
  std::string line = fmt::format("{:<5} {:>10} of {} in use, {:.0f} %", state.backend,
                                 human_bytes(in_use_bytes(info)), human_bytes(info.total_bytes),
                                 100.0 * static_cast<double>(in_use_bytes(info)) / total);
  if (state.utilization_percent) line += fmt::format("; busy {} %", *state.utilization_percent);
  std::vector<std::string> lines = {fmt::format("{}  {}", line, info.name)};

  std::vector<ProcessMemory> processes = state.processes;
  std::stable_sort(
      processes.begin(), processes.end(),
      [](const ProcessMemory& a, const ProcessMemory& b) { return a.bytes > b.bytes; });
  for (const ProcessMemory& process : processes) {
    const std::string size = process.bytes ? human_bytes(*process.bytes) : "?";
    const std::string name = process.pid == own_pid ? "this program"
                             : process.name.empty() ? "a program"
                                                    : printable(process.name);
    lines.push_back(fmt::format("{:>16}  {} (process {})", size, name, process.pid));
  }
  return lines;
}

std::string device_memory_lines(const Backend& backend, std::size_t reserved_bytes) {
  const std::vector<ProcessMemory> processes = backend.processes();
  // In a container the numbers may be those of the machine, and nobody is known to be this run.
  const bool self_known = std::any_of(processes.begin(), processes.end(),
                                      [](const ProcessMemory& p) { return p.pid == getpid(); });
  std::string lines;
  for (const ProcessMemory& process : processes) {
    const std::string size = process.bytes ? human_bytes(*process.bytes) : "an unknown amount";
    if (process.pid != getpid()) {
      lines += fmt::format("{}:  {} taken by {} (process {})\n", backend.kernels().name, size,
                           !process.name.empty() ? process.name.c_str()
                           : self_known          ? "another program"
                                                 : "a program",
                           process.pid);
    } else if (process.bytes && *process.bytes >= reserved_bytes) {
      lines +=
          fmt::format("{}:  {} taken by this run: {} in the ledger, {} context and libraries\n",
                      backend.kernels().name, size, human_bytes(reserved_bytes),
                      human_bytes(*process.bytes - reserved_bytes));
    }
  }
  return lines;
}

Json to_json(const DeviceState& state) {
  Json json = {{"backend", state.backend},
               {"name", state.info.name},
               {"total_bytes", state.info.total_bytes},
               {"available_bytes", state.info.available_bytes},
               {"utilization_percent", nullptr},
               {"processes", Json::array()}};
  if (state.utilization_percent) json["utilization_percent"] = *state.utilization_percent;
  for (const ProcessMemory& process : state.processes) {
    Json entry = {{"pid", process.pid}, {"name", nullptr}, {"bytes", nullptr}};
    if (!process.name.empty()) entry["name"] = process.name;
    if (process.bytes) entry["bytes"] = *process.bytes;
    json["processes"].push_back(std::move(entry));
  }
  return json;
}

std::string catalogue_table(std::span<const DeviceSpec> devices) {
  std::string table =
      "                           memory  for a run  bandwidth  float32    tf32    half\n"
      "name                          GiB        GiB       GB/s  TFLOP/s TFLOP/s TFLOP/s  SMs  sm\n";
  for (const DeviceSpec& d : devices) {
    table +=
        fmt::format("{:<26} {:>6.2f} {:>10.2f} {:>10.0f} {:>8.1f} {:>7.1f} {:>7.1f} {:>4} {:>3}\n",
                    d.name, gib(d.memory_bytes), gib(d.usable_bytes()), d.bytes_per_second * 1e-9,
                    d.float32_flops * 1e-12, d.tf32_flops * 1e-12, d.half_flops * 1e-12,
                    d.multiprocessors, d.compute_capability);
  }
  return table;
}

Json to_json(std::span<const DeviceSpec> devices) {
  Json json = Json::array();
  for (const DeviceSpec& d : devices) {
    json.push_back({{"name", d.name},
                    {"title", d.title},
                    {"memory_bytes", d.memory_bytes},
                    {"reserve_bytes", d.reserve_bytes},
                    {"bytes_per_second", d.bytes_per_second},
                    {"float32_flops_per_second", d.float32_flops},
                    {"tf32_flops_per_second", d.tf32_flops},
                    {"half_flops_per_second", d.half_flops},
                    {"multiprocessors", d.multiprocessors},
                    {"compute_capability", d.compute_capability}});
  }
  return json;
}

}  // namespace gpt2train
