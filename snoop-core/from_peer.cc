// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Peer to guest: the rules P0 .. P12, tried in the order P10 P12 P8 P9 P7 P6 P3 P3b P2 P1 P5 P4 P0.
// Nothing is promised here: the verdict says what the host should try, taken() promises.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr u32 answer_interval_us = 1000;  // between two answers to duplicates of one flow

}  // namespace

Verdict Engine::verdict(const Scene& scene, u8 action, Reason reason, u8 retain, u8 flags) {
  count(scene.guest, reason);
  Verdict v = Verdict();
  v.action = action;
  v.reason = reason;
  v.retain = retain;
  v.flags = flags;
  v.seq = scene.segment.seq.raw;
  v.length = scene.segment.payload;
  v.memory = scene.frame.memory;
  v.flow = {scene.ref.slot, scene.ref.generation, scene.id};
  v.released = scene.let_go;
  return v;
}

// On a frame that belongs to no flow.
Verdict Engine::untracked(u16 id, Guest* guest, Reason reason) {
  if (guest) count(*guest, reason);
  Verdict v = Verdict();
  v.action = VSNOOP_PASS;
  v.reason = reason;
  v.flow = {Ref::null_slot, 0, id};
  return v;
}

// Reads the segment and finds its flow. Returns why it may not be believed, or `none`.
Reason Engine::look(Scene& scene, Direction direction) {
  Segment& s = scene.segment;
  seen_checksum_ = scene.frame.checksum;
  const Reason reason = parse(scene.frame, direction, scene.id, s);
  if (reason != VSNOOP_REASON_none) return reason;
  const bool good = checksum_good(scene.frame, s);
  seen_checksum_ = s.checksum;
  scene.flow = table_.find(s.key, scene.ref);
  if (VSNOOP_LIKELY(good)) return VSNOOP_REASON_none;
  return s.checksum == VSNOOP_CHECKSUM_BAD ? VSNOOP_REASON_bad_checksum
                                           : VSNOOP_REASON_unverified_checksum;
}

Verdict Engine::from_peer(u16 id, const vsnoop_frame& frame, u64 now) {
  Guest* guest = guest_at(id);
  if (!guest || guest->config.policy == VSNOOP_POLICY_OFF)
    return untracked(id, nullptr, VSNOOP_REASON_off);
  clock_ = now;
  stirred_ = true;
  Scene scene(id, *guest, frame, now);
  Reason reason = look(scene, Direction::from_peer);
  if (!scene.flow && reason == VSNOOP_REASON_none) reason = learn_from_peer(scene);
  if (!scene.flow) return untracked(id, guest, reason);
  if (VSNOOP_UNLIKELY(free_custody_ == no_custody)) free_a_record(now, scene.let_go);
  return decide(scene);
}

void Engine::prefetch(u16 id, bool from_peer, const vsnoop_frame* frames, u32 count) const {
  constexpr u32 at_once = 32;
  const Direction direction = from_peer ? Direction::from_peer : Direction::from_guest;
  while (count) {
    const u32 some = count < at_once ? count : at_once;
    FlowKey keys[at_once];
    Ref refs[at_once];
    u32 parsed = 0;
    for (u32 i = 0; i < some; ++i) {
      Segment segment;
      if (parse(frames[i], direction, id, segment) == VSNOOP_REASON_none)
        keys[parsed++] = segment.key;
    }
    table_.find_batch(keys, parsed, refs);
    frames += some;
    count -= some;
  }
}

Verdict Engine::decide(Scene& scene) {
  Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  note_time(flow, scene.now);
  if (flow.state == VSNOOP_FLOW_STOPPED) return stopped_from_peer(scene);
  scene.seen = flow.peer_nxt;
  const bool verified =
      s.checksum == VSNOOP_CHECKSUM_VERIFIED || s.checksum == VSNOOP_CHECKSUM_PARTIAL;
  if (VSNOOP_UNLIKELY(!verified || (s.flags & (SYN | RST | URG | ACK)) != ACK ||
                      flow.is(flow_ts) != s.has_ts()))
    return decide_unusual(scene);
  // P10: RFC 5961 5.2, RFC 7323 5.3.
  const bool known_ack = acceptable_ack(flow, s);
  if (VSNOOP_LIKELY(known_ack)) note_sent(flow, s);
  if (s.has_ts() && older(s.tsval, flow.ts_recent) && !flow.is(flow_peer_rested))
    return forward(scene, VSNOOP_REASON_paws, true);
  if (!known_ack) return forward(scene, VSNOOP_REASON_unacceptable_ack, true);
  if (VSNOOP_UNLIKELY(s.odd_option)) {  // P12
    // Not from one who guesses (RFC 5961): the guest would not look at it either.
    const bool in_window = !before(s.end(), flow.guest_ack) && !after(s.seq, flow.right_edge);
    if (in_window) return bypass(scene, VSNOOP_REASON_odd_option);
    return forward(scene, VSNOOP_REASON_odd_option, true);
  }

  // Not while the window shown is open: then it is a keep-alive, and only the guest can tell
  // whether its end of the connection lives.
  const bool closure_is_ours = flow.shown_edge != flow.right_edge &&
                               bytes_between(flow.early_ack, flow.shown_edge) < flow.mss;

  // P6. RFC 9293 3.8.4, 3.8.6.1: keep-alives and probes are at or below SND.NXT - 1.
  if (s.payload <= 1 && !s.has(FIN) && before(s.seq, flow.rcv_nxt) &&
      !after(s.end(), flow.rcv_nxt) && (s.payload == 0 || s.seq + 1 == flow.rcv_nxt)) {
    if (closure_is_ours && answerable(scene))
      return answer(scene, VSNOOP_REASON_probe_answered, owed_answer);
    // The guest takes nothing out of a segment that lies below what it has acknowledged.
    if (!before(s.end(), flow.guest_ack)) note_acceptable(scene);
    return forward(scene, VSNOOP_REASON_probe, true);
  }
  if (after(s.seq, flow.right_edge) || after(s.end(), flow.right_edge))
    return forward(scene, VSNOOP_REASON_out_of_window, true);
  if (s.payload && after(s.end(), flow.shown_edge)) {
    // It was not invited to: a probe of the window that vsnoop closed.
    if (answerable(scene)) return answer(scene, VSNOOP_REASON_probe_answered, owed_answer);
    note_acceptable(scene);
    return forward(scene, VSNOOP_REASON_beyond_window, true);
  }

  note_acceptable(scene);
  if (VSNOOP_UNLIKELY(s.has(FIN))) return decide_fin(scene);
  if (s.payload == 0) return forward(scene, VSNOOP_REASON_pure_ack, false);  // P0
  return decide_data(scene);
}

// P7: data before it may be acknowledged early, the FIN never, nothing after it. One below what
// came after it is an old one, or a guess.
Verdict Engine::decide_fin(Scene& scene) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  if (before(s.end(), flow.rcv_nxt)) return forward(scene, VSNOOP_REASON_fin, true);
  Verdict v = s.payload && !at_or_before(s.end(), flow.rcv_nxt)
                  ? decide_data(scene)
                  : forward(scene, VSNOOP_REASON_fin, true);
  // Above a hole it closes nothing yet: the hole is filled as any other.
  const bool reached = !after(s.seq, flow.rcv_nxt);
  flow.set(flow_credit);
  if (!before(s.end(), flow.guest_ack)) flow.set(flow_peer_fin);  // else an old one
  if (reached && flow.is(flow_peer_fin) && flow.state == VSNOOP_FLOW_ACTIVE)
    flow.state = VSNOOP_FLOW_CLOSING;
  return v;
}

// P8, P9, and what of P10 shows in the headers alone.
Verdict Engine::decide_unusual(Scene& scene) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  if (s.checksum == VSNOOP_CHECKSUM_BAD) return forward(scene, VSNOOP_REASON_bad_checksum, false);
  if (!s.has(SYN | RST) && s.has(ACK) && acceptable_ack(flow, s)) note_sent(flow, s);
  if (s.checksum == VSNOOP_CHECKSUM_UNKNOWN)
    return forward(scene, VSNOOP_REASON_unverified_checksum, false);
  if (s.has(RST)) return reset_from_peer(scene);  // P9
  if (s.has(SYN)) {
    // P8: never answered. The old connection goes on unless the guest answers with SYN-ACK.
    Scene apart = scene;
    apart.flow = nullptr;
    learn_from_peer(apart);
    // Anybody can send one; but after the peer's own reset it shows that nobody counts on the
    // promise any more.
    Custody* custody = custody_of(flow);
    if (custody && custody->reset_held) renew(*custody, scene.guest);
    return forward(scene, VSNOOP_REASON_syn, true);
  }
  if (s.has(URG)) return forward(scene, VSNOOP_REASON_urgent, true);
  if (!s.has(ACK)) return forward(scene, VSNOOP_REASON_no_ack_flag, false);
  return forward(scene, VSNOOP_REASON_timestamp_mismatch, true);
}

// RFC 9293 3.10.7.4, RFC 5961 5.2.
bool Engine::acceptable_ack(const Flow& flow, const Segment& s) const {
  const u32 max_window = static_cast<u32>(flow.max_window) << flow.peer_shift();
  return !after(s.ack, flow.guest_snd_nxt) && after(s.ack, flow.peer_una - max_window - 1);
}

// If it begins in the window and knows the guest's numbers, the guest may take and acknowledge it,
// whatever is said of it later. Nothing follows a FIN. A window that was taken back may have been
// said by an older segment.
void Engine::note_sent(Flow& flow, const Segment& s) {
  const Seq end = s.end() + (s.flags & FIN);
  if (!after(end, flow.peer_nxt) || flow.is(flow_peer_fin)) return;
  const bool shrunk = flow.is(flow_shrunk);
  if (!after(s.seq, shrunk ? later(flow.right_edge, flow.peer_nxt) : flow.right_edge))
    flow.peer_nxt = end;
}

// P3, P3b, P2, P1, P5, P4: payload within the windows.
Verdict Engine::decide_data(Scene& scene) {
  Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  Custody* custody = custody_of(flow);
  const bool hold = scene.guest.config.policy == VSNOOP_POLICY_HOLD;
  // Under `hold` everything between guest_ack and early_ack is in custody.
  const bool guest_may_lack_it = !hold && after(s.end(), flow.guest_ack);

  if (at_or_before(s.end(), flow.early_ack)) {  // P3
    // I5: so far the guest speaks for itself. I4: it has said more than we could.
    if (!flow.is(flow_touched) || flow.is(flow_guest_ahead))
      return forward(scene, VSNOOP_REASON_duplicate_forwarded, true);
    const bool answered = answer_duplicate(scene);
    // note_acceptable() has run, so `news` says whether the guest has yet to see its ACK.
    if (!answered || guest_may_lack_it || scene.news)
      return forward(scene, VSNOOP_REASON_duplicate_forwarded, !answered);
    return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_duplicate_answered);
  }
  if (at_or_before(s.end(), flow.rcv_nxt)) {  // P3b
    if (may_promise(flow, scene.guest, scene.now) == VSNOOP_REASON_none)
      promise(scene.ref, flow, scene.guest, scene.now);
    // What waits is on its way: the guest will answer that one.
    const bool comes = at_or_before(s.end(), flow.early_ack) || (custody && custody->wait_head);
    if (hold && comes && !scene.news)
      return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_duplicate_unpromised);
    return forward(scene, VSNOOP_REASON_duplicate_unpromised, true);
  }
  if (at_or_before(s.seq, flow.rcv_nxt)) {  // P2, P1, P5
    flow.clear(flow_rst_pause);
    const Reason reason = custody && custody->range_count ? VSNOOP_REASON_fills_hole
                          : s.seq == flow.rcv_nxt         ? VSNOOP_REASON_in_order
                                                          : VSNOOP_REASON_overlap;
    return take(scene, reason);
  }
  return take(scene, VSNOOP_REASON_above_hole);  // P4
}

// Data that counts once the host has taken it, if it may be promised for.
Verdict Engine::take(Scene& scene, Reason reason) {
  Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  Guest& guest = scene.guest;
  if (VSNOOP_UNLIKELY(flow.is(flow_peer_fin)) && !before(s.end(), flow.peer_nxt) && !s.has(FIN))
    return forward(scene, VSNOOP_REASON_closing, true);  // P7: nothing after it
  const Reason pause = may_promise(flow, guest, scene.now);
  if (pause != VSNOOP_REASON_none) {
    if (!flow.is(flow_sampling | flow_redelivered) && reason != VSNOOP_REASON_above_hole) {
      // Not promised, but how long the guest takes is worth knowing (engage = auto).
      flow.set(flow_sampling);
      flow.sample_seq = s.end();
      flow.sample_time = static_cast<u32>(scene.now);
    }
    if (reason == VSNOOP_REASON_above_hole || !eases_out(flow, guest, pause))
      return forward(scene, pause, false);
  }
  if (VSNOOP_UNLIKELY(before(s.end(), scene.seen)) && reason != VSNOOP_REASON_above_hole &&
      flow.is(flow_sack) && meets_passed(scene))
    return forward(scene, VSNOOP_REASON_passed_above, false);
  const bool first = flow.custody == no_custody;  // note_acceptable() has found none
  Custody* custody = acquire(scene.ref, flow, scene.now);
  if (!custody) return forward(scene, VSNOOP_REASON_no_record, false);
  if (first) custody->passed = flow.is(flow_peer_fin) ? flow.rcv_nxt : scene.seen;
  if (first && s.has_ts()) note_timestamps(flow, *custody, s);
  const bool above = reason == VSNOOP_REASON_above_hole;
  if (above && !recordable(*custody, s.seq, s.end())) {
    settle(flow);
    return forward(scene, VSNOOP_REASON_holes_full, false);
  }
  if (!affordable(flow, guest, scene.frame.memory)) {
    learn_cost(flow, scene.frame.memory, s.payload);  // or its price would never be known
    find_room(scene.now);
    settle(flow);
    return forward(scene, VSNOOP_REASON_no_budget, false);
  }
  const bool hold = guest.config.policy == VSNOOP_POLICY_HOLD;
  const bool promise = pause == VSNOOP_REASON_none;
  return verdict(scene, hold ? VSNOOP_KEEP : VSNOOP_PUSH, promise ? reason : pause, hold,
                 promise ? verdict_data | verdict_promise : verdict_data);
}

// Whether an ACK of this segment would end at or inside of what has merely passed. The guest may
// have SACKed that, and a sender takes such an ACK for reneging.
bool Engine::meets_passed(const Scene& scene) const {
  const Flow& flow = *scene.flow;
  Seq end = scene.segment.end();
  const Custody* custody = custody_of(flow);
  // A FIN counts as seen, and is nothing that passed.
  if (!custody) return before(end, scene.seen) && !flow.is(flow_peer_fin);
  for (unsigned i = 0; i < custody->range_count; ++i)
    if (!after(custody->range[i].begin, end)) end = later(end, custody->range[i].end);
  return before(end, custody->passed) && !before(end, custody->passed_from);
}

// The peer sends for the round trip and the window that vsnoop has shown it. When promising ends,
// what it has been invited to send is taken into custody as before, though not promised: it would
// overrun the guest's ring, and the peer's timer is far too short for the guest.
bool Engine::eases_out(const Flow& flow, const Guest& guest, Reason pause) const {
  return flow.is(flow_touched) && guest.config.policy == VSNOOP_POLICY_HOLD &&
         (pause == VSNOOP_REASON_closing || pause == VSNOOP_REASON_guest_closed ||
          pause == VSNOOP_REASON_quiescing || pause == VSNOOP_REASON_guest_silent);
}

// Goes to the guest and nothing else happens. Per-flow FIFO: while frames of the flow wait, it
// queues behind them or, over budget, is dropped (nobody was promised anything about it).
Verdict Engine::forward(Scene& scene, Reason reason, bool credit) {
  Flow& flow = *scene.flow;
  if (credit) flow.set(flow_credit);
  Custody* custody = custody_of(flow);
  if (!custody) return verdict(scene, VSNOOP_PASS, reason);
  const bool behind = custody->wait_head;
  if (behind && !affordable(flow, scene.guest, scene.frame.memory)) {
    count(scene.guest, VSNOOP_REASON_dropped_behind);
    return verdict(scene, VSNOOP_DROP, reason);
  }
  const Segment& s = scene.segment;
  if (s.payload && after(s.end(), flow.rcv_nxt) && !after(s.end(), flow.right_edge) &&
      !flow.is(flow_peer_fin)) {
    const bool first = !after(custody->passed, flow.rcv_nxt);
    custody->passed_from = first ? s.seq : earlier(custody->passed_from, s.seq);
    custody->passed = later(custody->passed, s.end());
  }
  if (!behind) return verdict(scene, VSNOOP_PASS, reason);
  count(scene.guest, VSNOOP_REASON_queued_behind);
  return verdict(scene, VSNOOP_KEEP, reason);
}

// P12: the connection is not understood. What was promised drains first.
Verdict Engine::bypass(Scene& scene, Reason reason) {
  Flow& flow = *scene.flow;
  flow.state = VSNOOP_FLOW_DRAINING;
  Verdict v = forward(scene, reason, true);
  hand_back(scene.ref, flow, v.released);
  return v;
}

// A new connection of the peer's on the same tuple does not wait for the end of the old one.
void Engine::renew(Custody& custody, Guest& guest) {
  custody.renewed = true;
  join_feed(custody, guest);
}

// P9. RFC 5961 3.2: only SEQ == RCV.NXT resets.
Verdict Engine::reset_from_peer(Scene& scene) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  if (s.seq == flow.rcv_nxt) {
    flow.state = VSNOOP_FLOW_CLOSING;
    Custody* custody = custody_of(flow);
    const Ref next = embryos_.find(s.key);
    const bool renewed =
        !next.is_null() &&
        (embryos_.get(next)->flags & (embryo_peer_opened | embryo_complete)) == embryo_peer_opened;
    if (custody && renewed) renew(*custody, scene.guest);
    if ((flow.early_ack == flow.guest_ack || renewed) && !(custody && custody->wait_head)) {
      Verdict v = verdict(scene, VSNOOP_PASS, VSNOOP_REASON_rst_exact);
      end_flow(scene.ref, flow, Ending::by_peer, v.released);
      return v;
    }
    // It must not overtake what was promised. One is enough; and without room for it the guest
    // learns of the reset when the peer answers its next segment.
    const bool repeated = custody && custody->reset_held;
    if (repeated || !affordable(flow, scene.guest, scene.frame.memory))
      return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_rst_exact);
    Verdict v = verdict(scene, VSNOOP_KEEP, VSNOOP_REASON_rst_exact);
    v.flags = verdict_rst;
    return v;
  }
  if (after(s.seq, flow.rcv_nxt) && before(s.seq, flow.right_edge)) {
    flow.set(flow_rst_pause);
    return forward(scene, VSNOOP_REASON_rst_in_window, true);
  }
  return forward(scene, VSNOOP_REASON_rst_outside, true);
}

// A tombstone: the peer's challenge ACK tells where its RCV.NXT is. It is answered there, and moves
// nothing: anybody can send one. Who knows the peer's own number, or a SYN that the guest answers,
// shows that the resets have come.
Verdict Engine::stopped_from_peer(Scene& scene) {
  Flow& flow = *scene.flow;
  const Segment& s = scene.segment;
  if (s.checksum == VSNOOP_CHECKSUM_BAD) return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_stopped);
  if (s.has(RST)) {
    Custody* custody = custody_of(flow);
    if (custody && (s.seq == flow.rcv_nxt || s.seq == flow.peer_nxt)) custody->tomb = false;
    settle(flow);
  } else if (s.has(SYN)) {
    Scene apart = scene;
    apart.flow = nullptr;
    learn_from_peer(apart);
    Verdict v = verdict(scene, VSNOOP_PASS, VSNOOP_REASON_syn);
    if (s.has(ACK) && answered(s)) end_flow(scene.ref, flow, Ending::by_peer, v.released);
    return v;
  } else if (s.has(ACK)) {
    const bool its_own = !before(s.ack, flow.peer_una) && !after(s.ack, flow.guest_snd_nxt);
    if (may_answer_again(flow, its_own && s.ack != flow.sample_seq, scene.now) &&
        owe(scene.ref, flow, owed_rst_peer, scene.now)) {
      Custody& custody = *custody_of(flow);
      custody.answers = true;
      custody.answer_at = flow.sample_seq = s.ack;
    }
  }
  return verdict(scene, VSNOOP_DROP, VSNOOP_REASON_stopped);
}

// Whether vsnoop may answer a probe itself: not if it brings the guest news (I6), and not for a
// guest that shows no life, or a dead one would look alive for as long as the peer asks.
bool Engine::answerable(const Scene& scene) const {
  const Segment& s = scene.segment;
  const Flow& flow = *scene.flow;
  const Seq edge = s.ack + (static_cast<u32>(s.window) << flow.peer_shift());
  return !flow.is(flow_guest_ahead) && !after(s.ack, flow.peer_una) &&
         !after(edge, flow.peer_edge) && !silent(scene.guest, scene.now);
}

// Answered by vsnoop, not forwarded.
Verdict Engine::answer(Scene& scene, Reason reason, u8 owed) {
  if (!owe(scene.ref, *scene.flow, owed, scene.now)) return forward(scene, reason, true);
  return verdict(scene, VSNOOP_DROP, reason);
}

// P3: at once, in every state, with the block that was seen twice (RFC 2883), but not more often
// than answer_interval_us. Returns false if it cannot be answered.
bool Engine::answer_duplicate(Scene& scene) {
  Flow& flow = *scene.flow;
  const u32 now = static_cast<u32>(scene.now);
  if (now - flow.answered_at < answer_interval_us) return true;
  Custody* custody = acquire(scene.ref, flow, scene.now);
  if (!custody) return false;
  custody->dsack_begin = scene.segment.seq;
  custody->dsack_end = scene.segment.end();
  const bool owed =
      owe(scene.ref, flow, owed_ack | (flow.is(flow_sack) ? owed_dsack : 0), scene.now);
  if (owed)
    flow.answered_at = now;
  else
    settle(flow);
  return owed;
}

// What an acceptable segment says about the peer. RFC 9293 3.10.7.4, RFC 7323 4.3.
void Engine::note_acceptable(Scene& scene) {
  const Segment& s = scene.segment;
  Flow& flow = *scene.flow;
  const Seq edge = s.ack + (static_cast<u32>(s.window) << flow.peer_shift());
  scene.news = after(s.ack, flow.peer_una) || after(edge, flow.peer_edge);
  if (before(s.end(), flow.guest_ack)) return;  // out of the guest's window: it does not look at it
  flow.peer_una = later(flow.peer_una, s.ack);
  flow.peer_edge = later(flow.peer_edge, edge);
  if (s.window > flow.max_window) flow.max_window = s.window;
  if (!s.has_ts()) return;
  Custody* custody = custody_of(flow);
  if (custody) note_timestamps(flow, *custody, s);
  // Last.ACK.sent is what has left: of several segments that one ACK will answer, the earliest
  // counts.
  const bool ack_waits = custody && (custody->owed & owed_promise);
  if (!ack_waits && at_or_before(s.seq, flow.early_ack) &&
      (!older(s.tsval, flow.ts_recent) || flow.is(flow_peer_rested))) {
    flow.ts_recent = s.tsval;
    flow.clear(flow_peer_rested);
  }
}

// What a frame that is delivered again will need: the guest may have seen this segment before.
void Engine::note_timestamps(const Flow& flow, Custody& custody, const Segment& s) {
  if (older(custody.newest_tsval, s.tsval) || flow.is(flow_peer_rested))
    custody.newest_tsval = s.tsval;
  if (s.ack != flow.peer_una) return;
  custody.newest_tsecr = s.tsecr;
  custody.tsecr_known = true;
}

// The sweep looks for rests as well, which are longer than a moment can say.
void Engine::note_time(Flow& flow, u64 now) {
  if (VSNOOP_UNLIKELY(rested(flow, now))) note_rest(flow);
  flow.last_seen = moment(now);
}

// What was given to the guest before may look newer than what the peer says from here on. A promise
// does not stand for as long as that takes.
void Engine::note_rest(Flow& flow) {
  flow.set(flow_guest_rested | flow_peer_rested);
  Custody* custody = custody_of(flow);
  if (custody && flow.early_ack == flow.guest_ack) custody->tsval_raised = false;
}

VSNOOP_END
