// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace vsnoop::load {

namespace detail {

// A uniform integer in [0, bound) by rejection: std::uniform_int_distribution gives different
// numbers with different standard libraries.
inline std::uint64_t below(std::mt19937_64& random, std::uint64_t bound) {
  const std::uint64_t limit = std::numeric_limits<std::uint64_t>::max() / bound * bound;
  std::uint64_t x = random();
  while (x >= limit) x = random();
  return x % bound;
}

}  // namespace detail

/// `count` phases of a period, equally far apart from a random start, in random order: each is
/// uniform over [0, `period_ns`), and together they cover the period evenly. The same arguments
/// give the same phases on every machine. `count` > 0; `period_ns` >= 0.
inline std::vector<std::int64_t> random_phases(std::uint64_t seed, std::size_t count,
                                               std::int64_t period_ns) {
  std::mt19937_64 random(seed);
  const double start = static_cast<double>(random() >> 11) * 0x1p-53;
  std::vector<std::int64_t> phases(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double share = (static_cast<double>(i) + start) / static_cast<double>(count);
    phases[i] = static_cast<std::int64_t>(share * static_cast<double>(period_ns));
  }
  for (std::size_t i = count; i > 1; --i)
    std::swap(phases[i - 1], phases[detail::below(random, i)]);
  return phases;
}

/// The earliest time >= `now_ns` that lies `phase_ns` after a multiple of `period_ns` from
/// `epoch_ns`; `now_ns` if the period is 0. `now_ns` >= `epoch_ns`, 0 <= `phase_ns` < `period_ns`.
inline std::int64_t next_at_phase(std::int64_t epoch_ns, std::int64_t period_ns,
                                  std::int64_t phase_ns, std::int64_t now_ns) {
  if (period_ns == 0) return now_ns;
  const std::int64_t current = (now_ns - epoch_ns) % period_ns;
  return now_ns + (phase_ns - current + period_ns) % period_ns;
}

}  // namespace vsnoop::load
