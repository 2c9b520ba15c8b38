// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Guests that forward (P12, G9): who is not the end of a connection is not promised for; and where
// that does not show, what was promised still gets through a path that is narrower than the peer's.
#include <algorithm>

#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

using Bytes = std::vector<uint8_t>;

void put16(Bytes& f, size_t at, uint32_t value) {
  f[at] = static_cast<uint8_t>(value >> 8);
  f[at + 1] = static_cast<uint8_t>(value);
}
uint32_t get32(const Bytes& f, size_t at) {
  return static_cast<uint32_t>(f[at]) << 24 | static_cast<uint32_t>(f[at + 1]) << 16 |
         static_cast<uint32_t>(f[at + 2]) << 8 | f[at + 3];
}
uint16_t sum(const Bytes& f, size_t from) {
  uint32_t total = 0;
  for (size_t i = from; i < f.size(); ++i) total += i - from & 1 ? f[i] : f[i] << 8;
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return static_cast<uint16_t>(total);
}

constexpr size_t ethernet = 14;

// "Cannot be sent on in one piece", about a packet of the peer's: from the guest, towards the peer.
Bytes too_big(Connection& c, const Packet& quoted, uint32_t mtu) {
  const bool v6 = c.options().ipv6;
  const Bytes inner = c.bytes_from_peer(quoted);
  const size_t header = v6 ? 40 : 20, kept = header + 8;
  Bytes f = c.bytes_from_guest(ack(1));
  f.resize(ethernet + header + 8);
  f.insert(f.end(), inner.begin() + ethernet,
           inner.begin() + static_cast<long>(ethernet + std::max(kept, size_t{48})));
  uint8_t* ip = &f[ethernet];
  const size_t icmp = ethernet + header;
  if (v6) {
    put16(f, ethernet + 4, static_cast<uint32_t>(f.size() - icmp));
    ip[6] = 58;
    f[icmp] = 2;
    f[icmp + 1] = 0;
  } else {
    put16(f, ethernet + 2, static_cast<uint32_t>(f.size() - ethernet));
    ip[9] = 1;
    f[icmp] = 3;
    f[icmp + 1] = 4;
  }
  put16(f, icmp + 2, 0);
  put16(f, icmp + 4, 0);
  put16(f, icmp + 6, mtu);
  put16(f, icmp + 2, static_cast<uint16_t>(~sum(f, icmp)));
  return f;
}

size_t quoted_seq(const Connection& c) {
  return c.options().ipv6 ? 14 + 40 + 8 + 40 + 4 : 14 + 20 + 8 + 20 + 4;
}

struct Said {
  vsnoop_verdict verdict;
  Bytes bytes;  // as the peer gets them
};

Said guest_says(Connection& c, const Bytes& f) {
  const vsnoop_frame frame = {f.data(), static_cast<uint32_t>(f.size()),
                              static_cast<uint32_t>(f.size()), 512, VSNOOP_CHECKSUM_UNKNOWN};
  Said said = {vsnoop_from_guest(c.world().engine(), c.options().guest, &frame, c.world().now()),
               f};
  REQUIRE_FALSE(said.verdict.released);
  if (said.verdict.action == VSNOOP_EDIT)
    REQUIRE(vsnoop_apply_edit(said.bytes.data(), static_cast<uint32_t>(said.bytes.size()),
                              &said.verdict.edit, 0) == 0);
  return said;
}

// Frames that fit go on to the end behind the guest; it acknowledges what it has.
class Router {
 public:
  Router(Connection& c, uint32_t limit) : c_(c), limit_(limit) {}
  // What came out of the ring. Returns the packets that do not fit.
  std::vector<Packet> forward() {
    std::vector<Packet> refused;
    for (const Packet& p : c_.delivered()) {
      if (p.length() > limit_) {
        refused.push_back(p);
      } else if (p.length()) {
        got_.push_back({p.seq(), p.end()});
      }
    }
    std::sort(got_.begin(), got_.end());
    for (const auto& [begin, end] : got_)
      if (begin <= next_ && end > next_) next_ = end;
    return refused;
  }
  uint32_t next() const { return next_; }

 private:
  Connection& c_;
  uint32_t limit_, next_ = 1;
  std::vector<std::pair<uint32_t, uint32_t>> got_;
};

void serve(Connection& c) {
  c.feed();
  c.consume();
}

}  // namespace

TEST_CASE("P12: a guest whose SYN or SYN-ACK has come over a hop is not promised for", "[P12]") {
  const bool ipv6 = GENERATE(false, true);
  const bool guest_opens = GENERATE(false, true);
  const auto tracked = [&](uint8_t hops) {
    Options o;
    o.ipv6 = ipv6;
    o.guest_opens = guest_opens;
    Connection c(o);
    if (guest_opens) {
      c.guest(syn().ttl(hops));
      c.peer(syn_ack());
      c.guest(ack(1).ttl(hops));
    } else {
      c.peer(syn());
      c.guest(syn_ack().ttl(hops));
      c.peer(ack(1));
    }
    const Outcome o2 = c.peer(data(1, 1000));
    CHECK(o2.taken == c.tracked());
    return c.tracked();
  };
  for (const uint8_t hops : {32, 60, 64, 128, 255}) CHECK(tracked(hops));
  for (const uint8_t hops : {1, 31, 33, 59, 61, 62, 63, 65, 127, 254, 250})
    CHECK_FALSE(tracked(hops));
}

TEST_CASE("G9: what is too long for the path behind the guest is cut, and the peer is told",
          "[G9]") {
  Options o;
  o.ipv6 = GENERATE(false, true);
  o.ts = GENERATE(false, true);
  Established c(o);
  c.world().automatic = false;
  const uint32_t mtu = 1300, limit = mtu - (o.ipv6 ? 60 : 40) - (o.ts ? 12 : 0);
  Router router(c, limit);
  for (uint32_t i = 0; i < 4; ++i) c.peer(data(1 + 1400 * i, 1400));
  serve(c);
  REQUIRE(router.forward().size() == 4);
  REQUIRE(c.flow().early_ack == 5601);

  const Said said = guest_says(c, too_big(c, data(1, 1400), mtu));
  CHECK(said.verdict.action == VSNOOP_EDIT);
  CHECK(said.verdict.reason == VSNOOP_REASON_guest_too_big);
  // A sender believes what quotes bytes that it has not seen acknowledged.
  CHECK(get32(said.bytes, quoted_seq(c)) == o.peer_isn + 5601);
  CHECK(sum(said.bytes, o.ipv6 ? 54 : 34) == 0xffff);
  for (int round = 0; router.next() < 5601 && round < 20; ++round) {
    serve(c);
    CHECK(router.forward().empty());
    c.guest(ack(router.next()));
  }
  CHECK(router.next() == 5601);
  CHECK(c.world().custody() == 0);
  // So is what comes now, and a peer that has learnt it is left alone.
  c.peer(data(5601, 1400));
  c.peer(data(7001, limit));
  serve(c);
  CHECK(router.forward().empty());
  CHECK(router.next() == 7001 + limit);
  c.guest(ack(router.next()));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G9: what waits for the ring is cut as well, piece by piece, and a lost ring is no loss",
          "[G9]") {
  Established c;
  c.world().automatic = false;
  Router router(c, 1248);
  c.peer(data(1, 1400));
  serve(c);
  router.forward();
  c.peer(data(1401, 5000));
  c.peer(data(6401, 100));
  guest_says(c, too_big(c, data(1, 1400), 1300));
  c.world().ring_slots = 3;
  c.feed();
  c.world().lose_ring();
  for (int round = 0; router.next() < 6501 && round < 60; ++round) {
    serve(c);
    CHECK(router.forward().empty());
    c.guest(ack(router.next()));
    c.advance(100);
  }
  CHECK(router.next() == 6501);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G9: only what quotes bytes that are under way is believed (RFC 5927)", "[G9]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  serve(c);
  c.guest(ack(1001));
  c.peer(data(1001, 1400));
  serve(c);
  c.delivered();
  const auto ignored = [&](const Bytes& frame) {
    const Said said = guest_says(c, frame);
    CHECK(said.verdict.action == VSNOOP_PASS);
    CHECK(said.bytes == frame);
    CHECK(said.verdict.reason == VSNOOP_REASON_not_tcp);
  };
  ignored(too_big(c, data(1, 1000), 600));     // acknowledged
  ignored(too_big(c, data(2401, 1400), 600));  // never sent
  ignored(too_big(c, data(0x80000000, 1400), 600));
  Bytes other = too_big(c, data(1001, 1400), 600);
  other[14 + 20 + 8 + 20 + 1] ^= 1;  // another connection's port
  ignored(other);
  Bytes unreachable = too_big(c, data(1001, 1400), 600);
  unreachable[14 + 20 + 1] = 1;
  ignored(unreachable);
  const Bytes whole = too_big(c, data(1001, 1400), 600);
  for (size_t n = 15; n < quoted_seq(c) + 4; ++n) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<long>(n));
    const vsnoop_frame frame = {cut.data(), static_cast<uint32_t>(n), static_cast<uint32_t>(n), 512,
                                VSNOOP_CHECKSUM_UNKNOWN};
    CHECK(vsnoop_from_guest(c.world().engine(), 0, &frame, c.world().now()).action == VSNOOP_PASS);
  }
  c.peer(data(2401, 1400));
  serve(c);
  const auto got = c.delivered();
  REQUIRE(got.size() == 1);
  CHECK(got[0].length() == 1400);
}

TEST_CASE("G9: a guest that says a tiny size costs its own flow a bound, no more", "[G9]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1400));
  serve(c);
  c.delivered();
  for (const uint32_t mtu : {68u, 0u, 1u}) guest_says(c, too_big(c, data(1, 1400), mtu));
  c.peer(data(1401, 1400));
  serve(c);
  // 552 bytes are the least that is believed: the re-delivery and the new frame, in three pieces
  // each.
  const auto got = c.delivered();
  CHECK(got.size() == 6);
  for (const Packet& p : got) CHECK(p.length() >= 400);
}

TEST_CASE("G9: bytes that nobody was promised are the peer's: it is told as the guest says it",
          "[G9]") {
  Established c;
  c.world().quiesce();
  c.peer(data(1, 1400));
  const Bytes frame = too_big(c, data(1, 1400), 1300);
  const Said said = guest_says(c, frame);
  CHECK(said.verdict.action == VSNOOP_PASS);
  CHECK(said.bytes == frame);
}

TEST_CASE("G9: where nobody tells, a smaller piece is tried (RFC 4821)", "[G9]") {
  Options o;
  o.sack = GENERATE(false, true);
  Established c(o);
  c.world().automatic = false;
  const uint32_t limit = GENERATE(1248u, 600u);
  Router router(c, limit);
  for (uint32_t i = 0; i < 10; ++i) c.peer(data(1 + 1400 * i, 1400));
  uint64_t waited = 0;
  for (; router.next() < 14001 && waited < 50000; waited += 20) {
    serve(c);
    const uint32_t before = router.next();
    router.forward();
    if (router.next() != before) c.guest(ack(router.next()));
    c.advance(20);
  }
  CHECK(router.next() == 14001);
  serve(c);
  router.forward();
  c.guest(ack(router.next()));
  // It has been learnt: what comes now goes in pieces at once.
  c.peer(data(14001, 1400));
  serve(c);
  CHECK(router.forward().empty());
  CHECK(router.next() == 15401);
}

TEST_CASE("G9: a guest that was deaf for a while gets whole frames afterwards", "[G9]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1400));
  c.peer(data(1401, 1400));
  for (int i = 0; i < 100; ++i) {
    serve(c);
    c.advance(100);
  }
  c.delivered();
  c.guest(ack(2801));
  c.peer(data(2801, 1400));
  serve(c);
  const auto got = c.delivered();
  REQUIRE(got.size() == 1);
  CHECK(got[0].length() == 1400);
}
