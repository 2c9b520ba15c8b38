// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop xen` on a xenstore of any names and values, with vifs that go while they are worked on:
// nothing that a guest's owner chose forges a line, drives a terminal, spoils JSON, means another
// guest, or makes a key that no vif has.
// Input: domains with their names and vifs, then what an administrator types; see the reading.
#include <map>
#include <set>

#include "tests/fuzz/shown.h"
#include "tools/xen/control.h"
#include "tools/xen/report.h"

using namespace vsnoop::xen;

namespace {

const std::string kBackends = "/local/domain/0/backend/vif";

class FuzzHost : public XenHost {
 public:
  std::optional<std::string> read(const std::string& path) override {
    const auto found = store.find(path);
    return found == store.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<std::string> list(const std::string& path) override {
    std::set<std::string> names;
    for (auto node = store.lower_bound(path + "/"); node != store.end(); ++node) {
      if (node->first.compare(0, path.size() + 1, path + "/") != 0) break;
      const size_t end = node->first.find('/', path.size() + 1);
      names.insert(node->first.substr(path.size() + 1, end - path.size() - 1));
    }
    return {names.begin(), names.end()};
  }
  bool change(const std::vector<Node>& holds, const Node& node) override {
    if (--changes_until_end == 0) end(ending);
    for (const auto& [path, value] : holds)
      if (read(path) != value) return false;
    const std::string backend = node.first.substr(0, node.first.find("/vsnoop"));
    FUZZ_CHECK(store.count(backend + "/frontend-id"), "a key below a vif that is not there");
    if (node.second)
      store[node.first] = *node.second;
    else
      store.erase(node.first);
    return true;
  }
  void watch(const std::string&) override {}
  bool wait(uint64_t until) override {
    now = until;
    return false;
  }
  uint32_t own_domain() override { return 0; }
  std::vector<Domain> domains(bool) override {
    std::vector<Domain> all;
    for (const auto& [id, handle] : ids)
      all.push_back({id, handle, 0, false, {{0, true, false, now, 0, {}}}});
    return all;
  }
  std::vector<Pool> pools() override { return {{0, "credit", 30'000}}; }
  std::optional<Share> share(uint32_t, const std::string&) override { return std::nullopt; }
  std::optional<Counters> counters(const std::string&) override { return its_counters; }
  std::optional<std::string> file(const std::string&) override { return std::nullopt; }
  uint64_t now_ns() override { return now; }
  void sleep_until(uint64_t ns) override { now = ns; }

  void end(uint32_t domain) {
    ids.erase(domain);
    for (const std::string& top : {"/local/domain/" + std::to_string(domain) + "/",
                                   kBackends + "/" + std::to_string(domain) + "/"})
      std::erase_if(store, [&](const auto& node) { return node.first.rfind(top, 0) == 0; });
  }

  std::map<std::string, std::string> store;
  std::map<uint32_t, std::string> ids;
  Counters its_counters;
  int changes_until_end = 0;
  uint32_t ending = 0;
  uint64_t now = 1;
};

std::string text_of(vsnoop_fuzz::Bytes& in) {
  std::string text;
  for (unsigned left = in.u8() % 24; left && !in.empty(); --left)
    text += static_cast<char>(in.u8());
  return text;
}

void fill(FuzzHost& host, vsnoop_fuzz::Bytes& in) {
  for (unsigned domains = in.u8() % 5; domains && !in.empty(); --domains) {
    const uint32_t id = in.u8() % 12;
    const std::string home = "/local/domain/" + std::to_string(id);
    host.ids[id] = home;
    host.store[home + "/vm"] = "/vm/" + std::to_string(id);
    if (in.flag()) host.store[home + "/name"] = text_of(in);
    for (unsigned vifs = in.u8() % 3; vifs && !in.empty(); --vifs) {
      const std::string path =
          kBackends + "/" + std::to_string(id) + "/" + std::to_string(in.u8() % 4);
      const uint8_t has = in.u8();
      if (has & 1) host.store[path + "/frontend-id"] = std::to_string(id);
      if (has & 2) host.store[path + "/vsnoop-state"] = text_of(in);
      if (has & 4) host.store[path + "/vsnoop"] = text_of(in);
      if (has & 8) host.store[path + "/vifname"] = text_of(in);
      if (has & 16) host.store[path + "/vsnoop/quiesce"] = text_of(in);
      if (has & 32) host.store[path + "/vsnoop-state"] = "error: " + text_of(in);
    }
  }
  // Directories whose names are no numbers.
  if (in.flag()) host.store["/local/domain/" + text_of(in) + "/name"] = text_of(in);
  if (in.flag()) host.store[kBackends + "/" + text_of(in) + "/0/frontend-id"] = text_of(in);
  for (unsigned counters = in.u8() % 4; counters; --counters)
    host.its_counters.emplace_back("vsnoop_" + text_of(in), in.u32());
  host.its_counters.emplace_back("vsnoop_budget_short", in.u8());
  host.changes_until_end = in.u8() % 4;
  host.ending = in.u8() % 12;
}

void check_json(const Json& json) {
  FUZZ_CHECK(!Json::parse(json_text(json, 2)).is_discarded(), "JSON");
}

void list(FuzzHost& host) {
  const Load load = measure_load(host, 1'000'000);
  const std::vector<Guest> all = guests(host, load);
  FUZZ_CHECK(all.size() == host.ids.size(), "every domain");
  size_t lines = 1 + all.size();
  for (const Guest& guest : all) {
    lines += !guest.advice.first.empty();
    for (const Vif& vif : guest.vifs) lines += state_of(vif.state) == State::error;
    for (const Memory& memory : guest.memory) lines += memory.waits();
  }
  vsnoop_fuzz::check_shown(list_text(load, all), lines);
  check_json(list_json(load, all));
}

void control(FuzzHost& host, const std::vector<Vif>& vifs, unsigned what) {
  Setting setting;
  setting.policy = "hold";
  const Result result = what == 0   ? apply_setting(host, vifs, setting, 1'000'000)
                        : what == 1 ? quiesce(host, vifs, 1'000'000, false)
                                    : resume(host, vifs, 1'000'000);
  FUZZ_CHECK(result.vifs.size() + result.gone.size() == vifs.size(), "no vif is forgotten");
  FUZZ_CHECK(result.gone.empty() || result.outcome != Outcome::done, "gone, and yet done");
  vsnoop_fuzz::check_shown(result_text(result), vifs.size());
  check_json(result_json(result));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vsnoop_fuzz::Bytes in(data, size);
  FuzzHost host;
  fill(host, in);
  list(host);
  for (const Vif& vif : all_vifs(host)) {
    const std::string stats = stats_text(vif, host.its_counters);
    vsnoop_fuzz::check_shown(stats,
                             static_cast<size_t>(std::count(stats.begin(), stats.end(), '\n')));
    check_json(stats_json(vif, host.its_counters));
    const Rates row = rates(vif, host.its_counters, host.its_counters, 1);
    vsnoop_fuzz::check_shown(top_text({row}), 2);
    check_json(top_json(1, {row}));
  }
  const unsigned what = in.u8() % 3;
  const std::string typed = text_of(in);
  std::vector<Vif> vifs;
  try {
    vifs = select_vifs(host, typed);
  } catch (const std::runtime_error& error) {
    vsnoop_fuzz::check_shown(error.what(), 0);
    return 0;
  }
  FUZZ_CHECK(!vifs.empty(), "none, and no word");
  const bool digits = typed.find_first_not_of("0123456789") == std::string::npos;
  for (const Vif& vif : vifs) {
    FUZZ_CHECK(vif.domain == vifs[0].domain, "two guests at once");
    FUZZ_CHECK(!digits || std::stoul(typed) == vif.domain, "digits are a number");
  }
  size_t named = 0;
  for (const auto& [id, home] : host.ids) named += host.read(home + "/name") == typed;
  FUZZ_CHECK(digits || named <= 1, "two of that name");
  try {
    control(host, vifs, what);
  } catch (const std::runtime_error& error) {  // counters that are not vsnoop's
    vsnoop_fuzz::check_shown(error.what(), 0);
  }
  return 0;
}
