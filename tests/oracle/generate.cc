// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/generate.h"

#include <algorithm>
#include <cmath>

#include "tests/oracle/stage.h"

namespace vsnoop_oracle {
namespace {

template <class T>
rc::Gen<T> below(T n) {
  return rc::gen::inRange<T>(0, n);
}

rc::Gen<bool> chance(int percent) {
  return rc::gen::map(rc::gen::inRange(0, 100), [percent](int n) { return n >= 100 - percent; });
}

// How far a fault reaches is not the same for all.
Fault bounded(Fault fault) {
  const auto at_most = [&](uint16_t n) { fault.size = static_cast<uint16_t>(fault.size % n + 1); };
  switch (fault.kind) {
    case FaultKind::lose_to_guest:
    case FaultKind::lose_to_peer:
    case FaultKind::corrupt_to_guest:
    case FaultKind::corrupt_to_peer:
    case FaultKind::refuse:
      at_most(5);
      break;
    case FaultKind::repeat_to_guest:
    case FaultKind::repeat_to_peer:
    case FaultKind::delay_to_guest:
    case FaultKind::delay_to_peer:
    case FaultKind::decline:
      at_most(12);
      break;
    case FaultKind::lose_ring:
    case FaultKind::restart:
      at_most(600);
      break;
    case FaultKind::lie_little:
      at_most(3000);
      break;
    default:
      at_most(3000);
  }
  return fault;
}

rc::Gen<Fault> any_fault() {
  return rc::gen::map(
      rc::gen::build<Fault>(
          rc::gen::set(&Fault::kind, rc::gen::map(below<int>(promise_kinds),
                                                  [](int n) { return static_cast<FaultKind>(n); })),
          rc::gen::set(&Fault::at, below<uint16_t>(70)),
          rc::gen::set(&Fault::size, below<uint16_t>(3000))),
      bounded);
}

rc::Gen<Stream> any_stream() {
  return rc::gen::build<Stream>(
      rc::gen::set(&Stream::to_guest,
                   rc::gen::oneOf(below<uint32_t>(200), below<uint32_t>(60000),
                                  below<uint32_t>(60000), below<uint32_t>(250000))),
      rc::gen::set(&Stream::to_peer,
                   rc::gen::oneOf(rc::gen::just<uint32_t>(0), below<uint32_t>(3000))),
      // Just below 2^32, so that wrapping is the normal case.
      rc::gen::set(&Stream::peer_isn,
                   rc::gen::map(below<uint32_t>(40000), [](uint32_t n) { return ~n; })),
      rc::gen::set(&Stream::guest_isn,
                   rc::gen::map(below<uint32_t>(2000), [](uint32_t n) { return ~n; })),
      rc::gen::set(&Stream::buffer,
                   rc::gen::map(rc::gen::oneOf(below<uint32_t>(20000), below<uint32_t>(400000)),
                                [](uint32_t n) { return n + 3000; })),
      rc::gen::set(&Stream::start_ms, below<uint16_t>(40)),
      rc::gen::set(&Stream::closing, below<uint8_t>(12)),
      rc::gen::set(&Stream::guest_opens, chance(25)),
      rc::gen::set(&Stream::probes_with_data, chance(30)));
}

// At most `most`; ranges inside them are whole, whatever RapidCheck's size.
template <class T>
rc::Gen<std::vector<T>> some(int most, rc::Gen<T> gen) {
  return rc::gen::resize(
      most, rc::gen::container<std::vector<T>>(rc::gen::resize(rc::kNominalSize, std::move(gen))));
}

// --- of the differential oracle ------------------------------------------------------------------

// Log-uniform: each power of ten as often as the next.
rc::Gen<uint64_t> around(uint64_t low, uint64_t high) {
  constexpr uint32_t steps = 100000;
  return rc::gen::map(below<uint32_t>(steps), [low, high](uint32_t n) {
    const double part = static_cast<double>(n) / steps;
    const double l = static_cast<double>(low), h = static_cast<double>(high);
    return static_cast<uint64_t>(l * std::pow(h / l, part));
  });
}

using rc::gen::element;

uint32_t up_to(uint32_t n) { return *below<uint32_t>(std::max(n, 1u)); }

void add(Scenario& s, FaultKind kind, uint64_t at_us, uint32_t size, size_t stream = 0) {
  s.events.push_back({kind, at_us, size, static_cast<uint16_t>(stream), 0});
}

// What happens to networks, hosts and guests every day.
void add_usual(Scenario& s) {
  const FaultKind kind =
      *element(FaultKind::lose_to_guest, FaultKind::lose_to_guest, FaultKind::repeat_to_guest,
               FaultKind::delay_to_guest, FaultKind::corrupt_to_guest, FaultKind::lose_to_peer,
               FaultKind::repeat_to_peer, FaultKind::delay_to_peer, FaultKind::decline,
               FaultKind::lose_ring, FaultKind::quiesce, FaultKind::stall, FaultKind::pause_reading,
               FaultKind::shrink, FaultKind::refuse, FaultKind::firewall, FaultKind::renege,
               FaultKind::old_ack, FaultKind::keep_alive);
  Event event;
  event.kind = kind;
  event.at_us = *around(300, 3000000);
  event.stream = static_cast<uint16_t>(up_to(static_cast<uint32_t>(s.streams.size())));
  const Stream& stream = s.streams[event.stream];
  event.offset = up_to(stream.to_guest + 3);
  switch (kind) {
    case FaultKind::lose_to_guest:
    case FaultKind::corrupt_to_guest:
      event.size = 1;
      break;
    case FaultKind::refuse:
      event.size = 1 + up_to(5);
      break;
    case FaultKind::decline:
      event.size = 1 + up_to(12);
      break;
    case FaultKind::lose_to_peer:
      event.size = 1 + up_to(60);
      break;
    case FaultKind::lose_ring:
      event.size = 1 + up_to(290);
      break;
    default:
      event.size = 1 + up_to(3000);
  }
  // Some of them when a resting application goes on.
  if (stream.rest_at && *chance(60)) event.at_us += stream.rest_ms * 1000ull;
  s.events.push_back(event);
}

constexpr uint32_t grace_ms = grace_us / 1000;

void add_usual(Scenario& s, std::initializer_list<unsigned> numbers) {
  for (unsigned n = *rc::gen::elementOf(std::vector<unsigned>(numbers)); n; --n) add_usual(s);
}

void usual(Scenario& s) { add_usual(s, {0u, 2u, 4u, 8u, 14u}); }

// Long enough for the limits of every timer, and short of them.
void deaf(Scenario& s) {
  add_usual(s, {0u, 0u, 1u, 3u});
  add(s, *element(FaultKind::stall, FaultKind::deaf), *around(1000, 300000), 30000 + up_to(90000));
}

void closed(Scenario& s) {
  add_usual(s, {0u, 0u, 1u, 3u});
  for (size_t i = 0; i < s.streams.size(); ++i) {
    if (*chance(30)) continue;
    s.streams[i].to_guest += s.streams[i].buffer;
    // Some for longer than any sender waits without an answer.
    const uint32_t ms = *chance(25) ? 1000000 + up_to(1000000) : 1000 + up_to(120000);
    add(s, FaultKind::pause_reading, *around(300, 100000), ms, i);
  }
}

void vanish(Scenario& s) {
  add_usual(s, {0u, 1u});
  s.flows = *element(8u, 8u, 64u);
  for (size_t i = 0; i < s.streams.size(); ++i) {
    add(s, *element(FaultKind::peer_vanishes, FaultKind::guest_vanishes), *around(300, 400000), 1,
        i);
    // Many leave a hole behind that nobody will fill.
    if (*chance(50)) continue;
    Event hole{FaultKind::lose_to_guest, 0, 1000, static_cast<uint16_t>(i), 0};
    hole.offset = up_to(s.streams[i].to_guest + 3);
    s.events.push_back(hole);
  }
  for (uint32_t more = 2 + up_to(6); more; --more) {
    s.streams.push_back(*any_stream());
    s.streams.back().start_ms = static_cast<uint32_t>(*around(1000, 30000000));
  }
}

void tiny(Scenario& s) {
  usual(s);
  s.mss = static_cast<uint16_t>(*around(1, 200));
  for (Stream& stream : s.streams) {
    stream.to_guest %= s.mss * 3000u;
    stream.buffer = static_cast<uint32_t>(*around(100000, 32000000));
  }
  s.scale = 10, s.ring = 256;
}

void many(Scenario& s) {
  const uint32_t n = *element(30u, 30u, 60u, 60u, 120u, 400u);
  // A few of a kind, whose lengths and beginnings differ.
  std::vector<Stream> kinds;
  for (uint32_t i = 0; i < 6; ++i) kinds.push_back(*any_stream());
  s.streams.clear();
  for (uint32_t i = 0; i < n; ++i) {
    Stream stream = kinds[i % kinds.size()];
    stream.to_guest = (stream.to_guest + i * 7919) % (i % 16 ? 6000 : 20000);
    stream.start_ms = (stream.start_ms + i * 7907) % 2000;
    s.streams.push_back(stream);
  }
  add_usual(s, {0u, 1u, 3u});
  s.flows = *element(2048u, 2048u, 256u, 64u, 16u);
  s.custodies = static_cast<uint16_t>(1 + up_to(8));
  s.ring = 256;
}

void reordered(Scenario& s) {
  usual(s);
  s.reorder_us = static_cast<uint32_t>(*around(100, 50000));
}

// Stream 0 is hurt; the others are compared.
void neighbours(Scenario& s) {
  while (s.streams.size() < 3) s.streams.push_back(*any_stream());
  add_usual(s, {0u, 2u, 4u});
  for (uint32_t n = 1 + up_to(3); n; --n)
    add(s,
        *element(FaultKind::lie_little, FaultKind::lie_far, FaultKind::abort, FaultKind::close,
                 FaultKind::peer_abort, FaultKind::peer_vanishes, FaultKind::guest_vanishes),
        *around(300, 400000), 1 + up_to(3000));
  if (*chance(50)) add(s, FaultKind::pause_reading, *around(300, 100000), 30000 + up_to(80000));
}

void rest(Scenario& s, uint64_t low_ms, uint64_t high_ms) {
  // A clock of microseconds changes its sign after 36 minutes, and is where it was after 72.
  if (high_ms > 4300000 && *chance(50)) low_ms = 2100000, high_ms = 4400000;
  for (Stream& stream : s.streams) {
    if (stream.to_guest <= 10) continue;
    stream.rest_at = 1 + up_to(stream.to_guest - 5);
    stream.rest_ms = static_cast<uint32_t>(*around(low_ms, high_ms));
  }
  s.guest_tick = *element(1000u, 1u, 10000u), s.peer_tick = *element(1000u, 1u, 10000u);
  s.idle_s = *element(300u, 7200u, 7200u, 8000u);
  add_usual(s, {0u, 0u, 1u, 2u});
}
void pauses(Scenario& s) { rest(s, 1000, 100000); }
void hours(Scenario& s) { rest(s, 100000, 18000000); }

void clocks(Scenario& s) {
  usual(s);
  s.guest_tick = *element(1u, 1u, 1000u, 10000u), s.peer_tick = *element(1u, 1000u, 10000u);
  // Wrap, or change sign, within the connection.
  s.guest_clock = *element(0u, 0x80000000u) - up_to(20000);
  s.peer_clock = *element(0u, 0x80000000u) - up_to(20000);
}

void again(Scenario& s) {
  add_usual(s, {0u, 1u, 3u});
  for (size_t i = 0; i < s.streams.size(); ++i) {
    s.streams[i].guest_opens = false;
    add(s, FaultKind::reborn, *around(300, 400000), 1 + up_to(3000), i);
    if (*chance(30)) add(s, FaultKind::reborn, *around(300000, 100000000), 1 + up_to(3000), i);
  }
  if (*chance(30)) add(s, FaultKind::stall, *around(300, 400000), 1 + up_to(5000));
}

void forwards(Scenario& s) {
  add_usual(s, {0u, 0u, 1u, 2u});
  s.beyond.mtu = static_cast<uint16_t>(*element(1500u, 1500u, 1300u, 1400u, 1492u, 600u));
  s.beyond.hops = *element<uint8_t>(63, 62, 127, 64, 64);
  s.beyond.kbit_s = *element(0u, 0u, 10000u, 2000u, 100000u);
  s.beyond.queue = *element<uint16_t>(100, 20, 1000);
  // As a router has it: whole frames as they came.
  s.gro = 1, s.mss = *element<uint16_t>(1448, 1448, 536);
}

void tenants(Scenario& s) {
  const size_t n = s.streams.size();
  for (size_t i = 0; i < n; ++i) {
    Stream other = *any_stream();
    // The same addresses and ports, and often the same numbers, on another VLAN.
    if (*chance(50))
      other.peer_isn = s.streams[i].peer_isn, other.guest_isn = s.streams[i].guest_isn;
    s.streams[i].vlan = static_cast<uint16_t>(*element(0, 100));
    other.vlan = 200;
    s.streams.push_back(other);
  }
  add_usual(s, {0u, 1u, 3u});
}

void senders(Scenario& s) {
  usual(s);
  for (Stream& stream : s.streams) {
    stream.sender = *element(Sender::rack, Sender::sack, Sender::newreno);
    stream.timestamps = *chance(50);
  }
}

// The guest cannot come back to its ring, and the reset that says so is lost.
void gone(Scenario& s) {
  add_usual(s, {0u, 1u, 2u});
  const uint64_t at = *around(300, 300000);
  add(s, FaultKind::ring_gone, at, grace_ms + 1 + up_to(100000));
  add(s, FaultKind::lose_to_peer, at + grace_ms * 1000 - up_to(5000), 10 + up_to(500));
  // A peer that has nothing to send for days has nothing to ask with either.
  s.peer_asks = *chance(30);
  for (Stream& stream : s.streams)
    if (stream.to_guest > 10 && *chance(70))
      stream.rest_at = 1 + up_to(stream.to_guest - 5), stream.rest_ms = 400000000;
}

// Promising ends while the peer sends for a window far beyond the ring.
void ends(Scenario& s) {
  add_usual(s, {0u, 0u, 1u});
  s.mss = 536, s.scale = 7;
  for (Stream& stream : s.streams) {
    stream.to_guest = 200000 + up_to(400000), stream.buffer = 300000 + up_to(200000);
    if (*chance(40)) stream.closing = 11;  // the guest has said all it has to say
  }
  if (*chance(60)) add(s, FaultKind::quiesce, *around(300, 1000000), 1000 + up_to(60000));
}

void make_plain(Scenario& s) {
  s.ring = 256, s.budget = 8u << 20, s.flow_budget = s.total_budget = 0;
  s.custodies = static_cast<uint16_t>(std::max<size_t>(64, s.streams.size()));
  s.flows = static_cast<uint32_t>(std::max<size_t>(s.flows, s.streams.size()));
  std::erase_if(s.events, [](const Event& e) { return e.kind == FaultKind::decline; });
}

}  // namespace

rc::Gen<Scenario> any_scenario() {
  using rc::gen::element;
  return rc::gen::resize(
      rc::kNominalSize,
      rc::gen::build<Scenario>(
          rc::gen::set(&Scenario::streams,
                       rc::gen::mapcat(element(1, 1, 1, 2, 4),
                                       [](int n) { return some<Stream>(n, any_stream()); })),
          rc::gen::set(&Scenario::faults,
                       rc::gen::mapcat(element(0, 2, 4, 8, 14),
                                       [](int n) { return some<Fault>(n, any_fault()); })),
          rc::gen::set(&Scenario::ts, chance(80)), rc::gen::set(&Scenario::sack, chance(80)),
          rc::gen::set(&Scenario::early_sack, chance(30)),
          rc::gen::set(&Scenario::engage_auto, chance(15)),
          rc::gen::set(&Scenario::late_reports, chance(30)),
          rc::gen::set(&Scenario::scale, element(7, 7, 2, 0, -1)),
          rc::gen::set(&Scenario::mss, element<uint16_t>(1448, 1448, 536, 8948)),
          rc::gen::set(&Scenario::gro, element<uint16_t>(1, 1, 4)),
          rc::gen::set(&Scenario::ring, element<uint16_t>(64, 256, 16, 4, 2)),
          rc::gen::set(&Scenario::rtt_ms, element<uint16_t>(1, 1, 0, 10, 80)),
          rc::gen::set(&Scenario::run_ms, element<uint16_t>(10, 30, 1)),
          rc::gen::set(&Scenario::wait_ms, element<uint16_t>(20, 60, 0, 300)),
          rc::gen::set(&Scenario::budget,
                       element<uint32_t>(1u << 20, 8u << 20, 128u << 10, 32u << 10)),
          rc::gen::set(&Scenario::flow_budget, element<uint32_t>(0, 0, 24u << 10)),
          rc::gen::set(&Scenario::total_budget, element<uint32_t>(0, 0, 64u << 10)),
          rc::gen::set(&Scenario::custodies, element<uint16_t>(16, 16, 1, 2))));
}

const std::vector<World>& worlds() {
  static const std::vector<World> all = {
      {"usual", "loss, repetition, delay, stalls, shrinking windows, rings that go", usual},
      {"deaf", "a guest that hears nothing for one or two minutes", deaf},
      {"closed", "windows closed for minutes", closed},
      {"vanish", "peers and guests that vanish in every state; newcomers for hours", vanish, true},
      {"tiny", "tiny segments under huge windows", tiny},
      {"many", "hundreds of flows on few records", many},
      {"reordered", "the guest's segments in another order", reordered},
      {"neighbours", "one connection that lies, aborts, vanishes, stops reading", neighbours},
      {"pauses", "applications that rest for seconds, clocks of 1 us to 10 ms", pauses},
      {"hours", "applications that rest for hours, clocks of 1 us to 10 ms", hours},
      {"clocks", "clocks of 1 us to 10 ms that wrap", clocks},
      {"again", "peers that die and open the same tuple again", again},
      {"forwards", "a guest that forwards: small MTU, slow queue behind it", forwards},
      {"tenants", "tagged tenants with equal addresses", tenants},
      {"senders", "RACK, SACK and NewReno, with and without timestamps", senders},
      {"gone", "rings that go for good, and the resets that say so are lost", gone},
      {"ends", "promising ends under a window far beyond the ring", ends},
  };
  return all;
}

rc::Gen<Scenario> scenario_of(const World& world) {
  return rc::gen::resize(rc::kNominalSize, rc::gen::exec([&world] {
                           Scenario s = *any_scenario();
                           if (s.streams.empty()) s.streams.resize(1);
                           s.faults.clear();
                           s.patient = true;
                           world.make(s);
                           if (*chance(50)) make_plain(s);
                           return s;
                         }));
}

}  // namespace vsnoop_oracle
