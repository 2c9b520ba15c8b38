// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Policies: off, ring, hold; engage = always, auto; early SACK.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

Setup with_policy(uint8_t policy) {
  Setup setup;
  setup.guest.policy = policy;
  return setup;
}

Setup with_auto() {
  Setup setup;
  setup.guest.engage = VSNOOP_ENGAGE_AUTO;
  return setup;
}

Setup with_early_sack() {
  Setup setup;
  setup.guest.early_sack = 1;
  return setup;
}

// One exchange of a guest that takes `ms` to acknowledge.
void exchange(Connection& c, uint32_t seq, uint64_t ms) {
  c.peer(data(seq, 100));
  c.advance(ms);
  c.guest(ack(seq + 100));
}

}  // namespace

// --- off, ring -----------------------------------------------------------------------------------

TEST_CASE("Off: nothing is looked at, nothing is changed") {
  Connection c(with_policy(VSNOOP_POLICY_OFF));
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_off));
  const Outcome o = c.guest(ack(1001));
  CHECK_THAT(o, Passed(VSNOOP_REASON_off));
  CHECK(o.bytes == c.bytes_from_guest(ack(1001)));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("Ring: what is in the guest's ring is acknowledged, and nothing is held") {
  Established c(with_policy(VSNOOP_POLICY_RING));
  CHECK_THAT(c.peer(data(1, 1000)), Pushed(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Ring: grant copy fails (trap): what did not get into the ring is not promised") {
  Established c(with_policy(VSNOOP_POLICY_RING));
  CHECK_FALSE(c.peer(data(1, 1000), false).passed);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.peer(data(1, 1000)), Pushed(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("Ring: the ring is the budget, progress gives room back") {
  Setup setup = with_policy(VSNOOP_POLICY_RING);
  setup.guest.budget = 4 * 4096;
  Established c(setup);
  c.world().automatic = false;
  for (uint32_t i = 0; i < 4; ++i)
    CHECK_THAT(c.peer(data(1 + i * 100, 100).memory(4096)), Pushed(VSNOOP_REASON_in_order));
  CHECK_THAT(c.peer(data(401, 100).memory(4096)), Passed(VSNOOP_REASON_no_budget));
  c.consume(2);
  CHECK(c.stats().held == 2 * 4096);
  CHECK_THAT(c.peer(data(401, 100).memory(4096)), Pushed(VSNOOP_REASON_in_order));
}

TEST_CASE("Ring: the window shown is what the ring takes, a slot a segment, from the first (I2b)") {
  Setup setup = with_policy(VSNOOP_POLICY_RING);
  setup.guest.budget = 256 * 4096;
  Established c(setup);
  c.guest(ack(1).window(65535));  // 8 MB
  const auto f = c.flow();
  CHECK(f.shown_edge - 1 <= 256 * 1460);
  CHECK(f.shown_edge - 1 > 220 * 1460);  // and one flow may have most of it
  CHECK(f.reserved >= (f.shown_edge - 1) / 1460 * 4096);
}

TEST_CASE("Ring: once others have the ring, a window does not grow beyond its base (I2b)") {
  Setup setup = with_policy(VSNOOP_POLICY_RING);
  setup.guest.budget = 64 * 4096;
  World world(setup);
  Options first, second;
  first.peer_port = 50000;
  second.peer_port = 50001;
  Established a(world, first), b(world, second);
  a.guest(ack(1).window(65535));
  b.guest(ack(1).window(65535));
  const uint32_t shown = b.flow().shown_edge;
  CHECK(shown == 1 + 64240);  // what the guest's own SYN-ACK showed
  b.peer(data(1, 1460).memory(4096));
  b.guest(ack(1461).window(65535));
  CHECK(b.flow().shown_edge == shown);
  CHECK(world.stats().used <= 64 * 4096);

  // But its peer never stands still for the window of one that rests.
  for (uint32_t at = 1461; at < shown; at += 1460) b.peer(data(at, 1460).memory(4096));
  b.guest(ack(shown).window(65535));
  CHECK(b.flow().shown_edge == shown + 16384);
}

TEST_CASE("Ring: a duplicate that the guest may lack is answered and forwarded (P3)") {
  Established c(with_policy(VSNOOP_POLICY_RING));
  c.peer(data(1, 1000));
  c.emitted();
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK_THAT(c.emitted(), Count(1));
  c.guest(ack(1001));
  CHECK_THAT(c.peer(data(1, 1000)), Dropped(VSNOOP_REASON_duplicate_answered));
}

TEST_CASE("Ring: nothing is delivered again: I3 does not hold, as in 2010") {
  Established c(with_policy(VSNOOP_POLICY_RING));
  c.peer(data(1, 1000));
  c.advance(100000);
  CHECK(c.stats().redelivered_frames == 0);
}

TEST_CASE("Ring: holes are remembered without frames (P4, P5)") {
  Established c(with_policy(VSNOOP_POLICY_RING));
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), Nothing());
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(2001));
}

// --- engage = auto -------------------------------------------------------------------------------

TEST_CASE("I5: engage = auto, a quick guest, a small window: everything passes byte-identical",
          "[I5]") {
  Established c(with_auto());
  for (uint32_t i = 0; i < 50; ++i) {
    const Packet p = data(1 + i * 1000, 1000);
    const auto sent = c.bytes_from_peer(p);
    CHECK(c.peer(p).action() == VSNOOP_PASS);
    REQUIRE(c.delivered_bytes().size() == 1);
    CHECK(c.delivered_bytes().back() == sent);
    c.delivered();
    c.advance(1);
    const Packet a = ack(1001 + i * 1000).window(502);
    const auto acked = c.bytes_from_guest(a);
    const Outcome o = c.guest(a);
    CHECK(o.action() == VSNOOP_PASS);
    CHECK(o.bytes == acked);
    CHECK_THAT(c.emitted(), Nothing());
  }
}

TEST_CASE("I5: in a flow never promised duplicates and probes go to the guest, vsnoop says nothing",
          "[I5]") {
  Established c(with_auto());
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK(c.guest(ack(1001).sack({{1, 1001}})).bytes ==
        c.bytes_from_guest(ack(1001).sack({{1, 1001}})));
  CHECK_THAT(c.peer(data(1000, 0)), Passed(VSNOOP_REASON_probe));
  CHECK_THAT(c.peer(data(1000, 1)), Passed(VSNOOP_REASON_probe));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("Auto: a guest that takes longer than engage_us is promised for") {
  Established c(with_auto());
  exchange(c, 1, 30);
  CHECK(c.flow().latency_us > 28000);
  CHECK_THAT(c.peer(data(101, 100)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(201));
}

TEST_CASE("Auto: a guest that answers quickly is not, and nobody is before the first measurement") {
  Established c(with_auto());
  CHECK_THAT(c.peer(data(1, 100)), Passed(VSNOOP_REASON_guest_quick));
  c.advance(1);
  c.guest(ack(101));
  CHECK_THAT(c.peer(data(101, 100)), Passed(VSNOOP_REASON_guest_quick));
}

TEST_CASE("Auto: one slow answer engages at once, many quick ones disengage") {
  Established c(with_auto());
  uint32_t at = 1;
  for (int i = 0; i < 5; ++i, at += 100) exchange(c, at, 0);
  exchange(c, at, 30);
  at += 100;
  CHECK(c.flow().pause == VSNOOP_REASON_none);
  int quick = 0;
  for (; quick < 60 && c.flow().pause == VSNOOP_REASON_none; ++quick, at += 100) exchange(c, at, 0);
  CHECK(quick > 8);
  CHECK(quick < 60);
}

TEST_CASE("Auto: promises made while engaged stand when the guest turns quick") {
  Established c(with_auto());
  exchange(c, 1, 30);
  c.peer(data(101, 1000));
  c.emitted();
  const Outcome o = c.guest(data(1, 10).ack(101));
  CHECK(o.seen->ack() == 1101);
}

// --- early SACK ----------------------------------------------------------------------------------

TEST_CASE("P4: early SACK is off by default: the guest speaks", "[P4]") {
  Established c;
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P4: early SACK: a duplicate ACK with a block for what is held above the hole", "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1, 1000));
  c.emitted();
  c.peer(data(2001, 1000));
  CHECK_THAT(c.emitted(), OneAckWithSack(1001, {{2001, 3001}}));
  CHECK(c.emitted_reason() == VSNOOP_REASON_early_sack);
}

TEST_CASE("P4: early SACK: not on a flow that did not agree SACK", "[P4]") {
  Options options;
  options.sack = false;
  Established c(with_early_sack(), options);
  c.peer(data(1001, 1000));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P4: early SACK: no reneging: when the hole is filled the ACK goes to the range's end",
          "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.emitted();
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), OneAck(2001));
  CHECK(c.flow().early_ack == 2001);
  c.guest(ack(2001));
}

TEST_CASE("P4: early SACK: no reneging even if the flow is paused when the hole is filled",
          "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.emitted();
  Outcome o = c.ask(data(1, 1000));
  c.world().quiesce();
  c.finish(o);
  CHECK_THAT(c.emitted(), OneAck(2001));
}

TEST_CASE("P4: early SACK: a guest's ACK inside a range that was SACKed is raised to its end",
          "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.emitted();
  c.peer(data(1, 1000).set(URG));  // fills the hole unseen by vsnoop
  const Outcome o = c.guest(ack(1501));
  REQUIRE(o.passed);
  CHECK(o.seen->ack() == 2001);
  CHECK(c.flow().early_ack == 2001);
}

TEST_CASE("P4: early SACK: a guest's ACK that stops right below a SACKed range is raised as well",
          "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.emitted();
  c.peer(data(1, 1000).set(URG));
  const Outcome o = c.guest(ack(1001));
  REQUIRE(o.passed);
  CHECK(o.seen->ack() == 2001);
}

TEST_CASE("P4: early SACK: ranges that were SACKed are let go after a minute, and nothing is lost",
          "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.emitted();
  c.advance(50000);
  CHECK(c.world().custody() == 1);
  c.advance(20000);
  CHECK(c.world().custody() == 0);
  c.peer(data(1, 1000));
  CHECK_THAT(c.emitted(), Nothing());  // it would end where the SACKed range begins
  const Outcome o = c.guest_acks();
  REQUIRE(o.seen);
  CHECK(o.seen->ack() == 2001);
}

TEST_CASE("P4: early SACK: the newest block comes first, and every range is told in the end",
          "[P4]") {
  // RFC 2018 4.
  Setup setup = with_early_sack();
  World world(setup);
  Established c(world);
  const auto blocks_of = [](const std::vector<Packet>& packets) {
    std::vector<Packet::Blocks> all;
    for (const Packet& p : packets) all.push_back(p.sack());
    return all;
  };
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t begin = 2001 + 2000 * i;
    c.peer(data(begin, 1000));
    const auto acks = c.emitted();
    REQUIRE(acks.size() == 1);
    CHECK(acks[0].ack() == 1);
    REQUIRE_FALSE(acks[0].sack().empty());
    CHECK(acks[0].sack()[0] == std::make_pair(begin, begin + 1000));
  }
  // An old range grows: now it is the newest.
  c.peer(data(3001, 500));
  CHECK(blocks_of(c.emitted()) ==
        std::vector<Packet::Blocks>{{{2001, 3501}, {8001, 9001}, {6001, 7001}}});

  // Four that come in one batch: one ACK cannot say them all.
  World other(setup);
  Established batch(other);
  other.emits = false;
  other.automatic = false;
  for (uint32_t i = 0; i < 4; ++i) batch.peer(data(2001 + 2000 * i, 1000));
  other.emit();
  Packet::Blocks told;
  for (const Packet& p : batch.emitted()) told.insert(told.end(), p.sack().begin(), p.sack().end());
  for (uint32_t i = 0; i < 4; ++i)
    CHECK(std::count(told.begin(), told.end(), std::make_pair(2001 + 2000 * i, 3001 + 2000 * i)) >=
          1);
  other.automatic = true;
  other.feed();
  other.consume();
}

TEST_CASE("P4: early SACK: a segment has one duplicate ACK, not vsnoop's and the guest's", "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  CHECK(c.emitted().size() == 1);
  CHECK_THAT(c.guest(ack(1).sack({{1001, 2001}})), Dropped(VSNOOP_REASON_guest_covered));
  c.peer(data(3001, 1000));
  CHECK(c.emitted().size() == 1);
  CHECK_THAT(c.guest(ack(1).sack({{3001, 4001}, {1001, 2001}})),
             Dropped(VSNOOP_REASON_guest_covered));
  // What vsnoop has not said passes.
  CHECK(c.guest(ack(1).sack({{5001, 5101}, {3001, 4001}, {1001, 2001}})).passed);
}

TEST_CASE("P4: early SACK: bytes that merely passed are no hole", "[P4]") {
  // engage = auto: what came before the guest was found slow is on its way to it.
  Setup setup = with_early_sack();
  setup.guest.engage = VSNOOP_ENGAGE_AUTO;
  Established c(setup);
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  c.peer(data(2001, 1000));
  c.advance(60);
  c.guest(ack(1001));  // it is slow
  REQUIRE(c.flow().pause == 0);
  CHECK(c.peer(data(3001, 1000)).taken);
  CHECK(c.emitted().empty());
  SECTION("the guest speaks for a hole above them, too") {
    CHECK(c.peer(data(5001, 1000)).taken);
    CHECK(c.emitted().empty());
    CHECK(c.guest(ack(4001).sack({{5001, 6001}})).passed);
    // Now it is known what it has: the next hole is vsnoop's to tell.
    CHECK(c.peer(data(6001, 1000)).taken);
    CHECK(c.emitted().size() == 1);
  }
  SECTION("promises go on when it has them") {
    c.guest(ack(3001));
    CHECK(c.peer(data(4001, 1000)).taken);
    CHECK_THAT(c.emitted(), OneAck(5001));
  }
  SECTION("one that comes again is not acknowledged into what the guest may have SACKed") {
    CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_passed_above));
    CHECK(c.emitted().empty());
  }
}

TEST_CASE("P4: early SACK: a promise over an old SACKed range is not taken for an old promise",
          "[P4]") {
  Setup setup = with_early_sack();
  setup.guest.giveup_us = 5000000;
  setup.guest.promise_age_us = 20000000;
  Established c(setup);
  c.peer(data(1001, 1000));
  c.advance(60000);
  c.peer(data(1, 1000));
  c.emitted();
  c.advance(1500);
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P4: early SACK: a SACKed frame that the guest drops is delivered again", "[P4]") {
  Established c(with_early_sack());
  c.peer(data(1001, 1000));
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.delivered();
  c.advance(2500);
  const auto got = c.delivered();
  REQUIRE_FALSE(got.empty());
  CHECK(got[0].seq() == 1001);
}

TEST_CASE("I3: a policy is not changed while something is promised", "[I3]") {
  Setup setup;
  Established c(setup);
  const auto open = [&](uint8_t policy) {
    vsnoop_guest_config other = setup.guest;
    other.policy = policy;
    return vsnoop_guest_open(c.world().engine(), 0, &other, c.world().now());
  };
  c.world().automatic = false;
  c.peer(data(1, 1000));
  CHECK(open(VSNOOP_POLICY_OFF) == -1);
  CHECK(open(VSNOOP_POLICY_RING) == -1);
  CHECK(open(VSNOOP_POLICY_HOLD) == 0);  // other settings may change
  c.feed();
  c.consume();
  CHECK(open(VSNOOP_POLICY_OFF) == -1);
  c.guest(ack(1001));
  CHECK(open(VSNOOP_POLICY_OFF) == 0);
  CHECK_THAT(c.peer(data(1001, 1000)), Passed(VSNOOP_REASON_off));
}
