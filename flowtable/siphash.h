// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// SipHash-c-d (Aumasson, Bernstein 2012) over 64-bit words: a hash that nobody who lacks the seed
// can steer, so nobody can aim flows at one bucket.
#pragma once

#include "flowtable/host.h"

VSNOOP_BEGIN

/// 128 secret bits. The host draws them at random; a replay passes the recorded ones.
struct HashSeed {
  u64 k0, k1;
};

/// SipHash with `per_word` rounds for each word and `at_end` rounds at the end. The caller pads the
/// message as SipHash does: the last word that is added carries the bytes left over and, in its top
/// byte, the message's length modulo 256.
template <unsigned per_word, unsigned at_end>
class SipHash {
 public:
  explicit constexpr SipHash(HashSeed seed)
      : v0_(seed.k0 ^ 0x736f6d6570736575),
        v1_(seed.k1 ^ 0x646f72616e646f6d),
        v2_(seed.k0 ^ 0x6c7967656e657261),
        v3_(seed.k1 ^ 0x7465646279746573) {}

  VSNOOP_ALWAYS_INLINE constexpr void add(u64 word) {
    v3_ ^= word;
    for (unsigned i = 0; i < per_word; ++i) round();
    v0_ ^= word;
  }

  VSNOOP_ALWAYS_INLINE constexpr u64 end() {
    v2_ ^= 0xff;
    for (unsigned i = 0; i < at_end; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  static constexpr u64 rotl(u64 x, unsigned bits) { return x << bits | x >> (64 - bits); }

  VSNOOP_ALWAYS_INLINE constexpr void round() {
    v0_ += v1_, v2_ += v3_;
    v1_ = rotl(v1_, 13) ^ v0_, v3_ = rotl(v3_, 16) ^ v2_;
    v0_ = rotl(v0_, 32);
    v2_ += v1_, v0_ += v3_;
    v1_ = rotl(v1_, 17) ^ v2_, v3_ = rotl(v3_, 21) ^ v0_;
    v2_ = rotl(v2_, 32);
  }

  u64 v0_, v1_, v2_, v3_;
};

VSNOOP_END
