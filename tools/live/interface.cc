// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/interface.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

namespace vsnoop::live {
namespace {

/// ioctl()s on an interface by name.
class Query {
 public:
  explicit Query(const std::string& name) : socket_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    name.copy(request_.ifr_name, IFNAMSIZ - 1);
  }
  ~Query() { close(socket_); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  bool ask(unsigned long what) { return ioctl(socket_, what, &request_) == 0; }
  ifreq& request() { return request_; }

 private:
  int socket_;
  ifreq request_{};
};

}  // namespace

InterfaceState interface_state(const std::string& name) {
  InterfaceState state;
  Query query(name);
  if (name.size() >= IFNAMSIZ || !query.ask(SIOCGIFINDEX)) return state;
  state.index = static_cast<uint32_t>(query.request().ifr_ifindex);
  if (query.ask(SIOCGIFMTU)) state.mtu = static_cast<uint32_t>(query.request().ifr_mtu);
  state.up = query.ask(SIOCGIFFLAGS) && query.request().ifr_flags & IFF_UP;
  return state;
}

InterfaceDoubts interface_doubts(const std::string& name) {
  InterfaceDoubts doubts;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) == 0) {
    for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
      if (name != entry->ifa_name || !entry->ifa_addr) continue;
      char text[INET6_ADDRSTRLEN] = "";
      if (entry->ifa_addr->sa_family == AF_INET) {
        const auto& address = reinterpret_cast<sockaddr_in*>(entry->ifa_addr)->sin_addr;
        if (ntohl(address.s_addr) >> 16 == 0xa9fe) continue;  // 169.254/16
        inet_ntop(AF_INET, &address, text, sizeof text);
      } else if (entry->ifa_addr->sa_family == AF_INET6) {
        const auto& address = reinterpret_cast<sockaddr_in6*>(entry->ifa_addr)->sin6_addr;
        if (IN6_IS_ADDR_LINKLOCAL(&address)) continue;
        inet_ntop(AF_INET6, &address, text, sizeof text);
      } else {
        continue;
      }
      doubts.addresses.emplace_back(text);
    }
    freeifaddrs(list);
  }

  Query query(name);
  ethtool_value flags{ETHTOOL_GFLAGS, 0};
  query.request().ifr_data = reinterpret_cast<char*>(&flags);
  doubts.lro = query.ask(SIOCETHTOOL) && flags.data & ETH_FLAG_LRO;

  // /sys may show another namespace's interfaces: the index tells.
  const std::string path = "/sys/class/net/" + name;
  uint32_t index = 0;
  if (std::ifstream(path + "/ifindex") >> index && index == interface_state(name).index)
    doubts.slave = access((path + "/master").c_str(), F_OK) == 0;
  return doubts;
}

}  // namespace vsnoop::live
