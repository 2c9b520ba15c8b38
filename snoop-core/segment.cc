// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "snoop-core/segment.h"

#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

constexpr u32 ethernet_header = 14;
constexpr u32 vlan_tag = 4;
constexpr unsigned max_vlan_tags = 2;  // 802.1Q, QinQ
constexpr u32 ipv4_header = 20;
constexpr u32 ipv6_header = 40;
constexpr unsigned max_extension_headers = 8;
constexpr u32 max_headers = 512;  // of a frame; the decision log keeps no more

constexpr u8 protocol_tcp = 6;

bool is_vlan(u16 type) { return type == 0x8100 || type == 0x88a8 || type == 0x9100; }

// What a tag adds to the key: its VLAN and which kind of tag it is, for each kind numbers its own
// VLANs. Priority is no part of it, and number 0 means no VLAN at all (802.1Q 9.6).
constexpr u32 vlan_of(u16 type, u16 tag) {
  const u32 number = tag & 0xfff;
  const u32 kind = type == 0x8100 ? 0 : type == 0x88a8 ? 1 : 2;
  return number ? kind << 12 | number : 0;
}

// What the IP layer says about the segment: where it starts and ends (offsets in the frame).
struct Span {
  u32 begin;
  u32 end;
};

Reason parse_ipv4(const vsnoop_frame& frame, Segment& segment, Span& span) {
  const u32 offset = segment.ip_offset;
  if (frame.captured < offset + ipv4_header) return VSNOOP_REASON_truncated;
  const u8* ip = frame.data + offset;
  const u32 header = (ip[0] & 0x0fu) * 4;
  const u32 total = load16(ip + 2);
  if (header < ipv4_header) return VSNOOP_REASON_malformed;
  if (ip[9] != protocol_tcp) return VSNOOP_REASON_not_tcp;
  if (frame.captured < offset + header) return VSNOOP_REASON_truncated;
  // A GSO super-frame of 64 KiB and more has a total length of 0 (BIG TCP).
  if (!total && frame.wire <= offset + 0xffff) return VSNOOP_REASON_malformed;
  span = {offset + header, total ? offset + total : frame.wire};
  if (span.end > frame.wire || span.end < span.begin) return VSNOOP_REASON_malformed;
  if (load16(ip + 6) & 0x3fff) return VSNOOP_REASON_fragment;
  const u64 sum = VSNOOP_LIKELY(header == ipv4_header) ? sum_words32<5>(ip) : sum_bytes(ip, header);
  if (fold(sum) != 0xffff) return VSNOOP_REASON_bad_checksum;
  return VSNOOP_REASON_none;
}

// RFC 8200 4.1: hop-by-hop (0), routing (43), destination options (60) and an atomic fragment
// (44, RFC 6946) may stand before TCP.
Reason parse_ipv6(const vsnoop_frame& frame, Segment& segment, Span& span) {
  const u32 offset = segment.ip_offset;
  if (frame.captured < offset + ipv6_header) return VSNOOP_REASON_truncated;
  const u8* ip = frame.data + offset;
  const u32 length = load16(ip + 4);
  if (!length && frame.wire <= offset + ipv6_header + 0xffff) return VSNOOP_REASON_malformed;
  span = {offset + ipv6_header, length ? offset + ipv6_header + length : frame.wire};
  if (span.end > frame.wire) return VSNOOP_REASON_malformed;
  u8 next = ip[6];
  for (unsigned i = 0; next != protocol_tcp; ++i) {
    if (next != 0 && next != 43 && next != 44 && next != 60) return VSNOOP_REASON_not_tcp;
    if (i == max_extension_headers) return VSNOOP_REASON_malformed;
    if (frame.captured < span.begin + 8) return VSNOOP_REASON_truncated;
    const u8* extension = frame.data + span.begin;
    // A fragment has no TCP header to speak of; an atomic one is rare enough to leave alone too.
    if (next == 44) return VSNOOP_REASON_fragment;
    // A routing header with segments left: the destination address is not the final one.
    if (next == 43 && extension[3] != 0) return VSNOOP_REASON_malformed;
    span.begin += 8 + extension[1] * 8u;
    if (span.begin > span.end) return VSNOOP_REASON_malformed;
    next = extension[0];
  }
  return VSNOOP_REASON_none;
}

// RFC 9293 3.1: options up to the data offset. A list that runs over its end is malformed.
bool parse_options(const u8* frame, u32 at, u32 end, Segment& segment) {
  segment.ts_offset = segment.sack_offset = 0;
  segment.sack_blocks = 0;
  segment.odd_option = segment.has_scale = segment.sack_permitted = false;
  segment.scale = 0;
  segment.mss = 536;
  // The usual layout of established connections: NOP, NOP, timestamps and nothing else.
  if (end - at == 12 && load32(frame + at) == 0x0101080a) {
    segment.ts_offset = static_cast<u16>(at + 4);
    return true;
  }
  while (at < end) {
    const u8 kind = frame[at];
    if (kind == 0) break;
    if (kind == 1) {
      ++at;
      continue;
    }
    if (end - at < 2) return false;
    const u32 length = frame[at + 1];
    if (length < 2 || length > end - at) return false;
    const u32 body = at + 2;
    if (kind == 2 && length == 4) {
      segment.mss = load16(frame + body);
    } else if (kind == 3 && length == 3) {
      segment.has_scale = true;
      segment.scale = frame[body] < 14 ? frame[body] : 14;
    } else if (kind == 4 && length == 2) {
      segment.sack_permitted = true;
    } else if (kind == 5 && length >= 10 && length <= 34 && (length - 2) % 8 == 0 &&
               !segment.sack_offset) {
      segment.sack_offset = static_cast<u16>(body);
      segment.sack_blocks = static_cast<u8>((length - 2) / 8);
    } else if (kind == 8 && length == 10 && !segment.ts_offset) {
      segment.ts_offset = static_cast<u16>(body);
    } else {
      segment.odd_option = true;
    }
    at += length;
  }
  return true;
}

u64 pseudo_header_sum(const u8* frame, const Segment& segment, u32 tcp_length) {
  const u8* ip = frame + segment.ip_offset;
  const u64 addresses = segment.version == 4 ? sum_bytes(ip + 12, 8) : sum_bytes(ip + 8, 32);
  u8 rest[8];
  store32(rest, tcp_length);
  store32(rest + 4, protocol_tcp);
  return addresses + sum_bytes(rest, 8);
}

// The Ethernet header and what tags follow; `offset` is where they end.
VSNOOP_ALWAYS_INLINE bool parse_link(const vsnoop_frame& frame, u32& offset, u16& type, u32& vlan) {
  if (frame.captured < ethernet_header) return false;
  type = load16(frame.data + 12);
  for (unsigned tags = 0; is_vlan(type) && tags < max_vlan_tags; ++tags) {
    if (frame.captured < offset + vlan_tag) return false;
    if (const u32 own = vlan_of(type, load16(frame.data + offset))) vlan = vlan << 16 | own;
    type = load16(frame.data + offset + 2);
    offset += vlan_tag;
  }
  return true;
}

}  // namespace

Reason parse(const vsnoop_frame& frame, Direction direction, u16 domain, Segment& segment) {
  segment.version = 0;
  u32 offset = ethernet_header, vlan = 0;
  u16 type;
  if (!parse_link(frame, offset, type, vlan)) return VSNOOP_REASON_truncated;
  segment.ip_offset = static_cast<u16>(offset);
  segment.key.vlan = vlan;

  Span span;
  Reason reason;
  if (type == 0x0800 && frame.captured > offset && frame.data[offset] >> 4 == 4) {
    segment.version = 4;
    reason = parse_ipv4(frame, segment, span);
  } else if (type == 0x86dd && frame.captured > offset && frame.data[offset] >> 4 == 6) {
    segment.version = 6;
    reason = parse_ipv6(frame, segment, span);
  } else {
    return VSNOOP_REASON_not_ip;
  }
  if (reason != VSNOOP_REASON_none) return reason;

  if (span.end - span.begin < tcp_header) return VSNOOP_REASON_malformed;
  if (frame.captured < span.begin + tcp_header) return VSNOOP_REASON_truncated;
  const u8* tcp = frame.data + span.begin;
  const u32 data = span.begin + (tcp[12] >> 4) * 4u;
  if (data < span.begin + tcp_header || data > span.end) return VSNOOP_REASON_malformed;
  if (frame.captured < data) return VSNOOP_REASON_truncated;
  if (data > max_headers) return VSNOOP_REASON_malformed;

  segment.tcp_offset = static_cast<u16>(span.begin);
  segment.data_offset = static_cast<u16>(data);
  segment.payload = span.end - data;
  segment.seq = Seq(load32(tcp + 4));
  segment.ack = Seq(load32(tcp + 8));
  segment.flags = tcp[13];
  segment.accurate_ecn = tcp[12] & 1;
  segment.window = load16(tcp + 14);
  segment.checksum = frame.checksum;
  if (!parse_options(frame.data, span.begin + tcp_header, data, segment))
    return VSNOOP_REASON_malformed;
  const u8* ts = segment.has_ts() ? frame.data + segment.ts_offset : nullptr;
  segment.tsval = ts ? load32(ts) : 0;
  segment.tsecr = ts ? load32(ts + 4) : 0;

  const u8* ip = frame.data + segment.ip_offset;
  const bool from_peer = direction == Direction::from_peer;
  const u16 source = load16(tcp), destination = load16(tcp + 2);
  const u16 local = from_peer ? destination : source;
  const u16 remote = from_peer ? source : destination;
  if (segment.version == 4) {
    segment.key = from_peer ? FlowKey::v4(ip + 16, ip + 12, local, remote, domain, vlan)
                            : FlowKey::v4(ip + 12, ip + 16, local, remote, domain, vlan);
  } else {
    segment.key = from_peer ? FlowKey::v6(ip + 24, ip + 8, local, remote, domain, vlan)
                            : FlowKey::v6(ip + 8, ip + 24, local, remote, domain, vlan);
    // Mapped addresses belong on no wire (RFC 4291 2.5.5.2) and would be taken for IPv4.
    if (segment.key.is_v4()) return VSNOOP_REASON_malformed;
  }
  return VSNOOP_REASON_none;
}

bool checksum_good(const vsnoop_frame& frame, Segment& segment) {
  if (segment.checksum == VSNOOP_CHECKSUM_UNKNOWN) {
    const u32 length = segment.data_offset - segment.tcp_offset + segment.payload;
    if (frame.captured < segment.tcp_offset + length) return false;
    const u64 sum = pseudo_header_sum(frame.data, segment, length) +
                    sum_bytes(frame.data + segment.tcp_offset, length);
    segment.checksum = fold(sum) == 0xffff ? VSNOOP_CHECKSUM_VERIFIED : VSNOOP_CHECKSUM_BAD;
  }
  return segment.checksum != VSNOOP_CHECKSUM_BAD;
}

VSNOOP_END
