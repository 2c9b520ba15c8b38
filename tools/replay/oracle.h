// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// Judges promises by what the capture shows later, and checks what the peer would have seen against
// the rules. It knows raw segments only, never the engine's state. docs/replay.md defines the
// terms.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tools/replay/handshake.h"
#include "tools/replay/segment.h"

namespace vsnoop::replay {

enum class Fate { kept, broken, open };
constexpr std::array<const char*, 3> fate_names{"kept", "broken", "open"};

enum class Cause { guest_reset, reused, refused, gave_up, peer_reset, capture_ends };
constexpr std::array<const char*, 6> cause_names{"guest reset the connection",
                                                 "tuple used anew",
                                                 "guest refused the bytes again and again",
                                                 "vsnoop gave up and reset the connection",
                                                 "peer reset the connection",
                                                 "capture ends"};

struct PromiseCount {
  uint64_t early_acks = 0, bytes = 0;
  PromiseCount& operator+=(const PromiseCount& other);
};

// Many times in nanoseconds, not negative; exact up to so many, to 1 % beyond.
class Times {
 public:
  void add(int64_t ns);
  void add(const Times& other);
  uint64_t count() const { return count_; }
  // Nearest rank; there must be one.
  int64_t percentile(double share) const;
  int64_t max() const { return max_; }
  uint64_t below(int64_t ns) const;
  const std::vector<int64_t>& exact() const { return exact_; }  // empty if there are too many

 private:
  static constexpr size_t most_exact = 1 << 16;
  void fold();
  std::vector<int64_t> exact_;
  std::vector<uint64_t> bins_;
  uint64_t count_ = 0;
  int64_t max_ = 0;
};

struct OracleResult {
  std::array<PromiseCount, 3> fates;   // by Fate
  std::array<PromiseCount, 6> causes;  // by Cause; what was not kept
  Times saved;                         // guest's own ACK - early ACK, one per early ACK kept
  void operator+=(const OracleResult& other);
};

// One connection as the oracle sees it. Sequence numbers are unwrapped to 64 bits, relative to the
// first one seen.
class Oracle {
 public:
  // `violation` is told a sentence whenever a rule is broken.
  explicit Oracle(std::function<void(std::string)> violation) : violation_(std::move(violation)) {}

  // What stands in the capture, in the order in which the engine is shown it.
  void from_peer(const Segment& segment);
  void from_guest(const Segment& segment, int64_t now_ns);
  // vsnoop kept this segment of the peer from the guest (a window it holds closed, a full budget).
  void withheld(const Segment& segment);
  // What the peer gets to see of a guest's segment; `shown` is it after the engine's edit.
  // `tracked`: the engine took note of its ACK (not if it acknowledges what never came by, say).
  void passed(const Segment& original, const Segment& shown, bool tracked, int64_t now_ns);
  void dropped(const Segment& original);
  // A frame of vsnoop's own towards the peer.
  void emitted(const Segment& segment, int64_t now_ns);
  // Judges what is left. Call once, last.
  void finish(bool tuple_reused);

  // The guest in the capture acknowledged what it would not have got: the capture does not show
  // what would have happened, so nothing is called a violation from there on.
  bool diverged() const { return diverged_; }
  const OracleResult& result() const { return result_; }
  // For pictures: a sequence number as bytes from the start of the peer's stream, the right edge
  // that a segment of the guest shows.
  int64_t position(uint32_t seq) const;
  int64_t edge(const Segment& segment) const;

 private:
  struct Promise {
    int64_t start, end, time_ns;
    uint32_t refusals = 0;
    bool asked_again = false;
  };
  std::span<Promise> open() { return std::span(open_).subspan(first_open_); }
  void settle(Promise& promise, Fate fate, std::optional<Cause> cause);
  void settle_all(Fate fate, Cause cause);
  void learn_data(int64_t start, int64_t end);
  void learn_ack(int64_t ack, int64_t now_ns);
  void promise(int64_t ack, int64_t now_ns);
  void show(int64_t ack, int64_t edge);
  // I4: whether the peer saw more before, and the guest has not taken it back. `own`: what the
  // segment said itself; a late one says less.
  bool moves_left(int64_t ack, int64_t edge, int64_t own) const;

  void complain(const std::string& text) {
    if (!diverged_) violation_(text);
  }

  std::function<void(std::string)> violation_;
  bool started_ = false;
  uint32_t origin_ = 0;                 // peer's first sequence number
  int64_t peer_end_ = 0;                // highest sequence end the peer sent
  std::map<int64_t, int64_t> islands_;  // data above contiguous_
  int64_t contiguous_ = 0;              // all before it was sent (or acknowledged by the guest)
  Handshake handshake_;
  int64_t guest_ack_ = 0, right_edge_ = 0;
  int64_t newest_ack_ = 0, newest_edge_ = 0;  // of the guest's newest segment
  std::optional<uint32_t> guest_snd_;         // guest's highest sequence end
  int64_t promised_ = INT64_MIN;              // highest ACK that vsnoop has shown
  int64_t shown_ack_ = 0, shown_edge_ = 0;    // rightmost that the peer has been shown by anyone
  int64_t peer_una_ =
      0;  // highest ACK that has come to the peer, also of what the engine never saw
  bool guest_fin_ = false, guest_reset_ = false, peer_reset_ = false, stopped_ = false;
  std::vector<std::pair<int64_t, int64_t>> withheld_;  // ranges
  bool diverged_ = false;
  int64_t guest_spoke_ns_ = 0;
  // A queue; a std::deque would take 600 bytes for each connection.
  std::vector<Promise> open_;
  size_t first_open_ = 0;
  OracleResult result_;
};

}  // namespace vsnoop::replay
