// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// From what stands in a capture to an Ethernet frame with an IP packet in it: link types other than
// Ethernet, and what carries IP inside of something else (PPPoE, MPLS, VXLAN, GRE ...).

#include <cstdint>
#include <map>
#include <span>
#include <string>

namespace vsnoop::replay {

struct CapturedFrame;

// What was met on the way to IP, for the report.
struct Findings {
  std::map<std::string, uint64_t> through;  // tunnels that were read through: frames
  std::map<std::string, uint64_t> unread;   // what may hide TCP and why it cannot be read: frames
};

// Whether frames of this link type (DLT_...) can be read at all.
bool can_read_link(int link);
// "Ethernet"; "number 147" if libpcap has no name for it.
std::string link_text(int link);

// Fills in frame.bytes, frame.wire and frame.place from `bytes` of `wire` on a link of this type;
// `interface` tells the interfaces of a capture apart. What is not IP stays as it is, or, on other
// links than Ethernet, becomes an empty frame. May throw nothing.
void read_link(int link, uint32_t interface, std::span<const uint8_t> bytes, uint32_t wire,
               CapturedFrame& frame, Findings& findings);

}  // namespace vsnoop::replay
