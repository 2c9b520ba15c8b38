// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop live`: options, the life of the process, counters.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/commands.h"
#include "tools/live/bridge.h"
#include "tools/live/fault.h"
#include "tools/live/interface.h"
#include "tools/live/port.h"
#include "tools/live/process.h"
#include "tools/live/report.h"
#include "tools/options.h"
#include "tools/units.h"

namespace vsnoop::live {
namespace {

constexpr int kFailed = 1;
constexpr int kPromisesBroken = 3;
constexpr uint64_t kMetrics = 5 * kSecond;   // between two writings of the metrics
constexpr uint32_t kQueueBytes = 16u << 20;  // long frames that may wait in a port

// As they stand on the command line.
struct Options {
  std::string peer, guest;
  std::string policy = "hold", engage = "always", kind = "busy";
  bool early_sack = true;
  uint32_t ring = 256, flows = 65536, vcpus = 1;
  std::string hold = "8Mi", total = "64Mi", rate, slice = "30ms", linger = "0us";
  std::string stats, json, log, log_limit = "1Gi", metrics, user = "nobody";
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
  config.tell = &say;
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

// The decision log: a file that records are appended to, up to a limit. Checked when it is closed,
// as a full disk shows late.
class LogFile {
 public:
  LogFile(const std::string& path, uint64_t limit) : path_(path), left_(limit) {
    file_ = fdopen(create_private("--log", path), "wb");
    if (!file_) throw std::runtime_error(fmt::format("--log {}: {}", path, std::strerror(errno)));
    std::setvbuf(file_, nullptr, _IOFBF, 1 << 20);
  }
  ~LogFile() { close(); }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  // False, and said so, if what was written is not there.
  bool close() {
    if (!file_) return true;
    bool whole = !std::ferror(file_);
    whole &= std::fclose(file_) == 0;
    file_ = nullptr;
    if (!whole) say(fmt::format("--log {} is incomplete: {}", path_, std::strerror(errno)));
    return whole;
  }
  // Whole records only; after the limit none, so that what is there can be replayed.
  static void write(void* self, const uint8_t* bytes, uint32_t length) {
    auto& log = *static_cast<LogFile*>(self);
    if (!log.file_) return;
    if (length > log.left_) {
      if (log.left_ != 0)
        say(fmt::format("--log {} has reached --log-limit; it ends here", log.path_));
      log.left_ = 0;
      return;
    }
    log.left_ -= length;
    std::fwrite(bytes, 1, length, log.file_);
  }

 private:
  std::string path_;
  std::FILE* file_;
  uint64_t left_;
};

InterfaceState usable_interface(const std::string& option, const std::string& name) {
  InterfaceState state = interface_named(name);
  if (const std::string why = unusable(option, name, state); !why.empty())
    throw std::runtime_error(why);
  return state;
}

void say_doubts(const std::string& name, const InterfaceState& state) {
  const InterfaceDoubts doubts = interface_doubts(state);
  for (const std::string& address : doubts.addresses)
    say(
        fmt::format("warning: {} has the address {}: this host's own stack answers too; remove it "
                    "or put {} into a namespace of its own",
                    name, address, name));
  if (doubts.lro)
    say(fmt::format("warning: LRO of {} merges frames for good (ethtool -K {} lro off)", name,
                    state.name));
  if (state.master != 0)
    say(fmt::format("warning: {} belongs to a bridge or bond, which forwards the same frames",
                    name));
  if (!state.carrier)
    say(fmt::format("warning: {} has no carrier: what is at its other end is down or not there",
                    name));
  if (state.is_macvlan() && !state.passthru)
    say(
        fmt::format("warning: {} is a {} and takes only frames for its own address: what is behind "
                    "the bridge has to use that one, or mode passthru is needed",
                    name, state.kind));
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

// Tells, once a second at most, what changed about the interfaces and what went short.
class Watch {
 public:
  Watch(const Subject& subject, InterfaceState peer, InterfaceState guest)
      : subject_(subject), states_{std::move(peer), std::move(guest)} {}

  void look() {
    for (InterfaceState& known : states_) {
      InterfaceState state = interface_with(known.index);
      if (state.index == 0) state = interface_named(known.name);
      if (state.index == 0) continue;  // the bridge tells of those that are gone
      if (state.name != known.name) say(fmt::format("{} is called {} now", known.name, state.name));
      if (state.up && state.carrier != known.carrier)
        say(fmt::format("{} has {}", state.name,
                        state.carrier ? "its carrier again" : "lost its carrier"));
      if (state.mtu != known.mtu)
        say(fmt::format("{} has an MTU of {} now", state.name, state.mtu));
      if (state.master != known.master && state.master != 0)
        say(fmt::format("warning: {} was added to a bridge or bond, which forwards the same frames",
                        state.name));
      known = state;
    }
    const PortLosses peer = subject_.peer.losses(), guest = subject_.guest.losses();
    went_up(lost_,
            peer.too_long + guest.too_long + peer.no_room + guest.no_room + peer.refused +
                guest.refused + peer.oversized + guest.oversized,
            "frames were dropped that an interface did not take (see: dropped, in --json)");
    const auto* stats = subject_.bridge.engine_stats();
    if (!stats) return;
    went_up(budget_, stats->reasons[VSNOOP_REASON_no_budget],
            "times there was no room to promise: the budget is exhausted (--hold, --total)");
    went_up(table_, stats->reasons[VSNOOP_REASON_table_full],
            "times no connection could be learnt: the table is full (--flows)");
  }

 private:
  struct Count {
    uint64_t told = 0;
    int quiet = 0;  // looks until it may be told of again
  };
  static void went_up(Count& count, uint64_t now, const char* what) {
    if (count.quiet > 0) --count.quiet;
    if (now == count.told || count.quiet > 0) return;
    say(fmt::format("{} {}", now - count.told, what));
    count = {now, 60};
  }

  const Subject& subject_;
  InterfaceState states_[2];
  Count lost_, budget_, table_;
};

// Replaces the file of the metrics by the present ones, whole at any time.
bool write_metrics(const std::string& path, const std::string& text) {
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  const int file = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) return false;
  bool whole = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  whole &= ::close(file) == 0;
  if (whole && ::rename(fresh.c_str(), path.c_str()) == 0) return true;
  const int error = errno;
  ::unlink(fresh.c_str());
  errno = error;
  return false;
}

// Forwards until told to stop, then until the promises have drained.
void forward(Bridge& bridge, const Subject& subject, Watch& watch, const Options& options,
             Signals& signals) {
  StatsLine line(subject), asked(subject);
  const uint64_t interval = options.stats.empty() ? 0 : parse_duration(options.stats);
  uint64_t stats_at = interval ? subject.started + interval : kNever;
  uint64_t look_at = subject.started + kSecond;
  uint64_t metrics_at = options.metrics.empty() ? kNever : subject.started + kMetrics;
  uint64_t give_up_at = kNever;
  bool stopping = false, at_once = false;
  for (unsigned turns = 0;; ++turns) {
    const uint64_t now = now_ns();
    if (now >= stats_at) {
      say_plainly(line.next(now));
      stats_at = now + interval;
    }
    if (now >= look_at) {
      watch.look();
      look_at = now + kSecond;
    }
    if (now >= metrics_at) {
      write_metrics(options.metrics, metrics(subject, now));
      metrics_at = now + kMetrics;
    }
    const bool busy = bridge.turn(now);
    const auto wish = !busy || turns % 64 == 0 ? signals.next() : Signals::What::kNothing;
    if (wish == Signals::What::kStatistics) say_plainly(asked.next(now));
    if (wish == Signals::What::kAgain) at_once = true;
    if (wish == Signals::What::kDrain && !stopping) {
      stopping = true;
      give_up_at = now + subject.config.drain_timeout;
      bridge.quiesce(now);
      say(fmt::format("stopping; {} promised bytes to drain", bridge.outstanding()));
    }
    if (stopping && (bridge.outstanding() == 0 || at_once || now >= give_up_at)) break;
    if (!busy)
      bridge.wait(std::min({stats_at, look_at, metrics_at, give_up_at}), signals.descriptor());
  }
}

// Where the counters go at the end; opened at the start, so that a wrong path shows then.
class JsonFile {
 public:
  explicit JsonFile(const std::string& path) : path_(path) {
    if (!path.empty() && path != "-") file_ = create_private("--json", path);
  }
  ~JsonFile() {
    if (file_ >= 0) close(file_);
  }
  JsonFile(const JsonFile&) = delete;
  JsonFile& operator=(const JsonFile&) = delete;

  /// False, and said so, if they could not be written.
  bool write(const nlohmann::ordered_json& json) {
    if (path_.empty()) return true;
    const std::string text = json.dump(2) + "\n";
    for (size_t done = 0; done < text.size();) {
      const ssize_t wrote =
          ::write(path_ == "-" ? STDOUT_FILENO : file_, text.data() + done, text.size() - done);
      if (wrote < 0) {
        say(fmt::format("--json {} is incomplete: {}", path_, std::strerror(errno)));
        return false;
      }
      done += static_cast<size_t>(wrote);
    }
    return true;
  }

 private:
  std::string path_;
  int file_ = -1;
};

int run(const Options& options) {
  open_standard_files();
  Signals signals;
  BridgeConfig config = configuration(options);
  const InterfaceState peer_state = usable_interface("--peer-if", options.peer);
  const InterfaceState guest_state = usable_interface("--guest-if", options.guest);
  if (const std::string why = unusable_together(peer_state, guest_state, interfaces());
      !why.empty())
    throw std::runtime_error(why);
  say_doubts(options.peer, peer_state);
  say_doubts(options.guest, guest_state);
  if (peer_state.mtu != guest_state.mtu)
    say(fmt::format("warning: the MTUs of {} ({}) and {} ({}) differ; frames too long are lost",
                    options.peer, peer_state.mtu, options.guest, guest_state.mtu));
  config.guest.ring_unseen = !guest_state.shows_consumption();
  const PairLock lock(peer_state.index, guest_state.index);
  JsonFile json(options.json);
  std::unique_ptr<LogFile> log;
  if (!options.log.empty()) {
    log = std::make_unique<LogFile>(options.log, parse_size(options.log_limit));
    config.engine.log = &LogFile::write;
    config.engine.log_context = log.get();
  }

  // Timers to the microsecond: the default lets the kernel wake us 50 us late.
  prctl(PR_SET_TIMERSLACK, 1000UL);
  FramePool pool;
  std::vector<FaultyPort*> faulty;
  const auto peer = open_port(options, false, pool, faulty);
  const auto guest = open_port(options, true, pool, faulty);
  drop_privileges(options.user);
  const uint64_t started = now_ns();
  Bridge bridge(config, *peer, *guest, pool, started);
  const Subject subject{config, bridge, *peer, *guest, faulty, started};
  if (!options.metrics.empty() && !write_metrics(options.metrics, metrics(subject, started)))
    throw std::runtime_error(
        fmt::format("--metrics {}: {}; its folder must be writable for the user of --user ({})",
                    options.metrics, std::strerror(errno), options.user));
  say(fmt::format("ready ({} <-> {}, policy {})", options.peer, options.guest, options.policy));

  Watch watch(subject, peer_state, guest_state);
  bool failed = false;
  try {
    forward(bridge, subject, watch, options, signals);
  } catch (const std::exception& error) {
    say(fmt::format("cannot go on: {}", error.what()));
    failed = true;
  }
  bridge.finish(now_ns());
  if (!options.metrics.empty()) write_metrics(options.metrics, metrics(subject, now_ns()));
  failed |= !json.write(report(subject, now_ns()));
  failed |= log && !log->close();
  if (bridge.broken()) {
    say(fmt::format("{} promised bytes were not confirmed in time; their {} connections were reset",
                    bridge.broken(), bridge.counts().connections_broken));
    return kPromisesBroken;
  }
  return failed ? kFailed : 0;
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
  command.add_option("--metrics", o.metrics,
                     "keep all counters in this file in Prometheus's text format");
  command.add_option("--log", o.log, "write the decision log (see: vsnoop replay --log)");
  option("--log-limit", o.log_limit, size, "size at which the decision log ends");
  option("--user", o.user, CLI::Validator(), "whom root becomes once the interfaces are open");
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
