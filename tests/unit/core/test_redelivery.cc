// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What re-delivery may not do to the guest, the host and the peer: go round in no time, spoil
// timestamps, hide what is the peer's own; and how flows share slots and records.
#include <memory>
#include <vector>

#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

struct ByHand : Established {
  explicit ByHand(const Options& options = Options()) : Established(options) {
    world().automatic = false;
  }
  explicit ByHand(World& world, const Options& options) : Established(world, options) {}
  void peer_sends(uint32_t frames) {
    for (uint32_t i = 0; i < frames; ++i) peer(data(1 + 1000 * i, 1000));
    emitted();
  }
  size_t takes_all() {
    const size_t n = feed();
    consume();
    return n;
  }
};

Options port(unsigned n) {
  Options o;
  o.peer_port = static_cast<uint16_t>(20000 + n);
  return o;
}

}  // namespace

// --- in no time ----------------------------------------------------------------------------------

TEST_CASE("G7: at a closed window re-delivery and its answer do not go round in no time", "[G7]") {
  ByHand c;
  c.peer_sends(4);
  c.takes_all();
  // It has no room for the first and keeps a later one: each probe draws the same answer.
  unsigned again = 0;
  const auto answers = [&] {
    for (int i = 0; i < 100; ++i) {
      c.guest(ack(1).window(0).sack({{2001, 3001}}));
      const size_t n = c.takes_all();
      again += static_cast<unsigned>(n);
      if (!n && i > 3) return;
    }
  };
  answers();
  CHECK(again <= 4);
  again = 0;
  c.advance(2500);  // but the timer's probe goes on
  CHECK(c.takes_all() >= 1);
  answers();
  CHECK(again <= 2);
}

TEST_CASE("G7: a block above what was ever promised is proof once, not for ever", "[G7]") {
  ByHand c;
  c.peer_sends(2);
  c.world().quiesce();
  c.peer(data(5001, 1000));  // above a hole: the guest gets it, vsnoop does not have it
  c.takes_all();
  unsigned again = 0;
  for (int i = 0; i < 50; ++i) {
    c.guest(ack(1).window(0).sack({{5001, 6001}}));
    again += static_cast<unsigned>(c.takes_all());
  }
  CHECK(again <= 3);
}

TEST_CASE("G7: a block that begins at the guest's own ACK shows nothing", "[G7]") {
  ByHand c;
  c.peer_sends(3);
  c.takes_all();
  c.guest(ack(1).sack({{1, 1001}}));
  CHECK(c.feed() == 0);
}

// --- timestamps ----------------------------------------------------------------------------------

TEST_CASE("Re-delivery: an ACK number goes with its own TSecr (RFC 7323 4.1)") {
  ByHand c;
  c.advance(100);
  c.peer(data(1, 1000).ack(1).ts(100, 3));
  c.takes_all();
  c.guest(data(1, 500).ack(1).ts(140, 100));
  c.advance(100);
  c.peer(ack(501).seq(1001).ts(200, 140));
  c.takes_all();
  c.delivered();
  for (int i = 0; i < 2500 && c.feed() == 0; ++i) c.advance(1);
  c.consume();
  const auto got = c.delivered();
  REQUIRE(got.size() == 1);
  CHECK(got[0].seq() == 1);
  CHECK(got[0].ack() == 501);
  CHECK(got[0].tsecr() == 140);
  CHECK(got[0].tsval() == 200);
}

TEST_CASE("Early ACK: of several segments that one ACK answers the earliest TSval is echoed") {
  // RFC 7323 4.3: else the peer takes the time that the batch took for nothing.
  ByHand c;
  c.world().emits = false;
  c.peer(data(1, 1000).ts(100, 1));
  c.peer(data(1001, 1000).ts(107, 1));
  c.peer(data(2001, 1000).ts(111, 1));
  c.world().emit();
  auto said = c.emitted();
  REQUIRE_THAT(said, OneAck(3001));
  CHECK(said[0].tsecr() == 100);
  c.peer(data(3001, 1000).ts(120, 1));
  c.world().emit();
  said = c.emitted();
  REQUIRE_THAT(said, OneAck(4001));
  CHECK(said[0].tsecr() == 120);
  c.world().emits = true;
}

// --- D-SACK --------------------------------------------------------------------------------------

TEST_CASE("G7: after a re-delivery has been answered, a D-SACK of the peer's own passes again",
          "[G7]") {
  ByHand c;
  c.peer_sends(1);
  c.takes_all();
  c.advance(2500);
  REQUIRE(c.takes_all() >= 1);
  c.guest(ack(1001).sack({{1, 1001}}));  // provoked
  c.peer(data(1001, 1000));
  c.takes_all();
  c.guest(ack(2001));
  // Now a duplicate of the peer's.
  const Outcome o = c.guest(ack(2001).sack({{1001, 2001}}));
  REQUIRE(o.passed);
  CHECK(o.seen->sack() == Packet::Blocks{{1001, 2001}});
}

// --- shares --------------------------------------------------------------------------------------

TEST_CASE("Custody: sparse flows without end do not starve a promise (RFC 8290 4.2)") {
  Setup setup;
  setup.engine.flows = 256;
  setup.engine.custodies = 256;
  setup.guest.budget = 64u << 20;
  World world(setup);
  std::vector<std::unique_ptr<Established>> sparse;
  for (unsigned i = 0; i < 64; ++i) sparse.push_back(std::make_unique<Established>(world, port(i)));
  Options wide = port(100);
  wide.guest_wscale = 9;
  Established bulk(world, wide);
  bulk.peer(data(1, 1000));
  bulk.guest(ack(1001).window(4000));
  world.automatic = false;
  world.ring_slots = 1;
  for (uint32_t i = 0; i < 150; ++i) bulk.peer(data(1001 + 1448 * i, 1448));
  std::vector<uint32_t> next(64, 1);
  // The guest takes as many frames as the others bring.
  unsigned taken = 0;
  for (unsigned i = 0; i < 20000 && bulk.guest_rcv_nxt() < 1001 + 150 * 1448; ++i, ++taken) {
    sparse[i % 64]->peer(data(next[i % 64], 60));
    next[i % 64] += 60;
    world.feed(0, 1);
    world.consume(0, 1);
    if (i % 8 == 0)
      for (auto& flow : sparse) flow->guest_acks();
    world.advance_us(500);
  }
  CHECK(bulk.guest_rcv_nxt() == 1001 + 150 * 1448);
  CHECK(taken < 3000);
  world.ring_slots = SIZE_MAX;
  while (world.feed()) world.consume();
  bulk.guest_acks();
  for (auto& flow : sparse) flow->guest_acks();
}

TEST_CASE("Custody: a small frame takes a slot as a large one does") {
  Setup setup;
  setup.guest.budget = 64 << 20;
  World world(setup);
  Established large(world, port(0)), small(world, port(1));
  world.automatic = false;
  for (uint32_t i = 0; i < 40; ++i) large.peer(data(1 + i * 1400, 1400));
  for (uint32_t i = 0; i < 1000; ++i) small.peer(data(1 + i * 20, 20));
  unsigned frames[2] = {0, 0};
  for (int n = 0; n < 70; ++n) {
    world.feed(0, 1);
    world.consume();
    frames[0] += static_cast<unsigned>(large.delivered().size());
    frames[1] += static_cast<unsigned>(small.delivered().size());
  }
  CHECK(frames[0] >= 30);
  CHECK(frames[1] >= 30);
  world.emits = false;
}

TEST_CASE("I7: connections that only wait for room give their records to one that has data",
          "[I7]") {
  Setup setup;
  setup.engine.flows = 64;
  setup.engine.custodies = 8;
  setup.guest.budget = 256 << 10;
  World world(setup);
  std::vector<std::unique_ptr<Established>> waiting;
  for (unsigned i = 0; i < 8; ++i) {
    Options o = port(i);
    o.guest_wscale = 9;
    waiting.push_back(std::make_unique<Established>(world, o));
    waiting.back()->peer(data(1, 1000));
    waiting.back()->guest(ack(1001).window(8000));  // 4 MB: more than there is
  }
  Established newcomer(world, port(50));
  CHECK_THAT(newcomer.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(newcomer.emitted(), OneAck(1001));
}

TEST_CASE("G7: a re-delivery is counted when the frame enters the ring, not when it is asked for",
          "[G7]") {
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

TEST_CASE("Re-delivery: after a long rest nothing carries a TSval from before it") {
  // Just over half a turn of a clock of microseconds: what was given before looks newer.
  for (const bool above : {false, true}) {
    CAPTURE(above);
    ByHand c;
    const auto clock = [](uint32_t ms) { return 5000 + ms * 1000; };
    c.peer(data(1, 1000).ts(clock(1), 0));
    c.takes_all();
    c.peer(data(1001, 1000).ts(clock(2), 0));
    c.feed();
    c.advance(2100);  // the first is delivered again
    REQUIRE(c.feed() == 1);
    c.consume(1);
    c.guest(ack(2001));  // and the record stays: one is in its ring
    REQUIRE(c.world().custody() == 1);
    c.delivered();
    for (uint32_t minute = 0; minute < 36; ++minute) c.advance(60000);
    const uint32_t rest = 2147700;
    c.guest(ack(2001).ts(clock(rest), 0));
    if (above) {
      c.consume();  // the record goes; and the first thing heard of the peer lies above a hole
      c.peer(data(3001, 1000).ts(clock(rest + 1), clock(rest)));
    }
    c.peer(data(2001, 1000).ts(clock(rest + 1), clock(rest)));
    c.consume();
    c.delivered();
    c.takes_all();
    for (const Packet& p : c.delivered()) CHECK(p.tsval() == clock(rest + 1));
    c.advance(3000);
    REQUIRE(c.takes_all() == 1);
    for (const Packet& p : c.delivered()) CHECK(p.tsval() == clock(rest + 1));
  }
}
