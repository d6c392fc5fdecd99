// The README's table of settings is the list that the parser reads.
#include <gtest/gtest.h>

#include <cstdlib>

#include "gpt2train/config/load.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

TEST(Readme, HasTheSettingsAsTheyAre) {
  const std::string path = GPT2TRAIN_SOURCE_DIR "/README.md";
  const std::string readme = test::read_file(path);
  const std::size_t mark = readme.find("<!-- fields begin");
  const std::size_t begin = readme.find('\n', mark) + 1, end = readme.find("<!-- fields end");
  ASSERT_NE(mark, std::string::npos);
  ASSERT_NE(end, std::string::npos);
  const std::string table = fields_markdown();
  if (std::getenv("GPT2TRAIN_UPDATE_README") != nullptr) {
    test::write_file(path, readme.substr(0, begin) + table + readme.substr(end));
  } else {
    EXPECT_EQ(readme.substr(begin, end - begin), table)
        << "run it once more with GPT2TRAIN_UPDATE_README=1";
  }
}

}  // namespace
}  // namespace gpt2train
