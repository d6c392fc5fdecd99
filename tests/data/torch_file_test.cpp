#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "gpt2train/core/error.h"
#include "gpt2train/data/weights_file.h"
#include "src/data/crc32.h"
#include "src/data/pickle_writer.h"
#include "tests/support/torch_archive.h"

namespace gpt2train {
namespace {

using test::HandmadeTensor;
using test::pickled;
using test::pickled_dict;
using test::pickled_integer;
using test::pickled_text;
using test::torch_archive;
using test::zip_of;

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

WeightsFile parse(const std::string& bytes) {
  return parse_weights("file.pt", std::as_bytes(std::span(bytes)));
}

std::string error_of(const std::string& bytes) {
  try {
    parse(bytes);
  } catch (const DataError& error) {
    const std::string what = error.what();
    EXPECT_TRUE(what.starts_with("file.pt: ")) << what;
    EXPECT_LT(what.size(), 1000u);
    return what;
  }
  return "accepted";
}

void expect_error(const std::string& bytes, const std::string& part) {
  const std::string error = error_of(bytes);
  EXPECT_NE(error.find(part), std::string::npos) << error << "\n  lacks: " << part;
}

void expect_pickle_error(const std::string& pickle, const std::string& part) {
  expect_error(torch_archive(pickle, {floats({1, 2, 3, 4})}), part);
}

// Of a storage of four floats.
HandmadeTensor four(std::vector<std::int64_t> shape, std::vector<std::int64_t> strides,
                    std::int64_t offset = 0) {
  return {.type = "FloatStorage",
          .storage = "0",
          .count = 4,
          .offset = offset,
          .shape = std::move(shape),
          .strides = std::move(strides)};
}

TEST(TorchFile, ReadsTensorsThatShareAStorage) {
  const std::string bytes = torch_archive(pickled_dict({{"a", four({2, 2}, {2, 1})},
                                                        {"b", four({2}, {1}, 1)},
                                                        {"scalar", four({}, {}, 3)},
                                                        {"column", four({2, 1}, {1, 7}, 2)},
                                                        {"empty", four({0, 5}, {9, 9}, 4)}}),
                                          {floats({1, 2, 3, 4})});
  const StoredTensors tensors = parse(bytes).tensors;
  EXPECT_EQ(tensors.floats("a"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(tensors.at("a").shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(tensors.floats("b"), (std::vector<float>{2, 3}));
  EXPECT_EQ(tensors.floats("scalar"), std::vector<float>{4});
  EXPECT_EQ(tensors.floats("column"), (std::vector<float>{3, 4}));
  EXPECT_EQ(tensors.at("empty").count(), 0);
}

TEST(TorchFile, ReadsNanoGptsCheckpoint) {
  PickleWriter pickle;
  pickle.begin_dict();
  pickle.text("model");
  pickle.begin_ordered_dict();
  pickle.text("_orig_mod.transformer.wte.weight");
  pickle.tensor("HalfStorage", 0, {2});
  pickle.end_dict();
  pickle.text("model_args");
  pickle.begin_dict();
  pickle.text("n_head");
  pickle.integer(3);
  pickle.text("dropout");
  pickle.real(0.5);
  pickle.end_dict();
  pickle.text("best_val_loss");
  pickle.none();
  pickle.end_dict();
  const std::string bytes = torch_archive(pickle.finish(), {std::string("\x00\x3c\x00\xc0", 4)});
  const WeightsFile file = parse(bytes);
  EXPECT_EQ(file.tensors.floats("wte.weight"), (std::vector<float>{1.0f, -2.0f}));
  EXPECT_EQ(file.n_head, 3);
  EXPECT_EQ(file.activation, "gelu");
}

// What Python would do here is run a command.
TEST(TorchFile, CallsNothing) {
  expect_pickle_error(pickled("cos\nsystem\n(" + pickled_text("id") + "tR"),
                      "asks for os.system, which is not part of a checkpoint");
  expect_pickle_error(pickled("cbuiltins\neval\n"), "builtins.eval");
  expect_pickle_error(pickled("ctorch\nload\n"), "torch.load");
  expect_pickle_error(pickled("ccollections\nOrderedDict\n(K\1tR"), "a call that no checkpoint");
  expect_pickle_error(pickled("K\1)R"), "a call of what is no function");
  expect_pickle_error(pickled("ctorch\nFloatStorage\n)R"), "a call that no checkpoint");
  expect_pickle_error(pickled("c" + std::string(2000, 'x') + "\ny\n"), "asks for xxx");
  for (const char* opcode : {"i", "o", "\x81", "\x92", "P", "\x93", "\x8D", "0", "2", "B"}) {
    expect_pickle_error(pickled(std::string("}(") + opcode), "is none that a checkpoint needs");
  }
}

TEST(TorchFile, RejectsPicklesThatDoNotAddUp) {
  expect_pickle_error("", "a pickle takes 1 bytes");
  expect_pickle_error("\x80\x06}.", "protocols 2 to 5");
  expect_pickle_error("(dp0\n.", "protocols 2 to 5");
  expect_pickle_error("\x80\x02}", "an opcode takes 1 bytes, and 0 are left");
  expect_pickle_error(pickled("") + "x", "the pickle ends in the middle");
  expect_pickle_error(pickled("}") + "x", "1 bytes after the pickle's end");
  expect_pickle_error(pickled("}}"), "the pickle ends in the middle");
  expect_pickle_error(pickled("}("), "the pickle ends in the middle");
  expect_pickle_error(pickled("\x86"), "too few values");
  expect_pickle_error(pickled("}(s"), "too few values");  // what lies below a mark is out of reach
  expect_pickle_error(pickled("N(\x85"), "too few values");
  expect_pickle_error(pickled("t"), "no mark");
  expect_pickle_error(pickled("h\5"), "nothing was remembered as 5");
  expect_pickle_error(pickled("q\5"), "nothing to remember");
  expect_pickle_error(pickled("}(K\1u"), "a key without a value");
  expect_pickle_error(pickled("](NNu"), "not a dict on the stack");
  expect_pickle_error(pickled("}Na"), "not a list on the stack");
  expect_pickle_error(pickled("NNb"), "not a dict on the stack");
  expect_pickle_error(pickled("K\1\x85Q"), "not to a storage");
  expect_pickle_error(pickled("K\1Q"), "not a tuple");
  expect_pickle_error(pickled(std::string("X\xff\xff\xff\xff", 5)), "a text takes 4294967295");
  expect_pickle_error(pickled(std::string("\x8a\x09", 2) + std::string(9, '\1')), "of 9 bytes");
  expect_pickle_error(pickled("N"), "has no dict of tensors");
  // A list in itself: no recursion.
  expect_pickle_error(pickled("]q\1h\1ah\1a"), "has no dict of tensors");
  expect_pickle_error(std::string("\x80\x02") + std::string((16 << 20) + 1, 'N'), "a pickle of");
  expect_pickle_error(pickled(std::string(1 << 20, '(')), "the pickle ends in the middle");
  expect_pickle_error(pickled("}" + std::string(1 << 20, '\x85')), "has no dict of tensors");
}

// 5 bytes a tensor: without a limit 16 MiB of pickle would take gigabytes.
TEST(TorchFile, RejectsMoreTensorsThanAnyModelHas) {
  const std::string zero(1, '\0');
  std::string body = "ctorch._utils\n_rebuild_tensor_v2\nq\x01((" + pickled_text("storage") +
                     "ctorch\nFloatStorage\n" + pickled_text("0") + pickled_text("cpu") +
                     pickled_integer(4) + "tQK" + zero + "))tq\x02R(";
  for (int i = 0; i < 1 << 17; ++i) body += "h\x01h\x02R";
  expect_pickle_error(pickled(body), "more than 131072 tensors");
}

TEST(TorchFile, RejectsTensorsThatReachBeyondTheirStorage) {
  const auto expect = [](const HandmadeTensor& tensor, const std::string& part) {
    expect_pickle_error(pickled_dict({{"x", tensor}}), part);
  };
  expect(four({5}, {1}), "reaches beyond its storage of 4");
  expect(four({2}, {1}, 3), "reaches beyond");
  expect(four({0}, {1}, 5), "reaches beyond");
  expect(four({1}, {1}, std::int64_t{1} << 62), "reaches beyond");
  expect(four({1}, {1}, -1), "without a storage");
  expect(four({-1}, {1}), "no size");
  expect(four({1}, {-1}), "no size");
  expect(four({2}, {}), "a stride for each dimension");
  expect(four({2, 2}, {1, 2}), "not stored row by row");
  expect(four({2}, {2}), "not stored row by row");
  expect(four({std::int64_t{1} << 32, std::int64_t{1} << 32}, {1, 1}), "the storage has 16 bytes");
  expect(four({1, 1, 1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1}), "9 dimensions");
  HandmadeTensor other = four({1}, {1});
  other.count = 5;
  expect(other, "the storage has 16 bytes, not 5 of F32");
  other.count = -4;
  expect(other, "a storage that is none");
  other = four({1}, {1});
  other.storage = "1";
  expect(other, "no entry \"data/1\"");
  other.storage = "../version";
  expect(other, "no entry");
  other = four({1}, {1});
  other.type = "DoubleStorage";
  expect(other, "not 4 of F64");
}

TEST(TorchFile, RejectsNamesThatAreThereTwice) {
  expect_pickle_error(pickled_dict({{"a", four({1}, {1})}, {"a", four({1}, {1})}}), "twice");
  expect_pickle_error(pickled_dict({{"a", four({1}, {1})}, {"transformer.a", four({1}, {1})}}),
                      "\"a\" is there twice, also as \"transformer.a\"");
}

std::string good_archive() {
  return torch_archive(pickled_dict({{"a", four({2, 2}, {2, 1})}}), {floats({1, 2, 3, 4})});
}

template <class T>
std::string with(std::string bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

TEST(ZipReader, RejectsDamage) {
  const std::string good = good_archive();
  EXPECT_NO_THROW(parse(good));
  const std::size_t central = good.find("PK\1\2"), end64 = good.find("PK\6\6");
  const std::size_t storage = good.find(floats({1, 2, 3, 4}));
  expect_error(with(good, central + 10, std::uint16_t{8}), "is compressed");
  expect_error(with(good, central + 8, std::uint16_t{1}), "is encrypted");
  expect_error(with(good, central + 24, std::uint32_t{1} << 30), "is compressed");
  expect_error(with(good, storage, 1.5f), "\"data/0\" has the checksum");
  expect_error(with(good, central + 47, 'x'), "the directory calls this");
  expect_error(with(good, end64 + 32, std::uint64_t{1000}), "an entry takes 4 bytes");
  expect_error(with(good, end64 + 32, std::uint64_t{1}), "after the last entry");
  expect_error(with(good, end64 + 40, ~std::uint64_t{0}), "beyond the end");
  expect_error(with(good, end64 + 48, ~std::uint64_t{0}), "beyond the end");
  expect_error(with(good, end64 + 64, ~std::uint64_t{0}), "no 64-bit end record");
  // The first entry's place, in its field of 64 bits.
  const std::size_t place = good.find("m/data.pkl", central) + 10 + 4;
  expect_error(with(good, place, ~std::uint64_t{0}), "not where the directory says");
  expect_error(with(good, place, std::uint64_t{3}), "not where the directory says");
  expect_error(zip_of({{"a", "1"}, {"a", "2"}}), "\"a\" is there twice");
  expect_error(zip_of({{"a", "1"}}), "without data.pkl");
  expect_error("\x80\x02\x8A\x0Al\xFC\x9C and so on", "before PyTorch 1.6");
}

TEST(ZipReader, RejectsEntriesThatOverlap) {
  // The first entry's size goes on to the second's bytes, whose header is thus within it.
  std::string bytes = zip_of({{"a", "1"}, {"b", "2"}});
  const std::size_t central = bytes.find("PK\1\2");
  bytes = with(with(bytes, central + 20, std::uint32_t{65}), central + 24, std::uint32_t{65});
  expect_error(bytes, "entries overlap");
}

TEST(ZipReader, RejectsAFileThatIsCutOffAnywhere) {
  const std::string good = good_archive();
  for (std::size_t size = 4; size < good.size(); ++size) {
    EXPECT_NE(error_of(good.substr(0, size)), "accepted") << size;
  }
}

TEST(ZipReader, ReadsSmallArchivesOfOtherPrograms) {
  // Without fields of 64 bits, and with a comment.
  std::string bytes = good_archive();
  const std::size_t end64 = bytes.find("PK\6\6"), central = bytes.find("PK\1\2");
  std::string narrow = bytes.substr(0, end64) + std::string("PK\5\6\0\0\0\0\4\0\4\0", 12);
  const std::uint32_t place[2] = {static_cast<std::uint32_t>(end64 - central),
                                  static_cast<std::uint32_t>(central)};
  narrow += std::string(reinterpret_cast<const char*>(place), sizeof place);
  narrow += std::string("\3\0abc", 5);
  EXPECT_EQ(parse(narrow).tensors.floats("a"), (std::vector<float>{1, 2, 3, 4}));
}

TEST(ZipWriter, BeginsEntriesAtMultiplesOf64) {
  const std::string bytes = zip_of({{"a", "ONE"}, {"longer", "TWO"}});
  EXPECT_EQ(bytes.find("ONE") % 64, 0u);
  EXPECT_EQ(bytes.find("TWO") % 64, 0u);
}

// The check value of the CRC catalogues, and every length of the eight-byte loop's tail.
TEST(Crc32, MatchesTheDefinition) {
  const std::string digits = "123456789";
  EXPECT_EQ(crc32(std::as_bytes(std::span(digits))), 0xCBF43926u);
  std::string text;
  for (int size = 0; size < 40; ++size) {
    std::uint32_t expected = ~0u;
    for (const char c : text) {
      expected ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; ++bit) expected = expected >> 1 ^ (expected & 1u) * 0xEDB88320u;
    }
    EXPECT_EQ(crc32(std::as_bytes(std::span(text))), ~expected) << size;
    text += static_cast<char>(size * 37);
  }
}

TEST(TorchFile, SurvivesRandomDamage) {
  const std::string good = good_archive();
  std::mt19937 random(1);
  int rejected = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (unsigned i = 0; i < 1 + random() % 3; ++i) {
      bytes[4 + random() % (bytes.size() - 4)] = static_cast<char>(random());
    }
    rejected += error_of(bytes) != "accepted";
  }
  EXPECT_GT(rejected, 1500);
}

}  // namespace
}  // namespace gpt2train
