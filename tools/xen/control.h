// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Switching offload, and emptying a guest of promises before it leaves. The module works on its
// own time: each function writes what is wanted and waits for the module's answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/xen/vif.h"

namespace vsnoop::xen {

enum class Outcome {
  done,
  refused,    ///< the module says no; see the vif's state
  timed_out,  ///< the module has not done it yet
  aborted,    ///< quiesce: not drained in time, and taken back
  reset,      ///< quiesce: not drained in time, and the rest of the connections was reset
  gone        ///< done, but not for those that went away meanwhile
};
const char* outcome_name(Outcome outcome);

/// What became of it. `vifs` are as they are now, `gone` those that went away meanwhile, as they
/// were: nothing was written for them, or went with them.
struct Result {
  Outcome outcome = Outcome::done;
  double seconds = 0;
  std::vector<Vif> vifs, gone;
};

/// Gives the vifs a setting and waits until they have it. A vif whose guest is not connected yet,
/// or is being quiesced, has it when the module has taken note.
Result apply_setting(XenHost& host, std::vector<Vif> vifs, const Setting& setting,
                     uint64_t timeout_ns);

/// No new promises; waits until none is outstanding. If that takes longer than the timeout, gives
/// up and lets the vifs promise again, or (`reset`) has the connections reset that still have one.
/// If it cannot be told whether they have drained (an exception), they promise again, too.
Result quiesce(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns, bool reset);

/// Ends quiesce().
Result resume(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns);

}  // namespace vsnoop::xen
