// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

namespace vsnoop::load {

namespace detail {

struct Unit {
  std::string_view suffix;
  std::int64_t factor;
};

inline constexpr std::array<Unit, 7> kSizes{{{"", 1},
                                             {"k", 1000},
                                             {"M", 1'000'000},
                                             {"G", 1'000'000'000},
                                             {"Ki", 1 << 10},
                                             {"Mi", 1 << 20},
                                             {"Gi", 1 << 30}}};
inline constexpr std::array<Unit, 4> kDurations{
    {{"ns", 1}, {"us", 1000}, {"ms", 1'000'000}, {"s", 1'000'000'000}}};

template <std::size_t N>
std::int64_t parse(std::string_view text, const std::array<Unit, N>& units, const char* what) {
  std::int64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view suffix(rest, text.data() + text.size());
  if (error == std::errc() && value >= 0) {
    for (const Unit& unit : units) {
      if (unit.suffix == suffix && value <= std::numeric_limits<std::int64_t>::max() / unit.factor)
        return value * unit.factor;
    }
  }
  throw std::invalid_argument(fmt::format("'{}' is no {}", text, what));
}

// A uniform integer in [0, bound) by rejection: std::uniform_int_distribution gives different
// numbers with different standard libraries.
inline std::uint64_t below(std::mt19937_64& random, std::uint64_t bound) {
  const std::uint64_t limit = std::numeric_limits<std::uint64_t>::max() / bound * bound;
  std::uint64_t x = random();
  while (x >= limit) x = random();
  return x % bound;
}

}  // namespace detail

/// Bytes meant by `text`: a whole number, then nothing, k, M or G (powers of 1000) or Ki, Mi, Gi
/// (powers of 1024). Throws std::invalid_argument with a sentence for the user.
inline std::uint64_t parse_size(std::string_view text) {
  return static_cast<std::uint64_t>(detail::parse(
      text, detail::kSizes, "size: write a whole number and k, M, G, Ki, Mi or Gi, such as 100k"));
}

/// Like parse_size(), but 0 is refused.
inline std::uint64_t parse_positive(std::string_view text) {
  const std::uint64_t size = parse_size(text);
  if (size == 0) throw std::invalid_argument("a size of 0 makes no sense here");
  return size;
}

/// Sizes separated by commas, in the order given; at least one, each greater than zero.
/// Throws std::invalid_argument.
inline std::vector<std::uint64_t> parse_sizes(std::string_view text) {
  std::vector<std::uint64_t> sizes;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    sizes.push_back(parse_positive(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return sizes;
}

/// Nanoseconds meant by `text`: a whole number, then ns, us, ms or s; a bare 0 is allowed.
/// Throws std::invalid_argument.
inline std::int64_t parse_duration(std::string_view text) {
  if (text == "0") return 0;
  return detail::parse(text, detail::kDurations,
                       "duration: write a whole number and ns, us, ms or s, such as 30ms");
}

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
