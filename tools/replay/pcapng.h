// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <fstream>
#include <span>
#include <string>

#include "tools/replay/what_if.h"

namespace vsnoop::replay {

// Writes a pcapng file of one Ethernet interface with timestamps in nanoseconds.
class PcapngWriter {
 public:
  // Throws std::runtime_error if the file cannot be written; so do write() and close().
  explicit PcapngWriter(const std::string& path);
  // time_ns: since 1970. `comment` may be empty.
  void write(std::span<const uint8_t> bytes, uint32_t wire, int64_t time_ns,
             const std::string& comment);
  void close();

 private:
  void block(uint32_t type, const std::string& body);
  std::string path_;
  std::ofstream file_;
};

// The capture with vsnoop's frames in it, and comments where it interferes.
class CaptureWithAcks : public Observer {
 public:
  explicit CaptureWithAcks(const std::string& path) : writer_(path) {}
  void on_frame(const Seen& seen) override;
  void on_emission(const Emitted& emitted) override;
  void close() { writer_.close(); }

 private:
  PcapngWriter writer_;
};

}  // namespace vsnoop::replay
