// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The network interfaces that this driver domain serves, and what the patched xen-netback says of
// each. The keys are those of xen-netback-patch/: BACKEND/vsnoop, BACKEND/vsnoop/quiesce (written
// here), BACKEND/vsnoop-state and BACKEND/vsnoop-taken (written by the module).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/xen/host.h"

namespace vsnoop::xen {

/// One virtual interface of a guest.
struct Vif {
  uint32_t domain = 0;
  uint32_t handle = 0;
  std::string guest;      ///< the domain's name, as its owner chose it; "" if it has none
  std::string backend;    ///< its directory in xenstore
  std::string interface;  ///< its network device here
  std::string setting;    ///< what BACKEND/vsnoop says; "" if absent
  std::string state;      ///< what the module says; "" if it says nothing
  std::optional<std::string>
      taken;             ///< the setting that this answers; an older module does not say
  bool quiesce = false;  ///< it was asked to quiesce
  /// Which domain it is (the node of its UUID and its value): the number may be another's by now.
  Node identity;

  /// "web.0", or "7.0" without a name; fit to be shown.
  std::string label() const;
};

/// The present state, by the first word of what the module says.
enum class State { unknown, off, ring, hold, quiescing, quiesced, waiting, error };
State state_of(const std::string& text);

std::string guest_name(XenHost& host, uint32_t domain);
/// Reads everything that may have changed since; false if the vif is gone, or its domain is.
bool refresh(XenHost& host, Vif& vif);
/// Gives BACKEND/`key` a value, or removes it; false if the vif is gone: then nothing is written.
bool put(XenHost& host, const Vif& vif, const std::string& key,
         const std::optional<std::string>& value);
/// All vifs of this driver domain, by domain and handle.
std::vector<Vif> all_vifs(XenHost& host);
/// Those that `text` names: a guest's name or domain number, or that, a dot, and a vif's handle.
/// Digits are a number, as for xl, whatever guests are called. Throws std::runtime_error if there
/// is none, or if the text can be understood in two ways: what guests are called is not ours to
/// choose.
std::vector<Vif> select_vifs(XenHost& host, const std::string& text);

/// Fails with what to do unless the loaded xen-netback knows vsnoop. `switched_on`: its kill switch
/// must not be thrown either.
void require_module(XenHost& host, bool switched_on);

/// A counter of vsnoop, without its "vsnoop_" before; 0 if there is none.
uint64_t counter(const Counters& counters, const std::string& name);
/// All counters of a vif; fails if its interface is not here or not vsnoop's.
Counters vif_counters(XenHost& host, const Vif& vif);

/// A setting as BACKEND/vsnoop wants it; what is not given is left to the module.
struct Setting {
  std::string policy;  ///< "off", "ring" or "hold"
  std::optional<uint32_t> vif_kib, flow_kib;
  bool early_sack = true;
  std::string engage;  ///< "always", "auto" or "" for the module's default

  std::string text() const;
};

}  // namespace vsnoop::xen
