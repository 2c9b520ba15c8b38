// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop live`: options, the life of the process, counters.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/commands.h"
#include "tools/live/bridge.h"
#include "tools/live/fault.h"
#include "tools/live/interface.h"
#include "tools/live/port.h"
#include "tools/live/report.h"
#include "tools/options.h"
#include "tools/units.h"

namespace vsnoop::live {
namespace {

constexpr int kPromisesBroken = 3;
constexpr uint32_t kQueueBytes = 16u << 20;  // long frames that may wait in a port

// As they stand on the command line.
struct Options {
  std::string peer, guest;
  std::string policy = "hold", engage = "always", kind = "busy";
  bool early_sack = true;
  uint32_t ring = 256, flows = 65536, vcpus = 1;
  std::string hold = "8Mi", total = "64Mi", rate, slice = "30ms", linger = "0us";
  std::string stats, json, log;
  std::vector<std::string> faults;
  std::string liveness = "2s", drain_timeout = "10s", grace = "5s", phase = "0";
};

uint32_t microseconds(const std::string& text) {
  return static_cast<uint32_t>(std::min<uint64_t>(parse_duration(text) / kMicrosecond, UINT32_MAX));
}

uint32_t size32(const std::string& option, const std::string& text) {
  const uint64_t bytes = parse_size(text);
  if (bytes < 65536 || bytes > UINT32_MAX)
    throw std::runtime_error(
        fmt::format("{} {}: must be at least 64Ki and less than 4Gi", option, text));
  return static_cast<uint32_t>(bytes);
}

BridgeConfig configuration(const Options& options) {
  BridgeConfig config;
  vsnoop_guest_defaults(&config.guest);
  config.guest.policy = policy_named(options.policy);
  config.guest.engage = options.engage == "auto" ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
  config.guest.early_sack = options.early_sack;
  config.guest.budget = options.policy == "ring" ? options.ring * GuestRing<int>::kSlotBytes
                                                 : size32("--hold", options.hold);
  config.guest.liveness_us = microseconds(options.liveness);
  vsnoop_defaults(&config.engine);
  config.engine.flows = options.flows;
  config.engine.budget = size32("--total", options.total);
  if (getrandom(config.engine.seed, sizeof config.engine.seed, 0) < 0)
    throw std::runtime_error(fmt::format("no random numbers: {}", std::strerror(errno)));
  config.ring_slots = options.ring;
  config.rate = options.rate.empty() ? 0 : parse_rate(options.rate);
  config.link_queue = 4u << 20;
  config.grace = parse_duration(options.grace);
  config.drain_timeout = parse_duration(options.drain_timeout);
  config.vcpu.vcpus = options.vcpus;
  config.vcpu.slice = parse_duration(options.slice);
  if (config.vcpu.slice < 10 * kMicrosecond || config.vcpu.slice > 60 * kSecond)
    throw std::runtime_error(
        fmt::format("--slice {}: must be between 10us and 60s", options.slice));
  config.vcpu.io = options.kind == "io";
  config.vcpu.linger = parse_duration(options.linger);
  config.vcpu.phase = parse_duration(options.phase);
  return config;
}

// A file that records are appended to; checked when it is closed, as a full disk shows late.
class LogFile {
 public:
  explicit LogFile(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (!file_) throw std::runtime_error(fmt::format("--log {}: {}", path, std::strerror(errno)));
    std::setvbuf(file_, nullptr, _IOFBF, 1 << 20);
  }
  ~LogFile() {
    if (std::ferror(file_) | std::fclose(file_))
      fmt::print(stderr, "vsnoop live: --log {} is incomplete: {}\n", path_, std::strerror(errno));
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  static void write(void* self, const uint8_t* bytes, uint32_t length) {
    std::fwrite(bytes, 1, length, static_cast<LogFile*>(self)->file_);
  }

 private:
  std::string path_;
  std::FILE* file_;
};

// SIGTERM and SIGINT as something to poll.
class StopSignal {
 public:
  StopSignal() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (descriptor_ < 0)
      throw std::runtime_error(fmt::format("signalfd: {}", std::strerror(errno)));
  }
  ~StopSignal() { close(descriptor_); }
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  int descriptor() const { return descriptor_; }
  bool arrived() {
    signalfd_siginfo info;
    return read(descriptor_, &info, sizeof info) > 0;
  }

 private:
  int descriptor_;
};

void check_interface(const std::string& option, const std::string& name) {
  const InterfaceState state = interface_state(name);
  if (!state.index)
    throw std::runtime_error(
        fmt::format("{} {}: there is no such interface here (see: ip link)", option, name));
  if (!state.up)
    throw std::runtime_error(fmt::format("{} {}: is down (ip link set {} up)", option, name, name));
  const InterfaceDoubts doubts = interface_doubts(name);
  for (const std::string& address : doubts.addresses)
    fmt::print(stderr,
               "vsnoop live: warning: {} has the address {}: this host's own stack answers too; "
               "remove it or put {} into a namespace of its own\n",
               name, address, name);
  if (doubts.lro)
    fmt::print(stderr,
               "vsnoop live: warning: LRO of {} merges frames for good (ethtool -K {} lro off)\n",
               name, name);
  if (doubts.slave)
    fmt::print(
        stderr,
        "vsnoop live: warning: {} belongs to a bridge or bond, which forwards the same frames\n",
        name);
}

std::unique_ptr<PortInterface> open_port(const Options& options, bool at_guest, FramePool& pool,
                                         std::vector<FaultyPort*>& faulty) {
  std::unique_ptr<PortInterface> port =
      std::make_unique<Port>(at_guest ? options.guest : options.peer, pool, kQueueBytes);
  for (const std::string& text : options.faults) {
    const FaultSpec spec = parse_fault(text);
    if (spec.at_guest != at_guest) continue;
    auto wrapped = std::make_unique<FaultyPort>(std::move(port), pool, spec);
    faulty.push_back(wrapped.get());
    port = std::move(wrapped);
  }
  return port;
}

// Forwards until told to stop, then until the promises have drained. Returns the bytes of those
// that had to be broken.
uint64_t forward(Bridge& bridge, const Subject& subject, uint64_t interval, StopSignal& stop) {
  StatsLine line(subject);
  uint64_t stats_at = interval ? subject.started + interval : kNever;
  uint64_t give_up_at = kNever;
  bool stopping = false, at_once = false;
  for (unsigned turns = 0;; ++turns) {
    const uint64_t now = now_ns();
    if (now >= stats_at) {
      fmt::print(stderr, "{}\n", line.next(now));
      stats_at = now + interval;
    }
    const bool busy = bridge.turn(now);
    if ((!busy || turns % 64 == 0) && stop.arrived()) {
      at_once = stopping;
      if (!stopping) {
        stopping = true;
        give_up_at = now + subject.config.drain_timeout;
        bridge.quiesce(now);
        fmt::print(stderr, "vsnoop live: stopping; {} promised bytes to drain\n",
                   bridge.outstanding());
      }
    }
    if (stopping && (bridge.outstanding() == 0 || at_once || now >= give_up_at)) break;
    if (!busy) bridge.wait(std::min(stats_at, give_up_at), stop.descriptor());
  }
  return bridge.finish(now_ns());
}

// Where the counters go at the end; opened at the start, so that a wrong path shows then.
class JsonFile {
 public:
  explicit JsonFile(const std::string& path) : path_(path) {
    if (path.empty() || path == "-") return;
    file_.open(path);
    check();
  }
  void write(const nlohmann::ordered_json& json) {
    if (path_.empty()) return;
    if (path_ == "-") {
      std::cout << json.dump(2) << std::endl;
      return;
    }
    file_ << json.dump(2) << '\n';
    file_.close();
    check();
  }

 private:
  void check() const {
    if (!file_) throw std::runtime_error(fmt::format("--json {}: {}", path_, std::strerror(errno)));
  }

  std::string path_;
  std::ofstream file_;
};

int run(const Options& options) {
  BridgeConfig config = configuration(options);
  const uint64_t interval = options.stats.empty() ? 0 : parse_duration(options.stats);
  check_interface("--peer-if", options.peer);
  check_interface("--guest-if", options.guest);
  if (interface_state(options.peer).index == interface_state(options.guest).index)
    throw std::runtime_error("--peer-if and --guest-if name the same interface");
  if (interface_state(options.peer).mtu != interface_state(options.guest).mtu)
    fmt::print(stderr,
               "vsnoop live: warning: the MTUs of {} and {} differ; frames too long are lost\n",
               options.peer, options.guest);
  JsonFile json(options.json);
  std::unique_ptr<LogFile> log;
  if (!options.log.empty()) {
    log = std::make_unique<LogFile>(options.log);
    config.engine.log = &LogFile::write;
    config.engine.log_context = log.get();
  }

  // Timers to the microsecond: the default lets the kernel wake us 50 us late.
  prctl(PR_SET_TIMERSLACK, 1000UL);
  StopSignal stop;
  FramePool pool;
  std::vector<FaultyPort*> faulty;
  const auto peer = open_port(options, false, pool, faulty);
  const auto guest = open_port(options, true, pool, faulty);
  const uint64_t started = now_ns();
  Bridge bridge(config, *peer, *guest, pool, started);
  const Subject subject{config, bridge, *peer, *guest, faulty, started};
  fmt::print(stderr, "vsnoop live: ready ({} <-> {}, policy {})\n", options.peer, options.guest,
             options.policy);
  std::fflush(stderr);

  const uint64_t broken = forward(bridge, subject, interval, stop);
  if (broken)
    fmt::print(
        stderr,
        "vsnoop live: {} promised bytes were not confirmed in time; their connections were reset\n",
        broken);
  json.write(report(subject, now_ns(), broken));
  return broken ? kPromisesBroken : 0;
}

void add_options(CLI::App& command, Options& o) {
  const CLI::Validator size = readable(parse_size), duration = readable(parse_duration);
  // An option whose default is to be shown.
  const auto option = [&](const char* name, auto& value, const CLI::Validator& check,
                          const char* text) {
    command.add_option(name, value, text)->check(check)->capture_default_str();
  };
  command.add_option("--peer-if", o.peer, "interface towards the network")->required();
  command.add_option("--guest-if", o.guest, "interface towards the guest")->required();

  option("--policy", o.policy, kPolicyNames,
         "acknowledge nothing, what is in the guest's ring, or what is held for it");
  option("--engage", o.engage, CLI::IsMember({"always", "auto"}),
         "auto: only for guests that are slow");
  command.add_flag_callback(
      "--no-early-sack", [&o] { o.early_sack = false; },
      "no SACK on the guest's behalf: at a hole the guest speaks for itself");
  option("--ring", o.ring, CLI::Range(16u, 65536u), "slots of the guest's ring, 4096 bytes each");
  option("--hold", o.hold, size, "memory for the guest's held frames and reserved window");
  option("--total", o.total, size, "most memory for held frames in all");
  option("--flows", o.flows, CLI::Range(1u, 1u << 22), "most connections tracked");
  option("--liveness", o.liveness, duration, "no new promises when the guest is silent so long");

  command
      .add_option("--rate", o.rate,
                  "rate of the peer's link each way, as in 1G (default: no limit)")
      ->check(readable(parse_rate));
  option("--vcpus", o.vcpus, CLI::Range(1u, 1000u),
         "virtual CPUs that take turns on the guest's CPU, its own included");
  option("--slice", o.slice, duration, "how long each of them runs");
  option("--guest", o.kind, CLI::IsMember({"busy", "io"}),
         "busy: keeps its slice; io: yields when it has nothing to do");
  option("--linger", o.linger, duration, "io: time without work before it yields");
  option("--phase", o.phase, duration, "time into the scheduler's round at the start");
  command
      .add_option("--fault", o.faults,
                  "testing: a bad link, as in peer:loss=1%,dup=0.1%,reorder=1%,corrupt=0.1%,seed=7")
      ->check(readable(parse_fault));

  command.add_option("--stats", o.stats, "print a line of counters at this interval, as in 1s")
      ->check(duration);
  command.add_option("--json", o.json, "write all counters at the end (-: standard output)");
  command.add_option("--log", o.log, "write the decision log (see: vsnoop replay --log)");
  option("--drain-timeout", o.drain_timeout, duration, "most time to drain when stopping");
  option("--grace", o.grace, duration,
         "time that a vanished guest interface may take to come back");
}

}  // namespace
}  // namespace vsnoop::live

namespace vsnoop {

void add_live_command(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "live", "bridge two interfaces and acknowledge TCP data on behalf of the guest behind one");
  auto options = std::make_shared<live::Options>();
  live::add_options(command, *options);
  command.callback([options] {
    if (const int status = live::run(*options)) throw CLI::RuntimeError(status);
  });
}

}  // namespace vsnoop
