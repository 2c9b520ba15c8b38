// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Bytes in network order, and the Internet checksum (RFC 1071).
#pragma once

#include "flowtable/host.h"

VSNOOP_BEGIN

inline u16 load16(const u8* p) {
  u16 value;
  __builtin_memcpy(&value, p, 2);
  return __builtin_bswap16(value);
}
inline u32 load32(const u8* p) {
  u32 value;
  __builtin_memcpy(&value, p, 4);
  return __builtin_bswap32(value);
}
inline void store16(u8* p, u16 value) {
  value = __builtin_bswap16(value);
  __builtin_memcpy(p, &value, 2);
}
inline void store32(u8* p, u32 value) {
  value = __builtin_bswap32(value);
  __builtin_memcpy(p, &value, 4);
}

/// Sum of 16-bit words, not folded and in memory order; an odd last byte counts as padded with 0.
/// Sums of pieces may be added when every piece but the last has an even length.
inline u64 sum_bytes(const u8* p, u32 length) {
  u64 sum = 0;
  for (; length >= 4; p += 4, length -= 4) {
    u32 word;
    __builtin_memcpy(&word, p, 4);
    sum += word;
  }
  if (length >= 2) {
    u16 word;
    __builtin_memcpy(&word, p, 2);
    sum += word;
    p += 2;
    length -= 2;
  }
  if (length) sum += *p;
  return sum;
}

/// Of `words` 32-bit words, known when compiling: no loop.
template <unsigned words>
VSNOOP_ALWAYS_INLINE u64 sum_words32(const u8* p) {
  u64 sum = 0;
#pragma GCC unroll 16
  for (unsigned i = 0; i < words; ++i) {
    u32 word;
    __builtin_memcpy(&word, p + 4 * i, 4);
    sum += word;
  }
  return sum;
}

/// Folds to 16 bits, still in memory order (store with memcpy, not store16).
inline u16 fold(u64 sum) {
  // Halves are added to each other's mirror image: the upper half is the sum, carry included.
  sum += sum >> 32 | sum << 32;
  u32 half = static_cast<u32>(sum >> 32);
  half += half >> 16 | half << 16;
  return static_cast<u16>(half >> 16);
}

VSNOOP_END
