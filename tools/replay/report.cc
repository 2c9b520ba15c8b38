// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>

namespace vsnoop::replay {
namespace {

std::string size_text(uint64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  const auto value = static_cast<double>(bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", value / 1e3);
  return bytes < 10'000'000'000 ? fmt::format("{:.1f} MB", value / 1e6)
                                : fmt::format("{:.1f} GB", value / 1e9);
}

std::string time_text(int64_t ns) {
  const auto value = static_cast<double>(ns);
  if (ns < 1'000) return fmt::format("{} ns", ns);
  if (ns < 1'000'000) return fmt::format("{:.1f} us", value / 1e3);
  return ns < 1'000'000'000 ? fmt::format("{:.1f} ms", value / 1e6)
                            : fmt::format("{:.1f} s", value / 1e9);
}

// "1 segment", "2 segments"
std::string counted(uint64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

// Nearest rank; `sorted` is not empty.
int64_t percentile(const std::vector<int64_t>& sorted, double share) {
  return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

using Line = std::back_insert_iterator<std::string>;

void write_histogram(const std::vector<int64_t>& saved, Line to) {
  constexpr std::array<int64_t, 8> limits{100'000,    300'000,     1'000'000,     10'000'000,
                                          30'000'000, 100'000'000, 1'000'000'000, INT64_MAX};
  constexpr std::array<const char*, 8> names{"< 0.1 ms", "< 0.3 ms", "< 1 ms", "< 10 ms",
                                             "< 30 ms",  "< 100 ms", "< 1 s",  ">= 1 s"};
  std::array<uint64_t, limits.size()> counts{};
  for (const int64_t ns : saved) {
    counts[static_cast<size_t>(std::upper_bound(limits.begin(), limits.end(), ns) -
                               limits.begin())]++;
  }
  const uint64_t most = *std::max_element(counts.begin(), counts.end());
  for (size_t i = 0; i < counts.size(); i++) {
    if (!counts[i]) continue;
    std::string bar;
    for (uint64_t n = 0; n < std::max<uint64_t>(1, counts[i] * 40 / most); n++) bar += "█";
    fmt::format_to(to, "                {:>8}  {:<6} {}\n", names[i], counts[i], bar);
  }
}

template <typename T>
std::vector<std::pair<uint8_t, Count>> by_count(const T& reasons) {
  std::vector<std::pair<uint8_t, Count>> sorted(reasons.begin(), reasons.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.segments > b.second.segments;
  });
  return sorted;
}

void write_promises(const Totals& totals, Line to) {
  const auto& fates = totals.oracle.fates;
  fmt::format_to(to, "  early ACKs    {} for {} of {} that the peers sent\n", totals.early_acks,
                 size_text(fates[0].bytes + fates[1].bytes + fates[2].bytes),
                 size_text(totals.from_peer.bytes));
  for (size_t i = 0; i < fates.size(); i++) {
    std::string why;
    constexpr std::array<std::pair<size_t, size_t>, 3> causes{{{0, 0}, {0, 4}, {4, 6}}};
    for (size_t c = causes[i].first; c < causes[i].second; c++) {
      const uint64_t n = totals.oracle.causes[c].early_acks;
      if (n) why += fmt::format("{}{} {}", why.empty() ? "   " : ", ", n, cause_names[c]);
    }
    fmt::format_to(to, "  {:<13} {:<8} {:>8} {:>12}{}\n", i == 0 ? "promises" : "", fate_names[i],
                   fates[i].early_acks, size_text(fates[i].bytes), why);
  }
  std::vector<int64_t> saved = totals.oracle.saved_ns;
  if (saved.empty()) return;
  std::sort(saved.begin(), saved.end());
  fmt::format_to(to, "  time saved    p10 {}   p50 {}   p90 {}   p99 {}   max {}\n",
                 time_text(percentile(saved, 0.1)), time_text(percentile(saved, 0.5)),
                 time_text(percentile(saved, 0.9)), time_text(percentile(saved, 0.99)),
                 time_text(saved.back()));
  write_histogram(saved, to);
}

void write_refusals(const Totals& totals, Line to) {
  fmt::format_to(to, "  guest's ACKs  {} of {} dropped (G4), {} rebased (G2)\n",
                 totals.acks_dropped, totals.pure_acks, counted(totals.rebased, "segment"));
  if (totals.other_emissions || totals.resets) {
    fmt::format_to(to, "  also sent     {} (window updates, answers to duplicates), {}\n",
                   counted(totals.other_emissions, "other ACK"), counted(totals.resets, "reset"));
  }
  const char* title = "not promised";
  for (const auto& [reason, count] : by_count(totals.refusals)) {
    fmt::format_to(to, "  {:<13} {:>6} {:>10}  {:<4} {}\n", title, count.segments,
                   size_text(count.bytes), vsnoop_reason_rule(reason), vsnoop_reason_text(reason));
    title = "";
  }
  if (totals.unverified) {
    fmt::format_to(to,
                   "  note          {} refused because the capture lacks the bytes to verify their "
                   "checksums;\n                --assume-checksums takes them as right\n",
                   counted(totals.unverified, "segment"));
  }
}

std::vector<uint32_t> by_promised(const FileResult& file) {
  auto promised = [&](uint32_t i) {
    const auto& fates = file.flows[i].oracle.fates;
    return fates[0].bytes + fates[1].bytes + fates[2].bytes;
  };
  std::vector<uint32_t> order(file.flows.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(promised(a), file.flows[a].from_peer.bytes) >
           std::pair(promised(b), file.flows[b].from_peer.bytes);
  });
  return order;
}

void write_flows(const FileResult& file, size_t rows, Line to) {
  if (!rows || file.flows.empty()) return;
  fmt::format_to(to, "  {:>5} {:>10} {:>7} {:>7} {:>6} {:>5} {:>10}  {}\n", "flow", "sent", "early",
                 "kept", "broken", "open", "saved p50", "peer -> guest: why not more");
  const std::vector<uint32_t> order = by_promised(file);
  for (size_t row = 0; row < std::min(rows, order.size()); row++) {
    const uint32_t i = order[row];
    const FlowResult& flow = file.flows[i];
    const Connection& connection = file.plan.connections[i];
    const auto& fates = flow.oracle.fates;
    std::vector<int64_t> saved = flow.oracle.saved_ns;
    std::sort(saved.begin(), saved.end());
    const auto refusals = by_count(flow.refusals);
    fmt::format_to(
        to, "  {:>5} {:>10} {:>7} {:>7} {:>6} {:>5} {:>10}  {} -> {}{}\n", i + 1,
        size_text(flow.from_peer.bytes), flow.early_acks, fates[0].early_acks, fates[1].early_acks,
        fates[2].early_acks, saved.empty() ? "-" : time_text(percentile(saved, 0.5)),
        to_text(connection.peer_end().address, connection.peer_end().port),
        to_text(connection.guest_end().address, connection.guest_end().port),
        refusals.empty() ? "" : fmt::format(": {}", vsnoop_reason_text(refusals[0].first)));
  }
  if (order.size() > rows) {
    fmt::format_to(to, "        {} more; --flows N shows N of them\n", order.size() - rows);
  }
}

nlohmann::json json_reasons(const std::map<uint8_t, Count>& reasons) {
  nlohmann::json out = nlohmann::json::array();
  for (const auto& [reason, count] : by_count(reasons)) {
    out.push_back({{"reason", vsnoop_reason_name(reason)},
                   {"rule", vsnoop_reason_rule(reason)},
                   {"text", vsnoop_reason_text(reason)},
                   {"segments", count.segments},
                   {"bytes", count.bytes}});
  }
  return out;
}

// FlowResult and Totals have these fields in common.
template <typename T>
nlohmann::json json_counts(const T& counts) {
  nlohmann::json promises, causes;
  for (size_t i = 0; i < fate_names.size(); i++) {
    const PromiseCount& fate = counts.oracle.fates[i];
    promises[fate_names[i]] = {{"early_acks", fate.early_acks}, {"bytes", fate.bytes}};
  }
  for (size_t i = 0; i < cause_names.size(); i++) {
    const PromiseCount& cause = counts.oracle.causes[i];
    if (!cause.early_acks) continue;
    causes[cause_names[i]] = {{"early_acks", cause.early_acks}, {"bytes", cause.bytes}};
  }
  nlohmann::json out{{"early_acks", counts.early_acks},
                     {"promises", promises},
                     {"not_kept_because", causes.is_null() ? nlohmann::json::object() : causes},
                     {"data_segments", counts.from_peer.segments},
                     {"data_bytes", counts.from_peer.bytes},
                     {"guest_segments", counts.from_guest},
                     {"guest_pure_acks", counts.pure_acks},
                     {"guest_acks_dropped", counts.acks_dropped},
                     {"guest_segments_rebased", counts.rebased},
                     {"other_acks_sent", counts.other_emissions},
                     {"resets_sent", counts.resets},
                     {"not_promised", json_reasons(counts.refusals)}};
  std::vector<int64_t> saved = counts.oracle.saved_ns;
  std::sort(saved.begin(), saved.end());
  nlohmann::json& time = out["time_saved_us"] = nlohmann::json::object();
  time["n"] = saved.size();
  if (saved.empty()) return out;
  for (const auto& [name, share] : {std::pair("p10", .1), {"p50", .5}, {"p90", .9}, {"p99", .99}}) {
    time[name] = static_cast<double>(percentile(saved, share)) / 1e3;
  }
  time["max"] = static_cast<double>(saved.back()) / 1e3;
  return out;
}

nlohmann::json json_file(const FileResult& file) {
  Totals totals;
  totals.add(file);
  nlohmann::json out = json_counts(totals);
  const Plan& plan = file.plan;
  out["file"] = file.path;
  if (!file.error.empty()) out["error"] = file.error;
  out["link"] = plan.link;
  out["frames"] = plan.frames;
  out["tcp_segments"] = plan.tcp;
  out["duration_s"] = static_cast<double>(plan.last_ns - plan.first_ns) / 1e9;
  out["segments_without_guest"] = file.without_guest;
  out["clock_steps_back"] = file.clock_steps;
  out["unverified_checksums"] = file.unverified;
  out["connections_diverged"] = file.diverged;
  out["violation_count"] = file.violation_count;
  out["violations"] = file.violations;
  out["unfilled_checksums_of"] = nlohmann::json::array();
  for (const Address& host : plan.partial) out["unfilled_checksums_of"].push_back(to_text(host));
  out["guests"] = nlohmann::json::array();
  for (size_t i = 0; i < plan.guests.size(); i++) {
    nlohmann::json guest{{"address", to_text(plan.guests[i].address)},
                         {"connections", plan.guests[i].connections},
                         {"received_bytes", plan.guests[i].received}};
    if (i < file.guests.size()) {
      const auto& stats = file.guests[i];
      guest["peak_held_bytes"] = stats.peak_held;
      guest["redelivered_frames"] = stats.redelivered_frames;
      for (uint8_t reason = 0; reason < VSNOOP_REASONS; reason++) {
        if (stats.reasons[reason])
          guest["engine"][vsnoop_reason_name(reason)] = stats.reasons[reason];
      }
    }
    out["guests"].push_back(std::move(guest));
  }
  out["flows"] = nlohmann::json::array();
  for (uint32_t i = 0; i < file.flows.size(); i++) {
    nlohmann::json flow = json_counts(file.flows[i]);
    const Connection& connection = plan.connections[i];
    flow["flow"] = i + 1;
    flow["has_guest"] = connection.guest_side >= 0;
    flow["peer"] = to_text(connection.peer_end().address, connection.peer_end().port);
    flow["guest"] = to_text(connection.guest_end().address, connection.guest_end().port);
    flow["verdicts"] = json_reasons(file.flows[i].verdicts);
    out["flows"].push_back(std::move(flow));
  }
  return out;
}

}  // namespace

void Totals::add(const FileResult& file) {
  connections += file.flows.size();
  unverified += file.unverified;
  violations += file.violation_count;
  for (const FlowResult& flow : file.flows) {
    oracle += flow.oracle;
    for (const auto& [reason, count] : flow.refusals) {
      refusals[reason].segments += count.segments;
      refusals[reason].bytes += count.bytes;
    }
    from_peer.segments += flow.from_peer.segments;
    from_peer.bytes += flow.from_peer.bytes;
    from_guest += flow.from_guest;
    pure_acks += flow.pure_acks;
    acks_dropped += flow.acks_dropped;
    rebased += flow.rebased;
    early_acks += flow.early_acks;
    other_emissions += flow.other_emissions;
    resets += flow.resets;
  }
}

std::string text_report(const FileResult& file, size_t rows) {
  std::string out;
  Line to(out);
  const Plan& plan = file.plan;
  fmt::format_to(to, "{}\n  capture       {} in {}, {}; {}\n", file.path,
                 counted(plan.frames, "frame"), time_text(plan.last_ns - plan.first_ns), plan.link,
                 counted(plan.connections.size(), "TCP connection"));
  constexpr size_t most_named = 4;
  for (size_t i = 0; i < std::min(plan.guests.size(), most_named); i++) {
    fmt::format_to(to, "  {:<13} {} receives {} on {}\n", i == 0 ? "guests" : "",
                   to_text(plan.guests[i].address), size_text(plan.guests[i].received),
                   counted(plan.guests[i].connections, "connection"));
  }
  if (plan.guests.empty()) fmt::format_to(to, "  guests        none\n");
  if (plan.guests.size() > most_named) {
    fmt::format_to(to, "                and {} more\n", plan.guests.size() - most_named);
  }
  for (const Address& host : plan.partial) {
    fmt::format_to(to, "  note          {} was captured before its NIC filled in checksums\n",
                   to_text(host));
  }
  if (file.without_guest) {
    fmt::format_to(to, "  note          {} belong to connections without a guest\n",
                   counted(file.without_guest, "segment"));
  }
  if (file.clock_steps) {
    fmt::format_to(to, "  note          the capture's clock stepped back {}\n",
                   counted(file.clock_steps, "time"));
  }
  if (file.diverged) {
    fmt::format_to(
        to,
        "  note          {} left the capture's path: vsnoop would have kept segments from "
        "the guest\n                that the capture's guest got (open loop, see "
        "docs/replay.md)\n",
        counted(file.diverged, "connection"));
  }
  Totals totals;
  totals.add(file);
  write_promises(totals, to);
  write_refusals(totals, to);
  write_flows(file, rows, to);
  for (const std::string& violation : file.violations) {
    fmt::format_to(to, "  VIOLATION     {}\n", violation);
  }
  if (file.violation_count > file.violations.size()) {
    fmt::format_to(to, "                and {} more\n",
                   file.violation_count - file.violations.size());
  }
  return out;
}

std::string text_totals(const std::vector<FileResult>& files) {
  Totals totals;
  for (const FileResult& file : files) totals.add(file);
  std::string out;
  Line to(out);
  fmt::format_to(to, "in all: {}, {}\n", counted(files.size(), "capture"),
                 counted(totals.connections, "TCP connection"));
  write_promises(totals, to);
  write_refusals(totals, to);
  if (totals.violations) fmt::format_to(to, "  VIOLATIONS    {}\n", totals.violations);
  return out;
}

nlohmann::json json_report(const std::vector<FileResult>& files) {
  Totals totals;
  nlohmann::json out{{"files", nlohmann::json::array()}};
  for (const FileResult& file : files) {
    totals.add(file);
    out["files"].push_back(json_file(file));
  }
  out["totals"] = json_counts(totals);
  out["totals"]["connections"] = totals.connections;
  out["totals"]["unverified_checksums"] = totals.unverified;
  out["totals"]["violation_count"] = totals.violations;
  return out;
}

}  // namespace vsnoop::replay
