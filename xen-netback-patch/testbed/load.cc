// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// xen-load: vsnoop-load for two machines that share a clock. `sink` runs in the receiving guest,
// `send` in the sender, `busy` in whoever is to need its processor; each transfer describes itself,
// every byte is compared, and what the sink saw comes back over a connection of its own after the
// transfer.
//
// The common clock is the time stamp counter: guests run with tsc_mode=native, and the emulator
// counts it in nanoseconds of virtual time.
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <x86intrin.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tools/load/ledger.h"
#include "tools/load/net.h"
#include "tools/load/peer.h"
#include "tools/load/phase.h"
#include "tools/options.h"
#include "tools/units.h"

namespace vsnoop::load {
namespace {

using Json = nlohmann::ordered_json;

/// Stands before the data of each transfer.
struct Header {
  std::uint64_t id;
  std::uint64_t size;  ///< bytes of data that follow
};

/// What the sink says of a transfer when its last byte was read or its connection has ended.
struct Report {
  std::uint64_t id;
  std::uint64_t right;
  std::uint64_t wrong;
  std::int64_t first_tsc;  ///< when the header was complete
  std::int64_t last_tsc;   ///< when the last byte was read; 0: cut
};

std::int64_t tsc_ns() {
  unsigned cpu = 0;
  return static_cast<std::int64_t>(__rdtscp(&cpu));
}

/// The data of all transfers: one random table, entered at a place of each transfer's own, so that
/// a byte in the wrong place or transfer is seen. Comparing costs next to nothing, because the
/// receiver's processor is what is measured.
class Pattern {
 public:
  Pattern() : table_(kPeriod) {
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i + 8 <= kPeriod; i += 8) {
      const std::uint64_t word = random();
      std::memcpy(&table_[i], &word, 8);
    }
  }

  void fill(std::uint64_t id, std::span<std::uint8_t> out) const {
    walk(id, 0, out.size(), [&](std::size_t at, const std::uint8_t* from, std::size_t n) {
      std::memcpy(&out[at], from, n);
    });
  }

  std::uint64_t count_wrong(std::uint64_t id, std::uint64_t offset,
                            std::span<const std::uint8_t> in) const {
    std::uint64_t wrong = 0;
    walk(id, offset, in.size(), [&](std::size_t at, const std::uint8_t* expected, std::size_t n) {
      if (std::memcmp(&in[at], expected, n) == 0) return;
      for (std::size_t i = 0; i < n; ++i) wrong += in[at + i] != expected[i];
    });
    return wrong;
  }

 private:
  static constexpr std::size_t kPeriod = (1 << 20) + 8 * 509;

  template <typename Visit>
  void walk(std::uint64_t id, std::uint64_t offset, std::size_t size, Visit visit) const {
    std::size_t place = (id * 0x9e3779b97f4a7c15u + offset) % kPeriod;
    for (std::size_t at = 0; at < size;) {
      const std::size_t n = std::min(size - at, kPeriod - place);
      visit(at, &table_[place], n);
      at += n;
      place = 0;
    }
  }

  std::vector<std::uint8_t> table_;
};

Fd listen_on(const Address& address) {
  Fd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw_errno("sink: socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), address.get(), address.length) != 0) throw_errno("sink: bind");
  if (listen(fd.get(), SOMAXCONN) != 0) throw_errno("sink: listen");
  return fd;
}

/// The receiver: one thread, everything read as fast as it comes.
class Sink {
 public:
  explicit Sink(std::uint16_t port)
      : poller_(epoll_create1(EPOLL_CLOEXEC)),
        data_(listen_on(parse_address("::", port))),
        reports_(listen_on(parse_address("::", static_cast<std::uint16_t>(port + 1)))) {
    watch(data_.get());
    watch(reports_.get());
  }

  [[noreturn]] void serve() {
    std::array<epoll_event, 64> events;
    for (;;) {
      const int n = epoll_wait(poller_.get(), events.data(), events.size(), -1);
      for (int i = 0; i < n; ++i) handle(events[static_cast<std::size_t>(i)].data.fd);
    }
  }

 private:
  struct Open {
    Fd fd;
    std::array<std::uint8_t, sizeof(Header)> head{};
    std::size_t head_bytes = 0;
    Header header{};
    Report report{};
  };

  void watch(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(poller_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("sink: epoll_ctl");
  }

  void handle(int fd) {
    if (fd == data_.get() || fd == reports_.get()) {
      Fd accepted(accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (accepted.get() < 0) return;
      const int key = accepted.get();
      const int on = 1;
      setsockopt(key, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      watch(key);
      if (fd == data_.get())
        open_[key].fd = std::move(accepted);
      else
        listeners_[key] = std::move(accepted);
      return;
    }
    if (listeners_.count(fd) != 0) {
      if (recv(fd, buffer_.data(), buffer_.size(), 0) <= 0) listeners_.erase(fd);
      return;
    }
    const auto found = open_.find(fd);
    if (found == open_.end()) return;
    const ssize_t got = recv(fd, buffer_.data(), buffer_.size(), 0);
    const std::int64_t now = tsc_ns();
    if (got > 0) {
      read(found->second, {buffer_.data(), static_cast<std::size_t>(got)}, now);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      if (found->second.head_bytes == sizeof(Header)) tell(found->second.report);
      open_.erase(found);
    }
  }

  void read(Open& open, std::span<const std::uint8_t> bytes, std::int64_t now) {
    while (!bytes.empty()) {
      if (open.head_bytes < sizeof(Header)) {
        const std::size_t n = std::min(bytes.size(), sizeof(Header) - open.head_bytes);
        std::memcpy(&open.head[open.head_bytes], bytes.data(), n);
        open.head_bytes += n;
        bytes = bytes.subspan(n);
        if (open.head_bytes < sizeof(Header)) return;
        std::memcpy(&open.header, open.head.data(), sizeof(Header));
        open.report = {open.header.id, 0, 0, now, 0};
      }
      Report& report = open.report;
      const std::uint64_t offset = report.right + report.wrong;
      const std::size_t n = std::min<std::uint64_t>(bytes.size(), open.header.size - offset);
      const std::uint64_t wrong = pattern_.count_wrong(report.id, offset, bytes.first(n));
      report.wrong += wrong;
      report.right += n - wrong;
      if (offset + n == open.header.size) {
        report.last_tsc = now;
        tell(report);
        open.head_bytes = 0;
      }
      bytes = bytes.subspan(n);
    }
  }

  void tell(const Report& report) {
    for (auto& [fd, unused] : listeners_) {
      if (send(fd, &report, sizeof report, MSG_NOSIGNAL) != sizeof report)
        fmt::print(stderr, "sink: a report could not be sent\n");
    }
  }

  Pattern pattern_;
  std::vector<std::uint8_t> buffer_ = std::vector<std::uint8_t>(256 * 1024);
  Fd poller_;
  Fd data_;
  Fd reports_;
  std::map<int, Open> open_;
  std::map<int, Fd> listeners_;
};

struct Options {
  std::string to = "10.0.0.2";
  std::uint16_t port = 5001;
  std::vector<std::uint64_t> sizes;
  bool fresh = false;
  std::size_t repeat = 20;
  std::uint64_t most_bytes = 0;
  std::size_t connections = 20;
  std::int64_t period_ns = 0;
  std::int64_t limit_ns = 0;
  std::uint64_t seed = 1;
  std::uint64_t warm_bytes = 0;
  std::uint64_t warm_chunk = 0;
};

double ms(std::int64_t ns) { return static_cast<double>(ns) / 1e6; }

/// The sender: one transfer at a time.
class Source {
 public:
  explicit Source(const Options& options)
      : options_(options),
        address_(parse_address(options.to, options.port)),
        random_(options.seed),
        session_(random_() << 32) {
    const Address reports = parse_address(options.to, static_cast<std::uint16_t>(options.port + 1));
    reports_ = Fd(socket(reports.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (reports_.get() < 0 || connect(reports_.get(), reports.get(), reports.length) != 0)
      throw_errno("connection for the sink's reports");
  }

  // Returns whether all transfers were complete and right. Ends at the first that fails.
  bool run() {
    if (!options_.fresh) {
      for (std::size_t i = 0; i < options_.connections; ++i) {
        open();
        warm_up(*connections_.back());
      }
    }
    for (const std::uint64_t size : options_.sizes) {
      const std::size_t repeat =
          std::clamp<std::size_t>(options_.most_bytes / size, 1, options_.repeat);
      const auto phases = random_phases(options_.seed, repeat, options_.period_ns);
      for (std::size_t i = 0; i < repeat; ++i) {
        if (options_.fresh) open();
        Connection& connection =
            options_.fresh ? *connections_.back() : *connections_[i % connections_.size()];
        // What fails once fails again, and takes its time for it.
        if (!measure(connection, size, i, phases[i])) return false;
      }
    }
    return clean_;
  }

 private:
  void open() {
    connections_.push_back(std::make_unique<Connection>(
        static_cast<std::uint32_t>(connections_.size()), address_, "cubic", ledger_));
  }

  // Sends enough for the guest to have opened its window.
  void warm_up(Connection& connection) {
    for (std::uint64_t at = 0; at < options_.warm_bytes; at += options_.warm_chunk) {
      const std::uint64_t id = prepare(std::min(options_.warm_chunk, options_.warm_bytes - at));
      const std::int64_t deadline = monotonic_ns() + options_.limit_ns;
      send(connection, deadline);
      const auto report = wait(id, deadline);
      if (!connection.error().empty() || !report || report->last_tsc == 0)
        throw std::runtime_error(
            fmt::format("warming up connection {}: {}", connection.number(),
                        connection.error().empty() ? "not read in time" : connection.error()));
      clean_ = clean_ && report->wrong == 0;
      fmt::print("{}\n",
                 Json{{"warm_bytes", report->right + report->wrong}, {"lost_bytes", report->wrong}}
                     .dump());
    }
  }

  // Fills data_ with the next transfer and returns its number.
  std::uint64_t prepare(std::uint64_t size) {
    const Header header{session_ | next_++, size};
    data_.resize(sizeof header + size);
    std::memcpy(data_.data(), &header, sizeof header);
    pattern_.fill(header.id, std::span(data_).subspan(sizeof header));
    return header.id;
  }

  Sending send(Connection& connection, std::int64_t deadline) {
    std::vector<Sending> sendings;
    sendings.emplace_back(connection, data_);
    drive(sendings, 1, deadline);
    return sendings.front();
  }

  // Returns whether the transfer was complete.
  bool measure(Connection& connection, std::uint64_t size, std::size_t repetition,
               std::int64_t phase_ns) {
    const std::uint64_t id = prepare(size);
    std::uint32_t retransmits_before = 0;
    if (!options_.fresh) {
      retransmits_before = connection.retransmits();
      if (connection.error().empty())
        sleep_until_ns(std::min(connection.restarted_at_ns(), monotonic_ns() + options_.limit_ns));
    }
    const std::uint32_t window = options_.fresh ? 0 : connection.window_bytes();
    sleep_until_ns(next_at_phase(0, options_.period_ns, phase_ns, monotonic_ns()));

    // The counters of both ends agree; this clock differs from them by a constant.
    const std::int64_t before = monotonic_ns();
    const std::int64_t tsc_minus_monotonic = tsc_ns() - before;
    const std::int64_t deadline = before + options_.limit_ns;
    const Sending sending = send(connection, deadline);
    const auto report = wait(id, sending.error().empty() ? deadline : monotonic_ns() + kLateNs);

    const bool read = report && report->last_tsc != 0;
    const bool failed = !sending.error().empty() || !read;
    const std::uint64_t right = report ? report->right : 0;
    Json result;
    result["size"] = size;
    result["connection"] = options_.fresh ? "fresh" : "established";
    result["repetition"] = repetition;
    result["phase_ms"] = ms(phase_ns);
    result["window_bytes"] = window;
    result["sender_ms"] = nullptr;
    result["receiver_ms"] = nullptr;
    if (!failed) {
      result["sender_ms"] = ms(sending.acknowledged_ns() - sending.started_ns());
      result["receiver_ms"] = ms(report->last_tsc - tsc_minus_monotonic - sending.started_ns());
    }
    // What was read must be right even where the rest was cut off.
    result["lost_bytes"] = failed ? (report ? report->wrong : 0) : size - right;
    result["read_bytes"] = right;
    result["retransmits"] = connection.retransmits() - retransmits_before;
    result["exact"] = sending.exact();
    result["failed"] = failed;
    if (failed)
      result["error"] = !sending.error().empty() ? sending.error()
                        : report                 ? "the guest lost the connection"
                                                 : "the guest did not read everything in time";
    clean_ = clean_ && !failed && right == size;
    fmt::print("{}\n", result.dump());
    std::fflush(stdout);
    return !failed;
  }

  // The report of transfer `id`, unless it does not come by `deadline_ns`.
  std::optional<Report> wait(std::uint64_t id, std::int64_t deadline_ns) {
    for (;;) {
      const std::int64_t left = deadline_ns - monotonic_ns();
      if (left <= 0) return std::nullopt;
      pollfd readable{reports_.get(), POLLIN, 0};
      if (poll(&readable, 1, static_cast<int>(left / 1'000'000 + 1)) <= 0) continue;
      const ssize_t got = recv(reports_.get(), reinterpret_cast<char*>(&report_) + report_bytes_,
                               sizeof report_ - report_bytes_, 0);
      if (got <= 0) return std::nullopt;
      report_bytes_ += static_cast<std::size_t>(got);
      if (report_bytes_ < sizeof report_) continue;
      report_bytes_ = 0;
      if (report_.id == id) return report_;
    }
  }

  // How long after a failure the sink may take to tell what it has read.
  static constexpr std::int64_t kLateNs = 1'000'000'000;

  Options options_;
  Address address_;
  Pattern pattern_;
  std::mt19937_64 random_;
  std::uint64_t session_;
  std::uint64_t next_ = 1;
  Ledger ledger_;
  Fd reports_;
  Report report_{};
  std::size_t report_bytes_ = 0;
  // Fresh connections too stay open to the end: closing one would wake the guest during the next.
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::uint8_t> data_;
  bool clean_ = true;
};

// Keeps the processor busy, giving way to whatever else there is to do. Virtual time passes with
// each instruction, and the emulator gets through these ones fastest.
[[noreturn]] void be_busy() {
  if (nice(19) == -1) throw_errno("busy: nice");
  for (;;) asm volatile(".rept 1000\n nop\n .endr");
}

int main_of(int argc, char** argv) {
  CLI::App app("Timed and compared TCP transfers between two guests", "xen-load");
  app.failure_message(one_line);
  app.require_subcommand(1);
  // A scenario's own words come after the usual ones.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  Options options;
  CLI::App& sink = *app.add_subcommand("sink", "receive, report on the port after --port");
  sink.add_option("--port", options.port)->capture_default_str();
  CLI::App& send = *app.add_subcommand("send", "one line of JSON for each transfer");
  std::string connection = "established";
  send.add_option("--to", options.to)->capture_default_str();
  send.add_option("--port", options.port)->capture_default_str();
  add_parsed(send, "--sizes", options.sizes, parse_sizes, "100k");
  send.add_option("--connection", connection)->check(CLI::IsMember({"established", "fresh"}));
  send.add_option("--repeat", options.repeat)->check(CLI::Range(1, 10000))->capture_default_str();
  send.add_option("--connections", options.connections, "established ones, used in turn")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  send.add_option("--seed", options.seed)->capture_default_str();
  add_parsed(send, "--phase", options.period_ns, parse_duration, "90ms");
  add_parsed(send, "--limit", options.limit_ns, parse_duration, "60s");
  add_parsed(send, "--most", options.most_bytes, parse_positive, "10G",
             "bytes of all transfers of one size: fewer of the large ones");
  add_parsed(send, "--warm", options.warm_bytes, parse_size, "1M");
  add_parsed(send, "--warm-chunk", options.warm_chunk, parse_positive, "64k");
  CLI::App& busy = *app.add_subcommand("busy", "keep the processor busy");
  CLI11_PARSE(app, argc, argv);
  if (busy.parsed()) be_busy();
  if (sink.parsed()) Sink(options.port).serve();
  options.fresh = connection == "fresh";
  return Source(options).run() ? 0 : 1;
}

}  // namespace
}  // namespace vsnoop::load

int main(int argc, char** argv) {
  try {
    return vsnoop::load::main_of(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "xen-load: {}\n", error.what());
    return 2;
  }
}
