// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/stage.h"

#include <algorithm>

namespace vsnoop_oracle {
namespace {

constexpr u64 patience = 100u * 1000000u;  // without progress of the peer
constexpr u32 most_again = 2;              // times that a frame goes again at one instant
constexpr u32 most_said = 50;              // frames of vsnoop's that nobody asked for ...
constexpr u64 said_us = 100000;            // ... in so long, without progress
constexpr u64 long_us = 10000000000;       // what is left after so long stays for ever

}  // namespace

// --- what must hold ------------------------------------------------------------------------------

void Stage::check(Line& line) {
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  if (s.held > scenario_.budget)
    fail("I7: held " + std::to_string(s.held) + " of " + std::to_string(scenario_.budget));
  if (s.used - s.held > scenario_.budget) fail("I2b: reserved more than the budget");
  if (scenario_.total_budget && s.held > scenario_.total_budget)
    fail("I7: held more than there is over all guests");
  vsnoop_flow_info f;
  if (line.reborn || !vsnoop_flow(v_, line.ref, &f)) return;
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
  if (f.early_ack != f.guest_ack && (steps_ % 4 == 0 || play_.traced)) check_custody(line, f);
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
  if (const char* wrong = vsnoop_audit(v_)) fail(std::string("accounts: ") + wrong);
}

// No two frames of vsnoop's answer each other: neither a re-delivery the guest's answer to it
// (pieces of a frame count each for itself) ...
void Stage::check_again(HostFrame& h, u32 skip) {
  const Line& line = *line_of(h.connection);
  const u32 ack = line.guest->rcv_nxt();
  if (h.again_at != now_ || h.again_ack != ack) h.agains = 0, h.again_skip = skip;
  h.again_at = now_, h.again_ack = ack;
  if (skip == h.again_skip && ++h.agains > most_again)
    fail("answers itself: a frame is delivered again and again at one instant: " + describe(line));
}

// ... nor a frame to the peer the peer's.
void Stage::check_said(Line& line) {
  vsnoop_flow_info f = {};
  vsnoop_flow(v_, line.ref, &f);
  u32 progress = 0;
  for (u32 n : {line.peer->una(), line.guest->rcv_nxt(), f.early_ack, f.shown_edge, f.rcv_nxt,
                f.guest_snd_nxt, u32(f.holes)})
    progress = progress * 31 + n;
  if (progress != line.progress || now_ - line.said_since > said_us) {
    line.progress = progress, line.said_since = now_;
    line.said = line.asked = 0;
  }
  if (++line.said > most_said + line.asked)
    fail("answers itself: " + std::to_string(line.said) +
         " frames to the peer without progress: " + describe(line));
}

void Stage::check_end() {
  if (scenario_.patient) {
    check_outcome();
    if (play_.policy != VSNOOP_POLICY_OFF && failure_.empty()) {
      check_accounts();
      rest_engine();
    }
    return;
  }
  bool hurt = false;  // by something that breaks connections by itself
  for (const Fault& fault : scenario_.faults)
    hurt |= fault.kind == FaultKind::migrate || fault.kind == FaultKind::restart ||
            (fault.kind == FaultKind::lose_ring && fault.size * 1000u > grace_us);
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
  if (failure_.empty()) check_nothing_left();
}

// Of a patient scenario, whose connections may end in any way: nobody finishes without his bytes,
// and what was acknowledged arrives or somebody is shown a reset.
void Stage::check_outcome() {
  observe();
  for (size_t i = 0; i < lines_.size(); ++i) {
    const Line& line = lines_[i];
    if (!line.peer) continue;
    const Tcp &peer = *line.peer, &guest = *line.guest;
    Course& c = courses_[i];
    c.peer = peer.state(), c.guest = guest.state();
    c.stopped = line.stopped;
    c.text = describe(line);
    ++totals_.connections;
    totals_.finished += c.well();
    if (line.lies || line.reborn) continue;
    if (guest.received() > peer.options().bytes)
      fail("the guest gets more than was sent: " + c.text);
    if (peer.state() == Tcp::finished && guest.state() != Tcp::gone &&
        (!guest.has_fin() || guest.received() != peer.options().bytes))
      fail("the peer finished and the guest lacks bytes: " + c.text);
    // A reset that the network lost tells nobody anything.
    const bool silent = guest.state() == Tcp::gone || guest.state() == Tcp::aborted;
    if (!silent && distance(peer.una(), guest.rcv_nxt()) > 0 && peer.state() != Tcp::reset &&
        peer.state() != Tcp::aborted && peer.state() != Tcp::gone && peer.state() != Tcp::timed_out)
      fail("a byte was acknowledged, never arrived, and nobody was shown a reset: " + c.text);
  }
}

// The guest takes what it is given, and nobody says anything any more.
void Stage::rest_engine() {
  const u64 end = now_ + long_us;
  ring_back_ = 0;
  u8 buffer[VSNOOP_EMIT_MAX];
  vsnoop_emission e;
  for (u32 i = 0; i < 200000 && failure_.empty(); ++i) {
    feed();
    for (; !ring_.empty(); ring_.pop_front())
      if (HostFrame* frame = ring_.front().frame) {
        frame->in_ring = false;
        if (vsnoop_consumed(v_, &frame->held, now_)) free_frame(&frame->held);
      }
    while (vsnoop_emit(v_, &e, buffer, now_)) {
    }
    if (vsnoop_deadline(v_) >= end) break;
    now_ = std::max(now_, vsnoop_deadline(v_));
    release(vsnoop_tick(v_, now_));
  }
  const vsnoop_guest_stats& s = *vsnoop_stats(v_, guest_id);
  if (s.used || s.held || s.outstanding || s.flows_outstanding)
    left_over_ = "used " + std::to_string(s.used) + " held " + std::to_string(s.held) +
                 " outstanding " + std::to_string(s.outstanding) + " of " +
                 std::to_string(s.flows_outstanding) + " flows, " +
                 std::to_string(vsnoop_flows(v_)) + " flows known";
}

void Stage::check_nothing_left() {
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
