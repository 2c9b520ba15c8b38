// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Reasons that other tests bring about without naming them: each is counted when, and only when,
// what its sentence says happens.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

TEST_CASE("P12: ECN agreed on the handshake is counted as such, offered alone it is not") {
  Options options;
  Connection offered(options), agreed(options);
  offered.peer(syn().set(ECE | CWR));
  offered.guest(syn_ack());
  offered.peer(ack(1));
  CHECK(offered.tracked());
  CHECK(offered.count(VSNOOP_REASON_ecn) == 0);
  agreed.peer(syn().set(ECE | CWR));
  CHECK_THAT(agreed.guest(syn_ack().set(ECE)), Passed(VSNOOP_REASON_ecn));
  agreed.peer(ack(1));
  CHECK_FALSE(agreed.tracked());
  CHECK_THAT(agreed.peer(data(1, 1000)), Passed(VSNOOP_REASON_no_flow));
}

TEST_CASE("P6: beyond the window shown, with news for the guest: forwarded, not promised") {
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

TEST_CASE("G7: a re-delivery is counted when the frame enters the ring, not when it is asked for") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  c.feed();
  c.consume();
  c.guest(ack(1).sack({{1001, 2001}}));
  CHECK(c.count(VSNOOP_REASON_redelivery) == 0);
  CHECK(c.feed() == 1);
  CHECK(c.count(VSNOOP_REASON_redelivery) == 1);
  CHECK(c.stats().redelivered_frames == 1);
}
