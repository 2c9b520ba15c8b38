// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What `vsnoop xen` needs from Xen and from the driver domain's kernel, so that everything above it
// runs in tests without either. The real one is libxen.cc, a plugin.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vsnoop::xen {

/// A virtual CPU at one moment (XEN_DOMCTL_getvcpuinfo).
struct Vcpu {
  uint32_t id = 0;
  bool blocked = false;  ///< has nothing to do
  bool running = false;
  uint64_t cpu_ns = 0;             ///< CPU time used since it exists
  uint32_t pcpu = 0;               ///< where it runs, or ran last
  std::vector<uint32_t> affinity;  ///< pCPUs it may run on (hard), ascending; only if asked for
};

/// A domain at one moment. Only online VCPUs are listed.
struct Domain {
  uint32_t id = 0;
  std::string handle;  ///< its UUID: another domain may have the number by now
  uint32_t pool = 0;
  bool stopped = false;  ///< paused, shut down or dying
  std::vector<Vcpu> vcpus;
};

/// A cpupool and its scheduler.
struct Pool {
  uint32_t id = 0;
  std::string scheduler;  ///< "credit", "credit2", "rtds", "null", "arinc653" or "scheduler N"
  uint32_t slice_us = 0;  ///< credit: its time slice; 0: the scheduler has no such setting
};

/// A domain's share under credit and credit2.
struct Share {
  uint32_t weight = 0;
  uint32_t cap = 0;  ///< per cent of one CPU; 0: none
};

/// A node of xenstore and its value; nothing: there is no such node.
using Node = std::pair<std::string, std::optional<std::string>>;

/// Counters of a network interface, by name, in the kernel's order.
using Counters = std::vector<std::pair<std::string, uint64_t>>;

/// Every function throws std::runtime_error with a sentence for the administrator if Xen, the
/// kernel or the caller's rights do not allow it.
class XenHost {
 public:
  virtual ~XenHost() = default;

  /// xenstore. Paths are absolute. Nothing and an empty list: there is no such node, or only other
  /// domains may read it.
  virtual std::optional<std::string> read(const std::string& path) = 0;
  virtual std::vector<std::string> list(const std::string& path) = 0;
  /// Gives `node` its value, or removes it, if at that very moment all of `holds` are as they say.
  /// False: they are not, and nothing has changed.
  virtual bool change(const std::vector<Node>& holds, const Node& node) = 0;
  /// From now on, a change of the node or of one below it ends wait().
  virtual void watch(const std::string& path) = 0;
  /// Returns true when something watched has changed, false at `until` (of now_ns()).
  virtual bool wait(uint64_t until) = 0;
  /// The domain this program runs in.
  virtual uint32_t own_domain() = 0;

  /// The hypervisor; only a privileged domain may ask.
  virtual std::vector<Domain> domains(bool with_affinity) = 0;
  virtual std::vector<Pool> pools() = 0;
  /// Nothing if the scheduler knows no weights.
  virtual std::optional<Share> share(uint32_t domain, const std::string& scheduler) = 0;

  /// `ethtool -S`; nothing if there is no such interface.
  virtual std::optional<Counters> counters(const std::string& interface) = 0;
  /// A file of sysfs or debugfs; nothing if it does not exist.
  virtual std::optional<std::string> file(const std::string& path) = 0;

  /// Monotonic.
  virtual uint64_t now_ns() = 0;
  virtual void sleep_until(uint64_t ns) = 0;
};

/// Opens the real one. Fails if the plugin is not installed or this is no Xen domain; libxenctrl is
/// opened when first needed.
std::unique_ptr<XenHost> open_host();

/// `ethtool -S` without the program; see XenHost::counters().
std::optional<Counters> ethtool_counters(const std::string& interface);

}  // namespace vsnoop::xen

/// What open_host() looks up in the plugin; the caller owns the object.
extern "C" vsnoop::xen::XenHost* vsnoop_open_xen_host();
