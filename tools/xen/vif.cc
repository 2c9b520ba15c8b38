// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/vif.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string_view>

#include "tools/xen/text.h"
#include "xen-netback-patch/module/vsnoop_words.h"

namespace vsnoop::xen {
namespace {

const char* const kModule = "/sys/module/xen_netback";

std::string domain_path(uint32_t domain, const char* key) {
  return fmt::format("/local/domain/{}/{}", domain, key);
}

// What a text may mean: a domain, or one vif of it.
struct Meaning {
  uint32_t domain;
  std::optional<uint32_t> handle;

  bool fits(const Vif& vif) const {
    return vif.domain == domain && (!handle || vif.handle == *handle);
  }
  std::string text() const {
    return handle ? fmt::format("interface {} of domain {}", *handle, domain)
                  : fmt::format("domain {}", domain);
  }
};

// All domains that xenstore knows, and their names.
std::vector<std::pair<uint32_t, std::string>> domain_names(XenHost& host) {
  std::vector<std::pair<uint32_t, std::string>> names;
  for (const std::string& id : host.list("/local/domain"))
    if (const auto domain = number(id)) names.emplace_back(*domain, guest_name(host, *domain));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Meaning> meanings(const std::vector<std::pair<uint32_t, std::string>>& names,
                              const std::vector<Vif>& vifs, std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos) {
    const auto domain = number(text);
    return domain ? std::vector<Meaning>{{*domain, std::nullopt}} : std::vector<Meaning>();
  }
  std::vector<Meaning> all;
  for (const auto& [domain, name] : names)
    if (!name.empty() && name == text) all.push_back({domain, std::nullopt});
  // A name may hold dots itself.
  const size_t dot = text.rfind('.');
  if (dot == std::string_view::npos) return all;
  const std::string_view guest = text.substr(0, dot);
  const auto handle = number(text.substr(dot + 1));
  if (!handle || guest.empty()) return all;
  const bool digits = guest.find_first_not_of("0123456789") == std::string_view::npos;
  for (const Vif& vif : vifs)
    if (vif.handle == *handle && (digits ? number(guest) == vif.domain : vif.guest == guest))
      all.push_back({vif.domain, handle});
  return all;
}

}  // namespace

std::string Vif::label() const {
  return fmt::format("{}.{}", guest.empty() ? std::to_string(domain) : shown(guest), handle);
}

State state_of(const std::string& text) {
  static const std::pair<std::string_view, State> names[] = {
      {VSNOOP_SAYS_OFF, State::off},           {VSNOOP_SAYS_RING, State::ring},
      {VSNOOP_SAYS_HOLD, State::hold},         {VSNOOP_SAYS_QUIESCING, State::quiescing},
      {VSNOOP_SAYS_QUIESCED, State::quiesced}, {VSNOOP_SAYS_WAITING, State::waiting}};
  for (const auto& [name, state] : names)
    if (text == name) return state;
  return text.rfind(VSNOOP_SAYS_ERROR, 0) == 0 ? State::error : State::unknown;
}

std::string guest_name(XenHost& host, uint32_t domain) {
  return host.read(domain_path(domain, "name")).value_or("");
}

bool refresh(XenHost& host, Vif& vif) {
  // Of the keys that are always there; the directory itself may outlive the vif for a moment.
  if (!host.read(vif.backend + "/frontend-id")) return false;
  const std::string identity = domain_path(vif.domain, "vm");
  const auto value = host.read(identity);
  if (vif.identity.first.empty())
    vif.identity = {identity, value};
  else if (vif.identity.second != value)
    return false;
  vif.guest = guest_name(host, vif.domain);
  // Set by the hotplug script where xl's "vifname=" is used.
  vif.interface =
      host.read(vif.backend + "/vifname").value_or(fmt::format("vif{}.{}", vif.domain, vif.handle));
  vif.setting = host.read(vif.backend + "/vsnoop").value_or("");
  // In the other order than the module writes them: what is taken has been said.
  vif.taken = host.read(vif.backend + "/vsnoop-taken");
  vif.state = host.read(vif.backend + "/vsnoop-state").value_or("");
  const std::string quiesce = host.read(vif.backend + "/vsnoop/quiesce").value_or("0");
  vif.quiesce = quiesce != "0";
  return true;
}

bool put(XenHost& host, const Vif& vif, const std::string& key,
         const std::optional<std::string>& value) {
  // A node below a directory that has gone would make it anew, for nobody.
  return host.change({{vif.backend + "/frontend-id", std::to_string(vif.domain)}, vif.identity},
                     {vif.backend + "/" + key, value});
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
  const auto names = domain_names(host);
  const std::vector<Meaning> meant = meanings(names, vifs, text);
  if (meant.size() > 1) {
    std::string list;
    for (const Meaning& meaning : meant) list += (list.empty() ? "" : ", or ") + meaning.text();
    throw std::runtime_error(
        fmt::format("{}: may be {}: say which by the domain's number", shown(text), list));
  }
  if (meant.empty())
    throw std::runtime_error(
        fmt::format("{}: there is no such guest here (see: xl list)", shown(text)));

  std::vector<Vif> found;
  std::copy_if(vifs.begin(), vifs.end(), std::back_inserter(found),
               [&](const Vif& vif) { return meant[0].fits(vif); });
  if (!found.empty()) return found;
  const bool exists = std::any_of(names.begin(), names.end(), [&](const auto& entry) {
    return entry.first == meant[0].domain;
  });
  if (exists)
    throw std::runtime_error(
        fmt::format("{}: has no network interface that this domain serves", shown(text)));
  throw std::runtime_error(fmt::format(
      "{}: there is no domain of that number here (digits are a number, as for xl)", shown(text)));
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
        fmt::format("{}: its interface {} is not here", vif.label(), shown(vif.interface)));
  std::erase_if(*counters, [](const auto& entry) { return entry.first.rfind("vsnoop_", 0) != 0; });
  if (counters->empty())
    throw std::runtime_error(
        fmt::format("{}: {} has no counters of vsnoop", vif.label(), shown(vif.interface)));
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
