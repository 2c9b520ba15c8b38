// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A TCP segment as it stands in a frame. Reads headers only (and the payload if it has to verify
// a checksum); never reads past `captured`; knows no flows.
#pragma once

#include "flowtable/flow_key.h"
#include "snoop-core/seq.h"
#include "snoop-core/vsnoop.h"

VSNOOP_BEGIN

using Reason = u8;  // enum vsnoop_reason

constexpr u32 tcp_header = 20;  // without options

enum TcpFlag : u8 { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

struct Segment {
  FlowKey key;  // local is the guest
  Seq seq;
  Seq ack;
  u32 payload;  // bytes
  u32 tsval;
  u32 tsecr;
  u16 window;  // as it stands in the header
  u8 flags;
  u8 version;       // 4 or 6
  u16 ip_offset;    // from the frame's first byte; everything before it is the link header
  u16 tcp_offset;   // so is this
  u16 data_offset;  // and this
  u16 ts_offset;    // of the timestamp option's TSval; 0: no such option
  u16 sack_offset;  // of the SACK option's first block; 0: no such option
  u8 sack_blocks;   // 0 .. 4
  u8 checksum;      // enum vsnoop_checksum, never UNKNOWN when parse() verified it
  bool odd_option;  // one outside {EOL, NOP, MSS, WS, SACK-permitted, SACK, TS}
  // on SYN segments
  bool has_scale;
  bool sack_permitted;
  bool accurate_ecn;  // the AE bit (RFC 9768)
  u8 scale;           // <= 14 (RFC 7323 2.3)
  u16 mss;            // 536 if not announced (RFC 9293 3.7.1)

  bool has(u8 flag) const { return flags & flag; }
  bool has_ts() const { return ts_offset != 0; }
  /// Sequence number after the payload (FIN not counted).
  Seq end() const { return seq + payload; }
};

enum class Direction : u8 { from_peer, from_guest };

/// Reads `frame` into `segment`. Returns VSNOOP_REASON_none, or why there is no segment to speak
/// of; then only `version`, `ip_offset` may be set. `domain` goes into the key.
Reason parse(const vsnoop_frame& frame, Direction direction, u16 domain, Segment& segment);

/// Settles a checksum that nobody verified, if all bytes are there; returns whether it is good.
bool checksum_good(const vsnoop_frame& frame, Segment& segment);

VSNOOP_END
