// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/tx_ring.h"

#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vsnoop::live {
namespace {

constexpr uint32_t kSlot = 16384;
constexpr uint32_t kSlots = 16;
constexpr uint32_t kData = TPACKET2_HDRLEN - sizeof(sockaddr_ll);

}  // namespace

int TxRing::open(uint32_t interface_index) {
  socket_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) return errno;
  const int version = TPACKET_V2, yes = 1;
  const tpacket_req request{kSlot, kSlots, kSlot, kSlots};
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;  // protocol 0: receives nothing
  address.sll_ifindex = static_cast<int>(interface_index);
  // Loss: a frame that is refused does not block its slot.
  if (setsockopt(socket_, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
      setsockopt(socket_, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof yes) != 0 ||
      setsockopt(socket_, SOL_PACKET, PACKET_LOSS, &yes, sizeof yes) != 0 ||
      setsockopt(socket_, SOL_PACKET, PACKET_TX_RING, &request, sizeof request) != 0 ||
      ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    close();
    return error;
  }
  void* memory =
      mmap(nullptr, size_t{kSlot} * kSlots, PROT_READ | PROT_WRITE, MAP_SHARED, socket_, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    close();
    return error;
  }
  ring_ = static_cast<uint8_t*>(memory);
  next_ = 0;
  return 0;
}

void TxRing::close() {
  if (ring_) munmap(ring_, size_t{kSlot} * kSlots);
  if (socket_ >= 0) ::close(socket_);
  ring_ = nullptr;
  socket_ = -1;
}

int TxRing::send(uint32_t interface_index, const Outgoing& frame) {
  const uint32_t length = sizeof(VnetHeader) + frame.length();
  if (kData + length > kSlot) return EMSGSIZE;
  if (socket_ < 0)
    if (const int error = open(interface_index)) return error;
  uint8_t* slot = ring_ + size_t{kSlot} * next_;
  auto* header = reinterpret_cast<tpacket2_hdr*>(slot);
  if (__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE) return EAGAIN;
  VnetHeader vnet = frame.vnet;
  vnet.flags &= kVnetNeedsChecksum;
  uint8_t* at = slot + kData;
  std::memcpy(at, &vnet, sizeof vnet);
  at += sizeof vnet;
  std::memcpy(at, frame.head, frame.head_length);
  if (frame.body_length) std::memcpy(at + frame.head_length, frame.body, frame.body_length);
  header->tp_len = length;
  __atomic_store_n(&header->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
  const int error = ::send(socket_, nullptr, 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
  // What the device refused the kernel would try again with each later frame.
  if (error != 0 && __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) == TP_STATUS_SEND_REQUEST)
    __atomic_store_n(&header->tp_status, TP_STATUS_AVAILABLE, __ATOMIC_RELEASE);
  else
    next_ = (next_ + 1) % kSlots;
  return error;
}

}  // namespace vsnoop::live
