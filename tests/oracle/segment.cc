// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/segment.h"

#include <cstring>

namespace vsnoop_oracle {
namespace {

constexpr u32 ip_at = 14, tcp_at = 34;
constexpr u16 first_port = 20000;

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

}  // namespace

u8 byte_at(u32 connection, bool from_peer, u32 n) {
  return static_cast<u8>(n * 167 + (n >> 8) * 29 + connection * 13 + (from_peer ? 91 : 0));
}

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
  Bytes f(tcp_at + 20 + n + s.length);
  std::memcpy(f.data(),
              from_peer ? "\2\0\0\0\0\1\2\0\0\0\0\2\x8\0" : "\2\0\0\0\0\2\2\0\0\0\0\1\x8\0", 14);
  u8* ip = f.data() + ip_at;
  ip[0] = 0x45, ip[8] = 64, ip[9] = 6;
  put16(ip + 2, static_cast<u32>(f.size()) - ip_at);
  put32(ip + (from_peer ? 16 : 12), 0x0a000001);
  put32(ip + (from_peer ? 12 : 16), 0x0a000102);
  put16(ip + 10, ~sum16(ip, 20) & 0xffff);
  u8* tcp = f.data() + tcp_at;
  const u16 port = static_cast<u16>(first_port + s.connection);
  put16(tcp, from_peer ? port : 80), put16(tcp + 2, from_peer ? 80 : port);
  put32(tcp + 4, s.seq), put32(tcp + 8, s.ack);
  tcp[12] = static_cast<u8>((20 + n) / 4 << 4), tcp[13] = s.flags;
  put16(tcp + 14, s.window);
  std::memcpy(tcp + 20, options, n);
  for (u32 i = 0; i < s.length; ++i) tcp[20 + n + i] = byte_at(s.connection, from_peer, first + i);
  const u32 length = static_cast<u32>(f.size()) - tcp_at;
  put16(tcp + 16, ~sum16(tcp, length, sum16(ip + 12, 8) + 6 + length) & 0xffff);
  return f;
}

Segment parse(const Bytes& f) {
  Segment s;
  const u8* tcp = &f[tcp_at];
  const u32 source = get16(tcp);
  s.connection = (source == 80 ? get16(tcp + 2) : source) - first_port;
  s.seq = get32(tcp + 4), s.ack = get32(tcp + 8), s.flags = tcp[13];
  s.window = static_cast<u16>(get16(tcp + 14));
  s.data = tcp_at + (tcp[12] >> 4) * 4u;
  s.length = ip_at + get16(&f[ip_at + 2]) - s.data;
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
  const u32 end = ip_at + get16(&f[ip_at + 2]);
  if (end > f.size() || end < tcp_at + 20 || sum16(&f[ip_at], 20) != 0xffff) return false;
  const u32 length = end - tcp_at;
  return sum16(&f[tcp_at], length, sum16(&f[ip_at + 12], 8) + 6 + length) == 0xffff;
}

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
