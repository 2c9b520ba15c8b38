// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/interface.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace vsnoop::live {
namespace {

constexpr size_t kAltName = 128;  // ALTIFNAMSIZ of linux/if.h, which does not go with net/if.h

class Socket {
 public:
  Socket(int family, int type, int protocol)
      : descriptor_(socket(family, type | SOCK_CLOEXEC, protocol)) {}
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

uint32_t number(const rtattr* attribute) {
  uint32_t value = 0;
  if (RTA_PAYLOAD(attribute) >= sizeof value)
    std::memcpy(&value, RTA_DATA(attribute), sizeof value);
  return value;
}

// Calls `see` with each attribute in a range of them.
template <typename See>
void for_each(const rtattr* attribute, size_t bytes, See see) {
  for (auto left = static_cast<int>(bytes); RTA_OK(attribute, left);
       attribute = RTA_NEXT(attribute, left))
    see(*attribute);
}
template <typename See>
void for_each_in(const rtattr& nest, See see) {
  for_each(static_cast<const rtattr*>(RTA_DATA(&nest)), RTA_PAYLOAD(&nest), see);
}

void read_kind(const rtattr& info, InterfaceState& state) {
  for_each_in(info, [&](const rtattr& part) {
    if (part.rta_type == IFLA_INFO_KIND)
      state.kind.assign(static_cast<const char*>(RTA_DATA(&part)),
                        strnlen(static_cast<const char*>(RTA_DATA(&part)), RTA_PAYLOAD(&part)));
    if (part.rta_type == IFLA_INFO_DATA && state.is_macvlan())
      for_each_in(part, [&](const rtattr& data) {
        if (data.rta_type == IFLA_MACVLAN_MODE)
          state.passthru = number(&data) == MACVLAN_MODE_PASSTHRU;
      });
  });
}

InterfaceState read_link(const nlmsghdr* message) {
  const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  InterfaceState state;
  state.index = static_cast<uint32_t>(link->ifi_index);
  state.type = link->ifi_type;
  state.up = link->ifi_flags & IFF_UP;
  state.carrier = link->ifi_flags & IFF_RUNNING;
  bool lower_elsewhere = false;
  for_each(IFLA_RTA(link), IFLA_PAYLOAD(message), [&](const rtattr& attribute) {
    switch (attribute.rta_type) {
      case IFLA_IFNAME:
        state.name = static_cast<const char*>(RTA_DATA(&attribute));
        break;
      case IFLA_MTU:
        state.mtu = number(&attribute);
        break;
      case IFLA_MASTER:
        state.master = number(&attribute);
        break;
      case IFLA_LINK:
        state.lower = number(&attribute);
        break;
      case IFLA_LINK_NETNSID:
        lower_elsewhere = true;
        break;
      case IFLA_LINKINFO:
        read_kind(attribute, state);
        break;
      default:
        break;
    }
  });
  if (lower_elsewhere || state.lower == state.index) state.lower = 0;
  return state;
}

// Asks for one link, by index or, if that is 0, by name.
InterfaceState ask(uint32_t index, const std::string& name) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
    alignas(NLMSG_ALIGNTO) char attributes[256];
  } request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.link);
  request.header.nlmsg_type = RTM_GETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.link.ifi_index = static_cast<int>(index);
  if (index == 0) {
    if (name.empty() || name.size() >= kAltName) return {};
    auto* attribute = reinterpret_cast<rtattr*>(request.attributes);
    attribute->rta_type = name.size() < IFNAMSIZ ? IFLA_IFNAME : IFLA_ALT_IFNAME;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(name.size() + 1));
    std::memcpy(RTA_DATA(attribute), name.c_str(), name.size() + 1);
    request.header.nlmsg_len += RTA_ALIGN(attribute->rta_len);
  }
  const Socket netlink(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (netlink.get() < 0 ||
      send(netlink.get(), &request, request.header.nlmsg_len, MSG_NOSIGNAL) < 0)
    return {};
  alignas(NLMSG_ALIGNTO) char answer[32768];
  const ssize_t got = recv(netlink.get(), answer, sizeof answer, 0);
  const auto* message = reinterpret_cast<nlmsghdr*>(answer);
  if (got <= 0 || !NLMSG_OK(message, static_cast<size_t>(got)) ||
      message->nlmsg_type != RTM_NEWLINK)
    return {};
  return read_link(message);
}

// Whether frames come from one to the other without us: through bridges and bonds, and veth pairs
// between them.
bool joined(const InterfaceState& peer, const InterfaceState& guest,
            const std::vector<InterfaceState>& all) {
  const auto edge = [](const InterfaceState& a, const InterfaceState& b) {
    return a.master == b.index || (a.kind == "veth" && a.lower == b.index);
  };
  std::vector<const InterfaceState*> reached{&peer};
  for (size_t at = 0; at < reached.size(); ++at) {
    if (reached[at]->index == guest.index) return true;
    for (const InterfaceState& other : all) {
      const bool known = std::any_of(reached.begin(), reached.end(),
                                     [&](const auto* r) { return r->index == other.index; });
      if (!known && (edge(*reached[at], other) || edge(other, *reached[at])))
        reached.push_back(&other);
    }
  }
  return false;
}

}  // namespace

std::vector<InterfaceState> interfaces() {
  std::vector<InterfaceState> all;
  struct if_nameindex* const list = if_nameindex();
  if (!list) return all;
  for (const auto* entry = list; entry->if_index != 0; ++entry)
    if (InterfaceState state = interface_with(entry->if_index); state.index != 0)
      all.push_back(std::move(state));
  if_freenameindex(list);
  return all;
}

InterfaceState interface_with(uint32_t index) { return index ? ask(index, "") : InterfaceState{}; }

InterfaceState interface_named(const std::string& name) {
  // A short name may be an alternative one, too: that is asked for by the index.
  if (name.size() < IFNAMSIZ) return interface_with(if_nametoindex(name.c_str()));
  return ask(0, name);
}

std::string unusable(const std::string& option, const std::string& name,
                     const InterfaceState& state) {
  if (state.index == 0)
    return fmt::format("{} {}: there is no such interface here (see: ip link)", option, name);
  if (state.type != ARPHRD_ETHER)
    return fmt::format(
        "{} {}: its frames have no Ethernet header (tun, WireGuard, loopback and tunnels of IP "
        "have "
        "none); use a tap, a veth or an Ethernet interface",
        option, name);
  if (!state.up) return fmt::format("{} {}: is down (ip link set {} up)", option, name, state.name);
  return {};
}

std::string unusable_together(const InterfaceState& peer, const InterfaceState& guest,
                              const std::vector<InterfaceState>& all) {
  if (peer.index == guest.index) return "--peer-if and --guest-if name the same interface";
  const std::string both = fmt::format("{} and {}", peer.name, guest.name);
  if (peer.master != 0 && peer.master == guest.master)
    return fmt::format(
        "{} are ports of one bridge or bond, which forwards between them, too: frames would go "
        "round for ever (ip link set {} nomaster)",
        both, guest.name);
  if (peer.master == guest.index || guest.master == peer.index)
    return fmt::format("{} are a bridge or bond and a port of it: every frame would come twice",
                       both);
  if (peer.lower == guest.index && guest.lower == peer.index)
    return fmt::format("{} are the two ends of one veth pair: frames would go round for ever",
                       both);
  if (peer.lower == guest.index || guest.lower == peer.index)
    return fmt::format("{}: one stands on the other, so that every frame would come twice", both);
  if (joined(peer, guest, all))
    return fmt::format(
        "{} are joined already, by bridges or veth pairs: frames would go round, or come twice "
        "(ip link set {} nomaster)",
        both, (guest.master ? guest : peer).name);
  return {};
}

InterfaceDoubts interface_doubts(const InterfaceState& state) {
  InterfaceDoubts doubts;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) == 0) {
    for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
      if (state.name != entry->ifa_name || !entry->ifa_addr) continue;
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

  const Socket query(AF_INET, SOCK_DGRAM, 0);
  ethtool_value flags{ETHTOOL_GFLAGS, 0};
  ifreq request{};
  state.name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&flags);
  doubts.lro = ioctl(query.get(), SIOCETHTOOL, &request) == 0 && flags.data & ETH_FLAG_LRO;
  return doubts;
}

}  // namespace vsnoop::live
