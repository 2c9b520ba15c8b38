// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace vsnoop::xen {

/// "what: the error's text", and a hint where rights are missing.
[[noreturn]] inline void fail(const std::string& what, int error = errno) {
  const char* hint = error == EACCES || error == EPERM ? " (run it as root)" : "";
  throw std::runtime_error(fmt::format("{}: {}{}", what, std::strerror(error), hint));
}

}  // namespace vsnoop::xen
