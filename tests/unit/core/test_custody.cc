// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames in custody: order into the ring, private headers, re-delivery (G7), resets behind data.
// Which byte is in custody (I3), that nothing is freed twice or in the ring, and that the accounts
// agree is asserted by the harness at every step.
#include <algorithm>
#include <set>

#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

constexpr uint64_t unmeasured_ms = 200;  // re-delivery before the guest's latency is known

// A connection whose ring is served by hand.
struct ByHand : Established {
  explicit ByHand(const Options& options = Options()) : Established(options) {
    world().automatic = false;
  }
  explicit ByHand(const Setup& setup, const Options& options = Options())
      : Established(setup, options) {
    world().automatic = false;
  }
  // Segments of `length` bytes from 1 on.
  void peer_sends(uint32_t n, uint32_t length = 1000) {
    for (uint32_t i = 0; i < n; ++i) peer(data(1 + i * length, length));
  }
  void guest_takes_all() {
    feed();
    consume();
    delivered();
  }
};

// Passes the time until the first re-delivery stands in the ring, and returns it.
Packet again(ByHand& c, uint64_t ms = 2500) {
  for (uint64_t t = 0; t < ms && c.feed() == 0; ++t) c.advance(1);
  REQUIRE(c.world().ring().size() == 1);
  REQUIRE(c.world().ring().front().again);
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 1);
  return got[0];
}

}  // namespace

// --- order into the ring -------------------------------------------------------------------------

TEST_CASE("Custody: frames enter the ring in order of arrival, promised or not") {
  ByHand c;
  c.peer(data(1, 1000));
  c.peer(data(1001, 100).set(URG));
  c.peer(data(1001, 500));
  CHECK_THAT(c.peer(ack(1)), Kept(VSNOOP_REASON_pure_ack));
  c.feed();
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 4);
  CHECK(got[0].length() == 1000);
  CHECK(got[1].has(URG));
  CHECK(got[2].length() == 500);
  CHECK(got[3].length() == 0);
}

TEST_CASE("Custody: once nothing waits, what is not held passes at once") {
  ByHand c;
  c.peer_sends(1);
  c.feed();
  CHECK_THAT(c.peer(ack(1)), Passed(VSNOOP_REASON_pure_ack));
}

TEST_CASE("Custody: over budget and unpromised, a frame behind waiting ones is dropped") {
  Setup setup;
  setup.guest.budget = 4096;
  ByHand c(setup);
  c.peer(data(1, 1000).memory(2048));
  c.peer(data(1001, 1000).memory(2048));
  CHECK_THAT(c.peer(data(2001, 1000).memory(2048)), Dropped(VSNOOP_REASON_no_budget));
  CHECK(c.count(VSNOOP_REASON_dropped_behind) == 1);
}

TEST_CASE("Custody: over budget with nothing waiting, a frame passes unpromised") {
  Setup setup;
  setup.guest.budget = 2048;
  ByHand c(setup);
  c.peer(data(1, 1000).memory(2048));
  c.feed();
  CHECK_THAT(c.peer(data(1001, 1000).memory(2048)), Passed(VSNOOP_REASON_no_budget));
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("Custody: what the guest confirmed while it waited is discarded, not delivered") {
  ByHand c;
  c.peer_sends(2);
  c.guest(ack(1001));
  c.feed();
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 1);
  CHECK(got[0].seq() == 1001);
}

TEST_CASE("Custody: a frame confirmed while it stands in the ring is freed when it leaves it") {
  ByHand c;
  c.peer_sends(1);
  c.feed();
  c.guest(ack(1001));
  CHECK(c.world().custody() == 1);
  c.consume();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Custody: round robin: one flow's backlog does not keep another waiting") {
  Setup setup;
  setup.guest.budget = 64 << 20;
  World world(setup);
  world.automatic = false;
  Options other;
  other.peer_port = 40001;
  Options wide;
  wide.guest_window = 65535;
  Established greedy(world, wide), meek(world, other);
  world.automatic = false;
  greedy.guest(ack(1).window(65535));
  for (uint32_t i = 0; i < 200; ++i) greedy.peer(data(1 + i * 1400, 1400));
  world.feed(0, 60);  // its first turn is over
  meek.peer(data(1, 100));
  world.feed(0, 1);
  CHECK(world.ring().back().bytes.size() < 300);
  world.emits = false;  // the connections go first
}

TEST_CASE("Custody: a flow whose ring has no room waits aside, and others go on") {
  World world;
  world.automatic = false;
  Options other;
  other.peer_port = 40001;
  Established stalled(world), lively(world, other);
  world.automatic = false;
  for (uint32_t i = 0; i < 3; ++i) stalled.peer(data(1 + i * 1000, 1000));
  lively.peer(data(1, 100));
  const auto skip = [&](uint16_t lane) {
    vsnoop_feed feed;
    REQUIRE(vsnoop_next(world.engine(), 0, &feed, world.now()));
    vsnoop_skip(world.engine(), 0, &feed, lane);
    return feed.keep;
  };
  CHECK(skip(3) == 1000);
  CHECK(world.feed() == 1);
  CHECK(world.ring().back().bytes.size() < 300);
  stalled.peer(data(3001, 1000));  // still aside
  lively.peer(data(101, 100));
  CHECK(world.feed() == 1);
  SECTION("until its ring has room") {
    vsnoop_resume(world.engine(), 0, 4);  // another's
    CHECK(world.feed() == 0);
    vsnoop_resume(world.engine(), 0, 3 + VSNOOP_LANES);
    CHECK(world.feed() == 4);
  }
  SECTION("two aside come back in order") {
    lively.peer(data(201, 100));
    CHECK(skip(3) == 100);
    CHECK(world.feed() == 0);
    vsnoop_resume(world.engine(), 0, 3);
    CHECK(world.feed(0, 1) == 1);
    CHECK(world.ring().back().bytes.size() > 900);
    CHECK(world.feed() == 4);
  }
  SECTION("and is freed as any other when the guest goes") { world.stop(); }
  world.consume();
  world.emits = false;  // the connections go first
}

TEST_CASE("Custody: two backlogs share the ring evenly, by bytes and not by frames") {
  // Frames that fill whole slots; of smaller ones each takes a slot all the same.
  Setup setup;
  setup.guest.budget = 64 << 20;
  World world(setup);
  Options other;
  other.peer_port = 40001;
  Established large(world), small(world, other);
  world.automatic = false;
  for (Connection* c : {static_cast<Connection*>(&large), static_cast<Connection*>(&small)})
    c->guest(ack(1).window(65535));
  for (uint32_t i = 0; i < 100; ++i) large.peer(data(1 + i * 40000, 40000));
  for (uint32_t i = 0; i < 700; ++i) small.peer(data(1 + i * 5000, 5000));
  uint64_t bytes[2] = {0, 0};
  for (int n = 0; n < 700; ++n) {
    world.feed(0, 1);
    world.consume();
    for (const auto& p : large.delivered()) bytes[0] += p.length();
    for (const auto& p : small.delivered()) bytes[1] += p.length();
  }
  CHECK(bytes[0] > 0);
  CHECK(bytes[1] > 0);
  CHECK(bytes[0] < bytes[1] + 3 * 65536);
  CHECK(bytes[1] < bytes[0] + 3 * 65536);
  world.emits = false;
}

TEST_CASE("Custody: a flow that always has one frame more does not starve a backlog") {
  Setup setup;
  setup.guest.budget = 64 << 20;
  World world(setup);
  Options other;
  other.peer_port = 40001;
  Established backlog(world), trickle(world, other);
  world.automatic = false;
  backlog.guest(ack(1).window(65535));
  trickle.guest(ack(1).window(65535));
  for (uint32_t i = 0; i < 200; ++i) backlog.peer(data(1 + i * 1400, 1400));
  world.feed(0, 50);  // past its first turn
  world.consume();
  backlog.delivered();
  for (uint32_t i = 0; i < 400; ++i) {
    trickle.peer(data(1 + i * 1400, 1400));
    world.feed(0, 1);
    world.consume();
  }
  CHECK(backlog.delivered().size() > 100);
  world.emits = false;
}

// --- private headers -----------------------------------------------------------------------------

TEST_CASE(
    "Custody: a re-delivered frame with an old timestamp (trap): TSval is raised to the newest "
    "the guest was given") {
  ByHand c;
  c.peer(data(1, 1000));
  c.guest_takes_all();
  c.advance(90);
  c.peer(data(1001, 1000));
  c.guest_takes_all();
  const Packet p = again(c);
  CHECK(p.seq() == 1);
  CHECK(p.tsval() == 90);
}

TEST_CASE("Custody: a pure ACK that went on to the guest counts for the TSval of a re-delivery") {
  ByHand c;
  c.peer(data(1, 1000));
  c.guest_takes_all();
  c.advance(90);
  c.peer(ack(1));
  c.consume();
  c.delivered();
  CHECK(again(c).tsval() == 90);
}

TEST_CASE("Custody: after a re-delivery, older frames that still waited are raised as well") {
  ByHand c;
  c.peer(data(1, 1000));
  c.guest_takes_all();
  c.advance(10);
  c.peer(data(1001, 1000));  // waits
  c.advance(40);
  c.peer(data(2001, 1000));                     // waits, too
  for (int i = 0; i < 4; ++i) c.guest(ack(1));  // the first shows a new window
  c.feed(1);
  REQUIRE(c.world().ring().front().again);
  c.feed();
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 3);
  for (const Packet& p : got) CHECK(p.tsval() == 50);
}

TEST_CASE("Custody: without timestamps nothing is said of them") {
  Options options;
  options.ts = false;
  ByHand c(options);
  c.peer_sends(1);
  c.guest_takes_all();
  CHECK_FALSE(again(c).has_ts());
}

TEST_CASE("Custody: a re-delivery carries the newest ACK and window that the peer sent") {
  ByHand c;
  c.peer(data(1, 1000));
  c.guest_takes_all();
  c.guest(data(1, 300).ack(1));
  c.peer(ack(301).window(600));
  c.consume();
  c.delivered();
  const Packet p = again(c);
  CHECK(p.ack() == 301);
  CHECK(p.window() == 600);
}

TEST_CASE("Custody: an ACK the guest would not accept never gets into a re-delivery") {
  ByHand c;
  c.peer(data(1, 1000));
  c.guest_takes_all();
  c.guest(data(1, 300).ack(1));
  c.guest(ack(501));
  c.peer(Packet().seq(-5000u).ack(301));  // below everything the guest acknowledged: forged
  c.consume();
  c.delivered();
  CHECK(again(c).ack() == 1);
}

TEST_CASE("Custody: a re-delivery is trimmed left to what the guest acknowledged") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.guest(ack(401));
  const Packet p = again(c);
  CHECK(p.seq() == 401);
  CHECK(p.length() == 600);
}

TEST_CASE(
    "Custody: in-window data refused after SO_RCVBUF shrank (trap): the re-delivery is cut to "
    "the guest's present window") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.guest(ack(1).window(2));  // 256 bytes
  const Packet p = again(c);
  CHECK(p.seq() == 1);
  CHECK(p.length() == 256);
  CHECK_FALSE(p.has(PSH));
}

TEST_CASE("Custody: with the guest's window at zero one byte is delivered again: the local probe") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.guest(ack(1).window(0));
  CHECK(again(c).length() == 1);
}

TEST_CASE("Custody: a shrunk guest gets everything in the end, piece by piece") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  uint32_t at = 1;
  for (int i = 0; i < 12 && at < 3001; ++i) {
    c.guest(ack(at).window(3));
    const Packet p = again(c, 10000);
    REQUIRE(p.seq() == at);
    REQUIRE(p.length() >= 1);
    at = p.end();
  }
  CHECK(at == 3001);
}

// --- re-delivery: G7 -----------------------------------------------------------------------------

TEST_CASE(
    "G7: the last frame of a request dropped while the guest is idle (trap): the timer delivers "
    "it again, long before its ceiling",
    "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.advance(unmeasured_ms - 10);
  CHECK(c.feed() == 0);
  c.advance(20);
  CHECK(c.feed() == 1);
}

TEST_CASE("G7: the timer follows the guest's measured latency, four times over, floor 20 ms",
          "[G7]") {
  ByHand c;
  for (uint32_t i = 0; i < 4; ++i) {
    c.peer(data(1 + i * 100, 100));
    c.guest_takes_all();
    c.advance(10);
    c.guest(ack(101 + i * 100));
  }
  REQUIRE(c.flow().latency_us > 9000);
  REQUIRE(c.flow().latency_us < 11000);
  c.peer(data(401, 100));
  c.guest_takes_all();
  c.advance(30);
  CHECK(c.feed() == 0);
  c.advance(20);
  CHECK(c.feed() == 1);
}

TEST_CASE("G7: what was delivered again says nothing of the guest's latency (Karn)", "[G7]") {
  ByHand c;
  uint32_t at = 1;
  const auto round = [&](uint32_t latency_ms, bool loses) {
    c.peer(data(at, 100));
    c.guest_takes_all();
    if (loses) {
      c.advance(4000);
      c.guest_takes_all();
    }
    c.advance(latency_ms);
    c.guest(ack(at += 100));
  };
  for (int i = 0; i < 4; ++i) round(10, false);
  const uint32_t before = c.flow().latency_us;
  for (int i = 0; i < 4; ++i) round(10, true);
  CHECK(c.flow().latency_us == before);
  round(30, false);  // tells that the re-delivery is over
  round(30, false);
  CHECK(c.flow().latency_us > 29000);
}

TEST_CASE("G7: with every try the timer doubles, up to the ceiling", "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  uint64_t last = c.world().now();
  std::vector<uint64_t> gaps;
  for (int i = 0; i < 6; ++i) {
    again(c, 4000);
    gaps.push_back((c.world().now() - last) / 1000);
    last = c.world().now();
  }
  for (size_t i = 1; i < 4; ++i) {
    CHECK(gaps[i] >= gaps[i - 1] * 18 / 10);
    CHECK(gaps[i] <= gaps[i - 1] * 22 / 10);
  }
  CHECK(gaps[5] <= 2010);
}

TEST_CASE("G7: a frame that is still in the ring is never delivered again", "[G7]") {
  ByHand c;
  c.peer_sends(2);
  c.feed();
  for (int i = 0; i < 5; ++i) c.guest(ack(1));
  c.advance(30000);
  CHECK(c.feed() == 0);
  CHECK(c.stats().redelivered_frames == 0);
}

TEST_CASE("G7: a re-delivery that is still in the ring is not delivered a third time", "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.advance(unmeasured_ms + 10);
  REQUIRE(c.feed() == 1);
  c.advance(10000);
  CHECK(c.feed() == 0);
}

TEST_CASE("G7: three duplicate ACKs below early_ack deliver the first missing frame again, at once",
          "[G7]") {
  Options options;
  options.sack = false;
  ByHand c(options);
  c.peer_sends(4);
  c.guest_takes_all();
  c.guest(ack(1001));
  c.guest(ack(1001));
  c.guest(ack(1001));
  CHECK(c.feed() == 0);
  c.guest(ack(1001));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1001, 1000));
}

TEST_CASE("G7: a SACK of the guest shows the hole with the first duplicate ACK", "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  c.guest(ack(1).sack({{1001, 3001}}));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1, 1000));
}

TEST_CASE("G7: window updates are no duplicate ACKs", "[G7]") {
  Options options;
  options.sack = false;
  ByHand c(options);
  c.peer_sends(1);
  c.guest_takes_all();
  for (uint32_t i = 0; i < 5; ++i) c.guest(ack(1).window(510 + i));
  CHECK(c.feed() == 0);
}

TEST_CASE("G7: a partial ACK goes on to the next missing frame", "[G7]") {
  ByHand c;
  c.peer_sends(5);
  c.guest_takes_all();
  c.guest(ack(1).sack({{1001, 2001}, {3001, 5001}}));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1, 1000));
  c.guest(ack(2001).sack({{3001, 5001}}));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(2001, 1000));
  c.guest(ack(5001));
  CHECK(c.feed() == 0);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G7: a partial ACK does not reach for a frame that is still in the ring", "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.feed();
  c.consume(0 + 2);
  c.delivered();
  c.guest(ack(1).sack({{1001, 2001}}));
  c.feed();              // the first again, behind the third
  c.guest(ack(2001));    // came late by itself
  CHECK(c.feed() == 0);  // the third is in the ring
  c.consume();
  CHECK(c.feed() == 0);
}

namespace {

// A guest that runs in rounds: takes what is in its ring, loses some of it, and answers each frame
// that arrives, as RFC 2018 wants it: the block that grew first, three at most (timestamps).
struct Receiver {
  ByHand& c;
  uint32_t length;  // of each segment
  std::set<uint32_t> got = {};
  std::vector<uint32_t> recent = {};  // begins of what arrived, newest last
  uint32_t edge = 0;                  // raw window; 0: the connection's own

  uint32_t nxt() const {
    uint32_t n = 1;
    while (got.count(n)) n += length;
    return n;
  }
  Packet answer() const {
    Packet::Blocks blocks;
    for (size_t i = recent.size(); i-- && blocks.size() < 3;) {
      uint32_t left = recent[i], right = left + length;
      if (left < nxt()) continue;
      while (got.count(left - length)) left -= length;
      while (got.count(right)) right += length;
      const auto known = std::make_pair(left, right);
      if (std::find(blocks.begin(), blocks.end(), known) == blocks.end()) blocks.push_back(known);
    }
    Packet p = ack(nxt());
    if (edge) p.window(edge);
    return c.options().sack ? p.sack(blocks) : p;
  }
  // Returns how many frames were in the ring. `loses` says of each what becomes of it.
  size_t round(const std::function<bool(const Packet&)>& loses) {
    c.feed();
    const size_t n = c.consume();
    std::vector<Packet> answers;
    for (const Packet& p : c.delivered()) {
      if (loses(p)) continue;
      got.insert(p.seq());
      recent.push_back(p.seq());
      answers.push_back(answer());
    }
    for (const Packet& p : answers) c.guest(p);
    return n;
  }
};

bool nothing_lost(const Packet&) { return false; }

}  // namespace

TEST_CASE("G7: a window that the guest threw away is back after log N of its rounds, not N",
          "[G7]") {
  Options options;
  options.sack = GENERATE(true, false);
  const uint32_t n = GENERATE(1u, 2u, 7u, 60u, 120u);
  CAPTURE(options.sack, n);
  ByHand c(options);
  Receiver guest{c, 100};
  c.peer_sends(n, 100);
  guest.round([](const Packet&) { return true; });
  c.advance(unmeasured_ms + 10);
  uint32_t rounds = 0, doubled = 1;
  while (doubled <= n) doubled *= 2, ++rounds;  // 1 + 2 + 4 + ...
  for (; rounds; --rounds) guest.round(nothing_lost);
  CHECK(guest.nxt() == 1 + n * 100);
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().redelivered_frames == n);
}

TEST_CASE("G7: of what the guest shows by SACK only what it lacks is delivered again", "[G7]") {
  ByHand c;
  Receiver guest{c, 100};
  c.peer_sends(240, 100);
  const auto every_eighth = [](const Packet& p) { return (p.seq() / 100) % 8 == 2; };
  guest.round(every_eighth);
  for (int rounds = 0; rounds < 5; ++rounds) guest.round(nothing_lost);  // 1 2 4 8 15
  CHECK(guest.nxt() == 24001);
  CHECK(c.stats().redelivered_frames == 30);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G7: what came after the last frame shown is not taken for lost", "[G7]") {
  ByHand c;
  c.peer_sends(6);
  c.feed();
  c.consume();  // and is at work on it
  c.guest(ack(1).sack({{1001, 2001}}));
  CHECK(c.feed() == 1);
  c.consume();
  c.guest(ack(2001));
  CHECK(c.feed() == 0);
}

TEST_CASE("G7: a hole that an ACK shows as it moves is filled at once", "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  c.guest(ack(1001).sack({{2001, 3001}}));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1001, 1000));
}

TEST_CASE("G7: lost twice: what was fed after it has arrived, so it goes again without the timer",
          "[G7]") {
  ByHand c;
  Receiver guest{c, 1000};
  const auto first = [](const Packet& p) { return p.seq() == 1; };
  c.peer_sends(3);
  guest.round(first);
  REQUIRE(guest.round(first) == 1);  // again, and lost again
  CHECK(c.feed() == 0);              // nothing was fed since
  SECTION("new data") {
    c.peer(data(3001, 1000));
    guest.round(nothing_lost);
  }
  SECTION("data that waited meanwhile") {
    c.peer(data(3001, 1000));
    c.peer(data(4001, 1000));
    guest.round(first);
  }
  REQUIRE(c.feed() == 1);
  REQUIRE(c.world().ring().front().again);
  guest.round(nothing_lost);
  CHECK(guest.nxt() > 3001);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G7: lost twice, and a later re-delivery arrived: it goes again, first of all", "[G7]") {
  ByHand c;
  Receiver guest{c, 1000};
  c.peer_sends(8);
  guest.round([](const Packet& p) { return p.seq() % 2000 == 1; });
  guest.round(nothing_lost);  // 1 is back: two may be under way
  guest.round([](const Packet& p) { return p.seq() == 2001; });
  REQUIRE(c.feed() == 1);  // half of two
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(2001, 1000));
}

TEST_CASE("G7: a guest that loses half of what it is given gets less at a time", "[G7]") {
  ByHand c;
  Receiver guest{c, 100};
  c.peer_sends(200, 100);
  guest.round([](const Packet& p) { return p.seq() < 19001; });
  size_t most = 0;
  uint32_t n = 0;
  for (int i = 0; i < 2000 && guest.nxt() < 20001; ++i) {
    most = std::max(most, guest.round([&](const Packet&) { return ++n % 2 == 0; }));
    if (c.feed() == 0) c.advance(2500);
  }
  CHECK(guest.nxt() == 20001);
  CHECK(most <= 8);
}

TEST_CASE("G7: nothing but the first missing one goes beyond the guest's present window", "[G7]") {
  ByHand c;
  Receiver guest{c, 1000};
  c.peer_sends(10);
  guest.round([](const Packet& p) { return p.seq() != 9001; });
  c.advance(unmeasured_ms + 10);
  guest.edge = 8;  // 1024 bytes
  for (int i = 0; i < 8; ++i) CHECK(guest.round(nothing_lost) <= 2);
  CHECK(guest.nxt() > 3001);
}

TEST_CASE("G7: a guest that reneges on what it has shown gets all of it again", "[G7]") {
  ByHand c;
  Receiver guest{c, 100};
  c.peer_sends(64, 100);
  guest.round([](const Packet& p) { return p.seq() == 1; });
  guest.got.clear();  // it ran out of memory
  guest.recent.clear();
  for (int i = 0; i < 7; ++i) guest.round(nothing_lost);
  CHECK(guest.nxt() == 6401);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G7: the first missing frame goes again by the timer, whatever the guest's SACK says",
          "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  c.guest(ack(1).sack({{1001, 3001}}));
  c.guest_takes_all();
  c.guest(ack(1001));  // and yet it lacks the second
  c.feed();
  c.consume();
  c.delivered();
  CHECK(again(c).seq() == 1001);
}

TEST_CASE("G7: what was shown once is not asked for again when a later ACK shows nothing", "[G7]") {
  ByHand c;
  c.peer_sends(5);
  c.guest_takes_all();
  c.guest(ack(1).sack({{1001, 2001}, {3001, 5001}}));
  c.guest_takes_all();
  c.guest(ack(2001));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(2001, 1000));
}

TEST_CASE("G7: what waited behind a re-delivery is not taken for lost", "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  for (uint32_t i = 1; i < 4; ++i) c.peer(data(1 + i * 1000, 1000));
  c.advance(unmeasured_ms + 10);
  REQUIRE(c.feed() == 4);
  c.consume();  // the guest is at work on all of them
  c.guest(ack(1001));
  CHECK(c.feed() == 0);
}

TEST_CASE("G7: without SACK, a guest that had more than was thought gets one at a time", "[G7]") {
  Options options;
  options.sack = false;
  ByHand c(options);
  c.peer_sends(10);
  c.guest_takes_all();
  c.advance(unmeasured_ms + 10);
  c.guest_takes_all();
  c.guest(ack(4001));
  CHECK(c.feed() == 1);
}

TEST_CASE("G7: a re-delivery that was cut goes on when its part is confirmed, and only then",
          "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  c.guest(ack(1).window(2).sack({{2001, 3001}}));
  c.feed();
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1, 256));
  c.guest(ack(257).window(0).sack({{2001, 3001}}));
  c.feed();
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(257, 1));  // the local probe
  c.guest(ack(257).window(0).sack({{2001, 3001}}));
  CHECK(c.feed() == 0);  // or the two would talk without end
}

TEST_CASE("G7: after one recovery duplicate ACKs begin another", "[G7]") {
  Options options;
  options.sack = false;
  ByHand c(options);
  c.peer_sends(4);
  c.guest_takes_all();
  for (int i = 0; i < 3; ++i) c.guest(ack(1));
  c.guest_takes_all();
  c.guest(ack(4001));
  c.peer(data(4001, 1000));
  c.peer(data(5001, 1000));
  c.guest_takes_all();
  for (int i = 0; i < 3; ++i) c.guest(ack(4001));
  CHECK(c.feed() == 1);
}

TEST_CASE("G7: a frame that came back confirmed does not end the recovery", "[G7]") {
  ByHand c;
  c.peer_sends(5);
  c.guest_takes_all();
  c.advance(unmeasured_ms + 10);
  REQUIRE(c.feed() == 1);
  c.guest(ack(1001));  // late, by itself; the re-delivery stands in the ring
  c.world().lose_ring();
  REQUIRE(c.feed(2) == 2);
  c.consume();
  c.delivered();
  c.guest(ack(3001));
  c.feed();
  CHECK(c.world().ring().size() == 2);
}

TEST_CASE("G7: of hundreds of frames 128 are under way at one time", "[G7]") {
  ByHand c;
  Receiver guest{c, 50};
  c.peer_sends(300, 50);
  guest.round([](const Packet&) { return true; });
  c.advance(unmeasured_ms + 10);
  size_t most = 0;
  for (int i = 0; i < 9; ++i) most = std::max(most, guest.round(nothing_lost));
  CHECK(most == 128);
  CHECK(guest.nxt() == 15001);
}

TEST_CASE("G7: of a super-frame the guest may lack a part: it gets all of it again", "[G7]") {
  ByHand c;
  c.peer(data(1, 8000));
  c.guest_takes_all();
  c.guest(ack(1001).sack({{3001, 5001}}));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneSegment(1001, 7000));
}

TEST_CASE("G7: SACK blocks of what was never sent show nothing", "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.guest_takes_all();
  c.guest(ack(1).sack({{2001, 90001}, {2001, 1001}, {3001, 3001}}));
  CHECK(c.feed() == 0);
}

TEST_CASE("G7: frames that overlap where a recovery ends do not outlive it", "[G7]") {
  ByHand c;
  c.peer(data(1, 1000));
  c.peer(data(501, 1000));
  c.guest_takes_all();
  c.peer(data(1001, 1000));  // waits
  c.advance(unmeasured_ms + 10);
  c.feed(1);
  REQUIRE(c.world().ring().front().again);
  c.consume();
  c.guest(ack(1001));  // all that came before what waits
  c.guest(ack(1501));
  CHECK(c.world().custody() == 1);
  c.guest_takes_all();
  c.guest(ack(2001));
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().redelivered_frames == 1);
}

TEST_CASE("G7: the ring is lost in mid-recovery: everything comes, once, in order", "[G7]") {
  ByHand c;
  Receiver guest{c, 100};
  c.peer_sends(40, 100);
  guest.round([](const Packet& p) { return p.seq() < 3001; });
  for (int i = 0; i < 3; ++i) guest.round(nothing_lost);
  REQUIRE(c.feed() > 2);
  c.world().lose_ring();
  c.guest(guest.answer());
  for (int i = 0; i < 12; ++i) {
    guest.round(nothing_lost);
    if (c.world().custody() && c.feed() == 0) c.advance(2500);
  }
  CHECK(guest.nxt() == 4001);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G7: above a hole of the peer's nothing is delivered again: the guest speaks there",
          "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.peer(data(4001, 1000));
  c.peer(data(6001, 1000));
  c.guest_takes_all();
  c.guest(ack(1).sack({{6001, 7001}, {1001, 2001}}));
  for (int i = 0; i < 3; ++i) {
    c.feed();
    c.consume();
    for (const Packet& p : c.delivered()) CHECK(p.seq() < 3001);
    c.guest(ack(2001).sack({{6001, 7001}}));
  }
  CHECK(c.stats().redelivered_frames == 2);
}

TEST_CASE("G7: the D-SACK that a re-delivery provokes never reaches the peer, nor does its ACK",
          "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.advance(unmeasured_ms + 10);
  c.guest_takes_all();
  c.guest(ack(1001));
  CHECK_FALSE(c.guest(ack(1001).sack({{1, 1001}})).passed);
  const Outcome o = c.guest(data(1, 10).ack(1001).sack({{1, 1001}}));
  REQUIRE(o.passed);
  CHECK(o.seen->sack().empty());
}

TEST_CASE("G7: a D-SACK of the peer's own duplicate passes while nothing was delivered again",
          "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  c.guest(ack(1001));
  const Outcome o = c.guest(ack(1001).sack({{1, 1001}}));
  REQUIRE(o.passed);
  CHECK(o.seen->sack() == Packet::Blocks{{1, 1001}});
}

TEST_CASE("G7: guest firewall (trap): a frame never acknowledged ends in fail-stop after giveup",
          "[G7]") {
  Setup setup;
  setup.guest.giveup_us = 5000000;
  Established c(setup);  // the ring is served: there is progress, and no ACK
  c.peer(data(1, 1000));
  c.emitted();
  c.advance(4500);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.stats().redelivered_frames >= 4);
  c.advance(4000);
  CHECK_THAT(c.emitted(), Resets(1));
  CHECK_THAT(c.resets_to_guest(), Resets(1));
  CHECK(c.count(VSNOOP_REASON_failstop_giveup) == 1);
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().outstanding == 0);
}

TEST_CASE("G7: giveup asks for ring progress: a guest that takes nothing is not given up", "[G7]") {
  Setup setup;
  setup.guest.giveup_us = 5000000;
  ByHand c(setup);
  c.peer_sends(1);
  c.feed();
  c.advance(60000);
  CHECK(c.count(VSNOOP_REASON_failstop_giveup) == 0);
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
}

TEST_CASE("Custody: no promise stands longer than promise_age") {
  Setup setup;
  setup.guest.promise_age_us = 10000000;
  ByHand c(setup);
  c.peer_sends(1);
  c.feed();
  c.emitted();
  c.advance(9000);
  CHECK_THAT(c.emitted(), Nothing());
  c.advance(4000);
  CHECK_THAT(c.emitted(), Resets(1));
  CHECK(c.count(VSNOOP_REASON_failstop_age) == 1);
  c.consume();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Custody: the age of a promise counts from the guest's last progress") {
  Setup setup;
  setup.guest.promise_age_us = 10000000;
  ByHand c(setup);
  c.peer_sends(3);
  c.guest_takes_all();
  c.advance(8000);
  c.guest(ack(1001));
  c.advance(8000);
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
}

TEST_CASE("Custody: ring torn down (trap): what stood in it waits again, in its order") {
  ByHand c;
  c.peer_sends(4);
  c.feed(3);
  c.world().lose_ring();
  CHECK(c.feed() == 4);
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 4);
  for (uint32_t i = 0; i < 4; ++i) CHECK(got[i].seq() == 1 + i * 1000);
}

TEST_CASE("Custody: ring torn down after the flow was reset: the frames come back to the host") {
  ByHand c;
  c.peer_sends(3);
  c.feed();
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  c.world().lose_ring();
  c.feed();
  CHECK(c.world().ring().empty());
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().held == 0);
}

TEST_CASE("Custody: ring torn down with frames that were confirmed meanwhile: they are discarded") {
  ByHand c;
  c.peer_sends(2);
  c.feed();
  c.guest(ack(2001));
  c.world().lose_ring();
  c.feed();
  CHECK(c.world().ring().empty());
  CHECK(c.world().custody() == 0);
}

// --- what lies above a hole ----------------------------------------------------------------------

TEST_CASE("Custody: frames above a hole are held and promised when the hole is filled (P5)") {
  Established c;
  c.peer(data(2001, 1000));
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().holes == 1);
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(3001));
  CHECK(c.flow().holes == 0);
}

TEST_CASE("Custody: frames taken out of order are delivered again in order of sequence") {
  ByHand c;
  c.peer(data(2001, 1000));
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  c.guest_takes_all();
  CHECK(again(c).seq() == 1);
  c.guest(ack(1001));
  c.feed();
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 2);
  CHECK(got[0].seq() == 1001);
  CHECK(got[1].seq() == 2001);
  c.guest(ack(3001));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Custody: I7: more holes than are remembered: the guest speaks") {
  Established c;
  for (uint32_t i = 0; i < 4; ++i)
    CHECK(c.peer(data(1001 + i * 2000, 1000)).action() == VSNOOP_KEEP);
  CHECK_THAT(c.peer(data(9001, 1000)), Passed(VSNOOP_REASON_holes_full));
  CHECK(c.flow().holes == 4);
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(2001));
}

TEST_CASE("Custody: ranges above a hole that nobody was promised are let go after a long time") {
  Established c;
  c.peer(data(1001, 1000));
  REQUIRE(c.world().custody() == 1);
  c.advance(70000);
  CHECK(c.world().custody() == 0);
  CHECK(c.flow().holes == 0);
  // Nothing is taken for held that is not, and the guest has it and speaks.
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.guest_acks(), Passed(VSNOOP_REASON_guest_passes));
  CHECK(c.flow().early_ack == 2001);
}

TEST_CASE(
    "Custody: ranges that are let go while their frames stand in the ring: the guest has them") {
  ByHand c;
  c.peer(data(1001, 1000));
  c.feed();
  c.consume();
  c.peer(data(2001, 1000));
  c.feed();
  c.advance(70000);
  REQUIRE(c.count(VSNOOP_REASON_ranges_let_go) == 1);
  REQUIRE(c.world().custody() == 1);  // the guest has not looked into its ring again
  // An ACK of 1001 would end where the guest's SACK begins.
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_passed_above));
  CHECK_THAT(c.emitted(), Nothing());
  c.guest_takes_all();
  CHECK_THAT(c.guest_acks(), Passed(VSNOOP_REASON_guest_passes));
  CHECK_THAT(c.peer(data(3001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE(
    "Custody: with ranges that are let go goes the room reserved for what is no longer shown") {
  Setup setup;
  setup.guest.budget = 4 << 20;
  Established c(setup, Options{.guest_wscale = 9});
  c.guest(ack(1).window(2000));
  c.peer(data(1001, 1000));
  c.advance(70000);
  CHECK(c.flow().reserved == 0);
  CHECK(c.stats().used == 0);
}

TEST_CASE(
    "Custody: bytes in order that were let go unpromised are not promised when they come again") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  REQUIRE(o.action() == VSNOOP_KEEP);
  c.world().quiesce();  // between verdict and taken
  c.finish(o);
  REQUIRE(c.flow().rcv_nxt == 1001);
  REQUIRE(c.flow().early_ack == 1);
  c.advance(70000);
  REQUIRE(c.world().custody() == 0);
  c.world().quiesce(false);
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

// --- P9: resets ----------------------------------------------------------------------------------

TEST_CASE("P9: RST overtaking held data (trap): it waits until the guest confirmed everything",
          "[P9]") {
  ByHand c;
  c.peer_sends(2);
  CHECK_THAT(c.peer(rst(2001)), Kept(VSNOOP_REASON_rst_exact));
  c.guest_takes_all();
  CHECK(c.feed() == 0);
  c.guest(ack(1001));
  CHECK(c.feed() == 0);
  c.guest(ack(2001));
  REQUIRE(c.feed() == 1);
  c.consume();
  CHECK_THAT(c.delivered(), OneReset(2001));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P9: data is delivered again while the RST waits", "[P9]") {
  ByHand c;
  c.peer_sends(1);
  c.peer(rst(1001));
  c.guest_takes_all();
  CHECK(again(c).seq() == 1);
  c.guest(ack(1001));
  c.feed();
  c.consume();
  CHECK_THAT(c.delivered(), OneReset(1001));
}

TEST_CASE("P9: with nothing outstanding the RST passes and the flow ends", "[P9]") {
  Established c;
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  CHECK_THAT(c.peer(rst(1001)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P9: frames above a hole and behind the RST are freed with the flow", "[P9]") {
  ByHand c;
  c.peer(data(1, 1000));
  c.peer(data(2001, 1000));  // above a hole
  c.peer(rst(1001));
  c.peer(data(500, 400).set(URG));  // behind the reset
  REQUIRE(c.world().custody() == 4);
  c.guest_takes_all();
  c.guest(ack(1001));
  c.feed();
  c.consume();
  c.advance(50);
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: I7: resets repeated without end are held once", "[P9]") {
  ByHand c;
  c.peer_sends(1);
  c.feed();
  for (int i = 0; i < 1000; ++i) c.peer(rst(1001));
  CHECK(c.world().custody() == 2);
}

TEST_CASE("P9: a reset that the host declines to hold does not overtake held data", "[P9]") {
  ByHand c;
  c.peer_sends(1);
  c.guest_takes_all();
  CHECK_FALSE(c.peer(rst(1001), false).passed);
}

TEST_CASE("P9: the guest's own reset ends it all while the peer's waits", "[P9]") {
  ByHand c;
  c.peer_sends(1);
  c.peer(rst(1001));
  c.feed();
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);
  c.consume();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: a guest that never confirms: the waiting RST goes with the fail-stop", "[P9]") {
  Setup setup;
  setup.guest.giveup_us = 5000000;
  Established c(setup);
  c.peer(data(1, 1000));
  c.emitted();
  c.peer(rst(1001));
  c.advance(15000);
  CHECK_THAT(c.resets_to_guest(), Resets(1));
  CHECK(c.world().custody() == 0);
}

TEST_CASE(
    "Custody: grant copy fails, netback frees a frame unseen (traps): what the host could not "
    "take is not promised, and comes again") {
  Established c;
  c.peer(data(1, 1000), false);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().rcv_nxt == 1);
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("Custody: data without ACK flag dropped silently (trap): forwarded, never promised") {
  Established c;
  CHECK_THAT(c.peer(data(1, 100).clear(ACK)), Passed(VSNOOP_REASON_no_ack_flag));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE(
    "Custody: guest XDP drops multi-page frames (trap): a large frame is delivered again and "
    "again, then both sides are reset, and nothing is lost in silence") {
  Setup setup;
  setup.guest.giveup_us = 3000000;
  Established c(setup);
  c.peer(data(1, 30000));
  REQUIRE_THAT(c.emitted(), OneAck(30001));
  c.advance(10000);
  CHECK(c.stats().redelivered_frames >= 4);
  CHECK_THAT(c.emitted(), Resets(1));
}

TEST_CASE("Custody: flows that leave the queue for the ring leave the others in their order") {
  // The first, one in the middle, the last; waiting for their first turn, for another, or aside.
  for (const int where : {0, 1, 2}) {
    for (const unsigned gone : {1u, 2u, 4u, 8u, 16u, 3u, 6u, 24u, 21u, 10u, 30u, 17u}) {
      CAPTURE(where, gone);
      Setup setup;
      World world(setup);
      world.automatic = false;
      std::vector<std::unique_ptr<Established>> flows;
      for (unsigned i = 0; i < 6; ++i) {
        Options o;
        o.peer_port = static_cast<uint16_t>(30000 + i);
        flows.push_back(std::make_unique<Established>(world, o));
      }
      for (unsigned i = 0; i < 5; ++i)
        for (uint32_t k = 0; k < 60; ++k) flows[i]->peer(data(1 + 1000 * k, 1000));
      vsnoop_feed feed;
      std::vector<unsigned> order = {0, 1, 2, 3, 4};
      if (where == 1) world.feed(0, 16 * 5);  // each has had its turn
      if (where == 2)
        while (vsnoop_next(world.engine(), 0, &feed, world.now()))
          vsnoop_skip(world.engine(), 0, &feed, 3);
      for (unsigned i = 0; i < 5; ++i)
        if (gone >> i & 1) flows[i]->guest(Packet().seq(1).set(RST).clear(ACK));
      flows[5]->peer(data(1, 1000));
      if (where == 2) vsnoop_resume(world.engine(), 0, 3);
      world.consume();
      for (auto& c : flows) c->delivered();
      std::vector<unsigned> served;
      for (int round = 0; round < 200 && world.feed(0, 1); ++round) {
        world.consume();
        for (unsigned i = 0; i < 6; ++i)
          if (!flows[i]->delivered().empty() && (served.empty() || served.back() != i))
            served.push_back(i);
      }
      std::vector<unsigned> expected;
      for (unsigned i = 0; i < 5; ++i)
        if (!(gone >> i & 1)) expected.push_back(i);
      // One that had nothing waiting goes first, unless the others still wait for their first turn.
      expected.insert(where == 0 ? expected.end() : expected.begin(), 5);
      REQUIRE(served.size() >= expected.size());
      served.resize(expected.size());
      CHECK(served == expected);
      world.stop();
      world.feed();
      world.consume();
    }
  }
}
