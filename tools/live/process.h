// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The process that a bridge runs in: it must not die with promises open, must not wait for whoever
// reads what it says, and keeps no right that it does not need.
#pragma once

#include <cstdint>
#include <string>

namespace vsnoop::live {

/// Prints "vsnoop live: TEXT" on standard error. Never fails and never waits: a line that would
/// block, or for which there is no room any more, is dropped.
void say(const std::string& text);
/// The same without the name in front.
void say_plainly(const std::string& text);

/// Gives standard input, output and error to /dev/null where they are closed: no socket may come
/// to stand there.
void open_standard_files();

/// Every signal that would end the process, as something to poll.
class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  enum class What {
    kNothing,
    kDrain,      ///< no new promises; end when the old ones are kept
    kAgain,      ///< the same request a second time: end at once
    kStatistics  ///< SIGUSR1
  };
  int descriptor() const { return descriptor_; }
  What next();

 private:
  int descriptor_;
  bool asked_ = false;
};

/// Exclusive use of a pair of interfaces by one process, for as long as it lives.
class PairLock {
 public:
  /// Throws std::runtime_error if another process in this network namespace has it.
  PairLock(uint32_t one, uint32_t other);
  ~PairLock();
  PairLock(const PairLock&) = delete;
  PairLock& operator=(const PairLock&) = delete;

 private:
  int socket_;
};

/// Keeps CAP_NET_RAW and CAP_NET_ADMIN, which an interface that comes back needs, and no other
/// right: becomes `user` if it is root, and gains nothing by executing anything. Throws
/// std::runtime_error if there is no such user.
void drop_privileges(const std::string& user);

/// Creates a file that only its owner may read, or empties one that is there; follows no symbolic
/// link. Returns its descriptor. Throws std::runtime_error that begins with `option`.
int create_private(const std::string& option, const std::string& path);

}  // namespace vsnoop::live
