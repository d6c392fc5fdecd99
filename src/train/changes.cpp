#include "gpt2train/train/changes.h"

#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/train/plan.h"

namespace gpt2train {
namespace {

// Collects changes of one run's settings.
class Changes {
 public:
  explicit Changes(const RunConfig& config) : config_(config) {}

  template <class Edit>
  void add(std::string setting, std::string flags, ChangeEffect effect, const Edit& edit) {
    Change change{std::move(setting), std::move(flags), effect, config_};
    edit(change.config);
    list_.push_back(std::move(change));
  }

  std::vector<Change> take() { return std::move(list_); }

 private:
  const RunConfig& config_;
  std::vector<Change> list_;
};

void add_micro_batches(const RunConfig& config, Changes& changes) {
  const std::int64_t effective = config.training.effective_batch();
  for (std::int64_t micro = config.training.batch_size - 1; micro >= 1; --micro) {
    if (effective % micro != 0) continue;
    changes.add(
        "batch_size",
        concat("--batch_size=", micro, " --gradient_accumulation_steps=", effective / micro),
        ChangeEffect::kNone, [&](RunConfig& c) {
          c.training.batch_size = micro;
          c.training.gradient_accumulation_steps = effective / micro;
        });
  }
}

void add_recomputation(const RunConfig& config, Changes& changes) {
  const Recompute now = configured_plan(config).recompute;
  for (const Recompute level : kRecomputeLevels) {
    if (level <= now) continue;
    changes.add("recompute", concat("--recompute=", name_of(level)), ChangeEffect::kNone,
                [&](RunConfig& c) { c.memory.recompute = level; });
  }
}

void add_logits(const RunConfig& config, Changes& changes) {
  if (config.memory.logits == Logits::kFull) {
    changes.add("logits", "--logits=chunked", ChangeEffect::kNone,
                [](RunConfig& c) { c.memory.logits = Logits::kChunked; });
    return;
  }
  for (std::int64_t rows = config.memory.logits_rows / 2; rows >= 64; rows /= 2) {
    changes.add("logits_rows", concat("--logits_rows=", rows), ChangeEffect::kNone,
                [&](RunConfig& c) { c.memory.logits_rows = rows; });
  }
}

void add_offloading(const RunConfig& config, Changes& changes) {
  for (const auto& [flags, offload] : {std::pair("--offload=moments", Offload::kMoments),
                                       {"--offload=optimizer", Offload::kOptimizer}}) {
    if (offload <= config.memory.offload) continue;
    changes.add("offload", flags, ChangeEffect::kNone,
                [offload = offload](RunConfig& c) { c.memory.offload = offload; });
  }
}

void add_storage(const RunConfig& config, Changes& changes) {
  for (const auto& [flags, moments] :
       {std::pair("--moments=bfloat16", Moments::kBFloat16), {"--moments=int8", Moments::kInt8}}) {
    if (moments <= config.memory.moments) continue;
    changes.add("moments", flags, ChangeEffect::kRounding,
                [moments = moments](RunConfig& c) { c.memory.moments = moments; });
  }
  if (config.memory.master_weights && config.dtype == DType::kBFloat16) {
    changes.add("master_weights", "--master_weights=false", ChangeEffect::kRounding,
                [](RunConfig& c) { c.memory.master_weights = false; });
  }
  if (config.dtype == DType::kFloat32) {
    changes.add("dtype", "--dtype=bfloat16", ChangeEffect::kRounding,
                [](RunConfig& c) { c.dtype = DType::kBFloat16; });
  }
}

void add_models(const RunConfig& config, Changes& changes) {
  const ModelConfig& model = config.model;
  for (std::int64_t size = model.block_size / 2; size >= 32; size /= 2) {
    changes.add("block_size", concat("--block_size=", size), ChangeEffect::kModel,
                [&](RunConfig& c) { c.model.block_size = size; });
  }
  for (std::int64_t layers = model.n_layer * 3 / 4; layers >= 1; layers = layers * 3 / 4) {
    changes.add("n_layer", concat("--n_layer=", layers), ChangeEffect::kModel,
                [&](RunConfig& c) { c.model.n_layer = layers; });
  }
  const auto add_width = [&](std::int64_t heads, std::int64_t head_size) {
    const std::int64_t width = heads * head_size;
    changes.add("n_embd", concat("--n_embd=", width, " --n_head=", heads), ChangeEffect::kModel,
                [&](RunConfig& c) {
                  c.model.n_embd = width;
                  c.model.n_head = heads;
                });
  };
  // Heads keep their width, so that fewer of them make a narrower model, until one is left.
  for (std::int64_t heads = model.n_head * 2 / 3; heads >= 1; heads = heads * 2 / 3) {
    add_width(heads, model.head_size());
  }
  for (std::int64_t size = model.head_size() / 2; size >= 8; size /= 2) add_width(1, size);
}

}  // namespace

std::vector<Change> single_changes(const RunConfig& config, bool has_own_memory) {
  Changes changes(config);
  add_micro_batches(config, changes);
  add_recomputation(config, changes);
  add_logits(config, changes);
  if (has_own_memory) add_offloading(config, changes);
  add_storage(config, changes);
  add_models(config, changes);
  return changes.take();
}

}  // namespace gpt2train
