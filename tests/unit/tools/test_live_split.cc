// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Super-frames taken apart: what comes out is what a device would have sent.
#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tools/live/port.h"
#include "tools/live/split.h"

using namespace vsnoop;
using namespace vsnoop::live;

namespace {

using Bytes = std::vector<uint8_t>;

uint32_t get16(const Bytes& b, size_t at) { return static_cast<uint32_t>(b[at] << 8 | b[at + 1]); }
uint32_t get32(const Bytes& b, size_t at) { return get16(b, at) << 16 | get16(b, at + 2); }
void put16(Bytes& b, size_t at, uint32_t value) {
  b[at] = static_cast<uint8_t>(value >> 8);
  b[at + 1] = static_cast<uint8_t>(value);
}

uint32_t sum(const Bytes& b, size_t from, size_t to, uint64_t total = 0) {
  for (size_t i = from; i < to; i += 2) total += i + 1 < to ? get16(b, i) : b[i] << 8;
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return static_cast<uint32_t>(total);
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Bytes payload(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + (i >> 8));
  return bytes;
}

Bytes ethernet(uint32_t type, const Bytes& inside) {
  Bytes bytes = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 0};
  put16(bytes, 12, type);
  return bytes + inside;
}

Bytes ipv4(uint8_t protocol, const Bytes& inside) {
  Bytes bytes = {0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
  const size_t length = bytes.size() + inside.size();
  put16(bytes, 2, length > 65535 ? 0 : static_cast<uint32_t>(length));
  put16(bytes, 10, ~sum(bytes, 0, 20));
  return bytes + inside;
}

Bytes ipv6(uint8_t protocol, const Bytes& inside) {
  Bytes bytes(40);
  bytes[0] = 0x60;
  bytes[6] = protocol;
  bytes[7] = 64;
  bytes[23] = 1;
  bytes[39] = 2;
  put16(bytes, 4, inside.size() > 65535 ? 0 : static_cast<uint32_t>(inside.size()));
  return bytes + inside;
}

// FIN, PSH, CWR and a timestamp.
Bytes tcp(const Bytes& data) {
  return Bytes{0, 80, 0, 81, 0xff, 0xff, 0xf0, 0,  0, 0, 0, 9, 0x80, 0x99, 1, 0,
               0, 0,  0, 0,  1,    1,    8,    10, 0, 0, 0, 5, 0,    0,    0, 6} +
         data;
}

Bytes udp(uint32_t port, const Bytes& data, bool with_sum = false) {
  Bytes bytes(8);
  put16(bytes, 2, port);
  put16(bytes, 4, static_cast<uint32_t>(8 + data.size()));
  if (with_sum) bytes[7] = 1;
  return bytes + data;
}

Packet packet(Bytes& bytes, uint8_t type, uint16_t size, uint32_t start) {
  Packet p{
      bytes.data(), static_cast<uint32_t>(bytes.size()), VSNOOP_CHECKSUM_PARTIAL, {}, nullptr, 0};
  p.vnet.flags = kVnetNeedsChecksum;
  p.vnet.gso_type = type;
  p.vnet.gso_size = size;
  p.vnet.csum_start = static_cast<uint16_t>(start);
  p.vnet.csum_offset = type == kVnetGsoUdp ? 6 : 16;
  return p;
}

struct Part {
  Bytes bytes;
  VnetHeader vnet;
};

std::vector<Part> parts(const Packet& p) {
  static FramePool pool;
  std::vector<Part> out;
  Splitter splitter;
  if (!splitter.begin(p)) return out;
  while (splitter.more()) {
    Frame* frame = splitter.next(pool);
    REQUIRE(frame);
    out.push_back({Bytes(frame->data(), frame->data() + frame->length), frame->vnet});
    pool.give(frame);
  }
  return out;
}

// The checksum of the transport header at `at`, under the IP header at `ip`, is right.
bool transport_sum_right(const Bytes& b, size_t ip, size_t at, uint8_t protocol) {
  const bool v4 = b[ip] >> 4 == 4;
  const uint64_t pseudo = v4 ? sum(b, ip + 12, ip + 20) : sum(b, ip + 8, ip + 40);
  return sum(b, at, b.size(), pseudo + protocol + (b.size() - at)) == 0xffff;
}

void check_tcp_parts(const std::vector<Part>& all, size_t ip, size_t at, size_t size, size_t mss) {
  const Bytes whole = payload(size);
  REQUIRE(all.size() == (size + mss - 1) / mss);
  for (size_t i = 0; i < all.size(); ++i) {
    const Bytes& b = all[i].bytes;
    CAPTURE(i);
    CHECK(all[i].vnet.gso_type == kVnetNoGso);
    CHECK(all[i].vnet.flags == 0);
    REQUIRE(Bytes(b.begin() + static_cast<long>(at + 32), b.end()) ==
            Bytes(whole.begin() + static_cast<long>(i * mss),
                  whole.begin() + static_cast<long>(std::min(size, (i + 1) * mss))));
    CHECK(get32(b, at + 4) == static_cast<uint32_t>(0xfffff000 + i * mss));
    CHECK((b[at + 13] & 0x80) == (i == 0 ? 0x80 : 0));               // CWR
    CHECK((b[at + 13] & 0x09) == (i + 1 == all.size() ? 0x09 : 0));  // FIN, PSH
    CHECK(transport_sum_right(b, ip, at, 6));
    if (b[ip] >> 4 == 4) {
      CHECK(get16(b, ip + 2) == b.size() - ip);
      CHECK(sum(b, ip, ip + 20) == 0xffff);
      CHECK(get16(b, ip + 4) == 0x1234 + i);
    } else {
      CHECK(get16(b, ip + 4) == b.size() - ip - 40);
    }
  }
}

}  // namespace

TEST_CASE("Splitter: plain TCP and UDP go to the kernel whole, whatever their tags") {
  for (const Bytes& tags :
       {Bytes{}, Bytes{0, 5, 0x81, 0}, Bytes{0, 4, 0x88, 0xa8, 0, 5, 0x81, 0}}) {
    Bytes frame = ethernet(0x0800, ipv4(6, tcp(payload(5000))));
    frame.insert(frame.begin() + 14, tags.begin(), tags.end());
    if (!tags.empty()) {  // the first type moves behind the last tag
      put16(frame, 12, 0x8100);
      put16(frame, 12 + tags.size(), 0x0800);
      if (tags.size() == 8) put16(frame, 16, 0x88a8);
    }
    CHECK(Splitter::kernel_takes(packet(frame, 1, 1448, 34 + static_cast<uint32_t>(tags.size()))));
  }
  Bytes datagrams = ethernet(0x86dd, ipv6(17, udp(443, payload(5000), true)));
  CHECK(Splitter::kernel_takes(packet(datagrams, kVnetGsoUdp, 1200, 54)));
  Bytes odd = ethernet(0x88b5, payload(3000));
  CHECK(Splitter::kernel_takes(packet(odd, 1, 1448, 0)));  // whatever it is: the kernel may judge
}

TEST_CASE("Splitter: TCP in tunnels becomes frames as a wire has them") {
  const Bytes inner4 = ipv4(6, tcp(payload(10000))), inner6 = ipv6(6, tcp(payload(10000)));
  const Bytes vxlan = {8, 0, 0, 0, 0, 0, 42, 0};
  const Bytes geneve = {2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  struct {
    const char* name;
    Bytes frame;
    size_t ip, at;
    size_t outer_udp;  // 0: none
  } cases[] = {
      {"VXLAN", ethernet(0x0800, ipv4(17, udp(4789, vxlan + ethernet(0x0800, inner4)))), 64, 84,
       34},
      {"VXLAN, another port",
       ethernet(0x0800, ipv4(17, udp(999, vxlan + ethernet(0x86dd, inner6)))), 64, 104, 34},
      {"VXLAN with a checksum over IPv6",
       ethernet(0x86dd, ipv6(17, udp(4789, vxlan + ethernet(0x0800, inner4), true))), 84, 104, 54},
      {"GENEVE with options",
       ethernet(0x0800, ipv4(17, udp(6081, geneve + ethernet(0x0800, inner4)))), 72, 92, 34},
      {"foo over UDP", ethernet(0x0800, ipv4(17, udp(5555, inner4))), 42, 62, 34},
      {"GRE", ethernet(0x0800, ipv4(47, Bytes{0, 0, 8, 0} + inner4)), 38, 58, 0},
      {"GRE with key and checksum",
       ethernet(0x0800, ipv4(47, Bytes{0xa0, 0, 0x86, 0xdd, 1, 1, 0, 0, 0, 0, 0, 7} + inner6)), 46,
       86, 0},
      {"GRE of Ethernet",
       ethernet(0x0800, ipv4(47, Bytes{0, 0, 0x65, 0x58} + ethernet(0x0800, inner4))), 52, 72, 0},
      {"IP in IP", ethernet(0x0800, ipv4(4, inner4)), 34, 54, 0},
      {"IPv6 in IPv4", ethernet(0x0800, ipv4(41, inner6)), 34, 74, 0},
      {"IPv4 in IPv6", ethernet(0x86dd, ipv6(4, inner4)), 54, 74, 0},
      {"MPLS", ethernet(0x8847, Bytes{0, 0, 0x10, 64, 0, 0, 0x11, 64} + inner4), 22, 42, 0},
      {"PPPoE", ethernet(0x8864, Bytes{0x11, 0, 0, 1, 0x27, 0x46, 0, 0x21} + inner4), 22, 42, 0},
  };
  for (auto& c : cases) {
    CAPTURE(c.name);
    const Packet p = packet(c.frame, 1, 1398, static_cast<uint32_t>(c.at));
    CHECK_FALSE(Splitter::kernel_takes(p));
    const std::vector<Part> all = parts(p);
    check_tcp_parts(all, c.ip, c.at, 10000, 1398);
    for (const Part& part : all) {
      if (part.bytes[14] >> 4 == 4) {
        CHECK(get16(part.bytes, 16) == part.bytes.size() - 14);
        CHECK(sum(part.bytes, 14, 34) == 0xffff);
      }
      if (c.outer_udp) {
        CHECK(get16(part.bytes, c.outer_udp + 4) == part.bytes.size() - c.outer_udp);
        if (get16(part.bytes, c.outer_udp + 6) != 0)
          CHECK(transport_sum_right(part.bytes, 14, c.outer_udp, 17));
      }
      if (part.bytes[34] == 0xa0) CHECK(sum(part.bytes, 34, part.bytes.size()) == 0xffff);
      if (get16(part.bytes, 12) == 0x8864) CHECK(get16(part.bytes, 18) == part.bytes.size() - 20);
    }
  }
}

TEST_CASE("Splitter: a VXLAN frame keeps a checksum only if it had one") {
  const Bytes vxlan = {8, 0, 0, 0, 0, 0, 42, 0};
  const Bytes inner = ethernet(0x0800, ipv4(6, tcp(payload(3000))));
  Bytes without = ethernet(0x0800, ipv4(17, udp(4789, vxlan + inner)));
  for (const Part& part : parts(packet(without, 1, 1398, 84))) CHECK(get16(part.bytes, 40) == 0);
  Bytes with = ethernet(0x0800, ipv4(17, udp(4789, vxlan + inner, true)));
  for (const Part& part : parts(packet(with, 1, 1398, 84)))
    CHECK(transport_sum_right(part.bytes, 14, 34, 17));
}

TEST_CASE("Splitter: BIG TCP becomes super-frames as long as IP allows, without its jumbo header") {
  constexpr size_t kSize = 180000, kMss = 1428;
  const Bytes jumbo = {6, 0, 0xc2, 4, 0, 2, 0xbf, 0x20};
  struct {
    const char* name;
    Bytes frame;
    uint32_t start;
    size_t ip_header;
  } cases[] = {
      {"IPv4", ethernet(0x0800, ipv4(6, tcp(payload(kSize)))), 34, 20},
      {"IPv6", ethernet(0x86dd, ipv6(6, tcp(payload(kSize)))), 54, 40},
      {"IPv6 with a jumbo header", ethernet(0x86dd, ipv6(0, jumbo + tcp(payload(kSize)))), 62, 40},
  };
  const Bytes whole = payload(kSize);
  for (auto& c : cases) {
    CAPTURE(c.name);
    const Packet p = packet(c.frame, c.ip_header == 20 ? 1 : 4, kMss, c.start);
    CHECK_FALSE(Splitter::kernel_takes(p));
    const std::vector<Part> all = parts(p);
    REQUIRE(all.size() == 3);
    size_t done = 0;
    for (const Part& part : all) {
      const size_t at = 14 + c.ip_header, data = at + 32;
      const Bytes& b = part.bytes;
      REQUIRE(Bytes(b.begin() + static_cast<long>(data), b.end()) ==
              Bytes(whole.begin() + static_cast<long>(done),
                    whole.begin() + static_cast<long>(done + b.size() - data)));
      CHECK(get32(b, at + 4) == static_cast<uint32_t>(0xfffff000 + done));
      done += b.size() - data;
      CHECK((done == kSize || (b.size() - data) % kMss == 0));
      CHECK(part.vnet.gso_type == (c.ip_header == 20 ? 1 : 4));
      CHECK(part.vnet.gso_size == kMss);
      CHECK(part.vnet.csum_start == at);
      const uint64_t pseudo = c.ip_header == 20 ? sum(b, 26, 34) : sum(b, 22, 54);
      CHECK(get16(b, at + 16) == sum(b, 0, 0, pseudo + 6 + b.size() - at));
      if (c.ip_header == 20) {
        CHECK(get16(b, 16) == b.size() - 14);
        CHECK(sum(b, 14, 34) == 0xffff);
      } else {
        CHECK(get16(b, 18) == b.size() - 54);
        CHECK(b[20] == 6);
      }
      Packet again = p;
      again.data = const_cast<uint8_t*>(b.data());
      again.length = static_cast<uint32_t>(b.size());
      again.vnet = part.vnet;
      CHECK(Splitter::kernel_takes(again));
    }
    CHECK(done == kSize);
  }
}

TEST_CASE("Splitter: UDP super-frames become datagrams, also inside of a tunnel") {
  const Bytes vxlan = {8, 0, 0, 0, 0, 0, 42, 0};
  const Bytes inner = ethernet(0x0800, ipv4(17, udp(443, payload(3000), true)));
  Bytes plain = inner;
  Bytes tunnel = ethernet(0x0800, ipv4(17, udp(4789, vxlan + inner)));
  for (Bytes* frame : {&plain, &tunnel}) {
    const size_t ip = frame == &plain ? 14 : 64;
    const std::vector<Part> all =
        parts(packet(*frame, kVnetGsoUdp, 1200, static_cast<uint32_t>(ip + 20)));
    REQUIRE(all.size() == 3);
    const Bytes whole = payload(3000);
    for (size_t i = 0; i < 3; ++i) {
      const Bytes& b = all[i].bytes;
      CHECK(get16(b, ip + 24) == b.size() - ip - 20);
      CHECK(transport_sum_right(b, ip, ip + 20, 17));
      CHECK(Bytes(b.begin() + static_cast<long>(ip + 28), b.end()) ==
            Bytes(whole.begin() + static_cast<long>(i * 1200),
                  whole.begin() + static_cast<long>(std::min<size_t>(3000, (i + 1) * 1200))));
    }
  }
}

TEST_CASE(
    "Splitter: headers that contradict themselves are not understood, and nothing is read "
    "beyond the frame") {
  Bytes good =
      ethernet(0x0800, ipv4(17, udp(4789, Bytes{8, 0, 0, 0, 0, 0, 42, 0} +
                                              ethernet(0x0800, ipv4(6, tcp(payload(3000)))))));
  const Packet p = packet(good, 1, 1398, 84);
  REQUIRE(parts(p).size() == 3);
  Packet no_size = p;
  no_size.vnet.gso_size = 0;
  CHECK(parts(no_size).empty());
  // Cut anywhere: the outer length no longer agrees. (Sanitizers watch.)
  for (size_t length = 0; length < 140; ++length) {
    Bytes cut(good.begin(), good.begin() + static_cast<long>(length));
    Packet short_one = p;
    short_one.data = cut.data();
    short_one.length = static_cast<uint32_t>(length);
    CHECK(parts(short_one).empty());
  }
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    Bytes bad = good;
    for (unsigned changes = random() % 4 + 1; changes; --changes)
      bad[random() % 130] = static_cast<uint8_t>(random());
    Packet changed = p;
    changed.data = bad.data();
    changed.vnet.gso_type = static_cast<uint8_t>(random() % 8 ? 1 : random());
    changed.vnet.gso_size = static_cast<uint16_t>(random() % 8 ? 1398 : random());
    changed.vnet.csum_start = static_cast<uint16_t>(random() % 8 ? 84 : random());
    Splitter::kernel_takes(changed);
    if (changed.vnet.gso_size > 100) parts(changed);
  }
}

TEST_CASE("Patience: frames that get through earn the time that refused ones may wait") {
  Patience patience;
  uint64_t now = kSecond;
  const auto wait_out = [&] {
    const uint64_t since = now;
    while (patience.try_again(now, false)) now += 100 * kMicrosecond;
    return now - since;
  };
  CHECK(wait_out() == Patience::kMost);
  for (int i = 0; i < 100; ++i) CHECK(wait_out() == 0);  // one after the other: at once
  for (int i = 0; i < 10; ++i) patience.sent();
  CHECK(wait_out() == 10 * Patience::kEarned);
  for (int i = 0; i < 10000; ++i) patience.sent();
  CHECK(wait_out() == Patience::kMost);
}

TEST_CASE("Patience: a full socket is waited for, but not for ever") {
  Patience patience;
  uint64_t now = kSecond;
  while (patience.try_again(now, true)) now += kMillisecond;
  CHECK(now == kSecond + Patience::kSocket);
  CHECK(patience.try_again(now, true));  // the next frame has its own time
}
