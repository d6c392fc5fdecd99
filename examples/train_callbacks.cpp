// Trains, shows how the loss falls, and ends the run once it is low enough.
// Usage: train_callbacks SETTINGS.yaml LOSS [setting=value ...]
#include <cstdlib>
#include <iostream>

#include "gpt2train/core/error.h"
#include "gpt2train/run/run.h"

using namespace gpt2train;

namespace {

class Watch final : public TrainObserver {
 public:
  explicit Watch(double enough) : enough_(enough) {}
  bool done() const { return done_; }

  void on_step(const StepEvent& e) override {
    if (e.step % 10 == 0) std::cout << "step " << e.step << ": loss " << e.loss << '\n';
    done_ = e.loss < enough_;
  }
  void on_evaluation(const EvalEvent& e) override {
    std::cout << "step " << e.step << ": validation loss " << e.val_loss << '\n';
  }
  void on_checkpoint(const CheckpointEvent& e) override { std::cout << "saved " << e.path << '\n'; }

 private:
  const double enough_;
  bool done_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: train_callbacks SETTINGS.yaml LOSS [setting=value ...]\n";
    return 2;
  }
  try {
    const RunConfig config = load_settings(argv[1], {argv + 3, argv + argc});
    Watch watch(std::atof(argv[2]));
    const EndEvent end = train(config, watch, [&] { return watch.done(); });
    std::cout << (watch.done() ? "low enough" : "not low enough") << " after " << end.step
              << " steps\n";
  } catch (const Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
