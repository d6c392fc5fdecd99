#include "gpt2train/data/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>

#include "gpt2train/core/dtype.h"
#include "gpt2train/core/error.h"
#include "tests/support/temp_dir.h"

namespace gpt2train {
namespace {

using test::TempDir;
using test::write_file;

std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string with_header(const std::string& header, const std::string& data = "") {
  return with_length(header.size(), header + data);
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return concat('"', name, R"(":{"dtype":")", dtype, R"(","shape":[)", shape,
                R"(],"data_offsets":[)", offsets, "]}");
}

// A valid entry for the first four bytes.
std::string four(const std::string& name) {
  return tensor(name, "F32", "1", "0,4");
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

class Safetensors : public testing::Test {
 protected:
  SafetensorsFile open(const std::string& bytes) {
    write_file(path_, bytes);
    return SafetensorsFile(path_);
  }

  // The error without the path it must start with.
  std::string error_of(const std::string& bytes) {
    try {
      open(bytes);
    } catch (const DataError& error) {
      const std::string what = error.what();
      EXPECT_TRUE(what.starts_with(path_ + ": ")) << what;
      EXPECT_LT(what.size(), 1000u);
      return what.substr(std::min(what.size(), path_.size() + 2));
    }
    ADD_FAILURE() << "accepted: " << bytes.substr(0, 200);
    return "";
  }

  void expect_error(const std::string& bytes, const std::string& part) {
    const std::string error = error_of(bytes);
    EXPECT_NE(error.find(part), std::string::npos) << error << "\n  lacks: " << part;
  }

  TempDir dir_;
  std::string path_ = dir_ / "model.safetensors";
};

TEST_F(Safetensors, ReadsTensorsAndMetadata) {
  const std::string header =
      concat(R"({"__metadata__":{"format":"pt","n":"3"},)", tensor("b", "I32", "2,1", "8,16"), ',',
             tensor("a", "F32", "2", "0,8"), "}  ");
  const std::string data = bytes_of<float>({1.5f, -2.0f}) + bytes_of<std::int32_t>({7, -9});
  const SafetensorsFile file = open(with_header(header, data));
  EXPECT_EQ(file.path(), path_);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"n", "3"}}));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.at("b").shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(file.at("b").dtype, "I32");
  EXPECT_EQ(file.at("b").count(), 2);
  EXPECT_EQ(file.floats("a"), (std::vector<float>{1.5f, -2.0f}));
  EXPECT_EQ(file.integers("b"), (std::vector<std::int32_t>{7, -9}));
}

TEST_F(Safetensors, ReadsScalarsEmptyTensorsAndNoTensors) {
  const SafetensorsFile file = open(with_header(
      concat('{', tensor("empty", "F32", "0,3", "4,4"), ',', tensor("front", "U8", "0", "0,0"), ',',
             tensor("scalar", "F32", "", "0,4"), '}'),
      bytes_of<float>({5})));
  EXPECT_EQ(file.at("scalar").count(), 1);
  EXPECT_EQ(file.floats("scalar"), std::vector<float>{5});
  EXPECT_EQ(file.at("empty").count(), 0);
  EXPECT_TRUE(file.floats("empty").empty());
  EXPECT_TRUE(open(with_header("{}")).tensors().empty());
}

TEST_F(Safetensors, ReadsUnalignedData) {
  const std::string header =
      concat('{', tensor("pad", "U8", "1", "0,1"), ',', tensor("x", "F64", "2", "1,17"), '}');
  const SafetensorsFile file = open(with_header(header, "p" + bytes_of<double>({0.1, -1e300})));
  EXPECT_EQ(file.floats("x"), (std::vector<float>{0.1f, -std::numeric_limits<float>::infinity()}));
}

TEST_F(Safetensors, ConvertsSixteenBitFloats) {
  const std::vector<std::uint16_t> halves = {0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001,
                                             0x83FF, 0x0000, 0x8000, 0x7C00, 0xFC00};
  const std::vector<float> expected = {1.0f,          -2.0f, 65504.0f, 0x1p-14f, 0x1p-24f,
                                       -0x1.FF8p-15f, 0.0f,  -0.0f,    INFINITY, -INFINITY};
  std::string data = bytes_of(halves);
  data += bytes_of<std::uint16_t>({0x3FC0, 0xFF80});
  data += bytes_of<std::uint16_t>({0x7E01});
  const SafetensorsFile file = open(with_header(
      concat('{', tensor("half", "F16", "10", "0,20"), ',', tensor("brain", "BF16", "2", "20,24"),
             ',', tensor("nan", "F16", "1", "24,26"), '}'),
      data));
  EXPECT_EQ(bytes_of(file.floats("half")), bytes_of(expected));  // bits: -0 is not 0
  EXPECT_EQ(file.floats("brain"), (std::vector<float>{1.5f, -INFINITY}));
  EXPECT_TRUE(std::isnan(file.floats("nan")[0]));
}

TEST_F(Safetensors, HalvesOfEveryBitPatternMatchTheFormula) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const std::vector<float> values =
      open(with_header('{' + tensor("x", "F16", "65536", "0,131072") + '}', bytes_of(all)))
          .floats("x");
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits & 0x8000 ? -1.0 : 1.0;
    const float value = values[static_cast<std::size_t>(bits)];
    if (exponent == 31) {
      ASSERT_TRUE(mantissa == 0 ? value == sign * INFINITY : std::isnan(value)) << bits;
    } else {
      const double expected =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      ASSERT_EQ(value, sign * expected) << bits;
    }
  }
}

TEST_F(Safetensors, IntegersOf64BitsMustFitIn32) {
  const std::string header = '{' + tensor("x", "I64", "2", "0,16") + '}';
  EXPECT_EQ(open(with_header(header, bytes_of<std::int64_t>({-5, 1 << 30}))).integers("x"),
            (std::vector<std::int32_t>{-5, 1 << 30}));
  EXPECT_THROW(
      open(with_header(header, bytes_of<std::int64_t>({0, std::int64_t{1} << 31}))).integers("x"),
      DataError);
}

TEST_F(Safetensors, WrongNameOrTypeIsAnError) {
  const SafetensorsFile file = open(with_header('{' + four("a") + '}', "1234"));
  EXPECT_THROW(file.at("b"), DataError);
  EXPECT_THROW(file.integers("a"), DataError);
  EXPECT_THROW(open(with_header('{' + tensor("a", "I32", "1", "0,4") + '}', "1234")).floats("a"),
               DataError);
}

TEST_F(Safetensors, RejectsBadHeaderLengths) {
  expect_error("", "the file is empty");
  expect_error("1234567", "byte 7: the file ends inside the header length of 8 bytes");
  expect_error(with_length(4096, "{}"), "byte 0: a header of 4096 bytes in a file of 10");
  expect_error(with_length(~std::uint64_t{0}, "{}"), "byte 0: a header of 18446744073709551615");
  expect_error(with_length(0, ""), "does not start with '{'");
  write_file(path_, with_length(100'000'001, ""));
  std::filesystem::resize_file(path_, 100'000'100);  // a hole: takes no disk
  EXPECT_THROW(SafetensorsFile{path_}, DataError);
}

TEST_F(Safetensors, RejectsWhatIsNotJson) {
  expect_error(with_header(R"({"a": oops})"), "the header is not JSON");
  expect_error(with_header("{"), "the header is not JSON");
  expect_error(with_header("{} x"), "the header is not JSON");
  expect_error(with_header("{}{}"), "the header is not JSON");
  expect_error(with_header(" {}"), "byte 8: the header does not start with '{'");
  expect_error(with_header("\xEF\xBB\xBF{}"), "does not start with '{'");
  expect_error(with_header("[]"), "does not start with '{'");
  expect_error(with_header(std::string("{}\0 {", 5)), "byte 10: a zero byte in the header");
  expect_error(with_header('{' + four("a\xFF") + '}', "1234"), "UTF-8");
  expect_error(with_header('{' + four("a\xC0\x80") + '}', "1234"), "UTF-8");
  expect_error(with_header('{' + four("\\ud800") + '}', "1234"), "the header is not JSON");
  expect_error(with_header("{\"" + std::string(1 << 20, 'x')), "the header is not JSON");
}

TEST_F(Safetensors, RejectsDeepNesting) {
  const std::string deep(1 << 22, '[');
  expect_error(with_header(R"({"a":)" + deep), "unexpected array");
  expect_error(with_header(R"({"a":{"shape":)" + deep), "unexpected array");
  std::string objects;
  for (int i = 0; i < 1 << 20; ++i) objects += R"({"a":)";
  expect_error(with_header(objects), "unknown field");
  expect_error(with_header(R"({"__metadata__":)" + objects), "unexpected object");
}

TEST_F(Safetensors, RejectsDuplicates) {
  expect_error(with_header('{' + four("a") + ',' + four("a") + '}', "1234"),
               "\"a\" is there twice");
  expect_error(with_header('{' + four("a") + ',' + four("\\u0061") + '}', "1234"), "twice");
  expect_error(with_header(R"({"__metadata__":{},"__metadata__":{}})"), "twice");
  expect_error(with_header(R"({"__metadata__":{"k":"1","k":"1"}})"),
               "\"k\" is twice in \"__metadata__\"");
  expect_error(
      with_header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}})", "1234"),
      "\"dtype\" is twice in \"a\"");
}

TEST_F(Safetensors, RejectsMetadataThatIsNotText) {
  for (const char* value : {"3", "null", "true", "1.5", "{}", "[]"}) {
    error_of(with_header(concat(R"({"__metadata__":{"n":)", value, "}}")));
    error_of(
        with_header(concat(R"({"__metadata__":)", value == std::string("{}") ? "[]" : value, '}')));
  }
}

TEST_F(Safetensors, RejectsIncompleteOrForeignEntries) {
  expect_error(with_header(R"({"a":{}})"), "lacks");
  expect_error(with_header(R"({"a":{"dtype":"F32","shape":[]}})"), "lacks");
  expect_error(with_header(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})"),
               "unknown field \"x\"");
  expect_error(with_header(R"({"a":3})"), "unexpected number");
  expect_error(with_header(R"({"a":"b"})"), "unexpected string");
  expect_error(with_header(R"({"a":{"dtype":4}})"), "unexpected number");
  expect_error(with_header(R"({"a":{"dtype":["F32"]}})"), "unexpected array");
  expect_error(with_header(R"({"a":{"shape":4}})"), "unexpected number");
  expect_error(with_header(R"({"a":{"shape":["4"]}})"), "unexpected string");
  expect_error(with_header(R"({"a":{"shape":[[4]]}})"), "unexpected array");
  expect_error(with_header('{' + tensor("a", "F31", "1", "0,4") + '}', "1234"),
               "unknown dtype \"F31\"");
}

TEST_F(Safetensors, RejectsBadNumbers) {
  const std::string data = "1234";
  for (const char* offsets : {"", "0", "0,4,4", "-1,4", "0,4.0", "0,4e0", "0,-4",
                              "0,18446744073709551616", "0,1e999", "null,4"}) {
    error_of(with_header('{' + tensor("a", "F32", "1", offsets) + '}', data));
  }
  for (const char* shape :
       {"-1", "1.0", "18446744073709551615", "18446744073709551616", "1,null"}) {
    error_of(with_header('{' + tensor("a", "F32", shape, "0,4") + '}', data));
  }
  std::string dims = "1";
  for (int i = 0; i < 64; ++i) dims += ",1";
  expect_error(with_header('{' + tensor("a", "F32", dims, "0,4") + '}', data), "dimensions");
}

TEST_F(Safetensors, RejectsOffsetsThatDoNotTile) {
  const auto two = [](const std::string& a, const std::string& b, const std::string& data) {
    return with_header(concat('{', tensor("a", "U8", "4", a), ',', tensor("b", "U8", "4", b), '}'),
                       data);
  };
  EXPECT_NO_THROW(open(two("4,8", "0,4", "12345678")));
  expect_error(two("0,4", "2,6", "123456"), "\"b\" begins at 2 and overlaps");
  expect_error(two("0,4", "0,4", "1234"), "overlaps");
  expect_error(two("0,4", "5,9", "123456789"), "\"b\" begins at 5, 1 bytes after the last");
  expect_error(two("1,5", "5,9", "123456789"), "\"a\" begins at 1, 1 bytes after the last");
  expect_error(two("0,4", "8,4", "12345678"), "run backwards");
  expect_error(two("0,4", "4,8", "1234567"), "\"b\" ends at 8, but the data end at 7");
  expect_error(two("0,4", "4,8", "123456789"), "1 bytes after the last tensor");
  expect_error(two("0,4", "4,18446744073709551615", "12345678"), "ends at 18446744073709551615");
  expect_error(two("4,8", "18446744073709551612,0", "12345678"), "after the last");
  expect_error(with_header("{}", "x"), "1 bytes after the last tensor");
}

TEST_F(Safetensors, RejectsSizesThatDisagreeWithShapes) {
  const auto one = [](const std::string& dtype, const std::string& shape) {
    return with_header('{' + tensor("a", dtype, shape, "0,4") + '}', "1234");
  };
  EXPECT_NO_THROW(open(one("BF16", "2")));
  expect_error(one("F32", "3"), "\"a\" has 4 bytes, but its shape and F32 take 12");
  expect_error(one("F64", "1"), "take 8");
  expect_error(one("F32", "0"), "take 0");
  expect_error(one("F32", "1099511627776,1099511627776"), "overflows");
  expect_error(one("F32", "4294967296,4294967296"), "overflows");  // 2^64 elements: 0 if wrapped
  expect_error(one("U8", "4,1099511627776,9223372036854775807"), "overflows");
}

// Whatever a disk or an attacker does to a small file: an error or another valid file, no crash.
TEST_F(Safetensors, SurvivesRandomDamage) {
  const std::string good =
      with_header(concat(R"({"__metadata__":{"k":"v"},)", tensor("a", "F32", "2,2", "0,16"), ',',
                         tensor("b", "F16", "3", "16,22"), "}  "),
                  std::string(22, '\1'));
  EXPECT_NO_THROW(open(good));
  std::mt19937 random(1);
  int rejected = 0;
  for (int round = 0; round < 1000; ++round) {
    std::string bytes = good;
    for (unsigned i = 0; i < 1 + random() % 3; ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    try {
      const SafetensorsFile file = open(bytes);
      for (const auto& [name, stored] : file.tensors()) {
        if (stored.dtype == "F32" || stored.dtype == "F16") file.floats(name);
      }
    } catch (const DataError&) {
      ++rejected;
    }
  }
  EXPECT_GT(rejected, 600);
}

TEST_F(Safetensors, WhatIsWrittenReadsBack) {
  const std::vector<float> a = {1, 2, 3, 4, 5, 6};
  const std::vector<bf16> b = {{0x3F80}};
  const std::vector<TensorToStore> tensors = {
      {.name = "z", .dtype = "F32", .shape = {2, 3}, .bytes = std::as_bytes(std::span(a))},
      {.name = "a \"quoted\" \xC3\xA9",
       .dtype = "BF16",
       .shape = {},
       .bytes = std::as_bytes(std::span(b))},
      {.name = "empty", .dtype = "F32", .shape = {0}, .bytes = {}}};
  std::string bytes = safetensors_header(tensors, {{"key", "value"}});
  EXPECT_EQ(bytes.size() % 8, 0u);
  EXPECT_EQ(bytes.substr(8, 58), R"({"__metadata__":{"key":"value"},"z":{"dtype":"F32","shape")");
  for (const TensorToStore& stored : tensors) {
    bytes.append(reinterpret_cast<const char*>(stored.bytes.data()), stored.bytes.size());
  }
  const SafetensorsFile file = open(bytes);
  EXPECT_EQ(file.metadata().at("key"), "value");
  EXPECT_EQ(file.floats("z"), a);
  EXPECT_EQ(file.at("z").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.floats(tensors[1].name), std::vector<float>{1});
  EXPECT_EQ(file.at("empty").count(), 0);
}

TEST_F(Safetensors, HeaderCountsBeyond32Bits) {
  // Only sizes and offsets go into a header, so the bytes need not be there.
  const std::span<const std::byte> huge(reinterpret_cast<const std::byte*>(8), 6ull << 30);
  const std::string header = safetensors_header(
      std::vector<TensorToStore>{
          {.name = "a", .dtype = "F32", .shape = {3, 1 << 29}, .bytes = huge},
          {.name = "b", .dtype = "F32", .shape = {3, 1 << 29}, .bytes = huge}},
      {});
  EXPECT_NE(header.find("[6442450944,12884901888]"), std::string::npos) << header;
}

TEST_F(Safetensors, WriterChecksItsInput) {
  const std::vector<float> data(4);
  const TensorToStore good = {
      .name = "a", .dtype = "F32", .shape = {4}, .bytes = std::as_bytes(std::span(data))};
  TensorToStore bad = good;
  EXPECT_THROW(safetensors_header(std::vector{good, good}, {}), InternalError);
  bad.shape = {5};
  EXPECT_THROW(safetensors_header(std::vector{bad}, {}), InternalError);
  bad = good;
  bad.dtype = "float";
  EXPECT_THROW(safetensors_header(std::vector{bad}, {}), InternalError);
  bad = good;
  bad.name = "__metadata__";
  EXPECT_THROW(safetensors_header(std::vector{bad}, {}), InternalError);
}

TEST_F(Safetensors, JudgesTheReferenceFiles) {
  const std::filesystem::path dir = GPT2TRAIN_GOLDEN_DIR "/formats/safetensors";
  if (!std::filesystem::is_directory(dir)) GTEST_SKIP() << "no reference files in " << dir;
  int good = 0, bad = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    if (name.starts_with("ok_")) {
      ++good;
      EXPECT_NO_THROW(SafetensorsFile(entry.path().string()));
    } else {
      ++bad;
      EXPECT_THROW(SafetensorsFile(entry.path().string()), DataError);
    }
  }
  EXPECT_GE(good, 4);
  EXPECT_GE(bad, 8);
  const SafetensorsFile basic((dir / "ok_basic.safetensors").string());
  EXPECT_EQ(basic.floats("a"), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(basic.integers("b"), std::vector<std::int32_t>{-7});
  const SafetensorsFile unicode((dir / "ok_unicode_name.safetensors").string());
  EXPECT_EQ(unicode.floats("w\xC3\xA9ight\x01/\xF0\x9F\x98\x80"), std::vector<float>{1});
}

}  // namespace
}  // namespace gpt2train
