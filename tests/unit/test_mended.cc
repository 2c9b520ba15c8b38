// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The rules that were mended after their first version (the table at the end of docs/ack-rules.md),
// as far as no other file has them.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

Setup with_budget(uint32_t bytes) {
  Setup setup;
  setup.guest.budget = bytes;
  return setup;
}

Options port(uint16_t n) {
  Options o;
  o.peer_port = n;
  return o;
}

}  // namespace

TEST_CASE(
    "I2b: a connection at rest gives its reservation back and keeps the window it has shown") {
  World world(with_budget(1 << 20));
  Established idle(world, port(40001));
  idle.guest(ack(1).window(65535));
  const vsnoop_flow_info before = idle.flow();
  REQUIRE(before.reserved > 0);
  world.advance(1000);
  CHECK(idle.flow().reserved == 0);
  CHECK(idle.flow().shown_edge == before.shown_edge);
}

TEST_CASE("I2b: what a connection at rest gave back opens the window of one that waits for room") {
  World world(with_budget(1 << 20));
  Established idle(world, port(40001));
  idle.guest(ack(1).window(65535));
  Established busy(world, port(40002));
  busy.guest(ack(1).window(65535));
  const uint32_t before = busy.flow().shown_edge;
  REQUIRE(before < busy.flow().right_edge);
  for (uint32_t at = 1; at < 20001; at += 1000) {
    world.advance(60);
    busy.peer(data(at, 1000));
    busy.guest(ack(at + 1000).window(65535));
  }
  CHECK(busy.flow().shown_edge - busy.flow().rcv_nxt > 2 * (before - 1));
}

TEST_CASE("I2b: a window that was given back is paid for again when data comes") {
  World world(with_budget(4 << 20));
  Established c(world, port(40001));
  c.guest(ack(1).window(8000));
  world.advance(1000);
  REQUIRE(c.flow().reserved == 0);
  c.peer(data(1, 1000));
  CHECK(c.flow().reserved > 0);
}

TEST_CASE("I7: a frame that is here goes before a window that was reserved for others") {
  World world(with_budget(1 << 20));
  world.automatic = false;
  Established other(world, port(40001));
  other.guest(ack(1).window(65535));  // most of the budget is reserved
  Established c(world, port(40002));
  uint32_t at = 1;
  for (; at + 1000 < 60000; at += 1000)
    CHECK_THAT(c.peer(data(at, 1000).memory(10240)), Kept(VSNOOP_REASON_in_order));
  CHECK(world.stats().held <= 1 << 20);
  CHECK(c.flow().early_ack == at);
  world.automatic = true;
  world.feed();
  world.consume();
  c.guest(ack(at));
}

TEST_CASE("P9: SYN and RST in one segment is a reset, not a SYN") {
  Established c;
  CHECK_THAT(c.peer(rst(1).set(SYN)), Passed(VSNOOP_REASON_rst_exact));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("G4: any opening passes while the peer is shown less than two segments of window") {
  Options small;
  small.syn_window = 3000;
  Established c(small);
  c.peer(data(1, 1460));
  REQUIRE(c.flow().shown_edge - c.flow().early_ack == 1540);
  const Outcome o = c.guest(ack(1461).window(16));  // 508 bytes more
  REQUIRE(o.seen);
  CHECK(o.seen->ack() + o.seen->window() * 128u == 1461 + 2048);
}

TEST_CASE("TSval: after a long rest the guest speaks first, whatever its clock ticks in") {
  // 2^31 ticks of a microsecond pass in 36 minutes: the guest's last value looks newer than its
  // next one. The peer would take an old value for the newest, and refuse what the guest says.
  for (const uint32_t per_ms : {1000u, 1u}) {
    for (const uint32_t minutes : {11u, 36u, 40u, 71u, 110u}) {
      CAPTURE(per_ms, minutes);
      Established c;
      const auto clock = [&](uint32_t ms) { return 5000 + ms * per_ms; };
      c.peer(data(1, 1000).ts(clock(0), clock(0)));
      c.guest(ack(1001).ts(clock(1), clock(0)));
      c.emitted();
      for (uint32_t minute = 0; minute < minutes; ++minute) c.advance(60000);
      const uint32_t rest = minutes * 60000;
      CHECK(c.peer(data(1001, 1000).ts(clock(rest), clock(1))).passed);
      CHECK_THAT(c.peer(data(1, 1000).ts(clock(rest), clock(1))),
                 Passed(VSNOOP_REASON_duplicate_forwarded));
      CHECK(c.emitted().empty());
      const Outcome answer = c.guest(data(1, 500).ack(2001).ts(clock(rest + 3), clock(rest)));
      REQUIRE(answer.seen);
      CHECK(answer.seen->tsval() == clock(rest + 3));
      CHECK_THAT(c.peer(data(2001, 1000).ack(501).ts(clock(rest + 4), clock(rest + 3))),
                 Kept(VSNOOP_REASON_in_order));
      const std::vector<Packet> acks = c.emitted();
      REQUIRE(acks.size() == 1);
      CHECK(acks[0].tsval() == clock(rest + 3));
      CHECK(acks[0].tsecr() == clock(rest + 4));
      CHECK_THAT(c.peer(data(3001, 1000).ack(501).ts(clock(rest + 2), clock(rest + 3))),
                 Passed(VSNOOP_REASON_paws));
    }
  }
}

TEST_CASE("TSval: after a long rest the guest may begin, and the peer's clock is taken anew") {
  Established c;
  const auto clock = [](uint32_t ms) { return 5000 + ms * 1000; };
  c.peer(data(1, 1000).ts(clock(0), clock(0)));
  c.guest(ack(1001).ts(clock(1), clock(0)));
  for (uint32_t minute = 0; minute < 40; ++minute) c.advance(60000);
  const uint32_t rest = 40 * 60000;
  c.guest(data(1, 500).ack(1001).ts(clock(rest), clock(0)));
  c.emitted();
  CHECK_THAT(c.peer(data(1001, 1000).ack(501).ts(clock(rest + 1), clock(rest))),
             Kept(VSNOOP_REASON_in_order));
  const std::vector<Packet> acks = c.emitted();
  REQUIRE(acks.size() == 1);
  CHECK(acks[0].tsecr() == clock(rest + 1));
}
