// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What the kernel says about a network interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vsnoop::live {

struct InterfaceState {
  uint32_t index = 0;  ///< 0: there is none of this name
  std::string name;    ///< its first name; what was asked for may be an alternative one
  std::string kind;    ///< as in `ip link add type`: "veth", "tun", "bridge"; empty: hardware
  uint32_t mtu = 0;
  uint32_t master = 0;  ///< index of the bridge or bond that it belongs to; 0: none
  uint32_t lower = 0;   ///< index of what it stands on (VLAN, macvlan) or of its other end (veth);
                        ///< 0: nothing, or something in another namespace
  uint16_t type = 0;    ///< ARPHRD_*
  bool up = false;
  bool carrier = false;
  bool passthru = false;  ///< macvlan, macvtap: takes frames for any address

  bool is_macvlan() const { return kind == "macvlan" || kind == "macvtap"; }
  /// What is sent to it is at once in the memory of the kernel that the guest is. Of everything
  /// else (taps, cards) nobody knows when the guest looks.
  bool shows_consumption() const { return kind == "veth"; }
};
/// By name or alternative name, of any length.
InterfaceState interface_named(const std::string& name);
InterfaceState interface_with(uint32_t index);
/// All of this namespace.
std::vector<InterfaceState> interfaces();

/// Why no frame can be bridged between the two as they are: a sentence for the user, or empty.
std::string unusable(const std::string& option, const std::string& name,
                     const InterfaceState& state);
/// `all`: the interfaces of this namespace, through which the two may be joined already.
std::string unusable_together(const InterfaceState& peer, const InterfaceState& guest,
                              const std::vector<InterfaceState>& all);

/// What speaks against bridging through this interface.
/// `addresses`: IP addresses (link-local ones do not count) that make the host's own stack answer.
struct InterfaceDoubts {
  std::vector<std::string> addresses;
  bool lro = false;  ///< merges frames in a way that cannot be undone
};
InterfaceDoubts interface_doubts(const InterfaceState& state);

}  // namespace vsnoop::live
