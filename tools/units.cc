// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <string_view>

namespace vsnoop {
namespace {

struct Unit {
  std::string_view suffix;
  double factor;
};

double parse(const std::string& text, std::initializer_list<Unit> units, double limit,
             const char* what) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  const std::string_view suffix(rest, static_cast<size_t>(end - rest));
  if (error == std::errc() && value >= 0) {
    for (const Unit& unit : units)
      if (unit.suffix == suffix && value * unit.factor <= limit) return value * unit.factor;
  }
  throw std::invalid_argument(fmt::format("'{}' is no {}", text, what));
}

}  // namespace

uint64_t parse_size(const std::string& text) {
  return static_cast<uint64_t>(
      std::llround(parse(text,
                         {{"", 1},
                          {"k", 1e3},
                          {"kB", 1e3},
                          {"M", 1e6},
                          {"MB", 1e6},
                          {"G", 1e9},
                          {"GB", 1e9},
                          {"Ki", 0x1p10},
                          {"KiB", 0x1p10},
                          {"Mi", 0x1p20},
                          {"MiB", 0x1p20},
                          {"Gi", 0x1p30},
                          {"GiB", 0x1p30}},
                         1e15, "size: write a number and k, M, G, Ki, Mi or Gi, such as 8Mi")));
}

uint64_t parse_positive(const std::string& text) {
  const uint64_t size = parse_size(text);
  if (size == 0) throw std::invalid_argument("a size of 0 makes no sense here");
  return size;
}

std::vector<uint64_t> parse_sizes(const std::string& text) {
  std::vector<uint64_t> sizes;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    sizes.push_back(parse_positive(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return sizes;
}

uint64_t parse_duration(const std::string& text) {
  if (text == "0") return 0;
  return static_cast<uint64_t>(
      std::llround(parse(text, {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}, 1e18,
                         "time: write a number and us, ms or s, such as 30ms")));
}

uint64_t parse_rate(const std::string& text) {
  return static_cast<uint64_t>(
      std::llround(parse(text, {{"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}}, 1e13,
                         "rate: write bits per second and k, M or G, such as 1G")));
}

double parse_share(const std::string& text) {
  return parse(text, {{"", 1}, {"%", 0.01}}, 1, "share: write 0.01 or 1%");
}

}  // namespace vsnoop
