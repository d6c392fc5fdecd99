#include "kernels/cuda/algorithm_cache.h"

#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "gpt2train/core/cache_folder.h"

namespace gpt2train::cuda {

AlgorithmCache::AlgorithmCache(std::string path) : path_(std::move(path)) {
  std::ifstream file(path_);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string product, rest;
    AlgorithmWords words;
    fields >> product >> std::hex;
    for (std::uint64_t& word : words) fields >> word;
    if (fields && !(fields >> rest)) known_[product] = words;
  }
}

const AlgorithmWords* AlgorithmCache::find(const std::string& product) const {
  const auto found = known_.find(product);
  return found == known_.end() ? nullptr : &found->second;
}

void AlgorithmCache::add(const std::string& product, const AlgorithmWords& algorithm) {
  known_[product] = algorithm;
  if (path_.empty()) return;
  std::ostringstream line;
  line << product << std::hex;
  for (const std::uint64_t word : algorithm) line << ' ' << word;
  line << '\n';
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  std::ofstream(path_, std::ios::app) << line.str() << std::flush;
}

std::string algorithm_cache_path(const std::string& device, std::size_t cublas_version) {
  const std::string where = cache_folder();
  if (where.empty()) return {};
  std::string name;
  for (const char c : device) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (plain || (!name.empty() && name.back() != '-')) name += plain ? c : '-';
  }
  return where + "/matmul-" + name + "-cublaslt-" + std::to_string(cublas_version) + ".txt";
}

}  // namespace gpt2train::cuda
