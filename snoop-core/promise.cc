// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What is promised, and the window that may be shown. Two inequalities rule this file:
//   early_ack <= min(rcv_nxt, right_edge, shown_edge)                       I1, I2
//   shown_edge <= max(guest_ack + base_window, what is reserved for)        I2b
// Reserved memory stands for bytes the peer was invited to send and has not sent yet: all of
// [rcv_nxt, shown_edge) as soon as shown_edge lies beyond the base window. When they come the
// reservation turns into the charge for the frames that hold them.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr unsigned latency_shift = 6;
constexpr u8 coarse_shift = 9;    // a window scale whose unit is most of a segment or more
constexpr u16 reclaim_after = 3;  // moments of rest: more than 260 ms, a retransmission timeout
constexpr unsigned served_at_once = 32;  // of the flows that wait for room

// Longer without traffic than a retransmission timeout.
constexpr bool at_rest(const Flow& flow, u64 now) {
  return static_cast<u16>(moment(now) - flow.last_seen) >= reclaim_after;
}

// 64 bits wide, as is every product of bytes and cost: a window of 4 MB whose frames carry a byte
// each needs more memory than 32 bits can say.
constexpr u64 units(u32 memory) {
  return (static_cast<u64>(memory) + memory_unit - 1) / memory_unit;
}
constexpr u64 memory_for(u32 bytes, u16 cost) { return static_cast<u64>(bytes) * cost >> 4; }

constexpr u32 promise_of(const Flow& flow) { return bytes_between(flow.guest_ack, flow.early_ack); }

}  // namespace

// Something is outstanding and the guest has shown neither a frame nor ring progress for long.
bool Engine::silent(const Guest& guest, u64 now) const {
  return guest.stats.outstanding && now - guest.life_at > guest.config.liveness_us;
}

// Why the flow is PAUSED or further; `none` if it is ACTIVE.
Reason Engine::may_promise(const Flow& flow, const Guest& guest, u64 now) const {
  if (flow.state != VSNOOP_FLOW_ACTIVE)
    return flow.state == VSNOOP_FLOW_CLOSING ? VSNOOP_REASON_closing : VSNOOP_REASON_draining;
  if (VSNOOP_UNLIKELY(flow.is(flow_guest_fin | flow_rst_pause | flow_guest_rested))) {
    if (flow.is(flow_guest_fin)) return VSNOOP_REASON_guest_closed;
    return flow.is(flow_rst_pause) ? VSNOOP_REASON_rst_pause : VSNOOP_REASON_guest_rested;
  }
  if (guest.quiescing) return VSNOOP_REASON_quiescing;
  if (silent(guest, now)) return VSNOOP_REASON_guest_silent;
  if (guest.config.engage == VSNOOP_ENGAGE_AUTO &&
      (!flow.is(flow_measured) ||
       static_cast<u32>(flow.latency) << latency_shift <= guest.config.engage_us))
    return VSNOOP_REASON_guest_quick;
  return VSNOOP_REASON_none;
}

bool Engine::taken(const Verdict& verdict, vsnoop_held* held, u64 now) {
  clock_ = now;
  const Ref ref{verdict.flow.slot, verdict.flow.generation};
  Flow* found = table_.get(ref);
  if (!found) return false;
  Flow& flow = *found;
  Guest& guest = guests_[verdict.flow.guest];
  Custody* custody = acquire(ref, flow, now);
  if (!custody) return false;
  // A host may have asked about other frames since: what was true then is asked again.
  const bool keep = verdict.action == VSNOOP_KEEP;
  const Seq first(verdict.seq);
  const bool misplaced = (verdict.flags & verdict_data) && after(first, flow.rcv_nxt) &&
                         !recordable(*custody, first, first + verdict.length);
  if (keep && (misplaced || !affordable(flow, guest, verdict.memory))) {
    settle(flow);
    return false;
  }

  if (keep) {
    held->seq = verdict.seq;
    held->length = verdict.length;
    held->custody = index_of(*custody);
    held->memory = static_cast<u16>(units(verdict.memory));  // affordable() has looked
    held->flags = 0;
    if (verdict.retain) held->flags |= held_retain;
    if (VSNOOP_UNLIKELY(verdict.flags & verdict_rst)) {
      held->flags |= held_rst;
      custody->reset_held = true;
    }
  }
  const Seq shown = flow.early_ack, rcv_nxt = flow.rcv_nxt;
  if ((verdict.flags & verdict_data) && !misplaced)
    commit(flow, *custody, first, first + verdict.length, verdict.retain ? held : nullptr);
  const bool sacked = after(flow.early_ack, shown);
  settle_reservation(flow, guest, rcv_nxt);
  if (verdict.flags & verdict_data) learn_cost(flow, verdict.memory, verdict.length);
  if (keep) {
    custody->held += held->memory * memory_unit;
    occupy(guest, held->memory * memory_unit);
    enqueue(*custody, guest, *held);
  } else {
    // Under `ring` the budget is the ring itself; progress() gives the room back.
    occupy(guest, verdict.memory);
  }
  if (verdict.flags & verdict_data) speak_of(verdict, ref, flow, guest, *custody, sacked, now);
  settle(flow);
  return true;
}

// What the peer is told now that data of its is taken. `sacked`: a range that was SACKed has been
// reached; its end is promised whatever pauses the flow.
void Engine::speak_of(const Verdict& verdict, Ref ref, Flow& flow, Guest& guest, Custody& custody,
                      bool sacked, u64 now) {
  const Seq first(verdict.seq);
  if (!flow.is(flow_sampling | flow_redelivered) &&
      flow.rcv_nxt == Seq(verdict.seq) + verdict.length) {
    flow.set(flow_sampling);
    flow.sample_seq = flow.rcv_nxt;
    flow.sample_time = static_cast<u32>(now);
  }
  // decide() has allowed it; a FIN in this very segment closed the flow since (P7).
  const Reason pause = may_promise(flow, guest, now);
  if ((verdict.flags & verdict_promise) &&
      (pause == VSNOOP_REASON_none || pause == VSNOOP_REASON_closing))
    promise(ref, flow, guest, now);
  if (VSNOOP_UNLIKELY(sacked)) owe(ref, flow, owed_ack | owed_promise, now);
  if (custody.range_count && after(first, flow.rcv_nxt) && speaks_at_hole(flow, guest, custody))
    owe(ref, flow, owed_sack, now);
}

u8 Engine::declined(const Verdict& verdict) {
  Flow* flow = table_.get({verdict.flow.slot, verdict.flow.generation});
  if (!flow) return verdict.action == VSNOOP_KEEP ? VSNOOP_PASS : VSNOOP_DROP;
  count(guests_[verdict.flow.guest], VSNOOP_REASON_not_taken);
  const Custody* custody = custody_of(*flow);
  const bool behind = custody && custody->wait_head;
  settle(*flow);
  const bool must_wait = behind || (verdict.flags & verdict_rst);  // P9: a reset comes last
  return verdict.action == VSNOOP_KEEP && !must_wait ? VSNOOP_PASS : VSNOOP_DROP;
}

// --- ranges --------------------------------------------------------------------------------------

// Whether [begin, end) above rcv_nxt can be remembered: it overlaps nothing taken, and touches a
// known range or finds a free place.
bool Engine::recordable(const Custody& custody, Seq begin, Seq end) const {
  bool touches = false;
  for (unsigned i = 0; i < custody.range_count; ++i) {
    const Range& range = custody.range[i];
    if (before(begin, range.end) && after(end, range.begin)) return false;
    touches |= begin == range.end || end == range.begin;
  }
  return touches || custody.range_count < max_ranges;
}

// The bytes [begin, end) are taken. `held`: retained frame, to be put into the line.
void Engine::commit(Flow& flow, Custody& custody, Seq begin, Seq end, vsnoop_held* held) {
  if (at_or_before(begin, flow.rcv_nxt)) {
    if (held) insert_line(custody, *held, custody.line_tail);
    if (held) custody.line_tail = held;
    flow.rcv_nxt = later(flow.rcv_nxt, end);
    absorb_ranges(flow, custody);
    return;
  }
  // Above a hole. Ranges are sorted and do not touch each other.
  const u16 newest = ++custody.arrivals;
  unsigned at = 0;
  while (at < custody.range_count && !after(custody.range[at].begin, begin)) ++at;
  if (held) {
    vsnoop_held* left = nullptr;
    for (unsigned i = at; i && !left; --i) left = custody.range[i - 1].tail;
    insert_line(custody, *held, left ? left : custody.line_tail);
  }
  const bool joins_left = at && custody.range[at - 1].end == begin;
  const bool joins_right = at < custody.range_count && custody.range[at].begin == end;
  if (joins_left) {
    Range& range = custody.range[at - 1];
    range.end = end;
    range.newest = newest;
    if (held) range.tail = held;
    if (joins_right) {
      const Range& next = custody.range[at];
      range.end = next.end;
      range.tail = next.tail ? next.tail : range.tail;
      range.sacked |= next.sacked;
      for (unsigned i = at; i + 1 < custody.range_count; ++i)
        custody.range[i] = custody.range[i + 1];
      --custody.range_count;
    }
  } else if (joins_right) {
    custody.range[at].begin = begin;
    custody.range[at].newest = newest;
    if (!custody.range[at].tail) custody.range[at].tail = held;
  } else if (custody.range_count < max_ranges) {
    for (unsigned i = custody.range_count; i > at; --i) custody.range[i] = custody.range[i - 1];
    custody.range[at] = {begin, end, held, false, newest};
    ++custody.range_count;
  }
}

// Ranges that rcv_nxt has reached are in order now. Where one was SACKed, the ACK shown goes to its
// end: a sender takes anything else for reneging (P4).
void Engine::absorb_reached(Flow& flow, Custody& custody) {
  unsigned gone = 0;
  for (; gone < custody.range_count; ++gone) {
    const Range& range = custody.range[gone];
    if (after(range.begin, flow.rcv_nxt)) break;
    flow.rcv_nxt = later(flow.rcv_nxt, range.end);
    if (range.tail) custody.line_tail = range.tail;
    if (!range.sacked || !after(range.end, flow.early_ack)) continue;
    Guest& guest = guests_[custody.guest];
    if (flow.early_ack == flow.guest_ack) custody.progress_at = clock_;
    guest.stats.promised_bytes += bytes_between(flow.early_ack, range.end);
    show_ack(flow, guest, range.end);
    // The guest may have taken its window back since.
    flow.right_edge = later(flow.right_edge, flow.shown_edge);
  }
  if (!gone) return;
  for (unsigned i = gone; i < custody.range_count; ++i) custody.range[i - gone] = custody.range[i];
  custody.range_count = static_cast<u8>(custody.range_count - gone);
}

// Whether vsnoop shows the peer its holes (early SACK), and not the guest. Only of what is held:
// the guest may refuse what `ring` has handed over. Not above bytes that merely passed, for they
// are no hole but on their way to the guest.
bool Engine::speaks_at_hole(const Flow& flow, const Guest& guest, const Custody& custody) const {
  return guest.config.early_sack && guest.config.policy == VSNOOP_POLICY_HOLD &&
         flow.is(flow_sack) && !after(custody.passed, flow.rcv_nxt);
}

// --- promises ------------------------------------------------------------------------------------

// Raises early_ack as far as I1 and I2 allow, and owes the ACK that says so.
void Engine::promise(Ref ref, Flow& flow, Guest& guest, u64 now) {
  const Seq limit = earlier(flow.rcv_nxt, earlier(flow.right_edge, flow.shown_edge));
  if (!after(limit, flow.early_ack)) return;
  if (VSNOOP_UNLIKELY(flow.guest_shift() > coarse_shift) && scaled_away(flow, limit)) return;
  // What cannot be said is not promised: the guest's own ACK would be taken for covered (G4).
  if (!owe(ref, flow, owed_ack | owed_promise, now)) return;
  if (!guest.stats.outstanding) guest.life_at = now;
  Custody& custody = *custody_of(flow);
  if (flow.early_ack == flow.guest_ack) custody.progress_at = now;
  if (custody.line_head && !custody.timer_at) arm(custody, now + guest.config.timer_ceiling_us);
  guest.stats.promised_bytes += bytes_between(flow.early_ack, limit);
  show_ack(flow, guest, limit);
}

// The peer is (about to be) shown `ack`; never less than before.
void Engine::show_ack(Flow& flow, Guest& guest, Seq ack) {
  const u32 old = promise_of(flow);
  flow.early_ack = later(flow.early_ack, ack);
  flow.shown_edge = later(flow.shown_edge, flow.early_ack);
  flow.rcv_nxt = later(flow.rcv_nxt, flow.early_ack);
  const u32 now = promise_of(flow);
  if (now) flow.set(flow_touched);
  guest.stats.outstanding += now - old;
  guest.stats.flows_outstanding += (now != 0) - (old != 0);
}

// The guest has acknowledged up to `ack`.
void Engine::confirm(Flow& flow, Guest& guest, Seq ack) {
  const u32 old = promise_of(flow);
  flow.guest_ack = ack;
  flow.early_ack = later(flow.early_ack, ack);
  flow.shown_edge = later(flow.shown_edge, flow.early_ack);
  const u32 now = promise_of(flow);
  guest.stats.outstanding -= old - now;
  guest.stats.flows_outstanding -= (old != 0) - (now != 0);
  if (after(ack, flow.rcv_nxt)) flow.rcv_nxt = ack;
}

// The connection is over, or reset: nothing is promised any more.
void Engine::abandon_promise(Flow& flow, Guest& guest) {
  const u32 old = promise_of(flow);
  flow.early_ack = flow.guest_ack;
  guest.stats.outstanding -= old;
  guest.stats.flows_outstanding -= old != 0;
}

// --- room ----------------------------------------------------------------------------------------

// The accounts change here and nowhere else, so that flows add up to their guest and guests to the
// total: reserve(), give_back() for windows, occupy(), vacate() for frames.
void Engine::reserve(Flow& flow, Guest& guest, u32 memory) {
  flow.reserved += memory;
  guest.stats.used += memory;
  used_ += memory;
}

void Engine::give_back(Flow& flow, Guest& guest, u32 memory) {
  if (memory > flow.reserved) memory = flow.reserved;
  flow.reserved -= memory;
  guest.stats.used -= memory;
  used_ -= memory;
}

void Engine::occupy(Guest& guest, u32 memory) {
  guest.stats.used += memory;
  used_ += memory;
  held_ += memory;
  guest.stats.held += memory;
  if (guest.stats.held > guest.stats.peak_held) guest.stats.peak_held = guest.stats.held;
}

void Engine::vacate(Guest& guest, u32 memory) {
  guest.stats.used -= memory;
  used_ -= memory;
  held_ -= memory;
  guest.stats.held -= memory;
}

// What windows may be reserved from: an eighth of a budget is left to flows whose window needs no
// reservation, and to frames that cost more than expected. Else a few flows with large windows
// leave no room for anybody's first frame. Of a ring, where every window is paid for, half of that.
constexpr u64 reservable(u64 budget, u64 used, bool ring) {
  const u64 limit = budget - (ring ? budget / 16 : budget / 8);
  return limit > used ? limit - used : 0;
}

// The part of what is free after which one who has `own` has `greed` times what is left (dynamic
// threshold).
constexpr u64 share(u64 free, u64 own, u32 greed) {
  return greed * free > own ? (greed * free - own) / (greed + 1) : 0;
}

// Bytes of memory that this flow may reserve in addition, now: its share of what is free, nor more
// than its own cap. A ring is small, and full again at once: one flow may have nearly all of it.
u32 Engine::room(const Flow& flow, const Guest& guest) const {
  const bool ring = guest.config.policy == VSNOOP_POLICY_RING;
  u64 free = reservable(guest.config.budget, guest.stats.used, ring);
  if (config_.budget) {
    const u64 rest = reservable(config_.budget, used_, false);
    if (rest < free) free = rest;
  }
  const Custody* custody = custody_of(flow);
  const u64 own = static_cast<u64>(flow.reserved) + (custody ? custody->held : 0);
  u64 more = ring ? share(free, own, 16) : share(free, own, 4);
  if (guest.config.flow_budget) {
    const u64 cap = reservable(guest.config.flow_budget, own, ring);
    if (more > cap) more = cap;
  }
  return static_cast<u32>(more < 0x7fffffff ? more : 0x7fffffff);
}

// What must stay reserved when rcv_nxt goes from `from` to `to`. A window beyond base_window is
// paid for from its first byte, so that the frames that fill it find their own room. If frames cost
// more than when it was reserved, they get their part of it and the difference comes out of what is
// free.
u32 Engine::reservation_after(const Flow& flow, const Guest& guest, Seq from, Seq to) const {
  if (!flow.reserved || !after(flow.shown_edge, flow.guest_ack + guest.base_window)) return 0;
  const u32 all = bytes_between(from, flow.shown_edge);
  const u32 rest = bytes_between(to, flow.shown_edge);
  if (memory_for(all, flow.cost) <= flow.reserved)
    return static_cast<u32>(memory_for(rest, flow.cost));
  return static_cast<u32>(static_cast<u64>(flow.reserved) * rest / all);
}

// Whether a frame that costs `memory` fits (I7). Memory is what counts here: what is reserved for
// windows is room that others may need, and a frame that is here goes before one that may come.
bool Engine::affordable(const Flow& flow, const Guest& guest, u32 memory) const {
  const u64 charged = units(memory) * memory_unit;
  if (charged > u64{0xffff} * memory_unit) return false;  // more than a vsnoop_held can say
  if (guest.stats.held + charged > guest.config.budget) return false;
  if (config_.budget && held_ + charged > config_.budget) return false;
  if (!guest.config.flow_budget) return true;
  const Custody* custody = custody_of(flow);
  return !custody || custody->held + charged <= guest.config.flow_budget;
}

// What the first reservation has to pay for in addition: the bytes up to free_edge.
u64 Engine::entry_price(const Flow& flow, const Guest& guest) const {
  return flow.reserved ? 0
                       : memory_for(bytes_between(flow.rcv_nxt, free_edge(flow, guest)), flow.cost);
}

// The right edge that could be shown now, if reservations have to be made beyond `free`.
Seq Engine::grantable_beyond(Seq free, const Flow& flow, const Guest& guest) const {
  const u32 wanted = bytes_between(free, flow.right_edge);
  const u64 all = room(flow, guest), entry = entry_price(flow, guest);
  if (all <= entry) return free;
  const u64 memory = all - entry;
  if (memory_for(wanted, flow.cost) <= memory) return flow.right_edge;
  return free + static_cast<u32>((memory << 4) / flow.cost);
}

// Pays the rest for the window shown: it was at rest for a while, or its frames cost more by now.
void Engine::top_up(Flow& flow, Guest& guest) {
  if (!after(flow.shown_edge, flow.guest_ack + guest.base_window)) return;
  const u64 needed = memory_for(bytes_between(flow.rcv_nxt, flow.shown_edge), flow.cost);
  if (needed <= flow.reserved) return;
  const u64 missing = needed - flow.reserved;
  const u32 have = room(flow, guest);
  reserve(flow, guest, missing < have ? static_cast<u32>(missing) : have);
}

// Shows what is grantable, and reserves for it.
void Engine::grant(Flow& flow, Guest& guest) {
  top_up(flow, guest);
  if (flow.shown_edge == flow.right_edge) return;
  const Seq edge = grantable(flow, guest);
  if (!after(edge, flow.shown_edge)) return;
  // Only the new part is priced: what was shown before keeps its price even if frames cost more by
  // now, because there may be no room for the difference (I7).
  if (after(edge, free_edge(flow, guest))) {
    const u64 more = entry_price(flow, guest) +
                     memory_for(bytes_between(free_edge(flow, guest), edge), flow.cost);
    reserve(flow, guest, static_cast<u32>(more));  // within room(): grantable() has looked
  }
  flow.shown_edge = edge;
}

// Gives back what is no longer needed now that rcv_nxt, which was `from`, or guest_ack has moved.
void Engine::settle_reservation(Flow& flow, Guest& guest, Seq from) {
  if (!flow.reserved) return;
  const u32 needed = reservation_after(flow, guest, from, flow.rcv_nxt);
  give_back(flow, guest, flow.reserved - needed);
}

// What is reserved for a connection that is at rest serves others meanwhile. Its peer starts again
// from a few segments (RFC 5681 4.1) and is paced by our ACKs, and the window is paid for again
// before it grows. A sender that sends all of its old window at once after a rest may overrun the
// budget: what does not fit is not promised, and it recovers as from any full queue.
void Engine::reclaim_window(Flow& flow, Guest& guest, u64 now) {
  if (!flow.reserved || flow.early_ack != flow.guest_ack) return;
  if (!at_rest(flow, now)) return;
  give_back(flow, guest, flow.reserved);
  fruitless_ = 0;
  serve_room(guest, now);
}

// A window is said in units of 2^shift and rounded down. Where they are large an ACK of less than
// one takes most of a small window from the peer; the guest's own ACK gives it back in the same
// breath, so the guest speaks.
bool Engine::scaled_away(const Flow& flow, Seq ack) const {
  const u32 left = bytes_between(ack, flow.shown_edge);
  return left >= flow.mss && as_seen(flow, left) < left / 2;
}

// By how much the peer would see its window grow if `edge` were shown.
u32 Engine::opening(const Flow& flow, Seq edge) const {
  if (!after(edge, flow.shown_edge)) return 0;
  return as_seen(flow, bytes_between(flow.early_ack, edge)) -
         as_seen(flow, bytes_between(flow.early_ack, flow.shown_edge));
}

// RFC 9293 3.8.6.2.2: no silly windows.
bool Engine::worth_an_update(const Flow& flow, u32 opened) const {
  const u32 half = bytes_between(flow.guest_ack, flow.right_edge) / 2;
  const u32 two_segments = 2u * flow.mss;
  return opened && opened >= (two_segments < half ? two_segments : half);
}

// Somebody may be at rest with a window that is paid for, or hold ranges of a peer that is gone.
void Engine::find_room(u64 now) {
  shortage_ = true;
  const bool searched = fruitless_ >= table_.capacity();
  const u64 soon = now + (searched ? sweep_interval_us : shortage_interval_us);
  if (sweep_at_ > soon) sweep_at_ = soon;
}

// Queues the flow for room, behind those that wait already.
void Engine::want_room(Ref ref, Flow& flow, Guest& guest, u64 now) {
  find_room(now);
  Custody* custody = acquire(ref, flow, now);
  if (!custody || custody->wants_room) return;
  custody->wants_room = true;
  custody->room_next = no_custody;
  const u32 index = index_of(*custody);
  if (guest.room_head == no_custody)
    guest.room_head = index;
  else
    custodies_[guest.room_tail].room_next = index;
  guest.room_tail = index;
}

// Frees the record of a connection that has it only because it waits for room, and whose peer may
// send meanwhile; it asks again when it moves.
bool Engine::evict_waiter(Guest& guest) {
  u32 before = no_custody;
  u32 index = guest.room_head;
  for (unsigned i = 0; i < served_at_once && index != no_custody; ++i) {
    Custody& custody = custodies_[index];
    const Flow* flow = table_.get(custody.flow);
    const bool may_go = !custody.frames && !custody.in_owed_list && !custody.owed &&
                        !custody.feeding && !custody.range_count && !custody.tomb && flow &&
                        flow->early_ack == flow->guest_ack &&
                        bytes_between(flow->early_ack, flow->shown_edge) >= 2u * flow->mss;
    if (may_go) {
      (before == no_custody ? guest.room_head : custodies_[before].room_next) = custody.room_next;
      if (guest.room_tail == index) guest.room_tail = before;
      custody.wants_room = false;
      settle(custody, table_.get(custody.flow));
      return free_custody_ != no_custody;
    }
    before = index;
    index = custody.room_next;
  }
  return false;
}

// Room became free: window updates for those that wait, in order, a few at a time. One that could
// not make use of it (its share is full) keeps its place and does not hold up the others.
void Engine::serve_waiting(Guest& guest, u64 now) {
  const bool ring = guest.config.policy == VSNOOP_POLICY_RING;
  u32 before = no_custody;
  u32 index = guest.room_head;
  for (unsigned i = 0; i < served_at_once && index != no_custody; ++i) {
    if (!reservable(guest.config.budget, guest.stats.used, ring)) return;
    Custody& custody = custodies_[index];
    const u32 next = custody.room_next;
    const Ref ref = custody.flow;
    Flow* flow = table_.get(ref);
    // A connection that pauses with nothing outstanding, and whose peer may send, needs no more
    // room now; it asks again when it moves.
    const bool over = !flow || flow->state == VSNOOP_FLOW_STOPPED ||
                      (flow->last_seen != moment(now) && flow->rcv_nxt == flow->guest_ack &&
                       bytes_between(flow->early_ack, flow->shown_edge) >= 2u * flow->mss);
    bool update = !over && worth_an_update(*flow, opening(*flow, grantable(*flow, guest)));
    if (update) {
      // What is shown already may have become dearer, and is paid for first.
      top_up(*flow, guest);
      update = worth_an_update(*flow, opening(*flow, grantable(*flow, guest))) &&
               owe(ref, *flow, owed_ack | owed_update, now);
    }
    // Reserved here, not when the frame is written: the next in the queue must not be promised
    // the same room.
    if (update) grant(*flow, guest);
    const bool wants_more = !over && opening(*flow, flow->right_edge);
    if (wants_more && !update) {
      before = index;
      index = next;
      continue;
    }
    (before == no_custody ? guest.room_head : custodies_[before].room_next) = next;
    if (guest.room_tail == index) guest.room_tail = before;
    custody.wants_room = false;
    if (wants_more) want_room(ref, *flow, guest, now);  // last in line
    settle(custody, flow);
    index = next;
  }
}

// Memory per payload byte: a moving average; no division while frames look alike.
void Engine::learn_cost(Flow& flow, u32 memory, u32 length) {
  const int64_t error =
      static_cast<int64_t>(memory) * 16 - static_cast<int64_t>(flow.cost) * length;
  if (error > -static_cast<int64_t>(length) && error < static_cast<int64_t>(length)) return;
  const u64 cost = length ? static_cast<u64>(memory) * 16 / length : 16;
  const u32 next =
      (flow.cost * 7u + (cost < 0xffff ? static_cast<u32>(cost) : 0xffff)) / 8 + (cost > flow.cost);
  flow.cost = static_cast<u16>(next < 16 ? 16 : next < 0xffff ? next : 0xffff);
}

// Guest latency: peak-hold that decays by an eighth a sample.
void Engine::measure(Flow& flow, Guest& guest, u64 now) {
  if (!flow.is(flow_sampling) || before(flow.guest_ack, flow.sample_seq)) return;
  flow.clear(flow_sampling);
  const u32 sample = static_cast<u32>(now) - flow.sample_time;
  ++guest.stats.latency_samples;
  guest.stats.latency_us_sum += sample;
  const u32 scaled = sample >> latency_shift;
  const u16 latency = static_cast<u16>(scaled < 0xffff ? scaled : 0xffff);
  if (!flow.is(flow_measured) || latency > flow.latency)
    flow.latency = latency;
  else
    flow.latency = static_cast<u16>(flow.latency - (flow.latency - latency + 7) / 8);
  flow.set(flow_measured);
}

VSNOOP_END
