// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/frame.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace vsnoop::live {
namespace {

constexpr size_t kSlab = 256 * 1024;

uint32_t read16(const uint8_t* p) { return static_cast<uint32_t>(p[0] << 8 | p[1]); }

// Skips IPv6 extension headers; returns where the transport header starts and sets its protocol.
uint32_t skip_extensions(const uint8_t* data, uint32_t length, uint32_t at, uint8_t& protocol) {
  for (int i = 0; i < 8 && at + 8 <= length; ++i) {
    switch (protocol) {
      case 0:   // hop-by-hop
      case 43:  // routing
      case 60:  // destination
        protocol = data[at];
        at += 8 + data[at + 1] * 8U;
        break;
      default:
        return at;
    }
  }
  return length;
}

}  // namespace

int FramePool::class_of(uint32_t length) {
  static_assert(size_of_class(kClasses - 1) >= kLongest + sizeof(Frame));
  const uint32_t bytes = length + static_cast<uint32_t>(sizeof(Frame));
  if (length > kLongest) return -1;
  if (bytes <= size_of_class(1)) return bytes <= size_of_class(0) ? 0 : 1;
  return static_cast<int>((bytes + kPage - 1) / kPage) + 1;
}

uint32_t FramePool::cost(uint32_t length) {
  const int size_class = class_of(length);
  return size_class < 0 ? length : size_of_class(size_class);
}

uint32_t FramePool::cost(const Frame& frame) { return size_of_class(frame.size_class); }

bool FramePool::grow(int size_class) {
  const size_t size = size_of_class(size_class);
  const size_t count = kSlab / size;
  try {
    slabs_.push_back(std::make_unique<std::byte[]>(count * size));
  } catch (const std::bad_alloc&) {
    return false;
  }
  std::byte* slab = slabs_.back().get();
  for (size_t i = 0; i < count; ++i) {
    auto* frame = new (slab + i * size) Frame{};
    frame->size_class = static_cast<uint8_t>(size_class);
    frame->capacity = static_cast<uint32_t>(size - sizeof(Frame));
    give(frame);
  }
  return true;
}

Frame* FramePool::take(uint32_t length) {
  const int size_class = class_of(length);
  if (size_class < 0) return nullptr;
  if (!free_[size_class] && !grow(size_class)) return nullptr;
  Frame* frame = free_[size_class];
  free_[size_class] = frame->next;
  frame->next = nullptr;
  frame->length = length;
  return frame;
}

void FramePool::give(Frame* frame) {
  frame->next = free_[frame->size_class];
  free_[frame->size_class] = frame;
}

void FramePool::give_list(vsnoop_held* list) {
  while (list) {
    Frame* frame = Frame::of(list);
    list = list->next;
    give(frame);
  }
}

Frame* FramePool::copy(const Outgoing& from) {
  Frame* frame = take(from.length());
  if (!frame) return nullptr;
  frame->vnet = from.vnet;
  frame->checksum = from.checksum;
  std::memcpy(frame->data(), from.head, from.head_length);
  if (from.body_length) std::memcpy(frame->data() + from.head_length, from.body, from.body_length);
  return frame;
}

Frame* FramePool::own(Packet& packet) {
  Frame* frame = packet.frame;
  if (!frame) return copy(Outgoing::of(packet));
  packet.frame = nullptr;
  return frame;
}

uint32_t header_end(const uint8_t* data, uint32_t length) {
  uint32_t at = 14;
  if (length < at) return 0;
  uint32_t type = read16(data + 12);
  while (type == 0x8100 || type == 0x88a8) {
    if (length < at + 4) return 0;
    type = read16(data + at + 2);
    at += 4;
  }
  uint8_t protocol;
  if (type == 0x0800 && at + 20 <= length) {
    if (read16(data + at + 6) & 0x3fff) return 0;  // a fragment
    protocol = data[at + 9];
    at += (data[at] & 15) * 4U;
  } else if (type == 0x86dd && at + 40 <= length) {
    protocol = data[at + 6];
    at = skip_extensions(data, length, at + 40, protocol);
  } else {
    return 0;
  }
  if (protocol == 6 && at + 20 <= length)
    at += (data[at + 12] >> 4) * 4U;
  else if (protocol == 17)
    at += 8;
  else
    return 0;
  return at <= length ? at : 0;
}

uint64_t wire_bytes(uint32_t length, const VnetHeader& vnet) {
  constexpr uint32_t kAround = 8 + 4 + 12;  // preamble, checksum, gap
  if (vnet.gso_type == kVnetNoGso || vnet.gso_size == 0 || vnet.hdr_len >= length)
    return std::max(length, 60U) + kAround;
  const uint64_t payload = length - vnet.hdr_len;
  const uint64_t segments = (payload + vnet.gso_size - 1) / vnet.gso_size;
  return payload + segments * (vnet.hdr_len + kAround);
}

bool complete_checksum(Frame& frame) {
  if (frame.vnet.gso_type != kVnetNoGso) return false;
  if (!(frame.vnet.flags & kVnetNeedsChecksum)) return true;
  const uint32_t field = frame.vnet.csum_start + frame.vnet.csum_offset;
  if (field + 2U > frame.length) return false;
  uint8_t* data = frame.data();
  uint64_t sum = 0;
  for (uint32_t i = frame.vnet.csum_start; i < frame.length; i += 2)
    sum += i + 1 < frame.length ? read16(data + i) : data[i] << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  // 0 would mean "none" to UDP; 0xffff is the same sum.
  const auto value = static_cast<uint16_t>(sum == 0xffff ? 0xffff : ~sum);
  data[field] = static_cast<uint8_t>(value >> 8);
  data[field + 1] = static_cast<uint8_t>(value);
  frame.vnet = {};
  frame.checksum = VSNOOP_CHECKSUM_UNKNOWN;
  return true;
}

}  // namespace vsnoop::live
