#include "gpt2train/core/error.h"

#include <utility>

#include "gpt2train/core/units.h"

namespace gpt2train {
namespace {

std::string describe(const OutOfMemoryError::Facts& facts) {
  std::string text = concat("out of memory: ", facts.tensor);
  if (!facts.shape.empty()) text += concat(' ', facts.shape, ' ', facts.dtype);
  text += concat(" needs ", human_bytes(facts.requested_bytes), " in ", facts.scope, "; in use ",
                 human_bytes(facts.in_use_bytes), ", cached ", human_bytes(facts.cached_bytes),
                 ", largest free block ", human_bytes(facts.largest_free_block_bytes));
  // No budget at all is written as the largest size_t: then the device itself refused.
  const bool limited = facts.budget_bytes != static_cast<std::size_t>(-1);
  return text +
         (limited ? concat(", budget ", human_bytes(facts.budget_bytes)) : ", no budget set");
}

}  // namespace

OutOfMemoryError::OutOfMemoryError(Facts facts, const std::string& advice)
    : Error(advice.empty() ? describe(facts) : concat(describe(facts), "; ", advice)),
      facts_(std::move(facts)) {}

void fail_check(const char* condition, const char* file, int line, const std::string& message) {
  throw InternalError(concat(file, ":", line, ": ", message, " [", condition, "]"));
}

}  // namespace gpt2train
