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
  uint32_t mtu = 0;
  bool up = false;
};
InterfaceState interface_state(const std::string& name);

/// What speaks against bridging through this interface: sentences for the user.
/// `addresses`: IP addresses (link-local ones do not count) that make the host's own stack answer.
struct InterfaceDoubts {
  std::vector<std::string> addresses;
  bool lro = false;    ///< merges frames in a way that cannot be undone
  bool slave = false;  ///< belongs to a bridge or bond, which forwards the same frames
};
InterfaceDoubts interface_doubts(const std::string& name);

}  // namespace vsnoop::live
