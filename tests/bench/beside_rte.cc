// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// DPDK's rte_hash as a subject: CRC of the CPU, SIMD comparison, two buckets of eight for a key.
#include "tests/bench/beside.h"

#ifdef VSNOOP_HAS_DPDK

#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <unistd.h>

#include <cstdio>
#include <vector>

namespace beside {

namespace {

void start_dpdk() {
  static bool started = false;
  if (started) return;
  started = true;
  // The one thread that it knows may run where the system likes.
  char lcores[32];
  std::snprintf(lcores, sizeof lcores, "0@(0-%ld)", sysconf(_SC_NPROCESSORS_ONLN) - 1);
  std::vector<std::string> words = {"bench",    "--no-huge",      "-m",       "512",  "--no-shconf",
                                    "--no-pci", "--no-telemetry", "--lcores", lcores, "--log-level",
                                    "4"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  if (rte_eal_init(static_cast<int>(arguments.size()), arguments.data()) < 0) std::abort();
}

class RteHash {
 public:
  using Key = beside::Key;
  static constexpr bool has_batch = true;

  // Its buckets are a power of two: half full, as the flow table is.
  explicit RteHash(uint32_t flows)
      : flows_(static_cast<Slot*>(std::aligned_alloc(64, (2 * flows + 1) * sizeof(Slot)))) {
    start_dpdk();
    const std::string name = "flows" + std::to_string(flows);
    rte_hash_parameters parameters = {};
    parameters.name = name.c_str();
    parameters.entries = flows + flows / 8;
    parameters.key_len = sizeof(Key);
    parameters.hash_func = rte_hash_crc;
    parameters.socket_id = SOCKET_ID_ANY;
    hash_ = rte_hash_create(&parameters);
    if (!hash_) std::abort();
    std::memset(flows_, 0, (2 * flows + 1) * sizeof(Slot));
  }
  ~RteHash() {
    rte_hash_free(hash_);
    std::free(flows_);
  }

  static Key key(uint32_t n) { return key_of(n); }
  const Flow* find(const Key& key) const { return at(rte_hash_lookup(hash_, &key)); }
  void find_batch(const Key* keys, const Flow** out) const {
    const void* pointers[batch];
    int32_t positions[batch];
    for (unsigned i = 0; i < batch; ++i) pointers[i] = &keys[i];
    if (rte_hash_lookup_bulk(hash_, pointers, batch, positions) < 0) std::abort();
    for (unsigned i = 0; i < batch; ++i) {
      out[i] = at(positions[i]);
      __builtin_prefetch(out[i]);
      __builtin_prefetch(&out[i]->word[9]);
    }
  }
  bool add(const Key& key) {
    const int32_t position = rte_hash_add_key(hash_, &key);
    if (position < 0) return false;
    flows_[position].flow = Flow{};
    return true;
  }
  bool remove(const Key& key) { return rte_hash_del_key(hash_, &key) >= 0; }

 private:
  struct alignas(64) Slot {
    Flow flow;
  };
  const Flow* at(int32_t position) const { return position < 0 ? nullptr : &flows_[position].flow; }

  rte_hash* hash_;
  Slot* flows_;
};

}  // namespace

std::unique_ptr<Subject> make_rte_hash(uint32_t flows) {
  return std::make_unique<Measured<RteHash>>(flows);
}

}  // namespace beside

#else

namespace beside {
std::unique_ptr<Subject> make_rte_hash(uint32_t) { return nullptr; }
}  // namespace beside

#endif
