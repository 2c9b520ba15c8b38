// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What a running bridge tells: a line per interval, and everything at the end as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/live/bridge.h"
#include "tools/live/fault.h"
#include "tools/live/port.h"

namespace vsnoop::live {

/// Whose counters to tell. The references must outlive it.
struct Subject {
  const BridgeConfig& config;
  const Bridge& bridge;
  PortInterface& peer;
  PortInterface& guest;
  const std::vector<FaultyPort*>& faulty;
  uint64_t started;  ///< ns
};

/// All counters.
nlohmann::ordered_json report(const Subject& subject, uint64_t now);

/// The same for Prometheus, in its text format.
std::string metrics(const Subject& subject, uint64_t now);

/// "off", "ring" or "hold".
const char* policy_name(uint8_t policy);

/// One line an interval: what moved since the last one.
class StatsLine {
 public:
  explicit StatsLine(const Subject& subject) : subject_(subject), last_at_(subject.started) {}
  std::string next(uint64_t now);

 private:
  std::string refusals(const uint64_t* reasons);

  const Subject& subject_;
  uint64_t last_at_;
  uint64_t in_ = 0, out_ = 0, early_ = 0, drops_ = 0;
  uint64_t reasons_[VSNOOP_REASONS] = {};
};

}  // namespace vsnoop::live
