// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// When the guest's virtual CPU runs: K virtual CPUs share one physical CPU, round robin, a slice
// each; the K - 1 others are always busy.
//
//   busy  |guest|other|other|guest|other|other|    the guest has work of its own: keeps its slice
//   io    |other|gu|other|other|other|other|gu|    the guest yields when it has nothing to do
//               ^ yields   ^ wakes: waits for the rest of the running slice, then for those that
//                            queue before it
//
// The guest has no priority when it wakes (no boost as in Xen's credit scheduler).
#pragma once

#include <cstdint>

namespace vsnoop::live {

struct VcpuConfig {
  uint32_t vcpus = 1;   ///< K; 1: always runs
  uint64_t slice = 0;   ///< ns, > 0 if vcpus > 1
  bool io = false;      ///< yields when it has nothing to do
  uint64_t linger = 0;  ///< ns without work after which it yields
  uint64_t phase = 0;   ///< ns into the round at the start
};

/// Driven by the caller's clock (ns, monotonic); knows no other.
class Vcpu {
 public:
  Vcpu(const VcpuConfig& config, uint64_t now);

  /// Moves to `now`. `work`: the guest has something to do. Returns whether it runs now.
  bool advance(uint64_t now, bool work);
  bool running() const { return state_ == State::kRunning; }
  /// It would wake if it had work.
  bool asleep() const { return state_ == State::kAsleep; }
  /// When advance() is due next though nothing else happens; UINT64_MAX: never.
  uint64_t next_event() const;
  /// When it came to run last.
  uint64_t running_since() const { return started_; }
  /// Time that the guest has run until `now`.
  uint64_t ran(uint64_t now) const;

 private:
  enum class State { kRunning, kQueued, kAsleep };

  void run_at(uint64_t when);
  void stop_at(uint64_t when, State next);

  VcpuConfig config_;
  State state_ = State::kRunning;
  uint64_t change_ = UINT64_MAX;  // running: end of slice; queued: start of it
  uint64_t others_ = 0;           // asleep: when one of the others began a slice
  uint64_t last_work_ = 0;
  bool idle_ = false;  // it had nothing to do when it was asked last
  uint64_t started_ = 0;
  uint64_t ran_ = 0;
};

}  // namespace vsnoop::live
