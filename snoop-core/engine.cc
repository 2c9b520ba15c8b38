// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Memory, configuration, and what an operator may look at.
#include "snoop-core/engine.h"

VSNOOP_BEGIN

namespace {

constexpr size_t align64(size_t bytes) { return (bytes + 63) & ~static_cast<size_t>(63); }

u32 embryos_for(const vsnoop_config& config) {
  const u32 quarter = config.flows / 4;
  return quarter < 64 ? 64 : quarter;
}

bool in_range(const vsnoop_config& config) {
  return config.flows >= 1 && config.flows <= 1u << 22 && config.custodies >= 1 &&
         config.custodies <= 1u << 22 && config.guests >= 1 && config.guests <= 65535 &&
         config.idle_s >= 1 && config.idle_s <= 8000;
}

// Where everything lies, relative to a 64-byte boundary.
struct Layout {
  size_t table, embryos, guests, custodies, links, total;
  Layout(const vsnoop_config& config, size_t table_bytes, size_t embryo_bytes) {
    table = align64(sizeof(Engine));
    embryos = align64(table + table_bytes);
    guests = align64(embryos + embryo_bytes);
    custodies = align64(guests + sizeof(Guest) * config.guests);
    links = align64(custodies + sizeof(Custody) * config.custodies);
    total = align64(links + sizeof(LinkTemplate) * link_templates);
  }
};

}  // namespace

size_t Engine::memory_needed(const vsnoop_config& config) {
  if (!in_range(config)) return 0;
  const Layout layout(config, Table::memory_needed(config.flows),
                      Embryos::memory_needed(embryos_for(config)));
  return layout.total + 64;
}

Engine* Engine::create(void* memory, size_t bytes, const vsnoop_config& config) {
  const size_t needed = memory_needed(config);
  if (!memory || !needed || bytes < needed) return nullptr;
  u8* base = reinterpret_cast<u8*>(align64(reinterpret_cast<size_t>(memory)));
  const size_t table_bytes = Table::memory_needed(config.flows);
  const size_t embryo_bytes = Embryos::memory_needed(embryos_for(config));
  const Layout layout(config, table_bytes, embryo_bytes);
  __builtin_memset(base, 0, layout.total);

  Engine* engine = new (base) Engine();
  engine->config_ = config;
  const HashSeed seed{config.seed[0], config.seed[1]};
  const HashSeed other{config.seed[1], ~config.seed[0]};
  if (!engine->table_.init(base + layout.table, table_bytes, config.flows, seed)) return nullptr;
  if (!engine->embryos_.init(base + layout.embryos, embryo_bytes, embryos_for(config), other))
    return nullptr;
  engine->guests_ = reinterpret_cast<Guest*>(base + layout.guests);
  engine->custodies_ = reinterpret_cast<Custody*>(base + layout.custodies);
  engine->links_ = reinterpret_cast<LinkTemplate*>(base + layout.links);
  for (u32 i = 0; i < config.custodies; ++i) {
    engine->custodies_[i].flow = Ref::null();
    engine->custodies_[i].feed_next = i + 1 < config.custodies ? i + 1 : no_custody;
  }
  engine->free_custody_ = 0;
  engine->owed_head_ = engine->owed_tail_ = no_custody;
  for (u32& head : engine->wheel_) head = no_custody;
  return engine;
}

bool Engine::guest_open(u16 id, const vsnoop_guest_config& config, u64 now) {
  if (id >= config_.guests || config.policy > VSNOOP_POLICY_HOLD) return false;
  Guest& guest = guests_[id];
  // Another policy would forget what this one owes.
  if (guest.open && config.policy != guest.config.policy &&
      (guest.stats.held || guest.stats.flows_outstanding))
    return false;
  clock_ = now;
  if (!guest.open) {
    guest.feed_new = guest.feed_old = guest.feed_new_tail = guest.feed_old_tail = no_custody;
    for (u32 lane = 0; lane < VSNOOP_LANES; ++lane)
      guest.aside[lane] = guest.aside_tail[lane] = no_custody;
    guest.room_head = guest.room_tail = no_custody;
    guest.open = true;
    guest.life_at = now;
  }
  guest.config = config;
  // A ring has little room but what is reserved: enough to keep a connection going while others,
  // at rest, have all of that.
  guest.base_window = config.policy == VSNOOP_POLICY_RING ? 16384 : 65535;
  return true;
}

const vsnoop_guest_stats* Engine::stats(u16 id) const {
  return id < config_.guests && guests_[id].open ? &guests_[id].stats : nullptr;
}

void Engine::describe(Ref ref, vsnoop_flow_info& info) const {
  const Flow& flow = *table_.get(ref);
  const FlowKey key = table_.key(ref);
  const Custody* custody = custody_of(flow);
  info = vsnoop_flow_info();
  __builtin_memcpy(info.guest_address, key.local(), 16);
  __builtin_memcpy(info.peer_address, key.remote(), 16);
  info.guest_port = key.local_port();
  info.peer_port = key.remote_port();
  info.guest = key.domain();
  const u16 outer = static_cast<u16>(key.vlan >> 16 & 0xfff), inner = key.vlan & 0xfff;
  info.vlan[0] = outer ? outer : inner;
  info.vlan[1] = outer ? inner : u16(0);
  info.state = flow.state;
  info.pause = may_promise(flow, guests_[key.domain()], clock_);
  info.rcv_nxt = flow.rcv_nxt.raw;
  info.early_ack = flow.early_ack.raw;
  info.guest_ack = flow.guest_ack.raw;
  info.right_edge = flow.right_edge.raw;
  info.shown_edge = flow.shown_edge.raw;
  info.guest_snd_nxt = flow.guest_snd_nxt.raw;
  info.peer_una = flow.peer_una.raw;
  info.peer_edge = flow.peer_edge.raw;
  info.peer_nxt = flow.peer_nxt.raw;
  info.held = custody ? custody->held : 0;
  info.reserved = flow.reserved;
  info.latency_us = static_cast<u32>(flow.latency) << 6;
  info.guest_shift = flow.guest_shift();
  info.peer_shift = flow.peer_shift();
  info.ts = flow.is(flow_ts);
  info.sack = flow.is(flow_sack);
  info.holes = custody ? custody->range_count : 0;
}

bool Engine::flow_next(u32& cursor, vsnoop_flow_info& info) const {
  while (cursor < table_.capacity()) {
    const Ref ref = table_.ref_at(cursor++);
    if (ref.is_null() || !table_.get(ref)) continue;
    describe(ref, info);
    return true;
  }
  return false;
}

bool Engine::flow_info(vsnoop_ref ref, vsnoop_flow_info& info) const {
  const Ref own{ref.slot, ref.generation};
  if (!table_.get(own)) return false;
  describe(own, info);
  return true;
}

// Flows add up to their guest, and guests to the total.
const char* Engine::audit() const {
  u64 used = 0, held = 0;
  for (u32 id = 0; id < config_.guests; ++id) {
    const Guest& guest = guests_[id];
    if (!guest.open) continue;
    const vsnoop_guest_stats& stats = guest.stats;
    used += stats.used;
    held += stats.held;
    u64 frames = 0, reserved = 0, outstanding = 0, flows = 0;
    for (u32 slot = 0; slot < table_.capacity(); ++slot) {
      const Ref ref = table_.ref_at(slot);
      if (ref.is_null() || table_.key(ref).domain() != id) continue;
      const Flow& flow = *table_.get(ref);
      reserved += flow.reserved;
      outstanding += bytes_between(flow.guest_ack, flow.early_ack);
      flows += flow.early_ack != flow.guest_ack;
    }
    for (u32 i = 0; i < config_.custodies; ++i)
      if (custodies_[i].frames && custodies_[i].guest == id) frames += custodies_[i].held;
    if (stats.used != stats.held + reserved) return "a guest's used is not held + reserved";
    if (guest.config.policy == VSNOOP_POLICY_HOLD && stats.held != frames)
      return "a guest's held is not what its records hold";
    if (stats.outstanding != outstanding || stats.flows_outstanding != flows)
      return "a guest's outstanding is not what its flows have promised";
    if (stats.peak_held < stats.held) return "a guest's peak is below what it holds";
  }
  if (used != used_ || held != held_) return "the guests do not add up to the total";
  return nullptr;
}

VSNOOP_END
