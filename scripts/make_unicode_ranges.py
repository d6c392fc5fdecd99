#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_ranges.h: letters, numbers and white space of Unicode 16.0.0.

The version is that of tiktoken's regular expressions, so that both split a text at the same places:
tiktoken 0.14.0, asked about every code point by tests/golden/compare_tiktoken.py, has these ranges.
Needs `pip install unicodedata2==16.0.0`.
Usage: scripts/make_unicode_ranges.py > src/tokenizer/unicode_ranges.h
"""
import sys

import unicodedata2

VERSION = "16.0.0"
# White_Space of PropList.txt; unchanged since Unicode 6.3, and not what category() tells.
WHITE_SPACE = [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
               0x2028, 0x2029, 0x202F, 0x205F, 0x3000]


def ranges_of(code_points):
    ranges = []
    for code in code_points:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def table(name, comment, code_points):
    code_points = list(code_points)
    ranges = ranges_of(code_points)
    print(f"\n// {comment}: {len(code_points):,} characters.")
    print(f"inline constexpr CharacterRange {name}[] = {{")
    line = "   "
    for first, last in ranges:
        item = f" {{0x{first:X}, 0x{last:X}}},"
        if len(line + item) > 100:
            print(line)
            line = "   "
        line += item
    print(line)
    print("};")


def of_category(initial):
    return (c for c in range(0x110000) if unicodedata2.category(chr(c)).startswith(initial))


if unicodedata2.unidata_version != VERSION:
    sys.exit(f"unicodedata2 has Unicode {unicodedata2.unidata_version}, expected {VERSION}")
print(f"""// Ranges of Unicode {VERSION}, ends included. Made by scripts/make_unicode_ranges.py; not to be edited.
#pragma once

namespace gpt2train {{

struct CharacterRange {{
  char32_t first;
  char32_t last;
}};

// clang-format off""")
table("kLetterRanges", "\\p{L}", of_category("L"))
table("kNumberRanges", "\\p{N}", of_category("N"))
table("kSpaceRanges", "White_Space", WHITE_SPACE)
print("""// clang-format on

}  // namespace gpt2train""")
