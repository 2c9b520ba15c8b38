// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Scenarios from seeds (RapidCheck), which can be made smaller.
#pragma once

#include <rapidcheck.h>

#include <string>
#include <vector>

#include "tests/oracle/scenario.h"

namespace vsnoop_oracle {

/// For the promise oracle: faults keyed by frame.
rc::Gen<Scenario> any_scenario();

/// A world of the differential oracle: one kind of actor in the midst of usual trouble.
struct World {
  const char* name;
  const char* what;
  void (*make)(Scenario&);  // draws with rc's operator*
  bool fresh = false;       // see compare()
};
const std::vector<World>& worlds();
/// Patient scenarios, every second one plain; faults keyed by time and offset.
rc::Gen<Scenario> scenario_of(const World& world);

}  // namespace vsnoop_oracle
