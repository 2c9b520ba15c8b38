// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>

#include "tests/fuzz/bytes.h"

// Each program includes this once.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  return setenv("LC_ALL", "C.UTF-8", 1);  // more is shown than in C
}

namespace vsnoop_fuzz {

/// Text for a terminal: so many lines, and nothing in them that drives it.
inline void check_shown(const std::string& text, size_t lines) {
  FUZZ_CHECK(static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) == lines, "lines");
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    FUZZ_CHECK((byte >= 0x20 || byte == '\n') && byte != 0x7f, "a control byte");
    // C1 in UTF-8; and each byte of 0x80 and above belongs to a character.
    const auto next = i + 1 < text.size() ? static_cast<uint8_t>(text[i + 1]) : 0;
    FUZZ_CHECK(byte != 0xc2 || next >= 0xa1, "a control character, or a blank");
    FUZZ_CHECK(byte < 0xc0 || (next & 0xc0) == 0x80, "half a character");
    FUZZ_CHECK(byte != 0xe2 || next != 0x80 || i + 2 >= text.size() ||
                   static_cast<uint8_t>(text[i + 2]) < 0xa8 ||
                   static_cast<uint8_t>(text[i + 2]) > 0xae,
               "what ends a line, or turns the writing direction");
  }
}

}  // namespace vsnoop_fuzz
