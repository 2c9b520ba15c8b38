// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop xen`: the command line of docs/vsnoop-xen.8.
#include "tools/xen/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tools/commands.h"
#include "tools/options.h"
#include "tools/units.h"
#include "tools/xen/report.h"
#include "tools/xen/text.h"

namespace vsnoop::xen {
namespace {

constexpr int kFailed = 1;
constexpr int kNotDrained = 3;

struct Options {
  std::string guest;
  std::vector<std::string> guests;  // top
  bool json = false, once = false;
  std::string interval = "1s", timeout;
  std::string on_timeout = "abort";
  Setting setting;
};

// Nanoseconds: "30s", "500ms"; a bare number is seconds.
uint64_t parse_time(const std::string& text) {
  const bool bare = text.find_first_not_of("0123456789.") == std::string::npos;
  return parse_duration(bare ? text + "s" : text);
}

// The subcommands. Each returns the exit status.
class Commands {
 public:
  Commands(XenHost& host, const Surroundings& around, const Options& options)
      : host_(host), around_(around), options_(options) {}

  int list() {
    const Load load = measure_load(host_, parse_time(options_.interval));
    const std::vector<Guest> all = guests(host_, load);
    print(list_text(load, all), list_json(load, all));
    return 0;
  }

  int set() {
    require_module(host_, options_.setting.policy != "off");
    const Result result = apply_setting(host_, vifs(), options_.setting, timeout());
    print(result_text(result), result_json(result));
    if (result.outcome == Outcome::timed_out)
      throw std::runtime_error(
          fmt::format("{}: the setting is written, but not in force after {}; promises of before "
                      "may still drain",
                      shown(options_.guest), limit()));
    return result.outcome == Outcome::refused ? kFailed : all_here(result);
  }

  int quiesce() {
    require_module(host_, false);
    const bool reset = options_.on_timeout == "reset";
    const Result result = xen::quiesce(host_, vifs(), timeout(), reset);
    print(result_text(result), result_json(result));
    if (result.outcome == Outcome::reset)
      warn(fmt::format("connections that did not drain in {} were reset", limit()));
    if (result.outcome != Outcome::aborted) return all_here(result);
    warn(fmt::format("promises are outstanding after {}{}; it promises again as before", limit(),
                     reset ? ", and the module did not reset their connections" : ""));
    return kNotDrained;
  }

  int resume() {
    require_module(host_, false);
    const Result result = xen::resume(host_, vifs(), timeout());
    print(result_text(result), result_json(result));
    if (result.outcome == Outcome::timed_out)
      throw std::runtime_error(
          fmt::format("{}: still quiesced after {}", shown(options_.guest), limit()));
    return all_here(result);
  }

  int stats() {
    require_module(host_, false);
    return each_vif([&](const Vif& vif) {
      const Counters counters = vif_counters(host_, vif);
      return std::pair(stats_text(vif, counters), stats_json(vif, counters));
    });
  }

  int flows() {
    require_module(host_, false);
    return each_vif([&](const Vif& vif) {
      const std::string file = flows_file(vif);
      return std::pair(flows_text(vif, file), flows_json(vif, file));
    });
  }

  int top() {
    require_module(host_, false);
    const uint64_t interval = parse_time(options_.interval);
    const bool clear = around_.screen && !options_.json && !options_.once;
    const uint64_t start = host_.now_ns();
    uint64_t then = start;
    std::vector<Reading> before = readings();
    do {
      host_.sleep_until(then + interval);
      std::vector<Reading> now = readings();
      const uint64_t at = host_.now_ns();
      std::vector<Rates> rows;
      for (const Reading& reading : now) {
        const auto old = std::find_if(before.begin(), before.end(), [&](const Reading& other) {
          return other.vif.backend == reading.vif.backend;
        });
        if (old != before.end())
          rows.push_back(rates(reading.vif, old->counters, reading.counters, seconds(at - then)));
      }
      // JSON here is a line per interval.
      if (options_.json)
        write(json_text(top_json(seconds(at - start), rows), -1) + '\n');
      else
        write((clear ? "\033[H\033[J" : "") + top_text(rows));
      before = std::move(now);
      then = at;
    } while (!options_.once);
    return 0;
  }

 private:
  struct Reading {
    Vif vif;
    Counters counters;
  };

  // Nobody shall take for done what could not be done.
  int all_here(const Result& result) const {
    if (result.gone.empty()) return 0;
    throw std::runtime_error(
        fmt::format("{}: a network interface of it went away meanwhile", shown(options_.guest)));
  }

  static double seconds(uint64_t ns) { return static_cast<double>(ns) * 1e-9; }
  std::vector<Vif> vifs() { return select_vifs(host_, options_.guest); }
  std::string limit() const { return fmt::format("{:g} s", seconds(timeout())); }
  uint64_t timeout() const { return parse_time(options_.timeout); }

  void write(const std::string& text) {
    if (!(around_.out << text << std::flush))
      throw std::runtime_error("standard output cannot be written");
  }
  void print(const std::string& text, const Json& json) {
    write(options_.json ? json_text(json, 2) + '\n' : text);
  }
  void warn(const std::string& text) {
    around_.err << "vsnoop xen: " << shown(options_.guest) << ": " << text << std::endl;
  }

  template <typename Tell>
  int each_vif(Tell tell) {
    std::string text;
    Json json = Json::array();
    for (const Vif& vif : vifs()) {
      auto [its_text, its_json] = tell(vif);
      text += (text.empty() ? "" : "\n") + its_text;
      json.push_back(std::move(its_json));
    }
    print(text, json);
    return 0;
  }

  std::string flows_file(const Vif& vif) {
    const std::string top = "/sys/kernel/debug/xen-netback";
    // Named when the vif connects, perhaps before a script renamed the interface.
    const std::string made = fmt::format("vif{}.{}", vif.domain, vif.handle);
    for (const std::string& name : {vif.interface, made})
      if (auto text = host_.file(fmt::format("{}/{}/vsnoop_flows", top, name))) return *text;
    throw std::runtime_error(
        fmt::format("{}: no vsnoop_flows below {}: is the guest connected, and debugfs mounted "
                    "(mount -t debugfs debugfs /sys/kernel/debug)?",
                    vif.label(), top));
  }

  // Guests come and go while `top` runs: a vif that cannot be read is not there.
  std::vector<Reading> readings() {
    std::vector<Vif> vifs;
    if (options_.guests.empty()) vifs = all_vifs(host_);
    for (const std::string& name : options_.guests)
      for (Vif& vif : select_vifs(host_, name))
        if (std::none_of(vifs.begin(), vifs.end(),
                         [&](const Vif& other) { return other.backend == vif.backend; }))
          vifs.push_back(std::move(vif));
    std::vector<Reading> readings;
    for (Vif& vif : vifs)
      if (auto counters = host_.counters(vif.interface))
        readings.push_back({std::move(vif), std::move(*counters)});
    return readings;
  }

  XenHost& host_;
  const Surroundings& around_;
  const Options& options_;
};

// Checks a duration while the command line is read, so that the complaint names the option.
std::string duration(const std::string& text) {
  try {
    if (parse_time(text) >= kMillisecond) return {};
    return fmt::format("'{}' is less than 1ms", text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

}  // namespace

void add_commands(CLI::App& app, const Surroundings& surroundings) {
  CLI::App& command = *app.add_subcommand(
      "xen", "in Xen's dom0: who would gain, switch offload, watch it, empty a guest of promises");
  command.require_subcommand(1);

  const auto add = [&](const char* name, const char* text, int (Commands::*run)()) {
    auto options = std::make_shared<Options>();
    CLI::App* sub = command.add_subcommand(name, text);
    sub->add_flag("--json", options->json, "for scripts");
    sub->callback([=] {
      const auto host = surroundings.open();
      if (const int status = (Commands(*host, surroundings, *options).*run)())
        throw CLI::RuntimeError(status);
    });
    return std::pair(sub, options);
  };
  const auto guest = [](CLI::App* sub, Options& o) {
    sub->add_option("GUEST", o.guest, "name or domain number; GUEST.N: its vif N only")->required();
  };
  const auto timeout = [](CLI::App* sub, Options& o, const char* value, const char* text) {
    o.timeout = value;
    sub->add_option("--timeout", o.timeout, text)->check(duration)->capture_default_str();
  };
  const auto interval = [](CLI::App* sub, Options& o, const char* text) {
    sub->add_option("--interval", o.interval, text)->check(duration)->capture_default_str();
  };

  {
    const auto [sub, o] =
        add("list", "guests, how long they wait for a CPU, who would gain", &Commands::list);
    interval(sub, *o, "how long to look");
  }
  {
    const auto [sub, o] = add("set", "switch offload of a guest", &Commands::set);
    guest(sub, *o);
    sub->add_option("POLICY", o->setting.policy, "off, ring or hold")
        ->required()
        ->check(kPolicyNames);
    sub->add_option("--vif-kib", o->setting.vif_kib,
                    "memory for the held data of a vif (default: 16384)")
        ->check(CLI::Range(256u, 1u << 21));
    sub->add_option("--flow-kib", o->setting.flow_kib,
                    "most of it for one connection (default: 4096)")
        ->check(CLI::Range(64u, 1u << 21));
    sub->add_flag_callback(
        "--no-early-sack", [o = o] { o->setting.early_sack = false; },
        "no SACK on the guest's behalf: at a hole the guest speaks for itself");
    sub->add_option("--engage", o->setting.engage, "auto: only while the guest is slow")
        ->check(CLI::IsMember({"always", "auto"}));
    timeout(sub, *o, "30s", "most time to wait for the module");
  }
  {
    const auto [sub, o] = add("top", "rates, refreshed until interrupted", &Commands::top);
    sub->add_option("GUEST", o->guests, "only these (default: all)");
    sub->add_flag("--once", o->once, "one interval only");
    interval(sub, *o, "time between two looks");
  }
  {
    const auto [sub, o] =
        add("stats", "all counters, with what each reason means", &Commands::stats);
    guest(sub, *o);
  }
  {
    const auto [sub, o] = add("flows", "connections that are tracked", &Commands::flows);
    guest(sub, *o);
  }
  {
    const auto [sub, o] = add("quiesce", "promise nothing more, wait until nothing is outstanding",
                              &Commands::quiesce);
    guest(sub, *o);
    timeout(sub, *o, "30s", "most time to drain");
    sub->add_option("--on-timeout", o->on_timeout,
                    "abort: promise again as before; reset: the connections that still wait")
        ->check(CLI::IsMember({"abort", "reset"}))
        ->capture_default_str();
  }
  {
    const auto [sub, o] = add("resume", "take quiesce back", &Commands::resume);
    guest(sub, *o);
    timeout(sub, *o, "10s", "most time to wait for the module");
  }
}

}  // namespace vsnoop::xen

namespace vsnoop {

void add_xen_command(CLI::App& app) {
  xen::add_commands(app, {&xen::open_host, std::cout, std::cerr, isatty(STDOUT_FILENO) != 0});
}

}  // namespace vsnoop
