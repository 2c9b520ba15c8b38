// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The decision log: what it must not tell, and what its reader does not believe.
#include "snoop-core/log.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/harness.h"
#include "tools/replay/replay.h"

using namespace vsnoop_test;
using vsnoop::replay::replay_log;

namespace {

constexpr uint64_t kSeed[2] = {0x5eed5eed12345678, 0x0bad5eedfedcba98};

void append(void* log, const uint8_t* bytes, uint32_t length) {
  static_cast<std::string*>(log)->append(reinterpret_cast<const char*>(bytes), length);
}

// An engine with `seed` that writes into `log`.
Setup recorded(std::string& log, const uint64_t (&seed)[2] = kSeed) {
  Setup setup;
  std::copy(seed, seed + 2, setup.engine.seed);
  setup.engine.log = append;
  setup.engine.log_context = &log;
  return setup;
}

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// A record of the log: its type and its body.
std::vector<std::pair<uint8_t, std::string>> records(const std::string& log) {
  std::vector<std::pair<uint8_t, std::string>> all;
  for (size_t at = 0; at < log.size();) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(log.at(at + i)); };
    const size_t length = byte(2) | byte(3) << 8;
    all.emplace_back(byte(0), log.substr(at + 4, length));
    at += 4 + length;
  }
  return all;
}

int replayed(const std::string& log) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("vsnoop-log-" + std::to_string(getpid()) + ".vslog");
  std::ofstream(path, std::ios::binary) << log;
  const int status = replay_log(path);
  std::filesystem::remove(path);
  return status;
}

std::string record(uint8_t type, const std::string& body) {
  return bytes_of(type) + '\0' + bytes_of(static_cast<uint16_t>(body.size())) + body;
}

std::string configuration(uint32_t flows, uint32_t custodies, uint32_t guests,
                          uint32_t version = vsnoop::log_version,
                          uint32_t reasons = vsnoop::reasons_digest()) {
  return record(vsnoop::log_config, bytes_of(vsnoop::log_magic) + bytes_of(version) +
                                        bytes_of(reasons) + bytes_of(flows) + bytes_of(custodies) +
                                        bytes_of(guests) + bytes_of(7200u) + bytes_of(uint64_t{0}));
}

}  // namespace

TEST_CASE("log: neither the seed nor an address is in it, and it is reproduced without", "[log]") {
  std::string log;
  {
    Setup setup = recorded(log);
    setup.engine.custodies = 64;
    World world(setup);
    world.automatic = false;
    std::vector<std::unique_ptr<Established>> connections;
    for (uint16_t i = 0; i < 40; ++i) {
      Options options;
      options.peer_port = static_cast<uint16_t>(40000 + i);
      connections.push_back(std::make_unique<Established>(world, options));
    }
    for (auto& c : connections) c->peer(data(1, 1000));
    world.automatic = true;
    world.advance(1);
    for (auto& c : connections) c->guest(ack(1001));
  }
  CHECK(log.find(bytes_of(kSeed[0])) == std::string::npos);
  CHECK(log.find(bytes_of(kSeed[1])) == std::string::npos);

  // Frames lie at multiples of eight: tokens that follow from their addresses by xor and multiply
  // would agree in their last bits, and differ by multiples of a power of two.
  std::set<uint64_t> tokens, last_bits;
  for (const auto& [type, body] : records(log)) {
    if (type != vsnoop::log_taken) continue;
    uint64_t token;
    std::memcpy(&token, body.data() + 8, sizeof token);
    tokens.insert(token);
    last_bits.insert(token & 7);
  }
  CHECK(tokens.size() >= 20);
  CHECK(last_bits.size() >= 4);  // of 8, with 40 tokens: by chance once in 10^15 runs
  CHECK(replayed(log) == vsnoop::replay::status_fine);
}

TEST_CASE("log: the seed decides nothing that is logged", "[log]") {
  const auto verdicts = [](const uint64_t(&seed)[2]) {
    std::string log;
    Setup setup = recorded(log, seed);
    setup.engine.flows = 8;  // full, and full of handshakes
    World world(setup);
    std::vector<std::unique_ptr<Connection>> connections;
    for (uint16_t i = 0; i < 300; ++i) {
      Options options;
      options.peer_port = static_cast<uint16_t>(1000 + i);
      connections.push_back(std::make_unique<Connection>(world, options));
      Connection& c = *connections.back();
      c.peer(syn());
      if (i % 7 == 0) continue;
      c.guest(syn_ack());
      c.peer(ack(1));
      c.peer(data(1, 1000));
    }
    std::string without_tokens;
    for (const auto& [type, body] : records(log))
      if (type == vsnoop::log_peer || type == vsnoop::log_guest) without_tokens += body;
    return without_tokens;
  };
  const uint64_t other[2] = {1, 2};
  CHECK(verdicts(kSeed) == verdicts(other));
}

TEST_CASE("log: of a frame there are its headers, and nothing of what it carries", "[log]") {
  std::string log;
  Setup setup = recorded(log);
  World world(setup);
  Established c(world);
  const auto pass = [&](std::vector<uint8_t> frame) {
    vsnoop_frame described = {};
    described.data = frame.data();
    described.captured = described.wire = static_cast<uint32_t>(frame.size());
    described.memory = 768;
    vsnoop_from_peer(world.engine(), 0, &described, world.now());
    vsnoop_from_guest(world.engine(), 0, &described, world.now());
  };
  const std::string secret = "a question to a name server";
  std::vector<uint8_t> udp{
      2,    0, 0,  0,  0, 1, 2,    0,    0,  0,  0,    2,    8,  0,  // Ethernet
      0x45, 0, 0,  55, 0, 1, 0x40, 0,    64, 17, 0x25, 0xb4, 10, 0,
      1,    1, 10, 0,  0, 1, 0x9c, 0x40, 0,  53, 0,    35,   0,  0};
  udp.insert(udp.end(), secret.begin(), secret.end());
  pass(udp);
  std::vector<uint8_t> unknown{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
  unknown.insert(unknown.end(), secret.begin(), secret.end());
  pass(unknown);
  c.peer(data(1, 1000));
  for (const auto& [type, body] : records(log)) CHECK(body.size() <= 23u + 14 + 20 + 60);
  CHECK(log.find(secret.substr(0, 6)) == std::string::npos);
  CHECK(replayed(log) == vsnoop::replay::status_fine);
}

TEST_CASE("log: of a guest that is off no more is read than its frame has", "[log]") {
  std::string log;
  Setup setup = recorded(log);
  setup.engine.guests = 2;
  World world(setup);
  Established c(world);  // the last frame seen had 66 bytes of headers
  vsnoop_guest_config off = setup.guest;
  off.policy = VSNOOP_POLICY_OFF;
  REQUIRE(vsnoop_guest_open(world.engine(), 1, &off, world.now()) == 0);
  const std::vector<uint8_t> runt(14, 1);
  vsnoop_frame frame = {};
  frame.data = runt.data();
  frame.captured = frame.wire = 14;
  vsnoop_from_peer(world.engine(), 1, &frame, world.now());
  CHECK(records(log).back().second.size() <= 23u + 14);
  CHECK(replayed(log) == vsnoop::replay::status_fine);
}

TEST_CASE("log: one of another version says which program reads it", "[log]") {
  CHECK(replayed(configuration(64, 16, 1, 1)) == vsnoop::replay::status_unreadable);
  CHECK(replayed(configuration(64, 16, 1)) == vsnoop::replay::status_fine);
  // The same records, but numbers of reasons that mean others.
  CHECK(replayed(configuration(64, 16, 1, vsnoop::log_version, vsnoop::reasons_digest() + 1)) ==
        vsnoop::replay::status_unreadable);
}

TEST_CASE("log: each member of a guest's configuration is in it", "[log]") {
  std::string log;
  Setup setup = recorded(log);
  setup.guest.ring_unseen = 1;
  Established c(setup);
  c.peer(data(1, 1000));
  c.advance(2100);  // its ring is emptied all the time, which is no sign of life
  REQUIRE(c.peer(data(1001, 1000)).reason() == VSNOOP_REASON_guest_silent);
  CHECK(replayed(log) == vsnoop::replay::status_fine);
}

TEST_CASE("log: a few bytes cannot ask for much memory", "[log]") {
  const uint32_t most = 1u << 22;
  for (const std::string& claim : {configuration(most, most, 1), configuration(most, 1, 1),
                                   configuration(1, most, 1), configuration(1, 1, 65535)}) {
    // A process of its own, that may have 256 MiB more than now.
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      size_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      rlimit limit{};
      getrlimit(RLIMIT_AS, &limit);
      limit.rlim_cur = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + (256u << 20);
      setrlimit(RLIMIT_AS, &limit);
      try {
        _exit(replayed(claim));
      } catch (const std::exception&) {
        _exit(99);
      }
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == vsnoop::replay::status_unreadable);
  }
}

TEST_CASE("log: an engine of the default size is believed at once", "[log]") {
  vsnoop_config defaults;
  vsnoop_defaults(&defaults);
  CHECK(replayed(configuration(defaults.flows, defaults.custodies, defaults.guests)) ==
        vsnoop::replay::status_fine);
}
