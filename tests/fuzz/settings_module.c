/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The module's own file that reads a vif's settings, in user space: what it needs of the kernel,
 * and of vsnoop_private.h (whose guard this takes), stands here. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snoop-core/vsnoop.h"
#include "tests/fuzz/settings_module.h"

#define __XEN_NETBACK__VSNOOP_PRIVATE_H__
typedef uint8_t u8;
typedef uint32_t u32;
#define min(a, b) ((a) < (b) ? (a) : (b))
#define XEN_NETIF_RX_RING_SIZE 256
#define XEN_PAGE_SIZE 4096

/* As in Linux's lib/kstrtox.c: a sign "+" before and a newline behind are no fault there. */
static int kstrtouint(const char* text, unsigned int base, unsigned int* value) {
  uint64_t sum = 0;
  if (*text == '+') text++;
  if (*text < '0' || *text > '9') return -EINVAL;
  for (; *text >= '0' && *text <= '9'; text++) {
    sum = sum * base + (unsigned)(*text - '0');
    if (sum > UINT32_MAX) return -ERANGE;
  }
  if (*text == '\n') text++;
  if (*text) return -EINVAL;
  *value = (unsigned)sum;
  return 0;
}

#include "xen-netback-patch/module/vsnoop_settings.c"
