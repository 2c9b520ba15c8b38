// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <pcap/pcap.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace vsnoop::replay {

// One line for people: file, byte offset, what is wrong.
struct CaptureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct CapturedFrame {
  std::vector<uint8_t> bytes;  // Ethernet header first, synthetic where the link has none
  uint32_t wire = 0;           // bytes on the wire, counted with that header; >= bytes.size()
  int64_t time_ns = 0;         // since 1970
  uint64_t number = 0;         // from 1, as Wireshark counts
};

// Reads pcap and pcapng files: Ethernet, Linux cooked v1 and v2, raw IP, FDDI.
class CaptureReader {
 public:
  // Throws CaptureError: cannot be opened, no capture, link type not supported.
  explicit CaptureReader(const std::string& path);
  // False at the end. Throws CaptureError where the file is damaged; nothing can be read after.
  bool next(CapturedFrame& frame);
  std::string link_name() const;
  uint64_t position() const;  // bytes read
  uint64_t size() const { return size_; }

 private:
  struct Close {
    void operator()(pcap_t* pcap) const { pcap_close(pcap); }
  };
  std::string path_;
  std::unique_ptr<pcap_t, Close> pcap_;
  FILE* file_ = nullptr;  // belongs to pcap_
  uint64_t size_ = 0, number_ = 0;
  int link_ = 0;
};

}  // namespace vsnoop::replay
