// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/tcp.h"

#include <algorithm>

namespace vsnoop_oracle {
namespace {

constexpr u64 min_rto = 200000;
constexpr u64 delayed_ack = 40000;
constexpr u64 challenge_interval = 50000;
constexpr u16 ts_option = 12;

void insert(std::vector<Range>& ranges, u32 begin, u32 end) {
  if (begin >= end) return;
  ranges.push_back({begin, end});
  std::sort(ranges.begin(), ranges.end());
  std::vector<Range> merged;
  for (const Range& r : ranges) {
    if (!merged.empty() && r.first <= merged.back().second)
      merged.back().second = std::max(merged.back().second, r.second);
    else
      merged.push_back(r);
  }
  ranges = merged;
}

}  // namespace

const char* name_of(Tcp::State state) {
  static const char* const names[] = {"closed",   "listening", "syn-sent",  "syn-received", "open",
                                      "finished", "reset",     "timed-out", "aborted",      "gone"};
  return names[state];
}

Tcp::Tcp(const TcpOptions& options, Send send, Fail fail)
    : o_(options), send_(std::move(send)), fail_(std::move(fail)) {}

std::string Tcp::describe() const {
  const auto n = [](u64 v) { return v == never ? std::string("-") : std::to_string(v); };
  return std::string(name_of(state_)) + " una " + n(una_) + " nxt " + n(nxt_) + " of " +
         n(data_end()) + " edge " + n(edge_) + " rcv " + n(rcv_nxt_) + " right " + n(right_) +
         " read " + n(read_) + " timer " + n(timer_) + " probe " + n(probe_) + " tries " +
         n(tries_) + (fin_sent_ ? " fin-sent" : "") + (fin_got_ ? " fin-got" : "");
}

void Tcp::start(u64 now) {
  heard_ = now;
  right_ = read_ = 1;
  if (!o_.opens) {
    state_ = listening;
    return;
  }
  state_ = syn_sent;
  nxt_ = most_ = 1;
  timer_ = now + 1000000;
  send(0, 0, SYN, now);
}

// --- sending segments ----------------------------------------------------------------------------

// The window to offer; moves right_ to the right, or left if told to shrink.
u32 Tcp::offer() {
  const u32 most = state_ < open || own_shift_ == 0 ? 65535u : 65535u << own_shift_;
  const u32 free = std::min(o_.buffer > unread() ? o_.buffer - unread() : 0, most);
  u32 right = rcv_nxt_ + free;
  if (right < right_ && !shrinks_) right = right_;
  // No silly windows (RFC 9293 3.8.6.2.2).
  if (right > right_ && right - right_ < std::min<u32>(o_.mss, o_.buffer / 2)) right = right_;
  right_ = std::max(right, rcv_nxt_);
  return right_ - rcv_nxt_;
}

void Tcp::send(u32 seq, u32 length, u8 flags, u64 now, const std::vector<Range>& dsack) {
  Segment s;
  s.connection = o_.connection;
  s.hops = o_.hops;
  s.seq = o_.isn + seq;
  s.length = length;
  s.flags = flags;
  const bool syn = flags & SYN;
  if (flags & ACK) s.ack = other_isn_ + rcv_nxt_;
  const u32 window = offer();
  s.window = static_cast<u16>(std::min(window >> (syn ? 0 : own_shift_), 65535u));
  const bool answer = syn && (flags & ACK);
  if (syn) {
    s.mss = static_cast<u16>(o_.mss + (o_.ts ? ts_option : 0));  // RFC 6691
    if (answer ? other_shift_ >= 0 && o_.scale >= 0 : o_.scale >= 0) s.scale = o_.scale;
    s.sack_permitted = answer ? sack_ : o_.sack;
  }
  s.has_ts = syn && !answer ? o_.ts : ts_;
  if (s.has_ts) s.tsval = clock(now), s.tsecr = flags & ACK ? ts_recent_ : 0;
  if (sack_ && !syn) {
    for (const Range& r : dsack) s.sack.push_back(r);
    for (const Range& r : above_)
      if (s.sack.size() < 3) s.sack.push_back({r.first, r.second});
    for (Range& r : s.sack) r.first += other_isn_, r.second += other_isn_;
  }
  if (flags & ACK) last_ack_ = rcv_nxt_, ack_at_ = never, unacked_ = unacked_bytes_ = 0;
  send_(s, seq);
}

void Tcp::send_ack(u64 now, const std::vector<Range>& dsack) { send(nxt_, 0, ACK, now, dsack); }

void Tcp::challenge(u64 now) {
  if (challenged_ && now - challenged_ < challenge_interval) return;
  challenged_ = now;
  send_ack(now);
}

void Tcp::reply_reset(const Segment& s) {
  if (s.has(RST)) return;
  Segment r;
  r.connection = o_.connection;
  r.hops = o_.hops;
  if (s.has(ACK)) {
    r.seq = s.ack;
    r.flags = RST;
  } else {
    r.ack = s.seq + s.length + s.has(SYN) + s.has(FIN);
    r.flags = RST | ACK;
  }
  send_(r, 0);
}

// --- handshake -----------------------------------------------------------------------------------

void Tcp::agree(const Segment& s) {
  other_isn_ = s.seq;
  ts_ = o_.ts && s.has_ts;
  sack_ = o_.sack && s.sack_permitted;
  other_shift_ = s.scale;
  if (s.has_ts) ts_recent_ = s.tsval, ts_recent_at_ = heard_;
  const u16 least = s.has_ts ? ts_option : 0;
  if (s.mss > least) o_.mss = std::min<u16>(o_.mss, static_cast<u16>(s.mss - least));
  edge_ = 1 + s.window;
  max_window_ = s.window;
}

void Tcp::establish(u64 now) {
  state_ = open;
  own_shift_ = other_shift_ >= 0 && o_.scale >= 0 ? o_.scale : 0;
  if (o_.scale < 0) other_shift_ = 0;
  other_shift_ = std::max(other_shift_, 0);
  una_ = nxt_ = most_ = 1;
  cwnd_ = 10u * o_.mss;
  timer_ = never;
  tries_ = 0;
  heard_ = now;
}

void Tcp::shake(const Segment& s, u64 now) {
  if (state_ == listening) {
    if (!s.has(SYN) || s.has(RST)) return reply_reset(s);
    agree(s);
    state_ = syn_received;
    nxt_ = most_ = 1;
    timer_ = now + 1000000;
    return send(0, 0, SYN | ACK, now);
  }
  if (state_ == syn_sent) {
    if (s.has(ACK) && s.ack != o_.isn + 1) return reply_reset(s);
    if (s.has(RST)) {
      if (s.has(ACK)) end(reset);
      return;
    }
    if (!s.has(SYN) || !s.has(ACK)) return;
    agree(s);
    establish(now);
    send_ack(now);
    return push(now);
  }
  // SYN-RECEIVED
  if (s.has(RST)) {
    if (s.seq == other_isn_ + 1) end(reset);
    return;
  }
  if (s.has(SYN)) return send(0, 0, SYN | ACK, now);
  if (!s.has(ACK) || s.ack != o_.isn + 1) return;
  establish(now);
  push(now);  // whatever else is to be said of this segment
}

// --- receiving segments --------------------------------------------------------------------------

void Tcp::get(const Bytes& frame, const Segment& s, u64 now) {
  if (state_ == gone || state_ == reset || state_ == timed_out || state_ == aborted ||
      state_ == closed) {
    if (!mute_) reply_reset(s);
    return;
  }
  heard_ = now;
  if (state_ < open) {
    shake(s, now);
    if (state_ != open || s.has(SYN)) return;
  }
  // RFC 7323 5.3, RFC 9293 3.10.7.4, RFC 5961.
  const u32 seq = s.seq - other_isn_, ack = s.ack - o_.isn;
  const u32 end_of = seq + s.length + s.has(FIN);
  if (!s.has(RST) && ts_ && !s.has_ts) return;
  if (ts_ && s.has_ts && !s.has(RST) && distance(s.tsval, ts_recent_) < 0 &&
      now < ts_recent_at_ + o_.paws_us)
    return challenge(now);
  if (s.has(RST)) {
    if (seq == rcv_nxt_) return end(state_ == finished ? finished : reset);
    if (distance(seq, rcv_nxt_) > 0 && distance(seq, right_) < 0) challenge(now);
    return;
  }
  if (distance(end_of, last_ack_) < 0 || distance(seq, std::max(right_, rcv_nxt_)) > 0) {
    if (s.length && distance(end_of, rcv_nxt_) <= 0) return send_ack(now, {{seq, seq + s.length}});
    return challenge(now);
  }
  if (s.has(SYN)) return challenge(now);
  if (!s.has(ACK)) return;
  if (distance(ack, most_) > 0) {
    fail_("is acknowledged what it never sent");
    return challenge(now);
  }
  if (distance(ack, una_ - max_window_) < 0) return challenge(now);
  // A clock of microseconds wraps within a rest.
  if (ts_ && o_.tick_us >= 1000 && distance(s.tsecr, clock(now)) > 0)
    fail_("is echoed a timestamp of the future");
  if (ts_ && distance(seq, last_ack_) <= 0) ts_recent_ = s.tsval, ts_recent_at_ = now;
  if (flight_.empty()) tries_ = 0;  // else only progress counts, as with tcp_retries2
  take_ack(s, now);
  if (over() && state_ != finished) return;
  take_data(frame, s, now);
  if (over()) return;
  push(now);
  finish_if_done();
}

bool Tcp::take_ack(const Segment& s, u64 now) {
  const u32 ack = s.ack - o_.isn;
  const u32 window = static_cast<u32>(s.window) << other_shift_;
  const u32 old_edge = edge_;
  // RFC 9293 3.10.7.4: SND.WL1, SND.WL2.
  if (distance(ack, una_) >= 0 &&
      (distance(s.seq, wl_seq_) > 0 || (s.seq == wl_seq_ && distance(ack, wl_ack_) >= 0) ||
       wl_seq_ == 0 || distance(ack + window, edge_) > 0)) {
    edge_ = ack + window;
    wl_seq_ = s.seq, wl_ack_ = ack;
    max_window_ = std::max(max_window_, window);
  }
  if (distance(ack, una_) < 0) return false;
  take_sack(s, now);
  if (ack == una_) {
    if (!s.length && !s.has(FIN) && edge_ == old_edge && !flight_.empty() && !sack_ &&
        ++dup_acks_ == 3)
      flight_.front().lost = true;
  } else {
    u64 sample = 0;
    while (!flight_.empty() && distance(flight_.front().end(), ack) <= 0) {
      const Sent& f = flight_.front();
      if (!f.resent && !f.sacked)
        sample = now - f.at, newest_delivered_ = std::max(newest_delivered_, f.at);
      if (f.resent && now - f.at >= min_rtt_) newest_delivered_ = std::max(newest_delivered_, f.at);
      if (f.fin) fin_acked_ = true;
      flight_.pop_front();
    }
    if (!flight_.empty() && distance(flight_.front().seq, ack) < 0) {
      Sent& f = flight_.front();
      f.length -= ack - f.seq;
      f.seq = ack;
    }
    if (sample) {
      min_rtt_ = std::min(min_rtt_, sample);
      rttvar_ = srtt_ ? (3 * rttvar_ + (sample > srtt_ ? sample - srtt_ : srtt_ - sample)) / 4
                      : sample / 2;
      srtt_ = srtt_ ? (7 * srtt_ + sample) / 8 : sample;
    }
    rto_ = std::clamp(srtt_ + std::max<u64>(4 * rttvar_, 1000), min_rto, o_.max_rto_us);
    const u32 acked = ack - una_;
    una_ = ack;
    nxt_ = std::max(nxt_, una_);
    dup_acks_ = 0;
    tries_ = 0;
    tail_probed_ = false;
    if (recovering_ && distance(una_, recover_) >= 0) recovering_ = slow_start_ = false;
    // NewReno's partial ACK (RFC 6582).
    if (recovering_ && !sack_ && !flight_.empty()) flight_.front().lost = true;
    if (!recovering_ || slow_start_)
      cwnd_ += cwnd_ < ssthresh_ ? acked : std::max(1u, o_.mss * o_.mss / std::max(cwnd_, 1u));
    timer_ = never;
  }
  find_losses(now);
  arm(now);
  return true;
}

void Tcp::take_sack(const Segment& s, u64 now) {
  if (!sack_) return;
  for (const Range& raw : s.sack) {
    const u32 left = raw.first - o_.isn, right = raw.second - o_.isn;
    if (distance(right, most_) > 0 && distance(right, left) > 0 && distance(left, una_) >= 0) {
      fail_("is SACKed what it never sent");
      continue;
    }
    for (Sent& f : flight_) {
      if (f.sacked || distance(f.seq, left) < 0 || distance(f.end(), right) > 0) continue;
      f.sacked = true, f.lost = false;
      if (!f.resent || now - f.at >= min_rtt_)
        newest_delivered_ = std::max(newest_delivered_, f.at);
    }
  }
}

// RFC 8985: lost is what was sent a reordering window before something that was delivered. RFC 6675
// for what three segments above it were SACKed.
void Tcp::find_losses(u64 now) {
  reorder_at_ = never;
  unsigned above = 0;
  for (const Sent& f : flight_) above += f.sacked;
  const bool by_time = o_.sender == Sender::rack;
  const u64 slack = std::max<u64>(min_rtt_ / 4, 1000);
  for (Sent& f : flight_) {
    if (f.sacked) {
      --above;
      continue;
    }
    if (f.lost) continue;
    if ((by_time && newest_delivered_ > f.at + slack) || (above >= 3 && !f.resent)) {
      f.lost = true;
    } else if (by_time && above && newest_delivered_ >= f.at) {
      reorder_at_ = std::min(reorder_at_, now + slack);
    }
  }
  for (const Sent& f : flight_) {
    if (!f.lost || recovering_) continue;
    recovering_ = true;
    recover_ = nxt_;
    ssthresh_ = std::max(cwnd_ / 2, 2u * o_.mss);
    cwnd_ = ssthresh_;
  }
}

void Tcp::take_data(const Bytes& frame, const Segment& s, u64 now) {
  const u32 seq = s.seq - other_isn_, end_of = seq + s.length;
  if (!s.length && !s.has(FIN)) {
    // A keep-alive or a probe.
    if (distance(seq, rcv_nxt_) < 0) challenge(now);
    return;
  }
  for (u32 i = 0; i < s.length; ++i) {
    if (frame[s.data + i] == byte_at(o_.connection, !o_.is_peer, seq + i)) continue;
    fail_("gets wrong bytes at " + std::to_string(seq + i));
    break;
  }
  if (state_ == finished) return send_ack(now);
  if (app_closed_ && distance(end_of, rcv_nxt_) > 0 && s.length) {
    // RFC 9293 3.6.1: data for an application that has closed.
    reply_reset(s);
    return end(aborted);
  }
  if (distance(end_of + s.has(FIN), rcv_nxt_) <= 0) {
    if (s.length) return send_ack(now, {{seq, end_of}});
    return send_ack(now);
  }
  if (refuses_ && s.length) {
    --refuses_;
    return;
  }
  // What lies beyond the window is cut; with a window that shrank, all of it may.
  const u32 limit = std::max(right_, rcv_nxt_);
  const u32 stop = distance(end_of, limit) > 0 ? limit : end_of;
  if (s.has(FIN) && stop == end_of) {
    if (fin_got_ && fin_at_ != end_of) fail_("gets two different FINs");
    fin_got_ = true, fin_at_ = end_of;
  }
  const u32 before = rcv_nxt_;
  const bool in_order = distance(seq, rcv_nxt_) <= 0;
  const u32 begin = in_order ? rcv_nxt_ : seq;
  if (distance(stop, begin) > 0) insert(above_, begin, stop);
  while (!above_.empty() && above_.front().first <= rcv_nxt_) {
    rcv_nxt_ = std::max(rcv_nxt_, above_.front().second);
    above_.erase(above_.begin());
  }
  if (fin_got_ && rcv_nxt_ == fin_at_) rcv_nxt_ = fin_at_ + 1;
  if (now >= read_at_) read();
  const bool plain = in_order && rcv_nxt_ - before == end_of - begin && stop == end_of &&
                     above_.empty() && !s.has(FIN);
  unacked_bytes_ += rcv_nxt_ - before;
  if (!plain || ++unacked_ >= 2 || unacked_bytes_ >= o_.buffer / 2)
    send_ack(now);
  else if (ack_at_ == never)
    ack_at_ = now + delayed_ack;
}

void Tcp::read() { read_ += unread(); }

void Tcp::finish_if_done() {
  if (state_ == open && fin_acked_ && fin_got_ && rcv_nxt_ > fin_at_) end(finished);
}

// --- sending data --------------------------------------------------------------------------------

u32 Tcp::in_flight() const {
  u32 pipe = 0;
  for (const Sent& f : flight_)
    if (!f.sacked && !f.lost) pipe += f.length;
  return pipe;
}

bool Tcp::may_close() const {
  if (nxt_ != data_end() || fin_sent_) return false;
  if (app_closed_) return true;
  if (o_.closing == Closing::when_acknowledged) return una_ == data_end();
  if (o_.closing == Closing::after_other) return fin_got_ && rcv_nxt_ > fin_at_;
  return true;
}

void Tcp::transmit(Sent& sent, u64 now) {
  sent.at = now;
  send(sent.seq, sent.length, static_cast<u8>(ACK | (sent.fin ? FIN : 0) | (sent.length ? PSH : 0)),
       now);
}

u32 Tcp::available() const {
  return o_.rest_at && !resumed_ ? std::min(1 + o_.rest_at, data_end()) : data_end();
}

void Tcp::push(u64 now) {
  if (state_ != open) return;
  u32 pipe = in_flight();
  for (Sent& f : flight_) {
    if (!f.lost || f.sacked) continue;
    if (pipe && pipe + f.length > cwnd_) break;
    f.lost = false, f.resent = true;
    pipe += f.length;
    transmit(f, now);
  }
  const u32 have = available();
  if (have < data_end() && una_ == have && resume_at_ == never) resume_at_ = now + o_.rest_us;
  while (nxt_ < have && distance(edge_, nxt_) > 0 && pipe < std::max(cwnd_, u32(o_.mss))) {
    const u32 room = edge_ - nxt_;
    const u32 most = static_cast<u32>(o_.mss) * o_.gro;
    u32 length = std::min({most, have - nxt_, room});
    // Nagle's kin: no silly segments while others are on their way (RFC 9293 3.8.6.2.1).
    if (length < o_.mss && length < have - nxt_ && !flight_.empty()) break;
    const bool fin = nxt_ + length == data_end() && o_.closing == Closing::with_data &&
                     distance(edge_, data_end()) > 0;
    flight_.push_back({nxt_, length, fin, now, false, false, false});
    nxt_ += length + fin;
    most_ = std::max(most_, nxt_);
    fin_sent_ |= fin;
    pipe += length;
    transmit(flight_.back(), now);
  }
  // A bare FIN goes even into a closed window, as Linux sends it.
  if (may_close()) {
    flight_.push_back({nxt_, 0, true, now, false, false, false});
    fin_sent_ = true;
    most_ = std::max(most_, ++nxt_);
    transmit(flight_.back(), now);
  }
  arm(now);
}

// Retransmission or tail loss probe while something is in flight, window probes while nothing is
// and the window is closed, keep-alives otherwise.
void Tcp::arm(u64 now) {
  if (state_ != open) return;
  if (!flight_.empty()) {
    probe_ = never;
    if (timer_ == never) timer_ = now + rto_;
    return;
  }
  timer_ = never;
  if (nxt_ >= available()) {
    probe_ = never;
  } else if (probe_ == never) {
    probe_wait_ = rto_;
    probe_ = now + probe_wait_;
  }
}

void Tcp::timeout(u64 now) {
  if (state_ == syn_sent || state_ == syn_received) {
    if (++tries_ > 6) return end(timed_out);
    timer_ = now + (1000000ull << tries_);
    return send(0, 0, state_ == syn_sent ? SYN : SYN | ACK, now);
  }
  // One who answers and takes his window back is alive (RFC 9293 3.8.6.1; so does Linux).
  const bool closed = distance(edge_, una_) <= 0 && now - heard_ < o_.max_rto_us;
  if (!closed && ++tries_ > o_.most_tries) return end(timed_out);
  timer_ = never;
  if (flight_.empty()) return;
  // RFC 6298 5; a SACKed head means that the receiver has reneged (RFC 2018 8).
  const bool reneged = flight_.front().sacked;
  for (Sent& f : flight_) {
    if (reneged) f.sacked = false;
    if (!f.sacked) f.lost = true;
  }
  ssthresh_ = std::max(cwnd_ / 2, 2u * o_.mss);
  cwnd_ = o_.mss;
  recovering_ = slow_start_ = true;
  recover_ = nxt_;
  dup_acks_ = 0;
  rto_ = std::min(rto_ * 2, o_.max_rto_us);
  Sent& head = flight_.front();
  head.lost = false, head.resent = true;
  transmit(head, now);
  timer_ = now + rto_;
}

void Tcp::tick(u64 now) {
  if (over()) return;
  if (state_ == open && unread() && now >= read_at_) {
    const u32 old = right_;
    read();
    offer();
    if (right_ - old >= std::min<u32>(2u * o_.mss, o_.buffer / 2) && right_ > old) send_ack(now);
  }
  if (state_ == open && now >= resume_at_) {
    resumed_ = true, resume_at_ = never;
    push(now);
  }
  if (now >= ack_at_) send_ack(now);
  if (now >= reorder_at_) {
    for (Sent& f : flight_)
      if (!f.sacked && newest_delivered_ >= f.at) f.lost = true;
    reorder_at_ = never;
    find_losses(now);
    push(now);
  }
  // Tail loss probe (RFC 8985 7): the last segment once more, before the timeout.
  const u64 pto = 2 * srtt_ + 50000;
  if (state_ == open && probes_tail() && now >= flight_.back().at + pto && now < timer_) {
    tail_probed_ = true;
    flight_.back().resent = true;
    transmit(flight_.back(), now);
  }
  if (now >= timer_) timeout(now);
  if (over()) return;
  if (now >= probe_) {
    if (++tries_ > o_.most_tries) return end(timed_out);
    probe_wait_ = std::min(probe_wait_ * 2, o_.max_rto_us);
    probe_ = now + probe_wait_;
    if (distance(edge_, nxt_) > 0) {
      probe_ = never;
      push(now);
    } else if (o_.probes_with_data) {
      most_ = std::max(most_, nxt_ + 1);
      send(nxt_, 1, ACK, now);
    } else {
      send(una_ - 1, 0, ACK, now);
    }
  }
  if (state_ == open && flight_.empty() && probe_ == never &&
      now >= heard_ + o_.keep_alive_us * (tries_ + 1)) {
    if (++tries_ > 6) return end(timed_out);
    send_keep_alive(now);
  }
}

u64 Tcp::due() const {
  if (over() || state_ == listening) return never;
  u64 at = std::min({timer_, probe_, ack_at_, reorder_at_});
  if (state_ != open) return at;
  if (unread()) at = std::min(at, read_at_);
  at = std::min(at, resume_at_);
  if (probes_tail()) at = std::min(at, flight_.back().at + 2 * srtt_ + 50000);
  if (flight_.empty() && probe_ == never)
    at = std::min(at, heard_ + o_.keep_alive_us * (tries_ + 1));
  return at;
}

// RFC 8985 7.
bool Tcp::probes_tail() const {
  return sack_ && o_.sender == Sender::rack && !flight_.empty() && !tail_probed_ && !recovering_ &&
         srtt_;
}

// RFC 1191, RFC 5927 4: only what is in flight can be too big; it goes again in pieces.
void Tcp::too_big(u32 raw, u16 mtu, u64 now) {
  const u32 seq = raw - o_.isn, headers = ts_ ? 52 : 40;
  if (state_ != open || distance(seq, una_) < 0 || distance(seq, nxt_) >= 0) return;
  if (mtu < 68 || mtu - headers >= o_.mss) return;
  o_.mss = static_cast<u16>(mtu - headers);
  std::deque<Sent> pieces;
  for (const Sent& f : flight_) {
    const bool lost = !f.sacked && f.length > o_.mss;
    for (u32 done = 0; done < f.length || (!f.length && !done);) {
      Sent piece = f;
      piece.seq += done;
      piece.length = std::min<u32>(f.length - done, lost ? o_.mss : f.length);
      done += std::max<u32>(piece.length, 1);
      piece.fin = f.fin && done >= f.length;
      if (lost) piece.lost = piece.resent = true;
      pieces.push_back(piece);
    }
  }
  flight_ = std::move(pieces);
  push(now);
}

// --- misbehaviour --------------------------------------------------------------------------------

void Tcp::lie(u32 ahead, u64 now) {
  if (state_ != open) return;
  const u32 truth = rcv_nxt_;
  rcv_nxt_ += ahead;
  const u32 last = last_ack_;
  send_ack(now);
  rcv_nxt_ = truth, last_ack_ = last;
  if (right_ > truth + ahead) return;
  right_ = std::max(right_, truth);
}

void Tcp::repeat_old_ack(u64 now) {
  if (state_ != open) return;
  const u32 truth = rcv_nxt_, last = last_ack_;
  rcv_nxt_ = rcv_nxt_ > 1000 ? rcv_nxt_ - 1000 : 1;
  const std::vector<Range> above = std::exchange(above_, {});
  const u32 right = right_;
  send_ack(now);
  rcv_nxt_ = truth, last_ack_ = last, above_ = above, right_ = right;
}

void Tcp::send_keep_alive(u64 now) {
  if (state_ == open) send(una_ - 1, 0, ACK, now);
}

void Tcp::close(u64 now) {
  if (state_ != open || app_closed_) return;
  if (unread()) return abort(now);  // unread data: RFC 2525 2.17
  app_closed_ = true;
  // What it has not sent it never will.
  if (nxt_ < data_end()) o_.bytes = nxt_ - 1;
  push(now);
}

void Tcp::abort(u64) {
  if (over()) return;
  if (state_ >= open) {
    Segment r;
    r.connection = o_.connection;
    r.hops = o_.hops;
    r.flags = RST | ACK;
    r.seq = o_.isn + nxt_, r.ack = other_isn_ + rcv_nxt_;
    send_(r, 0);
  }
  end(aborted);
}

}  // namespace vsnoop_oracle
