// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "snoop-core/segment.h"

VSNOOP_BEGIN

/// An ICMP error that says: cannot be sent on in one piece (RFC 1191, RFC 8201), about a segment.
struct TooBig {
  FlowKey key;      // of the quoted segment; local is the guest's side
  Seq seq;          // its first byte
  u32 mtu;          // of the next hop; 0: not said
  u32 icmp_offset;  // from the frame's first byte
  u32 seq_offset;   // of the quoted segment's sequence number; so is this
};

/// Reads such a frame of a guest's, which parse() has called no TCP. Returns false if it is none.
bool parse_too_big(const vsnoop_frame& frame, const Segment& segment, u16 domain, TooBig& said);

VSNOOP_END
