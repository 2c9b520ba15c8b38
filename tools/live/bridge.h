// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The driver domain: moves frames between peer and guest, and does what the engine says.
//
//             (pacer)                      +- custody -+
//   peer port ------> from_peer: engine ---|           |--> guest's ring ==> guest port
//                                          +-----------+     (while its virtual CPU runs)
//   peer port <------ link queue <-- from_guest: engine <== guest port (while it runs)
//             (pacer)            <-- early ACKs
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>

#include "snoop-core/vsnoop.h"
#include "tools/live/frame.h"
#include "tools/live/pacer.h"
#include "tools/live/port.h"
#include "tools/live/ring.h"
#include "tools/live/vcpu.h"
#include "tools/units.h"

namespace vsnoop::live {

struct BridgeConfig {
  vsnoop_guest_config guest{};  ///< policy off: the engine is not called at all
  vsnoop_config engine{};
  uint32_t ring_slots = 256;
  uint64_t rate = 0;           ///< bits per second of the peer's link, each way; 0: no limit
  uint32_t link_queue = 0;     ///< bytes that may wait for the link towards the peer
  uint64_t grace = 0;          ///< ns that a vanished guest interface may take to come back
  uint64_t drain_timeout = 0;  ///< ns
  /// Told in a sentence of what an operator wants to know at once; null: nobody.
  void (*tell)(const std::string& text) = nullptr;
  VcpuConfig vcpu;
};

struct Traffic {
  uint64_t frames = 0, bytes = 0;
  void count(uint32_t length) {
    ++frames;
    bytes += length;
  }
};

struct BridgeCounts {
  Traffic from_peer, to_guest, from_guest, to_peer;
  uint64_t emitted = 0;  ///< frames that vsnoop made itself; also in to_peer or to_guest
  // Frames dropped, by cause.
  uint64_t ring_full = 0, guest_down = 0, peer_down = 0, send_failed = 0, no_buffer = 0;
  uint64_t engine_from_peer = 0, engine_from_guest = 0;
  uint64_t guest_lost = 0, peer_lost = 0;  ///< times that the interface went away
  uint64_t connections_broken = 0;         ///< reset because their promises could not be kept
  uint64_t peak_queue = 0;                 ///< bytes waiting for the link
};

class Bridge {
 public:
  /// The ports must outlive the bridge. Throws std::runtime_error if the engine refuses its
  /// configuration.
  Bridge(const BridgeConfig& config, PortInterface& peer, PortInterface& guest, FramePool& pool,
         uint64_t now);
  Bridge(const Bridge&) = delete;
  Bridge& operator=(const Bridge&) = delete;

  /// One turn: everything that can be done at `now`, at most some 64 frames per port and direction.
  /// Returns whether it did something; if not, wait() is in place.
  bool turn(uint64_t now);
  /// Sleeps until a frame that could be used arrives, a timer is due, `wake` is readable, or
  /// `until` (ns) has come.
  void wait(uint64_t until, int wake);

  /// No new promises from now on; the old ones drain.
  void quiesce(uint64_t now);
  /// Bytes promised and not yet confirmed by the guest.
  uint64_t outstanding() const;
  /// Gives the guest what is in its ring and the peer what waits for the link, whatever virtual CPU
  /// and rate say, and breaks the promises that still stand by resets.
  void finish(uint64_t now);
  /// Bytes whose promise was broken by resets, until now.
  uint64_t broken() const;

  const BridgeCounts& counts() const { return counts_; }
  const struct vsnoop_guest_stats* engine_stats() const;
  uint32_t flows() const;
  uint32_t ring_used() const { return ring_.used(); }
  uint32_t ring_peak() const { return ring_.peak(); }
  uint64_t vcpu_ran(uint64_t now) const { return vcpu_.ran(now); }

 private:
  using Engine = std::remove_pointer_t<decltype(vsnoop_create(nullptr, 0, nullptr))>;

  /// A frame in the guest's ring.
  struct InRing {
    Frame* frame;
    Frame* copy;      // changed headers that go before the payload of `frame`; or null
    bool whole;       // `copy` is the whole changed frame
    bool retained;    // in custody: the engine says when `frame` may be freed
    uint32_t memory;  // ring policy: what the engine charges for it
  };
  struct OnLink {
    Frame* frame;
    uint64_t since;
  };

  void create_engine(uint64_t now);
  static void on_broken(void* self, const struct vsnoop_flow_info* flow, uint32_t bytes,
                        uint8_t reason);
  void tell(const std::string& text) const {
    if (config_.tell) config_.tell(text);
  }
  uint64_t arrival_of(const Packet& packet, uint64_t now) const;
  bool read_peer(uint64_t now);
  void from_peer(Packet& packet, uint64_t now);
  void to_guest(Packet& packet, uint64_t now);
  bool push(Packet& packet, uint32_t memory);
  void feed(uint64_t now);
  bool prepare(const vsnoop_feed& feed, InRing& entry);
  static Outgoing outgoing(const InRing& entry);
  bool deliver(uint64_t now, bool all);
  Sent send_to_guest(const Outgoing& frame, uint64_t now);
  bool read_guest(uint64_t now);
  void from_guest(Packet& packet, uint64_t since, uint64_t now);
  void to_peer(Packet& packet, uint64_t since, uint64_t now);
  Sent send_to_peer(const Outgoing& frame, uint64_t now);
  bool flush_link(uint64_t now, bool all);
  void emit(uint64_t now);
  bool run_timers(uint64_t now);
  void lose_guest(uint64_t now);
  void watch_ports(uint64_t now);
  uint64_t next_event() const;

  BridgeConfig config_;
  PortInterface& peer_;
  PortInterface& guest_;
  FramePool& pool_;
  std::unique_ptr<void, decltype(&std::free)> memory_{nullptr, &std::free};
  Engine* engine_ = nullptr;
  Vcpu vcpu_;
  Pacer link_in_, link_out_;
  GuestRing<InRing> ring_;
  Fifo<OnLink> link_queue_;
  uint64_t link_queue_bytes_ = 0;
  BridgeCounts counts_;

  bool running_ = false;  // the guest's virtual CPU, and its interface is up
  bool guest_up_ = true, peer_up_ = true;
  unsigned told_ = 0;  // broken connections named in this second
  uint64_t told_since_ = 0;
  uint64_t guest_lost_at_ = 0;
  bool stopped_ = false;             // grace is over, the guest's flows were ended
  uint64_t reopen_at_ = 0;           // next attempt to open an interface that is gone
  uint64_t peer_head_due_ = kNever;  // when the link delivers the peer's next frame
  uint64_t peer_head_arrival_ = 0;   // when that frame came to the link; 0: not known yet
  uint64_t link_due_ = kNever;       // when the link takes the next frame
  uint64_t guest_retry_ = 0;         // a port had no room: not before this time
  uint64_t peer_retry_ = 0;
  uint64_t ports_due_ = kNever;
  bool guest_blocked_ = false;  // link queue full: the guest's frames wait in its port
  uint64_t clock_offset_ = 0;   // CLOCK_REALTIME - CLOCK_MONOTONIC
};

/// CLOCK_MONOTONIC in ns.
uint64_t now_ns();

}  // namespace vsnoop::live
