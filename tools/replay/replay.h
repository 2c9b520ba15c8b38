// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// `vsnoop replay`: what vsnoop would have done with a capture, judged by the capture.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tools/replay/segment.h"

namespace vsnoop::replay {

// Exit statuses, worst last: the run's is the highest of its files'.
enum Status { status_fine = 0, status_unreadable = 1, status_broken = 3, status_violation = 4 };

// The guest's VCPU runs for `slice_ns`, then others do, so that its share of time is `share`.
struct Vcpu {
  int64_t slice_ns = 0;
  double share = 0;  // above 0, at most 1
  // The first instant at or after `now` at which it runs; it starts to run at `start`.
  int64_t next_run(int64_t now, int64_t start) const;
};
// "30ms/0.33". Throws std::invalid_argument with a sentence.
Vcpu parse_vcpu(const std::string& text);

struct Options {
  std::vector<std::string> paths;  // files and directories
  std::vector<Prefix> guests;      // none: found by themselves
  vsnoop_policy policy = VSNOOP_POLICY_HOLD;
  uint32_t ring = 0;  // slots of 4096 bytes; 0: unlimited
  uint64_t hold = 0;  // bytes per guest; 0: the engine's default
  std::optional<Vcpu> vcpu;
  bool assume_checksums = false, early_sack = true;
  size_t flows = 5;        // rows of the per-flow table
  std::string json;        // file, "-": standard output instead of the text
  std::string pcapng;      // file
  std::string plot;        // file
  std::string write_log;   // file for the decision log
  uint32_t plot_flow = 0;  // from 1; 0: the one with most promised
};

// Replays all of options.paths and writes the reports. Messages go to standard error. Throws
// std::runtime_error only for faults of the options or an output that cannot be written.
int run_replay(const Options& options);

// Reproduces the verdicts of a decision log; returns the exit status.
int replay_log(const std::string& path);

}  // namespace vsnoop::replay
