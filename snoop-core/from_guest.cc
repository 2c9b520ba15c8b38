// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Guest to peer: the rules G1 .. G8.
#include "snoop-core/engine.h"
#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

constexpr u8 duplicate_threshold = 3;  // RFC 5681 3.2

bool has_sacked(const Custody& custody, Seq begin, Seq end) {
  for (unsigned i = 0; i < custody.range_count; ++i) {
    const Range& range = custody.range[i];
    if (range.sacked && !before(begin, range.begin) && !after(end, range.end)) return true;
  }
  return false;
}

}  // namespace

Verdict Engine::from_guest(u16 id, const vsnoop_frame& frame, u64 now) {
  Guest* guest = guest_at(id);
  if (!guest || guest->config.policy == VSNOOP_POLICY_OFF)
    return untracked(id, nullptr, VSNOOP_REASON_off);
  clock_ = now;
  stirred_ = true;
  guest->life_at = now;
  Scene scene(id, *guest, frame, now);
  const Segment& s = scene.segment;
  // A wrong checksum: whoever checks, checks before an ACK may release what is held.
  const Reason fault = look(scene, Direction::from_guest);
  if (fault == VSNOOP_REASON_not_tcp) return too_big(scene);
  if (fault != VSNOOP_REASON_none) return untracked(id, guest, fault);
  if (!scene.flow || s.has(SYN)) {
    Scene apart = scene;
    apart.flow = nullptr;
    const Reason reason = learn_from_guest(apart);
    if (scene.flow) {
      // P8: the guest took the peer's new SYN, or opens anew itself: the old connection is over.
      Verdict v = verdict(scene, VSNOOP_PASS, reason);
      // Whether we know that SYN or not. A SYN-ACK says that the peer has given it up as well.
      if (renews(*scene.flow, s))
        end_flow(scene.ref, *scene.flow, s.has(ACK) ? Ending::renewed : Ending::by_guest,
                 v.released);
      return v;
    }
    if (!apart.flow) return untracked(id, guest, reason);
    scene.ref = apart.ref;
    scene.flow = apart.flow;
  }

  Flow& flow = *scene.flow;
  note_time(flow, now);
  if (VSNOOP_UNLIKELY(flow.state == VSNOOP_FLOW_STOPPED)) return stopped_from_guest(scene);
  if (s.has(RST)) return reset_from_guest(scene);
  if (!s.has(ACK)) return verdict(scene, VSNOOP_PASS, VSNOOP_REASON_guest_passes);
  note_link(scene, flow.link, flow.label_and_isn);

  if (after(s.ack, flow.peer_nxt)) {
    // It acknowledges what was never seen: our picture is wrong somewhere.
    flow.state = VSNOOP_FLOW_DRAINING;
    flow.set(flow_guest_ahead);
    // It passes unchanged, so the peer is shown its window: no later segment may take that back
    // (I4).
    flow.right_edge =
        later(flow.right_edge, s.ack + (static_cast<u32>(s.window) << flow.guest_shift()));
    flow.shown_edge = later(flow.shown_edge, flow.right_edge);
    Verdict v = verdict(scene, VSNOOP_PASS, VSNOOP_REASON_guest_ack_unseen);
    hand_back(scene.ref, flow, v.released);
    return v;
  }
  if (s.odd_option) flow.state = VSNOOP_FLOW_DRAINING;  // P12

  Verdict v = note_guest(scene);
  if (flow.state == VSNOOP_FLOW_DRAINING) hand_back(scene.ref, flow, v.released);
  return v;
}

// G6: passes as it is; the flow ends, unless the peer cannot take it for a reset of this
// connection (RFC 5961 3.2): it may be of one before.
Verdict Engine::reset_from_guest(Scene& scene) {
  const Flow& flow = *scene.flow;
  const Seq seq = scene.segment.seq;
  Verdict v = verdict(scene, VSNOOP_PASS, VSNOOP_REASON_guest_reset);
  if (!before(seq, flow.peer_una) && !after(seq, flow.guest_snd_nxt))
    end_flow(scene.ref, *scene.flow, Ending::by_guest, v.released);
  return v;
}

// A tombstone. The guest's segment says where its RCV.NXT is; a reset there needs no second one.
Verdict Engine::stopped_from_guest(Scene& scene) {
  Flow& flow = *scene.flow;
  const Segment& s = scene.segment;
  if (s.has(RST)) {
    if (Custody* custody = custody_of(flow)) custody->guest_too = false;
  } else if (s.has(ACK) && may_answer_again(flow, s.ack != flow.guest_ack, scene.now)) {
    flow.early_ack = flow.guest_ack = s.ack;
    owe(scene.ref, flow, owed_rst_guest, scene.now);
  }
  return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_stopped);
}

// G1, then G4 (drop) or G2 (pass, rebased if need be).
Verdict Engine::note_guest(Scene& scene) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  Guest& guest = scene.guest;
  Custody* custody = custody_of(flow);

  const bool fin = s.has(FIN);
  const Seq end = s.end() + (fin ? 1 : 0);
  const bool at_snd_nxt = s.seq == flow.guest_snd_nxt;
  const bool older_seq = before(s.seq, flow.guest_snd_nxt);
  flow.guest_snd_nxt = later(flow.guest_snd_nxt, end);
  if (fin) flow.set(flow_guest_fin);  // G8
  if (s.has_ts() && (older(flow.guest_tsval, s.tsval) || flow.is(flow_guest_rested)))
    flow.guest_tsval = s.tsval;

  const Seq edge = s.ack + (static_cast<u32>(s.window) << flow.guest_shift());
  const Seq old_guest_ack = flow.guest_ack, old_rcv_nxt = flow.rcv_nxt;
  const Seq shown_ack = flow.early_ack;  // before this segment shows more
  const bool same_edge = custody && custody->present_edge == edge;
  // RFC 9293 3.10.7.4: an older segment says nothing of the window (SND.WL1, SND.WL2).
  const bool newest = after(s.ack, old_guest_ack) || (s.ack == old_guest_ack && !older_seq);
  const bool opens = !before(edge, flow.right_edge);
  flow.clear(flow_guest_rested);
  if (opens)
    flow.right_edge = edge;
  else if (VSNOOP_UNLIKELY(newest))
    take_window_back(flow, guest, edge);
  if (custody && (opens || newest)) {
    custody->present_edge = edge;
    // A window that is closed and answered for: a sender would go on (RFC 9293 3.8.6.1).
    if (edge == s.ack) custody->progress_at = scene.now;
  }
  vsnoop_held* released = nullptr;
  if (after(s.ack, old_guest_ack)) {
    confirm(flow, guest, s.ack);
    if (custody) absorb_ranges(flow, *custody);
    if (custody && custody->recovering) review(*custody, shown_by(scene), true);
    measure(flow, guest, scene.now);
    release(flow, guest, released);
    settle_reservation(flow, guest, old_rcv_nxt);
    if (custody) note_progress(scene, *custody);
  } else if (custody && s.ack == old_guest_ack && s.payload == 0 && !fin) {
    note_duplicate(scene, *custody, same_edge);
  }

  Verdict v = decide_guest(scene, old_guest_ack, shown_ack, at_snd_nxt);
  v.released = released;
  // The ring is in order: who has what came after the last re-delivery has answered that, too.
  if (VSNOOP_UNLIKELY(flow.is(flow_redelivered)) && custody && after(s.ack, custody->fresh))
    flow.clear(flow_redelivered);
  if (flow.shown_edge != flow.right_edge && grantable(flow, guest) != flow.right_edge &&
      opening(flow, flow.right_edge))
    want_room(scene.ref, flow, guest, scene.now);
  settle(flow);
  serve_room(guest, scene.now);
  return v;
}

// The guest takes less than it said. The peer is to see that (I4 is about what vsnoop does), and
// nothing beyond is promised; what is promised stands. Less than a unit of the window field is
// rounding.
void Engine::take_window_back(Flow& flow, Guest& guest, Seq edge) {
  const Seq least = later(edge, flow.early_ack);
  if (!before(least + ((1u << flow.guest_shift()) - 1), flow.right_edge)) return;
  flow.set(flow_shrunk);
  flow.right_edge = least;
  if (!after(flow.shown_edge, least)) return;
  flow.shown_edge = least;
  flow.set(flow_credit);
  settle_reservation(flow, guest, flow.rcv_nxt);
}

Verdict Engine::decide_guest(Scene& scene, Seq old_guest_ack, Seq shown_ack, bool at_snd_nxt) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  Guest& guest = scene.guest;
  const bool pure = s.payload == 0 && (s.flags & ~u8(ACK)) == 0;
  const bool fresh_sack = s.sack_blocks && new_sack_information(scene);

  if (pure && at_snd_nxt && covered(scene, old_guest_ack, shown_ack) && !flow.is(flow_credit) &&
      !fresh_sack && !opens_window(flow, guest)) {
    ++guest.stats.acks_dropped;
    return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_guest_covered);
  }

  flow.clear(flow_credit);
  grant(flow, guest);
  if (flow.shown_edge != flow.right_edge) flow.set(flow_touched);
  if (!flow.is(flow_touched)) return verdict(scene, VSNOOP_PASS, VSNOOP_REASON_guest_passes);

  // G2.
  Verdict v = verdict(scene, VSNOOP_PASS, VSNOOP_REASON_guest_passes);
  const Seq ack = later(s.ack, flow.early_ack);
  const u32 window = bytes_between(ack, flow.shown_edge) >> flow.guest_shift();
  v.edit.ack = ack.raw;
  v.edit.window = static_cast<u16>(window < 0xffff ? window : 0xffff);
  v.edit.tsecr = flow.ts_recent;
  if (ack != s.ack) {
    v.edit.what |= VSNOOP_EDIT_ACK;
    if (s.has_ts()) v.edit.what |= VSNOOP_EDIT_TSECR;
  }
  if (v.edit.window != s.window) v.edit.what |= VSNOOP_EDIT_WINDOW;
  if (s.sack_blocks && (ack != s.ack || flow.is(flow_redelivered))) v.edit.what |= VSNOOP_EDIT_SACK;
  if (v.edit.what) {
    v.action = VSNOOP_EDIT;
    --guest.stats.reasons[VSNOOP_REASON_guest_passes];
    v.reason = VSNOOP_REASON_guest_rebased;
    count(guest, v.reason);
    ++guest.stats.acks_edited;
  }
  return v;
}

// G4: the peer has been shown this ACK number by vsnoop. A repetition of what was confirmed before
// is the guest speaking for itself (I6), and so is everything at a hole.
bool Engine::covered(const Scene& scene, Seq old_guest_ack, Seq shown_ack) const {
  const Flow& flow = *scene.flow;
  const Seq ack = scene.segment.ack;
  if (after(ack, shown_ack) || !flow.is(flow_touched)) return false;  // I5
  if (ack != flow.early_ack) return true;
  const Custody* custody = custody_of(flow);
  if (custody && custody->range_count) return speaks_at_hole(flow, scene.guest, *custody);
  return after(ack, old_guest_ack) || provoked(scene);
}

// Whether a frame that was delivered again made the guest say this (D-SACK, RFC 2883). To the peer
// it would be one more duplicate ACK.
bool Engine::provoked(const Scene& scene) const {
  const Segment& s = scene.segment;
  if (!scene.flow->is(flow_redelivered) || !s.sack_blocks) return false;
  return at_or_before(Seq(load32(scene.frame.data + s.sack_offset + 4)), s.ack);
}

// Whether this ACK would show the peer more window than it has been shown: enough to be worth it,
// or any at all when the peer may be waiting for it.
bool Engine::opens_window(const Flow& flow, const Guest& guest) const {
  const u32 opened = opening(flow, grantable(flow, guest));
  if (!opened) return false;
  return worth_an_update(flow, opened) ||
         as_seen(flow, bytes_between(flow.early_ack, flow.shown_edge)) < 2u * flow.mss;
}

// SACK blocks above the ACK the peer sees, unless they are those that passed last, or say what
// vsnoop has said.
bool Engine::new_sack_information(Scene& scene) {
  const Segment& s = scene.segment;
  u32 digest = 2166136261u;
  bool any = false;
  Custody* custody = custody_of(*scene.flow);
  for (unsigned i = 0; i < s.sack_blocks; ++i) {
    const u8* block = scene.frame.data + s.sack_offset + 8 * i;
    const Seq left(load32(block)), right(load32(block + 4));
    if (!after(right, scene.flow->early_ack)) continue;
    if (custody && has_sacked(*custody, left, right)) continue;
    any = true;
    digest = (digest ^ load32(block)) * 16777619u;
    digest = (digest ^ right.raw) * 16777619u;
  }
  if (!any) return false;
  if (!custody) return true;
  if (custody->has_sack_seen && custody->sack_seen == digest) return false;
  custody->has_sack_seen = true;
  custody->sack_seen = digest;
  return true;
}

// The guest's SACK blocks above its ACK (RFC 2018 3); what it says of bytes never sent is no SACK,
// nor is a D-SACK of what it has acknowledged, nor one that touches the ACK.
Engine::Shown Engine::shown_by(const Scene& scene) const {
  const Segment& s = scene.segment;
  Shown shown(scene.flow->guest_ack);
  for (unsigned i = 0; i < s.sack_blocks; ++i) {
    const u8* block = scene.frame.data + s.sack_offset + 8 * i;
    const Seq left(load32(block)), right(load32(block + 4));
    if (!after(left, shown.ack) || !before(left, right) || after(right, scene.flow->peer_nxt))
      continue;
    shown.left[shown.blocks] = left;
    shown.right[shown.blocks++] = right;
    shown.top = later(shown.top, right);
  }
  return shown;
}

// guest_ack moved: the timer starts anew, and a recovery goes on.
void Engine::note_progress(Scene& scene, Custody& custody) {
  if (custody.reset_fed) return;  // the timer ends the flow
  Flow& flow = *scene.flow;
  custody.progress_at = scene.now;
  if (VSNOOP_UNLIKELY(custody.probes || custody.tries)) note_probe(flow, custody);
  custody.tries = 0;
  custody.dup_acks = 0;
  if (VSNOOP_UNLIKELY(custody.recovering | scene.segment.sack_blocks)) note_holes(scene, custody);
  if (custody.line_head)
    arm(custody, scene.now + timeout(flow, scene.guest, custody));
  else
    disarm(custody);
  join_feed(custody, scene.guest);
}

// G7: the guest stays at guest_ack although more was delivered.
void Engine::note_duplicate(Scene& scene, Custody& custody, bool same_edge) {
  Flow& flow = *scene.flow;
  if (flow.guest_ack == flow.early_ack) return;
  const bool sack = scene.segment.sack_blocks;
  if (custody.recovering) {
    if (!sack) return;
    review(custody, shown_by(scene), false);
  }
  if (sack) note_holes(scene, custody);
  if (!custody.recovering && (sack || same_edge)) {  // no window update
    if (custody.dup_acks < duplicate_threshold) ++custody.dup_acks;
    if (custody.dup_acks >= duplicate_threshold && redeliverable(flow, custody)) {
      start_recovery(flow, custody, recovery_all);
      find_missing(flow, custody, shown_by(scene));
    }
  }
  join_feed(custody, scene.guest);
}

// Whether the guest lacks something below what it has; goes on with a recovery, begins or ends one.
void Engine::note_holes(Scene& scene, Custody& custody) {
  const Flow& flow = *scene.flow;
  if (custody.recovering && !before(flow.guest_ack, custody.recover)) {
    forget_again(custody);  // one that overlaps `recover` may be left
    custody.recovering = recovery_none;
  }
  const Shown shown = shown_by(scene);
  if (!custody.recovering) {
    if (!shown.blocks || flow.guest_ack == flow.early_ack || !redeliverable(flow, custody)) return;
    start_recovery(flow, custody, recovery_holes);
  }
  find_missing(flow, custody, shown);
}

// BYPASS: once nothing is outstanding the flow is forgotten and passes untouched from then on.
void Engine::hand_back(Ref ref, Flow& flow, vsnoop_held*& released) {
  const Custody* custody = custody_of(flow);
  if (flow.early_ack != flow.guest_ack || (custody && (custody->frames || custody->owed))) return;
  end_flow(ref, flow, Ending::settled, released);
}

VSNOOP_END
