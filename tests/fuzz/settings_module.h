/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What module/vsnoop_private.h says of settings. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VIF_KIB_DEFAULT 16384
#define VIF_KIB_LEAST 256
#define VIF_KIB_MOST (1 << 21)
#define FLOW_KIB_DEFAULT 4096
#define FLOW_KIB_LEAST 64

struct vs_settings {
  uint8_t policy;
  uint8_t engage;
  bool early_sack;
  uint32_t vif_kib;
  uint32_t flow_kib;
};

#ifdef __cplusplus
extern "C"
#endif
    const char*
    vs_parse_settings(char* text, struct vs_settings* set);
