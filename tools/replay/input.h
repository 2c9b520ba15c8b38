// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct archive;

namespace vsnoop::replay {

// One line for people: file, byte offset, what is wrong.
struct CaptureError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A file that can be read several times. What can be read only once (a pipe, a FIFO, "-": standard
// input) is copied to a temporary file first, which nobody sees and which goes away by itself.
class Source {
 public:
  // Throws CaptureError.
  explicit Source(const std::string& path);
  ~Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  const std::string& name() const { return name_; }  // for people, see printable()
  uint64_t size() const { return size_; }            // bytes
  int descriptor() const { return descriptor_; }

 private:
  void spool(int from);
  std::string name_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// The bytes of a source from start to end, decompressed (gzip, bzip2, xz, zstd, lz4).
class Input {
 public:
  explicit Input(const Source& source);
  ~Input();
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // Makes at least `bytes` readable at data() if there are so many left; returns how many are.
  // Throws CaptureError where compressed data is damaged.
  size_t want(size_t bytes);
  const uint8_t* data() const { return data_; }
  void consume(size_t bytes);
  uint64_t offset() const { return offset_; }      // bytes consumed
  uint64_t position() const { return position_; }  // bytes of the file that were read

 private:
  static ssize_t read_file(archive*, void* self, const void** block);
  bool more();
  const Source& source_;
  struct Free {
    void operator()(archive* a) const;
  };
  std::unique_ptr<archive, Free> archive_;
  std::unique_ptr<uint8_t[]> block_;  // of the file
  std::vector<uint8_t> joined_;       // what lies across two blocks of the library
  const uint8_t *data_ = nullptr, *end_ = nullptr;
  const uint8_t *rest_ = nullptr, *rest_end_ = nullptr;  // of the library's block
  uint64_t offset_ = 0, position_ = 0;
  bool ended_ = false;
};

// A name as it can stand in UTF-8 text: control characters and bytes that are no UTF-8 as \xHH.
std::string printable(const std::string& name);

}  // namespace vsnoop::replay
