// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vsnoop::load {

/// Names the byte stream of one transfer. Two different keys give unrelated streams, so a byte that
/// ends up in the wrong connection, transfer or place is seen as wrong.
struct PatternKey {
  std::uint32_t connection;
  std::uint32_t transfer;
};

namespace detail {

// A 64-bit finaliser (two multiply-xorshift rounds): every input bit reaches every output bit.
inline std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class PatternStream {
 public:
  explicit PatternStream(PatternKey key)
      : base_(scramble((std::uint64_t{key.connection} << 32 | key.transfer) + 1)) {}

  std::uint64_t word(std::uint64_t index) const {
    return scramble(base_ + index * 0x9e3779b97f4a7c15u);
  }

  std::uint8_t byte(std::uint64_t offset) const {
    return static_cast<std::uint8_t>(word(offset / 8) >> (8 * (offset % 8)));
  }

 private:
  std::uint64_t base_;
};

}  // namespace detail

/// Writes the bytes of stream `key` that start at byte `offset` of the transfer into `out`.
inline void fill_pattern(PatternKey key, std::uint64_t offset, std::span<std::uint8_t> out) {
  const detail::PatternStream stream(key);
  std::size_t i = 0;
  for (; i < out.size() && (offset + i) % 8 != 0; ++i) out[i] = stream.byte(offset + i);
  for (; out.size() - i >= 8; i += 8) {
    const std::uint64_t word = stream.word((offset + i) / 8);
    for (unsigned b = 0; b < 8; ++b) out[i + b] = static_cast<std::uint8_t>(word >> (8 * b));
  }
  for (; i < out.size(); ++i) out[i] = stream.byte(offset + i);
}

/// Returns how many bytes of `in`, which claims to start at byte `offset` of stream `key`, differ
/// from what fill_pattern() writes there.
inline std::size_t count_wrong(PatternKey key, std::uint64_t offset,
                               std::span<const std::uint8_t> in) {
  const detail::PatternStream stream(key);
  std::size_t wrong = 0;
  std::size_t i = 0;
  for (; i < in.size() && (offset + i) % 8 != 0; ++i) wrong += in[i] != stream.byte(offset + i);
  for (; in.size() - i >= 8; i += 8) {
    const std::uint64_t word = stream.word((offset + i) / 8);
    std::uint8_t expected[8];
    for (unsigned b = 0; b < 8; ++b) expected[b] = static_cast<std::uint8_t>(word >> (8 * b));
    if (std::memcmp(expected, &in[i], 8) == 0) continue;
    for (unsigned b = 0; b < 8; ++b) wrong += in[i + b] != expected[b];
  }
  for (; i < in.size(); ++i) wrong += in[i] != stream.byte(offset + i);
  return wrong;
}

}  // namespace vsnoop::load
