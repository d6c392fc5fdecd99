#include "src/run/run_directory.h"

#include <fstream>

#include "gpt2train/config/load.h"
#include "src/run/version.h"

namespace gpt2train {
namespace {

constexpr const char* kFiles = R"txt(
run.html        the run as a page: losses, speed, memory, what happened; open it in a browser
metrics.csv     one row a step, for spreadsheets and data frames
metrics.jsonl   everything that happened, one JSON object a line
config.yaml     all settings of the newest start
step-NNNNNNNN   a checkpoint: model.safetensors, optimizer.safetensors, and what else goes on from it
events.out.*    for tensorboard --logdir, where logging.tensorboard is true

go on           gpt2train --config config.yaml --out_dir=. --init_from=resume
another run     gpt2train --config config.yaml --out_dir=SOMEWHERE_ELSE --init_from=scratch
write text      gpt2train sample --out_dir=.
compare         gpt2train compare . ../ANOTHER_RUN
Paths of data in config.yaml are as they were given, from the directory that the run was started in.
)txt";

}  // namespace

void explain_run_directory(const RunConfig& config) {
  std::ofstream(config.out_dir + "/README.txt")
      << "A training run of gpt2train " << version() << ".\n"
      << kFiles;
  std::ofstream(config.out_dir + "/config.yaml") << dump_config(config);
}

}  // namespace gpt2train
