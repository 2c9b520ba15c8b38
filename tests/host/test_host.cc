// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The reference host, with a guest that runs now and then: what docs/host.md promises to those who
// port it.
#include "tests/host/host.h"

#include <algorithm>
#include <memory>

#include "tests/oracle/segment.h"
#include "tests/unit/catch.h"

using namespace vsnoop_oracle;

namespace {

constexpr u32 peer_isn = 0xfffff000, guest_isn = 77;
constexpr u32 mss = 1000;

// A driver domain, and what the network saw of it.
class DriverDomain : public vsnoop_host::Host {
 public:
  DriverDomain(const vsnoop_config& config, const vsnoop_guest_config& guest, size_t slots)
      : Host(config, guest, slots) {}
  std::vector<Segment> sent;
  size_t early = 0;      // of those, made by the engine
  bool has_room = true;  // in its memory

 private:
  void to_peer(uint16_t, const Bytes& frame) override {
    CHECK(checksums_right(frame));
    sent.push_back(parse(frame));
  }
  void emitted(const vsnoop_emission& e, const Bytes&) override {
    early += e.reason == VSNOOP_REASON_early_ack;
  }
  bool can_keep(const vsnoop_verdict&) override { return has_room; }
};

// One connection to a guest that acknowledges whatever comes in order.
struct Connection {
  explicit Connection(uint8_t policy = VSNOOP_POLICY_HOLD, size_t slots = 8) {
    vsnoop_config config;
    vsnoop_defaults(&config);
    config.flows = 16, config.custodies = 4;
    vsnoop_guest_config guest;
    vsnoop_guest_defaults(&guest);
    guest.policy = policy;
    host = std::make_unique<DriverDomain>(config, guest, slots);
    Segment s;
    s.flags = SYN, s.seq = peer_isn, s.window = 60000;
    peer(s, 0);
    s.flags = SYN | ACK, s.seq = guest_isn, s.ack = peer_isn + 1;
    guest_says(s);
    s.flags = ACK, s.seq = peer_isn + 1, s.ack = guest_isn + 1;
    peer(s, 0);
    guest_runs();
    host->sent.clear();
  }
  void peer(const Segment& s, u32 first) { host->from_peer(0, build(s, true, first), now); }
  void guest_says(const Segment& s) { host->from_guest(0, build(s, false, 0), now); }
  // The n-th piece of the peer's stream.
  void data(u32 n) {
    Segment s;
    s.seq = peer_isn + 1 + n * mss, s.ack = guest_isn + 1, s.window = 60000, s.length = mss;
    peer(s, 1 + n * mss);
  }
  void guest_runs() {
    Bytes frame;
    while (host->guest_takes(0, frame, now)) {
      REQUIRE(checksums_right(frame));
      const Segment s = parse(frame);
      if (s.has(RST)) reset = true;
      if (!s.length) continue;
      if (s.seq == next())
        read.insert(read.end(), frame.begin() + s.data, frame.begin() + s.data + s.length);
      Segment answer;
      answer.seq = guest_isn + 1;
      answer.ack = next();
      answer.window = 60000;
      guest_says(answer);
    }
  }
  u32 next() const { return peer_isn + 1 + static_cast<u32>(read.size()); }
  // Pieces of the stream that the guest has read, every byte as it was sent.
  size_t pieces() const {
    for (u32 i = 0; i < read.size(); ++i)
      if (read[i] != byte_at(0, true, i + 1)) return SIZE_MAX;
    return read.size() / mss;
  }
  // The highest number that the peer was told.
  u32 acknowledged() const {
    u32 most = 0;
    for (const Segment& s : host->sent) most = std::max(most, s.ack - peer_isn - 1);
    return most / mss;
  }

  u64 now = 1000000;
  std::unique_ptr<DriverDomain> host;
  Bytes read;
  bool reset = false;
};

}  // namespace

TEST_CASE("reference host: what it keeps is acknowledged at once, and read once, in order",
          "[host]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  CHECK(c.acknowledged() == 20);
  CHECK(c.host->early > 0);
  CHECK(c.host->kept() == 20);
  c.guest_runs();
  CHECK(c.pieces() == 20);
  CHECK(c.host->kept() == 0);
}

TEST_CASE("reference host: a slot stays for who has nothing in custody", "[host]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  CHECK(c.host->ring(0).size() == 7);
  Segment syn;
  syn.flags = SYN, syn.seq = 5, syn.connection = 1;
  c.peer(syn, 0);
  CHECK(c.host->ring(0).size() == 8);
}

TEST_CASE("reference host: a ring that is lost is fed again", "[host][I3]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  c.host->ring_lost(0, c.now);
  CHECK(c.host->kept() == 20);
  c.host->tick(c.now);  // there is a new one
  c.guest_runs();
  CHECK(c.pieces() == 20);
  // In order, so that nothing had to be delivered again.
  CHECK(vsnoop_stats(c.host->engine(), 0)->redelivered_frames == 0);
}

TEST_CASE("reference host: what the guest lost after it took it comes again", "[host][I3]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  Bytes frame;
  REQUIRE(c.host->guest_takes(0, frame, c.now));  // and forgets it
  c.guest_runs();
  for (int second = 0; second < 3; ++second) {
    c.now += 1000000;
    c.host->tick(c.now);
    c.guest_runs();
  }
  CHECK(c.pieces() == 20);
  CHECK(c.host->kept() == 0);
}

TEST_CASE("reference host: a guest that is gone leaves no promise behind", "[host][I3]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  c.host->sent.clear();
  c.host->guest_gone(0, c.now);
  REQUIRE(c.host->sent.size() == 1);
  CHECK(c.host->sent[0].has(RST));
  CHECK(c.host->sent[0].seq == guest_isn + 1);
  CHECK(c.host->kept() == 0);
  CHECK(vsnoop_stats(c.host->engine(), 0)->outstanding == 0);
}

TEST_CASE("reference host: without memory it promises nothing, and nothing is lost", "[host]") {
  Connection c;
  c.host->has_room = false;
  for (u32 n = 0; n < 5; ++n) c.data(n);
  CHECK(c.host->sent.empty());
  c.guest_runs();
  CHECK(c.pieces() == 5);
}

TEST_CASE("reference host: under policy ring the ring's slots are all that is promised", "[host]") {
  Connection c(VSNOOP_POLICY_RING);
  for (u32 n = 0; n < 20; ++n) c.data(n);
  CHECK(c.acknowledged() == 8);
  CHECK(c.host->kept() == 0);
  c.guest_runs();
  CHECK(c.pieces() == 8);
}

TEST_CASE("reference host: a frame is named again until it was fed", "[host]") {
  Connection c;
  for (u32 n = 0; n < 20; ++n) c.data(n);
  vsnoop_feed first, again;
  REQUIRE(vsnoop_next(c.host->engine(), 0, &first, c.now));
  REQUIRE(vsnoop_next(c.host->engine(), 0, &again, c.now));
  CHECK(first.held == again.held);
  CHECK(first.keep == again.keep);
}
