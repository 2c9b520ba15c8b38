// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/replay/input.h"

namespace vsnoop::replay {

// One packet of a capture as the file has it.
struct Packet {
  std::span<const uint8_t> bytes;  // valid until the next one
  uint32_t wire = 0;
  int64_t time_ns = 0;
  int link = 0;  // LINKTYPE_...
  uint32_t interface = 0;
};

// Reads pcapng (draft-ietf-opsawg-pcapng) with any number of sections, interfaces, link types,
// snapshot lengths, time resolutions and byte orders; libpcap wants them all alike, and Wireshark's
// libwiretap would make the program GPL-only and bring GLib along.
class PcapngReader {
 public:
  // `input` stands at the first byte of the first section.
  explicit PcapngReader(Input& input) : input_(input) {}
  // False at the end. Throws std::runtime_error where the file is damaged.
  bool next(Packet& packet);

 private:
  struct Interface {
    int link;
    uint32_t snapshot;  // 0: unlimited
    uint8_t resolution = 6;
    int64_t offset_s = 0;
    uint32_t number = 0;  // over all sections
  };
  uint16_t get16(std::span<const uint8_t> bytes, size_t at) const;
  uint32_t get32(std::span<const uint8_t> bytes, size_t at) const;
  void begin_section(std::span<const uint8_t> body);
  void add_interface(std::span<const uint8_t> body);
  void simple(std::span<const uint8_t> body, Packet& packet);
  void enhanced(std::span<const uint8_t> body, bool obsolete, Packet& packet);
  const Interface& interface(uint32_t number) const;

  Input& input_;
  std::vector<Interface> interfaces_;  // of this section
  uint32_t count_ = 0;
  size_t pending_ = 0;  // bytes of the block that is read now
  bool swapped_ = false;
  int64_t last_ns_ = 0;
};

}  // namespace vsnoop::replay
