#include "src/tokenizer/batches.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

constexpr std::size_t kBatchBytes = 256 * kKiB;
constexpr std::size_t kBatchesPerThread = 8;  // read and not taken yet, so that none waits for one

class Pipeline {
 public:
  Pipeline(Corpus& corpus, std::size_t most, const std::function<void(int, FragmentBatch&)>& work,
           const std::function<void(FragmentBatch&)>& take)
      : corpus_(corpus), most_(most), work_(work), take_(take) {}

  // What each thread does.
  void run(int thread) {
    while (Slot* const slot = next()) {
      try {
        work_(thread, slot->batch);
      } catch (...) {
        slot->batch.error = std::current_exception();
      }
      finish(*slot);
    }
  }

  // After all threads.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
    if (read_error_) std::rethrow_exception(read_error_);
  }

 private:
  struct Slot {
    FragmentBatch batch = {};
    bool done = false;
  };

  // The next batch of the corpus, or null. One thread at a time reads, and waits for room.
  Slot* next() {
    const std::lock_guard reading(reading_);
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] { return stopped_ || slots_.size() < most_; });
      if (stopped_ || ended_) return nullptr;
    }
    FragmentBatch batch = read();
    if (batch.fragments.empty()) return nullptr;
    const std::lock_guard lock(mutex_);
    return &slots_.emplace_back(std::move(batch));
  }

  FragmentBatch read() {
    FragmentBatch batch;
    try {
      Fragment fragment;
      for (std::size_t bytes = 0; bytes < kBatchBytes && !ended_;) {
        ended_ = !corpus_.next(fragment);
        if (ended_) break;
        bytes += sizeof fragment + fragment.bytes.size();
        batch.fragments.push_back(std::move(fragment));
      }
      batch.bytes_read = corpus_.bytes_read();
    } catch (...) {
      read_error_ = std::current_exception();
      ended_ = true;
    }
    return batch;
  }

  // Takes all that it is the turn of, unless another thread does so already.
  void finish(Slot& slot) {
    std::unique_lock lock(mutex_);
    slot.done = true;
    if (taking_) return;
    taking_ = true;
    while (!stopped_ && !slots_.empty() && slots_.front().done) {
      FragmentBatch batch = std::move(slots_.front().batch);
      lock.unlock();
      take(batch);
      lock.lock();
      stopped_ = error_ != nullptr;
      slots_.pop_front();
      room_.notify_one();
    }
    taking_ = false;
  }

  void take(FragmentBatch& batch) {
    try {
      if (batch.error) std::rethrow_exception(batch.error);
      take_(batch);
    } catch (...) {
      error_ = std::current_exception();
    }
  }

  Corpus& corpus_;
  const std::size_t most_;
  const std::function<void(int, FragmentBatch&)>& work_;
  const std::function<void(FragmentBatch&)>& take_;

  std::mutex reading_;  // what reads, and these:
  bool ended_ = false;
  std::exception_ptr read_error_;  // behind what was read

  std::mutex mutex_;  // these:
  std::condition_variable room_;
  std::deque<Slot> slots_;  // in the corpus's order; until it is done, a batch is its worker's
  bool taking_ = false, stopped_ = false;
  std::exception_ptr error_;  // of the first batch that had one; the taker's
};

}  // namespace

void for_each_batch(Corpus& corpus, int threads,
                    const std::function<void(int, FragmentBatch&)>& work,
                    const std::function<void(FragmentBatch&)>& take) {
  Pipeline pipeline(corpus, static_cast<std::size_t>(threads) * kBatchesPerThread, work, take);
  {
    std::vector<std::jthread> others;
    for (int thread = 1; thread < threads; ++thread) {
      others.emplace_back([&pipeline, thread] { pipeline.run(thread); });
    }
    pipeline.run(0);
  }
  pipeline.rethrow();
}

}  // namespace gpt2train
