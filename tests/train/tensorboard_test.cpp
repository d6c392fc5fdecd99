#include "gpt2train/train/tensorboard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using namespace std::string_literals;

// The only file of a directory.
std::string bytes_in(const std::string& directory) {
  std::string path;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    path = entry.path().string();
    ++files;
  }
  EXPECT_EQ(files, 1);
  EXPECT_NE(path.find("/events.out.tfevents."), std::string::npos);  // TensorBoard looks for it
  return test::read_file(path);
}

// Bit by bit, as RFC 3720 defines it and unlike what is tested.
std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82F63B78 & (0 - (crc & 1)));
  }
  return ~crc;
}

std::uint32_t masked(std::uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
}

// The events of records whose sums are right.
std::vector<std::string> events_of(const std::string& file) {
  std::vector<std::string> events;
  for (std::size_t at = 0; at < file.size();) {
    std::uint64_t length = 0;
    std::uint32_t length_sum = 0, sum = 0;
    std::memcpy(&length, file.data() + at, 8);
    std::memcpy(&length_sum, file.data() + at + 8, 4);
    EXPECT_EQ(length_sum, masked(slow_crc32c(file.substr(at, 8))));
    EXPECT_LE(at + 16 + length, file.size());
    if (at + 16 + length > file.size()) break;
    events.push_back(file.substr(at + 12, length));
    std::memcpy(&sum, file.data() + at + 12 + length, 4);
    EXPECT_EQ(sum, masked(slow_crc32c(events.back())));
    at += 16 + length;
  }
  return events;
}

// Without the time of writing, which is in front: field 1, eight bytes.
std::string after_time(const std::string& event) {
  EXPECT_EQ(event[0], '\x09');
  double seconds = 0.0;
  std::memcpy(&seconds, event.data() + 1, 8);
  EXPECT_GT(seconds, 1.7e9);  // since 1970, in this century
  EXPECT_LT(seconds, 4.1e9);
  return event.substr(9);
}

TEST(TensorBoardFile, SumsAreThoseOfRfc3720) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) {
    rising += static_cast<char>(i);
    falling += static_cast<char>(31 - i);
  }
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(crc32c(falling), 0x113FDB5Cu);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
}

TEST(TensorBoardFile, BeginsWithTheVersionThatReadersAskFor) {
  const test::TempDir directory;
  const TensorBoardFile file(directory.path());
  const std::vector<std::string> events = events_of(bytes_in(directory.path()));
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(after_time(events[0]), "\x1A\x0D"s + "brain.Event:2");
}

TEST(TensorBoardFile, AnEvaluationIsTheseBytes) {
  const test::TempDir directory;
  TensorBoardFile file(directory.path());
  file.on_evaluation({.step = 300, .train_loss = 1.5, .val_loss = 2.5, .seconds = 0.25});
  const std::vector<std::string> events = events_of(bytes_in(directory.path()));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(after_time(events[1]),
            "\x10\xAC\x02"s  // step: 300
            "\x2A\x43"s      // summary, 67 bytes
            "\x0A\x16\x0A\x0F"s +
                "eval/train_loss" +                      // value, its tag
                "\x15\x00\x00\xC0\x3F"s +                // 1.5f
                "\x0A\x14\x0A\x0D"s + "eval/val_loss" +  //
                "\x15\x00\x00\x20\x40"s +                // 2.5f
                "\x0A\x13\x0A\x0C"s + "eval/seconds" +   //
                "\x15\x00\x00\x80\x3E"s);                // 0.25f
}

TEST(TensorBoardFile, CategoriesAreWrittenWhereThePeakChanged) {
  const test::TempDir directory;
  TensorBoardFile file(directory.path());
  StepEvent step{.step = 0, .peak_bytes = 3 << 20, .peak_by_category = {2 << 20, 1 << 20}};
  file.on_step(step);
  step.step = 1;
  file.on_step(step);
  step.step = 2;
  step.peak_by_category[1] = 5 << 20;
  file.on_step(step);
  const std::vector<std::string> events = events_of(bytes_in(directory.path()));
  ASSERT_EQ(events.size(), 4u);
  const std::string five = "\x0A\x20\x0A\x19"s + "memory_MiB/master_weights"s + "\x15\x00\x00"s;
  EXPECT_NE(events[1].find(five + "\x80\x3F"s), std::string::npos);  // 1.0f
  EXPECT_EQ(events[2].find("memory_MiB/master_weights"), std::string::npos);
  EXPECT_NE(events[2].find("memory_MiB/peak"), std::string::npos);
  EXPECT_NE(events[3].find(five + "\xA0\x40"s), std::string::npos);  // 5.0f
}

TEST(TensorBoardFile, ARunThatGoesOnTakesBackWhatItDoesAgain) {
  const test::TempDir directory;
  TensorBoardFile file(directory.path());
  file.on_plan({.step = 5});
  const std::vector<std::string> events = events_of(bytes_in(directory.path()));
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(after_time(events[1]), "\x10\x05\x3A\x02\x08\x01"s);  // step 5, SessionLog: START
}

TEST(TensorBoardFile, ADirectoryThatIsNotThereIsAnError) {
  EXPECT_THROW(TensorBoardFile("/nonexistent/directory"), CheckpointError);
}

}  // namespace
}  // namespace gpt2train
