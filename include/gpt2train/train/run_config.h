// Everything a run is configured by: the YAML file's sections, in order.
#pragma once

#include <cstdint>
#include <string>

#include "gpt2train/core/dtype.h"
#include "gpt2train/data/config.h"
#include "gpt2train/model/config.h"
#include "gpt2train/train/config.h"
#include "kernels/attention.h"

namespace gpt2train {

enum class DeviceChoice : std::uint8_t { kAuto, kCpu, kCuda };

struct RunConfig {
  std::string out_dir = "out";
  std::string init_from = "scratch";  // scratch, resume, or weights; train/load_weights.h
  std::uint64_t seed = 1337;
  DeviceChoice device = DeviceChoice::kAuto;
  DType dtype = DType::kBFloat16;
  bool tf32 = false;
  bool tune_matmul = true;
  bool cuda_graphs = true;
  Attention attention = Attention::kNative;

  ModelConfig model;
  DataConfig data;
  TrainingConfig training;
  EvaluationConfig evaluation;
  OptimizerConfig optimizer;
  CheckpointConfig checkpoint;
  LoggingConfig logging;
  MemoryConfig memory;
};

}  // namespace gpt2train
