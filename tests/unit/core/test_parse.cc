// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Reading frames: everything that may stand before, in and after a TCP header. Frames are written
// down here byte by byte, and stand in heap blocks of their exact size, so that a sanitizer build
// sees every read past the end.
#define VSNOOP_ONE_UNIT
#include <memory>
#include <random>
#include <vector>

#include "snoop-core/segment.cc"
#include "tests/unit/catch.h"

namespace {

using namespace vsnoop;
using Bytes = std::vector<u8>;

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Bytes macs = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
const Bytes type_v4 = {0x08, 0x00}, type_v6 = {0x86, 0xdd};
const Bytes tag = {0x81, 0x00, 0x20, 0x07}, service_tag = {0x88, 0xa8, 0x00, 0x64};

u32 words(const Bytes& b, u32 sum = 0) {
  for (size_t i = 0; i < b.size(); ++i) {
    sum += i % 2 ? b[i] : b[i] << 8;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

/// 20 bytes and options; SEQ 0x01020304, ACK 0x0a0b0c0d, window 0x1234; checksum 0.
Bytes tcp(const Bytes& options = {}, u8 flags = ACK, u8 offset = 0) {
  const u8 words = offset ? offset : static_cast<u8>(5 + (options.size() + 3) / 4);
  Bytes t = {0x9c,  0x40, 0x00, 0x50, 1, 2, 3, 4, 10, 11, 12, 13, static_cast<u8>(words << 4),
             flags, 0x12, 0x34, 0,    0, 0, 0};
  t = t + options;
  while (t.size() % 4) t.push_back(0);
  return t;
}

Bytes ipv4(const Bytes& rest, const Bytes& options = {}, int total = -1, u16 fragment = 0x4000,
           u8 protocol = 6) {
  const u32 header = 20 + static_cast<u32>(options.size());
  const u32 length = total >= 0 ? static_cast<u32>(total) : header + static_cast<u32>(rest.size());
  Bytes ip = {static_cast<u8>(0x40 | header / 4),
              0,
              static_cast<u8>(length >> 8),
              static_cast<u8>(length),
              0,
              1,
              static_cast<u8>(fragment >> 8),
              static_cast<u8>(fragment),
              64,
              protocol,
              0,
              0,
              10,
              0,
              1,
              1,
              10,
              0,
              0,
              1};
  ip = ip + options;
  const u32 sum = ~words(ip);
  ip[10] = static_cast<u8>(sum >> 8);
  ip[11] = static_cast<u8>(sum);
  return ip + rest;
}

Bytes ipv6(const Bytes& rest, u8 next = 6, int length = -1) {
  const u32 n = length >= 0 ? static_cast<u32>(length) : static_cast<u32>(rest.size());
  Bytes ip = {0x60, 0, 0, 0, static_cast<u8>(n >> 8), static_cast<u8>(n), next, 64};
  Bytes peer(16, 0), guest(16, 0);
  peer[0] = guest[0] = 0xfd;
  peer[15] = 2;
  guest[15] = 1;
  return ip + peer + guest + rest;
}

/// An IPv6 extension header of 8 * units bytes in front of `next`.
Bytes extension(u8 next, u32 units = 1, u8 segments_left = 0) {
  Bytes e(8 * units, 0);
  e[0] = next;
  e[1] = static_cast<u8>(units - 1);
  e[3] = segments_left;
  return e;
}

const Bytes payload = {1, 2, 3, 4, 5};

struct Parsed {
  Reason reason;
  Segment s;
  bool good;
};

/// Parses the first `captured` bytes of the frame, which stand alone in the heap.
Parsed read(const Bytes& frame, size_t captured = SIZE_MAX, u32 wire = 0,
            u8 checksum = VSNOOP_CHECKSUM_VERIFIED) {
  captured = std::min(captured, frame.size());
  const std::unique_ptr<u8[]> exact(new u8[captured]);
  std::copy(frame.begin(), frame.begin() + static_cast<long>(captured), exact.get());
  const vsnoop_frame view = {exact.get(), static_cast<u32>(captured),
                             wire ? wire : static_cast<u32>(frame.size()), 0, checksum};
  Parsed p = {};
  p.reason = parse(view, Direction::from_peer, 3, p.s);
  p.good = p.reason == VSNOOP_REASON_none && checksum_good(view, p.s);
  return p;
}

Bytes with_tcp_checksum(Bytes frame, size_t ip, bool v6) {
  const size_t at = v6 ? ip + 40 : ip + (frame[ip] & 15) * 4u;
  const u32 length = static_cast<u32>(frame.size() - at);
  const size_t from = v6 ? ip + 8 : ip + 12;
  Bytes pseudo(frame.begin() + static_cast<long>(from),
               frame.begin() + static_cast<long>(from + (v6 ? 32 : 8)));
  pseudo = pseudo + Bytes{static_cast<u8>(length >> 24),
                          static_cast<u8>(length >> 16),
                          static_cast<u8>(length >> 8),
                          static_cast<u8>(length),
                          0,
                          0,
                          0,
                          6};
  const u32 sum = ~words(Bytes(frame.begin() + static_cast<long>(at), frame.end()), words(pseudo));
  frame[at + 16] = static_cast<u8>(sum >> 8);
  frame[at + 17] = static_cast<u8>(sum);
  return frame;
}

const Bytes timestamps = {1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9};

}  // namespace

TEST_CASE("parse: a plain IPv4 segment is read field by field", "[parse]") {
  const Parsed p = read(macs + type_v4 + ipv4(tcp(timestamps, ACK | PSH) + payload));
  REQUIRE(p.reason == VSNOOP_REASON_none);
  CHECK(p.s.seq.raw == 0x01020304);
  CHECK(p.s.ack.raw == 0x0a0b0c0d);
  CHECK(p.s.window == 0x1234);
  CHECK(p.s.flags == (ACK | PSH));
  CHECK(p.s.payload == 5);
  CHECK(p.s.end().raw == 0x01020309);
  CHECK(p.s.tsval == 5);
  CHECK(p.s.tsecr == 9);
  CHECK(p.s.ip_offset == 14);
  CHECK(p.s.tcp_offset == 34);
  CHECK(p.s.data_offset == 66);
  CHECK(p.s.key.local_port() == 80);
  CHECK(p.s.key.remote_port() == 40000);
  CHECK(p.s.key.is_v4());
}

TEST_CASE("parse: both directions of a connection have the same key", "[parse]") {
  Bytes reply = ipv4(tcp());
  std::swap_ranges(reply.begin() + 12, reply.begin() + 16, reply.begin() + 16);
  std::swap_ranges(reply.begin() + 20, reply.begin() + 22, reply.begin() + 22);
  const Bytes there = macs + type_v4 + ipv4(tcp()), back = macs + type_v4 + reply;
  Segment a, b;
  const vsnoop_frame x = {there.data(), static_cast<u32>(there.size()),
                          static_cast<u32>(there.size()), 0, VSNOOP_CHECKSUM_VERIFIED};
  const vsnoop_frame y = {back.data(), static_cast<u32>(back.size()), static_cast<u32>(back.size()),
                          0, VSNOOP_CHECKSUM_VERIFIED};
  REQUIRE(parse(x, Direction::from_peer, 3, a) == VSNOOP_REASON_none);
  REQUIRE(parse(y, Direction::from_guest, 3, b) == VSNOOP_REASON_none);
  CHECK(same_flow(a.key, b.key));
  REQUIRE(parse(y, Direction::from_guest, 4, b) == VSNOOP_REASON_none);
  CHECK_FALSE(same_flow(a.key, b.key));  // another guest with the same addresses
}

TEST_CASE("parse: one VLAN tag and two are stepped over, three are not IP", "[parse]") {
  const Bytes ip = type_v4 + ipv4(tcp() + payload);
  CHECK(read(macs + tag + ip).s.ip_offset == 18);
  CHECK(read(macs + tag + ip).s.payload == 5);
  CHECK(read(macs + service_tag + tag + ip).s.ip_offset == 22);
  CHECK(read(macs + service_tag + tag + ip).reason == VSNOOP_REASON_none);
  CHECK(read(macs + service_tag + tag + tag + ip).reason == VSNOOP_REASON_not_ip);
}

TEST_CASE("parse: other protocols are named", "[parse]") {
  CHECK(read(macs + Bytes{0x08, 0x06} + Bytes(46, 0)).reason == VSNOOP_REASON_not_ip);
  CHECK(read(macs + type_v4 + ipv4(tcp(), {}, -1, 0x4000, 17)).reason == VSNOOP_REASON_not_tcp);
  CHECK(read(macs + type_v6 + ipv6(tcp(), 58)).reason == VSNOOP_REASON_not_tcp);
  CHECK(read(macs + type_v6 + ipv6(tcp(), 51)).reason == VSNOOP_REASON_not_tcp);  // AH
  CHECK(read(macs + type_v6 + ipv6(tcp(), 59)).reason == VSNOOP_REASON_not_tcp);  // none
  CHECK(read(macs + type_v4 + ipv6(tcp())).reason == VSNOOP_REASON_not_ip);  // version 6 as IPv4
  CHECK(read(macs + type_v6 + ipv4(tcp())).reason == VSNOOP_REASON_not_ip);
}

TEST_CASE("parse: IPv4 options are stepped over", "[parse]") {
  for (u32 bytes = 4; bytes <= 40; bytes += 4) {
    const Parsed p = read(macs + type_v4 + ipv4(tcp() + payload, Bytes(bytes, 1)));
    REQUIRE(p.reason == VSNOOP_REASON_none);
    CHECK(p.s.tcp_offset == 34 + bytes);
    CHECK(p.s.payload == 5);
  }
}

TEST_CASE("parse: a wrong IPv4 header is refused", "[parse]") {
  Bytes frame = macs + type_v4 + ipv4(tcp() + payload);
  frame[14 + 8] ^= 1;  // TTL: header checksum is wrong
  CHECK(read(frame).reason == VSNOOP_REASON_bad_checksum);
  frame[14 + 8] ^= 1;
  frame[14] = 0x44;  // 16 bytes of header
  CHECK(read(frame).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, 46)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, 39)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, 19)).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: link padding is no payload", "[parse]") {
  const Parsed p = read(macs + type_v4 + ipv4(tcp()) + Bytes(6, 0));
  REQUIRE(p.reason == VSNOOP_REASON_none);
  CHECK(p.s.payload == 0);
  CHECK(read(macs + type_v6 + ipv6(tcp(), 6, 20) + Bytes(9, 0)).s.payload == 0);
}

TEST_CASE("P10: IP fragments have no TCP header to speak of", "[P10][parse]") {
  for (u16 field : {0x2000, 0x0001, 0x2001, 0x1fff, 0x6000})
    CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, -1, field)).reason ==
          VSNOOP_REASON_fragment);
  for (u16 field : {0x0000, 0x4000, 0x8000})  // none, DF, and the bit that must be zero
    CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, -1, field)).reason == VSNOOP_REASON_none);
  CHECK(read(macs + type_v6 + ipv6(extension(6) + tcp() + payload, 44)).reason ==
        VSNOOP_REASON_fragment);
}

TEST_CASE("parse: IPv6 extension headers are stepped over", "[parse]") {
  const Bytes rest = tcp(timestamps) + payload;
  const auto chain = [&](const Bytes& extensions, u8 first) {
    return read(macs + type_v6 + ipv6(extensions + rest, first));
  };
  CHECK(chain({}, 6).s.tcp_offset == 54);
  CHECK(chain(extension(6), 0).s.tcp_offset == 62);
  CHECK(chain(extension(6, 3), 60).s.tcp_offset == 54 + 24);
  CHECK(chain(extension(6), 43).s.payload == 5);
  CHECK(chain(extension(43) + extension(60, 2) + extension(6), 0).s.tcp_offset == 54 + 32);
  CHECK(chain(extension(6, 53), 0).s.payload == 5);
  CHECK(chain(extension(6, 54), 0).reason == VSNOOP_REASON_malformed);  // headers of > 512 bytes
  Bytes eight, nine;
  for (int i = 0; i < 8; ++i) eight = eight + extension(i == 7 ? 6 : 60);
  for (int i = 0; i < 9; ++i) nine = nine + extension(i == 8 ? 6 : 60);
  CHECK(chain(eight, 60).reason == VSNOOP_REASON_none);
  CHECK(chain(nine, 60).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: a routing header that is not used up hides the real destination", "[parse]") {
  CHECK(read(macs + type_v6 + ipv6(extension(6, 1, 1) + tcp() + payload, 43)).reason ==
        VSNOOP_REASON_malformed);
}

TEST_CASE("parse: an extension header that runs over the packet is malformed", "[parse]") {
  Bytes overlong = extension(6);
  overlong[1] = 200;
  CHECK(read(macs + type_v6 + ipv6(overlong + tcp() + payload, 0)).reason ==
        VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v6 + ipv6(tcp() + payload, 6, 26)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v6 + ipv6(tcp() + payload, 6, 19)).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: mapped IPv4 addresses in IPv6 are not taken for IPv4", "[parse]") {
  Bytes frame = macs + type_v6 + ipv6(tcp() + payload);
  for (size_t at : {22u, 38u}) {
    std::fill_n(frame.begin() + static_cast<long>(at), 10, u8(0));
    std::fill_n(frame.begin() + static_cast<long>(at) + 10, 2, u8(0xff));
  }
  CHECK(read(frame).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: a super-frame beyond 64 KiB has an IP length of 0 (BIG TCP)", "[parse]") {
  const u32 data = 100000;
  const Bytes v4 = macs + type_v4 + ipv4(tcp(timestamps), {}, 0);
  const Bytes v6 = macs + type_v6 + ipv6(tcp(timestamps), 6, 0);
  CHECK(read(v4, SIZE_MAX, static_cast<u32>(v4.size()) + data).s.payload == data);
  CHECK(read(v6, SIZE_MAX, static_cast<u32>(v6.size()) + data).s.payload == data);
}

TEST_CASE("parse: an IP length of 0 in a frame that is not so long is malformed", "[parse]") {
  CHECK(read(macs + type_v4 + ipv4(tcp() + payload, {}, 0)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v6 + ipv6(tcp() + payload, 6, 0)).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: a frame cut at any byte is never read past its end", "[parse]") {
  const Bytes options = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 5, 0, 0, 0, 9, 1, 3, 3, 7};
  const Bytes frames[] = {
      macs + type_v4 + ipv4(tcp(options, SYN) + payload, Bytes(8, 1)),
      macs + service_tag + tag + type_v4 + ipv4(tcp(timestamps) + payload),
      macs + type_v6 +
          ipv6(extension(43, 2) + extension(60) + extension(6) + tcp(options) + payload, 0),
      macs + type_v6 + ipv6(tcp(Bytes{1, 1, 5, 10, 1, 2, 3, 4, 5, 6, 7, 8}) + payload),
  };
  for (const Bytes& frame : frames) {
    REQUIRE(read(frame).reason == VSNOOP_REASON_none);
    const size_t headers = frame.size() - payload.size();
    for (size_t cut = 0; cut < frame.size(); ++cut) {
      const Parsed p = read(frame, cut, 0, VSNOOP_CHECKSUM_UNKNOWN);
      INFO("cut at " << cut << " of " << frame.size());
      if (cut >= headers)
        CHECK(p.reason == VSNOOP_REASON_none);
      else
        CHECK(p.reason != VSNOOP_REASON_none);
      CHECK_FALSE(p.good);  // the checksum is out of reach
      if (cut >= 22 && cut < headers)
        CHECK((p.reason == VSNOOP_REASON_truncated || p.reason == VSNOOP_REASON_not_ip));
    }
  }
}

TEST_CASE("parse: random bytes behind a right Ethernet header are never read past", "[parse]") {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    const bool v6 = random() & 1;
    Bytes frame = macs + (random() & 7 ? Bytes() : tag) + (v6 ? type_v6 : type_v4);
    const size_t ip = frame.size();
    frame.resize(ip + random() % 120);
    for (size_t at = ip; at < frame.size(); ++at) frame[at] = static_cast<u8>(random());
    if (frame.size() > ip) frame[ip] = static_cast<u8>(v6 ? 0x60 : 0x45 + (random() & 3));
    if (frame.size() > ip + 9) frame[ip + (v6 ? 6 : 9)] = random() & 1 ? 6 : 0;
    if (frame.size() > ip + 5) {
      frame[ip + (v6 ? 4 : 2)] = 0;
      frame[ip + (v6 ? 5 : 3)] = static_cast<u8>(random() % 128);
    }
    if (!v6 && frame.size() > ip + 20) {  // so that more than one in 65536 gets further
      frame[ip] = 0x45;
      frame[ip + 6] = frame[ip + 7] = frame[ip + 10] = frame[ip + 11] = 0;
      const u32 sum = ~words(
          Bytes(frame.begin() + static_cast<long>(ip), frame.begin() + static_cast<long>(ip) + 20));
      frame[ip + 10] = static_cast<u8>(sum >> 8);
      frame[ip + 11] = static_cast<u8>(sum);
    }
    const Parsed p = read(frame, SIZE_MAX, static_cast<u32>(frame.size() + random() % 64),
                          VSNOOP_CHECKSUM_UNKNOWN);
    if (p.reason == VSNOOP_REASON_none) {
      CHECK(p.s.data_offset <= frame.size());
      CHECK(p.s.sack_blocks <= 4);
    }
  }
}

TEST_CASE("parse: a TCP header whose offset lies is malformed", "[parse]") {
  CHECK(read(macs + type_v4 + ipv4(tcp({}, ACK, 4) + payload)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v4 + ipv4(tcp({}, ACK, 7) + payload)).reason == VSNOOP_REASON_malformed);
  CHECK(read(macs + type_v4 + ipv4(tcp({}, ACK, 15) + payload)).reason == VSNOOP_REASON_malformed);
}

TEST_CASE("parse: malformed option lists are malformed", "[parse]") {
  const auto reason = [](const Bytes& options) {
    return read(macs + type_v4 + ipv4(tcp(options) + payload)).reason;
  };
  CHECK(reason({1, 1, 1, 8}) == VSNOOP_REASON_malformed);   // no length
  CHECK(reason({8, 0, 0, 0}) == VSNOOP_REASON_malformed);   // length 0
  CHECK(reason({8, 1, 0, 0}) == VSNOOP_REASON_malformed);   // length 1
  CHECK(reason({1, 1, 8, 10}) == VSNOOP_REASON_malformed);  // runs over the end
  CHECK(reason({254, 5, 0, 0}) == VSNOOP_REASON_malformed);
  CHECK(reason({1, 1, 1, 1}) == VSNOOP_REASON_none);
  CHECK(reason({0, 8, 200, 7}) == VSNOOP_REASON_none);  // nothing counts behind the end of list
}

TEST_CASE("parse: what an option says counts only in its right length and once", "[parse]") {
  const auto with = [](const Bytes& options) {
    return read(macs + type_v4 + ipv4(tcp(options, SYN) + payload)).s;
  };
  CHECK(with({2, 4, 5, 0xb4}).mss == 1460);
  CHECK(with({}).mss == 536);
  CHECK(with({2, 3, 5, 0}).odd_option);
  CHECK(with({3, 3, 7, 0}).scale == 7);
  CHECK(with({3, 3, 14, 0}).scale == 14);
  CHECK(with({3, 3, 15, 0}).scale == 14);  // RFC 7323 2.3
  CHECK(with({3, 3, 255, 0}).scale == 14);
  CHECK_FALSE(with({4, 2, 1, 1}).odd_option);
  CHECK(with({4, 2, 1, 1}).sack_permitted);
  CHECK_FALSE(with(timestamps).odd_option);
  CHECK(
      with(Bytes{8, 10, 0, 0, 0, 1, 0, 0, 0, 0} + Bytes{8, 10, 0, 0, 0, 2, 0, 0, 0, 0}).odd_option);
  CHECK(with({8, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}).odd_option);
  CHECK(with({5, 9, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1}).odd_option);  // no whole block
}

TEST_CASE("parse: one to four SACK blocks are found", "[parse]") {
  for (u8 blocks = 1; blocks <= 4; ++blocks) {
    Bytes options = Bytes{1, 1, 5, static_cast<u8>(2 + 8 * blocks)} + Bytes(8u * blocks, 0x11);
    const Parsed p = read(macs + type_v4 + ipv4(tcp(options) + payload));
    REQUIRE(p.reason == VSNOOP_REASON_none);
    CHECK(p.s.sack_blocks == blocks);
    CHECK(p.s.sack_offset == 34 + 20 + 4);
    CHECK_FALSE(p.s.odd_option);
  }
}

TEST_CASE("P12: options with a meaning of their own are odd", "[P12][parse]") {
  const u8 kinds[] = {6, 9, 14, 19, 25, 28, 29, 30, 34, 69, 172, 174, 253, 254};
  for (u8 kind : kinds) {
    const Parsed p = read(macs + type_v4 + ipv4(tcp({kind, 4, 0, 0}) + payload));
    INFO("option " << int(kind));
    CHECK(p.reason == VSNOOP_REASON_none);
    CHECK(p.s.odd_option);
  }
}

TEST_CASE("P10: checksums are verified when nobody has, and only if all bytes are there",
          "[P10][parse]") {
  for (const bool v6 : {false, true}) {
    for (const Bytes& data : {Bytes{}, Bytes{7}, payload, Bytes(1000, 0xa7)}) {
      Bytes frame = macs + (v6 ? type_v6 + ipv6(tcp(timestamps) + data)
                               : type_v4 + ipv4(tcp(timestamps) + data));
      frame = with_tcp_checksum(frame, 14, v6);
      CHECK(read(frame, SIZE_MAX, 0, VSNOOP_CHECKSUM_UNKNOWN).good);
      CHECK(read(frame, SIZE_MAX, 0, VSNOOP_CHECKSUM_UNKNOWN).s.checksum ==
            VSNOOP_CHECKSUM_VERIFIED);
      // Link padding does not count.
      CHECK(read(frame + Bytes(3, 0xee), SIZE_MAX, 0, VSNOOP_CHECKSUM_UNKNOWN).good);
      Bytes wrong = frame;
      wrong.back() ^= 0x40;
      CHECK(read(wrong, SIZE_MAX, 0, VSNOOP_CHECKSUM_UNKNOWN).s.checksum == VSNOOP_CHECKSUM_BAD);
      CHECK(read(wrong, SIZE_MAX, 0, VSNOOP_CHECKSUM_VERIFIED).good);  // the host knows better
      CHECK(read(wrong, SIZE_MAX, 0, VSNOOP_CHECKSUM_PARTIAL).good);   // not filled in yet
      CHECK_FALSE(read(frame, SIZE_MAX, 0, VSNOOP_CHECKSUM_BAD).good);
      if (data.empty()) continue;
      const Parsed cut = read(frame, frame.size() - 1, 0, VSNOOP_CHECKSUM_UNKNOWN);
      CHECK_FALSE(cut.good);
      CHECK(cut.s.checksum == VSNOOP_CHECKSUM_UNKNOWN);
      CHECK(read(frame, frame.size() - 1, 0, VSNOOP_CHECKSUM_VERIFIED).good);
    }
  }
}
