// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// G9: the guest forwards into a path that takes smaller segments than the peer sends. With nobody
// between them its router tells the peer (RFC 1191, RFC 8201), which sends again in smaller pieces.
// What has been acknowledged the peer will not send again, so it is cut here. Where no router
// tells, a smaller piece is tried when whole frames do not arrive (RFC 4821).
#include "snoop-core/engine.h"
#include "snoop-core/too_big.h"
#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

// RFC 1191 5, RFC 8201 4: less is not believed; what goes through such a path in one piece is rare.
constexpr u32 least_mtu_v4 = 552, least_mtu_v6 = 1280;
constexpr u32 headers_v4 = 40, headers_v6 = 60;
constexpr u32 timestamps = 12;  // bytes of option
// Re-deliveries of the first missing frame after which a smaller piece of it is tried.
constexpr u8 tries_before_probe = 3, tries_before_small_probe = 6;
constexpr u32 probe_payload = 1012, small_probe_payload = 500;
constexpr u8 proof = 2;  // pieces that arrived where whole frames did not

// Payload bytes that go into a segment of `mss` (RFC 6691).
u32 payload_of(const Flow& flow) {
  const u32 options = flow.is(flow_ts) ? timestamps : 0;
  return flow.mss > options ? flow.mss - options : 1;
}

u32 probe_of(u8 tries) {
  return tries < tries_before_probe         ? 0
         : tries < tries_before_small_probe ? probe_payload
                                            : small_probe_payload;
}

}  // namespace

bool parse_too_big(const vsnoop_frame& frame, const Segment& segment, u16 domain, TooBig& said) {
  constexpr u8 icmp4 = 1, unreachable = 3, fragmentation_needed = 4, icmp6 = 58, packet_too_big = 2;
  constexpr u32 ipv4_header = 20, ipv6_header = 40, icmp_header = 8, quoted_tcp = 8;
  constexpr u8 protocol_tcp = 6;
  const bool v4 = segment.version == 4;
  const u32 header = v4 ? ipv4_header : ipv6_header;
  const u32 offset = segment.ip_offset;
  if (frame.captured < offset + header) return false;
  const u8* ip = frame.data + offset;
  if (v4 ? ip[9] != icmp4 || load16(ip + 6) & 0x3fff : ip[6] != icmp6) return false;
  said.icmp_offset = offset + (v4 ? (ip[0] & 0x0fu) * 4 : header);
  const u32 quoted = said.icmp_offset + icmp_header;
  if (said.icmp_offset < offset + header || frame.captured < quoted + header) return false;
  const u8* icmp = frame.data + said.icmp_offset;
  if (icmp[0] != (v4 ? unreachable : packet_too_big)) return false;
  if (icmp[1] != (v4 ? fragmentation_needed : 0)) return false;
  said.mtu = v4 ? load16(icmp + 6) : load32(icmp + 4);
  const u8* inner = frame.data + quoted;
  if (inner[0] >> 4 != segment.version || inner[v4 ? 9 : 6] != protocol_tcp) return false;
  const u32 tcp_offset = quoted + (v4 ? (inner[0] & 0x0fu) * 4 : header);
  if (tcp_offset < quoted + header || frame.captured < tcp_offset + quoted_tcp) return false;
  const u8* tcp = frame.data + tcp_offset;
  const u16 local = load16(tcp + 2), remote = load16(tcp);
  const u32 vlan = segment.key.vlan;
  said.key = v4 ? FlowKey::v4(inner + 16, inner + 12, local, remote, domain, vlan)
                : FlowKey::v6(inner + 24, inner + 8, local, remote, domain, vlan);
  said.seq_offset = tcp_offset + 4;
  said.seq = Seq(load32(tcp + 4));
  return v4 || !said.key.is_v4();
}

// The guest says that it could not send a segment of the peer's on. RFC 5927 7: believed if it
// quotes what is under way. Passes in any case; the peer's stack believes it only of what it has
// not seen acknowledged.
Verdict Engine::too_big(Scene& scene) {
  TooBig said;
  if (!parse_too_big(scene.frame, scene.segment, scene.id, said))
    return untracked(scene.id, &scene.guest, VSNOOP_REASON_not_tcp);
  scene.ref = table_.find(said.key);
  scene.flow = table_.get(scene.ref);
  if (!scene.flow || scene.flow->state == VSNOOP_FLOW_STOPPED ||
      before(said.seq, scene.flow->guest_ack) || !before(said.seq, scene.flow->peer_nxt))
    return untracked(scene.id, &scene.guest, VSNOOP_REASON_not_tcp);
  Flow& flow = *scene.flow;
  const bool v4 = said.key.is_v4();
  const u32 least = v4 ? least_mtu_v4 : least_mtu_v6;
  const u32 mtu = said.mtu > least ? said.mtu : least;
  const u32 mss = mtu - (v4 ? headers_v4 : headers_v6);
  if (mss < flow.mss || !flow.is(flow_narrow)) narrow(flow, mss);

  Verdict v = untracked(scene.id, &scene.guest, VSNOOP_REASON_guest_too_big);
  if (!before(said.seq, flow.early_ack)) return v;
  v.action = VSNOOP_EDIT;
  v.edit.what = VSNOOP_EDIT_QUOTE;
  v.edit.ack = flow.early_ack.raw;
  return v;
}

// From here on no segment of the flow enters the ring with more than that, and what did is lost.
void Engine::narrow(Flow& flow, u32 mss) {
  if (mss < flow.mss) flow.mss = static_cast<u16>(mss);
  flow.set(flow_narrow);
  Custody* custody = custody_of(flow);
  if (!custody) return;
  custody->cut = nullptr;
  if (!redeliverable(flow, *custody)) return;
  start_recovery(flow, *custody, recovery_all);
  find_missing(flow, *custody, Shown(flow.guest_ack));
  join_feed(*custody, guests_[custody->guest]);
}

// A retained frame goes in pieces, one feed each, if it is too long for the path. feed.skip and
// .keep say what is wanted.
void Engine::cut_feed(const Flow& flow, const Custody& custody, vsnoop_feed& feed) const {
  const u32 end = feed.skip + feed.keep;
  if (custody.cut == feed.held) {
    const u32 done = bytes_between(Seq(feed.held->seq), custody.cut_at);
    if (done > feed.skip && done < end) feed.skip = done;
    feed.keep = end - feed.skip;
  }
  if (flow.is(flow_narrow) && feed.keep > payload_of(flow)) {
    feed.keep = payload_of(flow);
    feed.more = 1;
    return;
  }
  const u32 probe = feed.again ? probe_of(custody.tries) : 0;
  if (probe && feed.keep > probe) feed.keep = probe;
}

// Part of a frame has been fed. Returns whether there is more of it to come.
bool Engine::note_piece(Custody& custody, const vsnoop_feed& feed) {
  const Seq end = Seq(feed.held->seq) + feed.skip + feed.keep;
  custody.cut = feed.more ? feed.held : nullptr;
  custody.cut_at = end;
  if (feed.again && feed.keep == probe_of(custody.tries)) custody.probe_end = end;
  return feed.more;
}

// guest_ack has moved. Once may be chance: the guest was deaf, and heard the piece first.
void Engine::note_probe(Flow& flow, Custody& custody) {
  if (!probe_of(custody.tries)) {
    // The rest of that frame may be short enough; the next one is not.
    if (after(flow.guest_ack, custody.probe_end + flow.mss)) custody.probes = 0;
    return;
  }
  if (flow.guest_ack != custody.probe_end) return;
  const u32 payload = probe_of(custody.tries);
  if (++custody.probes < proof) return;
  narrow(flow, payload + (flow.is(flow_ts) ? timestamps : 0));
}

VSNOOP_END
