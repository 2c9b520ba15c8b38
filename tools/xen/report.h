// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What `vsnoop xen` prints: tables for people, JSON for scripts.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/xen/control.h"
#include "tools/xen/load.h"
#include "tools/xen/vif.h"

namespace vsnoop::xen {

using Json = nlohmann::ordered_json;

/// Columns as wide as they must be. The first row is the heading; cells of columns named in `right`
/// stand to the right. Lines have no trailing spaces.
std::string table(const std::vector<std::vector<std::string>>& rows,
                  const std::vector<size_t>& right);

/// A guest as `list` shows it.
struct Guest {
  std::string name;
  bool own = false;  ///< the domain this program runs in
  DomainLoad load;
  std::vector<Vif> vifs;
  Advice advice;
};

/// All domains, with the vifs served here.
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
};
/// Counters start again at 0 when offload is switched off and on.
Rates rates(const Vif& vif, const Counters& before, const Counters& after, double seconds);
std::string top_text(const std::vector<Rates>& rows);
Json top_json(double seconds, const std::vector<Rates>& rows);

}  // namespace vsnoop::xen
