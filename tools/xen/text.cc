// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/text.h"

#include <fmt/format.h>
#include <locale.h>
#include <wchar.h>
#include <wctype.h>

#include <charconv>
#include <iterator>

namespace vsnoop::xen {
namespace {

// The environment's locale for characters, while it lives; "C" if there is no such locale.
class OwnLocale {
 public:
  OwnLocale() : before_(uselocale(environment())) {}
  ~OwnLocale() { uselocale(before_); }
  OwnLocale(const OwnLocale&) = delete;
  OwnLocale& operator=(const OwnLocale&) = delete;

 private:
  static locale_t environment() {
    static const locale_t own = [] {
      const locale_t its = newlocale(LC_CTYPE_MASK, "", nullptr);
      return its ? its : newlocale(LC_CTYPE_MASK, "C", nullptr);
    }();
    return own;
  }
  locale_t before_;
};

// White, and yet no white space to the C library.
bool is_blank(wchar_t wide) {
  static constexpr std::wstring_view blanks = L"\u00a0\u115f\u1160\u2007\u202f\u2800\u3164\uffa0";
  return iswspace(static_cast<wint_t>(wide)) != 0 || blanks.find(wide) != std::wstring_view::npos;
}

// The character at the beginning of `text` (not empty).
struct Character {
  size_t bytes = 1;
  int columns = 0;  // 0: not one that stands for itself
  bool space = false;
};

Character first_of(std::string_view text) {
  wchar_t wide = 0;
  mbstate_t state{};
  const size_t bytes = mbrtowc(&wide, text.data(), text.size(), &state);
  if (bytes == 0 || bytes > text.size()) return {};
  const int columns = wcwidth(wide);
  if (columns <= 0) return {bytes, 0, false};
  return {bytes, columns, is_blank(wide)};
}

}  // namespace

std::string shown(std::string_view text) {
  const OwnLocale locale;
  std::string result;
  bool after_word = false;
  for (size_t at = 0; at < text.size();) {
    const Character its = first_of(text.substr(at));
    const std::string_view bytes = text.substr(at, its.bytes);
    at += its.bytes;
    const bool single = bytes == " " && after_word && at < text.size() && text[at] != ' ';
    after_word = !its.space && its.columns > 0;
    if (bytes == "\\") {
      result += "\\\\";
    } else if (after_word || single) {
      result += bytes;
    } else {
      for (const char byte : bytes)
        fmt::format_to(std::back_inserter(result), "\\x{:02x}", static_cast<unsigned char>(byte));
    }
  }
  return result;
}

size_t width(std::string_view text) {
  const OwnLocale locale;
  size_t columns = 0;
  while (!text.empty()) {
    const Character its = first_of(text);
    columns += static_cast<size_t>(its.columns);
    text.remove_prefix(its.bytes);
  }
  return columns;
}

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace vsnoop::xen
