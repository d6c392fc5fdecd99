#include "gpt2train/train/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <thread>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

namespace fs = std::filesystem;
using test::read_file;
using test::TempDir;
using test::write_file;

// A small checkpoint in which everything follows from the iteration.
struct Sample {
  explicit Sample(std::int64_t iteration, std::size_t count = 6)
      : weights(count, static_cast<float>(iteration)), moments(count, -weights[0]) {
    contents.state = {.iteration = iteration,
                      .updates = iteration - 1,
                      .next_sample = static_cast<std::uint64_t>(iteration) * 480,
                      .seed = 0xFFFF'FFFF'FFFF'FFFEull,
                      .best_val_loss = 3.0 + 0.1,
                      .micro_batch = 4,
                      .accumulation = 120,
                      .recompute = "gelu"};
    contents.config_yaml = concat("iteration: ", iteration, "\n");
    contents.weights = {stored("wte", weights)};
    contents.optimizer = {stored("m.wte", moments), stored("v.wte", weights)};
  }
  Sample(const Sample&) = delete;
  Sample& operator=(const Sample&) = delete;

  static TensorToStore stored(const std::string& name, const std::vector<float>& values) {
    return {.name = name,
            .dtype = "F32",
            .shape = {std::ssize(values)},
            .bytes = std::as_bytes(std::span(values))};
  }

  std::vector<float> weights, moments;
  CheckpointContents contents;
};

std::string write(const std::string& out_dir, std::int64_t iteration, std::int64_t keep = 100) {
  return write_checkpoint(out_dir, Sample(iteration).contents, keep);
}

void expect_consistent(const FoundCheckpoint& found, std::size_t count = 6) {
  const Sample expected(found.iteration, count);
  EXPECT_EQ(read_train_state(found.path).iteration, found.iteration);
  EXPECT_EQ(read_checkpoint_config(found.path), expected.contents.config_yaml);
  EXPECT_EQ(SafetensorsFile(found.path + "/model.safetensors").floats("wte"), expected.weights);
  const SafetensorsFile optimizer(found.path + "/optimizer.safetensors");
  EXPECT_EQ(optimizer.floats("m.wte"), expected.moments);
  EXPECT_EQ(optimizer.floats("v.wte"), expected.weights);
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

using Names = std::vector<std::string>;

std::vector<std::int64_t> iterations_in(const std::string& out_dir) {
  std::vector<std::int64_t> result;
  for (const FoundCheckpoint& found : list_checkpoints(out_dir)) result.push_back(found.iteration);
  return result;
}

using Iterations = std::vector<std::int64_t>;

// Writes, which must fail, and returns the message.
std::string write_error(const std::string& out_dir, const CheckpointContents& contents) {
  try {
    write_checkpoint(out_dir, contents, 1);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  ADD_FAILURE() << "the write succeeded";
  return "";
}

TEST(Checkpoint, RoundTripIsBitEqual) {
  const TempDir dir;
  const Sample sample(100);
  const std::string path = write_checkpoint(dir / "a/b/out", sample.contents, 1);
  EXPECT_EQ(path, dir / "a/b/out/step-00000100");
  EXPECT_EQ(names_in(path), (Names{"config.yaml", "manifest.json", "model.safetensors",
                                   "optimizer.safetensors", "state.json"}));
  EXPECT_EQ(checkpoint_problem(path), std::nullopt);
  expect_consistent({path, 100});
  const TrainState state = read_train_state(path), &wrote = sample.contents.state;
  EXPECT_EQ(state.updates, wrote.updates);
  EXPECT_EQ(state.next_sample, wrote.next_sample);
  EXPECT_EQ(state.seed, wrote.seed);
  EXPECT_EQ(state.micro_batch, wrote.micro_batch);
  EXPECT_EQ(state.accumulation, wrote.accumulation);
  EXPECT_EQ(state.recompute, wrote.recompute);
  // Whoever loads the weights elsewhere must know how the linear layers lie.
  EXPECT_EQ(SafetensorsFile(path + "/model.safetensors").metadata().at("linear_layers"), "out_in");
}

TEST(Checkpoint, DoublesKeepTheirBits) {
  const TempDir dir;
  using Limits = std::numeric_limits<double>;
  for (const double value : {1e30, 0.1, 1.0 / 3.0, 3.2812345678901234, -0.0, Limits::denorm_min(),
                             Limits::max(), Limits::infinity(), Limits::quiet_NaN()}) {
    Sample sample(1);
    sample.contents.state.best_val_loss = value;
    const double found =
        read_train_state(write_checkpoint(dir.path(), sample.contents, 1)).best_val_loss;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(found), std::bit_cast<std::uint64_t>(value)) << value;
  }
}

TEST(Checkpoint, EmptyConfigAndTensorsAreFine) {
  const TempDir dir;
  const std::string path = write_checkpoint(dir.path(), {}, 1);
  EXPECT_EQ(path, dir / "step-00000000");
  EXPECT_EQ(checkpoint_problem(path), std::nullopt);
  EXPECT_EQ(read_checkpoint_config(path), "");
}

TEST(Checkpoint, TensorsLargerThanAPieceRoundTrip) {
  const TempDir dir;
  constexpr std::size_t kCount = (3 << 20) / 4 + 77;
  Sample sample(3, kCount);
  for (std::size_t i = 0; i < kCount; ++i) sample.weights[i] = static_cast<float>(i);
  const std::string path = write_checkpoint(dir.path(), sample.contents, 1);
  EXPECT_EQ(checkpoint_problem(path), std::nullopt);
  EXPECT_EQ(SafetensorsFile(path + "/model.safetensors").floats("wte"), sample.weights);
}

TEST(Checkpoint, AnyFlippedByteIsDetected) {
  const TempDir dir;
  const std::string path = write(dir.path(), 7);
  for (const std::string& name : names_in(path)) {
    const std::string file = path + '/' + name, good = read_file(file);
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
      write_file(file, bad);
      const auto problem = checkpoint_problem(path);
      ASSERT_TRUE(problem) << name << ", byte " << i;
      ASSERT_TRUE(problem->starts_with(name)) << *problem;
    }
    write_file(file, good);
  }
  EXPECT_EQ(checkpoint_problem(path), std::nullopt);
}

TEST(Checkpoint, AnyTruncationOrMissingFileIsDetected) {
  const TempDir dir;
  const std::string path = write(dir.path(), 7);
  for (const std::string& name : names_in(path)) {
    const std::string file = path + '/' + name, good = read_file(file);
    for (std::size_t size = 0; size < good.size(); ++size) {
      write_file(file, good.substr(0, size));
      ASSERT_TRUE(checkpoint_problem(path)) << name << " of " << size << " bytes";
    }
    write_file(file, good + '\n');
    EXPECT_TRUE(checkpoint_problem(path)) << name << " with a byte more";
    fs::remove(file);
    EXPECT_EQ(checkpoint_problem(path), name + ": cannot open: No such file or directory");
    write_file(file, good);
  }
  EXPECT_EQ(checkpoint_problem(path), std::nullopt);
  EXPECT_TRUE(checkpoint_problem(dir / "none"));
}

TEST(Checkpoint, ListsNewestFirstAndOnlyCheckpoints) {
  const TempDir dir;
  EXPECT_TRUE(list_checkpoints(dir / "none").empty());
  for (const std::int64_t iteration : {5, 200, 123456789, 30}) write(dir.path(), iteration);
  for (const char* other : {"step-00000300.tmp", "step-300", "step-", "step-0000040x", "steps",
                            "step-99999999999999999999"}) {
    fs::create_directory(dir / other);
  }
  EXPECT_EQ(iterations_in(dir.path()), (Iterations{123456789, 200, 30, 5}));
  EXPECT_EQ(list_checkpoints(dir.path())[3].path, dir / "step-00000005");
}

TEST(Checkpoint, LeftoversOfACrashAreIgnoredThenRemoved) {
  const TempDir dir;
  write(dir.path(), 1);
  fs::copy(dir / "step-00000001", dir / "step-00000002.tmp");
  fs::copy(dir / "step-00000001", dir / "step-00000001.old.tmp");
  write_file(dir / "notes.tmp", "mine");
  EXPECT_EQ(iterations_in(dir.path()), Iterations{1});
  write(dir.path(), 2);
  EXPECT_EQ(names_in(dir.path()), (Names{"notes.tmp", "step-00000001", "step-00000002"}));
}

TEST(Checkpoint, KeepsTheNewest) {
  const TempDir dir;
  for (std::int64_t iteration = 1; iteration <= 5; ++iteration) {
    write(dir.path(), 10 * iteration, 2);
    EXPECT_LE(list_checkpoints(dir.path()).size(), 2u);
  }
  EXPECT_EQ(iterations_in(dir.path()), (Iterations{50, 40}));
  write(dir.path(), 60, 1);
  EXPECT_EQ(names_in(dir.path()), Names{"step-00000060"});
}

TEST(Checkpoint, NeverRemovesTheOneJustWrittenNorANewer) {
  const TempDir dir;
  for (const std::int64_t iteration : {10, 20, 30, 40}) write(dir.path(), iteration);
  write(dir.path(), 25, 1);
  EXPECT_EQ(iterations_in(dir.path()), (Iterations{40, 30, 25}));
  EXPECT_THROW(write(dir.path(), 25, 0), InternalError);
}

TEST(Checkpoint, CorruptedNewestFallsBackWithTheReason) {
  const TempDir dir;
  for (const std::int64_t iteration : {1, 2, 3}) write(dir.path(), iteration);
  fs::remove(dir / "step-00000003/manifest.json");
  const std::string weights = dir / "step-00000002/model.safetensors";
  std::string bytes = read_file(weights);
  bytes.back() = static_cast<char>(bytes.back() + 1);
  write_file(weights, bytes);

  std::vector<std::string> rejected;
  const FoundCheckpoint found = newest_whole_checkpoint(dir.path(), rejected);
  EXPECT_EQ(found.iteration, 1);
  expect_consistent(found);
  ASSERT_EQ(rejected.size(), 2u);
  EXPECT_EQ(rejected[0], dir /
                             "step-00000003: manifest.json: cannot open: No such file or "
                             "directory");
  EXPECT_TRUE(rejected[1].starts_with(dir / "step-00000002: model.safetensors: checksum "));

  fs::remove_all(dir / "step-00000001");
  rejected.clear();
  EXPECT_THROW(newest_whole_checkpoint(dir.path(), rejected), CheckpointError);
  EXPECT_THROW(newest_whole_checkpoint(dir / "none", rejected), CheckpointError);
}

TEST(Checkpoint, SameIterationIsReplaced) {
  const TempDir dir;
  write(dir.path(), 5, 1);
  Sample other(5);
  other.weights.assign(6, 99.0f);
  EXPECT_EQ(write_checkpoint(dir.path(), other.contents, 1), dir / "step-00000005");
  EXPECT_EQ(names_in(dir.path()), Names{"step-00000005"});
  EXPECT_EQ(SafetensorsFile(dir / "step-00000005/model.safetensors").floats("wte"), other.weights);
}

// A replacement stopped at each of its steps leaves a whole checkpoint, and the next write tidies.
TEST(Checkpoint, InterruptedReplacementIsFinished) {
  for (const bool old_is_there : {true, false}) {
    const TempDir dir;
    write(dir / "new", 5);
    if (old_is_there) {
      write(dir / "out", 5);
    } else {
      fs::create_directory(dir / "out");
    }
    write_file(dir / "new/step-00000005/marker", "");
    fs::rename(dir / "new/step-00000005", dir / "out/step-00000005.new");

    std::vector<std::string> rejected;
    const FoundCheckpoint found = newest_whole_checkpoint(dir / "out", rejected);
    EXPECT_EQ(found.path, dir / "out/step-00000005.new");
    expect_consistent(found);
    write(dir / "out", 6);
    EXPECT_EQ(names_in(dir / "out"), (Names{"step-00000005", "step-00000006"}));
    EXPECT_TRUE(fs::exists(dir / "out/step-00000005/marker"));
  }
}

TEST(Checkpoint, DamagedReplacementDoesNotWin) {
  const TempDir dir;
  write(dir.path(), 5);
  fs::copy(dir / "step-00000005", dir / "step-00000005.new");
  fs::remove(dir / "step-00000005.new/state.json");
  write(dir.path(), 6);
  EXPECT_EQ(names_in(dir.path()), (Names{"step-00000005", "step-00000006"}));
  EXPECT_EQ(checkpoint_problem(dir / "step-00000005"), std::nullopt);
}

TEST(Checkpoint, MissingOrBrokenStateIsAnError) {
  const TempDir dir;
  EXPECT_THROW(read_train_state(dir.path()), CheckpointError);
  EXPECT_THROW(read_checkpoint_config(dir.path()), CheckpointError);
  for (const char* text : {"", "{", "{}", "[1]", R"({"iteration":"x"})"}) {
    write_file(dir / "state.json", text);
    EXPECT_THROW(read_train_state(dir.path()), CheckpointError) << text;
  }
}

TEST(Checkpoint, UnusableDirectoryIsAnErrorInWords) {
  const TempDir dir;
  write_file(dir / "file", "");
  const Sample sample(1);
  EXPECT_EQ(write_error(dir / "file/out", sample.contents),
            dir / "file: cannot create: File exists");
  EXPECT_THROW(list_checkpoints(dir / "file"), CheckpointError);

  fs::permissions(dir.path(), fs::perms(0755));
  const bool root = geteuid() == 0;  // may write anywhere, so be nobody for a moment
  if (root && seteuid(65534) != 0) GTEST_SKIP() << "cannot give up root";
  if (!root) fs::permissions(dir.path(), fs::perms(0555));
  const std::string error = write_error(dir / "out", sample.contents);
  ASSERT_TRUE(!root || seteuid(0) == 0);
  fs::permissions(dir.path(), fs::perms(0755));
  EXPECT_EQ(error, dir / "out: cannot create: Permission denied");
}

// Files may not grow beyond this while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limited{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST(Checkpoint, FailedWriteLeavesTheOthersAlone) {
  const TempDir dir;
  write(dir.path(), 1);
  const Sample large(2, kMiB / 4);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{300'000}, rlim_t{1 << 20}}) {
    std::string error;
    {
      const FileSizeLimit limited(limit);
      error = write_error(dir.path(), large.contents);
    }
    EXPECT_EQ(error, dir / "step-00000002.tmp/model.safetensors: cannot write: File too large");
    EXPECT_EQ(names_in(dir.path()), Names{"step-00000001"});
  }
  EXPECT_EQ(checkpoint_problem(dir / "step-00000001"), std::nullopt);
  write_checkpoint(dir.path(), large.contents, 1);
  expect_consistent({dir / "step-00000002", 2}, kMiB / 4);
}

TEST(Checkpoint, FullDiskTellsNeededAndFree) {
  const TempDir dir;
  if (mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "cannot mount a small file system: " << std::strerror(errno);
  }
  const std::string out_dir = dir / "out";
  write(out_dir, 1);
  const Sample large(2, 128 * kKiB / 4 * 3);  // fits once, not thrice
  const std::string error = write_error(out_dir, large.contents);
  EXPECT_TRUE(error.starts_with(
      out_dir +
      "/step-00000002.tmp/optimizer.safetensors: cannot write: No space left on device; "
      "the checkpoint needs 1.13 MiB, "))
      << error;
  EXPECT_TRUE(error.ends_with(" KiB were free")) << error;
  EXPECT_EQ(names_in(out_dir), Names{"step-00000001"});
  EXPECT_EQ(checkpoint_problem(out_dir + "/step-00000001"), std::nullopt);
  write(out_dir, 3);
  EXPECT_EQ(umount(dir.path().c_str()), 0);
}

// Kills a process that writes checkpoints without end, at random moments, and looks at the rest.
void kill_while_writing(const std::string& out_dir, int rounds, bool same_iteration) {
  constexpr std::size_t kCount = 40'000;  // 480 kB a checkpoint: the kills fall into all phases
  std::mt19937 random(static_cast<unsigned>(rounds));
  std::int64_t newest = 1;
  write_checkpoint(out_dir, Sample(newest, kCount).contents, 1);
  for (int round = 0; round < rounds; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (std::int64_t iteration = newest;; iteration += same_iteration ? 0 : 1) {
        write_checkpoint(out_dir, Sample(iteration, kCount).contents, 1);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(500 + random() % 20'000));
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed by itself";

    std::vector<std::string> rejected;
    const FoundCheckpoint found = newest_whole_checkpoint(out_dir, rejected);
    EXPECT_EQ(rejected, std::vector<std::string>{});
    EXPECT_GE(found.iteration, newest);
    expect_consistent(found, kCount);
    if (testing::Test::HasFailure()) return;
    newest = found.iteration;
  }
  write_checkpoint(out_dir, Sample(newest + 1, kCount).contents, 1);
  EXPECT_EQ(names_in(out_dir).size(), 1u);  // whatever the kills left is gone
}

TEST(Checkpoint, KilledWritersLeaveAWholeCheckpoint) {
  const TempDir dir;
  kill_while_writing(dir / "out", 60, false);
}

TEST(Checkpoint, KilledReplacementsLeaveAWholeCheckpoint) {
  const TempDir dir;
  kill_while_writing(dir / "out", 60, true);
}

}  // namespace
}  // namespace gpt2train
