// Algorithms of matrix products: chosen by time, remembered on disk. The stand-in for cuBLASLt has
// three of them, of which the second (1) is the fastest and the first (0) what it would choose.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "gpt2train/ops/backend.h"
#include "kernels/cuda/algorithm_cache.h"
#include "tests/support/temp_dir.h"

extern "C" gpt2train::Backend* gpt2train_make_cuda_backend();

namespace gpt2train::test {
namespace {

using cuda::AlgorithmCache;
using cuda::AlgorithmWords;

// As an earlier run left it: nothing but the file would choose algorithm 2.
constexpr const char* kRemembered = "fp32-fp32-3x5x7-nt-256-256-256";
constexpr const char* kFile = "/matmul-emulated-GPU-sm80-cublaslt-130000.txt";

// Before any product, since the file is read once.
class CacheFolder final : public testing::Environment {
 public:
  void SetUp() override {
    setenv("GPT2TRAIN_CACHE_DIR", folder_.path().c_str(), 1);
    std::ofstream(folder_.path() + kFile) << kRemembered << " 2 0 0 0 0 0 0 0\n";
  }

 private:
  TempDir folder_;
};
const auto* const kCacheFolder = testing::AddGlobalTestEnvironment(new CacheFolder);

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

struct Operands {
  explicit Operands(std::int64_t rows, std::int64_t columns, std::int64_t inner)
      : m(rows), n(columns), k(inner) {
    for (std::int64_t i = 0; i < m * k; ++i) host.push_back(static_cast<float>(i % 5));
    device->kernels().upload(a, host.data(), host.size() * sizeof(float), {});
    host.assign(static_cast<std::size_t>(n * k), 1.0f);
    device->kernels().upload(b, host.data(), host.size() * sizeof(float), {});
  }
  ~Operands() {
    for (void* data : {a, b, out}) device->upstream().deallocate(data, kBytes);
  }

  // out[0] afterwards.
  float multiply(bool accumulate, bool tune = true) {
    device->kernels().matmul({.out = {out, DType::kFloat32, {m, n}},
                              .a = {a, DType::kFloat32, {m, k}},
                              .b = {b, DType::kFloat32, {n, k}},
                              .transpose_b = true,
                              .accumulate = accumulate,
                              .tune = tune},
                             {});
    float first = 0.0f;
    device->kernels().download(&first, out, sizeof first, {});
    return first;
  }
  float expected() const {
    float sum = 0.0f;
    for (std::int64_t i = 0; i < k; ++i) sum += static_cast<float>(i % 5);
    return sum;
  }

  static constexpr std::size_t kBytes = 64 * 1024;
  std::unique_ptr<Backend> device{gpt2train_make_cuda_backend()};
  std::int64_t m, n, k;
  void* a = device->upstream().try_allocate(kBytes);
  void* b = device->upstream().try_allocate(kBytes);
  void* out = device->upstream().try_allocate(kBytes);
  std::vector<float> host;
};

using Products = std::map<std::uint64_t, int>;
Products& products() {
  emulator::counts().products.clear();
  return emulator::counts().products;
}

TEST(MatmulTuning, TriesEachOnceAndKeepsTheFastest) {
  Operands x(11, 13, 17);
  Products& used = products();
  EXPECT_EQ(x.multiply(false), x.expected());
  EXPECT_EQ(used[0], used[2]);
  EXPECT_EQ(used[1], used[0] + 1);
  used.clear();
  EXPECT_EQ(x.multiply(false), x.expected());
  EXPECT_EQ(used, (Products{{1, 1}}));
  const std::string file = text_of(std::getenv("GPT2TRAIN_CACHE_DIR") + std::string(kFile));
  EXPECT_NE(file.find("fp32-fp32-11x13x17-nt-256-256-256 1 0 0 0 0 0 0 0\n"), std::string::npos)
      << file;
}

TEST(MatmulTuning, NeverTriesWhatIsAddedToTheOutput) {
  Operands x(11, 13, 19);
  EXPECT_EQ(x.multiply(false, false), x.expected());
  Products& used = products();
  EXPECT_EQ(x.multiply(true), 2 * x.expected());
  EXPECT_EQ(used, (Products{{0, 1}}));
  EXPECT_EQ(x.multiply(false), x.expected());  // now it is
  used.clear();
  EXPECT_EQ(x.multiply(true), 2 * x.expected());
  EXPECT_EQ(used, (Products{{1, 1}}));
}

TEST(MatmulTuning, WaitsWhileAStreamCaptures) {
  Operands x(11, 13, 23);
  Products& used = products();
  const auto args = [&] {
    x.device->kernels().matmul({.out = {x.out, DType::kFloat32, {x.m, x.n}},
                                .a = {x.a, DType::kFloat32, {x.m, x.k}},
                                .b = {x.b, DType::kFloat32, {x.n, x.k}},
                                .transpose_b = true,
                                .tune = true},
                               {});
  };
  const std::unique_ptr<Recording> recording = x.device->record(args);
  EXPECT_TRUE(used.empty());
  recording->replay({});
  recording->replay({});
  EXPECT_EQ(used, (Products{{0, 2}}));
}

TEST(MatmulTuning, UsesWhatAnEarlierRunFound) {
  Operands x(3, 5, 7);
  Products& used = products();
  EXPECT_EQ(x.multiply(false), x.expected());
  EXPECT_EQ(used, (Products{{2, 1}}));
}

TEST(MatmulTuning, IsOffUnlessAskedFor) {
  Operands x(11, 13, 29);
  Products& used = products();
  EXPECT_EQ(x.multiply(false, false), x.expected());
  EXPECT_EQ(used, (Products{{0, 1}}));
}

TEST(AlgorithmCache, KeepsWhatIsAddedAndLeavesOutWhatMakesNoSense) {
  TempDir folder;
  const std::string path = folder.path() + "/deeper/cache.txt";
  const AlgorithmWords words = {1, 0xFFFFFFFFFFFFFFFF, 3, 4, 5, 6, 7, 0xABCDEF};
  {
    AlgorithmCache cache(path);
    EXPECT_EQ(cache.find("a"), nullptr);
    cache.add("a", words);
    cache.add("b", {});
  }
  std::ofstream(path, std::ios::app)
      << "short 1 2 3\nlong 1 2 3 4 5 6 7 8 9\nwrong 1 2 x 4 5 6 7 8\n"
      << "\ntorn 1 2 3 4";
  const AlgorithmCache again(path);
  ASSERT_NE(again.find("a"), nullptr);
  EXPECT_EQ(*again.find("a"), words);
  EXPECT_NE(again.find("b"), nullptr);
  for (const char* name : {"short", "long", "wrong", "torn", ""}) {
    EXPECT_EQ(again.find(name), nullptr) << name;
  }
}

TEST(AlgorithmCache, WorksWithoutADisk) {
  AlgorithmCache nowhere("/proc/no/such/folder/cache.txt"), unnamed("");
  for (AlgorithmCache* cache : {&nowhere, &unnamed}) {
    cache->add("a", {9});
    ASSERT_NE(cache->find("a"), nullptr);
  }
}

}  // namespace
}  // namespace gpt2train::test
