// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/load/guest.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <future>
#include <map>
#include <vector>

namespace vsnoop::load {
namespace {

void watch(int poller, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("guest: epoll_ctl");
}

Fd listen_on(const Address& address, const std::string& congestion) {
  Fd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) throw_errno("guest: socket");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  set_congestion(fd.get(), congestion);
  if (bind(fd.get(), address.get(), address.length) != 0)
    throw_errno("guest: bind to the address given with --address");
  if (listen(fd.get(), SOMAXCONN) != 0) throw_errno("guest: listen");
  return fd;
}

}  // namespace

Guest::Guest(const std::string& netns, const Address& address, const std::string& congestion,
             Ledger& ledger)
    : ledger_(ledger),
      poller_(epoll_create1(EPOLL_CLOEXEC)),
      stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (poller_.get() < 0 || stop_.get() < 0) throw_errno("guest: epoll_create1 or eventfd");
  watch(poller_.get(), stop_.get());
  // A socket belongs to the namespace its thread is in, so the thread itself has to listen.
  std::promise<void> ready;
  thread_ = std::thread([this, netns, address, congestion, &ready] {
    try {
      enter_netns(netns);
      listener_ = listen_on(address, congestion);
      watch(poller_.get(), listener_.get());
    } catch (...) {
      ready.set_exception(std::current_exception());
      return;
    }
    ready.set_value();
    serve();
  });
  try {
    ready.get_future().get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Guest::~Guest() {
  const std::uint64_t one = 1;
  if (write(stop_.get(), &one, sizeof one) == sizeof one) thread_.join();
}

void Guest::serve() {
  struct Open {
    Fd fd;
    std::uint32_t connection;
  };
  std::map<int, Open> open;
  std::vector<std::uint8_t> buffer(256 * 1024);
  std::array<epoll_event, 64> events;
  for (;;) {
    const int n = epoll_wait(poller_.get(), events.data(), events.size(), -1);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == stop_.get()) return;
      if (fd == listener_.get()) {
        Address from;
        from.length = sizeof from.storage;
        Fd accepted(accept4(fd, reinterpret_cast<sockaddr*>(&from.storage), &from.length,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
        if (accepted.get() < 0) continue;
        const auto connection = ledger_.connection_of(port_of(from.storage));
        if (!connection) continue;
        reset_on_close(accepted.get());
        watch(poller_.get(), accepted.get());
        const int key = accepted.get();
        open.emplace(key, Open{std::move(accepted), *connection});
        continue;
      }
      const auto found = open.find(fd);
      if (found == open.end()) continue;
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      const std::int64_t now = monotonic_ns();
      if (got > 0) {
        ledger_.read(found->second.connection, {buffer.data(), static_cast<std::size_t>(got)}, now);
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        ledger_.ended(found->second.connection);
        open.erase(found);
      }
    }
  }
}

}  // namespace vsnoop::load
