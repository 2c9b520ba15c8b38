// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What one operation of a table of flows takes, measured the same way for each table, so that the
// quotient of two of them means something. Keys are made in the loop, as a parser makes them from a
// frame; a hit reads the first and last word of its flow.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>

namespace beside {

/// What is kept of a flow; 80 bytes, as the core's.
struct Flow {
  uint64_t word[10];
};

/// The flow table's key as other tables take it: 48 bytes without padding.
struct Key {
  uint64_t word[6];
  bool operator==(const Key& other) const { return std::memcmp(word, other.word, 48) == 0; }

  template <class H>
  friend H AbslHashValue(H hash, const Key& key) {
    return H::combine_contiguous(std::move(hash), key.word, 6);
  }
};

/// Flow number `n` of a guest that serves many peers; what FlowKey::v4() makes of it.
inline Key key_of(uint32_t n) {
  constexpr uint64_t guest = 0x0200000affff0000, mapped = 0xffff0000;
  return {{0, guest, 0, uint64_t{n} << 32 | mapped,
           80 | uint64_t{static_cast<uint16_t>(n)} << 16 | uint64_t{1} << 32, 0}};
}

enum Column { hit, dependent, batch_hit, miss, batch_miss, churn, columns };
constexpr std::array<const char*, columns> column_names = {"hit",  "hit, dependent", "hit, batch",
                                                           "miss", "miss, batch",    "churn"};
constexpr unsigned batch = 32;

/// A full table of one kind.
class Subject {
 public:
  virtual ~Subject() = default;
  /// ns for one operation, the mean over `operations`; negative: this table has no such thing.
  virtual double measure(Column column, uint32_t operations) = 0;
};

/// xorshift: the next flow to meet, in no order that a cache could guess.
inline uint32_t next_random(uint32_t& state) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}
inline uint32_t below(uint32_t random, uint32_t n) {
  return static_cast<uint32_t>(static_cast<uint64_t>(random) * n >> 32);
}

/// `Table` has: Table(capacity); a type Key with Key key(n); const Flow* find(const Key&);
/// bool add(const Key&), bool remove(const Key&); has_batch, and find_batch(const Key*, const
/// Flow** out) for `batch` keys.
template <class Table>
class Measured : public Subject {
 public:
  explicit Measured(uint32_t flows) : flows_(flows), table_(flows) {
    newest_ = flows - 1;
    for (uint32_t n = 0; n < flows; ++n)
      if (!table_.add(table_.key(n))) std::abort();
  }

  double measure(Column column, uint32_t operations) override {
    if ((column == batch_hit || column == batch_miss) && !Table::has_batch) return -1;
    // One flow less, so that one may come; the others are where the last churn left them.
    if (column == churn && !table_.remove(table_.key(oldest_++))) std::abort();
    const double begin = now_ns();
    if (column == churn)
      come_and_go(operations);
    else if (column == batch_hit || column == batch_miss)
      look_batched(column == batch_hit, operations);
    else if (column == dependent)
      look_dependent(operations);
    else
      look(column == hit, operations);
    const double took = now_ns() - begin;
    if (column == churn && !table_.add(table_.key(++newest_))) std::abort();
    return took / operations;
  }

 private:
  // Flows are numbered oldest_ .. newest_; what lies beyond is no flow.
  uint32_t first(bool hits) const { return hits ? oldest_ : newest_ + 1; }
  // Of this thread alone: what others run on the same CPU does not count.
  static double now_ns() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return 1e9 * static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec);
  }
  void keep(uint64_t value) { asm volatile("" : : "r"(value)); }

  void look(bool hits, uint32_t operations) {
    uint64_t sum = 0;
    const uint32_t base = first(hits);
    for (uint32_t i = 0; i < operations; ++i) {
      const Flow* flow = table_.find(table_.key(base + below(next_random(random_), flows_)));
      if ((flow != nullptr) != hits) std::abort();
      if (flow) sum += flow->word[0] + flow->word[9];
    }
    keep(sum);
  }

  void look_dependent(uint32_t operations) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < operations; ++i) {
      const uint32_t random = next_random(random_) ^ static_cast<uint32_t>(sum);
      const Flow* flow = table_.find(table_.key(oldest_ + below(random, flows_)));
      if (!flow) std::abort();
      sum += flow->word[0] + flow->word[9];  // 0, which no compiler knows
    }
    keep(sum);
  }

  void look_batched(bool hits, uint32_t operations) {
    if constexpr (Table::has_batch) {
      uint64_t sum = 0;
      const uint32_t base = first(hits);
      typename Table::Key keys[batch];
      const Flow* flows[batch];
      for (uint32_t i = 0; i < operations; i += batch) {
        for (auto& key : keys) key = table_.key(base + below(next_random(random_), flows_));
        table_.find_batch(keys, flows);
        for (const Flow* flow : flows)
          if (flow) sum += flow->word[0] + flow->word[9];
      }
      keep(sum);
    }
  }

  void come_and_go(uint32_t operations) {
    for (uint32_t i = 0; i < operations; ++i)
      if (!table_.add(table_.key(++newest_)) || !table_.remove(table_.key(oldest_++))) std::abort();
  }

  uint32_t flows_, random_ = 1, oldest_ = 0, newest_;
  Table table_;
};

/// rte_hash of DPDK; null without it.
std::unique_ptr<Subject> make_rte_hash(uint32_t flows);

}  // namespace beside
