// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace vsnoop_fuzz {

/// A byte string read as small numbers; zeros after its end.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }
  uint8_t u8() { return empty() ? uint8_t(0) : *at_++; }
  uint16_t u16() { return static_cast<uint16_t>(u8() << 8 | u8()); }
  uint32_t u32() { return static_cast<uint32_t>(u16()) << 16 | u16(); }
  bool flag() { return u8() & 1; }
  std::vector<uint8_t> rest() {
    std::vector<uint8_t> all(at_, end_);
    at_ = end_;
    return all;
  }

 private:
  const uint8_t *at_, *end_;
};

/// An assertion that stands in every build.
#define FUZZ_CHECK(condition, what)                                                  \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (0)

}  // namespace vsnoop_fuzz
