// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A hash table of flows with a fixed capacity in memory that the caller gives.
//
// What it does NOT do: it never allocates, grows or evicts, reads no clock, takes no lock, knows
// nothing of TCP. One thread at a time may use a table (const functions included, while another
// thread changes it); hosts split their flows over tables with shard_of() and lock each.
//
// Flooding: flows are placed by a quick hash, whose secret might be learned by who sees its
// effects. What it would be learned for, many flows in one place, is seen by insert(), and from
// then on the table places by SipHash (see crowded()). Should even that be steered, a flow is
// stored at most max_probes buckets from home: no operation looks at more than that, and an insert
// that would need more finds the table full.
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
/// at most; with 84 bytes a record is two cache lines, and a flow takes 138 bytes all told. A table
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
    return index_bytes(capacity) + size_t{capacity} * sizeof(Record);
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
    seed_ = seed;
    quick_ = quick_seed(seed);
    buckets_ = static_cast<Bucket*>(memory);
    slots_ = reinterpret_cast<Slots*>(static_cast<u8*>(memory) + tag_bytes(capacity));
    records_ = reinterpret_cast<Record*>(static_cast<u8*>(memory) + index_bytes(capacity));
    __builtin_memset(memory, 0, needed);
    for (u32 slot = 0; slot < capacity; ++slot) records_[slot].word[0] = slot + 1;
    free_first_ = 0;
    free_last_ = capacity - 1;
    size_ = hand_ = quickly_placed_ = 0;
    distrusted_ = false;
    return true;
  }

  u32 size() const { return size_; }
  u32 capacity() const { return capacity_; }
  /// Whether flows crowded as by chance they do not, so that new ones are placed by SipHash.
  bool distrusted() const { return distrusted_; }

  /// The keyed hash of a key, for shard_of() and for spreading flows elsewhere.
  u32 hash(const FlowKey& key) const { return static_cast<u32>(digest(key, seed_)); }

  /// Which of `shards` locks or tables a hash belongs to: 0 .. shards-1. It has nothing to do with
  /// what chooses the bucket, so each shard's table (same seed) is filled evenly.
  static constexpr u32 shard_of(u32 hash, u32 shards) { return reduce(hash, shards); }

  /// The flow of this key, or null.
  VSNOOP_ALWAYS_INLINE Ref find(const FlowKey& key) const {
    const u32 slot = slot_of(key, hash_to_place(key));
    return slot == absent ? Ref::null() : ref_to(slot);
  }

  /// As find(), and what is kept of the flow at once: nullptr, and `ref` null, if it is unknown.
  VSNOOP_ALWAYS_INLINE Value* find(const FlowKey& key, Ref& ref) {
    const u32 slot = slot_of(key, hash_to_place(key));
    ref = slot == absent ? Ref::null() : ref_to(slot);
    return slot == absent ? nullptr : &records_[slot].value;
  }

  /// As find() for each of `n` keys, n of any size, with the cache misses overlapped.
  void find_batch(const FlowKey* keys, unsigned n, Ref* out) const {
    for (; n > max_batch; n -= max_batch, keys += max_batch, out += max_batch)
      find_some(keys, max_batch, out);
    find_some(keys, n, out);
  }

  /// The flow of this key, with Value{} if it is new. Null if it is new and the table is full, or
  /// if max_probes buckets are to it: the caller decides what to expire, or does without.
  Ref insert(const FlowKey& key) {
    if (size_ != capacity_) prefetch(records_[free_first_]);
    u64 hash = hash_to_place(key);
    const u32 known = slot_of(key, hash);
    if (known != absent) return ref_to(known);
    if (size_ == capacity_) return Ref::null();

    u32 distance = distance_to_room(hash);
    if (VSNOOP_UNLIKELY(!distrusted_ && crowded(hash, distance))) {
      distrusted_ = true;
      quickly_placed_ = size_;
      hash = hash_to_place(key);
      distance = distance_to_room(hash);
    }
    if (distance == probes_) return Ref::null();

    u32 bucket = home_of(hash);
    for (; distance != 0; --distance, bucket = after(bucket)) ++buckets_[bucket].passed;
    const unsigned entry = first_of(buckets_[bucket].with_tag(0));
    const u32 slot = take_free_slot();
    buckets_[bucket].tag[entry] = tag_of(hash);
    slots_[bucket].slot[entry] = slot;
    slots_[bucket].by_siphash |= u32{distrusted_} << entry;
    Record& record = records_[slot];
    const u16 generation = next_generation(record);
    __builtin_memcpy(record.word, key.word, sizeof record.word);
    record.vlan = key.vlan;
    set_generation(record, generation);
    record.value = Value{};
    return {slot, generation};
  }

  /// Forgets a flow: every reference to it is stale from now on. False if `ref` was stale or null.
  bool erase(Ref ref) {
    if (!is_live(ref)) return false;
    Record& record = records_[ref.slot];
    u64 hash = hash_to_place(key_of(record));
    if (VSNOOP_UNLIKELY(quickly_placed_ != 0) && !is_placed_by_siphash(hash, ref.slot)) {
      hash = quick_hash(key_of(record), quick_);
      --quickly_placed_;
    }
    u32 bucket = home_of(hash);
    unsigned entry = entry_of(bucket, tag_of(hash), ref.slot);
    for (; entry == none; entry = entry_of(bucket, tag_of(hash), ref.slot)) {
      --buckets_[bucket].passed;
      bucket = after(bucket);
    }
    buckets_[bucket].tag[entry] = 0;
    set_generation(record, next_generation(record));
    give_free_slot(ref.slot);
    return true;
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
  // 15 entries, four buckets to a cache line: for each a tag of 8 bits of its flow's hash, 0 if it
  // is free. `passed` counts the flows that found this bucket full on their way from home to the
  // bucket that holds them, at most 15 x 15: 0 ends a search, and an erase takes itself off again,
  // so neither tombstones nor moves are ever needed.
  struct alignas(16) Bucket {
    static constexpr unsigned entries = 15;
    u8 tag[entries];
    u8 passed;

    /// The set of entries with this tag; bit 0 is the first.
    VSNOOP_ALWAYS_INLINE u32 with_tag(u8 wanted) const {
#ifdef VSNOOP_VECTORS
      typedef char Bytes __attribute__((vector_size(16)));
      Bytes all;
      __builtin_memcpy(&all, tag, 16);
      const Bytes same = all == static_cast<char>(wanted);
      return static_cast<u32>(__builtin_ia32_pmovmskb128(same)) & 0x7fff;
#else
      u64 low, high;
      __builtin_memcpy(&low, tag, 8);
      __builtin_memcpy(&high, tag + 8, 8);
      const u64 same = u64{wanted} * 0x0101010101010101;
      return zero_bytes(low ^ same) | (zero_bytes(high ^ same) & 0x7f) << 8;
#endif
    }

   private:
    // Bit i of the answer: byte i is 0.
    static VSNOOP_ALWAYS_INLINE u32 zero_bytes(u64 x) {
      constexpr u64 low7 = 0x7f7f7f7f7f7f7f7f;
      const u64 zero = ~(((x & low7) + low7) | x | low7);  // top bit of each byte that is 0
      return static_cast<u32>((zero >> 7) * 0x0102040810204080 >> 56);
    }
  };
  static_assert(sizeof(Bucket) == 16, "four buckets are a cache line");

  // The slots of a bucket's entries: a line of their own, which a search in vain does not wait for.
  struct alignas(64) Slots {
    u32 slot[Bucket::entries];
    u32 by_siphash;  // set of the entries that were placed by it
  };

  // The key, without its padding. The generation (top 16 bits of its last word) is odd while the
  // slot is in use. In a free slot the first word is the next free slot.
  struct Record {
    u64 word[5];
    u32 vlan;
    Value value;
  };

  // 8 flows for 15 entries in a full table: one in 500 then lies in another bucket than home.
  static constexpr u32 buckets_for(u32 capacity) { return capacity < 8 ? 1 : capacity / 8; }
  static constexpr size_t tag_bytes(u32 capacity) {
    return (buckets_for(capacity) * sizeof(Bucket) + alignment - 1) / alignment * alignment;
  }
  static constexpr size_t index_bytes(u32 capacity) {
    return tag_bytes(capacity) + buckets_for(capacity) * sizeof(Slots);
  }

  static constexpr u32 reduce(u32 hash, u32 n) {
    return static_cast<u32>(static_cast<u64>(hash) * n >> 32);
  }
  // The hash's parts: the upper half chooses the bucket, the bottom of the lower half is the tag.
  u32 home_of(u64 hash) const { return reduce(static_cast<u32>(hash >> 32), bucket_count_); }
  static u8 tag_of(u64 hash) {
    const u8 tag = static_cast<u8>(hash);
    return static_cast<u8>(tag + (tag == 0));
  }
  u32 after(u32 bucket) const { return bucket + 1 == bucket_count_ ? 0 : bucket + 1; }
  static unsigned first_of(u32 set) { return static_cast<unsigned>(__builtin_ctz(set)); }

  static VSNOOP_ALWAYS_INLINE FlowKey key_of(const Record& record) {
    FlowKey key;
    __builtin_memcpy(key.word, record.word, sizeof key.word);
    key.vlan = record.vlan;
    return key;
  }
  // Whether it is this key's; the generation between its words is no part of that.
  static VSNOOP_ALWAYS_INLINE bool is_of(const Record& record, const FlowKey& key) {
    return ((record.word[0] ^ key.word[0]) | (record.word[1] ^ key.word[1]) |
            (record.word[2] ^ key.word[2]) | (record.word[3] ^ key.word[3]) |
            ((record.word[4] ^ key.word[4]) & FlowKey::ends_mask) | (record.vlan ^ key.vlan)) == 0;
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

  // What places new flows.
  VSNOOP_ALWAYS_INLINE u64 hash_to_place(const FlowKey& key) const {
    return VSNOOP_LIKELY(!distrusted_) ? quick_hash(key, quick_) : slow_hash(key);
  }
  VSNOOP_COLD u64 slow_hash(FlowKey key) const { return digest(key, seed_); }

  // The slot of this key's flow, wherever it was placed, or `absent`; `hash` is hash_to_place(key).
  static constexpr u32 absent = Ref::null_slot;
  VSNOOP_ALWAYS_INLINE u32 slot_of(const FlowKey& key, u64 hash) const {
    const u32 home = home_of(hash);
    VSNOOP_PREFETCH(slots_ + home);
    const u32 set = buckets_[home].with_tag(tag_of(hash));
    if (VSNOOP_LIKELY(set != 0)) {
      const u32 slot = slots_[home].slot[first_of(set)];
      prefetch(records_[slot]);
      if (VSNOOP_LIKELY(is_of(records_[slot], key))) return slot;
    } else if (VSNOOP_LIKELY(ends_at(home))) {
      return absent;
    }
    return search(key, hash);
  }

  // Whether what is not in its home bucket is nowhere.
  bool ends_at(u32 home) const { return (buckets_[home].passed | quickly_placed_) == 0; }

  // Everywhere that it may be: all entries with the tag, all buckets on its path, and those of
  // quick_hash() if flows are left that were placed by it.
  // (The key as a value: whoever does not come here need not have it in memory.)
  VSNOOP_NOINLINE u32 search(FlowKey key, u64 hash) const {
    for (;;) {
      u32 bucket = home_of(hash);
      for (u32 probe = 0; probe < probes_; bucket = after(bucket), ++probe) {
        for (u32 set = buckets_[bucket].with_tag(tag_of(hash)); set != 0; set &= set - 1) {
          const u32 slot = slots_[bucket].slot[first_of(set)];
          if (is_of(records_[slot], key)) return slot;
        }
        if (buckets_[bucket].passed == 0) break;
      }
      if (quickly_placed_ == 0) return absent;
      const u64 quick = quick_hash(key, quick_);
      if (hash == quick) return absent;
      hash = quick;
    }
  }

  // Stage by stage, so that the misses of one stage overlap: buckets, records, comparison.
  void find_some(const FlowKey* keys, unsigned n, Ref* out) const {
    u32 homes[max_batch], slots[max_batch];
    u8 tags[max_batch];
    for (unsigned i = 0; i < n; ++i) {
      const u64 hash = hash_to_place(keys[i]);
      homes[i] = home_of(hash);
      tags[i] = tag_of(hash);
      VSNOOP_PREFETCH(&buckets_[homes[i]]);
      VSNOOP_PREFETCH(slots_ + homes[i]);
    }
    constexpr u32 unsure = absent - 1;
    for (unsigned i = 0; i < n; ++i) {
      const u32 set = buckets_[homes[i]].with_tag(tags[i]);
      if (set != 0) {
        slots[i] = slots_[homes[i]].slot[first_of(set)];
        prefetch(records_[slots[i]]);
      } else {
        slots[i] = ends_at(homes[i]) ? absent : unsure;
      }
    }
    for (unsigned i = 0; i < n; ++i) {
      u32 slot = slots[i];
      if (slot != absent && (slot == unsure || !is_of(records_[slot], keys[i])))
        slot = search(keys[i], hash_to_place(keys[i]));
      out[i] = slot == absent ? Ref::null() : ref_to(slot);
    }
  }

  // How many buckets from home the next flow of this hash finds room; probes_: nowhere.
  u32 distance_to_room(u64 hash) const {
    u32 distance = 0;
    for (u32 bucket = home_of(hash); distance < probes_; bucket = after(bucket), ++distance)
      if (VSNOOP_LIKELY(buckets_[bucket].with_tag(0) != 0)) break;
    return distance;
  }

  // Whether chance is no explanation for what a new flow meets that finds room at this distance: a
  // flow is so far from home once in thousands of fillings of a table with 2^20 flows, and six of a
  // tag are in a bucket once in 10^13 inserts. (Being wrong costs SipHash's time, nothing else.)
  static constexpr u32 far = 6;
  static constexpr unsigned alike = 6;
  bool crowded(u64 hash, u32 distance) const {
    if (distance >= far || distance == probes_) return true;
    u32 bucket = home_of(hash);
    for (; VSNOOP_UNLIKELY(distance != 0); --distance) bucket = after(bucket);
    u32 set = buckets_[bucket].with_tag(tag_of(hash));
    for (unsigned i = 1; i < alike && set != 0; ++i) set &= set - 1;
    return set != 0;
  }

  // The entry of a bucket that is this slot's, or `none`.
  static constexpr unsigned none = Bucket::entries;
  unsigned entry_of(u32 bucket, u8 tag, u32 slot) const {
    for (u32 set = buckets_[bucket].with_tag(tag); set != 0; set &= set - 1)
      if (slots_[bucket].slot[first_of(set)] == slot) return first_of(set);
    return none;
  }

  // Whether the flow in this slot was placed by SipHash; `hash` is that of its key.
  bool is_placed_by_siphash(u64 hash, u32 slot) const {
    u32 bucket = home_of(hash);
    for (u32 probe = 0; probe < probes_; bucket = after(bucket), ++probe) {
      const unsigned entry = entry_of(bucket, tag_of(hash), slot);
      if (entry != none) return slots_[bucket].by_siphash >> entry & 1;
      if (buckets_[bucket].passed == 0) return false;
    }
    return false;
  }

  // Inlined, or g++ takes it for a function without effect and drops the calls.
  static VSNOOP_ALWAYS_INLINE void prefetch(const Record& record) {
    const char* bytes = reinterpret_cast<const char*>(&record);
    for (size_t at = 0; at < sizeof(Record); at += 64) VSNOOP_PREFETCH(bytes + at);
    if (sizeof(Record) % 64 != 0) VSNOOP_PREFETCH(bytes + sizeof(Record) - 1);
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

  // Before init(): one bucket without flows, which nobody writes to.
  static constexpr Bucket no_bucket{};
  Bucket* buckets_ = const_cast<Bucket*>(&no_bucket);
  Slots* slots_ = nullptr;
  Record* records_ = nullptr;
  QuickSeed quick_{};
  HashSeed seed_{0, 0};
  u32 capacity_ = 0, bucket_count_ = 0, probes_ = 0;
  u32 size_ = 0, free_first_ = 0, free_last_ = 0, hand_ = 0;
  u32 quickly_placed_ = 0;  // flows that quick_hash() placed before it was distrusted
  bool distrusted_ = false;
};

VSNOOP_END
