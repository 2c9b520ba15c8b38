// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/pcapng.h"

#include <fmt/format.h>

#include <bit>
#include <functional>

namespace vsnoop::replay {
namespace {

// The file is in the byte order of the machine, as the section header's magic says.
template <typename T>
std::string raw(T value) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
  return {bytes.data(), bytes.size()};
}

std::string padded(std::string bytes) {
  bytes.resize((bytes.size() + 3) / 4 * 4, '\0');
  return bytes;
}

std::string option(uint16_t code, const std::string& value) {
  return raw(code) + raw(static_cast<uint16_t>(value.size())) + padded(value);
}

constexpr uint16_t opt_comment = 1, shb_userappl = 4, if_name = 2, if_tsresol = 9;
const std::string end_of_options(4, '\0');

}  // namespace

PcapngWriter::PcapngWriter(FILE* file) : file_(file) {
  block(0x0a0d0d0a, raw(uint32_t{0x1a2b3c4d}) + raw(uint16_t{1}) + raw(uint16_t{0}) +
                        raw(int64_t{-1}) + option(shb_userappl, "vsnoop replay") + end_of_options);
  constexpr uint16_t ethernet = 1;
  block(1, raw(ethernet) + raw(uint16_t{0}) + raw(uint32_t{0}) + option(if_name, "vsnoop") +
               option(if_tsresol, std::string(1, 9)) + end_of_options);
}

void PcapngWriter::block(uint32_t type, const std::string& body) {
  const std::string length = raw(static_cast<uint32_t>(body.size() + 12)), kind = raw(type);
  for (const std::string& part :
       {std::cref(kind), std::cref(length), std::cref(body), std::cref(length)}) {
    std::fwrite(part.data(), 1, part.size(), file_);
  }
}

void PcapngWriter::write(std::span<const uint8_t> bytes, uint32_t wire, int64_t time_ns,
                         const std::string& comment) {
  const auto time = static_cast<uint64_t>(time_ns);
  body_.clear();
  for (const uint32_t word :
       {uint32_t{0}, static_cast<uint32_t>(time >> 32), static_cast<uint32_t>(time),
        static_cast<uint32_t>(bytes.size()), wire}) {
    body_ += raw(word);
  }
  body_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  body_.resize((body_.size() + 3) / 4 * 4, '\0');
  if (!comment.empty()) body_ += option(opt_comment, comment) + end_of_options;
  block(6, body_);
}

void CaptureWithAcks::on_frame(const Seen& seen) {
  const vsnoop_verdict& verdict = seen.verdict;
  const uint8_t reason = verdict.reason;
  std::string comment;
  if (verdict.action == VSNOOP_DROP) {
    comment = fmt::format("vsnoop: does not pass: {} ({})", vsnoop_reason_text(reason),
                          vsnoop_reason_rule(reason));
  } else if (verdict.action == VSNOOP_EDIT) {
    comment =
        fmt::format("vsnoop: {} ({})", vsnoop_reason_text(reason), vsnoop_reason_rule(reason));
    if (verdict.edit.what & VSNOOP_EDIT_ACK) comment += fmt::format(", ACK {}", verdict.edit.ack);
    if (verdict.edit.what & VSNOOP_EDIT_WINDOW) {
      comment += fmt::format(", window field {}", verdict.edit.window);
    }
  }
  if (const int64_t later = seen.time_ns - seen.frame.time_ns; later > 0) {
    comment += fmt::format("{}{:.3f} ms later than captured", comment.empty() ? "vsnoop: " : "; ",
                           static_cast<double>(later) / 1e6);
  }
  writer_.write(seen.frame.bytes, seen.frame.wire, seen.time_ns, comment);
}

void CaptureWithAcks::on_emission(const Emitted& emitted) {
  writer_.write(
      emitted.bytes, static_cast<uint32_t>(emitted.bytes.size()), emitted.time_ns,
      fmt::format("vsnoop: {} ({}) to the {}", vsnoop_reason_text(emitted.emission.reason),
                  vsnoop_reason_rule(emitted.emission.reason),
                  emitted.emission.to_guest ? "guest" : "peer"));
}

}  // namespace vsnoop::replay
