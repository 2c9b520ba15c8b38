// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/what_if.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace vsnoop::replay {
namespace {

constexpr size_t mac_bytes = 12;
constexpr uint32_t slot_bytes = 4096;
constexpr uint32_t frame_overhead = 256;  // what a host's own frame object costs
constexpr uint64_t clock_start_us = 1'000'000;
constexpr size_t most_violations = 20;
constexpr int most_ticks = 100'000;  // at one instant
// In one silence; then its rest is skipped. Hours of timers: longer is a capture's broken clock.
constexpr int most_ticks_of_gap = 20'000;

// Bytes of 802.1Q and QinQ tags, which stand behind the two addresses.
size_t tag_bytes(std::span<const uint8_t> frame) {
  size_t end = mac_bytes;
  while (end + 4 <= frame.size() && ((frame[end] == 0x81 && frame[end + 1] == 0x00) ||
                                     (frame[end] == 0x88 && frame[end + 1] == 0xa8)))
    end += 4;
  return end - mac_bytes;
}

uint32_t slots_of(uint32_t wire) { return std::max(1u, (wire + slot_bytes - 1) / slot_bytes); }

}  // namespace

void WhatIf::Free::operator()(void* memory) const { std::free(memory); }

WhatIf::WhatIf(const Options& options, FileResult& result, std::vector<Observer*> observers,
               FILE* log, std::function<void(const FlowEnd&)> on_end)
    : options_(options),
      result_(result),
      observers_(std::move(observers)),
      on_end_(std::move(on_end)) {
  result_.guests = result_.plan.guests;
  open_engine(log);
}

// With as many guests and flows as the capture has at one time.
void WhatIf::open_engine(FILE* log) {
  const Plan& plan = result_.plan;
  const size_t guest_count =
      std::clamp<uint64_t>(plan.guests.list.size() + plan.idle, 1, Guests::most);
  guests_.resize(guest_count);
  vsnoop_config config{};
  vsnoop_defaults(&config);
  // Of half-open connections an engine remembers a quarter as many as of flows. Flows that are over
  // are swept out late.
  constexpr uint32_t most_flows = 1 << 20;
  const uint32_t established = std::min(plan.most_established, most_flows / 2) * 2;
  config.flows = std::clamp(std::max(established, plan.most_open), 64u, most_flows);
  config.custodies = std::max(established, 64u);
  config.guests = static_cast<uint32_t>(guest_count);
  config.budget = 0;
  config.seed[0] = 0x7265706c6179;  // fixed: the same capture gives the same report
  config.seed[1] = 0x76736e6f6f70;
  if (log) {
    config.log_context = log;
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
  guest.policy = static_cast<uint8_t>(options_.policy);
  guest.engage = VSNOOP_ENGAGE_ALWAYS;
  guest.early_sack = options_.early_sack;
  constexpr uint64_t most = UINT32_MAX;
  if (options_.policy == VSNOOP_POLICY_RING) {
    guest.budget = static_cast<uint32_t>(
        options_.ring ? std::min<uint64_t>(uint64_t{options_.ring} * slot_bytes, most) : most);
  } else if (options_.hold) {
    guest.budget = static_cast<uint32_t>(std::min(options_.hold, most));
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

uint64_t WhatIf::clock(int64_t ns) { return last_clock_ = std::max(last_clock_, time_of(ns)); }

// Only hosts known to offload may leave a checksum unfilled; from others it is just wrong.
void WhatIf::settle_checksum(Segment& segment) const {
  if (segment.checksum == Checksum::partial && !result_.plan.partial.contains(segment.source)) {
    segment.checksum = Checksum::bad;
  } else if (segment.checksum == Checksum::unknown && options_.assume_checksums) {
    segment.checksum = Checksum::good;
  }
}

// Which guest a frame is for that belongs to no connection (UDP, say).
void WhatIf::route(Event& event) const {
  if (event.foreign) return;
  if (event.connection) {
    const End& guest = event.connection->guest_end;
    event.guest = event.connection->guest;
    event.from_guest =
        event.segment.source == guest.address && event.segment.source_port == guest.port;
  } else if (const int to = result_.guests.find(event.segment.destination, 0); to >= 0) {
    event.guest = static_cast<uint16_t>(to);
  } else if (const int from = result_.guests.find(event.segment.source, 0); from >= 0) {
    event.guest = static_cast<uint16_t>(from);
    event.from_guest = true;
  }
}

// Only the guest's segments are moved to when its VCPU runs. What the peer sent keeps its time but
// for causality: an answer moves as far as its question, data as far as the window that let it go.
int64_t WhatIf::plan_time(const Event& event, int64_t captured_ns) {
  if (!options_.vcpu || !event.connection) return captured_ns;
  const Segment& segment = event.segment;
  Lag& lag = *event.connection->lag;
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

// The SYN of a connection, which was taken for one of the connection before it on the same tuple.
void WhatIf::replay_opening(Live& live, const Segment& opening) {
  Event event;
  event.segment = opening;
  event.connection = &live;
  settle_checksum(event.segment);
  if (event.segment.checksum == Checksum::bad) return;
  route(event);
  if (live.lag) live.lag->handshake.learn(event.segment, event.from_guest);
  if (event.from_guest) {
    live.oracle.from_guest(event.segment, last_read_ns_);
  } else {
    live.oracle.from_peer(event.segment);
  }
}

// Who of a new connection is the guest, if anybody.
void WhatIf::choose(Live& live, const ConnectionTable::Numbered& numbered, const Segment& segment) {
  std::array<End, 2> ends{End{segment.source, segment.source_port},
                          End{segment.destination, segment.destination_port}};
  const bool high_first = ends[1] < ends[0];
  if (high_first) std::swap(ends[0], ends[1]);
  const uint8_t lane = live.lane = table_.lane(numbered.slot);
  const int side = choose_guest(ends, result_.plan.received.of(numbered.number), high_first, lane,
                                options_.guests, result_.guests);
  live.guest_end = ends[side == 1];
  live.peer_end = ends[side != 1];
  if (numbered.late || numbered.copy) {
    live.unseen = numbered.late ? Unseen::late : Unseen::copy;
    return;
  }
  const int guest = side < 0 ? -1 : result_.guests.add(live.guest_end.address, lane);
  if (guest < 0 || static_cast<size_t>(guest) >= guests_.size()) {
    live.unseen = Unseen::without_guest;
    return;
  }
  live.guest = static_cast<uint16_t>(guest);
  result_.guests.list[live.guest].connections++;
}

WhatIf::Live& WhatIf::begin(const ConnectionTable::Numbered& numbered, const Segment& segment) {
  std::unique_ptr<Lag> lag = options_.vcpu ? std::make_unique<Lag>() : nullptr;
  if (numbered.replaced) {
    // It comes after all of the one before it, however late that is.
    if (const Live* const before = live_[numbered.slot].get(); before && before->lag)
      lag->follow(*before->lag);
    end(numbered.slot, true);
  }
  if (numbered.slot >= live_.size()) live_.resize(numbered.slot + 1);
  auto& live = live_[numbered.slot];
  live = std::make_unique<Live>();
  live->lag = std::move(lag);
  live->oracle = Oracle([this, self = live.get()](const std::string& text) {
    violation(fmt::format("flow {} ({} -> {})", self->number + 1,
                          to_text(self->peer_end.address, self->peer_end.port),
                          to_text(self->guest_end.address, self->guest_end.port)),
              text);
  });
  live->number = numbered.number;
  choose(*live, numbered, segment);
  if (numbered.opening && live->unseen == Unseen::no) replay_opening(*live, *numbered.opening);
  return *live;
}

// The table has forgotten a connection, or a new one has its tuple.
void WhatIf::end(uint32_t slot, bool reused) {
  if (slot >= live_.size() || !live_[slot]) return;
  std::unique_ptr<Live> live = std::move(live_[slot]);
  live->over = true;
  live->reused = reused;
  if (live->waiting) {
    parting_.push_back(std::move(live));
  } else {
    judge_end(std::move(live));
  }
}

void WhatIf::judge_end(std::unique_ptr<Live> live) {
  live->oracle.finish(live->reused);
  result_.diverged += live->oracle.diverged();
  on_end_({live->number,
           live->unseen == Unseen::no,
           live->peer_end,
           live->guest_end,
           {std::move(live->flow), live->oracle.result()}});
}

// Finds the connection of a TCP segment.
void WhatIf::connect(Event& event) {
  table_.forget(event.frame.time_ns, [this](uint32_t slot) { end(slot, false); });
  const auto numbered = table_.number(event.segment, event.frame.place,
                                      [&event] { return event.segment.checksum == Checksum::bad; });
  settle_checksum(event.segment);
  Live& live = numbered.is_new ? begin(numbered, event.segment) : *live_[numbered.slot];
  switch (live.unseen) {
    case Unseen::no:
      if (numbered.repeated) {
        result_.copies++;
        break;
      }
      event.connection = &live;
      return;
    case Unseen::without_guest:
      result_.without_guest++;
      break;
    case Unseen::copy:
      result_.copies++;
      break;
    case Unseen::late:
      result_.late++;
      break;
  }
  event.foreign = true;
}

void WhatIf::frame(CapturedFrame& frame) {
  if (frame.time_ns < last_read_ns_) result_.clock_steps++;
  last_read_ns_ = std::max(last_read_ns_, frame.time_ns);
  Event& event = now_;
  event.segment = peek_segment(frame.bytes, frame.wire);
  judge(frame.bytes, event.segment);
  event.connection = nullptr;
  event.from_guest = event.foreign = false;
  event.guest = 0;
  std::swap(event.frame, frame);
  if (event.segment.kind == Segment::Kind::tcp) connect(event);
  route(event);
  if (event.connection && !event.from_guest) {
    result_.guests.list[event.guest].received += event.segment.payload;
  }
  const int64_t at = plan_time(event, last_read_ns_);
  if (!options_.vcpu) {
    run_timers(time_of(at));
    happen(event, at);
  } else {
    frames_waiting_++;
    if (event.connection) event.connection->waiting++;
    events_.emplace(When{at, {1, order_++}}, std::move(event));
    advance(last_read_ns_);
  }
}

void WhatIf::finish() {
  advance(INT64_MAX);
  std::vector<std::unique_ptr<Live>> left;
  for (auto* list : {&live_, &parting_}) {
    for (auto& live : *list) {
      if (live) left.push_back(std::move(live));
    }
    list->clear();
  }
  std::sort(left.begin(), left.end(),
            [](const auto& a, const auto& b) { return a->number < b->number; });
  for (auto& live : left) judge_end(std::move(live));
  for (uint16_t id = 0; id < guests_.size(); id++) {
    result_.guest_stats.push_back(*vsnoop_stats(engine_, id));
  }
}

// The engine's clock at a time of the capture.
uint64_t WhatIf::time_of(int64_t ns) const {
  const auto since = static_cast<uint64_t>(std::max<int64_t>(0, ns - result_.plan.first_ns));
  return clock_start_us + since / 1000;
}

// What is due until then, in its order.
void WhatIf::run_timers(uint64_t until) {
  int ticks = 0, ticks_of_gap = 0;
  for (uint64_t due; (due = vsnoop_deadline(engine_)) <= until;) {
    const bool skip = ++ticks_of_gap > most_ticks_of_gap;
    const uint64_t now = last_clock_ = std::max(last_clock_, skip ? until : due);
    const int64_t now_ns =
        result_.plan.first_ns + static_cast<int64_t>(now - clock_start_us) * 1000;
    release(vsnoop_tick(engine_, now));
    emit(now_ns);
    for (uint16_t id = 0; held_now_ && id < guests_.size(); id++) {
      if (vsnoop_stats(engine_, id)->held) pump(id, now_ns);
    }
    ticks = vsnoop_deadline(engine_) <= now ? ticks + 1 : 0;
    if (ticks > most_ticks) throw std::runtime_error("the engine's timers do not advance");
    // A wake-up that was planned just now comes first.
    if (!events_.empty() && time_of(events_.begin()->first.first) < until) return;
  }
}

// Runs timers and delayed frames in the order of their times. At the end of the file (INT64_MAX)
// time stops with the last frame: what would have happened later the capture cannot judge.
void WhatIf::advance(int64_t until_ns) {
  while (!events_.empty()) {
    const When when = events_.begin()->first;
    if (when.first > until_ns || (until_ns == INT64_MAX && !frames_waiting_)) break;
    run_timers(time_of(when.first));
    if (events_.begin()->first != when) continue;  // a wake-up was planned before it
    Event event = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    Live* const live = event.connection;
    if (!event.wake) frames_waiting_--;
    happen(event, when.first);
    if (!live || --live->waiting || !live->over) continue;
    const auto parted = std::find_if(parting_.begin(), parting_.end(),
                                     [live](const auto& owner) { return owner.get() == live; });
    judge_end(std::move(*parted));
    parting_.erase(parted);
  }
}

void WhatIf::happen(Event& event, int64_t now_ns) {
  if (event.wake) {
    guests_[event.guest].wake_planned = false;
  } else {
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

// What the engine is shown. VLANs tell connections apart, and so does the engine; but in a capture
// the two directions of one may carry different tags, and replay has told them apart itself (the
// guest's number says which): so without them.
vsnoop_frame WhatIf::describe(const Event& event) {
  const CapturedFrame& frame = event.frame;
  const uint32_t memory = options_.policy == VSNOOP_POLICY_RING ? slots_of(frame.wire) * slot_bytes
                                                                : frame.wire + frame_overhead;
  uint8_t checksum = VSNOOP_CHECKSUM_UNKNOWN;
  switch (event.segment.checksum) {
    case Checksum::partial:
      checksum = VSNOOP_CHECKSUM_PARTIAL;
      break;
    case Checksum::good:
      checksum = VSNOOP_CHECKSUM_VERIFIED;
      break;
    case Checksum::bad:
      checksum = VSNOOP_CHECKSUM_BAD;
      break;
    case Checksum::unknown:
    case Checksum::unread:
      break;
  }
  const size_t tags = tag_bytes(frame.bytes);
  if (!tags)
    return {frame.bytes.data(), static_cast<uint32_t>(frame.bytes.size()), frame.wire, memory,
            checksum};
  const auto begin = frame.bytes.begin();
  untagged_.assign(begin, begin + mac_bytes);
  untagged_.insert(untagged_.end(), begin + static_cast<ptrdiff_t>(mac_bytes + tags),
                   frame.bytes.end());
  return {untagged_.data(), static_cast<uint32_t>(untagged_.size()),
          frame.wire - static_cast<uint32_t>(tags), memory, checksum};
}

void WhatIf::from_peer(Event& event, int64_t now_ns) {
  const Segment& segment = event.segment;
  const uint64_t now = clock(now_ns);
  Live* const live = event.connection;
  if (live) {
    live->begun = true;
    live->oracle.from_peer(segment);
  }
  const vsnoop_frame frame = describe(event);
  const vsnoop_verdict verdict = vsnoop_from_peer(engine_, event.guest, &frame, now);
  if (live) {
    FlowCounts& flow = live->flow;
    flow.verdicts[verdict.reason] += {1, segment.payload};
    if (segment.payload) {
      flow.from_peer += {1, segment.payload};
      if (vsnoop_reason_class(verdict.reason) != VSNOOP_CLASS_promised) {
        flow.refusals[verdict.reason] += {1, segment.payload};
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
    keep(event, verdict, action, now);
  }
  if (action == VSNOOP_PASS) guest.passing.push_back(slots);
  if (action == VSNOOP_DROP && live && segment.payload) live->oracle.withheld(segment);
}

void WhatIf::keep(Event& event, const vsnoop_verdict& verdict, uint8_t& action, uint64_t now) {
  if (free_.empty()) free_.push_back(&held_.emplace_back());
  Held& held = *free_.back();
  static_cast<vsnoop_held&>(held) = {};
  if (!vsnoop_taken(engine_, &verdict, &held, now)) {
    action = vsnoop_declined(engine_, &verdict, now);
    return;
  }
  free_.pop_back();
  std::swap(held.bytes, event.frame.bytes);
  held.wire = event.frame.wire;
  held.slots = slots_of(event.frame.wire);
  held.checksum = event.segment.checksum;
  held.in_ring = false;
  held.in_use = true;
  held_now_++;
}

void WhatIf::free_held(vsnoop_held* gone) {
  auto* const held = static_cast<Held*>(gone);
  held->in_use = false;
  held_now_--;
  free_.push_back(held);
}

void WhatIf::from_guest(Event& event, int64_t now_ns) {
  const Segment& segment = event.segment;
  Live* const live = event.connection;
  if (live) {
    live->begun = true;
    live->oracle.from_guest(segment, now_ns);
    const auto tags = event.frame.bytes.begin() + mac_bytes;
    live->tags.assign(tags, tags + static_cast<ptrdiff_t>(tag_bytes(event.frame.bytes)));
  }
  const vsnoop_frame frame = describe(event);
  const vsnoop_verdict verdict = vsnoop_from_guest(engine_, event.guest, &frame, clock(now_ns));
  show(event, now_ns, verdict);
  release(verdict.released);
  if (!live) {
    if (verdict.action == VSNOOP_DROP) violation("no flow", "I6: dropped a frame it cannot know");
    return;
  }
  Oracle& oracle = live->oracle;
  FlowCounts& flow = live->flow;
  flow.verdicts[verdict.reason] += {1, segment.payload};
  flow.from_guest++;
  flow.pure_acks += segment.flags == ack_flag && !segment.payload;
  if (verdict.action == VSNOOP_DROP) {
    flow.acks_dropped += verdict.reason == VSNOOP_REASON_guest_covered;
    oracle.dropped(segment);
  } else if (verdict.action == VSNOOP_EDIT) {
    flow.rebased++;
    std::vector<uint8_t>& bytes = scratch_;
    bytes = event.frame.bytes;
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
  if (!event.frame.readable) return;
  const Live* const live = event.connection;
  for (Observer* observer : observers_) {
    observer->on_frame({event.frame, event.segment, now_ns, live ? live->number : no_connection,
                        event.from_guest, verdict, live ? &live->oracle : nullptr});
  }
}

bool WhatIf::room(const GuestState& guest, uint32_t slots) const {
  return !options_.ring || guest.ring_used + slots <= options_.ring || guest.ring.empty();
}

// What the guest would get must still be a whole segment.
void WhatIf::check_delivery(const vsnoop_feed& feed, const Held& held) {
  if (!feed.edit.what && !feed.skip && feed.keep >= held.length) return;  // as it came
  std::vector<uint8_t>& bytes = scratch_;
  bytes = held.bytes;
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
    if (!is_held(feed.held)) {
      violation("delivery", "the engine offers a frame that is not held");
      return false;
    }
    Held& held = *static_cast<Held*>(feed.held);
    if (feed.discard) {
      vsnoop_fed(engine_, id, &feed, clock(now_ns));
      free_held(&held);
      continue;
    }
    if (!room(guest, held.slots)) break;
    check_delivery(feed, held);
    vsnoop_fed(engine_, id, &feed, clock(now_ns));
    guest.ring.push_back({held.slots, 0, feed.retain && !feed.more ? feed.held : nullptr});
    guest.ring_used += held.slots;
    held.in_ring = !feed.more;
    if (!feed.retain) free_held(&held);
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
    if (vsnoop_consumed(engine_, entry.held, clock(now_ns))) free_held(entry.held);
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

// The engine learns of a new connection on a tuple when its first segment happens; with a virtual
// CPU that is later than it is read. 0: the engine has nothing to do with it any more.
WhatIf::Live* WhatIf::shown(Live& youngest) const {
  if (youngest.begun) return &youngest;
  const auto before = std::find_if(parting_.rbegin(), parting_.rend(), [&](const auto& live) {
    return live->begun && live->peer_end == youngest.peer_end &&
           live->guest_end == youngest.guest_end && live->lane == youngest.lane;
  });
  return before == parting_.rend() ? nullptr : before->get();
}

void WhatIf::emit(int64_t now_ns) {
  std::array<uint8_t, VSNOOP_EMIT_MAX> buffer;
  std::vector<uint8_t> tagged;
  vsnoop_emission emission{};
  while (vsnoop_emit(engine_, &emission, buffer.data(), clock(now_ns))) {
    std::span<const uint8_t> bytes(buffer.data(), emission.length);
    const Segment segment = parse_segment(bytes, emission.length);
    const uint8_t lane =
        emission.guest < result_.guests.list.size() ? result_.guests.list[emission.guest].lane : 0;
    const uint32_t slot =
        segment.kind == Segment::Kind::tcp ? table_.find(segment, lane) : ConnectionTable::none;
    Live* const youngest = slot == ConnectionTable::none ? nullptr : live_[slot].get();
    if (!youngest && !table_.has_forgotten()) {
      violation("emission", "the frame belongs to no connection of the capture");
    }
    Live* const owner = youngest ? shown(*youngest) : nullptr;
    if (!owner) continue;
    Live& live = *owner;
    FlowCounts& flow = live.flow;
    if (!emission.to_guest) live.oracle.emitted(segment, now_ns);
    if (segment.has(rst)) {
      flow.resets++;
    } else if (emission.reason == VSNOOP_REASON_early_ack) {
      flow.early_acks++;
    } else {
      flow.other_emissions++;
    }
    if (!live.tags.empty()) {
      tagged.assign(bytes.begin(), bytes.end());
      tagged.insert(tagged.begin() + mac_bytes, live.tags.begin(), live.tags.end());
      bytes = tagged;
    }
    for (Observer* observer : observers_) {
      observer->on_emission({bytes, segment, now_ns, live.number, emission, &live.oracle});
    }
  }
}

void WhatIf::release(vsnoop_held* list) {
  while (list) {
    vsnoop_held* next = list->next;
    if (!is_held(list) || static_cast<Held*>(list)->in_ring) {
      violation("release", "the engine freed a frame that is in the ring or not held");
      return;
    }
    free_held(list);
    list = next;
  }
}

}  // namespace vsnoop::replay
