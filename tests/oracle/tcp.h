// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A model of a TCP end, for the peer and for the guest: RFC 9293 with slow start (5681), SACK
// recovery (6675), loss by time and tail loss probes (8985), timeouts (6298), timestamps and PAWS
// (7323), challenge ACKs (5961), window probes, keep-alives, delayed ACKs. It checks what it is
// sent as strictly as the RFCs allow, and it can be told to misbehave.
#pragma once

#include <deque>
#include <functional>

#include "tests/oracle/scenario.h"
#include "tests/oracle/segment.h"

namespace vsnoop_oracle {

constexpr u64 never = ~0ull;

enum class Closing : u8 { with_data, when_acknowledged, after_other };

struct TcpOptions {
  u32 connection = 0;
  bool is_peer = false, opens = false;
  u32 isn = 0, clock = 0;  // clock: of the timestamps, at time 0
  bool ts = true, sack = true;
  int scale = 7;  // < 0: not offered
  u16 mss = 1448;
  u32 bytes = 0;   // to send
  u32 buffer = 0;  // for receiving
  u32 gro = 1;     // segments that may come as one frame
  Closing closing = Closing::with_data;
  bool probes_with_data = false;  // of a closed window: one byte (BSD), or none (Linux)
  Sender sender = Sender::rack;
  u8 hops = 64;
  u64 keep_alive_us = 7000000;
  u64 max_rto_us = 20000000;
  unsigned most_tries = 10;               // then ETIMEDOUT
  u32 tick_us = 1000;                     // of the timestamps
  u64 paws_us = 24ull * 86400 * 1000000;  // RFC 7323 5.5: then TS.Recent is no longer true
  u32 rest_at = 0;                        // the application has no more than so many bytes ...
  u64 rest_us = 0;                        // ... for so long after they were acknowledged
};

class Tcp {
 public:
  enum State : u8 {
    closed,
    listening,
    syn_sent,
    syn_received,
    open,
    finished,
    reset,
    timed_out,
    aborted,
    gone
  };
  using Send = std::function<void(const Segment&, u32 first)>;
  /// Told of what must never happen to a TCP end, in words.
  using Fail = std::function<void(const std::string&)>;

  Tcp(const TcpOptions& options, Send send, Fail fail);

  void start(u64 now);
  void get(const Bytes& frame, const Segment& segment, u64 now);
  /// Timers, and the application. Call not later than due().
  void tick(u64 now);
  u64 due() const;

  /// ICMP "fragmentation needed" about a segment that begins at raw `seq`.
  void too_big(u32 seq, u16 mtu, u64 now);

  const TcpOptions& options() const { return o_; }
  State state() const { return state_; }
  bool over() const { return state_ >= finished; }
  u32 isn() const { return o_.isn; }
  /// Bytes received in order, without FIN.
  u32 received() const { return rcv_nxt_ - 1 - (fin_got_ && rcv_nxt_ > fin_at_); }
  u32 rcv_nxt() const { return rcv_nxt_; }  // relative, as all numbers here
  u32 una() const { return una_; }
  /// What it may send beyond what was acknowledged.
  u32 window() const { return edge_ - una_; }
  bool has_fin() const { return fin_got_ && rcv_nxt_ > fin_at_; }
  std::string describe() const;

  // Misbehaviour, and what applications and operators do.
  void pause_reading(u64 until) { read_at_ = until; }
  void shrink(u32 buffer) { o_.buffer = buffer, shrinks_ = true; }
  void refuse(u32 segments) { refuses_ = segments; }
  void renege() { above_.clear(); }
  /// An ACK of `ahead` bytes beyond what it has (beyond what was ever sent, if that is enough).
  void lie(u32 ahead, u64 now);
  void repeat_old_ack(u64 now);
  void send_keep_alive(u64 now);
  /// close() of the application; what comes later is answered with a reset.
  void close(u64 now);
  void abort(u64 now);
  /// Without a word: a restart, a crash. From then on whatever comes is answered with a reset...
  void forget() { state_ = gone; }
  /// ... or not at all.
  void vanish() { state_ = gone, mute_ = true; }

 private:
  struct Sent {
    u32 seq, length;
    bool fin;
    u64 at;
    bool sacked, lost, resent;
    u32 end() const { return seq + length + fin; }
  };

  u32 clock(u64 now) const { return o_.clock + static_cast<u32>(now / o_.tick_us); }
  u32 data_end() const { return 1 + o_.bytes; }
  void send(u32 seq, u32 length, u8 flags, u64 now, const std::vector<Range>& dsack = {});
  void send_ack(u64 now, const std::vector<Range>& dsack = {});
  void challenge(u64 now);
  void reply_reset(const Segment& s);
  u32 offer();
  void shake(const Segment& s, u64 now);
  void agree(const Segment& s);
  void establish(u64 now);
  bool take_ack(const Segment& s, u64 now);
  void take_sack(const Segment& s, u64 now);
  void find_losses(u64 now);
  void take_data(const Bytes& frame, const Segment& s, u64 now);
  u32 unread() const { return rcv_nxt_ - has_fin() - read_; }
  void read();
  void push(u64 now);
  u32 available() const;
  void transmit(Sent& sent, u64 now);
  u32 in_flight() const;
  bool may_close() const;
  bool probes_tail() const;
  void arm(u64 now);
  void timeout(u64 now);
  void end(State state) { state_ = state, timer_ = probe_ = ack_at_ = never; }
  void finish_if_done();

  TcpOptions o_;
  Send send_;
  Fail fail_;
  State state_ = closed;
  bool mute_ = false;
  bool ts_ = false, sack_ = false;
  int own_shift_ = 0, other_shift_ = 0;
  u32 other_isn_ = 0, ts_recent_ = 0;
  u64 ts_recent_at_ = 0;
  u64 heard_ = 0;  // last time that anything came

  // Sending.
  std::deque<Sent> flight_;  // [una, nxt)
  u32 una_ = 0, nxt_ = 0, most_ = 0, edge_ = 0, max_window_ = 0, wl_seq_ = 0, wl_ack_ = 0;
  u32 cwnd_ = 0, ssthresh_ = 0xffffffff, recover_ = 0, dup_acks_ = 0;
  bool recovering_ = false, slow_start_ = false, tail_probed_ = false;
  u64 srtt_ = 0, rttvar_ = 0, rto_ = 200000, min_rtt_ = 1000000, newest_delivered_ = 0;
  u64 timer_ = never, probe_ = never, probe_wait_ = 0, reorder_at_ = never;
  unsigned tries_ = 0;
  u64 resume_at_ = never;
  bool resumed_ = false;
  bool fin_sent_ = false, fin_acked_ = false, app_closed_ = false;

  // Receiving.
  u32 rcv_nxt_ = 1, right_ = 1, read_ = 1, last_ack_ = 1;
  std::vector<Range> above_;
  bool shrinks_ = false, fin_got_ = false;
  u32 fin_at_ = 0, refuses_ = 0, unacked_ = 0, unacked_bytes_ = 0;
  u64 read_at_ = 0, ack_at_ = never, challenged_ = 0;
};

const char* name_of(Tcp::State state);

}  // namespace vsnoop_oracle
