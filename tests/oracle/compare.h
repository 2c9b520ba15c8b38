// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Off is the oracle: one scenario played with the policy and without, same seed, same network. What
// completes without the policy completes with it, and not much later.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/oracle/stage.h"

namespace vsnoop_oracle {

/// In what way somebody was worse off, in one word and in full.
struct Difference {
  std::string kind, text;
};

/// How far apart the two may lie: with the policy not later than `factor` times what it takes
/// without, and `slack` more.
struct Bound {
  u64 factor, slack_us;
  bool holds(u64 off, u64 policy) const {
    return off == never || (policy != never && policy <= factor * off + slack_us);
  }
};
constexpr Bound late{4, 5000000};  // a failure, if the scenario is plain
constexpr Bound slow{2, 1000000};  // counted

struct Comparison {
  std::vector<Difference> differences;  // failures
  u64 connections = 0;                  // compared
  u64 both = 0;                         // ... that end well with and without
  u64 only_policy = 0;                  // ... that end well only with it
  u64 slow = 0, late = 0;               // ... beyond those bounds, in plain scenarios
  u64 sooner = 0, later = 0;            // ... whose last byte arrives so
  u64 promised = 0;                     // bytes
};

/// A plain scenario has what a host gives by default: a ring of 256, budgets, records.
bool plain(const Scenario& scenario);

/// `fresh`: each connection also against one that has the engine to itself, and nothing may be left
/// in the engine at the end.
Comparison compare(const Scenario& scenario, bool fresh);

}  // namespace vsnoop_oracle
