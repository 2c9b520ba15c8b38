// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/stage.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace vsnoop_oracle {
namespace {

constexpr u32 peer_clock = 0xfffffff0, guest_clock = 0x7ffffff0;
constexpr u64 time_limit = 900u * 1000000u;  // virtual; nothing may hang longer
constexpr u64 patience = 100u * 1000000u;    // without progress of the peer
constexpr u64 grace = 300000;
constexpr u64 move_poll = 5000;
constexpr u16 guest_id = 0;
constexpr u32 liveness_us = 500000, giveup_us = 20000000, promise_age_us = 120000000;

const char* const kind_names[] = {
    "lose_to_guest", "repeat_to_guest", "delay_to_guest", "corrupt_to_guest",
    "lose_to_peer",  "repeat_to_peer",  "delay_to_peer",  "corrupt_to_peer",
    "decline",       "lose_ring",       "quiesce",        "migrate",
    "stall",         "pause_reading",   "shrink",         "refuse",
    "firewall",      "renege",          "old_ack",        "keep_alive",
    "lie_little",    "lie_far",         "close",          "abort",
    "restart",       "peer_abort",      "peer_vanishes"};
static_assert(std::size(kind_names) == static_cast<size_t>(FaultKind::kinds));

bool towards_peer(FaultKind kind) {
  return kind >= FaultKind::lose_to_peer && kind <= FaultKind::corrupt_to_peer;
}

// One that listens may do so for ever when the other has given up.
bool ended(const Tcp& one, const Tcp& other) {
  return one.over() || (one.state() == Tcp::listening && other.over());
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
        << (stream.probes_with_data ? ", probes with data" : "");
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

Stage::Stage(const Scenario& scenario, bool traced, bool strict)
    : scenario_(scenario), traced_(traced), strict_(strict) {
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
  set("liveness_us", liveness_us), set("giveup_us", giveup_us);
  set("promise_age_us", promise_age_us);
  lines_.resize(scenario.streams.size());
  for (u32 i = 0; i < lines_.size(); ++i) {
    const Stream& stream = scenario.streams[i];
    Line& line = lines_[i];
    TcpOptions peer;
    peer.connection = i;
    peer.is_peer = true;
    peer.opens = !stream.guest_opens;
    peer.isn = stream.peer_isn;
    peer.clock = peer_clock;
    peer.ts = scenario.ts, peer.sack = scenario.sack, peer.scale = scenario.scale;
    peer.mss = scenario.mss, peer.gro = scenario.gro;
    peer.bytes = stream.to_guest;
    peer.buffer = 60000;
    peer.closing = static_cast<Closing>(stream.closing % 2);
    peer.probes_with_data = stream.probes_with_data;
    TcpOptions guest = peer;
    guest.is_peer = false;
    guest.opens = stream.guest_opens;
    guest.isn = stream.guest_isn;
    guest.clock = guest_clock;
    guest.bytes = stream.to_peer;
    guest.buffer = stream.buffer;
    guest.gro = 1;
    // Most guests answer a FIN; data for one that has closed is not promised (G8).
    guest.closing = stream.closing == 11   ? Closing::with_data
                    : stream.closing == 10 ? Closing::when_acknowledged
                                           : Closing::after_other;
    guest.keep_alive_us = 11000000;
    line.start_at = now_ + stream.start_ms * 1000u;
    line.peer = std::make_unique<Tcp>(
        peer,
        [this, &line](const Segment& s, u32 first) {
          (void)line;
          send(build(s, true, first), false);
        },
        [this, &line](const std::string& what) {
          if (!line.lies) fail("the peer " + what + ": " + describe(line));
        });
    line.guest = std::make_unique<Tcp>(
        guest, [this, &line](const Segment& s, u32 first) { from_guest(line, s, first); },
        [this, &line](const std::string& what) {
          fail("the guest " + what + ": " + describe(line));
        });
  }
  for (const Fault& fault : scenario.faults)
    if (fault.kind <= FaultKind::corrupt_to_peer)
      spells_.push_back({fault.kind, fault.at, fault.at + std::max<u32>(fault.size, 1)});
}

Stage::~Stage() {
  for (const auto& [held, frame] : live_) delete frame;
}

void Stage::create_engine() {
  vsnoop_config config;
  vsnoop_defaults(&config);
  config.flows = 8;
  config.custodies = std::max<u32>(scenario_.custodies, 1);
  config.guests = 1;
  config.budget = scenario_.total_budget;
  config.idle_s = 300;
  config.seed[0] = 1, config.seed[1] = 2;
  memory_.resize(vsnoop_memory_needed(&config));
  v_ = vsnoop_create(memory_.data(), memory_.size(), &config);
  vsnoop_guest_config guest;
  vsnoop_guest_defaults(&guest);
  guest.engage = scenario_.engage_auto ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
  guest.early_sack = scenario_.early_sack;
  guest.budget = scenario_.budget;
  guest.flow_budget = scenario_.flow_budget;
  guest.liveness_us = liveness_us;
  guest.giveup_us = giveup_us;
  guest.promise_age_us = promise_age_us;
  vsnoop_guest_open(v_, guest_id, &guest, now_);
}

void Stage::fail(const std::string& what) {
  if (!failure_.empty()) return;
  failure_ = what + " (at " + std::to_string(now_) + " us, step " + std::to_string(steps_) + ")";
  note("// FAILED: " + what);
}

void Stage::note(const std::string& line) {
  if (!traced_) return;
  char time[32];
  std::snprintf(time, sizeof time, "%llu.%06llu ", static_cast<unsigned long long>(now_ / 1000000),
                static_cast<unsigned long long>(now_ % 1000000));
  script_.push_back(time + line);
}

std::string Stage::text(const Line& line, const Segment& s, bool from_peer) const {
  const u32 peer = line.peer->isn(), guest = line.guest->isn();
  std::string t = from_peer ? vsnoop_oracle::text(s, peer, guest, peer_clock, guest_clock)
                            : vsnoop_oracle::text(s, guest, peer, guest_clock, peer_clock);
  if (lines_.size() > 1) t = "#" + std::to_string(s.connection) + " " + t;
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
  if (move_by_ != never) at = std::min(at, now_ + move_poll);
  u64 guest = ring_.empty() ? never : now_;
  for (const Line& line : lines_) {
    if (!line.started) {
      at = std::min(at, line.start_at);
    } else {
      at = std::min(at, line.peer->due());
      guest = std::min(guest, line.guest->due());
    }
  }
  if (!ring_up()) at = std::min(at, ring_back_);
  if (guest != never) at = std::min(at, std::max(guest, runs_at()));
  return at;
}

bool Stage::over() const {
  for (const Line& line : lines_)
    if (!line.started || !ended(*line.peer, *line.guest) || !ended(*line.guest, *line.peer))
      return false;
  return true;
}

std::string Stage::run() {
  const u64 limit = now_ + time_limit;
  while (failure_.empty() && !over()) {
    const u64 next = next_event();
    if (next == never || next > limit) break;
    if (++steps_ > 400000) {
      fail("does not come to an end");
      break;
    }
    now_ = std::max(now_, next);
    for (Line& line : lines_) {
      if (line.started || line.start_at > now_) continue;
      line.started = true;
      line.peer->start(now_);
      line.guest->start(now_);
    }
    while (!flights_.empty() && flights_.top().at <= now_ && failure_.empty()) {
      const Flight flight = flights_.top();
      flights_.pop();
      if (flight.to_peer)
        at_peer(flight.bytes);
      else
        at_host(flight.bytes);
    }
    for (Line& line : lines_)
      if (line.started && line.peer->due() <= now_) line.peer->tick(now_);
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
      if (ms > grace) {
        grace_ends_ = std::min(grace_ends_, now_ + grace);
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
      line.harmed = line.lies = !strict_;
      line.guest->lie(fault.size, now_);
      break;
    case FaultKind::lie_far:
      line.harmed = line.lies = !strict_;
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
      if (ms > grace) grace_ends_ = std::min(grace_ends_, now_ + grace);
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

// --- the network ---------------------------------------------------------------------------------

void Stage::send(const Bytes& bytes, bool to_peer) {
  const u32 number = to_peer ? frames_to_peer_++ : frames_to_guest_++;
  u64 at = now_ + scenario_.rtt_ms * 500u + 1;
  unsigned copies = 1;
  Bytes frame = bytes;
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
  for (unsigned i = 0; i < copies; ++i) flights_.push({at + i * 300, order_++, frame, to_peer});
}

void Stage::at_peer(const Bytes& bytes) {
  if (!checksums_right(bytes)) return;
  const Segment s = parse(bytes);
  Line& line = lines_[s.connection];
  if (!line.started) return;
  const u32 una = line.peer->una();
  line.peer->get(bytes, s, now_);
  if (line.peer->una() != una) line.moved_at = now_;
}

// --- the host ------------------------------------------------------------------------------------

void Stage::at_host(const Bytes& bytes) {
  const u64 arrived = totals_.frames++;
  for (const Fault& fault : scenario_.faults)
    if (fault.at == arrived && fault.kind > FaultKind::corrupt_to_peer) apply(fault);

  const bool right = checksums_right(bytes);
  const Segment s = right ? parse(bytes) : Segment();
  Line& line = lines_[s.connection];
  // What it costs grows by powers of two, as the kernel's allocations do.
  u32 memory = 512;
  while (memory < bytes.size() + 300) memory *= 2;
  const vsnoop_frame frame = {bytes.data(), static_cast<u32>(bytes.size()),
                              static_cast<u32>(bytes.size()), memory, VSNOOP_CHECKSUM_UNKNOWN};
  vsnoop_flow_info before;
  const bool untouched = vsnoop_flow(v_, line.ref, &before) && !line.touched;
  const vsnoop_verdict verdict = vsnoop_from_peer(v_, guest_id, &frame, now_);
  if (traced_) {
    static const char* const actions[] = {"PASS", "PUSH", "KEEP", "EDIT", "DROP"};
    note("< " + (right ? text(line, s, true) : std::string("corrupt")) + "  // " +
         actions[verdict.action] + " " + vsnoop_reason_name(verdict.reason));
  }
  if (!right && verdict.action != VSNOOP_PASS && verdict.action != VSNOOP_DROP &&
      (verdict.flags || verdict.retain))
    fail("a corrupt frame may be promised for");
  if (right && verdict.flow.slot != 0xffffffff) line.ref = verdict.flow;
  release(verdict.released);
  u8 action = verdict.action;
  if (action == VSNOOP_KEEP) {
    if (to_decline_) {
      --to_decline_;
      action = vsnoop_declined(v_, &verdict, now_);
      note("host declines // " + std::string(action == VSNOOP_PASS ? "PASS" : "DROP"));
    } else {
      auto* h = new HostFrame{{},    bytes,    (memory + 255) / 256 * 256, s.connection,
                              s.seq, s.length, verdict.retain != 0,        false};
      if (vsnoop_taken(v_, &verdict, &h->held, now_)) {
        live_.emplace(&h->held, h);
      } else {
        delete h;
        action = vsnoop_declined(v_, &verdict, now_);
        note("host declines // not taken");
      }
    }
  }
  // I5. What waits in front of it may leave no room for it; then it would not find any in the ring.
  if (right && untouched && verdict.action == VSNOOP_DROP && !line.touched) {
    check(line);
    const bool behind = std::any_of(live_.begin(), live_.end(), [&](const auto& entry) {
      return entry.second->connection == s.connection;
    });
    if (!line.touched && !behind) fail("I5: dropped: " + text(line, s, true));
  }
  if (action == VSNOOP_PASS && ring_up() && ring_.size() < scenario_.ring) {
    note("host push");
    ring_.push_back({bytes, nullptr});
  } else if (action == VSNOOP_PASS) {
    ++lost_;
  }
  emit();
  feed();
  if (right) check(line);
}

void Stage::release(vsnoop_held* list) {
  while (list) {
    vsnoop_held* next = list->next;
    free_frame(list);
    list = next;
  }
}

void Stage::free_frame(vsnoop_held* held) {
  const auto found = live_.find(held);
  if (found == live_.end()) return fail("a frame is freed that the engine does not have");
  if (found->second->in_ring) fail("a frame is freed in the ring");
  delete found->second;
  live_.erase(found);
}

void Stage::feed() {
  vsnoop_feed feed;
  while (failure_.empty() && ring_up() && ring_.size() < scenario_.ring &&
         vsnoop_next(v_, guest_id, &feed, now_)) {
    const auto found = live_.find(feed.held);
    if (found == live_.end()) return fail("next() names a frame that the engine does not have");
    HostFrame& h = *found->second;
    note(feed.discard ? "host feed // discarded" : feed.again ? "host feed // again" : "host feed");
    if (!feed.discard) {
      if (h.in_ring) return fail("a frame enters the ring that is in it");
      Bytes copy = h.bytes;
      if (vsnoop_apply_edit(copy.data(), static_cast<u32>(copy.size()), &feed.edit, 0))
        return fail("an edit is refused");
      if (feed.skip || feed.keep != h.length) {
        if (!feed.keep) return fail("a frame is cut to nothing");
        const u32 n =
            vsnoop_trim(copy.data(), static_cast<u32>(copy.size()), feed.skip, feed.keep, 0);
        if (!n) return fail("a cut is refused");
        copy.resize(n);
      }
      if (checksums_right(h.bytes) && !checksums_right(copy))
        return fail("a wrong checksum enters the ring");
      h.in_ring = feed.retain;
      ring_.push_back({std::move(copy), feed.retain ? &h : nullptr});
    }
    vsnoop_fed(v_, guest_id, &feed, now_);
    if (feed.discard || !feed.retain) free_frame(feed.held);
  }
  emit();
}

void Stage::lose_ring() {
  note("host loses ring");
  while (!ring_.empty()) {
    const RingEntry entry = ring_.back();
    ring_.pop_back();
    if (!entry.frame) continue;
    entry.frame->in_ring = false;
    vsnoop_returned(v_, &entry.frame->held, now_);
  }
}

// The guest cannot come back to this backend.
void Stage::stop_guest() {
  note("host stop");
  lose_ring();
  for (Line& line : lines_) {
    vsnoop_flow_info f;
    if (vsnoop_flow(v_, line.ref, &f) && f.early_ack != f.guest_ack) line.stopped = true;
  }
  release(vsnoop_guest_stop(v_, guest_id, now_));
  discard();
  emit();
}

// Frames that came back out of a ring after their flow had ended.
void Stage::discard() {
  vsnoop_feed feed;
  while (failure_.empty() && vsnoop_next(v_, guest_id, &feed, now_)) {
    if (!feed.discard) return fail("a frame waits for a stopped guest");
    vsnoop_fed(v_, guest_id, &feed, now_);
    free_frame(feed.held);
  }
}

// Live migration: the guest goes on elsewhere, where nobody knows its connections.
void Stage::move_guest() {
  ++totals_.migrations;
  const bool drained = vsnoop_stats(v_, guest_id)->outstanding == 0;
  move_by_ = never;
  stop_guest();
  if (!live_.empty()) fail("frames are left when the guest has moved");
  (void)drained;
  collect();
  create_engine();
  quiesce_ends_ = never;
  for (Line& line : lines_) {
    line.ref = {0xffffffff, 0, 0};
    line.touched = line.shown = false;
    line.sacked.clear();
  }
  ring_back_ = std::max(ring_back_, now_ + 20000);
}

void Stage::emit() {
  u8 buffer[VSNOOP_EMIT_MAX];
  vsnoop_emission e;
  while (failure_.empty() && vsnoop_emit(v_, &e, buffer, now_)) {
    const Bytes f(buffer, buffer + e.length);
    if (!checksums_right(f)) return fail("emitted with a wrong checksum");
    const Segment s = parse(f);
    Line& line = lines_[s.connection];
    if (traced_)
      note((e.to_guest ? "vsnoop< " : "vsnoop> ") + text(line, s, e.to_guest) + "  // " +
           vsnoop_reason_name(e.reason));
    if (s.has(RST)) {
      ++totals_.resets;
      line.stopped = true;
      if (e.to_guest) {
        if (ring_up() && ring_.size() < scenario_.ring) ring_.push_back({f, nullptr});
      } else {
        send(f, true);
      }
      continue;
    }
    if (e.to_guest) return fail("vsnoop sends the guest something else than a reset");
    for (const Range& block : s.sack)
      if (distance(block.second, s.ack) > 0) line.sacked.push_back(block);
    line.touched = true;
    leaves(line, s, true);
    send(f, true);
  }
}

// I4 and P4, in the order in which frames leave the host.
void Stage::leaves(Line& line, const Segment& s, bool by_vsnoop) {
  if (s.has(RST) || s.has(SYN) || !s.has(ACK) || line.lies) return;
  const u32 isn = line.peer->isn();
  const u32 shift = scenario_.scale < 0 ? 0 : static_cast<u32>(scenario_.scale);
  const u32 ack = s.ack - isn, edge = ack + (static_cast<u32>(s.window) << shift);
  if (line.touched && line.shown) {
    if (distance(ack, line.shown_ack) < 0)
      fail("I4: the ACK number moves left from " + std::to_string(line.shown_ack) + ": " +
           text(line, s, false));
    if (distance(edge + (1u << shift), line.shown_edge) <= 0)
      fail("I4: the right edge moves left from " + std::to_string(line.shown_edge) + ": " +
           text(line, s, false));
  }
  for (const auto& [left, right] : line.sacked)
    if (distance(s.ack, left) >= 0 && distance(s.ack, right) < 0)
      fail("P4: the ACK stops at or inside a range that vsnoop SACKed: " + text(line, s, false));
  if (by_vsnoop && distance(ack, line.peer->una()) < 0) return;  // late, but never wrong
  line.shown_ack = line.shown ? std::max(line.shown_ack, ack) : ack;
  line.shown_edge = line.shown ? std::max(line.shown_edge, edge) : edge;
  line.shown = true;
}

// --- the guest -----------------------------------------------------------------------------------

void Stage::from_guest(Line& line, const Segment& segment, u32 first) {
  if (!ring_up()) return;
  Bytes bytes = build(segment, false, first);
  const vsnoop_frame frame = {bytes.data(), static_cast<u32>(bytes.size()),
                              static_cast<u32>(bytes.size()), 0, VSNOOP_CHECKSUM_UNKNOWN};
  vsnoop_flow_info before;
  const bool tracked = vsnoop_flow(v_, line.ref, &before);
  if (tracked && (before.early_ack != before.guest_ack || before.shown_edge != before.right_edge))
    line.touched = true;
  const bool untouched = !line.touched;
  const vsnoop_verdict verdict = vsnoop_from_guest(v_, guest_id, &frame, now_);
  if (traced_) {
    static const char* const actions[] = {"PASS", "PUSH", "KEEP", "EDIT", "DROP"};
    note("> " + text(line, segment, false) + "  // " + actions[verdict.action] + " " +
         vsnoop_reason_name(verdict.reason));
  }
  if (verdict.flow.slot != 0xffffffff) line.ref = verdict.flow;
  release(verdict.released);
  if (verdict.action == VSNOOP_EDIT &&
      vsnoop_apply_edit(bytes.data(), static_cast<u32>(bytes.size()), &verdict.edit, 0))
    fail("an edit is refused");
  if (verdict.action == VSNOOP_DROP && untouched && !line.stopped)
    fail("I5: a guest's segment is dropped on a flow that never promised: " +
         text(line, segment, false));
  if (verdict.action == VSNOOP_EDIT && untouched) {
    vsnoop_flow_info f;
    if (vsnoop_flow(v_, line.ref, &f) && f.early_ack == f.guest_ack && f.shown_edge == f.right_edge)
      fail("I5: a guest's segment is changed on a flow that never promised: " +
           text(line, segment, false));
  }
  if (verdict.action == VSNOOP_PASS || verdict.action == VSNOOP_EDIT) {
    if (!checksums_right(bytes)) fail("a guest's segment leaves with a wrong checksum");
    const Segment out = parse(bytes);
    vsnoop_flow_info f;
    if (vsnoop_flow(v_, line.ref, &f)) leaves(line, out, false);
    if (traced_ && verdict.action == VSNOOP_EDIT) note("// seen as " + text(line, out, false));
    send(bytes, true);
  }
  emit();
  check(line);
}

void Stage::guest_runs() {
  std::vector<vsnoop_held*> late;
  const auto consumed = [&](vsnoop_held* held) {
    note("host consumed");
    if (vsnoop_consumed(v_, held, now_)) free_frame(held);
  };
  while (!ring_.empty() && failure_.empty()) {
    RingEntry entry = std::move(ring_.front());
    ring_.pop_front();
    if (entry.frame) {
      entry.frame->in_ring = false;
      if (scenario_.late_reports)
        late.push_back(&entry.frame->held);
      else
        consumed(&entry.frame->held);
    } else {
      note("host progress");
      vsnoop_progress(v_, guest_id, 0, now_);
    }
    if (!checksums_right(entry.bytes)) continue;
    const Segment s = parse(entry.bytes);
    Line& line = lines_[s.connection];
    if (now_ < firewall_until_ && s.length) continue;
    if (line.started) line.guest->get(entry.bytes, s, now_);
    emit();
    if (ring_.empty()) {
      for (vsnoop_held* held : late) consumed(held);
      late.clear();
      feed();
    }
  }
  for (vsnoop_held* held : late) consumed(held);
  for (Line& line : lines_)
    if (line.started && line.guest->due() <= now_) line.guest->tick(now_);
  emit();
}

// --- what must hold ------------------------------------------------------------------------------

void Stage::check(Line& line) {
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  if (s.held > scenario_.budget)
    fail("I7: held " + std::to_string(s.held) + " of " + std::to_string(scenario_.budget));
  if (s.used - s.held > scenario_.budget) fail("I2b: reserved more than the budget");
  if (scenario_.total_budget && s.held > scenario_.total_budget)
    fail("I7: held more than there is over all guests");
  vsnoop_flow_info f;
  if (!vsnoop_flow(v_, line.ref, &f)) return;
  if (f.state == VSNOOP_FLOW_STOPPED) {
    line.stopped = true;
    return;
  }
  if (f.early_ack != f.guest_ack || f.shown_edge != f.right_edge) line.touched = true;
  const auto ordered = [&](u32 a, u32 b, const char* what) {
    if (distance(a, b) > 0) fail(std::string(what) + " is broken: " + describe(line));
  };
  ordered(f.early_ack, f.rcv_nxt, "I1 early_ack <= rcv_nxt");
  ordered(f.early_ack, f.right_edge, "I2 early_ack <= right_edge");
  ordered(f.early_ack, f.shown_edge, "early_ack <= shown_edge");
  ordered(f.shown_edge, f.right_edge, "I2b shown_edge <= right_edge");
  ordered(f.guest_ack, f.early_ack, "guest_ack <= early_ack");
  if (scenario_.flow_budget &&
      (f.held > scenario_.flow_budget || f.reserved > scenario_.flow_budget))
    fail("I7: a flow has more than its share: " + describe(line));
  // What is promised lies in what the peer has sent.
  if (!line.lies && distance(f.early_ack, f.peer_nxt) > 0)
    fail("promised what the peer never sent: " + describe(line));
  if (f.early_ack != f.guest_ack && (steps_ % 4 == 0 || traced_)) check_custody(line, f);
  // I2b: what is shown beyond the first 64 KiB is reserved, at a byte of memory a byte at least;
  // but for what was lent to others while the connection was at rest.
  if (line.spoke_at && now_ - line.spoke_at > 250000) line.rested = true;
  line.spoke_at = now_;
  const u32 from = distance(f.rcv_nxt, f.guest_ack + 65536) > 0 ? f.rcv_nxt : f.guest_ack + 65536;
  const u32 needed = distance(f.shown_edge, from) > 0 ? f.shown_edge - from : 0;
  if (f.reserved >= f.shown_edge - f.rcv_nxt) line.rested = false;
  if (f.reserved < needed && !line.rested && !line.lies)
    fail("I2b: shown beyond what is reserved: " + describe(line));
}

// I3: every promised byte is in custody.
void Stage::check_custody(const Line& line, const vsnoop_flow_info& f) {
  const u32 isn = line.peer->isn();
  std::vector<Range> have;
  for (const auto& [held, h] : live_)
    if (h->connection == line.peer->options().connection && h->retain)
      have.push_back({h->seq - isn, h->seq - isn + h->length});
  std::sort(have.begin(), have.end());
  u32 at = f.guest_ack - isn;
  for (const auto& [begin, end] : have)
    if (begin <= at && end > at) at = end;
  if (at < f.early_ack - isn)
    fail("I3: byte " + std::to_string(at) + " was promised and is not held: " + describe(line));
}

void Stage::check_accounts() {
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  u64 held = 0, reserved = 0, outstanding = 0;
  for (const auto& [key, h] : live_) held += h->memory;
  u32 cursor = 0;
  vsnoop_flow_info f;
  while (vsnoop_flow_next(v_, &cursor, &f))
    reserved += f.reserved, outstanding += f.early_ack - f.guest_ack;
  if (s.held != held)
    fail("accounts: held " + std::to_string(s.held) + ", frames cost " + std::to_string(held));
  if (s.used != held + reserved)
    fail("accounts: used " + std::to_string(s.used) + " is not held " + std::to_string(held) +
         " + reserved " + std::to_string(reserved));
  if (s.outstanding != outstanding)
    fail("accounts: outstanding " + std::to_string(s.outstanding) + ", flows say " +
         std::to_string(outstanding));
}

void Stage::check_end() {
  bool hurt = false;  // by something that breaks connections by itself
  for (const Fault& fault : scenario_.faults)
    hurt |= fault.kind == FaultKind::migrate || fault.kind == FaultKind::restart ||
            (fault.kind == FaultKind::lose_ring && fault.size * 1000u > grace);
  for (Line& line : lines_) {
    ++totals_.connections;
    const Tcp &peer = *line.peer, &guest = *line.guest;
    totals_.finished += peer.state() == Tcp::finished;
    const u32 sent = peer.options().bytes;
    if (line.lies) continue;                                               // it has itself to blame
    if (!ended(peer, guest) && now_ - line.moved_at < patience) continue;  // slow, no more
    if (!ended(peer, guest)) fail("the peer hangs: " + describe(line));
    // A guest that waits for a peer that is gone is no fault of vsnoop's: it asks (keep-alive).
    if (!ended(guest, peer)) fail("the guest hangs: " + describe(line));
    if (guest.received() > sent) fail("the guest gets more than was sent: " + describe(line));
    // A promise is what the peer took off its list; FIN counts as one.
    if (peer.state() == Tcp::finished && (!guest.has_fin() || guest.received() != sent))
      fail("the peer finished and the guest lacks bytes: " + describe(line));
    const bool alive = guest.state() != Tcp::gone && guest.state() != Tcp::aborted;
    if (alive && distance(peer.una(), guest.rcv_nxt()) > 0 && peer.state() != Tcp::reset &&
        peer.state() != Tcp::aborted && peer.state() != Tcp::gone && !line.stopped)
      fail("a byte was acknowledged, never arrived, and nobody was shown a reset: " +
           describe(line));
    if (line.harmed || hurt) continue;
    if (line.stopped) fail("fail-stop without need: " + describe(line));
    const bool cut_off =
        lost_ >= 5 && (peer.state() == Tcp::timed_out || guest.state() == Tcp::timed_out);
    if (!cut_off && (peer.state() != Tcp::finished || guest.state() != Tcp::finished))
      fail("not finished: " + describe(line));
  }
  if (!failure_.empty()) return;
  check_accounts();
  // What the guest still has to take, it takes; then nothing is left.
  release(vsnoop_guest_stop(v_, guest_id, now_));
  while (!ring_.empty()) {
    const RingEntry entry = ring_.front();
    ring_.pop_front();
    if (!entry.frame) continue;
    entry.frame->in_ring = false;
    if (vsnoop_consumed(v_, &entry.frame->held, now_)) free_frame(&entry.frame->held);
  }
  release(vsnoop_tick(v_, now_));
  discard();
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  if (!live_.empty()) fail(std::to_string(live_.size()) + " frames were never freed");
  if (s.used || s.held || s.outstanding || s.flows_outstanding)
    fail("accounts are open at the end: used " + std::to_string(s.used) + " held " +
         std::to_string(s.held) + " outstanding " + std::to_string(s.outstanding));
}

}  // namespace vsnoop_oracle
