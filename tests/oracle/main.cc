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

#include "tests/oracle/stage.h"

namespace vsnoop_oracle {
namespace {

template <class T>
rc::Gen<T> below(T n) {
  return rc::gen::inRange<T>(0, n);
}

rc::Gen<bool> chance(int percent) {
  return rc::gen::map(rc::gen::inRange(0, 100), [percent](int n) { return n >= 100 - percent; });
}

// How far a fault reaches is not the same for all.
Fault bounded(Fault fault) {
  const auto at_most = [&](uint16_t n) { fault.size = static_cast<uint16_t>(fault.size % n + 1); };
  switch (fault.kind) {
    case FaultKind::lose_to_guest:
    case FaultKind::lose_to_peer:
    case FaultKind::corrupt_to_guest:
    case FaultKind::corrupt_to_peer:
    case FaultKind::refuse:
      at_most(5);
      break;
    case FaultKind::repeat_to_guest:
    case FaultKind::repeat_to_peer:
    case FaultKind::delay_to_guest:
    case FaultKind::delay_to_peer:
    case FaultKind::decline:
      at_most(12);
      break;
    case FaultKind::lose_ring:
    case FaultKind::restart:
      at_most(600);
      break;
    case FaultKind::lie_little:
      at_most(3000);
      break;
    default:
      at_most(3000);
  }
  return fault;
}

rc::Gen<Fault> any_fault() {
  return rc::gen::map(
      rc::gen::build<Fault>(
          rc::gen::set(&Fault::kind, rc::gen::map(below<int>(static_cast<int>(FaultKind::kinds)),
                                                  [](int n) { return static_cast<FaultKind>(n); })),
          rc::gen::set(&Fault::at, below<uint16_t>(70)),
          rc::gen::set(&Fault::size, below<uint16_t>(3000))),
      bounded);
}

rc::Gen<Stream> any_stream() {
  return rc::gen::build<Stream>(
      rc::gen::set(&Stream::to_guest,
                   rc::gen::oneOf(below<uint32_t>(200), below<uint32_t>(60000),
                                  below<uint32_t>(60000), below<uint32_t>(250000))),
      rc::gen::set(&Stream::to_peer,
                   rc::gen::oneOf(rc::gen::just<uint32_t>(0), below<uint32_t>(3000))),
      // Just below 2^32, so that wrapping is the normal case.
      rc::gen::set(&Stream::peer_isn,
                   rc::gen::map(below<uint32_t>(40000), [](uint32_t n) { return ~n; })),
      rc::gen::set(&Stream::guest_isn,
                   rc::gen::map(below<uint32_t>(2000), [](uint32_t n) { return ~n; })),
      rc::gen::set(&Stream::buffer,
                   rc::gen::map(rc::gen::oneOf(below<uint32_t>(20000), below<uint32_t>(400000)),
                                [](uint32_t n) { return n + 3000; })),
      rc::gen::set(&Stream::start_ms, below<uint16_t>(40)),
      rc::gen::set(&Stream::closing, below<uint8_t>(12)),
      rc::gen::set(&Stream::guest_opens, chance(25)),
      rc::gen::set(&Stream::probes_with_data, chance(30)));
}

// At most `most`; ranges inside them are whole, whatever RapidCheck's size.
template <class T>
rc::Gen<std::vector<T>> some(int most, rc::Gen<T> gen) {
  return rc::gen::resize(
      most, rc::gen::container<std::vector<T>>(rc::gen::resize(rc::kNominalSize, std::move(gen))));
}

rc::Gen<Scenario> any_scenario() {
  using rc::gen::element;
  return rc::gen::resize(
      rc::kNominalSize,
      rc::gen::build<Scenario>(
          rc::gen::set(&Scenario::streams,
                       rc::gen::mapcat(element(1, 1, 1, 2, 4),
                                       [](int n) { return some<Stream>(n, any_stream()); })),
          rc::gen::set(&Scenario::faults,
                       rc::gen::mapcat(element(0, 2, 4, 8, 14),
                                       [](int n) { return some<Fault>(n, any_fault()); })),
          rc::gen::set(&Scenario::ts, chance(80)), rc::gen::set(&Scenario::sack, chance(80)),
          rc::gen::set(&Scenario::early_sack, chance(30)),
          rc::gen::set(&Scenario::engage_auto, chance(15)),
          rc::gen::set(&Scenario::late_reports, chance(30)),
          rc::gen::set(&Scenario::scale, element(7, 7, 2, 0, -1)),
          rc::gen::set(&Scenario::mss, element<uint16_t>(1448, 1448, 536, 8948)),
          rc::gen::set(&Scenario::gro, element<uint16_t>(1, 1, 4)),
          rc::gen::set(&Scenario::ring, element<uint16_t>(64, 256, 16, 4, 2)),
          rc::gen::set(&Scenario::rtt_ms, element<uint16_t>(1, 1, 0, 10, 80)),
          rc::gen::set(&Scenario::run_ms, element<uint16_t>(10, 30, 1)),
          rc::gen::set(&Scenario::wait_ms, element<uint16_t>(20, 60, 0, 300)),
          rc::gen::set(&Scenario::budget,
                       element<uint32_t>(1u << 20, 8u << 20, 128u << 10, 32u << 10)),
          rc::gen::set(&Scenario::flow_budget, element<uint32_t>(0, 0, 24u << 10)),
          rc::gen::set(&Scenario::total_budget, element<uint32_t>(0, 0, 64u << 10)),
          rc::gen::set(&Scenario::custodies, element<uint16_t>(16, 16, 1, 2))));
}

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

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
          Stage stage(scenario, false, strict);
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
      Stage stage(worst, true, strict);
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
