// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "tools/replay/what_if.h"

namespace vsnoop::replay {

// Writes a pcapng file of one Ethernet interface with timestamps in nanoseconds.
class PcapngWriter {
 public:
  // Write errors stay with `file`.
  explicit PcapngWriter(FILE* file);
  // time_ns: since 1970. `comment` may be empty.
  void write(std::span<const uint8_t> bytes, uint32_t wire, int64_t time_ns,
             const std::string& comment);

 private:
  void block(uint32_t type, const std::string& body);
  FILE* file_;
  std::string body_;
};

// The capture with vsnoop's frames in it, and comments where it interferes.
class CaptureWithAcks : public Observer {
 public:
  explicit CaptureWithAcks(FILE* file) : writer_(file) {}
  void on_frame(const Seen& seen) override;
  void on_emission(const Emitted& emitted) override;

 private:
  PcapngWriter writer_;
};

}  // namespace vsnoop::replay
