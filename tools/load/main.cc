// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// vsnoop-load: times transfers from a peer to a guest over real TCP between two network namespaces
// of this machine, by the sender's and by the receiver's clock, and compares every byte.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/load/guest.h"
#include "tools/load/ledger.h"
#include "tools/load/net.h"
#include "tools/load/pattern.h"
#include "tools/load/peer.h"
#include "tools/load/phase.h"
#include "tools/options.h"
#include "tools/units.h"

namespace vsnoop::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint32_t kWarmUp = 0;  // transfer number of the warm-up; measured ones count from 1

struct Options {
  std::string peer_netns;
  std::string guest_netns;
  Address address;
  std::vector<std::uint64_t> sizes;
  bool fresh = false;
  std::size_t repeat = 20;
  std::int64_t period_ns = 0;
  std::int64_t epoch_ns = 0;
  std::uint64_t seed = 1;
  std::uint64_t warm_bytes = 0;
  std::uint64_t warm_chunk = 0;
  std::size_t warm_at_once = 4;
  std::int64_t limit_ns = 0;
  std::string congestion;
};

void print_line(const Json& json) {
  fmt::print("{}\n", json.dump());
  std::fflush(stdout);
}

double ms(std::int64_t ns) { return static_cast<double>(ns) / 1e6; }

class Run {
 public:
  explicit Run(const Options& options)
      : options_(options),
        guest_(options.guest_netns, options.address, options.congestion, ledger_) {
    enter_netns(options.peer_netns);
  }

  // Returns whether every byte of every transfer arrived as it was sent.
  bool run() {
    if (!options_.fresh) warm_up();
    std::uint32_t transfer = kWarmUp;
    for (const std::uint64_t size : options_.sizes) {
      ++transfer;
      const auto phases = random_phases(options_.seed, options_.repeat, options_.period_ns);
      for (std::size_t i = 0; i < options_.repeat; ++i) {
        if (options_.fresh) open();
        Connection& connection = options_.fresh ? *connections_.back() : *connections_[i];
        measure(connection, transfer, size, i, phases[i]);
      }
    }
    Json end;
    end["event"] = "end";
    end["stray_bytes"] = ledger_.stray();
    print_line(end);
    if (ledger_.stray() != 0)
      fmt::print(stderr, "vsnoop-load: {} bytes reached the guest that nobody sent\n",
                 ledger_.stray());
    return clean_ && ledger_.stray() == 0;
  }

  const Json& results() const { return results_; }

 private:
  void open() {
    connections_.push_back(
        std::make_unique<Connection>(static_cast<std::uint32_t>(connections_.size()),
                                     options_.address, options_.congestion, ledger_));
  }

  // Opens all connections and sends enough over each for the guest to have opened its window, in
  // chunks that the guest's ring can take: losses now would slow the measured transfers down.
  void warm_up() {
    const std::int64_t begin = monotonic_ns();
    const std::int64_t deadline = begin + options_.limit_ns;
    std::vector<std::vector<std::uint8_t>> data(options_.repeat);
    std::vector<Sending> sendings;
    for (std::size_t i = 0; i < options_.repeat; ++i) {
      open();
      sendings.emplace_back(*connections_[i], std::span<const std::uint8_t>());
      if (options_.warm_bytes == 0) continue;
      const PatternKey key{connections_[i]->number(), kWarmUp};
      data[i].resize(options_.warm_bytes);
      fill_pattern(key, 0, data[i]);
      ledger_.expect(key, data[i].size());
    }
    drive(sendings, sendings.size(), deadline);
    for (std::uint64_t at = 0; at < options_.warm_bytes; at += options_.warm_chunk) {
      const std::uint64_t size = std::min(options_.warm_chunk, options_.warm_bytes - at);
      sendings.clear();
      for (std::size_t i = 0; i < options_.repeat; ++i)
        sendings.emplace_back(*connections_[i], std::span(data[i]).subspan(at, size));
      drive(sendings, options_.warm_at_once, deadline);
    }
    std::uint32_t retransmits = 0;
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < options_.repeat; ++i) {
      const Connection& connection = *connections_[i];
      if (!connection.error().empty())
        throw std::runtime_error(
            fmt::format("warming up connection {}: {}", i, connection.error()));
      retransmits += connection.retransmits();
      if (options_.warm_bytes == 0) continue;
      const Receipt receipt = ledger_.wait({connection.number(), kWarmUp}, deadline);
      if (receipt.finished_ns == 0)
        throw std::runtime_error(
            fmt::format("warming up connection {}: the guest read only {} of {} bytes", i,
                        receipt.right + receipt.wrong, options_.warm_bytes));
      wrong += receipt.wrong;
    }
    clean_ = clean_ && wrong == 0;
    Json event;
    event["event"] = "warm";
    event["connections"] = connections_.size();
    event["ms"] = ms(monotonic_ns() - begin);
    event["lost_bytes"] = wrong;
    event["retransmits"] = retransmits;
    print_line(event);
  }

  void measure(Connection& connection, std::uint32_t transfer, std::uint64_t size,
               std::size_t repetition, std::int64_t phase_ns) {
    const PatternKey key{connection.number(), transfer};
    Json result;
    result["size"] = size;
    result["connection"] = options_.fresh ? "fresh" : "established";
    result["repetition"] = repetition;
    result["phase_ms"] = ms(phase_ns);

    data_.resize(size);
    fill_pattern(key, 0, data_);
    ledger_.expect(key, size);
    std::uint32_t retransmits_before = 0;
    if (!options_.fresh) {
      retransmits_before = connection.retransmits();
      // Bounded, because a connection in trouble may report a timeout of minutes.
      if (connection.error().empty())
        sleep_until_ns(std::min(connection.restarted_at_ns(), monotonic_ns() + options_.limit_ns));
    }
    result["window_bytes"] = connection.window_bytes();
    sleep_until_ns(next_at_phase(options_.epoch_ns, options_.period_ns, phase_ns, monotonic_ns()));

    const std::int64_t deadline = monotonic_ns() + options_.limit_ns;
    std::vector<Sending> sendings;
    sendings.emplace_back(connection, data_);
    drive(sendings, 1, deadline);
    const Sending& sending = sendings.front();
    const Receipt receipt = ledger_.wait(key, sending.error().empty() ? deadline : monotonic_ns());

    const bool failed = !sending.error().empty() || receipt.finished_ns == 0;
    result["sender_ms"] = nullptr;
    result["receiver_ms"] = nullptr;
    if (!failed) {
      result["sender_ms"] = ms(sending.acknowledged_ns() - sending.started_ns());
      result["receiver_ms"] = ms(receipt.finished_ns - sending.started_ns());
    }
    result["lost_bytes"] = size - receipt.right;
    result["retransmits"] = connection.retransmits() - retransmits_before;
    result["exact"] = sending.exact();
    result["failed"] = failed;
    if (failed) {
      result["error"] = !sending.error().empty() ? sending.error()
                        : receipt.cut            ? "the guest lost the connection"
                                                 : "the guest did not read everything in time";
    }
    clean_ = clean_ && !failed && receipt.right == size;
    print_line(result);
    results_.push_back(std::move(result));
  }

  Options options_;
  Ledger ledger_;
  Guest guest_;
  // Fresh connections too stay open to the end: closing one would wake the guest during the next.
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::uint8_t> data_;
  Json results_ = Json::array();
  bool clean_ = true;
};

int main_of(int argc, char** argv) {
  CLI::App app("Times TCP transfers from a peer to a guest in two network namespaces",
               "vsnoop-load");
  app.failure_message(one_line);
  Options options;
  std::string address = "10.77.0.2";
  std::uint16_t port = 5001;
  std::string connection = "established";
  std::string json_file;
  app.add_option("--peer-netns", options.peer_netns, "namespace of the sender (default: this one)");
  app.add_option("--guest-netns", options.guest_netns,
                 "namespace of the receiver (default: this one)");
  app.add_option("--address", address, "address the guest listens on")->capture_default_str();
  app.add_option("--port", port, "port the guest listens on")->capture_default_str();
  add_parsed(app, "--sizes", options.sizes, parse_sizes, "10k,100k,1M,10M",
             "bytes per transfer, with commas between");
  app.add_option("--connection", connection, "connect in each measurement, or long before")
      ->check(CLI::IsMember({"established", "fresh"}))
      ->capture_default_str();
  app.add_option("--repeat", options.repeat, "transfers of each size")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_parsed(app, "--phase", options.period_ns, parse_duration, "90ms",
             "transfers start at random phases of this period");
  options.epoch_ns = monotonic_ns();
  app.add_option("--epoch", options.epoch_ns,
                 "CLOCK_MONOTONIC, ns, at which a period began; not in the future (default: now)")
      ->check(CLI::Range(std::int64_t{0}, options.epoch_ns));
  app.add_option("--seed", options.seed, "seed of the random phases")->capture_default_str();
  add_parsed(app, "--warm", options.warm_bytes, parse_size, "1M",
             "bytes sent over an established connection beforehand");
  app.add_option("--warm-at-once", options.warm_at_once, "connections warmed up at the same time")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  add_parsed(app, "--warm-chunk", options.warm_chunk, parse_positive, "64k",
             "bytes of it sent before an acknowledgement of all is waited for");
  add_parsed(app, "--limit", options.limit_ns, parse_duration, "60s",
             "a transfer that takes longer has failed");
  options.congestion = "cubic";
  app.add_option("--congestion", options.congestion, "congestion control of both ends")
      ->capture_default_str();
  app.add_option("--json", json_file, "also write all results to this file");
  CLI11_PARSE(app, argc, argv);

  options.fresh = connection == "fresh";
  options.address = parse_address(address, port);
  Run run(options);
  const bool clean = run.run();
  if (!json_file.empty()) {
    std::ofstream out(json_file);
    out << run.results().dump(1) << '\n';
    out.close();
    if (!out) throw std::runtime_error(fmt::format("cannot write {}", json_file));
  }
  return clean ? 0 : 1;
}

}  // namespace
}  // namespace vsnoop::load

int main(int argc, char** argv) {
  try {
    return vsnoop::load::main_of(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "vsnoop-load: {}\n", error.what());
    return 2;
  }
}
