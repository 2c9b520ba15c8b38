// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames that vsnoop owes to somebody. They are built from the present state when the host asks,
// so several reasons to speak make one frame (coalescing per batch), and none is ever out of date.
#include "snoop-core/engine.h"
#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

constexpr u8 default_ttl = 64;

// Link and IP header around a TCP header of `tcp_length` bytes that stands at the returned offset;
// seal() completes it. Towards the guest everything is mirrored.
u32 write_headers(const LinkTemplate& link, const Flow& flow, const FlowKey& key, bool to_guest,
                  u32 tcp_length, u8* frame) {
  __builtin_memcpy(frame, link.bytes, link.length);
  if (to_guest) {
    __builtin_memcpy(frame, link.bytes + 6, 6);
    __builtin_memcpy(frame + 6, link.bytes, 6);
  }
  u8* ip = frame + link.length;
  const u8* source = to_guest ? key.remote() : key.local();
  const u8* destination = to_guest ? key.local() : key.remote();
  const u8 ttl = link.ttl ? link.ttl : default_ttl;
  u32 header;
  if (key.is_v4()) {
    header = 20;
    ip[0] = 0x45;
    ip[1] = link.tos;
    store16(ip + 2, static_cast<u16>(header + tcp_length));
    store32(ip + 4, 0x00004000);  // ID 0, DF: atomic (RFC 6864 4.1)
    ip[8] = ttl;
    ip[9] = 6;
    store16(ip + 10, 0);
    __builtin_memcpy(ip + 12, source + 12, 4);
    __builtin_memcpy(ip + 16, destination + 12, 4);
    const u16 sum = static_cast<u16>(~fold(sum_words32<5>(ip)));
    __builtin_memcpy(ip + 10, &sum, 2);
  } else {
    header = 40;
    store32(ip, 0x60000000u | static_cast<u32>(link.tos) << 20 |
                    (flow.label_and_isn & flow_label_mask));
    store16(ip + 4, static_cast<u16>(tcp_length));
    ip[6] = 6;
    ip[7] = ttl;
    __builtin_memcpy(ip + 8, source, 16);
    __builtin_memcpy(ip + 24, destination, 16);
  }
  u8* tcp = ip + header;
  store16(tcp, to_guest ? key.remote_port() : key.local_port());
  store16(tcp + 2, to_guest ? key.local_port() : key.remote_port());
  tcp[12] = static_cast<u8>(tcp_length / 4 << 4);
  store32(tcp + 16, 0);  // checksum, urgent pointer
  return link.length + header;
}

void seal(const FlowKey& key, u8* tcp, u32 tcp_length) {
  u64 sum = key.is_v4() ? sum_words32<1>(key.local() + 12) + sum_words32<1>(key.remote() + 12)
                        : sum_words32<4>(key.local()) + sum_words32<4>(key.remote());
  u8 rest[4] = {0, 6, 0, 0};
  store16(rest + 2, static_cast<u16>(tcp_length));
  sum += sum_words32<1>(rest) + sum_words32<5>(tcp);
  for (u32 at = 20; at < tcp_length; at += 4) sum += sum_words32<1>(tcp + at);
  const u16 checksum = static_cast<u16>(~fold(sum));
  __builtin_memcpy(tcp + 16, &checksum, 2);
}

}  // namespace

// Queues what is owed. Returns false if it cannot be: no record, no link template yet, or a guest
// whose clock is not known any more.
bool Engine::owe(Ref ref, Flow& flow, u8 what, u64 now) {
  if (flow.link == no_template) return false;
  // An ACK would carry a TSval from before the guest's rest. RFC 7323 5.5.
  if (flow.is(flow_guest_rested) && !(what & (owed_rst_peer | owed_rst_guest))) return false;
  Custody* custody = acquire(ref, flow, now);
  if (!custody) return false;
  custody->owed |= what;
  if (custody->in_owed_list) return true;
  custody->in_owed_list = true;
  custody->owed_next = no_custody;
  const u32 index = index_of(*custody);
  if (owed_head_ == no_custody)
    owed_head_ = index;
  else
    custodies_[owed_tail_].owed_next = index;
  owed_tail_ = index;
  return true;
}

namespace {

// Only what is in custody and inside the windows may be told.
bool sackable(const Flow& flow, const Range& range) {
  return range.tail && !after(range.end, flow.right_edge);
}

bool unsaid(const Flow& flow, const Custody& custody) {
  for (unsigned i = 0; i < custody.range_count; ++i)
    if (!custody.range[i].sacked && sackable(flow, custody.range[i])) return true;
  return false;
}

}  // namespace

bool Engine::emit(vsnoop_emission& emission, u8* frame) {
  while (owed_head_ != no_custody) {
    Custody& custody = custodies_[owed_head_];
    const Ref ref = custody.flow;
    Flow* flow = table_.get(ref);
    if (!flow) {
      owed_head_ = custody.owed_next;
      custody.in_owed_list = false;
      settle(custody, nullptr);
      continue;
    }
    Guest& guest = guests_[custody.guest];
    const FlowKey key = table_.key(ref);
    emission = vsnoop_emission();
    emission.guest = custody.guest;
    emission.flow = {ref.slot, ref.generation, custody.guest};

    if (custody.owed & owed_rst_guest) {
      custody.owed &= static_cast<u8>(~owed_rst_guest);
      emission.to_guest = 1;
      emission.reason = VSNOOP_REASON_reset_guest;
      emission.length = write_reset(*flow, key, true, flow->guest_ack, frame);
    } else if (custody.owed & owed_rst_peer) {
      custody.owed &= static_cast<u8>(~owed_rst_peer);
      emission.reason = VSNOOP_REASON_reset_peer;
      // If an ACK of the peer's was lost, its RCV.NXT is what the guest sent last.
      const bool other = custody.tries & 1;
      const Seq number = custody.answers ? custody.answer_at
                         : other         ? earlier(flow->guest_snd_nxt, flow->peer_edge)
                                         : flow->peer_una;
      custody.answers = false;
      emission.length = write_reset(*flow, key, false, number, frame);
    } else if (custody.owed) {
      grant(*flow, guest);
      emission.length = write_ack(*flow, key, custody, frame);
      emission.ack = flow->early_ack.raw;
      emission.edge = flow->shown_edge.raw;
      const u8 owed = custody.owed;
      // Every range is told in the end: three of them fit into one ACK.
      custody.owed = owed & owed_sack && unsaid(*flow, custody) ? u8(owed_sack) : u8(0);
      emission.reason = owed & owed_promise  ? VSNOOP_REASON_early_ack
                        : owed & owed_sack   ? VSNOOP_REASON_early_sack
                        : owed & owed_answer ? VSNOOP_REASON_probe_answer
                        : owed & owed_update ? VSNOOP_REASON_window_update
                                             : VSNOOP_REASON_duplicate_ack;
      if (owed & owed_promise) ++guest.stats.early_acks;
      if (owed & owed_sack) flow->set(flow_touched);
      if (flow->shown_edge != flow->right_edge) flow->set(flow_touched);
    }
    const bool written = emission.length != 0;
    if (written) count(guest, emission.reason);
    if (!custody.owed) {
      owed_head_ = custody.owed_next;
      custody.in_owed_list = false;
      settle(*flow);
    }
    if (written) return true;
  }
  return false;
}

// RFC 2018 4: the range that came last first; then those that were not told yet, then the others.
// Returns how many blocks there are now, `blocks` included.
u8 Engine::write_blocks(const Flow& flow, Custody& custody, u8* block, u8 blocks) {
  unsigned written = 0;
  for (; blocks < 3; ++blocks) {
    unsigned next = max_ranges;
    for (unsigned i = 0; i < custody.range_count; ++i) {
      const Range& range = custody.range[i];
      if (written & 1u << i || !sackable(flow, range)) continue;
      if (!(custody.owed & owed_sack) && !range.sacked) continue;
      if (next != max_ranges) {
        const Range& other = custody.range[next];
        const bool newer = static_cast<int16_t>(range.newest - other.newest) > 0;
        const bool goes_first = written && range.sacked != other.sacked ? !range.sacked : newer;
        if (!goes_first) continue;
      }
      next = i;
    }
    if (next == max_ranges) break;
    Range& range = custody.range[next];
    store32(block + 8 * blocks, range.begin.raw);
    store32(block + 8 * blocks + 4, range.end.raw);
    range.sacked = true;
    written |= 1u << next;
  }
  return blocks;
}

// SEQ = min(guest_snd_nxt, peer_edge): a guest that probes the peer's closed window has sent past
// it. TSval is the guest's newest, never extrapolated (RFC 7323 5.4: its clock is not ours).
u32 Engine::write_ack(const Flow& flow, const FlowKey& key, Custody& custody, u8* frame) {
  const LinkTemplate& link = links_[flow.link];
  u8 options[40];
  u32 length = 0;
  if (flow.is(flow_ts)) {
    store32(options, 0x0101080a);
    store32(options + 4, flow.guest_tsval);
    store32(options + 8, flow.ts_recent);
    length = 12;
  }
  u8 blocks = 0;
  u8* block = options + length + 4;
  if (custody.owed & owed_dsack) {
    store32(block, custody.dsack_begin.raw);
    store32(block + 4, custody.dsack_end.raw);
    ++blocks;
  }
  if (flow.is(flow_sack)) blocks = write_blocks(flow, custody, block, blocks);
  if (blocks) {
    store32(options + length, 0x01010500u | (2u + 8 * blocks));
    length += 4 + 8 * blocks;
  }
  const u32 tcp_length = tcp_header + length;
  const u32 offset = write_headers(link, flow, key, false, tcp_length, frame);
  u8* tcp = frame + offset;
  store32(tcp + 4, earlier(flow.guest_snd_nxt, flow.peer_edge).raw);
  store32(tcp + 8, flow.early_ack.raw);
  tcp[13] = ACK;
  const u32 window = bytes_between(flow.early_ack, flow.shown_edge) >> flow.guest_shift();
  store16(tcp + 14, static_cast<u16>(window < 0xffff ? window : 0xffff));
  __builtin_memcpy(tcp + tcp_header, options, length);
  seal(key, tcp, tcp_length);
  return offset + tcp_length;
}

// RFC 9293 3.10.7.1, RFC 5961 3.2: only SEQ == RCV.NXT of the receiver resets.
u32 Engine::write_reset(const Flow& flow, const FlowKey& key, bool to_guest, Seq seq, u8* frame) {
  const u32 offset = write_headers(links_[flow.link], flow, key, to_guest, tcp_header, frame);
  u8* tcp = frame + offset;
  store32(tcp + 4, seq.raw);
  store32(tcp + 8, to_guest ? flow.guest_snd_nxt.raw : flow.early_ack.raw);
  tcp[13] = RST | ACK;
  store16(tcp + 14, 0);
  seal(key, tcp, tcp_header);
  return offset + tcp_header;
}

VSNOOP_END
