// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/split.h"

#include <algorithm>
#include <cstring>

namespace vsnoop::live {
namespace {

constexpr uint8_t kTcp = 6, kUdp = 17, kIpIp = 4, kIp6 = 41, kGre = 47;
constexpr uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;
constexpr uint32_t kJumboHeader = 8;
constexpr uint32_t kMostInIp = 65535;

uint32_t read16(const uint8_t* p) { return static_cast<uint32_t>(p[0] << 8 | p[1]); }
uint32_t read32(const uint8_t* p) { return read16(p) << 16 | read16(p + 2); }
void write16(uint8_t* p, uint32_t value) {
  p[0] = static_cast<uint8_t>(value >> 8);
  p[1] = static_cast<uint8_t>(value);
}
void write32(uint8_t* p, uint32_t value) {
  write16(p, value >> 16);
  write16(p + 2, value);
}

// One's complement sum of big-endian words, not folded.
uint64_t sum(const uint8_t* data, uint32_t length) {
  uint64_t total = 0;
  uint32_t i = 0;
  for (; i + 1 < length; i += 2) total += read16(data + i);
  return i < length ? total + (data[i] << 8) : total;
}

uint32_t fold(uint64_t total) {
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return static_cast<uint32_t>(total);
}

}  // namespace

/// Goes from header to header. Lengths have to agree with the end of the frame: what is found by
/// trying (the inside of a tunnel) can then hardly be anything else.
class Splitter::Walk {
 public:
  Walk(const Packet& packet, Headers& headers)
      : data_(packet.data),
        end_(packet.length),
        partial_(packet.vnet.flags & kVnetNeedsChecksum ? packet.vnet.csum_start : 0),
        udp_(packet.vnet.gso_type == kVnetGsoUdp),
        headers_(headers) {}

  bool ethernet(uint32_t at) {
    if (at + 14 > end_) return false;
    uint32_t type = read16(data_ + at + 12);
    at += 14;
    while (type == 0x8100 || type == 0x88a8 || type == 0x9100) {
      if (at + 4 > end_) return false;
      type = read16(data_ + at + 2);
      at += 4;
    }
    return network(type, at);
  }

 private:
  bool add(Layer::Kind kind, uint32_t at) {
    if (headers_.count == kMostLayers) return false;
    headers_.layers[headers_.count++] = {kind, at};
    return true;
  }

  bool network(uint32_t type, uint32_t at) {
    switch (type) {
      case 0x0800:
        return ipv4(at);
      case 0x86dd:
        return ipv6(at);
      case 0x6558:
        return ethernet(at);
      case 0x8847:
      case 0x8848:
        return mpls(at);
      case 0x8864:
        return pppoe(at);
      default:
        return false;
    }
  }

  bool any_ip(uint32_t at) {
    return at < end_ && (data_[at] >> 4 == 4 ? ipv4(at) : data_[at] >> 4 == 6 && ipv6(at));
  }

  bool mpls(uint32_t at) {
    headers_.plain = false;
    for (; at + 4 <= end_; at += 4)
      if (data_[at + 2] & 1) return any_ip(at + 4);
    return false;
  }

  bool pppoe(uint32_t at) {
    headers_.plain = false;
    if (at + 8 > end_ || !add(Layer::kPppoe, at)) return false;
    const uint32_t protocol = read16(data_ + at + 6);
    return protocol == 0x0021 ? ipv4(at + 8) : protocol == 0x0057 && ipv6(at + 8);
  }

  // A length that does not fit its field is written as 0 (BIG TCP).
  bool ends_here(uint32_t written, uint32_t real) const {
    return written == real || (written == 0 && real > kMostInIp);
  }

  bool ipv4(uint32_t at) {
    if (at + 20 > end_ || data_[at] >> 4 != 4) return false;
    const uint32_t length = (data_[at] & 15) * 4U;
    if (length < 20 || at + length > end_ || read16(data_ + at + 6) & 0x3fff) return false;
    if (!ends_here(read16(data_ + at + 2), end_ - at) || fold(sum(data_ + at, length)) != 0xffff)
      return false;
    return add(Layer::kIpv4, at) && inside(data_[at + 9], at + length);
  }

  bool ipv6(uint32_t at) {
    if (at + 40 > end_ || data_[at] >> 4 != 6) return false;
    if (!ends_here(read16(data_ + at + 4), end_ - at - 40) || !add(Layer::kIpv6, at)) return false;
    uint8_t protocol = data_[at + 6];
    for (at += 40; protocol == 0 || protocol == 60;) {
      if (at + 8 > end_) return false;
      const uint32_t length = 8 + data_[at + 1] * 8U;
      // The kernel's own: padding-free jumbo payload option alone (RFC 2675).
      if (protocol == 0 && length == kJumboHeader && read16(data_ + at + 2) == 0xc204) {
        if (headers_.jumbo != 0) return false;
        headers_.jumbo = at;
      }
      protocol = data_[at];
      at += length;
    }
    return inside(protocol, at);
  }

  bool inside(uint8_t protocol, uint32_t at) {
    switch (protocol) {
      case kTcp:
        return tcp(at);
      case kUdp:
        return udp(at);
      case kIpIp:
        headers_.plain = false;
        return ipv4(at);
      case kIp6:
        headers_.plain = false;
        return ipv6(at);
      case kGre:
        headers_.plain = false;
        return gre(at);
      default:
        return false;
    }
  }

  bool tcp(uint32_t at) {
    if (udp_ || at + 20 > end_ || (partial_ != 0 && partial_ != at)) return false;
    const uint32_t length = (data_[at + 12] >> 4) * 4U;
    if (length < 20 || at + length > end_) return false;
    headers_.tcp = true;
    headers_.transport = at;
    headers_.payload = at + length;
    return true;
  }

  bool udp(uint32_t at) {
    if (at + 8 > end_) return false;
    const Headers before = headers_;
    if (!udp_ || partial_ != at) {
      headers_.plain = false;
      if (add(Layer::kUdp, at) && search(at + 8)) return true;
    }
    // No checksum points at a header inside, and none was found: it is no tunnel.
    if (!udp_ || (partial_ != at && partial_ != 0)) return false;
    headers_ = before;
    headers_.transport = at;
    headers_.payload = at + 8;
    return true;
  }

  bool gre(uint32_t at) {
    if (at + 4 > end_ || data_[at + 1] & 7) return false;
    const uint32_t flags = data_[at];
    const uint32_t start =
        at + 4 + (flags & 0x80 ? 4 : 0) + (flags & 0x20 ? 4 : 0) + (flags & 0x10 ? 4 : 0);
    if (flags & 0x80 && !add(Layer::kGre, at)) return false;
    const Headers before = headers_;
    if (start < end_ && network(read16(data_ + at + 2), start)) return true;
    headers_ = before;
    return search(start);
  }

  // The inside of a tunnel, whatever its own header looks like: the first IP packet that ends with
  // the frame and leads to the right place.
  bool search(uint32_t at) {
    const uint32_t limit = std::min(partial_ != 0 ? partial_ : at + 64, end_);
    for (const Headers before = headers_; at + 20 <= limit; at += 2) {
      if (any_ip(at)) return true;
      headers_ = before;
    }
    return false;
  }

  const uint8_t* data_;
  uint32_t end_;
  uint32_t partial_;
  bool udp_;
  Headers& headers_;
};

bool Splitter::understand(const Packet& packet, Headers& headers) {
  Walk walk(packet, headers);
  if (!walk.ethernet(0) || headers.payload > packet.length) return false;
  const bool udp = packet.vnet.gso_type == kVnetGsoUdp;
  return headers.tcp != udp && headers.payload <= kMostHeaders;
}

bool Splitter::kernel_takes(const Packet& packet) {
  if (packet.vnet.gso_type == kVnetNoGso) return true;
  if (packet.length > FramePool::kLongest) return false;
  Headers headers;
  if (!understand(packet, headers)) return true;  // let the kernel judge
  return headers.plain && headers.jumbo == 0;
}

bool Splitter::begin(const Packet& packet) {
  Headers headers;
  if (packet.vnet.gso_size == 0 || !understand(packet, headers)) return false;
  headers_ = headers;
  packet_ = packet;
  payload_ = packet.length - headers.payload;
  done_ = 0;
  step_ = packet.vnet.gso_size;
  chunks_ = headers.plain && headers.tcp;

  std::memcpy(bytes_, packet.data, headers.payload);
  if (const uint32_t jumbo = headers_.jumbo) {
    // The header before it names what follows: the IPv6 header, or another extension.
    uint32_t names = 0;
    for (int i = 0; i < headers_.count; ++i)
      if (headers_.layers[i].kind == Layer::kIpv6 && headers_.layers[i].at < jumbo)
        names = headers_.layers[i].at + 40 == jumbo ? headers_.layers[i].at + 6 : 0;
    if (names == 0) {
      stop();
      return false;
    }
    bytes_[names] = bytes_[jumbo];
    std::memmove(bytes_ + jumbo, bytes_ + jumbo + kJumboHeader,
                 headers_.payload - jumbo - kJumboHeader);
    for (int i = 0; i < headers_.count; ++i)
      if (headers_.layers[i].at > jumbo) headers_.layers[i].at -= kJumboHeader;
    headers_.transport -= kJumboHeader;
    headers_.payload -= kJumboHeader;
  }
  if (chunks_) {
    const uint32_t room = kMostInIp - (headers_.payload - headers_.layers[0].at);
    step_ = room / step_ * step_;
  }
  if (step_ == 0 || step_ + headers_.payload - headers_.layers[0].at > kMostInIp) stop();
  return payload_ != 0;
}

Frame* Splitter::next(FramePool& pool) {
  const uint32_t length = std::min(step_, payload_ - done_);
  Frame* part = pool.take(headers_.payload + length);
  if (!part) return nullptr;
  std::memcpy(part->data(), bytes_, headers_.payload);
  std::memcpy(part->data() + headers_.payload, packet_.data + (packet_.length - payload_) + done_,
              length);
  part->vnet = {};
  part->checksum = VSNOOP_CHECKSUM_VERIFIED;
  mend(*part, done_, done_ == 0, done_ + length == payload_);
  done_ += length;
  return part;
}

// The sum of the pseudo-header that belongs to the layer in front of `before`.
uint32_t Splitter::pseudo_sum(const uint8_t* data, uint32_t length, uint32_t before) const {
  const Layer* ip = nullptr;
  for (int i = 0; i < headers_.count; ++i)
    if (headers_.layers[i].kind <= Layer::kIpv6 && headers_.layers[i].at < before)
      ip = &headers_.layers[i];
  if (!ip) return 0;
  const uint64_t addresses =
      ip->kind == Layer::kIpv4 ? sum(data + ip->at + 12, 8) : sum(data + ip->at + 8, 32);
  return fold(addresses + length);
}

// Makes the copied headers those of this part, from the inside out: an outer checksum covers what
// is inside.
void Splitter::mend(Frame& part, uint32_t offset, bool first, bool last) {
  uint8_t* data = part.data();
  const uint32_t length = part.length;
  const uint32_t index = offset / packet_.vnet.gso_size;
  uint8_t* transport = data + headers_.transport;
  const uint32_t covered = length - headers_.transport;
  const bool had_sum = headers_.tcp || read16(transport + 6) != 0 || packet_.vnet.csum_start != 0;
  if (headers_.tcp) {
    write32(transport + 4, read32(transport + 4) + offset);
    if (!last) transport[13] &= static_cast<uint8_t>(~(kFin | kPsh));
    if (!first) transport[13] &= static_cast<uint8_t>(~kCwr);
  } else {
    write16(transport + 4, covered);
  }

  uint8_t* field = transport + (headers_.tcp ? 16 : 6);
  write16(field, 0);
  const uint32_t pseudo =
      fold(uint64_t{pseudo_sum(data, covered, headers_.transport)} + (headers_.tcp ? kTcp : kUdp));
  if (chunks_) {
    write16(field, pseudo);
    part.checksum = VSNOOP_CHECKSUM_PARTIAL;
    part.vnet.flags = kVnetNeedsChecksum;
    part.vnet.csum_start = static_cast<uint16_t>(headers_.transport);
    part.vnet.csum_offset = 16;
    if (length - headers_.payload > packet_.vnet.gso_size) {
      part.vnet.gso_type = packet_.vnet.gso_type;
      part.vnet.gso_size = packet_.vnet.gso_size;
      part.vnet.hdr_len = static_cast<uint16_t>(headers_.payload);
    }
  } else if (had_sum) {
    const uint32_t value = ~fold(pseudo + sum(transport, covered)) & 0xffff;
    write16(field, value == 0 && !headers_.tcp ? 0xffff : value);
  }

  for (int i = headers_.count - 1; i >= 0; --i) {
    uint8_t* at = data + headers_.layers[i].at;
    const uint32_t rest = length - headers_.layers[i].at;
    switch (headers_.layers[i].kind) {
      case Layer::kIpv4:
        write16(at + 2, rest);
        write16(at + 4, read16(at + 4) + index);
        write16(at + 10, 0);
        write16(at + 10, ~fold(sum(at, (at[0] & 15) * 4U)));
        break;
      case Layer::kIpv6:
        write16(at + 4, rest - 40);
        break;
      case Layer::kUdp: {
        write16(at + 4, rest);
        if (read16(at + 6) == 0) break;  // a tunnel without one
        write16(at + 6, 0);
        const uint32_t value =
            ~fold(uint64_t{pseudo_sum(data, rest, headers_.layers[i].at)} + kUdp + sum(at, rest)) &
            0xffff;
        write16(at + 6, value == 0 ? 0xffff : value);
        break;
      }
      case Layer::kGre:
        write16(at + 4, 0);
        write16(at + 4, ~fold(sum(at, rest)));
        break;
      case Layer::kPppoe:
        write16(at + 4, rest - 6);
        break;
    }
  }
}

}  // namespace vsnoop::live
