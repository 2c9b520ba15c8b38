// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/port.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tools/live/process.h"

namespace vsnoop::live {
namespace {

constexpr uint32_t kBlock = 256 * 1024;
constexpr uint32_t kRing = 8 * 1024 * 1024;
constexpr uint32_t kTag = 4;
constexpr uint32_t kSlotAround = 128;  // slot header, addresses, virtio-net header, tag
constexpr uint32_t kLongestRead = 8 * 65535 + 128;  // the kernel's GSO_MAX_SIZE (BIG TCP), headers

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
  open(interface_named(interface_));
}

Port::~Port() { close(); }

void Port::open(const InterfaceState& state) {
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
    configure(state);
  } catch (...) {
    close();
    throw;
  }
}

void Port::configure(const InterfaceState& state) {
  if (const std::string why = unusable("interface", interface_, state); !why.empty())
    throw std::runtime_error(why);
  index_ = state.index;
  if (set_option(socket_, SOL_PACKET, PACKET_VERSION, int{TPACKET_V2}) != 0)
    fail(interface_, "PACKET_VERSION TPACKET_V2", errno, "the kernel must offer it");
  if (set_option(socket_, SOL_PACKET, PACKET_VNET_HDR, 1) != 0)
    fail(interface_, "PACKET_VNET_HDR", errno, "GSO frames need it: Linux 2.6.27 or later");
  if (set_option(socket_, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) != 0)
    fail(interface_, "PACKET_IGNORE_OUTGOING", errno, "it needs Linux 4.20 or later");
  if (set_option(socket_, SOL_PACKET, PACKET_COPY_THRESH, 1) != 0)
    fail(interface_, "PACKET_COPY_THRESH", errno, "frames longer than a slot need it");
  // In a user namespace nobody may exceed the system's limit: then bursts of long frames are lost.
  const int queue = static_cast<int>(queue_bytes_ / 2);  // the kernel doubles it
  if (set_option(socket_, SOL_SOCKET, SO_RCVBUFFORCE, queue) != 0 ||
      set_option(socket_, SOL_SOCKET, SO_SNDBUFFORCE, queue) != 0) {
    set_option(socket_, SOL_SOCKET, SO_RCVBUF, queue);
    set_option(socket_, SOL_SOCKET, SO_SNDBUF, queue);
    say(fmt::format(
        "warning: {}: no more buffer than net.core.rmem_max and wmem_max allow; bursts of long "
        "frames may be lost (outside of a user namespace CAP_NET_ADMIN helps)",
        interface_));
  }

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

  if (!UdpSuper::needed()) return;
  const bool first = !udp_super_;
  if (first) udp_super_ = std::make_unique<UdpSuper>();
  if (!udp_super_->open(state.index, queue) && first)
    say(
        fmt::format("warning: {}: this kernel shows UDP super-frames (of QUIC and WireGuard in "
                    "containers) only with CAP_BPF ({}); they are lost",
                    interface_, std::strerror(errno)));
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
  end_split();
  if (socket_ >= 0) {
    losses();
    ::close(socket_);
  }
  socket_ = -1;
  tx_ring_.close();
  if (udp_super_) udp_super_->close();
}

bool Port::reopen() {
  InterfaceState state = interface_with(index_);
  if (state.index == 0) state = interface_named(interface_);
  if (state.index == 0 || !state.up) return false;
  try {
    open(state);
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
  PortLosses losses = losses_;
  // The kernel counts those that only udp_super_ is shown, too.
  losses.overrun -= std::min(losses.overrun, udp_supers_);
  return losses;
}

void Port::release_slot() {
  if (!ring_) return;  // the interface went away while the frame was in hand
  auto* slot = reinterpret_cast<tpacket2_hdr*>(ring_ + static_cast<size_t>(next_) * slot_bytes_);
  __atomic_store_n(&slot->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  next_ = next_ + 1 == slots_ ? 0 : next_ + 1;
}

// Reads a frame that is longer than its slot; leaves room for a tag in front of it.
bool Port::read_long(uint32_t length, uint32_t room) {
  Frame* frame = nullptr;
  uint8_t* data = nullptr;
  if (length + room > kLongestRead) {
    ++losses_.oversized;
  } else if ((frame = pool_.take(length + room))) {
    data = frame->data() + room;
  } else {
    if (!longest_) longest_ = std::make_unique_for_overwrite<uint8_t[]>(kLongestRead);
    data = longest_.get() + room;
  }
  uint8_t nothing;
  iovec parts[2] = {{&current_.vnet, sizeof current_.vnet}, {&nothing, 1}};
  if (data) parts[1] = {data, length};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const ssize_t got = recvmsg(socket_, &message, MSG_DONTWAIT | MSG_TRUNC);
  if (!data) return false;
  if (got != static_cast<ssize_t>(length + sizeof current_.vnet)) {
    if (frame) pool_.give(frame);
    ++losses_.overrun;
    return false;
  }
  current_.frame = frame;
  current_.data = data;
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

// Reads the next slot into current_. False: it was lost, or will be shown in parts.
bool Port::read_slot() {
  uint8_t* slot = ring_ + static_cast<size_t>(next_) * slot_bytes_;
  const auto* header = reinterpret_cast<tpacket2_hdr*>(slot);
  const uint32_t status = header->tp_status;
  const bool tagged = status & TP_STATUS_VLAN_VALID;
  current_.frame = nullptr;
  current_.arrival = header->tp_sec * kSecond + header->tp_nsec;
  if (status & TP_STATUS_COPY) {
    if (!read_long(header->tp_len, tagged ? kTag : 0)) return false;
  } else if (header->tp_snaplen < header->tp_len) {
    ++losses_.overrun;  // too long for a slot, and the socket's buffer was full
    return false;
  } else {
    current_.data = slot + header->tp_mac;
    current_.length = header->tp_len;
    std::memcpy(&current_.vnet, current_.data - sizeof current_.vnet, sizeof current_.vnet);
  }
  const uint32_t tpid = status & TP_STATUS_VLAN_TPID_VALID ? header->tp_vlan_tpid : ETH_P_8021Q;
  shape(tagged, tpid, header->tp_vlan_tci, status & TP_STATUS_CSUM_VALID);
  if (Splitter::kernel_takes(current_)) return true;
  if (split_.begin(current_)) {
    splitting_ = true;
    source_ = current_.frame;
    return false;
  }
  if (current_.length <= FramePool::kLongest) return true;
  ++losses_.oversized;
  return false;
}

bool Port::show_part() {
  Frame* part = split_.next(pool_);
  if (!part) {
    ++losses_.oversized;
    split_.stop();
    return false;
  }
  current_ = {part->data(), part->length, part->checksum, part->vnet, part, current_.arrival};
  return true;
}

void Port::end_split() {
  if (source_) pool_.give(source_);
  source_ = nullptr;
  if (splitting_udp_)
    udp_super_->pop();
  else if (splitting_)
    release_slot();
  splitting_ = splitting_udp_ = false;
  split_.stop();
}

// Whether the frame in the slot may come after UDP super-frames that are older: TCP need not wait.
bool Port::slot_may_wait(const uint8_t* slot) const {
  const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
  const uint8_t* frame = slot + header->tp_mac;
  const uint32_t type = static_cast<uint32_t>(frame[12] << 8 | frame[13]);
  return !(type == ETH_P_IP && frame[23] == IPPROTO_TCP) &&
         !(type == ETH_P_IPV6 && frame[20] == IPPROTO_TCP);
}

// Begins to show the next UDP super-frame in parts. Those that hold TCP in a tunnel came with the
// others already.
bool Port::begin_udp_super() {
  const Packet* super = udp_super_->peek();
  if (!super) return false;
  Packet as_tcp = *super;
  as_tcp.vnet.gso_type = kVnetGsoTcp4;
  if (split_.begin(as_tcp) || !split_.begin(*super)) {
    split_.stop();
    udp_super_->pop();
    return begin_udp_super();
  }
  current_.arrival = super->arrival;
  ++udp_supers_;
  return splitting_ = splitting_udp_ = true;
}

bool Port::peek(Packet& packet, uint64_t) {
  while (!shown_) {
    if (!ring_) return false;
    if (splitting_) {
      if (split_.more() && (shown_ = show_part())) break;
      end_split();
      continue;
    }
    const uint8_t* slot = ring_ + static_cast<size_t>(next_) * slot_bytes_;
    const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
    const bool there = __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
    if (udp_super_ && (!there || slot_may_wait(slot))) {
      const Packet* super = udp_super_->peek();
      const uint64_t time = header->tp_sec * kSecond + header->tp_nsec;
      if (super && (!there || super->arrival <= time) && begin_udp_super()) continue;
    }
    if (!there) return false;
    shown_ = read_slot();
    if (!shown_ && !splitting_) release_slot();
  }
  packet = current_;
  return true;
}

void Port::pop(Packet& packet) {
  if (packet.frame) pool_.give(packet.frame);
  packet.frame = nullptr;
  shown_ = false;
  if (!splitting_)
    release_slot();
  else if (!split_.more())
    end_split();
}

Sent Port::send(const Outgoing& frame, uint64_t now) {
  if (socket_ < 0) return Sent::kDown;
  VnetHeader vnet = frame.vnet;
  vnet.flags &= kVnetNeedsChecksum;
  iovec parts[3] = {{&vnet, sizeof vnet},
                    {const_cast<uint8_t*>(frame.head), frame.head_length},
                    {const_cast<uint8_t*>(frame.body), frame.body_length}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = frame.body_length ? 3 : 2;
  if (sendmsg(socket_, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    return refused(errno, frame, now);
  patience_.sent();
  return Sent::kYes;
}

// A frame over the MTU. A kernel bridge passes four bytes more (IEEE 802.3as leaves room for a
// tag), and does not count a tag that it keeps outside of the frame. From here a veth gets it in
// the frame, counts it, and drops in silence what is too long then.
Sent Port::send_long(const Outgoing& frame, uint64_t now) {
  const InterfaceState state = interface_with(index_);
  const uint32_t type = static_cast<uint32_t>(frame.head[12] << 8 | frame.head[13]);
  const bool outside = (type == ETH_P_8021Q || type == ETH_P_8021AD) && state.kind != "veth";
  if (frame.length() <= state.mtu + ETH_HLEN + kTag + (outside ? kTag : 0)) {
    const int error = tx_ring_.send(index_, frame);
    if (error == 0) return Sent::kYes;
    if (error != EMSGSIZE && error != ENOBUFS) return refused(error, frame, now);
  }
  ++losses_.too_long;
  return Sent::kFailed;
}

Sent Port::refused(int error, const Outgoing& frame, uint64_t now) {
  switch (error) {
    case EINTR:
      return Sent::kLater;
    case EAGAIN:
    case ENOBUFS:
      if (patience_.try_again(now, error == EAGAIN)) return Sent::kLater;
      ++losses_.no_room;
      return Sent::kFailed;
    case ENETDOWN:
    case ENXIO:
    case ENODEV:
      close();
      return Sent::kDown;
    case EMSGSIZE:
      return send_long(frame, now);
    default:
      // ENOMEM, too: the kernel says so of a super-frame that it cannot take apart.
      ++losses_.refused;
      return Sent::kFailed;
  }
}

}  // namespace vsnoop::live
