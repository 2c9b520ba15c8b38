// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Who waits for a CPU: the share of time that each guest's VCPUs run and that they could but do
// not, what else runs on their pCPUs, and whether offload would help.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/xen/host.h"

namespace vsnoop::xen {

/// Shares of time, 0 to 1.
struct VcpuLoad {
  uint32_t id = 0;
  double run = 0;                    ///< exact: from the CPU time used
  double wait = 0;                   ///< sampled: runnable, and not running
  std::map<uint32_t, double> pcpus;  ///< how much of the time it was on which
  std::vector<uint32_t> affinity;
};

struct DomainLoad {
  uint32_t id = 0;
  std::string handle;  ///< its UUID
  bool stopped = false;
  std::string scheduler;
  uint32_t slice_us = 0;  ///< 0: unknown
  std::optional<Share> share;
  std::vector<VcpuLoad> vcpus;

  double run() const;          ///< sum over its VCPUs
  double most_wait() const;    ///< of the VCPU that waits most
  double most_demand() const;  ///< run and wait of the VCPU that wants most
};

struct Load {
  double seconds = 0;
  std::vector<DomainLoad> domains;   ///< by number
  std::map<uint32_t, double> pcpus;  ///< VCPUs that want each, on average

  /// How many VCPUs, its own included, want the pCPU that `domain` shares most.
  double contention(const DomainLoad& domain) const;
  /// How much other domains want the pCPUs that `domain` is on.
  double others(const DomainLoad& domain) const;
};

/// Looks about a hundred times within `interval_ns`. Domains that came or went are left out.
Load measure_load(XenHost& host, uint64_t interval_ns);

/// What offload would bring a guest, and why.
struct Advice {
  enum Gain { no, some, yes, unclear };
  Gain gain = no;
  std::string why;
  std::string first;  ///< what to try before; may be empty
};

const char* gain_name(Advice::Gain gain);

/// `has_vif`: this domain serves a network interface of it.
Advice advise(const Load& load, const DomainLoad& domain, bool has_vif);

/// "0-3,7"; "" for none. `cpus` ascending.
std::string cpu_ranges(const std::vector<uint32_t>& cpus);

}  // namespace vsnoop::xen
