// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The engine: a byte string as frames of peers and guests, reports of a host, and clock steps, in
// any order that a host could come up with. The invariants are assertions.
// Input: configuration (12 bytes), then operations of a byte and its arguments.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>

#include "snoop-core/vsnoop.h"
#include "tests/fuzz/bytes.h"
#include "tests/oracle/segment.h"

namespace {

using namespace vsnoop_oracle;

constexpr u32 connections = 4;
constexpr u16 guests = 2;  // connection n belongs to guest n % 2

struct HostFrame {
  vsnoop_held held;
  Bytes bytes;
  u32 memory, connection, seq, length;
  u16 guest;
  bool retain, in_ring;
};
struct RingEntry {
  HostFrame* frame;
  u32 pushed;
};
struct Line {
  u32 peer_isn, guest_isn, peer_nxt = 1, guest_nxt = 1, guest_ack = 1;
  vsnoop_ref ref = {0xffffffff, 0, 0};
};

class Fuzz {
 public:
  explicit Fuzz(vsnoop_fuzz::Bytes& in) : in_(in) {
    vsnoop_config config;
    vsnoop_defaults(&config);
    config.flows = 1 + in.u8() % 8;
    config.custodies = 1 + in.u8() % 8;
    config.guests = guests;
    config.idle_s = 1 + in.u8();
    config.budget = in.flag() ? 0 : 4096u * in.u8();
    config.seed[0] = 1, config.seed[1] = 2;
    memory_.resize(vsnoop_memory_needed(&config));
    v_ = vsnoop_create(memory_.data(), memory_.size(), &config);
    total_ = config.budget;
    const u8 how = in.u8();
    vsnoop_guest_config guest;
    vsnoop_guest_defaults(&guest);
    guest.policy = how & 1 && how & 2 ? VSNOOP_POLICY_RING : VSNOOP_POLICY_HOLD;
    guest.engage = how & 4 && how & 8 ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
    guest.early_sack = (how >> 4) & 1;
    ts_ = !(how & 32), sack_ = !(how & 64), scale_ = how & 128 ? -1 : 2;
    guest.budget = 1024 + 4096u * in.u8();
    guest.flow_budget = in.flag() ? 0 : 1024u * in.u8();
    guest.liveness_us = 1 + 10000u * in.u8();
    guest.giveup_us = 1 + 100000u * in.u8();
    guest.promise_age_us = 1 + 1000000u * in.u8();
    guest_ = guest;
    for (u16 id = 0; id < guests; ++id) vsnoop_guest_open(v_, id, &guest, now_);
    for (u32 i = 0; i < connections; ++i) {
      lines_[i].peer_isn = 0xfffffff0 - 4000 * i;
      lines_[i].guest_isn = 0xffffff00 - 1000 * i;
      handshake(i);
    }
  }
  ~Fuzz() {
    for (auto& [held, frame] : live_) delete frame;
  }

  void run() {
    for (unsigned steps = 0; !in_.empty() && steps < 2000; ++steps) {
      step();
      check();
    }
    finish();
  }

 private:
  void handshake(u32 i) {
    Line& line = lines_[i];
    Segment syn = segment(i, line.peer_isn, 0, SYN);
    from_peer(syn, 0, false);
    Segment answer = segment(i, line.guest_isn, line.peer_isn + 1, SYN | ACK);
    from_guest(answer, 0);
    from_peer(segment(i, line.peer_isn + 1, line.guest_isn + 1, ACK), 0, false);
    while (!ring_[i % guests].empty()) consume(i % guests);
  }

  Segment segment(u32 i, u32 seq, u32 ack, u8 flags) {
    Segment s;
    s.connection = i;
    s.seq = seq, s.ack = ack, s.flags = flags;
    s.window = 20000;
    if (flags & SYN) {
      s.mss = 1460;
      s.scale = scale_;
      s.sack_permitted = sack_;
    }
    s.has_ts = ts_;
    s.tsval = 1000 + static_cast<u32>(now_ / 1000);
    s.tsecr = s.tsval;
    return s;
  }

  static u8 some_flags(u8 byte) {
    static constexpr u8 table[] = {
        ACK, ACK, ACK,       ACK, ACK | PSH, ACK | PSH,       ACK | FIN, ACK | RST,
        RST, SYN, SYN | ACK, 0,   ACK | 32,  ACK | FIN | PSH, 0xff,      ACK};
    return table[byte % 16];
  }

  void step() {
    const u8 op = in_.u8();
    const u32 i = op >> 6;
    Line& line = lines_[i];
    const u16 id = i % guests;
    switch (op % 16) {
      case 0:
      case 1:
      case 2:
      case 3: {  // the peer goes on
        Segment s = segment(i, line.peer_isn + line.peer_nxt, line.guest_isn + line.guest_nxt, ACK);
        s.length = in_.u16() % 3000;
        if (op & 16) s.seq += static_cast<u32>(static_cast<int8_t>(in_.u8())) * 100;
        from_peer(s, 0, op & 32);
        break;
      }
      case 4: {  // the peer does something odd
        Segment s = segment(i, line.peer_isn + line.peer_nxt + static_cast<int16_t>(in_.u16()),
                            line.guest_isn + line.guest_nxt + static_cast<int8_t>(in_.u8()) * 30,
                            some_flags(in_.u8()));
        s.length = in_.u8() * 8u;
        s.window = in_.u16();
        s.tsval += static_cast<u32>(static_cast<int8_t>(in_.u8())) * 10;
        if (op & 16) s.has_ts = !s.has_ts;
        from_peer(s, in_.u8(), op & 32);
        break;
      }
      case 5:
      case 6: {  // the guest acknowledges
        Segment s = segment(
            i, line.guest_isn + line.guest_nxt,
            line.peer_isn + std::min<u32>(line.guest_ack + in_.u16() % 4000, line.peer_nxt), ACK);
        s.window = in_.u16();
        if (op & 16 && sack_) {
          const u32 left = s.ack + in_.u8() * 50u;
          s.sack.push_back({left, left + 1 + in_.u8() * 20u});
        }
        from_guest(s, 0);
        break;
      }
      case 7: {  // the guest does something odd
        Segment s = segment(i, line.guest_isn + line.guest_nxt + static_cast<int8_t>(in_.u8()) * 20,
                            line.peer_isn + line.guest_ack + static_cast<int16_t>(in_.u16()),
                            some_flags(in_.u8()));
        s.length = in_.u8() * 4u;
        s.window = in_.u16();
        s.tsval += static_cast<u32>(static_cast<int8_t>(in_.u8())) * 10;
        from_guest(s, in_.u8());
        break;
      }
      case 8:
      case 9:
        feed(id, 1 + in_.u8() % 16);
        break;
      case 10:
      case 11:
        for (u32 n = 1 + in_.u8() % 16; n && !ring_[id].empty(); --n) consume(id);
        break;
      case 12:
        now_ += 1ull << (op >> 4);
        now_ += in_.u16() * 100ull;
        tick();
        break;
      case 13:
        now_ += in_.u8() * 500000ull;
        tick();
        break;
      case 14:
        lose_ring(id);
        break;
      default:
        if (op & 16) {
          vsnoop_guest_quiesce(v_, id, op & 32, now_);
        } else if (op & 32) {
          lose_ring(id);
          release(vsnoop_guest_stop(v_, id, now_));
        } else {
          handshake(i);
        }
    }
    emit();
  }

  vsnoop_frame view(const Bytes& bytes, u32 memory) {
    return {bytes.data(), static_cast<u32>(bytes.size()), static_cast<u32>(bytes.size()), memory,
            VSNOOP_CHECKSUM_UNKNOWN};
  }

  void from_peer(const Segment& s, u8 spoil, bool declines) {
    const u16 id = s.connection % guests;
    Line& line = lines_[s.connection];
    Bytes bytes = build(s, true, s.seq - line.peer_isn);
    if (spoil) bytes[bytes.size() - 1 - spoil % 40] ^= spoil;
    const u32 memory = 256 + static_cast<u32>(bytes.size());
    const vsnoop_frame frame = view(bytes, memory);
    const vsnoop_verdict verdict = vsnoop_from_peer(v_, id, &frame, now_);
    if (verdict.flow.slot != 0xffffffff) line.ref = verdict.flow;
    const u32 end = s.seq - line.peer_isn + s.length;
    if (distance(end, line.peer_nxt) > 0 && distance(end, line.peer_nxt) < 100000)
      line.peer_nxt = end;
    release(verdict.released);
    FUZZ_CHECK(verdict.action != VSNOOP_EDIT, "frames of the peer are not edited");
    if (verdict.action == VSNOOP_PUSH) {
      u32 pushed = 0;
      if (declines)
        vsnoop_declined(v_, &verdict, now_);
      else if (vsnoop_taken(v_, &verdict, nullptr, now_))
        pushed = memory;
      if (!declines) ring_[id].push_back({nullptr, pushed});
    } else if (verdict.action == VSNOOP_KEEP) {
      if (declines) {
        if (vsnoop_declined(v_, &verdict, now_) == VSNOOP_PASS) ring_[id].push_back({nullptr, 0});
        return;
      }
      auto* h = new HostFrame{{},       bytes, (memory + 255) / 256 * 256, s.connection, s.seq,
                              s.length, id,    verdict.retain != 0,        false};
      if (vsnoop_taken(v_, &verdict, &h->held, now_)) {
        live_[&h->held] = h;
      } else {
        delete h;
        vsnoop_declined(v_, &verdict, now_);
      }
    } else if (verdict.action == VSNOOP_PASS) {
      ring_[id].push_back({nullptr, 0});
    }
  }

  void from_guest(const Segment& s, u8 spoil) {
    Line& line = lines_[s.connection];
    Bytes bytes = build(s, false, s.seq - line.guest_isn);
    if (spoil) bytes[bytes.size() - 1 - spoil % 40] ^= spoil;
    const vsnoop_frame frame = view(bytes, 0);
    const bool right = checksums_right(bytes);
    const vsnoop_verdict verdict =
        vsnoop_from_guest(v_, static_cast<u16>(s.connection % guests), &frame, now_);
    if (verdict.flow.slot != 0xffffffff) line.ref = verdict.flow;
    if (!spoil) {
      const u32 ack = s.ack - line.peer_isn;
      if (distance(ack, line.guest_ack) > 0 && distance(ack, line.peer_nxt) <= 0)
        line.guest_ack = ack;
      const u32 end = s.seq - line.guest_isn + s.length;
      if (distance(end, line.guest_nxt) > 0) line.guest_nxt = end;
    }
    release(verdict.released);
    if (verdict.action == VSNOOP_EDIT) {
      FUZZ_CHECK(
          vsnoop_apply_edit(bytes.data(), static_cast<u32>(bytes.size()), &verdict.edit, 0) == 0,
          "an edit applies");
      FUZZ_CHECK(!right || checksums_right(bytes), "an edit keeps the checksum right");
    }
    FUZZ_CHECK(verdict.action != VSNOOP_KEEP && verdict.action != VSNOOP_PUSH, "action");
  }

  void feed(u16 id, u32 most) {
    vsnoop_feed feed;
    while (most-- && vsnoop_next(v_, id, &feed, now_)) {
      const auto found = live_.find(feed.held);
      FUZZ_CHECK(found != live_.end(), "next() names a frame in custody");
      HostFrame& h = *found->second;
      if (!feed.discard) {
        FUZZ_CHECK(!h.in_ring, "a frame enters the ring once");
        FUZZ_CHECK(feed.keep <= h.length && feed.skip <= h.length - feed.keep, "the cut fits");
        Bytes copy = h.bytes;
        const bool right = checksums_right(copy);
        FUZZ_CHECK(
            vsnoop_apply_edit(copy.data(), static_cast<u32>(copy.size()), &feed.edit, 0) == 0,
            "an edit applies");
        if (feed.skip || feed.keep != h.length) {
          const u32 n =
              vsnoop_trim(copy.data(), static_cast<u32>(copy.size()), feed.skip, feed.keep, 0);
          FUZZ_CHECK(n, "a cut applies");
          copy.resize(n);
        }
        FUZZ_CHECK(!right || checksums_right(copy), "the private header's checksum");
        h.in_ring = feed.retain && !feed.more;
        ring_[id].push_back({h.in_ring ? &h : nullptr, 0});
      }
      vsnoop_fed(v_, id, &feed, now_);
      if (feed.discard || !feed.retain) free_frame(feed.held);
    }
  }

  void consume(u16 id) {
    const RingEntry entry = ring_[id].front();
    ring_[id].pop_front();
    if (entry.frame) {
      entry.frame->in_ring = false;
      if (vsnoop_consumed(v_, &entry.frame->held, now_)) free_frame(&entry.frame->held);
    } else {
      vsnoop_progress(v_, id, entry.pushed, now_);
    }
  }

  void lose_ring(u16 id) {
    for (; !ring_[id].empty(); ring_[id].pop_back()) {
      const RingEntry entry = ring_[id].back();
      if (entry.frame) {
        entry.frame->in_ring = false;
        vsnoop_returned(v_, &entry.frame->held, now_);
      } else if (entry.pushed) {
        vsnoop_progress(v_, id, entry.pushed, now_);
      }
    }
  }

  void tick() {
    for (int n = 0; vsnoop_deadline(v_) <= now_; ++n) {
      FUZZ_CHECK(n < 1000, "the deadline moves on");
      release(vsnoop_tick(v_, now_));
    }
  }

  void emit() {
    u8 buffer[VSNOOP_EMIT_MAX];
    vsnoop_emission e;
    for (int n = 0; vsnoop_emit(v_, &e, buffer, now_); ++n) {
      FUZZ_CHECK(n < 1000, "emit() comes to an end");
      FUZZ_CHECK(e.length <= VSNOOP_EMIT_MAX, "length");
      const Bytes f(buffer, buffer + e.length);
      FUZZ_CHECK(checksums_right(f), "what is emitted has right checksums");
      const Segment s = parse(f);
      FUZZ_CHECK(s.connection < connections && s.length == 0, "what is emitted parses");
      FUZZ_CHECK(s.has(RST) || (s.flags == ACK && !e.to_guest && s.ack == e.ack), "an ACK");
    }
  }

  void release(vsnoop_held* list) {
    while (list) {
      vsnoop_held* next = list->next;
      free_frame(list);
      list = next;
    }
  }
  void free_frame(vsnoop_held* held) {
    const auto found = live_.find(held);
    FUZZ_CHECK(found != live_.end(), "a frame is freed once");
    FUZZ_CHECK(!found->second->in_ring, "a frame is not freed in the ring");
    delete found->second;
    live_.erase(found);
  }

  void check() {
    u64 all = 0;
    for (u16 id = 0; id < guests; ++id) {
      const vsnoop_guest_stats& s = *vsnoop_stats(v_, id);
      u64 held = 0, reserved = 0, outstanding = 0;
      for (const auto& [key, h] : live_) held += h->guest == id ? h->memory : 0;
      for (const RingEntry& entry : ring_[id]) held += entry.pushed;
      u32 cursor = 0;
      vsnoop_flow_info f;
      while (vsnoop_flow_next(v_, &cursor, &f)) {
        if (f.guest != id) continue;
        reserved += f.reserved, outstanding += f.early_ack - f.guest_ack;
        if (f.state == VSNOOP_FLOW_STOPPED) continue;
        FUZZ_CHECK(distance(f.early_ack, f.rcv_nxt) <= 0, "I1");
        FUZZ_CHECK(distance(f.early_ack, f.right_edge) <= 0, "I2");
        FUZZ_CHECK(distance(f.early_ack, f.shown_edge) <= 0, "I2");
        FUZZ_CHECK(distance(f.shown_edge, f.right_edge) <= 0, "I2b");
        FUZZ_CHECK(distance(f.guest_ack, f.early_ack) <= 0, "guest_ack <= early_ack");
        if (guest_.policy == VSNOOP_POLICY_HOLD && f.early_ack != f.guest_ack) promised(f);
      }
      FUZZ_CHECK(s.outstanding == outstanding, "accounts: outstanding");
      FUZZ_CHECK(s.used == s.held + reserved, "accounts: used");
      FUZZ_CHECK(s.held <= guest_.budget, "I7: the guest's budget");
      FUZZ_CHECK(reserved <= guest_.budget, "I2b: the guest's budget");
      FUZZ_CHECK(guest_.policy == VSNOOP_POLICY_RING || s.held == held, "accounts: held");
      all += s.held;
    }
    FUZZ_CHECK(!total_ || all <= total_, "I7: the budget over all guests");
    FUZZ_CHECK(!vsnoop_audit(v_), "accounts: the audit");
  }

  // I3: every promised byte is in custody.
  void promised(const vsnoop_flow_info& f) {
    const u32 connection = f.peer_port - 20000u;
    u32 at = f.guest_ack;
    for (bool moved = true; moved && distance(at, f.early_ack) < 0;) {
      moved = false;
      for (const auto& [key, h] : live_)
        if (h->connection == connection && h->retain && distance(h->seq, at) <= 0 &&
            distance(h->seq + h->length, at) > 0)
          at = h->seq + h->length, moved = true;
    }
    FUZZ_CHECK(distance(at, f.early_ack) >= 0, "I3: every promised byte is in custody");
  }

  void finish() {
    for (u16 id = 0; id < guests; ++id) {
      release(vsnoop_guest_stop(v_, id, now_));
      while (!ring_[id].empty()) consume(id);
      feed(id, 0xffffffff);
      while (!ring_[id].empty()) consume(id);
      const vsnoop_guest_stats& s = *vsnoop_stats(v_, id);
      FUZZ_CHECK(!s.used && !s.held && !s.outstanding && !s.flows_outstanding,
                 "accounts are closed when the guest has stopped");
    }
    emit();
    FUZZ_CHECK(live_.empty(), "every frame is freed");
  }

  vsnoop_fuzz::Bytes& in_;
  std::vector<u8> memory_;
  vsnoop_engine* v_;
  vsnoop_guest_config guest_;
  u64 total_ = 0, now_ = 1000000;
  bool ts_, sack_;
  int scale_;
  Line lines_[connections];
  std::deque<RingEntry> ring_[guests];
  std::map<vsnoop_held*, HostFrame*> live_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vsnoop_fuzz::Bytes in(data, size);
  Fuzz fuzz(in);
  fuzz.run();
  return 0;
}
