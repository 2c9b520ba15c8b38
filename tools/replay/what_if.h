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
#include <unordered_map>
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
};

struct FlowResult {
  OracleResult oracle;
  std::map<uint8_t, Count> refusals;  // the peer's data segments that were not promised
  std::map<uint8_t, Count> verdicts;  // all segments, both directions
  Count from_peer;                    // data segments
  uint64_t from_guest = 0, pure_acks = 0, acks_dropped = 0, rebased = 0;
  uint64_t early_acks = 0, other_emissions = 0, resets = 0;
};

struct FileResult {
  std::string path;
  Plan plan;
  std::vector<FlowResult> flows;  // as plan.connections
  std::vector<vsnoop_guest_stats> guests;
  std::vector<std::string> violations;  // the first ones
  uint64_t violation_count = 0, without_guest = 0, clock_steps = 0, unverified = 0, diverged = 0;
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
  WhatIf(const Options& options, FileResult& result, std::vector<Observer*> observers);
  ~WhatIf();
  // Frames in the order of the capture.
  void frame(CapturedFrame frame);
  // Lets everything that was delayed happen, then judges the promises.
  void finish();

 private:
  struct Held : vsnoop_held {
    std::vector<uint8_t> bytes;
    uint32_t wire = 0, slots = 0;
    Checksum checksum = Checksum::unknown;
    bool in_ring = false;
  };
  struct RingEntry {
    uint32_t slots;
    uint32_t pushed;    // bytes to report to the engine
    vsnoop_held* held;  // retained by the engine, or 0
  };
  struct GuestState {
    std::deque<uint32_t> passing;  // slots of each frame that waits for the ring unpromised
    std::deque<RingEntry> ring;
    uint64_t ring_used = 0;
    bool wake_planned = false;
  };
  // How far a connection's two directions lag behind the capture.
  struct Lag {
    using Marks = std::deque<std::pair<uint32_t, int64_t>>;  // sequence number, delay; ascending
    Marks sent, edges;  // ends of what the guest sent; right edges that it showed
    Handshake handshake;
    int64_t ack_delay = 0, peer_delay = 0, peer_last = 0, guest_last = 0;
  };
  struct Event {
    CapturedFrame frame;
    Segment segment;
    uint32_t connection = no_connection;
    bool from_guest = false;
    uint16_t guest = 0;
    bool wake = false;
    bool foreign = false;  // of a connection without a guest: the engine never sees it
  };
  using When = std::pair<int64_t, std::pair<int, uint64_t>>;  // time, wake-ups first, order

  uint64_t clock(int64_t ns);
  void settle_checksum(Segment& segment) const;
  void route(Event& event) const;
  void begin(uint32_t number, const Segment& opening);
  int64_t plan_time(const Event& event, int64_t captured_ns);
  void advance(int64_t until_ns);
  void happen(Event& event, int64_t now_ns);
  vsnoop_frame describe(const Event& event) const;
  void from_peer(Event& event, int64_t now_ns);
  void from_guest(Event& event, int64_t now_ns);
  void pump(uint16_t guest, int64_t now_ns);
  bool fill_ring(uint16_t guest, int64_t now_ns);
  bool drain_ring(uint16_t guest, int64_t now_ns);
  bool room(const GuestState& guest, uint32_t slots) const;
  void check_delivery(const vsnoop_feed& feed, const Held& held);
  void emit(int64_t now_ns);
  void release(vsnoop_held* list);
  void violation(const std::string& where, const std::string& text);
  void show(const Event& event, int64_t now_ns, const vsnoop_verdict& verdict);

  const Options& options_;
  FileResult& result_;
  std::vector<Observer*> observers_;
  struct Free {
    void operator()(void* memory) const;
  };
  struct Close {
    void operator()(FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<FILE, Close> log_;
  std::unique_ptr<void, Free> memory_;
  vsnoop_engine* engine_ = nullptr;
  ConnectionTable table_;
  std::vector<Oracle> oracles_;
  std::vector<GuestState> guests_;
  std::vector<Lag> lags_;
  std::unordered_map<const vsnoop_held*, std::unique_ptr<Held>> held_;
  std::map<When, Event> events_;
  uint64_t order_ = 0, frames_waiting_ = 0, last_clock_ = 0, frame_number_ = 0;
  int64_t last_read_ns_ = 0;
};

}  // namespace vsnoop::replay
