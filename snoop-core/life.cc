// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Timers and the life-cycle of guests: quiesce, ring lost, fail-stop.
//
// Timers are a wheel of 512 slots of 4096 microseconds; an entry further away than one turn is met
// once a turn and stays.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr u32 quiet_interval_us = 1280000;
constexpr u32 sweep_slots = 1024;
constexpr u32 quiet_turn = 64;  // sweeps that look at every flow
constexpr u64 ranges_life_us = 60000000;
constexpr u32 unmeasured_timeout_us = 200000;
constexpr u8 tries_before_giveup = 4;
constexpr u64 tomb_interval_us = 250000;  // before a reset is repeated; doubled each time
constexpr u32 tomb_answer_us = 1000;      // between two answers to the same number
constexpr u8 tomb_resets = 7;             // 32 s in all
constexpr unsigned timers_per_tick = 64;
constexpr u32 looked_at_for_a_record = 64;
constexpr u16 ranges_rest = 8;  // moments: more than a second, several retransmissions of the first

}  // namespace

void Engine::arm(Custody& custody, u64 at) {
  disarm(custody);
  custody.timer_at = at ? at : 1;
  const u32 slot = static_cast<u32>(custody.timer_at >> wheel_shift) % wheel_slots;
  custody.timer_prev = no_custody;
  custody.timer_next = wheel_[slot];
  if (wheel_[slot] != no_custody) custodies_[wheel_[slot]].timer_prev = index_of(custody);
  wheel_[slot] = index_of(custody);
  wheel_used_[slot / 64] |= 1ull << (slot % 64);
}

void Engine::disarm(Custody& custody) {
  if (!custody.timer_at) return;
  const u32 slot = static_cast<u32>(custody.timer_at >> wheel_shift) % wheel_slots;
  if (custody.timer_prev != no_custody)
    custodies_[custody.timer_prev].timer_next = custody.timer_next;
  else
    wheel_[slot] = custody.timer_next;
  if (custody.timer_next != no_custody)
    custodies_[custody.timer_next].timer_prev = custody.timer_prev;
  if (wheel_[slot] == no_custody) wheel_used_[slot / 64] &= ~(1ull << (slot % 64));
  custody.timer_at = 0;
}

// Four times the guest's measured latency, within [floor, ceiling], doubled with every try.
u64 Engine::timeout(const Flow& flow, const Guest& guest, const Custody& custody) const {
  u64 wait = flow.is(flow_measured) ? static_cast<u64>(flow.latency) << 8 : unmeasured_timeout_us;
  if (wait < guest.config.timer_floor_us) wait = guest.config.timer_floor_us;
  wait <<= custody.tries < 16 ? custody.tries : 16;
  return wait < guest.config.timer_ceiling_us ? wait : guest.config.timer_ceiling_us;
}

u64 Engine::deadline() const {
  u64 due = flows() || embryos_.size() ? sweep_at_ : ~0ull;
  // The first slot in use at or after the wheel's hand, one turn at most.
  for (u32 i = 0; i < wheel_slots;) {
    const u32 slot = static_cast<u32>(wheel_at_ + i) % wheel_slots;
    const u64 rest = wheel_used_[slot / 64] >> (slot % 64);
    if (rest) {
      const u32 skip = static_cast<u32>(__builtin_ctzll(rest));
      const u64 at = (wheel_at_ + i + skip) << wheel_shift;
      // The slot's end: everything in it is due by then.
      const u64 end = at + (1ull << wheel_shift);
      return end < due ? end : due;
    }
    i += 64 - slot % 64;
  }
  return due;
}

vsnoop_held* Engine::tick(u64 now) {
  clock_ = now;
  vsnoop_held* released = nullptr;
  const u64 until = now >> wheel_shift;
  if (until > wheel_at_ + wheel_slots) wheel_at_ = until - wheel_slots;
  unsigned budget = timers_per_tick;
  while (wheel_at_ < until) {
    // A timer may end other flows, too, so that the slot's list does not stand still meanwhile.
    u32 due[timers_per_tick];
    unsigned count = 0;
    u32 index = wheel_[wheel_at_ % wheel_slots];
    for (; index != no_custody && count < budget; index = custodies_[index].timer_next)
      if (custodies_[index].timer_at <= now) due[count++] = index;
    for (unsigned i = 0; i < count; ++i) {
      Custody& custody = custodies_[due[i]];
      if (!custody.timer_at || custody.timer_at > now) continue;
      disarm(custody);
      on_timer(custody, now, released);
    }
    budget -= count;
    if (index != no_custody) return released;  // the rest at the next call, which is due at once
    ++wheel_at_;
  }
  if (now >= sweep_at_) sweep(now, released);
  return released;
}

// Looks at some flows: who is over or silent is forgotten, who is at rest gives its room back. When
// somebody waits for room a whole turn of the table comes soon; one that brought nothing is enough.
void Engine::sweep(u64 now, vsnoop_held*& released) {
  const bool hurry = shortage_ && fruitless_ < table_.capacity();
  const u32 part = table_.capacity() / quiet_turn;
  const u32 slots = part > sweep_slots ? part : sweep_slots;
  const u32 slower = 2 * sweep_every_ < quiet_interval_us ? 2 * sweep_every_ : quiet_interval_us;
  sweep_every_ = stirred_ || !slower ? sweep_interval_us : slower;
  sweep_at_ = now + (hurry ? shortage_interval_us : sweep_every_);
  const bool shortage = shortage_;
  if (!shortage)
    fruitless_ = 0;
  else if (fruitless_ < table_.capacity())
    fruitless_ += slots;
  stirred_ = shortage_ = false;
  sweep_flows(slots, now, shortage ? &released : nullptr);
  sweep_embryos(slots / 4, now);
}

// A promise is outstanding. Deliver again what the guest took and did not acknowledge; wait longer
// if it could not have; give up if it never will.
void Engine::on_timer(Custody& custody, u64 now, vsnoop_held*& released) {
  Flow* flow = table_.get(custody.flow);
  if (flow && custody.reset_fed) return end_flow(custody.flow, *flow, Ending::by_peer, released);
  if (flow && custody.tomb) return repeat_reset(*flow, custody, now);
  if (!flow || !custody.line_head) return;
  Guest& guest = guests_[custody.guest];
  const u64 since = now - custody.progress_at;
  const bool promised = flow->early_ack != flow->guest_ack;
  if (promised && since > guest.config.promise_age_us)
    return fail_stop(custody.flow, *flow, guest, VSNOOP_REASON_failstop_age, released);
  if (promised && since > guest.config.giveup_us && custody.tries >= tries_before_giveup)
    return fail_stop(custody.flow, *flow, guest, VSNOOP_REASON_failstop_giveup, released);
  if (!promised && since > ranges_life_us) return let_ranges_go(*flow, guest, released);
  if (promised && redeliverable(*flow, custody)) {
    start_recovery(*flow, custody, recovery_all);
    find_missing(*flow, custody, Shown(flow->guest_ack));
    join_feed(custody, guest);
    if (custody.tries < 255) ++custody.tries;
  }
  // What is not promised the peer itself sends again.
  arm(custody, now + (promised ? timeout(*flow, guest, custody) : guest.config.timer_ceiling_us));
}

// Ranges above a hole that nobody was promised: the peer still has them, and so has the guest, most
// likely. What was SACKed goes, too (RFC 2018 8): a sender that lives takes up at the ACK.
void Engine::let_ranges_go(Flow& flow, Guest& guest, vsnoop_held*& released) {
  purge(flow, guest, false, released);
  // Bytes that were in order but not promised are the peer's again, too.
  flow.rcv_nxt = flow.early_ack;
  settle_reservation(flow, guest, flow.rcv_nxt);
  count(guest, VSNOOP_REASON_ranges_let_go);
  // If the record stays (for frames in the ring, or for room), it knows what a new one would.
  Custody& custody = *custody_of(flow);
  custody.passed_from = flow.rcv_nxt;
  custody.passed = flow.peer_nxt;
  settle(flow);
}

// Whether a flow holds nothing but such ranges, all of them out of the ring, and its peer is
// silent. What the guest has confirmed and left in its ring is none.
bool Engine::ranges_at_rest(const Flow& flow, u64 now) const {
  const Custody* custody = custody_of(flow);
  if (!custody || flow.early_ack != flow.guest_ack || custody->wait_head || custody->owed)
    return false;
  if (!custody->line_head && !custody->range_count) return false;
  if (static_cast<u16>(moment(now) - flow.last_seen) < ranges_rest) return false;
  for (const vsnoop_held* held = custody->line_head; held; held = held->next_line)
    if (held->state != VSNOOP_HELD_DELIVERED) return false;
  return true;
}

// Records are few. If none is free the first of some that nobody was promised anything for is let
// go: a peer that has vanished above a hole would have it for a minute, a tombstone for half a one,
// though its reset has left.
void Engine::free_a_record(u64 now, vsnoop_held*& released) {
  for (u32 i = 0; i < looked_at_for_a_record && free_custody_ == no_custody; ++i) {
    Custody& custody = custodies_[record_hand_];
    record_hand_ = record_hand_ + 1 == config_.custodies ? 0 : record_hand_ + 1;
    Flow* flow = table_.get(custody.flow);
    if (!flow) continue;
    if (custody.tomb && !custody.owed && !custody.wants_room) {
      custody.tomb = false;
      settle(*flow);
    } else if (ranges_at_rest(*flow, now)) {
      let_ranges_go(*flow, guests_[custody.guest], released);
    }
  }
}

void Engine::tell_broken(Ref ref, const Flow& flow, Guest& guest, Reason reason) {
  const u32 bytes = bytes_between(flow.guest_ack, flow.early_ack);
  guest.stats.broken += bytes;
  if (!config_.broken) return;
  vsnoop_flow_info info;
  describe(ref, info);
  config_.broken(config_.broken_context, &info, bytes, reason);
}

// The promise cannot be kept: both sides are shown a reset.
void Engine::fail_stop(Ref ref, Flow& flow, Guest& guest, Reason reason, vsnoop_held*& released) {
  count(guest, reason);
  tell_broken(ref, flow, guest, reason);
  end_flow(ref, flow, Ending::failed, released);
}

// A tombstone answers with resets, and repeats its own: a peer whose bytes were all acknowledged
// has nothing to send that would ask for another.
void Engine::entomb(Ref ref, Flow& flow, bool guest_too) {
  flow.state = VSNOOP_FLOW_STOPPED;
  flow.last_seen = moment(clock_);  // it stands for a while from now
  flow.sample_time = static_cast<u32>(clock_) - tomb_answer_us;
  flow.sample_seq = flow.peer_una;
  Custody* custody = custody_of(flow);
  if (custody) custody->owed = 0;  // no ACK after the reset
  owe(ref, flow, guest_too ? owed_rst_peer | owed_rst_guest : owed_rst_peer, clock_);
  custody = custody_of(flow);
  if (!custody) return;
  custody->tomb = true;
  custody->guest_too = guest_too;
  custody->tries = 0;
  arm(*custody, clock_ + tomb_interval_us);
}

void Engine::repeat_reset(Flow& flow, Custody& custody, u64 now) {
  if (++custody.tries >= tomb_resets) {
    custody.tomb = false;
    return settle(flow);
  }
  owe(custody.flow, flow, custody.guest_too ? owed_rst_peer | owed_rst_guest : owed_rst_peer, now);
  arm(custody, now + (tomb_interval_us << custody.tries));
}

// Whether a tombstone answers: what tells it a new number, at once; else not more often than every
// millisecond, or two that take each other for wrong would never end.
bool Engine::may_answer_again(Flow& flow, bool news, u64 now) {
  const u32 at = static_cast<u32>(now);
  if (!news && at - flow.sample_time < tomb_answer_us) return false;
  flow.sample_time = at;
  return true;
}

void Engine::quiesce(u16 id, bool on) {
  if (Guest* guest = guest_at(id)) {
    guest->quiescing = on;
    guest->stats.quiescing = on;
  }
}

vsnoop_held* Engine::guest_stop(u16 id, u64 now) {
  clock_ = now;
  vsnoop_held* released = nullptr;
  Guest* guest = guest_at(id);
  if (!guest) return released;
  for (u32 slot = 0; slot < table_.capacity(); ++slot) {
    const Ref ref = table_.ref_at(slot);
    Flow* flow = ref.is_null() ? nullptr : table_.get(ref);
    if (!flow || table_.key(ref).domain() != id) continue;
    if (flow->state == VSNOOP_FLOW_STOPPED) continue;
    if (flow->early_ack != flow->guest_ack)
      fail_stop(ref, *flow, *guest, VSNOOP_REASON_failstop_gone, released);
    else
      end_flow(ref, *flow, Ending::settled, released);
  }
  // What still waits behind the reset of a peer.
  for (u32 i = 0; i < config_.custodies; ++i) {
    Custody& custody = custodies_[i];
    if (custody.guest != id || !custody.frames || table_.get(custody.flow)) continue;
    purge_queue(custody, *guest, false, released);
    settle(custody, nullptr);
  }
  return released;
}

VSNOOP_END
