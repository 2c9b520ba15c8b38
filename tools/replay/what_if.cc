// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/what_if.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace vsnoop::replay {
namespace {

constexpr uint32_t slot_bytes = 4096;
constexpr uint32_t frame_overhead = 256;  // what a host's own frame object costs
constexpr uint64_t clock_start_us = 1'000'000;
constexpr size_t most_violations = 20;
constexpr int most_ticks = 100'000;  // at one instant
// In one silence; then its rest is skipped. Hours of timers: longer is a capture's broken clock.
constexpr int most_ticks_of_gap = 20'000;

uint32_t slots_of(uint32_t wire) { return std::max(1u, (wire + slot_bytes - 1) / slot_bytes); }

bool promises(uint8_t reason) {
  return reason == VSNOOP_REASON_in_order || reason == VSNOOP_REASON_overlap ||
         reason == VSNOOP_REASON_fills_hole;
}

}  // namespace

void WhatIf::Free::operator()(void* memory) const { std::free(memory); }

WhatIf::WhatIf(const Options& options, FileResult& result, std::vector<Observer*> observers)
    : options_(options), result_(result), observers_(std::move(observers)) {
  const Plan& plan = result_.plan;
  const size_t guest_count = std::max<size_t>(1, plan.guests.size());
  result_.flows.resize(plan.connections.size());
  lags_.resize(plan.connections.size());
  guests_.resize(guest_count);
  for (uint32_t i = 0; i < plan.connections.size(); i++) {
    oracles_.emplace_back([this, i](const std::string& text) {
      const Connection& c = result_.plan.connections[i];
      violation(
          fmt::format("flow {} ({} -> {})", i + 1, to_text(c.peer_end().address, c.peer_end().port),
                      to_text(c.guest_end().address, c.guest_end().port)),
          text);
    });
  }

  vsnoop_config config{};
  vsnoop_defaults(&config);
  config.flows = std::clamp<uint32_t>(static_cast<uint32_t>(plan.connections.size()), 64, 1u << 22);
  config.custodies = config.flows;
  config.guests = static_cast<uint32_t>(guest_count);
  config.budget = 0;
  config.seed[0] = 0x7265706c6179;  // fixed: the same capture gives the same report
  config.seed[1] = 0x76736e6f6f70;
  if (!options.write_log.empty()) {
    log_.reset(std::fopen(options.write_log.c_str(), "wbe"));
    if (!log_) throw std::runtime_error(fmt::format("{}: cannot be written", options.write_log));
    config.log_context = log_.get();
    config.log = [](void* file, const uint8_t* bytes, uint32_t length) {
      std::fwrite(bytes, 1, length, static_cast<FILE*>(file));
    };
  }
  const size_t bytes = vsnoop_memory_needed(&config);
  if (bytes) memory_.reset(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
  if (memory_) engine_ = vsnoop_create(memory_.get(), bytes, &config);
  if (!engine_) throw std::runtime_error(fmt::format("no engine for {} flows", config.flows));

  vsnoop_guest_config guest{};
  vsnoop_guest_defaults(&guest);
  guest.policy = static_cast<uint8_t>(options.policy);
  guest.engage = VSNOOP_ENGAGE_ALWAYS;
  guest.early_sack = options.early_sack;
  constexpr uint64_t most = UINT32_MAX;
  if (options.policy == VSNOOP_POLICY_RING) {
    guest.budget = static_cast<uint32_t>(
        options.ring ? std::min<uint64_t>(uint64_t{options.ring} * slot_bytes, most) : most);
  } else if (options.hold) {
    guest.budget = static_cast<uint32_t>(std::min(options.hold, most));
  }
  for (uint16_t id = 0; id < guest_count; id++) {
    vsnoop_guest_open(engine_, id, &guest, clock(plan.first_ns));
  }
}

WhatIf::~WhatIf() = default;

void WhatIf::violation(const std::string& where, const std::string& text) {
  if (result_.violation_count++ < most_violations) {
    result_.violations.push_back(fmt::format("at frame {}, {}: {}", frame_number_, where, text));
  }
}

uint64_t WhatIf::clock(int64_t ns) {
  const int64_t since = std::max<int64_t>(0, ns - result_.plan.first_ns);
  last_clock_ = std::max(last_clock_, clock_start_us + static_cast<uint64_t>(since) / 1000);
  return last_clock_;
}

// Only hosts known to offload may leave a checksum unfilled; from others it is just wrong.
void WhatIf::settle_checksum(Segment& segment) const {
  if (segment.checksum == Checksum::partial && !result_.plan.partial.contains(segment.source)) {
    segment.checksum = Checksum::bad;
  } else if (segment.checksum == Checksum::unknown && options_.assume_checksums) {
    segment.checksum = Checksum::good;
  }
}

void WhatIf::route(Event& event) const {
  const Plan& plan = result_.plan;
  if (event.connection != no_connection) {
    const Connection& connection = plan.connections[event.connection];
    const Connection::Side& guest = connection.guest_end();
    event.guest = connection.guest;
    event.from_guest =
        event.segment.source == guest.address && event.segment.source_port == guest.port;
    return;
  }
  if (auto to = plan.guest_of.find(event.segment.destination); to != plan.guest_of.end()) {
    event.guest = to->second;
  } else if (auto from = plan.guest_of.find(event.segment.source); from != plan.guest_of.end()) {
    event.guest = from->second;
    event.from_guest = true;
  }
}

// Only the guest's segments are moved to when its VCPU runs. What the peer sent keeps its time but
// for causality: an answer moves as far as its question, data as far as the window that let it go.
int64_t WhatIf::plan_time(const Event& event, int64_t captured_ns) {
  if (!options_.vcpu || event.connection == no_connection) return captured_ns;
  const Segment& segment = event.segment;
  Lag& lag = lags_[event.connection];
  auto after = [](uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; };
  const uint32_t end = segment.seq + segment.length();
  if (segment.checksum != Checksum::bad) lag.handshake.learn(segment, event.from_guest);
  if (!event.from_guest) {
    while (segment.has(ack_flag) && !lag.sent.empty() &&
           !after(lag.sent.front().first, segment.ack)) {
      lag.ack_delay = lag.sent.front().second;
      lag.sent.pop_front();
    }
    while (!lag.edges.empty() && after(end, lag.edges.front().first)) lag.edges.pop_front();
    const bool windowed = segment.payload && !lag.edges.empty();
    lag.peer_delay = std::max(lag.ack_delay, windowed ? lag.edges.front().second : 0);
    return lag.peer_last = std::max(captured_ns + lag.peer_delay, lag.peer_last);
  }
  const int64_t ready = std::max({captured_ns + lag.peer_delay, lag.peer_last, lag.guest_last});
  lag.guest_last = options_.vcpu->next_run(ready, result_.plan.first_ns);
  const int64_t delay = lag.guest_last - captured_ns;
  auto mark = [&](Lag::Marks& marks, uint32_t seq) {
    if (marks.empty() || after(seq, marks.back().first)) marks.emplace_back(seq, delay);
  };
  if (segment.length()) mark(lag.sent, end);
  if (segment.has(ack_flag) && !segment.has(rst)) {
    const int shift = segment.has(syn) ? 0 : lag.handshake.shift();
    mark(lag.edges, segment.ack + (uint32_t{segment.window} << shift));
  }
  return lag.guest_last;
}

// A connection whose SYN was taken for one of the connection before it on the same tuple.
void WhatIf::begin(uint32_t number, const Segment& opening) {
  Event event;
  event.segment = opening;
  event.connection = number;
  settle_checksum(event.segment);
  if (event.segment.checksum == Checksum::bad) return;
  route(event);
  lags_[number].handshake.learn(event.segment, event.from_guest);
  if (event.from_guest) {
    oracles_[number].from_guest(event.segment, last_read_ns_);
  } else {
    oracles_[number].from_peer(event.segment);
  }
}

void WhatIf::frame(CapturedFrame frame) {
  Event event;
  event.segment = parse_segment(frame.bytes, frame.wire);
  if (event.segment.kind == Segment::Kind::tcp) {
    const auto [number, replaced, opening] = table_.number(event.segment);
    event.foreign = result_.plan.connections[number].guest_side < 0;
    if (!event.foreign) event.connection = number;
    result_.without_guest += event.foreign;
    settle_checksum(event.segment);
    if (opening && !event.foreign) begin(number, *opening);
  }
  if (frame.time_ns < last_read_ns_) result_.clock_steps++;
  last_read_ns_ = std::max(last_read_ns_, frame.time_ns);
  route(event);
  const int64_t at = plan_time(event, last_read_ns_);
  event.frame = std::move(frame);
  frames_waiting_++;
  events_.emplace(When{at, {1, order_++}}, std::move(event));
  advance(last_read_ns_);
}

void WhatIf::finish() {
  advance(INT64_MAX);
  for (uint32_t i = 0; i < oracles_.size(); i++) {
    oracles_[i].finish(result_.plan.connections[i].reused);
    result_.flows[i].oracle = oracles_[i].result();
    result_.diverged += oracles_[i].diverged();
  }
  for (uint16_t id = 0; id < guests_.size(); id++) {
    result_.guests.push_back(*vsnoop_stats(engine_, id));
  }
  if (log_ && (std::fflush(log_.get()) != 0 || std::ferror(log_.get()))) {
    throw std::runtime_error(fmt::format("{}: could not be written wholly", options_.write_log));
  }
}

// Runs timers and delayed frames in the order of their times. At the end of the file (INT64_MAX)
// time stops with the last frame: what would have happened later the capture cannot judge.
void WhatIf::advance(int64_t until_ns) {
  int ticks = 0, ticks_of_gap = 0;
  while (!events_.empty()) {
    const int64_t at = events_.begin()->first.first;
    if (at > until_ns || (until_ns == INT64_MAX && !frames_waiting_)) break;
    const auto since_start =
        static_cast<uint64_t>(std::max<int64_t>(0, at - result_.plan.first_ns));
    const uint64_t next = clock_start_us + since_start / 1000;
    const uint64_t due = vsnoop_deadline(engine_);
    if (due <= next) {
      const bool skip = ++ticks_of_gap > most_ticks_of_gap;
      const uint64_t now = last_clock_ = std::max(last_clock_, skip ? next : due);
      const int64_t now_ns =
          result_.plan.first_ns + static_cast<int64_t>(now - clock_start_us) * 1000;
      release(vsnoop_tick(engine_, now));
      emit(now_ns);
      for (uint16_t id = 0; id < guests_.size(); id++) {
        if (vsnoop_stats(engine_, id)->held) pump(id, now_ns);
      }
      ticks = vsnoop_deadline(engine_) <= now ? ticks + 1 : 0;
      if (ticks > most_ticks) throw std::runtime_error("the engine's timers do not advance");
      continue;
    }
    ticks_of_gap = 0;
    Event event = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    happen(event, at);
  }
}

void WhatIf::happen(Event& event, int64_t now_ns) {
  if (event.wake) {
    guests_[event.guest].wake_planned = false;
  } else {
    frames_waiting_--;
    if (event.foreign) return show(event, now_ns, {});
    frame_number_ = event.frame.number;
    if (event.from_guest) {
      from_guest(event, now_ns);
    } else {
      from_peer(event, now_ns);
    }
    emit(now_ns);
  }
  pump(event.guest, now_ns);
}

vsnoop_frame WhatIf::describe(const Event& event) const {
  const CapturedFrame& frame = event.frame;
  const uint32_t memory = options_.policy == VSNOOP_POLICY_RING ? slots_of(frame.wire) * slot_bytes
                                                                : frame.wire + frame_overhead;
  uint8_t checksum = VSNOOP_CHECKSUM_UNKNOWN;
  if (event.segment.checksum == Checksum::partial) checksum = VSNOOP_CHECKSUM_PARTIAL;
  // Good here, yet bytes are missing: the user said so.
  if (event.segment.checksum == Checksum::good && frame.bytes.size() < frame.wire) {
    checksum = VSNOOP_CHECKSUM_VERIFIED;
  }
  return {frame.bytes.data(), static_cast<uint32_t>(frame.bytes.size()), frame.wire, memory,
          checksum};
}

void WhatIf::from_peer(Event& event, int64_t now_ns) {
  const Segment& segment = event.segment;
  const uint64_t now = clock(now_ns);
  if (event.connection != no_connection) oracles_[event.connection].from_peer(segment);
  const vsnoop_frame frame = describe(event);
  const vsnoop_verdict verdict = vsnoop_from_peer(engine_, event.guest, &frame, now);
  if (event.connection != no_connection) {
    FlowResult& flow = result_.flows[event.connection];
    Count& count = flow.verdicts[verdict.reason];
    count.segments++;
    count.bytes += segment.payload;
    if (segment.payload) {
      flow.from_peer.segments++;
      flow.from_peer.bytes += segment.payload;
      if (!promises(verdict.reason)) {
        Count& refusal = flow.refusals[verdict.reason];
        refusal.segments++;
        refusal.bytes += segment.payload;
        result_.unverified += verdict.reason == VSNOOP_REASON_unverified_checksum;
      }
    }
  }
  show(event, now_ns, verdict);
  release(verdict.released);

  GuestState& guest = guests_[event.guest];
  const uint32_t slots = slots_of(event.frame.wire);
  uint8_t action = verdict.action;
  if (action == VSNOOP_PUSH) {
    if (room(guest, slots)) {
      guest.ring.push_back({slots, verdict.memory, nullptr});
      guest.ring_used += slots;
      vsnoop_taken(engine_, &verdict, nullptr, now);
    } else {
      action = vsnoop_declined(engine_, &verdict, now);
    }
  } else if (action == VSNOOP_KEEP) {
    auto held = std::make_unique<Held>();
    held->bytes = std::move(event.frame.bytes);
    held->wire = event.frame.wire;
    held->slots = slots;
    held->checksum = segment.checksum;
    if (vsnoop_taken(engine_, &verdict, held.get(), now)) {
      const vsnoop_held* key = held.get();
      held_.emplace(key, std::move(held));
    } else {
      action = vsnoop_declined(engine_, &verdict, now);
    }
  }
  if (action == VSNOOP_PASS) guest.passing.push_back(slots);
  if (action == VSNOOP_DROP && event.connection != no_connection && segment.payload) {
    oracles_[event.connection].withheld(segment);
  }
}

void WhatIf::from_guest(Event& event, int64_t now_ns) {
  const Segment& segment = event.segment;
  const bool known = event.connection != no_connection;
  if (known) oracles_[event.connection].from_guest(segment, now_ns);
  const vsnoop_frame frame = describe(event);
  const vsnoop_verdict verdict = vsnoop_from_guest(engine_, event.guest, &frame, clock(now_ns));
  show(event, now_ns, verdict);
  release(verdict.released);
  if (!known) {
    if (verdict.action == VSNOOP_DROP) violation("no flow", "I6: dropped a frame it cannot know");
    return;
  }
  Oracle& oracle = oracles_[event.connection];
  FlowResult& flow = result_.flows[event.connection];
  flow.verdicts[verdict.reason].segments++;
  flow.verdicts[verdict.reason].bytes += segment.payload;
  flow.from_guest++;
  flow.pure_acks += segment.flags == ack_flag && !segment.payload;
  if (verdict.action == VSNOOP_DROP) {
    flow.acks_dropped += verdict.reason == VSNOOP_REASON_guest_covered;
    oracle.dropped(segment);
  } else if (verdict.action == VSNOOP_EDIT) {
    flow.rebased++;
    std::vector<uint8_t> bytes = event.frame.bytes;
    if (vsnoop_apply_edit(bytes.data(), static_cast<uint32_t>(bytes.size()), &verdict.edit,
                          segment.checksum == Checksum::partial) != 0) {
      violation("edit", "the engine's own edit does not apply");
    }
    Segment shown = parse_segment(bytes, event.frame.wire);
    settle_checksum(shown);
    oracle.passed(segment, shown, true, now_ns);
  } else if (verdict.reason != VSNOOP_REASON_truncated &&
             verdict.reason != VSNOOP_REASON_malformed) {
    // Else the capture cut the header (the engine had the whole of it, and would have edited it),
    // or its options contradict each other: what cannot be read passes as it came.
    const bool tracked = verdict.reason == VSNOOP_REASON_guest_passes || segment.has(syn);
    oracle.passed(segment, segment, tracked, now_ns);
  }
}

void WhatIf::show(const Event& event, int64_t now_ns, const vsnoop_verdict& verdict) {
  const Oracle* oracle = event.connection == no_connection ? nullptr : &oracles_[event.connection];
  for (Observer* observer : observers_) {
    observer->on_frame(
        {event.frame, event.segment, now_ns, event.connection, event.from_guest, verdict, oracle});
  }
}

bool WhatIf::room(const GuestState& guest, uint32_t slots) const {
  return !options_.ring || guest.ring_used + slots <= options_.ring || guest.ring.empty();
}

// What the guest would get must still be a whole segment.
void WhatIf::check_delivery(const vsnoop_feed& feed, const Held& held) {
  std::vector<uint8_t> bytes = held.bytes;
  const bool partial = held.checksum == Checksum::partial;
  uint32_t wire = held.wire;
  if (held.bytes.size() == held.wire && (feed.skip || feed.keep < held.length)) {
    wire = vsnoop_trim(bytes.data(), held.wire, feed.skip, feed.keep, partial);
    if (!wire) return violation("re-delivery", "the engine's own cut does not apply");
    bytes.resize(wire);
  }
  if (feed.edit.what && vsnoop_apply_edit(bytes.data(), static_cast<uint32_t>(bytes.size()),
                                          &feed.edit, partial) != 0) {
    return violation("delivery", "the engine's own edit does not apply");
  }
  Segment segment = parse_segment(bytes, wire);
  settle_checksum(segment);
  if (segment.kind != Segment::Kind::tcp || segment.checksum != held.checksum) {
    violation("delivery", "the frame for the guest is damaged");
  }
}

bool WhatIf::fill_ring(uint16_t id, int64_t now_ns) {
  GuestState& guest = guests_[id];
  bool moved = false;
  while (!guest.passing.empty() && room(guest, guest.passing.front())) {
    guest.ring.push_back({guest.passing.front(), 0, nullptr});
    guest.ring_used += guest.passing.front();
    guest.passing.pop_front();
    moved = true;
  }
  vsnoop_feed feed{};
  while (guest.passing.empty() && vsnoop_next(engine_, id, &feed, clock(now_ns))) {
    const auto found = held_.find(feed.held);
    if (found == held_.end()) {
      violation("delivery", "the engine offers a frame that is not held");
      return false;
    }
    Held& held = *found->second;
    if (feed.discard) {
      vsnoop_fed(engine_, id, &feed, clock(now_ns));
      held_.erase(found);
      continue;
    }
    if (!room(guest, held.slots)) break;
    check_delivery(feed, held);
    vsnoop_fed(engine_, id, &feed, clock(now_ns));
    guest.ring.push_back({held.slots, 0, feed.retain ? feed.held : nullptr});
    guest.ring_used += held.slots;
    held.in_ring = true;
    if (!feed.retain) held_.erase(found);
    moved = true;
  }
  return moved;
}

bool WhatIf::drain_ring(uint16_t id, int64_t now_ns) {
  GuestState& guest = guests_[id];
  if (guest.ring.empty()) return false;
  uint32_t pushed = 0;
  for (const RingEntry& entry : guest.ring) {
    pushed += entry.pushed;
    if (!entry.held) continue;
    static_cast<Held*>(entry.held)->in_ring = false;
    if (vsnoop_consumed(engine_, entry.held, clock(now_ns))) held_.erase(entry.held);
  }
  guest.ring.clear();
  guest.ring_used = 0;
  vsnoop_progress(engine_, id, pushed, clock(now_ns));
  return true;
}

void WhatIf::pump(uint16_t id, int64_t now_ns) {
  GuestState& guest = guests_[id];
  const int64_t runs_at =
      options_.vcpu ? options_.vcpu->next_run(now_ns, result_.plan.first_ns) : now_ns;
  for (bool more = true; more;) {
    more = fill_ring(id, now_ns);
    if (runs_at > now_ns) break;
    more |= drain_ring(id, now_ns);
    emit(now_ns);
  }
  emit(now_ns);
  if (runs_at > now_ns && !guest.wake_planned && !guest.ring.empty()) {
    Event wake;
    wake.wake = true;
    wake.guest = id;
    guest.wake_planned = true;
    events_.emplace(When{runs_at, {0, order_++}}, std::move(wake));
  }
}

void WhatIf::emit(int64_t now_ns) {
  std::array<uint8_t, VSNOOP_EMIT_MAX> buffer;
  vsnoop_emission emission{};
  while (vsnoop_emit(engine_, &emission, buffer.data(), clock(now_ns))) {
    const std::span<const uint8_t> bytes(buffer.data(), emission.length);
    const Segment segment = parse_segment(bytes, emission.length);
    const uint32_t number =
        segment.kind == Segment::Kind::tcp ? table_.find(segment) : no_connection;
    if (number == no_connection) {
      violation("emission", "the frame belongs to no connection of the capture");
      continue;
    }
    FlowResult& flow = result_.flows[number];
    if (!emission.to_guest) oracles_[number].emitted(segment, now_ns);
    if (segment.has(rst)) {
      flow.resets++;
    } else if (emission.reason == VSNOOP_REASON_early_ack) {
      flow.early_acks++;
    } else {
      flow.other_emissions++;
    }
    for (Observer* observer : observers_) {
      observer->on_emission({bytes, segment, now_ns, number, emission, &oracles_[number]});
    }
  }
}

void WhatIf::release(vsnoop_held* list) {
  while (list) {
    vsnoop_held* next = list->next;
    const auto found = held_.find(list);
    if (found == held_.end() || found->second->in_ring) {
      violation("release", "the engine freed a frame that is in the ring or not held");
      return;
    }
    held_.erase(found);
    list = next;
  }
}

}  // namespace vsnoop::replay
