// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <utility>

namespace vsnoop::load {

/// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

/// An IPv4 or IPv6 address with port, as the socket calls want it.
struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

/// Throws std::system_error for errno; `what` names the call and what it was for.
[[noreturn]] void throw_errno(const std::string& what);

/// CLOCK_MONOTONIC, ns.
std::int64_t monotonic_ns();

/// CLOCK_REALTIME minus CLOCK_MONOTONIC, ns, from the tightest of a few readings (well below 1 us
/// off on an idle machine).
std::int64_t realtime_offset_ns();

/// Sleeps until CLOCK_MONOTONIC is `ns`.
void sleep_until_ns(std::int64_t ns);

/// Parses a numeric address. Throws std::invalid_argument.
Address parse_address(const std::string& host, std::uint16_t port);

/// The port of a bound or connected address, host byte order.
std::uint16_t port_of(const sockaddr_storage& address);

/// Moves the calling thread into /run/netns/`name`; an empty name leaves it where it is.
/// Throws std::system_error.
void enter_netns(const std::string& name);

/// Sets the congestion control of a TCP socket (root may use any that is there; the sysctl of a
/// namespace accepts only the host's default). Throws std::system_error.
void set_congestion(int fd, const std::string& name);

/// Makes close() reset the connection at once, so that nothing of it is left on the network.
void reset_on_close(int fd);

}  // namespace vsnoop::load
