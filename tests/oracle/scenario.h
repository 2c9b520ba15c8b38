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
  kinds
};
const char* name_of(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::stall;
  uint16_t at = 0;    // frames from the peers that came before it (or to the peers, to_peer)
  uint16_t size = 1;  // see FaultKind
  bool operator==(const Fault&) const = default;
};

struct Stream {
  uint32_t to_guest = 0, to_peer = 0;  // bytes
  uint32_t peer_isn = 0, guest_isn = 0;
  uint32_t buffer = 65536;  // of the guest
  uint16_t start_ms = 0;
  uint8_t closing = 0;  // of the peer: see Closing
  bool guest_opens = false, probes_with_data = false;
  bool operator==(const Stream&) const = default;
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
  bool operator==(const Scenario&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Scenario& scenario);

}  // namespace vsnoop_oracle
