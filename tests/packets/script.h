// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Packet scripts: packetdrill's notation without a kernel. What the script's remote end sends (<)
// goes through the engine as the peer's, what its kernel answers (>) as the guest's; the rest of
// packetdrill (system calls, Python, shell) is skipped. Lines of our own:
//
//   vsnoop> PACKET                 vsnoop sends the peer this, and nothing before it
//   vsnoop< PACKET                 ... the guest (a reset)
//   peer sees PACKET | nothing     what became of the guest's last packet
//   guest gets PACKET | nothing    the next that the guest took out of its ring
//   host set NAME VALUE            first of all: budget, flow_budget, total_budget, custodies,
//                                  liveness_us, giveup_us, promise_age_us, timer_floor_us,
//                                  early_sack, auto, ring_policy
//   host manual                    frames enter and leave the ring only when the script says so:
//   host feed | consumed | progress | push | declines | loses ring
//   host discards                  frees frames at the head that the guest has confirmed meanwhile
//   host waits | rests             a frame waits for the ring; none does
//   host quiesce | resume | stop
//
// A script with one line that expects something expects everything: frames of vsnoop that no line
// names are faults. A packet of an expectation need not name window and options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/harness.h"

namespace vsnoop_test {

struct ScriptPacket {
  uint8_t flags = 0;
  uint32_t seq = 0, length = 0;
  std::optional<uint32_t> ack;
  std::optional<uint16_t> window, mss;
  std::optional<std::pair<uint32_t, uint32_t>> ts;
  std::optional<int> wscale;
  bool sackok = false, any_options = false;
  Packet::Blocks sack;
  std::vector<uint8_t> odd_option;
  std::string text;
};

struct ScriptStep {
  enum Kind { peer, guest, vsnoop_to_peer, vsnoop_to_guest, peer_sees, guest_gets, host, corrupt };
  Kind kind;
  unsigned line = 0;
  std::optional<double> at;  // seconds
  bool relative = false;     // ... since the step before
  std::optional<ScriptPacket> packet;
  std::string words;  // host
};

/// Throws std::runtime_error (file, line, what) at one of our own lines that cannot be read; what
/// belongs to packetdrill and cannot be read is skipped.
std::vector<ScriptStep> read_script(const std::string& path);

struct ScriptResult {
  uint64_t promised = 0, kept = 0, broken = 0, open = 0;  // bytes
  unsigned packets = 0, early_acks = 0;
  bool tracked = false;
  std::vector<std::string> faults;  // line, what was expected, what happened
};

ScriptResult play(const std::vector<ScriptStep>& steps);

}  // namespace vsnoop_test
