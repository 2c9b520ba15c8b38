// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop replay --log`: makes the calls of a decision log again and compares what the engine says.
// The format is described in snoop-core/log.h.
#include "snoop-core/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "tools/replay/replay.h"

namespace vsnoop::replay {
namespace {

// What is wrong with the log, at its present record.
struct LogFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The engine of this run says something else than that of the log.
struct Mismatch : LogFault {
  using LogFault::LogFault;
};

const char* name_of(u8 type) {
  static const char* const names[] = {
      "?",   "config",   "open",     "peer",     "guest", "taken", "declined", "next",
      "fed", "consumed", "progress", "returned", "emit",  "tick",  "quiesce",  "stop"};
  return type < std::size(names) ? names[type] : "?";
}

// The body of one record.
class Body {
 public:
  Body(const u8* bytes, size_t length) : at_(bytes), end_(bytes + length) {}

  template <class T>
  T get() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  vsnoop_verdict verdict() {
    vsnoop_verdict v = {};
    v.action = get<u8>();
    v.retain = get<u8>();
    v.flags = get<u8>();
    v.seq = get<u32>();
    v.length = get<u32>();
    v.memory = get<u32>();
    v.flow.slot = get<u32>();
    v.flow.generation = get<u16>();
    v.flow.guest = get<u16>();
    return v;
  }
  void take(void* to, size_t length) {
    if (rest() < length) throw LogFault("is shorter than its type needs");
    std::memcpy(to, at_, length);
    at_ += length;
  }
  const u8* here() const { return at_; }
  size_t rest() const { return static_cast<size_t>(end_ - at_); }

 private:
  const u8 *at_, *end_;
};

// What an engine may take, whatever the log claims: so much for every log (twice what `vsnoop live`
// takes with its defaults), and for each byte of the file more than a flow takes that it tells of.
constexpr u64 kEngineBytes = 32 << 20;
constexpr u64 kEngineBytesPerByte = 16;

class LogReplay {
 public:
  explicit LogReplay(u64 file_bytes) : most_(kEngineBytes + kEngineBytesPerByte * file_bytes) {}
  // Makes the call of one record again. Throws LogFault.
  void record(u8 type, Body body);

  u64 verdicts = 0, emissions = 0;

 private:
  void create(Body& body);
  void frame(u8 type, Body& body);
  void same(u32 expected, u32 now, const char* what) const {
    if (expected != now)
      throw Mismatch(fmt::format("{} differs: {:08x} in the log, {:08x} now", what, expected, now));
  }
  vsnoop_held* held(u64 token) {
    const auto found = held_.find(token);
    if (found == held_.end()) throw LogFault("names a frame that is not in custody");
    return found->second.get();
  }
  void free_frames(vsnoop_held* list) {
    for (vsnoop_held* next; list; list = next) {
      next = list->next;
      free_frame(list);
    }
  }
  void free_frame(vsnoop_held* frame) {
    const auto token = tokens_.find(frame);
    if (token == tokens_.end()) return;
    held_.erase(token->second);
    tokens_.erase(token);
  }
  // The engine trusts its host to report only what it was told, and each frame's way only as it
  // went; a damaged log must not get past that.
  void check_given(const vsnoop_verdict& v, bool done) {
    const auto same_verdict = [&](const vsnoop_verdict& given) {
      return given.action == v.action && given.retain == v.retain && given.flags == v.flags &&
             given.seq == v.seq && given.length == v.length && given.memory == v.memory &&
             given.flow.slot == v.flow.slot && given.flow.generation == v.flow.generation &&
             given.flow.guest == v.flow.guest;
    };
    const auto found = std::find_if(given_.rbegin(), given_.rend(), same_verdict);
    if (found == given_.rend()) throw LogFault("reports on a verdict that was not given");
    if (done) given_.erase(std::next(found).base());
  }
  vsnoop_held* in_ring(u64 token) {
    vsnoop_held* frame = held(token);
    if (frame->state != VSNOOP_HELD_RING) throw LogFault("names a frame that is not in the ring");
    return frame;
  }
  vsnoop_engine* engine() {
    if (!engine_) throw LogFault("comes before the configuration");
    return engine_;
  }

  const u64 most_;  // bytes
  std::vector<u8> memory_;
  vsnoop_engine* engine_ = nullptr;
  std::unordered_map<u64, std::unique_ptr<vsnoop_held>> held_;
  std::unordered_map<const vsnoop_held*, u64> tokens_;
  std::deque<vsnoop_verdict> given_;  // KEEP and PUSH that wait for taken() or declined()
  vsnoop_feed feed_ = {};             // of the last next(), until fed()
  u16 feed_guest_ = 0;
};

void LogReplay::create(Body& body) {
  if (body.get<u32>() != log_magic) throw LogFault("is no decision log of vsnoop");
  const u32 version = body.get<u32>();
  if (version != log_version)
    throw LogFault(fmt::format(
        "has version {}, this program reads version {}: replay it with the vsnoop that wrote it",
        version, log_version));
  if (body.get<u32>() != reasons_digest())
    throw LogFault(
        "knows other reasons than this program: replay it with the vsnoop that wrote it");
  vsnoop_config config = {};
  config.flows = body.get<u32>();
  config.custodies = body.get<u32>();
  config.guests = body.get<u32>();
  config.idle_s = body.get<u32>();
  config.budget = body.get<u64>();
  const size_t needed = vsnoop_memory_needed(&config);
  if (!needed) throw LogFault("holds a configuration out of range");
  if (needed > most_)
    throw LogFault(fmt::format(
        "claims an engine of {} MiB, which a log of this length cannot have filled (cut short?)",
        needed >> 20));
  // Offload may have been switched off and on again during the recording: a new engine.
  held_.clear();
  tokens_.clear();
  given_.clear();
  feed_ = {};
  memory_ = {};  // before there is another
  memory_.resize(needed + 64);
  engine_ = vsnoop_create(memory_.data(), memory_.size(), &config);
  if (!engine_) throw LogFault("holds a configuration that no engine can be built from");
}

void LogReplay::frame(u8 type, Body& body) {
  const u64 now = body.get<u64>();
  const u16 id = body.get<u16>();
  vsnoop_frame frame = {};
  frame.checksum = body.get<u8>();
  frame.wire = body.get<u32>();
  frame.memory = body.get<u32>();
  const u32 digest = body.get<u32>();
  // A copy of its own, so that a sanitizer sees any read past it.
  const std::vector<u8> bytes(body.here(), body.here() + body.rest());
  frame.data = bytes.data();
  frame.captured = static_cast<u32>(bytes.size());
  const vsnoop_verdict verdict = type == log_peer ? vsnoop_from_peer(engine(), id, &frame, now)
                                                  : vsnoop_from_guest(engine(), id, &frame, now);
  ++verdicts;
  const u32 mine = digest_verdict(verdict);
  if (digest != mine)
    throw Mismatch(fmt::format("the verdict differs: {:08x} in the log, {:08x} now ({})", digest,
                               mine, vsnoop_reason_name(verdict.reason)));
  if (verdict.action == VSNOOP_KEEP || verdict.action == VSNOOP_PUSH) given_.push_back(verdict);
  free_frames(verdict.released);
}

void LogReplay::record(u8 type, Body body) {
  // what next() said holds only until something else happens
  if (type != log_fed && type != log_skip) feed_ = {};
  if (type == log_config) return create(body);
  if (type == log_peer || type == log_guest) return frame(type, body);
  const bool timed = type != log_next && type != log_emit && type != log_quiesce &&
                     type != log_skip && type != log_resume;
  const u64 now = timed ? body.get<u64>() : 0;
  switch (type) {
    case log_open: {
      const u16 id = body.get<u16>();
      vsnoop_guest_config config = {};
      each_member(config,
                  [&](auto& member) { member = body.get<std::decay_t<decltype(member)>>(); });
      if (body.rest()) throw LogFault("is longer than its type needs");
      if (vsnoop_guest_open(engine(), id, &config, now) != 0)
        throw LogFault("opens a guest out of range");
      break;
    }
    case log_taken: {
      const u64 token = body.get<u64>();
      const vsnoop_verdict verdict = body.verdict();
      const bool expected = body.get<u8>();
      check_given(verdict, false);
      if (verdict.action == VSNOOP_KEEP && held_.contains(token))
        throw LogFault("names a frame that is in custody already");
      std::unique_ptr<vsnoop_held> own;
      if (verdict.action == VSNOOP_KEEP) own = std::make_unique<vsnoop_held>();
      vsnoop_held* frame = own.get();
      const bool result = vsnoop_taken(engine(), &verdict, frame, now);
      if (result && own) {
        tokens_[frame] = token;
        held_[token] = std::move(own);
      }
      if (result) check_given(verdict, true);
      same(expected, result, "taken()");
      break;
    }
    case log_declined: {
      const vsnoop_verdict verdict = body.verdict();
      const u8 expected = body.get<u8>();
      check_given(verdict, true);
      same(expected, vsnoop_declined(engine(), &verdict, now), "declined()");
      break;
    }
    case log_next: {
      const u16 id = body.get<u16>();
      const bool expected = body.get<u8>();
      const bool result = vsnoop_next(engine(), id, &feed_, 0);
      feed_guest_ = id;
      same(expected, result, "next()");
      if (!result) break;
      const u64 token = body.get<u64>();
      if (held(token) != feed_.held) throw Mismatch("next() names another frame");
      same(body.get<u32>(), digest_feed(feed_), "what next() says");
      break;
    }
    case log_fed: {
      const u16 id = body.get<u16>();
      vsnoop_held* frame = held(body.get<u64>());
      if (frame != feed_.held || id != feed_guest_)
        throw Mismatch("fed() names another frame than next()");
      vsnoop_fed(engine(), id, &feed_, now);
      if (!feed_.retain || feed_.discard) free_frame(frame);
      feed_ = {};
      break;
    }
    case log_skip: {
      const u16 id = body.get<u16>();
      vsnoop_held* frame = held(body.get<u64>());
      if (frame != feed_.held || id != feed_guest_)
        throw Mismatch("skip() names another frame than next()");
      vsnoop_skip(engine(), id, &feed_, body.get<u16>());
      feed_ = {};
      break;
    }
    case log_resume: {
      const u16 id = body.get<u16>();
      vsnoop_resume(engine(), id, body.get<u16>());
      break;
    }
    case log_consumed: {
      vsnoop_held* frame = in_ring(body.get<u64>());
      const bool expected = body.get<u8>();
      const bool result = vsnoop_consumed(engine(), frame, now);
      same(expected, result, "consumed()");
      if (result) free_frame(frame);
      break;
    }
    case log_progress: {
      const u16 id = body.get<u16>();
      vsnoop_progress(engine(), id, body.get<u32>(), now);
      break;
    }
    case log_returned:
      vsnoop_returned(engine(), in_ring(body.get<u64>()), now);
      break;
    case log_emit: {
      vsnoop_emission emission;
      u8 bytes[VSNOOP_EMIT_MAX];
      const bool expected = body.get<u8>();
      const bool result = vsnoop_emit(engine(), &emission, bytes, 0);
      same(expected, result, "emit()");
      if (!result) break;
      same(body.get<u32>(), digest_bytes(bytes, emission.length), "the frame written");
      ++emissions;
      break;
    }
    case log_tick: {
      const u32 expected = body.get<u32>();
      vsnoop_held* released = vsnoop_tick(engine(), now);
      const u32 count = count_frames(released);
      free_frames(released);
      same(expected, count, "frames released by tick()");
      break;
    }
    case log_quiesce: {
      const u16 id = body.get<u16>();
      vsnoop_guest_quiesce(engine(), id, body.get<u8>(), 0);
      break;
    }
    case log_stop: {
      const u16 id = body.get<u16>();
      const u32 expected = body.get<u32>();
      vsnoop_held* released = vsnoop_guest_stop(engine(), id, now);
      const u32 count = count_frames(released);
      free_frames(released);
      same(expected, count, "frames released by guest_stop()");
      break;
    }
    default:
      throw LogFault(fmt::format("has the unknown type {}", type));
  }
}

}  // namespace

int replay_log(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    fmt::print(stderr, "vsnoop: {}: {}\n", path, std::strerror(errno));
    return status_unreadable;
  }
  // Nothing is known of a pipe's length.
  std::error_code unknown;
  const auto size = std::filesystem::file_size(path, unknown);
  LogReplay replay(unknown ? 0 : size);
  std::vector<u8> bytes;
  u64 records = 0, offset = 0;
  int status = status_fine;
  for (u8 head[4]; file.read(reinterpret_cast<char*>(head), sizeof head) || file.gcount();) {
    const size_t length = head[2] | head[3] << 8;
    bytes.resize(length);
    if (file.gcount() < static_cast<std::streamsize>(sizeof head) ||
        (length &&
         !file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length)))) {
      fmt::print(stderr, "vsnoop: {}: cut short at offset {}; replayed up to there\n", path,
                 offset);
      status = status_unreadable;
      break;
    }
    try {
      replay.record(head[0], Body(bytes.data(), bytes.size()));
    } catch (const Mismatch& mismatch) {
      fmt::print(stderr, "vsnoop: {}: record {} ({}) at offset {}: {}\n", path, records,
                 name_of(head[0]), offset, mismatch.what());
      status = status_violation;
      break;
    } catch (const LogFault& fault) {
      fmt::print(stderr, "vsnoop: {}: record {} ({}) at offset {} {}\n", path, records,
                 name_of(head[0]), offset, fault.what());
      status = status_unreadable;
      break;
    }
    ++records;
    offset += sizeof head + length;
  }
  if (!records && status == status_fine) {
    fmt::print(stderr, "vsnoop: {}: is empty\n", path);
    status = status_unreadable;
  }
  fmt::print("{}: {} records, {} verdicts and {} frames of vsnoop's own reproduced{}\n", path,
             records, replay.verdicts, replay.emissions,
             status == status_fine ? ", all identical" : " before the log or the engine failed");
  if (records)
    fmt::print(
        "It tells who spoke to whom, when, and how much (headers, no payload): share it only with "
        "whom you would show a packet capture.\n");
  return status;
}

}  // namespace vsnoop::replay
