// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/capture.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace vsnoop::replay {
namespace {

constexpr size_t mac_bytes = 12;
// Locally administered; which of the two is the guest's does not matter.
constexpr std::array<uint8_t, mac_bytes> synthetic_macs{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

// How many bytes stand in front of the network header, and where among them its EtherType.
struct Link {
  int type;
  uint32_t header;
  int ethertype_at;  // -1: told by the IP version
};
constexpr std::array links{Link{DLT_LINUX_SLL, 16, 14}, Link{DLT_LINUX_SLL2, 20, 0},
                           Link{DLT_RAW, 0, -1},        Link{DLT_IPV4, 0, -1},
                           Link{DLT_IPV6, 0, -1},       Link{DLT_FDDI, 21, 19}};

const Link* find_link(int type) {
  const auto* found = std::find_if(links.begin(), links.end(),
                                   [type](const Link& link) { return link.type == type; });
  return found == links.end() ? nullptr : found;
}

std::string describe_link(int type) {
  const char* text = pcap_datalink_val_to_description(type);
  return text ? text : fmt::format("number {}", type);
}

}  // namespace

CaptureReader::CaptureReader(const std::string& path) : path_(path) {
  struct stat status {};
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file || fstat(fileno(file.get()), &status) != 0) {
    throw CaptureError(fmt::format("{}: cannot be opened: {}", path, std::strerror(errno)));
  }
  size_ = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  std::array<char, PCAP_ERRBUF_SIZE> error{};
  pcap_.reset(pcap_fopen_offline_with_tstamp_precision(file.get(), PCAP_TSTAMP_PRECISION_NANO,
                                                       error.data()));
  if (!pcap_) {
    throw CaptureError(fmt::format("{}: byte {}: not a capture: {}", path,
                                   std::max(0L, std::ftell(file.get())), error.data()));
  }
  file_ = file.release();
  link_ = pcap_datalink(pcap_.get());
  if (link_ != DLT_EN10MB && !find_link(link_)) {
    throw CaptureError(
        fmt::format("{}: byte {}: link type '{}' is not supported (Ethernet, Linux cooked, raw IP "
                    "and FDDI are)",
                    path, position(), describe_link(link_)));
  }
}

bool CaptureReader::next(CapturedFrame& frame) {
  const uint64_t offset = position();
  pcap_pkthdr* header = nullptr;
  const u_char* bytes = nullptr;
  const int status = pcap_next_ex(pcap_.get(), &header, &bytes);
  if (status == PCAP_ERROR_BREAK) return false;
  if (status != 1) {
    throw CaptureError(fmt::format("{}: byte {}: frame {} cannot be read: {}", path_, offset,
                                   number_ + 1, pcap_geterr(pcap_.get())));
  }
  frame.number = ++number_;
  // A damaged file may hold any time; one that is counted in nanoseconds ends in 2262.
  const int64_t seconds = std::clamp<int64_t>(header->ts.tv_sec, 0, 9'000'000'000);
  frame.time_ns = seconds * 1'000'000'000 + header->ts.tv_usec;
  uint32_t length = header->caplen;
  frame.wire = std::max(header->len, length);
  const Link* link = find_link(link_);
  if (!link) {
    frame.bytes.assign(bytes, bytes + length);
    return true;
  }
  frame.bytes.assign(synthetic_macs.begin(), synthetic_macs.end());
  if (length < link->header + 1) {  // nothing of the network header is there
    frame.wire = std::max<uint32_t>(frame.wire, mac_bytes);
    return true;
  }
  std::array<uint8_t, 2> type{0x08, 0x00};
  if (link->ethertype_at >= 0) {
    std::copy_n(bytes + link->ethertype_at, 2, type.begin());
  } else if (bytes[0] >> 4 == 6) {
    type = {0x86, 0xdd};
  }
  frame.bytes.insert(frame.bytes.end(), type.begin(), type.end());
  frame.bytes.insert(frame.bytes.end(), bytes + link->header, bytes + length);
  frame.wire = frame.wire - link->header + mac_bytes + 2;
  return true;
}

std::string CaptureReader::link_name() const { return describe_link(link_); }

uint64_t CaptureReader::position() const {
  return static_cast<uint64_t>(std::max(0L, std::ftell(file_)));
}

}  // namespace vsnoop::replay
