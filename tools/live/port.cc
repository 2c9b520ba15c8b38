// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/port.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tools/live/interface.h"
#include "tools/units.h"

namespace vsnoop::live {
namespace {

constexpr uint32_t kBlock = 256 * 1024;
constexpr uint32_t kRing = 8 * 1024 * 1024;
constexpr uint32_t kTag = 4;
constexpr uint32_t kSlotAround = 128;  // slot header, addresses, virtio-net header, tag

[[noreturn]] void fail(const std::string& interface, const std::string& what, int error,
                       const char* advice) {
  throw std::runtime_error(fmt::format("{}: {}: {}{}{}", interface, what, std::strerror(error),
                                       *advice ? "; " : "", advice));
}

template <typename T>
int set_option(int socket, int level, int name, const T& value) {
  return setsockopt(socket, level, name, &value, sizeof value);
}

}  // namespace

Port::Port(std::string interface, FramePool& pool, uint32_t queue_bytes)
    : interface_(std::move(interface)), pool_(pool), queue_bytes_(queue_bytes) {
  open();
}

Port::~Port() { close(); }

void Port::open() {
  // Protocol 0: nothing is received before bind().
  socket_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_ < 0) {
    if (errno == EPERM)
      fail(interface_, "packet socket", errno,
           "it needs CAP_NET_RAW: run as root, or "
           "'setcap cap_net_raw,cap_net_admin+ep' the program");
    fail(interface_, "packet socket", errno, "the kernel needs CONFIG_PACKET");
  }
  try {
    configure();
  } catch (...) {
    close();
    throw;
  }
}

void Port::configure() {
  const InterfaceState state = interface_state(interface_);
  if (state.index == 0)
    throw std::runtime_error(
        fmt::format("{}: no such interface here; 'ip link' lists them", interface_));
  if (!state.up)
    throw std::runtime_error(
        fmt::format("{}: is down; 'ip link set {} up' first", interface_, interface_));

  if (set_option(socket_, SOL_PACKET, PACKET_VERSION, int{TPACKET_V2}) != 0)
    fail(interface_, "PACKET_VERSION TPACKET_V2", errno, "the kernel must offer it");
  if (set_option(socket_, SOL_PACKET, PACKET_VNET_HDR, 1) != 0)
    fail(interface_, "PACKET_VNET_HDR", errno, "GSO frames need it: Linux 2.6.27 or later");
  if (set_option(socket_, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) != 0)
    fail(interface_, "PACKET_IGNORE_OUTGOING", errno, "it needs Linux 4.20 or later");
  if (set_option(socket_, SOL_PACKET, PACKET_COPY_THRESH, 1) != 0)
    fail(interface_, "PACKET_COPY_THRESH", errno, "frames longer than a slot need it");
  // Without CAP_NET_ADMIN the system's limit stays; then long frames are lost in bursts.
  const int queue = static_cast<int>(queue_bytes_ / 2);  // the kernel doubles it
  if (set_option(socket_, SOL_SOCKET, SO_RCVBUFFORCE, queue) != 0 ||
      set_option(socket_, SOL_SOCKET, SO_SNDBUFFORCE, queue) != 0)
    fail(interface_, "SO_RCVBUFFORCE", errno,
         "it needs CAP_NET_ADMIN: run as root, or 'setcap cap_net_raw,cap_net_admin+ep' the "
         "program");

  slot_bytes_ = std::clamp(std::bit_ceil(state.mtu + ETH_HLEN + 8 + kSlotAround), 2048U, 16384U);
  map_ring();

  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = static_cast<int>(state.index);
  promiscuous.mr_type = PACKET_MR_PROMISC;
  if (set_option(socket_, SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous) != 0)
    fail(interface_, "promiscuous mode", errno, "");

  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(state.index);
  if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    fail(interface_, "bind", errno, "");
}

void Port::map_ring() {
  tpacket_req request{};
  request.tp_block_size = kBlock;
  request.tp_block_nr = kRing / kBlock;
  request.tp_frame_size = slot_bytes_;
  request.tp_frame_nr = slots_ = kRing / slot_bytes_;
  if (set_option(socket_, SOL_PACKET, PACKET_RX_RING, request) != 0)
    fail(interface_, "PACKET_RX_RING", errno,
         "the kernel must offer TPACKET_V2 and 8 MiB of memory");
  ring_bytes_ = kRing;
  void* memory = mmap(nullptr, ring_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, socket_, 0);
  if (memory == MAP_FAILED) fail(interface_, "mapping the ring", errno, "");
  ring_ = static_cast<uint8_t*>(memory);
  next_ = 0;
}

void Port::close() {
  if (shown_ && current_.frame) pool_.give(current_.frame);
  shown_ = false;
  if (ring_) munmap(ring_, ring_bytes_);
  ring_ = nullptr;
  if (socket_ >= 0) {
    losses();
    ::close(socket_);
  }
  socket_ = -1;
}

bool Port::reopen() {
  const InterfaceState state = interface_state(interface_);
  if (state.index == 0 || !state.up) return false;
  try {
    open();
  } catch (const std::runtime_error&) {
    return false;  // it vanished again; the bridge retries
  }
  return true;
}

void Port::check() {
  int error = 0;
  socklen_t length = sizeof error;
  if (socket_ >= 0 && getsockopt(socket_, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0)
    close();
}

PortLosses Port::losses() {
  tpacket_stats stats{};
  socklen_t length = sizeof stats;
  if (socket_ >= 0 && getsockopt(socket_, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
    losses_.overrun += stats.tp_drops;  // reading it sets it to zero
  return losses_;
}

void Port::release_slot() {
  if (!ring_) return;  // the interface went away while the frame was in hand
  auto* slot = reinterpret_cast<tpacket2_hdr*>(ring_ + static_cast<size_t>(next_) * slot_bytes_);
  __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  next_ = next_ + 1 == slots_ ? 0 : next_ + 1;
}

// Reads a frame that is longer than its slot; leaves room for a tag in front of it.
bool Port::read_long(uint32_t length, uint32_t room) {
  Frame* frame = pool_.take(length + room);
  uint8_t nothing;
  iovec parts[2] = {{&current_.vnet, sizeof current_.vnet}, {&nothing, 1}};
  if (frame) parts[1] = {frame->data() + room, length};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const ssize_t got = recvmsg(socket_, &message, MSG_DONTWAIT | MSG_TRUNC);
  if (!frame) {
    ++losses_.oversized;
    return false;
  }
  if (got != static_cast<ssize_t>(length + sizeof current_.vnet)) {
    pool_.give(frame);
    ++losses_.overrun;
    return false;
  }
  current_.frame = frame;
  current_.data = frame->data() + room;
  current_.length = length;
  return true;
}

// Puts the tag back that the kernel took out, and says what is known about the checksum.
void Port::shape(bool tagged, uint32_t tpid, uint32_t tci, bool verified) {
  Packet& packet = current_;
  if (tagged) {
    packet.data -=
        kTag;  // over the virtio-net header, which has been copied, or the room of a frame
    std::memmove(packet.data, packet.data + kTag, 12);
    const uint8_t tag[kTag] = {static_cast<uint8_t>(tpid >> 8), static_cast<uint8_t>(tpid),
                               static_cast<uint8_t>(tci >> 8), static_cast<uint8_t>(tci)};
    std::memcpy(packet.data + 12, tag, kTag);
    packet.length += kTag;
    if (packet.vnet.flags & kVnetNeedsChecksum) packet.vnet.csum_start += kTag;
  }

  if (packet.vnet.flags & kVnetNeedsChecksum)
    packet.checksum = VSNOOP_CHECKSUM_PARTIAL;
  else if (verified || packet.vnet.flags & kVnetDataValid)
    packet.checksum = VSNOOP_CHECKSUM_VERIFIED;
  else
    packet.checksum = VSNOOP_CHECKSUM_UNKNOWN;
  if (packet.vnet.gso_type != kVnetNoGso)
    packet.vnet.hdr_len = static_cast<uint16_t>(header_end(packet.data, packet.length));
  if (packet.frame) {
    packet.frame->vnet = packet.vnet;
    packet.frame->checksum = packet.checksum;
  }
}

bool Port::peek(Packet& packet, uint64_t) {
  while (!shown_) {
    if (!ring_) return false;
    uint8_t* slot = ring_ + static_cast<size_t>(next_) * slot_bytes_;
    const auto* header = reinterpret_cast<tpacket2_hdr*>(slot);
    const uint32_t status = __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE);
    if (!(status & TP_STATUS_USER)) return false;
    const bool tagged = status & TP_STATUS_VLAN_VALID;
    current_.frame = nullptr;
    current_.arrival = header->tp_sec * kSecond + header->tp_nsec;
    if (status & TP_STATUS_COPY) {
      shown_ = read_long(header->tp_len, tagged ? kTag : 0);
    } else if (header->tp_snaplen < header->tp_len) {
      ++losses_.overrun;  // too long for a slot, and the socket's buffer was full
    } else {
      current_.data = slot + header->tp_mac;
      current_.length = header->tp_len;
      std::memcpy(&current_.vnet, current_.data - sizeof current_.vnet, sizeof current_.vnet);
      shown_ = true;
    }
    if (!shown_) {
      release_slot();
      continue;
    }
    const uint32_t tpid = status & TP_STATUS_VLAN_TPID_VALID ? header->tp_vlan_tpid : ETH_P_8021Q;
    shape(tagged, tpid, header->tp_vlan_tci, status & TP_STATUS_CSUM_VALID);
  }
  packet = current_;
  return true;
}

void Port::pop(Packet& packet) {
  if (packet.frame) pool_.give(packet.frame);
  packet.frame = nullptr;
  shown_ = false;
  release_slot();
}

Sent Port::send(const Outgoing& frame, uint64_t) {
  if (socket_ < 0) return Sent::kDown;
  VnetHeader vnet = frame.vnet;
  vnet.flags &= kVnetNeedsChecksum;
  iovec parts[3] = {{&vnet, sizeof vnet},
                    {const_cast<uint8_t*>(frame.head), frame.head_length},
                    {const_cast<uint8_t*>(frame.body), frame.body_length}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = frame.body_length ? 3 : 2;
  if (sendmsg(socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kYes;
  switch (errno) {
    case EAGAIN:
    case ENOBUFS:
    case ENOMEM:
    case EINTR:
      return Sent::kLater;
    case ENETDOWN:
    case ENXIO:
    case ENODEV:
      close();
      return Sent::kDown;
    default:
      return Sent::kFailed;
  }
}

}  // namespace vsnoop::live
