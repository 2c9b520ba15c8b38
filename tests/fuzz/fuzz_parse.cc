// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames of any bytes: nothing is read past their end, and what parses makes sense.
// Input: u8 checksum state, u16 bytes on the wire beyond those captured, the frame.
#include "snoop-core/segment.cc"
#include "tests/fuzz/bytes.h"

using namespace vsnoop;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vsnoop_fuzz::Bytes in(data, size);
  vsnoop_frame frame = {};
  frame.checksum = in.u8() % 4;
  const u16 beyond = in.u16();
  const std::vector<u8> bytes = in.rest();  // a block of its own: a sanitizer sees reads past it
  frame.data = bytes.data();
  frame.captured = static_cast<u32>(bytes.size());
  frame.wire = frame.captured + beyond;
  for (const Direction direction : {Direction::from_peer, Direction::from_guest}) {
    Segment s;
    if (parse(frame, direction, 3, s) != VSNOOP_REASON_none) continue;
    FUZZ_CHECK(s.ip_offset >= 14 && s.ip_offset <= 22, "link header");
    FUZZ_CHECK(s.tcp_offset > s.ip_offset && s.data_offset >= s.tcp_offset + 20, "layers");
    FUZZ_CHECK(s.data_offset <= frame.captured, "headers are readable");
    FUZZ_CHECK(s.data_offset + s.payload <= frame.wire, "payload lies in the frame");
    FUZZ_CHECK(s.sack_blocks <= 4 && s.scale <= 14, "options");
    FUZZ_CHECK(!s.has_ts() || s.ts_offset + 8u <= s.data_offset, "timestamps");
    FUZZ_CHECK(!s.sack_blocks || s.sack_offset + 8u * s.sack_blocks <= s.data_offset, "SACK");
    FUZZ_CHECK(s.key.domain() == 3, "key");
    checksum_good(frame, s);
    FUZZ_CHECK(s.checksum != VSNOOP_CHECKSUM_UNKNOWN || frame.captured < s.data_offset + s.payload,
               "an unknown checksum is settled if every byte is there");
  }
  return 0;
}
