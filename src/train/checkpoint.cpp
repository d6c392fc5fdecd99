// A checkpoint comes into being by one rename of a directory that is already on disk, whole.
// Nothing else in out_dir changes before that, and old ones go only after it.
#include "gpt2train/train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "src/train/summed_file.h"

namespace gpt2train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr const char* kPrefix = "step-";
constexpr const char* kUnfinished = ".tmp";   // never a checkpoint; removed by the next write
constexpr const char* kReplacement = ".new";  // whole, about to take the place of its namesake
constexpr const char* kManifest = "manifest.json";
constexpr const char* kStateFile = "state.json";
constexpr const char* kConfigFile = "config.yaml";

[[noreturn]] void fail(const std::string& path, const char* action, int code) {
  throw CheckpointError(path, concat("cannot ", action, ": ", words(code)));
}

// ---- directories ----------------------------------------------------------------------------

void sync_directory(const std::string& path) {
  const FileDescriptor directory(path, O_RDONLY | O_DIRECTORY);
  if (!directory.valid()) fail(path, "open", errno);
  // Some network file systems cannot sync a directory, and say EINVAL.
  if (fsync(directory.value()) != 0 && errno != EINVAL) fail(path, "sync", errno);
}

std::string parent_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

void make_directories(const std::string& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return;
  make_directories(parent_of(path));
  if (!fs::create_directory(path, error) && error) fail(path, "create", error.value());
  sync_directory(parent_of(path));
}

void remove_tree(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(path, "remove", error.value());
}

void rename_synced(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail(from, "rename", error.value());
  sync_directory(parent_of(to));
}

// Removes a checkpoint. A crash on the way leaves no half of one under a checkpoint's name.
void discard(const std::string& path) {
  const std::string doomed = concat(path, ".old", kUnfinished);
  rename_synced(path, doomed);
  remove_tree(doomed);
}

std::string directory_name(std::int64_t iteration) {
  return fmt::format("{}{:08}", kPrefix, iteration);
}

std::vector<std::string> entries_of(const std::string& out_dir) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator it(out_dir, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) fail(out_dir, "list", error.value());
  return names;
}

// A .tmp directory on its way to become a checkpoint, removed when it does not.
class UnfinishedDirectory {
 public:
  explicit UnfinishedDirectory(std::string path) : path_(std::move(path)) {
    std::error_code error;
    if (!fs::create_directory(path_, error)) fail(path_, "create", error.value());
  }
  ~UnfinishedDirectory() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  UnfinishedDirectory(const UnfinishedDirectory&) = delete;
  UnfinishedDirectory& operator=(const UnfinishedDirectory&) = delete;
  const std::string& path() const { return path_; }

  void publish(const std::string& final_path) {
    sync_directory(path_);
    rename_synced(path_, final_path);
    path_.clear();
  }

 private:
  std::string path_;
};

// Puts the whole checkpoint `path`.new in the place of `path`; one of the two is there throughout.
void move_into_place(const std::string& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) discard(path);
  rename_synced(path + kReplacement, path);
}

// Clears up after writes that were cut short.
void finish_interrupted(const std::string& out_dir) {
  for (const std::string& name : entries_of(out_dir)) {
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinished)) {
      remove_tree(concat(out_dir, '/', name));
    }
  }
  for (const FoundCheckpoint& found : list_checkpoints(out_dir)) {
    if (!found.path.ends_with(kReplacement)) continue;
    if (checkpoint_problem(found.path)) {
      discard(found.path);
    } else {
      move_into_place(concat(out_dir, '/', directory_name(found.iteration)));
    }
  }
}

// ---- contents -------------------------------------------------------------------------------

// Shortest text that reads back as the same bits, also for infinity, which JSON has no number for.
std::string double_text(double value) {
  return fmt::format("{}", value);
}

double double_from(const std::string& text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw std::invalid_argument(concat('"', text, "\" is not a number"));
  }
  return value;
}

std::string state_text(const TrainState& state) {
  Json json = {{"iteration", state.iteration},
               {"updates", state.updates},
               {"next_sample", state.next_sample},
               {"seed", state.seed},
               {"best_val_loss", double_text(state.best_val_loss)},
               {"micro_batch", state.micro_batch},
               {"accumulation", state.accumulation},
               {"recompute", state.recompute}};
  if (state.loss_scale) {
    json["loss_scale"] = {{"factor", state.loss_scale->factor}, {"good", state.loss_scale->good}};
  }
  return json.dump(2) + '\n';
}

struct FileToWrite {
  std::string name;
  std::string start;  // all of a text file, the header of a tensor file
  std::span<const TensorToStore> tensors = {};

  std::uint64_t bytes() const {
    std::uint64_t total = start.size();
    for (const TensorToStore& tensor : tensors) total += tensor.bytes.size();
    return total;
  }
};

std::vector<FileToWrite> files_of(const CheckpointContents& contents) {
  // Where Hugging Face's files have linear layers (in, out), ours have (out, in).
  const std::map<std::string, std::string> orientation = {{"linear_layers", "out_in"}};
  return {
      {"model.safetensors", safetensors_header(contents.weights, orientation), contents.weights},
      {"optimizer.safetensors", safetensors_header(contents.optimizer, orientation),
       contents.optimizer},
      {kConfigFile, contents.config_yaml},
      {kStateFile, state_text(contents.state)}};
}

// ---- manifest -------------------------------------------------------------------------------

// The body with its own checksum as the first entry, so that a torn manifest gives itself away.
std::string seal(const std::string& body) {
  return concat("{\n  \"checksum\": \"", checksum_of(body), "\",", body.substr(1));
}

// The body of a sealed text, or nothing where any byte of it is not as it was written.
std::optional<std::string> unseal(const std::string& text) {
  static const std::size_t added = seal("{").size();
  if (text.size() <= added) return std::nullopt;
  std::string body = concat('{', text.substr(added));
  if (seal(body) != text) return std::nullopt;
  return body;
}

std::string manifest_text(const std::vector<std::pair<std::string, FileSum>>& sums) {
  Json files;
  for (const auto& [name, sum] : sums) {
    files[name] = {{"bytes", sum.bytes}, {"xxh3_128", sum.checksum}};
  }
  return seal(Json{{"version", kVersion}, {"files", files}}.dump(2) + '\n');
}

std::optional<std::string> file_problem(const std::string& directory, const std::string& name,
                                        const FileSum& expected) {
  FileSum found;
  if (auto problem = sum_file(concat(directory, '/', name), found)) {
    return concat(name, ": ", *problem);
  }
  if (found.bytes != expected.bytes) {
    return concat(name, ": ", found.bytes, " bytes, expected ", expected.bytes);
  }
  if (found.checksum != expected.checksum) {
    return concat(name, ": checksum ", found.checksum, ", expected ", expected.checksum);
  }
  return std::nullopt;
}

// Piece by piece, so that host memory stays small.
void write_tensor(FileWriter& writer, const TensorToStore& tensor,
                  const CheckpointContents& contents) {
  if (!contents.download) return writer.write(tensor.bytes);
  std::vector<std::byte> piece(std::min(std::size_t{16 * kMiB}, tensor.bytes.size()));
  for (std::size_t first = 0; first < tensor.bytes.size(); first += piece.size()) {
    piece.resize(std::min(piece.size(), tensor.bytes.size() - first));
    contents.download(piece.data(), tensor.bytes.data() + first, piece.size());
    writer.write(piece);
  }
}

void write_files(const std::string& directory, const CheckpointContents& contents) {
  const std::vector<FileToWrite> files = files_of(contents);
  std::uint64_t needed = 0;
  for (const FileToWrite& file : files) needed += file.bytes();
  struct statvfs disk {};
  if (statvfs(directory.c_str(), &disk) != 0) fail(directory, "stat", errno);
  const std::string space = concat("; the checkpoint needs ", human_bytes(needed), ", ",
                                   human_bytes(disk.f_bavail * disk.f_frsize), " were free");

  std::vector<std::pair<std::string, FileSum>> sums;
  for (const FileToWrite& file : files) {
    FileWriter writer(concat(directory, '/', file.name), space);
    writer.write(file.start);
    for (const TensorToStore& tensor : file.tensors) write_tensor(writer, tensor, contents);
    sums.emplace_back(file.name, writer.finish());
  }
  FileWriter manifest(concat(directory, '/', kManifest), space);
  manifest.write(manifest_text(sums));
  manifest.finish();
}

}  // namespace

std::string write_checkpoint(const std::string& out_dir, const CheckpointContents& contents,
                             std::int64_t keep) {
  const std::int64_t iteration = contents.state.iteration;
  GPT2_CHECK(keep >= 1 && iteration >= 0, "keep ", keep, ", iteration ", iteration);
  make_directories(out_dir);
  finish_interrupted(out_dir);

  const std::string path = concat(out_dir, '/', directory_name(iteration));
  UnfinishedDirectory unfinished(path + kUnfinished);
  write_files(unfinished.path(), contents);
  std::error_code ignored;
  if (fs::exists(path, ignored)) {  // this iteration ran before, until a crash
    unfinished.publish(path + kReplacement);
    move_into_place(path);
  } else {
    unfinished.publish(path);
  }

  // Newer ones are left over from before a resume: they neither count nor go.
  std::int64_t kept = 0;
  for (const FoundCheckpoint& found : list_checkpoints(out_dir)) {
    if (found.iteration <= iteration && ++kept > keep) discard(found.path);
  }
  return path;
}

std::vector<FoundCheckpoint> list_checkpoints(const std::string& out_dir) {
  std::vector<FoundCheckpoint> found;
  for (const std::string& name : entries_of(out_dir)) {
    if (!name.starts_with(kPrefix)) continue;
    const char* digits = name.data() + std::string_view(kPrefix).size();
    std::int64_t iteration = 0;
    std::from_chars(digits, name.data() + name.size(), iteration);
    const std::string canonical = directory_name(iteration);
    if (name == canonical || name == canonical + kReplacement) {
      found.push_back({concat(out_dir, '/', name), iteration});
    }
  }
  // Of one iteration, the replacement comes first.
  std::sort(found.begin(), found.end(), [](const FoundCheckpoint& a, const FoundCheckpoint& b) {
    return std::tie(a.iteration, a.path) > std::tie(b.iteration, b.path);
  });
  return found;
}

std::optional<std::string> checkpoint_problem(const std::string& path) {
  std::string text;
  if (auto problem = read_text(concat(path, '/', kManifest), text)) {
    return concat(kManifest, ": ", *problem);
  }
  const std::optional<std::string> body = unseal(text);
  if (!body) return concat(kManifest, ": torn or changed, its checksum does not match");

  try {
    const Json manifest = Json::parse(*body);
    if (const int version = manifest.at("version"); version != kVersion) {
      return concat(kManifest, ": version ", version, ", expected ", kVersion);
    }
    for (const auto& [name, entry] : manifest.at("files").items()) {
      if (auto problem = file_problem(path, name, {entry.at("bytes"), entry.at("xxh3_128")})) {
        return problem;
      }
    }
  } catch (const nlohmann::json::exception& error) {
    return concat(kManifest, ": ", error.what());
  }
  return std::nullopt;
}

FoundCheckpoint newest_whole_checkpoint(const std::string& out_dir,
                                        std::vector<std::string>& rejected) {
  for (const FoundCheckpoint& found : list_checkpoints(out_dir)) {
    const std::optional<std::string> problem = checkpoint_problem(found.path);
    if (!problem) return found;
    rejected.push_back(concat(found.path, ": ", *problem));
  }
  std::string message = "no whole checkpoint";
  for (const std::string& problem : rejected) message += concat("; ", problem);
  throw CheckpointError(out_dir, message);
}

TrainState read_train_state(const std::string& path) {
  const std::string file = concat(path, '/', kStateFile);
  std::string text;
  if (auto problem = read_text(file, text)) throw CheckpointError(file, *problem);
  try {
    const Json json = Json::parse(text);
    std::optional<LossScale> loss_scale;
    if (const auto found = json.find("loss_scale"); found != json.end()) {
      loss_scale = LossScale{.factor = found->at("factor"), .good = found->at("good")};
    }
    return {.iteration = json.at("iteration"),
            .updates = json.at("updates"),
            .next_sample = json.at("next_sample"),
            .seed = json.at("seed"),
            .loss_scale = loss_scale,
            .best_val_loss = double_from(json.at("best_val_loss")),
            .micro_batch = json.at("micro_batch"),
            .accumulation = json.at("accumulation"),
            .recompute = json.at("recompute")};
  } catch (const std::exception& error) {
    throw CheckpointError(file, error.what());
  }
}

std::string read_checkpoint_config(const std::string& path) {
  const std::string file = concat(path, '/', kConfigFile);
  std::string text;
  if (auto problem = read_text(file, text)) throw CheckpointError(file, *problem);
  return text;
}

}  // namespace gpt2train
