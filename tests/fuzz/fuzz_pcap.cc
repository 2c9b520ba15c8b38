// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// `vsnoop replay` on any bytes: no crash, no hang, no violation of a rule.
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
  static const int file = memfd_create("capture", 0);
  FUZZ_CHECK(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == static_cast<ssize_t>(size),
             "the input file");
  vsnoop::replay::Options options;
  options.paths = {"/proc/self/fd/" + std::to_string(file)};
  try {
    const int status = vsnoop::replay::run_replay(options);
    FUZZ_CHECK(status != vsnoop::replay::status_violation, "no rule is broken");
  } catch (const std::exception&) {
  }
  return 0;
}
