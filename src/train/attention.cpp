#include "gpt2train/train/attention.h"

#include "gpt2train/core/error.h"

namespace gpt2train {

std::string cudnn_objection(const RunConfig& config) {
  const ModelConfig& model = config.model;
  if (config.dtype == DType::kFloat32) {
    return "attention by cuDNN needs dtype bfloat16 or float16, found float32";
  }
  if (model.dropout > 0.0) {
    return concat("attention by cuDNN needs dropout 0, found ", model.dropout,
                  ": what cuDNN drops would change with the micro-batch");
  }
  if (model.head_size() % 8 != 0 || model.head_size() > 128) {
    return concat("attention by cuDNN needs heads of a multiple of 8 up to 128, found n_embd ",
                  model.n_embd, " / n_head ", model.n_head, " = ", model.head_size());
  }
  if (model.block_size < 2) return "attention by cuDNN needs block_size 2 or more, found 1";
  return "";
}

const KernelTable& kernels_for(const RunConfig& config, const Backend& backend) {
  const AttentionShape shape{.batch = config.training.batch_size,
                             .heads = config.model.n_head,
                             .time = config.model.block_size,
                             .head_size = config.model.head_size(),
                             .dtype = config.dtype};
  switch (config.attention) {
    case Attention::kNative:
      break;
    case Attention::kCudnn:
      return backend.kernels_with_cudnn(shape);
    case Attention::kAuto:
      if (!cudnn_objection(config).empty()) break;
      try {
        return backend.kernels_with_cudnn(shape);
      } catch (const DeviceError&) {
        break;
      }
  }
  return backend.kernels();
}

const KernelTable& cuda_scratch_for(const RunConfig& config) {
  const bool cudnn = config.attention != Attention::kNative && cudnn_objection(config).empty();
  return cudnn ? cuda_scratch_with_cudnn() : cuda_scratch();
}

}  // namespace gpt2train
