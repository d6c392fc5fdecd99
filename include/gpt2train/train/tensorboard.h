// TensorBoard's event files, written without TensorFlow: records of its TFRecord format (length and
// CRC-32C of each), in them Event messages of tensorflow/core/util/event.proto.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "gpt2train/train/observer.h"

namespace gpt2train {

// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
std::uint32_t crc32c(std::string_view bytes);

// One file a start of a run; TensorBoard shows those of a directory as one, and forgets what a
// resumed run does again. Scalars: train/..., eval/..., speed/..., plan/micro_batch, memory_MiB/...
// of the peak by category, where it changed; texts: settings, plans, what ran out of memory.
class TensorBoardFile final : public TrainObserver {
 public:
  // Makes `directory`/events.out.tfevents.SECONDS.HOST.PROCESS. Throws CheckpointError where that
  // cannot be. What a full disk swallows later is lost and does not stop the run.
  explicit TensorBoardFile(const std::string& directory);

  void on_start(const StartEvent& event) override;
  void on_plan(const PlanEvent& event) override;
  void on_step(const StepEvent& event) override;
  void on_evaluation(const EvalEvent& event) override;
  void on_out_of_memory(const OutOfMemoryEvent& event) override;
  void on_grow(const GrowEvent& event) override;
  void on_end(const EndEvent& event) override;

 private:
  void write(const std::string& event);
  void write_summary(std::int64_t step, const std::string& summary);

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  TagBytes peak_by_category_ = {};  // as written last
};

}  // namespace gpt2train
