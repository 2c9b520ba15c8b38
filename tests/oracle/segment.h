// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// TCP segments of the promise oracle as values, and their frames. Written apart from the core and
// from the unit tests' harness, so that a misreading has to be made three times to go unseen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vsnoop_oracle {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using Bytes = std::vector<u8>;
/// [begin, end)
using Range = std::pair<u32, u32>;

enum Flag : u8 { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

/// Signed distance from b to a, modulo 2^32.
inline int32_t distance(u32 a, u32 b) { return static_cast<int32_t>(a - b); }

/// Host byte order; SEQ, ACK and SACK blocks are the raw ones of the wire.
struct Segment {
  u32 seq = 0, ack = 0;
  u16 window = 0;  // as in the header, not scaled
  u8 flags = ACK;
  bool has_ts = false;
  u32 tsval = 0, tsecr = 0;
  std::vector<Range> sack;
  u16 mss = 0;     // 0: none (SYN only)
  int scale = -1;  // < 0: none
  bool sack_permitted = false;
  u32 length = 0;      // of the payload
  u32 data = 0;        // its offset in the frame, when parsed
  u8 hops = 64;        // hop limit
  u32 connection = 0;  // see connection_of()

  bool has(u8 flag) const { return flags & flag; }
};

/// A connection is its number, of which ports are made, and a VLAN: tenants have equal numbers.
inline u32 connection_of(u16 number, u16 vlan) { return static_cast<u32>(vlan) << 16 | number; }

/// Payload byte `n` of a connection, one direction; bytes count from 1, as sequence numbers do.
inline u8 byte_at(u32 connection, bool from_peer, u32 n) {
  return static_cast<u8>(n * 167 + (n >> 8) * 29 + connection * 13 + (connection >> 16) * 57 +
                         (from_peer ? 91 : 0));
}

/// The frame of a segment whose first payload byte is number `first`.
Bytes build(const Segment& segment, bool from_peer, u32 first);
/// The segment of a frame made by build() or by vsnoop.
Segment parse(const Bytes& frame);
/// Of IP, and of TCP or ICMP.
bool checksums_right(const Bytes& frame);

/// ICMP "fragmentation needed" of a router on the guest's side about a peer's frame.
Bytes build_too_big(const Bytes& frame, u16 mtu);
struct TooBig {
  u32 connection, seq;
  u16 mtu;
};
/// What such a frame says; nothing if it is TCP.
std::optional<TooBig> too_big(const Bytes& frame);
/// Length of the IP packet.
u32 packet_length(const Bytes& frame);

/// In packetdrill's notation; sequence numbers relative to the initial ones of the sender and of
/// the receiver, timestamps to their clocks' bases.
std::string text(const Segment& segment, u32 own_isn, u32 other_isn, u32 own_clock,
                 u32 other_clock);

}  // namespace vsnoop_oracle
