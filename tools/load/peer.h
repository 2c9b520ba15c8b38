// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <poll.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/load/ledger.h"
#include "tools/load/net.h"

namespace vsnoop::load {

/// The peer's end of one connection. Connects without blocking; the constructor only creates the
/// socket, so that the time of connect() can be part of a measurement.
class Connection {
 public:
  /// Creates the socket and announces its port as connection `number`. `congestion` names a
  /// congestion control. Throws std::system_error.
  Connection(std::uint32_t number, const Address& guest, const std::string& congestion,
             Ledger& ledger);
  ~Connection();

  std::uint32_t number() const { return number_; }
  /// Why the connection cannot be used any more; empty while it can.
  const std::string& error() const { return error_; }

  /// Retransmitted segments since the connection was opened.
  std::uint32_t retransmits() const;

  /// The window the guest has offered last, bytes.
  std::uint32_t window_bytes() const;

  /// CLOCK_MONOTONIC at which Linux, before it sends again, will have brought the congestion window
  /// down to the initial one because the connection was idle (tcp_slow_start_after_idle).
  std::int64_t restarted_at_ns() const;

 private:
  friend class Sending;

  Fd fd_;
  std::uint32_t number_;
  Address guest_;
  enum class State { created, connecting, connected } state_ = State::created;
  bool stamps_ = false;              // the kernel reports when bytes are acknowledged
  std::uint32_t stamped_bytes_ = 0;  // bytes written since it does: the number of the next byte
  std::string error_;
};

/// One write of `data` to a connection, connecting first if that has not been done.
/// An empty `data` only connects.
class Sending {
 public:
  Sending(Connection& connection, std::span<const std::uint8_t> data)
      : connection_(connection), data_(data) {}

  /// CLOCK_MONOTONIC just before connect() or the first write.
  std::int64_t started_ns() const { return started_ns_; }
  /// CLOCK_MONOTONIC at which the last byte was acknowledged; 0: not yet.
  std::int64_t acknowledged_ns() const { return acknowledged_ns_; }
  /// The acknowledgement's time is the kernel's own; otherwise it is when a look at the send queue
  /// found it empty.
  bool exact() const { return exact_; }
  bool finished() const { return acknowledged_ns_ != 0 || !connection_.error_.empty(); }
  const std::string& error() const { return connection_.error_; }

 private:
  friend void drive(std::span<Sending> sendings, std::size_t at_once, std::int64_t deadline_ns);

  void advance();
  pollfd waits_for() const;
  bool blind() const;
  void fail(std::string why);
  void on_connected();
  void write_some();
  void read_stamps();
  bool queue_empty() const;

  Connection& connection_;
  std::span<const std::uint8_t> data_;
  std::size_t written_ = 0;
  std::int64_t started_ns_ = 0;
  std::int64_t acknowledged_ns_ = 0;
  bool exact_ = true;
};

/// Carries `sendings` out, at most `at_once` (> 0) at a time in the order given, until each has
/// been acknowledged or has failed. Those unfinished when CLOCK_MONOTONIC is `deadline_ns` fail.
void drive(std::span<Sending> sendings, std::size_t at_once, std::int64_t deadline_ns);

}  // namespace vsnoop::load
