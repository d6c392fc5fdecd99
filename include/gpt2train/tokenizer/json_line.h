// Texts in JSON lines: as lenient with characters as tiktoken is, strict with everything else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gpt2train {

// The line with U+FFFD in place of what is no character and a parser of JSON would refuse: bytes
// that are not well-formed UTF-8, and escapes of one half of a surrogate pair ("\ud83d").
std::string repair_json(std::string_view line);

// The string that is `field` of the object in `line`. Throws DataError with `path` and line number.
std::string text_field(std::string_view line, const std::string& field, const std::string& path,
                       std::int64_t number);

}  // namespace gpt2train
