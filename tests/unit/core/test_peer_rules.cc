// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Peer to guest: P0 .. P12 of docs/ack-rules.md, a test per clause, in the order of that table.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

/// A connection with [1, 1001) promised and delivered, and not acknowledged by the guest.
struct Promised : Established {
  template <typename... Arguments>
  explicit Promised(Arguments&&... arguments) : Established(arguments...) {
    peer(data(1, 1000));
    REQUIRE(flow().early_ack == 1001);
    emitted();
    delivered();
  }
};

/// Whether an ACK of the guest that says nothing new would pass now. Uses the credit up.
bool owes_an_answer(Connection& c) {
  return c.guest(ack(c.flow().guest_ack)).action() != VSNOOP_DROP;
}

Setup ring_policy() {
  Setup s;
  s.guest.policy = VSNOOP_POLICY_RING;
  return s;
}

/// vsnoop keeps the window closed: a guest with 1 MiB of window, a budget that does not cover it.
Setup small_budget() {
  Setup s;
  s.guest.budget = 128 * 1024;
  return s;
}
Options large_window() { return {.guest_window = 8192}; }

/// Fills the window that is shown, while the guest sleeps (nothing is acknowledged).
void fill(Connection& c) {
  for (int i = 0; i < 1000; ++i) {
    const vsnoop_flow_info f = c.flow();
    const uint32_t room = f.shown_edge - f.rcv_nxt;
    if (!room) break;
    c.peer(data(f.rcv_nxt, std::min(room, 1460u)).memory(1536));
  }
  REQUIRE(c.flow().early_ack == c.flow().shown_edge);
  REQUIRE(distance(c.flow().shown_edge, c.flow().right_edge) < 0);
  c.emitted();
}

}  // namespace

// --- P1: in order --------------------------------------------------------------------------------

TEST_CASE("P1: data in order is kept, and acknowledged once it is taken", "[P1]") {
  const bool guest_opens = GENERATE(false, true);
  Established c(Options{.guest_opens = guest_opens});
  Outcome o = c.ask(data(1, 1000));
  CHECK_THAT(o, Kept(VSNOOP_REASON_in_order));
  CHECK(o.verdict.retain == 1);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1);
  c.finish(o);
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK(c.emitted_reason() == VSNOOP_REASON_early_ack);
  CHECK_THAT(c.delivered(), OneSegment(1, 1000));
  CHECK(c.flow().rcv_nxt == 1001);
  CHECK(c.flow().guest_ack == 1);
  CHECK(c.stats().early_acks == 1);
  CHECK(c.stats().promised_bytes == 1000);
}

TEST_CASE("P1: what the host declines is not promised", "[P1]") {
  Established c;
  const Outcome o = c.peer(data(1, 1000), false);
  CHECK_THAT(o, Kept(VSNOOP_REASON_in_order));
  CHECK(o.passed);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().rcv_nxt == 1);
  CHECK(c.count(VSNOOP_REASON_not_taken) == 1);
  // The guest speaks for itself.
  CHECK_THAT(c.guest_acks(), Passed(VSNOOP_REASON_guest_passes));
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P1: a failed grant copy promises nothing (ring policy)", "[P1][traps]") {
  Established c(ring_policy());
  CHECK_THAT(c.peer(data(1, 1000), false), Pushed(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1);
  CHECK_THAT(c.peer(data(1, 1000)), Pushed(VSNOOP_REASON_in_order));  // the retransmission
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("P1: taken for a flow that is gone meanwhile is refused", "[P1]") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  c.guest(rst(1));
  c.finish(o);
  CHECK_FALSE(o.taken);
  CHECK(o.passed);
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P1: one early ACK a frame, a super-frame is one", "[P1]") {
  Established c;
  c.peer(data(1, 43800));
  CHECK_THAT(c.emitted(), OneAck(43801));
}

TEST_CASE("P1: a single byte is promised too", "[P1]") {
  Established c;
  c.peer(data(1, 1));
  CHECK_THAT(c.emitted(), OneAck(2));
  c.peer(data(2, 1));
  CHECK_THAT(c.emitted(), OneAck(3));
}

TEST_CASE("P1: several frames before the host emits make one early ACK", "[P1]") {
  Established c;
  c.world().automatic = c.world().emits = false;
  for (uint32_t i = 0; i < 5; ++i) c.peer(data(1 + 1000 * i, 1000));
  CHECK_THAT(c.emitted(), Nothing());
  c.world().emit();
  CHECK_THAT(c.emitted(), OneAck(5001));
}

TEST_CASE("P1: data up to the guest's right edge is acknowledged, one byte more is not",
          "[P1][P6]") {
  Established fits(Options{.syn_window = 1000, .guest_window = 0});
  CHECK_THAT(fits.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(fits.emitted(), OneAck(1001));
  CHECK(fits.flow().early_ack == fits.flow().right_edge);
  Established over(Options{.syn_window = 1000, .guest_window = 0});
  CHECK_THAT(over.peer(data(1, 1001)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(over.emitted(), Nothing());
}

TEST_CASE("P1: a partial checksum is good, the data never left this machine", "[P1]") {
  Established c;
  CHECK_THAT(c.peer(data(1, 1000).checksum(VSNOOP_CHECKSUM_PARTIAL)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("P1: an unverified checksum is verified", "[P1]") {
  Established c;
  CHECK_THAT(c.peer(data(1, 1000).checksum(VSNOOP_CHECKSUM_UNKNOWN)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("P1: sequence numbers and timestamps wrap in mid-stream", "[P1]") {
  Established c;
  uint32_t at = 1;
  for (int i = 0; i < 40; ++i, at += 1000) {
    CHECK_THAT(c.peer(data(at, 1000)), Kept(VSNOOP_REASON_in_order));
    CHECK_THAT(c.emitted(), OneAck(at + 1000));
    c.advance(2);
    CHECK_THAT(c.guest_acks(), Dropped(VSNOOP_REASON_guest_covered));
  }
}

TEST_CASE("P1: without a record to spare data passes unpromised", "[P1][I7]") {
  Setup setup;
  setup.engine.custodies = 1;
  World world(setup);
  Promised first(world, Options{.peer_port = 1});
  Established second(world, Options{.peer_port = 2});
  CHECK_THAT(second.peer(data(1, 1000)), Passed(VSNOOP_REASON_no_record));
  CHECK_THAT(second.emitted(), Nothing());
}

TEST_CASE("P1: over budget data passes unpromised", "[P1][I7]") {
  Setup setup;
  setup.guest.budget = 4096;
  Established c(setup);
  CHECK_THAT(c.peer(data(1, 1000).memory(4096)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.peer(data(1001, 1000).memory(256)), Passed(VSNOOP_REASON_no_budget));
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P1: while frames of the flow wait, what is not promised queues behind them", "[P1]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  CHECK_THAT(c.peer(ack(1)), Kept(VSNOOP_REASON_pure_ack));
  CHECK(c.count(VSNOOP_REASON_queued_behind) == 1);
  CHECK_THAT(c.peer(data(1001, 100).set(URG)), Kept(VSNOOP_REASON_urgent));
  c.feed();
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 3);
  CHECK(got[0].length() == 1000);
  CHECK(got[1].length() == 0);
  CHECK(got[2].has(URG));
}

TEST_CASE("P1: over budget what would queue behind held frames is dropped", "[P1][I7]") {
  Setup setup;
  setup.guest.budget = 4096;
  Established c(setup);
  c.world().automatic = false;
  c.peer(data(1, 1000).memory(4096));
  CHECK_THAT(c.peer(ack(1).memory(256)), Dropped(VSNOOP_REASON_pure_ack));
  CHECK(c.count(VSNOOP_REASON_dropped_behind) == 1);
}

// --- the early ACK -------------------------------------------------------------------------------

TEST_CASE("early ACK: SEQ is the guest's next, WND what is left of the shown edge", "[early-ack]") {
  Established c;
  c.guest(data(1, 300));
  const uint32_t edge = c.flow().shown_edge;
  c.peer(data(1, 1000));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].seq() == 301);
  CHECK(acks[0].window() == (edge - 1001) >> 7);  // rounded down
}

TEST_CASE("early ACK: SEQ stays in the peer's window when the guest probes it",
          "[early-ack][traps]") {
  Established c(Options{.syn_window = 500, .peer_window = 0});
  c.guest(data(1, 500));
  c.guest(data(501, 1));  // a probe of the closed window
  c.peer(data(1, 1000).ack(501).window(0));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].seq() == 501);
}

TEST_CASE("early ACK: a full window shows 0", "[early-ack]") {
  Established c(Options{.syn_window = 1000, .guest_window = 0});
  c.peer(data(1, 1000));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].window() == 0);
}

TEST_CASE("early ACK: an unscaled window does not exceed 65535", "[early-ack]") {
  Established c(Options{.peer_wscale = -1, .guest_window = 65535});
  c.guest(data(1, 10));
  c.peer(data(1, 10));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].window() == 65525);
}

TEST_CASE("early ACK: TSval is the guest's newest and never extrapolated", "[early-ack]") {
  Established c;
  c.advance(50);
  c.guest(data(1, 10));  // TSval 50
  c.advance(5000);
  c.peer(data(1, 1000));
  auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].tsval() == 50);
  CHECK(acks[0].tsecr() == 5050);
  c.guest(data(11, 10).ts(40, 0));  // an older one, out of order
  c.peer(data(1001, 1000));
  acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].tsval() == 50);
}

TEST_CASE("early ACK: TSecr is that of the segment at the last ACK, not of one above a hole",
          "[early-ack]") {
  Established c;  // RFC 7323 4.3
  c.advance(10);
  c.peer(data(1001, 1000).ts(9, 0));
  c.peer(data(1, 1000).ts(8, 0));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].ack() == 2001);
  CHECK(acks[0].tsecr() == 8);
}

TEST_CASE("early ACK: no timestamps if they were not agreed", "[early-ack]") {
  Established c(Options{.ts = false});
  c.peer(data(1, 1000));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK_FALSE(acks[0].has_ts());
}

TEST_CASE("early ACK: TTL, DSCP and tags are those of the guest's own frames", "[early-ack]") {
  const bool ipv6 = GENERATE(false, true);
  Established c(Options{.ipv6 = ipv6, .vlan = {0x2007, 0x0064}});
  c.guest(data(1, 10).ttl(63));
  c.peer(data(1, 1000).ttl(12).tos(0x20));
  auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].ttl() == 63);
  CHECK(acks[0].tos() == 0);
  CHECK(acks[0].vlan() == std::vector<uint16_t>{0x2007, 0x0064});
  c.guest(data(11, 10).ttl(63).tos(0xb8 | 2));  // setsockopt(IP_TOS); ECT(0) is not copied
  c.peer(data(1001, 1000));
  acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].tos() == 0xb8);
}

TEST_CASE("early ACK: the IPv6 flow label is the guest's", "[early-ack]") {
  Established c(Options{.ipv6 = true});
  c.peer(data(1, 1000));
  const auto& f = c.emitted_bytes();
  REQUIRE(f.size() > 20);
  CHECK(((f[15] & 15) << 16 | f[16] << 8 | f[17]) == 0x22222);
}

// --- P2, P5, P4: overlaps and holes --------------------------------------------------------------

TEST_CASE("P2: of a segment that overlaps from the left the new part counts", "[P2]") {
  Promised c;
  CHECK_THAT(c.peer(data(501, 1000)), Kept(VSNOOP_REASON_overlap));
  CHECK_THAT(c.emitted(), OneAck(1501));
  CHECK(c.flow().rcv_nxt == 1501);
}

TEST_CASE("P2: the window counts for the overlapping segment's end", "[P2]") {
  Established c(Options{.syn_window = 1500, .guest_window = 0});
  c.peer(data(1, 1000));
  c.emitted();
  CHECK_THAT(c.peer(data(501, 1001)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.peer(data(501, 1000)), Kept(VSNOOP_REASON_overlap));
}

TEST_CASE("P4: data above a hole is kept, nobody is told", "[P4]") {
  Established c;
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_above_hole));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.delivered(), OneSegment(1001, 1000));
  CHECK(c.flow().rcv_nxt == 1);
  CHECK(c.flow().holes == 1);
}

TEST_CASE("P4: at a hole the guest speaks, its duplicate ACKs pass", "[P4][G4]") {
  Promised c;
  c.guest_acks();
  c.peer(data(2001, 1000));
  c.peer(data(3001, 1000));
  CHECK_THAT(c.guest(ack(1001).sack({{2001, 3001}})), !Dropped());
  CHECK_THAT(c.guest(ack(1001).sack({{2001, 4001}})), !Dropped());
  CHECK_THAT(c.guest(ack(1001).sack({{2001, 4001}})), !Dropped());
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P4: four ranges are remembered, more pass unremembered", "[P4]") {
  Established c;
  for (uint32_t i = 0; i < 4; ++i)
    CHECK_THAT(c.peer(data(1001 + 2000 * i, 1000)), Kept(VSNOOP_REASON_above_hole));
  CHECK(c.flow().holes == 4);
  CHECK_THAT(c.peer(data(20001, 1000)), Passed(VSNOOP_REASON_holes_full));
  CHECK_THAT(c.peer(data(2001, 1000)), Kept(VSNOOP_REASON_above_hole));  // joins two
  CHECK(c.flow().holes == 3);
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_fills_hole));
  CHECK_THAT(c.emitted(), OneAck(4001));
}

TEST_CASE("P4: a range that comes again is not kept twice", "[P4]") {
  Established c;
  c.peer(data(1001, 1000));
  CHECK_THAT(c.peer(data(1001, 1000)), Passed());
  CHECK_THAT(c.peer(data(1501, 1000)), Passed());  // overlaps it
  CHECK(c.world().custody() == 1);
  CHECK(c.flow().holes == 1);
}

TEST_CASE("P5: filling the hole acknowledges everything behind it with one ACK", "[P5]") {
  const bool guest_opens = GENERATE(false, true);
  Established c(Options{.guest_opens = guest_opens});
  c.peer(data(3001, 1000));
  c.peer(data(1001, 1000));
  c.peer(data(2001, 1000));
  CHECK(c.flow().holes == 1);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_fills_hole));
  CHECK_THAT(c.emitted(), OneAck(4001));
  CHECK(c.flow().holes == 0);
  c.guest_acks();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P5: of two holes the first is filled: the ACK stops at the second", "[P5]") {
  Established c;
  c.peer(data(1001, 1000));
  c.peer(data(3001, 1000));
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(2001));
  CHECK(c.flow().holes == 1);
  c.peer(data(2001, 1000));
  CHECK_THAT(c.emitted(), OneAck(4001));
}

TEST_CASE("P5: a segment that fills the hole and overlaps what is behind it", "[P5]") {
  Established c;
  c.peer(data(1001, 1000));
  c.peer(data(1, 1500));
  CHECK_THAT(c.emitted(), OneAck(2001));
  c.peer(data(3001, 500));
  c.peer(data(2001, 3000));  // covers it wholly
  CHECK_THAT(c.emitted(), OneAck(5001));
  c.guest_acks();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P5: a hole filled by the guest's own ACK is filled", "[P5]") {
  Established c;
  c.peer(data(1, 1000), false);
  c.peer(data(1001, 1000));
  CHECK(c.flow().holes == 1);
  c.guest_acks();
  CHECK(c.flow().rcv_nxt == 2001);
  CHECK(c.flow().holes == 0);
  CHECK_THAT(c.peer(data(2001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("P4: early SACK tells the peer of a range in custody, if the policy says so", "[P4]") {
  Setup setup;
  setup.guest.early_sack = 1;
  Established c(setup);
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), OneAckWithSack(1, {{1001, 2001}}));
  CHECK(c.emitted_reason() == VSNOOP_REASON_early_sack);
  c.peer(data(3001, 1000));
  const auto second = c.emitted();
  REQUIRE(second.size() == 1);
  CHECK(second[0].sack().size() == 2);
  c.peer(data(1, 1000));
  const auto filled = c.emitted();
  REQUIRE(filled.size() == 1);
  CHECK(filled[0].ack() == 2001);
  CHECK(filled[0].sack() == Packet::Blocks{{3001, 4001}});
}

TEST_CASE("P4: no early SACK without SACK on the handshake, nor under the ring policy", "[P4]") {
  Setup setup;
  setup.guest.early_sack = 1;
  Established without(setup, Options{.sack = false});
  without.peer(data(1001, 1000));
  CHECK_THAT(without.emitted(), Nothing());
  setup.guest.policy = VSNOOP_POLICY_RING;
  Established ring(setup);
  ring.peer(data(1001, 1000));
  CHECK_THAT(ring.emitted(), Nothing());
}

TEST_CASE("P4: what was SACKed is acknowledged to its end, whatever pauses the flow", "[P4]") {
  Setup setup;
  setup.guest.early_sack = 1;
  Established c(setup);
  c.peer(data(1001, 1000));
  c.emitted();
  Outcome o = c.ask(data(1, 1000));
  c.world().quiesce();
  c.finish(o);
  CHECK_THAT(c.emitted(), OneAck(2001));  // neither 1 nor 1001: that would look like reneging
}

// --- P3, P3b: duplicates -------------------------------------------------------------------------

TEST_CASE("P3: a duplicate of acknowledged data is answered at once with a D-SACK", "[P3]") {
  const bool guest_opens = GENERATE(false, true);
  Promised c(Options{.guest_opens = guest_opens});
  c.peer(data(1001, 1000));
  c.emitted();
  c.delivered();
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
  CHECK_THAT(c.emitted(), OneAckWithSack(2001, {{1, 1001}}));  // RFC 2883
  CHECK(c.emitted_reason() == VSNOOP_REASON_duplicate_ack);
  CHECK_THAT(c.delivered(), Nothing());
}

TEST_CASE("P3: without SACK the answer is a plain ACK", "[P3]") {
  Promised c(Options{.sack = false});
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("P3: a duplicate the guest has confirmed long ago is answered too", "[P3]") {
  Promised c;
  c.guest_acks();
  c.advance(1000);
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
  CHECK_THAT(c.emitted(), OneAckWithSack(1001, {{1, 1001}}));
}

TEST_CASE("P3: answers to duplicates are limited in rate", "[P3]") {
  Promised c;
  for (int i = 0; i < 50; ++i)
    CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
  CHECK_THAT(c.emitted(), Count(1));
  c.advance(2);
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), Count(1));
}

TEST_CASE("P3: answered in every state", "[P3]") {
  Promised quiescing;
  quiescing.world().quiesce();
  quiescing.peer(data(1, 1000));
  CHECK_THAT(quiescing.emitted(), OneAckWithSack(1001, {{1, 1001}}));

  Promised closing;
  closing.peer(fin(1001));
  CHECK(closing.flow().state == VSNOOP_FLOW_CLOSING);
  closing.peer(data(1, 1000));
  CHECK_THAT(closing.emitted(), OneAckWithSack(1001, {{1, 1001}}));

  Promised draining;
  draining.peer(ack(1).option({254, 4, 0, 0}));
  CHECK(draining.flow().state == VSNOOP_FLOW_DRAINING);
  draining.peer(data(1, 1000));
  CHECK_THAT(draining.emitted(), OneAckWithSack(1001, {{1, 1001}}));

  Promised guest_closed;
  guest_closed.guest(fin(1).ack(1));
  guest_closed.peer(data(1, 1000).ack(1));
  CHECK_THAT(guest_closed.emitted(), OneAckWithSack(1001, {{1, 1001}}));
}

TEST_CASE("P3: one that brings a newer ACK number is answered and forwarded", "[P3][I6]") {
  Promised c;
  c.guest(data(1, 500));
  CHECK_THAT(c.peer(data(1, 1000).ack(501)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK_THAT(c.emitted(), OneAckWithSack(1001, {{1, 1001}}));
  CHECK(c.flow().peer_una == 501);
}

TEST_CASE("P3: one that brings a larger window is answered and forwarded", "[P3][I6]") {
  Promised c;
  CHECK_THAT(c.peer(data(1, 1000).window(1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK_THAT(c.emitted(), Count(1));
}

TEST_CASE("P3: under the ring policy the guest may lack it: answered and forwarded", "[P3]") {
  Established c(ring_policy());
  c.peer(data(1, 1000));
  c.emitted();
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK_THAT(c.emitted(), OneAckWithSack(1001, {{1, 1001}}));
  c.guest_acks();
  c.advance(5);
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
}

TEST_CASE("P3: on a flow that never promised the guest answers", "[P3][I5]") {
  Established c;
  c.peer(data(1, 1000), false);
  CHECK_THAT(c.guest_acks(), Passed());
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.guest(ack(1001).sack({{1, 1001}})), Passed());
}

TEST_CASE("P3b: taken and not promised: not kept twice, the early ACK comes when it may", "[P3b]") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  c.world().quiesce();
  c.finish(o);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().rcv_nxt == 1001);
  CHECK(c.flow().early_ack == 1);
  // Still not allowed: forwarded, the guest owes an answer.
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_unpromised));
  CHECK_THAT(c.emitted(), Nothing());
  c.world().quiesce(false);
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_unpromised));
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK(c.world().custody() == 1);
}

// --- P6: probes, keep-alives, out of window ------------------------------------------------------

TEST_CASE("P6: a keep-alive is forwarded and the guest's answer passes", "[P6][traps]") {
  const uint32_t bytes = GENERATE(0u, 1u);
  Promised c;
  c.guest_acks();
  CHECK_THAT(c.peer(data(1000, bytes)), Passed(VSNOOP_REASON_probe));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(owes_an_answer(c));
}

TEST_CASE("P6: a keep-alive is the guest's to answer while the window shown is open", "[P6]") {
  // Else a dead guest looks alive for as long as the peer asks.
  Established c(small_budget(), large_window());
  c.guest(data(1, 100));
  c.peer(data(1, 1000).ack(101));
  c.guest_acks();
  c.emitted();
  const vsnoop_flow_info f = c.flow();
  REQUIRE(distance(f.shown_edge, f.right_edge) < 0);     // held back ...
  REQUIRE(distance(f.shown_edge, f.early_ack) > 20000);  // ... and far from closed
  c.advance(60000);
  CHECK_THAT(c.peer(data(1000, 0)), Passed(VSNOOP_REASON_probe));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P6: data beyond the guest's right edge is forwarded with credit", "[P6]") {
  Promised c;
  const uint32_t edge = c.flow().right_edge;
  CHECK_THAT(c.peer(data(edge, 1)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.peer(data(edge + 5000, 100)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.peer(data(edge - 10, 11)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(owes_an_answer(c));
  CHECK_FALSE(owes_an_answer(c));
}

TEST_CASE("P6: a probe of the guest's own closed window goes to the guest", "[P6]") {
  Established c(Options{.syn_window = 1000, .guest_window = 0});
  c.peer(data(1, 1000));
  c.emitted();
  CHECK_THAT(c.peer(data(1001, 1)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.peer(data(1000, 0)), Passed(VSNOOP_REASON_probe));
  CHECK_THAT(c.emitted(), Nothing());
  const Outcome answer = c.guest(ack(1).window(7));
  REQUIRE(answer.seen);
  CHECK(answer.seen->ack() == 1001);
}

TEST_CASE("P6: a window that vsnoop closed is vsnoop's to answer for", "[P6]") {
  Established c(small_budget(), large_window());
  c.guest(data(1, 100));
  c.world().automatic = false;
  fill(c);
  const uint32_t edge = c.flow().early_ack;
  CHECK_THAT(c.peer(data(edge - 1, 0)), Dropped(VSNOOP_REASON_probe_answered));
  CHECK_THAT(c.emitted(), OneAck(edge));
  CHECK(c.emitted_reason() == VSNOOP_REASON_probe_answer);
  CHECK_THAT(c.peer(data(edge, 1)), Dropped(VSNOOP_REASON_probe_answered));
  CHECK_THAT(c.emitted(), OneAck(edge));
  CHECK(c.flow().rcv_nxt == edge);
}

TEST_CASE("P6: a probe that brings news of the peer is forwarded", "[P6][I6]") {
  Established c(small_budget(), large_window());
  c.guest(data(1, 100));
  fill(c);
  const uint32_t edge = c.flow().early_ack;
  c.guest(data(101, 100));
  CHECK_THAT(c.peer(data(edge - 1, 0).ack(201)), Passed(VSNOOP_REASON_probe));
  CHECK(c.flow().peer_una == 201);
  CHECK_THAT(c.peer(data(edge - 1, 0).ack(201)), Dropped(VSNOOP_REASON_probe_answered));
}

TEST_CASE("P6: for a guest that shows no life vsnoop answers no probe", "[P6]") {
  Established c(small_budget(), large_window());
  c.guest(data(1, 100));
  c.peer(ack(101));
  c.world().automatic = false;
  fill(c);
  c.advance(2500);
  const uint32_t edge = c.flow().early_ack;
  CHECK_THAT(c.peer(data(edge - 1, 0)), Kept(VSNOOP_REASON_probe));
  CHECK_THAT(c.emitted(), Nothing());
}

// --- P7: FIN -------------------------------------------------------------------------------------

TEST_CASE("P7: a FIN is forwarded and never acknowledged by vsnoop", "[P7]") {
  const bool guest_opens = GENERATE(false, true);
  Promised c(Options{.guest_opens = guest_opens});
  CHECK_THAT(c.peer(fin(1001)), Passed(VSNOOP_REASON_fin));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().state == VSNOOP_FLOW_CLOSING);
  CHECK(c.flow().early_ack == 1001);
  const Outcome last = c.guest(ack(1002));
  CHECK_THAT(last, !Dropped());
  CHECK(last.seen->ack() == 1002);
}

TEST_CASE("P7: data on a FIN is acknowledged early, the FIN is not", "[P7]") {
  Established c;
  CHECK_THAT(c.peer(fin(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK_THAT(c.delivered(), OneSegment(1, 1000));
  CHECK(c.flow().state == VSNOOP_FLOW_CLOSING);
  CHECK_THAT(c.guest(ack(1002)), !Dropped());
}

TEST_CASE("P7: a FIN that overtakes data closes nothing yet: what it overtook is promised",
          "[P7]") {
  Established c;
  c.peer(fin(2001));
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK_THAT(c.peer(data(2001, 1000)), Passed(VSNOOP_REASON_closing));  // nothing follows it
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), OneAck(2001));  // and it is not acknowledged
}

TEST_CASE("P7: nothing is promised after a FIN", "[P7]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(fin(1001));
  c.emitted();
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P7: a FIN above a hole is forwarded, its ACK is the guest's", "[P7]") {
  Established c;
  c.peer(fin(1001, 500));
  CHECK_THAT(c.emitted(), Nothing());
  c.peer(data(1, 1000));
  CHECK(distance(c.flow().early_ack, 1501) <= 0);
  c.emitted();
  CHECK_THAT(c.guest(ack(1502)), !Dropped());
  CHECK(c.flow().guest_ack == 1502);
}

TEST_CASE("P7: every repeated FIN reaches the guest and every answer the peer", "[P7][traps]") {
  Promised c;
  c.peer(fin(1001));
  c.guest(ack(1002));
  for (int i = 0; i < 3; ++i) {
    CHECK_THAT(c.peer(fin(1001)), Passed(VSNOOP_REASON_fin));
    CHECK_THAT(c.guest(ack(1002)), !Dropped());
  }
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P7: a FIN with data that was promised already is forwarded, not swallowed", "[P7]") {
  Promised c;
  c.guest_acks();
  CHECK_THAT(c.peer(fin(1, 1000)), Passed(VSNOOP_REASON_fin));
  CHECK_THAT(c.delivered(), OneSegment(1, 1000));
  CHECK(owes_an_answer(c));
}

TEST_CASE("P7: a closed connection is forgotten when both FINs are acknowledged", "[P7]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(fin(1001));
  c.guest(fin(1).ack(1002));
  c.peer(ack(2).seq(1002));
  c.advance(100);
  CHECK_FALSE(c.tracked());
}

// --- P8 is in test_handshake.cc; P9: RST ---------------------------------------------------------

TEST_CASE("P9: an exact RST with nothing outstanding passes and ends the flow", "[P9]") {
  const bool guest_opens = GENERATE(false, true);
  Promised c(Options{.guest_opens = guest_opens});
  c.guest_acks();
  CHECK_THAT(c.peer(rst(1001)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P9: an exact RST behind data that is taken and not promised ends the flow", "[P9]") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  c.world().quiesce();
  c.finish(o);
  REQUIRE(c.flow().rcv_nxt == 1001);
  CHECK_THAT(c.peer(rst(1001)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: an exact RST does not overtake promised data", "[P9][traps]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  CHECK_THAT(c.peer(rst(2001)), Kept(VSNOOP_REASON_rst_exact));
  CHECK(c.flow().state == VSNOOP_FLOW_CLOSING);
  CHECK(c.feed() == 2);  // the data; the reset waits until all of it is confirmed
  c.consume();
  c.guest(ack(1001));
  CHECK(c.feed() == 0);
  c.guest(ack(2001));
  CHECK(c.feed() == 1);
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 3);
  CHECK(got[2].has(RST));
  c.advance(50);
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: nothing is promised after an exact RST", "[P9]") {
  Promised c;
  c.peer(rst(1001));
  CHECK_THAT(c.peer(data(1001, 100)), Kept(VSNOOP_REASON_closing));  // queued behind the reset
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P9: a guest that resets ends it, whatever waits", "[P9][G6]") {
  Promised c;
  c.peer(rst(1001));
  CHECK_THAT(c.guest(rst(1)), Passed(VSNOOP_REASON_guest_reset));
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P9: a guest that never confirms gets a reset in the end", "[P9]") {
  Promised c;
  c.peer(rst(1001));
  c.advance(1010000);
  CHECK((!c.tracked() || c.flow().state == VSNOOP_FLOW_STOPPED));
  CHECK_THAT(c.resets_to_guest(), Resets(1));  // its RCV.NXT
}

TEST_CASE("P9: a peer that resets again and again does not use up the budget", "[P9][I7]") {
  Setup setup;
  setup.guest.budget = 8192;
  Established c(setup);
  c.world().automatic = false;
  c.peer(data(1, 1000).memory(2048));
  for (int i = 0; i < 100; ++i) c.peer(rst(1001));
  CHECK(c.stats().used <= 8192);
  CHECK(c.world().custody() == 2);
  Established full(setup);
  full.world().automatic = false;
  full.peer(data(1, 1000).memory(8192));
  CHECK_THAT(full.peer(rst(1001)), Dropped(VSNOOP_REASON_rst_exact));
}

TEST_CASE("P9: a declined RST does not go ahead of what is promised", "[P9]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  const Outcome o = c.peer(rst(1001), false);
  CHECK_FALSE(o.passed);
}

TEST_CASE("P9: an in-window RST pauses promises until the next segment in order", "[P9]") {
  Promised c;
  const uint32_t at = GENERATE(1002u, 1500u, 60000u);
  CHECK_THAT(c.peer(rst(at)), Passed(VSNOOP_REASON_rst_in_window));
  CHECK(c.flow().pause == VSNOOP_REASON_rst_pause);
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK_THAT(c.peer(data(2001, 1000)), Passed(VSNOOP_REASON_rst_pause));  // not in order
  // The guest may have SACKed it: an ACK that ends there would look like reneging.
  CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_passed_above));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().pause == 0);
  c.guest(ack(3001));
  CHECK_THAT(c.peer(data(3001, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(4001));
}

TEST_CASE("P9: the guest's challenge to an in-window RST passes", "[P9][traps]") {
  Promised c;
  c.peer(rst(1500));
  CHECK(owes_an_answer(c));
}

TEST_CASE("P9: an RST outside the window is forwarded with credit and changes nothing", "[P9]") {
  Promised c;
  c.guest(ack(1));
  const uint32_t edge = c.flow().right_edge;
  for (const uint32_t at : {edge, edge + 1, 0u, 1000u, 0x80000000u}) {
    CHECK_THAT(c.peer(rst(at)), Passed(VSNOOP_REASON_rst_outside));
    CHECK(c.flow().pause == 0);
    CHECK(owes_an_answer(c));
  }
  CHECK_THAT(c.peer(data(1001, 100)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("P9: an RST needs neither timestamp nor a plausible ACK number", "[P9]") {
  Promised c;
  c.guest_acks();
  CHECK_THAT(c.peer(rst(1001).set(ACK).ack(77777)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
}

// --- P10: what the guest does not take as it stands ----------------------------------------------

namespace {

struct Refused {
  const char* name;
  Packet packet;
  uint8_t reason;
  bool credit;
};

std::vector<Refused> refused_at_1001() {
  return {
      {"URG", data(1001, 100).set(URG), VSNOOP_REASON_urgent, true},
      {"no ACK flag", data(1001, 100).clear(ACK), VSNOOP_REASON_no_ack_flag, false},
      {"timestamp missing", data(1001, 100).no_ts(), VSNOOP_REASON_timestamp_mismatch, true},
      {"PAWS", data(1001, 100).ts(0xffffffff, 0), VSNOOP_REASON_paws, true},
      {"ACK of what was never sent", data(1001, 100).ack(2), VSNOOP_REASON_unacceptable_ack, true},
      {"ACK too old", data(1001, 100).ack(1u - 64257u), VSNOOP_REASON_unacceptable_ack, true},
      {"bad checksum", data(1001, 100).bad(), VSNOOP_REASON_bad_checksum, false},
      {"known bad", data(1001, 100).checksum(VSNOOP_CHECKSUM_BAD), VSNOOP_REASON_bad_checksum,
       false},
      {"out of reach", data(1001, 100).checksum(VSNOOP_CHECKSUM_UNKNOWN).readable(50),
       VSNOOP_REASON_unverified_checksum, false},
      {"fragment", data(1001, 100).fragment(0x2000), VSNOOP_REASON_fragment, false},
      {"malformed option", data(1001, 100).option({9, 1, 0, 0}), VSNOOP_REASON_malformed, false},
  };
}

}  // namespace

TEST_CASE("P10: forwarded as it is, not kept, not promised", "[P10]") {
  for (const Refused& r : refused_at_1001()) {
    INFO(r.name);
    Promised c;
    CHECK_THAT(c.peer(r.packet), Passed(r.reason));
    CHECK_THAT(c.emitted(), Nothing());
    CHECK_THAT(c.delivered(), Count(1));
    CHECK(c.flow().rcv_nxt == 1001);
    CHECK(c.flow().early_ack == 1001);
    CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
    CHECK(c.world().custody() == 1);
  }
}

TEST_CASE("P10: the guest's answer passes where it would answer", "[P10]") {
  for (const Refused& r : refused_at_1001()) {
    INFO(r.name);
    Promised c;
    c.peer(r.packet);
    CHECK(owes_an_answer(c) == r.credit);
    CHECK_FALSE(owes_an_answer(c));
  }
}

TEST_CASE("P10: what the guest takes of it all the same it may acknowledge", "[P10]") {
  for (const Refused& r : refused_at_1001()) {
    // One who does not know the guest's numbers is not looked at by it.
    if (!r.credit || r.reason == VSNOOP_REASON_unacceptable_ack) continue;
    INFO(r.name);
    Promised c;
    c.peer(r.packet);
    CHECK_THAT(c.guest(ack(1101)), !Dropped());
    REQUIRE(c.tracked());
    CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
    CHECK_THAT(c.peer(data(1101, 100)), Kept(VSNOOP_REASON_in_order));
  }
}

TEST_CASE("P10: what a refused segment says of the peer is not believed", "[P10]") {
  for (const Refused& r : refused_at_1001()) {
    INFO(r.name);
    Promised c;
    const vsnoop_flow_info before = c.flow();
    Packet p = r.packet;
    c.peer(p.window(60000));
    CHECK(c.flow().peer_una == before.peer_una);
    CHECK(c.flow().peer_edge == before.peer_edge);
  }
}

TEST_CASE("P10: a timestamp that was not agreed is refused too", "[P10]") {
  Promised c(Options{.ts = false});
  CHECK_THAT(c.peer(data(1001, 100).ts(1, 1)), Passed(VSNOOP_REASON_timestamp_mismatch));
}

TEST_CASE("P10: an equal timestamp is not old, one before the newest is", "[P10]") {
  Established c;
  c.advance(20);
  c.peer(data(1, 1000).ts(20, 0));
  CHECK_THAT(c.peer(data(1001, 1000).ts(20, 0)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.peer(data(2001, 1000).ts(19, 0)), Passed(VSNOOP_REASON_paws));
}

TEST_CASE("P10: ACK numbers are taken from SND.UNA - MAX.SND.WND to SND.NXT", "[P10]") {
  Established c;  // MAX.SND.WND = 502 << 7
  c.guest(data(1, 500));
  CHECK_THAT(c.peer(data(1, 100).ack(502)), Passed(VSNOOP_REASON_unacceptable_ack));
  CHECK_THAT(c.peer(data(1, 100).ack(501)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.peer(data(101, 100).ack(501u - 64257u)), Passed(VSNOOP_REASON_unacceptable_ack));
  CHECK_THAT(c.peer(data(101, 100).ack(501u - 64256u)), Kept(VSNOOP_REASON_in_order));
  CHECK(c.flow().peer_una == 501);
}

// --- P12 on a connection that stands -------------------------------------------------------------

TEST_CASE("P12: an odd option hands an idle flow back at once", "[P12]") {
  Promised c;
  c.guest_acks();
  CHECK_THAT(c.peer(data(1001, 100).option({19, 4, 0, 0})), Passed(VSNOOP_REASON_odd_option));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.peer(data(1101, 100)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.guest(ack(1201)), Passed());
}

TEST_CASE("P12: a flow with a promise drains first", "[P12]") {
  Promised c;
  c.peer(data(1001, 100).option({19, 4, 0, 0}));
  REQUIRE(c.tracked());
  CHECK(c.flow().state == VSNOOP_FLOW_DRAINING);
  CHECK_THAT(c.peer(data(1101, 100)), Passed(VSNOOP_REASON_draining));
  CHECK_THAT(c.emitted(), Nothing());
  c.guest(ack(501));
  CHECK(c.tracked());
  const Outcome last = c.guest(ack(1201));
  CHECK_THAT(last, !Dropped());
  CHECK(last.seen->ack() == 1201);
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P12: under the ring policy a flow with a promise drains first, too", "[P12]") {
  Promised c(ring_policy());
  c.peer(data(1001, 100).option({19, 4, 0, 0}));
  REQUIRE(c.tracked());
  CHECK(c.flow().state == VSNOOP_FLOW_DRAINING);
  // Byte-identical it may not pass yet: the peer has been shown more.
  CHECK(c.guest(data(1, 10).ack(501)).seen->ack() == 1001);
  c.guest(ack(1101));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P12: a draining flow still delivers again what the guest lacks", "[P12][I3]") {
  Promised c;
  c.peer(ack(1).option({19, 4, 0, 0}));
  c.delivered();
  c.advance(3000);
  CHECK_FALSE(c.delivered().empty());
}

// --- P0 ------------------------------------------------------------------------------------------

TEST_CASE("P0: a pure ACK is forwarded and tells where the peer stands", "[P0]") {
  Promised c;
  c.guest(data(1, 500));
  CHECK_THAT(c.peer(ack(501).window(100)), Passed(VSNOOP_REASON_pure_ack));
  CHECK(c.flow().peer_una == 501);
  CHECK(c.flow().peer_edge == std::max(501u + (100u << 7), 1u + (502u << 7)));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_FALSE(owes_an_answer(c));
}

TEST_CASE("P0: an older ACK number moves nothing back", "[P0]") {
  Promised c;
  c.guest(data(1, 500));
  c.peer(ack(501));
  c.peer(ack(200));
  CHECK(c.flow().peer_una == 501);
}

TEST_CASE("P0: the timestamp of a pure ACK is echoed", "[P0]") {
  Promised c;
  c.advance(30);
  c.peer(ack(1).ts(30, 0));
  c.peer(data(1001, 100).ts(30, 0));
  const auto acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].tsecr() == 30);
}

// --- why nothing is promised ---------------------------------------------------------------------

TEST_CASE("pause: offload off looks at nothing", "[pause][I5]") {
  Setup setup;
  setup.guest.policy = VSNOOP_POLICY_OFF;
  Connection c(setup);
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_off));
  CHECK_THAT(c.guest(ack(1001)), Passed(VSNOOP_REASON_off));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("pause: nothing is promised while the guest is being quiesced", "[pause]") {
  Established c;
  c.world().quiesce();
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_quiescing));
  CHECK_THAT(c.emitted(), Nothing());
  c.guest_acks();
  c.world().quiesce(false);
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("pause: after the guest's FIN nothing is promised, a closed guest answers with RST",
          "[pause][G8][traps]") {
  Established c;
  c.guest(fin(1).ack(1));
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_guest_closed));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.guest(rst(2)), Passed(VSNOOP_REASON_guest_reset));
}

TEST_CASE("pause: data that passes unpromised stays the guest's to acknowledge", "[pause][I6]") {
  Established c;
  c.world().quiesce();
  c.peer(data(1, 1000));
  c.world().quiesce(false);
  // The first thousand bytes are in nobody's custody: what follows is above a hole.
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_above_hole));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.guest(ack(2001)), !Dropped());
  CHECK_THAT(c.peer(data(2001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("pause: a guest that shows no life gets no new promises, a frame of it resumes",
          "[pause]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.advance(2500);
  c.emitted();
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_guest_silent));  // queued, not promised
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1001);
  c.guest(data(1, 10));
  CHECK(c.flow().pause == 0);
}

TEST_CASE("engage: with auto only a slow guest is promised for", "[engage]") {
  Setup setup;
  setup.guest.engage = VSNOOP_ENGAGE_AUTO;
  Established c(setup);
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_guest_quick));
  c.guest_acks();
  CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_guest_quick));
  c.advance(30);
  c.guest_acks();
  CHECK_THAT(c.peer(data(2001, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(3001));
}

// --- lies and traps towards the guest ------------------------------------------------------------

TEST_CASE("trap: the last frame of a request is dropped by an idle guest: it comes again",
          "[traps][I3]") {
  Promised c;
  c.advance(2500);
  const auto again = c.delivered();
  REQUIRE_FALSE(again.empty());
  CHECK(again[0].seq() == 1);
  CHECK(again[0].length() == 1000);
  CHECK_THAT(c.guest_acks(), Dropped());
  CHECK(c.world().custody() == 0);
}

TEST_CASE("trap: a frame that comes again carries the newest timestamp, ACK and window",
          "[traps]") {
  Promised c;
  c.guest(data(1, 500).ack(1));
  c.advance(500);
  c.peer(ack(501).window(600));  // seen by the guest; PAWS would refuse anything older
  c.delivered();
  c.advance(2500);
  const auto again = c.delivered();
  REQUIRE_FALSE(again.empty());
  CHECK(again[0].tsval() == 500);
  CHECK(again[0].ack() == 501);
  CHECK(again[0].window() == 600);
}

TEST_CASE("trap: data in the window that the guest refuses comes again until it fits", "[traps]") {
  Promised c;  // SO_RCVBUF shrank: the guest acknowledges nothing and shows a window of 0
  c.guest(ack(1).window(0));
  c.delivered();
  c.advance(2500);
  auto again = c.delivered();
  REQUIRE_FALSE(again.empty());
  CHECK(again[0].length() == 1);  // at least one byte: it is the zero-window probe, too
  c.guest(ack(2).window(4));
  c.delivered();
  c.advance(2500);
  again = c.delivered();
  REQUIRE_FALSE(again.empty());
  CHECK(again[0].seq() == 2);
  CHECK(again[0].length() == 512);
}

TEST_CASE("trap: behind a guest firewall nothing is ever confirmed: both sides are reset",
          "[traps]") {
  Promised c;
  c.advance(990000);
  CHECK_THAT(c.emitted(), Nothing());  // a sender would not give up either
  c.advance(20000);
  CHECK_THAT(c.emitted(), Resets(1));  // the peer's RCV.NXT
  CHECK_THAT(c.resets_to_guest(), Resets(1));
  CHECK(c.world().custody() == 0);
  REQUIRE(c.tracked());
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK_THAT(c.peer(data(1001, 100)), Dropped(VSNOOP_REASON_stopped));
  CHECK_THAT(c.emitted(), OneReset(1));
}

TEST_CASE("trap: data without the ACK flag is dropped silently by the guest, so never promised",
          "[traps]") {
  Established c;
  CHECK_THAT(c.peer(data(1, 1000).clear(ACK)), Passed(VSNOOP_REASON_no_ack_flag));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("trap: a guest that acknowledges data never seen is left alone", "[traps]") {
  Established c;
  CHECK_THAT(c.guest(ack(5000)), Passed(VSNOOP_REASON_guest_ack_unseen));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P9: SYN and RST in one segment is a reset, not a SYN", "[P9]") {
  Established c;
  CHECK_THAT(c.peer(rst(1).set(SYN)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P4: a range that was taken meanwhile is not remembered twice", "[P4]") {
  // Under `ring` a host may report later, when it has asked about other frames.
  Setup setup;
  setup.guest.policy = VSNOOP_POLICY_RING;
  Established c(setup);
  Outcome first = c.ask(data(2001, 1000));
  Outcome again = c.ask(data(2001, 1000));
  CHECK_THAT(first, Pushed(VSNOOP_REASON_above_hole));
  CHECK_THAT(again, Pushed(VSNOOP_REASON_above_hole));
  c.finish(first);
  c.finish(again);
  CHECK(c.flow().holes == 1);
  c.peer(data(1, 2000));
  CHECK(c.flow().rcv_nxt == 3001);
  CHECK(c.flow().holes == 0);
}

TEST_CASE("P6: beyond the window shown, with news for the guest: forwarded, not promised", "[P6]") {
  Setup setup;
  setup.guest.budget = 64 << 10;
  Options options;
  options.guest_window = 65535;  // 8 MB, of which vsnoop shows what needs no reservation
  Established c(setup, options);
  c.guest(data(1, 100));
  const vsnoop_flow_info before = c.flow();
  REQUIRE(distance(before.shown_edge, before.right_edge) < 0);
  const uint32_t beyond = before.shown_edge;
  CHECK_THAT(c.peer(data(beyond, 100).ack(101)), Passed(VSNOOP_REASON_beyond_window));
  CHECK(c.flow().early_ack == before.early_ack);
  CHECK(c.flow().rcv_nxt == before.rcv_nxt);
  CHECK_THAT(c.emitted(), Nothing());
  // Without news it is a probe of the window that vsnoop closed.
  CHECK_THAT(c.peer(data(beyond, 100).ack(101)), Dropped(VSNOOP_REASON_probe_answered));
}
