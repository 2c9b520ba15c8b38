// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/host/host.h"

#include <stdexcept>

namespace vsnoop_host {
namespace {

vsnoop_frame view(const Bytes& bytes) {
  vsnoop_frame frame = {};
  frame.data = bytes.data();
  frame.captured = frame.wire = static_cast<uint32_t>(bytes.size());
  frame.memory = static_cast<uint32_t>(bytes.size() + sizeof(Kept));
  frame.checksum = VSNOOP_CHECKSUM_UNKNOWN;
  return frame;
}

}  // namespace

Host::Host(const vsnoop_config& config, const vsnoop_guest_config& guest, size_t ring_slots)
    : slots_(ring_slots), rings_(config.guests) {
  const size_t needed = vsnoop_memory_needed(&config);
  memory_.resize(needed / 8 + 2);
  void* aligned = memory_.data() + (reinterpret_cast<uintptr_t>(memory_.data()) % 16 != 0);
  engine_ = needed ? vsnoop_create(aligned, needed, &config) : nullptr;
  if (!engine_) throw std::invalid_argument("no engine can be built from this configuration");
  for (uint16_t id = 0; id < config.guests; ++id)
    if (vsnoop_guest_open(engine_, id, &guest, 0) != 0)
      throw std::invalid_argument("no guest can be opened with this configuration");
}

vsnoop_verdict Host::from_peer(uint16_t guest, const Bytes& bytes, uint64_t now) {
  const vsnoop_frame frame = view(bytes);
  const vsnoop_verdict verdict = vsnoop_from_peer(engine_, guest, &frame, now);
  release(verdict.released);
  if (verdict.action == VSNOOP_PASS) {
    push(guest, bytes, 0);
  } else if (verdict.action == VSNOOP_KEEP) {
    keep(guest, verdict, bytes, now);
  } else if (verdict.action == VSNOOP_PUSH) {
    // It is in the ring before it is reported, and charged only if it was still wanted.
    if (!can_keep(verdict) || !push(guest, bytes, 0))
      vsnoop_declined(engine_, &verdict, now);
    else if (vsnoop_taken(engine_, &verdict, nullptr, now))
      rings_[guest].back().pushed = verdict.memory;
  }
  feed(guest, now);
  emit(now);
  return verdict;
}

void Host::keep(uint16_t guest, const vsnoop_verdict& verdict, const Bytes& bytes, uint64_t now) {
  if (can_keep(verdict)) {
    auto kept = std::make_unique<Kept>();
    kept->bytes = bytes;
    kept->guest = guest;
    kept->retained = verdict.retain != 0;
    vsnoop_held* held = &kept->held;
    if (vsnoop_taken(engine_, &verdict, held, now)) {
      kept_[held] = std::move(kept);
      return;
    }
  }
  if (vsnoop_declined(engine_, &verdict, now) == VSNOOP_PASS) push(guest, bytes, 0);
}

vsnoop_verdict Host::from_guest(uint16_t guest, Bytes bytes, uint64_t now) {
  const vsnoop_frame frame = view(bytes);
  const vsnoop_verdict verdict = vsnoop_from_guest(engine_, guest, &frame, now);
  release(verdict.released);
  if (verdict.action == VSNOOP_EDIT)
    vsnoop_apply_edit(bytes.data(), static_cast<uint32_t>(bytes.size()), &verdict.edit, 0);
  if (verdict.action != VSNOOP_DROP) to_peer(guest, bytes);
  feed(guest, now);  // it may have said that the guest lacks something
  emit(now);
  return verdict;
}

bool Host::push(uint16_t guest, const Bytes& frame, uint32_t cost) {
  if (rings_[guest].size() >= slots_) return false;
  rings_[guest].push_back({frame, nullptr, cost});
  return true;
}

void Host::feed(uint16_t guest, uint64_t now) {
  vsnoop_feed feed;
  // A slot stays for what is not in custody: a new connection's SYN, say.
  const size_t most = slots_ > 1 ? slots_ - 1 : slots_;
  while (rings_[guest].size() < most && vsnoop_next(engine_, guest, &feed, now)) {
    Kept& frame = owned(feed.held);
    if (!feed.discard) {
      // What is in custody stays as it came; what enters the ring has a header of its own.
      Bytes copy = frame.bytes;
      uint32_t length = static_cast<uint32_t>(copy.size());
      vsnoop_apply_edit(copy.data(), length, &feed.edit, 0);
      if (feed.skip || feed.keep != frame.held.length)
        length = vsnoop_trim(copy.data(), length, feed.skip, feed.keep, 0);
      copy.resize(length);
      fed(feed, frame, copy);
      frame.in_ring = feed.retain && !feed.more;
      rings_[guest].push_back({std::move(copy), frame.in_ring ? &frame : nullptr, 0});
    }
    vsnoop_fed(engine_, guest, &feed, now);
    if (feed.discard || !feed.retain) kept_.erase(feed.held);
  }
}

bool Host::guest_takes(uint16_t guest, Bytes& frame, uint64_t now) {
  if (rings_[guest].empty()) return false;
  InRing entry = std::move(rings_[guest].front());
  rings_[guest].pop_front();
  if (entry.kept) {
    entry.kept->in_ring = false;
    if (vsnoop_consumed(engine_, &entry.kept->held, now)) kept_.erase(&entry.kept->held);
  } else {
    vsnoop_progress(engine_, guest, entry.pushed, now);
  }
  frame = std::move(entry.bytes);
  feed(guest, now);
  emit(now);
  return true;
}

void Host::ring_lost(uint16_t guest, uint64_t now) {
  // From the end, so that what was fed first is the first to be fed again.
  for (std::deque<InRing>& ring = rings_[guest]; !ring.empty(); ring.pop_back()) {
    const InRing& entry = ring.back();
    if (entry.kept) {
      entry.kept->in_ring = false;
      vsnoop_returned(engine_, &entry.kept->held, now);
    } else if (entry.pushed) {
      vsnoop_progress(engine_, guest, entry.pushed, now);
    }
  }
}

void Host::guest_gone(uint16_t guest, uint64_t now) {
  ring_lost(guest, now);
  release(vsnoop_guest_stop(engine_, guest, now));
  emit(now);  // the resets
  // What came back out of the ring waits to be thrown away.
  vsnoop_feed feed;
  while (vsnoop_next(engine_, guest, &feed, now)) {
    vsnoop_fed(engine_, guest, &feed, now);
    kept_.erase(feed.held);
  }
}

void Host::tick(uint64_t now) {
  while (deadline() <= now) release(vsnoop_tick(engine_, now));
  for (uint16_t id = 0; id < rings_.size(); ++id) feed(id, now);
  emit(now);
}

void Host::emit(uint64_t now) {
  uint8_t frame[VSNOOP_EMIT_MAX];
  vsnoop_emission emission;
  while (vsnoop_emit(engine_, &emission, frame, now)) {
    const Bytes bytes(frame, frame + emission.length);
    emitted(emission, bytes);
    if (emission.to_guest)
      push(emission.guest, bytes, 0);
    else
      to_peer(emission.guest, bytes);
  }
}

void Host::release(vsnoop_held* list) {
  while (list) {
    vsnoop_held* next = list->next;  // the frame takes it with it
    owned(list);
    kept_.erase(list);
    list = next;
  }
}

Kept& Host::owned(vsnoop_held* held) {
  const auto found = kept_.find(held);
  if (found == kept_.end()) throw std::logic_error("the engine names a frame that it does not own");
  return *found->second;
}

}  // namespace vsnoop_host
