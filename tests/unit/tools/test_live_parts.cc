// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The parts of `vsnoop live`, each alone, and the bridge between two ports in memory.
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/harness.h"
#include "tools/live/bridge.h"
#include "tools/live/fault.h"
#include "tools/live/frame.h"
#include "tools/live/pacer.h"
#include "tools/live/port.h"
#include "tools/live/ring.h"
#include "tools/live/vcpu.h"
#include "tools/units.h"

using namespace vsnoop;
using namespace vsnoop::live;
using vsnoop_test::Connection;
using vsnoop_test::Contains;
using vsnoop_test::data;

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t ms = kMillisecond;
constexpr uint64_t start = 1'000 * kSecond;  // of every clock here

// --- Vcpu

VcpuConfig busy(uint32_t vcpus, uint64_t phase = 0) {
  VcpuConfig config;
  config.vcpus = vcpus;
  config.slice = 30 * ms;
  config.phase = phase;
  return config;
}

VcpuConfig io(uint32_t vcpus, uint64_t linger = 0, uint64_t phase = 0) {
  VcpuConfig config = busy(vcpus, phase);
  config.io = true;
  config.linger = linger;
  return config;
}

}  // namespace

TEST_CASE("Vcpu: alone on its CPU the guest always runs") {
  for (const bool is_io : {false, true}) {
    Vcpu vcpu(is_io ? io(1) : busy(1), start);
    CHECK(vcpu.running());
    CHECK(vcpu.next_event() == UINT64_MAX);
    CHECK(vcpu.advance(start + 3600 * kSecond, false));
    CHECK(vcpu.ran(start + 5 * kSecond) == 5 * kSecond);
    CHECK_FALSE(vcpu.asleep());
  }
}

TEST_CASE("Vcpu: a busy guest is on for a slice and off for the slices of the others") {
  Vcpu vcpu(busy(3), start);
  uint64_t now = start;
  for (int round = 0; round < 100; ++round) {
    REQUIRE(vcpu.running());
    REQUIRE(vcpu.running_since() == now);
    REQUIRE(vcpu.next_event() == now + 30 * ms);
    REQUIRE(vcpu.advance(now + 30 * ms - 1, true));
    now += 30 * ms;
    REQUIRE_FALSE(vcpu.advance(now, true));
    REQUIRE(vcpu.next_event() == now + 60 * ms);
    REQUIRE_FALSE(vcpu.advance(now + 60 * ms - 1, true));
    now += 60 * ms;
    REQUIRE(vcpu.advance(now, true));
  }
  CHECK(vcpu.ran(now) == 100 * 30 * ms);
  CHECK(vcpu.ran(now + 7 * ms) == 100 * 30 * ms + 7 * ms);
}

TEST_CASE("Vcpu: rounds that nobody looked at have passed all the same") {
  Vcpu vcpu(busy(4), start);
  const uint64_t round = 120 * ms;
  CHECK(vcpu.advance(start + 1000 * round + 29 * ms, false));
  CHECK(vcpu.running_since() == start + 1000 * round);
  CHECK(vcpu.ran(start + 1000 * round) == 1000 * 30 * ms);
  CHECK_FALSE(vcpu.advance(start + 5000 * round + 31 * ms, false));
  CHECK(vcpu.next_event() == start + 5001 * round);
  CHECK(vcpu.ran(start + 5000 * round + 31 * ms) == 5001 * 30 * ms);
}

TEST_CASE("Vcpu: the phase says where in the round the clock starts") {
  Vcpu in_slice(busy(3, 10 * ms), start);
  CHECK(in_slice.running());
  CHECK(in_slice.next_event() == start + 20 * ms);
  Vcpu away(busy(3, 40 * ms), start);
  CHECK_FALSE(away.running());
  CHECK(away.next_event() == start + 50 * ms);
  Vcpu later_round(busy(3, 9000 * ms + 40 * ms), start);
  CHECK(later_round.next_event() == start + 50 * ms);
  Vcpu boundary(busy(3, 30 * ms), start);
  CHECK_FALSE(boundary.running());
  CHECK(boundary.next_event() == start + 60 * ms);
}

TEST_CASE("Vcpu: an io guest waits for the rest of the running slice and for those before it") {
  // The slice running at the start has 20 ms left; one other is queued before the guest.
  Vcpu vcpu(io(3, 0, 10 * ms), start);
  CHECK(vcpu.asleep());
  CHECK(vcpu.next_event() == UINT64_MAX);
  CHECK_FALSE(vcpu.advance(start + 5 * ms, true));
  CHECK_FALSE(vcpu.asleep());
  CHECK(vcpu.next_event() == start + 20 * ms + 30 * ms);
  CHECK_FALSE(vcpu.advance(start + 50 * ms - 1, true));
  CHECK(vcpu.advance(start + 50 * ms, true));

  // It yields: then a slice of another begins.
  CHECK_FALSE(vcpu.advance(start + 60 * ms, false));
  CHECK(vcpu.asleep());
  CHECK_FALSE(vcpu.advance(start + 60 * ms + 47 * ms, true));
  CHECK(vcpu.next_event() == start + 60 * ms + 60 * ms + 30 * ms);
  CHECK(vcpu.ran(start + 120 * ms) == 10 * ms);
}

TEST_CASE("Vcpu: of two, an io guest waits for the running slice alone") {
  Vcpu vcpu(io(2), start);
  vcpu.advance(start + 100 * ms, true);
  CHECK(vcpu.next_event() == start + 120 * ms);
}

TEST_CASE("Vcpu: an io guest lingers before it yields, from its last work on") {
  Vcpu vcpu(io(2, 2 * ms), start);
  vcpu.advance(start, true);
  REQUIRE(vcpu.advance(start + 30 * ms, true));
  CHECK(vcpu.advance(start + 31 * ms, true));
  CHECK(vcpu.advance(start + 32 * ms, false));
  CHECK(vcpu.next_event() == start + 33 * ms);
  CHECK(vcpu.advance(start + 33 * ms - 1, false));
  CHECK_FALSE(vcpu.advance(start + 33 * ms, false));
  CHECK(vcpu.asleep());
}

TEST_CASE("Vcpu: an io guest with endless work keeps at most a slice") {
  Vcpu vcpu(io(3), start);
  vcpu.advance(start, true);
  const uint64_t on = vcpu.next_event();
  REQUIRE(on == start + 60 * ms);
  REQUIRE(vcpu.advance(on, true));
  // Work that cannot be done now must not make its user ask again and again.
  CHECK(vcpu.next_event() == on + 30 * ms);
  CHECK(vcpu.advance(on + 30 * ms - 1, true));
  CHECK_FALSE(vcpu.advance(on + 30 * ms, true));
  CHECK_FALSE(vcpu.asleep());
  CHECK(vcpu.next_event() == on + 90 * ms);
}

TEST_CASE("Vcpu: an io guest whose work is gone when its turn comes sleeps on") {
  Vcpu vcpu(io(2), start);
  vcpu.advance(start, true);
  CHECK_FALSE(vcpu.advance(start + 30 * ms, false));
  CHECK(vcpu.asleep());
  CHECK(vcpu.ran(start + 40 * ms) == 0);
}

// --- Pacer

TEST_CASE("Pacer: the rate is exact over many frames, also where a frame takes no whole ns") {
  for (const uint64_t rate :
       {1'000'000ULL, 1'000'000'000ULL, 3'000'000'007ULL, 10'000'000'000ULL}) {
    Pacer link(rate);
    uint64_t through = 0;
    const uint64_t frames = 1'000'000;
    for (uint64_t i = 0; i < frames; ++i) {
      through = link.due(start, 84) + Pacer::kSlack;
      link.passed(start, 84);
    }
    // All were there at the start: the link was never idle.
    CHECK(through - start == frames * 84 * 8 * kSecond / rate);
  }
}

TEST_CASE("Pacer: an idle link saves nothing up, a late wake-up loses nothing") {
  Pacer link(1'000'000'000);  // 8 ns a byte
  link.passed(start, 1000);
  CHECK(link.due(start + 1 * ms, 1000) == start + 1 * ms + 8000 - Pacer::kSlack);
  // Ten frames that all arrived a millisecond ago may go now: 80 us of work.
  for (int i = 0; i < 10; ++i) {
    CHECK(link.due(start + 1 * ms, 1000) <= start + 2 * ms);
    link.passed(start + 1 * ms, 1000);
  }
  CHECK(link.due(start + 2 * ms, 1000) == start + 2 * ms + 8000 - Pacer::kSlack);
}

TEST_CASE("Pacer: no limit, no waiting") {
  Pacer link;
  CHECK_FALSE(link.limited());
  link.passed(start, 1'000'000);
  CHECK(link.due(start, 1'000'000) == 0);
}

TEST_CASE("wire_bytes: a GSO frame counts what its segments will be") {
  const VnetHeader plain{};
  CHECK(wire_bytes(1514, plain) == 1538);
  CHECK(wire_bytes(42, plain) == 84);  // the shortest frame
  VnetHeader gso{};
  gso.gso_type = 1;
  gso.hdr_len = 66;
  gso.gso_size = 1448;
  CHECK(wire_bytes(66 + 10 * 1448, gso) == 10 * 1538);
  CHECK(wire_bytes(66 + 10 * 1448 + 1, gso) == 10 * 1538 + 66 + 1 + 24);
  CHECK(wire_bytes(66 + 1448, gso) == 1538);
  // A header that cannot be right counts as one frame.
  gso.hdr_len = 2000;
  CHECK(wire_bytes(1514, gso) == 1538);
  gso.hdr_len = 66;
  gso.gso_size = 0;
  CHECK(wire_bytes(1514, gso) == 1538);
}

// --- Fifo, GuestRing

TEST_CASE("Fifo: keeps the order when it wraps and grows") {
  Fifo<int> fifo(4);
  int in = 0, out = 0;
  // Never empty, and the head moves on: it grows at every position of the head.
  for (int round = 0; round < 1000; ++round) {
    for (int i = 0; i < 1 + round % 7; ++i) fifo.push(in++);
    for (int i = 0; i < round % 6 && out < in; ++i) {
      REQUIRE(fifo.front() == out++);
      fifo.pop();
    }
    REQUIRE(fifo.size() == static_cast<size_t>(in - out));
  }
  CHECK(fifo.size() > 64);
  for (; !fifo.empty(); fifo.pop()) REQUIRE(fifo.front() == out++);
  CHECK(out == in);
}

TEST_CASE("GuestRing: a frame takes as many slots as it has pages") {
  using Ring = GuestRing<int>;
  CHECK(Ring::slots_for(0) == 1);
  CHECK(Ring::slots_for(60) == 1);
  CHECK(Ring::slots_for(4096) == 1);
  CHECK(Ring::slots_for(4097) == 2);
  CHECK(Ring::slots_for(65549) == 17);

  Ring ring(16);
  ring.push(1, 4097);
  ring.push(2, 60);
  ring.push(3, 9000);
  CHECK(ring.used() == 6);
  CHECK(ring.frames() == 3);
  CHECK(ring.front() == 1);
  ring.pop();
  CHECK(ring.used() == 4);
  CHECK(ring.front() == 2);
  ring.pop();
  ring.pop();
  CHECK(ring.used() == 0);
  CHECK(ring.empty());
  CHECK(ring.peak() == 6);
}

TEST_CASE("GuestRing: custody leaves an eighth of the slots to others") {
  GuestRing<int> ring(32);
  int frames = 0;
  for (; ring.fits(1514, Entry::kCustody); ++frames) ring.push(frames, 1514);
  CHECK(frames == 28);
  for (; ring.fits(1514, Entry::kDirect); ++frames) ring.push(frames, 1514);
  CHECK(frames == 32);
  ring.pop();
  CHECK(ring.fits(1514, Entry::kDirect));
  CHECK_FALSE(ring.fits(4097, Entry::kDirect));
  CHECK_FALSE(ring.fits(1514, Entry::kCustody));
}

TEST_CASE("GuestRing: a small ring keeps a slot for others, too, one of a single slot cannot") {
  for (const uint32_t slots : {2U, 3U, 7U}) {
    GuestRing<int> ring(slots);
    uint32_t frames = 0;
    for (; ring.fits(60, Entry::kCustody); ++frames) ring.push(1, 60);
    CHECK(frames == slots - 1);
    CHECK(ring.fits(60, Entry::kDirect));
  }
  GuestRing<int> ring(1);
  CHECK(ring.fits(60, Entry::kCustody));
}

TEST_CASE("GuestRing: an empty ring takes any frame, so that none waits for ever") {
  GuestRing<int> ring(16);
  CHECK(ring.fits(65549, Entry::kDirect));
  CHECK(ring.fits(65549, Entry::kCustody));
  ring.push(1, 65549);
  CHECK(ring.used() == 17);
  CHECK_FALSE(ring.fits(60, Entry::kDirect));
  ring.pop();
  CHECK(ring.used() == 0);
}

// --- FramePool

namespace {

// All buffers of one slab, seen before and after: the same ones, or one was lost or freed twice.
class Slab {
 public:
  Slab(FramePool& pool, uint32_t length) : pool_(pool), length_(length), before_(take_all()) {}
  bool whole() { return before_.size() == count() && take_all() == before_; }

 private:
  size_t count() const { return 256 * 1024 / FramePool::cost(length_); }
  std::set<Frame*> take_all() {
    std::set<Frame*> frames;
    for (size_t i = 0; i < count(); ++i) frames.insert(pool_.take(length_));
    for (Frame* frame : frames) pool_.give(frame);
    return frames;
  }

  FramePool& pool_;
  uint32_t length_;
  std::set<Frame*> before_;
};

}  // namespace

TEST_CASE("FramePool: what a frame costs is what it occupies, never less than the frame") {
  FramePool pool;
  std::set<uint32_t> costs;
  for (uint32_t length = 0; length <= FramePool::kLongest; length += 97) {
    Frame* frame = pool.take(length);
    REQUIRE(frame);
    const uint32_t cost = FramePool::cost(length);
    REQUIRE(frame->length == length);
    REQUIRE(frame->capacity >= length);
    REQUIRE(FramePool::cost(*frame) == cost);
    REQUIRE(frame->capacity + sizeof(Frame) == cost);
    REQUIRE(cost >= length + sizeof(Frame));
    REQUIRE(cost < std::max<uint64_t>(length + sizeof(Frame) + 4096, 2049));
    std::memset(frame->data(), 0xa5, length);  // all of it is there (ASan looks)
    costs.insert(cost);
    pool.give(frame);
  }
  CHECK(*costs.begin() == 512);
  CHECK(costs.count(2048) == 1);
  CHECK(FramePool::cost(1514) == 2048);
  CHECK(*costs.rbegin() == 17 * 4096);
}

TEST_CASE("FramePool: buffers lie one cost apart") {
  for (const uint32_t length : {60U, 1514U, 9014U, 65549U}) {
    FramePool pool;
    std::vector<Frame*> frames;
    for (size_t i = 0; i < 256 * 1024 / FramePool::cost(length); ++i)
      frames.push_back(pool.take(length));
    std::sort(frames.begin(), frames.end());
    for (size_t i = 1; i < frames.size(); ++i)
      REQUIRE(reinterpret_cast<uint8_t*>(frames[i]) - reinterpret_cast<uint8_t*>(frames[i - 1]) ==
              FramePool::cost(length));
  }
}

TEST_CASE("FramePool: the longest frame fits, a longer one does not") {
  FramePool pool;
  Frame* longest = pool.take(FramePool::kLongest);
  REQUIRE(longest);
  std::memset(longest->data(), 1, FramePool::kLongest);
  CHECK_FALSE(pool.take(FramePool::kLongest + 1));
  CHECK_FALSE(pool.take(UINT32_MAX));
  CHECK(FramePool::cost(FramePool::kLongest + 1) == FramePool::kLongest + 1);
}

TEST_CASE("FramePool: what is given back is used again") {
  FramePool pool;
  Slab slab(pool, 1514);
  for (int i = 0; i < 10000; ++i) {
    Frame* a = pool.take(1514);
    Frame* b = pool.take(700);
    REQUIRE(a != b);
    pool.give(a);
    pool.give(b);
  }
  CHECK(slab.whole());
  vsnoop_held* list = nullptr;
  for (int i = 0; i < 5; ++i) {
    Frame* frame = pool.take(1514);
    frame->held.next = list;
    list = &frame->held;
  }
  pool.give_list(list);
  CHECK(slab.whole());
}

TEST_CASE("FramePool: own() copies what lies elsewhere and nothing else") {
  FramePool pool;
  Bytes bytes(100, 7);
  VnetHeader vnet{1, 0, 0, 0, 34, 16};
  Packet outside{bytes.data(), 100, VSNOOP_CHECKSUM_PARTIAL, vnet, nullptr, 0};
  Frame* copy = pool.own(outside);
  REQUIRE(copy);
  CHECK(std::equal(bytes.begin(), bytes.end(), copy->data()));
  CHECK(copy->checksum == VSNOOP_CHECKSUM_PARTIAL);
  CHECK(copy->vnet.csum_start == 34);
  Packet inside{copy->data(), 100, VSNOOP_CHECKSUM_PARTIAL, vnet, copy, 0};
  CHECK(pool.own(inside) == copy);
  CHECK(inside.frame == nullptr);

  Bytes head(54, 1), body(1000, 2);
  Frame* joined = pool.copy({vnet, VSNOOP_CHECKSUM_VERIFIED, head.data(), 54, body.data(), 1000});
  REQUIRE(joined);
  CHECK(joined->length == 1054);
  CHECK(joined->data()[53] == 1);
  CHECK(joined->data()[54] == 2);
  CHECK(joined->data()[1053] == 2);
}

// --- headers, checksums

TEST_CASE("header_end: TCP behind Ethernet, tags, IPv4 and IPv6") {
  vsnoop_test::Options options;
  SECTION("IPv4") {
    Connection c(options);
    const Bytes frame = c.bytes_from_peer(data(1, 100));  // with timestamps
    CHECK(header_end(frame.data(), 166) == 66);
    CHECK(header_end(frame.data(), 65) == 0);
    CHECK(header_end(frame.data(), 13) == 0);
  }
  SECTION("two tags") {
    options.vlan = {5, 7};
    Connection c(options);
    CHECK(header_end(c.bytes_from_peer(data(1, 100)).data(), 174) == 74);
  }
  SECTION("IPv6, then with a destination option") {
    options.ipv6 = true;
    Connection c(options);
    Bytes frame = c.bytes_from_peer(data(1, 100));
    CHECK(header_end(frame.data(), 186) == 86);
    const uint8_t option[8] = {6, 0, 1, 4, 0, 0, 0, 0};
    frame.insert(frame.begin() + 54, option, option + 8);
    frame[20] = 60;
    CHECK(header_end(frame.data(), 194) == 94);
  }
  SECTION("a fragment has no transport header to speak of") {
    Connection c(options);
    const Bytes frame = c.bytes_from_peer(data(1, 100).fragment(0x2000));
    CHECK(header_end(frame.data(), static_cast<uint32_t>(frame.size())) == 0);
  }
  SECTION("UDP, then something else") {
    Connection c(options);
    Bytes frame = c.bytes_from_peer(data(1, 100));
    frame[23] = 17;
    CHECK(header_end(frame.data(), 166) == 42);
    frame[23] = 1;
    CHECK(header_end(frame.data(), 166) == 0);
    frame[12] = 0x08, frame[13] = 0x06;  // ARP
    CHECK(header_end(frame.data(), 166) == 0);
  }
}

TEST_CASE("complete_checksum: what was left to the device is filled in") {
  FramePool pool;
  for (const uint32_t length : {100U, 101U, 0U}) {
    Connection c;
    const Bytes right = c.bytes_from_peer(data(1, length));
    const uint32_t size = static_cast<uint32_t>(right.size());
    Frame* frame = pool.take(size);
    std::copy(right.begin(), right.end(), frame->data());
    // The pseudo-header's sum stands in the field, as the kernel leaves it.
    const uint32_t tcp_length = size - 34;
    uint32_t sum = 6 + tcp_length;
    for (int i = 26; i < 34; i += 2) sum += static_cast<uint32_t>(right[i] << 8 | right[i + 1]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    frame->data()[50] = static_cast<uint8_t>(sum >> 8);
    frame->data()[51] = static_cast<uint8_t>(sum);
    frame->vnet = {kVnetNeedsChecksum, 0, 0, 0, 34, 16};
    REQUIRE(complete_checksum(*frame));
    CHECK(Bytes(frame->data(), frame->data() + size) == right);
    CHECK(frame->vnet.flags == 0);
    CHECK(frame->checksum == VSNOOP_CHECKSUM_UNKNOWN);
    // Nothing left to do: nothing happens.
    CHECK(complete_checksum(*frame));
    CHECK(Bytes(frame->data(), frame->data() + size) == right);
    pool.give(frame);
  }
}

TEST_CASE("complete_checksum: refuses GSO frames and fields outside the frame, never writes zero") {
  FramePool pool;
  Frame* frame = pool.take(60);
  std::memset(frame->data(), 0, 60);
  frame->vnet = {kVnetNeedsChecksum, 1, 54, 1000, 34, 16};
  CHECK_FALSE(complete_checksum(*frame));
  frame->vnet = {kVnetNeedsChecksum, 0, 0, 0, 50, 9};
  CHECK_FALSE(complete_checksum(*frame));
  frame->vnet = {kVnetNeedsChecksum, 0, 0, 0, 65535, 65535};
  CHECK_FALSE(complete_checksum(*frame));
  frame->vnet = {kVnetNeedsChecksum, 0, 0, 0, 50, 8};
  frame->data()[50] = frame->data()[51] = 0xff;
  CHECK(complete_checksum(*frame));
  CHECK(frame->data()[58] == 0xff);
  CHECK(frame->data()[59] == 0xff);
}

// --- faults

TEST_CASE("parse_fault: what is written is what is meant") {
  const FaultSpec spec = parse_fault(
      "guest:loss=1%,dup=0.002,reorder=3%,corrupt=0.4%,delay=5%,by=7ms,dir=out,seed=12");
  CHECK(spec.at_guest);
  CHECK_FALSE(spec.in);
  CHECK(spec.out);
  CHECK(spec.loss == Approx(0.01));
  CHECK(spec.dup == Approx(0.002));
  CHECK(spec.reorder == Approx(0.03));
  CHECK(spec.corrupt == Approx(0.004));
  CHECK(spec.delay == Approx(0.05));
  CHECK(spec.by == 7 * ms);
  CHECK(spec.seed == 12);
  const FaultSpec both = parse_fault("peer:loss=100%,dir=both");
  CHECK_FALSE(both.at_guest);
  CHECK(both.in);
  CHECK(both.out);
  CHECK_FALSE(parse_fault("peer:dir=in").out);
}

TEST_CASE("parse_fault: what cannot be meant is named") {
  const auto complaint = [](const char* text, const char* what) {
    INFO(text);
    CHECK_THROWS_WITH(parse_fault(text), Contains(what));
    CHECK_THROWS_AS(parse_fault(text), std::invalid_argument);
  };
  complaint("", "it starts with peer: or guest:");
  complaint("loss=1%", "it starts with peer: or guest:");
  complaint("host:loss=1%", "it starts with peer: or guest:");
  complaint("peer:", "has no '='");
  complaint("peer:loss", "'loss' has no '='");
  complaint("peer:loss=1%,", "has no '='");
  complaint("peer:lost=1%", "'lost=1%' is unknown");
  complaint("peer:dir=up", "'dir=up' is unknown");
  complaint("peer:loss=2", "'2' is no share");
  complaint("peer:by=5", "'5' is no time");
  complaint("peer:seed=x", "'x' is no size");
  complaint("peer:loss=60%,dup=50%", "add up to more than 1");
}

TEST_CASE("FaultDice: one seed, one course of events") {
  FaultSpec spec = parse_fault("peer:loss=10%,dup=10%,reorder=10%,corrupt=10%,delay=10%");
  const auto course = [&spec](uint64_t seed, uint64_t stream) {
    spec.seed = seed;
    FaultDice dice(spec, stream);
    std::vector<uint64_t> all;
    for (int i = 0; i < 1000; ++i) {
      const Fate fate = dice.roll();
      all.insert(all.end(), {fate.kind, fate.after, fate.by, fate.random});
    }
    return all;
  };
  CHECK(course(1, 1) == course(1, 1));
  CHECK(course(1, 1) != course(2, 1));
  CHECK(course(1, 1) != course(1, 2));
}

TEST_CASE("FaultDice: fates come as often as they should") {
  const FaultSpec spec =
      parse_fault("peer:loss=5%,dup=4%,reorder=3%,corrupt=2%,delay=1%,by=9ms,seed=3");
  FaultDice dice(spec, 1);
  constexpr int rolls = 200000;
  int kinds[5] = {}, reordered = 0, delayed = 0;
  bool after[6] = {};
  for (int i = 0; i < rolls; ++i) {
    const Fate fate = dice.roll();
    ++kinds[fate.kind];
    if (fate.kind != Fate::kHold) continue;
    REQUIRE(fate.by == 9 * ms);
    if (fate.after == UINT32_MAX) {
      ++delayed;
    } else {
      ++reordered;
      REQUIRE((fate.after >= 1 && fate.after <= 4));
      after[fate.after] = true;
    }
  }
  // Five standard deviations of a binomial distribution are less than 0.25 %.
  const auto share = [](int n) { return static_cast<double>(n) / rolls; };
  CHECK(share(kinds[Fate::kLose]) == Approx(0.05).margin(0.0025));
  CHECK(share(kinds[Fate::kRepeat]) == Approx(0.04).margin(0.0025));
  CHECK(share(reordered) == Approx(0.03).margin(0.002));
  CHECK(share(kinds[Fate::kCorrupt]) == Approx(0.02).margin(0.0018));
  CHECK(share(delayed) == Approx(0.01).margin(0.0012));
  CHECK(std::all_of(after + 1, after + 5, [](bool seen) { return seen; }));
}

// --- ports in memory

namespace {

struct Sample {
  Bytes bytes;
  VnetHeader vnet{};
  uint8_t checksum = VSNOOP_CHECKSUM_VERIFIED;
};

// A port whose wire is two lists. The pool: frames come in buffers of it, as long ones do from the
// kernel; without it they lie elsewhere, as in a slot.
class FakePort : public PortInterface {
 public:
  explicit FakePort(FramePool* pool = nullptr) : pool_(pool) {}
  ~FakePort() override {
    if (frame_) pool_->give(frame_);
  }

  bool peek(Packet& packet, uint64_t) override {
    if (!up_ || in.empty()) return false;
    if (!showing_) {
      current_ = in.front();
      showing_ = true;
      if (pool_)
        frame_ = pool_->copy({current_.vnet, current_.checksum, current_.bytes.data(),
                              static_cast<uint32_t>(current_.bytes.size()), nullptr, 0});
    }
    packet = {frame_ ? frame_->data() : current_.bytes.data(),
              static_cast<uint32_t>(current_.bytes.size()),
              current_.checksum,
              current_.vnet,
              frame_,
              0};
    return true;
  }
  void pop(Packet& packet) override {
    REQUIRE(showing_);
    REQUIRE((packet.frame == nullptr || packet.frame == frame_));
    if (packet.frame) pool_->give(packet.frame);
    packet.frame = frame_ = nullptr;
    showing_ = false;
    std::fill(current_.bytes.begin(), current_.bytes.end(),
              0xdd);  // the slot is the kernel's again
    in.pop_front();
  }
  Sent send(const Outgoing& frame, uint64_t) override {
    if (goes_down) up_ = false;
    if (!up_) return Sent::kDown;
    if (no_room) {
      --no_room;
      return Sent::kLater;
    }
    if (frame.length() > longest) return Sent::kFailed;
    Sample sample{Bytes(frame.head, frame.head + frame.head_length), frame.vnet, frame.checksum};
    if (frame.body_length)
      sample.bytes.insert(sample.bytes.end(), frame.body, frame.body + frame.body_length);
    out.push_back(std::move(sample));
    return Sent::kYes;
  }
  uint64_t run(uint64_t) override { return kNever; }
  int descriptor() const override { return -1; }
  bool up() const override { return up_; }
  void check() override {}
  bool reopen() override {
    goes_down = false;
    return up_ = may_reopen;
  }
  PortLosses losses() override { return {}; }

  void take_down() { up_ = false; }

  std::deque<Sample> in;
  std::vector<Sample> out;
  unsigned no_room = 0;  // sends that find no room from now on
  uint32_t longest = UINT32_MAX;
  bool may_reopen = true;
  bool goes_down = false;  // at the next send

 private:
  FramePool* pool_;
  Frame* frame_ = nullptr;
  Sample current_;
  bool showing_ = false;
  bool up_ = true;
};

uint32_t get32(const Bytes& b, size_t at) {
  return static_cast<uint32_t>(b[at]) << 24 | b[at + 1] << 16 | b[at + 2] << 8 | b[at + 3];
}
uint8_t flags_of(const Sample& s) { return s.bytes[47]; }

// A bridge, its ports, and a TCP connection through it whose packets a Connection writes (its own
// engine is off and only counts numbers).
class Rig {
 public:
  explicit Rig(BridgeConfig config, bool pooled = false)
      : peer(pooled ? &pool : nullptr),
        guest(pooled ? &pool : nullptr),
        tcp_(off()),
        small_(pool, 160),
        medium_(pool, 1514),
        bridge(prepared(config), peer, guest, pool, start) {}

  static BridgeConfig config(uint8_t policy) {
    BridgeConfig config;
    vsnoop_guest_defaults(&config.guest);
    config.guest.policy = policy;
    vsnoop_defaults(&config.engine);
    config.engine.flows = 64;
    config.engine.custodies = 16;
    config.link_queue = 1 << 20;
    config.grace = 5 * kSecond;
    return config;
  }

  /// Turns until there is nothing left to do at this time.
  void settle() {
    int turns = 0;
    while (bridge.turn(now)) REQUIRE(++turns < 10000);
  }
  void at(uint64_t since_start) {
    now = start + since_start;
    settle();
  }
  /// As the program does it with timers of a fifth of a millisecond, until `since_start`.
  void run_until(uint64_t since_start) {
    while (now < start + since_start) {
      now = std::min(now + 200 * kMicrosecond, start + since_start);
      settle();
    }
  }
  void from_peer(const vsnoop_test::Packet& packet) {
    peer.in.push_back({tcp_.peer(packet).bytes});
  }
  void from_guest(const vsnoop_test::Packet& packet) {
    guest.in.push_back({tcp_.guest(packet).bytes});
  }
  void handshake() {
    from_peer(vsnoop_test::syn());
    settle();
    from_guest(vsnoop_test::syn_ack());
    settle();
    from_peer(vsnoop_test::ack(1));
    settle();
    REQUIRE(guest.out.size() == 2);
    REQUIRE(peer.out.size() == 1);
    REQUIRE(bridge.flows() == 1);
    guest.out.clear();
    peer.out.clear();
  }
  /// Segments of 1000 bytes from the peer, numbers `first` to `last`; as they should arrive.
  void segments(uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; ++i) {
      from_peer(data(1 + (i - 1) * 1000, 1000));
      sent_.push_back(peer.in.back().bytes);
    }
  }
  /// The guest has got exactly the segments, as they were sent, in order.
  bool guest_has_all() const {
    if (guest.out.size() != sent_.size()) return false;
    for (size_t i = 0; i < sent_.size(); ++i)
      if (guest.out[i].bytes != sent_[i]) return false;
    return true;
  }
  size_t segments_sent() const { return sent_.size(); }
  /// Highest ACK number that the peer has been shown, relative.
  uint32_t acked() const {
    uint32_t ack = 0;
    for (const Sample& s : peer.out)
      if (flags_of(s) & vsnoop_test::ACK) ack = std::max(ack, get32(s.bytes, 42) - 0xfffffd00);
    return ack;
  }
  /// Every buffer is back where it came from. After everything has been confirmed.
  bool pool_whole() { return small_.whole() && medium_.whole(); }

  FramePool pool;
  FakePort peer, guest;
  uint64_t now = start;

 private:
  static vsnoop_test::Setup off() {
    vsnoop_test::Setup setup;
    setup.guest.policy = VSNOOP_POLICY_OFF;
    return setup;
  }
  static BridgeConfig prepared(BridgeConfig config) {
    if (config.guest.policy == VSNOOP_POLICY_RING)
      config.guest.budget = config.ring_slots * GuestRing<int>::kSlotBytes;
    return config;
  }

  Connection tcp_;
  Slab small_, medium_;
  std::vector<Bytes> sent_;

 public:
  Bridge bridge;
};

BridgeConfig hold() { return Rig::config(VSNOOP_POLICY_HOLD); }

// The guest runs for the first 30 ms of each 60.
BridgeConfig with_two_vcpus(BridgeConfig config, bool io_guest = false) {
  config.vcpu = io_guest ? io(2) : busy(2);
  return config;
}

}  // namespace

// --- Bridge

TEST_CASE("Bridge: policy off passes frames as they are, both ways, with their GSO metadata") {
  for (const bool pooled : {false, true}) {
    Rig rig(Rig::config(VSNOOP_POLICY_OFF), pooled);
    const VnetHeader gso{kVnetNeedsChecksum, 1, 66, 1448, 34, 16};
    std::vector<Sample> samples;
    for (const uint32_t length : {14U, 60U, 1514U, 9014U, 65549U}) {
      Sample sample{
          Bytes(length), length > 1514 ? gso : VnetHeader{},
          static_cast<uint8_t>(length > 1514 ? VSNOOP_CHECKSUM_PARTIAL : VSNOOP_CHECKSUM_UNKNOWN)};
      for (uint32_t i = 0; i < length; ++i) sample.bytes[i] = static_cast<uint8_t>(i * 7 + length);
      samples.push_back(sample);
    }
    for (int way = 0; way < 2; ++way) {
      FakePort& from = way ? rig.guest : rig.peer;
      FakePort& to = way ? rig.peer : rig.guest;
      for (int repeat = 0; repeat < 50; ++repeat)
        for (const Sample& sample : samples) from.in.push_back(sample);
      rig.settle();
      REQUIRE(to.out.size() == 50 * samples.size());
      for (size_t i = 0; i < to.out.size(); ++i) {
        const Sample& sample = samples[i % samples.size()];
        REQUIRE(to.out[i].bytes == sample.bytes);
        REQUIRE(std::memcmp(&to.out[i].vnet, &sample.vnet, sizeof sample.vnet) == 0);
        REQUIRE(to.out[i].checksum == sample.checksum);
      }
    }
    CHECK(rig.bridge.counts().from_peer.frames == 250);
    CHECK(rig.bridge.counts().to_peer.bytes == rig.bridge.counts().from_guest.bytes);
    CHECK(rig.bridge.engine_stats() == nullptr);
    rig.bridge.finish(rig.now);
    CHECK(rig.bridge.broken() == 0);
    CHECK(rig.pool_whole());
  }
}

TEST_CASE("Bridge: what comes while the guest is away is acknowledged early and delivered later") {
  for (const bool pooled : {false, true}) {
    Rig rig(with_two_vcpus(hold()), pooled);
    rig.handshake();
    rig.at(31 * ms);
    rig.segments(1, 1);
    rig.settle();
    CHECK(rig.acked() == 1001);
    CHECK(rig.bridge.counts().emitted == 1);
    CHECK(rig.guest.out.empty());
    CHECK(rig.bridge.outstanding() == 1000);
    CHECK(rig.bridge.ring_used() == 1);
    rig.at(60 * ms - 1);
    CHECK(rig.guest.out.empty());
    rig.at(60 * ms);
    CHECK(rig.guest_has_all());

    // Its own ACK says nothing new.
    rig.from_guest(vsnoop_test::ack(1001));
    rig.settle();
    CHECK(rig.bridge.counts().engine_from_guest == 1);
    CHECK(rig.bridge.outstanding() == 0);
    CHECK(rig.pool_whole());
  }
}

TEST_CASE("Bridge: the guest's frames wait while its virtual CPU is away") {
  Rig rig(with_two_vcpus(hold()));
  rig.handshake();
  rig.at(31 * ms);
  rig.from_guest(data(1, 500));
  rig.settle();
  CHECK(rig.peer.out.empty());
  rig.at(60 * ms);
  CHECK(rig.peer.out.size() == 1);
}

TEST_CASE("Bridge: every buffer is given back once, over many frames") {
  for (const uint8_t policy : {VSNOOP_POLICY_HOLD, VSNOOP_POLICY_RING}) {
    for (const bool pooled : {false, true}) {
      BridgeConfig config = with_two_vcpus(Rig::config(policy));
      config.ring_slots = 64;
      Rig rig(config, pooled);
      rig.handshake();
      uint64_t time = 0;
      for (uint32_t round = 0; round < 100; ++round) {
        time += 10 * ms;
        rig.at(time);
        const uint32_t first = round * 10 + 1;
        rig.segments(first, first + 9);
        rig.settle();
        rig.from_guest(vsnoop_test::ack(1 + (first - 1) * 1000));  // the round before
      }
      rig.run_until(time + 60 * ms);
      rig.from_guest(vsnoop_test::ack(1 + 1000 * 1000));
      rig.settle();
      rig.run_until(time + 120 * ms);
      CHECK(rig.guest.out.size() >= rig.segments_sent());
      CHECK(rig.bridge.outstanding() == 0);
      CHECK(rig.bridge.ring_used() == 0);
      CHECK(rig.pool_whole());
    }
  }
}

TEST_CASE("Bridge: without custody a full ring loses what does not fit") {
  BridgeConfig config = with_two_vcpus(Rig::config(VSNOOP_POLICY_OFF));
  config.ring_slots = 16;
  Rig rig(config);
  rig.at(31 * ms);
  rig.segments(1, 20);
  rig.settle();
  CHECK(rig.bridge.ring_used() == 16);
  CHECK(rig.bridge.counts().ring_full == 4);
  rig.at(60 * ms);
  REQUIRE(rig.guest.out.size() == 16);
  CHECK(get32(rig.guest.out[15].bytes, 38) - 0xfffffd00 == 15001);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: policy ring promises what is in the ring and no more") {
  BridgeConfig config = with_two_vcpus(Rig::config(VSNOOP_POLICY_RING));
  config.ring_slots = 16;
  Rig rig(config);
  rig.handshake();
  rig.at(31 * ms);
  rig.segments(1, 20);
  rig.settle();
  CHECK(rig.bridge.ring_used() <= 16);
  const uint64_t in_ring = rig.bridge.ring_used();
  CHECK(in_ring >= 8);
  CHECK(rig.acked() <= 1 + in_ring * 1000);
  CHECK(rig.acked() > 1);
  CHECK(rig.bridge.counts().ring_full + rig.bridge.counts().engine_from_peer == 20 - in_ring);
  CHECK(rig.bridge.engine_stats()->held == in_ring * 4096);
  rig.at(60 * ms);
  CHECK(rig.guest.out.size() == in_ring);
  CHECK(rig.bridge.engine_stats()->held == 0);
}

TEST_CASE("Bridge: policy ring gets its room back also when the guest goes down half-way") {
  Rig rig(Rig::config(VSNOOP_POLICY_RING));
  rig.handshake();
  rig.guest.no_room = 1;
  rig.segments(1, 10);
  rig.settle();
  REQUIRE(rig.bridge.engine_stats()->held == 10 * 4096);
  rig.guest.longest = 10;  // refused, so gone; then the interface goes
  rig.now += ms;
  rig.guest.goes_down = true;
  rig.settle();
  CHECK(rig.bridge.engine_stats()->held == 0);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: with custody a full ring loses nothing and leaves room for others") {
  BridgeConfig config = with_two_vcpus(hold());
  config.ring_slots = 16;
  Rig rig(config);
  rig.handshake();
  rig.at(31 * ms);
  rig.segments(1, 40);
  rig.settle();
  CHECK(rig.acked() == 40001);
  CHECK(rig.bridge.ring_used() == 14);
  CHECK(rig.guest.out.empty());
  rig.at(60 * ms);
  CHECK(rig.guest_has_all());
  CHECK(rig.bridge.counts().ring_full == 0);
  rig.from_guest(vsnoop_test::ack(40001));
  rig.settle();
  CHECK(rig.bridge.outstanding() == 0);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: a guest port without room delays frames, in order") {
  for (const uint8_t policy : {VSNOOP_POLICY_OFF, VSNOOP_POLICY_RING, VSNOOP_POLICY_HOLD}) {
    for (const bool pooled : {false, true}) {
      Rig rig(Rig::config(policy), pooled);
      if (policy != VSNOOP_POLICY_OFF) rig.handshake();
      rig.guest.no_room = 5;
      rig.segments(1, 10);
      rig.settle();
      CHECK(rig.guest.out.empty());
      CHECK(rig.guest.no_room == 4);  // one attempt, then a pause: no spinning
      rig.segments(11, 20);
      rig.run_until(2 * ms);
      CHECK(rig.guest.no_room == 0);
      CHECK(rig.guest_has_all());
      if (policy == VSNOOP_POLICY_HOLD) {
        rig.from_guest(vsnoop_test::ack(20001));
        rig.settle();
      }
      CHECK(rig.pool_whole());
    }
  }
}

TEST_CASE("Bridge: a peer port without room delays frames, in order") {
  Rig rig(Rig::config(VSNOOP_POLICY_OFF));
  rig.peer.no_room = 3;
  for (uint8_t i = 0; i < 20; ++i) rig.guest.in.push_back({Bytes(100, i)});
  rig.settle();
  CHECK(rig.peer.out.empty());
  rig.run_until(2 * ms);
  REQUIRE(rig.peer.out.size() == 20);
  for (uint8_t i = 0; i < 20; ++i) CHECK(rig.peer.out[i].bytes[0] == i);
  CHECK(rig.bridge.counts().peak_queue == 2000);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: a frame that a port refuses is counted and does not hold up others") {
  Rig rig(Rig::config(VSNOOP_POLICY_OFF));
  rig.guest.longest = rig.peer.longest = 1514;
  for (FakePort* port : {&rig.peer, &rig.guest})
    for (const uint32_t length : {1514U, 1515U, 60U}) port->in.push_back({Bytes(length, 1)});
  rig.settle();
  CHECK(rig.guest.out.size() == 2);
  CHECK(rig.peer.out.size() == 2);
  CHECK(rig.bridge.counts().send_failed == 2);
}

TEST_CASE(
    "Bridge: what was in the ring when the guest's interface went is delivered when it is back") {
  for (const bool found_by_sending : {false, true}) {
    Rig rig(with_two_vcpus(hold()));
    rig.handshake();
    rig.at(31 * ms);
    rig.segments(1, 5);
    rig.settle();
    REQUIRE(rig.bridge.ring_used() == 5);
    rig.guest.may_reopen = false;
    if (found_by_sending)
      rig.guest.goes_down = true;
    else
      rig.guest.take_down();
    rig.at(60 * ms);
    CHECK(rig.bridge.ring_used() == 0);
    CHECK(rig.bridge.counts().guest_lost == 1);
    CHECK(rig.guest.out.empty());
    CHECK(rig.bridge.outstanding() == 5000);
    rig.segments(6, 8);  // still promised: it may come back
    rig.at(120 * ms);
    CHECK(rig.bridge.outstanding() == 8000);

    rig.guest.may_reopen = true;
    rig.at(300 * ms);
    CHECK(rig.guest_has_all());
    CHECK(rig.bridge.counts().guest_down == 0);  // nothing was lost
    rig.from_guest(vsnoop_test::ack(8001));
    rig.settle();
    CHECK(rig.bridge.outstanding() == 0);
    CHECK(rig.pool_whole());
  }
}

TEST_CASE("Bridge: frames that nobody promised are lost with the guest's interface, and counted") {
  Rig rig(with_two_vcpus(Rig::config(VSNOOP_POLICY_OFF)));
  rig.at(31 * ms);
  rig.segments(1, 5);
  rig.settle();
  rig.guest.may_reopen = false;
  rig.guest.take_down();
  rig.segments(6, 7);
  rig.at(60 * ms);
  CHECK(rig.bridge.counts().guest_down == 7);
  CHECK(rig.guest.out.empty());
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: promises to a guest that does not come back in time are broken by resets") {
  static std::vector<std::string> told;
  told.clear();
  BridgeConfig config = with_two_vcpus(hold());
  config.tell = [](const std::string& text) { told.push_back(text); };
  Rig rig(config);
  rig.handshake();
  rig.at(31 * ms);
  rig.segments(1, 5);
  rig.settle();
  REQUIRE(rig.acked() == 5001);
  rig.guest.may_reopen = false;
  rig.guest.take_down();
  rig.at(32 * ms);
  rig.at(32 * ms + 5 * kSecond - ms);
  const auto reset = [](const Sample& s) { return (flags_of(s) & vsnoop_test::RST) != 0; };
  CHECK(std::none_of(rig.peer.out.begin(), rig.peer.out.end(), reset));
  rig.at(32 * ms + 5 * kSecond + ms);
  CHECK(std::count_if(rig.peer.out.begin(), rig.peer.out.end(), reset) == 1);
  CHECK(rig.bridge.outstanding() == 0);
  CHECK(rig.bridge.broken() == 5000);
  REQUIRE(told.size() == 3);
  CHECK_THAT(told[0], Contains("interface is gone") && Contains("5000 promised bytes"));
  CHECK_THAT(told[1], Contains("did not come back"));
  CHECK_THAT(told[2],
             Contains(":40000 -> ") && Contains("5000 bytes") && Contains("guest is gone"));
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: finish resets what is outstanding, both ways, also when a port has no room") {
  Rig rig(with_two_vcpus(hold()));
  rig.handshake();
  rig.at(31 * ms);
  rig.segments(1, 3);
  rig.settle();
  rig.bridge.quiesce(rig.now);
  REQUIRE(rig.bridge.outstanding() == 3000);
  rig.guest.no_room = 1;
  rig.bridge.finish(rig.now);
  CHECK(rig.bridge.broken() == 3000);
  CHECK(rig.bridge.counts().connections_broken == 1);
  CHECK(rig.bridge.outstanding() == 0);
  REQUIRE_FALSE(rig.peer.out.empty());
  CHECK(flags_of(rig.peer.out.back()) & vsnoop_test::RST);
  REQUIRE_FALSE(rig.guest.out.empty());
  CHECK(flags_of(rig.guest.out.back()) & vsnoop_test::RST);
  CHECK(rig.bridge.ring_used() == 0);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: finish delivers what is in the ring whatever the virtual CPU says") {
  Rig rig(with_two_vcpus(hold()));
  rig.handshake();
  rig.at(31 * ms);
  rig.segments(1, 100);
  rig.settle();
  const uint32_t in_ring = rig.bridge.ring_used();
  rig.bridge.finish(rig.now);
  CHECK(rig.guest.out.size() >= in_ring);
}

TEST_CASE("Bridge: quiesce makes no new promises") {
  Rig rig(with_two_vcpus(hold()));
  rig.handshake();
  rig.at(31 * ms);
  rig.bridge.quiesce(rig.now);
  rig.segments(1, 3);
  rig.settle();
  CHECK(rig.bridge.outstanding() == 0);
  CHECK(rig.acked() == 0);
  rig.at(60 * ms);
  CHECK(rig.guest_has_all());
}

TEST_CASE("Bridge: the rate bounds each direction by itself") {
  BridgeConfig config = Rig::config(VSNOOP_POLICY_OFF);
  config.rate = 100'000'000;  // 80 ns a byte
  config.link_queue = 10'000;
  Rig rig(config);
  for (int i = 0; i < 200; ++i) {
    rig.peer.in.push_back({Bytes(976, 1)});    // 1000 bytes on the wire: 80 us
    rig.guest.in.push_back({Bytes(1976, 1)});  // 160 us
  }
  size_t waiting = 0;
  for (uint64_t time = 0; time <= 8 * ms; time += 10 * kMicrosecond) {
    rig.at(time);
    const size_t in = rig.guest.out.size(), out = rig.peer.out.size();
    // At most what the link carries, and at most one frame less.
    REQUIRE(in <= (time + Pacer::kSlack) / 80'000);
    REQUIRE(in + 1 >= time / 80'000);
    REQUIRE(out <= (time + Pacer::kSlack) / 160'000);
    REQUIRE(out + 1 >= time / 160'000);
    waiting = std::max(waiting, 200 - rig.guest.in.size() - out);
  }
  CHECK(rig.guest.out.size() >= 99);
  // What the link queue does not take waits in the guest's port.
  CHECK(waiting <= 6);
  CHECK(rig.bridge.counts().peak_queue < 10'000 + 1976);
  rig.bridge.finish(rig.now);
  CHECK(rig.peer.out.size() + rig.guest.in.size() == 200);
  CHECK(rig.pool_whole());
}

TEST_CASE("Bridge: a link that slept late makes good for the time it slept, of the frames it had") {
  BridgeConfig config = Rig::config(VSNOOP_POLICY_OFF);
  config.rate = 100'000'000;
  Rig rig(config);
  for (int i = 0; i < 100; ++i) rig.guest.in.push_back({Bytes(976, 1)});
  rig.settle();
  rig.at(4 * ms);  // one wake-up instead of fifty
  CHECK(rig.peer.out.size() == 50);
}

TEST_CASE("Bridge: one busy direction does not starve the other") {
  Rig rig(Rig::config(VSNOOP_POLICY_OFF));
  for (int i = 0; i < 10000; ++i) rig.peer.in.push_back({Bytes(60, 1)});
  for (int i = 0; i < 100; ++i) rig.guest.in.push_back({Bytes(60, 2)});
  rig.bridge.turn(rig.now);
  rig.bridge.turn(rig.now);
  CHECK(rig.peer.out.size() == 100);
  CHECK(rig.guest.out.size() < 1000);
}

TEST_CASE("Bridge: a re-delivery wakes a guest that sleeps") {
  Rig rig(with_two_vcpus(hold(), true));
  const auto wait_for = [&rig](size_t frames) {
    for (int i = 0; i < 1000 && rig.guest.out.size() < frames; ++i)
      rig.run_until(rig.now - start + ms);
    REQUIRE(rig.guest.out.size() == frames);
  };
  rig.from_peer(vsnoop_test::syn());
  wait_for(1);
  rig.from_guest(vsnoop_test::syn_ack());
  rig.from_peer(vsnoop_test::ack(1));
  wait_for(2);
  rig.from_peer(data(1, 1000));
  wait_for(3);
  REQUIRE(rig.bridge.outstanding() == 1000);

  // The guest lost it inside and is silent: in time the engine's timer puts it into the ring again.
  while (rig.bridge.ring_used() == 0) {
    REQUIRE(rig.now < start + 10 * kSecond);
    rig.now += ms;
    rig.settle();
  }
  REQUIRE(rig.guest.out.size() == 3);
  // The next wake-up is that of the virtual CPU, within a slice.
  rig.now += 30 * ms;
  rig.settle();
  CHECK(rig.guest.out.size() == 4);
}

TEST_CASE("Bridge: a re-delivered frame is cut, also a GSO frame, whose metadata stays right") {
  Rig rig(with_two_vcpus(hold()));
  Slab large(rig.pool, 3066);
  rig.handshake();
  rig.at(31 * ms);
  // A super-frame of three segments; its checksum is the device's, so only the sum of the
  // pseudo-header stands there.
  rig.from_peer(data(1, 3000));
  Sample& super = rig.peer.in.back();
  super.vnet = {kVnetNeedsChecksum, 1, 66, 1000, 34, 16};
  super.checksum = VSNOOP_CHECKSUM_PARTIAL;
  const uint32_t tcp_length = static_cast<uint32_t>(super.bytes.size()) - 34;
  uint32_t sum = 6 + tcp_length;
  for (int i = 26; i < 34; i += 2)
    sum += static_cast<uint32_t>(super.bytes[i] << 8 | super.bytes[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  super.bytes[50] = static_cast<uint8_t>(sum >> 8);
  super.bytes[51] = static_cast<uint8_t>(sum);
  const Bytes whole = super.bytes;
  rig.settle();
  CHECK(rig.acked() == 3001);
  rig.at(60 * ms);
  REQUIRE(rig.guest.out.size() == 1);
  CHECK(rig.guest.out[0].bytes == whole);
  CHECK(rig.guest.out[0].vnet.gso_size == 1000);

  // It confirms a part; the rest comes again.
  const auto again = [&rig](uint32_t confirmed) {
    rig.guest.out.clear();
    rig.from_guest(vsnoop_test::ack(confirmed));
    for (int i = 0; i < 3000 && rig.guest.out.empty(); ++i) rig.run_until(rig.now - start + ms);
    REQUIRE_FALSE(rig.guest.out.empty());
    return rig.guest.out[0];
  };
  const auto check = [&whole](const Sample& part, uint32_t from) {
    REQUIRE(part.bytes.size() == 66 + 3001 - from);
    CHECK(get32(part.bytes, 38) - 0xfffffd00 == from);
    CHECK(std::equal(part.bytes.begin() + 66, part.bytes.end(), whole.begin() + 66 + from - 1));
    CHECK(vsnoop_test::checksums_right(part.bytes, true));
    CHECK(part.vnet.flags == kVnetNeedsChecksum);
    CHECK(part.vnet.csum_start == 34);
    CHECK(part.vnet.csum_offset == 16);
  };
  const Sample two = again(1001);
  check(two, 1001);
  CHECK(two.vnet.gso_type == 1);
  CHECK(two.vnet.gso_size == 1000);
  CHECK(two.vnet.hdr_len == 66);
  const Sample one = again(2001);
  check(one, 2001);
  CHECK(one.vnet.gso_type == kVnetNoGso);
  CHECK(one.vnet.gso_size == 0);

  rig.guest.out.clear();
  rig.from_guest(vsnoop_test::ack(3001));
  rig.run_until(rig.now - start + 60 * ms);
  CHECK(rig.bridge.outstanding() == 0);
  CHECK(rig.bridge.ring_used() == 0);
  CHECK(rig.pool_whole());
  CHECK(large.whole());
}

TEST_CASE("Bridge: with nothing to do it sleeps, until its time or until it is called") {
  Rig rig(hold());
  const auto cpu = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
  };
  const uint64_t began = now_ns(), used = cpu();
  const uint64_t until = began + 50 * ms;
  int waits = 0;
  while (now_ns() < until) {
    while (rig.bridge.turn(now_ns())) {
    }
    rig.bridge.wait(until, -1);
    ++waits;
  }
  CHECK(waits <= 2);
  CHECK(cpu() - used < 10 * ms);

  const int wake = eventfd(1, EFD_CLOEXEC);
  REQUIRE(wake >= 0);
  const uint64_t called = now_ns();
  rig.bridge.wait(called + 3600 * kSecond, wake);
  CHECK(now_ns() - called < 3600 * kSecond);
  close(wake);
}

TEST_CASE("Bridge: an engine that cannot be set up says so") {
  FramePool pool;
  FakePort peer, guest;
  BridgeConfig config = hold();
  config.engine.flows = 0;
  CHECK_THROWS_WITH(Bridge(config, peer, guest, pool, start), Contains("--flows"));
}

// --- FaultyPort

namespace {

struct Faulty {
  explicit Faulty(const std::string& text, bool pooled = false)
      : fake(new FakePort(pooled ? &pool : nullptr)),
        port(std::unique_ptr<PortInterface>(fake), pool, parse_fault(text)) {}

  /// All that peek() shows now: the first byte of each frame.
  std::vector<int> read(uint64_t now) {
    std::vector<int> got;
    for (Packet packet; port.peek(packet, now); port.pop(packet)) got.push_back(packet.data[0]);
    return got;
  }
  std::vector<int> write(int frames, uint64_t now) {
    for (int i = 0; i < frames; ++i) {
      Bytes bytes(60, static_cast<uint8_t>(i));
      const Outgoing frame{{}, VSNOOP_CHECKSUM_VERIFIED, bytes.data(), 60, nullptr, 0};
      CHECK(port.send(frame, now) == Sent::kYes);
    }
    return sent();
  }
  std::vector<int> sent() const {
    std::vector<int> got;
    for (const Sample& s : fake->out) got.push_back(s.bytes[0]);
    return got;
  }
  void arrive(int frames) {
    for (int i = 0; i < frames; ++i) fake->in.push_back({Bytes(60, static_cast<uint8_t>(i))});
  }

  FramePool pool;
  FakePort* fake;
  FaultyPort port;
};

}  // namespace

TEST_CASE("FaultyPort: loses, repeats, reorders and delays, the same way for the same seed") {
  for (const bool pooled : {false, true}) {
    Faulty lossy("peer:loss=100%", pooled);
    Slab slab(lossy.pool, 60);
    lossy.arrive(5);
    CHECK(lossy.read(start).empty());
    CHECK(lossy.write(5, start).empty());
    CHECK(lossy.port.counts().lost == 10);
    CHECK(slab.whole());

    Faulty twice("peer:dup=100%", pooled);
    twice.arrive(3);
    CHECK(twice.read(start) == std::vector<int>{0, 0, 1, 1, 2, 2});
    CHECK(twice.write(2, start) == std::vector<int>{0, 0, 1, 1});

    Faulty late("peer:delay=100%,by=5ms", pooled);
    late.arrive(3);
    CHECK(late.read(start).empty());
    CHECK(late.port.run(start) == start + 5 * ms);
    CHECK(late.read(start + 5 * ms) == std::vector<int>{0, 1, 2});
    CHECK(late.write(2, start + 5 * ms).empty());
    CHECK(late.port.run(start + 10 * ms) == kNever);
    CHECK(late.sent() == std::vector<int>{0, 1});

    std::vector<std::vector<int>> courses;
    for (const char* text :
         {"peer:reorder=30%,seed=5", "peer:reorder=30%,seed=5", "peer:reorder=30%,seed=6"}) {
      Faulty mixed(text, pooled);
      mixed.arrive(100);
      std::vector<int> got = mixed.read(start);
      for (const int i : mixed.read(start + 10 * ms)) got.push_back(i);
      courses.push_back(got);
      CHECK_FALSE(std::is_sorted(got.begin(), got.end()));
      std::sort(got.begin(), got.end());
      CHECK(got.size() == 100);
      CHECK(std::unique(got.begin(), got.end()) == got.end());
    }
    CHECK(courses[0] == courses[1]);
    CHECK(courses[0] != courses[2]);
  }
}

TEST_CASE("FaultyPort: one direction only, if asked") {
  Faulty in("peer:loss=100%,dir=in");
  in.arrive(2);
  CHECK(in.read(start).empty());
  CHECK(in.write(2, start).size() == 2);
  Faulty out("peer:loss=100%,dir=out");
  out.arrive(2);
  CHECK(out.read(start).size() == 2);
  CHECK(out.write(2, start).empty());
}

TEST_CASE("FaultyPort: corruption flips one bit behind the addresses, and loses GSO frames") {
  Faulty port("peer:corrupt=100%");
  port.write(20, start);
  REQUIRE(port.fake->out.size() == 20);
  for (int i = 0; i < 20; ++i) {
    int bits = 0;
    const Bytes& bytes = port.fake->out[i].bytes;
    for (size_t at = 0; at < bytes.size(); ++at) {
      const int flipped = __builtin_popcount(bytes[at] ^ static_cast<unsigned>(i));
      bits += flipped;
      if (at < 14) CHECK(flipped == 0);
    }
    CHECK(bits == 1);
    CHECK(port.fake->out[i].checksum == VSNOOP_CHECKSUM_UNKNOWN);
  }
  Bytes bytes(3000);
  const Outgoing gso{{kVnetNeedsChecksum, 1, 66, 1000, 34, 16},
                     VSNOOP_CHECKSUM_PARTIAL,
                     bytes.data(),
                     3000,
                     nullptr,
                     0};
  CHECK(port.port.send(gso, start) == Sent::kYes);
  CHECK(port.fake->out.size() == 20);
}

TEST_CASE("FaultyPort: a frame that comes again for want of room keeps its fate") {
  Faulty smooth("peer:loss=20%,dup=20%,seed=4"), rough("peer:loss=20%,dup=20%,seed=4");
  const std::vector<int> expected = smooth.write(50, start);
  for (int i = 0; i < 50; ++i) {
    Bytes bytes(60, static_cast<uint8_t>(i));
    const Outgoing frame{{}, VSNOOP_CHECKSUM_VERIFIED, bytes.data(), 60, nullptr, 0};
    rough.fake->no_room = i % 3;
    while (rough.port.send(frame, start) == Sent::kLater) {
    }
    rough.fake->no_room = 0;
  }
  CHECK(rough.sent() == expected);
  CHECK(rough.port.counts().lost == smooth.port.counts().lost);
  CHECK(rough.port.counts().repeated == smooth.port.counts().repeated);
}

TEST_CASE("FaultyPort: delayed frames outlive the port behind it going down") {
  size_t all = 0;
  for (int seed = 1; seed <= 20; ++seed) {
    Faulty port("peer:delay=50%,by=5ms,dir=in,seed=" + std::to_string(seed));
    port.arrive(20);
    Packet packet;
    REQUIRE(port.port.peek(packet, start));  // in hand when the interface goes
    const size_t held = port.port.counts().held;
    port.fake->take_down();
    CHECK(port.read(start).empty());
    CHECK(port.read(start + 5 * ms).size() == held);
    all += held;
  }
  CHECK(all > 0);
}
