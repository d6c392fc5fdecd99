// `encode` and `decode`: JSON lines in, JSON lines out, one for one.
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/json_line.h"
#include "gpt2train/tokenizer/tokenizer.h"
#include "src/cli/commands.h"

namespace gpt2train {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kInput = "standard input";

struct EncodeOptions {
  std::string vocab;
  bool special = false;
};

[[noreturn]] void fail_line(std::int64_t number, const std::string& problem) {
  throw DataError(kInput, concat("line ", number, ": ", problem));
}

Json parse_line(const std::string& line, std::int64_t number) {
  try {
    return Json::parse(repair_json(line));
  } catch (const Json::exception& error) {
    fail_line(number, error.what());
  }
}

std::optional<std::string> from_hex(const std::string& hex) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = digit(hex[i]);
    const int low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

std::string text_of(const std::string& line, std::int64_t number) {
  Json json = parse_line(line, number);
  const auto has = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_string();
  };
  if (has("text") == has("hex")) fail_line(number, "expected {\"text\": ...} or {\"hex\": ...}");
  if (has("text")) return json["text"];
  const std::optional<std::string> bytes = from_hex(json["hex"]);
  if (!bytes) fail_line(number, "\"hex\" is not of pairs of hexadecimal digits");
  return *bytes;
}

// Calls `answer` for every line of standard input and prints what it returns.
template <class Answer>
void for_each_line(Answer answer) {
  std::ios::sync_with_stdio(false);
  std::string line;
  for (std::int64_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string out = answer(line, number);
    std::fwrite(out.data(), 1, out.size(), stdout);
  }
  if (std::fflush(stdout) != 0) throw DataError("standard output", "cannot write");
}

void encode(const EncodeOptions& options) {
  const auto tokenizer = load_tokenizer(options.vocab);
  const auto encoder = tokenizer->make_encoder();
  std::vector<Token> tokens;
  for_each_line([&](const std::string& line, std::int64_t number) {
    const std::string text = text_of(line, number);
    if (text.size() > kMostTextBytes) fail_line(number, "a text of more than 1 GiB");
    tokens.clear();
    encoder->encode(text, options.special ? SpecialTokens::kRecognise : SpecialTokens::kAsText,
                    tokens);
    std::string out = "{\"ids\": [";
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) out += ", ";
      out += std::to_string(tokens[i]);
    }
    return out + "]}\n";
  });
}

void decode(const std::string& vocab) {
  const auto tokenizer = load_tokenizer(vocab);
  for_each_line([&](const std::string& line, std::int64_t number) {
    const Json json = parse_line(line, number);
    if (!json.is_object() || !json.contains("ids") || !json["ids"].is_array()) {
      fail_line(number, "expected {\"ids\": [...]}");
    }
    std::string out = "{\"hex\": \"";
    for (const Json& id : json["ids"]) {
      const auto size = static_cast<std::uint64_t>(tokenizer->vocab_size());
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= size) {
        fail_line(number, concat("id ", id.is_number() ? id.dump() : id.type_name(),
                                 ", expected a number below ", size));
      }
      for (const char byte : tokenizer->bytes_of(id.get<Token>())) {
        constexpr const char* kDigits = "0123456789abcdef";
        out += kDigits[static_cast<unsigned char>(byte) >> 4];
        out += kDigits[static_cast<unsigned char>(byte) & 15];
      }
    }
    return out + "\"}\n";
  });
}

constexpr const char* kVocabHelp =
    "directory of vocab.bpe, merges.txt, tokenizer.json, meta.json or meta.pkl "
    "(scripts/fetch_vocab.sh)";

}  // namespace

Command add_encode(CLI::App& app) {
  const auto options = std::make_shared<EncodeOptions>();
  app.add_option("--vocab", options->vocab, kVocabHelp)->required();
  app.add_flag("--special", options->special, "<|endoftext|> in a text is the token of that name");
  app.footer(
      "Reads lines {\"text\": ...} or, for any bytes, {\"hex\": ...}; writes {\"ids\": [...]}.");
  return [options] { encode(*options); };
}

Command add_decode(CLI::App& app) {
  const auto vocab = std::make_shared<std::string>();
  app.add_option("--vocab", *vocab, kVocabHelp)->required();
  app.footer("Reads lines {\"ids\": [...]}; writes {\"hex\": ...}.");
  return [vocab] { decode(*vocab); };
}

}  // namespace gpt2train
