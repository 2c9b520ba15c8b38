// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Takes super-frames apart that the kernel hands out but does not take back: TCP inside a tunnel
// (its virtio-net header does not say that there is one), BIG TCP (longer than 64 KiB), and UDP on
// kernels whose virtio-net header has no word for it.
#pragma once

#include <cstdint>

#include "tools/live/frame.h"

namespace vsnoop::live {

/// One super-frame and what has been cut off it so far.
class Splitter {
 public:
  /// Headers up to the payload; longer ones are not understood.
  static constexpr uint32_t kMostHeaders = 512;

  /// Whether an interface takes the packet as it is: no GSO, or GSO of TCP or UDP right in IP.
  static bool kernel_takes(const Packet& packet);

  /// Begins with a GSO packet, whose bytes must stay until the last part was made. False: its
  /// headers are not understood, or contradict its length or each other; nothing is begun.
  bool begin(const Packet& packet);
  bool more() const { return done_ < payload_; }
  /// Forgets what is left.
  void stop() { done_ = payload_ = 0; }
  /// The next part, the caller's: of plain TCP a super-frame as long as may be, of everything else
  /// one frame as it goes over a wire, all its checksums filled in. Null without memory.
  Frame* next(FramePool& pool);

 private:
  /// A header with a length or a checksum that each part needs its own of.
  struct Layer {
    enum Kind : uint8_t { kIpv4, kIpv6, kUdp, kGre, kPppoe } kind;
    uint32_t at;
  };
  static constexpr int kMostLayers = 8;

  /// The headers of one packet, found by going through them.
  struct Headers {
    Layer layers[kMostLayers];
    int count = 0;
    bool tcp = false;
    bool plain = true;       // nothing around the IP header but Ethernet and tags
    uint32_t transport = 0;  // where TCP or UDP starts
    uint32_t payload = 0;
    uint32_t jumbo = 0;  // an IPv6 hop-by-hop header that says nothing but the length; 0: none
  };
  class Walk;

  static bool understand(const Packet& packet, Headers& headers);
  void mend(Frame& part, uint32_t offset, bool first, bool last);
  uint32_t pseudo_sum(const uint8_t* data, uint32_t length, uint32_t before) const;

  Packet packet_{};
  Headers headers_;
  uint8_t bytes_[kMostHeaders] = {};  // headers of every part, without the jumbo header
  uint32_t payload_ = 0;              // bytes in all
  uint32_t done_ = 0;
  uint32_t step_ = 0;    // payload of a part
  bool chunks_ = false;  // parts are super-frames themselves
};

}  // namespace vsnoop::live
