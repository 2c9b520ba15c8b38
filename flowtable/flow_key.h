// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "flowtable/host.h"
#include "flowtable/siphash.h"

VSNOOP_BEGIN

/// Names a connection of a guest: addresses, ports, domain, and the VLANs it lives in; words that
/// are compared and hashed as words. *Local* is the guest, *remote* its peer, whichever way a frame
/// goes. Build it with v4() or v6(): they store whole words, which the next load can forward.
///
/// word[0..1] local address, word[2..3] remote address: 16 bytes each in network byte order, IPv4
/// as ::ffff:a.b.c.d. word[4], from bit 0: local port, remote port, domain (all host byte order),
/// and 16 bits which are no part of the key: ignored by comparison and hash, zero in a key that
/// v4() or v6() made, the generation in a key that a table stores.
///
/// `vlan`: what separates broadcast domains on one trunk, in which addresses repeat; 0 for frames
/// without a tag. What it is made of is the caller's business.
///
/// An IPv6 frame with v4-mapped addresses, which no wire should carry (RFC 4291 2.5.5.2), would
/// name the same flow as IPv4 does: refuse it before looking it up.
struct FlowKey {
  u64 word[5];
  u32 vlan;

  static constexpr unsigned length = 38;  // bytes that count in `word`
  static constexpr u64 ends_mask = 0x0000ffffffffffff;

  /// `local` and `remote` point to 4 address bytes as they stand in the IPv4 header.
  static FlowKey v4(const void* local, const void* remote, u16 local_port, u16 remote_port,
                    u16 domain, u32 vlan = 0) {
    return {{0, mapped(local), 0, mapped(remote), ends(local_port, remote_port, domain)}, vlan};
  }

  /// `local` and `remote` point to 16 address bytes as they stand in the IPv6 header.
  static FlowKey v6(const void* local, const void* remote, u16 local_port, u16 remote_port,
                    u16 domain, u32 vlan = 0) {
    FlowKey key{{0, 0, 0, 0, ends(local_port, remote_port, domain)}, vlan};
    __builtin_memcpy(&key.word[0], local, 16);
    __builtin_memcpy(&key.word[2], remote, 16);
    return key;
  }

  /// 16 bytes in network byte order.
  const u8* local() const { return reinterpret_cast<const u8*>(&word[0]); }
  const u8* remote() const { return reinterpret_cast<const u8*>(&word[2]); }
  u16 local_port() const { return static_cast<u16>(word[4]); }
  u16 remote_port() const { return static_cast<u16>(word[4] >> 16); }
  u16 domain() const { return static_cast<u16>(word[4] >> 32); }
  bool is_v4() const { return word[0] == 0 && static_cast<u32>(word[1]) == 0xffff0000; }

 private:
  static constexpr u64 ends(u16 local_port, u16 remote_port, u16 domain) {
    return local_port | static_cast<u64>(remote_port) << 16 | static_cast<u64>(domain) << 32;
  }

  static u64 mapped(const void* address) {
    u32 bytes = 0;
    __builtin_memcpy(&bytes, address, 4);
    return static_cast<u64>(bytes) << 32 | 0xffff0000;
  }
};

/// Whether both name the same connection in the same domain and VLAN.
VSNOOP_ALWAYS_INLINE constexpr bool same_flow(const FlowKey& a, const FlowKey& b) {
  return ((a.word[0] ^ b.word[0]) | (a.word[1] ^ b.word[1]) | (a.word[2] ^ b.word[2]) |
          (a.word[3] ^ b.word[3]) | ((a.word[4] ^ b.word[4]) & FlowKey::ends_mask) |
          (a.vlan ^ b.vlan)) == 0;
}

/// SipHash-1-3 of the key's 38 bytes; of 42 if it has a VLAN. A pseudo-random function: who lacks
/// the seed learns from the hashes of some keys nothing about those of others.
VSNOOP_ALWAYS_INLINE constexpr u64 digest(const FlowKey& key, HashSeed seed) {
  SipHash<1, 3> sip(seed);
  for (unsigned i = 0; i < 4; ++i) sip.add(key.word[i]);
  const u64 ends = key.word[4] & FlowKey::ends_mask;
  if (__builtin_expect(key.vlan != 0, 0)) {
    sip.add(ends | static_cast<u64>(key.vlan) << 48);
    sip.add(key.vlan >> 16 | static_cast<u64>(FlowKey::length + sizeof key.vlan) << 56);
  } else {
    sip.add(ends | static_cast<u64>(FlowKey::length) << 56);
  }
  return sip.end();
}

/// What quick_hash() keeps secret: drawn from a seed, independent of what else is made of it.
struct QuickSeed {
  u64 word[8];
};

constexpr QuickSeed quick_seed(HashSeed seed) {
  QuickSeed out{};
  for (u64 i = 0; i < 8; ++i) {
    SipHash<2, 4> sip(seed);  // of 16 bytes: "flow key" and a number
    sip.add(0x79656b20776f6c66);
    sip.add(i);
    sip.add(u64{16} << 56);
    out.word[i] = sip.end();
  }
  return out;
}

/// A hash for who has not been attacked: a seventh of digest()'s time. NH (UMAC, RFC 4418 5.2) over
/// the key's words, its 128 bits multiplied into 64. Two keys that were chosen without knowledge of
/// the seed agree in NH with probability 2^-64; but this is no pseudo-random function: who observes
/// hashes, or their effects, can learn its secret and then choose keys that collide.
VSNOOP_ALWAYS_INLINE constexpr u64 quick_hash(const FlowKey& key, const QuickSeed& seed) {
#ifdef __SIZEOF_INT128__
  using u128 = unsigned __int128;
  const u64* k = seed.word;
  const u64 ends = key.word[4] & FlowKey::ends_mask;
  u128 sum = static_cast<u128>(key.word[0] + k[0]) * (key.word[1] + k[1]);
  sum += static_cast<u128>(key.word[2] + k[2]) * (key.word[3] + k[3]);
  sum += static_cast<u128>(ends + k[4]) * (key.vlan + k[5]);
  const u128 mixed =
      static_cast<u128>(static_cast<u64>(sum) ^ k[6]) * (static_cast<u64>(sum >> 64) ^ k[7]);
  return static_cast<u64>(mixed) ^ static_cast<u64>(mixed >> 64);
#else
  return digest(key, {seed.word[0], seed.word[1]});
#endif
}

VSNOOP_END
