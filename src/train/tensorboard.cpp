#include "gpt2train/train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "gpt2train/core/error.h"
#include "gpt2train/core/units.h"
#include "gpt2train/memory/report.h"

namespace gpt2train {
namespace {

constexpr std::array<std::uint32_t, 256> kCrc32cTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

// So that a CRC of bytes that hold CRCs is of use (TFRecord).
std::uint32_t masked(std::uint32_t crc) {
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

// Of a little-endian machine, as all are that this builds for.
template <class Number>
std::string bytes_of(Number value) {
  std::string bytes(sizeof(Number), '\0');
  std::memcpy(bytes.data(), &value, sizeof(Number));
  return bytes;
}

std::string record(const std::string& event) {
  const std::string length = bytes_of(static_cast<std::uint64_t>(event.size()));
  return length + bytes_of(masked(crc32c(length))) + event + bytes_of(masked(crc32c(event)));
}

// ---- fields of protocol buffers, in the few forms that are needed -------------------------------

enum WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kLengthPrefixed = 2, kFixed32 = 5 };

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string key(int field, WireType type) {
  return varint(static_cast<std::uint64_t>(field) << 3 | type);
}
std::string proto(int field, std::int64_t value) {
  return key(field, kVarint) + varint(static_cast<std::uint64_t>(value));
}
std::string proto(int field, double value) {
  return key(field, kFixed64) + bytes_of(value);
}
std::string proto(int field, float value) {
  return key(field, kFixed32) + bytes_of(value);
}
std::string proto(int field, std::string_view bytes) {
  return key(field, kLengthPrefixed) + varint(bytes.size()) + std::string(bytes);
}

// ---- Event, Summary, TensorProto ----------------------------------------------------------------

std::string scalar(std::string_view tag, double value) {
  return proto(1, proto(1, tag) + proto(2, static_cast<float>(value)));
}

// A tensor of one string, and the name of the plugin that shows it.
std::string markdown(std::string_view tag, std::string_view text) {
  constexpr std::int64_t kString = 7;  // DT_STRING
  const std::string shape = proto(2, proto(1, std::int64_t{1}));
  const std::string tensor = proto(1, kString) + proto(2, shape) + proto(8, text);
  const std::string metadata = proto(1, proto(1, std::string_view("text")));
  return proto(1, proto(1, tag) + proto(8, tensor) + proto(9, metadata));
}

std::string verbatim(std::string_view tag, const std::string& lines) {
  return markdown(tag, "```\n" + lines + "\n```");
}

double mebibytes(std::size_t bytes) {
  return static_cast<double>(bytes) / static_cast<double>(kMiB);
}

std::string by_category(const TagBytes& bytes) {
  std::string summary;
  for (std::size_t tag = 0; tag < kTagCount; ++tag) {
    summary += scalar(concat("memory_MiB/", name_of(static_cast<Tag>(tag))), mebibytes(bytes[tag]));
  }
  return summary;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string event_file_name() {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return concat("events.out.tfevents.", static_cast<std::int64_t>(wall_time()), '.', host.data(),
                '.', getpid());
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc = crc >> 8 ^ kCrc32cTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  return ~crc;
}

TensorBoardFile::TensorBoardFile(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / event_file_name()).string();
  file_.reset(std::fopen(path.c_str(), "we"));
  if (!file_) throw CheckpointError(path, concat("cannot be written: ", std::strerror(errno)));
  write(proto(3, std::string_view("brain.Event:2")));
}

void TensorBoardFile::write(const std::string& event) {
  const std::string whole = record(proto(1, wall_time()) + event);
  std::fwrite(whole.data(), 1, whole.size(), file_.get());
  std::fflush(file_.get());  // a record that a full disk swallows is not worth a run
}

void TensorBoardFile::write_summary(std::int64_t step, const std::string& summary) {
  write(proto(2, step) + proto(5, summary));
}

void TensorBoardFile::on_start(const StartEvent& event) {
  std::string table = "| setting | value |\n| --- | --- |\n";
  for (const auto& [path, value] : event.settings) {
    table += concat("| ", path, " | ", value.empty() ? "\"\"" : value, " |\n");
  }
  write_summary(0, markdown("run/settings", table) +
                       verbatim("run/machine", concat("gpt2train ", event.version, '\n',
                                                      event.backend, ": ", event.device)));
}

void TensorBoardFile::on_plan(const PlanEvent& event) {
  // What older files have of this step and later ones is done again (SessionLog.START).
  const std::int64_t start = 1;
  write(proto(2, event.step) + proto(7, proto(1, start)));
  write_summary(event.step, verbatim("memory/plan", memory_table(event.prediction.stats)));
}

void TensorBoardFile::on_step(const StepEvent& event) {
  std::string summary = scalar("train/loss", event.loss) +
                        scalar("train/learning_rate", event.learning_rate) +
                        scalar("train/grad_norm", event.grad_norm) +
                        scalar("speed/tokens_per_second", event.tokens_per_second) +
                        scalar("speed/step_ms", event.step_seconds * 1e3) +
                        scalar("plan/micro_batch", static_cast<double>(event.plan.micro_batch)) +
                        scalar("memory_MiB/peak", mebibytes(event.peak_bytes));
  if (event.mfu > 0.0) summary += scalar("speed/mfu", event.mfu);
  if (event.peak_by_category != peak_by_category_) {
    peak_by_category_ = event.peak_by_category;
    summary += by_category(event.peak_by_category);
  }
  write_summary(event.step, summary);
}

void TensorBoardFile::on_evaluation(const EvalEvent& event) {
  std::string summary = scalar("eval/train_loss", event.train_loss) +
                        scalar("eval/val_loss", event.val_loss) +
                        scalar("eval/seconds", event.seconds);
  if (!event.sample.empty()) summary += verbatim("eval/sample", event.sample);
  write_summary(event.step, summary);
}

void TensorBoardFile::on_out_of_memory(const OutOfMemoryEvent& event) {
  write_summary(event.step, verbatim("memory/out_of_memory",
                                     concat(OutOfMemoryError(event.facts).what(),
                                            "\ngoing on with micro-batch ", event.to.micro_batch)));
}

void TensorBoardFile::on_grow(const GrowEvent& event) {
  write_summary(event.step,
                verbatim("memory/grow", concat("going on with micro-batch ", event.to.micro_batch,
                                               " instead of ", event.from.micro_batch)));
}

// A curve that ends where the run does.
void TensorBoardFile::on_end(const EndEvent& event) {
  write_summary(event.step, by_category(event.stats.by_tag_at_peak) +
                                verbatim("memory/ledger", memory_table(event.stats)));
}

}  // namespace gpt2train
