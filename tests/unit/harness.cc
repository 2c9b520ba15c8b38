// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/unit/harness.h"

#include <algorithm>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace vsnoop_test {

/// A frame the host owns. `held` is first: the engine's pointer is the frame's.
struct HostFrame {
  vsnoop_held held;
  Connection* connection;
  Packet packet;
  std::vector<uint8_t> bytes;
  vsnoop_verdict verdict;
  uint64_t arrival;
  bool live;
  bool in_ring;
  bool fed_once;
  // Its last re-delivery: when, what the guest had acknowledged, and how often so.
  uint64_t again_at = UINT64_MAX;
  uint32_t again_ack = 0, agains = 0;
};

namespace {

// Times that a frame is delivered again without time or progress between.
constexpr uint32_t most_again = 2;

constexpr uint8_t guest_mac[6] = {0x02, 0, 0, 0, 0, 0x01};
constexpr uint8_t peer_mac[6] = {0x02, 0, 0, 0, 0, 0x02};
constexpr uint16_t guest_port = 80;
constexpr uint32_t ts_base_peer = 0xfffffff0, ts_base_guest = 0x7ffffff0;
constexpr uint8_t dead = 0xdd;

uint16_t get16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t get32(const uint8_t* p) { return static_cast<uint32_t>(get16(p)) << 16 | get16(p + 2); }
void put16(std::vector<uint8_t>& b, uint32_t v) {
  b.push_back(static_cast<uint8_t>(v >> 8));
  b.push_back(static_cast<uint8_t>(v));
}
void put32(std::vector<uint8_t>& b, uint32_t v) {
  put16(b, v >> 16);
  put16(b, v & 0xffff);
}
uint32_t sum16(const uint8_t* p, size_t length, uint32_t sum = 0) {
  for (size_t i = 0; i < length; ++i) {
    sum += i % 2 ? p[i] : p[i] << 8;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return sum;
}

std::vector<uint8_t> address(bool ipv6, bool peer, uint16_t guest) {
  if (!ipv6) return {10, 0, static_cast<uint8_t>(peer), static_cast<uint8_t>(guest + 1)};
  std::vector<uint8_t> a(16, 0);
  a[0] = 0xfd;
  a[7] = peer;
  a[15] = static_cast<uint8_t>(guest + 1);
  return a;
}

// Offsets of a frame's layers; ip == 0 if it is no frame of ours.
struct Layers {
  size_t ip = 0, tcp = 0, data = 0, end = 0;
  bool v6 = false;
};
Layers layers_of(const std::vector<uint8_t>& f) {
  Layers l;
  if (f.size() < 14) return l;
  size_t at = 12;
  while (at + 4 <= f.size() && (get16(&f[at]) == 0x8100 || get16(&f[at]) == 0x88a8)) at += 4;
  const uint16_t type = get16(&f[at]);
  at += 2;
  if (type == 0x0800) {
    if (f.size() < at + 20) return l;
    l.tcp = at + (f[at] & 15) * 4u;
    l.end = get16(&f[at + 2]) ? at + get16(&f[at + 2]) : f.size();
  } else if (type == 0x86dd) {
    if (f.size() < at + 40) return l;
    l.v6 = true;
    l.end = get16(&f[at + 4]) ? at + 40 + get16(&f[at + 4]) : f.size();
    uint8_t next = f[at + 6];
    l.tcp = at + 40;
    while (next != 6 && l.tcp + 8 <= f.size()) {
      next = f[l.tcp];
      l.tcp += 8 + f[l.tcp + 1] * 8u;
    }
  } else {
    return l;
  }
  if (f.size() < l.tcp + 20 || l.end > f.size()) return Layers();
  l.data = l.tcp + (f[l.tcp + 12] >> 4) * 4u;
  if (l.data > l.end) return Layers();
  l.ip = at;
  return l;
}

std::vector<uint16_t> tags_of(const std::vector<uint8_t>& f) {
  std::vector<uint16_t> tags;
  for (size_t at = 12; at + 4 <= f.size() && (get16(&f[at]) == 0x8100 || get16(&f[at]) == 0x88a8);
       at += 4)
    tags.push_back(get16(&f[at + 2]));
  return tags;
}

// Of the tags that name a VLAN, without priority.
std::vector<uint16_t> numbers(const std::vector<uint16_t>& tags) {
  std::vector<uint16_t> vlans;
  for (const uint16_t tag : tags)
    if (tag & 0xfff) vlans.push_back(tag & 0xfff);
  return vlans;
}

uint32_t pseudo_sum(const std::vector<uint8_t>& f, const Layers& l) {
  const uint32_t length = static_cast<uint32_t>(l.end - l.tcp);
  const uint32_t sum = l.v6 ? sum16(&f[l.ip + 8], 32) : sum16(&f[l.ip + 12], 8);
  const uint8_t rest[8] = {static_cast<uint8_t>(length >> 24),
                           static_cast<uint8_t>(length >> 16),
                           static_cast<uint8_t>(length >> 8),
                           static_cast<uint8_t>(length),
                           0,
                           0,
                           0,
                           6};
  return sum16(rest, 8, sum);
}

}  // namespace

uint8_t content(bool from_peer, uint32_t n) {
  return static_cast<uint8_t>(n * 131 + (n >> 8) * 17 + (from_peer ? 77 : 0));
}

bool checksums_right(const std::vector<uint8_t>& f, bool partial) {
  const Layers l = layers_of(f);
  if (!l.ip) return false;
  if (!l.v6 && sum16(&f[l.ip], l.tcp - l.ip) != 0xffff) return false;
  const uint32_t pseudo = pseudo_sum(f, l);
  if (partial) return get16(&f[l.tcp + 16]) == pseudo;
  return sum16(&f[l.tcp], l.end - l.tcp, pseudo) == 0xffff;
}

/// Bytes to packets and back, relative to a connection.
struct Codec {
  static Packet parse(const Connection& c, const std::vector<uint8_t>& f, bool from_peer) {
    const Layers l = layers_of(f);
    REQUIRE(l.ip);
    Packet p;
    const uint32_t own = from_peer ? c.peer_isn_ : c.guest_isn_;
    const uint32_t other = from_peer ? c.guest_isn_ : c.peer_isn_;
    const uint8_t* tcp = &f[l.tcp];
    p.flags_ = tcp[13];
    p.seq_ = get32(tcp + 4) - own;
    p.ack_ = p.has(ACK) ? get32(tcp + 8) - other : get32(tcp + 8);
    p.window_ = get16(tcp + 14);
    p.length_ = static_cast<uint32_t>(l.end - l.data);
    p.ttl_ = l.v6 ? f[l.ip + 7] : f[l.ip + 8];
    p.tos_ = l.v6 ? static_cast<uint8_t>(get16(&f[l.ip]) >> 4) : f[l.ip + 1];
    for (size_t at = 12; at + 2 < l.ip; at += 4) p.vlan_.push_back(get16(&f[at + 2]));
    for (size_t at = l.tcp + 20; at < l.data;) {
      const uint8_t kind = f[at];
      if (kind == 0) break;
      if (kind == 1) {
        ++at;
        continue;
      }
      const uint8_t length = at + 1 < l.data ? f[at + 1] : 0;
      if (length < 2 || at + length > l.data) break;
      if (kind == 2) p.mss_ = get16(&f[at + 2]);
      if (kind == 3) p.wscale_ = f[at + 2];
      if (kind == 4) p.sackok_ = true;
      if (kind == 5)
        for (size_t b = at + 2; b + 8 <= at + length; b += 8)
          p.sack_.push_back({get32(&f[b]) - other, get32(&f[b + 4]) - other});
      if (kind == 8)
        p.ts_ = {
            get32(&f[at + 2]) - (from_peer ? ts_base_peer : ts_base_guest),
            get32(&f[at + 6]) ? get32(&f[at + 6]) - (from_peer ? ts_base_guest : ts_base_peer) : 0};
      at += length;
    }
    return p;
  }

  static std::vector<uint8_t> options(const Connection& c, const Packet& p, bool from_peer) {
    const uint32_t other = from_peer ? c.guest_isn_ : c.peer_isn_;
    std::vector<uint8_t> o = p.raw_;
    while (o.size() % 4) o.push_back(1);
    if (p.mss_) {
      o.insert(o.end(), {2, 4});
      put16(o, *p.mss_);
    }
    if (p.wscale_ >= 0) o.insert(o.end(), {1, 3, 3, static_cast<uint8_t>(p.wscale_)});
    if (p.sackok_) o.insert(o.end(), {1, 1, 4, 2});
    if (p.ts_) {
      o.insert(o.end(), {1, 1, 8, 10});
      put32(o, p.ts_->first + (from_peer ? ts_base_peer : ts_base_guest));
      put32(o, p.has(ACK) ? p.ts_->second + (from_peer ? ts_base_guest : ts_base_peer) : 0);
    }
    if (!p.sack_.empty()) {
      o.insert(o.end(), {1, 1, 5, static_cast<uint8_t>(2 + 8 * p.sack_.size())});
      for (const auto& [left, right] : p.sack_) {
        put32(o, left + other);
        put32(o, right + other);
      }
    }
    return o;
  }
};

std::string Packet::text() const {
  const auto number = [](uint32_t n) { return std::to_string(static_cast<int32_t>(n)); };
  std::string t;
  const std::pair<uint8_t, char> letters[] = {{FIN, 'F'}, {SYN, 'S'}, {RST, 'R'}, {PSH, 'P'},
                                              {ACK, '.'}, {URG, 'U'}, {ECE, 'E'}, {CWR, 'W'}};
  for (const auto& [flag, letter] : letters)
    if (flags_ & flag) t += letter;
  if (t.empty()) t = "-";
  t += " " + (seq_ ? number(*seq_) + ":" + number(end()) : std::string("?")) + "(" +
       std::to_string(length_) + ")";
  if (flags_ & ACK) t += " ack " + (ack_ ? number(*ack_) : std::string("?"));
  if (window_) t += " win " + std::to_string(*window_);
  std::string o;
  const auto add = [&](const std::string& s) { o += (o.empty() ? "" : ",") + s; };
  if (!raw_.empty()) add("raw " + std::to_string(raw_[0]));
  if (mss_) add("mss " + std::to_string(*mss_));
  if (wscale_ >= 0) add("wscale " + std::to_string(wscale_));
  if (sackok_) add("sackOK");
  for (const auto& [left, right] : sack_) add("sack " + number(left) + ":" + number(right));
  if (ts_) add("TS val " + number(ts_->first) + " ecr " + number(ts_->second));
  if (!o.empty()) t += " <" + o + ">";
  return t;
}

namespace {

const char* action_name(int action) {
  const char* const names[] = {"PASS", "PUSH", "KEEP", "EDIT", "DROP"};
  return action < 5 ? names[action] : "?";
}

}  // namespace

std::string Outcome::text() const {
  std::string t = sent.text() + " -> " + action_name(verdict.action) + " (" +
                  vsnoop_reason_name(verdict.reason) + ")";
  if (seen) t += " seen as " + seen->text();
  return t;
}

std::string VerdictIs::describe() const {
  return std::string("is ") + action_name(action_) +
         (reason_ < 0
              ? ""
              : std::string(" (") + vsnoop_reason_name(static_cast<uint8_t>(reason_)) + ")");
}

Setup::Setup() {
  vsnoop_defaults(&engine);
  engine.flows = 64;
  engine.custodies = 16;
  engine.guests = 2;
  engine.seed[0] = 0x0123456789abcdef;
  engine.seed[1] = 0xfedcba9876543210;
  vsnoop_guest_defaults(&guest);
}

// --- World ---------------------------------------------------------------------------------------

World::World(const Setup& setup)
    : setup_(setup),
      memory_(vsnoop_memory_needed(&setup.engine)),
      now_(setup.start_us),
      rings_(setup.engine.guests) {
  engine_ = vsnoop_create(memory_.data(), memory_.size(), &setup_.engine);
  REQUIRE(engine_);
  for (uint32_t id = 0; id < setup_.engine.guests; ++id)
    REQUIRE(vsnoop_guest_open(engine_, static_cast<uint16_t>(id), &setup_.guest, now_) == 0);
}

// Everything ends: then no frame may be left in the engine's hands, and no account open.
World::~World() {
  if (std::uncaught_exceptions()) return;
  note("-- end of the test: all guests stop, rings drain");
  for (uint16_t id = 0; id < rings_.size(); ++id) {
    free_list(vsnoop_guest_stop(engine_, id, now_), "guest_stop");
    consume(id);
    vsnoop_feed feed;
    if (vsnoop_next(engine_, id, &feed, now_))
      fail("a frame waits for the ring of a stopped guest");
    const vsnoop_guest_stats& s = stats(id);
    if (s.used || s.held || s.outstanding || s.flows_outstanding)
      fail("accounts are open after the guest stopped: used " + std::to_string(s.used) + " held " +
           std::to_string(s.held) + " outstanding " + std::to_string(s.outstanding));
  }
  for (HostFrame* frame : live_) fail("frame never freed: " + frame->packet.text());
  for (const auto& frame : frames_) {
    if (frame->live) continue;
    ASAN_UNPOISON_MEMORY_REGION(&frame->held, sizeof frame->held);
    const uint8_t* raw = reinterpret_cast<const uint8_t*>(&frame->held);
    if (std::any_of(raw, raw + sizeof frame->held, [](uint8_t b) { return b != dead; }))
      fail("frame written to after it was freed: " + frame->packet.text());
  }
}

void World::note(const std::string& line) { trace_.push_back(line); }

void World::fail(const std::string& what) {
  std::string text = what;
  const size_t from = trace_.size() > 24 ? trace_.size() - 24 : 0;
  for (size_t i = from; i < trace_.size(); ++i) text += "\n    " + trace_[i];
  FAIL_CHECK(text);
}

const vsnoop_guest_stats& World::stats(uint16_t guest) const {
  const vsnoop_guest_stats* s = vsnoop_stats(engine_, guest);
  REQUIRE(s);
  return *s;
}

size_t World::custody() const { return live_.size(); }

HostFrame* World::frame_of(vsnoop_held* held) {
  for (HostFrame* frame : live_)
    if (&frame->held == held) return frame;
  fail("the engine names a frame that is not in its hands");
  return nullptr;
}

void World::free_frame(vsnoop_held* held, const char* by) {
  HostFrame* frame = frame_of(held);
  if (!frame) return;
  note(std::string("   free ") + frame->packet.text() + " by " + by);
  if (frame->in_ring) fail("frame freed while it is in the ring: " + frame->packet.text());
  frame->live = false;
  live_.erase(std::find(live_.begin(), live_.end(), frame));
  std::memset(static_cast<void*>(&frame->held), dead, sizeof frame->held);
  ASAN_POISON_MEMORY_REGION(&frame->held, sizeof frame->held);
}

void World::free_list(vsnoop_held* list, const char* by) {
  for (size_t n = 0; list; ++n) {
    if (n > frames_.size()) return fail("the list of released frames is a circle");
    if (!frame_of(list)) return;
    vsnoop_held* next = list->next;
    free_frame(list, by);
    list = next;
  }
}

Connection* World::connection_of(const std::vector<uint8_t>& f, bool& from_guest) {
  const Layers l = layers_of(f);
  if (!l.ip) return nullptr;
  const uint16_t source = get16(&f[l.tcp]), destination = get16(&f[l.tcp + 2]);
  from_guest = source == guest_port;
  for (Connection* c : connections_) {
    if (c->options_.ipv6 != l.v6 || c->options_.peer_port != (from_guest ? destination : source))
      continue;
    if (numbers(c->options_.vlan) != numbers(tags_of(f))) continue;
    const auto a = address(l.v6, false, c->options_.guest);
    const size_t at = l.v6 ? l.ip + (from_guest ? 8 : 24) : l.ip + (from_guest ? 12 : 16);
    if (std::equal(a.begin(), a.end(), f.begin() + static_cast<long>(at))) return c;
  }
  return nullptr;
}

void World::deliver(const std::vector<uint8_t>& bytes, bool again, uint16_t) {
  bool from_guest;
  Connection* c = connection_of(bytes, from_guest);
  if (!c || from_guest) return;
  const Packet p = Codec::parse(*c, bytes, true);
  note("   guest gets " + p.text() + (again ? " (again)" : ""));
  c->delivered_.push_back(p);
  c->delivered_bytes_.push_back(bytes);
  const Layers l = layers_of(bytes);
  for (uint32_t i = 0; i < p.length(); ++i)
    if (bytes[l.data + i] != content(true, p.seq() + p.has(SYN) + i)) {
      fail("the guest gets wrong bytes in " + p.text());
      break;
    }
  if (p.has_ts() && distance(p.seq(), c->guest_rcv_nxt_) <= 0) c->guest_echo_ = p.tsval();
  // A guest takes nothing whose checksum is wrong. A FIN counts as a byte.
  const bool right = checksums_right(bytes) || checksums_right(bytes, true);
  const uint32_t end_of_packet = p.end() + p.has(FIN);
  if (right && !p.has(SYN) && !p.has(RST) && p.seq() != end_of_packet)
    c->guest_got_.push_back({p.seq(), end_of_packet});
  for (bool moved = true; moved;) {
    moved = false;
    for (const auto& [begin, end] : c->guest_got_)
      if (distance(begin, c->guest_rcv_nxt_) <= 0 && distance(end, c->guest_rcv_nxt_) > 0) {
        c->guest_rcv_nxt_ = end;
        moved = true;
      }
  }
}

size_t World::feed(uint16_t guest, size_t most) {
  size_t n = 0;
  vsnoop_feed feed;
  while (n < most && rings_[guest].size() < ring_slots &&
         vsnoop_next(engine_, guest, &feed, now_)) {
    vsnoop_feed same;
    if (!vsnoop_next(engine_, guest, &same, now_) || same.held != feed.held)
      fail("vsnoop_next() changed something");
    HostFrame* frame = frame_of(feed.held);
    if (!frame) return n;
    if (++n > 100000) {
      fail("vsnoop_next() never ends");
      return n;
    }
    const bool partial = frame->packet.checksum_ == VSNOOP_CHECKSUM_PARTIAL;
    if (!feed.discard) {
      if (!feed.again && !frame->fed_once)
        for (const HostFrame* other : live_)
          if (other->connection == frame->connection && !other->fed_once &&
              other->arrival < frame->arrival)
            fail("FIFO: " + frame->packet.text() + " overtakes " + other->packet.text());
      if (frame->in_ring) fail("frame enters the ring twice: " + frame->packet.text());
      if (feed.again && !feed.more) {  // the last piece counts for all
        const uint32_t acked = frame->connection->guest_acked_;
        if (frame->again_at != now_ || frame->again_ack != acked) frame->agains = 0;
        frame->again_at = now_, frame->again_ack = acked;
        if (++frame->agains > most_again)
          fail("answers itself: delivered again and again at one instant: " + frame->packet.text());
      }
      std::vector<uint8_t> bytes = frame->bytes;
      const bool was_right = checksums_right(bytes, partial);
      if (vsnoop_apply_edit(bytes.data(), static_cast<uint32_t>(bytes.size()), &feed.edit, partial))
        fail("vsnoop_apply_edit() refuses " + frame->packet.text());
      if (feed.skip || feed.keep != frame->verdict.length) {
        const uint32_t length = vsnoop_trim(bytes.data(), static_cast<uint32_t>(bytes.size()),
                                            feed.skip, feed.keep, partial);
        if (!length) fail("vsnoop_trim() refuses " + frame->packet.text());
        bytes.resize(length);
      }
      if (was_right && !checksums_right(bytes, partial))
        fail("wrong checksum in the ring: " + frame->packet.text());
      rings_[guest].push_back(
          {bytes, feed.retain && !feed.more ? frame : nullptr, 0, feed.again != 0});
      frame->in_ring = feed.retain && !feed.more;
    }
    frame->fed_once = true;
    vsnoop_fed(engine_, guest, &feed, now_);
    if (feed.discard || !feed.retain) free_frame(&frame->held, "fed");
    check();
  }
  if (!automatic && emits) emit();
  return n;
}

size_t World::consume(uint16_t guest, size_t most) {
  size_t n = 0;
  for (; n < most && !rings_[guest].empty(); ++n) {
    const RingEntry entry = rings_[guest].front();
    rings_[guest].pop_front();
    deliver(entry.bytes, entry.again, guest);
    if (entry.frame) {
      entry.frame->in_ring = false;
      if (vsnoop_consumed(engine_, &entry.frame->held, now_))
        free_frame(&entry.frame->held, "consumed");
    } else {
      vsnoop_progress(engine_, guest, entry.pushed, now_);
    }
    check();
  }
  if (!automatic && emits) emit();
  return n;
}

void World::lose_ring(uint16_t guest) {
  note("-- the ring is lost");
  while (!rings_[guest].empty()) {
    const RingEntry entry = rings_[guest].back();
    rings_[guest].pop_back();
    if (entry.frame) {
      entry.frame->in_ring = false;
      vsnoop_returned(engine_, &entry.frame->held, now_);
    } else if (entry.pushed) {
      vsnoop_progress(engine_, guest, entry.pushed, now_);
    }
  }
  check();
}

void World::emit() {
  for (int n = 0;; ++n) {
    if (n > 10000) return fail("vsnoop_emit() never ends");
    std::vector<uint8_t> buffer(VSNOOP_EMIT_MAX, dead);
    vsnoop_emission e;
    if (!vsnoop_emit(engine_, &e, buffer.data(), now_)) return;
    if (e.length > buffer.size()) return fail("an emitted frame is too long");
    for (size_t i = e.length; i < buffer.size(); ++i)
      if (buffer[i] != dead) {
        fail("vsnoop_emit() wrote past its length");
        break;
      }
    buffer.resize(e.length);
    bool from_guest;
    Connection* c = connection_of(buffer, from_guest);
    if (!c) return fail("an emitted frame belongs to no connection");
    const Packet p = Codec::parse(*c, buffer, !from_guest);
    note(std::string("   vsnoop ") + (e.to_guest ? "to guest " : "") + p.text() + " (" +
         vsnoop_reason_name(e.reason) + ")");
    if (!checksums_right(buffer)) fail("emitted with a wrong checksum: " + p.text());
    if (from_guest == (e.to_guest != 0)) fail("emitted towards the wrong side: " + p.text());
    if (!std::equal(buffer.begin(), buffer.begin() + 6, e.to_guest ? guest_mac : peer_mac) ||
        !std::equal(buffer.begin() + 6, buffer.begin() + 12, e.to_guest ? peer_mac : guest_mac))
      fail("emitted with wrong MAC addresses: " + p.text());
    c->emitted_bytes_ = buffer;
    c->emitted_reason_ = e.reason;
    if (e.to_guest) {
      c->resets_.push_back(p);
    } else {
      if (!p.has(RST)) {
        if (e.ack - c->peer_isn_ != p.ack()) fail("emission says another ACK than its frame");
        c->peer_sees(p, 'v');
      }
      c->emitted_.push_back(p);
    }
  }
}

void World::settle() {
  if (automatic) {
    for (bool more = true; more;) {
      more = false;
      for (uint16_t id = 0; id < rings_.size(); ++id) {
        more |= feed(id) != 0;
        more |= consume(id) != 0;
      }
    }
  }
  if (automatic || emits) emit();
  check();
}

void World::tick() {
  note("   tick at " + std::to_string((now_ - setup_.start_us) / 1000) + " ms");
  const size_t notes = trace_.size();
  for (int n = 0;; ++n) {
    if (n > 10000) return fail("vsnoop_tick() is always due");
    free_list(vsnoop_tick(engine_, now_), "tick");
    if (vsnoop_deadline(engine_) > now_) break;
  }
  settle();
  if (trace_.size() == notes) trace_.pop_back();
}

void World::advance_us(uint64_t us) {
  const uint64_t target = now_ + us;
  for (uint64_t due = vsnoop_deadline(engine_); due <= target; due = vsnoop_deadline(engine_)) {
    if (due > now_) now_ = due;
    tick();
    if (vsnoop_deadline(engine_) <= now_) return fail("the deadline does not move");
  }
  now_ = target;
  note("-- " + std::to_string((now_ - setup_.start_us) / 1000) + " ms");
}

void World::quiesce(bool on, uint16_t guest) {
  note(on ? "-- quiesce" : "-- quiesce taken back");
  vsnoop_guest_quiesce(engine_, guest, on, now_);
  settle();
}

void World::stop(uint16_t guest) {
  note("-- the guest is gone");
  free_list(vsnoop_guest_stop(engine_, guest, now_), "guest_stop");
  settle();
}

// What must hold at every time, whatever the ends do.
void World::check() {
  for (uint16_t id = 0; id < rings_.size(); ++id) {
    const vsnoop_guest_stats& s = stats(id);
    uint64_t outstanding = 0, flows_outstanding = 0, held = 0, reserved = 0;
    uint32_t cursor = 0;
    vsnoop_flow_info f;
    while (vsnoop_flow_next(engine_, &cursor, &f)) {
      if (f.guest != id) continue;
      outstanding += f.early_ack - f.guest_ack;
      flows_outstanding += f.early_ack != f.guest_ack;
      reserved += f.reserved;
    }
    for (const HostFrame* frame : live_)
      if (frame->connection->options_.guest == id)
        held += (frame->verdict.memory + 255) / 256 * 256;
    for (const RingEntry& entry : rings_[id]) held += entry.pushed;
    const auto text = [](uint64_t n) { return std::to_string(n); };
    if (s.outstanding != outstanding || s.flows_outstanding != flows_outstanding)
      fail("outstanding: stats say " + text(s.outstanding) + " in " + text(s.flows_outstanding) +
           " flows, flows say " + text(outstanding) + " in " + text(flows_outstanding));
    if (s.held != held) fail("held: stats say " + text(s.held) + ", frames cost " + text(held));
    if (s.used != held + reserved)
      fail("used: stats say " + text(s.used) + ", frames " + text(held) + " + reserved " +
           text(reserved));
    if (check_budget && s.held > setup_.guest.budget)
      fail("I7: held " + text(s.held) + " of a budget of " + text(setup_.guest.budget));
    if (reserved > setup_.guest.budget)
      fail("I2b: reserved " + text(reserved) + " of a budget of " + text(setup_.guest.budget));
  }
  if (const char* wrong = vsnoop_audit(engine_)) fail(std::string("accounts: ") + wrong);
  for (Connection* c : connections_) {
    vsnoop_flow_info raw;
    if (c->find(raw)) c->check(raw);
  }
}

// --- Connection ----------------------------------------------------------------------------------

Connection::Connection(const Setup& setup, const Options& options)
    : own_(std::make_unique<World>(setup)),
      world_(own_.get()),
      options_(options),
      peer_isn_(options.peer_isn),
      guest_isn_(options.guest_isn),
      began_us_(world_->now()) {
  world_->connections_.push_back(this);
}

Connection::Connection(World& world, const Options& options)
    : world_(&world),
      options_(options),
      peer_isn_(options.peer_isn),
      guest_isn_(options.guest_isn),
      began_us_(world.now()) {
  world_->connections_.push_back(this);
}

// A connection of a shared world may go before the world does: its frames stay behind.
Connection::~Connection() {
  if (own_)
    own_.reset();
  else
    world_->connections_.erase(
        std::find(world_->connections_.begin(), world_->connections_.end(), this));
}

uint32_t Connection::ts_now() const {
  return static_cast<uint32_t>((world_->now_ - began_us_) / 1000);
}

int Connection::guest_shift() const {
  if (options_.peer_wscale < 0 || options_.guest_wscale < 0) return 0;
  return std::min(options_.guest_wscale, 14);
}

void Connection::fill_syn(Packet& p, bool peer) const {
  const bool answers = p.has(ACK);
  if (!p.mss_) p.mss_ = options_.mss;
  if (p.wscale_ < 0) {
    const int own = peer ? options_.peer_wscale : options_.guest_wscale;
    const int other = peer ? options_.guest_wscale : options_.peer_wscale;
    p.wscale_ = answers && other < 0 ? -1 : own;
  }
  if (options_.sack) p.sackok_ = true;
  if (!p.window_) p.window_ = options_.syn_window;
}

Packet Connection::fill_peer(Packet p) const {
  if (p.has(SYN)) fill_syn(p, true);
  if (!p.seq_) p.seq_ = peer_snd_nxt_;
  if (!p.ack_ && p.has(ACK)) p.ack_ = guest_snd_nxt_;
  if (!p.window_) p.window_ = options_.peer_window;
  if (!p.ts_ && !p.no_ts_ && options_.ts && !p.has(RST)) p.ts_ = {ts_now(), peer_echo_.value_or(0)};
  if (p.vlan_.empty()) p.vlan_ = options_.vlan;
  return p;
}

Packet Connection::fill_guest(Packet p) const {
  if (p.has(SYN)) fill_syn(p, false);
  if (!p.seq_) p.seq_ = guest_snd_nxt_;
  if (!p.ack_ && p.has(ACK)) p.ack_ = guest_acked_;
  if (!p.window_) p.window_ = options_.guest_window;
  if (!p.ts_ && !p.no_ts_ && options_.ts && !p.has(RST))
    p.ts_ = {ts_now(), guest_echo_.value_or(0)};
  if (p.vlan_.empty()) p.vlan_ = options_.vlan;
  return p;
}

std::vector<uint8_t> Connection::build(const Packet& p, bool from_peer) const {
  const std::vector<uint8_t> options = Codec::options(*this, p, from_peer);
  REQUIRE(options.size() <= 40);
  const size_t tcp_length = 20 + options.size() + p.length_;
  std::vector<uint8_t> f;
  f.insert(f.end(), from_peer ? guest_mac : peer_mac, (from_peer ? guest_mac : peer_mac) + 6);
  f.insert(f.end(), from_peer ? peer_mac : guest_mac, (from_peer ? peer_mac : guest_mac) + 6);
  for (size_t i = 0; i < p.vlan_.size(); ++i) {
    put16(f, i + 1 < p.vlan_.size() ? 0x88a8 : 0x8100);
    put16(f, p.vlan_[i]);
  }
  put16(f, options_.ipv6 ? 0x86dd : 0x0800);
  const size_t ip = f.size();
  const auto source = address(options_.ipv6, from_peer, options_.guest);
  const auto destination = address(options_.ipv6, !from_peer, options_.guest);
  // Longer than 64 KiB: BIG TCP, length 0.
  if (options_.ipv6) {
    put32(f, 0x60000000u | static_cast<uint32_t>(p.tos_) << 20 | (from_peer ? 0x11111 : 0x22222));
    put16(f, tcp_length > 0xffff ? 0 : static_cast<uint32_t>(tcp_length));
    f.insert(f.end(), {6, p.ttl_});
  } else {
    f.insert(f.end(), {0x45, p.tos_});
    put16(f, 20 + tcp_length > 0xffff ? 0 : static_cast<uint32_t>(20 + tcp_length));
    put16(f, 0x1234);
    put16(f, p.fragment_);
    f.insert(f.end(), {p.ttl_, 6, 0, 0});
  }
  f.insert(f.end(), source.begin(), source.end());
  f.insert(f.end(), destination.begin(), destination.end());
  if (!options_.ipv6) {
    const uint32_t sum = ~sum16(&f[ip], 20) & 0xffff;
    f[ip + 10] = static_cast<uint8_t>(sum >> 8);
    f[ip + 11] = static_cast<uint8_t>(sum);
  }
  const size_t tcp = f.size();
  put16(f, from_peer ? options_.peer_port : guest_port);
  put16(f, from_peer ? guest_port : options_.peer_port);
  put32(f, p.seq() + (from_peer ? peer_isn_ : guest_isn_));
  put32(f, p.has(ACK) ? p.ack() + (from_peer ? guest_isn_ : peer_isn_) : 0);
  f.push_back(static_cast<uint8_t>((20 + options.size()) / 4 << 4 | p.reserved_));
  f.push_back(p.flags_);
  put16(f, p.window());
  put32(f, 0);
  f.insert(f.end(), options.begin(), options.end());
  const uint32_t first = p.seq() + (p.has(SYN) ? 1 : 0);
  for (uint32_t i = 0; i < p.length_; ++i) f.push_back(content(from_peer, first + i));
  const Layers l = {ip, tcp, tcp + 20 + options.size(), f.size(), options_.ipv6};
  uint32_t sum = pseudo_sum(f, l);
  if (p.checksum_ != VSNOOP_CHECKSUM_PARTIAL) sum = ~sum16(&f[tcp], tcp_length, sum) & 0xffff;
  if (p.spoiled_) sum ^= 0x0100;
  f[tcp + 16] = static_cast<uint8_t>(sum >> 8);
  f[tcp + 17] = static_cast<uint8_t>(sum);
  f.shrink_to_fit();
  return f;
}

// What the engine may read is a heap block of exactly that size.
vsnoop_frame Connection::view(const Packet& p, const std::vector<uint8_t>& bytes,
                              std::vector<uint8_t>& exact) const {
  size_t captured = bytes.size();
  if (p.readable_) captured = bytes.size() - p.length_ + std::min(*p.readable_, p.length_);
  exact = std::vector<uint8_t>(bytes.begin(), bytes.begin() + static_cast<long>(captured));
  vsnoop_frame frame;
  frame.data = exact.data();
  frame.captured = static_cast<uint32_t>(captured);
  frame.wire = static_cast<uint32_t>(bytes.size());
  frame.memory = p.memory_.value_or(768 + frame.wire);
  frame.checksum = static_cast<uint8_t>(p.checksum_);
  return frame;
}

Outcome Connection::ask(const Packet& packet) {
  Outcome o;
  o.sent = fill_peer(packet);
  o.bytes = build(o.sent, true);
  std::vector<uint8_t> exact;
  const vsnoop_frame frame = view(o.sent, o.bytes, exact);
  o.verdict = vsnoop_from_peer(world_->engine_, options_.guest, &frame, world_->now_);
  world_->note("peer  " + o.text());
  if (exact != std::vector<uint8_t>(o.bytes.begin(), o.bytes.begin() + frame.captured))
    world_->fail("the engine wrote into a frame from the peer");
  if (o.verdict.action == VSNOOP_EDIT) world_->fail("EDIT is no verdict for a frame from the peer");
  const uint32_t next = o.sent.end() + (o.sent.has(SYN) ? 1 : 0) + (o.sent.has(FIN) ? 1 : 0);
  if (!o.sent.has(RST) && distance(next, peer_snd_nxt_) > 0 &&
      distance(next, peer_snd_nxt_) < 1 << 24)
    peer_snd_nxt_ = next;
  world_->free_list(o.verdict.released, "from_peer");
  return o;
}

void Connection::finish(Outcome& o, bool host_takes) {
  World& w = *world_;
  const uint8_t action = o.verdict.action;
  auto& ring = w.rings_[options_.guest];
  bool passes = action == VSNOOP_PASS;
  uint32_t pushed = 0;
  if (action == VSNOOP_KEEP || action == VSNOOP_PUSH) {
    if (!host_takes) {
      const uint8_t then = vsnoop_declined(w.engine_, &o.verdict, w.now_);
      w.note(std::string("   host declines -> ") + action_name(then));
      if (then != VSNOOP_PASS && then != VSNOOP_DROP)
        w.fail("declined() says neither PASS nor DROP");
      passes = then == VSNOOP_PASS;
    } else if (action == VSNOOP_PUSH) {
      o.taken = vsnoop_taken(w.engine_, &o.verdict, nullptr, w.now_) != 0;
      passes = true;
      if (o.taken) pushed = o.verdict.memory;
    } else {
      auto frame = std::make_unique<HostFrame>();
      std::memset(static_cast<void*>(&frame->held), dead, sizeof frame->held);
      frame->connection = this;
      frame->packet = o.sent;
      frame->bytes = o.bytes;
      frame->verdict = o.verdict;
      frame->arrival = w.arrivals_++;
      frame->live = true;
      frame->in_ring = frame->fed_once = false;
      w.frames_.push_back(std::move(frame));
      w.live_.push_back(w.frames_.back().get());
      o.taken = vsnoop_taken(w.engine_, &o.verdict, &w.frames_.back()->held, w.now_) != 0;
      if (!o.taken) {
        w.live_.pop_back();
        w.frames_.pop_back();
        passes = true;
      }
    }
  }
  o.passed = passes;
  if (passes) {
    for (const HostFrame* frame : w.live_)
      if (frame->connection == this && !frame->fed_once)
        w.fail("FIFO: " + o.sent.text() + " passes while " + frame->packet.text() + " waits");
    ring.push_back({o.bytes, nullptr, pushed, false});
  }
  w.settle();
}

Outcome Connection::peer(const Packet& packet, bool host_takes) {
  Outcome o = ask(packet);
  finish(o, host_takes);
  return o;
}

Outcome Connection::guest(const Packet& packet) {
  World& w = *world_;
  Outcome o;
  o.sent = fill_guest(packet);
  o.bytes = build(o.sent, false);
  std::vector<uint8_t> exact;
  const vsnoop_frame frame = view(o.sent, o.bytes, exact);
  o.verdict = vsnoop_from_guest(w.engine_, options_.guest, &frame, w.now_);
  if (exact != std::vector<uint8_t>(o.bytes.begin(), o.bytes.begin() + frame.captured))
    w.fail("the engine wrote into a frame from the guest");
  const Packet& p = o.sent;
  const uint32_t next = p.end() + (p.has(SYN) ? 1 : 0) + (p.has(FIN) ? 1 : 0);
  if (!p.has(RST) && distance(next, guest_snd_nxt_) > 0 && distance(next, guest_snd_nxt_) < 1 << 24)
    guest_snd_nxt_ = next;
  if (p.has(SYN)) {
    by_any_ = by_vsnoop_ = by_guest_ = Shown();
    guest_edge_.reset();
    if (p.has(ACK)) by_guest_.raise(p.ack(), p.ack() + p.window());
    by_any_ = by_guest_;
  } else if (p.has(ACK)) {
    if (distance(p.ack(), guest_acked_) > 0) guest_acked_ = p.ack();
    // A guest that opened has shown its SYN's window, beyond the peer's first byte.
    if (!by_guest_.any && options_.guest_opens) by_guest_.raise(1, 1 + options_.syn_window);
    const uint32_t edge = p.ack() + (static_cast<uint32_t>(p.window()) << guest_shift());
    // RFC 9293 3.10.7.4, SND.WL1 and SND.WL2: as far as this harness can see.
    if (p.ack() == guest_acked_ && distance(next, guest_snd_nxt_) >= 0) guest_edge_ = edge;
    by_guest_.raise(p.ack(), edge);
  }
  if (o.verdict.action == VSNOOP_PASS || o.verdict.action == VSNOOP_EDIT) {
    o.passed = true;
    if (o.verdict.action == VSNOOP_EDIT) {
      const bool partial = p.checksum_ == VSNOOP_CHECKSUM_PARTIAL;
      const bool right = checksums_right(o.bytes, partial);
      if (vsnoop_apply_edit(o.bytes.data(), static_cast<uint32_t>(o.bytes.size()), &o.verdict.edit,
                            partial))
        w.fail("vsnoop_apply_edit() refuses " + p.text());
      if (right != checksums_right(o.bytes, partial))
        w.fail("editing spoils the checksum of " + p.text());
    }
    o.seen = Codec::parse(*this, o.bytes, false);
  }
  w.note("guest " + o.text());
  if (o.verdict.action == VSNOOP_KEEP || o.verdict.action == VSNOOP_PUSH)
    w.fail("KEEP or PUSH is no verdict for a frame from the guest");
  if (o.seen) {
    if (o.seen->has_ts() && !o.seen->has(RST)) peer_echo_ = o.seen->tsval();
    if (o.seen->has(ACK) && !o.seen->has(SYN) && !o.seen->has(RST))
      peer_sees(*o.seen, o.verdict.action == VSNOOP_EDIT ? 'e' : 'p');
  }
  w.free_list(o.verdict.released, "from_guest");
  w.settle();
  return o;
}

Outcome Connection::guest_acks() { return guest(vsnoop_test::ack(guest_rcv_nxt_)); }

void Connection::handshake() {
  World& w = *world_;
  const bool automatic = w.automatic;
  w.automatic = true;
  if (options_.guest_opens) {
    guest(syn());
    peer(syn_ack());
    guest(vsnoop_test::ack(1));
  } else {
    peer(syn());
    guest(syn_ack());
    peer(vsnoop_test::ack(1));
  }
  w.automatic = automatic;
  delivered();
  REQUIRE(tracked());
}

void Connection::Shown::raise(uint32_t a, uint32_t e) {
  ack = any && distance(ack, a) > 0 ? ack : a;
  edge = any && distance(edge, e) > 0 ? edge : e;
  any = true;
}

// I2, I4 on the wire. `how`: v - vsnoop's own frame, e - edited, p - the guest's, as it was.
void Connection::peer_sees(const Packet& p, char how) {
  World& w = *world_;
  const uint32_t edge = p.ack() + (static_cast<uint32_t>(p.window()) << guest_shift());
  const int32_t rounding = 1 << guest_shift();
  const Shown& bound = how == 'p' ? by_vsnoop_ : by_any_;
  if (bound.any && distance(p.ack(), bound.ack) < 0)
    w.fail("I4: the ACK number moves left, from " + std::to_string(bound.ack) + ": " + p.text());
  // What the guest itself has taken back is no longer shown.
  uint32_t least = bound.edge;
  if (guest_edge_ && distance(*guest_edge_, least) < 0) least = *guest_edge_;
  if (bound.any && distance(edge, least) <= -rounding)
    w.fail("I4: the right edge moves left, from " + std::to_string(bound.edge) + " to " +
           std::to_string(edge) + ": " + p.text());
  if (how != 'p' && by_guest_.any) {
    if (distance(p.ack(), by_guest_.edge) > 0)
      w.fail("I2: acknowledged beyond what the guest advertised: " + p.text());
    if (distance(edge, by_guest_.edge) > 0)
      w.fail("I2: the peer is shown a larger right edge than the guest's: " + p.text());
  }
  if (how != 'p') by_vsnoop_.raise(p.ack(), edge);
  by_any_.raise(p.ack(), edge);
}

bool Connection::find(vsnoop_flow_info& raw) const {
  const auto g = address(options_.ipv6, false, options_.guest);
  uint32_t cursor = 0;
  auto vlans = numbers(options_.vlan);
  vlans.resize(2);
  while (vsnoop_flow_next(world_->engine_, &cursor, &raw))
    if (raw.guest == options_.guest && vlans[0] == raw.vlan[0] && vlans[1] == raw.vlan[1] &&
        raw.guest_port == guest_port && raw.peer_port == options_.peer_port &&
        std::equal(g.begin(), g.end(), raw.guest_address + 16 - g.size()) &&
        (options_.ipv6 == (raw.guest_address[0] == 0xfd)))
      return true;
  return false;
}

bool Connection::tracked() const {
  vsnoop_flow_info raw;
  return find(raw);
}

vsnoop_flow_info Connection::flow() const {
  vsnoop_flow_info f;
  REQUIRE(find(f));
  for (uint32_t* n :
       {&f.rcv_nxt, &f.early_ack, &f.guest_ack, &f.right_edge, &f.shown_edge, &f.peer_nxt})
    *n -= peer_isn_;
  for (uint32_t* n : {&f.guest_snd_nxt, &f.peer_una, &f.peer_edge}) *n -= guest_isn_;
  return f;
}

// The relations of docs/ack-rules.md, and under `hold` that every promised byte is in custody (I3).
void Connection::check(const vsnoop_flow_info& raw) {
  World& w = *world_;
  const auto number = [&](uint32_t n) {
    return std::to_string(static_cast<int32_t>(n - peer_isn_));
  };
  const auto ordered = [&](uint32_t a, uint32_t b, const char* what) {
    if (distance(a, b) > 0)
      w.fail(std::string(what) + " is broken: " + number(a) + " > " + number(b));
  };
  ordered(raw.early_ack, raw.rcv_nxt, "I1: early_ack <= rcv_nxt");
  ordered(raw.early_ack, raw.right_edge, "I2: early_ack <= right_edge");
  ordered(raw.early_ack, raw.shown_edge, "early_ack <= shown_edge");
  ordered(raw.shown_edge, raw.right_edge, "I2b: shown_edge <= right_edge");
  ordered(raw.guest_ack, raw.early_ack, "guest_ack <= early_ack");
  ordered(raw.guest_ack, raw.rcv_nxt, "guest_ack <= rcv_nxt");
  if (w.setup_.guest.policy != VSNOOP_POLICY_HOLD || raw.state == VSNOOP_FLOW_STOPPED) return;
  uint32_t at = raw.guest_ack;
  for (bool moved = true; moved && distance(at, raw.early_ack) < 0;) {
    moved = false;
    for (const HostFrame* frame : w.live_)
      if (frame->connection == this && frame->verdict.retain &&
          distance(frame->verdict.seq, at) <= 0 &&
          distance(frame->verdict.seq + frame->verdict.length, at) > 0) {
        at = frame->verdict.seq + frame->verdict.length;
        moved = true;
      }
  }
  if (distance(at, raw.early_ack) < 0)
    w.fail("I3: promised up to " + number(raw.early_ack) + " but byte " + number(at) +
           " is not in custody");
}

void Connection::rebase(uint32_t peer_seq, uint32_t guest_seq) {
  peer_isn_ += peer_seq;
  guest_isn_ += guest_seq;
  peer_snd_nxt_ -= peer_seq;
  guest_snd_nxt_ -= guest_seq;
  if (distance(peer_snd_nxt_, 0) < 0) peer_snd_nxt_ = 0;
  if (distance(guest_snd_nxt_, 0) < 0) guest_snd_nxt_ = 0;
  guest_acked_ = guest_rcv_nxt_ = 1;
  guest_got_.clear();
  guest_edge_.reset();
  by_any_ = by_vsnoop_ = by_guest_ = Shown();
}

}  // namespace vsnoop_test
