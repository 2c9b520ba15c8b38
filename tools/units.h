// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Sizes, times, rates and shares as people write them, the same for every program of vsnoop.
// Numbers may have a fraction ("1.5G"). Every function throws std::invalid_argument with a sentence
// for the user.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vsnoop {

constexpr uint64_t kNever = UINT64_MAX;
constexpr uint64_t kMicrosecond = 1'000;
constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kSecond = 1'000'000'000;

/// Bytes: nothing, k, M, G (powers of 1000) or Ki, Mi, Gi (powers of 1024), with a B after them or
/// not.
uint64_t parse_size(const std::string& text);
/// Like parse_size(), but less than a byte is refused.
uint64_t parse_positive(const std::string& text);
/// Sizes separated by commas, in the order given; at least one, each a byte or more.
std::vector<uint64_t> parse_sizes(const std::string& text);
/// Nanoseconds: ns, us, ms, s; a bare 0 is allowed.
uint64_t parse_duration(const std::string& text);
/// Bits per second: nothing, k, M, G (powers of 1000).
uint64_t parse_rate(const std::string& text);
/// A probability, 0 to 1: "0.01" or "1%".
double parse_share(const std::string& text);

}  // namespace vsnoop
