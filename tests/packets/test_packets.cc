// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Packet scripts: ours, one for each known lie, and those in VSNOOP_PKT_DIR (of packetdrill, of the
// Linux kernel's selftests, of failures of the promise oracle) as a table.
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "tests/packets/script.h"

using namespace vsnoop_test;

namespace {

std::vector<std::filesystem::path> scripts_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.path().extension() == ".pkt") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace

TEST_CASE("packets: the project's own scripts") {
  const auto paths = scripts_in("tests/packets");
  CHECK(paths.size() >= 15);
  for (const auto& path : paths) {
    DYNAMIC_SECTION(path.filename().string()) {
      const auto steps = read_script(path.string());
      const ScriptResult result = play(steps);
      for (const std::string& fault : result.faults) FAIL_CHECK(path.string() << ": " << fault);
      CHECK(result.packets > 3);
    }
  }
}

TEST_CASE("packets: an expectation that fails is a fault") {
  const auto steps = read_script("tests/packets/in-order.pkt");
  REQUIRE(steps.size() > 6);
  REQUIRE(play(steps).faults.empty());
  for (size_t i = 0; i < steps.size(); ++i) {
    auto changed = steps;
    if (steps[i].kind == ScriptStep::peer || steps[i].kind == ScriptStep::guest) continue;
    if (changed[i].packet && changed[i].packet->ack)
      ++*changed[i].packet->ack;
    else
      continue;
    CHECK_FALSE(play(changed).faults.empty());
    changed.erase(changed.begin() + static_cast<long>(i));
    if (steps[i].kind == ScriptStep::vsnoop_to_peer) CHECK_FALSE(play(changed).faults.empty());
  }
}

TEST_CASE("packets: what is promised is kept, broken, or not asserted by the script") {
  ScriptResult r = play(read_script("tests/packets/in-order.pkt"));
  CHECK(r.promised == 2000);
  CHECK(r.kept == 2000);
  // The guest resets the connection instead of confirming what was promised.
  auto steps = read_script("tests/packets/in-order.pkt");
  const auto is_ack = [](const ScriptStep& step) {
    return step.kind == ScriptStep::guest && step.packet && step.packet->flags == ACK;
  };
  const auto last = std::find_if(steps.rbegin(), steps.rend(), is_ack);
  REQUIRE(last != steps.rend());
  last->packet->flags = RST | ACK;
  steps.erase(last.base(), steps.end());
  r = play(steps);
  CHECK(r.broken > 0);
  CHECK(r.kept + r.broken == r.promised);
  // ... or is not heard of again.
  steps.pop_back();
  r = play(steps);
  CHECK(r.broken == 0);
  CHECK(r.open > 0);
  CHECK(r.kept + r.open == r.promised);
}

TEST_CASE("packets: scripts of others, from VSNOOP_PKT_DIR") {
  const char* directory = std::getenv("VSNOOP_PKT_DIR");
  if (!directory) {
    SUCCEED("VSNOOP_PKT_DIR is not set");
    return;
  }
  std::printf("%10s %10s %10s %12s  script\n", "promised", "kept", "broken", "not asserted");
  ScriptResult all;
  unsigned tracked = 0;
  for (const auto& path : scripts_in(directory)) {
    INFO(path.string());
    const ScriptResult r = play(read_script(path.string()));
    std::printf("%10llu %10llu %10llu %12llu  %s%s\n", static_cast<unsigned long long>(r.promised),
                static_cast<unsigned long long>(r.kept), static_cast<unsigned long long>(r.broken),
                static_cast<unsigned long long>(r.open), path.filename().c_str(),
                r.tracked ? "" : " (not tracked)");
    for (const std::string& fault : r.faults) FAIL_CHECK(path.string() << ": " << fault);
    all.promised += r.promised, all.kept += r.kept, all.broken += r.broken, all.open += r.open;
    tracked += r.tracked;
  }
  std::printf("%10llu %10llu %10llu %12llu  in all, %u connections tracked\n",
              static_cast<unsigned long long>(all.promised),
              static_cast<unsigned long long>(all.kept),
              static_cast<unsigned long long>(all.broken),
              static_cast<unsigned long long>(all.open), tracked);
  CHECK(tracked > 0);
}
