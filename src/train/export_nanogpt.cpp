// nanoGPT's ckpt.pt: what its train.py saves, so that its sample.py reads it and its train.py goes
// on from it, moments included.
#include <functional>

#include "gpt2train/core/moment_code.h"
#include "gpt2train/train/checkpoint.h"
#include "src/data/pickle_writer.h"
#include "src/data/zip.h"
#include "src/train/export_source.h"
#include "src/train/stored_moments.h"

namespace gpt2train {
namespace {

constexpr const char* kCheckpointName = "ckpt.pt";
constexpr const char* kArchive = "ckpt/";
constexpr const char* kFloats = "FloatStorage";

const char* storage_type(DType dtype) {
  return dtype == DType::kFloat32    ? kFloats
         : dtype == DType::kBFloat16 ? "BFloat16Storage"
                                     : "HalfStorage";
}

// The pickle, and what has to be written for its tensors, in the order of their numbers.
class NanoGptCheckpoint {
 public:
  explicit NanoGptCheckpoint(const ExportSource& source)
      : source_(source),
        config_(source.config()),
        state_(read_train_state(source.checkpoint())),
        optimizer_(source.checkpoint() + "/optimizer.safetensors") {
    const std::int64_t blocks = code_blocks(source.layout().flat_count());
    for (const char* prefix : {"m.", "v."}) {
      scales_.push_back(stored_scales(optimizer_, prefix, blocks));
    }
  }

  void write(OutputFile& file) {
    pickle_.begin_dict();
    pickle_.text("model");
    put_model();
    pickle_.text("optimizer");
    put_optimizer();
    pickle_.text("model_args");
    pickle_.begin_dict();
    put_model_settings();
    pickle_.end_dict();
    item("iter_num", state_.iteration);
    item("best_val_loss", state_.best_val_loss);
    pickle_.text("config");
    put_config();
    pickle_.end_dict();

    ZipWriter zip([&](std::span<const std::byte> bytes) { file.write(bytes); });
    const auto add = [&](const std::string& name, std::string_view text) {
      zip.add(kArchive + name, std::as_bytes(std::span(text)));
    };
    add("data.pkl", pickle_.finish());
    add("byteorder", "little");
    for (std::size_t i = 0; i < storages_.size(); ++i) {
      zip.add(concat(kArchive, "data/", i), storages_[i]());
    }
    add("version", "3\n");
    zip.finish();
  }

 private:
  using Storage = std::function<std::vector<std::byte>()>;

  void item(const char* key, std::int64_t value) {
    pickle_.text(key);
    pickle_.integer(value);
  }
  void item(const char* key, double value) {
    pickle_.text(key);
    pickle_.real(value);
  }
  void item(const char* key, bool value) {
    pickle_.text(key);
    pickle_.boolean(value);
  }
  void nothing(const char* key) {
    pickle_.text(key);
    pickle_.none();
  }

  void put_tensor(const std::string& key, const char* type, const std::vector<std::int64_t>& shape,
                  Storage storage) {
    pickle_.text(key);
    pickle_.tensor(type, std::ssize(storages_), shape);
    storages_.push_back(std::move(storage));
  }

  void put_model() {
    pickle_.begin_ordered_dict();
    const char* type = storage_type(source_.dtype());
    for (const Parameter& parameter : source_.layout().list()) {
      put_tensor("transformer." + parameter.name, type, dims(parameter.shape),
                 [&] { return source_.weight(parameter, false); });
    }
    // The same storage as wte's, which is the first.
    pickle_.text("lm_head.weight");
    pickle_.tensor(type, 0, dims(source_.layout().list().front().shape));
    pickle_.end_dict();
  }

  std::vector<std::byte> moment(std::size_t which, const Parameter& parameter) const {
    const std::vector<float> values =
        moments(optimizer_, which == 0 ? "m." : "v.", parameter, scales_[which]);
    const auto bytes = std::as_bytes(std::span(values));
    return {bytes.begin(), bytes.end()};
  }

  std::vector<std::byte> updates() const {
    const auto value = static_cast<float>(state_.updates);
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return {bytes.begin(), bytes.end()};
  }

  // Parameters have numbers: first those that decay, then the others, as nanoGPT groups them.
  void put_optimizer() {
    std::vector<const Parameter*> numbered;
    std::int64_t decaying = 0;
    for (const bool decay : {true, false}) {
      for (const Parameter& parameter : source_.layout().list()) {
        if (parameter.decay == decay) numbered.push_back(&parameter);
      }
      if (decay) decaying = std::ssize(numbered);
    }
    pickle_.begin_dict();
    pickle_.text("state");
    pickle_.begin_dict();
    for (std::int64_t i = 0; state_.updates > 0 && i < std::ssize(numbered); ++i) {
      const Parameter& parameter = *numbered[static_cast<std::size_t>(i)];
      pickle_.integer(i);
      pickle_.begin_dict();
      put_tensor("step", kFloats, {}, [this] { return updates(); });
      put_tensor("exp_avg", kFloats, dims(parameter.shape),
                 [this, &parameter] { return moment(0, parameter); });
      put_tensor("exp_avg_sq", kFloats, dims(parameter.shape),
                 [this, &parameter] { return moment(1, parameter); });
      pickle_.end_dict();
    }
    pickle_.end_dict();
    pickle_.text("param_groups");
    pickle_.begin_list();
    put_group(config_.optimizer.weight_decay, 0, decaying);
    put_group(0.0, decaying, std::ssize(numbered));
    pickle_.end_list();
    pickle_.end_dict();
  }

  void put_group(double weight_decay, std::int64_t first, std::int64_t last) {
    pickle_.begin_dict();
    item("lr", config_.optimizer.learning_rate);
    pickle_.text("betas");
    pickle_.begin_tuple();
    pickle_.real(config_.optimizer.beta1);
    pickle_.real(config_.optimizer.beta2);
    pickle_.end_tuple();
    item("eps", config_.optimizer.adam_eps);
    item("weight_decay", weight_decay);
    item("amsgrad", false);
    item("maximize", false);
    nothing("foreach");
    item("capturable", false);
    item("differentiable", false);
    nothing("fused");
    pickle_.text("params");
    pickle_.begin_list();
    for (std::int64_t i = first; i < last; ++i) pickle_.integer(i);
    pickle_.end_list();
    pickle_.end_dict();
  }

  void put_model_settings() {
    item("n_layer", config_.model.n_layer);
    item("n_head", config_.model.n_head);
    item("n_embd", config_.model.n_embd);
    item("block_size", config_.model.block_size);
    item("bias", config_.model.bias);
    item("vocab_size", config_.model.vocab_size);
    item("dropout", config_.model.dropout);
  }

  // The settings that nanoGPT knows, by its names.
  void put_config() {
    pickle_.begin_dict();
    put_model_settings();
    item("batch_size", config_.training.batch_size);
    item("gradient_accumulation_steps", config_.training.gradient_accumulation_steps);
    item("max_iters", config_.training.max_iters);
    item("eval_interval", config_.evaluation.eval_interval);
    item("eval_iters", config_.evaluation.eval_iters);
    item("learning_rate", config_.optimizer.learning_rate);
    item("min_lr", config_.optimizer.min_lr);
    item("decay_lr", config_.optimizer.decay_lr);
    item("warmup_iters", config_.optimizer.warmup_iters);
    item("lr_decay_iters", config_.optimizer.lr_decay_iters);
    item("weight_decay", config_.optimizer.weight_decay);
    item("beta1", config_.optimizer.beta1);
    item("beta2", config_.optimizer.beta2);
    item("grad_clip", config_.optimizer.grad_clip);
    pickle_.end_dict();
  }

  const ExportSource& source_;
  const RunConfig& config_;
  TrainState state_;
  SafetensorsFile optimizer_;
  std::vector<std::vector<float>> scales_;  // of m and v
  PickleWriter pickle_;
  std::vector<Storage> storages_;
};

}  // namespace

std::vector<std::string> nanogpt_files() {
  return {kCheckpointName};
}

void export_nanogpt(const ExportSource& source, const std::string& directory) {
  OutputFile file(concat(directory, '/', kCheckpointName));
  NanoGptCheckpoint(source).write(file);
  file.finish();
}

}  // namespace gpt2train
