// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// UDP super-frames (UDP_SEGMENT, UDP GRO: QUIC, WireGuard) on kernels before 6.2. Their virtio-net
// header has no word for them, so that a packet socket that asks for one is not shown them at all.
// One that does not ask is, but is not told how long the datagrams are. So there are two: a filter
// lets both see these frames alone, and cuts what the second one gets to the length of a datagram.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tools/live/frame.h"

namespace vsnoop::live {

class UdpSuper {
 public:
  /// The running kernel is one of those.
  static bool needed();

  UdpSuper() = default;
  ~UdpSuper();
  UdpSuper(const UdpSuper&) = delete;
  UdpSuper& operator=(const UdpSuper&) = delete;

  /// Listens at the interface. False, with errno: it may not (CAP_BPF, the first time).
  bool open(uint32_t interface_index, int queue_bytes);
  void close();

  /// The next super-frame, the same one until pop(); its tag is in place. Null: there is none.
  const Packet* peek();
  void pop() { shown_ = false; }
  int descriptor() const { return frames_; }  ///< for poll(); -1 while closed

 private:
  struct Note;  // what came with a frame
  int listen(uint32_t interface_index, int program, int queue_bytes) const;
  bool read_frame(Note& note);
  bool read_length(const Note& frame, uint32_t& length);

  int programs_[2] = {-1, -1};  // stay loaded while the interface is away
  int frames_ = -1, lengths_ = -1;
  std::unique_ptr<uint8_t[]> buffer_;
  Packet packet_{};
  bool shown_ = false;
  bool length_known_ = false;  // the next of lengths_ was read already
  uint64_t length_time_ = 0;
  uint32_t length_of_ = 0, length_ = 0;
};

}  // namespace vsnoop::live
