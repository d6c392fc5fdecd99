// A token is written in these files with a printable character for each byte. What is read is
// turned into (merges, numbers by bytes) first, and then checked in one place, whatever file it
// came from.
#include "gpt2train/tokenizer/vocabulary.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <unordered_map>
#include <utility>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/unicode.h"
#include "src/tokenizer/files.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

// ---- bytes as printable characters --------------------------------------------------------------

constexpr bool is_printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<unsigned char, 256> order{};  // printable bytes, then the others
  std::array<char32_t, 256> written{};     // others as U+0100 and on

  Alphabet() {
    std::size_t place = 0;
    for (const bool printable : {true, false}) {
      for (int byte = 0; byte < 256; ++byte) {
        if (is_printable(byte) == printable) order[place++] = static_cast<unsigned char>(byte);
      }
    }
    char32_t next = 0x100;
    for (const unsigned char byte : order) written[byte] = is_printable(byte) ? byte : next++;
  }
};

const Alphabet& alphabet() {
  static const Alphabet made;
  return made;
}

std::string to_written(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes)
    append_utf8(text, alphabet().written[static_cast<unsigned char>(byte)]);
  return text;
}

// Empty where a character stands for no byte.
std::optional<std::string> from_written(std::string_view text) {
  static const auto bytes = [] {
    std::unordered_map<char32_t, char> map;
    for (int byte = 0; byte < 256; ++byte) {
      map[alphabet().written[static_cast<std::size_t>(byte)]] = static_cast<char>(byte);
    }
    return map;
  }();
  if (valid_utf8_prefix(text) != text.size()) return std::nullopt;
  std::string result;
  while (!text.empty()) {
    const Character character = first_character(text.data());
    const auto found = bytes.find(character.code);
    if (found == bytes.end()) return std::nullopt;
    result += found->second;
    text.remove_prefix(character.bytes);
  }
  return result;
}

// As part of an error message: short, and well-formed whatever it was.
std::string quoted(std::string_view text) {
  constexpr std::size_t kMost = 40;
  const bool cut = text.size() > kMost;
  return concat('"', replace_invalid_utf8(text.substr(0, kMost)), cut ? "...\"" : "\"");
}

// ---- one check for all files --------------------------------------------------------------------

// "line 3", written out only where it is wrong.
struct Place {
  const char* unit = "";
  std::int64_t number = 0;
  friend std::ostream& operator<<(std::ostream& out, const Place& place) {
    return out << place.unit << ' ' << place.number;
  }
};

struct TextMerge {
  Place place;
  std::string left;  // bytes
  std::string right;
};

using Numbers =
    std::unordered_map<std::string, std::int64_t>;  // by bytes; "<|endoftext|>" as itself

struct Parts {
  std::string path;  // of the merges
  std::vector<TextMerge> merges;
  std::string numbers_path;
  Numbers numbers;  // of bytes, of what merges make and of "<|endoftext|>"
};

TextMerge parse_merge(const std::string& path, const Place& place, std::string_view left,
                      std::string_view right) {
  const auto bytes = [&](std::string_view text) {
    std::optional<std::string> found = from_written(text);
    if (!found || found->empty()) {
      throw DataError(path,
                      concat(place, ": ", quoted(text), " is not a token of a byte-level BPE"));
    }
    return *found;
  };
  return {place, bytes(left), bytes(right)};
}

// "left right": one space, and none within a token.
TextMerge parse_merge(const std::string& path, const Place& place, std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    throw DataError(path, concat(place, ": ", quoted(line), ", expected two tokens and a space"));
  }
  return parse_merge(path, place, line.substr(0, space), line.substr(space + 1));
}

// GPT-2's own numbering.
Numbers gpt2_numbers(const std::string& path, const std::vector<TextMerge>& merges) {
  Numbers numbers;
  for (const unsigned char byte : alphabet().order) {
    numbers.emplace(std::string(1, static_cast<char>(byte)), std::ssize(numbers));
  }
  for (const TextMerge& merge : merges) {
    if (!numbers.emplace(merge.left + merge.right, std::ssize(numbers)).second) {
      throw DataError(path,
                      concat(merge.place, ": makes ", quoted(to_written(merge.left + merge.right)),
                             ", which is there already"));
    }
  }
  numbers.emplace(kEndOfText, std::ssize(numbers));
  return numbers;
}

// Tokens by number: 0, 1, ... without gaps.
std::vector<std::string> by_number(const std::string& path, const Numbers& numbers) {
  const std::int64_t count = std::ssize(numbers);
  if (count > kMostTokens) {
    throw DataError(path, concat(count, " tokens, expected at most ", kMostTokens,
                                 ", as token files have 16 bits a token"));
  }
  std::vector<std::string> tokens(numbers.size());
  for (const auto& [bytes, number] : numbers) {
    if (number < 0 || number >= count || !tokens[static_cast<std::size_t>(number)].empty()) {
      throw DataError(
          path, concat("token ", quoted(bytes == kEndOfText ? bytes : to_written(bytes)),
                       " has the number ", number, ", expected each of 0 to ", count - 1, " once"));
    }
    tokens[static_cast<std::size_t>(number)] = bytes;
  }
  return tokens;
}

Vocabulary assemble(const Parts& parts) {
  Vocabulary vocabulary;
  vocabulary.tokens = by_number(parts.numbers_path, parts.numbers);
  std::vector<bool> made(vocabulary.tokens.size());
  const auto number_of = [&](const std::string& bytes, const auto&... what) {
    const auto found = parts.numbers.find(bytes);
    if (found == parts.numbers.end()) {
      throw DataError(parts.numbers_path,
                      concat("lacks ", quoted(to_written(bytes)), ", ", what...));
    }
    return static_cast<Token>(found->second);
  };
  for (int byte = 0; byte < 256; ++byte) {
    const Token token =
        number_of(std::string(1, static_cast<char>(byte)), "which stands for a byte");
    vocabulary.byte_tokens[static_cast<std::size_t>(byte)] = token;
    made[token] = true;
  }
  std::unordered_map<std::uint32_t, const TextMerge*> pairs;
  for (const TextMerge& merge : parts.merges) {
    const auto part = [&](const std::string& bytes) {
      const auto found = parts.numbers.find(bytes);
      if (found == parts.numbers.end() || !made[static_cast<std::size_t>(found->second)]) {
        throw DataError(parts.path, concat(merge.place, ": ", quoted(to_written(bytes)),
                                           " is no byte, and no merge above makes it"));
      }
      return static_cast<Token>(found->second);
    };
    const Token left = part(merge.left);
    const Token right = part(merge.right);
    const Token result =
        number_of(merge.left + merge.right, "which ", merge.place, " of the merges makes");
    const auto [first, is_new] = pairs.emplace(std::uint32_t{left} << 16 | right, &merge);
    if (!is_new) throw DataError(parts.path, concat(merge.place, ": as ", first->second->place));
    vocabulary.merges.push_back({left, right, result});
    made[result] = true;
  }
  vocabulary.end_of_text = number_of(std::string(kEndOfText), "the end of a document");
  if (made[vocabulary.end_of_text]) {
    throw DataError(parts.path, concat("a merge makes ", kEndOfText));
  }
  made[vocabulary.end_of_text] = true;
  if (const auto stranger = std::find(made.begin(), made.end(), false); stranger != made.end()) {
    throw DataError(parts.numbers_path,
                    concat("token ", stranger - made.begin(),
                           " is no byte, no merge makes it, and it is not ", kEndOfText));
  }
  return vocabulary;
}

// ---- files --------------------------------------------------------------------------------------

std::vector<TextMerge> read_merges(const NamedText& file) {
  const std::string& path = file.path;
  std::string_view rest = file.text;
  std::vector<TextMerge> merges;
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const Place place{"line", number};
    if (number == 1) {
      if (!line.starts_with("#version"))
        throw DataError(path, "line 1: expected \"#version: 0.2\"");
    } else {
      merges.push_back(parse_merge(path, place, line));
    }
  }
  if (file.text.empty()) throw DataError(path, "is empty");
  return merges;
}

Json parse_json(const NamedText& file) {
  try {
    return Json::parse(file.text);
  } catch (const Json::exception& error) {
    throw DataError(file.path, error.what());
  }
}

Numbers read_numbers(const std::string& path, const Json& json) {
  if (!json.is_object()) throw DataError(path, "expected an object of tokens and their numbers");
  Numbers numbers;
  for (const auto& [text, number] : json.items()) {
    std::optional<std::string> bytes = text == kEndOfText ? text : from_written(text);
    if (!bytes || bytes->empty()) {
      throw DataError(path, concat(quoted(text), " is not a token of a byte-level BPE"));
    }
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() >= std::uint64_t{kMostTokens}) {
      throw DataError(path,
                      concat("token ", quoted(text), ": expected a number below ", kMostTokens));
    }
    numbers.emplace(std::move(*bytes), number.get<std::int64_t>());
  }
  return numbers;
}

// What Hugging Face's file may say, and does say for GPT-2; anything else is another tokenizer.
void check_is_like_gpt2(const std::string& path, const Json& json) {
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) throw DataError(path, concat("is not a tokenizer like GPT-2's: expected ", what));
  };
  const auto is = [](const Json& object, const char* key, const Json& value) {
    return object.is_object() && object.contains(key) && object[key] == value;
  };
  const auto absent = [](const Json& object, const char* key) {
    return !object.contains(key) || object[key].is_null() || object[key] == false ||
           object[key] == "";
  };
  expect(json.is_object() && json.contains("model") && is(json["model"], "type", "BPE"),
         "model.type BPE");
  const Json& model = json["model"];
  expect(absent(json, "normalizer"), "no normalizer");
  expect(json.contains("pre_tokenizer") && is(json["pre_tokenizer"], "type", "ByteLevel") &&
             is(json["pre_tokenizer"], "add_prefix_space", false) &&
             (!json["pre_tokenizer"].contains("use_regex") ||
              is(json["pre_tokenizer"], "use_regex", true)),
         "a pre_tokenizer ByteLevel without prefix space");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                          "byte_fallback", "ignore_merges"}) {
    expect(absent(model, key), concat("no model.", key).c_str());
  }
  expect(model.contains("merges") && model["merges"].is_array(), "a list model.merges");
  expect(model.contains("vocab") && model["vocab"].is_object(), "an object model.vocab");
}

Parts read_tokenizer_json(const NamedText& file) {
  const std::string& path = file.path;
  const Json json = parse_json(file);
  check_is_like_gpt2(path, json);
  const Json& model = json["model"];
  Parts parts{.path = path,
              .merges = {},
              .numbers_path = path,
              .numbers = read_numbers(path, model["vocab"])};
  std::int64_t index = 0;
  for (const Json& merge : model["merges"]) {
    const Place place{"merge", index++};
    if (merge.is_string()) {
      parts.merges.push_back(parse_merge(path, place, merge.get_ref<const std::string&>()));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      parts.merges.push_back(parse_merge(path, place, merge[0].get_ref<const std::string&>(),
                                         merge[1].get_ref<const std::string&>()));
    } else {
      throw DataError(path, concat(place, ": expected two tokens"));
    }
  }
  if (!json.contains("added_tokens") || !json["added_tokens"].is_array()) return parts;
  for (const Json& added : json["added_tokens"]) {
    if (!added.is_object() || !added.contains("content") || !added.contains("id") ||
        added["content"] != kEndOfText || !added["id"].is_number_unsigned()) {
      throw DataError(path, concat("added_tokens: expected ", kEndOfText, " alone"));
    }
    parts.numbers.emplace(kEndOfText, added["id"].get<std::int64_t>());
  }
  return parts;
}

NamedText read_text(const std::string& path) {
  return {path, read_small_file(path)};
}

}  // namespace

const std::array<unsigned char, 256>& gpt2_byte_order() {
  return alphabet().order;
}

Vocabulary parse_merges(const NamedText& merges, const std::optional<NamedText>& numbers) {
  Parts parts{.path = merges.path,
              .merges = read_merges(merges),
              .numbers_path = numbers ? numbers->path : merges.path,
              .numbers = {}};
  parts.numbers = numbers ? read_numbers(numbers->path, parse_json(*numbers))
                          : gpt2_numbers(merges.path, parts.merges);
  return assemble(parts);
}

Vocabulary parse_tokenizer_json(const NamedText& file) {
  return assemble(read_tokenizer_json(file));
}

Vocabulary load_vocabulary(const std::string& directory) {
  const auto in_directory = [&](const char* name) { return directory + "/" + name; };
  for (const auto& [merges, numbers] :
       {std::pair{"vocab.bpe", "encoder.json"}, std::pair{"merges.txt", "vocab.json"}}) {
    if (!exists(in_directory(merges))) continue;
    std::optional<NamedText> given;
    if (exists(in_directory(numbers))) given = read_text(in_directory(numbers));
    return parse_merges(read_text(in_directory(merges)), given);
  }
  if (const std::string path = in_directory("tokenizer.json"); exists(path)) {
    return parse_tokenizer_json(read_text(path));
  }
  throw DataError(
      directory,
      "has no vocab.bpe, merges.txt or tokenizer.json; scripts/fetch_vocab.sh fetches GPT-2's");
}

Vocabulary make_vocabulary(const std::vector<Merge>& merges) {
  Vocabulary vocabulary;
  for (const unsigned char byte : alphabet().order) {
    vocabulary.byte_tokens[byte] = static_cast<Token>(vocabulary.tokens.size());
    vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  }
  for (const Merge& merge : merges) {
    GPT2_CHECK(merge.result == vocabulary.tokens.size() && merge.left < merge.result &&
                   merge.right < merge.result,
               "merge ", merge.left, " ", merge.right, " makes ", merge.result);
    vocabulary.tokens.push_back(vocabulary.tokens[merge.left] + vocabulary.tokens[merge.right]);
  }
  vocabulary.merges = merges;
  vocabulary.end_of_text = static_cast<Token>(vocabulary.tokens.size());
  vocabulary.tokens.emplace_back(kEndOfText);
  return vocabulary;
}

void save_vocabulary(const Vocabulary& vocabulary, const std::string& directory) {
  std::string merges = "#version: 0.2\n";
  for (const Merge& merge : vocabulary.merges) {
    merges += concat(to_written(vocabulary.tokens[merge.left]), ' ',
                     to_written(vocabulary.tokens[merge.right]), '\n');
  }
  std::string text = "{";
  for (std::size_t token = 0; token < vocabulary.tokens.size(); ++token) {
    const std::string& bytes = vocabulary.tokens[token];
    const Json written = token == vocabulary.end_of_text ? bytes : to_written(bytes);
    text += concat(token == 0 ? "" : ", ", written.dump(-1, ' ', true), ": ", token);
  }
  make_directories(directory);
  write_small_file(directory + "/encoder.json", text + "}");
  write_small_file(directory + "/vocab.bpe", merges);
}

}  // namespace gpt2train
