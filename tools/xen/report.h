// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What `vsnoop xen` prints: tables for people, JSON for scripts.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/xen/control.h"
#include "tools/xen/load.h"
#include "tools/xen/vif.h"

namespace vsnoop::xen {

using Json = nlohmann::ordered_json;

/// JSON as it is written. What is not UTF-8 in it stands as U+FFFD, so that a name that one guest's
/// owner chose cannot spoil the answer about the others.
std::string json_text(const Json& json, int indent);

/// Columns as wide as they must be. The first row is the heading; cells of columns named in `right`
/// stand to the right. Cells have to be fit to be shown. Lines have no trailing spaces.
std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<size_t>& right);

/// Memory for what is held, as the module lends it.
struct Memory {
  std::optional<uint64_t> lent;      ///< bytes; nothing: the module does not say
  std::optional<uint64_t> short_of;  ///< bytes that it waits for
  bool waits() const { return short_of.value_or(0) > 0; }
};
Memory memory_of(const Counters& counters);

/// A guest as `list` shows it.
struct Guest {
  std::string name;
  bool own = false;  ///< the domain this program runs in
  DomainLoad load;
  std::vector<Vif> vifs;
  Advice advice;
  std::vector<Memory> memory;  ///< of each vif
};

/// All domains that are still those that were measured, with the vifs served here.
std::vector<Guest> guests(XenHost& host, const Load& load);
std::string list_text(const Load& load, const std::vector<Guest>& guests);
Json list_json(const Load& load, const std::vector<Guest>& guests);

Json vif_json(const Vif& vif);
std::string result_text(const Result& result);
Json result_json(const Result& result);

/// Every counter that is not zero, with the sentence of its reason.
std::string stats_text(const Vif& vif, const Counters& counters);
Json stats_json(const Vif& vif, const Counters& counters);

/// debugfs's list of flows: words, the first line names the columns.
std::string flows_text(const Vif& vif, const std::string& file);
Json flows_json(const Vif& vif, const std::string& file);

/// What moved in an interval; gauges as they are at its end.
struct Rates {
  Vif vif;
  double early_acks = 0;      ///< per second
  double promised_bytes = 0;  ///< per second
  double redelivered = 0;     ///< frames per second
  double saved_ms = -1;       ///< mean time from early ACK to the guest's own; -1: none was timed
  uint64_t held = 0, outstanding = 0;  ///< bytes
  uint64_t flows = 0, flows_outstanding = 0;
  Memory memory;
};
/// Counters start again at 0 when offload is switched off and on.
Rates rates(const Vif& vif, const Counters& before, const Counters& after, double seconds);
std::string top_text(const std::vector<Rates>& rows);
Json top_json(double seconds, const std::vector<Rates>& rows);

}  // namespace vsnoop::xen
