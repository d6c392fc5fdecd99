// Where the time of a step goes: each kernel timed by itself, the device idle before and after. So
// the sum is more than an undisturbed step, and the shares are what counts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/stream.h"

namespace gpt2train {

// What a call moves and computes, as its operands say: each is read or written once.
struct Work {
  double bytes = 0.0;
  double flops = 0.0;  // of matrix products; 0 where memory is what counts

  bool operator==(const Work&) const = default;
};

struct KernelTime {
  std::string name;
  std::int64_t calls = 0;
  double seconds = 0.0;
  Work work = {};
};

// A device's clock.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  virtual void start(Stream stream) = 0;
  virtual double stop(Stream stream) = 0;  // seconds since start, of the device's own work
};

class Profiler {
 public:
  explicit Profiler(Stopwatch& watch) : watch_(watch) {}

  template <class Launch>
  void time(const char* name, const Work& work, Stream stream, const Launch& launch) {
    watch_.start(stream);
    launch();
    add(name, work, watch_.stop(stream));
  }
  void reset() { times_.clear(); }
  std::vector<KernelTime> times() const;  // longest first

 private:
  void add(const char* name, const Work& work, double seconds);

  Stopwatch& watch_;
  std::vector<KernelTime> times_;
};

}  // namespace gpt2train
