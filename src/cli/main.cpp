// gpt2train: the command line. Every error becomes one line on stderr and an exit code here.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <string>

#include "gpt2train/config/load.h"
#include "gpt2train/core/error.h"
#include "src/cli/build_text.h"
#include "src/cli/commands.h"

namespace gpt2train {
namespace {

enum ExitCode : int {
  kDone = 0,
  kInternal = 1,
  kConfiguration = 2,
  kDataOrCheckpoint = 3,
  kOutOfMemory = 4,
  kDevice = 5,
};

int fail(ExitCode code, const char* message) {
  std::fprintf(stderr, "gpt2train: %s\n", message);
  return code;
}

// An unknown --flag gets the same help as an unknown key of a file: the nearest known one.
void reject_strangers(const CLI::App& app) {
  for (const std::string& word : app.remaining(true)) {
    if (!word.starts_with("--")) throw ConfigError(word, "not a command or a flag");
    const std::string flag = word.substr(0, word.find('='));
    const std::vector<FieldInfo> fields = list_fields();
    const bool setting = std::any_of(fields.begin(), fields.end(), [&](const FieldInfo& field) {
      return flag == "--" + field.name || flag == "--" + field.path();
    });
    if (setting) throw ConfigError(flag, "not a flag of this command");
    static_cast<void>(load_config("", {{.flag = flag, .key = flag.substr(2), .value = ""}}));
    throw ConfigError(flag, "not a flag of this command");
  }
}

// Between two kernels libgomp's threads spin: far too long where other programs want the cores, and
// one that sleeps at once takes some 50 us to wake. So they spin for 5,000 rounds, some 0.1 ms, and
// then sleep. Median step of 4 layers of 128 on 4 cores, alone and beside 3 busy neighbours: 18 and
// 136 ms; at once asleep 30 and 63; with libgomp's default 21 and 800. libgomp reads its
// environment before main, hence a second start.
void bound_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  setenv("GOMP_SPINCOUNT", "5000", 1);
  execv("/proc/self/exe", argv);  // returns only where it cannot: then as it is
}

int run(int argc, char** argv) {
  CLI::App app(
      "Trains GPT-2 inside a memory budget. Without a command: gpt2train --config FILE "
      "[--key=value ...] trains.",
      "gpt2train");
  app.set_version_flag("--version", version_and_build());
  app.allow_extras();
  app.require_subcommand(0, 1);
  const Command train = add_train(app);

  std::map<CLI::App*, Command> commands;
  const auto command = [&](const char* name, const char* help, Command (*add)(CLI::App&)) {
    CLI::App* sub = app.add_subcommand(name, help);
    sub->allow_extras();
    commands[sub] = add(*sub);
  };
  command("train", "train, as without a command", add_train);
  command("config", "the settings of a run as YAML, also of a nanoGPT config", add_config);
  command("plan", "what a run will need, without running it", add_plan);
  command("profile", "where the time of a training step goes, kernel by kernel", add_profile);
  command("bench", "tokens/s against memory, plan by plan", add_bench);
  command("compare", "runs beside each other: losses, speed, memory, settings that differ",
          add_compare);
  command("reproduce", "why runs of nanoGPT ran out of memory, and what helps", add_reproduce);
  command("sample", "write text with a trained model", add_sample);
  command("eval", "loss of a text and accuracy on HellaSwag, of a trained model", add_eval);
  command("tokenize", "text to token files", add_tokenize);
  command("tokenizer", "train a vocabulary of one's own", add_tokenizer);
  command("encode", "JSON lines of texts to lines of token numbers", add_encode);
  command("decode", "lines of token numbers to bytes", add_decode);
  command("export", "a checkpoint for transformers, llm.c or nanoGPT", add_export);
  command("verify", "check this build on this machine against reference results", add_verify);
  command("devices", "what was found, and how much memory is free", add_devices);
  command("manual", "the manual page, for man", add_manual);
  command("completion", "a script that completes commands and options in a shell", add_completion);

  if (argc == 1) {
    std::fputs(app.help().c_str(), stdout);
    return kDone;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {  // --help, --version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    throw ConfigError("command line", error.what());
  }
  reject_strangers(app);
  const auto chosen = app.get_subcommands();
  (chosen.empty() ? train : commands.at(chosen.front()))();
  return kDone;
}

}  // namespace
}  // namespace gpt2train

int main(int argc, char** argv) {
  using namespace gpt2train;
  bound_spinning(argv);
  try {
    return run(argc, argv);
  } catch (const ConfigError& error) {
    return fail(kConfiguration, error.what());
  } catch (const DataError& error) {
    return fail(kDataOrCheckpoint, error.what());
  } catch (const CheckpointError& error) {
    return fail(kDataOrCheckpoint, error.what());
  } catch (const OutOfMemoryError& error) {
    return fail(kOutOfMemory, error.what());
  } catch (const DeviceError& error) {
    return fail(kDevice, error.what());
  } catch (const std::exception& error) {
    return fail(kInternal, error.what());
  }
}
