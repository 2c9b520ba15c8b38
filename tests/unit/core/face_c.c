/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The face as a C11 program sees it. Called from test_edit.cc; returns 0, or the line that failed. */
#include <stdlib.h>
#include <string.h>

#include "snoop-core/vsnoop.h"

int vsnoop_face_from_c(void);

#define CHECK(condition) \
  do {                   \
    if (!(condition)) return __LINE__; \
  } while (0)

/* A pure ACK from 10.0.1.1:40000 to 10.0.0.1:80. */
static const uint8_t frame_bytes[] = {
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0,                                   /* Ethernet */
    0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x25, 0xce, 10, 0, 1, 1, 10, 0, 0, 1, /* IPv4 */
    0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0};   /* TCP */

int vsnoop_face_from_c(void) {
  struct vsnoop_config config;
  struct vsnoop_guest_config guest;
  vsnoop_defaults(&config);
  vsnoop_guest_defaults(&guest);
  config.flows = 16;
  config.custodies = 4;
  CHECK(guest.policy == VSNOOP_POLICY_HOLD);

  const size_t bytes = vsnoop_memory_needed(&config);
  CHECK(bytes > 0);
  void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  CHECK(memory);
  CHECK(!vsnoop_create(memory, bytes - 1, &config));
  struct vsnoop_engine *engine = vsnoop_create(memory, bytes, &config);
  CHECK(engine);
  CHECK(vsnoop_guest_open(engine, 0, &guest, 0) == 0);
  CHECK(vsnoop_guest_open(engine, 1, &guest, 0) == -1);

  struct vsnoop_frame frame;
  memset(&frame, 0, sizeof frame);
  frame.data = frame_bytes;
  frame.captured = frame.wire = sizeof frame_bytes;
  frame.memory = 768;
  frame.checksum = VSNOOP_CHECKSUM_VERIFIED;
  struct vsnoop_verdict verdict = vsnoop_from_peer(engine, 0, &frame, 1000);
  CHECK(verdict.action == VSNOOP_PASS);
  CHECK(verdict.reason == VSNOOP_REASON_no_flow);
  CHECK(verdict.flow.slot == 0xffffffff);
  CHECK(!verdict.released);
  CHECK(vsnoop_stats(engine, 0)->reasons[VSNOOP_REASON_no_flow] == 1);
  CHECK(!vsnoop_stats(engine, 1));
  CHECK(!strcmp(vsnoop_reason_name(VSNOOP_REASON_in_order), "in_order"));
  CHECK(!strcmp(vsnoop_reason_rule(VSNOOP_REASON_in_order), "P1"));
  CHECK(strlen(vsnoop_reason_text(VSNOOP_REASON_in_order)) > 0);

  struct vsnoop_emission emission;
  uint8_t out[VSNOOP_EMIT_MAX];
  struct vsnoop_feed feed;
  CHECK(!vsnoop_emit(engine, &emission, out, 1000));
  CHECK(!vsnoop_next(engine, 0, &feed, 1000));
  CHECK(!vsnoop_tick(engine, 1000000));
  CHECK(vsnoop_flows(engine) == 0);
  free(memory);
  return 0;
}
