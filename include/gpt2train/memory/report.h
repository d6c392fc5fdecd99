// The ledger as people read it.
#pragma once

#include <string>

#include "gpt2train/memory/allocator.h"

namespace gpt2train {

// Categories with their bytes at the instant of the peak and now, what is reserved and the share of
// it lost to fragmentation, peaks by phase, and the largest tensors at the peak. Several lines,
// without a final newline.
std::string memory_table(const MemoryStats& stats);

// And what only a run can tell: how often memory was taken and freed, and what is free in one
// piece.
std::string memory_summary(const MemoryStats& stats, const MemoryCounts& counts,
                           std::size_t largest_free_block_bytes);

// Most memory that this process ever had resident, in bytes, as the kernel counts it: the ledger's
// reserved peak, the program with its libraries, and what those take for themselves.
std::size_t peak_resident_bytes();
// It begins anew with what is resident now (proc(5), clear_refs).
void forget_peak_resident_bytes();

}  // namespace gpt2train
