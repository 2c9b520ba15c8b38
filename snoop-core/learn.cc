// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Handshakes (RFC 9293 3.5). A flow is born when its handshake is complete, so that a SYN flood
// cannot fill the flow table; what is not understood is simply never born (P12).
#include "snoop-core/engine.h"
#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

constexpr u16 embryo_life_s = 60;
constexpr u16 stopped_life_s = 60;
constexpr u16 closing_life_s = 120;
constexpr u32 evict_among = 256;      // flows
constexpr u32 least_silence = 8;      // moments: one second; who is heard of later is never evicted
constexpr u32 ring_slot = 4096;       // bytes
constexpr unsigned link_window = 16;  // places a link template may stand in

// P12: why a connection whose SYN-ACK is `s` stays untracked; `none` if it does not.
Reason refusal(const Embryo& embryo, const Segment& s) {
  if ((embryo.flags & embryo_ecn) && (s.has(ECE) || s.has(CWR) || s.accurate_ecn))
    return VSNOOP_REASON_ecn;
  return s.odd_option ? VSNOOP_REASON_odd_option : VSNOOP_REASON_none;
}

// Whether a segment of the guest's has come over no hop: stacks start with one of these. Who is not
// the end of the connection can neither be promised for nor knows what the end has got.
bool starts_here(const vsnoop_frame& frame, const Segment& s) {
  const u8* ip = frame.data + s.ip_offset;
  const u8 hops = s.version == 4 ? ip[8] : ip[7];
  return hops == 64 || hops == 128 || hops == 255 || hops == 60 || hops == 32;
}

// A repetition may offer more window than the first, and the peer may have got either.
void note_window(Embryo& embryo, const Segment& s) {
  if (s.window > embryo.guest_window) embryo.guest_window = s.window;
}

// What is remembered of the guest's initial sequence number.
constexpr u32 isn_tag(Seq isn) { return isn.raw << 20; }

// Options that both SYN and SYN-ACK carry.
u8 agreed(const Embryo& embryo, const Segment& s) {
  u8 flags = 0;
  if (s.has_scale) flags |= embryo_scaled;
  if (s.has_ts()) flags |= embryo_ts;
  if (s.sack_permitted) flags |= embryo_sack;
  return flags & embryo.flags;
}

}  // namespace

Embryo* Engine::embryo_for(const FlowKey& key, u64 now) {
  Ref ref = embryos_.find(key);
  const bool fresh = ref.is_null();
  if (fresh) ref = embryos_.insert(key);
  if (ref.is_null()) {
    // Full: somebody's half-open connections. The sweep takes the first it meets.
    embryos_.expire(1, [this](Ref, const FlowKey&, Embryo& old) {
      drop_link(old.link);
      return true;
    });
    ref = embryos_.insert(key);
    if (ref.is_null()) return nullptr;
  }
  Embryo* embryo = embryos_.get(ref);
  if (!fresh) drop_link(embryo->link);
  *embryo = Embryo();
  embryo->link = no_template;
  embryo->seen = moment(now);
  return embryo;
}

void Engine::forget_embryo(Ref ref) {
  drop_link(embryos_.get(ref)->link);
  embryos_.erase(ref);
}

Reason Engine::syn_from_peer(Scene& scene) {
  const Segment& s = scene.segment;
  Ref other = embryos_.find(s.key);
  if (!other.is_null()) {
    Embryo* embryo = embryos_.get(other);
    // RFC 9293 3.5 figure 7: both sides opened. P12.
    if (!(embryo->flags & (embryo_peer_opened | embryo_complete | embryo_split))) {
      embryo->flags = embryo_split;
      embryo->peer_iss = s.seq;
    }
    if ((embryo->flags & embryo_split) && embryo->peer_iss == s.seq)
      return VSNOOP_REASON_simultaneous_open;
    // Half-open: it changes nothing unless the guest answers it (RFC 5961 4).
    if (embryo->flags & embryo_complete) return VSNOOP_REASON_syn;
    // A repeated SYN, unless the number is new.
    if ((embryo->flags & embryo_peer_opened) && embryo->peer_iss == s.seq) return VSNOOP_REASON_syn;
  }
  if (s.odd_option) {
    if (!other.is_null()) forget_embryo(other);  // the SYN-ACK may answer this one
    return VSNOOP_REASON_odd_option;
  }
  Embryo* embryo = embryo_for(s.key, scene.now);
  if (!embryo) return VSNOOP_REASON_table_full;
  embryo->peer_iss = s.seq;
  embryo->peer_tsval = s.tsval;
  embryo->peer_window = s.window;
  embryo->peer_scale = s.scale;
  embryo->flags =
      static_cast<u8>(embryo_peer_opened | (s.has_scale ? embryo_scaled : 0) |
                      (s.has_ts() ? embryo_ts : 0) | (s.sack_permitted ? embryo_sack : 0) |
                      (s.has(ECE) || s.has(CWR) || s.accurate_ecn ? embryo_ecn : 0));
  return VSNOOP_REASON_syn;
}

// It answers the guest's SYN.
Reason Engine::syn_ack_from_peer(Scene& scene) {
  const Segment& s = scene.segment;
  Ref ref = embryos_.find(s.key);
  if (ref.is_null()) return VSNOOP_REASON_no_flow;
  Embryo& embryo = *embryos_.get(ref);
  if (embryo.flags & embryo_split) return VSNOOP_REASON_simultaneous_open;
  if (embryo.flags & (embryo_peer_opened | embryo_complete)) return VSNOOP_REASON_handshake;
  if (s.ack != embryo.guest_iss + 1) return VSNOOP_REASON_handshake;
  const Reason refused = refusal(embryo, s);
  if (refused != VSNOOP_REASON_none) {
    forget_embryo(ref);
    return refused;
  }
  embryo.peer_iss = s.seq;
  embryo.peer_tsval = s.tsval;
  embryo.peer_window = s.window;
  embryo.peer_scale = s.scale;
  embryo.guest_ack = s.seq + 1;
  embryo.flags = embryo_complete | agreed(embryo, s);
  return VSNOOP_REASON_handshake;
}

// A segment from the peer for which there is no flow, or a SYN. If it completes a handshake the
// scene has a flow afterwards and the caller goes on with it.
Reason Engine::learn_from_peer(Scene& scene) {
  const Segment& s = scene.segment;
  if (s.has(SYN)) {
    if (s.has(RST) || s.has(FIN)) return VSNOOP_REASON_malformed;
    return s.has(ACK) ? syn_ack_from_peer(scene) : syn_from_peer(scene);
  }

  Ref ref = embryos_.find(s.key);
  if (ref.is_null()) return VSNOOP_REASON_no_flow;
  const Embryo embryo = *embryos_.get(ref);
  if (s.has(RST)) {
    // RFC 9293 3.10.7.3, RFC 5961 3.2: from one who has seen the other's number.
    const bool answers = s.has(ACK) && s.ack == embryo.guest_iss + 1;
    const bool known = embryo.flags & (embryo_peer_opened | embryo_complete);
    if (known ? s.seq == embryo.peer_iss + 1 : answers) forget_embryo(ref);
    return VSNOOP_REASON_handshake;
  }
  constexpr u8 wanted = embryo_peer_opened | embryo_complete;
  // The peer's ACK of the SYN-ACK; data may come with it or, if it was lost, instead of it. Exactly
  // its number (RFC 9293 3.10.7.4: SYN-RECEIVED): one who cannot see the SYN-ACK opens no flow.
  if ((embryo.flags & wanted) != wanted || !s.has(ACK) || s.ack != embryo.guest_iss + 1 ||
      s.seq.raw - embryo.peer_iss.raw - 1 > embryo.guest_window)
    return VSNOOP_REASON_handshake;
  embryos_.erase(ref);  // the flow inherits its link template
  return open_flow(scene, embryo) ? VSNOOP_REASON_none : VSNOOP_REASON_table_full;
}

Reason Engine::syn_from_guest(Scene& scene) {
  const Segment& s = scene.segment;
  Ref other = embryos_.find(s.key);
  if (!other.is_null()) {
    Embryo* embryo = embryos_.get(other);
    if (embryo->flags & embryo_peer_opened) {
      embryo->flags = embryo_split;
      embryo->guest_iss = s.seq;
    }
    if (embryo->guest_iss == s.seq) {
      note_window(*embryo, s);
      return embryo->flags & embryo_split ? VSNOOP_REASON_simultaneous_open : VSNOOP_REASON_syn;
    }
  }
  const Reason refused = s.odd_option                  ? VSNOOP_REASON_odd_option
                         : starts_here(scene.frame, s) ? VSNOOP_REASON_none
                                                       : VSNOOP_REASON_forwarder;
  if (refused != VSNOOP_REASON_none) {
    if (!other.is_null()) forget_embryo(other);
    return refused;
  }
  Embryo* embryo = embryo_for(s.key, scene.now);
  if (!embryo) return VSNOOP_REASON_table_full;
  embryo->guest_iss = s.seq;
  embryo->guest_tsval = s.tsval;
  embryo->guest_window = s.window;
  embryo->guest_scale = s.scale;
  embryo->guest_mss = s.mss;
  embryo->flags = static_cast<u8>((s.has_scale ? embryo_scaled : 0) | (s.has_ts() ? embryo_ts : 0) |
                                  (s.sack_permitted ? embryo_sack : 0) |
                                  (s.has(ECE) || s.has(CWR) || s.accurate_ecn ? embryo_ecn : 0));
  note_link(scene, embryo->link, embryo->flow_label);
  return VSNOOP_REASON_syn;
}

// It answers the peer's SYN.
Reason Engine::syn_ack_from_guest(Scene& scene) {
  const Segment& s = scene.segment;
  Ref ref = embryos_.find(s.key);
  if (ref.is_null()) return VSNOOP_REASON_no_flow;
  Embryo& embryo = *embryos_.get(ref);
  if (!(embryo.flags & embryo_peer_opened)) {
    embryo.flags = embryo_split;
    return VSNOOP_REASON_simultaneous_open;
  }
  // A SYN-ACK with another number than the first (SYN cookies) is the one that counts.
  if ((embryo.flags & embryo_complete) && embryo.guest_iss == s.seq) {
    note_window(embryo, s);
    return VSNOOP_REASON_handshake;
  }
  // SYN data may have been accepted (TFO without its option) or not; at least the SYN was.
  if (s.ack.raw - embryo.peer_iss.raw - 1 > 0xffff) return VSNOOP_REASON_no_flow;
  const Reason refused =
      starts_here(scene.frame, s) ? refusal(embryo, s) : Reason(VSNOOP_REASON_forwarder);
  if (refused != VSNOOP_REASON_none) {
    forget_embryo(ref);
    return refused;
  }
  embryo.guest_iss = s.seq;
  embryo.guest_ack = s.ack;
  embryo.guest_tsval = s.tsval;
  embryo.guest_window = s.window;
  embryo.guest_scale = s.scale;
  embryo.guest_mss = s.mss;
  note_link(scene, embryo.link, embryo.flow_label);
  embryo.flags = static_cast<u8>(embryo_peer_opened | embryo_complete |
                                 (embryo.flags & embryo_ecn) | agreed(embryo, s));
  return VSNOOP_REASON_handshake;
}

// A segment from the guest for which there is no flow, or a SYN.
Reason Engine::learn_from_guest(Scene& scene) {
  const Segment& s = scene.segment;
  if (s.has(SYN)) {
    return s.has(ACK) ? syn_ack_from_guest(scene) : syn_from_guest(scene);
  }

  Ref ref = embryos_.find(s.key);
  if (ref.is_null()) return VSNOOP_REASON_no_flow;
  const Embryo embryo = *embryos_.get(ref);
  if (s.has(RST)) {
    forget_embryo(ref);
    return VSNOOP_REASON_handshake;
  }
  if ((embryo.flags & (embryo_peer_opened | embryo_complete)) != embryo_complete || !s.has(ACK) ||
      s.ack != embryo.guest_ack)
    return VSNOOP_REASON_handshake;
  embryos_.erase(ref);  // the flow inherits its link template
  return open_flow(scene, embryo) ? VSNOOP_REASON_none : VSNOOP_REASON_table_full;
}

// Whether this SYN-ACK of the peer's has answered the guest's new SYN: the tuple is theirs.
bool Engine::answered(const Segment& s) const {
  const Ref ref = embryos_.find(s.key);
  if (ref.is_null()) return false;
  const Embryo& embryo = *embryos_.get(ref);
  return (embryo.flags & (embryo_peer_opened | embryo_complete)) == embryo_complete &&
         s.seq == embryo.peer_iss && s.ack == embryo.guest_iss + 1;
}

// P8: whether this SYN or SYN-ACK of the guest's belongs to another connection than `flow`. The one
// that opened this very flow may come late: repeated, or overtaken on another queue.
bool Engine::renews(const Flow& flow, const Segment& s) const {
  const bool its_number = isn_tag(s.seq) == (flow.label_and_isn & ~flow_label_mask) &&
                          at_or_before(s.seq + 1, flow.guest_snd_nxt);
  return !its_number || (s.has(ACK) && after(s.ack, flow.guest_ack));
}

bool Engine::open_flow(Scene& scene, const Embryo& embryo) {
  const Segment& s = scene.segment;
  Ref ref = table_.insert(s.key);
  if (ref.is_null()) {
    evict_flow(scene.now);
    ref = table_.insert(s.key);
    if (ref.is_null()) {
      drop_link(embryo.link);
      return false;
    }
  }
  Flow& flow = *table_.get(ref);
  flow = Flow();
  const bool scaled = embryo.flags & embryo_scaled;
  flow.shifts = scaled ? static_cast<u8>(embryo.guest_scale | embryo.peer_scale << 4) : u8(0);
  flow.rcv_nxt = flow.early_ack = flow.guest_ack = embryo.guest_ack;
  // SYN windows are not scaled (RFC 7323 2.2).
  flow.right_edge = flow.shown_edge = flow.guest_ack + embryo.guest_window;
  flow.guest_snd_nxt = flow.peer_una = embryo.guest_iss + 1;
  flow.peer_edge = flow.peer_una + embryo.peer_window;
  flow.peer_nxt = later(flow.rcv_nxt, embryo.peer_iss + 1);
  flow.max_window = static_cast<u16>(embryo.peer_window >> flow.peer_shift());
  flow.guest_tsval = embryo.guest_tsval;
  flow.ts_recent = embryo.peer_tsval;
  flow.label_and_isn = embryo.flow_label | isn_tag(embryo.guest_iss);
  flow.link = embryo.link;
  flow.mss = embryo.guest_mss;
  // Memory per byte of payload until measured: 1.5 bytes; in a ring, a slot for each segment.
  const u32 segment = flow.mss > 64 ? flow.mss : 64;
  const bool ring = guests_[scene.id].config.policy == VSNOOP_POLICY_RING;
  flow.cost = static_cast<u16>(ring ? ring_slot * 16 / segment + 1 : 24);
  flow.custody = no_custody;
  flow.state = VSNOOP_FLOW_ACTIVE;
  flow.last_seen = moment(scene.now);
  if (embryo.flags & embryo_ts) flow.set(flow_ts);
  if (embryo.flags & embryo_sack) flow.set(flow_sack);
  scene.ref = ref;
  scene.flow = &flow;
  count(scene.guest, VSNOOP_REASON_flow_opened);
  return true;
}

// The one place where a flow ends, so that no promised byte is let go in silence: a promise that
// stands is void if the peer itself has ended the connection; else it is broken, and the peer is
// shown a reset until it has had every chance to get it.
void Engine::end_flow(Ref ref, Flow& flow, Ending ending, vsnoop_held*& released) {
  Guest& guest = guests_[table_.key(ref).domain()];
  const bool broken =
      flow.early_ack != flow.guest_ack && ending != Ending::by_peer && ending != Ending::renewed;
  // What the peer sent after its reset goes on: a new connection's SYN.
  purge(flow, guest, ending == Ending::by_peer, released);
  abandon_promise(flow, guest);
  give_back(flow, guest, flow.reserved);
  if (broken)
    entomb(ref, flow, ending != Ending::by_guest);
  else
    forget_flow(ref, flow, guest);
  serve_room(guest, clock_);
}

// Nothing is promised, held or reserved.
void Engine::forget_flow(Ref ref, Flow& flow, Guest& guest) {
  if (Custody* custody = custody_of(flow)) {
    custody->owed = 0;
    custody->tomb = false;
    custody->range_count = 0;
    settle(flow);
  }
  drop_link(flow.link);
  count(guest, VSNOOP_REASON_flow_closed);
  table_.erase(ref);
}

// Whether a flow may be forgotten: it owes nothing, and it is over or has been silent for long.
bool Engine::idle(const Flow& flow, u64 now) const {
  if (flow.custody != no_custody || flow.early_ack != flow.guest_ack) return false;
  const u16 silent = static_cast<u16>(moment(now) - flow.last_seen);
  if (flow.state == VSNOOP_FLOW_STOPPED) return silent >= moments(stopped_life_s);
  const bool both_closed = flow.is(flow_peer_fin) && flow.is(flow_guest_fin) &&
                           flow.guest_ack == flow.peer_nxt && flow.peer_una == flow.guest_snd_nxt;
  if (both_closed) return true;
  const bool closing = flow.state == VSNOOP_FLOW_CLOSING ||
                       (flow.is(flow_peer_fin) && flow.guest_ack == flow.peer_nxt);
  if (closing) return silent >= moments(closing_life_s);
  return silent >= moments(config_.idle_s);
}

// Nothing times what the ring policy promises or remembers: there are no frames to deliver again.
// It must not keep a flow for ever all the same.
void Engine::unpin(Ref ref, Flow& flow, Guest& guest, u64 now) {
  Custody* custody = custody_of(flow);
  if (custody && custody->frames) return;
  vsnoop_held* none = nullptr;
  const u32 silent = static_cast<u16>(moment(now) - flow.last_seen);
  if (flow.early_ack != flow.guest_ack) {
    if (silent > moments(guest.config.promise_age_us / 1000000))
      fail_stop(ref, flow, guest, VSNOOP_REASON_failstop_age, none);
  } else if (custody && custody->range_count && silent >= moments(config_.idle_s)) {
    custody->range_count = 0;
    settle(flow);
  }
}

// `released`: when room is scarce, ranges of silent peers go, too.
void Engine::sweep_flows(u32 slots, u64 now, vsnoop_held** released) {
  table_.expire(slots, [&](Ref ref, const FlowKey& key, Flow& flow) {
    Guest& guest = guests_[key.domain()];
    unpin(ref, flow, guest, now);
    if (VSNOOP_UNLIKELY(released && ranges_at_rest(flow, now))) {
      fruitless_ = 0;
      let_ranges_go(flow, guest, *released);
      serve_room(guest, now);
    }
    reclaim_window(flow, guest, now);
    if (rested(flow, now)) note_rest(flow);
    if (!idle(flow, now)) return false;
    give_back(flow, guest, flow.reserved);
    drop_link(flow.link);
    count(guest, VSNOOP_REASON_flow_closed);
    serve_room(guest, now);
    return true;
  });
}

// The table is full: the longest silent of some flows that owe nothing makes room. It may be
// tracked no more; a newcomer that transfers gains more than it loses.
void Engine::evict_flow(u64 now) {
  Ref oldest = Ref::null();
  u32 longest = least_silence;
  table_.expire(evict_among, [&](Ref ref, const FlowKey&, Flow& flow) {
    if (flow.custody != no_custody || flow.early_ack != flow.guest_ack) return false;
    const u32 silent = idle(flow, now) ? 0x10000u : static_cast<u16>(moment(now) - flow.last_seen);
    const bool counts = flow.state != VSNOOP_FLOW_STOPPED || silent > 0xffff;
    if (counts && silent > longest) {
      oldest = ref;
      longest = silent;
    }
    return false;
  });
  if (oldest.is_null()) return;
  Flow& flow = *table_.get(oldest);
  Guest& guest = guests_[table_.key(oldest).domain()];
  give_back(flow, guest, flow.reserved);
  drop_link(flow.link);
  count(guest, VSNOOP_REASON_flow_evicted);
  table_.erase(oldest);
}

void Engine::sweep_embryos(u32 slots, u64 now) {
  embryos_.expire(slots, [&](Ref, const FlowKey&, Embryo& embryo) {
    if (static_cast<u16>(moment(now) - embryo.seen) < moments(embryo_life_s)) return false;
    drop_link(embryo.link);
    return true;
  });
}

// Link templates are shared: a vif has few. A template stays within `link_window` places of its
// hash, so that one without users can be reused in place.
u16 Engine::intern_link(const Scene& scene) {
  const Segment& s = scene.segment;
  const u8* ip = scene.frame.data + s.ip_offset;
  LinkTemplate wanted = LinkTemplate();
  wanted.length = static_cast<u8>(s.ip_offset);
  __builtin_memcpy(wanted.bytes, scene.frame.data, s.ip_offset);
  if (s.version == 4) {
    wanted.tos = ip[1] & 0xfc;
    wanted.ttl = ip[8];
  } else {
    wanted.tos = static_cast<u8>((load16(ip) >> 4) & 0xfc);
    wanted.ttl = ip[7];
  }
  u32 hash = 2166136261u;
  for (u8 byte : wanted.bytes) hash = (hash ^ byte) * 16777619u;
  hash = (hash ^ wanted.ttl) * 16777619u ^ wanted.tos;
  u16 place = no_template;
  for (u32 i = 0; i < link_window; ++i) {
    const u16 at = static_cast<u16>((hash + i) % link_templates);
    LinkTemplate& link = links_[at];
    if (link.length == wanted.length && link.ttl == wanted.ttl && link.tos == wanted.tos &&
        __builtin_memcmp(link.bytes, wanted.bytes, sizeof wanted.bytes) == 0) {
      ++link.users;
      return at;
    }
    if (link.users == 0 && place == no_template) place = at;
  }
  if (place != no_template) {
    links_[place] = wanted;
    links_[place].users = 1;
  }
  return place;
}

void Engine::drop_link(u16 link) {
  if (link != no_template) --links_[link].users;
}

// Early ACKs look like the guest's own frames: same MACs, tags, TTL, DSCP, flow label.
void Engine::note_link(const Scene& scene, u16& link, u32& label) {
  const Segment& s = scene.segment;
  const u8* ip = scene.frame.data + s.ip_offset;
  if (s.version == 6) label = (label & ~flow_label_mask) | (load32(ip) & flow_label_mask);
  if (link != no_template) {
    const LinkTemplate& known = links_[link];
    const u8 ttl = s.version == 4 ? ip[8] : ip[7];
    const u8 tos = static_cast<u8>(s.version == 4 ? ip[1] : load16(ip) >> 4) & 0xfc;
    if (known.length == s.ip_offset && known.ttl == ttl && known.tos == tos &&
        __builtin_memcmp(known.bytes, scene.frame.data, known.length) == 0)
      return;
  }
  // If there is no place for the new one, the old one still serves: frames may be owed already.
  const u16 found = intern_link(scene);
  if (found == no_template) return;
  drop_link(link);
  link = found;
}

VSNOOP_END
