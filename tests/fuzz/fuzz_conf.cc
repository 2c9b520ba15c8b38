// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// /etc/vsnoop/xen.conf and a guest's name, as any bytes, in the functions of vif-vsnoop themselves,
// run by a shell that stays: an answer comes in time, it is a setting of the file, and it is the
// one that the rule of the manual gives, for what is ASCII and has neither brackets nor
// backslashes. Input: u8 length of the name, the name, the file.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <string>

#include "tests/fuzz/bytes.h"

namespace {

// The shell, between two pipes, and the file it reads.
class Shell {
 public:
  Shell() : file_(memfd_create("xen.conf", 0)) {
    const std::string program =
        "conf=/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file_) +
        "\nname=vif-vsnoop\neval \"$(sed -n '/^longest=/p; /^fits() {/,/^}/p; /^setting_of() "
        "{/,/^}/p' "
        "'" VSNOOP_TOP
        "/xen-netback-patch/scripts/vif-vsnoop')\"\n"
        "while IFS= read -r guest; do said=$(setting_of \"$guest\" 0 2>/dev/null)\n"
        "printf '%s\\n' \"$said\"; done\n";
    int to[2], from[2];
    FUZZ_CHECK(pipe(to) == 0 && pipe(from) == 0, "pipes");
    shell_ = fork();
    FUZZ_CHECK(shell_ >= 0, "fork");
    if (shell_ == 0) {
      dup2(to[0], 0);
      dup2(from[1], 1);
      close(to[1]);
      close(from[0]);
      execl("/bin/sh", "sh", "-c", program.c_str(), nullptr);
      _exit(127);
    }
    close(to[0]);
    close(from[1]);
    to_ = fdopen(to[1], "w");
    from_ = fdopen(from[0], "r");
  }

  std::string setting_of(const std::string& guest, const std::string& conf) {
    FUZZ_CHECK(ftruncate(file_, 0) == 0 &&
                   pwrite(file_, conf.data(), conf.size(), 0) == static_cast<ssize_t>(conf.size()),
               "the file");
    std::fprintf(to_, "%s\n", guest.c_str());
    std::fflush(to_);
    std::string said;
    int byte;
    while ((byte = std::getc(from_)) != EOF && byte != '\n') said += static_cast<char>(byte);
    if (byte != '\n') {
      int status = 0;
      waitpid(shell_, &status, 0);
      std::fprintf(stderr, "the shell ended with status %#x\n", static_cast<unsigned>(status));
      std::abort();
    }
    return said;
  }

 private:
  int file_;
  pid_t shell_;
  FILE *to_, *from_;
};

// As the manual says it: * any bytes, ? one.
bool fits(const std::string& text, const std::string& pattern) {
  std::vector<char> reach(text.size() + 1, 0);  // which ends of text the pattern so far comes to
  reach[0] = 1;
  for (const char c : pattern) {
    if (c == '*') {
      for (size_t i = 1; i <= text.size(); ++i) reach[i] |= reach[i - 1];
    } else {
      for (size_t i = text.size(); i > 0; --i)
        reach[i] = reach[i - 1] && (c == '?' || c == text[i - 1]);
      reach[0] = 0;
    }
  }
  return reach[text.size()] != 0;
}

struct Line {
  std::string pattern, setting;
};

std::vector<Line> lines_of(const std::string& conf) {
  std::vector<Line> lines;
  std::istringstream file(conf);
  for (std::string text; std::getline(file, text);) {
    Line line;
    const auto word = [&](size_t& at) {
      at = text.find_first_not_of(" \t", at);
      const size_t end = std::min(text.find_first_of(" \t", at), text.size());
      const std::string found = at == std::string::npos ? "" : text.substr(at, end - at);
      at = end;
      return found;
    };
    size_t at = 0;
    line.pattern = word(at);
    line.setting = word(at);
    if (!line.pattern.empty() && line.pattern[0] != '#') lines.push_back(line);
  }
  return lines;
}

std::string wanted(const std::vector<Line>& lines, const std::string& guest) {
  const std::string vif = guest + ".0";
  for (const Line& line : lines)
    if (line.pattern == guest || line.pattern == vif) return line.setting;
  for (const Line& line : lines)
    if ((guest.size() <= 255 && fits(guest, line.pattern)) ||
        (vif.size() <= 255 && fits(vif, line.pattern)))
      return line.setting;
  return "";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Shell shell;
  vsnoop_fuzz::Bytes in(data, size);
  std::string guest, conf;
  for (unsigned left = in.u8(); left && !in.empty(); --left)
    if (const uint8_t byte = in.u8(); byte && byte != '\n') guest += static_cast<char>(byte);
  for (const uint8_t byte : in.rest())
    if (byte) conf += static_cast<char>(byte);
  const std::string said = shell.setting_of(guest, conf);
  const std::vector<Line> lines = lines_of(conf);
  const bool plain = (guest + conf).find_first_of("[\\") == std::string::npos &&
                     std::all_of(conf.begin(), conf.end(), [](char c) { return c >= 0; }) &&
                     std::all_of(guest.begin(), guest.end(), [](char c) { return c >= 0; });
  if (plain) {
    FUZZ_CHECK(said == wanted(lines, guest), "another setting than the manual's");
  } else {
    bool known = said.empty();
    for (const Line& line : lines) known |= said == line.setting;
    FUZZ_CHECK(known, "a setting that is not in the file");
  }
  return 0;
}
