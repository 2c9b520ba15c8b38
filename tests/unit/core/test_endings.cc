// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// How promises end: the one place where a flow ends, resets that may be lost, when a guest is given
// up, windows that the guest takes back, a new connection on the same tuple, handing back gently.
#include <algorithm>
#include <set>

#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

// The ring is served by the test.
struct ByHand : Established {
  explicit ByHand(const Options& options = Options()) : ByHand(Setup(), options) {}
  explicit ByHand(const Setup& setup, const Options& options = Options())
      : Established(setup, options) {
    world().automatic = false;
  }
  void peer_sends(uint32_t frames) {
    for (uint32_t i = 0; i < frames; ++i) peer(data(1 + 1000 * i, 1000));
    emitted();
  }
};

size_t resets(const std::vector<Packet>& packets) {
  return static_cast<size_t>(
      std::count_if(packets.begin(), packets.end(), [](const Packet& p) { return p.has(RST); }));
}

Packet guest_rst(uint32_t seq) { return Packet().seq(seq).set(RST).clear(ACK); }

}  // namespace

// --- late segments of the handshake --------------------------------------------------------------

TEST_CASE("P8: a SYN-ACK of this very connection that comes late ends nothing", "[P8]") {
  for (const uint32_t sent : {0u, 300u}) {  // bytes of the guest's own
    ByHand c;
    c.peer_sends(10);
    c.feed();
    c.consume(2);
    if (sent) c.guest(data(1, sent).ack(1));
    c.guest(ack(2001));
    const uint64_t promised = c.stats().outstanding;
    REQUIRE(promised == 8000);
    CHECK_THAT(c.guest(syn_ack(1, 0)), Passed());
    REQUIRE(c.tracked());
    CHECK(c.stats().outstanding == promised);
    CHECK(c.world().custody() == 8);
    c.consume();
    c.guest(ack(10001));
    CHECK(c.world().custody() == 0);
  }
}

TEST_CASE("P8: nor does the guest's own SYN, when it had opened", "[P8]") {
  ByHand c(Options{.guest_opens = true});
  c.peer_sends(2);
  c.guest(syn(0));
  REQUIRE(c.tracked());
  CHECK(c.stats().outstanding == 2000);
  c.feed();
  c.consume();
  c.guest(ack(2001));
}

TEST_CASE(
    "P8: a guest that opens anew over a promise: the peer is shown a reset, the tuple is free",
    "[P8]") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  CHECK_THAT(c.guest(syn(90000)), Passed(VSNOOP_REASON_syn));
  CHECK_THAT(c.emitted(), OneReset(1));
  CHECK(c.world().custody() == 0);
  // The peer knows nothing of the old connection and answers at once.
  c.rebase(500000, 90000);
  CHECK_THAT(c.peer(syn_ack()), Passed(VSNOOP_REASON_syn));
  c.guest(ack(1));
  REQUIRE(c.tracked());
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

// --- resets --------------------------------------------------------------------------------------

TEST_CASE("G6: a reset that the peer cannot take for one of this connection ends nothing", "[G6]") {
  ByHand c;
  c.guest(data(1, 200).ack(1));
  c.peer(data(1, 1000).ack(101));
  for (const uint32_t seq : {100u, 202u, 0x80000000u, 0u}) {
    CHECK_THAT(c.guest(guest_rst(seq)), Passed(VSNOOP_REASON_guest_reset));
    REQUIRE(c.tracked());
    CHECK(c.stats().outstanding == 1000);
  }
  c.guest(guest_rst(201));
  CHECK(c.stats().outstanding == 0);
}

TEST_CASE("G6: the guest's reset over a promise is repeated: the peer has nothing to ask with",
          "[G6]") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  c.guest(guest_rst(1));
  CHECK_THAT(c.emitted(), OneReset(1));
  c.advance(60000);
  const auto later = c.emitted();
  CHECK(resets(later) == later.size());
  CHECK(later.size() >= 4);
  CHECK(later.size() <= 10);
  CHECK_THAT(c.resets_to_guest(), Nothing());
  c.advance(140000);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_FALSE(c.tracked());
}

TEST_CASE("G6: without a promise the peer itself asks again: nothing is repeated", "[G6]") {
  Established c;
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.emitted();
  c.guest(guest_rst(1));
  CHECK_FALSE(c.tracked());
  c.advance(10000);
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("Fail-stop: resets are repeated at both numbers that can be the peer's RCV.NXT") {
  ByHand c;
  c.guest(data(1, 200).ack(1));
  c.peer(data(1, 1000).ack(101));  // its ACK of the rest is lost
  c.emitted();
  c.world().stop();
  c.advance(10000);
  std::set<uint32_t> numbers;
  for (const Packet& p : c.emitted()) numbers.insert(p.seq());
  CHECK(numbers == std::set<uint32_t>{101, 201});
}

TEST_CASE(
    "Fail-stop: a peer that resets, or whose new SYN the guest answers, needs no more of them") {
  for (const bool opens : {false, true}) {
    ByHand c;
    c.peer_sends(1);
    c.world().stop();
    c.emitted();
    if (opens) {
      c.peer(syn(70000));
      c.guest(syn_ack(70001, 90000));
    } else {
      c.peer(rst(1001));
    }
    c.advance(60000);
    CHECK_THAT(c.emitted(), Nothing());
  }
}

TEST_CASE("Fail-stop: who does not know the peer's number neither ends nor misdirects the resets") {
  // RFC 5961: one guess each.
  const std::vector<std::pair<const char*, Packet>> guesses = {
      {"reset", rst(0x40000000)},
      {"reset in the window", rst(30000)},
      {"reset with SYN", rst(0x40000000).set(SYN)},
      {"SYN", syn(0x40000000)},
      {"SYN-ACK", syn_ack(77, 0x40000000)},
      {"ACK ahead", ack(0x40000000).seq(1001)},
      {"ACK behind", ack(0xf0000000).seq(1001)},
      {"corrupt reset", rst(1001).bad()},
      {"corrupt ACK", ack(150).seq(1001).bad()},
  };
  for (const auto& [name, guess] : guesses) {
    CAPTURE(name);
    ByHand c;
    c.guest(data(1, 200).ack(1));
    c.peer(data(1, 1000).ack(101));
    c.emitted();
    c.world().stop();
    c.emitted();
    c.peer(guess);
    c.emitted();
    c.advance(60000);
    std::multiset<uint32_t> numbers;
    for (const Packet& p : c.emitted()) numbers.insert(p.seq());
    CHECK(numbers.count(101) == 3);
    CHECK(numbers.count(201) == 3);
    CHECK(numbers.size() == 6);
  }
}

TEST_CASE("Fail-stop: a SYN-ACK with a wrong number does not end a tombstone that a SYN waits on") {
  ByHand c;
  c.peer_sends(1);
  c.guest(syn(90000));
  c.emitted();
  REQUIRE(c.flow().state == VSNOOP_FLOW_STOPPED);
  c.peer(syn_ack(77, 0x40000000));
  REQUIRE(c.tracked());
  c.peer(syn_ack(90001, 500000));
  CHECK_FALSE(c.tracked());
}

TEST_CASE(
    "Fail-stop: a tombstone and one who takes its resets for wrong do not go round in no time") {
  ByHand c;
  c.peer_sends(1);
  c.world().stop();
  c.emitted();
  c.resets_to_guest();
  for (int i = 0; i < 1000; ++i) c.peer(ack(1).seq(1001));
  CHECK(c.emitted().size() <= 1);
  for (int i = 0; i < 1000; ++i) c.guest(ack(1));
  CHECK(c.resets_to_guest().size() <= 1);
  c.advance(2);
  c.peer(ack(1).seq(1001));
  CHECK(resets(c.emitted()) == 1);
}

// --- when a guest is given up --------------------------------------------------------------------

TEST_CASE("Give-up: a guest that is deaf for a minute and a quarter gets everything") {
  ByHand c;
  c.peer_sends(5);
  c.feed();
  c.consume();
  for (int i = 0; i < 75; ++i) {
    c.advance(1000);
    c.feed();
    c.consume();
  }
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  c.guest(ack(5001));
  CHECK(c.world().custody() == 0);
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("Give-up: a program that does not read for an hour, while its guest answers each probe") {
  ByHand c;
  c.peer_sends(5);
  c.feed();
  c.consume();
  for (int i = 0; i < 3600; ++i) {
    c.advance(1000);
    if (c.feed() == 0) continue;
    c.consume();
    c.guest(ack(1001).window(0));
  }
  REQUIRE(c.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK(resets(c.emitted()) == 0);
  c.guest(ack(5001).window(502));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Give-up: not before a sender would (RFC 9293 3.8.3), but then") {
  ByHand c;
  c.peer_sends(5);
  for (int i = 0; i < 950; ++i) {
    c.advance(1000);
    c.feed();
    c.consume();
  }
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  for (int i = 0; i < 100; ++i) {
    c.advance(1000);
    c.feed();
    c.consume();
  }
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK(resets(c.emitted()) >= 1);
}

// --- windows that the guest takes back -----------------------------------------------------------

TEST_CASE("I2: what the guest has taken back is not promised any more", "[I2]") {
  Established c;
  c.guest(ack(1).window(8));  // 1024 bytes; the SYN-ACK said 64240
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.emitted(), Nothing());
  c.guest(ack(1001).window(502));
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("I4: a window that the guest closed is shown closed, by vsnoop as well", "[I4]") {
  ByHand c;
  c.peer_sends(3);
  c.feed();
  c.consume();
  const Outcome o = c.guest(ack(1001).window(0));
  REQUIRE(o.passed);
  CHECK(o.seen->ack() == 3001);
  CHECK(o.seen->window() == 0);
  c.peer(data(1, 1000));  // a duplicate: vsnoop answers
  const auto said = c.emitted();
  REQUIRE_THAT(said, Count(1));
  CHECK(said[0].ack() == 3001);
  CHECK(said[0].window() == 0);
  // Its probe is the guest's to answer.
  CHECK_THAT(c.peer(data(3001, 1)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.guest(ack(3001).window(502)).seen->window() == 502);
}

TEST_CASE("I2b: with a window that is taken back goes what was reserved for it", "[I2b]") {
  Setup setup;
  setup.guest.budget = 4 << 20;
  Established c(setup, Options{.guest_wscale = 9});
  c.guest(ack(1).window(2000));
  REQUIRE(c.flow().reserved > 0);
  c.guest(ack(1).window(20));
  CHECK(c.flow().reserved == 0);
  CHECK(c.stats().used == 0);
  c.guest(ack(1).window(2000));
  CHECK(c.flow().shown_edge == 1 + 2000 * 512);
}

// --- a new connection on the same tuple ----------------------------------------------------------

TEST_CASE("P9: a new connection does not wait for the end of the old one's promise", "[P9]") {
  for (const bool syn_first : {false, true}) {
    ByHand c;
    c.peer_sends(3);
    c.feed(1);
    if (syn_first) c.peer(syn(500000));
    c.peer(rst(3001));
    if (!syn_first) c.peer(syn(500000));
    c.feed();
    c.consume();  // it acknowledges nothing
    auto got = c.delivered();
    if (syn_first) {
      c.peer(syn(500000));
      c.feed();
      c.consume();
      for (const Packet& p : c.delivered()) got.push_back(p);
    }
    REQUIRE(got.size() == (syn_first ? 6 : 5));
    CHECK(got[syn_first ? 4 : 3].has(RST));
    CHECK(got.back().has(SYN));
    c.advance(50);
    CHECK_FALSE(c.tracked());
    CHECK(c.world().custody() == 0);
    CHECK(c.stats().outstanding == 0);
  }
}

TEST_CASE(
    "P9: a SYN that anybody can send does not let the peer's later reset overtake the promise",
    "[P9]") {
  ByHand c;
  c.peer_sends(3);
  c.peer(syn(500000));
  c.advance(90000);  // nobody goes on with it
  c.guest(ack(1));
  c.peer(rst(3001));
  c.feed();
  c.consume();
  for (const Packet& p : c.delivered()) CHECK_FALSE(p.has(RST));
  c.guest(ack(3001));
  c.feed();
  c.consume();
  CHECK(c.delivered().back().has(RST));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: a SYN behind the reset is not lost when the ring has no room for it", "[P9]") {
  ByHand c;
  c.peer_sends(2);
  c.peer(rst(2001));
  c.peer(syn(500000));
  c.world().ring_slots = 3;
  REQUIRE(c.feed() == 3);
  c.advance(50);  // the old connection is over
  CHECK_FALSE(c.tracked());
  c.consume();
  CHECK(c.feed() == 1);
  c.consume();
  CHECK(c.delivered().back().has(SYN));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: what waits behind the reset of a peer goes when the guest is gone", "[P9]") {
  ByHand c;
  c.peer_sends(2);
  c.peer(rst(2001));
  c.peer(syn(500000));
  c.world().ring_slots = 3;
  c.feed();
  c.advance(50);
  c.world().stop();
  c.consume();
  CHECK(c.world().custody() == 0);
}

// --- handing back --------------------------------------------------------------------------------

TEST_CASE("Hand-back: what was invited is held, in order, and not promised, when promising ends") {
  for (const bool quiesced : {false, true}) {
    ByHand c;
    c.peer_sends(1);
    c.world().ring_slots = 4;
    if (quiesced)
      c.world().quiesce();
    else
      c.guest(fin(1).ack(1));  // a half-close: it goes on reading
    for (uint32_t i = 1; i < 30; ++i)
      CHECK_THAT(c.peer(data(1 + 1000 * i, 1000)),
                 Kept(quiesced ? VSNOOP_REASON_quiescing : VSNOOP_REASON_guest_closed));
    CHECK_THAT(c.emitted(), Nothing());
    CHECK(c.stats().outstanding == 1000);
    // The peer's timer is short: what it sends again is on its way already.
    CHECK_THAT(c.peer(data(20001, 1000)), Dropped(VSNOOP_REASON_duplicate_unpromised));
    while (c.feed()) c.consume();
    CHECK(c.guest_rcv_nxt() == 30001);
    CHECK(c.delivered().size() == 30);
    const Outcome o = c.guest(ack(30001));
    CHECK(o.passed);  // the peer has seen no ACK of it
    CHECK(c.world().custody() == 0);
  }
}

TEST_CASE(
    "Hand-back: a frame that was lost after all the peer sends again, and the guest gets it") {
  ByHand c;
  c.peer_sends(1);
  c.world().quiesce();
  c.peer(data(1001, 1000));
  c.feed();
  c.consume();
  c.guest(ack(1001));  // it dropped the second
  CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_duplicate_unpromised));
  c.consume();
  CHECK(c.guest(ack(2001)).passed);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Hand-back: a connection that vsnoop never touched passes as it is (I5)") {
  Established c;
  c.world().quiesce();
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_quiescing));
}

TEST_CASE("Fail-stop: tombstones do not keep the records from one that has data", "[I7]") {
  Setup setup;
  setup.engine.custodies = 4;
  World world(setup);
  std::vector<std::unique_ptr<Established>> gone;
  for (uint16_t i = 0; i < 4; ++i) {
    Options o;
    o.peer_port = static_cast<uint16_t>(40000 + i);
    gone.push_back(std::make_unique<Established>(world, o));
    CHECK_THAT(gone.back()->peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
    gone.back()->emitted();
    gone.back()->guest(rst(1));
    gone.back()->emitted();
  }
  Options o;
  o.peer_port = 41000;
  Established next(world, o);
  CHECK_THAT(next.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(next.emitted(), OneAck(1001));
}
