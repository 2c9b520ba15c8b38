// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames in custody. A frame is WAITING in its flow's queue, then in the RING, then DELIVERED; a
// retained one also stands in the flow's line, by sequence, until the guest acknowledges it (I3).
// Lists are singly linked through the host's own frames; nothing is searched for per packet.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr int32_t quantum = 65536;  // bytes a flow may put into the ring in one turn

Seq end_of(const vsnoop_held& held) { return Seq(held.seq) + held.length; }

void hand_over(vsnoop_held& held, vsnoop_held*& released) {
  held.next = released;
  released = &held;
}

}  // namespace

Custody* Engine::acquire(Ref ref, Flow& flow, u64 now) {
  if (flow.custody != no_custody) return &custodies_[flow.custody];
  if (free_custody_ == no_custody) return nullptr;
  const u32 index = free_custody_;
  Custody& custody = custodies_[index];
  free_custody_ = custody.feed_next;
  custody = Custody();
  custody.flow = ref;
  custody.guest = table_.key(ref).domain();
  custody.feed_next = custody.room_next = custody.owed_next = no_custody;
  custody.timer_prev = custody.timer_next = no_custody;
  custody.newest_tsval = flow.ts_recent;
  custody.present_edge = flow.right_edge;
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
  if (flow && (custody.range_count || custody.owed)) return;
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

// Whether the flow has a frame that may enter the ring now. A reset waits for everything promised.
// Of a flow that is gone, frames that came back out of the ring wait to be discarded.
bool Engine::feedable(const Custody& custody, const Flow* flow) const {
  if (custody.again) return true;
  if (!custody.wait_head) return false;
  return !flow || !(custody.wait_head->flags & held_rst) || !custody.line_head ||
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
  if (guest.feed_new == no_custody)
    guest.feed_new = index;
  else
    custodies_[guest.feed_new_tail].feed_next = index;
  guest.feed_new_tail = index;
}

namespace {

// Takes the head off a list.
void pop(Custody* custodies, u32& head) {
  Custody& custody = custodies[head];
  head = custody.feed_next;
  custody.feed_next = no_custody;
}

}  // namespace

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
      pop(custodies_, head);
      custody.feeding = false;
      settle(custody, table_.get(custody.flow));
      continue;
    }
    if (custody.deficit <= 0) {
      const u32 index = head;
      custody.deficit += quantum;
      pop(custodies_, head);
      if (guest->feed_old == no_custody)
        guest->feed_old = index;
      else
        custodies_[guest->feed_old_tail].feed_next = index;
      guest->feed_old_tail = index;
      continue;
    }
    feed = vsnoop_feed();
    if (custody.again) {
      vsnoop_held& held = *custody.again;
      const u32 have = bytes_between(Seq(held.seq), flow->guest_ack);
      const u32 window = bytes_between(later(flow->guest_ack, Seq(held.seq)), custody.present_edge);
      feed.held = &held;
      feed.again = 1;
      feed.retain = 1;
      feed.skip = have;
      feed.keep = held.length - have;
      if (feed.keep > window) feed.keep = window ? window : 1;
      // The private header: what the guest would drop an old frame for. RFC 7323 5.3, RFC 5961 5.2.
      feed.edit.what = VSNOOP_EDIT_ACK | VSNOOP_EDIT_WINDOW;
      feed.edit.ack = flow->peer_una.raw;
      const u32 peer_window = bytes_between(flow->peer_una, flow->peer_edge) >> flow->peer_shift();
      feed.edit.window = static_cast<u16>(peer_window < 0xffff ? peer_window : 0xffff);
      if (flow->is(flow_ts)) {
        feed.edit.what |= VSNOOP_EDIT_TSVAL;
        feed.edit.tsval = custody.newest_tsval;
      }
      return true;
    }
    vsnoop_held& held = *custody.wait_head;
    feed.held = &held;
    feed.keep = held.length;
    feed.retain = (held.flags & held_retain) != 0;
    feed.discard = !flow || (held.flags & held_acked);
    if (custody.tsval_raised) {
      feed.edit.what = VSNOOP_EDIT_TSVAL;
      feed.edit.tsval = custody.given_tsval;
    }
    return true;
  }
}

void Engine::fed(u16 id, const vsnoop_feed& feed, u64 now) {
  clock_ = now;
  Guest* guest = guest_at(id);
  vsnoop_held& held = *feed.held;
  Custody& custody = custodies_[held.custody];
  Flow* flow = table_.get(custody.flow);
  if (!guest) return;
  custody.deficit -= static_cast<int32_t>(feed.keep) + 64;
  if (feed.again) {
    custody.again = nullptr;
    custody.tsval_raised = flow->is(flow_ts);
    custody.given_tsval = custody.newest_tsval;
    held.state = VSNOOP_HELD_RING;
    flow->set(flow_redelivered);
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
    // Ranges above a hole and what waits behind the reset have no use now: the timer frees them.
    custody.reset_fed = true;
    arm(custody, now);
  } else if (reset) {
    vsnoop_held* none = nullptr;
    close_flow(custody.flow, *flow, none);
  } else {
    settle(custody, flow);
  }
  serve_room(*guest, now);
}

// The frame is the host's again.
void Engine::uncharge(Custody& custody, Guest& guest, vsnoop_held& held) {
  const u32 memory = held.memory * memory_unit;
  --custody.frames;
  custody.held -= memory;
  vacate(guest, memory);
}

bool Engine::consumed(vsnoop_held* held, u64 now) {
  clock_ = now;
  Custody& custody = custodies_[held->custody];
  Guest& guest = guests_[custody.guest];
  guest.life_at = now;
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
  guest->life_at = now;
  if (memory > guest->stats.held) memory = static_cast<u32>(guest->stats.held);
  if (!memory) return;
  vacate(*guest, memory);
  serve_room(*guest, now);
}

// Out of the ring again without having reached the guest.
void Engine::returned(vsnoop_held* held) {
  Custody& custody = custodies_[held->custody];
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
    if (custody->again == &held) custody->again = nullptr;
    for (unsigned i = 0; i < custody->range_count; ++i)
      if (custody->range[i].tail == &held) custody->range[i].tail = nullptr;
    if (held.state == VSNOOP_HELD_DELIVERED) {
      uncharge(*custody, guest, held);
      hand_over(held, released);
    } else {
      held.flags |= held_acked;
    }
  }
}

// Hands back everything that is not in the ring; what is in the ring is done when it leaves it.
void Engine::purge(Flow& flow, Guest& guest, vsnoop_held*& released) {
  Custody* custody = custody_of(flow);
  if (!custody) return;
  leave_feed(*custody, guest);
  custody->again = nullptr;
  custody->range_count = 0;
  while (vsnoop_held* held = custody->wait_head) {
    custody->wait_head = held->next;
    if ((held->flags & (held_retain | held_acked)) == held_retain) continue;  // in the line too
    uncharge(*custody, guest, *held);
    hand_over(*held, released);
  }
  custody->wait_tail = nullptr;
  while (vsnoop_held* held = custody->line_head) {
    custody->line_head = held->next_line;
    if (held->state == VSNOOP_HELD_RING) {
      held->flags |= held_acked;
      continue;
    }
    uncharge(*custody, guest, *held);
    hand_over(*held, released);
  }
  custody->line_tail = nullptr;
}

void Engine::leave_feed(Custody& custody, Guest& guest) {
  if (!custody.feeding) return;
  custody.feeding = false;
  const u32 index = index_of(custody);
  u32* const lists[] = {&guest.feed_new, &guest.feed_old};
  for (u32* list : lists) {
    u32 previous = no_custody;
    for (u32 at = *list; at != no_custody; previous = at, at = custodies_[at].feed_next) {
      if (at != index) continue;
      (previous == no_custody ? *list : custodies_[previous].feed_next) = custody.feed_next;
      u32& tail = list == &guest.feed_new ? guest.feed_new_tail : guest.feed_old_tail;
      if (tail == index) tail = previous;
      custody.feed_next = no_custody;
      return;
    }
  }
}

// --- re-delivery ---------------------------------------------------------------------------------

// The first missing frame, if the guest took it out of the ring and has not acknowledged it.
bool Engine::redeliverable(const Flow& flow, const Custody& custody) const {
  const vsnoop_held* head = custody.line_head;
  return head && !custody.again && head->state == VSNOOP_HELD_DELIVERED &&
         !after(Seq(head->seq), flow.guest_ack);
}

bool Engine::redeliver(const Flow& flow, Custody& custody, Guest& guest) {
  if (!redeliverable(flow, custody)) return false;
  custody.again = custody.line_head;
  join_feed(custody, guest);
  return true;
}

// G7: the guest showed a hole below early_ack, or the timer fired.
void Engine::start_recovery(Flow& flow, Custody& custody, Guest& guest) {
  if (!redeliver(flow, custody, guest)) return;
  custody.recovering = true;
  custody.recover = flow.rcv_nxt;
}

VSNOOP_END
