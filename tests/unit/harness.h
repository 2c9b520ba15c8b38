// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A small language for tests of snoop-core: one engine behind the C face, a clock, a guest's ring,
// and connections whose packets are written and printed as packetdrill does, with numbers relative
// to the initial sequence numbers (both lie just below 2^32, so wrapping is the normal case).
//
//   Established c;                                     // handshake done, peer opened
//   CHECK_THAT(c.peer(data(1, 1000)), Kept(VSNOOP_REASON_in_order));
//   CHECK_THAT(c.emitted(), OneAck(1001));             // what the peer was sent by vsnoop
//   CHECK_THAT(c.guest(ack(1001)), Dropped(VSNOOP_REASON_guest_covered));
//
// What a test leaves open in a Packet (SEQ, ACK, window, timestamps) is filled in as a well-behaved
// end would. After every call the harness drives the host's duties (automatic mode: frames enter
// the ring and are consumed at once, owed frames are emitted) and asserts what must hold always:
//   I1 I2 I4 I7, I3's custody (hold), the accounts, FIFO into the ring, right checksums and
//   contents of every frame, none freed twice, in the ring, or never, none re-delivered in a storm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "snoop-core/vsnoop.h"
#include "tests/unit/catch.h"

namespace vsnoop_test {

enum Flag : uint8_t { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

/// Signed distance from b to a, modulo 2^32.
inline int32_t distance(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b); }

/// A TCP segment of one end, relative to that end's initial sequence number. Setters chain; what is
/// not set is filled in by Connection.
class Packet {
 public:
  using Blocks = std::vector<std::pair<uint32_t, uint32_t>>;

  Packet& seq(uint32_t n) { return seq_ = n, *this; }
  Packet& ack(uint32_t n) { return ack_ = n, *this; }
  Packet& window(uint32_t raw) { return window_ = static_cast<uint16_t>(raw), *this; }
  Packet& length(uint32_t bytes) { return length_ = bytes, *this; }
  Packet& set(uint8_t flags) { return flags_ |= flags, *this; }
  Packet& clear(uint8_t flags) { return flags_ &= static_cast<uint8_t>(~flags), *this; }
  /// TSval and TSecr, relative to the senders' bases (clock of the connection in ms).
  Packet& ts(uint32_t val, uint32_t ecr) { return ts_ = {val, ecr}, no_ts_ = false, *this; }
  Packet& no_ts() { return ts_.reset(), no_ts_ = true, *this; }
  Packet& mss(uint16_t bytes) { return mss_ = bytes, *this; }
  Packet& wscale(int shift) { return wscale_ = shift, *this; }  // < 0: none
  Packet& sackok(bool on = true) { return sackok_ = on, *this; }
  Packet& sack(Blocks blocks) { return sack_ = std::move(blocks), *this; }
  /// Raw option bytes before the others (padded with NOP to a multiple of four).
  Packet& option(std::vector<uint8_t> bytes) { return raw_ = std::move(bytes), *this; }
  Packet& reserved(uint8_t bits) {
    return reserved_ = bits, *this;
  }  // low nibble of byte 12 (AE = 1)
  Packet& ttl(uint8_t hops) { return ttl_ = hops, *this; }
  Packet& tos(uint8_t byte) { return tos_ = byte, *this; }
  Packet& vlan(std::vector<uint16_t> tags) { return vlan_ = std::move(tags), *this; }
  Packet& fragment(uint16_t field) { return fragment_ = field, *this; }  // IPv4 flags and offset
  /// Checksum state told to the engine (default VERIFIED; bad() also spoils it on the wire).
  Packet& checksum(vsnoop_checksum state) { return checksum_ = state, *this; }
  Packet& bad() { return spoiled_ = true, checksum_ = VSNOOP_CHECKSUM_UNKNOWN, *this; }
  /// Memory that keeping it costs; default 768 + frame length.
  Packet& memory(uint32_t bytes) { return memory_ = bytes, *this; }
  /// Only so many bytes of payload are readable for the engine (a GSO frame's first part).
  Packet& readable(uint32_t payload) { return readable_ = payload, *this; }

  uint32_t seq() const { return seq_.value_or(0); }
  uint32_t ack() const { return ack_.value_or(0); }
  uint16_t window() const { return window_.value_or(0); }
  uint32_t length() const { return length_; }
  uint8_t flags() const { return flags_; }
  bool has(uint8_t flags) const { return (flags_ & flags) == flags; }
  bool has_ts() const { return ts_.has_value(); }
  uint32_t tsval() const { return ts_ ? ts_->first : 0; }
  uint32_t tsecr() const { return ts_ ? ts_->second : 0; }
  const Blocks& sack() const { return sack_; }
  uint8_t ttl() const { return ttl_; }
  uint8_t tos() const { return tos_; }
  const std::vector<uint16_t>& vlan() const { return vlan_; }
  /// After the payload; FIN and SYN not counted.
  uint32_t end() const { return seq() + length_; }

  /// `P. 1:1001(1000) ack 1 win 256 <sack 5:9,TS val 1 ecr 2>`
  std::string text() const;

 private:
  friend class Connection;
  friend class World;
  friend struct Codec;
  std::optional<uint32_t> seq_, ack_;
  std::optional<uint16_t> window_;
  std::optional<std::pair<uint32_t, uint32_t>> ts_;
  std::optional<uint16_t> mss_;
  std::optional<uint32_t> memory_, readable_;
  uint32_t length_ = 0;
  int wscale_ = -1;
  Blocks sack_;
  std::vector<uint8_t> raw_;
  std::vector<uint16_t> vlan_;
  uint16_t fragment_ = 0x4000;
  uint8_t flags_ = ACK;
  uint8_t reserved_ = 0;
  uint8_t ttl_ = 64;
  uint8_t tos_ = 0;
  vsnoop_checksum checksum_ = VSNOOP_CHECKSUM_VERIFIED;
  bool no_ts_ = false;
  bool sackok_ = false;
  bool spoiled_ = false;
};

// Verbs for either end: c.peer(data(1, 1000)), c.guest(ack(1001)).
inline Packet data(uint32_t seq, uint32_t length) { return Packet().seq(seq).length(length); }
inline Packet ack(uint32_t number) { return Packet().ack(number); }
inline Packet fin(uint32_t seq, uint32_t length = 0) { return data(seq, length).set(FIN); }
inline Packet rst(uint32_t seq) { return Packet().seq(seq).set(RST).clear(ACK); }
/// SYN with the options of the connection; Connection fills them in.
inline Packet syn(uint32_t seq = 0) { return Packet().seq(seq).set(SYN).clear(ACK); }
inline Packet syn_ack(uint32_t ack = 1, uint32_t seq = 0) {
  return Packet().seq(seq).ack(ack).set(SYN);
}

/// What a call came to: the verdict, what the host did, and what the other side got.
struct Outcome {
  vsnoop_verdict verdict = {};
  Packet sent;                 // with everything filled in
  bool taken = false;          // vsnoop_taken() was called and said 1
  bool passed = false;         // it went on (PASS, EDIT, or PASS out of declined())
  std::optional<Packet> seen;  // guest(): as the peer gets it
  std::vector<uint8_t> bytes;  // guest(): the frame as the peer gets it; peer(): as it came
  uint8_t action() const { return verdict.action; }
  uint8_t reason() const { return verdict.reason; }
  std::string text() const;
};

/// Engine and guests. Tests change it before making a Connection.
struct Setup {
  vsnoop_config engine;
  vsnoop_guest_config guest;  // for every guest
  uint64_t start_us = 1000000;
  Setup();  // defaults of the face, 64 flows, 16 records
};

/// How a connection shakes hands.
struct Options {
  bool guest_opens = false;
  bool ipv6 = false;
  bool ts = true;       // offered by both
  bool sack = true;     // offered by both
  int peer_wscale = 7;  // < 0: not offered
  int guest_wscale = 7;
  uint16_t mss = 1460;
  uint16_t syn_window = 64240;  // of both, in the SYN
  uint16_t peer_window = 502;   // raw, afterwards
  uint16_t guest_window = 502;
  uint16_t guest = 0;  // id
  uint16_t peer_port = 40000;
  std::vector<uint16_t> vlan = {};
  uint32_t peer_isn = 0xfffffd00;
  uint32_t guest_isn = 0xffffff80;
};

class Connection;
struct HostFrame;

/// What stands in a guest's ring: its own copy of the bytes, and the retained frame behind it.
struct RingEntry {
  std::vector<uint8_t> bytes;
  HostFrame* frame;  // 0: not retained
  uint32_t pushed;   // memory of a PUSHed frame (ring policy)
  bool again;
};

/// An engine, its clock, its guests' rings, and all frames the host owns.
class World {
 public:
  explicit World(const Setup& setup = Setup());
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  vsnoop_engine* engine() { return engine_; }
  uint64_t now() const { return now_; }
  /// Moves the clock on; tick() runs at every deadline in between.
  void advance(uint64_t ms) { advance_us(ms * 1000); }
  void advance_us(uint64_t us);
  void tick();

  /// true: frames enter the ring and are consumed at once, owed frames are emitted at once.
  bool automatic = true;
  /// Manual ring, but owed frames are emitted at once (unless false).
  bool emits = true;
  size_t ring_slots = SIZE_MAX;  // frames that fit into a ring
  std::deque<RingEntry>& ring(uint16_t guest = 0) { return rings_[guest]; }
  /// Puts at most `most` frames into the ring; returns how many.
  size_t feed(uint16_t guest = 0, size_t most = SIZE_MAX);
  /// The guest takes at most `most` frames out of the ring; returns how many.
  size_t consume(uint16_t guest = 0, size_t most = SIZE_MAX);
  /// The ring is gone: what stands in it did not reach the guest.
  void lose_ring(uint16_t guest = 0);
  void emit();
  void quiesce(bool on = true, uint16_t guest = 0);
  void stop(uint16_t guest = 0);

  const vsnoop_guest_stats& stats(uint16_t guest = 0) const;
  /// How often a reason was counted.
  uint64_t count(uint8_t reason, uint16_t guest = 0) const { return stats(guest).reasons[reason]; }
  uint32_t flows() const { return vsnoop_flows(engine_); }
  /// Frames in the engine's hands.
  size_t custody() const;
  const std::vector<std::string>& trace() const { return trace_; }
  /// For tests that fill the budget on purpose with frames the engine may not refuse (RST): off.
  bool check_budget = true;

 private:
  friend class Connection;
  HostFrame* frame_of(vsnoop_held* held);
  void free_frame(vsnoop_held* held, const char* by);
  void free_list(vsnoop_held* list, const char* by);
  void settle();  // duties of the host, then the invariants
  void check();
  void note(const std::string& line);
  void fail(const std::string& what);
  Connection* connection_of(const std::vector<uint8_t>& frame, bool& from_guest);
  void deliver(const std::vector<uint8_t>& bytes, bool again, uint16_t guest);

  Setup setup_;
  std::vector<uint8_t> memory_;
  vsnoop_engine* engine_ = nullptr;
  uint64_t now_;
  std::vector<std::deque<RingEntry>> rings_;
  std::vector<std::unique_ptr<HostFrame>> frames_;
  std::vector<HostFrame*> live_;
  std::vector<Connection*> connections_;
  std::vector<std::string> trace_;
  uint64_t arrivals_ = 0;
};

/// One connection between a peer and a guest.
class Connection {
 public:
  explicit Connection(const Options& options = Options()) : Connection(Setup(), options) {}
  explicit Connection(const Setup& setup, const Options& options = Options());
  explicit Connection(World& world, const Options& options = Options());
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  World& world() { return *world_; }
  const Options& options() const { return options_; }
  /// SYN, SYN-ACK, ACK as the options say.
  void handshake();

  /// A packet from the peer; the host carries the verdict out, or declines.
  Outcome peer(const Packet& packet, bool host_takes = true);
  /// A packet from the guest; edits are applied, `seen` is what the peer gets.
  Outcome guest(const Packet& packet);
  /// The guest acknowledges all that was delivered to it in order.
  Outcome guest_acks();

  /// Verdict only: the packet is built and shown to the engine, and nothing is carried out. For
  /// races between verdict and taken()/declined(), which the test calls through finish().
  Outcome ask(const Packet& packet);
  void finish(Outcome& outcome, bool host_takes = true);

  /// Frames of vsnoop towards the peer (towards the guest: resets()) since the last call.
  std::vector<Packet> emitted() { return std::exchange(emitted_, {}); }
  std::vector<Packet> resets_to_guest() { return std::exchange(resets_, {}); }
  /// Last frame emitted, as bytes.
  const std::vector<uint8_t>& emitted_bytes() const { return emitted_bytes_; }
  /// Reason of the last emission.
  uint8_t emitted_reason() const { return emitted_reason_; }
  /// What the guest took out of its ring since the last call, and the same as bytes.
  std::vector<Packet> delivered() {
    return delivered_bytes_.clear(), std::exchange(delivered_, {});
  }
  const std::vector<std::vector<uint8_t>>& delivered_bytes() const { return delivered_bytes_; }

  bool tracked() const;
  /// The flow with relative numbers. Fails the test if it is not tracked.
  vsnoop_flow_info flow() const;
  /// End of what the guest has got in order.
  uint32_t guest_rcv_nxt() const { return guest_rcv_nxt_; }
  uint32_t guest_snd_nxt() const { return guest_snd_nxt_; }

  void advance(uint64_t ms) { world_->advance(ms); }
  size_t feed(size_t most = SIZE_MAX) { return world_->feed(options_.guest, most); }
  size_t consume(size_t most = SIZE_MAX) { return world_->consume(options_.guest, most); }
  const vsnoop_guest_stats& stats() const { return world_->stats(options_.guest); }
  uint64_t count(uint8_t reason) const { return world_->count(reason, options_.guest); }

  /// From here on relative numbers count from these (a new incarnation of the tuple).
  void rebase(uint32_t peer_seq, uint32_t guest_seq);
  /// The timestamp the ends' clocks show now (relative, ms since the connection began).
  uint32_t ts_now() const;

  /// The bytes that peer()/guest() would show to the engine.
  std::vector<uint8_t> bytes_from_peer(const Packet& packet) {
    return build(fill_peer(packet), true);
  }
  std::vector<uint8_t> bytes_from_guest(const Packet& packet) {
    return build(fill_guest(packet), false);
  }

 private:
  friend class World;
  friend struct Codec;
  struct Shown {
    bool any = false;
    uint32_t ack = 0, edge = 0;
    void raise(uint32_t a, uint32_t e);
  };
  Packet fill_peer(Packet packet) const;
  Packet fill_guest(Packet packet) const;
  void fill_syn(Packet& packet, bool peer) const;
  std::vector<uint8_t> build(const Packet& packet, bool from_peer) const;
  vsnoop_frame view(const Packet& packet, const std::vector<uint8_t>& bytes,
                    std::vector<uint8_t>& exact) const;
  int guest_shift() const;
  void peer_sees(const Packet& packet, char how);
  void check(const vsnoop_flow_info& raw);
  bool find(vsnoop_flow_info& raw) const;

  std::unique_ptr<World> own_;
  World* world_;
  Options options_;
  uint32_t peer_isn_, guest_isn_;
  uint64_t began_us_;
  uint32_t peer_snd_nxt_ = 0, guest_snd_nxt_ = 0, guest_acked_ = 1;
  uint32_t guest_rcv_nxt_ = 1;
  std::vector<std::pair<uint32_t, uint32_t>> guest_got_;  // above guest_rcv_nxt_
  std::optional<uint32_t> peer_echo_, guest_echo_;  // TSecr of the peer, of the guest (relative)
  Shown by_any_, by_vsnoop_, by_guest_;
  std::optional<uint32_t> guest_edge_;  // of the guest's newest segment
  std::vector<Packet> emitted_, resets_, delivered_;
  std::vector<std::vector<uint8_t>> delivered_bytes_;
  std::vector<uint8_t> emitted_bytes_;
  uint8_t emitted_reason_ = 0;
};

/// A connection whose handshake is done.
class Established : public Connection {
 public:
  explicit Established(const Options& options = Options()) : Connection(options) { handshake(); }
  explicit Established(const Setup& setup, const Options& options = Options())
      : Connection(setup, options) {
    handshake();
  }
  explicit Established(World& world, const Options& options = Options())
      : Connection(world, options) {
    handshake();
  }
};

/// Whether IPv4 and TCP checksums of a whole frame are right (IPv6: TCP only). Written apart from
/// the core. `partial`: the TCP field holds the folded pseudo-header sum instead.
bool checksums_right(const std::vector<uint8_t>& frame, bool partial = false);
/// Payload byte of an end at relative sequence number `n`.
uint8_t content(bool from_peer, uint32_t n);

// --- matchers ------------------------------------------------------------------------------------

/// Verdict of a given action and reason.
class VerdictIs : public MatcherBase<Outcome> {
 public:
  VerdictIs(int action, int reason) : action_(action), reason_(reason) {}
  bool match(const Outcome& o) const override {
    return o.verdict.action == action_ && (reason_ < 0 || o.verdict.reason == reason_);
  }
  std::string describe() const override;

 private:
  int action_, reason_;
};
inline VerdictIs Passed(int reason = -1) { return {VSNOOP_PASS, reason}; }
inline VerdictIs Kept(int reason = -1) { return {VSNOOP_KEEP, reason}; }
inline VerdictIs Pushed(int reason = -1) { return {VSNOOP_PUSH, reason}; }
inline VerdictIs Edited(int reason = -1) { return {VSNOOP_EDIT, reason}; }
inline VerdictIs Dropped(int reason = -1) { return {VSNOOP_DROP, reason}; }

/// A list of packets that fits a description, e.g. CHECK_THAT(c.emitted(), OneAck(1001)).
class PacketsAre : public MatcherBase<std::vector<Packet>> {
 public:
  PacketsAre(std::string text, std::function<bool(const std::vector<Packet>&)> test)
      : text_(std::move(text)), test_(std::move(test)) {}
  bool match(const std::vector<Packet>& packets) const override { return test_(packets); }
  std::string describe() const override { return text_; }

 private:
  std::string text_;
  std::function<bool(const std::vector<Packet>&)> test_;
};
inline PacketsAre Nothing() {
  return {"is nothing", [](const auto& p) { return p.empty(); }};
}
/// Exactly one pure ACK of this number without SACK blocks.
inline PacketsAre OneAck(uint32_t number) {
  return {"is one plain ACK of " + std::to_string(number), [=](const auto& p) {
            return p.size() == 1 && p[0].flags() == ACK && p[0].length() == 0 &&
                   p[0].ack() == number && p[0].sack().empty();
          }};
}
/// Exactly one pure ACK of this number with these SACK blocks.
inline PacketsAre OneAckWithSack(uint32_t number, Packet::Blocks blocks) {
  return {"is one ACK of " + std::to_string(number) + " with SACK blocks", [=](const auto& p) {
            return p.size() == 1 && p[0].flags() == ACK && p[0].length() == 0 &&
                   p[0].ack() == number && p[0].sack() == blocks;
          }};
}
/// Exactly one segment [seq, seq + length), whatever its flags.
inline PacketsAre OneSegment(uint32_t seq, uint32_t length) {
  return {
      "is one segment " + std::to_string(seq) + "(" + std::to_string(length) + ")",
      [=](const auto& p) { return p.size() == 1 && p[0].seq() == seq && p[0].length() == length; }};
}
/// Exactly one RST with this SEQ.
inline PacketsAre OneReset(uint32_t seq) {
  return {"is one RST at " + std::to_string(seq), [=](const auto& p) {
            return p.size() == 1 && p[0].has(RST) && p[0].seq() == seq && p[0].length() == 0;
          }};
}
/// One RST with this SEQ and its repetitions, nothing else: the peer has acknowledged all that the
/// guest sent.
inline PacketsAre Resets(uint32_t seq) {
  return {"is RSTs at " + std::to_string(seq), [=](const auto& packets) {
            for (const Packet& p : packets)
              if (!p.has(RST) || p.seq() != seq || p.length()) return false;
            return !packets.empty();
          }};
}
inline PacketsAre Count(size_t n) {
  return {"has " + std::to_string(n) + " packets", [=](const auto& p) { return p.size() == n; }};
}

}  // namespace vsnoop_test

namespace Catch {
template <>
struct StringMaker<vsnoop_test::Packet> {
  static std::string convert(const vsnoop_test::Packet& packet) { return packet.text(); }
};
template <>
struct StringMaker<vsnoop_test::Outcome> {
  static std::string convert(const vsnoop_test::Outcome& outcome) { return outcome.text(); }
};
}  // namespace Catch
