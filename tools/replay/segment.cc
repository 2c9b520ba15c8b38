// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/segment.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <stdexcept>

namespace vsnoop::replay {
namespace {

constexpr std::array<uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_ipv4(const Address& address) {
  return std::equal(mapped_prefix.begin(), mapped_prefix.end(), address.bytes.begin());
}

uint16_t get16(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

uint32_t get32(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint32_t>(get16(bytes, at)) << 16 | get16(bytes, at + 2);
}

uint16_t fold(uint64_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// The folded sum of big-endian words. Added up eight bytes at a time in the machine's order, and
// swapped at the end: the sum does not mind (RFC 1071 2 (B)).
uint16_t sum16(std::span<const uint8_t> bytes) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  uint64_t even = 0, odd = 0;
  for (; left >= 16; at += 16, left -= 16) {
    uint64_t a, b;
    std::memcpy(&a, at, 8);
    std::memcpy(&b, at + 8, 8);
    even += (a & 0xffffffff) + (a >> 32);
    odd += (b & 0xffffffff) + (b >> 32);
  }
  uint64_t sum = even + odd;
  for (; left >= 2; at += 2, left -= 2) {
    uint16_t word;
    std::memcpy(&word, at, 2);
    sum += word;
  }
  if (left) {
    const std::array<uint8_t, 2> last{*at, 0};
    uint16_t word;
    std::memcpy(&word, last.data(), 2);
    sum += word;
  }
  const uint16_t folded = fold(sum);
  return std::endian::native == std::endian::little
             ? static_cast<uint16_t>(folded << 8 | folded >> 8)
             : folded;
}

// The IP layer: where its payload starts and ends, counted from the start of the frame.
struct Ip {
  size_t start = 0, end = 0;
  uint8_t protocol = 0;
  bool fragment = false, damaged = false;
};

bool read_ipv4(std::span<const uint8_t> frame, size_t at, uint32_t wire, Ip& ip, Segment& out) {
  if (frame.size() < at + 20 || frame[at] >> 4 != 4) return false;
  const size_t header = (frame[at] & 15) * 4u;
  // 0: a segment that the NIC was to cut (TSO) had no length yet when it was captured.
  const size_t total = get16(frame, at + 2) ? get16(frame, at + 2) : wire - at;
  if (header < 20 || total < header) return false;
  ip = {at + header, at + total, frame[at + 9], (get16(frame, at + 6) & 0x3fff) != 0, false};
  ip.damaged = frame.size() >= at + header && fold(sum16(frame.subspan(at, header))) != 0xffff;
  for (Address* address : {&out.source, &out.destination}) {
    std::copy(mapped_prefix.begin(), mapped_prefix.end(), address->bytes.begin());
    std::copy_n(frame.begin() + static_cast<long>(at + (address == &out.source ? 12 : 16)), 4,
                address->bytes.begin() + 12);
  }
  return true;
}

bool read_ipv6(std::span<const uint8_t> frame, size_t at, uint32_t wire, Ip& ip, Segment& out) {
  if (frame.size() < at + 40 || frame[at] >> 4 != 6) return false;
  const size_t length = get16(frame, at + 4) ? get16(frame, at + 4) : wire - at - 40;
  ip = {at + 40, at + 40 + length, frame[at + 6], false, false};
  std::copy_n(frame.begin() + static_cast<long>(at + 8), 16, out.source.bytes.begin());
  std::copy_n(frame.begin() + static_cast<long>(at + 24), 16, out.destination.bytes.begin());
  for (int i = 0; i < 8; i++) {  // extension headers
    const uint8_t kind = ip.protocol;
    if (kind != 0 && kind != 43 && kind != 44 && kind != 60) break;
    if (frame.size() < ip.start + 8) return true;
    // An atomic fragment (RFC 6946) is whole: its offset and "more" bit are 0.
    if (kind == 44) ip.fragment = (get16(frame, ip.start + 2) & 0xfff9) != 0;
    ip.protocol = frame[ip.start];
    ip.start += kind == 44 ? 8 : 8 + frame[ip.start + 1] * 8u;
  }
  return true;
}

void read_options(std::span<const uint8_t> options, Segment& out) {
  for (size_t i = 0; i < options.size() && options[i] != 0;) {
    if (options[i] == 1) {
      i++;
      continue;
    }
    if (i + 1 >= options.size() || options[i + 1] < 2 || i + options[i + 1] > options.size())
      return;
    if (options[i] == 3 && options[i + 1] == 3) {
      out.shift = static_cast<int8_t>(std::min<uint8_t>(options[i + 2], 14));
    }
    i += options[i + 1];
  }
}

void prepare(std::span<const uint8_t> frame, const Ip& ip, Segment& segment) {
  const size_t length = ip.end - ip.start;
  // IPv4's mapped prefix 0xffff is 0 in one's complement: both families sum up alike.
  segment.pseudo =
      fold(uint64_t{sum16(segment.source.bytes)} + sum16(segment.destination.bytes) + 6 + length);
  segment.start = static_cast<uint32_t>(ip.start);
  segment.end = static_cast<uint32_t>(ip.end);
  segment.whole = ip.end <= frame.size();
  segment.looks_partial = get16(frame, ip.start + 16) == segment.pseudo;
  segment.checksum = ip.damaged                               ? Checksum::bad
                     : segment.whole || segment.looks_partial ? Checksum::unread
                                                              : Checksum::unknown;
}

}  // namespace

std::string to_text(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool four = is_ipv4(address);
  inet_ntop(four ? AF_INET : AF_INET6, address.bytes.data() + (four ? 12 : 0), text.data(),
            text.size());
  return text.data();
}

std::string to_text(const Address& address, uint16_t port) {
  const std::string text = to_text(address);
  return is_ipv4(address) ? fmt::format("{}:{}", text, port) : fmt::format("[{}]:{}", text, port);
}

bool Prefix::holds(const Address& other) const {
  for (unsigned i = 0; i < 16 && i * 8 < bits; i++) {
    const unsigned left = std::min(8u, bits - i * 8);
    const auto mask = static_cast<uint8_t>(0xff00 >> left);
    if ((address.bytes[i] ^ other.bytes[i]) & mask) return false;
  }
  return true;
}

Prefix parse_prefix(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  Prefix prefix;
  const bool four = inet_pton(AF_INET, address.c_str(), prefix.address.bytes.data() + 12) == 1;
  if (four) {
    std::copy(mapped_prefix.begin(), mapped_prefix.end(), prefix.address.bytes.begin());
  } else if (inet_pton(AF_INET6, address.c_str(), prefix.address.bytes.data()) != 1) {
    throw std::invalid_argument(fmt::format("'{}' is no IPv4 or IPv6 address", address));
  }
  if (slash == std::string::npos) return prefix;
  const unsigned most = four ? 32 : 128;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + slash + 1, end, prefix.bits);
  if (error != std::errc{} || stop != end || prefix.bits > most) {
    throw std::invalid_argument(fmt::format("'{}': the prefix length must be 0 to {}", text, most));
  }
  if (four) prefix.bits += 96;
  return prefix;
}

void judge(std::span<const uint8_t> frame, Segment& segment) {
  if (segment.checksum != Checksum::unread) return;
  const bool good =
      segment.whole &&
      fold(uint64_t{segment.pseudo} +
           sum16(frame.subspan(segment.start, segment.end - segment.start))) == 0xffff;
  segment.checksum = good                    ? Checksum::good
                     : segment.looks_partial ? Checksum::partial
                                             : Checksum::bad;
}

Segment parse_segment(std::span<const uint8_t> frame, uint32_t wire) {
  Segment segment = peek_segment(frame, wire);
  judge(frame, segment);
  return segment;
}

Segment peek_segment(std::span<const uint8_t> frame, uint32_t wire) {
  Segment out;
  size_t at = 12;
  while (frame.size() >= at + 2 &&
         (get16(frame, at) == 0x8100 || get16(frame, at) == 0x88a8 || get16(frame, at) == 0x9100)) {
    at += 4;
  }
  if (frame.size() < at + 2) return out;
  const uint16_t type = get16(frame, at);
  at += 2;
  Ip ip;
  if (!(type == 0x0800 && read_ipv4(frame, at, wire, ip, out)) &&
      !(type == 0x86dd && read_ipv6(frame, at, wire, ip, out))) {
    return out;
  }
  out.kind = Segment::Kind::not_tcp;
  if (ip.protocol != 6 || ip.fragment || frame.size() < ip.start + 20) return out;
  const size_t header = (frame[ip.start + 12] >> 4) * 4u;
  if (header < 20 || ip.start + header > ip.end || ip.end > wire) return out;
  out.kind = Segment::Kind::tcp;
  out.source_port = get16(frame, ip.start);
  out.destination_port = get16(frame, ip.start + 2);
  out.seq = get32(frame, ip.start + 4);
  out.ack = get32(frame, ip.start + 8);
  out.flags = frame[ip.start + 13];
  out.window = get16(frame, ip.start + 14);
  out.payload = static_cast<uint32_t>(ip.end - ip.start - header);
  prepare(frame, ip, out);
  const size_t options_end = std::min(frame.size(), ip.start + header);
  read_options(frame.subspan(ip.start + 20, options_end - ip.start - 20), out);
  return out;
}

}  // namespace vsnoop::replay
