#include "gpt2train/tokenizer/json_line.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "gpt2train/core/error.h"
#include "gpt2train/tokenizer/unicode.h"

namespace gpt2train {
namespace {

using Json = nlohmann::json;

// The 16 bits that "\uXXXX" at `at` stands for, or 0 where there is no such escape.
unsigned escaped_unit(std::string_view text, std::size_t at) {
  if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return 0;
  unsigned unit = 0;
  const char* const end = text.data() + at + 6;
  const auto [stop, error] = std::from_chars(text.data() + at + 2, end, unit, 16);
  return error == std::errc{} && stop == end ? unit : 0;
}

constexpr bool is_high(unsigned unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}

constexpr bool is_low(unsigned unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

}  // namespace

std::string repair_json(std::string_view line) {
  std::string text =
      valid_utf8_prefix(line) == line.size() ? std::string(line) : replace_invalid_utf8(line);
  for (std::size_t at = text.find('\\'); at < text.size(); at = text.find('\\', at)) {
    const unsigned unit = escaped_unit(text, at);
    if (is_high(unit) && is_low(escaped_unit(text, at + 6))) {
      at += 12;
    } else if (is_high(unit) || is_low(unit)) {
      text.replace(at, 6, "\\ufffd");
      at += 6;
    } else {
      at += 2;  // past what is escaped, which may be a backslash
    }
  }
  return text;
}

std::string text_field(std::string_view line, const std::string& field, const std::string& path,
                       std::int64_t number) {
  const auto fail = [&](const std::string& problem) {
    throw DataError(path, concat("line ", number, ": ", problem));
  };
  Json json;
  try {
    json = Json::parse(repair_json(line));
  } catch (const Json::exception& error) {
    fail(error.what());
  }
  if (!json.is_object() || !json.contains(field))
    fail(concat("expected an object with \"", field, '"'));
  Json& text = json[field];
  if (!text.is_string())
    fail(concat('"', field, "\" is a ", text.type_name(), ", expected a string"));
  return std::move(text.get_ref<std::string&>());
}

}  // namespace gpt2train
