// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/input.h"

#include <archive.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace vsnoop::replay {
namespace {

constexpr size_t block_bytes = 256 * 1024;

[[noreturn]] void fail(const std::string& name, const char* what) {
  throw CaptureError(fmt::format("{}: {}: {}", name, what, std::strerror(errno)));
}

// Length of the UTF-8 sequence at `at` that encodes a character that can be printed; 0: none.
size_t character(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) {
    return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : uint8_t{0};
  };
  const uint8_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  uint32_t code = first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; i++) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool valid = code >= least[length] && code <= 0x10ffff && !(code >> 11 == 0x1b);
  return valid && code >= 0xa0 ? length : 0;  // below: control characters
}

}  // namespace

std::string printable(const std::string& name) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    const size_t length = character(name, at);
    if (length) {
      out += name.substr(at, length);
    } else {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(name[at]));
    }
    at += std::max<size_t>(1, length);
  }
  return out;
}

Source::Source(const std::string& path) : name_(path == "-" ? "standard input" : printable(path)) {
  const int from = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (from < 0 || fstat(from, &status) != 0) {
    if (from >= 0) ::close(from);
    fail(name_, "cannot be opened");
  }
  descriptor_ = from;
  if (S_ISDIR(status.st_mode)) {
    ::close(from);
    throw CaptureError(fmt::format("{}: is a directory", name_));
  }
  if (S_ISREG(status.st_mode)) {
    size_ = static_cast<uint64_t>(status.st_size);
    return;
  }
  if (isatty(from)) {
    ::close(from);
    throw CaptureError(fmt::format("{}: is a terminal; give a capture", name_));
  }
  try {
    spool(from);
  } catch (...) {
    ::close(descriptor_);
    if (from != descriptor_) ::close(from);
    throw;
  }
  ::close(from);
}

Source::~Source() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Source::spool(int from) {
  const char* set = std::getenv("TMPDIR");
  const std::string directory = set && *set ? set : "/tmp";
  std::string path = directory + "/vsnoop-XXXXXX";
  const int to = mkostemp(path.data(), O_CLOEXEC);
  if (to < 0) fail(printable(directory), "a copy of a pipe cannot be kept there (TMPDIR)");
  unlink(path.c_str());
  descriptor_ = to;
  std::vector<char> buffer(block_bytes);
  for (;;) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got == 0) return;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(name_, "cannot be read");
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = ::write(to, buffer.data() + done, static_cast<size_t>(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) {
        fail(printable(directory), "no room for a copy of the pipe (TMPDIR names another place)");
      }
      done += put;
    }
    size_ += static_cast<uint64_t>(got);
  }
}

void Input::Free::operator()(archive* a) const { archive_read_free(a); }

Input::Input(const Source& source)
    : source_(source), archive_(archive_read_new()), block_(new uint8_t[block_bytes]) {
  archive* a = archive_.get();
  archive_read_support_filter_gzip(a);
  archive_read_support_filter_bzip2(a);
  archive_read_support_filter_xz(a);
  archive_read_support_filter_zstd(a);
  archive_read_support_filter_lz4(a);
  archive_read_support_format_raw(a);
  archive_read_support_format_empty(a);
  archive_entry* entry = nullptr;
  if (archive_read_open(a, this, nullptr, read_file, nullptr) != ARCHIVE_OK) {
    throw CaptureError(fmt::format("{}: byte 0: {}", source_.name(), archive_error_string(a)));
  }
  const int status = archive_read_next_header(a, &entry);
  if (status == ARCHIVE_EOF) {
    ended_ = true;
  } else if (status != ARCHIVE_OK) {
    throw CaptureError(fmt::format("{}: byte 0: {}", source_.name(), archive_error_string(a)));
  }
}

Input::~Input() = default;

ssize_t Input::read_file(archive* a, void* self, const void** block) {
  auto& input = *static_cast<Input*>(self);
  *block = input.block_.get();
  ssize_t got = 0;
  do {
    got = pread(input.source_.descriptor(), input.block_.get(), block_bytes,
                static_cast<off_t>(input.position_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) archive_set_error(a, errno, "cannot be read: %s", std::strerror(errno));
  if (got > 0) input.position_ += static_cast<uint64_t>(got);
  return got < 0 ? ARCHIVE_FATAL : got;
}

// The next block of the library; the one before goes away.
bool Input::more() {
  const void* block = nullptr;
  size_t size = 0;
  la_int64_t where = 0;
  const int status = archive_read_data_block(archive_.get(), &block, &size, &where);
  if (status == ARCHIVE_EOF) {
    ended_ = true;
    return false;
  }
  if (status != ARCHIVE_OK) {
    ended_ = true;
    throw CaptureError(fmt::format("{}: byte {}: cannot be decompressed: {}", source_.name(),
                                   offset_ + static_cast<uint64_t>(end_ - data_),
                                   archive_error_string(archive_.get())));
  }
  rest_ = static_cast<const uint8_t*>(block);
  rest_end_ = rest_ + size;
  return true;
}

// Only what lies across two blocks is copied.
size_t Input::want(size_t bytes) {
  for (;;) {
    const auto ready = static_cast<size_t>(end_ - data_);
    if (ready >= bytes) return ready;
    const auto waiting = static_cast<size_t>(rest_end_ - rest_);
    if (!ready && waiting) {
      data_ = rest_;
      end_ = rest_ = rest_end_;
      continue;
    }
    if (!waiting && ended_) return ready;
    if (joined_.size() < bytes) {
      std::vector<uint8_t> larger(std::max(bytes, joined_.size() * 2));
      std::copy(data_, end_, larger.begin());
      joined_.swap(larger);
      data_ = joined_.data();
    } else if (ready) {
      std::memmove(joined_.data(), data_, ready);
      data_ = joined_.data();
    }
    end_ = data_ + ready;
    if (!waiting) {
      if (!more()) return ready;
      continue;
    }
    const size_t take = std::min(bytes - ready, waiting);
    std::memcpy(joined_.data() + ready, rest_, take);
    rest_ += take;
    end_ += take;
  }
}

void Input::consume(size_t bytes) {
  data_ += bytes;
  offset_ += bytes;
}

}  // namespace vsnoop::replay
