// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <stdexcept>

namespace vsnoop::live {
namespace {

constexpr uint64_t kKept = 1ULL << CAP_NET_RAW | 1ULL << CAP_NET_ADMIN;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(errno)));
}

// What ends a process that does not expect it, faults of its own excepted.
sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR2, SIGVTALRM, SIGPROF,
                           SIGPOLL, SIGPWR, SIGXCPU, SIGSTKFLT})
    sigaddset(&set, signal);
  for (int signal = SIGRTMIN; signal <= SIGRTMAX; ++signal) sigaddset(&set, signal);
  return set;
}

// Sets all capability sets of the process to `kept`, as far as it has them.
void keep_capabilities(uint64_t kept) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) != 0) fail("capget");
  for (int i = 0; i < 2; ++i) {
    const auto mask = static_cast<uint32_t>(kept >> (32 * i));
    data[i].permitted &= mask;
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data) != 0) fail("capset");
}

}  // namespace

void say_plainly(const std::string& text) {
  const std::string line = text + "\n";
  // Room for a short line means room for a whole one in a pipe (PIPE_BUF).
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT)) return;
  [[maybe_unused]] const ssize_t lost =
      ::write(STDERR_FILENO, line.data(), std::min<size_t>(line.size(), 4096));
}

void say(const std::string& text) { say_plainly("vsnoop live: " + text); }

void open_standard_files() {
  for (int descriptor = 0; descriptor < 3; ++descriptor)
    if (fcntl(descriptor, F_GETFD) < 0)
      while (open("/dev/null", O_RDWR) < 0 && errno == EINTR) {
      }
}

Signals::Signals() {
  // A file at its limit, a terminal that belongs to another: what is lost is text.
  for (const int signal : {SIGXFSZ, SIGTTOU, SIGTTIN}) ::signal(signal, SIG_IGN);
  sigset_t set = ending_signals();
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGPIPE);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (descriptor_ < 0) fail("signalfd");
}

Signals::~Signals() { close(descriptor_); }

Signals::What Signals::next() {
  signalfd_siginfo info;
  if (read(descriptor_, &info, sizeof info) != sizeof info) return What::kNothing;
  if (info.ssi_signo == SIGUSR1) return What::kStatistics;
  // Of a pipe that was closed behind our own output: what is lost is text.
  if (info.ssi_signo == SIGPIPE && info.ssi_pid == static_cast<uint32_t>(getpid()))
    return What::kNothing;
  // A service manager sends SIGTERM and SIGHUP together, a terminal that closes SIGHUP after what
  // was typed: only who says the same again is in a hurry.
  const bool asks = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
  const bool again = asks && asked_;
  asked_ |= asks;
  return again ? What::kAgain : What::kDrain;
}

PairLock::PairLock(uint32_t one, uint32_t other)
    : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
  if (socket_ < 0) fail("a socket to lock the interfaces with");
  // An abstract address: of this network namespace, and gone with the process.
  const std::string name =
      fmt::format("vsnoop-live/{}/{}", std::min(one, other), std::max(one, other));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0) return;
  const int error = errno;
  close(socket_);
  errno = error;
  if (error == EADDRINUSE)
    throw std::runtime_error(
        "another vsnoop live bridges these two interfaces already: every frame would come twice");
  fail("locking the interfaces");
}

PairLock::~PairLock() { close(socket_); }

void drop_privileges(const std::string& user) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("PR_SET_NO_NEW_PRIVS");
  if (geteuid() == 0) {
    const passwd* entry = getpwnam(user.c_str());
    if (!entry)
      throw std::runtime_error(fmt::format("--user {}: there is no such user here", user));
    // While it still may: nothing can be had again by executing a program.
    for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; ++i)
      if (!(kKept >> i & 1)) prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    if (entry->pw_uid != 0) {
      prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
      // In a user namespace that knows no such user, root of that namespace stays: it owns nothing
      // outside.
      if (setgroups(0, nullptr) == 0 || errno == EPERM) {
        if (setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0 && errno != EINVAL)
          fail("setresgid");
        if (setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0 && errno != EINVAL)
          fail("setresuid");
      }
    }
  }
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  keep_capabilities(kKept);
}

int create_private(const std::string& option, const std::string& path) {
  // Not to wait is for pipes: whoever reads one must not hold up the bridge.
  const int file =
      open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
  if (file < 0) {
    const char* what = errno == ELOOP   ? "is a symbolic link, which is not followed"
                       : errno == ENXIO ? "is a pipe that nobody reads"
                                        : std::strerror(errno);
    throw std::runtime_error(fmt::format("{} {}: {}", option, path, what));
  }
  struct stat status {};
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    if (status.st_uid != geteuid()) {
      close(file);
      throw std::runtime_error(
          fmt::format("{} {}: belongs to another user; remove it first", option, path));
    }
    if (fchmod(file, 0600) != 0 || ftruncate(file, 0) != 0) {
      const int error = errno;
      close(file);
      throw std::runtime_error(fmt::format("{} {}: {}", option, path, std::strerror(error)));
    }
  }
  return file;
}

}  // namespace vsnoop::live
