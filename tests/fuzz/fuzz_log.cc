// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop replay --log` on any bytes: a log that is damaged or forged is refused in words.
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/fuzz/bytes.h"
#include "tools/replay/replay.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  FUZZ_CHECK(std::freopen("/dev/null", "w", stdout), "no output");
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Large engines are slow to make; that their size is bounded test_log.cc shows.
  constexpr size_t flows = 4 + 8;
  for (size_t i = flows; i < flows + 12 && i < size; i += 4)
    if ((i + 1 < size && data[i + 1] > 4) || (i + 2 < size && data[i + 2]) ||
        (i + 3 < size && data[i + 3]))
      return 0;
  static const int file = memfd_create("log", 0);
  FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == static_cast<ssize_t>(size),
             "the input file");
  try {
    vsnoop::replay::replay_log("/proc/self/fd/" + std::to_string(file));
  } catch (const std::exception&) {
  }
  return 0;
}
