// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// XenHost on libxenstore, libxenctrl (4.17 and later), the kernel's ethtool ioctl and its file
// systems: the only part that needs Xen's libraries, so it is a plugin (open_host.cc loads it).
#include <fmt/format.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tools/xen/fail.h"
#include "tools/xen/host.h"

// Xen's headers do not say this themselves.
extern "C" {
#include <xenctrl.h>
#include <xenstore.h>
}

namespace vsnoop::xen {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <typename T>
using Malloced = std::unique_ptr<T, Free>;

std::vector<uint32_t> cpus_of(const uint8_t* map, int count) {
  std::vector<uint32_t> cpus;
  for (int cpu = 0; cpu < count; ++cpu)
    if (map[cpu / 8] >> (cpu % 8) & 1) cpus.push_back(static_cast<uint32_t>(cpu));
  return cpus;
}

std::string scheduler_name(uint32_t id) {
  switch (id) {
    case XEN_SCHEDULER_CREDIT:
      return "credit";
    case XEN_SCHEDULER_CREDIT2:
      return "credit2";
    case XEN_SCHEDULER_ARINC653:
      return "arinc653";
    case XEN_SCHEDULER_RTDS:
      return "rtds";
    case XEN_SCHEDULER_NULL:
      return "null";
    default:
      return fmt::format("scheduler {}", id);
  }
}

class LibXenHost : public XenHost {
 public:
  LibXenHost() {
    if (file("/sys/hypervisor/type").value_or("") != "xen\n")
      throw std::runtime_error("this machine does not run under Xen: run it in Xen's dom0");
    store_.reset(xs_open(0));
    if (!store_) fail("xenstore cannot be reached; is xenstored running?");
  }

  std::optional<std::string> read(const std::string& path) override { return read(XBT_NULL, path); }

  std::vector<std::string> list(const std::string& path) override {
    unsigned count = 0;
    const Malloced<char*> names(xs_directory(store_.get(), XBT_NULL, path.c_str(), &count));
    if (!names && !absent(errno)) fail(fmt::format("xenstore: list {}", path));
    return names ? std::vector<std::string>(names.get(), names.get() + count)
                 : std::vector<std::string>();
  }

  bool change(const std::vector<Node>& holds, const Node& node) override {
    // Somebody else's change of one of these nodes in between makes xenstored ask for another try.
    for (int tries = 0; tries < 100; ++tries) {
      const xs_transaction_t transaction = xs_transaction_start(store_.get());
      if (transaction == XBT_NULL) fail("xenstore: transaction");
      bool held = true;
      try {
        for (const auto& [path, value] : holds) held = held && read(transaction, path) == value;
        if (held) put(transaction, node);
      } catch (...) {
        xs_transaction_end(store_.get(), transaction, true);
        throw;
      }
      if (xs_transaction_end(store_.get(), transaction, !held)) return held;
      if (errno != EAGAIN) fail(fmt::format("xenstore: write {}", node.first));
    }
    fail(fmt::format("xenstore: write {}", node.first), EBUSY);
  }

  void watch(const std::string& path) override {
    if (!xs_watch(store_.get(), path.c_str(), "vsnoop") && errno != EEXIST)
      fail(fmt::format("xenstore: watch {}", path));
  }

  bool wait(uint64_t until) override {
    for (;;) {
      bool changed = false;
      while (Malloced<char*>(xs_check_watch(store_.get()))) changed = true;
      if (changed) return true;
      if (errno != EAGAIN) fail("xenstore: watches");
      const uint64_t now = now_ns();
      if (now >= until) return false;
      pollfd poll_on{xs_fileno(store_.get()), POLLIN, 0};
      const uint64_t ms = std::min<uint64_t>((until - now + 999'999) / 1'000'000, 60'000);
      if (poll(&poll_on, 1, static_cast<int>(ms)) < 0 && errno != EINTR) fail("poll");
    }
  }

  uint32_t own_domain() override {
    // A relative path is this domain's own. Only dom0 may lack it, before xen-init-dom0 has run.
    const std::string id = read("domid").value_or("0");
    return static_cast<uint32_t>(std::strtoul(id.c_str(), nullptr, 10));
  }

  std::vector<Domain> domains(bool with_affinity) override {
    xc_interface* xc = control();
    std::vector<xc_domaininfo_t> infos(64);
    std::vector<Domain> domains;
    for (uint32_t first = 0;;) {
      const int count =
          xc_domain_getinfolist(xc, first, static_cast<unsigned>(infos.size()), infos.data());
      if (count < 0) fail("libxenctrl: list of domains");
      for (int i = 0; i < count; ++i)
        domains.push_back(domain(infos[static_cast<size_t>(i)], with_affinity));
      if (count < static_cast<int>(infos.size())) return domains;
      first = infos.back().domain + 1u;
    }
  }

  std::vector<Pool> pools() override {
    xc_interface* xc = control();
    std::vector<Pool> pools;
    uint32_t next = 0;
    while (xc_cpupoolinfo_t* info = xc_cpupool_getinfo(xc, next)) {
      Pool pool{info->cpupool_id, scheduler_name(info->sched_id), 0};
      const bool credit = info->sched_id == XEN_SCHEDULER_CREDIT;
      xc_cpupool_infofree(xc, info);
      xen_sysctl_credit_schedule schedule{};
      if (credit && xc_sched_credit_params_get(xc, pool.id, &schedule) == 0)
        pool.slice_us = schedule.tslice_ms * 1000;
      next = pool.id + 1;
      pools.push_back(std::move(pool));
    }
    return pools;
  }

  std::optional<Share> share(uint32_t domain, const std::string& scheduler) override {
    xc_interface* xc = control();
    if (scheduler == "credit") {
      xen_domctl_sched_credit credit{};
      if (xc_sched_credit_domain_get(xc, domain, &credit) == 0)
        return Share{credit.weight, credit.cap};
    } else if (scheduler == "credit2") {
      xen_domctl_sched_credit2 credit{};
      if (xc_sched_credit2_domain_get(xc, domain, &credit) == 0)
        return Share{credit.weight, credit.cap};
    }
    return std::nullopt;
  }

  std::optional<Counters> counters(const std::string& interface) override {
    return ethtool_counters(interface);
  }

  std::optional<std::string> file(const std::string& path) override {
    // First, because a stream does not tell why it cannot be opened.
    if (access(path.c_str(), R_OK) < 0) {
      if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
      fail(path);
    }
    std::ifstream stream(path);
    std::ostringstream text;
    if (!(text << stream.rdbuf()) && !stream.eof()) fail(path);
    return text.str();
  }

  uint64_t now_ns() override {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
  }

  void sleep_until(uint64_t ns) override {
    const timespec time{static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr) == EINTR) {
    }
  }

 private:
  struct CloseStore {
    void operator()(xs_handle* store) const { xs_close(store); }
  };
  struct CloseControl {
    void operator()(xc_interface* xc) const { xc_interface_close(xc); }
  };

  // Opened late: a driver domain other than dom0 may not ask the hypervisor, and need not.
  xc_interface* control() {
    if (!control_) {
      // Its own logger would tell every failure a second time.
      control_.reset(xc_interface_open(nullptr, nullptr, 0));
      if (!control_) fail("the hypervisor cannot be asked; is this dom0?");
      cpus_ = xc_get_max_cpus(control_.get());
      if (cpus_ <= 0) fail("libxenctrl: number of CPUs");
    }
    return control_.get();
  }

  // Nothing to read, as far as this domain is concerned.
  static bool absent(int error) { return error == ENOENT || error == EACCES; }

  std::optional<std::string> read(xs_transaction_t transaction, const std::string& path) {
    unsigned length = 0;
    const Malloced<void> value(xs_read(store_.get(), transaction, path.c_str(), &length));
    if (value) return std::string(static_cast<const char*>(value.get()), length);
    if (!absent(errno)) fail(fmt::format("xenstore: read {}", path));
    return std::nullopt;
  }

  void put(xs_transaction_t transaction, const Node& node) {
    const auto& [path, value] = node;
    const bool done = value ? xs_write(store_.get(), transaction, path.c_str(), value->data(),
                                       static_cast<unsigned>(value->size()))
                            : xs_rm(store_.get(), transaction, path.c_str()) || errno == ENOENT;
    if (!done) fail(fmt::format("xenstore: {} {}", value ? "write" : "remove", path));
  }

  Domain domain(const xc_domaininfo_t& info, bool with_affinity) {
    constexpr uint32_t stopped = XEN_DOMINF_paused | XEN_DOMINF_shutdown | XEN_DOMINF_dying;
    std::string handle;
    for (const uint8_t byte : info.handle) handle += fmt::format("{:02x}", byte);
    Domain domain{info.domain, std::move(handle), info.cpupool, (info.flags & stopped) != 0, {}};
    for (uint32_t id = 0; id <= info.max_vcpu_id; ++id) {
      xc_vcpuinfo_t vcpu{};
      // It may have gone since the list was made.
      if (xc_vcpu_getinfo(control(), info.domain, id, &vcpu) != 0 || !vcpu.online) continue;
      domain.vcpus.push_back(
          {id, vcpu.blocked != 0, vcpu.running != 0, vcpu.cpu_time, vcpu.cpu, {}});
      if (!with_affinity) continue;
      const Malloced<uint8_t> hard(xc_cpumap_alloc(control()));
      const Malloced<uint8_t> soft(xc_cpumap_alloc(control()));
      if (hard && soft &&
          xc_vcpu_getaffinity(control(), info.domain, static_cast<int>(id), hard.get(), soft.get(),
                              XEN_VCPUAFFINITY_HARD) == 0)
        domain.vcpus.back().affinity = cpus_of(hard.get(), cpus_);
    }
    return domain;
  }

  std::unique_ptr<xs_handle, CloseStore> store_;
  std::unique_ptr<xc_interface, CloseControl> control_;
  int cpus_ = 0;
};

}  // namespace
}  // namespace vsnoop::xen

vsnoop::xen::XenHost* vsnoop_open_xen_host() { return new vsnoop::xen::LibXenHost; }
