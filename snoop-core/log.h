// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The decision log: every call a host makes of the engine, with all it depends on, and a digest of
// what the engine said. Whoever makes the same calls again must get the same answers
// (`vsnoop replay --log`). One record a call, written once the call is done.
//
// Record: u8 type, u8 zero, u16 length of what follows; little-endian throughout, no padding.
//   config      u32 magic, u32 version, u32 digest of the list of reasons, u32 flows, custodies,
//               guests, idle_s, u64 budget
//   open        u64 now, u16 id, struct vsnoop_guest_config, member by member
//   peer, guest u64 now, u16 id, u8 checksum, u32 wire, memory, u32 digest, headers to the end
//   taken       u64 now, u64 held, verdict, u8 result
//   declined    u64 now, verdict, u8 result
//   next        u16 id, u8 result, [u64 held, u32 digest]
//   fed         u64 now, u16 id, u64 held
//   consumed    u64 now, u64 held, u8 result
//   progress    u64 now, u16 id, u32 memory
//   returned    u64 now, u64 held
//   emit        u8 result, [u32 digest of the frame]
//   tick        u64 now, u32 frames released
//   quiesce     u16 id, u8 on
//   stop        u64 now, u16 id, u32 frames released
//   skip        u16 id, u64 held, u16 lane
//   resume      u16 id, u16 lane
// where verdict is u8 action, retain, flags, u32 seq, length, memory, slot, u16 generation, guest,
// and held is a token: two frames in custody have different ones, and it means nothing else.
//
// A log leaves the machine it was made on: it must not tell the seed, addresses of memory, or bytes
// that nobody wrote. The seed is not needed: it chooses buckets of the flow table, and no answer
// depends on those. What the log does tell is in the headers: who spoke to whom, and when.
#pragma once

#include "flowtable/host.h"
#include "snoop-core/vsnoop.h"

VSNOOP_BEGIN

constexpr u32 log_magic = 0x474c5356;  // "VSLG"
constexpr u32 log_version = 3;         // of the records; verdicts count by the list of reasons, too
constexpr u32 log_headers_max = 512;   // bytes of a frame in a record
constexpr u32 log_record_max = 4 + 23 + log_headers_max;

enum LogType : u8 {
  log_config = 1,
  log_open,
  log_peer,
  log_guest,
  log_taken,
  log_declined,
  log_next,
  log_fed,
  log_consumed,
  log_progress,
  log_returned,
  log_emit,
  log_tick,
  log_quiesce,
  log_stop,
  log_skip,
  log_resume,
};

constexpr u32 digest_start = 2166136261u;  // FNV-1a

inline u32 digest_bytes(const u8* bytes, u32 length, u32 digest = digest_start) {
  for (u32 i = 0; i < length; ++i) digest = (digest ^ bytes[i]) * 16777619u;
  return digest;
}
inline u32 digest_word(u32 digest, u32 word) {
  for (int i = 0; i < 4; ++i, word >>= 8) digest = (digest ^ (word & 0xff)) * 16777619u;
  return digest;
}

inline u32 count_frames(const vsnoop_held* held) {
  u32 count = 0;
  for (; held; held = held->next) ++count;
  return count;
}

inline u32 digest_edit(u32 digest, const vsnoop_edit& edit) {
  digest = digest_word(digest, edit.what);
  if (!edit.what) return digest;
  digest = digest_word(digest, edit.ack);
  digest = digest_word(digest, edit.tsval);
  digest = digest_word(digest, edit.tsecr);
  return digest_word(digest, edit.window);
}

/// What a verdict says, in 32 bits.
inline u32 digest_verdict(const vsnoop_verdict& v) {
  u32 digest = digest_word(
      digest_start, static_cast<u32>(v.action | v.reason << 8 | v.retain << 16 | v.flags << 24));
  digest = digest_word(digest, v.seq);
  digest = digest_word(digest, v.length);
  digest = digest_word(digest, v.flow.slot);
  digest = digest_word(digest, v.flow.generation);
  digest = digest_edit(digest, v.edit);
  return digest_word(digest, count_frames(v.released));
}

inline u32 digest_feed(const vsnoop_feed& feed) {
  u32 digest = digest_edit(digest_start, feed.edit);
  digest = digest_word(digest, feed.skip);
  digest = digest_word(digest, feed.keep);
  return digest_word(digest, feed.again | static_cast<u32>(feed.discard) << 8 |
                                 static_cast<u32>(feed.retain) << 16 |
                                 static_cast<u32>(feed.more) << 24);
}

/// Digest of the names of all reasons, in their order: verdicts are compared by their numbers.
inline u32 reasons_digest() {
  u32 digest = digest_start;
  for (u32 reason = 0; reason < VSNOOP_REASONS; ++reason) {
    const char* name = vsnoop_reason_name(static_cast<u8>(reason));
    for (; *name; ++name) digest = digest_word(digest, static_cast<u8>(*name));
    digest = digest_word(digest, ',');
  }
  return digest;
}

/// Calls `visit` for each member of a guest's configuration, in the order of the log. A member that
/// is added does not compile here: put it at its place, and count up log_version.
template <class Config, class Visit>
void each_member(Config& config, Visit visit) {
  auto& [policy, engage, early_sack, ring_unseen, budget, flow_budget, engage_us, timer_floor_us,
         timer_ceiling_us, liveness_us, giveup_us, promise_age_us] = config;
  visit(policy);
  visit(engage);
  visit(early_sack);
  visit(ring_unseen);
  visit(budget);
  visit(flow_budget);
  visit(engage_us);
  visit(timer_floor_us);
  visit(timer_ceiling_us);
  visit(liveness_us);
  visit(giveup_us);
  visit(promise_age_us);
}

/// Puts a record together and hands it to the host's sink.
class LogRecord {
 public:
  explicit LogRecord(LogType type) {
    bytes_[0] = type;
    bytes_[1] = 0;
  }
  template <class T>
  LogRecord& put(T value) {
    return put(&value, sizeof value);
  }
  LogRecord& put(const void* from, u32 length) {
    __builtin_memcpy(bytes_ + size_, from, length);
    size_ += length;
    return *this;
  }
  LogRecord& put(const vsnoop_guest_config& config) {
    each_member(config, [this](auto member) { put(member); });
    return *this;
  }
  LogRecord& put(const vsnoop_verdict& v) {
    put(v.action).put(v.retain).put(v.flags).put(v.seq).put(v.length).put(v.memory);
    return put(v.flow.slot).put(v.flow.generation).put(v.flow.guest);
  }
  void write(const vsnoop_config& config) {
    const u16 length = static_cast<u16>(size_ - 4);
    __builtin_memcpy(bytes_ + 2, &length, 2);
    config.log(config.log_context, bytes_, size_);
  }

 private:
  u32 size_ = 4;
  u8 bytes_[log_record_max];
};

VSNOOP_END
