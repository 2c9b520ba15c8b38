// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The C face: forwards to the engine and, if the host asked for it, writes the decision log.
#include "snoop-core/edit.h"
#include "snoop-core/engine.h"
#include "snoop-core/log.h"
#include "snoop-core/too_big.h"

namespace {

using vsnoop::Engine;
using vsnoop::LogRecord;
using vsnoop::u32;
using vsnoop::u64;
using vsnoop::u8;

Engine& engine_of(struct vsnoop_engine* v) { return *reinterpret_cast<Engine*>(v); }
const Engine& engine_of(const struct vsnoop_engine* v) {
  return *reinterpret_cast<const Engine*>(v);
}

// Names a frame in the log. Who lacks the seed learns nothing of its address, nor of the seed.
u64 token(const Engine& engine, const vsnoop_held* held) {
  const vsnoop_config& config = engine.config();
  vsnoop::SipHash<2, 4> sip({config.seed[0], config.seed[1]});
  sip.add(reinterpret_cast<u64>(held));
  sip.add(u64{8} << 56);
  return sip.end();
}

// How much of a frame is written: its headers, or of one that is no segment as many bytes as show
// that. What else is in it is nobody's business.
u32 bytes_to_log(const vsnoop_frame& frame, vsnoop::Direction direction) {
  vsnoop::Segment segment;
  vsnoop_frame part = frame;
  const vsnoop::Reason reason = vsnoop::parse(part, direction, 0, segment);
  if (reason == VSNOOP_REASON_none) return segment.data_offset;
  vsnoop::TooBig said;
  if (reason == VSNOOP_REASON_not_tcp && direction == vsnoop::Direction::from_guest &&
      vsnoop::parse_too_big(frame, segment, 0, said))
    return said.seq_offset + 4;
  const u32 most =
      frame.captured < vsnoop::log_headers_max ? frame.captured : vsnoop::log_headers_max;
  for (part.captured = 0; part.captured < most; ++part.captured)
    if (vsnoop::parse(part, direction, 0, segment) == reason) break;
  return part.captured;
}

__attribute__((noinline)) void log_frame(Engine& engine, vsnoop::LogType type, uint16_t id,
                                         const vsnoop_frame& frame, const vsnoop_verdict& verdict,
                                         u64 now) {
  const vsnoop::Direction direction =
      type == vsnoop::log_peer ? vsnoop::Direction::from_peer : vsnoop::Direction::from_guest;
  LogRecord(type)
      .put(now)
      .put(id)
      .put(engine.seen_checksum())
      .put(frame.wire)
      .put(frame.memory)
      .put(vsnoop::digest_verdict(verdict))
      .put(frame.data, bytes_to_log(frame, direction))
      .write(engine.config());
}

}  // namespace

void vsnoop_guest_defaults(struct vsnoop_guest_config* config) {
  *config = vsnoop_guest_config();
  config->policy = VSNOOP_POLICY_HOLD;
  config->engage = VSNOOP_ENGAGE_ALWAYS;
  config->budget = 8u << 20;
  config->engage_us = 2000;
  config->timer_floor_us = 20000;
  config->timer_ceiling_us = 2000000;
  config->liveness_us = 2000000;
  // Nobody gives up sooner than a sender would: RFC 9293 3.8.3 asks for 100 s at least; Linux takes
  // 924 s (15 retransmissions).
  config->giveup_us = 1000000000;
  config->promise_age_us = 1000000000;
}

void vsnoop_defaults(struct vsnoop_config* config) {
  *config = vsnoop_config();
  config->flows = 65536;
  config->custodies = 16384;
  config->guests = 1;
  // Keep-alives come after two hours, up to nine, 75 s apart (RFC 1122 4.2.3.6, Linux).
  config->idle_s = 8000;
}

size_t vsnoop_memory_needed(const struct vsnoop_config* config) {
  return Engine::memory_needed(*config);
}

struct vsnoop_engine* vsnoop_create(void* memory, size_t bytes,
                                    const struct vsnoop_config* config) {
  Engine* engine = Engine::create(memory, bytes, *config);
  if (engine && config->log)
    LogRecord(vsnoop::log_config)
        .put(vsnoop::log_magic)
        .put(vsnoop::log_version)
        .put(vsnoop::reasons_digest())
        .put(config->flows)
        .put(config->custodies)
        .put(config->guests)
        .put(config->idle_s)
        .put(config->budget)
        .write(*config);
  return reinterpret_cast<struct vsnoop_engine*>(engine);
}

int vsnoop_guest_open(struct vsnoop_engine* v, uint16_t id,
                      const struct vsnoop_guest_config* config, uint64_t now) {
  Engine& engine = engine_of(v);
  if (!engine.guest_open(id, *config, now)) return -1;
  if (engine.config().log)
    LogRecord(vsnoop::log_open).put(now).put(id).put(*config).write(engine.config());
  return 0;
}

struct vsnoop_verdict vsnoop_from_peer(struct vsnoop_engine* v, uint16_t id,
                                       const struct vsnoop_frame* frame, uint64_t now) {
  Engine& engine = engine_of(v);
  const vsnoop_verdict verdict = engine.from_peer(id, *frame, now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    log_frame(engine, vsnoop::log_peer, id, *frame, verdict, now);
  return verdict;
}

struct vsnoop_verdict vsnoop_from_guest(struct vsnoop_engine* v, uint16_t id,
                                        const struct vsnoop_frame* frame, uint64_t now) {
  Engine& engine = engine_of(v);
  const vsnoop_verdict verdict = engine.from_guest(id, *frame, now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    log_frame(engine, vsnoop::log_guest, id, *frame, verdict, now);
  return verdict;
}

void vsnoop_prefetch(struct vsnoop_engine* v, uint16_t id, int from_peer,
                     const struct vsnoop_frame* frames, uint32_t count) {
  engine_of(v).prefetch(id, from_peer, frames, count);
}

int vsnoop_taken(struct vsnoop_engine* v, const struct vsnoop_verdict* verdict,
                 struct vsnoop_held* held, uint64_t now) {
  Engine& engine = engine_of(v);
  const bool result = engine.taken(*verdict, held, now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_taken)
        .put(now)
        .put(token(engine, held))
        .put(*verdict)
        .put(static_cast<u8>(result))
        .write(engine.config());
  return result;
}

uint8_t vsnoop_declined(struct vsnoop_engine* v, const struct vsnoop_verdict* verdict,
                        uint64_t now) {
  Engine& engine = engine_of(v);
  const u8 action = engine.declined(*verdict);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_declined).put(now).put(*verdict).put(action).write(engine.config());
  return action;
}

int vsnoop_next(struct vsnoop_engine* v, uint16_t id, struct vsnoop_feed* feed, uint64_t) {
  Engine& engine = engine_of(v);
  if (!engine.waiting(id)) return 0;
  const bool result = engine.next(id, *feed);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr)) {
    LogRecord record(vsnoop::log_next);
    record.put(id).put(static_cast<u8>(result));
    if (result) record.put(token(engine, feed->held)).put(vsnoop::digest_feed(*feed));
    record.write(engine.config());
  }
  return result;
}

void vsnoop_fed(struct vsnoop_engine* v, uint16_t id, const struct vsnoop_feed* feed,
                uint64_t now) {
  Engine& engine = engine_of(v);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_fed)
        .put(now)
        .put(id)
        .put(token(engine, feed->held))
        .write(engine.config());
  engine.fed(id, *feed, now);
}

void vsnoop_skip(struct vsnoop_engine* v, uint16_t id, const struct vsnoop_feed* feed,
                 uint16_t lane) {
  Engine& engine = engine_of(v);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_skip)
        .put(id)
        .put(token(engine, feed->held))
        .put(lane)
        .write(engine.config());
  engine.skip(id, *feed, lane);
}

void vsnoop_resume(struct vsnoop_engine* v, uint16_t id, uint16_t lane) {
  Engine& engine = engine_of(v);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_resume).put(id).put(lane).write(engine.config());
  engine.resume(id, lane);
}

int vsnoop_consumed(struct vsnoop_engine* v, struct vsnoop_held* held, uint64_t now) {
  Engine& engine = engine_of(v);
  const bool result = engine.consumed(held, now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_consumed)
        .put(now)
        .put(token(engine, held))
        .put(static_cast<u8>(result))
        .write(engine.config());
  return result;
}

void vsnoop_progress(struct vsnoop_engine* v, uint16_t id, uint32_t memory, uint64_t now) {
  Engine& engine = engine_of(v);
  engine.progress(id, memory, now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_progress).put(now).put(id).put(memory).write(engine.config());
}

void vsnoop_returned(struct vsnoop_engine* v, struct vsnoop_held* held, uint64_t now) {
  Engine& engine = engine_of(v);
  engine.returned(held);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_returned).put(now).put(token(engine, held)).write(engine.config());
}

int vsnoop_owes(const struct vsnoop_engine* v) { return engine_of(v).owes(); }

int vsnoop_emit(struct vsnoop_engine* v, struct vsnoop_emission* emission, uint8_t* frame,
                uint64_t) {
  Engine& engine = engine_of(v);
  if (!engine.owes()) return 0;
  const bool result = engine.emit(*emission, frame);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr)) {
    LogRecord record(vsnoop::log_emit);
    record.put(static_cast<u8>(result));
    if (result) record.put(vsnoop::digest_bytes(frame, emission->length));
    record.write(engine.config());
  }
  return result;
}

struct vsnoop_held* vsnoop_tick(struct vsnoop_engine* v, uint64_t now) {
  Engine& engine = engine_of(v);
  vsnoop_held* released = engine.tick(now);
  if (VSNOOP_UNLIKELY(engine.config().log != nullptr))
    LogRecord(vsnoop::log_tick).put(now).put(vsnoop::count_frames(released)).write(engine.config());
  return released;
}

uint64_t vsnoop_deadline(const struct vsnoop_engine* v) { return engine_of(v).deadline(); }

void vsnoop_guest_quiesce(struct vsnoop_engine* v, uint16_t id, int on, uint64_t) {
  Engine& engine = engine_of(v);
  engine.quiesce(id, on);
  if (engine.config().log)
    LogRecord(vsnoop::log_quiesce).put(id).put(static_cast<u8>(on != 0)).write(engine.config());
}

struct vsnoop_held* vsnoop_guest_stop(struct vsnoop_engine* v, uint16_t id, uint64_t now) {
  Engine& engine = engine_of(v);
  vsnoop_held* released = engine.guest_stop(id, now);
  if (engine.config().log)
    LogRecord(vsnoop::log_stop)
        .put(now)
        .put(id)
        .put(vsnoop::count_frames(released))
        .write(engine.config());
  return released;
}

const struct vsnoop_guest_stats* vsnoop_stats(const struct vsnoop_engine* v, uint16_t id) {
  return engine_of(v).stats(id);
}

uint32_t vsnoop_flows(const struct vsnoop_engine* v) { return engine_of(v).flows(); }

int vsnoop_flow_next(const struct vsnoop_engine* v, uint32_t* cursor,
                     struct vsnoop_flow_info* info) {
  return engine_of(v).flow_next(*cursor, *info);
}

int vsnoop_flow(const struct vsnoop_engine* v, struct vsnoop_ref ref,
                struct vsnoop_flow_info* info) {
  return engine_of(v).flow_info(ref, *info);
}

const char* vsnoop_audit(const struct vsnoop_engine* v) { return engine_of(v).audit(); }

int vsnoop_apply_edit(uint8_t* frame, uint32_t captured, const struct vsnoop_edit* edit,
                      int partial) {
  return vsnoop::apply_edit(frame, captured, *edit, partial) ? 0 : -1;
}

uint32_t vsnoop_trim(uint8_t* frame, uint32_t length, uint32_t skip, uint32_t keep, int partial) {
  return vsnoop::trim(frame, length, skip, keep, partial);
}

namespace {

struct ReasonText {
  const char* name;
  uint8_t kind;
  const char* rule;
  const char* text;
};
constexpr ReasonText reason_texts[] = {
#define VSNOOP_REASON(name, kind, rule, text) {#name, VSNOOP_CLASS_##kind, rule, text},
#include "snoop-core/reasons.def"
#undef VSNOOP_REASON
};

const ReasonText& reason_text(uint8_t reason) {
  return reason_texts[reason < VSNOOP_REASONS ? reason : 0];
}

}  // namespace

const char* vsnoop_reason_name(uint8_t reason) { return reason_text(reason).name; }
uint8_t vsnoop_reason_class(uint8_t reason) { return reason_text(reason).kind; }
const char* vsnoop_reason_rule(uint8_t reason) { return reason_text(reason).rule; }
const char* vsnoop_reason_text(uint8_t reason) { return reason_text(reason).text; }
