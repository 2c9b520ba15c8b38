// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What a packet costs: parse, decide + commit, ACK build, and the whole path from a peer's data
// frame to the early ACK, hot (1 k flows) and cold (64 k, 1 M flows, visited in random order).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "snoop-core/segment.cc"  // parse() is no part of the face
#include "snoop-core/vsnoop.h"
#include "snoop-core/wire.h"

namespace {

using namespace vsnoop;

constexpr u32 payload = 1448;
constexpr u32 headers = 14 + 20 + 32;  // with timestamps; a SYN has an MSS option too
constexpr u32 syn_headers = headers + 4;
constexpr u32 peer_iss = 1000, guest_iss = 5000;

// A frame with timestamps; only its headers are there, as a driver would show them.
struct Bytes {
  u8 data[syn_headers];
};

Bytes make_frame(u32 flow, bool from_peer, u8 flags, u32 seq, u32 ack, u32 length) {
  Bytes bytes = {};
  u8* p = bytes.data;
  p[0] = p[6] = 2;
  p[from_peer ? 5 : 11] = 1;
  store16(p + 12, 0x0800);
  u8* ip = p + 14;
  ip[0] = 0x45;
  store16(ip + 2, static_cast<u16>((flags & SYN ? 56 : 52) + length));
  ip[8] = 64;
  ip[9] = 6;
  const u32 guest = 0x0a000001, peer = 0x0b000000 + (flow >> 14);
  store32(ip + 12, from_peer ? peer : guest);
  store32(ip + 16, from_peer ? guest : peer);
  const u16 sum = static_cast<u16>(~fold(sum_bytes(ip, 20)));
  std::memcpy(ip + 10, &sum, 2);
  u8* tcp = ip + 20;
  const u16 port = static_cast<u16>(1024 + (flow & 0x3fff));
  store16(tcp, from_peer ? port : 80);
  store16(tcp + 2, from_peer ? 80 : port);
  store32(tcp + 4, seq);
  store32(tcp + 8, ack);
  tcp[12] = flags & SYN ? 0x90 : 0x80;
  tcp[13] = flags;
  store16(tcp + 14, 0xffff);
  store32(tcp + 20, 0x0101080a);
  store32(tcp + 24, 1);
  if (flags & SYN) store32(tcp + 32, 0x020405b4);
  return bytes;
}

vsnoop_frame view(const Bytes& bytes, u32 length) {
  const u32 own = bytes.data[47] & SYN ? syn_headers : headers;
  return {bytes.data, own, own + length, 2048, VSNOOP_CHECKSUM_VERIFIED};
}

// An engine with `flows` established connections and one data frame and one ACK ready for each.
class World {
 public:
  explicit World(u32 flows) : data_(flows), ack_(flows), position_(flows, 0), order_(flows) {
    vsnoop_config config;
    vsnoop_defaults(&config);
    config.flows = flows + flows / 8 + 64;
    config.custodies = 4096;
    config.seed[0] = 0x0123456789abcdef;
    config.seed[1] = 0xfedcba9876543210;
    memory_.resize(vsnoop_memory_needed(&config));
    engine = vsnoop_create(memory_.data(), memory_.size(), &config);
    vsnoop_guest_config guest;
    vsnoop_guest_defaults(&guest);
    guest.budget = 1u << 30;
    vsnoop_guest_open(engine, 0, &guest, 0);
    for (u32 i = 0; i < flows; ++i) {
      say(make_frame(i, true, SYN, peer_iss, 0, 0), true);
      say(make_frame(i, false, SYN | ACK, guest_iss, peer_iss + 1, 0), false);
      say(make_frame(i, true, ACK, peer_iss + 1, guest_iss + 1, 0), true);
      data_[i] = make_frame(i, true, ACK, peer_iss + 1, guest_iss + 1, payload);
      ack_[i] = make_frame(i, false, ACK, guest_iss + 1, peer_iss + 1, 0);
      order_[i] = i;
    }
    std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
  }

  // The next flow's data frame, ready to be sent.
  u32 turn() {
    const u32 flow = order_[at_];
    at_ = at_ + 1 == order_.size() ? 0 : at_ + 1;
    store32(data_[flow].data + 38, peer_iss + 1 + position_[flow]);
    position_[flow] += payload;
    store32(ack_[flow].data + 42, peer_iss + 1 + position_[flow]);
    return flow;
  }
  vsnoop_frame data(u32 flow) const { return view(data_[flow], payload); }
  vsnoop_frame ack(u32 flow) const { return view(ack_[flow], 0); }

  vsnoop_engine* engine;

 private:
  void say(const Bytes& bytes, bool from_peer) {
    const vsnoop_frame frame = view(bytes, 0);
    if (from_peer)
      vsnoop_from_peer(engine, 0, &frame, 0);
    else
      vsnoop_from_guest(engine, 0, &frame, 0);
  }

  std::vector<u8> memory_;
  std::vector<Bytes> data_, ack_;
  std::vector<u32> position_, order_;
  size_t at_ = 0;
};

World& world(u32 flows) {
  static std::unique_ptr<World> kept;
  static u32 size = 0;
  if (size != flows) {
    kept.reset();
    kept = std::make_unique<World>(flows);
    size = flows;
  }
  return *kept;
}

constexpr u32 batch = 32;
using Clock = std::chrono::steady_clock;

void BM_Parse(benchmark::State& state) {
  const Bytes bytes = make_frame(7, true, ACK, 1, 1, payload);
  const vsnoop_frame frame = view(bytes, payload);
  for (auto _ : state) {
    Segment segment;
    benchmark::DoNotOptimize(parse(frame, Direction::from_peer, 0, segment));
    benchmark::DoNotOptimize(segment);
  }
}
BENCHMARK(BM_Parse)->Name("Core/parse");

enum Part { whole_path, decide_and_commit, ack_build, guest_ack };

// A batch of data frames for as many flows, then their way into the ring and the guest's ACKs.
// Only `part` is on the clock; what is printed is per packet.
void run(benchmark::State& state, Part part, bool prefetch) {
  World& w = world(static_cast<u32>(state.range(0)));
  static vsnoop_held held[batch];
  u64 now = 1, emitted = 0, covered = 0;
  for (auto _ : state) {
    u32 flow[batch];
    vsnoop_frame frames[batch], acks[batch];
    for (u32 i = 0; i < batch; ++i) {
      flow[i] = w.turn();
      frames[i] = w.data(flow[i]);
      acks[i] = w.ack(flow[i]);
    }
    vsnoop_emission emission;
    u8 frame[VSNOOP_EMIT_MAX];
    const auto t0 = Clock::now();
    if (prefetch) vsnoop_prefetch(w.engine, 0, 1, frames, batch);
    if (part == whole_path) {
      for (u32 i = 0; i < batch; ++i) {
        const vsnoop_verdict v = vsnoop_from_peer(w.engine, 0, &frames[i], now);
        if (v.action == VSNOOP_KEEP) vsnoop_taken(w.engine, &v, &held[i], now);
        emitted += vsnoop_emit(w.engine, &emission, frame, now);
      }
    } else {
      for (u32 i = 0; i < batch; ++i) {
        const vsnoop_verdict v = vsnoop_from_peer(w.engine, 0, &frames[i], now);
        if (v.action == VSNOOP_KEEP) vsnoop_taken(w.engine, &v, &held[i], now);
      }
    }
    const auto t1 = Clock::now();
    if (part != whole_path)
      while (vsnoop_emit(w.engine, &emission, frame, now)) ++emitted;
    const auto t2 = Clock::now();
    vsnoop_feed feed;
    while (vsnoop_next(w.engine, 0, &feed, now)) {
      vsnoop_fed(w.engine, 0, &feed, now);
      vsnoop_consumed(w.engine, feed.held, now);
    }
    const auto t3 = Clock::now();
    for (u32 i = 0; i < batch; ++i)
      covered += vsnoop_from_guest(w.engine, 0, &acks[i], now).action == VSNOOP_DROP;
    const auto t4 = Clock::now();
    ++now;
    const auto spent = part == ack_build ? t2 - t1 : part == guest_ack ? t4 - t3 : t1 - t0;
    state.SetIterationTime(std::chrono::duration<double>(spent).count() / batch);
  }
  // A benchmark of something else than the fast path would be worth nothing.
  if (emitted != static_cast<u64>(state.iterations()) * batch || covered != emitted)
    state.SkipWithError("the frames did not take the fast path");
}

void BM_Whole(benchmark::State& state) { run(state, whole_path, false); }
void BM_WholeBatched(benchmark::State& state) { run(state, whole_path, true); }
void BM_Decide(benchmark::State& state) { run(state, decide_and_commit, false); }
void BM_DecideBatched(benchmark::State& state) { run(state, decide_and_commit, true); }
void BM_AckBuild(benchmark::State& state) { run(state, ack_build, false); }
void BM_GuestAck(benchmark::State& state) { run(state, guest_ack, false); }

// Each flow of the largest world is met once in so many batches.
#define SIZES \
  ->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20)->Iterations((1 << 20) / batch)->UseManualTime()
BENCHMARK(BM_Whole)->Name("Core/whole_path") SIZES;
BENCHMARK(BM_WholeBatched)->Name("Core/whole_path_batched") SIZES;
BENCHMARK(BM_Decide)->Name("Core/parse_lookup_decide_commit") SIZES;
BENCHMARK(BM_DecideBatched)->Name("Core/parse_lookup_decide_commit_batched") SIZES;
BENCHMARK(BM_AckBuild)->Name("Core/ack_build") SIZES;
BENCHMARK(BM_GuestAck)->Name("Core/guest_ack") SIZES;

}  // namespace
