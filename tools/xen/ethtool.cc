// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The kernel's ethtool ioctl.
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "tools/xen/fail.h"
#include "tools/xen/host.h"

namespace vsnoop::xen {
namespace {

class Socket {
 public:
  Socket() : descriptor_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (descriptor_ < 0) fail("socket");
  }
  ~Socket() { close(descriptor_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  /// False if there is no such interface.
  bool ethtool(const std::string& interface, void* command) const {
    ifreq request{};
    interface.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_data = static_cast<char*>(command);
    if (ioctl(descriptor_, SIOCETHTOOL, &request) == 0) return true;
    if (errno != ENODEV) fail(fmt::format("counters of {}", interface));
    return false;
  }

 private:
  int descriptor_;
};

// A command of the ethtool ioctl, with room for an answer behind it.
template <typename Command>
class WithRoom {
 public:
  explicit WithRoom(size_t bytes) : memory_((sizeof(Command) + bytes + 7) / 8) {}
  Command* operator->() { return get(); }
  Command* get() { return reinterpret_cast<Command*>(memory_.data()); }

 private:
  std::vector<uint64_t> memory_;
};

}  // namespace

std::optional<Counters> ethtool_counters(const std::string& interface) {
  const Socket socket;
  WithRoom<ethtool_sset_info> set(sizeof(uint32_t));
  set->cmd = ETHTOOL_GSSET_INFO;
  set->sset_mask = 1ULL << ETH_SS_STATS;
  if (!socket.ethtool(interface, set.get())) return std::nullopt;
  const uint32_t count = set->sset_mask ? set->data[0] : 0;
  if (count == 0) return Counters();

  WithRoom<ethtool_gstrings> names(size_t{count} * ETH_GSTRING_LEN);
  names->cmd = ETHTOOL_GSTRINGS;
  names->string_set = ETH_SS_STATS;
  names->len = count;
  WithRoom<ethtool_stats> values(count * sizeof(uint64_t));
  values->cmd = ETHTOOL_GSTATS;
  values->n_stats = count;
  if (!socket.ethtool(interface, names.get()) || !socket.ethtool(interface, values.get()))
    return std::nullopt;
  Counters counters;
  for (uint32_t i = 0; i < count; ++i) {
    const char* name = reinterpret_cast<const char*>(names->data) + size_t{i} * ETH_GSTRING_LEN;
    counters.emplace_back(std::string(name, strnlen(name, ETH_GSTRING_LEN)), values->data[i]);
  }
  return counters;
}

}  // namespace vsnoop::xen
