// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// `vsnoop replay`: reading captures, judging promises, writing captures.
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "tests/unit/catch.h"
#include "tools/replay/capture.h"
#include "tools/replay/oracle.h"
#include "tools/replay/pcapng.h"
#include "tools/replay/plan.h"
#include "tools/replay/replay.h"

namespace fs = std::filesystem;
using namespace vsnoop::replay;

namespace {

constexpr const char* captures = "tests/captures";  // tests run at the top of the repository

class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(fs::temp_directory_path() / "vsnoop-test-XXXXXX") {
    std::string name = path_.string();
    REQUIRE(mkdtemp(name.data()));
    path_ = name;
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// Catches what goes to std::cout as long as it lives, even if that ends with an exception.
class Captured {
 public:
  Captured() : before_(std::cout.rdbuf(text_.rdbuf())) {}
  ~Captured() { std::cout.rdbuf(before_); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
  std::streambuf* before_;
};

// The JSON report of a run, and its exit status. Messages on standard error are let be.
nlohmann::json replay(Options options, int expected_status = 0) {
  const TemporaryDirectory directory;
  options.json = directory / "report.json";
  const auto [status, text] = [&options] {
    const Captured output;
    const int result = run_replay(options);
    return std::pair(result, output.text());
  }();
  INFO(text);
  CHECK(status == expected_status);
  std::ifstream file(options.json);
  return nlohmann::json::parse(file);
}

Options of(const std::string& name) {
  Options options;
  options.paths = {std::string(captures) + "/" + name};
  return options;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// What opening and reading a capture complains about; "" if nothing.
std::string complaint(const std::string& path) {
  try {
    CaptureReader reader(path);
    CapturedFrame frame;
    while (reader.next(frame)) continue;
  } catch (const CaptureError& error) {
    return error.what();
  }
  return {};
}

// The download once more on another link type: `header` stands in front of each IP packet.
void convert(const std::string& path, int link, const std::string& header) {
  pcap_t* dead = pcap_open_dead_with_tstamp_precision(link, 65535, PCAP_TSTAMP_PRECISION_NANO);
  pcap_dumper_t* dumper = pcap_dump_open(dead, path.c_str());
  CaptureReader reader(std::string(captures) + "/download.pcap");
  CapturedFrame frame;
  while (reader.next(frame)) {
    std::string bytes = header + std::string(frame.bytes.begin() + 14, frame.bytes.end());
    pcap_pkthdr record{};
    record.ts.tv_sec = frame.time_ns / 1'000'000'000;
    record.ts.tv_usec = frame.time_ns % 1'000'000'000;
    record.caplen = record.len = static_cast<bpf_u_int32>(bytes.size());
    pcap_dump(reinterpret_cast<u_char*>(dumper), &record,
              reinterpret_cast<const u_char*>(bytes.data()));
  }
  pcap_dump_close(dumper);
  pcap_close(dead);
}

// A conversation written by hand: the guest 192.0.2.2:80 or :40000, the peer 192.0.2.1.
class Tape {
 public:
  struct Sent {
    bool from_guest = false;
    uint32_t seq = 0, ack = 0;
    uint8_t flags = ack_flag;
    uint16_t window = 500;
    int shift = -1;  // window scale option; -1: none
    uint32_t payload = 0;
    double after_ms = 1;
  };
  // An IP packet of IPv4 and TCP, whose checksums are right.
  static std::string packet(const Sent& sent) {
    std::string tcp;
    const uint16_t from = sent.from_guest ? 80 : 40000, to = sent.from_guest ? 40000 : 80;
    put16(tcp, from), put16(tcp, to), put32(tcp, sent.seq), put32(tcp, sent.ack);
    put16(tcp, static_cast<uint16_t>((sent.shift < 0 ? 5 : 6) << 12 | sent.flags));
    put16(tcp, sent.window), put32(tcp, 0);
    if (sent.shift >= 0) put32(tcp, 0x01030300u + static_cast<uint32_t>(sent.shift));
    tcp += std::string(sent.payload, 'x');
    std::string addresses("\xc0\0\2\1\xc0\0\2\2", 8);
    if (sent.from_guest) std::swap_ranges(&addresses[0], &addresses[4], &addresses[4]);
    std::string pseudo = addresses;
    put16(pseudo, 6), put16(pseudo, static_cast<uint16_t>(tcp.size()));
    patch16(tcp, 16, sum(pseudo + tcp));
    std::string ip("\x45\0", 2);
    put16(ip, static_cast<uint16_t>(20 + tcp.size()));
    ip += std::string("\0\1\x40\0\x40\6\0\0", 8) + addresses;
    patch16(ip, 10, sum(ip));
    return ip + tcp;
  }
  static std::string ethernet(const std::string& ip) {
    return std::string("\2\0\0\0\0\2\2\0\0\0\0\1\x08\0", 14) + ip;
  }
  Tape& operator<<(const Sent& sent) {
    now_ms_ += sent.after_ms;
    frames_.emplace_back(now_ms_, ethernet(packet(sent)));
    return *this;
  }
  Tape& raw(const std::string& frame, double after_ms = 1) {
    now_ms_ += after_ms;
    frames_.emplace_back(now_ms_, frame);
    return *this;
  }
  // A frame at a time of its own, in between.
  Tape& at(double ms, const std::string& frame) { return mix(Tape().raw(frame, 0), ms); }
  // Another tape, so much later, in between.
  Tape& mix(const Tape& other, double later_ms) {
    for (const auto& [ms, bytes] : other.frames_) frames_.emplace_back(ms + later_ms, bytes);
    std::stable_sort(frames_.begin(), frames_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    return *this;
  }
  void write(const std::string& path, int link = DLT_EN10MB) const {
    pcap_t* dead = pcap_open_dead_with_tstamp_precision(link, 262144, PCAP_TSTAMP_PRECISION_NANO);
    pcap_dumper_t* dumper = pcap_dump_open(dead, path.c_str());
    REQUIRE(dumper);
    for (const auto& [ms, bytes] : frames_) {
      pcap_pkthdr record{};
      record.ts.tv_sec = static_cast<time_t>(ms / 1000);
      record.ts.tv_usec = static_cast<suseconds_t>((ms - record.ts.tv_sec * 1e3) * 1e6);
      record.caplen = record.len = static_cast<bpf_u_int32>(bytes.size());
      pcap_dump(reinterpret_cast<u_char*>(dumper), &record,
                reinterpret_cast<const u_char*>(bytes.data()));
    }
    pcap_dump_close(dumper);
    pcap_close(dead);
  }

 private:
  static void put16(std::string& to, uint16_t value) {
    to += static_cast<char>(value >> 8);
    to += static_cast<char>(value);
  }
  static void put32(std::string& to, uint32_t value) {
    put16(to, static_cast<uint16_t>(value >> 16));
    put16(to, static_cast<uint16_t>(value));
  }
  static void patch16(std::string& to, size_t at, uint16_t value) {
    to[at] = static_cast<char>(value >> 8);
    to[at + 1] = static_cast<char>(value);
  }
  static uint16_t sum(const std::string& bytes) {
    uint32_t sum = 0;
    for (size_t i = 0; i < bytes.size(); i++) {
      sum += static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (i % 2 ? 0 : 8);
    }
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
  }
  double now_ms_ = 1000;
  std::vector<std::pair<double, std::string>> frames_;
};
using Sent = Tape::Sent;

// The handshake, opened by the peer: its first byte is 1001, the guest's 5001.
Tape opened() {
  Tape tape;
  tape << Sent{.seq = 1000, .flags = syn, .window = 64240, .shift = 7}
       << Sent{.from_guest = true,
               .seq = 5000,
               .ack = 1001,
               .flags = syn | ack_flag,
               .window = 64240,
               .shift = 7}
       << Sent{.seq = 1001, .ack = 5001};
  return tape;
}

// A connection for the oracle, just below the wrap of sequence numbers.
class Talk {
 public:
  static constexpr uint32_t peer_isn = 0xfffffff0u, guest_isn = 0xffffff00u;

  Talk() {
    Segment s = peer(0, 0, syn);
    s.seq = peer_isn;
    s.shift = 7;
    oracle.from_peer(s);
    s = guest(0, 500, syn | ack_flag);
    s.seq = guest_isn;
    s.shift = 2;
    oracle.from_guest(s, 0);
    oracle.passed(s, s, true, 0);
  }
  static Segment blank() {
    Segment s;
    s.kind = Segment::Kind::tcp;
    s.checksum = Checksum::good;
    return s;
  }
  static Segment peer(uint32_t at, uint32_t bytes, uint8_t flags = ack_flag) {
    Segment s = blank();
    s.seq = peer_isn + 1 + at;
    s.ack = guest_isn + 1;
    s.payload = bytes;
    s.flags = flags;
    return s;
  }
  static Segment guest(uint32_t acked, uint16_t window, uint8_t flags = ack_flag) {
    Segment s = blank();
    s.seq = guest_isn + 1;
    s.ack = peer_isn + 1 + acked;
    s.window = window;
    s.flags = flags;
    return s;
  }
  void data(uint32_t at, uint32_t bytes) { oracle.from_peer(peer(at, bytes)); }
  // vsnoop: an early ACK. The guest: its own.
  void early(uint32_t acked, int64_t ms, uint16_t window = 0) {
    oracle.emitted(guest(acked, window), ms * 1'000'000);
  }
  void acks(uint32_t acked, int64_t ms, uint16_t window = 500) {
    const Segment s = guest(acked, window);
    oracle.from_guest(s, ms * 1'000'000);
  }
  const PromiseCount& fate(Fate fate) const { return oracle.result().fates[size_t(fate)]; }
  const PromiseCount& cause(Cause cause) const { return oracle.result().causes[size_t(cause)]; }

  std::vector<std::string> violations;
  Oracle oracle{[this](const std::string& text) { violations.push_back(text); }};
};

}  // namespace

TEST_CASE("oracle: a promise that the guest acknowledges later is kept", "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.data(100, 100);
  talk.early(200, 3, 450);
  talk.acks(150, 10, 463);
  talk.acks(200, 22, 450);
  talk.oracle.finish(false);
  CHECK(talk.violations.empty());
  CHECK(talk.fate(Fate::kept).early_acks == 2);
  CHECK(talk.fate(Fate::kept).bytes == 200);
  CHECK(talk.oracle.result().saved.exact() == std::vector<int64_t>{8'000'000, 19'000'000});
}

TEST_CASE("oracle: a promise is open when the capture ends before the guest speaks", "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.acks(60, 3);
  talk.oracle.finish(false);
  CHECK(talk.fate(Fate::kept).bytes == 60);
  CHECK(talk.fate(Fate::kept).early_acks == 0);
  CHECK(talk.fate(Fate::open).early_acks == 1);
  CHECK(talk.cause(Cause::capture_ends).bytes == 40);
}

TEST_CASE("oracle: a reset by the guest breaks what was promised", "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.oracle.from_guest(Talk::guest(40, 0, rst | ack_flag), 3'000'000);
  talk.oracle.finish(false);
  CHECK(talk.fate(Fate::kept).bytes == 40);
  CHECK(talk.fate(Fate::broken).early_acks == 1);
  CHECK(talk.cause(Cause::guest_reset).bytes == 60);
}

TEST_CASE("oracle: a reset by the peer leaves a promise open", "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.oracle.from_peer(Talk::peer(100, 0, rst));
  talk.oracle.finish(false);
  CHECK(talk.cause(Cause::peer_reset).bytes == 100);
}

TEST_CASE("oracle: a tuple used anew breaks a promise only if the guest has spoken since",
          "[replay]") {
  const bool spoke = GENERATE(false, true);
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  if (spoke) talk.acks(0, 3);
  talk.oracle.finish(true);
  CHECK(talk.fate(Fate::broken).early_acks == (spoke ? 1 : 0));
  CHECK(talk.fate(Fate::open).early_acks == (spoke ? 0 : 1));
}

TEST_CASE("oracle: three repetitions answered with less break a promise, two do not", "[replay]") {
  const int times = GENERATE(2, 3);
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  for (int i = 0; i < times; i++) {
    talk.data(0, 100);
    talk.acks(0, 10 + i);
    talk.acks(0, 20 + i);  // an answer counts once
  }
  talk.oracle.finish(false);
  CHECK(talk.fate(Fate::broken).early_acks == (times == 3 ? 1 : 0));
  CHECK(talk.fate(Fate::open).early_acks == (times == 3 ? 0 : 1));
}

TEST_CASE("oracle: a SYN after the handshake changes nothing, whatever it says", "[replay]") {
  Talk talk;
  talk.acks(0, 1, 500);              // shift 2: edge at 2000
  talk.data(0, GENERATE(0u, 100u));  // the third segment, with data or without
  Segment s = Talk::peer(50'000, 900, GENERATE(syn, syn | ack_flag));
  s.shift = 0;
  SECTION("of the peer") { talk.oracle.from_peer(s); }
  SECTION("of the guest") {
    s = Talk::guest(0, 500, syn);
    s.shift = 0;
    talk.oracle.from_guest(s, 1);
  }
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.acks(100, 3, 475);
  talk.oracle.finish(false);
  CHECK(talk.violations.empty());
  CHECK(talk.fate(Fate::kept).bytes == 100);
}

TEST_CASE("oracle: another SYN before the handshake ends counts, with its number and its scale",
          "[replay]") {
  std::vector<std::string> violations;
  Oracle oracle([&](const std::string& text) { violations.push_back(text); });
  Segment s = Talk::peer(0, 0, syn);
  s.seq = 77'000'000;
  oracle.from_peer(s);
  s.seq = Talk::peer_isn;
  s.shift = 7;
  oracle.from_peer(s);
  s = Talk::guest(0, 500, syn | ack_flag);
  s.seq = Talk::guest_isn;
  s.shift = 2;
  oracle.from_guest(s, 0);
  oracle.from_guest(Talk::guest(0, 500), 1);  // edge at 2000
  oracle.from_peer(Talk::peer(0, 1900));
  oracle.emitted(Talk::guest(1900, 25), 2);
  CHECK(violations.empty());
}

TEST_CASE("oracle: finds what no early ACK may do", "[replay]") {
  Talk talk;
  talk.acks(0, 1, 500);  // shift 2: edge at 2000
  talk.data(0, 1900);
  SECTION("acknowledge what is missing") {
    talk.data(1950, 10);
    talk.early(1960, 2, 10);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("I1") == 0);
  }
  SECTION("acknowledge beyond the window") {
    talk.data(1900, 200);
    talk.early(2100, 2);
    REQUIRE(talk.violations.size() == 2);  // its edge is beyond as well
    CHECK(talk.violations[1].find("I2: early ACK") == 0);
  }
  SECTION("show more window than the guest does") {
    talk.early(1900, 2, 26);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("I2: shows") == 0);
  }
  SECTION("step back") {
    talk.early(1900, 2, 25);
    talk.early(1800, 3, 50);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("I4: ACK") == 0);
  }
  SECTION("move the right edge left") {
    talk.early(1900, 2, 25);
    talk.early(1900, 3, 23);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("I4: right edge") == 0);
  }
  SECTION("promise after the guest's FIN") {
    talk.oracle.from_guest(Talk::guest(0, 500, fin | ack_flag), 1);
    talk.early(1900, 2, 25);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("G8") == 0);
  }
  SECTION("let the guest contradict it") {
    talk.early(1900, 2, 25);
    const Segment own = Talk::guest(0, 500);
    talk.oracle.passed(own, own, true, 3);
    REQUIRE(talk.violations.size() == 1);
    CHECK(talk.violations[0].find("I4") == 0);
  }
  SECTION("swallow an ACK that the peer needs, or a segment that is no pure ACK") {
    talk.acks(1900, 2);
    talk.oracle.dropped(Talk::guest(1900, 500));
    talk.oracle.dropped(Talk::guest(0, 500, fin | ack_flag));
    CHECK(talk.violations.size() == 2);
  }
  SECTION("but nothing is wrong with a true one") {
    talk.early(1900, 2, 25);
    talk.oracle.dropped(Talk::guest(1900, 500));
    CHECK(talk.violations.empty());
  }
}

TEST_CASE("oracle: what the guest has taken back or says late, vsnoop has not moved left",
          "[replay]") {
  Talk talk;
  const auto passes = [&](const Segment& own, const Segment& shown, bool tracked = true) {
    talk.oracle.from_guest(own, 1);
    talk.oracle.passed(own, shown, tracked, 1);
  };
  passes(Talk::guest(0, 500), Talk::guest(0, 500));  // shift 2: edge at 2000
  talk.data(0, 300);
  SECTION("taken back, and shown so: rounding counts from there") {
    passes(Talk::guest(0, 250), Talk::guest(0, 250));
    passes(Talk::guest(3, 250), Talk::guest(3, 249));  // 1003, but the peer had 1000 and has 999
    CHECK(talk.violations.empty());
    passes(Talk::guest(3, 250), Talk::guest(3, 248));
    CHECK(talk.violations.size() == 1);
  }
  SECTION("a late segment") {
    passes(Talk::guest(100, 475), Talk::guest(100, 475));
    talk.early(202, 2, 449);
    passes(Talk::guest(0, 400), Talk::guest(202, 349));  // 1600 becomes 1598
    CHECK(talk.violations.empty());
    passes(Talk::guest(0, 400), Talk::guest(202, 348));
    CHECK(talk.violations.size() == 1);
  }
  SECTION("an ACK of what never came by: earlier ones are late from there on") {
    passes(Talk::guest(5000, 500), Talk::guest(5000, 500), false);
    passes(Talk::guest(5000, 500), Talk::guest(5000, 500));
    talk.oracle.passed(Talk::guest(100, 475), Talk::guest(202, 349), true, 2);
    CHECK(talk.violations.empty());
  }
}

TEST_CASE("oracle: no violation once the guest got what vsnoop would have kept from it",
          "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.oracle.withheld(Talk::peer(0, 100));
  SECTION("the peer sent it again before") { talk.data(0, 100); }
  talk.acks(100, 2);
  talk.early(50, 3);
  CHECK(talk.oracle.diverged() == talk.violations.empty());
}

TEST_CASE("oracle: what vsnoop resets itself is broken, however the capture goes on", "[replay]") {
  Talk talk;
  talk.acks(0, 1);
  talk.data(0, 100);
  talk.early(100, 2, 475);
  talk.oracle.emitted(Talk::guest(0, 0, rst), 3'000'000);
  SECTION("the capture ends") {}
  SECTION("the guest acknowledges, too late") { talk.acks(100, 4); }
  talk.oracle.finish(false);
  CHECK(talk.fate(Fate::broken).early_acks == 1);
  CHECK(talk.cause(Cause::gave_up).bytes == 100);
  CHECK(talk.fate(Fate::open).early_acks == 0);
}

TEST_CASE("replay: the window of the guest's own SYN counts, unscaled, the larger if repeated",
          "[replay]") {
  // An ordinary Windows client: 65535 in the SYN, 255 << 8 in its first ACK.
  Tape tape;
  const Sent first{.from_guest = true, .seq = 5000, .flags = syn, .window = 65535, .shift = 8};
  const Sent answer{.seq = 1000, .ack = 5001, .flags = syn | ack_flag, .window = 65535, .shift = 8};
  Sent again = first;
  again.shift = -1;
  SECTION("once") { tape << first << answer; }
  SECTION("again without options, with less") {
    again.window = 8192;
    tape << first << again << answer;
  }
  SECTION("again without options, with more, late") {
    Sent less = first;
    less.window = 8192;
    tape << less << answer << again;
  }
  SECTION("answered without options") {
    Sent plain = answer;
    plain.shift = -1;
    tape << first << again << plain;
  }
  tape << Sent{.from_guest = true, .seq = 5001, .ack = 1001, .window = 255};
  for (uint32_t i = 0; i < 4; i++) {
    tape << Sent{.seq = 1001 + i * 50, .ack = 5001, .payload = 50}
         << Sent{.from_guest = true,
                 .seq = 5001,
                 .ack = 1051 + i * 50,
                 .window = 255,
                 .after_ms = 20};
  }
  const TemporaryDirectory directory;
  tape.write(directory / "client.pcap");
  Options options;
  options.paths = {directory / "client.pcap"};
  const auto report = replay(options);
  CHECK(report["totals"]["violation_count"] == 0);
  CHECK(report["totals"]["promises"]["kept"]["bytes"] == 200);
}

TEST_CASE("replay: what the guest still says to a peer that has reset contradicts nothing",
          "[replay]") {
  Tape tape = opened();
  uint32_t sent = 0;
  for (; sent < 8000; sent += 1000) {
    tape << Sent{.seq = 1001 + sent, .ack = 5001, .payload = 1000, .after_ms = 0.1};
  }
  tape << Sent{.seq = 1001 + sent, .ack = 5001, .flags = rst | ack_flag}
       << Sent{.from_guest = true, .seq = 5001, .ack = 3001}
       << Sent{.from_guest = true, .seq = 5001, .ack = 6001, .after_ms = 60};
  const TemporaryDirectory directory;
  tape.write(directory / "reset.pcap");
  Options options;
  options.paths = {directory / "reset.pcap"};
  options.policy = VSNOOP_POLICY_RING;
  if (GENERATE(false, true)) options.vcpu = parse_vcpu("5ms/0.1");
  const auto report = replay(options);
  CHECK(report["totals"]["violation_count"] == 0);
  CHECK(report["totals"]["promises"]["open"]["early_acks"] > 0);
}

TEST_CASE("replay: the project's own captures", "[replay]") {
  SECTION("a guest that is away: all promises kept, most of them much earlier") {
    const auto report = replay(of("download.pcap"));
    const auto& file = report["files"][0];
    CHECK(file["promises"]["kept"]["bytes"] == file["data_bytes"]);
    CHECK(file["promises"]["open"]["bytes"] == 0);
    CHECK(file["violation_count"] == 0);
    CHECK(file["time_saved_us"]["max"] > 10'000);
    CHECK(file["guest_acks_dropped"] > 0);
    CHECK(file["guests"][0]["address"] == "10.7.0.2");
  }
  SECTION("unfilled checksums of an offloading host count as right") {
    const auto report = replay(of("offload.pcap"));
    CHECK(report["files"][0]["unfilled_checksums_of"].size() == 2);
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 12 * 1024);
  }
  SECTION("headers only: refused in so many words, unless assumed") {
    Options options = of("headers.pcap");
    const auto refused = replay(options);
    CHECK(refused["totals"]["early_acks"] == 0);
    CHECK(refused["totals"]["unverified_checksums"] == refused["totals"]["data_segments"]);
    options.assume_checksums = true;
    const auto assumed = replay(options);
    CHECK(assumed["totals"]["promises"]["kept"]["bytes"] == 48 * 1024);
    CHECK(assumed["totals"]["unverified_checksums"] == 0);
  }
  SECTION("IPv6 in a VLAN, pcapng") {
    const auto report = replay(of("vlan6.pcapng"));
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 8 * 1024);
    CHECK(report["files"][0]["flows"][0]["guest"] == "[fd07::2]:80");
  }
  SECTION("frames lost behind the driver domain: kept, and the peer need not know") {
    const auto report = replay(of("loss.pcap"));
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 16 * 1024);
    CHECK(report["totals"]["violation_count"] == 0);
    CHECK(report["totals"]["other_acks_sent"] > 0);
  }
  SECTION("a guest that resets breaks what it had not acknowledged") {
    const auto report = replay(of("reset.pcap"), status_broken);
    const auto& causes = report["totals"]["not_kept_because"];
    CHECK(causes["guest reset the connection"]["bytes"] ==
          report["totals"]["promises"]["broken"]["bytes"]);
    CHECK(report["totals"]["promises"]["broken"]["early_acks"] > 0);
  }
  SECTION("a port used anew: each connection is judged by its own handshake") {
    const auto report = replay(of("reuse.pcap"));
    CHECK(report["totals"]["violation_count"] == 0);
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 8 * 1024);
    REQUIRE(report["files"][0]["flows"].size() == 2);
    CHECK(report["files"][0]["flows"][1]["promises"]["kept"]["bytes"] == 4096);
  }
  SECTION("a window that closes") {
    Options options = of("window.pcap");
    options.assume_checksums = true;
    const auto report = replay(options);
    CHECK(report["totals"]["promises"]["kept"]["early_acks"] > 0);
    CHECK(report["totals"]["promises"]["broken"]["early_acks"] == 0);
  }
}

TEST_CASE("replay: who is the guest can be said", "[replay]") {
  Options options = of("download.pcap");
  options.guests = {parse_prefix("10.7.0.1/32")};
  const auto reversed = replay(options);
  CHECK(reversed["totals"]["data_bytes"] == 6);  // "thanks"
  options.guests = {parse_prefix("192.0.2.0/24")};
  const auto nobody = replay(options);
  CHECK(nobody["files"][0]["guests"].empty());
  CHECK(nobody["files"][0]["segments_without_guest"] == nobody["files"][0]["tcp_segments"]);
  CHECK_THROWS_AS(parse_prefix("10.0.0.1/33"), std::invalid_argument);
  CHECK_THROWS_AS(parse_prefix("ten"), std::invalid_argument);
  CHECK(parse_prefix("fd00::/8").holds(parse_prefix("fd07::2").address));
  CHECK_FALSE(parse_prefix("10.7.0.0/31").holds(parse_prefix("10.7.0.2").address));
}

TEST_CASE("replay: other link types give the same promises", "[replay]") {
  const TemporaryDirectory directory;
  const auto [link, header] = GENERATE(
      std::pair(DLT_RAW, std::string()), std::pair(DLT_IPV4, std::string()),
      std::pair(DLT_LINUX_SLL, std::string("\0\0\0\1\0\6\2\0\0\0\0\1\0\0\x08\0", 16)),
      std::pair(DLT_LINUX_SLL2, std::string("\x08\0\0\0\0\0\0\1\0\1\0\6\2\0\0\0\0\1\0\0", 20)),
      std::pair(DLT_NULL, std::string("\2\0\0\0", 4)),
      std::pair(DLT_NULL, std::string("\0\0\0\2", 4)),  // of a big-endian machine
      std::pair(DLT_LOOP, std::string("\0\0\0\2", 4)),
      std::pair(DLT_PPP, std::string("\xff\3\0\x21", 4)),
      std::pair(DLT_PPP, std::string("\x21", 1)),
      std::pair(DLT_PPP_SERIAL, std::string("\x0f\0\x08\0", 4)),  // Cisco's HDLC
      std::pair(DLT_PPP_ETHER, std::string("\x11\0\0\1\0\x40\0\x21", 8)),
      std::pair(DLT_C_HDLC, std::string("\x0f\0\x08\0", 4)),
      std::pair(DLT_FRELAY, std::string("\x18\x41\3\xcc", 4)),
      std::pair(DLT_ATM_RFC1483, std::string("\xaa\xaa\3\0\0\0\x08\0", 8)),
      std::pair(DLT_MPLS, std::string("\0\0\x10\x40\0\0\x21\x40", 8)),
      std::pair(DLT_IEEE802, std::string("\x10\x40\0\1\2\3\4\5\0\1\2\3\4\6"
                                         "\xaa\xaa\3\0\0\0\x08\0",
                                         22)),
      std::pair(DLT_NFLOG, std::string("\2\0\0\0\x08\0\1\0\x08\0\0\0\4\0\x09\0", 16)),
      std::pair(DLT_IEEE802_11, std::string("\x88\2\0\0\2\0\0\0\0\1\2\0\0\0\0\2\2\0\0\0\0\3"
                                            "\x10\0\0\0\xaa\xaa\3\0\0\0\x08\0",
                                            34)),
      // TSFT and flags, which say that the header is padded.
      std::pair(DLT_IEEE802_11_RADIO,
                std::string("\0\0\x11\0\3\0\0\0\0\0\0\0\0\0\0\0\x20"
                            "\x88\2\0\0\2\0\0\0\0\1\2\0\0\0\0\2\2\0\0\0\0\3\x10\0\0\0\0\0"
                            "\xaa\xaa\3\0\0\0\x08\0",
                            53)),
      std::pair(DLT_PPI, std::string("\0\0\x08\0\x0c\0\0\0", 8)),
      std::pair(DLT_FDDI, std::string("\x50\2\0\0\0\0\1\2\0\0\0\0\2\xaa\xaa\3\0\0\0\x08\0", 21)));
  CAPTURE(link);
  convert(directory / "other.pcap", link, header);
  Options options;
  options.paths = {directory / "other.pcap"};
  auto report = replay(options)["totals"];
  CHECK(report == replay(of("download.pcap"))["totals"]);
}

namespace {

// A finished conversation of 4 KB from the peer; `wrap` makes a frame of each IP packet.
template <typename Wrap>
Tape conversation(Wrap wrap) {
  Tape tape;
  const auto say = [&](const Sent& sent) { tape.raw(wrap(Tape::packet(sent)), sent.after_ms); };
  say({.seq = 1000, .flags = syn, .window = 64240, .shift = 7});
  say({.from_guest = true,
       .seq = 5000,
       .ack = 1001,
       .flags = syn | ack_flag,
       .window = 64240,
       .shift = 7});
  say({.seq = 1001, .ack = 5001});
  for (uint32_t sent = 0; sent < 4000; sent += 1000) {
    say({.seq = 1001 + sent, .ack = 5001, .payload = 1000, .after_ms = 0.1});
  }
  say({.from_guest = true, .seq = 5001, .ack = 5001, .after_ms = 20});
  return tape;
}

nlohmann::json replay_tape(const Tape& tape, int link = DLT_EN10MB, int expected_status = 0) {
  const TemporaryDirectory directory;
  tape.write(directory / "tape.pcap", link);
  Options options;
  options.paths = {directory / "tape.pcap"};
  return replay(options, expected_status);
}

const std::string macs("\2\0\0\0\0\2\2\0\0\0\0\1", 12);

// An IPv4 header without checksum: the outer one of a tunnel, which nobody verifies.
std::string outer(uint8_t protocol, const std::string& inside) {
  const size_t length = 20 + inside.size();
  std::string ip("\x45\0\0\0\0\1\0\0\x40\0\0\0\x0a\0\0\1\x0a\0\0\2", 20);
  ip[2] = static_cast<char>(length >> 8);
  ip[3] = static_cast<char>(length);
  ip[9] = static_cast<char>(protocol);
  return macs + std::string("\x08\0", 2) + ip + inside;
}

std::string udp(uint16_t port, const std::string& inside) {
  const size_t length = 8 + inside.size();
  const std::string header{'\x40',
                           '\1',
                           static_cast<char>(port >> 8),
                           static_cast<char>(port),
                           static_cast<char>(length >> 8),
                           static_cast<char>(length),
                           0,
                           0};
  return outer(17, header + inside);
}

// Standard input or output is another file as long as this lives.
class Redirected {
 public:
  Redirected(int descriptor, const std::string& path, int flags)
      : descriptor_(descriptor), before_(dup(descriptor)) {
    std::cout.flush();
    std::fflush(nullptr);
    const int file = open(path.c_str(), flags | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    REQUIRE(dup2(file, descriptor) == descriptor);
    close(file);
  }
  ~Redirected() {
    dup2(before_, descriptor_);
    close(before_);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;

 private:
  int descriptor_, before_;
};

void compress(const std::string& from, const std::string& to, int (*filter)(archive*)) {
  archive* out = archive_write_new();
  REQUIRE(archive_write_set_format_raw(out) == ARCHIVE_OK);
  REQUIRE(filter(out) == ARCHIVE_OK);
  REQUIRE(archive_write_open_filename(out, to.c_str()) == ARCHIVE_OK);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  REQUIRE(archive_write_header(out, entry) == ARCHIVE_OK);
  const std::string bytes = read_bytes(from);
  REQUIRE(archive_write_data(out, bytes.data(), bytes.size()) ==
          static_cast<la_ssize_t>(bytes.size()));
  archive_entry_free(entry);
  archive_write_close(out);
  archive_write_free(out);
}

}  // namespace

TEST_CASE("replay: what carries IP inside of something else is read through", "[replay]") {
  using namespace std::string_literals;
  const std::string ethernet = macs + "\x08\0"s;
  const auto [name, wrap] = GENERATE_COPY(table<std::string,
                                                std::function<std::string(const std::string&)>>({
      {"PPPoE", [](const std::string& ip) { return macs + "\x88\x64\x11\0\0\1\0\0\0\x21"s + ip; }},
      {"PPPoE",  // in QinQ
       [](const std::string& ip) {
         return macs + "\x88\xa8\0\5\x81\0\0\6\x88\x64\x11\0\0\1\0\0\0\x21"s + ip;
       }},
      {"MPLS",
       [](const std::string& ip) { return macs + "\x88\x47\0\0\x10\x40\0\0\x21\x40"s + ip; }},
      {"MPLS",  // a pseudowire
       [=](const std::string& ip) {
         return macs + "\x88\x47\0\0\x21\x40\0\0\0\0"s + ethernet + ip;
       }},
      {"VXLAN",
       [=](const std::string& ip) { return udp(4789, "\x08\0\0\0\0\0\7\0"s + ethernet + ip); }},
      {"GENEVE",  // with an option
       [=](const std::string& ip) {
         return udp(6081, "\1\0\x65\x58\0\0\7\0\0\1\0\0"s + ethernet + ip);
       }},
      {"GTP-U", [](const std::string& ip) { return udp(2152, "\x30\xff\0\0\0\0\0\1"s + ip); }},
      {"GRE", [](const std::string& ip) { return outer(47, "\x20\0\x08\0\0\0\0\7"s + ip); }},
      {"ERSPAN",
       [=](auto&
               ip) { return outer(47, "\x10\0\x88\xbe\0\0\0\1\0\0\0\0\0\0\0\0"s + ethernet + ip); }},
      {"IP in IP", [](const std::string& ip) { return outer(4, ip); }},
  }));
  CAPTURE(name);
  const auto report = replay_tape(conversation(wrap));
  CHECK(report["totals"]["promises"]["kept"]["bytes"] == 4000);
  CHECK(report["files"][0]["read_through"][name] == 8);
}

TEST_CASE("replay: what cannot be read is counted with the reason", "[replay]") {
  using namespace std::string_literals;
  Tape tape = conversation(Tape::ethernet);
  std::string fragment = Tape::packet({.seq = 1001, .ack = 5001, .payload = 100});
  fragment[6] = 0x20;  // more follow
  tape.raw(outer(50, "secret"s)).raw(Tape::ethernet(fragment)).raw(macs + "\x88\xe5MACsec"s);
  const auto report = replay_tape(tape);
  CHECK(report["files"][0]["not_read"].size() == 3);
  CHECK(report["totals"]["promises"]["kept"]["bytes"] == 4000);

  const auto wlan = replay_tape(
      conversation([](const std::string& ip) { return "\x08\x41"s + std::string(22, '\1') + ip; }),
      DLT_IEEE802_11, status_unreadable);
  CHECK(wlan["files"][0]["not_read"]["encrypted 802.11 frame"] == 8);
  CHECK(wlan["files"][0]["error"].get<std::string>().find("encrypted 802.11 frame") !=
        std::string::npos);
}

TEST_CASE("replay: the same connection at several places counts once", "[replay]") {
  const Tape tape = conversation(Tape::ethernet);
  const auto tagged = [](int tag) {
    return [tag](const std::string& ip) {
      const std::string vlan{'\x81', 0, 0, static_cast<char>(tag)};
      return macs + vlan + std::string("\x08\0", 2) + ip;
    };
  };
  SECTION("on two VLANs of a trunk, the second a little later") {
    Tape both = tape;
    both.mix(conversation(tagged(10)), 5).mix(conversation(tagged(42)), 50);
    const auto report = replay_tape(both);
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 4000);
    CHECK(report["totals"]["violation_count"] == 0);
    CHECK(report["files"][0]["segments_of_copies"] == 16);
  }
  SECTION("before and behind a router") {
    Tape both = tape;
    both.mix(conversation([](const std::string& ip) {
               return std::string("\2\0\0\0\0\4\2\0\0\0\0\3\x08\0", 14) + ip;
             }),
             0.05);
    const auto report = replay_tape(both);
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 4000);
    CHECK(report["totals"]["violation_count"] == 0);
  }
  SECTION("at the same place, all of it again while it lasts") {
    Tape talk = opened();
    for (uint32_t i = 0; i < 10; i++) {
      talk << Sent{.seq = 1001 + i * 100, .ack = 5001, .payload = 100}
           << Sent{.from_guest = true, .seq = 5001, .ack = 1101 + i * 100, .after_ms = 4};
    }
    Tape twice = talk;
    const auto report = replay_tape(twice.mix(talk, GENERATE(0.3, 3., 12., 33.)));
    CHECK(report["totals"]["violation_count"] == 0);
    CHECK(report["totals"]["connections"] == 1);
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 1000);
  }
  SECTION("but the two directions may differ, and the way may change") {
    uint32_t n = 0;
    const auto report = replay_tape(conversation([&](const std::string& ip) {
      n++;
      return ip[15] == 1 ? tagged(n < 6 ? 10 : 11)(ip) : Tape::ethernet(ip);
    }));
    CHECK(report["totals"]["promises"]["kept"]["bytes"] == 4000);
    CHECK(report["files"][0]["segments_of_copies"] == 0);
  }
}

TEST_CASE("replay: the same addresses on two VLANs are two networks", "[replay]") {
  const auto on = [](int vlan, uint32_t numbers) {
    Tape tape;
    const auto say = [&](Sent sent) {
      sent.seq += numbers;
      sent.ack += sent.flags & ack_flag ? numbers : 0;
      tape.raw(macs + std::string{'\x81', 0, 0, static_cast<char>(vlan), 8, 0} + Tape::packet(sent),
               sent.after_ms);
    };
    say({.seq = 1000, .flags = syn, .window = 64240, .shift = 7});
    say({.from_guest = true,
         .seq = 5000,
         .ack = 1001,
         .flags = syn | ack_flag,
         .window = 64240,
         .shift = 7});
    say({.seq = 1001, .ack = 5001});
    for (uint32_t i = 0; i < 3; i++) {
      say({.seq = 1001 + i * 100, .ack = 5001, .payload = 100});
      say({.from_guest = true, .seq = 5001, .ack = 1101 + i * 100, .after_ms = 20});
    }
    return tape;
  };
  Tape both = on(10, 0);
  both.mix(on(20, 3'000'000), 3.5);
  const TemporaryDirectory directory;
  both.write(directory / "two.pcap");
  Options options;
  options.paths = {directory / "two.pcap"};
  options.pcapng = directory / "out.pcapng";
  const auto report = replay(options);
  CHECK(report["totals"]["promises"]["kept"]["bytes"] == 600);
  REQUIRE(report["files"][0]["guests"].size() == 2);
  CHECK(report["files"][0]["guests"][1]["connections"] == 1);
  CaptureReader reader(options.pcapng);
  CapturedFrame frame;
  while (reader.next(frame)) {
    const Segment segment = parse_segment(frame.bytes, frame.wire);
    CHECK(frame.bytes[15] == (segment.ack > 1'000'000 || segment.seq > 1'000'000 ? 20 : 10));
  }
}

TEST_CASE("replay: pcapng with several interfaces, links, resolutions and sections", "[replay]") {
  std::string file;
  bool big = false;
  const auto put = [&](std::string& to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
      const int shift = 8 * (big ? bytes - 1 - i : i);
      to += static_cast<char>(value >> shift);
    }
  };
  const auto block = [&](uint32_t type, std::string body) {
    body.resize((body.size() + 3) / 4 * 4, '\0');
    put(file, type, 4), put(file, body.size() + 12, 4);
    file += body;
    put(file, body.size() + 12, 4);
  };
  const auto section = [&] {
    std::string body;
    put(body, 0x1a2b3c4d, 4), put(body, 1, 2), put(body, 0, 2), put(body, UINT64_MAX, 8);
    block(0x0a0d0d0a, body);
  };
  const auto interface = [&](int link, uint32_t snapshot, int resolution) {
    std::string body;
    put(body, static_cast<uint64_t>(link), 2), put(body, 0, 2), put(body, snapshot, 4);
    put(body, 9, 2), put(body, 1, 2);
    body += static_cast<char>(resolution);
    body += std::string(3, '\0');
    put(body, 0, 4);
    block(1, body);
  };
  const auto packet = [&](uint32_t number, uint64_t ticks, const std::string& bytes) {
    std::string body;
    put(body, number, 4), put(body, ticks >> 32, 4), put(body, ticks & 0xffffffff, 4);
    put(body, bytes.size(), 4), put(body, bytes.size(), 4);
    block(6, body + bytes);
  };
  section();
  interface(DLT_EN10MB, 65535, 6);
  interface(101, 262144, 9);  // LINKTYPE_RAW
  const Sent opening{.seq = 1000, .flags = syn, .window = 64240, .shift = 7};
  const Sent answer{.from_guest = true,
                    .seq = 5000,
                    .ack = 1001,
                    .flags = syn | ack_flag,
                    .window = 64240,
                    .shift = 7};
  packet(0, 5'000'000, Tape::ethernet(Tape::packet(opening)));
  packet(1, 5'001'000'000, Tape::packet(answer));
  packet(0, 5'002'000, Tape::ethernet(Tape::packet({.seq = 1001, .ack = 5001})));
  block(0x80001234, "unknown");
  big = true;
  section();
  interface(DLT_NULL, 0, 0x80 | 10);  // 1/1024 s
  packet(0, 5 * 1024 + 3,
         std::string("\0\0\0\2", 4) + Tape::packet({.seq = 1001, .ack = 5001, .payload = 100}));
  packet(0, 5 * 1024 + 30,
         std::string("\0\0\0\2", 4) + Tape::packet({.from_guest = true, .seq = 5001, .ack = 1101}));
  const TemporaryDirectory directory;
  write_bytes(directory / "many.pcapng", file);
  Options options;
  options.paths = {directory / "many.pcapng"};
  const auto report = replay(options);
  CHECK(report["totals"]["promises"]["kept"]["bytes"] == 100);
  CHECK(report["files"][0]["frames"] == 5);
  CHECK(report["files"][0]["time_saved_us"]["max"] == Approx(27e6 / 1024).epsilon(0.001));
  CHECK(report["files"][0]["link"] == "Ethernet, Raw IP, BSD loopback");
  write_bytes(directory / "cut.pcapng", file.substr(0, file.size() - 50));
  CHECK(complaint(directory / "cut.pcapng").find("frame 5 cannot be read: truncated block") !=
        std::string::npos);
}

TEST_CASE("replay: compressed captures, and what a folder has", "[replay]") {
  const TemporaryDirectory directory;
  const std::string plain = std::string(captures) + "/download.pcap";
  const auto expected = replay(of("download.pcap"))["totals"];
  Options options;
  SECTION("compressed") {
    const auto [name, filter] = GENERATE(
        table<const char*, int (*)(archive*)>({{"a.pcap.gz", archive_write_add_filter_gzip},
                                               {"a.pcap.zst", archive_write_add_filter_zstd},
                                               {"a.pcap.lz4", archive_write_add_filter_lz4},
                                               {"a.pcap.xz", archive_write_add_filter_xz},
                                               {"a.pcap.bz2", archive_write_add_filter_bzip2}}));
    CAPTURE(name);
    compress(plain, directory / name, filter);
    options.paths = {directory / name};
    CHECK(replay(options)["totals"] == expected);
    const std::string bytes = read_bytes(directory / name);
    write_bytes(directory / name, bytes.substr(0, bytes.size() / 2));
    CHECK_FALSE(complaint(directory / name).empty());
  }
  SECTION("names in folders") {
    for (const char* name : {"a.pcap0", "b.PCAP", "c.pcap.1", "d.CAP", "e.pcapng12"}) {
      fs::copy(plain, directory / name);
    }
    compress(plain, directory / "f.pcap.gz", archive_write_add_filter_gzip);
    write_bytes(directory / "pcap", "no capture");
    write_bytes(directory / "notes.pcap.txt", "no capture");
    options.paths = {directory / ""};
    CHECK(replay(options)["files"].size() == 6);
  }
}

TEST_CASE("replay: a capture that can be read only once", "[replay]") {
  const TemporaryDirectory directory;
  const std::string plain = std::string(captures) + "/download.pcap";
  const auto expected = replay(of("download.pcap"))["totals"];
  Options options;
  SECTION("standard input") {
    const Redirected input(STDIN_FILENO, plain, O_RDONLY);
    options.paths = {"-"};
    CHECK(replay(options)["totals"] == expected);
  }
  SECTION("a FIFO, a pipe") {
    REQUIRE(mkfifo((directory / "fifo").c_str(), 0600) == 0);
    REQUIRE(std::system(("cat '" + plain + "' > '" + (directory / "fifo") + "' &").c_str()) == 0);
    options.paths = {directory / "fifo"};
    CHECK(replay(options)["totals"] == expected);
  }
}

TEST_CASE("replay: a name that is not UTF-8 is written as something that is", "[replay]") {
  const TemporaryDirectory directory;
  Options options;
  options.paths = {directory / "caf\xe9\n\xc3\xa9.pcap"};
  fs::copy(std::string(captures) + "/download.pcap", options.paths[0]);
  const std::string name = replay(options)["files"][0]["file"];
  CHECK(name.ends_with("caf\\xe9\\x0a\xc3\xa9.pcap"));
  write_bytes(options.paths[0], "no capture");
  CHECK(complaint(options.paths[0]).find("caf\\xe9") != std::string::npos);
}

TEST_CASE("replay: no output destroys an input, by whatever name, or another output", "[replay]") {
  const TemporaryDirectory directory;
  const std::string input = directory / "x.pcap";
  fs::copy(std::string(captures) + "/download.pcap", input);
  const std::string bytes = read_bytes(input);
  const std::string name = GENERATE("x.pcap", "link", "hard", "./x.pcap", "sub/../x.pcap");
  fs::create_symlink(input, directory / "link");
  fs::create_hard_link(input, directory / "hard");
  fs::create_directory(directory / "sub");
  for (std::string Options::*output :
       {&Options::pcapng, &Options::json, &Options::write_log, &Options::plot}) {
    CAPTURE(name);
    Options options;
    options.paths = {input};
    options.*output = directory / name;
    CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("is a capture that is read"));
    CHECK(read_bytes(input) == bytes);
  }
  Options options;
  options.paths = {input};
  options.json = directory / "out";
  options.pcapng = directory / "sub/../out";
  CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("two outputs"));
}

TEST_CASE("replay: an output has its name only when it is whole", "[replay]") {
  const TemporaryDirectory directory;
  Options options = of("download.pcap");
  options.json = directory / "out.json";
  write_bytes(options.json, "as before");
  SECTION("a run that fails leaves what was there, and nothing else") {
    options.plot = directory / "out.svg";
    options.plot_flow = 99;
    const Captured output;
    CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("--flow 99"));
    CHECK(read_bytes(options.json) == "as before");
    CHECK(std::distance(fs::directory_iterator(directory / ""), fs::directory_iterator()) == 1);
  }
  SECTION("one that ends well keeps links and modes") {
    fs::permissions(options.json, fs::perms::owner_read | fs::perms::owner_write);
    fs::create_symlink("out.json", directory / "link");
    options.json = directory / "link";
    const Captured output;
    CHECK(run_replay(options) == 0);
    CHECK(fs::is_symlink(directory / "link"));
    CHECK(read_bytes(directory / "out.json").front() == '{');
    CHECK(fs::status(directory / "out.json").permissions() ==
          (fs::perms::owner_read | fs::perms::owner_write));
  }
  SECTION("where it cannot be written, it says so before the work") {
    options.json = directory / "none/out.json";
    CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("cannot be written"));
  }
}

TEST_CASE("replay: -w - writes the capture to standard output, the text elsewhere", "[replay]") {
  const TemporaryDirectory directory;
  Options options = of("download.pcap");
  options.pcapng = directory / "named.pcapng";
  replay(options);
  {
    const Redirected out(STDOUT_FILENO, directory / "piped.pcapng", O_WRONLY | O_CREAT);
    const Redirected text(STDERR_FILENO, directory / "text", O_WRONLY | O_CREAT);
    options.pcapng = "-";
    CHECK(run_replay(options) == 0);
  }
  CHECK(read_bytes(directory / "piped.pcapng") == read_bytes(directory / "named.pcapng"));
  CHECK(read_bytes(directory / "text").find("early ACKs") != std::string::npos);
}

TEST_CASE("replay: a plot of no time at all", "[replay]") {
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) return;
  Tape tape;
  tape << Sent{.seq = 1001, .ack = 5001, .payload = 10};
  const TemporaryDirectory directory;
  tape.write(directory / "one.pcap");
  Options options;
  options.paths = {directory / "one.pcap"};
  options.plot = directory / "one.svg";
  replay(options);
  CHECK(read_bytes(options.plot).find("</svg>") != std::string::npos);
}

TEST_CASE("replay: what is over is forgotten, what is open is not", "[replay]") {
  ConnectionTable table;
  const auto hear = [&table](uint32_t n, uint8_t flags, bool back, int64_t ms) {
    Segment s;
    s.kind = Segment::Kind::tcp;
    s.checksum = Checksum::good;
    std::memcpy(s.source.bytes.data(), &n, 4);
    s.source_port = 1;
    if (back) std::swap(s.source, s.destination), std::swap(s.source_port, s.destination_port);
    s.flags = flags;
    const int64_t now = ms * 1'000'000;
    uint32_t gone = 0;
    table.forget(now, [&gone](uint32_t) { gone++; });
    return std::pair(table.number(s, 0, [] { return false; }), gone);
  };
  SECTION("a flood of SYNs") {
    uint32_t slots = 0;
    for (uint32_t n = 1; n <= 200'000; n++) {
      slots = std::max(slots, hear(n, syn, false, n / 100).first.slot + 1);
    }
    CHECK(slots < 70'000);
    CHECK(table.open() < 70'000);
    CHECK(hear(300'000, ack_flag, false, 2001).first.late);
    CHECK_FALSE(hear(300'001, syn, false, 2001).first.late);
  }
  SECTION("what ended, after two minutes; what did not, stays") {
    hear(1, syn, false, 0), hear(1, syn | ack_flag, true, 1), hear(1, ack_flag, false, 2);
    hear(2, syn, false, 0), hear(2, syn | ack_flag, true, 1);
    hear(2, fin | ack_flag, false, 2), hear(2, fin | ack_flag, true, 3);
    uint32_t gone = 0;
    int64_t at = 0;
    const auto wait = [&](int64_t until_s) {
      for (gone = 0; at < until_s; at += 20) gone += hear(99, ack_flag, false, at * 1000).second;
    };
    wait(120);
    CHECK(gone == 0);
    wait(160);
    CHECK(gone == 1);  // the second
    hear(3, syn, false, at * 1000);
    wait(600);
    CHECK(gone == 1);                                                  // the third got no answer
    CHECK(hear(99, ack_flag, false, at * 1'000'000'000).second == 0);  // a broken time stamp
    CHECK(hear(1, ack_flag, false, at * 1000).first.number == 0);
    CHECK(table.open() == 2);
  }
}

TEST_CASE("replay: many times are known to one per cent", "[replay]") {
  Times times, half;
  for (int64_t i = 0; i < 200'000; i++) (i % 2 ? times : half).add(i * 1000);
  times.add(half);
  CHECK(times.count() == 200'000);
  CHECK(times.max() == 199'999'000);
  for (const double share : {0.01, 0.1, 0.5, 0.9, 0.99}) {
    CHECK(static_cast<double>(times.percentile(share)) == Approx(share * 2e8).epsilon(0.01));
  }
  CHECK(static_cast<double>(times.below(100'000'000)) == Approx(100'000).epsilon(0.01));
}

TEST_CASE("replay: policies and the guest's processor", "[replay]") {
  Options options = of("download.pcap");
  const auto plain = replay(options)["totals"];
  SECTION("off promises nothing") {
    options.policy = VSNOOP_POLICY_OFF;
    CHECK(replay(options)["totals"]["early_acks"] == 0);
  }
  SECTION("a ring of two slots holds less than all") {
    options.policy = VSNOOP_POLICY_RING;
    options.vcpu = parse_vcpu("1ms/0.01");
    const auto all = replay(options)["totals"];
    options.ring = 2;
    const auto two = replay(options)["totals"];
    CHECK(two["early_acks"] < all["early_acks"]);
  }
  SECTION("a guest that runs less often gains more") {
    options.vcpu = parse_vcpu("5ms/0.05");
    const auto rare = replay(options)["totals"];
    CHECK(rare["promises"]["kept"]["bytes"] == plain["promises"]["kept"]["bytes"]);
    CHECK(rare["time_saved_us"]["p90"] > plain["time_saved_us"]["p90"]);
  }
  SECTION("a guest that always runs is the capture") {
    options.vcpu = parse_vcpu("30ms/1");
    CHECK(replay(options)["totals"] == plain);
  }
  for (const char* text : {"", "30ms", "30/0.3", "30ms/0", "30ms/1.5", "0ms/0.5", "30ms/0.3x"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_vcpu(text), std::invalid_argument);
  }
}

TEST_CASE("replay: frames that a capture lacks, or has in another order, make no violation",
          "[replay]") {
  const std::string name = GENERATE("download.pcap", "loss.pcap", "reset.pcap", "reuse.pcap");
  const TemporaryDirectory directory;
  const std::string bytes = read_bytes(std::string(captures) + "/" + name);
  std::vector<std::string> frames;
  for (size_t at = 24; at < bytes.size(); at += frames.back().size()) {
    uint32_t captured;
    std::memcpy(&captured, &bytes[at + 8], 4);
    frames.push_back(bytes.substr(at, 16 + captured));
  }
  Options options;
  options.paths = {directory / "part.pcap"};
  const auto violates = [&](const std::vector<std::string>& part) {
    std::string text = bytes.substr(0, 24);
    for (const std::string& frame : part) text += frame;
    write_bytes(options.paths[0], text);
    const Captured output;
    return run_replay(options) == status_violation;
  };
  for (size_t i = 0; i + 1 < frames.size(); i++) {
    CAPTURE(name, i);
    const auto here = frames.begin() + static_cast<long>(i);
    CHECK_FALSE(violates({here, frames.end()}));  // it was begun in the middle
    auto part = frames;
    part.erase(part.begin() + static_cast<long>(i));
    CHECK_FALSE(violates(part));
    part = frames;
    std::swap(part[i], part[i + 1]);
    CHECK_FALSE(violates(part));
  }
  std::mt19937 random(1);
  for (int round = 0; round < 20; round++) {
    CAPTURE(name, round);
    std::vector<std::string> lossy, twice, mixed = frames;
    for (const std::string& frame : frames) {
      if (random() % 7) lossy.push_back(frame);
      twice.insert(twice.end(), 1 + random() % 2, frame);
    }
    CHECK_FALSE(violates(lossy));
    CHECK_FALSE(violates(twice));
    for (size_t i = 0; i < frames.size() / 5; i++) {
      const auto from = mixed.begin() + static_cast<long>(random() % (mixed.size() - 6));
      std::rotate(from, from + 1, from + 1 + static_cast<long>(random() % 6));
    }
    CHECK_FALSE(violates(mixed));
  }
}

TEST_CASE("replay: copies that come late make no violation", "[replay]") {
  const std::string name = GENERATE("download.pcap", "loss.pcap", "window.pcap", "reuse.pcap");
  const TemporaryDirectory directory;
  Options options;
  options.paths = {directory / "late.pcap"};
  SECTION("hold") {}
  SECTION("ring") { options.policy = VSNOOP_POLICY_RING; }
  SECTION("hold, the guest shares its processor") { options.vcpu = parse_vcpu("30ms/0.33"); }
  SECTION("ring, the guest shares its processor") {
    options.policy = VSNOOP_POLICY_RING;
    options.vcpu = parse_vcpu("30ms/0.33");
  }
  std::mt19937 random(1);
  for (int round = 0; round < 8; round++) {
    CAPTURE(name, round);
    CaptureReader reader(std::string(captures) + "/" + name);
    CapturedFrame frame;
    Tape tape;
    int64_t first_ns = 0;
    while (reader.next(frame)) {
      if (!first_ns) first_ns = frame.time_ns;
      const double ms = static_cast<double>(frame.time_ns - first_ns) / 1e6;
      const std::string bytes(frame.bytes.begin(), frame.bytes.end());
      tape.at(ms, bytes);
      if (random() % 2) tape.at(ms + 0.1 + random() % (round < 4 ? 5 : 60), bytes);
    }
    tape.write(options.paths[0]);
    const Captured output;
    CHECK(run_replay(options) != status_violation);
  }
}

TEST_CASE("replay: headers that the capture cuts cannot be held against the engine", "[replay]") {
  Options options = of("download.pcap");
  options.assume_checksums = true;
  const std::string bytes = read_bytes(options.paths[0]);
  // All of the guest's segments from the third on end where their TCP options begin.
  std::string text = bytes.substr(0, 24);
  int guests = 0;
  for (size_t at = 24; at < bytes.size();) {
    uint32_t captured;
    std::memcpy(&captured, &bytes[at + 8], 4);
    std::string frame = bytes.substr(at, 16 + captured);
    at += frame.size();
    if (captured < 100 && frame[16 + 29] == 2 && ++guests > 3) {  // 10.7.0.2 is the source
      frame.resize(16 + 54);
      captured = 54;
      std::memcpy(&frame[8], &captured, 4);
    }
    text += frame;
  }
  REQUIRE(guests > 10);
  const TemporaryDirectory directory;
  options.paths = {directory / "cut.pcap"};
  write_bytes(options.paths[0], text);
  const auto report = replay(options);
  CHECK(report["totals"]["violation_count"] == 0);
  CHECK(report["totals"]["early_acks"] > 0);
}

TEST_CASE("replay: damaged files are named with their offset, the rest is reported", "[replay]") {
  const TemporaryDirectory directory;
  const std::string good = read_bytes(std::string(captures) + "/download.pcap");
  const std::string path = directory / "bad.pcap";
  SECTION("cut within a frame: what came before counts") {
    write_bytes(path, good.substr(0, good.size() - 10));
    CHECK(complaint(path).find(path + ": byte ") == 0);
    CHECK(complaint(path).find("cannot be read") != std::string::npos);
    Options options;
    options.paths = {path, std::string(captures) + "/vlan6.pcapng"};
    const auto report = replay(options, status_unreadable);
    REQUIRE(report["files"].size() == 2);
    CHECK(report["files"][0]["error"].get<std::string>() == complaint(path));
    CHECK(report["files"][0]["promises"]["kept"]["bytes"] > 10'000);
    CHECK(report["files"][1]["promises"]["kept"]["bytes"] == 8 * 1024);
  }
  SECTION("offset is that of the damaged record") {
    write_bytes(path, good.substr(0, 24 + 16 + 74 + 16 + 5));
    CHECK(complaint(path).find(path + ": byte 114: frame 2 ") == 0);
  }
  SECTION("no capture") {
    write_bytes(path, "GIF89a, or so it says, and some more bytes to be read");
    CHECK(complaint(path).find(path + ": byte ") == 0);
    CHECK(complaint(path).find("not a capture") != std::string::npos);
  }
  SECTION("empty") {
    write_bytes(path, "");
    CHECK(complaint(path).find(path + ": byte 0: not a capture") == 0);
  }
  SECTION("unknown link type") {
    std::string radio = good;
    radio[20] = static_cast<char>(DLT_USB_LINUX);
    write_bytes(path, radio);
    CHECK(complaint(path).find(path + ": byte 24: link type 'USB with Linux header'") == 0);
  }
  SECTION("not there") {
    CHECK(complaint(directory / "none").find("cannot be opened: No such file") !=
          std::string::npos);
  }
  SECTION("bytes changed at random never do more harm than that") {
    uint32_t random = 1;
    for (int round = 0; round < 200; round++) {
      std::string bytes = good;
      for (int i = 0; i < 20; i++) {
        random = random * 1664525 + 1013904223;
        bytes[24 + (random >> 8) % (bytes.size() - 24)] = static_cast<char>(random >> 3);
      }
      write_bytes(path, bytes);
      Options options;
      options.paths = {path};
      options.json = directory / "report.json";
      options.early_sack = round % 2;
      INFO("round " << round);
      const Captured output;
      CHECK(run_replay(options) != status_violation);
    }
  }
}

TEST_CASE("replay: directories are searched, their other files let be", "[replay]") {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "a/b");
  fs::copy(std::string(captures) + "/download.pcap", directory / "a/b/one.cap");
  write_bytes(directory / "a/notes.txt", "no capture");
  Options options;
  options.paths = {directory / "a"};
  CHECK(replay(options)["files"].size() == 1);
  write_bytes(directory / "a/broken.pcap", "no capture");
  CHECK(replay(options, status_unreadable)["files"].size() == 1);
  options.pcapng = directory / "out.pcapng";
  CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("exactly one capture; there are 2"));
}

TEST_CASE("replay: -w inserts the early ACKs and leaves the capture as it was", "[replay]") {
  const TemporaryDirectory directory;
  Options options = of("download.pcap");
  options.pcapng = directory / "out.pcapng";
  const auto report = replay(options)["totals"];
  CaptureReader before(options.paths[0]), after(options.pcapng);
  CapturedFrame original, written;
  size_t inserted = 0;
  int64_t last = 0;
  bool more = before.next(original);
  while (after.next(written)) {
    CHECK(written.time_ns >= last);
    last = written.time_ns;
    if (more && written.bytes == original.bytes && written.time_ns == original.time_ns) {
      CHECK(written.wire == original.wire);
      more = before.next(original);
      continue;
    }
    inserted++;
    const Segment segment = parse_segment(written.bytes, written.wire);
    CHECK(segment.checksum == Checksum::good);
    CHECK(to_text(segment.source) == "10.7.0.2");
  }
  CHECK_FALSE(more);
  CHECK(inserted == report["early_acks"].get<size_t>() + report["other_acks_sent"].get<size_t>());
  if (std::system("command -v tshark >/dev/null 2>&1") != 0) {
    WARN("tshark is not there: its view of the file is not checked");
    return;
  }
  const std::string text = directory / "tshark.txt";
  const std::string command =
      "tshark -r '" + options.pcapng + "' -o tcp.check_checksum:TRUE -o ip.check_checksum:TRUE " +
      "-Y 'frame.comment contains \"early ACK\" && tcp.checksum.status == 1 && " +
      "ip.checksum.status == 1' >'" + text + "' 2>/dev/null";
  REQUIRE(std::system(command.c_str()) == 0);
  const std::string seen = read_bytes(text);
  CHECK(static_cast<uint64_t>(std::count(seen.begin(), seen.end(), '\n')) ==
        report["early_acks"].get<uint64_t>());
}

TEST_CASE("replay: the decision log of a replay is reproduced", "[replay]") {
  const TemporaryDirectory directory;
  Options options = of("loss.pcap");
  options.vcpu = parse_vcpu("5ms/0.3");
  options.write_log = directory / "decisions.log";
  replay(options);
  CHECK(fs::file_size(options.write_log) > 1000);
  CHECK(replay_log(options.write_log) == status_fine);

  // Switched off and on again while recorded.
  std::ifstream once(options.write_log, std::ios::binary);
  std::ofstream twice(directory / "twice.log", std::ios::binary);
  twice << once.rdbuf();
  once.seekg(0);
  twice << once.rdbuf();
  twice.close();
  CHECK(replay_log(directory / "twice.log") == status_fine);
}

TEST_CASE("replay: --plot draws a picture or says what it needs", "[replay]") {
  const TemporaryDirectory directory;
  Options options = of("download.pcap");
  options.plot = directory / "out.svg";
  if (std::system("command -v gnuplot >/dev/null 2>&1") != 0) {
    CHECK_THROWS_WITH(run_replay(options), vsnoop_test::Contains("gnuplot-nox"));
    return;
  }
  replay(options);
  const std::string svg = read_bytes(options.plot);
  CHECK(svg.find("<svg") != std::string::npos);
  CHECK(svg.find("10.7.0.1:") != std::string::npos);
  CHECK(svg.find("early ACK") != std::string::npos);
  options.plot_flow = 2;
  CHECK_THROWS_WITH(replay(options), vsnoop_test::Contains("--flow 2"));
}

TEST_CASE("replay: a collection of captures breaks no promise and no rule", "[replay]") {
  const char* named = std::getenv("VSNOOP_PCAPS");
  const std::string directory = named ? named : "../shared/pcaps";
  if (!fs::is_directory(directory)) {
    std::cout << "SKIPPED: no captures in " << directory << " (VSNOOP_PCAPS names another)\n";
    return;
  }
  Options options;
  options.paths = {directory};
  options.assume_checksums = GENERATE(false, true);
  SECTION("other policies and a guest that shares its processor make no violation either") {
    options.policy = GENERATE(VSNOOP_POLICY_RING, VSNOOP_POLICY_HOLD);
    options.vcpu = parse_vcpu("30ms/0.33");
    const Captured output;
    CHECK(run_replay(options) != status_violation);
    options.vcpu.reset();
    options.policy = VSNOOP_POLICY_RING;
    CHECK(run_replay(options) != status_violation);
    return;
  }
  const auto report = replay(options);
  CHECK(report["files"].size() > 1);
  CHECK(report["totals"]["violation_count"] == 0);
  CHECK(report["totals"]["promises"]["broken"]["early_acks"] == 0);
  CHECK(report["totals"]["promises"]["kept"]["early_acks"] > 20'000);
}
