// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/stage.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace vsnoop_oracle {
namespace {

constexpr u64 time_limit = 900u * 1000000u;          // virtual; nothing may hang longer
constexpr u64 patient_limit = 172800ull * 1000000u;  // two days
constexpr u64 most_steps = 400000, patient_steps = 3000000;
constexpr u64 move_poll = 5000;
constexpr u32 liveness_us = 500000, giveup_us = 20000000, promise_age_us = 120000000;

const char* const kind_names[] = {
    "lose_to_guest", "repeat_to_guest", "delay_to_guest", "corrupt_to_guest",
    "lose_to_peer",  "repeat_to_peer",  "delay_to_peer",  "corrupt_to_peer",
    "decline",       "lose_ring",       "quiesce",        "migrate",
    "stall",         "pause_reading",   "shrink",         "refuse",
    "firewall",      "renege",          "old_ack",        "keep_alive",
    "lie_little",    "lie_far",         "close",          "abort",
    "restart",       "peer_abort",      "peer_vanishes",  "guest_vanishes",
    "deaf",          "reborn",          "ring_gone"};
static_assert(std::size(kind_names) == static_cast<size_t>(FaultKind::kinds));

bool towards_peer(FaultKind kind) {
  return kind >= FaultKind::lose_to_peer && kind <= FaultKind::corrupt_to_peer;
}

bool of_network(FaultKind kind) { return kind <= FaultKind::corrupt_to_peer; }

TcpOptions peer_options(const Scenario& scenario, const Stream& stream, u32 connection) {
  TcpOptions o;
  o.connection = connection;
  o.is_peer = true;
  o.opens = !stream.guest_opens;
  o.isn = stream.peer_isn;
  o.clock = scenario.peer_clock, o.tick_us = scenario.peer_tick;
  o.ts = scenario.ts && stream.timestamps;
  o.sack = scenario.sack && stream.sender != Sender::newreno;
  o.sender = stream.sender;
  o.scale = scenario.scale;
  o.mss = scenario.mss, o.gro = scenario.gro;
  o.bytes = stream.to_guest;
  o.buffer = 60000;
  o.closing = static_cast<Closing>(stream.closing % 2);
  o.probes_with_data = stream.probes_with_data;
  o.rest_at = stream.rest_at, o.rest_us = stream.rest_ms * 1000ull;
  // Linux since it has such clocks: until the sign of a difference is no longer sure.
  if (scenario.guest_tick < 1000) o.paws_us = 2147000000;
  if (scenario.patient) o.keep_alive_us = 7200000000, o.max_rto_us = 120000000, o.most_tries = 15;
  if (!scenario.peer_asks) o.keep_alive_us = 1000000000000000;
  return o;
}

TcpOptions guest_options(const Scenario& scenario, const Stream& stream, u32 connection) {
  TcpOptions o = peer_options(scenario, stream, connection);
  o.is_peer = false;
  o.opens = stream.guest_opens;
  o.isn = stream.guest_isn;
  o.clock = scenario.guest_clock, o.tick_us = scenario.guest_tick;
  o.ts = scenario.ts, o.sack = scenario.sack;
  o.sender = Sender::rack;
  o.bytes = stream.to_peer;
  o.buffer = stream.buffer;
  o.gro = 1;
  // Most guests answer a FIN; data for one that has closed is not promised (G8).
  o.closing = stream.closing == 11   ? Closing::with_data
              : stream.closing == 10 ? Closing::when_acknowledged
                                     : Closing::after_other;
  o.rest_at = 0;
  o.keep_alive_us = scenario.patient ? 7300000000 : 11000000;
  o.paws_us = scenario.peer_tick < 1000 ? 2147000000 : TcpOptions().paws_us;
  if (scenario.beyond.mtu) o.hops = scenario.beyond.hops;
  return o;
}

}  // namespace

const char* name_of(FaultKind kind) { return kind_names[static_cast<size_t>(kind)]; }

std::ostream& operator<<(std::ostream& out, const Scenario& s) {
  out << "scenario: ts " << s.ts << " sack " << s.sack << " early_sack " << s.early_sack << " auto "
      << s.engage_auto << " late_reports " << s.late_reports << " scale " << s.scale << " mss "
      << s.mss << " gro " << s.gro << " ring " << s.ring << " rtt " << s.rtt_ms << " ms, runs "
      << s.run_ms << " ms waits " << s.wait_ms << " ms, budget " << s.budget << "/" << s.flow_budget
      << "/" << s.total_budget << " records " << s.custodies;
  for (const Stream& stream : s.streams)
    out << "\n  stream: " << stream.to_guest << " bytes to the guest, " << stream.to_peer
        << " to the peer, isn " << stream.peer_isn << "/" << stream.guest_isn << " buffer "
        << stream.buffer << " at " << stream.start_ms << " ms, closing " << int(stream.closing)
        << (stream.guest_opens ? ", guest opens" : "")
        << (stream.probes_with_data ? ", probes with data" : "")
        << (stream.sender == Sender::newreno ? ", NewReno"
            : stream.sender == Sender::sack  ? ", no RACK"
                                             : "")
        << (stream.timestamps ? "" : ", no timestamps")
        << (stream.vlan ? ", VLAN " + std::to_string(stream.vlan) : "")
        << (stream.rest_at ? ", rests at byte " + std::to_string(stream.rest_at) + " for " +
                                 std::to_string(stream.rest_ms) + " ms"
                           : "");
  if (s.patient)
    out << "\n  patient: flows " << s.flows << " idle " << s.idle_s << " s, ticks " << s.guest_tick
        << "/" << s.peer_tick << " us from " << s.guest_clock << "/" << s.peer_clock
        << ", guest's frames up to " << s.reorder_us << " us late"
        << (s.peer_asks ? "" : ", peers without keep-alives");
  if (s.beyond.mtu)
    out << "\n  beyond the guest: mtu " << s.beyond.mtu << " hops " << int(s.beyond.hops) << " "
        << s.beyond.kbit_s << " kbit/s queue " << s.beyond.queue;
  for (const Event& event : s.events)
    out << "\n  event: " << name_of(event.kind) << " at " << event.at_us << " us, size "
        << event.size << ", stream " << event.stream << ", byte " << event.offset;
  for (const Fault& fault : s.faults)
    out << "\n  fault: " << name_of(fault.kind) << " at frame " << fault.at << ", size "
        << fault.size;
  return out;
}

void Stage::Totals::add(const Totals& t) {
  runs += t.runs, frames += t.frames, early_acks += t.early_acks, promised += t.promised;
  redelivered += t.redelivered, resets += t.resets, finished += t.finished;
  connections += t.connections, migrations += t.migrations;
  for (size_t i = 0; i < VSNOOP_REASONS; ++i) reasons[i] += t.reasons[i];
}

Stage::Stage(const Scenario& scenario, const Play& play) : scenario_(scenario), play_(play) {
  totals_.runs = 1;
  create_engine();
  // What tests/packets needs to play the script.
  const auto set = [&](const char* name, u64 value) {
    note(std::string("host set ") + name + " " + std::to_string(value));
  };
  note("host manual");
  set("budget", scenario.budget), set("flow_budget", scenario.flow_budget);
  set("total_budget", scenario.total_budget), set("custodies", scenario.custodies);
  set("early_sack", scenario.early_sack), set("auto", scenario.engage_auto);
  if (!scenario.patient) {
    set("liveness_us", liveness_us), set("giveup_us", giveup_us);
    set("promise_age_us", promise_age_us);
  }
  lines_.resize(scenario.streams.size());
  courses_.resize(scenario.streams.size());
  std::unordered_map<u16, u16> numbers;  // of a VLAN's connections
  for (u32 i = 0; i < lines_.size(); ++i) {
    if (play.only >= 0 && i != static_cast<u32>(play.only)) continue;
    const Stream& stream = scenario.streams[i];
    Line& line = lines_[i];
    const u32 connection = connection_of(numbers[stream.vlan]++, stream.vlan);
    index_.emplace(connection, i);
    active_.push_back(&line);
    line.start_at = now_ + stream.start_ms * 1000ull;
    line.peer = make_peer(line, peer_options(scenario, stream, connection));
    line.guest = make_guest(line, guest_options(scenario, stream, connection));
  }
  for (const Fault& fault : scenario.faults)
    if (of_network(fault.kind))
      spells_.push_back({fault.kind, fault.at, fault.at + std::max<u32>(fault.size, 1)});
  hits_.resize(scenario.events.size());
  for (const Event& event : scenario.events)
    if (!of_network(event.kind)) events_.push_back(&event);
  std::stable_sort(events_.begin(), events_.end(),
                   [](const Event* a, const Event* b) { return a->at_us < b->at_us; });
}

std::unique_ptr<Tcp> Stage::make_peer(Line& line, const TcpOptions& options) {
  return std::make_unique<Tcp>(
      options, [this](const Segment& s, u32 first) { send(build(s, true, first), false); },
      [this, &line](const std::string& what) {
        if (!line.lies) fail("the peer " + what + ": " + describe(line));
      });
}

std::unique_ptr<Tcp> Stage::make_guest(Line& line, const TcpOptions& options) {
  return std::make_unique<Tcp>(
      options, [this, &line](const Segment& s, u32 first) { guest_sends(line, s, first); },
      [this, &line](const std::string& what) {
        fail("the guest " + what + ": " + describe(line));
      });
}

Stage::~Stage() {
  for (const auto& [held, frame] : live_) delete frame;
}

void Stage::create_engine() {
  vsnoop_config config;
  vsnoop_defaults(&config);
  config.flows = scenario_.flows;
  config.custodies = std::max<u32>(scenario_.custodies, 1);
  config.guests = 1;
  config.budget = scenario_.total_budget;
  config.idle_s = scenario_.idle_s;
  config.seed[0] = 1, config.seed[1] = 2;
  memory_.resize(vsnoop_memory_needed(&config));
  v_ = vsnoop_create(memory_.data(), memory_.size(), &config);
  vsnoop_guest_config guest;
  vsnoop_guest_defaults(&guest);
  guest.policy = static_cast<u8>(play_.policy);
  guest.engage = scenario_.engage_auto ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
  guest.early_sack = scenario_.early_sack;
  guest.budget = scenario_.budget;
  guest.flow_budget = scenario_.flow_budget;
  if (!scenario_.patient) {
    guest.liveness_us = liveness_us;
    guest.giveup_us = giveup_us;
    guest.promise_age_us = promise_age_us;
  }
  vsnoop_guest_open(v_, guest_id, &guest, now_);
}

void Stage::fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = what + " (at " + std::to_string(now_) + " us, step " + std::to_string(steps_) + ")";
  note("// FAILED: " + what);
}

void Stage::note(const std::string& line) {
  if (!play_.traced) return;
  char time[32];
  std::snprintf(time, sizeof time, "%llu.%06llu ", static_cast<unsigned long long>(now_ / 1000000),
                static_cast<unsigned long long>(now_ % 1000000));
  script_.push_back(time + line);
}

std::string Stage::text(const Line& line, const Segment& s, bool from_peer) const {
  const u32 peer = line.peer->isn(), guest = line.guest->isn();
  const u32 clock = scenario_.guest_clock, peer_clock = scenario_.peer_clock;
  std::string t = from_peer ? vsnoop_oracle::text(s, peer, guest, peer_clock, clock)
                            : vsnoop_oracle::text(s, guest, peer, clock, peer_clock);
  if (lines_.size() > 1) t = "#" + std::to_string(&line - lines_.data()) + " " + t;
  return t;
}

std::string Stage::describe(const Line& line) const {
  std::string s = "#" + std::to_string(&line - lines_.data()) + " peer " + line.peer->describe() +
                  "; guest " + line.guest->describe();
  vsnoop_flow_info f;
  if (!vsnoop_flow(v_, line.ref, &f)) return s + "; no flow";
  const u32 isn = line.peer->isn();
  const auto n = [](u32 value) { return std::to_string(value); };
  return s + "; flow state " + n(f.state) + " pause " + vsnoop_reason_name(f.pause) + " rcv_nxt " +
         n(f.rcv_nxt - isn) + " early_ack " + n(f.early_ack - isn) + " guest_ack " +
         n(f.guest_ack - isn) + " shown_edge " + n(f.shown_edge - isn) + " right_edge " +
         n(f.right_edge - isn) + " held " + n(f.held) + " reserved " + n(f.reserved) + " holes " +
         n(f.holes);
}

// --- the course of events ------------------------------------------------------------------------

// When the guest's virtual CPU runs next: now, or later.
u64 Stage::runs_at() const {
  const u64 run = std::max<u64>(scenario_.run_ms, 1) * 1000, wait = scenario_.wait_ms * 1000u;
  u64 at = std::max(now_, stalled_until_);
  if (const u64 phase = at % (run + wait); phase >= run) at += run + wait - phase;
  return at;
}

u64 Stage::next_event() const {
  u64 at = std::min({vsnoop_deadline(v_), quiesce_ends_, grace_ends_});
  if (!flights_.empty()) at = std::min(at, flights_.top().at);
  if (next_event_ < events_.size()) at = std::min(at, began_ + events_[next_event_]->at_us);
  if (move_by_ != never) at = std::min(at, now_ + move_poll);
  u64 guest = ring_.empty() && guest_out_.empty() ? never : now_;
  for (const Line* line : active_) {
    if (!line->started) {
      at = std::min(at, line->start_at);
    } else {
      at = std::min(at, line->peer->due());
      // An end behind a guest that forwards has a processor of its own.
      u64& due = forwards() ? at : guest;
      due = std::min(due, line->guest->due());
    }
  }
  if (!ring_up()) at = std::min(at, ring_back_);
  if (guest != never) at = std::min(at, std::max(guest, runs_at()));
  return at;
}

bool Stage::over() const {
  return std::all_of(active_.begin(), active_.end(), [](const Line* line) {
    return line->started && ended(*line->peer, *line->guest) && ended(*line->guest, *line->peer);
  });
}

// Notes what has been reached, and which lines are over.
void Stage::observe() {
  for (Line* line : active_) {
    if (!line->started) continue;
    const Tcp &peer = *line->peer, &guest = *line->guest;
    Course& c = courses_[static_cast<size_t>(line - lines_.data())];
    c.start = line->start_at;
    const u64 bytes = peer.options().bytes;
    for (u32 i = 0; i < Course::marks; ++i)
      if (c.to_guest[i] == never && guest.received() >= bytes * (i + 1) / Course::marks &&
          (i + 1 < Course::marks ? guest.received() > 0 : guest.has_fin()))
        c.to_guest[i] = now_;
    if (c.to_peer == never && peer.has_fin()) c.to_peer = now_;
    if (c.peer_over == never && peer.over()) c.peer_over = now_;
    if (c.guest_over == never && guest.over()) c.guest_over = now_;
    c.widest = std::max(c.widest, peer.window());
  }
  std::erase_if(active_, [](const Line* line) {
    return line->started && line->peer->over() && line->guest->over();
  });
}

void Stage::start_lines() {
  for (Line* line : active_) {
    if (line->started || line->start_at > now_) continue;
    line->started = true;
    line->peer->start(now_);
    line->guest->start(now_);
  }
}

void Stage::land_flights() {
  while (!flights_.empty() && flights_.top().at <= now_ && failure_.empty()) {
    const Flight flight = flights_.top();
    flights_.pop();
    switch (flight.to) {
      case Place::host:
        at_host(flight.bytes);
        break;
      case Place::peer:
        at_peer(flight.bytes);
        break;
      case Place::from_guest:
        from_guest(flight.bytes);
        break;
      case Place::guest_out:
        guest_out_.push_back(flight.bytes);
        break;
      case Place::end_beyond:
        guest_gets(flight.bytes);
    }
  }
}

std::string Stage::run() {
  const u64 limit = now_ + (scenario_.patient ? patient_limit : time_limit);
  const u64 steps = scenario_.patient ? patient_steps : most_steps;
  while (failure_.empty() && !over()) {
    const u64 next = next_event();
    if (next == never || next > limit) break;
    if (++steps_ > steps) {
      fail("does not come to an end");
      break;
    }
    if (next > now_) at_this_instant_ = 0;
    now_ = std::max(now_, next);
    while (next_event_ < events_.size() && began_ + events_[next_event_]->at_us <= now_)
      apply(*events_[next_event_++]);
    start_lines();
    land_flights();
    for (Line* line : active_) {
      if (line->started && line->peer->due() <= now_) line->peer->tick(now_);
      if (forwards() && line->started && line->guest->due() <= now_) line->guest->tick(now_);
    }
    if (quiesce_ends_ <= now_) {
      quiesce_ends_ = never;
      if (move_by_ == never) {
        note("host resume");
        vsnoop_guest_quiesce(v_, guest_id, 0, now_);
      }
    }
    if (grace_ends_ <= now_) {
      grace_ends_ = never;
      stop_guest();
    }
    if (move_by_ != never && (vsnoop_stats(v_, guest_id)->outstanding == 0 || now_ >= move_by_))
      move_guest();
    feed();
    if (runs_at() <= now_) guest_runs();
    if (vsnoop_deadline(v_) <= now_) {
      release(vsnoop_tick(v_, now_));
      emit();
    }
    feed();
    observe();
    if (steps_ % 32 == 0) check_accounts();
  }
  if (failure_.empty()) check_end();
  collect();
  return failure_;
}

void Stage::collect() {
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  totals_.early_acks += s.early_acks;
  totals_.promised += s.promised_bytes;
  totals_.redelivered += s.redelivered_frames;
  for (size_t i = 0; i < VSNOOP_REASONS; ++i) totals_.reasons[i] += s.reasons[i];
}

void Stage::apply(const Fault& fault) {
  Line& line = lines_[fault.at % lines_.size()];
  const u64 ms = fault.size * 1000u;
  switch (fault.kind) {
    case FaultKind::decline:
      to_decline_ += fault.size;
      break;
    case FaultKind::lose_ring:
      lose_ring();
      ring_back_ = std::max(ring_back_, now_ + ms);
      if (ms > grace_us) {
        grace_ends_ = std::min(grace_ends_, now_ + grace_us);
      }
      break;
    case FaultKind::quiesce:
      note("host quiesce");
      vsnoop_guest_quiesce(v_, guest_id, 1, now_);
      quiesce_ends_ = now_ + ms;
      break;
    case FaultKind::migrate:
      if (move_by_ != never) break;
      note("host quiesce");
      vsnoop_guest_quiesce(v_, guest_id, 1, now_);
      move_by_ = now_ + ms;
      break;
    case FaultKind::stall:
      stalled_until_ = std::max(stalled_until_, now_ + ms);
      break;
    case FaultKind::pause_reading:
      line.guest->pause_reading(now_ + ms);
      break;
    case FaultKind::shrink:
      line.guest->shrink(std::max<u32>(fault.size * 64u, 2000));
      break;
    case FaultKind::refuse:
      line.guest->refuse(fault.size);
      break;
    case FaultKind::firewall:
      firewall_until_ = std::max(firewall_until_, now_ + ms);
      break;
    case FaultKind::renege:
      line.guest->renege();
      break;
    case FaultKind::old_ack:
      line.guest->repeat_old_ack(now_);
      break;
    case FaultKind::keep_alive:
      line.guest->send_keep_alive(now_);
      break;
    case FaultKind::lie_little:
      line.harmed = line.lies = !play_.strict;
      line.guest->lie(fault.size, now_);
      break;
    case FaultKind::lie_far:
      line.harmed = line.lies = !play_.strict;
      line.guest->lie(200000 + fault.size, now_);
      break;
    case FaultKind::close:
      line.harmed = true;
      line.guest->close(now_);
      break;
    case FaultKind::abort:
      line.harmed = true;
      line.guest->abort(now_);
      break;
    case FaultKind::restart:
      for (Line& one : lines_) {
        one.harmed = true;
        one.guest->forget();
      }
      lose_ring();
      ring_back_ = std::max(ring_back_, now_ + ms);
      if (ms > grace_us) grace_ends_ = std::min(grace_ends_, now_ + grace_us);
      break;
    case FaultKind::peer_abort:
      line.harmed = true;
      line.peer->abort(now_);
      break;
    case FaultKind::peer_vanishes:
      line.harmed = true;
      line.peer->vanish();
      break;
    default:
      break;  // the network's
  }
}

void Stage::apply(const Event& event) {
  note(std::string("// ") + name_of(event.kind));
  const u64 until = now_ + event.size * 1000ull;
  Line& line = lines_[event.stream % lines_.size()];
  if (!line.peer) return;
  switch (event.kind) {
    case FaultKind::stall:
      stalled_until_ = std::max(stalled_until_, until);
      return;
    case FaultKind::deaf:
      deaf_until_ = std::max(deaf_until_, until);
      return;
    case FaultKind::firewall:
      firewall_until_ = std::max(firewall_until_, until);
      return;
    case FaultKind::pause_reading:
      line.guest->pause_reading(until);
      return;
    case FaultKind::guest_vanishes:
      line.harmed = true;
      line.guest->vanish();
      return;
    case FaultKind::reborn:
      return open_again(line, event.size);
    case FaultKind::ring_gone:
      lose_ring();
      ring_back_ = std::max(ring_back_, until);
      grace_ends_ = std::min(grace_ends_, now_ + grace_us);
      return;
    default:
      apply(Fault{event.kind, event.stream, static_cast<uint16_t>(event.size)});
  }
}

// The peer has died, and opens the same tuple again, from a greater sequence number (RFC 6056).
void Stage::open_again(Line& line, u32 size) {
  if (!line.started || !line.peer->options().opens || line.peer->over()) return;
  line.reborn = line.harmed = true;
  TcpOptions o = line.peer->options();
  o.isn += 5000000 + size * 1000;
  line.peer = make_peer(line, o);
  line.start_at = now_;
  courses_[static_cast<size_t>(&line - lines_.data())] = Course();
  line.peer->start(now_);
}

// --- the network ---------------------------------------------------------------------------------

// By what the frame says, not by how many came before it: the same in two runs.
u64 Stage::delay_of(const Bytes& bytes, bool to_peer) {
  u32 says = 0;
  if (!too_big(bytes)) {
    const Segment s = parse(bytes);
    const Line& line = *line_of(s.connection);
    says = to_peer ? s.ack - line.peer->isn() : s.seq - line.peer->isn() + s.length;
  }
  return 700 + 997 * (says * 2654435761u >> 16) % 7;
}

// What the scenario's events do to a frame of the network. Returns false if it is lost.
bool Stage::struck(const Bytes& bytes, bool to_peer, u64& at, unsigned& copies, Bytes& frame) {
  const u64 since = now_ - began_;
  for (size_t i = 0; i < hits_.size(); ++i) {
    const Event& event = scenario_.events[i];
    if (!of_network(event.kind) || towards_peer(event.kind) != to_peer) continue;
    if (event.kind == FaultKind::lose_to_guest || event.kind == FaultKind::corrupt_to_guest) {
      const Segment s = parse(bytes);
      Line* line = line_of(s.connection);
      if (line != &lines_[event.stream % lines_.size()] || hits_[i] >= event.size) continue;
      const u32 begin = s.seq - line->peer->isn();
      if (event.offset < begin || event.offset >= begin + s.length + s.has(FIN) + s.has(SYN))
        continue;
      ++hits_[i], ++lost_;
      if (event.kind == FaultKind::lose_to_guest) return false;
      frame = bytes;
      frame.back() ^= 1;
      continue;
    }
    if (since < event.at_us || since >= event.at_us + event.size * 1000ull) continue;
    switch (event.kind) {
      case FaultKind::lose_to_peer:
      case FaultKind::corrupt_to_peer:
        ++lost_;
        return false;
      case FaultKind::repeat_to_guest:
      case FaultKind::repeat_to_peer:
        copies = 2;
        break;
      default:
        at += delay_of(bytes, to_peer);
    }
  }
  return true;
}

void Stage::send(const Bytes& bytes, bool to_peer) {
  const u32 number = to_peer ? frames_to_peer_++ : frames_to_guest_++;
  u64 at = now_ + scenario_.rtt_ms * 500u + 1;
  unsigned copies = 1;
  Bytes frame = bytes;
  if (!struck(bytes, to_peer, at, copies, frame)) return;
  for (const Spell& spell : spells_) {
    if (towards_peer(spell.kind) != to_peer || number < spell.begin || number >= spell.end)
      continue;
    switch (spell.kind) {
      case FaultKind::lose_to_guest:
      case FaultKind::lose_to_peer:
        ++lost_;
        return;
      case FaultKind::repeat_to_guest:
      case FaultKind::repeat_to_peer:
        copies = 2;
        break;
      case FaultKind::delay_to_guest:
      case FaultKind::delay_to_peer:
        at += 700 + 997 * (number % 7);
        break;
      default: {
        // One bit, anywhere behind the Ethernet header: checksums always see it.
        const size_t bit = 14 * 8 + (number * 7919u) % ((frame.size() - 14) * 8);
        frame[bit / 8] ^= static_cast<u8>(1 << bit % 8);
        ++lost_;
      }
    }
  }
  for (unsigned i = 0; i < copies; ++i)
    flights_.push({at + i * 300, order_++, frame, to_peer ? Place::peer : Place::host});
}

void Stage::at_peer(const Bytes& bytes) {
  if (!checksums_right(bytes)) return;
  if (const auto icmp = too_big(bytes)) {
    if (Line* line = line_of(icmp->connection); line && line->started)
      line->peer->too_big(icmp->seq, icmp->mtu, now_);
    return;
  }
  const Segment s = parse(bytes);
  Line* line = line_of(s.connection);
  if (!line || !line->started) return;
  const u32 una = line->peer->una();
  line->peer->get(bytes, s, now_);
  if (line->peer->una() != una) line->moved_at = now_;
}

Stage::Line* Stage::line_of(u32 connection) {
  const auto found = index_.find(connection);
  return found == index_.end() ? nullptr : &lines_[found->second];
}

}  // namespace vsnoop_oracle
