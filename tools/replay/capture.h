// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tools/replay/input.h"
#include "tools/replay/link.h"

typedef struct pcap pcap_t;

namespace vsnoop::replay {

struct CapturedFrame {
  std::vector<uint8_t> bytes;  // Ethernet header first, synthetic where the link has none
  uint32_t wire = 0;           // bytes on the wire, counted with that header; >= bytes.size()
  // Where on the network it was seen (interface, MAC addresses, VLANs, tunnels), the same for both
  // directions.
  uint32_t place = 0;
  int64_t time_ns = 0;   // since 1970
  uint64_t number = 0;   // from 1, as Wireshark counts
  bool readable = true;  // false: nothing of it can stand in an Ethernet frame
};

class PcapngReader;

// Reads pcap and pcapng files, compressed or not, and whatever carries IP in them (link.h).
class CaptureReader {
 public:
  // Throws CaptureError: cannot be opened, no capture, link type not supported.
  explicit CaptureReader(std::shared_ptr<const Source> source);
  explicit CaptureReader(const std::string& path)
      : CaptureReader(std::make_shared<const Source>(path)) {}
  ~CaptureReader();
  CaptureReader(const CaptureReader&) = delete;
  CaptureReader& operator=(const CaptureReader&) = delete;

  // False at the end. Throws CaptureError where the file is damaged; nothing can be read after.
  // `frame` may be the same every time: then its memory is used again.
  bool next(CapturedFrame& frame);
  std::string link_name() const;  // of all interfaces that packets came from so far
  const Findings& findings() const { return findings_; }
  uint64_t position() const { return input_.position(); }  // bytes of the file that were read

 private:
  static ssize_t read_stream(void* self, char* to, size_t bytes);
  void open_pcap();
  bool next_pcap(CapturedFrame& frame);
  bool next_pcapng(CapturedFrame& frame);
  void note_link(int link);

  struct Close {
    void operator()(pcap_t* pcap) const;
  };
  std::shared_ptr<const Source> source_;
  Input input_;
  std::unique_ptr<pcap_t, Close> pcap_;
  std::unique_ptr<PcapngReader> pcapng_;
  std::string read_error_;
  uint64_t number_ = 0;
  uint64_t record_at_ = 24, record_header_ = 16;  // bytes, of pcap
  int link_ = 0;
  std::vector<int> links_;
  Findings findings_;
};

}  // namespace vsnoop::replay
