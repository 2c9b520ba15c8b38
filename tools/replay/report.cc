// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <tuple>

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

using Line = std::back_insert_iterator<std::string>;

void write_histogram(const Times& saved, Line to) {
  constexpr std::array<int64_t, 8> limits{100'000,    300'000,     1'000'000,     10'000'000,
                                          30'000'000, 100'000'000, 1'000'000'000, INT64_MAX};
  constexpr std::array<const char*, 8> names{"< 0.1 ms", "< 0.3 ms", "< 1 ms", "< 10 ms",
                                             "< 30 ms",  "< 100 ms", "< 1 s",  ">= 1 s"};
  std::array<uint64_t, limits.size()> counts{};
  uint64_t before = 0;
  for (size_t i = 0; i < limits.size(); i++) {
    const uint64_t below = i + 1 < limits.size() ? saved.below(limits[i]) : saved.count();
    counts[i] = below - before;
    before = below;
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
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(b.second.segments, a.first) < std::pair(a.second.segments, b.first);
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
  const Times& saved = totals.oracle.saved;
  if (!saved.count()) return;
  fmt::format_to(to, "  time saved    p10 {}   p50 {}   p90 {}   p99 {}   max {}\n",
                 time_text(saved.percentile(0.1)), time_text(saved.percentile(0.5)),
                 time_text(saved.percentile(0.9)), time_text(saved.percentile(0.99)),
                 time_text(saved.max()));
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

uint64_t promised(const FlowEnd& flow) {
  const auto& fates = flow.result.oracle.fates;
  return fates[0].bytes + fates[1].bytes + fates[2].bytes;
}

void write_flows(const std::vector<FlowEnd>& top, uint64_t connections, size_t rows, Line to) {
  if (!rows || top.empty()) return;
  fmt::format_to(to, "  {:>5} {:>10} {:>7} {:>7} {:>6} {:>5} {:>10}  {}\n", "flow", "sent", "early",
                 "kept", "broken", "open", "saved p50", "peer -> guest: why not more");
  for (size_t row = 0; row < std::min(rows, top.size()); row++) {
    const FlowResult& flow = top[row].result;
    const auto& fates = flow.oracle.fates;
    const Times& saved = flow.oracle.saved;
    const auto refusals = by_count(flow.refusals);
    fmt::format_to(
        to, "  {:>5} {:>10} {:>7} {:>7} {:>6} {:>5} {:>10}  {} -> {}{}\n", top[row].number + 1,
        size_text(flow.from_peer.bytes), flow.early_acks, fates[0].early_acks, fates[1].early_acks,
        fates[2].early_acks, saved.count() ? time_text(saved.percentile(0.5)) : "-",
        to_text(top[row].peer.address, top[row].peer.port),
        to_text(top[row].guest.address, top[row].guest.port),
        refusals.empty() ? "" : fmt::format(": {}", vsnoop_reason_text(refusals[0].first)));
  }
  if (connections > rows) {
    fmt::format_to(to, "        {} more; --flows N shows N of them\n", connections - rows);
  }
}

// "[2001:db8::1]", and which copy of the network it is on if its address is seen on several.
std::string guest_text(const Guest& guest) {
  return guest.lane ? fmt::format("{} (at place {})", to_text(guest.address), guest.lane + 1)
                    : to_text(guest.address);
}

nlohmann::json json_reasons(const ReasonCounts& reasons) {
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
  const Times& saved = counts.oracle.saved;
  nlohmann::json& time = out["time_saved_us"] = nlohmann::json::object();
  time["n"] = saved.count();
  if (!saved.count()) return out;
  for (const auto& [name, share] : {std::pair("p10", .1), {"p50", .5}, {"p90", .9}, {"p99", .99}}) {
    time[name] = static_cast<double>(saved.percentile(share)) / 1e3;
  }
  time["max"] = static_cast<double>(saved.max()) / 1e3;
  return out;
}

nlohmann::json json_findings(const std::map<std::string, uint64_t>& findings) {
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [what, frames] : findings) out[what] = frames;
  return out;
}

nlohmann::json json_file(const FileResult& file, const Totals& totals) {
  nlohmann::json out = json_counts(totals);
  const Plan& plan = file.plan;
  out["file"] = file.name;
  if (!file.error.empty()) out["error"] = file.error;
  out["link"] = plan.link;
  out["frames"] = plan.frames;
  out["tcp_segments"] = plan.tcp;
  out["duration_s"] = static_cast<double>(plan.last_ns - plan.first_ns) / 1e9;
  out["connections"] = plan.connections;
  out["read_through"] = json_findings(plan.findings.through);
  out["not_read"] = json_findings(plan.findings.unread);
  out["segments_without_guest"] = file.without_guest;
  out["segments_of_copies"] = file.copies;
  out["segments_late"] = file.late;
  out["clock_steps_back"] = file.clock_steps;
  out["unverified_checksums"] = file.unverified;
  out["connections_diverged"] = file.diverged;
  out["violation_count"] = file.violation_count;
  out["violations"] = file.violations;
  out["unfilled_checksums_of"] = nlohmann::json::array();
  for (const Address& host : plan.partial) out["unfilled_checksums_of"].push_back(to_text(host));
  out["guests"] = nlohmann::json::array();
  for (size_t i = 0; i < file.guests.list.size(); i++) {
    const Guest& known = file.guests.list[i];
    nlohmann::json guest{{"address", to_text(known.address)},
                         {"place", known.lane + 1},
                         {"connections", known.connections},
                         {"received_bytes", known.received}};
    if (i < file.guest_stats.size()) {
      const auto& stats = file.guest_stats[i];
      guest["peak_held_bytes"] = stats.peak_held;
      guest["redelivered_frames"] = stats.redelivered_frames;
      for (uint8_t reason = 0; reason < VSNOOP_REASONS; reason++) {
        if (stats.reasons[reason])
          guest["engine"][vsnoop_reason_name(reason)] = stats.reasons[reason];
      }
    }
    out["guests"].push_back(std::move(guest));
  }
  return out;
}

// The fields of an object, without its braces.
std::string inside(const nlohmann::json& object) {
  const std::string text = object.dump();
  return text.substr(1, text.size() - 2);
}

}  // namespace

void Totals::add(const FlowResult& flow) {
  connections++;
  oracle += flow.oracle;
  for (const auto& [reason, count] : flow.refusals) refusals[reason] += count;
  from_peer += flow.from_peer;
  from_guest += flow.from_guest;
  pure_acks += flow.pure_acks;
  acks_dropped += flow.acks_dropped;
  rebased += flow.rebased;
  early_acks += flow.early_acks;
  other_emissions += flow.other_emissions;
  resets += flow.resets;
}

void Totals::add(const Totals& file) {
  connections += file.connections;
  oracle += file.oracle;
  for (const auto& [reason, count] : file.refusals) refusals[reason] += count;
  from_peer += file.from_peer;
  from_guest += file.from_guest;
  pure_acks += file.pure_acks;
  acks_dropped += file.acks_dropped;
  rebased += file.rebased;
  early_acks += file.early_acks;
  other_emissions += file.other_emissions;
  resets += file.resets;
  unverified += file.unverified;
  violations += file.violations;
}

void TopFlows::add(const FlowEnd& flow) {
  flows_.push_back(flow);
  if (flows_.size() > 2 * rows_ + 64) cut();
}

void TopFlows::cut() {
  std::sort(flows_.begin(), flows_.end(), [](const FlowEnd& a, const FlowEnd& b) {
    return std::tuple(promised(b), b.result.from_peer.bytes, a.number) <
           std::tuple(promised(a), a.result.from_peer.bytes, b.number);
  });
  if (flows_.size() > rows_) flows_.erase(flows_.begin() + static_cast<long>(rows_), flows_.end());
}

std::vector<FlowEnd> TopFlows::sorted() const {
  TopFlows copy = *this;
  copy.cut();
  return std::move(copy.flows_);
}

std::string text_report(const FileResult& file, const Totals& totals,
                        const std::vector<FlowEnd>& top, size_t rows) {
  std::string out;
  Line to(out);
  const Plan& plan = file.plan;
  fmt::format_to(to, "{}\n  capture       {} in {}, {}; {}\n", file.name,
                 counted(plan.frames, "frame"), time_text(plan.last_ns - plan.first_ns), plan.link,
                 counted(plan.connections, "TCP connection"));
  constexpr size_t most_named = 4;
  const std::vector<Guest>& guests = file.guests.list;
  for (size_t i = 0; i < std::min(guests.size(), most_named); i++) {
    fmt::format_to(to, "  {:<13} {} receives {} on {}\n", i == 0 ? "guests" : "",
                   guest_text(guests[i]), size_text(guests[i].received),
                   counted(guests[i].connections, "connection"));
  }
  if (guests.empty()) fmt::format_to(to, "  guests        none\n");
  if (guests.size() > most_named) {
    fmt::format_to(to, "                and {} more\n", guests.size() - most_named);
  }
  for (const auto& [what, frames] : plan.findings.through) {
    fmt::format_to(to, "  note          {} read through {}\n", counted(frames, "frame"), what);
  }
  for (const auto& [what, frames] : plan.findings.unread) {
    fmt::format_to(to, "  note          {} not read: {}\n", counted(frames, "frame"), what);
  }
  if (file.copies) {
    fmt::format_to(
        to,
        "  note          {} are copies: the capture has their connections at another "
        "place, too\n                (VLAN, interface, MAC addresses), and the first place "
        "is looked at\n",
        counted(file.copies, "segment"));
  }
  if (file.late) {
    fmt::format_to(to, "  note          {} came long after their connection was over\n",
                   counted(file.late, "segment"));
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
  write_promises(totals, to);
  write_refusals(totals, to);
  write_flows(top, totals.connections, rows, to);
  for (const std::string& violation : file.violations) {
    fmt::format_to(to, "  VIOLATION     {}\n", violation);
  }
  if (file.violation_count > file.violations.size()) {
    fmt::format_to(to, "                and {} more\n",
                   file.violation_count - file.violations.size());
  }
  return out;
}

std::string text_totals(size_t files, const Totals& totals) {
  std::string out;
  Line to(out);
  fmt::format_to(to, "in all: {}, {}\n", counted(files, "capture"),
                 counted(totals.connections, "TCP connection"));
  write_promises(totals, to);
  write_refusals(totals, to);
  if (totals.violations) fmt::format_to(to, "  VIOLATIONS    {}\n", totals.violations);
  return out;
}

void JsonReport::write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), out_);  // Output::commit() finds what went wrong
}

void JsonReport::begin_file() {
  write(fmt::format("{}{{\"flows\":[", files_++ ? ",\n" : ""));
  flows_ = 0;
}

void JsonReport::flow(const FlowEnd& end) {
  nlohmann::json flow = json_counts(end.result);
  flow["flow"] = end.number + 1;
  flow["has_guest"] = end.has_guest;
  flow["peer"] = to_text(end.peer.address, end.peer.port);
  flow["guest"] = to_text(end.guest.address, end.guest.port);
  flow["verdicts"] = json_reasons(end.result.verdicts);
  write((flows_++ ? ",\n" : "\n") + flow.dump());
}

void JsonReport::end_file(const FileResult& file, const Totals& totals) {
  write("\n],\n" + inside(json_file(file, totals)) + "}");
}

void JsonReport::finish(const Totals& totals) {
  nlohmann::json out = json_counts(totals);
  out["connections"] = totals.connections;
  out["unverified_checksums"] = totals.unverified;
  out["violation_count"] = totals.violations;
  write("\n],\n\"totals\":" + out.dump() + "}\n");
}

}  // namespace vsnoop::replay
