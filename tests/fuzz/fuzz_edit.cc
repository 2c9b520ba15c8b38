// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Rewriting: a good frame with odd options, an edit and a cut of any kind. What comes out parses,
// says what was asked for, and its checksum is right if it was right before.
// Input: edit and cut (19 bytes), then flags and options and payload of the frame.
#include <algorithm>

#include "snoop-core/segment.cc"
#include "snoop-core/wire.h"
#include "tests/fuzz/bytes.h"

using namespace vsnoop;

namespace {

u16 checksum_of(const std::vector<u8>& f, u32 ip, bool v6, u32 tcp) {
  u64 sum = v6 ? sum_bytes(&f[ip + 8], 32) : sum_bytes(&f[ip + 12], 8);
  u8 rest[8];
  store32(rest, static_cast<u32>(f.size()) - tcp);
  store32(rest + 4, 6);
  return fold(sum + sum_bytes(rest, 8) + sum_bytes(&f[tcp], static_cast<u32>(f.size()) - tcp));
}

bool right(const std::vector<u8>& f, u32 ip, bool v6, u32 tcp) {
  return checksum_of(f, ip, v6, tcp) == 0xffff && (v6 || fold(sum_bytes(&f[ip], 20)) == 0xffff);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vsnoop_fuzz::Bytes in(data, size);
  vsnoop_edit edit = {};
  edit.what = in.u8() & 31;
  edit.ack = in.u32();
  edit.tsval = in.u32();
  edit.tsecr = in.u32();
  edit.window = in.u16();
  u32 skip = in.u16(), keep = in.u16();
  const u8 shape = in.u8();
  const bool v6 = shape & 1;
  const u32 options = (shape >> 1) % 11 * 4;
  const u8 flags = in.u8();
  const u32 seq = in.u32();
  const u32 ip = 14, tcp = ip + (v6 ? 40 : 20);
  std::vector<u8> f(tcp + 20 + options);
  for (u32 i = 0; i < options; ++i) f[tcp + 20 + i] = in.u8();
  const std::vector<u8> payload = in.rest();
  f.insert(f.end(), payload.begin(), payload.end());
  if (f.size() > 60000) return 0;
  store16(&f[12], v6 ? 0x86dd : 0x0800);
  const u32 length = static_cast<u32>(f.size()) - tcp;
  if (v6) {
    f[ip] = 0x60, f[ip + 6] = 6, f[ip + 8] = 0xfd, f[ip + 24] = 0xfd;
    store16(&f[ip + 4], static_cast<u16>(length));
  } else {
    f[ip] = 0x45, f[ip + 8] = 64, f[ip + 9] = 6, f[ip + 12] = 10, f[ip + 16] = 10;
    store16(&f[ip + 2], static_cast<u16>(length + 20));
    const u16 sum = static_cast<u16>(~fold(sum_bytes(&f[ip], 20)));
    std::memcpy(&f[ip + 10], &sum, 2);
  }
  store32(&f[tcp + 4], seq);
  f[tcp + 12] = static_cast<u8>((20 + options) / 4 << 4);
  f[tcp + 13] = flags;
  const u16 sum = static_cast<u16>(~checksum_of(f, ip, v6, tcp));
  std::memcpy(&f[tcp + 16], &sum, 2);

  Segment before;
  const vsnoop_frame view = {f.data(), static_cast<u32>(f.size()), static_cast<u32>(f.size()), 0,
                             VSNOOP_CHECKSUM_VERIFIED};
  const bool parses = parse(view, Direction::from_guest, 0, before) == VSNOOP_REASON_none;
  FUZZ_CHECK(right(f, ip, v6, tcp), "the frame is good");
  const std::vector<u8> original = f;

  const int refused = vsnoop_apply_edit(f.data(), static_cast<u32>(f.size()), &edit, 0);
  FUZZ_CHECK(!edit.what || refused == (parses ? 0 : -1), "an edit applies to what parses");
  if (refused) {
    FUZZ_CHECK(f == original, "a refused edit changes nothing");
    return 0;
  }
  FUZZ_CHECK(right(f, ip, v6, tcp), "an edit keeps the checksum right");
  FUZZ_CHECK(std::equal(payload.begin(), payload.end(), f.begin() + tcp + 20 + options),
             "an edit leaves the payload alone");
  if (!parses) return 0;
  Segment after;
  FUZZ_CHECK(parse(view, Direction::from_guest, 0, after) == VSNOOP_REASON_none, "it parses still");
  FUZZ_CHECK(!(edit.what & VSNOOP_EDIT_ACK) || after.ack.raw == edit.ack, "ACK");
  FUZZ_CHECK(!(edit.what & VSNOOP_EDIT_WINDOW) || after.window == edit.window, "window");
  FUZZ_CHECK(after.seq == before.seq && after.flags == before.flags, "SEQ and flags stay");
  FUZZ_CHECK(after.has_ts() == before.has_ts(), "timestamps stay");
  if (after.has_ts() && edit.what & VSNOOP_EDIT_TSECR)
    FUZZ_CHECK(after.tsecr == edit.tsecr, "TSecr");
  // A second SACK option is odd: the flow is handed back (P12), and the option stays as it is.
  if (edit.what & VSNOOP_EDIT_SACK && !before.odd_option)
    for (unsigned i = 0; i < after.sack_blocks; ++i)
      FUZZ_CHECK(vsnoop::after(Seq(load32(&f[after.sack_offset + 8 * i + 4])), Seq(edit.ack)),
                 "SACK blocks end above the ACK");

  skip %= before.payload + 1;
  keep %= before.payload - skip + 1;
  const u32 shorter = vsnoop_trim(f.data(), static_cast<u32>(f.size()), skip, keep, 0);
  FUZZ_CHECK(shorter == before.data_offset + keep, "a cut has the length asked for");
  f.resize(shorter);
  FUZZ_CHECK(right(f, ip, v6, tcp), "a cut keeps the checksums right");
  FUZZ_CHECK(load32(&f[tcp + 4]) == seq + skip, "SEQ goes with the first byte");
  FUZZ_CHECK(std::equal(payload.begin() + skip, payload.begin() + skip + keep,
                        f.begin() + before.data_offset),
             "the bytes that stay are those asked for");
  return 0;
}
