// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <sys/stat.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace vsnoop::replay {

// A file that is written: it gets its name only when it is whole; what stood there before stays
// until then. "-" is standard output. What is no regular file (a FIFO, /dev/null) is written as it
// is.
class Output {
 public:
  // Throws std::runtime_error with a line for people, as all here do.
  explicit Output(const std::string& path);
  // Without commit() nothing is left.
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  FILE* file() const { return file_; }
  // Writes what is buffered and names the file.
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;
  void open_beside(const std::string& path);
  std::string name_;    // for people
  std::string path_;    // where it goes; empty: it is there already
  std::string beside_;  // its temporary name; empty: it has none
  FILE* file_ = nullptr;
};

// Throws std::runtime_error if an output is one of the inputs, by whatever name, or another output.
void check_outputs(const std::vector<std::string>& inputs, const std::vector<std::string>& outputs);

}  // namespace vsnoop::replay
