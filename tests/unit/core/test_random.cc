// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Random walks: whole TCP connections over a bad network into a badly scheduled guest, by seed.
//
// Sender and receiver are simple but strict: they check PAWS, the window and the ACK range as
// RFC 7323, 9293 and 5961 demand, and drop what fails. The host owns its frames and frees them as
// it is told. What must hold always is asserted at every step; at the end every byte has arrived,
// and nothing is held or promised any more. Independent of harness.h, so that the two check each
// other.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tests/unit/catch.h"

namespace {

using std::size_t;
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using Bytes = std::vector<u8>;

constexpr u8 FIN = 1, SYN = 2, RST = 4, ACK = 16;
constexpr u32 peer_ts_base = 0xfffff000, guest_ts_base = 0x7ffff000;

int32_t distance(u32 a, u32 b) { return static_cast<int32_t>(a - b); }

class Random {
 public:
  explicit Random(u64 seed) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  u64 next() {
    u64 z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  u32 below(u32 n) { return static_cast<u32>(next() % n); }
  u32 between(u32 low, u32 high) { return low + below(high - low + 1); }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1p-53 < p; }

 private:
  u64 state_;
};

/// How one walk is set up.
struct Terrain {
  const char* name;
  u8 policy = VSNOOP_POLICY_HOLD;
  u8 engage = VSNOOP_ENGAGE_ALWAYS;
  bool early_sack = false;
  bool ts = true, sack = true;
  int shift = 5;              // window scale of both; 0: none
  unsigned flows = 8;         // at one time
  unsigned connections = 40;  // in all
  u32 bytes = 60000;          // most, of one connection
  u32 ring = 16;              // slots
  u32 budget = 4 << 20;       // of the guest
  u32 flow_budget = 0;
  u64 total_budget = 0;
  u32 custodies = 64, table = 64;
  u32 receive_buffer = 200000;
  double loss = 0.02, reorder = 0.05, duplicate = 0.02;  // of the network
  double guest_drops = 0.01;                             // of frames the guest took
  double host_declines = 0.01;
  u32 cwnd = 20000;           // most, of a peer
  double ring_loss = 0;       // chance a step that the ring is torn down
  u32 slice_us = 30000;       // the guest runs, or waits, for at most so long
  bool shrinks = false;       // the guest takes back window now and then
  bool peer_aborts = false;   // some connections end with the peer's RST
  bool guest_aborts = false;  // ... with the guest's
  bool churn = true;          // the guest writes as well
};

u8 byte_at(u32 connection, bool from_peer, u32 n) {
  return static_cast<u8>(n * 167 + (n >> 8) * 29 + connection * 13 + (from_peer ? 91 : 0));
}

u32 sum16(const u8* p, size_t n, u32 sum = 0) {
  for (size_t i = 0; i < n; ++i) {
    sum += i & 1 ? p[i] : p[i] << 8;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}
void put16(u8* p, u32 v) { p[0] = static_cast<u8>(v >> 8), p[1] = static_cast<u8>(v); }
void put32(u8* p, u32 v) { put16(p, v >> 16), put16(p + 2, v); }
u32 get16(const u8* p) { return static_cast<u32>(p[0] << 8 | p[1]); }
u32 get32(const u8* p) { return get16(p) << 16 | get16(p + 2); }

struct Segment {
  u32 seq = 0, ack = 0;
  u16 window = 0;
  u8 flags = ACK;
  bool has_ts = false;
  u32 tsval = 0, tsecr = 0;
  std::vector<std::pair<u32, u32>> sack;
  u32 length = 0;
  u32 data = 0;  // offset of the payload, when parsed
  bool syn_options = false;
  int scale = 0;
  bool sack_permitted = false;
};

constexpr u32 ip_at = 14, tcp_at = 34;

Bytes build(const Segment& s, u16 port, bool from_peer, u32 connection, u32 first_byte) {
  u8 options[40];
  u32 n = 0;
  if (s.syn_options) {
    put32(options, 0x02040000 | 1460), n = 4;
    if (s.scale) put32(options + n, 0x01030300u | static_cast<u32>(s.scale)), n += 4;
    if (s.sack_permitted) put32(options + n, 0x01010402), n += 4;
  }
  if (s.has_ts) {
    put32(options + n, 0x0101080a), put32(options + n + 4, s.tsval);
    put32(options + n + 8, s.tsecr), n += 12;
  }
  if (!s.sack.empty()) {
    put32(options + n, 0x01010500u | (2 + 8 * static_cast<u32>(s.sack.size()))), n += 4;
    for (const auto& [left, right] : s.sack)
      put32(options + n, left), put32(options + n + 4, right), n += 8;
  }
  Bytes f(tcp_at + 20 + n + s.length);
  std::memcpy(f.data(),
              from_peer ? "\2\0\0\0\0\1\2\0\0\0\0\2\x8\0" : "\2\0\0\0\0\2\2\0\0\0\0\1\x8\0", 14);
  u8* ip = f.data() + ip_at;
  ip[0] = 0x45, ip[8] = 64, ip[9] = 6;
  put16(ip + 2, static_cast<u32>(f.size()) - ip_at);
  put32(ip + (from_peer ? 16 : 12), 0x0a000001);
  put32(ip + (from_peer ? 12 : 16), 0x0a000102);
  put16(ip + 10, ~sum16(ip, 20) & 0xffff);
  u8* tcp = f.data() + tcp_at;
  put16(tcp, from_peer ? port : 80), put16(tcp + 2, from_peer ? 80 : port);
  put32(tcp + 4, s.seq), put32(tcp + 8, s.ack);
  tcp[12] = static_cast<u8>((20 + n) / 4 << 4), tcp[13] = s.flags;
  put16(tcp + 14, s.window);
  std::memcpy(tcp + 20, options, n);
  for (u32 i = 0; i < s.length; ++i)
    tcp[20 + n + i] = byte_at(connection, from_peer, first_byte + i);
  u32 sum = sum16(ip + 12, 8) + 6 + static_cast<u32>(f.size() - tcp_at);
  sum = sum16(tcp, f.size() - tcp_at, (sum & 0xffff) + (sum >> 16));
  put16(tcp + 16, ~sum & 0xffff);
  return f;
}

bool checksums_right(const Bytes& f) {
  const u32 end = ip_at + get16(&f[ip_at + 2]);
  u32 sum = sum16(&f[ip_at + 12], 8) + 6 + (end - tcp_at);
  sum = (sum & 0xffff) + (sum >> 16);
  return end <= f.size() && sum16(&f[ip_at], 20) == 0xffff &&
         sum16(&f[tcp_at], end - tcp_at, sum) == 0xffff;
}

Segment parse(const Bytes& f) {
  Segment s;
  const u8* tcp = &f[tcp_at];
  s.seq = get32(tcp + 4), s.ack = get32(tcp + 8), s.flags = tcp[13];
  s.window = static_cast<u16>(get16(tcp + 14));
  s.data = tcp_at + (tcp[12] >> 4) * 4u;
  s.length = ip_at + get16(&f[ip_at + 2]) - s.data;
  for (u32 at = tcp_at + 20; at < s.data;) {
    if (f[at] == 1) {
      ++at;
      continue;
    }
    if (f[at] == 8) s.has_ts = true, s.tsval = get32(&f[at + 2]), s.tsecr = get32(&f[at + 6]);
    if (f[at] == 5)
      for (u32 b = at + 2; b + 8 <= at + f[at + 1]; b += 8)
        s.sack.push_back({get32(&f[b]), get32(&f[b + 4])});
    at += f[at + 1];
  }
  return s;
}

/// A frame in custody.
struct HostFrame {
  vsnoop_held held;  // first: the engine's pointer is the frame's
  Bytes bytes;
  u32 memory, seq, length, connection;
  bool retain, in_ring;
};

struct RingEntry {
  Bytes bytes;
  HostFrame* frame;
  u32 pushed;
};

struct Connection {
  u32 id = 0;
  u16 port = 0;
  vsnoop_ref ref = {0xffffffff, 0, 0};
  u32 peer_iss = 0, guest_iss = 0;
  u32 total = 0, guest_total = 0;  // bytes each end sends
  enum { open, finished, reset } state = open;
  u64 opened_at = 0;
  bool peer_gone = false;  // the peer has aborted
  u32 abort_at = 0;        // of the peer: once so many bytes are acknowledged; 0: never
  u32 guest_abort_at = 0;

  // The peer. Numbers are relative to its ISS: byte n has number n, from 1.
  struct {
    u32 una = 1, nxt = 1, most = 1, edge = 1;  // most: highest ever sent
    u32 rcv_nxt = 1;
    u32 cwnd = 0, dup_acks = 0;
    u64 timer_at = 0, rto = 200000, probe_at = 0;
    u32 ts_recent = 0;
    bool fin_sent = false;
    std::vector<std::pair<u32, u32>> sacked;
  } peer;

  // The guest.
  struct {
    u32 rcv_nxt = 1, edge = 1, read = 1, buffer = 0;
    bool shrunk = false;
    std::vector<std::pair<u32, u32>> above;  // received out of order
    u32 ts_recent = 0, last_ack_sent = 1;
    u32 una = 1, nxt = 1, most = 1, peer_edge = 1, max_window = 0;
    u64 timer_at = 0, rto = 200000, ack_at = 0;
    u32 unacked = 0;
    bool fin_got = false, fin_sent = false, dead = false;
    bool established = false;  // else it waits for the handshake's last ACK
    u32 fin_at = 0;
  } guest;

  // On the wire towards the peer, as it leaves the host.
  bool shown = false;
  u32 shown_ack = 0, shown_edge = 0;
  u32 said_ack = 0, said_seq = 0, said_edge = 0;  // of the guest's newest segment
  bool touched = false;                           // by vsnoop, which tracks it
  bool rested = false;  // long enough for its reservation to be lent to others
  u64 spoke_at = 0;
};

class Walk {
 public:
  Walk(const Terrain& terrain, u64 seed) : t(terrain), random(seed), seed_(seed) {
    vsnoop_config config;
    vsnoop_defaults(&config);
    config.flows = t.table;
    config.custodies = t.custodies;
    config.guests = 1;
    config.budget = t.total_budget;
    config.idle_s = 60;
    config.seed[0] = seed, config.seed[1] = ~seed;
    memory_.resize(vsnoop_memory_needed(&config));
    v = vsnoop_create(memory_.data(), memory_.size(), &config);
    REQUIRE(v);
    vsnoop_guest_config guest;
    vsnoop_guest_defaults(&guest);
    guest.policy = t.policy;
    guest.engage = t.engage;
    guest.early_sack = t.early_sack;
    guest.budget = t.budget;
    guest.flow_budget = t.flow_budget;
    guest.liveness_us = 500000;
    guest.giveup_us = 600000000;
    REQUIRE(vsnoop_guest_open(v, 0, &guest, now) == 0);
  }

  void run() {
    const u64 limit = now + 600u * 1000000u;
    unsigned opened = 0;
    u64 slice_end = now;
    while (!failed_) {
      size_t busy = 0;
      for (const auto& c : connections) busy += c->state == Connection::open;
      if (busy < t.flows && opened < t.connections) {
        open(opened++);
        continue;
      }
      if (!busy && opened == t.connections) break;
      if (now > limit) {
        std::string who;
        for (const auto& c : connections)
          if (c->state == Connection::open) who += " " + describe(*c);
        fail("hung:" + who);
        break;
      }
      now += 250;
      if (now >= slice_end) {
        running_ = !running_ || t.slice_us == 0;
        slice_end = now + (t.slice_us ? random.between(100, t.slice_us) : 1000000);
      }
      network();
      for (auto& c : connections)
        if (c->state == Connection::open) peer_timers(*c);
      if (t.ring_loss > 0 && random.chance(t.ring_loss)) lose_ring();
      feed();
      if (running_) guest_runs();
      if (vsnoop_deadline(v) <= now) {
        release(vsnoop_tick(v, now));
        ++steps;
        emit();
      }
      feed();
      watch();
    }
    if (!failed_) end();
  }

  u64 steps = 0;
  u64 now = 5000000;
  vsnoop_guest_stats stats() const { return *vsnoop_stats(v, 0); }

 private:
  struct Flight {
    u64 at, order;
    Connection* connection;
    Bytes bytes;
    bool to_peer;
    bool operator<(const Flight& other) const {
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  void fail(const std::string& what) {
    if (failed_) return;
    failed_ = true;
    std::string tail;
    for (const std::string& line : trace_) tail += "\n    " + line;
    FAIL_CHECK("walk \"" << t.name << "\", seed " << seed_ << ", at " << now << " us, step "
                         << steps << ": " << what << tail);
  }
  void note(const std::string& line) {
    trace_.push_back(std::to_string(now) + " " + line);
    if (trace_.size() > 60) trace_.pop_front();
  }
  static std::string text(const Connection& c, const Segment& s, bool from_peer) {
    const u32 own = from_peer ? c.peer_iss : c.guest_iss,
              other = from_peer ? c.guest_iss : c.peer_iss;
    std::string t = "#" + std::to_string(c.id) + (s.flags & RST ? " R" : "") +
                    (s.flags & FIN ? " F" : "") + " " + std::to_string(s.seq - own) + "(" +
                    std::to_string(s.length) + ") ack " + std::to_string(s.ack - other) + " win " +
                    std::to_string(s.window);
    if (s.has_ts)
      t += " ts " + std::to_string(s.tsval - (from_peer ? peer_ts_base : guest_ts_base));
    for (const auto& [l, r] : s.sack)
      t += " sack " + std::to_string(l - other) + ":" + std::to_string(r - other);
    return t;
  }
  std::string describe(const Connection& c) const {
    std::string s = "#" + std::to_string(c.id) + " total " + std::to_string(c.total) +
                    " peer una " + std::to_string(c.peer.una) + " nxt " +
                    std::to_string(c.peer.nxt) + " edge " + std::to_string(c.peer.edge) + " fin " +
                    std::to_string(c.peer.fin_sent) + "; guest rcv " +
                    std::to_string(c.guest.rcv_nxt) + " edge " + std::to_string(c.guest.edge) +
                    " una " + std::to_string(c.guest.una) + " of " + std::to_string(c.guest_total) +
                    " fin " + std::to_string(c.guest.fin_got) + std::to_string(c.guest.fin_sent);
    vsnoop_flow_info f;
    if (vsnoop_flow(v, c.ref, &f))
      s += "; flow state " + std::to_string(f.state) + " pause " + vsnoop_reason_name(f.pause) +
           " rcv " + std::to_string(f.rcv_nxt - c.peer_iss) + " early " +
           std::to_string(f.early_ack - c.peer_iss) + " guest " +
           std::to_string(f.guest_ack - c.peer_iss) + " shown " +
           std::to_string(f.shown_edge - c.peer_iss) + " right " +
           std::to_string(f.right_edge - c.peer_iss) + " held " + std::to_string(f.held) +
           " reserved " + std::to_string(f.reserved) + " holes " + std::to_string(f.holes);
    return s;
  }

  // --- connections -------------------------------------------------------------------------------

  u32 peer_clock() const { return peer_ts_base + static_cast<u32>(now / 1000); }
  u32 guest_clock() const { return guest_ts_base + static_cast<u32>(now / 1000); }

  void open(unsigned number) {
    connections.push_back(std::make_unique<Connection>());
    Connection& c = *connections.back();
    c.id = number;
    c.port = static_cast<u16>(20000 + number);
    by_port_[c.port] = &c;
    c.peer_iss = 0xffffffff - random.below(t.bytes);
    c.guest_iss = 0xffffffff - random.below(2000);
    c.total = random.chance(0.2) ? random.below(100) : random.below(t.bytes);
    c.guest_total = t.churn ? random.below(3000) : 0;
    c.opened_at = now;
    c.peer.cwnd = random.between(2000, t.cwnd);
    c.guest.buffer = random.between(t.receive_buffer / 4, t.receive_buffer);
    if (!t.shift && c.guest.buffer > 65535) c.guest.buffer = 65535;
    if (t.peer_aborts && random.chance(0.4)) c.abort_at = random.between(1, c.total + 1);
    if (t.guest_aborts && random.chance(0.4)) c.guest_abort_at = random.between(1, c.total + 1);
    // The handshake finds good weather; what comes with it is tested elsewhere.
    const bool guest_opens = random.chance(0.3);
    Segment syn;
    syn.flags = SYN;
    syn.syn_options = true;
    syn.scale = t.shift;
    syn.sack_permitted = t.sack;
    syn.has_ts = t.ts;
    Segment syn_ack = syn;
    syn_ack.flags = SYN | ACK;
    Segment& peers = guest_opens ? syn_ack : syn;
    Segment& guests = guest_opens ? syn : syn_ack;
    const u32 syn_window = std::min(65535u, c.guest.buffer);
    peers.seq = c.peer_iss, guests.seq = c.guest_iss;
    peers.window = 64000, guests.window = static_cast<u16>(syn_window);
    peers.tsval = peer_clock(), guests.tsval = guest_clock();
    (guest_opens ? peers : guests).tsecr = guest_opens ? guests.tsval : peers.tsval;
    if (guest_opens) {
      guests.ack = 0;
      peers.ack = c.guest_iss + 1;
    } else {
      guests.ack = c.peer_iss + 1;
    }
    c.peer.edge = c.guest.edge = 1 + syn_window;
    c.guest.peer_edge = 64001;
    c.guest.max_window = 64000;
    c.peer.ts_recent = guests.tsval, c.guest.ts_recent = peers.tsval;
    if (guest_opens) {
      handshake_frame(c, guests, false);
      handshake_frame(c, peers, true);
      c.guest.established = true;
      send_ack(c);
    } else {
      handshake_frame(c, peers, true);
      handshake_frame(c, guests, false);
      peer_sends(c, 1, 0, false);
    }
  }

  void handshake_frame(Connection& c, const Segment& s, bool from_peer) {
    const Bytes f = build(s, c.port, from_peer, c.id, 0);
    const vsnoop_frame frame = view(f);
    const vsnoop_verdict verdict =
        from_peer ? vsnoop_from_peer(v, 0, &frame, now) : vsnoop_from_guest(v, 0, &frame, now);
    if (verdict.action != VSNOOP_PASS) fail("a SYN does not pass");
  }

  static vsnoop_frame view(const Bytes& f) {
    return {f.data(), static_cast<u32>(f.size()), static_cast<u32>(f.size()),
            512 + static_cast<u32>(f.size()), VSNOOP_CHECKSUM_VERIFIED};
  }

  // --- network -----------------------------------------------------------------------------------

  void send(Connection& c, Bytes bytes, bool to_peer) {
    if (random.chance(t.loss)) return;
    const unsigned copies = random.chance(t.duplicate) ? 2 : 1;
    for (unsigned i = 0; i < copies; ++i) {
      const u64 delay = 500 + (random.chance(t.reorder) ? random.below(6000) : 0);
      flights_.push({now + delay, order_++, &c, bytes, to_peer});
    }
  }

  void network() {
    while (!flights_.empty() && flights_.top().at <= now && !failed_) {
      const Flight f = flights_.top();
      flights_.pop();
      if (f.to_peer)
        peer_gets(*f.connection, f.bytes);
      else
        host_gets_from_peer(*f.connection, f.bytes);
    }
  }

  // --- the peer ----------------------------------------------------------------------------------

  void peer_sends(Connection& c, u32 seq, u32 length, bool fin) {
    Segment s;
    s.seq = c.peer_iss + seq;
    s.ack = c.guest_iss + c.peer.rcv_nxt;
    s.length = length;
    s.window = static_cast<u16>(60000 >> t.shift);
    if (fin) s.flags |= FIN;
    s.has_ts = t.ts;
    s.tsval = peer_clock(), s.tsecr = c.peer.ts_recent;
    send(c, build(s, c.port, true, c.id, seq), false);
    const u32 end = seq + length + fin;
    c.peer.nxt = std::max(c.peer.nxt, end);
    c.peer.most = std::max(c.peer.most, end);
    c.peer.fin_sent |= fin;
    if ((length || fin) && !c.peer.timer_at) c.peer.timer_at = now + c.peer.rto;
  }

  // One new or repeated segment at `seq`; returns where it ends.
  u32 peer_data(Connection& c, u32 seq) {
    const u32 end = 1 + c.total;
    const u32 room = c.peer.edge > seq ? c.peer.edge - seq : 0;
    const u32 length =
        std::min({random.chance(0.05) ? random.between(1, 6000) : random.between(400, 1448),
                  end - seq, room});
    // Some close at once, others when all has been acknowledged.
    const bool last = seq + length == end && (c.id % 2 || c.peer.una == end || !length);
    peer_sends(c, seq, length, last);
    return seq + length + last;
  }

  void peer_pushes(Connection& c) {
    const u32 end = 1 + c.total;
    if (c.peer.nxt == end && !(c.id % 2) && c.peer.una != end) return;
    while (c.peer.nxt <= end && c.peer.nxt - c.peer.una < c.peer.cwnd &&
           (c.peer.edge > c.peer.nxt || c.peer.nxt == end)) {
      if (c.peer.nxt == end && c.peer.edge < c.peer.nxt) break;
      peer_data(c, c.peer.nxt);
    }
  }

  void peer_timers(Connection& c) {
    if (c.peer_gone) return;
    if (c.abort_at && c.peer.una >= c.abort_at && c.peer.una <= c.total) {
      Segment s;
      s.seq = c.peer_iss + c.peer.most;
      s.ack = c.guest_iss + c.peer.rcv_nxt;
      s.flags = RST | ACK;
      c.peer_gone = true;
      send(c, build(s, c.port, true, c.id, 0), false);
      return;
    }
    peer_pushes(c);
    if (c.peer.timer_at && now >= c.peer.timer_at) {
      c.peer.rto = std::min<u64>(c.peer.rto * 2, 3000000);
      c.peer.timer_at = now + c.peer.rto;
      c.peer.nxt = c.peer.una;  // go back
      c.peer.sacked.clear();
      if (c.peer.una <= 1 + c.total) peer_data(c, c.peer.una);
    }
    const bool blocked =
        c.peer.una == c.peer.nxt && c.peer.nxt <= c.total && c.peer.edge <= c.peer.nxt;
    if (!blocked) {
      c.peer.probe_at = 0;
    } else if (!c.peer.probe_at) {
      c.peer.probe_at = now + 300000;
    } else if (now >= c.peer.probe_at) {
      c.peer.probe_at = now + 500000;
      if (random.chance(0.5))
        peer_sends(c, c.peer.una - 1, 0, false);  // as Linux probes
      else
        peer_sends(c, c.peer.nxt, 1, c.peer.nxt == c.total);
    }
  }

  void peer_gets(Connection& c, const Bytes& bytes) {
    const Segment s = parse(bytes);
    if (c.state != Connection::open) return;
    if (c.peer_gone) {
      if (!(s.flags & RST)) {  // RFC 9293 3.10.7.1
        Segment r;
        r.seq = s.ack;
        r.flags = RST;
        send(c, build(r, c.port, true, c.id, 0), false);
      }
      return;
    }
    if (s.flags & RST) {
      if (s.seq != c.guest_iss + c.peer.rcv_nxt) return;
      if (!c.guest.dead) fail("the peer is reset: " + text(c, s, false));
      c.state = Connection::reset;
      return;
    }
    const u32 seq = s.seq - c.guest_iss, ack = s.ack - c.peer_iss;
    if (t.ts && distance(s.tsval, c.peer.ts_recent) < 0) return peer_sends(c, c.peer.nxt, 0, false);
    if (distance(seq + s.length, c.peer.rcv_nxt) < 0 || distance(seq, c.peer.rcv_nxt + 60000) > 0)
      return peer_sends(c, c.peer.nxt, 0, false);
    if (distance(ack, c.peer.most) > 0)
      return fail("acknowledged what was never sent: " + text(c, s, false));
    if (t.ts && distance(seq, c.peer.rcv_nxt) <= 0) c.peer.ts_recent = s.tsval;
    if (t.ts && distance(s.tsecr, peer_clock()) > 0)
      fail("echoes a timestamp of the future: " + text(c, s, false));
    const u32 edge = ack + (static_cast<u32>(s.window) << t.shift);
    if (distance(ack, c.peer.una) > 0) {
      c.peer.una = ack;
      c.peer.nxt = std::max(c.peer.nxt, ack);
      c.peer.rto = 200000;
      c.peer.timer_at = c.peer.una == c.peer.most ? 0 : now + c.peer.rto;
      c.peer.dup_acks = 0;
    } else if (ack == c.peer.una && !s.length && c.peer.una != c.peer.most && edge == c.peer.edge) {
      if (++c.peer.dup_acks == 3 && c.peer.una <= 1 + c.total) peer_data(c, c.peer.una);
    }
    c.peer.edge = std::max(c.peer.edge, edge);
    if (s.length || s.flags & FIN) {
      for (u32 i = 0; i < s.length; ++i)
        if (bytes[s.data + i] != byte_at(c.id, false, seq + i))
          return fail("the peer gets wrong bytes: " + text(c, s, false));
      const u32 end = seq + s.length + !!(s.flags & FIN);
      if (distance(seq, c.peer.rcv_nxt) <= 0 && distance(end, c.peer.rcv_nxt) > 0)
        c.peer.rcv_nxt = end;
      peer_sends(c, c.peer.nxt, 0, false);
      if (c.peer.rcv_nxt == c.guest_total + 2 && c.peer.una == c.total + 2) finish(c);
    }
    if (c.peer.rcv_nxt == c.guest_total + 2 && c.peer.una == c.total + 2) finish(c);
  }

  void finish(Connection& c) {
    if (c.guest.rcv_nxt != c.total + 2) fail("finished, but the guest lacks bytes: " + describe(c));
    c.state = Connection::finished;
  }

  // --- the host ----------------------------------------------------------------------------------

  void host_gets_from_peer(Connection& c, const Bytes& bytes) {
    const vsnoop_frame frame = view(bytes);
    const Segment s = parse(bytes);
    vsnoop_verdict verdict = vsnoop_from_peer(v, 0, &frame, now);
    ++steps;
    note("peer  " + text(c, s, true) + " -> " + std::to_string(verdict.action) + " " +
         vsnoop_reason_name(verdict.reason));
    if (verdict.flow.slot != 0xffffffff) c.ref = verdict.flow;
    release(verdict.released);
    u8 action = verdict.action;
    const bool full = ring_.size() >= t.ring;
    if (action == VSNOOP_KEEP || action == VSNOOP_PUSH) {
      const bool takes = !random.chance(t.host_declines) && !(action == VSNOOP_PUSH && full);
      if (!takes) {
        action = vsnoop_declined(v, &verdict, now);
      } else if (action == VSNOOP_PUSH) {
        if (vsnoop_taken(v, &verdict, nullptr, now))
          ring_.push_back({bytes, nullptr, frame.memory});
        else
          ring_.push_back({bytes, nullptr, 0});
      } else {
        auto* h = new HostFrame{{},
                                bytes,
                                (frame.memory + 255) / 256 * 256,
                                s.seq,
                                s.length,
                                c.id,
                                verdict.retain != 0,
                                false};
        if (vsnoop_taken(v, &verdict, &h->held, now)) {
          live_.emplace(&h->held, h);
        } else {
          delete h;
          action = VSNOOP_PASS;
        }
      }
    }
    if (action == VSNOOP_PASS && !full) ring_.push_back({bytes, nullptr, 0});
    emit();
    check(c);
  }

  void release(vsnoop_held* list) {
    while (list) {
      vsnoop_held* next = list->next;
      free_frame(list);
      list = next;
    }
  }
  void free_frame(vsnoop_held* held) {
    const auto it = live_.find(held);
    if (it == live_.end()) return fail("a frame is freed that the engine does not have");
    if (it->second->in_ring) fail("a frame is freed in the ring");
    delete it->second;
    live_.erase(it);
  }

  void feed() {
    vsnoop_feed feed;
    while (ring_.size() < t.ring && !failed_ && vsnoop_next(v, 0, &feed, now)) {
      ++steps;
      const auto it = live_.find(feed.held);
      if (it == live_.end()) return fail("next() names a frame that the engine does not have");
      HostFrame& h = *it->second;
      if (!feed.discard) {
        if (h.in_ring) fail("a frame is in the ring already");
        Bytes copy = h.bytes;
        if (vsnoop_apply_edit(copy.data(), static_cast<u32>(copy.size()), &feed.edit, 0))
          fail("an edit is refused");
        if (feed.skip || feed.keep != h.length) {
          if (feed.keep == 0) fail("a frame is cut to nothing");
          const u32 n =
              vsnoop_trim(copy.data(), static_cast<u32>(copy.size()), feed.skip, feed.keep, 0);
          if (!n) fail("a cut is refused");
          copy.resize(n);
        }
        if (!checksums_right(copy)) fail("wrong checksum in the ring");
        if (feed.again)
          note("again " + std::to_string(h.connection) + " " + std::to_string(feed.skip) + "+" +
               std::to_string(feed.keep));
        h.in_ring = feed.retain && !feed.more;
        ring_.push_back({std::move(copy), h.in_ring ? &h : nullptr, 0});
      }
      vsnoop_fed(v, 0, &feed, now);
      if (feed.discard || !feed.retain) free_frame(feed.held);
    }
    emit();
  }

  void lose_ring() {
    note("the ring is lost");
    while (!ring_.empty()) {
      const RingEntry entry = ring_.back();
      ring_.pop_back();
      if (entry.frame) {
        entry.frame->in_ring = false;
        vsnoop_returned(v, &entry.frame->held, now);
      } else if (entry.pushed) {
        vsnoop_progress(v, 0, entry.pushed, now);
      }
    }
  }

  void emit() {
    u8 buffer[VSNOOP_EMIT_MAX];
    vsnoop_emission e;
    while (!failed_ && vsnoop_emit(v, &e, buffer, now)) {
      ++steps;
      const Bytes f(buffer, buffer + e.length);
      if (!checksums_right(f)) return fail("emitted with a wrong checksum");
      const u16 port = static_cast<u16>(get16(&f[tcp_at + (e.to_guest ? 0 : 2)]));
      Connection& c = *by_port_.at(port);
      const Segment s = parse(f);
      note("emit  " + text(c, s, e.to_guest) + (e.to_guest ? " to the guest " : " ") +
           vsnoop_reason_name(e.reason));
      if (s.flags & RST) {
        if (!c.peer_gone && !c.guest.dead) fail("vsnoop resets a connection: " + describe(c));
        if (e.to_guest)
          ring_.push_back({f, nullptr, 0});
        else
          send(c, f, true);
        continue;
      }
      if (t.early_sack)
        for (const auto& [l, r] : s.sack)
          if (distance(r, s.ack) > 0) c.peer.sacked.push_back({l - c.peer_iss, r - c.peer_iss});
      leaves(c, s, true);
      send(c, f, true);
    }
  }

  // I4 and P4 on the wire, before the network mixes things up.
  void leaves(Connection& c, const Segment& s, bool by_vsnoop) {
    if (s.flags & RST || !(s.flags & ACK)) return;
    const u32 ack = s.ack - c.peer_iss, edge = ack + (static_cast<u32>(s.window) << t.shift);
    c.touched |= by_vsnoop;
    if (c.touched && c.shown) {
      if (ack < c.shown_ack)
        fail("I4: the ACK number moves left from " + std::to_string(c.shown_ack) + ": " +
             text(c, s, false));
      // What the guest itself has taken back is no longer shown.
      if (edge + (1u << t.shift) <= std::min(c.shown_edge, c.said_edge))
        fail("I4: the right edge moves left from " + std::to_string(c.shown_edge) + ": " +
             text(c, s, false));
    }
    if (t.early_sack) {
      for (const auto& [l, r] : c.peer.sacked)
        if (ack >= l && ack < r)
          fail("P4: the ACK stops at or inside a SACKed range: " + text(c, s, false));
    }
    c.shown = true;
    c.shown_ack = std::max(c.shown_ack, ack);
    c.shown_edge = std::max(c.shown_edge, edge);
  }

  // --- the guest ---------------------------------------------------------------------------------

  u16 guest_window(Connection& c) {
    auto& g = c.guest;
    const u32 buffer = g.shrunk ? g.buffer / 8 : g.buffer;
    const u32 unread = g.rcv_nxt - g.read;
    u32 edge = g.rcv_nxt + (buffer > unread ? buffer - unread : 0);
    if (!g.shrunk) edge = std::max(edge, g.edge);
    // Rounded up, as Linux does, or the edge would move left by a little.
    const u32 up = g.shrunk ? 0 : (1u << t.shift) - 1;
    const u32 raw = std::min((edge - g.rcv_nxt + up) >> t.shift, 65535u);
    g.edge = g.rcv_nxt + (raw << t.shift);
    return static_cast<u16>(raw);
  }

  void guest_sends(Connection& c, u32 seq, u32 length, bool fin,
                   std::vector<std::pair<u32, u32>> sack = {}) {
    auto& g = c.guest;
    Segment s;
    s.seq = c.guest_iss + seq;
    s.ack = c.peer_iss + g.rcv_nxt;
    s.length = length;
    if (fin) s.flags |= FIN;
    s.window = guest_window(c);
    s.has_ts = t.ts;
    s.tsval = guest_clock(), s.tsecr = g.ts_recent;
    if (t.sack) {
      for (const auto& range : g.above)
        if (sack.size() < 3) sack.push_back(range);
      for (auto& [l, r] : sack) l += c.peer_iss, r += c.peer_iss;
      s.sack = sack;
    }
    g.last_ack_sent = g.rcv_nxt;
    g.unacked = 0, g.ack_at = 0;
    const u32 end = seq + length + fin;
    g.nxt = std::max(g.nxt, end), g.most = std::max(g.most, end);
    g.fin_sent |= fin;
    if ((length || fin) && !g.timer_at) g.timer_at = now + g.rto;
    guest_frame(c, s, build(s, c.port, false, c.id, seq));
  }
  void send_ack(Connection& c, std::vector<std::pair<u32, u32>> sack = {}) {
    guest_sends(c, c.guest.nxt, 0, false, std::move(sack));
  }

  void guest_frame(Connection& c, const Segment& s, Bytes bytes) {
    const u32 said = s.ack - c.peer_iss;
    if (s.flags & ACK &&
        (said > c.said_ack || (said == c.said_ack && distance(s.seq, c.said_seq) >= 0))) {
      c.said_ack = said, c.said_seq = s.seq;  // RFC 9293 3.10.7.4: SND.WL1, SND.WL2
      c.said_edge = said + (static_cast<u32>(s.window) << t.shift);
    }
    const vsnoop_frame frame = view(bytes);
    const vsnoop_verdict verdict = vsnoop_from_guest(v, 0, &frame, now);
    ++steps;
    note("guest " + text(c, s, false) + " -> " + std::to_string(verdict.action) + " " +
         vsnoop_reason_name(verdict.reason));
    if (verdict.flow.slot != 0xffffffff) c.ref = verdict.flow;
    release(verdict.released);
    if (verdict.action == VSNOOP_EDIT &&
        vsnoop_apply_edit(bytes.data(), static_cast<u32>(bytes.size()), &verdict.edit, 0))
      fail("an edit is refused");
    if (!checksums_right(bytes)) fail("an edit spoils the checksum");
    if (verdict.flow.slot == 0xffffffff)
      c.touched = false;  // forgotten: the guest may do as it likes
    if (verdict.action == VSNOOP_PASS || verdict.action == VSNOOP_EDIT) {
      leaves(c, parse(bytes), verdict.action == VSNOOP_EDIT);
      send(c, bytes, true);
    }
    emit();
    check(c);
  }

  void guest_runs() {
    for (unsigned n = random.between(1, 8); n && !ring_.empty() && !failed_; --n) {
      const RingEntry entry = ring_.front();
      ring_.pop_front();
      // A dead netstack frees the buffers all the same.
      if (entry.frame) {
        entry.frame->in_ring = false;
        if (vsnoop_consumed(v, &entry.frame->held, now)) free_frame(&entry.frame->held);
      } else {
        vsnoop_progress(v, 0, entry.pushed, now);
      }
      ++steps;
      emit();
      if (!random.chance(t.guest_drops)) guest_gets(entry.bytes);
    }
    for (auto& c : connections)
      if (c->state == Connection::open && !c->guest.dead) guest_timers(*c);
  }

  void guest_gets(const Bytes& bytes) {
    if (!checksums_right(bytes)) return;
    Connection& c = *by_port_.at(static_cast<u16>(get16(&bytes[tcp_at])));
    auto& g = c.guest;
    const Segment s = parse(bytes);
    if (s.flags & SYN) return;
    if (c.state != Connection::open || g.dead) {
      if (!(s.flags & RST) && g.dead && c.state == Connection::open) {
        Segment r;
        r.flags = RST;
        r.seq = s.ack;
        guest_frame(c, r, build(r, c.port, false, c.id, 0));
      }
      return;
    }
    const u32 seq = s.seq - c.peer_iss, ack = s.ack - c.guest_iss;
    if (s.flags & RST) {
      if (seq == g.rcv_nxt) {
        if (!c.peer_gone) fail("the guest is reset: " + text(c, s, true));
        g.dead = true;
        c.state = Connection::reset;
      } else if (seq > g.rcv_nxt && seq < g.edge) {
        send_ack(c);  // RFC 5961 3.2
      }
      return;
    }
    if (t.ts && distance(s.tsval, g.ts_recent) < 0) return send_ack(c);
    // RFC 5961 5.2
    if (distance(ack, g.most) > 0 || distance(ack, g.una - g.max_window) < 0) return send_ack(c);
    const u32 fin = !!(s.flags & FIN);
    const u32 end = seq + s.length;
    if (distance(end, g.last_ack_sent) < 0 || distance(seq, g.edge) > 0) {
      if (s.length && distance(end, g.rcv_nxt) <= 0 && t.sack) return send_ack(c, {{seq, end}});
      return send_ack(c);
    }
    if (t.ts && distance(seq, g.last_ack_sent) <= 0) g.ts_recent = s.tsval;
    if (distance(ack, g.una) > 0) {
      g.una = ack;
      g.nxt = std::max(g.nxt, ack);
      g.rto = 200000;
      g.timer_at = g.una == g.most ? 0 : now + g.rto;
    }
    const u32 window = static_cast<u32>(s.window) << t.shift;
    g.max_window = std::max(g.max_window, window);
    g.peer_edge = std::max(g.peer_edge, ack + window);
    g.established = true;
    if (!s.length && !fin) return;
    for (u32 i = 0; i < s.length; ++i)
      if (bytes[s.data + i] != byte_at(c.id, true, seq + i))
        return fail("the guest gets wrong bytes: " + text(c, s, true));
    if (distance(end + fin, g.rcv_nxt) <= 0)
      return send_ack(c, s.length ? std::vector<std::pair<u32, u32>>{{seq, end}}
                                  : std::vector<std::pair<u32, u32>>{});
    const u32 stop = std::min(end, g.edge);  // what does not fit is dropped
    if (fin && stop == end) g.fin_at = end, g.fin_got = true;
    if (stop <= seq && !fin) return send_ack(c);
    const bool in_order = seq <= g.rcv_nxt;
    insert(g.above, std::max(seq, g.rcv_nxt), std::max(stop, g.rcv_nxt));
    const u32 before = g.rcv_nxt;
    while (!g.above.empty() && g.above.front().first <= g.rcv_nxt) {
      g.rcv_nxt = std::max(g.rcv_nxt, g.above.front().second);
      g.above.erase(g.above.begin());
    }
    if (g.fin_got && g.rcv_nxt == g.fin_at) g.rcv_nxt = g.fin_at + 1;
    if (g.rcv_nxt > c.total + 2) fail("the guest gets more than was sent");
    if (!in_order || g.rcv_nxt - before > stop - seq || ++g.unacked >= 2 || fin || stop != end)
      send_ack(c);
    else if (!g.ack_at)
      g.ack_at = now + random.below(40000);
  }

  static void insert(std::vector<std::pair<u32, u32>>& ranges, u32 begin, u32 end) {
    if (begin >= end) return;
    ranges.push_back({begin, end});
    std::sort(ranges.begin(), ranges.end());
    std::vector<std::pair<u32, u32>> merged;
    for (const auto& r : ranges) {
      if (!merged.empty() && r.first <= merged.back().second)
        merged.back().second = std::max(merged.back().second, r.second);
      else
        merged.push_back(r);
    }
    ranges = merged;
  }

  void guest_timers(Connection& c) {
    auto& g = c.guest;
    if (!g.established) return;
    if (c.guest_abort_at && g.rcv_nxt >= c.guest_abort_at && g.rcv_nxt <= c.total) {
      Segment r;
      r.flags = RST | ACK;
      r.seq = c.guest_iss + g.nxt, r.ack = c.peer_iss + g.rcv_nxt;
      g.dead = true;
      guest_frame(c, r, build(r, c.port, false, c.id, 0));
      return;
    }
    if (t.shrinks && random.chance(0.002)) g.shrunk = !g.shrunk;
    // The application reads in bursts and opens the window again.
    if (g.rcv_nxt != g.read && random.chance(0.05)) {
      const u32 old = g.edge;
      g.read += random.between(1, g.rcv_nxt - g.read);
      const u32 unread = g.rcv_nxt - g.read;
      const u32 buffer = g.shrunk ? g.buffer / 8 : g.buffer;
      const u32 edge = g.rcv_nxt + (buffer > unread ? buffer - unread : 0);
      if (edge > old && (edge - old >= 2 * 1448 || edge - old >= buffer / 2)) send_ack(c);
    }
    if (g.ack_at && now >= g.ack_at) send_ack(c);
    const u32 end = 1 + c.guest_total;
    const bool closes = g.fin_got && g.rcv_nxt > c.total + 1;
    if (g.nxt < end && random.chance(0.02)) {
      const u32 room = g.peer_edge > g.nxt ? g.peer_edge - g.nxt : 0;
      const u32 length = std::min({random.between(1, 400), end - g.nxt, room});
      if (length) guest_sends(c, g.nxt, length, false);
    }
    if (g.nxt == end && closes) guest_sends(c, g.nxt, 0, true);
    if (g.timer_at && now >= g.timer_at) {
      g.rto = std::min<u64>(g.rto * 2, 3000000);
      g.timer_at = now + g.rto;
      if (g.una < end)
        guest_sends(c, g.una, std::min(g.most < end ? g.most - g.una : end - g.una, 1400u), false);
      else if (g.fin_sent)
        guest_sends(c, g.una, 0, true);
    }
    // A keep-alive now and then.
    if (random.chance(0.0005)) guest_sends(c, g.una - 1, 0, false);
  }

  // --- what must hold
  // ------------------------------------------------------------------------------

  void check(Connection& c) {
    const vsnoop_guest_stats& s = *vsnoop_stats(v, 0);
    if (t.policy == VSNOOP_POLICY_HOLD) {
      if (s.held > t.budget)
        fail("I7: held " + std::to_string(s.held) + " of " + std::to_string(t.budget));
      if (s.used - s.held > t.budget) fail("I2b: reserved more than the budget");
      if (t.total_budget && s.held > t.total_budget)
        fail("I7: held more than there is over all guests");
    }
    vsnoop_flow_info f;
    if (!vsnoop_flow(v, c.ref, &f) || f.peer_port != c.port) return;
    if (f.state == VSNOOP_FLOW_STOPPED) return;
    const auto ordered = [&](u32 a, u32 b, const char* what) {
      if (distance(a, b) > 0) fail(std::string(what) + " is broken: " + describe(c));
    };
    ordered(f.early_ack, f.rcv_nxt, "I1 early_ack <= rcv_nxt");
    ordered(f.early_ack, f.right_edge, "I2 early_ack <= right_edge");
    ordered(f.early_ack, f.shown_edge, "early_ack <= shown_edge");
    ordered(f.shown_edge, f.right_edge, "I2b shown_edge <= right_edge");
    ordered(f.guest_ack, f.early_ack, "guest_ack <= early_ack");
    if (t.flow_budget && (f.held > t.flow_budget || f.reserved > t.flow_budget))
      fail("I7: a flow has more than its share: " + describe(c));
    if (f.early_ack != f.guest_ack && t.policy == VSNOOP_POLICY_HOLD && steps % 16 == 0)
      promised(c, f);
    // I2b: what is shown beyond the first 64 KiB is reserved, at a byte of memory a byte at least;
    // but for what was lent to others while the connection was at rest.
    if (c.spoke_at && now - c.spoke_at > 250000) c.rested = true;
    c.spoke_at = now;
    const u32 from = distance(f.rcv_nxt, f.guest_ack + 65536) > 0 ? f.rcv_nxt : f.guest_ack + 65536;
    const u32 needed = distance(f.shown_edge, from) > 0 ? f.shown_edge - from : 0;
    if (f.reserved >= f.shown_edge - f.rcv_nxt) c.rested = false;  // all is paid for again
    if (f.reserved < needed && !c.rested && f.state != VSNOOP_FLOW_DRAINING)
      fail("I2b: shown beyond what is reserved: " + describe(c));
  }

  // I3: every promised byte is in custody.
  void promised(const Connection& c, const vsnoop_flow_info& f) {
    std::vector<std::pair<u32, u32>> have;
    for (const auto& [held, h] : live_)
      if (h->connection == c.id && h->retain)
        have.push_back({h->seq - c.peer_iss, h->seq - c.peer_iss + h->length});
    std::sort(have.begin(), have.end());
    u32 at = f.guest_ack - c.peer_iss;
    for (const auto& [begin, end] : have)
      if (begin <= at && end > at) at = end;
    if (at < f.early_ack - c.peer_iss)
      fail("I3: byte " + std::to_string(at) + " was promised and is not held: " + describe(c));
  }

  // Accounts, now and then: they take a walk over everything.
  void watch() {
    if (++watches_ % 64) return;
    const vsnoop_guest_stats& s = *vsnoop_stats(v, 0);
    u64 held = 0, reserved = 0, outstanding = 0;
    for (const auto& [key, h] : live_) held += h->memory;
    for (const RingEntry& entry : ring_) held += entry.pushed;
    u32 cursor = 0;
    vsnoop_flow_info f;
    while (vsnoop_flow_next(v, &cursor, &f))
      reserved += f.reserved, outstanding += f.early_ack - f.guest_ack;
    if (s.held != held)
      fail("accounts: held " + std::to_string(s.held) + ", frames cost " + std::to_string(held));
    if (s.used != held + reserved)
      fail("accounts: used " + std::to_string(s.used) + ", held " + std::to_string(held) +
           " reserved " + std::to_string(reserved));
    if (s.outstanding != outstanding)
      fail("accounts: outstanding " + std::to_string(s.outstanding) + ", flows say " +
           std::to_string(outstanding));
    if (const char* wrong = vsnoop_audit(v)) fail(std::string("accounts: ") + wrong);
  }

  // All is said and done. What the guest still has to take, it takes; then nothing is left.
  void end() {
    for (const auto& c : connections)
      if (c->state == Connection::finished && c->guest.rcv_nxt != c->total + 2)
        fail("not everything arrived: " + describe(*c));
    release(vsnoop_guest_stop(v, 0, now));
    while (!ring_.empty()) {
      const RingEntry entry = ring_.front();
      ring_.pop_front();
      if (entry.frame) {
        entry.frame->in_ring = false;
        if (vsnoop_consumed(v, &entry.frame->held, now)) free_frame(&entry.frame->held);
      } else {
        vsnoop_progress(v, 0, entry.pushed, now);
      }
    }
    release(vsnoop_tick(v, now));
    vsnoop_feed feed;
    if (vsnoop_next(v, 0, &feed, now)) fail("a frame waits for a stopped guest");
    const vsnoop_guest_stats& s = *vsnoop_stats(v, 0);
    if (!live_.empty()) fail(std::to_string(live_.size()) + " frames were never freed");
    if (s.used || s.held || s.outstanding || s.flows_outstanding)
      fail("accounts are open at the end: used " + std::to_string(s.used) + " held " +
           std::to_string(s.held) + " outstanding " + std::to_string(s.outstanding));
  }

  const Terrain& t;
  Random random;
  u64 seed_;
  std::vector<u8> memory_;
  vsnoop_engine* v = nullptr;
  std::vector<std::unique_ptr<Connection>> connections;
  std::unordered_map<u16, Connection*> by_port_;
  std::priority_queue<Flight> flights_;
  std::deque<RingEntry> ring_;
  std::unordered_map<vsnoop_held*, HostFrame*> live_;
  std::deque<std::string> trace_;
  u64 order_ = 0, watches_ = 0;
  bool running_ = true, failed_ = false;
};

}  // namespace

namespace {

// VSNOOP_WALKS=N in the environment: so many seeds more for every terrain.
void walk(const Terrain& terrain, std::vector<u64> seeds) {
  const char* more = getenv("VSNOOP_WALKS");
  for (int i = 0; more && i < atoi(more); ++i) seeds.push_back(1000 + static_cast<u64>(i));
  for (const u64 seed : seeds) {
    Walk w(terrain, seed);
    w.run();
    INFO("walk \"" << terrain.name << "\", seed " << seed);
    CHECK(w.steps > 1000);
    CHECK(w.stats().early_acks > 0);
  }
}

}  // namespace

TEST_CASE("I3: random walk, hold, fair weather", "[I3]") {
  Terrain t{"hold, fair weather"};
  walk(t, {1, 2, 3});
}

TEST_CASE("I3: random walk, hold, no timestamps, no SACK, no window scale", "[I3]") {
  Terrain t{"hold, bare"};
  t.ts = t.sack = false;
  t.shift = 0;
  walk(t, {4, 5, 6});
}

TEST_CASE("I3: random walk, hold, the guest drops every tenth frame", "[I3]") {
  Terrain t{"hold, the guest drops"};
  t.guest_drops = 0.1;
  t.connections = 24;
  walk(t, {7, 8, 9});
}

TEST_CASE("I3: random walk, hold, stormy network", "[I3]") {
  Terrain t{"hold, stormy network"};
  t.loss = 0.1, t.reorder = 0.3, t.duplicate = 0.1;
  t.connections = 24;
  walk(t, {10, 11, 12});
}

TEST_CASE("I7: random walk, hold, budget for a few frames only", "[I7]") {
  Terrain t{"hold, small budget"};
  t.budget = 24 << 10;
  walk(t, {13, 14, 15});
}

TEST_CASE("I2b: random walk, hold, large windows and many flows share a budget", "[I2b]") {
  Terrain t{"hold, shared budget"};
  t.shift = 7;
  t.flows = 24, t.connections = 60;
  t.receive_buffer = 2000000;
  t.bytes = 200000;
  t.budget = 512 << 10;
  t.flow_budget = 128 << 10;
  t.total_budget = 400 << 10;
  walk(t, {16, 17});
}

TEST_CASE("I7: random walk, hold, few records and a small table", "[I7]") {
  Terrain t{"hold, few records"};
  t.custodies = 3;
  t.table = 6;
  t.flows = 12, t.connections = 60;
  walk(t, {18, 19, 20});
}

TEST_CASE("P4: random walk, hold with early SACK", "[P4]") {
  Terrain t{"early SACK"};
  t.early_sack = true;
  t.loss = 0.08, t.reorder = 0.2;
  t.slice_us = 60000;
  walk(t, {21, 22, 23, 24});
}

TEST_CASE("I3: random walk, hold, the guest takes window back", "[I3]") {
  Terrain t{"hold, shrinking window"};
  t.shrinks = true;
  t.receive_buffer = 40000;
  walk(t, {25, 26, 27});
}

TEST_CASE("I3: random walk, hold, the ring is torn down now and then", "[I3]") {
  Terrain t{"hold, the ring is lost"};
  t.ring_loss = 0.001;
  walk(t, {28, 29, 30});
}

TEST_CASE("P9: random walk, hold, peers abort", "[P9]") {
  Terrain t{"hold, peers abort"};
  t.peer_aborts = true;
  walk(t, {31, 32, 33});
}

TEST_CASE("G6: random walk, hold, guests abort", "[G6]") {
  Terrain t{"hold, guests abort"};
  t.guest_aborts = true;
  walk(t, {34, 35, 36});
}

TEST_CASE("I5: random walk, engage = auto", "[I5]") {
  Terrain t{"auto"};
  t.engage = VSNOOP_ENGAGE_AUTO;
  walk(t, {37, 38});
}

TEST_CASE("I1: random walk, ring policy, nothing is lost behind the ring", "[I1]") {
  Terrain t{"ring"};
  t.policy = VSNOOP_POLICY_RING;
  t.guest_drops = 0;
  t.ring = 64;
  walk(t, {39, 40, 41});
}
