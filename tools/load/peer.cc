// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/load/peer.h"

#include <fmt/format.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/tcp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

namespace vsnoop::load {
namespace {

// How often the send queue is looked at when the kernel gives no time stamps, and how long a time
// stamp that should have come is waited for.
constexpr std::int64_t kLookNs = 50'000;
constexpr int kStampWaitMs = 20;

constexpr unsigned kInitialWindow = 10;  // segments, Linux's TCP_INIT_CWND

tcp_info info_of(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length);
  return info;
}

int pending_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

std::string describe(const char* what, int error) {
  return fmt::format("{}: {}", what, std::generic_category().message(error));
}

}  // namespace

Connection::Connection(std::uint32_t number, const Address& guest, const std::string& congestion,
                       Ledger& ledger)
    : fd_(socket(guest.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
      number_(number),
      guest_(guest) {
  if (fd_.get() < 0) throw_errno("peer: socket");
  set_congestion(fd_.get(), congestion);
  // A partial last segment must not wait for the acknowledgement of another partial one.
  const int on = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  reset_on_close(fd_.get());
  // The guest finds out which connection it accepted by the port, so the port must be known before
  // the handshake starts.
  Address any;
  any.storage.ss_family = static_cast<sa_family_t>(guest.family());
  any.length = guest.length;
  if (bind(fd_.get(), any.get(), any.length) != 0) throw_errno("peer: bind");
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0)
    throw_errno("peer: getsockname");
  ledger.announce(port_of(bound), number);
}

Connection::~Connection() = default;

std::uint32_t Connection::retransmits() const { return info_of(fd_.get()).tcpi_total_retrans; }

std::uint32_t Connection::window_bytes() const { return info_of(fd_.get()).tcpi_snd_wnd; }

std::int64_t Connection::restarted_at_ns() const {
  // Each whole retransmission timeout of idleness beyond the first halves the window once.
  const tcp_info info = info_of(fd_.get());
  std::int64_t timeouts = 2;
  for (std::uint32_t window = info.tcpi_snd_cwnd; window > kInitialWindow; window /= 2) ++timeouts;
  return monotonic_ns() - std::int64_t{info.tcpi_last_data_sent} * 1'000'000 +
         timeouts * std::int64_t{info.tcpi_rto} * 1'000;
}

void Sending::fail(std::string why) { connection_.error_ = std::move(why); }

void Sending::on_connected() {
  connection_.state_ = Connection::State::connected;
  // Requests for stamps go with each write; here the kernel learns how to report them: in software,
  // numbered by byte, without a copy of the data.
  const unsigned flags =
      SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
  connection_.stamps_ =
      setsockopt(connection_.fd_.get(), SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof flags) == 0;
  if (data_.empty()) acknowledged_ns_ = monotonic_ns();
}

void Sending::write_some() {
  while (written_ < data_.size()) {
    iovec part{const_cast<std::uint8_t*>(data_.data()) + written_, data_.size() - written_};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(std::uint32_t))] = {};
    if (connection_.stamps_) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SO_TIMESTAMPING;
      header->cmsg_len = CMSG_LEN(sizeof(std::uint32_t));
      const std::uint32_t request = SOF_TIMESTAMPING_TX_ACK;
      std::memcpy(CMSG_DATA(header), &request, sizeof request);
    }
    const ssize_t n = sendmsg(connection_.fd_.get(), &message, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) fail(describe("send", errno));
      return;
    }
    written_ += static_cast<std::size_t>(n);
    connection_.stamped_bytes_ += static_cast<std::uint32_t>(n);
  }
}

void Sending::read_stamps() {
  for (;;) {
    alignas(cmsghdr) char control[512];
    msghdr message{};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(connection_.fd_.get(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
    std::optional<std::int64_t> realtime_ns;
    bool last_byte = false;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
        scm_timestamping stamps;
        std::memcpy(&stamps, CMSG_DATA(c), sizeof stamps);
        realtime_ns = std::int64_t{stamps.ts[0].tv_sec} * 1'000'000'000 + stamps.ts[0].tv_nsec;
      } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                 (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) {
        sock_extended_err error;
        std::memcpy(&error, CMSG_DATA(c), sizeof error);
        last_byte = error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING &&
                    error.ee_info == SCM_TSTAMP_ACK && written_ == data_.size() &&
                    error.ee_data == connection_.stamped_bytes_ - 1;
      }
    }
    if (!last_byte || !realtime_ns) continue;
    const std::int64_t now = monotonic_ns();
    acknowledged_ns_ = *realtime_ns - realtime_offset_ns();
    // Only a step of the wall clock between stamp and now can put it outside.
    if (acknowledged_ns_ < started_ns_ || acknowledged_ns_ > now) {
      acknowledged_ns_ = now;
      exact_ = false;
    }
  }
}

bool Sending::queue_empty() const {
  // Unlike SIOCOUTQ this waits for an acknowledgement that is just being processed.
  const tcp_info info = info_of(connection_.fd_.get());
  return info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0;
}

pollfd Sending::waits_for() const {
  const bool writable =
      connection_.state_ == Connection::State::connecting || written_ < data_.size();
  // Without POLLOUT only POLLERR, which is always reported, remains of interest.
  return {connection_.fd_.get(), static_cast<short>(writable ? POLLOUT : 0), 0};
}

// All is written, and nothing will wake us when it is acknowledged.
bool Sending::blind() const {
  return connection_.state_ == Connection::State::connected && written_ == data_.size() &&
         !connection_.stamps_;
}

void Sending::advance() {
  const int fd = connection_.fd_.get();
  if (started_ns_ == 0) {
    started_ns_ = monotonic_ns();
    if (connection_.state_ == Connection::State::created) {
      connection_.state_ = Connection::State::connecting;
      if (connect(fd, connection_.guest_.get(), connection_.guest_.length) != 0 &&
          errno != EINPROGRESS)
        return fail(describe("connect", errno));
    }
  }
  if (connection_.state_ == Connection::State::connecting) {
    pollfd writable{fd, POLLOUT, 0};
    if (poll(&writable, 1, 0) <= 0) return;
    if (const int error = pending_error(fd); error != 0) return fail(describe("connect", error));
    on_connected();
  }
  write_some();
  read_stamps();
  if (finished()) return;
  if (const int error = pending_error(fd); error != 0) return fail(describe("connection", error));
  if (written_ < data_.size() || !queue_empty()) return;
  // Acknowledged. The stamp comes before the queue is seen empty: not there now, never there.
  read_stamps();
  if (finished()) return;
  acknowledged_ns_ = monotonic_ns();
  exact_ = false;
}

void drive(std::span<Sending> sendings, std::size_t at_once, std::int64_t deadline_ns) {
  std::size_t next = 0;
  std::vector<Sending*> active;
  std::vector<pollfd> polls;
  for (;;) {
    std::erase_if(active, [](const Sending* s) { return s->finished(); });
    while (active.size() < at_once && next < sendings.size()) {
      Sending& sending = sendings[next++];
      if (!sending.finished()) sending.advance();
      if (!sending.finished()) active.push_back(&sending);
    }
    if (active.empty()) return;
    const std::int64_t now = monotonic_ns();
    if (now >= deadline_ns) {
      for (Sending* sending : active) sending->fail("time limit reached");
      for (; next < sendings.size(); ++next) sendings[next].fail("time limit reached");
      return;
    }
    polls.clear();
    for (const Sending* sending : active) polls.push_back(sending->waits_for());
    if (std::any_of(active.begin(), active.end(), [](const Sending* s) { return s->blind(); }))
      sleep_until_ns(now + kLookNs);
    else
      poll(polls.data(), polls.size(), kStampWaitMs);
    for (Sending* sending : active) sending->advance();
  }
}

}  // namespace vsnoop::load
