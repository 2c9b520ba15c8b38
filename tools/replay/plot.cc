// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/plot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

extern char** environ;

namespace vsnoop::replay {
namespace {

struct Unit {
  double factor;
  const char* name;
};

Unit time_unit(int64_t ns) {
  return ns < 2'000'000 ? Unit{1e3, "µs"} : ns < 2'000'000'000 ? Unit{1e6, "ms"} : Unit{1e9, "s"};
}

Unit size_unit(int64_t bytes) {
  return bytes < 2'000 ? Unit{1, "bytes"} : bytes < 2'000'000 ? Unit{1e3, "kB"} : Unit{1e6, "MB"};
}

// gnuplot's single quotes keep everything but themselves.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

// A file that goes away with its owner.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_((std::filesystem::temp_directory_path() / "vsnoop-plot-XXXXXX").string()) {
    const int fd = mkstemp(path_.data());
    if (fd < 0) throw std::runtime_error(fmt::format("{}: {}", path_, std::strerror(errno)));
    ::close(fd);
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void run_gnuplot(const std::string& script) {
  const TemporaryFile file, messages;
  std::ofstream(file.path()) << script;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, messages.path().c_str(), O_WRONLY, 0);
  std::string name = "gnuplot", argument = file.path();
  std::array<char*, 3> arguments{name.data(), argument.data(), nullptr};
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, name.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error == 0) waitpid(child, &status, 0);
  if (error != 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 127)) {
    throw std::runtime_error("--plot needs gnuplot: install the package gnuplot-nox");
  }
  if (status != 0) {
    std::ifstream said(messages.path());
    std::string text{std::istreambuf_iterator<char>(said), {}};
    std::replace(text.begin(), text.end(), '\n', ' ');
    throw std::runtime_error(fmt::format("gnuplot failed: {}", text));
  }
}

}  // namespace

Plot::Step& Plot::step(int64_t time_ns) {
  Step next = steps_.empty() ? Step{} : steps_.back();
  next.time = time_ns;
  return steps_.emplace_back(next);
}

void Plot::on_frame(const Seen& seen) {
  if (seen.connection != connection_ || seen.segment.checksum == Checksum::bad) return;
  const Segment& segment = seen.segment;
  if (!seen.from_guest) {
    if (!segment.payload) return;
    const int64_t start = seen.oracle->position(segment.seq) + (segment.has(syn) ? 1 : 0);
    const int64_t end = start + segment.payload;
    bars_.push_back({seen.time_ns, start, end, end <= highest_});
    highest_ = std::max(highest_, end);
    return;
  }
  if (!segment.has(ack_flag) || segment.has(rst)) return;
  Step& now = step(seen.time_ns);
  now.guest_ack = std::max(now.guest_ack, seen.oracle->position(segment.ack));
  now.guest_edge = std::max(now.guest_edge, seen.oracle->edge(segment));
  now.shown_ack = std::max(now.shown_ack, now.guest_ack);
  if (seen.verdict.action == VSNOOP_PASS) {
    now.shown_edge = std::max(now.shown_edge, now.guest_edge);
  } else if (seen.verdict.action == VSNOOP_EDIT) {
    Segment shown = segment;
    if (seen.verdict.edit.what & VSNOOP_EDIT_ACK) shown.ack = seen.verdict.edit.ack;
    if (seen.verdict.edit.what & VSNOOP_EDIT_WINDOW) shown.window = seen.verdict.edit.window;
    now.shown_edge = std::max(now.shown_edge, seen.oracle->edge(shown));
  }
}

void Plot::on_emission(const Emitted& emitted) {
  if (emitted.connection != connection_ || emitted.emission.to_guest || emitted.segment.has(rst)) {
    return;
  }
  Step& now = step(emitted.time_ns);
  const int64_t ack = emitted.oracle->position(emitted.segment.ack);
  now.shown_ack = std::max(now.shown_ack, ack);
  now.shown_edge = std::max(now.shown_edge, emitted.oracle->edge(emitted.segment));
  if (emitted.emission.reason == VSNOOP_REASON_early_ack) early_.emplace_back(now.time, ack);
}

std::string Plot::script(const std::string& path, const std::string& title) const {
  int64_t first = INT64_MAX, last = INT64_MIN, edge = 0;
  for (const Bar& bar : bars_) first = std::min(first, bar.time), last = std::max(last, bar.time);
  for (const Step& step : steps_) {
    first = std::min(first, step.time);
    last = std::max(last, step.time);
    edge = std::max(edge, step.shown_edge);
  }
  if (first > last) first = last = 0;  // nothing to draw
  const int64_t span = std::max<int64_t>(1, last - first);
  // The window may be far larger than what was sent: it must not press the rest flat.
  const int64_t top = std::max<int64_t>(1, std::min(edge, highest_ + highest_ / 3));
  const auto [time_factor, time_name] = time_unit(span);
  const auto [size_factor, size_name] = size_unit(top);
  auto x = [&, factor = time_factor](int64_t ns) {
    return static_cast<double>(ns - first) / factor;
  };
  auto y = [factor = size_factor](int64_t bytes) { return static_cast<double>(bytes) / factor; };

  std::string out;
  auto to = std::back_inserter(out);
  for (const bool again : {false, true}) {
    fmt::format_to(to, "${} << E\n", again ? "again" : "data");
    for (const Bar& bar : bars_) {
      if (bar.again == again) {
        fmt::format_to(to, "{:.6f} {:.6f} {:.6f}\n", x(bar.time), y(bar.start),
                       y(bar.end - bar.start));
      }
    }
    out += "E\n";
  }
  out += "$early << E\n";
  for (const auto& [time, ack] : early_) fmt::format_to(to, "{:.6f} {:.6f}\n", x(time), y(ack));
  out += "E\n$steps << E\n";
  Step before{};
  auto row = [&](int64_t time, const Step& step) {
    fmt::format_to(to, "{:.6f} {:.6f} {:.6f} {:.6f} {:.6f}\n", x(time), y(step.guest_ack),
                   y(step.shown_ack), y(step.guest_edge), y(step.shown_edge));
  };
  for (const Step& step : steps_) {
    if (&step != steps_.data()) row(step.time, before);
    row(step.time, before = step);
  }
  row(last, before);
  out += "E\n";
  const bool again = std::any_of(bars_.begin(), bars_.end(), [](const Bar& b) { return b.again; });
  // Edges that stay above the picture need no line in the key.
  const bool edges = std::any_of(steps_.begin(), steps_.end(), [top = top](const Step& step) {
    return step.guest_edge > 0 && step.shown_edge <= top;
  });
  fmt::format_to(to,
                 "set terminal svg size 1100,640 font 'Helvetica,14' background '#ffffff'\n"
                 "set output {}\n"
                 "set title {} noenhanced font ',16'\n"
                 "set xlabel 'time / {}'\nset ylabel 'sequence / {}'\n"
                 "set xrange [0:{:.6f}]\nset yrange [0:{:.6f}]\n"
                 "set border 3 lc '#888888'\nset tics nomirror out\nset grid lc '#e8e8e8' lt 1\n"
                 "set key outside right top Left reverse samplen 2 spacing 1.3\nset lmargin 9\n"
                 "plot $steps using 1:2:3 with filledcurves fc '#ffe3b8' title 'promised',\\\n",
                 quoted(path), quoted(title), time_name, size_name, std::max(x(last), 1e-3) * 1.01,
                 y(top) * 1.02);
  if (edges) {
    out +=
        "  $steps using 1:4 with lines lc '#a0a0a0' lw 1.5 dt 2 title 'guest''s window edge',\\\n"
        "  $steps using 1:5 with lines lc '#7b5ea7' lw 1.6 title 'edge shown to the peer',\\\n";
  }
  out +=
      "  $data using 1:2:(0):3 with vectors nohead lc '#2f6db3' lw 3 title 'data from the "
      "peer',\\\n";
  if (again) {
    out += "  $again using 1:2:(0):3 with vectors nohead lc '#d03030' lw 3 title 'sent again',\\\n";
  }
  out += "  $steps using 1:2 with lines lc '#2e8b57' lw 2 title 'guest''s ACK'";
  if (!early_.empty()) {
    out +=
        ",\\\n  $steps using 1:($3 > $2 ? $3 : NaN) with lines lc '#e07b00' lw 1 notitle,\\\n"
        "  $early using 1:2 with points pt 7 ps 0.4 lc '#e07b00' title 'early ACK'";
  }
  return out + "\n";
}

void Plot::draw(FILE* to, const std::string& title) const {
  const TemporaryFile picture;
  run_gnuplot(script(picture.path(), title));
  std::ifstream from(picture.path(), std::ios::binary);
  std::array<char, 65536> buffer;
  while (from.read(buffer.data(), buffer.size()), from.gcount() > 0) {
    std::fwrite(buffer.data(), 1, static_cast<size_t>(from.gcount()), to);
  }
}

}  // namespace vsnoop::replay
