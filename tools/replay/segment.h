// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// A second, independent reader of frames. The oracle must not learn from the engine it judges, so
// nothing here comes from snoop-core.

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>

namespace vsnoop::replay {

// IPv6, or IPv4 as ::ffff:a.b.c.d; network byte order.
struct Address {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Address&) const = default;
};

std::string to_text(const Address& address);
// "192.0.2.1:80", "[2001:db8::1]:80"
std::string to_text(const Address& address, uint16_t port);

// ADDR or ADDR/BITS, IPv4 or IPv6.
struct Prefix {
  Address address;
  unsigned bits = 128;  // of the 16 bytes
  bool holds(const Address& other) const;
};
// Throws std::invalid_argument with a sentence.
Prefix parse_prefix(const std::string& text);

enum class Checksum { good, partial, bad, unknown, unread };

constexpr uint8_t fin = 1, syn = 2, rst = 4, psh = 8, ack_flag = 16, urg = 32;

struct Segment {
  enum class Kind { not_ip, not_tcp, tcp };
  Kind kind = Kind::not_ip;
  // not_tcp and tcp
  Address source, destination;
  // tcp; host byte order
  uint16_t source_port = 0, destination_port = 0, window = 0;
  uint32_t seq = 0, ack = 0, payload = 0;  // payload: bytes according to the IP header
  uint8_t flags = 0;
  int8_t shift = -1;  // window scale option; -1: none
  // TCP's, or bad if IPv4's is wrong. unknown: bytes are missing. partial: only the pseudo header
  // is summed up. unread: judge() has not been called.
  Checksum checksum = Checksum::unknown;
  // For judge(): where TCP begins and ends in the frame, the sum of the pseudo header, whether that
  // is what stands in the checksum's place, and whether all bytes are there.
  uint32_t start = 0, end = 0;
  uint16_t pseudo = 0;
  bool looks_partial = false, whole = false;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
  // Sequence space: payload, SYN and FIN.
  uint32_t length() const { return payload + (has(syn) ? 1 : 0) + (has(fin) ? 1 : 0); }
};

// Reads an Ethernet frame (802.1Q and QinQ tags inline) of `wire` bytes. Fragments and segments
// whose ports, numbers or flags cannot be read are not_tcp.
Segment parse_segment(std::span<const uint8_t> frame, uint32_t wire);

// The same without summing up the payload: `checksum` may be unread. Then judge() fills it in.
Segment peek_segment(std::span<const uint8_t> frame, uint32_t wire);
void judge(std::span<const uint8_t> frame, Segment& segment);

}  // namespace vsnoop::replay
