// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/capture.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <array>

#include "tools/replay/pcapng_reader.h"

namespace vsnoop::replay {
namespace {

// pcapng has LINKTYPE_ values, libpcap's names are for DLT_ values.
int dlt_of(int linktype) {
  constexpr int linktype_atm_rfc1483 = 100, linktype_raw = 101;
  return linktype == linktype_atm_rfc1483 ? DLT_ATM_RFC1483
         : linktype == linktype_raw       ? DLT_RAW
                                          : linktype;
}

}  // namespace

void CaptureReader::Close::operator()(pcap_t* pcap) const { pcap_close(pcap); }

CaptureReader::CaptureReader(std::shared_ptr<const Source> source)
    : source_(std::move(source)), input_(*source_) {
  constexpr std::array<uint8_t, 4> section{0x0a, 0x0d, 0x0d, 0x0a};
  if (input_.want(4) >= 4 && std::equal(section.begin(), section.end(), input_.data())) {
    pcapng_ = std::make_unique<PcapngReader>(input_);
  } else {
    open_pcap();
  }
}

CaptureReader::~CaptureReader() = default;

// libpcap reads through stdio; no exception may pass it.
ssize_t CaptureReader::read_stream(void* self, char* to, size_t bytes) {
  auto& reader = *static_cast<CaptureReader*>(self);
  try {
    const size_t got = std::min(bytes, reader.input_.want(bytes));
    std::copy_n(reader.input_.data(), got, to);
    reader.input_.consume(got);
    return static_cast<ssize_t>(got);
  } catch (const CaptureError& error) {
    reader.read_error_ = error.what();
    return -1;
  }
}

void CaptureReader::open_pcap() {
  constexpr size_t stream_bytes = 64 * 1024;
  // Kuznetsov's format has longer record headers.
  constexpr std::array<uint8_t, 4> modified{0xa1, 0xb2, 0xcd, 0x34};
  const bool whole = input_.want(4) >= 4;
  const uint8_t* magic = input_.data();
  const bool is_modified = whole && (std::equal(modified.begin(), modified.end(), magic) ||
                                     std::equal(modified.rbegin(), modified.rend(), magic));
  record_header_ = is_modified ? 24 : 16;
  FILE* stream = fopencookie(this, "rb", {read_stream, nullptr, nullptr, nullptr});
  if (!stream) throw CaptureError(fmt::format("{}: out of memory", source_->name()));
  setvbuf(stream, nullptr, _IOFBF, stream_bytes);
  std::array<char, PCAP_ERRBUF_SIZE> error{};
  pcap_.reset(
      pcap_fopen_offline_with_tstamp_precision(stream, PCAP_TSTAMP_PRECISION_NANO, error.data()));
  if (!pcap_) {
    std::fclose(stream);
    if (!read_error_.empty()) throw CaptureError(read_error_);
    throw CaptureError(fmt::format("{}: byte {}: not a capture: {}", source_->name(),
                                   input_.offset(), error.data()));
  }
  link_ = pcap_datalink(pcap_.get());
  note_link(link_);
  if (!can_read_link(link_)) {
    throw CaptureError(
        fmt::format("{}: byte {}: link type '{}' is not supported: no IP is read "
                    "from it",
                    source_->name(), record_at_, link_text(link_)));
  }
}

void CaptureReader::note_link(int link) {
  if (std::find(links_.begin(), links_.end(), link) == links_.end()) links_.push_back(link);
}

bool CaptureReader::next_pcap(CapturedFrame& frame) {
  pcap_pkthdr* header = nullptr;
  const u_char* bytes = nullptr;
  const int status = pcap_next_ex(pcap_.get(), &header, &bytes);
  if (status == PCAP_ERROR_BREAK) return false;
  if (status != 1) {
    if (!read_error_.empty()) throw CaptureError(read_error_);
    throw CaptureError(fmt::format("{}: byte {}: frame {} cannot be read: {}", source_->name(),
                                   record_at_, number_ + 1, pcap_geterr(pcap_.get())));
  }
  frame.number = ++number_;
  record_at_ += record_header_ + header->caplen;
  // A damaged file may hold any time; one that is counted in nanoseconds ends in 2262.
  const int64_t seconds = std::clamp<int64_t>(header->ts.tv_sec, 0, 9'000'000'000);
  frame.time_ns = seconds * 1'000'000'000 + header->ts.tv_usec;
  read_link(link_, 0, {bytes, header->caplen}, std::max(header->len, header->caplen), frame,
            findings_);
  return true;
}

bool CaptureReader::next_pcapng(CapturedFrame& frame) {
  Packet packet;
  const uint64_t offset = input_.offset();
  try {
    if (!pcapng_->next(packet)) return false;
  } catch (const CaptureError&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw CaptureError(fmt::format("{}: byte {}: frame {} cannot be read: {}", source_->name(),
                                   std::max(offset, input_.offset()), number_ + 1, error.what()));
  }
  frame.number = ++number_;
  frame.time_ns = packet.time_ns;
  const int link = dlt_of(packet.link);
  note_link(link);
  read_link(link, packet.interface, packet.bytes, packet.wire, frame, findings_);
  return true;
}

bool CaptureReader::next(CapturedFrame& frame) {
  return pcapng_ ? next_pcapng(frame) : next_pcap(frame);
}

std::string CaptureReader::link_name() const {
  std::string names;
  for (const int link : links_) names += (names.empty() ? "" : ", ") + link_text(link);
  return names.empty() ? "no frames" : names;
}

}  // namespace vsnoop::replay
