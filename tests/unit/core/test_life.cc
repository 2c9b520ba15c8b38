// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Life-cycle of flows and guests: quiesce, liveness, fail-stop and tombstones, guest_stop, stale
// references, exhaustion of tables and records, timers.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

Options port(uint16_t n) {
  Options o;
  o.peer_port = static_cast<uint16_t>(40000 + n);
  return o;
}

// A flow that was given up: the guest never acknowledged [1, 1001).
struct Stopped : Established {
  Stopped() : Established(setup()) {
    guest(data(1, 200));
    peer(data(1, 1000).ack(101));
    emitted();
    advance(15000);
    REQUIRE(flow().state == VSNOOP_FLOW_STOPPED);
  }
  static Setup setup() {
    Setup s;
    s.guest.giveup_us = 5000000;
    return s;
  }
};

}  // namespace

// --- quiesce -------------------------------------------------------------------------------------

TEST_CASE("Quiesce: no new promises, the old ones drain, the number falls to zero") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  c.world().quiesce();
  CHECK(c.stats().quiescing == 1);
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_quiescing));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.stats().outstanding == 1000);
  c.guest(ack(2001));
  CHECK(c.stats().outstanding == 0);
  CHECK(c.stats().flows_outstanding == 0);
  CHECK(c.stats().held == 0);
}

TEST_CASE("Quiesce: what is outstanding is delivered again all the same") {
  Established c;
  c.peer(data(1, 1000));
  c.world().quiesce();
  c.advance(1000);
  CHECK(c.stats().redelivered_frames > 0);
}

TEST_CASE("Quiesce: taken back, promises go on") {
  Established c;
  c.world().quiesce();
  c.peer(data(1, 1000));
  c.world().quiesce(false);
  c.guest(ack(1001));
  CHECK_THAT(c.peer(data(1001, 100)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("Quiesce: between verdict and taken: the frame is held, and not promised") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  c.world().quiesce();
  c.finish(o);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1);
  c.guest(ack(1001));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Quiesce: a zero window may never drain: guest_stop ends it, visibly") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  c.world().quiesce();
  c.guest(ack(1).window(0));
  c.advance(30000);
  REQUIRE(c.stats().outstanding == 1000);
  c.world().stop();
  CHECK(c.stats().outstanding == 0);
  CHECK_THAT(c.emitted(), OneReset(1));
}

// --- liveness ------------------------------------------------------------------------------------

TEST_CASE("Liveness: guest silent past the limit: no new promises") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.emitted();
  c.advance(1900);
  CHECK(c.peer(data(1001, 10)).reason() == VSNOOP_REASON_in_order);
  c.advance(200);
  CHECK(c.peer(data(1011, 1000)).reason() == VSNOOP_REASON_guest_silent);
  CHECK(c.flow().early_ack == 1011);
}

TEST_CASE("Liveness: ring progress is a sign of life: an idle guest sends nothing") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.feed();
  c.advance(1500);
  c.consume();
  c.advance(1000);
  CHECK(c.peer(data(1001, 1000)).reason() == VSNOOP_REASON_in_order);
}

TEST_CASE(
    "Liveness: of a ring that nobody sees, progress is no sign of life, the guest's frames are") {
  Setup setup;
  setup.guest.ring_unseen = 1;
  Established c(setup);
  c.peer(data(1, 1000));
  c.emitted();
  c.advance(2100);  // its ring is emptied all the time
  CHECK(c.peer(data(1001, 1000)).reason() == VSNOOP_REASON_guest_silent);
  c.guest(ack(2001));
  CHECK(c.peer(data(2001, 1000)).reason() == VSNOOP_REASON_in_order);
}

TEST_CASE("Fail-stop: the host is told which flow, how many bytes, and why") {
  struct Told {
    int times = 0;
    uint32_t bytes = 0;
    uint16_t port = 0;
    uint8_t reason = 0;
  } told;
  Setup setup = Stopped::setup();
  setup.engine.broken_context = &told;
  setup.engine.broken = [](void* context, const vsnoop_flow_info* flow, uint32_t bytes,
                           uint8_t reason) {
    auto& t = *static_cast<Told*>(context);
    ++t.times;
    t.bytes = bytes;
    t.port = flow->peer_port;
    t.reason = reason;
  };
  World world(setup);
  Established c(world, port(7));
  c.peer(data(1, 1000));
  c.emitted();
  CHECK(c.stats().broken == 0);
  c.advance(15000);
  REQUIRE(c.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK(told.times == 1);
  CHECK(told.bytes == 1000);
  CHECK(told.port == 40007);
  CHECK(told.reason == VSNOOP_REASON_failstop_giveup);
  CHECK(c.stats().broken == 1000);
}

TEST_CASE("Liveness: a guest that owes nothing is not silent, however long it was quiet") {
  Established c;
  c.world().automatic = false;
  c.advance(100000);
  CHECK(c.peer(data(1, 1000)).reason() == VSNOOP_REASON_in_order);
}

TEST_CASE("Liveness: the guest speaks again: promises go on") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.advance(3000);
  REQUIRE(c.flow().pause == VSNOOP_REASON_guest_silent);
  c.guest(ack(1));
  CHECK(c.peer(data(1001, 1000)).reason() == VSNOOP_REASON_in_order);
}

// --- fail-stop -----------------------------------------------------------------------------------

TEST_CASE("Fail-stop: the peer gets an RST at its RCV.NXT, the guest one at its own") {
  Established c(Stopped::setup());
  c.guest(data(1, 200));
  c.peer(data(1, 1000).ack(101));
  c.emitted();
  c.advance(15000);
  const auto to_peer = c.emitted();
  REQUIRE_FALSE(to_peer.empty());
  CHECK(to_peer[0].has(RST));
  CHECK(to_peer[0].seq() == 101);  // its SEG.ACK
  CHECK_THAT(c.resets_to_guest(), Resets(1));
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().used == 0);
}

TEST_CASE("Fail-stop: the tombstone answers challenge ACKs with an RST at their SEG.ACK") {
  Stopped c;
  c.emitted();
  CHECK_THAT(c.peer(ack(181)), Dropped(VSNOOP_REASON_stopped));
  CHECK_THAT(c.emitted(), OneReset(181));
}

TEST_CASE("Fail-stop: the tombstone answers data of the peer, too, and never acknowledges it") {
  Stopped c;
  c.emitted();
  CHECK_THAT(c.peer(data(1001, 100).ack(201)), Dropped(VSNOOP_REASON_stopped));
  CHECK_THAT(c.emitted(), OneReset(201));
}

TEST_CASE("Fail-stop: the tombstone answers no RST") {
  Stopped c;
  c.emitted();
  CHECK_THAT(c.peer(rst(1001)), Dropped(VSNOOP_REASON_stopped));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("Fail-stop: the guest that goes on speaking is reset at its RCV.NXT") {
  Stopped c;
  c.resets_to_guest();
  CHECK_THAT(c.guest(data(201, 10).ack(501)), Dropped(VSNOOP_REASON_stopped));
  CHECK_THAT(c.resets_to_guest(), OneReset(501));
}

TEST_CASE("Fail-stop: no ACK follows the reset") {
  Established c(Stopped::setup());
  c.world().emits = false;
  c.world().automatic = false;
  c.peer(data(1, 1000));  // its ACK is owed
  c.world().stop();
  c.world().emit();
  CHECK_THAT(c.emitted(), OneReset(1));
}

TEST_CASE(
    "Fail-stop: the tombstone stands for a while, and is gone after that, whoever spoke last") {
  Stopped c;
  SECTION("nobody") {}
  SECTION("the peer") { c.peer(ack(181)); }
  SECTION("the guest, below what it had confirmed") { c.guest(data(201, 10).ack(-400u)); }
  SECTION("the guest, above") { c.guest(data(201, 10).ack(700)); }
  REQUIRE(c.tracked());
  c.advance(30000);
  CHECK(c.tracked());
  c.advance(60000);
  CHECK_FALSE(c.tracked());
  CHECK(c.stats().outstanding == 0);
  CHECK(c.stats().flows_outstanding == 0);
}

TEST_CASE("Fail-stop: the same tuple may open anew over a tombstone") {
  Stopped c;
  c.peer(syn(100000));
  c.guest(syn_ack(100001, 70000));
  c.rebase(100000, 70000);
  c.peer(ack(1));
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
}

// --- guest_stop ----------------------------------------------------------------------------------

TEST_CASE("Guest gone: flows with a promise are reset towards the peer, the others are forgotten") {
  World world;
  Established promised(world, port(0)), idle(world, port(1)), confirmed(world, port(2));
  promised.peer(data(1, 1000));
  confirmed.peer(data(1, 1000));
  confirmed.guest(ack(1001));
  for (Established* c : {&promised, &idle, &confirmed}) c->emitted();
  world.stop();
  CHECK_THAT(promised.emitted(), OneReset(1));
  CHECK_THAT(idle.emitted(), Nothing());
  CHECK_THAT(confirmed.emitted(), Nothing());
  CHECK(promised.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK_FALSE(idle.tracked());
  CHECK_FALSE(confirmed.tracked());
  CHECK(world.stats().outstanding == 0);
  CHECK(world.custody() == 0);
}

TEST_CASE("Guest gone: flows of other guests are left alone") {
  World world;
  Options second = port(1);
  second.guest = 1;
  Established here(world, port(0)), there(world, second);
  here.peer(data(1, 1000));
  there.peer(data(1, 1000));
  there.emitted();
  world.stop(0);
  CHECK(there.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK(world.stats(1).outstanding == 1000);
  CHECK_THAT(there.emitted(), Nothing());
}

TEST_CASE("Guest gone: what stands in its ring is freed when the host takes the ring down") {
  Established c;
  c.world().automatic = false;
  for (uint32_t i = 0; i < 6; ++i) c.peer(data(1 + i * 100, 100));
  c.feed(3);
  c.world().stop();
  CHECK(c.world().custody() == 3);
  c.world().lose_ring();
  c.feed();
  CHECK(c.world().custody() == 0);
}

// --- stale references ----------------------------------------------------------------------------

TEST_CASE("Stale reference: taken after the flow is gone says no, and the frame stays the host's") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  REQUIRE(o.action() == VSNOOP_KEEP);
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  c.finish(o);
  CHECK_FALSE(o.taken);
  CHECK(o.passed);
  CHECK(c.stats().used == 0);
}

TEST_CASE("Stale reference: taken after another flow has the slot does not touch that flow") {
  Setup setup;
  setup.engine.flows = 1;
  World world(setup);
  Established old(world, port(0));
  Outcome o = old.ask(data(1, 1000));
  old.guest(Packet().seq(1).set(RST).clear(ACK));
  Established young(world, port(1));
  old.finish(o);
  CHECK_FALSE(o.taken);
  CHECK(young.flow().rcv_nxt == 1);
  CHECK(young.flow().held == 0);
}

TEST_CASE("Stale reference: declined after the flow is gone lets the frame pass") {
  Established c;
  Outcome o = c.ask(data(1, 1000));
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  c.finish(o, false);
  CHECK(o.passed);
}

TEST_CASE("Stale reference: vsnoop_flow() says no to one") {
  Established c;
  const Outcome o = c.peer(data(1, 1000));
  vsnoop_flow_info info;
  CHECK(vsnoop_flow(c.world().engine(), o.verdict.flow, &info));
  c.guest(ack(1001));
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  CHECK_FALSE(vsnoop_flow(c.world().engine(), o.verdict.flow, &info));
}

// --- exhaustion ----------------------------------------------------------------------------------

TEST_CASE("I7: flow table full: further connections pass untouched", "[I7]") {
  Setup setup;
  setup.engine.flows = 2;
  World world(setup);
  Established a(world, port(0)), b(world, port(1));
  Connection c(world, port(2));
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(ack(1)), Passed(VSNOOP_REASON_table_full));
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.guest(ack(1001)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("I7: a flow with a promise is never evicted for a new one, nor by age", "[I7]") {
  Setup setup;
  setup.engine.flows = 1;
  setup.engine.idle_s = 10;
  setup.guest.giveup_us = 3000000000;
  setup.guest.promise_age_us = 3000000000;
  World world(setup);
  Established a(world, port(0));
  a.peer(data(1, 1000));
  a.emitted();
  a.advance(60000);
  Connection b(world, port(1));
  b.peer(syn());
  b.guest(syn_ack());
  CHECK_THAT(b.peer(ack(1)), Passed(VSNOOP_REASON_table_full));
  CHECK(a.flow().early_ack == 1001);
}

TEST_CASE("I7: records exhausted: frames pass unpromised, and promises go on when one is free",
          "[I7]") {
  Setup setup;
  setup.engine.custodies = 2;
  World world(setup);
  Established a(world, port(0)), b(world, port(1)), c(world, port(2));
  a.peer(data(1, 1000));
  b.peer(data(1, 1000));
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_no_record));
  CHECK_THAT(c.emitted(), Nothing());
  c.guest(ack(1001));
  a.guest(ack(1001));
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE(
    "I7: records exhausted: a duplicate that cannot be answered goes to the guest, with credit",
    "[I7]") {
  Setup setup;
  setup.engine.custodies = 1;
  World world(setup);
  Established a(world, port(0)), b(world, port(1));
  a.peer(data(1, 1000));
  a.guest(ack(1001));
  b.peer(data(1, 1000));
  CHECK_THAT(a.peer(data(1, 1000)), Passed(VSNOOP_REASON_duplicate_forwarded));
  CHECK(a.guest(ack(1001)).passed);
}

TEST_CASE("Expiry: an idle flow that owes nothing is forgotten after idle_s, and not before") {
  Setup setup;
  setup.engine.idle_s = 30;
  Established c(setup);
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.advance(28000);
  CHECK(c.tracked());
  c.advance(4000);
  CHECK_FALSE(c.tracked());
}

TEST_CASE("Expiry: a closed connection is forgotten at once, also when the FINs were repeated") {
  Established c;
  c.peer(fin(1));
  c.peer(fin(1));
  c.guest(Packet().seq(1).ack(2).set(FIN));
  c.peer(Packet().seq(2).ack(2));
  c.advance(100);
  CHECK_FALSE(c.tracked());
}

TEST_CASE("Expiry: the ring policy pins no flow for ever: neither a promise nor a hole does") {
  Setup setup;
  setup.guest.policy = VSNOOP_POLICY_RING;
  setup.engine.idle_s = 30;
  setup.guest.promise_age_us = 20000000;
  Established c(setup);
  SECTION("a promise that the guest never confirmed") { c.peer(data(1, 1000)); }
  SECTION("a hole that was never filled") { c.peer(data(1001, 1000)); }
  c.advance(200000);
  CHECK_FALSE(c.tracked());
  CHECK(c.stats().outstanding == 0);
}

// --- timers --------------------------------------------------------------------------------------

TEST_CASE("Timers: many flows due at one time are all served, a bounded number at each tick") {
  Setup setup;
  setup.engine.flows = 1024;
  setup.engine.custodies = 1024;
  setup.guest.budget = 64 << 20;
  World world(setup);
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 0; i < 300; ++i) {
    flows.push_back(std::make_unique<Established>(world, port(i)));
    flows.back()->peer(data(1, 100));
    flows.back()->delivered();
  }
  world.advance(260);
  for (auto& c : flows) CHECK_THAT(c->delivered(), OneSegment(1, 100));
}

TEST_CASE("Timers: a clock that jumps by many turns of the wheel runs what is due, once") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.feed();
  c.consume();
  c.delivered();
  CHECK(vsnoop_tick(c.world().engine(), c.world().now() + 30000000) == nullptr);
  CHECK(c.feed() == 1);
}

TEST_CASE("Timers: an engine with nothing to do has no deadline") {
  World world;
  CHECK(vsnoop_deadline(world.engine()) == UINT64_MAX);
}

TEST_CASE("Timers: a connection at rest wants a look once a second, not more") {
  Established c;
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.advance(2000);
  const uint64_t end = c.world().now() + 60000000;
  int looks = 0;
  for (uint64_t due; (due = vsnoop_deadline(c.world().engine())) < end; ++looks) {
    c.world().advance_us(due - c.world().now());
  }
  CHECK(looks >= 20);
  CHECK(looks <= 61);
}

TEST_CASE("Timers: one flow that is held back keeps nobody busy when there is no more room") {
  Setup setup;
  setup.engine.flows = 1024;
  setup.guest.budget = 400000;
  World world(setup);
  Established c(world, port(0));
  c.guest(ack(1).window(65535));
  REQUIRE(c.flow().shown_edge < c.flow().right_edge);
  int looks = 0;
  for (uint32_t at = 1; at < 1000001; at += 1000) {
    c.peer(data(at, 1000));
    c.guest(ack(at + 1000).window(65535));
    const uint64_t end = world.now() + 1000;
    if (vsnoop_deadline(world.engine()) <= end) ++looks;
    world.advance_us(1000);
  }
  CHECK(looks <= 100);  // of a thousand milliseconds
}

TEST_CASE("Timers: frames that the guest has only left in its ring keep nobody busy either") {
  // Their connection has nothing more to let go of, whether it lives or was reset.
  for (const bool reset : {false, true}) {
    CAPTURE(reset);
    Setup setup;
    setup.engine.flows = 1024;
    setup.guest.budget = 400000;
    World world(setup);
    world.automatic = false;
    Established c(world, port(0)), rests(world, port(1));
    rests.peer(data(1, 1000));
    rests.feed();
    if (reset)
      rests.guest(Packet().seq(1).set(RST).clear(ACK));
    else
      rests.guest(ack(1001));  // it peeked
    world.advance(40000);
    REQUIRE(world.custody() == 1);
    c.guest(ack(1).window(65535));
    REQUIRE(c.flow().shown_edge < c.flow().right_edge);
    int looks = 0;
    for (uint32_t i = 0; i < 1000; ++i) {
      c.guest(ack(1).window(65535));
      const uint64_t end = world.now() + 1000;
      if (vsnoop_deadline(world.engine()) <= end) ++looks;
      world.advance_us(1000);
    }
    CHECK(looks <= 100);
    CHECK(world.count(VSNOOP_REASON_ranges_let_go) == 0);
    world.consume();
  }
}

TEST_CASE("I7: a full table makes room: the longest silent flow that owes nothing goes", "[I7]") {
  Setup setup;
  setup.engine.flows = 64;
  setup.guest.giveup_us = 4000000000;
  setup.guest.promise_age_us = 4000000000;
  World world(setup);
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 0; i < 64; ++i) {
    flows.push_back(std::make_unique<Established>(world, port(i)));
    world.advance(200);
  }
  // The oldest is promised for, the next oldest has just been heard of.
  world.automatic = false;
  flows[0]->peer(data(1, 1000));
  world.advance(40 * 60000);
  flows[1]->peer(ack(1).seq(1));
  world.advance(20 * 60000);
  world.automatic = true;
  CHECK(flows[0]->flow().early_ack == 1001);
  Established newcomer(world, port(100));
  CHECK(newcomer.tracked());
  CHECK(flows[0]->tracked());
  CHECK(flows[1]->tracked());
  CHECK_FALSE(flows[2]->tracked());
  for (size_t i = 3; i < 64; ++i) CHECK(flows[i]->tracked());
  CHECK(world.count(VSNOOP_REASON_flow_evicted) == 1);
  world.stop();
}

TEST_CASE("I7: a full table of flows that are all at work takes no newcomer", "[I7]") {
  Setup setup;
  setup.engine.flows = 8;
  World world(setup);
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 0; i < 8; ++i) flows.push_back(std::make_unique<Established>(world, port(i)));
  Connection newcomer(world, port(100));
  newcomer.peer(syn());
  newcomer.guest(syn_ack());
  CHECK_THAT(newcomer.peer(ack(1)), Passed(VSNOOP_REASON_table_full));
}

TEST_CASE("Expiry: a connection whose keep-alives come after two hours is still known then") {
  Established c;
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  for (int minute = 0; minute < 121; ++minute) c.advance(60000);
  for (int probe = 0; probe < 9; ++probe) {
    REQUIRE(c.tracked());
    c.advance(75000);
  }
  c.guest(ack(1001));
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("fail-stop of a guest that is gone is counted, and so are its resets") {
  World world;
  Options first, second;
  second.peer_port = 40001;
  Established promised(world, first), quiet(world, second);
  world.automatic = false;
  promised.peer(data(1, 1000));
  world.stop();
  CHECK(world.count(VSNOOP_REASON_failstop_gone) == 1);
  CHECK(world.count(VSNOOP_REASON_reset_peer) == 1);
  CHECK(world.count(VSNOOP_REASON_reset_guest) == 1);
  CHECK(world.count(VSNOOP_REASON_flow_closed) == 1);
  CHECK_THAT(promised.emitted(), Count(2));  // the early ACK, and then the reset
  CHECK_THAT(promised.resets_to_guest(), OneReset(1));
  CHECK_THAT(quiet.emitted(), Nothing());
  CHECK(quiet.resets_to_guest().empty());
}
