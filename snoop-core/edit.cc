// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Changing headers in place. Checksums are mended by difference (RFC 1624), which keeps a wrong
// one wrong and works when the payload is out of reach; a partial checksum covers the pseudo-header
// only and is not touched by changes to the TCP header.
#include "snoop-core/edit.h"

#include "snoop-core/segment.h"
#include "snoop-core/too_big.h"
#include "snoop-core/wire.h"

VSNOOP_BEGIN

namespace {

constexpr u32 checksum_offset = 16;      // in the TCP header
constexpr u32 icmp_checksum_offset = 2;  // in the ICMP header

// Overwrites header bytes and keeps track of what that does to the checksum.
class Patch {
 public:
  Patch(u8* header, bool partial, u32 checksum = checksum_offset)
      : tcp_(header), checksum_(checksum), partial_(partial) {}

  void bytes(u32 offset, const u8* value, u32 length) {
    for (u32 i = 0; i < length; ++i) {
      const unsigned shift = (offset + i) & 1 ? 0 : 8;
      delta_ += (static_cast<u32>(value[i]) << shift) +
                (static_cast<u32>(static_cast<u8>(~tcp_[offset + i])) << shift);
      // ~m counts as the complement of the whole word it stands in.
      delta_ += shift ? 0x00ff : 0xff00;
      tcp_[offset + i] = value[i];
    }
  }
  void put8(u32 offset, u8 value) { bytes(offset, &value, 1); }
  void put16(u32 offset, u16 value) {
    u8 raw[2];
    store16(raw, value);
    bytes(offset, raw, 2);
  }
  void put32(u32 offset, u32 value) {
    u8 raw[4];
    store32(raw, value);
    bytes(offset, raw, 4);
  }
  /// Adds words that came into (or, complemented, went out of) the sum elsewhere.
  void add(u64 words) { delta_ += words; }
  void finish() {
    if (partial_) return;
    u64 sum = static_cast<u16>(~load16(tcp_ + checksum_)) + delta_;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(tcp_ + checksum_, static_cast<u16>(~sum));
  }

 private:
  u8* tcp_;
  u64 delta_ = 0;  // of 16-bit words in host order
  u32 checksum_;
  bool partial_;
};

// Sum of 16-bit words in host order, as Patch counts.
u64 sum_words(const u8* p, u32 length) {
  u64 sum = 0;
  for (; length >= 2; p += 2, length -= 2) sum += load16(p);
  if (length) sum += static_cast<u32>(*p) << 8;
  return sum;
}

// As an IP header says it: 0 beyond 64 KiB (BIG TCP).
u16 length16(u32 length) { return length > 0xffff ? u16(0) : static_cast<u16>(length); }

// A Jumbo Payload option (RFC 2675 2) of the hop-by-hop header right behind the IPv6 header gets
// the new length; where it may not stand any more it becomes padding of its size (PadN, RFC
// 8200 4.2).
void resize_jumbo(u8* ip, u32 headers, u32 payload) {
  constexpr u32 ipv6_header = 40;
  constexpr u8 pad1 = 0, padn = 1, jumbo = 0xc2;
  if (ip[6] != 0) return;
  const u32 end = ipv6_header + 8 + ip[ipv6_header + 1] * 8u;
  for (u32 at = ipv6_header + 2; at + 2 <= end && end <= headers;) {
    const u32 length = ip[at] == pad1 ? 1 : 2u + ip[at + 1];
    if (ip[at] == jumbo && length == 6 && at + length <= end) {
      if (payload <= 0xffff) ip[at] = padn;
      store32(ip + at + 2, payload <= 0xffff ? 0 : payload);
    }
    at += length;
  }
}

u16 complement(u64 words) {
  while (words >> 16) words = (words & 0xffff) + (words >> 16);
  return static_cast<u16>(~words);
}

// Blocks that do not begin above `ack` go (one that begins at an ACK is taken for reneging); freed
// room becomes NOPs, so that nothing moves.
void trim_sack(Patch& patch, const u8* frame, const Segment& s, Seq ack) {
  const u32 option = s.sack_offset - s.tcp_offset - 2u;
  u8 kept[32];
  u32 length = 0;
  for (unsigned i = 0; i < s.sack_blocks; ++i) {
    const u8* block = frame + s.sack_offset + 8 * i;
    const Seq left(load32(block)), right(load32(block + 4));
    if (!after(left, ack)) continue;
    store32(kept + length, left.raw);
    store32(kept + length + 4, right.raw);
    length += 8;
  }
  u8 body[34];
  const u32 total = 2 + 8u * s.sack_blocks;
  for (u8& byte : body) byte = 1;
  if (length) {
    body[0] = 5;
    body[1] = static_cast<u8>(2 + length);
    __builtin_memcpy(body + 2, kept, length);
  }
  patch.bytes(option, body, total);
}

// `length`: of the frame, as far as it is known; the rest of it need not be readable.
bool parse_own(const u8* frame, u32 captured, u32 length, Segment& s) {
  const vsnoop_frame view = {frame, captured, length, 0, VSNOOP_CHECKSUM_VERIFIED};
  return parse(view, Direction::from_guest, 0, s) == VSNOOP_REASON_none;
}

bool edit_quote(u8* frame, u32 captured, Seq seq) {
  const vsnoop_frame view = {frame, captured, 0x7fffffff, 0, VSNOOP_CHECKSUM_VERIFIED};
  Segment s;
  TooBig said;
  if (parse(view, Direction::from_guest, 0, s) != VSNOOP_REASON_not_tcp ||
      !parse_too_big(view, s, 0, said))
    return false;
  Patch patch(frame + said.icmp_offset, false, icmp_checksum_offset);
  patch.put32(said.seq_offset - said.icmp_offset, seq.raw);
  patch.finish();
  return true;
}

}  // namespace

bool apply_edit(u8* frame, u32 captured, const vsnoop_edit& edit, bool partial) {
  if (!edit.what) return true;
  if (edit.what & VSNOOP_EDIT_QUOTE) return edit_quote(frame, captured, Seq(edit.ack));
  Segment s;
  // Headers are enough here, whatever the IP header says of the length.
  if (!parse_own(frame, captured, 0x7fffffff, s)) return false;
  Patch patch(frame + s.tcp_offset, partial);
  if (edit.what & VSNOOP_EDIT_SACK && s.sack_blocks) trim_sack(patch, frame, s, Seq(edit.ack));
  if (edit.what & VSNOOP_EDIT_ACK) patch.put32(8, edit.ack);
  if (edit.what & VSNOOP_EDIT_WINDOW) patch.put16(14, edit.window);
  if (s.has_ts()) {
    const u32 ts = s.ts_offset - s.tcp_offset;
    if (edit.what & VSNOOP_EDIT_TSVAL && older(s.tsval, edit.tsval)) patch.put32(ts, edit.tsval);
    if (edit.what & VSNOOP_EDIT_TSECR) patch.put32(ts + 4, edit.tsecr);
  }
  patch.finish();
  return true;
}

u32 trim(u8* frame, u32 length, u32 skip, u32 keep, bool partial) {
  Segment s;
  if (!parse_own(frame, length, length, s)) return 0;
  if (skip > s.payload) return 0;
  if (keep > s.payload - skip) keep = s.payload - skip;
  const u32 cut = s.payload - keep;
  if (!cut) return s.data_offset + s.payload;

  u8* tcp = frame + s.tcp_offset;
  u8* data = frame + s.data_offset;
  Patch patch(tcp, partial);
  const bool cut_at_end = skip + keep < s.payload;
  // The checksum covers payload, TCP length and sequence number.
  if (!partial) patch.add(complement(sum_words(data, s.payload)));
  __builtin_memmove(data, data + skip, keep);
  if (!partial) patch.add(sum_words(data, keep));
  patch.put32(4, (s.seq + skip).raw);
  // FIN and PSH belong to the last byte.
  if (cut_at_end) patch.put8(13, s.flags & static_cast<u8>(~(FIN | PSH)));
  const u32 header = s.data_offset - s.tcp_offset;
  const u32 old_length = header + s.payload, new_length = header + keep;
  patch.add(complement((old_length >> 16) + (old_length & 0xffff)));
  patch.add((new_length >> 16) + (new_length & 0xffff));
  patch.finish();
  if (partial) {
    // A partial checksum is the pseudo-header's sum, TCP length included.
    u64 sum = load16(tcp + checksum_offset) +
              static_cast<u64>(complement((old_length >> 16) + (old_length & 0xffff))) +
              (new_length >> 16) + (new_length & 0xffff);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(tcp + checksum_offset, static_cast<u16>(sum));
  }

  u8* ip = frame + s.ip_offset;
  if (s.version == 4) {
    const u16 total = length16(s.data_offset - s.ip_offset + keep);
    u64 sum = static_cast<u16>(~load16(ip + 10)) +
              static_cast<u64>(static_cast<u16>(~load16(ip + 2))) + total;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(ip + 2, total);
    store16(ip + 10, static_cast<u16>(~sum));
  } else {
    const u32 payload = s.data_offset - s.ip_offset - 40u + keep;
    store16(ip + 4, length16(payload));
    resize_jumbo(ip, s.tcp_offset - s.ip_offset, payload);
  }
  return s.data_offset + keep;
}

VSNOOP_END
