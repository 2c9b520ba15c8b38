// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <stdexcept>

#include "tools/replay/input.h"

namespace vsnoop::replay {
namespace {

// The file that a name leads to, through symbolic links, whether it exists or not.
std::string leads_to(const std::string& path) {
  std::error_code error;
  const auto target = std::filesystem::weakly_canonical(path, error);
  if (error) return path;
  // A link to what does not exist yet is not followed by weakly_canonical().
  std::filesystem::path at = target;
  for (int links = 0; links < 40 && std::filesystem::is_symlink(at, error); links++) {
    const auto next = std::filesystem::read_symlink(at, error);
    if (error) break;
    at = std::filesystem::weakly_canonical(next.is_absolute() ? next : at.parent_path() / next,
                                           error);
    if (error) return path;
  }
  return at.string();
}

// What tells one file from another, whatever its names.
std::string identity(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return "at " + leads_to(path);
  return fmt::format("{}:{}", status.st_dev, status.st_ino);
}

bool is_regular_or_new(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
}

}  // namespace

void Output::fail(const char* what) const {
  throw std::runtime_error(fmt::format("{}: {}: {}", name_, what, std::strerror(errno)));
}

Output::Output(const std::string& path) : name_(path == "-" ? "standard output" : printable(path)) {
  if (path == "-") {
    const int copy = dup(STDOUT_FILENO);
    file_ = copy < 0 ? nullptr : fdopen(copy, "wb");
  } else if (is_regular_or_new(path)) {
    open_beside(leads_to(path));
  } else {
    file_ = std::fopen(path.c_str(), "wbe");
  }
  if (!file_) fail("cannot be written");
}

void Output::open_beside(const std::string& path) {
  struct stat before {};
  const bool exists = stat(path.c_str(), &before) == 0;
  if (exists && access(path.c_str(), W_OK) != 0) fail("cannot be written");
  const mode_t mask = umask(0);
  umask(mask);
  const mode_t mode = exists ? before.st_mode & 07777 : 0666 & ~mask;
  path_ = path;
  const std::string directory = std::filesystem::path(path).parent_path().string();
  // Without a name it goes away with the program, however that ends.
  int descriptor =
      open(directory.empty() ? "." : directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    beside_ = path + ".XXXXXX";
    descriptor = mkostemp(beside_.data(), O_CLOEXEC);
    if (descriptor < 0) {
      beside_.clear();
      fail("cannot be written");
    }
  }
  fchmod(descriptor, mode);
  file_ = fdopen(descriptor, "w+b");
  if (!file_) ::close(descriptor);
}

Output::~Output() {
  if (file_) std::fclose(file_);
  if (!beside_.empty()) unlink(beside_.c_str());
}

void Output::commit() {
  if (std::fflush(file_) != 0 || std::ferror(file_)) fail("could not be written wholly");
  if (!path_.empty() && beside_.empty()) {
    // Names may collide; the one to replace has to be given up by rename().
    const std::string from = fmt::format("/proc/self/fd/{}", fileno(file_));
    for (int attempt = 0; beside_.empty(); attempt++) {
      const std::string name = fmt::format("{}.{}-{}", path_, getpid(), attempt);
      if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
        beside_ = name;
      } else if (errno != EEXIST || attempt == 100) {
        fail("could not be named");
      }
    }
  }
  FILE* const done = file_;
  file_ = nullptr;
  if (std::fclose(done) != 0) fail("could not be written wholly");
  if (path_.empty()) return;
  if (std::rename(beside_.c_str(), path_.c_str()) != 0) fail("could not be named");
  beside_.clear();
}

void check_outputs(const std::vector<std::string>& inputs,
                   const std::vector<std::string>& outputs) {
  std::set<std::string> known;
  for (const std::string& path : inputs) {
    if (path != "-") known.insert(identity(path));
  }
  struct stat in {};
  if (std::find(inputs.begin(), inputs.end(), "-") != inputs.end() &&
      fstat(STDIN_FILENO, &in) == 0 && S_ISREG(in.st_mode)) {
    known.insert(fmt::format("{}:{}", in.st_dev, in.st_ino));
  }
  std::set<std::string> written;
  bool standard = false;
  for (const std::string& path : outputs) {
    if (path == "-") {
      if (standard) {
        throw std::runtime_error("only one output can go to standard output ('-')");
      }
      standard = true;
      continue;
    }
    if (!is_regular_or_new(path)) continue;
    const std::string file = identity(path);
    if (known.contains(file)) {
      throw std::runtime_error(fmt::format(
          "{}: is a capture that is read; name another file for the output", printable(path)));
    }
    if (!written.insert(file).second) {
      throw std::runtime_error(
          fmt::format("{}: two outputs cannot go to the same file", printable(path)));
    }
  }
}

}  // namespace vsnoop::replay
