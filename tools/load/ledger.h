// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>

#include "tools/load/pattern.h"

namespace vsnoop::load {

/// What the guest knows about one transfer.
struct Receipt {
  std::uint64_t right = 0;       ///< bytes read that were as sent
  std::uint64_t wrong = 0;       ///< bytes read that were not
  std::int64_t finished_ns = 0;  ///< CLOCK_MONOTONIC when the last byte was read; 0: not yet
  bool cut = false;              ///< the connection ended before the last byte
};

/// The book that peer and guest keep together, in memory, so that nothing they tell each other
/// travels over the network that is measured. The peer announces connections and transfers before
/// the first byte; the guest enters what it reads. All members may be called from any thread.
class Ledger {
 public:
  /// Peer: the connection whose source port is `peer_port` (host byte order) is number
  /// `connection`.
  void announce(std::uint16_t peer_port, std::uint32_t connection);

  /// Peer: the next `size` bytes (> 0) of `key.connection` are transfer `key.transfer`.
  void expect(PatternKey key, std::uint64_t size);

  /// Guest: the connection announced for `peer_port`, or nothing if nobody announced it.
  std::optional<std::uint32_t> connection_of(std::uint16_t peer_port) const;

  /// Guest: `bytes` were the next ones read from `connection`, by CLOCK_MONOTONIC `now_ns`.
  /// Compares each of them; bytes that no transfer expects are counted as stray.
  void read(std::uint32_t connection, std::span<const std::uint8_t> bytes, std::int64_t now_ns);

  /// Guest: nothing more will come on `connection`.
  void ended(std::uint32_t connection);

  /// Peer: waits until transfer `key` is complete or cut, or CLOCK_MONOTONIC is `deadline_ns`.
  /// Returns what is known then. `key` was announced with expect().
  Receipt wait(PatternKey key, std::int64_t deadline_ns);

  /// Bytes that arrived although no transfer expected them.
  std::uint64_t stray() const;

 private:
  struct Transfer {
    std::uint32_t number;
    std::uint64_t size;
    Receipt receipt;
  };
  struct Connection {
    std::deque<Transfer> transfers;
    std::size_t current = 0;  // index of the first unfinished transfer
    bool ended = false;
  };

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint16_t, std::uint32_t> ports_;
  std::map<std::uint32_t, Connection> connections_;
  std::uint64_t stray_ = 0;
};

inline void Ledger::announce(std::uint16_t peer_port, std::uint32_t connection) {
  const std::lock_guard lock(mutex_);
  ports_[peer_port] = connection;
  connections_[connection];
}

inline void Ledger::expect(PatternKey key, std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  Connection& connection = connections_[key.connection];
  Transfer transfer{key.transfer, size, {}};
  transfer.receipt.cut = connection.ended;
  connection.transfers.push_back(transfer);
}

inline std::optional<std::uint32_t> Ledger::connection_of(std::uint16_t peer_port) const {
  const std::lock_guard lock(mutex_);
  const auto found = ports_.find(peer_port);
  if (found == ports_.end()) return std::nullopt;
  return found->second;
}

inline void Ledger::read(std::uint32_t connection, std::span<const std::uint8_t> bytes,
                         std::int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  Connection& c = connections_[connection];
  while (!bytes.empty() && c.current < c.transfers.size()) {
    Transfer& transfer = c.transfers[c.current];
    Receipt& receipt = transfer.receipt;
    const std::uint64_t offset = receipt.right + receipt.wrong;
    const std::size_t n = std::min<std::uint64_t>(bytes.size(), transfer.size - offset);
    const std::size_t wrong = count_wrong({connection, transfer.number}, offset, bytes.first(n));
    receipt.wrong += wrong;
    receipt.right += n - wrong;
    if (offset + n == transfer.size) {
      receipt.finished_ns = now_ns;
      ++c.current;
      changed_.notify_all();
    }
    bytes = bytes.subspan(n);
  }
  stray_ += bytes.size();
}

inline void Ledger::ended(std::uint32_t connection) {
  const std::lock_guard lock(mutex_);
  Connection& c = connections_[connection];
  c.ended = true;
  for (std::size_t i = c.current; i < c.transfers.size(); ++i) c.transfers[i].receipt.cut = true;
  changed_.notify_all();
}

inline Receipt Ledger::wait(PatternKey key, std::int64_t deadline_ns) {
  std::unique_lock lock(mutex_);
  const std::deque<Transfer>& transfers = connections_[key.connection].transfers;
  const auto found = std::find_if(transfers.begin(), transfers.end(),
                                  [&](const Transfer& t) { return t.number == key.transfer; });
  if (found == transfers.end()) throw std::logic_error("wait for a transfer nobody announced");
  const Receipt& receipt = found->receipt;
  const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
  changed_.wait_until(lock, deadline, [&] { return receipt.finished_ns != 0 || receipt.cut; });
  return receipt;
}

inline std::uint64_t Ledger::stray() const {
  const std::lock_guard lock(mutex_);
  return stray_;
}

}  // namespace vsnoop::load
