// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The second way out of an interface, for the few frames that a kernel bridge passes and sendmsg()
// on a packet socket refuses: up to four bytes over the MTU (room for a tag) with another EtherType
// than 0x8100. A packet socket's transmit ring does not ask.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tools/live/frame.h"

namespace vsnoop::live {

class TxRing {
 public:
  TxRing() = default;
  ~TxRing() { close(); }
  TxRing(const TxRing&) = delete;
  TxRing& operator=(const TxRing&) = delete;

  /// Sends one frame, opening the ring for the interface of this index if it is not. Returns 0 or
  /// an errno; EAGAIN if the device still has all slots.
  int send(uint32_t interface_index, const Outgoing& frame);
  void close();

 private:
  int open(uint32_t interface_index);

  int socket_ = -1;
  uint8_t* ring_ = nullptr;
  uint32_t next_ = 0;
};

}  // namespace vsnoop::live
