// What the lanes of a warp do together: the last one to arrive does the work of all. Compiled
// without sanitizers.
#include "gpt2train/core/convert.h"
#include "tests/emulator/block.h"

namespace gpt2train::emulator {
namespace {

constexpr std::uint32_t kWholeWarp = ~0u;

enum Kind : int {
  kBarrier,
  kShuffleXor,
  kShuffleFrom,
  kBallot,
  kGather,
  kMultiplyBf16,
  kMultiplyFp16
};

Collective& join(Warp& warp, std::uint32_t mask, int kind, Site site) {
  for (Collective& pending : warp.pending) {
    if (pending.arrived == 0 || (pending.mask & mask) == 0) continue;
    if (pending.mask != mask) fail("lanes of a warp disagree on the mask", site);
    if (pending.kind != kind || !same_place(pending.site, site)) {
      fail("lanes of a warp are in different collectives", site);
    }
    return pending;
  }
  for (Collective& pending : warp.pending) {
    if (pending.arrived != 0) continue;
    pending = {.mask = mask, .kind = kind, .site = site};
    return pending;
  }
  fail("more collectives of one warp at once than expected", site);
}

// `work` sees the arguments of all lanes; after it, all may run.
template <class Work>
void collect(std::uint32_t mask, int kind, void* argument, Site site, const Work& work) {
  Thread& thread = current();
  const int lane = thread.lane();
  Warp& warp = running->warps[thread.warp()];
  if ((mask >> lane & 1) == 0) fail("a lane is not in its own mask", site);
  if ((mask & ~warp.live) != 0) fail("the mask names lanes that returned or do not exist", site);
  Collective& collective = join(warp, mask, kind, site);
  collective.argument[lane] = argument;
  collective.arrived |= 1u << lane;
  if (collective.arrived != mask) return wait_in(State::kInCollective, site);
  work(collective);
  collective.arrived = 0;
  for (int i = 0; i < 32; ++i) {
    const int other = options().order == Order::kReverse ? 31 - i : i;
    if (other == lane || (mask >> other & 1) == 0) continue;
    make_ready(running->threads[thread.warp() * 32 + other]);
  }
  maybe_yield();
}

// ---- shuffles -----------------------------------------------------------------------------------

struct Exchange {
  std::uint64_t given, received;
  int operand;  // lane mask or lane
};

Exchange& exchange_of(const Collective& collective, int lane) {
  return *static_cast<Exchange*>(collective.argument[lane]);
}

std::uint64_t exchange(Kind kind, std::uint64_t bits, int operand, Site site) {
  Exchange mine{bits, 0, operand};
  collect(kWholeWarp, kind, &mine, site, [&](const Collective& all) {
    for (int lane = 0; lane < 32; ++lane) {
      Exchange& to = exchange_of(all, lane);
      const int from = kind == kShuffleXor ? lane ^ to.operand : to.operand;
      if (from < 0 || from > 31) fail("a shuffle from a lane outside of the warp", site);
      to.received = exchange_of(all, from).given;
    }
  });
  return mine.received;
}

// ---- matrices -----------------------------------------------------------------------------------

struct Fragments {
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

float half_of(std::uint32_t pair, int which, bool is_bf16) {
  const auto bits = static_cast<std::uint16_t>(pair >> (16 * which));
  return is_bf16 ? to_float(bf16{bits}) : to_float(fp16{bits});
}

// Lane 4 g + t holds: of a, rows g and g + 8, columns 2t, 2t + 1 and those 8 further; of b, the
// same k in rows and column g; of d, rows g and g + 8, columns 2t and 2t + 1.
void multiply(const Collective& all, bool is_bf16) {
  float a[16][16], b[16][8];
  const auto of = [&](int lane) { return *static_cast<const Fragments*>(all.argument[lane]); };
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Fragments mine = of(lane);
    for (int i = 0; i < 8; ++i) {
      a[g + (i / 2 % 2) * 8][2 * t + i % 2 + i / 4 * 8] = half_of(mine.a[i / 2], i % 2, is_bf16);
    }
    for (int i = 0; i < 4; ++i) {
      b[2 * t + i % 2 + i / 2 * 8][g] = half_of(mine.b[i / 2], i % 2, is_bf16);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Fragments mine = of(lane);
    for (int i = 0; i < 4; ++i) {
      const int row = g + i / 2 * 8, column = 2 * t + i % 2;
      float sum = 0.0f;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      mine.d[i] += sum;
    }
  }
}

}  // namespace

void warp_barrier(std::uint32_t mask, Site site) {
  Warp& warp = running->warps[current().warp()];
  char* const tag = &warp.barrier_tag[warp.barrier_count % 2];
  release(tag);
  collect(mask, kBarrier, nullptr, site, [&](const Collective&) { ++warp.barrier_count; });
  acquire(tag);
}

std::uint64_t shuffle_xor(std::uint64_t bits, int lane_mask, Site site) {
  return exchange(kShuffleXor, bits, lane_mask, site);
}

std::uint64_t shuffle_from(std::uint64_t bits, int lane, Site site) {
  return exchange(kShuffleFrom, bits, lane, site);
}

std::uint32_t ballot(bool vote, Site site) {
  Exchange mine{vote ? 1u : 0u, 0, 0};
  collect(kWholeWarp, kBallot, &mine, site, [&](const Collective& all) {
    std::uint64_t votes = 0;
    for (int lane = 0; lane < 32; ++lane) votes |= exchange_of(all, lane).given << lane;
    for (int lane = 0; lane < 32; ++lane) exchange_of(all, lane).received = votes;
  });
  return static_cast<std::uint32_t>(mine.received);
}

void gather_rows(const void* row, const void* (&rows)[32], Site site) {
  struct Rows {
    const void* mine;
    const void** all;
  } argument{row, rows};
  collect(kWholeWarp, kGather, &argument, site, [](const Collective& all) {
    for (void* to : all.argument) {
      for (int lane = 0; lane < 32; ++lane) {
        static_cast<Rows*>(to)->all[lane] = static_cast<Rows*>(all.argument[lane])->mine;
      }
    }
  });
}

void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  bool is_bf16, Site site) {
  Fragments mine{d, a, b};
  collect(kWholeWarp, is_bf16 ? kMultiplyBf16 : kMultiplyFp16, &mine, site,
          [&](const Collective& all) { multiply(all, is_bf16); });
}

}  // namespace gpt2train::emulator
