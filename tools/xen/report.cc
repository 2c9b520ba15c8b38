// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "snoop-core/vsnoop.h"
#include "tools/xen/text.h"

namespace vsnoop::xen {
namespace {

const std::string kReasonPrefix = "r_";

std::string percent(double share) { return fmt::format("{:.0f}%", share * 100); }

std::string kib(uint64_t bytes) { return fmt::format("{}", bytes / 1024 + (bytes % 1024 != 0)); }

// In a table an empty cell would look like a mistake.
std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }
std::string cell(const std::string& text) { return or_dash(shown(text)); }
std::string cell(std::optional<uint64_t> bytes) { return bytes ? kib(*bytes) : "-"; }

std::string offload(const std::vector<Vif>& vifs) {
  std::string text;
  for (const Vif& vif : vifs)
    text += fmt::format("{}{}:{}", text.empty() ? "" : " ", vif.handle,
                        state_of(vif.state) == State::error ? "error" : cell(vif.state));
  return or_dash(text);
}

std::string affinity(const DomainLoad& load) {
  std::vector<uint32_t> cpus;
  for (const VcpuLoad& vcpu : load.vcpus)
    cpus.insert(cpus.end(), vcpu.affinity.begin(), vcpu.affinity.end());
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpu_ranges(cpus);
}

const char* sentence(const std::string& reason) {
  for (unsigned i = 0; i < VSNOOP_REASONS; ++i)
    if (reason == vsnoop_reason_name(static_cast<uint8_t>(i)))
      return vsnoop_reason_text(static_cast<uint8_t>(i));
  return "";
}

// "vsnoop_r_paws" -> "r_paws"
std::string short_name(const std::string& name) { return name.substr(sizeof "vsnoop_" - 1); }

std::vector<std::vector<std::string>> words(const std::string& text) {
  std::vector<std::vector<std::string>> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream rest(line);
    std::vector<std::string>& cells = lines.emplace_back();
    for (std::string word; rest >> word;) cells.push_back(word);
  }
  return lines;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

Json json_bytes(std::optional<uint64_t> bytes) { return bytes ? Json(*bytes) : Json(); }

Json memory_json(const Memory& memory) {
  return {{"budget", json_bytes(memory.lent)}, {"budget_short", json_bytes(memory.short_of)}};
}

// A word of a file as JSON: a number if it is one that fits.
Json json_word(const std::string& word) {
  uint64_t value = 0;
  const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && rest == word.data() + word.size() ? Json(value) : Json(word);
}

std::optional<uint64_t> gauge(const Counters& counters, const char* name) {
  for (const auto& [key, value] : counters)
    if (key == name) return value;
  return std::nullopt;
}

}  // namespace

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Memory memory_of(const Counters& counters) {
  return {gauge(counters, "vsnoop_budget"), gauge(counters, "vsnoop_budget_short")};
}

std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<size_t>& right) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width(row[i]), ' ');
      const bool at_right = std::find(right.begin(), right.end(), i) != right.end();
      text += (i ? "  " : "") + (at_right ? space + row[i] : row[i] + space);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::vector<Guest> guests(XenHost& host, const Load& load) {
  const uint32_t own = host.own_domain();
  const std::vector<Vif> vifs = all_vifs(host);
  std::vector<Guest> guests;
  for (const DomainLoad& domain : load.domains) {
    Guest guest{guest_name(host, domain.id), domain.id == own, domain, {}, {}, {}};
    std::copy_if(vifs.begin(), vifs.end(), std::back_inserter(guest.vifs),
                 [&](const Vif& vif) { return vif.domain == domain.id; });
    for (const Vif& vif : guest.vifs)
      guest.memory.push_back(memory_of(host.counters(vif.interface).value_or(Counters())));
    if (guest.own) {
      // Offload needs the driver domain to run often.
      const bool full = domain.run() >= 0.9 * static_cast<double>(domain.vcpus.size()) ||
                        domain.most_wait() >= 0.1;
      guest.advice.why = full ? "this domain; it lacks CPU itself: mend that first" : "this domain";
    } else {
      guest.advice = advise(load, domain, !guest.vifs.empty());
    }
    guests.push_back(std::move(guest));
  }
  // Names and vifs were read by number.
  const std::vector<Domain> now = host.domains(false);
  std::erase_if(guests, [&](const Guest& guest) {
    return std::none_of(now.begin(), now.end(), [&](const Domain& domain) {
      return domain.id == guest.load.id && domain.handle == guest.load.handle;
    });
  });
  return guests;
}

std::string list_text(const Load& load, const std::vector<Guest>& guests) {
  std::vector<std::vector<std::string>> rows{{"GUEST", "DOM", "OFFLOAD", "VCPUS", "RUN", "WAIT",
                                              "WANTED", "CPUS", "SCHED", "WEIGHT", "CAP", "GAIN",
                                              "WHY"}};
  std::string notes;
  for (const Guest& guest : guests) {
    const DomainLoad& its = guest.load;
    const std::string name = cell(guest.name);
    rows.push_back({name, std::to_string(its.id), offload(guest.vifs),
                    std::to_string(its.vcpus.size()), percent(its.run()), percent(its.most_wait()),
                    fmt::format("{:.1f}", load.contention(its)), or_dash(affinity(its)),
                    or_dash(its.scheduler), its.share ? std::to_string(its.share->weight) : "-",
                    its.share && its.share->cap ? fmt::format("{}%", its.share->cap) : "-",
                    guest.own ? "-" : gain_name(guest.advice.gain), guest.advice.why});
    if (!guest.advice.first.empty())
      notes += fmt::format("{}: try first: {}\n", name, guest.advice.first);
    for (size_t i = 0; i < guest.vifs.size(); ++i) {
      const Vif& vif = guest.vifs[i];
      if (state_of(vif.state) == State::error)
        notes += fmt::format("{}: {}\n", vif.label(), shown(vif.state));
      if (guest.memory[i].waits())
        notes += fmt::format("{}: waits for {} KiB of memory; is lent {}\n", vif.label(),
                             cell(guest.memory[i].short_of), cell(guest.memory[i].lent));
    }
  }
  return table(rows, {1, 3, 4, 5, 6, 9, 10}) + notes;
}

Json list_json(const Load& load, const std::vector<Guest>& guests) {
  Json json = {{"seconds", load.seconds}, {"pcpus", Json::array()}, {"guests", Json::array()}};
  for (const auto& [pcpu, wanted] : load.pcpus)
    json["pcpus"].push_back({{"pcpu", pcpu}, {"wanted", wanted}});
  for (const Guest& guest : guests) {
    const DomainLoad& its = guest.load;
    Json item = {{"guest", guest.name},
                 {"domid", its.id},
                 {"own", guest.own},
                 {"stopped", its.stopped},
                 {"scheduler", its.scheduler},
                 {"slice_us", its.slice_us ? Json(its.slice_us) : Json()},
                 {"weight", its.share ? Json(its.share->weight) : Json()},
                 {"cap", its.share ? Json(its.share->cap) : Json()},
                 {"run", its.run()},
                 {"wait", its.most_wait()},
                 {"wanted", load.contention(its)},
                 {"gain", guest.own ? Json() : Json(gain_name(guest.advice.gain))},
                 {"why", guest.advice.why},
                 {"try_first", guest.advice.first},
                 {"vcpus", Json::array()},
                 {"vifs", Json::array()}};
    for (const VcpuLoad& vcpu : its.vcpus) {
      std::vector<uint32_t> pcpus;
      for (const auto& [pcpu, share] : vcpu.pcpus) pcpus.push_back(pcpu);
      item["vcpus"].push_back({{"vcpu", vcpu.id},
                               {"run", vcpu.run},
                               {"wait", vcpu.wait},
                               {"pcpus", pcpus},
                               {"affinity", cpu_ranges(vcpu.affinity)}});
    }
    for (size_t i = 0; i < guest.vifs.size(); ++i) {
      Json vif = vif_json(guest.vifs[i]);
      vif.update(memory_json(guest.memory[i]));
      item["vifs"].push_back(std::move(vif));
    }
    json["guests"].push_back(std::move(item));
  }
  return json;
}

Json vif_json(const Vif& vif) {
  return {{"guest", vif.guest},         {"domid", vif.domain},    {"vif", vif.handle},
          {"interface", vif.interface}, {"setting", vif.setting}, {"state", vif.state},
          {"quiesce", vif.quiesce}};
}

std::string result_text(const Result& result) {
  std::string text;
  for (const Vif& vif : result.vifs)
    text +=
        fmt::format("{}: {}\n", vif.label(), vif.state.empty() ? "no answer" : shown(vif.state));
  for (const Vif& vif : result.gone) text += vif.label() + ": went away\n";
  return text;
}

Json result_json(const Result& result) {
  Json json = {{"outcome", outcome_name(result.outcome)},
               {"seconds", result.seconds},
               {"vifs", Json::array()},
               {"gone", Json::array()}};
  for (const Vif& vif : result.vifs) json["vifs"].push_back(vif_json(vif));
  for (const Vif& vif : result.gone) json["gone"].push_back(vif_json(vif));
  return json;
}

std::string stats_text(const Vif& vif, const Counters& counters) {
  std::vector<std::vector<std::string>> rows{{vif.label(), cell(vif.state), ""}};
  for (const auto& [name, value] : counters) {
    const std::string its = short_name(name);
    const bool reason = its.rfind(kReasonPrefix, 0) == 0;
    if (value || !reason)
      rows.push_back({shown(its), std::to_string(value),
                      reason ? sentence(its.substr(kReasonPrefix.size())) : ""});
  }
  return table(rows, {1});
}

Json stats_json(const Vif& vif, const Counters& counters) {
  Json json = vif_json(vif);
  json["counters"] = Json::object();
  json["reasons"] = Json::object();
  for (const auto& [name, value] : counters) {
    const std::string its = short_name(name);
    if (its.rfind(kReasonPrefix, 0) == 0)
      json["reasons"][its.substr(kReasonPrefix.size())] = value;
    else
      json["counters"][its] = value;
  }
  return json;
}

std::string flows_text(const Vif& vif, const std::string& file) {
  auto rows = words(file);
  for (auto& row : rows)
    for (std::string& word : row) word = shown(word);
  std::vector<size_t> numeric;
  for (size_t i = 0; rows.size() > 1 && i < rows[1].size(); ++i)
    if (is_number(rows[1][i])) numeric.push_back(i);
  return vif.label() + '\n' + table(rows, numeric);
}

Json flows_json(const Vif& vif, const std::string& file) {
  const auto rows = words(file);
  Json json = vif_json(vif);
  json["flows"] = Json::array();
  for (size_t line = 1; line < rows.size(); ++line) {
    Json flow;
    for (size_t i = 0; i < std::min(rows[0].size(), rows[line].size()); ++i) {
      flow[rows[0][i]] = json_word(rows[line][i]);
    }
    json["flows"].push_back(std::move(flow));
  }
  return json;
}

Rates rates(const Vif& vif, const Counters& before, const Counters& after, double seconds) {
  const auto moved = [&](const char* name) {
    const uint64_t old = counter(before, name), now = counter(after, name);
    return static_cast<double>(now >= old ? now - old : now);
  };
  Rates result;
  result.vif = vif;
  result.early_acks = moved("early_acks") / seconds;
  result.promised_bytes = moved("promised_bytes") / seconds;
  result.redelivered = moved("redelivered_frames") / seconds;
  if (const double samples = moved("latency_samples"); samples > 0)
    result.saved_ms = moved("latency_us_sum") / samples * 1e-3;
  result.held = counter(after, "held");
  result.outstanding = counter(after, "outstanding");
  result.flows = counter(after, "flows");
  result.flows_outstanding = counter(after, "flows_outstanding");
  result.memory = memory_of(after);
  return result;
}

std::string top_text(const std::vector<Rates>& rows) {
  std::vector<std::vector<std::string>> cells{{"VIF", "OFFLOAD", "EARLY ACK/s", "PROMISED MB/s",
                                               "HELD KiB", "OUTSTANDING KiB", "SAVED ms", "AGAIN/s",
                                               "FLOWS", "WITH PROMISE", "LENT KiB", "SHORT KiB"}};
  for (const Rates& row : rows)
    cells.push_back(
        {row.vif.label(), cell(row.vif.state), fmt::format("{:.0f}", row.early_acks),
         fmt::format("{:.2f}", row.promised_bytes * 1e-6), kib(row.held), kib(row.outstanding),
         row.saved_ms < 0 ? "-" : fmt::format("{:.2f}", row.saved_ms),
         fmt::format("{:.0f}", row.redelivered), std::to_string(row.flows),
         std::to_string(row.flows_outstanding), cell(row.memory.lent), cell(row.memory.short_of)});
  return table(cells, {2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
}

Json top_json(double seconds, const std::vector<Rates>& rows) {
  Json json = {{"seconds", seconds}, {"vifs", Json::array()}};
  for (const Rates& row : rows) {
    Json item = vif_json(row.vif);
    item.update({{"early_acks_per_second", row.early_acks},
                 {"promised_bytes_per_second", row.promised_bytes},
                 {"redelivered_frames_per_second", row.redelivered},
                 {"saved_ms", row.saved_ms < 0 ? Json() : Json(row.saved_ms)},
                 {"held", row.held},
                 {"outstanding", row.outstanding},
                 {"flows", row.flows},
                 {"flows_outstanding", row.flows_outstanding}});
    item.update(memory_json(row.memory));
    json["vifs"].push_back(std::move(item));
  }
  return json;
}

}  // namespace vsnoop::xen
