// libgpt2train_cuda: with kernels/cuda, all of this program that links CUDA. Its one entry point is
// at the end; ops/cuda_backend opens it.
#include <cuda_runtime_api.h>

#include "gpt2train/ops/backend.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_kernels.h"
#include "src/cuda/nvml.h"
#include "src/cuda/upstream.h"

namespace gpt2train {
namespace {

// Events before and after: what the device itself took, without the launch.
class CudaStopwatch final : public Stopwatch {
 public:
  CudaStopwatch() {
    GPT2_CUDA_CHECK(cudaEventCreate(&start_));
    GPT2_CUDA_CHECK(cudaEventCreate(&stop_));
  }
  ~CudaStopwatch() override {
    static_cast<void>(cudaEventDestroy(start_));
    static_cast<void>(cudaEventDestroy(stop_));
  }
  CudaStopwatch(const CudaStopwatch&) = delete;
  CudaStopwatch& operator=(const CudaStopwatch&) = delete;

  void start(Stream stream) override {
    GPT2_CUDA_CHECK(cudaEventRecord(start_, static_cast<cudaStream_t>(stream.handle)));
  }
  double stop(Stream stream) override {
    GPT2_CUDA_CHECK(cudaEventRecord(stop_, static_cast<cudaStream_t>(stream.handle)));
    GPT2_CUDA_CHECK(cudaEventSynchronize(stop_));
    float milliseconds = 0.0f;
    GPT2_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, start_, stop_));
    return double{milliseconds} * 1e-3;
  }

 private:
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

class CudaGraph final : public Recording {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaGraph() override { static_cast<void>(cudaGraphExecDestroy(graph_)); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void replay(Stream stream) override {
    GPT2_CUDA_CHECK(cudaGraphLaunch(graph_, static_cast<cudaStream_t>(stream.handle)));
  }

 private:
  cudaGraphExec_t graph_;
};

// What a stream was asked for between the two ends of its life.
class Capture {
 public:
  // Relaxed: the allocator may still take and give back segments.
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    GPT2_CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
  }
  ~Capture() {
    if (!ended_) static_cast<void>(cudaStreamEndCapture(stream_, &graph_));
    if (graph_ != nullptr) static_cast<void>(cudaGraphDestroy(graph_));
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  cudaGraph_t end() {
    ended_ = true;
    GPT2_CUDA_CHECK(cudaStreamEndCapture(stream_, &graph_));
    return graph_;
  }

 private:
  cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  bool ended_ = false;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    int count = 0;
    GPT2_CUDA_CHECK(cudaGetDeviceCount(&count));
    if (count == 0) throw DeviceError("no CUDA device is visible");
    GPT2_CUDA_CHECK(cudaSetDevice(kDevice));
    if (capability() < 8) {
      throw DeviceError(
          concat(info().name, " is older than Ampere (sm_80), which the kernels need"));
    }
    cudaStream_t stream = nullptr;
    GPT2_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    stream_.handle = stream;
  }
  ~CudaBackend() override {
    static_cast<void>(cudaStreamDestroy(static_cast<cudaStream_t>(stream_.handle)));
  }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  const KernelTable& kernels() const override { return cuda_kernels(); }
#ifdef GPT2TRAIN_CUDNN
  const KernelTable& kernels_with_cudnn(const AttentionShape& shape) const override {
    if (capability() > 9) {
      throw DeviceError(concat("attention by cuDNN: ", info().name,
                               " is newer than sm_90, where its gradients are known to be the same "
                               "every time"));
    }
    return cuda_kernels_with_cudnn(shape);
  }
#else
  const KernelTable& kernels_with_cudnn(const AttentionShape&) const override {
    throw DeviceError("attention by cuDNN: this build is without it");
  }
#endif
  Upstream& upstream() override {
    return upstream_;
  }
  Stream stream() const override {
    return stream_;
  }
  bool computes(DType dtype) const override {
    return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16;
  }

  std::unique_ptr<Stopwatch> stopwatch() const override {
    return std::make_unique<CudaStopwatch>();
  }
  std::vector<ProcessMemory> processes() const override {
    return processes_on_gpu(pci_bus_id());
  }
  std::optional<int> utilization_percent() const override {
    return gpu_utilization_percent(pci_bus_id());
  }

  std::shared_ptr<void> host_memory(std::size_t bytes) const override {
    void* data = nullptr;
    GPT2_CUDA_CHECK(cudaHostAlloc(&data, bytes, cudaHostAllocDefault));
    return std::shared_ptr<void>(data, [](void* p) { static_cast<void>(cudaFreeHost(p)); });
  }

  std::unique_ptr<Recording> record(const std::function<void()>& work) const override {
    Capture capture(static_cast<cudaStream_t>(stream_.handle));
    work();
    cudaGraphExec_t graph = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&graph, capture.end(), 0);
    if (status == cudaErrorMemoryAllocation) {
      static_cast<void>(cudaGetLastError());  // or a later call would report it
      return nullptr;
    }
    GPT2_CUDA_CHECK(status);
    return std::make_unique<CudaGraph>(graph);
  }

  DeviceInfo info() const override {
    cudaDeviceProp properties = {};
    GPT2_CUDA_CHECK(cudaGetDeviceProperties(&properties, kDevice));
    DeviceInfo info{.name = concat(properties.name, ", sm_", properties.major, properties.minor),
                    .total_bytes = 0,
                    .available_bytes = 0,
                    .unseen_bytes = kLibraryBytes};
    GPT2_CUDA_CHECK(cudaMemGetInfo(&info.available_bytes, &info.total_bytes));
    return info;
  }

 private:
  static int capability() {
    int major = 0;
    GPT2_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, kDevice));
    return major;
  }
  static std::string pci_bus_id() {
    char id[32] = {};
    GPT2_CUDA_CHECK(cudaDeviceGetPCIBusId(id, sizeof id, kDevice));
    return id;
  }

  static constexpr int kDevice = 0;  // of the visible ones: CUDA_VISIBLE_DEVICES chooses
  // cuBLASLt loads its kernels when they are first used. An allowance, not measured yet.
  static constexpr std::size_t kLibraryBytes = std::size_t{256} << 20;
  CudaUpstream upstream_{kDevice};
  Stream stream_;
};

}  // namespace
}  // namespace gpt2train

extern "C" gpt2train::Backend* gpt2train_make_cuda_backend() {
  return new gpt2train::CudaBackend();
}
