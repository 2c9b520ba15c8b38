// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop xen` on a Xen host in memory: xenstore, a hypervisor with a schedule, a module that
// answers after a while. Its clock moves only when somebody waits.
#include <CLI/CLI.hpp>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tests/unit/catch.h"
#include "tools/units.h"
#include "tools/xen/command.h"
#include "tools/xen/control.h"
#include "tools/xen/load.h"
#include "tools/xen/report.h"
#include "tools/xen/text.h"
#include "tools/xen/vif.h"
#include "xen-netback-patch/module/vsnoop_words.h"

using namespace vsnoop::xen;
using vsnoop::kMillisecond;
using vsnoop::kSecond;
using vsnoop_test::Contains;

namespace {

constexpr uint64_t ms = kMillisecond;
const std::string kBackends = "/local/domain/0/backend/vif/";
const std::string kSwitch = "/sys/module/xen_netback/parameters/vsnoop";

// A VCPU that does the same thing over and over, starting with its first phase at time 0.
struct Phase {
  uint64_t ns;
  enum { runs, waits, sleeps } what;
  uint32_t pcpu;
};

struct Schedule {
  std::vector<Phase> phases;

  Vcpu at(uint64_t now, uint32_t id) const {
    uint64_t period = 0, runs = 0;
    for (const Phase& phase : phases) {
      period += phase.ns;
      if (phase.what == Phase::runs) runs += phase.ns;
    }
    Vcpu vcpu;
    vcpu.id = id;
    vcpu.cpu_ns = now / period * runs;
    uint64_t rest = now % period;
    for (const Phase& phase : phases) {
      const uint64_t in = std::min(rest, phase.ns);
      if (phase.what == Phase::runs) vcpu.cpu_ns += in;
      if (rest < phase.ns) {
        vcpu.running = phase.what == Phase::runs;
        vcpu.blocked = phase.what == Phase::sleeps;
        vcpu.pcpu = phase.pcpu;
        return vcpu;
      }
      rest -= phase.ns;
    }
    return vcpu;
  }
};

class FakeHost : public XenHost {
 public:
  FakeHost() {
    files[kSwitch] = "Y\n";
    store["/local/domain/0/name"] = "Domain-0";
  }

  static std::string home(uint32_t domain) { return "/local/domain/" + std::to_string(domain); }
  void guest(uint32_t domain, const std::string& name) {
    store[home(domain) + "/name"] = name;
    store[home(domain) + "/vm"] = "/vm/" + uuid(domain);
  }
  std::string uuid(uint32_t domain) {
    return reborn.count(domain) ? "another" : "of-" + std::to_string(domain);
  }
  // Ends a domain: nothing of it is in xenstore any more.
  void end(uint32_t domain) {
    for (const std::string& top : {home(domain), kBackends + std::to_string(domain)})
      for (auto node = store.begin(); node != store.end();)
        node = node->first.rfind(top + "/", 0) == 0 ? store.erase(node) : std::next(node);
  }
  // Ends a domain and makes another of the same number, with vif 0.
  void replace(uint32_t domain, const std::string& name) {
    end(domain);
    reborn.insert(domain);
    guest(domain, name);
    vif(domain, 0);
  }
  // Returns its backend directory.
  std::string vif(uint32_t domain, uint32_t handle, const std::string& state = "off") {
    if (!store.count(home(domain) + "/vm")) store[home(domain) + "/vm"] = "/vm/" + uuid(domain);
    const std::string path = kBackends + std::to_string(domain) + "/" + std::to_string(handle);
    store[path + "/frontend-id"] = std::to_string(domain);
    store[path + "/vsnoop-state"] = state;
    interfaces["vif" + std::to_string(domain) + "." + std::to_string(handle)] = {
        {"rx_gso_checksum_fixup", 0}, {"vsnoop_outstanding", 0}, {"vsnoop_flows", 0}};
    return path;
  }
  // What the module does some time from now.
  void later(uint64_t ns, std::function<void()> what) { events.emplace(now + ns, std::move(what)); }
  void later(uint64_t ns, const std::string& path, const std::string& value) {
    later(ns, [=, this] { store[path] = value; });
  }

  std::optional<std::string> read(const std::string& path) override {
    const auto found = store.find(path);
    if (found == store.end()) return std::nullopt;
    return found->second;
  }
  std::vector<std::string> list(const std::string& path) override {
    std::set<std::string> names;
    for (const auto& [key, value] : store)
      if (key.rfind(path + "/", 0) == 0)
        names.insert(key.substr(path.size() + 1, key.find('/', path.size() + 1) - path.size() - 1));
    return {names.begin(), names.end()};
  }
  bool change(const std::vector<Node>& holds, const Node& node) override {
    if (before_change) before_change();
    for (const auto& [path, value] : holds)
      if (read(path) != value) return false;
    const auto& [path, value] = node;
    if (value)
      store[path] = *value;
    else
      store.erase(path);
    written.push_back(value ? path + "=" + *value : "rm " + path);
    if (on_write) on_write(path, value.value_or(""));
    return true;
  }
  void watch(const std::string& path) override { watched.insert(path); }
  bool wait(uint64_t until) override {
    ++waits;
    if (!events.empty() && events.begin()->first <= until) {
      pass(events.begin()->first);
      return true;
    }
    pass(until);
    return false;
  }
  uint32_t own_domain() override { return 0; }

  std::vector<Domain> domains(bool with_affinity) override {
    std::vector<Domain> result;
    for (const auto& [id, vcpus] : schedules) {
      if (born.count(id) && born[id] > now) continue;
      if (dead.count(id) && dead[id] <= now) continue;
      Domain domain{id, uuid(id), 0, stopped.count(id) != 0, {}};
      for (uint32_t i = 0; i < vcpus.size(); ++i) {
        domain.vcpus.push_back(vcpus[i].at(now, i));
        if (with_affinity) domain.vcpus.back().affinity = {1};
      }
      result.push_back(domain);
    }
    return result;
  }
  std::vector<Pool> pools() override { return {pool}; }
  std::optional<Share> share(uint32_t domain, const std::string& scheduler) override {
    if (scheduler.rfind("credit", 0) != 0) return std::nullopt;
    return Share{256, caps.count(domain) ? caps[domain] : 0};
  }
  std::optional<Counters> counters(const std::string& interface) override {
    const auto found = interfaces.find(interface);
    if (found == interfaces.end()) return std::nullopt;
    return found->second;
  }
  std::optional<std::string> file(const std::string& path) override {
    const auto found = files.find(path);
    if (found == files.end()) return std::nullopt;
    return found->second;
  }
  uint64_t now_ns() override { return now; }
  void sleep_until(uint64_t ns) override { pass(ns); }

  void pass(uint64_t until) {
    while (!events.empty() && events.begin()->first <= until) {
      now = std::max(now, events.begin()->first);
      const auto what = events.begin()->second;
      events.erase(events.begin());
      what();
    }
    now = std::max(now, until);
  }

  std::map<std::string, std::string> store, files;
  std::map<std::string, Counters> interfaces;
  std::map<uint32_t, std::vector<Schedule>> schedules;
  std::map<uint32_t, uint32_t> caps;
  std::map<uint32_t, uint64_t> born, dead;
  std::set<uint32_t> stopped, reborn;
  std::set<std::string> watched;
  Pool pool{0, "credit", 30'000};
  std::vector<std::string> written;
  std::function<void(const std::string&, const std::string&)> on_write;
  std::function<void()> before_change;
  std::multimap<uint64_t, std::function<void()>> events;
  uint64_t now = 1'000 * kSecond;
  int waits = 0;
};

Setting policy(const std::string& name) {
  Setting setting;
  setting.policy = name;
  return setting;
}

std::vector<std::string> labels(const std::vector<Vif>& vifs) {
  std::vector<std::string> names;
  for (const Vif& vif : vifs) names.push_back(vif.label());
  return names;
}

void set_counter(FakeHost& host, const std::string& interface, const std::string& name,
                 uint64_t value) {
  for (auto& [key, its] : host.interfaces[interface])
    if (key == "vsnoop_" + name) {
      its = value;
      return;
    }
  host.interfaces[interface].emplace_back("vsnoop_" + name, value);
}

// The program's answer to a command line.
struct Answer {
  int status = 0;
  std::string out, err, error;
};

Answer run(FakeHost& host, std::vector<std::string> words) {
  // The command closes its host when it is done; ours goes on.
  struct Borrowed : XenHost {
    explicit Borrowed(FakeHost& host) : its(host) {}
    std::optional<std::string> read(const std::string& path) override { return its.read(path); }
    std::vector<std::string> list(const std::string& path) override { return its.list(path); }
    bool change(const std::vector<Node>& holds, const Node& node) override {
      return its.change(holds, node);
    }
    void watch(const std::string& path) override { its.watch(path); }
    bool wait(uint64_t until) override { return its.wait(until); }
    uint32_t own_domain() override { return its.own_domain(); }
    std::vector<Domain> domains(bool affinity) override { return its.domains(affinity); }
    std::vector<Pool> pools() override { return its.pools(); }
    std::optional<Share> share(uint32_t d, const std::string& s) override {
      return its.share(d, s);
    }
    std::optional<Counters> counters(const std::string& i) override { return its.counters(i); }
    std::optional<std::string> file(const std::string& path) override { return its.file(path); }
    uint64_t now_ns() override { return its.now_ns(); }
    void sleep_until(uint64_t ns) override { its.sleep_until(ns); }
    FakeHost& its;
  };
  std::ostringstream out, err;
  CLI::App app{"test"};
  app.require_subcommand(1);
  add_commands(app, {[&] { return std::make_unique<Borrowed>(host); }, out, err});
  Answer answer;
  words.insert(words.begin(), "xen");
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::RuntimeError& error) {
    answer.status = error.get_exit_code();
  } catch (const CLI::ParseError& error) {
    answer.status = 2;
    answer.error = error.what();
  } catch (const std::exception& error) {
    answer.status = 1;
    answer.error = error.what();
  }
  answer.out = out.str();
  answer.err = err.str();
  return answer;
}

Schedule always() { return {{{kSecond, Phase::runs, 1}}}; }
Schedule asleep(uint32_t pcpu) { return {{{kSecond, Phase::sleeps, pcpu}}}; }
// Three busy guests in turn, 30 ms each; `turn` 0 to 2.
Schedule third(int turn) {
  std::vector<Phase> phases(3, Phase{30 * ms, Phase::waits, 1});
  phases[static_cast<size_t>(turn)].what = Phase::runs;
  return {phases};
}

const DomainLoad& load_of(const Load& load, uint32_t domain) {
  for (const DomainLoad& its : load.domains)
    if (its.id == domain) return its;
  throw std::out_of_range("no such domain");
}

}  // namespace

// --- which vifs

TEST_CASE("xen: vifs are chosen by name, number, and handle") {
  FakeHost host;
  host.guest(3, "web");
  host.guest(4, "db.example");
  host.guest(7, "mail");
  for (uint32_t domain : {3, 4, 7}) host.vif(domain, 0);
  host.vif(3, 1);
  host.vif(3, 10);
  host.guest(9, "diskless");

  using Names = std::vector<std::string>;
  CHECK(labels(select_vifs(host, "web")) == Names{"web.0", "web.1", "web.10"});
  CHECK(labels(select_vifs(host, "3")) == Names{"web.0", "web.1", "web.10"});
  CHECK(labels(select_vifs(host, "web.10")) == Names{"web.10"});
  CHECK(labels(select_vifs(host, "3.1")) == Names{"web.1"});
  CHECK(labels(select_vifs(host, "db.example")) == Names{"db.example.0"});
  CHECK(labels(select_vifs(host, "db.example.0")) == Names{"db.example.0"});
  CHECK(select_vifs(host, "mail").at(0).domain == 7);

  for (const char* nobody : {"nobody", "web.2", "web.", ".0", "", "web.+1", "web.0x1", "we"})
    CHECK_THROWS_WITH(select_vifs(host, nobody), Contains("there is no such guest"));
  CHECK_THROWS_WITH(select_vifs(host, "diskless"), Contains("no network interface"));
  CHECK_THROWS_WITH(select_vifs(host, "9"), Contains("no network interface"));
  CHECK_THROWS_WITH(select_vifs(host, "5"), Contains("no domain of that number"));
  CHECK_THROWS_WITH(select_vifs(host, "4294967299"), Contains("no such guest"));  // 2^32 + 3
}

TEST_CASE("xen: digits are a number, whatever guests are called") {
  FakeHost host;
  host.guest(5, "7");
  host.vif(5, 0);
  CHECK_THROWS_WITH(select_vifs(host, "7"), Contains("no domain of that number"));
  host.guest(7, "mail");
  host.vif(7, 0);
  REQUIRE(select_vifs(host, "7").size() == 1);
  CHECK(select_vifs(host, "7").at(0).domain == 7);
  CHECK(select_vifs(host, "07").at(0).domain == 7);
  CHECK(select_vifs(host, "5").at(0).domain == 5);
}

TEST_CASE("xen: a name that may mean two things means none") {
  FakeHost host;
  host.guest(3, "web");
  host.vif(3, 0);
  SECTION("a guest's name and another's vif") {
    host.guest(8, "web.0");
    host.vif(8, 0);
    CHECK_THROWS_WITH(select_vifs(host, "web.0"),
                      Contains("may be domain 8, or interface 0 of domain 3: say which"));
    CHECK(select_vifs(host, "8").at(0).domain == 8);
    CHECK(select_vifs(host, "3.0").at(0).domain == 3);
    CHECK(select_vifs(host, "web.0.0").at(0).domain == 8);
  }
  SECTION("a guest's name and a vif by number") {
    host.guest(8, "3.0");
    host.vif(8, 0);
    CHECK_THROWS_WITH(select_vifs(host, "3.0"), Contains("may be domain 8, or interface 0"));
  }
  SECTION("two of one name, one of them without a vif here") {
    host.guest(8, "web");
    CHECK_THROWS_WITH(select_vifs(host, "web"), Contains("may be domain 3, or domain 8"));
    host.vif(8, 0);
    CHECK_THROWS_WITH(select_vifs(host, "web.0"),
                      Contains("interface 0 of domain 3, or interface 0 of domain 8"));
  }
  SECTION("on the command line: nothing is written") {
    host.guest(8, "web");
    const Answer answer = run(host, {"set", "web", "hold"});
    CHECK(answer.status == 1);
    CHECK(host.written.empty());
  }
}

// --- names are others' to choose

TEST_CASE("xen: what has no place in a line is written in digits") {
  CHECK(shown("web-1.example") == "web-1.example");
  CHECK(shown("a b") == "a b");
  CHECK(shown("a\nb\r\tc") == "a\\x0ab\\x0d\\x09c");
  CHECK(shown("\033[2J\033]0;x\a") == "\\x1b[2J\\x1b]0;x\\x07");
  CHECK(shown(std::string("a\0b", 3)) == "a\\x00b");
  CHECK(shown("\x7f") == "\\x7f");
  // Bytes that are no character, cut short, too long, a surrogate.
  CHECK(shown("\xff\xfe") == "\\xff\\xfe");
  CHECK(shown("a\xc3") == "a\\xc3");
  CHECK(shown("\xc0\x8a") == "\\xc0\\x8a");
  CHECK(shown("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  // C1's CSI, right-to-left override, zero width, line separator, a stroke on the letter before.
  CHECK(shown("\xc2\x9b") == "\\xc2\\x9b");
  CHECK(shown("\xe2\x80\xae") == "\\xe2\\x80\\xae");
  CHECK(shown("\xe2\x80\x8b") == "\\xe2\\x80\\x8b");
  CHECK(shown("\xe2\x80\xa8") == "\\xe2\\x80\\xa8");
  CHECK(shown("a\xcc\xb6") == "a\\xcc\\xb6");
  // Two spaces end a column; no two names look the same.
  CHECK(shown("a  b") == "a\\x20\\x20b");
  CHECK(shown(" a ") == "\\x20a\\x20");
  CHECK(shown("\xc2\xa0") == "\\xc2\\xa0");
  CHECK(shown("\xe3\x85\xa4") == "\\xe3\\x85\\xa4");
  CHECK(shown("\\x0a") == "\\\\x0a");
}

TEST_CASE("xen: no name forges a line, drives the terminal, or spoils the answer about others") {
  FakeHost host;
  host.schedules = {{0, {asleep(0)}}, {3, {asleep(1)}}, {4, {asleep(1)}}};
  host.guest(3, "evil\nbank  4  0:hold\033[2J\xff");
  host.guest(4, "bank");
  const std::string evil = host.vif(3, 0, VSNOOP_SAYS_SETTING "\033[2J"),
                    bank = host.vif(4, 0, "hold");
  host.store[evil + "/vsnoop"] = "\xfe";
  host.store[evil + "/vifname"] = "\033[2J\xff";
  host.interfaces["\033[2J\xff"] = host.interfaces["vif3.0"];
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"list"},
                                             {"top", "--once"},
                                             {"stats", "3"},
                                             {"set", "3", "hold", "--timeout", "1s"},
                                             {"quiesce", "3", "--timeout", "1s"},
                                             {"resume", "3"}}) {
    INFO(words[0]);
    const Answer text = run(host, words);
    for (const std::string& out : {text.out, text.err, text.error}) {
      CHECK(out.find_first_of("\033\xff\xfe") == std::string::npos);
      CHECK_THAT("\n" + out, !Contains("\nbank  4  0:hold"));
    }
    auto with_json = words;
    with_json.push_back("--json");
    const Answer json = run(host, with_json);
    CHECK_NOTHROW(Json::parse(json.out));
  }
  const Json list = Json::parse(run(host, {"list", "--json"}).out);
  REQUIRE(list["guests"].size() == 3);
  CHECK(list["guests"][1]["guest"] == "evil\nbank  4  0:hold\033[2J\xef\xbf\xbd");
  CHECK(list["guests"][2]["guest"] == "bank");
}

TEST_CASE("xen flows: words that are no numbers that fit stay words") {
  const std::string file = "guest held\n\xff 18446744073709551616\nx 18446744073709551615\n";
  const Json json = flows_json(Vif(), file);
  CHECK(json["flows"][0]["held"] == "18446744073709551616");
  CHECK(json["flows"][1]["held"] == 18446744073709551615u);
  CHECK_NOTHROW(Json::parse(json_text(json, 2)));
  CHECK_THAT(flows_text(Vif(), file), Contains("\\xff"));
}

// --- vifs and domains go while they are worked on

TEST_CASE("xen: nothing is written for a vif that has gone, and nothing is done") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, "hold");
  const auto gone = [&](const std::vector<std::string>& words) {
    host.before_change = [&] { host.end(3); };
    const Answer answer = run(host, words);
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, Contains("web: a network interface of it went away meanwhile"));
    CHECK(answer.out == "web.0: went away\n");
    CHECK(host.written.empty());
    CHECK(host.list(path).empty());
  };
  SECTION("set") { gone({"set", "web", "hold"}); }
  SECTION("quiesce") { gone({"quiesce", "web"}); }
  SECTION("resume") { gone({"resume", "web"}); }
}

TEST_CASE("xen: a domain that has the number of another is left alone") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, "hold");
  SECTION("before the key is written") {
    host.before_change = [&] { host.replace(3, "mail"); };
    CHECK(apply_setting(host, all_vifs(host), policy("hold"), kSecond).outcome == Outcome::gone);
    CHECK(host.written.empty());
  }
  SECTION("while it is waited for") {
    host.later(ms, [&] { host.replace(3, "mail"); });
    const Result result = quiesce(host, all_vifs(host), kSecond, true);
    CHECK(result.outcome == Outcome::gone);
    CHECK(result.vifs.empty());
    CHECK(result.gone.at(0).label() == "web.0");
    CHECK(host.written == std::vector<std::string>{path + "/vsnoop/quiesce=1"});
  }
  SECTION("when it is taken back") {
    host.later(2 * kSecond - 1,
               [&] { host.store[path + "/vsnoop-state"] = VSNOOP_SAYS_QUIESCING; });
    std::vector<Vif> vifs = all_vifs(host);
    host.replace(3, "mail");
    CHECK(resume(host, vifs, kSecond).outcome == Outcome::gone);
    CHECK(host.written.empty());
  }
  SECTION("in a list") {
    host.schedules = {{3, {always()}}, {4, {always()}}};
    host.guest(4, "db");
    Load load = measure_load(host, kSecond);
    host.replace(3, "mail");
    const auto all = guests(host, load);
    REQUIRE(all.size() == 1);
    CHECK(all[0].name == "db");
  }
  SECTION("while it is measured") {
    host.schedules = {{3, {always()}}};
    host.later(500 * ms, [&] { host.replace(3, "mail"); });
    CHECK(measure_load(host, kSecond).domains.empty());
  }
}

TEST_CASE("xen: a vif is read with its setting, state and the name its script gave it") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_QUIESCING);
  host.store[path + "/vsnoop"] = "hold,vif_kib=8192";
  host.store[path + "/vsnoop/quiesce"] = "1";
  Vif vif = all_vifs(host).at(0);
  CHECK(vif.backend == path);
  CHECK(vif.interface == "vif3.0");
  CHECK(vif.setting == "hold,vif_kib=8192");
  CHECK(vif.state == VSNOOP_SAYS_QUIESCING);
  CHECK(vif.quiesce);
  host.store[path + "/vifname"] = "web-lan";
  host.store[path + "/vsnoop/quiesce"] = "0";
  REQUIRE(refresh(host, vif));
  CHECK(vif.interface == "web-lan");
  CHECK_FALSE(vif.quiesce);
  host.store.erase(path + "/frontend-id");
  CHECK_FALSE(refresh(host, vif));
  CHECK(all_vifs(host).empty());
}

TEST_CASE("xen: what the module says") {
  CHECK(state_of("off") == State::off);
  CHECK(state_of("ring") == State::ring);
  CHECK(state_of("hold") == State::hold);
  CHECK(state_of(VSNOOP_SAYS_QUIESCING) == State::quiescing);
  CHECK(state_of(VSNOOP_SAYS_QUIESCED) == State::quiesced);
  CHECK(state_of("waiting") == State::waiting);
  CHECK(state_of(VSNOOP_SAYS_NO_MEMORY) == State::error);
  CHECK(state_of("") == State::unknown);
  CHECK(state_of("holding") == State::unknown);
}

TEST_CASE("xen: a setting says only what was asked for") {
  Setting setting = policy("hold");
  CHECK(setting.text() == "hold");
  setting.vif_kib = 8192;
  setting.flow_kib = 1024;
  setting.early_sack = false;
  setting.engage = "auto";
  CHECK(setting.text() == "hold,vif_kib=8192,flow_kib=1024,early_sack=0,engage=auto");
}

TEST_CASE("xen: without the module's help it says which kind of help is missing") {
  FakeHost host;
  CHECK_NOTHROW(require_module(host, true));
  host.files[kSwitch] = "N\n";
  CHECK_NOTHROW(require_module(host, false));
  CHECK_THROWS_WITH(require_module(host, true), Contains("switched off for all guests"));
  host.files.clear();
  CHECK_THROWS_WITH(require_module(host, false), Contains("xen-netback is not loaded"));
  host.files["/sys/module/xen_netback/initstate"] = "live\n";
  CHECK_THROWS_WITH(require_module(host, false), Contains("without vsnoop"));
}

// --- set

TEST_CASE("xen set: writes the key and returns when the module has answered") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0);
  host.on_write = [&](const std::string&, const std::string&) {
    host.later(7 * ms, path + "/vsnoop-state", "hold");
  };
  const uint64_t start = host.now;
  const Answer answer = run(host, {"set", "web", "hold", "--vif-kib", "8192", "--engage", "auto"});
  CHECK(answer.status == 0);
  CHECK(answer.out == "web.0: hold\n");
  CHECK(host.written == std::vector<std::string>{path + "/vsnoop=hold,vif_kib=8192,engage=auto"});
  CHECK(host.watched.count(path + "/vsnoop-state"));
  CHECK(host.now == start + 7 * ms);
}

TEST_CASE("xen set: another policy is in force only after the old promises have drained") {
  FakeHost host;
  const std::string path = host.vif(3, 0, "hold");
  host.later(ms, path + "/vsnoop-state", VSNOOP_SAYS_QUIESCING);
  host.later(2'000 * ms, path + "/vsnoop-state", "ring");
  const uint64_t start = host.now;
  CHECK(apply_setting(host, all_vifs(host), policy("ring"), 10 * kSecond).outcome == Outcome::done);
  CHECK(host.now == start + 2'000 * ms);
}

TEST_CASE("xen set: the old policy's name is no answer to the new one") {
  FakeHost host;
  host.vif(3, 0, "hold");
  const Answer answer = run(host, {"set", "3", "ring", "--timeout", "4s"});
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, Contains("written, but not in force after 4 s"));
  CHECK(host.now == 1'004 * kSecond);
}

TEST_CASE("xen set: a refusal is reported with the module's words") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, "hold");
  // The state stays what it is for a while, as if all were well.
  host.later(300 * ms, path + "/vsnoop-state", VSNOOP_SAYS_NO_MEMORY);
  const Answer answer = run(host, {"set", "web", "hold", "--vif-kib", "1000000"});
  CHECK(answer.status == 1);
  CHECK(answer.out == "web.0: " VSNOOP_SAYS_NO_MEMORY "\n");
}

TEST_CASE("xen set: an error of before is not the answer, but silence makes it one") {
  FakeHost host;
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_SETTING "x");
  SECTION("the module takes the new setting") {
    host.later(100 * ms, path + "/vsnoop-state", "hold");
    CHECK(apply_setting(host, all_vifs(host), policy("hold"), 9 * kSecond).outcome ==
          Outcome::done);
    CHECK(host.now == 1'000 * kSecond + 100 * ms);
  }
  SECTION("the module finds the same fault again") {
    CHECK(apply_setting(host, all_vifs(host), policy("hold"), 9 * kSecond).outcome ==
          Outcome::refused);
    CHECK(host.now == 1'000 * kSecond + 500 * ms);
  }
}

TEST_CASE("xen set: a module that says which setting it has taken is waited for, however long") {
  FakeHost host;
  const std::string backend = host.vif(3, 0, "hold");
  host.store[backend + "/vsnoop-taken"] = "hold";
  Setting setting = policy("hold");
  setting.vif_kib = 8192;
  host.later(4 * kSecond, backend + "/vsnoop-taken", setting.text());
  CHECK(apply_setting(host, all_vifs(host), setting, 9 * kSecond).outcome == Outcome::done);
  CHECK(host.now == 1'004 * kSecond);

  // The state of another setting is no answer to this one, even if it is new.
  setting.vif_kib = 4096;
  host.later(kSecond, backend + "/vsnoop-state",
             VSNOOP_SAYS_WAITS ": 20 interfaces share 16384 KiB");
  host.later(2 * kSecond, backend + "/vsnoop-state", "hold");
  CHECK(apply_setting(host, all_vifs(host), setting, 3 * kSecond).outcome == Outcome::timed_out);

  host.later(kSecond, backend + "/vsnoop-state",
             VSNOOP_SAYS_WAITS ": 20 interfaces share 16384 KiB");
  host.later(kSecond, backend + "/vsnoop-taken", setting.text());
  CHECK(apply_setting(host, all_vifs(host), setting, 9 * kSecond).outcome == Outcome::refused);
}

TEST_CASE("xen set: of an older module, an unchanged state is consent after half a second") {
  FakeHost host;
  host.vif(3, 0, "hold");
  CHECK(apply_setting(host, all_vifs(host), policy("hold"), 9 * kSecond).outcome == Outcome::done);
  CHECK(host.now == 1'000 * kSecond + 500 * ms);
}

TEST_CASE("xen set: vifs that are not connected, or quiesced, have taken note") {
  FakeHost host;
  const std::string waits = host.vif(3, 0);
  const std::string rests = host.vif(3, 1, VSNOOP_SAYS_QUIESCED);
  host.store[rests + "/vsnoop/quiesce"] = "1";
  host.later(ms, waits + "/vsnoop-state", "waiting");
  CHECK(apply_setting(host, all_vifs(host), policy("hold"), 9 * kSecond).outcome == Outcome::done);
  // For "off" it has to go all the way.
  CHECK(apply_setting(host, all_vifs(host), policy("off"), kSecond).outcome == Outcome::timed_out);
}

TEST_CASE("xen set: one vif of several that refuses is a refusal, whatever goes away") {
  FakeHost host;
  const std::string good = host.vif(3, 0), bad = host.vif(3, 1), gone = host.vif(3, 2);
  host.later(ms, good + "/vsnoop-state", "hold");
  host.later(2 * ms, gone + "/frontend-id", "");
  host.later(2 * ms, [&] { host.store.erase(gone + "/frontend-id"); });
  host.later(3 * ms, bad + "/vsnoop-state", VSNOOP_SAYS_NO_MEMORY);
  const Result result = apply_setting(host, all_vifs(host), policy("hold"), 9 * kSecond);
  CHECK(result.outcome == Outcome::refused);
  CHECK(result.vifs.size() == 2);
  CHECK(result.gone.size() == 1);
}

TEST_CASE("xen set: the command line is checked before anything is written") {
  FakeHost host;
  host.vif(3, 0);
  CHECK(run(host, {"set", "3", "keep"}).status == 2);
  CHECK(run(host, {"set", "3", "hold", "--vif-kib", "255"}).status == 2);
  CHECK(run(host, {"set", "3", "hold", "--flow-kib", "63"}).status == 2);
  for (const char* odd :
       {"8192x", "-8192", "4294975488", "18446744073709559808", "8192.0", "1e4", "", "2097153"})
    CHECK(run(host, {"set", "3", "hold", "--vif-kib", odd}).status == 2);
  CHECK(run(host, {"set", "3", "hold", "--engage", "never"}).status == 2);
  CHECK(run(host, {"set", "3", "hold", "--timeout", "5x"}).status == 2);
  CHECK(run(host, {"set", "3"}).status == 2);
  CHECK(run(host, {"quiesce", "3", "--on-timeout", "hang"}).status == 2);
  host.files[kSwitch] = "N\n";
  CHECK(run(host, {"set", "3", "hold"}).status == 1);
  CHECK(host.written.empty());
  CHECK(run(host, {"set", "3", "off"}).status == 0);
}

// --- quiesce and resume

TEST_CASE("xen quiesce: waits until every vif has drained") {
  FakeHost host;
  host.guest(3, "web");
  const std::string a = host.vif(3, 0, "hold"), b = host.vif(3, 1, "hold"), c = host.vif(3, 2);
  host.on_write = [&](const std::string& path, const std::string&) {
    if (path == a + "/vsnoop/quiesce") {
      host.later(ms, a + "/vsnoop-state", VSNOOP_SAYS_QUIESCING);
      host.later(3'000 * ms, a + "/vsnoop-state", VSNOOP_SAYS_QUIESCED);
    } else if (path == b + "/vsnoop/quiesce") {
      host.later(ms, b + "/vsnoop-state", VSNOOP_SAYS_QUIESCED);
    }
  };
  const Answer answer = run(host, {"quiesce", "web"});
  CHECK(answer.status == 0);
  CHECK(answer.out == "web.0: quiesced\nweb.1: quiesced\nweb.2: off\n");
  CHECK(host.now == 1'000 * kSecond + 3'000 * ms);
  // It stays quiesced: the guest is about to leave.
  CHECK(host.written == std::vector<std::string>{a + "/vsnoop/quiesce=1", b + "/vsnoop/quiesce=1",
                                                 c + "/vsnoop/quiesce=1"});
}

TEST_CASE("xen quiesce: what does not drain in time is taken back") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, "hold");
  host.later(ms, path + "/vsnoop-state", VSNOOP_SAYS_QUIESCING);
  const Answer answer = run(host, {"quiesce", "web", "--timeout", "5"});
  CHECK(answer.status == 3);
  CHECK_THAT(answer.err, Contains("web: promises are outstanding after 5 s; it promises again"));
  CHECK(host.now == 1'005 * kSecond);
  CHECK(host.written ==
        std::vector<std::string>{path + "/vsnoop/quiesce=1", "rm " + path + "/vsnoop/quiesce"});
}

// That the module does it, and what peers see then, real Xen has to show (testbed/lifecycle.py).
TEST_CASE("xen quiesce: asked to reset what is left, it believes the module alone") {
  FakeHost host;
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_QUIESCING);
  const Answer answer = run(host, {"quiesce", "3", "--timeout", "2s", "--on-timeout", "reset"});
  CHECK(answer.status == 3);
  CHECK_THAT(answer.err, Contains("the module did not reset their connections"));
  CHECK(host.written == std::vector<std::string>{path + "/vsnoop/quiesce=1",
                                                 path + "/vsnoop/quiesce=2",
                                                 "rm " + path + "/vsnoop/quiesce"});
}

TEST_CASE("xen quiesce: what cannot be judged does not stay quiesced") {
  FakeHost host;
  const std::string path = host.vif(3, 0, "waiting");
  host.interfaces.clear();
  const Answer answer = run(host, {"quiesce", "3"});
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, Contains("its interface vif3.0 is not here"));
  CHECK(host.written.back() == "rm " + path + "/vsnoop/quiesce");
}

TEST_CASE("xen quiesce: a state that does not tell is settled by the counters") {
  FakeHost host;
  const std::string path = host.vif(3, 0);
  const auto outcome = [&] { return quiesce(host, all_vifs(host), kSecond, false).outcome; };
  SECTION("frontend gone, custody kept for it") {
    host.store[path + "/vsnoop-state"] = "waiting";
    set_counter(host, "vif3.0", "flows", 2);
    CHECK(outcome() == Outcome::done);
    set_counter(host, "vif3.0", "outstanding", 1448);
    CHECK(outcome() == Outcome::aborted);
    host.later(250 * ms, [&] { set_counter(host, "vif3.0", "outstanding", 0); });
    CHECK(outcome() == Outcome::done);
  }
  SECTION("a mistaken setting, the one of before still in force") {
    host.store[path + "/vsnoop-state"] = VSNOOP_SAYS_SETTING "x";
    CHECK(outcome() == Outcome::done);
    // None is promised just now, but the next segment may be.
    set_counter(host, "vif3.0", "flows", 1);
    CHECK(outcome() == Outcome::aborted);
  }
  SECTION("a module that says nothing") {
    host.store.erase(path + "/vsnoop-state");
    CHECK(outcome() == Outcome::aborted);
  }
}

TEST_CASE("xen quiesce: a vif that goes away meanwhile is an error") {
  FakeHost host;
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_QUIESCING);
  host.later(ms, [&] { host.store.erase(path + "/frontend-id"); });
  const Answer answer = run(host, {"quiesce", "3"});
  CHECK(answer.status == 1);
  CHECK_THAT(answer.error, Contains("went away meanwhile"));
}

TEST_CASE("xen resume: takes the request back and waits for the module") {
  FakeHost host;
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_QUIESCED);
  host.store[path + "/vsnoop/quiesce"] = "1";
  SECTION("which obeys") {
    host.later(5 * ms, path + "/vsnoop-state", "hold");
    const Answer answer = run(host, {"resume", "3"});
    CHECK(answer.status == 0);
    CHECK(answer.out == "3.0: hold\n");
    CHECK(host.now == 1'000 * kSecond + 5 * ms);
  }
  SECTION("which does not") {
    const Answer answer = run(host, {"resume", "3", "--timeout", "3s"});
    CHECK(answer.status == 1);
    CHECK_THAT(answer.error, Contains("still quiesced after 3 s"));
  }
  CHECK(host.written == std::vector<std::string>{"rm " + path + "/vsnoop/quiesce"});
}

TEST_CASE("xen: results as JSON") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, VSNOOP_SAYS_QUIESCING);
  host.later(1'500 * ms, path + "/vsnoop-state", VSNOOP_SAYS_QUIESCED);
  const Json json = Json::parse(run(host, {"quiesce", "web", "--json"}).out);
  CHECK(json["outcome"] == "done");
  CHECK(json["seconds"] == 1.5);
  CHECK(json["vifs"][0]["guest"] == "web");
  CHECK(json["vifs"][0]["domid"] == 3);
  CHECK(json["vifs"][0]["vif"] == 0);
  CHECK(json["vifs"][0]["interface"] == "vif3.0");
  CHECK(json["vifs"][0]["state"] == VSNOOP_SAYS_QUIESCED);
  CHECK(json["vifs"][0]["quiesce"] == true);
}

// --- load and advice

TEST_CASE("xen load: three busy guests on a pCPU run a third and wait two thirds") {
  FakeHost host;
  host.schedules = {{0, {asleep(0)}}, {2, {third(0)}}, {3, {third(1)}}, {4, {third(2)}}};
  const Load load = measure_load(host, 9 * kSecond);
  CHECK(load.seconds == Approx(9));
  for (uint32_t domain : {2, 3, 4}) {
    const DomainLoad& its = load_of(load, domain);
    INFO("domain " << domain);
    CHECK(its.run() == Approx(1 / 3.0).margin(0.001));
    // A hundred looks.
    CHECK(its.most_wait() == Approx(2 / 3.0).margin(0.1));
    CHECK(load.contention(its) == Approx(3).margin(0.2));
    CHECK(load.others(its) == Approx(2).margin(0.2));
    CHECK(its.vcpus.at(0).affinity == std::vector<uint32_t>{1});
  }
  CHECK(load_of(load, 0).most_demand() == 0);
}

TEST_CASE("xen load: looks fall at every phase of a schedule they could be in step with") {
  FakeHost host;
  // A hundred looks in a second are one each 10 ms; this guest waits half of each.
  host.schedules = {{2, {{{{5 * ms, Phase::waits, 1}, {5 * ms, Phase::runs, 1}}}}}};
  CHECK(load_of(measure_load(host, kSecond), 2).most_wait() == Approx(0.5).margin(0.1));
}

TEST_CASE("xen load: a VCPU cannot have waited while it ran") {
  // It runs but for the moments at which it is looked at, as on this program's own pCPU.
  struct Shy : FakeHost {
    std::vector<Domain> domains(bool affinity) override {
      auto result = FakeHost::domains(affinity);
      result.at(0).vcpus.at(0).running = false;
      return result;
    }
  } host;
  host.schedules = {{2, {always()}}};
  CHECK(load_of(measure_load(host, kSecond), 2).most_wait() == Approx(0).margin(1e-6));
}

TEST_CASE("xen load: paused guests wait for nothing, those that come or go are left out") {
  FakeHost host;
  host.schedules = {{2, {third(0)}}, {3, {always()}}, {4, {always()}}};
  host.stopped = {2};
  host.dead[3] = host.now + 500 * ms;
  host.born[4] = host.now + 1;
  const Load load = measure_load(host, kSecond);
  CHECK(load_of(load, 2).most_wait() == 0);
  CHECK(load.domains.size() == 1);
}

TEST_CASE("xen load: a VCPU that moves counts on each pCPU for its time there") {
  FakeHost host;
  host.schedules = {{2, {{{{300 * ms, Phase::runs, 1}, {100 * ms, Phase::runs, 2}}}}}};
  const Load load = measure_load(host, 4 * kSecond);
  CHECK(load.pcpus.at(1) == Approx(0.75).margin(0.1));
  CHECK(load.pcpus.at(2) == Approx(0.25).margin(0.1));
  CHECK(load.others(load_of(load, 2)) == Approx(0).margin(1e-9));
}

TEST_CASE("xen advice: who would gain, and why not") {
  FakeHost host;
  host.schedules[0] = {asleep(0)};
  Advice::Gain gain = Advice::no;
  std::string why, first;
  const auto ask = [&](bool has_vif = true) {
    const Load load = measure_load(host, 9 * kSecond);
    const Advice advice = advise(load, load_of(load, 2), has_vif);
    gain = advice.gain;
    why = advice.why;
    first = advice.first;
  };

  host.schedules[2] = {third(0)};
  host.schedules[3] = {third(1)};
  host.schedules[4] = {third(2)};
  SECTION("waits in long slices: shorter ones first") {
    ask();
    CHECK(gain == Advice::yes);
    CHECK_THAT(why, Contains("% of the time") && Contains("VCPUs want its pCPU") &&
                        Contains("in slices of 30 ms"));
    CHECK_THAT(first, Contains("sched-credit -s -t 1"));
  }
  SECTION("waits in slices that are short already") {
    host.pool.slice_us = 1'000;
    ask();
    CHECK(gain == Advice::yes);
    CHECK_THAT(first, !Contains("sched-credit"));
  }
  SECTION("credit2 keeps waits short") {
    host.pool = {0, "credit2", 0};
    ask();
    CHECK(gain == Advice::some);
    CHECK_THAT(why, Contains("credit2"));
  }
  SECTION("no vif here, or paused: no matter how long it waits") {
    ask(false);
    CHECK(gain == Advice::no);
    CHECK_THAT(why, Contains("no network interface"));
    host.stopped = {2};
    ask();
    CHECK(gain == Advice::no);
    CHECK_THAT(why, Contains("paused"));
  }
  SECTION("alone, capped to a third") {
    host.schedules = {{0, {asleep(0)}}, {2, {third(0)}}};
    host.caps[2] = 33;
    ask();
    CHECK(gain == Advice::yes);
    CHECK_THAT(why, Contains("cap of 33 %"));
    CHECK_THAT(first, Contains("cap"));
  }
  SECTION("a cap that it does not reach is none") {
    host.schedules = {{0, {asleep(0)}}, {2, {asleep(1)}}};
    host.caps[2] = 33;
    ask();
    CHECK(gain == Advice::no);
  }
  SECTION("alone and busy") {
    host.schedules = {{0, {asleep(0)}}, {2, {always()}}, {3, {asleep(1)}}};
    ask();
    CHECK(gain == Advice::no);
    CHECK(why == "nobody else wants its pCPU: nothing to gain");
  }
  SECTION("idle beside a busy one: only its own load can tell") {
    host.schedules = {{0, {asleep(0)}}, {2, {asleep(1)}}, {3, {always()}}};
    ask();
    CHECK(gain == Advice::unclear);
    CHECK_THAT(why, Contains("look again under load"));
  }
  SECTION("shares its pCPU and still runs when it wants") {
    host.schedules = {{0, {asleep(0)}},
                      {2, {{{{50 * ms, Phase::runs, 1}, {50 * ms, Phase::sleeps, 1}}}}},
                      {3, {{{{50 * ms, Phase::sleeps, 1}, {50 * ms, Phase::runs, 1}}}}}};
    ask();
    CHECK(gain == Advice::no);
    CHECK_THAT(why, Contains("gets its CPU when it wants it"));
  }
}

TEST_CASE("xen list: a line for each domain, and JSON with the same figures") {
  FakeHost host;
  host.schedules = {{0, {asleep(0)}}, {2, {third(0)}}, {3, {third(1)}}, {4, {third(2)}}};
  host.guest(2, "web");
  host.guest(3, "db");
  host.guest(4, "batch");
  host.vif(2, 0, "hold");
  host.vif(2, 1, VSNOOP_SAYS_NO_MEMORY);
  host.vif(3, 0);
  const std::string text = run(host, {"list"}).out;
  CHECK_THAT(text, Contains("GUEST") && Contains("WHY"));
  CHECK_THAT(text, Contains("Domain-0") && Contains("this domain"));
  CHECK_THAT(text, Contains("0:hold 1:error"));
  CHECK_THAT(text, Contains("web.1: " VSNOOP_SAYS_NO_MEMORY "\n"));
  CHECK_THAT(text, Contains("web: try first: shorter slices"));
  CHECK_THAT(text, Contains("no network interface of it is served here"));

  const Json json = Json::parse(run(host, {"list", "--json", "--interval", "9s"}).out);
  REQUIRE(json["guests"].size() == 4);
  CHECK(json["guests"][0]["own"] == true);
  CHECK(json["guests"][0]["gain"].is_null());
  const Json& web = json["guests"][1];
  CHECK(web["guest"] == "web");
  CHECK(web["scheduler"] == "credit");
  CHECK(web["slice_us"] == 30'000);
  CHECK(web["weight"] == 256);
  CHECK(web["run"] == Approx(1 / 3.0).margin(0.001));
  CHECK(web["gain"] == "yes");
  CHECK(web["vcpus"][0]["affinity"] == "1");
  CHECK(web["vifs"][1]["state"] == VSNOOP_SAYS_NO_MEMORY);
  CHECK(json["guests"][3]["gain"] == "no");
}

TEST_CASE("xen list: a driver domain that lacks CPU itself says so") {
  FakeHost host;
  host.schedules = {{0, {{{{kSecond, Phase::runs, 0}}}}}};
  CHECK_THAT(run(host, {"list"}).out, Contains("it lacks CPU itself"));
}

// --- what is printed

TEST_CASE("xen: numbers stand to the right, text to the left, nothing trails") {
  CHECK(table({{"A", "N", "B"}, {"long", "7", "x"}, {"s", "1234", ""}}, {1}) ==
        "A        N  B\n"
        "long     7  x\n"
        "s     1234\n");
}

TEST_CASE("xen: CPUs as ranges") {
  CHECK(cpu_ranges({}) == "");
  CHECK(cpu_ranges({5}) == "5");
  CHECK(cpu_ranges({0, 1, 2, 3, 7, 9, 10}) == "0-3,7,9-10");
}

TEST_CASE("xen top: rates of an interval, gauges of its end") {
  FakeHost host;
  host.guest(3, "web");
  host.vif(3, 0, "hold");
  for (const char* name : {"early_acks", "promised_bytes", "redelivered_frames", "latency_samples",
                           "latency_us_sum", "held"})
    set_counter(host, "vif3.0", name, 1'000'000);
  host.later(kSecond, [&] {
    set_counter(host, "vif3.0", "early_acks", 1'000'500);
    set_counter(host, "vif3.0", "promised_bytes", 3'000'000);
    set_counter(host, "vif3.0", "redelivered_frames", 1'000'002);
    set_counter(host, "vif3.0", "latency_samples", 1'000'010);
    set_counter(host, "vif3.0", "latency_us_sum", 1'305'000);
    set_counter(host, "vif3.0", "held", 65'537);
    set_counter(host, "vif3.0", "outstanding", 2'048);
    set_counter(host, "vif3.0", "flows", 4);
    set_counter(host, "vif3.0", "flows_outstanding", 1);
  });
  const Answer answer = run(host, {"top", "--once", "--json", "--interval", "2s"});
  CHECK(answer.status == 0);
  CHECK(answer.out.find('\n') == answer.out.size() - 1);
  const Json json = Json::parse(answer.out);
  CHECK(json["seconds"] == 2);
  const Json& vif = json["vifs"].at(0);
  CHECK(vif["guest"] == "web");
  CHECK(vif["early_acks_per_second"] == 250);
  CHECK(vif["promised_bytes_per_second"] == 1'000'000);
  CHECK(vif["redelivered_frames_per_second"] == 1);
  CHECK(vif["saved_ms"] == Approx(30.5));
  CHECK(vif["held"] == 65'537);
  CHECK(vif["outstanding"] == 2'048);
  CHECK(vif["flows"] == 4);
  CHECK(vif["flows_outstanding"] == 1);

  const std::string text = run(host, {"top", "--once", "web"}).out;
  CHECK_THAT(text, Contains("web.0") && Contains("65  ") && Contains("hold"));
  CHECK_THAT(text, !Contains("\033"));
}

TEST_CASE("xen top: counters that started again do not run backwards, no sample is no time") {
  const Counters before{{"vsnoop_early_acks", 100}, {"vsnoop_latency_samples", 5}};
  const Counters after{{"vsnoop_early_acks", 40}, {"vsnoop_latency_samples", 5}};
  const Rates its = rates(Vif(), before, after, 2);
  CHECK(its.early_acks == 20);
  CHECK(its.saved_ms < 0);
  CHECK(top_json(1, {its})["vifs"][0]["saved_ms"].is_null());
}

TEST_CASE("xen: who waits for memory is said") {
  FakeHost host;
  host.schedules = {{0, {asleep(0)}}, {3, {asleep(1)}}, {4, {asleep(1)}}};
  host.guest(3, "web");
  host.guest(4, "db");
  host.vif(3, 0, "hold");
  host.vif(4, 0, "hold");  // of a module that does not say
  set_counter(host, "vif3.0", "budget", 4 << 20);
  set_counter(host, "vif3.0", "budget_short", (12 << 20) + 1);
  CHECK_THAT(
      run(host, {"list"}).out,
      Contains("web.0: waits for 12289 KiB of memory; is lent 4096\n") && !Contains("db.0: waits"));
  const Json list = Json::parse(run(host, {"list", "--json"}).out);
  CHECK(list["guests"][1]["vifs"][0]["budget"] == 4 << 20);
  CHECK(list["guests"][1]["vifs"][0]["budget_short"] == (12 << 20) + 1);
  CHECK(list["guests"][2]["vifs"][0]["budget_short"].is_null());
  CHECK_THAT(run(host, {"top", "--once", "web"}).out, Contains("  4096      12289\n"));
  const Json top = Json::parse(run(host, {"top", "--once", "--json", "db", "db.0"}).out);
  REQUIRE(top["vifs"].size() == 1);
  CHECK(top["vifs"][0]["budget"].is_null());
}

TEST_CASE("xen top: vifs that come or go do not end it") {
  FakeHost host;
  host.vif(3, 0, "hold");
  host.vif(4, 0, "hold");
  host.later(500 * ms, [&] { host.interfaces.erase("vif3.0"); });
  host.later(500 * ms, [&] { host.vif(5, 0, "hold"); });
  const Json json = Json::parse(run(host, {"top", "--once", "--json"}).out);
  REQUIRE(json["vifs"].size() == 1);
  CHECK(json["vifs"][0]["domid"] == 4);
}

TEST_CASE("xen stats: counters that moved, each reason with its sentence") {
  FakeHost host;
  host.guest(3, "web");
  host.vif(3, 0, "hold");
  set_counter(host, "vif3.0", "early_acks", 12);
  set_counter(host, "vif3.0", "r_no_flow", 3);
  set_counter(host, "vif3.0", "r_ecn", 0);
  const std::string text = run(host, {"stats", "web"}).out;
  CHECK_THAT(text, Contains("early_acks") && Contains("12"));
  CHECK_THAT(text, Contains("handshake not seen, so the window scale is unknown"));
  CHECK_THAT(text, !Contains("ecn") && !Contains("rx_gso"));
  const Json json = Json::parse(run(host, {"stats", "web", "--json"}).out);
  CHECK(json[0]["counters"]["early_acks"] == 12);
  CHECK(json[0]["reasons"]["ecn"] == 0);
  CHECK(json[0]["reasons"]["no_flow"] == 3);

  host.interfaces["vif3.0"] = {{"rx_gso_checksum_fixup", 0}};
  CHECK_THAT(run(host, {"stats", "web"}).error, Contains("has no counters of vsnoop"));
  host.interfaces.clear();
  CHECK_THAT(run(host, {"stats", "web"}).error, Contains("its interface vif3.0 is not here"));
}

TEST_CASE("xen stats: every reason's name fits the 31 characters that ethtool has") {
  for (unsigned i = 0; i < VSNOOP_REASONS; ++i) {
    const char* name = vsnoop_reason_name(static_cast<uint8_t>(i));
    INFO(name);
    CHECK(std::strlen("vsnoop_r_") + std::strlen(name) <= 31);
  }
}

TEST_CASE("xen flows: the kernel's words, by column") {
  FakeHost host;
  host.guest(3, "web");
  const std::string path = host.vif(3, 0, "hold");
  host.store[path + "/vifname"] = "web-lan";
  // Connected, and so named, before the script gave the interface its name.
  host.files["/sys/kernel/debug/xen-netback/vif3.0/vsnoop_flows"] =
      "guest peer state promised held\n"
      "10.0.0.2:80 10.0.0.1:41234 active 1448 2304\n"
      "[fd00::2]:22 [fd00::1]:50000 closing 0 0\n";
  const std::string text = run(host, {"flows", "web"}).out;
  CHECK_THAT(text, Contains("web.0\nguest "));
  CHECK_THAT(text, Contains("closing         0     0\n"));
  const Json json = Json::parse(run(host, {"flows", "web", "--json"}).out);
  REQUIRE(json[0]["flows"].size() == 2);
  CHECK(json[0]["flows"][0]["guest"] == "10.0.0.2:80");
  CHECK(json[0]["flows"][0]["held"] == 2304);
  CHECK(json[0]["flows"][1]["state"] == "closing");

  host.files.erase("/sys/kernel/debug/xen-netback/vif3.0/vsnoop_flows");
  CHECK_THAT(run(host, {"flows", "web"}).error, Contains("debugfs"));
}

TEST_CASE("xen: the ethtool ioctl on interfaces that are not netback's") {
  CHECK_FALSE(ethtool_counters("no-such-interface"));
  const auto loopback = ethtool_counters("lo");
  REQUIRE(loopback);
  CHECK(loopback->empty());
}
