// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames in custody. A frame is WAITING in its flow's queue, then in the RING, then DELIVERED; a
// retained one also stands in the flow's line, by sequence, until the guest acknowledges it (I3).
// Lists are singly linked through the host's own frames; nothing is searched for per packet.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr int32_t quantum = 65536;  // bytes a flow may put into the ring in one turn
constexpr int32_t slot = 4096;      // ... of which each frame, however small, takes a slot's
constexpr u32 missing_max = 128;    // frames that a flow delivers again at one time

Seq end_of(const vsnoop_held& held) { return Seq(held.seq) + held.length; }

void hand_over(vsnoop_held& held, vsnoop_held*& released) {
  held.next = released;
  released = &held;
}

// Flows with frames for the ring stand in lists, linked both ways. What `feed_prev` of a head and
// `tail` of an empty list say is not kept: nothing is touched for it that is not moved.

// Takes the head off a list.
void pop(Custody* custodies, u32& head) {
  Custody& custody = custodies[head];
  head = custody.feed_next;
  custody.feed_next = no_custody;
}

// Puts a list, from `first` to `last`, behind another.
void append(Custody* custodies, u32& head, u32& tail, u32 first, u32 last) {
  (head == no_custody ? head : custodies[tail].feed_next) = first;
  custodies[first].feed_prev = tail;
  tail = last;
}

}  // namespace

// A record for a flow that has none.
Custody* Engine::lend(Ref ref, Flow& flow, u64 now) {
  if (free_custody_ == no_custody && !evict_waiter(guests_[table_.key(ref).domain()]))
    return nullptr;
  const u32 index = free_custody_;
  Custody& custody = custodies_[index];
  free_custody_ = custody.feed_next;
  custody = Custody();
  custody.flow = ref;
  custody.guest = table_.key(ref).domain();
  custody.feed_next = custody.feed_prev = no_custody;
  custody.room_next = custody.owed_next = no_custody;
  custody.timer_prev = custody.timer_next = no_custody;
  custody.newest_tsval = flow.ts_recent;
  custody.present_edge = flow.right_edge;
  custody.probe_end = flow.guest_ack;
  custody.passed_from = flow.rcv_nxt;  // nothing was in custody so far
  custody.passed = flow.peer_nxt;
  custody.shown_top = flow.guest_ack;
  custody.fresh = flow.rcv_nxt;
  custody.progress_at = now;
  flow.custody = index;
  return &custody;
}

// Returns the record if nothing is outstanding any more.
void Engine::settle(Flow& flow) {
  if (Custody* custody = custody_of(flow)) settle(*custody, &flow);
}

// `flow` is 0 if it is gone: then only its frames in the ring keep the record.
void Engine::settle(Custody& custody, Flow* flow) {
  if (custody.frames || custody.in_owed_list || custody.feeding || custody.wants_room) return;
  if (flow && (custody.range_count || custody.owed || custody.tomb)) return;
  disarm(custody);
  custody.flow = Ref::null();
  custody.feed_next = free_custody_;
  free_custody_ = index_of(custody);
  if (flow) flow->custody = no_custody;
}

// --- towards the ring ----------------------------------------------------------------------------

void Engine::enqueue(Custody& custody, Guest& guest, vsnoop_held& held) {
  held.state = VSNOOP_HELD_WAITING;
  held.next = nullptr;
  ++custody.frames;
  if (custody.wait_head)
    custody.wait_tail->next = &held;
  else
    custody.wait_head = &held;
  custody.wait_tail = &held;
  join_feed(custody, guest);
}

// Whether the flow has a frame that may enter the ring now. A reset waits for everything promised,
// unless a new connection waits behind it. Of a flow that is gone, frames that came back out of the
// ring wait to be discarded, and those behind the peer's reset to go on.
bool Engine::feedable(const Custody& custody, const Flow* flow) const {
  if (VSNOOP_UNLIKELY(custody.again.head != nullptr) && may_redeliver(*flow, custody)) return true;
  if (!custody.wait_head) return false;
  return !flow || !(custody.wait_head->flags & held_rst) || !custody.line_head || custody.renewed ||
         !before(flow->guest_ack, Seq(custody.wait_head->seq));
}

// Round robin by bytes; flows that had nothing waiting come first (they are sparse).
void Engine::join_feed(Custody& custody, Guest& guest) {
  if (custody.feeding) return;
  if (!feedable(custody, table_.get(custody.flow))) return;
  custody.feeding = true;
  custody.deficit = quantum;
  custody.feed_next = no_custody;
  const u32 index = index_of(custody);
  append(custodies_, guest.feed_new, guest.feed_new_tail, index, index);
}

// What the guest would drop an old frame for (RFC 7323 5.3, RFC 5961 5.2). An ACK number goes with
// its own TSecr: with an older one the guest would take a round trip for as long as the frame is
// old (RFC 7323 4.1).
void Engine::write_private_header(const Flow& flow, const Custody& custody,
                                  vsnoop_edit& edit) const {
  const bool paired = !flow.is(flow_ts) || custody.tsecr_known;
  if (paired) {
    const u32 window = bytes_between(flow.peer_una, flow.peer_edge) >> flow.peer_shift();
    edit.what = VSNOOP_EDIT_ACK | VSNOOP_EDIT_WINDOW;
    edit.ack = flow.peer_una.raw;
    edit.window = static_cast<u16>(window < 0xffff ? window : 0xffff);
  }
  if (!flow.is(flow_ts)) return;
  edit.what |= VSNOOP_EDIT_TSVAL;
  edit.tsval = custody.newest_tsval;
  if (!paired) return;
  edit.what |= VSNOOP_EDIT_TSECR;
  edit.tsecr = custody.newest_tsecr;
}

// The first of a list goes to the end of those that had their turn.
void Engine::send_back(Guest& guest, u32& head) {
  const u32 index = head;
  pop(custodies_, head);
  append(custodies_, guest.feed_old, guest.feed_old_tail, index, index);
}

bool Engine::next(u16 id, vsnoop_feed& feed) {
  Guest* guest = guest_at(id);
  if (!guest) return false;
  for (;;) {
    const bool sparse = guest->feed_new != no_custody;
    u32& head = sparse ? guest->feed_new : guest->feed_old;
    if (head == no_custody) return false;
    Custody& custody = custodies_[head];
    const Flow* flow = table_.get(custody.flow);
    if (!feedable(custody, flow)) {
      // RFC 8290 4.2: not before the others had their turn, or one that always comes back would
      // always go first.
      if (sparse && guest->feed_old != no_custody) {
        send_back(*guest, head);
        continue;
      }
      pop(custodies_, head);
      custody.feeding = false;
      settle(custody, table_.get(custody.flow));
      continue;
    }
    if (custody.deficit <= 0) {
      custody.deficit += quantum;
      send_back(*guest, head);
      continue;
    }
    feed = vsnoop_feed();
    if (VSNOOP_UNLIKELY(custody.again.head != nullptr) && may_redeliver(*flow, custody)) {
      vsnoop_held& held = *custody.again.head;
      const u32 have = bytes_between(Seq(held.seq), flow->guest_ack);
      const u32 window = bytes_between(later(flow->guest_ack, Seq(held.seq)), custody.present_edge);
      feed.held = &held;
      feed.again = 1;
      feed.retain = 1;
      feed.skip = have;
      feed.keep = held.length - have;
      if (feed.keep > window) feed.keep = window ? window : 1;
      cut_feed(*flow, custody, feed);
      write_private_header(*flow, custody, feed.edit);
      return true;
    }
    vsnoop_held& held = *custody.wait_head;
    feed.held = &held;
    feed.keep = held.length;
    feed.retain = (held.flags & held_retain) != 0;
    feed.discard = (held.flags & held_acked) != 0;
    if (flow && VSNOOP_UNLIKELY(flow->is(flow_narrow)) && feed.retain && !feed.discard)
      cut_feed(*flow, custody, feed);
    if (custody.tsval_raised) {
      feed.edit.what = VSNOOP_EDIT_TSVAL;
      feed.edit.tsval = custody.given_tsval;
    }
    return true;
  }
}

// The flow that next() named is at the head of its list.
void Engine::skip(u16 id, const vsnoop_feed& feed, u16 lane) {
  Guest* guest = guest_at(id);
  const u32 index = feed.held->custody;
  if (!guest) return;
  if (guest->feed_new == index)
    pop(custodies_, guest->feed_new);
  else if (guest->feed_old == index)
    pop(custodies_, guest->feed_old);
  else
    return;
  lane %= VSNOOP_LANES;
  append(custodies_, guest->aside[lane], guest->aside_tail[lane], index, index);
}

void Engine::resume(u16 id, u16 lane) {
  Guest* guest = guest_at(id);
  lane %= VSNOOP_LANES;
  if (!guest || guest->aside[lane] == no_custody) return;
  append(custodies_, guest->feed_old, guest->feed_old_tail, guest->aside[lane],
         guest->aside_tail[lane]);
  guest->aside[lane] = no_custody;
}

void Engine::fed(u16 id, const vsnoop_feed& feed, u64 now) {
  clock_ = now;
  Guest* guest = guest_at(id);
  vsnoop_held& held = *feed.held;
  Custody& custody = custodies_[held.custody];
  Flow* flow = table_.get(custody.flow);
  if (!guest) return;
  const int32_t bytes = static_cast<int32_t>(feed.keep) + 64;
  custody.deficit -= bytes < slot ? slot : bytes;
  if (VSNOOP_UNLIKELY(feed.more || feed.again || custody.cut) && note_piece(custody, feed)) return;
  if (feed.again) {
    custody.again.head = held.next;
    --custody.again.count;
    custody.flying.append(held);
    // What waits enters the ring after this one; or else what has not come yet.
    const vsnoop_held* wait = custody.wait_head;
    while (wait && (wait->flags & held_acked)) wait = wait->next;
    custody.fresh = wait && (wait->flags & held_retain) ? Seq(wait->seq)
                    : custody.range_count               ? custody.range[custody.range_count - 1].end
                                                        : flow->rcv_nxt;
    // What was shown before proves nothing again: else re-delivery and the answer to it, at a
    // closed window, would go round for ever in no time.
    custody.fresh = later(custody.fresh, custody.shown_top);
    if (custody.recovering == recovery_all) custody.recover = earlier(custody.fresh, flow->rcv_nxt);
    custody.tsval_raised = flow->is(flow_ts);
    custody.given_tsval = custody.newest_tsval;
    held.state = VSNOOP_HELD_RING;
    flow->set(flow_redelivered);
    flow->clear(flow_sampling);  // Karn: until that is over it would measure our own time-outs
    ++guest->stats.redelivered_frames;
    count(*guest, VSNOOP_REASON_redelivery);
    return;
  }
  custody.wait_head = held.next;
  if (!custody.wait_head) custody.wait_tail = nullptr;
  held.next = nullptr;
  held.state = VSNOOP_HELD_RING;
  if (feed.retain && !feed.discard) return;
  const bool reset = flow && (held.flags & held_rst);
  uncharge(custody, *guest, held);
  if (reset && custody.frames) {
    // What the guest has not confirmed has no use now: the timer frees it.
    custody.reset_fed = true;
    arm(custody, now);
  } else if (reset) {
    vsnoop_held* none = nullptr;
    end_flow(custody.flow, *flow, Ending::by_peer, none);
  } else {
    settle(custody, flow);
  }
  serve_room(*guest, now);
}

// The frame is the host's again.
void Engine::uncharge(Custody& custody, Guest& guest, vsnoop_held& held) {
  const u32 memory = held.memory * memory_unit;
  if (custody.cut == &held) custody.cut = nullptr;
  --custody.frames;
  custody.held -= memory;
  vacate(guest, memory);
}

bool Engine::consumed(vsnoop_held* held, u64 now) {
  clock_ = now;
  Custody& custody = custodies_[held->custody];
  Guest& guest = guests_[custody.guest];
  if (!guest.config.ring_unseen) guest.life_at = now;
  held->state = VSNOOP_HELD_DELIVERED;
  Flow* flow = table_.get(custody.flow);
  if (held->flags & held_acked) {
    uncharge(custody, guest, *held);
    settle(custody, flow);
    serve_room(guest, now);
    return true;
  }
  if (flow) {
    // Until now the timer ran at its ceiling, because the frame might have been in the ring still.
    const u64 at = now + timeout(*flow, guest, custody);
    if (!custody.timer_at || at < custody.timer_at) arm(custody, at);
  }
  return false;
}

void Engine::progress(u16 id, u32 memory, u64 now) {
  clock_ = now;
  Guest* guest = guest_at(id);
  if (!guest) return;
  if (!guest->config.ring_unseen) guest->life_at = now;
  if (memory > guest->stats.held) memory = static_cast<u32>(guest->stats.held);
  if (!memory) return;
  vacate(*guest, memory);
  serve_room(*guest, now);
}

// Out of the ring again without having reached the guest.
void Engine::returned(vsnoop_held* held) {
  Custody& custody = custodies_[held->custody];
  if (held->flags & held_again) forget_again(custody);
  wait_again(custody, guests_[custody.guest], *held);
}

void Engine::wait_again(Custody& custody, Guest& guest, vsnoop_held& held) {
  held.state = VSNOOP_HELD_WAITING;
  held.next = custody.wait_head;
  custody.wait_head = &held;
  if (!custody.wait_tail) custody.wait_tail = &held;
  join_feed(custody, guest);
}

// --- the line ------------------------------------------------------------------------------------

void Engine::insert_line(Custody& custody, vsnoop_held& held, vsnoop_held* left) {
  vsnoop_held*& link = left ? left->next_line : custody.line_head;
  held.next_line = link;
  link = &held;
}

// G1: what lies below guest_ack is done. Frames still waiting or in the ring are only marked.
void Engine::release(Flow& flow, Guest& guest, vsnoop_held*& released) {
  Custody* custody = custody_of(flow);
  if (!custody) return;
  while (custody->line_head && !after(end_of(*custody->line_head), flow.guest_ack)) {
    vsnoop_held& held = *custody->line_head;
    custody->line_head = held.next_line;
    if (custody->line_tail == &held) custody->line_tail = nullptr;
    for (unsigned i = 0; i < custody->range_count; ++i)
      if (custody->range[i].tail == &held) custody->range[i].tail = nullptr;
    if (held.state == VSNOOP_HELD_DELIVERED) {
      uncharge(*custody, guest, held);
      hand_over(held, released);
    } else {
      held.flags |= held_acked;
    }
  }
  if (custody->judged && !after(end_of(*custody->judged), flow.guest_ack))
    custody->judged = nullptr;
}

// Hands back everything that is not in the ring; what is in the ring is done when it leaves it.
// `queue_goes_on`: but for what waits and was never more than queued.
void Engine::purge(Flow& flow, Guest& guest, bool queue_goes_on, vsnoop_held*& released) {
  Custody* custody = custody_of(flow);
  if (!custody) return;
  forget_again(*custody);
  custody->recovering = recovery_none;
  custody->range_count = 0;
  purge_queue(*custody, guest, queue_goes_on, released);
  while (vsnoop_held* held = custody->line_head) {
    custody->line_head = held->next_line;
    if (held->state == VSNOOP_HELD_RING) {
      held->flags |= held_acked;  // if it comes back out of the ring, it is discarded
      continue;
    }
    uncharge(*custody, guest, *held);
    hand_over(*held, released);
  }
  custody->line_tail = nullptr;
}

void Engine::purge_queue(Custody& custody, Guest& guest, bool goes_on, vsnoop_held*& released) {
  vsnoop_held* waiting = custody.wait_head;
  custody.wait_head = custody.wait_tail = nullptr;
  while (vsnoop_held* held = waiting) {
    waiting = held->next;
    if ((held->flags & (held_retain | held_acked)) == held_retain) continue;  // in the line too
    if (goes_on && !held->flags) {
      held->next = nullptr;
      (custody.wait_head ? custody.wait_tail->next : custody.wait_head) = held;
      custody.wait_tail = held;
      continue;
    }
    uncharge(custody, guest, *held);
    hand_over(*held, released);
  }
  if (!custody.wait_head) leave_feed(custody, guest);
}

void Engine::leave_feed(Custody& custody, Guest& guest) {
  if (!custody.feeding) return;
  custody.feeding = false;
  const u32 index = index_of(custody);
  constexpr u32 lists = 2 + VSNOOP_LANES;
  const auto head = [&](u32 i) -> u32& {
    return i == 0 ? guest.feed_new : i == 1 ? guest.feed_old : guest.aside[i - 2];
  };
  const auto tail = [&](u32 i) -> u32& {
    return i == 0 ? guest.feed_new_tail : i == 1 ? guest.feed_old_tail : guest.aside_tail[i - 2];
  };
  for (u32 i = 0; i < lists; ++i)
    if (head(i) == index) return pop(custodies_, head(i));
  const u32 previous = custody.feed_prev, next = custody.feed_next;
  custodies_[previous].feed_next = next;
  custody.feed_next = no_custody;
  if (next != no_custody) {
    custodies_[next].feed_prev = previous;
    return;
  }
  for (u32 i = 0; i < lists; ++i)
    if (head(i) != no_custody && tail(i) == index) tail(i) = previous;
}

// --- re-delivery (G7) ----------------------------------------------------------------------------
//
// Nothing here runs while the guest loses nothing. A recovery judges each frame of the line once,
// from left to right: it is shown by the guest, or it is missing and goes to `again`. From there as
// many as `burst` may be under way (`flying`); burst doubles with each round of the guest, as slow
// start does (RFC 5681 3.1), because a guest that has dropped frames may be short of memory.
// The ring is first in, first out. Hence what entered it before something that arrived, and has
// left it, is lost; that goes for re-deliveries, too (the idea of RFC 8985, with an exact order).
// SACK is advice: a frame is kept until guest_ack passes it, and one that was shown and is missing
// at guest_ack all the same was reneged on (RFC 2018 8). What shows no sign is the timer's.

bool Engine::Shown::has(Seq begin, Seq end) const {
  if (!after(end, ack)) return true;
  for (u32 i = 0; i < blocks; ++i)
    if (!before(begin, left[i]) && !after(end, right[i])) return true;
  return false;
}

// The timer's: the first missing frame, if the guest took it out of the ring and it is not about to
// enter it again.
bool Engine::redeliverable(const Flow& flow, const Custody& custody) const {
  const vsnoop_held* head = custody.line_head;
  if (!head || head->state != VSNOOP_HELD_DELIVERED || after(Seq(head->seq), flow.guest_ack))
    return false;
  return custody.again.head != head || !may_redeliver(flow, custody);
}

// The next of `again` enters the ring inside the guest's present window; the first missing one does
// so in any case: it is the probe of a closed window, too.
bool Engine::may_redeliver(const Flow& flow, const Custody& custody) const {
  const Seq begin(custody.again.head->seq);
  return custody.flying.count < custody.burst &&
         (before(begin, custody.present_edge) || !after(begin, flow.guest_ack));
}

void Engine::start_recovery(const Flow& flow, Custody& custody, Recovery recovery) {
  forget_again(custody);
  custody.recovering = recovery;
  custody.recover = recovery == recovery_all ? flow.rcv_nxt : flow.guest_ack;
  if (recovery == recovery_all || !custody.burst) custody.burst = 1;
}

// Goes on judging, up to `recover`: what the guest shows, or, if it shows nothing, what entered the
// ring before the last re-delivery. A frame in the ring ends it: what comes after that is not lost.
// Nothing above rcv_nxt: that was not promised, and at that hole the guest speaks to the peer.
void Engine::find_missing(const Flow& flow, Custody& custody, const Shown& shown) {
  const vsnoop_held* head = custody.line_head;
  if (custody.recovering == recovery_holes && custody.judged && !(head->flags & held_again) &&
      !after(Seq(head->seq), flow.guest_ack)) {
    // It was shown, and is missing now. So may be all the others.
    custody.judged = nullptr;
    custody.recovering = recovery_all;
    custody.recover = flow.rcv_nxt;
  }
  custody.recover = earlier(later(custody.recover, shown.top), flow.rcv_nxt);
  custody.shown_top = later(custody.shown_top, shown.top);
  for (;;) {
    vsnoop_held* held = custody.judged ? custody.judged->next_line : custody.line_head;
    if (!held) return;
    const Seq begin(held->seq), end = end_of(*held);
    if (!before(begin, custody.recover)) return;
    if (!(held->flags & held_again) && !shown.has(begin, end)) {
      if (held->state != VSNOOP_HELD_DELIVERED) return;
      if (custody.again.count + custody.flying.count >= missing_max) return;
      held->flags |= held_again;
      custody.again.append(*held);
    }
    custody.judged = held;
  }
}

// An ACK during a recovery. What the guest has by now need not be delivered again; of what was,
// some is proven to be lost again and goes first. Has to come before release(), which uses `next`.
void Engine::review(Custody& custody, const Shown& shown, bool progress) {
  const Chain flying = custody.flying, waiting = custody.again;
  const vsnoop_held* proof = nullptr;  // the last re-delivery that arrived
  for (const vsnoop_held* held = flying.head; held; held = held->next)
    if (shown.has(Seq(held->seq), end_of(*held))) proof = held;
  const bool all = after(shown.top, custody.fresh);
  custody.shown_top = later(custody.shown_top, shown.top);

  custody.flying = custody.again = Chain();
  bool proven = all || proof, unexpected = false;
  for (vsnoop_held *held = flying.head, *next; held; held = next) {
    next = held->next;
    if (held == proof) proven = all;
    // One that was cut at the guest's window, and has arrived so far.
    const bool cut = progress && after(shown.ack, Seq(held->seq));
    if (shown.has(Seq(held->seq), end_of(*held))) {
      held->flags &= static_cast<u8>(~held_again);
    } else if ((proven || cut) && held->state == VSNOOP_HELD_DELIVERED) {
      custody.again.append(*held);
    } else {
      custody.flying.append(*held);
    }
  }
  const u32 lost = custody.again.count, arrived = flying.count - custody.flying.count - lost;
  for (vsnoop_held *held = waiting.head, *next; held; held = next) {
    next = held->next;
    if (shown.has(Seq(held->seq), end_of(*held))) {
      held->flags &= static_cast<u8>(~held_again);
      unexpected = true;
    } else {
      custody.again.append(*held);
    }
  }
  // A guest that had more than was thought, and does not show what (no SACK): as NewReno does, one
  // at a time (RFC 6582), or each frame that it has already makes it send a duplicate ACK.
  const u32 grown = custody.burst + arrived;
  if (lost)
    custody.burst = custody.burst > 1 ? custody.burst / 2 : 1;
  else if (unexpected && !shown.blocks)
    custody.burst = 1;
  else
    custody.burst = static_cast<u8>(grown < missing_max ? grown : missing_max);
}

// Nothing is to be delivered again, nor known to be under way.
void Engine::forget_again(Custody& custody) {
  for (vsnoop_held* held = custody.again.head; held; held = held->next)
    held->flags &= static_cast<u8>(~held_again);
  for (vsnoop_held* held = custody.flying.head; held; held = held->next)
    held->flags &= static_cast<u8>(~held_again);
  custody.again = custody.flying = Chain();
  custody.judged = nullptr;
  // Pieces of it that went before count for nothing now.
  if (custody.cut && custody.cut->state != VSNOOP_HELD_WAITING) custody.cut = nullptr;
}

VSNOOP_END
