// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What is known: about a flow at rest (Flow), about a connection that is still shaking hands
// (Embryo), about a flow with something outstanding (Custody), and about a guest.
//
// Names and invariants are those of docs/ack-rules.md; all comparisons modulo 2^32:
//   I1  early_ack <= rcv_nxt
//   I2  early_ack <= right_edge,  early_ack <= shown_edge <= right_edge once the guest has spoken
//       guest_ack <= rcv_nxt,     guest_ack <= early_ack
//   I7  held <= budget, for the guest and over all of them; held + reserved <= budget when a window
//       is opened
#pragma once

#include "flowtable/flow_table.h"
#include "snoop-core/seq.h"
#include "snoop-core/vsnoop.h"

VSNOOP_BEGIN

constexpr u32 memory_unit = 256;  // frames are charged in these
constexpr u32 no_custody = 0xffffffff;
constexpr u16 no_template = 0xffff;
constexpr u32 flow_label_mask = 0xfffff;
constexpr u32 link_templates = 4096;  // distinct link headers of all guests at one time

enum FlowFlag : u16 {
  flow_ts = 1,               // timestamps agreed (RFC 7323)
  flow_sack = 2,             // SACK agreed (RFC 2018)
  flow_touched = 4,          // has promised, or its window was held back: no longer byte-identical
  flow_credit = 8,           // the guest owes an answer that must not be swallowed
  flow_peer_fin = 16,        // FIN from the peer
  flow_guest_fin = 32,       // FIN from the guest (G8)
  flow_rst_pause = 64,       // in-window RST: wait for an in-order segment (P9)
  flow_redelivered = 128,    // the guest's D-SACKs may be our doing
  flow_sampling = 256,       // sample_seq, sample_time are set
  flow_quick = 512,          // engage = auto: measured, and quick
  flow_measured = 1024,      // latency holds a measurement
  flow_shrunk = 16384,       // the guest has taken window back once: what it said before may hold
  flow_narrow = 8192,        // the path behind the guest takes `mss` and no more (G9)
  flow_guest_ahead = 32768,  // it acknowledges what was never seen: nobody speaks behind it (I4)
  // After a long rest a timestamp clock may have gone half its way round, so that what is known of
  // it says nothing: until ...
  flow_guest_rested = 2048,  // ... the guest has spoken
  flow_peer_rested = 4096,   // ... the peer has
};

struct Flow {
  Seq rcv_nxt;        // all before it is in custody, in the ring, or confirmed
  Seq early_ack;      // highest ACK number the peer has been shown
  Seq guest_ack;      // highest ACK number the guest has sent
  Seq right_edge;     // right edge in the guest's newest segment, not below early_ack
  Seq shown_edge;     // right edge the peer has been shown; the guest alone takes it back
  Seq guest_snd_nxt;  // highest sequence end the guest has sent
  Seq peer_una;       // highest ACK number from the peer
  Seq peer_edge;      // highest ACK number + window from the peer
  Seq peer_nxt;       // highest sequence end the peer has sent
  u32 guest_tsval;    // serial maximum
  u32 ts_recent;      // to echo (RFC 7323 4.3, Last.ACK.sent = early_ack)
  Seq sample_seq;     // guest latency: when the ACK of this byte comes ... (STOPPED: last answered)
  u32 sample_time;    // ... it took so long since this microsecond (STOPPED: of its last answer)
  u32 answered_at;    // last answer to a duplicate, in this microsecond
  u32 reserved;       // bytes of the guest's budget behind the window shown
  u32 custody;        // index of its record, or no_custody
  u32 label_and_isn;  // low 20 bits: flow label of the guest's own IPv6 frames; high: its ISN's tag
  u16 link;           // link template: MACs, VLAN tags, TTL, DSCP of the guest's own frames
  u16 max_window;     // largest raw window the peer has offered (MAX.SND.WND >> peer_shift)
  u16 last_seen;      // a moment
  u16 latency;        // taken -> guest's ACK, units of 64 microseconds, peak-hold
  u16 flags;          // set of FlowFlag
  u8 state;           // enum vsnoop_flow_state
  u8 shifts;          // guest's in the low, peer's in the high half
  u16 mss;            // what the peer may send, as the guest announced it
  u16 cost;           // measured memory per payload byte, in 1/16

  bool is(u16 flag) const { return flags & flag; }
  void set(u16 flag) { flags |= flag; }
  void clear(u16 flag) { flags &= static_cast<u16>(~flag); }
  u8 guest_shift() const { return shifts & 15; }
  u8 peer_shift() const { return shifts >> 4; }
};
static_assert(sizeof(Flow) == 84, "with its key and generation a flow takes two cache lines");

/// Coarse time: 2^17 microseconds a unit, modulo 2^16 units (2 h 23 min).
constexpr u16 moment(u64 now) { return static_cast<u16>(now >> 17); }
/// Half a turn of a clock of one microsecond takes 36 minutes (of a slower one, longer).
constexpr u32 rest_s = 600;
constexpr u32 moments(u32 seconds) { return static_cast<u32>((seconds * 1000000ull) >> 17); }

/// A connection whose handshake is not complete. It may be lost at any time (a SYN flood pushes
/// others out): then the connection is not tracked, that is all.
struct Embryo {
  Seq peer_iss, guest_iss;
  Seq guest_ack;  // of the guest's SYN-ACK
  u32 guest_tsval, peer_tsval;
  u32 flow_label;
  u16 guest_window, peer_window;  // SYN windows are not scaled
  u16 guest_mss;
  u16 link;
  u16 seen;  // a moment
  u8 peer_scale, guest_scale;
  u8 flags;  // set of EmbryoFlag
  u8 padding[3];
};
enum EmbryoFlag : u8 {
  embryo_peer_opened = 1,
  embryo_complete = 2,  // SYN and SYN-ACK seen; the options below are agreed
  embryo_scaled = 4,    // offered by the one that opened, then agreed
  embryo_ts = 8,
  embryo_sack = 16,
  embryo_ecn = 32,
  embryo_split = 64,  // both ends opened (P12): remembered, so that no repetition completes it
};
static_assert(sizeof(Embryo) % 8 == 0, "");

/// A range above rcv_nxt that was taken.
struct Range {
  Seq begin, end;
  vsnoop_held* tail;  // last of its frames in the line; 0 if it is not retained
  bool sacked;        // told to the peer (P4)
  u16 newest;  // counts up with what is taken above a hole: RFC 2018 4 wants the newest first
};
constexpr unsigned max_ranges = 4;

enum OwedFlag : u8 {  // frames that vsnoop owes, sent by emit()
  owed_ack = 1,       // ACK with the present state
  owed_dsack = 2,     // ... with a D-SACK block in it
  owed_sack = 4,      // ... with SACK blocks for the ranges in custody
  owed_update = 8,    // ... which shows a larger window
  owed_answer = 16,   // ... in answer to a probe
  owed_rst_peer = 32,
  owed_rst_guest = 64,
  owed_promise = 128,  // ... which promises something new
};

enum HeldFlag : u8 {
  held_retain = 1,  // until guest_ack passes it
  held_acked = 2,   // guest_ack has passed it while it was waiting or in the ring: then it is done
  held_rst = 4,     // the peer's reset: goes in when everything before it is confirmed
  held_again = 8,   // in its flow's list `again` or `flying`
};

/// Why a flow ends; what becomes of a promise that stands (see Engine::end_flow).
enum class Ending : u8 {
  settled,   // nobody needs it any more
  by_peer,   // the peer has reset it: it counts on no promise
  renewed,   // the guest has taken the peer's new connection: nor does it
  by_guest,  // the guest has reset it or opened anew
  failed,    // fail-stop
};

/// G7: why frames are delivered again.
enum Recovery : u8 {
  recovery_none,
  recovery_holes,  // the guest's SACK blocks show what it lacks
  recovery_all,    // nothing shows it: everything below `recover` that it took may be lost
};

/// Frames to be delivered again, or that were. They do not wait for the ring, so `next` is free.
struct Chain {
  vsnoop_held *head, *tail;
  u32 count;

  void append(vsnoop_held& held) {
    held.next = nullptr;
    (head ? tail->next : head) = &held;
    tail = &held;
    ++count;
  }
};

/// A flow with something outstanding: a promise, frames in custody, a hole, a reserved window that
/// wants more room, or a frame that vsnoop owes. Borrowed from a pool while that is so.
struct Custody {
  Ref flow;
  u16 guest;
  u8 range_count;
  u8 owed;            // set of OwedFlag
  u8 tries;           // re-deliveries without progress
  u8 burst;           // re-deliveries that may be under way at one time
  bool feeding;       // in the guest's feed list
  bool wants_room;    // in the guest's room list
  bool in_owed_list;  // in the engine's list
  bool has_sack_seen;
  u8 recovering;      // enum Recovery: delivering again up to `recover`
  bool reset_held;    // the peer's reset is in custody
  bool renewed;       // ... and the peer opens anew: its reset waits for nobody
  bool reset_fed;     // the peer's reset is in the ring: the flow is over
  bool tomb;          // resets are repeated until the timer has run out
  bool guest_too;     // ... towards the guest as well
  bool answers;       // a reset is owed at `answer_at`
  bool tsval_raised;  // a re-delivery carried given_tsval: older frames must not follow it
  u8 dup_acks;        // of the guest, at guest_ack
  Seq answer_at;
  u32 newest_tsval;  // newest TSval seen from the peer
  u32 given_tsval;   // newest TSval a re-delivery carried
  u32 newest_tsecr;  // TSecr that came with peer_una
  bool tsecr_known;
  u32 sack_seen;            // digest of the guest's SACK blocks that last passed
  u32 held;                 // bytes charged for frames
  u32 frames;               // frames the engine has linked
  u16 arrivals;             // taken above a hole
  Seq passed_from, passed;  // what merely passed: above rcv_nxt the guest has it, unless it is lost
  Seq recover;              // where re-delivery ends
  Seq present_edge;         // right edge in the guest's last segment; may have shrunk
  Seq dsack_begin, dsack_end;
  int32_t deficit;  // of the round robin, bytes
  u32 feed_next, feed_prev, room_next, owed_next;
  u32 timer_prev, timer_next;  // in its wheel slot
  Seq fresh;                   // what lies at or after it entered the ring after all re-deliveries
  Seq shown_top;               // highest byte that the guest has shown ever
  u64 timer_at;                // microseconds; 0: not running
  u64 progress_at;             // last time that guest_ack moved, or the promise began
  vsnoop_held* wait_head;      // first in, first out towards the ring
  vsnoop_held* wait_tail;
  vsnoop_held* line_head;  // retained frames in order of sequence
  vsnoop_held* line_tail;  // last one below rcv_nxt; 0: none
  const vsnoop_held* cut;  // in the middle of being fed in pieces; 0: none
  Seq cut_at;              // ... up to here
  Seq probe_end;           // of a re-delivery that was cut to see whether a smaller one arrives
  u8 probes;               // such that arrived while whole ones did not
  Chain again;             // to be delivered again, before anything else, in this order
  Chain flying;            // delivered again and not confirmed, in the order of the ring
  vsnoop_held* judged;     // last frame of the line found missing or not in a recovery; 0: none
  Range range[max_ranges];
};

/// Ethernet header and IP fields of a guest's own frames; shared by the flows that use them.
struct LinkTemplate {
  u8 bytes[22];  // MACs, VLAN tags, type
  u8 length;     // 14, 18 or 22
  u8 ttl;
  u8 tos;
  u8 padding[3];
  u32 users;
};

struct Guest {
  vsnoop_guest_config config;
  vsnoop_guest_stats stats;
  u64 life_at;  // last frame from the guest or ring progress
  bool open;
  bool quiescing;
  u32 base_window;              // may be shown beyond guest_ack without a reservation
  u32 feed_new, feed_new_tail;  // flows with frames for the ring: first those that came last idle
  u32 feed_old, feed_old_tail;
  u32 room_head, room_tail;                           // flows that wait for room, in order
  u32 aside[VSNOOP_LANES], aside_tail[VSNOOP_LANES];  // flows with frames for a ring without room
};

VSNOOP_END
