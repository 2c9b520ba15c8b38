// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/pcapng_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace vsnoop::replay {
namespace {

constexpr uint32_t section_header = 0x0a0d0d0a, byte_order = 0x1a2b3c4d;
constexpr uint32_t interface_description = 1, obsolete_packet = 2, simple_packet = 3,
                   enhanced_packet = 6;
constexpr uint32_t longest_block = 64 << 20;  // libpcap's limit is 16 MiB

uint32_t swap32(uint32_t value) { return __builtin_bswap32(value); }

[[noreturn]] void damaged(const std::string& what) { throw std::runtime_error(what); }

// Any resolution to nanoseconds since 1970, between 1970 and 2262.
int64_t nanoseconds(uint64_t ticks, uint8_t resolution, int64_t offset_s) {
  __int128 ns = ticks;
  if (resolution & 0x80) {
    ns = (ns * 1'000'000'000) >> (resolution & 0x7f);
  } else {
    for (int i = resolution; i < 9; i++) ns *= 10;
    for (int i = 9; i < resolution && ns; i++) ns /= 10;
  }
  ns += static_cast<__int128>(offset_s) * 1'000'000'000;
  return static_cast<int64_t>(std::clamp<__int128>(ns, 0, 9'000'000'000'000'000'000));
}

}  // namespace

uint16_t PcapngReader::get16(std::span<const uint8_t> bytes, size_t at) const {
  uint16_t value;
  std::memcpy(&value, &bytes[at], 2);
  return swapped_ ? __builtin_bswap16(value) : value;
}

uint32_t PcapngReader::get32(std::span<const uint8_t> bytes, size_t at) const {
  uint32_t value;
  std::memcpy(&value, &bytes[at], 4);
  return swapped_ ? swap32(value) : value;
}

void PcapngReader::begin_section(std::span<const uint8_t> body) {
  if (body.size() < 16) damaged("section header too short");
  if (get16(body, 4) != 1) damaged(fmt::format("pcapng version {}", get16(body, 4)));
  count_ += static_cast<uint32_t>(interfaces_.size());
  interfaces_.clear();
}

void PcapngReader::add_interface(std::span<const uint8_t> body) {
  if (body.size() < 8) damaged("interface description too short");
  constexpr size_t most_interfaces = 65536;
  if (interfaces_.size() == most_interfaces) damaged("too many interfaces");
  Interface added{get16(body, 0), get32(body, 4)};
  added.number = count_ + static_cast<uint32_t>(interfaces_.size());
  constexpr uint16_t tsresol = 9, tsoffset = 14;
  for (size_t at = 8; at + 4 <= body.size();) {
    const uint16_t code = get16(body, at), length = get16(body, at + 2);
    if (code == 0 || at + 4 + length > body.size()) break;
    if (code == tsresol && length >= 1) added.resolution = body[at + 4];
    if (code == tsoffset && length >= 8) {
      const uint64_t low = get32(body, at + (swapped_ ? 8 : 4));
      const uint64_t high = get32(body, at + (swapped_ ? 4 : 8));
      added.offset_s = static_cast<int64_t>(high << 32 | low);
    }
    at += 4 + ((length + 3u) & ~3u);
  }
  interfaces_.push_back(added);
}

const PcapngReader::Interface& PcapngReader::interface(uint32_t number) const {
  if (number >= interfaces_.size()) damaged(fmt::format("interface {} is not described", number));
  return interfaces_[number];
}

void PcapngReader::simple(std::span<const uint8_t> body, Packet& packet) {
  if (body.size() < 4) damaged("packet block too short");
  const Interface& from = interface(0);
  packet.wire = get32(body, 0);
  size_t captured = std::min<size_t>(packet.wire, body.size() - 4);
  if (from.snapshot) captured = std::min<size_t>(captured, from.snapshot);
  packet.bytes = body.subspan(4, captured);
  packet.time_ns = last_ns_;  // it has none
  packet.link = from.link;
  packet.interface = from.number;
}

void PcapngReader::enhanced(std::span<const uint8_t> body, bool obsolete, Packet& packet) {
  if (body.size() < 20) damaged("packet block too short");
  const Interface& from = interface(obsolete ? get16(body, 0) : get32(body, 0));
  const uint32_t captured = get32(body, 12);
  if (captured > body.size() - 20) {
    damaged(fmt::format("{} bytes captured in a block of {}", captured, body.size()));
  }
  const uint64_t ticks = static_cast<uint64_t>(get32(body, 4)) << 32 | get32(body, 8);
  packet.wire = std::max(get32(body, 16), captured);
  packet.bytes = body.subspan(20, captured);
  packet.time_ns = last_ns_ = nanoseconds(ticks, from.resolution, from.offset_s);
  packet.link = from.link;
  packet.interface = from.number;
}

bool PcapngReader::next(Packet& packet) {
  for (;;) {
    input_.consume(pending_);
    pending_ = 0;
    const size_t left = input_.want(12);
    if (left == 0) return false;
    if (left < 12) damaged("truncated block");
    std::span<const uint8_t> head(input_.data(), 12);
    uint32_t type = get32(head, 0);
    if (type == section_header) {
      // Each section has its own byte order.
      uint32_t magic;
      std::memcpy(&magic, &head[8], 4);
      if (magic != byte_order && swap32(magic) != byte_order) damaged("no byte-order magic");
      swapped_ = magic != byte_order;
    }
    const uint32_t length = get32(head, 4);
    if (length < 12 || length > longest_block) {
      damaged(fmt::format("a block of {} bytes", length));
    }
    const size_t padded = (size_t{length} + 3) & ~size_t{3};
    if (input_.want(padded) < length) {
      damaged(fmt::format("truncated block: {} bytes of {}", input_.want(padded), length));
    }
    pending_ = std::min(padded, input_.want(padded));
    const std::span<const uint8_t> block(input_.data(), length);
    if (length % 4 == 0 && get32(block, length - 4) != length) {
      damaged("a block's two lengths differ");
    }
    const auto body = block.subspan(8, length - 12);
    if (type == section_header) {
      begin_section(body);
    } else if (type == interface_description) {
      add_interface(body);
    } else if (type == simple_packet) {
      simple(body, packet);
      return true;
    } else if (type == enhanced_packet || type == obsolete_packet) {
      enhanced(body, type == obsolete_packet, packet);
      return true;
    }
  }
}

}  // namespace vsnoop::replay
