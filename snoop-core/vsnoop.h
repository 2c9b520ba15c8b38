/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vsnoop.h - the whole face of snoop-core towards its hosts, for C11 and C++17.
 *
 * A host (kernel, ns-3, replay, live) owns the frames, the clock, the memory, the ring and the
 * locks. It asks the engine what to do with each frame, does it, and says what came of it:
 *
 *   peer frame  --> vsnoop_from_peer()  --> PASS | PUSH | KEEP | DROP
 *                   PUSH, KEEP: then vsnoop_taken() or vsnoop_declined()
 *   guest frame --> vsnoop_from_guest() --> PASS | EDIT | DROP, and frames to free
 *   ring room   --> vsnoop_next(), push, vsnoop_fed();  guest took it: vsnoop_consumed()
 *   afterwards  --> vsnoop_emit() until it returns 0: frames vsnoop itself owes to somebody
 *   timers      --> vsnoop_tick() not later than vsnoop_deadline()
 *
 * Numbers are in host byte order, times are microseconds of any monotonic clock, sizes are bytes.
 * The engine takes no locks: one thread (or one lock) per engine. It never allocates, sleeps,
 * reads a clock, or touches a frame after the call it was handed to.
 * Rule numbers (P1, G4, I3 ...) are those of docs/ack-rules.md.
 */
#ifndef VSNOOP_H
#define VSNOOP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Why a verdict fell: one list, snoop-core/reasons.def. */
enum vsnoop_reason {
#define VSNOOP_REASON(name, kind, rule, text) VSNOOP_REASON_##name,
#include "snoop-core/reasons.def"
#undef VSNOOP_REASON
  VSNOOP_REASONS
};

/* What a reason is about; the list says what each means. */
enum vsnoop_reason_class {
  VSNOOP_CLASS_promised,
  VSNOOP_CLASS_refused,
  VSNOOP_CLASS_passed,
  VSNOOP_CLASS_sent,
  VSNOOP_CLASS_life
};

enum vsnoop_policy {
  VSNOOP_POLICY_OFF,  /* look at nothing, change nothing */
  VSNOOP_POLICY_RING, /* acknowledge what is in the guest's ring (vSnoop, 2010); I3 does not hold */
  VSNOOP_POLICY_HOLD  /* acknowledge what is in custody, re-deliver until the guest confirms */
};

enum vsnoop_engage {
  VSNOOP_ENGAGE_ALWAYS,
  VSNOOP_ENGAGE_AUTO /* promise only for flows whose guest was measured to be slow */
};

/* What is known about a frame's TCP checksum before the engine sees it. */
enum vsnoop_checksum {
  VSNOOP_CHECKSUM_UNKNOWN,  /* nobody looked: the engine verifies it if every byte is readable */
  VSNOOP_CHECKSUM_VERIFIED, /* right (verified by the NIC or the host) */
  VSNOOP_CHECKSUM_PARTIAL,  /* not filled in yet: the data never left this machine's memory */
  VSNOOP_CHECKSUM_BAD
};

enum vsnoop_action {
  VSNOOP_PASS, /* on its way, unchanged; nothing to report */
  VSNOOP_PUSH, /* into the guest's ring now, then taken() or declined() */
  VSNOOP_KEEP, /* into custody: taken() with the frame's vsnoop_held, or declined() */
  VSNOOP_EDIT, /* guest to peer: apply the edit, then send */
  VSNOOP_DROP
};

/* Names a flow. A stale reference (flow gone meanwhile) is detected, never followed. */
struct vsnoop_ref {
  uint32_t slot;
  uint16_t generation;
  uint16_t guest;
};

/* A frame as the host has it: Ethernet header first (802.1Q and QinQ tags inline). */
struct vsnoop_frame {
  const uint8_t* data; /* at least all headers up to the TCP options must be readable here */
  uint32_t captured;   /* readable bytes */
  uint32_t wire;       /* length on the wire; for a GSO frame that of the whole super-frame */
  uint32_t memory;     /* bytes that keeping it costs (truesize; PUSH: ring slots x 4096) */
  uint8_t checksum;    /* enum vsnoop_checksum */
};

/* One frame in custody; embedded in the host's own frame object. The engine links it into its
 * lists from taken() until it hands it back (released, consumed() or fed() says so). */
struct vsnoop_held {
  struct vsnoop_held*
      next; /* waiting for the ring, in order of arrival; or in a list of frames to free */
  struct vsnoop_held* next_line; /* in custody, in order of sequence */
  uint32_t seq;                  /* first payload byte */
  uint32_t length;               /* payload bytes */
  uint32_t custody;              /* record the frame belongs to */
  uint16_t memory;               /* charged, in units of 256 bytes, rounded up */
  uint8_t state;                 /* enum vsnoop_held_state */
  uint8_t flags;                 /* the engine's own */
};

enum vsnoop_held_state {
  VSNOOP_HELD_WAITING,  /* not in the ring */
  VSNOOP_HELD_RING,     /* in the ring, not taken by the guest */
  VSNOOP_HELD_DELIVERED /* taken by the guest, not acknowledged */
};

/* Header fields to change in place. `what` says which; checksums are mended (RFC 1624). */
enum vsnoop_edit_what {
  VSNOOP_EDIT_ACK = 1,
  VSNOOP_EDIT_WINDOW = 2,
  VSNOOP_EDIT_TSVAL = 4, /* raise TSval to at least this (serial) */
  VSNOOP_EDIT_TSECR = 8,
  VSNOOP_EDIT_SACK = 16, /* SACK blocks that do not begin above `ack` become NOPs */
  VSNOOP_EDIT_QUOTE = 32 /* an ICMP error: the segment it quotes gets the sequence number `ack` */
};
struct vsnoop_edit {
  uint32_t ack;
  uint32_t tsval;
  uint32_t tsecr;
  uint16_t window; /* raw header field */
  uint16_t what;   /* set of enum vsnoop_edit_what; 0: nothing to do */
};

struct vsnoop_verdict {
  uint8_t action; /* enum vsnoop_action */
  uint8_t reason; /* enum vsnoop_reason */
  uint8_t retain; /* KEEP: hold it until the guest confirms; 0: only queue it in order */
  uint8_t flags;  /* the engine's own note for taken() */
  uint32_t seq;   /* payload range [seq, seq + length) */
  uint32_t length;
  uint32_t memory;
  struct vsnoop_ref flow;       /* slot 0xffffffff: no flow */
  struct vsnoop_edit edit;      /* EDIT */
  struct vsnoop_held* released; /* frames the host must free now, linked by next */
};

/* The next frame to put into a guest's ring. */
struct vsnoop_feed {
  struct vsnoop_held* held;
  struct vsnoop_edit edit; /* private header: apply to what enters the ring, not to a shared copy */
  uint32_t skip;           /* payload bytes to cut at the left */
  uint32_t keep;           /* payload bytes that remain after that */
  uint8_t again;           /* 1: a re-delivery */
  uint8_t discard; /* 1: the guest confirmed it meanwhile: do not push, fed(), then free it */
  uint8_t retain;  /* 0: the frame is the host's again once fed() returns */
  uint8_t more; /* 1: the next feed is the frame's next piece. Push a copy of this one, fed(); there
                 * is nothing to report when the guest takes it, and the frame stays in custody */
};

/* A frame written by vsnoop_emit(). */
struct vsnoop_emission {
  uint32_t length; /* bytes written, Ethernet header first; checksums are complete */
  uint16_t guest;
  uint8_t to_guest; /* 1: towards the guest (a reset), 0: towards the peer */
  uint8_t reason;   /* enum vsnoop_reason */
  struct vsnoop_ref flow;
  uint32_t ack;  /* what it says, for records and pictures */
  uint32_t edge; /* right edge shown */
};
#define VSNOOP_EMIT_MAX 160 /* bytes; no emitted frame is longer */

/* How one guest is treated. vsnoop_guest_defaults() fills it in. */
struct vsnoop_guest_config {
  uint8_t policy;       /* enum vsnoop_policy */
  uint8_t engage;       /* enum vsnoop_engage */
  uint8_t early_sack;   /* 1: SACK on the guest's behalf (P4) */
  uint8_t ring_unseen;  /* 1: nobody sees when the guest takes frames from its ring (a tap, say):
                           consumed() and progress() are no sign of life, only its frames are */
  uint32_t budget;      /* bytes for held frames and reserved window; ring policy: slots x 4096 */
  uint32_t flow_budget; /* bytes one flow may take of it; 0: no cap of its own */
  uint32_t engage_us;   /* auto: a guest whose ACK takes longer than this is slow */
  uint32_t timer_floor_us; /* local re-delivery */
  uint32_t timer_ceiling_us;
  uint32_t liveness_us;    /* no new promises when the guest showed no life for so long */
  uint32_t giveup_us;      /* fail-stop: delivered again and again, no progress for so long */
  uint32_t promise_age_us; /* fail-stop: no progress of a promise for so long */
};

struct vsnoop_flow_info;
struct vsnoop_config {
  uint32_t flows;     /* most flows tracked, 1 .. 2^22; 138 bytes each */
  uint32_t custodies; /* most flows with something outstanding at one time */
  uint32_t guests;    /* most guests, 1 .. 65535 */
  uint32_t idle_s;  /* a flow silent for so long may be forgotten (if it owes nothing); 1 .. 8000 */
  uint64_t budget;  /* bytes over all guests; 0: only each guest's own budget bounds */
  uint64_t seed[2]; /* secret; keys the flow table's hash */
  /* Decision log: called with each record's bytes as it is made; 0: none. May not call back. */
  void (*log)(void* context, const uint8_t* bytes, uint32_t length);
  void* log_context;
  /* Called for each flow whose promise is broken (fail-stop), with the bytes that the peer was told
   * and the guest did not confirm, and one of the failstop reasons; 0: nobody. May not call back.
   */
  void (*broken)(void* context, const struct vsnoop_flow_info*, uint32_t bytes, uint8_t reason);
  void* broken_context;
};

struct vsnoop_guest_stats {
  uint64_t reasons[VSNOOP_REASONS]; /* verdicts and events by reason */
  uint64_t early_acks;              /* ACKs sent that promised something new */
  uint64_t promised_bytes;
  uint64_t redelivered_frames;
  uint64_t acks_dropped;    /* guest ACKs that said nothing new (G4) */
  uint64_t acks_edited;     /* guest segments rebased (G2) */
  uint64_t latency_samples; /* taken -> guest's ACK, one sample at a time per flow */
  uint64_t latency_us_sum;
  uint64_t used; /* bytes held and reserved now */
  uint64_t held; /* bytes held now */
  uint64_t peak_held;
  uint64_t outstanding; /* bytes promised and not confirmed now */
  uint64_t broken;      /* bytes whose promise was broken by resets (fail-stop) */
  uint32_t flows_outstanding;
  uint32_t quiescing;
};

enum vsnoop_flow_state {
  VSNOOP_FLOW_ACTIVE,
  VSNOOP_FLOW_CLOSING,  /* FIN or RST seen: no new promises */
  VSNOOP_FLOW_DRAINING, /* on its way to BYPASS: no new promises; forgotten when drained */
  VSNOOP_FLOW_STOPPED   /* fail-stop: a tombstone that answers with resets */
};

/* A flow as an operator or a test sees it. */
struct vsnoop_flow_info {
  uint8_t guest_address[16]; /* IPv4 as ::ffff:a.b.c.d */
  uint8_t peer_address[16];
  uint16_t guest_port, peer_port;
  uint16_t guest;
  uint8_t state; /* enum vsnoop_flow_state */
  uint8_t pause; /* enum vsnoop_reason: why nothing is promised now; 0: it may be */
  uint32_t rcv_nxt, early_ack, guest_ack, right_edge, shown_edge;
  uint32_t guest_snd_nxt, peer_una, peer_edge, peer_nxt;
  uint32_t held, reserved; /* bytes */
  uint32_t latency_us;
  uint8_t guest_shift, peer_shift, ts, sack;
  uint8_t holes;    /* ranges above rcv_nxt */
  uint16_t vlan[2]; /* numbers, outer first; 0: no tag */
};

struct vsnoop_engine;

void vsnoop_guest_defaults(struct vsnoop_guest_config* config);
void vsnoop_defaults(struct vsnoop_config* config);

/* Bytes that vsnoop_create() needs; 0 if the configuration is out of range. */
size_t vsnoop_memory_needed(const struct vsnoop_config* config);
/* Builds an engine in `memory` (16-byte aligned, owned by the caller, who frees it when done).
 * Returns 0 if memory or configuration do not do. */
struct vsnoop_engine* vsnoop_create(void* memory, size_t bytes, const struct vsnoop_config* config);

/* Opens or re-configures guest `id` (< config.guests). Returns 0, or -1 if out of range, or if the
 * policy would change while something is promised or held: quiesce and drain first. */
int vsnoop_guest_open(struct vsnoop_engine*, uint16_t id, const struct vsnoop_guest_config*,
                      uint64_t now);

/* Verdict on a frame that came from the network for guest `id`. */
struct vsnoop_verdict vsnoop_from_peer(struct vsnoop_engine*, uint16_t id,
                                       const struct vsnoop_frame*, uint64_t now);
/* A hint before a batch: fetches into the cache what the verdicts on these frames will need. */
void vsnoop_prefetch(struct vsnoop_engine*, uint16_t id, int from_peer,
                     const struct vsnoop_frame* frames, uint32_t count);
/* KEEP or PUSH was carried out. KEEP: `held` becomes the engine's. PUSH: `held` is 0.
 * Returns 1; or 0 if that is no longer possible (the flow is gone, or the room is taken): then a
 * KEEP frame stays the host's, and declined() says what to do with it. A KEEP has to be reported
 * before the next frame of its flow is asked about; a PUSH may be reported later. */
int vsnoop_taken(struct vsnoop_engine*, const struct vsnoop_verdict*, struct vsnoop_held* held,
                 uint64_t now);
/* KEEP or PUSH could not be carried out. Returns PASS (it may go to the ring unpromised) or DROP.
 */
uint8_t vsnoop_declined(struct vsnoop_engine*, const struct vsnoop_verdict*, uint64_t now);

/* Verdict on a frame that came from guest `id`. */
struct vsnoop_verdict vsnoop_from_guest(struct vsnoop_engine*, uint16_t id,
                                        const struct vsnoop_frame*, uint64_t now);

/* What should enter the ring next; 0: nothing. Ask while it would keep a slot for what passes. */
int vsnoop_next(struct vsnoop_engine*, uint16_t id, struct vsnoop_feed*, uint64_t now);
/* The frame that vsnoop_next() named is in the ring. */
void vsnoop_fed(struct vsnoop_engine*, uint16_t id, const struct vsnoop_feed*, uint64_t now);
/* The frame that vsnoop_next() named has no room in its ring, one of several (`lane`; the host
 * knows which frame goes where, and lanes of the same number modulo VSNOOP_LANES share one): its
 * flow waits aside, and next() names another flow's, until vsnoop_resume() of that lane. */
#define VSNOOP_LANES 16
void vsnoop_skip(struct vsnoop_engine*, uint16_t id, const struct vsnoop_feed*, uint16_t lane);
void vsnoop_resume(struct vsnoop_engine*, uint16_t id, uint16_t lane);
/* The guest took a retained frame out of the ring. Returns 1 if the host must free the frame. */
int vsnoop_consumed(struct vsnoop_engine*, struct vsnoop_held*, uint64_t now);
/* The guest took frames out of its ring; `memory` bytes of PUSHed frames left it (ring policy). */
void vsnoop_progress(struct vsnoop_engine*, uint16_t id, uint32_t memory, uint64_t now);
/* A retained frame that was fed left the ring without reaching the guest (the ring is gone, say):
 * it waits again, before all others. For several frames: the one fed last first. */
void vsnoop_returned(struct vsnoop_engine*, struct vsnoop_held*, uint64_t now);

/* 1 if vsnoop_emit() may have something to write. */
int vsnoop_owes(const struct vsnoop_engine*);
/* Writes the next frame that vsnoop owes to `frame` (VSNOOP_EMIT_MAX bytes). 0 if none. */
int vsnoop_emit(struct vsnoop_engine*, struct vsnoop_emission*, uint8_t* frame, uint64_t now);

/* Runs timers; bounded work. Returns frames to free. Call again at once if deadline() <= now. */
struct vsnoop_held* vsnoop_tick(struct vsnoop_engine*, uint64_t now);
/* When tick() is due next; UINT64_MAX: never. */
uint64_t vsnoop_deadline(const struct vsnoop_engine*);

/* Quiesce: no new promises; outstanding ones drain. on = 0 takes it back. */
void vsnoop_guest_quiesce(struct vsnoop_engine*, uint16_t id, int on, uint64_t now);
/* Fail-stop for every flow of the guest that has a promise outstanding (it cannot come back), and
 * the others are forgotten. Resets are owed afterwards: emit(). Returns frames to free. */
struct vsnoop_held* vsnoop_guest_stop(struct vsnoop_engine*, uint16_t id, uint64_t now);

const struct vsnoop_guest_stats* vsnoop_stats(const struct vsnoop_engine*, uint16_t id);
uint32_t vsnoop_flows(const struct vsnoop_engine*);
/* Walks the flows: *cursor starts at 0; returns 0 at the end. */
int vsnoop_flow_next(const struct vsnoop_engine*, uint32_t* cursor, struct vsnoop_flow_info*);
/* Looks one flow up. Returns 0 if the reference is stale. */
int vsnoop_flow(const struct vsnoop_engine*, struct vsnoop_ref, struct vsnoop_flow_info*);

/* For tests, and whoever doubts the figures: adds all accounts up (O(guests * flows)). Returns 0 if
 * they agree, else what does not. */
const char* vsnoop_audit(const struct vsnoop_engine*);

/* Applies an edit to a frame's headers in place. `partial`: the TCP checksum is not filled in and
 * stays so. Returns 0, or -1 if the frame does not parse (nothing was changed). */
int vsnoop_apply_edit(uint8_t* frame, uint32_t captured, const struct vsnoop_edit*, int partial);
/* Cuts the payload of a contiguous frame to [skip, skip + keep) for a re-delivery: moves it, mends
 * lengths, sequence number and checksums. Returns the new length, or 0 if it does not parse. */
uint32_t vsnoop_trim(uint8_t* frame, uint32_t length, uint32_t skip, uint32_t keep, int partial);

/* Of a reason that is none: those of `none`. */
const char* vsnoop_reason_name(uint8_t reason);
uint8_t vsnoop_reason_class(uint8_t reason); /* enum vsnoop_reason_class */
const char* vsnoop_reason_rule(uint8_t reason);
const char* vsnoop_reason_text(uint8_t reason);

#ifdef __cplusplus
}
#endif
#endif
