// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Guest to peer: G1 .. G8 of docs/ack-rules.md, clause by clause. The checksum of every edited
// segment, and I1, I2, I4, are asserted by the harness.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

// One promised segment [1, 1001) that the guest has taken and not acknowledged.
struct Promised : Established {
  explicit Promised(const Options& options = Options()) : Established(options) { begin(); }
  explicit Promised(const Setup& setup, const Options& options = Options())
      : Established(setup, options) {
    begin();
  }
  void begin() {
    peer(data(1, 1000));
    REQUIRE_THAT(emitted(), OneAck(1001));
  }
};

}  // namespace

// --- G1 ------------------------------------------------------------------------------------------

TEST_CASE("G1: an ACK releases the frames that lie below it, and only those", "[G1]") {
  Established c;
  for (uint32_t i = 0; i < 3; ++i) c.peer(data(1 + i * 1000, 1000));
  REQUIRE(c.world().custody() == 3);
  c.guest(ack(1500));
  CHECK(c.world().custody() == 2);
  c.guest(ack(2001));
  CHECK(c.world().custody() == 1);
  c.guest(ack(3001));
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().outstanding == 0);
}

TEST_CASE("G1: right_edge is ACK + window, scaled, of the guest's newest segment", "[G1]") {
  Established c;
  c.guest(data(1, 100).ack(1).window(1000));
  CHECK(c.flow().right_edge == 1 + 1000 * 128);
  c.guest(data(1, 100).ack(1).window(10));  // older: overtaken on another queue
  CHECK(c.flow().right_edge == 1 + 1000 * 128);
  c.guest(ack(1).window(10));
  CHECK(c.flow().right_edge == 1 + 10 * 128);
}

TEST_CASE("G1: any frame of the guest is a sign of life, even one of another connection", "[G1]") {
  Promised c;
  Options other;
  other.peer_port = 40001;
  Established d(c.world(), other);
  c.world().automatic = false;  // a ring that is served is a sign of life, too
  c.advance(2500);
  REQUIRE(c.flow().pause == VSNOOP_REASON_guest_silent);
  d.guest(ack(1));
  CHECK(c.flow().pause == VSNOOP_REASON_none);
}

TEST_CASE("G1: guest_tsval is the serial maximum: an old segment does not turn it back", "[G1]") {
  Established c;
  c.advance(50);
  c.guest(data(1, 10));
  c.guest(data(1, 10).ts(3, 0));
  c.peer(data(1, 100));
  const auto sent = c.emitted();
  REQUIRE_THAT(sent, OneAck(101));
  CHECK(sent[0].tsval() == 50);
}

TEST_CASE("G1: an ACK above everything the peer sent passes unchanged, changes nothing, drains",
          "[G1]") {
  Promised c;
  const Outcome o = c.guest(ack(9000));
  CHECK_THAT(o, Passed(VSNOOP_REASON_guest_ack_unseen));
  CHECK(o.seen->ack() == 9000);
  CHECK(c.flow().guest_ack == 1);
  CHECK(c.flow().state == VSNOOP_FLOW_DRAINING);
  CHECK_THAT(c.peer(data(1001, 100)), Passed(VSNOOP_REASON_draining));
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("G1: a flow that drains is handed back once nothing is outstanding", "[G1]") {
  Promised c;
  c.guest(ack(9000));
  REQUIRE(c.tracked());
  c.guest(ack(1001));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.guest(ack(1001)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.peer(data(1001, 10)), Passed(VSNOOP_REASON_no_flow));
}

TEST_CASE("G1: a forwarded segment counts as seen: acknowledging urgent data is no surprise",
          "[G1]") {
  Established c;
  c.peer(data(1, 100).set(URG));
  CHECK_THAT(c.guest(ack(101)), Passed(VSNOOP_REASON_guest_passes));
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
}

TEST_CASE("G1: a segment refused for an old timestamp counts as seen: the guest may take it",
          "[G1]") {
  Established c;
  c.advance(100);
  c.peer(ack(1));  // raises ts_recent
  c.peer(data(1, 100).ts(5, 0));
  c.guest(ack(101));
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK(c.flow().guest_ack == 101);
}

TEST_CASE("G1: a guest's ACK with a bad checksum confirms nothing", "[G1]") {
  Promised c;
  CHECK_THAT(c.guest(ack(1001).bad()), Passed(VSNOOP_REASON_bad_checksum));
  CHECK(c.flow().guest_ack == 1);
  CHECK(c.world().custody() == 1);
}

// --- G2 ------------------------------------------------------------------------------------------

TEST_CASE("G2: a data segment's ACK is raised to early_ack, its TSecr to ts_recent", "[G2]") {
  Established c;
  c.advance(7);
  c.peer(data(1, 1000));
  c.emitted();
  const Outcome o = c.guest(data(1, 50).ack(1).ts(9, 0));
  REQUIRE_THAT(o, Edited(VSNOOP_REASON_guest_rebased));
  CHECK(o.seen->ack() == 1001);
  CHECK(o.seen->tsecr() == 7);
  CHECK(o.seen->tsval() == 9);
  CHECK(o.seen->seq() == 1);
  CHECK(o.seen->length() == 50);
}

TEST_CASE("G2: the window is rebased on the raised ACK: the right edge stays the guest's", "[G2]") {
  Promised c;
  const Outcome o = c.guest(data(1, 50).ack(1).window(502));
  REQUIRE(o.seen);
  CHECK(o.seen->window() == (502 * 128 - 1000) >> 7);
}

TEST_CASE("G2: an ACK that needs no raising keeps its TSecr", "[G2]") {
  Promised c;
  c.guest(ack(1001));
  c.peer(data(1001, 100));
  c.guest(ack(1101));
  const Outcome o = c.guest(data(1, 50).ack(1101).ts(30, 2));
  CHECK(o.seen->tsecr() == 2);
}

TEST_CASE("G2: FIN, PSH and URG segments of the guest are raised like any other", "[G2]") {
  for (const uint8_t flag : {FIN, PSH, URG}) {
    CAPTURE(int(flag));
    Promised c;
    const Outcome o = c.guest(data(1, 20).ack(1).set(flag));
    REQUIRE_THAT(o, Edited(VSNOOP_REASON_guest_rebased));
    CHECK(o.seen->ack() == 1001);
    CHECK(o.seen->has(flag));
  }
}

TEST_CASE("G2: SYN and RST pass as they are", "[G2]") {
  Promised c;
  const Outcome s = c.guest(syn_ack());
  CHECK(s.action() == VSNOOP_PASS);
  CHECK(s.seen->ack() == 1);
  const Outcome r = c.guest(Packet().seq(1).ack(1).set(RST));
  CHECK_THAT(r, Passed(VSNOOP_REASON_guest_reset));
  CHECK(r.seen->ack() == 1);
}

TEST_CASE("G2: a partial checksum is left alone", "[G2]") {
  Promised c;
  const Outcome o = c.guest(data(1, 40).ack(1).checksum(VSNOOP_CHECKSUM_PARTIAL));
  REQUIRE_THAT(o, Edited());
  CHECK(checksums_right(o.bytes, true));
}

TEST_CASE("G2: IPv6 and VLAN tags make no difference", "[G2]") {
  Options options;
  options.ipv6 = true;
  options.vlan = {100, 7};
  Promised c(options);
  const Outcome o = c.guest(data(1, 40).ack(1));
  REQUIRE_THAT(o, Edited());
  CHECK(o.seen->ack() == 1001);
  CHECK(o.seen->vlan() == std::vector<uint16_t>{100, 7});
}

TEST_CASE("G2: SACK blocks are cut to what lies above the ACK the peer sees", "[G2]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(data(2001, 1000));  // above a hole
  c.emitted();
  const Outcome o = c.guest(ack(1).sack({{501, 1001}, {2001, 3001}}));
  REQUIRE_THAT(o, Edited());
  CHECK(o.seen->ack() == 1001);
  CHECK(o.seen->sack() == Packet::Blocks{{2001, 3001}});
}

TEST_CASE("G2: a SACK block that straddles the ACK goes, or it would begin there", "[G2]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(data(2001, 1000));
  c.emitted();
  const Outcome o = c.guest(data(1, 5).ack(1).sack({{501, 2501}}));
  REQUIRE_THAT(o, Edited());
  CHECK(o.seen->sack().empty());  // Linux takes a block that begins at the ACK for reneging
}

TEST_CASE("G2: emptied SACK blocks become NOPs and the segment keeps its length", "[G2]") {
  Promised c;
  const Outcome o = c.guest(data(1, 5).ack(1).sack({{501, 1001}}));
  REQUIRE_THAT(o, Edited());
  CHECK(o.seen->sack().empty());
  CHECK(o.bytes.size() == c.bytes_from_guest(data(1, 5).ack(1).sack({{501, 1001}})).size());
}

// --- G4 ------------------------------------------------------------------------------------------

TEST_CASE("G4: a pure ACK that the peer has been shown already is dropped and counted", "[G4]") {
  Promised c;
  CHECK_THAT(c.guest(ack(1001)), Dropped(VSNOOP_REASON_guest_covered));
  CHECK(c.stats().acks_dropped == 1);
}

TEST_CASE("G4: so is one below early_ack", "[G4]") {
  Promised c;
  CHECK_THAT(c.guest(ack(501)), Dropped(VSNOOP_REASON_guest_covered));
}

TEST_CASE("G4: an ACK above early_ack passes", "[G4]") {
  Promised c;
  c.peer(data(1001, 100).set(URG));  // forwarded, not promised
  c.guest(ack(501));
  const Outcome o = c.guest(ack(1101));
  CHECK(o.passed);
  CHECK(o.seen->ack() == 1101);
}

TEST_CASE("G4: an ACK with any other flag passes", "[G4]") {
  for (const uint8_t flag : {PSH, ECE, CWR}) {
    CAPTURE(int(flag));
    Promised c;
    CHECK(c.guest(ack(1001).set(flag)).passed);
  }
}

TEST_CASE(
    "G4: guest's keep-alive swallowed (trap): SEQ = SND.UNA - 1 passes, with and without a byte",
    "[G4]") {
  for (const uint32_t length : {0u, 1u}) {
    Promised c;
    c.guest(data(1, 10).ack(1));
    c.peer(ack(11));
    const Outcome o = c.guest(data(10, length).ack(1));
    CHECK(o.passed);
    CHECK(o.seen->seq() == 10);
    CHECK(o.seen->ack() == 1001);
  }
}

TEST_CASE("G4: window probe with the peer's window closed (trap): the guest's probe passes",
          "[G4]") {
  Established c;
  c.peer(ack(1).window(0));
  CHECK(c.guest(data(1, 1).ack(1)).passed);
  CHECK(c.guest(data(0, 0).ack(1)).passed);
}

TEST_CASE("G4: a probing guest does not push the early ACK's SEQ out of the peer's window",
          "[G4]") {
  Options options;
  options.peer_window = 0;
  options.syn_window = 10;
  Established c(options);
  REQUIRE(c.flow().peer_edge == 11);
  c.guest(data(1, 10));
  c.guest(data(11, 1));  // probes past the closed window
  c.peer(data(1, 100).ack(11));
  const auto sent = c.emitted();
  REQUIRE_THAT(sent, Count(1));
  CHECK(sent[0].seq() == 11);
}

TEST_CASE(
    "G4: challenge ACKs of the guest swallowed (trap): after a SYN, an RST or an odd ACK the "
    "guest's answer passes although it says nothing new",
    "[G4]") {
  const std::pair<const char*, Packet> askers[] = {
      {"SYN", syn(500)},
      {"RST in window", rst(5000)},
      {"RST out of window", rst(0x7000000)},
      {"unacceptable ACK", data(1001, 0).ack(0x1000000)},
      {"old timestamp", data(1001, 10).ts(0xfffffff0, 0)},
      {"keep-alive", data(1000, 0)},
      {"out of window", data(0x100000, 10)},
      {"urgent", data(1001, 10).set(URG)},
  };
  for (const auto& [what, packet] : askers) {
    CAPTURE(what);
    Promised c;
    c.peer(packet);
    const Outcome o = c.guest(ack(1));
    CHECK(o.passed);
    CHECK(o.seen->ack() == 1001);
    CHECK_THAT(c.guest(ack(1)), Dropped(VSNOOP_REASON_guest_covered));  // the credit is used up
  }
}

TEST_CASE("G4: repeated FIN-ACK of the guest swallowed (trap): each one passes", "[G4]") {
  Promised c;
  CHECK(c.guest(Packet().seq(1).ack(1).set(FIN)).passed);
  CHECK(c.guest(Packet().seq(1).ack(1).set(FIN)).passed);
  CHECK(c.guest(Packet().seq(1).ack(1001).set(FIN)).passed);
}

TEST_CASE("G4: a repeated ACK of the peer's FIN passes", "[G4]") {
  Promised c;
  c.guest(ack(1001));
  c.peer(fin(1001));
  CHECK(c.guest(ack(1002)).passed);
  c.peer(fin(1001));
  CHECK(c.guest(ack(1002)).passed);
  CHECK(c.guest(ack(1002)).passed);
}

TEST_CASE("G4: an ACK that opens the window passes", "[G4]") {
  Promised c;
  const Outcome o = c.guest(ack(1001).window(600));
  CHECK(o.passed);
  CHECK(o.seen->window() == 600);
}

TEST_CASE("G4: SACK information passes once: new blocks do, the same again do not", "[G4]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(data(2001, 1000));
  c.emitted();
  CHECK(c.guest(ack(1).sack({{2001, 3001}})).passed);
  CHECK_THAT(c.guest(ack(1).sack({{2001, 3001}})), Dropped(VSNOOP_REASON_guest_covered));
  CHECK(c.guest(ack(1).sack({{2001, 2501}})).passed);
}

TEST_CASE("G4: at a hole the guest speaks: every duplicate ACK of it passes unharmed", "[G4]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(data(2001, 1000));
  c.emitted();
  CHECK(c.guest(ack(1001)).passed);
  for (int i = 0; i < 3; ++i) {
    const Outcome o = c.guest(ack(1001));
    CHECK(o.passed);
    CHECK(o.seen->ack() == 1001);
  }
}

TEST_CASE("G4: the guest repeating what it confirmed speaks for itself and passes", "[G4]") {
  Promised c;
  c.guest(ack(1001));
  CHECK(c.guest(ack(1001)).passed);
}

TEST_CASE("I5: in a flow that never promised even an old ACK passes as it is", "[I5]") {
  Setup setup;
  setup.guest.engage = VSNOOP_ENGAGE_AUTO;
  Established c(setup);
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  const Outcome o = c.guest(ack(501));  // overtaken by the other
  CHECK_THAT(o, Passed(VSNOOP_REASON_guest_passes));
  CHECK(o.bytes == c.bytes_from_guest(ack(501)));
}

// --- G6, G8 --------------------------------------------------------------------------------------

TEST_CASE("G6: the guest's RST passes as it is, ends the flow and frees what was held", "[G6]") {
  Promised c;
  const Packet reset = Packet().seq(1).set(RST).clear(ACK);
  const Outcome o = c.guest(reset);
  CHECK_THAT(o, Passed(VSNOOP_REASON_guest_reset));
  CHECK(o.bytes == c.bytes_from_guest(reset));
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);  // the peer was promised something
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().outstanding == 0);
  CHECK(c.stats().used == 0);
}

TEST_CASE("G6: frames of a reset flow that stand in the ring are freed as they leave it", "[G6]") {
  Established c;
  c.world().automatic = false;
  for (uint32_t i = 0; i < 4; ++i) c.peer(data(1 + i * 100, 100));
  c.feed(2);
  c.guest(Packet().seq(1).set(RST).clear(ACK));
  CHECK(c.world().custody() == 2);
  c.consume();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("G8: after the guest's FIN nothing new is promised (trap: data after the guest's close)",
          "[G8]") {
  Promised c;
  c.guest(Packet().seq(1).ack(1).set(FIN));
  CHECK_THAT(c.peer(data(1001, 100)), Kept(VSNOOP_REASON_guest_closed));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("G8: promises made before the guest's FIN stand and are delivered again", "[G8]") {
  Promised c;
  c.guest(Packet().seq(1).ack(1).set(FIN));
  c.delivered();
  c.advance(2500);
  REQUIRE(c.stats().redelivered_frames > 0);
  CHECK(c.delivered().front().seq() == 1);
  c.guest(ack(1001));
  CHECK(c.world().custody() == 0);
}

TEST_CASE("Early ACK: guest is a router or NAT (trap): hop limit and DSCP are the flow's own") {
  World world;
  Options behind;
  behind.peer_port = 40001;
  Established own(world), routed(world, behind);
  own.guest(ack(1).ttl(64).tos(0));
  routed.guest(ack(1).ttl(61).tos(0x28));
  own.peer(data(1, 100));
  routed.peer(data(1, 100));
  const auto a = own.emitted(), b = routed.emitted();
  REQUIRE_THAT(a, OneAck(101));
  REQUIRE_THAT(b, OneAck(101));
  CHECK(a[0].ttl() == 64);
  CHECK(b[0].ttl() == 61);
  CHECK(b[0].tos() == 0x28);
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
      CHECK_THAT(c.peer(data(1001, 1000).ts(clock(rest), clock(1))),
                 Passed(VSNOOP_REASON_guest_rested));
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
