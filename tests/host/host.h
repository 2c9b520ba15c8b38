// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The reference host: the least that a host of snoop-core has to do, whole and in the right order.
// Who ports vsnoop to another data path begins here; docs/host.md says why each step is there.
//
// Frames are byte strings, a ring is a queue, time is an argument. A real host has buffers of its
// own in place of `Kept`, a ring that somebody else empties, and a timer.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "snoop-core/vsnoop.h"

namespace vsnoop_host {

using Bytes = std::vector<uint8_t>;

/// A frame in custody: the host's bytes, and the engine's links between them.
struct Kept {
  vsnoop_held held = {};  // first: a pointer to it is a pointer to the frame
  Bytes bytes;
  uint16_t guest = 0;
  bool retained = false;  // until the guest confirms it, not only until it is in the ring
  bool in_ring = false;
};

/// What stands in a guest's ring.
struct InRing {
  Bytes bytes;
  Kept* kept = nullptr;  // the frame in custody that it is a copy of; null: none is
  uint32_t pushed = 0;   // policy ring: what the engine was told it costs
};

class Host {
 public:
  /// Throws std::invalid_argument for a configuration that is out of range.
  Host(const vsnoop_config& config, const vsnoop_guest_config& guest, size_t ring_slots);
  virtual ~Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  /// A frame came from the network for a guest.
  vsnoop_verdict from_peer(uint16_t guest, const Bytes& frame, uint64_t now);
  /// A guest sends a frame.
  vsnoop_verdict from_guest(uint16_t guest, Bytes frame, uint64_t now);
  /// The guest takes the next frame out of its ring. Returns false if there is none.
  bool guest_takes(uint16_t guest, Bytes& frame, uint64_t now);
  /// The ring is gone with what stands in it; the guest will come back with another one.
  void ring_lost(uint16_t guest, uint64_t now);
  /// The guest is gone, or closes: nobody will confirm what was promised. To be called while frames
  /// still pass, for the resets have to leave.
  void guest_gone(uint16_t guest, uint64_t now);
  /// To be called not later than deadline() says.
  void tick(uint64_t now);
  uint64_t deadline() const { return vsnoop_deadline(engine_); }

  vsnoop_engine* engine() { return engine_; }
  std::deque<InRing>& ring(uint16_t guest) { return rings_[guest]; }
  size_t kept() const { return kept_.size(); }

 protected:
  /// A frame for the network.
  virtual void to_peer(uint16_t guest, const Bytes& frame) = 0;
  /// Whether there is memory for a frame, or a slot for one (policy ring).
  virtual bool can_keep(const vsnoop_verdict&) { return true; }
  /// A frame that the engine made is about to go where its `to_guest` says.
  virtual void emitted(const vsnoop_emission&, const Bytes&) {}
  /// A frame of custody is about to enter the ring, as `copy`.
  virtual void fed(const vsnoop_feed&, const Kept&, const Bytes& /*copy*/) {}

  /// The frame that the engine means. It may name only those that it was given and did not return.
  Kept& owned(vsnoop_held* held);
  const auto& all_kept() const { return kept_; }
  void feed(uint16_t guest, uint64_t now);
  void emit(uint64_t now);
  /// Puts a frame that is not in custody into the ring; there may be no room.
  bool push(uint16_t guest, const Bytes& frame, uint32_t cost);

 private:
  void keep(uint16_t guest, const vsnoop_verdict& verdict, const Bytes& frame, uint64_t now);
  void release(vsnoop_held* list);

  std::vector<uint64_t> memory_;  // aligned as the engine wants it, with 8 to spare
  vsnoop_engine* engine_;
  size_t slots_;
  std::vector<std::deque<InRing>> rings_;
  std::unordered_map<vsnoop_held*, std::unique_ptr<Kept>> kept_;
};

}  // namespace vsnoop_host
