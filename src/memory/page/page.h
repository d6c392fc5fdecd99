// What the pages of HTML that the program writes have in common: their look, numbers as people read
// them, and that a page is one file which needs no network.
#pragma once

#include <string>
#include <string_view>

namespace gpt2train {

// From the doctype into a style element, with the rules that all pages have.
std::string page_begin(std::string_view title);

// Constants and functions for the script element of a page.
std::string_view page_script();

// `text` where HTML has text, or the value of an attribute in quotes.
std::string html_text(std::string_view text);

// A string of JSON that may also stand in a script of a page.
std::string json_string(std::string_view text);

}  // namespace gpt2train
