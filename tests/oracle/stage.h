// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Plays a scenario: peers, a network, a host with the engine, a guest; and judges.
//
// At every step: I1, I2, I2b, I4, I7, I3's custody, I5 for flows that vsnoop has not touched, the
// accounts, each frame freed once. At the end: every byte arrived, or somebody was shown a reset;
// nothing hangs; nothing is held; and without a fault that breaks connections by itself nothing is
// reset at all.
#pragma once

#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tests/oracle/scenario.h"
#include "tests/oracle/tcp.h"

namespace vsnoop_oracle {

class Stage {
 public:
  /// `traced`: keep a script of what happened. `strict`: what a guest that lies loses is vsnoop's
  /// fault as well, which it is not; the test of the oracle itself.
  explicit Stage(const Scenario& scenario, bool traced = false, bool strict = false);
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  /// Returns what went wrong, or nothing.
  std::string run();
  /// What the host saw and did, in the notation of tests/packets; a single stream's can be played
  /// there.
  const std::vector<std::string>& script() const { return script_; }

  struct Totals {
    u64 runs = 0, frames = 0, early_acks = 0, promised = 0, redelivered = 0, resets = 0,
        finished = 0, connections = 0, migrations = 0;
    u64 reasons[VSNOOP_REASONS] = {};
    void add(const Totals& other);
  };
  const Totals& totals() const { return totals_; }

 private:
  struct HostFrame {
    vsnoop_held held;  // first: the engine's pointer is the frame's
    Bytes bytes;
    u32 memory, connection, seq, length;
    bool retain, in_ring;
  };
  struct RingEntry {
    Bytes bytes;
    HostFrame* frame;  // 0: not retained
  };
  struct Flight {
    u64 at, order;
    Bytes bytes;
    bool to_peer;
    bool operator<(const Flight& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };
  struct Line {  // a connection
    std::unique_ptr<Tcp> peer, guest;
    u64 start_at = 0;
    bool started = false;
    vsnoop_ref ref = {0xffffffff, 0, 0};
    bool touched = false;  // vsnoop has promised, or held its window back
    bool stopped = false;  // fail-stop
    bool harmed = false;   // a fault that breaks connections by itself
    bool lies = false;
    bool shown = false;  // the peer has been shown ...
    u32 shown_ack = 0, shown_edge = 0;
    std::vector<Range> sacked;  // by vsnoop
    bool rested = false;
    u64 spoke_at = 0, moved_at = 0;
  };
  struct Spell {  // frames of the network that a fault is for
    FaultKind kind;
    u32 begin, end;
  };

  void create_engine();
  u64 next_event() const;
  bool over() const;
  bool ring_up() const { return now_ >= ring_back_; }
  u64 runs_at() const;
  void apply(const Fault& fault);
  void send(const Bytes& bytes, bool to_peer);
  void at_host(const Bytes& bytes);
  void at_peer(const Bytes& bytes);
  void from_guest(Line& line, const Segment& segment, u32 first);
  void feed();
  void guest_runs();
  void lose_ring();
  void stop_guest();
  void discard();
  void move_guest();
  void emit();
  void leaves(Line& line, const Segment& s, bool by_vsnoop);
  void release(vsnoop_held* list);
  void free_frame(vsnoop_held* held);
  void check(Line& line);
  void check_custody(const Line& line, const vsnoop_flow_info& f);
  void check_accounts();
  void check_end();
  void collect();
  void fail(const std::string& what);
  void note(const std::string& line);
  std::string text(const Line& line, const Segment& s, bool from_peer) const;
  std::string describe(const Line& line) const;

  const Scenario& scenario_;
  const bool traced_, strict_;
  u64 now_ = 1000000, order_ = 0, steps_ = 0;
  std::vector<u8> memory_;
  vsnoop_engine* v_ = nullptr;
  std::vector<Line> lines_;
  std::priority_queue<Flight> flights_;
  std::deque<RingEntry> ring_;
  std::unordered_map<vsnoop_held*, HostFrame*> live_;
  std::vector<Spell> spells_;
  u32 frames_to_guest_ = 0, frames_to_peer_ = 0, lost_ = 0;
  u32 to_decline_ = 0;
  u64 stalled_until_ = 0, firewall_until_ = 0, ring_back_ = 0, grace_ends_ = never,
      quiesce_ends_ = never, move_by_ = never;
  std::vector<std::string> script_;
  std::string failure_;
  Totals totals_;
};

}  // namespace vsnoop_oracle
