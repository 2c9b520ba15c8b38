// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What one run of the promise oracle is about, as plain numbers: nothing in a run is random, so
// the same scenario always comes to the same end, and a failing one can be made smaller.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace vsnoop_oracle {

enum class FaultKind : uint8_t {
  // The network: `size` frames beginning with the at-th towards the guest, or towards the peer.
  lose_to_guest,
  repeat_to_guest,
  delay_to_guest,
  corrupt_to_guest,
  lose_to_peer,
  repeat_to_peer,
  delay_to_peer,
  corrupt_to_peer,
  // The host, when the at-th frame comes from the peers.
  decline,    // has no buffer for `size` frames
  lose_ring,  // the ring goes, and comes back `size` ms later; for good after the grace time
  quiesce,    // for `size` ms
  migrate,    // waits `size` ms for promises to drain, then moves the guest all the same
  // The guest.
  stall,          // its virtual CPU is away for `size` ms
  pause_reading,  // its applications do not read for `size` ms
  shrink,         // its receive buffers shrink to `size` * 64 bytes
  refuse,         // drops the next `size` segments with data
  firewall,       // drops all that carries data for `size` ms
  renege,         // throws away what it has SACKed
  old_ack,        // repeats an ACK from before
  keep_alive,     // sends one
  lie_little,     // acknowledges `size` bytes it does not have
  lie_far,        // acknowledges what the peer never sent
  close,          // its application closes the connection
  abort,          // ... with a reset
  restart,        // forgets everything
  // The peer.
  peer_abort,
  peer_vanishes,
  // One connection, or the guest as a whole. (New kinds stand last: the seeds go on meaning the
  // same.)
  guest_vanishes,  // its end of one connection, without a word
  deaf,            // drops all that it is given for `size` ms
  reborn,          // the peer dies without a word and opens the same tuple again
  ring_gone,       // the ring goes for `size` ms, longer than anybody waits for it
  kinds
};
/// Those that the promise oracle draws: the others need what only the differential one looks at.
constexpr int promise_kinds = static_cast<int>(FaultKind::guest_vanishes);
const char* name_of(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::stall;
  uint16_t at = 0;    // frames from the peers that came before it (or to the peers, to_peer)
  uint16_t size = 1;  // see FaultKind
  bool operator==(const Fault&) const = default;
};

/// A fault whose place is the same in two runs of a scenario, however differently they go on: a
/// time, or a byte of a stream.
struct Event {
  FaultKind kind = FaultKind::stall;
  uint64_t at_us = 0;  // after the beginning
  uint32_t size = 1;   // as in Fault; of the network's: ms, or for lose_to_guest and
                       // corrupt_to_guest how many of the frames with byte `offset` it is for
  uint16_t stream = 0;
  uint32_t offset = 0;
  bool operator==(const Event&) const = default;
};

/// How the peer finds out what was lost.
enum class Sender : uint8_t {
  rack,    // by time, with tail loss probes (RFC 8985), SACK if agreed
  sack,    // by SACK alone (RFC 6675)
  newreno  // by duplicate ACKs and partial ACKs (RFC 6582): it does not offer SACK
};

struct Stream {
  uint32_t to_guest = 0, to_peer = 0;  // bytes
  uint32_t peer_isn = 0, guest_isn = 0;
  uint32_t buffer = 65536;  // of the guest
  uint32_t start_ms = 0;
  uint8_t closing = 0;  // of the peer: see Closing
  bool guest_opens = false, probes_with_data = false;
  Sender sender = Sender::rack;
  bool timestamps = true;             // offered by the peer
  uint32_t rest_at = 0, rest_ms = 0;  // the peer's application has no more bytes for so long
  uint16_t vlan = 0;                  // 0: no tag
  bool operator==(const Stream&) const = default;
};

/// The guest is no end: it forwards to one behind it.
struct Beyond {
  uint16_t mtu = 0;      // of the next link; 0: the guest does not forward
  uint8_t hops = 63;     // hop limit in which its frames arrive: 64 does not tell
  uint32_t kbit_s = 0;   // of the next link; 0: no limit
  uint16_t queue = 100;  // frames that wait for it
  bool operator==(const Beyond&) const = default;
};

struct Scenario {
  std::vector<Stream> streams{1};
  std::vector<Fault> faults;
  bool ts = true, sack = true, early_sack = false, engage_auto = false;
  bool late_reports = false;  // the guest's answer to a frame comes before consumed() is called
  int scale = 7;              // < 0: none
  uint16_t mss = 1448, gro = 1, ring = 64;
  uint16_t rtt_ms = 1, run_ms = 10, wait_ms = 20;  // of the guest's virtual CPU; wait 0: always on
  uint32_t budget = 1 << 20, flow_budget = 0, total_budget = 0;
  uint16_t custodies = 16;
  // Of the differential oracle.
  bool patient =
      false;  // ends give up after a quarter of an hour, as real ones; so does the engine
  std::vector<Event> events;
  Beyond beyond;
  uint32_t reorder_us = 0;                       // of the guest's frames on their way to the host
  uint32_t guest_tick = 1000, peer_tick = 1000;  // us; of the timestamps
  uint32_t guest_clock = 0x7ffffff0, peer_clock = 0xfffffff0;  // at the beginning
  uint32_t flows = 8, idle_s = 300;
  bool peer_asks = true;  // keep-alives
  bool operator==(const Scenario&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Scenario& scenario);

}  // namespace vsnoop_oracle
