// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Plays a scenario: peers, a network, a host with the engine, a guest; and judges.
//   stage.cc: the course of events, faults, the network. host.cc: the host, and the guest's side.
//   judge.cc: what must hold.
//
// At every step: I1, I2, I2b, I4, I7, I3's custody, I5 for flows that vsnoop has not touched, the
// accounts, each frame freed once. At the end: every byte arrived, or somebody was shown a reset;
// nothing hangs; nothing is held; and without a fault that breaks connections by itself nothing is
// reset at all. No two frames of vsnoop's may answer each other without time or progress between.
//
// A patient scenario is judged by comparison (compare.h): what became of its connections stands in
// courses().
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

/// How a scenario is played.
struct Play {
  vsnoop_policy policy = VSNOOP_POLICY_HOLD;
  int only = -1;        // the other streams stay away
  bool traced = false;  // keep a script of what happened
  /// What a guest that lies loses is vsnoop's fault as well, which it is not; the test of the
  /// oracle itself.
  bool strict = false;
};

/// What became of a connection. Times are us; never: it did not happen.
struct Course {
  static constexpr u32 marks = 8;
  Tcp::State peer = Tcp::closed, guest = Tcp::closed;
  u64 start = 0;
  /// When the guest had so many eighths of the peer's bytes; with the last its FIN.
  u64 to_guest[marks] = {never, never, never, never, never, never, never, never};
  u64 to_peer = never;  // all of the guest's bytes
  u64 peer_over = never, guest_over = never;
  u32 widest = 0;        // largest window the peer was shown
  bool stopped = false;  // by vsnoop
  std::string text;

  bool well() const { return peer == Tcp::finished && guest == Tcp::finished; }
  u64 over() const { return std::max(peer_over, guest_over); }
};

constexpr u64 grace_us = 300000;  // for a ring that went to come back
constexpr u16 guest_id = 0;

/// Whether an end has nothing more to do; one that listens may when the other has given up.
inline bool ended(const Tcp& one, const Tcp& other) {
  return one.over() || (one.state() == Tcp::listening && other.over());
}

class Stage {
 public:
  static constexpr u64 begins_us = 1000000;  // the clock at the beginning
  explicit Stage(const Scenario& scenario, const Play& play = {});
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
  const std::vector<Course>& courses() const { return courses_; }
  /// What the engine still has long after the end, in words; nothing if nothing.
  const std::string& left_over() const { return left_over_; }
  /// Frames dropped by the queue behind a guest that forwards.
  u32 dropped_beyond() const { return dropped_beyond_; }

 private:
  struct HostFrame {
    vsnoop_held held;  // first: the engine's pointer is the frame's
    Bytes bytes;
    u32 memory, connection, seq, length;
    bool retain, in_ring;
    u64 again_at = never;  // last re-delivery ...
    u32 again_ack = 0, again_skip = 0, agains = 0;
  };
  struct RingEntry {
    Bytes bytes;
    HostFrame* frame;  // 0: not retained
  };
  // Where a frame comes to: peer -> host, host -> peer; guest -> host, if that takes time; and
  // between a guest that forwards and the end behind it.
  enum class Place : u8 { host, peer, from_guest, guest_out, end_beyond };
  struct Flight {
    u64 at, order;
    Bytes bytes;
    Place to;
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
    bool heard = false;  // the guest's newest segment ...
    u32 heard_ack = 0, heard_seq = 0, heard_edge = 0;
    std::vector<Range> sacked;  // by vsnoop
    u64 let_go = 0;             // times that such were let go
    bool rested = false;
    bool reborn = false;  // its numbers are those of another connection now
    u64 spoke_at = 0, moved_at = 0;
    // Frames of vsnoop's own since the last progress, and frames of the peer that asked for one.
    u32 said = 0, asked = 0, progress = 0;
    u64 said_since = 0;
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
  void apply(const Event& event);
  void open_again(Line& line, u32 size);
  std::unique_ptr<Tcp> make_peer(Line& line, const TcpOptions& options);
  std::unique_ptr<Tcp> make_guest(Line& line, const TcpOptions& options);
  void start_lines();
  void land_flights();
  void observe();
  Line* line_of(u32 connection);
  bool forwards() const { return scenario_.beyond.mtu; }
  void forward(const Bytes& bytes);
  u64 delay_of(const Bytes& bytes, bool to_peer);
  bool struck(const Bytes& bytes, bool to_peer, u64& at, unsigned& copies, Bytes& frame);
  void send(const Bytes& bytes, bool to_peer);
  void at_host(const Bytes& bytes);
  void at_peer(const Bytes& bytes);
  void guest_sends(Line& line, const Segment& segment, u32 first);
  void from_guest(const Bytes& frame);
  void from_guest(Line& line, Bytes bytes);
  void guest_gets(const Bytes& bytes);
  void feed();
  void guest_runs();
  void lose_ring();
  void stop_guest();
  void discard();
  void move_guest();
  void emit();
  void hear(Line& line, const Segment& segment);
  void forget_let_go(Line& line);
  void leaves(Line& line, const Segment& s, bool by_vsnoop);
  void release(vsnoop_held* list);
  void free_frame(vsnoop_held* held);
  void check(Line& line);
  void check_custody(const Line& line, const vsnoop_flow_info& f);
  void check_accounts();
  void check_again(HostFrame& frame, u32 skip);
  void check_said(Line& line);
  void check_end();
  void check_outcome();
  void check_nothing_left();
  void rest_engine();
  void collect();
  void fail(const std::string& what);
  void note(const std::string& line);
  std::string text(const Line& line, const Segment& s, bool from_peer) const;
  std::string describe(const Line& line) const;

  const Scenario& scenario_;
  const Play play_;
  u64 now_ = begins_us, order_ = 0, steps_ = 0;
  const u64 began_ = now_;
  std::vector<u8> memory_;
  vsnoop_engine* v_ = nullptr;
  std::vector<Line> lines_;
  std::vector<Line*> active_;           // those that are not over
  std::unordered_map<u32, u32> index_;  // of lines_, by connection
  std::vector<Course> courses_;
  std::vector<const Event*> events_;  // in order of time
  size_t next_event_ = 0;
  std::vector<u32> hits_;  // of events that are keyed by offset
  std::priority_queue<Flight> flights_;
  std::deque<RingEntry> ring_;
  std::unordered_map<vsnoop_held*, HostFrame*> live_;
  std::vector<Spell> spells_;
  u32 frames_to_guest_ = 0, frames_to_peer_ = 0, lost_ = 0;
  u32 to_decline_ = 0;
  u64 at_this_instant_ = 0;
  std::deque<u64> on_link_;  // behind a guest that forwards: when each frame has left
  u32 dropped_beyond_ = 0;
  u32 guest_frames_ = 0;
  std::deque<Bytes> guest_out_;  // from behind it
  std::string left_over_;
  u64 stalled_until_ = 0, firewall_until_ = 0, deaf_until_ = 0, ring_back_ = 0, grace_ends_ = never,
      quiesce_ends_ = never, move_by_ = never;
  std::vector<std::string> script_;
  std::string failure_;
  Totals totals_;
};

}  // namespace vsnoop_oracle
