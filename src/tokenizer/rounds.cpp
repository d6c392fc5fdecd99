#include "src/tokenizer/rounds.h"

#include <omp.h>

#include <future>
#include <utility>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr std::size_t kBatchBytes = 256 * kKiB;
constexpr int kBatchesPerThread = 8;  // so that threads end a round at about the same time

using Round = std::vector<FragmentBatch>;

struct Reading {
  Round round;
  std::exception_ptr error;  // behind the round
};

Reading read_round(Corpus& corpus, int batches) {
  Reading reading;
  try {
    while (static_cast<int>(reading.round.size()) < batches) {
      FragmentBatch& batch = reading.round.emplace_back();
      Fragment fragment;
      for (std::size_t bytes = 0; bytes < kBatchBytes;) {
        if (!corpus.next(fragment)) return reading;
        bytes += sizeof fragment + fragment.bytes.size();
        batch.fragments.push_back(std::move(fragment));
      }
      batch.bytes_read = corpus.bytes_read();
    }
  } catch (...) {
    reading.error = std::current_exception();
  }
  return reading;
}

}  // namespace

void for_each_batch(Corpus& corpus, int threads,
                    const std::function<void(int, FragmentBatch&)>& work,
                    const std::function<void(FragmentBatch&)>& take) {
  const auto read = [&] { return read_round(corpus, threads * kBatchesPerThread); };
  std::future<Reading> next = std::async(std::launch::async, read);
  for (;;) {
    Reading reading = next.get();
    Round& round = reading.round;
    const bool more = !reading.error && !round.empty() && !round.back().fragments.empty();
    if (more) next = std::async(std::launch::async, read);
    const auto count = std::ssize(round);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      FragmentBatch& batch = round[static_cast<std::size_t>(i)];
      try {
        work(omp_get_thread_num(), batch);
      } catch (...) {
        batch.error = std::current_exception();
      }
    }
    for (FragmentBatch& batch : round) {
      if (batch.error) std::rethrow_exception(batch.error);
      take(batch);
    }
    if (reading.error) std::rethrow_exception(reading.error);
    if (!more) return;
  }
}

}  // namespace gpt2train
