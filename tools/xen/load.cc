// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace vsnoop::xen {
namespace {

constexpr unsigned kSamples = 100;
constexpr double kGoldenRatio = 0.6180339887498949;

// Below these a share of time is as good as none; above kWaits a sender sees it.
constexpr double kNothing = 0.02;
constexpr double kAlone = 0.05;
constexpr double kWaits = 0.10;
// This much of a cap used, and the VCPU is parked now and then.
constexpr double kAtCap = 0.85;

struct Seen {
  uint64_t first_ns = 0, last_ns = 0;
  unsigned times = 0, waiting = 0;
  std::map<uint32_t, unsigned> pcpus;
};

double percent(double share) { return share * 100; }

bool same_domain(const Domain& a, const Domain& b) { return a.id == b.id && a.handle == b.handle; }

}  // namespace

double DomainLoad::run() const {
  double sum = 0;
  for (const VcpuLoad& vcpu : vcpus) sum += vcpu.run;
  return sum;
}

double DomainLoad::most_wait() const {
  double most = 0;
  for (const VcpuLoad& vcpu : vcpus) most = std::max(most, vcpu.wait);
  return most;
}

double DomainLoad::most_demand() const {
  double most = 0;
  for (const VcpuLoad& vcpu : vcpus) most = std::max(most, vcpu.run + vcpu.wait);
  return most;
}

double Load::contention(const DomainLoad& domain) const {
  double most = 0;
  for (const VcpuLoad& vcpu : domain.vcpus)
    for (const auto& [pcpu, share] : vcpu.pcpus) most = std::max(most, pcpus.at(pcpu));
  return most;
}

double Load::others(const DomainLoad& domain) const {
  std::map<uint32_t, double> foreign = pcpus;
  for (const VcpuLoad& vcpu : domain.vcpus)
    for (const auto& [pcpu, share] : vcpu.pcpus) foreign[pcpu] -= (vcpu.run + vcpu.wait) * share;
  double most = 0;
  for (const VcpuLoad& vcpu : domain.vcpus)
    for (const auto& [pcpu, share] : vcpu.pcpus) most = std::max(most, foreign[pcpu]);
  return most;
}

Load measure_load(XenHost& host, uint64_t interval_ns) {
  const std::vector<Domain> before = host.domains(true);
  const uint64_t start = host.now_ns();
  std::map<std::pair<uint32_t, uint32_t>, Seen> seen;
  for (const Domain& domain : before)
    for (const Vcpu& vcpu : domain.vcpus) seen[{domain.id, vcpu.id}].first_ns = vcpu.cpu_ns;

  std::vector<Domain> now;
  for (unsigned i = 1; i <= kSamples; ++i) {
    // Not evenly, so that no scheduler's period can hide behind the sampling.
    const double jitter = i == kSamples ? 0 : std::fmod(i * kGoldenRatio, 1.0) - 0.5;
    host.sleep_until(start + static_cast<uint64_t>((i + jitter) * interval_ns / kSamples));
    now = host.domains(false);
    for (const Domain& domain : now) {
      for (const Vcpu& vcpu : domain.vcpus) {
        const auto found = seen.find({domain.id, vcpu.id});
        // Less time used than before: another domain's, or another VCPU that was plugged in.
        if (found == seen.end() || vcpu.cpu_ns < found->second.first_ns) continue;
        ++found->second.times;
        found->second.last_ns = vcpu.cpu_ns;
        found->second.waiting += !domain.stopped && !vcpu.blocked && !vcpu.running;
        ++found->second.pcpus[vcpu.pcpu];
      }
    }
  }
  const uint64_t elapsed = std::max<uint64_t>(host.now_ns() - start, 1);

  std::map<uint32_t, Pool> pools;
  for (Pool& pool : host.pools()) pools[pool.id] = std::move(pool);
  Load load;
  load.seconds = static_cast<double>(elapsed) * 1e-9;
  for (const Domain& domain : before) {
    const auto last = std::find_if(now.begin(), now.end(),
                                   [&](const Domain& other) { return same_domain(other, domain); });
    if (last == now.end()) continue;
    DomainLoad result;
    result.id = domain.id;
    result.handle = domain.handle;
    result.stopped = last->stopped;
    if (const auto pool = pools.find(domain.pool); pool != pools.end()) {
      result.scheduler = pool->second.scheduler;
      result.slice_us = pool->second.slice_us;
      result.share = host.share(domain.id, result.scheduler);
    }
    for (const Vcpu& vcpu : domain.vcpus) {
      const Seen& times = seen[{domain.id, vcpu.id}];
      if (times.times == 0) continue;
      VcpuLoad& its = result.vcpus.emplace_back();
      its.id = vcpu.id;
      its.affinity = vcpu.affinity;
      its.run = std::min(
          1.0, static_cast<double>(times.last_ns - times.first_ns) / static_cast<double>(elapsed));
      // What runs in this domain keeps others on its pCPU from running just when they are looked
      // at. Time used is exact, so that it bounds the mistake.
      its.wait = std::min(1 - its.run, static_cast<double>(times.waiting) / times.times);
      for (const auto& [pcpu, count] : times.pcpus) {
        its.pcpus[pcpu] = static_cast<double>(count) / times.times;
        load.pcpus[pcpu] += (its.run + its.wait) * its.pcpus[pcpu];
      }
    }
    load.domains.push_back(std::move(result));
  }
  return load;
}

const char* gain_name(Advice::Gain gain) {
  switch (gain) {
    case Advice::yes:
      return "yes";
    case Advice::some:
      return "some";
    case Advice::unclear:
      return "unclear";
    case Advice::no:
      break;
  }
  return "no";
}

Advice advise(const Load& load, const DomainLoad& domain, bool has_vif) {
  if (!has_vif) return {Advice::no, "no network interface of it is served here", ""};
  if (domain.stopped) return {Advice::no, "paused or shut down", ""};

  const double wait = domain.most_wait();
  const double cap = domain.share ? domain.share->cap / 100.0 : 0;
  if (cap > 0 && domain.run() >= kAtCap * cap && wait >= kAlone)
    return {Advice::yes,
            fmt::format("held to its cap of {:.0f} % of a CPU: waits {:.0f} % of the time",
                        percent(cap), percent(wait)),
            "a higher cap"};
  if (wait >= kWaits) {
    const std::string waits = fmt::format("waits {:.0f} % of the time; {:.1f} VCPUs want its pCPU",
                                          percent(wait), load.contention(domain));
    if (domain.scheduler == "credit2")
      return {Advice::some, waits + "; credit2 lets what wakes up run within milliseconds",
              "a pCPU of its own, or more weight"};
    if (domain.slice_us > 5000)
      return {Advice::yes, fmt::format("{}, in slices of {} ms", waits, domain.slice_us / 1000),
              "shorter slices (xl sched-credit -s -t 1), or a pCPU of its own"};
    return {Advice::yes, waits, "a pCPU of its own"};
  }

  const double others = load.others(domain);
  if (domain.most_demand() < kNothing && others >= kWaits)
    return {Advice::unclear,
            fmt::format("idle now, its pCPU is wanted {:.0f} % by others: look again under load",
                        percent(others)),
            ""};
  if (others < kAlone) return {Advice::no, "nobody else wants its pCPU: nothing to gain", ""};
  return {Advice::no,
          fmt::format("gets its CPU when it wants it: waits {:.0f} % of the time", percent(wait)),
          ""};
}

std::string cpu_ranges(const std::vector<uint32_t>& cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text +=
        end - i == 1 ? fmt::format("{}", cpus[i]) : fmt::format("{}-{}", cpus[i], cpus[end - 1]);
    i = end;
  }
  return text;
}

}  // namespace vsnoop::xen
