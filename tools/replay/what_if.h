// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// The host around the engine: the capture's frames on their way to and from guests as they would
// be with vsnoop in between. The peer sends what it sent (see docs/replay.md, "open loop").

#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tools/replay/capture.h"
#include "tools/replay/oracle.h"
#include "tools/replay/plan.h"
#include "tools/replay/replay.h"
#include "tools/replay/segment.h"

namespace vsnoop::replay {

struct Count {
  uint64_t segments = 0, bytes = 0;  // bytes: payload
  Count& operator+=(const Count& other) {
    segments += other.segments;
    bytes += other.bytes;
    return *this;
  }
};

constexpr uint32_t no_connection = UINT32_MAX;

// Few reasons, each with its count.
class ReasonCounts {
 public:
  Count& operator[](uint8_t reason) {
    for (auto& [known, count] : counts_) {
      if (known == reason) return count;
    }
    return counts_.emplace_back(reason, Count{}).second;
  }
  auto begin() const { return counts_.begin(); }
  auto end() const { return counts_.end(); }
  bool empty() const { return counts_.empty(); }

 private:
  std::vector<std::pair<uint8_t, Count>> counts_;
};

struct FlowCounts {
  ReasonCounts refusals;  // the peer's data segments that were not promised
  ReasonCounts verdicts;  // all segments, both directions
  Count from_peer;        // data segments
  uint64_t from_guest = 0, pure_acks = 0, acks_dropped = 0, rebased = 0;
  uint64_t early_acks = 0, other_emissions = 0, resets = 0;
};

struct FlowResult : FlowCounts {
  OracleResult oracle;
};

// A queue that takes no memory while it is empty; a std::deque takes 600 bytes.
template <typename T>
class Queue {
 public:
  bool empty() const { return first_ == items_.size(); }
  T& front() { return items_[first_]; }
  T& back() { return items_.back(); }
  void push_back(T item) { items_.push_back(std::move(item)); }
  template <typename... Args>
  void emplace_back(Args&&... args) {
    items_.emplace_back(std::forward<Args>(args)...);
  }
  void pop_front() {
    if (++first_ == items_.size())
      clear();
    else if (first_ > 1024 && first_ > items_.size() / 2)
      items_.erase(items_.begin(),
                   items_.begin() + static_cast<ptrdiff_t>(std::exchange(first_, 0)));
  }
  void clear() {
    items_.clear();
    first_ = 0;
  }
  auto begin() const { return items_.begin() + static_cast<ptrdiff_t>(first_); }
  auto end() const { return items_.end(); }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
};

// A connection that is over.
struct FlowEnd {
  uint32_t number;  // from 0
  bool has_guest;
  End peer, guest;
  FlowResult result;
};

struct FileResult {
  std::string name;  // for people
  Plan plan;
  Guests guests;
  std::vector<vsnoop_guest_stats> guest_stats;
  std::vector<std::string> violations;  // the first ones
  uint64_t violation_count = 0, clock_steps = 0, unverified = 0, diverged = 0;
  // Segments that the engine is not shown: of connections without a guest, of copies, and what came
  // after its connection was forgotten.
  uint64_t without_guest = 0, copies = 0, late = 0;
  std::string error;  // the file could not be read to its end
};

// One frame as the engine judged it.
struct Seen {
  const CapturedFrame& frame;
  const Segment& segment;
  int64_t time_ns;      // in the what-if
  uint32_t connection;  // or no_connection
  bool from_guest;
  const vsnoop_verdict& verdict;
  const Oracle* oracle;  // of the connection
};

// One frame of vsnoop's own.
struct Emitted {
  std::span<const uint8_t> bytes;
  const Segment& segment;
  int64_t time_ns;
  uint32_t connection;
  const vsnoop_emission& emission;
  const Oracle* oracle;
};

// Writers of captures and pictures.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_frame(const Seen& seen) = 0;
  virtual void on_emission(const Emitted& emitted) = 0;
};

class WhatIf {
 public:
  // `result.plan` must be filled in; the rest is filled in here. All must outlive this.
  // `log`: where the decision log goes, or 0. `on_end` is told of each connection that is over, in
  // the order in which they end; with finish() the rest, in the order in which they began.
  WhatIf(const Options& options, FileResult& result, std::vector<Observer*> observers, FILE* log,
         std::function<void(const FlowEnd&)> on_end);
  ~WhatIf();
  // Frames in the order of the capture. `frame` may be taken and another one left in its place.
  void frame(CapturedFrame& frame);
  // Lets everything that was delayed happen, then judges the promises.
  void finish();

 private:
  struct Held : vsnoop_held {
    std::vector<uint8_t> bytes;
    uint32_t wire = 0, slots = 0;
    Checksum checksum = Checksum::unknown;
    bool in_ring = false;
    bool in_use = false;
  };
  struct RingEntry {
    uint32_t slots;
    uint32_t pushed;    // bytes to report to the engine
    vsnoop_held* held;  // retained by the engine, or 0
  };
  struct GuestState {
    Queue<uint32_t> passing;  // slots of each frame that waits for the ring unpromised
    Queue<RingEntry> ring;
    uint64_t ring_used = 0;
    bool wake_planned = false;
  };
  // How far a connection's two directions lag behind the capture.
  struct Lag {
    using Marks = Queue<std::pair<uint32_t, int64_t>>;  // sequence number, delay; ascending
    Marks sent, edges;  // ends of what the guest sent; right edges that it showed
    Handshake handshake;
    int64_t ack_delay = 0, peer_delay = 0, peer_last = 0, guest_last = 0;
    void follow(const Lag& before) {
      ack_delay = before.ack_delay;
      peer_delay = before.peer_delay;
      peer_last = before.peer_last;
      guest_last = before.guest_last;
    }
  };
  enum class Unseen : uint8_t { no, without_guest, copy, late };
  // A connection that is not over.
  struct Live {
    uint32_t number = 0;
    Unseen unseen = Unseen::no;
    uint16_t guest = 0;
    End peer_end, guest_end;
    Oracle oracle{nullptr};
    FlowCounts flow;
    std::unique_ptr<Lag> lag;  // with a virtual CPU
    uint32_t waiting = 0;      // events of it
    uint8_t lane = 0;
    bool begun = false;         // the engine was shown a segment of it
    bool over = false;          // ends with the last of them
    bool reused = false;        // its tuple is used anew
    std::vector<uint8_t> tags;  // VLAN tags of the guest's last frame
  };
  struct Event {
    CapturedFrame frame;
    Segment segment;
    Live* connection = nullptr;  // that the engine is shown
    bool from_guest = false;
    uint16_t guest = 0;
    bool wake = false;
    bool foreign = false;  // of a connection that the engine is not shown
  };
  using When = std::pair<int64_t, std::pair<int, uint64_t>>;  // time, wake-ups first, order

  static bool is_held(const vsnoop_held* held) { return static_cast<const Held*>(held)->in_use; }
  uint64_t time_of(int64_t ns) const;
  uint64_t clock(int64_t ns);
  void open_engine(FILE* log);
  void settle_checksum(Segment& segment) const;
  void connect(Event& event);
  Live& begin(const ConnectionTable::Numbered& numbered, const Segment& segment);
  void choose(Live& live, const ConnectionTable::Numbered& numbered, const Segment& segment);
  void replay_opening(Live& live, const Segment& opening);
  void end(uint32_t slot, bool reused);
  void judge_end(std::unique_ptr<Live> live);
  void route(Event& event) const;
  int64_t plan_time(const Event& event, int64_t captured_ns);
  void advance(int64_t until_ns);
  void run_timers(uint64_t until);
  void happen(Event& event, int64_t now_ns);
  vsnoop_frame describe(const Event& event);
  void from_peer(Event& event, int64_t now_ns);
  void from_guest(Event& event, int64_t now_ns);
  void keep(Event& event, const vsnoop_verdict& verdict, uint8_t& action, uint64_t now);
  void pump(uint16_t guest, int64_t now_ns);
  bool fill_ring(uint16_t guest, int64_t now_ns);
  bool drain_ring(uint16_t guest, int64_t now_ns);
  bool room(const GuestState& guest, uint32_t slots) const;
  void check_delivery(const vsnoop_feed& feed, const Held& held);
  Live* shown(Live& youngest) const;
  void emit(int64_t now_ns);
  void free_held(vsnoop_held* held);
  void release(vsnoop_held* list);
  void violation(const std::string& where, const std::string& text);
  void show(const Event& event, int64_t now_ns, const vsnoop_verdict& verdict);

  const Options& options_;
  FileResult& result_;
  std::vector<Observer*> observers_;
  struct Free {
    void operator()(void* memory) const;
  };
  std::function<void(const FlowEnd&)> on_end_;
  std::unique_ptr<void, Free> memory_;
  vsnoop_engine* engine_ = nullptr;
  ConnectionTable table_;
  std::vector<std::unique_ptr<Live>> live_;     // by the table's slot
  std::vector<std::unique_ptr<Live>> parting_;  // over, but events of them wait
  std::vector<GuestState> guests_;
  std::deque<Held> held_;    // all that ever were
  std::vector<Held*> free_;  // used again, with their memory
  size_t held_now_ = 0;
  std::vector<uint8_t> scratch_;
  std::map<When, Event> events_;
  Event now_;                      // the event that happens at once
  std::vector<uint8_t> untagged_;  // what describe() shows of a tagged frame
  uint64_t order_ = 0, frames_waiting_ = 0, last_clock_ = 0, frame_number_ = 0;
  int64_t last_read_ns_ = 0;
};

}  // namespace vsnoop::replay
