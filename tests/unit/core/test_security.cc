// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What neighbours, peers and guests with bad intentions can reach (docs/threats.md).
#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "flowtable/flow_table.h"
#include "tests/unit/harness.h"

using namespace vsnoop_test;

namespace {

using Table = vsnoop::FlowTable<uint64_t>;

struct OwnTable {
  std::vector<uint64_t> memory;
  Table table;
  OwnTable(uint32_t capacity, vsnoop::HashSeed seed)
      : memory(Table::memory_needed(capacity) / 8 + 8) {
    void* at = memory.data();
    size_t space = memory.size() * 8;
    std::align(64, Table::memory_needed(capacity), at, space);
    REQUIRE(table.init(at, space, capacity, seed));
  }
};

vsnoop::FlowKey key(uint32_t n) {
  const uint8_t local[4] = {10, 0, 0, 1};
  const uint8_t remote[4] = {198, 18, static_cast<uint8_t>(n >> 24), static_cast<uint8_t>(n >> 16)};
  return vsnoop::FlowKey::v4(local, remote, 80, static_cast<uint16_t>(n), 0);
}

// What guest 0 and its peer get to see of vsnoop in a transfer, and when, and the verdicts, as
// text. The guest answers every fourth segment after 2 ms, but once so late that it is delivered
// again.
std::vector<std::string> victims_view(World& world, uint16_t port, unsigned flood) {
  Options options;
  options.peer_port = port;
  Established victim(world, options);
  std::vector<std::string> seen;
  std::vector<std::unique_ptr<Connection>> attackers;
  uint32_t at = 1, attacks = 0;
  for (int round = 0; round < 40; ++round) {
    for (unsigned i = 0; i < flood; ++i, ++attacks) {
      // Guest 1's own flows: opened, filled, never acknowledged; and SYNs that lead nowhere.
      Options bad;
      bad.guest = 1;
      bad.peer_port = static_cast<uint16_t>(1000 + attacks);
      attackers.push_back(std::make_unique<Connection>(world, bad));
      Connection& c = *attackers.back();
      c.peer(syn());
      if (attacks % 3) continue;
      c.guest(syn_ack());
      c.peer(ack(1));
      for (uint32_t n = 0; n < 8; ++n) c.peer(data(1 + n * 1460, 1460));
    }
    const auto note = [&](const std::string& what) {
      seen.push_back(std::to_string(world.now()) + " us: " + what);
    };
    note(victim.peer(data(at, 1000)).text());
    at += 1000;
    for (const Packet& p : victim.emitted()) note("to the peer " + p.text());
    world.advance_us(2000);
    if (round == 20) world.advance(400);  // time to deliver again
    if (round % 4 == 3) note(victim.guest(ack(at)).text());
    for (const Packet& p : victim.delivered()) note("to the guest " + p.text());
    world.advance_us(500);
  }
  return seen;
}

}  // namespace

TEST_CASE("security: keys that collide under one seed are spread under another") {
  constexpr uint32_t capacity = 4096;
  const vsnoop::HashSeed guessed{1, 2}, secret{0x243f6a8885a308d3, 0x13198a2e03707344};
  OwnTable attacked(capacity, guessed), real(capacity, secret);
  // What an attacker who knew the seed would send: keys at home in the first of the buckets.
  const vsnoop::QuickSeed words = vsnoop::quick_seed(guessed);
  std::vector<vsnoop::FlowKey> keys;
  for (uint32_t n = 0; keys.size() < 400; ++n)
    if (vsnoop::quick_hash(key(n), words) >> 55 == 0) keys.push_back(key(n));
  for (const auto& k : keys) REQUIRE_FALSE(real.table.insert(k).is_null());
  for (const auto& k : keys) REQUIRE_FALSE(real.table.find(k).is_null());
  CHECK_FALSE(real.table.distrusted());
  // The quick hash's secret, learned or guessed, is good for 90 flows; then the table does without.
  for (const auto& k : keys) REQUIRE_FALSE(attacked.table.insert(k).is_null());
  for (const auto& k : keys) REQUIRE_FALSE(attacked.table.find(k).is_null());
  CHECK(attacked.table.distrusted());
  // Were SipHash's known as well: a bounded search, even then.
  size_t refused = 0, more = 0;
  for (uint32_t n = 0; more < 300; ++n) {
    if (vsnoop::digest(key(n), guessed) >> 55 != 0) continue;
    ++more;
    refused += attacked.table.insert(key(n)).is_null();
  }
  CHECK(refused > 50);
}

TEST_CASE("security: a SYN flood leaves promises, flows and memory as they were") {
  Setup setup;
  World world(setup);
  Established victim(world);
  CHECK_THAT(victim.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(victim.emitted(), OneAck(1001));
  const uint64_t used = world.stats().used;
  for (uint16_t n = 0; n < 20000; ++n) {
    Options options;
    options.peer_port = static_cast<uint16_t>(41000 + n);
    Connection attacker(world, options);
    attacker.peer(syn());
  }
  CHECK(world.flows() == 1);
  CHECK(world.stats().used == used);
  CHECK(victim.flow().early_ack == 1001);
  CHECK_THAT(victim.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(victim.emitted(), OneAck(2001));
  CHECK_THAT(victim.guest(ack(2001)), Dropped(VSNOOP_REASON_guest_covered));
}

TEST_CASE("security: a spoofed handshake opens no flow, spoofed segments change none") {
  Options options;
  Connection c(options);
  c.peer(syn());
  c.guest(syn_ack());
  // One who cannot see the SYN-ACK has to guess its number.
  for (uint32_t guess : {0u, 2u, 77u, 0x80000000u, 0xffffffffu}) c.peer(ack(guess));
  CHECK_FALSE(c.tracked());
  c.peer(ack(1));
  REQUIRE(c.tracked());
  CHECK_THAT(c.peer(data(1, 1000)), Kept());
  CHECK_THAT(c.emitted(), OneAck(1001));
  const vsnoop_flow_info before = c.flow();
  c.peer(data(1001, 1000).ack(0x40000000));  // RFC 5961 5.2
  c.peer(rst(0x40000000));                   // 3.2
  c.peer(data(0x40000000, 1000));            // outside the window
  c.peer(data(1001, 1000).bad());
  const vsnoop_flow_info after = c.flow();
  CHECK(after.rcv_nxt == before.rcv_nxt);
  CHECK(after.early_ack == before.early_ack);
  CHECK(after.state == VSNOOP_FLOW_ACTIVE);
}

TEST_CASE("security: another guest's flood changes nothing for a guest with its own share") {
  Setup setup;
  setup.engine.flows = 1024;
  setup.engine.custodies = 1024;
  setup.guest.budget = 256 << 10;
  setup.engine.budget = 512 << 10;  // what the guests' shares add up to
  World calm(setup), stormy(setup);
  const auto quiet = victims_view(calm, 40000, 0);
  const auto loud = victims_view(stormy, 40000, 4);
  CHECK(quiet.size() >= 80);
  CHECK(quiet == loud);
  // The attacker got to its own bound and not beyond.
  CHECK(stormy.stats(1).peak_held > setup.guest.budget / 2);
  CHECK(stormy.stats(1).peak_held <= setup.guest.budget);
  CHECK(calm.stats(0).promised_bytes == 40000);
  CHECK(stormy.stats(0).promised_bytes == 40000);
  CHECK(calm.stats(0).latency_samples == 9);
  CHECK(calm.stats(0).latency_us_sum == 85500);
  CHECK(stormy.stats(0).latency_us_sum == 85500);
  CHECK(calm.stats(0).redelivered_frames == 3);
  CHECK(stormy.stats(0).redelivered_frames == 3);
}

TEST_CASE("security: a guest that crowds out shared room costs others their promises, no bytes") {
  Setup setup;
  setup.engine.flows = 1024;
  setup.engine.custodies = 1024;
  setup.guest.budget = 256 << 10;
  setup.engine.budget = 64 << 10;  // less than the shares add up to
  World calm(setup), world(setup);
  const auto quiet = victims_view(calm, 40000, 0);
  const auto seen = victims_view(world, 40000, 4);
  CHECK(calm.stats(0).promised_bytes == 40000);
  CHECK(world.stats(0).promised_bytes == 2000);  // before the room was gone
  CHECK(quiet != seen);
  CHECK(world.stats(0).held + world.stats(1).held <= setup.engine.budget);
  CHECK(world.count(VSNOOP_REASON_no_budget, 0) > 0);
  const auto passed = std::count_if(seen.begin(), seen.end(), [](const std::string& line) {
    return line.find("-> PASS (no_budget)") != std::string::npos;
  });
  CHECK(passed == static_cast<long>(world.count(VSNOOP_REASON_no_budget, 0)));
}

TEST_CASE("security: provoked re-delivery is bounded") {
  Setup setup;
  setup.guest.giveup_us = 10000000;
  Established c(setup);
  c.peer(data(1, 1000));
  c.peer(data(1001, 1000));
  c.emitted();
  // A guest that asks for the same frame ten thousand times within a second.
  for (int i = 0; i < 10000; ++i) {
    c.guest(ack(1).window(502).sack({{1001, 2001}}));
    if (i % 10 == 0) c.advance(1);
  }
  const uint64_t again = c.stats().redelivered_frames;
  CHECK(again > 0);
  CHECK(again <= 40);
}

TEST_CASE("neighbour: equal addresses on two VLANs are two connections") {
  // Tenants of one trunk: each has its own 10.0.0.1, and its own numbers.
  World world;
  Options one, two, none;
  one.vlan = {100};
  two.vlan = {100, 7};
  two.peer_isn = 0x10000000;
  two.guest_isn = 0x20000000;
  none.peer_isn = 0x30000000;
  none.guest_isn = 0x40000000;
  Established a(world, one), b(world, two), c(world, none);
  CHECK(world.flows() == 3);
  for (Connection* x :
       {static_cast<Connection*>(&a), static_cast<Connection*>(&b), static_cast<Connection*>(&c)}) {
    CHECK_THAT(x->peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
    const std::vector<Packet> acks = x->emitted();
    REQUIRE(acks.size() == 1);
    CHECK(acks[0].ack() == 1001);
    CHECK(acks[0].vlan() == x->options().vlan);
    CHECK_THAT(x->guest(ack(1001)), Dropped(VSNOOP_REASON_guest_covered));
  }
}

TEST_CASE("neighbour: a tag that names no VLAN, or its priority, makes no other connection") {
  Established c;
  CHECK_THAT(c.peer(data(1, 1000).vlan({0xe000})), Kept(VSNOOP_REASON_in_order));
  Options tagged;
  tagged.vlan = {0x0005};
  Established d(tagged);
  CHECK_THAT(d.peer(data(1, 1000).vlan({0x6005})), Kept(VSNOOP_REASON_in_order));
  CHECK_THAT(d.peer(data(1001, 1000).vlan({6})), Passed(VSNOOP_REASON_no_flow));
  CHECK_THAT(d.peer(data(1001, 1000).vlan({0x8005, 6})), Passed(VSNOOP_REASON_no_flow));
  // QinQ under the first number is another domain than the number alone.
  CHECK_THAT(d.peer(data(1001, 1000).vlan({5, 5})), Passed(VSNOOP_REASON_no_flow));
}

TEST_CASE("neighbour: what lies outside the window switches nothing off (RFC 5961)") {
  // One guess each, with and without an option that nobody knows; the flow goes on as it was.
  const std::vector<uint8_t> odd = {254, 4, 1, 2};
  for (const uint32_t seq : {0x40000000u, 0xc0000000u, 0x7fffffffu}) {
    for (const bool option : {false, true}) {
      for (const int kind : {0, 1, 2, 3, 4, 5}) {
        CAPTURE(seq, option, kind);
        Established c;
        c.peer(data(1, 1000));
        c.guest(ack(1001));
        c.emitted();
        Packet p = kind == 0   ? syn(seq)
                   : kind == 1 ? rst(seq)
                   : kind == 2 ? fin(seq)
                   : kind == 3 ? fin(seq, 100)
                   : kind == 4 ? data(seq, 100)
                               : rst(seq).set(URG);
        if (option) p.option(odd);
        const Outcome o = c.peer(p);
        CHECK((o.passed || o.action() == VSNOOP_DROP));
        REQUIRE(c.tracked());
        CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
        CHECK(c.flow().pause == VSNOOP_REASON_none);
        CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
      }
    }
  }
}

TEST_CASE("neighbour: a FIN below what came after it closes nothing") {
  for (const uint32_t length : {0u, 500u}) {
    Established c;
    c.peer(data(1, 1000));
    c.peer(data(1001, 1000));  // the guest has confirmed nothing yet
    c.emitted();
    c.peer(fin(501, length));
    CHECK(c.flow().state == VSNOOP_FLOW_ACTIVE);
    CHECK_THAT(c.peer(data(2001, 1000)), Kept(VSNOOP_REASON_in_order));
    CHECK_THAT(c.emitted(), OneAck(3001));
  }
}

TEST_CASE("neighbour: an old number with a timestamp ahead does not set the clock") {
  Established c;
  c.peer(data(1, 1000));
  c.guest(ack(1001));
  c.peer(data(0x80000010, 1000).ts(0x40000000, 0));
  c.peer(data(0xf0000000, 1000).ts(0x40000000, 0));
  c.peer(ack(1).seq(0x90000000).ts(0x40000000, 0));
  CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
}

TEST_CASE("neighbour: what the guest refuses counts for nothing that the peer has sent") {
  // RFC 5961 5.2: the number fits, and nothing else.
  const std::vector<Packet> guesses = {
      data(30001, 1000).ack(0x40000000),
      data(30001, 1000).ack(0xc0000000),
      data(30001, 1000).clear(ACK),
      data(30001, 1000).ack(0x40000000).ts(0xf0000000, 0),
      data(30001, 1000).ack(0x40000000).set(URG),
      data(30001, 1000).ack(0x40000000).no_ts(),
      fin(30001, 1000).ack(0x40000000),
  };
  for (const Packet& guess : guesses) {
    CAPTURE(guess.text());
    Established c;
    c.advance(10);
    c.peer(data(1, 1000));
    c.guest(ack(1001));
    c.emitted();
    CHECK(c.peer(guess).passed);
    CHECK(c.flow().peer_nxt == 1001);
    CHECK_THAT(c.peer(data(1001, 1000)), Kept(VSNOOP_REASON_in_order));
    CHECK_THAT(c.emitted(), OneAck(2001));
  }
}

TEST_CASE("peer: one that sends beyond the window does not move what it may have sent with it") {
  Established c;
  const uint32_t edge = c.flow().right_edge;
  for (uint32_t i = 0; i < 200; ++i) c.peer(data(edge + 1000 * i, 1000));
  CHECK(c.flow().peer_nxt == edge + 1000);
  // The guest cannot have got that.
  CHECK_THAT(c.guest(ack(edge + 100000)), Passed(VSNOOP_REASON_guest_ack_unseen));
}

TEST_CASE(
    "peer: what was under way when the guest took its window back is known to have been sent") {
  Established c;
  c.guest(ack(1).window(0));
  for (uint32_t i = 0; i < 20; ++i) c.peer(data(1 + 1000 * i, 1000));
  CHECK(c.flow().peer_nxt == 20001);
  CHECK_THAT(c.guest(ack(20001)), Passed(VSNOOP_REASON_guest_passes));

  // It has opened it again, but not as far as it was.
  Established opens;
  opens.guest(ack(1).window(0));
  opens.guest(ack(1).window(8));
  for (uint32_t i = 0; i < 20; ++i) opens.peer(data(1 + 1000 * i, 1000));
  CHECK(opens.guest(ack(20001)).reason() != VSNOOP_REASON_guest_ack_unseen);
}

TEST_CASE("I4: once a guest has acknowledged what was never seen, nobody speaks behind it",
          "[I4]") {
  Established c;
  c.world().automatic = false;
  c.peer(data(1, 1000));
  c.emitted();
  c.guest(ack(5000));  // passes, and the peer has it
  c.advance(1000);
  CHECK(c.peer(data(1, 1000)).reason() != VSNOOP_REASON_duplicate_answered);
  CHECK(c.emitted().empty());
}

TEST_CASE("neighbour: a guessed SYN or RST does not end a handshake") {
  Connection c;
  c.peer(syn());
  c.guest(syn_ack());
  c.peer(syn(0x40000000));
  c.peer(syn(0x50000000).option({254, 4, 1, 2}));
  c.peer(rst(0x40000000));
  c.peer(ack(1).seq(1));
  CHECK(c.tracked());

  Connection opened(Options{.guest_opens = true});
  opened.guest(syn());
  opened.peer(rst(0x40000000));
  opened.peer(rst(1).set(ACK).ack(77));
  opened.peer(syn_ack());
  opened.peer(rst(0x40000000));
  opened.guest(ack(1));
  CHECK(opened.tracked());

  Connection refused(Options{.guest_opens = true});
  refused.guest(syn());
  refused.peer(rst(0).set(ACK).ack(1));  // RFC 9293 3.10.7.3: it answers the SYN
  refused.peer(syn_ack());
  refused.guest(ack(1));
  CHECK_FALSE(refused.tracked());
}

namespace {

// One that sends above a hole, and is heard of no more.
std::vector<std::unique_ptr<Established>> vanished(World& world, uint16_t count,
                                                   uint32_t segments) {
  std::vector<std::unique_ptr<Established>> peers;
  for (uint16_t i = 0; i < count; ++i) {
    Options o;
    o.peer_port = static_cast<uint16_t>(2000 + i);
    peers.push_back(std::make_unique<Established>(world, o));
    Established& c = *peers.back();
    for (uint32_t k = 0; k < segments; ++k) c.peer(data(1449 + 1448 * k, 1448).memory(2304));
    c.guest(ack(1).sack({{1449, 1449 + 1448 * segments}}));
  }
  return peers;
}

Setup with_records(uint32_t records) {
  Setup setup;
  setup.engine.flows = 1024;
  setup.engine.custodies = records;
  setup.guest.early_sack = 1;
  return setup;
}

}  // namespace

TEST_CASE("peer: one that vanishes above a hole has its record until a newcomer needs it") {
  World world(with_records(100));
  const auto peers = vanished(world, 100, 1);
  REQUIRE(world.custody() == 100);
  world.advance(2000);
  Established newcomer(world);
  CHECK_THAT(newcomer.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
  CHECK(world.count(VSNOOP_REASON_ranges_let_go) > 0);
  // It comes back: the guest speaks, and nothing is missing.
  for (const auto& c : peers) {
    c->peer(data(1, 1448));
    c->guest_acks();
    CHECK(c->guest_rcv_nxt() == 1 + 2 * 1448);
    CHECK(c->flow().early_ack == 1 + 2 * 1448);
  }
}

TEST_CASE("peer: ranges of one that has vanished are let go after a minute, SACKed or not") {
  World world(with_records(100));
  const auto peers = vanished(world, 50, 3);
  REQUIRE(world.stats().held > 0);
  world.advance(70000);
  CHECK(world.stats().held == 0);
  CHECK(world.custody() == 0);
}

TEST_CASE("peer: ranges of those that have vanished do not narrow a newcomer's window") {
  Setup setup = with_records(512);
  setup.guest.budget = 8 << 20;
  World world(setup);
  const auto peers = vanished(world, 84, 42);
  REQUIRE(world.stats().held > 7 << 20);
  world.advance(2000);
  Options wide;
  wide.guest_wscale = 9;
  Established newcomer(world, wide);
  newcomer.peer(data(1, 1000).memory(2304));
  newcomer.guest(ack(1001).window(4000));
  world.advance(300);
  const vsnoop_flow_info f = newcomer.flow();
  CHECK(f.shown_edge == f.right_edge);
}

TEST_CASE(
    "peer: duplicates are answered once a millisecond, whether something is outstanding or not") {
  Established c;
  c.peer(data(1, 1000));
  for (const bool outstanding : {true, false}) {
    CAPTURE(outstanding);
    if (!outstanding) c.guest(ack(1001));
    c.advance(10);
    c.emitted();
    for (int i = 0; i < 1000; ++i) c.peer(data(1, 1000));
    CHECK(c.emitted().size() == 1);
    c.world().advance_us(1000);
    c.peer(data(1, 1000));
    CHECK(c.emitted().size() == 1);
  }
}
