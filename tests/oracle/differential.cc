// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The differential oracle: is anybody worse off than with the offload off? A seed is one scenario.
//   differential [--world NAME]... [--seed N] [--scenarios N] [--minutes N] [--survey] [--script
//   FILE]
// A failure is made smaller, and printed with the scripts of both runs. --survey goes on and ends
// with a table: each kind of difference, how often, the first seed.
#include <rapidcheck.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>

#include "tests/oracle/compare.h"
#include "tests/oracle/generate.h"

namespace vsnoop_oracle {
namespace {

// Of the connections of plain scenarios that end well both ways, so many in ten thousand may be
// `slow`. Below so many connections a share says nothing.
constexpr uint64_t most_slow = 20, enough = 5000;

constexpr double shrink_seconds = 60;

double now() {
  const auto t = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(t).count();
}

struct Found {
  std::string kind, text;
  Scenario scenario;
};

/// Plays the scenario of a seed, and makes it smaller while the same kind of difference remains.
std::vector<Found> play(const World& world, uint64_t seed, bool shrinks, Comparison& total) {
  rc::detail::TestParams params;
  params.seed = seed;
  params.maxSuccess = 1;
  std::vector<Found> found;
  double began = 0;
  const auto gen = scenario_of(world);
  rc::detail::checkTestable(
      [&] {
        const Scenario scenario = *gen;
        if (began > 0 && now() - began > shrink_seconds) return;
        const Comparison c = compare(scenario, world.fresh);
        if (began == 0) {
          began = now();
          total.connections += c.connections, total.both += c.both, total.slow += c.slow;
          total.only_policy += c.only_policy, total.late += c.late, total.promised += c.promised;
          total.sooner += c.sooner, total.later += c.later;
          for (const Difference& d : c.differences) found.push_back({d.kind, d.text, scenario});
          if (found.empty() || !shrinks) return;  // the first is made smaller
        }
        for (const Difference& d : c.differences) {
          if (d.kind != found.front().kind) continue;
          found.front() = {d.kind, d.text, scenario};
          RC_FAIL(d.kind);
        }
      },
      rc::detail::TestMetadata(), params);
  return found;
}

void print(const World& world, uint64_t seed, const Found& found, std::ostream& out,
           size_t most_lines) {
  out << "differential: world " << world.name << " seed " << seed << ": " << found.text << "\n"
      << found.scenario << "\n";
  for (const vsnoop_policy policy : {VSNOOP_POLICY_OFF, VSNOOP_POLICY_HOLD}) {
    Stage stage(found.scenario, {.policy = policy, .traced = true});
    const std::string failure = stage.run();
    out << "---- " << (policy == VSNOOP_POLICY_OFF ? "off" : "policy hold") << " " << failure
        << "\n";
    const auto& lines = stage.script();
    const size_t from = lines.size() > most_lines ? lines.size() - most_lines : 0;
    if (from) out << "  ... " << from << " lines before\n";
    for (size_t i = from; i < lines.size(); ++i) out << "  " << lines[i] << "\n";
  }
}

}  // namespace

int main(int count, char** words) {
  CLI::App app{"differential oracle: each scenario with the policy and with the offload off"};
  uint64_t seed = 1, scenarios = 1000, minutes = 0;
  std::vector<std::string> names;
  std::string script;
  bool survey = false, list = false;
  app.add_option("--world", names, "only these; default: all, in turn");
  app.add_option("--seed", seed, "of the first scenario")->capture_default_str();
  app.add_option("--scenarios", scenarios, "how many")->capture_default_str();
  app.add_option("--minutes", minutes, "instead: for so long");
  app.add_option("--script", script, "write the scripts of a failure to this file");
  app.add_flag("--survey", survey, "go on after a failure; end with a table of all kinds");
  app.add_flag("--list", list, "print the worlds");
  CLI11_PARSE(app, count, words);

  std::vector<const World*> chosen;
  for (const World& world : worlds()) {
    if (list) std::printf("%-12s %s\n", world.name, world.what);
    if (names.empty() || std::find(names.begin(), names.end(), world.name) != names.end())
      chosen.push_back(&world);
  }
  if (list) return 0;
  if (names.empty() ? chosen.empty() : chosen.size() != names.size()) {
    std::fprintf(stderr, "differential: --world names no such world; --list prints them\n");
    return 2;
  }
  struct Kind {
    uint64_t times = 0, seed = 0;
  };
  std::map<std::pair<std::string, std::string>, Kind> kinds;
  Comparison total;
  uint64_t done = 0, worse = 0;
  const double began = now();
  double told = 0;
  for (uint64_t at = seed;
       minutes ? now() - began < 60.0 * static_cast<double>(minutes) : done < scenarios;
       ++at, ++done) {
    const World& world = *chosen[at % chosen.size()];
    const uint64_t slow_before = total.slow;
    const std::vector<Found> found = play(world, at, !survey, total);
    worse += !found.empty();
    if (!found.empty() && !survey) {
      print(world, at, found.front(), std::cerr, 60);
      if (!script.empty()) {
        std::ofstream out(script);
        print(world, at, found.front(), out, 100000);
      }
      return 1;
    }
    const auto note = [&, at](const std::string& what, uint64_t times) {
      Kind& kind = kinds[{world.name, what}];
      if (!kind.times) kind.seed = at;
      kind.times += times;
    };
    for (const Found& f : found) note(f.kind, 1);
    if (total.slow != slow_before) note("(beyond 2x + 1 s)", total.slow - slow_before);
    if (now() - began > told + 10) {
      told = now() - began;
      std::fprintf(stderr, "\rdifferential: %llu scenarios, %llu worse off, %.0f s ",
                   static_cast<unsigned long long>(done + 1),
                   static_cast<unsigned long long>(worse), told);
    }
  }
  if (told > 0) std::fputc('\n', stderr);
  const auto n = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  for (const auto& [key, kind] : kinds)
    std::printf("  %-11s %-45s %6llu  first: --world %s --seed %llu --scenarios 1\n",
                key.first.c_str(), key.second.c_str(), n(kind.times), key.first.c_str(),
                n(kind.seed));
  const bool too_slow = total.both >= enough && total.slow * 10000 > most_slow * total.both;
  std::printf(
      "differential: %llu pairs (seed %llu on) of %zu worlds: %llu connections, %llu end well both "
      "ways, %llu only with the policy; last byte sooner %llu, later %llu; beyond 2x + 1 s %llu%s; "
      "%llu bytes promised: %s\n",
      n(done), n(seed), chosen.size(), n(total.connections), n(total.both), n(total.only_policy),
      n(total.sooner), n(total.later), n(total.slow), too_slow ? " (too many)" : "",
      n(total.promised),
      worse ? (std::to_string(worse) + " scenarios worse off").c_str() : "nobody worse off");
  return worse || too_slow;
}

}  // namespace vsnoop_oracle

int main(int count, char** words) { return vsnoop_oracle::main(count, words); }
