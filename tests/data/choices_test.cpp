#include "gpt2train/data/choices.h"

#include <gtest/gtest.h>

#include <fstream>

#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train::test {
namespace {

// Two examples: 22 and 20 bytes. The stream begins at byte 1024.
struct EvalFile {
  std::vector<std::int32_t> header = {20240522, 1, 2, 24};
  std::vector<std::uint16_t> stream = {65535, 24, 0, 1, 2, 2, 5, 6, 1, 7, 1, 8,  //
                                       65535, 22, 1, 0, 2, 1, 9, 1, 3, 1, 4};

  std::string write(const TempDir& directory) const {
    const std::string path = directory.path() + "/eval.bin";
    std::vector<std::int32_t> whole = header;
    whole.resize(256);
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(whole.data()), 1024);
    file.write(reinterpret_cast<const char*>(stream.data()),
               static_cast<std::streamsize>(stream.size() * sizeof(std::uint16_t)));
    return path;
  }
};

std::string complaint(const EvalFile& file, std::int64_t vocab_size = 10) {
  const TempDir directory;
  const std::string path = file.write(directory);
  try {
    static_cast<void>(read_choices(path, vocab_size));
  } catch (const DataError& error) {
    return std::string(error.what()).substr(path.size() + 2);
  }
  return "none";
}

TEST(ReadChoices, ReadsWhatTheFileHolds) {
  const TempDir directory;
  const std::vector<ChoiceExample> examples = read_choices(EvalFile{}.write(directory), 10);
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(examples[0].context, (std::vector<std::int32_t>{5, 6}));
  EXPECT_EQ(examples[0].endings, (std::vector<std::vector<std::int32_t>>{{7}, {8}}));
  EXPECT_EQ(examples[0].label, 1);
  EXPECT_EQ(examples[1].context, std::vector<std::int32_t>{9});
  EXPECT_EQ(examples[1].label, 0);
}

TEST(ReadChoices, NamesThePlaceOfWhatIsWrong) {
  EvalFile file;
  file.header[0] = 20240520;
  EXPECT_EQ(complaint(file), "byte 0: magic number 20240520, expected 20240522");
  file = {};
  file.header[1] = 2;
  EXPECT_EQ(complaint(file), "byte 4: version 2, expected 1");
  file = {};
  file.stream[12] = 1;
  EXPECT_EQ(complaint(file), "byte 1048: found 1 where an example begins with 65535");
  file = {};
  file.stream[2] = 1;
  EXPECT_EQ(complaint(file), "byte 1028: example 1, expected 0");
  file = {};
  file.stream[3] = 2;
  EXPECT_EQ(complaint(file), "byte 1032: label 2 among 2 endings");
  file = {};
  file.stream[8] = 0;
  EXPECT_EQ(complaint(file), "byte 1040: a text of no tokens");
  file = {};
  file.stream[1] = 26;
  EXPECT_EQ(complaint(file), "byte 1048: example 0 has 24 bytes, but says 26");
  EXPECT_EQ(complaint({}, 9), "byte 1060: token 9, expected below the vocabulary size 9");
}

TEST(ReadChoices, RefusesAFileThatEndsEarlyOrLate) {
  EvalFile file;
  file.stream.pop_back();
  EXPECT_EQ(complaint(file), "byte 1068: the file ends where a token is expected");
  file = {};
  file.stream.push_back(0);
  EXPECT_EQ(complaint(file), "byte 1070: more follows the 2 examples that the header counts");
  file = {};
  file.header[2] = 0;
  file.stream.clear();
  EXPECT_EQ(complaint(file), "byte 1024: no examples");
}

}  // namespace
}  // namespace gpt2train::test
