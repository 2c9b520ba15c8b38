// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tools/replay/what_if.h"

namespace vsnoop::replay {

// All connections of some files together.
struct Totals {
  OracleResult oracle;
  std::map<uint8_t, Count> refusals;
  Count from_peer;
  uint64_t connections = 0, from_guest = 0, pure_acks = 0, acks_dropped = 0, rebased = 0;
  uint64_t early_acks = 0, other_emissions = 0, resets = 0, unverified = 0, violations = 0;
  void add(const FileResult& file);
};

// For people; `rows`: connections in the table, those with most promised first.
std::string text_report(const FileResult& file, size_t rows);
std::string text_totals(const std::vector<FileResult>& files);
// docs/replay.md describes the fields.
nlohmann::json json_report(const std::vector<FileResult>& files);

}  // namespace vsnoop::replay
