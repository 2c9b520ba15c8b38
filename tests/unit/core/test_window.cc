// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Window by reservation: I2b, I7, probes of a window that vsnoop closed (P6), who gets freed room.
// I2, I4, the guest's budget and the accounts are asserted by the harness at every step.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

constexpr uint32_t base_window = 65535;  // shown without a reservation

Setup with_budget(uint32_t bytes) {
  Setup setup;
  setup.guest.budget = bytes;
  return setup;
}

uint32_t edge_of(const Packet& p) { return p.ack() + (static_cast<uint32_t>(p.window()) << 7); }

// The whole budget but little is reserved for one flow's window.
struct Hog : Established {
  explicit Hog(World& world) : Established(world, options()) { guest(ack(1).window(65535)); }
  static Options options() {
    Options o;
    o.peer_port = 50000;
    return o;
  }
};

Options port(uint16_t n) {
  Options o;
  o.peer_port = static_cast<uint16_t>(40000 + n);
  return o;
}

}  // namespace

TEST_CASE("I2b: a SYN-ACK shows at most 64 KB, and that needs no reservation", "[I2b]") {
  Established c;
  CHECK(c.flow().shown_edge == 1 + 64240);
  CHECK(c.flow().reserved == 0);
}

TEST_CASE("I2b: control starts with the guest's first segment after the handshake", "[I2b]") {
  Established c(with_budget(400000));
  const Outcome o = c.guest(ack(1).window(65535));  // 8 MB
  REQUIRE(o.seen);
  CHECK(edge_of(*o.seen) < 1 + 400000);
  CHECK(c.flow().reserved > 0);
  CHECK(c.flow().shown_edge < c.flow().right_edge);
}

TEST_CASE("I2b: with room for it the guest's whole window is shown, untouched", "[I2b]") {
  Established c(with_budget(64 << 20));
  const Outcome o = c.guest(ack(1).window(20000));
  CHECK_THAT(o, Passed(VSNOOP_REASON_guest_passes));
  CHECK(c.flow().shown_edge == 1 + 20000 * 128);
  CHECK(c.flow().reserved >= 20000 * 128 - base_window);
}

TEST_CASE("I2b: what is shown beyond the first 64 KB is reserved, in real memory, not payload",
          "[I2b]") {
  Established c(with_budget(16 << 20));
  // A peer of small frames: 100 bytes cost 1000.
  for (uint32_t i = 0; i < 40; ++i) {
    c.peer(data(1 + i * 100, 100).memory(1000));
    c.guest(ack(101 + i * 100).window(502));
  }
  c.guest(ack(4001).window(2000));
  const auto f = c.flow();
  CHECK(f.shown_edge > 4001 + base_window);
  CHECK(f.reserved > 5 * (f.shown_edge - 4001));
}

TEST_CASE("I2b: a frame that comes turns its reservation into a charge, an ACK gives it back",
          "[I2b]") {
  Established c(with_budget(1 << 20));
  c.guest(ack(1).window(2000));
  const uint32_t reserved = c.flow().reserved;
  REQUIRE(reserved > 0);
  for (uint32_t i = 0; i < 120; ++i) c.peer(data(1 + i * 1000, 1000));
  CHECK(c.flow().reserved < reserved);
  CHECK(c.flow().held > 120000);
  c.guest(ack(120001).window(2000));
  CHECK(c.flow().held == 0);
}

TEST_CASE(
    "I7: the budget of a guest is never exceeded, however many flows there are and however "
    "much they send",
    "[I7]") {
  Setup setup = with_budget(300000);
  World world(setup);
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 0; i < 12; ++i) {
    flows.push_back(std::make_unique<Established>(world, port(i)));
    flows.back()->guest(ack(1).window(65535));
  }
  for (uint32_t n = 0; n < 100; ++n)
    for (auto& c : flows) c->peer(data(1 + n * 1000, 1000));  // the harness checks every step
  CHECK(world.stats().peak_held <= 300000);
  CHECK(world.stats().held > 80000);
}

TEST_CASE("I7: the budget over all guests binds as well", "[I7]") {
  Setup setup = with_budget(300000);
  setup.engine.budget = 200000;
  World world(setup);
  Options second = port(1);
  second.guest = 1;
  Established a(world, port(0)), b(world, second);
  a.guest(ack(1).window(65535));
  b.guest(ack(1).window(65535));
  for (uint32_t n = 0; n < 200; ++n) {
    a.peer(data(1 + n * 1000, 1000));
    b.peer(data(1 + n * 1000, 1000));
    REQUIRE(world.stats(0).held + world.stats(1).held <= 200000);
    const uint64_t reserved =
        world.stats(0).used + world.stats(1).used - world.stats(0).held - world.stats(1).held;
    REQUIRE(reserved <= 200000);
  }
}

TEST_CASE("I7: a flow's own budget binds what it holds, and what it reserves", "[I7]") {
  Setup setup = with_budget(4 << 20);
  setup.guest.flow_budget = 50000;
  Established c(setup);
  c.guest(ack(1).window(65535));
  for (uint32_t n = 0; n < 100; ++n) {
    c.peer(data(1 + n * 500, 500).memory(2000));
    REQUIRE(c.flow().held <= 50000);
    REQUIRE(c.flow().reserved <= 50000);
  }
  CHECK(c.flow().held > 40000);
}

TEST_CASE("I7: tiny segments that cost much are charged what they cost", "[I7]") {
  Established c(with_budget(100000));
  for (uint32_t n = 0; n < 1000; ++n) c.peer(data(1 + n, 1).memory(768));
  CHECK(c.flow().held <= 100000);
  CHECK(c.count(VSNOOP_REASON_no_budget) > 800);
}

TEST_CASE("I7: frames that cost more than the window was priced at do not break the budget",
          "[I7]") {
  Established c(with_budget(1 << 20));
  c.guest(ack(1).window(65535));
  for (uint32_t n = 0; n < 300; ++n) {
    c.peer(data(1 + n * 200, 200).memory(4000));
    if (n % 7 == 0) c.guest(ack(1 + n * 200).window(65535));
  }
  CHECK(c.stats().held <= 1 << 20);
}

TEST_CASE("I2b: windows reserved for one flow leave room for the first frames of another",
          "[I2b]") {
  World world(with_budget(1 << 20));
  std::vector<std::unique_ptr<Established>> hogs;
  for (uint16_t i = 1; i < 10; ++i) {
    hogs.push_back(std::make_unique<Established>(world, port(i)));
    hogs.back()->guest(ack(1).window(65535));
  }
  Established fresh(world, port(0));
  for (uint32_t i = 0; i < 20; ++i)
    CHECK_THAT(fresh.peer(data(1 + i * 1000, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("I2b: one flow does not take all that is left: the next gets a fair part", "[I2b]") {
  World world(with_budget(4 << 20));
  Hog hog(world);
  Established next(world, port(1));
  next.guest(ack(1).window(65535));
  CHECK(next.flow().reserved > (4u << 20) / 16);
}

TEST_CASE("I2b: room of one flow freed while another waits (trap): it gets a window update at once",
          "[I2b]") {
  World world(with_budget(400000));
  Hog hog(world);
  Established c(world, port(1));
  std::vector<std::unique_ptr<Established>> others;
  c.guest(ack(1).window(65535));
  for (uint16_t i = 2; i < 8; ++i) {  // these take what is left
    others.push_back(std::make_unique<Established>(world, port(i)));
    others.back()->guest(ack(1).window(65535));
  }
  const uint32_t before = c.flow().shown_edge;
  REQUIRE(before < c.flow().right_edge);
  c.emitted();
  SECTION("by the guest's reset") { hog.guest(Packet().seq(1).set(RST).clear(ACK)); }
  SECTION("by the peer's reset") { hog.peer(rst(1)); }
  const auto sent = c.emitted();
  REQUIRE_THAT(sent, Count(1));
  CHECK(sent[0].ack() == 1);
  CHECK(edge_of(sent[0]) > before + 2 * 1460);
  CHECK(c.emitted_reason() == VSNOOP_REASON_window_update);
}

TEST_CASE("I2b: flows that wait for room are served in the order they came", "[I2b]") {
  World world(with_budget(600000));
  Hog hog(world);
  Established a(world, port(1)), b(world, port(2)), d(world, port(3));
  std::vector<Established*> waiting = {&a, &b, &d};
  // Each takes its share, then wants more.
  for (Established* c : waiting) c->guest(ack(1).window(65535));
  for (Established* c : waiting) c->emitted();
  hog.guest(Packet().seq(1).set(RST).clear(ACK));
  CHECK_THAT(a.emitted(), Count(1));
}

TEST_CASE("I2b: no window update that updates nothing: freed room is given away once", "[I2b]") {
  World world(with_budget(2000000));
  Hog hog(world);
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 1; i < 12; ++i) {
    flows.push_back(std::make_unique<Established>(world, port(i)));
    flows.back()->guest(ack(1).window(65535));
  }
  std::vector<uint32_t> before;
  for (auto& c : flows) {
    c->emitted();
    before.push_back(c->flow().shown_edge);
  }
  hog.guest(Packet().seq(1).set(RST).clear(ACK));
  size_t updates = 0;
  for (size_t i = 0; i < flows.size(); ++i)
    for (const Packet& p : flows[i]->emitted()) {
      ++updates;
      INFO("flow " << i << ": " << p.text());
      CHECK(distance(edge_of(p), before[i] + 2 * 1460 - 128) >= 0);  // at least two segments more
    }
  CHECK(updates > 1);
}

TEST_CASE("I2b: everybody who waits for room gets some in the end", "[I2b]") {
  World world(with_budget(300000));
  std::vector<std::unique_ptr<Established>> flows;
  for (uint16_t i = 0; i < 10; ++i) {
    flows.push_back(std::make_unique<Established>(world, port(i)));
    flows.back()->guest(ack(1).window(65535));
  }
  std::vector<uint32_t> got(flows.size(), 0);
  for (int round = 0; round < 40; ++round)
    for (size_t i = 0; i < flows.size(); ++i) {
      Established& c = *flows[i];
      const auto f = c.flow();
      const uint32_t room = f.shown_edge - f.early_ack;
      const uint32_t length = room < 20000 ? room : 20000;
      if (length) c.peer(data(f.early_ack, length));
      got[i] += c.flow().early_ack - f.early_ack;
      c.guest(ack(c.guest_rcv_nxt()).window(65535));
    }
  for (const uint32_t n : got) CHECK(n > 200000);
}

TEST_CASE(
    "P6: while the closure is vsnoop's it answers window probes itself, with the present window",
    "[P6]") {
  Established c(with_budget(110000));
  c.guest(ack(1).window(65535));
  REQUIRE(c.flow().shown_edge == 1 + base_window);
  for (int i = 0; i < 40 && c.flow().early_ack != c.flow().shown_edge; ++i) {
    const uint32_t room = c.flow().shown_edge - c.flow().early_ack;
    c.peer(data(c.flow().early_ack, room < 13000 ? room : 13000));
  }
  REQUIRE(c.flow().early_ack == c.flow().shown_edge);
  c.emitted();
  const uint32_t edge = c.flow().shown_edge;
  SECTION("a byte beyond the window shown") {
    CHECK_THAT(c.peer(data(edge, 1)), Dropped(VSNOOP_REASON_probe_answered));
  }
  SECTION("an old byte, as BSD does") {
    CHECK_THAT(c.peer(data(edge - 1, 1)), Dropped(VSNOOP_REASON_probe_answered));
  }
  SECTION("no byte, as Linux does") {
    CHECK_THAT(c.peer(data(edge - 1, 0)), Dropped(VSNOOP_REASON_probe_answered));
  }
  const auto sent = c.emitted();
  REQUIRE_THAT(sent, Count(1));
  CHECK(c.emitted_reason() == VSNOOP_REASON_probe_answer);
  CHECK(sent[0].ack() == edge);
  CHECK(sent[0].window() == (c.flow().shown_edge - edge) >> 7);
}

TEST_CASE("P6: a probe of a window that the guest closed goes to the guest, with credit", "[P6]") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  c.guest(ack(1001).window(502));
  const auto f = c.flow();
  CHECK_THAT(c.peer(data(f.right_edge, 1)), Passed(VSNOOP_REASON_out_of_window));
  CHECK(c.guest(ack(1001)).passed);
}

TEST_CASE("P6: I6: a probe that brings the guest a newer ACK or window is forwarded, not swallowed",
          "[P6]") {
  World world(with_budget(500000));
  Established c(world, port(1));
  c.guest(ack(1).window(65535));
  c.guest(data(1, 100).ack(1).window(65535));
  const auto f = c.flow();
  REQUIRE(f.shown_edge < f.right_edge);
  SECTION("newer ACK") { CHECK(c.peer(data(f.shown_edge, 1).ack(101)).passed); }
  SECTION("newer window") { CHECK(c.peer(data(f.shown_edge, 1).ack(1).window(5000)).passed); }
  SECTION("newer window on an empty probe") {
    CHECK(c.peer(data(0, 0).ack(1).window(5000)).passed);
  }
}

TEST_CASE("P6: probes for a guest that shows no life are not answered in its name", "[P6]") {
  World world(with_budget(500000));
  Established c(world, port(1));
  c.guest(ack(1).window(65535));
  world.automatic = false;
  c.peer(data(1, 1000));
  c.emitted();
  const auto f = c.flow();
  REQUIRE(f.shown_edge < f.right_edge);
  c.advance(3000);
  CHECK(c.peer(data(f.shown_edge, 1)).action() != VSNOOP_DROP);
  CHECK_THAT(c.emitted(), Nothing());
  world.emits = false;
}

TEST_CASE("P6: a forged keep-alive from below the window changes nothing that is known of the peer",
          "[P6]") {
  Established c;
  c.guest(data(1, 500).ack(1));
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.emitted();
  const auto before = c.flow();
  c.advance(1000);
  c.peer(Packet().seq(-20000u).ack(501).ts(90000000, 0));
  const auto after = c.flow();
  CHECK(after.peer_una == before.peer_una);
  CHECK(after.peer_edge == before.peer_edge);
  CHECK_THAT(c.peer(data(1001, 100)), Kept(VSNOOP_REASON_in_order));  // its TSval is no old one
}

TEST_CASE(
    "I2b: control goes on in un-engaged auto: the flow is not promised for, the window is held",
    "[I2b]") {
  Setup setup = with_budget(100000);
  setup.guest.engage = VSNOOP_ENGAGE_AUTO;
  Established c(setup);
  c.guest(ack(1).window(65535));
  CHECK(c.flow().shown_edge < c.flow().right_edge);
  CHECK(c.stats().used <= 100000);
}

TEST_CASE(
    "I4: zero window: shown as zero when the guest's edge is reached, and opened by the guest",
    "[I4]") {
  Options options;
  options.guest_window = 10;
  options.syn_window = 1280;
  Established c(options);
  c.guest(ack(1).window(10));
  c.peer(data(1, 1280));
  const auto sent = c.emitted();
  REQUIRE_THAT(sent, Count(1));
  CHECK(sent[0].ack() == 1281);
  CHECK(sent[0].window() == 0);
  CHECK_FALSE(c.guest(ack(1281).window(0)).passed);
  const Outcome o = c.guest(ack(1281).window(10));
  REQUIRE(o.passed);
  CHECK(o.seen->window() == 10);
}

TEST_CASE("I4: SO_RCVBUF shrunk after the promise (trap): the peer sees it, the ACK stands",
          "[I4]") {
  Established c;
  c.peer(data(1, 1000));
  c.emitted();
  const Outcome o = c.guest(ack(1).window(3));
  REQUIRE(o.passed);  // although the peer was shown this ACK
  CHECK(o.seen->ack() == 1001);
  CHECK(o.seen->window() == 0);
  CHECK(c.guest(data(1, 10).ack(1).window(20)).seen->window() == (1 + 20 * 128 - 1001) / 128);
}

TEST_CASE("I2: nothing is promised beyond what the guest advertised", "[I2]") {
  Established c;
  CHECK_THAT(c.peer(data(1 + 64000, 1000)), Passed(VSNOOP_REASON_out_of_window));
  CHECK_THAT(c.emitted(), Nothing());
}

TEST_CASE("I7: link templates exhausted: nothing is promised that could not be said", "[I7]") {
  Setup setup;
  setup.engine.flows = 8192;
  World world(setup);
  world.automatic = false;
  world.emits = false;
  std::vector<std::unique_ptr<Connection>> flows;
  // Every flow of the guest with a link header of its own.
  uint32_t unlinked = 0;
  for (uint32_t i = 0; i < 4600; ++i) {
    Options o;
    o.peer_port = static_cast<uint16_t>(1000 + i);
    o.vlan = {static_cast<uint16_t>(1 + i / 250), static_cast<uint16_t>(1 + i % 250)};
    auto c = std::make_unique<Connection>(world, o);
    uint16_t id = 0;
    const auto show = [&](const Packet& p, bool from_peer) {
      const auto bytes = from_peer ? c->bytes_from_peer(p) : c->bytes_from_guest(p);
      const vsnoop_frame frame = {bytes.data(), static_cast<uint32_t>(bytes.size()),
                                  static_cast<uint32_t>(bytes.size()), 2048,
                                  VSNOOP_CHECKSUM_VERIFIED};
      return from_peer ? vsnoop_from_peer(world.engine(), id, &frame, world.now())
                       : vsnoop_from_guest(world.engine(), id, &frame, world.now());
    };
    show(syn(), true);
    show(syn_ack(), false);
    show(Packet().seq(1).ack(1).ts(1, 1), true);
    vsnoop_verdict v = show(data(1, 100).ack(1).ts(1, 1), true);
    if (v.action == VSNOOP_KEEP) {
      vsnoop_held held;
      REQUIRE(vsnoop_taken(world.engine(), &v, &held, world.now()));
      vsnoop_flow_info f;
      REQUIRE(vsnoop_flow(world.engine(), v.flow, &f));
      uint8_t buffer[VSNOOP_EMIT_MAX];
      vsnoop_emission e;
      const bool said = vsnoop_emit(world.engine(), &e, buffer, world.now());
      unlinked += !said;
      if (said != (f.early_ack != f.guest_ack)) FAIL("flow " << i << " promised without a word");
      // The frame comes back with the reset; a second connection keeps the template in use.
      v = show(Packet().seq(1).set(RST).clear(ACK), false);
      REQUIRE(v.released == &held);
    }
    show(syn(5000), true);
    show(syn_ack(5001), false);
    show(Packet().seq(5001).ack(1).ts(2, 2), true);
  }
  CHECK(unlinked > 0);
}

TEST_CASE("I2b: tiny segments under a huge window cost more than 32 bits can say, and no account",
          "[I2b]") {
  // Each byte comes in a frame of its own: 2304 bytes of memory for each of 1.8 MB of window.
  Setup setup = with_budget(8 << 20);
  setup.engine.guests = 2;
  setup.engine.budget = 64 << 20;
  World world(setup);
  Options options;
  options.guest_wscale = 5;
  options.guest_window = 2000;
  Established c(world, options);
  c.peer(data(1, 1000));
  c.guest(ack(1001).window(58265));
  REQUIRE(c.flow().reserved > 0);
  for (uint32_t at = 1001; at < 1601; ++at) {
    c.peer(data(at, 1).memory(2304));
    CHECK(c.flow().reserved <= 8 << 20);
  }
  c.guest(rst(1));
  CHECK(world.stats().used == 0);
  // Nobody else pays for it: the next window is shown as far as before, another guest's too.
  Options wide = port(1);
  wide.guest_wscale = 9;
  Established next(world, wide);
  next.guest(ack(1).window(4000));
  CHECK(next.flow().shown_edge - next.flow().early_ack == 4000 << 9);
  wide = port(2);
  wide.guest_wscale = 9;
  wide.guest = 1;
  Established other(world, wide);
  other.guest(ack(1).window(4000));
  CHECK(other.flow().shown_edge - other.flow().early_ack == 4000 << 9);
}

TEST_CASE("I7: what a frame costs may be any number of 32 bits", "[I7]") {
  Setup setup = with_budget(0xffffffff);
  World world(setup);
  Established c(world, port(1));
  // 256 bytes times 65535 is what a held frame can say; more is not kept, and charged to nobody.
  for (uint32_t memory : {0xffff00u, 0xffff01u, 0x10000000u, 0xffffff01u, 0xffffffffu}) {
    const uint32_t at = c.flow().rcv_nxt;
    const bool fits = memory <= 0xffff00u;
    CHECK(c.peer(data(at, 100).memory(memory)).reason() ==
          (fits ? VSNOOP_REASON_in_order : VSNOOP_REASON_no_budget));
    c.guest(ack(at + 100).window(65535));
  }
  CHECK(world.stats().held == 0);
}

TEST_CASE("Early ACK: a coarse window scale takes no window from the peer") {
  // 16 KB is one unit: after an early ACK of one segment the rest of it would be shown as nothing.
  for (const int scale : {14, 13, 12}) {
    CAPTURE(scale);
    Options o;
    o.guest_wscale = scale;
    o.guest_window = 1;
    Established c(o);
    uint32_t at = 1;
    const uint32_t unit = 1u << scale;
    while (c.flow().right_edge - at > unit) {
      c.peer(data(at, 1000));
      at += 1000;
      c.guest(ack(at).window(1));
    }
    c.emitted();
    for (int i = 0; i < 20; ++i) {
      // The guest reads at once, so that without vsnoop the peer always has a whole unit.
      c.peer(data(at, 1000));
      at += 1000;
      for (const Packet& p : c.emitted()) CHECK(p.window() > 0);
      const Outcome o2 = c.guest(ack(at).window(1));
      REQUIRE(o2.seen);
      CHECK(o2.seen->ack() == at);
      CHECK(o2.seen->window() == 1);
    }
  }
}

TEST_CASE("Early ACK: a coarse window scale does not matter to a large window") {
  Options o;
  o.guest_wscale = 14;
  o.guest_window = 60;
  Established c(o);
  c.guest(ack(1).window(60));
  c.emitted();
  for (uint32_t at = 1; at < 20001; at += 1000) CHECK(c.peer(data(at, 1000)).taken);
  CHECK(c.flow().early_ack == 20001);
}

TEST_CASE("G4: an opening passes when what is left rounds to nothing", "[G4]") {
  Options o;
  o.guest_wscale = 14;
  o.guest_window = 1;
  Established c(o);
  uint32_t at = 1;
  while (c.flow().right_edge - at >= 16384) {
    c.peer(data(at, 1000));
    at += 1000;
    c.guest(ack(at).window(0));
  }
  c.guest(ack(at).window(0));  // less than a unit is left: the peer sees none
  const Outcome opening = c.guest(ack(at).window(1));
  REQUIRE(opening.seen);
  CHECK(opening.seen->window() == 1);
}

TEST_CASE("I2b: a connection at rest gives its reservation back and keeps the window it has shown",
          "[I2b]") {
  World world(with_budget(1 << 20));
  Established idle(world, port(1));
  idle.guest(ack(1).window(65535));
  const vsnoop_flow_info before = idle.flow();
  REQUIRE(before.reserved > 0);
  world.advance(1000);
  CHECK(idle.flow().reserved == 0);
  CHECK(idle.flow().shown_edge == before.shown_edge);
}

TEST_CASE("I2b: what a connection at rest gave back opens the window of one that waits for room",
          "[I2b]") {
  World world(with_budget(1 << 20));
  Established idle(world, port(1));
  idle.guest(ack(1).window(65535));
  Established busy(world, port(2));
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

TEST_CASE("I2b: a window that was given back is paid for again when data comes", "[I2b]") {
  World world(with_budget(4 << 20));
  Established c(world, port(1));
  c.guest(ack(1).window(8000));
  world.advance(1000);
  REQUIRE(c.flow().reserved == 0);
  c.peer(data(1, 1000));
  CHECK(c.flow().reserved > 0);
}

TEST_CASE("I7: a frame that is here goes before a window that was reserved for others", "[I7]") {
  World world(with_budget(1 << 20));
  world.automatic = false;
  Established other(world, port(1));
  other.guest(ack(1).window(65535));  // most of the budget is reserved
  Established c(world, port(2));
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

TEST_CASE("G4: any opening passes while the peer is shown less than two segments of window",
          "[G4]") {
  Options small;
  small.syn_window = 3000;
  Established c(small);
  c.peer(data(1, 1460));
  REQUIRE(c.flow().shown_edge - c.flow().early_ack == 1540);
  const Outcome o = c.guest(ack(1461).window(16));  // 508 bytes more
  REQUIRE(o.seen);
  CHECK(o.seen->ack() + o.seen->window() * 128u == 1461 + 2048);
}

TEST_CASE("I2b: room too little for the window to be seen larger is no news for the peer",
          "[I2b]") {
  // A unit is 1024 bytes, and two segments are 60.
  Setup setup;
  setup.guest.budget = 400000;
  World world(setup);
  Options coarse, fine;
  coarse.guest_wscale = 10;
  coarse.mss = 30;
  fine.peer_port = 41000;
  Established waits(world, coarse), moves(world, fine);
  for (uint32_t i = 0; i < 200; ++i) moves.peer(data(1 + 100 * i, 100).memory(256));
  waits.guest(ack(1).window(65535));
  REQUIRE(waits.flow().shown_edge < waits.flow().right_edge);
  waits.emitted();
  uint32_t seen = (waits.flow().shown_edge - 1) / 1024;
  int updates = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    moves.guest(ack(101 + 100 * i));
    for (const Packet& p : waits.emitted()) {
      CHECK(p.window() > seen);
      seen = p.window();
      ++updates;
    }
  }
  CHECK(updates >= 2);
}
