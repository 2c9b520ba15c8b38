// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "tools/replay/what_if.h"

namespace vsnoop::replay {

// Records one connection and draws its time-sequence diagram with gnuplot.
class Plot : public Observer {
 public:
  explicit Plot(uint32_t connection) : connection_(connection) {}
  void on_frame(const Seen& seen) override;
  void on_emission(const Emitted& emitted) override;
  // Writes the picture to `to`. Throws std::runtime_error: gnuplot missing or failing.
  void draw(FILE* to, const std::string& title) const;

 private:
  struct Bar {  // one data segment
    int64_t time, start, end;
    bool again;
  };
  // What is known of the guest's word and of what the peer has been shown, after each change.
  struct Step {
    int64_t time, guest_ack, shown_ack, guest_edge, shown_edge;
  };
  Step& step(int64_t time_ns);
  std::string script(const std::string& path, const std::string& title) const;

  uint32_t connection_;
  std::vector<Bar> bars_;
  std::vector<Step> steps_;
  std::vector<std::pair<int64_t, int64_t>> early_;  // time, ACK of each early ACK
  int64_t highest_ = 0;
};

}  // namespace vsnoop::replay
