// Which of cuBLASLt's algorithms were the fastest on this device, remembered from run to run: a
// text file with a line for each product, its name and the words of its algorithm. cuBLASLt says
// that an algorithm may be stored and used again by the same version of the library.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

namespace gpt2train::cuda {

using AlgorithmWords = std::array<std::uint64_t, 8>;

class AlgorithmCache {
 public:
  // Reads what is there. Lines that make no sense are left out. No path: nothing outlives the run.
  explicit AlgorithmCache(std::string path);

  // Null where the product is not known.
  const AlgorithmWords* find(const std::string& product) const;
  // Appended as one line, so that runs may share a file. A disk that refuses is no error: the next
  // run chooses again.
  void add(const std::string& product, const AlgorithmWords& algorithm);

 private:
  std::string path_;
  std::map<std::string, AlgorithmWords> known_;
};

// In cache_folder(), for one device and one version of cuBLASLt; empty where no folder is known.
std::string algorithm_cache_path(const std::string& device, std::size_t cublas_version);

}  // namespace gpt2train::cuda
