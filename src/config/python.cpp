#include "src/config/python.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <variant>

#include "gpt2train/core/error.h"
#include "src/config/text.h"

namespace gpt2train {
namespace {

// Settings of train.py that have no counterpart here.
constexpr std::array<std::string_view, 5> kOnlyNanogpt = {"wandb_log", "wandb_project",
                                                          "wandb_run_name", "compile", "backend"};

using Value = std::variant<std::int64_t, double, bool, std::string>;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}
bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

std::string text_of(const Value& value) {
  struct Writer {
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return gpt2train::text_of(number); }
    std::string operator()(bool truth) const { return truth ? "true" : "false"; }
    std::string operator()(const std::string& text) const { return text; }
  };
  return std::visit(Writer{}, value);
}

class PythonReader {
 public:
  PythonReader(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  PythonSettings read() {
    while (at_ < text_.size()) {
      if (!skip_blank_line()) read_statement();
    }
    return std::move(found_);
  }

 private:
  // ---- statements ----

  bool skip_blank_line() {
    skip_spaces();
    if (peek() == '#') skip_line();
    if (at_ < text_.size() && peek() != '\n') return false;
    ++at_;
    return true;
  }

  void read_statement() {
    if (at_ != line_begin()) fail("expected an assignment at the beginning of the line");
    if (peek() == '"' || peek() == '\'') {  // documentation
      read_string();
      return end_statement();
    }
    const std::size_t begin = at_;
    const std::string name = read_name("expected `name = value`");
    if (name == "import" || name == "from") {
      ignore(name + " ...");
      return skip_line();
    }
    skip_spaces();
    if (peek() != '=' || peek(1) == '=') fail("expected `name = value`");
    ++at_;
    if (std::find(kOnlyNanogpt.begin(), kOnlyNanogpt.end(), name) != kOnlyNanogpt.end()) {
      ignore(name);
      return skip_line();
    }
    const Value value = read_sum();
    end_statement();
    set(name, value, begin);
  }

  void end_statement() {
    skip_spaces();
    if (peek() == '#') skip_line();
    if (at_ < text_.size() && peek() != '\n') fail("expected the end of the line");
    ++at_;
  }

  void set(const std::string& name, const Value& value, std::size_t begin) {
    names_[name] = value;
    const std::string where = concat(place(begin), ": ", name);
    if (name != "dataset") {
      found_.settings.push_back({.flag = where, .key = name, .value = text_of(value)});
      return;
    }
    for (const char* split : {"train", "val"}) {
      found_.settings.push_back({.flag = where,
                                 .key = concat("data.", split),
                                 .value = concat("data/", text_of(value), '/', split, ".bin")});
    }
  }

  void ignore(const std::string& what) {
    found_.ignored.push_back(concat(file_, ':', line_number(at_), ": ", what));
  }

  // ---- values ----

  Value read_sum() {
    Value value = read_product();
    for (;;) {
      skip_spaces();
      const char sign = peek();
      if (sign != '+' && sign != '-') return value;
      const std::size_t begin = at_++;
      const Value right = read_product();
      value = combine(value, right, text_.substr(begin, 1), begin);
    }
  }

  Value read_product() {
    Value value = read_factor();
    for (;;) {
      skip_spaces();
      const char sign = peek();
      if ((sign != '*' && sign != '/' && sign != '%') || (sign == '*' && peek(1) == '*')) {
        return value;
      }
      const std::size_t begin = at_++;
      if (sign == '/' && peek() == '/') ++at_;
      const std::string_view operation = text_.substr(begin, at_ - begin);
      const Value right = read_factor();
      value = combine(value, right, operation, begin);
    }
  }

  // A sign binds less than a power to its right: -2 ** 2 is -4.
  Value read_factor() {
    const Nested nested(*this);
    skip_spaces();
    const std::size_t begin = at_;
    if (peek() == '-' || peek() == '+') {
      const bool minus = text_[at_++] == '-';
      const Value value = read_factor();
      return minus ? combine(Value(std::int64_t{0}), value, "-", begin) : value;
    }
    const Value base = read_atom();
    skip_spaces();
    if (peek() != '*' || peek(1) != '*') return base;
    const std::size_t power = at_;
    at_ += 2;
    return combine(base, read_factor(), "**", power);
  }

  Value read_atom() {
    skip_spaces();
    const std::size_t begin = at_;
    const char c = peek();
    if (c == '(') {
      ++at_;
      const Value value = read_sum();
      skip_spaces();
      if (peek() != ')') fail("expected `)`");
      ++at_;
      return value;
    }
    if (c == '"' || c == '\'') return read_string();
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return read_number();
    const std::string name = read_name("expected a number, a string, True, False or a name");
    if (name == "True") return true;
    if (name == "False") return false;
    const auto known = names_.find(name);
    if (known == names_.end()) fail(begin, concat("nothing is known of ", name, " yet"));
    skip_spaces();
    if (peek() == '(' || peek() == '.' || peek() == '[') {
      fail(begin, "expected a simple value");
    }
    return known->second;
  }

  Value read_number() {
    const std::size_t begin = at_;
    std::string digits;
    bool whole = true;
    for (;; ++at_) {
      const char c = peek();
      const bool exponent = c == 'e' || c == 'E';
      const bool sign = (c == '+' || c == '-') && !digits.empty() &&
                        (digits.back() == 'e' || digits.back() == 'E');
      if (c == '_' && is_digit(peek(1))) continue;
      if (!is_digit(c) && c != '.' && !exponent && !sign) break;
      whole = whole && is_digit(c);
      digits += c;
    }
    const bool octal = whole && digits.size() > 1 && digits[0] == '0';
    if (begins_name(peek()) || octal) fail(begin, "expected a decimal number");
    const char* const end = digits.data() + digits.size();
    std::int64_t integer = 0;
    double real = 0.0;
    const std::from_chars_result result = whole ? std::from_chars(digits.data(), end, integer)
                                                : std::from_chars(digits.data(), end, real);
    if (result.ec != std::errc() || result.ptr != end) fail(begin, "expected a number");
    return whole ? Value(integer) : Value(real);
  }

  Value read_string() {
    const std::size_t begin = at_;
    const char quote = peek();
    const bool long_one = peek(1) == quote && peek(2) == quote;
    at_ += long_one ? 3 : 1;
    std::string value;
    for (;; ++at_) {
      if (at_ >= text_.size() || (!long_one && peek() == '\n'))
        fail(begin, "this string has no end");
      if (peek() == quote && (!long_one || (peek(1) == quote && peek(2) == quote))) break;
      if (peek() == '\\') {
        const std::size_t escape = std::string_view("\\'\"nt").find(peek(1));
        if (escape == std::string_view::npos) fail("expected \\\\, \\', \\\", \\n or \\t");
        value += "\\'\"\n\t"[escape];
        ++at_;
      } else {
        value += peek();
      }
    }
    at_ += long_one ? 3 : 1;
    return value;
  }

  std::string read_name(const char* problem) {
    if (!begins_name(peek())) fail(problem);
    std::string name;
    while (begins_name(peek()) || is_digit(peek())) name += text_[at_++];
    return name;
  }

  // ---- arithmetic ----

  Value combine(const Value& left, const Value& right, std::string_view operation,
                std::size_t begin) const {
    if (const auto* a = std::get_if<std::string>(&left), *b = std::get_if<std::string>(&right);
        a != nullptr && b != nullptr && operation == "+") {
      return *a + *b;
    }
    const std::optional<double> a = number_of(left), b = number_of(right);
    if (!a || !b) fail(begin, concat("`", operation, "` needs two numbers"));
    const bool divides = operation[0] == '/' || operation == "%";
    if (divides && *b == 0.0) fail(begin, "division by zero");
    const auto *i = std::get_if<std::int64_t>(&left), *j = std::get_if<std::int64_t>(&right);
    if (i != nullptr && j != nullptr && operation != "/") {
      const bool is_fraction = operation == "**" && *j < 0;
      if (!is_fraction) return integer_of(*i, *j, operation, begin);
    }
    return real_of(*a, *b, operation, begin);
  }

  static std::optional<double> number_of(const Value& value) {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      return static_cast<double>(*integer);
    }
    const auto* real = std::get_if<double>(&value);
    return real == nullptr ? std::nullopt : std::optional(*real);
  }

  Value integer_of(std::int64_t a, std::int64_t b, std::string_view operation,
                   std::size_t begin) const {
    std::int64_t result = 0;
    bool overflows = false;
    if (operation == "+") {
      overflows = __builtin_add_overflow(a, b, &result);
    } else if (operation == "-") {
      overflows = __builtin_sub_overflow(a, b, &result);
    } else if (operation == "*") {
      overflows = __builtin_mul_overflow(a, b, &result);
    } else if (operation == "**") {
      result = 1;
      for (std::int64_t square = a, rest = b; rest > 0 && !overflows; rest /= 2) {
        if (rest % 2 == 1) overflows = __builtin_mul_overflow(result, square, &result);
        if (rest > 1) overflows |= __builtin_mul_overflow(square, square, &square);
      }
    } else if (b == -1) {  // the one divisor that overflows
      overflows = operation == "//" && __builtin_sub_overflow(std::int64_t{0}, a, &result);
    } else {  // rounded down, as Python does
      const bool below = a % b != 0 && (a < 0) != (b < 0);
      result = operation == "%" ? a % b + (below ? b : 0) : a / b - (below ? 1 : 0);
    }
    if (overflows) fail(begin, "the result is too large");
    return result;
  }

  Value real_of(double a, double b, std::string_view operation, std::size_t begin) const {
    double result = 0.0;
    if (operation == "+") result = a + b;
    if (operation == "-") result = a - b;
    if (operation == "*") result = a * b;
    if (operation == "/") result = a / b;
    if (operation == "//") result = std::floor(a / b);
    if (operation == "%") result = a - b * std::floor(a / b);
    if (operation == "**") result = std::pow(a, b);
    if (!std::isfinite(result)) fail(begin, "the result is not a finite number");
    return result;
  }

  // ---- places ----

  // A limit to what a file of brackets can do to the stack.
  class Nested {
   public:
    explicit Nested(PythonReader& reader) : depth_(reader.depth_) {
      constexpr int kDeepest = 100;
      if (depth_ == kDeepest) reader.fail("nested too deeply");
      ++depth_;
    }
    ~Nested() { --depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    int& depth_;
  };

  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  void skip_spaces() {
    while (is_space(peek())) ++at_;
  }
  void skip_line() { at_ = std::min(text_.find('\n', at_), text_.size()); }
  std::size_t line_begin() const {
    const std::size_t before = at_ == 0 ? std::string_view::npos : text_.rfind('\n', at_ - 1);
    return before == std::string_view::npos ? 0 : before + 1;
  }
  std::int64_t line_number(std::size_t at) const {
    return 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  }
  std::string place(std::size_t at) const {
    const std::size_t before = at == 0 ? std::string_view::npos : text_.rfind('\n', at - 1);
    const std::size_t column = before == std::string_view::npos ? at + 1 : at - before;
    return concat(file_, ':', line_number(at), ':', column);
  }
  [[noreturn]] void fail(const std::string& problem) const { fail(at_, problem); }
  [[noreturn]] void fail(std::size_t at, const std::string& problem) const {
    throw ConfigError(place(std::min(at, text_.size())), problem);
  }

  const std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
  int depth_ = 0;
  std::map<std::string, Value> names_;
  PythonSettings found_;
};

}  // namespace

PythonSettings read_python(const std::string& text, const std::string& file) {
  return PythonReader(text, file).read();
}

}  // namespace gpt2train
