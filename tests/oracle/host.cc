// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/stage.h"

#include <algorithm>

namespace vsnoop_oracle {
namespace {

constexpr u64 most_at_once = 20000;  // frames that a guest takes at one instant
constexpr u64 beyond_us = 100;       // from the guest to the end behind it, and back

}  // namespace

// --- the host ------------------------------------------------------------------------------------

void Stage::at_host(const Bytes& bytes) {
  const u64 arrived = totals_.frames++;
  for (const Fault& fault : scenario_.faults)
    if (fault.at == arrived && fault.kind > FaultKind::corrupt_to_peer) apply(fault);

  const bool right = checksums_right(bytes);
  const Segment s = right ? parse(bytes) : Segment();
  Line& line = right ? *line_of(s.connection) : lines_[0];
  if (s.length || s.has(FIN) || s.has(SYN)) ++line.asked;
  // What it costs grows by powers of two, as the kernel's allocations do.
  u32 memory = 512;
  while (memory < bytes.size() + 300) memory *= 2;
  const vsnoop_frame frame = {bytes.data(), static_cast<u32>(bytes.size()),
                              static_cast<u32>(bytes.size()), memory, VSNOOP_CHECKSUM_UNKNOWN};
  vsnoop_flow_info before;
  const bool untouched = vsnoop_flow(v_, line.ref, &before) && !line.touched;
  const vsnoop_verdict verdict = vsnoop_from_peer(v_, guest_id, &frame, now_);
  if (play_.traced) {
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

// Custody leaves an eighth of the ring to frames that pass, as hosts do: a SYN finds its slot.
void Stage::feed() {
  vsnoop_feed feed;
  const size_t most = scenario_.ring - std::max(scenario_.ring / 8, 1);
  while (failure_.empty() && ring_up() && ring_.size() < most &&
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
      h.in_ring = feed.retain && !feed.more;
      if (feed.again) check_again(h, feed.skip);
      ring_.push_back({std::move(copy), h.in_ring ? &h : nullptr});
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
    if (too_big(f)) {
      if (e.to_guest) return fail("vsnoop sends the guest ICMP");
      note("vsnoop> too big");
      send(f, true);
      continue;
    }
    const Segment s = parse(f);
    Line* const found = line_of(s.connection);
    if (!found) return fail("vsnoop sends a frame of no connection");
    Line& line = *found;
    if (play_.traced)
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
    forget_let_go(line);
    for (const Range& block : s.sack)
      if (distance(block.second, s.ack) > 0) line.sacked.push_back(block);
    line.touched = true;
    check_said(line);
    leaves(line, s, true);
    send(f, true);
  }
}

// I4 and P4, in the order in which frames leave the host.
void Stage::leaves(Line& line, const Segment& s, bool by_vsnoop) {
  if (s.has(RST) || s.has(SYN) || !s.has(ACK) || line.lies || line.reborn) return;
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
  forget_let_go(line);
  for (const Range& block : s.sack)
    if (line.touched && block.first == s.ack)
      fail("G2: a SACK block begins at the ACK, which is taken for reneging: " +
           text(line, s, false));
  // I2, with the guest's own words: nothing new beyond what it takes now.
  const bool promises =
      by_vsnoop && line.heard && (!line.shown || distance(ack, line.shown_ack) > 0);
  const bool reached = std::any_of(line.sacked.begin(), line.sacked.end(),
                                   [&](const Range& range) { return range.second == s.ack; });
  if (promises && !reached && distance(s.ack, line.heard_edge + (1u << shift) - 1) > 0)
    fail("I2: promised beyond the guest's present window: " + text(line, s, false));
  for (const auto& [left, right] : line.sacked)
    if (distance(s.ack, left) >= 0 && distance(s.ack, right) < 0)
      fail("P4: the ACK stops at or inside a range that vsnoop SACKed: " + text(line, s, false));
  if (by_vsnoop && distance(ack, line.peer->una()) < 0) return;  // late, but never wrong
  line.shown_ack = line.shown ? std::max(line.shown_ack, ack) : ack;
  line.shown_edge = line.shown ? std::max(line.shown_edge, edge) : edge;
  line.shown = true;
}

// The window of the guest's newest segment: RFC 9293 3.10.7.4, SND.WL1 and SND.WL2. A keep-alive,
// one below what the peer has acknowledged, is no older for that: the guest has that window.
void Stage::hear(Line& line, const Segment& s) {
  if (!s.has(ACK) || s.has(RST)) return;
  const bool newest =
      !line.heard || s.has(SYN) || distance(s.ack, line.heard_ack) > 0 ||
      (s.ack == line.heard_ack && distance(s.seq, line.heard_seq) >= 0) ||
      (s.ack == line.heard_ack && !s.length && s.seq - line.guest->isn() + 1 == line.guest->una());
  if (!newest) return;
  const u32 shift = s.has(SYN) || scenario_.scale < 0 ? 0 : static_cast<u32>(scenario_.scale);
  const u32 said = s.ack + (static_cast<u32>(s.window) << shift);
  // P8: of a SYN-ACK and its repetitions the largest window counts.
  const bool repeats = s.has(SYN) && line.heard && s.ack == line.heard_ack;
  line.heard_edge = repeats && distance(line.heard_edge, said) > 0 ? line.heard_edge : said;
  line.heard = true;
  line.heard_ack = s.ack, line.heard_seq = s.seq;
  // What the guest itself takes back is no longer shown.
  const u32 edge = line.heard_edge - line.peer->isn();
  if (line.shown && distance(edge, line.shown_edge) < 0) line.shown_edge = edge;
}

// Ranges that were SACKed and let go again are the peer's (RFC 2018 8).
void Stage::forget_let_go(Line& line) {
  const u64 times = vsnoop_stats(v_, guest_id)->reasons[VSNOOP_REASON_ranges_let_go];
  if (times != line.let_go) line.sacked.clear();
  line.let_go = times;
}

// --- the guest -----------------------------------------------------------------------------------

void Stage::guest_sends(Line& line, const Segment& segment, u32 first) {
  const Bytes bytes = build(segment, false, first);
  if (forwards()) {
    flights_.push({now_ + beyond_us, order_++, bytes, Place::guest_out});
  } else if (scenario_.reorder_us && !segment.has(SYN)) {
    // Queues of a guest are served by processors of their own.
    const u64 delay = (++guest_frames_ * 2654435761u >> 8) % (scenario_.reorder_us + 1);
    flights_.push({now_ + delay, order_++, bytes, Place::from_guest});
  } else {
    from_guest(line, bytes);
  }
}

void Stage::from_guest(const Bytes& bytes) {
  if (!too_big(bytes)) return from_guest(*line_of(parse(bytes).connection), bytes);
  if (!ring_up()) return;
  Bytes copy = bytes;
  const vsnoop_frame frame = {copy.data(), static_cast<u32>(copy.size()),
                              static_cast<u32>(copy.size()), 0, VSNOOP_CHECKSUM_UNKNOWN};
  const vsnoop_verdict verdict = vsnoop_from_guest(v_, guest_id, &frame, now_);
  note(std::string("> too big  // ") + vsnoop_reason_name(verdict.reason));
  release(verdict.released);
  if (verdict.action == VSNOOP_EDIT &&
      vsnoop_apply_edit(copy.data(), static_cast<u32>(copy.size()), &verdict.edit, 0))
    fail("an edit of ICMP is refused");
  if (verdict.action == VSNOOP_PASS || verdict.action == VSNOOP_EDIT) send(copy, true);
  emit();
}

void Stage::from_guest(Line& line, Bytes bytes) {
  if (!ring_up()) return;
  const Segment segment = parse(bytes);
  hear(line, segment);
  const vsnoop_frame frame = {bytes.data(), static_cast<u32>(bytes.size()),
                              static_cast<u32>(bytes.size()), 0, VSNOOP_CHECKSUM_UNKNOWN};
  vsnoop_flow_info before;
  const bool tracked = vsnoop_flow(v_, line.ref, &before);
  if (tracked && (before.early_ack != before.guest_ack || before.shown_edge != before.right_edge))
    line.touched = true;
  const bool untouched = !line.touched;
  const vsnoop_verdict verdict = vsnoop_from_guest(v_, guest_id, &frame, now_);
  if (play_.traced) {
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
    if (play_.traced && verdict.action == VSNOOP_EDIT) note("// seen as " + text(line, out, false));
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
    if (++at_this_instant_ > most_at_once)
      return fail("no progress in time: the guest takes frame after frame at one instant");
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
    if (forwards())
      forward(entry.bytes);
    else
      guest_gets(entry.bytes);
    emit();
    if (ring_.empty()) {
      for (vsnoop_held* held : late) consumed(held);
      late.clear();
      feed();
    }
  }
  for (vsnoop_held* held : late) consumed(held);
  for (; !guest_out_.empty(); guest_out_.pop_front()) from_guest(guest_out_.front());
  for (Line* line : active_)
    if (!forwards() && line->started && line->guest->due() <= now_) line->guest->tick(now_);
  emit();
}

void Stage::guest_gets(const Bytes& bytes) {
  if (!checksums_right(bytes)) return;
  const Segment s = parse(bytes);
  Line* const line = line_of(s.connection);
  if (!line || !line->started || now_ < deaf_until_ || (now_ < firewall_until_ && s.length)) return;
  if (line->reborn && s.has(SYN) && !s.has(ACK) && line->guest->over()) {
    TcpOptions o = line->guest->options();
    o.isn += 7777777;
    line->guest = make_guest(*line, o);
    line->guest->start(now_);
  }
  line->guest->get(bytes, s, now_);
}

// As a router does: what is too big for the next link is dropped and its sender is told; what the
// link cannot take waits in a queue of bounded length.
void Stage::forward(const Bytes& bytes) {
  const Beyond& next = scenario_.beyond;
  if (packet_length(bytes) > next.mtu) return from_guest(build_too_big(bytes, next.mtu));
  u64 at = now_;
  if (next.kbit_s) {
    while (!on_link_.empty() && on_link_.front() <= now_) on_link_.pop_front();
    if (on_link_.size() > next.queue) {
      ++dropped_beyond_;
      return;
    }
    if (!on_link_.empty()) at = on_link_.back();
    on_link_.push_back(at += bytes.size() * 8000 / next.kbit_s);
  }
  flights_.push({at + beyond_us, order_++, bytes, Place::end_beyond});
}

}  // namespace vsnoop_oracle
