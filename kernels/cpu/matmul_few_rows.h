// Products of a few rows with the weights of a linear layer, as when a text is written token by
// token: their time is that of reading the weights, which oneDNN would first copy into packed
// tiles.
#pragma once

#include "kernels/matmul.h"

namespace gpt2train::cpu {

// Whether matmul_few_rows is for this product: a b^T of up to 16 rows, not added to `out`.
bool has_few_rows(const Matmul& args);

// Needs no scratch. A row's result is the same bits whatever rows are beside it.
void matmul_few_rows(const Matmul& args);

}  // namespace gpt2train::cpu
