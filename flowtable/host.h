// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What the flow table asks of its compiler and host: no library, C++17, a little-endian machine.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "vsnoop packs addresses into machine words and is written for little-endian machines only"
#endif

// Every header wraps its content in VSNOOP_BEGIN ... VSNOOP_END. With VSNOOP_ONE_UNIT (a kernel
// module, where the whole core is one translation unit) everything gets internal linkage.
#ifdef VSNOOP_ONE_UNIT
#define VSNOOP_BEGIN \
  namespace vsnoop { \
  namespace {
#define VSNOOP_END \
  }                \
  }
#else
#define VSNOOP_BEGIN namespace vsnoop {
#define VSNOOP_END }
#endif

#define VSNOOP_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define VSNOOP_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define VSNOOP_NOINLINE __attribute__((noinline))
#define VSNOOP_COLD __attribute__((noinline, cold))  // not on any packet's usual way
#define VSNOOP_PREFETCH(address) __builtin_prefetch(address)
#define VSNOOP_ALWAYS_INLINE inline __attribute__((always_inline))

// Vector registers of the CPU's base line; a kernel builds without them.
#if defined(__SSE2__) && !defined(VSNOOP_NO_VECTORS)
#define VSNOOP_VECTORS
#endif

VSNOOP_BEGIN
using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
VSNOOP_END
