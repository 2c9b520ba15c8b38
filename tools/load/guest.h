// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <string>
#include <thread>

#include "tools/load/ledger.h"
#include "tools/load/net.h"

namespace vsnoop::load {

/// The application inside the guest: accepts connections, reads everything as fast as it comes and
/// enters it in the ledger. One thread, in the guest's network namespace.
class Guest {
 public:
  /// Listens on `address` in namespace `netns`, with congestion control `congestion`. Connections
  /// can be made once the constructor returns. Throws std::system_error. `ledger` outlives the
  /// object.
  Guest(const std::string& netns, const Address& address, const std::string& congestion,
        Ledger& ledger);

  /// Resets the connections that are still open and stops the thread.
  ~Guest();

  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

 private:
  void serve();

  Ledger& ledger_;
  Fd listener_;
  Fd poller_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace vsnoop::load
