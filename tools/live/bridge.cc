// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/bridge.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

namespace vsnoop::live {
namespace {

constexpr int kBatch = 64;
constexpr uint16_t kGuest = 0;
constexpr uint64_t kRetry = 200 * kMicrosecond;   // a device without room
constexpr uint64_t kReopen = 100 * kMillisecond;  // an interface that is gone
constexpr unsigned kNamedASecond = 20;            // broken connections
constexpr int kLastTries = 200;                   // of a millisecond, when the bridge stops
constexpr uint64_t kCatchUp = 20 * kMillisecond;  // most that a late wake-up may be made up for

uint64_t clock_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * kSecond + static_cast<uint64_t>(time.tv_nsec);
}

uint64_t us(uint64_t ns) { return ns / kMicrosecond; }

// "10.0.0.1:80" or "[fd00::1]:80"; the address as in vsnoop_flow_info.
std::string endpoint(const uint8_t* address, uint16_t port) {
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  char text[INET6_ADDRSTRLEN] = "";
  if (std::memcmp(address, kMapped, sizeof kMapped) == 0)
    return fmt::format("{}:{}", inet_ntop(AF_INET, address + 12, text, sizeof text), port);
  return fmt::format("[{}]:{}", inet_ntop(AF_INET6, address, text, sizeof text), port);
}

}  // namespace

uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

Bridge::Bridge(const BridgeConfig& config, PortInterface& peer, PortInterface& guest,
               FramePool& pool, uint64_t now)
    : config_(config),
      peer_(peer),
      guest_(guest),
      pool_(pool),
      vcpu_(config.vcpu, now),
      link_in_(config.rate),
      link_out_(config.rate),
      ring_(config.ring_slots) {
  if (config_.guest.policy != VSNOOP_POLICY_OFF) create_engine(now);
}

void Bridge::on_broken(void* self, const struct vsnoop_flow_info* flow, uint32_t bytes,
                       uint8_t reason) {
  auto& bridge = *static_cast<Bridge*>(self);
  ++bridge.counts_.connections_broken;
  if (++bridge.told_ > kNamedASecond) return;
  bridge.tell(fmt::format(
      "reset {} -> {}: {} bytes that the sender was told had arrived were not confirmed ({})",
      endpoint(flow->peer_address, flow->peer_port),
      endpoint(flow->guest_address, flow->guest_port), bytes, vsnoop_reason_text(reason)));
}

void Bridge::create_engine(uint64_t now) {
  config_.engine.broken = &on_broken;
  config_.engine.broken_context = this;
  const size_t bytes = vsnoop_memory_needed(&config_.engine);
  if (bytes == 0) throw std::runtime_error("--flows or --total is out of range");
  memory_.reset(std::aligned_alloc(64, (bytes + 63) & ~size_t{63}));
  if (memory_) engine_ = vsnoop_create(memory_.get(), bytes, &config_.engine);
  if (!engine_ || vsnoop_guest_open(engine_, kGuest, &config_.guest, us(now)) != 0)
    throw std::runtime_error("the engine could not be set up: too little memory for --flows?");
}

// ---- peer to guest

uint64_t Bridge::arrival_of(const Packet& packet, uint64_t now) const {
  if (packet.arrival == 0 || !link_in_.limited()) return now;
  return std::clamp(packet.arrival - clock_offset_, now - kCatchUp, now);
}

bool Bridge::read_peer(uint64_t now) {
  peer_head_due_ = kNever;
  bool any = false;
  Packet packet;
  for (int i = 0; i < kBatch && peer_.peek(packet, now); ++i) {
    if (link_in_.limited()) {
      const uint64_t bytes = wire_bytes(packet.length, packet.vnet);
      // Asked for once: a frame of "just now" would arrive anew in each turn, and never be due.
      if (peer_head_arrival_ == 0) peer_head_arrival_ = arrival_of(packet, now);
      const uint64_t due = link_in_.due(peer_head_arrival_, bytes);
      if (due > now) {
        peer_head_due_ = due;
        break;
      }
      link_in_.passed(peer_head_arrival_, bytes);
      peer_head_arrival_ = 0;
    }
    counts_.from_peer.count(packet.length);
    from_peer(packet, now);
    peer_.pop(packet);
    any = true;
  }
  return any;
}

void Bridge::from_peer(Packet& packet, uint64_t now) {
  if (!engine_) return to_guest(packet, now);

  const bool ring_policy = config_.guest.policy == VSNOOP_POLICY_RING;
  const uint32_t memory = ring_policy
                              ? GuestRing<InRing>::slots_for(packet.length) * ring_.kSlotBytes
                          : packet.frame ? FramePool::cost(*packet.frame)
                                         : FramePool::cost(packet.length);
  const vsnoop_frame frame{packet.data, packet.length, packet.length, memory, packet.checksum};
  const vsnoop_verdict verdict = vsnoop_from_peer(engine_, kGuest, &frame, us(now));
  pool_.give_list(verdict.released);
  switch (verdict.action) {
    case VSNOOP_PUSH:
      if (guest_up_ && push(packet, memory)) {
        vsnoop_taken(engine_, &verdict, nullptr, us(now));
      } else {
        vsnoop_declined(engine_, &verdict, us(now));  // nor is there room for it unpromised
        ++(guest_up_ ? counts_.ring_full : counts_.guest_down);
      }
      break;
    case VSNOOP_KEEP:
      if (Frame* kept = pool_.own(packet)) {
        if (vsnoop_taken(engine_, &verdict, &kept->held, us(now))) break;
        if (vsnoop_declined(engine_, &verdict, us(now)) == VSNOOP_PASS) {
          packet = {kept->data(), kept->length, kept->checksum, kept->vnet, kept, packet.arrival};
          to_guest(packet, now);
        } else {
          pool_.give(kept);
          ++counts_.engine_from_peer;
        }
      } else {
        ++counts_.no_buffer;
        vsnoop_declined(engine_, &verdict, us(now));
      }
      break;
    case VSNOOP_DROP:
      ++counts_.engine_from_peer;
      break;
    default:
      to_guest(packet, now);
  }
}

// A frame that nobody promised: the ring or nothing.
void Bridge::to_guest(Packet& packet, uint64_t now) {
  if (!guest_up_) {
    ++counts_.guest_down;
    return;
  }
  if (ring_.empty() && running_ && now >= guest_retry_) {
    const Sent sent = send_to_guest(Outgoing::of(packet), now);
    if (sent == Sent::kDown)
      ++counts_.guest_down;
    else if (engine_ && sent != Sent::kLater)
      vsnoop_progress(engine_, kGuest, 0, us(now));
    if (sent != Sent::kLater) return;
  }
  if (!push(packet, 0)) ++counts_.ring_full;
}

bool Bridge::push(Packet& packet, uint32_t memory) {
  if (!ring_.fits(packet.length, Entry::kDirect)) return false;
  Frame* frame = pool_.own(packet);
  if (!frame) return false;
  ring_.push({frame, nullptr, false, false, memory}, frame->length);
  return true;
}

// Custody to ring, as far as there is room.
void Bridge::feed(uint64_t now) {
  if (!engine_ || !guest_up_) return;
  vsnoop_feed feed;
  while (vsnoop_next(engine_, kGuest, &feed, us(now))) {
    if (feed.discard) {
      vsnoop_fed(engine_, kGuest, &feed, us(now));
      pool_.give(Frame::of(feed.held));
      continue;
    }
    if (!ring_.fits(Frame::of(feed.held)->length, Entry::kCustody)) return;
    InRing entry{};
    if (!prepare(feed, entry)) {
      ++counts_.no_buffer;
      return;
    }
    // A piece of a frame that stays where it is: the copy is all there is in the ring.
    if (feed.more) entry = {entry.copy, nullptr, true, false, 0};
    ring_.push(entry, outgoing(entry).length());
    vsnoop_fed(engine_, kGuest, &feed, us(now));
  }
}

// What the engine wants in the ring, made out of what is in custody. While the engine may want the
// held frame again it stays as it came: only headers are copied, or a frame that is cut.
bool Bridge::prepare(const vsnoop_feed& feed, InRing& entry) {
  Frame* frame = Frame::of(feed.held);
  const bool cut = feed.skip != 0 || feed.keep != feed.held->length;
  entry = {frame, nullptr, cut, feed.retain != 0, 0};
  if (entry.retained && (cut || feed.edit.what)) {
    Outgoing part = Outgoing::of(*frame);
    const uint32_t headers = header_end(frame->data(), frame->length);
    if (!cut && headers != 0) part.head_length = headers;
    if (!(entry.copy = pool_.copy(part))) return false;
  }
  Frame* changed = entry.copy ? entry.copy : frame;
  const bool open = changed->checksum == VSNOOP_CHECKSUM_PARTIAL;
  if (cut) {
    const uint32_t length =
        vsnoop_trim(changed->data(), changed->length, feed.skip, feed.keep, open);
    if (length != 0) changed->length = length;
    if (feed.keep <= changed->vnet.gso_size) {
      changed->vnet.gso_type = kVnetNoGso;
      changed->vnet.gso_size = 0;
    }
  }
  if (feed.edit.what) vsnoop_apply_edit(changed->data(), changed->length, &feed.edit, open);
  return true;
}

Outgoing Bridge::outgoing(const InRing& entry) {
  if (!entry.copy) return Outgoing::of(*entry.frame);
  Outgoing out = Outgoing::of(*entry.copy);
  if (!entry.whole) {
    out.body = entry.frame->data() + entry.copy->length;
    out.body_length = entry.frame->length - entry.copy->length;
  }
  return out;
}

// The guest takes frames out of its ring; `all`: as many as there are.
bool Bridge::deliver(uint64_t now, bool all) {
  if (now < guest_retry_) return false;
  bool any = false;
  uint32_t memory = 0;
  for (int i = 0; (i < kBatch || all) && !ring_.empty(); ++i) {
    const InRing entry = ring_.front();
    const Sent sent = send_to_guest(outgoing(entry), now);
    if (sent == Sent::kLater || sent == Sent::kDown) break;
    ring_.pop();
    any = true;
    memory += entry.memory;
    if (entry.copy) pool_.give(entry.copy);
    if (!entry.retained || vsnoop_consumed(engine_, &entry.frame->held, us(now)))
      pool_.give(entry.frame);
  }
  if (any && engine_) vsnoop_progress(engine_, kGuest, memory, us(now));
  return any;
}

Sent Bridge::send_to_guest(const Outgoing& frame, uint64_t now) {
  const Sent sent = guest_.send(frame, now);
  switch (sent) {
    case Sent::kYes:
      counts_.to_guest.count(frame.length());
      break;
    case Sent::kLater:
      guest_retry_ = now + kRetry;
      break;
    case Sent::kFailed:
      ++counts_.send_failed;
      break;
    case Sent::kDown:
      lose_guest(now);
      break;
  }
  return sent;
}

// ---- guest to peer

bool Bridge::read_guest(uint64_t now) {
  guest_blocked_ = false;
  bool any = false;
  Packet packet;
  for (int i = 0; i < kBatch && guest_.peek(packet, now); ++i) {
    if (link_queue_bytes_ >= config_.link_queue) {
      guest_blocked_ = true;
      break;
    }
    counts_.from_guest.count(packet.length);
    // What it sent while its virtual CPU was away cannot have left before that came back.
    const uint64_t since = std::max(arrival_of(packet, now), std::min(vcpu_.running_since(), now));
    from_guest(packet, since, now);
    guest_.pop(packet);
    any = true;
  }
  return any;
}

void Bridge::from_guest(Packet& packet, uint64_t since, uint64_t now) {
  if (engine_) {
    const vsnoop_frame frame{packet.data, packet.length, packet.length,
                             FramePool::cost(packet.length), packet.checksum};
    const vsnoop_verdict verdict = vsnoop_from_guest(engine_, kGuest, &frame, us(now));
    pool_.give_list(verdict.released);
    if (verdict.action == VSNOOP_DROP) {
      ++counts_.engine_from_guest;
      return;
    }
    if (verdict.action == VSNOOP_EDIT)
      vsnoop_apply_edit(packet.data, packet.length, &verdict.edit,
                        packet.checksum == VSNOOP_CHECKSUM_PARTIAL);
  }
  to_peer(packet, since, now);
}

// `since`: when the link could have begun with it.
void Bridge::to_peer(Packet& packet, uint64_t since, uint64_t now) {
  if (link_queue_.empty() && now >= peer_retry_) {
    const uint64_t bytes = wire_bytes(packet.length, packet.vnet);
    if (link_out_.due(since, bytes) <= now &&
        send_to_peer(Outgoing::of(packet), now) != Sent::kLater) {
      link_out_.passed(since, bytes);
      return;
    }
  }
  Frame* frame = pool_.own(packet);
  if (!frame) {
    ++counts_.no_buffer;
    return;
  }
  link_queue_.push({frame, since});
  link_queue_bytes_ += frame->length;
  counts_.peak_queue = std::max(counts_.peak_queue, link_queue_bytes_);
}

// Sends what waits for the link and is due; `all`: due or not.
bool Bridge::flush_link(uint64_t now, bool all) {
  bool any = false;
  link_due_ = kNever;
  while (!link_queue_.empty()) {
    const OnLink item = link_queue_.front();
    const uint64_t bytes = wire_bytes(item.frame->length, item.frame->vnet);
    link_due_ = std::max(link_out_.due(item.since, bytes), peer_retry_);
    if (link_due_ > now && !all) break;
    if (send_to_peer(Outgoing::of(*item.frame), now) == Sent::kLater) {
      link_due_ = peer_retry_;
      break;
    }
    link_out_.passed(item.since, bytes);
    link_queue_bytes_ -= item.frame->length;
    pool_.give(item.frame);
    link_queue_.pop();
    link_due_ = kNever;
    any = true;
  }
  return any;
}

Sent Bridge::send_to_peer(const Outgoing& frame, uint64_t now) {
  const Sent sent = peer_.send(frame, now);
  switch (sent) {
    case Sent::kYes:
      counts_.to_peer.count(frame.length());
      break;
    case Sent::kLater:
      peer_retry_ = now + kRetry;
      break;
    case Sent::kFailed:
      ++counts_.send_failed;
      break;
    case Sent::kDown:
      ++counts_.peer_down;
      break;
  }
  return sent;
}

// ---- what the engine owes, timers

void Bridge::emit(uint64_t now) {
  if (!engine_) return;
  uint8_t bytes[VSNOOP_EMIT_MAX];
  vsnoop_emission emission;
  while (vsnoop_emit(engine_, &emission, bytes, us(now))) {
    ++counts_.emitted;
    Packet packet{bytes, emission.length, VSNOOP_CHECKSUM_VERIFIED, {}, nullptr, 0};
    if (!emission.to_guest) {
      to_peer(packet, now, now);
    } else if (guest_up_) {
      if (Frame* frame = pool_.own(packet))
        ring_.push({frame, nullptr, false, false, 0}, emission.length);
      else
        ++counts_.no_buffer;
    } else {
      ++counts_.guest_down;
    }
  }
}

bool Bridge::run_timers(uint64_t now) {
  ports_due_ = std::min(peer_.run(now), guest_.run(now));
  if (!engine_ || vsnoop_deadline(engine_) > us(now)) return false;
  pool_.give_list(vsnoop_tick(engine_, us(now)));
  return true;
}

// ---- interfaces that come and go

void Bridge::lose_guest(uint64_t now) {
  guest_up_ = stopped_ = false;
  guest_lost_at_ = now;
  ++counts_.guest_lost;
  tell(fmt::format("the guest's interface is gone; {} promised bytes are kept for it",
                   outstanding()));
  std::vector<Frame*> held;
  uint32_t memory = 0;
  for (; !ring_.empty(); ring_.pop()) {
    const InRing entry = ring_.front();
    memory += entry.memory;
    if (entry.copy) pool_.give(entry.copy);
    if (entry.retained) {
      held.push_back(entry.frame);
    } else {
      pool_.give(entry.frame);
      ++counts_.guest_down;
    }
  }
  if (!engine_) return;
  if (memory) vsnoop_progress(engine_, kGuest, memory, us(now));
  // Each goes before all others: the last one first.
  for (auto frame = held.rbegin(); frame != held.rend(); ++frame)
    vsnoop_returned(engine_, &(*frame)->held, us(now));
}

void Bridge::watch_ports(uint64_t now) {
  if (guest_up_ && !guest_.up()) lose_guest(now);
  if (!guest_up_ && !stopped_ && now >= guest_lost_at_ + config_.grace) {
    stopped_ = true;
    tell("the guest's interface did not come back in time; its connections end");
    if (engine_) pool_.give_list(vsnoop_guest_stop(engine_, kGuest, us(now)));
  }
  if (peer_up_ && !peer_.up()) {
    peer_up_ = false;
    ++counts_.peer_lost;
    tell("the peer's interface is gone");
  }
  if (now >= told_since_ + kSecond) {
    if (told_ > kNamedASecond) tell(fmt::format("and {} more", told_ - kNamedASecond));
    told_ = 0;
    told_since_ = now;
  }
  if ((peer_up_ && guest_up_) || now < reopen_at_) return;
  reopen_at_ = now + kReopen;
  if (!peer_up_ && (peer_up_ = peer_.reopen())) tell("the peer's interface is back");
  if (!guest_up_ && (guest_up_ = guest_.reopen())) tell("the guest's interface is back");
}

// ---- the loop

bool Bridge::turn(uint64_t now) {
  if (link_in_.limited()) clock_offset_ = clock_ns(CLOCK_REALTIME) - now;
  watch_ports(now);
  Packet packet;
  const bool work = !ring_.empty() || guest_.peek(packet, now);
  running_ = vcpu_.advance(now, work) && guest_up_;

  bool any = read_peer(now);
  feed(now);
  emit(now);
  if (running_) {
    any |= deliver(now, false);
    feed(now);
    any |= read_guest(now);
    emit(now);
  }
  any |= flush_link(now, false);
  any |= run_timers(now);
  // What came into the ring in this turn wakes a guest that sleeps.
  return any || (vcpu_.asleep() && !ring_.empty());
}

uint64_t Bridge::next_event() const {
  uint64_t next = std::min({peer_head_due_, link_due_, vcpu_.next_event(), ports_due_});
  if (engine_) {
    const uint64_t deadline = vsnoop_deadline(engine_);
    if (deadline < kNever / kMicrosecond) next = std::min(next, deadline * kMicrosecond);
  }
  if (running_ && !ring_.empty()) next = std::min(next, guest_retry_);
  if (!peer_up_ || !guest_up_) next = std::min(next, reopen_at_);
  if (!guest_up_ && !stopped_) next = std::min(next, guest_lost_at_ + config_.grace);
  return next;
}

void Bridge::wait(uint64_t until, int wake) {
  until = std::min(until, next_event());
  const uint64_t now = now_ns();
  if (until <= now) return;
  timespec timeout{static_cast<time_t>((until - now) / kSecond),
                   static_cast<long>((until - now) % kSecond)};
  const bool want_peer = peer_head_due_ == kNever;
  const bool want_guest = guest_up_ && !guest_blocked_ && (running_ || vcpu_.asleep());
  const auto peer_events = static_cast<short>(want_peer ? POLLIN : 0);
  const auto guest_events = static_cast<short>(want_guest ? POLLIN : 0);
  pollfd sources[] = {{peer_.descriptor(), peer_events, 0},
                      {guest_.descriptor(), guest_events, 0},
                      {peer_.second_descriptor(), peer_events, 0},
                      {guest_.second_descriptor(), guest_events, 0},
                      {wake, POLLIN, 0}};
  if (ppoll(sources, std::size(sources), until == kNever ? nullptr : &timeout, nullptr) <= 0)
    return;
  if (sources[0].revents & (POLLERR | POLLNVAL)) peer_.check();
  if (sources[1].revents & (POLLERR | POLLNVAL)) guest_.check();
}

void Bridge::quiesce(uint64_t now) {
  if (engine_) vsnoop_guest_quiesce(engine_, kGuest, 1, us(now));
}

uint64_t Bridge::outstanding() const {
  return engine_ ? vsnoop_stats(engine_, kGuest)->outstanding : 0;
}

uint64_t Bridge::broken() const { return engine_ ? vsnoop_stats(engine_, kGuest)->broken : 0; }

void Bridge::finish(uint64_t now) {
  peer_retry_ = guest_retry_ = 0;
  deliver(now, true);
  // Its answers to all of that may confirm promises; a batch may not hold them all.
  for (int i = 0; i < kBatch && read_guest(now); ++i) {
  }
  if (engine_) pool_.give_list(vsnoop_guest_stop(engine_, kGuest, us(now)));
  emit(now);
  guest_retry_ = 0;
  deliver(now, true);
  // A device without room gets a moment: resets are among what waits.
  for (int i = 0; i < kLastTries && peer_.up(); ++i) {
    flush_link(now, true);
    if (link_queue_.empty()) break;
    pollfd room{peer_.descriptor(), POLLOUT, 0};
    poll(&room, 1, 1);
  }
}

const struct vsnoop_guest_stats* Bridge::engine_stats() const {
  return engine_ ? vsnoop_stats(engine_, kGuest) : nullptr;
}

uint32_t Bridge::flows() const { return engine_ ? vsnoop_flows(engine_) : 0; }

}  // namespace vsnoop::live
