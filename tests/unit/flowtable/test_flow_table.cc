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

#ifdef VSNOOP_HAS_RAPIDCHECK
#include <rapidcheck.h>
#endif

// test_flow_table_scalar.cc builds all of this again, as a kernel would.
#ifndef FLOW_TABLE_TEST
#define FLOW_TABLE_TEST(name) TEST_CASE("flow table: " name, "[flowtable]")
#endif

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

  /// Whether the index is as empty as init() left it: no tag, no count left behind.
  bool index_is_clean() const {
    const u8* end = memory.get() + std::max(1u, table.capacity() / 8) * 16;
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

using Hash = u64 (*)(const FlowKey&);
u64 quickly(const FlowKey& key) {
  static const QuickSeed words = quick_seed(seed);
  return quick_hash(key, words);
}
u64 by_siphash(const FlowKey& key) { return digest(key, seed); }

u64 home_of(u64 hash, u32 capacity) { return (hash >> 32) * std::max(1u, capacity / 8) >> 32; }
u8 tag_of(u64 hash) { return static_cast<u8>(hash) ? static_cast<u8>(hash) : 1; }

/// `count` keys which, for who knows the seed, belong in one of `buckets` neighbouring buckets
/// (starting with `first`) of a table of `capacity`.
std::vector<FlowKey> aimed(u32 count, u32 capacity, u32 first, u32 buckets, Hash hash = quickly) {
  std::vector<FlowKey> keys;
  const u64 all = std::max(1u, capacity / 8);
  for (u32 n = 0; keys.size() < count; ++n) {
    const u64 home = home_of(hash(numbered(n)), capacity);
    if ((home + all - first) % all < buckets) keys.push_back(numbered(n));
  }
  return keys;
}

/// Pairs of keys (2n, 2n + 1) which in a table of `capacity` differ neither in bucket nor in tag,
/// so that only the comparison of the keys tells them apart. A birthday search finds some.
std::vector<FlowKey> alike(u32 capacity, u32 pairs) {
  std::unordered_map<u64, u32> seen;
  std::vector<FlowKey> keys;
  for (u32 n = 0; keys.size() < 2 * pairs; ++n) {
    const u64 hash = quickly(numbered(n));
    const auto [twin, is_new] = seen.try_emplace(home_of(hash, capacity) << 8 | tag_of(hash), n);
    if (is_new) continue;
    keys.insert(keys.end(), {numbered(twin->second), numbered(n)});
    seen.erase(twin);
  }
  return keys;
}

/// `count` keys of one bucket (3) and one tag (7).
std::vector<FlowKey> twins(u32 count, u32 capacity) {
  std::vector<FlowKey> keys;
  for (u32 n = 0; keys.size() < count; ++n) {
    const u64 hash = quickly(numbered(n));
    if (home_of(hash, capacity) == 3 && tag_of(hash) == 7) keys.push_back(numbered(n));
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
static_assert(Table::memory_needed(1u << 20) / (1u << 20) <= 138);

FLOW_TABLE_TEST("a flow with 80 bytes of value takes at most 138 bytes all told") {
  for (u32 capacity : {1024u, 1025u, 1031u, 65535u, 1u << 20, Table::max_capacity})
    CHECK(Table::memory_needed(capacity) <= size_t{138} * capacity);
}

FLOW_TABLE_TEST("a table stays within the memory it asked for, and can be filled") {
  for (u32 capacity : {1u, 2u, 7u, 8u, 9u, 15u, 16u, 17u, 23u, 100u, 1000u}) {
    CAPTURE(capacity);
    Held held(capacity);  // of exactly the bytes needed, give or take alignment: ASan watches
    for (u32 n = 0; n < capacity; ++n) REQUIRE_FALSE(held.table.insert(numbered(n)).is_null());
    CHECK(held.table.size() == capacity);
  }
}

FLOW_TABLE_TEST("init refuses what cannot be a table and leaves the table as it was") {
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

FLOW_TABLE_TEST("a table without memory is empty and full") {
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

FLOW_TABLE_TEST("a key gives back what it was made of") {
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

FLOW_TABLE_TEST("every part of the key tells flows apart, and nothing else does") {
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

FLOW_TABLE_TEST("each part of the key tells flows apart that have a bucket and a tag in common") {
  const u8 a[16] = {0x20, 1, 0xd, 0xb8}, b[16] = {0x20, 1, 0xd, 0xb8, 1};
  const auto check = [](auto key_of) {
    Held held(8);  // one bucket
    std::vector<Ref> first(256, Ref::null());
    u32 pairs = 0;
    for (u32 n = 0; pairs < 20; ++n) {
      const FlowKey key = key_of(n);
      Ref& twin = first[tag_of(quickly(key))];
      if (twin.is_null()) {
        twin = {n, 0};
        continue;
      }
      ++pairs;
      REQUIRE(held.table.init(held.memory.get(), held.bytes, 8, seed));
      const FlowKey other = key_of(twin.slot);
      const Ref ref = held.table.insert(other);
      Ref batch{};
      held.table.find_batch(&key, 1, &batch);
      CHECK(batch.is_null());
      CHECK(held.table.find(key).is_null());
      CHECK(held.table.insert(key) != ref);
      CHECK(held.table.find(other) == ref);
    }
  };
  check([&](u32 n) { return FlowKey::v4(a, b, 80, static_cast<u16>(n), 0); });
  check([&](u32 n) { return FlowKey::v4(a, b, static_cast<u16>(n), 80, 0); });
  check([&](u32 n) { return FlowKey::v4(a, b, 80, 443, static_cast<u16>(n)); });
  check([&](u32 n) { return FlowKey::v4(a, b, 80, 443, 1, n); });
  for (unsigned at = 0; at < 16; ++at)
    for (const bool local : {false, true})
      check([&](u32 n) {
        u8 odd[20] = {};  // a v6 address whose bytes from `at` on are numbered
        std::memcpy(odd + at, &n, 4);
        odd[0] |= at ? 0x20 : 0;
        u8 address[16];
        std::memcpy(address, odd, 16);
        // What does not fit in goes elsewhere, so that no two keys are the same.
        const u16 rest = at > 12 ? static_cast<u16>(n >> 8 * (16 - at)) : u16(0);
        return local ? FlowKey::v6(address, a, 80, rest, 0) : FlowKey::v6(a, address, 80, rest, 0);
      });
}

FLOW_TABLE_TEST("insert starts a new flow with Value{} and finds a known one") {
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

FLOW_TABLE_TEST("a full table returns null and keeps everything") {
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

FLOW_TABLE_TEST("a stale reference is never followed, even when its slot is in use again") {
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

FLOW_TABLE_TEST("no reference that a caller makes up leads to a free slot or outside") {
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

FLOW_TABLE_TEST("free slots are used in turn, oldest first") {
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

FLOW_TABLE_TEST("a table does what std::unordered_map does") {
  for (u32 random : {1u, 2u, 3u})
    for (u32 capacity : {1u, 10u, 100u, 1000u, 4099u}) {
      std::vector<FlowKey> keys;
      for (u32 n = 0; n < capacity + capacity / 4 + 1; ++n) keys.push_back(numbered(n));
      compare_with_model(capacity, keys, 20000, random);
    }
}

FLOW_TABLE_TEST("a table does so even when all keys are aimed at a few buckets") {
  for (u32 random : {1u, 2u, 3u}) {
    compare_with_model(1024, aimed(60, 1024, 0, 1), 20000, random);
    compare_with_model(1024, aimed(120, 1024, 60, 3), 20000, random);
    compare_with_model(1024, aimed(200, 1024, 125, 5), 20000, random);  // around the end
    compare_with_model(64, aimed(64, 64, 7, 1), 20000, random);
    compare_with_model(1024, aimed(300, 1024, 60, 1), 20000, random);  // ... and then by SipHash
    compare_with_model(24, aimed(24, 24, 1, 1), 20000, random);
  }
}

FLOW_TABLE_TEST("flows that differ in nothing but their keys are told apart") {
  constexpr u32 capacity = 1024;
  const std::vector<FlowKey> keys = alike(capacity, 20);
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
  compare_with_model(64, twins(12, 64), 20000, 1);
}

#ifdef VSNOOP_HAS_RAPIDCHECK
/// Keys of all kinds for a table of `capacity`: honest ones, and such as who knows the seed sends.
std::vector<FlowKey> mixed(u32 capacity) {
  std::vector<FlowKey> keys;
  for (const auto& some :
       {aimed(100, capacity, 0, std::max(1u, capacity / 8)), aimed(120, capacity, 1, 1),
        aimed(60, capacity, 2, 2, by_siphash), alike(capacity, 5)})
    for (const FlowKey& key : some)
      if (std::none_of(keys.begin(), keys.end(),
                       [&](const FlowKey& other) { return same_flow(key, other); }))
        keys.push_back(key);
  return keys;
}

FLOW_TABLE_TEST("property: whatever comes and goes, a table does what a map does") {
  // In the smaller ones flows of both hashes meet in every bucket.
  for (const u32 capacity : {5u, 16u, 24u, 160u, 2048u}) {
    CAPTURE(capacity);
    const std::vector<FlowKey> keys = mixed(capacity);
    CHECK(rc::check([&] {
      const auto steps = *rc::gen::resize(2000, rc::gen::arbitrary<std::vector<uint32_t>>());
      Held held(capacity);
      std::unordered_map<size_t, Ref> map;
      std::vector<Ref> stale;
      for (const u32 step : steps) {
        const size_t n = step / 4 % keys.size();
        const Ref wanted = map.count(n) ? map[n] : Ref::null();
        RC_ASSERT(held.table.find(keys[n]) == wanted);
        if (step % 4 != 0) {
          const Ref ref = held.table.insert(keys[n]);
          RC_ASSERT((wanted.is_null() || ref == wanted));
          RC_ASSERT((!ref.is_null() || map.size() == capacity || capacity > 160));
          if (!ref.is_null()) map[n] = ref;
        } else {
          RC_ASSERT(held.table.erase(wanted) == !wanted.is_null());
          if (map.erase(n)) stale.push_back(wanted);
        }
        RC_ASSERT(held.table.size() == map.size());
      }
      for (const Ref ref : stale) RC_ASSERT(held.table.get(ref) == nullptr);
      std::vector<Ref> refs(keys.size());
      held.table.find_batch(keys.data(), static_cast<unsigned>(keys.size()), refs.data());
      for (size_t n = 0; n < keys.size(); ++n)
        RC_ASSERT(refs[n] == (map.count(n) ? map[n] : Ref::null()));
      for (const auto& flow : map) RC_ASSERT(held.table.erase(flow.second));
      RC_ASSERT(held.index_is_clean());
    }));
  }
}
#endif

FLOW_TABLE_TEST("flows that crowd in one place are placed by SipHash from then on") {
  constexpr u32 capacity = 4096;
  Held held(capacity);
  const std::vector<FlowKey> honest = aimed(500, capacity, 0, 500);
  std::vector<Ref> before;
  for (const FlowKey& key : honest) before.push_back(held.table.insert(key));
  // Who knows the secret of the quick hash: six buckets of fifteen, and no more.
  const std::vector<FlowKey> keys = aimed(400, capacity, 505, 1);
  std::vector<Ref> refs;
  for (u32 n = 0; n < keys.size(); ++n) {
    refs.push_back(held.table.insert(keys[n]));
    REQUIRE_FALSE(refs[n].is_null());
    REQUIRE(held.table.distrusted() == (n >= 90));
  }
  // All are where they were, until they end.
  for (u32 n = 0; n < keys.size(); ++n) REQUIRE(held.table.find(keys[n]) == refs[n]);
  for (u32 n = 0; n < honest.size(); ++n) REQUIRE(held.table.find(honest[n]) == before[n]);
  for (const Ref ref : before) REQUIRE(held.table.erase(ref));
  for (u32 n = 0; n < keys.size(); ++n) REQUIRE(held.table.find(keys[n]) == refs[n]);
  for (const Ref ref : refs) REQUIRE(held.table.erase(ref));
  CHECK(held.index_is_clean());
}

FLOW_TABLE_TEST("flows of one tag in one bucket are placed by SipHash from the seventh on") {
  constexpr u32 capacity = 4096;
  Held held(capacity);
  const std::vector<FlowKey> keys = twins(12, capacity);
  for (u32 n = 0; n < keys.size(); ++n) {
    CHECK(held.table.distrusted() == (n > 6));
    REQUIRE_FALSE(held.table.insert(keys[n]).is_null());
  }
  // Nor in the next bucket, when theirs is full of others.
  Held next(capacity);
  u32 others = 0;
  for (const FlowKey& key : aimed(30, capacity, 3, 1))
    if (others < 15 && tag_of(quickly(key)) != 7) others += !next.table.insert(key).is_null();
  for (u32 n = 0; n < keys.size(); ++n) {
    CHECK(next.table.distrusted() == (n > 6));
    REQUIRE_FALSE(next.table.insert(keys[n]).is_null());
  }
}

FLOW_TABLE_TEST("a flow is taken from where it was placed, though both hashes lead there") {
  constexpr u32 capacity = 32;
  Held held(capacity);
  // Bucket 0 is full, one of its flows is in bucket 1; there is a flow with the same tag by
  // SipHash, and home in bucket 0.
  const auto both = [](const FlowKey& key) {
    return home_of(quickly(key), capacity) == 1 && home_of(by_siphash(key), capacity) == 0 &&
           tag_of(quickly(key)) == tag_of(by_siphash(key));
  };
  u32 n = 0;
  while (!both(numbered(n))) ++n;
  const Ref odd = held.table.insert(numbered(n));
  const std::vector<FlowKey> others = aimed(16, capacity, 0, 1);
  std::vector<Ref> refs;
  for (const FlowKey& key : others) refs.push_back(held.table.insert(key));
  for (const FlowKey& key : twins(7, capacity)) held.table.insert(key);
  REQUIRE(held.table.distrusted());
  CHECK(held.table.erase(odd));
  for (size_t i = 0; i < others.size(); ++i) CHECK(held.table.find(others[i]) == refs[i]);
}

FLOW_TABLE_TEST("chance makes no table distrust its hash, however full") {
  for (u32 capacity : {1u, 8u, 100u, 1000u, 65536u})
    for (u64 k : {1u, 2u, 3u}) {
      Held held(capacity, {k, ~k});
      for (u32 n = 0; n < capacity; ++n) REQUIRE_FALSE(held.table.insert(numbered(n)).is_null());
      CHECK_FALSE(held.table.distrusted());
    }
}

FLOW_TABLE_TEST("keys that collide even under SipHash fill max_probes buckets and no more") {
  constexpr u32 capacity = 4096, reachable = 15 * Table::max_probes;
  Held held(capacity);
  std::vector<Ref> first;
  for (const FlowKey& key : twins(7, capacity)) first.push_back(held.table.insert(key));
  REQUIRE(held.table.distrusted());
  for (const Ref ref : first) held.table.erase(ref);
  const std::vector<FlowKey> keys = aimed(reachable + 10, capacity, 505, 1, by_siphash);
  std::vector<Ref> refs;
  for (const FlowKey& key : keys) refs.push_back(held.table.insert(key));
  for (u32 n = 0; n < keys.size(); ++n) {
    REQUIRE(refs[n].is_null() == (n >= reachable));
    REQUIRE(held.table.find(keys[n]) == refs[n]);
  }
  // A flow that belongs elsewhere still finds room, and so does a colliding one after an erase.
  CHECK_FALSE(held.table.insert(aimed(1, capacity, 100, 1, by_siphash)[0]).is_null());
  CHECK(held.table.erase(refs[3]));
  CHECK_FALSE(held.table.insert(keys[reachable]).is_null());
  CHECK(held.table.insert(keys[reachable + 1]).is_null());
}

// The product of two words, in steps that need no 128 bits.
u64 multiplied(u64 a, u64 b, u64& high) {
  const u64 low = (a & 0xffffffff) * (b & 0xffffffff);
  const u64 one = (a >> 32) * (b & 0xffffffff) + (low >> 32);
  const u64 two = (a & 0xffffffff) * (b >> 32) + (one & 0xffffffff);
  high = (a >> 32) * (b >> 32) + (one >> 32) + (two >> 32);
  return two << 32 | (low & 0xffffffff);
}

FLOW_TABLE_TEST("the quick hash is NH over 64-bit words, multiplied into one") {
  const QuickSeed words = quick_seed(seed);
  std::mt19937_64 rng(1);
  for (u32 i = 0; i < 1000; ++i) {
    const FlowKey key{{rng(), rng(), rng(), rng(), rng()}, static_cast<u32>(rng())};
    const u64 message[6] = {
        key.word[0], key.word[1], key.word[2], key.word[3], key.word[4] & FlowKey::ends_mask,
        key.vlan};
    u64 low = 0, high = 0;
    for (u32 at = 0; at < 6; at += 2) {
      u64 more;
      const u64 product =
          multiplied(message[at] + words.word[at], message[at + 1] + words.word[at + 1], more);
      low += product;
      high += more + (low < product);
    }
    u64 top;
    const u64 bottom = multiplied(low ^ words.word[6], high ^ words.word[7], top);
    REQUIRE(quick_hash(key, words) == (bottom ^ top));
  }
}

// Chi square of 65536 keys over the 256 values of the hash's top byte, which chooses the bucket,
// and of the lowest one, the tag: the worse. 255 degrees of freedom: chance exceeds 400 once in
// 10^8.
template <class KeyOf>
double unevenness(const QuickSeed& words, KeyOf key_of) {
  std::vector<u32> homes(256), tags(256);
  for (u32 n = 0; n < 65536; ++n) {
    const u64 hash = quick_hash(key_of(n), words);
    ++homes[hash >> 56];
    ++tags[hash & 0xff];
  }
  double worst = 0;
  for (const auto* cells : {&homes, &tags}) {
    double chi = 0;
    for (const u32 cell : *cells) chi += (cell - 256.0) * (cell - 256.0) / 256;
    worst = std::max(worst, chi);
  }
  return worst;
}

FLOW_TABLE_TEST("the quick hash spreads what networks number in a row") {
  for (u64 k = 0; k < 20; ++k) {
    CAPTURE(k);
    const QuickSeed words = quick_seed({k, 77 * k});
    u8 a[16] = {0x20, 1, 0xd, 0xb8}, b[16] = {0x20, 1, 0xd, 0xb8, 1};
    const auto check = [&](auto key_of) { CHECK(unevenness(words, key_of) < 400); };
    check([&](u32 n) { return FlowKey::v4(a, b, 80, static_cast<u16>(n), 0); });
    check([&](u32 n) { return FlowKey::v4(a, b, static_cast<u16>(n), 80, 0); });
    check([&](u32 n) { return FlowKey::v4(a, b, 80, 443, static_cast<u16>(n)); });
    check([&](u32 n) { return FlowKey::v4(a, b, 80, 443, 1, n); });
    check([&](u32 n) { return FlowKey::v4(a, &n, 80, 443, 0); });
    check([&](u32 n) { return FlowKey::v4(&n, b, 80, 443, 0); });
    check([&](u32 n) {
      std::memcpy(b + 12, &n, 4);
      return FlowKey::v6(a, b, 80, 443, 0);
    });
    check([&](u32 n) {
      std::memcpy(b + 4, &n, 4);
      return FlowKey::v6(b, a, 80, 443, 0);
    });
  }
}

FLOW_TABLE_TEST("find_batch finds what find finds, for any number of keys") {
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

FLOW_TABLE_TEST("expire looks at no more slots than it may, and at each in its turn") {
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

FLOW_TABLE_TEST("expire erases what the caller lets go and nothing else") {
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

FLOW_TABLE_TEST("another seed gives other hashes and another order of buckets") {
  Held one(4096), two(4096, {seed.k0, seed.k1 ^ 1});
  u32 same_hash = 0;
  for (u32 n = 0; n < 4096; ++n)
    same_hash += one.table.hash(numbered(n)) == two.table.hash(numbered(n));
  CHECK(same_hash <= 1);
  // Keys that crowd under one seed are nothing special under the other.
  const std::vector<FlowKey> keys = aimed(300, 4096, 0, 1);
  for (const FlowKey& key : keys) {
    one.table.insert(key);
    two.table.insert(key);
  }
  CHECK(one.table.distrusted());
  CHECK_FALSE(two.table.distrusted());
}

FLOW_TABLE_TEST("shards are even, and each fills its buckets evenly") {
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
      overflowed += held->memory.get()[bucket * 16 + 15] != 0;
    }
    CHECK(overflowed <= 12);
  }
  CHECK(Table::shard_of(0xffffffff, 1) == 0);
  CHECK(Table::shard_of(0xffffffff, shards) == shards - 1);
}

}  // namespace
