// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The flow table beside what people would pick instead, in one process, turn by turn, and as
// quotients of medians: what else the machine does meets all of them. Ends with 1 if a goal is
// missed by more than a tenth.
#include "tests/bench/beside.h"

#include <fmt/format.h>

#include <vector>

#include "flowtable/flow_table.h"

#ifdef VSNOOP_HAS_ABSL
#include <absl/container/flat_hash_map.h>
#endif
#if __has_include(<boost/unordered/unordered_flat_map.hpp>)
#include <boost/unordered/unordered_flat_map.hpp>
#endif

namespace beside {

namespace {

class OurTable {
 public:
  using Key = vsnoop::FlowKey;
  static constexpr bool has_batch = true;

  explicit OurTable(uint32_t flows) {
    const size_t bytes = Table::memory_needed(flows);
    memory_.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (!table_.init(memory_.get(), bytes, flows, {0x0706050403020100, 0x0f0e0d0c0b0a0908}))
      std::abort();
  }

  static Key key(uint32_t n) {
    const uint8_t guest[4] = {10, 0, 0, 2};
    return Key::v4(guest, &n, 80, static_cast<uint16_t>(n), 1);
  }
  const Flow* find(const Key& key) {
    vsnoop::Ref ref;
    return table_.find(key, ref);
  }
  void find_batch(const Key* keys, const Flow** out) const {
    vsnoop::Ref refs[batch];
    table_.find_batch(keys, batch, refs);
    for (unsigned i = 0; i < batch; ++i) out[i] = table_.get(refs[i]);
  }
  bool add(const Key& key) { return !table_.insert(key).is_null(); }
  bool remove(const Key& key) { return table_.erase(table_.find(key)); }

 private:
  using Table = vsnoop::FlowTable<Flow>;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  Table table_;
};

/// A hash map of the standard's kind.
template <class Map>
class OfMap {
 public:
  using Key = beside::Key;
  static constexpr bool has_batch = false;

  explicit OfMap(uint32_t flows) { map_.reserve(flows); }
  static Key key(uint32_t n) { return key_of(n); }
  const Flow* find(const Key& key) const {
    const auto at = map_.find(key);
    return at == map_.end() ? nullptr : &at->second;
  }
  bool add(const Key& key) { return map_.try_emplace(key, Flow{}).second; }
  bool remove(const Key& key) { return map_.erase(key) == 1; }

 private:
  Map map_;
};

struct Named {
  const char* name;
  std::unique_ptr<Subject> subject;
};

std::vector<Named> subjects(uint32_t flows) {
  std::vector<Named> all;
  all.push_back({"vsnoop", std::make_unique<Measured<OurTable>>(flows)});
  all.push_back({"rte_hash", make_rte_hash(flows)});
#ifdef VSNOOP_HAS_ABSL
  all.push_back({"absl", std::make_unique<Measured<OfMap<absl::flat_hash_map<Key, Flow>>>>(flows)});
#if __has_include(<boost/unordered/unordered_flat_map.hpp>)
  all.push_back(
      {"boost",
       std::make_unique<Measured<OfMap<boost::unordered_flat_map<Key, Flow, absl::Hash<Key>>>>>(
           flows)});
#endif
#endif
  return all;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Of rte_hash's time; 0: none is set.
constexpr double goals[3][columns] = {
    {0.8, 0.8, 0.8, 0.8, 0.8, 0.8},
    {0.5, 0, 0.75, 0.8, 0.8, 1.0},
    {0.5, 0, 0.75, 0.8, 0.8, 1.0},
};
constexpr uint32_t sizes[3] = {1 << 10, 1 << 16, 1 << 20};

int compare(unsigned rounds) {
  int missed = 0;
  for (unsigned size = 0; size < 3; ++size) {
    const uint32_t flows = sizes[size];
    std::vector<Named> all = subjects(flows);
    if (!all[1].subject) {
      fmt::print(stderr,
                 "bench-beside: built without DPDK (libdpdk-dev): nothing to compare with\n");
      return 2;
    }
    const uint32_t operations = std::max(1u << 15, flows / 4);
    std::vector<std::vector<double>> times(all.size() * columns);
    for (unsigned round = 0; round < rounds; ++round)
      for (int column = 0; column < columns; ++column)
        for (size_t i = 0; i < all.size(); ++i)
          times[i * columns + column].push_back(
              all[i].subject->measure(static_cast<Column>(column), operations));
    fmt::print("{} flows\n{:16}", flows, "");
    for (const Named& named : all) fmt::print("{:>12}", named.name + std::string(" ns"));
    for (const Named& named : all)
      if (&named != &all[1]) fmt::print("{:>10}", named.name);
    fmt::print("{:>8}\n", "goal");
    for (int column = 0; column < columns; ++column) {
      fmt::print("{:16}", column_names[column]);
      std::vector<double> of;
      for (size_t i = 0; i < all.size(); ++i) of.push_back(median(times[i * columns + column]));
      for (const double ns : of) ns < 0 ? fmt::print("{:>12}", "-") : fmt::print("{:12.1f}", ns);
      const auto ratio_of = [&](size_t i) {
        std::vector<double> ratios;
        for (unsigned round = 0; round < rounds; ++round)
          ratios.push_back(times[i * columns + column][round] / times[columns + column][round]);
        return median(ratios);
      };
      for (size_t i = 0; i < all.size(); ++i)
        if (i != 1) of[i] < 0 ? fmt::print("{:>10}", "-") : fmt::print("{:10.2f}", ratio_of(i));
      const double goal = goals[size][column];
      if (goal > 0) {
        const double ratio = ratio_of(0);
        const bool failed = ratio > goal * 1.1;
        missed += failed;
        fmt::print("{:8.2f}{}", goal, failed ? "  missed" : ratio > goal ? "  nearly" : "");
      }
      fmt::print("\n");
    }
  }
  if (missed) fmt::print("{} goals missed by more than a tenth\n", missed);
  return missed ? 1 : 0;
}

}  // namespace

}  // namespace beside

int main(int count, char** words) {
  return beside::compare(count > 1 ? static_cast<unsigned>(std::stoul(words[1])) : 15);
}
