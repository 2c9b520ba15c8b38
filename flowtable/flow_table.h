// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A hash table of flows with a fixed capacity in memory that the caller gives.
//
// What it does NOT do: it never allocates, grows or evicts, reads no clock, takes no lock, knows
// nothing of TCP. One thread at a time may use a table (const functions included, while another
// thread changes it); hosts split their flows over tables with shard_of() and lock each.
//
// Flooding: who cannot guess the seed cannot aim at a bucket. Should it happen all the same, a
// flow is stored at most max_probes buckets from home: no operation looks at more index lines than
// that, and an insert that would need more finds the table full.
#pragma once

#include "flowtable/flow_key.h"
#include "flowtable/host.h"

VSNOOP_BEGIN

/// Refers to a flow, and to nothing once that flow is erased, even if its slot is in use again.
/// (A slot has 32768 generations. Free slots are used in turn, oldest first, so that a reference
/// would have to outlive that many turns of the free list to be mistaken.)
struct Ref {
  u32 slot;
  u16 generation;

  static constexpr u32 null_slot = 0xffffffff;
  static constexpr Ref null() { return {null_slot, 0}; }
  constexpr bool is_null() const { return slot == null_slot; }
  friend constexpr bool operator==(Ref a, Ref b) {
    return a.slot == b.slot && a.generation == b.generation;
  }
  friend constexpr bool operator!=(Ref a, Ref b) { return !(a == b); }
};
static_assert(sizeof(Ref) == 8, "hosts pass references as one word");

/// Flows by key. `Value` is what the caller keeps of a flow: trivially copyable, aligned to 8 bytes
/// at most; with 84 bytes a record is two cache lines, and a flow takes 136 bytes all told. A table
/// on which init() has not succeeded is empty and full.
template <class Value>
class FlowTable {
  static_assert(__is_trivially_copyable(Value) && alignof(Value) <= 8, "records are raw memory");

 public:
  static constexpr u32 max_capacity = 1u << 24;
  static constexpr u32 max_probes = 16;      // buckets
  static constexpr size_t alignment = 64;    // of the memory
  static constexpr unsigned max_batch = 32;  // keys whose cache misses find_batch() overlaps

  FlowTable() = default;
  FlowTable(const FlowTable&) = delete;
  FlowTable& operator=(const FlowTable&) = delete;

  /// Bytes that a table of `capacity` flows needs; 0 if no such table can be.
  static constexpr size_t memory_needed(u32 capacity) {
    if (capacity == 0 || capacity > max_capacity) return 0;
    return buckets_for(capacity) * sizeof(Bucket) + capacity * sizeof(Record);
  }

  /// Makes an empty table in `memory`, which stays the caller's and must outlive the table; what
  /// it held is overwritten. False, and the table unchanged, if `capacity` is 0 or above
  /// max_capacity, if `bytes` are too few, or if `memory` is null or not aligned.
  bool init(void* memory, size_t bytes, u32 capacity, HashSeed seed) {
    const size_t needed = memory_needed(capacity);
    if (needed == 0 || bytes < needed || memory == nullptr) return false;
    if (reinterpret_cast<uintptr_t>(memory) % alignment != 0) return false;

    capacity_ = capacity;
    bucket_count_ = buckets_for(capacity);
    probes_ = bucket_count_ < max_probes ? bucket_count_ : max_probes;
    tag_shift_ = 32 - static_cast<u32>(__builtin_clz(capacity));
    seed_ = seed;
    buckets_ = static_cast<Bucket*>(memory);
    records_ = reinterpret_cast<Record*>(buckets_ + bucket_count_);
    __builtin_memset(memory, 0, needed);
    for (u32 slot = 0; slot < capacity; ++slot) records_[slot].word[0] = slot + 1;
    free_first_ = 0;
    free_last_ = capacity - 1;
    size_ = hand_ = 0;
    return true;
  }

  u32 size() const { return size_; }
  u32 capacity() const { return capacity_; }

  /// The keyed hash of a key, for shard_of() and for spreading flows elsewhere.
  u32 hash(const FlowKey& key) const { return static_cast<u32>(digest(key, seed_)); }

  /// Which of `shards` locks or tables a hash belongs to: 0 .. shards-1. It looks at none of the
  /// bits that choose the bucket, so each shard's table (same seed) is filled evenly.
  static constexpr u32 shard_of(u32 hash, u32 shards) { return reduce(hash, shards); }

  /// The flow of this key, or null.
  VSNOOP_ALWAYS_INLINE Ref find(const FlowKey& key) const { return find(key, digest(key, seed_)); }

  /// As find() for each of `n` keys, n of any size, with the cache misses overlapped.
  void find_batch(const FlowKey* keys, unsigned n, Ref* out) const {
    for (; n > max_batch; n -= max_batch, keys += max_batch, out += max_batch)
      find_some(keys, max_batch, out);
    find_some(keys, n, out);
  }

  /// The flow of this key, with Value{} if it is new. Null if it is new and the table is full, or
  /// if max_probes buckets from its home are: the caller decides what to expire, or does without.
  Ref insert(const FlowKey& key) {
    if (size_ != capacity_) prefetch(records_[free_first_]);
    const u64 hash = digest(key, seed_);
    const Ref known = find(key, hash);
    if (!known.is_null() || size_ == capacity_) return known;

    const u32 home = home_of(hash);
    for (u32 bucket = home, probe = 0; probe < probes_; bucket = after(bucket), ++probe)
      for (u32& entry : buckets_[bucket].entry)
        if (entry == 0) {
          for (u32 full = home; full != bucket; full = after(full)) ++buckets_[full].passed;
          const u32 slot = take_free_slot();
          entry = tag_of(hash) | (slot + 1);
          Record& record = records_[slot];
          const u16 generation = next_generation(record);
          __builtin_memcpy(record.word, key.word, sizeof record.word);
          record.vlan = key.vlan;
          set_generation(record, generation);
          record.value = Value{};
          return {slot, generation};
        }
    return Ref::null();
  }

  /// Forgets a flow: every reference to it is stale from now on. False if `ref` was stale or null.
  bool erase(Ref ref) {
    if (get(ref) == nullptr) return false;
    Record& record = records_[ref.slot];
    const u64 hash = digest(key_of(record), seed_);
    const u32 wanted = tag_of(hash) | (ref.slot + 1);
    for (u32 bucket = home_of(hash);; bucket = after(bucket)) {
      for (u32& entry : buckets_[bucket].entry)
        if (entry == wanted) {
          entry = 0;
          set_generation(record, next_generation(record));
          give_free_slot(ref.slot);
          return true;
        }
      --buckets_[bucket].passed;
    }
  }

  /// What the caller keeps of a flow, or nullptr if `ref` is stale or null. Good until the flow is
  /// erased: records never move.
  Value* get(Ref ref) { return is_live(ref) ? &records_[ref.slot].value : nullptr; }
  const Value* get(Ref ref) const { return is_live(ref) ? &records_[ref.slot].value : nullptr; }

  /// The key of a flow that get() finds (for any other reference the behaviour is undefined).
  FlowKey key(Ref ref) const { return key_of(records_[ref.slot]); }

  /// The flow in a slot, 0 .. capacity-1; null if there is none. For walking over all flows.
  Ref ref_at(u32 slot) const {
    if (slot >= capacity_) return Ref::null();
    const Ref ref = ref_to(slot);
    return is_live(ref) ? ref : Ref::null();
  }

  /// Looks at the next `max_slots` slots (each at most once), going on where the last call stopped,
  /// and erases the flows for which `may_erase(Ref, const FlowKey&, Value&)` is true. Returns how
  /// many. Only the caller knows which flows matter: a flow with an outstanding promise stays
  /// because `may_erase` says no. `may_erase` must not change the table.
  template <class MayErase>
  u32 expire(u32 max_slots, MayErase&& may_erase) {
    u32 erased = 0;
    for (u32 left = max_slots < capacity_ ? max_slots : capacity_; left != 0; --left) {
      const Ref ref = ref_at(hand_);
      Record& record = records_[hand_];
      hand_ = hand_ + 1 == capacity_ ? 0 : hand_ + 1;
      if (!ref.is_null() && may_erase(ref, key_of(record), record.value)) erased += erase(ref);
    }
    return erased;
  }

 private:
  // One cache line of the index. An entry is 0 or {tag, slot + 1}. `passed` counts the flows that
  // found this bucket full on their way from home to the bucket that holds them: 0 ends a search,
  // and an erase takes itself off again, so neither tombstones nor moves are ever needed.
  struct alignas(64) Bucket {
    u32 entry[15];
    u32 passed;
  };
  static_assert(sizeof(Bucket) == 64, "a bucket is a cache line");

  // The key, without its padding. The generation (top 16 bits of its last word) is odd while the
  // slot is in use. In a free slot the first word is the next free slot.
  struct Record {
    u64 word[5];
    u32 vlan;
    Value value;
  };

  static constexpr u32 buckets_for(u32 capacity) { return capacity < 8 ? 1 : capacity / 8; }

  // The digest's parts: the upper half chooses the bucket, the top of the lower half the shard,
  // the bottom of the lower half is the tag.
  static constexpr u32 reduce(u32 hash, u32 n) {
    return static_cast<u32>(static_cast<u64>(hash) * n >> 32);
  }
  u32 home_of(u64 hash) const { return reduce(static_cast<u32>(hash >> 32), bucket_count_); }
  u32 tag_of(u64 hash) const { return static_cast<u32>(hash) << tag_shift_; }
  u32 after(u32 bucket) const { return bucket + 1 == bucket_count_ ? 0 : bucket + 1; }

  static VSNOOP_ALWAYS_INLINE FlowKey key_of(const Record& record) {
    FlowKey key;
    __builtin_memcpy(key.word, record.word, sizeof key.word);
    key.vlan = record.vlan;
    return key;
  }
  static u16 generation_of(const Record& record) { return static_cast<u16>(record.word[4] >> 48); }
  static u16 next_generation(const Record& record) {
    return static_cast<u16>(generation_of(record) + 1);
  }
  static void set_generation(Record& record, u16 generation) {
    u64& ends = record.word[4];
    ends = (ends & FlowKey::ends_mask) | static_cast<u64>(generation) << 48;
  }
  Ref ref_to(u32 slot) const { return {slot, generation_of(records_[slot])}; }
  bool is_live(Ref ref) const {
    return ref.slot < capacity_ && (ref.generation & 1) != 0 &&
           generation_of(records_[ref.slot]) == ref.generation;
  }

  // Where `tag` and the entry's tag agree this leaves slot < capacity; any other entry, and an
  // empty one for any tag, gives a number that is no slot.
  static u32 slot_if(u32 entry, u32 tag) { return (entry ^ tag) - 1; }

  VSNOOP_ALWAYS_INLINE Ref find(const FlowKey& key, u64 hash) const {
    const u32 tag = tag_of(hash);
    for (u32 bucket = home_of(hash), probe = 0; probe < probes_; bucket = after(bucket), ++probe) {
      for (const u32 entry : buckets_[bucket].entry) {
        const u32 slot = slot_if(entry, tag);
        if (slot >= capacity_) continue;
        prefetch(records_[slot]);
        if (VSNOOP_LIKELY(same_flow(key_of(records_[slot]), key))) return ref_to(slot);
      }
      if (VSNOOP_LIKELY(buckets_[bucket].passed == 0)) break;
    }
    return Ref::null();
  }

  // Stage by stage, so that the misses of one stage overlap: index lines, records, comparison.
  void find_some(const FlowKey* keys, unsigned n, Ref* out) const {
    u64 hashes[max_batch];
    u32 slots[max_batch];
    for (unsigned i = 0; i < n; ++i) {
      hashes[i] = digest(keys[i], seed_);
      VSNOOP_PREFETCH(&buckets_[home_of(hashes[i])]);
    }
    for (unsigned i = 0; i < n; ++i) {
      slots[i] = guess(hashes[i]);
      if (slots[i] < capacity_) prefetch(records_[slots[i]]);
    }
    for (unsigned i = 0; i < n; ++i) {
      const u32 slot = slots[i];
      if (slot == absent)
        out[i] = Ref::null();
      else if (slot != unsure && same_flow(key_of(records_[slot]), keys[i]))
        out[i] = ref_to(slot);
      else
        out[i] = find(keys[i], hashes[i]);
    }
  }

  // The first slot that the home bucket offers for this hash; else whether there may be another.
  static constexpr u32 absent = Ref::null_slot, unsure = absent - 1;
  u32 guess(u64 hash) const {
    if (probes_ == 0) return absent;
    const Bucket& line = buckets_[home_of(hash)];
    const u32 tag = tag_of(hash);
    for (const u32 entry : line.entry)
      if (slot_if(entry, tag) < capacity_) return slot_if(entry, tag);
    return line.passed == 0 ? absent : unsure;
  }

  // Inlined, or g++ takes it for a function without effect and drops the calls.
  static VSNOOP_ALWAYS_INLINE void prefetch(const Record& record) {
    const char* bytes = reinterpret_cast<const char*>(&record);
    for (size_t at = 0; at < sizeof(Record); at += 64) VSNOOP_PREFETCH(bytes + at);
    VSNOOP_PREFETCH(bytes + sizeof(Record) - 1);
  }

  u32 take_free_slot() {
    const u32 slot = free_first_;
    free_first_ = static_cast<u32>(records_[slot].word[0]);
    ++size_;
    return slot;
  }
  void give_free_slot(u32 slot) {
    if (size_ == capacity_)
      free_first_ = slot;
    else
      records_[free_last_].word[0] = slot;
    free_last_ = slot;
    --size_;
  }

  Bucket* buckets_ = nullptr;
  Record* records_ = nullptr;
  HashSeed seed_{0, 0};
  u32 capacity_ = 0, bucket_count_ = 0, probes_ = 0, tag_shift_ = 0;
  u32 size_ = 0, free_first_ = 0, free_last_ = 0, hand_ = 0;
};

VSNOOP_END
