// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <unordered_map>
#include <vector>

#include "flowtable/flow_table.h"
#include "tests/unit/catch.h"

namespace {

using namespace vsnoop;

constexpr HashSeed seed{0x0706050403020100, 0x0f0e0d0c0b0a0908};

/// As large as the tracker's flow is meant to be.
struct Flow {
  u64 word[10];
};
using Table = FlowTable<Flow>;

/// A table with its memory, which the tests may look into.
struct Held {
  explicit Held(u32 capacity, HashSeed with = seed)
      : bytes(Table::memory_needed(capacity)),
        memory(static_cast<u8*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)), &std::free) {
    std::memset(memory.get(), 0xa5, bytes);  // init() must not count on zeroed memory
    REQUIRE(table.init(memory.get(), bytes, capacity, with));
  }

  /// Whether the index is as empty as init() left it: no tombstone, no count left behind.
  bool index_is_clean() const {
    const u8* end = memory.get() + std::max(1u, table.capacity() / 8) * 64;
    return std::all_of(static_cast<const u8*>(memory.get()), end, [](u8 b) { return b == 0; });
  }

  size_t bytes;
  std::unique_ptr<u8, decltype(&std::free)> memory;
  Table table;
};

/// A key of its own for each number.
FlowKey numbered(u32 n) {
  const u8 guest[4] = {10, 0, 0, 2};
  return FlowKey::v4(guest, &n, 80, static_cast<u16>(n ^ n >> 16), 7);
}

/// `count` keys which, for who knows the seed, belong in one of `buckets` neighbouring buckets
/// (starting with `first`) of a table of `capacity`.
std::vector<FlowKey> aimed(u32 count, u32 capacity, u32 first, u32 buckets) {
  std::vector<FlowKey> keys;
  const u64 all = std::max(1u, capacity / 8);
  for (u32 n = 0; keys.size() < count; ++n) {
    const u64 home = (digest(numbered(n), seed) >> 32) * all >> 32;
    if ((home + all - first) % all < buckets) keys.push_back(numbered(n));
  }
  return keys;
}

/// Pairs of keys (2n, 2n + 1) which in a table of `capacity` differ neither in bucket nor in tag,
/// so that only the comparison of the keys tells them apart. A birthday search finds some.
std::vector<FlowKey> alike(u32 capacity) {
  const u64 tag_mask = 0xffffffff >> (32 - __builtin_clz(capacity));
  std::unordered_map<u64, u32> seen;
  std::vector<FlowKey> keys;
  for (u32 n = 0; n < 200000; ++n) {
    const u64 hash = digest(numbered(n), seed);
    const u64 place = ((hash >> 32) * (capacity / 8) >> 32) << 32 | (hash & tag_mask);
    const auto [twin, is_new] = seen.try_emplace(place, n);
    if (!is_new) keys.insert(keys.end(), {numbered(twin->second), numbered(n)});
  }
  return keys;
}

// The vector of the SipHash paper's appendix: key 00 .. 0f, message 00 .. 0e.
constexpr u64 siphash_2_4_of_the_paper() {
  SipHash<2, 4> sip(seed);
  sip.add(0x0706050403020100);
  sip.add(0x0f0e0d0c0b0a0908);
  return sip.end();
}
static_assert(siphash_2_4_of_the_paper() == 0xa129ca6149be45e5);

// SipHash-1-3 of 0, 15 and 38 bytes 00 01 02 ..., same key, from a second implementation that was
// checked against CPython 3.11's hash().
constexpr u64 siphash_1_3_of_nothing() {
  SipHash<1, 3> sip(seed);
  sip.add(0);
  return sip.end();
}
constexpr u64 siphash_1_3_of_15_bytes() {
  SipHash<1, 3> sip(seed);
  sip.add(0x0706050403020100);
  sip.add(0x0f0e0d0c0b0a0908);
  return sip.end();
}
constexpr FlowKey counting{{0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110,
                            0x1f1e1d1c1b1a1918, 0x252423222120},
                           0};
static_assert(siphash_1_3_of_nothing() == 0xabac0158050fc4dc);
static_assert(siphash_1_3_of_15_bytes() == 0xd320d86d2a519956);
static_assert(digest(counting, seed) == 0xb3f47496ae3a36a1);

static_assert(sizeof(Ref) == 8);
static_assert(Table::memory_needed(1u << 20) / (1u << 20) <= 136);

TEST_CASE("a flow with 80 bytes of value takes at most 136 bytes all told", "[flowtable]") {
  for (u32 capacity : {1024u, 1025u, 1031u, 65535u, 1u << 20, Table::max_capacity})
    CHECK(Table::memory_needed(capacity) <= size_t{136} * capacity);
}

TEST_CASE("a table stays within the memory it asked for, and can be filled", "[flowtable]") {
  for (u32 capacity : {1u, 2u, 7u, 8u, 9u, 15u, 16u, 17u, 23u, 100u, 1000u}) {
    CAPTURE(capacity);
    Held held(capacity);  // of exactly the bytes needed, give or take alignment: ASan watches
    for (u32 n = 0; n < capacity; ++n) REQUIRE_FALSE(held.table.insert(numbered(n)).is_null());
    CHECK(held.table.size() == capacity);
  }
}

TEST_CASE("init refuses what cannot be a table and leaves the table as it was", "[flowtable]") {
  Held held(16);
  const Ref ref = held.table.insert(numbered(1));
  alignas(64) static u8 memory[64 * 64];
  const size_t needed = Table::memory_needed(16);
  REQUIRE(needed + 8 <= sizeof memory);

  CHECK_FALSE(held.table.init(memory, needed - 1, 16, seed));
  CHECK_FALSE(held.table.init(memory + 8, needed, 16, seed));
  CHECK_FALSE(held.table.init(nullptr, needed, 16, seed));
  CHECK_FALSE(held.table.init(memory, sizeof memory, 0, seed));
  CHECK_FALSE(held.table.init(memory, ~size_t{0}, Table::max_capacity + 1, seed));
  CHECK(Table::memory_needed(0) == 0);
  CHECK(Table::memory_needed(Table::max_capacity + 1) == 0);
  CHECK(held.table.find(numbered(1)) == ref);

  CHECK(held.table.init(memory, needed, 16, seed));
  CHECK(held.table.find(numbered(1)).is_null());
}

TEST_CASE("a table without memory is empty and full", "[flowtable]") {
  Table table;
  const FlowKey key = numbered(1);
  Ref ref{0, 1};
  CHECK(table.find(key).is_null());
  table.find_batch(&key, 1, &ref);
  CHECK(ref.is_null());
  CHECK(table.insert(key).is_null());
  CHECK_FALSE(table.erase({0, 1}));
  CHECK(table.ref_at(0).is_null());
  CHECK(table.expire(10, [](Ref, const FlowKey&, Flow&) { return true; }) == 0);
}

TEST_CASE("a key gives back what it was made of", "[flowtable]") {
  const u8 guest[16] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  const u8 peer[16] = {0x20, 1, 0xd, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
  const FlowKey v6 = FlowKey::v6(guest, peer, 443, 65535, 0x7fef);
  CHECK(std::memcmp(v6.local(), guest, 16) == 0);
  CHECK(std::memcmp(v6.remote(), peer, 16) == 0);
  CHECK(v6.local_port() == 443);
  CHECK(v6.remote_port() == 65535);
  CHECK(v6.domain() == 0x7fef);
  CHECK_FALSE(v6.is_v4());

  const u8 mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
  const FlowKey v4 = FlowKey::v4(mapped + 12, guest, 443, 1, 3);
  CHECK(std::memcmp(v4.local(), mapped, 16) == 0);
  CHECK(v4.is_v4());
}

TEST_CASE("every part of the key tells flows apart, and nothing else does", "[flowtable]") {
  const u8 a[16] = {10, 0, 0, 1}, b[16] = {10, 0, 0, 2};
  const std::vector<FlowKey> keys = {
      FlowKey::v4(a, b, 1, 2, 0),    FlowKey::v4(b, a, 1, 2, 0),
      FlowKey::v4(a, b, 2, 1, 0),    FlowKey::v4(a, a, 1, 2, 0),
      FlowKey::v4(a, b, 1, 3, 0),    FlowKey::v4(a, b, 1, 2, 1),
      FlowKey::v6(a, b, 1, 2, 0),    FlowKey::v6(b, a, 1, 2, 0),
      FlowKey::v6(a, b, 1, 2, 1),    FlowKey::v4(a, b, 1, 2, 0, 1),
      FlowKey::v4(a, b, 1, 2, 0, 2), FlowKey::v4(a, b, 1, 2, 0, 1 << 16),
      FlowKey::v6(a, b, 1, 2, 0, 1)};
  Held held(16);
  std::vector<Ref> refs;
  for (const FlowKey& key : keys) {
    CHECK(held.table.find(key).is_null());
    refs.push_back(held.table.insert(key));
  }
  CHECK(held.table.size() == keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    CHECK(held.table.find(keys[i]) == refs[i]);
    for (size_t j = 0; j < keys.size(); ++j)
      CHECK(same_flow(held.table.key(refs[i]), keys[j]) == (i == j));
  }
  // A key taken from a table carries a generation; that is no part of the flow's name.
  const FlowKey stored = held.table.key(refs[0]);
  CHECK(std::memcmp(&stored, &keys[0], sizeof stored) != 0);
  CHECK(held.table.find(stored) == refs[0]);
  CHECK(held.table.hash(stored) == held.table.hash(keys[0]));
}

TEST_CASE("insert starts a new flow with Value{} and finds a known one", "[flowtable]") {
  Held held(1);
  const Ref first = held.table.insert(numbered(1));
  held.table.get(first)->word[9] = 42;
  CHECK(held.table.insert(numbered(1)) == first);
  CHECK(held.table.get(first)->word[9] == 42);
  CHECK(held.table.size() == 1);

  CHECK(held.table.erase(first));
  const Ref second = held.table.insert(numbered(1));
  CHECK(second.slot == first.slot);
  CHECK(held.table.get(second)->word[9] == 0);
}

TEST_CASE("a full table returns null and keeps everything", "[flowtable]") {
  constexpr u32 capacity = 1000;
  Held held(capacity);
  std::vector<Ref> refs;
  for (u32 n = 0; n < capacity; ++n) {
    refs.push_back(held.table.insert(numbered(n)));
    held.table.get(refs[n])->word[0] = n;
  }
  for (u32 n = capacity; n < 2 * capacity; ++n) CHECK(held.table.insert(numbered(n)).is_null());
  for (u32 n = 0; n < capacity; ++n) {
    REQUIRE(held.table.find(numbered(n)) == refs[n]);
    REQUIRE(held.table.get(refs[n])->word[0] == n);
    REQUIRE(held.table.insert(numbered(n)) == refs[n]);
  }
  CHECK(held.table.erase(refs[500]));
  CHECK_FALSE(held.table.insert(numbered(capacity)).is_null());
  CHECK(held.table.insert(numbered(capacity + 1)).is_null());
}

TEST_CASE("a stale reference is never followed, even when its slot is in use again",
          "[flowtable]") {
  Held held(1);  // every flow gets the same slot
  std::vector<Ref> stale;
  for (u32 n = 0; n < 32767; ++n) {
    const Ref ref = held.table.insert(numbered(n));
    REQUIRE(ref.slot == 0);
    REQUIRE(held.table.get(ref) != nullptr);
    REQUIRE(held.table.erase(ref));
    REQUIRE_FALSE(held.table.erase(ref));
    stale.push_back(ref);
  }
  const Ref now = held.table.insert(numbered(99999));
  for (const Ref ref : stale) {
    REQUIRE(held.table.get(ref) == nullptr);
    REQUIRE_FALSE(held.table.erase(ref));
  }
  CHECK(held.table.get(now) != nullptr);
  CHECK(held.table.size() == 1);
}

TEST_CASE("no reference that a caller makes up leads to a free slot or outside", "[flowtable]") {
  Held held(8);
  const Ref ref = held.table.insert(numbered(1));
  held.table.erase(ref);
  for (u32 generation = 0; generation <= 0xffff; ++generation)
    for (u32 slot : {0u, 7u, 8u, Ref::null_slot})
      REQUIRE(held.table.get({slot, static_cast<u16>(generation)}) == nullptr);
  CHECK(held.table.get(Ref{}) == nullptr);
  CHECK(held.table.get(Ref::null()) == nullptr);
  CHECK(held.table.ref_at(8).is_null());
}

TEST_CASE("free slots are used in turn, oldest first", "[flowtable]") {
  Held held(4);
  std::array<u32, 12> slots{};
  for (u32 n = 0; n < slots.size(); ++n) {
    const Ref ref = held.table.insert(numbered(n));
    slots[n] = ref.slot;
    held.table.erase(ref);
  }
  CHECK(slots == std::array<u32, 12>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
}

/// Random inserts, finds and erases of `keys`, step by step the same as std::unordered_map's.
void compare_with_model(u32 capacity, const std::vector<FlowKey>& keys, u32 steps, u32 random) {
  CAPTURE(capacity, keys.size(), random);
  struct Modelled {
    Ref ref;
    u64 value;
  };
  std::unordered_map<u32, Modelled> model;
  std::vector<Ref> stale;
  Held held(capacity);
  std::mt19937 rng(random);

  const auto check_all = [&] {
    REQUIRE(held.table.size() == model.size());
    std::vector<Ref> refs(keys.size());
    held.table.find_batch(keys.data(), static_cast<unsigned>(keys.size()), refs.data());
    for (u32 n = 0; n < keys.size(); ++n) {
      const auto known = model.find(n);
      REQUIRE(refs[n] == (known == model.end() ? Ref::null() : known->second.ref));
      REQUIRE(refs[n] == held.table.find(keys[n]));
      if (known != model.end()) REQUIRE(held.table.get(refs[n])->word[3] == known->second.value);
    }
    u32 seen = 0;
    for (u32 slot = 0; slot < capacity; ++slot) seen += !held.table.ref_at(slot).is_null();
    REQUIRE(seen == model.size());
    for (const Ref ref : stale) REQUIRE(held.table.get(ref) == nullptr);
  };

  for (u32 step = 0; step < steps; ++step) {
    const u32 n = static_cast<u32>(rng() % keys.size());
    const auto known = model.find(n);
    const bool filling = step / 2000 % 2 == 0;  // waves of growth and decline
    if (rng() % 10 < (filling ? 7u : 3u)) {
      const Ref ref = held.table.insert(keys[n]);
      if (known != model.end()) {
        REQUIRE(ref == known->second.ref);
      } else if (!ref.is_null()) {
        held.table.get(ref)->word[3] = step;
        model[n] = {ref, step};
      } else {
        REQUIRE((model.size() == capacity || keys.size() > 16));
      }
    } else {
      const Ref ref = held.table.find(keys[n]);
      REQUIRE(ref == (known == model.end() ? Ref::null() : known->second.ref));
      REQUIRE(held.table.erase(ref) == (known != model.end()));
      if (known != model.end()) {
        stale.push_back(ref);
        model.erase(known);
      }
    }
    if (step % 1000 == 999) check_all();
  }
  for (const auto& [n, flow] : model) REQUIRE(held.table.erase(flow.ref));
  model.clear();
  check_all();
  REQUIRE(held.index_is_clean());
}

TEST_CASE("a table does what std::unordered_map does", "[flowtable]") {
  for (u32 random : {1u, 2u, 3u})
    for (u32 capacity : {1u, 10u, 100u, 1000u, 4099u}) {
      std::vector<FlowKey> keys;
      for (u32 n = 0; n < capacity + capacity / 4 + 1; ++n) keys.push_back(numbered(n));
      compare_with_model(capacity, keys, 20000, random);
    }
}

TEST_CASE("a table does so even when all keys are aimed at a few buckets", "[flowtable]") {
  for (u32 random : {1u, 2u, 3u}) {
    compare_with_model(1024, aimed(60, 1024, 0, 1), 20000, random);
    compare_with_model(1024, aimed(120, 1024, 60, 3), 20000, random);
    compare_with_model(1024, aimed(200, 1024, 125, 5), 20000, random);  // around the end
    compare_with_model(64, aimed(64, 64, 7, 1), 20000, random);
  }
}

TEST_CASE("flows that differ in nothing but their keys are told apart", "[flowtable]") {
  constexpr u32 capacity = 1024;
  const std::vector<FlowKey> keys = alike(capacity);
  REQUIRE(keys.size() >= 20);
  REQUIRE(keys.size() <= capacity);
  for (size_t n = 0; n < keys.size(); n += 2) {
    Held held(capacity);
    const Ref first = held.table.insert(keys[n]);
    std::array<Ref, 2> refs{};
    held.table.find_batch(&keys[n], 2, refs.data());
    CHECK(refs == std::array<Ref, 2>{first, Ref::null()});
    CHECK(held.table.find(keys[n + 1]).is_null());

    const Ref second = held.table.insert(keys[n + 1]);
    CHECK(second != first);
    held.table.find_batch(&keys[n], 2, refs.data());
    CHECK(refs == std::array<Ref, 2>{first, second});
    CHECK(held.table.erase(first));
    CHECK(held.table.find(keys[n]).is_null());
    CHECK(held.table.find(keys[n + 1]) == second);
  }
  compare_with_model(capacity, keys, 20000, 1);
}

TEST_CASE("keys that all collide fill max_probes buckets, then the table is full to them",
          "[flowtable]") {
  constexpr u32 capacity = 4096, reachable = 15 * Table::max_probes;
  Held held(capacity);
  const std::vector<FlowKey> keys = aimed(reachable + 10, capacity, 505, 1);
  std::vector<Ref> refs;
  for (const FlowKey& key : keys) refs.push_back(held.table.insert(key));
  for (u32 n = 0; n < keys.size(); ++n) {
    REQUIRE(refs[n].is_null() == (n >= reachable));
    REQUIRE(held.table.find(keys[n]) == refs[n]);
  }
  // A flow that belongs elsewhere still finds room, and so does a colliding one after an erase.
  CHECK_FALSE(held.table.insert(aimed(1, capacity, 100, 1)[0]).is_null());
  CHECK(held.table.erase(refs[3]));
  CHECK_FALSE(held.table.insert(keys[reachable]).is_null());
  CHECK(held.table.insert(keys[reachable + 1]).is_null());
}

TEST_CASE("find_batch finds what find finds, for any number of keys", "[flowtable]") {
  Held held(512);
  for (u32 n = 0; n < 500; n += 2) held.table.insert(numbered(n));
  for (u32 n = 0; n < 40; ++n) held.table.insert(aimed(40, 512, 9, 1)[n]);  // overflowing
  std::vector<FlowKey> keys = aimed(60, 512, 9, 1);
  for (u32 n = 0; n < 500; ++n) keys.push_back(numbered(n));
  std::shuffle(keys.begin(), keys.end(), std::mt19937(1));
  for (u32 count : {0u, 1u, 31u, 32u, 33u, 64u, 65u, 500u}) {
    std::vector<Ref> refs(count + 1, Ref{123, 45});
    held.table.find_batch(keys.data(), count, refs.data());
    for (u32 i = 0; i < count; ++i) REQUIRE(refs[i] == held.table.find(keys[i]));
    CHECK(refs[count] == Ref{123, 45});  // nothing is written beyond the batch
  }
}

TEST_CASE("expire looks at no more slots than it may, and at each in its turn", "[flowtable]") {
  Held held(100);
  for (u32 n = 0; n < 100; ++n) held.table.insert(numbered(n));
  std::vector<u32> visits(100);
  for (u32 call = 0; call < 15; ++call) {
    u32 looked_at = 0;
    const u32 erased = held.table.expire(20, [&](Ref ref, const FlowKey& key, Flow&) {
      CHECK(held.table.find(key) == ref);
      ++visits[ref.slot];
      ++looked_at;
      return false;
    });
    CHECK(erased == 0);
    CHECK(looked_at == 20);
  }
  CHECK(visits == std::vector<u32>(100, 3));

  u32 looked_at = 0;
  held.table.expire(5000, [&](Ref, const FlowKey&, Flow&) { return ++looked_at, false; });
  CHECK(looked_at == 100);
}

TEST_CASE("expire erases what the caller lets go and nothing else", "[flowtable]") {
  Held held(64);
  std::vector<Ref> refs;
  for (u32 n = 0; n < 64; ++n) {
    refs.push_back(held.table.insert(numbered(n)));
    held.table.get(refs[n])->word[0] = n % 4;  // 0: idle; else bytes promised
  }
  const auto idle = [](Ref, const FlowKey&, Flow& flow) { return flow.word[0] == 0; };
  CHECK(held.table.expire(32, idle) == 8);
  CHECK(held.table.expire(32, idle) == 8);
  CHECK(held.table.expire(64, idle) == 0);
  CHECK(held.table.size() == 48);
  for (u32 n = 0; n < 64; ++n) {
    CHECK(held.table.find(numbered(n)) == (n % 4 == 0 ? Ref::null() : refs[n]));
    CHECK((held.table.get(refs[n]) == nullptr) == (n % 4 == 0));
  }
}

TEST_CASE("another seed gives other hashes and another order of buckets", "[flowtable]") {
  Held one(4096), two(4096, {seed.k0, seed.k1 ^ 1});
  u32 same_hash = 0;
  for (u32 n = 0; n < 4096; ++n)
    same_hash += one.table.hash(numbered(n)) == two.table.hash(numbered(n));
  CHECK(same_hash <= 1);
  // 240 keys that exhaust max_probes under one seed are nothing special under the other.
  const std::vector<FlowKey> keys = aimed(300, 4096, 0, 1);
  for (const FlowKey& key : keys) {
    one.table.insert(key);
    two.table.insert(key);
  }
  CHECK(one.table.size() == 240);
  CHECK(two.table.size() == 300);
}

TEST_CASE("shards are even, and each fills its buckets evenly", "[flowtable]") {
  constexpr u32 shards = 7, capacity = 2048;
  std::vector<std::unique_ptr<Held>> tables;
  for (u32 i = 0; i < shards; ++i) tables.push_back(std::make_unique<Held>(capacity));
  // 90 % full: were a shard's keys crowded into part of its buckets, inserts would fail.
  for (u32 n = 0; n < shards * capacity * 9 / 10; ++n) {
    const u32 shard = Table::shard_of(tables[0]->table.hash(numbered(n)), shards);
    REQUIRE(shard < shards);
    REQUIRE_FALSE(tables[shard]->table.insert(numbered(n)).is_null());
  }
  for (const auto& held : tables) {
    CHECK(held->table.size() > capacity * 8 / 10);
    // A Poisson of mean 7.2 leaves 0.7 % of the buckets with more than their 15 entries.
    u32 overflowed = 0;
    for (u32 bucket = 0; bucket < capacity / 8; ++bucket) {
      u32 passed = 0;
      std::memcpy(&passed, held->memory.get() + bucket * 64 + 60, 4);
      overflowed += passed != 0;
    }
    CHECK(overflowed <= 12);
  }
  CHECK(Table::shard_of(0xffffffff, 1) == 0);
  CHECK(Table::shard_of(0xffffffff, shards) == shards - 1);
}

}  // namespace
