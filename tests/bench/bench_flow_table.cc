// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// ns per flow-table operation. One iteration is one key; the time includes making that key from a
// random number, as a parser makes it from a frame, and, on a hit, reading the flow's value.
// Argument 1 is the number of flows (the table is full: the worst case), argument 2 the batch.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>

#include "flowtable/flow_table.h"

namespace {

using namespace vsnoop;

struct Flow {
  u64 word[10];
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

/// Flow number `n` of a guest that serves many peers. Numbers up to 2^32 give different keys.
FlowKey key_of(u32 n) {
  const u8 guest[4] = {10, 0, 0, 2};
  return FlowKey::v4(guest, &n, 80, static_cast<u16>(n), 1);
}

/// xorshift: the next flow to meet, in no order that a cache could guess.
u32 next_random(u32& state) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

u32 below(u32 random, u32 n) { return static_cast<u32>(static_cast<u64>(random) * n >> 32); }

/// A table that holds the flows 0 .. flows-1.
struct Filled {
  explicit Filled(u32 flows, u32 capacity) {
    const size_t bytes = FlowTable<Flow>::memory_needed(capacity);
    memory.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (!table.init(memory.get(), bytes, capacity, {0x0706050403020100, 0x0f0e0d0c0b0a0908}))
      std::abort();
    for (u32 n = 0; n < flows; ++n)
      if (table.insert(key_of(n)).is_null()) std::abort();
  }

  std::unique_ptr<void, Free> memory;
  FlowTable<Flow> table;
};

enum class Looking { for_flows, in_vain };

void find_single(benchmark::State& state, Looking looking) {
  const u32 flows = static_cast<u32>(state.range(0));
  const Filled filled(flows, flows);
  const u32 first = looking == Looking::for_flows ? 0 : flows;
  u32 random = 1;
  u64 sum = 0;
  for (auto _ : state) {
    const Ref ref = filled.table.find(key_of(first + below(next_random(random), flows)));
    if (const Flow* flow = filled.table.get(ref)) sum += flow->word[0] + flow->word[9];
  }
  benchmark::DoNotOptimize(sum);
}

void find_batched(benchmark::State& state, Looking looking) {
  const u32 flows = static_cast<u32>(state.range(0));
  const u32 batch = static_cast<u32>(state.range(1));
  const Filled filled(flows, flows);
  const u32 first = looking == Looking::for_flows ? 0 : flows;
  FlowKey keys[FlowTable<Flow>::max_batch];
  Ref refs[FlowTable<Flow>::max_batch];
  u32 random = 1;
  u64 sum = 0;
  while (state.KeepRunningBatch(batch)) {
    for (u32 i = 0; i < batch; ++i) keys[i] = key_of(first + below(next_random(random), flows));
    filled.table.find_batch(keys, batch, refs);
    for (u32 i = 0; i < batch; ++i)
      if (const Flow* flow = filled.table.get(refs[i])) sum += flow->word[0] + flow->word[9];
  }
  benchmark::DoNotOptimize(sum);
}

void find_hit(benchmark::State& state) { find_single(state, Looking::for_flows); }
void find_miss(benchmark::State& state) { find_single(state, Looking::in_vain); }
void find_hit_batch(benchmark::State& state) { find_batched(state, Looking::for_flows); }
void find_miss_batch(benchmark::State& state) { find_batched(state, Looking::in_vain); }

/// One connection comes and the oldest goes, in an otherwise full table.
void insert_erase(benchmark::State& state) {
  const u32 flows = static_cast<u32>(state.range(0));
  Filled filled(flows - 1, flows);
  u32 oldest = 0;
  u32 newest = flows - 1;
  for (auto _ : state) {
    filled.table.insert(key_of(newest++));
    filled.table.erase(filled.table.find(key_of(oldest++)));
  }
  if (filled.table.size() != flows - 1) state.SkipWithError("an insert or erase failed");
}

/// The clock hand passes over one slot and erases nothing.
void expire(benchmark::State& state) {
  const u32 flows = static_cast<u32>(state.range(0));
  Filled filled(flows, flows);
  constexpr u32 slots = 16;
  while (state.KeepRunningBatch(slots))
    benchmark::DoNotOptimize(filled.table.expire(
        slots, [](Ref, const FlowKey&, const Flow& flow) { return flow.word[0] != 0; }));
}

constexpr int64_t few = 1 << 10, some = 1 << 16, many = 1 << 20;

BENCHMARK(find_hit)->Name("FlowTable/find_hit")->Arg(few)->Arg(some)->Arg(many);
BENCHMARK(find_miss)->Name("FlowTable/find_miss")->Arg(few)->Arg(some)->Arg(many);
BENCHMARK(find_hit_batch)
    ->Name("FlowTable/find_hit_batch")
    ->ArgsProduct({{few, some, many}, {16, 32}});
BENCHMARK(find_miss_batch)
    ->Name("FlowTable/find_miss_batch")
    ->ArgsProduct({{few, some, many}, {16, 32}});
BENCHMARK(insert_erase)->Name("FlowTable/insert_erase")->Arg(few)->Arg(some)->Arg(many);
BENCHMARK(expire)->Name("FlowTable/expire")->Arg(few)->Arg(some)->Arg(many);

}  // namespace
