// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Text that others chose (guests' names are their owners'), made fit to be shown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vsnoop::xen {

/// As a terminal with the locale of the environment may show it: what has no place of its own in a
/// line there (control bytes, what turns the writing direction or stands on other letters, bytes
/// that are no character) is written as \xNN, and so is white space other than single spaces
/// between words, which could be taken for the end of a column. A backslash is doubled.
std::string shown(std::string_view text);

/// Columns that shown() text takes.
size_t width(std::string_view text);

/// A number in decimal digits and nothing else; nothing if it is none or does not fit.
std::optional<uint32_t> number(std::string_view text);

}  // namespace vsnoop::xen
