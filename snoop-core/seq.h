// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "flowtable/host.h"

VSNOOP_BEGIN

/// A TCP sequence number (RFC 9293 3.4): a point on a circle of 2^32, so there is no `<`. Two
/// numbers can be ordered only if they are less than 2^31 apart; windows see to that.
struct Seq {
  u32 raw = 0;

  constexpr Seq() = default;
  constexpr explicit Seq(u32 value) : raw(value) {}

  constexpr Seq operator+(u32 bytes) const { return Seq(raw + bytes); }
  constexpr Seq operator-(u32 bytes) const { return Seq(raw - bytes); }
  /// Signed distance from `origin` to here.
  constexpr int32_t operator-(Seq origin) const { return static_cast<int32_t>(raw - origin.raw); }
  constexpr bool operator==(Seq other) const { return raw == other.raw; }
  constexpr bool operator!=(Seq other) const { return raw != other.raw; }
};

constexpr bool before(Seq a, Seq b) { return a - b < 0; }
constexpr bool at_or_before(Seq a, Seq b) { return a - b <= 0; }
constexpr bool after(Seq a, Seq b) { return a - b > 0; }
// Half the number space apart, which is neither, the first one stands.
constexpr Seq later(Seq a, Seq b) { return after(b, a) ? b : a; }
constexpr Seq earlier(Seq a, Seq b) { return before(a, b) ? a : b; }

/// Bytes from `from` up to `to`; 0 if `to` does not lie after it.
constexpr u32 bytes_between(Seq from, Seq to) {
  return after(to, from) ? static_cast<u32>(to - from) : 0;
}

/// Timestamps wrap likewise (RFC 7323 5.2).
constexpr bool older(u32 tsval, u32 than) { return static_cast<int32_t>(tsval - than) < 0; }

VSNOOP_END
