// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Stands in for libFuzzer in the usual builds: runs a target on every file named, once.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/bytes.h"

extern "C" __attribute__((weak)) int LLVMFuzzerInitialize(int*, char***);

int main(int count, char** words) {
  if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&count, &words);
  size_t files = 0;
  for (int i = 1; i < count; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(words[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      const std::vector<uint8_t> bytes((std::istreambuf_iterator<char>(in)), {});
      std::fprintf(stderr, "%s\n", entry.path().c_str());
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++files;
    }
  }
  std::fprintf(stderr, "%zu inputs\n", files);
  return files ? 0 : 1;
}
