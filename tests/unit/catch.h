// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Catch2 as the tests use it, of version 2 (Debian 12) or 3 (Debian 13).
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace vsnoop_test {

#if CATCH_VERSION_MAJOR >= 3
template <class T>
using MatcherBase = Catch::Matchers::MatcherBase<T>;
inline auto Contains(const std::string& text) { return Catch::Matchers::ContainsSubstring(text); }
#else
template <class T>
using MatcherBase = Catch::MatcherBase<T>;
inline auto Contains(const std::string& text) { return Catch::Matchers::Contains(text); }
#endif

}  // namespace vsnoop_test
