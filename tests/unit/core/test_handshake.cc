// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// How connections are learnt, in the states of RFC 9293 3.3.2, and what is never learnt (P8, P12).
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

/// SYN, SYN-ACK, ACK with changes to the first two; whoever opens.
void shake(Connection& c, Packet first, Packet second) {
  if (c.options().guest_opens) {
    c.guest(first);
    c.peer(second);
    c.guest(ack(1));
  } else {
    c.peer(first);
    c.guest(second);
    c.peer(ack(1));
  }
}

/// Data is forwarded and nobody answers for the guest.
void check_untracked(Connection& c) {
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.peer(data(1, 1000)), Passed());
  CHECK_THAT(c.guest(ack(1001)), Passed());
  CHECK_THAT(c.emitted(), Nothing());
}

void check_offloaded(Connection& c) {
  REQUIRE(c.tracked());
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

}  // namespace

TEST_CASE("handshake: LISTEN to ESTABLISHED, the peer opens", "[handshake]") {
  Connection c;
  CHECK_THAT(c.peer(syn()), Passed(VSNOOP_REASON_syn));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.guest(syn_ack()), Passed(VSNOOP_REASON_handshake));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.peer(ack(1)), Passed(VSNOOP_REASON_pure_ack));
  CHECK(c.tracked());
  CHECK(c.count(VSNOOP_REASON_flow_opened) == 1);
  CHECK_THAT(c.emitted(), Nothing());
  check_offloaded(c);
}

TEST_CASE("handshake: SYN-SENT to ESTABLISHED, the guest opens", "[handshake]") {
  Connection c(Options{.guest_opens = true});
  CHECK_THAT(c.guest(syn()), Passed(VSNOOP_REASON_syn));
  CHECK_THAT(c.peer(syn_ack()), Passed(VSNOOP_REASON_handshake));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.guest(ack(1)), Passed(VSNOOP_REASON_guest_passes));
  CHECK_THAT(c.emitted(), Nothing());
  check_offloaded(c);
}

TEST_CASE("handshake: what the flow starts with is what the SYNs said", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens,
                         .peer_wscale = 5,
                         .guest_wscale = 9,
                         .syn_window = 30000,
                         .peer_window = 100,
                         .guest_window = 50});
    c.handshake();
    const vsnoop_flow_info f = c.flow();
    CHECK(f.rcv_nxt == 1);
    CHECK(f.early_ack == 1);
    CHECK(f.guest_ack == 1);
    CHECK(f.guest_snd_nxt == 1);
    CHECK(f.peer_una == 1);
    CHECK(f.guest_shift == 9);
    CHECK(f.peer_shift == 5);
    CHECK(f.ts == 1);
    CHECK(f.sack == 1);
    // The SYN's window is not scaled; it counts until the guest says another.
    CHECK(f.right_edge == 1 + (guest_opens ? 50 << 9 : 30000));
    CHECK(f.peer_edge == 1 + 30000);
    CHECK(f.state == VSNOOP_FLOW_ACTIVE);
    CHECK(f.pause == 0);
  }
}

TEST_CASE("handshake: windows of SYN segments are not scaled", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens,
                         .peer_wscale = 14,
                         .guest_wscale = 14,
                         .syn_window = 1000,
                         .peer_window = 0,
                         .guest_window = 0});
    c.handshake();
    CHECK(c.flow().right_edge == 1001);
    CHECK(c.flow().peer_edge == 1001);
  }
}

TEST_CASE("handshake: an option is agreed only if both ends sent it", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    for (const bool first_has : {false, true}) {
      for (const bool second_has : {false, true}) {
        // The defaults of the harness offer nothing here; options are written out.
        Connection c(Options{.guest_opens = guest_opens,
                             .ts = false,
                             .sack = false,
                             .peer_wscale = -1,
                             .guest_wscale = -1});
        const auto with = [](Packet p, bool all) {
          return all ? p.wscale(3).ts(5, 0).sackok() : p;
        };
        shake(c, with(syn(), first_has), with(syn_ack(), second_has));
        if (first_has && second_has) {
          if (guest_opens)
            c.guest(ack(1).ts(5, 5));
          else
            c.peer(ack(1).ts(5, 5));
        }
        REQUIRE(c.tracked());
        const bool agreed = first_has && second_has;
        CHECK(c.flow().ts == agreed);
        CHECK(c.flow().sack == agreed);
        CHECK(c.flow().guest_shift == (agreed ? 3 : 0));
        CHECK(c.flow().peer_shift == (agreed ? 3 : 0));
      }
    }
  }
}

TEST_CASE("handshake: window scale of one end alone is not used", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    for (const bool peer_scales : {false, true}) {
      Connection c(Options{.guest_opens = guest_opens,
                           .peer_wscale = peer_scales ? 7 : -1,
                           .guest_wscale = peer_scales ? -1 : 7,
                           .syn_window = 500});
      c.handshake();
      c.guest(data(1, 10).window(1000));
      CHECK(c.flow().right_edge == 1001);
    }
  }
}

TEST_CASE("handshake: a window scale beyond 14 counts as 14", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens, .peer_wscale = 255, .guest_wscale = 15});
    c.handshake();
    CHECK(c.flow().guest_shift == 14);
    CHECK(c.flow().peer_shift == 14);
  }
}

TEST_CASE("handshake: the third ACK is lost, data comes in its place", "[handshake]") {
  Connection c;
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(c.emitted(), OneAck(1001));
}

TEST_CASE("handshake: the third ACK is lost, the first data is lost too", "[handshake]") {
  Connection c;
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_above_hole));
  CHECK_THAT(c.emitted(), Nothing());
  CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_fills_hole));
  CHECK_THAT(c.emitted(), OneAck(2001));
}

TEST_CASE("handshake: the third ACK of a guest that opened comes with data", "[handshake]") {
  Connection c(Options{.guest_opens = true});
  c.guest(syn());
  c.peer(syn_ack());
  CHECK_THAT(c.guest(data(1, 200).ack(1)), Passed(VSNOOP_REASON_guest_passes));
  CHECK(c.flow().guest_snd_nxt == 201);
  check_offloaded(c);
}

TEST_CASE("handshake: the third ACK must acknowledge the SYN-ACK, no more and no less",
          "[handshake]") {
  for (const uint32_t number : {0u, 2u, 1000u, 0x7fffffffu, 0x80000001u}) {
    Connection c;
    c.peer(syn());
    c.guest(syn_ack());
    INFO("ack " << number);
    c.peer(ack(number));
    CHECK_FALSE(c.tracked());
    c.peer(ack(1));
    CHECK(c.tracked());
  }
}

TEST_CASE("handshake: the third ACK must lie in the window", "[handshake]") {
  for (const uint32_t seq : {0u, 0x80000000u, 0xfffffff0u, 70000u, 10000000u}) {
    Connection c;
    c.peer(syn());
    c.guest(syn_ack());
    INFO("seq " << seq);
    c.peer(ack(1).seq(seq));
    CHECK_FALSE(c.tracked());
  }
}

TEST_CASE("handshake: repeated SYNs and SYN-ACKs change nothing", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens});
    for (int i = 0; i < 3; ++i)
      if (guest_opens)
        c.guest(syn());
      else
        c.peer(syn());
    for (int i = 0; i < 3; ++i)
      if (guest_opens)
        c.peer(syn_ack());
      else
        c.guest(syn_ack());
    if (guest_opens)
      c.guest(ack(1));
    else
      c.peer(ack(1));
    REQUIRE(c.tracked());
    CHECK(c.flow().guest_shift == 7);
    CHECK(c.flow().ts == 1);
    check_offloaded(c);
  }
}

TEST_CASE("handshake: a repetition that offers more window counts", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens});
    if (guest_opens) {
      c.guest(syn().window(9000));
      c.guest(syn().window(60000));
      c.guest(syn().window(9000));
      c.peer(syn_ack());
      c.guest(ack(1).window(60000 >> 7).seq(0));  // its number says that it is old
    } else {
      c.peer(syn());
      c.guest(syn_ack().window(9000));
      c.guest(syn_ack().window(60000));
      c.guest(syn_ack().window(9000));
      c.peer(ack(1));
    }
    REQUIRE(c.tracked());
    CHECK(c.flow().right_edge == 60001);
  }
}

TEST_CASE("handshake: a SYN-ACK repeated after the connection stands passes and ends nothing",
          "[handshake]") {
  Established c;  // the third ACK was lost between us and the guest
  CHECK_THAT(c.peer(data(1, 1000)), Kept());
  CHECK_THAT(c.guest(syn_ack()), Passed());
  REQUIRE(c.tracked());
  CHECK(c.flow().early_ack == 1001);
  CHECK(c.world().custody() == 1);
}

TEST_CASE("handshake: a SYN-ACK with another sequence number is the one that counts",
          "[handshake]") {
  Connection c;  // SYN cookies: every SYN-ACK may have a number of its own
  c.peer(syn());
  c.guest(syn_ack(1, 0));
  c.guest(syn_ack(1, 5000));
  c.peer(ack(5001));
  if (c.tracked()) {
    CHECK(c.flow().guest_snd_nxt == 5001);
    CHECK(c.flow().peer_una == 5001);
  }
  CHECK(c.count(VSNOOP_REASON_unacceptable_ack) == 0);
}

TEST_CASE("handshake: a SYN with a new number begins anew", "[handshake]") {
  Connection c;
  c.peer(syn(0));
  c.peer(syn(70000).wscale(2));
  c.guest(syn_ack(70001));
  c.peer(ack(1).seq(70001));
  REQUIRE(c.tracked());
  CHECK(c.flow().rcv_nxt == 70001);
  CHECK(c.flow().peer_shift == 2);
}

TEST_CASE("handshake: a SYN-ACK that acknowledges another SYN completes nothing", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Connection c(Options{.guest_opens = guest_opens});
    shake(c, syn(), syn_ack(200000));
    CHECK_FALSE(c.tracked());
  }
}

TEST_CASE("handshake: a reset of either side forgets it", "[handshake]") {
  for (const bool peer_resets : {false, true}) {
    Connection c;
    c.peer(syn());
    c.guest(syn_ack());
    if (peer_resets)
      c.peer(rst(1));
    else
      c.guest(rst(1));
    c.peer(ack(1));
    CHECK_FALSE(c.tracked());
  }
}

TEST_CASE("P8: data on a SYN is never acknowledged for the guest", "[P8][handshake]") {
  Connection refused;  // the guest takes the SYN only, as nearly all do
  CHECK_THAT(refused.peer(syn().length(100)), Passed(VSNOOP_REASON_syn));
  CHECK_THAT(refused.emitted(), Nothing());
  refused.guest(syn_ack(1));
  refused.peer(ack(1).seq(101));
  CHECK(refused.flow().rcv_nxt == 1);
  CHECK(refused.flow().early_ack == 1);
  CHECK_THAT(refused.peer(data(1, 100)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(refused.emitted(), OneAck(101));

  Connection accepted;
  accepted.peer(syn().length(100));
  accepted.guest(syn_ack(101));
  accepted.peer(ack(1).seq(101));
  CHECK_THAT(accepted.emitted(), Nothing());
  CHECK(accepted.flow().rcv_nxt == 101);
  CHECK(accepted.flow().guest_ack == 101);
}

TEST_CASE("P12: simultaneous open is not tracked, whichever SYN comes first", "[P12][handshake]") {
  for (const bool guest_first : {false, true}) {
    Connection c;
    if (guest_first) {
      c.guest(syn());
      CHECK_THAT(c.peer(syn()), Passed(VSNOOP_REASON_simultaneous_open));
    } else {
      c.peer(syn());
      CHECK_THAT(c.guest(syn()), Passed(VSNOOP_REASON_simultaneous_open));
    }
    c.guest(syn_ack());
    c.peer(syn_ack());
    c.guest(ack(1));
    c.peer(ack(1));
    check_untracked(c);
  }
}

TEST_CASE("P12: simultaneous open stays untracked when its SYNs are repeated", "[P12][handshake]") {
  const bool guest_first = GENERATE(false, true);
  Connection c;
  if (guest_first) c.guest(syn());
  c.peer(syn());
  if (!guest_first) c.guest(syn());
  c.peer(syn());
  c.guest(syn());
  c.guest(syn_ack());
  c.peer(syn_ack());
  c.peer(syn());
  c.guest(syn_ack());
  c.peer(ack(1));
  c.guest(ack(1));
  check_untracked(c);
}

TEST_CASE("P12: a split handshake is not tracked", "[P12][handshake]") {
  Connection c(Options{.guest_opens = true});
  c.guest(syn());
  c.peer(ack(1).seq(0));  // the SYN-ACK in two pieces
  c.peer(syn());
  c.guest(syn_ack());
  c.peer(ack(1));
  check_untracked(c);
}

TEST_CASE("P12: a connection that was there before is not picked up", "[P12]") {
  Connection c;
  CHECK_THAT(c.peer(data(1, 1000)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.guest(ack(1001)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.peer(ack(1)), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.peer(syn_ack()), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(c.guest(syn_ack()), Passed(VSNOOP_REASON_no_flow));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("P12: ECN agreed on the handshake is not tracked, offered alone it is",
          "[P12][handshake]") {
  for (const bool guest_opens : {false, true}) {
    for (const bool accurate : {false, true}) {
      const auto setup = [&](Packet p) {
        return accurate ? p.set(ECE | CWR).reserved(1) : p.set(ECE | CWR);
      };
      Connection agreed(Options{.guest_opens = guest_opens});
      // RFC 3168: ECE; RFC 9768: any of AE, CWR, ECE but all or none.
      shake(agreed, setup(syn()), accurate ? syn_ack().set(CWR) : syn_ack().set(ECE));
      check_untracked(agreed);
      Connection alone(Options{.guest_opens = guest_opens});
      shake(alone, setup(syn()), syn_ack());
      check_offloaded(alone);
      Connection unasked(Options{.guest_opens = guest_opens});
      shake(unasked, syn(), syn_ack().set(ECE));
      check_offloaded(unasked);
    }
    Connection only_ae(Options{.guest_opens = guest_opens});
    shake(only_ae, syn().set(ECE | CWR).reserved(1), syn_ack().reserved(1));
    check_untracked(only_ae);
  }
}

TEST_CASE("P12: MD5, AO, MPTCP, TFO and unknown options on a handshake are not tracked",
          "[P12][handshake]") {
  const std::vector<std::vector<uint8_t>> all = {
      {19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},  // MD5
      {29, 4, 1, 1},                                                    // AO
      {30, 4, 0, 1},                                                    // MPTCP
      {34, 2},                                                          // TFO
      {254, 4, 0xf9, 0x89},                                             // experimental TFO
      {28, 4, 0, 1},                                                    // user timeout
  };
  for (const bool guest_opens : {false, true}) {
    for (const auto& option : all) {
      // Without timestamps: there is not room for everything.
      const Options options{.guest_opens = guest_opens, .ts = false};
      INFO("option " << int(option[0]));
      Connection first(options);
      shake(first, syn().option(option), syn_ack());
      check_untracked(first);
      Connection second(options);
      shake(second, syn(), syn_ack().option(option));
      check_untracked(second);
      Connection third(options);
      third.handshake();
      third.peer(ack(1).option(option));  // on a segment later
      CHECK_FALSE(third.tracked());
    }
  }
}

TEST_CASE("P12: a guest that is not the end of the connection is not promised for",
          "[P12][handshake]") {
  for (const int hops : {32, 60, 64, 128, 255, 31, 59, 61, 63, 127, 254, 1}) {
    CAPTURE(hops);
    const bool starts = hops == 32 || hops == 60 || hops == 64 || hops == 128 || hops == 255;
    const uint8_t ttl = static_cast<uint8_t>(hops);
    for (const bool v6 : {false, true}) {
      CAPTURE(v6);
      Options options;
      options.ipv6 = v6;
      Connection answers(options);
      answers.peer(syn());
      CHECK_THAT(answers.guest(syn_ack().ttl(ttl)),
                 Passed(starts ? VSNOOP_REASON_handshake : VSNOOP_REASON_forwarder));
      options.guest_opens = true;
      Connection opens(options);
      CHECK_THAT(opens.guest(syn().ttl(ttl)),
                 Passed(starts ? VSNOOP_REASON_syn : VSNOOP_REASON_forwarder));
    }
  }
}

TEST_CASE("P12: a SYN with an odd option ends what an earlier SYN began", "[P12][handshake]") {
  Connection c(Options{.ts = false});
  c.peer(syn(0));
  c.peer(syn(7000).wscale(3).option({30, 4, 0, 1}));
  c.guest(syn_ack(7001));
  c.peer(ack(1).seq(7001));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("handshake: a SYN flood does not fill the table", "[handshake]") {
  for (const bool with_acks : {false, true}) {
    Setup setup;
    setup.engine.flows = 8;
    World world(setup);
    for (uint16_t port = 1; port < 600; ++port) {
      Connection c(world, Options{.peer_port = port});
      c.peer(syn());
      c.guest(syn_ack());
      // Who has not seen the SYN-ACK can only guess its number.
      if (with_acks) c.peer(ack(1 + port * 7919u * 1000003u));
    }
    CHECK(world.flows() == 0);
    Established honest(world, Options{.peer_port = 60000});
    check_offloaded(honest);
  }
}

TEST_CASE("handshake: when the table is full, others pass untouched", "[handshake][I7]") {
  Setup setup;
  setup.engine.flows = 4;
  World world(setup);
  std::vector<std::unique_ptr<Connection>> all;
  for (uint16_t port = 1; port <= 4; ++port)
    all.push_back(std::make_unique<Established>(world, Options{.peer_port = port}));
  Connection late(world, Options{.peer_port = 5});
  late.peer(syn());
  late.guest(syn_ack());
  CHECK_THAT(late.peer(ack(1)), Passed(VSNOOP_REASON_table_full));
  check_untracked(late);
  check_offloaded(*all[0]);
}

TEST_CASE("handshake: half-open connections are forgotten after a minute", "[handshake]") {
  Connection c;
  c.peer(syn());
  c.guest(syn_ack());
  c.advance(61000);
  c.advance(1000);
  c.peer(ack(1));
  CHECK_FALSE(c.tracked());
}

TEST_CASE("handshake: a segment with a wrong checksum completes nothing", "[handshake][P10]") {
  Connection c;
  c.peer(syn());
  c.guest(syn_ack());
  CHECK_THAT(c.peer(ack(1).bad()), Passed(VSNOOP_REASON_bad_checksum));
  CHECK_FALSE(c.tracked());
  CHECK_THAT(c.peer(ack(1).checksum(VSNOOP_CHECKSUM_UNKNOWN)), Passed(VSNOOP_REASON_pure_ack));
  CHECK(c.tracked());
}

TEST_CASE("handshake: SYN with FIN or RST is no handshake", "[handshake]") {
  for (const uint8_t flag : {FIN, RST}) {
    Connection c;
    CHECK_THAT(c.peer(syn().set(flag)), Passed(VSNOOP_REASON_malformed));
    c.guest(syn_ack());
    c.peer(ack(1));
    CHECK_FALSE(c.tracked());
  }
}

TEST_CASE("handshake: guests with the same addresses do not mix", "[handshake]") {
  World world;
  Established first(world, Options{.guest = 0});
  Connection second(world, Options{.guest = 1});
  CHECK_THAT(second.peer(data(1, 100)), Passed(VSNOOP_REASON_no_flow));
  second.handshake();
  check_offloaded(second);
  CHECK(first.flow().early_ack == 1);
}

TEST_CASE("handshake: IPv6 and VLAN tags", "[handshake]") {
  for (const bool guest_opens : {false, true}) {
    Established c(Options{.guest_opens = guest_opens, .ipv6 = true, .vlan = {100, 7}});
    check_offloaded(c);
  }
}

// --- a SYN on a live tuple -----------------------------------------------------------------------

TEST_CASE("P8: a SYN on a live tuple passes with credit and is not answered by vsnoop", "[P8]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.emitted();
  const Outcome o = c.peer(syn(500000));
  CHECK_THAT(o, Kept(VSNOOP_REASON_syn));  // queued behind the frame that waits
  CHECK_FALSE(o.verdict.retain);
  CHECK_THAT(c.emitted(), Nothing());
  CHECK(c.flow().early_ack == 1001);
}

TEST_CASE("P8: the guest answers a SYN on a live tuple with a challenge ACK: it passes, rebased",
          "[P8]") {
  Established c;
  c.peer(data(1, 1000));
  CHECK_THAT(c.guest_acks(), Dropped());
  c.emitted();
  c.peer(data(1001, 1000));
  c.peer(syn(500000));
  c.emitted();
  const Outcome challenge = c.guest(ack(1001));
  CHECK_THAT(challenge, Edited(VSNOOP_REASON_guest_rebased));
  CHECK(challenge.seen->ack() == 2001);
  REQUIRE(c.tracked());
  CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
  CHECK_THAT(c.peer(data(2001, 500)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("P8: the guest answers a SYN on a live tuple with SYN-ACK: the old one is purged",
          "[P8]") {
  Established c;
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  c.peer(data(3001, 1000));
  CHECK(c.world().custody() == 3);
  CHECK_THAT(c.peer(syn(500000)), Passed(VSNOOP_REASON_syn));
  CHECK_THAT(c.guest(syn_ack(500001, 90000)), Passed(VSNOOP_REASON_handshake));
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
  CHECK(c.stats().outstanding == 0);
  c.emitted();
  c.rebase(500000, 90000);
  c.peer(ack(1));
  REQUIRE(c.tracked());
  CHECK(c.flow().rcv_nxt == 1);
  check_offloaded(c);
}

TEST_CASE("P8: frames of the old connection still in the ring are freed when they leave it",
          "[P8]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  CHECK(c.feed(1) == 1);
  c.peer(syn(500000));
  c.guest(syn_ack(500001, 90000));
  CHECK(c.world().custody() == 1);
  c.consume();
  CHECK(c.world().custody() == 0);
}

TEST_CASE("P8: a live tuple that the guest opens anew is purged too", "[P8]") {
  Established c;
  c.peer(data(1, 1000));
  CHECK_THAT(c.guest(syn(90000)), Passed(VSNOOP_REASON_syn));
  CHECK(c.flow().state == VSNOOP_FLOW_STOPPED);
  CHECK(c.world().custody() == 0);
  c.rebase(500000, 90000);
  c.peer(syn_ack());
  c.guest(ack(1));
  REQUIRE(c.tracked());
}

TEST_CASE("P8: a SYN with an odd option on a live tuple, taken by the guest, ends the old one",
          "[P8][P12]") {
  Established c(Options{.ts = false});
  c.peer(data(1, 1000));
  c.emitted();
  c.peer(syn(500000).option({30, 4, 0, 1}));
  REQUIRE(c.tracked());
  c.guest(syn_ack(500001, 90000));
  CHECK_FALSE(c.tracked());
  CHECK(c.world().custody() == 0);
  // The new connection must not be spoken for with the old one's numbers.
  c.rebase(500000, 90000);
  c.peer(ack(1));
  c.peer(data(1, 100));
  CHECK_THAT(c.guest(ack(101)), Passed());
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("P8: a tuple is used again out of TIME-WAIT", "[P8][handshake]") {
  for (const bool at_once : {false, true}) {
    Established c;
    c.peer(data(1, 1000));
    c.guest(fin(1).ack(1001));
    c.peer(fin(1001).ack(2));
    c.guest(ack(1002));
    if (!at_once) c.advance(100);
    CHECK(c.tracked() == at_once);
    c.peer(syn(500000));
    CHECK_THAT(c.guest(syn_ack(500001, 90000)), Passed());
    c.emitted();
    c.rebase(500000, 90000);
    c.peer(ack(1));
    check_offloaded(c);
  }
}

TEST_CASE("P8: a forged SYN does not make a repeated SYN-ACK end the connection", "[P8]") {
  for (const uint32_t forged : {400000000u, 0x90000000u, 0xf0000000u}) {
    Established c;
    c.peer(data(1, 1000));
    c.peer(syn(forged));
    c.guest(syn_ack());  // the third ACK did not reach the guest
    REQUIRE(c.tracked());
    CHECK(c.flow().early_ack == 1001);
  }
}

TEST_CASE("P12: ECN agreed on the handshake is counted as such, offered alone it is not", "[P12]") {
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
