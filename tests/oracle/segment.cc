// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/segment.h"

#include <algorithm>
#include <cstring>

namespace vsnoop_oracle {
namespace {

constexpr u16 first_port = 20000;
constexpr u8 protocol_tcp = 6, protocol_icmp = 1;
constexpr u32 quoted = 548;  // bytes of the packet in an ICMP error, as Linux quotes

u32 sum16(const u8* p, size_t n, u32 sum = 0) {
  u64 total = sum;
  for (; n >= 2; p += 2, n -= 2) total += static_cast<u32>(p[0] << 8 | p[1]);
  if (n) total += static_cast<u32>(p[0] << 8);
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return static_cast<u32>(total);
}
void put16(u8* p, u32 v) { p[0] = static_cast<u8>(v >> 8), p[1] = static_cast<u8>(v); }
void put32(u8* p, u32 v) { put16(p, v >> 16), put16(p + 2, v); }
u32 get16(const u8* p) { return static_cast<u32>(p[0] << 8 | p[1]); }
u32 get32(const u8* p) { return get16(p) << 16 | get16(p + 2); }

bool tagged(const Bytes& f) { return get16(&f[12]) == 0x8100; }
u32 ip_at(const Bytes& f) { return tagged(f) ? 18 : 14; }

// Ethernet and IPv4 header before `n` bytes; returns where those begin.
u32 begin_frame(Bytes& f, bool from_peer, u16 vlan, u8 protocol, u8 hops, u32 n) {
  const u32 ip = vlan ? 18 : 14;
  f.resize(ip + 20 + n);
  std::memcpy(f.data(), from_peer ? "\2\0\0\0\0\1\2\0\0\0\0\2" : "\2\0\0\0\0\2\2\0\0\0\0\1", 12);
  if (vlan) put16(&f[12], 0x8100), put16(&f[14], vlan);
  put16(&f[ip - 2], 0x0800);
  u8* p = &f[ip];
  p[0] = 0x45, p[6] = 0x40, p[8] = hops, p[9] = protocol;
  put16(p + 2, 20 + n);
  put32(p + (from_peer ? 16 : 12), 0x0a000001);
  put32(p + (from_peer ? 12 : 16), 0x0a000102);
  put16(p + 10, ~sum16(p, 20) & 0xffff);
  return ip + 20;
}

// Of TCP's header at `tcp`, whatever stands behind it.
u32 connection_at(const u8* tcp, const Bytes& f) {
  const u32 source = get16(tcp);
  const u16 port = static_cast<u16>(source == 80 ? get16(tcp + 2) : source);
  return connection_of(static_cast<u16>(port - first_port),
                       tagged(f) ? static_cast<u16>(get16(&f[14]) & 0xfff) : 0);
}

}  // namespace

Bytes build(const Segment& s, bool from_peer, u32 first) {
  u8 options[60];
  u32 n = 0;
  if (s.mss) put32(options, 0x02040000u | s.mss), n += 4;
  if (s.scale >= 0) put32(options + n, 0x01030300u | static_cast<u32>(s.scale)), n += 4;
  if (s.sack_permitted) put32(options + n, 0x01010402), n += 4;
  if (s.has_ts) {
    put32(options + n, 0x0101080a);
    put32(options + n + 4, s.tsval), put32(options + n + 8, s.tsecr);
    n += 12;
  }
  if (!s.sack.empty()) {
    put32(options + n, 0x01010500u | (2 + 8 * static_cast<u32>(s.sack.size()))), n += 4;
    for (const auto& [left, right] : s.sack)
      put32(options + n, left), put32(options + n + 4, right), n += 8;
  }
  Bytes f;
  const u32 at = begin_frame(f, from_peer, static_cast<u16>(s.connection >> 16), protocol_tcp,
                             s.hops, 20 + n + s.length);
  u8* tcp = &f[at];
  const u16 port = static_cast<u16>(first_port + (s.connection & 0xffff));
  put16(tcp, from_peer ? port : 80), put16(tcp + 2, from_peer ? 80 : port);
  put32(tcp + 4, s.seq), put32(tcp + 8, s.ack);
  tcp[12] = static_cast<u8>((20 + n) / 4 << 4), tcp[13] = s.flags;
  put16(tcp + 14, s.window);
  std::memcpy(tcp + 20, options, n);
  for (u32 i = 0; i < s.length; ++i) tcp[20 + n + i] = byte_at(s.connection, from_peer, first + i);
  const u32 length = static_cast<u32>(f.size()) - at;
  put16(tcp + 16, ~sum16(tcp, length, sum16(tcp - 8, 8) + protocol_tcp + length) & 0xffff);
  return f;
}

Segment parse(const Bytes& f) {
  Segment s;
  const u32 ip = ip_at(f), tcp_at = ip + 20;
  const u8* tcp = &f[tcp_at];
  s.connection = connection_at(tcp, f);
  s.hops = f[ip + 8];
  s.seq = get32(tcp + 4), s.ack = get32(tcp + 8), s.flags = tcp[13];
  s.window = static_cast<u16>(get16(tcp + 14));
  s.data = tcp_at + (tcp[12] >> 4) * 4u;
  s.length = ip + get16(&f[ip + 2]) - s.data;
  for (u32 at = tcp_at + 20; at < s.data;) {
    const u8 kind = f[at];
    if (kind == 1) {
      ++at;
      continue;
    }
    if (kind == 2) s.mss = static_cast<u16>(get16(&f[at + 2]));
    if (kind == 3) s.scale = f[at + 2];
    if (kind == 4) s.sack_permitted = true;
    if (kind == 8) s.has_ts = true, s.tsval = get32(&f[at + 2]), s.tsecr = get32(&f[at + 6]);
    if (kind == 5)
      for (u32 b = at + 2; b + 8 <= at + f[at + 1]; b += 8)
        s.sack.push_back({get32(&f[b]), get32(&f[b + 4])});
    at += f[at + 1];
  }
  return s;
}

bool checksums_right(const Bytes& f) {
  const u32 ip = ip_at(f), begin = ip + 20, end = ip + get16(&f[ip + 2]);
  if (end > f.size() || end < begin + 8 || sum16(&f[ip], 20) != 0xffff) return false;
  const u32 length = end - begin;
  if (f[ip + 9] == protocol_icmp) return sum16(&f[begin], length) == 0xffff;
  return length >= 20 &&
         sum16(&f[begin], length, sum16(&f[ip + 12], 8) + protocol_tcp + length) == 0xffff;
}

Bytes build_too_big(const Bytes& frame, u16 mtu) {
  const u32 ip = ip_at(frame), n = std::min<u32>(quoted, packet_length(frame));
  Bytes f;
  const u32 at =
      begin_frame(f, false, tagged(frame) ? static_cast<u16>(get16(&frame[14]) & 0xfff) : 0,
                  protocol_icmp, 64, 8 + n);
  u8* source = &f[at - 8];
  put32(source, 0x0a0000fe);  // the router's own address
  put16(source - 2, 0);
  put16(source - 2, ~sum16(source - 12, 20) & 0xffff);
  u8* icmp = &f[at];
  icmp[0] = 3, icmp[1] = 4;
  put16(icmp + 6, mtu);
  std::memcpy(icmp + 8, &frame[ip], n);
  put16(icmp + 2, ~sum16(icmp, 8 + n) & 0xffff);
  return f;
}

std::optional<TooBig> too_big(const Bytes& f) {
  const u32 ip = ip_at(f);
  if (f[ip + 9] != protocol_icmp) return std::nullopt;
  const u8* icmp = &f[ip + 20];
  const u8* tcp = icmp + 28;
  return TooBig{connection_at(tcp, f), get32(tcp + 4), static_cast<u16>(get16(icmp + 6))};
}

u32 packet_length(const Bytes& f) { return get16(&f[ip_at(f) + 2]); }

std::string text(const Segment& s, u32 own_isn, u32 other_isn, u32 own_clock, u32 other_clock) {
  const auto number = [](u32 raw) { return std::to_string(static_cast<int32_t>(raw)); };
  std::string t;
  if (s.has(FIN)) t += 'F';
  if (s.has(SYN)) t += 'S';
  if (s.has(RST)) t += 'R';
  if (s.has(PSH)) t += 'P';
  if (s.has(ACK)) t += '.';
  if (t.empty()) t = "-";
  const u32 seq = s.seq - own_isn;
  t += " " + number(seq) + ":" + number(seq + s.length) + "(" + std::to_string(s.length) + ")";
  if (s.has(ACK)) t += " ack " + number(s.ack - other_isn);
  t += " win " + std::to_string(s.window);
  std::string o;
  const auto add = [&](const std::string& option) { o += (o.empty() ? "" : ",") + option; };
  if (s.mss) add("mss " + std::to_string(s.mss));
  if (s.sack_permitted) add("sackOK");
  if (s.has_ts)
    add("TS val " + number(s.tsval - own_clock) + " ecr " +
        number(s.has(ACK) ? s.tsecr - other_clock : 0));
  if (s.scale >= 0) add("wscale " + std::to_string(s.scale));
  if (!s.sack.empty()) {
    std::string blocks = "sack";
    for (const auto& [left, right] : s.sack)
      blocks += " " + number(left - other_isn) + ":" + number(right - other_isn);
    add(blocks);
  }
  if (!o.empty()) t += " <" + o + ">";
  return t;
}

}  // namespace vsnoop_oracle
