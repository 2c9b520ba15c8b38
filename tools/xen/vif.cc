// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/vif.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string_view>

namespace vsnoop::xen {
namespace {

const char* const kModule = "/sys/module/xen_netback";

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::string Vif::label() const {
  return fmt::format("{}.{}", guest.empty() ? std::to_string(domain) : guest, handle);
}

State state_of(const std::string& text) {
  static const std::pair<std::string_view, State> names[] = {
      {"off", State::off},           {"ring", State::ring},
      {"hold", State::hold},         {"quiescing", State::quiescing},
      {"quiesced", State::quiesced}, {"waiting", State::waiting}};
  for (const auto& [name, state] : names)
    if (text == name) return state;
  return text.rfind("error", 0) == 0 ? State::error : State::unknown;
}

std::string guest_name(XenHost& host, uint32_t domain) {
  return host.read(fmt::format("/local/domain/{}/name", domain)).value_or("");
}

bool refresh(XenHost& host, Vif& vif) {
  // Of the keys that are always there; the directory itself may outlive the vif for a moment.
  if (!host.read(vif.backend + "/frontend-id")) return false;
  vif.guest = guest_name(host, vif.domain);
  // Set by the hotplug script where xl's "vifname=" is used.
  vif.interface =
      host.read(vif.backend + "/vifname").value_or(fmt::format("vif{}.{}", vif.domain, vif.handle));
  vif.setting = host.read(vif.backend + "/vsnoop").value_or("");
  vif.state = host.read(vif.backend + "/vsnoop-state").value_or("");
  const std::string quiesce = host.read(vif.backend + "/vsnoop/quiesce").value_or("0");
  vif.quiesce = quiesce != "0";
  return true;
}

std::vector<Vif> all_vifs(XenHost& host) {
  const std::string top = fmt::format("/local/domain/{}/backend/vif", host.own_domain());
  std::vector<Vif> vifs;
  for (const std::string& domain : host.list(top)) {
    for (const std::string& handle : host.list(top + "/" + domain)) {
      if (!number(domain) || !number(handle)) continue;
      Vif vif;
      vif.domain = *number(domain);
      vif.handle = *number(handle);
      vif.backend = fmt::format("{}/{}/{}", top, domain, handle);
      if (refresh(host, vif)) vifs.push_back(std::move(vif));
    }
  }
  std::sort(vifs.begin(), vifs.end(), [](const Vif& a, const Vif& b) {
    return std::pair(a.domain, a.handle) < std::pair(b.domain, b.handle);
  });
  return vifs;
}

std::vector<Vif> select_vifs(XenHost& host, const std::string& text) {
  const std::vector<Vif> vifs = all_vifs(host);
  const auto matching = [&](const std::string& guest, std::optional<uint32_t> handle) {
    std::vector<Vif> found;
    // A name before a number: a guest may be called "7".
    for (const bool by_name : {true, false}) {
      for (const Vif& vif : vifs)
        if ((by_name ? vif.guest == guest : std::to_string(vif.domain) == guest) &&
            (!handle || vif.handle == *handle))
          found.push_back(vif);
      if (!found.empty()) break;
    }
    return found;
  };
  // A name may hold dots, so that the whole text is tried first.
  std::vector<Vif> found = matching(text, std::nullopt);
  const size_t dot = text.rfind('.');
  if (found.empty() && dot != std::string::npos)
    if (const auto handle = number(std::string_view(text).substr(dot + 1)))
      found = matching(text.substr(0, dot), handle);
  if (!found.empty()) return found;

  for (const std::string& id : host.list("/local/domain"))
    if (id == text || host.read("/local/domain/" + id + "/name") == text)
      throw std::runtime_error(
          fmt::format("{}: has no network interface that this domain serves", text));
  throw std::runtime_error(fmt::format("{}: there is no such guest here (see: xl list)", text));
}

void require_module(XenHost& host, bool switched_on) {
  const auto on = host.file(fmt::format("{}/parameters/vsnoop", kModule));
  if (!on) {
    if (!host.file(fmt::format("{}/initstate", kModule)))
      throw std::runtime_error("xen-netback is not loaded (modprobe xen-netback)");
    throw std::runtime_error(
        "the loaded xen-netback is without vsnoop: install vsnoop-xen-netback-dkms, stop the "
        "guests or migrate them away, and load the module again");
  }
  if (switched_on && *on != "Y\n")
    throw std::runtime_error(fmt::format(
        "offload is switched off for all guests (echo Y >{}/parameters/vsnoop)", kModule));
}

uint64_t counter(const Counters& counters, const std::string& name) {
  const std::string full = "vsnoop_" + name;
  for (const auto& [key, value] : counters)
    if (key == full) return value;
  return 0;
}

Counters vif_counters(XenHost& host, const Vif& vif) {
  std::optional<Counters> counters = host.counters(vif.interface);
  if (!counters)
    throw std::runtime_error(
        fmt::format("{}: its interface {} is not here", vif.label(), vif.interface));
  std::erase_if(*counters, [](const auto& entry) { return entry.first.rfind("vsnoop_", 0) != 0; });
  if (counters->empty())
    throw std::runtime_error(
        fmt::format("{}: {} has no counters of vsnoop", vif.label(), vif.interface));
  return *counters;
}

std::string Setting::text() const {
  std::string text = policy;
  if (vif_kib) text += fmt::format(",vif_kib={}", *vif_kib);
  if (flow_kib) text += fmt::format(",flow_kib={}", *flow_kib);
  if (!early_sack) text += ",early_sack=0";
  if (!engage.empty()) text += ",engage=" + engage;
  return text;
}

}  // namespace vsnoop::xen
