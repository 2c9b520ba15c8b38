// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/udp_super.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "tools/units.h"

namespace vsnoop::live {
namespace {

constexpr uint32_t kRoom = 65536 + 64;
constexpr uint32_t kTag = 4;
constexpr int kWhole = 0x7fffffff;

constexpr bpf_insn insn(int code, int dst, int src, int off, int imm) {
  bpf_insn one{};
  one.code = static_cast<uint8_t>(code);
  one.dst_reg = static_cast<uint8_t>(dst & 15);
  one.src_reg = static_cast<uint8_t>(src & 15);
  one.off = static_cast<int16_t>(off);
  one.imm = imm;
  return one;
}

// A filter that keeps UDP super-frames: whole, or as much of them as one datagram has.
int load_filter(bool whole) {
  const bpf_insn program[] = {
      insn(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
      insn(BPF_LDX | BPF_MEM | BPF_W, 7, 6, offsetof(__sk_buff, gso_size), 0),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 7, 0, 9, 0),  // no super-frame
      insn(BPF_LD | BPF_ABS | BPF_H, 0, 0, 0, 12),
      insn(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3, ETH_P_IP),
      insn(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 6, ETH_P_IPV6),
      insn(BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, 14 + 6),
      insn(BPF_JMP | BPF_JA, 0, 0, 1, 0),
      insn(BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, 14 + 9),
      insn(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, IPPROTO_UDP),
      whole ? insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, kWhole)
            : insn(BPF_ALU64 | BPF_MOV | BPF_X, 0, 7, 0, 0),
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
      insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  static const char kLicence[] = "GPL";
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attributes.insns = reinterpret_cast<uintptr_t>(program);
  attributes.insn_cnt = sizeof program / sizeof *program;
  attributes.license = reinterpret_cast<uintptr_t>(kLicence);
  return static_cast<int>(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
}

}  // namespace

struct UdpSuper::Note {
  uint64_t time = 0;  // ns, as the kernel stamped it: the same for both sockets
  tpacket_auxdata aux{};

  // Receives into `part`; returns the length that the socket was given, or -1.
  ssize_t receive(int socket, iovec part) {
    alignas(cmsghdr) char control[256];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0) return got;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
        std::memcpy(&aux, CMSG_DATA(c), sizeof aux);
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
        timespec stamp;
        std::memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
        time = static_cast<uint64_t>(stamp.tv_sec) * kSecond + static_cast<uint64_t>(stamp.tv_nsec);
      }
    }
    return got;
  }
};

bool UdpSuper::needed() {
  utsname name{};
  int major = 0, minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return false;
  return major < 6 || (major == 6 && minor < 2);
}

UdpSuper::~UdpSuper() {
  close();
  for (const int program : programs_)
    if (program >= 0) ::close(program);
}

int UdpSuper::listen(uint32_t interface_index, int program, int queue_bytes) const {
  const int one = ::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (one < 0) return one;
  const int yes = 1;
  if (setsockopt(one, SOL_SOCKET, SO_RCVBUFFORCE, &queue_bytes, sizeof queue_bytes) != 0)
    setsockopt(one, SOL_SOCKET, SO_RCVBUF, &queue_bytes, sizeof queue_bytes);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(interface_index);
  if (setsockopt(one, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) != 0 ||
      setsockopt(one, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes) != 0 ||
      setsockopt(one, SOL_PACKET, PACKET_AUXDATA, &yes, sizeof yes) != 0 ||
      setsockopt(one, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes) != 0 ||
      ::bind(one, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    ::close(one);
    errno = error;
    return -1;
  }
  return one;
}

bool UdpSuper::open(uint32_t interface_index, int queue_bytes) {
  if (programs_[0] < 0) programs_[0] = load_filter(true);
  if (programs_[1] < 0) programs_[1] = load_filter(false);
  if (programs_[0] < 0 || programs_[1] < 0) return false;
  // The lengths first: a frame whose length nobody noted would be lost.
  lengths_ = listen(interface_index, programs_[1], queue_bytes);
  frames_ = listen(interface_index, programs_[0], queue_bytes);
  if (lengths_ >= 0 && frames_ >= 0) {
    if (!buffer_) buffer_ = std::make_unique_for_overwrite<uint8_t[]>(kRoom);
    return true;
  }
  const int error = errno;
  close();
  errno = error;
  return false;
}

void UdpSuper::close() {
  if (frames_ >= 0) ::close(frames_);
  if (lengths_ >= 0) ::close(lengths_);
  frames_ = lengths_ = -1;
  shown_ = length_known_ = false;
}

// Reads a frame into the buffer, leaving room for its tag.
bool UdpSuper::read_frame(Note& note) {
  const ssize_t got = note.receive(frames_, {buffer_.get() + kTag, kRoom - kTag});
  if (got < 0) return false;
  packet_ = {};
  packet_.data = buffer_.get() + kTag;
  packet_.length = static_cast<uint32_t>(got);
  packet_.arrival = note.time;
  return true;
}

// Finds the length of the frame's datagrams. Either socket may have lost some: the older one of two
// that do not belong together has lost its other half.
bool UdpSuper::read_length(const Note& frame, uint32_t& length) {
  for (;;) {
    if (!length_known_) {
      Note note;
      uint8_t nothing;
      const ssize_t got = note.receive(lengths_, {&nothing, 1});
      if (got < 0) return false;
      length_known_ = true;
      length_ = static_cast<uint32_t>(got);
      length_of_ = note.aux.tp_len;
      length_time_ = note.time;
    }
    if (length_time_ > frame.time) return false;
    length_known_ = false;
    if (length_time_ == frame.time && length_of_ == frame.aux.tp_len) {
      length = length_;
      return true;
    }
  }
}

const Packet* UdpSuper::peek() {
  while (!shown_ && frames_ >= 0) {
    Note note;
    uint32_t length = 0;
    if (!read_frame(note)) return nullptr;
    if (packet_.length > kRoom - kTag || !read_length(note, length)) continue;
    if (note.aux.tp_status & TP_STATUS_VLAN_VALID) {
      const uint32_t tpid =
          note.aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? note.aux.tp_vlan_tpid : ETH_P_8021Q;
      const uint32_t tci = note.aux.tp_vlan_tci;
      packet_.data -= kTag;
      packet_.length += kTag;
      std::memmove(packet_.data, packet_.data + kTag, 12);
      const uint8_t tag[kTag] = {static_cast<uint8_t>(tpid >> 8), static_cast<uint8_t>(tpid),
                                 static_cast<uint8_t>(tci >> 8), static_cast<uint8_t>(tci)};
      std::memcpy(packet_.data + 12, tag, kTag);
    }
    packet_.vnet.gso_type = kVnetGsoUdp;
    packet_.vnet.gso_size = static_cast<uint16_t>(length);
    shown_ = true;
  }
  return shown_ ? &packet_ : nullptr;
}

}  // namespace vsnoop::live
