// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// What the SYNs of a connection say. It holds from then on: a SYN after the handshake is a forgery,
// or the first of another connection on the same tuple, and changes nothing here (RFC 5961 4; the
// window scale is fixed by the handshake, RFC 7323 2.2).

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "tools/replay/segment.h"

namespace vsnoop::replay {

class Handshake {
 public:
  // Any segment of the connection. True for a SYN that begins it: the first of its sender, or one
  // with another number before the handshake ended.
  bool learn(const Segment& segment, bool from_guest) {
    if (segment.has(rst)) return false;
    if (!segment.has(syn)) {
      const bool third = complete() && !from_guest && segment.ack == syns_[1]->seq + 1;
      over_ = over_ || third || segment.payload;
      return false;
    }
    std::optional<Syn>& mine = syns_[from_guest];
    if (over_) return false;
    if (mine && mine->seq == segment.seq) {
      // Stacks repeat a SYN with another window, or without options, when nobody answers. The other
      // end may have got either: the larger window holds, and whether windows are scaled the first
      // and the other end's SYN say.
      mine->window = std::max(mine->window, segment.window);
      return false;
    }
    mine = Syn{segment.seq, segment.shift, segment.window};
    return true;
  }
  // Both SYNs were seen.
  bool complete() const { return syns_[0] && syns_[1]; }
  // Of the guest's windows, but for that of a SYN.
  int shift() const {
    return complete() && syns_[0]->shift >= 0 && syns_[1]->shift >= 0 ? syns_[1]->shift : 0;
  }
  // Bytes that the guest's SYN offers, never scaled (RFC 7323 2.2); 0: not seen.
  int64_t guest_window() const { return syns_[1] ? syns_[1]->window : 0; }

 private:
  struct Syn {
    uint32_t seq;
    int8_t shift;  // -1: no window scale option
    uint16_t window;
  };
  std::array<std::optional<Syn>, 2> syns_;  // the peer's, the guest's
  bool over_ = false;                       // the third segment was seen, or data
};

}  // namespace vsnoop::replay
