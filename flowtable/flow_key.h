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

/// SipHash-1-3 of the key's 38 bytes; of 42 if it has a VLAN.
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

VSNOOP_END
