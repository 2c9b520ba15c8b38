// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Frames in user space: the buffer that custody and ring share, its pool, and what a frame in hand
// looks like wherever its bytes lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "snoop-core/vsnoop.h"

namespace vsnoop::live {

/// What travels with a frame through AF_PACKET: checksum still to be filled in, segmentation still
/// to be done. virtio 1.2, 5.1.6, without num_buffers; little-endian. (The kernel's own header,
/// linux/virtio_net.h, is no C++.)
struct VnetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t hdr_len;
  uint16_t gso_size;
  uint16_t csum_start;
  uint16_t csum_offset;
};
static_assert(sizeof(VnetHeader) == 10);
constexpr uint8_t kVnetNeedsChecksum = 1;  // VIRTIO_NET_HDR_F_NEEDS_CSUM
constexpr uint8_t kVnetDataValid = 2;      // VIRTIO_NET_HDR_F_DATA_VALID
constexpr uint8_t kVnetNoGso = 0;          // VIRTIO_NET_HDR_GSO_NONE
constexpr uint8_t kVnetGsoTcp4 = 1;        // VIRTIO_NET_HDR_GSO_TCPV4
constexpr uint8_t kVnetGsoUdp = 5;         // VIRTIO_NET_HDR_GSO_UDP_L4

/// One buffer of the pool; its bytes follow the object.
struct Frame {
  vsnoop_held held;  // first, so that the engine's pointer is ours
  Frame* next;       // in a free list of the pool
  uint32_t length;
  uint32_t capacity;
  VnetHeader vnet;
  uint8_t checksum;  // enum vsnoop_checksum
  uint8_t size_class;

  uint8_t* data() { return reinterpret_cast<uint8_t*>(this + 1); }
  static Frame* of(vsnoop_held* held) { return reinterpret_cast<Frame*>(held); }
};
static_assert(std::is_standard_layout_v<Frame> && offsetof(Frame, held) == 0);

/// A frame in hand. `frame` is null while the bytes lie elsewhere (in the slot of a port, until
/// its pop()); otherwise whoever has the Packet owns the frame.
struct Packet {
  uint8_t* data;
  uint32_t length;
  uint8_t checksum;  // enum vsnoop_checksum
  VnetHeader vnet;
  Frame* frame;
  uint64_t arrival;  // CLOCK_REALTIME, ns; 0: just now
};

/// A frame to send: headers and payload may lie apart. `body` may be empty.
struct Outgoing {
  VnetHeader vnet;
  uint8_t checksum;
  const uint8_t* head;
  uint32_t head_length;
  const uint8_t* body;
  uint32_t body_length;

  uint32_t length() const { return head_length + body_length; }
  static Outgoing of(const Packet& packet) {
    return {packet.vnet, packet.checksum, packet.data, packet.length, nullptr, 0};
  }
  static Outgoing of(Frame& frame) {
    return {frame.vnet, frame.checksum, frame.data(), frame.length, nullptr, 0};
  }
};

/// Buffers in a few sizes. Memory that was needed once is kept for the next time.
class FramePool {
 public:
  /// Longest frame: a GSO super-frame of 64 KiB with its Ethernet header and tags.
  static constexpr uint32_t kLongest = 65535 + 14 + 8;

  FramePool() = default;
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  /// A buffer for `length` bytes (set as its length); null if longer than kLongest, or if there
  /// is no memory.
  Frame* take(uint32_t length);
  void give(Frame* frame);
  /// Frees a list that the engine handed back.
  void give_list(vsnoop_held* list);
  /// A copy of what would be sent. Null as with take().
  Frame* copy(const Outgoing& from);
  /// The packet's bytes in a buffer of their own, which the caller owns. No copy if they already
  /// are.
  Frame* own(Packet& packet);

  /// What a frame of `length` bytes really costs.
  static uint32_t cost(uint32_t length);
  static uint32_t cost(const Frame& frame);

 private:
  // 512, 2048, then steps of a page: budgets are charged what a frame really occupies, so little
  // may be wasted.
  static constexpr uint32_t kPage = 4096;
  static constexpr int kClasses = 19;
  static constexpr uint32_t size_of_class(int size_class) {
    return size_class == 0   ? 512
           : size_class == 1 ? 2048
                             : kPage * static_cast<uint32_t>(size_class - 1);
  }

  static int class_of(uint32_t length);
  bool grow(int size_class);

  Frame* free_[kClasses] = {};
  std::vector<std::unique_ptr<std::byte[]>> slabs_;
};

/// Bytes up to the end of the TCP or UDP header; 0 if there is none to be found.
uint32_t header_end(const uint8_t* data, uint32_t length);

/// Bytes on the wire, preamble and gap included; a GSO frame counts what its segments will be.
uint64_t wire_bytes(uint32_t length, const VnetHeader& vnet);

/// Fills in a checksum that was left to the device. False for a GSO frame (it has several).
bool complete_checksum(Frame& frame);

}  // namespace vsnoop::live
