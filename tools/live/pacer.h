// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// One direction of a link of given rate, in the link's own virtual time: a frame's last bit leaves
// one serialisation time after the later of its arrival and the end of the frame before it. Waking
// up late delays a frame but loses no rate.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vsnoop::live {

/// Times are nanoseconds of any monotonic clock.
class Pacer {
 public:
  /// A frame may go this much early, so that nobody sleeps for the time of one small frame.
  static constexpr uint64_t kSlack = 5'000;

  /// `rate` in bits per second; 0: no limit.
  explicit Pacer(uint64_t rate = 0) : rate_(rate) {}

  bool limited() const { return rate_ != 0; }
  /// When it may be handed over; 0 (at once) if there is no limit.
  uint64_t due(uint64_t arrival, uint64_t wire_bytes) const {
    if (!limited()) return 0;
    const uint64_t through = end(arrival, wire_bytes);
    return through > kSlack ? through - kSlack : 0;
  }
  /// It was handed over.
  void passed(uint64_t arrival, uint64_t wire_bytes) {
    if (!limited()) return;
    free_ = end(arrival, wire_bytes);
    rest_ = work(wire_bytes) % rate_;
  }

 private:
  // When a frame that arrived at `arrival` would be through, if it were next.
  uint64_t end(uint64_t arrival, uint64_t wire_bytes) const {
    return std::max(free_, arrival) + work(wire_bytes) / rate_;
  }
  // In units of ns x rate; what no whole nanosecond was left for counts for the next frame.
  uint64_t work(uint64_t wire_bytes) const { return wire_bytes * 8'000'000'000 + rest_; }

  uint64_t rate_;
  uint64_t free_ = 0;
  uint64_t rest_ = 0;  // < rate_
};

}  // namespace vsnoop::live
