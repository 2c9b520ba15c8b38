// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "tools/replay/what_if.h"

namespace vsnoop::replay {

// All connections of a file, or of some files, together.
struct Totals {
  OracleResult oracle;
  ReasonCounts refusals;
  Count from_peer;
  uint64_t connections = 0, from_guest = 0, pure_acks = 0, acks_dropped = 0, rebased = 0;
  uint64_t early_acks = 0, other_emissions = 0, resets = 0, unverified = 0, violations = 0;
  void add(const FlowResult& flow);
  void add(const Totals& file);
};

// The connections with most promised.
class TopFlows {
 public:
  explicit TopFlows(size_t rows) : rows_(rows) {}
  void add(const FlowEnd& flow);
  // At most `rows` of them, most promised first.
  std::vector<FlowEnd> sorted() const;

 private:
  void cut();
  size_t rows_;
  std::vector<FlowEnd> flows_;
};

// For people; `rows`: connections in the table.
std::string text_report(const FileResult& file, const Totals& totals,
                        const std::vector<FlowEnd>& top, size_t rows);
std::string text_totals(size_t files, const Totals& totals);

// Writes JSON as the results come, so that nothing has to be kept. docs/replay.md describes the
// fields.
class JsonReport {
 public:
  explicit JsonReport(FILE* out) : out_(out) { write("{\"files\":[\n"); }
  void begin_file();
  void flow(const FlowEnd& flow);
  void end_file(const FileResult& file, const Totals& totals);
  void finish(const Totals& totals);

 private:
  void write(const std::string& text);
  FILE* out_;
  uint64_t files_ = 0, flows_ = 0;
};

}  // namespace vsnoop::replay
