// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The promise oracle: scenarios by the thousand, each from a seed, made smaller when one fails.
//   oracle [--seed N] [--scenarios N] [--minutes N] [--script FILE] [--stats] [--strict]
// The same seed gives the same scenarios. A failure prints the smallest scenario found and the
// script of what happened, which tests/packets can play if it has one stream.
#include <rapidcheck.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "tests/oracle/generate.h"
#include "tests/oracle/stage.h"

namespace vsnoop_oracle {

int main(int count, char** words) {
  CLI::App app{"promise oracle: model peers, guests, networks and hosts around snoop-core"};
  uint64_t seed = 1, scenarios = 10000, minutes = 0;
  std::string script;
  bool statistics = false, strict = false;
  app.add_option("--seed", seed, "of the scenarios")->capture_default_str();
  app.add_option("--scenarios", scenarios, "how many")->capture_default_str();
  app.add_option("--minutes", minutes, "instead: for so long, with one seed after the other");
  app.add_option("--script", script, "write the script of a failure to this file");
  app.add_flag("--stats", statistics, "print how often each verdict fell");
  app.add_flag("--strict", strict, "blame vsnoop for what a lying guest loses: has to fail");
  CLI11_PARSE(app, count, words);

  const auto scenario_gen = any_scenario();
  Stage::Totals totals;
  const auto began = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  constexpr uint64_t batch = 5000;
  uint64_t done = 0;
  double told = 0;
  for (uint64_t at = seed;
       minutes ? elapsed() < 60.0 * static_cast<double>(minutes) : done < scenarios; ++at) {
    rc::detail::TestParams params;
    params.seed = at;
    params.maxSuccess = static_cast<int>(minutes ? batch : std::min(batch, scenarios - done));
    params.maxSize = 100;
    Scenario worst;
    std::string why;
    const rc::detail::TestResult result = rc::detail::checkTestable(
        [&] {
          Scenario scenario = *scenario_gen;
          if (scenario.streams.empty()) scenario.streams.resize(1);
          Stage stage(scenario, {.strict = strict});
          const std::string failure = stage.run();
          totals.add(stage.totals());
          if (failure.empty()) return;
          worst = scenario, why = failure;
          RC_FAIL(failure);
        },
        rc::detail::TestMetadata(), params);
    if (!result.template is<rc::detail::SuccessResult>()) {
      if (why.empty()) {
        rc::detail::printResultMessage(result, std::cerr);
        return 1;
      }
      Stage stage(worst, {.traced = true, .strict = strict});
      const std::string again = stage.run();
      std::cerr << "oracle: seed " << at << ": " << why << "\n" << worst << "\n";
      if (again != why) std::cerr << "oracle: played again it says: " << again << "\n";
      const auto& lines = stage.script();
      const size_t from = lines.size() > 120 ? lines.size() - 120 : 0;
      if (from) std::cerr << "  ... " << from << " lines before\n";
      for (size_t i = from; i < lines.size(); ++i) std::cerr << "  " << lines[i] << "\n";
      if (!script.empty()) {
        std::ofstream out(script);
        for (const std::string& line : lines) out << line << "\n";
      }
      return 1;
    }
    done += static_cast<uint64_t>(params.maxSuccess);
    if (elapsed() > told + 10) {
      told = elapsed();
      std::fprintf(stderr, "\roracle: %llu scenarios, seed %llu, %.0f s ",
                   static_cast<unsigned long long>(done), static_cast<unsigned long long>(at),
                   told);
    }
  }
  if (told > 0) std::fputc('\n', stderr);
  const auto n = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  std::printf(
      "oracle: %llu scenarios (seed %llu on): %llu connections, %llu finished, %llu frames, "
      "%llu early ACKs for %llu bytes, %llu re-deliveries, %llu resets, %llu migrations: no "
      "promise broken\n",
      n(done), n(seed), n(totals.connections), n(totals.finished), n(totals.frames),
      n(totals.early_acks), n(totals.promised), n(totals.redelivered), n(totals.resets),
      n(totals.migrations));
  if (statistics)
    for (uint8_t i = 1; i < VSNOOP_REASONS; ++i)
      std::printf("  %-22s %llu\n", vsnoop_reason_name(i), n(totals.reasons[i]));
  return 0;
}

}  // namespace vsnoop_oracle

int main(int count, char** words) { return vsnoop_oracle::main(count, words); }
