// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// vsnoop_apply_edit() and vsnoop_trim(): what is asked for changes, nothing else does, and
// checksums (verified by code of the harness, not of the core) stay what they were.
#include <algorithm>
#include <random>

#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

using Bytes = std::vector<uint8_t>;

uint32_t at32(const Bytes& f, size_t at) {
  return static_cast<uint32_t>(f[at]) << 24 | static_cast<uint32_t>(f[at + 1]) << 16 |
         static_cast<uint32_t>(f[at + 2]) << 8 | f[at + 3];
}

int change(Bytes& frame, const vsnoop_edit& edit, bool partial = false) {
  return vsnoop_apply_edit(frame.data(), static_cast<uint32_t>(frame.size()), &edit, partial);
}
uint32_t trim(Bytes& frame, uint32_t skip, uint32_t keep, bool partial = false) {
  const uint32_t length =
      vsnoop_trim(frame.data(), static_cast<uint32_t>(frame.size()), skip, keep, partial);
  if (length) frame.resize(length);
  return length;
}

vsnoop_edit edit_of(uint16_t what, uint32_t ack = 0, uint16_t window = 0, uint32_t tsval = 0,
                    uint32_t tsecr = 0) {
  vsnoop_edit e = {};
  e.what = what;
  e.ack = ack;
  e.window = window;
  e.tsval = tsval;
  e.tsecr = tsecr;
  return e;
}

constexpr size_t tcp_v4 = 34;  // without VLAN tags

}  // namespace

TEST_CASE("edit: ACK and window change, and nothing else but the checksum", "[edit]") {
  Connection c(Options{.ts = false});
  const Bytes before = c.bytes_from_guest(data(1, 333).ack(1));
  Bytes after = before;
  REQUIRE(change(after, edit_of(VSNOOP_EDIT_ACK | VSNOOP_EDIT_WINDOW, 0x12345678, 0xabcd)) == 0);
  CHECK(at32(after, tcp_v4 + 8) == 0x12345678);
  CHECK(at32(after, tcp_v4 + 12) >> 16 == at32(before, tcp_v4 + 12) >> 16);
  CHECK((at32(after, tcp_v4 + 12) & 0xffff) == 0xabcd);
  CHECK(checksums_right(after));
  for (size_t i = 0; i < before.size(); ++i)
    if (i < tcp_v4 + 8 || (i >= tcp_v4 + 12 && i < tcp_v4 + 14) || i >= tcp_v4 + 18)
      REQUIRE(before[i] == after[i]);
}

TEST_CASE("edit: an empty edit changes nothing, even where nothing parses", "[edit]") {
  Bytes frame(5, 0xff);
  CHECK(change(frame, edit_of(0)) == 0);
  CHECK(frame == Bytes(5, 0xff));
}

TEST_CASE("edit: what does not parse is refused and left alone", "[edit]") {
  Connection c;
  Bytes frame = c.bytes_from_guest(data(1, 100).ack(1));
  for (size_t cut = 0; cut < tcp_v4 + 32; ++cut) {
    Bytes part(frame.begin(), frame.begin() + static_cast<long>(cut));
    const Bytes same = part;
    CHECK(change(part, edit_of(VSNOOP_EDIT_ACK, 7)) == -1);
    CHECK(part == same);
  }
  Bytes fragment = c.bytes_from_guest(data(1, 100).ack(1).fragment(0x2000));
  CHECK(change(fragment, edit_of(VSNOOP_EDIT_ACK, 7)) == -1);
  CHECK(trim(fragment, 1, 1) == 0);
}

TEST_CASE("edit: headers alone are enough", "[edit]") {
  Connection c;
  const Bytes whole = c.bytes_from_guest(data(1, 1000).ack(1));
  Bytes head(whole.begin(), whole.begin() + tcp_v4 + 32);
  REQUIRE(change(head, edit_of(VSNOOP_EDIT_ACK | VSNOOP_EDIT_TSECR, 77, 0, 0, 99)) == 0);
  head.insert(head.end(), whole.begin() + tcp_v4 + 32, whole.end());
  CHECK(checksums_right(head));
}

TEST_CASE("edit: TSval is raised, never lowered, also across 2^32", "[edit]") {
  Connection c;
  const auto tsval_after = [&](uint32_t own, uint32_t asked) {
    Bytes frame = c.bytes_from_guest(data(1, 10).ack(1).ts(own - 0x7ffffff0u, 0));
    REQUIRE(change(frame, edit_of(VSNOOP_EDIT_TSVAL, 0, 0, asked)) == 0);
    CHECK(checksums_right(frame));
    return at32(frame, tcp_v4 + 24);
  };
  CHECK(tsval_after(1000, 2000) == 2000);
  CHECK(tsval_after(2000, 1000) == 2000);
  CHECK(tsval_after(0xfffffff0, 5) == 5);
  CHECK(tsval_after(5, 0xfffffff0) == 5);
}

TEST_CASE("edit: a segment without timestamps gets none", "[edit]") {
  Connection c(Options{.ts = false});
  Bytes frame = c.bytes_from_guest(data(1, 10).ack(1));
  const Bytes same = frame;
  CHECK(change(frame, edit_of(VSNOOP_EDIT_TSVAL | VSNOOP_EDIT_TSECR, 0, 0, 5, 6)) == 0);
  CHECK(frame == same);
}

TEST_CASE("edit: SACK blocks are cut at the ACK, emptied ones become NOPs", "[edit]") {
  Connection c(Options{.ts = false, .peer_isn = 0});
  const auto cut_at = [&](uint32_t number, Packet::Blocks blocks) {
    Bytes frame = c.bytes_from_guest(ack(1).seq(1).sack(std::move(blocks)));
    const size_t size = frame.size();
    REQUIRE(change(frame, edit_of(VSNOOP_EDIT_ACK | VSNOOP_EDIT_SACK, number)) == 0);
    CHECK(frame.size() == size);
    CHECK(checksums_right(frame));
    return Bytes(frame.begin() + tcp_v4 + 20, frame.end());
  };
  const Bytes gone = cut_at(9000, {{1000, 2000}, {3000, 9000}});
  CHECK(gone == Bytes(20, 1));
  const Bytes second = cut_at(2000, {{1000, 2000}, {3000, 4000}});
  CHECK(second[2] == 5);
  CHECK(second[3] == 10);
  CHECK(at32(second, 4) == 3000);
  CHECK(at32(second, 8) == 4000);
  CHECK(Bytes(second.begin() + 12, second.end()) == Bytes(8, 1));
  const Bytes untouched = cut_at(500, {{1000, 2000}, {3000, 4000}});
  CHECK(untouched[3] == 18);
  const Bytes overlapping = cut_at(1500, {{1000, 2000}});
  CHECK((overlapping[2] == 1 || at32(overlapping, 4) >= 1500));  // nothing below the ACK
}

TEST_CASE("edit: options at odd offsets keep the checksum right", "[edit]") {
  Connection c(Options{.ts = false});
  for (int nops = 0; nops < 4; ++nops) {
    Bytes options(static_cast<size_t>(nops), 1);
    for (uint8_t b : {8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0})
      options.push_back(b);
    Bytes frame = c.bytes_from_guest(data(1, 77).ack(1).option(options));
    vsnoop_edit e = edit_of(VSNOOP_EDIT_TSVAL | VSNOOP_EDIT_TSECR | VSNOOP_EDIT_SACK, 0x180, 0,
                            0x0a0b0c0d, 0x55667788);
    REQUIRE(change(frame, e) == 0);
    const size_t at = tcp_v4 + 20 + static_cast<size_t>(nops) + 2;
    CHECK(at32(frame, at) == 0x0a0b0c0d);
    CHECK(at32(frame, at + 4) == 0x55667788);
    CHECK(checksums_right(frame));
  }
}

TEST_CASE("edit: a partial checksum covers the pseudo-header only and stays", "[edit]") {
  for (const bool ipv6 : {false, true}) {
    Connection c(Options{.ipv6 = ipv6});
    Bytes frame = c.bytes_from_guest(data(1, 1000).ack(1).checksum(VSNOOP_CHECKSUM_PARTIAL));
    REQUIRE(checksums_right(frame, true));
    REQUIRE(change(frame, edit_of(31, 5, 6, 7, 8), true) == 0);
    CHECK(checksums_right(frame, true));
    REQUIRE(trim(frame, 100, 400, true));
    CHECK(checksums_right(frame, true));
  }
}

TEST_CASE("edit: a wrong checksum stays wrong", "[edit]") {
  Connection c;
  Bytes frame = c.bytes_from_guest(data(1, 100).ack(1).bad());
  REQUIRE_FALSE(checksums_right(frame));
  REQUIRE(change(frame, edit_of(VSNOOP_EDIT_ACK | VSNOOP_EDIT_WINDOW, 123, 45)) == 0);
  CHECK_FALSE(checksums_right(frame));
  REQUIRE(trim(frame, 3, 50));
  CHECK_FALSE(checksums_right(frame));
}

TEST_CASE("trim: payload, sequence number, lengths and checksums fit together", "[edit][trim]") {
  for (const bool ipv6 : {false, true}) {
    for (const uint32_t skip : {0u, 1u, 2u, 99u, 100u, 998u}) {
      for (const uint32_t keep : {1u, 2u, 3u, 500u, 2000u}) {
        Connection c(Options{.ipv6 = ipv6, .vlan = {7}});
        const Bytes before = c.bytes_from_peer(data(1, 999).ack(1).set(PSH | FIN));
        Bytes after = before;
        const uint32_t rest = std::min(keep, 999 - skip);
        const size_t headers = before.size() - 999;
        REQUIRE(trim(after, skip, keep) == headers + rest);
        CHECK(checksums_right(after));
        CHECK(std::equal(after.begin() + static_cast<long>(headers), after.end(),
                         before.begin() + static_cast<long>(headers + skip)));
        const size_t tcp = headers - 32;
        CHECK(at32(after, tcp + 4) == at32(before, tcp + 4) + skip);
        // FIN and PSH belong to the last byte.
        CHECK((after[tcp + 13] & (FIN | PSH)) == (skip + keep < 999 ? 0 : FIN | PSH));
        CHECK((after[tcp + 13] & ACK) == ACK);
      }
    }
  }
}

TEST_CASE("trim: cutting nothing changes nothing", "[edit][trim]") {
  Connection c;
  const Bytes before = c.bytes_from_peer(data(1, 10).ack(1).set(FIN));
  Bytes after = before;
  CHECK(trim(after, 0, 10) == before.size());
  CHECK(after == before);
  CHECK(trim(after, 0, 5000) == before.size());
  CHECK(after == before);
}

TEST_CASE("trim: more than there is, or what is cut short, is refused", "[edit][trim]") {
  Connection c;
  Bytes frame = c.bytes_from_peer(data(1, 10).ack(1));
  const Bytes same = frame;
  CHECK(trim(frame, 11, 1) == 0);
  CHECK(frame == same);
  frame.pop_back();
  const Bytes cut = frame;
  CHECK(trim(frame, 1, 5) == 0);
  CHECK(frame == cut);
}

TEST_CASE("trim: a super-frame beyond 64 KiB can be cut too", "[edit][trim]") {
  for (const bool ipv6 : {false, true}) {
    for (const bool partial : {false, true}) {
      Connection c(Options{.ipv6 = ipv6});
      const auto state = partial ? VSNOOP_CHECKSUM_PARTIAL : VSNOOP_CHECKSUM_VERIFIED;
      const Bytes whole = c.bytes_from_peer(data(1, 100000).ack(1).checksum(state));
      REQUIRE(checksums_right(whole, partial));
      const uint32_t headers = static_cast<uint32_t>(whole.size()) - 100000;
      Bytes small = whole, big = whole;
      CHECK(trim(small, 50001, 20000, partial) == headers + 20000);
      CHECK(checksums_right(small, partial));
      CHECK(trim(big, 1, 80000, partial) == headers + 80000);
      CHECK(checksums_right(big, partial));
    }
  }
}

TEST_CASE("edit: random edits of random segments keep checksums right", "[edit]") {
  std::mt19937 random(20260101);
  for (int i = 0; i < 4000; ++i) {
    Options o;
    o.ipv6 = random() & 1;
    o.ts = random() & 1;
    if (random() % 4 == 0) o.vlan = {static_cast<uint16_t>(random() % 4096)};
    o.peer_isn = static_cast<uint32_t>(random());
    o.guest_isn = static_cast<uint32_t>(random());
    Connection c(o);
    const bool partial = random() % 4 == 0;
    Packet p = data(static_cast<uint32_t>(random()), static_cast<uint32_t>(random() % 300));
    p.ack(static_cast<uint32_t>(random())).window(static_cast<uint32_t>(random()));
    Packet::Blocks blocks;
    for (uint32_t n = random() % (o.ts ? 4 : 5); n; --n) {
      const uint32_t left = static_cast<uint32_t>(random());
      blocks.push_back({left, left + static_cast<uint32_t>(random() % 5000)});
    }
    const uint32_t cut = blocks.empty() ? 0 : blocks[0].first + random() % 5000;
    p.sack(std::move(blocks));
    if (random() % 4 == 0) p.set(FIN);
    if (partial) p.checksum(VSNOOP_CHECKSUM_PARTIAL);
    Bytes frame = c.bytes_from_guest(p);
    REQUIRE(checksums_right(frame, partial));
    const vsnoop_edit e = edit_of(static_cast<uint16_t>(random() % 32),
                                  random() & 1 ? cut + o.peer_isn : static_cast<uint32_t>(random()),
                                  static_cast<uint16_t>(random()), static_cast<uint32_t>(random()),
                                  static_cast<uint32_t>(random()));
    INFO(p.text() << " what " << e.what);
    REQUIRE(change(frame, e, partial) == 0);
    REQUIRE(checksums_right(frame, partial));
    const uint32_t skip = static_cast<uint32_t>(random() % (p.length() + 1));
    REQUIRE(trim(frame, skip, static_cast<uint32_t>(random() % 300), partial));
    REQUIRE(checksums_right(frame, partial));
  }
}

extern "C" int vsnoop_face_from_c(void);  // face_c.c

TEST_CASE("face: a C11 program can use it", "[face]") {
  // The line of face_c.c that failed.
  CHECK(vsnoop_face_from_c() == 0);
}

TEST_CASE("face: configurations out of range are refused", "[face]") {
  vsnoop_config config;
  vsnoop_defaults(&config);
  REQUIRE(vsnoop_memory_needed(&config) > 0);
  const auto refused = [&](auto change) {
    vsnoop_config c = config;
    change(c);
    return vsnoop_memory_needed(&c) == 0;
  };
  CHECK(refused([](auto& c) { c.flows = 0; }));
  CHECK(refused([](auto& c) { c.flows = (1u << 22) + 1; }));
  CHECK(refused([](auto& c) { c.custodies = 0; }));
  CHECK(refused([](auto& c) { c.guests = 0; }));
  CHECK(refused([](auto& c) { c.guests = 65536; }));
  CHECK(refused([](auto& c) { c.idle_s = 0; }));
}

TEST_CASE("trim: the Jumbo Payload option says the new length, or becomes padding", "[edit]") {
  // RFC 2675 3: a length in the IPv6 header and the option beside it is an error.
  for (const bool first : {true, false}) {
    for (const uint32_t keep : {80000u, 66000u, 40000u, 1000u}) {
      CAPTURE(first, keep);
      constexpr uint32_t payload = 100000;
      const uint32_t extension = first ? 8 : 16;
      Bytes f(14 + 40 + extension + 20 + payload);
      f[12] = 0x86;
      f[13] = 0xdd;
      uint8_t* ip = &f[14];
      ip[0] = 0x60;
      ip[7] = 64;
      ip[8] = 0x20;
      ip[24] = 0x20;
      ip[39] = 1;
      uint8_t* hop = ip + 40;
      hop[0] = 6;
      hop[1] = static_cast<uint8_t>(extension / 8 - 1);
      if (!first) {
        hop[2] = 5;  // router alert
        hop[3] = 2;
        hop[6] = 1;  // PadN
        hop[7] = 2;
      }
      uint8_t* option = hop + (first ? 2 : 10);
      option[0] = 0xc2;
      option[1] = 4;
      const uint32_t whole = extension + 20 + payload;
      option[2] = static_cast<uint8_t>(whole >> 24);
      option[3] = static_cast<uint8_t>(whole >> 16);
      option[4] = static_cast<uint8_t>(whole >> 8);
      option[5] = static_cast<uint8_t>(whole);
      uint8_t* tcp = hop + extension;
      tcp[1] = 1;
      tcp[3] = 2;
      tcp[12] = 0x50;
      tcp[13] = 0x10;
      REQUIRE(trim(f, 10, keep, true) == 14 + 40 + extension + 20 + keep);
      ip = &f[14];
      option = ip + 40 + (first ? 2 : 10);
      const uint32_t cut = extension + 20 + keep;
      const uint32_t said = at32(f, static_cast<size_t>(option + 2 - f.data()));
      if (cut > 0xffff) {
        CHECK((ip[4] << 8 | ip[5]) == 0);
        CHECK(option[0] == 0xc2);
        CHECK(said == cut);
      } else {
        CHECK(static_cast<uint32_t>(ip[4] << 8 | ip[5]) == cut);
        CHECK(option[0] == 1);
        CHECK(said == 0);
      }
      CHECK(option[1] == 4);
    }
  }
}
